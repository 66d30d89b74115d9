import { afterEach, expect, jest, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { ConfigInput } from '../src/config/config.ts';
import { DAY_MS } from '../src/erasure/rhythm.ts';
import { lethe, type CliResult } from './support/cli.ts';
import { CONNECTION, World } from './support/world.ts';

// What an operator does in the life of one request, with the real command line, a worker and a simulated store.

/** Each command is a process of its own and takes seconds on a busy machine. */
jest.setTimeout(240_000);

const PERSON = 'u_42';
const OTHERS = ['u_7', 'u_8', 'u_9'];
const BY = ['--by', 'ines', '--reason', 'ticket 4711'];

/** What a command printed, whatever its line breaks. */
function words({ stdout }: CliResult): string {
  return stdout.replace(/\s+/g, ' ');
}

let world: World | null = null;
let cwd = '';
afterEach(async () => {
  await world?.close();
  world = null;
  rmSync(cwd, { recursive: true, force: true });
});

test('P18 P26 P27: approval, growth after it, holds before, during and after the submit, expiry and abandon, by command line, are all in the history', async () => {
  cwd = mkdtempSync(join(tmpdir(), 'lethe-operator-cli-'));
  const at = await World.start('operator by hand', {
    speed: 150_000,
    config: (base) => {
      const config: ConfigInput = { ...base, policy: { approveAbove: 2 } };
      writeFileSync(join(cwd, 'lethe.yaml'), stringify(config));
      return config;
    },
  });
  world = at;
  // Two projects are two delete calls: between them an operator can step in.
  at.seed([PERSON, ...OTHERS], 3, 'chat');
  at.seed([PERSON, ...OTHERS], 2, 'agent');
  const told: string[] = [];
  const run = async (args: readonly string[], input?: string): Promise<CliResult> => {
    const result = await lethe(args, { cwd, ...(input === undefined ? {} : { input }) });
    told.push(`$ lethe ${args.join(' ')}\n${result.stdout}${result.stderr}(exit code ${result.code})\n`);
    return result;
  };
  const sent = (): number => at.sim.truth.submissions().length;
  const digestIn = ({ stdout }: CliResult): string => /digest +([0-9a-f]{64})/.exec(stdout)?.[1] ?? '';

  // Of its own: other tests on the same server have requests too.
  const requestId = `operator-${randomBytes(4).toString('hex')}`;
  const started = await run(['erase', '--id-file', '-', '--request-id', requestId], `user_id=${PERSON}\n`);
  expect(started.code).toBe(0);
  const approve = (digest: string, atMost: number): Promise<CliResult> =>
    run(['approve', requestId, '--connection', CONNECTION, '--plan', digest, '--at-most', String(atMost), ...BY]);

  // A hold before anything was sent stands above an approval.
  await at.until(requestId, ({ status }) => status === 'awaiting-approval');
  const planned = await run(['status', requestId]);
  expect(planned.code).toBe(4);
  expect(words(await run(['hold', requestId, ...BY]))).toMatch(/stops before its next API call/);
  const early = await approve(digestIn(planned), 5);
  expect(early.code).toBe(1);
  expect(words(early)).toMatch(/held/);
  expect(await at.client.status(requestId)).toMatchObject({ status: 'held' });
  expect((await run(['release', requestId, ...BY])).code).toBe(0);
  await at.until(requestId, ({ status }) => status === 'awaiting-approval');
  expect(sent()).toBe(0);

  // A hold while the first of two calls is on its way: that one arrives, and the second never leaves.
  at.sim.habits.set({ slow: { ms: 8_000, on: 'deletes' } });
  expect((await approve(digestIn(planned), 5)).code).toBe(0);
  const [held] = await Promise.all([
    run(['hold', requestId, ...BY]),
    at.until(requestId, ({ status }) => status === 'held'),
  ]);
  expect(words(held)).toMatch(/what was submitted already cannot be recalled/);
  while (sent() === 0) await sleep(50);
  at.sim.habits.set({ slow: null });
  const calls = at.sim.ledger.entries.length;
  const heldAt = at.now();
  await at.until(requestId, () => at.now() > heldAt + 2 * DAY_MS);
  expect(sent()).toBe(1);
  expect(at.sim.ledger.entries.length - calls).toBeLessThanOrEqual(1);
  expect(words(await run(['status', requestId]))).toMatch(/held by an operator/);
  await run(['release', requestId, ...BY]);
  await at.until(requestId, ({ status }) => status === 'waiting');
  expect(sent()).toBe(2);

  // Growth: two more traces of before turn up, more than was approved.
  const late = at.seed([PERSON], 2, 'chat').get(PERSON) ?? [];
  const grown = await at.until(requestId, ({ status }) => status === 'awaiting-approval');
  expect(grown.connections[CONNECTION]?.attention?.next).toMatch(/7 traces would be submitted in all, more than the 5/);
  expect(sent()).toBe(2);
  for (const traceId of late) expect(at.sim.truth.isLive(traceId)).toBe(true);
  const again = await run(['status', requestId]);
  expect(again.code).toBe(4);
  expect(digestIn(again)).not.toBe(digestIn(planned));
  // The word that was given for the first plan does not reach this one.
  expect((await approve(digestIn(planned), 7)).code).toBe(1);
  expect((await approve(digestIn(again), 6)).code).toBe(1);
  expect(sent()).toBe(2);
  expect((await approve(digestIn(again), 7)).code).toBe(0);
  await at.until(requestId, ({ status }) => status === 'waiting');
  expect(sent()).toBe(3);

  // A hold after the submit, with an end: it asks for an operator then, and still holds.
  const until = new Date(at.now() + 14 * DAY_MS).toISOString();
  expect((await run(['hold', requestId, '--until', until, ...BY])).code).toBe(0);
  await at.until(requestId, ({ status }) => status === 'needs-operator');
  const expired = await run(['status', requestId]);
  expect(expired.code).toBe(4);
  expect(words(expired)).toMatch(/hold-expired/);
  // Somebody else's request, given up before anything was sent.
  const otherId = `${requestId}-other`;
  await run(['erase', '--id-file', '-', '--request-id', otherId], 'user_id=u_9\n');
  await at.until(otherId, ({ status }) => status === 'awaiting-approval');
  expect((await run(['abandon', otherId, ...BY])).code).toBe(0);
  await at.client.result(otherId);
  const abandoned = await run(['status', otherId]);
  expect(abandoned.code).toBe(5);
  expect(words(abandoned)).toMatch(/abandoned: 5 traces not proven gone/);

  await run(['release', requestId, ...BY]);
  const end = await at.client.result(requestId);
  expect(end.status).toBe('verified');
  expect((await run(['status', requestId])).code).toBe(0);
  expect(at.liveTraces(PERSON)).toEqual([]);
  for (const name of OTHERS) expect(at.liveTraces(name)).toHaveLength(5);
  expect(at.sim.truth.unasked()).toEqual([]);

  // Every word is in the record, with who said it, and in Temporal's history, refused ones included.
  const verbs = ['hold', 'release', 'approve', 'hold', 'release', 'approve', 'hold', 'hold-expired', 'release'];
  const { outcome } = await at.record(requestId);
  const applied = (outcome?.verbs ?? []).filter((verb) => verb.applied);
  expect(applied.map(({ verb }) => verb)).toEqual(verbs);
  expect(new Set(applied.map(({ requestedBy }) => requestedBy))).toEqual(new Set(['ines', 'lethe']));
  const report = await run(['report', requestId]);
  for (const verb of new Set(verbs)) expect(report.stdout).toContain(verb);
  const { events } = await at.client.temporal.workflow.getHandle(end.workflowId).fetchHistory();
  const updates = (events ?? []).flatMap(
    (event) => event.workflowExecutionUpdateAcceptedEventAttributes?.acceptedRequest?.input?.name ?? [],
  );
  expect(updates).toEqual(verbs.filter((verb) => verb !== 'hold-expired'));
  if (process.env['LETHE_TEST_SHOW'] === '1') {
    const history = (events ?? []).map(
      ({ eventId, eventType, ...rest }) =>
        `${String(eventId)} ${String(eventType)} ${rest.workflowExecutionUpdateAcceptedEventAttributes?.acceptedRequest?.input?.name ?? rest.activityTaskScheduledEventAttributes?.activityType?.name ?? ''}`,
    );
    process.stdout.write(`${told.join('\n')}\n${history.join('\n')}\n`);
  }
});
