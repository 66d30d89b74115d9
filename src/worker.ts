import { realpathSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Connection } from '@temporalio/client';
import type { WorkerOptions } from '@temporalio/worker';
import {
  bundleWorkflowCode,
  NativeConnection,
  Runtime,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import type { Logger } from 'pino';
import { createLaneActivities, createRequestActivities } from './activities/index.ts';
import type { RequestDeps } from './activities/deps.ts';
import { LetheClient } from './client/client.ts';
import { InvalidRequestError, RequestConflictError } from './client/errors.ts';
import { loadConfig, type LetheConfig } from './config/config.ts';
import { secretsFor } from './config/secrets.ts';
import { connectionOptionsOf } from './config/temporal.ts';
import { virtualNow } from './erasure/clock.ts';
import { connectionTaskQueue } from './erasure/memo.ts';
import { DirectoryRecords } from './evidence/directory-records.ts';
import { createLogger, describeError, temporalLogger } from './log.ts';
import type { TraceStore } from './stores/port.ts';
import { killSwitchFile } from './stores/kill-switch.ts';
import { openStore } from './stores/registry.ts';
import { spentCallsFile } from './stores/spent-calls.ts';
import { createDataConverter, FAILURE_CONVERTER_PATH } from './temporal/codec.ts';
import { LETHE_SEARCH_ATTRIBUTES } from './temporal/search-attributes.ts';
import { ensureNamespace, ensureSearchAttributes, TemporalSetupError } from './temporal/server.ts';
import { TemporalUnavailableError } from './temporal/unavailable.ts';
import { DirectoryVault } from './vault/directory-vault.ts';
import { SubjectHolds } from './vault/subject-holds.ts';
import { deriveKeys, type Keys, type KeySecrets } from './vault/keys.ts';
import { LETHE_VERSION } from './version.ts';

/**
 * Activities of one connection that run side by side. They share its budget of calls, and ride in the same calls: the
 * more go together, the fewer calls each costs.
 */
const ACTIVITIES_PER_CONNECTION = 200;

export interface CreateWorkersOptions {
  /** Default: `secretsFor(config, false)`. */
  readonly secrets?: KeySecrets;
  /** Default: JSON lines on stderr at the level LETHE_LOG_LEVEL. */
  readonly logger?: Logger;
  /** Default: `config.temporal.taskQueue`. Tests give each its own. */
  readonly taskQueue?: string;
  /** Workflow code bundled beforehand, by the same version of the SDK. Default: it is bundled at start, about a second. */
  readonly workflowBundle?: NonNullable<WorkerOptions['workflowBundle']>;
  /** Stores by connection, instead of those that the config names. */
  readonly stores?: Readonly<Record<string, TraceStore>>;
  /** Connections to serve; a process may leave some to others, but each needs exactly one. Default: all. */
  readonly connections?: readonly string[];
  /** How long activities may finish after a stop before they are cancelled. Default: 30 s. */
  readonly shutdownGraceMs?: number;
  /** Create namespace and search attributes when missing. Default: true. */
  readonly ensureSetup?: boolean;
}

/** The workers of one process. */
export interface LetheWorkers {
  /** Task queues that are served. */
  readonly taskQueues: readonly string[];
  /**
   * Serves until `shutdown()`. Rejects when a worker fails for good; the others are stopped then. To be called once.
   */
  run(): Promise<void>;
  /** Lets running activities finish and makes `run()` return. May be called any number of times. */
  shutdown(): void;
}

/**
 * Builds everything that a worker process needs from the config: keys, vault, records, stores and one Temporal worker
 * for workflows, plus one for each connection, so that all calls to a store pass through one place.
 *
 * `Runtime.install` must not have been called in this process, or `installRuntime` must have.
 *
 * @throws ConfigError, TemporalUnavailableError, TemporalSetupError. Nothing is left running then.
 */
export async function createWorkers(config: LetheConfig, options: CreateWorkersOptions = {}): Promise<LetheWorkers> {
  const logger = options.logger ?? createLogger();
  const keys = deriveKeys(options.secrets ?? (await secretsFor(config, false)).secrets);
  const taskQueue = options.taskQueue ?? config.temporal.taskQueue;
  const deps: RequestDeps = {
    keys,
    clock: config.clock,
    version: LETHE_VERSION,
    vault: new DirectoryVault({ stateDir: config.stateDir, keys }),
    records: new DirectoryRecords({ stateDir: config.stateDir }),
    startRequest: requestStarter(config, keys, taskQueue),
    ...(config.notify === null ? {} : { webhook: config.notify }),
  };
  if (options.ensureSetup ?? true) await ensureTemporalSetup(config);

  installRuntime(logger);
  const connection = await connectNatively(config);
  try {
    const { namespace } = config.temporal;
    const graceMs = options.shutdownGraceMs ?? 30_000;
    const common = {
      connection,
      namespace,
      dataConverter: createDataConverter(keys),
      // A cancel reaches a running step with its next heartbeat: hold and abandon should not take long.
      maxHeartbeatThrottleInterval: 2_000,
      shutdownGraceTime: graceMs,
      shutdownForceTime: graceMs + 15_000,
    } satisfies Partial<WorkerOptions>;
    const workers = [
      await Worker.create({
        ...common,
        taskQueue,
        activities: createRequestActivities(deps),
        ...(options.workflowBundle === undefined
          ? { workflowsPath: workflowsPath() }
          : { workflowBundle: options.workflowBundle }),
      }),
    ];
    const queues = [taskQueue];
    const wanted = options.connections ?? Object.keys(config.connections);
    for (const [name, connectionConfig] of Object.entries(config.connections)) {
      if (!wanted.includes(name)) continue;
      const store =
        options.stores?.[name] ??
        openStore(name, connectionConfig, {
          clock: config.clock,
          killSwitchFile: killSwitchFile(config.stateDir, name),
          spentCallsFile: spentCallsFile(config.stateDir, name),
          log: (fields, message) => {
            logger.debug(fields, message);
          },
        });
      const queue = connectionTaskQueue(taskQueue, name);
      queues.push(queue);
      workers.push(
        await Worker.create({
          ...common,
          taskQueue: queue,
          maxConcurrentActivityTaskExecutions: ACTIVITIES_PER_CONNECTION,
          activities: createLaneActivities({
            ...deps,
            connection: name,
            store,
            policy: {
              cleanReads: config.policy.cleanReads,
              flagAfterRounds: config.policy.flagAfterRounds,
              ...(config.policy.waitForTasks === undefined ? {} : { waitForTasksMs: config.policy.waitForTasks }),
              refuseAbove: config.policy.refuseAbove,
              approveAbove: config.policy.approveAbove,
              secondPersonAbove: config.policy.secondPersonAbove,
              expectedPeople: config.policy.expectedPeople,
              sharedTraces: config.policy.sharedTraces,
              linkedTraces: config.policy.linkedTraces,
              graceMs: config.policy.grace,
            },
            kinds: config.kinds,
            searchKeys: connectionConfig.identifiers,
            accept: connectionConfig.accept,
            holds: new SubjectHolds({ stateDir: config.stateDir, now: () => virtualNow(config.clock) }),
          }),
        }),
      );
    }
    return assemble(workers, queues, connection, logger);
  } catch (error) {
    // It refuses while a worker that was never run holds it; what went wrong before matters more.
    await connection.close().catch(() => undefined);
    throw error;
  }
}

/** A connection for each start: data comes back too seldom to keep one open. */
function requestStarter(config: LetheConfig, keys: Keys, taskQueue: string): NonNullable<RequestDeps['startRequest']> {
  return async (request) => {
    const connection = await Connection.connect({ ...connectionOptionsOf(config.temporal), connectTimeout: 10_000 });
    const client = new LetheClient({ config, keys, connection, taskQueue });
    try {
      const { requestId, joined } = await client.erase(request);
      return { kind: 'started', requestId, joined };
    } catch (error) {
      if (error instanceof RequestConflictError) {
        const text = `request ${error.requestId}, which is open or has this id, stands in the way`;
        return { kind: 'conflict', requestId: error.requestId, text };
      }
      if (!(error instanceof InvalidRequestError)) throw error;
      const fields = error.problems.map(({ path, message }) => `${path}: ${message}`);
      return { kind: 'refused', text: `the request would not be taken (${fields.join('; ')})` };
    } finally {
      await client.close();
    }
  };
}

function assemble(
  workers: readonly Worker[],
  taskQueues: readonly string[],
  connection: NativeConnection,
  logger: Logger,
): LetheWorkers {
  let stopping = false;
  const shutdown = (): void => {
    stopping = true;
    for (const worker of workers) {
      // A worker that is not running yet, or stops already, refuses to be stopped.
      if (worker.getState() === 'RUNNING') worker.shutdown();
    }
  };
  return {
    taskQueues,
    shutdown,
    run: async () => {
      try {
        const runs = workers.map(async (worker) => {
          try {
            await worker.run();
          } finally {
            // One that ended by itself must not leave the others looking healthy.
            shutdown();
          }
        });
        if (stopping) shutdown();
        const results = await Promise.allSettled(runs);
        const failed = results.find((result) => result.status === 'rejected');
        if (failed !== undefined) throw failed.reason;
      } finally {
        await connection.close().catch((error: unknown) => {
          logger.warn({ error: describeError(error) }, 'the connection to Temporal did not close cleanly');
        });
      }
    },
  };
}

let installed = false;

/**
 * Routes the SDK's logs into ours. Must come before any worker or native connection of the process; only the first call
 * counts.
 */
export function installRuntime(logger: Logger): void {
  if (installed) return;
  installed = true;
  Runtime.install({
    logger: temporalLogger(logger),
    // Signals are ours to handle: several workers and perhaps a server have to stop in order.
    shutdownSignals: [],
    telemetryOptions: { logging: { filter: { core: 'WARN', other: 'ERROR' }, forward: {} } },
  });
}

/** Path of the workflow code, as source or as built. */
export function workflowsPath(): string {
  return fileURLToPath(new URL(`./workflows/index${extname(import.meta.url)}`, import.meta.url));
}

/**
 * Bundles the workflow code, which takes a second or two, for the option `workflowBundle`. Only for workers of the same
 * version of the SDK.
 */
export async function bundleWorkflows(logger: Logger): Promise<WorkflowBundleWithSourceMap> {
  return bundleWorkflowCode({
    workflowsPath: workflowsPath(),
    failureConverterPath: FAILURE_CONVERTER_PATH,
    logger: temporalLogger(logger),
  });
}

async function connectNatively(config: LetheConfig): Promise<NativeConnection> {
  try {
    return await NativeConnection.connect(connectionOptionsOf(config.temporal));
  } catch (error) {
    throw new TemporalUnavailableError(config.temporal.address, { cause: error });
  }
}

/**
 * Makes sure that namespace and search attributes exist.
 *
 * @throws TemporalUnavailableError, or TemporalSetupError when something is missing that this connection may not make.
 */
export async function ensureTemporalSetup(config: LetheConfig): Promise<void> {
  const { address, namespace } = config.temporal;
  let connection: Connection;
  try {
    connection = await Connection.connect({ ...connectionOptionsOf(config.temporal), connectTimeout: 10_000 });
  } catch (error) {
    throw new TemporalUnavailableError(address, { cause: error });
  }
  try {
    await ensureNamespace(connection, { namespace });
    try {
      await ensureSearchAttributes(connection, namespace);
    } catch (error) {
      // On Temporal Cloud they can neither be listed nor added through this interface, but may well be there.
      if (!(error instanceof TemporalSetupError) || !(await hasSearchAttributes(connection, namespace))) throw error;
    }
  } finally {
    await connection.close();
  }
}

async function hasSearchAttributes(connection: Connection, namespace: string): Promise<boolean> {
  const query = LETHE_SEARCH_ATTRIBUTES.map(({ name }) => `${name} is null`).join(' and ');
  return await connection.workflowService.countWorkflowExecutions({ namespace, query }).then(
    () => true,
    () => false,
  );
}

/**
 * Runs the workers until SIGINT or SIGTERM; a second signal ends the process at once.
 *
 * @param onReady called when the workers are built and about to poll.
 */
export async function runWorker(
  config: LetheConfig,
  options: CreateWorkersOptions & { readonly onReady?: (workers: LetheWorkers) => void } = {},
): Promise<void> {
  const workers = await createWorkers(config, options);
  let asked = false;
  const stop = (): void => {
    if (asked) process.exit(130);
    asked = true;
    workers.shutdown();
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    options.onReady?.(workers);
    await workers.run();
  } finally {
    for (const signal of signals) process.removeListener(signal, stop);
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href) {
  const logger = createLogger();
  try {
    const config = loadConfig();
    const { secrets, warning } = await secretsFor(config, false);
    if (warning !== null) logger.warn(warning);
    await runWorker(config, {
      secrets,
      logger,
      onReady: ({ taskQueues }) => {
        logger.info({ count: taskQueues.length }, `serving ${taskQueues.join(', ')}`);
      },
    });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof Error && error.name === 'ConfigError' ? 2 : 1;
  }
  // The SDK's native part may hold a process that could not even start its workers; its last log lines take 100 ms.
  setTimeout(() => process.exit(), 500).unref();
}
