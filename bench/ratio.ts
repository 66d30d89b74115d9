import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Client } from '@temporalio/client';
import type { BareInput } from './bare/workflow.ts';
import { historyOf, type WorkflowFigures } from './history.ts';
import { costOf, MeasuredProcess } from './process.ts';
import { NAMESPACE, Setting, type SettingOptions } from './setting.ts';
import type { StoreName } from './stores.ts';
import { table } from './table.ts';

const BARE_WORKER = fileURLToPath(new URL('./bare/worker.ts', import.meta.url));
const QUEUE = 'bare';
const LANE_QUEUE = 'bare-lane';

export interface RatioOptions {
  /** People of one turn. */
  readonly people: number;
  readonly tracesEach: number;
  readonly runsPerTrace: number;
  /** People of the same project whom nobody asks to erase. */
  readonly others: number;
  readonly turns: number;
  readonly setting: SettingOptions;
  readonly tell: (text: string) => void;
}

/** One turn: that many at once, until the last has ended. */
export interface Turn {
  readonly who: 'lethe' | 'bare';
  readonly seconds: number;
  readonly workerCpuSeconds: number;
  readonly serverCpuSeconds: number;
}

export interface RatioReport {
  readonly store: StoreName;
  readonly people: number;
  /** Whether the server had a core of its own, and everything else another one. */
  readonly separate: boolean;
  readonly activities: number;
  readonly timers: number;
  /** Real milliseconds that the timers of one person add up to: neither side can be faster. */
  readonly timersMs: number;
  readonly turns: readonly Turn[];
  readonly perSecond: Readonly<Record<Turn['who'], number>>;
  /** People per second through Lethe, as a share of the bare workflow's. */
  readonly ratio: number;
}

/** Erases many people at once, in turns with as many workflows that only cost the engine what an erasure costs it. */
export async function measureRatio(options: RatioOptions): Promise<RatioReport> {
  const { people, tell } = options;
  const setting = await Setting.start(options.setting);
  // Without Lethe's codec, which the bare worker knows nothing of.
  const { connection } = setting.client.temporal;
  const temporal = new Client({ connection, namespace: NAMESPACE });
  let bare: MeasuredProcess | null = null;
  try {
    tell('starting');
    bare = await MeasuredProcess.start(BARE_WORKER, {
      args: [setting.server.address, NAMESPACE, QUEUE, LANE_QUEUE],
      isReady: (line) => line === 'serving',
    });
    const separate = setting.separate([bare]);
    const workers = { lethe: setting.worker, bare };
    const kept = (
      await setting.seed({
        people: options.others,
        tracesPerPerson: options.tracesEach,
        runsPerTrace: options.runsPerTrace,
      })
    ).flatMap((one) => one.traceIds);
    const gone: string[] = [];
    const turns: Turn[] = [];
    const measured = async (who: Turn['who'], run: () => Promise<void>): Promise<void> => {
      const cpu = (): number => workers[who].cost().cpuSeconds ?? Number.NaN;
      const serverCpu = (): number => costOf(setting.server.pid).cpuSeconds ?? Number.NaN;
      const before = { ms: Date.now(), cpu: cpu(), serverCpu: serverCpu() };
      await run();
      turns.push({
        who,
        seconds: (Date.now() - before.ms) / 1000,
        workerCpuSeconds: cpu() - before.cpu,
        serverCpuSeconds: serverCpu() - before.serverCpu,
      });
    };

    await setting.begin();
    // Whoever comes first pays for everything that is done once.
    const first = await eraseAll(setting, await seedPeople(setting, options, 'warm', 2, gone));
    const [example = ''] = first;
    const figures = await historyOf(setting.client.temporal, example);
    await runBare(temporal, 2, bareInput(figures));
    for (let turn = 0; turn < options.turns; turn += 1) {
      tell(`turn ${turn + 1} of ${options.turns}`);
      const names = await seedPeople(setting, options, `turn-${turn}`, people, gone);
      let ids: readonly string[] = [];
      await measured('lethe', async () => {
        ids = await eraseAll(setting, names);
      });
      const one = await historyOf(setting.client.temporal, ids[0] ?? '');
      await measured('bare', () => runBare(temporal, people, bareInput(one)));
    }
    await setting.assertGone(gone, kept);
    const perSecond = { lethe: rateOf(turns, 'lethe', people), bare: rateOf(turns, 'bare', people) };
    const input = bareInput(figures);
    return {
      store: setting.store.name,
      people,
      separate,
      activities: input.activities,
      timers: input.timersMs.length,
      timersMs: Math.round(input.timersMs.reduce((sum, ms) => sum + ms, 0)),
      turns,
      perSecond,
      ratio: perSecond.lethe / perSecond.bare,
    };
  } finally {
    await bare?.stop();
    await setting.stop();
  }
}

async function seedPeople(
  setting: Setting,
  { tracesEach, runsPerTrace }: RatioOptions,
  name: string,
  people: number,
  gone: string[],
): Promise<readonly string[]> {
  const names = Array.from({ length: people }, (_none, index) => `u_${name}_${index}`);
  const seeded = await setting.seed({ people: names, tracesPerPerson: tracesEach, runsPerTrace });
  gone.push(...seeded.flatMap(({ traceIds }) => traceIds));
  return names;
}

/** @returns the workflows' ids. */
async function eraseAll(setting: Setting, names: readonly string[]): Promise<readonly string[]> {
  return Promise.all(
    names.map(async (value) => {
      const erasure = await setting.client.erase({ identifiers: [{ kind: 'user_id', value }] });
      const { status } = await erasure.result();
      assert.equal(status, 'verified');
      return erasure.workflowId;
    }),
  );
}

function bareInput({ runs, timersMs }: WorkflowFigures): BareInput {
  return { laneQueue: LANE_QUEUE, activities: runs.reduce((sum, run) => sum + run.activities, 0), timersMs };
}

async function runBare(temporal: Client, people: number, input: BareInput): Promise<void> {
  await Promise.all(
    Array.from({ length: people }, () =>
      temporal.workflow.execute('bare', { taskQueue: QUEUE, workflowId: `bare-${randomUUID()}`, args: [input] }),
    ),
  );
}

/** Of the turn in the middle: what else the machine does spoils single turns. */
function rateOf(turns: readonly Turn[], who: Turn['who'], people: number): number {
  const seconds = turns.filter((turn) => turn.who === who).map((turn) => turn.seconds);
  return people / (seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? Number.NaN);
}

/** What was measured, for a person. */
export function describeRatio(report: RatioReport): string {
  const rows = report.turns.map(({ who, seconds, workerCpuSeconds, serverCpuSeconds }) => [
    who,
    seconds,
    report.people / seconds,
    (1000 * workerCpuSeconds) / report.people,
    (1000 * serverCpuSeconds) / report.people,
  ]);
  return [
    `${report.store}: ${report.people} people at once, each ${report.activities} activities and ${report.timers} timers of ${report.timersMs} ms together`,
    report.separate ? '  the server on a core of its own, everything else on another' : '  all processes on all cores',
    table(['turn', 's', 'people/s', 'worker CPU ms/person', 'server CPU ms/person'], rows),
    `  Lethe ${report.perSecond.lethe.toFixed(2)} people/s, bare ${report.perSecond.bare.toFixed(2)} people/s: ratio ${report.ratio.toFixed(2)}`,
  ].join('\n\n');
}
