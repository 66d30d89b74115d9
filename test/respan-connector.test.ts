import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Clock } from '../src/erasure/clock.ts';
import { virtualNow } from '../src/erasure/clock.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import { startRespanSimulator } from '../src/simulators/respan/index.ts';
import type { RespanSimulator, RespanSimulatorOptions, SeededPerson } from '../src/simulators/respan/index.ts';
import { GuardError } from '../src/stores/guard.ts';
import { StoreError, THREAD_KIND } from '../src/stores/port.ts';
import type { Control, ControlsFound, Copy, Project, Read, Row, TraceKey, TraceStore } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import type { StoreLog } from '../src/stores/registry.ts';
import { bulkDeleteBody, pathSegment } from '../src/stores/respan/filters.ts';
import { respanConnectionSchema } from '../src/stores/respan/config.ts';
import type { RespanConnectionInput } from '../src/stores/respan/config.ts';
import { deleteOrder } from './support/delete-order.ts';

const T0 = Date.parse('2026-11-25T12:00:00Z');
/** The connector's minute of calls passes in a fraction of a real second. */
const SPEED = 500;
const idle = (): void => undefined;
const UNKNOWN = '0123456789abcdef0123456789abcdef';

type Given = Partial<RespanConnectionInput> & { readonly log?: StoreLog; readonly fetch?: typeof fetch };

function connect(sim: RespanSimulator, clock: Clock, { log, fetch: send, ...given }: Given = {}): TraceStore {
  const config = connectionSchema.parse({
    store: 'respan',
    baseUrl: sim.url,
    apiKey: sim.apiKey,
    environments: ['prod', 'test'],
    startDate: '2026-10-26',
    identifiers: { user_id: ['customer_identifier', 'metadata.user_id'], thread: ['thread_identifier'] },
    callsPerMinute: 600,
    ...given,
  });
  return openStore('test', config, {
    clock,
    ...(log === undefined ? {} : { log }),
    ...(send === undefined ? {} : { fetch: send }),
  });
}

const BOTH = ['customer_identifier', 'metadata.user_id'];

function terms(variants: string[], keys: string[] = BOTH) {
  return [{ kind: 'user_id', keys, variants }];
}

async function failure(promise: Promise<unknown>): Promise<StoreError> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreError)) throw error;
  return error;
}

function tracesOf({ rows }: Pick<Read, 'rows'>): string[] {
  return [...new Set(rows.map(({ traceId }) => traceId))].sort();
}

let sim: RespanSimulator;
let store: TraceStore;
let clock: Clock;
let projects: readonly Project[];
let controls: readonly Control[];
let window: { fromMs: number; toMs: number };

const others = { people: ['other-1', 'other-2', 'other-3'], tracesPerPerson: 3 } as const;

async function start(options: RespanSimulatorOptions = {}, given: Given = {}): Promise<void> {
  clock = { realMs: Date.now(), virtualMs: T0, speed: SPEED };
  sim = await startRespanSimulator({ clock, limits: false, ...options });
  sim.seedPeople({ ...others });
  sim.seedPeople({ people: ['other-4', 'other-5'], tracesPerPerson: 2, environment: 'test' });
  sim.seedPeople({ people: ['other-6', 'other-7'], tracesPerPerson: 2, key: 'metadata.user_id' });
  window = { fromMs: 0, toMs: T0 + 400 * DAY_MS };
  store = connect(sim, clock, given);
  projects = await store.projects(idle);
  controls = await choose();
}

async function choose(from = store, keys = BOTH): Promise<readonly Control[]> {
  return (await findControls(from, keys)).controls;
}

function findControls(from = store, keys = BOTH): Promise<ControlsFound> {
  return from.controls({
    projects,
    terms: terms(['x'], keys),
    window,
    want: 2,
    exclude: (row) => !row.persons.some(({ text }) => text.startsWith('other')),
    progress: idle,
  });
}

function find(index: number, variants: string[], from = store, some = controls, keys = BOTH): Promise<Read> {
  const here = some.filter(({ value }) => keys.includes(value.key));
  return from.finders[index]!.find({
    projects,
    terms: terms(variants, keys),
    window,
    controls: here,
    progress: idle,
  });
}

function lookup(index: number, traces: readonly TraceKey[], from = store, some = controls): Promise<Read> {
  return from.lookups[index]!.lookup({ traces, window, controls: some, progress: idle });
}

function keysOf(people: readonly SeededPerson[]): TraceKey[] {
  return people.flatMap(({ projectId, traceIds }) => traceIds.map((traceId) => ({ projectId, traceId })));
}

/** Reads the traces through the connection and deletes them. */
async function erase(people: readonly SeededPerson[], from = store) {
  await lookup(0, keysOf(people), from, []);
  await lookup(1, keysOf(people), from, []);
  const [first] = people;
  return from.submit(
    deleteOrder(
      first!.projectId,
      people.flatMap(({ traceIds }) => traceIds),
    ),
  );
}

/** Long enough for every mutation. */
function settle(): void {
  sim.advance(10 * MINUTE_MS);
}

function allSeen(read: Read, of: readonly Control[] = controls): void {
  expect(read.controlsSeen).toEqual(of.map(() => true));
}

afterEach(() => sim.close());

// ------------------------------------------------------------------------------------------------ reading

