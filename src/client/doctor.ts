import { access, constants } from 'node:fs/promises';
import { Connection, isGrpcServiceError } from '@temporalio/client';
import { z } from 'zod';
import type { LetheConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { connectionOptionsOf } from '../config/temporal.ts';
import { virtualNow } from '../erasure/clock.ts';
import { NOTIFY_WORKFLOW } from '../erasure/events.ts';
import { formatInstant } from '../erasure/format.ts';
import { connectionTaskQueue } from '../erasure/memo.ts';
import { MINUTE_MS } from '../erasure/rhythm.ts';
import type { RequestStatus } from '../erasure/status.ts';
import type { CheckItem, TraceStore } from '../stores/port.ts';
import { KillSwitch, killSwitchFile } from '../stores/kill-switch.ts';
import { StoreError } from '../stores/port.ts';
import { openStore } from '../stores/registry.ts';
import { LETHE_SEARCH_ATTRIBUTES } from '../temporal/search-attributes.ts';
import { deriveKeys } from '../vault/keys.ts';
import { failedLooks } from './aftercare.ts';
import { isFresh, LetheClient, WORKFLOW_TYPE } from './client.ts';

/** One finding. `problem`: something does not work, or a request is stuck; `warning`: worth knowing. */
export const doctorCheckSchema = z.strictObject({
  /** `config`, `temporal`, `requests`, or `connection NAME`. */
  area: z.string(),
  name: z.string(),
  level: z.enum(['ok', 'warning', 'problem']),
  text: z.string(),
});
export type DoctorCheck = z.infer<typeof doctorCheckSchema>;

/** What `lethe doctor --json` prints. */
export const doctorReportSchema = z.strictObject({
  /** False when there is at least one problem. */
  ok: z.boolean(),
  checks: z.array(doctorCheckSchema),
  /** What each store can't do or show, by connection: facts, not findings. */
  limits: z.record(z.string(), z.array(z.string())),
});
export type DoctorReport = z.infer<typeof doctorReportSchema>;

export interface DoctorOptions {
  /** Stores by connection, instead of those that the config names. */
  readonly stores?: Readonly<Record<string, TraceStore>>;
  /** Default: the config's. */
  readonly taskQueue?: string;
  /** How long to wait for Temporal, milliseconds. Default: 5 s. */
  readonly connectTimeoutMs?: number;
}

/** A next step that is due for longer than this, in real time, does not come by itself. */
const LONG_PAST_MS = 10 * MINUTE_MS;

/** With a simulated clock things happen within seconds. */
const LONG_PAST_SIMULATED_MS = 30_000;

const TASK_QUEUE_TYPE = { workflow: 1, activity: 2 } as const;

/**
 * Looks at everything that erasures depend on and that can be seen without changing it. Never throws for what it finds:
 * a server that does not answer is a finding.
 *
 * Each store is opened anew, usually in another process than the worker's: the calls, a few for each connection, keep to
 * the limits but count against no budget of the worker's, nor against the kept day (`dailyCalls`). Near a store's limits
 * run it sparingly: the worker's own calls may be refused then, which it waits out.
 */
export async function runDoctor(config: LetheConfig, options: DoctorOptions = {}): Promise<DoctorReport> {
  const checks: DoctorCheck[] = [];
  const add = (area: string, name: string, level: CheckItem['level'], text: string): void => {
    checks.push({ area, name, level, text });
  };
  await checkConfig(config, add);
  await checkTemporal(config, options, add);

  const limits: Record<string, string[]> = {};
  for (const [name, connection] of Object.entries(config.connections)) {
    const area = `connection ${name}`;
    const store = options.stores?.[name] ?? openStore(name, connection, { clock: config.clock });
    const { traits } = store;
    const switchedOff = new KillSwitch(killSwitchFile(config.stateDir, name)).tripped;
    if (switchedOff !== null) {
      const text = `switched off: ${switchedOff}. Find out why, then run lethe allow-deletes ${name}`;
      add(area, 'deletes', 'problem', text);
    }
    limits[name] = [
      `a delete that was accepted proves not: ${traits.acceptanceProvesNot}`,
      ...traits.limits,
      ...traits.copyMap.filter(({ examined }) => !examined).map(({ kind, text }) => `not examined: ${kind} (${text})`),
    ];
    try {
      for (const item of await store.check()) add(area, item.name, item.level, item.text);
    } catch (error) {
      // Everything a store may do is a StoreError without vendor words; anything else is ours.
      if (!(error instanceof StoreError)) throw error;
      add(area, 'reachable', 'problem', [error.message, error.advice].filter((part) => part !== null).join('; '));
    }
  }
  return { ok: checks.every(({ level }) => level !== 'problem'), checks, limits };
}

type Add = (area: string, name: string, level: CheckItem['level'], text: string) => void;

async function checkConfig(config: LetheConfig, add: Add): Promise<void> {
  add('config', 'file', 'ok', config.file ?? 'given as a value');
  if (config.clock !== null) {
    add(
      'config',
      'clock',
      'warning',
      `simulated, ${config.clock.speed} times as fast: proves nothing about a real store`,
    );
  }
  try {
    const { secrets, warning } = await secretsFor(config, false);
    deriveKeys(secrets);
    add('config', 'keys', warning === null ? 'ok' : 'warning', warning ?? 'configured');
  } catch (error) {
    add(
      'config',
      'keys',
      'problem',
      error instanceof Error ? (error.message.split('\n').at(-1) ?? '').trim() : 'unusable',
    );
  }
  await access(config.stateDir, constants.R_OK | constants.W_OK).then(
    () => add('config', 'state', 'ok', `${config.stateDir} can be read and written`),
    (error: unknown) =>
      (error as NodeJS.ErrnoException).code === 'ENOENT'
        ? add('config', 'state', 'warning', `${config.stateDir} does not exist yet; the first worker makes it`)
        : add(
            'config',
            'state',
            'problem',
            `${config.stateDir} cannot be read and written (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
          ),
  );
}

async function checkTemporal(config: LetheConfig, options: DoctorOptions, add: Add): Promise<void> {
  const { address, namespace } = config.temporal;
  let connection: Connection;
  try {
    connection = await Connection.connect({
      ...connectionOptionsOf(config.temporal),
      connectTimeout: options.connectTimeoutMs ?? 5_000,
    });
  } catch {
    add('temporal', 'server', 'problem', `does not answer at ${address}; open requests wait there until it is back`);
    return;
  }
  try {
    const { serverVersion } = await connection.workflowService.getSystemInfo({});
    add('temporal', 'server', 'ok', `${address}, version ${serverVersion}`);
    if (!(await checkNamespace(connection, namespace, add))) return;
    await checkSearchAttributes(connection, namespace, add);
    await checkPollers(connection, config, options.taskQueue ?? config.temporal.taskQueue, add);
    await checkRequests(connection, config, options, add);
  } catch (error) {
    const text = error instanceof Error ? error.message.split('\n')[0] : undefined;
    add('temporal', 'checks', 'problem', `could not be finished: ${text ?? 'unknown error'}`);
  } finally {
    await connection.close();
  }
}

async function checkNamespace(connection: Connection, namespace: string, add: Add): Promise<boolean> {
  try {
    const { config } = await connection.workflowService.describeNamespace({ namespace });
    const days = Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) / 86_400;
    const text = `"${namespace}" keeps ended requests ${days} ${days === 1 ? 'day' : 'days'}; the records keep them on`;
    add('temporal', 'namespace', days < 3 ? 'warning' : 'ok', text);
    return true;
  } catch {
    add('temporal', 'namespace', 'problem', `"${namespace}" does not exist or may not be read; a worker creates it`);
    return false;
  }
}

async function checkSearchAttributes(connection: Connection, namespace: string, add: Add): Promise<void> {
  const missing: string[] = [];
  for (const { name } of LETHE_SEARCH_ATTRIBUTES) {
    // The list of attributes is for administrators; a query that names one works for everybody, or not at all.
    await connection.workflowService
      .countWorkflowExecutions({ namespace, query: `${name} is null` })
      .catch(() => missing.push(name));
  }
  if (missing.length === 0) add('temporal', 'search attributes', 'ok', 'all there');
  else
    add('temporal', 'search attributes', 'problem', `missing: ${missing.join(', ')}; a worker adds them where it may`);
}

async function checkPollers(connection: Connection, config: LetheConfig, taskQueue: string, add: Add): Promise<void> {
  const queues: { queue: string; type: keyof typeof TASK_QUEUE_TYPE; what: string }[] = [
    { queue: taskQueue, type: 'workflow', what: 'requests' },
    { queue: taskQueue, type: 'activity', what: 'records' },
    ...Object.keys(config.connections).map((name) => ({
      queue: connectionTaskQueue(taskQueue, name),
      type: 'activity' as const,
      what: name,
    })),
  ];
  for (const { queue, type, what } of queues) {
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace: config.temporal.namespace,
      taskQueue: { name: queue },
      taskQueueType: TASK_QUEUE_TYPE[type],
    });
    const fresh = new Set(
      pollers.filter(({ lastAccessTime }) => isFresh(lastAccessTime)).map(({ identity }) => identity ?? '?'),
    );
    const name = `worker for ${what}${type === 'workflow' ? ' (decisions)' : ''}`;
    if (fresh.size === 0) {
      add('temporal', name, 'problem', `nobody asks ${queue} for work: nothing goes on until \`lethe worker\` runs`);
    } else if (fresh.size > 1 && queue !== taskQueue) {
      const text = `${fresh.size} processes share ${queue}: each keeps its own count of the store's limits; run one`;
      add('temporal', name, 'warning', text);
    } else {
      add('temporal', name, 'ok', `${queue}: ${[...fresh].join(', ')}`);
    }
  }
}

