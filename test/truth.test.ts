import { describe, expect, test } from '@jest/globals';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigInput } from '../src/config/config.ts';
import { startLangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { newLane, troubled } from '../src/erasure/lane.ts';
import { LaneSteps, RECEIVED, Troubled } from './support/lane-steps.ts';
import { StoreError, type Finder } from '../src/stores/port.ts';
import { refusal, rowOf, ScriptedStore } from './support/scripted-store.ts';
import { CONNECTION, World, type WorldOptions } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const PERSON = [{ key: 'user_id', value: 'u_42' }];

/** Side by side: most of their time they wait for a weekend. */
function story(name: string, options: WorldOptions, body: (world: World) => Promise<void>): void {
  test.concurrent(
    name,
    async () => {
      const world = await World.start(name, options);
      try {
        await body(world);
        expect(world.sim.truth.unasked()).toEqual([]);
      } finally {
        await world.close();
      }
    },
    120_000,
  );
}

const kinds = (status: { exceptions: readonly { kind: string }[] }): string[] =>
  status.exceptions.map(({ kind }) => kind);
const changed = (change: (connection: Record<string, unknown>) => Record<string, unknown>): WorldOptions => ({
  config: (config) => ({
    ...config,
    connections: Object.fromEntries(
      Object.entries(config.connections).map(([name, connection]) => [name, change(connection)]),
    ) as ConfigInput['connections'],
  }),
});

/** Polls until the simulator has seen so many calls of a route. */
async function called(world: World, route: string, times: number): Promise<void> {
  while (world.sim.ledger.count({ route }) < times) await sleep(5);
}

describe('what may be said', () => {
  story(
    'P7: people with an open request are no controls: with nobody else, absence is not proven',
    {},
    async (world) => {
      world.seed(['u_42', 'u_7'], 3);
      const other = await world.erase({ identifiers: [{ kind: 'user_id', value: 'u_7' }] });
      await world.until(other.requestId, ({ status }) => status === 'waiting');
      await world.client.hold(other.requestId, BY);
      const end = await world.eraseToEnd();
      expect(end.status).toBe('verified-with-exceptions');
      expect(kinds(end)).toEqual(expect.arrayContaining(['no-control']));
      expect(end.connections[CONNECTION]?.traces.verifiedAbsent).toBe(0);
      await world.client.abandon(other.requestId, BY);
    },
  );

  story('P6: an empty search for a value unlike anybody else’s proves nothing', {}, async (world) => {
    world.seed(['u_7', 'u_8'], 2);
    for (const value of ['4711', 'zoë', 'a"b']) {
      const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value }] });
      expect(end.status).toBe('verified-with-exceptions');
      expect(kinds(end)).toEqual(['no-control']);
    }
  });

  story(
    'P1 P15: a kind whose case does not matter is never plainly verified: other spellings cannot be searched',
    { config: (config) => ({ ...config, identifiers: [{ kind: 'user_id', caseInsensitive: true }, 'email'] }) },
    async (world) => {
      world.seed(['Ann', 'u_7', 'u_8'], 2);
      const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: 'aNN' }] });
      expect(world.liveTraces('Ann')).toHaveLength(2);
      expect(end.status).toBe('verified-with-exceptions');
      expect(kinds(end)).toEqual(['unsearchable']);
    },
  );

  story('P15: composed and decomposed letters are the same spelling', {}, async (world) => {
    const composed = 'zo\u00eb';
    world.seed([composed.normalize('NFD'), 'u_7', 'u_8'], 2);
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: composed }] });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    expect(world.liveTraces(composed.normalize('NFD'))).toEqual([]);
  });

  story('P7: a control that vanishes is replaced without spending a round', {}, async (world) => {
    const seeded = world.seed(['u_42', 'u_7', 'u_8', 'u_9', 'u_10'], 2);
    const { requestId } = await world.erase();
    await world.until(requestId, ({ status }) => status === 'waiting');
    // Somebody else's traces, controls among them, go in the same weekend.
    const gone = ['u_7', 'u_8'].flatMap((other) => seeded.get(other) ?? []);
    const answer = await fetch(`${world.sim.url}/api/v1/runs/delete`, {
      method: 'POST',
      headers: { 'x-api-key': world.sim.apiKey, 'content-type': 'application/json' },
      body: JSON.stringify({ session_id: world.sim.project('chat').id, trace_ids: gone }),
    });
    expect(answer.status).toBe(202);
    const end = await world.client.result(requestId);
    expect(end).toMatchObject({ status: 'verified', connections: { [CONNECTION]: { round: 1 } } });
    for (const other of ['u_9', 'u_10']) expect(world.liveTraces(other)).toHaveLength(2);
  });

  story('P7: no id of a control is in the record', {}, async (world) => {
    const seeded = world.seed(['u_42', 'u_7', 'u_8'], 3);
    const { requestId } = await world.eraseToEnd();
    const directory = join(world.stateDir, 'records', requestId);
    const text = (
      await Promise.all((await readdir(directory)).map((file) => readFile(join(directory, file), 'utf8')))
    ).join();
    for (const traceIds of seeded.values()) for (const traceId of traceIds) expect(text).not.toContain(traceId);
    expect(text).not.toContain('u_7');
  });

  story(
    'P8: an identifier that a connection cannot search is named and an exception',
    changed((connection) => ({ ...connection, identifiers: { user_id: ['metadata.user_id'] } })),
    async (world) => {
      world.seed(['u_42', 'u_7', 'u_8'], 2);
      const end = await world.eraseToEnd({
        identifiers: [
          { kind: 'user_id', value: 'u_42' },
          { kind: 'email', value: 'ann@example.org' },
        ],
      });
      expect(end.connections[CONNECTION]?.searched).toEqual({ user_id: ['metadata.user_id'], email: [] });
      expect(end.status).toBe('verified-with-exceptions');
      expect(kinds(end)).toEqual(['unsearchable']);
    },
  );

  story('P6: a key that nobody alive carries proves nothing', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    const end = await world.eraseToEnd({
      identifiers: [
        { kind: 'user_id', value: 'u_42' },
        { kind: 'email', value: 'ann@example.org' },
      ],
    });
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.exceptions).toMatchObject([{ kind: 'no-control', text: expect.stringContaining('email') as unknown }]);
  });

  story('P6: a project whose traces carry no searched key proves nothing either', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    world.sim.seed({ project: 'other', traces: [{ runs: [{ metadata: { customer: 'c_1' } }] }] });
    const end = await world.eraseToEnd();
    expect(end.status).toBe('verified-with-exceptions');
    expect(kinds(end)).toEqual(['no-control']);
  });

  story('P1: nothing-found needs two reads a settle time apart, with controls', {}, async (world) => {
    world.seed(['u_7', 'u_8'], 2);
    const end = await world.eraseToEnd();
    expect(end).toMatchObject({ status: 'nothing-found', connections: { [CONNECTION]: { cleanReads: 2, round: 0 } } });
    const reads = (await world.record(end.requestId)).lanes[CONNECTION]?.entries ?? [];
    const [plan, read] = reads.map(({ entry }) => Date.parse(entry.at));
    expect((read ?? 0) - (plan ?? 0)).toBeGreaterThanOrEqual(24 * 3_600_000);
    expect(world.sim.truth.submissions()).toEqual([]);
  });

  story(
    'P1: what is not examined is an exception unless it was accepted',
    changed((connection) => ({ ...connection, accept: ['statistics'] })),
    async (world) => {
      world.seed(['u_42', 'u_7', 'u_8'], 2);
      const end = await world.eraseToEnd();
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.exceptions).toEqual([
        { connection: CONNECTION, kind: 'not-examined', count: 1, text: 'not examined: insights' },
      ]);
      const plan = (await world.record(end.requestId)).lanes[CONNECTION]?.entries[0]?.entry;
      expect(plan).toMatchObject({ kind: 'plan', accepted: ['statistics'] });
    },
  );
});

