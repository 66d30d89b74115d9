import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Erasure } from '../src/client/client.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import { DAY_MS } from '../src/erasure/rhythm.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import { sharedBundle } from './support/bundle.ts';
import { call } from './support/respan-simulator.ts';
import {
  BraintrustApplication,
  closeRespanClient,
  LangSmithApplication,
  RespanApplication,
  type Traffic,
} from './support/sdk-applications.ts';
import { startThreeStores, type ThreeStores } from './support/three-stores.ts';
import { World } from './support/world.ts';

const PERSON = 'u_42';
const OTHERS = ['u_7', 'u_8', 'u_9', 'u_420'] as const;
const TRACES = 3;
const TRAFFIC: Traffic = { people: [PERSON, ...OTHERS], tracesPerPerson: TRACES };
/** What the langsmith SDK reads of a person of whom nothing was erased. */
const ALL_RUNS = { v1: { length: 3 * TRACES }, v2: { length: 3 * TRACES }, feedback: 2 };
const BY = { requestedBy: 'ines', reason: 'a late writer' };

const STORES = ['langsmith-prod', 'braintrust-prod', 'respan-prod'] as const;
type Store = (typeof STORES)[number];

/** Virtual milliseconds per real one: a week in 7 s. */
const WEEKS = { speed: 90_000 } as const;
/**
 * Where a test acts between two reads that count, these lie about two real seconds apart: 4 d in LangSmith, 2 min in
 * Braintrust, 10 min in Respan.
 */
const BETWEEN_READS = {
  'langsmith-prod': { speed: 180_000, settle: '4 d' },
  'braintrust-prod': { speed: 70 },
  'respan-prod': { speed: 350 },
} as const;

let world: World | null = null;
let stores: ThreeStores | null = null;

beforeAll(async () => {
  // Not while a virtual week takes seconds.
  await sharedBundle();
  // The clients tell the console of every span and every start, whatever their log level.
  for (const level of ['debug', 'info', 'log', 'warn'] as const) {
    jest.spyOn(console, level).mockImplementation(() => undefined);
  }
}, 60_000);

afterEach(async () => {
  await world?.close();
  await stores?.close();
  world = null;
  stores = null;
});

afterAll(async () => {
  await closeRespanClient();
  jest.restoreAllMocks();
});

/**
 * A Monday, 20:00 UTC, more than a week after the real now: what the SDKs stamp lies in the virtual past, and there are
 * days to write and to plan before the weekend.
 */
function mondayEvening(): number {
  const day = new Date(Date.now() + 8 * DAY_MS);
  day.setUTCHours(20, 0, 0, 0);
  return day.getTime() + ((1 - day.getUTCDay() + 7) % 7) * DAY_MS;
}

async function setUp(
  title: string,
  of: readonly Store[],
  { speed, settle }: { readonly speed: number; readonly settle?: string },
): Promise<{ readonly world: World; readonly stores: ThreeStores }> {
  const held: { started?: ThreeStores } = {};
  world = await World.start(title, {
    start: mondayEvening(),
    speed,
    ready: async (clock) => {
      held.started = await startThreeStores(clock);
      stores = held.started;
      return {};
    },
    config: (base) => {
      const all = held.started?.connections ?? {};
      const overrides: Record<Store, object> = {
        'langsmith-prod': settle === undefined ? {} : { rhythm: { kind: 'weekend', settle } },
        'braintrust-prod': {},
        // Its client stamps spans with the real time, and cannot be told another.
        'respan-prod': { startDate: new Date().toISOString().slice(0, 10) },
      };
      return {
        ...base,
        connections: Object.fromEntries(
          of.flatMap((name) => (all[name] === undefined ? [] : [[name, { ...all[name], ...overrides[name] }]])),
        ),
      };
    },
  });
  const { started } = held;
  if (started === undefined) throw new Error('the stores did not start');
  return { world, stores: started };
}

