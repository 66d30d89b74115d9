import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { EMPTY_COPIES, EMPTY_GIVEN, EMPTY_TRACES } from '../src/erasure/ledger.ts';
import { canonicalDigest, canonicalJson, sha256Hex } from '../src/evidence/canonical.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';
import {
  RECORD_FORMAT,
  recordedClock,
  recordedFigures,
  recordedInstant,
  recordedProjects,
  recordedRead,
  recordedVerb,
  recordedWindow,
  RecordError,
} from '../src/evidence/record.ts';
import type {
  OpenRecord,
  PlanEntry,
  ReadEntry,
  RecordOutcome,
  RecordProblem,
  SubmitEntry,
  TroubleEntry,
} from '../src/evidence/record.ts';
import { deriveKeys, digestIds, subjectDigest } from '../src/vault/keys.ts';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));
const CANARY = 'canary-person@example.org';
const AT = Date.UTC(2026, 10, 26, 12);
const HOUR = 3_600_000;
const LANE = 'langsmith-prod';

const keys = deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
const person = subjectDigest(keys, 'user_id', CANARY);

let stateDir: string;
let records: DirectoryRecords;

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'lethe-records-'));
  records = new DirectoryRecords({ stateDir });
});

afterEach(() => rm(stateDir, { recursive: true, force: true }));

function opening(changes: Partial<OpenRecord> = {}): OpenRecord {
  return {
    format: RECORD_FORMAT,
    requestId: 'req-1',
    workflowId: 'erase-0123456789abcdef0123456789abcdef',
    scopeDigest: sha256Hex('scope'),
    receivedAt: recordedInstant(AT),
    dueAt: recordedInstant(AT + 30 * 24 * HOUR),
    dryRun: false,
    connections: [LANE],
    identifierKinds: ['user_id'],
    startedAt: recordedInstant(AT + 1000),
    clock: null,
    versions: { lethe: '0.1.0', node: 'v24.0.0' },
    ...changes,
  };
}

const report = recordedRead({
  route: 'POST /api/v2/runs/query',
  purpose: 'find',
  calls: 2,
  rows: 7,
  window: { fromMs: 0, toMs: AT + 7 * 24 * HOUR },
  controlsAsked: 2,
  controlsSeen: 2,
  requestIds: ['store-request-1'],
  skewMs: 120,
  sunset: null,
});

const figures = recordedFigures({
  given: { ...EMPTY_GIVEN, total: 3, resolved: 1, neverMatched: 1, duplicate: 1 },
  traces: { ...EMPTY_TRACES, matched: 2, pending: 2 },
  copies: { ...EMPTY_COPIES, found: 1, manual: 1, notExamined: ['exports'] },
  exceptions: [{ kind: 'manual-copies', count: 1, text: '1 copies elsewhere in the store must be erased by hand' }],
});

const plan: PlanEntry = {
  kind: 'plan',
  at: recordedInstant(AT),
  store: 'langsmith',
  versions: { lethe: '0.1.0', node: 'v24.0.0', connector: '1' },
  clock: null,
  projects: recordedProjects({
    examined: [{ id: 'p1', name: 'chat', type: 'PROJECT' }],
    excluded: [{ id: 'p2', name: 'other', type: 'PROJECT', why: 'not configured' }],
  }),
  searched: { user_id: ['metadata.user_id'], email: [] },
  finders: ['v2 runs', 'v1 runs'],
  lookups: ['v2 trace', 'v1 trace'],
  reports: [report],
  controls: { 'metadata.user_id': 2 },
  window: recordedWindow({ fromMs: 0, toMs: AT }),
  notProvenBefore: null,
  disagreements: [],
  ...figures,
  manifestDigest: sha256Hex('manifest'),
  batches: [2],
  stop: null,
  policy: { cleanReads: 2, flagAfterRounds: 3 },
  limits: ['exports are files outside the store'],
  accepted: ['row-history'],
};

const submit: SubmitEntry = {
  kind: 'submit',
  at: recordedInstant(AT),
  round: 1,
  batch: 0,
  project: 0,
  count: 2,
  digest: digestIds(keys, ['trace-1', 'trace-2']),
  route: 'POST /api/v1/runs/delete',
  status: 202,
  requestId: 'store-request-2',
  sentAt: recordedInstant(AT),
  acknowledgedAt: recordedInstant(AT + 200),
  settledAt: recordedInstant(AT + 90 * HOUR),
  absent: 0,
  pulled: 0,
  reports: [report],
};

