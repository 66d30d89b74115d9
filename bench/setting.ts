import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { stringify } from 'yaml';
import { LetheClient } from '../src/client/client.ts';
import { parseConfig, type ConfigInput } from '../src/config/config.ts';
import type { ClockSetting } from '../src/erasure/clock.ts';
import {
  databaseFile,
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporalBinary,
  startLocalServer,
  type LocalServer,
} from '../src/temporal/server.ts';
import { costOf, forgetPeak, MeasuredProcess, pinTo, type Cost, type Probe } from './process.ts';
import {
  STORES,
  type BenchStore,
  type Entry,
  type SeedRequest,
  type SimulatorAddress,
  type StoreName,
} from './stores.ts';

const WORKER = fileURLToPath(new URL('../src/worker.ts', import.meta.url));

const CONNECTION = 'bench';
export const NAMESPACE = 'lethe';

/** Real time that starting and seeding take; `begin` waits for its end. */
const SET_UP_MS = 12_000;

/** A person whose traces were seeded. */
export interface SeededPerson {
  readonly value: string;
  readonly traceIds: readonly string[];
}

export interface SettingOptions {
  readonly store: StoreName;
  /** Virtual milliseconds per real one. */
  readonly speed: number;
  /** What the virtual clock shows when the work begins, epoch milliseconds. */
  readonly start: number;
  /** Of the Temporal server. */
  readonly dynamicConfig?: Readonly<Record<string, unknown>>;
  /**
   * People expected to wait for the same window, as in the config.
   *
   * @default 1: nobody is spread over time, which would measure the spreading.
   */
  readonly expectedPeople?: number;
  /** What the connection says besides what it always says. */
  readonly connection?: object;
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
  readonly store: BenchStore;
  readonly client: LetheClient;
  readonly clock: ClockSetting;
  readonly server: LocalServer;
  private readonly directory: string;
  private readonly simulator: MeasuredProcess;
  private readonly address: SimulatorAddress;
  readonly worker: MeasuredProcess;

  private constructor(parts: {
    store: BenchStore;
    client: LetheClient;
    clock: ClockSetting;
    server: LocalServer;
    directory: string;
    simulator: MeasuredProcess;
    address: SimulatorAddress;
    worker: MeasuredProcess;
  }) {
    this.store = parts.store;
    this.client = parts.client;
    this.clock = parts.clock;
    this.server = parts.server;
    this.directory = parts.directory;
    this.simulator = parts.simulator;
    this.address = parts.address;
    this.worker = parts.worker;
  }

  static async start(options: SettingOptions): Promise<Setting> {
    const store = STORES[options.store];
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
      const simulator = await MeasuredProcess.start(store.simulator, {
        args: ['--clock', JSON.stringify(clock)],
        isReady: (line) => line.startsWith('{'),
      });
      undo.unshift(() => simulator.stop());
      const address = JSON.parse(simulator.greeting) as SimulatorAddress;

      const input = configOf({
        server,
        directory,
        clock,
        expectedPeople: options.expectedPeople ?? 1,
        store,
        address,
        more: options.connection ?? {},
      });
      const config = join(directory, 'lethe.yaml');
      await writeFile(config, stringify(input));
      const worker = await MeasuredProcess.start(WORKER, {
        env: { LETHE_CONFIG: config, LETHE_LOG_LEVEL: 'info' },
        isReady: (line) => line.includes('serving '),
      });
      undo.unshift(() => worker.stop());
      const client = await LetheClient.connect({ config: parseConfig(input, { env: {} }) });
      return new Setting({ store, client, clock, server, directory, simulator, address, worker });
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

  /**
   * Gives the server a core of its own and the next one to everything else, as in production, where it has its machine:
   * what is compared then is what the engine can do, not who shares two cores with whom.
   *
   * @param others more processes for the second core.
   * @returns whether the system could; otherwise all share all cores.
   */
  separate(others: readonly MeasuredProcess[]): boolean {
    if (cpus().length < 2) return false;
    const rest = [process.pid, this.simulator.pid, this.worker.pid, ...others.map(({ pid }) => pid)];
    return pinTo(this.server.pid, '0') && rest.every((pid) => pinTo(pid, '1'));
  }

  seed(request: SeedRequest): Promise<readonly SeededPerson[]> {
    return this.post('seed-people', this.store.seed(request));
  }

  /** Every request that reached the store, in order of arrival. */
  ledger(): Promise<readonly Entry[]> {
    return this.get('ledger');
  }

  /**
   * Asserts by the store's own truth that exactly these traces are gone, that every other one is there, and that
   * nothing was deleted which no request had named.
   */
  async assertGone(gone: readonly string[], others: readonly string[]): Promise<void> {
    const live = await this.get<readonly { readonly traceId: string }[]>('truth/all');
    assert.deepEqual(live.map(({ traceId }) => traceId).sort(), [...others].sort(), 'who is left in the store');
    // One entry a trace, or one a row.
    const deleted = await this.get<readonly { readonly traceId: string }[]>('truth/deleted');
    const traces = [...new Set(deleted.map(({ traceId }) => traceId))];
    assert.deepEqual(traces.sort(), [...gone].sort(), 'who was deleted');
    for (const look of ['truth/unasked', ...this.store.mustBeEmpty]) {
      assert.deepEqual(await this.get(look), [], `${look}: deleted without having been asked for, or in part`);
    }
  }

  /** Ends everything. @returns what the worker's probe saw. */
  async stop(): Promise<Probe | null> {
    await this.client.close();
    const probe = await this.worker.stop();
    await this.simulator.stop();
    await this.server.stop();
    await rm(this.directory, { recursive: true, force: true });
    // The next server counts the cores that it may use.
    pinTo(process.pid, `0-${cpus().length - 1}`);
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
  readonly expectedPeople: number;
  readonly store: BenchStore;
  readonly address: SimulatorAddress;
  readonly more: object;
}): ConfigInput {
  const { server, directory, clock, expectedPeople, store, address, more } = parts;
  return {
    temporal: { address: server.address, namespace: NAMESPACE },
    state: join(directory, 'state'),
    keys: { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') },
    clock: {
      real: new Date(clock.realMs).toISOString(),
      virtual: new Date(clock.virtualMs).toISOString(),
      speed: clock.speed,
    },
    policy: { expectedPeople },
    identifiers: ['user_id'],
    connections: { [CONNECTION]: { ...store.connection(address), ...more } },
  };
}
