import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import type { RespanHabits } from '../src/simulators/respan/index.ts';
import {
  bulkDelete,
  call,
  DAY,
  EVER,
  HOUR,
  list,
  logTraceIds,
  MINUTE,
  people,
  remove,
  rowsOf,
  start,
  stopAll,
  total,
  traceIds,
  where,
} from './support/respan-simulator.ts';

afterEach(stopAll);

const ADA = where('customer_identifier', '', ['ada']);
const person = (value: string) => [{ key: 'customer_identifier', value }];

describe('what clients write', () => {
  test('the npm client sends a trace that can be read, deleted and is gone', async () => {
    const said = (['debug', 'info', 'log', 'warn', 'error'] as const).map((level) =>
      jest.spyOn(console, level).mockImplementation(() => undefined),
    );
    const sim = await start();
    const [others] = sim.seedPeople({ people: ['bob'], tracesPerPerson: 1 });
    const { KeywordsAITelemetry, updateCurrentSpan } = await import('@keywordsai/tracing');
    const client = new KeywordsAITelemetry({ apiKey: sim.apiKey, baseURL: `${sim.url}/api/`, appName: 'shop' });
    await client.initialize();
    await client.withWorkflow({ name: 'chat' }, async () => {
      updateCurrentSpan({ keywordsaiParams: { metadata: { plain: 'u-1' }, thread_identifier: 'thread-1' } });
      return client.withKeywordsAISpanAttributes(
        async () => client.withTask({ name: 'answer' }, async () => 'hello ada'),
        { customer_identifier: 'ada', customer_email: 'ada@example.com', metadata: { user_id: 'u-1', level: 7 } },
      );
    });
    await client.shutdown();
    for (const one of said) one.mockRestore();

    expect(sim.ledger.list({ route: '/api/v1/traces' }).map((one) => one.status)).toEqual([200]);
    const [id] = sim.truth.tracesOf(person('ada'));
    const tree = await call(sim, 'GET', `/api/traces/${id}/`);
    expect(tree.json).toMatchObject({ span_count: 2, customer_identifier: 'ada', name: 'chat' });
    expect(id).toMatch(/^[0-9a-f]{32}$/);
    const rows = await rowsOf(sim, 'request-logs', where('trace_unique_id', 'in', [id]));
    const root = rows.find((row) => row.span_name === 'chat');
    // This client cuts the parent off every decorated span, and writes metadata as JSON text in one of its two ways.
    expect(rows.map((row) => row.span_parent_id)).toEqual([null, null]);
    expect(root).toMatchObject({
      customer_identifier: 'ada',
      customer_email: 'ada@example.com',
      thread_identifier: 'thread-1',
      metadata: { plain: 'u-1', user_id: '"u-1"', level: '7' },
    });
    expect(sim.truth.tracesOf([{ key: 'metadata.user_id', value: 'u-1' }])).toEqual([id]);
    expect(sim.truth.tracesOf([{ key: 'metadata.plain', value: 'u-1' }])).toEqual([id]);

    await remove(sim, [id!]);
    sim.advance(MINUTE);
    expect(sim.truth.tracesOf(person('ada'))).toEqual([]);
    expect(await traceIds(sim)).toEqual(others!.traceIds);
  });

  test('OTLP as JSON, under both brands of attributes', async () => {
    const sim = await start();
    const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    const nano = (ms: number) => `${Math.floor(ms)}000000`;
    const span = (traceId: string, attributes: object[], more: object = {}) => ({
      traceId: traceId.repeat(32),
      spanId: '1'.repeat(16),
      name: 'chat',
      startTimeUnixNano: nano(sim.now() - 2000),
      endTimeUnixNano: nano(sim.now() - 1000),
      attributes,
      ...more,
    });
    const spans = [
      span('a', [text('respan.customer_params.customer_identifier', 'ada'), text('respan.metadata.user_id', 'u-1')]),
      span('b', [text('keywordsai.customer_params.customer_identifier', 'bob')]),
      span('c', [text('respan.customer_identifier', 'cleo'), { key: 'respan.metadata.n', value: { intValue: '7' } }]),
      span('d', [], { parentSpanId: '', status: { code: 2, message: 'boom' } }),
    ];
    const body = { resourceSpans: [{ resource: {}, scopeSpans: [{ spans }] }] };
    expect((await call(sim, 'POST', '/api/v2/traces', { body })).status).toBe(200);
    const rows = (await list(sim, 'traces', {}, {})).json.results as Record<string, unknown>[];
    expect(rows.map((row) => [String(row['trace_unique_id'])[0], row['customer_identifier'], row['error_count']]).sort())
      .toEqual([['a', 'ada', 0], ['b', 'bob', 0], ['c', 'cleo', 0], ['d', null, 1]]); // prettier-ignore
    expect(await logTraceIds(sim, where('metadata__user_id', '', ['u-1']))).toEqual(['a'.repeat(32)]);
    expect(await logTraceIds(sim, where('metadata__n', '', ['7']))).toEqual(['c'.repeat(32)]);
  });

  test('log payloads, one, many and with rows that are refused by themselves', async () => {
    const sim = await start();
    const ada = { customer_params: { customer_identifier: 'ada', email: 'ada@example.com' }, trace_unique_id: 't-1' };
    await call(sim, 'POST', '/api/v1/traces/ingest', { body: [{ ...ada, span_unique_id: 's-1', span_name: 'root' }] });
    await call(sim, 'POST', '/api/request-logs/', { body: { customer_identifier: 'ada', input: 'loose one' } });
    const created = await call(sim, 'POST', '/api/request-logs/create/', {
      body: { customer_identifier: 42, metadata: { a: 1, b: true, c: { d: 2 } } },
    });
    expect(created.json).toHaveProperty('message');
    const logs = [{ customer_identifier: 'bob' }, 'nothing', { timestamp: 'no time at all' }];
    const bulk = await call(sim, 'POST', '/api/request-logs/bulk/', { body: { logs } });
    expect(bulk.json.errors).toMatchObject([{ index: 1 }, { index: 2 }]);
    const many = Array.from({ length: 501 }, () => ({}));
    expect((await call(sim, 'POST', '/api/request-logs/bulk/', { body: { logs: many } })).status).toBe(400);

    expect(await logTraceIds(sim, ADA)).toEqual(['loose', 't-1']);
    const [number] = (await list(sim, 'request-logs', where('customer_identifier', '', ['42']))).json.results;
    expect(number.metadata).toEqual({ a: '1', b: 'true', c: '{"d":2}' });
    expect(sim.truth.looseLogsOf(person('bob'))).toHaveLength(1);
    expect(
      sim.truth
        .customerRecords()
        .map((one) => one.customerIdentifier)
        .sort(),
    ).toEqual(['42', 'ada', 'bob']);
  });

  test('bytes that are no OTLP, JSON that is none, and lists that are none are refused and store nothing', async () => {
    const sim = await start();
    const bytes = { type: 'application/x-protobuf', bytes: new Uint8Array([255, 255, 255, 255]) };
    expect((await call(sim, 'POST', '/api/v1/traces', { raw: bytes })).status).toBe(400);
    const text = { type: 'application/json', bytes: '{' };
    expect((await call(sim, 'POST', '/api/v2/traces', { raw: text })).status).toBe(400);
    expect((await call(sim, 'POST', '/api/v1/traces/ingest', { body: {} })).status).toBe(400);
    expect(sim.truth.allTraces()).toEqual([]);
  });

  test('customer identifiers are cut at 254 characters, and then no longer found in full', async () => {
    const sim = await start();
    const long = 'x'.repeat(300);
    await call(sim, 'POST', '/api/request-logs/', { body: { customer_identifier: long } });
    expect(await logTraceIds(sim, where('customer_identifier', '', [long]))).toEqual([]);
    expect(await logTraceIds(sim, where('customer_identifier', '', [long.slice(0, 254)]))).toEqual(['loose']);
    expect(sim.truth.looseLogsOf(person(long))).toHaveLength(1);
  });
});

