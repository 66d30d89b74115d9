import { afterEach, describe, expect, test } from '@jest/globals';
import { DAY_MS } from '../src/erasure/rhythm.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import { EncryptionCodec } from '../src/temporal/codec.ts';
import { startThreeStores, type ThreeStores } from './support/three-stores.ts';
import { FRIDAY_EVENING, World } from './support/world.ts';

const PERSON = 'u_42';
const OTHERS = ['u_7', 'u_8', 'u_9', 'u_420'] as const;
const TRACES = 4;
/** A week in 10 s: slow enough that the two quick stores are done long before the weekend on a busy machine too. */
const SPEED = 60_000;

let world: World | null = null;
let stores: ThreeStores | null = null;

afterEach(async () => {
  await world?.close();
  await stores?.close();
  world = null;
  stores = null;
});

/** One person and some others, in all three stores. */
async function setUp(title: string): Promise<{ readonly world: World; readonly stores: ThreeStores }> {
  const held: { started?: ThreeStores } = {};
  const made = await World.start(title, {
    speed: SPEED,
    ready: async (clock) => {
      held.started = await startThreeStores(clock);
      return {};
    },
    config: (base) => ({ ...base, connections: held.started?.connections ?? {} }),
  });
  world = made;
  const { started } = held;
  if (started === undefined) throw new Error('the stores did not start');
  stores = started;
  // Of before the story, however long it takes to begin: what is older than the traces that are there proves nothing.
  const written = { from: FRIDAY_EVENING - 30 * DAY_MS, to: FRIDAY_EVENING };
  const people = { people: [PERSON, ...OTHERS], tracesPerPerson: TRACES, ...written };
  stores.langsmith.seedPeople({ project: 'chat', ...people });
  stores.braintrust.seedPeople({ project: 'chat', ...people });
  stores.respan.seedPeople({ environment: 'prod', ...people });
  return { world: made, stores: started };
}

/** Live traces of a user, by store, whatever the APIs say. */
function live({ langsmith, braintrust, respan }: ThreeStores, user: string): readonly number[] {
  return [
    langsmith.truth.tracesOf([{ key: 'user_id', value: user }]).length,
    braintrust.truth.tracesOf([{ key: 'user_id', value: user }]).length,
    respan.truth.tracesOf([{ key: 'customer_identifier', value: user }]).length,
  ];
}

function assertOthersLive(of: ThreeStores): void {
  for (const other of OTHERS) expect(live(of, other)).toEqual([TRACES, TRACES, TRACES]);
  for (const { truth } of [of.langsmith, of.braintrust, of.respan]) expect(truth.unasked()).toEqual([]);
}

function assertSums(status: RequestStatus): void {
  for (const { given, traces, copies } of Object.values(status.connections)) {
    expect(imbalances({ given, traces, copies })).toEqual([]);
  }
}

describe('a person who is in three stores', () => {
  test('P1, P26: each store ends at its own rhythm, and nobody else is touched', async () => {
    const { world, stores } = await setUp('three-stores');
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }] });
    expect(end).toMatchObject({ status: 'verified', exceptions: [] });
    assertSums(end);
    expect(live(stores, PERSON)).toEqual([0, 0, 0]);
    assertOthersLive(stores);
    const { lanes } = await world.record(end.requestId);
    const endsAt = (name: string): number =>
      Math.max(...(lanes[name]?.entries ?? []).map(({ entry }) => Date.parse(entry.at)));
    // LangSmith's window closes on Monday, and reads count a day later, and once more a day after that.
    expect(endsAt('langsmith-prod')).toBeGreaterThanOrEqual(FRIDAY_EVENING + 4 * DAY_MS);
    for (const quick of ['respan-prod', 'braintrust-prod']) {
      expect(endsAt(quick)).toBeLessThan(endsAt('langsmith-prod'));
    }
  }, 90_000);

  test('P26: a store that is down for two weeks holds up no other, says so, and is finished when it is back', async () => {
    const { world, stores } = await setUp('three-stores-down');
    const backMs = FRIDAY_EVENING + 14 * DAY_MS;
    stores.braintrust.habits.set({ serverErrors: { status: 503 } });
    const erasure = await world.erase({ identifiers: [{ kind: 'user_id', value: PERSON }] });

    const done = await world.until(erasure.requestId, ({ connections }) =>
      ['langsmith-prod', 'respan-prod'].every((name) => connections[name]?.status === 'verified'),
    );
    expect(done.status).toBe('needs-operator');
    expect(done.connections['braintrust-prod']).toMatchObject({
      status: 'needs-operator',
      attention: { reason: 'unreachable' },
      traces: { verifiedAbsent: 0 },
    });
    assertSums(done);
    expect(live(stores, PERSON)).toEqual([0, TRACES, 0]);

    // Two weeks; longer where the machine is too busy for the others to be done by then.
    await world.until(erasure.requestId, () => world.now() >= backMs);
    const backAgainMs = world.now();
    stores.braintrust.habits.reset();
    const end = await erasure.result();
    expect(end.status).toBe('verified');
    assertSums(end);
    expect(Date.parse(end.endedAt ?? '')).toBeGreaterThan(backAgainMs);
    expect(live(stores, PERSON)).toEqual([0, 0, 0]);
    assertOthersLive(stores);

    // Every probe is told with its reason, at pauses that grow, and the history names every wait.
    const { lanes } = await world.record(end.requestId);
    const troubles = (lanes['braintrust-prod']?.entries ?? []).filter(({ entry }) => entry.kind === 'trouble');
    expect(troubles.length).toBeGreaterThan(1);
    expect(troubles.length).toBeLessThan(120);
    for (const { entry } of troubles) expect(entry).toMatchObject({ reason: 'unreachable', step: 'resolve' });
    const history = await world.client.temporal.workflow.getHandle(erasure.workflowId).fetchHistory();
    const told = async (events: typeof history.events): Promise<readonly string[]> => {
      const payloads = (events ?? []).flatMap(({ userMetadata }) => userMetadata?.summary ?? []);
      const summaries = await new EncryptionCodec(world.client.keys).decode(payloads);
      return summaries.map(({ data }) => Buffer.from(data ?? []).toString());
    };
    expect((await told(history.events)).join('\n')).toMatch(/braintrust-prod · round 1 · batch 1\/1/);
    // On a machine so busy that the next probe is due at once there is nothing to wait for.
    const timers = (history.events ?? []).filter(({ timerStartedEventAttributes: timer }) => timer != null);
    const waits = await told(timers);
    expect(waits).toHaveLength(timers.length);
    for (const wait of waits)
      expect(wait).toMatch(/ · (until |unreachable; tries again )|^"until memo and search attributes are /);
  }, 120_000);
});
