import type { Clock } from '../erasure/clock.ts';
import { realSpanMs, virtualNow } from '../erasure/clock.ts';
import { StoreError } from './port.ts';
import type { Progress } from './port.ts';
import { SpentCalls } from './spent-calls.ts';

/** At most so many calls in any span of so many virtual milliseconds. */
export interface Limit {
  readonly calls: number;
  readonly perMs: number;
  /**
   * Share of the calls, 0 to 1, that long reads leave to short ones: for quotas of a day, which one very large person
   * would otherwise use up for everybody. Default: 0.
   */
  readonly reserve?: number;
  /**
   * File in which the calls are kept, for spans that are longer than a worker may live, see `spentCallsFile`. Default: in
   * memory only.
   */
  readonly keptIn?: string | undefined;
}

/** Longest turn that is waited for, real milliseconds: beyond it the workflow sleeps, not the activity. */
const MOST_WAIT_MS = 20_000;
/** The same for a step that has begun: sent away, it would have to make all its calls again. */
const MOST_WAIT_BEGUN_MS = 10 * 60_000;
/** Calls of one shape that a step makes as a rule: the reads of an ordinary person. */
const CALLS_OF_A_STEP = 6;
/** Longest sleep between two looks at the queue, real milliseconds. */
const LOOK_MS = 200;

/** Steps whose calls are counted; those without a turn for the longest time are forgotten. */
const MOST_STEPS = 10_000;
/** A step that has made more calls than this is a long one: it shares the turns with all short ones together. */
const LONG_STEP_CALLS = 40;
/** What the span of a limit grows to at most, as a factor, when the store refuses calls within it. */
const MOST_STRETCH = 16;
/** A quota over a longer span is not stretched: its refusal says when it begins anew, and spans of calm would be weeks. */
const MOST_STRETCHED_MS = 600_000;
/** Spans without a refusal after which a learned slow-down is eased by a fifth. */
const EASE_AFTER_SPANS = 20;

export interface TurnRequest<Shape extends string> {
  readonly shape: Shape;
  readonly route: string;
  /** Names the step; an older one goes first, so that steps end instead of starving each other. */
  readonly seniority: number;
  readonly progress?: Progress;
  /** Whether the step has had calls made for it already, in company. Default: as far as the pacer knows. */
  readonly begun?: boolean;
}

interface Ticket {
  readonly seniority: number;
}

/** What a step has had so far. */
interface Share {
  readonly calls: number;
  /** Number of its latest turn, counted over all steps. */
  readonly turn: number;
}

/** One limit with its places. A place is taken when a call leaves, and free again one span after the call has ended. */
class Gate {
  readonly limit: Limit;
  closedUntilMs = Number.NEGATIVE_INFINITY;
  /** Virtual instants at which calls ended, oldest first; older than a span are forgotten. */
  #ended: number[] = [];
  #underWay = 0;
  #stretch = 1;
  #calmSinceMs = Number.NEGATIVE_INFINITY;
  /** What a restart must not forget. */
  readonly #kept: SpentCalls | null;

  constructor(limit: Limit, nowMs: number) {
    this.limit = limit;
    this.#kept = limit.keptIn === undefined ? null : new SpentCalls(limit.keptIn, limit, nowMs);
    this.#ended = this.#kept?.ended() ?? [];
  }

