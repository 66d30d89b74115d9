import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { imbalances } from '../../src/erasure/ledger.ts';
import type { ConnectionStatus, RequestStatus } from '../../src/erasure/status.ts';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import type { World } from '../support/world.ts';
import { Phoenix, type StoredSpan } from './support/phoenix.ts';
import { PHOENIX_ACCEPT } from './support/phoenix-harness.ts';
import { PHOENIX_CONNECTION, phoenixWorld, traceOf, type TraceToWrite } from './support/phoenix-world.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './support/spans.ts';

/** Installing the server and its first start. */
const START_MS = 900_000;
/** The server is slow to write on a busy machine. */
const TEST_MS = 300_000;

let server: Phoenix;
let world: World | null = null;

beforeAll(async () => {
  server = await Phoenix.start();
}, START_MS);
afterEach(async () => {
  await world?.close();
  world = null;
  await server.release();
});
afterAll(async () => {
  await server.close();
}, 60_000);

const idle = (): void => undefined;

/** Writes traces and waits until they are there. */
async function write(...traces: readonly TraceToWrite[]): Promise<SpanToWrite[][]> {
  const spans = traces.map(traceOf);
  await server.write(spans.flat());
  return spans;
}

/** People nobody asked to erase, so that reads have something to see. */
async function others(project: string, ...names: readonly (string | number)[]): Promise<SpanToWrite[][]> {
  return write(...names.flatMap((user) => [0, 1].map(() => ({ project, user, input: 'what others say' }))));
}

/** Rows with their whole content, for comparing. */
function rowsOf(spans: readonly SpanToWrite[]): StoredSpan[] {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  return server
    .stored()
    .filter(({ spanId }) => ids.has(spanId))
    .sort((a, b) => (a.spanId < b.spanId ? -1 : 1));
}

function laneOf(status: RequestStatus): ConnectionStatus {
  const lane = status.connections[PHOENIX_CONNECTION];
  if (lane === undefined) throw new Error('no such lane');
  expect(imbalances(lane)).toEqual([]);
  return lane;
}

const person = (value: string) => ({ identifiers: [{ kind: 'user_id', value }] });

/** A port to the server, outside any workflow. */
function openDirectly(projects?: readonly string[], fetchBy?: typeof fetch) {
  const config = connectionSchema.parse({
    store: 'phoenix',
    baseUrl: server.url,
    identifiers: { user_id: ['user.id'] },
    settle: '1 s',
    ...(projects === undefined ? {} : { projects }),
  });
  return openStore('phoenix-direct', config, { clock: null, ...(fetchBy === undefined ? {} : { fetch: fetchBy }) });
}

const LONG = 'x'.repeat(300);
/** Erased, each by a request of its own. */
const ERASED = ['Jürgen Groß', "o'neil", `a'b"c`, '12345', LONG, 'u_1'] as const;
/** A careless search takes these for one of them. */
const LOOK_ALIKES = [
  'Jurgen Gross',
  'jürgen groß',
  'Jürgen Großmann',
  'oneil',
  `a'b`,
  '123456',
  1234,
  LONG.slice(1),
  'u_10',
  'uX1',
  'U_1',
];

