import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { DirectoryVault } from '../src/vault/directory-vault.ts';
import {
  contentDigest,
  deriveKeys,
  digestIds,
  KeyError,
  loadOrCreateDevKeys,
  subjectDigest,
  workflowIdFor,
} from '../src/vault/keys.ts';
import type { KeySecrets } from '../src/vault/keys.ts';
import { VaultLostError } from '../src/vault/vault.ts';
import type { VaultLoss } from '../src/vault/vault.ts';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));
const CANARY = 'canary-person@example.org';

const bookSchema = z.strictObject({ traces: z.record(z.string(), z.number()) });
const book = { traces: { 'trace-1': 1, [CANARY]: 2 } };

let stateDir: string;
let secrets: KeySecrets;
let vault: DirectoryVault;

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'lethe-vault-'));
  secrets = { hmac: randomBytes(32).toString('base64'), vault: randomBytes(32).toString('base64') };
  vault = new DirectoryVault({ stateDir, keys: deriveKeys(secrets) });
});

afterEach(() => rm(stateDir, { recursive: true, force: true }));

async function lossOf(work: Promise<unknown>): Promise<VaultLoss> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof VaultLostError)) throw error;
    // An operator must be told what to do, and nobody may be named (P31).
    expect(error.message).toMatch(/restore|configure|run the release/);
    expect(inspect(error)).not.toMatch(/canary|trace-1|req-1/);
    return error.loss;
  }
  throw new Error('nothing was lost');
}

