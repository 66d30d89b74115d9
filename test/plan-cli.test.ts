import { afterEach, expect, test } from '@jest/globals';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { planSchema, requestStatusSchema, verbAnswerSchema } from '../src/index.ts';
import type { ConfigInput } from '../src/config/config.ts';
import { WIDTH } from '../src/cli/format.ts';
import { lethe, type CliResult } from './support/cli.ts';
import { CONNECTION, World } from './support/world.ts';

// The real command line, with a worker and a simulated store.

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
});

interface Scene {
  readonly at: World;
  readonly run: (args: readonly string[], input?: string) => Promise<CliResult>;
}

async function start(title: string, policy: Record<string, number> = {}): Promise<Scene> {
  const cwd = mkdtempSync(join(tmpdir(), 'lethe-plan-cli-'));
  const at = await World.start(title, {
    speed: 150_000,
    config: (base) => {
      const config: ConfigInput = { ...base, policy };
      writeFileSync(join(cwd, 'lethe.yaml'), stringify(config));
      return config;
    },
  });
  world = at;
  at.seed(['u_42', 'u_7', 'u_8'], 3);
  return { at, run: (args, input) => lethe(args, { cwd, ...(input === undefined ? {} : { input }) }) };
}

function assertNothingDeleted(at: World): void {
  expect(at.sim.ledger.deletes()).toEqual([]);
  expect(at.liveTraces('u_42')).toHaveLength(3);
}

test('P18 P36: --dry-run tells the plan for people and for scripts, and deletes nothing', async () => {
  const { at, run } = await start('dry run');
  const person = 'user_id=u_42\n';
  const shown = await run(['erase', '--id-file', '-', '--dry-run'], person);
  expect(shown.stderr).toBe('');
  expect(shown.code).toBe(0);
  const lines = shown.stdout.slice(shown.stdout.indexOf('\nPlan ')).split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(WIDTH);
  for (const part of [
    /Plan r-\S+: nothing was deleted/,
    /traces +3 to delete in 1 delete call/,
    /project +traces +first +last\n +chat +3 +\d{4}-\d\d-\d\d +\d{4}-\d\d-\d\d/,
    /matched +identifier 1, user_id via metadata\.user_id, as text: 3 traces/,
    /window +\d{4}-\d\d-\d\d 00:00 UTC to \d{4}-\d\d-\d\d 00:00 UTC, an estimate/,
    /digest +[0-9a-f]{64}/,
  ]) {
    expect(shown.stdout).toMatch(part);
  }
  expect(shown.stdout).not.toContain('u_42');
  const told = await run(['erase', '--id-file', '-', '--dry-run', '--json'], person);
  expect(told.code).toBe(0);
  const json: unknown = JSON.parse(told.stdout);
  const plan = planSchema.parse(json);
  // What scripts read before there were plans is all there.
  expect(requestStatusSchema.parse(json)).toMatchObject({ dryRun: true });
  expect(plan.connections[CONNECTION]).toMatchObject({ traces: { pending: 3 }, plan: { traces: 3, batches: 1 } });
  assertNothingDeleted(at);
}, 150_000);

test('P18: approve takes the digest that status shows, refuses another one, and lets exactly that plan go', async () => {
  const { at, run } = await start('approve by hand', { approveAbove: 1 });
  const { requestId } = await at.erase();
  await at.until(requestId, ({ status }) => status === 'awaiting-approval');
  const status = await run(['status', requestId]);
  expect(status.code).toBe(4);
  expect(status.stdout).toMatch(/plan +3 traces in 1 delete call/);
  const digest = /digest +([0-9a-f]{64})/.exec(status.stdout)?.[1] ?? '';
  const approve = (plan: string, atMost: string) =>
    run([
      ...['approve', requestId, '--connection', CONNECTION, '--plan', plan, '--at-most', atMost],
      ...['--by', 'ines', '--reason', 'ticket 4711', '--json'],
    ]);
  const wrong = await approve('0'.repeat(64), '3');
  expect(wrong.code).toBe(1);
  const { answers } = JSON.parse(wrong.stdout) as { answers: unknown[] };
  expect(verbAnswerSchema.parse(answers[0])).toMatchObject({ delivered: 'none' });
  expect(wrong.stdout).toContain(digest);
  expect((await approve(digest, '2')).code).toBe(1);
  assertNothingDeleted(at);

  const right = await approve(digest, '3');
  expect(right.code).toBe(0);
  expect(JSON.parse(right.stdout)).toMatchObject({
    verb: 'approve',
    answers: [{ requestId, delivered: 'update', receipt: { verb: 'approve', connections: [CONNECTION] } }],
  });
  const end = await at.client.result(requestId);
  expect(end.status).toBe('verified');
  const after = await run(['status', requestId]);
  expect(after.stdout).toMatch(/approved +at most 3 traces in all, by ines/);
  const report = await run(['report', requestId]);
  expect(report.stdout).toMatch(new RegExp(`approve \\(${CONNECTION}\\) by ines: ticket 4711`));
  expect(report.stdout.replace(/\s+/g, ' ')).toContain(`at most 3 traces of plan ${digest}`);
  expect(at.liveTraces('u_42')).toEqual([]);
  for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(3);
  expect(at.sim.truth.unasked()).toEqual([]);
}, 150_000);
