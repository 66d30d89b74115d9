import { NO_COMMON_HABITS, Switches, type CommonHabits, type HabitTarget, type Occasion } from '../common/habits.ts';
import { HOUR_MS } from '../common/time.ts';

/** What a revived row carries: see `BraintrustHabits.lateMerges`. */
export type LateMergeForm = 'bare' | 'metadata' | 'trace';

/** Bad habits, all off by default. Times are virtual milliseconds. */
export interface BraintrustHabits extends CommonHabits {
  /** A tombstone shows in reads only so long after it was written; `Infinity`: never. Recorded all the same. */
  tombstoneDelayMs: number;
  /** Share (0..1) of the ids of each delete that is silently lost, drawn anew for every request. */
  dropShare: number;
  /** A deleted row shows again `afterMs` (default 1000) after it had vanished, for `forMs`, then vanishes for good. */
  reappear: { readonly afterMs?: number; readonly forMs: number } | null;
  /** Reads show, and call processed, only what is older than this; the newest transaction stays the considered one. */
  freshnessLagMs: number;
  /** Answers carry no `freshness_state`. */
  freshnessAbsent: boolean;
  /** The engine gives up on the live tail: `realtime_state.type` is `exhausted_timeout` and only indexed writes show. */
  realtimeExhausted: boolean;
  /** Projects (ids or names; `true`: all) whose settings disable realtime reads: only indexed writes show. */
  realtimeDisabled: boolean | readonly string[];
  /** Reads don't know inserts and merges younger than this and say that they are fresh; tombstones they know. */
  unawareMs: number;
  /** Reads show the state of so long ago and say that they are fresh. */
  stale: number;
  /** For each of the next `count` rows a delete hides, a producer's merge row for that id arrives `delayMs` (default 1 h) later. */
  lateMerges: { readonly count: number; readonly delayMs?: number; readonly form?: LateMergeForm } | null;
  /** For each of the next `count` traces a delete touches, a new trace with the same metadata and tags arrives later. */
  lateTraces: { readonly count: number; readonly delayMs?: number } | null;
  /** For each of the next `count` traces a delete touches, a late child span arrives under its root id; it carries the metadata unless `bare`. */
  lateSpans: { readonly count: number; readonly delayMs?: number; readonly bare?: boolean } | null;
  /** From the moment of the switch, so many milliseconds of 401 for every key on the routes in `on` (as a habit's scope). */
  false401: (Pick<Occasion, 'on'> & { readonly forMs: number }) | null;
  /** Rows (or traces) that a query without a limit brings. The vendor's number is undocumented; `null`: 100. */
  defaultLimit: number | null;
  /** Rows whose `created` is older than so many days are hidden from reads; they are there all the same. */
  retentionDays: number | null;
  /** The filter of a query is silently ignored. */
  filterIgnored: boolean;
  /**
   * Queries answer 200 with nothing in it: `all`, those with a filter, those filtering by something other than ids,
   * times and keys of rows (`person`), or those filtering by ids (`ids`). `projects` empties the project list too.
   */
  blind: { readonly what: 'all' | 'filter' | 'person' | 'ids' | 'none'; readonly projects?: boolean } | null;
  /** Page cursors are offsets into what matches at that moment; `by` more rows are skipped (negative: repeated) at each page. */
  shiftingPages: { readonly by: number } | null;
  /** What a delete answers as `row_ids`: the input, without its last id, ids never sent, or in reverse order. */
  rowIds: 'echo' | 'fewer' | 'other' | 'reversed';
  /** An insert that holds one of these row ids is refused as a whole; status 400 by default. */
  rejectBatchWith: { readonly ids: readonly string[]; readonly status?: number } | null;
  /** An insert of more events is refused as a whole; status 413 by default. */
  rejectLargerThan: { readonly events: number; readonly status?: number } | null;
  /** Queries of project logs without a range bound end in 504, as they do where the history is long. */
  unboundedTimesOut: boolean;
  /** Comments show only in the `comments` field of their row, not as rows. */
  commentRowsHidden: boolean;
  /** Answers of reads name each row that matched twice. */
  repeatedRows: boolean;
}

const NO_HABITS: BraintrustHabits = {
  ...NO_COMMON_HABITS,
  tombstoneDelayMs: 0,
  dropShare: 0,
  reappear: null,
  freshnessLagMs: 0,
  freshnessAbsent: false,
  realtimeExhausted: false,
  realtimeDisabled: false,
  unawareMs: 0,
  stale: 0,
  lateMerges: null,
  lateTraces: null,
  lateSpans: null,
  false401: null,
  defaultLimit: null,
  retentionDays: null,
  filterIgnored: false,
  blind: null,
  shiftingPages: null,
  rowIds: 'echo',
  rejectBatchWith: null,
  rejectLargerThan: null,
  unboundedTimesOut: false,
  commentRowsHidden: false,
  repeatedRows: false,
};

const LATE = ['lateMerges', 'lateTraces', 'lateSpans'] as const;
type LateHabit = (typeof LATE)[number];

/** The switches of a running simulator. */
export class HabitSwitches extends Switches<BraintrustHabits> {
  readonly #now: () => number;
  readonly #late = new Map<LateHabit, number>();
  #refuseUntilMs = -Infinity;

  constructor(seed: number, now: () => number) {
    super(NO_HABITS, seed);
    this.#now = now;
  }

  override set(changes: Partial<BraintrustHabits>): void {
    super.set(changes);
    for (const name of LATE) if (name in changes) this.#late.set(name, changes[name]?.count ?? 0);
    if ('false401' in changes) this.#refuseUntilMs = this.#now() + (changes.false401?.forMs ?? 0);
  }

  override reset(): void {
    super.reset();
    this.#late.clear();
    this.#refuseUntilMs = -Infinity;
  }

  /** Whether a burst of false 401s is on for that route. */
  refuses(target: HabitTarget): boolean {
    const on = this.current.false401?.on ?? 'all';
    if (this.#now() >= this.#refuseUntilMs) return false;
    return on === 'all' || (typeof on === 'string' ? on === target.family : on.includes(target.template));
  }

  /** Takes one late arrival of that kind; its delay in milliseconds, or `null` when none is left. */
  takeLate(name: LateHabit): number | null {
    const left = this.#late.get(name) ?? 0;
    if (left <= 0) return null;
    this.#late.set(name, left - 1);
    return this.current[name]?.delayMs ?? HOUR_MS;
  }

  /** Whether queries with such a filter come back empty. */
  isBlind(filter: { readonly present: boolean; readonly byPerson: boolean; readonly byIds: boolean }): boolean {
    switch (this.current.blind?.what) {
      case 'all':
        return true;
      case 'filter':
        return filter.present;
      case 'person':
        return filter.byPerson;
      case 'ids':
        return filter.byIds;
      case 'none':
      case undefined:
        return false;
    }
  }
}
