import { expect } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigInput } from '../../src/config/config.ts';
import type { EraseRequest } from '../../src/erasure/request.ts';
import { imbalances } from '../../src/erasure/ledger.ts';
import type { Verdict } from '../../src/erasure/outcome.ts';
import { DAY_MS } from '../../src/erasure/rhythm.ts';
import type { ConnectionStatus, RequestStatus } from '../../src/erasure/status.ts';
import type { Read, TraceStore } from '../../src/stores/port.ts';
import { watchToEnd } from '../support/watch.ts';
import { World } from '../support/world.ts';
import type { NotPossible, Seeded, SeedTrace, StoreHarness, StoreServer } from './harness.ts';
import { keyOf, OTHERS } from './scene.ts';
import { FAULTS, Wire } from './wire.ts';

const CONNECTION = 'store-prod';
const PERSON = 'u_42';

/** A whole erasure on the real workflow, with everything that a case may look at or touch. */
export interface Act {
  readonly harness: StoreHarness;
  readonly world: World;
  readonly server: StoreServer;
  readonly wire: Wire;
  readonly traits: TraceStore['traits'];
  /** The person's traces as the request finds them: two in each project. */
  readonly traces: readonly Seeded[];
  readonly others: ReadonlyMap<string, readonly Seeded[]>;
  /** Writes traces of the person that must go as well. */
  late(traces: readonly SeedTrace[]): Promise<readonly Seeded[]>;
  /** Writes traces that must stay. */
  kept(traces: readonly SeedTrace[]): Promise<readonly Seeded[]>;
  /** Lets the decoration of the connection take effect, until the store is healed. */
  switchOn(): void;
  /** These need not stay. */
  mayGo(traces: readonly Seeded[]): void;
  /** Waits until the store has carried out what was acknowledged. */
  gone(traces: readonly Seeded[]): Promise<void>;
}

/** One case as a whole erasure. */
export interface ErasureCase {
  readonly name: string;
  /** The connection as the worker gets it; `isOn` tells whether `Act.switchOn` was called and the store not yet healed. */
  readonly decorate?: (store: TraceStore, isOn: () => boolean) => TraceStore;
  /** Part of the config's `policy`. Default: none of it. */
  readonly policy?: ConfigInput['policy'];
  /** Staged before the request; may add to it. */
  readonly before?: (act: Act) => Promise<Partial<EraseRequest> | NotPossible | undefined>;
  /** Done when every delete call of the first round was acknowledged. */
  readonly afterSubmit?: (act: Act) => Promise<void>;
  /** What Lethe must say meanwhile; then the store is healed. */
  readonly until?: (lane: ConnectionStatus) => boolean;
  readonly end: Verdict;
  /** Kinds of the exceptions at the end, in any order. Default: none. */
  readonly exceptions?: readonly string[];
  /** Kinds that may be among them as well. Default: none. */
  readonly mayAdd?: readonly string[];
  /**
   * Why a copy that the store lets us erase by itself may be seen again by the last look at it: then it is left to a
   * person, rightly. Default: it may not.
   */
  readonly copyMayStay?: string;
  /** Traces of a conversation of the person's are kept, and with them what the store makes of it. Default: false. */
  readonly conversationStays?: true;
  readonly check?: (act: Act, lane: ConnectionStatus, status: RequestStatus) => void | Promise<void>;
}

/** Others whose names a careless comparison takes for the person's. */
const LOOK_ALIKES = ['U_42', 'u_420', 'u_42 ', 'u_4'];

const says = (reason: string) => (lane: ConnectionStatus) => lane.attention?.reason === reason;
const secondRound = (lane: ConnectionStatus) => lane.round >= 2;

const laneOf = (status: RequestStatus): ConnectionStatus => {
  const lane = status.connections[CONNECTION];
  if (lane === undefined) throw new Error('no such lane');
  return lane;
};

const PERSON_ROWS = [
  { persons: { user_id: PERSON } },
  { persons: { user_id: PERSON } },
  { persons: { user_id: PERSON } },
];

/** Turns on what the kit itself does to the calls. */
const fault =
  (make: (act: Act) => Parameters<Wire['set']>[0]) =>
  (act: Act): Promise<undefined> => {
    act.wire.set(make(act));
    return Promise.resolve(undefined);
  };