describe('reads', () => {
  beforeEach(() => start());

  test('environments are the projects, and controls of every environment and key are offered', () => {
    expect(projects.map(({ id, type }) => [id, type])).toEqual([
      ['prod', 'ENVIRONMENT'],
      ['test', 'ENVIRONMENT'],
    ]);
    const groups = new Set(controls.map(({ projectId, value }) => `${projectId} ${value.key}`));
    expect([...groups].sort()).toEqual([
      'prod customer_identifier',
      'prod metadata.user_id',
      'test customer_identifier',
    ]);
  });

  test('P5, P6: both finders find a person in every environment, and see the controls', async () => {
    const prod = sim.seedPeople({ people: ['ann'], tracesPerPerson: 2 });
    const testing = sim.seedPeople({ people: ['ann'], tracesPerPerson: 1, environment: 'test' });
    const wanted = keysOf([...prod, ...testing])
      .map(({ traceId }) => traceId)
      .sort();
    for (const index of [0, 1]) {
      const read = await find(index, ['ann']);
      expect(tracesOf(read)).toEqual(wanted);
      allSeen(read);
      expect(read.rows.every(({ persons }) => persons.some(({ text }) => text === 'ann'))).toBe(true);
      expect(read.report.window).toEqual(window);
    }
    expect((await find(0, ['ann'])).rows).toHaveLength(9);
  });

  test('P5: metadata has a second path too: the summary counts what the list must then show', async () => {
    const made = sim.seedPeople({
      people: ['meta'],
      tracesPerPerson: 2,
      key: 'metadata.user_id',
      carriedBy: 'children',
    });
    for (const index of [0, 1]) {
      const read = await find(index, ['meta']);
      expect(tracesOf(read)).toEqual([...made[0]!.traceIds].sort());
      allSeen(read);
      expect(read.report.route).toContain(index === 0 ? 'request-logs/list' : 'request-logs/summary');
      const nobody = await find(index, ['nobody-at-all']);
      expect(nobody.rows).toEqual([]);
      allSeen(nobody);
    }
    sim.habits.set({ blind: 'logs' });
    expect((await find(1, ['meta'])).controlsSeen).toContain(false);
  });

  test('a customer on child spans only is found through the logs, which the traces list cannot show', async () => {
    const [made] = sim.seedPeople({ people: ['child'], tracesPerPerson: 2, carriedBy: 'children' });
    expect(tracesOf(await find(0, ['child']))).toEqual([...made!.traceIds].sort());
    expect(tracesOf(await find(1, ['child']))).toEqual([]);
  });

  test('P10: every call names its environment and runs from 1970 to the future, although the default is one hour', async () => {
    const [old] = sim.seedPeople({ people: ['elder'], tracesPerPerson: 1, atMs: Date.parse('2024-02-01T00:00:00Z') });
    const from = sim.ledger.entries.length;
    for (const index of [0, 1]) expect(tracesOf(await find(index, ['elder']))).toEqual(old!.traceIds);
    const lists = sim.ledger.entries.slice(from).filter(({ window: of }) => of !== null);
    expect(lists.length).toBeGreaterThan(5);
    for (const entry of lists) {
      expect(['prod', 'test']).toContain(entry.environment);
      expect(entry.window!.startMs).toBe(0);
      expect(entry.window!.endMs).toBeGreaterThan(T0);
    }
  });

  test('P15: no spelling widens a search or breaks it', async () => {
    const nasty = [
      'quo"te',
      'back\\slash',
      'ünïcödé 漢字 🦊',
      "ap'os, (tro)phe",
      'U_1',
      'u_1',
      '4711',
      '04711',
      '1%2F..',
    ];
    const made = sim.seedPeople({ people: nasty, tracesPerPerson: 1 });
    for (const [at, value] of nasty.entries()) {
      for (const index of [0, 1]) {
        const { rows } = await find(index, [value]);
        const exact = rows.filter(({ persons }) => persons.some(({ text }) => text === value));
        expect(tracesOf({ rows: exact })).toEqual(made[at]!.traceIds);
      }
    }
  });

  test('P15: an identifier longer than the store keeps is refused instead of not found', async () => {
    expect(await failure(find(0, ['x'.repeat(255)]))).toMatchObject({ reason: 'rejected', status: null });
    expect(store.traits.cutLength).toBe(254);
    expect(await failure(find(1, ['x'.repeat(255)]))).toMatchObject({ reason: 'rejected', status: null });
  });

  test('P18: the placeholder of the vendor’s exporters names nobody', async () => {
    const from = sim.ledger.entries.length;
    for (const index of [0, 1]) expect((await failure(find(index, ['default_user']))).reason).toBe('rejected');
    expect(sim.ledger.entries).toHaveLength(from);
  });

  test('P28: long lists are read to the end, twice, and shifting pages to agreement', async () => {
    sim.seedPeople({ people: ['many'], tracesPerPerson: 450 });
    expect((await find(0, ['many'])).rows).toHaveLength(1350);
    sim.habits.set({ shiftingPages: { by: -5 } });
    expect((await find(0, ['many'])).rows).toHaveLength(1350);
  });

  test('P4: a look-up shows a trace as long as its spans or its aggregate are there, at any depth', async () => {
    const people = sim.seedPeople({ people: ['half'], tracesPerPerson: 2 });
    for (const index of [0, 1]) {
      const read = await lookup(index, keysOf(people));
      expect(tracesOf(read)).toEqual([...people[0]!.traceIds].sort());
      allSeen(read);
    }
    sim.habits.set({ mutates: 'traces' });
    await erase(people);
    settle();
    expect((await lookup(0, keysOf(people))).rows).toHaveLength(6);
    expect((await lookup(1, keysOf(people))).rows).toEqual([]);

    const next = sim.seedPeople({ people: ['other-half'], tracesPerPerson: 2 });
    sim.habits.set({ mutates: 'spans' });
    await erase(next);
    settle();
    expect((await lookup(0, keysOf(next))).rows).toEqual([]);
    expect((await lookup(1, keysOf(next))).rows).toHaveLength(2);

    const third = sim.seedPeople({ people: ['rootless'], tracesPerPerson: 1 });
    sim.habits.set({ mutates: 'both', leaveChildren: true });
    await erase(third);
    settle();
    expect((await lookup(0, keysOf(third))).rows).toHaveLength(2);
  });

  test('P11: what is absent is absent in calls that see the controls of every environment', async () => {
    for (const index of [0, 1]) {
      const read = await lookup(index, [{ projectId: 'prod', traceId: UNKNOWN }]);
      expect(read.rows).toEqual([]);
      allSeen(read);
    }
  });

  test.each(['all', 'filters', 'logs', 'traces'] as const)(
    'P6: reads that are blind (%s) miss their controls',
    async (blind) => {
      const people = sim.seedPeople({ people: ['unseen'], tracesPerPerson: 2 });
      sim.habits.set({ blind });
      if (blind !== 'traces') {
        expect((await find(0, ['unseen'])).controlsSeen).toContain(false);
        expect((await lookup(0, keysOf(people))).controlsSeen).toContain(false);
      }
      if (blind !== 'logs') {
        expect((await find(1, ['unseen'])).controlsSeen).toContain(false);
        expect((await lookup(1, keysOf(people))).controlsSeen).toContain(false);
      }
    },
  );

  test('P6: a list that takes only the first of several values misses the controls, which stand last', async () => {
    const people = sim.seedPeople({ people: ['first'], tracesPerPerson: 2 });
    sim.habits.set({ inFirstOnly: true });
    expect((await lookup(1, keysOf(people))).controlsSeen).toContain(false);
    expect((await find(1, ['first'])).controlsSeen).toContain(false);
  });

  test.each([
    ['customer_identifier', 0],
    ['metadata__user_id', 0],
    ['customer_identifier', 1],
    ['metadata__user_id', 1],
  ] as const)('P3: a find whose key %s is dropped is a broken contract (finder %i)', async (name, index) => {
    sim.seedPeople({ people: ['narrow'], tracesPerPerson: 1 });
    sim.habits.set({ dropFilterKeys: [{ name }] });
    expect(await failure(find(index, ['narrow'], connect(sim, clock)))).toMatchObject({ reason: 'contract-broken' });
  });

  test('P3: a key that only the summary drops is found out, although no row shows it', async () => {
    sim.seedPeople({ people: ['narrow'], tracesPerPerson: 1, key: 'metadata.user_id' });
    sim.habits.set({ dropFilterKeys: [{ name: 'metadata__user_id', on: ['/api/request-logs/summary/'] }] });
    const found = find(1, ['narrow'], connect(sim, clock), controls, ['metadata__user_id']);
    expect((await failure(found)).reason).toBe('contract-broken');
  });

  // Windows end a week ahead: the last range of a week lies wholly in the future, where a dropped filter finds nothing either.
  test.each([{}, { maxWindow: 7 }, { maxWindow: 3660 }] as const)(
    'P3: nor is it believed that the summary counts of a person no more than of the controls (%j)',
    async (given) => {
      sim.seedPeople({ people: ['narrow'], tracesPerPerson: 1, key: 'metadata.user_id' });
      const here = projects.filter(({ id }) => id === 'prod');
      const key = 'metadata.user_id';
      const counted = (from: TraceStore): Promise<Read> =>
        from.finders[1]!.find({
          projects: here,
          terms: terms(['narrow'], [key]),
          window: { fromMs: 0, toMs: T0 + 7 * DAY_MS },
          controls: controls.filter(({ value }) => value.key === key),
          progress: idle,
        });
      expect(tracesOf(await counted(connect(sim, clock, given)))).toHaveLength(1);
      sim.habits.set({ dropFilterKeys: [{ name: 'metadata__user_id', on: ['/api/request-logs/summary/'] }] });
      expect((await failure(counted(connect(sim, clock, given)))).reason).toBe('contract-broken');
    },
  );

  test.each([
    [0, {}],
    [1, {}],
    [0, { maxWindow: 7 }],
    [1, { maxWindow: 7 }],
  ] as const)('P3: a dropped key is found out where nobody else is (finder %i, %j)', async (index, given) => {
    sim.habits.set({ dropFilterKeys: [{ name: 'customer_identifier' }] });
    const found = connect(sim, clock, given).finders[index]!.find({
      projects: projects.filter(({ id }) => id === 'test'),
      terms: terms(['other-4', 'other-5'], ['customer_identifier']),
      window: { fromMs: 0, toMs: T0 + 7 * DAY_MS },
      controls: [],
      progress: idle,
    });
    expect((await failure(found)).reason).toBe('contract-broken');
  });

  test('P3: what was tried in a span that holds nothing says nothing of another', async () => {
    const narrow = connect(sim, clock);
    const found = (fromMs: number): Promise<Read> =>
      narrow.finders[0]!.find({
        projects: projects.filter(({ id }) => id === 'test'),
        terms: terms(['other-4', 'other-5'], ['customer_identifier']),
        window: { fromMs, toMs: T0 + 7 * DAY_MS },
        controls: [],
        progress: idle,
      });
    sim.habits.set({ dropFilterKeys: [{ name: 'customer_identifier' }] });
    expect((await found(T0 + DAY_MS)).rows).toEqual([]);
    expect((await failure(found(0))).reason).toBe('contract-broken');
  });

  test('P3: dropped after the canary, it is seen by the rows that nobody asked for', async () => {
    const people = sim.seedPeople({ people: ['narrow'], tracesPerPerson: 1 });
    sim.habits.set({ dropFilterKeys: [{ name: 'customer_identifier', after: 1 }] });
    expect((await failure(find(0, ['narrow'], connect(sim, clock)))).reason).toBe('contract-broken');
    for (const index of [0, 1]) {
      sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id', after: 1 }] });
      expect((await failure(lookup(index, keysOf(people), connect(sim, clock)))).reason).toBe('contract-broken');
    }
  });

  test('P3: a filter is tried with an impossible value in every environment, and anew after a while', async () => {
    const moving = { realMs: Date.now(), virtualMs: T0, speed: SPEED };
    const mine = connect(sim, moving);
    const callsOf = async (): Promise<number> => (await find(0, ['other-1'], mine)).report.calls;
    const first = await callsOf();
    const second = await callsOf();
    expect(first - second).toBe(2 * BOTH.length);
    moving.virtualMs += 6 * MINUTE_MS;
    expect(await callsOf()).toBe(first);
  });

  test('P3: a dropped operator is a broken contract too', async () => {
    sim.habits.set({ dropOperators: [{ name: 'in' }] });
    const fresh = connect(sim, clock);
    for (const index of [0, 1]) {
      expect((await failure(find(index, ['other-1'], fresh))).reason).toBe('contract-broken');
      expect((await failure(lookup(index, [{ projectId: 'prod', traceId: UNKNOWN }], fresh))).reason).toBe(
        'contract-broken',
      );
    }
  });

  test('P3: rows of another environment are a broken contract, whichever list brings them', async () => {
    sim.habits.set({ environmentsIgnored: true });
    for (const index of [0, 1]) expect((await failure(find(index, ['other-4']))).reason).toBe('contract-broken');
  });

  test.each(['results', 'next', 'environment', 'trace_unique_id', 'customer_identifier', 'metadata'])(
    'P3: a logs page without %s is a broken contract, never "no rows"',
    async (field) => {
      sim.habits.set({ missingFields: [field] });
      expect((await failure(find(0, ['other-1']))).reason).toBe('contract-broken');
    },
  );

  test.each(['results', 'next', 'environment', 'trace_unique_id', 'customer_identifier'])(
    'P3: a traces page without %s is a broken contract',
    async (field) => {
      sim.habits.set({ missingFields: [field] });
      expect((await failure(lookup(1, [{ projectId: 'prod', traceId: UNKNOWN }]))).reason).toBe('contract-broken');
    },
  );

  test('P3: HTML, cut bodies and unknown routes prove nothing; fields that were added do no harm', async () => {
    sim.habits.set({ htmlErrors: { status: 200 } });
    expect(await failure(find(0, ['other-1']))).toMatchObject({ reason: 'contract-broken', status: 200 });
    sim.habits.reset();
    sim.habits.set({ truncateBody: { how: 'cut' } });
    expect((await failure(find(0, ['other-1']))).reason).toBe('contract-broken');
    sim.habits.reset();
    sim.habits.set({ serverErrors: { status: 404 } });
    expect((await failure(lookup(0, [{ projectId: 'prod', traceId: UNKNOWN }]))).reason).toBe('gone');
    sim.habits.reset();
    sim.habits.set({ extraFields: true });
    expect(tracesOf(await find(0, ['other-1']))).toHaveLength(3);
  });

  test('P10: a server that silently cuts wide ranges is found out, and read in narrower ones', async () => {
    sim.habits.set({ windowAtMostDays: 7 });
    const [young] = sim.seedPeople({ people: ['young'], tracesPerPerson: 1, atMs: T0 - DAY_MS });
    const narrow = connect(sim, clock, { maxWindow: 30, startDate: '2026-09-01' });
    const read = await find(0, ['young'], narrow, []);
    expect(tracesOf(read)).toEqual(young!.traceIds);
    expect(read.report.window!.fromMs).toBe(Date.parse('2026-09-01'));
    const spans = sim.ledger.entries.slice(-3).map(({ window: of }) => of);
    expect(spans.every((of) => of === null || of.endMs - of.startMs <= 30 * DAY_MS)).toBe(true);
  });

  test('P10: reads that do not reach back to the day of the earliest data say from when on they prove anything', async () => {
    const oldest = async (more: Partial<RespanConnectionInput> = {}): Promise<number | undefined> =>
      (await findControls(connect(sim, clock, more))).notProvenBeforeMs;
    expect(await oldest()).toBeUndefined();
    expect(await oldest({ startDate: '2024-01-01', retention: '30 d' })).toBeUndefined();
    const seeded = await oldest({ startDate: '2024-01-01' });
    expect(seeded).toBeGreaterThan(T0 - 60 * DAY_MS);
    sim.habits.set({ windowAtMostDays: 7 });
    for (const more of [{}, { maxWindow: 30 }, { retention: '30 d' }]) {
      expect(await oldest(more)).toBeGreaterThan(T0 - 8 * DAY_MS);
    }
  });

  test('P10: a store that ignores bounds hides nothing by them', async () => {
    sim.habits.set({ windowIgnored: true });
    expect(await choose(connect(sim, clock))).not.toEqual([]);
  });

  test.each(['traces', 'filters'] as const)(
    'P6: no controls at all because the store is blind (%s) is an error',
    async (blind) => {
      sim.habits.set({ blind });
      expect((await failure(choose(connect(sim, clock)))).reason).toBe('contract-broken');
    },
  );

  test('P11: locate tells traces, spans, customers, threads and environments apart', async () => {
    const [one] = sim.seed({
      traces: [{ spans: [{ customerIdentifier: 'loc', threadIdentifier: 'thread-9' }, { customerIdentifier: 'loc' }] }],
    });
    const loose = sim.seedLog({ customerIdentifier: 'loc' });
    const ids = [one!.traceId, one!.uniqueIds[1]!, 'loc', 'thread-9', 'prod', loose.uniqueId, UNKNOWN];
    const located = await store.locate({ ids, projects, window, controls, progress: idle });
    allSeen(located);
    expect(tracesOf(located)).toEqual([one!.traceId]);
    expect(located.rows.some(({ runId }) => runId === one!.uniqueIds[1])).toBe(true);
    expect(Object.fromEntries(located.wrongKind)).toEqual({
      loc: 'customer',
      'thread-9': 'thread',
      prod: 'project',
      [loose.uniqueId]: 'log without a trace',
    });
    sim.habits.set({ blind: 'all' });
    const blind = await store.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle });
    expect(blind.controlsSeen).toEqual(controls.map(() => false));
  });

  test('P6: a project that holds traces without any searched key is named as silent', async () => {
    const found = await store.controls({
      projects,
      terms: terms(['x'], ['metadata.user_id']),
      window,
      want: 2,
      exclude: () => false,
      progress: idle,
    });
    expect(found.silent).toEqual([{ projectId: 'test', holdsRuns: true }]);
  });

  test('P7: controls are never taken from traces with a person that may not serve', async () => {
    const exclude = (row: Row): boolean => row.persons.some(({ text }) => text === 'other-1');
    const found = await store.controls({ projects, terms: terms(['x']), window, want: 2, exclude, progress: idle });
    expect(found.controls.length).toBeGreaterThan(0);
    expect(found.controls.some(({ value }) => value.text === 'other-1')).toBe(false);
  });

  test('an environment by a name that the store does not know is an error, not an empty project', async () => {
    const error = await failure(connect(sim, clock, { environments: ['live'] }).projects(idle));
    expect(error).toMatchObject({ reason: 'gone' });
    expect(error.advice).toContain('"live"');
  });

  test('P9: environments that hold logs and are left out are named, by one call in a while', async () => {
    let asks = 0;
    const counting: typeof fetch = (input, init) => {
      if (new Request(input, init).url.includes('all_envs')) asks += 1;
      return fetch(input, init);
    };
    const moving = { realMs: Date.now(), virtualMs: T0, speed: SPEED };
    const narrow = connect(sim, moving, { environments: ['prod'], fetch: counting });
    const leftOut = async (from = narrow): Promise<unknown> => {
      const found = await from.controls({
        projects: projects.filter(({ id }) => id === 'prod'),
        terms: terms(['x']),
        window,
        want: 2,
        exclude: () => false,
        progress: idle,
      });
      return [found.leftOut?.map(({ id, type, why }) => [id, type, why]), found.unreachable];
    };
    const why = 'holds logs, and the config leaves it out: not searched';
    expect(await leftOut()).toEqual([[['test', 'ENVIRONMENT', why]], undefined]);
    expect(await leftOut()).toEqual([[['test', 'ENVIRONMENT', why]], undefined]);
    expect(asks).toBe(1);
    // Ten real seconds at least, on a clock as fast as this.
    moving.virtualMs += 6 * MINUTE_MS + 11_000 * SPEED;
    await leftOut();
    expect(asks).toBe(2);
    expect(await leftOut(connect(sim, clock))).toEqual([[], undefined]);
    // Nor is a range asked for that is wider than the server takes.
    const wide = sim.ledger.entries.length;
    expect(await leftOut(connect(sim, clock, { environments: ['prod'], maxWindow: 30 }))).toEqual([
      [['test', 'ENVIRONMENT', why]],
      undefined,
    ]);
    const widths = sim.ledger.entries.slice(wide).map(({ window: of }) => (of === null ? 0 : of.endMs - of.startMs));
    expect(Math.max(...widths)).toBeLessThanOrEqual(30 * DAY_MS);
    expect(narrow.traits.limits.join()).toContain('latest 1,000 logs');
  });

  test.each([400, 403, 404])(
    'P9: a server that does not say so (%i) is on record, and holds nothing up',
    async (status) => {
      const refusing: typeof fetch = (input, init) =>
        new Request(input, init).url.includes('all_envs')
          ? Promise.resolve(new Response('{}', { status }))
          : fetch(input, init);
      const found = await findControls(connect(sim, clock, { fetch: refusing }));
      expect(found.controls.length).toBeGreaterThan(1);
      expect([found.leftOut, found.unreachable?.map(({ why }) => why)]).toEqual([
        undefined,
        ['the store did not say which other environments hold logs'],
      ]);
    },
  );

  test('wrong keys, refusals and blips are told apart', async () => {
    expect(await failure(find(0, ['x'], connect(sim, clock, { apiKey: 'wrong' })))).toMatchObject({
      reason: 'denied',
      status: 401,
    });
    sim.habits.set({ serverErrors: { count: 2 } });
    expect(tracesOf(await find(0, ['other-1']))).toHaveLength(3);
    sim.habits.set({ serverErrors: { status: 503 } });
    expect((await failure(find(0, ['other-1']))).reason).toBe('unreachable');
  });
});

