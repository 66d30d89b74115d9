import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Connection } from '@temporalio/client';
import { historyToJSON, type History } from '@temporalio/common/lib/proto-utils.js';
import type { Erasure } from '../../src/client/client.ts';
import type { RequestStatus } from '../../src/erasure/status.ts';
import type { LangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import {
  DEFAULT_NAMESPACE,
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporalBinary,
  startLocalServer,
  type LocalServer,
} from '../../src/temporal/server.ts';
import { LETHE_VERSION } from '../../src/version.ts';
import { CONNECTION, World, type WorldOptions } from '../support/world.ts';

/**
 * Records the golden histories of this release by really running each scenario: `node test/golden/record.ts [NAME...]`.
 * Once a release is out its folder stays as it is, for as long as a workflow that it started may still be running. What
 * changes within a release goes into a folder of its own: `--into 0.1-few-writes`.
 */

interface Scenario {
  readonly options?: WorldOptions;
  /** Dynamic configuration of the server that the scenario runs on. */
  readonly dynamicConfig?: Readonly<Record<string, unknown>>;
  /** Returns when the history is to be taken. */
  readonly run: (world: World) => Promise<Erasure>;
  /** The workflow is still open then: its history is taken as soon as nothing is under way in it. */
  readonly open?: true;
}

/** Early in the week, so that a worker is up and has submitted before the first weekend. */
const MONDAY_EVENING = Date.UTC(2026, 10, 23, 20);
const BY = { requestedBy: 'ines', reason: 'golden history' };
const PEOPLE = ['u_42', 'u_7', 'u_8'];

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  verified: {
    run: async (world) => {
      world.seed(PEOPLE);
      return ended(await world.erase(), 'verified', 1);
    },
  },
  'weekend-skipped': {
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await submitted(world.sim);
      world.sim.habits.set({ skipWeekends: 1 });
      return ended(erasure, 'verified', 2);
    },
  },
  'nothing-found': {
    run: async (world) => {
      world.seed(['u_7', 'u_8']);
      return ended(await world.erase(), 'nothing-found', 0);
    },
  },
  'dry-run': {
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase({ dryRun: true });
      await erasure.result();
      return erasure;
    },
  },
  'retry-while-waiting': {
    options: { speed: 50_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      await erasure.retry(BY);
      return ended(erasure, 'verified');
    },
  },
  'check-now-while-waiting': {
    options: { speed: 50_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      await erasure.checkNow(BY);
      return ended(erasure, 'verified');
    },
  },
  unreachable: {
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      world.sim.habits.set({ serverErrors: { status: 503 } });
      await world.until(erasure.requestId, attentionIs('unreachable'));
      world.sim.habits.reset();
      return ended(erasure, 'verified');
    },
  },
  'held-and-released': {
    options: { speed: 50_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      // Held in the middle of a step, so that its activity is cancelled.
      world.sim.habits.set({ slow: { ms: 1_500, on: ['/api/v2/runs/query'] } });
      const erasure = await world.erase();
      await sleep(2_000);
      await erasure.hold(BY);
      const handle = world.client.temporal.workflow.getHandle(erasure.workflowId);
      while (((await handle.describe()).raw.pendingActivities?.length ?? 0) > 0) await sleep(50);
      world.sim.habits.reset();
      await erasure.release(BY);
      return ended(erasure, 'verified');
    },
  },
  abandoned: {
    options: { speed: 20_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      // As a signal: the way it goes while no worker is up.
      await world.stopWorker();
      await erasure.abandon(BY);
      await world.startWorker();
      return ended(erasure, 'abandoned');
    },
  },
  cancelled: {
    options: { speed: 20_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      await world.client.temporal.workflow.getHandle(erasure.workflowId).cancel();
      return ended(erasure, 'abandoned');
    },
  },
  'two-connections': {
    options: { more: ['langsmith-eu'] },
    run: async (world) => {
      world.seed(PEOPLE);
      for (const sim of world.more.values()) sim.seedPeople({ project: 'agent', people: PEOPLE, tracesPerPerson: 2 });
      const erasure = await world.erase();
      for (const sim of world.more.values()) {
        await submitted(sim);
        // One lane still works when the other has ended.
        sim.habits.set({ skipWeekends: 1 });
      }
      return ended(erasure, 'verified');
    },
  },
  'continued-as-new': {
    dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': 60 },
    run: async (world) => {
      // A delete call names traces of one project only.
      for (let project = 1; project <= 8; project += 1) world.seed(PEOPLE, 1, `chat-${project}`);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      await erasure.checkNow(BY);
      return ended(erasure, 'verified');
    },
  },
  'waiting-for-weekend': {
    open: true,
    options: { speed: 5_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      return erasure;
    },
  },
  'flagged-while-waiting': {
    open: true,
    run: async (world) => {
      world.seed(PEOPLE);
      world.sim.habits.set({ skipWeekends: Infinity });
      const erasure = await world.erase();
      await world.until(erasure.requestId, attentionIs('survivors'));
      return erasure;
    },
  },
  held: {
    open: true,
    options: { speed: 5_000 },
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      await erasure.hold(BY);
      await world.until(erasure.requestId, ({ status }) => status === 'held');
      return erasure;
    },
  },
  'awaiting-approval': {
    open: true,
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase({ expectAtMost: 1 });
      await world.until(erasure.requestId, ({ status }) => status === 'awaiting-approval');
      return erasure;
    },
  },
  'denied-while-waiting': {
    open: true,
    run: async (world) => {
      world.seed(PEOPLE);
      const erasure = await world.erase();
      await world.until(erasure.requestId, ({ status }) => status === 'waiting');
      world.sim.habits.set({ keyRevoked: 403 });
      await world.until(erasure.requestId, attentionIs('denied'));
      return erasure;
    },
  },
};

