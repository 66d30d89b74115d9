import { Connection } from '@temporalio/client';
import { DefaultLogger, Runtime } from '@temporalio/worker';

import { DEFAULT_NAMESPACE } from '../../src/temporal/server.ts';

/** The Temporal server that all test files of a jest run share. */
export interface SharedServer {
  /** `host:port`. */
  readonly address: string;
  /** Namespace with Lethe's search attributes. Tests tell their workflows apart by {@link uniqueTaskQueue}. */
  readonly namespace: string;
}

/**
 * The server that globalSetup started, or the one at TEMPORAL_ADDRESS. Costs nothing to call.
 *
 * @throws when globalSetup could not get one: a test that needs a server fails, it is never skipped in silence.
 */
export function sharedServer(): SharedServer {
  const address = process.env['LETHE_TEST_TEMPORAL_ADDRESS'];
  if (address === undefined) {
    throw new Error(process.env['LETHE_TEST_TEMPORAL_ERROR'] ?? 'The shared Temporal server exists under jest only.');
  }
  return { address, namespace: DEFAULT_NAMESPACE };
}

/** A connection to the shared server. The caller closes it. */
export async function connectToSharedServer(): Promise<Connection> {
  return await Connection.connect({ address: sharedServer().address });
}

/** Keeps the SDK's workers and bundler to errors. Call it before the first worker or native connection of the file. */
export function quietTemporal(): void {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
}

let counter = 0;

/**
 * A task queue (and a prefix for workflow ids) that no other test uses, in this run or an earlier one on the same
 * server. `title` is for the reader of the server's UI.
 */
export function uniqueTaskQueue(title: string): string {
  counter += 1;
  const slug = title
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 40);
  return `${slug}-${Date.now().toString(36)}-${process.pid}-${counter}`;
}
