import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { fileURLToPath } from 'node:url';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import { MlflowServer } from './support/mlflow-server.ts';
import {
  assertSums,
  CONNECTION,
  filesOfTraces,
  rowsOfTraces,
  startMlflowWorld,
  writeTraces,
  type MlflowWorld,
} from './support/mlflow-world.ts';
import { newSpanId, newTraceId } from './support/spans.ts';

/** Starting Python, writing by real clients and waiting for the settle time, on a busy machine. */
const MOST_MS = 240_000;

/** Python's own SQLite overwrites what is deleted on some systems and not on others: here it never does. */
const FREED_PAGES_STAY = fileURLToPath(new URL('python/freed_pages_stay', import.meta.url));

const server = await MlflowServer.start(undefined, { PYTHONPATH: FREED_PAGES_STAY });
let current: MlflowWorld | null = null;
let names = 0;

afterEach(async () => {
  await current?.world.close();
  current = null;
});
afterAll(() => server.close());

async function begin(title: string, options: Parameters<typeof startMlflowWorld>[2] = {}): Promise<MlflowWorld> {
  current = await startMlflowWorld(title, server, options);
  return current;
}

function experiment(): Promise<string> {
  names += 1;
  return server.createExperiment(`real-${names}`);
}

const person = (value: string) => ({ identifiers: [{ kind: 'user_id', value }] });
/** So many people who are nobody's look-alikes: they make the controls, one for each class of value. */
const CONTROLS = ['other-1', 'other-2', 'zoë', 'Łukasz', `d"Arc`, "d'Arc", '900', '901'];

