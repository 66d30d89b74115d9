import type { RecordedRead, RecordView } from '../src/evidence/record.ts';
import type { LedgerEntry } from '../src/simulators/langsmith/index.ts';
import { LIMITS_OF_CALLS } from '../src/stores/langsmith/traits.ts';
import type { ActivityFigures } from './history.ts';

/** A step of one erasure: `plan`, `delete`, `verify 1`, `verify 2`, `seal`. */
export type Phase = string;

/** What calls were made for. A route alone does not tell: most of it goes through the two run queries. */
export const PURPOSES = [
  'projects',
  'controls',
  'find v2',
  'find v1',
  'by id v2',
  'by id v1',
  'copies',
  'delete',
  'other',
] as const;
export type Purpose = (typeof PURPOSES)[number];

export type CallTable = ReadonlyMap<Phase, ReadonlyMap<Purpose, number>>;

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

export interface StoreCall {
  readonly phase: Phase;
  readonly route: string;
  readonly shape: LedgerEntry['shape'];
  readonly status: number;
}

/** The store's own list of requests, each put into the phase in which it arrived. */
export function callsByPhase(
  ledger: readonly LedgerEntry[],
  activities: readonly ActivityFigures[],
  realMs: (virtualMs: number) => number,
): readonly StoreCall[] {
  const phases = phasesOf(activities);
  return ledger.map(({ atMs, method, route, shape, status }) => {
    // A call ends before its activity does; both clocks are this machine's, rounded to a millisecond.
    const phase = phases.find(({ closedMs }) => closedMs >= realMs(atMs) - 1)?.phase ?? 'afterwards';
    return { phase, route: `${method} ${route}`, shape, status };
  });
}

const QUERIES: Readonly<Record<string, 'v1' | 'v2'>> = {
  'POST /api/v1/runs/query': 'v1',
  'POST /api/v2/runs/query': 'v2',
};

function purposeOfRoute(route: string): Purpose {
  if (route.includes('/runs/delete')) return 'delete';
  if (route.includes('/sessions')) return 'projects';
  const copies = ['/examples', '/shared', '/bulk-exports', '/rules', '/feedback', '/annotation-queues'];
  return copies.some((part) => route.includes(part)) ? 'copies' : 'other';
}

function purposeOfRead({ purpose, route }: RecordedRead): Purpose {
  const generation = route.includes('/api/v1/') ? 'v1' : 'v2';
  if (purpose === 'find') return `find ${generation}`;
  if (purpose === 'lookup') return `by id ${generation}`;
  return purpose === 'controls' ? 'controls' : 'other';
}

/**
 * Calls by phase and purpose. Routes and phases come from the store's ledger; what the run queries among them were for,
 * only the record knows. What the record does not tell of (a repeated attempt, a refused call) stands under `other`.
 */
export function tableOf(calls: readonly StoreCall[], record: RecordView): CallTable {
  const table = new Map<Phase, Map<Purpose, number>>();
  const add = (phase: Phase, purpose: Purpose, count: number): void => {
    const row = table.get(phase) ?? new Map<Purpose, number>();
    table.set(phase, row);
    const sum = (row.get(purpose) ?? 0) + count;
    if (sum === 0) row.delete(purpose);
    else row.set(purpose, sum);
  };
  for (const { phase, route } of calls) add(phase, route in QUERIES ? 'other' : purposeOfRoute(route), 1);
  for (const { phase, report } of readsOf(record)) {
    const purpose = purposeOfRead(report);
    if (purpose === 'other') continue;
    add(phase, purpose, report.calls);
    add(phase, 'other', -report.calls);
  }
  return table;
}

/** Every read that the record tells of, with its phase. */
export function readsOf(record: RecordView): readonly { readonly phase: Phase; readonly report: RecordedRead }[] {
  let reads = 0;
  return Object.values(record.lanes).flatMap(({ entries }) =>
    entries.flatMap(({ entry }) => {
      if (entry.kind === 'read') reads += 1;
      const names = { plan: 'plan', submit: 'delete', read: `verify ${reads}`, trouble: 'trouble' };
      const phase = names[entry.kind];
      return entry.kind === 'trouble' ? [] : entry.reports.map((report) => ({ phase, report }));
    }),
  );
}

/** How long these calls take in real time because of the store's limits alone, however fast it answers; seconds. */
export function pacedSeconds(calls: readonly StoreCall[]): number {
  const seconds = (count: number, { calls: most, perMs }: { calls: number; perMs: number }): number =>
    (count / most) * (perMs / 1000);
  const wide = calls.filter(({ shape }) => shape === 'wide' || shape === 'text-wide').length;
  const narrow = calls.filter(({ shape }) => shape === 'narrow' || shape === 'text-narrow').length;
  const rest = calls.length - wide - narrow;
  const queries = Math.max(
    seconds(wide, LIMITS_OF_CALLS.wide),
    seconds(narrow, LIMITS_OF_CALLS.narrow),
    seconds(wide + narrow, LIMITS_OF_CALLS.gateway),
  );
  // One activity makes its calls one after the other.
  return queries + seconds(rest, LIMITS_OF_CALLS.rest);
}