/** Runs TypeScript source in another Node process, with `vault` and `sleepless` helpers at hand. */
function child(script: string): {
  readonly done: Promise<number | null>;
  readonly kill: () => void;
  readonly output: () => string;
} {
  const prelude = `
    import { DirectoryVault } from ${JSON.stringify(`${SRC}vault/directory-vault.ts`)};
    import { deriveKeys, loadOrCreateDevKeys } from ${JSON.stringify(`${SRC}vault/keys.ts`)};
    const stateDir = ${JSON.stringify(stateDir)};
    const vault = new DirectoryVault({ stateDir, keys: deriveKeys(${JSON.stringify(secrets)}) });
  `;
  const node = spawn(process.execPath, ['--input-type=module', '--no-warnings', '-e', prelude + script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  let output = '';
  node.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const done = once(node, 'close').then(([code]) => code as number | null);
  return { done, kill: () => node.kill('SIGKILL'), output: () => output };
}

async function filesBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('vault', () => {
  test('gives back what was put, by reference and by name, and lists it', async () => {
    const ref = await vault.put('req-1', 'langsmith-prod/book-1', book);
    expect(ref).toEqual({
      name: 'langsmith-prod/book-1',
      digest: createHash('sha256').update(JSON.stringify(book)).digest('hex'),
    });
    expect(await vault.get('req-1', ref, bookSchema)).toEqual(book);
    await vault.put('req-1', 'langsmith-prod/book-1', { traces: {} });
    expect(await vault.get('req-1', { name: 'langsmith-prod/book-1' }, bookSchema)).toEqual({ traces: {} });
    await vault.put('req-1', 'langsmith-prod', null);
    expect(await vault.list('req-1')).toEqual(['langsmith-prod', 'langsmith-prod/book-1']);
    expect(await vault.list('req-2')).toEqual([]);
  });

  test('a blob of a hundred thousand traces is small on the disk and comes back whole', async () => {
    const traces = Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`trace-${index}`, index]));
    const ref = await vault.put('req-1', 'large', { traces });
    expect(await vault.get('req-1', ref, bookSchema)).toEqual({ traces });
    expect((await stat(join(stateDir, 'vault/req-1/large.blob'))).size).toBeLessThan(JSON.stringify(traces).length / 2);
  });

  test('P31: no file below the state directory, and no name of one, shows what is in the vault', async () => {
    await vault.put('req-1', 'book', book);
    await vault.put('req-1', 'short', CANARY);
    const files = await filesBelow(stateDir);
    expect(files.length).toBe(3);
    for (const file of files) {
      expect(file).not.toContain(CANARY);
      const bytes = await readFile(file);
      for (const trace of [CANARY, 'canary', Buffer.from(CANARY).toString('base64').slice(0, 16)]) {
        expect(bytes.includes(trace)).toBe(false);
      }
    }
  });

  test('files and folders are for the owner only', async () => {
    await vault.put('req-1', 'a/b', book);
    for (const file of await filesBelow(stateDir)) expect((await stat(file)).mode & 0o777).toBe(0o600);
    for (const folder of ['vault', 'vault/req-1', 'vault/req-1/a']) {
      expect((await stat(join(stateDir, folder))).mode & 0o777).toBe(0o700);
    }
  });

  test('a changed byte anywhere, a cut, or another file in its place is noticed', async () => {
    const ref = await vault.put('req-1', 'book', book);
    const path = join(stateDir, 'vault/req-1/book.blob');
    const good = await readFile(path);
    for (let at = 0; at < good.length; at += 5) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      await writeFile(path, bad);
      expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('damaged');
    }
    for (const length of [0, 3, 20, good.length - 1]) {
      await writeFile(path, good.subarray(0, length));
      expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('damaged');
    }
    await vault.put('req-1', 'other', book);
    await rename(join(stateDir, 'vault/req-1/other.blob'), path);
    expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('damaged');
    await writeFile(path, good);
    expect(await vault.get('req-1', ref, bookSchema)).toEqual(book);
  });

  test('an older version of a blob is not taken for the one that was referred to', async () => {
    await vault.put('req-1', 'book', { traces: {} });
    const path = join(stateDir, 'vault/req-1/book.blob');
    const older = await readFile(path);
    const ref = await vault.put('req-1', 'book', book);
    await writeFile(path, older);
    expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('other-content');
  });

  test('each loss says what it is: missing, without key, under another key, of another shape', async () => {
    expect(await lossOf(vault.get('req-1', { name: 'book' }, bookSchema))).toBe('missing');
    const ref = await vault.put('req-1', 'book', book);
    expect(await lossOf(vault.get('req-1', ref, z.strictObject({ pages: z.array(z.string()) })))).toBe('other-shape');

    const stranger = new DirectoryVault({
      stateDir,
      keys: deriveKeys({ ...secrets, vault: randomBytes(32).toString('hex') }),
    });
    expect(await lossOf(stranger.get('req-1', ref, bookSchema))).toBe('other-key');
    expect(await lossOf(stranger.put('req-1', 'book', book))).toBe('other-key');

    await writeFile(join(stateDir, 'vault/req-1/key.json'), '{"format":');
    expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('damaged');
    await rm(join(stateDir, 'vault/req-1/key.json'));
    expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('key-missing');
    // A lost key does not stop the request: what is found from now on gets a new one.
    const next = await vault.put('req-1', 'book-2', book);
    expect(await vault.get('req-1', next, bookSchema)).toEqual(book);
    expect(await lossOf(vault.get('req-1', ref, bookSchema))).toBe('damaged');
  });

  test('each request has a key of its own', async () => {
    await vault.put('req-1', 'book', book);
    const ref = await vault.put('req-2', 'book', book);
    await rename(join(stateDir, 'vault/req-1/key.json'), join(stateDir, 'vault/req-2/key.json'));
    expect(await lossOf(vault.get('req-2', ref, bookSchema))).toBe('damaged');
  });

  test.each(['', '.', '..', '../book', 'a/../b', '/etc/passwd', 'a//b', 'a\\b', '.hidden', 'a b', 'x.blob/y', 'é'])(
    'refuses %j as a name',
    async (name) => {
      await expect(vault.put('req-1', name, book)).rejects.toThrow(RangeError);
      await expect(vault.get('req-1', { name }, bookSchema)).rejects.toThrow(RangeError);
    },
  );

  test.each(['', '..', 'a/b', '.open'])('refuses %j as a request id', async (requestId) => {
    await expect(vault.put(requestId, 'book', book)).rejects.toThrow(RangeError);
    await expect(vault.list(requestId)).rejects.toThrow(RangeError);
  });

  test('P23: processes that start at once agree on one key', async () => {
    // The gate makes them collide: all are up before the first writes.
    const children = Array.from({ length: 4 }, (_, index) =>
      child(`
        import { existsSync } from 'node:fs';
        console.log('ready');
        while (!existsSync(stateDir + '/go')) await new Promise((resolve) => setImmediate(resolve));
        await vault.put('req-1', 'from-${index}', { index: ${index} });
      `),
    );
    while (!children.every((one) => one.output().includes('ready'))) await sleep(10);
    await writeFile(join(stateDir, 'go'), '');
    expect(await Promise.all(children.map((one) => one.done))).toEqual([0, 0, 0, 0]);
    for (const index of children.keys()) {
      expect(await vault.get('req-1', { name: `from-${index}` }, z.strictObject({ index: z.number() }))).toEqual({
        index,
      });
    }
  });

  test('P23: a writer killed at any moment leaves the old content or the new, never a part', async () => {
    const size = 20_000;
    const schema = z.strictObject({ version: z.int(), filler: z.array(z.number()).length(size) });
    await vault.put('req-1', 'book', { version: 0, filler: Array.from({ length: size }, () => 0) });
    for (const lifeMs of [1, 7, 23]) {
      const writer = child(`
        for (let version = 1; ; version += 1) {
          await vault.put('req-1', 'book', { version, filler: Array.from({ length: ${size} }, Math.random) });
          console.log(version);
        }
      `);
      while (writer.output() === '') await sleep(5);
      await sleep(lifeMs);
      writer.kill();
      await writer.done;
      const acknowledged = Number(writer.output().trim().split('\n').at(-1));
      const { version } = await vault.get('req-1', { name: 'book' }, schema);
      expect(version).toBeGreaterThanOrEqual(acknowledged);
    }
    // What a killed writer leaves is never taken for a blob.
    await writeFile(join(stateDir, 'vault/req-1/.book.blob.0123.tmp'), 'LTH');
    expect(await vault.list('req-1')).toEqual(['book']);
  });
});

