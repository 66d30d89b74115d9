import { fileURLToPath } from 'node:url';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';

/** Serves bare workflows. Arguments: address, namespace, task queue, task queue of the lanes. */
const [address = '', namespace = '', taskQueue = '', laneQueue = ''] = process.argv.slice(2);

const activities = { nothing: (): Promise<string> => Promise.resolve('done') };

Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
const connection = await NativeConnection.connect({ address });
const workers = [
  await Worker.create({
    connection,
    namespace,
    taskQueue,
    activities,
    workflowsPath: fileURLToPath(new URL('./workflow.ts', import.meta.url)),
  }),
  await Worker.create({ connection, namespace, taskQueue: laneQueue, activities }),
];
const served = Promise.all(workers.map((worker) => worker.run()));
process.once('SIGTERM', () => {
  for (const worker of workers) worker.shutdown();
});
process.stdout.write('serving\n');
await served;
await connection.close();
