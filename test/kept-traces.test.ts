import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLaneActivities } from '../src/activities/index.ts';
import type { ConfigInput } from '../src/config/config.ts';
import { bookSchema } from '../src/erasure/book.ts';
import type { KeptPolicy } from '../src/erasure/include.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import { DAY_MS, HOUR_MS } from '../src/erasure/rhythm.ts';
import type { ResolveAnswer, ResolveInput, Trouble } from '../src/erasure/steps.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';
import { startLangSmithSimulator, type LangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import { DirectoryVault } from '../src/vault/directory-vault.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { CONNECTION, FRIDAY_EVENING, World, type WorldOptions } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const TALK = { conversation_id: 'talk-1' };

/** Most of the time a world waits for a weekend, and machines of all sizes run this. */
jest.setTimeout(120_000);

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
});

const withPolicy = (policy: ConfigInput['policy']): WorldOptions => ({ config: (config) => ({ ...config, policy }) });

interface Staged {
  readonly both: string;
  readonly bare: string;
  readonly unclear: string;
  readonly theirs: string;
}

/**
 * The person's own trace of a conversation, one shared with somebody, an unlabelled one of the conversation, and one of a
 * second conversation that somebody else takes part in.
 */
function stage(sim: LangSmithSimulator, nowMs: number): Staged {
  const startTime = nowMs - DAY_MS;
  const seeded = sim.seed({
    project: 'chat',
    traces: [
      { runs: [{ metadata: { user_id: 'u_42', ...TALK }, startTime }] },
      {
        runs: [
          { metadata: { user_id: 'u_42' }, startTime },
          { metadata: { user_id: 'u_7' }, startTime },
        ],
      },
      { runs: [{ metadata: TALK, startTime }, { startTime }] },
      { runs: [{ metadata: { ...TALK, session_id: 'somebody-else' }, startTime }] },
      { runs: [{ metadata: { user_id: 'u_8', session_id: 'somebody-else' }, startTime }] },
    ],
  });
  const [, both = '', bare = '', unclear = '', theirs = ''] = seeded.map(({ traceId }) => traceId);
  return { both, bare, unclear, theirs };
}