export const ERASURE_CASES: readonly ErasureCase[] = [
  {
    name: 'P1: a person is erased and proven gone',
    end: 'verified',
    check: (act, lane) => {
      expect(lane).toMatchObject({ round: 1, traces: { matched: 4, verifiedAbsent: 4 } });
      expect(act.wire.calls.filter(({ isDelete }) => isDelete).length).toBeGreaterThan(0);
    },
  },
  {
    name: 'P1: nobody by that name is nothing found, and nothing is deleted',
    before: async () => ({ identifiers: [{ kind: 'user_id', value: 'nobody-1' }] }),
    end: 'nothing-found',
    check: (act) => {
      act.mayGo([]);
      expect(act.wire.calls.filter(({ isDelete }) => isDelete)).toEqual([]);
    },
  },
  {
    name: 'P4: a root gone with rows left is a survivor, and is deleted again',
    afterSubmit: async (act) => {
      await act.gone(act.traces);
      const [first] = act.traces;
      await act.late([
        { project: act.harness.projects[0], traceId: first?.traceId ?? '', rootless: true, rows: PERSON_ROWS.slice(1) },
      ]);
    },
    end: 'verified',
    check: (_act, lane) => expect(lane.round).toBeGreaterThan(1),
  },
  {
    name: 'P4: rows that come back without their person under a deleted trace are caught',
    afterSubmit: async (act) => {
      await act.gone(act.traces);
      const [first] = act.traces;
      await act.late([
        {
          project: act.harness.projects[0],
          traceId: first?.traceId ?? '',
          rows: (first?.rowIds ?? []).map((rowId) => ({ rowId })),
        },
      ]);
    },
    end: 'verified',
    check: (_act, lane) => expect(lane.round).toBeGreaterThan(1),
  },
  {
    name: 'P3: a trace that comes late is found by the reads that verify',
    afterSubmit: async (act) => {
      await act.gone(act.traces);
      await act.late([{ project: act.harness.projects[1], rows: PERSON_ROWS }]);
    },
    end: 'verified',
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 5, verifiedAbsent: 5 }),
  },
  {
    name: 'P2: deletions that are acknowledged and not carried out are survivors, sent again',
    before: (act) => turnOn(act.server.habits.dropsDeletes),
    until: secondRound,
    end: 'verified',
  },
  {
    name: 'P17: a trace of two people stays whole and is an exception',
    before: async (act) => {
      const project = act.harness.projects[0];
      await act.kept([{ project, rows: [{ persons: { user_id: PERSON } }, {}, { persons: { user_id: 'other-1' } }] }]);
      return undefined;
    },
    end: 'verified-with-exceptions',
    exceptions: ['shared'],
    copyMayStay: 'what stays of the person brings it back',
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 5, verifiedAbsent: 4, shared: 1 }),
  },
  {
    name: 'P12: the same conversation without a user id is found, kept and an exception; another one is nobody’s business',
    before: async (act) => {
      const [project, elsewhere] = act.harness.projects;
      await act.late([{ project, rows: [{ persons: { user_id: PERSON }, thread: 'talk-1' }, {}] }]);
      await act.kept([
        { project, rows: [{ thread: 'talk-1' }, {}] },
        { project, rows: [{ persons: { user_id: 'other-1' }, thread: 'talk-2' }] },
        { project, rows: [{ thread: 'talk-2' }] },
        // A conversation belongs to its project.
        { project: elsewhere, rows: [{ thread: 'talk-1' }] },
      ]);
      return undefined;
    },
    end: 'verified-with-exceptions',
    exceptions: ['linked'],
    conversationStays: true,
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 6, verifiedAbsent: 5, linked: 1 }),
  },
  {
    name: 'P12 P17: a policy erases kept traces along, and never those of a conversation that holds other people',
    policy: { sharedTraces: 'erase', linkedTraces: 'erase' },
    before: async (act) => {
      const [project] = act.harness.projects;
      const person = { user_id: PERSON };
      await act.late([
        { project, rows: [{ persons: person, thread: 'o\'talk "1"' }] },
        { project, rows: [{ thread: 'o\'talk "1"' }, {}] },
        { project, rows: [{ persons: person }, {}, { persons: { user_id: 'other-1' } }] },
        { project, rows: [{ persons: person, thread: 'talk-2' }] },
      ]);
      await act.kept([
        { project, rows: [{ persons: { user_id: 'other-2' }, thread: 'talk-2' }] },
        { project, rows: [{ thread: 'talk-2' }, {}] },
        { project, rows: [{ thread: 'talk-3' }] },
      ]);
      return undefined;
    },
    end: 'verified-with-exceptions',
    exceptions: ['linked', 'shared-threads'],
    conversationStays: true,
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 9, verifiedAbsent: 8, linked: 1, shared: 0 }),
  },
  {
    name: 'P12: what is written into the conversation late, without a user id, is seen before anything is called proven',
    before: async (act) => {
      const [project] = act.harness.projects;
      await act.late([{ project, rows: [{ persons: { user_id: PERSON }, thread: 'talk-1' }] }]);
      return undefined;
    },
    afterSubmit: async (act) => {
      const startMs = act.harness.erasure.startMs - 20 * DAY_MS;
      await act.kept([{ project: act.harness.projects[0], rows: [{ thread: 'talk-1', startMs }] }]);
    },
    end: 'verified-with-exceptions',
    exceptions: ['linked'],
    conversationStays: true,
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 6, verifiedAbsent: 5, linked: 1 }),
  },
  {
    name: 'P21: what begins after the cut-off is new activity, kept and an exception, whenever it is found',
    policy: { sharedTraces: 'erase', linkedTraces: 'erase' },
    before: async (act) => {
      await act.kept([{ project: act.harness.projects[0], rows: begunLater(act) }]);
      return { receivedAt: new Date(act.harness.erasure.startMs - 10 * DAY_MS).toISOString() };
    },
    afterSubmit: async (act) => {
      await act.kept([{ project: act.harness.projects[1], rows: begunLater(act) }]);
    },
    end: 'verified-with-exceptions',
    exceptions: ['new-activity'],
    copyMayStay: 'what begins later brings it back',
    check: (_act, lane) =>
      expect(lane).toMatchObject({ round: 1, traces: { matched: 6, verifiedAbsent: 4, newActivity: 2 } }),
  },
  {
    name: 'P15: a search that finds look-alikes too leads to nobody but the person',
    before: async (act) => {
      const project = act.harness.projects[0];
      await act.kept(LOOK_ALIKES.map((user_id) => ({ project, rows: [{ persons: { user_id } }, {}] })));
      return undefined;
    },
    // As of a store whose searches fold case or take a beginning for the whole.
    decorate: (store) => ({
      ...store,
      finders: store.finders.map((finder) => ({
        ...finder,
        find: (query) =>
          finder.find({
            ...query,
            terms: query.terms.map((term) => ({ ...term, variants: [...term.variants, ...LOOK_ALIKES] })),
          }),
      })),
    }),
    end: 'verified',
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 4, verifiedAbsent: 4 }),
  },
  {
    name: 'P11 P16 P29: given ids are told apart, and foreign ones are never sent',
    before: async (act) => {
      const [own] = act.traces;
      const [other] = act.others.get('other-1') ?? [];
      const wrong = (await act.server.wrongKinds())[0]?.id ?? '';
      const ids = [own?.traceId, own?.rowIds[1], own?.traceId, other?.traceId, act.harness.unknownIds[0], wrong];
      return { known: { [CONNECTION]: ids.filter((id) => id !== undefined) } };
    },
    end: 'verified-with-exceptions',
    exceptions: ['foreign', 'wrong-kind'],
    check: (act, { given, traces }) => {
      const [own] = act.traces;
      // Where the root's row and the trace share an id, the child's is still another.
      expect(own?.rowIds[1]).not.toBe(own?.traceId);
      expect(given).toEqual({ total: 6, resolved: 3, neverMatched: 1, unresolved: 0, wrongKind: 1, duplicate: 1 });
      expect(traces).toMatchObject({ matched: 4, verifiedAbsent: 4 });
    },
  },
  {
    name: 'P5: finders that disagree are on record, and whatever any of them found is erased',
    decorate: (store) => ({
      ...store,
      finders: store.finders.map((finder, index) => ({
        ...finder,
        find: async (query) => {
          const read = await finder.find(query);
          return index === 0
            ? read
            : { ...read, rows: read.rows.filter(({ traceId }) => traceId !== read.rows[0]?.traceId) };
        },
      })),
    }),
    end: 'verified',
    check: async (act, lane, { requestId }) => {
      expect(lane.traces).toMatchObject({ matched: 4, verifiedAbsent: 4 });
      const plan = (await act.world.record(requestId)).lanes[CONNECTION]?.entries[0]?.entry;
      expect(plan).toMatchObject({ kind: 'plan', disagreements: [expect.stringMatching(/^finders disagree/)] });
    },
  },
  {
    name: 'P5: a finder that loses sight of a kept trace makes reads prove nothing, until it shows it again',
    decorate: (store, isOn) => ({
      ...store,
      finders: store.finders.map((finder, index) => ({
        ...finder,
        find: async (query) => {
          const read = await finder.find(query);
          return isOn() && index === 0 ? { ...read, rows: [] } : read;
        },
      })),
    }),
    before: async (act) => {
      const project = act.harness.projects[0];
      await act.kept([{ project, rows: [{ persons: { user_id: PERSON } }, {}, { persons: { user_id: 'other-1' } }] }]);
      return undefined;
    },
    afterSubmit: async (act) => {
      await act.gone(act.traces);
      act.switchOn();
    },
    until: says('inconclusive'),
    end: 'verified-with-exceptions',
    exceptions: ['shared'],
    // On a fast clock a day may be over before the kit has healed the store: then the finder has been given up.
    mayAdd: ['single-path'],
    copyMayStay: 'what stays of the person brings it back',
    check: async (act, lane, { requestId }) => {
      expect(lane.traces).toMatchObject({ matched: 5, verifiedAbsent: 4, shared: 1 });
      const { entries = [] } = (await act.world.record(requestId)).lanes[CONNECTION] ?? {};
      const doubts = entries.filter(({ entry }) => entry.kind === 'read' && entry.answer === 'inconclusive');
      expect(doubts.length).toBeGreaterThanOrEqual(3);
    },
  },
  {
    name: 'P7: a control that vanishes is replaced without spending a round',
    afterSubmit: async (act) => {
      const going = act.others.get('other-1') ?? [];
      act.mayGo(going);
      await act.server.vanish(going);
    },
    end: 'verified',
    check: (_act, lane) => expect(lane.round).toBe(1),
  },
  {
    name: 'P3 P6: blind when read back: inconclusive, never clean',
    afterSubmit: async (act) => {
      await turnOn(act.server.habits.blind);
    },
    before: (act) => possible(act.server.habits.blind),
    until: says('inconclusive'),
    end: 'verified',
  },
  {
    name: 'P6: reads that miss their controls prove nothing, although controls can be found',
    decorate: (store, isOn) => ({
      ...store,
      finders: store.finders.map((finder) => ({
        ...finder,
        find: async (query) => unseeing(await finder.find(query), isOn),
      })),
      lookups: store.lookups.map((route) => ({
        ...route,
        lookup: async (query) => unseeing(await route.lookup(query), isOn),
      })),
    }),
    // So that whoever believes these reads is wrong.
    before: (act) => turnOn(act.server.habits.dropsDeletes),
    afterSubmit: async (act) => act.switchOn(),
    until: says('inconclusive'),
    end: 'verified',
  },
  {
    name: 'P3: filters ignored: nothing is deleted until they work again',
    before: (act) => turnOn(act.server.habits.filterIgnored),
    until: says('contract-broken'),
    end: 'verified',
  },
  {
    name: 'P3: reads that lag behind never make a verdict early',
    copyMayStay: 'the last look lags behind as well',
    before: (act) =>
      Promise.resolve(typeof act.server.habits.stale === 'function' ? undefined : act.server.habits.stale),
    afterSubmit: async (act) => {
      const { stale } = act.server.habits;
      if (typeof stale === 'function') await stale(1.5 * act.traits.rhythm.settleMs);
    },
    end: 'verified',
  },
  {
    name: 'throttled when read back: waited out',
    afterSubmit: fault(() => FAULTS.status(429, { 'retry-after': '60' })),
    until: says('throttled'),
    end: 'verified',
  },
  {
    name: 'P3: key revoked when read back: an operator is asked, and nothing is proven',
    afterSubmit: fault(() => FAULTS.status(401)),
    until: says('denied'),
    end: 'verified',
  },
  {
    name: 'P3: routes gone when read back: an operator is asked, and nothing is proven',
    afterSubmit: fault(() => FAULTS.status(404)),
    until: says('gone'),
    end: 'verified',
  },
  {
    name: 'P3: web pages instead of answers when read back: nothing is proven',
    afterSubmit: fault(() => FAULTS.html()),
    until: says('contract-broken'),
    end: 'verified',
  },
  {
    name: 'P20 P23: a reset after the effect of a delete: read back, and nobody counts as sent for nothing',
    before: fault(() => ({ ...FAULTS.resetAfter(), on: 'deletes', count: 1 })),
    end: 'verified',
    check: (_act, lane) => expect(lane.traces).toMatchObject({ matched: 4, verifiedAbsent: 4 }),
  },
  {
    name: 'P34: clocks further apart than a settle time prove nothing',
    afterSubmit: fault((act) => FAULTS.skew(3 * act.traits.rhythm.settleMs + 3_600_000, act.world.clock)),
    until: says('inconclusive'),
    end: 'verified',
  },
];

