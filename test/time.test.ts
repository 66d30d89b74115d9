import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, jest, test } from '@jest/globals';
import { RequestConflictError } from '../src/client/errors.ts';
import { DAY_MS, WEEK_MS } from '../src/erasure/rhythm.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { digestsOf, SubjectHolds } from '../src/vault/subject-holds.ts';
import { CONNECTION, type World, type WorldOptions } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const PEOPLE = ['u_42', 'u_7', 'u_8', 'u_9'];
const ANN = { kind: 'user_id', value: 'u_42' };
const ALIAS = { kind: 'user_id', value: 'u_7' };
/** Monday 23 November 2026, 20:00 UTC: the first weekend is days away. */
const MONDAY_EVENING = Date.UTC(2026, 10, 23, 20);

/** Weeks pass in seconds, and a busy machine makes them some more. */
jest.setTimeout(120_000);

const open = worldsOfFile();

async function start(title: string, options: WorldOptions = {}): Promise<World> {
  const world = await open(title, options);
  world.seed(PEOPLE, 3);
  return world;
}

/** A request whose traces are submitted and whose lane sleeps until after the weekend. */
async function waiting(title: string, options: WorldOptions = {}): Promise<readonly [World, string, string]> {
  const at = await start(title, { speed: 20_000, ...options });
  const erasure = await at.erase();
  await at.until(erasure.requestId, ({ status }) => status === 'waiting');
  return [at, erasure.requestId, erasure.workflowId];
}

/** What no hold, postponement or second request may change: nobody else's traces are touched. */
function expectSurvivors(at: World, survivors: readonly string[]): void {
  expect(at.sim.truth.unasked()).toEqual([]);
  for (const person of survivors) expect(at.liveTraces(person)).toHaveLength(3);
}

function holdsOf(at: World): { readonly holds: SubjectHolds; readonly digests: (value: string) => string[] } {
  const { secrets } = at.config;
  if (secrets === null) throw new Error('the world has keys');
  const keys = deriveKeys(secrets);
  return {
    holds: new SubjectHolds({ stateDir: at.stateDir, now: () => at.now() }),
    digests: (value) => digestsOf(keys, [{ kind: 'user_id', value }], new Set()),
  };
}

