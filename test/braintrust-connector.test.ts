import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Attachment, initDataset, initExperiment, initLogger, updateSpan } from 'braintrust';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../src/erasure/clock.ts';
import { virtualNow } from '../src/erasure/clock.ts';
import { DAY_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import { startBraintrustSimulator } from '../src/simulators/braintrust/index.ts';
import type { BraintrustSimulator } from '../src/simulators/braintrust/index.ts';
import type { SeedTrace } from '../src/simulators/braintrust/seed.ts';
import type { BraintrustConnectionInput } from '../src/stores/braintrust/config.ts';
import { braintrustConnectionSchema } from '../src/stores/braintrust/config.ts';
import { openBraintrust } from '../src/stores/braintrust/store.ts';
import { GuardError } from '../src/stores/guard.ts';
import { KillSwitch } from '../src/stores/kill-switch.ts';
import { StoreError, TooManyRows } from '../src/stores/port.ts';
import type { Control, Copy, LookupQuery, Project, Read, Row, TraceRef, TraceStore } from '../src/stores/port.ts';
import { openStore } from '../src/stores/registry.ts';
import type { StoreLog } from '../src/stores/registry.ts';
import { insert, remove, sdkState } from './support/braintrust-simulator.ts';
import { LaneSteps } from './support/lane-steps.ts';

const T0 = Date.parse('2026-11-25T12:00:00Z');
/** A minute of the rate limit passes in twelve real milliseconds. */
const SPEED = 5000;
const UNKNOWN = '01234567-89ab-4def-8123-456789abcdef';
const idle = (): void => undefined;
const window = { fromMs: 0, toMs: T0 + 400 * DAY_MS };

function fastClock(): Clock {
  return { realMs: Date.now(), virtualMs: T0, speed: SPEED };
}

type Given = Partial<BraintrustConnectionInput> & { readonly log?: StoreLog };

function connect(url: string, clock: Clock, { log, ...given }: Given = {}): TraceStore {
  const config = configOf(url, given);
  return openStore('test', config, { clock, ...(log === undefined ? {} : { log }) });
}

function configOf(url: string, given: Given = {}) {
  return braintrustConnectionSchema.parse({
    store: 'braintrust',
    appUrl: url,
    apiKey: 'k',
    btqlPerMinute: 600,
    identifiers: { user_id: ['metadata.user_id', 'metadata.user.id'], email: ['metadata.email'] },
    ...given,
  });
}

function terms(...variants: string[]) {
  return [{ kind: 'user_id', keys: ['metadata.user_id', 'metadata.user.id'], variants }];
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

function rowsOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.map(({ runId }) => runId))].sort();
}

interface BtqlBody {
  readonly query: {
    readonly limit: number;
    readonly cursor?: string;
    readonly select: unknown;
    readonly from: { readonly name: { readonly name: readonly string[] } };
    readonly filter: {
      readonly children?: readonly {
        readonly left?: { readonly name: string[] };
        readonly right?: { readonly value: string };
      }[];
    };
  };
}
interface BtqlAnswer {
  readonly data: unknown[];
  readonly cursor: string | null;
  readonly warnings?: unknown[];
  readonly freshness_state?: object;
}

/** Traces with the rows that a look-up showed of them. */
function refsOf(traces: readonly TraceRef[], rows: readonly Row[]): TraceRef[] {
  return traces.map((trace) => ({
    ...trace,
    rowIds: rows.filter(({ traceId }) => traceId === trace.traceId).map(({ runId }) => runId),
  }));
}

