/* eslint-disable @typescript-eslint/no-deprecated -- v1 ends on 31 January 2027; until then its SDK calls must work here */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { RunTree } from 'langsmith';
import { traceable } from 'langsmith/traceable';
import { compileFilter, FilterError } from '../src/simulators/langsmith/filter.ts';
import type { LangSmithSimulator, SeededPerson, SeededTrace } from '../src/simulators/langsmith/index.ts';
import {
  ADA,
  call,
  collect,
  DAY,
  EPOCH,
  flush,
  HOUR,
  people,
  remove,
  sdk,
  start,
  stopAll,
  UNKNOWN,
  v1Traces,
  v2,
  v2Traces,
  wednesday,
  type Reply,
} from './support/langsmith-simulator.ts';

afterEach(stopAll);

describe('what the official SDK writes and reads', () => {
  test.each([
    ['gzip multipart', {}, '/api/v1/runs/multipart'],
    ['plain multipart', { instanceFlags: { gzip_body_enabled: false } }, '/api/v1/runs/multipart'],
    ['zstd multipart', { instanceFlags: { zstd_compression_enabled: true } }, '/api/v1/runs/multipart'],
    [
      'batches where multipart is missing',
      { multipart: false, instanceFlags: { gzip_body_enabled: false } },
      '/api/v1/runs/batch',
    ],
  ] as const)('a nested trace by %s', async (_name, options, route) => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    const sim = await start(options);
    const client = sdk(sim);
    const model = traceable((text: string) => `${text}!`, { name: 'model', run_type: 'llm', tags: ['gpt'] });
    const answer = traceable(async (text: string) => model(text), {
      name: 'answer',
      client,
      project_name: 'chat',
      tracingEnabled: true,
      metadata: { user_id: 'ada', plan: 7, session_id: 'thread-1' },
    });
    expect(await answer('hello')).toBe('hello!');
    await flush(client);

    expect(sim.ledger.count({ route, status: 202 })).toBeGreaterThan(0);
    const project = await client.readProject({ projectName: 'chat' });
    const old = await collect(client.listRuns({ projectName: 'chat' }));
    expect(old.map((run) => run.name).sort()).toEqual(['answer', 'model']);
    const root = old.find((run) => run.name === 'answer')!;
    const child = old.find((run) => run.name === 'model')!;
    expect(child).toMatchObject({
      trace_id: root.id,
      parent_run_id: root.id,
      parent_run_ids: [root.id],
      tags: ['gpt'],
    });
    expect(root.outputs).toEqual({ outputs: 'hello!' });
    expect(child.extra?.['metadata']).toMatchObject({ user_id: 'ada', plan: 7 });

    const window = { min_start_time: EPOCH };
    const query = {
      project_ids: [project.id],
      filter: ADA,
      selects: ['ID', 'METADATA', 'THREAD_ID', 'STATUS'] as const,
    };
    const items = await collect(client.runs.query({ ...query, ...window, selects: [...query.selects] }));
    expect(items).toHaveLength(2);
    expect(items[0]).toMatchObject({ thread_id: 'thread-1', status: 'SUCCESS', metadata: { plan: 7 } });
    const traces = await collect(client.traces.query({ project_id: project.id, trace_ids: [root.id], ...window }));
    expect(traces.map((trace) => trace.root_run?.id)).toEqual([root.id]);
    const inside = await client.traces.listRuns(root.id, { project_id: project.id, selects: ['ID', 'IS_ROOT'] });
    expect(inside.items).toEqual([
      { id: root.id, is_root: true },
      { id: child.id, is_root: false },
    ]);
    const one = await client.runs.retrieve(child.id, { project_id: project.id, selects: ['NAME', 'PARENT_RUN_IDS'] });
    expect(one).toEqual({ name: 'model', parent_run_ids: [root.id] });
    const thread = await collect(client.threads.listTraces('thread-1', { project_id: project.id }));
    expect(thread.map((turn) => turn.trace_id)).toEqual([root.id]);
    expect(sim.truth.tracesOf([{ key: 'user_id', value: 'ada' }])).toEqual([root.id]);
    warn.mockRestore();
  });

  test('single posts and patches', async () => {
    const sim = await start();
    const client = sdk(sim, { autoBatchTracing: false });
    const tree = new RunTree({ name: 'job', client, project_name: 'jobs', inputs: { a: 1 } });
    await tree.postRun();
    expect((await client.readRun(tree.id)).status).toBe('pending');
    await tree.end({ b: 2 });
    await tree.patchRun();
    expect(await client.readRun(tree.id)).toMatchObject({ status: 'success', outputs: { b: 2 }, inputs: { a: 1 } });
    expect(sim.ledger.count({ route: '/api/v1/runs' })).toBe(1);
    expect(sim.ledger.count({ route: '/api/v1/runs/{id}', method: 'PATCH' })).toBe(1);
  });

  test('feedback, alone and in a multipart body', async () => {
    const sim = await start();
    const { ada, bob, chat } = people(sim);
    const client = sdk(sim);
    const runId = ada.traceIds[0]!;
    await client.createFeedback(runId, 'stars', { score: 4, comment: 'ada says hi', sessionId: chat });
    await client.createFeedback(bob.traceIds[0]!, 'stars', { score: 1, sessionId: chat, traceId: bob.traceIds[0]! });
    await flush(client);

    const mine = await collect(client.listFeedback({ runIds: [runId] }));
    expect(mine.map((one) => [one.key, one.score, one.comment])).toEqual([['stars', 4, 'ada says hi']]);
    const both = await collect(client.listFeedback({ runIds: [runId, bob.traceIds[0]!] }));
    expect(both).toHaveLength(2);
    expect(await v2Traces(sim, { project_ids: [chat], filter: 'and(eq(feedback_key, "stars"), gt(feedback_score, 3))' }))
      .toEqual([runId]); // prettier-ignore
    await client.deleteFeedback(mine[0]!.id);
    expect(await collect(client.listFeedback({ runIds: [runId] }))).toEqual([]);
  });

  test('examples made from runs: soft deletion stays readable, hard deletion nulls every version', async () => {
    const sim = await start();
    const [trace] = sim.seed({ project: 'chat', traces: [{ runs: [{ inputs: { q: 'ada' } }, {}] }] });
    const client = sdk(sim);
    const dataset = await client.createDataset('golden');
    const sourceRunId = trace!.runIds[1]!;
    const made = await client.createExamples({
      datasetId: dataset.id,
      inputs: [{ q: 'ada' }, { q: 'bob' }, { q: 'eve' }],
      outputs: [{ a: 1 }, { a: 2 }, { a: 3 }],
      metadata: [{ user_id: 'ada', tenant: 'x' }, { user_id: 'bob', tenant: 'x' }, { user_id: 'eve' }],
      sourceRunIds: [sourceRunId],
    });
    const path = `/api/v1/examples?dataset=${dataset.id}`;
    const rows = (await call(sim, 'GET', `${path}&select=source_trace_id&select=source_run_id`)).json as object[];
    expect(rows).toContainEqual({ id: made[0]!.id, source_run_id: sourceRunId, source_trace_id: trace!.traceId });

    // The metadata parameter is OR, the has() filter is not.
    const or = encodeURIComponent(JSON.stringify({ user_id: 'ada', tenant: 'x' }));
    expect((await call(sim, 'GET', `${path}&metadata=${or}`)).json).toHaveLength(2);
    const has = encodeURIComponent(`has(metadata, '{"user_id": "ada", "tenant": "x"}')`);
    expect((await call(sim, 'GET', `${path}&filter=${has}`)).json).toHaveLength(1);
    const not = encodeURIComponent('not(exists(metadata, "tenant"))');
    expect((await call(sim, 'GET', `${path}&filter=${not}`)).json).toHaveLength(1);

    const before = new Date(sim.now()).toISOString();
    sim.advance(HOUR);
    await client.deleteExample(made[0]!.id);
    expect(await collect(client.listExamples({ datasetId: dataset.id }))).toHaveLength(2);
    const old = await collect(client.listExamples({ datasetId: dataset.id, asOf: before }));
    expect(old.find((one) => one.id === made[0]!.id)?.inputs).toEqual({ q: 'ada' });
    await client.deleteExamples([made[0]!.id], { hardDelete: true });
    const emptied = await collect(client.listExamples({ datasetId: dataset.id, asOf: before }));
    expect(emptied.find((one) => one.id === made[0]!.id)).toMatchObject({
      inputs: null,
      outputs: null,
      metadata: null,
    });
    expect(emptied).toHaveLength(3);
  });

  test('annotation queues, shares, exports and rules', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const client = sdk(sim);
    const [traceId] = ada.traceIds as [string];
    const queue = await client.createAnnotationQueue({ name: 'review' });
    await client.addRunsToAnnotationQueue(queue.id, [{ runId: traceId, sessionId: chat, startTime: sim.now() }]);
    const inQueues = await call(sim, 'GET', `/api/v1/annotation-queues/${traceId}/queues`);
    expect(inQueues.json).toMatchObject([{ id: queue.id, name: 'review' }]);
    const itemsPath = `/api/v1/platform/annotation-queues/${queue.id}/items`;
    const items = (await call(sim, 'GET', `${itemsPath}?status=needs_my_review`)).json.items;
    expect(items).toMatchObject([{ item_type: 'RUN', run_id: traceId, project_id: chat }]);

    const url = await client.shareRun(traceId);
    const token = url.split('/').at(-2)!;
    const retrieved = await client.runs.retrieve(traceId, {
      project_id: chat,
      selects: ['SHARE_URL', 'LAST_QUEUED_AT'],
    });
    expect(retrieved.share_url).toContain(token);
    expect(retrieved.last_queued_at).toBeDefined();
    const shared = (await call(sim, 'GET', '/api/v1/workspaces/current/shared')).json.entities;
    expect(shared).toMatchObject([{ type: 'run', share_token: token, run_id: traceId }]);
    expect((await fetch(`${sim.url}/api/v1/public/${token}/runs`)).status).toBe(200);
    await client.runs.share.delete(traceId, { session_id: chat });
    await client.runs.share.delete(traceId, { session_id: chat });
    expect((await fetch(`${sim.url}/api/v1/public/${token}/runs`)).status).toBe(404);

    await call(sim, 'POST', `${itemsPath}/delete`, { item_ids: [items[0].id] });
    expect((await call(sim, 'GET', `/api/v1/annotation-queues/${traceId}/queues`)).json).toEqual([]);
    sim.addBulkExport({ id: UNKNOWN, session_id: chat });
    sim.addRule({ id: UNKNOWN, display_name: 'hook' });
    expect((await call(sim, 'GET', '/api/v1/bulk-exports')).json).toMatchObject([{ session_id: chat }]);
    expect((await call(sim, 'GET', '/api/v1/runs/rules')).json).toMatchObject([{ display_name: 'hook' }]);
  });

  test('projects of every type', async () => {
    const sim = await start({ evaluatorProject: 'evaluators' });
    const client = sdk(sim);
    const dataset = await client.createDataset('golden');
    await client.createProject({ projectName: 'plain' });
    await client.createProject({ projectName: 'experiment', referenceDatasetId: dataset.id });
    sim.createProject({ name: 'agent', type: 'AGENT', agent: { id: 'bot', environment: 'PRODUCTION' } });

    expect((await collect(client.listProjects())).map((one) => one.name).sort()).toEqual([
      'agent',
      'experiment',
      'plain',
    ]);
    const paged = await collect(client.sessions.listV2({ page_size: 1 }));
    expect(paged.map((one) => one.type).sort()).toEqual(['AGENT', 'EXPERIMENT', 'PROJECT']);
    expect(await collect(client.sessions.listV2({ type: ['EXPERIMENT'] }))).toHaveLength(1);
    const evaluator = await client.sessions.resolve({ kind: 'EVALUATOR' });
    expect(evaluator.session_id).toBe(sim.project('evaluators').id);
    await client.deleteProject({ projectName: 'plain' });
    expect(await client.hasProject({ projectName: 'plain' })).toBe(false);
  });
});