describe('keys, paths and limits', () => {
  test('a missing, wrong or revoked key is told as detail', async () => {
    const sim = await start();
    for (const key of [null, 'wrong']) {
      const reply = await call(sim, 'POST', '/api/traces/list/', { key, body: {} });
      expect([reply.status, typeof reply.json.detail]).toEqual([401, 'string']);
    }
    sim.habits.set({ keyRevoked: 401 });
    expect((await list(sim, 'traces')).status).toBe(401);
    sim.habits.set({ keyRevoked: true });
    expect((await list(sim, 'traces')).status).toBe(403);
  });

  test('paths without their trailing slash are unknown', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    const body = { filters: where('trace_unique_id', 'in', ada) };
    expect((await call(sim, 'POST', '/api/traces/bulk-delete', { query: EVER, body })).status).toBe(404);
    expect((await call(sim, 'POST', '/api/request-logs/list', { body: {} })).status).toBe(404);
    sim.advance(HOUR);
    expect([...ada, ...bob].every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test.each([
    [false, null],
    [true, '60'],
  ])('the 61st request in a minute of the organisation is throttled; header %s', async (retryAfterHeader, header) => {
    const clock = { realMs: Date.now(), virtualMs: Date.now(), speed: 1e-9 };
    const sim = await start({ clock, limits: { retryAfterHeader } });
    for (let n = 0; n < 60; n += 1) {
      const key = n % 2 === 0 ? sim.apiKeys.prod! : sim.apiKeys.test!;
      expect((await call(sim, 'POST', '/api/users/list/', { key, body: {} })).status).toBe(200);
    }
    const refused = await list(sim, 'traces');
    expect([refused.status, refused.json.retry_after]).toEqual([429, 60]);
    expect(refused.headers.get('retry-after')).toBe(header);
    expect((await list(sim, 'request-logs')).status).toBe(200);
    sim.advance(MINUTE);
    expect((await list(sim, 'traces')).status).toBe(200);
  });

  test('the throttle habit answers with or without the header, the body tells the wait', async () => {
    const sim = await start();
    sim.habits.set({ throttle: { retryAfter: null, count: 1 } });
    const plain = await list(sim, 'traces');
    expect([plain.status, plain.headers.get('retry-after'), typeof plain.json.retry_after]).toEqual([
      429,
      null,
      'number',
    ]);
    sim.habits.set({ throttle: { retryAfter: 7, count: 1 } });
    const told = await list(sim, 'traces');
    expect([told.status, told.headers.get('retry-after'), told.json.retry_after]).toEqual([429, '7', 7]);
    expect((await list(sim, 'traces')).status).toBe(200);
  });
});

describe('windows, environments and pages', () => {
  test('without a window lists, totals and deletes see the last hour only', async () => {
    const sim = await start();
    const [recent] = sim.seedPeople({ people: ['ada'], tracesPerPerson: 1, atMs: sim.now() - 10 * MINUTE });
    const [old] = sim.seedPeople({ people: ['ada'], tracesPerPerson: 1, atMs: sim.now() - 2 * HOUR });
    const both = [...recent!.traceIds, ...old!.traceIds];
    expect(await traceIds(sim, {}, {})).toEqual(recent!.traceIds);
    expect(await logTraceIds(sim, ADA, {})).toEqual(recent!.traceIds);
    const total = await call(sim, 'POST', '/api/request-logs/summary/', { body: { filters: ADA } });
    expect(total.json.number_of_requests).toBe(3);
    expect((await remove(sim, old!.traceIds, {})).json).toEqual({
      deleted_count: 0,
      message: 'No traces matched the given filters',
    });
    expect((await call(sim, 'DELETE', `/api/traces/${old!.traceIds[0]}/`)).status).toBe(200);
    sim.advance(HOUR);
    expect(both.map((id) => sim.truth.isLive(id))).toEqual([true, true]);
    expect((await call(sim, 'DELETE', `/api/traces/${old!.traceIds[0]}/`, { query: EVER })).status).toBe(200);
    sim.advance(MINUTE);
    expect(both.map((id) => sim.truth.isLive(id))).toEqual([true, false]);
  });

  test('an environment is named as the backend names it, is the key’s own when omitted, and no other is touched', async () => {
    const sim = await start();
    const { ada, elsewhere } = people(sim);
    expect(await traceIds(sim, ADA)).toEqual(ada);
    expect(await traceIds(sim, ADA, { ...EVER, environment: 'test' })).toEqual(elsewhere);
    expect(await traceIds(sim, ADA, { ...EVER, environment: 'production' })).toEqual([]);
    const own = await call(sim, 'POST', '/api/traces/list/', { key: sim.apiKeys.test!, query: EVER, body: {} });
    expect(own.json.results).toHaveLength(1);
    expect(await logTraceIds(sim, ADA, { ...EVER, all_envs: true })).toEqual([...ada, ...elsewhere].sort());
    expect(await logTraceIds(sim, ADA, { ...EVER, all_envs: true, is_test: true })).toEqual(elsewhere);

    expect((await remove(sim, [...ada, ...elsewhere], { ...EVER, environment: 'production' })).json.deleted_count).toBe(
      0,
    );
    expect((await remove(sim, [...ada, ...elsewhere], { ...EVER, environment: 'test' })).json.deleted_count).toBe(1);
    sim.advance(MINUTE);
    expect(sim.truth.isLive(elsewhere[0]!)).toBe(false);
    expect(ada.every((id) => sim.truth.isLive(id))).toBe(true);

    sim.habits.set({ environmentAliases: 'aliases' });
    expect(await traceIds(sim, ADA, { ...EVER, environment: 'production' })).toEqual(ada);
    sim.habits.set({ environmentOmitted: 'all' });
    sim.seedPeople({ environment: 'stage', people: ['ada'], tracesPerPerson: 1 });
    expect(await traceIds(sim, ADA)).toHaveLength(3);
  });

  test('pages are offsets into what matches now; count is the page’s length or, if told so, the total', async () => {
    const sim = await start();
    sim.seedPeople({ people: ['ada'], tracesPerPerson: 5 });
    const query = (page: number) => ({ ...EVER, page_size: 2, page, sort_by: 'start_time' });
    const page = async (number: number) => (await list(sim, 'traces', {}, query(number))).json as object;
    const ids = async (number: number) =>
      (await rowsOf(sim, 'traces', {}, query(number))).map((row) => row.trace_unique_id);
    expect(await page(1)).toMatchObject({ count: 2, previous: null, next: expect.stringContaining('page=2') });
    const [third] = await ids(2);
    await remove(sim, (await ids(1)).map(String));
    sim.advance(MINUTE);
    expect(await ids(2)).not.toContain(third);
    expect(sim.truth.isLive(String(third))).toBe(true);
    sim.habits.set({ count: 'total' });
    expect(await page(2)).toMatchObject({ count: 3, next: null });
    const large = await list(sim, 'request-logs', {}, { ...EVER, page_size: 5000 });
    expect(large.json.results).toHaveLength(9);
    const some = await rowsOf(sim, 'request-logs', {}, { ...EVER, include_fields: 'unique_id,trace_unique_id' });
    expect(Object.keys(some[0]!)).toEqual(['unique_id', 'trace_unique_id']);
  });

  test('pages hold fifty rows unless told otherwise, and a thousand at most', async () => {
    const sim = await start();
    sim.seedPeople({ people: ['ada'], tracesPerPerson: 400 });
    const rows = async (query: object) => {
      const reply = await call(sim, 'POST', '/api/request-logs/list/', { query: { ...EVER, ...query }, body: {} });
      return (reply.json.results as unknown[]).length;
    };
    expect([await rows({}), await rows({ page_size: 5000 }), await rows({ page_size: 1000, page: 2 })]).toEqual([
      50, 1000, 200,
    ]);
  });

  test('a total without filters comes from a pre-aggregate that deletions don’t reach', async () => {
    const sim = await start();
    const { ada } = people(sim);
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect([await total(sim), await total(sim, ADA)]).toEqual([12, 0]);
    expect(await total(sim, where('customer_identifier', '', ['bob']))).toBe(6);
  });
});

describe('filters', () => {
  test.each([
    ['', ['ada'], ['ada']],
    ['=', ['ada'], ['ada']],
    ['in', ['ada', 'bob'], ['ada', 'bob']],
    ['IN', ['ada', 'bob'], ['ada', 'bob']],
    ['not', ['ada'], ['Adam', 'bob']],
    ['contains', ['ad'], ['ada']],
    ['icontains', ['AD'], ['Adam', 'ada']],
    ['startswith', ['A'], ['Adam']],
    ['endswith', ['a'], ['ada']],
    ['lt', ['ada'], ['Adam']],
    ['lte', ['ada'], ['Adam', 'ada']],
    ['gt', ['ada'], ['bob']],
    ['gte', ['ada'], ['ada', 'bob']],
    ['isnull', [true], []],
    // What the compiler is said not to know is dropped.
    ['iexact', ['ada'], ['Adam', 'ada', 'bob']],
    ['not_in', ['ada'], ['Adam', 'ada', 'bob']],
  ])('operator %p on %p finds %p', async (operator, value, expected) => {
    const sim = await start();
    sim.seedPeople({ people: ['Adam', 'ada', 'bob'], tracesPerPerson: 1 });
    for (const what of ['traces', 'request-logs'] as const) {
      const rows = await rowsOf(sim, what, where('customer_identifier', operator, value));
      const found = new Set(rows.map((row) => row.customer_identifier));
      expect([...found].sort()).toEqual([...expected].sort());
    }
  });

  test('an unknown operator is dropped, rejected or taken for equals, as the switch says', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    const odd = where('customer_identifier', 'eq', ['ada']);
    expect(await traceIds(sim, odd)).toEqual([...ada, ...bob].sort());
    sim.habits.set({ unknownOperator: 'equals' });
    expect(await traceIds(sim, odd)).toEqual(ada);
    sim.habits.set({ unknownOperator: 'rejected' });
    expect((await list(sim, 'traces', odd)).status).toBe(400);
    expect((await bulkDelete(sim, odd)).status).toBe(400);
    expect(sim.truth.submissions()).toEqual([]);
  });

  test('conditions of several keys all hold unless joined by OR; times and numbers compare as such', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    const from = new Date(sim.now() - 10 * DAY).toISOString();
    expect(await traceIds(sim, { ...ADA, ...where('span_count', 'gte', ['3']) })).toEqual(ada);
    expect(await traceIds(sim, { ...ADA, ...where('span_count', 'gt', [10]) })).toEqual([]);
    expect(await traceIds(sim, where('start_time', 'gte', [from]))).toHaveLength(1);
    const either = { ...ADA, ...where('span_name', '', ['answer']) };
    const or = await call(sim, 'POST', '/api/request-logs/list/', {
      query: { ...EVER, page_size: 100 },
      body: { filters: either, operator: 'OR' },
    });
    expect(or.json.results).toHaveLength(2 * 3 + 2);
    expect(await logTraceIds(sim, either)).toEqual(ada);
    // A span-level key: the trace matches when any of its spans does.
    expect(await traceIds(sim, where('span_name', '', ['step 2']))).toEqual([...ada, ...bob].sort());
  });

  test.each([
    ['metadata__user_id', 'u-1'],
    ['total_tokens', 0],
    ['customer_identifer', 'ada'],
    ['unique_id', 'x'],
  ])('the traces list and the delete drop %p without a word: every trace of the window goes', async (key, value) => {
    const sim = await start();
    const { ada, bob, elsewhere } = people(sim);
    const before = sim.seedPeople({ people: ['cleo'], tracesPerPerson: 1, atMs: sim.now() - 40 * DAY })[0]!.traceIds;
    const query = { start_time: new Date(sim.now() - 35 * DAY).toISOString() };
    expect(await traceIds(sim, where(key, '', [value]), query)).toEqual([...ada, ...bob].sort());
    const reply = await bulkDelete(sim, where(key, '', [value]), query);
    expect(reply.json).toEqual({ deleted_count: 4, message: 'Successfully deleted 4 traces' });
    expect(sim.ledger.deletes().map((one) => [one.dropped, one.ids])).toEqual([[[key], null]]);
    expect(
      sim.truth
        .unasked()
        .map((one) => one.traceId)
        .sort(),
    ).toEqual([...ada, ...bob].sort());
    sim.advance(MINUTE);
    expect(
      sim.truth
        .allTraces()
        .map((one) => one.traceId)
        .sort(),
    ).toEqual([...elsewhere, ...before].sort());
  });

  test('the logs list owns metadata, which the summary shares, and scores, which the summary drops', async () => {
    const sim = await start();
    sim.seedPeople({ people: ['u-1', 'u-2'], tracesPerPerson: 1, key: 'metadata.user_id' });
    const rows = async (filters: object) => (await rowsOf(sim, 'request-logs', filters)).length;
    const byUser = where('metadata__user_id', 'in', ['u-1']);
    expect([await rows(byUser), await total(sim, byUser)]).toEqual([3, 3]);
    const byScore = where('scores__e1', '', ['1']);
    expect([await rows(byScore), await total(sim, byScore)]).toEqual([0, 6]);
    expect(await rows(where('user_id', '', ['u-1']))).toBe(6);
  });

  test('a user who is on child spans only is not found through the traces list', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ people: ['ada'], tracesPerPerson: 1, carriedBy: 'children' });
    const [bob] = sim.seedPeople({ people: ['bob'], tracesPerPerson: 1, carriedBy: 'root' });
    expect(await traceIds(sim, where('customer_identifier', 'in', ['ada', 'bob']))).toEqual(bob!.traceIds);
    expect(await logTraceIds(sim, ADA)).toEqual(ada!.traceIds);
    expect(sim.truth.tracesOf(person('ada'))).toEqual(ada!.traceIds);
  });
});

