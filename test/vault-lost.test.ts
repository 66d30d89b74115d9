import { afterEach, describe, expect, test } from '@jest/globals';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CONNECTION, World } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'the disk died' };

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
});

describe('a lost vault', () => {
  test('P23 P26: is a flag and no crash; a retry plans again from what can be found', async () => {
    world = await World.start('vault lost', { speed: 60_000 });
    world.seed(['u_42', 'u_7', 'u_8'], 3);
    const { requestId } = await world.erase();
    await world.until(requestId, ({ status }) => status === 'waiting');
    await rm(join(world.stateDir, 'vault', requestId), { recursive: true });
    const flagged = await world.until(requestId, ({ status }) => status === 'needs-operator');
    expect(flagged.connections[CONNECTION]?.attention?.reason).toBe('vault-lost');
    expect(flagged.connections[CONNECTION]?.traces.verifiedAbsent).toBe(0);

    const [answer] = await world.client.retry(requestId, BY);
    expect(answer?.text).toMatch(/plans again/);
    const end = await world.client.result(requestId);
    // The weekend is over by now: the traces are gone, and nothing is left that could prove which ones they were.
    expect(end.status).toBe('verified-with-exceptions');
    expect(end.connections[CONNECTION]?.traces).toMatchObject({ matched: 3, inconclusive: 3, verifiedAbsent: 0 });
    expect(await readdir(join(world.stateDir, 'vault', requestId))).toContain('key.json');
    for (const other of ['u_7', 'u_8']) expect(world.liveTraces(other)).toHaveLength(3);
  });
});
