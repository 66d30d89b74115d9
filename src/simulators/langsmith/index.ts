import type { AddressInfo } from 'node:net';
import { newApp } from '../common/http.ts';
import { DAY_MS } from '../common/time.ts';
import { controlRoutes } from './control.ts';
import type { LangSmithHabits } from './habits.ts';
import { serviceOf } from './http.ts';
import { ingestRoutes } from './ingest.ts';
import type { Ledger } from './ledger.ts';
import { annotationRoutes } from './routes-annotations.ts';
import { datasetRoutes } from './routes-datasets.ts';
import { feedbackRoutes } from './routes-feedback.ts';
import { projectRoutes } from './routes-projects.ts';
import { runRoutes } from './routes-runs.ts';
import { shareRoutes } from './routes-shares.ts';
import {
  seed,
  seedPeople,
  type SeededPerson,
  type SeededTrace,
  type SeedPeopleRequest,
  type SeedRequest,
} from './seed.ts';
import type { Project, ProjectFields } from './state.ts';
import { nextBatchAfter } from './time.ts';
import { Truth } from './truth.ts';
import { World, type LangSmithSimulatorOptions } from './world.ts';

export type { LangSmithHabits } from './habits.ts';
export type { SeededPerson, SeededTrace } from './seed.ts';
export type { LangSmithSimulatorOptions } from './world.ts';
/** @public */
export type { Deletion } from './deletions.ts';
/** @public */
export type { LedgerEntry } from './ledger.ts';
/** @public */
export type { LiveTrace, Person } from './truth.ts';

/** A project to be made directly, past HTTP. */
export type NewProject = Omit<ProjectFields, 'tenantId'> & { readonly workspaceId?: string };

/** A running simulator. */
export interface LangSmithSimulator {
  /** Root address, `http://127.0.0.1:<port>`: what the SDK takes as `apiUrl`. */
  readonly url: string;
  readonly port: number;
  /** The first accepted key. */
  readonly apiKey: string;
  /** The first workspace. */
  readonly workspaceId: string;
  readonly ledger: Ledger;
  readonly truth: Truth;
  /** Bad habits, changed at run time; all off at the start. */
  readonly habits: {
    readonly current: Readonly<LangSmithHabits>;
    /** Changes some and leaves the others; counts of those named start over. */
    set(changes: Partial<LangSmithHabits>): void;
    /** Turns all off. */
    reset(): void;
  };
  /** The virtual instant, epoch milliseconds. */
  now(): number;
  /** The next instant (Saturday or Sunday 06:00 UTC) at which a batch is due. */
  nextBatch(): number;
  /**
   * Moves the virtual clock forward by `ms`, on top of its setting. Only for a simulator that nobody shares: a worker
   * computes its time from the setting alone and would disagree.
   */
  advance(ms: number): void;
  /** Moves the virtual clock past the next `weekends` complete weekends (to Monday 00:00 UTC). Same caution. */
  advanceWeekends(weekends: number): void;
  seed(request: SeedRequest): SeededTrace[];
  seedPeople(request: SeedPeopleRequest): SeededPerson[];
  createProject(fields: NewProject): Project;
  /** The living project of that name in the first workspace. @throws RangeError when there is none. */
  project(name: string): Project;
  /**
   * The project answers 404 from now on. Its runs go with the next batch, as after the API's own delete, or at once with
   * `cleanup: 'now'`; the truth counts their removal as asked for.
   */
  deleteProject(name: string, options?: { readonly cleanup?: 'now' | 'weekend' }): void;
  renameProject(name: string, to: string): void;
  /** Deletes the project and makes an empty one of the same name under a new id. */
  recreateProject(name: string, options?: { readonly cleanup?: 'now' | 'weekend' }): Project;
  /** What `GET /bulk-exports` of the first workspace lists. */
  addBulkExport(body: Record<string, unknown>): void;
  /** What `GET /runs/rules` of the first workspace lists. */
  addRule(body: Record<string, unknown>): void;
  close(): Promise<void>;
}

function projectNamed(world: World, name: string): Project {
  const project = world.state.projectByName(world.workspaces[0]?.id ?? '', name, world.tick());
  if (project === null) throw new RangeError(`no project named ${name}`);
  return project;
}

function deleteProject(world: World, name: string, cleanup: 'now' | 'weekend'): void {
  const project = projectNamed(world, name);
  project.goneMs = world.now();
  world.deletions.deletedByOperator(project.id);
  if (cleanup === 'now') world.deletions.removeProject(project.id, world.now());
}

/**
 * Starts a simulated LangSmith on 127.0.0.1 that the official SDK writes to and reads from.
 *
 * It speaks v1 and v2 of the API, accepts every well-formed deletion with 202, and executes what it accepted on
 * weekends only, UTC. No timer runs: due batches are executed before each request and each look at the truth.
 *
 * @throws Error when the port is taken.
 */
export async function startLangSmithSimulator(options: LangSmithSimulatorOptions = {}): Promise<LangSmithSimulator> {
  const world = new World(options);
  const truth = new Truth(world);
  const app = newApp(serviceOf(world));
  const home = world.workspaces[0]?.id ?? '';
  const start: Omit<LangSmithSimulator, 'url' | 'port'> = {
    apiKey: world.apiKeys[0]?.key ?? '',
    workspaceId: home,
    ledger: world.ledger,
    truth,
    // Batches that were due before a switch are run under the habits of their time.
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
    nextBatch: () => nextBatchAfter(world.now()),
    advance: (ms) => {
      world.advance(ms);
    },
    advanceWeekends: (weekends) => {
      for (let left = weekends; left > 0; left -= 1) {
        let batch = nextBatchAfter(world.now());
        if (new Date(batch).getUTCDay() === 6) batch += DAY_MS;
        world.advance(Math.floor(batch / DAY_MS) * DAY_MS + DAY_MS - world.now());
      }
    },
    seed: (request) => seed(world, request),
    seedPeople: (request) => seedPeople(world, request),
    createProject: ({ workspaceId, ...fields }) =>
      world.state.addProject({ ...fields, tenantId: workspaceId ?? home }, world.tick()),
    project: (name) => projectNamed(world, name),
    deleteProject: (name, { cleanup = 'weekend' } = {}) => {
      deleteProject(world, name, cleanup);
    },
    renameProject: (name, to) => {
      projectNamed(world, name).name = to;
    },
    recreateProject: (name, { cleanup = 'weekend' } = {}) => {
      deleteProject(world, name, cleanup);
      return world.state.addProject({ tenantId: home, name }, world.now());
    },
    addBulkExport: (body) => {
      world.copies.bulkExports.push({ tenantId: home, body });
    },
    addRule: (body) => {
      world.copies.rules.push({ tenantId: home, body });
    },
    close: () => app.close(),
  };

  ingestRoutes(app, world);
  runRoutes(app, world);
  projectRoutes(app, world);
  feedbackRoutes(app, world);
  datasetRoutes(app, world);
  annotationRoutes(app, world);
  shareRoutes(app, world);
  controlRoutes(app, world, start);
  await app.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  const { port } = app.server.address() as AddressInfo;
  return { ...start, url: `http://127.0.0.1:${port}`, port };
}
