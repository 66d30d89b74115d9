import { setTimeout as sleep } from 'node:timers/promises';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import type { Erasure } from '../../src/client/client.ts';
import type { VerbAnswer } from '../../src/client/verbs.ts';
import type { EraseRequest } from '../../src/erasure/request.ts';
import type { RequestStatus } from '../../src/erasure/status.ts';
import { KillSwitch, killSwitchFile } from '../../src/stores/kill-switch.ts';
import { sharedBundle } from '../support/bundle.ts';
import { FRIDAY_EVENING, World } from '../support/world.ts';
import { BrokenPromise, judgeEnd, judgeQuiet, judgeStatus, type LaneFacts } from './promises.ts';
import { CASTS, WILD_WEEKS, type OperatorAct, type Restart, type Scenario, type Verb, type When } from './scenario.ts';
import { DAY_MS, HOUR_MS, mayLie, startSide, WEEK_MS, type Planted, type Side } from './stores.ts';

/** A virtual week in 3 s. */
const SPEED = 200_000;

/** Real milliseconds between two looks at what is due, and looks at the clock between two looks at the status. */
const TICK_MS = 15;
const TICKS_PER_LOOK = 4;

/**
 * Once all is calm a lane ends within so many steps, each planned at most so far ahead. Steps are counted, not hours: a slow
 * machine makes few steps in many virtual weeks.
 */
const CALM_STEPS = 40;
const CALM_AHEAD_MS = 11 * DAY_MS;

/** Real time without any change after which a story hangs. Nothing but a step that never ends takes so long. */
const HANGS_MS = 120_000;

const BY = { requestedBy: 'operator', reason: 'model' };

/** What a story came to. */
export interface Told {
  readonly status: RequestStatus['status'];
  readonly log: readonly string[];
}

/** Something that waits for its moment. */
interface Pending {
  readonly when: When;
  readonly side: Side;
  /** Virtual epoch milliseconds; null until its clock has begun to run. */
  atMs: number | null;
  readonly act: () => void;
}

/** Tells one story through the real workflow and the simulators. @throws BrokenPromise, with what happened. */
export async function tell(scenario: Scenario): Promise<Told> {
  // The clock of a story runs from the first line on: what is made once for all is made before.
  await sharedBundle();
  const started: { sides: Side[] } = { sides: [] };
  const world = await World.start('model', {
    speed: SPEED,
    start: FRIDAY_EVENING + scenario.startHalfDays * 12 * HOUR_MS,
    graceMs: scenario.restarts.some(({ how }) => how === 'crash') ? 0 : 1000,
    ready: async (clock) => {
      started.sides = await Promise.all(scenario.stores.map(({ store }) => startSide(store, clock, scenario.pageSize)));
      return {};
    },
    config: (config) => ({
      ...config,
      identifiers: ['user_id'],
      connections: Object.fromEntries(started.sides.map((side) => [side.connection, side.config])),
    }),
    worker: false,
  });
  const story = new Story(scenario, world, started.sides);
  try {
    return await story.run();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const promise = error instanceof BrokenPromise ? error.promise : 'broken test';
    throw new StoryError(promise, why, story.log, error);
  } finally {
    await story.settle();
    await world.close();
    for (const side of started.sides) await side.close();
  }
}

/** A story that went wrong, with its log. */
export class StoryError extends Error {
  readonly promise: string;

  constructor(promise: string, why: string, log: readonly string[], cause: unknown) {
    super(`${why}\n${log.map((line) => `  ${line}`).join('\n')}`, { cause });
    this.name = 'StoryError';
    this.promise = promise;
  }
}

class Story {
  readonly log: string[] = [];
  private readonly scenario: Scenario;
  private readonly world: World;
  private readonly sides: readonly Side[];
  private readonly cast: (typeof CASTS)[number];
  private readonly facts: LaneFacts[] = [];
  /** When the request was made, virtual epoch milliseconds. */
  private start: number;
  private readonly off = new Map<Side, Readonly<Record<string, unknown>>>();
  private readonly pending: Pending[] = [];
  private readonly openLies = new Map<Side, Map<string, LaneFacts['lies'][number]>>();
  private readonly seen = new Map<Side, { request: number; delete: number }>();
  /** Messages and restarts, one after the other. */
  private chain: Promise<void> = Promise.resolve();
  private failure: { readonly error: unknown } | null = null;
  private erasure: Erasure | null = null;
  private calm = false;
  private ended = false;
  private lastSaid = '';
  private lastArrived = '';
  private lastChange = Date.now();

