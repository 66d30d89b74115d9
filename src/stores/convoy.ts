import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../erasure/clock.ts';
import { realSpanMs } from '../erasure/clock.ts';
import { DAY_MS, JITTER_SLOT_MS } from '../erasure/rhythm.ts';
import type { Progress } from './port.ts';

/** How long steps wait for each other. */
export interface ConvoyOptions {
  /**
   * How long the first step waits for company, virtual milliseconds, and at most as many real ones. Where some came, they
   * wait on until nobody has come for as long.
   *
   * @default 2,000
   */
  readonly boardingMs?: number;
  /**
   * Longest wait for the convoys before and for a crowd, real milliseconds: no activity parks longer than 20 s for a turn.
   *
   * @default 18,000
   */
  readonly mostBoardingMs?: number;
  /**
   * The same while a crowd keeps coming: the engine may take so long to hand it over.
   *
   * @default 60,000
   */
  readonly mostCrowdBoardingMs?: number;
  /**
   * Longest wait of a crowd for the convoys before: they use up the store's limits anyway, and who leaves now only makes calls of his own.
   *
   * @default 180,000
   */
  readonly mostCrowdWaitMs?: number;
  /**
   * From so many steps on, aboard, under way or come of late, a convoy waits until no more come.
   *
   * @default 8
   */
  readonly crowd?: number;
  /**
   * The quiet that is waited for then, virtual milliseconds, and at most `mostCrowdQuietMs` real ones. Where that is next
   * to nothing, on a fast clock, a few times the usual pause between two steps, up to a second.
   *
   * @default 60,000
   */
  readonly crowdQuietMs?: number;
  /**
   * Real milliseconds: a slot of jitter and a little, so that who wakes in the next slot still comes aboard.
   *
   * @default 11,000
   */
  readonly mostCrowdQuietMs?: number;
  /**
   * Most steps in one convoy: what they ask together still has to fit the memory of one worker.
   *
   * @default 250
   */
  readonly mostMembers?: number;
  /**
   * A step at work on its own, for instance writing to the vault, is waited for this long, real milliseconds.
   *
   * @default 1,000
   */
  readonly busyMs?: number;
  /**
   * So much longer for each step more than 20 in the convoy, real milliseconds: what each does on its own they do one after
   * the other, in one process.
   *
   * @default 50
   */
  readonly busyEachMs?: number;
  /**
   * A step whose own call is under way is waited for this long, real milliseconds: calls are scarcer than time.
   *
   * @default 60,000
   */
  readonly callingMs?: number;
  /**
   * How often waiting steps are asked whether they still want to go on, real milliseconds.
   *
   * @default 200
   */
  readonly lookMs?: number;
}

type Times = Required<ConvoyOptions>;

const DEFAULTS: Times = {
  boardingMs: 2_000,
  mostBoardingMs: 18_000,
  mostCrowdBoardingMs: 60_000,
  mostCrowdWaitMs: 180_000,
  crowd: 8,
  crowdQuietMs: 60_000,
  mostCrowdQuietMs: JITTER_SLOT_MS + 1_000,
  mostMembers: 250,
  busyMs: 1_000,
  busyEachMs: 50,
  callingMs: 60_000,
  lookMs: 200,
};

/** Up to so many steps what each does on its own does not add up to much. */
const FEW_MEMBERS = 20;

/** How many questions of a step wait for the others, and how many are being asked; neither: it works on its own. */
interface Doing {
  waiting: number;
  calling: number;
}

/** One question of one step. */
export interface Ask<Query, Answer> {
  readonly member: Progress;
  readonly query: Query;
  readonly answer: (answer: Answer) => void;
  readonly fail: (error: unknown) => void;
  /** True once answered or given up. */
  readonly settled: boolean;
  /**
   * Set while a call is under way that can't be taken back: its outcome reaches the step even if that was told to stop
   * meanwhile.
   */
  firm: boolean;
}

/** Answers the questions of one kind that were put together; must settle every one. */
export type Carry<Query, Answer> = (asks: readonly Ask<Query, Answer>[], progress: Progress) => Promise<void>;

/** A question with the promise of its answer. `onSettled` runs just before the promise is settled. */
export function newAsk<Query, Answer>(
  member: Progress,
  query: Query,
  onSettled?: () => void,
): { readonly ask: Ask<Query, Answer>; readonly answer: Promise<Answer> } {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  let settled = false;
  const settle = (then: () => void): void => {
    if (settled) return;
    settled = true;
    onSettled?.();
    then();
  };
  const ask: Ask<Query, Answer> = {
    member,
    query,
    firm: false,
    get settled() {
      return settled;
    },
    answer: (answer) => {
      settle(() => {
        resolve(answer);
      });
    },
    fail: (error) => {
      settle(() => {
        reject(error);
      });
    },
  };
  return { ask, answer: promise };
}

