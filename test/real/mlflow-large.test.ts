import { afterAll, expect, test } from '@jest/globals';
import { MlflowServer } from './support/mlflow-server.ts';
import { assertSums, CONNECTION, startMlflowWorld } from './support/mlflow-world.ts';
import { SIZE } from './support/size.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './support/spans.ts';

const MINE = 200;
/** Each has as many. */
const PEOPLE = SIZE / MINE;
const TRACES = PEOPLE * MINE;
const EXPERIMENT = 'large';
/** Traces in one message: as large as exporters are usually allowed to send. */
const BATCH = 500;
/** Erased one after the other, each in a way of its own. */
const [WITH_SPANS, WITHOUT_SPANS] = ['u_7', 'u_8'] as const;

const server = await MlflowServer.start({ name: `${TRACES}-traces-of-${PEOPLE}-people`, write: fill });

afterAll(() => server.close());

async function fill(into: MlflowServer): Promise<void> {
  const experimentId = await into.createExperiment(EXPERIMENT);
  for (let from = 0; from < TRACES; from += BATCH) {
    const spans = Array.from({ length: BATCH }, (_none, index): SpanToWrite => {
      const at = from + index;
      const attributes = { 'user.id': `u_${at % PEOPLE}`, 'input.value': 'a question' };
      return { traceId: newTraceId(), spanId: newSpanId(), startMs: Date.UTC(2026, 10, 1) + at * 1000, attributes };
    });
    await into.send(experimentId, spans);
  }
  // As an operator does: without statistics SQLite reads every span of the experiment once for each trace.
  into.analyze();
}

/**
 * The least that could show a plan, the deletes and two clean reads. The plan and each read list the experiments, look for
 * controls and read one of these whole, search (by one expression; by LIKE in the metadata; by LIKE in the spans) and look
 * the ids up, 500 a call; the plan reads the traces whole, 100 a call, and asks for datasets; a read lists the files that are
 * left. Each delete, of 100, is preceded by a look at controls, ids, whole traces and files.
 *
 * @param searches by person.
 */
function leastCalls(searches: number): { readonly plan: number; readonly deletes: number; readonly reads: number } {
  const controls = 2;
  const lookup = Math.ceil(MINE / 500);
  const wholes = Math.ceil(MINE / 100);
  return {
    plan: 1 + controls + searches + lookup + wholes + 1,
    deletes: Math.ceil(MINE / 100) * (controls + 1 + 1 + 1 + 1),
    reads: 2 * (1 + controls + searches + lookup + 1),
  };
}

async function eraseAmongAll(person: string, options: { readonly spanSearch: boolean }): Promise<void> {
  const [experiment] = server.rows('select experiment_id as id from experiments where name = ?', EXPERIMENT);
  const before = usersLeft();
  // The artifact store of a server that people use holds files: a list without any is then believed.
  const [theirs] = server.rows(
    `select request_id as id from trace_request_metadata where key = 'mlflow.trace.user' and value = 'u_9' limit 1`,
  );
  const file = `${String(experiment?.['id'])}/traces/${String(theirs?.['id'])}/artifacts/traces.json`;
  await server.call('PUT', `/api/2.0/mlflow-artifacts/artifacts/${file}`, { spans: [] });
  const { world, wire } = await startMlflowWorld(`mlflow-large-${person}`, server, {
    experiments: [String(experiment?.['id'])],
    ...(options.spanSearch ? {} : { accept: ['run-data', 'database-remains', 'unindexed-people', 'single-path'] }),
    spanSearch: options.spanSearch,
  });
  try {
    const started = performance.now();
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: person }] });
    const seconds = (performance.now() - started) / 1000;
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: MINE, verifiedAbsent: MINE });
    assertSums(end);
    expect(server.artifacts()).toEqual([file]);
    expect(usersLeft()).toEqual(before.filter(({ user }) => user !== person));
    const byPath = new Map<string, number>();
    for (const { method, path } of wire.calls) {
      const name = `${method} ${path}`;
      byPath.set(name, (byPath.get(name) ?? 0) + 1);
    }
    const { plan, deletes, reads } = leastCalls(options.spanSearch ? 3 : 1);
    const least = plan + deletes + reads;
    process.stdout.write(
      `\nMLflow, ${TRACES} traces, ${MINE} of the person, ${options.spanSearch ? 'with' : 'without'} the search of spans: ${wire.calls.length} calls (least ${least}), ${Math.round(seconds)} s with settle times\n${[...byPath].map(([call, count]) => `  ${count} ${call}`).join('\n')}\n`,
    );
    expect(wire.calls.filter(({ isDelete }) => isDelete)).toHaveLength(MINE / 100);
    // A search by LIKE has no OR: each control is a question of its own.
    expect(wire.calls.length).toBeLessThanOrEqual(2 * least);
  } finally {
    await world.close();
  }
}

function usersLeft(): readonly { readonly user: string; readonly traces: number }[] {
  return server
    .rows(
      `select value as user, count(*) as traces from trace_request_metadata where key = 'mlflow.trace.user' group by 1 order by 1`,
    )
    .map(({ user, traces }) => ({ user: String(user), traces: Number(traces) }));
}

test('P13 P20: 200 traces among thousands go with about the calls that are needed, and all others stay', () =>
  eraseAmongAll(WITH_SPANS, { spanSearch: true }));

test('P13 P20: and so they do where the spans are not searched', () =>
  eraseAmongAll(WITHOUT_SPANS, { spanSearch: false }));
