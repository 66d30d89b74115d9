import { Random } from './ids.ts';
import type { View } from './rows.ts';

/** What kind of work a route does: reads of any sort, destructive calls, and everything that writes otherwise. */
export type RouteFamily = 'reads' | 'deletes' | 'writes';

/** Where a habit applies: a family, every route, or the route templates named (`/api/v2/runs/query`). */
export type HabitScope = RouteFamily | 'all' | readonly string[];

/** When a habit strikes. With several given, all must agree; with none, always. */
export interface Occasion {
  /** Strikes every n-th fitting request (the n-th, 2n-th, ...). */
  readonly every?: number;
  /** Strikes this share of fitting requests, 0..1, drawn from the seed. */
  readonly share?: number;
  /** Strikes at most so often, then is over. */
  readonly count?: number;
  /** Default `all`. The control plane (`/_simulator/...`) is never struck. */
  readonly on?: HabitScope;
}

/** Bad habits, all off by default. Each is a thing real services were seen doing, or plausibly do. */
export interface LangSmithHabits {
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
  /** 429, with `Retry-After` in seconds or (`null`) without the header. */
  throttle: (Occasion & { readonly retryAfter: number | null }) | null;
  /** 5xx (default 500) as JSON; `after` lets the effect happen before the error is answered. */
  serverErrors: (Occasion & { readonly status?: number; readonly after?: boolean }) | null;
  /** The connection is cut before anything happened. */
  resetBefore: Occasion | null;
  /** The connection is cut after the effect: the caller can't know whether it happened. */
  resetAfter: Occasion | null;
  /** Real milliseconds that pass before a request is looked at. */
  slow: (Occasion & { readonly ms: number }) | null;
  /**
   * Reads answer 200 with nothing in it: `all` reads of runs, traces, threads, feedback and examples (a single run is a
   * 404), or only `filter` queries. `view` limits it to one view; `projects` blinds the project lists too.
   */
  blind: { readonly what: 'all' | 'filter'; readonly view?: View; readonly projects?: boolean } | null;
  /** Reads of runs and feedback show the state of so many virtual milliseconds ago. Default 0. */
  stale: number;
  /**
   * For each of the next `count` traces a batch deletes, a new trace with the same metadata, tags and project appears
   * `delayMs` (default one hour) after that batch, starting then.
   */
  lateTraces: { readonly count: number; readonly delayMs?: number } | null;
  /** For each of the next `count` deleted traces, a late child run turns up under the deleted trace id. */
  lateRuns: { readonly count: number; readonly delayMs?: number } | null;
  /** Every key is refused: 401 or 403; `true` means 403. */
  keyRevoked: boolean | 401 | 403;
  /** An HTML page instead of the answer, before any effect: status 502 by default, 200 if wanted. */
  htmlErrors: (Occasion & { readonly status?: number }) | null;
  /** Answers carry fields that no document names. */
  extraFields: boolean;
  /** Fields dropped from answers, at the top and in each row. */
  missingFields: readonly string[];
  /** A delete whose batch holds one of these ids is refused as a whole; status 422 by default. */
  rejectBatchWith: { readonly ids: readonly string[]; readonly status?: number } | null;
  /**
   * Page cursors are offsets into whatever matches at that moment. `by` more rows are skipped at each further page (as if
   * that many had vanished), or repeated when negative (as if they had appeared). 0: only real changes shift.
   */
  shiftingPages: { readonly by: number } | null;
  /** The deprecated v1 read routes are gone. */
  v1Gone: false | 404 | 410;
  /** The body ends midway: `cut` is well-formed HTTP with half the text, `drop` breaks the connection. Default `cut`. */
  truncateBody: (Occasion & { readonly how?: 'cut' | 'drop' }) | null;
  /** `filter` (and its tree and trace forms) is silently ignored: everybody's runs come back. */
  queryFilterIgnored: boolean;
  /** What `in(trace_id, [...])` does in a filter: works, 400, or matches nothing. */
  traceIdFilter: 'supported' | 'rejected' | 'ignored';
  /** How far the `Date` header is off, milliseconds. */
  dateSkewMs: number;
  /** Metadata mode of runs/delete: works (OR over the whole workspace), or 403 as in workspaces where it's switched off. */
  metadataDeletes: 'allowed' | 'forbidden';
  /** Feedback survives the deletion of its trace. */
  keepFeedback: boolean;
  /** Public links survive the deletion of their trace. */
  keepShares: boolean;
}

