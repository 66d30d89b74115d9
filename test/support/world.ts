import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LetheClient, type Erasure } from '../../src/client/client.ts';
import { parseConfig, type ConfigInput, type LetheConfig } from '../../src/config/config.ts';
import { virtualNow, type ClockSetting } from '../../src/erasure/clock.ts';
import type { EraseRequest } from '../../src/erasure/request.ts';
import type { RequestStatus } from '../../src/erasure/status.ts';
import type { RecordView } from '../../src/evidence/record.ts';
import { startLangSmithSimulator, type LangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import type { TraceStore } from '../../src/stores/port.ts';
import { createWorkers, type LetheWorkers } from '../../src/worker.ts';
import { createLogger } from '../../src/log.ts';
import { sharedBundle } from './bundle.ts';
import { sharedServer, uniqueTaskQueue } from './temporal.ts';

/** Fixed, so that golden histories stay readable. Protects nothing but test data. */
export const VAULT_KEY = '8899aabbccddeeff00112233445566778899aabbccddeeff0011223344556677';

/** Friday 27 November 2026, 20:00 UTC: the first weekend is four hours away. */
export const FRIDAY_EVENING = Date.UTC(2026, 10, 27, 20);

/** The only connection of most tests. */
export const CONNECTION = 'langsmith-prod';

/** A connection that a test brings along, ready to be used. */
export interface ReadyConnection {
  readonly store: TraceStore;
  /** Keys by kind of identifier. */
  readonly identifiers: Readonly<Record<string, string[]>>;
  readonly accept: readonly string[];
  close(): Promise<void>;
}

export interface WorldOptions {
  /** Virtual start, epoch milliseconds. Default: `FRIDAY_EVENING`. */
  readonly start?: number;
  /** Virtual milliseconds per real one. Default: 150,000, a week in 4 s. */
  readonly speed?: number;
  /** Changes to the config before it is checked. */
  readonly config?: (config: ConfigInput) => ConfigInput;
  /** Start a worker. Default: true. */
  readonly worker?: boolean;
  /** Real milliseconds that steps may take to finish when the worker is stopped. Default: 1000. */
  readonly graceMs?: number;
  /** Names of further connections, each with a simulator of its own. */
  readonly more?: readonly string[];
  /** The only connections of this world, instead of simulated LangSmiths: `sim` and `more` are not there then. */
  readonly ready?: (clock: ClockSetting) => Promise<Readonly<Record<string, ReadyConnection>>>;
}

/** Everything one test needs: a simulated store, a worker and a client, on the shared Temporal server. */
export class World {
  /** The stores of the further connections. */
  readonly more: ReadonlyMap<string, LangSmithSimulator>;
  readonly config: LetheConfig;
  readonly client: LetheClient;
  readonly clock: ClockSetting;
  readonly stateDir: string;
  private readonly ready: Readonly<Record<string, ReadyConnection>>;
  private readonly own: LangSmithSimulator | null;
  private readonly graceMs: number;
  private workers: { readonly workers: LetheWorkers; readonly done: Promise<void> } | null = null;

  private constructor(
    parts: Pick<World, 'more' | 'config' | 'client' | 'clock' | 'stateDir'> & {
      readonly sim: LangSmithSimulator | null;
      readonly ready: Readonly<Record<string, ReadyConnection>>;
      readonly graceMs: number;
    },
  ) {
    this.graceMs = parts.graceMs;
    this.own = parts.sim;
    this.ready = parts.ready;
    this.more = parts.more;
    this.config = parts.config;
    this.client = parts.client;
    this.clock = parts.clock;
    this.stateDir = parts.stateDir;
  }

  static async start(title: string, options: WorldOptions = {}): Promise<World> {
    const speed = options.speed ?? 150_000;
    const clock = { realMs: Date.now(), virtualMs: options.start ?? FRIDAY_EVENING, speed };
    const ready = (await options.ready?.(clock)) ?? {};
    const sim = options.ready === undefined ? await startLangSmithSimulator({ clock }) : null;
    const more = new Map<string, LangSmithSimulator>();
    for (const name of options.more ?? []) more.set(name, await startLangSmithSimulator({ clock }));
    const stateDir = await mkdtemp(join(tmpdir(), 'lethe-test-'));
    const { address, namespace } = sharedServer();
    const base: ConfigInput = {
      temporal: { address, namespace, taskQueue: uniqueTaskQueue(title) },
      state: stateDir,
      // Workflow ids follow from it: worlds that run side by side on one server must not share people.
      keys: { hmac: randomBytes(32).toString('hex'), vault: VAULT_KEY },
      clock: {
        real: new Date(clock.realMs).toISOString(),
        virtual: new Date(clock.virtualMs).toISOString(),
        speed,
      },
      identifiers: ['user_id', 'email'],
      connections: Object.fromEntries(
        [...(sim === null ? [] : [[CONNECTION, sim] as const]), ...more, ...Object.keys(ready).map(standIn)].map(
          ([name, { url, apiKey }]) => [
            name,
            {
              store: 'langsmith',
              baseUrl: url,
              apiKey,
              identifiers: { user_id: ['metadata.user_id'], email: ['metadata.email'] },
              accept: ['statistics', 'insights'],
            },
          ],
        ),
      ),
    };
    const parsed = parseConfig(options.config?.(base) ?? base);
    const config: LetheConfig = {
      ...parsed,
      connections: Object.fromEntries(
        Object.entries(parsed.connections).map(([name, connection]) => {
          const { identifiers, accept } = ready[name] ?? connection;
          return [name, { ...connection, identifiers, accept: [...accept] }];
        }),
      ),
    };
    const client = await LetheClient.connect({ config });
    const { graceMs = 1000 } = options;
    const world = new World({ sim, ready, more, config, client, clock, stateDir, graceMs });
    if (options.worker ?? true) await world.startWorker();
    return world;
  }

  /** The store of `CONNECTION`. @throws in a world of ready connections. */
  get sim(): LangSmithSimulator {
    if (this.own === null) throw new Error('this world has no LangSmith of its own');
    return this.own;
  }

  now(): number {
    return virtualNow(this.clock);
  }

  async startWorker(): Promise<void> {
    const workers = await createWorkers(this.config, {
      workflowBundle: await sharedBundle(),
      logger: createLogger('error'),
      shutdownGraceMs: this.graceMs,
      ensureSetup: false,
      stores: Object.fromEntries(Object.entries(this.ready).map(([name, { store }]) => [name, store])),
    });
    this.workers = { workers, done: workers.run() };
  }

  async stopWorker(): Promise<void> {
    if (this.workers === null) return;
    this.workers.workers.shutdown();
    await this.workers.done;
    this.workers = null;
  }

  /** Seeds people with three runs a trace; the first is the one to be erased in most tests. */
  seed(people: readonly string[], tracesPerPerson = 3, project = 'chat'): Map<string, readonly string[]> {
    // Before any request of this world, however much virtual time has passed since: they are no new activity.
    const to = this.clock.virtualMs;
    const seeded = this.sim.seedPeople({ project, people, tracesPerPerson, from: to - 30 * 86_400_000, to });
    return new Map(seeded.map(({ value, traceIds }) => [value, traceIds]));
  }

  erase(request: Partial<EraseRequest> = {}): Promise<Erasure> {
    return this.client.erase({ identifiers: [{ kind: 'user_id', value: 'u_42' }], ...request });
  }

  async eraseToEnd(request: Partial<EraseRequest> = {}): Promise<RequestStatus> {
    const erasure = await this.erase(request);
    return erasure.result();
  }

  /**
   * Polls the status until it fits. For states that last until the test goes on: one that passes by itself may come and go
   * between two looks.
   *
   * @param options.afterEnd whether it may still begin to fit once the request has ended. Default: no, it throws then.
   */
  async until(
    requestId: string,
    fits: (status: RequestStatus) => boolean,
    options: { readonly afterEnd?: boolean } = {},
  ): Promise<RequestStatus> {
    for (;;) {
      const status = await this.client.status(requestId);
      if (fits(status)) return status;
      if (status.endedAt !== null && options.afterEnd !== true) {
        throw new Error(`${requestId} ended, ${status.status}, without what was waited for`);
      }
      await sleep(25);
    }
  }

  async record(requestId: string): Promise<RecordView> {
    const view = await this.client.records.read(requestId);
    if (view === null) throw new Error(`no record of ${requestId}`);
    return view;
  }

  /** Live traces of a user id, whatever the API says. */
  liveTraces(userId: string): readonly string[] {
    return this.sim.truth.tracesOf([{ key: 'user_id', value: userId }]);
  }

  async close(): Promise<void> {
    await this.stopWorker();
    await this.client.close();
    if (this.own !== null) await this.own.close();
    for (const sim of this.more.values()) await sim.close();
    for (const connection of Object.values(this.ready)) await connection.close();
    await rm(this.stateDir, { recursive: true, force: true });
  }
}

/** What the config says of a ready connection: never opened, and only there because the config names all connections. */
function standIn(name: string): readonly [string, { readonly url: string; readonly apiKey: string }] {
  return [name, { url: 'http://127.0.0.1:1', apiKey: 'never-used' }];
}