/** Live traces of a user by store, whatever the APIs say; Braintrust's also when their rows no longer name anybody. */
function live({ langsmith, braintrust, respan }: ThreeStores, user: string): readonly number[] {
  return [
    langsmith.truth.tracesOf([{ key: 'user_id', value: user }]).length,
    braintrust.truth.remainsOf([{ key: 'user_id', value: user }]).length,
    respan.truth.tracesOf([{ key: 'customer_identifier', value: user }]).length,
  ];
}

function assertSums(status: RequestStatus): void {
  for (const { given, traces, copies } of Object.values(status.connections)) {
    expect(imbalances({ given, traces, copies })).toEqual([]);
  }
}

/** Stops the erasure at rest, so that what happens next happens between two of its reads. Fails if it ends before that. */
async function rest(world: World, { requestId }: Erasure, at: (status: RequestStatus) => boolean): Promise<void> {
  const reached = await world.until(requestId, (status) => status.endedAt !== null || at(status));
  expect(reached.endedAt).toBeNull();
  await world.client.hold(requestId, BY);
  const held = await world.until(requestId, ({ status, endedAt }) => endedAt !== null || status === 'held');
  expect(held.endedAt).toBeNull();
}

/** Waits for what happens in a store by itself. Bounded by the test's own time limit. */
async function happened(what: () => boolean): Promise<void> {
  while (!what()) await sleep(10);
}

/** What each read of a lane that was no error came to, in order. */
async function readsOf(world: World, requestId: string, store: Store): Promise<readonly string[]> {
  const { lanes } = await world.record(requestId);
  return (lanes[store]?.entries ?? []).flatMap(({ entry }) => (entry.kind === 'read' ? [entry.answer] : []));
}