function begunBefore(trace: SeedTrace, startMs: number): SeedTrace {
  return { ...trace, rows: trace.rows.map((row, index) => ({ startMs: startMs + index, ...row })) };
}

/** Rows of the person that begin five days after the receipt of a request that came ten days before the start. */
function begunLater({ harness }: Act): SeedTrace['rows'] {
  return PERSON_ROWS.map((row, index) => ({ ...row, startMs: harness.erasure.startMs - 5 * DAY_MS + index }));
}

/** A read that was answered with nothing. */
function unseeing(read: Read, isOn: () => boolean): Read {
  if (!isOn()) return read;
  return { ...read, rows: [], controlsSeen: read.controlsSeen.map(() => false) };
}

function possible(habit: unknown): Promise<NotPossible | undefined> {
  return Promise.resolve(typeof habit === 'function' ? undefined : (habit as NotPossible));
}

async function turnOn(habit: (() => void | Promise<void>) | NotPossible): Promise<NotPossible | undefined> {
  if (typeof habit !== 'function') return habit;
  await habit();
  return undefined;
}

/**
 * Runs one case: verdict, ledgers, and the truth about the person and everybody else.
 *
 * @returns why the store makes it impossible, or undefined.
 */
export async function perform(harness: StoreHarness, one: ErasureCase): Promise<NotPossible | undefined> {
  const stage: { server?: StoreServer; wire?: Wire; store?: TraceStore } = {};
  const decoration = { on: false };
  const world = await World.start(`${harness.name} ${one.name}`, {
    start: harness.erasure.startMs,
    speed: harness.erasure.speed,
    ...(one.policy === undefined ? {} : { config: (config) => ({ ...config, policy: one.policy }) }),
    ready: async (clock) => {
      const server = await harness.start(clock);
      const wire = new Wire(server.fetch ?? fetch, clock, harness);
      const opened = server.open({ clock, fetch: wire.fetch });
      const store = one.decorate?.(opened, () => decoration.on) ?? opened;
      Object.assign(stage, { server, wire, store });
      return {
        [CONNECTION]: { store, identifiers: server.identifiers, accept: server.accept, close: () => server.close() },
      };
    },
  });
  try {
    const { server, wire, store } = stage;
    if (server === undefined || wire === undefined || store === undefined) throw new Error('no store was opened');
    return await performOn(harness, one, world, { server, wire, store, decoration });
  } finally {
    await world.close();
  }
}