// ------------------------------------------------------------------------------------------------ deleting

describe('deletes', () => {
  const bystanders = (): number => sim.truth.allTraces().length;

  describe('in a small environment', () => {
    beforeEach(() => start());

    test('P13: each trace goes by the call with its id in the path, with all time and the environment named', async () => {
      const before = bystanders();
      const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 4 });
      const old = sim.seedPeople({ people: ['ann'], tracesPerPerson: 1, atMs: Date.parse('2024-02-01T00:00:00Z') });
      const from = sim.ledger.entries.length;
      const receipt = await erase([...people, ...old]);
      settle();
      expect(receipt).toMatchObject({ status: 200, route: 'DELETE /api/traces/{trace_unique_id}/' });
      expect(receipt.refused).toBeUndefined();
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
      expect(bystanders()).toBe(before);
      expect(sim.truth.unasked()).toEqual([]);
      const deletes = sim.ledger.entries.slice(from).filter(({ family }) => family === 'deletes');
      expect(deletes.map(({ ids }) => ids?.[0])).toEqual(keysOf([...people, ...old]).map(({ traceId }) => traceId));
      for (const { environment, window: of } of deletes) {
        expect(environment).toBe('prod');
        expect(of!.startMs).toBe(0);
        expect(of!.endMs).toBeGreaterThan(T0 + DAY_MS);
      }
    });

    test('P19: no dropped key or operator, before or just before the delete, takes anybody else along', async () => {
      const before = bystanders();
      for (const drops of [
        { dropFilterKeys: [{ name: 'trace_unique_id', on: 'deletes' }] },
        { dropOperators: [{ name: 'in', on: 'deletes' }] },
      ] as const) {
        const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 3 });
        sim.habits.set(drops);
        await erase(people);
        settle();
        expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
        sim.habits.reset();
      }
      expect(bystanders()).toBe(before);
      expect(sim.truth.unasked()).toEqual([]);
    });

    test('P19: a filter dropped in the list before the delete trips the kill switch, and nothing is sent', async () => {
      const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 3 });
      const before = bystanders();
      await lookup(0, keysOf(people), store, []);
      await lookup(1, keysOf(people), store, []);
      sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id' }] });
      const order = deleteOrder('prod', people[0]!.traceIds);
      const error = await failure(store.submit(order));
      expect(error.reason).toBe('rejected');
      expect(error.advice).toContain('not asked for');
      sim.habits.reset();
      // Also once the store behaves again: an operator has to look.
      expect((await failure(store.submit(order))).advice).toContain('switched off');
      expect(sim.ledger.deletes()).toEqual([]);
      expect(bystanders()).toBe(before);
    });

    test('P27: the last word is asked before each call, and what it forbids is not sent', async () => {
      const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 3 });
      await lookup(0, keysOf(people));
      let words = 0;
      const lastWord = (): Promise<void> => {
        words += 1;
        return words < 3 ? Promise.resolve() : Promise.reject(new Error('stop'));
      };
      await expect(store.submit({ ...deleteOrder('prod', people[0]!.traceIds), lastWord })).rejects.toThrow('stop');
      settle();
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([people[0]!.traceIds[2]]);
    });

    test('a trace whose aggregate is gone goes too', async () => {
      const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 2 });
      sim.habits.set({ mutates: 'traces' });
      await erase(people);
      settle();
      sim.habits.reset();
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toHaveLength(2);
      await erase(people);
      settle();
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
    });

    test('a store that takes no wide ranges is asked in narrow ones, for deletes too', async () => {
      const narrow = connect(sim, clock, { maxWindow: 30, startDate: '2026-06-01' });
      const people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 6, from: T0 - 100 * DAY_MS, to: T0 - DAY_MS });
      const before = bystanders();
      const from = sim.ledger.entries.length;
      await erase(people, narrow);
      settle();
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
      expect(bystanders()).toBe(before - 6);
      const widths = sim.ledger.entries.slice(from).map(({ window: of }) => (of === null ? 0 : of.endMs - of.startMs));
      expect(Math.max(...widths)).toBe(30 * DAY_MS);
      const reads = sim.ledger.entries.slice(from).filter(({ route }) => route.includes('/list/'));
      expect(Math.min(...reads.map(({ window: of }) => of!.startMs))).toBe(Date.parse('2026-06-01'));
    });

    test('P13: an id that another environment uses too is only deleted where no other trace can be hit', async () => {
      const spans = (who: string, startTime: number) => [{ customerIdentifier: who, startTime }];
      const at = T0 - 5 * DAY_MS;
      sim.seed({ traces: [{ traceId: 'run-1', spans: spans('ann', at) }] });
      sim.seed({ environment: 'test', traces: [{ traceId: 'run-1', spans: spans('stranger', at) }] });
      sim.seed({ traces: [{ traceId: 'run-2', spans: spans('ann', at + HOUR_MS) }] });
      sim.seed({ environment: 'test', traces: [{ traceId: 'run-2', spans: spans('stranger', at) }] });
      sim.seed({ traces: [{ traceId: 'neighbour', spans: spans('stranger', at + 500) }] });
      const mine = ['run-1', 'run-2'].map((traceId) => ({ projectId: 'prod', traceId }));
      await lookup(0, mine);
      // Even with the filter gone at the moment of the delete.
      sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id', on: 'deletes' }] });
      const receipt = await store.submit(deleteOrder('prod', ['run-1', 'run-2']));
      settle();
      expect(receipt.refused).toEqual(['run-1']);
      expect(receipt.route).toBe('POST /api/traces/bulk-delete/');
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'stranger' }]).sort()).toEqual([
        'neighbour',
        'run-1',
        'run-2',
      ]);
      expect(sim.truth.unasked().map(({ projectId, traceId }) => [projectId, traceId])).toEqual([['prod', 'run-2']]);
      const left = sim.truth.liveTracesOf([{ key: 'customer_identifier', value: 'ann' }]);
      expect(left.map(({ traceId }) => traceId)).toEqual(['run-1']);
    });

    test('P13: ids that would be read as another path never stand in one', async () => {
      const ids = ['../users', 'a/b', '..', 'list', 'bulk-delete', '50%', 'ok id', 'ünï'];
      const at = T0 - 3 * DAY_MS;
      sim.seed({
        traces: ids.map((traceId, n) => ({
          traceId,
          spans: [{ customerIdentifier: 'ann', startTime: at + n * HOUR_MS }],
        })),
      });
      const before = bystanders();
      await lookup(
        0,
        ids.map((traceId) => ({ projectId: 'prod', traceId })),
      );
      const receipt = await store.submit(deleteOrder('prod', ids));
      settle();
      expect(receipt.refused).toBeUndefined();
      expect(bystanders()).toBe(before - ids.length);
      expect(sim.truth.unasked()).toEqual([]);
      const ways = sim.ledger.entries.filter(({ family }) => family === 'deletes').map(({ method }) => method);
      expect(ways.filter((method) => method === 'DELETE')).toHaveLength(2);
      expect(pathSegment('ok id')).toBe('ok%20id');
      for (const id of ['../users', 'a/b', '..', '.', 'list', 'LIST', '50%', 'a;b', 'a?b', 'a#b', '', ' a']) {
        expect(pathSegment(id)).toBeNull();
      }
    });
  });

  describe('in a large environment', () => {
    let people: readonly SeededPerson[];

    beforeEach(async () => {
      await start();
      sim.seedPeople({ people: 400, tracesPerPerson: 4, spansPerTrace: 1 });
      people = sim.seedPeople({ people: ['ann'], tracesPerPerson: 20 });
    });

    test('P13, P19: one bulk delete, after a list of the identical filter, range and environment', async () => {
      const before = bystanders();
      const from = sim.ledger.entries.length;
      const receipt = await erase(people);
      settle();
      expect(receipt).toMatchObject({ status: 200, route: 'POST /api/traces/bulk-delete/' });
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
      expect(bystanders()).toBe(before - 20);
      expect(sim.truth.unasked()).toEqual([]);
      const calls = sim.ledger.entries.slice(from);
      const at = calls.findIndex(({ family }) => family === 'deletes');
      const [list, remove] = [calls[at - 1]!, calls[at]!];
      expect(list.route).toContain('/api/traces/list/');
      expect(list).toMatchObject({ ids: remove.ids, environment: remove.environment, window: { startMs: 0 } });
      expect([...(remove.ids ?? [])].sort()).toEqual([...people[0]!.traceIds].sort());
      expect(calls.slice(at + 1)).toEqual([]);
    });

    test.each([
      ['key', { dropFilterKeys: [{ name: 'trace_unique_id', on: 'deletes' }] }],
      ['operator', { dropOperators: [{ name: 'in', on: 'deletes' }] }],
    ] as const)(
      'P19: a %s dropped between the list and the delete deletes nothing, trips the kill switch and says so',
      async (_what, habits) => {
        const before = bystanders();
        sim.habits.set(habits);
        const error = await failure(erase(people));
        expect(error.reason).toBe('rejected');
        expect(error.advice).toContain('would have matched more traces');
        settle();
        expect(bystanders()).toBe(before);
        sim.habits.reset();
        expect((await failure(erase(people))).advice).toContain('switched off');
        expect(sim.ledger.entries.filter(({ family }) => family === 'deletes')).toHaveLength(1);
      },
    );

    test('P19: a count above what was sent trips the kill switch, and nothing is halved or repeated', async () => {
      sim.habits.set({ countsInflatedBy: 1 });
      const error = await failure(erase(people));
      expect(error).toMatchObject({ reason: 'rejected' });
      expect(error.advice).toContain('counted more traces');
      expect(sim.ledger.deletes()).toHaveLength(1);
    });

    test('a refused batch is rejected whole, so that the bad id can be found by halving', async () => {
      const bad = people[0]!.traceIds[7]!;
      sim.habits.set({ rejectBatchWith: { ids: [bad] } });
      const receipt = await erase(people);
      settle();
      expect(receipt.refused ?? []).toEqual([]);
      // Alone it goes by the call without a filter.
      expect(sim.truth.tracesOf([{ key: 'customer_identifier', value: 'ann' }])).toEqual([]);
    });

    test('P13: nothing but ids that were read here is deleted', async () => {
      await expect(store.submit(deleteOrder('prod', []))).rejects.toThrow(GuardError);
      await expect(store.submit(deleteOrder('prod', [UNKNOWN]))).rejects.toThrow(GuardError);
      await lookup(0, keysOf(people));
      await expect(store.submit(deleteOrder('test', people[0]!.traceIds))).rejects.toThrow(GuardError);
      await expect(
        store.submit({ ...deleteOrder('prod', people[0]!.traceIds.slice(0, 1)), projectId: '' }),
      ).rejects.toThrow(GuardError);
      expect(sim.ledger.entries.filter(({ family }) => family === 'deletes')).toEqual([]);
    });
  });

  test('P13: the body of a bulk delete names trace ids and nothing else', async () => {
    await start();
    expect(bulkDeleteBody(['a', 'b'])).toEqual({ filters: { trace_unique_id: { operator: 'in', value: ['a', 'b'] } } });
    for (const ids of [[], [''], ['a', ' b'], ['x'.repeat(255)], Array.from({ length: 1001 }, (_, n) => String(n))]) {
      expect(() => bulkDeleteBody(ids)).toThrow(RangeError);
    }
  });
});

