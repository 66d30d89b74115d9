import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createServer } from 'node:http';
import { deleteOrder } from './support/delete-order.ts';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../src/erasure/clock.ts';
import { virtualNow } from '../src/erasure/clock.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import { startLangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import type { LangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { GuardError } from '../src/stores/guard.ts';
import { NumberText, parseJson } from '../src/stores/http.ts';
import { langsmithConnectionSchema } from '../src/stores/langsmith/config.ts';
import type { LangSmithConnectionInput } from '../src/stores/langsmith/config.ts';
import { StoreError } from '../src/stores/port.ts';
import type { Control, FindQuery, Project, Row, TraceKey, TraceStore } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import type { StoreLog } from '../src/stores/registry.ts';

const T0 = Date.parse('2026-11-25T12:00:00Z');
/** Ten virtual seconds, the span of most limits, pass in two real milliseconds. */
const SPEED = 5000;
const idle = (): void => undefined;
const UNKNOWN = '01234567-89ab-7def-8123-456789abcdef';
const P1 = '11111111-1111-4111-8111-111111111111';
const T1 = '22222222-2222-4222-8222-222222222222';
const R1 = '33333333-3333-4333-8333-333333333333';

function fastClock(virtualMs = T0): Clock {
  return { realMs: Date.now(), virtualMs, speed: SPEED };
}

type Given = Partial<LangSmithConnectionInput> & { readonly log?: StoreLog };

function connect(url: string, clock: Clock, { log, ...given }: Given = {}, apiKey = 'k'): TraceStore {
  const config = connectionSchema.parse({
    store: 'langsmith',
    baseUrl: url,
    apiKey,
    identifiers: { user_id: ['metadata.user_id', 'metadata.customer'], email: ['metadata.email'] },
    ...given,
  });
  return openStore('test', config, { clock, ...(log === undefined ? {} : { log }) });
}

function terms(...variants: string[]) {
  return [{ kind: 'user_id', keys: ['metadata.user_id', 'metadata.customer'], variants }];
}

async function failure(promise: Promise<unknown>): Promise<StoreError> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreError)) throw error;
  return error;
}

function tracesOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.map(({ traceId }) => traceId))].sort();
}

// ------------------------------------------------------------------------------------------------ the simulator