describe("what the vendors' own SDKs wrote for a person", () => {
  test('P1, P2, P29: is gone from all three stores, for the SDKs too, and everybody else keeps everything', async () => {
    const { world, stores } = await setUp('sdk-three-stores', STORES, WEEKS);
    const langsmith = await LangSmithApplication.write(stores.langsmith, TRAFFIC);
    const braintrust = await BraintrustApplication.write(stores.braintrust, TRAFFIC);
    const respan = await RespanApplication.write(stores.respan, TRAFFIC);
    for (const user of TRAFFIC.people) {
      expect(live(stores, user)).toEqual([TRACES, TRACES, TRACES]);
      expect(await langsmith.reads(user)).toMatchObject(ALL_RUNS);
      expect(await braintrust.reads(user)).toEqual({ spans: 3 * TRACES, dataset: 1, experiment: 1 });
    }

    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }] });

    assertSums(end);
    expect(end.status).toBe('verified');
    expect(end.exceptions).toEqual([]);
    const none = {
      pending: 0,
      survived: 0,
      shared: 0,
      linked: 0,
      newActivity: 0,
      inconclusive: 0,
      abandoned: 0,
      goneBeforeSubmit: 0,
    };
    for (const store of STORES) {
      expect(end.connections[store]?.traces).toEqual({ ...none, matched: TRACES, verifiedAbsent: TRACES });
      expect(end.connections[store]?.given).toMatchObject({ total: 0 });
      expect(end.connections[store]).toMatchObject({ round: 1, cleanReads: end.connections[store]?.cleanReadsWanted });
    }
    expect(end.connections['langsmith-prod']?.copies).toMatchObject({ found: 3, erased: 3, manual: 0 });
    expect(end.connections['respan-prod']?.copies).toMatchObject({ found: 1, erased: 1, manual: 0 });

    expect(live(stores, PERSON)).toEqual([0, 0, 0]);
    for (const { traceId, rowIds } of braintrust.of(PERSON)) {
      expect(stores.braintrust.truth.commentsOf(traceId)).toEqual([]);
      for (const rowId of rowIds) expect(stores.braintrust.truth.isRowLive(rowId)).toBe(false);
    }
    expect(await langsmith.reads(PERSON)).toEqual({ v1: [], v2: [], feedback: 0 });
    for (const { runIds } of langsmith.of(PERSON)) {
      for (const runId of runIds) expect(await langsmith.isReadable(runId)).toBe(false);
    }
    expect(await braintrust.reads(PERSON)).toEqual({ spans: 0, dataset: 0, experiment: 0 });
    for (const { traceId } of respan.of(PERSON)) {
      expect((await call(stores.respan, 'GET', `/api/traces/${traceId}/`)).status).toBe(404);
    }

    for (const user of OTHERS) {
      expect(live(stores, user)).toEqual([TRACES, TRACES, TRACES]);
      expect(await langsmith.reads(user)).toMatchObject(ALL_RUNS);
      expect(await braintrust.reads(user)).toEqual({ spans: 3 * TRACES, dataset: 1, experiment: 1 });
      for (const { traceId } of respan.of(user)) {
        expect((await call(stores.respan, 'GET', `/api/traces/${traceId}/`)).json).toMatchObject({ span_count: 2 });
      }
    }
    for (const { truth } of [stores.langsmith, stores.braintrust, stores.respan]) expect(truth.unasked()).toEqual([]);
    expect(stores.braintrust.truth.orphans()).toEqual([]);
  }, 60_000);

  test('P11, P16: ids that the application kept are told apart in each store, and foreign ones are never submitted', async () => {
    const { world, stores } = await setUp('sdk-known-ids', STORES, WEEKS);
    const langsmith = await LangSmithApplication.write(stores.langsmith, TRAFFIC);
    const braintrust = await BraintrustApplication.write(stores.braintrust, TRAFFIC);
    const respan = await RespanApplication.write(stores.respan, TRAFFIC);
    const [ours, foreign] = [langsmith.of(PERSON), langsmith.of('u_7')];
    const [rows, foreignRows] = [braintrust.of(PERSON), braintrust.of('u_7')];
    const [spans, foreignSpans] = [respan.of(PERSON), respan.of('u_7')];
    const unknown = randomUUID();
    const known: Record<Store, string[]> = {
      'langsmith-prod': [
        // A root, a child, a grandchild, of three traces; somebody else's child; a repeat; an id of nothing.
        ours[0]?.runIds[0] ?? '',
        ours[1]?.runIds[1] ?? '',
        ours[2]?.runIds[2] ?? '',
        foreign[0]?.runIds[1] ?? '',
        (ours[0]?.runIds[0] ?? '').toUpperCase(),
        unknown,
      ],
      'braintrust-prod': [
        // A root span id, row ids of a root and of a child; somebody else's row; span ids that are no row's; a project; nothing.
        rows[0]?.traceId ?? '',
        rows[1]?.rowIds[0] ?? '',
        rows[2]?.rowIds[1] ?? '',
        foreignRows[0]?.rowIds[2] ?? '',
        rows[0]?.spanIds[1] ?? '',
        foreignRows[1]?.spanIds[2] ?? '',
        stores.braintrust.project('chat').id,
        unknown,
      ],
      'respan-prod': [
        // Two traces; somebody else's; a customer; the client's id of a span, which the store keeps to itself; nothing.
        spans[0]?.traceId ?? '',
        spans[1]?.traceId ?? '',
        foreignSpans[0]?.traceId ?? '',
        'u_8',
        spans[2]?.spanIds[1] ?? '',
        unknown,
      ],
    };

    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }], known });

    assertSums(end);
    const given = (store: Store): unknown => end.connections[store]?.given;
    const all = { resolved: 4, neverMatched: 1, unresolved: 0, wrongKind: 0, duplicate: 0 };
    expect(given('langsmith-prod')).toEqual({ ...all, total: 6, duplicate: 1 });
    expect(given('braintrust-prod')).toEqual({ ...all, total: 8, wrongKind: 3 });
    expect(given('respan-prod')).toEqual({ ...all, total: 6, resolved: 3, neverMatched: 2, wrongKind: 1 });
    expect(end.status).toBe('verified-with-exceptions');
    const texts = (kind: string): Record<string, string> =>
      Object.fromEntries(end.exceptions.filter((one) => one.kind === kind).map((one) => [one.connection, one.text]));
    expect(texts('wrong-kind')).toEqual({
      'braintrust-prod': expect.stringMatching(/^3 given ids name no trace or run \((span, project|project, span)\)/),
      'respan-prod': expect.stringMatching(/^1 given id names no trace or run \(customer\)/),
    });
    expect(Object.keys(texts('foreign')).sort()).toEqual([...STORES].sort());
    for (const store of STORES) {
      expect(end.connections[store]?.traces).toMatchObject({ matched: TRACES, verifiedAbsent: TRACES });
    }
    expect(live(stores, PERSON)).toEqual([0, 0, 0]);
    for (const user of OTHERS) {
      expect(live(stores, user)).toEqual([TRACES, TRACES, TRACES]);
      for (const { runIds } of langsmith.of(user)) {
        for (const id of runIds) expect(stores.langsmith.truth.submissionsOf(id)).toEqual([]);
      }
      for (const { rowIds, spanIds } of braintrust.of(user)) {
        for (const id of [...rowIds, ...spanIds]) expect(stores.braintrust.truth.submissionsOf(id)).toEqual([]);
        for (const id of rowIds) expect(stores.braintrust.truth.isRowLive(id)).toBe(true);
      }
      for (const { traceId } of respan.of(user)) expect(stores.respan.truth.submissionsOf(traceId)).toEqual([]);
    }
    // A span id that is no row id names a row of the person all the same: it went as what it is, under its own id.
    expect(stores.braintrust.truth.submissionsOf(rows[0]?.spanIds[1] ?? '')).toEqual([]);
    expect(stores.braintrust.truth.isRowLive(rows[0]?.rowIds[1] ?? '')).toBe(false);
  }, 60_000);
});

