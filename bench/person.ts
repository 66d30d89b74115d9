import assert from 'node:assert/strict';
import { callsByPhase, countBy, linesOf, readsOf, refusalsOf, sum, type CallLine } from './calls.ts';
import { historyOf, type WorkflowFigures } from './history.ts';
import type { Probe } from './process.ts';
import { Setting, type Costs, type SettingOptions } from './setting.ts';
import type { StoreName } from './stores.ts';
import { kib, mib, table, type Cell } from './table.ts';

/** One person among others. */
export interface PersonOptions {
  readonly traces: number;
  readonly runsPerTrace: number;
  readonly others: number;
  readonly tracesPerOther: number;
  readonly setting: SettingOptions;
  /** Told when something begins that takes a while. */
  readonly tell: (text: string) => void;
}

export interface PersonReport {
  readonly store: StoreName;
  readonly status: string;
  readonly traces: number;
  readonly runs: number;
  readonly wallSeconds: number;
  /** Real seconds in activities, by phase. */
  readonly secondsByPhase: Readonly<Record<string, number>>;
  readonly history: WorkflowFigures;
  readonly calls: readonly CallLine[];
  readonly callsTotal: number;
  readonly leastTotal: number;
  /** The store's ledger by phase and route. */
  readonly routes: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Answers that were no success, by status. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Calls that the store refused for coming too fast, by limit. */
  readonly tooFast: Readonly<Record<string, number>>;
  /** What the store's limits alone would take in real time, seconds, by phase. */
  readonly pacedSeconds: Readonly<Record<string, number>>;
  readonly troubles: number;
  readonly before: Costs;
  readonly after: Costs;
  readonly probe: Probe | null;
}

const PERSON = 'u_42';

/** Erases one person and counts what it took. Asserts that the truth is what Lethe says, and nothing else. */
export async function erasePerson(options: PersonOptions): Promise<PersonReport> {
  const { traces, runsPerTrace, tell } = options;
  const setting = await Setting.start(options.setting);
  let report: Omit<PersonReport, 'probe'>;
  try {
    tell('seeding');
    const others = await setting.seed({
      people: options.others,
      tracesPerPerson: options.tracesPerOther,
      runsPerTrace,
    });
    const [person] = await setting.seed({ people: [PERSON], tracesPerPerson: traces, runsPerTrace });
    const gone = person?.traceIds ?? [];
    const kept = others.flatMap(({ traceIds }) => traceIds);
    assert.equal(gone.length, traces);

    await setting.begin();
    tell('erasing');
    const before = setting.costs();
    const startedMs = Date.now();
    const erasure = await setting.client.erase({
      identifiers: [{ kind: 'user_id', value: PERSON }],
      expectAtMost: traces,
    });
    const status = await erasure.result();
    const wallSeconds = (Date.now() - startedMs) / 1000;
    const after = setting.costs();

    tell('comparing with the truth');
    await setting.assertGone(gone, kept);
    const lane = Object.values(status.connections)[0];
    assert.equal(status.status, 'verified', JSON.stringify(status.exceptions));
    assert.equal(lane?.traces.matched, traces);
    assert.equal(lane.traces.verifiedAbsent, traces);

    const history = await historyOf(setting.client.temporal, erasure.workflowId);
    const record = await setting.client.report(erasure.requestId);
    const ledger = await setting.ledger();
    const calls = callsByPhase(ledger, history.activities, (ms) => setting.realMs(ms));
    const controls = Math.max(...readsOf(record).map(({ read }) => read.controlsAsked));
    const least = setting.store.least({
      people: 1,
      tracesEach: traces,
      runsPerTrace,
      controls,
      otherTraces: kept.length,
    });
    const lines = linesOf(setting.store, ledger, [record], least);
    const phases = [...new Set(calls.map(({ phase }) => phase))];
    report = {
      store: setting.store.name,
      status: status.status,
      traces,
      runs: traces * runsPerTrace,
      wallSeconds,
      secondsByPhase: secondsByPhase(history),
      history,
      calls: lines,
      callsTotal: sum(lines.map((line) => line.calls)),
      leastTotal: sum(lines.map((line) => line.least)),
      routes: Object.fromEntries(
        phases.map((phase) => [
          phase,
          countBy(calls.filter((call) => call.phase === phase).map(({ method, route }) => `${method} ${route}`)),
        ]),
      ),
      refusals: countBy(
        calls.filter((call) => call.status >= 300 || call.status === 0).map((call) => `${call.status}`),
      ),
      tooFast: refusalsOf(ledger),
      pacedSeconds: Object.fromEntries(
        phases.map((phase) => [phase, setting.store.pacedSeconds(calls.filter((call) => call.phase === phase))]),
      ),
      troubles: Object.values(record.lanes)
        .flatMap(({ entries }) => entries)
        .filter(({ entry }) => entry.kind === 'trouble').length,
      before,
      after,
    };
  } catch (error) {
    await setting.stop();
    throw error;
  }
  return { ...report, probe: await setting.stop() };
}