describe('deletion', () => {
  test('answers 202 to anything of the right shape, and only the weekend does anything', async () => {
    const sim = await start();
    const { ada, bob, other, chat } = people(sim);
    const child = (await v2(sim, { project_ids: [chat], filter: ADA, is_root: false })).json.items[0].id as string;
    const wrongProject = sim.project('support').id;
    const answers = [
      await remove(sim, chat, ada.traceIds),
      await remove(sim, chat, [UNKNOWN]),
      await remove(sim, wrongProject, [bob.traceIds[0]!]),
      await remove(sim, chat, [child]),
      await remove(sim, UNKNOWN, [bob.traceIds[1]!]),
    ];
    for (const answer of answers) {
      expect([answer.status, answer.json]).toEqual([202, { message: 'Run deletes queued' }]);
    }
    expect(await v2Traces(sim, { project_ids: [chat], filter: ADA })).toEqual([...ada.traceIds].sort());

    sim.advance(2 * DAY); // Friday, 10:00
    expect(await v1Traces(sim, { session: [chat], filter: ADA })).toEqual([...ada.traceIds].sort());
    sim.advance(sim.nextBatch() - sim.now()); // Saturday, 06:00
    expect(await v1Traces(sim, { session: [chat], filter: ADA })).toEqual([]);
    expect(await v2Traces(sim, { project_ids: [chat], filter: ADA })).toEqual([]);

    expect(sim.truth.tracesOf([{ key: 'user_id', value: 'ada' }])).toEqual(other.traceIds);
    expect(sim.truth.tracesOf([{ key: 'user_id', value: 'bob' }])).toEqual([...bob.traceIds]);
    expect(
      sim.truth
        .deleted()
        .map((one) => one.traceId)
        .sort(),
    ).toEqual([...ada.traceIds].sort());
    expect(sim.truth.unasked()).toEqual([]);
    expect(sim.truth.submissionsOf(ada.traceIds[0]!)).toMatchObject([{ projectId: chat }]);
    expect(sim.ledger.deletes()[0]).toMatchObject({
      ids: ada.traceIds,
      projectId: chat,
      status: 202,
      apiKeyName: 'key-1',
    });
  });

  test('a request of Saturday noon is taken on Sunday, one of Sunday noon a week later', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const [first, second] = ada.traceIds as [string, string];
    sim.advance(sim.nextBatch() - sim.now() + 6 * HOUR);
    expect(new Date(sim.now()).getUTCDay()).toBe(6);
    await remove(sim, chat, [first]);
    sim.advance(DAY);
    await remove(sim, chat, [second]);
    expect([sim.truth.isLive(first), sim.truth.isLive(second)]).toEqual([false, true]);
    sim.advance(4 * DAY);
    expect(sim.truth.isLive(second)).toBe(true);
    sim.advanceWeekends(1);
    expect(sim.truth.isLive(second)).toBe(false);
    expect(new Date(sim.now()).toISOString()).toMatch(/T00:00:00/);
  });

  test('refuses what is not shaped correctly', async () => {
    const sim = await start({
      apiKeys: ['full', { key: 'editor', deletes: 'none' }, { key: 'abac', deletes: 'traces-only' }],
    });
    const { ada, chat } = people(sim);
    expect((await call(sim, 'POST', '/api/v1/runs/delete', { trace_ids: ada.traceIds })).status).toBe(400);
    expect((await call(sim, 'POST', '/api/v1/runs/delete', {})).status).toBe(400);
    expect((await remove(sim, chat, ['not-a-uuid'])).status).toBe(422);
    expect(
      (
        await remove(
          sim,
          chat,
          Array.from({ length: 1001 }, () => UNKNOWN),
        )
      ).status,
    ).toBe(422);
    expect(
      (
        await remove(
          sim,
          chat,
          Array.from({ length: 1000 }, () => UNKNOWN),
        )
      ).status,
    ).toBe(202);
    expect((await call(sim, 'POST', '/api/v1/runs/delete/traces', { session_id: chat })).status).toBe(422);
    expect((await call(sim, 'DELETE', `/api/v1/runs/${ada.traceIds[0]!}`)).status).toBe(405);
    const body = JSON.stringify({ session_id: chat, trace_ids: ada.traceIds });
    const as = async (key: string, path: string) =>
      (await fetch(sim.url + path, { method: 'POST', headers: { 'x-api-key': key }, body })).status;
    expect(await as('editor', '/api/v1/runs/delete')).toBe(403);
    expect(await as('editor', '/api/v1/runs/delete/traces')).toBe(403);
    expect(await as('abac', '/api/v1/runs/delete')).toBe(403);
    expect(await as('abac', '/runs/delete/traces')).toBe(202);
  });

  test('metadata mode is OR over the whole workspace, and may be forbidden', async () => {
    const sim = await start();
    const { ada, bob, other } = people(sim);
    const shared = { env: 'prod', user_id: 'carol' };
    const [carol] = sim.seed({ project: 'shop', traces: [{ runs: [{ metadata: shared }] }] });
    const [dave] = sim.seed({ project: 'shop', traces: [{ runs: [{ metadata: { env: 'prod', user_id: 'dave' } }] }] });
    const body = { metadata: { user_id: 'ada', env: 'prod' } };
    sim.habits.set({ metadataDeletes: 'forbidden' });
    const refused = await call(sim, 'POST', '/api/v1/runs/delete', body);
    expect([refused.status, refused.json.detail]).toEqual([403, 'bulk run deletes are not enabled']);
    sim.habits.reset();
    expect((await call(sim, 'POST', '/api/v1/runs/delete', body)).status).toBe(202);
    sim.advanceWeekends(1);
    for (const id of [...ada.traceIds, ...other.traceIds, carol!.traceId, dave!.traceId]) {
      expect(sim.truth.isLive(id)).toBe(false);
    }
    expect(sim.truth.isLive(bob.traceIds[0]!)).toBe(true);
    expect(sim.truth.unasked()).toHaveLength(5);
  });

  test('feedback and links go with the trace; examples and queue items stay', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const client = sdk(sim);
    const [traceId] = ada.traceIds as [string];
    await client.createFeedback(traceId, 'stars', { score: 1, sessionId: chat });
    const dataset = await client.createDataset('golden');
    const example = await client.createExample({ dataset_id: dataset.id, inputs: { q: 1 }, source_run_id: traceId });
    const queue = await client.createAnnotationQueue({ name: 'review' });
    await client.addRunsToAnnotationQueue(queue.id, [{ runId: traceId, sessionId: chat, startTime: 0 }]);
    await client.shareRun(traceId);
    await remove(sim, chat, [traceId]);
    expect((await call(sim, 'GET', '/api/v1/workspaces/current/shared')).json.entities).toHaveLength(1);
    sim.advanceWeekends(1);
    expect(await collect(client.listFeedback({ runIds: [traceId] }))).toEqual([]);
    expect((await call(sim, 'GET', '/api/v1/workspaces/current/shared')).json.entities).toEqual([]);
    expect((await client.readExample(example.id)).inputs).toEqual({ q: 1 });
    expect((await call(sim, 'GET', `/api/v1/annotation-queues/${traceId}/queues`)).json).toHaveLength(1);
  });

  test('a deleted project answers 404 at once while its runs wait for the weekend', async () => {
    const sim = await start();
    const { ada, bob, chat } = people(sim);
    const client = sdk(sim);
    await client.deleteProject({ projectId: chat });
    expect((await call(sim, 'GET', `/api/v1/sessions/${chat}`)).status).toBe(404);
    expect(await v1Traces(sim, { id: [ada.traceIds[0]!] })).toEqual([ada.traceIds[0]!]);
    sim.advanceWeekends(1);
    expect(sim.truth.isLive(bob.traceIds[0]!)).toBe(false);
    expect(sim.truth.unasked()).toHaveLength(4);
  });

  test('a write to a deleted trace id brings it back', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const [traceId] = ada.traceIds as [string];
    await remove(sim, chat, [traceId]);
    sim.advanceWeekends(1);
    expect(sim.truth.isLive(traceId)).toBe(false);
    await call(sim, 'POST', '/runs/batch', {
      post: [],
      patch: [{ id: traceId, trace_id: traceId, session_name: 'chat' }],
    });
    expect(sim.truth.isLive(traceId)).toBe(true);
  });
});

