import { describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConfigInput } from '../src/config/config.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import type { LangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { HOUR_MS } from '../src/erasure/rhythm.ts';
import type { LooseRow, TraceStore } from '../src/stores/port.ts';
import { LaneSteps, RECEIVED } from './support/lane-steps.ts';
import { KEY, ScriptedStore, rowOf } from './support/scripted-store.ts';
import { CONNECTION, World, type WorldOptions } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const PERSON = 'u_42';
const OTHER = 'u_7';

/** Side by side: most of their time they wait for a weekend. */
function story(name: string, options: WorldOptions, body: (world: World) => Promise<void>): void {
  test.concurrent(
    name,
    async () => {
      const world = await World.start(name, options);
      try {
        await body(world);
        expect(world.sim.truth.unasked()).toEqual([]);
      } finally {
        await world.close();
      }
    },
    240_000,
  );
}

async function http(sim: LangSmithSimulator, method: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(`${sim.url}${path}`, {
    method,
    headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  return text === '' ? null : JSON.parse(text);
}

interface Copied {
  readonly dataset: string;
  readonly queue: string;
  readonly examples: Readonly<Record<string, string>>;
  /** When all of them were there. */
  readonly atMs: number;
}

/** One example, share, queue entry and comment of a trace of each person. */
async function copyAll(sim: LangSmithSimulator, traces: Readonly<Record<string, string>>): Promise<Copied> {
  const session = sim.project('chat').id;
  const { id: dataset } = (await http(sim, 'POST', '/api/v1/datasets', { name: `d-${randomUUID()}` })) as {
    id: string;
  };
  const { id: queue } = (await http(sim, 'POST', '/api/v1/annotation-queues', { name: 'q' })) as { id: string };
  const examples: Record<string, string> = {};
  for (const [person, run] of Object.entries(traces)) {
    const made = await http(sim, 'POST', '/api/v1/examples', {
      dataset_id: dataset,
      inputs: { q: person },
      metadata: { user_id: person },
      source_run_id: run,
    });
    examples[person] = (made as { id: string }).id;
    await http(sim, 'POST', `/api/v2/runs/${run}/share`, { session_id: session, trace_id: run });
    await http(sim, 'POST', `/api/v1/platform/annotation-queues/${queue}/items`, {
      items: [{ item_type: 'RUN', run_id: run, project_id: session }],
    });
    await http(sim, 'POST', '/api/v1/feedback', { run_id: run, key: 'k', score: 1, comment: 'c', session_id: session });
  }
  return { dataset, queue, examples, atMs: sim.now() };
}

/** What is left of a person's copies, as the store itself tells. */
async function left(sim: LangSmithSimulator, copied: Copied, person: string, run: string) {
  const query = new URLSearchParams([
    ['id', copied.examples[person] ?? ''],
    ['select', 'inputs'],
    // A soft delete leaves this version readable.
    ['as_of', new Date(copied.atMs).toISOString()],
  ]);
  const examples = (await http(sim, 'GET', `/api/v1/examples?${query.toString()}`)) as { inputs: unknown }[];
  const shared = (await http(sim, 'GET', '/api/v1/workspaces/current/shared')) as { entities: { run_id?: string }[] };
  const items = (await http(
    sim,
    'GET',
    `/api/v1/platform/annotation-queues/${copied.queue}/items?status=needs_my_review`,
  )) as { items: { run_id?: string }[] };
  const feedback = (await http(sim, 'GET', `/api/v1/feedback?run=${run}`)) as unknown[];
  return {
    example: examples.some(({ inputs }) => inputs !== null && inputs !== undefined),
    share: shared.entities.some(({ run_id: of }) => of === run),
    item: items.items.some(({ run_id: of }) => of === run),
    feedback: feedback.length > 0,
  };
}

const ALL = { example: true, share: true, item: true, feedback: true };
const NONE = { example: false, share: false, item: false, feedback: false };

function assertSums(status: RequestStatus): void {
  for (const { given, traces, copies } of Object.values(status.connections)) {
    expect(imbalances({ given, traces, copies })).toEqual([]);
  }
}

/** Seeds the person and others, and copies a trace of the person and of one of the others. */
async function setUp(world: World) {
  const seeded = world.seed([PERSON, OTHER, 'u_8'], 2);
  const [ours = ''] = seeded.get(PERSON) ?? [];
  const [theirs = ''] = seeded.get(OTHER) ?? [];
  const copied = await copyAll(world.sim, { [PERSON]: ours, [OTHER]: theirs });
  return { ours, theirs, copied };
}

/** An example that was made from the person's trace and names somebody else: nobody's call may take it. */
async function mixedExample(world: World, ours: string, dataset: string): Promise<string> {
  const made = await http(world.sim, 'POST', '/api/v1/examples', {
    dataset_id: dataset,
    inputs: { q: 'both' },
    metadata: { user_id: OTHER },
    source_run_id: ours,
  });
  return (made as { id: string }).id;
}

const waiting = (waitForTasks: string): WorldOptions => ({
  config: (config: ConfigInput) => ({ ...config, policy: { ...config.policy, waitForTasks } }),
});

describe('copies', () => {
  story(
    'P22 P29 P35: are erased by calls that name them alone, in order, and those of others stay',
    {},
    async (world) => {
      const { ours, theirs, copied } = await setUp(world);
      expect(await left(world.sim, copied, PERSON, ours)).toEqual(ALL);
      world.sim.ledger.reset();

      const end = await world.eraseToEnd();

      expect(end.status).toBe('verified');
      assertSums(end);
      expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 4, erased: 4, manual: 0 });
      expect(end.connections[CONNECTION]?.tasks).toBeUndefined();
      expect(await left(world.sim, copied, PERSON, ours)).toEqual(NONE);
      expect(await left(world.sim, copied, OTHER, theirs)).toEqual(ALL);
      expect(world.liveTraces(OTHER)).toHaveLength(2);

      const routes = world.sim.ledger.list({ family: 'deletes' }).map(({ route }) => route);
      const at = (part: string): number => routes.findIndex((route) => route.includes(part));
      // Shares and queue entries go before their trace; what a trace takes along is not called for again.
      expect(at('/share')).toBeLessThan(at('/runs/delete'));
      expect(at('/items/delete')).toBeLessThan(at('/runs/delete'));
      expect(at('/examples/delete')).toBeGreaterThan(at('/runs/delete'));
      expect(at('/feedback')).toBe(-1);
      for (const entry of world.sim.ledger.list({ family: 'deletes' })) {
        expect(JSON.stringify(entry.ids)).not.toContain(theirs);
        expect(JSON.stringify(entry.ids)).not.toContain(copied.examples[OTHER]);
      }

      // The record tells each call and each read, without ids.
      const record = await world.record(end.requestId);
      const entries = (record.lanes[CONNECTION]?.entries ?? []).map(({ entry }) => entry);
      const erased = entries.flatMap((entry) => ('erasures' in entry ? (entry.erasures ?? []) : []));
      expect(erased.map(({ kind, count, status }) => [kind, count, status]).sort()).toEqual([
        ['annotation-queue-entries', 1, 200],
        ['dataset-examples', 1, 200],
        ['public-shares', 1, 204],
      ]);
      for (const { requestIds, sentAt, acknowledgedAt } of erased) {
        expect(requestIds).toHaveLength(1);
        expect(Date.parse(acknowledgedAt ?? '')).toBeGreaterThanOrEqual(Date.parse(sentAt ?? ''));
      }
      const lastRead = entries.findLast((entry) => entry.kind === 'read');
      expect(lastRead?.reports.some(({ purpose }) => purpose === 'copies')).toBe(true);
      const text = JSON.stringify(record);
      for (const id of [ours, copied.examples[PERSON] ?? '-', PERSON]) expect(text).not.toContain(id);
    },
  );

  for (const copyDeletes of ['ignored', 'soft'] as const) {
    story(
      `P1 P2: deletes that answer success (${copyDeletes}) prove nothing: tried again, then somebody's task`,
      {},
      async (world) => {
        const { ours, theirs, copied } = await setUp(world);
        world.sim.habits.set({ copyDeletes: { how: copyDeletes }, keepShares: true, keepFeedback: true });
        world.sim.ledger.reset();
        const end = await world.eraseToEnd();
        expect(end.status).toBe('verified-with-exceptions');
        assertSums(end);
        const kinds = copyDeletes === 'ignored' ? 4 : 1;
        expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 4, manual: kinds, erased: 4 - kinds });
        expect(end.exceptions).toMatchObject([{ kind: 'manual-copies', count: kinds }]);
        expect(end.connections[CONNECTION]?.tasks).toHaveLength(kinds);
        const tries = world.sim.ledger
          .list({ family: 'deletes' })
          .filter(({ route }) => route.includes('/examples/delete'));
        expect(tries.length).toBe(3);
        expect((await left(world.sim, copied, PERSON, ours)).example).toBe(true);
        expect(await left(world.sim, copied, OTHER, theirs)).toEqual(ALL);
      },
    );
  }

  story('P22: a call that did nothing once is made again by the next read', {}, async (world) => {
    const { ours, copied } = await setUp(world);
    const deletesExamples = '/api/v1/platform/datasets/examples/delete';
    world.sim.habits.set({ copyDeletes: { how: 'ignored', count: 1, on: [deletesExamples] } });
    world.sim.ledger.reset();
    const end = await world.eraseToEnd();
    expect(end.status).toBe('verified');
    const calls = world.sim.ledger
      .list({ family: 'deletes' })
      .filter(({ route }) => route.includes('/examples/delete'));
    expect(calls.map(({ ids }) => ids)).toEqual([[copied.examples[PERSON]], [copied.examples[PERSON]]]);
    expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 4, erased: 4 });
    expect(await left(world.sim, copied, PERSON, ours)).toEqual(NONE);
  });

  story('P22: an example that names somebody else too is a task and never called for', {}, async (world) => {
    const { ours, copied } = await setUp(world);
    const mixed = await mixedExample(world, ours, copied.dataset);
    world.sim.ledger.reset();
    const end = await world.eraseToEnd();
    expect(end.status).toBe('verified-with-exceptions');
    assertSums(end);
    expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 5, erased: 4, manual: 1 });
    const deletes = world.sim.ledger.list({ family: 'deletes' });
    expect(deletes.some(({ ids }) => ids?.includes(mixed) === true)).toBe(false);
    const [task] = end.connections[CONNECTION]?.tasks ?? [];
    expect(task).toMatchObject({ kind: 'dataset-examples', count: 1, where: `dataset ${copied.dataset}` });
    expect(JSON.stringify(task)).not.toContain(mixed);
    // Only whoever has the vault sees which copies are meant.
    const hidden = await world.client.tasks(end.requestId);
    expect(hidden).toMatchObject([{ id: task?.id, state: 'open', connection: CONNECTION }]);
    expect(JSON.stringify(hidden)).not.toContain(mixed);
    const [revealed] = await world.client.tasks(end.requestId, { reveal: true });
    expect(revealed?.ids).toEqual([expect.stringContaining(mixed)]);
  });

  story('P22: a key that may not withdraw links erases the traces all the same, and says so', {}, async (world) => {
    const { ours, copied } = await setUp(world);
    world.sim.habits.set({
      keepShares: true,
      serverErrors: { status: 403, on: ['/api/v2/runs/{id}/share'] },
    });
    const end = await world.eraseToEnd();
    expect(world.liveTraces(PERSON)).toEqual([]);
    expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 4, erased: 3, manual: 1 });
    expect(end.connections[CONNECTION]?.tasks).toMatchObject([{ kind: 'public-shares', count: 1 }]);
    expect((await left(world.sim, copied, PERSON, ours)).share).toBe(true);
  });

  story('P14 P22: copies of a trace that is kept are kept with it', {}, async (world) => {
    world.seed([PERSON, OTHER, 'u_8'], 2);
    const [shared] = world.sim.seed({
      project: 'chat',
      traces: [{ runs: [{ metadata: { user_id: PERSON } }, { metadata: { user_id: OTHER } }] }],
    });
    const trace = shared?.traceId ?? '';
    const copied = await copyAll(world.sim, { [PERSON]: trace });
    const end = await world.eraseToEnd();
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ shared: 1, verifiedAbsent: 2 });
    assertSums(end);
    expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 4, erased: 0, manual: 4 });
    expect(await left(world.sim, copied, PERSON, trace)).toEqual(ALL);
    expect(world.sim.truth.isLive(trace)).toBe(true);
  });
});