describe('an application that goes on writing to what was deleted', () => {
  test('P1, P14: Braintrust: a late update and late feedback revive rows without user and trace, and are erased', async () => {
    const { world, stores } = await setUp('sdk-late-braintrust', ['braintrust-prod'], BETWEEN_READS['braintrust-prod']);
    const { truth } = stores.braintrust;
    const app = await BraintrustApplication.write(stores.braintrust, TRAFFIC);
    const [a, b, c] = app.of(PERSON);
    if (a === undefined || b === undefined || c === undefined) throw new Error('three traces were written');
    const person = [{ key: 'user_id', value: PERSON }];
    const erasure = await world.erase({ identifiers: [{ kind: 'user_id', value: PERSON }] });

    // After the delete, before any read.
    await rest(world, erasure, ({ status, connections }) => {
      return status === 'waiting' && connections['braintrust-prod']?.round === 1;
    });
    expect(await readsOf(world, erasure.requestId, 'braintrust-prod')).toEqual([]);
    expect(truth.remainsOf(person)).toEqual([]);
    app.update(a.exported[0] ?? '', 'a late thought');
    app.logger(b.project).logFeedback({ id: b.rowIds[1] ?? '', scores: { stars: 0 }, comment: 'on second thoughts' });
    await app.flush();
    expect(truth.tracesOf(person)).toEqual([]);
    expect(truth.remainsOf(person).sort()).toEqual([a.traceId, b.traceId].sort());
    expect(truth.isRowLive(b.rowIds[1] ?? '')).toBe(true);
    expect(truth.commentsOf(b.traceId)).toHaveLength(1);
    await world.client.release(erasure.requestId, BY);

    // After the first read that saw nothing more, before the one that would have ended it.
    await rest(world, erasure, ({ connections }) => {
      const lane = connections['braintrust-prod'];
      return lane?.round === 2 && lane.cleanReads === 1;
    });
    expect(await readsOf(world, erasure.requestId, 'braintrust-prod')).toEqual(['survivors', 'clean']);
    expect(truth.commentsOf(b.traceId)).toEqual([]);
    for (const id of [a.rowIds[0], b.rowIds[1]]) expect(truth.isRowLive(id ?? '')).toBe(false);
    app.update(c.exported[2] ?? '', 'a later thought');
    await app.flush();
    expect(truth.isRowLive(c.rowIds[2] ?? '')).toBe(true);
    expect(truth.tracesOf(person)).toEqual([]);
    await world.client.release(erasure.requestId, BY);

    const end = await erasure.result();
    expect(await readsOf(world, erasure.requestId, 'braintrust-prod')).toEqual([
      'survivors',
      'clean',
      'survivors',
      'clean',
      'clean',
    ]);
    assertSums(end);
    expect(end.connections['braintrust-prod']).toMatchObject({
      round: 3,
      cleanReads: 2,
      traces: { matched: TRACES, verifiedAbsent: TRACES, survived: 0 },
    });
    expect(end.exceptions).toEqual([]);
    for (const { rowIds, traceId } of app.of(PERSON)) {
      for (const id of rowIds) expect(truth.isRowLive(id)).toBe(false);
      expect(truth.commentsOf(traceId)).toEqual([]);
    }
    expect(await app.reads(PERSON)).toMatchObject({ spans: 0 });
    for (const user of OTHERS) {
      expect(truth.remainsOf([{ key: 'user_id', value: user }])).toHaveLength(TRACES);
      for (const { rowIds } of app.of(user)) for (const id of rowIds) expect(truth.submissionsOf(id)).toEqual([]);
    }
    expect([truth.unasked(), truth.orphans()]).toEqual([[], []]);
  }, 60_000);

  test('P1, P14: LangSmith: a late patch and a late child run that names nobody are erased in the weekends after', async () => {
    const { world, stores } = await setUp('sdk-late-langsmith', ['langsmith-prod'], BETWEEN_READS['langsmith-prod']);
    const { truth } = stores.langsmith;
    const app = await LangSmithApplication.write(stores.langsmith, TRAFFIC);
    const [a, b] = app.of(PERSON);
    if (a === undefined || b === undefined) throw new Error('traces were written');
    const traceIds = app.of(PERSON).map(({ root }) => root.id);
    const erasure = await world.erase({ identifiers: [{ kind: 'user_id', value: PERSON }] });

    // After the weekend's job, before any read.
    await world.until(erasure.requestId, ({ status }) => status === 'waiting');
    await happened(() => truth.deleted().length === TRACES);
    for (const id of traceIds) expect(truth.isLive(id)).toBe(false);
    expect(await readsOf(world, erasure.requestId, 'langsmith-prod')).toEqual([]);
    await a.root.end({ answer: 'a late thought' });
    await a.root.patchRun();
    await app.flush();
    expect(truth.isLive(a.root.id)).toBe(true);

    // After a read of the weekend after that saw nothing more.
    await rest(world, erasure, ({ connections }) => {
      const lane = connections['langsmith-prod'];
      return lane?.round === 2 && lane.cleanReads === 1;
    });
    expect(await readsOf(world, erasure.requestId, 'langsmith-prod')).toEqual(['survivors', 'clean']);
    expect(truth.isLive(a.root.id)).toBe(false);
    const lateId = randomUUID();
    await app.client.createRun({
      id: lateId,
      trace_id: b.root.id,
      parent_run_id: b.root.id,
      dotted_order: `${b.root.dotted_order}.20260101T000000000000Z${lateId}`,
      project_name: b.project,
      name: 'tool',
      run_type: 'tool',
      inputs: { question: 'a later thought' },
    });
    await app.flush();
    expect(truth.isLive(b.root.id)).toBe(true);
    expect(await app.isReadable(lateId)).toBe(true);
    expect(truth.tracesOf([{ key: 'user_id', value: PERSON }])).toEqual([]);
    await world.client.release(erasure.requestId, BY);

    const end = await erasure.result();
    expect(await readsOf(world, erasure.requestId, 'langsmith-prod')).toEqual([
      'survivors',
      'clean',
      'survivors',
      'clean',
      'clean',
    ]);
    assertSums(end);
    expect(end.connections['langsmith-prod']).toMatchObject({
      round: 3,
      traces: { matched: TRACES, verifiedAbsent: TRACES, survived: 0 },
    });
    expect(end.exceptions).toEqual([]);
    expect(traceIds.map((id) => truth.submissionsOf(id).length)).toEqual([2, 2, 1]);
    for (const id of traceIds) expect(truth.isLive(id)).toBe(false);
    expect(await app.isReadable(lateId)).toBe(false);
    for (const user of OTHERS) {
      expect(truth.tracesOf([{ key: 'user_id', value: user }])).toHaveLength(TRACES);
      for (const { root } of app.of(user)) expect(truth.submissionsOf(root.id)).toEqual([]);
    }
    expect(truth.unasked()).toEqual([]);
  }, 60_000);

  test('P1, P14: Respan: spans that a running workflow sends after its trace was deleted are erased, named or not', async () => {
    const { world, stores } = await setUp('sdk-late-respan', ['respan-prod'], BETWEEN_READS['respan-prod']);
    const { truth } = stores.respan;
    const app = await RespanApplication.write(stores.respan, TRAFFIC);
    const [named, nameless] = [await app.begin(PERSON, true), await app.begin(PERSON, false)];
    const theirs = await app.begin('u_7', true);
    const person = [{ key: 'customer_identifier', value: PERSON }];
    expect(truth.tracesOf(person)).toHaveLength(TRACES + 2);
    const erasure = await world.erase({ identifiers: [{ kind: 'user_id', value: PERSON }] });

    // After the delete took effect, before any read.
    await rest(world, erasure, ({ status, connections }) => {
      return status === 'waiting' && connections['respan-prod']?.round === 1;
    });
    expect(await readsOf(world, erasure.requestId, 'respan-prod')).toEqual([]);
    await happened(() => truth.tracesOf(person).length === 0);
    await nameless.end();
    expect(truth.isLive(nameless.traceId)).toBe(true);
    expect(truth.tracesOf(person)).toEqual([]);
    await world.client.release(erasure.requestId, BY);

    // After the first read that saw nothing more.
    await rest(world, erasure, ({ connections }) => {
      const lane = connections['respan-prod'];
      return lane?.round === 2 && lane.cleanReads === 1;
    });
    expect(await readsOf(world, erasure.requestId, 'respan-prod')).toEqual(['survivors', 'clean']);
    expect(truth.isLive(nameless.traceId)).toBe(false);
    await named.end();
    await theirs.end();
    expect(truth.tracesOf(person)).toEqual([named.traceId]);
    await world.client.release(erasure.requestId, BY);

    const end = await erasure.result();
    expect(await readsOf(world, erasure.requestId, 'respan-prod')).toEqual([
      'survivors',
      'clean',
      'survivors',
      'clean',
      'clean',
    ]);
    assertSums(end);
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(end.connections['respan-prod']).toMatchObject({
      round: 3,
      traces: { matched: TRACES + 2, verifiedAbsent: TRACES + 2 },
      copies: { found: 1, erased: 1 },
    });
    for (const { traceId } of [...app.of(PERSON), named, nameless]) {
      expect(truth.isLive(traceId)).toBe(false);
      expect((await call(stores.respan, 'GET', `/api/traces/${traceId}/`)).status).toBe(404);
    }
    expect(
      truth
        .customerRecords()
        .map(({ customerIdentifier }) => customerIdentifier)
        .sort(),
    ).toEqual([...OTHERS].sort());
    for (const user of OTHERS) {
      const mine = truth.tracesOf([{ key: 'customer_identifier', value: user }]);
      expect(mine).toHaveLength(user === 'u_7' ? TRACES + 1 : TRACES);
      for (const id of mine) expect(truth.submissionsOf(id)).toEqual([]);
    }
    expect(truth.unasked()).toEqual([]);
  }, 60_000);
});