describe('what is searched', () => {
  story('P10: traces of any age are found: no default window applies', {}, async (world) => {
    const long = world.now() - 700 * 86_400_000;
    world.sim.seedPeople({
      project: 'chat',
      people: ['u_42', 'u_7', 'u_8'],
      tracesPerPerson: 3,
      from: long,
      to: long + 1,
    });
    const end = await world.eraseToEnd();
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 3 });
    expect(world.liveTraces('u_42')).toEqual([]);
  });

  story('P9: a project that appears after the plan is searched too', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId } = await world.erase();
    await world.until(requestId, ({ status }) => status === 'waiting');
    world.seed(['u_42', 'u_9'], 2, 'brand-new');
    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 4, verifiedAbsent: 4 });
    expect(world.liveTraces('u_42')).toEqual([]);
    expect(world.liveTraces('u_9')).toHaveLength(2);
  });

  story('P15: look-alikes, quotes and injections match nobody else', {}, async (world) => {
    const nasty = 'u"42\\") or eq(name,"answer';
    world.seed([nasty, 'u_42', 'U_42', 'u_420', ' u_42', 'u_42\u200b', 'ü_42'], 2);
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: nasty }] });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    const second = await world.eraseToEnd();
    expect(second.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    for (const other of ['U_42', 'u_420', ' u_42', 'u_42\u200b', 'ü_42'])
      expect(world.liveTraces(other)).toHaveLength(2);
  });

  story('P15: a number is found by its text, and a long one by every digit', {}, async (world) => {
    const long = '12345678901234567';
    world.sim.seed({
      project: 'chat',
      traces: [42, '42', 43, 4200, '042'].map((user_id) => ({ runs: [{ metadata: { user_id } }] })),
    });
    world.seed([long, '12345678901234568', 'u_7', 'u_8'], 1);
    const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: '42' }] });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    const second = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: long }] });
    expect(second.connections[CONNECTION]?.traces).toMatchObject({ matched: 1, verifiedAbsent: 1 });
    expect(world.liveTraces('12345678901234568')).toHaveLength(1);
    for (const value of [43, 4200, '042'])
      expect(world.sim.truth.tracesOf([{ key: 'user_id', value }])).toHaveLength(1);
  });
});