describe('a real Phoenix', () => {
  test(
    'P13 P15: identifiers with quotes, umlauts, numbers, 300 characters and look-alikes are erased, and nobody else is',
    async () => {
      const projects = ['classes', 'classes of another'];
      const theirs = await write(
        ...projects.flatMap((project) =>
          ERASED.flatMap((user): TraceToWrite[] => [
            { project, user },
            { project, user, onChild: true, spans: 3 },
            ...(user === '12345' ? [{ project, user: 12_345 }] : []),
          ]),
        ),
      );
      const kept = (
        await write(
          ...projects.flatMap((project) =>
            LOOK_ALIKES.flatMap((user) => [
              { project, user },
              { project, user },
            ]),
          ),
        )
      ).flat();
      const before = rowsOf(kept);
      expect(before).toHaveLength(kept.length);
      world = await phoenixWorld('phoenix-classes', server, { projects, accept: PHOENIX_ACCEPT });
      const { client } = world;
      const erasures = await Promise.all(ERASED.map((value) => client.erase(person(value))));
      for (const [index, erasure] of erasures.entries()) {
        const end = await erasure.result();
        const count = ERASED[index] === '12345' ? 6 : 4;
        expect([ERASED[index], end.status]).toEqual([ERASED[index], 'verified']);
        expect(laneOf(end).traces).toMatchObject({ matched: count, verifiedAbsent: count });
      }
      expect(rowsOf(theirs.flat())).toEqual([]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P5: what the attribute filter of REST does not find is asked by GraphQL in both searches, and both find it',
    async () => {
      const project = 'languages';
      const [mine] = await write({ project, user: 'Zoë' }, { project, user: 'plain-1' }, { project, user: 'Zoë Ω' });
      const id = server.stored([project])[0]?.projectId ?? '';
      const asked = new URLSearchParams({ attribute: 'user.id:"Zoë"' });
      const { json } = await server.call('GET', `/v1/projects/${encodeURIComponent(id)}/spans?${asked.toString()}`);
      // The reason for it all: the server says "nothing" of a span that is there.
      expect(json).toEqual({ data: [], next_cursor: null });
      const store = openDirectly([project]);
      const projects = await store.projects(idle);
      const window = { fromMs: 0, toMs: Date.now() };
      const terms = [{ kind: 'user_id', keys: ['user.id'], variants: ['Zoë'] }];
      for (const finder of store.finders) {
        const read = await finder.find({ projects, terms, window, controls: [], progress: idle });
        const exact = read.rows.filter(({ persons }) => persons.some(({ text }) => text === 'Zoë'));
        expect(exact.map(({ traceId }) => traceId)).toEqual([mine?.[0]?.traceId]);
        expect(read.report.route).toBe('POST /graphql');
      }
    },
    TEST_MS,
  );

  test(
    'P13: row numbers that SQLite gives out again never lead a delete to another trace',
    async () => {
      const project = 'row numbers';
      const calls: string[] = [];
      const traces = await write(...[0, 1, 2, 3].map(() => ({ project, user: 'u_rows' })));
      const ids = traces.map(([first]) => first?.traceId ?? '');
      const youngest = ids.at(-1) ?? '';
      let stranger: SpanToWrite[] = [];
      // Just before the call by row numbers leaves, the youngest trace goes and somebody else's gets its number.
      const store = openDirectly([project], async (input, init) => {
        const body = typeof init?.body === 'string' ? init.body : '';
        if (body.includes('deleteTraces(') && stranger.length === 0) {
          const before = rowNumber(youngest);
          await server.call('DELETE', `/v1/traces/${youngest}`);
          stranger = (await write({ project, user: 'stranger' })).flat();
          expect(rowNumber(stranger[0]?.traceId ?? '')).toBe(before);
        }
        calls.push(`${init?.method ?? 'GET'} ${body.includes('deleteTraces(') ? 'together' : 'else'}`);
        return fetch(input, init);
      });
      await store.projects(idle);
      const projectId = server.stored([project])[0]?.projectId ?? '';
      const refs = ids.map((traceId) => ({ projectId, traceId }));
      await store.lookups[0]?.lookup({
        traces: refs,
        window: { fromMs: 0, toMs: Date.now() },
        controls: [],
        progress: idle,
      });
      await store.submit({ projectId, traces: refs, lastWord: () => Promise.resolve(), progress: idle });
      expect(calls).toContain('POST together');
      expect(
        server
          .stored([project])
          .map(({ spanId }) => spanId)
          .sort(),
      ).toEqual(stranger.map(({ spanId }) => spanId).sort());
    },
    TEST_MS,
  );

  test(
    'P13 P20: when the server refuses a delete of many because one is gone, the others go one by one',
    async () => {
      const project = 'all or nothing';
      const traces = await write(...[0, 1, 2, 3, 4].map(() => ({ project, user: 'u_many' })));
      const kept = (await others(project, 'other-1')).flat();
      const ids = traces.map(([first]) => first?.traceId ?? '');
      let raced = false;
      const store = openDirectly([project], async (input, init) => {
        if (typeof init?.body === 'string' && init.body.includes('deleteTraces(') && !raced) {
          raced = true;
          await server.call('DELETE', `/v1/traces/${ids[1]}`);
        }
        return fetch(input, init);
      });
      await store.projects(idle);
      const projectId = server.stored([project])[0]?.projectId ?? '';
      const refs = ids.map((traceId) => ({ projectId, traceId }));
      const window = { fromMs: 0, toMs: Date.now() };
      await store.lookups[0]?.lookup({ traces: refs, window, controls: [], progress: idle });
      await store.submit({ projectId, traces: refs, lastWord: () => Promise.resolve(), progress: idle });
      expect(raced).toBe(true);
      expect(
        server
          .stored([project])
          .map(({ spanId }) => spanId)
          .sort(),
      ).toEqual(kept.map(({ spanId }) => spanId).sort());
    },
    TEST_MS,
  );

  test(
    'P22: a session goes when its last trace does, and one that others’ traces keep is told, as examples are',
    async () => {
      const project = 'sessions';
      await write(
        { project, user: 'u_42', session: 'only theirs' },
        { project, user: 'u_42', session: 'only theirs' },
        { project, user: 'u_42', session: 'of two' },
      );
      const kept = (await write({ project, user: 'other-1', session: 'of two' }, { project, user: 'other-2' })).flat();
      const before = rowsOf(kept);
      const [span] = server.stored([project]);
      const made = await server.call('POST', '/v1/datasets/upload?sync=true', {
        action: 'create',
        name: 'examples',
        inputs: [{ question: 'copied text' }],
        outputs: [{}],
        metadata: [{}],
        span_ids: [span?.spanId],
      });
      expect(made.status).toBe(200);
      // Deleted already, so it seems: older versions of the dataset keep its text.
      const { dataset_id: dataset } = (made.json as { data: { dataset_id: string } }).data;
      const listed = await server.call('GET', `/v1/datasets/${dataset}/examples`);
      const { examples } = (listed.json as { data: { examples: { id: string }[] } }).data;
      const dropped = await server.call('POST', '/graphql', {
        query:
          'mutation Drop($ids: [ID!]!) { deleteDatasetExamples(input: { exampleIds: $ids }) { dataset { exampleCount } } }',
        variables: { ids: examples.map(({ id }) => id) },
      });
      expect(dropped.json).toEqual({ data: { deleteDatasetExamples: { dataset: { exampleCount: 0 } } } });
      world = await phoenixWorld('phoenix-sessions', server, { projects: [project], accept: PHOENIX_ACCEPT });
      const end = await world.eraseToEnd(person('u_42'));
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.exceptions.map(({ kind }) => kind)).toEqual(['manual-copies', 'shared-threads']);
      expect(laneOf(end)).toMatchObject({ traces: { verifiedAbsent: 3 }, copies: { manual: 2, erased: 1 } });
      expect(
        server.query(
          'select session_id as id from project_sessions where session_id in (?, ?)',
          'only theirs',
          'of two',
        ),
      ).toEqual([{ id: 'of two' }]);
      expect(
        server.query("select 1 as kept from dataset_example_revisions where json(input) like '%copied text%'"),
      ).toEqual([{ kept: 1 }]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P22: the session of a single trace goes with it',
    async () => {
      const project = 'one trace';
      await write({ project, user: 'u_42', session: 'of one trace' });
      const kept = (await others(project, 'other-1')).flat();
      const before = rowsOf(kept);
      world = await phoenixWorld('phoenix-one-trace', server, { projects: [project], accept: PHOENIX_ACCEPT });
      const end = await world.eraseToEnd(person('u_42'));
      expect(end).toMatchObject({ status: 'verified', exceptions: [] });
      expect(laneOf(end)).toMatchObject({ traces: { verifiedAbsent: 1 }, copies: { erased: 1 } });
      expect(server.query("select 1 from project_sessions where session_id = 'of one trace'")).toEqual([]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P4: spans that were still queued when a read counted bring the trace back, and the next read finds and erases it',
    async () => {
      const project = 'queue';
      const [mine] = await write({ project, user: 'u_42' });
      const kept = (await others(project, 'other-1', 'other-2')).flat();
      const before = rowsOf(kept);
      const traceId = mine?.[0]?.traceId ?? '';
      const late = traceOf({ project, user: 'u_42', traceId, input: 'late' });
      // Each step that reads lists the projects first: the plan, the first read, and the second, which waits here.
      let lists = 0;
      const second = Promise.withResolvers<undefined>();
      const goOn = Promise.withResolvers<undefined>();
      world = await phoenixWorld('phoenix-queue', server, {
        projects: [project],
        accept: PHOENIX_ACCEPT,
        onCall: async ({ path }) => {
          if (path !== '/v1/projects') return;
          lists += 1;
          if (lists === 2) await server.send(late);
          if (lists !== 3) return;
          second.resolve(undefined);
          await goOn.promise;
        },
      });
      await server.hold();
      const erasure = await world.erase(person('u_42'));
      try {
        await second.promise;
        // The span was accepted before the first read, which could not see it and counts; but one is not enough.
        const after = await erasure.status();
        expect(after.endedAt).toBeNull();
        expect(laneOf(after)).toMatchObject({ cleanReads: 1, traces: { verifiedAbsent: 0 } });
        expect(rowsOf(late)).toEqual([]);
      } finally {
        await server.release();
        await server.written(late);
        goOn.resolve(undefined);
      }
      const end = await erasure.result();
      expect(end.status).toBe('verified');
      expect(laneOf(end).round).toBeGreaterThan(1);
      expect(rowsOf(late)).toEqual([]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P4: one that was still queued when the last read counted is back after the verdict, and aftercare finds and erases it',
    async () => {
      const project = 'long queue';
      const [mine] = await write({ project, user: 'u_42' });
      const kept = (await others(project, 'other-1', 'other-2')).flat();
      const before = rowsOf(kept);
      const late = traceOf({ project, user: 'u_42', traceId: mine?.[0]?.traceId ?? '', input: 'very late' });
      world = await phoenixWorld('phoenix-long-queue', server, {
        projects: [project],
        accept: PHOENIX_ACCEPT,
        speed: 20_000,
        settle: '4 h',
        aftercare: ['1 day', '2 days'],
      });
      await server.hold();
      await server.send(late);
      const end = await world.eraseToEnd(person('u_42'));
      // True of what the server shows, and it says so of what it does not.
      expect(end.status).toBe('verified');
      const { limits } = (await world.record(end.requestId)).lanes[PHOENIX_CONNECTION]?.entries[0]?.entry as {
        limits: readonly string[];
      };
      expect(limits.join(' ')).toMatch(/queued.*brings a deleted trace back/);
      await server.release();
      await server.written(late);
      expect(rowsOf(late)).toHaveLength(late.length);

      const watched = await world.until(end.requestId, ({ aftercare }) => aftercare?.state === 'ended', {
        afterEnd: true,
      });
      const [look] = watched.aftercare?.looks ?? [];
      expect(look).toMatchObject({ look: 1, answer: 'resurrected' });
      const again = await world.client.result(look?.request ?? '');
      expect(laneOf(again).traces).toMatchObject({ matched: 1, verifiedAbsent: 1 });
      expect(rowsOf(late)).toEqual([]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P4: a late span that brings a deleted trace back in another project is erased when it names the person',
    async () => {
      const [project, elsewhere] = ['late', 'late elsewhere'];
      const [mine] = await write({ project, user: 'u_42' });
      const kept = [...(await others(project, 'other-1')), ...(await others(elsewhere, 'other-2'))].flat();
      const before = rowsOf(kept);
      const traceId = mine?.[0]?.traceId ?? '';
      world = await phoenixWorld('phoenix-late', server, { projects: [project, elsewhere], accept: PHOENIX_ACCEPT });
      const erasure = await world.erase(person('u_42'));
      await world.until(erasure.requestId, (status) => laneOf(status).status === 'waiting');
      const late = traceOf({ project: elsewhere, user: 'u_42', traceId });
      await server.write(late);
      expect(rowsOf(late).map((row) => row.project)).toEqual([elsewhere, elsewhere]);
      const end = await erasure.result();
      expect(end.status).toBe('verified');
      expect(rowsOf(late)).toEqual([]);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P4: one that names nobody is found by its trace id in the other project too, is told, and never called gone',
    async () => {
      const [project, elsewhere] = ['nameless', 'nameless elsewhere'];
      const [mine] = await write({ project, user: 'u_42' });
      const kept = [...(await others(project, 'other-1')), ...(await others(elsewhere, 'other-2'))].flat();
      const before = rowsOf(kept);
      const traceId = mine?.[0]?.traceId ?? '';
      world = await phoenixWorld('phoenix-nameless', server, {
        projects: [project, elsewhere],
        accept: PHOENIX_ACCEPT,
      });
      const erasure = await world.erase(person('u_42'));
      await world.until(erasure.requestId, (status) => laneOf(status).status === 'waiting');
      const late = traceOf({ project: elsewhere, traceId, input: 'says who it is in its text' });
      await server.write(late);
      const end = await erasure.result();
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.exceptions.map(({ kind }) => kind)).toEqual(['linked']);
      expect(rowsOf(late)).toHaveLength(late.length);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );

  test(
    'P9: traces of experiments are found in projects that the list leaves out, and the outputs of runs told as copies',
    async () => {
      const uploaded = await server.call('POST', '/v1/datasets/upload?sync=true', {
        action: 'create',
        name: 'tried',
        inputs: [{ question: 'of nobody' }],
        outputs: [{}],
        metadata: [{}],
      });
      const { dataset_id: dataset } = (uploaded.json as { data: { dataset_id: string } }).data;
      const listed = await server.call('GET', `/v1/datasets/${dataset}/examples`);
      const [example] = (listed.json as { data: { examples: { id: string }[] } }).data.examples;
      const made = await server.call('POST', `/v1/datasets/${dataset}/experiments`, {});
      const { id: experiment, project_name: name } = (made.json as { data: { id: string; project_name: string } }).data;
      const [mine] = await write({ project: name, user: 'u_exp' });
      const ran = await server.call('POST', `/v1/experiments/${experiment}/runs`, {
        dataset_example_id: example?.id,
        trace_id: mine?.[0]?.traceId,
        output: 'text of the run',
        repetition_number: 1,
        start_time: '2026-11-20T00:00:00Z',
        end_time: '2026-11-20T00:00:01Z',
      });
      expect(ran.status).toBe(200);
      const { json: plain } = await server.call('GET', '/v1/projects?limit=1000');
      expect((plain as { data: { name: string }[] }).data.map((project) => project.name)).not.toContain(name);
      const kept = (await others(name, 'other-1')).flat();
      const before = rowsOf(kept);
      const store = openDirectly();
      expect((await store.projects(idle)).find((project) => project.name === name)?.type).toBe('EXPERIMENT');
      world = await phoenixWorld('phoenix-experiment', server, { projects: [name], accept: PHOENIX_ACCEPT });
      const end = await world.eraseToEnd(person('u_exp'));
      expect(end.exceptions.map(({ kind }) => kind)).toEqual(['manual-copies']);
      expect(
        server
          .stored([name])
          .map(({ spanId }) => spanId)
          .sort(),
      ).toEqual(kept.map(({ spanId }) => spanId).sort());
      expect(rowsOf(kept)).toEqual(before);
      expect(server.query("select 1 as kept from experiment_runs where json(output) like '%text of the run%'")).toEqual(
        [{ kept: 1 }],
      );
    },
    TEST_MS,
  );

  test(
    'a person’s span with an id that no delete could name stops the search and says what to do',
    async () => {
      const project = 'odd ids';
      await others(project, 'other-1');
      const answer = await server.call('POST', `/v1/projects/${encodeURIComponent(project)}/spans`, {
        data: [
          {
            name: 'odd',
            context: { trace_id: 'VHJhY2U6MQ==', span_id: newSpanId() },
            span_kind: 'CHAIN',
            start_time: '2026-11-20T00:00:00Z',
            end_time: '2026-11-20T00:00:01Z',
            status_code: 'OK',
            attributes: { 'user.id': 'u_odd' },
          },
        ],
      });
      expect(answer.status).toBe(202);
      while (!server.stored([project]).some(({ traceId }) => traceId === 'VHJhY2U6MQ==')) await sleep(20);
      const store = openDirectly([project]);
      const projects = await store.projects(idle);
      const terms = [{ kind: 'user_id', keys: ['user.id'], variants: ['u_odd'] }];
      for (const finder of store.finders) {
        await expect(
          finder.find({ projects, terms, window: { fromMs: 0, toMs: Date.now() }, controls: [], progress: idle }),
        ).rejects.toMatchObject({ reason: 'contract-broken', advice: expect.stringMatching(/by hand/) });
      }
    },
    TEST_MS,
  );

  test(
    'doctor says what works and what no call shows',
    async () => {
      await others('doctor', 'other-1');
      const items = await openDirectly(['doctor']).check();
      expect(items.filter(({ level }) => level === 'problem')).toEqual([]);
      expect(items.map(({ name }) => name)).toEqual([
        'projects',
        'identifiers',
        'right to delete',
        'database',
        'clock',
      ]);
    },
    TEST_MS,
  );

  // The last one: it ends the server.
  test(
    'P1: text of an erased person stays in the database file, Lethe says so, and a vacuum removes it',
    async () => {
      const project = 'file';
      const secret = `secret-${newTraceId()}`;
      const [mine] = await write({ project, user: 'u_42', input: secret });
      const kept = (await others(project, 'other-1', 'other-2')).flat();
      const before = rowsOf(kept);
      world = await phoenixWorld('phoenix-file', server, { projects: [project] });
      const end = await world.eraseToEnd(person('u_42'));
      expect(rowsOf(mine ?? [])).toEqual([]);
      expect(server.query("select 1 from spans where json(attributes) like '%' || ? || '%'", secret)).toEqual([]);
      expect(await server.inFiles(secret)).toBeGreaterThan(0);
      expect(end.status).toBe('verified-with-exceptions');
      const [exception] = end.exceptions.filter(({ kind }) => kind === 'not-examined');
      expect(exception?.text).toMatch(/database-file, backups/);
      const plan = (await world.record(end.requestId)).lanes[PHOENIX_CONNECTION]?.entries[0]?.entry;
      expect(JSON.stringify(plan)).toMatch(/VACUUM/);

      await server.stop();
      expect(await server.inFiles(secret)).toBeGreaterThan(0);
      const database = new DatabaseSync(join(server.directory, 'phoenix.db'));
      database.exec('vacuum; pragma wal_checkpoint(truncate)');
      database.close();
      expect(await server.inFiles(secret)).toBe(0);
      expect(rowsOf(kept)).toEqual(before);
    },
    TEST_MS,
  );
});

function rowNumber(traceId: string): number | undefined {
  return server.query<{ id: number }>('select id from traces where trace_id = ?', traceId)[0]?.id;
}