/** A store with data beside its traces: what its only finder shows, and which of it a call was made for. */
class LooseStore {
  readonly scripted: ScriptedStore;
  readonly called: string[] = [];
  readonly store: TraceStore;
  loose: readonly LooseRow[] = [];

  constructor(ours: readonly { readonly traceId: string; readonly startMs: number }[]) {
    const kind = { kind: 'records', text: '', examined: true, goesWithTrace: false, erasable: true };
    this.scripted = new ScriptedStore(
      [
        ...ours.map(({ traceId, startMs }) => rowOf(traceId, PERSON, { startMs })),
        rowOf('a', OTHER),
        rowOf('b', 'u_8'),
      ],
      { copyMap: [{ ...kind, erasedWhen: 'after' }] },
    );
    const { store } = this.scripted;
    this.scripted.after = ({ what }, read) => (what === 'find' ? { ...read, loose: this.loose } : read);
    this.store = {
      ...store,
      copies: () => Promise.resolve({ copies: [], outOfReach: [], notExamined: [], reports: [] }),
      lookupCopies: (copies) => {
        const there = new Set(this.loose.map(({ id }) => id));
        return Promise.resolve({ left: copies.filter(({ id }) => there.has(id)), reports: [] });
      },
      eraseCopies: (copies) => {
        this.called.push(...copies.map(({ id }) => id));
        this.loose = this.loose.filter(({ id }) => !copies.some((copy) => copy.id === id));
        return Promise.resolve({ reports: [] });
      },
    };
  }