describe('nobody else', () => {
  story('P14: a trace that gains another person between plan and delete is pulled', {}, async (world) => {
    const [traceId] = world.seed(['u_42', 'u_7', 'u_8'], 2).get('u_42') ?? [];
    world.sim.habits.set({ slow: { ms: 400, on: ['/api/v1/examples'] } });
    const { requestId } = await world.erase();
    // Whose the traces are was read before the copies were looked for.
    await called(world, '/api/v2/runs/query', 3);
    await called(world, '/api/v1/runs/query', 2);
    world.sim.seed({
      project: 'chat',
      traces: [
        {
          traceId: traceId ?? '',
          runs: [{ id: crypto.randomUUID(), parent: traceId ?? '', metadata: { user_id: 'u_7' } }],
        },
      ],
    });
    const end = await world.client.result(requestId);
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 1, shared: 1 });
    expect(world.sim.truth.submissionsOf(traceId ?? '')).toEqual([]);
    expect(world.sim.truth.isLive(traceId ?? '')).toBe(true);
  });

  story('P18: more traces than expected: nothing is deleted before somebody has looked', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 4);
    const { requestId } = await world.erase({ expectAtMost: 3 });
    const stopped = await world.until(requestId, ({ status }) => status === 'awaiting-approval');
    expect(stopped.connections[CONNECTION]?.attention?.next).toMatch(/4 traces match, more than the 3 expected/);
    await world.client.retry(requestId, BY);
    await world.until(requestId, ({ status }) => status === 'awaiting-approval');
    expect(world.sim.truth.submissions()).toEqual([]);
    await world.client.abandon(requestId, BY);
    expect((await world.client.result(requestId)).status).toBe('abandoned');
    expect(world.sim.truth.tracesOf(PERSON)).toHaveLength(4);
  });

  story('P18: an e-mail address that several user ids share waits for somebody to look', {}, async (world) => {
    world.sim.seed({
      project: 'chat',
      traces: ['u_1', 'u_2'].map((user_id) => ({ runs: [{ metadata: { user_id, email: 'team@example.org' } }] })),
    });
    world.seed(['u_7', 'u_8'], 2);
    const { requestId } = await world.erase({ identifiers: [{ kind: 'email', value: 'team@example.org' }] });
    await world.until(requestId, ({ status }) => status === 'awaiting-approval');
    expect(world.sim.truth.submissions()).toEqual([]);
    await world.client.abandon(requestId, BY);
  });

  story('a dry run plans and deletes nothing', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 4);
    const plan = await world.client.plan({ identifiers: [{ kind: 'user_id', value: 'u_42' }] });
    expect(plan).toMatchObject({ dryRun: true, connections: { [CONNECTION]: { traces: { matched: 4, pending: 4 } } } });
    expect(plan.endedAt).not.toBeNull();
    expect(world.sim.ledger.deletes()).toEqual([]);
    expect((await world.record(plan.requestId)).outcome).toMatchObject({ verdict: null, dryRun: true });
  });
});

