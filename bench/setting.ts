import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { stringify } from 'yaml';
import { LetheClient } from '../src/client/client.ts';
import { parseConfig, type ConfigInput } from '../src/config/config.ts';
import type { ClockSetting } from '../src/erasure/clock.ts';
import type { Deletion, LedgerEntry, LiveTrace, SeededPerson } from '../src/simulators/langsmith/index.ts';
import {
  databaseFile,
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporalBinary,
  startLocalServer,
  type LocalServer,
} from '../src/temporal/server.ts';
import { costOf, forgetPeak, MeasuredProcess, type Cost, type Probe } from './process.ts';

const SIMULATOR = fileURLToPath(new URL('../src/simulators/langsmith/main.ts', import.meta.url));
const WORKER = fileURLToPath(new URL('../src/worker.ts', import.meta.url));

export const CONNECTION = 'langsmith-bench';
export const NAMESPACE = 'lethe';

/** Real time that starting and seeding take; `begin` waits for its end. */
const SET_UP_MS = 12_000;

interface SimulatorAddress {
  readonly url: string;
  readonly apiKey: string;
}

export interface SettingOptions {
  /** Virtual milliseconds per real one. */
  readonly speed: number;
  /** What the virtual clock shows when the work begins, epoch milliseconds. */
  readonly start: number;
  /** Of the Temporal server. */
  readonly dynamicConfig?: Readonly<Record<string, unknown>>;
}

/** What every process of a setting cost until now. */
export interface Costs {
  readonly worker: Cost;
  readonly server: Cost;
  readonly simulator: Cost;
}

/**
 * All that an erasure needs, each part in a process of its own: a Temporal server on a file, as `lethe dev` has it, a
 * simulated store, a worker. This process only asks and counts.
 */
export class Setting {
  readonly client: LetheClient;
  readonly clock: ClockSetting;
  readonly server: LocalServer;
  private readonly directory: string;
  private readonly simulator: MeasuredProcess;
  private readonly address: SimulatorAddress;
  readonly worker: MeasuredProcess;

  private constructor(parts: {
    client: LetheClient;
    clock: ClockSetting;
    server: LocalServer;
    directory: string;
    simulator: MeasuredProcess;
    address: SimulatorAddress;
    worker: MeasuredProcess;
  }) {
    this.client = parts.client;
    this.clock = parts.clock;
    this.server = parts.server;
    this.directory = parts.directory;
    this.simulator = parts.simulator;
    this.address = parts.address;
    this.worker = parts.worker;
  }

  static async start(options: SettingOptions): Promise<Setting> {
    const directory = await mkdtemp(join(tmpdir(), 'lethe-bench-'));
    const undo: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })];
    try {
      const binary = await resolveTemporalBinary();
      const server = await startLocalServer({
        binary,
        dbFile: databaseFile(directory, binary),
        headless: true,
        ...(options.dynamicConfig === undefined ? {} : { dynamicConfig: options.dynamicConfig }),
      });
      undo.unshift(() => server.stop());
      const connection = await Connection.connect({ address: server.address });
      await ensureNamespace(connection);
      await ensureSearchAttributes(connection);
      await connection.close();

      const clock: ClockSetting = { realMs: Date.now() + SET_UP_MS, virtualMs: options.start, speed: options.speed };
      const simulator = await MeasuredProcess.start(SIMULATOR, {
        args: ['--clock', JSON.stringify(clock)],
        isReady: (line) => line.startsWith('{'),
      });
      undo.unshift(() => simulator.stop());
      const address = JSON.parse(simulator.greeting) as SimulatorAddress;

      const input = configOf({ server, directory, clock, address });
      const config = join(directory, 'lethe.yaml');
      await writeFile(config, stringify(input));
      const worker = await MeasuredProcess.start(WORKER, {
        env: { LETHE_CONFIG: config, LETHE_LOG_LEVEL: 'info' },
        isReady: (line) => line.includes('serving '),
      });
      undo.unshift(() => worker.stop());
      const client = await LetheClient.connect({ config: parseConfig(input, { env: {} }) });
      return new Setting({ client, clock, server, directory, simulator, address, worker });
    } catch (error) {
      for (const one of undo) await one();
      throw error;
    }
  }

  /** The real instant of a virtual one. */
  realMs(virtualMs: number): number {
    return this.clock.realMs + (virtualMs - this.clock.virtualMs) / this.clock.speed;
  }

  /** Waits for the virtual start. From then on peaks count. */
  async begin(): Promise<void> {
    await sleep(Math.max(0, this.clock.realMs - Date.now()));
    this.worker.begin();
    this.simulator.begin();
    forgetPeak(this.server.pid);
  }

  costs(): Costs {
    return { worker: this.worker.cost(), server: costOf(this.server.pid), simulator: this.simulator.cost() };
  }

  async seed(request: {
    readonly people: readonly string[] | number;
    readonly tracesPerPerson: number;
    readonly runsPerTrace: number;
  }): Promise<readonly SeededPerson[]> {
    return this.post('seed-people', { project: 'chat', ...request });
  }

  ledger(): Promise<readonly LedgerEntry[]> {
    return this.get('ledger');
  }

  /**
   * Asserts by the store's own truth that exactly these traces are gone, that every other one is there, and that
   * nothing was deleted which no request had named.
   */
  async assertGone(gone: readonly string[], others: readonly string[]): Promise<void> {
    const live = await this.get<readonly LiveTrace[]>('truth/all');
    assert.deepEqual(live.map(({ traceId }) => traceId).sort(), [...others].sort(), 'who is left in the store');
    const deleted = await this.get<readonly Deletion[]>('truth/deleted');
    assert.deepEqual(deleted.map(({ traceId }) => traceId).sort(), [...gone].sort(), 'who was deleted');
    assert.deepEqual(await this.get('truth/unasked'), [], 'deleted without having been asked for');
  }

  /** Ends everything. @returns what the worker's probe saw. */
  async stop(): Promise<Probe | null> {
    await this.client.close();
    const probe = await this.worker.stop();
    await this.simulator.stop();
    await this.server.stop();
    await rm(this.directory, { recursive: true, force: true });
    return probe;
  }

  private async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.address.url}/_simulator/${path}`);
    return (await response.json()) as T;
  }

  private async post<T>(path: string, body: unknown): Promise<T> {
    const response = await fetch(`${this.address.url}/_simulator/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return (await response.json()) as T;
  }
}

function configOf(parts: {
  readonly server: LocalServer;
  readonly directory: string;
  readonly clock: ClockSetting;
  readonly address: SimulatorAddress;
}): ConfigInput {
  const { server, directory, clock, address } = parts;
  return {
    temporal: { address: server.address, namespace: NAMESPACE },
    state: join(directory, 'state'),
    keys: { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') },
    clock: {
      real: new Date(clock.realMs).toISOString(),
      virtual: new Date(clock.virtualMs).toISOString(),
      speed: clock.speed,
    },
    // Nobody is spread over the hours after a weekend: that would measure the spreading.
    policy: { expectedPeople: 1 },
    identifiers: ['user_id'],
    connections: {
      [CONNECTION]: {
        store: 'langsmith',
        baseUrl: address.url,
        apiKey: address.apiKey,
        identifiers: { user_id: ['metadata.user_id'] },
        accept: ['statistics', 'insights'],
      },
    },
  };
}