describe('policies about kept traces in whole erasures', () => {
  test('P12 P17 P29: kept traces are reported, and never sent', async () => {
    world = await World.start('keep');
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    const { both, bare, unclear, theirs } = stage(world.sim, world.now());
    const end = await world.eraseToEnd();
    const lane = end.connections[CONNECTION];
    expect(end.exceptions.map(({ kind }) => kind).sort()).toEqual(['linked', 'shared']);
    expect(lane?.traces).toMatchObject({ matched: 6, verifiedAbsent: 3, shared: 1, linked: 2 });
    if (lane !== undefined) expect(imbalances(lane)).toEqual([]);
    for (const traceId of [both, bare, unclear, theirs]) {
      expect(world.sim.truth.isLive(traceId)).toBe(true);
      expect(world.sim.truth.submissionsOf(traceId)).toEqual([]);
    }
    expect(world.sim.truth.unasked()).toEqual([]);
  });

  test('P12 P14 P17: erasing along spares an unlabelled trace that stands in another conversation too', async () => {
    world = await World.start('erase along', withPolicy({ sharedTraces: 'erase', linkedTraces: 'erase' }));
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    const { both, bare, unclear, theirs } = stage(world.sim, world.now());
    const end = await world.eraseToEnd();
    const lane = end.connections[CONNECTION];
    expect(end.exceptions.map(({ kind }) => kind)).toEqual(['linked']);
    expect(lane?.traces).toMatchObject({ matched: 6, verifiedAbsent: 5, shared: 0, linked: 1 });
    if (lane !== undefined) expect(imbalances(lane)).toEqual([]);
    expect([both, bare].map((traceId) => world?.sim.truth.isLive(traceId))).toEqual([false, false]);
    expect([unclear, theirs].map((traceId) => world?.sim.truth.isLive(traceId))).toEqual([true, true]);
    expect(world.sim.truth.submissionsOf(unclear)).toEqual([]);
    for (const other of ['u_7', 'u_8']) expect(world.liveTraces(other).length).toBeGreaterThanOrEqual(2);
  });

  test('P12 P17: asking stops the lane before its first delete, and says how many there are', async () => {
    world = await World.start('ask', withPolicy({ sharedTraces: 'ask', linkedTraces: 'ask' }));
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    stage(world.sim, world.now());
    const { requestId } = await world.erase();
    const status = await world.until(requestId, (now) => now.status === 'awaiting-approval');
    const lane = status.connections[CONNECTION];
    expect(lane?.attention).toMatchObject({
      reason: 'approval',
      next: expect.stringMatching(/^1 trace carries other people too, and 2 traces carry nobody's identifier/),
    });
    expect(lane?.traces).toMatchObject({ matched: 6, pending: 3, shared: 1, linked: 2 });
    expect(world.sim.truth.submissions()).toEqual([]);
    await world.client.abandon(requestId, BY);
    const end = await world.client.result(requestId);
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ abandoned: 3, shared: 1, linked: 2 });
    expect(world.liveTraces('u_42')).toHaveLength(4);
  });

  test('P12: a person without conversations costs no call more than with conversations switched off', async () => {
    const calls: number[] = [];
    for (const threads of [undefined, []]) {
      const at = await World.start('calls', {
        config: (config) => ({
          ...config,
          connections: Object.fromEntries(
            Object.entries(config.connections).map(([name, one]) => [
              name,
              { ...one, ...(threads === undefined ? {} : { threads }) },
            ]),
          ),
        }),
      });
      world = at;
      at.seed(['u_42', 'u_7', 'u_8'], 3);
      // Of others: nobody's business.
      at.sim.seed({ project: 'chat', traces: [{ runs: [{ metadata: { user_id: 'u_7', ...TALK } }] }] });
      const end = await at.eraseToEnd({ dryRun: true });
      expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, linked: 0 });
      calls.push(at.sim.ledger.entries.length);
      await at.close();
      world = null;
    }
    expect(calls[0]).toBeGreaterThan(0);
    expect(calls[0]).toBe(calls[1]);
  });

  test('P21: the grace counts from the receipt that the caller states, and a given id is asked for whenever it began', async () => {
    world = await World.start('grace', withPolicy({ grace: '2 h' }));
    world.seed(['u_7', 'u_8'], 2);
    const receivedMs = FRIDAY_EVENING - 5 * DAY_MS;
    const begun = [receivedMs - HOUR_MS, receivedMs + HOUR_MS, receivedMs + 3 * HOUR_MS, receivedMs + 4 * HOUR_MS];
    const traces = begun.map((startTime) => ({ runs: [{ metadata: { user_id: 'u_42' }, startTime }] }));
    const ids = world.sim.seed({ project: 'chat', traces }).map(({ traceId }) => traceId);
    const end = await world.eraseToEnd({
      receivedAt: new Date(receivedMs).toISOString(),
      known: { [CONNECTION]: [ids[3] ?? ''] },
    });
    expect(ids.map((id) => world?.sim.truth.isLive(id))).toEqual([false, false, true, false]);
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 4, verifiedAbsent: 3, newActivity: 1 });
    expect(end.exceptions.map(({ kind }) => kind)).toEqual(['new-activity']);
  });

  test('P21: a trace whose beginning arrives late began before the cut-off after all, and is erased', async () => {
    world = await World.start('late beginning');
    const old = { from: FRIDAY_EVENING - 30 * DAY_MS, to: FRIDAY_EVENING - 10 * DAY_MS };
    world.sim.seedPeople({ project: 'chat', people: ['u_42', 'u_7', 'u_8'], tracesPerPerson: 2, ...old });
    const metadata = { user_id: 'u_42' };
    const run = { metadata, startTime: FRIDAY_EVENING - DAY_MS };
    const [seeded] = world.sim.seed({ project: 'chat', traces: [{ runs: [run] }] });
    const traceId = seeded?.traceId ?? '';
    // Stated by the caller, so that no time passes between the two.
    const { requestId } = await world.erase({ receivedAt: new Date(FRIDAY_EVENING - 2 * DAY_MS).toISOString() });
    const planned = await world.until(requestId, ({ status }) => status === 'waiting');
    expect(planned.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, newActivity: 1 });
    expect(world.sim.truth.submissionsOf(traceId)).toEqual([]);
    const earlier = { metadata, parent: traceId, startTime: FRIDAY_EVENING - 9 * DAY_MS };
    world.sim.seed({ project: 'chat', traces: [{ traceId, runs: [{ id: randomUUID(), ...earlier }] }] });
    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 3, newActivity: 0 });
    expect(world.liveTraces('u_42')).toEqual([]);
    for (const other of ['u_7', 'u_8']) expect(world.liveTraces(other)).toHaveLength(2);
  });
});

