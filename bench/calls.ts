import type { RecordedRead, RecordView } from '../src/evidence/record.ts';
import type { ActivityFigures } from './history.ts';
import { PURPOSES, type Least, type Phase, type Purpose } from './least.ts';
import type { BenchStore, Entry } from './stores.ts';

/** One line of the comparison with the least possible. */
export interface CallLine {
  readonly phase: Phase;
  readonly purpose: Purpose;
  readonly calls: number;
  readonly least: number;
}

/** Which phase each activity was, in the order in which they ended. */
export function phasesOf(activities: readonly ActivityFigures[]): readonly { phase: Phase; closedMs: number }[] {
  let reads = 0;
  return activities.map(({ type, closedMs }) => {
    if (type === 'verifyAbsence') reads += 1;
    const names: Record<string, Phase> = {
      resolveIds: 'plan',
      deleteBatch: 'delete',
      verifyAbsence: `verify ${reads}`,
      sealRecord: 'seal',
    };
    return { phase: names[type] ?? type, closedMs };
  });
}

/** The store's own list of requests, each put into the phase of one person in which it arrived. */
export function callsByPhase(
  ledger: readonly Entry[],
  activities: readonly ActivityFigures[],
  realMs: (virtualMs: number) => number,
): readonly (Entry & { readonly phase: Phase })[] {
  const phases = phasesOf(activities);
  return ledger.map((entry) => {
    // A call ends before its activity does; both clocks are this machine's, rounded to a millisecond.
    const phase = phases.find(({ closedMs }) => closedMs >= realMs(entry.atMs) - 1)?.phase ?? 'afterwards';
    return { ...entry, phase };
  });
}

/**
 * Calls by phase and purpose beside the least possible. How many there were is the store's word, its ledger; what a read
 * was for is told by the records, in which each of several people who shared it has its share. What neither a route nor
 * a record tells of (calls around a delete, a repeated attempt, a refused call) stands under `rest`.
 */
export function linesOf(
  store: BenchStore,
  ledger: readonly Entry[],
  records: readonly RecordView[],
  least: Least,
): readonly CallLine[] {
  const made = new Map<string, number>();
  const add = (phase: Phase, purpose: Purpose, count: number): void => {
    const key = `${phase}/${purpose}`;
    made.set(key, (made.get(key) ?? 0) + count);
  };
  for (const entry of ledger) {
    const purpose = store.purposeOf(entry);
    if (purpose === 'delete') add('delete', 'delete', 1);
    else add('all', purpose ?? 'rest', 1);
  }
  for (const { phase, read } of records.flatMap(readsOf)) {
    const share = read.calls / (read.people ?? 1);
    add(phase, store.labelOf(read), share);
    add('all', 'rest', -share);
  }
  const phases = new Set([...least.keys(), ...[...made.keys()].map((key) => key.split('/')[0] ?? '')]);
  return [...phases].flatMap((phase) =>
    PURPOSES.flatMap((purpose) => {
      const calls = Math.round(made.get(`${phase}/${purpose}`) ?? 0);
      const fewest = least.get(phase)?.get(purpose) ?? 0;
      return calls === 0 && fewest === 0 ? [] : [{ phase, purpose, calls, least: fewest }];
    }),
  );
}

/** Every read that a record tells of, with its phase. */
export function readsOf(record: RecordView): readonly { readonly phase: Phase; readonly read: RecordedRead }[] {
  return Object.values(record.lanes).flatMap(({ entries }) => {
    let reads = 0;
    return entries.flatMap(({ entry }) => {
      if (entry.kind === 'read') reads += 1;
      if (entry.kind === 'trouble' || entry.kind === 'approved-plan') return [];
      const phase = { plan: 'plan', submit: 'delete', read: `verify ${reads}` }[entry.kind];
      return entry.reports.map((read) => ({ phase, read }));
    });
  });
}

/** Requests that the store refused for coming too fast, by the limit that it named. */
export function refusalsOf(ledger: readonly Entry[]): Readonly<Record<string, number>> {
  return countBy(ledger.filter(({ status }) => status === 429).map(({ cause }) => cause ?? 'unnamed'));
}

/** How many there are of each. */
export function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