  #spanMs(nowMs: number): number {
    const easeMs = EASE_AFTER_SPANS * this.limit.perMs;
    while (this.#stretch > 1 && nowMs - this.#calmSinceMs >= easeMs) {
      this.#stretch = Math.max(1, this.#stretch * 0.8);
      this.#calmSinceMs += easeMs;
    }
    return this.limit.perMs * this.#stretch;
  }

  /** When a place for the nth waiter (from 0) is free, virtual epoch milliseconds; calls under way count as ending now. */
  readyAtMs(waiter: number, nowMs: number, long: boolean): number {
    const spanMs = this.#spanMs(nowMs);
    const { calls, reserve = 0 } = this.limit;
    const places = long ? Math.max(1, Math.floor(calls * (1 - reserve))) : calls;
    this.#forget(nowMs - spanMs);
    const free = calls - this.#ended.length - this.#underWay;
    const freeAt = (place: number): number => {
      if (place < free) return nowMs;
      const ended = this.#ended[place - free];
      return ended === undefined ? nowMs + spanMs : Math.max(nowMs, ended + spanMs);
    };
    // A long read is as if the reserve stood before it in the queue.
    const place = freeAt((waiter % places) + (calls - places));
    return Math.max(place + Math.floor(waiter / places) * spanMs, this.closedUntilMs);
  }

  hasPlace(nowMs: number, long: boolean): boolean {
    return this.closedUntilMs <= nowMs && this.readyAtMs(0, nowMs, long) <= nowMs;
  }

  /** @returns what must be called when the call has ended. */
  begin(nowMs: number): (endedMs: number) => void {
    this.#underWay += 1;
    const kept = this.#kept?.begin(nowMs);
    return (endedMs) => {
      this.#underWay -= 1;
      this.#ended.push(endedMs);
      kept?.(endedMs);
    };
  }

  /** The store refused a call although the limit was kept: somebody else uses it too, or it is lower than published. */
  refused(untilMs: number, nowMs: number): void {
    this.closedUntilMs = Math.max(this.closedUntilMs, untilMs);
    if (this.limit.perMs > MOST_STRETCHED_MS) return;
    // Several calls under way together are refused for the same reason: that is one lesson.
    if (nowMs - this.#calmSinceMs >= this.limit.perMs) this.#stretch = Math.min(MOST_STRETCH, this.#stretch * 2);
    this.#calmSinceMs = nowMs;
  }

  #forget(beforeMs: number): void {
    let gone = 0;
    while (gone < this.#ended.length && (this.#ended[gone] ?? 0) <= beforeMs) gone += 1;
    if (gone > 0) this.#ended = this.#ended.slice(gone);
  }
}

/**
 * Keeps every caller of one connection within the store's limits, by shape of call, on the virtual clock.
 *
 * A span is counted from the end of a call, not from its start: the store counts the call somewhere in between, so no
 * fixed or sliding window of the store's ever sees more calls than its limit, however late they arrive. A token bucket
 * of the same rate would let up to twice as many through. A refusal all the same (429) widens the span for a while.
 *
 * Long steps and short ones take turns, so that one person with very many traces neither starves a hundred others nor is
 * starved by them.
 */
export class Pacer<Shape extends string> {
  readonly #clock: Clock;
  readonly #gates: ReadonlyMap<Shape, readonly Gate[]>;
  readonly #queues = new Map<Shape, Ticket[]>();
  /** By step, the one with the latest turn last. */
  readonly #shares = new Map<number, Share>();
  #turns = 0;
  /** By shape, whether a long step had the latest turn. */
  readonly #longWasLast = new Map<Shape, boolean>();
  /**
   * By shape, until when steps that were sent away may need the turns; the next one comes after them. Apart for long and
   * short ones: what a long one leaves to the others may make it wait for a day.
   */
  readonly #bookedMs = { long: new Map<Shape, number>(), short: new Map<Shape, number>() };