async function checkRequests(
  connection: Connection,
  config: LetheConfig,
  options: DoctorOptions,
  add: Add,
): Promise<void> {
  const { secrets } = await secretsFor(config, false);
  const client = new LetheClient({
    config,
    keys: deriveKeys(secrets),
    connection,
    ...(options.taskQueue === undefined ? {} : { taskQueue: options.taskQueue }),
  });
  const unreadable: string[] = [];
  const all = await client.list({}, (workflowId) => unreadable.push(workflowId));
  const open = all.filter(({ endedAt }) => endedAt === null);
  for (const workflowId of unreadable) {
    add('requests', workflowId, 'problem', 'cannot be read with these keys: configure the keys.vault that started it');
  }
  const lostOnes = open.filter((status) =>
    lanes(status).some(({ attention }) => attention?.reason === 'workflow-lost'),
  );
  const others = open.filter((status) => !lostOnes.includes(status));
  for (const { requestId, connections } of lostOnes) {
    const next = Object.values(connections).find(({ attention }) => attention !== null)?.attention?.next ?? '';
    add('requests', requestId, 'problem', `opened and never closed, and without a workflow: ${next}`);
  }

  const nowMs = virtualNow(config.clock);
  const speed = config.clock?.speed ?? 1;
  const patience = config.clock === null ? LONG_PAST_MS : LONG_PAST_SIMULATED_MS;
  for (const status of others) {
    const next = lanes(status)
      .map(({ nextCheckAt }) => nextCheckAt)
      .filter((at) => at !== null)
      .sort()[0];
    if (next !== undefined && (nowMs - Date.parse(next)) / speed > patience) {
      add(
        'requests',
        status.requestId,
        'problem',
        `its next step was due ${formatInstant(Date.parse(next))} and did not come`,
      );
    }
    if (status.overdue) {
      add('requests', status.requestId, 'warning', `overdue: it was due ${status.dueAt.slice(0, 10)}; it goes on`);
    }
    for (const [name, { attention }] of Object.entries(status.connections)) {
      if (attention !== null)
        add('requests', status.requestId, 'warning', `${name}: ${attention.reason}; ${attention.next}`);
    }
  }
  for (const failing of await failingWorkflows(connection, config.temporal.namespace, client)) {
    add('requests', failing, 'problem', 'its workflow fails again and again at the same point: see the worker’s log');
  }
  try {
    for (const [requestId, texts] of await failedLooks(client.temporal, client.taskQueue)) {
      for (const text of texts) {
        add('requests', requestId, 'warning', `${text}. What came back stays until it is asked for again`);
      }
    }
  } catch (error) {
    if (isGrpcServiceError(error)) throw error;
    add('requests', 'aftercare', 'problem', 'a watch cannot be read: configure the keys.vault that started it');
  }
  const undelivered = await undeliveredWebhooks(connection, config.temporal.namespace, client.taskQueue);
  if (undelivered > 0) {
    const text = `${undelivered} could not be delivered within seven days and are given up: see the failed workflows of type ${NOTIFY_WORKFLOW}`;
    add('requests', 'webhooks', 'warning', text);
  }
  if (!open.length) add('requests', 'open', 'ok', 'none');
  else add('requests', 'open', 'ok', `${open.length}, of which ${others.length} have a workflow`);
}

