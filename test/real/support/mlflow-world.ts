import { fileURLToPath } from 'node:url';
import { expect } from '@jest/globals';
import { imbalances } from '../../../src/erasure/ledger.ts';
import { DAY_MS } from '../../../src/erasure/rhythm.ts';
import type { RequestStatus } from '../../../src/erasure/status.ts';
import { connectionSchema, openStore } from '../../../src/stores/registry.ts';
import { Wire } from '../../conformance/wire.ts';
import { World } from '../../support/world.ts';
import type { MlflowServer } from './mlflow-server.ts';
import { runScript } from './python-server.ts';
import { withVirtualDate } from './virtual-date.ts';

export const CONNECTION = 'mlflow-prod';
const IDENTIFIERS = { user_id: ['metadata.mlflow.trace.user'] };
/** A settle time of ten minutes in two seconds. */
const SPEED = 300;

export interface MlflowWorld {
  readonly world: World;
  /** Counts the calls of the connection. */
  readonly wire: Wire;
}

/** A worker and a client, with the connection to the server over a wire that counts. */
export async function startMlflowWorld(
  title: string,
  server: MlflowServer,
  options: {
    readonly experiments?: readonly string[];
    readonly accept?: readonly string[];
    readonly spanSearch?: boolean;
  } = {},
): Promise<MlflowWorld> {
  const accept = options.accept ?? ['run-data', 'database-remains'];
  const held: { wire?: Wire } = {};
  const world = await World.start(title, {
    // What real clients write has today's date, which must not be after the request's.
    start: Date.now() + DAY_MS,
    speed: SPEED,
    ready: (clock) => {
      const wire = new Wire(withVirtualDate(fetch, clock), clock, {
        isDelete: ({ path }) => /\/delete-traces$/.test(path),
      });
      held.wire = wire;
      const config = connectionSchema.parse({
        store: 'mlflow',
        baseUrl: server.url,
        identifiers: IDENTIFIERS,
        accept: [...accept],
        callsPerMinute: 6000,
        ...(options.spanSearch === undefined ? {} : { spanSearch: options.spanSearch }),
        ...(options.experiments === undefined ? {} : { experiments: [...options.experiments] }),
      });
      const store = openStore(CONNECTION, config, { clock, fetch: wire.fetch });
      return Promise.resolve({
        [CONNECTION]: { store, identifiers: IDENTIFIERS, accept, close: () => Promise.resolve() },
      });
    },
  });
  const { wire } = held;
  if (wire === undefined) throw new Error('no connection was opened');
  return { world, wire };
}

export interface Order {
  readonly experiment: string;
  readonly user: string | number;
  readonly text: string;
  readonly traces: number;
}

/** Traces written by real clients; ids in the order of the orders. */
export function writeTraces(
  server: MlflowServer,
  orders: { readonly otlp?: readonly Order[]; readonly client?: readonly Order[] },
): Promise<{ readonly otlp: string[][]; readonly client: string[][] }> {
  const script = fileURLToPath(new URL('../python/mlflow_traces.py', import.meta.url));
  return runScript(server.environment, script, { url: server.url, ...orders });
}

/** Every row that any of the traces has in any table, straight from the database file. */
export function rowsOfTraces(server: MlflowServer, traceIds: readonly string[]): readonly string[] {
  const list = traceIds.map((id) => `'${id}'`).join(', ');
  return [
    ['trace_info', 'request_id'],
    ['spans', 'trace_id'],
    ['trace_tags', 'request_id'],
    ['trace_request_metadata', 'request_id'],
    ['assessments', 'trace_id'],
    ['trace_metrics', 'request_id'],
    ['span_metrics', 'trace_id'],
  ]
    .flatMap(([table, column]) =>
      server
        .rows(`select * from ${table ?? ''} where ${column ?? ''} in (${list})`)
        .map((row) => JSON.stringify([table, row])),
    )
    .sort();
}

export function filesOfTraces(server: MlflowServer, traceIds: readonly string[]): readonly string[] {
  return server.artifacts().filter((path) => traceIds.some((id) => path.includes(id)));
}

export function assertSums(status: RequestStatus): void {
  for (const { given, traces, copies } of Object.values(status.connections)) {
    expect(imbalances({ given, traces, copies })).toEqual([]);
  }
}