interface Pending {
  readonly channel: string;
  readonly ask: Ask<never, never>;
  readonly carry: Carry<never, never>;
}

/**
 * Steps that began together and go on together: a question is asked once every one of them waits with one, so that as
 * many as possible ride in the same call. A step alone never waits.
 */
class Convoy {
  /** Stands for all members in calls made for several of them; the same function for the convoy's whole life. */
  readonly progress: Progress;
  /** When it has left and every step has left it. */
  readonly end: Promise<void>;
  readonly #times: Times;
  readonly #members = new Map<Progress, Doing>();
  readonly #underWay = new Set<Ask<never, never>>();
  readonly #ended: () => void;
  #departed = false;
  #pending: Pending[] = [];
  #waitingSince = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(times: Times) {
    this.#times = times;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.end = promise;
    this.#ended = (): void => {
      resolve(undefined);
    };
    this.progress = () => {
      dropStopped([...this.#underWay].filter(({ firm }) => !firm));
      if (this.#underWay.size === 0) throw new Abandoned();
    };
  }

  get size(): number {
    return this.#members.size;
  }

  join(member: Progress): void {
    this.#members.set(member, { waiting: 0, calling: 0 });
  }

  /** Nobody joins any more. */
  depart(): void {
    this.#departed = true;
    if (this.#members.size === 0) this.#ended();
  }

  /** A step has ended, or asks for so much that it goes on by itself. */
  leave(member: Progress): void {
    if (!this.#members.delete(member)) return;
    this.#departIfDue();
    if (this.#departed && this.#members.size === 0) this.#ended();
  }

  /**
   * Waits for the others and has the question carried together with theirs.
   *
   * @param channel questions of the same channel may be put together.
   */
  ask<Query, Answer>(member: Progress, channel: string, query: Query, carry: Carry<Query, Answer>): Promise<Answer> {
    const doing = this.#members.get(member) ?? { waiting: 0, calling: 0 };
    const { ask, answer } = newAsk<Query, Answer>(member, query, () => {
      if (this.#underWay.delete(ask as never)) doing.calling -= 1;
      else doing.waiting -= 1;
    });
    doing.waiting += 1;
    if (this.#pending.length === 0) this.#waitingSince = performance.now();
    this.#pending.push({ channel, ask, carry } as unknown as Pending);
    this.#departIfDue();
    return answer;
  }

  readonly #look = (): void => {
    dropStopped(this.#pending.map(({ ask }) => ask));
    this.#departIfDue();
  };

  #departIfDue(): void {
    this.#pending = this.#pending.filter(({ ask }) => !ask.settled);
    if (this.#pending.length > 0 && this.#mayLeave()) {
      const leaving = this.#pending;
      this.#pending = [];
      this.#send(leaving);
    }
    if (this.#pending.length > 0) {
      this.#timer ??= setInterval(this.#look, this.#times.lookMs);
    } else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  #mayLeave(): boolean {
    const waitedMs = performance.now() - this.#waitingSince;
    const busyMs = this.#times.busyMs + this.#times.busyEachMs * Math.max(0, this.#members.size - FEW_MEMBERS);
    for (const { waiting, calling } of this.#members.values()) {
      if (calling > 0 && waitedMs < this.#times.callingMs) return false;
      if (calling === 0 && waiting === 0 && waitedMs < busyMs) return false;
    }
    return true;
  }

  #send(leaving: readonly Pending[]): void {
    const groups = new Map<string, Pending[]>();
    // In the order in which they came aboard: whose question came first is an accident of timers.
    const places = new Map([...this.#members.keys()].map((member, place) => [member, place]));
    const place = ({ ask }: Pending): number => places.get(ask.member) ?? places.size;
    for (const one of leaving.toSorted((a, b) => place(a) - place(b))) {
      const group = groups.get(one.channel);
      if (group === undefined) groups.set(one.channel, [one]);
      else group.push(one);
      this.#underWay.add(one.ask);
      const doing = this.#members.get(one.ask.member);
      if (doing === undefined) continue;
      doing.waiting -= 1;
      doing.calling += 1;
    }
    for (const group of groups.values()) {
      void this.#carry(
        group.map(({ ask }) => ask),
        group[0]?.carry,
      );
    }
  }

  async #carry(asks: readonly Ask<never, never>[], carry: Carry<never, never> | undefined): Promise<void> {
    let why: unknown = new Error('a question that was put together with others got no answer');
    try {
      const [only] = asks;
      await carry?.(asks, asks.length === 1 && only !== undefined ? only.member : this.progress);
    } catch (error) {
      why = error;
    }
    for (const ask of asks) ask.fail(why);
  }
}

/** A step that was told to stop leaves its question; the others go on. */
function dropStopped(asks: readonly Ask<never, never>[]): void {
  for (const ask of asks) {
    try {
      ask.member();
    } catch (error) {
      ask.fail(error);
    }
  }
}

/** Thrown into a call made for several steps when none of them wants its answer any more. Reaches nobody. */
export class Abandoned extends Error {}

/**
 * How long it is remembered whose steps came, virtual milliseconds: whoever was here for one weekend comes back together
 * with the others after it.
 */
const REMEMBERED_MS = 8 * DAY_MS;
const MOST_REMEMBERED = 10_000;

/**
 * However fast the clock is, the engine hands steps over in real time: that many came within so many real milliseconds is a
 * crowd, and a crowd is waited for until nobody has come for so long.
 */
const LATELY_MS = 1_000;
const LEAST_CROWD_QUIET_MS = 150;
/**
 * A crowd that keeps coming is waited for so long at most, virtual milliseconds, or so many real ones: longer, and on a fast
 * clock the engine has nothing to do while all wait, and the store nothing while the engine hands all of them over.
 */
const CROWD_BOARDING_MS = 20 * 60_000;
const LEAST_CROWD_BOARDING_MS = 500;
/** Waited for in a crowd however fast the clock is, as far as the usual pauses between steps ask for it. */
const PAUSES_WAITED_FOR = 4;
const MOST_PAUSE_MS = 1_000;
/** The same for a few who may be the first of many: virtual milliseconds, and at most so many real ones. */
const BURST_PAUSE_MS = 15_000;
const MOST_BURST_PAUSE_MS = 3_000;

/** Steps that travel with others in a convoy that has left: sent away now, they would lose what was read for them with the others. */
const aboard = new WeakSet<Progress>();

/** Whether a step travels with others in a convoy that has left. */
export function isAboard(member: Progress): boolean {
  return aboard.has(member);
}

/** Puts the steps of one connection into convoys: those that come while one is under way make up the next. */
export class Convoys {
  readonly #clock: Clock;
  readonly #times: Times;
  /** Real milliseconds. */
  readonly #boardingMs: number;
  readonly #quietMs: number;
  readonly #burstPauseMs: number;
  readonly #crowdBoardingMs: number;
  readonly #of = new WeakMap<Progress, Convoy>();
  readonly #underWay = new Set<Convoy>();
  #boarding: { readonly convoy: Convoy; readonly departs: Promise<void> } | null = null;
  /** When the latest step came, and the usual time between two, real milliseconds; null while there is no telling. */
  #latestMs = Number.NEGATIVE_INFINITY;
  #gapMs: number | null = null;
  /**
   * Whose steps came, and when the latest of each did, real milliseconds, the longest ago first: a convoy may be over before
   * the next step comes.
   */
  readonly #cameMs = new Map<string | Progress, number>();

  constructor(clock: Clock, options: ConvoyOptions = {}) {
    this.#clock = clock;
    this.#times = { ...DEFAULTS, ...options };
    const { boardingMs } = this.#times;
    this.#burstPauseMs = Math.min(MOST_BURST_PAUSE_MS, Math.max(MOST_PAUSE_MS, realSpanMs(clock, BURST_PAUSE_MS)));
    this.#crowdBoardingMs = Math.min(
      Math.max(this.#times.mostBoardingMs, this.#times.mostCrowdBoardingMs),
      Math.max(LEAST_CROWD_BOARDING_MS, realSpanMs(clock, CROWD_BOARDING_MS)),
    );
    this.#boardingMs = Math.min(boardingMs, Math.max(1, realSpanMs(clock, boardingMs)));
    this.#quietMs = Math.min(
      this.#times.mostCrowdQuietMs,
      Math.max(LEAST_CROWD_QUIET_MS, realSpanMs(clock, this.#times.crowdQuietMs)),
    );
  }

  /** The convoy of a step, or undefined when it goes by itself. */
  of(member: Progress): Convoy | undefined {
    return this.#of.get(member);
  }

  /**
   * Waits until a convoy leaves.
   *
   * @param request whose step it is; left out: nobody else's.
   * @returns what to call when the step has ended.
   * @throws whatever `member` throws while it waits.
   */
  async board(member: Progress, request?: string): Promise<() => void> {
    this.#noteArrival(request ?? member);
    const boarding = (this.#boarding ??= this.#open());
    const { convoy, departs } = boarding;
    convoy.join(member);
    this.#of.set(member, convoy);
    if (convoy.size >= this.#times.mostMembers && this.#boarding === boarding) this.#boarding = null;
    const leave = (): void => {
      this.leave(member);
    };
    try {
      while (!(await within(departs, this.#times.lookMs))) member();
      member();
      if (convoy.size > 1) for (const one of [member, convoy.progress]) aboard.add(one);
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
    aboard.delete(member);
  }

  /** How fast steps come, while there are any. */
  #noteArrival(whose: string | Progress): void {
    const nowMs = performance.now();
    const gapMs = nowMs - this.#latestMs;
    if (this.#population() === 0 && gapMs > this.#quietMs) this.#gapMs = null;
    else this.#gapMs = this.#gapMs === null ? gapMs : 0.7 * this.#gapMs + 0.3 * gapMs;
    this.#cameMs.delete(whose);
    this.#cameMs.set(whose, nowMs);
    this.#latestMs = nowMs;
    const rememberedMs = Math.max(LATELY_MS, realSpanMs(this.#clock, REMEMBERED_MS));
    for (const [one, cameMs] of this.#cameMs) {
      if (nowMs - cameMs <= rememberedMs && this.#cameMs.size <= MOST_REMEMBERED) break;
      this.#cameMs.delete(one);
    }
  }

  /** Whether many are here, or come within the quiet that is waited for. */
  #isCrowded(nowMs: number): boolean {
    const { crowd } = this.#times;
    if (this.#population() >= crowd) return true;
    let lately = 0;
    const latelyMs = Math.max(LATELY_MS, this.#quietMs);
    for (const cameMs of this.#cameMs.values()) if (nowMs - cameMs <= latelyMs) lately += 1;
    return lately >= crowd;
  }

  #population(): number {
    const boarding = this.#boarding?.convoy.size ?? 0;
    return [...this.#underWay].reduce((sum, { size }) => sum + size, boarding);
  }

  /**
   * When many wake at once, the engine hands their steps over one by one, some a second. A convoy that left meanwhile
   * would leave most of them behind; so it waits until nobody has come for a while. Where many were at work lately, the
   * first one waits too: the others are likely to follow. A few that came one upon the other may be the first of many, and
   * whoever goes ahead of a crowd once goes ahead of it through all the steps to come, in calls of its own.
   */
  async #untilQuiet(convoy: Convoy, openedAtMs: number): Promise<void> {
    const { mostBoardingMs, mostMembers } = this.#times;
    while (convoy.size < mostMembers) {
      const nowMs = performance.now();
      const crowded = this.#isCrowded(nowMs);
      const many = crowded || this.#cameMs.size >= this.#times.crowd;
      if (!many && convoy.size < 2) return;
      const mostPauseMs = many ? MOST_PAUSE_MS : this.#burstPauseMs;
      const pauseMs = crowded || !many ? Math.min(mostPauseMs, PAUSES_WAITED_FOR * (this.#gapMs ?? 0)) : 0;
      const leftMs = Math.min(
        this.#latestMs + Math.max(many ? this.#quietMs : this.#boardingMs, pauseMs) - nowMs,
        openedAtMs + (crowded ? this.#crowdBoardingMs : mostBoardingMs) - nowMs,
      );
      if (leftMs <= 0) return;
      await sleep(leftMs, undefined, { ref: false });
    }
  }

  #open(): { readonly convoy: Convoy; readonly departs: Promise<void> } {
    const convoy = new Convoy(this.#times);
    const departs = this.#departure(convoy);
    return { convoy, departs };
  }

  async #departure(convoy: Convoy): Promise<void> {
    const { mostBoardingMs, mostCrowdWaitMs, mostMembers } = this.#times;
    const openedAtMs = performance.now();
    const before = Promise.all([...this.#underWay].map(({ end }) => end));
    const [, free] = await Promise.all([sleep(this.#boardingMs), within(before, mostBoardingMs)]);
    if (!free && this.#isCrowded(performance.now()) && convoy.size < mostMembers) {
      await within(before, mostCrowdWaitMs - mostBoardingMs);
    }
    await this.#untilQuiet(convoy, openedAtMs);
    if (this.#boarding?.convoy === convoy) this.#boarding = null;
    this.#underWay.add(convoy);
    void convoy.end.then(() => this.#underWay.delete(convoy));
    convoy.depart();
  }
}

/** Whether a promise is fulfilled within so many real milliseconds. Leaves no timer behind. */
async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const stop = new AbortController();
  try {
    return await Promise.race([
      promise.then(() => true),
      sleep(ms, false, { ref: false, signal: stop.signal }).catch(() => false),
    ]);
  } finally {
    stop.abort();
  }
}
