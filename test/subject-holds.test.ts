import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { lethe, type CliResult } from './support/cli.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { digestsOf, SubjectHolds } from '../src/vault/subject-holds.ts';

const KEYS = deriveKeys({ hmac: '0123456789abcdef'.repeat(4), vault: 'fedcba9876543210'.repeat(4) });
const FOLDED = new Set(['email']);
const NOW = Date.parse('2026-11-27T18:00:00Z');
const TERMS = { by: 'legal', reason: 'case 12', until: null, autoRelease: false };

const of = (value: string, kind = 'user_id') => digestsOf(KEYS, [{ kind, value }], FOLDED);

let stateDir = '';
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'lethe-holds-'));
});
afterEach(async () => {
  await rm(stateDir, { recursive: true, force: true });
});

function at(nowMs = NOW): SubjectHolds {
  return new SubjectHolds({ stateDir, now: () => nowMs });
}

describe('SubjectHolds', () => {
  test('P27: a hold is there for every process at once, and only for whom it names', async () => {
    const hold = await at().hold(of('u_42'), TERMS);
    expect(await at().isHeld(of('u_42'))).toContain(hold.holdId);
    expect(await at().isHeld([...of('u_7'), ...of('u_42')])).toContain(hold.holdId);
    expect(await at().isHeld(of('u_7'))).toBeNull();
    expect(await at().isHeld(of('u_42', 'account'))).toBeNull();
  });

  test('P27: nobody is held where nobody ever was', async () => {
    expect(await at().isHeld(of('u_42'))).toBeNull();
    expect(await at().find(of('u_42'))).toEqual(new Map());
    expect(await at().release('h-000000000000', 'x', 'y')).toBe(false);
  });

  test('P27: every spelling of every identifier holds', async () => {
    const subject = [
      { kind: 'user_id', value: 'u_42' },
      { kind: 'email', value: ' Ann@X.org ' },
    ];
    await at().hold(digestsOf(KEYS, subject, FOLDED), TERMS);
    for (const value of ['ann@x.org', 'Ann@X.org', 'ANN@x.org'])
      expect(await at().isHeld(of(value, 'email'))).not.toBeNull();
    // Another composition of the same letters is the same person too.
    await at().hold(of('Zo\u00eb'), TERMS);
    expect(await at().isHeld(of('Zoe\u0308'))).not.toBeNull();
  });

  test('P31: no identifier is written down', async () => {
    const { holdId } = await at().hold(of('canary-7f3a'), TERMS);
    await at().release(holdId, 'legal', 'over');
    await at().hold(of('canary-7f3a'), TERMS);
    const files = await readdir(join(stateDir, 'holds'), { recursive: true });
    const texts = await Promise.all(
      files.filter((file) => file.endsWith('.json')).map((file) => readFile(join(stateDir, 'holds', file), 'utf8')),
    );
    expect(texts.length).toBeGreaterThan(1);
    expect([...files, ...texts].join('\n')).not.toContain('canary');
  });

  test('P27: past its end a hold still holds and says so, unless auto-release was asked for', async () => {
    const until = new Date(NOW + 1000).toISOString();
    const stays = await at().hold(of('u_42'), { ...TERMS, until });
    await at().hold(of('u_7'), { ...TERMS, until, autoRelease: true });
    expect(await at().isHeld(of('u_42'))).toContain(`until ${until}`);
    expect(await at().isHeld(of('u_7'))).not.toBeNull();
    expect(await at(NOW + 1000).isHeld(of('u_42'))).toMatch(new RegExp(`${stays.holdId}.*hold-expired`));
    expect(await at(NOW + 1000).isHeld(of('u_7'))).toBeNull();
  });

  test('P27: a release lifts one hold with all its spellings, leaves the others, and stays explained', async () => {
    const both = [...of('u_42'), ...of('u_7')];
    const first = await at().hold(both, TERMS);
    const second = await at().hold(of('u_42'), { ...TERMS, by: 'audit' });
    expect([...(await at().find(of('u_42'))).keys()].sort()).toEqual([first.holdId, second.holdId].sort());
    expect(await at().release(first.holdId, 'legal', 'case 12 is over')).toBe(true);
    expect(await at().isHeld(of('u_7'))).toBeNull();
    expect(await at().isHeld(of('u_42'))).toContain(second.holdId);
    const explained = JSON.parse(
      await readFile(join(stateDir, 'holds', 'released', `${first.holdId}.json`), 'utf8'),
    ) as unknown;
    expect(explained).toMatchObject({
      held: { holdId: first.holdId, by: 'legal' },
      by: 'legal',
      reason: 'case 12 is over',
    });
  });

  test('P27: what cannot be read holds', async () => {
    const { holdId } = await at().hold(of('u_42'), TERMS);
    const [file = ''] = (await readdir(join(stateDir, 'holds'))).filter((name) =>
      name.startsWith(of('u_42')[0] ?? '-'),
    );
    await writeFile(join(stateDir, 'holds', file), '');
    expect(await at().isHeld(of('u_42'))).toMatch(/cannot be read/);
    expect(await at().isHeld(of('u_7'))).toBeNull();
    expect((await at().find(of('u_42'))).get(holdId)).toBeNull();
    expect(await at().release(holdId, 'legal', 'torn')).toBe(true);
    expect(await at().isHeld(of('u_42'))).toBeNull();

    // Nobody knows whom this one means.
    await writeFile(join(stateDir, 'holds', 'renamed.json'), '{}');
    expect(await at().isHeld(of('u_7'))).toMatch(/everybody counts as held/);
    await rm(join(stateDir, 'holds'), { recursive: true });
    await writeFile(join(stateDir, 'holds'), 'no folder');
    expect(await at().isHeld(of('u_7'))).toMatch(/everybody counts as held/);
  });

  test('what a killed writer left behind holds nobody', async () => {
    await mkdir(join(stateDir, 'holds'));
    await writeFile(join(stateDir, 'holds', `.${'0'.repeat(64)}.h-000000000000.json.abc.tmp`), '{');
    expect(await at().isHeld(of('u_42'))).toBeNull();
  });

  test('a hold on nobody is refused', async () => {
    await expect(at().hold([], TERMS)).rejects.toThrow(/nobody/);
  });
});

