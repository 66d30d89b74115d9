import { describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { writeFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigInput } from '../src/config/config.ts';
import type { LangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { CONNECTION, World, type WorldOptions } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };

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
    60_000,
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

/** Makes a dataset with one example that was copied from a trace; returns how many examples still hold content. */
async function copyIntoDataset(sim: LangSmithSimulator, traceId: string): Promise<void> {
  const post = async (path: string, body: unknown): Promise<{ id: string }> => {
    const answer = await fetch(`${sim.url}${path}`, {
      method: 'POST',
      headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(answer.ok).toBe(true);
    return (await answer.json()) as { id: string };
  };
  const dataset = await post('/api/v1/datasets', { name: `set-${randomUUID()}` });
  await post('/api/v1/examples', { dataset_id: dataset.id, source_run_id: traceId, inputs: { q: 'hi' }, outputs: {} });
}

describe('nobody is told that something is gone which is not', () => {
  story(
    'P1 P22: copies of a trace that turned up after the plan are found before it is submitted',
    {},
    async (world) => {
      world.seed(['u_42', 'u_7', 'u_8'], 2);
      const { requestId } = await world.erase();
      await world.until(requestId, ({ status }) => status === 'waiting');
      const startTime = world.clock.virtualMs - 10 * 86_400_000;
      const [late] = world.sim.seed({
        project: 'chat',
        traces: [{ runs: [{ metadata: { user_id: 'u_42' }, startTime }] }],
      });
      await copyIntoDataset(world.sim, late?.traceId ?? '');
      const end = await world.client.result(requestId);
      expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 3 });
      expect(end.connections[CONNECTION]?.copies).toMatchObject({ found: 1, erased: 1, manual: 0 });
      expect(kinds(end)).toEqual([]);
      expect(end.status).toBe('verified');
    },
  );

  story('P11 P16: a given trace that lies in two projects is erased in both', {}, async (world) => {
    world.seed(['u_7', 'u_8'], 2);
    world.seed(['u_7', 'u_8'], 2, 'agent');
    const traceId = randomUUID();
    for (const project of ['chat', 'agent']) {
      world.sim.seed({ project, traces: [{ traceId, runs: [{ metadata: {} }] }] });
    }
    const end = await world.eraseToEnd({ identifiers: [], known: { [CONNECTION]: [traceId] }, acceptUnlabelled: 2 });
    expect(end.connections[CONNECTION]?.given).toMatchObject({ total: 1, resolved: 1 });
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
    expect(end.status).toBe('verified');
    expect(world.sim.truth.isLive(traceId)).toBe(false);
  });

  story('P11: a given trace that turns up in another project later is no absence', {}, async (world) => {
    world.seed(['u_7', 'u_8'], 2);
    world.seed(['u_7', 'u_8'], 2, 'agent');
    const [trace] = world.sim.seed({ project: 'chat', traces: [{ runs: [{ metadata: {} }] }] });
    const traceId = trace?.traceId ?? '';
    const { requestId } = await world.erase({
      identifiers: [],
      known: { [CONNECTION]: [traceId] },
      acceptUnlabelled: 2,
    });
    await world.until(requestId, ({ status }) => status === 'waiting');
    world.sim.seed({ project: 'agent', traces: [{ traceId, runs: [{ metadata: {} }] }] });
    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 1, linked: 1 });
  });

  story('P10 P21: a trace whose start lies far in the future is found, and is new activity', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    world.sim.seed({
      project: 'chat',
      traces: [{ runs: [{ metadata: { user_id: 'u_42' }, startTime: world.now() + 90 * 86_400_000 }] }],
    });
    const end = await world.eraseToEnd();
    expect(kinds(end)).toEqual(['new-activity']);
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 2, newActivity: 1 });
    expect(world.liveTraces('u_42')).toHaveLength(1);
  });

  story('P15: a list of identifiers in the metadata', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    world.sim.seed({
      project: 'chat',
      traces: [
        { runs: [{ metadata: { user_id: ['u_42', 'u_7'] } }] },
        { runs: [{ metadata: { user_id: ['u_1', 'u_2'] }, startTime: world.now() - 300 * 86_400_000 }] },
        { runs: [{ metadata: { user_id: ['u_3'] }, startTime: world.now() - 300 * 86_400_000 }] },
      ],
    });
    const { requestId } = await world.erase();
    const end = await world.until(
      requestId,
      ({ endedAt, connections }) => endedAt !== null || connections[CONNECTION]?.attention !== null,
    );
    expect(end.connections[CONNECTION]?.attention).toBeNull();
    expect(end.endedAt).not.toBeNull();
  });
});