describe('queries', () => {
  test('v2 looks back one day unless told otherwise', async () => {
    const sim = await start();
    const now = sim.now();
    const traces = [30, 3].map((hours) => ({ runs: [{ startTime: now - hours * HOUR }] }));
    const [old, fresh] = sim.seed({ project: 'chat', traces });
    const project_ids = [old!.projectId];
    const recent = await call(sim, 'POST', '/v2/runs/query', { project_ids });
    expect(recent.json.items).toEqual([{ id: fresh!.traceId }]);
    const roots = await call(sim, 'POST', '/v2/traces/query', { project_id: old!.projectId });
    expect(roots.json.items).toHaveLength(1);
    expect(await v2Traces(sim, { project_ids })).toHaveLength(2);
    expect(await v1Traces(sim, { session: project_ids })).toHaveLength(2);
    sim.seed({ project: 'chat', traces: [{ runs: [{ startTime: now + HOUR }] }] });
    expect(await v2Traces(sim, { project_ids })).toHaveLength(2);
    expect(await v2Traces(sim, { project_ids, max_start_time: new Date(now + DAY).toISOString() })).toHaveLength(3);
  });

  test('a child without its root shows in runs, not in traces', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const [traceId] = ada.traceIds as [string];
    sim.habits.set({ leaveChildren: true });
    await remove(sim, chat, [traceId]);
    sim.advanceWeekends(1);
    const traces = await call(sim, 'POST', '/api/v2/traces/query', {
      project_id: chat,
      trace_ids: [traceId],
      min_start_time: EPOCH,
    });
    expect(traces.json.items).toEqual([]);
    expect((await v2(sim, { project_ids: [chat], trace_id: traceId })).json.items).toHaveLength(2);
    expect(sim.truth.liveTracesOf([{ key: 'user_id', value: 'ada' }])[0]).toMatchObject({ rootLives: false });
    sim.habits.reset();
    await remove(sim, chat, [traceId]);
    sim.advanceWeekends(1);
    expect(sim.truth.isLive(traceId)).toBe(false);
  });

  test('bodies are checked', async () => {
    const sim = await start();
    const { ada, chat, other } = people(sim);
    const v1 = async (body: object) => call(sim, 'POST', '/runs/query', body);
    expect((await v1({ session: chat })).status).toBe(422);
    expect((await v1({ limit: 10 })).status).toBe(400);
    expect((await v1({ session: [chat], limit: 101 })).status).toBe(422);
    expect((await v1({ session: [chat], filter: 'eq(name)' })).status).toBe(400);
    expect((await v2(sim, {})).status).toBe(400);
    expect((await v2(sim, { project_ids: [chat], reference_dataset_id: UNKNOWN })).status).toBe(400);
    expect((await v2(sim, { project_ids: [chat], page_size: 1001 })).status).toBe(400);
    expect((await v2(sim, { project_ids: [chat], selects: ['TTL_SECONDS'] })).status).toBe(400);
    expect((await v2(sim, { project_ids: [UNKNOWN] })).json).toEqual({ items: [], next_cursor: null });
    expect((await call(sim, 'GET', `/api/v2/traces/${UNKNOWN}/runs`)).status).toBe(400);
    const half = `/api/v2/traces/${ada.traceIds[0]!}/runs?project_id=${chat}&min_start_time=${EPOCH}`;
    expect((await call(sim, 'GET', half)).status).toBe(400);

    // With id[] nothing else counts, with trace neither limit nor cursor do, and offset never does.
    const byId = { id: other.traceIds, session: [chat], start_time: new Date(sim.now()).toISOString(), filter: ADA };
    expect(await v1Traces(sim, byId)).toEqual(other.traceIds);
    expect((await v1({ trace: ada.traceIds[0]!, limit: 1 })).json.runs).toHaveLength(3);
    expect((await v1({ session: [chat], limit: 1, offset: 3 })).json.runs).toEqual(
      (await v1({ session: [chat], limit: 1 })).json.runs,
    );
  });

  test('pages hold every row once, in both generations', async () => {
    const sim = await start();
    const [someone] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 83 });
    const session = [someone!.projectId];
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: Reply = await call(sim, 'POST', '/runs/query', { session, ...(cursor === null ? {} : { cursor }) });
      seen.push(...(page.json.runs as { id: string }[]).map((run) => run.id));
      cursor = page.json.cursors.next as string | null;
    } while (cursor !== null);
    expect([seen.length, new Set(seen).size]).toEqual([249, 249]);

    const again: string[] = [];
    const body = { project_ids: session, page_size: 50, filter: ADA };
    do {
      const page: Reply = await v2(sim, { ...body, ...(cursor === null ? {} : { cursor }) });
      again.push(...(page.json.items as { id: string }[]).map((run) => run.id));
      cursor = page.json.next_cursor as string | null;
    } while (cursor !== null);
    expect(again).toEqual(seen);
    const first = await v2(sim, body);
    const other = { project_ids: session, page_size: 50, cursor: first.json.next_cursor };
    expect((await v2(sim, other)).status).toBe(400);
  });

  test('filters judge single runs', async () => {
    const sim = await start();
    const quoted = 'o"ne\\two\u00e9';
    const at = '2026-01-01T10:00:00Z';
    const [a, b, c] = sim.seed({
      project: 'chat',
      traces: [
        {
          runs: [
            { name: 'root', metadata: { user_id: 'x', role: 'y' }, tags: ['blue'], startTime: at },
            { name: 'kid' },
          ],
        },
        { runs: [{ name: 'root', metadata: { user_id: 42, deep: { k: [1] } }, error: 'boom' }] },
        {
          runs: [
            { name: 'root', metadata: { other: quoted }, inputs: { text: 'Call Ada-Lovelace!' } },
            { runType: 'llm' },
          ],
        },
      ],
    });
    const chat = a!.projectId;
    const of = async (filter: string) => v2Traces(sim, { project_ids: [chat], filter, min_start_time: EPOCH });
    const only = (...traces: (typeof a)[]) => traces.map((trace) => trace!.traceId).sort();
    const pair = (key: string, value: string) => `and(eq(metadata_key, "${key}"), eq(metadata_value, ${value}))`;

    expect(await of(pair('user_id', '"x"'))).toEqual(only(a));
    expect(await of(pair('user_id', '"y"'))).toEqual([]); // key of one entry, value of another
    expect(await of(`and(${pair('user_id', '"x"')}, ${pair('role', '"y"')})`)).toEqual(only(a));
    expect(await of(pair('user_id', '"42"'))).toEqual(only(b)); // a number is stored as its text
    expect(await of(pair('user_id', '42'))).toEqual(only(b));
    expect(await of(pair('other', JSON.stringify(quoted)))).toEqual(only(c));
    expect(await of('and(in(metadata_key, ["other", "role"]), neq(metadata_value, "z"))')).toEqual(only(a, c));
    expect(await of(`has(metadata, '{"user_id": 42}')`)).toEqual(only(b));
    expect(await of('has(tags, "blue")')).toEqual(only(a));
    expect(await of('and(eq(is_root, false), eq(run_type, "llm"))')).toEqual(only(c));
    expect(await of('or(eq(status, "error"), eq(name, "kid"))')).toEqual(only(a, b));
    expect(await of('neq(error, null)')).toEqual(only(b));
    expect(await of(`and(gte(start_time, "${at}"), lt(start_time, "2026-01-01T10:00:01Z"))`)).toEqual(only(a));
    expect(await of('search("ada lovelace")')).toEqual(only(c));
    expect(await of('search("lovel")')).toEqual([]);
    const either = `or(${pair('user_id', '"x"')}, ${pair('user_id', '"42"')})`;
    expect(await of(either)).toEqual(only(a, b));
    expect(await of(`and(${either}, neq(status, "error"))`)).toEqual(only(a));
    expect(await of(`or(${pair('user_id', '"x"')}, eq(run_type, "llm"))`)).toEqual(only(a, c));
    expect(await of('and(eq(metadata_key, "user_id"), in(metadata_value, ["x", "42", "nobody"]))')).toEqual(only(a, b));
    expect(await of(`in(trace_id, ["${a!.traceId}", "${b!.traceId}"])`)).toEqual(only(a, b));
    const tree = await v2Traces(sim, { project_ids: [chat], tree_filter: 'eq(run_type, "llm")', is_root: true });
    expect(tree).toEqual(only(c));
    const trace = await v2Traces(sim, { project_ids: [chat], trace_filter: 'has(tags, "blue")', is_root: false });
    expect(trace).toEqual(only(a));
    const text = JSON.stringify({ filter: 'exists(metadata, "x")' });
    expect((await call(sim, 'POST', '/api/v1/runs/query/validate', JSON.parse(text))).status).toBe(400);
  });

  test.each([
    'eq(name, "a"',
    'eq(name, "a") x',
    'eq(name, "a\nb")',
    'eq(nothing, "a")',
    'like(name, "a")',
    'not(eq(name, "a"))',
    'exists(metadata, "a")',
    'eq(name, a)',
    'in(name, "a")',
    'has(metadata, "a")',
    'gt(start_time, "soon")',
    'and()',
    '',
  ])('the bad filter %j is refused', (filter) => {
    expect(() => compileFilter(filter)).toThrow(FilterError);
  });
});

