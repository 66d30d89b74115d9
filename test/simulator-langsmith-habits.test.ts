/* eslint-disable @typescript-eslint/no-deprecated -- v1 ends on 31 January 2027; until then its SDK calls must work here */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { LangSmithHabits } from '../src/simulators/langsmith/index.ts';
import {
  ADA,
  call,
  collect,
  DAY,
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
  WEEK,
  type Reply,
} from './support/langsmith-simulator.ts';

afterEach(stopAll);

describe('habits', () => {
  async function deleted(habits: Partial<LangSmithHabits>, weekends = 1) {
    const sim = await start();
    const found = people(sim);
    sim.habits.set(habits);
    await remove(sim, found.chat, found.ada.traceIds);
    if (weekends > 0) sim.advanceWeekends(weekends);
    return { sim, ...found, query: { project_ids: [found.chat], filter: ADA } };
  }

  test('skipWeekends: accepted, not executed', async () => {
    const { sim, query } = await deleted({ skipWeekends: 2 }, 2);
    expect(await v2Traces(sim, query)).toHaveLength(2);
    sim.advanceWeekends(1);
    expect(await v2Traces(sim, query)).toEqual([]);
    const never = await deleted({ skipWeekends: Infinity }, 50);
    expect(await v2Traces(never.sim, never.query)).toHaveLength(2);
  });

  test('dropShare: some ids are lost, others at the next try', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 100 });
    sim.habits.set({ dropShare: 0.5 });
    const left: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      await remove(sim, ada!.projectId, ada!.traceIds);
      sim.advanceWeekends(1);
      left.push(sim.truth.tracesOf([{ key: 'user_id', value: 'ada' }]).length);
    }
    expect(left[0]).toBeGreaterThan(30);
    expect(left[0]).toBeLessThan(70);
    expect(left[1]).toBeLessThan(left[0]! * 0.8);
    expect(left[2]).toBeLessThan(left[1]!);
  });

  test('viewLag: gone in one view, weeks later in the other', async () => {
    const { sim, ada, chat, query } = await deleted({ viewLag: { view: 'v1', weeks: 2 } });
    expect(await v2Traces(sim, query)).toEqual([]);
    expect(await v1Traces(sim, { session: [chat], filter: ADA })).toHaveLength(2);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(true);
    sim.advance(2 * WEEK);
    expect(await v1Traces(sim, { session: [chat], filter: ADA })).toEqual([]);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(false);
  });

  test('lateTraces and lateRuns: something comes back', async () => {
    const traces = await deleted({ lateTraces: { count: 1, delayMs: HOUR } });
    const [late] = await v2Traces(traces.sim, traces.query);
    expect(traces.ada.traceIds).not.toContain(late);
    expect(await v2Traces(traces.sim, traces.query)).toHaveLength(1);
    const runs = await deleted({ lateRuns: { count: 1 } });
    const back = await v2Traces(runs.sim, runs.query);
    expect(runs.ada.traceIds).toEqual(expect.arrayContaining(back));
    expect(back).toHaveLength(1);
  });

  test('rejectBatchWith: one bad id spoils the batch', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    sim.habits.set({ rejectBatchWith: { ids: [ada.traceIds[1]!], status: 400 } });
    expect((await remove(sim, chat, ada.traceIds)).status).toBe(400);
    expect((await remove(sim, chat, [ada.traceIds[0]!])).status).toBe(202);
    sim.advanceWeekends(1);
    expect(sim.truth.tracesOf([{ key: 'user_id', value: 'ada' }])).toContain(ada.traceIds[1]);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(false);
  });

  test('keepFeedback and keepShares', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const client = sdk(sim);
    await client.createFeedback(ada.traceIds[0]!, 'stars', { score: 1, sessionId: chat });
    await client.shareRun(ada.traceIds[0]!);
    sim.habits.set({ keepFeedback: true, keepShares: true });
    await remove(sim, chat, ada.traceIds);
    sim.advanceWeekends(1);
    expect(await collect(client.listFeedback({ runIds: [ada.traceIds[0]!] }))).toHaveLength(1);
    expect((await call(sim, 'GET', '/api/v1/workspaces/current/shared')).json.entities).toHaveLength(1);
  });

  test('throttle, serverErrors and htmlErrors: by count, scope and share', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const read = async () => v2(sim, { project_ids: [chat] });
    sim.habits.set({ throttle: { on: 'reads', count: 1, retryAfter: 7 } });
    const slow = await read();
    expect([slow.status, slow.headers.get('retry-after')]).toEqual([429, '7']);
    expect((await read()).status).toBe(200);
    sim.habits.set({ throttle: { every: 2, retryAfter: null } });
    const every = [await read(), await read(), await read(), await read()];
    expect(every.map((one) => one.status)).toEqual([200, 429, 200, 429]);
    expect(every[1]!.headers.get('retry-after')).toBeNull();

    sim.habits.reset();
    sim.habits.set({ serverErrors: { on: 'deletes', status: 503, count: 1 } });
    expect((await read()).status).toBe(200);
    expect((await remove(sim, chat, [ada.traceIds[0]!])).status).toBe(503);
    expect(sim.truth.submissionsOf(ada.traceIds[0]!)).toEqual([]);
    sim.habits.set({ serverErrors: { on: 'deletes', after: true } });
    expect((await remove(sim, chat, [ada.traceIds[0]!])).status).toBe(500);
    expect(sim.truth.submissionsOf(ada.traceIds[0]!)).toHaveLength(1);

    sim.habits.reset();
    sim.habits.set({ htmlErrors: { status: 200, on: ['/api/v2/runs/query'] } });
    const html = await read();
    expect([html.status, html.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(html.json).toBeNull();
    expect((await call(sim, 'GET', '/api/v1/sessions')).status).toBe(200);
    sim.habits.set({ htmlErrors: { share: 0.5 } });
    const statuses = await Promise.all(Array.from({ length: 40 }, async () => (await read()).status));
    expect(statuses).toContain(502);
    expect(statuses).toContain(200);
  });

  test('resetBefore and resetAfter: the same silence, another effect', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    sim.habits.set({ resetBefore: { on: 'deletes', count: 1 } });
    await expect(remove(sim, chat, [ada.traceIds[0]!])).rejects.toThrow();
    expect(sim.truth.submissions()).toEqual([]);
    sim.habits.set({ resetBefore: null, resetAfter: { on: 'deletes', count: 1 } });
    await expect(remove(sim, chat, [ada.traceIds[0]!])).rejects.toThrow();
    expect(sim.truth.submissionsOf(ada.traceIds[0]!)).toHaveLength(1);
    expect(sim.ledger.entries.slice(-2).map((one) => one.outcome)).toEqual(['reset-before', 'reset-after']);
    expect((await remove(sim, chat, [ada.traceIds[0]!])).status).toBe(202);
  });

  test('blind: all reads or only filter queries come back empty', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const session = [chat];
    sim.habits.set({ blind: { what: 'filter' } });
    expect(await v2Traces(sim, { project_ids: session, filter: ADA })).toEqual([]);
    expect(await v2Traces(sim, { project_ids: session })).toHaveLength(4);
    sim.habits.set({ blind: { what: 'all', view: 'v2' } });
    expect(await v2Traces(sim, { project_ids: session })).toEqual([]);
    expect(await v1Traces(sim, { session })).toHaveLength(4);
    expect((await call(sim, 'GET', '/api/v1/sessions')).json).toHaveLength(2);
    const one = `/api/v2/runs/${ada.traceIds[0]!}?project_id=${chat}`;
    expect((await call(sim, 'GET', one)).status).toBe(404);
    sim.habits.set({ blind: { what: 'all', projects: true } });
    expect((await call(sim, 'GET', '/api/v1/sessions')).json).toEqual([]);
    sim.habits.reset();
    expect((await call(sim, 'GET', one)).status).toBe(200);
  });

  test('stale: reads show an earlier state', async () => {
    const { sim, query } = await deleted({});
    expect(await v2Traces(sim, query)).toEqual([]);
    sim.habits.set({ stale: 4 * DAY });
    expect(await v2Traces(sim, query)).toHaveLength(2);
    sim.advance(4 * DAY);
    expect(await v2Traces(sim, query)).toEqual([]);
  });

  test('v1Gone: the deprecated routes end, the others stay', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    for (const status of [404, 410] as const) {
      sim.habits.set({ v1Gone: status });
      expect((await call(sim, 'POST', '/runs/query', { session: [chat] })).status).toBe(status);
      expect((await call(sim, 'GET', `/api/v1/runs/${ada.traceIds[0]!}`)).status).toBe(status);
    }
    expect((await v2(sim, { project_ids: [chat] })).status).toBe(200);
    expect((await call(sim, 'GET', '/api/v1/sessions')).status).toBe(200);
    expect((await remove(sim, chat, [UNKNOWN])).status).toBe(202);
  });

  test('extraFields, missingFields and truncateBody change only the shape', async () => {
    const sim = await start();
    const { chat } = people(sim);
    const read = async () => v2(sim, { project_ids: [chat], selects: ['ID', 'TRACE_ID'] });
    sim.habits.set({ extraFields: true });
    const more = await read();
    expect(more.json).toHaveProperty('x_new_field');
    expect(more.json.items[0]).toHaveProperty('x_new_field');
    sim.habits.set({ extraFields: false, missingFields: ['trace_id', 'next_cursor'] });
    const less = await read();
    expect(less.json).not.toHaveProperty('next_cursor');
    expect(Object.keys(less.json.items[0] as object)).toEqual(['id']);
    sim.habits.set({ missingFields: [], truncateBody: { count: 1 } });
    const cut = await read();
    expect([cut.status, cut.json]).toEqual([200, null]);
    sim.habits.set({ truncateBody: { count: 1, how: 'drop' } });
    await expect(read()).rejects.toThrow();
    expect((await read()).json.items).toHaveLength(12);
  });

  test('queryFilterIgnored: everybody comes back', async () => {
    const sim = await start();
    const { chat } = people(sim);
    sim.habits.set({ queryFilterIgnored: true });
    expect(await v2Traces(sim, { project_ids: [chat], filter: ADA })).toHaveLength(4);
    expect(await v1Traces(sim, { session: [chat], filter: ADA })).toHaveLength(4);
  });

  test('traceIdFilter: in(trace_id, ...) is refused or matches nothing', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    const query = { project_ids: [chat], filter: `in(trace_id, ${JSON.stringify(ada.traceIds)})` };
    expect(await v2Traces(sim, query)).toHaveLength(2);
    sim.habits.set({ traceIdFilter: 'rejected' });
    expect((await v2(sim, query)).status).toBe(400);
    sim.habits.set({ traceIdFilter: 'ignored' });
    expect((await v2(sim, query)).json).toEqual({ items: [], next_cursor: null });
  });

  test('shiftingPages: rows slip between pages', async () => {
    const sim = await start();
    const [ada] = sim.seedPeople({ project: 'chat', people: ['ada'], tracesPerPerson: 20, runsPerTrace: 1 });
    const project_ids = [ada!.projectId];
    const read = async () => {
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const page: Reply = await v2(sim, { project_ids, page_size: 5, ...(cursor === null ? {} : { cursor }) });
        seen.push(...(page.json.items as { id: string }[]).map((run) => run.id));
        cursor = page.json.next_cursor as string | null;
      } while (cursor !== null);
      return [seen.length, new Set(seen).size];
    };
    expect(await read()).toEqual([20, 20]);
    sim.habits.set({ shiftingPages: { by: 0 } });
    expect(await read()).toEqual([20, 20]);
    sim.habits.set({ shiftingPages: { by: 2 } });
    expect((await read())[0]).toBeLessThan(20);
    sim.habits.set({ shiftingPages: { by: -2 } });
    const [rows, distinct] = await read();
    expect(rows).toBeGreaterThan(20);
    expect(distinct).toBe(20);
  });

  test('slow and dateSkewMs', async () => {
    const sim = await start();
    sim.habits.set({ slow: { ms: 30 }, dateSkewMs: -HOUR });
    const before = performance.now();
    const reply = await call(sim, 'GET', '/info');
    expect(performance.now() - before).toBeGreaterThan(25);
    expect(sim.now() - Date.parse(reply.headers.get('date')!)).toBeGreaterThan(HOUR - 5000);
  });

  test('projects renamed, deleted and made again', async () => {
    const sim = await start();
    const { ada, chat } = people(sim);
    sim.renameProject('chat', 'talk');
    expect(sim.project('talk').id).toBe(chat);
    const again = sim.recreateProject('talk', { cleanup: 'now' });
    expect(again.id).not.toBe(chat);
    expect(sim.truth.isLive(ada.traceIds[0]!)).toBe(false);
    expect(sim.truth.unasked()).toEqual([]);
    sim.deleteProject('support');
    expect((await call(sim, 'GET', '/api/v1/sessions')).json).toMatchObject([{ name: 'talk', id: again.id }]);
    expect(() => sim.habits.set({ nonsense: 1 } as object)).toThrow('unknown habit');
  });

  test('a switch does not reach back: a batch that was due runs under the habits of its time', async () => {
    const { sim, query } = await deleted({});
    sim.habits.set({ skipWeekends: Infinity });
    expect(await v2Traces(sim, query)).toEqual([]);
  });
});
