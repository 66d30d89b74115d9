import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { newApp } from '../common/http.ts';
import type { Json } from '../common/json.ts';
import { attachmentRoutes } from './attachments.ts';
import { controlRoutes } from './control.ts';
import type { BraintrustHabits } from './habits.ts';
import { serviceOf } from './http.ts';
import type { Ledger } from './ledger.ts';
import { appRoutes, objectRoutes, removeProject } from './objects.ts';
import { readRoutes } from './reads.ts';
import {
  seed,
  seedPeople,
  type SeededPerson,
  type SeededTrace,
  type SeedPeopleRequest,
  type SeedRequest,
} from './seed.ts';
import type { Automation, Container, Organisation, Project } from './state.ts';
import { Truth } from './truth.ts';
import { World, type BraintrustSimulatorOptions } from './world.ts';
import { writeRoutes } from './writes.ts';

export type { BraintrustHabits } from './habits.ts';
export type { SeededPerson, SeededTrace } from './seed.ts';
export type { BraintrustSimulatorOptions } from './world.ts';
/** @public */
export type { LedgerEntry, NamedRows } from './ledger.ts';
/** @public */
export type { LiveTrace, Orphans, Person, TruthRow } from './truth.ts';
/** @public */
export type { Deletion, Submission } from './world.ts';

/** A running simulator. */
export interface BraintrustSimulator {
  /** The application's address, `http://127.0.0.1:<port>`: what the SDK takes as `appUrl`. */
  readonly url: string;
  /** The data plane's address, which the login answer names; the same as `url` unless set apart. */
  readonly apiUrl: string;
  readonly port: number;
  readonly apiPort: number;
  /** The first accepted key. */
  readonly apiKey: string;
  /** The first organisation. */
  readonly organisation: Organisation;
  readonly ledger: Ledger;
  readonly truth: Truth;
  /** Bad habits, changed at run time; all off at the start. */
  readonly habits: {
    readonly current: Readonly<BraintrustHabits>;
    /** Changes some and leaves the others; counts of those named start over. */
    set(changes: Partial<BraintrustHabits>): void;
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
  /** In the first organisation, or the one named. A second project of a living one's name is possible here. */
  createProject(fields: { readonly name: string; readonly organisation?: string; readonly settings?: Json }): Project;
  /** The living project of that name in the first organisation. @throws RangeError when there is none. */
  project(name: string): Project;
  /** The project and everything in it answer 403 from now on; the truth counts the removal as asked for. */
  deleteProject(name: string): void;
  renameProject(name: string, to: string): void;
  /** Deletes the project and makes an empty one of the same name under a new id. */
  recreateProject(name: string): Project;
  /** An experiment, dataset or playground of that project. */
  createContainer(project: string, type: Container['type'], name: string): Container;
  /** What `GET /v1/project_automation` lists; `config` as the vendor has it, `event_type` first of all. */
  addAutomation(project: string, name: string, config: Json): Automation;
  /** The newest transaction in a project's logs, `0` when there is none. */
  newestXact(project: string): string;
  close(): Promise<void>;
}

async function listen(app: FastifyInstance, port: number): Promise<number> {
  await app.listen({ host: '127.0.0.1', port });
  return (app.server.address() as AddressInfo).port;
}

/**
 * Starts a simulated Braintrust on 127.0.0.1 that the official SDK logs into, writes to and reads from.
 *
 * Rows are versioned; a delete is a tombstone on a row id, and everything else of the trace stays. No timer runs: what
 * is due (late rows of the habits) is done before each request and each look at the truth.
 *
 * @throws Error when the port is taken.
 */
export async function startBraintrustSimulator(options: BraintrustSimulatorOptions = {}): Promise<BraintrustSimulator> {
  const world = new World(options);
  const truth = new Truth(world);
  const app = newApp(serviceOf(world));
  const api = options.dataPlane === 'separate' ? newApp(serviceOf(world)) : app;

  const projectNamed = (name: string): Project => {
    const project = world.state.projectByName(world.home.id, name, world.tick());
    if (project === null) throw new RangeError(`no project named ${name}`);
    return project;
  };
  const start: Omit<BraintrustSimulator, 'url' | 'apiUrl' | 'port' | 'apiPort'> = {
    apiKey: world.apiKeys[0]?.key ?? '',
    organisation: world.home,
    ledger: world.ledger,
    truth,
    // What was due before a switch is done under the habits of its time.
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
    createProject: ({ name, organisation, settings }) => {
      const org = organisation === undefined ? world.home : world.organisation(organisation);
      const project = world.state.addProject(org.id, name, world.tick());
      project.settings = settings ?? {};
      return project;
    },
    project: projectNamed,
    deleteProject: (name) => {
      removeProject(world, projectNamed(name), true);
    },
    renameProject: (name, to) => {
      projectNamed(name).name = to;
    },
    recreateProject: (name) => {
      removeProject(world, projectNamed(name), true);
      return world.state.addProject(world.home.id, name, world.now());
    },
    createContainer: (project, type, name) =>
      world.state.addContainer(type, projectNamed(project).id, name, {}, world.now()),
    addAutomation: (project, name, config) => {
      const one = {
        id: world.random.uuid4(),
        projectId: projectNamed(project).id,
        name,
        config,
        createdMs: world.now(),
      };
      world.state.automations.set(one.id, one);
      return one;
    },
    newestXact: (project) =>
      world.state.rowsIn({ objectType: 'project_logs', objectId: projectNamed(project).id }).xactAt(Infinity),
    close: async () => {
      await Promise.all([...new Set([app, api])].map((one) => one.close()));
    },
  };

  appRoutes(app, world);
  objectRoutes(api, world);
  readRoutes(api, world);
  writeRoutes(api, world);
  attachmentRoutes(api, world);
  controlRoutes(app, world, start);
  const port = await listen(app, options.port ?? 0);
  const apiPort = api === app ? port : await listen(api, 0);
  world.apiUrl = `http://127.0.0.1:${apiPort}`;
  return { ...start, url: `http://127.0.0.1:${port}`, apiUrl: world.apiUrl, port, apiPort };
}
