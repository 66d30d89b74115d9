import { Random } from './ids.ts';

/** What kind of work a route does: reads of any sort, destructive calls, and everything that writes otherwise. */
export type RouteFamily = 'reads' | 'deletes' | 'writes';

/** Where a habit applies: a family, every route, or the route templates named (as the ledger writes them). */
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

/** Bad habits that any service over HTTP may have. */
export interface CommonHabits {
  /** 429, with `Retry-After` in seconds or (`null`) without the header. */
  throttle: (Occasion & { readonly retryAfter: number | null }) | null;
  /** 5xx (default 500); `after` lets the effect happen before the error is answered. */
  serverErrors: (Occasion & { readonly status?: number; readonly after?: boolean }) | null;
  /** The connection is cut before anything happened. */
  resetBefore: Occasion | null;
  /** The connection is cut after the effect: the caller can't know whether it happened. */
  resetAfter: Occasion | null;
  /** Real milliseconds that pass before a request is looked at. */
  slow: (Occasion & { readonly ms: number }) | null;
  /** An HTML page instead of the answer, before any effect: status 502 by default, 200 if wanted. */
  htmlErrors: (Occasion & { readonly status?: number }) | null;
  /** The body ends midway: `cut` is well-formed HTTP with half the text, `drop` breaks the connection. Default `cut`. */
  truncateBody: (Occasion & { readonly how?: 'cut' | 'drop' }) | null;
  /** Answers carry fields that no document names. */
  extraFields: boolean;
  /** Fields dropped from answers, at the top and in each row. */
  missingFields: readonly string[];
  /** Every key is refused: 401 or 403; `true` means 403. */
  keyRevoked: boolean | 401 | 403;
  /** How far the `Date` header is off, milliseconds. */
  dateSkewMs: number;
}

/** All of them off. */
export const NO_COMMON_HABITS: CommonHabits = {
  throttle: null,
  serverErrors: null,
  resetBefore: null,
  resetAfter: null,
  slow: null,
  htmlErrors: null,
  truncateBody: null,
  extraFields: false,
  missingFields: [],
  keyRevoked: false,
  dateSkewMs: 0,
};

/** The names of a simulator's habits that strike by occasion: the common ones, and its own of that kind. */
export type OccasionalHabit<H> = { [K in keyof H]: H[K] extends Occasion | null ? K : never }[keyof H] & string;

/** The part of a request that decides whether a habit applies to it. */
export interface HabitTarget {
  readonly family: RouteFamily;
  readonly template: string;
}

/** Whether a scope covers a request. */
export function inScope(scope: HabitScope | undefined, target: HabitTarget): boolean {
  if (scope === undefined || scope === 'all') return true;
  return typeof scope === 'string' ? scope === target.family : scope.includes(target.template);
}

/** The switches of a running simulator, all off at the start. */
export class Switches<H extends CommonHabits> {
  readonly #off: H;
  readonly #random: Random;
  readonly #seen = new Map<string, number>();
  readonly #struck = new Map<string, number>();
  #habits: H;

  constructor(off: H, seed: number) {
    this.#off = off;
    this.#habits = off;
    this.#random = new Random(seed ^ 0x5eed);
  }

  /** The habits now in force. */
  get current(): Readonly<H> {
    return this.#habits;
  }

  /**
   * Changes some habits and leaves the others; the counts of those named start over.
   *
   * @throws TypeError on a name that is no habit.
   */
  set(changes: Partial<H>): void {
    for (const name of Object.keys(changes)) {
      if (!(name in this.#off)) throw new TypeError(`unknown habit: ${name}`);
      this.#seen.delete(name);
      this.#struck.delete(name);
    }
    this.#habits = { ...this.#habits, ...changes };
  }

  /** Turns every habit off. */
  reset(): void {
    this.#habits = this.#off;
    this.#seen.clear();
    this.#struck.clear();
  }

  /** Whether an occasional habit strikes this request; counts it if so. */
  strikes<K extends OccasionalHabit<H>>(name: K, target: HabitTarget): H[K] | null {
    const habit = this.#habits[name];
    const occasion = habit as Occasion | null;
    if (occasion === null || !inScope(occasion.on, target)) return null;
    const struck = this.#struck.get(name) ?? 0;
    if (occasion.count !== undefined && struck >= occasion.count) return null;
    const seen = (this.#seen.get(name) ?? 0) + 1;
    this.#seen.set(name, seen);
    if (occasion.every !== undefined && seen % occasion.every !== 0) return null;
    if (occasion.share !== undefined && this.#random.next() >= occasion.share) return null;
    this.#struck.set(name, struck + 1);
    return habit;
  }
}

/** Habits as JSON, which has no Infinity: it travels as the text "Infinity". */
export function habitsToJson(habits: object): unknown {
  return JSON.parse(JSON.stringify(habits, (_key, value: unknown) => (value === Infinity ? 'Infinity' : value)));
}

/** The other way round. @throws TypeError when it is no object. */
export function habitsFromJson(text: string): object {
  const parsed: unknown = JSON.parse(text, (_key, value: unknown) => (value === 'Infinity' ? Infinity : value));
  if (typeof parsed !== 'object' || parsed === null) throw new TypeError('habits must be an object');
  return parsed;
}