describe('against the simulator', () => {
  const clock = fastClock();
  let sim: LangSmithSimulator;
  let store: TraceStore;
  let projects: readonly Project[];
  let controls: readonly Control[];
  const window = { fromMs: 0, toMs: T0 + 400 * DAY_MS };

  const connectSim = (given: Given = {}, apiKey = sim.apiKey): TraceStore => connect(sim.url, clock, given, apiKey);
  const find = (index: number, variants: string[], some = controls, from = store) => {
    const finder = from.finders[index];
    if (finder === undefined) throw new Error('no such finder');
    return finder.find({ projects, terms: terms(...variants), window, controls: some, progress: idle });
  };
  const lookup = (index: number, traces: readonly TraceKey[], some = controls, from = store) => {
    const route = from.lookups[index];
    if (route === undefined) throw new Error('no such route');
    return route.lookup({ traces, window, controls: some, progress: idle });
  };
  const keysOf = (project: string, traceIds: readonly string[]): TraceKey[] =>
    traceIds.map((traceId) => ({ projectId: sim.project(project).id, traceId }));
  const chooseControls = async (want = 2, exclude: (row: Row) => boolean = () => false): Promise<readonly Control[]> =>
    (
      await store.controls({
        projects,
        terms: terms('x'),
        window,
        want,
        exclude: (row) => exclude(row) || !row.persons.some(({ text }) => text.startsWith('other')),
        progress: idle,
      })
    ).controls;

  beforeAll(async () => {
    sim = await startLangSmithSimulator({
      clock,
      evaluatorProject: 'evals',
      apiKeys: [
        'lsv2_full',
        { key: 'lsv2_traces_only', deletes: 'traces-only' },
        { key: 'lsv2_editor', deletes: 'none' },
        { key: 'lsv2_org', orgScoped: true },
      ],
    });
    sim.seedPeople({ project: 'chat', people: ['other-1', 'other-2', 'other-3'], tracesPerPerson: 3 });
    sim.seedPeople({ project: 'agent', people: ['other-4', 'other-5'], tracesPerPerson: 2, key: 'customer' });
    store = connectSim();
    projects = await store.projects(idle);
    controls = await chooseControls();
  });
  afterAll(() => sim.close());
  afterEach(() => {
    sim.habits.reset();
  });

  test('P9: projects of every type are enumerated, the evaluators’ own one included', async () => {
    expect(projects.map(({ name, type }) => [name, type]).sort()).toEqual([
      ['agent', 'PROJECT'],
      ['chat', 'PROJECT'],
      ['evaluators', 'EVALUATOR'],
    ]);
  });

  test('P9: the config names projects by name or id, and a name that is not visible is an error that says so', async () => {
    const chat = sim.project('chat');
    const both = await connectSim({ projects: [chat.id.toUpperCase(), 'agent'] }).projects(idle);
    expect(both.map(({ name }) => name).sort()).toEqual(['agent', 'chat']);
    const error = await failure(connectSim({ projects: ['chat', 'chatt'] }).projects(idle));
    expect(error.reason).toBe('gone');
    expect(error.advice).toContain('"chatt"');
  });

  test('P9: v1 lists the projects of a server that has no v2', async () => {
    sim.habits.set({ serverErrors: { status: 404, on: ['/api/v2/sessions'] } });
    const found = await store.projects(idle);
    expect(found.map(({ name }) => name).sort()).toEqual(['agent', 'chat', 'evaluators']);
  });

  test('P5, P6: each finder finds a person over all projects, keys and depths in one call that also sees the controls', async () => {
    const chat = sim.seedPeople({ project: 'chat', people: ['ann'], tracesPerPerson: 2, carriedBy: 'children' });
    const agent = sim.seedPeople({ project: 'agent', people: ['ann'], tracesPerPerson: 3, key: 'customer' });
    const traces = [...chat, ...agent].flatMap(({ traceIds }) => traceIds).sort();
    for (const [index, name] of ['v2 runs', 'v1 runs'].entries()) {
      const before = sim.ledger.entries.length;
      const read = await find(index, ['ann']);
      expect(store.finders[index]?.name).toBe(name);
      expect(tracesOf(read.rows)).toEqual(traces);
      expect(read.rows.every(({ persons }) => persons.some(({ text }) => text === 'ann'))).toBe(true);
      expect(read.controlsSeen).toEqual(controls.map(() => true));
      expect(sim.ledger.entries.length - before).toBe(1);
      expect(read.report).toMatchObject({
        calls: 1,
        controlsAsked: controls.length,
        controlsSeen: controls.length,
        window,
      });
    }
  });

  test('P10: runs of long ago are found, although v2 looks back one day by default', async () => {
    const [old] = sim.seedPeople({
      project: 'chat',
      people: ['elder'],
      tracesPerPerson: 1,
      from: '2023-02-01T00:00:00Z',
      to: '2023-02-02T00:00:00Z',
    });
    for (const index of [0, 1]) expect(tracesOf((await find(index, ['elder'])).rows)).toEqual(old?.traceIds);
  });

  test('P15: no spelling of an identifier widens the search or breaks it', async () => {
    const nasty = [
      'quo"te',
      'back\\slash',
      '\\"',
      'ünïcödé 漢字 🦊',
      '") or eq(metadata_key,"user_id',
      "ap'os(tro)phe, comma",
      'tab\tnew\nline',
      'U_1',
      'u_1',
      ' u_1',
    ];
    const made = sim.seedPeople({ project: 'chat', people: nasty, tracesPerPerson: 1 });
    for (const [at, value] of nasty.entries()) {
      for (const index of [0, 1]) {
        const exact = (await find(index, [value])).rows.filter(({ persons }) =>
          persons.some(({ text }) => text === value),
        );
        expect(tracesOf(exact)).toEqual(made[at]?.traceIds);
      }
    }
    const all = await find(0, nasty);
    expect(tracesOf(all.rows)).toEqual(made.flatMap(({ traceIds }) => traceIds).sort());
  });

  test('P15: a canonical integer is searched as text and as number, and nothing else is', async () => {
    const runs = (value: unknown) => [{ runs: [{ metadata: { user_id: value } }] }];
    const [asNumber] = sim.seed({ project: 'chat', traces: runs(4711) });
    const [asText] = sim.seed({ project: 'chat', traces: runs('4711') });
    const [padded] = sim.seed({ project: 'chat', traces: runs('04711') });
    for (const index of [0, 1]) {
      const { rows } = await find(index, ['4711']);
      expect(tracesOf(rows)).toEqual([asNumber?.traceId, asText?.traceId].sort());
      expect(rows.map(({ persons }) => persons[0]?.numeric).sort()).toEqual([false, true]);
      expect(tracesOf((await find(index, ['04711'])).rows)).toEqual([padded?.traceId]);
    }
  });

  test('P28: pages are read to the end, and pages that repeat rows are read again', async () => {
    const [many] = sim.seedPeople({ project: 'chat', people: ['many'], tracesPerPerson: 90 });
    const small = connectSim({ pageSize: 40 });
    const traces = [...(many?.traceIds ?? [])].sort();
    for (const index of [0, 1]) {
      const { rows, report } = await find(index, ['many'], controls, small);
      expect(rows).toHaveLength(270);
      expect(tracesOf(rows)).toEqual(traces);
      expect(report.calls).toBe(index === 0 ? 7 : 3);
      sim.habits.set({ shiftingPages: { by: -7 } });
      const shifted = await find(index, ['many'], controls, small);
      expect(shifted.rows).toHaveLength(270);
      expect(shifted.report.calls).toBeGreaterThan(report.calls);
      sim.habits.reset();
    }
  });

  test('P17, P28: whose traces are is read in single pages, so that shifting ones hide nobody', async () => {
    const [many] = sim.seedPeople({ project: 'chat', people: ['crowd'], tracesPerPerson: 60 });
    sim.habits.set({ shiftingPages: { by: 5 } });
    const small = connectSim({ pageSize: 50 });
    const { rows } = await lookup(0, keysOf('chat', many?.traceIds ?? []), controls, small);
    expect(rows).toHaveLength(180);
  });

  test('P4: a look-up shows runs of any depth, also of traces whose root is gone', async () => {
    const [lost] = sim.seedPeople({ project: 'chat', people: ['rootless'], tracesPerPerson: 2 });
    const keys = keysOf('chat', lost?.traceIds ?? []);
    for (const index of [0, 1]) {
      const { rows, controlsSeen, report } = await lookup(index, keys);
      expect(rows).toHaveLength(6);
      expect(controlsSeen).toEqual(controls.map(() => true));
      expect(report).toMatchObject({ calls: 1, purpose: 'lookup' });
    }
    const orphans = await startLangSmithSimulator();
    try {
      const [gone] = orphans.seedPeople({
        project: 'p',
        people: ['x'],
        tracesPerPerson: 1,
        from: '2026-01-01T00:00:00Z',
      });
      const traces = (gone?.traceIds ?? []).map((traceId) => ({ projectId: gone?.projectId ?? '', traceId }));
      const here = connect(orphans.url, null, {}, orphans.apiKey);
      const read = () =>
        here.lookups[0]?.lookup({
          traces,
          window: { fromMs: 0, toMs: Date.now() + DAY_MS * 90 },
          controls: [],
          progress: idle,
        });
      expect((await read())?.rows).toHaveLength(3);
      orphans.habits.set({ leaveChildren: true });
      await here.submit(deleteOrder(gone?.projectId ?? '', gone?.traceIds ?? []));
      orphans.advanceWeekends(1);
      expect((await read())?.rows).toHaveLength(2);
    } finally {
      await orphans.close();
    }
  });

  test('P11: absent traces are absent in a call that sees the controls', async () => {
    for (const index of [0, 1]) {
      const { rows, controlsSeen, report } = await lookup(index, keysOf('chat', [UNKNOWN]));
      expect(rows).toEqual([]);
      expect(controlsSeen).toEqual(controls.map(() => true));
      expect(report.calls).toBe(1);
    }
  });

  test.each(['rejected', 'ignored'] as const)(
    'P3: where lists of traces are %s, traces are read one by one by the documented field, controls before and after',
    async (traceIdFilter) => {
      const [one] = sim.seedPeople({ project: 'chat', people: [`singly-${traceIdFilter}`], tracesPerPerson: 3 });
      sim.habits.set({ traceIdFilter });
      const keys = [...keysOf('chat', one?.traceIds ?? []), ...keysOf('chat', [UNKNOWN])];
      const fresh = connectSim();
      for (const index of [0, 1]) {
        const { rows, controlsSeen } = await lookup(index, keys, controls, fresh);
        expect(rows).toHaveLength(9);
        expect(controlsSeen).toEqual(controls.map(() => true));
        // Remembered: the second read does not try the list again.
        const again = await lookup(index, keys, controls, fresh);
        expect(again.report.calls).toBe(keys.length + controls.length);
      }
    },
  );

  test('P6: blind reads do not see their controls, by person, by id and in search of a place', async () => {
    const [blind] = sim.seedPeople({ project: 'chat', people: ['unseen'], tracesPerPerson: 2 });
    sim.habits.set({ blind: { what: 'all' } });
    for (const index of [0, 1]) {
      const found = await find(index, ['unseen']);
      expect([found.rows, found.controlsSeen]).toEqual([[], controls.map(() => false)]);
      const looked = await lookup(index, keysOf('chat', blind?.traceIds ?? []));
      expect([looked.rows, looked.controlsSeen]).toEqual([[], controls.map(() => false)]);
    }
    const located = await store.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle });
    expect(located.controlsSeen).toEqual(controls.map(() => false));
  });

  test('P6: a server that is blind to filters only is read around by the documented field', async () => {
    const [blind] = sim.seedPeople({ project: 'chat', people: ['half-seen'], tracesPerPerson: 2 });
    sim.habits.set({ blind: { what: 'filter' } });
    const { rows, controlsSeen } = await lookup(0, keysOf('chat', blind?.traceIds ?? []), controls, connectSim());
    expect(rows).toHaveLength(6);
    expect(controlsSeen).toEqual(controls.map(() => true));
  });

  test('P3: a filter that is silently ignored is a broken contract, not everybody’s data', async () => {
    const [one] = sim.seedPeople({ project: 'chat', people: ['narrow'], tracesPerPerson: 1 });
    sim.habits.set({ queryFilterIgnored: true });
    for (const index of [0, 1]) expect((await failure(find(index, ['narrow']))).reason).toBe('contract-broken');
    const small = connectSim({ pageSize: 50 });
    const { rows, controlsSeen, report } = await lookup(0, keysOf('chat', one?.traceIds ?? []), controls, small);
    expect(report.calls).toBeLessThan(controls.length + 5);
    expect(tracesOf(rows)).toEqual(one?.traceIds);
    expect(controlsSeen).toEqual(controls.map(() => true));
  });

  test.each(['trace_id', 'id', 'project_id', 'metadata', 'items', 'next_cursor'])(
    'P3: a v2 answer without %s is a broken contract, never "no rows"',
    async (field) => {
      sim.habits.set({ missingFields: [field] });
      expect((await failure(find(0, ['other-1']))).reason).toBe('contract-broken');
    },
  );

  test('P3: pages without their fields, HTML and cut bodies are broken contracts; fields that were added are none', async () => {
    for (const field of ['runs', 'cursors', 'session_id', 'trace_id', 'extra']) {
      sim.habits.set({ missingFields: [field] });
      expect((await failure(find(1, ['other-1']))).reason).toBe('contract-broken');
      sim.habits.reset();
    }
    for (const index of [0, 1]) {
      sim.habits.set({ htmlErrors: { status: 200 } });
      expect(await failure(find(index, ['other-1']))).toMatchObject({ reason: 'contract-broken', status: 200 });
      sim.habits.reset();
      sim.habits.set({ truncateBody: { how: 'cut' } });
      expect((await failure(find(index, ['other-1']))).reason).toBe('contract-broken');
      sim.habits.reset();
      sim.habits.set({ extraFields: true });
      expect((await find(index, ['other-1'])).rows).toHaveLength(9);
      sim.habits.reset();
    }
  });

  test.each([404, 410] as const)(
    'P3: v1 answering %s is "not available", and retired only after its announced end',
    async (v1Gone) => {
      sim.habits.set({ v1Gone });
      expect(await failure(find(1, ['other-1']))).toMatchObject({ reason: 'gone', status: v1Gone, retired: false });
      expect(await failure(lookup(1, keysOf('chat', [UNKNOWN])))).toMatchObject({ reason: 'gone', retired: false });
      const later = fastClock(Date.UTC(2027, 1, 2));
      const past = await startLangSmithSimulator({ clock: later });
      try {
        past.habits.set({ v1Gone });
        const made = past.createProject({ name: 'p' });
        const query = {
          projects: [{ id: made.id, name: 'p', type: 'PROJECT' }],
          terms: terms('x'),
          window,
          controls: [],
          progress: idle,
        };
        const auto = connect(past.url, later, {}, past.apiKey);
        expect(await failure(auto.finders[1]?.find(query) ?? Promise.resolve())).toMatchObject({
          reason: 'gone',
          retired: true,
        });
        const on = connect(past.url, later, { v1: 'on' }, past.apiKey);
        expect(await failure(on.finders[1]?.find(query) ?? Promise.resolve())).toMatchObject({
          reason: 'gone',
          retired: false,
        });
      } finally {
        await past.close();
      }
    },
  );

  test('v1 can be switched off, and its announced end is reported while it answers', async () => {
    const off = connectSim({ v1: 'off' });
    expect(off.finders.map(({ name }) => name)).toEqual(['v2 runs']);
    expect(off.lookups.map(({ name }) => name)).toEqual(['v2 traces']);
    const before = sim.ledger.list({ view: 'v1' }).length;
    const located = await off.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle });
    expect(located.controlsSeen).toEqual(controls.map(() => true));
    expect(sim.ledger.list({ view: 'v1' }).length).toBe(before);
    expect((await find(1, ['other-1'])).report.sunset).toBe('2027-01-31T00:00:00.000Z');
    expect((await find(0, ['other-1'])).report.sunset).toBeNull();
  });

  test('a blip does not restart a read: resets and 5xx are tried again, thrice in all', async () => {
    for (const habit of [
      { resetBefore: { count: 1 } },
      { serverErrors: { count: 2 } },
      { truncateBody: { how: 'drop', count: 1 } },
    ] as const) {
      sim.habits.set(habit);
      expect((await find(0, ['other-1'])).rows).toHaveLength(9);
      sim.habits.reset();
    }
    sim.habits.set({ serverErrors: { status: 503 } });
    const before = sim.ledger.entries.length;
    expect(await failure(find(0, ['other-1']))).toMatchObject({ reason: 'unreachable', status: 503 });
    expect(sim.ledger.entries.length - before).toBe(3);
  });

  test('P34: skew between the clocks is measured', async () => {
    expect((await find(0, ['other-1'])).report.skewMs).toBe(0);
    for (const dateSkewMs of [-3 * DAY_MS, 2 * HOUR_MS]) {
      sim.habits.set({ dateSkewMs });
      const { skewMs } = (await find(0, ['other-1'])).report;
      expect(Math.abs((skewMs ?? 0) - Math.abs(dateSkewMs))).toBeLessThan(20 * MINUTE_MS);
    }
  });

  describe('locate', () => {
    const locate = (ids: readonly string[], from = store, some = projects) =>
      from.locate({
        ids,
        projects: some,
        window,
        controls: controls.filter((c) => some.some(({ id }) => id === c.projectId)),
        progress: idle,
      });

    test('P11, P16: runs, traces, threads, projects, foreign and unknown ids are told apart', async () => {
      const thread = '0b5e7a9c-1d2f-4a3b-8c4d-5e6f7a8b9c0d';
      const [mine] = sim.seed({
        project: 'chat',
        traces: [{ runs: [{ metadata: { user_id: 'loc', session_id: thread } }, { metadata: { user_id: 'loc' } }] }],
      });
      const [theirs] = sim.seedPeople({ project: 'agent', people: ['other-9'], tracesPerPerson: 1 });
      const project = sim.project('chat').id;
      const child = mine?.runIds[1] ?? '';
      const foreign = theirs?.traceIds[0] ?? '';
      const read = await locate([mine?.traceId ?? '', child, foreign, thread, project, UNKNOWN]);
      expect(read.rows.map(({ runId }) => runId).sort()).toEqual([mine?.traceId, child, foreign].sort());
      expect(read.rows.find(({ runId }) => runId === child)?.traceId).toBe(mine?.traceId);
      expect(read.rows.find(({ runId }) => runId === foreign)?.persons.map(({ text }) => text)).toEqual(['other-9']);
      expect(new Map(read.wrongKind)).toEqual(
        new Map([
          [thread, 'thread'],
          [project, 'project'],
        ]),
      );
      expect(read.controlsSeen).toEqual(controls.map(() => true));
    });

    test('a run in a project outside the scope is found through v1, which ignores projects', async () => {
      const [out] = sim.seedPeople({ project: 'agent', people: ['other-8'], tracesPerPerson: 1 });
      const chat = projects.filter(({ name }) => name === 'chat');
      const read = await locate(out?.traceIds ?? [], connectSim({ projects: ['chat'] }), chat);
      expect(read.rows.map(({ projectId }) => projectId)).toEqual([sim.project('agent').id]);
    });

    test('a trace whose root was lost is found by its id', async () => {
      const [trace] = sim.seed({
        project: 'chat',
        traces: [
          {
            traceId: '0199a000-0000-7000-8000-000000000001',
            runs: [{ id: '0199a000-0000-7000-8000-000000000002', metadata: { user_id: 'orphan' } }],
          },
        ],
      });
      for (const traceIdFilter of ['supported', 'rejected', 'ignored'] as const) {
        sim.habits.set({ traceIdFilter });
        const read = await locate([trace?.traceId ?? '', UNKNOWN], connectSim());
        expect(read.rows.map(({ runId }) => runId)).toEqual(['0199a000-0000-7000-8000-000000000002']);
        expect(read.controlsSeen).toEqual(controls.map(() => true));
        expect(read.wrongKind.size).toBe(0);
      }
    });

    test('P11: ids are normalised', () => {
      const id = 'ABCDEF01-2345-6789-abcd-ef0123456789';
      for (const form of [id, ` ${id}\n`, `{${id}}`, `urn:uuid:${id}`, id.replaceAll('-', '')]) {
        expect(store.normaliseId(form)).toBe(id.toLowerCase());
      }
      for (const form of ['', 'u_42', '123', '00000000-0000-0000-0000-000000000000', `${id}0`]) {
        expect(store.normaliseId(form)).toBeNull();
      }
    });
  });

  describe('controls', () => {
    test('P6: are offered for each project, key and class of value, the oldest read first, one run per trace', async () => {
      const own = fastClock();
      const fresh = await startLangSmithSimulator({ clock: own });
      try {
        const values: unknown[] = ['plain-1', 'plain-2', 77, 78, '99', 'quo"te', 'ünï'];
        fresh.seed({
          project: 'mixed',
          traces: values.map((user_id, at) => ({
            runs: [
              { metadata: { user_id }, startTime: T0 - at * DAY_MS },
              { metadata: { user_id }, startTime: T0 - at * DAY_MS },
            ],
          })),
        });
        fresh.seed({ project: 'silent', traces: [{ runs: [{ metadata: { tenant: 'x' } }] }] });
        fresh.createProject({ name: 'empty' });
        const here = connect(fresh.url, own, {}, fresh.apiKey);
        const all = await here.projects(idle);
        const found = await here.controls({
          projects: all,
          terms: terms('x'),
          window,
          want: 1,
          exclude: () => false,
          progress: idle,
        });
        expect(found.controls.map(({ value }) => value.text)).toEqual(['ünï', 'quo"te', '99', '78', 'plain-2']);
        const nameOf = (id: string) => all.find((project) => project.id === id)?.name;
        expect(found.silent.map(({ projectId, holdsRuns }) => [nameOf(projectId), holdsRuns]).sort()).toEqual([
          ['empty', false],
          ['silent', true],
        ]);
        const none = await here.controls({
          projects: all,
          terms: terms('x'),
          window,
          want: 2,
          exclude: () => true,
          progress: idle,
        });
        expect(none.controls).toEqual([]);
      } finally {
        await fresh.close();
      }
    });

    test('P7: a trace with any run that may not serve is barred as a whole', async () => {
      const [mixed] = sim.seed({
        project: 'chat',
        traces: [{ runs: [{ metadata: { user_id: 'other-7' } }, { metadata: { user_id: 'barred' } }] }],
      });
      const offered = await chooseControls(50, ({ persons }) => persons.some(({ text }) => text === 'barred'));
      expect(offered.length).toBeGreaterThan(0);
      expect(offered.map(({ traceId }) => traceId)).not.toContain(mixed?.traceId);
    });

    test('are found in a project that one person fills', async () => {
      const own = fastClock();
      const full = await startLangSmithSimulator({ clock: own });
      try {
        full.seedPeople({
          project: 'p',
          people: ['rare-1', 'rare-2'],
          tracesPerPerson: 1,
          from: T0 - 90 * DAY_MS,
          to: T0,
        });
        full.seedPeople({ project: 'p', people: ['filler'], tracesPerPerson: 60 });
        const here = connect(full.url, own, { pageSize: 20 }, full.apiKey);
        const { controls: offered } = await here.controls({
          projects: await here.projects(idle),
          terms: terms('x'),
          window,
          want: 2,
          exclude: ({ persons }) => persons.some(({ text }) => text === 'filler'),
          progress: idle,
        });
        expect(offered.map(({ value }) => value.text).sort()).toEqual(['rare-1', 'rare-2']);
      } finally {
        await full.close();
      }
    });

    test('are found in quiet projects next to a busy one, in a bounded number of calls', async () => {
      const small = connectSim({ pageSize: 10 });
      const before = sim.ledger.entries.length;
      const found = await small.controls({
        projects,
        terms: terms('x'),
        window,
        want: 2,
        exclude: () => false,
        progress: idle,
      });
      expect(new Set(found.controls.map(({ projectId }) => projectId)).size).toBe(2);
      expect(sim.ledger.entries.length - before).toBeLessThan(15);
    });
  });

  describe('submit', () => {
    test('P13: names one project and its traces, nothing else', async () => {
      const [one] = sim.seedPeople({ project: 'chat', people: ['leaver'], tracesPerPerson: 2 });
      const ids = one?.traceIds ?? [];
      await lookup(0, keysOf('chat', ids));
      const receipt = await store.submit(deleteOrder(sim.project('chat').id, ids));
      expect(receipt).toMatchObject({ route: 'POST /api/v1/runs/delete', status: 202 });
      expect(receipt.requestId).toMatch(/./);
      expect(receipt.sentAtMs).toBeLessThanOrEqual(receipt.acknowledgedAtMs);
      const entry = sim.ledger.list({ route: '/api/v1/runs/delete' }).at(-1);
      expect(entry).toMatchObject({ ids, projectId: sim.project('chat').id });
    });

    test('a key with attribute-based rights gets a second try on the other route; one without rights is told so', async () => {
      const [one] = sim.seedPeople({ project: 'chat', people: ['leaver-2'], tracesPerPerson: 1 });
      const keys = keysOf('chat', one?.traceIds ?? []);
      const some = connectSim({}, 'lsv2_traces_only');
      await lookup(0, keys, controls, some);
      expect((await some.submit(deleteOrder(keys[0]?.projectId ?? '', one?.traceIds ?? []))).route).toBe(
        'POST /api/v1/runs/delete/traces',
      );
      const none = connectSim({}, 'lsv2_editor');
      await lookup(0, keys, controls, none);
      const error = await failure(none.submit(deleteOrder(keys[0]?.projectId ?? '', one?.traceIds ?? [])));
      expect(error).toMatchObject({ reason: 'denied', status: 403 });
      expect(error.advice).toContain('runs:delete');
    });

    test('P2, P20: is sent once, whatever happens to the answer', async () => {
      const [one] = sim.seedPeople({ project: 'chat', people: ['leaver-3'], tracesPerPerson: 1 });
      const keys = keysOf('chat', one?.traceIds ?? []);
      await lookup(0, keys);
      for (const [habit, reason] of [
        [{ resetAfter: { on: 'deletes' } }, 'unreachable'],
        [{ serverErrors: { on: 'deletes' } }, 'unreachable'],
        [{ htmlErrors: { on: 'deletes', status: 200 } }, 'contract-broken'],
        [{ throttle: { on: 'deletes', retryAfter: 7 } }, 'throttled'],
      ] as const) {
        const before = sim.ledger.list({ route: '/api/v1/runs/delete' }).length;
        sim.habits.set(habit);
        expect((await failure(store.submit(deleteOrder(keys[0]?.projectId ?? '', one?.traceIds ?? [])))).reason).toBe(
          reason,
        );
        expect(sim.ledger.list({ route: '/api/v1/runs/delete' }).length - before).toBe(1);
        sim.habits.reset();
      }
    });

    test('P20: a batch refused because of one id is halved until that id stands alone', async () => {
      const [one] = sim.seedPeople({ project: 'chat', people: ['leaver-4'], tracesPerPerson: 5 });
      const ids = one?.traceIds ?? [];
      await lookup(0, keysOf('chat', ids));
      sim.habits.set({ rejectBatchWith: { ids: ids.slice(3, 4) } });
      const receipt = await store.submit(deleteOrder(sim.project('chat').id, ids));
      expect(receipt).toMatchObject({ status: 202, refused: ids.slice(3, 4) });
      const taken = sim.truth.submissions().flatMap(({ traceIds }) => traceIds);
      expect(taken.filter((id) => ids.includes(id)).sort()).toEqual([...ids.slice(0, 3), ...ids.slice(4)].sort());
    });
  });

  test('P13: the guard refuses before any call', async () => {
    const [one] = sim.seedPeople({ project: 'chat', people: ['guarded'], tracesPerPerson: 1 });
    const project = sim.project('chat').id;
    const id = one?.traceIds[0] ?? '';
    const before = sim.ledger.entries.length;
    const fresh = connectSim();
    const control = controls[0];
    if (control === undefined) throw new Error('no control');
    const many = Array.from({ length: 1001 }, (_, at) => `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`);
    const base = { projects, window, controls: [], progress: idle };
    const asked: readonly (() => Promise<unknown> | undefined)[] = [
      () => fresh.submit(deleteOrder(project, [])),
      () => fresh.submit(deleteOrder('', [id])),
      () => fresh.submit(deleteOrder(project, [id])),
      () => fresh.submit(deleteOrder(project, ['*'])),
      () => fresh.submit(deleteOrder(project, [id.toUpperCase()])),
      () => fresh.submit(deleteOrder(project, [id, id])),
      () => fresh.submit(deleteOrder(project, many)),
      () => fresh.finders[0]?.find({ ...base, terms: [] }),
      () => fresh.finders[1]?.find({ ...base, terms: terms() }),
      () => fresh.finders[0]?.find({ ...base, terms: terms('x'), projects: [] }),
      () => fresh.finders[1]?.find({ ...base, terms: terms('x'), window: { fromMs: 5, toMs: 5 } }),
      () => fresh.lookups[0]?.lookup({ ...base, traces: [] }),
      () => fresh.lookups[1]?.lookup({ ...base, traces: [{ projectId: project, traceId: 'x"' }] }),
      () => fresh.locate({ ...base, ids: ['u_1'] }),
    ];
    for (const ask of asked) await expect(ask()).rejects.toBeInstanceOf(GuardError);
    expect(sim.ledger.entries.length).toBe(before);
    expect(await fresh.copies([], [], idle)).toEqual({ copies: [], outOfReach: [], notExamined: [], reports: [] });
    // Read as a control, or in another project, is not read.
    await lookup(0, keysOf('chat', [id]), [control], fresh);
    await expect(fresh.submit(deleteOrder(control.projectId, [control.traceId]))).rejects.toBeInstanceOf(GuardError);
    await expect(fresh.submit(deleteOrder(sim.project('agent').id, [id]))).rejects.toBeInstanceOf(GuardError);
    await fresh.submit(deleteOrder(project, [id]));
  });

  describe('pacing', () => {
    test('many callers at once cause no 429 of our own making', async () => {
      const own = fastClock();
      const strict = await startLangSmithSimulator({ clock: own, limits: { retryAfter: false } });
      try {
        strict.seedPeople({ project: 'p', people: 3, tracesPerPerson: 1 });
        const here = connect(strict.url, own, {}, strict.apiKey);
        const all = await here.projects(idle);
        const query = { projects: all, terms: terms('person-00001'), controls: [], progress: idle };
        const nowMs = virtualNow(own);
        await Promise.all([
          ...Array.from({ length: 40 }, (_, at) => here.finders[at % 2]?.find({ ...query, window })),
          ...Array.from({ length: 40 }, () =>
            here.finders[0]?.find({ ...query, window: { fromMs: nowMs - DAY_MS, toMs: nowMs } }),
          ),
        ]);
        expect(strict.ledger.list({ status: 429 })).toEqual([]);
        const wide = strict.ledger.list({ family: 'reads' }).filter(({ route }) => route.endsWith('/runs/query'));
        expect(wide.length).toBe(80);
        for (const [at, entry] of wide.entries()) {
          const gateway = wide[at + 15];
          if (gateway !== undefined) expect(gateway.atMs - entry.atMs).toBeGreaterThanOrEqual(10_000);
        }
      } finally {
        await strict.close();
      }
    });

    test('a read that is told to come later does so when that is soon, and a delete does not', async () => {
      sim.habits.set({ throttle: { every: 2, retryAfter: 30 } });
      for (let turn = 0; turn < 3; turn += 1) expect((await find(turn % 2, ['other-1'])).rows).toHaveLength(9);
      expect(sim.ledger.list({ status: 429 }).length).toBeGreaterThan(0);
    });
  });

  describe('copies', () => {
    const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
      const response = await fetch(`${sim.url}${path}`, {
        method,
        headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    };
    const rowsOf = async (traces: readonly TraceKey[]): Promise<readonly Row[]> => (await lookup(0, traces)).rows;

    test('P22: examples, shares, queue entries and feedback are found, and looked at again by their own ids', async () => {
      const [one] = sim.seedPeople({ project: 'chat', people: ['copied'], tracesPerPerson: 2 });
      const [other] = sim.seedPeople({ project: 'chat', people: ['other-c'], tracesPerPerson: 1 });
      const traces = keysOf('chat', one?.traceIds ?? []);
      const [first = '', second = ''] = one?.traceIds ?? [];
      const foreign = other?.traceIds[0] ?? '';
      const session = sim.project('chat').id;
      const dataset = (await call('POST', '/api/v1/datasets', { name: 'd' })) as { id: string };
      for (const run of [first, foreign]) {
        await call('POST', '/api/v1/examples', { dataset_id: dataset.id, inputs: { q: 1 }, source_run_id: run });
        await call('POST', '/api/v1/feedback', { run_id: run, key: 'k', score: 1, comment: 'c', session_id: session });
      }
      await call('POST', `/api/v2/runs/${second}/share`, { session_id: session, trace_id: second });
      const queue = (await call('POST', '/api/v1/annotation-queues', { name: 'q' })) as { id: string };
      await call('POST', `/api/v1/platform/annotation-queues/${queue.id}/items`, {
        items: [{ item_type: 'RUN', run_id: second, project_id: session }],
      });

      const found = await store.copies(traces, await rowsOf(traces), idle);
      expect(found.copies.map(({ kind, traceId }) => [kind, traceId]).sort()).toEqual([
        ['annotation-queue-entries', second],
        ['dataset-examples', first],
        ['feedback', first],
        ['public-shares', second],
      ]);
      expect(found.notExamined).toEqual([]);
      expect(found.outOfReach).toEqual([]);
      expect(JSON.stringify(found.reports)).not.toContain(first);
      const kindsLeft = async () => (await store.lookupCopies(found.copies, idle)).left.map(({ kind }) => kind).sort();
      expect(await kindsLeft()).toEqual(['annotation-queue-entries', 'dataset-examples', 'feedback', 'public-shares']);

      const example = found.copies.find(({ kind }) => kind === 'dataset-examples')?.id.split('/')[1] ?? '';
      await call('DELETE', `/api/v1/examples/${example}`);
      // A soft delete leaves the old version readable.
      expect(await kindsLeft()).toContain('dataset-examples');
      await call('POST', '/api/v1/platform/datasets/examples/delete', { example_ids: [example], hard_delete: true });
      const feedback = found.copies.find(({ kind }) => kind === 'feedback')?.id.split('/')[1] ?? '';
      await call('DELETE', `/api/v1/feedback/${feedback}`);
      await call('DELETE', `/api/v2/runs/${second}/share`, { session_id: session });
      expect(await kindsLeft()).toEqual(['annotation-queue-entries']);

      sim.habits.set({ serverErrors: { status: 404, on: 'reads' } });
      expect((await store.lookupCopies(found.copies, idle)).left).toHaveLength(4);
    });

    test('P1: what is out of reach or cannot be linked is named', async () => {
      const [one] = sim.seedPeople({ project: 'exported', people: ['far'], tracesPerPerson: 1 });
      const traces = keysOf('exported', one?.traceIds ?? []);
      const session = sim.project('exported').id;
      const rows = await rowsOf(traces);
      sim.addBulkExport({ session_id: session, start_time: '2020-01-01T00:00:00Z', end_time: null });
      sim.addBulkExport({ session_id: sim.project('chat').id, start_time: '2020-01-01T00:00:00Z', end_time: null });
      sim.addBulkExport({ session_id: session, start_time: '2020-01-01T00:00:00Z', end_time: '2020-02-01T00:00:00Z' });
      sim.addRule({ session_id: session, display_name: 'r' });
      sim.seed({ project: 'evals', traces: [{ runs: [{ inputs: { text: 'x' } }] }] });
      const found = await store.copies(traces, rows, idle);
      expect(found.outOfReach).toEqual([{ kind: 'bulk-exports', count: 1, traceIds: [traces[0]?.traceId] }]);
      expect(found.notExamined.map(({ kind }) => kind).sort()).toEqual(['evaluator-traces', 'rule-outputs']);
      sim.habits.set({ serverErrors: { status: 403, on: ['/api/v1/examples', '/api/v1/bulk-exports'] } });
      const refused = await store.copies(traces, rows, idle);
      expect(refused.notExamined.map(({ kind }) => kind).sort()).toEqual([
        'bulk-exports',
        'dataset-examples',
        'evaluator-traces',
        'rule-outputs',
      ]);
      sim.habits.set({ serverErrors: { status: 500, on: ['/api/v1/examples'] } });
      expect((await failure(store.copies(traces, rows, idle))).reason).toBe('unreachable');
    });
  });

  describe('check', () => {
    const levels = async (from: TraceStore): Promise<Record<string, string>> =>
      Object.fromEntries((await from.check()).map(({ name, level }) => [name, level]));

    test('says what works, and that the right to delete cannot be read', async () => {
      const before = sim.ledger.list({ family: 'deletes' }).length;
      expect(await levels(connectSim())).toEqual({
        server: 'ok',
        workspaces: 'ok',
        projects: 'ok',
        // Other tests write traces without any key.
        identifiers: 'warning',
        'v1 reads': 'ok',
        'right to delete': 'warning',
        clock: 'ok',
      });
      expect(sim.ledger.list({ family: 'deletes' }).length).toBe(before);
    });

    test('tests the right to delete only when asked to, with an id that no trace has', async () => {
      expect(await levels(connectSim({ probeDelete: true }))).toMatchObject({ 'right to delete': 'ok' });
      expect(sim.truth.unasked()).toEqual([]);
      expect(await levels(connectSim({ probeDelete: true }, 'lsv2_editor'))).toMatchObject({
        'right to delete': 'problem',
      });
    });

    test('a wrong key, and a key of a whole organization, are told apart in the advice', async () => {
      expect(await levels(connectSim({}, 'lsv2_wrong'))).toMatchObject({ projects: 'problem' });
      const error = await failure(connectSim({}, 'lsv2_org').projects(idle));
      expect(error).toMatchObject({ reason: 'denied', status: 403 });
      expect(error.advice).toContain('workspaceId');
      const scoped = connectSim({ workspaceId: sim.workspaceId }, 'lsv2_org');
      expect((await scoped.projects(idle)).length).toBeGreaterThan(2);
    });
  });

  test('P31: no key and no identifier in any error or log line, whatever is forced', async () => {
    const canary = 'canary-7f3e"x';
    const [one] = sim.seedPeople({ project: 'chat', people: [canary], tracesPerPerson: 1 });
    const lines: string[] = [];
    const noisy = connectSim({ log: (fields, message) => lines.push(JSON.stringify([fields, message])) });
    const traces = keysOf('chat', one?.traceIds ?? []);
    await lookup(0, traces, controls, noisy);
    const habits: Parameters<typeof sim.habits.set>[0][] = [
      { throttle: { retryAfter: null } },
      { serverErrors: { status: 500 } },
      { serverErrors: { status: 422 } },
      { serverErrors: { status: 404 } },
      { serverErrors: { status: 302 } },
      { resetBefore: {} },
      { keyRevoked: 401 },
      { keyRevoked: 403 },
      { htmlErrors: { status: 200 } },
      { truncateBody: { how: 'cut' } },
      { missingFields: ['id', 'message'] },
      { queryFilterIgnored: true },
    ];
    for (const habit of habits) {
      sim.habits.set(habit);
      const errors = await Promise.allSettled([
        find(0, [canary], controls, noisy),
        find(1, [canary], controls, noisy),
        noisy.submit(deleteOrder(traces[0]?.projectId ?? '', one?.traceIds ?? [])),
        noisy.projects(idle),
      ]);
      for (const result of errors) {
        if (result.status === 'rejected') {
          const error = result.reason as StoreError;
          lines.push(`${String(error)} ${String(error.stack)} ${JSON.stringify(error)} ${String(error.cause)}`);
        }
      }
      sim.habits.reset();
    }
    expect(lines.length).toBeGreaterThan(40);
    const text = lines.join('\n');
    for (const secret of ['canary', 'user_id', sim.apiKey, one?.traceIds[0] ?? '']) expect(text).not.toContain(secret);
  }, 30_000);
});

