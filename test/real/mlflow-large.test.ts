import { afterAll, expect, test } from '@jest/globals';
import { MlflowServer } from './support/mlflow-server.ts';
import { assertSums, CONNECTION, startMlflowWorld } from './support/mlflow-world.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './support/spans.ts';

const TRACES = 20_000;
const MINE = 200;
const PERSON = 'u_large';
/** Traces in one request: as large as exporters are usually allowed to send. */
const BATCH = 500;

const server = await MlflowServer.start();

afterAll(() => server.close());

/** Writes the traces of a hundred people, the person's spread evenly among them. */
async function fill(experimentId: string): Promise<void> {
  for (let from = 0; from < TRACES; from += BATCH) {
    const spans = Array.from({ length: BATCH }, (_none, index): SpanToWrite => {
      const at = from + index;
      const user = at % (TRACES / MINE) === 0 ? PERSON : `other-${at % 99}`;
      const attributes = { 'user.id': user, 'input.value': 'a question' };
      return { traceId: newTraceId(), spanId: newSpanId(), startMs: Date.now() - at * 1000, attributes };
    });
    await server.send(experimentId, spans);
  }
}

test('P13: 200 traces among 20,000 go with few calls, and the 19,800 stay', async () => {
  const experimentId = await server.createExperiment('large');
  const startedFilling = performance.now();
  await fill(experimentId);
  const filledMs = performance.now() - startedFilling;
  server.analyze();
  const { world, wire } = await startMlflowWorld('mlflow-large', server, { experiments: [experimentId] });
  try {
    const started = performance.now();
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }] });
    const tookMs = performance.now() - started;
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: MINE, verifiedAbsent: MINE });
    assertSums(end);
    const users = server.rows(
      `select value = '${PERSON}' as mine, count(*) as traces from trace_request_metadata
       where key = 'mlflow.trace.user' group by 1`,
    );
    expect(users).toEqual([{ mine: 0, traces: TRACES - MINE }]);
    const deletes = wire.calls.filter(({ isDelete }) => isDelete).length;
    // A hundred ids are the most that one call may carry.
    expect(deletes).toBe(MINE / 100);
    const byPath = new Map<string, number>();
    for (const { method, path } of wire.calls) {
      const name = `${method} ${path}`;
      byPath.set(name, (byPath.get(name) ?? 0) + 1);
    }
    process.stderr.write(
      `${JSON.stringify({ calls: wire.calls.length, deletes, seconds: tookMs / 1000, filling: filledMs / 1000, byPath: [...byPath] }, null, 1)}\n`,
    );
  } finally {
    await world.close();
  }
}, 900_000);
