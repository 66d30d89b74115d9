import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from '@jest/globals';
import { Attachment, initDataset, initExperiment, initLogger, ReadonlyAttachment } from 'braintrust';
import type { BraintrustHabits, BraintrustSimulator, SeededPerson } from '../src/simulators/braintrust/index.ts';
import {
  and,
  btql,
  call,
  column,
  compare,
  DAY,
  field,
  from,
  HOUR,
  ident,
  insert,
  literal,
  MINUTE,
  people,
  remove,
  rowIds,
  sdkState,
  SECOND,
  sorted,
  start,
  stopAll,
  UNKNOWN,
  userIs,
  type Reply,
} from './support/braintrust-simulator.ts';

afterEach(stopAll);

const ADA = [{ key: 'user_id', value: 'ada' }];
const BOB = [{ key: 'user_id', value: 'bob' }];

describe('what the official SDK writes and reads', () => {
  test.each(['same', 'separate'] as const)('nested spans of a trace, data plane %s', async (dataPlane) => {
    const sim = await start({ dataPlane });
    expect(sim.apiUrl === sim.url).toBe(dataPlane === 'same');
    const state = await sdkState(sim);
    const logger = initLogger({ projectName: 'chat', state, asyncFlush: true });
    const ids = await logger.traced(
      async (root) => {
        root.log({ input: 'hello', metadata: { user_id: 'ada', plan: 7 } });
        const child = root.startSpan({ name: 'model', type: 'llm' });
        child.log({ output: 'hello!' });
        child.end();
        return { root: root.id, child: child.id, trace: root.rootSpanId };
      },
      { name: 'answer' },
    );
    await logger.flush();

    expect(sim.ledger.count({ route: '/logs3', status: 200 })).toBeGreaterThan(0);
    const { id } = sim.project('chat');
    const reply = await btql(sim, [id], { select: [{ op: 'star' }], filter: compare('eq', 'root_span_id', ids.trace) });
    const rows = reply.json.data as Record<string, unknown>[];
    expect(rows).toHaveLength(2);
    expect(rows.find((row) => row['id'] === ids.root)).toMatchObject({
      is_root: true,
      root_span_id: ids.trace,
      metadata: { user_id: 'ada', plan: 7 },
      input: 'hello',
      project_id: id,
      log_id: 'g',
      org_id: sim.organisation.id,
      span_attributes: { name: 'answer' },
    });
    expect(rows.find((row) => row['id'] === ids.child)).toMatchObject({
      is_root: false,
      output: 'hello!',
      metadata: null,
    });
    expect(sim.truth.tracesOf(ADA)).toEqual([ids.trace]);
    expect(sim.truth.rowsOf(ids.trace)).toHaveLength(2);
  });

  test('feedback merges, a comment is a row of its own, an update revives a deleted row stripped of its trace', async () => {
    const sim = await start();
    const state = await sdkState(sim);
    const logger = initLogger({ projectName: 'chat', state, asyncFlush: true });
    const root = logger.startSpan({ name: 'answer', event: { input: 1, metadata: { user_id: 'ada' } } });
    const trace = root.rootSpanId;
    root.end();
    await logger.flush();
    const { id } = sim.project('chat');
    logger.logFeedback({ id: root.id, scores: { stars: 1 }, comment: 'ada says hi', metadata: { user_id: 'ada' } });
    await logger.flush();
    const all = await btql(sim, [id], { select: [{ op: 'star' }] });
    const comment = (all.json.data as Record<string, unknown>[]).find((row) => row['comment'] !== undefined)!;
    expect(comment).toMatchObject({ origin: { id: root.id }, comment: { text: 'ada says hi' }, root_span_id: null });
    expect(comment['_audit_metadata']).toEqual({ user_id: 'ada' });
    const [row] = (await btql(sim, [id], { select: [{ op: 'star' }], filter: userIs('ada') })).json.data;
    expect(row).toMatchObject({ id: root.id, scores: { stars: 1 }, input: 1, comments: [{ id: comment['id'] }] });

    expect((await remove(sim, id, [root.id])).json).toEqual({ row_ids: [root.id] });
    expect(await rowIds(sim, [id])).toEqual([comment['id']]);
    expect(sim.truth.commentsOf(trace)).toMatchObject([{ rowId: comment['id'], traceId: null }]);
    expect(sim.truth.isLive(trace)).toBe(false);
    logger.updateSpan({ id: root.id, span_id: root.spanId, root_span_id: trace, output: 'late' });
    await logger.flush();
    const [zombie] = (await btql(sim, [id], { select: [{ op: 'star' }], filter: compare('eq', 'id', root.id) })).json
      .data;
    expect(zombie).toMatchObject({ output: 'late', metadata: null, input: null });
    expect(await rowIds(sim, [id], userIs('ada'))).toEqual([]);
    expect(sim.truth.tracesOf(ADA)).toEqual([]);
    expect(sim.truth.remainsOf(ADA)).toEqual([trace]);
    expect(sim.truth.isLive(trace)).toBe(true);
  });

  test('a dataset: insert, read in pages, delete, snapshot, restore', async () => {
    const sim = await start();
    const state = await sdkState(sim);
    const dataset = initDataset({ project: 'chat', dataset: 'golden', state });
    const [first, second] = [
      dataset.insert({ input: 'a', expected: 'b', metadata: { user_id: 'ada' } }),
      dataset.insert({ input: 'c', metadata: { user_id: 'bob' } }),
    ];
    await dataset.flush();
    const read = async (): Promise<string[]> => {
      dataset.clearCache();
      const ids: string[] = [];
      for await (const record of dataset.fetch({ batchSize: 1 })) ids.push(record.id);
      return ids.sort();
    };
    expect(await read()).toEqual([first, second].sort());
    expect(sim.ledger.list({ route: '/btql' }).map((entry) => entry.limit)).toEqual([1, 1, 1]);
    const snapshot = await dataset.createSnapshot({ name: 'before' });
    dataset.delete(first);
    await dataset.flush();
    expect(await read()).toEqual([second]);
    expect(sim.truth.copiesOf(ADA)).toEqual([]);
    expect(sim.truth.copiesOf(BOB)).toMatchObject([{ rowId: second, objectType: 'dataset' }]);
    expect(await dataset.listSnapshots()).toEqual([snapshot]);
    // The trap: a snapshot brings the row back.
    expect(await dataset.restore({ version: snapshot.xact_id })).toMatchObject({ rows_restored: 1, rows_deleted: 0 });
    expect(await read()).toEqual([first, second].sort());
    await dataset.deleteSnapshot(snapshot.id);
    expect((await call(sim, 'GET', '/v1/dataset_snapshot')).json.objects).toEqual([]);
  });

  test('an experiment: log, read back, delete rows and the whole', async () => {
    const sim = await start();
    const state = await sdkState(sim);
    const experiment = initExperiment('chat', { experiment: 'eval', state, setCurrent: false });
    const id = experiment.log({ input: 1, output: 2, scores: { right: 1 }, metadata: { user_id: 'ada' } });
    await experiment.flush();
    const records: { id: string }[] = [];
    for await (const record of experiment.fetch()) records.push(record);
    expect(records.map((record) => record.id)).toEqual([id]);
    const objectId = await experiment.id;
    const read = await btql(sim, [], { ...from([objectId], 'experiment'), filter: userIs('ada') });
    expect(read.json.data).toMatchObject([{ id }]);
    expect((await remove(sim, objectId, [id], 'experiment')).json).toEqual({ row_ids: [id] });
    expect(sim.truth.isRowLive(id)).toBe(false);
    expect((await call(sim, 'DELETE', `/v1/experiment/${objectId}`)).json.deleted_at).not.toBeNull();
    expect((await call(sim, 'GET', '/v1/experiment')).json.objects).toEqual([]);
  });

  test('an attachment stays downloadable after its row is deleted', async () => {
    const sim = await start();
    const state = await sdkState(sim);
    const logger = initLogger({ projectName: 'chat', state, asyncFlush: true });
    const attachment = new Attachment({
      data: new Blob(['secret of ada']),
      filename: 'ada.txt',
      contentType: 'text/plain',
      state,
    });
    const span = logger.startSpan({ name: 'answer', event: { input: { file: attachment } } });
    span.end();
    await logger.flush();
    const { id } = sim.project('chat');
    const [row] = (await btql(sim, [id], { select: [field('input')] })).rows;
    expect(row!['input'].file).toMatchObject({ type: 'braintrust_attachment', filename: 'ada.txt' });
    await remove(sim, id, [span.id]);
    expect(await rowIds(sim, [id])).toEqual([]);
    sim.advance(400 * DAY);
    const again = new ReadonlyAttachment(
      row!['input'].file as ConstructorParameters<typeof ReadonlyAttachment>[0],
      state,
    );
    expect(await (await again.data()).text()).toBe('secret of ada');
  });

  test('a wrong key does not log in', async () => {
    const sim = await start();
    await expect(sdkState({ ...sim, apiKey: 'sk-wrong' })).rejects.toThrow('401');
    expect((await call({ ...sim, apiKey: 'sk-wrong' }, 'GET', '/v1/project')).headers.get('content-type')).toContain(
      'text/plain',
    );
  });
});