function secondsByPhase(history: WorkflowFigures): Record<string, number> {
  const seconds: Record<string, number> = {};
  let reads = 0;
  for (const { type, startedMs, closedMs } of history.activities) {
    if (type === 'verifyAbsence') reads += 1;
    const name = type === 'verifyAbsence' ? `verify ${reads}` : type;
    seconds[name] = (seconds[name] ?? 0) + (closedMs - startedMs) / 1000;
  }
  return seconds;
}

/** What was measured, for a person. */
export function describePerson(report: PersonReport): string {
  const { history, before, after, probe } = report;
  const largest = (pick: (run: WorkflowFigures['runs'][number]) => number): number =>
    Math.max(...history.runs.map(pick));
  const all = (pick: (run: WorkflowFigures['runs'][number]) => number): number => sum(history.runs.map(pick));
  const cpu = (who: keyof Costs): Cell =>
    after[who].cpuSeconds === null || before[who].cpuSeconds === null
      ? null
      : after[who].cpuSeconds - before[who].cpuSeconds;
  const engine = table(
    ['history', 'all runs', 'largest run'],
    [
      ['runs', history.runs.length, null],
      ['events', all((run) => run.events), largest((run) => run.events)],
      ['bytes, protobuf', kib(all((run) => run.protobufBytes)), kib(largest((run) => run.protobufBytes))],
      ['bytes, JSON', kib(all((run) => run.jsonBytes)), kib(largest((run) => run.jsonBytes))],
      ['workflow tasks', all((run) => run.workflowTasks), largest((run) => run.workflowTasks)],
      ['  failed or timed out', all((run) => run.failedWorkflowTasks), null],
      ['activities', all((run) => run.activities), largest((run) => run.activities)],
      ['  repeated by Temporal', history.activities.filter(({ attempts }) => attempts > 1).length, null],
      ['timers', all((run) => run.timers), largest((run) => run.timers)],
      ['search attribute upserts', all((run) => run.attributeUpserts), largest((run) => run.attributeUpserts)],
      ['memo upserts', all((run) => run.memoUpserts), largest((run) => run.memoUpserts)],
    ],
  );
  const calls = table(
    ['phase', 'for', 'calls', 'least', 'over'],
    [
      ...report.calls.map(({ phase, purpose, calls: made, least }) => [phase, purpose, made, least, made - least]),
      ['all', '', report.callsTotal, report.leastTotal, report.callsTotal - report.leastTotal],
    ],
  );
  const routes = table(
    ['route', ...Object.keys(report.routes)],
    [...new Set(Object.values(report.routes).flatMap((one) => Object.keys(one)))]
      .sort()
      .map((route) => [route, ...Object.values(report.routes).map((one) => one[route] ?? 0)]),
  );
  const processes = table(
    ['process', 'CPU s', 'peak memory', 'resident before'],
    (['worker', 'server', 'simulator'] as const).map((who) => [
      who === 'server' ? 'Temporal server' : who,
      cpu(who),
      mib(after[who].peakBytes),
      mib(before[who].residentBytes),
    ]),
  );
  const phases = table(
    ['activity', 'real s'],
    Object.entries(report.secondsByPhase).map(([name, seconds]) => [name, seconds]),
  );
  const paced = Object.entries(report.pacedSeconds).map(([phase, seconds]) => `${phase} ${Math.round(seconds)} s`);
  return [
    `${report.store}: ${report.status}, ${report.traces} traces, ${report.runs} runs, ${report.wallSeconds.toFixed(1)} s, of which timers ${(sum(history.timersMs) / 1000).toFixed(1)} s`,
    engine,
    calls,
    routes,
    phases,
    processes,
    `  answers that were no success: ${JSON.stringify(report.refusals)}; refused for coming too fast: ${sum(Object.values(report.tooFast))}; ` +
      `troubles in the record: ${report.troubles}`,
    `  worker: event loop blocked for ${probe === null ? '-' : Math.round(probe.mostBlockedMs)} ms at most, ` +
      `heap ${mib(probe?.peakHeapBytes ?? null) ?? '-'} at most`,
    `  at the vendor's limits and on a real clock these calls take at least ${Math.round(sum(Object.values(report.pacedSeconds)))} s: ${paced.join(', ')}`,
  ].join('\n\n');
}