/** A weekend that is to be skipped must be one after the first delete. */
async function submitted(sim: LangSmithSimulator): Promise<void> {
  while (sim.truth.submissions().length === 0) await sleep(5);
}

async function ended(erasure: Erasure, status: RequestStatus['status'], round?: number): Promise<Erasure> {
  const end = await erasure.result();
  const reached = end.connections[CONNECTION]?.round;
  if (end.status !== status || (round !== undefined && reached !== round)) {
    throw new Error(`ended ${end.status} in round ${reached ?? 0}, and should not`);
  }
  return erasure;
}

function attentionIs(reason: string): (status: RequestStatus) => boolean {
  return ({ connections }) => connections[CONNECTION]?.attention?.reason === reason;
}

/** A scenario on the server at `address`. @returns its runs, the first one first. */
async function record(name: string, scenario: Scenario, address: string): Promise<readonly History[]> {
  process.env['LETHE_TEST_TEMPORAL_ADDRESS'] = address;
  const world = await World.start(`golden-${name}`, { start: MONDAY_EVENING, ...scenario.options });
  try {
    const { workflowId } = await scenario.run(world);
    const { workflow } = world.client.temporal;
    let last = await workflow.getHandle(workflowId).fetchHistory();
    while (scenario.open === true && !isQuiet(last)) {
      await sleep(20);
      last = await workflow.getHandle(workflowId).fetchHistory();
    }
    const runs = [last];
    for (;;) {
      const before = runs[0]?.events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId;
      if (before === undefined || before === null || before === '') return runs;
      runs.unshift(await workflow.getHandle(workflowId, before).fetchHistory());
    }
  } finally {
    await world.close();
  }
}

/** Whether all that happened was handled and no activity runs: a task that is still open is not compared by a replay. */
function isQuiet(history: History): boolean {
  const events = history.events ?? [];
  const tasks = events.filter((event) => event.workflowTaskScheduledEventAttributes != null).length;
  const handled = events.filter((event) => event.workflowTaskCompletedEventAttributes != null).length;
  const steps = events.filter((event) => event.activityTaskScheduledEventAttributes != null).length;
  const done = events.filter(
    (event) => event.activityTaskCompletedEventAttributes != null || event.activityTaskCanceledEventAttributes != null,
  ).length;
  return tasks === handled && steps === done;
}

/** As Temporal's own tools write it, an event a line. Who worked on it is not told: that would name this machine. */
function asText(history: History): string {
  const { events } = JSON.parse(historyToJSON(history)) as { events: readonly unknown[] };
  const text = `{"events":[\n${events.map((event) => JSON.stringify(event)).join(',\n')}\n]}\n`;
  return text.replaceAll(`${process.pid}@${hostname()}`, 'lethe');
}

async function startServer(dynamicConfig: Readonly<Record<string, unknown>>): Promise<LocalServer> {
  const binary = await resolveTemporalBinary({ allowBuild: false });
  const server = await startLocalServer({ binary, dbFile: null, headless: true, dynamicConfig });
  const connection = await Connection.connect({ address: server.address });
  await ensureNamespace(connection, { namespace: DEFAULT_NAMESPACE });
  await ensureSearchAttributes(connection);
  await connection.close();
  return server;
}

const { values, positionals: wanted } = parseArgs({ allowPositionals: true, options: { into: { type: 'string' } } });
const release = LETHE_VERSION.split('.').slice(0, 2).join('.');
const folder = join(fileURLToPath(new URL('.', import.meta.url)), values.into ?? release);
await mkdir(folder, { recursive: true });
const usual = await startServer({});
try {
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const began = Date.now();
    const server = scenario.dynamicConfig === undefined ? usual : await startServer(scenario.dynamicConfig);
    try {
      const runs = await record(name, scenario, server.address);
      for (const old of await readdir(folder)) {
        if (old === `${name}.json` || old.startsWith(`${name}.run-`)) await rm(join(folder, old));
      }
      for (const [index, history] of runs.entries()) {
        const file = runs.length === 1 ? `${name}.json` : `${name}.run-${index + 1}.json`;
        const text = asText(history);
        await writeFile(join(folder, file), text);
        const size = `${history.events?.length ?? 0} events, ${Math.ceil(text.length / 1024)} KiB`;
        process.stdout.write(`${file}: ${size}, ${((Date.now() - began) / 1000).toFixed(1)} s\n`);
      }
    } finally {
      if (server !== usual) await server.stop();
    }
  }
} finally {
  await usual.stop();
}