// ------------------------------------------------------------------------------------------------ beside the traces

describe('data beside the traces', () => {
  const lastWord = (): Promise<void> => Promise.resolve();
  const looseOf = async (who: string, from = store): Promise<Copy[]> =>
    ((await find(0, [who], from)).loose ?? []).map(({ kind, id }) => ({ kind, id, traceId: '' }));
  const kinds = (copies: readonly Copy[]): string[] => copies.map(({ kind }) => kind).sort();

  test('logs without a trace and customer records of every environment are found by exact person', async () => {
    await start();
    const startTime = sim.now() - HOUR_MS;
    sim.seedLog({ customerIdentifier: 'ann', startTime });
    sim.seedLog({ metadata: { user_id: 'ann' }, startTime });
    sim.seedLog({ customerIdentifier: 'bob' });
    sim.seedPeople({ people: ['ann'], tracesPerPerson: 1, environment: 'test' });
    expect(kinds(await looseOf('ann'))).toEqual([
      'customer-record',
      'customer-record',
      'logs-without-trace',
      'logs-without-trace',
    ]);
    const read = await find(0, ['ann']);
    expect(read.loose!.every(({ persons }) => persons.some(({ text }) => text === 'ann'))).toBe(true);
    // P21: a record of a customer has no date.
    expect(new Set(read.loose!.map(({ kind, startMs }) => `${kind} ${startMs}`))).toEqual(
      new Set([`logs-without-trace ${startTime}`, 'customer-record undefined']),
    );
    expect(await looseOf('nobody')).toEqual([]);
  });

  test('without legacySpanDelete loose logs stay a manual task; customer records are erased, of this person only', async () => {
    await start();
    sim.seedLog({ customerIdentifier: 'ann' });
    sim.seedLog({ customerIdentifier: 'bob' });
    const trait = (kind: string) => store.traits.copyMap.find((copy) => copy.kind === kind)!;
    expect(trait('logs-without-trace').erasable).toBe(false);
    const records = (await looseOf('ann')).filter(({ kind }) => kind === 'customer-record');
    await store.eraseCopies!(records, lastWord, idle);
    settle();
    expect((await store.lookupCopies(records, idle)).left).toEqual([]);
    const names = sim.truth.customerRecords().map(({ customerIdentifier }) => customerIdentifier);
    expect(names).not.toContain('ann');
    expect(names).toContain('bob');
    const loose = (await looseOf('ann')).filter(({ kind }) => kind === 'logs-without-trace');
    await expect(store.eraseCopies!(loose, lastWord, idle)).rejects.toThrow(GuardError);
    expect(sim.truth.looseLogsOf()).toHaveLength(2);
  });

  test('P12: a group of traces is searched by the one list that knows it, and widens nothing', async () => {
    await start();
    const group = `run "1" o'clock`;
    const span = { customerIdentifier: 'u_42', traceGroupIdentifier: group };
    const own = sim.seed({ traces: [{ spans: [span, {}] }, { spans: [{ traceGroupIdentifier: group }, {}] }] });
    sim.seed({ traces: [{ spans: [{ customerIdentifier: 'other-1', traceGroupIdentifier: 'another' }] }] });
    const key = 'trace_group_identifier';
    expect(store.threads).toContain(key);
    expect(store.finders.map(({ searches }) => searches?.(key) ?? true)).toEqual([false, true]);
    const read = await store.finders[1]!.find({
      projects,
      terms: [{ kind: THREAD_KIND, keys: [key], variants: [group] }],
      window,
      controls: [],
      progress: idle,
    });
    expect(tracesOf(read)).toEqual(own.map(({ traceId }) => traceId).sort());
    expect(read.rows.map(({ threads }) => threads)).toEqual(own.map(() => [{ key, text: group, numeric: false }]));
  });

  test('P17: a record whose customer still stands on a trace stays, as its deletion might take the trace along', async () => {
    await start();
    sim.habits.set({ customerTakesLogs: true });
    sim.seed({ traces: [{ spans: [{ customerIdentifier: 'ann' }, { customerIdentifier: 'bob' }] }] });
    sim.seed({ traces: [{ spans: [{ customerIdentifier: 'bob' }, { customerIdentifier: 'cid' }] }] });
    sim.seedLog({ customerIdentifier: 'dan' });
    const traces = sim.truth.allTraces().length;
    for (const who of ['ann', 'cid']) {
      const records = await looseOf(who);
      expect(kinds(records)).toEqual(['customer-record']);
      await store.eraseCopies!(records, lastWord, idle);
      settle();
      expect((await store.lookupCopies(records, idle)).left).toEqual(records);
    }
    expect(sim.truth.allTraces()).toHaveLength(traces);
    // Logs without a trace hold nobody else.
    const records = (await looseOf('dan')).filter(({ kind }) => kind === 'customer-record');
    await store.eraseCopies!(records, lastWord, idle);
    settle();
    expect((await store.lookupCopies(records, idle)).left).toEqual([]);
  });

  test('an immortal customer record is left, and so is one that no path can name', async () => {
    await start();
    sim.seedLog({ customerIdentifier: 'ann' });
    sim.seedLog({ customerIdentifier: 'a/../other-1' });
    sim.habits.set({ customerImmortal: true });
    const records = [...(await looseOf('ann')), ...(await looseOf('a/../other-1'))].filter(
      ({ kind }) => kind === 'customer-record',
    );
    await store.eraseCopies!(records, lastWord, idle);
    settle();
    const { left } = await store.lookupCopies(records, idle);
    expect(left).toHaveLength(records.length);
    expect(sim.truth.customerRecords().some(({ customerIdentifier }) => customerIdentifier === 'other-1')).toBe(true);
    expect(await find(0, ['other-1'])).toBeDefined();
  });

  test('P22: with legacySpanDelete each loose log goes by a call that names it alone', async () => {
    await start({}, { legacySpanDelete: true });
    sim.habits.set({ spanDelete: 'alive' });
    sim.seedLog({ customerIdentifier: 'ann' });
    sim.seedLog({ customerIdentifier: 'ann', environment: 'test' });
    sim.seedLog({ customerIdentifier: 'bob' });
    const traces = sim.truth.allTraces().length;
    const copies = await looseOf('ann');
    expect((await store.lookupCopies(copies, idle)).left).toHaveLength(copies.length);
    await store.eraseCopies!(copies, lastWord, idle);
    settle();
    expect((await store.lookupCopies(copies, idle)).left).toEqual([]);
    expect(sim.truth.looseLogsOf().map(({ customerIdentifier }) => customerIdentifier)).toEqual(['bob']);
    expect(sim.truth.allTraces()).toHaveLength(traces);
  });

  test.each([404, 405] as const)(
    'with the older route gone (%i) loose logs are left, and said to be',
    async (spanDelete) => {
      await start({}, { legacySpanDelete: true });
      sim.habits.set({ spanDelete });
      sim.seedLog({ customerIdentifier: 'ann' });
      const copies = (await looseOf('ann')).filter(({ kind }) => kind === 'logs-without-trace');
      await store.eraseCopies!(copies, lastWord, idle);
      settle();
      expect((await store.lookupCopies(copies, idle)).left).toEqual(copies);
    },
  );

  test('copies in datasets and testsets are found without a filter; experiments are named as not examined', async () => {
    await start();
    const [ann] = sim.seed({ traces: [{ spans: [{ customerIdentifier: 'ann' }] }] });
    const [bob] = sim.seed({ traces: [{ spans: [{ customerIdentifier: 'bob' }] }] });
    const dataset = sim.createDataset('golden');
    sim.copyToDataset(dataset, ann!.uniqueIds[0]!);
    sim.copyToDataset(dataset, bob!.uniqueIds[0]!);
    sim.createTestset('cases', [{ user: 'ann', input: 'x' }, { user: 'bob' }]);
    sim.createExperiment('try');
    const traces = [{ projectId: 'prod', traceId: ann!.traceId }];
    const { rows } = await lookup(0, traces);
    const found = await store.copies(traces, rows, idle);
    expect(kinds(found.copies)).toEqual(['dataset-logs', 'testset-rows']);
    expect(found.copies.every(({ traceId }) => traceId === ann!.traceId)).toBe(true);
    expect(found.notExamined.map(({ kind }) => kind)).toEqual(['experiments']);
  });
});

