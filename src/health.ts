import { hostname } from 'node:os';

import { Connection } from '@temporalio/client';

import { loadConfig } from './config/config.ts';
import { connectionOptionsOf } from './config/temporal.ts';
import { connectionTaskQueue } from './erasure/memo.ts';

// Run as a process, as the health check of a worker's container: exit code 0 when this machine polls every task queue
// that its configuration names. A process that lives but does not poll is as good as none. Calls no store.

/** Workers poll once a minute when there is nothing to do. */
const FRESH_MS = 150_000;

const WORKFLOW_QUEUE = 1;
const ACTIVITY_QUEUE = 2;

try {
  const config = loadConfig();
  const { namespace, taskQueue } = config.temporal;
  const connection = await Connection.connect({ ...connectionOptionsOf(config.temporal), connectTimeout: 5_000 });
  try {
    const queues = [
      { name: taskQueue, type: WORKFLOW_QUEUE },
      ...Object.keys(config.connections).map((name) => ({
        name: connectionTaskQueue(taskQueue, name),
        type: ACTIVITY_QUEUE,
      })),
    ];
    for (const { name, type } of queues) {
      const { pollers } = await connection.workflowService.describeTaskQueue({
        namespace,
        taskQueue: { name },
        taskQueueType: type,
      });
      const isOurs = pollers.some(
        ({ identity, lastAccessTime }) =>
          // The SDK's default identity is pid@host.
          identity?.endsWith(`@${hostname()}`) === true &&
          Date.now() - Number(lastAccessTime?.seconds ?? 0) * 1000 < FRESH_MS,
      );
      if (!isOurs) throw new Error(`nobody on this machine polls the task queue ${name}`);
    }
  } finally {
    await connection.close();
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
