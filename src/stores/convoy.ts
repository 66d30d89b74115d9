import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../erasure/clock.ts';
import { realSpanMs } from '../erasure/clock.ts';
import type { Progress } from './port.ts';

/** How long the first step waits for company, virtual milliseconds, and at most, real ones. */
const BOARDING_MS = 2_000;
/** Longest wait for the convoy before, real milliseconds: no activity parks longer than 20 s for a turn. */
const MOST_BOARDING_MS = 15_000;
/** Most steps in one convoy: what they ask together still has to fit the memory of one worker. */
const MOST_MEMBERS = 250;
/** A step at work on its own, for instance writing to the vault, is waited for this long, real milliseconds. */
const BUSY_MS = 1_000;
/** A step whose own call is under way is waited for this long, real milliseconds: calls are scarcer than time. */
const CALLING_MS = 60_000;
/** How often waiting steps are asked whether they still want to go on, real milliseconds. */
const LOOK_MS = 200;

/** A step at work on its own, one that waits for the others, one whose call is under way. */
type Doing = 'busy' | 'waiting' | 'calling';

/** One question of one step. */
export interface Ask<Query, Answer> {
  readonly member: Progress;
  readonly query: Query;
  readonly answer: (answer: Answer) => void;
  readonly fail: (error: unknown) => void;
  /** True once answered or given up. */
  settled: boolean;
}

/** Answers the questions of one kind that were put together; must settle every one. */
export type Carry<Query, Answer> = (asks: readonly Ask<Query, Answer>[], progress: Progress) => Promise<void>;

interface Pending {
  readonly channel: string;
  readonly ask: Ask<never, never>;
  readonly carry: Carry<never, never>;
}

/**
 * Steps that began together and go on together: a question is asked once every one of them waits with one, so that as
 * many as possible ride in the same call. A step alone never waits.
 */
export class Convoy {
  /** Stands for all members in calls made for several of them; the same function for the convoy's whole life. */
  readonly progress: Progress;
  readonly #members = new Map<Progress, Doing>();
  readonly #underWay = new Set<Ask<never, never>>();
  #pending: Pending[] = [];
  #waitingSince = 0;
  #timer: NodeJS.Timeout | undefined;
  #ended: (() => void) | undefined;
  readonly end: Promise<void>;