describe('keys', () => {
  test('the same secret in base64, base64url, hexadecimal or with a line end gives the same keys', () => {
    const bytes = randomBytes(32);
    const spellings = [
      bytes.toString('base64'),
      bytes.toString('base64url'),
      bytes.toString('hex'),
      `${bytes.toString('hex')}\n`,
    ];
    const digests = spellings.map((hmac) => subjectDigest(deriveKeys({ ...secrets, hmac }), 'user_id', 'u_1'));
    expect(new Set(digests).size).toBe(1);
  });

  test('passphrases of 32 characters work', () => {
    const hmac = 'correct horse battery staple, and more';
    expect(subjectDigest(deriveKeys({ ...secrets, hmac }), 'user_id', 'u_1')).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each([
    ['', 'is empty'],
    ['short secret', 'is shorter than 32 bytes'],
    ['0123456789abcdef0123456789abcdef', 'is 16 bytes of hexadecimal'],
    ['0'.repeat(64), 'repeats a few characters'],
  ])('P25: the secret %j is refused by the name of its field, and not repeated', (bad, problem) => {
    for (const field of ['hmac', 'vault'] as const) {
      const derive = (): unknown => deriveKeys({ ...secrets, [field]: bad });
      expect(derive).toThrow(KeyError);
      expect(derive).toThrow(new RegExp(`^keys\\.${field} ${problem}`));
      if (bad !== '') expect(derive).not.toThrow(bad);
    }
  });

  test('every use has a key of its own, and printing them shows none', () => {
    const keys = deriveKeys(secrets);
    const all = [keys.vaultWrap, keys.codec, keys.digest, keys.workflowId].map((key) => key.export().toString('hex'));
    expect(new Set(all).size).toBe(4);
    const printed = inspect(keys, { depth: 5, showHidden: true }) + JSON.stringify(keys);
    for (const hex of all) expect(printed).not.toContain(hex);
    for (const secret of Object.values(secrets)) expect(printed).not.toContain(secret);
    expect(new Set(Object.values(keys.keyIds)).size).toBe(3);
    for (const keyId of Object.values(keys.keyIds)) expect(keyId).toMatch(/^[0-9a-f]{12}$/);
  });

  test('digests tell kinds, values, uses and secrets apart, and ids in any order are the same', () => {
    const keys = deriveKeys(secrets);
    const other = deriveKeys({ ...secrets, hmac: randomBytes(32).toString('hex') });
    const digests = [
      subjectDigest(keys, 'user_id', 'u_1'),
      subjectDigest(keys, 'user_id', 'u_2'),
      subjectDigest(keys, 'user_i', 'du_1'),
      subjectDigest(other, 'user_id', 'u_1'),
      digestIds(keys, ['user_id', 'u_1']),
      digestIds(keys, ['user_idu_1']),
      contentDigest(keys, 'u_1'),
    ];
    expect(new Set(digests).size).toBe(digests.length);
    expect(digestIds(keys, ['b', 'a', 'b'])).toBe(digestIds(keys, new Set(['a', 'b'])));
    expect(workflowIdFor(keys, 'user_id', 'u_1')).toMatch(/^erase-[0-9a-f]{32}$/);
    expect(workflowIdFor(keys, 'user_id', 'u_1')).toBe(workflowIdFor(deriveKeys(secrets), 'user_id', 'u_1'));
    expect(workflowIdFor(keys, 'user_id', 'u_1')).not.toBe(workflowIdFor(keys, 'email', 'u_1'));
  });

  test('development keys are made once, for the owner only, whoever comes first', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, () => loadOrCreateDevKeys(join(stateDir, 'new'))));
    expect(made.filter(({ created }) => created).length).toBe(1);
    expect(new Set(made.map(({ secrets: { hmac, vault: wrap } }) => `${hmac} ${wrap}`)).size).toBe(1);
    expect((await stat(join(stateDir, 'new/keys.json'))).mode & 0o777).toBe(0o600);
    expect((await loadOrCreateDevKeys(join(stateDir, 'new'))).created).toBe(false);
    expect(() => deriveKeys(made[0]?.secrets ?? secrets)).not.toThrow();
    await writeFile(join(stateDir, 'new/keys.json'), '{"hmac":1}');
    await expect(loadOrCreateDevKeys(join(stateDir, 'new'))).rejects.toThrow(/configure keys\.hmac and keys\.vault/);
  });
});