describe('deleting', () => {
  test('a tombstone takes the row it names, in the object it names, and nothing else', async () => {
    const sim = await start();
    const { ada, bob, other, chat, support } = people(sim);
    const ids = ada.rowIds.flat();
    const reply = await remove(sim, chat, ids);
    expect([reply.status, reply.json]).toEqual([200, { row_ids: ids }]);
    expect(await rowIds(sim, [chat])).toEqual(bob.rowIds.flat().sort());
    expect(await rowIds(sim, [support])).toEqual(other.rowIds.flat().sort());
    expect(sim.truth.tracesOf(ADA)).toEqual(other.traceIds);
    expect(sim.truth.deleted()).toHaveLength(6);
    expect([sim.truth.unasked(), sim.truth.orphans()]).toEqual([[], []]);
    expect(sim.truth.submissions()).toMatchObject([{ objectId: chat, ids, live: 6, lost: [] }]);
    expect(sim.ledger.deletes()).toMatchObject([{ projectId: chat, ids, events: 6, family: 'deletes' }]);
    // In the other project the same ids are tombstones for nothing.
    expect((await remove(sim, support, ids)).json).toEqual({ row_ids: ids });
    expect(sim.truth.tracesOf(ADA)).toEqual(other.traceIds);
  });

  test('unknown ids, span ids and root span ids are echoed and delete nothing', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const wrong = [UNKNOWN, ada.traceIds[0]!];
    const reply = await remove(sim, chat, wrong);
    expect([reply.status, reply.json]).toEqual([200, { row_ids: wrong }]);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(true);
    expect(sim.truth.deleted()).toEqual([]);
    expect(sim.truth.submissions()).toMatchObject([{ live: 0 }]);
  });

  test('deleting the root leaves its children alive', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const [root, ...children] = ada.rowIds[0]!;
    await remove(sim, chat, [root!]);
    expect(await rowIds(sim, [chat], compare('eq', 'root_span_id', ada.traceIds[0]))).toEqual([...children].sort());
    expect(sim.truth.liveTracesOf(ADA)).toContainEqual({
      traceId: ada.traceIds[0],
      projectId: chat,
      rows: 2,
      rootLives: false,
    });
    expect(sim.truth.orphans()).toEqual([
      { traceId: ada.traceIds[0], projectId: chat, deleted: [root], live: children },
    ]);
  });

  test('across objects in one request, each for itself', async () => {
    const sim = await start();
    const { ada, bob, other, chat, support } = people(sim);
    const gone = (ids: readonly string[]) => ({ events: ids.map((id) => ({ id, _object_delete: true })) });
    const reply = await call(sim, 'POST', '/v1/insert', {
      project_logs: { [chat]: gone(ada.rowIds.flat()), [support]: gone(other.rowIds.flat()) },
    });
    expect(reply.json).toEqual({
      project_logs: { [chat]: { row_ids: ada.rowIds.flat() }, [support]: { row_ids: other.rowIds.flat() } },
    });
    expect(sim.truth.tracesOf(ADA)).toEqual([]);
    expect(sim.truth.tracesOf(BOB)).toEqual(bob.traceIds);
    expect(sim.ledger.deletes()[0]).toMatchObject({
      projectId: null,
      deletes: [{ objectId: chat }, { objectId: support }],
    });
  });

  test('what is refused, and does nothing: names, server fields, foreign objects, bad events, missing rights', async () => {
    const sim = await start({ apiKeys: ['sk-1', { key: 'sk-ingest', deletes: false }] });
    const { ada, chat } = people(sim);
    const [id] = ada.rowIds[0]!;
    const statuses = [
      await remove(sim, 'chat', [id!]),
      await insert(sim, chat, [{ id, _object_delete: true, _xact_id: '1' }]),
      await insert(sim, chat, [{ id, project_id: chat, _object_delete: true }]),
      await remove(sim, UNKNOWN, [id!]),
      await insert(sim, chat, [{ id: 5, _object_delete: true }]),
      await call(sim, 'POST', `/v1/project_logs/${chat}/insert`, {}),
      await remove({ ...sim, apiKey: 'sk-ingest' }, chat, [id!]),
      await remove({ ...sim, apiKey: 'sk-none' }, chat, [id!]),
      await call(sim, 'DELETE', `/v1/project_logs/${chat}`),
    ];
    expect(statuses.map((one) => one.status)).toEqual([400, 400, 400, 403, 400, 400, 403, 401, 404]);
    for (const one of statuses) expect(one.headers.get('content-type')).toContain('text/plain');
    expect(sim.truth.isRowLive(id!)).toBe(true);
    expect(sim.truth.submissions()).toEqual([]);
    expect(sim.ledger.deletes()).toEqual([]);
    expect((await insert({ ...sim, apiKey: 'sk-ingest' }, chat, [{ input: 1 }])).status).toBe(200);
  });

  test('the past stays readable by its transaction, deleted rows too', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const version = sim.newestXact('chat');
    await remove(sim, chat, ada.rowIds.flat());
    expect(sim.newestXact('chat') > version).toBe(true);
    expect(await rowIds(sim, [chat], userIs('ada'))).toEqual([]);
    expect(await rowIds(sim, [chat], userIs('ada'), { version })).toEqual(ada.rowIds.flat().sort());
    expect(sim.ledger.list({ version })).toHaveLength(1);
    const trail = await btql(
      sim,
      [chat],
      { select: [{ op: 'star' }], filter: compare('eq', 'id', ada.rowIds[0]![0]) },
      { audit_log: true },
    );
    expect(trail.rows.map((one) => one['audit_data'] as unknown)).toMatchObject([
      { _object_delete: true },
      { action: 'upsert' },
    ]);
  });
});

