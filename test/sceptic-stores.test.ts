import { afterEach, describe, expect, test } from '@jest/globals';
import type { Clock } from '../src/erasure/clock.ts';
import { DAY_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import { startBraintrustSimulator, type BraintrustSimulator } from '../src/simulators/braintrust/index.ts';
import { startRespanSimulator, type RespanSimulator } from '../src/simulators/respan/index.ts';
import { KillSwitch, killSwitchFile } from '../src/stores/kill-switch.ts';
import type { TraceStore } from '../src/stores/port.ts';
import { StoreError } from '../src/stores/port.ts';
import type { RespanConnectionInput } from '../src/stores/respan/config.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import { deleteOrder } from './support/delete-order.ts';
import { insert } from './support/braintrust-simulator.ts';
import { World } from './support/world.ts';

const PERSON = 'u_42';
const OTHERS = ['u_7', 'u_8', 'u_9', 'u_420'] as const;
/** Ten minutes in a fifth of a second: both stores' rhythms pass quickly, and steps stay short beside them. */
const SPEED = 5_000;
const BRAINTRUST = 'braintrust-prod';
const RESPAN = 'respan-prod';

let closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.reverse()) await close();
  closing = [];
});

function assertSums(status: RequestStatus): void {
  for (const { given, traces, copies } of Object.values(status.connections)) {
    expect(imbalances({ given, traces, copies })).toEqual([]);
  }
}

const ACCEPTED_BY_BRAINTRUST = ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'];
const ACCEPTED_BY_RESPAN = ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'];

async function braintrustWorld(
  title: string,
  more: object = {},
  speed = SPEED,
): Promise<{ world: World; sim: BraintrustSimulator }> {
  const held: { sim?: BraintrustSimulator } = {};
  const world = await World.start(title, {
    speed,
    ready: async (clock) => {
      held.sim = await startBraintrustSimulator({ clock });
      return {};
    },
    config: (base) => ({
      ...base,
      connections: {
        [BRAINTRUST]: {
          store: 'braintrust',
          appUrl: held.sim?.url ?? '',
          apiKey: held.sim?.apiKey ?? '',
          identifiers: { user_id: ['metadata.user_id'] },
          accept: ACCEPTED_BY_BRAINTRUST,
          ...more,
        },
      },
    }),
  });
  const { sim } = held;
  if (sim === undefined) throw new Error('no simulator');
  closing.push(
    () => sim.close(),
    () => world.close(),
  );
  return { world, sim };
}

async function respanWorld(
  title: string,
  more: Partial<RespanConnectionInput> = {},
): Promise<{ world: World; sim: RespanSimulator }> {
  const held: { sim?: RespanSimulator; clock?: Clock } = {};
  const world = await World.start(title, {
    speed: SPEED,
    ready: async (clock) => {
      held.sim = await startRespanSimulator({ clock, limits: false });
      held.clock = clock;
      return {};
    },
    config: (base) => ({
      ...base,
      connections: {
        [RESPAN]: {
          store: 'respan',
          baseUrl: held.sim?.url ?? '',
          apiKey: held.sim?.apiKey ?? '',
          environments: ['prod', 'test'],
          startDate: new Date((held.clock?.virtualMs ?? 0) - 26 * DAY_MS).toISOString().slice(0, 10),
          identifiers: { user_id: ['customer_identifier'] },
          accept: ACCEPTED_BY_RESPAN,
          callsPerMinute: 600,
          ...more,
        },
      },
    }),
  });
  const { sim } = held;
  if (sim === undefined) throw new Error('no simulator');
  closing.push(
    () => sim.close(),
    () => world.close(),
  );
  return { world, sim };
}

const request = (value = PERSON) => ({ identifiers: [{ kind: 'user_id', value }] });
const idle = (): void => undefined;
const hasEnded = ({ endedAt }: RequestStatus): boolean => endedAt !== null;