describe('deleting', () => {
  test('answers at once, takes effect later and by table, and spares everybody else', async () => {
    const sim = await start({ mutationDelayMs: { traces: 5 * MINUTE, spans: 10 * MINUTE } });
    const { ada, bob, elsewhere } = people(sim);
    expect((await remove(sim, ada)).json).toEqual({ deleted_count: 2, message: 'Successfully deleted 2 traces' });
    expect(await traceIds(sim, ADA)).toEqual(ada);
    expect(sim.truth.submissions()).toMatchObject([{ projectId: 'prod', traceIds: ada, executedMs: null, matched: 2 }]);
    sim.advance(6 * MINUTE);
    expect(await traceIds(sim, ADA)).toEqual([]);
    expect(await logTraceIds(sim, ADA)).toEqual(ada);
    expect((await call(sim, 'GET', `/api/traces/${ada[0]}/`)).status).toBe(200);
    expect(sim.truth.isLive(ada[0]!)).toBe(true);
    sim.advance(5 * MINUTE);
    expect(await logTraceIds(sim, ADA)).toEqual([]);
    expect((await call(sim, 'GET', `/api/traces/${ada[0]}/`)).status).toBe(404);
    expect(
      sim.truth
        .deleted()
        .map((one) => one.traceId)
        .sort(),
    ).toEqual(ada);
    expect(sim.truth.unasked()).toEqual([]);
    expect(sim.truth.submissionsOf(ada[0]!)[0]?.executedMs).not.toBeNull();
    expect([...bob, ...elsewhere].every((id) => sim.truth.isLive(id))).toBe(true);
    expect(await traceIds(sim)).toEqual(bob);
  });

  test('without filters it is refused, in the document’s words', async () => {
    const sim = await start();
    people(sim);
    for (const body of [{}, { filters: {} }, { filters: [] }, { filters: null }]) {
      const reply = await call(sim, 'POST', '/api/traces/bulk-delete/', { query: EVER, body });
      expect([reply.status, reply.json.error]).toEqual([400, "Request body must contain a non-empty 'filters' list"]);
    }
    expect([sim.truth.submissions(), sim.truth.allTraces().length]).toEqual([[], 5]);
  });

  test('more than a thousand matches are refused with their number, and nothing goes', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ people: ['ada'], tracesPerPerson: 1001 });
    sim.seedPeople({ people: ['bob'], tracesPerPerson: 1 });
    const refused = await remove(sim, ada!.traceIds);
    expect([refused.status, refused.json.matched_count, typeof refused.json.error]).toEqual([400, 1001, 'string']);
    sim.advance(HOUR);
    expect(sim.truth.tracesOf(person('ada'))).toHaveLength(1001);
    expect((await remove(sim, ada!.traceIds.slice(1))).json.deleted_count).toBe(1000);
    sim.advance(HOUR);
    expect(sim.truth.tracesOf(person('ada'))).toEqual(ada!.traceIds.slice(0, 1));
    expect(sim.truth.tracesOf(person('bob'))).toHaveLength(1);
  });

  test('deleting one trace is always 200, whether there was one or not', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    for (const id of [ada[0]!, ada[0]!, 'never-was']) {
      expect((await call(sim, 'DELETE', `/api/traces/${id}/`, { query: EVER })).status).toBe(200);
    }
    sim.advance(MINUTE);
    expect(await traceIds(sim)).toEqual([ada[1]!, ...bob].sort());
    expect(sim.truth.deleted()).toHaveLength(1);
  });

  test('a span accepted before the delete may land after it, and brings the trace back', async () => {
    const sim = await start({ ingestDelayMs: 5 * MINUTE });
    const { ada, bob } = people(sim);
    const body = [{ trace_unique_id: ada[0], span_unique_id: 'late', span_parent_id: 'x', customer_identifier: 'ada' }];
    await call(sim, 'POST', '/api/v1/traces/ingest/', { body });
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect(ada.map((id) => sim.truth.isLive(id))).toEqual([false, false]);
    sim.advance(5 * MINUTE);
    expect(ada.map((id) => sim.truth.isLive(id))).toEqual([true, false]);
    expect(await logTraceIds(sim, ADA)).toEqual([ada[0]]);
    expect(await traceIds(sim)).toEqual([ada[0]!, ...bob].sort());
    expect(await traceIds(sim, ADA)).toEqual([]);
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect(sim.truth.allTraces().map((one) => one.traceId)).not.toContain(ada[0]);
  });

  test('logs without a trace are in no trace list and outlive every delete of traces', async () => {
    const sim = await start();
    const { ada } = people(sim);
    const { uniqueId } = sim.seedLog({ customerIdentifier: 'ada', input: 'my name is ada' });
    await remove(sim, ada);
    await bulkDelete(sim, ADA);
    sim.advance(MINUTE);
    expect(await traceIds(sim, ADA)).toEqual([]);
    expect(await logTraceIds(sim, ADA)).toEqual(['loose']);
    expect(sim.truth.looseLogsOf(person('ada'))).toEqual([{ uniqueId, projectId: 'prod', customerIdentifier: 'ada' }]);
    const patch = { note: 'erased', is_pinned: true, metadata: { name: '' }, input: 'ignored' };
    const changed = await call(sim, 'PATCH', `/api/request-logs/${uniqueId}/`, { body: patch });
    expect(changed.json).toMatchObject({
      note: 'erased',
      is_pinned: true,
      metadata: { name: '' },
      input: 'my name is ada',
    });
  });

  test.each([
    ['alive', 204, true],
    [404, 404, false],
    [405, 405, false],
  ] as const)('the older delete of a single log: %p', async (spanDelete, status, works) => {
    const sim = await start();
    sim.habits.set({ spanDelete });
    const mine = sim.seedLog({ customerIdentifier: 'ada' });
    const other = sim.seedLog({ customerIdentifier: 'bob' });
    expect((await call(sim, 'DELETE', `/api/request-logs/${mine.uniqueId}/`)).status).toBe(status);
    sim.advance(MINUTE);
    expect(sim.truth.looseLogsOf().map((one) => one.uniqueId)).toEqual(
      works ? [other.uniqueId] : [mine.uniqueId, other.uniqueId],
    );
    expect((await call(sim, 'GET', `/api/request-logs/${mine.uniqueId}/`)).status).toBe(works ? 404 : 200);
    expect(sim.truth.unasked()).toEqual([]);
    if (works) expect((await call(sim, 'DELETE', `/api/request-logs/${mine.uniqueId}/`)).status).toBe(404);
  });

  test('a log without a trace stands in the span storage only: gone there, it is gone', async () => {
    const sim = await start();
    sim.habits.set({ spanDelete: 'alive', mutates: 'spans' });
    const mine = sim.seedLog({ customerIdentifier: 'ada' });
    const other = sim.seedLog({ customerIdentifier: 'bob' });
    await call(sim, 'DELETE', `/api/request-logs/${mine.uniqueId}/`);
    sim.advance(MINUTE);
    expect(sim.truth.looseLogsOf().map((one) => one.uniqueId)).toEqual([other.uniqueId]);
  });

  test('thirty thousand traces are seeded in seconds and found by index', async () => {
    const sim = await start();
    const seeding = performance.now();
    const all = sim.seedPeople({ people: 3000, tracesPerPerson: 10 });
    expect(performance.now() - seeding).toBeLessThan(15_000);
    const reading = performance.now();
    const one = all[1234]!;
    for (let n = 0; n < 50; n += 1) {
      expect(await logTraceIds(sim, where('customer_identifier', '', [one.value]))).toHaveLength(10);
      expect(await traceIds(sim, where('trace_unique_id', 'in', one.traceIds))).toHaveLength(10);
    }
    expect(performance.now() - reading).toBeLessThan(10_000);
    expect(sim.truth.allTraces()).toHaveLength(30_000);
  });
});

