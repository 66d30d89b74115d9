import type { DeleteOrder } from '../../src/stores/port.ts';

/** A delete call as a step makes it, of traces without rows. */
export function deleteOrder(projectId: string, traceIds: readonly string[]): DeleteOrder {
  return {
    projectId,
    traces: traceIds.map((traceId) => ({ projectId, traceId })),
    lastWord: () => Promise.resolve(),
    progress: () => undefined,
  };
}
