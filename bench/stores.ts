import { fileURLToPath } from 'node:url';
import type { ConfigInput } from '../src/config/config.ts';
import { MINUTE_MS } from '../src/erasure/rhythm.ts';
import { LIMITS_OF_CALLS } from '../src/stores/langsmith/traits.ts';
import type { RecordedRead } from '../src/evidence/record.ts';
import {
  leastOfBraintrust,
  leastOfLangSmith,
  leastOfRespan,
  scriptOfBraintrust,
  scriptOfLangSmith,
  scriptOfRespan,
  type Least,
  type Purpose,
  type ScriptCalls,
  type Task,
} from './least.ts';

export const STORE_NAMES = ['langsmith', 'braintrust', 'respan'] as const;
export type StoreName = (typeof STORE_NAMES)[number];

/** What a simulator's process says of itself when it is ready; each store says some of it. */
export interface SimulatorAddress {
  readonly url: string;
  readonly apiKey: string;
}

/** One request as any of the simulators kept it. */
export interface Entry {
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
  readonly method: string;
  readonly route: string;
  /** 0 when the connection was cut. */
  readonly status: number;
  /** Why it was refused, for instance `limit:btql`. */
  readonly cause: string | null;
  /** How a query weighs on the store's limits, where the store tells. */
  readonly shape?: string | null;
}

/** What is to be written before an erasure. */
export interface SeedRequest {
  /** Their identifiers, or how many others to make. */
  readonly people: readonly string[] | number;
  readonly tracesPerPerson: number;
  readonly runsPerTrace: number;
}

/** How the bench drives one store. */
export interface BenchStore {
  readonly name: StoreName;
  /** The simulator's program. */
  readonly simulator: string;
  connection(address: SimulatorAddress): ConfigInput['connections'][string];
  /**
   * For clocks so slow that the vendor's rhythm cannot be waited for: when to begin, and what else the connection says.
   * Null: it can.
   *
   * @param speed virtual milliseconds per real one.
   */
  brief(speed: number): { readonly start: number; readonly connection: object } | null;
  /** Body of the simulator's `seed-people`. */
  seed(request: SeedRequest): object;
  /** Looks at the truth that must be empty besides `unasked`. */
  readonly mustBeEmpty: readonly string[];
  /** What a request was for, where its route alone tells and no read in the record reports it. */
  purposeOf(call: Pick<Entry, 'method' | 'route'>): 'projects' | 'delete' | null;
  /** What a read of the record was for. */
  labelOf(read: RecordedRead): Purpose;
  least(task: Task): Least;
  /** What a plain script, which proves nothing, calls for each of the people. */
  script(task: Task): readonly ScriptCalls[];
  /** How long these calls take in real use because of the published limits alone, seconds. */
  pacedSeconds(calls: readonly Pick<Entry, 'route' | 'shape'>[]): number;
}

/** When the traces began: the weeks before the erasures, whatever a fast clock shows while they are written. */
const TRACED = { from: '2026-10-24T08:00:00Z', to: '2026-11-20T08:00:00Z' } as const;

function program(store: StoreName): string {
  return fileURLToPath(new URL(`../src/simulators/${store}/main.ts`, import.meta.url));
}

function byPurpose({ purpose }: RecordedRead): Purpose {
  if (purpose === 'lookup' || purpose === 'locate') return 'by id';
  return purpose;
}

/** A batch of the simulator: Saturday 28 November 2026, 06:00 UTC. */
const BATCH = Date.UTC(2026, 10, 28, 6);
/** How long the engine may take to bring a crowd as far as its deletes, real milliseconds. */
const MOST_PLANNING_MS = 100_000;

