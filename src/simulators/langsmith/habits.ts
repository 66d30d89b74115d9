import { NO_COMMON_HABITS, Switches, type CommonHabits, type Occasion } from '../common/habits.ts';
import { HOUR_MS } from '../common/time.ts';
import type { View } from './rows.ts';

/** Bad habits, all off by default. Each is a thing real services were seen doing, or plausibly do. */
export interface LangSmithHabits extends CommonHabits {
  /**
   * So many weekends pass without a batch ("accepted, never executed" with `Infinity`). Waiting deletions stay queued
   * and run in the first weekend that isn't skipped. Default 0.
   */
  skipWeekends: number;
  /** Share (0..1) of the trace ids of each submission that is silently dropped, drawn anew for every submission. */
  dropShare: number;
  /** The batch removes roots and leaves the children: later submissions find and remove those once this is off. */
  leaveChildren: boolean;
  /** A deletion that ran shows in this view only so many weeks later. */
  viewLag: { readonly view: View; readonly weeks: number } | null;
  /**
   * Reads answer 200 with nothing in it: `all` reads of runs, traces, threads, feedback and examples (a single run is a
   * 404), or only `filter` queries. `view` limits it to one view; `projects` blinds the project lists too.
   */
  blind: { readonly what: 'all' | 'filter'; readonly view?: View; readonly projects?: boolean } | null;
  /** Reads of runs and feedback show the state of so many virtual milliseconds ago. Default 0. */
  stale: number;
  /**
   * For each of the next `count` traces a batch deletes, a new trace with the same metadata, tags and project appears
   * `delayMs` (default one hour) after that batch: late data, which started with the deleted trace.
   */
  lateTraces: { readonly count: number; readonly delayMs?: number } | null;
  /** For each of the next `count` deleted traces, a late child run turns up under the deleted trace id. */
  lateRuns: { readonly count: number; readonly delayMs?: number } | null;
  /** A delete whose batch holds one of these ids is refused as a whole; status 422 by default. */
  rejectBatchWith: { readonly ids: readonly string[]; readonly status?: number } | null;
  /**
   * Page cursors are offsets into whatever matches at that moment. `by` more rows are skipped at each further page (as if
   * that many had vanished), or repeated when negative (as if they had appeared). 0: only real changes shift.
   */
  shiftingPages: { readonly by: number } | null;
  /** The deprecated v1 read routes are gone. */
  v1Gone: false | 404 | 410;
  /** `filter` (and its tree and trace forms) is silently ignored: everybody's runs come back. */
  queryFilterIgnored: boolean;
  /** What `in(trace_id, [...])` does in a filter: works, 400, or matches nothing. */
  traceIdFilter: 'supported' | 'rejected' | 'ignored';
  /** Metadata mode of runs/delete: works (OR over the whole workspace), or 403 as in workspaces where it's switched off. */
  metadataDeletes: 'allowed' | 'forbidden';
  /** Feedback survives the deletion of its trace. */
  keepFeedback: boolean;
  /**
   * Deletes of examples, shares, queue items and feedback answer success and do nothing (`ignored`), or for examples only the
   * soft delete although a hard one was asked for (`soft`).
   */
  copyDeletes: (Occasion & { readonly how: 'ignored' | 'soft' }) | null;
  /** Public links survive the deletion of their trace. */
  keepShares: boolean;
}

/** All habits off. */
const NO_HABITS: LangSmithHabits = {
  ...NO_COMMON_HABITS,
  skipWeekends: 0,
  dropShare: 0,
  leaveChildren: false,
  viewLag: null,
  blind: null,
  stale: 0,
  lateTraces: null,
  lateRuns: null,
  rejectBatchWith: null,
  shiftingPages: null,
  v1Gone: false,
  queryFilterIgnored: false,
  traceIdFilter: 'supported',
  metadataDeletes: 'allowed',
  keepFeedback: false,
  copyDeletes: null,
  keepShares: false,
};

/** The switches of a running simulator. */
export class HabitSwitches extends Switches<LangSmithHabits> {
  #lateTraces = 0;
  #lateRuns = 0;
  #skipsLeft = 0;

  constructor(seed: number) {
    super(NO_HABITS, seed);
  }

  override set(changes: Partial<LangSmithHabits>): void {
    super.set(changes);
    if ('lateTraces' in changes) this.#lateTraces = changes.lateTraces?.count ?? 0;
    if ('lateRuns' in changes) this.#lateRuns = changes.lateRuns?.count ?? 0;
    if ('skipWeekends' in changes) this.#skipsLeft = changes.skipWeekends ?? 0;
  }

  override reset(): void {
    super.reset();
    this.#lateTraces = 0;
    this.#lateRuns = 0;
    this.#skipsLeft = 0;
  }

  /** Takes one of the weekends that are to be skipped; false when none is left. */
  takeSkip(): boolean {
    if (this.#skipsLeft <= 0) return false;
    this.#skipsLeft -= 1;
    return true;
  }

  /** Takes one late trace; its delay in milliseconds, or `null` when none is left. */
  takeLateTrace(): number | null {
    if (this.#lateTraces <= 0) return null;
    this.#lateTraces -= 1;
    return this.current.lateTraces?.delayMs ?? HOUR_MS;
  }

  /** Takes one late run; its delay in milliseconds, or `null` when none is left. */
  takeLateRun(): number | null {
    if (this.#lateRuns <= 0) return null;
    this.#lateRuns -= 1;
    return this.current.lateRuns?.delayMs ?? HOUR_MS;
  }

  /** Whether reads of that view (`null`: of neither) come back empty. */
  isBlind(view: View | null, filtered: boolean): boolean {
    const { blind } = this.current;
    if (blind === null || (blind.view !== undefined && blind.view !== view)) return false;
    return blind.what === 'all' || filtered;
  }
}