describe('against the simulator', () => {
  const clock = fastClock();
  let sim: BraintrustSimulator;
  let store: TraceStore;
  let projects: readonly Project[];
  let controls: readonly Control[];

  const connectSim = (given: Given = {}): TraceStore => connect(sim.url, clock, { apiKey: sim.apiKey, ...given });
  const find = (index: number, variants: string[], from = store): Promise<Read> => {
    const finder = from.finders[index];
    if (finder === undefined) throw new Error('no such finder');
    return finder.find({ projects, terms: terms(...variants), window, controls, progress: idle });
  };
  const lookup = (traces: readonly TraceRef[], from = store, more: Partial<LookupQuery> = {}): Promise<Read> => {
    const route = from.lookups[0];
    if (route === undefined) throw new Error('no route');
    return route.lookup({ traces, window, controls, progress: idle, ...more });
  };
  const traceRefs = (project: string, traceIds: readonly string[]): TraceRef[] =>
    traceIds.map((traceId) => ({ projectId: sim.project(project).id, traceId }));
  const person = (project: string, value: string | number, more: object = {}) => {
    const [made] = sim.seedPeople({ project, people: [value], tracesPerPerson: 2, ...more });
    if (made === undefined) throw new Error('nobody was made');
    return { ...made, refs: traceRefs(project, made.traceIds), all: made.rowIds.flat().sort() };
  };
  const submit = (traces: readonly TraceRef[], from = store) =>
    from.submit({
      projectId: traces[0]?.projectId ?? '',
      traces,
      lastWord: () => Promise.resolve(),
      progress: idle,
    });
  const calls = async (act: () => Promise<unknown>, route = '/btql'): Promise<number> => {
    const before = sim.ledger.count({ route });
    await act();
    return sim.ledger.count({ route }) - before;
  };

  beforeAll(async () => {
    sim = await startBraintrustSimulator({ clock, limits: false });
    sim.seedPeople({ project: 'chat', people: ['other-1', 'other-2', 'other-3'], tracesPerPerson: 3 });
    sim.seedPeople({ project: 'agent', people: ['other-4', 'other-5'], tracesPerPerson: 2, key: 'user.id' });
    store = connectSim();
    projects = await store.projects(idle);
    const isOther = (row: Row): boolean => row.persons.some(({ text }) => text.startsWith('other'));
    const query = { projects, terms: terms('x'), window, want: 2, progress: idle };
    controls = (await store.controls({ ...query, exclude: (row) => !isOther(row) })).controls;
  });
  afterAll(() => sim.close());
  afterEach(() => {
    sim.habits.reset();
    expect(sim.truth.unasked()).toEqual([]);
    const others = sim.truth.allTraces().filter(({ rows }) => rows === 3).length;
    expect(others).toBeGreaterThanOrEqual(13);
  });

  test('P9: every project of the organization is enumerated, by looking only', async () => {
    expect(projects.map(({ name }) => name).sort()).toEqual(['agent', 'chat']);
    expect(sim.ledger.entries.filter(({ method, route }) => method === 'POST' && route.endsWith('/project'))).toEqual(
      [],
    );
  });

  test('P9: the config names projects by name or id, and a name that fits none or several is an error that says so', async () => {
    const own = await startBraintrustSimulator({ clock });
    try {
      const first = own.createProject({ name: 'twice' });
      own.createProject({ name: 'twice' });
      own.createProject({ name: 'once' });
      const open = (...names: string[]) => connect(own.url, clock, { apiKey: own.apiKey, projects: names });
      const found = await open('once', first.id.toUpperCase()).projects(idle);
      expect(found.map(({ name }) => name).sort()).toEqual(['once', 'twice']);
      for (const name of ['twice', 'onc']) {
        const error = await failure(open('once', name).projects(idle));
        expect(error).toMatchObject({ reason: 'gone', advice: expect.stringContaining(`"${name}"`) });
      }
    } finally {
      await own.close();
    }
  });

  test('P5, P6: both finders find a person over all projects, keys and depths, each in one query that also sees the controls', async () => {
    const chat = person('chat', 'ann', { carriedBy: 'children' });
    const agent = person('agent', 'ann', { key: 'user.id', carriedBy: 'root' });
    const traces = [...chat.traceIds, ...agent.traceIds].sort();
    for (const [index, name] of ['btql spans', 'btql traces'].entries()) {
      expect(store.finders[index]?.name).toBe(name);
      let read: Read | undefined;
      expect(await calls(async () => (read = await find(index, ['ann'])))).toBe(1);
      expect(tracesOf(read?.rows ?? [])).toEqual(traces);
      expect(read?.rows.every(({ persons }) => persons.some(({ text }) => text === 'ann'))).toBe(true);
      expect(read?.controlsSeen).toEqual(controls.map(() => true));
      expect(read?.inconclusive).toBeUndefined();
      expect(read?.report).toMatchObject({ purpose: 'find', window, controlsSeen: controls.length });
    }
    expect(sim.ledger.entries.at(-1)).toMatchObject({ shape: 'traces', limit: 1000, realtime: true });
  });

  test('P10: traces of long ago are found', async () => {
    const elder = person('chat', 'elder', { atMs: Date.parse('2023-02-01T00:00:00Z') });
    for (const index of [0, 1])
      expect(tracesOf((await find(index, ['elder'])).rows)).toEqual([...elder.traceIds].sort());
  });

  test('P15: no spelling of an identifier widens the search or breaks it', async () => {
    const nasty = [
      'quo"te',
      "ap'os",
      'back\\slash',
      "' or 1=1 --",
      'ünïcödé 漢字 🦊',
      'tab\tnew\nline',
      'U_1',
      'u_1',
      ' u_1',
    ];
    const made = nasty.map((value) => person('chat', value));
    for (const [at, value] of nasty.entries()) {
      for (const index of [0, 1]) {
        const { rows } = await find(index, [value]);
        expect(tracesOf(rows)).toEqual([...(made[at]?.traceIds ?? [])].sort());
      }
    }
    const all = await find(0, nasty);
    expect(tracesOf(all.rows)).toEqual(made.flatMap(({ traceIds }) => traceIds).sort());
  });

  test('P15: a canonical integer is searched as text and as number, with every digit, and nothing else is', async () => {
    const asNumber = person('chat', 4711);
    const asText = person('chat', '4711');
    const padded = person('chat', '04711');
    for (const index of [0, 1]) {
      const { rows } = await find(index, ['4711']);
      expect(tracesOf(rows)).toEqual([...asNumber.traceIds, ...asText.traceIds].sort());
      expect([...new Set(rows.map(({ persons }) => persons[0]?.numeric))].sort()).toEqual([false, true]);
      expect(tracesOf((await find(index, ['04711'])).rows)).toEqual([...padded.traceIds].sort());
    }
  });

  test('a dotted key is found as a nested object and as a flat key, as OpenTelemetry writes it', async () => {
    const nested = person('agent', 'dot', { key: 'user.id' });
    const [flat] = sim.seed({ project: 'agent', traces: [{ spans: [{ metadata: { 'user.id': 'dot' } }] }] });
    for (const index of [0, 1]) {
      const { rows } = await find(index, ['dot']);
      expect(tracesOf(rows)).toEqual([...nested.traceIds, flat?.traceId ?? ''].sort());
      expect(rows.every(({ persons }) => persons.length === 1 && persons[0]?.key === 'metadata.user.id')).toBe(true);
    }
  });

  test('P28: many small pages show every row once, by keys in one shape and by cuts of time in the other', async () => {
    const many = person('chat', 'many', { tracesPerPerson: 60 });
    const small = connectSim({ pageSize: 20 });
    for (const index of [0, 1]) {
      const { rows, report } = await find(index, ['many'], small);
      expect(tracesOf(rows)).toEqual([...many.traceIds].sort());
      expect(rows).toHaveLength(180);
      expect(report.calls).toBeGreaterThan(8);
    }
    const read = await lookup(many.refs, small);
    expect(rowsOf(read.rows)).toEqual(many.all);
  });

  test('a bounded search gives up with what it has read', async () => {
    person('chat', 'heavy', { tracesPerPerson: 10 });
    const query = { projects, terms: terms('heavy'), window, controls, mostRows: 12, progress: idle };
    for (const finder of store.finders) {
      const error: unknown = await finder.find(query).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(TooManyRows);
      expect((error as TooManyRows).rows.every(({ persons }) => persons.some(({ text }) => text === 'heavy'))).toBe(
        true,
      );
    }
  });

  test('P20: two hundred people are found by one query of each finder', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `crowd-${index}`);
    const made = sim.seedPeople({ project: 'chat', people: names, tracesPerPerson: 1 });
    // The longest page so far is followed by a look whether it was the last; from then on shorter ones are known to be.
    await find(0, names);
    for (const index of [0, 1]) {
      let read: Read | undefined;
      const count = await calls(async () => (read = await find(index, names.slice(1))));
      expect(tracesOf(read?.rows ?? [])).toEqual(
        made
          .slice(1)
          .flatMap(({ traceIds }) => traceIds)
          .sort(),
      );
      expect(count).toBe(1);
    }
  });

  test('P4: a look-up shows rows of any depth, also when the root is gone', async () => {
    const made = person('chat', 'deep');
    const [ref] = made.refs;
    const rowIds = made.rowIds[0] ?? [];
    expect(rowsOf((await lookup(made.refs)).rows)).toEqual(made.all);
    await remove(sim, made.projectId, rowIds.slice(0, 1));
    const left = await lookup([ref ?? { projectId: '', traceId: '' }]);
    expect(rowsOf(left.rows)).toEqual(rowIds.slice(1).sort());
    expect(left.controlsSeen).toEqual(controls.map(() => true));
    await remove(sim, made.projectId, made.all);
  });

  test('P13: whole traces are deleted, with their comments, and nothing else', async () => {
    const made = person('chat', 'gone');
    const bystander = person('chat', 'stays');
    await insert(sim, made.projectId, [
      {
        id: 'note-1',
        origin: { id: made.rowIds[0]?.[1] },
        comment: { text: 'hm' },
        created: new Date(T0).toISOString(),
      },
      {
        id: 'note-2',
        origin: { id: bystander.rowIds[0]?.[1] },
        comment: { text: 'hm' },
        created: new Date(T0).toISOString(),
      },
    ]);
    const { rows } = await lookup(made.refs);
    expect(rowsOf(rows)).toEqual([...made.all, 'note-1'].sort());
    expect(rows.find(({ runId }) => runId === 'note-1')?.traceId).toBe(made.traceIds[0]);
    const refs = refsOf(made.refs, rows);
    const receipt = await submit(refs);
    expect(receipt).toMatchObject({ route: 'POST /v1/project_logs/{project}/insert', status: 200 });
    expect(receipt.requestId).not.toBeNull();
    const [submission] = sim.truth.submissionsOf('note-1');
    expect([...(submission?.ids ?? [])].sort()).toEqual([...made.all, 'note-1'].sort());
    expect((await lookup(refs)).rows).toEqual([]);
    for (const index of [0, 1]) expect((await find(index, ['gone'])).rows).toEqual([]);
    expect(sim.truth.isRowLive('note-1')).toBe(false);
    expect(sim.truth.isRowLive('note-2')).toBe(true);
    expect(sim.truth.tracesOf([{ key: 'user_id', value: 'stays' }])).toHaveLength(2);
    expect(sim.truth.orphans()).toEqual([]);
  });

  test('P13: neither a root alone, nor a part, nor a span id can be deleted, through the guard or behind it', async () => {
    const [seeded] = sim.seed({
      project: 'chat',
      traces: [{ spans: [{ metadata: { user_id: 'whole' } }, {}, {}] }],
    });
    if (seeded === undefined) throw new Error('nothing was seeded');
    const { projectId, traceId, rowIds, spanIds } = seeded;
    const bare = openBraintrust(configOf(sim.url, { apiKey: sim.apiKey }), {
      clock,
      killSwitch: new KillSwitch(),
      log: idle,
    });
    const wrong: (readonly string[])[] = [
      [],
      rowIds.slice(0, 1),
      rowIds.slice(1),
      spanIds,
      [traceId],
      [...rowIds, spanIds[1] ?? ''],
      [...rowIds, UNKNOWN],
    ];
    const before = sim.truth.submissions().length;
    for (const from of [store, bare]) {
      await expect(submit([{ projectId, traceId, rowIds }], from)).rejects.toBeInstanceOf(GuardError);
      await lookup([{ projectId, traceId }], from);
      for (const some of wrong) {
        await expect(submit([{ projectId, traceId, rowIds: some }], from)).rejects.toBeInstanceOf(GuardError);
      }
    }
    expect(sim.truth.submissions()).toHaveLength(before);
    expect(sim.truth.rowsOf(traceId).every(({ live }) => live)).toBe(true);
  });

  test('P13: a row that joined the trace after the look-up makes the next look-up ask for a new order', async () => {
    const made = person('chat', 'joins');
    const [ref] = refsOf(made.refs, (await lookup(made.refs)).rows);
    if (ref === undefined) throw new Error('nothing was found');
    await insert(sim, made.projectId, [{ id: 'late-row', span_id: 'late-span', root_span_id: ref.traceId }]);
    const again = await lookup([ref]);
    await expect(submit([ref])).rejects.toBeInstanceOf(GuardError);
    await submit(refsOf([ref], again.rows));
    expect(sim.truth.isLive(ref.traceId)).toBe(false);
    expect(sim.truth.orphans()).toEqual([]);
  });

  test('a trace with more rows than one call takes goes in several calls, each asked for by itself', async () => {
    const made = person('chat', 'huge', { tracesPerPerson: 1, spansPerTrace: 1201 });
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    let asked = 0;
    const lastWord = (): Promise<void> => {
      asked += 1;
      return Promise.resolve();
    };
    await store.submit({ projectId: made.projectId, traces: refs, lastWord, progress: idle });
    const sizes = sim.truth
      .submissions()
      .filter(({ ids }) => ids.some((id) => made.all.includes(id)))
      .map(({ ids }) => ids.length);
    expect(sizes).toEqual([500, 500, 201]);
    expect(asked).toBe(3);
    expect(sim.truth.isLive(made.traceIds[0] ?? '')).toBe(false);
  });

  test('P2 P3: a refusal after the first of several calls does not say that nothing was deleted', async () => {
    const made = person('chat', 'half-refused', { tracesPerPerson: 1, spansPerTrace: 700 });
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    sim.habits.set({ rejectBatchWith: { ids: [refs[0]?.rowIds?.at(-1) ?? ''] } });
    const before = sim.truth.submissions().length;
    expect(await failure(submit(refs))).toMatchObject({ reason: 'rejected', partlyDone: true });
    const taken = sim.truth.submissions().slice(before);
    expect(taken.map(({ ids }) => ids.length)).toEqual([500]);
    expect(sim.truth.rowsOf(made.traceIds[0] ?? '').filter(({ live }) => live)).toHaveLength(200);
  });

  describe('a server that takes fewer rows in one call', () => {
    const sizesSince = (before: number): number[] =>
      sim.truth
        .submissions()
        .slice(before)
        .map(({ ids }) => ids.length);
    const refused = (): number => sim.ledger.count({ family: 'deletes', status: 413 });

    test('P2: one trace that is too large for it goes in smaller calls, of which none is sent twice', async () => {
      const made = person('chat', 'too-large', { tracesPerPerson: 1, spansPerTrace: 900 });
      const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
      sim.habits.set({ rejectLargerThan: { events: 200 } });
      const [before, refusedBefore] = [sim.truth.submissions().length, refused()];
      let asked = 0;
      const lastWord = (): Promise<void> => {
        asked += 1;
        return Promise.resolve();
      };
      await store.submit({ projectId: made.projectId, traces: refs, lastWord, progress: idle });
      // 500 and 250 are refused, and what was learned is not asked again.
      expect(refused() - refusedBefore).toBe(2);
      expect(sizesSince(before)).toEqual([125, 125, 125, 125, 125, 125, 125, 25]);
      expect(asked).toBe(10);
      const sent = sim.truth
        .submissions()
        .slice(before)
        .flatMap(({ ids }) => ids);
      expect([...sent].sort()).toEqual(made.all);
      expect(sim.truth.isLive(made.traceIds[0] ?? '')).toBe(false);
    });

    test('P2 P3: a refusal for another reason, after some of it was taken, still ends it, and everything is read again', async () => {
      const made = person('chat', 'too-large-refused', { tracesPerPerson: 1, spansPerTrace: 600 });
      const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
      const last = refs[0]?.rowIds?.at(-1) ?? '';
      sim.habits.set({ rejectLargerThan: { events: 250 }, rejectBatchWith: { ids: [last] } });
      const before = sim.truth.submissions().length;
      expect(await failure(submit(refs))).toMatchObject({ reason: 'rejected', status: 400, partlyDone: true });
      expect(sizesSince(before)).toEqual([250, 250]);
      expect(sim.truth.rowsOf(made.traceIds[0] ?? '').filter(({ live }) => live)).toHaveLength(100);
    });

    test('several traces are parted between them before any of them is', async () => {
      const made = person('chat', 'many-too-large', { tracesPerPerson: 4, spansPerTrace: 100 });
      const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
      sim.habits.set({ rejectLargerThan: { events: 200 } });
      const before = sim.truth.submissions().length;
      await submit(refs);
      expect(sizesSince(before)).toEqual([200, 200]);
      expect(made.traceIds.some((id) => sim.truth.isLive(id))).toBe(false);
    });

    test('one that takes no row at all is not asked for ever', async () => {
      const made = person('chat', 'all-too-large', { tracesPerPerson: 3, spansPerTrace: 4 });
      const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
      sim.habits.set({ rejectLargerThan: { events: 0 } });
      const [before, refusedBefore] = [sim.truth.submissions().length, refused()];
      expect(await failure(submit(refs))).toMatchObject({ reason: 'rejected', status: 413, partlyDone: false });
      // All 12 rows, the 8 of two traces, and 4, 2 and 1 of each trace by itself.
      expect(refused() - refusedBefore).toBe(2 + 3 * 3);
      expect(sizesSince(before)).toEqual([]);
      expect(made.traceIds.every((id) => sim.truth.isLive(id))).toBe(true);
    });
  });

  test.each(['bare', 'metadata', 'trace'] as const)(
    'P4: a row that a late merge revives (%s) is a survivor of the trace it came from',
    async (form) => {
      const name = `zombie-${form}`;
      const made = person('chat', name);
      const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
      sim.habits.set({ lateMerges: { count: 1, delayMs: 10 * DAY_MS, form } });
      await submit(refs);
      expect((await lookup(refs)).rows).toEqual([]);
      sim.advance(11 * DAY_MS);
      const { rows } = await lookup(refs);
      expect(rows).toHaveLength(1);
      const traceId = rows[0]?.traceId ?? '';
      expect(made.traceIds).toContain(traceId);
      const byPerson = await Promise.all([0, 1].map((index) => find(index, [name])));
      for (const read of byPerson) expect(read.rows).toHaveLength(form === 'metadata' ? 1 : 0);
      await submit(
        refsOf(
          refs.filter((ref) => ref.traceId === traceId),
          rows,
        ),
      );
      expect((await lookup(refs)).rows).toEqual([]);
      expect(made.traceIds.some((id) => sim.truth.isLive(id))).toBe(false);
    },
  );

  test('P14: a row id that now stands in another trace is no survivor of the first', async () => {
    const made = person('chat', 'moved');
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    await submit(refs);
    const id = made.all[0] ?? '';
    await insert(sim, made.projectId, [
      { id, span_id: 's', root_span_id: 'elsewhere', metadata: { user_id: 'stranger' } },
    ]);
    const read = await lookup(refs);
    // Under the trace that it stands in, whosever that is.
    expect(read.rows.map(({ traceId, runId }) => [traceId, runId])).toEqual([['elsewhere', id]]);
    expect(read.controlsSeen).toEqual(controls.map(() => true));
    expect(sim.truth.isRowLive(id)).toBe(true);
  });

  test('what the official SDK writes is erased, and its late update and feedback are caught', async () => {
    const state = await sdkState(sim);
    const logger = initLogger({ projectName: 'sdk', state, asyncFlush: true });
    const ids = await logger.traced(
      async (root) => {
        root.log({ input: 'hello', metadata: { user_id: 'sdk-user' } });
        const child = root.startSpan({ name: 'model', type: 'llm' });
        child.log({ output: 'hello!' });
        child.end();
        return { root: root.id, child: child.id, trace: root.rootSpanId, exported: await root.export() };
      },
      { name: 'answer' },
    );
    logger.logFeedback({ id: ids.root, scores: { good: 1 }, comment: 'well done' });
    await logger.flush();
    const mine = connectSim({ projects: ['sdk'] });
    const scope = await mine.projects(idle);
    const finder = mine.finders[0];
    if (finder === undefined) throw new Error('no finder');
    const found = await finder.find({
      projects: scope,
      terms: terms('sdk-user'),
      window,
      controls: [],
      progress: idle,
    });
    expect(tracesOf(found.rows)).toEqual([ids.trace]);
    const traces = [{ projectId: scope[0]?.id ?? '', traceId: ids.trace }];
    const whole = await lookup(traces, mine, { controls: [] });
    // Two spans and the comment.
    expect(whole.rows).toHaveLength(3);
    const refs = refsOf(traces, whole.rows);
    await submit(refs, mine);
    expect((await lookup(refs, mine, { controls: [] })).rows).toEqual([]);
    updateSpan({ exported: ids.exported, output: 'a late thought', state });
    logger.logFeedback({ id: ids.child, scores: { good: 0 } });
    await logger.flush();
    await state.bgLogger().flush();
    const zombies = await lookup(refs, mine, { controls: [] });
    expect(rowsOf(zombies.rows)).toEqual([ids.root, ids.child].sort());
    expect(tracesOf(zombies.rows)).toEqual([ids.trace]);
    await submit(refsOf(refs, zombies.rows), mine);
    expect(sim.truth.isLive(ids.trace)).toBe(false);
  });

  // ---------------------------------------------------------------------------------------------- reads that prove nothing

  test('P3: a read that has not caught up with what was written counts only once it has', async () => {
    const own = await startBraintrustSimulator({ clock, limits: false });
    try {
      const [made] = own.seedPeople({ project: 'p', people: ['lag'], tracesPerPerson: 1 });
      const mine = connect(own.url, clock, { apiKey: own.apiKey });
      await mine.projects(idle);
      const traces = [{ projectId: made?.projectId ?? '', traceId: made?.traceIds[0] ?? '' }];
      const refs = refsOf(traces, (await lookup(traces, mine, { controls: [] })).rows);
      await submit(refs, mine);
      own.habits.set({ freshnessLagMs: DAY_MS });
      expect((await lookup(refs, mine, { controls: [] })).inconclusive).toMatch(/latest writes/);
      own.advance(2 * DAY_MS);
      const after = await lookup(refs, mine, { controls: [] });
      expect(after.inconclusive).toBeUndefined();
      expect(after.rows).toEqual([]);
    } finally {
      await own.close();
    }
  });

  test('a lag that passes by itself is waited for', async () => {
    const made = person('chat', 'waits');
    let left = 3;
    const lagging = through(
      (body) => body,
      (answer) => {
        left -= 1;
        const state = { last_considered_xact_id: '2', last_processed_xact_id: left >= 0 ? '1' : '2' };
        return { ...answer, freshness_state: state };
      },
    );
    const began = virtualNow(clock);
    const read = await find(1, ['waits'], lagging);
    expect(read.inconclusive).toBeUndefined();
    expect(tracesOf(read.rows)).toEqual([...made.traceIds].sort());
    expect(read.report.calls).toBeGreaterThanOrEqual(4);
    expect(virtualNow(clock) - began).toBeGreaterThanOrEqual(7000);
  });

  test.each([
    [{ freshnessAbsent: true }, /does not say/],
    [{ realtimeExhausted: true }, /gave up/],
    [{ realtimeDisabled: true }, /switched off/],
  ])('P3: an answer that does not prove to be fresh makes every read inconclusive (%o)', async (habit, why) => {
    const made = person('chat', 'unfresh');
    sim.habits.set(habit);
    const located = store.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle });
    for (const read of await Promise.all([find(0, ['unfresh']), find(1, ['unfresh']), lookup(made.refs), located])) {
      expect(read.inconclusive).toMatch(why);
      expect(read.inconclusive).not.toContain(made.projectId);
    }
  });

  test('P20: a shared read that proves nothing proves nothing for everybody who shared it', async () => {
    const names = ['pair-1', 'pair-2'];
    const made = names.map((name) => person('chat', name));
    sim.habits.set({ freshnessAbsent: true });
    const [finder] = store.finders;
    if (finder === undefined || store.board === undefined) throw new Error('nothing is shared');
    const { board } = store;
    const steps = names.map(() => (): void => undefined);
    const leave = await Promise.all(steps.map((progress) => board(progress)));
    const found = await Promise.all(
      steps.map((progress, at) => finder.find({ projects, window, controls, terms: terms(names[at] ?? ''), progress })),
    );
    const looked = await Promise.all(steps.map((progress, at) => lookup(made[at]?.refs ?? [], store, { progress })));
    for (const done of leave) done();
    for (const reads of [found, looked]) {
      expect(reads.map(({ report }) => report.people)).toEqual([2, 2]);
      for (const read of reads) expect(read.inconclusive).toMatch(/latest writes/);
    }
  });

  test('P3: an ignored filter is contract-broken, never somebody’s traces', async () => {
    const made = person('chat', 'ignored');
    sim.habits.set({ filterIgnored: true });
    for (const attempt of [
      () => find(0, ['ignored']),
      () => find(1, ['ignored']),
      () => lookup(made.refs),
      () => store.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle }),
    ]) {
      expect((await failure(attempt())).reason).toBe('contract-broken');
    }
  });

  test.each(['all', 'filter', 'person', 'ids'] as const)('P6: a blind read (%s) sees no controls', async (what) => {
    const made = person('chat', 'unseen');
    sim.habits.set({ blind: { what } });
    const reads = [
      ...(what === 'ids' ? [] : [await find(0, ['unseen']), await find(1, ['unseen'])]),
      ...(what === 'person' ? [] : [await lookup(made.refs)]),
    ];
    for (const read of reads) expect(read.controlsSeen).toEqual(controls.map(() => false));
  });

  test.each([
    { htmlErrors: { status: 200 } },
    { truncateBody: {} },
    { missingFields: ['data'] },
    { missingFields: ['id'] },
  ])('P3: HTML, cut bodies and missing fields are never "not found" (%o)', async (habit) => {
    sim.habits.set(habit);
    const error = await failure(find(0, ['nobody']));
    expect(['contract-broken', 'unreachable']).toContain(error.reason);
  });

  test('fields that the vendor adds and rows that come twice change nothing', async () => {
    const made = person('chat', 'extra');
    sim.habits.set({ extraFields: true, repeatedRows: true });
    for (const index of [0, 1]) expect((await find(index, ['extra'])).rows).toHaveLength(6);
    expect((await lookup(made.refs)).rows).toHaveLength(6);
  });

  test('queries by id stay within what the engine prunes by, and all others are bounded in time', async () => {
    const made = person('chat', 'bounded');
    sim.habits.set({ unboundedTimesOut: true });
    const read = await lookup(refsOf(made.refs, (await lookup(made.refs)).rows));
    expect(read.rows).toHaveLength(6);
    for (const index of [0, 1]) expect((await find(index, ['bounded'])).rows).toHaveLength(6);
    const located = await store.locate({ ids: [UNKNOWN], projects, window, controls, progress: idle });
    expect(located.controlsSeen).toEqual(controls.map(() => true));
  });

  test('P31: no error, log line or advice holds an id, a value or the store’s words', async () => {
    const lines: string[] = [];
    const loud = connectSim({ log: (fields, message) => lines.push(JSON.stringify([fields, message])) });
    const canary = 'canary-7f3e9d';
    const texts: string[] = [];
    for (const status of [400, 403, 404, 500]) {
      sim.habits.set({ serverErrors: { status } });
      const error = await failure(find(0, [canary], loud));
      texts.push(error.message, error.advice ?? '', error.stack ?? '');
    }
    for (const text of [...lines, ...texts]) {
      expect(text).not.toContain(canary);
      expect(text).not.toContain(projects[0]?.id);
    }
    expect(lines.length).toBeGreaterThan(3);
  });

  // ---------------------------------------------------------------------------------------------- servers of other manners

  /** A connection whose queries and answers pass through other hands. */
  function through(
    change: (body: BtqlBody) => BtqlBody | Response,
    back: (answer: BtqlAnswer, body: BtqlBody) => BtqlAnswer = (answer) => answer,
    given: Given = {},
  ): TraceStore {
    const config = configOf(sim.url, { apiKey: sim.apiKey, ...given });
    const passed: typeof fetch = async (input, init) => {
      if (!(input as string).endsWith('/btql')) return fetch(input, init);
      const body = JSON.parse(init?.body as string) as BtqlBody;
      const changed = change(body);
      if (changed instanceof Response) return changed;
      const response = await fetch(input, { ...init, body: JSON.stringify(changed) });
      return Response.json(back((await response.json()) as BtqlAnswer, body), { headers: response.headers });
    };
    return openStore('test', config, { clock, fetch: passed });
  }

  test('P28: a server that serves fewer rows than asked for, and does not say so, loses none', async () => {
    const made = person('chat', 'capped', { tracesPerPerson: 40 });
    const capped = through(
      (body) => ({ ...body, query: { ...body.query, limit: Math.min(body.query.limit, 50) } }),
      (answer) => ({ ...answer, cursor: null }),
    );
    for (const index of [0, 1])
      expect(tracesOf((await find(index, ['capped'], capped)).rows)).toEqual([...made.traceIds].sort());
    expect(rowsOf((await lookup(made.refs, capped)).rows)).toEqual(made.all);
  });

  test('P28: a server that hands out a cursor with the last page too is read once', async () => {
    const made = person('chat', 'cursors', { tracesPerPerson: 4 });
    const generous = through(
      (body) => {
        if (body.query.cursor !== 'end') return body;
        return Response.json({
          data: [],
          cursor: null,
          freshness_state: { last_considered_xact_id: '1', last_processed_xact_id: '1' },
        });
      },
      (answer) => ({ ...answer, cursor: answer.cursor ?? 'end' }),
    );
    for (const index of [0, 1]) {
      const { rows, report } = await find(index, ['cursors'], generous);
      expect(tracesOf(rows)).toEqual([...made.traceIds].sort());
      expect(report.calls).toBeLessThan(8);
    }
  });

  test('P28: more traces of one moment than a page holds are read by cursors', async () => {
    const made = person('chat', 'moment', { tracesPerPerson: 35, atMs: T0 - DAY_MS });
    const { rows } = await find(1, ['moment'], connectSim({ pageSize: 10 }));
    expect(tracesOf(rows)).toEqual([...made.traceIds].sort());
  });

  test('P10: a query that takes too long is cut by time, without a gap', async () => {
    const old = person('chat', 'slow', { atMs: T0 - 300 * DAY_MS });
    const recent = person('chat', 'slow', { atMs: T0 - DAY_MS });
    const windows: [number, number][] = [];
    const slow = through((body) => {
      const bounds = (body.query.filter.children ?? []).filter(({ left }) => left?.name[0] === 'created');
      const [fromMs = 0, toMs = 0] = bounds.map(({ right }) => Date.parse(right?.value ?? ''));
      if (fromMs === 0 && toMs > T0 - 100 * DAY_MS) return new Response('query timed out', { status: 504 });
      windows.push([fromMs, toMs]);
      return body;
    });
    for (const index of [0, 1]) {
      windows.length = 0;
      const { rows, controlsSeen } = await find(index, ['slow'], slow);
      expect(tracesOf(rows)).toEqual([...old.traceIds, ...recent.traceIds].sort());
      expect(controlsSeen).toEqual(controls.map(() => true));
      windows.sort(([a], [b]) => a - b);
      expect(windows[0]?.[0]).toBe(window.fromMs);
      expect(windows.at(-1)?.[1]).toBe(window.toMs);
      for (const [at, [fromMs]] of windows.entries()) if (at > 0) expect(fromMs).toBe(windows[at - 1]?.[1]);
    }
  });

  test('a store that is down is not asked for ever smaller windows', async () => {
    let asked = 0;
    const down = through(() => {
      asked += 1;
      return new Response('no', { status: 500 });
    });
    expect(await failure(find(0, ['x'], down))).toMatchObject({ reason: 'unreachable', status: 500 });
    // Six windows, one within the other, each asked for three times.
    expect(asked).toBe(18);
  });

  test('P31: warnings of the store are kept by code, those about the form of a query are not', async () => {
    const warned = through(
      (body) => body,
      (answer) => ({
        ...answer,
        warnings: [
          { code: 'partial_scan', message: 'user u_1', stage: 'execute' },
          { code: 'user u_1', message: '', stage: 'execute' },
          { code: 'missing_range_filter', message: '', stage: 'lint' },
        ],
      }),
    );
    const { report } = await find(0, ['x'], warned);
    expect(report.warnings).toEqual(['partial_scan', 'unnamed']);
  });

  test('P19: the queries name projects by id and hold values as literals of their own', async () => {
    const bodies: BtqlBody[] = [];
    const seen = through((body) => {
      bodies.push(body);
      return body;
    });
    await find(0, ["x' or 1=1"], seen);
    await find(1, ['x'], seen);
    for (const body of bodies) {
      expect(body).toMatchObject({
        fmt: 'json',
        brainstore_realtime: true,
        query: { limit: 1000, preview_length: -1 },
      });
      expect(body).not.toHaveProperty('relaxed_search_mode');
      expect(typeof body.query).toBe('object');
      expect(JSON.stringify(body.query.select)).not.toMatch(/input|output|"star"/);
    }
  });

  // ---------------------------------------------------------------------------------------------- deletes that go wrong

  test('P2: an answer that does not name every row is contract-broken', async () => {
    const made = person('chat', 'fewer');
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    sim.habits.set({ rowIds: 'fewer' });
    expect((await failure(submit(refs))).reason).toBe('contract-broken');
  });

  test('P19: an answer that names rows which were not sent switches the deletes of the connection off', async () => {
    const made = person('chat', 'more');
    const own = connectSim();
    const refs = refsOf(made.refs, (await lookup(made.refs, own)).rows);
    sim.habits.set({ rowIds: 'other' });
    expect((await failure(submit(refs, own))).reason).toBe('rejected');
    sim.habits.reset();
    const others = person('chat', 'after');
    const next = refsOf(others.refs, (await lookup(others.refs, own)).rows);
    const before = sim.truth.submissions().length;
    const error = await failure(submit(next, own));
    expect(error.advice).toContain('switched off');
    expect(sim.truth.submissions()).toHaveLength(before);
    expect(others.traceIds.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test('P13: a refused batch is refused as a whole, and the layer above finds the trace that the store does not take', async () => {
    const made = person('chat', 'refused', { tracesPerPerson: 4 });
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    sim.habits.set({ rejectBatchWith: { ids: [made.rowIds[2]?.[1] ?? ''] } });
    const receipt = await submit(refs);
    expect(receipt.refused).toEqual([made.traceIds[2]]);
    expect(sim.truth.rowsOf(made.traceIds[2] ?? '').every(({ live }) => live)).toBe(true);
    expect(sim.truth.isLive(made.traceIds[0] ?? '')).toBe(false);
    expect(sim.truth.orphans().filter(({ traceId }) => made.traceIds.includes(traceId))).toEqual([]);
  });

  test('P27: the last word comes after everything else and stops the call', async () => {
    const made = person('chat', 'held');
    const refs = refsOf(made.refs, (await lookup(made.refs)).rows);
    const before = sim.truth.submissions().length;
    const lastWord = (): Promise<void> => Promise.reject(new Error('held'));
    const order = { projectId: made.projectId, traces: refs, lastWord, progress: idle };
    await expect(store.submit(order)).rejects.toThrow('held');
    expect(sim.truth.submissions()).toHaveLength(before);
    expect(made.traceIds.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  // ---------------------------------------------------------------------------------------------- ids, controls, copies

  test('P11, P16: known ids are told apart by looking', async () => {
    const [seeded] = sim.seed({ project: 'chat', traces: [{ spans: [{ metadata: { user_id: 'known' } }, {}] }] });
    const dataset = sim.createContainer('chat', 'dataset', 'some');
    if (seeded === undefined) throw new Error('nothing was seeded');
    const [row = ''] = seeded.rowIds;
    const span = seeded.spanIds[1] ?? '';
    const project = sim.project('agent').id;
    const ids = [seeded.traceId, row, span, project, dataset.id, UNKNOWN, 'any text'];
    const located = await store.locate({ ids, projects, window, controls, progress: idle });
    expect(located.controlsSeen).toEqual(controls.map(() => true));
    expect(tracesOf(located.rows)).toEqual([seeded.traceId]);
    expect(rowsOf(located.rows)).toEqual([...seeded.rowIds].sort());
    expect([...located.wrongKind]).toEqual([
      [project, 'project'],
      [span, 'span'],
      [dataset.id, 'dataset'],
    ]);
    expect(store.normaliseId(' any text ')).toBe('any text');
    for (const bad of ['', ' ', 'a\nb', 'x'.repeat(257)]) expect(store.normaliseId(bad)).toBeNull();
  });

  test('P11: an id in a project outside the configured scope is found there, not called absent', async () => {
    const made = person('agent', 'outside');
    const narrow = connectSim({ projects: ['chat'] });
    const scope = await narrow.projects(idle);
    const located = await narrow.locate({
      ids: made.traceIds,
      projects: scope,
      window,
      controls: controls.filter(({ projectId }) => projectId === scope[0]?.id),
      progress: idle,
    });
    expect(tracesOf(located.rows)).toEqual([...made.traceIds].sort());
    expect(located.rows.every(({ projectId }) => projectId === made.projectId)).toBe(true);
  });

  test('P6, P7: controls are live rows of others, oldest first, and silent projects are named', async () => {
    const own = await startBraintrustSimulator({ clock });
    try {
      own.seedPeople({ project: 'busy', people: ['subject'], tracesPerPerson: 30 });
      own.seedPeople({ project: 'busy', people: ['late'], tracesPerPerson: 3, atMs: T0 - 1000 });
      own.seed({ project: 'mute', traces: [{ spans: [{ input: 'x' }] }] });
      own.createProject({ name: 'empty' });
      const mine = connect(own.url, clock, { apiKey: own.apiKey, pageSize: 50 });
      const all = await mine.projects(idle);
      const found = await mine.controls({
        projects: all,
        terms: terms('x'),
        window,
        want: 2,
        exclude: (row) => row.persons.some(({ text }) => text === 'subject'),
        progress: idle,
      });
      expect(found.controls.map(({ value }) => value.text)).toEqual(['late', 'late']);
      const named = new Map(all.map(({ id, name }) => [id, name]));
      expect(found.silent.map(({ projectId, holdsRuns }) => [named.get(projectId), holdsRuns]).sort()).toEqual([
        ['empty', false],
        ['mute', true],
      ]);
    } finally {
      await own.close();
    }
  });

  test('P3 P6: a project counts as empty only by a read that has caught up', async () => {
    const own = await startBraintrustSimulator({ clock, limits: false });
    try {
      own.seedPeople({ project: 'full', people: ['somebody'], tracesPerPerson: 2 });
      const { id: projectId } = own.createProject({ name: 'empty' });
      const mine = connect(own.url, clock, { apiKey: own.apiKey });
      const all = await mine.projects(idle);
      const query = { projects: all, terms: terms('x'), window, want: 2, exclude: () => false, progress: idle };
      own.habits.set({ freshnessAbsent: true });
      expect((await mine.controls(query)).silent).toEqual([{ projectId, holdsRuns: true }]);
      own.habits.reset();
      expect((await mine.controls(query)).silent).toEqual([{ projectId, holdsRuns: false }]);
    } finally {
      await own.close();
    }
  });

  test('P22: copies made from the traces are found before the delete, and told apart', async () => {
    const state = await sdkState(sim);
    const logger = initLogger({ projectName: 'copied', state, asyncFlush: true });
    const file = new Attachment({ data: new Blob(['secret']), filename: 'face.png', contentType: 'image/png', state });
    const ids = await logger.traced(async (root) => {
      root.log({ input: { picture: [file] }, metadata: { user_id: 'copied-user' } });
      return { root: root.id, trace: root.rootSpanId };
    });
    await logger.flush();
    const projectId = sim.project('copied').id;
    const dataset = initDataset({ project: 'copied', dataset: 'golden', state });
    dataset.insert({ id: 'd-1', input: 'x', metadata: { user_id: 'copied-user' } });
    dataset.insert({ id: 'd-2', input: 'y', metadata: { user_id: 'somebody' } });
    await dataset.flush();
    const datasetId = await dataset.id;
    const experiment = initExperiment('copied', { experiment: 'eval', state });
    experiment.log({ id: 'e-1', input: 'x', output: 'y', scores: {}, metadata: { user_id: 'copied-user' } });
    await experiment.flush();
    const experimentId = await experiment.id;
    const { id: madeId } = sim.createContainer('copied', 'dataset', 'made');
    sim.seed({
      project: 'copied',
      into: { type: 'dataset', name: 'made' },
      traces: [
        {
          spans: [
            {
              id: 'd-3',
              fields: {
                dataset_id: madeId,
                origin: { object_type: 'project_logs', object_id: projectId, id: ids.root },
              },
            },
          ],
        },
      ],
    });
    sim.addAutomation('copied', 'export', { event_type: 'btql_export' });
    sim.addAutomation('copied', 'hook', { event_type: 'logs', action: { type: 'webhook' } });
    sim.addAutomation('agent', 'elsewhere', { event_type: 'btql_export' });

    const mine = connectSim({ projects: ['copied'] });
    const scope = await mine.projects(idle);
    const finder = mine.finders[0];
    const found = await finder?.find({
      projects: scope,
      terms: terms('copied-user'),
      window,
      controls: [],
      progress: idle,
    });
    expect(found?.loose?.map(({ kind, id }) => `${kind} ${id}`).sort()).toEqual([
      `datasets ${datasetId}/d-1`,
      `experiments ${experimentId}/e-1`,
    ]);
    // P21: what tells whether they are of a time that a request reaches. The vendor's client writes it, by the real clock.
    for (const { startMs } of found?.loose ?? []) expect(Math.abs((startMs ?? 0) - Date.now())).toBeLessThan(DAY_MS);
    const traces = [{ projectId, traceId: ids.trace }];
    const { rows } = await lookup(traces, mine, { controls: [] });
    const copies = await mine.copies(traces, rows, idle);
    expect(copies.copies.map(({ kind }) => kind).sort()).toEqual(['attachments', 'datasets', 'row-history']);
    expect(copies.copies.find(({ kind }) => kind === 'datasets')?.id).toBe(`${madeId}/d-3`);
    expect(copies.copies.find(({ kind }) => kind === 'attachments')?.id).toBe(file.reference.key);
    expect(copies.outOfReach).toEqual([{ kind: 'cloud-exports', count: 1, traceIds: [ids.trace] }]);
    expect(copies.notExamined.map(({ kind }) => kind)).toEqual(['webhooks']);
    expect(JSON.stringify(copies)).not.toContain('face.png');

    await submit(refsOf(traces, rows), mine);
    const { left } = await mine.lookupCopies(copies.copies, idle);
    expect(left.map(({ kind }) => kind).sort()).toEqual(['attachments', 'datasets', 'row-history']);
    expect(sim.truth.isRowLive('d-2', datasetId)).toBe(true);
  });

  test.each([
    ['dataset', ['dataset-snapshots', 'datasets']],
    ['experiment', ['experiments']],
    ['project_logs', ['attachments', 'row-history']],
  ])('P1 P3: copies of which a read has not caught up are told as not examined (%s)', async (source, kinds) => {
    const made = person('chat', `unfresh-copies-${source}`);
    for (const type of ['dataset', 'experiment'] as const) sim.createContainer('chat', type, `${type} for ${source}`);
    const stale = through(
      (body) => body,
      (answer, { query }) => (query.from.name.name[0] === source ? { ...answer, freshness_state: {} } : answer),
    );
    const { rows } = await lookup(made.refs);
    expect((await store.copies(made.refs, rows, idle)).notExamined).toEqual([]);
    const found = await stale.copies(made.refs, rows, idle);
    expect(found.notExamined.map(({ kind }) => kind).sort()).toEqual(kinds);
    for (const { why } of found.notExamined) expect(why).toMatch(/does not say whether it has read the latest writes/);
  });

  describe('erasing copies', () => {
    const lastWord = (): Promise<void> => Promise.resolve();
    const byId = (copies: readonly Copy[]): string[] => copies.map(({ id }) => id.slice(id.indexOf('/') + 1)).sort();

    /** A trace of each of two people, and of each a dataset row and an experiment trace of two rows made from it. */
    async function copied(project: string) {
      const [ann, bob] = sim.seedPeople({ project, people: ['copy-ann', 'copy-bob'], tracesPerPerson: 1 });
      if (ann === undefined || bob === undefined) throw new Error('nobody was made');
      const projectId = sim.project(project).id;
      const origin = (rowId = ''): object => ({
        origin: { object_type: 'project_logs', object_id: projectId, id: rowId },
      });
      const row = (who: typeof ann, id: string, more: object = {}) => ({
        spans: [{ id, fields: { ...origin(who.rowIds[0]?.[0]), ...more } }],
      });
      const into = (type: 'dataset' | 'experiment', traces: readonly SeedTrace[]): string => {
        const name = `${type}-of-${project}`;
        const { id } = sim.createContainer(project, type, name);
        const named = traces.map(({ spans }) => ({
          spans: spans.map((span) => ({ ...span, fields: { ...span.fields, [`${type}_id`]: id } })),
        }));
        sim.seed({ project, into: { type, name }, traces: named });
        return id;
      };
      const dataset = into('dataset', [
        row(ann, `${project}-ann`),
        row(bob, `${project}-bob`),
        {
          spans: [
            { id: `${project}-both`, metadata: { user_id: 'copy-bob' }, fields: { ...origin(ann.rowIds[0]?.[0]) } },
          ],
        },
      ]);
      const experiment = into('experiment', [
        { spans: [{ id: `${project}-task`, fields: { ...origin(ann.rowIds[0]?.[0]) } }, { id: `${project}-score` }] },
        { spans: [{ id: `${project}-theirs`, fields: { ...origin(bob.rowIds[0]?.[0]) } }] },
      ]);
      const mine = connectSim({ projects: [project], copies: ['datasets', 'experiments'] });
      const traces = traceRefs(project, ann.traceIds);
      const { rows } = await lookup(traces, mine, { controls: [] });
      const found = await mine.copies(traces, rows, idle);
      const copies = found.copies.filter(({ kind }) => kind === 'datasets' || kind === 'experiments');
      return { mine, dataset, experiment, copies, project };
    }

    test('P22: rows made from the person are erased by their ids, an experiment with the rows of its trace; nobody else loses any', async () => {
      const { mine, dataset, experiment, copies, project } = await copied('copies-done');
      expect(byId(copies)).toEqual(['ann', 'both', 'score', 'task'].map((name) => `${project}-${name}`));
      expect(byId(copies.filter(({ others }) => others === true))).toEqual([`${project}-both`]);
      await expect(mine.eraseCopies!(copies, lastWord, idle)).rejects.toBeInstanceOf(GuardError);
      const ours = copies.filter(({ others }) => others !== true);
      const before = sim.ledger.deletes().length;
      const { receipts } = await mine.eraseCopies!(ours, lastWord, idle);
      expect(receipts?.map(({ kind, ids, status }) => [kind, ids.length, status])).toEqual([
        ['datasets', 1, 200],
        ['experiments', 2, 200],
      ]);
      const named = sim.ledger
        .deletes()
        .slice(before)
        .flatMap(({ deletes }) => deletes ?? []);
      expect(named.map(({ objectId, ids }) => [objectId, [...ids].sort()])).toEqual([
        [dataset, [`${project}-ann`]],
        [experiment, [`${project}-score`, `${project}-task`]],
      ]);
      expect(byId((await mine.lookupCopies(copies, idle)).left)).toEqual([`${project}-both`]);
      for (const id of ['bob', 'both']) expect(sim.truth.isRowLive(`${project}-${id}`, dataset)).toBe(true);
      expect(sim.truth.isRowLive(`${project}-theirs`, experiment)).toBe(true);
      expect(sim.truth.unasked()).toEqual([]);
    });

    test('P2 P22: a tombstone that never shows leaves the copy where it is, whatever the answer said', async () => {
      const { mine, copies, project } = await copied('copies-ignored');
      sim.habits.set({ tombstoneDelayMs: Infinity });
      try {
        const ours = copies.filter(({ others }) => others !== true);
        await mine.eraseCopies!(ours, lastWord, idle);
        expect(byId((await mine.lookupCopies(ours, idle)).left)).toEqual(
          ['ann', 'score', 'task'].map((name) => `${project}-${name}`),
        );
      } finally {
        sim.habits.reset();
      }
    });

    test('P22: a trace of an experiment that has grown a row which nobody named stays whole', async () => {
      const { mine, experiment, copies, project } = await copied('copies-grown');
      const ours = copies.filter(({ kind }) => kind === 'experiments');
      const part = ours.filter(({ id }) => id.endsWith('-task'));
      const { receipts } = await mine.eraseCopies!(part, lastWord, idle);
      expect(receipts).toEqual([]);
      for (const id of ['task', 'score']) expect(sim.truth.isRowLive(`${project}-${id}`, experiment)).toBe(true);
    });

    test('P3 P22: a trace of an experiment stays while its reads do not show what was written last; a later one goes', async () => {
      const { mine, experiment, copies, project } = await copied('copies-unfresh');
      const ours = copies.filter(({ kind }) => kind === 'experiments');
      expect(byId(ours)).toEqual([`${project}-score`, `${project}-task`]);
      sim.habits.set({ freshnessAbsent: true });
      try {
        expect((await mine.eraseCopies!(ours, lastWord, idle)).receipts).toEqual([]);
      } finally {
        sim.habits.reset();
      }
      for (const id of ['task', 'score']) expect(sim.truth.isRowLive(`${project}-${id}`, experiment)).toBe(true);
      expect((await mine.eraseCopies!(ours, lastWord, idle)).receipts).toHaveLength(1);
      for (const id of ['task', 'score']) expect(sim.truth.isRowLive(`${project}-${id}`, experiment)).toBe(false);
      expect(sim.truth.isRowLive(`${project}-theirs`, experiment)).toBe(true);
    });

    test('P19: an answer that names rows which were not sent switches the deletes off, for copies too', async () => {
      const { mine, copies } = await copied('copies-other');
      const ours = copies.filter(({ kind, others }) => kind === 'datasets' && others !== true);
      sim.habits.set({ rowIds: 'other' });
      try {
        expect((await failure(mine.eraseCopies!(ours, lastWord, idle))).reason).toBe('contract-broken');
      } finally {
        sim.habits.reset();
      }
      expect((await failure(mine.eraseCopies!(ours, lastWord, idle))).advice).toContain('switched off');
    });
  });

  describe('copies of several people', () => {
    const lastWord = (): Promise<void> => Promise.resolve();
    const idsOf = (copies: readonly Copy[], kind: string): string[] =>
      copies.flatMap((copy) => (copy.kind === kind ? [copy.id.slice(copy.id.indexOf('/') + 1)] : [])).sort();
    const madeFrom = (projectId: string, rowId = ''): object => ({
      origin: { object_type: 'project_logs', object_id: projectId, id: rowId },
    });
    const into = (
      project: string,
      type: 'dataset' | 'experiment',
      traces: readonly (readonly { readonly id: string; readonly from: object }[])[],
    ): string => {
      const { id: objectId } = sim.createContainer(project, type, `${type}-of-${project}`);
      sim.seed({
        project,
        into: { type, name: `${type}-of-${project}` },
        traces: traces.map((spans) => ({
          spans: spans.map(({ id, from }) => ({ id, fields: { ...from, [`${type}_id`]: objectId } })),
        })),
      });
      return objectId;
    };

    /** Asks for the copies of each of them, in one moment. */
    async function together(from: TraceStore, people: readonly (readonly TraceRef[])[]) {
      const read = await Promise.all(people.map((traces) => lookup(traces, from, { controls: [] })));
      const steps = people.map(() => (): void => undefined);
      const { board } = from;
      if (board === undefined) throw new Error('nothing is shared');
      const leave = await Promise.all(steps.map((progress) => board(progress)));
      try {
        return await Promise.all(
          people.map((traces, at) => from.copies(traces, read[at]?.rows ?? [], steps[at] ?? idle)),
        );
      } finally {
        for (const done of leave) done();
      }
    }

    test('P20 P22: what was made from the traces of two people is told to each of them, and nobody’s call erases it', async () => {
      const project = 'made-of-two';
      const people = sim.seedPeople({ project, people: ['two-ann', 'two-bob'], tracesPerPerson: 1 });
      const [first, second] = people.map(({ rowIds }) => madeFrom(sim.project(project).id, rowIds[0]?.[0]));
      const experiment = into(project, 'experiment', [
        [
          { id: 'two-1', from: first ?? {} },
          { id: 'two-2', from: second ?? {} },
        ],
      ]);
      const mine = connectSim({ projects: [project], copies: ['experiments'] });
      const found = await together(
        mine,
        people.map(({ traceIds }) => traceRefs(project, traceIds)),
      );
      for (const [at, { copies, reports }] of found.entries()) {
        expect(reports.some((report) => report.people === 2)).toBe(true);
        const told = copies.filter(({ kind }) => kind === 'experiments');
        expect(idsOf(told, 'experiments')).toEqual(['two-1', 'two-2']);
        expect(told.map(({ traceId, others }) => [traceId, others])).toEqual(
          told.map(() => [people[at]?.traceIds[0], true]),
        );
        await expect(mine.eraseCopies!(told, lastWord, idle)).rejects.toBeInstanceOf(GuardError);
      }
      for (const id of ['two-1', 'two-2']) expect(sim.truth.isRowLive(id, experiment)).toBe(true);
    });

    test('P22: a row id stands for its project’s row alone: what was made from another’s of the same id is not touched', async () => {
      const names = ['twin-a', 'twin-b'];
      const seeded = names.map((project) => {
        const [trace] = sim.seed({ project, traces: [{ spans: [{ id: 'twin', metadata: { user_id: project } }] }] });
        if (trace === undefined) throw new Error('nothing was seeded');
        return trace;
      });
      const dataset = into(
        'twin-a',
        'dataset',
        seeded.map(({ projectId }, at) => [{ id: `made-${names[at] ?? ''}`, from: madeFrom(projectId, 'twin') }]),
      );
      const mine = connectSim({ projects: names, copies: ['datasets'] });
      const refs = seeded.map(({ traceId }, at) => traceRefs(names[at] ?? '', [traceId]));
      const found = await together(mine, refs);
      expect(found.map(({ copies }) => idsOf(copies, 'datasets'))).toEqual(names.map((name) => [`made-${name}`]));
      const [ref = []] = refs;
      const alone = await mine.copies(ref, (await lookup(ref, mine, { controls: [] })).rows, idle);
      expect(idsOf(alone.copies, 'datasets')).toEqual(['made-twin-a']);
      await mine.eraseCopies!(
        alone.copies.filter(({ kind }) => kind === 'datasets'),
        lastWord,
        idle,
      );
      expect(names.map((name) => sim.truth.isRowLive(`made-${name}`, dataset))).toEqual([false, true]);
    });
  });

  describe('comments that a server does not look for', () => {
    /** The rows of which a query asks for what was made of them, or null. */
    function originsIn(node: unknown): readonly string[] | null {
      if (typeof node !== 'object' || node === null) return null;
      const { left, right } = node as { left?: { name?: unknown }; right?: { value?: unknown } };
      if (JSON.stringify(left?.name) === '["origin","id"]') return right?.value as string[];
      return Object.values(node).reduce<readonly string[] | null>((found, inner) => found ?? originsIn(inner), null);
    }
    /** Refuses such queries, and counts those that it was asked. */
    function refusing(isRefused: (rowIds: readonly string[]) => boolean) {
      const seen = { asked: 0 };
      const change = (body: BtqlBody): BtqlBody | Response => {
        const origins = originsIn(body.query.filter);
        if (origins === null) return body;
        seen.asked += 1;
        return isRefused(origins) ? new Response('no', { status: 400 }) : body;
      };
      return { seen, change };
    }
    /** A connection whose queries pass by there. */
    function behind(change: (body: BtqlBody) => BtqlBody | Response, at = sim, on: Clock = clock): TraceStore {
      return openStore('test', configOf(at.url, { apiKey: at.apiKey }), {
        clock: on,
        fetch: (input, init) => {
          const isQuery = (input as string).endsWith('/btql');
          const changed = isQuery ? change(JSON.parse(init?.body as string) as BtqlBody) : null;
          return changed instanceof Response ? Promise.resolve(changed) : fetch(input, init);
        },
      });
    }
    const comment = (id: string, rowId = ''): Record<string, unknown> => ({
      id,
      origin: { id: rowId },
      comment: { text: 'hm' },
      created: new Date(T0).toISOString(),
    });
    async function commented(name: string) {
      const made = person('chat', name);
      await insert(sim, made.projectId, [comment(`note-of-${name}`, made.rowIds[0]?.[1])]);
      return made;
    }

    test('P1 P20: one whose row a server refuses to look for is told so; of the others every comment is found and deleted', async () => {
      const odd = await commented('odd');
      const others = [await commented('plain-1'), await commented('plain-2')];
      const bad = odd.rowIds[1]?.[0] ?? '';
      const mine = behind(refusing((rowIds) => rowIds.includes(bad)).change);
      const steps = [odd, ...others].map(() => (): void => undefined);
      const { board } = mine;
      if (board === undefined) throw new Error('nothing is shared');
      const leave = await Promise.all(steps.map((progress) => board(progress)));
      const [own, ...theirs] = await Promise.all(
        [odd, ...others].map(({ refs }, at) => lookup(refs, mine, { progress: steps[at] ?? idle })),
      );
      for (const done of leave) done();
      expect(own?.report.people).toBe(3);
      expect(own?.notExamined).toEqual([{ kind: 'comments', traces: [odd.refs[1]] }]);
      expect(rowsOf(own?.rows ?? [])).toEqual([...odd.all, 'note-of-odd'].sort());
      for (const [at, read] of theirs.entries()) {
        expect(read.notExamined).toBeUndefined();
        const made = others[at] ?? odd;
        await submit(refsOf(made.refs, read.rows), mine);
        expect(sim.truth.isRowLive(`note-of-plain-${at + 1}`)).toBe(false);
      }
      expect(sim.truth.isRowLive('note-of-odd')).toBe(true);
      const next = await commented('after-the-odd');
      const read = await lookup(next.refs, mine);
      expect([rowsOf(read.rows).includes('note-of-after-the-odd'), read.notExamined]).toEqual([true, undefined]);
    });

    test('P1: a server that looks for none is asked again after a day, and all are told meanwhile', async () => {
      const made = await commented('unlooked');
      const moving = { ...fastClock() } as { realMs: number; virtualMs: number; speed: number };
      let refuses = true;
      const { change, seen } = refusing(() => refuses);
      const mine = behind(change, sim, moving);
      const told = [{ kind: 'comments', traces: made.refs }];
      expect((await lookup(made.refs, mine)).notExamined).toEqual(told);
      refuses = false;
      const before = seen.asked;
      expect((await lookup(made.refs, mine)).notExamined).toEqual(told);
      expect(seen.asked).toBe(before);
      moving.virtualMs += DAY_MS;
      const read = await lookup(made.refs, mine);
      expect(read.notExamined).toBeUndefined();
      expect(rowsOf(read.rows)).toEqual([...made.all, 'note-of-unlooked'].sort());
    });

    test('a server that refuses long lists of rows is asked in shorter ones', async () => {
      const made = await commented('long-listed');
      const read = await lookup(made.refs, behind(refusing((rowIds) => rowIds.length > 2).change));
      expect(read.notExamined).toBeUndefined();
      expect(rowsOf(read.rows)).toEqual([...made.all, 'note-of-long-listed'].sort());
    });

    test('P1: a lane that looked for comments when it was planned, and cannot at its end or after it, names them', async () => {
      const own = await startBraintrustSimulator({ clock: fastClock(), limits: false });
      try {
        const people = ['u_42', 'other-1', 'other-2'];
        const [made] = own.seedPeople({ project: 'p', people, tracesPerPerson: 1, atMs: T0 - DAY_MS });
        const { projectId = '', rowIds = [] } = made ?? {};
        let refuses = false;
        const mine = behind(refusing(() => refuses).change, own, fastClock());
        await LaneSteps.over(mine, async (steps) => {
          const planned = await steps.resolve();
          expect(planned.copies.notExamined).not.toContain('comments');
          await steps.remove(planned.book);
          await insert(own, projectId, [comment('late-note', rowIds[0]?.[1])]);
          refuses = true;
          const read = await steps.verify(planned.book);
          expect(read.copies.notExamined).toContain('comments');
          expect(read.exceptions).toContainEqual(
            expect.objectContaining({ kind: 'not-examined', text: expect.stringContaining('comments') }),
          );
          const look = await steps.look(planned.book);
          expect([look.kind, look.why]).toEqual(['inconclusive', expect.stringContaining('comments')]);
        });
        expect(own.truth.isRowLive('late-note')).toBe(true);
        const survivors = own.truth.allTraces().filter(({ traceId }) => own.truth.isLive(traceId));
        expect(survivors).toHaveLength(2);
      } finally {
        await own.close();
      }
    });
  });

  describe('older versions', () => {
    /** A connection to a data plane that runs every query against what is there now, whatever transaction it names. */
    const ignoringVersions = (at: BraintrustSimulator): TraceStore =>
      openStore('test', configOf(at.url, { apiKey: at.apiKey }), {
        clock: fastClock(),
        fetch: (input, init) => {
          if (!(input as string).endsWith('/btql')) return fetch(input, init);
          const body = { ...(JSON.parse(init?.body as string) as object), version: undefined };
          return fetch(input, { ...init, body: JSON.stringify(body) });
        },
      });

    test('P1 P3: are not believed to be gone because a read at an older transaction does not show them', async () => {
      const made = person('chat', 'versions');
      const mine = ignoringVersions(sim);
      const { rows } = await lookup(made.refs, mine);
      const { copies } = await mine.copies(made.refs, rows, idle);
      const history = copies.filter(({ kind }) => kind === 'row-history');
      expect(history.map(({ traceId }) => traceId).sort()).toEqual([...made.traceIds].sort());
      await submit(refsOf(made.refs, rows), mine);
      const ignored = await mine.lookupCopies(history, idle);
      expect(ignored.left).toEqual(history);
      // What such a read shows is on record all the same.
      const shown = await store.lookupCopies(history, idle);
      expect(shown.left).toEqual(history);
      expect([ignored, shown].map(({ reports }) => reports.map((report) => report.rows))).toEqual([[0], [2]]);
    });

    test('P1: a lane over a data plane that ignores versions does not end as if they were erased', async () => {
      const own = await startBraintrustSimulator({ clock: fastClock(), limits: false });
      try {
        const people = ['u_42', 'other-1', 'other-2'];
        own.seedPeople({ project: 'p', people, tracesPerPerson: 2, atMs: T0 - DAY_MS });
        await LaneSteps.over(ignoringVersions(own), async (steps) => {
          const planned = await steps.resolve();
          await steps.remove(planned.book);
          const read = await steps.verify(planned.book, { cleanReads: 1 });
          expect(read.verdict).toBe('verified-with-exceptions');
          expect(read.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
          expect(read.copies).toMatchObject({ found: 2, erased: 0, manual: 2 });
          expect(read.exceptions).toContainEqual(expect.objectContaining({ kind: 'manual-copies', count: 2 }));
          expect(read.tasks).toMatchObject([{ kind: 'row-history', count: 2 }]);
        });
        expect(own.truth.allTraces().filter(({ traceId }) => own.truth.isLive(traceId))).toHaveLength(4);
      } finally {
        await own.close();
      }
    });
  });

  test('P1 P22: attachments that the controller accepted beforehand are on record, no exception and nobody’s task', async () => {
    const rest = ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'];
    for (const accept of [rest, [...rest, 'attachments']]) {
      const own = await startBraintrustSimulator({ clock: fastClock(), limits: false });
      try {
        const file = { type: 'braintrust_attachment', key: 'files/face', filename: 'f', content_type: 'image/png' };
        const fields = { input: { picture: file } };
        own.seedPeople({ project: 'p', people: ['other-1', 'other-2'], tracesPerPerson: 1, atMs: T0 - DAY_MS });
        own.seed({
          project: 'p',
          traces: [{ spans: [{ created: T0 - DAY_MS, metadata: { user_id: 'u_42' }, fields }] }],
        });
        const mine = openStore('test', configOf(own.url, { apiKey: own.apiKey, accept }), { clock: fastClock() });
        await LaneSteps.over(
          mine,
          async (steps) => {
            const planned = await steps.resolve();
            await steps.remove(planned.book);
            const read = await steps.verify(planned.book, { cleanReads: 1 });
            // Accepted or not, they are there and are counted: the one file, and the older versions of the one trace.
            expect(read.copies).toMatchObject({ found: 2, erased: 0, manual: 2 });
            const isAccepted = accept.includes('attachments');
            const exceptions = isAccepted ? [] : [{ kind: 'manual-copies', count: 1 }];
            expect(read).toMatchObject({
              verdict: isAccepted ? 'verified' : 'verified-with-exceptions',
              traces: { matched: 1, verifiedAbsent: 1 },
              exceptions,
            });
            expect(read.tasks?.map(({ kind, count }) => [kind, count])).toEqual(
              isAccepted ? undefined : [['attachments', 1]],
            );
            const { entries } = (await steps.recorded()).lanes['prod'] ?? { entries: [] };
            const [plan] = entries.flatMap(({ entry }) => (entry.kind === 'plan' ? [entry] : []));
            expect(plan?.accepted).toEqual(accept);
            const last = entries.flatMap(({ entry }) => (entry.kind === 'read' ? [entry] : [])).at(-1);
            expect(last?.copies).toMatchObject({ found: 2, manual: 2 });
          },
          (deps) => ({ ...deps, accept }),
        );
        expect(own.truth.allTraces().filter(({ traceId }) => own.truth.isLive(traceId))).toHaveLength(2);
      } finally {
        await own.close();
      }
    }
  });

  test('kinds of copies that the config leaves out are not looked for, and the traits say so', async () => {
    const lean = connectSim({ copies: [] });
    const examined = lean.traits.copyMap.filter((copy) => copy.examined).map(({ kind }) => kind);
    expect(examined).toEqual(['row-history', 'comments', 'cloud-exports', 'webhooks', 'async-query-results']);
    await lean.projects(idle);
    expect(await calls(() => find(0, ['x'], lean), '/v1/dataset')).toBe(0);
  });

  // ---------------------------------------------------------------------------------------------- the connection

  test('a burst of false 401s is trouble that passes, and one that lasts is a wrong key', async () => {
    const own = connectSim();
    await own.projects(idle);
    sim.habits.set({ false401: { forMs: 60 * MINUTE_MS } });
    expect(await failure(find(0, ['x'], own))).toMatchObject({ reason: 'unreachable', status: 401, transient: true });
    sim.advance(3 * MINUTE_MS);
    await new Promise((resolve) => setTimeout(resolve, (3 * MINUTE_MS) / SPEED));
    expect((await failure(find(0, ['x'], own))).reason).toBe('denied');
    sim.habits.reset();
    expect((await find(0, ['x'], own)).rows).toEqual([]);
  });

  test('a wrong key is denied at once', async () => {
    const error = await failure(connectSim({ apiKey: 'wrong' }).projects(idle));
    expect(error).toMatchObject({ reason: 'denied', route: 'POST /api/apikey/login' });
  });

  test('a key of several organizations runs only where one is named; the data plane is what login tells', async () => {
    const own = await startBraintrustSimulator({ clock, organisations: ['One', 'Two'], dataPlane: 'separate' });
    try {
      own.createProject({ name: 'here', organisation: 'Two' });
      own.createProject({ name: 'there', organisation: 'One' });
      const open = (organization?: string) =>
        connect(own.url, clock, { apiKey: own.apiKey, ...(organization === undefined ? {} : { organization }) });
      expect(await failure(open().projects(idle))).toMatchObject({
        reason: 'rejected',
        advice: expect.stringContaining('organization'),
      });
      expect((await failure(open('Three').projects(idle))).reason).toBe('denied');
      expect((await open('Two').projects(idle)).map(({ name }) => name)).toEqual(['here']);
      expect(own.ledger.entries.filter(({ route }) => route === '/api/apikey/login')).toHaveLength(3);
    } finally {
      await own.close();
    }
  });

  test('the published rate limit is never met, however many steps ask', async () => {
    const own = await startBraintrustSimulator({ clock });
    try {
      own.seedPeople({ project: 'p', people: ['a', 'b', 'c'], tracesPerPerson: 2 });
      const mine = connect(own.url, clock, { apiKey: own.apiKey, btqlPerMinute: 15 });
      const scope = await mine.projects(idle);
      const query = { projects: scope, terms: terms('a'), window, controls: [] };
      await Promise.all(
        Array.from({ length: 40 }, async () => {
          const read = await mine.finders[0]?.find({ ...query, progress: () => undefined });
          expect(read?.rows).toHaveLength(6);
        }),
      );
      expect(own.ledger.count({ status: 429 })).toBe(0);
      expect(own.ledger.count({ route: '/btql', status: 200 })).toBe(40);
    } finally {
      await own.close();
    }
  });

  test('doctor: what a connection sees, and what it must know', async () => {
    const own = await startBraintrustSimulator({ clock });
    try {
      own.seedPeople({ project: 'p', people: ['a'], tracesPerPerson: 2, atMs: T0 - 1000 });
      own.seed({ project: 'p', traces: [{ spans: [{ input: 'x', created: T0 - 1000 }] }] });
      const items = await connect(own.url, clock, { apiKey: own.apiKey }).check();
      expect(items.map(({ name, level }) => `${name} ${level}`)).toEqual([
        'login ok',
        'projects ok',
        'identifiers warning',
        'datasets ok',
        'experiments ok',
        'right to delete warning',
        'clock ok',
      ]);
      expect(items[2]?.text).toContain('1 of the 3 latest');
      const denied = await connect(own.url, clock, { apiKey: 'wrong' }).check();
      expect(denied).toEqual([expect.objectContaining({ name: 'login', level: 'problem' })]);
      own.habits.set({ dateSkewMs: 5 * MINUTE_MS });
      const skewed = await connect(own.url, clock, { apiKey: own.apiKey }).check();
      expect(skewed).toContainEqual(expect.objectContaining({ name: 'clock', level: 'warning' }));
    } finally {
      await own.close();
    }
  });

  test('doctor: a project without live reads is a problem', async () => {
    const own = await startBraintrustSimulator({ clock });
    try {
      own.createProject({ name: 'still', settings: { disable_realtime_queries: true } });
      const items = await connect(own.url, clock, { apiKey: own.apiKey }).check();
      expect(items).toContainEqual(expect.objectContaining({ name: 'projects', level: 'problem' }));
    } finally {
      await own.close();
    }
  });
});

describe('the connection in the config', () => {
  const minimal = { store: 'braintrust', apiKey: 'k', identifiers: { user_id: ['metadata.user_id'] } } as const;
  const problems = (over: Record<string, unknown>): string[] => {
    const result = braintrustConnectionSchema.safeParse({ ...minimal, ...over });
    return result.success ? [] : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  };

  test('has defaults for the hosted service', () => {
    const config = braintrustConnectionSchema.parse(minimal);
    expect(config).toMatchObject({
      appUrl: 'https://www.braintrust.dev',
      accept: [],
      btqlPerMinute: 15,
      pageSize: 1000,
      copies: ['datasets', 'experiments', 'attachments'],
    });
    expect(config.apiUrl).toBeUndefined();
    const { rhythm, deletesBy, mostIdsPerDelete } = connect('http://127.0.0.1:1', null).traits;
    expect(rhythm).toEqual({ kind: 'continuous', settleMs: 2 * MINUTE_MS, spreadMs: 10 * MINUTE_MS });
    expect([deletesBy, mostIdsPerDelete]).toEqual(['row', 500]);
  });

  test('P25: every problem names its path', () => {
    expect(problems({ identifiers: { user_id: ['tags'] } })[0]).toMatch(/^identifiers\.user_id\.0: .*tags/);
    for (const bad of ['metadata', 'metadata.', 'metadata..a', 'user_id', 'metadata.a.', 'metadata. a']) {
      expect(problems({ identifiers: { user_id: [bad] } })).toHaveLength(1);
    }
    expect(problems({ identifiers: { user_id: ['metadata.a b.c-d'] } })).toEqual([]);
    expect(problems({ accept: ['row-history', 'nothing'] })[0]).toMatch(/^accept\.1: .*row-history/);
    expect(problems({ apiUrl: 'http://example.test' })[0]).toMatch(/^apiUrl: .*https/);
    expect(problems({ copies: ['everything'] })[0]).toMatch(/^copies\.0: /);
    expect(problems({ apiKey: '', btqlPerMinute: 1, pageSize: 5000, unknown: 1 })).toHaveLength(4);
  });

  test('P3: real use may only raise the settle time', () => {
    expect(problems({ settle: '1 min' })[0]).toMatch(/^settle: .*2 min/);
    expect(problems({ settle: '5 min' })).toEqual([]);
    expect(problems({ settle: '1 s', appUrl: 'http://127.0.0.1:1' })).toEqual([]);
    expect(problems({ settle: '1 s', appUrl: 'http://127.0.0.1:1', apiUrl: 'https://api.example.test' })).toHaveLength(
      1,
    );
  });

  test('P34: a control plane on this machine must not lead to a data plane elsewhere', async () => {
    const server: Server = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({ org_info: [{ id: UNKNOWN, name: 'Acme', api_url: 'https://api.braintrust.dev' }] }),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const error = await failure(connect(`http://127.0.0.1:${port}`, fastClock()).projects(idle));
      expect(error).toMatchObject({ reason: 'contract-broken', advice: expect.stringContaining('apiUrl') });
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});
