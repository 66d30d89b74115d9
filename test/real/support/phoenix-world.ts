import type { ClockSetting } from '../../../src/erasure/clock.ts';
import { connectionSchema, openStore } from '../../../src/stores/registry.ts';
import { World } from '../../support/world.ts';
import type { Phoenix } from './phoenix.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './spans.ts';
import { withVirtualDate } from './virtual-date.ts';

export const PHOENIX_CONNECTION = 'phoenix-prod';
const IDENTIFIERS = { user_id: ['user.id'], email: ['metadata.email'] };

export interface PhoenixWorldOptions {
  /** Projects that the connection sees. Default: every one of the server. */
  readonly projects?: readonly string[];
  readonly accept?: readonly string[];
  /** Virtual milliseconds per real one. Default: 300. */
  readonly speed?: number;
  /** Default: 5 min, a second at the default speed. */
  readonly settle?: string;
  /** As in the config's policy. Default: none. */
  readonly aftercare?: string[];
  /** Awaited before each call. */
  readonly onCall?: (call: {
    readonly method: string;
    readonly path: string;
    readonly body: string;
  }) => void | Promise<void>;
}

/** A worker and a client whose only connection is a real Phoenix. Their clock runs faster than the server's. */
export function phoenixWorld(title: string, server: Phoenix, options: PhoenixWorldOptions = {}): Promise<World> {
  const accept = options.accept ?? [];
  return World.start(title, {
    start: Date.UTC(2026, 10, 25, 12),
    speed: options.speed ?? 300,
    config: (base) => (options.aftercare === undefined ? base : { ...base, policy: { aftercare: options.aftercare } }),
    ready: (clock: ClockSetting) => {
      const inner = withVirtualDate(fetch, clock);
      const config = connectionSchema.parse({
        store: 'phoenix',
        baseUrl: server.url,
        identifiers: IDENTIFIERS,
        accept,
        settle: options.settle ?? '5 min',
        ...(options.projects === undefined ? {} : { projects: options.projects }),
      });
      const fetchCounted: typeof fetch = async (input, init) => {
        const url = new URL(input instanceof Request ? input.url : input);
        const body = typeof init?.body === 'string' ? init.body : '';
        await options.onCall?.({ method: init?.method ?? 'GET', path: url.pathname, body });
        return inner(input, init);
      };
      const store = openStore(PHOENIX_CONNECTION, config, { clock, fetch: fetchCounted });
      return Promise.resolve({
        [PHOENIX_CONNECTION]: { store, identifiers: IDENTIFIERS, accept, close: () => Promise.resolve() },
      });
    },
  });
}

export interface TraceToWrite {
  readonly project: string;
  readonly user?: string | number;
  readonly session?: string;
  readonly traceId?: string;
  /** The user is told by the child alone. Default: by the root. */
  readonly onChild?: boolean;
  /** Text of the conversation. */
  readonly input?: string;
  readonly spans?: number;
  readonly startMs?: number;
}

/** A trace of a root and children, as an application instrumented with OpenInference writes it. */
export function traceOf(trace: TraceToWrite): SpanToWrite[] {
  const { project, user, session, traceId = newTraceId(), onChild = false, input = 'hello', spans = 2 } = trace;
  const rootId = newSpanId();
  const startMs = trace.startMs ?? Date.UTC(2026, 10, 20);
  const owner = user === undefined ? {} : { 'user.id': user };
  return Array.from({ length: spans }, (_none, index): SpanToWrite => {
    const root = index === 0;
    return {
      project,
      traceId,
      spanId: root ? rootId : newSpanId(),
      parentId: root ? null : rootId,
      name: root ? 'answer' : 'llm',
      startMs: startMs + index,
      endMs: startMs + index + 50,
      attributes: {
        'input.value': input,
        ...(session === undefined ? {} : { 'session.id': session }),
        ...(root === onChild ? {} : owner),
      },
    };
  });
}