const read: ReadEntry = {
  kind: 'read',
  at: recordedInstant(AT + 91 * HOUR),
  round: 1,
  answer: 'clean',
  counted: true,
  why: null,
  cleanReads: 1,
  projects: null,
  reports: [report],
  controls: { 'metadata.user_id': { asked: 2, seen: 2 } },
  window: recordedWindow({ fromMs: 0, toMs: AT }),
  skewMs: 120,
  disagreements: [],
  ...figures,
  manifestDigest: null,
  batches: [],
  verdict: null,
};

const trouble: TroubleEntry = {
  kind: 'trouble',
  at: recordedInstant(AT),
  step: 'delete',
  round: 1,
  batch: 0,
  reason: 'throttled',
  text: 'the store asks to be called less often',
  route: 'POST /api/v1/runs/delete',
  status: 429,
  requestId: null,
  notBefore: recordedInstant(AT + 60_000),
};

const outcome: RecordOutcome = {
  workflowId: 'erase-0123456789abcdef0123456789abcdef',
  endedAt: recordedInstant(AT + 200 * HOUR),
  verdict: 'verified-with-exceptions',
  dryRun: false,
  lanes: { [LANE]: { verdict: 'verified-with-exceptions', round: 1, ...figures } },
  verbs: [
    recordedVerb({ verb: 'retry', requestedBy: 'ops', reason: 'asked', connection: null, atMs: AT, applied: true }),
  ],
};

async function problemOf(work: Promise<unknown>): Promise<RecordProblem> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    expect(error.message).not.toContain('canary');
    return error.problem;
  }
  throw new Error('there was no problem');
}

async function entryKeys(): Promise<readonly string[]> {
  return ((await records.read('req-1'))?.lanes[LANE]?.entries ?? []).map(({ key }) => key);
}

const lanePath = (): string => join(stateDir, `records/req-1/lane-${LANE}.jsonl`);

describe('canonical JSON', () => {
  test('is the same whatever the order of the fields, and as RFC 8785 writes it', () => {
    const first = { b: [3, { y: null, x: 1e21 }], a: 'ü€\u0007', 10: true, 9: undefined };
    const second = { 10: true, a: 'ü€\u0007', b: [3, { x: 1e21, y: null }] };
    expect(canonicalJson(first)).toBe('{"10":true,"a":"ü€\\u0007","b":[3,{"x":1e+21,"y":null}]}');
    expect(canonicalDigest(first)).toBe(canonicalDigest(second));
    expect(canonicalDigest(first)).toBe(createHash('sha256').update(canonicalJson(second)).digest('hex'));
  });

  test.each([NaN, Infinity, undefined, '\ud800', () => 1])('refuses what JSON cannot hold (%p)', (value) => {
    expect(() => canonicalJson(value)).toThrow(TypeError);
    expect(() => canonicalJson({ list: [{ value: Number.NaN }] })).toThrow(TypeError);
  });
});

describe('opening', () => {
  test('P23: repeating it changes nothing, even after a restart with another release', async () => {
    await records.open(opening(), [person]);
    await records.open(opening({ startedAt: recordedInstant(AT + HOUR), versions: { lethe: '9', node: 'v99' } }), [
      person,
    ]);
    expect((await records.read('req-1'))?.request).toEqual(opening());
    expect((await records.list()).length).toBe(1);
  });

  test('P24: the same id with other content is refused, and the difference named', async () => {
    await records.open(opening(), [person]);
    const other = records.open(opening({ scopeDigest: sha256Hex('other'), dryRun: true }), [person]);
    await expect(other).rejects.toThrow(/other content: scopeDigest, dryRun$/);
    expect(await problemOf(records.open(opening({ connections: ['x'] }), []))).toBe('conflict');
    expect((await records.read('req-1'))?.request).toEqual(opening());
  });

  test('lanes that open side by side all succeed, and one opening stands', async () => {
    const openings = Array.from({ length: 8 }, (_, index) =>
      new DirectoryRecords({ stateDir }).open(opening({ startedAt: recordedInstant(AT + index) }), [person]),
    );
    await Promise.all(openings);
    expect((await records.openRequests()).map(({ requestId }) => requestId)).toEqual(['req-1']);
  });

  test('a closed request is not opened again', async () => {
    await records.open(opening(), [person]);
    await records.close('req-1', outcome);
    expect(await problemOf(records.open(opening(), [person]))).toBe('closed');
    expect(await problemOf(records.open(opening({ dryRun: true }), [person]))).toBe('conflict');
    expect(await records.openRequests()).toEqual([]);
  });

  test('a request id that is no plain name is refused', async () => {
    for (const requestId of ['', '..', '../req', 'a/b', '.open']) {
      await expect(records.open(opening({ requestId }), [])).rejects.toThrow(RangeError);
    }
    await records.open(opening(), []);
    await expect(records.append('req-1', '../x', '1', plan)).rejects.toThrow(RangeError);
  });
});