describe('an approval that includes kept traces', () => {
  test('P12 P17 P35: the sealed plan is sealed anew with them, without a call, and on record', async () => {
    const clock = { realMs: Date.now(), virtualMs: FRIDAY_EVENING, speed: 5000 };
    const stateDir = await mkdtemp(join(tmpdir(), 'lethe-approval-'));
    const sim = await startLangSmithSimulator({ clock });
    try {
      const { both, bare, unclear, theirs } = stage(sim, FRIDAY_EVENING);
      sim.seedPeople({ project: 'chat', people: ['u_7', 'u_8'], tracesPerPerson: 2 });
      const { vault, records, resolve } = lane(sim, clock, stateDir, 'ask');
      const plan = await resolve({ step: 1 });
      expect(plan).toMatchObject({ kind: 'planned', stop: expect.stringMatching(/the policy asks/) });
      const calls = sim.ledger.entries.length;

      const sealed = await resolve({ step: 2, include: ['shared', 'linked'], book: plan.book });

      expect(sim.ledger.entries.length).toBe(calls);
      expect(sealed).toMatchObject({ stop: null, traces: { matched: 4, pending: 4, shared: 0, linked: 0 } });
      expect(imbalances(sealed)).toEqual([]);
      expect(sealed.batches.reduce((sum, size) => sum + size, 0)).toBe(4);
      const { entries } = await vault.get('r-1', sealed.book, bookSchema);
      const pending = entries.filter(({ state }) => state === 'pending').map(({ traceId }) => traceId);
      expect(pending).toEqual(expect.arrayContaining([both, bare, unclear]));
      expect(pending).not.toContain(theirs);
      expect((await records.read('r-1'))?.lanes['prod']?.entries.map(({ entry }) => entry.kind)).toEqual([
        'plan',
        'approved-plan',
      ]);

      const without = await resolve({ step: 3, include: [], book: plan.book });
      expect(without).toMatchObject({ stop: null, traces: { matched: 4, pending: 1, shared: 1, linked: 2 } });
      const afresh = await resolve({ step: 4, include: ['linked'] });
      expect(afresh).toMatchObject({ stop: null, traces: { matched: 4, pending: 2, shared: 1, linked: 1 } });
      expect(sim.truth.submissions()).toEqual([]);
    } finally {
      await sim.close();
      await rm(stateDir, { recursive: true, force: true });
    }
  });
});

/** The activities of a lane without a workflow. */
function lane(
  sim: LangSmithSimulator,
  clock: { readonly realMs: number; readonly virtualMs: number; readonly speed: number },
  stateDir: string,
  policy: KeptPolicy,
) {
  const keys = deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
  const identifiers = { user_id: ['metadata.user_id'] };
  const config = connectionSchema.parse({ store: 'langsmith', baseUrl: sim.url, apiKey: sim.apiKey, identifiers });
  const vault = new DirectoryVault({ stateDir, keys });
  const records = new DirectoryRecords({ stateDir });
  const { resolveIds } = createLaneActivities({
    vault,
    records,
    keys,
    clock,
    version: '0.0.0',
    connection: 'prod',
    store: openStore('prod', config, { clock }),
    policy: {
      cleanReads: 2,
      flagAfterRounds: 3,
      refuseAbove: 100,
      expectedPeople: 1,
      sharedTraces: policy,
      linkedTraces: policy,
      graceMs: HOUR_MS,
    },
    kinds: [{ kind: 'user_id', caseInsensitive: false }],
    searchKeys: identifiers,
    accept: [],
  });
  const common = {
    requestId: 'r-1',
    connection: 'prod',
    subject: [{ kind: 'user_id', value: 'u_42' }],
    known: [],
    acceptUnlabelled: 0,
    expectAtMost: null,
    receivedAtMs: FRIDAY_EVENING,
    dueAtMs: FRIDAY_EVENING + 30 * DAY_MS,
    dryRun: false,
    lostManifest: 0,
    scopeDigest: 'a'.repeat(64),
    connections: ['prod'],
    workflowId: 'erase-x',
  } as const;
  const resolve = async (more: Pick<ResolveInput, 'step'> & Partial<ResolveInput>): Promise<ResolveAnswer> => {
    const environment = new MockActivityEnvironment({});
    const answer = await environment.run<[ResolveInput], ResolveAnswer | Trouble, typeof resolveIds>(resolveIds, {
      ...common,
      ...more,
    });
    if (answer.kind === 'trouble') throw new Error(answer.text);
    return answer;
  };
  return { vault, records, resolve };
}
