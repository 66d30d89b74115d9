import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import {
  cachedTemporalPath,
  resolveTemporal,
  resolveTemporalBinary,
  TEMPORAL_SERVER_VERSION,
  TemporalBinaryError,
  TemporalUnreachableError,
} from '../src/temporal/binary.ts';

describe('where a Temporal server comes from', () => {
  let directory: string;
  let env: NodeJS.ProcessEnv;
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lethe-binary-'));
    env = { PATH: join(directory, 'bin'), XDG_CACHE_HOME: join(directory, 'cache') };
    lines.length = 0;
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** An executable that answers `--version` like a Temporal CLI with this server inside. */
  async function fake(path: string, answer: string): Promise<string> {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `#!/bin/sh\necho '${answer}'\n`);
    await chmod(path, 0o755);
    return path;
  }
  const cli = (serverVersion: string): string => `temporal version 1.2.3 (Server ${serverVersion}, UI 2.0.0)`;

  test('named by TEMPORAL_CLI_PATH, then on PATH, then in the cache', async () => {
    const cached = await fake(cachedTemporalPath(env), 'not asked: its name says what it is');
    expect(await resolveTemporalBinary({ env, log })).toEqual({
      path: cached,
      source: 'cache',
      serverVersion: TEMPORAL_SERVER_VERSION,
    });

    const onPath = await fake(join(directory, 'bin', 'temporal'), cli('1.30.0'));
    expect(await resolveTemporalBinary({ env, log })).toEqual({
      path: onPath,
      source: 'path',
      serverVersion: '1.30.0',
    });

    const named = await fake(join(directory, 'elsewhere', 'temporal'), cli('1.29.1'));
    env['TEMPORAL_CLI_PATH'] = named;
    expect(await resolveTemporalBinary({ env, log })).toEqual({
      path: named,
      source: 'environment',
      serverVersion: '1.29.1',
    });
    expect(lines).toEqual([]);
  });

  test('a program on PATH that is no Temporal CLI is passed over; one that was named is an error', async () => {
    const impostor = await fake(join(directory, 'bin', 'temporal'), 'temporal: a calendar');
    await fake(cachedTemporalPath(env), '');
    expect((await resolveTemporalBinary({ env, log })).source).toBe('cache');
    env['TEMPORAL_CLI_PATH'] = impostor;
    await expect(resolveTemporalBinary({ env, log })).rejects.toThrow(/TEMPORAL_CLI_PATH=.*does not answer/);
  });

  test('none: one error with everything that was tried, and each way out', async () => {
    const error: unknown = await resolveTemporalBinary({ env, log, allowDownload: false }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(TemporalBinaryError);
    const { attempts, message } = error as TemporalBinaryError;
    expect(attempts).toEqual([
      '`temporal` on PATH: not found',
      expect.stringContaining('not there yet'),
      'downloading: switched off',
      'building with Go: `go` is not on PATH',
    ]);
    for (const wayOut of ['TEMPORAL_ADDRESS', 'TEMPORAL_CLI_PATH', 'install Go', 'GOPROXY']) {
      expect(message).toContain(wayOut);
    }
  });

  test('what an interrupted run left behind neither blocks nor stays', async () => {
    const cached = cachedTemporalPath(env);
    await mkdir(dirname(cached), { recursive: true });
    await writeFile(`${cached}.build-0000`, 'half a binary');
    await mkdir(`${cached}.download-0000`);
    // No process has this id.
    await writeFile(`${cached}.lock`, '4194305');
    await expect(resolveTemporalBinary({ env, log, allowDownload: false })).rejects.toThrow(TemporalBinaryError);
    expect(await readdir(dirname(cached))).toEqual([]);
  });

  test('a running server needs no binary; TEMPORAL_ADDRESS goes before the configured address', async () => {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const running = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      expect(await resolveTemporal({ env, log, address: running })).toEqual({ kind: 'address', address: running });
      env['TEMPORAL_ADDRESS'] = running;
      expect(await resolveTemporal({ env, log, address: '127.0.0.1:1' })).toEqual({
        kind: 'address',
        address: running,
      });
    } finally {
      await new Promise((closed) => server.close(closed));
    }
  });

  test('TEMPORAL_ADDRESS without a server is an error; a configured address without one is where to start it', async () => {
    const cached = await fake(cachedTemporalPath(env), '');
    expect(await resolveTemporal({ env, log, address: '127.0.0.1:1' })).toMatchObject({
      kind: 'binary',
      binary: { path: cached },
    });
    env['TEMPORAL_ADDRESS'] = '127.0.0.1:1';
    await expect(resolveTemporal({ env, log })).rejects.toThrow(TemporalUnreachableError);
  });
});
