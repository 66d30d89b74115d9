import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';

import { LetheRound } from '../src/temporal/search-attributes.ts';
import {
  databaseFile,
  DatabaseInUseError,
  ensureNamespace,
  ensureSearchAttributes,
  LocalServerError,
  resolveTemporalBinary,
  startLocalServer,
  type LocalServer,
} from '../src/temporal/server.ts';
import { quietTemporal } from './support/temporal.ts';

describe('local server', () => {
  let directory: string;
  const servers: LocalServer[] = [];
  const connections: Connection[] = [];

  beforeAll(quietTemporal);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lethe-server-'));
  });

  afterEach(async () => {
    await Promise.all(connections.splice(0).map((connection) => connection.close()));
    await Promise.all(servers.splice(0).map((server) => server.stop()));
    await rm(directory, { recursive: true, force: true });
  });

  async function start(): Promise<{ server: LocalServer; connection: Connection; client: Client }> {
    const binary = await resolveTemporalBinary({ allowBuild: false });
    const server = await startLocalServer({ binary, dbFile: databaseFile(directory, binary) });
    servers.push(server);
    const connection = await Connection.connect({ address: server.address });
    connections.push(connection);
    return { server, connection, client: new Client({ connection, namespace: 'lethe' }) };
  }

  async function withWorker(server: LocalServer, run: () => Promise<void>): Promise<void> {
    const connection = await NativeConnection.connect({ address: server.address });
    const worker = await Worker.create({
      connection,
      namespace: 'lethe',
      taskQueue: 'tiny',
      workflowsPath: fileURLToPath(new URL('./support/tiny-workflow.ts', import.meta.url)),
    });
    await worker.runUntil(run);
    await connection.close();
  }

  async function until(holds: () => Promise<boolean>): Promise<void> {
    for (let i = 0; i < 100; i += 1) {
      if (await holds()) return;
      await new Promise((wake) => setTimeout(wake, 50));
    }
    throw new Error('did not come true within 5 s');
  }

  test('P23: state survives kill -9 and a restart on the same file', async () => {
    const before = await start();
    expect(await ensureNamespace(before.connection)).toEqual({ created: false, retentionDays: 30 });
    expect((await ensureSearchAttributes(before.connection)).added).toHaveLength(9);
    const ui = await fetch(before.server.uiUrl!);
    expect(ui.status).toBe(200);

    // The attributes are upserted in the first moment of the namespace, and the timer falls due while no server runs.
    await withWorker(before.server, async () => {
      await before.client.workflow.start('tinyWorkflow', { workflowId: 'tiny', taskQueue: 'tiny', args: [3_000] });
      await until(async () => (await before.client.workflow.count(`LetheStatus = 'waiting'`)).count === 1);
    });

    process.kill(before.server.pid, 'SIGKILL');
    expect(await before.server.exited).toEqual({ code: null, signal: 'SIGKILL' });

    const after = await start();
    expect(await ensureNamespace(after.connection)).toEqual({ created: false, retentionDays: 30 });
    expect(await ensureSearchAttributes(after.connection)).toEqual({ added: [] });
    const handle = after.client.workflow.getHandle('tiny');
    expect((await handle.describe()).status.name).toBe('RUNNING');
    expect((await after.client.workflow.count(`LetheStatus = 'waiting' and LetheDueAt is null`)).count).toBe(1);
    await withWorker(after.server, async () => {
      expect(await handle.result()).toBe('slept');
    });
    expect((await handle.describe()).typedSearchAttributes.get(LetheRound)).toBe(1);
  });

  test('a second server on the same file is refused while the first lives', async () => {
    const { server } = await start();
    await expect(start()).rejects.toThrow(DatabaseInUseError);
    await server.stop();
    await start();
  }, 40_000);

  test('a namespace of another name is made with its retention, once', async () => {
    const { connection } = await start();
    const wanted = { namespace: 'other', retentionDays: 40 };
    expect(await ensureNamespace(connection, wanted)).toEqual({ created: true, retentionDays: 40 });
    expect(await ensureNamespace(connection, { ...wanted, retentionDays: 30 })).toEqual({
      created: false,
      retentionDays: 40,
    });
    expect((await ensureSearchAttributes(connection, 'other')).added).toHaveLength(9);
  });

  test('a server that cannot start says why', async () => {
    const { server } = await start();
    const binary = await resolveTemporalBinary({ allowBuild: false });
    const port = Number(server.address.split(':')[1]);
    const failure: unknown = await startLocalServer({ binary, dbFile: null, port }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(LocalServerError);
    expect(String(failure)).toContain(`cannot use port ${port}`);

    const logLevel = 'shouting' as 'error';
    const refused: unknown = await startLocalServer({ binary, dbFile: null, logLevel }).catch(
      (error: unknown) => error,
    );
    expect(refused).toBeInstanceOf(LocalServerError);
    expect(String(refused)).toMatch(/ended at once \(exit code 1\).*shouting/s);
  });

  test('the server does not outlive the process that started it, not even one that is killed', async () => {
    const code = `
      import { resolveTemporalBinary, startLocalServer } from ${JSON.stringify(
        new URL('../src/temporal/server.ts', import.meta.url).href,
      )};
      const binary = await resolveTemporalBinary({ allowBuild: false });
      const server = await startLocalServer({ binary, dbFile: null, headless: true });
      process.stdout.write(String(server.pid));`;
    const parent = spawn(process.execPath, ['--input-type=module-typescript', '-e', code], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [output] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(output.toString());
    const lives = (): boolean => {
      try {
        return process.kill(pid, 0);
      } catch {
        return false;
      }
    };
    expect(lives()).toBe(true);
    parent.kill('SIGKILL');
    await until(() => Promise.resolve(!lives()));
  });
});
