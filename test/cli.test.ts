import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { LetheClient } from '../src/client/client.ts';
import { doctorReportSchema } from '../src/client/doctor.ts';
import { loadConfig } from '../src/config/config.ts';
import { requestStatusSchema, type RequestStatus } from '../src/erasure/status.ts';
import { exitCodeOf } from '../src/cli/exit.ts';
import { EMPTY_TRACES } from '../src/erasure/ledger.ts';
import { formatStatus, laneSentence, wrap, WIDTH } from '../src/cli/format.ts';
import { lethe, type CliResult } from './support/cli.ts';
import { sharedServer, uniqueTaskQueue } from './support/temporal.ts';

// The real command line against a real server; no worker runs, so whatever was started can be counted.

const SECRETS = {
  LETHE_HMAC_KEY: randomBytes(32).toString('hex'),
  LETHE_VAULT_KEY: randomBytes(32).toString('hex'),
  LANGSMITH_API_KEY: 'k',
};
const BY = ['--by', 'ann', '--reason', 'a test'];
const DIGEST = '0'.repeat(64);

let cwd: string;
let client: LetheClient;

function yaml(changes: Record<string, unknown> = {}): string {
  const { address, namespace } = sharedServer();
  return stringify({
    temporal: { address, namespace, taskQueue },
    keys: { hmac: '${LETHE_HMAC_KEY}', vault: '${LETHE_VAULT_KEY}' },
    identifiers: ['user_id', 'email', 'phone'],
    connections: {
      prod: {
        store: 'langsmith',
        baseUrl: 'http://127.0.0.1:9',
        apiKey: '${LANGSMITH_API_KEY}',
        identifiers: { user_id: ['metadata.user_id'], email: ['metadata.email'] },
      },
    },
    ...changes,
  });
}
const taskQueue = uniqueTaskQueue('cli');

function run(
  args: readonly string[],
  options: { env?: Record<string, string>; input?: string } = {},
): Promise<CliResult> {
  return lethe(args, {
    cwd,
    env: { ...SECRETS, ...options.env },
    ...(options.input === undefined ? {} : { input: options.input }),
  });
}

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'lethe-cli-'));
  writeFileSync(join(cwd, 'lethe.yaml'), yaml());
  client = await LetheClient.connect({ config: loadConfig({ path: join(cwd, 'lethe.yaml'), env: SECRETS }) });
});
afterAll(async () => {
  for (const { workflowId, endedAt } of await client.list()) {
    if (endedAt === null)
      await client.temporal.workflow
        .getHandle(workflowId)
        .terminate()
        .catch(() => undefined);
  }
  await client.close();
});

let people = 0;
function somebody(): string {
  people += 1;
  return `someone-${process.pid}-${Date.now()}-${people}`;
}