describe('lethe hold-subject and release-subject', () => {
  const BY = ['--by', 'legal', '--reason', 'case 12'];

  async function run(args: readonly string[], input = ''): Promise<CliResult> {
    return lethe([...args, '--config', join(stateDir, 'lethe.yaml')], { cwd: stateDir, input });
  }

  beforeEach(async () => {
    const config = {
      state: '.',
      keys: { hmac: '0123456789abcdef'.repeat(4), vault: 'fedcba9876543210'.repeat(4) },
      identifiers: ['user_id', { kind: 'email', caseInsensitive: true }],
      connections: {
        prod: {
          store: 'langsmith',
          baseUrl: 'https://api.smith.langchain.com',
          apiKey: '${NOT_NEEDED}',
          identifiers: { user_id: ['metadata.user_id'] },
        },
      },
    };
    await writeFile(join(stateDir, 'lethe.yaml'), JSON.stringify(config));
  });

  test('P27: identifiers from standard input are held until released, and nothing printed names them', async () => {
    const input = 'user_id=u_4242\nemail=Ann@Example.org\n';
    const held = await run(['hold-subject', '--id-file', '-', ...BY, '--json'], input);
    expect(held).toMatchObject({ code: 0, stderr: '' });
    const { holdId } = JSON.parse(held.stdout) as { holdId: string };
    expect(held.stdout).not.toMatch(/4242|example/i);
    expect(await at().isHeld(of('u_4242'))).toContain(holdId);
    expect(await at().isHeld(of('ann@example.org', 'email'))).toContain(holdId);
    const released = await run(['release-subject', '--id', 'user_id=u_4242', ...BY]);
    expect(released).toMatchObject({ code: 0, stdout: expect.stringContaining(`Released ${holdId}`) });
    expect(await at().isHeld([...of('u_4242'), ...of('ann@example.org', 'email')])).toBeNull();
    const again = await run(['release-subject', '--id', 'user_id=u_4242', ...BY]);
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('Nobody holds this person') });
  }, 60_000);

  test('P27: of several holds one must be named', async () => {
    const first = await at().hold(of('u_4242'), TERMS);
    const second = await at().hold(of('u_4242'), TERMS);
    const refused = await run(['release-subject', '--id', 'user_id=u_4242', ...BY]);
    expect(refused.code).toBe(2);
    expect(refused.stderr.replace(/\s+/g, ' ')).toContain('Nothing was released');
    const released = await run(['release-subject', '--id', 'user_id=u_4242', '--hold', first.holdId, ...BY]);
    expect(released.code).toBe(0);
    expect(await at().isHeld(of('u_4242'))).toContain(second.holdId);
  }, 60_000);

  test.each<readonly [string, readonly string[], RegExp]>([
    ['nobody', BY, /Name the person/],
    ['a kind that is not configured', ['--id', 'user=u_4242', ...BY], /kind that is not configured/],
    ['a placeholder', ['--id', 'user_id=null', ...BY], /placeholder/],
    [
      'P33: a reason that quotes the person',
      ['--id', 'user_id=u_4242', '--by', 'x', '--reason', 'for U_4242'],
      /--reason contains/,
    ],
    ['an end that has passed', ['--id', 'user_id=u_4242', '--until', '2020-01-01', ...BY], /passed already/],
    ['auto-release without an end', ['--id', 'user_id=u_4242', '--auto-release', ...BY], /goes with --until/],
  ])(
    'P25: refuses %s, and holds nobody',
    async (_what, args, why) => {
      const refused = await run(['hold-subject', ...args]);
      expect(refused.code).toBe(2);
      expect(refused.stderr.replace(/\s+/g, ' ')).toMatch(why);
      expect(refused.stderr).not.toContain('u_4242');
      expect(await at().find(of('u_4242'))).toEqual(new Map());
    },
    60_000,
  );
});
