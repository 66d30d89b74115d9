import type { Clock } from '../../erasure/clock.ts';
import { virtualNow } from '../../erasure/clock.ts';
import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';

/** Answers kept at most. */
const MOST_KEPT = 10_000;
/**
 * However fast a simulated clock runs, an answer is used for so many real milliseconds: else it would be too old before
 * those who wait for it had made their next call.
 */
const LEAST_KEPT_MS = 100;

/**
 * Oldest look that a deletion may follow, real milliseconds: a simulated clock may make minutes of the time that a call
 * takes, and no look would ever be young enough.
 */
export const MOST_AGE_MS = 2 * MINUTE_MS;

/** Thrown at the last word when the look is too old by then. Reaches nobody. */
export class TooLate extends Error {}

/** Whether an error is about the one who made the call: told to stop, or without a turn for now. Others may try. */
export function isOwn(error: unknown): boolean {
  return !(error instanceof StoreError) || (error.reason === 'throttled' && error.status === null);
}

/**
 * Answers that everybody may use for a short time, each asked for once: whoever comes while it is being asked for waits
 * for the same one. Failures are not kept.
 */
export class Shared {
  readonly #clock: Clock;
  readonly #kept = new Map<string, { untilMs: number; readonly answer: Promise<unknown> }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param forMs how long an answer is used after it came, virtual milliseconds.
   * @param leastMs and so many real ones at least, where a simulated clock makes less of it.
   * @throws whatever `make` throws; an error that is another asker's own makes this one ask by himself.
   */
  async get<T>(key: string, forMs: number, make: () => Promise<T>, leastMs = LEAST_KEPT_MS): Promise<T> {
    for (;;) {
      const known = this.#kept.get(key);
      if (known === undefined || known.untilMs <= virtualNow(this.#clock)) break;
      try {
        return (await known.answer) as T;
      } catch (error) {
        if (!isOwn(error)) throw error;
      }
    }
    if (this.#kept.size >= MOST_KEPT) this.#forget();
    const answer = make();
    const mine = { untilMs: Number.POSITIVE_INFINITY, answer };
    this.#kept.set(key, mine);
    try {
      const made = await answer;
      mine.untilMs = virtualNow(this.#clock) + Math.max(forMs, leastMs * (this.#clock?.speed ?? 0));
      return made;
    } catch (error) {
      if (this.#kept.get(key) === mine) this.#kept.delete(key);
      throw error;
    }
  }

  #forget(): void {
    const nowMs = virtualNow(this.#clock);
    for (const [key, { untilMs }] of this.#kept) {
      if (untilMs <= nowMs || this.#kept.size >= MOST_KEPT) this.#kept.delete(key);
    }
  }
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Puts questions together that come in the same moment, as those of people who are erased side by side do. The first who
 * asked makes the calls; where an error is his own, the next one does.
 */
export class Together<Item extends { readonly tally: Tally }, Answer> {
  readonly #carry: (tally: Tally, key: string, items: readonly Item[]) => Promise<Answer>;
  readonly #waiting = new Map<string, Waiting<Item, Answer>[]>();

  /** @param carry answers the questions of one key at once. */
  constructor(carry: (tally: Tally, key: string, items: readonly Item[]) => Promise<Answer>) {
    this.#carry = carry;
  }

  /** @throws whatever `carry` throws. */
  ask(key: string, item: Item): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined) waiting.push({ item, resolve, reject });
    else {
      this.#waiting.set(key, [{ item, resolve, reject }]);
      setImmediate(() => void this.#leave(key));
    }
    return promise;
  }

  async #leave(key: string): Promise<void> {
    let open = this.#waiting.get(key) ?? [];
    this.#waiting.delete(key);
    for (let [first] = open; first !== undefined; [first] = open) {
      try {
        const answer = await this.#carry(
          first.item.tally,
          key,
          open.map(({ item }) => item),
        );
        for (const { resolve } of open) resolve(answer);
        return;
      } catch (error) {
        const failed = isOwn(error) ? [first] : open;
        for (const { reject } of failed) reject(error);
        open = open.slice(failed.length);
      }
    }
  }
}