describe('holds that end', () => {
  test.concurrent(
    'P27: a hold that comes to its end asks for an operator, still holds, and goes on once released',
    async () => {
      const [at, requestId] = await waiting('hold expires', { speed: 150_000 });
      const until = new Date(at.now() + 3 * DAY_MS).toISOString();
      const [answer] = await at.client.hold(requestId, { ...BY, until });
      expect(answer?.text).toMatch(/asks for an operator .*still held; what was submitted already cannot be recalled/);
      expect((await at.client.status(requestId)).connections[CONNECTION]).toMatchObject({
        status: 'held',
        heldUntil: until,
        nextCheckAt: null,
      });
      const expired = await at.until(requestId, ({ status }) => status === 'needs-operator');
      expect(expired.connections[CONNECTION]).toMatchObject({
        attention: { reason: 'hold-expired', since: until },
        nextCheckAt: null,
      });
      expect(await at.client.list({ held: true })).toMatchObject([{ requestId }]);
      // Weeks later nothing has been read or sent: hold wins over everything but a release.
      const calls = at.sim.ledger.entries.length;
      const expiredAt = at.now();
      const [refused] = await at.client.retry(requestId, BY);
      expect(refused).toMatchObject({ delivered: 'none', text: expect.stringMatching(/held; release it first/) });
      await at.until(requestId, () => at.now() > expiredAt + 2 * WEEK_MS);
      expect(at.sim.ledger.entries).toHaveLength(calls);
      await at.client.release(requestId, BY);
      const end = await at.client.result(requestId);
      expect(end.status).toBe('verified');
      expect(at.liveTraces('u_42')).toEqual([]);
      expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
      const verbs = (await at.record(requestId)).outcome?.verbs ?? [];
      expect(verbs.map(({ verb, requestedBy }) => [verb, requestedBy])).toEqual([
        ['hold', 'ines'],
        ['hold-expired', 'lethe'],
        ['release', 'ines'],
      ]);
    },
  );

  test.concurrent('P27: a hold with auto-release goes on by itself when it ends', async () => {
    const [at, requestId] = await waiting('auto release', { speed: 150_000 });
    const until = new Date(at.now() + 3 * WEEK_MS).toISOString();
    const [answer] = await at.client.hold(requestId, { ...BY, until, autoRelease: true });
    expect(answer?.text).toMatch(/goes on by itself/);
    const held = await at.until(requestId, ({ status }) => status === 'held');
    expect(held.connections[CONNECTION]).toMatchObject({ heldUntil: until, nextCheckAt: until });
    const calls = at.sim.ledger.entries.length;
    const end = await at.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(Date.parse(end.endedAt ?? '')).toBeGreaterThan(Date.parse(until));
    expect(at.sim.ledger.entries.length).toBeGreaterThan(calls);
    expect(at.liveTraces('u_42')).toEqual([]);
    expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    const verbs = (await at.record(requestId)).outcome?.verbs ?? [];
    expect(verbs.map(({ verb, requestedBy }) => [verb, requestedBy])).toEqual([
      ['hold', 'ines'],
      ['release', 'lethe'],
    ]);
  });

  test.concurrent(
    'P25: a hold that has ended before it begins is refused, and so is auto-release without an end',
    async () => {
      const [at, requestId, workflowId] = await waiting('bad holds');
      const [past] = await at.client.hold(requestId, { ...BY, until: '2020-01-01T00:00:00Z' });
      expect(past).toMatchObject({ delivered: 'none', text: 'refused: "until" has passed' });
      await expect(at.client.hold(requestId, { ...BY, autoRelease: true })).rejects.toThrow(/needs "until"/);
      await expect(at.client.hold(requestId, { ...BY, until: 'tomorrow' })).rejects.toThrow(/ISO 8601/);
      const handle = at.client.temporal.workflow.getHandle(workflowId);
      await expect(
        handle.executeUpdate('retry', { args: [{ ...BY, until: '2030-01-01T00:00:00Z' }] }),
      ).rejects.toThrow();
      expect((await at.client.status(requestId)).status).toBe('waiting');
      await at.client.abandon(requestId, BY);
    },
  );
});

describe('holds on people', () => {
  test.concurrent('P27: who is held before any request loses nothing, and is erased once released', async () => {
    const at = await start('held person');
    const { holds, digests } = holdsOf(at);
    const hold = await holds.hold(digests('u_42'), { by: 'legal', reason: 'case 12', until: null, autoRelease: false });
    const { requestId } = await at.erase();
    const held = await at.until(requestId, ({ status }) => status === 'needs-operator');
    expect(held.connections[CONNECTION]?.attention).toMatchObject({
      reason: 'legal-hold',
      next: expect.stringContaining(hold.holdId),
    });
    expect(await at.client.list({ held: true })).toMatchObject([{ requestId }]);
    expect(at.sim.truth.submissions()).toEqual([]);
    expect(at.liveTraces('u_42')).toHaveLength(3);
    // An operator's retry is no release.
    await at.client.retry(requestId, BY);
    await at.until(requestId, ({ connections }) => connections[CONNECTION]?.status === 'needs-operator');
    expect(at.sim.truth.submissions()).toEqual([]);
    expect(await holds.release(hold.holdId, 'legal', 'case 12 is over')).toBe(true);
    const end = await at.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(at.liveTraces('u_42')).toEqual([]);
    expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    expect(await readdir(join(at.stateDir, 'holds', 'released'))).toEqual([`${hold.holdId}.json`]);
  });

  test.concurrent('P27: a hold that comes after the plan and before a later round stops that round', async () => {
    const at = await start('held later', { start: MONDAY_EVENING, speed: 60_000 });
    const { requestId } = await at.erase();
    await at.until(requestId, ({ status }) => status === 'waiting');
    at.sim.habits.set({ skipWeekends: 1 });
    const sent = at.sim.truth.submissions().length;
    const { holds, digests } = holdsOf(at);
    await holds.hold(digests('u_42'), { by: 'legal', reason: 'case 12', until: null, autoRelease: false });
    // The window is skipped, the traces survive, and the second round is not sent.
    const held = await at.until(
      requestId,
      ({ connections }) => connections[CONNECTION]?.attention?.reason === 'legal-hold',
    );
    expect(held.connections[CONNECTION]).toMatchObject({ round: 2, traces: { survived: 3 } });
    expect(at.sim.truth.submissions()).toHaveLength(sent);
    expect(at.liveTraces('u_42')).toHaveLength(3);
    expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    await at.client.abandon(requestId, BY);
  });

  test.concurrent('P27: a hold that cannot be read holds, and holds only whom its name says', async () => {
    const at = await start('unreadable hold');
    const { holds, digests } = holdsOf(at);
    const { holdId } = await holds.hold(digests('u_42'), {
      by: 'legal',
      reason: 'case 12',
      until: null,
      autoRelease: false,
    });
    for (const file of await readdir(join(at.stateDir, 'holds'))) {
      await writeFile(join(at.stateDir, 'holds', file), '{"torn');
    }
    const { requestId } = await at.erase();
    const held = await at.until(requestId, ({ status }) => status === 'needs-operator');
    expect(held.connections[CONNECTION]?.attention?.next).toContain(`${holdId}), for a reason that cannot be read`);
    const other = await at.erase({ identifiers: [{ kind: 'user_id', value: 'u_7' }] });
    expect((await other.result()).status).toBe('verified');
    expect(at.liveTraces('u_42')).toHaveLength(3);
    expect(at.liveTraces('u_7')).toEqual([]);
    expectSurvivors(at, ['u_8', 'u_9']);
    await at.client.abandon(requestId, BY);
  });
});