/** All habits off. */
const NO_HABITS: LangSmithHabits = {
  skipWeekends: 0,
  dropShare: 0,
  leaveChildren: false,
  viewLag: null,
  throttle: null,
  serverErrors: null,
  resetBefore: null,
  resetAfter: null,
  slow: null,
  blind: null,
  stale: 0,
  lateTraces: null,
  lateRuns: null,
  keyRevoked: false,
  htmlErrors: null,
  extraFields: false,
  missingFields: [],
  rejectBatchWith: null,
  shiftingPages: null,
  v1Gone: false,
  truncateBody: null,
  queryFilterIgnored: false,
  traceIdFilter: 'supported',
  dateSkewMs: 0,
  metadataDeletes: 'allowed',
  keepFeedback: false,
  keepShares: false,
};

/** Habits that strike by occasion. */
export type OccasionalHabit =
  'throttle' | 'serverErrors' | 'resetBefore' | 'resetAfter' | 'slow' | 'htmlErrors' | 'truncateBody';

/** The part of a request that decides whether a habit applies to it. */
export interface HabitTarget {
  readonly family: RouteFamily;
  readonly template: string;
}

function inScope(scope: HabitScope | undefined, target: HabitTarget): boolean {
  if (scope === undefined || scope === 'all') return true;
  return typeof scope === 'string' ? scope === target.family : scope.includes(target.template);
}

/** The switches of a running simulator. */
export class HabitSwitches {
  #habits: LangSmithHabits = NO_HABITS;
  readonly #random: Random;
  readonly #seen = new Map<OccasionalHabit, number>();
  readonly #struck = new Map<OccasionalHabit, number>();
  #lateTraces = 0;
  #lateRuns = 0;
  #skipsLeft = 0;

  constructor(seed: number) {
    this.#random = new Random(seed ^ 0x5eed);
  }

  /** The habits now in force. */
  get current(): Readonly<LangSmithHabits> {
    return this.#habits;
  }

  /**
   * Changes some habits and leaves the others; the counts of those named start over.
   *
   * @throws TypeError on a name that is no habit.
   */
  set(changes: Partial<LangSmithHabits>): void {
    for (const name of Object.keys(changes)) {
      if (!(name in NO_HABITS)) throw new TypeError(`unknown habit: ${name}`);
      this.#seen.delete(name as OccasionalHabit);
      this.#struck.delete(name as OccasionalHabit);
    }
    this.#habits = { ...this.#habits, ...changes };
    if ('lateTraces' in changes) this.#lateTraces = changes.lateTraces?.count ?? 0;
    if ('lateRuns' in changes) this.#lateRuns = changes.lateRuns?.count ?? 0;
    if ('skipWeekends' in changes) this.#skipsLeft = changes.skipWeekends ?? 0;
  }

  /** Turns every habit off. */
  reset(): void {
    this.#habits = NO_HABITS;
    this.#seen.clear();
    this.#struck.clear();
    this.#lateTraces = 0;
    this.#lateRuns = 0;
    this.#skipsLeft = 0;
  }

  /** Whether an occasional habit strikes this request; counts it if so. */
  strikes<K extends OccasionalHabit>(name: K, target: HabitTarget): LangSmithHabits[K] | null {
    const habit = this.#habits[name];
    if (habit === null || !inScope(habit.on, target)) return null;
    const struck = this.#struck.get(name) ?? 0;
    if (habit.count !== undefined && struck >= habit.count) return null;
    const seen = (this.#seen.get(name) ?? 0) + 1;
    this.#seen.set(name, seen);
    if (habit.every !== undefined && seen % habit.every !== 0) return null;
    if (habit.share !== undefined && this.#random.next() >= habit.share) return null;
    this.#struck.set(name, struck + 1);
    return habit;
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
    return this.#habits.lateTraces?.delayMs ?? HOUR;
  }

  /** Takes one late run; its delay in milliseconds, or `null` when none is left. */
  takeLateRun(): number | null {
    if (this.#lateRuns <= 0) return null;
    this.#lateRuns -= 1;
    return this.#habits.lateRuns?.delayMs ?? HOUR;
  }

  /** Whether reads of that view (`null`: of neither) come back empty. */
  isBlind(view: View | null, filtered: boolean): boolean {
    const { blind } = this.#habits;
    if (blind === null || (blind.view !== undefined && blind.view !== view)) return false;
    return blind.what === 'all' || filtered;
  }
}

const HOUR = 3_600_000;

/** Habits as JSON, which has no Infinity: it travels as the text "Infinity". */
export function habitsToJson(habits: Readonly<LangSmithHabits>): unknown {
  return JSON.parse(JSON.stringify(habits, (_key, value: unknown) => (value === Infinity ? 'Infinity' : value)));
}

/** The other way round. */
export function habitsFromJson(text: string): Partial<LangSmithHabits> {
  const parsed: unknown = JSON.parse(text, (_key, value: unknown) => (value === 'Infinity' ? Infinity : value));
  if (typeof parsed !== 'object' || parsed === null) throw new TypeError('habits must be an object');
  return parsed;
}