describe('writing again', () => {
  async function deleted() {
    const sim = await start();
    const { ada, bob, other, chat } = people(sim);
    await remove(sim, chat, ada.rowIds.flat());
    return { sim, ada, bob, other, chat, id: ada.rowIds[0]![0]!, trace: ada.traceIds[0]! };
  }
  const star = { select: [{ op: 'star' }] };

  test('a bare merge revives without trace and person; one with a root id only without person', async () => {
    const { sim, ada, other, chat, id, trace } = await deleted();
    await insert(sim, chat, [{ id, _is_merge: true, scores: { ok: 1 } }]);
    const [bare] = (await btql(sim, [chat], { ...star, filter: compare('eq', 'id', id) })).json.data;
    expect(bare).toMatchObject({ root_span_id: null, metadata: null, is_root: null, scores: { ok: 1 } });
    expect(await rowIds(sim, [chat], compare('eq', 'root_span_id', trace))).toEqual([]);
    expect(sim.truth.rowsOf(trace).filter((row) => row.live)).toMatchObject([{ rowId: id, rootSpanId: null }]);
    expect(sim.truth.orphans()).toMatchObject([{ traceId: trace, live: [id] }]);

    const [second] = ada.rowIds[1]!;
    await insert(sim, chat, [{ id: second, _is_merge: true, root_span_id: ada.traceIds[1], output: 'late' }]);
    expect(await rowIds(sim, [chat], compare('eq', 'root_span_id', ada.traceIds[1]))).toEqual([second]);
    expect(await rowIds(sim, [chat], userIs('ada'))).toEqual([]);
    expect(sim.truth.remainsOf(ADA).sort()).toEqual([...ada.traceIds, ...other.traceIds].sort());
  });

  test('a merge with metadata, and a replayed insert, bring the person back', async () => {
    const { sim, ada, chat, id } = await deleted();
    await insert(sim, chat, [{ id, _is_merge: true, metadata: { user_id: 'ada' } }]);
    expect(await rowIds(sim, [chat], userIs('ada'))).toEqual([id]);
    await insert(sim, chat, [{ id: ada.rowIds[1]![0], metadata: { user_id: 'ada' }, root_span_id: ada.traceIds[1] }]);
    expect(await rowIds(sim, [chat], userIs('ada'))).toHaveLength(2);
    expect((await remove(sim, chat, [id, ada.rowIds[1]![0]!])).status).toBe(200);
    expect(await rowIds(sim, [chat], userIs('ada'))).toEqual([]);
  });

  test('on a living row a merge goes deep and a plain insert replaces', async () => {
    const { sim, bob, chat } = await deleted();
    const [id] = bob.rowIds[0]!;
    const root = bob.traceIds[0];
    const key = (await btql(sim, [chat], { ...star, filter: compare('eq', 'id', id) })).json.data[0]._pagination_key;
    await insert(sim, chat, [{ id, _is_merge: true, root_span_id: 'other', metadata: { plan: { a: 1 } } }]);
    await insert(sim, chat, [{ id, _is_merge: true, metadata: { plan: { b: 2 } } }]);
    const [merged] = (await btql(sim, [chat], { ...star, filter: compare('eq', 'id', id) })).json.data;
    expect(merged).toMatchObject({ root_span_id: root, metadata: { user_id: 'bob', plan: { a: 1, b: 2 } } });
    expect(merged._pagination_key).toBe(key);
    await insert(sim, chat, [
      { id, _is_merge: true, _merge_paths: [['metadata', 'plan']], metadata: { plan: { c: 3 } } },
    ]);
    await insert(sim, chat, [{ id, root_span_id: root, span_id: root, output: 'new' }]);
    const [replaced] = (await btql(sim, [chat], { ...star, filter: compare('eq', 'id', id) })).json.data;
    expect(replaced).toMatchObject({ metadata: null, output: 'new', root_span_id: root });
    expect(await rowIds(sim, [chat], userIs('bob'))).toHaveLength(5);
  });

  test('merge paths, removals from lists, feedback routes, and inserts without span ids', async () => {
    const sim = await start();
    const { id: chat } = sim.createProject({ name: 'chat' });
    const [id] = (await insert(sim, chat, [{ metadata: { a: { b: 1 } }, tags: ['x', 'y'] }])).json.row_ids;
    const merge = { id, _is_merge: true, _merge_paths: [['metadata', 'a']], metadata: { a: { c: 2 }, d: 3 } };
    await insert(sim, chat, [{ ...merge, _array_delete: [{ path: ['tags'], delete: ['x'] }] }]);
    const item = { id, scores: { ok: 1 }, comment: 'good', source: 'app' };
    const reply = await call(sim, 'POST', `/v1/project_logs/${chat}/feedback`, { feedback: [item] });
    expect(reply.json).toEqual({ status: 'success' });
    const rows = (await btql(sim, [chat], { ...star, ...sorted('_pagination_key') })).json.data;
    expect(rows).toHaveLength(2);
    expect(rows[0]).toMatchObject({
      metadata: { a: { c: 2 }, d: 3 },
      tags: ['y'],
      scores: { ok: 1 },
      root_span_id: id,
    });
    expect(rows[0].metadata.a).toEqual({ c: 2 });
    expect(rows[1]).toMatchObject({ comment: { text: 'good' }, origin: { id }, _audit_source: 'app' });
  });
});

