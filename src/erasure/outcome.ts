import { formatNoun, formatTraces } from './format.ts';
import type { CopyLedger, GivenLedger, TraceLedger } from './ledger.ts';

/** Ends of a lane and of a request. Nothing else ends one. */
export const VERDICTS = ['abandoned', 'verified-with-exceptions', 'verified', 'nothing-found'] as const;
export type Verdict = (typeof VERDICTS)[number];

/**
 * Every status, worst first: the request shows the worst status of its lanes (P30). A lane that is still open stands
 * above every end, since a request with an open lane has not ended.
 */
export const STATUSES = [
  'needs-operator',
  'awaiting-approval',
  'held',
  'planning',
  'erasing',
  'verifying',
  'waiting',
  ...VERDICTS,
] as const;
export type Status = (typeof STATUSES)[number];

export function isVerdict(status: Status): status is Verdict {
  return (VERDICTS as readonly string[]).includes(status);
}

/** The worst of several statuses by the written order; of none: `planning`. */
export function worstStatus(statuses: readonly Status[]): Status {
  return STATUSES.find((status) => statuses.includes(status)) ?? 'planning';
}

/** Why a verdict is not plainly `verified`: what was not, or could not be, proven erased (P1). */
export interface LaneException {
  readonly kind: ExceptionKind;
  /** How many traces, ids, copies or identifiers it concerns. */
  readonly count: number;
  /** For a person, without personal data. */
  readonly text: string;
}

export const EXCEPTION_KINDS = [
  'survived',
  'shared',
  'linked',
  'foreign',
  'wrong-kind',
  'inconclusive',
  'unresolved',
  'unsearchable',
  'no-control',
  'single-path',
  'not-proven-before',
  'manual-copies',
  'attested-copies',
  'out-of-reach',
  'inconclusive-copies',
  'not-examined',
  'new-traces',
  'new-activity',
  'shared-threads',
] as const;
export type ExceptionKind = (typeof EXCEPTION_KINDS)[number];

/**
 * What a lane may truthfully say at its end (P1). The exceptions are derived from the ledgers by the activity that
 * made the last read, less what the controller accepted beforehand.
 *
 * @throws RangeError while traces are pending: nothing can be said of them, not even an exception.
 */
export function verdictOf(traces: TraceLedger, given: GivenLedger, exceptions: readonly LaneException[]): Verdict {
  if (traces.pending > 0) throw new RangeError(`no verdict while ${traces.pending} of the traces are pending`);
  if (exceptions.length > 0) return 'verified-with-exceptions';
  return traces.matched === 0 && given.resolved === 0 ? 'nothing-found' : 'verified';
}

/** What an end is told by. */
export interface EndSums {
  readonly given: GivenLedger;
  readonly traces: TraceLedger;
}

/** What lanes that have ended could not show to be gone and do not keep on purpose, in words; empty: nothing of the kind. */
export function unprovenInWords(lanes: readonly EndSums[]): string {
  const total = (count: (lane: EndSums) => number): number => lanes.reduce((sum, lane) => sum + count(lane), 0);
  const unreadable = total(({ traces }) => traces.inconclusive);
  const survived = total(({ traces }) => traces.survived);
  const unresolved = total(({ given }) => given.unresolved);
  return [
    ...(unreadable === 0 ? [] : [`${formatTraces(unreadable)} could not be read either way`]),
    ...(survived === 0 ? [] : [`${formatTraces(survived)} still readable`]),
    ...(unresolved === 0 ? [] : [`${formatNoun(unresolved, 'given id')} could not be looked up`]),
  ].join(', ');
}

/**
 * A lane's end in words. The name of a verdict is what scripts go by, and sounds better than some ends that bear it: what
 * is unproven stands first, and where nothing is shown to be gone nothing is called verified.
 */
export function endInWords(verdict: Verdict, { given, traces }: EndSums): string {
  const gone = traces.verifiedAbsent + traces.goneBeforeSubmit;
  switch (verdict) {
    case 'verified':
      return `verified: ${formatTraces(gone)} gone`;
    case 'nothing-found':
      return 'nothing found';
    case 'abandoned':
      return `abandoned: ${formatTraces(traces.abandoned)} not proven gone`;
    case 'verified-with-exceptions': {
      const unproven = unprovenInWords([{ given, traces }]);
      if (unproven === '' && traces.matched === 0) return 'no trace found';
      const kept = traces.shared + traces.linked + (traces.newActivity ?? 0);
      const words = [
        ...(unproven === '' ? [] : [unproven]),
        gone === 0 ? 'no trace is shown to be gone' : `${formatTraces(gone)} gone`,
        ...(kept === 0 ? [] : [`${formatTraces(kept)} kept`]),
      ].join(', ');
      return unproven === '' && gone > 0 ? `verified with exceptions: ${words}` : words;
    }
  }
}

/**
 * The exceptions that follow from the sums alone.
 *
 * @param accepted limits the controller accepted in the config, by name of copy kind or exception kind; they are
 *   listed in the evidence and are no exception.
 */
export function exceptionsFromLedgers(
  given: GivenLedger,
  traces: TraceLedger,
  copies: CopyLedger,
  accepted: readonly string[],
): readonly LaneException[] {
  const notExamined = copies.notExamined.filter((kind) => !accepted.includes(kind));
  const rows: readonly LaneException[] = [
    {
      kind: 'survived',
      count: traces.survived,
      text: `${formatTraces(traces.survived)} submitted and still readable`,
    },
    {
      kind: 'shared',
      count: traces.shared,
      text: formatNoun(
        traces.shared,
        'trace carries other people too and was kept',
        'traces carry other people too and were kept',
      ),
    },
    {
      kind: 'linked',
      count: traces.linked,
      text: formatNoun(
        traces.linked,
        "trace carries nobody's identifier, and was kept for want of consent",
        "traces carry nobody's identifier, and were kept for want of consent",
      ),
    },
    {
      kind: 'new-activity',
      count: traces.newActivity ?? 0,
      text: `${formatNoun(traces.newActivity ?? 0, 'trace', 'traces')} began after this request's cut-off, its receipt plus the policy's grace: not covered by it, and kept`,
    },
    {
      kind: 'inconclusive',
      count: traces.inconclusive,
      text: `${formatTraces(traces.inconclusive)} could not be read either way`,
    },
    {
      kind: 'unresolved',
      count: given.unresolved,
      text: `${formatNoun(given.unresolved, 'id', 'ids')} given could not be looked up`,
    },
    {
      kind: 'manual-copies',
      count: copies.manual,
      text: `${formatNoun(copies.manual, 'copy', 'copies')} elsewhere in the store must be erased by hand`,
    },
    {
      kind: 'out-of-reach',
      count: copies.outOfReach,
      text: `${formatNoun(copies.outOfReach, 'copy', 'copies')} outside the store's API`,
    },
    {
      kind: 'inconclusive-copies',
      count: copies.inconclusive,
      text: `${formatNoun(copies.inconclusive, 'copy', 'copies')} could not be read either way`,
    },
    { kind: 'not-examined', count: notExamined.length, text: `not examined: ${notExamined.join(', ')}` },
  ];
  return rows.filter((row) => row.count > 0 && !accepted.includes(row.kind));
}