describe('Respan: what is said to be gone', () => {
  test('P15: metadata that the vendor’s client wrote as JSON text is found, and is the same person’s', async () => {
    const { world, sim } = await respanWorld('quoted', {
      identifiers: { user_id: ['metadata.user_id'] },
      accept: [...ACCEPTED_BY_RESPAN, 'single-path'],
    });
    const people = [PERSON, ...OTHERS];
    const seed = (values: readonly string[]) =>
      sim.seedPeople({ people: values, tracesPerPerson: 2, key: 'metadata.user_id' });
    seed(people.map((value) => JSON.stringify(value)));
    seed(people);
    const of = (value: string) => sim.truth.tracesOf([{ key: 'metadata.user_id', value }]);
    expect(of(PERSON)).toHaveLength(4);
    const end = await world.eraseToEnd(request());
    assertSums(end);
    expect(of(PERSON)).toEqual([]);
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(end.connections[RESPAN]?.traces.verifiedAbsent).toBe(4);
    for (const other of OTHERS) expect(of(other)).toHaveLength(4);
    expect(sim.truth.unasked()).toEqual([]);
  }, 60_000);

  test('P10: a server that begins to cut time ranges after the plan makes nothing count as absent', async () => {
    const { world, sim } = await respanWorld('cut-later');
    const nowMs = sim.now();
    const old = { from: nowMs - 30 * DAY_MS, to: nowMs - 10 * DAY_MS };
    sim.seedPeople({ people: [...OTHERS, PERSON], tracesPerPerson: 4, ...old });
    sim.seedPeople({ people: OTHERS, tracesPerPerson: 2, from: nowMs - 3 * DAY_MS });
    sim.habits.set({ deletesNeverRun: true });
    const erasure = await world.erase(request());
    await world.until(erasure.requestId, () => sim.truth.submissions().length >= 4);
    sim.habits.set({ windowAtMostDays: 5 });
    const end = await world.until(erasure.requestId, hasEnded);
    assertSums(end);
    expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: PERSON }])).toHaveLength(4);
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.exceptions.map(({ kind }) => kind)).toContain('not-proven-before');
    expect(end.connections[RESPAN]?.traces).toMatchObject({ verifiedAbsent: 0, inconclusive: 4 });
  }, 60_000);

  const habits: readonly [string, Partial<RespanConnectionInput>, Parameters<RespanSimulator['habits']['set']>[0]][] = [
    ['a mutation that reaches the trace table only', {}, { mutates: 'traces' }],
    [
      'late spans and late traces',
      {},
      { lateSpans: { count: 2, delayMs: 5 * MINUTE_MS }, lateTraces: { count: 2, delayMs: 5 * MINUTE_MS } },
    ],
    [
      'ranges of seven days, which cut the spans of a delete',
      { maxWindow: 7, startDate: '2026-10-28' },
      { windowCutsSpans: true, lateSpans: { count: 1, delayMs: MINUTE_MS } },
    ],
    ['ranges of seven days, from too late a day on', { maxWindow: 7 }, {}],
  ];
  test.each(habits)(
    'P1, P13: with %s',
    async (title, more, set) => {
      const { world, sim } = await respanWorld(title.replaceAll(/\W/g, '-'), {
        identifiers: { user_id: ['customer_identifier', 'metadata.user_id'] },
        ...more,
      });
      const people = [PERSON, ...OTHERS];
      sim.seedPeople({ people, tracesPerPerson: 4 });
      sim.seedPeople({ people, tracesPerPerson: 2, carriedBy: 'children', environment: 'test' });
      sim.seedPeople({ people, tracesPerPerson: 1, key: 'metadata.user_id' });
      // One trace id in two environments, and only one of them the person's.
      const traceId = 'a'.repeat(32);
      sim.seed({ environment: 'prod', traces: [{ traceId, spans: [{ customerIdentifier: PERSON }, {}] }] });
      sim.seed({ environment: 'test', traces: [{ traceId, spans: [{ customerIdentifier: 'u_7' }] }] });
      const of = (value: string) =>
        ['customer_identifier', 'metadata.user_id'].flatMap((key) => sim.truth.liveTracesOf([{ key, value }]));
      const before = OTHERS.map((other) => of(other).length);
      sim.habits.set(set);
      const erasure = await world.erase(request());
      // What can't be erased goes to an operator, with the reason.
      const end = await world.until(erasure.requestId, (now) => hasEnded(now) || now.status === 'needs-operator');
      assertSums(end);
      expect(sim.truth.unasked()).toEqual([]);
      expect(OTHERS.map((other) => of(other).length)).toEqual(before);
      const { matched = 0, verifiedAbsent = 0 } = end.connections[RESPAN]?.traces ?? {};
      if (hasEnded(end)) expect(end.status).toBe('verified');
      if (hasEnded(end)) expect(of(PERSON)).toEqual([]);
      expect(verifiedAbsent).toBe(hasEnded(end) ? matched : 0);
    },
    40_000,
  );
});