describe('side by side', () => {
  story('P26: a batch that is refused for good holds up no other batch', {}, async (world) => {
    const [refused = ''] = world.seed(['u_42', 'u_7', 'u_8'], 2, 'chat').get('u_42') ?? [];
    const agent = world.seed(['u_42', 'u_9'], 2, 'agent').get('u_42') ?? [];
    world.sim.habits.set({ rejectBatchWith: { ids: [refused] } });
    const { requestId } = await world.erase();
    const flagged = await world.until(
      requestId,
      ({ connections }) =>
        connections[CONNECTION]?.attention?.reason === 'rejected' && agent.every((id) => !world.sim.truth.isLive(id)),
    );
    expect(flagged.status).toBe('needs-operator');
    expect(world.sim.truth.isLive(refused)).toBe(true);
    world.sim.habits.reset();
    const end = await world.client.result(requestId);
    expect(end).toMatchObject({
      status: 'verified',
      connections: { [CONNECTION]: { traces: { matched: 4, verifiedAbsent: 4 } } },
    });
    expect(world.liveTraces('u_42')).toEqual([]);
    for (const other of ['u_7', 'u_8', 'u_9']) expect(world.liveTraces(other)).toHaveLength(2);
  });

  test.concurrent(
    'P26 P30: a lane in trouble never holds up another',
    async () => {
      const second = await startLangSmithSimulator();
      await second.close();
      const world = await World.start('two lanes', {
        config: (config) => ({
          ...config,
          connections: {
            ...config.connections,
            'langsmith-down': { ...config.connections[CONNECTION], baseUrl: second.url } as never,
          },
        }),
      });
      try {
        world.seed(['u_42', 'u_7', 'u_8'], 2);
        const { requestId } = await world.erase();
        const status = await world.until(
          requestId,
          ({ connections }) =>
            connections[CONNECTION]?.status === 'verified' && connections['langsmith-down']?.attention !== null,
        );
        expect(status.status).toBe('needs-operator');
        expect(status.connections['langsmith-down']?.attention?.reason).toBe('unreachable');
        expect(world.liveTraces('u_42')).toEqual([]);
        await world.client.abandon(requestId, { ...BY, connection: 'langsmith-down' });
        const end = await world.client.result(requestId);
        expect(end.status).toBe('abandoned');
        expect(end.connections[CONNECTION]?.status).toBe('verified');
      } finally {
        await world.close();
      }
    },
    120_000,
  );
});