test('what was ingested shows only after the delay', async () => {
  const sim = await start({ ingestDelayMs: 60_000 });
  const project = sim.createProject({ name: 'chat' });
  const run = { id: UNKNOWN, trace_id: UNKNOWN, session_id: project.id, start_time: sim.now(), name: 'late' };
  expect((await call(sim, 'POST', '/runs', run)).status).toBe(202);
  expect(await v1Traces(sim, { id: [UNKNOWN] })).toEqual([]);
  sim.advance(61_000);
  expect(await v1Traces(sim, { id: [UNKNOWN] })).toEqual([UNKNOWN]);
});

describe('keys, headers and limits', () => {
  test('missing, wrong, revoked and organisation-scoped keys', async () => {
    const workspaces = [
      { id: '10000000-0000-4000-8000-000000000001', name: 'one' },
      { id: '10000000-0000-4000-8000-000000000002', name: 'two' },
    ];
    const sim = await start({ workspaces, apiKeys: ['plain', { key: 'org', orgScoped: true }] });
    const as = async (headers: Record<string, string>, path = '/api/v1/sessions') => {
      const response = await fetch(sim.url + path, { headers });
      return { status: response.status, json: await response.json() };
    };
    expect((await as({})).status).toBe(401);
    expect((await as({ authorization: 'Bearer plain' })).status).toBe(401);
    expect((await as({ 'x-api-key': 'wrong' })).status).toBe(403);
    expect(await as({ 'x-api-key': 'org' })).toEqual({
      status: 403,
      json: { error: 'org_scoped_key_requires_workspace' },
    });
    expect((await as({ 'x-api-key': 'org', 'x-tenant-id': workspaces[1]!.id }, '/workspaces')).json).toHaveLength(2);
    expect((await as({ 'x-api-key': 'plain', 'x-tenant-id': workspaces[1]!.id })).status).toBe(403);
    expect((await as({}, '/info')).status).toBe(200);

    // One workspace neither sees nor deletes what is in the other.
    sim.seed({ project: 'there', workspaceId: workspaces[1]!.id, traces: [{ traceId: UNKNOWN, runs: [{}] }] });
    const there = sim.truth.allTraces()[0]!.projectId;
    expect(await v1Traces(sim, { id: [UNKNOWN] })).toEqual([]);
    expect((await remove(sim, there, [UNKNOWN])).status).toBe(202);
    sim.advanceWeekends(1);
    expect(sim.truth.isLive(UNKNOWN)).toBe(true);
    sim.habits.set({ keyRevoked: 401 });
    expect((await as({ 'x-api-key': 'plain' })).status).toBe(401);
  });

  test('the virtual date, request ids, and the end of v1', async () => {
    const sim = await start();
    const { chat } = people(sim);
    const old = await call(sim, 'POST', '/runs/query', { session: [chat] });
    expect(Math.abs(Date.parse(old.headers.get('date')!) - sim.now())).toBeLessThan(2000);
    expect(old.headers.get('deprecation')).toBe('true');
    expect(old.headers.get('sunset')).toContain('31 Jan 2027 00:00:00 GMT');
    expect(old.headers.get('x-request-id')).toBe(sim.ledger.entries.at(-1)!.requestId);
    expect(old.json.runs[0].start_time).not.toContain('Z');
    const fresh = await v2(sim, { project_ids: [chat], selects: ['START_TIME'] });
    expect(fresh.headers.get('sunset')).toBeNull();
    expect(fresh.json.items[0].start_time).toContain('Z');
  });

  test('limits by the shape of the query, on the virtual clock', async () => {
    const sim = await start({ limits: true, clock: { realMs: Date.now(), virtualMs: wednesday(), speed: 0.001 } });
    const { chat } = people(sim);
    const wide = async () => (await call(sim, 'POST', '/runs/query', { session: [chat] })).status;
    expect([await wide(), await wide(), await wide(), await wide()]).toEqual([200, 200, 200, 429]);
    expect((await v2(sim, { project_ids: [chat] })).status).toBe(429);
    expect((await call(sim, 'POST', '/api/v2/runs/query', { project_ids: [chat] })).status).toBe(200);
    expect(sim.ledger.count({ status: 429 })).toBe(2);
    expect(sim.ledger.entries.at(-2)).toMatchObject({ cause: 'limit:runs-query-wide', shape: 'wide' });
    expect(sim.ledger.entries.at(-1)).toMatchObject({ shape: 'narrow' });
    sim.advance(10_000);
    expect(await wide()).toBe(200);
    const search = { project_ids: [chat], filter: 'search("x")' };
    expect([(await v2(sim, search)).status, (await v2(sim, search)).status]).toEqual([200, 429]);
  });
});