describe('Respan: what is deleted', () => {
  type Passed = (url: URL, sim: RespanSimulator) => URL;

  async function atPort(pass: Passed = (url) => url) {
    const clock = { realMs: Date.now(), virtualMs: Date.parse('2026-11-25T12:00:00Z'), speed: 500 };
    const sim = await startRespanSimulator({ clock, limits: false });
    closing.push(() => sim.close());
    const config = connectionSchema.parse({
      store: 'respan',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      environments: ['prod', 'test'],
      startDate: '2026-10-26',
      identifiers: { user_id: ['customer_identifier'] },
      callsPerMinute: 600,
    });
    const passing: typeof fetch = (input, init) =>
      fetch(pass(new URL(input instanceof Request ? input.url : input), sim), init);
    /** A connection that has read these traces. */
    const reader = async (traceIds: readonly string[]): Promise<TraceStore> => {
      const store = openStore('test', config, { clock, fetch: passing });
      const traces = traceIds.map((traceId) => ({ projectId: 'prod', traceId }));
      const window = { fromMs: 0, toMs: clock.virtualMs + 30 * DAY_MS };
      for (const route of store.lookups) await route.lookup({ traces, window, controls: [], progress: idle });
      return store;
    };
    return { sim, reader };
  }

  test('P19: a server that shows its last page for every page past the end is not taken for a large one', async () => {
    const { sim, reader } = await atPort((url, { truth }) => {
      if (url.pathname !== '/api/traces/list/') return url;
      const size = Number(url.searchParams.get('page_size'));
      const last = Math.max(1, Math.ceil(truth.allTraces().length / size));
      url.searchParams.set('page', String(Math.min(last, Number(url.searchParams.get('page')))));
      return url;
    });
    sim.seedPeople({ people: OTHERS, tracesPerPerson: 20 });
    const [{ traceIds } = { traceIds: [] }] = sim.seedPeople({ people: [PERSON], tracesPerPerson: 10 });
    const store = await reader(traceIds);
    sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id', on: 'deletes' }] });
    await store.submit(deleteOrder('prod', traceIds));
    sim.advance(10 * MINUTE_MS);
    expect(sim.truth.unasked()).toEqual([]);
    expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: PERSON }])).toEqual([]);
    for (const value of OTHERS) {
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value }])).toHaveLength(20);
    }
  }, 30_000);

  const DROPS = [
    ['dropFilterKeys', 'trace_unique_id'],
    ['dropOperators', 'in'],
  ] as const;
  test.each([40, 1600])(
    'P19: a key or operator that is dropped at any moment deletes nobody else, with %d traces around',
    async (around) => {
      const { sim, reader } = await atPort();
      sim.seedPeople({ people: around, tracesPerPerson: 1, spansPerTrace: 1 });
      for (const [habit, name] of DROPS) {
        for (const on of ['all', 'deletes', 'reads'] as const) {
          for (let after = 0; after < 5; after += 1) {
            const [mine] = sim.seedPeople({ people: [PERSON], tracesPerPerson: 8, spansPerTrace: 1 });
            const traceIds = mine?.traceIds ?? [];
            const store = await reader(traceIds);
            sim.habits.set({ [habit]: [{ name, after, on }] });
            const outcome = await store.submit(deleteOrder('prod', traceIds)).catch((error: unknown) => error);
            sim.habits.reset();
            sim.advance(10 * MINUTE_MS);
            expect(sim.truth.unasked()).toEqual([]);
            const left = traceIds.filter((id) => sim.truth.isLive(id)).length;
            expect(left).toBe(outcome instanceof StoreError ? traceIds.length : 0);
          }
        }
      }
      expect(sim.truth.allTraces().length).toBeGreaterThanOrEqual(around);
    },
    60_000,
  );
});