// ------------------------------------------------------------------------------------------------ on the wire

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Record<string, unknown>;
}

describe('on the wire', () => {
  let server: Server;
  let url: string;
  let answer: (seen: Seen, response: ServerResponse) => void;
  const seen: Seen[] = [];
  const project: Project = { id: P1, name: 'p', type: 'PROJECT' };
  const window = { fromMs: 0, toMs: Date.UTC(2027, 0, 1) };
  const base = { projects: [project], terms: terms('u_1'), window, controls: [], progress: idle };
  const v2Run = (fields: Record<string, unknown> = {}) => ({
    id: R1,
    trace_id: T1,
    project_id: P1,
    start_time: '2026-01-02T03:04:05.678901Z',
    metadata: { user_id: 'u_1', secret_note: 'x' },
    ...fields,
  });
  const json = (response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
  const page = (items: unknown[], next: string | null = null) => ({ items, next_cursor: next });
  const find = (store: TraceStore, index = 0, over: Partial<FindQuery> = {}) =>
    store.finders[index]?.find({ ...base, ...over }) ?? Promise.reject(new Error('no such finder'));

  beforeAll(async () => {
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const text = Buffer.concat(parts).toString();
        const entry: Seen = {
          method: request.method ?? '',
          url: request.url ?? '',
          headers: request.headers,
          body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
        };
        seen.push(entry);
        answer(entry, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  beforeEach(() => {
    seen.length = 0;
  });

  test('P10: v2 always gets both bounds, v1 none of its ambiguous ones', async () => {
    const store = connect(`${url}/api/v1`, fastClock(), { workspaceId: P1 }, 'lsv2_x');
    answer = ({ url: at }, response) =>
      json(response, at.includes('v2') ? page([]) : { runs: [], cursors: { next: null } });
    await find(store, 0);
    await find(store, 1);
    const [v2, v1] = seen;
    expect(v2?.headers).toMatchObject({ 'x-api-key': 'lsv2_x', 'x-tenant-id': P1, 'content-type': 'application/json' });
    expect(v2).toMatchObject({ method: 'POST', url: '/api/v2/runs/query' });
    const filter =
      'or(and(eq(metadata_key,"user_id"),eq(metadata_value,"u_1")),and(eq(metadata_key,"customer"),eq(metadata_value,"u_1")))';
    expect(v2?.body).toEqual({
      project_ids: [P1],
      filter,
      min_start_time: '1970-01-01T00:00:00.000Z',
      max_start_time: '2027-01-01T00:00:00.000Z',
      selects: [
        'ID',
        'TRACE_ID',
        'PROJECT_ID',
        'START_TIME',
        'METADATA',
        'SHARE_URL',
        'IS_IN_DATASET',
        'LAST_QUEUED_AT',
        'FEEDBACK_STATS',
      ],
      page_size: 1000,
    });
    expect(v1?.body).toEqual({
      session: [P1],
      filter,
      select: [
        'id',
        'trace_id',
        'session_id',
        'start_time',
        'extra',
        'share_token',
        'in_dataset',
        'last_queued_at',
        'feedback_stats',
      ],
      limit: 100,
    });
  });

  test('P6: controls ride last in the same call, in the same shape as the person', async () => {
    const store = connect(url, fastClock());
    const control: Control = {
      projectId: P1,
      traceId: T1,
      runId: R1,
      value: { kind: 'user_id', key: 'metadata.user_id', text: '88', numeric: true },
      startMs: null,
    };
    answer = (_seen, response) => json(response, page([v2Run({ metadata: { user_id: 88 } })]));
    const read = await find(store, 0, { controls: [control] });
    expect(read).toMatchObject({ rows: [], controlsSeen: [true] });
    const tail =
      `and(eq(metadata_key,"user_id"),eq(metadata_value,"88"),eq(id,"${R1}")),` +
      `and(eq(metadata_key,"user_id"),eq(metadata_value,88),eq(id,"${R1}")))`;
    expect(String(seen[0]?.body['filter'])).toMatch(new RegExp(`${tail.replace(/[()]/g, '\\$&')}$`));
    // A control whose value has changed proves nothing any more.
    answer = (_seen, response) => json(response, page([v2Run({ metadata: { user_id: 89 } })]));
    expect((await find(store, 0, { controls: [control] })).controlsSeen).toEqual([false]);
  });

  test('P15: long integers lose no digit, on the way out and on the way in', async () => {
    const store = connect(url, fastClock());
    const long = '12345678901234567890';
    answer = (_seen, response) =>
      json(response, JSON.stringify(page([v2Run({ metadata: { user_id: 'LONG' } })])).replace('"LONG"', long));
    const { rows } = await find(store, 0, { terms: terms(long) });
    expect(String(seen[0]?.body['filter'])).toContain(`eq(metadata_value,${long})`);
    expect(rows[0]?.persons).toEqual([{ kind: 'user_id', key: 'metadata.user_id', text: long, numeric: true }]);
    expect(parseJson('[1,1.0,1e3,-0]')).toEqual([
      1,
      new NumberText('1.0'),
      new NumberText('1e3'),
      new NumberText('-0'),
    ]);
  });

  test('P15: a server that refuses number forms is asked without them, and the controls decide what that proves', async () => {
    const store = connect(url, fastClock());
    answer = ({ body }, response) => {
      if (/metadata_value,\d/.test(String(body['filter']))) json(response, { detail: 'no' }, 400);
      else json(response, page([]));
    };
    expect((await find(store, 0, { terms: terms('42') })).rows).toEqual([]);
    expect(seen).toHaveLength(2);
    await find(store, 0, { terms: terms('42') });
    expect(seen).toHaveLength(3);
  });

  test('rows keep ids, times, people and marks, and nothing else', async () => {
    const store = connect(url, fastClock());
    const run = v2Run({
      id: R1.toUpperCase(),
      metadata: { user_id: ['u_1', 'u_2'], email: null, customer: { deep: 1 }, secret_note: 'x' },
      share_url: 'https://example.test/public/secret/r',
      feedback_stats: { helpful: { n: 1, comments: ['private words'] } },
      last_queued_at: null,
      is_in_dataset: true,
      inputs: { q: 'private words' },
    });
    answer = (_seen, response) => json(response, page([run]));
    const { rows } = await find(store);
    expect(rows).toEqual([
      {
        projectId: P1,
        traceId: T1,
        runId: R1,
        startMs: Date.parse('2026-01-02T03:04:05.678Z'),
        persons: [
          { kind: 'user_id', key: 'metadata.user_id', text: 'u_1', numeric: false, nested: true },
          { kind: 'user_id', key: 'metadata.user_id', text: 'u_2', numeric: false, nested: true },
          // Whoever it is: somebody.
          { kind: 'user_id', key: 'metadata.customer', text: '{"deep":1}', numeric: false, nested: true },
        ],
        marks: { shared: true, queued: false, inDataset: true, feedback: true },
      },
    ]);
  });

  test.each([
    ['of another project', { project_id: T1 }],
    ['of somebody else', { metadata: { user_id: 'u_2' } }],
    ['of nobody', { metadata: {} }],
    ['without a trace', { trace_id: null }],
    ['with an odd id', { id: 'run-1' }],
  ])('P3: a run %s is a broken contract', async (_name, fields) => {
    answer = (_seen, response) => json(response, page([v2Run(), v2Run(fields)]));
    expect((await failure(find(connect(url, fastClock())))).reason).toBe('contract-broken');
  });

  test('P28: a paging token that comes again, and tokens that lead nowhere, are found out', async () => {
    const store = connect(url, fastClock());
    answer = (_seen, response) => json(response, page([v2Run()], 'again'));
    expect((await failure(find(store))).reason).toBe('contract-broken');
    expect(seen).toHaveLength(2);
    seen.length = 0;
    answer = (_seen, response) => json(response, page([v2Run()], `token-${seen.length}`));
    expect((await failure(find(store))).reason).toBe('contract-broken');
    expect(seen.length).toBeLessThan(30);
  });

  test('the way from status to class goes by status first', async () => {
    for (const [status, reason] of [
      [301, 'rejected'],
      [400, 'rejected'],
      [401, 'denied'],
      [403, 'denied'],
      [404, 'gone'],
      [409, 'rejected'],
      [410, 'gone'],
      [422, 'rejected'],
      [429, 'throttled'],
      [501, 'gone'],
    ] as const) {
      // Without a fast clock the 60 s after a 429 are too long to be waited for.
      const store = connect(url, null);
      seen.length = 0;
      answer = (_seen, response) =>
        json(response, '<html>u_1 was here</html>', status, { location: 'http://127.0.0.1:1/', 'x-request-id': 'r-1' });
      const error = await failure(find(store));
      expect(error).toMatchObject({
        reason,
        status,
        requestId: 'r-1',
        route: 'POST /api/v2/runs/query',
        retired: false,
      });
      expect(seen).toHaveLength(1);
    }
  });

  test('429 is waited for as long as the store says, 60 s when it says nothing, and nobody calls in between', async () => {
    const at = (text: string): string => text;
    for (const [headers, wantedMs] of [
      [{}, 60_000],
      [{ 'retry-after': '30' }, 30_000],
      [{ 'retry-after-ms': '45000' }, 45_000],
      [{ 'retry-after': at('soon') }, 60_000],
      [{ 'retry-after': new Date(Date.now() + 90_000).toUTCString() }, 90_000],
    ] as const) {
      const store = connect(url, null);
      answer = (_seen, response) => json(response, {}, 429, { ...headers });
      seen.length = 0;
      const first = await failure(find(store));
      expect(Math.abs((first.notBeforeMs ?? 0) - Date.now() - wantedMs)).toBeLessThan(2000);
      const second = await failure(find(store));
      expect(second).toMatchObject({ reason: 'throttled', status: null, notBeforeMs: first.notBeforeMs });
      expect(seen).toHaveLength(1);
    }
  });

  test('a caller that is stopped cuts the call that is under way', async () => {
    const store = connect(url, fastClock());
    let asked = 0;
    answer = () => undefined;
    const progress = (): void => {
      asked += 1;
      if (seen.length > 0) throw new Error('stop');
    };
    await expect(find(store, 0, { progress })).rejects.toThrow('stop');
    expect(asked).toBeGreaterThan(1);
  });

  test('P13: a delete sends the project and the traces only, and any 2xx object is a receipt', async () => {
    for (const [status, body] of [
      [202, { message: 'Run deletes queued' }],
      [200, {}],
    ] as const) {
      const store = connect(url, fastClock());
      answer = ({ url: path }, response) =>
        path.includes('query')
          ? json(response, page([v2Run()]))
          : json(response, body, status, { 'x-request-id': 'd-1' });
      await find(store);
      const receipt = await store.submit(deleteOrder(P1, [T1]));
      expect(receipt).toMatchObject({ status, requestId: 'd-1', route: 'POST /api/v1/runs/delete' });
      expect(seen.at(-1)?.body).toEqual({ session_id: P1, trace_ids: [T1] });
    }
    const store = connect(url, fastClock());
    for (const body of ['"queued"', '[]', 'null', '']) {
      answer = ({ url: path }, response) =>
        path.includes('query') ? json(response, page([v2Run()])) : json(response, body, 202);
      await find(store);
      expect((await failure(store.submit(deleteOrder(P1, [T1])))).reason).toBe('contract-broken');
    }
  });

  test('P19: an answer that counts more than was sent switches the deletes of the connection off', async () => {
    const store = connect(url, fastClock());
    answer = ({ url: path }, response) =>
      path.includes('query')
        ? json(response, page([v2Run()]))
        : json(response, { message: 'ok', deleted_count: 5 }, 202);
    await find(store);
    await store.submit(deleteOrder(P1, [T1]));
    const calls = seen.length;
    const error = await failure(store.submit(deleteOrder(P1, [T1])));
    expect(error.advice).toContain('switched off');
    expect(seen).toHaveLength(calls);
  });

  test('an address that nobody listens on is unreachable, by code and without the address', async () => {
    const error = await failure(find(connect('http://127.0.0.1:1', fastClock())));
    expect(error).toMatchObject({ reason: 'unreachable', status: null, transient: true });
    expect(`${error.message} ${error.advice ?? ''}`).not.toContain('127.0.0.1');
  });
});

// ------------------------------------------------------------------------------------------------ config

describe('the connection in the config', () => {
  const minimal = { store: 'langsmith', apiKey: 'k', identifiers: { user_id: ['metadata.user_id'] } } as const;
  const problems = (over: Record<string, unknown>): string[] => {
    const result = langsmithConnectionSchema.safeParse({ ...minimal, ...over });
    return result.success ? [] : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  };

  test('has defaults for Cloud', () => {
    const config = langsmithConnectionSchema.parse(minimal);
    expect(config).toMatchObject({
      baseUrl: 'https://api.smith.langchain.com',
      accept: [],
      v1: 'auto',
      rhythm: 'weekend',
      pageSize: 1000,
      probeDelete: false,
    });
    const { rhythm } = connect('http://127.0.0.1:1', null).traits;
    expect(rhythm).toEqual({
      kind: 'weekly',
      opensMs: 5 * DAY_MS,
      lengthMs: 2 * DAY_MS,
      settleMs: DAY_MS,
      spreadMs: 3 * HOUR_MS,
    });
  });

  test('takes addresses as people write them, over https or on this machine only', () => {
    for (const [written, meant] of [
      ['https://eu.api.smith.langchain.com/', 'https://eu.api.smith.langchain.com'],
      ['https://ls.example.test/api/v1/', 'https://ls.example.test'],
      ['https://ls.example.test/langsmith/api', 'https://ls.example.test/langsmith'],
      ['http://localhost:1984', 'http://localhost:1984'],
      ['http://[::1]:1984/api', 'http://[::1]:1984'],
    ]) {
      expect(langsmithConnectionSchema.parse({ ...minimal, baseUrl: written }).baseUrl).toBe(meant);
    }
    for (const bad of [
      'http://example.test',
      'ftp://127.0.0.1',
      'nonsense',
      'https://u:p@x.test',
      'https://x.test?a=1',
    ]) {
      expect(problems({ baseUrl: bad })).toEqual([expect.stringMatching(/^baseUrl: /)]);
    }
  });

  test('P25: every problem names its path', () => {
    expect(problems({ identifiers: { user_id: ['user_id'] } })[0]).toMatch(/^identifiers\.user_id\.0: .*metadata/);
    expect(problems({ identifiers: {} })[0]).toMatch(/^identifiers: /);
    expect(problems({ accept: ['bulk-exports', 'row-history'] })[0]).toMatch(/^accept\.1: .*dataset-examples/);
    expect(problems({ apiKey: '' })[0]).toMatch(/^apiKey: /);
    expect(problems({ projects: [] })[0]).toMatch(/^projects: /);
    expect(problems({ unknown: 1 })).toHaveLength(1);
    expect(problems({ apiKey: '', pageSize: 5000, v1: 'maybe' })).toHaveLength(3);
  });

  test('P3: real use may only raise the settle time', () => {
    const own = { baseUrl: 'https://ls.example.test' };
    expect(problems({ ...own, rhythm: { kind: 'weekend', settle: '36 h' } })).toEqual([]);
    expect(problems({ ...own, rhythm: { kind: 'weekend', settle: '2 h' } })[0]).toMatch(/^rhythm\.settle: /);
    expect(problems({ ...own, rhythm: { kind: 'continuous', settle: '1 min' } })[0]).toMatch(/^rhythm\.settle: /);
    expect(problems({ ...own, rhythm: { kind: 'continuous', settle: '1 h' } })).toEqual([]);
    expect(problems({ baseUrl: 'http://127.0.0.1:1', rhythm: { kind: 'continuous', settle: '1 s' } })).toEqual([]);
    expect(problems({ rhythm: { kind: 'continuous', settle: 'soon' } })[0]).toMatch(/^rhythm/);
  });
});
