import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { requestTaskSchema } from '../src/client/tasks.ts';
import { verbAnswerSchema } from '../src/client/verbs.ts';
import type { Book } from '../src/erasure/book.ts';
import { EMPTY_COPIES, EMPTY_GIVEN, EMPTY_TRACES } from '../src/erasure/ledger.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';
import { RECORD_FORMAT } from '../src/evidence/record.ts';
import { DirectoryVault } from '../src/vault/directory-vault.ts';
import { deriveKeys, taskId } from '../src/vault/keys.ts';
import { lethe } from './support/cli.ts';
import { sharedServer, uniqueTaskQueue } from './support/temporal.ts';

// An ended request, as a worker leaves it behind: its record is sealed, and Temporal has forgotten it.

const SECRETS = { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') };
const KEYS = deriveKeys(SECRETS);
// Of its own: other tests on the same server have requests too.
const REQUEST = `tasks-${randomBytes(4).toString('hex')}`;
const WORKSPACE = '01234567-89ab-4def-8123-456789abcdef';
const COPY = 'dataset-1/example-of-the-person/0';
const ID = taskId(KEYS, {
  requestId: REQUEST,
  connection: 'prod',
  kind: 'dataset-examples',
  where: 'dataset dataset-1',
});
const AT = '2026-11-27T18:00:00.000Z';
const BY = ['--by', 'ann', '--reason', 'deleted in the dataset'];

let cwd: string;
const run = (...args: readonly string[]) => lethe(args, { cwd, env: { LANGSMITH_API_KEY: 'k' } });

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'lethe-tasks-'));
  const { address, namespace } = sharedServer();
  const connection = { store: 'langsmith', baseUrl: 'http://127.0.0.1:9', apiKey: 'k', workspaceId: WORKSPACE };
  writeFileSync(
    join(cwd, 'lethe.yaml'),
    stringify({
      temporal: { address, namespace, taskQueue: uniqueTaskQueue('tasks-cli') },
      keys: SECRETS,
      identifiers: ['user_id'],
      connections: { prod: { ...connection, identifiers: { user_id: ['metadata.user_id'] } } },
    }),
  );
  const stateDir = join(cwd, '.lethe');
  const records = new DirectoryRecords({ stateDir });
  const digest = 'a'.repeat(64);
  await records.open(
    {
      format: RECORD_FORMAT,
      requestId: REQUEST,
      workflowId: 'erase-1',
      scopeDigest: digest,
      receivedAt: AT,
      dueAt: '2026-12-27T18:00:00.000Z',
      dryRun: false,
      connections: ['prod'],
      identifierKinds: ['user_id'],
      startedAt: AT,
      clock: null,
      versions: { lethe: '0.1.0', node: 'v24' },
    },
    [digest],
  );
  const book: Book = {
    format: 1,
    mergedRound: 0,
    limit: 10,
    projects: [{ id: 'project-1', name: 'chat' }],
    lost: 0,
    baselineKinds: [],
    entries: [
      {
        projectId: 'project-1',
        traceId: 'trace-that-survived',
        state: 'survived',
        via: 'person',
        runs: 3,
        rowIds: [],
        startMs: null,
        sentMs: 1,
        readable: 2,
      },
      {
        projectId: 'project-1',
        traceId: 'trace-that-is-gone',
        state: 'verifiedAbsent',
        via: 'person',
        runs: 3,
        rowIds: [],
        startMs: null,
        sentMs: 1,
      },
    ],
    known: [],
    copies: [
      {
        kind: 'dataset-examples',
        id: COPY,
        traceId: 'trace-that-is-gone',
        state: 'manual',
        where: 'dataset dataset-1',
      },
    ],
    outOfReach: 0,
    notExamined: [],
    controlsAtPlan: 2,
    silentProjects: 0,
    unprovenKinds: [],
    notProvenBeforeMs: null,
    finders: 2,
    noControl: false,
    batches: [],
  };
  await new DirectoryVault({ stateDir, keys: KEYS }).put(REQUEST, 'prod/book-3', book);
  await records.close(REQUEST, {
    workflowId: 'erase-1',
    endedAt: AT,
    verdict: 'verified-with-exceptions',
    dryRun: false,
    lanes: {
      prod: {
        verdict: 'verified-with-exceptions',
        round: 1,
        given: { ...EMPTY_GIVEN },
        traces: { ...EMPTY_TRACES, matched: 2, survived: 1, verifiedAbsent: 1 },
        copies: { ...EMPTY_COPIES, found: 1, manual: 1, notExamined: [] },
        exceptions: [{ kind: 'manual-copies', count: 1, text: '1 copy elsewhere in the store must be erased by hand' }],
        tasks: [
          {
            id: ID,
            kind: 'dataset-examples',
            count: 1,
            where: 'dataset dataset-1',
            instructions: 'Open the dataset and delete it.',
          },
        ],
      },
    },
    verbs: [],
  });
});
afterAll(() => {
  rmSync(cwd, { recursive: true, force: true });
});

