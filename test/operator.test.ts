import { describe, expect, jest, test } from '@jest/globals';
import { CONNECTION, type World } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';
import { HOUR_MS, WEEK_MS } from '../src/erasure/rhythm.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };

/** Weekends pass in seconds, and a busy machine makes them some more. */
jest.setTimeout(120_000);

const open = worldsOfFile();

/** A request whose traces are submitted and whose lane sleeps until after the weekend. */
async function waiting(title: string, speed = 20_000): Promise<readonly [World, string, string]> {
  const world = await open(title, { speed });
  world.seed(['u_42', 'u_7', 'u_8'], 3);
  const erasure = await world.erase();
  await world.until(erasure.requestId, ({ status }) => status === 'waiting');
  return [world, erasure.requestId, erasure.workflowId];
}

describe('operator verbs', () => {
  test.concurrent('retry cuts a week-long sleep short and submits again at once', async () => {
    const [at, requestId] = await waiting('retry');
    const before = at.sim.truth.submissions().length;
    const asked = at.now();
    const [answer] = await at.client.retry(requestId, BY);
    expect(answer?.text).toMatch(/submits again/);
    const status = await at.until(requestId, ({ connections }) => connections[CONNECTION]?.round === 2);
    expect(status.status).not.toBe('needs-operator');
    await at.until(requestId, (now) => now.status === 'waiting' && now.connections[CONNECTION]?.round === 2);
    expect(at.sim.truth.submissions()).toHaveLength(before + 1);
    expect(at.sim.truth.submissions().at(-1)?.atMs).toBeLessThan(asked + WEEK_MS / 2);
    await at.client.abandon(requestId, BY);
  });

  test.concurrent('P3: checkNow adds a read that never counts early', async () => {
    const [at, requestId] = await waiting('check now');
    at.sim.ledger.reset();
    await at.client.checkNow(requestId, BY);
    const status = await at.until(requestId, ({ connections }) => connections[CONNECTION]?.lastRead !== null);
    const lane = status.connections[CONNECTION];
    expect(lane).toMatchObject({ cleanReads: 0, round: 1 });
    expect(lane?.lastRead).toMatch(/not settled yet|not counted/);
    expect(at.sim.truth.submissions()).toHaveLength(1);
    await at.client.abandon(requestId, BY);
  });

  test.concurrent('hold stops it, refuses retry, and release lets it go on to the verdict', async () => {
    const [at, requestId] = await waiting('hold', 150_000);
    await at.client.hold(requestId, BY);
    const held = await at.until(requestId, ({ status }) => status === 'held');
    expect(held.connections[CONNECTION]?.nextCheckAt).toBeNull();
    const [refused] = await at.client.retry(requestId, BY);
    expect(refused?.delivered).toBe('none');
    expect(refused?.text).toMatch(/held/);
    const calls = at.sim.ledger.entries.length;
    await at.client.release(requestId, BY);
    const end = await at.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(at.sim.ledger.entries.length).toBeGreaterThan(calls);
    expect(at.liveTraces('u_42')).toEqual([]);
    expect(at.liveTraces('u_7')).toHaveLength(3);
  });

  test.concurrent('retry makes a flagged request try at once, instead of at its next probe hours later', async () => {
    const world = await open('flagged', { speed: 2_000 });
    world.seed(['u_42', 'u_7', 'u_8'], 3);
    world.sim.habits.set({ keyRevoked: 401 });
    const { requestId } = await world.erase();
    const flagged = await world.until(requestId, ({ status }) => status === 'needs-operator');
    expect(flagged.connections[CONNECTION]?.attention).toMatchObject({ reason: 'denied' });
    // Some probes later the next one is far away.
    const later = await world.until(
      requestId,
      ({ connections }) => Date.parse(connections[CONNECTION]?.nextCheckAt ?? '') - world.now() > 2 * HOUR_MS,
    );
    world.sim.habits.reset();
    const asked = world.now();
    const [answer] = await world.client.retry(requestId, BY);
    expect(answer?.text).toMatch(/tries again now/);
    await world.until(requestId, ({ status }) => status === 'waiting');
    const [submission] = world.sim.truth.submissions();
    expect(submission?.atMs).toBeGreaterThanOrEqual(asked);
    expect(submission?.atMs).toBeLessThan(Date.parse(later.connections[CONNECTION]?.nextCheckAt ?? ''));
    await world.client.hold(requestId, BY);
    await world.until(requestId, ({ status }) => status === 'held');
    await world.client.abandon(requestId, BY);
    expect((await world.client.result(requestId)).status).toBe('abandoned');
  });

  test.concurrent('abandon ends the request without proof, and the record says who and why', async () => {
    const [at, requestId] = await waiting('abandon');
    const [answer] = await at.client.abandon(requestId, BY);
    expect(answer?.text).toMatch(/cannot be recalled/);
    const end = await at.client.result(requestId);
    expect(end.status).toBe('abandoned');
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, abandoned: 3, pending: 0 });
    const record = await at.record(requestId);
    expect(record.outcome).toMatchObject({ verdict: 'abandoned' });
    expect(record.outcome?.verbs).toMatchObject([{ verb: 'abandon', ...BY, applied: true }]);
  });

  test.concurrent('a cancelled workflow is an abandoned one, sealed and told as such', async () => {
    const [at, requestId, workflowId] = await waiting('cancel');
    await at.client.temporal.workflow.getHandle(workflowId).cancel();
    const end = await at.client.result(requestId);
    expect(end.status).toBe('abandoned');
    expect((await at.record(requestId)).outcome?.verdict).toBe('abandoned');
  });

  test.concurrent(
    'without a worker a verb waits as a signal, status answers from the memo, and the verb acts later',
    async () => {
      const [at, requestId] = await waiting('no worker');
      await at.stopWorker();
      expect((await at.client.status(requestId)).status).toBe('waiting');
      const [answer] = await at.client.abandon(requestId, BY);
      expect(answer?.delivered).toBe('signal');
      expect((await at.client.status(requestId)).status).toBe('waiting');
      await at.startWorker();
      expect((await at.client.result(requestId)).status).toBe('abandoned');
    },
  );

  test.concurrent('nonsense is refused as an update and recorded and ignored as a signal', async () => {
    const [at, requestId, workflowId] = await waiting('nonsense');
    const handle = at.client.temporal.workflow.getHandle(workflowId);
    for (const nonsense of [
      {},
      { requestedBy: '' },
      { ...BY, connection: 'no-such' },
      { ...BY, extra: 1 },
      'retry',
      null,
    ]) {
      await expect(handle.executeUpdate('retry', { args: [nonsense] })).rejects.toThrow();
    }
    await expect(handle.executeUpdate('release', { args: [BY] })).rejects.toThrow();
    await handle.signal('retry', { nonsense: true });
    await handle.signal('release', BY);
    await at.client.abandon(requestId, BY);
    await at.client.result(requestId);
    const verbs = (await at.record(requestId)).outcome?.verbs ?? [];
    expect(verbs.map(({ verb, applied }) => [verb, applied])).toEqual([
      ['retry', false],
      ['release', false],
      ['abandon', true],
    ]);
    expect(at.sim.truth.submissions()).toHaveLength(1);
  });

  test.concurrent('the same message sent as update and as signal acts once', async () => {
    const [at, requestId, workflowId] = await waiting('once', 2_000);
    const handle = at.client.temporal.workflow.getHandle(workflowId);
    const message = { ...BY, verbId: 'one-and-the-same' };
    await handle.executeUpdate('retry', { args: [message] });
    await handle.signal('retry', message);
    await at.until(requestId, (now) => now.status === 'waiting' && now.connections[CONNECTION]?.round === 2);
    expect(at.sim.truth.submissions()).toHaveLength(2);
    await at.client.abandon(requestId, BY);
    await at.client.result(requestId);
    expect((await at.record(requestId)).outcome?.verbs.map(({ verb }) => verb)).toEqual(['retry', 'abandon']);
  });

  test.concurrent('P26: a due date that passes is shown and does not stop the work', async () => {
    const world = await open('overdue');
    world.seed(['u_42', 'u_7', 'u_8'], 3);
    const dueAt = new Date(world.now() + HOUR_MS * 30).toISOString();
    const end = await world.eraseToEnd({ dueAt });
    expect(end).toMatchObject({ status: 'verified', overdue: true });
  });
});