  row(id: string, startMs?: number): LooseRow {
    const persons = [{ kind: 'user_id', key: KEY, text: PERSON, numeric: false }];
    return { kind: 'records', id, persons, ...(startMs === undefined ? {} : { startMs }) };
  }
}

describe('data beside the traces', () => {
  const OLD = RECEIVED - HOUR_MS;
  const LATER = RECEIVED + 2 * HOUR_MS;
  const fates = async (steps: LaneSteps, ref: Parameters<LaneSteps['book']>[0]) =>
    Object.fromEntries((await steps.book(ref)).copies.map(({ id, state }) => [id, state]));

  test('P21 P22: of new activity it is never called for; what has no date is not either, once there is any', async () => {
    const at = new LooseStore([{ traceId: 'own', startMs: OLD }]);
    at.loose = [at.row('old', OLD), at.row('later', LATER), at.row('undated')];
    await LaneSteps.over(at.store, async (steps) => {
      const plan = await steps.resolve();
      expect(await fates(steps, plan.book)).toEqual({ old: 'inconclusive', later: 'manual', undated: 'inconclusive' });
      await steps.remove(plan.book);
      // Gone, and the person has come back meanwhile.
      at.scripted.rows = [...at.scripted.rows.slice(1), rowOf('again', PERSON, { startMs: LATER })];
      at.loose = [...at.loose, at.row('latest', LATER)];
      const read = await steps.verify(plan.book);
      expect(read).toMatchObject({ kind: 'clean', counted: true, traces: { newActivity: 1, pending: 1 } });
      expect(at.called).toEqual(['old']);
      expect(at.loose.map(({ id }) => id)).toEqual(['later', 'undated', 'latest']);
      expect(await fates(steps, read.book)).toMatchObject({ later: 'manual', undated: 'manual', latest: 'manual' });
    });
  });

  test('P21 P22: what has no date is left to people when the plan shows new activity already', async () => {
    const at = new LooseStore([
      { traceId: 'own', startMs: OLD },
      { traceId: 'again', startMs: LATER },
    ]);
    at.loose = [at.row('old', OLD), at.row('undated')];
    await LaneSteps.over(at.store, async (steps) => {
      const plan = await steps.resolve();
      expect(plan.traces).toMatchObject({ pending: 1, newActivity: 1 });
      expect(await fates(steps, plan.book)).toEqual({ old: 'inconclusive', undated: 'manual' });
      await steps.remove(plan.book);
      at.scripted.rows = at.scripted.rows.slice(1);
      const read = await steps.verify(plan.book);
      expect(read).toMatchObject({ kind: 'clean', counted: true });
      expect(at.called).toEqual(['old']);
    });
  });
});