describe('entries', () => {
  beforeEach(() => records.open(opening(), [person]));

  test('P35: the record tells everything of every step, in order, while open and when sealed', async () => {
    await records.append('req-1', LANE, '0-plan', plan);
    await records.append('req-1', LANE, '1-submit', submit);
    await records.append('req-1', LANE, '2-trouble', trouble);
    await records.append('req-1', LANE, '3-read', read);
    const entries = [plan, submit, trouble, read];
    const open = await records.read('req-1');
    expect(open?.request).toEqual(opening());
    expect(open?.lanes[LANE]?.entries.map(({ entry }) => entry)).toEqual(entries);
    expect(open?.outcome).toBeNull();

    const digest = await records.close('req-1', outcome);
    const sealed = await records.read('req-1');
    expect(sealed).toEqual({ ...open, outcome, digest });
    expect(recordedRead({ ...report, purpose: 'find', window: null }).window).toBeNull();
  });

  test('P23: the same key again replaces the entry in its place', async () => {
    await records.append('req-1', LANE, '0-plan', plan);
    await records.append('req-1', LANE, '1-submit', submit);
    await records.append('req-1', LANE, '0-plan', { ...plan, stop: 'too many' });
    const lane = (await records.read('req-1'))?.lanes[LANE];
    expect(lane?.entries).toEqual([
      { key: '0-plan', entry: { ...plan, stop: 'too many' } },
      { key: '1-submit', entry: submit },
    ]);
    expect(lane?.tornLines).toBe(0);
  });

  test('P23: a line torn by a kill or a full disk is skipped, counted, and spoils no other', async () => {
    await records.append('req-1', LANE, '0-plan', plan);
    const whole = (await stat(lanePath())).size;
    await records.append('req-1', LANE, '1-submit', submit);
    await truncate(lanePath(), whole + 40);
    expect(await entryKeys()).toEqual(['0-plan']);
    await records.append('req-1', LANE, '1-submit', submit);
    await records.append('req-1', LANE, '2-read', read);
    const lane = (await records.read('req-1'))?.lanes[LANE];
    expect(lane?.entries.map(({ key }) => key)).toEqual(['0-plan', '1-submit', '2-read']);
    expect(lane?.tornLines).toBe(1);
    await appendFile(lanePath(), '{"format":"lethe-rec');
    await records.close('req-1', outcome);
    expect((await records.read('req-1'))?.lanes[LANE]?.tornLines).toBe(2);
  });

  test('P23: whatever a killed writer was told is written is there', async () => {
    const script = `
      import { DirectoryRecords } from ${JSON.stringify(`${SRC}evidence/directory-records.ts`)};
      const records = new DirectoryRecords({ stateDir: ${JSON.stringify(stateDir)} });
      const entry = ${JSON.stringify(submit)};
      for (let batch = 0; ; batch += 1) {
        await records.append('req-1', '${LANE}', String(batch), { ...entry, batch });
        console.log(batch);
      }`;
    const writer = spawn(process.execPath, ['--input-type=module', '--no-warnings', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    let output = '';
    writer.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    while (output.split('\n').length < 5) await sleep(5);
    writer.kill('SIGKILL');
    await once(writer, 'close');
    const acknowledged = output.trim().split('\n');
    expect((await entryKeys()).slice(0, acknowledged.length)).toEqual(acknowledged);
    await records.append('req-1', LANE, 'last', read);
    expect((await entryKeys()).at(-1)).toBe('last');
  });

  test('lanes have files of their own', async () => {
    await Promise.all(['a', 'b'].map((lane) => records.append('req-1', lane, '0', plan)));
    expect(Object.keys((await records.read('req-1'))?.lanes ?? {})).toEqual(['a', 'b']);
  });

  test('P29: sums that do not add up are never recorded', async () => {
    const unbalanced = { ...read, traces: { ...read.traces, matched: 3 } };
    await expect(records.append('req-1', LANE, '0', unbalanced)).rejects.toThrow(/traces: 3 is not 2/);
    const lanes = { [LANE]: { verdict: null, round: 1, ...figures, given: { ...figures.given, resolved: 2 } } };
    await expect(records.close('req-1', { ...outcome, lanes })).rejects.toThrow(/given: 3 is not 4/);
    expect(await entryKeys()).toEqual([]);
    expect((await records.read('req-1'))?.outcome).toBeNull();
  });

  test('P31: what is no part of the format is refused, and not repeated', async () => {
    const leaky = { ...trouble, vendor: `no such user ${CANARY}` };
    expect(await problemOf(records.append('req-1', LANE, '0', leaky))).toBe('invalid');
    expect(await problemOf(records.append('req-1', LANE, '0', { ...submit, digest: CANARY }))).toBe('invalid');
    expect(await problemOf(records.append('req-1', LANE, CANARY, trouble))).toBe('invalid');
    expect(await problemOf(records.open(opening(), [CANARY]))).toBe('invalid');
  });

  test('nothing is added to a record that was never opened, and a damaged one is not trusted', async () => {
    expect(await problemOf(records.append('req-2', LANE, '0', plan))).toBe('not-open');
    await writeFile(lanePath(), `${JSON.stringify({ format: 'lethe-record/2', key: '0', entry: plan })}\n`);
    expect(await problemOf(records.read('req-1'))).toBe('damaged');
  });
});

describe('closing', () => {
  beforeEach(async () => {
    await records.open(opening(), [person]);
    await records.append('req-1', LANE, '0-plan', plan);
  });

  test('P23: closing twice changes nothing, though the second says it ended later', async () => {
    const digest = await records.close('req-1', outcome);
    expect(await records.close('req-1', { ...outcome, endedAt: recordedInstant(AT + 300 * HOUR) })).toBe(digest);
    expect(await new DirectoryRecords({ stateDir }).close('req-1', outcome)).toBe(digest);
    expect((await records.read('req-1'))?.outcome?.endedAt).toBe(outcome.endedAt);
  });

  test('another outcome is refused', async () => {
    await records.close('req-1', outcome);
    expect(await problemOf(records.close('req-1', { ...outcome, verdict: 'verified' }))).toBe('conflict');
  });

  test('closers side by side agree', async () => {
    const digests = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        new DirectoryRecords({ stateDir }).close('req-1', { ...outcome, endedAt: recordedInstant(AT + index) }),
      ),
    );
    expect(new Set(digests).size).toBe(1);
  });

  test('the digest is that of the file, which is canonical and has a place for the signature', async () => {
    const digest = await records.close('req-1', outcome);
    const file = await readFile(join(stateDir, 'records/req-1/record.json'), 'utf8');
    expect(sha256Hex(file)).toBe(digest);
    expect(canonicalJson(JSON.parse(file))).toBe(file);
    expect(JSON.parse(file)).toMatchObject({ format: RECORD_FORMAT, stamp: null, signature: null });
  });

  test('what is appended later stays outside the sealed record', async () => {
    const digest = await records.close('req-1', outcome);
    await records.append('req-1', LANE, '9-read', read);
    expect(await records.close('req-1', outcome)).toBe(digest);
    expect(await entryKeys()).toEqual(['0-plan']);
    expect(await readFile(lanePath(), 'utf8')).toContain('9-read');
  });

  test('a request of which no lane ever started can be closed', async () => {
    await records.close('req-2', { ...outcome, verdict: 'abandoned' });
    const view = await records.read('req-2');
    expect(view).toMatchObject({ request: null, lanes: {}, outcome: { verdict: 'abandoned' } });
    expect(await records.read('req-3')).toBeNull();
  });

  test('P34: a simulated clock stamps the record, whichever worker had it', async () => {
    const clock = recordedClock({ realMs: AT, virtualMs: AT, speed: 1000 });
    await records.open(opening({ requestId: 'req-2', clock }), []);
    await records.open(opening({ requestId: 'req-3' }), []);
    await records.append('req-3', LANE, '0-plan', { ...plan, clock });
    for (const [requestId, simulated] of [
      ['req-1', false],
      ['req-2', true],
      ['req-3', true],
    ] as const) {
      expect((await records.read(requestId))?.simulated).toBe(simulated);
      await records.close(requestId, outcome);
      expect((await records.read(requestId))?.simulated).toBe(simulated);
      const file = await readFile(join(stateDir, 'records', requestId, 'record.json'), 'utf8');
      expect(file.includes('"stamp":"SIMULATED"')).toBe(simulated);
    }
  });
});

