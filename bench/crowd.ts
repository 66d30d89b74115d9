import assert from 'node:assert/strict';
import { countBy, linesOf, readsOf, refusalsOf, sum, type CallLine } from './calls.ts';
import { historyOf } from './history.ts';
import type { Probe } from './process.ts';
import type { ScriptCalls } from './least.ts';
import { Setting, type Costs, type SettingOptions } from './setting.ts';
import { erasePerson } from './person.ts';
import { STORES, type StoreName } from './stores.ts';
import { mib, table } from './table.ts';

export interface CrowdOptions {
  readonly people: number;
  readonly tracesEach: number;
  readonly runsPerTrace: number;
  /** People of the same project who stay, with as many traces each. */
  readonly others: number;
  readonly setting: SettingOptions;
  readonly tell: (text: string) => void;
}

export interface CrowdReport {
  readonly store: StoreName;
  /** Virtual seconds in a real one. */
  readonly speed: number;
  readonly people: number;
  readonly tracesEach: number;
  readonly runsPerTrace: number;
  readonly others: number;
  readonly calls: readonly CallLine[];
  readonly callsTotal: number;
  readonly leastTotal: number;
  /** Calls that one person of the same size takes when Lethe erases nobody else at the time. */
  readonly callsAlone: number;
  /** As many times that as there are people: what is saved by sharing calls is told by the difference to `callsTotal`. */
  readonly scriptsTotal: number;
  /** Calls of a plain script for one person, which proves nothing; computed from the sizes of pages and batches. */
  readonly plainScript: Readonly<Record<ScriptCalls['purpose'], number>>;
  /** As many such scripts as there are people. */
  readonly plainScriptsTotal: number;
  /** Calls that the store refused for coming too fast, by limit. */
  readonly tooFast: Readonly<Record<string, number>>;
  /** What the published limits alone make these calls take in real use, seconds. */
  readonly pacedSeconds: number;
  /** For `scriptsTotal`. */
  readonly scriptsPacedSeconds: number;
  readonly plainScriptsPacedSeconds: number;
  readonly routes: Readonly<Record<string, number>>;
  readonly wallSeconds: number;
  readonly troubles: number;
  /** Events in the largest history of a single run. */
  readonly mostEvents: number;
  readonly before: Costs;
  readonly after: Costs;
  readonly probe: Probe | null;
}

/** At this speed a person alone is through within seconds; limits mean nothing to him. */
const SPEED_ALONE = 150_000;

/** Erases many people of one project who ask at the same time. Asserts that the truth is what Lethe says. */
export async function eraseCrowd(options: CrowdOptions): Promise<CrowdReport> {
  const { people, tracesEach, runsPerTrace, tell } = options;
  const { store: name, speed } = options.setting;
  tell('one person alone');
  const alone = await erasePerson({
    traces: tracesEach,
    runsPerTrace,
    others: options.others,
    tracesPerOther: tracesEach,
    setting: { ...options.setting, speed: SPEED_ALONE },
    tell: () => undefined,
  });
  const brief = STORES[name].brief(speed);
  const setting = await Setting.start({ ...options.setting, ...brief, expectedPeople: people });
  let report: Omit<CrowdReport, 'probe'>;
  try {
    tell('seeding');
    const seed = (who: readonly string[] | number) =>
      setting.seed({ people: who, tracesPerPerson: tracesEach, runsPerTrace });
    const kept = (await seed(options.others)).flatMap(({ traceIds }) => traceIds);
    const names = Array.from({ length: people }, (_none, index) => `u_${index}`);
    const gone = (await seed(names)).flatMap(({ traceIds }) => traceIds);

    await setting.begin();
    tell(`${people} people`);
    const before = setting.costs();
    const startedMs = Date.now();
    let ended = 0;
    const erasures = await Promise.all(
      names.map(async (value) => {
        const erasure = await setting.client.erase({ identifiers: [{ kind: 'user_id', value }] });
        assert.equal((await erasure.result()).status, 'verified');
        ended += 1;
        if (ended % 50 === 0) tell(`${ended} of ${people} are proven gone`);
        return erasure;
      }),
    );
    const wallSeconds = (Date.now() - startedMs) / 1000;
    const after = setting.costs();
    const ledger = await setting.ledger();

    tell('comparing with the truth');
    await setting.assertGone(gone, kept);
    tell('reading the records');
    const records = await Promise.all(erasures.map(({ requestId }) => setting.client.report(requestId)));
    const reads = records.flatMap(readsOf).map(({ read }) => read.controlsAsked);
    const { store } = setting;
    const task = {
      people,
      tracesEach,
      runsPerTrace,
      controls: reads.reduce((most, one) => Math.max(most, one), 0),
      otherTraces: kept.length,
    };
    const lines = linesOf(store, ledger, records, store.least(task));
    const script = store.script(task);
    const scripted = script.flatMap((calls) => Array.from({ length: people * calls.count }, () => calls));
    const histories = await Promise.all(
      erasures.slice(0, 20).map(({ workflowId }) => historyOf(setting.client.temporal, workflowId)),
    );
    report = {
      store: store.name,
      speed,
      people,
      tracesEach,
      runsPerTrace,
      others: options.others,
      calls: lines,
      callsTotal: ledger.length,
      leastTotal: sum(lines.map(({ least }) => least)),
      callsAlone: alone.callsTotal,
      scriptsTotal: people * alone.callsTotal,
      plainScript: Object.fromEntries(
        script.map(({ purpose, count }) => [purpose, count]),
      ) as CrowdReport['plainScript'],
      plainScriptsTotal: scripted.length,
      tooFast: refusalsOf(ledger),
      pacedSeconds: store.pacedSeconds(ledger),
      scriptsPacedSeconds: people * sum(Object.values(alone.pacedSeconds)),
      plainScriptsPacedSeconds: store.pacedSeconds(scripted),
      routes: countBy(ledger.map(({ method, route }) => `${method} ${route}`)),
      wallSeconds,
      troubles: records
        .flatMap(({ lanes }) => Object.values(lanes))
        .flatMap(({ entries }) => entries)
        .filter(({ entry }) => entry.kind === 'trouble').length,
      mostEvents: Math.max(...histories.flatMap(({ runs }) => runs.map(({ events }) => events))),
      before,
      after,
    };
  } catch (error) {
    await setting.stop();
    throw error;
  }
  return { ...report, probe: await setting.stop() };
}