describe('Braintrust', () => {
  const person = (value: string) => [{ key: 'user_id', value }];

  test('P26: a row that comes to a full batch just before its delete does not stop the lane', async () => {
    const { world, sim } = await braintrustWorld('full-batch');
    const [mine] = sim.seedPeople({ project: 'chat', people: [PERSON], tracesPerPerson: 4, spansPerTrace: 125 });
    sim.seedPeople({ project: 'chat', people: OTHERS, tracesPerPerson: 3 });
    sim.habits.set({ throttle: { on: 'deletes', retryAfter: 600, count: 1 } });
    const erasure = await world.erase(request());
    await world.until(erasure.requestId, () => sim.ledger.count({ family: 'deletes' }) > 0);
    const spans = [{ parent: 0, metadata: { user_id: PERSON } }];
    sim.seed({ project: 'chat', traces: [{ traceId: mine?.traceIds[0] ?? '', spans }] });
    const end = await world.until(erasure.requestId, hasEnded);
    assertSums(end);
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(end.connections[BRAINTRUST]?.round).toBe(1);
    expect(sim.truth.remainsOf(person(PERSON))).toEqual([]);
    for (const other of OTHERS) expect(sim.truth.tracesOf(person(other))).toHaveLength(3);
  }, 40_000);

  test('P4, P14: a row of the manifest that a producer wrote into another trace is not taken for gone', async () => {
    const { world, sim } = await braintrustWorld('moved-row');
    const seeded = sim.seedPeople({ project: 'chat', people: [PERSON], tracesPerPerson: 3, carriedBy: 'root' });
    sim.seedPeople({ project: 'chat', people: OTHERS, tracesPerPerson: 3 });
    const [{ projectId, rowIds } = { projectId: '', rowIds: [] }] = seeded;
    const child = (trace: number): string => rowIds[trace]?.[1] ?? '';
    const erasure = await world.erase(request());
    await world.until(erasure.requestId, () => sim.truth.submissions().length > 0);
    const answer = await insert(sim, projectId, [
      { id: child(0), root_span_id: 'replay-0', span_id: 's-0', input: 'what the person wrote' },
      { id: child(1), root_span_id: 'replay-1', span_id: 's-1', metadata: { user_id: PERSON } },
      { id: child(2), root_span_id: 'replay-2', span_id: 's-2', metadata: { user_id: 'u_7' } },
    ]);
    expect(answer.status).toBe(200);
    const end = await world.until(erasure.requestId, hasEnded);
    assertSums(end);
    // Nobody's say-so for the first; the second is the person's and goes; the third is somebody else's now.
    expect([0, 1, 2].map((trace) => sim.truth.isRowLive(child(trace)))).toEqual([true, false, true]);
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.exceptions.map(({ kind }) => kind)).toEqual(['linked']);
    expect(end.connections[BRAINTRUST]?.traces).toMatchObject({ matched: 5, verifiedAbsent: 4, linked: 1 });
    for (const other of OTHERS) expect(sim.truth.tracesOf(person(other)).length).toBeGreaterThanOrEqual(3);
  }, 40_000);

  test('P20, P27: people who overlap, a whale, a hold and an abandon in one crowd', async () => {
    const fast = { btqlPerMinute: 100, copies: [] };
    const { world, sim } = await braintrustWorld('crowd', fast, 20_000);
    const names = Array.from({ length: 24 }, (_none, at) => `p_${at}`);
    const after = (at: number): string => names[(at + 1) % names.length] ?? '';
    sim.seedPeople({ project: 'chat', people: [...names, ...OTHERS], tracesPerPerson: 3 });
    sim.seedPeople({ project: 'chat', people: ['whale'], tracesPerPerson: 1200, spansPerTrace: 1 });
    const shared = sim.seed({
      project: 'chat',
      traces: names.map((name, at) => ({ spans: [name, after(at)].map((one) => ({ metadata: { user_id: one } })) })),
    });
    const bare = sim.seed({ project: 'chat', traces: names.map(() => ({ spans: [{}, {}] })) });
    // A row of an unlabelled trace, a trace of two others, and a span id, which names no row.
    const knownOf = (at: number): string[] =>
      [bare[at]?.rowIds[1], shared[(at + 5) % names.length]?.traceId, bare[at]?.spanIds[1]].map((id) => id ?? '');
    const [whale, held, abandoned, ...others] = await Promise.all([
      world.erase({ ...request('whale'), expectAtMost: 5000 }),
      ...names.map((name, at) =>
        world.erase({ ...request(name), known: { [BRAINTRUST]: knownOf(at) }, acceptUnlabelled: 1 }),
      ),
    ]);
    if (held === undefined || abandoned === undefined) throw new Error('nobody was started');
    await world.until(held.requestId, ({ connections }) => (connections[BRAINTRUST]?.traces.matched ?? 0) > 0);
    await Promise.all([
      held.hold({ requestedBy: 'counsel', reason: 'litigation' }),
      abandoned.abandon({ requestedBy: 'support', reason: 'withdrawn' }),
    ]);
    const ends = await Promise.all([whale, ...others].map((one) => one.result()));
    for (const end of ends) assertSums(end);
    await held.release({ requestedBy: 'counsel', reason: 'settled' });
    const last = await held.result();

    expect(sim.truth.unasked()).toEqual([]);
    expect(sim.truth.orphans()).toEqual([]);
    expect(sim.truth.tracesOf(person('whale'))).toEqual([]);
    for (const { traceId } of shared) expect(sim.truth.isLive(traceId)).toBe(true);
    for (const other of OTHERS) expect(sim.truth.tracesOf(person(other))).toHaveLength(3);
    for (const [at, name] of names.entries()) {
      if (at === 1) continue;
      // The two that they share with somebody.
      expect(sim.truth.tracesOf(person(name))).toHaveLength(2);
      expect(sim.truth.isLive(bare[at]?.traceId ?? '')).toBe(false);
    }
    const small = [...ends.slice(1), last];
    for (const { connections, exceptions } of small) {
      expect(connections[BRAINTRUST]?.traces).toMatchObject({ matched: 6, verifiedAbsent: 4, shared: 2 });
      expect(exceptions.map(({ kind }) => kind).sort()).toEqual(['foreign', 'not-examined', 'shared', 'wrong-kind']);
    }
  }, 100_000);

  test('P1, P13: with tombstones lost for some rows, lag, late merges and ids that mean two things', async () => {
    const { world, sim } = await braintrustWorld('all-at-once');
    const people = { people: [PERSON, ...OTHERS], tracesPerPerson: 3 };
    sim.seedPeople({ project: 'chat', ...people });
    sim.seedPeople({ project: 'support', ...people, carriedBy: 'children' });
    const mine = { metadata: { user_id: PERSON } };
    // One trace in two projects, with the same row ids; and one that takes several calls to delete.
    const both = { traceId: 'both', spans: ['both-a', 'both-b'].map((id) => ({ id, ...mine })) };
    const large = { traceId: 'large', spans: Array.from({ length: 2000 }, (_none, at) => (at === 1999 ? mine : {})) };
    // A row of the person's has the id of somebody else's trace, and the span ids are the same in both.
    const theirs = {
      traceId: 'theirs',
      spans: [
        { id: 'x-1', spanId: 's-1', metadata: { user_id: 'u_7' } },
        { id: 'x-2', spanId: 's-2' },
      ],
    };
    const own = {
      traceId: 'own',
      spans: [
        { id: 'theirs', spanId: 's-1', ...mine },
        { id: 'y-2', spanId: 's-2' },
      ],
    };
    sim.seed({ project: 'chat', traces: [both, large, theirs, own] });
    sim.seed({ project: 'support', traces: [both] });
    sim.habits.set({
      dropShare: 0.3,
      lateMerges: { count: 5, delayMs: 20 * MINUTE_MS },
      lateSpans: { count: 2, bare: true, delayMs: 30 * MINUTE_MS },
      freshnessLagMs: 1000,
      tombstoneDelayMs: 30_000,
      repeatedRows: true,
    });
    const erasure = await world.erase(request());
    await world.until(erasure.requestId, () => sim.truth.submissions().length >= 6);
    sim.habits.set({ dropShare: 0, freshnessLagMs: 0 });
    const end = await world.until(erasure.requestId, hasEnded);
    assertSums(end);
    // Both projects' replicas of one trace count.
    expect(end.connections[BRAINTRUST]?.traces).toMatchObject({ matched: 10, verifiedAbsent: 10 });
    expect(sim.truth.remainsOf(person(PERSON))).toEqual([]);
    expect(sim.truth.unasked()).toEqual([]);
    for (const id of ['x-1', 'x-2']) expect(sim.truth.isRowLive(id)).toBe(true);
    for (const other of OTHERS) expect(sim.truth.tracesOf(person(other))).toHaveLength(other === 'u_7' ? 7 : 6);
  }, 60_000);

  test('P9: a project that disappears before its delete holds up no other, and what was in it is inconclusive', async () => {
    const { world, sim } = await braintrustWorld('project-gone', {}, 150_000);
    const people = [PERSON, ...OTHERS];
    const seeded = ['chat', 'support'].map((project) => sim.seedPeople({ project, people, tracesPerPerson: 2 }));
    expect(seeded.map((of) => of.length)).toEqual([people.length, people.length]);
    const killSwitch = new KillSwitch(killSwitchFile(world.stateDir, BRAINTRUST));
    killSwitch.trip('until the project is gone');
    const { requestId } = await world.erase(request());
    await world.until(requestId, ({ connections }) => connections[BRAINTRUST]?.attention?.reason === 'switched-off');
    sim.deleteProject('support');
    killSwitch.reset('ann', 'it is gone');
    await world.client.send('retry', requestId, { requestedBy: 'ines', reason: 'ticket 4711' });
    const end = await world.until(requestId, hasEnded);
    assertSums(end);
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.connections[BRAINTRUST]?.traces).toMatchObject({ matched: 4, verifiedAbsent: 2, inconclusive: 2 });
    expect(sim.truth.unasked()).toEqual([]);
    for (const other of OTHERS) {
      expect(sim.truth.tracesOf([{ key: 'user_id', value: other }]).length).toBeGreaterThanOrEqual(2);
    }
  }, 40_000);
});