describe('queries', () => {
  test('numbers and texts differ, any Unicode is kept, dots nest', async () => {
    const sim = await start();
    const odd = '12345';
    const name = 'Zoë \u{1f9d1}\u200d\u{1f52c} \u0000"\\';
    const [number, text, unicode] = sim.seedPeople({
      project: 'chat',
      people: [12345, odd, name],
      tracesPerPerson: 1,
      spansPerTrace: 1,
    });
    const chat = number!.projectId;
    expect(await rowIds(sim, [chat], userIs(12345))).toEqual(number!.rowIds[0]);
    expect(await rowIds(sim, [chat], userIs(odd))).toEqual(text!.rowIds[0]);
    expect(await rowIds(sim, [chat], userIs(name))).toEqual(unicode!.rowIds[0]);
    expect(await rowIds(sim, [chat], compare('in', 'metadata/user_id', [12345, odd]))).toHaveLength(2);
    expect(sim.truth.tracesOf([{ key: 'user_id', value: 12345 }])).toEqual(number!.traceIds);
    const [deep] = sim.seedPeople({ project: 'chat', people: ['eve'], tracesPerPerson: 1, key: 'user.id' });
    expect(await rowIds(sim, [chat], compare('eq', 'metadata/user/id', 'eve'))).toEqual([...deep!.rowIds[0]!].sort());
    await insert(sim, chat, [{ id: 'flat', metadata: { 'user.id': 'mia' } }]);
    expect(await rowIds(sim, [chat], compare('eq', 'metadata/user.id', 'mia'))).toEqual(['flat']);
    expect(sim.truth.tracesOf([{ key: 'user.id', value: 'eve' }])).toEqual(deep!.traceIds);
    expect(sim.truth.tracesOf([{ key: 'user.id', value: 'mia' }])).toEqual(['flat']);
  });

  test('every operator, with nothing being neither true nor false', async () => {
    const sim = await start();
    const { id: chat } = sim.createProject({ name: 'chat' });
    const at = (day: number) => new Date(sim.now() - day * DAY).toISOString();
    await insert(sim, chat, [
      { id: 'a', created: at(3), metadata: { n: 1, s: 'one two' }, tags: ['x'] },
      { id: 'b', created: at(2), metadata: { n: 2 }, metrics: { start: 1, end: 4 } },
      { id: 'c', created: at(1) },
    ]);
    const n = 'metadata/n';
    const table: [Record<string, unknown>, string[]][] = [
      [compare('ne', n, 1), ['b']],
      [compare('gt', n, 1), ['b']],
      [compare('ge', n, 1), ['a', 'b']],
      [compare('lt', n, 2), ['a']],
      [compare('le', n, 2), ['a', 'b']],
      [compare('eq', n, '1'), []],
      [compare('in', n, [2, 3]), ['b']],
      [{ op: 'not', expr: compare('eq', n, 1) }, ['b']],
      [{ op: 'isnull', expr: ident('metadata', 'n') }, ['c']],
      [{ op: 'isnotnull', expr: ident('metadata', 'n') }, ['a', 'b']],
      [{ op: 'or', left: compare('eq', n, 1), right: compare('eq', 'id', 'c') }, ['a', 'c']],
      [{ op: 'and', left: compare('ge', n, 1), right: compare('eq', 'id', 'a') }, ['a']],
      [compare('ge', 'created', at(2.5)), ['b', 'c']],
      [compare('lt', 'created', at(1.5).replace('Z', '+00:00')), ['a', 'b']],
      [compare('ilike', 'metadata/s', '%TWO'), ['a']],
      [compare('match', 'metadata/s', 'two'), ['a']],
      [{ op: 'includes', haystack: ident('tags'), needle: literal('x') }, ['a']],
      [
        {
          op: 'ge',
          left: { op: 'sub', left: ident('metrics', 'end'), right: ident('metrics', 'start') },
          right: literal(3),
        },
        ['b'],
      ],
      [literal(false), []],
    ];
    for (const [filter, ids] of table) expect([filter, await rowIds(sim, [chat], filter)]).toEqual([filter, ids]);
    const refused = await btql(sim, [chat], { filter: { op: 'regex', left: ident('id'), right: literal('a') } });
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining('unsupported op')]);
  });

  test('pages by key and by cursor bring everything once; a limit is at most 1000, its default small', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 50 });
    const chat = ada!.projectId;
    const all = ada!.rowIds.flat().sort();
    const select = [field('id'), field('_pagination_key')];
    const byKey: string[] = [];
    for (let last = ''; ;) {
      const filter = and(userIs('ada'), compare('gt', '_pagination_key', last));
      const { rows } = await btql(sim, [chat], { select, filter, limit: 40, ...sorted('_pagination_key') });
      if (rows.length === 0) break;
      byKey.push(...column(rows));
      last = column(rows, '_pagination_key').at(-1)!;
    }
    expect(byKey.sort()).toEqual(all);
    for (const dir of ['asc', 'desc']) {
      const byCursor: string[] = [];
      for (let cursor: string | null = null; ;) {
        const reply = await btql(sim, [chat], { limit: 40, cursor, ...sorted('_pagination_key', dir) });
        byCursor.push(...column(reply.rows));
        cursor = reply.json.cursor as string | null;
        expect(reply.headers.get('x-bt-cursor')).toBe(cursor);
        if (cursor === null) break;
      }
      expect(byCursor.sort()).toEqual(all);
    }
    expect((await btql(sim, [chat], { limit: undefined })).json.data).toHaveLength(100);
    expect(sim.ledger.entries.at(-1)).toMatchObject({ limit: null, shape: 'spans', objectIds: [chat], realtime: true });
    expect((await btql(sim, [chat], { limit: 1001 })).status).toBe(400);
    expect((await btql(sim, [chat], { cursor: 'bm9uc2Vuc2U' })).status).toBe(400);
    const created = await btql(sim, [chat], { limit: 5, ...sorted('created', 'desc') });
    expect([created.json.data[0].id, created.json.cursor]).toEqual([ada!.rowIds[49]![2], null]);
  });

  test('the traces shape brings every span of a matching trace, and its limit counts traces', async () => {
    const sim = await start();
    const shared = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 3, sharedWith: 'bob' });
    const chat = shared[0]!.projectId;
    const shape = from([chat], 'project_logs', 'traces');
    expect(await rowIds(sim, [chat], userIs('bob'))).toHaveLength(3);
    const query = { ...shape, filter: userIs('bob'), ...sorted('_pagination_key') };
    const page = await btql(sim, [chat], { ...query, limit: 2 });
    expect(page.json.data).toHaveLength(6);
    const rest = await btql(sim, [chat], { ...query, limit: 2, cursor: page.json.cursor });
    expect(rest.json.data).toHaveLength(3);
    const ids = column([...page.rows, ...rest.rows]).sort();
    expect(ids).toEqual(shared[0]!.rowIds.flat().sort());
    const summary = await btql(sim, [chat], { ...from([chat], 'project_logs', 'summary'), filter: userIs('ada') });
    expect(summary.json.data).toHaveLength(3);
    const scoped = await btql(sim, [chat], {}, { scope_to_root_span_id: shared[0]!.traceIds[0] });
    expect(scoped.json.data).toHaveLength(3);
  });

  test('several objects at once, other sources, aggregates', async () => {
    const sim = await start();
    const { ada, other, chat, support } = people(sim);
    expect(await rowIds(sim, [chat, support], userIs('ada'))).toEqual([...ada.rowIds, ...other.rowIds].flat().sort());
    const measures = [
      { alias: 'newest', expr: { op: 'function', name: ident('max'), args: [ident('_xact_id')] } },
      { alias: 'n', expr: { op: 'function', name: ident('count'), args: [] } },
    ];
    const total = await btql(sim, [chat], { select: undefined, measures });
    expect(total.json.data).toEqual([{ newest: sim.newestXact('chat'), n: 12 }]);
    const dimensions = [{ alias: 'user', expr: ident('metadata', 'user_id') }];
    const groups = await btql(sim, [chat], { select: undefined, measures: measures.slice(1), dimensions });
    expect(groups.json.data).toEqual([
      { user: 'bob', n: 6 },
      { user: 'ada', n: 6 },
    ]);
    const none = await btql(sim, [sim.createProject({ name: 'empty' }).id], { select: undefined, measures });
    expect(none.json.data).toEqual([{ newest: null, n: 0 }]);
    const traces = [{ spans: [{ metadata: { user_id: 'ada' } }] }];
    const [copy] = sim.seed({ project: 'chat', into: { type: 'playground_logs', name: 'play' }, traces });
    const play = await btql(sim, [], { ...from([copy!.objectId], 'playground_logs'), filter: userIs('ada') });
    expect(play.json.data).toMatchObject([{ id: copy!.rowIds[0] }]);
    expect(sim.truth.copiesOf(ADA)).toHaveLength(1);
    const lines = await btql(sim, [chat], { limit: 2 }, { fmt: 'jsonl' });
    expect(lines.text.trim().split('\n')).toHaveLength(2);
  });

  test('what is refused: texts, unknown sources, objects out of reach, names', async () => {
    const sim = await start({ organisations: ['Acme', 'Other'], apiKeys: [{ key: 'sk-1', organisations: ['Acme'] }] });
    const hidden = sim.createProject({ name: 'hidden', organisation: 'Other' });
    const { chat } = people(sim);
    expect((await call(sim, 'POST', '/btql', { query: 'select * from project_logs' })).status).toBe(400);
    expect((await btql(sim, [chat], from([chat], 'prompt'))).status).toBe(400);
    expect((await btql(sim, ['chat'])).status).toBe(400);
    expect((await btql(sim, [hidden.id])).status).toBe(403);
    expect((await btql(sim, [UNKNOWN])).status).toBe(403);
    expect((await btql(sim, [chat], sorted('metadata'))).status).toBe(400);
    expect((await call(sim, 'GET', '/v1/project', undefined, { 'x-bt-org-name': 'Other' })).status).toBe(403);
    expect((await call(sim, 'GET', '/v1/project')).json.objects).toHaveLength(2);
  });

  test('without a range bound: a warning, 400 in strict mode, none for datasets', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const warnings = async (filter: unknown) => (await btql(sim, [chat], { filter })).json.warnings.length as number;
    expect(await warnings(userIs('ada'))).toBe(1);
    expect(await warnings(and(userIs('ada'), compare('ge', 'created', '2020-01-01T00:00:00Z')))).toBe(0);
    expect(await warnings({ op: 'or', left: compare('eq', 'id', 'x'), right: userIs('ada') })).toBe(1);
    expect(await warnings(compare('in', 'root_span_id', ada.traceIds))).toBe(0);
    expect(await warnings(compare('gt', '_pagination_key', ''))).toBe(0);
    for (const strict of [{ lint_mode: 'strict' }, { strict_lint_mode: true }]) {
      expect((await btql(sim, [chat], { filter: userIs('ada') }, strict)).status).toBe(400);
    }
    const { id } = sim.createContainer('chat', 'dataset', 'golden');
    expect((await btql(sim, [], from([id], 'dataset'))).json.warnings).toEqual([]);
    sim.habits.set({ unboundedTimesOut: true });
    expect((await btql(sim, [chat], { filter: userIs('ada') })).status).toBe(504);
  });

  test('reads that are not live miss what is not indexed, and their freshness ids say so', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    await remove(sim, chat, ada.rowIds.flat());
    const fresh = await btql(sim, [chat], { filter: userIs('ada') });
    expect(fresh.json).toMatchObject({ data: [], realtime_state: { type: 'on' } });
    const state = fresh.json.freshness_state;
    expect(state.last_considered_xact_id).toBe(state.last_processed_xact_id);
    expect(JSON.parse(fresh.headers.get('x-bt-freshness-state')!)).toEqual(state);
    const lagging = await btql(sim, [chat], { filter: userIs('ada') }, { brainstore_realtime: false });
    expect(lagging.json.data).toHaveLength(6);
    expect(lagging.json.realtime_state.type).toBe('off');
    const { last_considered_xact_id, last_processed_xact_id } = lagging.json.freshness_state;
    expect(last_considered_xact_id > last_processed_xact_id).toBe(true);
    sim.advance(MINUTE);
    expect(await rowIds(sim, [chat], userIs('ada'), { brainstore_realtime: false })).toEqual([]);
  });
});