describe('deadlines', () => {
  test.concurrent('P36: a postponement extends the deadline once, on notice, and everything shows it', async () => {
    const at = await start('postpone', {
      speed: 20_000,
      config: (config) => ({ ...config, policy: { zone: 'Europe/Berlin' } }),
    });
    const { requestId } = await at.erase({ receivedAt: '2026-11-27T18:00:00Z' });
    await at.until(requestId, ({ status }) => status === 'waiting');
    const before = await at.client.status(requestId);
    expect(before).toMatchObject({ law: 'gdpr', zone: 'Europe/Berlin', confirmBy: null, extension: null });
    expect(before.dueAt).toBe('2026-12-27T22:59:59.999Z');
    const refusals: readonly (readonly [string, RegExp])[] = [
      ['2026-11-26', /before the receipt/],
      ['2027-06-01', /in the future/],
    ];
    for (const [notifiedOn, why] of refusals) {
      const [refused] = await at.client.postpone(requestId, { ...BY, notifiedOn });
      expect(refused).toMatchObject({ delivered: 'none', text: expect.stringMatching(why) });
    }
    await expect(at.client.postpone(requestId, BY)).rejects.toThrow(/notifiedOn/);
    expect((await at.client.status(requestId)).dueAt).toBe(before.dueAt);

    const [answer] = await at.client.postpone(requestId, { ...BY, notifiedOn: '2026-11-27' });
    expect(answer?.text).toMatch(/due Sat 27 Feb 22:59 UTC/);
    const after = await at.client.status(requestId);
    expect(after).toMatchObject({
      dueAt: '2027-02-27T22:59:59.999Z',
      extension: { to: '2027-02-27T22:59:59.999Z', by: 'ines', notifiedOn: '2026-11-27' },
    });
    const [again] = await at.client.postpone(requestId, { ...BY, notifiedOn: '2026-11-27' });
    expect(again).toMatchObject({ delivered: 'none', text: expect.stringMatching(/postponed already/) });
    const query = `LetheRequestId = "${requestId}" AND LetheDueAt > "2027-02-01T00:00:00Z"`;
    for (let found = 0; found === 0;) {
      for await (const { workflowId } of at.client.temporal.workflow.list({ query })) {
        expect(workflowId).toBe(after.workflowId);
        found += 1;
      }
    }
    await at.client.abandon(requestId, BY);
    await at.client.result(requestId);
    const { outcome, request } = await at.record(requestId);
    expect(request?.deadlines).toEqual({ law: 'gdpr', zone: 'Europe/Berlin', confirmBy: null });
    expect(outcome?.extension).toMatchObject({ to: '2027-02-27T22:59:59.999Z', notifiedOn: '2026-11-27' });
    expect(outcome?.verbs.filter(({ applied }) => applied).map(({ verb }) => verb)).toEqual(['postpone', 'abandon']);
  });

  test.concurrent('P36: after the first period nothing is postponed, and without a law never', async () => {
    const at = await start('too late', { speed: 20_000 });
    const late = await at.erase({ receivedAt: new Date(at.now() - 40 * DAY_MS).toISOString() });
    const message = { ...BY, notifiedOn: new Date(at.now()).toISOString().slice(0, 10) };
    const free = await at.erase({ identifiers: [ALIAS], law: 'none' });
    expect(await free.status()).toMatchObject({ law: 'none', confirmBy: null });
    for (const { requestId } of [late, free]) {
      await at.until(requestId, ({ status }) => status === 'waiting');
    }
    expect(await late.postpone(message)).toMatchObject({
      delivered: 'none',
      text: expect.stringMatching(/first period ended/),
    });
    expect(await free.postpone(message)).toMatchObject({ delivered: 'none', text: expect.stringMatching(/no law/) });
    await late.abandon(BY);
    await free.abandon(BY);
  });

  test.concurrent('P36: a request that cannot be done in time is shown at risk long before it is overdue', async () => {
    const at = await start('at risk', { start: MONDAY_EVENING, speed: 20_000 });
    const dueAt = new Date(at.now() + 3 * DAY_MS).toISOString();
    const tight = await at.erase({ dueAt });
    const roomy = await at.erase({ identifiers: [ALIAS] });
    for (const { requestId } of [tight, roomy]) await at.until(requestId, ({ status }) => status === 'waiting');
    const status = await tight.status();
    expect(status).toMatchObject({ atRisk: true, overdue: false });
    // The window closes at the end of Sunday; two reads a settle time apart follow.
    expect(status.connections[CONNECTION]?.earliestVerdictAt).toBe('2026-12-02T00:00:00.000Z');
    expect(status.atRiskReason).toMatch(/langsmith-prod can be done Wed 2 Dec 00:00 UTC at the earliest/);
    expect(await roomy.status()).toMatchObject({ atRisk: false, atRiskReason: null });
    expect(await at.client.list({ atRisk: true })).toMatchObject([{ requestId: tight.requestId }]);
    expect(await at.client.list({ overdue: true })).toEqual([]);
    await tight.abandon(BY);
    await roomy.abandon(BY);
  });
});