describe('P25: bad input is refused before anything starts, names what is wrong, and repeats no value', () => {
  const file = (name: string, text: string) => writeFileSync(join(cwd, name), text);
  const id = ['erase', '--id', 'user_id=someone-x'];
  const cases: [string, string[], RegExp, { env?: Record<string, string>; setup?: () => void }?][] = [
    ['nobody', ['erase'], /identifiers: names nobody/],
    ['an empty subject', ['erase', '--id', 'user_id='], /identifiers\[0\]\.value: user_id is empty/],
    ['user_id=null', ['erase', '--id', 'user_id=null'], /user_id is a placeholder that stands for nobody/],
    ['a wildcard', ['erase', '--id', 'user_id=%'], /identifiers\[0\]\.value/],
    ['no kind', ['erase', '--id', 'someone-x'], /--id \(1\): must be KIND=VALUE/],
    [
      'an unknown kind',
      ['erase', '--id', 'ssn=someone-x'],
      /"ssn" is not configured; identifiers are user_id, email, phone/,
    ],
    ['an unsearchable kind', ['erase', '--id', 'phone=someone-x'], /identifiers: phone cannot be searched in prod/],
    ['an unknown connection', [...id, '--connection', 'nope'], /connections\[0\]: is unknown; configured are prod/],
    [
      'ids for an unknown connection',
      [...id, '--known', 'nope=ids.txt'],
      /known\.nope: is an unknown connection/,
      { setup: () => file('ids.txt', 'a\n') },
    ],
    ['an ids file that is not there', [...id, '--known', 'prod=gone.txt'], /--known prod: there is no such file/],
    [
      'an ids file that is a directory',
      [...id, '--known', 'prod=.'],
      /--known prod: the file cannot be read \(EISDIR\)/,
    ],
    [
      'an ids file without ids',
      [...id, '--known', 'prod=none.txt'],
      /--known prod: the file holds no line that counts/,
      { setup: () => file('none.txt', '# nothing\n\n') },
    ],
    [
      'an identifier file with a bad line',
      ['erase', '--id-file', 'bad.txt'],
      /--id-file, line 2: must be KIND=VALUE/,
      { setup: () => file('bad.txt', 'user_id=someone-x\nsomeone-x\n') },
    ],
    ['a due date in words', [...id, '--due', 'tomorrow'], /--due/],
    ['a day that does not exist', [...id, '--due', '2026-02-30'], /--due/],
    ['a number in words', [...id, '--expect-at-most', 'ten'], /--expect-at-most/],
    ['a request id with spaces', [...id, '--request-id', 'a b'], /requestId: must be 1 to 64/],
    ['an unknown option', [...id, '--force'], /unknown option '--force'/],
    ['an unknown command', ['erasee'], /unknown command 'erasee'/],
    [
      'malformed YAML',
      ['--config', 'broken.yaml', ...id],
      /broken\.yaml has a problem[^]*line 3, column 1/,
      { setup: () => file('broken.yaml', 'policy:\n  { due: 1 month\n') },
    ],
    [
      'a config that is not there',
      ['--config', 'gone.yaml', ...id],
      /gone\.yaml has a problem[^]*there is no such file/,
    ],
    [
      'a missing secret',
      id,
      /connections\.prod\.apiKey: needs the environment variable LANGSMITH_API_KEY, which is empty/,
      { env: { LANGSMITH_API_KEY: '' } },
    ],
    [
      'no keys at all',
      ['--config', 'nokeys.yaml', ...id],
      /keys: is missing/,
      { setup: () => file('nokeys.yaml', yaml({ keys: undefined })) },
    ],
    [
      'a simulated clock and a public address',
      ['--config', 'clock.yaml', ...id],
      /connections\.prod\.baseUrl: is not on this machine/,
      {
        setup: () => {
          const clock = { real: '2026-11-26T12:00:00Z', virtual: '2026-11-26T12:00:00Z', speed: 10 };
          const prod = { store: 'langsmith', apiKey: 'k', identifiers: { user_id: ['metadata.user_id'] } };
          file('clock.yaml', yaml({ clock, connections: { prod } }));
        },
      },
    ],
    ['an approval of nothing', ['approve', 'x', '--connection', 'prod', '--at-most', '1', ...BY], /--plan/],
    ['an approval without a number', ['approve', 'x', '--connection', 'prod', '--plan', DIGEST, ...BY], /--at-most/],
    ['an approval of no connection', ['approve', 'x', '--plan', DIGEST, '--at-most', '1', ...BY], /--connection/],
    [
      'an approval by a part of the digest',
      ['approve', 'x', '--connection', 'prod', '--plan', 'abc123', '--at-most', '1', ...BY],
      /"planDigest" must be the 64 hexadecimal digits/,
    ],
    [
      'an approval of several requests',
      ['approve', 'x', 'y', '--connection', 'prod', '--plan', DIGEST, '--at-most', '1', ...BY],
      /too many arguments/,
    ],
    [
      'an approval of all requests',
      ['approve', '--all', '--connection', 'prod', '--plan', DIGEST, '--at-most', '1', ...BY],
      /unknown option '--all'|missing required argument/,
    ],
    [
      'nobody who asks, where a second person must approve',
      ['--config', 'second.yaml', ...id],
      /requestedBy: must name who asks: policy\.secondPersonAbove is set/,
      { setup: () => file('second.yaml', yaml({ policy: { secondPersonAbove: 10 } })) },
    ],
    ['a verb for nobody', ['retry', ...BY], /Name at least one request/],
    ['a verb without a name', ['retry', 'x', '--reason', 'y'], /--by/],
    ['--all without a filter', ['hold', '--all', '--expect', '1', ...BY], /--all needs --status or --connection/],
    ['--all without --expect', ['hold', '--all', '--status', 'waiting', ...BY], /--all needs --expect N/],
    ['--all with ids', ['hold', 'x', '--all', '--status', 'waiting', '--expect', '1', ...BY], /not both/],
    ['a status that does not exist', ['list', '--status', 'done'], /Allowed choices are/],
  ];
  test.each(cases)('%s', async (_name, args, expected, options = {}) => {
    options.setup?.();
    const { code, stdout, stderr } = await run(args, options);
    expect(stderr).toMatch(expected);
    expect(stderr).not.toMatch(/someone-x|\n {4}at /);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  test('nothing of all that was started', async () => {
    expect(await client.list()).toEqual([]);
  });
});

test('Temporal unreachable: says so, exit 1, and bad input is still said first', async () => {
  const env = { TEMPORAL_ADDRESS: '127.0.0.1:9' };
  const [good, bad] = await Promise.all([
    run(['erase', '--id', `user_id=${somebody()}`], { env }),
    run(['erase', '--id', 'user_id='], { env }),
  ]);
  expect(good.code).toBe(1);
  expect(good.stderr).toMatch(/^Temporal does not answer at 127\.0\.0\.1:9\. Nothing was started/);
  expect(good.stderr).not.toMatch(/\n {4}at /);
  expect(bad.code).toBe(2);
}, 30_000);

describe('starting, joining, looking', () => {
  test('erase --json prints one object; a second one joins; status tells 3', async () => {
    const who = somebody();
    const first = await run(['erase', '--id', `user_id=${who}`, '--json']);
    expect(first.code).toBe(0);
    const status = requestStatusSchema.parse(JSON.parse(first.stdout));
    expect(status.status).toBe('planning');
    expect(first.stdout + first.stderr).not.toContain(who);

    const second = await run(['erase', '--id', `user_id=${who}`, '--request-id', `again-${Date.now()}`]);
    expect(second.stdout).toMatch(new RegExp(`^Joined ${status.requestId}, which exists already`));
    expect(second.code).toBe(0);

    const other = await run(['erase', '--id', `user_id=${who}`, '--expect-at-most', '5']);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/another scope[^]*expectAtMost: it has none, this one 5/);

    const shown = await run(['status', status.requestId]);
    expect(shown.code).toBe(3);
    expect(shown.stdout).toMatch(/prod: looking for the traces/);
    const list = await run(['list', '--connection', 'prod', '--json']);
    const { requests } = JSON.parse(list.stdout) as { requests: RequestStatus[] };
    expect(requests.map(({ requestId }) => requestId)).toContain(status.requestId);
    const held = await run(['hold', status.requestId, ...BY, '--json']);
    expect(held.code).toBe(0);
    expect(JSON.parse(held.stdout)).toMatchObject({ verb: 'hold', answers: [{ delivered: 'signal' }] });
  }, 30_000);

  test('P32: identifiers come by standard input and by file, in both spellings', async () => {
    const who = somebody();
    const lines = `\uFEFF# a comment\n\nuser_id=${who}\r\n{"kind": "email", "value": "x=y@${who}.example"}\n`;
    const piped = await run(['erase', '--id-file', '-', '--json'], { input: lines });
    expect(piped.code).toBe(0);
    writeFileSync(join(cwd, 'person.txt'), lines);
    writeFileSync(
      join(cwd, 'known.txt'),
      '# two ids\n0190a3de-0000-7000-8000-000000000001\n\n0190a3de-0000-7000-8000-000000000002\n',
    );
    const filed = await run(['erase', '--id-file', 'person.txt', '--json']);
    const { requestId } = JSON.parse(piped.stdout) as RequestStatus;
    expect((JSON.parse(filed.stdout) as RequestStatus).requestId).toBe(requestId);
    const known = await run(['erase', '--id', `user_id=${somebody()}`, '--known', 'prod=known.txt', '--json']);
    expect((JSON.parse(known.stdout) as RequestStatus).connections['prod']?.given.total).toBe(2);
  }, 30_000);

  test('an unknown request is told with exit 1', async () => {
    for (const args of [
      ['status', 'nope'],
      ['report', 'nope'],
      ['retry', 'nope', ...BY],
    ]) {
      const { code, stderr } = await run(args);
      expect(stderr).toMatch(/No request "nope" is known/);
      expect(code).toBe(1);
    }
  }, 30_000);

  test('P26: doctor says that no worker is up and that the store does not answer, with exit 4', async () => {
    const { code, stdout } = await run(['doctor', '--json']);
    const report = doctorReportSchema.parse(JSON.parse(stdout));
    expect(code).toBe(4);
    const problems = report.checks
      .filter(({ level }) => level === 'problem')
      .map(({ area, name }) => `${area}: ${name}`);
    expect(problems).toEqual(
      expect.arrayContaining([
        'temporal: worker for requests (decisions)',
        'temporal: worker for records',
        'temporal: worker for prod',
        expect.stringMatching(/^connection prod/),
      ]),
    );
    expect(report.limits['prod']?.length).toBeGreaterThan(3);
  }, 30_000);
});

test('the links in docs/operating.md are queries that the server understands', async () => {
  const text = readFileSync(new URL('../docs/operating.md', import.meta.url), 'utf8');
  const queries = [...text.matchAll(/\?query=([^`\s]+)`/g)].map(([, query]) => decodeURIComponent(query ?? ''));
  expect(queries.length).toBeGreaterThan(4);
  for (const query of queries) {
    await expect(client.temporal.workflow.count(query)).resolves.toMatchObject({ count: expect.any(Number) });
  }
});

describe('what scripts and people are told', () => {
  const lane: RequestStatus['connections'][string] = {
    status: 'waiting',
    round: 2,
    nextCheckAt: '2026-12-08T00:00:00.000Z',
    attention: null,
    searched: { user_id: ['metadata.user_id', 'metadata.customer'], email: [] },
    given: { total: 40, resolved: 28, neverMatched: 9, unresolved: 0, wrongKind: 1, duplicate: 2 },
    traces: {
      matched: 1_240,
      pending: 20,
      verifiedAbsent: 1_200,
      goneBeforeSubmit: 3,
      survived: 15,
      shared: 1,
      linked: 1,
      inconclusive: 0,
      newActivity: 0,
      abandoned: 0,
    },
    copies: { found: 3, erased: 0, manual: 2, outOfReach: 1, inconclusive: 0, abandoned: 0, notExamined: ['insights'] },
    cleanReads: 1,
    cleanReadsWanted: 2,
    heldUntil: null,
    earliestVerdictAt: null,
    lastRead: '35 traces are still readable although the store has acknowledged their deletion twice by now',
    plan: null,
    approval: null,
  };
  const status: RequestStatus = {
    requestId: 'r-20261127-ab12cd34ef',
    workflowId: 'erase-0123456789abcdef0123456789abcdef',
    status: 'waiting',
    overdue: true,
    receivedAt: '2026-11-27T18:00:00.000Z',
    dueAt: '2026-12-27T18:00:00.000Z',
    law: 'gdpr',
    zone: 'UTC',
    confirmBy: null,
    extension: null,
    joinedRequests: [],
    atRisk: false,
    atRiskReason: null,
    endedAt: null,
    dryRun: false,
    simulated: true,
    exceptions: [
      { connection: 'prod', kind: 'shared', count: 1, text: '1 trace carries other people too and was kept' },
    ],
    connections: { prod: lane },
  };

  test.each([
    ['verified', 0],
    ['nothing-found', 0],
    ['verified-with-exceptions', 6],
    ['abandoned', 5],
    ['needs-operator', 4],
    ['awaiting-approval', 4],
    ['held', 4],
    ['planning', 3],
    ['erasing', 3],
    ['waiting', 3],
    ['verifying', 3],
  ] as const)('%s is exit code %d', (found, code) => {
    expect(exitCodeOf({ ...status, status: found })).toBe(code);
  });

  test('a finished plan is exit code 0, one under way 3', () => {
    const plan = { ...status, status: 'planning', dryRun: true } as const;
    expect(exitCodeOf(plan)).toBe(3);
    expect(exitCodeOf({ ...plan, endedAt: '2026-11-27T18:01:00.000Z' })).toBe(0);
  });

  test('a status fits into 80 columns and leaves nothing out', () => {
    const text = formatStatus(status, null);
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(WIDTH);
    const flat = text.replace(/\s+/g, ' ');
    for (const part of [
      'OVERDUE',
      'SIMULATED CLOCK',
      'email: not searchable here',
      '40 ids: 28 resolved, 9 never matched, 1 of a wrong kind, 2 duplicates',
      '1,240 matched: 1,200 verified absent, 3 gone before they were submitted, 20 pending, 15 survived, 1 shared, kept',
      '3 found: 2 to be erased by hand, 1 out of reach; not examined: insights',
      '1 of 2 clean',
      'waits until Tue 8 Dec 00:00 UTC',
      'prod, shared: 1 trace carries other people too and was kept',
    ]) {
      expect(flat).toContain(part);
    }
  });

  test('P1: a request of which traces could not be read says so where it names its verdict', () => {
    const traces = { ...EMPTY_TRACES, newActivity: 0, matched: 2, inconclusive: 2 };
    const given = { ...lane.given, total: 1, resolved: 0, neverMatched: 0, wrongKind: 0, duplicate: 1 };
    const stuck = { ...lane, status: 'verified-with-exceptions', traces, given } as const;
    const text = formatStatus({ ...status, status: stuck.status, connections: { prod: stuck } }, null);
    const [first] = text.split('\n');
    expect(first).toContain('verified-with-exceptions (2 traces could not be read either way');
    expect(text).toContain('1 id: 1 duplicate\n');
  });

  test('a lane that needs somebody says why and what happens next', () => {
    const attention = { reason: 'denied', since: '2026-12-01T00:00:00.000Z', next: 'give the key the right to delete' };
    expect(laneSentence({ ...lane, status: 'needs-operator', attention })).toBe(
      'round 2: an operator is needed: denied; give the key the right to delete',
    );
  });

  test('long words stand alone and are not cut', () => {
    const word = 'x'.repeat(100);
    expect(wrap(`a ${word} b`, 4, '  - ')).toBe(`  - a\n    ${word}\n    b`);
  });
});