describe('fetch', () => {
  test('later pages repeat rows in older versions; deleted rows are left out; the limit counts traces', async () => {
    const sim = await start();
    const { ada, bob, chat } = people(sim);
    const path = `/v1/project_logs/${chat}/fetch`;
    const [id] = bob.rowIds[0]!;
    await insert(sim, chat, [{ id, _is_merge: true, output: 'newer' }]);
    const first = (await call(sim, 'GET', `${path}?limit=1`)).json;
    expect(first.events).toMatchObject([{ id, output: 'newer' }]);
    const rest = (await call(sim, 'POST', path, { limit: 100, cursor: first.cursor })).json;
    expect(rest.events).toHaveLength(12);
    const events = rest.events as { id: string }[];
    expect(events.find((event) => event.id === id)).toMatchObject({ output: null });
    const version = sim.newestXact('chat');
    await remove(sim, chat, ada.rowIds.flat());
    expect((await call(sim, 'GET', path)).json.events).toHaveLength(6);
    expect((await call(sim, 'GET', `${path}?version=${version}`)).json.events).toHaveLength(12);
    expect((await call(sim, 'GET', '/v1/project_logs/chat/fetch')).status).toBe(400);
    const end = (await call(sim, 'POST', path, { cursor: Buffer.from('0').toString('base64url') })).json;
    expect(end).toEqual({ events: [] });
  });
});

describe('the control plane', () => {
  test('projects: newest first, paged, filtered; POST creates what it does not find', async () => {
    const sim = await start();
    for (let number = 0; number < 5; number += 1) sim.createProject({ name: `p${number}` });
    const names = async (query: string): Promise<string[]> =>
      column((await call(sim, 'GET', `/v1/project?${query}`)).json.objects as Reply['rows'], 'name');
    expect(await names('')).toEqual(['p4', 'p3', 'p2', 'p1', 'p0']);
    expect(await names('limit=2')).toEqual(['p4', 'p3']);
    expect(await names(`limit=2&starting_after=${sim.project('p3').id}`)).toEqual(['p2', 'p1']);
    expect(await names(`limit=2&ending_before=${sim.project('p1').id}`)).toEqual(['p3', 'p2']);
    expect(await names('project_name=p2&org_name=Acme')).toEqual(['p2']);
    expect(await names('org_name=Nobody')).toEqual([]);
    expect(await names(`ids=${sim.project('p1').id}&ids=${sim.project('p4').id}`)).toEqual(['p4', 'p1']);
    const known = await call(sim, 'POST', '/v1/project', { name: 'p0' });
    expect(known.json.id).toBe(sim.project('p0').id);
    await call(sim, 'POST', '/v1/project', { name: 'typo' });
    expect(await names('limit=1')).toEqual(['typo']);
    await call(sim, 'PATCH', `/v1/project/${sim.project('typo').id}`, { settings: { disable_realtime_queries: true } });
    const one = await call(sim, 'GET', `/v1/project/${sim.project('typo').id}`);
    expect(one.json).toMatchObject({ name: 'typo', deleted_at: null, settings: { disable_realtime_queries: true } });
  });

  test('projects deleted, renamed and made again; a deletion nobody asked for by id is told', async () => {
    const sim = await start();
    const { ada, bob, chat, other, support } = people(sim);
    expect((await call(sim, 'DELETE', `/v1/project/${support}`)).status).toBe(200);
    expect(sim.truth.isLive(other.traceIds[0]!)).toBe(false);
    expect(sim.truth.unasked()).toHaveLength(3);
    expect((await btql(sim, [support])).status).toBe(403);
    expect((await remove(sim, support, other.rowIds.flat())).status).toBe(403);
    sim.renameProject('chat', 'talk');
    expect(sim.project('talk').id).toBe(chat);
    expect(sim.truth.tracesOf(ADA).sort()).toEqual([...ada.traceIds].sort());
    const again = sim.recreateProject('talk');
    expect(again.id).not.toBe(chat);
    expect(sim.truth.isLive(bob.traceIds[0]!)).toBe(false);
    expect(sim.truth.unasked()).toHaveLength(3);
    expect(() => sim.project('chat')).toThrow('no project');
    expect(() => sim.habits.set({ nonsense: 1 } as object)).toThrow('unknown habit');
  });

  test('datasets, experiments, snapshots and automations are listed as documented', async () => {
    const sim = await start();
    const { chat } = people(sim);
    const dataset = await call(sim, 'POST', '/v1/dataset', { project_id: chat, name: 'golden' });
    await call(sim, 'POST', '/v1/experiment', { project_id: chat, name: 'eval' });
    expect((await call(sim, 'GET', `/v1/dataset?project_id=${chat}`)).json.objects).toMatchObject([{ name: 'golden' }]);
    expect((await call(sim, 'GET', '/v1/experiment?project_name=support')).json.objects).toEqual([]);
    expect((await call(sim, 'GET', `/v1/dataset/${dataset.json.id}`)).json).toEqual(dataset.json);
    const body = { dataset_id: dataset.json.id, name: 'v1', xact_id: '1' };
    const snapshot = await call(sim, 'POST', '/v1/dataset_snapshot', body);
    // No filter by dataset exists.
    const listed = await call(sim, 'GET', `/v1/dataset_snapshot?dataset_id=${UNKNOWN}`);
    expect(listed.json.objects).toEqual([snapshot.json]);
    expect((await call(sim, 'DELETE', `/v1/dataset_snapshot/${snapshot.json.id}`)).json).toEqual(snapshot.json);
    sim.addAutomation('chat', 'export', { event_type: 'btql_export' });
    const made = { project_id: chat, name: 'hook', config: { event_type: 'logs', action: { type: 'webhook' } } };
    await call(sim, 'POST', '/v1/project_automation', made);
    const automations = await call(sim, 'GET', '/v1/project_automation?limit=10');
    expect(automations.json.objects).toMatchObject([made, { name: 'export', project_id: chat }]);
    expect((await call(sim, 'GET', '/version')).json).toEqual({});
  });
});

