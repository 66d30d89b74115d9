import { afterAll, describe, expect, jest, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatReport } from '../src/cli/report.ts';
import { formatStatus } from '../src/cli/format.ts';
import { newWatch, noted, reopenedId, watchIdOf, WATCH_WORKFLOW } from '../src/erasure/aftercare.ts';
import { startedAfter } from '../src/erasure/cutoff.ts';
import { DAY_MS } from '../src/erasure/rhythm.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import type { LookAddendum } from '../src/evidence/addenda.ts';
import { startThreeStores, type ThreeStores } from './support/three-stores.ts';
import { CONNECTION, type World } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';

/** A week in two seconds. */
const SPEED = 300_000;

const EMAIL = 'ann@example.org';

/** Weeks pass in seconds, and a busy machine makes them some more. */
jest.setTimeout(240_000);

// Closed after the worlds that use them.
const stores: ThreeStores[] = [];
afterAll(async () => {
  await Promise.all(stores.map((three) => three.close()));
});
const open = worldsOfFile();

async function watched(title: string, aftercare: string[], speed = SPEED): Promise<World> {
  return open(title, { speed, config: (base) => ({ ...base, policy: { aftercare } }) });
}

/** Polls the status until aftercare fits. Bounded by the test's own time limit. */
function untilLooks(
  at: World,
  requestId: string,
  fits: (looks: NonNullable<RequestStatus['aftercare']>) => boolean,
): Promise<RequestStatus> {
  return at.until(requestId, ({ aftercare }) => aftercare !== undefined && fits(aftercare), { afterEnd: true });
}

async function looksIn(at: World, requestId: string): Promise<readonly LookAddendum[]> {
  const { addenda = [] } = await at.record(requestId);
  return addenda.flatMap(({ addendum }) => (addendum.kind === 'look' ? [addendum] : []));
}

/** Writes traces under ids of their own, as a restored backup or a late producer does. */
function write(at: World, traceIds: readonly string[], metadata: Record<string, string>, startMs: number): void {
  at.sim.seed({
    project: 'chat',
    traces: traceIds.map((traceId) => ({
      traceId,
      runs: [
        { metadata, startTime: startMs },
        { metadata, startTime: startMs },
      ],
    })),
  });
}

describe('what a watch is made of', () => {
  test('a trace belongs to a later time when it started later, or when nothing says and its id was not given', () => {
    expect(startedAfter({ startMs: 10, given: false }, 10)).toBe(false);
    expect(startedAfter({ startMs: 11, given: false }, 10)).toBe(true);
    expect(startedAfter({ startMs: 11, given: true }, 10)).toBe(true);
    expect(startedAfter({ startMs: null, given: false }, 10)).toBe(true);
    expect(startedAfter({ startMs: null, given: true }, 10)).toBe(false);
  });

  test('ids of new requests stay within the length of an id and stay apart', () => {
    expect(reopenedId('ticket-4711', 2)).toBe('ticket-4711-again-2');
    const long = 'r'.repeat(64);
    const other = `${'r'.repeat(63)}s`;
    expect(reopenedId(long, 1)).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
    expect(reopenedId(long, 1)).not.toBe(reopenedId(other, 1));
    expect(reopenedId(long, 1)).not.toBe(reopenedId(long, 2));
  });

  test('the latest word about a look replaces the one before, and no other', () => {
    const note = { connection: 'a', look: 1, atMs: 1, answer: 'trouble', why: 'down', request: null } as const;
    const first = noted(noted(newWatch(), note), { ...note, connection: 'b' });
    const { notes } = noted(first, { ...note, atMs: 2, answer: 'clean', why: null });
    expect(notes.map(({ connection, answer }) => [connection, answer])).toEqual([
      ['b', 'trouble'],
      ['a', 'clean'],
    ]);
  });
});