describe('manual tasks', () => {
  story('P1 P22: a word given before the end is told as a word, never as proof', {}, async (world) => {
    const { ours, copied } = await setUp(world);
    await mixedExample(world, ours, copied.dataset);
    const { requestId } = await world.erase();
    const open = await world.until(requestId, ({ status }) => status === 'waiting');
    const [task] = open.connections[CONNECTION]?.tasks ?? [];
    expect(task).toMatchObject({ kind: 'dataset-examples', count: 1 });
    const id = task?.id ?? '';

    const none = await world.client.attest(requestId, { ...BY, task: 'ffffffffffff' });
    expect(none).toMatchObject({ delivered: 'none', text: expect.stringContaining('no such task') });
    const [without] = await world.client.send('attest', requestId, BY);
    expect(without).toMatchObject({ delivered: 'none', text: expect.stringContaining('must name a manual task') });
    await expect(world.client.send('retry', requestId, { ...BY, task: id })).rejects.toThrow(/unknown field "task"/);

    const taken = await world.client.attest(requestId, { ...BY, task: id });
    expect(taken).toMatchObject({ delivered: 'update', text: expect.stringContaining('your word') });
    const after = await world.client.status(requestId);
    assertSums(after);
    expect(after.connections[CONNECTION]?.copies).toMatchObject({ manual: 0, attested: 1 });
    const again = await world.client.attest(requestId, { ...BY, task: id });
    expect(again).toMatchObject({ delivered: 'none', text: expect.stringContaining('attested already') });

    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified-with-exceptions');
    assertSums(end);
    expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 5, erased: 4, manual: 0, attested: 1 });
    expect(end.exceptions).toMatchObject([
      { kind: 'attested-copies', count: 1, text: expect.stringContaining('on the word of ines') },
    ]);
    const record = await world.record(requestId);
    expect(record.outcome?.verbs).toMatchObject([{ verb: 'attest', ...BY, task: id, applied: true }]);
    expect(record.outcome?.lanes[CONNECTION]?.tasks).toMatchObject([{ id, attested: 1, attestedBy: 'ines' }]);
  });

  story('P35: a word given after the end goes beside the sealed record, which stays as it is', {}, async (world) => {
    const { ours, copied } = await setUp(world);
    await mixedExample(world, ours, copied.dataset);
    const end = await world.eraseToEnd();
    const { requestId } = end;
    const [task] = end.connections[CONNECTION]?.tasks ?? [];
    const id = task?.id ?? '';
    const sealed = await world.record(requestId);
    const file = join(world.stateDir, 'records', requestId, 'record.json');
    const bytes = await readFile(file);

    const [refused] = await world.client.send('attest', requestId, { ...BY, task: id });
    expect(refused).toMatchObject({ delivered: 'none', text: expect.stringContaining('has ended') });
    expect(await world.client.attest(requestId, { ...BY, task: 'ffffffffffff' })).toMatchObject({ delivered: 'none' });
    const added = await world.client.attest(requestId, { ...BY, task: id });
    expect(added).toMatchObject({ delivered: 'record', text: expect.stringContaining('beside its record') });
    expect(await world.client.attest(requestId, { ...BY, task: id })).toMatchObject({ delivered: 'none' });

    const now = await world.record(requestId);
    expect(now.digest).toBe(sealed.digest);
    expect(await readFile(file)).toEqual(bytes);
    expect(now.addenda?.map(({ addendum }) => addendum)).toMatchObject([
      { kind: 'attestation', ...BY, connection: CONNECTION, task: id, copies: { kind: 'dataset-examples', count: 1 } },
    ]);
    expect((await world.client.status(requestId)).status).toBe('verified-with-exceptions');
    expect(await world.client.tasks(requestId)).toMatchObject([{ id, state: 'attested', attestedBy: 'ines' }]);
  });

  story(
    'P24 P35: the id of a request that joined names the same tasks, before and after the end',
    {},
    async (world) => {
      const { ours, copied } = await setUp(world);
      await mixedExample(world, ours, copied.dataset);
      const { requestId } = await world.erase();
      const identifiers = [
        { kind: 'user_id', value: PERSON },
        { kind: 'email', value: 'ann@x.org' },
      ];
      const second = await world.erase({ requestId: 'second', identifiers, join: 'extend' });
      expect(second).toMatchObject({ requestId: 'second', joined: true });
      const end = await world.client.result(requestId);
      expect(end.joinedRequests).toMatchObject([{ requestId: 'second' }]);
      const [task] = end.connections[CONNECTION]?.tasks ?? [];
      const id = task?.id ?? '';
      const [revealed] = await world.client.tasks('second', { reveal: true });
      expect(revealed).toMatchObject({ id, state: 'open', ids: [expect.any(String)] });
      expect(await world.client.attest('second', { ...BY, task: id })).toMatchObject({ delivered: 'record' });
      for (const name of ['second', requestId]) {
        expect(await world.client.tasks(name)).toMatchObject([{ id, state: 'attested', attestedBy: 'ines' }]);
      }
      const packet = await world.client.supportPacket('second', {
        directory: join(world.stateDir, 'p'),
        allTraces: true,
      });
      expect(packet.files).toMatchObject([{ connection: CONNECTION, traces: 2 }]);
      expect((await world.record(requestId)).addenda).toHaveLength(1);
    },
  );

  story(
    'policy.waitForTasks keeps a lane open until the last word, and then it reads again',
    waiting('60 d'),
    async (world) => {
      const { ours, copied } = await setUp(world);
      await mixedExample(world, ours, copied.dataset);
      const { requestId } = await world.erase();
      const open = await world.until(
        requestId,
        ({ connections, endedAt }) => endedAt !== null || connections[CONNECTION]?.attention?.reason === 'manual-tasks',
      );
      expect(open.endedAt).toBeNull();
      expect(open.status).toBe('needs-operator');
      assertSums(open);
      const lane = open.connections[CONNECTION];
      expect(lane?.attention?.next).toContain('lethe attest');
      // Not filed as proven while reads go on: what comes back now is still looked for.
      expect(lane?.traces).toMatchObject({ matched: 2, pending: 2, verifiedAbsent: 0 });
      const taken = await world.client.attest(requestId, { ...BY, task: lane?.tasks?.[0]?.id ?? '' });
      expect(taken.text).toContain('reads once more');
      const asked = world.now();
      const end = await world.client.result(requestId);
      expect(end.status).toBe('verified-with-exceptions');
      assertSums(end);
      expect(end.exceptions.map(({ kind }) => kind)).toEqual(['attested-copies']);
      expect(end.connections[CONNECTION]?.traces).toMatchObject({ verifiedAbsent: 2 });
      expect(Date.parse(end.endedAt ?? '') - asked).toBeLessThan(30 * 86_400_000);
    },
  );

  story(
    'policy.waitForTasks: when the wait is over the lane ends with the task open',
    waiting('10 d'),
    async (world) => {
      const { ours, copied } = await setUp(world);
      await mixedExample(world, ours, copied.dataset);
      const { requestId } = await world.erase();
      const open = await world.until(
        requestId,
        ({ connections, endedAt }) => endedAt !== null || connections[CONNECTION]?.attention?.reason === 'manual-tasks',
      );
      expect(open.endedAt).toBeNull();
      const end = await world.client.result(requestId);
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.exceptions).toMatchObject([{ kind: 'manual-copies', count: 1 }]);
      const since = Date.parse(open.connections[CONNECTION]?.attention?.since ?? '');
      expect(Date.parse(end.endedAt ?? '') - since).toBeGreaterThanOrEqual(10 * 86_400_000);
    },
  );
});