describe('limits', () => {
  test('20 queries a minute and organisation over a rolling window, inserts without limit', async () => {
    const sim = await start({ limits: true });
    const { ada, chat } = people(sim);
    const statuses: number[] = [];
    for (let number = 0; number < 21; number += 1) statuses.push((await btql(sim, [chat])).status);
    expect(statuses).toEqual([...Array.from({ length: 20 }, () => 200), 429]);
    const refused = await btql(sim, [chat]);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(sim.ledger.entries.at(-1)?.cause).toBe('limit:btql');
    for (let number = 0; number < 30; number += 1) {
      expect((await remove(sim, chat, ada.rowIds[0]!)).status).toBe(200);
    }
    sim.advance(MINUTE);
    expect((await btql(sim, [chat])).status).toBe(200);
  });

  test('Retry-After can be missing, the numbers can differ, the control plane can have its own', async () => {
    const sim = await start({ limits: { btqlPerMinute: 1, controlPerMinute: 2, retryAfter: false } });
    const { chat } = people(sim);
    await btql(sim, [chat]);
    const refused = await btql(sim, [chat]);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, null]);
    const control = [1, 2, 3].map(() => call(sim, 'GET', '/v1/project'));
    expect((await Promise.all(control)).map((one) => one.status).sort()).toEqual([200, 200, 429]);
  });
});