describe('the record', () => {
  story('P2 P34 P35: tells every submit and every read, and is stamped as simulated', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    world.sim.habits.set({ skipWeekends: 2 });
    const { requestId, round } = await world.eraseToEnd().then((end) => ({
      requestId: end.requestId,
      round: end.connections[CONNECTION]?.round ?? 0,
    }));
    const sealed = JSON.parse(await readFile(join(world.stateDir, 'records', requestId, 'record.json'), 'utf8')) as {
      stamp: string;
    };
    expect(sealed.stamp).toBe('SIMULATED');
    const record = await world.record(requestId);
    const entries = (record.lanes[CONNECTION]?.entries ?? []).map(({ entry }) => entry);
    expect(entries[0]).toMatchObject({
      kind: 'plan',
      searched: { user_id: ['metadata.user_id'] },
      finders: ['v2 runs', 'v1 runs'],
      traces: { matched: 2 },
    });
    const submits = entries.filter(({ kind }) => kind === 'submit');
    expect(submits).toHaveLength(round);
    for (const submit of submits) {
      expect(submit).toMatchObject({ status: 202, count: 2, requestId: expect.any(String) as unknown });
    }
    const reads = entries.flatMap((entry) => (entry.kind === 'read' ? [entry] : []));
    expect(reads.map(({ answer, counted }) => [answer, counted]).slice(-2)).toEqual([
      ['clean', true],
      ['clean', true],
    ]);
    for (const read of reads) {
      expect(read.reports.length).toBeGreaterThanOrEqual(3);
      for (const { asked, seen } of Object.values(read.controls)) expect(seen).toBe(asked);
    }
    expect(record.outcome).toMatchObject({ verdict: 'verified' });
  });
});

