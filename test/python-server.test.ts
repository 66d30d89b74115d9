import { describe, expect, test } from '@jest/globals';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureEnvironment, freePorts, prepared, startServer } from './real/support/python-server.ts';

describe('servers of other projects in tests', () => {
  test('an environment without Python says what to install, and leaves nothing half done', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'lethe-cache-'));
    try {
      const env = { ...process.env, LETHE_CACHE: cache, LETHE_PYTHON: join(cache, 'no-python') };
      await expect(
        ensureEnvironment({ name: 'thing', packages: ['thing==1.2.3'], env, log: () => undefined }),
      ).rejects.toThrow(/install python3/);
      expect(existsSync(join(cache, 'thing-1.2.3', 'lethe-ready.json'))).toBe(false);
      expect(existsSync(join(cache, 'thing-1.2.3.lock'))).toBe(false);
    } finally {
      await rm(cache, { recursive: true, force: true });
    }
  });

  test('packages without a pinned version are refused', async () => {
    await expect(ensureEnvironment({ name: 'thing', packages: ['thing'] })).rejects.toThrow(/pinned/);
  });

  test('what takes long to make is made once, whoever asks at the same time, and never half', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'lethe-cache-'));
    try {
      const environment = { directory: cache, python: 'none' };
      const silent = (): void => undefined;
      let made = 0;
      const make = async (directory: string): Promise<void> => {
        made += 1;
        await writeFile(join(directory, 'data'), 'old');
      };
      const failing = async (directory: string): Promise<void> => {
        await make(directory);
        throw new Error('no room');
      };
      await expect(prepared(environment, 'thing', failing, silent)).rejects.toThrow('no room');
      expect(readdirSync(join(cache, 'prepared'))).toEqual([]);
      const both = await Promise.all([1, 2].map(() => prepared(environment, 'thing', make, silent)));
      const [from = ''] = both;
      expect(both).toEqual([from, from]);
      expect(made).toBe(2);
      // A server begins with a copy: what it does to it stays its own.
      const script = `
        require('node:fs').appendFileSync('data', ', new');
        require('node:http').createServer((_, answer) => answer.end('ok')).listen(Number(process.argv[1]), '127.0.0.1');`;
      const server = await startServer({
        name: 'node',
        ports: 1,
        from,
        readyUrl: ([port]) => `http://127.0.0.1:${port}/`,
        command: ({ ports }) => ({ file: process.execPath, args: ['-e', script, String(ports[0])] }),
      });
      expect(readFileSync(join(server.directory, 'data'), 'utf8')).toBe('old, new');
      expect(readFileSync(join(from, 'data'), 'utf8')).toBe('old');
      await server.close();
    } finally {
      await rm(cache, { recursive: true, force: true });
    }
  });

  test('free ports differ', async () => {
    expect(new Set(await freePorts(8)).size).toBe(8);
  });

  test('a server gets ports and a folder of its own, and ends with it', async () => {
    const script = `
      require('node:fs').writeFileSync('pid', String(process.pid));
      require('node:http').createServer((_, answer) => answer.end('ok')).listen(Number(process.argv[1]), '127.0.0.1');`;
    const server = await startServer({
      name: 'node',
      ports: 1,
      readyUrl: ([port]) => `http://127.0.0.1:${port}/`,
      command: ({ ports }) => ({ file: process.execPath, args: ['-e', script, String(ports[0])] }),
    });
    expect(Number(readFileSync(join(server.directory, 'pid'), 'utf8'))).toBe(server.pid);
    await server.close();
    expect(() => process.kill(server.pid, 0)).toThrow();
    expect(existsSync(server.directory)).toBe(false);
  });

  test('one that ends before it is ready is told with the end of its log', async () => {
    await expect(
      startServer({
        name: 'failing',
        ports: 1,
        readyUrl: ([port]) => `http://127.0.0.1:${port}/`,
        command: () => ({ file: process.execPath, args: ['-e', "console.error('no room'); process.exit(3)"] }),
      }),
    ).rejects.toThrow(/failing did not start:[^]*no room/);
  });
});
