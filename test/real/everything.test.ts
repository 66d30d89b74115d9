import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { imbalances } from '../../src/erasure/ledger.ts';
import { WEEK_MS } from '../../src/erasure/rhythm.ts';
import { startThreeStores, type ThreeStores } from '../support/three-stores.ts';
import { FRIDAY_EVENING, World } from '../support/world.ts';
import { ClockProxy } from './support/clock-proxy.ts';
import { MlflowServer } from './support/mlflow-server.ts';
import { filesOfTraces, rowsOfTraces, writeTraces } from './support/mlflow-world.ts';
import { Phoenix } from './support/phoenix.ts';
import { PHOENIX_ACCEPT } from './support/phoenix-harness.ts';
import { traceOf } from './support/phoenix-world.ts';
import type { SpanToWrite } from './support/spans.ts';

/** Installing both servers and their first starts. */
const START_MS = 1_800_000;
const TEST_MS = 300_000;

const PERSON = 'u_42';
const OTHERS = ['u_7', 'u_8', 'u_9', 'u_420'] as const;
const TRACES = 4;
/** A week in a quarter of a minute: real servers answer in real time. */
const SPEED = 40_000;

let phoenix: Phoenix;
let mlflow: MlflowServer;
let world: World | null = null;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [phoenix, mlflow] = await Promise.all([Phoenix.start(), MlflowServer.start()]);
}, START_MS);
afterEach(async () => {
  await world?.close();
  world = null;
  for (const close of closing.splice(0)) await close();
});
afterAll(async () => {
  await phoenix.close();
  await mlflow.close();
}, 60_000);

/** Live traces of a user in the simulators, whatever the APIs say. */
function simulated({ langsmith, braintrust, respan }: ThreeStores, user: string): readonly number[] {
  return [
    langsmith.truth.tracesOf([{ key: 'user_id', value: user }]).length,
    braintrust.truth.tracesOf([{ key: 'user_id', value: user }]).length,
    respan.truth.tracesOf([{ key: 'customer_identifier', value: user }]).length,
  ];
}

function phoenixRows(spans: readonly SpanToWrite[]): readonly string[] {
  const ids = new Set(spans.map(({ traceId, spanId }) => `${traceId} ${spanId}`));
  return phoenix
    .stored()
    .filter(({ traceId, spanId }) => ids.has(`${traceId} ${spanId}`))
    .map((row) => JSON.stringify(row))
    .sort();
}

test(
  'P1 P26: one request erases a person from real Phoenix, real MLflow and three more stores, and nobody else',
  async () => {
    // Past the connectors, by what applications use.
    const people = [PERSON, ...OTHERS];
    const written = people.map((user) =>
      Array.from({ length: TRACES }, () => traceOf({ project: 'chat', user, input: `words of ${user}` })).flat(),
    );
    await phoenix.write(written.flat());
    const [inPhoenix = [], ...othersInPhoenix] = written;
    const experiment = await mlflow.createExperiment('everything');
    const order = (user: string) => ({ experiment, user, text: `words of ${user}`, traces: TRACES / 2 });
    const { otlp, client } = await writeTraces(mlflow, { otlp: people.map(order), client: people.map(order) });
    const inMlflow = [...(otlp[0] ?? []), ...(client[0] ?? [])];
    const othersInMlflow = [...otlp.slice(1).flat(), ...client.slice(1).flat()];
    for (const id of [inMlflow[0] ?? '', othersInMlflow[0] ?? '']) {
      const path = `/api/2.0/mlflow-artifacts/artifacts/${experiment}/traces/${id}/artifacts/attachment.json`;
      await mlflow.call('PUT', path, { text: 'attached' });
    }
    expect(phoenixRows(inPhoenix)).toHaveLength(inPhoenix.length);
    expect(rowsOfTraces(mlflow, inMlflow).length).toBeGreaterThan(inMlflow.length * 3);
    expect(filesOfTraces(mlflow, inMlflow).length).toBeGreaterThan(0);
    const before = {
      phoenix: phoenixRows(othersInPhoenix.flat()),
      mlflow: rowsOfTraces(mlflow, othersInMlflow),
      files: filesOfTraces(mlflow, othersInMlflow),
    };

    const held: { stores?: ThreeStores; phoenix?: ClockProxy; mlflow?: ClockProxy } = {};
    // What real clients write has today's date, which must not be after the request's.
    const weeks = Math.max(0, Math.ceil((Date.now() - FRIDAY_EVENING) / WEEK_MS));
    world = await World.start('everything', {
      start: FRIDAY_EVENING + weeks * WEEK_MS,
      speed: SPEED,
      ready: async (clock) => {
        held.stores = await startThreeStores(clock);
        held.phoenix = await ClockProxy.start(phoenix.url, clock);
        held.mlflow = await ClockProxy.start(mlflow.url, clock);
        return {};
      },
      config: (base) => ({
        ...base,
        connections: {
          ...held.stores?.connections,
          'phoenix-own': {
            store: 'phoenix',
            baseUrl: held.phoenix?.url ?? '',
            identifiers: { user_id: ['user.id'] },
            accept: [...PHOENIX_ACCEPT],
            settle: '4 h',
          },
          'mlflow-own': {
            store: 'mlflow',
            baseUrl: held.mlflow?.url ?? '',
            identifiers: { user_id: ['metadata.mlflow.trace.user'] },
            accept: ['run-data', 'database-remains'],
            settle: '4 h',
          },
        },
      }),
    });
    const { stores } = held;
    if (stores === undefined) throw new Error('the stores did not start');
    closing.push(
      () => stores.close(),
      async () => held.phoenix?.close(),
      async () => held.mlflow?.close(),
    );
    stores.langsmith.seedPeople({ project: 'chat', people, tracesPerPerson: TRACES });
    stores.braintrust.seedPeople({ project: 'chat', people, tracesPerPerson: TRACES });
    stores.respan.seedPeople({ environment: 'prod', people, tracesPerPerson: TRACES });

    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }] });
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    expect(Object.keys(end.connections)).toHaveLength(5);
    for (const { given, traces, copies } of Object.values(end.connections)) {
      expect(traces).toMatchObject({ matched: TRACES, verifiedAbsent: TRACES });
      expect(imbalances({ given, traces, copies })).toEqual([]);
    }
    expect(phoenixRows(inPhoenix)).toEqual([]);
    expect(rowsOfTraces(mlflow, inMlflow)).toEqual([]);
    expect(filesOfTraces(mlflow, inMlflow)).toEqual([]);
    expect(simulated(stores, PERSON)).toEqual([0, 0, 0]);
    expect(phoenixRows(othersInPhoenix.flat())).toEqual(before.phoenix);
    expect(rowsOfTraces(mlflow, othersInMlflow)).toEqual(before.mlflow);
    expect(filesOfTraces(mlflow, othersInMlflow)).toEqual(before.files);
    for (const other of OTHERS) expect(simulated(stores, other)).toEqual([TRACES, TRACES, TRACES]);
    for (const { truth } of [stores.langsmith, stores.braintrust, stores.respan]) expect(truth.unasked()).toEqual([]);
  },
  TEST_MS,
);