describe('the support packet', () => {
  story('P31: holds what the store knows of the survivors, in files of the owner alone', {}, async (world) => {
    const seeded = world.seed([PERSON, OTHER, 'u_8'], 3);
    world.sim.habits.set({ skipWeekends: Infinity });
    const { requestId } = await world.erase();
    await world.until(requestId, ({ connections }) => (connections[CONNECTION]?.traces.survived ?? 0) === 3);
    await world.client.abandon(requestId, BY);
    await world.client.result(requestId);

    const directory = join(world.stateDir, 'packet');
    const packet = await world.client.supportPacket(requestId, { directory });
    expect(packet.files).toMatchObject([{ connection: CONNECTION, traces: 3 }]);
    const path = packet.files[0]?.path ?? '';
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const content = JSON.parse(await readFile(path, 'utf8')) as {
      warning: string;
      projects: { id: string }[];
      traces: {
        traceId: string;
        projectId: string;
        rowsAtLatestRead: number;
        submitted: { sentAt: string; requestId: string }[];
      }[];
      deleteCalls: { requestId: string; traceIds: string[] }[];
    };
    const ours = [...(seeded.get(PERSON) ?? [])].sort();
    expect(content.warning).toContain('ids of one person');
    expect(content.projects.map(({ id }) => id)).toEqual([world.sim.project('chat').id]);
    expect(content.traces.map(({ traceId }) => traceId).sort()).toEqual(ours);
    for (const { traceId, rowsAtLatestRead, submitted } of content.traces) {
      expect(world.sim.truth.isLive(traceId)).toBe(true);
      expect(rowsAtLatestRead).toBe(3);
      const truth = world.sim.truth.submissionsOf(traceId);
      expect(submitted.length).toBe(truth.length);
      for (const [at, { sentAt }] of submitted.entries()) {
        expect(Date.parse(sentAt)).toBeLessThanOrEqual(truth[at]?.atMs ?? 0);
      }
    }
    const asked = world.sim.ledger.list({ family: 'deletes' }).length;
    expect(content.deleteCalls).toHaveLength(asked);
    for (const id of seeded.get(OTHER) ?? []) expect(JSON.stringify(content)).not.toContain(id);

    await rm(join(world.stateDir, 'vault', requestId, 'key.json'));
    await expect(world.client.supportPacket(requestId, { directory })).rejects.toThrow(/No support packet can be made/);
  });

  story('of a request without survivors has no file, unless all traces are wanted', {}, async (world) => {
    const seeded = world.seed([PERSON, OTHER, 'u_8'], 2);
    const end = await world.eraseToEnd();
    const directory = join(world.stateDir, 'packet');
    const none = await world.client.supportPacket(end.requestId, { directory });
    expect(none.files).toEqual([]);
    expect(none.left).toMatchObject([{ connection: CONNECTION, why: expect.stringContaining('none of its traces') }]);
    const all = await world.client.supportPacket(end.requestId, { directory, allTraces: true });
    expect(all.files).toMatchObject([{ connection: CONNECTION, traces: 2 }]);
    const text = await readFile(all.files[0]?.path ?? '', 'utf8');
    for (const id of seeded.get(PERSON) ?? []) expect(text).toContain(id);
    for (const id of seeded.get(OTHER) ?? []) expect(text).not.toContain(id);
  });
});
