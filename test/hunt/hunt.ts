// A seeded hunt for untrue verdicts and strangers' traces: random people, traces, ids, bad habits of the store, operator
// messages and worker restarts, judged at every look at the status against what the simulator really holds.
//
// LETHE_HUNT_STORIES: how many (default 20). LETHE_HUNT_SEED: the first seed (default: from the clock). A story that
// fails prints its seed and what happened in it; LETHE_HUNT_SEED=<seed> LETHE_HUNT_STORIES=1 tells it again.

import { afterAll, describe, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Erasure } from '../../src/client/client.ts';
import type { EraseRequest } from '../../src/erasure/request.ts';
import { imbalances } from '../../src/erasure/ledger.ts';
import { DAY_MS, HOUR_MS, WEEK_MS } from '../../src/erasure/rhythm.ts';
import type { ConnectionStatus, RequestStatus } from '../../src/erasure/status.ts';
import type { LangSmithHabits } from '../../src/simulators/langsmith/habits.ts';
import { CONNECTION, FRIDAY_EVENING, World } from '../support/world.ts';

const STORIES = Number(process.env['LETHE_HUNT_STORIES'] ?? '20');
const FIRST_SEED = Number(process.env['LETHE_HUNT_SEED'] ?? String(Math.floor(Date.now() / 1000) % 1_000_000));
const SPEED = 150_000;

/** Habits are switched within so many virtual weeks; afterwards all are off. */
const WILD_WEEKS = 5;
/** And so many weeks later every request must have ended. */
const CALM_WEEKS = 9;
/** How late the next step of a lane may be, real milliseconds, while a worker is up. */
const LATE_MS = 20_000;

/** mulberry32: small, seeded, good enough to choose by. */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }
  chance(share: number): boolean {
    return this.next() < share;
  }
  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.next() * items.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }
  uuid(): string {
    const hex = Array.from({ length: 32 }, () => this.int(0, 15).toString(16)).join('');
    return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5');
  }
}

type Label = string | number;
/** A person to be erased, and people who look like them. */
const CASTS: readonly {
  readonly value: string;
  readonly labels: readonly Label[];
  readonly alike: readonly Label[];
}[] = [
  { value: 'u_42', labels: ['u_42'], alike: ['u_421', 'U_42', 'u_4', 'u_42 ', ' u_42', 'u-42'] },
  { value: '42', labels: ['42', 42], alike: ['042', '42.0', '421', 420, -42, '4 2'] },
  { value: '9007199254740993', labels: ['9007199254740993'], alike: ['9007199254740992', '9007199254740994'] },
  { value: 'zo\u00eb', labels: ['zo\u00eb'], alike: ['zoe', 'Zo\u00eb', 'zo\u00e9', 'zo\u00eb2'] },
  { value: 'o"ne\\', labels: ['o"ne\\'], alike: ['o"ne', 'one', 'o"ne\\\\', "o'ne\\"] },
  { value: 'or(eq(id,1))', labels: ['or(eq(id,1))'], alike: ['or(eq(id,2))', 'or', 'id'] },
];

type Kind = 'own' | 'mixed' | 'stranger' | 'unlabelled';
interface Planted {
  readonly traceId: string;
  readonly runIds: readonly string[];
  readonly kind: Kind;
  readonly bornMs: number;
}

interface Event {
  readonly atMs: number;
  readonly name: string;
  readonly act: () => Promise<void> | void;
}

/** Everything of one story. Choices come from the dice alone; only how fast the machine is differs between tellings. */
class Story {
  readonly seed: number;
  readonly log: string[] = [];
  private readonly dice: Dice;
  private readonly world: World;
  private readonly planted: Planted[] = [];
  private readonly events: Event[] = [];
  private readonly cast: (typeof CASTS)[number];
  private readonly projects: readonly string[];
  private readonly start: number;
  private consent = 0;
  private erasure: Erasure | null = null;
  private ended = false;
  private down = false;
  private last: RequestStatus | null = null;

  private constructor(seed: number, dice: Dice, world: World) {
    this.seed = seed;
    this.dice = dice;
    this.world = world;
    this.cast = dice.pick(CASTS);
    this.projects = ['chat', 'agent', 'batch'].slice(0, dice.int(1, 3));
    this.start = world.now();
  }