function lanes(status: RequestStatus): RequestStatus['connections'][string][] {
  return Object.values(status.connections);
}

/** Ids of workflows whose task keeps failing. */
async function failingWorkflows(
  connection: Connection,
  namespace: string,
  client: LetheClient,
): Promise<readonly string[]> {
  const found = new Set<string>();
  const query = `WorkflowType = "${WORKFLOW_TYPE}" AND TaskQueue = "${client.taskQueue}" AND ExecutionStatus = "Running"`;
  // Raw, so that one that can't be decoded is looked at as well.
  const { executions } = await connection.workflowService.listWorkflowExecutions({
    namespace,
    query,
    pageSize: MOST_LOOKED_AT,
  });
  for (const { execution } of executions) {
    const { workflowId = '', runId = '' } = execution ?? {};
    const { pendingWorkflowTask } = await connection.workflowService.describeWorkflowExecution({
      namespace,
      execution: { workflowId, runId },
    });
    if ((pendingWorkflowTask?.attempt ?? 0) >= FAILING_ATTEMPTS) found.add(workflowId ?? '?');
  }
  return [...found];
}

/** Webhooks that were given up, of those that the server still knows. */
async function undeliveredWebhooks(connection: Connection, namespace: string, taskQueue: string): Promise<number> {
  const query = `WorkflowType = "${NOTIFY_WORKFLOW}" AND TaskQueue = "${taskQueue}" AND ExecutionStatus = "Failed"`;
  const { count } = await connection.workflowService.countWorkflowExecutions({ namespace, query });
  return Number(count);
}

/** Each look is a call: a large installation is sampled, newest first. */
const MOST_LOOKED_AT = 500;

/** One or two failures happen when a worker is killed in the middle. */
const FAILING_ATTEMPTS = 4;
