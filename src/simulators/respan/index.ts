import type { AddressInfo } from 'node:net';
import { newApp } from '../common/http.ts';
import { controlRoutes } from './control.ts';
import type { Dataset, DatasetLog, Experiment, ExperimentLog, Testset } from './copies.ts';
import type { RespanHabits } from './habits.ts';
import { serviceOf } from './http.ts';
import { ingestRoutes } from './ingest.ts';
import type { Ledger } from './ledger.ts';
import { copyRoutes } from './routes-copies.ts';
import { logRoutes } from './routes-logs.ts';
import { traceRoutes } from './routes-traces.ts';
import { userRoutes } from './routes-users.ts';
import type { Environment, SpanRow } from './rows.ts';
import {
  seed,
  seedLog,
  seedPeople,
  type SeededLog,
  type SeededPerson,
  type SeededTrace,
  type SeedLogRequest,
  type SeedPeopleRequest,
  type SeedRequest,
} from './seed.ts';
import { Truth } from './truth.ts';
import { World, type RespanSimulatorOptions } from './world.ts';

export type { RespanHabits } from './habits.ts';
export type { Environment } from './rows.ts';
export type { SeededLog, SeededPerson, SeededTrace } from './seed.ts';
export type { RespanSimulatorOptions } from './world.ts';
/** @public */
export type { CustomerRecord } from './customers.ts';
/** @public */
export type { Deletion } from './deletions.ts';
/** @public */
export type { LedgerEntry } from './ledger.ts';
/** @public */
export type { LiveTrace, LooseLog, Person, PersonEntry, SubmissionState, Truth } from './truth.ts';

/** A running simulator. What stands for a project here is an environment. */
export interface RespanSimulator {
  /** Root address, `http://127.0.0.1:<port>`: what clients take as base URL, with or without `/api`. */
  readonly url: string;
  readonly port: number;
  /** The first accepted key; by default that of `prod`. */
  readonly apiKey: string;
  /** The first key of each environment that has one. */
  readonly apiKeys: Readonly<Partial<Record<Environment, string>>>;
  /** The organisation, as public links name it: `/api/<org>/traces/<trace>/`. */
  readonly org: string;
  readonly ledger: Ledger;
  readonly truth: Truth;
  /** Bad habits, changed at run time; all off at the start. */
  readonly habits: {
    readonly current: Readonly<RespanHabits>;
    /** Changes some and leaves the others; counts of those named start over. */
    set(changes: Partial<RespanHabits>): void;
    /** Turns all off. */
    reset(): void;
  };
  /** The virtual instant, epoch milliseconds. */
  now(): number;
  /**
   * Moves the virtual clock forward by `ms`, on top of its setting. Only for a simulator that nobody shares: a worker
   * computes its time from the setting alone and would disagree.
   */
  advance(ms: number): void;
  seed(request: SeedRequest): SeededTrace[];
  seedPeople(request: SeedPeopleRequest): SeededPerson[];
  /** A log that belongs to no trace. */
  seedLog(request: SeedLogRequest): SeededLog;
  createDataset(name: string): Dataset;
  /** Copies a log, by its unique id, into a dataset. @throws RangeError when there is none. */
  copyToDataset(dataset: Dataset, uniqueId: string): DatasetLog;
  createTestset(name: string, rows: readonly Readonly<Record<string, unknown>>[]): Testset;
  createExperiment(name: string, dataset?: Dataset): Experiment;
  /** Copies a log, by its unique id, into an experiment. @throws RangeError when there is none. */
  copyToExperiment(experiment: Experiment, uniqueId: string): ExperimentLog;
  /** Makes a public link of a trace. Default environment `prod`. */
  shareTrace(traceId: string, environment?: Environment): void;
  close(): Promise<void>;
}

function logWith(world: World, uniqueId: string): SpanRow {
  const row = world.state.byUniqueId(uniqueId);
  if (row === null) throw new RangeError('no log of that id');
  return row;
}

/**
 * Starts a simulated Respan on 127.0.0.1 that the vendor's npm client writes to.
 *
 * It behaves as the documents and the vendor's MCP server say; where they disagree or say nothing, a habit chooses.
 * Deletes are mutations that take effect a while after they were accepted. No timer runs: what is due happens before
 * each request and each look at the truth.
 *
 * @throws Error when the port is taken.
 */
export async function startRespanSimulator(options: RespanSimulatorOptions = {}): Promise<RespanSimulator> {
  const world = new World(options);
  const truth = new Truth(world);
  const app = newApp(serviceOf(world));
  const byEnvironment = [...world.apiKeys].reverse().map((one) => [one.environment, one.key] as const);
  const start: Omit<RespanSimulator, 'url' | 'port'> = {
    apiKey: world.apiKeys[0]?.key ?? '',
    apiKeys: Object.fromEntries(byEnvironment),
    org: world.org,
    ledger: world.ledger,
    truth,
    // What was due before a switch happens under the habits of its time.
    habits: {
      get current() {
        return world.habits.current;
      },
      set: (changes) => {
        world.tick();
        world.habits.set(changes);
      },
      reset: () => {
        world.tick();
        world.habits.reset();
      },
    },
    now: () => world.now(),
    advance: (ms) => {
      world.advance(ms);
    },
    seed: (request) => seed(world, request),
    seedPeople: (request) => seedPeople(world, request),
    seedLog: (request) => seedLog(world, request),
    createDataset: (name) => world.copies.addDataset(name),
    copyToDataset: (dataset, uniqueId) => world.copies.copyToDataset(dataset, logWith(world, uniqueId)),
    createTestset: (name, rows) => world.copies.addTestset(name, rows),
    createExperiment: (name, dataset) => world.copies.addExperiment(name, dataset?.id ?? null),
    copyToExperiment: (experiment, uniqueId) => world.copies.copyToExperiment(experiment, logWith(world, uniqueId)),
    shareTrace: (traceId, environment = 'prod') => {
      world.copies.share(environment, traceId);
    },
    close: () => app.close(),
  };

  ingestRoutes(app, world);
  traceRoutes(app, world);
  logRoutes(app, world);
  userRoutes(app, world);
  copyRoutes(app, world);
  controlRoutes(app, world, start);
  await app.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  const { port } = app.server.address() as AddressInfo;
  return { ...start, url: `http://127.0.0.1:${port}`, port };
}