  constructor(scenario: Scenario, world: World, sides: readonly Side[]) {
    this.scenario = scenario;
    this.world = world;
    this.sides = sides;
    const cast = CASTS[scenario.cast];
    if (cast === undefined) throw new RangeError('no such cast');
    this.cast = cast;
    this.start = world.now();
    for (const side of sides) {
      this.off.set(side, side.current());
      this.seen.set(side, { request: 0, delete: 0 });
      this.openLies.set(side, new Map());
    }
  }

  async run(): Promise<Told> {
    const known = this.plantAll();
    this.planAll();
    for (const side of this.sides) {
      side.onArrival((family) => {
        this.arrived(side, family);
      });
    }
    await this.world.startWorker();
    this.start = this.world.now();
    this.due();
    this.erasure = await this.world.erase(this.request(known));
    const { requestId, workflowId } = this.erasure;
    const texts: string[] = [];
    let stepsBeforeCalm = new Map<string, number>();
    for (let tick = 0; ; tick += 1) {
      this.assertNoFailure();
      this.due();
      if (!this.calm && this.world.now() >= this.start + WILD_WEEKS * WEEK_MS) {
        await this.becalm(requestId);
        stepsBeforeCalm = await this.steps(requestId);
      }
      if (tick % TICKS_PER_LOOK === 0) {
        const status = await this.look();
        const text = JSON.stringify(status);
        if (texts.at(-1) !== text) texts.push(text);
        if (status.endedAt !== null) {
          this.ended = true;
          await this.settle();
          this.assertNoFailure();
          await this.judge(status, workflowId, texts);
          return { status: status.status, log: this.log };
        }
        if (this.calm) await this.assertEnding(status, requestId, stepsBeforeCalm, tick);
        if (Date.now() - this.lastChange > HANGS_MS)
          throw new BrokenPromise('P26', 'nothing has happened for two minutes');
      }
      await sleep(TICK_MS);
    }
  }

  private assertNoFailure(): void {
    if (this.failure !== null) throw this.failure.error;
  }

  /** Waits for messages and restarts under way. */
  async settle(): Promise<void> {
    this.ended = true;
    await this.chain;
  }

  private note(what: string): void {
    this.log.push(`${((this.world.now() - this.start) / WEEK_MS).toFixed(2)} weeks: ${what}`);
  }

  private plantAll(): Readonly<Record<string, string[]>> {
    const known: Record<string, string[]> = {};
    for (const [index, side] of this.sides.entries()) {
      const scene = this.scenario.stores[index];
      if (scene === undefined) throw new RangeError('a store without a scene');
      const bystanders = side.plantBystanders(scene.projects);
      const planted = scene.traces.map((plan) => side.plant(plan, this.cast, scene.projects));
      const given: string[] = [];
      for (const { trace, as, upperCase, twice } of scene.known) {
        const all = [...planted, ...bystanders];
        const chosen = all[trace % all.length];
        const id = as === 'run' ? (chosen?.runIds.at(-1) ?? chosen?.traceId) : chosen?.traceId;
        if (id === undefined) continue;
        given.push(upperCase ? id.toUpperCase() : id);
        if (twice) given.push(id);
      }
      for (let stray = 0; stray < scene.strays; stray += 1) {
        given.push(stray === 2 ? 'no id' : `11111111-2222-4333-8444-55555555555${stray}`);
      }
      if (given.length > 0) known[side.connection] = given;
      const asStored = given.map((id) => (side.store === 'langsmith' ? id.toLowerCase() : id));
      this.facts.push({
        side,
        planted: [...bystanders, ...planted],
        joins: [],
        lies: [],
        given: new Set(asStored),
        consent: this.scenario.consent,
        looks: [],
        gone: new Map(),
        holds: [],
        retries: [],
        restarts: [],
        inflated: [],
        explainedAt: null,
        labels: this.cast.labels,
        abandoned: false,
        matched: 0,
      });
      for (const { when, trace } of scene.joins) {
        this.at(when, side, () => {
          const own = planted.filter(({ kind }) => kind === 'own');
          this.join(side, own[trace % Math.max(1, own.length)]);
        });
      }
      for (const { when, trace } of scene.late) {
        this.at(when, side, () => {
          this.note(`${side.connection}: a late trace, ${trace.kind}`);
          this.factsOf(side).planted.push(side.plant(trace, this.cast, scene.projects));
        });
      }
      const ids = planted.filter(({ kind }) => kind === 'own').map(({ traceId }) => traceId);
      for (const { when, set, hours } of scene.habits) this.habit(side, when, withIds(set, ids), hours);
      if (scene.firstDeletes !== null) {
        const { how, count } = scene.firstDeletes;
        const struck = { on: 'deletes', count };
        const set = how === 'refused' ? { serverErrors: { ...struck, status: 503 } } : { resetAfter: struck };
        this.habit(side, { on: 'time', hours: 0 }, set, null);
      }
      if (scene.trap !== null) {
        const { stays, bad, hours } = scene.trap;
        this.habit(side, { on: 'accepted', hours: 0 }, stays, null);
        if (Object.keys(bad).length > 0) this.habit(side, { on: 'accepted', hours }, bad, null);
      }
    }
    return known;
  }