describe('aftercare', () => {
  test.concurrent(
    'looks three times after the end, tells it in addenda, and leaves the sealed record as it was',
    async () => {
      const at = await watched('clean watch', ['7 days', '1 day', '30 days']);
      at.seed(['u_42', 'u_7', 'u_8'], 3);
      const end = await at.eraseToEnd();
      expect(end.status).toBe('verified');
      const { requestId } = end;
      const { digest } = await at.record(requestId);
      expect(digest).not.toBeNull();
      const watching = await untilLooks(at, requestId, ({ looks }) => looks.length > 0);
      expect(watching.aftercare).toMatchObject({ state: 'watching' });
      expect(Date.parse(watching.aftercare?.nextLookAt ?? '')).toBeGreaterThan(Date.parse(end.endedAt ?? ''));
      expect(formatStatus(watching, null)).toContain('Aftercare: goes on, looks next');
      // A sleeping watch is nothing that is stuck.
      const { checks } = await at.client.doctor();
      expect(checks.filter(({ area, level }) => area === 'requests' && level !== 'ok')).toEqual([]);

      const { aftercare } = await untilLooks(at, requestId, ({ state }) => state === 'ended');
      expect(aftercare?.looks.map(({ look, answer, request }) => [look, answer, request])).toEqual([
        [1, 'clean', null],
        [2, 'clean', null],
        [3, 'clean', null],
      ]);
      const record = await at.record(requestId);
      expect(record.digest).toBe(digest);
      const looks = await looksIn(at, requestId);
      const endedMs = Date.parse(end.endedAt ?? '');
      for (const [index, days] of [1, 7, 30].entries()) {
        const { due, at: looked, answer, controls, reports } = looks[index]!;
        expect(Date.parse(due)).toBe(endedMs + days * DAY_MS);
        expect(Date.parse(looked)).toBeGreaterThanOrEqual(Date.parse(due));
        expect(answer).toBe('clean');
        // Every way of searching and of looking up was used, each with controls that it saw.
        const used = Object.entries(controls);
        expect(used.length).toBeGreaterThanOrEqual(4);
        for (const [, { asked, seen }] of used) expect([asked > 0, seen]).toEqual([true, asked]);
        expect(new Set(reports.map(({ purpose }) => purpose))).toEqual(new Set(['controls', 'lookup', 'find']));
      }
      expect(formatReport(requestId, record)).toMatch(/Addenda: [^]*look 3, langsmith-prod: clean/);
      // A watch is no request, and nobody waits for it.
      expect((await at.client.list()).map((one) => one.requestId)).toEqual([requestId]);
      expect(at.sim.truth.submissions()).toHaveLength(1);
      expect(at.sim.truth.unasked()).toEqual([]);
      for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(3);
    },
  );

  test.concurrent('without aftercare in the config nothing is watched', async () => {
    const at = await watched('no watch', []);
    at.seed(['u_42', 'u_7', 'u_8'], 1);
    const { requestId } = await at.eraseToEnd();
    const handle = at.client.temporal.workflow.getHandle(watchIdOf(requestId));
    await expect(handle.describe()).rejects.toThrow(/not found/i);
    expect((await at.client.status(requestId)).aftercare).toBeUndefined();
    expect((await at.record(requestId)).addenda).toBeUndefined();
  });

  test.concurrent('an abandoned request and a plan are not watched', async () => {
    const at = await watched('not watched', ['1 day']);
    at.seed(['u_42', 'u_7', 'u_8'], 1);
    const plan = await at.client.plan({ identifiers: [{ kind: 'user_id', value: 'u_42' }] });
    const erasure = await at.erase();
    await erasure.abandon({ requestedBy: 'ines', reason: 'ticket 4711' });
    expect((await erasure.result()).status).toBe('abandoned');
    for (const requestId of [plan.requestId, erasure.requestId]) {
      const handle = at.client.temporal.workflow.getHandle(watchIdOf(requestId));
      await expect(handle.describe()).rejects.toThrow(/not found/i);
    }
  });

  test.concurrent('what comes back until day 7 becomes a new request, which erases it and nobody else', async () => {
    const at = await watched('resurrection', ['1 day', '7 days'], 60_000);
    const traceIds = at.seed(['u_42', 'u_7', 'u_8'], 3).get('u_42') ?? [];
    const end = await at.eraseToEnd({ requestId: 'ticket-4711' });
    expect(end.status).toBe('verified');
    const { digest } = await at.record(end.requestId);
    await untilLooks(at, end.requestId, ({ looks }) => looks[0]?.answer === 'clean');
    // One of them comes back without anybody's name: only its id tells.
    write(at, traceIds.slice(0, 1), {}, Date.parse(end.endedAt ?? '') - 30 * DAY_MS);
    write(at, traceIds.slice(1, 2), { user_id: 'u_42' }, Date.parse(end.endedAt ?? '') - 30 * DAY_MS);

    const { aftercare } = await untilLooks(
      at,
      end.requestId,
      ({ looks }) => looks[1] !== undefined && looks[1].request !== null,
    );
    expect(aftercare?.looks[1]).toMatchObject({ answer: 'resurrected', request: 'ticket-4711-again-1' });
    const record = await at.record(end.requestId);
    expect(record.digest).toBe(digest);
    expect(record.addenda?.map(({ addendum }) => addendum)).toMatchObject([
      { kind: 'look', answer: 'clean' },
      { kind: 'look', answer: 'resurrected', resurrected: 2, late: 0, newActivity: 0 },
      { kind: 'reopened', connections: [CONNECTION], request: 'ticket-4711-again-1' },
    ]);
    const again = await at.client.result('ticket-4711-again-1');
    expect(again).toMatchObject({ status: 'verified', exceptions: [] });
    expect(again.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    for (const traceId of traceIds) expect(at.sim.truth.isLive(traceId)).toBe(false);
    expect(at.liveTraces('u_42')).toEqual([]);
    expect(at.sim.truth.submissionsOf(traceIds[1] ?? '')).toHaveLength(2);
    expect(at.sim.truth.unasked()).toEqual([]);
    for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(3);
  });

  test.concurrent(
    'traces of before the end that nobody had seen are erased by a new request, asked for by who asked first',
    async () => {
      const policy = { aftercare: ['20 days'], secondPersonAbove: 50 };
      const at = await open('late data', { speed: SPEED, config: (base) => ({ ...base, policy }) });
      at.seed(['u_42', 'u_7', 'u_8'], 2);
      const end = await at.eraseToEnd({ requestedBy: 'ines' });
      const late = ['11111111-0000-4000-8000-000000000001'];
      // Before the cut-off: what began after it is new activity, and stays.
      write(at, late, { user_id: 'u_42' }, Date.parse(end.receivedAt) - DAY_MS);
      const { aftercare } = await untilLooks(at, end.requestId, ({ looks }) =>
        looks.some(({ request }) => request !== null),
      );
      expect(aftercare?.looks[0]).toMatchObject({ answer: 'late', request: `${end.requestId}-again-1` });
      const again = await at.client.result(`${end.requestId}-again-1`);
      expect(again).toMatchObject({ status: 'verified', exceptions: [] });
      expect((await at.record(again.requestId)).request?.requestedBy).toBe('ines');
      expect(at.liveTraces('u_42')).toEqual([]);
      // Whoever ends a watch from outside is told that nothing is looked at any more.
      await at.client.temporal.workflow.getHandle(watchIdOf(again.requestId)).terminate('test');
      const stopped = await untilLooks(at, again.requestId, ({ state }) => state !== 'watching');
      expect(stopped.aftercare).toMatchObject({ state: 'stopped', nextLookAt: null });
      expect(formatStatus(stopped, null)).toContain('no look comes any more');
      expect(at.sim.truth.unasked()).toEqual([]);
      for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(2);
    },
  );

  test.concurrent(
    'a new customer with the same e-mail address is reported and not erased, also when old data comes back',
    async () => {
      const at = await watched('new customer', ['20 days', '80 days']);
      at.sim.seedPeople({
        project: 'chat',
        people: ['bob@example.org', 'cy@example.org'],
        tracesPerPerson: 2,
        key: 'email',
      });
      const old =
        at.sim.seedPeople({ project: 'chat', people: [EMAIL], tracesPerPerson: 2, key: 'email' })[0]?.traceIds ?? [];
      const end = await at.eraseToEnd({ identifiers: [{ kind: 'email', value: EMAIL }] });
      expect(end.connections[CONNECTION]?.traces.verifiedAbsent).toBe(2);
      const endedMs = Date.parse(end.endedAt ?? '');
      const fresh = ['22222222-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000002'];
      write(at, fresh, { email: EMAIL, user_id: 'u_new' }, endedMs + DAY_MS / 2);
      const first = await untilLooks(at, end.requestId, ({ looks }) => looks.length > 0);
      expect(first.aftercare?.looks[0]).toMatchObject({ answer: 'new-activity', request: null });
      write(at, old.slice(0, 1), { email: EMAIL }, endedMs - 20 * DAY_MS);
      await untilLooks(at, end.requestId, ({ looks }) => looks[1]?.request === `${end.requestId}-again-1`);
      const again = await at.client.result(`${end.requestId}-again-1`);
      expect(again.status).toBe('verified-with-exceptions');
      expect(again.exceptions).toMatchObject([{ kind: 'new-activity', count: 2 }]);
      expect(again.connections[CONNECTION]?.traces).toMatchObject({
        matched: 3,
        newActivity: 2,
        verifiedAbsent: 1,
      });
      // The new request has a watch of its own, which must not reach further than it did.
      const last = await untilLooks(at, again.requestId, ({ state }) => state === 'ended');
      expect(last.aftercare?.looks.map(({ answer, request }) => [answer, request])).toEqual([
        ['new-activity', null],
        ['new-activity', null],
      ]);

      for (const traceId of fresh) {
        expect(at.sim.truth.isLive(traceId)).toBe(true);
        expect(at.sim.truth.submissionsOf(traceId)).toEqual([]);
      }
      for (const traceId of old) expect(at.sim.truth.isLive(traceId)).toBe(false);
      expect(
        (await looksIn(at, end.requestId)).map(({ resurrected, newActivity }) => [resurrected, newActivity]),
      ).toEqual([
        [0, 2],
        [1, 2],
      ]);
      expect(at.sim.truth.unasked()).toEqual([]);
      for (const other of ['bob@example.org', 'cy@example.org']) {
        expect(at.sim.truth.tracesOf([{ key: 'email', value: other }])).toHaveLength(2);
      }
    },
  );

  test.concurrent('a look that fails for more than a day is recorded each time and made later', async () => {
    const at = await watched('failed look', ['5 days'], 60_000);
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId } = await at.eraseToEnd();
    at.sim.habits.set({ keyRevoked: 401 });
    const failing = await untilLooks(at, requestId, ({ looks }) => looks[0]?.answer === 'trouble');
    expect(failing.aftercare?.looks[0]?.why).toMatch(/denied|refuses/);
    const since = Date.parse(failing.aftercare?.looks[0]?.at ?? '');
    while (at.now() < since + DAY_MS || (await looksIn(at, requestId)).length < 3) await sleep(20);
    at.sim.habits.reset();
    const { aftercare } = await untilLooks(at, requestId, ({ state }) => state === 'ended');
    expect(aftercare?.looks).toMatchObject([{ look: 1, answer: 'clean' }]);
    const looks = await looksIn(at, requestId);
    expect(looks.at(-1)?.answer).toBe('clean');
    expect(looks.length).toBeGreaterThan(3);
    expect(looks.slice(0, -1).every(({ answer }) => answer === 'trouble')).toBe(true);
    expect(looks.map(({ attempt }) => attempt)).toEqual(looks.map((_look, index) => index + 1));
  });

  test.concurrent('reads that see nothing at all prove nothing, and never make a look clean', async () => {
    const at = await watched('blind look', ['8 days'], 100_000);
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId } = await at.eraseToEnd();
    at.sim.habits.set({ blind: { what: 'all' } });
    const blind = await untilLooks(at, requestId, ({ looks }) => looks.length > 0);
    expect(blind.aftercare?.looks[0]?.answer).toBe('inconclusive');
    at.sim.habits.reset();
    const { aftercare } = await untilLooks(at, requestId, ({ state }) => state === 'ended');
    expect(aftercare?.looks).toMatchObject([{ answer: 'clean' }]);
    expect((await looksIn(at, requestId))[0]).toMatchObject({ answer: 'inconclusive', resurrected: 0 });
  });

  test('a look is given up after its tries, and the record says so', async () => {
    const at = await watched('given up', ['20 days', '70 days'], 400_000);
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId } = await at.eraseToEnd();
    at.sim.habits.set({ keyRevoked: 403 });
    const given = await untilLooks(at, requestId, ({ looks }) => looks[0]?.answer === 'failed');
    expect(given.aftercare?.looks[0]?.why).toMatch(/given up after 20 tries/);
    const flags = async () => (await at.client.doctor()).checks.filter(({ text }) => text.includes('given up'));
    expect(await flags()).toMatchObject([{ area: 'requests', name: requestId, level: 'warning' }]);
    expect(given.aftercare?.state).toBe('watching');
    at.sim.habits.reset();
    const { aftercare } = await untilLooks(at, requestId, ({ state }) => state === 'ended');
    expect(await flags()).toEqual([]);
    expect(aftercare?.looks.map(({ answer }) => answer)).toEqual(['failed', 'clean']);
    const first = (await looksIn(at, requestId)).filter(({ look }) => look === 1);
    expect(first.map(({ answer }) => answer)).toEqual([...Array.from({ length: 20 }, () => 'trouble'), 'failed']);
  });

  test.concurrent('a watch outlives its worker, and begins again where an earlier run stopped', async () => {
    const at = await watched('restart', ['1 day', '60 days']);
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const end = await at.eraseToEnd();
    await untilLooks(at, end.requestId, ({ looks }) => looks.length === 1);
    await at.stopWorker();
    const asleep = await at.client.status(end.requestId);
    expect(asleep.aftercare).toMatchObject({ state: 'watching', looks: [{ look: 1, answer: 'clean' }] });
    await at.startWorker();
    const { aftercare } = await untilLooks(at, end.requestId, ({ state }) => state === 'ended');
    expect(aftercare?.looks.map(({ look, answer }) => [look, answer])).toEqual([
      [1, 'clean'],
      [2, 'clean'],
    ]);
    expect(await looksIn(at, end.requestId)).toHaveLength(2);

    // As after a continue-as-new: the first look is done, the second was tried once.
    const handle = at.client.temporal.workflow.getHandle(watchIdOf(end.requestId));
    const { events = [] } = await handle.fetchHistory();
    const started = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
    const [input] = await at.client.temporal.options.loadedDataConverter.payloadCodecs[0]!.decode([...started]);
    const carried = { ...newWatch(), look: 1, open: [CONNECTION], tries: 1, nextTryAtMs: at.now(), notes: [] };
    await at.client.temporal.workflow.execute(WATCH_WORKFLOW, {
      taskQueue: at.client.taskQueue,
      workflowId: 'watch-continued',
      args: [JSON.parse(Buffer.from(input?.data ?? []).toString('utf8')), carried],
    });
    expect((await looksIn(at, end.requestId)).at(-1)).toMatchObject({ look: 2, attempt: 2, answer: 'clean' });
  });

  test.concurrent('every store is looked at again, and clean means clean in each', async () => {
    const held: { started?: ThreeStores } = {};
    const world = await open('three stores watched', {
      speed: 60_000,
      ready: async (clock) => {
        held.started = await startThreeStores(clock);
        stores.push(held.started);
        return {};
      },
      config: (base) => ({ ...base, connections: held.started?.connections ?? {}, policy: { aftercare: ['10 days'] } }),
    });
    const { langsmith, braintrust, respan } = held.started!;
    const people = { people: ['u_42', 'u_7', 'u_8', 'u_9'], tracesPerPerson: 3 };
    langsmith.seedPeople({ project: 'chat', ...people });
    braintrust.seedPeople({ project: 'chat', ...people });
    respan.seedPeople({ environment: 'prod', ...people });
    const end = await world.eraseToEnd();
    expect(end.status).toBe('verified');
    // Written again by somebody who has come back, in one of the stores only.
    const fresh = braintrust.seedPeople({ project: 'chat', people: ['u_42'], tracesPerPerson: 1, from: world.now() });
    const { aftercare } = await untilLooks(world, end.requestId, ({ state }) => state === 'ended');
    expect(aftercare?.looks.map(({ connection, answer }) => [connection, answer]).sort()).toEqual([
      ['braintrust-prod', 'new-activity'],
      ['langsmith-prod', 'clean'],
      ['respan-prod', 'clean'],
    ]);
    const live = (user: string): readonly number[] => [
      langsmith.truth.tracesOf([{ key: 'user_id', value: user }]).length,
      braintrust.truth.tracesOf([{ key: 'user_id', value: user }]).length,
      respan.truth.tracesOf([{ key: 'customer_identifier', value: user }]).length,
    ];
    expect(fresh).toHaveLength(1);
    expect(live('u_42')).toEqual([0, 1, 0]);
    for (const other of ['u_7', 'u_8', 'u_9']) expect(live(other)).toEqual([3, 3, 3]);
    for (const { truth } of [langsmith, braintrust, respan]) expect(truth.unasked()).toEqual([]);
  });

  test.concurrent(
    'while another request of the person is open nothing is started beside it, and the record says so',
    async () => {
      const at = await watched('conflict', ['40 days']);
      const traceIds = at.seed(['u_42', 'u_7', 'u_8'], 2).get('u_42') ?? [];
      const end = await at.eraseToEnd();
      // Held before any worker sees it: it is open for as long as it takes.
      await at.stopWorker();
      const other = await at.erase({ expectAtMost: 50 });
      expect(other.joined).toBe(false);
      await other.hold({ requestedBy: 'ines', reason: 'ticket 4711' });
      await at.startWorker();
      write(at, traceIds, { user_id: 'u_42' }, Date.parse(end.endedAt ?? '') - 30 * DAY_MS);
      await untilLooks(at, end.requestId, ({ looks }) => looks.some(({ answer }) => answer === 'resurrected'));
      const refusals = async (): Promise<readonly unknown[]> => {
        const { addenda = [] } = await at.record(end.requestId);
        return addenda.map(({ addendum }) => addendum).filter(({ kind }) => kind === 'reopened');
      };
      while ((await refusals()).length < 2) await sleep(20);
      for (const refusal of await refusals()) {
        expect(refusal).toMatchObject({ request: null, why: expect.stringContaining(other.requestId) });
      }
      await other.release({ requestedBy: 'ines', reason: 'ticket 4711' });
      expect((await other.result()).status).toBe('verified');
      expect(at.liveTraces('u_42')).toEqual([]);
      expect((await at.client.list()).map(({ requestId }) => requestId).sort()).toEqual(
        [end.requestId, other.requestId].sort(),
      );
      expect(at.sim.truth.unasked()).toEqual([]);
      for (const name of ['u_7', 'u_8']) expect(at.liveTraces(name)).toHaveLength(2);
    },
  );
});