describe('nobody else', () => {
  story(
    'P13: a given id in a project that the config leaves out is not erased',
    changed((connection) => ({ ...connection, projects: ['chat'] })),
    async (world) => {
      world.seed(['u_42', 'u_7', 'u_8'], 2);
      const elsewhere = world.seed(['u_42'], 1, 'legal-hold').get('u_42')?.[0] ?? '';
      const end = await world.eraseToEnd({ known: { [CONNECTION]: [elsewhere] } });
      expect(world.sim.truth.submissionsOf(elsewhere)).toEqual([]);
      expect(end.status).toBe('verified-with-exceptions');
      expect(end.connections[CONNECTION]?.given).toMatchObject({ total: 1, unresolved: 1 });
    },
  );

  story('P17: an identifier written as an object is somebody', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    const [both] = world.sim.seed({
      project: 'chat',
      traces: [{ runs: [{ metadata: { user_id: 'u_42' } }, { metadata: { user_id: { id: 'u_7' } } }] }],
    });
    const end = await world.eraseToEnd();
    expect(world.sim.truth.submissionsOf(both?.traceId ?? '')).toEqual([]);
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, shared: 1 });
  });

  for (const verb of ['hold', 'abandon'] as const) {
    story(`P27: no delete call leaves after ${verb} was acknowledged`, {}, async (world) => {
      world.seed(['u_42', 'u_7', 'u_8'], 2);
      world.sim.habits.set({ slow: { ms: 400, on: ['/api/v1/runs/query', '/api/v2/runs/query'] } });
      const { requestId } = await world.erase();
      await world.until(requestId, ({ status }) => status === 'erasing');
      const [answer] = await world.client[verb](requestId, BY);
      expect(answer?.delivered).toBe('update');
      await sleep(6_000);
      expect(world.sim.truth.submissions()).toEqual([]);
      if (verb === 'hold') await world.client.abandon(requestId, BY);
      await world.client.result(requestId);
    });
  }
});

describe('nothing is lost or wasted', () => {
  story('P23: a delete that was acknowledged is not sent again because the record was full', {}, async (world) => {
    world.seed(['u_42', 'u_7', 'u_8'], 2);
    world.sim.habits.set({ slow: { ms: 500, on: 'deletes' } });
    const { requestId } = await world.erase();
    await world.until(requestId, ({ status }) => status === 'erasing');
    // A directory in its place: no line can be appended.
    const lane = join(world.stateDir, 'records', requestId, `lane-${CONNECTION}.jsonl`);
    const { readFile, mkdir } = await import('node:fs/promises');
    const before = await readFile(lane);
    await rm(lane);
    await mkdir(lane);
    await world.until(requestId, ({ connections }) => connections[CONNECTION]?.attention?.reason === 'internal');
    expect(world.sim.truth.submissions()).toHaveLength(1);
    await rm(lane, { recursive: true });
    await writeFile(lane, before);
    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(world.sim.truth.submissions()).toHaveLength(1);
    const entries = (await world.record(requestId)).lanes[CONNECTION]?.entries ?? [];
    const submits = entries.flatMap(({ entry }) => (entry.kind === 'submit' ? [entry] : []));
    expect(submits.at(-1)).toMatchObject({ count: 2, acknowledgedAt: expect.any(String) as unknown });
  });
});