describe('habits', () => {
  async function deleted(habits: Partial<BraintrustHabits>) {
    const sim = await start();
    const found = people(sim);
    sim.habits.set(habits);
    const reply = await remove(sim, found.chat, found.ada.rowIds.flat());
    const mine = () => rowIds(sim, [found.chat], userIs('ada'));
    return { sim, ...found, reply, mine };
  }

  test('tombstoneDelayMs: deleted, visible for a while or for ever', async () => {
    const { sim, ada, mine } = await deleted({ tombstoneDelayMs: HOUR });
    expect(await mine()).toHaveLength(6);
    expect([sim.truth.isLive(ada.traceIds[0]!), sim.truth.deleted()]).toEqual([true, []]);
    sim.advance(HOUR);
    expect(await mine()).toEqual([]);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(false);
    expect(sim.truth.deleted()).toHaveLength(6);
    const never = await deleted({ tombstoneDelayMs: Infinity });
    never.sim.advance(400 * DAY);
    expect(await never.mine()).toHaveLength(6);
    // Repeating the delete is another tombstone, which may fare better.
    never.sim.habits.reset();
    await remove(never.sim, never.chat, never.ada.rowIds.flat());
    expect([await never.mine(), never.sim.truth.deleted().length]).toEqual([[], 6]);
  });

  test('dropShare: some ids are lost, others at the next try', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 100, spansPerTrace: 1 });
    sim.habits.set({ dropShare: 0.5 });
    const left: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      expect((await remove(sim, ada!.projectId, ada!.rowIds.flat())).json.row_ids).toHaveLength(100);
      sim.advance(SECOND);
      left.push(sim.truth.tracesOf(ADA).length);
    }
    expect(left[0]).toBeGreaterThan(30);
    expect(left[0]).toBeLessThan(70);
    expect(left[1]).toBeLessThan(left[0]! * 0.8);
    expect(left[2]).toBeLessThan(left[1]!);
    expect(sim.truth.submissions()[0]!.lost).toHaveLength(left[0]!);
  });

  test('reappear: gone, back for a moment, gone', async () => {
    const { sim, mine } = await deleted({ reappear: { afterMs: MINUTE, forMs: MINUTE } });
    expect(await mine()).toEqual([]);
    sim.advance(MINUTE);
    expect(await mine()).toHaveLength(6);
    sim.advance(MINUTE);
    expect(await mine()).toEqual([]);
  });

  test('freshnessLagMs, freshnessAbsent, realtimeExhausted, realtimeDisabled', async () => {
    const { sim, chat, mine } = await deleted({ freshnessLagMs: MINUTE });
    const state = async (): Promise<Record<string, any>> => (await btql(sim, [chat])).json as object; // eslint-disable-line @typescript-eslint/no-explicit-any
    const lag = await state();
    expect(lag.freshness_state.last_considered_xact_id).not.toBe(lag.freshness_state.last_processed_xact_id);
    sim.advance(MINUTE);
    const after = await state();
    expect(after.freshness_state.last_considered_xact_id).toBe(after.freshness_state.last_processed_xact_id);
    expect(await mine()).toEqual([]);
    sim.habits.set({ freshnessLagMs: 0, freshnessAbsent: true });
    expect('freshness_state' in (await state())).toBe(false);
    sim.habits.reset();
    await insert(sim, chat, [{ id: 'late', metadata: { user_id: 'ada' } }]);
    sim.habits.set({ realtimeExhausted: true });
    const exhausted = await state();
    expect(exhausted.realtime_state.type).toBe('exhausted_timeout');
    expect(exhausted.freshness_state.last_considered_xact_id).toBe(exhausted.freshness_state.last_processed_xact_id);
    expect(await mine()).toEqual([]);
    sim.habits.reset();
    expect(await mine()).toEqual(['late']);
    for (const disabled of [true, ['chat'], [chat]]) {
      sim.habits.set({ realtimeDisabled: disabled });
      expect(await mine()).toEqual([]);
      const listed = await call(sim, 'GET', '/v1/project?project_name=chat');
      expect(listed.json.objects[0].settings.disable_realtime_queries).toBe(true);
    }
    sim.habits.set({ realtimeDisabled: ['support'] });
    expect(await mine()).toEqual(['late']);
  });

  test('unawareMs and stale: reads that say fresh and are not', async () => {
    const { sim, ada, chat, mine } = await deleted({ unawareMs: MINUTE });
    await insert(sim, chat, [{ id: ada.rowIds[0]![0], _is_merge: true, metadata: { user_id: 'ada' } }]);
    sim.habits.set({ unawareMs: MINUTE });
    const reply = await btql(sim, [chat], { filter: userIs('ada') });
    const { last_considered_xact_id, last_processed_xact_id } = reply.json.freshness_state;
    expect([reply.json.data, reply.json.realtime_state.type]).toEqual([[], 'on']);
    expect(last_considered_xact_id).toBe(last_processed_xact_id);
    expect(sim.truth.tracesOf(ADA)).toContain(ada.traceIds[0]);
    sim.advance(2 * MINUTE);
    expect(await mine()).toEqual([ada.rowIds[0]![0]]);
    await remove(sim, chat, [ada.rowIds[0]![0]!]);
    sim.habits.reset();
    sim.habits.set({ stale: MINUTE });
    expect(await mine()).toHaveLength(1);
    sim.advance(MINUTE);
    expect(await mine()).toEqual([]);
  });

  test('lateMerges, lateTraces and lateSpans: something comes back', async () => {
    const bare = await deleted({ lateMerges: { count: 2, delayMs: MINUTE } });
    expect(await bare.mine()).toEqual([]);
    bare.sim.advance(MINUTE);
    expect(await bare.mine()).toEqual([]);
    expect(bare.sim.truth.rowsOf(bare.ada.traceIds[0]!).filter((row) => row.live)).toMatchObject([
      { rootSpanId: null },
      { rootSpanId: null },
    ]);
    expect(bare.sim.truth.tracesOf(BOB)).toHaveLength(2);
    const full = await deleted({ lateMerges: { count: 1, form: 'metadata' } });
    full.sim.advance(HOUR);
    expect(await full.mine()).toHaveLength(1);
    const trace = await deleted({ lateMerges: { count: 1, form: 'trace' } });
    trace.sim.advance(HOUR);
    const filter = compare('eq', 'root_span_id', trace.ada.traceIds[0]);
    expect([await trace.mine(), await rowIds(trace.sim, [trace.chat], filter)]).toEqual([
      [],
      [trace.ada.rowIds[0]![0]],
    ]);
    const fresh = await deleted({ lateTraces: { count: 1 } });
    fresh.sim.advance(HOUR);
    expect(await fresh.mine()).toHaveLength(1);
    expect(fresh.ada.traceIds).not.toContain(
      fresh.sim.truth.tracesOf(ADA).find((id) => id !== fresh.other.traceIds[0]),
    );
    const span = await deleted({ lateSpans: { count: 1 } });
    span.sim.advance(HOUR);
    expect(await span.mine()).toHaveLength(1);
    expect(span.sim.truth.isLive(span.ada.traceIds[0]!)).toBe(true);
    const silent = await deleted({ lateSpans: { count: 1, bare: true } });
    silent.sim.advance(HOUR);
    expect(await silent.mine()).toEqual([]);
    expect(silent.sim.truth.isLive(silent.ada.traceIds[0]!)).toBe(true);
  });

  test('false401: a burst that ends by itself, on the routes named', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    sim.habits.set({ false401: { forMs: 2 * MINUTE, on: 'deletes' } });
    expect((await btql(sim, [chat])).status).toBe(200);
    expect((await remove(sim, chat, ada.rowIds[0]!)).status).toBe(401);
    sim.advance(2 * MINUTE);
    expect((await remove(sim, chat, ada.rowIds[0]!)).status).toBe(200);
    sim.habits.set({ keyRevoked: 401 });
    expect((await btql(sim, [chat])).status).toBe(401);
    sim.habits.set({ keyRevoked: true });
    expect((await btql(sim, [chat])).status).toBe(403);
  });

  test('defaultLimit and retentionDays: what an unwary reader misses', async () => {
    const sim = await start();
    const { chat, ada } = people(sim);
    sim.habits.set({ defaultLimit: 5 });
    expect((await btql(sim, [chat], { limit: undefined })).json.data).toHaveLength(5);
    sim.habits.set({ retentionDays: 20 });
    const visible = await rowIds(sim, [chat], userIs('ada'));
    expect(visible).toEqual([...ada.rowIds[1]!].sort());
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(true);
  });

  test('filterIgnored and blind', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const byId = compare('in', 'root_span_id', ada.traceIds);
    const seen = async () => [
      (await rowIds(sim, [chat])).length,
      (await rowIds(sim, [chat], userIs('ada'))).length,
      (await rowIds(sim, [chat], byId)).length,
    ];
    expect(await seen()).toEqual([12, 6, 6]);
    sim.habits.set({ filterIgnored: true });
    expect(await seen()).toEqual([12, 12, 12]);
    sim.habits.reset();
    const table = {
      all: [0, 0, 0],
      filter: [12, 0, 0],
      person: [12, 0, 6],
      ids: [12, 6, 0],
      none: [12, 6, 6],
    } as const;
    for (const what of ['all', 'filter', 'person', 'ids', 'none'] as const) {
      sim.habits.set({ blind: { what } });
      expect([what, await seen()]).toEqual([what, table[what]]);
    }
    sim.habits.set({ blind: { what: 'none', projects: true } });
    expect((await call(sim, 'GET', '/v1/project')).json.objects).toEqual([]);
  });

  test('shiftingPages: rows are missed or repeated; repeatedRows: every row twice', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 20, spansPerTrace: 1 });
    const chat = ada!.projectId;
    const read = async () => {
      const ids: string[] = [];
      for (let cursor: string | null = null; ;) {
        const reply = await btql(sim, [chat], { limit: 6, cursor });
        ids.push(...column(reply.rows));
        cursor = reply.json.cursor as string | null;
        if (cursor === null) return [ids.length, new Set(ids).size];
      }
    };
    expect(await read()).toEqual([20, 20]);
    sim.habits.set({ shiftingPages: { by: 2 } });
    expect((await read())[1]).toBeLessThan(20);
    sim.habits.set({ shiftingPages: { by: -2 } });
    const [rows, distinct] = await read();
    expect(rows).toBeGreaterThan(20);
    expect(distinct).toBe(20);
    sim.habits.reset();
    sim.habits.set({ repeatedRows: true });
    expect((await btql(sim, [chat])).json.data).toHaveLength(40);
  });

  test.each(['fewer', 'other', 'reversed'] as const)(
    'rowIds %s: a delete that answers something else',
    async (rowIdsHabit) => {
      const { ada, reply, mine } = await deleted({ rowIds: rowIdsHabit });
      expect(reply.status).toBe(200);
      expect(reply.json.row_ids).not.toEqual(ada.rowIds.flat());
      expect(await mine()).toEqual([]);
    },
  );

  test('rejectBatchWith and rejectLargerThan: refused as a whole', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const ids = ada.rowIds.flat();
    sim.habits.set({ rejectBatchWith: { ids: [ids[3]!] }, rejectLargerThan: { events: 5 } });
    expect((await remove(sim, chat, ids)).status).toBe(413);
    expect((await remove(sim, chat, ids.slice(1, 5))).status).toBe(400);
    expect(sim.truth.deleted()).toEqual([]);
    expect((await remove(sim, chat, ids.slice(0, 3))).status).toBe(200);
    expect(sim.truth.deleted()).toHaveLength(3);
  });

  test('commentRowsHidden: comments show in their row only', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const [id] = ada.rowIds[0]!;
    await call(sim, 'POST', `/v1/project_logs/${chat}/feedback`, { feedback: [{ id, comment: 'hi' }] });
    expect(await rowIds(sim, [chat])).toHaveLength(13);
    sim.habits.set({ commentRowsHidden: true });
    expect(await rowIds(sim, [chat])).toHaveLength(12);
    const comments = { select: [field('comments')], filter: compare('eq', 'id', id) };
    expect((await btql(sim, [chat], comments)).json.data).toMatchObject([{ comments: [{ comment: { text: 'hi' } }] }]);
  });

  test('the habits of any service: throttle, errors before and after, resets, cut and changed answers, dates', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    sim.habits.set({ throttle: { on: 'reads', count: 1, retryAfter: 7 } });
    const slow = await btql(sim, [chat]);
    expect([slow.status, slow.headers.get('retry-after')]).toEqual([429, '7']);
    sim.habits.set({ serverErrors: { on: 'deletes', status: 503, count: 1 } });
    expect((await remove(sim, chat, ada.rowIds[0]!)).status).toBe(503);
    expect(sim.truth.deleted()).toEqual([]);
    sim.habits.set({ serverErrors: { on: 'deletes', after: true, count: 1 } });
    expect((await remove(sim, chat, ada.rowIds[0]!)).status).toBe(500);
    expect(sim.truth.deleted()).toHaveLength(3);
    sim.habits.set({ resetBefore: { on: ['/v1/project_logs/{id}/insert'], count: 1 } });
    await expect(remove(sim, chat, ada.rowIds[1]!)).rejects.toThrow();
    expect(sim.truth.deleted()).toHaveLength(3);
    sim.habits.set({ resetAfter: { on: 'deletes', count: 1 } });
    await expect(remove(sim, chat, ada.rowIds[1]!)).rejects.toThrow();
    expect(sim.truth.deleted()).toHaveLength(6);
    sim.habits.set({ htmlErrors: { status: 200, count: 1 } });
    expect((await btql(sim, [chat])).headers.get('content-type')).toContain('text/html');
    sim.habits.set({ truncateBody: { count: 1 } });
    const cut = await btql(sim, [chat]);
    expect([cut.status, cut.json]).toEqual([200, null]);
    sim.habits.set({
      extraFields: true,
      missingFields: ['root_span_id'],
      dateSkewMs: -HOUR,
      slow: { ms: 20, count: 1 },
    });
    const before = performance.now();
    const changed = await btql(sim, [chat]);
    expect(performance.now() - before).toBeGreaterThan(15);
    expect(changed.json.x_new_field).toBeDefined();
    expect(Object.keys(changed.rows[0]!)).toEqual(['id', 'x_new_field']);
    expect(sim.now() - Date.parse(changed.headers.get('date')!)).toBeGreaterThan(HOUR - 5000);
    expect(changed.headers.get('x-bt-internal-trace-id')).toMatch(/^req-/);
  });
});