  constructor() {
    this.end = new Promise((resolve) => {
      this.#ended = resolve;
    });
    this.progress = () => {
      this.#dropStopped([...this.#underWay]);
      if (this.#underWay.size === 0) throw new Abandoned();
    };
  }

  get size(): number {
    return this.#members.size;
  }

  join(member: Progress): void {
    this.#members.set(member, 'busy');
  }

  /** A step has ended, or asks for so much that it goes on by itself. */
  leave(member: Progress): void {
    if (!this.#members.delete(member)) return;
    this.#departIfDue();
    if (this.#members.size === 0) this.#ended?.();
  }

  /**
   * Waits for the others and has the question carried together with theirs.
   *
   * @param channel questions of the same channel may be put together.
   */
  ask<Query, Answer>(member: Progress, channel: string, query: Query, carry: Carry<Query, Answer>): Promise<Answer> {
    return new Promise<Answer>((resolve, reject) => {
      const settle = (then: () => void): void => {
        if (ask.settled) return;
        ask.settled = true;
        this.#underWay.delete(ask as never);
        if (this.#members.has(member)) this.#members.set(member, 'busy');
        then();
      };
      const ask: Ask<Query, Answer> = {
        member,
        query,
        settled: false,
        answer: (answer) => {
          settle(() => {
            resolve(answer);
          });
        },
        fail: (error) => {
          settle(() => {
            // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- whatever the carrier threw
            reject(error);
          });
        },
      };
      if (this.#pending.length === 0) this.#waitingSince = Date.now();
      this.#pending.push({ channel, ask, carry } as unknown as Pending);
      this.#members.set(member, 'waiting');
      this.#departIfDue();
      if (this.#pending.length > 0) this.#timer ??= setInterval(this.#look, LOOK_MS);
    });
  }

  readonly #look = (): void => {
    this.#dropStopped(this.#pending.map(({ ask }) => ask));
    this.#pending = this.#pending.filter(({ ask }) => !ask.settled);
    this.#departIfDue();
    if (this.#pending.length > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  };

  /** A step that was told to stop leaves its question; the others go on. */
  #dropStopped(asks: readonly Ask<never, never>[]): void {
    for (const ask of asks) {
      try {
        ask.member();
      } catch (error) {
        ask.fail(error);
      }
    }
  }

  #departIfDue(): void {
    if (this.#pending.length === 0) return;
    const waitedMs = Date.now() - this.#waitingSince;
    for (const doing of this.#members.values()) {
      if (doing === 'busy' && waitedMs < BUSY_MS) return;
      if (doing === 'calling' && waitedMs < CALLING_MS) return;
    }
    const leaving = this.#pending.filter(({ ask }) => !ask.settled);
    this.#pending = [];
    const groups = new Map<string, Pending[]>();
    for (const one of leaving) groups.set(one.channel, [...(groups.get(one.channel) ?? []), one]);
    for (const group of groups.values()) {
      const asks = group.map(({ ask }) => ask);
      for (const ask of asks) {
        this.#underWay.add(ask);
        if (this.#members.has(ask.member)) this.#members.set(ask.member, 'calling');
      }
      void this.#carry(asks, group[0]?.carry);
    }
  }

  async #carry(asks: readonly Ask<never, never>[], carry: Carry<never, never> | undefined): Promise<void> {
    try {
      const [only] = asks;
      await carry?.(asks, asks.length === 1 && only !== undefined ? only.member : this.progress);
    } catch (error) {
      for (const ask of asks) ask.fail(error);
    }
  }
}

/** Thrown into a call made for several steps when none of them wants its answer any more. Reaches nobody. */
class Abandoned extends Error {}

/** Puts the steps of one connection into convoys: those that come while one is under way make up the next. */
export class Convoys {
  readonly #clock: Clock;
  readonly #of = new WeakMap<Progress, Convoy>();
  readonly #underWay = new Set<Convoy>();
  #boarding: { readonly convoy: Convoy; readonly departs: Promise<void> } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The convoy of a step, or undefined when it goes by itself. */
  of(member: Progress): Convoy | undefined {
    return this.#of.get(member);
  }

  /**
   * Waits until a convoy leaves.
   *
   * @returns what to call when the step has ended.
   * @throws whatever `member` throws while it waits.
   */
  async board(member: Progress): Promise<() => void> {
    const boarding = (this.#boarding ??= this.#open());
    const { convoy } = boarding;
    convoy.join(member);
    this.#of.set(member, convoy);
    if (convoy.size >= MOST_MEMBERS && this.#boarding === boarding) this.#boarding = null;
    const leave = (): void => {
      this.leave(member);
    };
    try {
      for (let gone = false; !gone;) {
        gone = await Promise.race([boarding.departs.then(() => true), sleep(LOOK_MS, false, { ref: false })]);
        member();
      }
    } catch (error) {
      leave();
      throw error;
    }
    return leave;
  }

  /** The step goes on by itself from now on. */
  leave(member: Progress): void {
    this.#of.get(member)?.leave(member);
    this.#of.delete(member);
  }

  #open(): { readonly convoy: Convoy; readonly departs: Promise<void> } {
    const convoy = new Convoy();
    const departs = this.#departure(convoy);
    return { convoy, departs };
  }

  async #departure(convoy: Convoy): Promise<void> {
    const before = [...this.#underWay].map(({ end }) => end);
    const boardingMs = Math.min(BOARDING_MS, Math.max(1, realSpanMs(this.#clock, BOARDING_MS)));
    await Promise.all([
      sleep(boardingMs),
      Promise.race([Promise.all(before), sleep(MOST_BOARDING_MS, undefined, { ref: false })]),
    ]);
    if (this.#boarding?.convoy === convoy) this.#boarding = null;
    this.#underWay.add(convoy);
    void convoy.end.then(() => this.#underWay.delete(convoy));
  }
}