async function performOn(
  harness: StoreHarness,
  one: ErasureCase,
  world: World,
  {
    server,
    wire,
    store,
    decoration,
  }: {
    readonly server: StoreServer;
    readonly wire: Wire;
    readonly store: TraceStore;
    readonly decoration: { on: boolean };
  },
): Promise<NotPossible | undefined> {
  const going = new Map<string, Seeded>();
  const staying = new Map<string, Seeded>();
  const seed = async (traces: readonly SeedTrace[], into: Map<string, Seeded>) => {
    const seeded = await server.seed(traces);
    for (const trace of seeded) into.set(keyOf(trace), trace);
    return seeded;
  };
  const others = new Map<string, readonly Seeded[]>();
  for (const name of OTHERS) {
    const persons = { user_id: name, email: `${name}@example.org` };
    const rows = [{ persons }, { persons }, { persons }];
    const traces = harness.projects.flatMap((project) => [
      { project, rows },
      { project, rows },
    ]);
    others.set(name, await seed(traces, staying));
  }
  const traces = await seed(
    harness.projects.flatMap((project) => [
      { project, rows: PERSON_ROWS },
      { project, rows: PERSON_ROWS },
    ]),
    going,
  );
  const liveKeys = async () => new Set((await server.live()).map((row) => `${keyOf(row)} ${row.rowId}`));
  const rowsOf = (some: Iterable<Seeded>) =>
    [...some].flatMap((trace) => trace.rowIds.map((rowId) => `${keyOf(trace)} ${rowId}`));
  const leftOf = async (some: Iterable<Seeded>) => {
    const live = await liveKeys();
    return rowsOf(some).filter((key) => live.has(key));
  };
  const act: Act = {
    harness,
    world,
    server,
    wire,
    traits: store.traits,
    traces,
    others,
    // Late data: it began before the request, however much virtual time has passed since.
    late: (more) =>
      seed(
        more.map((trace) => begunBefore(trace, harness.erasure.startMs - 20 * DAY_MS)),
        going,
      ),
    switchOn: () => {
      decoration.on = true;
    },
    kept: (more) => seed(more, staying),
    mayGo: (some) => {
      for (const trace of some) staying.delete(keyOf(trace));
    },
    gone: async (some) => {
      while ((await leftOf(some)).length > 0) await sleep(10);
    },
  };
  const request = await one.before?.(act);
  if (request !== undefined && 'because' in request) return request;
  const erased = request?.identifiers === undefined;
  const said = new Set<string>();
  const erasure = await world.erase({ identifiers: [{ kind: 'user_id', value: PERSON }], ...request });
  const { afterSubmit, until } = one;
  const status = await watchToEnd(erasure, {
    name: one.name,
    everyMs: 60,
    // What must hold at any moment: the sums balance, and nothing is called absent that is there.
    assertTrue: async (at) => {
      const lane = laneOf(at);
      said.add(lane.attention === null ? lane.status : `${lane.status} (${lane.attention.reason})`);
      expect(imbalances(lane)).toEqual([]);
      if (erased && (lane.status === 'verified' || lane.traces.verifiedAbsent > 0)) {
        expect(await leftOf(going.values())).toEqual([]);
      }
    },
    submitted: (at) => wire.acknowledged > 0 && ['waiting', 'verifying'].includes(laneOf(at).status),
    ...(afterSubmit === undefined ? {} : { afterSubmit: () => afterSubmit(act) }),
    ...(until === undefined ? {} : { until: (at) => until(laneOf(at)) }),
    heal: async () => {
      wire.set(null);
      decoration.on = false;
      await server.heal();
    },
  });
  const lane = laneOf(status);
  const erasable = store.traits.copyMap.some((copy) => copy.erasable === true);
  const mayBe = [...(one.copyMayStay !== undefined && erasable ? ['manual-copies'] : []), ...(one.mayAdd ?? [])];
  const exceptions = status.exceptions.map(({ kind }) => kind).filter((kind) => !mayBe.includes(kind));
  const conversation = one.conversationStays === true && harness.keepsConversations === true ? ['manual-copies'] : [];
  expect(exceptions.sort()).toEqual([...(one.exceptions ?? []), ...conversation].sort());
  const copyStays = exceptions.length < status.exceptions.length;
  expect(status.status).toBe(copyStays ? 'verified-with-exceptions' : one.end);
  await one.check?.(act, lane, status);
  expect(imbalances(lane)).toEqual([]);
  if (erased) expect(await leftOf(going.values())).toEqual([]);
  // Every row of everybody else, and the shared traces whole.
  const live = await liveKeys();
  expect(rowsOf(staying.values()).filter((key) => !live.has(key))).toEqual([]);
  return undefined;
}