describe('texts that quote the person', () => {
  test.concurrent(
    'P33: the client sends no reason or name that quotes an identifier, and the workflow takes none',
    async () => {
      const [at, requestId, workflowId] = await waiting('quotes');
      for (const message of [
        { ...BY, reason: 'asked by U_42 herself' },
        { ...BY, requestedBy: 'u_42' },
      ]) {
        const [refused] = await at.client.checkNow(requestId, message);
        expect(refused).toMatchObject({ delivered: 'none', text: expect.stringMatching(/contains an identifier/) });
        const handle = at.client.temporal.workflow.getHandle(workflowId);
        await expect(handle.executeUpdate('checkNow', { args: [message] })).rejects.toThrow();
        await handle.signal('abandon', message);
      }
      // Both signals were recorded and did nothing.
      expect((await at.client.status(requestId)).status).toBe('waiting');
      await at.client.abandon(requestId, BY);
      await at.client.result(requestId);
      const record = await at.record(requestId);
      const verbs = record.outcome?.verbs ?? [];
      expect(verbs.map(({ verb, applied, requestedBy }) => [verb, applied, requestedBy])).toEqual([
        ['abandon', false, 'unknown'],
        ['abandon', false, 'unknown'],
        ['abandon', true, 'ines'],
      ]);
      expect(JSON.stringify(record.outcome).toLowerCase()).not.toContain('u_42');
    },
  );
});

