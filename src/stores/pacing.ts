import type { Clock } from '../erasure/clock.ts';
import { realSpanMs, virtualNow } from '../erasure/clock.ts';
import { StoreError } from './port.ts';
import type { Progress } from './port.ts';

/** At most so many calls in any span of so many virtual milliseconds. */
export interface Limit {
  readonly calls: number;
  readonly perMs: number;
}

/** Longest turn that is waited for, real milliseconds: beyond it the workflow sleeps, not the activity. */
const MOST_WAIT_MS = 20_000;
/** Calls of one shape that a step makes as a rule: the reads of an ordinary person. */
const CALLS_OF_A_STEP = 6;
/** Longest sleep between two looks at the queue, real milliseconds. */
const LOOK_MS = 200;

export interface TurnRequest<Shape extends string> {
  readonly shape: Shape;
  readonly route: string;
  /** Order of the reads: an older read goes first, so that long ones end instead of starving each other. */
  readonly seniority: number;
  readonly progress?: Progress;
}

interface Ticket {
  readonly seniority: number;
}

/** One limit with its places. A place is taken when a call leaves, and free again one span after the call has ended. */
class Gate {
  readonly limit: Limit;
  /** Virtual epoch milliseconds from when each place is free; Infinity while its call is under way. */
  readonly freeAtMs: number[];
  closedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(limit: Limit) {
    this.limit = limit;
    this.freeAtMs = new Array<number>(limit.calls).fill(Number.NEGATIVE_INFINITY);
  }

  /** When a place for the nth waiter (from 0) is free, virtual epoch milliseconds; calls under way count as ending now. */
  readyAtMs(waiter: number, nowMs: number): number {
    const { calls, perMs } = this.limit;
    const soonest = this.freeAtMs
      .map((at) => (at === Number.POSITIVE_INFINITY ? nowMs + perMs : at))
      .sort((a, b) => a - b);
    const place = soonest[waiter % calls] ?? nowMs;
    return Math.max(place + Math.floor(waiter / calls) * perMs, this.closedUntilMs);
  }

  freePlace(nowMs: number): number {
    return this.closedUntilMs > nowMs ? -1 : this.freeAtMs.findIndex((at) => at <= nowMs);
  }
}

/**
 * Keeps every caller of one connection within the store's limits, by shape of call, on the virtual clock.
 *
 * A span is counted from the end of a call, not from its start: the store counts the call somewhere in between, so no
 * fixed or sliding window of the store's ever sees more calls than its limit, however late they arrive. A token bucket
 * of the same rate would let up to twice as many through.
 */
export class Pacer<Shape extends string> {
  readonly #clock: Clock;
  readonly #gates: ReadonlyMap<Shape, readonly Gate[]>;
  readonly #queues = new Map<Shape, Ticket[]>();
  /** Until when steps that were sent away may need the turns; the next one comes after them. */
  readonly #bookedMs = new Map<Shape, number>();

  /** @param limits limits by name; the shapes name those that each of them is subject to. */
  constructor(
    limits: Readonly<Record<string, Limit>>,
    shapes: Readonly<Record<Shape, readonly string[]>>,
    clock: Clock,
  ) {
    this.#clock = clock;
    const gates = new Map(Object.entries(limits).map(([name, limit]) => [name, new Gate(limit)]));
    this.#gates = new Map(
      (Object.entries(shapes) as [Shape, readonly string[]][]).map(([shape, names]) => [
        shape,
        names.flatMap((name) => gates.get(name) ?? []),
      ]),
    );
  }

  /**
   * Waits for a turn.
   *
   * @returns a function to call when the call has ended.
   * @throws StoreError `throttled` with `notBeforeMs` when the turn is more than 20 real seconds away; whatever
   *   `progress` throws.
   */
  async take(request: TurnRequest<Shape>): Promise<() => void> {
    const gates = this.#gates.get(request.shape) ?? [];
    const queue = this.#queues.get(request.shape) ?? [];
    this.#queues.set(request.shape, queue);
    const ticket: Ticket = { seniority: request.seniority };
    const after = queue.findIndex(({ seniority }) => seniority > request.seniority);
    queue.splice(after === -1 ? queue.length : after, 0, ticket);
    const waitingSince = Date.now();
    try {
      for (;;) {
        const nowMs = virtualNow(this.#clock);
        const waiter = queue.indexOf(ticket);
        if (waiter === 0) {
          const places = gates.map((gate) => gate.freePlace(nowMs));
          if (places.every((place) => place >= 0)) return this.#occupy(gates, places);
        }
        const readyAtMs = Math.max(nowMs, ...gates.map((gate) => gate.readyAtMs(waiter, nowMs)));
        const waitMs = realSpanMs(this.#clock, readyAtMs - nowMs);
        if (Date.now() - waitingSince + waitMs > MOST_WAIT_MS) {
          throw new StoreError({
            reason: 'throttled',
            route: request.route,
            status: null,
            requestId: null,
            notBeforeMs: this.#book(request.shape, gates, waiter, readyAtMs),
            advice: "the connection's share of the store's rate limit is used up for now; goes on by itself",
          });
        }
        request.progress?.();
        await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(waitMs, 1), LOOK_MS)));
      }
    } finally {
      const at = queue.indexOf(ticket);
      if (at >= 0) queue.splice(at, 1);
    }
  }

  /**
   * When a step that is sent away should come back. Sent away together and told the same instant, all but a few would
   * be sent away again, with ever longer pauses, while turns go unused.
   */
  #book(shape: Shape, gates: readonly Gate[], waiter: number, readyAtMs: number): number {
    // Closed by the store itself: nothing is known about the time after.
    if (gates.some(({ closedUntilMs }) => closedUntilMs > virtualNow(this.#clock))) return readyAtMs;
    const spanMs = Math.max(0, ...gates.map(({ limit }) => (CALLS_OF_A_STEP * limit.perMs) / limit.calls));
    const afterQueueMs = virtualNow(this.#clock) + waiter * spanMs;
    const afterBookedMs = (this.#bookedMs.get(shape) ?? Number.NEGATIVE_INFINITY) + spanMs;
    const atMs = Math.max(readyAtMs, afterQueueMs, afterBookedMs);
    this.#bookedMs.set(shape, atMs);
    return atMs;
  }

  /** Lets no call of this shape leave before an instant (virtual epoch milliseconds): the store asked for it. */
  close(shape: Shape, untilMs: number): void {
    for (const gate of this.#gates.get(shape) ?? []) gate.closedUntilMs = Math.max(gate.closedUntilMs, untilMs);
  }

  #occupy(gates: readonly Gate[], places: readonly number[]): () => void {
    gates.forEach((gate, index) => {
      gate.freeAtMs[places[index] ?? 0] = Number.POSITIVE_INFINITY;
    });
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      const endedAtMs = virtualNow(this.#clock);
      gates.forEach((gate, index) => {
        gate.freeAtMs[places[index] ?? 0] = endedAtMs + gate.limit.perMs;
      });
    };
  }
}