describe('people on a real MLflow server', () => {
  test(
    'P13 P15: every sort of identifier is found and erased, with files and spans, and nobody else is touched',
    async () => {
      const [chat, agent] = [await experiment(), await experiment()];
      const people = ['Jürgen Groß', "o'neil", `a'b"c`, '12345', 'x'.repeat(300), 'u_1'];
      const look = ['u_10', 'uX1', 'U_1', 'Jurgen Gross', "o''neil", 'x'.repeat(299), `${'x'.repeat(299)}y`, '012345'];
      const text = 'remembered words';
      const order = (user: string | number, experimentId = chat, traces = 2) => ({
        experiment: experimentId,
        user,
        text,
        traces,
      });
      // The client cuts what is longer than 250 characters: those go by the exporter alone.
      const short = people.filter((user) => user.length < 250);
      const written = await writeTraces(server, {
        otlp: [
          ...people.map((user) => order(user)),
          order(12345, agent),
          ...look.map((user) => order(user)),
          ...CONTROLS.map((user) => order(user, chat, 1)),
          ...CONTROLS.map((user) => order(user, agent, 1)),
        ],
        client: short.map((user) => order(user, agent, 3)),
      });
      const theirs = [...written.otlp.slice(0, people.length + 1).flat(), ...written.client.flat()];
      const others = written.otlp.slice(people.length + 1).flat();
      const before = rowsOfTraces(server, others);
      expect(rowsOfTraces(server, theirs).length).toBeGreaterThan(theirs.length * 3);

      const { world } = await begin('mlflow-identifiers', { experiments: [chat, agent] });
      const ends = await Promise.all(people.map((value) => world.eraseToEnd(person(value))));
      for (const [index, end] of ends.entries()) {
        const user = people[index] ?? '';
        const count = user === '12345' ? 7 : user.length > 250 ? 2 : 5;
        expect([index, end.status, end.exceptions]).toEqual([index, 'verified', []]);
        expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: count, verifiedAbsent: count });
        assertSums(end);
      }
      expect(rowsOfTraces(server, theirs)).toEqual([]);
      expect(filesOfTraces(server, theirs)).toEqual([]);
      expect(rowsOfTraces(server, others)).toEqual(before);
    },
    MOST_MS,
  );

  test(
    'P15: what the client has cut is nobody’s for certain: kept and reported',
    async () => {
      const chat = await experiment();
      const long = 'y'.repeat(300);
      const order = (user: string) => ({ experiment: chat, user, text: 'cut', traces: 1 });
      const { client, otlp } = await writeTraces(server, {
        client: [order(long)],
        otlp: [order(long), ...CONTROLS.map(order)],
      });
      const { world } = await begin('mlflow-cut', { experiments: [chat] });
      const end = await world.eraseToEnd(person(long));
      expect(end).toMatchObject({ status: 'verified-with-exceptions', exceptions: [{ kind: 'shared' }] });
      expect(rowsOfTraces(server, client.flat())).not.toEqual([]);
      expect(rowsOfTraces(server, otlp[0] ?? [])).toEqual([]);
      expect(rowsOfTraces(server, otlp.slice(1).flat())).not.toEqual([]);
      assertSums(end);
    },
    MOST_MS,
  );

  test(
    'P22: files that outlive their trace are part of it, dataset records of it are erased, those of others stay',
    async () => {
      const chat = await experiment();
      const order = (user: string, traces = 1) => ({ experiment: chat, user, text: `words of ${user}`, traces });
      const { otlp } = await writeTraces(server, {
        otlp: [order('u_files', 2), order('u_other', 2), ...CONTROLS.map((user) => order(user))],
      });
      const [mine = [], theirs = []] = otlp;
      for (const id of [...mine, ...theirs]) {
        const path = `/api/2.0/mlflow-artifacts/artifacts/${chat}/traces/${id}/artifacts/traces.json`;
        await server.call('PUT', path, { spans: [] });
      }
      const made = await server.call<{ dataset: { dataset_id: string } }>('POST', '/api/3.0/mlflow/datasets/create', {
        name: `real-${names}`,
        experiment_ids: [chat],
      });
      const records = `/api/3.0/mlflow/datasets/${made.dataset.dataset_id}/records`;
      const record = (traceId: string | undefined) => ({
        inputs: { question: traceId },
        source: { source_type: 'TRACE', source_data: { trace_id: traceId } },
      });
      await server.call('POST', records, { records: JSON.stringify([record(mine[0]), record(theirs[0])]) });
      expect(filesOfTraces(server, mine)).toHaveLength(2);

      const { world } = await begin('mlflow-files', { experiments: [chat] });
      const end = await world.eraseToEnd(person('u_files'));
      expect(end).toMatchObject({ status: 'verified', exceptions: [] });
      expect(end.connections[CONNECTION]).toMatchObject({
        traces: { verifiedAbsent: 2 },
        copies: { found: 1, erased: 1 },
      });
      expect(rowsOfTraces(server, mine)).toEqual([]);
      expect(filesOfTraces(server, mine)).toEqual([]);
      expect(filesOfTraces(server, theirs)).toHaveLength(2);
      const left = await server.call<{ records: string }>('GET', records);
      expect(left.records).not.toContain(mine[0]);
      expect(left.records).toContain(theirs[0]);
      assertSums(end);
    },
    MOST_MS,
  );

  test(
    'P4: files that outlive their trace are told as what is left of it, and go by an order for it',
    async () => {
      const chat = await experiment();
      const order = (user: string) => ({ experiment: chat, user, text: 'left', traces: 1 });
      const { otlp } = await writeTraces(server, { otlp: [order('u_left'), order('u_other')] });
      const [[mine = ''] = [], [theirs = ''] = []] = otlp;
      for (const id of [mine, theirs]) {
        const path = `/api/2.0/mlflow-artifacts/artifacts/${chat}/traces/${id}/artifacts/traces.json`;
        await server.call('PUT', path, { spans: [] });
      }
      const config = connectionSchema.parse({
        store: 'mlflow',
        baseUrl: server.url,
        experiments: [chat],
        identifiers: { user_id: ['metadata.mlflow.trace.user'] },
      });
      const store = openStore('mlflow-direct', config, { clock: null });
      const progress = (): void => undefined;
      await store.projects(progress);
      const traces = [{ projectId: chat, traceId: mine }];
      const ask = { traces, window: { fromMs: 0, toMs: Date.now() }, controls: [], progress };
      expect((await store.lookups[0]?.lookup(ask))?.rows.every(({ leftover }) => leftover !== true)).toBe(true);
      // As somebody does in the user interface, or a call of ours whose answer got lost.
      await server.remove(chat, [mine]);
      const left = await store.lookups[0]?.lookup(ask);
      expect(left?.rows).toEqual([expect.objectContaining({ traceId: mine, persons: [], leftover: true })]);
      await store.submit({ projectId: chat, traces, lastWord: () => Promise.resolve(), progress });
      expect((await store.lookups[0]?.lookup(ask))?.rows).toEqual([]);
      expect(filesOfTraces(server, [mine])).toEqual([]);
      expect(filesOfTraces(server, [theirs])).toHaveLength(1);
      expect(rowsOfTraces(server, [theirs])).not.toEqual([]);
    },
    MOST_MS,
  );

  test(
    'P1: while some traces have spans that no search reaches, nothing found is not all there is to say',
    async () => {
      const chat = await experiment();
      const order = (user: string) => ({ experiment: chat, user, text: 'plain', traces: 1 });
      await writeTraces(server, { otlp: CONTROLS.map(order) });
      const traceId = newTraceId();
      await server.send(chat, [{ traceId, spanId: newSpanId(), startMs: Date.now() }]);
      for (const change of ["update trace_tags set value = 'ARCHIVE_REPO'", 'delete from trace_tags']) {
        server.maintain(`${change} where key = 'mlflow.trace.spansLocation' and request_id = 'tr-${traceId}'`);
        const { world } = await begin('mlflow-elsewhere', { experiments: [chat] });
        const end = await world.eraseToEnd(person('u_nobody'));
        expect(end.exceptions).toEqual([
          expect.objectContaining({ kind: 'not-examined', text: expect.stringContaining('unindexed-people') }),
        ]);
        await world.close();
        current = null;
      }
      await server.remove(chat, [`tr-${traceId}`]);
      const { world } = await begin('mlflow-elsewhere-no-more', { experiments: [chat] });
      expect(await world.eraseToEnd(person('u_nobody'))).toMatchObject({ status: 'nothing-found', exceptions: [] });
    },
    MOST_MS,
  );

  test(
    'P1: text of an erased person stays in the database file, Lethe says so, and a vacuum removes it',
    async () => {
      const chat = await experiment();
      const marker = `marker-${newSpanId()}`;
      const order = (user: string, text: string) => ({ experiment: chat, user, text, traces: 3 });
      const { otlp } = await writeTraces(server, {
        otlp: [order('u_raw', marker), ...CONTROLS.map((user) => order(user, 'nothing'))],
      });
      const before = rowsOfTraces(server, otlp.slice(1).flat());
      expect(server.inFile(marker)).toBeGreaterThan(0);
      const { world } = await begin('mlflow-raw', { experiments: [chat], accept: ['run-data'] });
      const end = await world.eraseToEnd(person('u_raw'));
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.exceptions).toEqual([
        expect.objectContaining({ kind: 'not-examined', text: expect.stringContaining('database-remains') }),
      ]);
      const plan = (await world.record(end.requestId)).lanes[CONNECTION]?.entries[0]?.entry;
      expect(plan).toMatchObject({ kind: 'plan', limits: expect.arrayContaining([expect.stringMatching(/VACUUM/)]) });
      expect(server.rows('select count(*) as n from spans where content like ?', `%${marker}%`)).toEqual([{ n: 0 }]);
      expect(rowsOfTraces(server, otlp[0] ?? [])).toEqual([]);
      expect(server.inFile(marker)).toBeGreaterThan(0);
      server.maintain('vacuum');
      expect(server.inFile(marker)).toBe(0);
      expect(rowsOfTraces(server, otlp.slice(1).flat())).toEqual(before);
    },
    MOST_MS,
  );

  test(
    'P4 P12: a late span brings a deleted trace back: erased again there, reported where it names nobody elsewhere',
    async () => {
      const [chat, agent] = [await experiment(), await experiment()];
      const order = (user: string, traces = 1) => ({ experiment: chat, user, text: 'late', traces });
      const { otlp } = await writeTraces(server, {
        otlp: [
          order('u_late', 3),
          ...CONTROLS.map((user) => order(user)),
          ...CONTROLS.map((user) => ({ ...order(user), experiment: agent })),
        ],
      });
      const mine = otlp[0] ?? [];
      const before = rowsOfTraces(server, otlp.slice(1).flat());
      const { world, wire } = await begin('mlflow-late', { experiments: [chat, agent] });
      const erasure = await world.erase(person('u_late'));
      await world.until(erasure.requestId, () => wire.acknowledged > 0 && rowsOfTraces(server, mine).length === 0);
      const late = (id: string | undefined, attributes: Record<string, string> = {}) => [
        { traceId: (id ?? '').slice('tr-'.length), spanId: newSpanId(), startMs: Date.now(), attributes },
      ];
      await server.send(chat, late(mine[0]));
      await server.send(agent, late(mine[1]));
      await server.send(agent, late(mine[2], { 'user.id': 'u_late' }));
      const end = await erasure.result();
      expect(end).toMatchObject({ status: 'verified-with-exceptions', exceptions: [{ kind: 'linked', count: 1 }] });
      expect(end.connections[CONNECTION]?.round).toBeGreaterThan(1);
      // Nobody's by what it carries: kept, and named in the record.
      expect(rowsOfTraces(server, [mine[0] ?? '', mine[2] ?? ''])).toEqual([]);
      expect(rowsOfTraces(server, [mine[1] ?? ''])).not.toEqual([]);
      expect(rowsOfTraces(server, otlp.slice(1).flat())).toEqual(before);
      assertSums(end);
    },
    MOST_MS,
  );

  test(
    'P17: a second person, whom the server does not index, makes a trace of two people',
    async () => {
      const chat = await experiment();
      const order = (user: string) => ({ experiment: chat, user, text: 'both', traces: 1 });
      const { otlp } = await writeTraces(server, { otlp: [order('first'), ...CONTROLS.map(order)] });
      const shared = otlp[0] ?? [];
      const traceId = (shared[0] ?? '').slice('tr-'.length);
      await server.send(chat, [
        { traceId, spanId: newSpanId(), startMs: Date.now(), attributes: { 'user.id': 'second' } },
      ]);
      const before = rowsOfTraces(server, otlp.flat());
      const { world } = await begin('mlflow-second', { experiments: [chat] });
      for (const value of ['first', 'second']) {
        const end = await world.eraseToEnd(person(value));
        expect(end).toMatchObject({ status: 'verified-with-exceptions', exceptions: [{ kind: 'shared', count: 1 }] });
      }
      expect(rowsOfTraces(server, otlp.flat())).toEqual(before);
    },
    MOST_MS,
  );

  test(
    'P9: traces of a deleted experiment are found and erased',
    async () => {
      const chat = await experiment();
      const order = (user: string) => ({ experiment: chat, user, text: 'gone', traces: 2 });
      const { otlp } = await writeTraces(server, { otlp: [order('u_deleted'), ...CONTROLS.map(order)] });
      const before = rowsOfTraces(server, otlp.slice(1).flat());
      await server.call('POST', '/api/2.0/mlflow/experiments/delete', { experiment_id: chat });
      const { world } = await begin('mlflow-deleted');
      const end = await world.eraseToEnd(person('u_deleted'));
      expect(end).toMatchObject({ status: 'verified', exceptions: [] });
      expect(rowsOfTraces(server, otlp[0] ?? [])).toEqual([]);
      expect(rowsOfTraces(server, otlp.slice(1).flat())).toEqual(before);
    },
    MOST_MS,
  );
});