describe('open requests', () => {
  const digest = (value: string): string => subjectDigest(keys, 'user_id', value);

  test('P26: what was opened and never closed is listed, whenever its worker was killed', async () => {
    await records.open(opening(), [person]);
    await records.open(opening({ requestId: 'req-2' }), [person]);
    await records.close('req-2', outcome);
    // Killed between the two writes of opening: the name is there, the request is not.
    await rm(join(stateDir, 'records/req-1/request.json'));
    expect(await records.openRequests()).toEqual([{ requestId: 'req-1', request: null, outcome: null }]);
    await records.open(opening(), [person]);
    expect(await records.openRequests()).toEqual([{ requestId: 'req-1', request: opening(), outcome: null }]);
    // Killed between seal and removal of the name: closed all the same, and tidied when closing is repeated.
    await records.close('req-1', outcome);
    await writeFile(join(stateDir, `records/.open/req-1~0.json`), JSON.stringify([person]));
    expect(await records.openRequests()).toEqual([]);
    await records.close('req-1', outcome);
    expect(await readdir(join(stateDir, 'records/.open'))).toEqual([]);
    expect((await records.list()).map(({ requestId, outcome: end }) => [requestId, end?.verdict])).toEqual([
      ['req-1', outcome.verdict],
      ['req-2', outcome.verdict],
    ]);
  });

  test('P7: everybody with an open request is known by digest, every spelling of every lane, one excepted', async () => {
    await records.open(opening(), [digest('1'), digest('01')]);
    await records.open(opening(), [digest('1'), digest('1.0')]);
    await records.open(opening({ requestId: 'req-2' }), [digest('2')]);
    await records.open(opening({ requestId: 'req-3' }), []);
    const others = new DirectoryRecords({ stateDir });
    expect(await others.openSubjectDigests('req-2')).toEqual(new Set([digest('1'), digest('01'), digest('1.0')]));
    expect(await others.openSubjectDigests('req-1')).toEqual(new Set([digest('2')]));
    await records.close('req-2', outcome);
    expect(await others.openSubjectDigests('req-1')).toEqual(new Set());
  });

  test('asking who is open costs little with hundreds of people', async () => {
    await Promise.all(
      Array.from({ length: 300 }, (_, index) =>
        records.open(opening({ requestId: `req-${index}` }), [digest(String(index))]),
      ),
    );
    expect((await records.openSubjectDigests('req-0')).size).toBe(299);
    const started = performance.now();
    for (let round = 0; round < 20; round += 1) await records.openSubjectDigests('req-0');
    expect((performance.now() - started) / 20).toBeLessThan(50);
  });
});

test('P31: no file of the records, and no name of one, shows a person', async () => {
  await records.open(opening(), [person]);
  await records.append('req-1', LANE, '0-plan', plan);
  await records.close('req-1', outcome);
  const entries = await readdir(stateDir, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    expect(entry.name).not.toContain('canary');
    const path = join(entry.parentPath, entry.name);
    expect((await stat(path)).mode & 0o077).toBe(0);
    if (entry.isFile()) expect(await readFile(path, 'utf8')).not.toContain('canary');
  }
});