describe('what also knows the person', () => {
  test('customers are kept by environment, survive their logs, go alone and come back with a late log', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    const path = '/api/users/ada/';
    const one = await rowsOf(sim, 'users', where('customer_identifier', '', ['ada']));
    expect(one).toMatchObject([{ customer_identifier: 'ada', environment: 'prod', number_of_requests: 6 }]);
    expect(Date.parse(one[0]!.first_seen)).toBeLessThan(Date.parse(one[0]!.last_active_timeframe));
    expect((await call(sim, 'GET', path, { query: { environment: 'test' } })).json.environment).toBe('test');
    await call(sim, 'PATCH', path, { body: { name: 'Ada', email: 'ada@example.com' } });
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect((await call(sim, 'GET', path)).json).toMatchObject({ name: 'Ada', email: 'ada@example.com' });

    sim.seedLog({ customerIdentifier: 'ada' });
    expect((await call(sim, 'DELETE', path)).status).toBe(204);
    expect((await call(sim, 'DELETE', path)).status).toBe(404);
    expect((await call(sim, 'GET', path)).status).toBe(404);
    expect((await call(sim, 'GET', path, { query: { environment: 'test' } })).status).toBe(200);
    expect(sim.truth.looseLogsOf(person('ada'))).toHaveLength(1);
    await call(sim, 'POST', '/api/request-logs/', { body: { customer_identifier: 'ada' } });
    expect((await call(sim, 'GET', path)).json).toMatchObject({ customer_identifier: 'ada', name: null });
    const left = sim.truth.customerRecords().map((record) => `${record.environment} ${record.customerIdentifier}`);
    expect(left.sort()).toEqual(['prod ada', 'prod bob', 'test ada']);
    expect(bob.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test('a customer delete may take its logs and traces along, unasked, or leave even the record', async () => {
    const sim = await start();
    const { ada, bob, elsewhere } = people(sim);
    sim.seedLog({ customerIdentifier: 'ada' });
    sim.habits.set({ customerImmortal: true });
    expect((await call(sim, 'DELETE', '/api/users/ada/')).status).toBe(204);
    expect((await call(sim, 'GET', '/api/users/ada/')).status).toBe(200);
    sim.habits.set({ customerImmortal: false, customerTakesLogs: true });
    expect((await call(sim, 'DELETE', '/api/users/ada/')).status).toBe(204);
    sim.advance(MINUTE);
    expect(sim.truth.looseLogsOf(person('ada'))).toEqual([]);
    expect(
      sim.truth
        .unasked()
        .flatMap((one) => one.traceId ?? [])
        .sort(),
    ).toEqual(ada);
    expect([...bob, ...elsewhere].every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test('the placeholder customer of exporters gathers everybody who was not named', async () => {
    const sim = await start();
    for (const input of ['I am ada', 'I am bob']) {
      await call(sim, 'POST', '/api/request-logs/', { body: { customer_identifier: 'default_user', input } });
    }
    const record = await call(sim, 'GET', '/api/users/default_user/');
    expect([record.status, sim.truth.customerRecords()[0]?.requests]).toEqual([200, 2]);
  });

  test('conversations add up logs', async () => {
    const sim = await start();
    sim.seed({
      traces: [{ spans: [{ threadIdentifier: 'th-1', customerIdentifier: 'ada' }, { threadIdentifier: 'th-1' }] }],
    });
    sim.seedLog({ threadIdentifier: 'th-2', customerIdentifier: 'bob' });
    const threads = await call(sim, 'POST', '/api/log_threads/', { query: EVER, body: { filters: ADA } });
    expect(threads.json.results).toMatchObject([{ thread_identifier: 'th-1', log_count: 2, number_of_requests: 2 }]);
    expect((await call(sim, 'GET', '/api/log_thread/th-2/')).json).toMatchObject({ customer_identifier: 'bob' });
    expect((await call(sim, 'GET', '/api/log_thread/th-3/')).status).toBe(404);
  });

  test('datasets, testsets and experiments keep copies; a dataset delete with an unknown key empties it', async () => {
    const sim = await start();
    const [trace] = sim.seed({ traces: [{ spans: [{ customerIdentifier: 'ada', input: 'I am ada' }] }] });
    const other = sim.seedLog({ customerIdentifier: 'bob' });
    const dataset = sim.createDataset('golden');
    const copy = sim.copyToDataset(dataset, trace!.uniqueIds[0]!);
    sim.copyToDataset(dataset, other.uniqueId);
    const testset = sim.createTestset('cases', [{ q: 'I am ada' }, { q: 'I am bob' }, { q: 'I am ada again' }]);
    const experiment = sim.createExperiment('try', dataset);
    sim.copyToExperiment(experiment, trace!.uniqueIds[0]!);
    await remove(sim, [trace!.traceId]);
    sim.advance(MINUTE);
    expect(sim.truth.copiesHolding(['ada']).map((one) => one.kind)).toEqual([
      'dataset',
      'testset',
      'testset',
      'experiment',
    ]);

    const logs = `/api/datasets/${dataset.id}/logs`;
    const scalar = { customer_identifier: { operator: 'eq', value: 'ada' } };
    const found = await call(sim, 'POST', `${logs}/list/`, { body: { filters: scalar } });
    expect(found.json.results).toMatchObject([{ unique_id: copy.unique_id, trace_unique_id: trace!.traceId }]);
    expect((await call(sim, 'DELETE', `${logs}/${copy.unique_id}/`)).status).toBe(204);
    expect(dataset.logs.map((log) => log.customer_identifier)).toEqual(['bob']);
    const hostile = { filters: { 'metadata.user_id': 'ada' } };
    expect((await call(sim, 'DELETE', `${logs}/delete`, { body: hostile })).status).toBe(200);
    expect(dataset.logs).toEqual([]);

    const rows = `/api/testsets/${testset.id}/rows/`;
    const places = [{ row_index: 0 }, { row_index: 1 }, { row_index: 2 }];
    expect((await call(sim, 'GET', rows)).json.results).toMatchObject(places);
    await call(sim, 'DELETE', rows, { body: { row_indexes: [0, 2] } });
    expect(testset.rows).toEqual([{ q: 'I am bob' }]);
    const experiments = await call(sim, 'POST', '/api/v2/experiments/list/', { body: {} });
    expect(experiments.json.results).toMatchObject([{ name: 'try', dataset_id: dataset.id }]);
    const inside = await call(sim, 'GET', `/api/v2/experiments/${experiment.id}/logs/list/`);
    expect(inside.json.results).toMatchObject([{ customer_identifier: 'ada' }]);
    expect((await call(sim, 'DELETE', `/api/experiments/${experiment.id}/`)).status).toBe(204);
    expect(sim.truth.copiesHolding(['ada'])).toEqual([]);
    expect(sim.truth.looseLogsOf(person('bob'))).toHaveLength(1);
  });

  test('a shared trace is public without a key until its spans go, or for ever', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.shareTrace(ada[0]!);
    const page = `/api/${sim.org}/traces/${ada[0]}/`;
    expect((await call(sim, 'GET', page, { key: null })).json).toMatchObject({ customer_identifier: 'ada' });
    expect((await call(sim, 'GET', `/api/${sim.org}/traces/${bob[0]}/`, { key: null })).status).toBe(404);
    expect((await call(sim, 'GET', `/api/other/traces/${ada[0]}/`, { key: null })).status).toBe(404);
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect((await call(sim, 'GET', page, { key: null })).status).toBe(404);
    sim.habits.set({ keepShares: true });
    expect((await call(sim, 'GET', page, { key: null })).status).toBe(200);
  });
});

describe('bad habits', () => {
  const dropped: [string, Partial<RespanHabits>][] = [
    ['key', { dropFilterKeys: [{ name: 'trace_unique_id', after: 1 }] }],
    ['operator', { dropOperators: [{ name: 'in', after: 1 }] }],
    ['key in deletes only', { dropFilterKeys: [{ name: 'trace_unique_id', on: 'deletes' }] }],
    ['operator on one route', { dropOperators: [{ name: 'in', on: ['/api/traces/bulk-delete/'] }] }],
  ];
  test.each(dropped)('a canary passes, then the %s is dropped and the delete hits everybody', async (_name, habits) => {
    const sim = await start();
    const { ada, bob, elsewhere } = people(sim);
    sim.habits.set(habits);
    expect(await traceIds(sim, where('trace_unique_id', 'in', ['impossible']))).toEqual([]);
    expect((await remove(sim, ada)).json.deleted_count).toBe(4);
    sim.advance(MINUTE);
    expect(
      sim.truth
        .unasked()
        .map((one) => one.traceId)
        .sort(),
    ).toEqual([...ada, ...bob].sort());
    expect(sim.truth.allTraces().map((one) => one.traceId)).toEqual(elsewhere);
  });

  test('a dropped key widens lists and totals of logs as well', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ dropFilterKeys: [{ name: 'customer_identifier', on: ['/api/request-logs/list/'] }] });
    expect(await logTraceIds(sim, ADA)).toEqual([...ada, ...bob].sort());
    expect(await traceIds(sim, ADA)).toEqual(ada);
    sim.habits.set({ dropFilterKeys: [] });
    expect(await logTraceIds(sim, ADA)).toEqual(ada);
  });

  test('in matches its first value only, on traces', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ inFirstOnly: true });
    expect(await traceIds(sim, where('trace_unique_id', 'in', ada))).toEqual(ada.slice(0, 1));
    expect(await logTraceIds(sim, where('trace_unique_id', 'in', ada))).toEqual(ada);
    expect((await remove(sim, ada)).json.deleted_count).toBe(1);
    sim.advance(MINUTE);
    expect(await traceIds(sim)).toEqual([ada[1]!, ...bob].sort());
  });

  test('deletes never run, are late, or lose a share', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ deletesNeverRun: true });
    expect((await remove(sim, ada)).json.deleted_count).toBe(2);
    sim.advance(30 * DAY);
    expect(sim.truth.tracesOf(person('ada'))).toHaveLength(3);
    expect(sim.truth.submissions()[0]?.executedMs).toBeNull();
    sim.habits.set({ deletesNeverRun: false, deletesDelayedMs: 2 * HOUR });
    await remove(sim, ada);
    sim.advance(HOUR);
    expect(ada.every((id) => sim.truth.isLive(id))).toBe(true);
    sim.advance(2 * HOUR);
    expect(ada.some((id) => sim.truth.isLive(id))).toBe(false);
    sim.habits.reset();
    const [cleo] = sim.seedPeople({ people: ['cleo'], tracesPerPerson: 200 });
    sim.habits.set({ dropShare: 0.5 });
    expect((await remove(sim, cleo!.traceIds)).json.deleted_count).toBe(200);
    sim.advance(MINUTE);
    const left = sim.truth.tracesOf(person('cleo')).length;
    expect(left).toBeGreaterThan(50);
    expect(left).toBeLessThan(150);
    expect(bob.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test.each(['traces', 'spans'] as const)(
    'the mutation reaches the table of %s only, until it is repeated',
    async (mutates) => {
      const sim = await start();
      const { ada, bob } = people(sim);
      sim.habits.set({ mutates });
      await remove(sim, ada);
      sim.advance(MINUTE);
      expect(await traceIds(sim, ADA)).toEqual(mutates === 'traces' ? [] : ada);
      expect(await logTraceIds(sim, ADA)).toEqual(mutates === 'traces' ? ada : []);
      expect((await call(sim, 'GET', `/api/traces/${ada[0]}/`)).status).toBe(mutates === 'traces' ? 200 : 404);
      expect(sim.truth.isLive(ada[0]!)).toBe(true);
      sim.habits.reset();
      await remove(sim, ada);
      sim.advance(MINUTE);
      expect(ada.some((id) => sim.truth.isLive(id))).toBe(false);
      expect(await traceIds(sim)).toEqual(bob);
    },
  );

  test('only the root goes, the children stay and nobody finds them by trace', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ leaveChildren: true });
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect(await traceIds(sim, ADA)).toEqual([]);
    expect(await logTraceIds(sim, ADA)).toEqual(ada);
    expect(await traceIds(sim)).toEqual([...ada, ...bob].sort());
    expect(sim.truth.liveTracesOf(person('ada'))[0]).toMatchObject({
      rootLives: false,
      spans: { spans: 2, traces: 2 },
    });
  });

  test('a narrow window takes only the spans that lie in it', async () => {
    const sim = await start();
    const atMs = sim.now() - DAY;
    const spans = [{ startTime: atMs }, { startTime: atMs + 5 * MINUTE }].map((one) => ({
      ...one,
      customerIdentifier: 'ada',
    }));
    const [trace] = sim.seed({ traces: [{ spans }] });
    sim.habits.set({ windowCutsSpans: true });
    const narrow = {
      start_time: new Date(atMs - MINUTE).toISOString(),
      end_time: new Date(atMs + MINUTE).toISOString(),
    };
    expect((await remove(sim, [trace!.traceId], narrow)).json.deleted_count).toBe(1);
    sim.advance(MINUTE);
    expect(sim.truth.liveTracesOf(person('ada'))[0]).toMatchObject({ rootLives: false, spans: { spans: 1 } });
  });

  test('late spans and late traces turn up after a delete', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ lateSpans: { count: 1, delayMs: HOUR }, lateTraces: { count: 1, delayMs: 2 * HOUR } });
    await remove(sim, ada);
    sim.advance(MINUTE);
    expect(await logTraceIds(sim, ADA)).toEqual([]);
    sim.advance(HOUR);
    const back = await logTraceIds(sim, ADA);
    expect(ada).toContain(back[0]);
    sim.advance(HOUR);
    const now = sim.truth.liveTracesOf(person('ada')).filter((one) => one.projectId === 'prod');
    expect(now.map((one) => [ada.includes(one.traceId), one.rootLives]).sort()).toEqual([
      [false, true],
      [true, false],
    ]);
    expect(bob.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test('environments are ignored: what was named is deleted everywhere', async () => {
    const sim = await start();
    sim.seed({ traces: [{ traceId: 'same', spans: [{}] }] });
    sim.seed({
      environment: 'test',
      traces: [
        { traceId: 'same', spans: [{}] },
        { traceId: 'other', spans: [{}] },
      ],
    });
    sim.habits.set({ environmentsIgnored: true });
    expect((await remove(sim, ['same'], { ...EVER, environment: 'prod' })).json.deleted_count).toBe(2);
    sim.advance(MINUTE);
    expect(sim.truth.unasked().map((one) => [one.traceId, one.projectId])).toEqual([['same', 'test']]);
    expect(sim.truth.allTraces().map((one) => one.traceId)).toEqual(['other']);
  });

  test('windows are ignored, or cut to seven days', async () => {
    const sim = await start();
    const { ada } = people(sim);
    sim.habits.set({ windowIgnored: true });
    expect(await traceIds(sim, ADA, {})).toEqual(ada);
    sim.habits.set({ windowIgnored: false, windowAtMostDays: 7 });
    expect(await traceIds(sim, ADA)).toEqual([]);
    expect(await logTraceIds(sim, ADA)).toEqual([]);
    expect((await remove(sim, ada)).json.deleted_count).toBe(0);
    sim.advance(MINUTE);
    expect(ada.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test.each([
    ['all', [0, 0, 0, 0]],
    ['filters', [0, 4, 0, 12]],
    ['logs', [2, 4, 0, 0]],
    ['traces', [0, 0, 6, 12]],
  ] as const)('reads are blind: %s', async (blind, expected) => {
    const sim = await start();
    const { ada } = people(sim);
    sim.habits.set({ blind });
    const rows = async (what: 'traces' | 'request-logs', filters: object) => (await rowsOf(sim, what, filters)).length;
    expect([
      await rows('traces', ADA),
      await rows('traces', {}),
      await rows('request-logs', ADA),
      await rows('request-logs', {}),
    ]).toEqual(expected);
    expect(ada.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test('reads are stale: the deleted still shows, the new not yet', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    await remove(sim, ada);
    sim.advance(10 * MINUTE);
    sim.seedPeople({ people: ['ada'], tracesPerPerson: 1 });
    sim.habits.set({ stale: 11 * MINUTE });
    expect(await traceIds(sim)).toEqual([]);
    sim.habits.set({ stale: 10 * MINUTE });
    expect(await traceIds(sim)).toEqual([...ada, ...bob].sort());
    sim.habits.set({ stale: 0 });
    expect(await traceIds(sim)).toHaveLength(3);
  });

  test('pages shift, counts are inflated, and the deletion is the same', async () => {
    const sim = await start();
    const { ada, bob } = people(sim);
    sim.habits.set({ shiftingPages: { by: 1 } });
    const page = (number: number) => rowsOf(sim, 'traces', {}, { ...EVER, page_size: 1, page: number });
    const seen = [...(await page(1)), ...(await page(2)), ...(await page(3))];
    expect(seen).toHaveLength(2);
    sim.habits.set({ countsInflatedBy: 3 });
    expect((await remove(sim, ada)).json.deleted_count).toBe(5);
    sim.habits.set({ countsInflatedBy: 1000 });
    const refused = await remove(sim, bob.slice(0, 1));
    expect([refused.status, refused.json.matched_count]).toEqual([400, 1001]);
    sim.advance(MINUTE);
    expect(sim.truth.deleted()).toHaveLength(2);
    expect(bob.every((id) => sim.truth.isLive(id))).toBe(true);
  });

  test.each([400, 422])('a batch with a certain id is refused as a whole with %i', async (status) => {
    const sim = await start();
    const { ada } = people(sim);
    sim.habits.set({ rejectBatchWith: { ids: [ada[1]!], status } });
    expect((await remove(sim, ada)).status).toBe(status);
    expect((await remove(sim, ada.slice(0, 1))).json.deleted_count).toBe(1);
    sim.advance(MINUTE);
    expect(ada.map((id) => sim.truth.isLive(id))).toEqual([false, true]);
  });

  test('a missing trace may be an empty one', async () => {
    const sim = await start();
    expect((await call(sim, 'GET', '/api/traces/none/')).status).toBe(404);
    sim.habits.set({ missingTrace: 'empty' });
    expect((await call(sim, 'POST', '/api/traces/none/')).json).toMatchObject({ span_count: 0, span_tree: [] });
  });

  test('the habits that any service may have strike here too', async () => {
    const sim = await start();
    const { ada } = people(sim);
    sim.habits.set({ serverErrors: { after: true, count: 1, on: 'deletes' } });
    expect((await remove(sim, ada.slice(0, 1))).status).toBe(500);
    sim.habits.set({ resetAfter: { count: 1, on: ['/api/traces/bulk-delete/'] } });
    await expect(remove(sim, ada.slice(1))).rejects.toThrow('fetch failed');
    sim.advance(MINUTE);
    expect(ada.some((id) => sim.truth.isLive(id))).toBe(false);
    sim.habits.set({ missingFields: ['customer_identifier'], extraFields: true });
    const [row] = (await list(sim, 'traces')).json.results;
    expect([row.customer_identifier, typeof row.x_new_field]).toEqual([undefined, 'object']);
    expect(() => sim.habits.set({ noSuchHabit: true } as never)).toThrow('unknown habit');
    sim.habits.reset();
    expect(sim.ledger.count({ family: 'deletes', outcome: 'reset-after' })).toBe(1);
  });
});

test('a process of its own is steered over its control plane', async () => {
  const options = JSON.stringify({ org: 'shop', limits: false, apiKeys: [{ key: 'k-stage', environment: 'stage' }] });
  const child = spawn(process.execPath, ['src/simulators/respan/main.ts', '--options', options]);
  try {
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const sim = JSON.parse(line) as { url: string; apiKey: string; org: string; apiKeys: object };
    expect(sim).toMatchObject({ org: 'shop', apiKey: 'k-stage', apiKeys: { stage: 'k-stage' } });
    const control = async (method: string, path: string, body?: unknown) => {
      const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
      return (await fetch(`${sim.url}/_simulator/${path}`, init)).json();
    };
    const people = { environment: 'stage', people: ['ada'], tracesPerPerson: 2, atMs: Date.now() - MINUTE };
    const [ada] = (await control('POST', 'seed-people', people)) as { traceIds: string[] }[];
    await control('POST', 'seed-log', { environment: 'stage', customerIdentifier: 'ada' });
    expect(await control('POST', 'truth/loose-logs-of', person('ada'))).toHaveLength(1);
    await control('PUT', 'habits', { deletesDelayedMs: DAY });
    const body = JSON.stringify({ filters: where('trace_unique_id', 'in', ada!.traceIds.slice(0, 1)) });
    const headers = { authorization: 'Bearer k-stage' };
    await fetch(`${sim.url}/api/traces/bulk-delete/`, { method: 'POST', headers, body });
    expect(await control('GET', `truth/traces/${ada!.traceIds[0]}`)).toMatchObject({ live: true });
    await control('POST', 'advance', { ms: 2 * DAY });
    expect(await control('GET', `truth/traces/${ada!.traceIds[0]}`)).toMatchObject({ live: false });
    expect(await control('POST', 'truth/traces-of', person('ada'))).toMatchObject([{ traceId: ada!.traceIds[1] }]);
    expect(await control('GET', 'truth/unasked')).toEqual([]);
    expect(await control('GET', 'truth/customers')).toHaveLength(1);
    expect(await control('GET', 'ledger?family=deletes')).toMatchObject([{ status: 200, projectId: 'stage' }]);
    expect(await control('GET', 'state')).toMatchObject({ submissions: 1, deletions: 1 });
  } finally {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }
});