describe('a second request', () => {
  test.concurrent(
    'P24: with join: extend it widens the first; both identifiers are erased, the verdict comes after its receipt',
    async () => {
      const [at, requestId] = await waiting('extend', { start: MONDAY_EVENING, speed: 60_000 });
      const before = at.sim.truth.submissions().length;
      const wider = { identifiers: [ANN, ALIAS], requestId: 'ticket-2' };
      const refused = await at.client.erase(wider).then(
        () => null,
        (error: unknown) => error as RequestConflictError,
      );
      expect(refused).toBeInstanceOf(RequestConflictError);
      expect(refused?.message).toMatch(/--extend/);

      const joinedAt = at.now();
      const second = await at.client.erase({ ...wider, join: 'extend' });
      expect(second).toMatchObject({ requestId: 'ticket-2', joined: true });
      const status = await at.client.status('ticket-2');
      expect(status).toMatchObject({ requestId, joinedRequests: [{ requestId: 'ticket-2' }] });
      // Asking again joins once.
      expect(await at.client.erase({ ...wider, join: 'extend' })).toMatchObject({
        requestId: 'ticket-2',
        joined: true,
      });
      expect(await at.client.erase(wider)).toMatchObject({ requestId: 'ticket-2', joined: true });
      await expect(at.client.erase({ identifiers: [ANN], requestId: 'ticket-2' })).rejects.toThrow(
        RequestConflictError,
      );

      const end = await second.result();
      expect(end).toMatchObject({ status: 'verified', joinedRequests: [{ requestId: 'ticket-2' }] });
      expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 6, verifiedAbsent: 6 });
      expect(at.liveTraces('u_42')).toEqual([]);
      expect(at.liveTraces('u_7')).toEqual([]);
      expectSurvivors(at, ['u_8', 'u_9']);
      // What was sent for the first request was not sent once more.
      expect(at.sim.truth.submissions()).toHaveLength(before + 1);
      const { outcome, lanes } = await at.record(requestId);
      expect(outcome?.joined).toMatchObject([{ requestId: 'ticket-2' }]);
      const counted = (lanes[CONNECTION]?.entries ?? []).flatMap(({ entry }) =>
        entry.kind === 'read' && entry.counted ? [Date.parse(entry.at)] : [],
      );
      expect(counted).toHaveLength(2);
      expect(Math.min(...counted)).toBeGreaterThan(joinedAt);
      expect((await at.client.report('ticket-2')).digest).toBe((await at.client.report(requestId)).digest);
    },
  );

  test.concurrent(
    'P21 P24: brings along what began since the first receipt, and leaves what began since its own',
    async () => {
      const at = await start('later receipt', { start: MONDAY_EVENING, speed: 300_000, worker: false });
      const write = (days: number): string =>
        at.sim.seed({
          project: 'chat',
          traces: [{ runs: [{ metadata: { user_id: 'u_42' }, startTime: MONDAY_EVENING - days * DAY_MS }] }],
        })[0]?.traceId ?? '';
      const [early, between, late] = [write(40), write(10), write(2)];
      const receivedAt = (days: number): string => new Date(MONDAY_EVENING - days * DAY_MS).toISOString();
      const first = await at.erase({ receivedAt: receivedAt(20) });
      await first.hold(BY);
      await at.startWorker();
      const second = await at.erase({ receivedAt: receivedAt(5), requestId: 'ticket-6' });
      expect(second).toMatchObject({ joined: true });
      await first.release(BY);
      const end = await first.result();
      expect(end.receivedAt).toBe(receivedAt(20));
      expect([early, between, late].map((id) => at.sim.truth.isLive(id))).toEqual([false, false, true]);
      expect(at.sim.truth.submissionsOf(late)).toEqual([]);
      expect((await at.record(first.requestId)).request?.receivedAt).toBe(receivedAt(20));
      expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    },
  );

  test.concurrent(
    'P21 P24: one that is bound in time is joined by its like alone, and what began after the bound stays',
    async () => {
      // Held before any worker sees it, so that it is open for whatever joins.
      const at = await start('bound extend', { start: MONDAY_EVENING, speed: 300_000, worker: false });
      const onlyBefore = new Date(MONDAY_EVENING - 10 * DAY_MS).toISOString();
      const write = (days: number): string =>
        at.sim.seed({
          project: 'chat',
          traces: [{ runs: [{ metadata: { user_id: 'u_42' }, startTime: MONDAY_EVENING - days * DAY_MS }] }],
        })[0]?.traceId ?? '';
      const [early, given, late] = [write(40), write(41), write(5)];
      const first = await at.erase({ onlyBefore });
      await first.hold(BY);
      await at.startWorker();
      const known = { [CONNECTION]: [given] };
      await expect(at.erase({ known, join: 'extend' })).rejects.toThrow(/onlyBefore: it has .*, this one none/);
      const second = await at.erase({ known, onlyBefore, join: 'extend', requestId: 'ticket-5' });
      expect(second).toMatchObject({ joined: true });
      await expect(at.erase({ known, join: 'extend' })).rejects.toThrow(/onlyBefore: it has .*, this one none/);
      await first.release(BY);
      const end = await first.result();
      expect(end.connections[CONNECTION]?.traces.newActivity).toBeGreaterThanOrEqual(1);
      expect([early, given, late].map((id) => at.sim.truth.isLive(id))).toEqual([false, false, true]);
      expect(at.sim.truth.submissionsOf(late)).toEqual([]);
      expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    },
  );

  test.concurrent('P24: what was proven before a later request of the same scope is read anew for it', async () => {
    const at = await start('same scope', { start: MONDAY_EVENING, speed: 60_000, more: ['second'] });
    const second = at.more.get('second');
    second?.seedPeople({ project: 'chat', people: PEOPLE, tracesPerPerson: 2 });
    // As long as the other store refuses, the request stays open, and its first lane comes to its verdict.
    second?.habits.set({ keyRevoked: 401 });
    const first = await at.erase();
    await at.until(first.requestId, ({ connections }) => connections[CONNECTION]?.status === 'verified');
    second?.habits.reset();
    const joined = await at.erase({ requestId: 'ticket-3' });
    expect(joined).toMatchObject({ requestId: first.requestId, joined: true });
    const end = await at.client.result('ticket-3');
    expect(end).toMatchObject({ status: 'verified', requestId: first.requestId });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 3 });
    const { lanes, outcome } = await at.record(first.requestId);
    const joinedAt = Date.parse(outcome?.joined?.[0]?.joinedAt ?? '');
    const counted = (lanes[CONNECTION]?.entries ?? []).flatMap(({ entry }) =>
      entry.kind === 'read' && entry.counted ? [Date.parse(entry.at) > joinedAt] : [],
    );
    expect(counted).toEqual([false, false, true, true]);
    expect(at.liveTraces('u_42')).toEqual([]);
    expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
    // What is gone is read again, not deleted again.
    expect(at.sim.truth.submissions()).toHaveLength(1);
  });

  test.concurrent('P24: a second request brings a connection along, and one that had ended is read again', async () => {
    const at = await start('more connections', { start: MONDAY_EVENING, speed: 60_000, more: ['second'] });
    at.more.get('second')?.seedPeople({ project: 'chat', people: PEOPLE, tracesPerPerson: 2 });
    const first = await at.erase({ connections: [CONNECTION] });
    await at.until(first.requestId, ({ status }) => status === 'waiting');
    const second = await at.erase({ requestId: 'ticket-4', join: 'extend' });
    expect(await second.status()).toMatchObject({ joinedRequests: [{ requestId: 'ticket-4' }] });
    const end = await first.result();
    expect(end.status).toBe('verified');
    expect(Object.keys(end.connections).sort()).toEqual([CONNECTION, 'second']);
    const { truth } = at.more.get('second') ?? at.sim;
    expect(truth.tracesOf([{ key: 'user_id', value: 'u_42' }])).toEqual([]);
    expect(truth.tracesOf([{ key: 'user_id', value: 'u_7' }])).toHaveLength(2);
    expect(truth.unasked()).toEqual([]);
    expect(at.liveTraces('u_42')).toEqual([]);
    expectSurvivors(at, ['u_7', 'u_8', 'u_9']);
  });
});