describe('what a single read makes of the store', () => {
  const OTHERS = [rowOf('a', 'u_7'), rowOf('b', 'u_8')];
  const LATER = { settledAtMs: RECEIVED - 1, lastCountedAtMs: RECEIVED - 2, cleanReads: 1, round: 1 };

  /** A lane whose only trace was sent and is gone. */
  async function gone(steps: LaneSteps, at: ScriptedStore) {
    const plan = await steps.resolve();
    await steps.remove(plan.book);
    at.rows = OTHERS;
    const read = await steps.verify(plan.book);
    expect(read).toMatchObject({ kind: 'clean', counted: true, cleanReads: 1 });
    return read;
  }

  test('P3: one that sees the traces again and then proves nothing undoes the reads that counted before', async () => {
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...OTHERS]);
    await LaneSteps.over(at.store, async (steps) => {
      const { book } = await gone(steps, at);
      at.after = ({ what }, read) => (what === 'find' ? { ...read, inconclusive: 'it lags' } : read);
      // Nothing was seen: what was counted stays.
      expect(await steps.verify(book, LATER)).toMatchObject({ kind: 'inconclusive', cleanReads: 1 });
      at.rows = [rowOf('own', 'u_42'), ...OTHERS];
      expect(await steps.verify(book, LATER)).toMatchObject({
        kind: 'inconclusive',
        counted: false,
        cleanReads: 0,
        lastCountedAtMs: null,
      });
      // Shown by a search alone, and by one that is not finished.
      at.rows = [rowOf('new', 'u_42', { startMs: RECEIVED - 9 }), ...OTHERS];
      at.after = (_called, read) => read;
      at.before = ({ what }) => {
        if (what === 'locate' || (what === 'lookup' && at.count('find') > finds)) throw refusal('throttled', 429);
      };
      const finds = at.count('find');
      const error = await steps.verify(book, LATER).catch((thrown: unknown) => thrown as Troubled);
      if (!(error instanceof Troubled)) throw new Error('the read went through');
      const lane = { ...newLane('prod', 0), phase: 'verifying' as const, cleanReads: 1, lastCountedAtMs: 5 };
      expect(troubled(lane, error.trouble, 0)).toMatchObject({ cleanReads: 0, lastCountedAtMs: null });
      at.rows = OTHERS;
      at.before = ({ what }) => {
        if (what === 'find') throw refusal('throttled', 429);
      };
      const blind = await steps.verify(book, LATER).catch((thrown: unknown) => thrown as Troubled);
      if (!(blind instanceof Troubled)) throw new Error('the read went through');
      expect(troubled(lane, blind.trouble, 0)).toMatchObject({ cleanReads: 1, lastCountedAtMs: 5 });
    });
  });

  test('P1 P16 P29: kept traces that come to carry the person alone are submitted after all, and only these', async () => {
    const child = (traceId: string, person: string | null) => rowOf(traceId, person, { runId: `${traceId}-child` });
    const kept = [rowOf('shared', 'u_42'), child('shared', 'u_9'), rowOf('hidden', 'u_42'), child('hidden', 'u_9')];
    const at = new ScriptedStore([rowOf('own', 'u_42'), rowOf('bare', null), ...kept, ...OTHERS]);
    await LaneSteps.over(at.store, async (steps) => {
      const plan = await steps.resolve({ known: ['bare'] });
      expect(await steps.states(plan.book)).toEqual({
        own: 'pending',
        bare: 'linked',
        shared: 'shared',
        hidden: 'shared',
      });
      await steps.remove(plan.book);
      at.rows = [rowOf('bare', 'u_42'), rowOf('shared', 'u_42'), child('shared', 'u_42'), kept[2]!, ...OTHERS];
      const copies = at.count('copies');
      const read = await steps.verify(plan.book);
      expect(read).toMatchObject({ kind: 'newcomers', counted: false, resubmit: true });
      expect(at.count('copies')).toBe(copies + 1);
      // Of the last one a row is not shown: nobody says that it is the person's alone now.
      expect(await steps.states(read.book)).toEqual({
        own: 'pending',
        bare: 'pending',
        shared: 'pending',
        hidden: 'shared',
      });
      await steps.remove(read.book, { round: 2 });
      expect(at.deleted.map((ids) => [...ids].sort())).toEqual([['own'], ['bare', 'shared']]);
      at.rows = [kept[2]!, ...OTHERS];
      expect(await steps.verify(read.book, { round: 2 })).toMatchObject({ kind: 'clean', counted: true });
    });
  });

  test('P5: one cut short by a fresh trace that is kept does not count; a kept one known before cuts none short', async () => {
    const both = [rowOf('both', 'u_42'), rowOf('both', 'u_9', { runId: 'both-child' })];
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...OTHERS]);
    const second = { name: 'second', find: at.store.finders[0]!.find };
    const store = { ...at.store, finders: [...at.store.finders, second] };
    await LaneSteps.over(store, async (steps) => {
      const plan = await steps.resolve();
      await steps.remove(plan.book);
      at.rows = [...both, ...OTHERS];
      let finds = at.count('find');
      const cut = await steps.verify(plan.book);
      expect(at.count('find') - finds).toBe(1);
      expect(cut).toMatchObject({ counted: false, cleanReads: 0, why: expect.stringContaining('cut short') });
      expect((await steps.book(cut.book)).finders).toBe(2);
      finds = at.count('find');
      expect(await steps.verify(cut.book)).toMatchObject({ kind: 'clean', counted: true, cleanReads: 1 });
      expect(at.count('find') - finds).toBe(2);
    });
  });

  test('P1 P5: that only one way of searching was left is told although a kept trace is found', async () => {
    const both = [rowOf('both', 'u_42'), rowOf('both', 'u_9', { runId: 'both-child' })];
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...both, ...OTHERS]);
    let retired = false;
    const find = at.store.finders[0]!.find;
    const second = {
      name: 'second',
      find: (query: Parameters<typeof find>[0]) => {
        if (!retired) return find(query);
        throw new StoreError({ reason: 'gone', route: 'POST /x', status: 410, requestId: null, retired: true });
      },
    };
    await LaneSteps.over({ ...at.store, finders: [...at.store.finders, second] }, async (steps) => {
      const plan = await steps.resolve();
      expect(plan.exceptions.map(({ kind }) => kind)).not.toContain('single-path');
      await steps.remove(plan.book);
      at.rows = [...both, ...OTHERS];
      retired = true;
      const read = await steps.verify(plan.book);
      expect(read).toMatchObject({ kind: 'clean', counted: true });
      expect(read.exceptions.map(({ kind }) => kind)).toContain('single-path');
    });
  });

  describe('P5: finders that differ', () => {
    const both = [rowOf('both', 'u_42'), rowOf('both', 'u_9', { runId: 'both-child' })];
    const gone = 'the search "second" does not show a kept trace any more that it showed before';

    /** A store with a second finder, which does not show the kept trace while it is blind. */
    function twoFinders() {
      const at = new ScriptedStore([rowOf('own', 'u_42'), ...both, ...OTHERS]);
      const [first] = at.store.finders;
      if (first === undefined) throw new Error('no finder');
      const second: Finder & { blind: boolean } = {
        name: 'second',
        blind: false,
        find: async (query) => {
          const read = await first.find(query);
          return second.blind ? { ...read, rows: read.rows.filter(({ traceId }) => traceId !== 'both') } : read;
        },
      };
      return { at, second, store: { ...at.store, finders: [first, second] } };
    }

    /** Plans and deletes; only what is kept is left then. */
    async function deleted(steps: LaneSteps, at: ScriptedStore): Promise<Awaited<ReturnType<LaneSteps['resolve']>>> {
      const plan = await steps.resolve();
      await steps.remove(plan.book);
      at.rows = [...both, ...OTHERS];
      return plan;
    }

    async function disagreements(steps: LaneSteps): Promise<readonly (readonly string[])[]> {
      const { lanes } = await steps.recorded();
      return (lanes['prod']?.entries ?? []).flatMap(({ entry }) =>
        entry.kind === 'plan' || entry.kind === 'read' ? [entry.disagreements] : [],
      );
    }

    test('P5: a read proves nothing while one does not show a kept trace any more that the other shows', async () => {
      const { at, second, store } = twoFinders();
      await LaneSteps.over(store, async (steps) => {
        const plan = await deleted(steps, at);
        second.blind = true;
        const read = await steps.verify(plan.book);
        expect(read).toMatchObject({ kind: 'inconclusive', counted: false, cleanReads: 0, resubmit: false });
        expect(read.why).toContain(gone);
        expect(await disagreements(steps)).toEqual([
          [],
          [expect.stringMatching(/^finders disagree: 1 and 0 traces/), expect.stringContaining(gone)],
        ]);
        second.blind = false;
        expect(await steps.verify(read.book)).toMatchObject({ kind: 'clean', counted: true, cleanReads: 1 });
        expect(at.deleted).toEqual([['own']]);
      });
    });

    test('P2 P5: what is still there is submitted again all the same', async () => {
      const { at, second, store } = twoFinders();
      await LaneSteps.over(store, async (steps) => {
        const plan = await steps.resolve();
        await steps.remove(plan.book);
        // Only by its id: no search is cut short by it.
        at.rows = [rowOf('own', null), ...both, ...OTHERS];
        second.blind = true;
        expect(await steps.verify(plan.book)).toMatchObject({ kind: 'survivors', resubmit: true });
      });
    });

    test('P5: one that never showed the trace is on record, and no reason for doubt', async () => {
      const { at, second, store } = twoFinders();
      await LaneSteps.over(store, async (steps) => {
        second.blind = true;
        const plan = await deleted(steps, at);
        expect(await steps.verify(plan.book)).toMatchObject({ kind: 'clean', counted: true });
        const differ = [expect.stringMatching(/^finders disagree/)];
        expect(await disagreements(steps)).toEqual([differ, differ]);
      });
    });

    test('P1 P5: one that has lost sight for good is given up in the end: only one way of searching is left', async () => {
      const { at, second, store } = twoFinders();
      await LaneSteps.over(store, async (steps) => {
        const plan = await deleted(steps, at);
        second.blind = true;
        expect(await steps.verify(plan.book, { unproven: 11 })).toMatchObject({ kind: 'inconclusive' });
        const read = await steps.verify(plan.book, { unproven: 12 });
        expect(read).toMatchObject({ kind: 'clean', counted: true });
        expect(read.exceptions.map(({ kind }) => kind).sort()).toEqual(['manual-copies', 'shared', 'single-path']);
        // From then on it is not waited for.
        const next = await steps.verify(read.book, { cleanReads: 1 });
        expect(next).toMatchObject({ counted: true, verdict: 'verified-with-exceptions' });
        expect(next.exceptions.map(({ kind }) => kind)).toContain('single-path');
      });
    });

    test('P5: a look after the end proves nothing either', async () => {
      const { at, second, store } = twoFinders();
      await LaneSteps.over(store, async (steps) => {
        const plan = await deleted(steps, at);
        const read = await steps.verify(plan.book, { cleanReads: 1 });
        expect(read.verdict).toBe('verified-with-exceptions');
        expect(await steps.look(read.book)).toMatchObject({ kind: 'clean' });
        second.blind = true;
        expect(await steps.look(read.book)).toMatchObject({ kind: 'inconclusive', why: expect.stringContaining(gone) });
      });
    });
  });

  test('P9: the record of each plan and read names the projects that were left out, and what could not be asked', async () => {
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...OTHERS]);
    const aside = (name: string, why: string) => ({ id: name, name, type: 'ENVIRONMENT', why });
    const more = { leftOut: [aside('stage', 'not in the config')], unreachable: [aside('of u_42', 'no answer')] };
    const controls: typeof at.store.controls = async (query) => ({ ...(await at.store.controls(query)), ...more });
    await LaneSteps.over({ ...at.store, controls }, async (steps) => {
      const plan = await steps.resolve();
      await steps.remove(plan.book);
      at.rows = OTHERS;
      await steps.verify(plan.book);
      more.leftOut = [];
      await steps.verify(plan.book);
      const { lanes } = await steps.recorded();
      const told = (lanes['prod']?.entries ?? []).flatMap(({ entry }) =>
        entry.kind === 'plan' || entry.kind === 'read' ? [entry.projects] : [],
      );
      // What names the person is withheld (P31).
      const withheld = expect.stringContaining('withheld');
      const unreachable = [{ ...aside('', 'no answer'), id: withheld, name: withheld }];
      const stage = aside('stage', 'not in the config');
      expect(told.map((projects) => [projects?.excluded, projects?.unreachable])).toEqual([
        [[stage], unreachable],
        [[stage], unreachable],
        [[], unreachable],
      ]);
    });
  });

  test('P9: rows of the manifest that stand in a trace outside the projects examined are not followed there', async () => {
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...OTHERS], { deletesBy: 'row' });
    const lookup = at.store.lookups[0]!;
    const elsewhere = rowOf('elsewhere', 'u_42', { projectId: 'out of scope', runId: 'own-root' });
    let strayed = false;
    // By the id of a row a look-up spans the whole server.
    const wide = {
      ...lookup,
      lookup: async (query: Parameters<typeof lookup.lookup>[0]) => {
        const read = await lookup.lookup(query);
        const asked = query.traces.some(
          ({ rowIds = [], traceId }) => rowIds.includes('own-root') || traceId === 'elsewhere',
        );
        return strayed && asked ? { ...read, rows: [...read.rows, elsewhere] } : read;
      },
    };
    await LaneSteps.over({ ...at.store, lookups: [wide] }, async (steps) => {
      const plan = await steps.resolve();
      await steps.remove(plan.book);
      at.rows = OTHERS;
      strayed = true;
      const read = await steps.verify(plan.book);
      expect(read).toMatchObject({ kind: 'inconclusive', resubmit: false, counted: false });
      expect(read.why).toMatch(/outside the projects/);
      expect(at.deleted).toEqual([['own']]);
    });
  });
});