  static async tell(seed: number): Promise<string> {
    const dice = new Dice(seed);
    const pageSize = dice.pick([1000, 1000, 40, 7]);
    const world = await World.start(`hunt ${seed}`, {
      speed: SPEED,
      start: FRIDAY_EVENING + dice.int(0, 13) * 12 * HOUR_MS,
      config: (config) => ({
        ...config,
        connections: Object.fromEntries(
          Object.entries(config.connections).map(([name, connection]) => [
            name,
            { ...connection, pageSize, identifiers: { user_id: ['metadata.user_id', 'metadata.uid'] } },
          ]),
        ),
        identifiers: ['user_id'],
      }),
    });
    const story = new Story(seed, dice, world);
    try {
      return await story.run();
    } catch (error) {
      const told = story.log.map((line) => `  ${line}`).join('\n');
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`seed ${seed}: ${why}\n${told}\n${JSON.stringify(story.last)}`, { cause: error });
    } finally {
      await world.close();
    }
  }

  private async run(): Promise<string> {
    this.plantAll();
    this.plan();
    this.erasure = await this.world.erase(this.request());
    const calmMs = this.start + WILD_WEEKS * WEEK_MS;
    let calm = false;
    for (;;) {
      while (!this.ended && (this.events[0]?.atMs ?? Infinity) <= this.world.now()) {
        const event = this.events.shift();
        this.note(event?.name ?? '');
        await event?.act();
      }
      if (!calm && this.trapped !== null && this.world.sim.truth.submissions().length > 0) {
        this.trapped();
        this.trapped = null;
      }
      if (!calm && this.world.now() >= calmMs) {
        calm = true;
        this.note('all habits off');
        this.events.length = 0;
        this.world.sim.habits.reset();
        if (this.down) await this.restart();
        await this.world.client.release(this.erasure.requestId, BY);
      }
      const status = await this.erasure.status();
      this.look(status);
      if (status.endedAt !== null) {
        this.ended = true;
        await this.judge(status);
        return `${status.status}, ${this.lane(status).round} rounds`;
      }
      if (this.world.now() > calmMs + CALM_WEEKS * WEEK_MS) {
        throw new Error(`still open ${CALM_WEEKS} weeks after all habits are off`);
      }
      await sleep(25);
    }
  }

  private note(what: string): void {
    this.log.push(`${((this.world.now() - this.start) / WEEK_MS).toFixed(2)} weeks: ${what}`);
  }

  private plant(kind: Kind): Planted {
    const { dice, world } = this;
    const project = dice.pick(this.projects);
    const own = (): Record<string, Label> => ({ [dice.pick(['user_id', 'uid'])]: dice.pick(this.cast.labels) });
    const other = (): Record<string, Label> => ({
      [dice.pick(['user_id', 'uid'])]: dice.pick([...this.cast.alike, 'u_7', 'u_8', 'u_9']),
    });
    const count = dice.int(kind === 'mixed' ? 2 : 1, 4);
    const carriedBy = dice.pick(['all', 'root', 'last'] as const);
    const stranger = dice.int(1, Math.max(1, count - 1));
    const runs = Array.from({ length: count }, (_, index) => {
      const carries = carriedBy === 'all' || (carriedBy === 'root' ? index === 0 : index === count - 1);
      let metadata: Record<string, Label> = {};
      if (kind === 'mixed') metadata = index === 0 ? own() : index === stranger ? other() : {};
      else if (carries && kind !== 'unlabelled') metadata = kind === 'own' ? own() : other();
      // Nested: each run hangs on the one before it.
      return {
        metadata,
        parent: index === 0 ? undefined : index - 1,
        startTime: world.now() - dice.int(0, 90) * DAY_MS,
      };
    });
    const [trace] = world.sim.seed({
      project,
      traces: [{ runs: runs.map(({ parent, ...run }) => (parent === undefined ? run : { ...run, parent })) }],
    });
    const planted = { traceId: trace?.traceId ?? '', runIds: trace?.runIds ?? [], kind, bornMs: world.now() };
    this.planted.push(planted);
    // The same trace in a second project, as applications with replicas write it.
    const second = this.projects.find((name) => name !== project);
    if (second !== undefined && kind !== 'mixed' && dice.chance(0.1)) {
      world.sim.seed({
        project: second,
        traces: [
          {
            traceId: planted.traceId,
            runs: runs.map(({ metadata, startTime }, index) => ({
              metadata,
              startTime,
              id: planted.runIds[index] ?? dice.uuid(),
              ...(index === 0 ? {} : { parent: index - 1 }),
            })),
          },
        ],
      });
    }
    return planted;
  }

  private plantAll(): void {
    // Enough others under every key in every project, so that reads have their controls.
    for (const project of this.projects) {
      for (const key of ['user_id', 'uid']) {
        this.world.sim.seedPeople({ project, key, people: ['u_7', 'u_8', 'u_9'], tracesPerPerson: 2 });
      }
    }
    for (const trace of this.world.sim.truth.allTraces()) {
      this.planted.push({ traceId: trace.traceId, runIds: [], kind: 'stranger', bornMs: this.start });
    }
    const some = (kind: Kind, most: number): void => {
      for (let left = this.dice.int(0, most); left > 0; left -= 1) this.plant(kind);
    };
    some('own', 9);
    some('stranger', 6);
    if (this.dice.chance(0.4)) some('mixed', 3);
    if (this.dice.chance(0.4)) some('unlabelled', 3);
  }

  private request(): Partial<EraseRequest> {
    const { dice } = this;
    const known: string[] = [];
    if (dice.chance(0.5)) {
      for (const trace of this.planted) {
        if (!dice.chance(trace.kind === 'stranger' ? 0.1 : 0.5)) continue;
        const id = dice.chance(0.5) ? trace.traceId : dice.pick([trace.traceId, ...trace.runIds]);
        known.push(dice.chance(0.2) ? id.toUpperCase() : id);
        if (dice.chance(0.1)) known.push(id);
      }
      for (let left = dice.int(0, 3); left > 0; left -= 1) known.push(dice.uuid());
      if (dice.chance(0.3)) known.push(this.world.sim.project('chat').id, 'no-id');
      this.consent = dice.int(0, 8);
    }
    this.note(`erase ${JSON.stringify(this.cast.value)} with ${known.length} ids, consent for ${this.consent}`);
    return {
      identifiers: [{ kind: 'user_id', value: this.cast.value }],
      ...(known.length === 0 ? {} : { known: { [CONNECTION]: known }, acceptUnlabelled: this.consent }),
    };
  }

  private habit(): Partial<LangSmithHabits> {
    const { dice } = this;
    const view = dice.pick(['v1', 'v2'] as const);
    const on = dice.pick(['reads', 'deletes', 'all'] as const);
    const often = dice.pick([{ every: dice.int(2, 6) }, { share: 0.3 }, { count: dice.int(1, 8) }, {}]);
    const own = this.planted.filter(({ kind }) => kind === 'own').map(({ traceId }) => traceId);
    return dice.pick<() => Partial<LangSmithHabits>>([
      () => ({ skipWeekends: dice.int(1, 3) }),
      () => ({ dropShare: dice.pick([0.3, 0.6, 1]) }),
      () => ({ leaveChildren: true }),
      () => ({ viewLag: { view, weeks: dice.int(1, 2) } }),
      () => ({ throttle: { ...often, on, retryAfter: dice.pick([null, 1, 30]) } }),
      () => ({ serverErrors: { ...often, on, status: dice.pick([500, 502, 503]), after: dice.chance(0.5) } }),
      () => ({ resetBefore: { ...often, on } }),
      () => ({ resetAfter: { ...often, on } }),
      () => ({ blind: { what: dice.pick(['all', 'filter'] as const), ...(dice.chance(0.5) ? { view } : {}) } }),
      () => ({ blind: { what: 'all', projects: true } }),
      () => ({ stale: dice.int(1, 48) * HOUR_MS }),
      () => ({ lateTraces: { count: dice.int(1, 3) } }),
      () => ({ lateRuns: { count: dice.int(1, 3) } }),
      () => ({ keyRevoked: dice.pick([401, 403] as const) }),
      () => ({ htmlErrors: { ...often, on, status: dice.pick([200, 502]) } }),
      () => ({ extraFields: true }),
      () => ({ missingFields: [dice.pick(['metadata', 'extra', 'next_cursor', 'cursors', 'trace_id', 'start_time'])] }),
      () => (own.length === 0 ? {} : { rejectBatchWith: { ids: [dice.pick(own)], status: dice.pick([400, 422]) } }),
      () => ({ shiftingPages: { by: dice.int(-2, 2) } }),
      () => ({ v1Gone: dice.pick([404, 410] as const) }),
      () => ({ truncateBody: { ...often, on, how: dice.pick(['cut', 'drop'] as const) } }),
      () => ({ queryFilterIgnored: true }),
      () => ({ traceIdFilter: dice.pick(['rejected', 'ignored'] as const) }),
      () => ({ dateSkewMs: dice.int(-72, 72) * HOUR_MS }),
      () => ({ slow: { ms: dice.int(20, 300) } }),
    ])();
  }

  /** The most dangerous hours: what was submitted stays, and the reads that should show it are bad in some way. */
  private trap(): void {
    const { dice, world } = this;
    const stays = dice.pick<Partial<LangSmithHabits>>([
      { skipWeekends: dice.int(1, 3) },
      { dropShare: dice.pick([0.5, 1]) },
      { leaveChildren: true },
    ]);
    const view = dice.pick(['v1', 'v2'] as const);
    const blind = dice.pick(['all', 'filter'] as const);
    const bad = dice.pick<Partial<LangSmithHabits>>([
      { blind: { what: blind } },
      { blind: { what: 'all' } },
      { blind: { what: 'all' } },
      { blind: { what: blind, view } },
      { blind: { what: 'filter' }, traceIdFilter: 'ignored' },
      { missingFields: [dice.pick(['metadata', 'extra', 'items', 'runs'])] },
      { traceIdFilter: dice.pick(['rejected', 'ignored'] as const) },
      { v1Gone: dice.pick([404, 410] as const) },
      { htmlErrors: { status: 200, on: 'reads', share: 0.5 } },
      { truncateBody: { how: 'cut', on: 'reads', share: 0.5 } },
      { queryFilterIgnored: true },
      { viewLag: { view, weeks: 2 } },
      {},
    ]);
    this.trapped = (): void => {
      this.note(`trap ${JSON.stringify({ ...stays, ...bad })}`);
      world.sim.habits.set(stays);
      const from = world.now() + (dice.chance(0.5) ? 0 : dice.next() * WEEK_MS);
      const act = (habits: Partial<LangSmithHabits>) => () => {
        world.sim.habits.set(habits);
      };
      this.events.push({ atMs: from, name: 'the reads go bad', act: act(bad) });
      this.events.sort((a, b) => a.atMs - b.atMs);
    };
  }

  private trapped: (() => void) | null = null;

  /** What happens, and when. */
  private plan(): void {
    const { dice, world } = this;
    if (dice.chance(0.5)) this.trap();
    // Most of it while a request that nothing disturbs would be at work.
    const at = (): number => this.start + dice.next() * WEEK_MS * dice.pick([0.1, 1.6, 1.6, WILD_WEEKS - 0.2]);
    for (let left = dice.int(0, 9); left > 0; left -= 1) {
      const habits = this.habit();
      const from = dice.chance(0.3) ? this.start : at();
      this.events.push({
        atMs: from,
        name: `habit ${JSON.stringify(habits)}`,
        act: () => {
          world.sim.habits.set(habits);
        },
      });
      if (dice.chance(0.6)) {
        this.events.push({
          atMs: from + dice.next() * 2 * WEEK_MS,
          name: 'habits off',
          act: () => {
            world.sim.habits.reset();
          },
        });
      }
    }
    const verbs = ['retry', 'retry', 'checkNow', 'checkNow', 'checkNow', 'hold', 'release', 'release'] as const;
    for (let left = dice.int(0, 6); left > 0; left -= 1) {
      const verb = dice.chance(0.02) ? 'abandon' : dice.pick(verbs);
      this.events.push({
        atMs: at(),
        name: verb,
        act: async () => {
          const [answer] = await world.client[verb](this.erasure?.requestId ?? '', BY);
          this.note(`  ${answer?.text ?? ''}`);
        },
      });
    }
    for (let left = dice.int(-1, 2); left > 0; left -= 1) {
      this.events.push({
        atMs: at(),
        name: 'worker restarts',
        act: async () => {
          this.down = true;
          await world.stopWorker();
          await sleep(dice.int(0, 800));
          await this.restart();
        },
      });
    }
    for (let left = dice.int(-2, 2); left > 0; left -= 1) {
      const kind = dice.pick(['own', 'own', 'mixed', 'stranger', 'unlabelled'] as const);
      this.events.push({
        atMs: at(),
        name: `a late trace, ${kind}`,
        act: () => {
          this.plant(kind);
        },
      });
    }
    this.events.sort((a, b) => a.atMs - b.atMs);
  }

  private async restart(): Promise<void> {
    await this.world.startWorker();
    this.down = false;
  }

  private lane(status: RequestStatus): ConnectionStatus {
    const lane = status.connections[CONNECTION];
    if (lane === undefined) throw new Error('the lane is gone');
    return lane;
  }

  /** Live traces with any run of the person's. */
  private live(): readonly string[] {
    const { truth } = this.world.sim;
    return truth.tracesOf(this.cast.labels.flatMap((value) => ['user_id', 'uid'].map((key) => ({ key, value }))));
  }

  /** What holds at every moment. */
  private look(status: RequestStatus): void {
    const lane = this.lane(status);
    const said = `${lane.status}, round ${lane.round}, ${lane.attention?.reason ?? ''} ${lane.lastRead ?? ''}`;
    if (this.last === null || said !== this.said) this.note(said);
    this.said = said;
    this.last = status;
    const sums = imbalances(lane);
    if (sums.length > 0) throw new Error(`ledgers: ${sums.join('; ')}`);
    this.nobodyElse();
    if (status.endedAt !== null || this.down) return;
    const idle = lane.status === 'waiting' || lane.status === 'needs-operator';
    if (idle && lane.nextCheckAt === null && lane.attention === null)
      throw new Error('open, idle, and nothing planned');
    if (lane.status === 'waiting' && lane.nextCheckAt !== null) {
      const lateMs = (this.world.now() - Date.parse(lane.nextCheckAt)) / SPEED;
      if (lateMs > LATE_MS) throw new Error(`the next check is ${Math.round(lateMs)} ms past`);
    }
  }

  private said = '';

  private nobodyElse(): void {
    const { truth } = this.world.sim;
    if (truth.unasked().length > 0) throw new Error('traces were deleted that nobody asked for');
    const kinds = new Map(this.planted.map((trace) => [trace.traceId, trace]));
    const unlabelled = this.planted.filter(({ kind }) => kind === 'unlabelled').length;
    for (const { traceIds, atMs } of truth.submissions()) {
      for (const traceId of traceIds) {
        const trace = kinds.get(traceId);
        if (trace === undefined || trace.kind === 'own' || trace.bornMs > atMs) continue;
        // Consent is for a number; below it any of the unlabelled ones may be among the ids given.
        if (trace.kind === 'unlabelled' && this.consent > 0 && unlabelled > 0) continue;
        throw new Error(`a trace was submitted that is not theirs alone: ${trace.kind} ${traceId}`);
      }
    }
  }

  /** What holds at the end. */
  private async judge(status: RequestStatus): Promise<void> {
    const lane = this.lane(status);
    const kinds = new Set<string>(status.exceptions.map(({ kind }) => kind));
    const { traces, given, copies } = lane;
    const needed: readonly (readonly [string, number])[] = [
      ['survived', traces.survived],
      ['shared', traces.shared],
      ['linked', traces.linked],
      ['inconclusive', traces.inconclusive],
      ['unresolved', given.unresolved],
      ['manual-copies', copies.manual],
    ];
    if (status.status !== 'abandoned') {
      for (const [kind, count] of needed) {
        if (count > 0 && !kinds.has(kind)) throw new Error(`${count} ${kind}, and no exception says so`);
      }
      if (traces.pending > 0) throw new Error('ended with traces pending');
    }
    if (['verified', 'nothing-found'].includes(status.status) && kinds.size > 0)
      throw new Error('verified, with exceptions');

    const { lanes } = await this.world.record(status.requestId);
    const counted = (lanes[CONNECTION]?.entries ?? []).flatMap(({ entry }) =>
      (entry.kind === 'read' && entry.counted) || entry.kind === 'plan' ? [Date.parse(entry.at)] : [],
    );
    // A store that serves the state of two days ago shows what was written since to nobody.
    const readMs = Math.max(0, ...counted) - 2 * DAY_MS;
    const kept = new Map(this.planted.map((trace) => [trace.traceId, trace]));
    const left = this.live().filter((traceId) => {
      const trace = kept.get(traceId);
      return trace?.kind !== 'mixed' && (trace === undefined || trace.bornMs < readMs);
    });
    const admitted = traces.survived + traces.inconclusive + traces.abandoned + traces.shared;
    // Who abandons hears no claim, and may do so before anything was found.
    if (status.status !== 'abandoned' && left.length > admitted) {
      throw new Error(`ended ${status.status} and admits ${admitted}, while ${left.length} live: ${left.join(', ')}`);
    }
    if (['verified', 'nothing-found'].includes(status.status)) {
      const mixed = this.live().filter((traceId) => (kept.get(traceId)?.bornMs ?? 0) < readMs);
      if (mixed.length > 0) throw new Error(`ended ${status.status}, while ${mixed.length} live: ${mixed.join(', ')}`);
    }
  }
}

const BY = { requestedBy: 'hunter', reason: 'hunt' };
const ends: string[] = [];

afterAll(() => {
  process.stdout.write(`\nhunt: ${ends.length} of ${STORIES} stories from seed ${FIRST_SEED}\n${ends.join('\n')}\n`);
});

describe('P1 P2 P3 P13 P16 P26 P29: whatever happens, the verdict is true and nobody else is touched', () => {
  test.concurrent.each(Array.from({ length: STORIES }, (_, index) => FIRST_SEED + index))(
    'seed %i',
    async (seed) => {
      ends.push(`${seed}: ${await Story.tell(seed)}`);
    },
    240_000,
  );
});