test('30,000 traces are seeded in seconds and found through indexes', async () => {
  const sim = await start();
  const before = performance.now();
  const seeded = sim.seedPeople({ project: 'chat', people: 3000, tracesPerPerson: 10 });
  const seeding = performance.now() - before;
  const chat = seeded[0]!.projectId;
  const times: number[] = [];
  const timed = async (query: Record<string, unknown>, rows: number): Promise<string> => {
    const from = performance.now();
    const reply = await btql(sim, [chat], { ...query, select: [field('id'), field('_pagination_key')] });
    times.push(performance.now() - from);
    expect(reply.json.data).toHaveLength(rows);
    return column(reply.rows, '_pagination_key').at(-1)!;
  };
  let last = '';
  for (let page = 0; page < 15; page += 1) {
    last = await timed({ filter: compare('gt', '_pagination_key', last), ...sorted('_pagination_key') }, 1000);
  }
  for (const person of seeded.slice(1000, 1015)) {
    await timed({ filter: userIs(person.value) }, 30);
    await timed({ filter: compare('in', 'root_span_id', person.traceIds) }, 30);
    await timed({ filter: compare('in', 'id', person.rowIds.flat()) }, 30);
  }
  // A few seconds and a few milliseconds on a quiet machine; the bounds only catch scans.
  expect(seeding).toBeLessThan(20_000);
  expect(times.sort((left, right) => left - right)[30]).toBeLessThan(100);
  expect(sim.truth.tracesOf([{ key: 'user_id', value: 'person-00042' }])).toEqual(seeded[41]!.traceIds);
});

test('a simulator in its own process is driven over its control plane', async () => {
  const clock = JSON.stringify({ realMs: Date.now(), virtualMs: Date.now() + 7 * DAY, speed: 1 });
  const main = new URL('../src/simulators/braintrust/main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [main, '--clock', clock, '--options', '{"limits": false}'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const { value: line } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
    const sim = JSON.parse(String(line)) as BraintrustSimulator;
    const control = async (method: string, path: string, body?: unknown): Promise<unknown> => {
      return (await call({ ...sim, apiUrl: sim.url }, method, `/_simulator/${path}`, body)).json;
    };
    const wanted = { project: 'chat', people: ['ada', 'bob'], tracesPerPerson: 2 };
    const [ada, bob] = (await control('POST', 'seed-people', wanted)) as [SeededPerson, SeededPerson];
    await control('POST', 'seed', { project: 'chat', traces: [{ traceId: 'eve-1', spans: [{}] }] });
    expect(await control('PUT', 'habits', { tombstoneDelayMs: 'Infinity' })).toMatchObject({
      tombstoneDelayMs: 'Infinity',
    });
    await remove(sim, ada.projectId, [ada.rowIds[0]![0]!]);
    await control('DELETE', 'habits');
    expect(await control('GET', `truth/traces/${ada.traceIds[0]!}`)).toMatchObject({ live: true });
    expect(await control('GET', 'truth/deleted')).toEqual([]);
    await remove(sim, ada.projectId, ada.rowIds.flat());
    await remove(sim, bob.projectId, [bob.rowIds[0]![0]!]);
    expect(await control('POST', 'truth/traces-of', [{ key: 'user_id', value: 'ada' }])).toEqual([]);
    expect(await control('POST', 'truth/remains-of', [{ key: 'user_id', value: 'bob' }])).toEqual(bob.traceIds);
    expect(await control('POST', 'truth/copies-of', [{ key: 'user_id', value: 'bob' }])).toEqual([]);
    expect(await control('GET', 'truth/orphans')).toMatchObject([{ traceId: bob.traceIds[0] }]);
    expect(await control('GET', 'truth/all')).toHaveLength(3);
    expect(await control('GET', 'truth/deleted')).toHaveLength(7);
    expect(await control('GET', 'truth/unasked')).toEqual([]);
    expect(await control('GET', 'truth/submissions')).toHaveLength(3);
    expect(await control('GET', 'ledger?route=/v1/project_logs/{id}/insert&status=200')).toHaveLength(3);
    await control('POST', 'projects', { action: 'rename', name: 'chat', to: 'talk' });
    await control('POST', 'advance', { ms: DAY });
    expect(await control('GET', 'state')).toMatchObject({ deletions: 7, requests: 3, submissions: 3 });
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill();
    await ended;
  }
});
