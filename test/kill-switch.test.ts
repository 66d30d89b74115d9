import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { RequestStatus } from '../src/erasure/status.ts';
import { KillSwitch, killSwitchFile } from '../src/stores/kill-switch.ts';
import { lethe } from './support/cli.ts';
import { CONNECTION, World } from './support/world.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };

let state: string;
let file: string;

beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), 'lethe-switch-'));
  file = killSwitchFile(state, 'respan-prod');
});
afterEach(async () => {
  await chmod(state, 0o700);
  await rm(state, { recursive: true, force: true });
});

describe('P19: a kill switch', () => {
  test('stays tripped in the next process, and the first reason stays', () => {
    new KillSwitch(file).trip('more matched than was sent');
    const next = new KillSwitch(file);
    next.trip('something later');
    expect(next.tripped).toBe('more matched than was sent');
    expect(new KillSwitch(killSwitchFile(state, 'other')).tripped).toBeNull();
  });

  test('is tripped when its file cannot be read as one', async () => {
    new KillSwitch(file).trip('more matched than was sent');
    await writeFile(file, 'cut o');
    expect(new KillSwitch(file).tripped).toBe('for a reason that cannot be read');
  });

  test('is tripped for this process when it cannot be written down', async () => {
    await writeFile(join(state, 'switches'), 'a file where the folder should be');
    const one = new KillSwitch(file);
    one.trip('more matched than was sent');
    expect(one.tripped).toBe('more matched than was sent');
  });

  test('is reset for a running worker too, and who explained it is kept', async () => {
    const running = new KillSwitch(file);
    running.trip('more matched than was sent');
    expect(new KillSwitch(file).reset('ann', 'the vendor confirmed a rolled back release')).toBe(
      'more matched than was sent',
    );
    expect(running.tripped).toBeNull();
    const [kept = ''] = await readdir(dirname(file));
    expect(JSON.parse(await readFile(join(dirname(file), kept), 'utf8'))).toMatchObject({
      why: 'more matched than was sent',
      by: 'ann',
      reason: 'the vendor confirmed a rolled back release',
    });
    expect(new KillSwitch(file).reset('ann', 'again')).toBeNull();
  });
});

test('P19 P26: while it is tripped no batch leaves and none is given up; then all go in the same round', async () => {
  const world = await World.start('switched-off');
  try {
    const projects = ['chat', 'search', 'voice', 'mail', 'batch'];
    const seeded = projects.map((project) => world.seed(['u_42', 'u_7', 'u_8'], 1, project));
    const ours = seeded.flatMap((people) => people.get('u_42') ?? []);
    const killSwitch = new KillSwitch(killSwitchFile(world.stateDir, CONNECTION));
    killSwitch.trip('more matched than was sent');
    const { requestId } = await world.erase();
    const tries = async (): Promise<number> =>
      (await world.record(requestId)).lanes[CONNECTION]?.entries.filter(({ entry }) => entry.kind === 'trouble')
        .length ?? 0;
    const attention = ({ connections }: RequestStatus) => connections[CONNECTION]?.attention;
    const flagged = await world.until(requestId, (at) => attention(at)?.reason === 'switched-off');
    expect(flagged).toMatchObject({ status: 'needs-operator' });
    expect(attention(flagged)?.next).toContain('lethe allow-deletes');
    while ((await tries()) < 8) await world.client.send('checkNow', requestId, BY);
    expect(world.sim.truth.submissions()).toEqual([]);
    const stuck = await world.client.status(requestId);
    expect(stuck.connections[CONNECTION]).toMatchObject({ round: 1, traces: { pending: 5, survived: 0 } });

    killSwitch.reset('ann', 'explained');
    await world.client.send('retry', requestId, BY);
    const end = await world.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(end.connections[CONNECTION]).toMatchObject({ round: 1, traces: { matched: 5, verifiedAbsent: 5 } });
    expect(ours.map((traceId) => world.sim.truth.submissionsOf(traceId).length)).toEqual([1, 1, 1, 1, 1]);
    expect(world.liveTraces('u_42')).toEqual([]);
    expect(world.liveTraces('u_7')).toHaveLength(5);
    expect(world.sim.truth.unasked()).toEqual([]);
  } finally {
    await world.close();
  }
}, 90_000);

test('P19: an operator sees a tripped switch in doctor and resets it by command', async () => {
  const config = join(state, 'lethe.yaml');
  await writeFile(
    config,
    `temporal: { address: 127.0.0.1:1, namespace: lethe }
state: ${state}
keys: { hmac: ${randomBytes(32).toString('hex')}, vault: ${randomBytes(32).toString('hex')} }
identifiers: [user_id]
connections:
  respan-prod: { store: langsmith, baseUrl: http://127.0.0.1:1, apiKey: key, identifiers: { user_id: [metadata.user_id] } }
`,
  );
  new KillSwitch(file).trip('more matched than was sent');
  const seen = await lethe(['doctor', '--config', config], { cwd: state });
  expect(seen.stderr).toBe('');
  expect(seen.stdout.replace(/\s+/g, ' ')).toContain(
    'switched off: more matched than was sent. Find out why, then run lethe allow-deletes respan-prod',
  );
  const unknown = await lethe(['allow-deletes', 'nobody', '--by', 'ann', '--reason', 'x', '--config', config], {
    cwd: state,
  });
  expect(unknown.code).toBe(2);
  const reset = await lethe(
    ['allow-deletes', 'respan-prod', '--by', 'ann', '--reason', 'explained', '--config', config],
    { cwd: state },
  );
  expect(reset.code).toBe(0);
  expect(reset.stdout).toContain('respan-prod deletes again');
  expect(new KillSwitch(file).tripped).toBeNull();
}, 60_000);