  private request(known: Readonly<Record<string, string[]>>): Partial<EraseRequest> {
    const ids = Object.values(known).flat().length;
    this.note(`erase ${JSON.stringify(this.cast.value)} with ${ids} ids, consent for ${this.scenario.consent}`);
    return {
      identifiers: [{ kind: 'user_id', value: this.cast.value }],
      ...(ids === 0 ? {} : { known, acceptUnlabelled: this.scenario.consent }),
    };
  }

  private planAll(): void {
    for (const act of this.scenario.operator) {
      this.at(act.when, this.sideAt(act.store), () => {
        this.queue(() => this.operate(act));
      });
    }
    for (const restart of this.scenario.restarts) {
      this.at(restart.when, this.sideAt(restart.store), () => {
        this.queue(() => this.restart(restart));
      });
    }
  }

  private sideAt(index: number): Side {
    const side = this.sides[index % this.sides.length];
    if (side === undefined) throw new RangeError('a story without stores');
    return side;
  }

  private factsOf(side: Side): LaneFacts {
    const facts = this.facts.find((one) => one.side === side);
    if (facts === undefined) throw new RangeError('a side without facts');
    return facts;
  }

  private at(when: When, side: Side, act: () => void): void {
    this.pending.push({ when, side, atMs: null, act });
  }

  /** Does what is due by the clock. */
  private due(): void {
    if (this.ended || this.calm) return;
    const now = this.world.now();
    for (const one of this.pending) {
      if (one.when.on === 'time') one.atMs ??= this.start + one.when.hours * HOUR_MS;
      if (one.when.on === 'accepted' && one.atMs === null && hasAccepted(one.side))
        one.atMs = now + one.when.hours * HOUR_MS;
    }
    this.take(({ atMs }) => atMs !== null && atMs <= now);
  }

  /** Does what is due at the nth request, in the very moment in which it arrives. */
  private arrived(side: Side, family: string): void {
    const seen = this.seen.get(side);
    if (seen === undefined || this.ended || this.calm) return;
    seen.request += 1;
    if (family === 'deletes') seen.delete += 1;
    this.take(
      (one) =>
        one.side === side &&
        ((one.when.on === 'request' && one.when.nth <= seen.request) ||
          (one.when.on === 'delete' && one.when.nth <= seen.delete)),
    );
  }

  private take(isDue: (one: Pending) => boolean): void {
    const due = this.pending.filter(isDue);
    for (const one of due) this.pending.splice(this.pending.indexOf(one), 1);
    for (const { act } of due) act();
  }

  private queue(act: () => Promise<void>): void {
    this.chain = this.chain.then(async () => {
      if (this.ended || this.failure !== null) return;
      try {
        await act();
      } catch (error) {
        this.failure = { error };
      }
    });
  }

  private habit(side: Side, when: When, set: Readonly<Record<string, unknown>>, hours: number | null): void {
    this.at(when, side, () => {
      this.note(`${side.connection}: ${JSON.stringify(set)}`);
      this.switch(side, set);
      if (hours === null) return;
      this.pending.push({
        when: { on: 'time', hours: 0 },
        side,
        atMs: this.world.now() + hours * HOUR_MS,
        act: () => {
          this.note(`${side.connection}: no ${Object.keys(set).join(', ')} any more`);
          this.switchOff(side, Object.keys(set));
        },
      });
    });
  }