/** What was measured, for a person. */
export function describeCrowd(report: CrowdReport): string {
  const { calls, before, after, probe } = report;
  const tooFast = Object.entries(report.tooFast);
  const minutes = (seconds: number): string => `${(seconds / 60).toFixed(1)} min`;
  const cpu = (who: keyof Costs): number | null => {
    const [to, from] = [after[who].cpuSeconds, before[who].cpuSeconds];
    return to === null || from === null ? null : to - from;
  };
  return [
    `${report.store}: ${report.people} people, ${report.tracesEach} traces of ${report.runsPerTrace} rows each, among ` +
      `${report.others} others; ${report.speed} virtual seconds in a real one`,
    table(
      ['phase', 'for', 'calls', 'least', 'over'],
      [
        ...calls.map(({ phase, purpose, calls: made, least }) => [phase, purpose, made, least, made - least]),
        ['', 'together', report.callsTotal, report.leastTotal, report.callsTotal - report.leastTotal],
      ],
    ),
    table(
      ['', 'calls', 'of the least', 'at the published limits'],
      [
        [
          'Lethe',
          report.callsTotal,
          `${(report.callsTotal / report.leastTotal).toFixed(2)} x`,
          minutes(report.pacedSeconds),
        ],
        [
          `Lethe, one person alone, times ${report.people}`,
          report.scriptsTotal,
          `${(report.scriptsTotal / report.leastTotal).toFixed(2)} x`,
          minutes(report.scriptsPacedSeconds),
        ],
        [
          'a plain script per person, which proves nothing',
          report.plainScriptsTotal,
          `${(report.plainScriptsTotal / report.leastTotal).toFixed(2)} x`,
          minutes(report.plainScriptsPacedSeconds),
        ],
      ],
    ),
    `  refused for coming too fast: ${tooFast.length === 0 ? 'none' : tooFast.map(([name, count]) => `${name} ${count}`).join(', ')}; troubles in the records: ${report.troubles}`,
    table(
      ['process', 'CPU s', 'ms a person', 'peak memory', 'resident before'],
      (['worker', 'server', 'simulator'] as const).map((who) => {
        const seconds = cpu(who);
        return [
          who === 'server' ? 'Temporal server' : who,
          seconds,
          seconds === null ? null : (1000 * seconds) / report.people,
          mib(after[who].peakBytes),
          mib(before[who].residentBytes),
        ];
      }),
    ),
    `  ${report.wallSeconds.toFixed(1)} s, ${(report.people / report.wallSeconds).toFixed(2)} people/s; at most ${report.mostEvents} events in a history; ` +
      `worker's event loop blocked for ${probe === null ? '-' : Math.round(probe.mostBlockedMs)} ms at most, heap ${mib(probe?.peakHeapBytes ?? null) ?? '-'} at most`,
  ].join('\n\n');
}