// ------------------------------------------------------------------------------------------------ the connection

describe('the connection', () => {
  const base = {
    store: 'respan',
    apiKey: 'k',
    environments: ['prod'],
    startDate: '2024-01-01',
    identifiers: { user_id: ['customer_identifier'] },
  } as const;

  beforeEach(() => start());

  test('defaults are safe, and real stores cannot lower the settle time', () => {
    const config = connectionSchema.parse(base);
    expect(config).toMatchObject({ baseUrl: 'https://api.respan.ai', settle: 10 * MINUTE_MS, legacySpanDelete: false });
    const hosts = ['https://endpoint.respan.ai/api', 'https://api.keywordsai.co/api/'];
    expect(hosts.map((baseUrl) => respanConnectionSchema.parse({ ...base, baseUrl }).baseUrl)).toEqual([
      'https://endpoint.respan.ai',
      'https://api.keywordsai.co',
    ]);
    const problems = (given: object): string[] =>
      connectionSchema.safeParse({ ...base, ...given }).error?.issues.map(({ path }) => path.join('.')) ?? [];
    expect(problems({ settle: '5 min' })).toEqual(['settle']);
    expect(problems({ settle: '5 min', baseUrl: 'http://127.0.0.1:1' })).toEqual([]);
    expect(problems({ environments: [] })).toEqual(['environments']);
    expect(problems({ environments: ['production'] })).toEqual(['environments.0']);
    expect(problems({ environments: ['prod', 'prod'] })).toEqual(['environments']);
    expect(problems({ startDate: 'soon' })).toEqual(['startDate']);
    expect(problems({ startDate: undefined })).toEqual(['startDate']);
    expect(problems({ identifiers: { user_id: ['total_tokens'] } })).toEqual(['identifiers.user_id.0']);
    expect(problems({ accept: ['nothing-known'] })).toEqual(['accept.0']);
    expect(problems({ accept: ['response-cache', 'object-storage'] })).toEqual([]);
    expect(problems({ more: 1 })).not.toEqual([]);
  });

  test('traits say what is true of this store', () => {
    const { traits } = store;
    expect(traits).toMatchObject({ deletesBy: 'trace', pageTokens: 'offset', mostSpellingsPerFind: 1 });
    expect(traits.mostIdsPerDelete).toBeLessThanOrEqual(1000);
    expect(traits.rhythm).toEqual({ kind: 'continuous', settleMs: 10 * MINUTE_MS, spreadMs: 10 * MINUTE_MS });
    expect(store.normaliseId(`  ${UNKNOWN} `)).toBe(UNKNOWN);
    for (const bad of ['', '   ', 'a\nb', 'x'.repeat(255)]) expect(store.normaliseId(bad)).toBeNull();
  });

  test('the documented limit is never exceeded, and a 429 is waited for as its body says', async () => {
    const paced = await startRespanSimulator({ clock, limits: { requestLogsPerMinute: 60 } });
    try {
      paced.seedPeople({ people: ['p', 'q'], tracesPerPerson: 2 });
      const slow = connect(paced, clock, { callsPerMinute: 50 });
      for (let n = 0; n < 16; n += 1) await find(n % 2, ['p'], slow, []);
      expect(paced.ledger.entries.length).toBeGreaterThan(70);
      expect(paced.ledger.entries.filter(({ status }) => status === 429)).toEqual([]);
      paced.habits.set({ throttle: { count: 1, retryAfter: 300 } });
      expect(tracesOf(await find(0, ['p'], slow, []))).toHaveLength(2);
      const refused = paced.ledger.entries.findIndex(({ status }) => status === 429);
      const [at, again] = [paced.ledger.entries[refused]!.atMs, paced.ledger.entries[refused + 1]!.atMs];
      expect(again - at).toBeGreaterThanOrEqual(300_000);
    } finally {
      await paced.close();
    }
  });

  test('P31: errors and log lines hold no value, id or vendor text', async () => {
    const lines: string[] = [];
    const log: StoreLog = (fields, message) => lines.push(JSON.stringify([fields, message]));
    const logged = connect(sim, clock, { log });
    const people = sim.seedPeople({ people: ['canary-7f3a'], tracesPerPerson: 1 });
    await find(0, ['canary-7f3a'], logged);
    await erase(people, logged);
    sim.habits.set({ serverErrors: { status: 400 } });
    const error = await failure(find(0, ['canary-7f3a'], logged));
    const text = [...lines, error.message, error.advice].join('\n');
    expect(lines.length).toBeGreaterThan(5);
    expect(text).not.toContain('canary-7f3a');
    expect(text).not.toContain(people[0]!.traceIds[0]!);
  });

  test('doctor: environments, reach, keys, filters, and environments that the config leaves out', async () => {
    const items = new Map((await store.check()).map((item) => [item.name, item]));
    expect(items.get('environment prod')!.level).toBe('ok');
    expect(items.get('reach of reads')!.level).toBe('ok');
    expect(items.get('filters')!.level).toBe('ok');
    expect(items.get('other environments')!.level).toBe('ok');
    const narrow = connect(sim, clock, { environments: ['prod'], startDate: '2026-01-01' });
    const found = new Map((await narrow.check()).map((item) => [item.name, item]));
    expect(found.get('reach of reads')!.level).toBe('problem');
    expect(found.get('other environments')).toMatchObject({ level: 'problem' });
    expect(found.get('other environments')!.text).toContain('test');
    sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id' }] });
    const dropped = (await connect(sim, clock).check()).find(({ name }) => name === 'filters');
    expect(dropped!.level).toBe('problem');
    const denied = await connect(sim, clock, { apiKey: 'wrong' }).check();
    expect(denied.filter(({ level }) => level === 'problem').length).toBeGreaterThan(3);
    expect(sim.ledger.entries.some(({ family }) => family === 'deletes')).toBe(false);
    expect(virtualNow(clock)).toBeGreaterThan(T0);
  });
});