  private switch(side: Side, set: Readonly<Record<string, unknown>>): void {
    side.habits.set(set);
    const facts = this.factsOf(side);
    const at = side.arrivals().length;
    if ('countsInflatedBy' in set) facts.inflated.push({ from: at, to: Infinity });
    for (const name of Object.keys(set)) {
      if (!mayLie({ [name]: set[name] }) || this.openLies.get(side)?.has(name) === true) continue;
      // The request that is on its way already may be answered by it.
      const lie: LaneFacts['lies'][number] = { from: at - 1, to: null };
      facts.lies.push(lie);
      this.openLies.get(side)?.set(name, lie);
    }
  }

  private switchOff(side: Side, names: readonly string[]): void {
    const off = this.off.get(side) ?? {};
    side.habits.set(Object.fromEntries(names.map((name) => [name, off[name]])));
    const at = side.arrivals().length;
    for (const name of names) {
      const lie = this.openLies.get(side)?.get(name);
      if (lie !== undefined) lie.to = at;
      this.openLies.get(side)?.delete(name);
    }
    if (names.includes('countsInflatedBy'))
      for (const one of this.factsOf(side).inflated) one.to = Math.min(one.to, at);
  }

  private join(side: Side, trace: Planted | undefined): void {
    if (trace === undefined || !side.isLive(trace.traceId)) return;
    this.note(`${side.connection}: somebody else joins a trace`);
    side.join(trace);
    this.factsOf(side).joins.push({ traceId: trace.traceId, at: side.arrivals().length - 1 });
  }

  private async operate({ verb, store, alone, hours }: OperatorAct): Promise<void> {
    const side = this.sideAt(store);
    const connection = alone ? side.connection : undefined;
    await this.send(verb, connection);
    if (verb !== 'hold' || hours === null) return;
    this.pending.push({
      when: { on: 'time', hours: 0 },
      side,
      atMs: this.world.now() + hours * HOUR_MS,
      act: () => {
        this.queue(() => this.send('release', connection));
      },
    });
  }

  private async send(verb: Verb, connection: string | undefined): Promise<void> {
    if (this.erasure === null) return;
    const addressed = this.facts.filter(({ side }) => connection === undefined || side.connection === connection);
    for (const { side, holds, retries } of addressed) {
      const at = side.arrivals().length;
      if (verb === 'release') for (const hold of holds) hold.to ??= at;
      if (verb === 'retry') retries.push(at);
    }
    const message = connection === undefined ? BY : { ...BY, connection };
    const [answer] = await this.world.client[verb](this.erasure.requestId, message);
    this.note(`${verb}: ${answer?.text ?? ''}`);
    this.answered(verb, answer);
  }

  private answered(verb: Verb, answer: VerbAnswer | undefined): void {
    for (const facts of this.facts) {
      if (answer?.receipt?.connections.includes(facts.side.connection) !== true) continue;
      if (verb === 'hold') facts.holds.push({ from: facts.side.arrivals().length, to: null });
      if (verb === 'abandon') {
        facts.abandoned = true;
        for (const hold of facts.holds) hold.to ??= facts.side.arrivals().length;
      }
    }
  }

  private async restart({ how, downHours }: Restart): Promise<void> {
    this.note(`the worker goes: ${how}`);
    for (const { side, restarts } of this.facts) restarts.push(side.arrivals().length);
    const before = new Map(this.sides.map((side) => [side, side.current()['resetAfter']]));
    if (how === 'crash') for (const side of this.sides) side.habits.set({ resetAfter: {} });
    await this.world.stopWorker();
    if (how === 'crash') for (const [side, resetAfter] of before) side.habits.set({ resetAfter });
    await sleep((downHours * HOUR_MS) / SPEED);
    for (const { side, restarts } of this.facts) restarts.push(side.arrivals().length);
    await this.world.startWorker();
    this.note('the worker is back');
  }

  /** Everything that may still go wrong is over. */
  private async becalm(requestId: string): Promise<void> {
    this.note('all is calm');
    this.calm = true;
    this.pending.length = 0;
    await this.chain;
    for (const side of this.sides) {
      side.habits.reset();
      const at = side.arrivals().length;
      for (const lie of this.factsOf(side).lies) lie.to ??= at;
      const facts = this.factsOf(side);
      for (const one of facts.inflated) one.to = Math.min(one.to, at);
      facts.explainedAt = at;
      const why = new KillSwitch(killSwitchFile(this.world.stateDir, side.connection)).reset('operator', 'model');
      if (why !== null) this.note(`${side.connection}: deletes are allowed again`);
      for (const hold of facts.holds) hold.to ??= at;
    }
    await this.world.client.release(requestId, BY);
  }

