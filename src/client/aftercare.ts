import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { z } from 'zod';
import { givenUp, LOOK_ANSWERS, WATCH_MEMO, WATCH_WORKFLOW, watchIdOf } from '../erasure/aftercare.ts';
import type { AftercareStatus } from '../erasure/status.ts';
import type { RecordStore } from '../evidence/record.ts';

const watchMemoSchema = z.object({
  nextLookAt: z.string().nullable(),
  notes: z.array(
    z.object({
      connection: z.string(),
      look: z.number(),
      atMs: z.number(),
      answer: z.enum(LOOK_ANSWERS),
      why: z.string().nullable(),
      request: z.string().nullable(),
    }),
  ),
});

/** Looks that were given up and of which no later one was made, by request; of watches that the server still knows. */
export async function failedLooks(
  temporal: Client,
  taskQueue: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const failed = new Map<string, readonly string[]>();
  const query = `WorkflowType = "${WATCH_WORKFLOW}" AND TaskQueue = "${taskQueue}" AND ExecutionStatus != "ContinuedAsNew"`;
  for await (const { workflowId, memo } of temporal.workflow.list({ query })) {
    const kept = watchMemoSchema.safeParse(memo?.[WATCH_MEMO]);
    if (!kept.success) continue;
    const texts = givenUp(kept.data.notes).map(
      ({ connection, look, why }) => `${connection}: look ${look} after the end was ${why ?? 'given up'}`,
    );
    if (texts.length > 0) failed.set(workflowId.replace(watchIdOf(''), ''), texts);
  }
  return failed;
}

/**
 * What is looked at again after a request's end: from the watch's memo, so that no worker is needed, and from the
 * addenda of the record once Temporal has forgotten the watch.
 *
 * @returns null when nothing is or was.
 */
export async function readAftercare(
  temporal: Client,
  records: RecordStore,
  requestId: string,
): Promise<AftercareStatus | null> {
  try {
    const { status, memo } = await temporal.workflow.getHandle(watchIdOf(requestId)).describe();
    const running = ['RUNNING', 'CONTINUED_AS_NEW', 'PAUSED'].includes(status.name);
    const state = running ? 'watching' : status.name === 'COMPLETED' ? 'ended' : 'stopped';
    // One that no worker has seen yet has no memo.
    const kept = watchMemoSchema.safeParse(memo?.[WATCH_MEMO]);
    const { nextLookAt, notes } = kept.success ? kept.data : { nextLookAt: null, notes: [] };
    const looks = notes.map(({ atMs, ...note }) => ({ ...note, at: new Date(atMs).toISOString() }));
    return { state, nextLookAt: running ? nextLookAt : null, looks };
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
  const addenda = (await records.read(requestId))?.addenda ?? [];
  const looks = new Map<string, AftercareStatus['looks'][number]>();
  for (const { addendum } of addenda) {
    if (addendum.kind === 'look') {
      const { connection, look, at, answer, why } = addendum;
      looks.set(`${look} ${connection}`, { connection, look, at, answer, why, request: null });
      continue;
    }
    if (addendum.kind !== 'reopened') continue;
    for (const connection of addendum.connections) {
      const of = looks.get(`${addendum.look} ${connection}`);
      if (of !== undefined) looks.set(`${addendum.look} ${connection}`, { ...of, request: addendum.request });
    }
  }
  return looks.size === 0 ? null : { state: 'ended', nextLookAt: null, looks: [...looks.values()] };
}