  /** @param limits limits by name; the shapes name those that each of them is subject to. */
  constructor(
    limits: Readonly<Record<string, Limit>>,
    shapes: Readonly<Record<Shape, readonly string[]>>,
    clock: Clock,
  ) {
    this.#clock = clock;
    const gates = new Map(Object.entries(limits).map(([name, limit]) => [name, new Gate(limit, virtualNow(clock))]));
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
   * @throws StoreError `throttled` with `notBeforeMs` when the turn is more than 20 real seconds away, or 10 minutes for a
   *   step that has begun; whatever `progress` throws.
   */
  async take(request: TurnRequest<Shape>): Promise<() => void> {
    const gates = this.#gates.get(request.shape) ?? [];
    const queue = this.#queues.get(request.shape) ?? [];
    this.#queues.set(request.shape, queue);
    const ticket: Ticket = { seniority: request.seniority };
    queue.push(ticket);
    const waitingSince = Date.now();
    try {
      for (;;) {
        const nowMs = virtualNow(this.#clock);
        const long = this.#isLong(ticket);
        const mayGo = gates.every((gate) => gate.hasPlace(nowMs, long));
        // What the reserve keeps from long steps is there for the short ones: these do not wait behind them.
        const alone = !long && mayGo && !gates.every((gate) => gate.hasPlace(nowMs, true));
        const waiter = this.#placeOf(ticket, queue, request.shape, alone);
        if (waiter === 0 && mayGo) return this.#occupy(gates, request);
        const readyAtMs = Math.max(nowMs, ...gates.map((gate) => gate.readyAtMs(waiter, nowMs, long)));
        const waitMs = realSpanMs(this.#clock, readyAtMs - nowMs);
        const closed = gates.some(({ closedUntilMs }) => closedUntilMs > nowMs);
        // What the store itself closed is waited for asleep, whoever asks.
        const begun = !closed && (request.begun === true || this.#shares.has(ticket.seniority));
        if (Date.now() - waitingSince + waitMs > (begun ? MOST_WAIT_BEGUN_MS : MOST_WAIT_MS)) {
          throw new StoreError({
            reason: 'throttled',
            route: request.route,
            status: null,
            requestId: null,
            notBeforeMs: this.#book(request.shape, gates, { waiter, readyAtMs, long }),
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

  #isLong({ seniority }: Ticket): boolean {
    return (this.#shares.get(seniority)?.calls ?? 0) > LONG_STEP_CALLS;
  }

  /**
   * How many go before. Of the short steps the oldest goes first, so that steps end; of the long ones that whose
   * latest turn is longest ago, so that none waits for the end of another, however many there are; the two kinds by
   * turns.
   *
   * @param alone whether only steps of its own kind count.
   */
  #placeOf(ticket: Ticket, queue: readonly Ticket[], shape: Shape, alone: boolean): number {
    const long = this.#isLong(ticket);
    const rank = ({ seniority }: Ticket): number => (long ? (this.#shares.get(seniority)?.turn ?? 0) : seniority);
    const goesBefore = (other: Ticket): boolean =>
      rank(other) < rank(ticket) || (rank(other) === rank(ticket) && other.seniority < ticket.seniority);
    const before = queue.filter((other) => this.#isLong(other) === long && goesBefore(other)).length;
    // Of one step's own calls side by side, the one that asked first.
    const same = queue.filter((other) => other.seniority === ticket.seniority).indexOf(ticket);
    const place = before + same;
    if (alone) return place;
    const others = queue.filter((other) => this.#isLong(other) !== long).length;
    const othersFirst = others > 0 && (this.#longWasLast.get(shape) ?? true) === long;
    return place + Math.min(others, place + (othersFirst ? 1 : 0));
  }

  /**
   * When a step that is sent away should come back. Sent away together and told the same instant, all but a few would
   * be sent away again, with ever longer pauses, while turns go unused.
   */
  #book(
    shape: Shape,
    gates: readonly Gate[],
    { waiter, readyAtMs, long }: { readonly waiter: number; readonly readyAtMs: number; readonly long: boolean },
  ): number {
    // Closed by the store itself: nothing is known about the time after.
    if (gates.some(({ closedUntilMs }) => closedUntilMs > virtualNow(this.#clock))) return readyAtMs;
    const spanMs = Math.max(0, ...gates.map(({ limit }) => (CALLS_OF_A_STEP * limit.perMs) / limit.calls));
    const afterQueueMs = virtualNow(this.#clock) + waiter * spanMs;
    const booked = long ? this.#bookedMs.long : this.#bookedMs.short;
    const afterBookedMs = (booked.get(shape) ?? Number.NEGATIVE_INFINITY) + spanMs;
    const atMs = Math.max(readyAtMs, afterQueueMs, afterBookedMs);
    booked.set(shape, atMs);
    return atMs;
  }

  /**
   * Lets no call of this shape leave before an instant (virtual epoch milliseconds), because the store asked for it, and
   * fewer from then on, until it has been calm for a while.
   */
  close(shape: Shape, untilMs: number): void {
    for (const gate of this.#gates.get(shape) ?? []) gate.refused(untilMs, virtualNow(this.#clock));
  }

  #occupy(gates: readonly Gate[], { shape, seniority }: TurnRequest<Shape>): () => void {
    this.#longWasLast.set(shape, this.#isLong({ seniority }));
    const calls = (this.#shares.get(seniority)?.calls ?? 0) + 1;
    this.#shares.delete(seniority);
    this.#turns += 1;
    this.#shares.set(seniority, { calls, turn: this.#turns });
    if (this.#shares.size > MOST_STEPS) this.#forgetOldest();
    const beganAtMs = virtualNow(this.#clock);
    const ends = gates.map((gate) => gate.begin(beganAtMs));
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      const endedAtMs = virtualNow(this.#clock);
      for (const end of ends) end(endedAtMs);
    };
  }

  #forgetOldest(): void {
    for (const seniority of this.#shares.keys()) {
      this.#shares.delete(seniority);
      return;
    }
  }
}