  /** Steps that each lane has told in its record. */
  private async steps(requestId: string): Promise<Map<string, number>> {
    const view = await this.world.client.records.read(requestId);
    return new Map(Object.entries(view?.lanes ?? {}).map(([name, { entries }]) => [name, entries.length]));
  }

  /** P26: once all is calm, every lane ends, or says why it does not and what comes next. */
  private async assertEnding(
    status: RequestStatus,
    requestId: string,
    before: ReadonlyMap<string, number>,
    tick: number,
  ): Promise<void> {
    for (const [name, lane] of Object.entries(status.connections)) {
      const next = lane.nextCheckAt === null ? null : Date.parse(lane.nextCheckAt);
      if (next !== null && next > this.world.now() + CALM_AHEAD_MS)
        throw new BrokenPromise('P26', `${name} will look again only in more than eleven days`);
      if (lane.status === 'awaiting-approval' && !this.facts.some(({ abandoned }) => abandoned)) {
        this.note(`${name} waits for an operator, who gives up`);
        await this.send('abandon', undefined);
      }
    }
    if (tick % (TICKS_PER_LOOK * 16) !== 0) return;
    for (const [name, steps] of await this.steps(requestId)) {
      const since = steps - (before.get(name) ?? 0);
      if (since > CALM_STEPS) throw new BrokenPromise('P26', `${name} is open ${since} steps after all is calm`);
    }
  }

  private async look(): Promise<RequestStatus> {
    const asked = this.facts.map(({ side }) => side.arrivals().length);
    this.watchGoing();
    const status = await this.world.client.status(this.erasure?.requestId ?? '');
    for (const [index, facts] of this.facts.entries()) {
      const lane = status.connections[facts.side.connection];
      if (lane !== undefined) facts.looks.push({ asked: asked[index] ?? 0, status: lane.status });
    }
    const said = Object.entries(status.connections)
      .map(([name, lane]) => {
        const why = [lane.attention?.reason, lane.lastRead].filter((text) => text != null).join(', ');
        return `${name} ${lane.status}, round ${lane.round}, ${lane.cleanReads} clean${why === '' ? '' : `, ${why}`}`;
      })
      .join('; ');
    const arrived = this.sides.map((side) => side.arrivals().length).join();
    if (said !== this.lastSaid || arrived !== this.lastArrived) this.lastChange = Date.now();
    if (said !== this.lastSaid) this.note(said);
    this.lastSaid = said;
    this.lastArrived = arrived;
    judgeStatus(status, this.facts);
    return status;
  }

  private watchGoing(): void {
    for (const { side, planted, gone } of this.facts) {
      for (const { traceId, kind, replica } of planted) {
        if (kind !== 'own' || replica === true) continue;
        const before = gone.get(traceId);
        const lives = side.isLive(traceId);
        if (before === undefined && !lives) gone.set(traceId, { at: side.arrivals().length, back: false });
        if (before !== undefined && lives) before.back = true;
      }
    }
  }

  private async judge(status: RequestStatus, workflowId: string, texts: readonly string[]): Promise<void> {
    const record = await this.world.record(status.requestId);
    judgeEnd(status, this.facts, record);
    const history = historyToJSON(await this.world.client.temporal.workflow.getHandle(workflowId).fetchHistory());
    const ids = this.facts.flatMap(({ planted }) =>
      planted.filter(({ kind }) => kind === 'own').map(({ traceId }) => traceId),
    );
    judgeQuiet(this.cast.value, ids, { status: texts.join('\n'), record: JSON.stringify(record), history });
  }
}

function hasAccepted(side: Side): boolean {
  return side
    .arrivals()
    .some(
      ({ family, ids, status }) =>
        family === 'deletes' && ids !== null && ids.length > 0 && status >= 200 && status < 300,
    );
}

/** Fills in ids, which no scenario can know. */
function withIds(set: Readonly<Record<string, unknown>>, ids: readonly string[]): Readonly<Record<string, unknown>> {
  const reject = set['rejectBatchWith'];
  return typeof reject === 'object' ? { ...set, rejectBatchWith: { ...reject, ids: ids.slice(0, 1) } } : set;
}