test('30,000 traces: seeding and pages of 1000 are quick', async () => {
  const sim = await start();
  const [first] = sim.seedPeople({ project: 'big', people: 3000, tracesPerPerson: 10, from: sim.now() - 90 * DAY });
  const body = { project_ids: [first!.projectId], selects: ['ID', 'TRACE_ID', 'START_TIME', 'METADATA'] };
  const times: number[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < 15; page += 1) {
    const before = performance.now();
    const reply = await v2(sim, { ...body, ...(cursor === undefined ? {} : { cursor }) });
    times.push(performance.now() - before);
    expect(reply.json.items).toHaveLength(1000);
    cursor = reply.json.next_cursor as string;
  }
  // About 10 ms on a quiet machine; the bound only catches a scan from the start for every page.
  expect(times.sort((left, right) => left - right)[7]).toBeLessThan(200);
  const person = 'and(eq(metadata_key, "user_id"), eq(metadata_value, "person-00042"))';
  expect(await v2Traces(sim, { ...body, filter: person })).toHaveLength(10);
});

test('a simulator in its own process is driven over its control plane', async () => {
  const clock = JSON.stringify({ realMs: Date.now(), virtualMs: wednesday(), speed: 1 });
  const main = new URL('../src/simulators/langsmith/main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [main, '--clock', clock, '--options', '{"limits": false}'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const { value: line } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
    const sim = JSON.parse(String(line)) as LangSmithSimulator;
    const control = async (method: string, path: string, body?: unknown): Promise<unknown> => {
      return (await call(sim, method, `/_simulator/${path}`, body)).json;
    };
    const wanted = { project: 'chat', people: ['ada'], tracesPerPerson: 2 };
    const [ada] = (await control('POST', 'seed-people', wanted)) as [SeededPerson];
    const [extra] = (await control('POST', 'seed', {
      project: 'chat',
      traces: [{ runs: [{ metadata: { user_id: 'eve' } }] }],
    })) as [SeededTrace];
    expect(await control('PUT', 'habits', { skipWeekends: 'Infinity' })).toMatchObject({ skipWeekends: 'Infinity' });
    expect((await remove(sim, ada.projectId, ada.traceIds)).status).toBe(202);
    await control('POST', 'advance', { weekends: 2 });
    const trace = `truth/traces/${ada.traceIds[0]!}`;
    expect(await control('GET', trace)).toMatchObject({ live: true, submissions: [{ projectId: ada.projectId }] });
    await control('DELETE', 'habits');
    await control('POST', 'advance', { weekends: 1 });
    expect(await control('GET', trace)).toMatchObject({ live: false, views: { v1: false, v2: false } });
    expect(await control('POST', 'truth/traces-of', [{ key: 'user_id', value: 'ada' }])).toEqual([]);
    expect(await control('GET', 'truth/all')).toMatchObject([{ traceId: extra.traceId }]);
    expect(await control('GET', 'truth/deleted')).toHaveLength(2);
    expect(await control('GET', 'truth/unasked')).toEqual([]);
    expect(await control('GET', 'ledger?route=/api/v1/runs/delete&status=202')).toHaveLength(1);
    await control('POST', 'projects', { action: 'rename', name: 'chat', to: 'talk' });
    expect(await control('GET', 'state')).toMatchObject({ deletions: 2, waiting: 0, requests: 1 });
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill();
    await ended;
  }
});