const langsmith: BenchStore = {
  name: 'langsmith',
  simulator: program('langsmith'),
  connection: ({ url, apiKey }) => ({
    store: 'langsmith',
    baseUrl: url,
    apiKey,
    identifiers: { user_id: ['metadata.user_id'] },
    accept: ['statistics', 'insights'],
  }),
  brief: (speed) => {
    // Everybody must be submitted before the batch, and be read after it.
    const leadMs = 20 * MINUTE_MS + speed * MOST_PLANNING_MS;
    const settle = `${Math.ceil(leadMs / MINUTE_MS) + 5} min`;
    return { start: BATCH - leadMs, connection: { rhythm: { kind: 'continuous', settle, spread: '10 min' } } };
  },
  seed: (request) => ({ project: 'chat', ...TRACED, ...request }),
  mustBeEmpty: [],
  purposeOf: ({ method, route }) => {
    if (route.includes('/runs/delete')) return 'delete';
    return method === 'GET' && route.includes('/sessions') ? 'projects' : null;
  },
  labelOf: (read) => {
    const purpose = byPurpose(read);
    if (purpose !== 'find' && purpose !== 'by id') return purpose;
    return read.route.includes('/api/v1/') ? `${purpose} v1` : `${purpose} v2`;
  },
  least: leastOfLangSmith,
  script: scriptOfLangSmith,
  pacedSeconds: (calls) => {
    const seconds = (count: number, { calls: most, perMs }: { calls: number; perMs: number }): number =>
      (count / most) * (perMs / 1000);
    const of = (...shapes: string[]): number => calls.filter(({ shape }) => shapes.includes(shape ?? '')).length;
    const wide = of('wide', 'text-wide');
    const narrow = of('narrow', 'text-narrow');
    const queries = Math.max(
      seconds(wide, LIMITS_OF_CALLS.wide),
      seconds(narrow, LIMITS_OF_CALLS.narrow),
      seconds(wide + narrow, LIMITS_OF_CALLS.gateway),
    );
    return Math.max(queries, seconds(calls.length - wide - narrow, LIMITS_OF_CALLS.rest));
  },
};

/** The connector's default, of about 20 that the vendor allows. */
const BTQL_PER_MINUTE = 15;

const braintrust: BenchStore = {
  name: 'braintrust',
  simulator: program('braintrust'),
  connection: ({ url, apiKey }) => ({
    store: 'braintrust',
    appUrl: url,
    apiKey,
    identifiers: { user_id: ['metadata.user_id'] },
    accept: ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'],
    btqlPerMinute: BTQL_PER_MINUTE,
  }),
  brief: () => null,
  seed: ({ people, tracesPerPerson, runsPerTrace }) => ({
    project: 'chat',
    ...TRACED,
    people,
    tracesPerPerson,
    spansPerTrace: runsPerTrace,
  }),
  mustBeEmpty: ['truth/orphans'],
  purposeOf: ({ route }) => {
    if (route.endsWith('/insert')) return 'delete';
    return route === '/v1/project' || route.endsWith('/login') ? 'projects' : null;
  },
  labelOf: byPurpose,
  least: leastOfBraintrust,
  script: scriptOfBraintrust,
  pacedSeconds: (calls) => (60 * calls.filter(({ route }) => route === '/btql').length) / BTQL_PER_MINUTE,
};

/** The connector's default, of the 60 that the vendor allows. */
const RESPAN_CALLS_PER_MINUTE = 50;

const respan: BenchStore = {
  name: 'respan',
  simulator: program('respan'),
  connection: ({ url, apiKey }) => ({
    store: 'respan',
    baseUrl: url,
    apiKey,
    environments: ['prod'],
    startDate: TRACED.from.slice(0, 10),
    identifiers: { user_id: ['customer_identifier'] },
    accept: ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'],
    callsPerMinute: RESPAN_CALLS_PER_MINUTE,
  }),
  brief: () => null,
  seed: ({ people, tracesPerPerson, runsPerTrace }) => ({
    ...TRACED,
    people,
    tracesPerPerson,
    spansPerTrace: runsPerTrace,
  }),
  mustBeEmpty: [],
  purposeOf: ({ method, route }) =>
    route.startsWith('/api/traces/') && (method === 'DELETE' || route.includes('bulk-delete')) ? 'delete' : null,
  labelOf: (read) => {
    const purpose = byPurpose(read);
    if (purpose !== 'find' && purpose !== 'by id') return purpose;
    return read.route.includes('/api/traces/') ? `${purpose} traces` : `${purpose} logs`;
  },
  least: leastOfRespan,
  script: scriptOfRespan,
  pacedSeconds: (calls) => (60 * calls.length) / RESPAN_CALLS_PER_MINUTE,
};

export const STORES: Readonly<Record<StoreName, BenchStore>> = { langsmith, braintrust, respan };
