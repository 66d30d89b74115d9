import { describe, expect, jest, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { CONNECTION } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';

/** Weekends pass in seconds, and a busy machine makes them some more. */
jest.setTimeout(120_000);

const open = worldsOfFile();

describe("ids from the caller's own database", () => {
  test.concurrent(
    'P11 P16 P29: 40 ids, 31 of which the store knows, are told apart, and only the subject is erased',
    async () => {
      const world = await open('known ids');
      const { sim } = world;
      const threadId = randomUUID();
      const start = world.now() - 5 * 86_400_000;
      const traces = sim.seed({
        project: 'chat',
        traces: Array.from({ length: 27 }, (_, index) => ({
          runs: [
            { metadata: { user_id: 'u_42', thread_id: threadId }, startTime: start + index },
            { metadata: { user_id: 'u_42', thread_id: threadId }, startTime: start + index + 1 },
          ],
        })),
      });
      const [stranger] = sim.seed({
        project: 'chat',
        traces: [{ runs: [{ metadata: { user_id: 'u_7' }, startTime: start }] }],
      });
      world.seed(['u_8', 'u_9'], 3);
      // 13 trace ids, 14 child run ids, a stranger's trace, two repeats, a thread: 31 the store knows. And 9 it does not.
      const traceIds = traces.slice(0, 13).map(({ traceId }) => traceId);
      const runIds = traces.slice(13).map(({ runIds: ids }) => ids[1] ?? '');
      const repeats = [traceIds[0] ?? '', (runIds[0] ?? '').toUpperCase()];
      const unknown = Array.from({ length: 9 }, () => randomUUID());
      const known = [...traceIds, ...runIds, stranger?.traceId ?? '', ...repeats, threadId, ...unknown];
      expect(known).toHaveLength(40);

      const status = await world.eraseToEnd({ known: { [CONNECTION]: known } });

      const lane = status.connections[CONNECTION];
      expect(lane?.given).toEqual({
        total: 40,
        resolved: 28,
        neverMatched: 9,
        unresolved: 0,
        wrongKind: 1,
        duplicate: 2,
      });
      expect(lane?.traces).toMatchObject({ matched: 27, verifiedAbsent: 27, pending: 0 });
      expect(status.status).toBe('verified-with-exceptions');
      expect(status.exceptions).toEqual([
        {
          connection: CONNECTION,
          kind: 'wrong-kind',
          count: 1,
          text: '1 given id names no trace or run (thread); not acted on',
        },
        {
          connection: CONNECTION,
          kind: 'foreign',
          count: 1,
          text: '1 given id belongs to other people; never submitted',
        },
      ]);
      expect(world.liveTraces('u_42')).toEqual([]);
      expect(sim.truth.isLive(stranger?.traceId ?? '')).toBe(true);
      expect(sim.truth.submissionsOf(stranger?.traceId ?? '')).toEqual([]);
      for (const other of ['u_8', 'u_9']) expect(world.liveTraces(other)).toHaveLength(3);
    },
  );

  test.concurrent(
    'P16: ids that carry nobody are kept without consent, and erased with consent for their number',
    async () => {
      const world = await open('unlabelled');
      const [a, b] = world.sim.seed({
        project: 'chat',
        traces: [{ runs: [{ metadata: {} }] }, { runs: [{ metadata: {} }] }],
      });
      world.seed(['u_8', 'u_9'], 3);
      const known = { [CONNECTION]: [a?.traceId ?? '', b?.traceId ?? ''] };

      const kept = await world.eraseToEnd({ identifiers: [], known, acceptUnlabelled: 1 });
      expect(kept.status).toBe('verified-with-exceptions');
      expect(kept.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, linked: 2 });
      expect(world.sim.truth.submissions()).toEqual([]);

      const erased = await world.eraseToEnd({ identifiers: [], known, acceptUnlabelled: 2 });
      expect(erased.status).toBe('verified');
      expect(erased.connections[CONNECTION]?.traces).toMatchObject({ matched: 2, verifiedAbsent: 2 });
      expect(world.sim.truth.isLive(a?.traceId ?? '')).toBe(false);
      for (const other of ['u_8', 'u_9']) expect(world.liveTraces(other)).toHaveLength(3);
    },
  );

  test.concurrent('P17: a trace with two people in it is kept and reported', async () => {
    const world = await open('shared');
    const [both] = world.sim.seed({
      project: 'chat',
      traces: [{ runs: [{ metadata: { user_id: 'u_42' } }, { metadata: { user_id: 'u_7' } }] }],
    });
    world.seed(['u_42', 'u_8', 'u_9'], 2);
    const status = await world.eraseToEnd();
    expect(status.status).toBe('verified-with-exceptions');
    expect(status.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, verifiedAbsent: 2, shared: 1 });
    expect(world.sim.truth.isLive(both?.traceId ?? '')).toBe(true);
    expect(world.sim.truth.submissionsOf(both?.traceId ?? '')).toEqual([]);
  });
});
