import { afterEach, describe, expect, test } from '@jest/globals';
import { CONNECTION, World } from './support/world.ts';

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
});

describe('one person, one LangSmith', () => {
  test('P1 P2: is verified only after the weekend ran and two reads a day apart saw nothing', async () => {
    world = await World.start('plain');
    const seeded = world.seed(['u_42', 'u_7', 'u_8'], 4);
    const status = await world.eraseToEnd();
    expect(status.status).toBe('verified');
    expect(status.connections[CONNECTION]?.traces).toMatchObject({ matched: 4, verifiedAbsent: 4, pending: 0 });
    expect(world.liveTraces('u_42')).toEqual([]);
    expect(world.sim.truth.unasked()).toEqual([]);
    for (const other of ['u_7', 'u_8']) expect(world.liveTraces(other)).toHaveLength(seeded.get(other)?.length ?? -1);
  });
});