describe('tasks, attest and the support packet on the command line', () => {
  test('P31: tasks tells what to do, and the ids of the copies only to whoever asks the vault', async () => {
    const shown = await run('tasks', REQUEST);
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    for (const part of [ID, 'prod', 'dataset dataset-1', 'open', 'Open the dataset and delete it.']) {
      expect(shown.stdout).toContain(part);
    }
    expect(shown.stdout).not.toContain(COPY);
    const revealed = await run('tasks', REQUEST, '--reveal', '--json');
    const { tasks } = JSON.parse(revealed.stdout) as { tasks: unknown[] };
    expect(tasks.map((task) => requestTaskSchema.parse(task))).toMatchObject([{ id: ID, ids: [COPY], state: 'open' }]);
  });

  test('attest after the end adds a line beside the record, once, and the report shows it', async () => {
    const record = join(cwd, '.lethe', 'records', REQUEST, 'record.json');
    const before = readFileSync(record, 'utf8');
    const unknown = await run('attest', REQUEST, '--task', 'ffffffffffff', ...BY);
    expect(unknown).toMatchObject({ code: 1, stdout: expect.stringContaining('no such task') });
    expect((await run('attest', REQUEST, '--task', ID)).code).toBe(2);
    const added = await run('attest', REQUEST, '--task', ID, ...BY, '--json');
    expect(added.code).toBe(0);
    const { answers } = JSON.parse(added.stdout) as { answers: unknown[] };
    expect(verbAnswerSchema.parse(answers[0])).toMatchObject({ verb: 'attest', delivered: 'record' });
    expect((await run('attest', REQUEST, '--task', ID, ...BY)).code).toBe(1);
    expect(readFileSync(record, 'utf8')).toBe(before);
    const report = await run('report', REQUEST);
    expect(report.stdout).toContain('Addenda: learnt or said after the end');
    expect(report.stdout.replace(/\s+/g, ' ')).toContain('on the word of ann: deleted in the dataset');
    expect((await run('tasks', REQUEST)).stdout).toContain('attested by ann');
  });

  test('report --support-packet writes a file of mode 0600 and warns of what it holds', async () => {
    const out = join(cwd, 'packet');
    const written = await run('report', REQUEST, '--support-packet', '--out', out);
    expect(written.code).toBe(0);
    expect(written.stderr).toContain('ids of one person');
    const path = join(out, 'prod.json');
    expect(written.stdout).toContain(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({
      store: 'langsmith',
      workspaceId: WORKSPACE,
      projects: [{ id: 'project-1', name: 'chat' }],
      traces: [{ traceId: 'trace-that-survived', state: 'survived', rowsAtPlan: 3, rowsAtLatestRead: 2 }],
    });
    await run('report', REQUEST, '--support-packet', '--out', out, '--all-traces');
    expect(readFileSync(path, 'utf8')).toContain('trace-that-is-gone');
    expect((await run('report', REQUEST, '--out', out)).code).toBe(2);
  });

  test('without the keys of the vault it says that no packet can be made, and writes none', async () => {
    const out = join(cwd, 'none');
    rmSync(join(cwd, '.lethe', 'vault', REQUEST, 'key.json'));
    const refused = await run('report', REQUEST, '--support-packet', '--out', out);
    expect(refused.code).toBe(1);
    expect(refused.stderr.replace(/\s+/g, ' ')).toContain('No support packet can be made');
    expect(existsSync(out)).toBe(false);
    expect((await run('tasks', REQUEST, '--reveal')).code).toBe(1);
  });
});
