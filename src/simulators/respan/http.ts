import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { HabitTarget, RouteFamily } from '../common/habits.ts';
import { ApiError, bodyOf, header, queryOf, serveRoute, type Answer, type Service } from '../common/http.ts';
import { record, type Json } from '../common/json.ts';
import { DAY_MS, HOUR_MS, parseTime } from '../common/time.ts';
import { compileFilters, FilterError, type CompiledFilter } from './filter.ts';
import type { LedgerEntry } from './ledger.ts';
import type { TimeWindow } from './query.ts';
import { ENVIRONMENTS, type Environment } from './rows.ts';
import type { ApiKey, World } from './world.ts';

const BODY_LIMIT_BYTES = 20 * 1024 * 1024;
const MINUTE_MS = 60_000;
const PAGE_SIZE = 50;
const MOST_PER_PAGE = 1000;

/** One route. */
export interface RouteSpec {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Full path, parameters as `:id`, trailing slash included where the service wants one. */
  readonly path: string;
  readonly family: RouteFamily;
  /** Which limit counts it; ingest has none. */
  readonly limit: 'organisation' | 'request-logs' | 'none';
  /** Needs no key. */
  readonly open?: boolean;
}

/** What a handler gets. */
export interface Call {
  readonly world: World;
  readonly target: HabitTarget;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly contentType: string;
  readonly body: Buffer;
  /** Address without query, for links to other pages. */
  readonly address: string;
  /** Virtual instant of the request. */
  readonly nowMs: number;
  /** The instant whose state reads show: `nowMs`, or earlier under `stale`. */
  readonly atMs: number;
  readonly key: ApiKey;
  readonly entry: LedgerEntry;
  /** The parsed JSON body; an empty one is an empty object. @throws ApiError 400 when it is no JSON. */
  json(): unknown;
}

export type Handler = (call: Call) => Answer | Promise<Answer>;

/** `{"detail": "..."}`. */
export function detail(status: number, text: string): ApiError {
  return new ApiError(status, { detail: text });
}

/** `{"error": "..."}`, as the bulk delete answers. */
export function error(status: number, text: string, more: Json = {}): ApiError {
  return new ApiError(status, { error: text, ...more });
}

function tooMany(seconds: number, withHeader: boolean): Answer {
  const text = `Request was throttled. Expected available in ${seconds} seconds.`;
  const headers: Record<string, string> = withHeader ? { 'retry-after': String(seconds) } : {};
  return { status: 429, body: { detail: text, retry_after: seconds }, headers };
}

function authenticate(world: World, spec: RouteSpec, request: FastifyRequest): ApiKey {
  if (spec.open === true) return { key: '', name: 'anonymous', environment: 'prod' };
  const given = header(request, 'authorization');
  if (given === null) throw detail(401, 'Authentication credentials were not provided.');
  const { keyRevoked } = world.habits.current;
  const key = world.apiKeys.find((one) => `Bearer ${one.key}` === given);
  if (keyRevoked === 403 || keyRevoked === true)
    throw detail(403, 'You do not have permission to perform this action.');
  if (key === undefined || keyRevoked === 401) {
    throw detail(401, 'Your API key is invalid or expired, please check your API key and try again.');
  }
  return key;
}

function limited({ world, key, nowMs, entry }: Call, spec: RouteSpec): Answer | null {
  const options = world.limitOptions;
  if (options === null || key.key === '' || spec.limit === 'none') return null;
  const perMinute = spec.limit === 'organisation' ? options.perMinute : options.requestLogsPerMinute;
  if (perMinute === null) return null;
  const waitMs = world.limits.take(spec.limit, perMinute, MINUTE_MS, nowMs);
  if (waitMs === null) return null;
  entry.cause = `limit:${spec.limit}`;
  return tooMany(Math.ceil(waitMs / 1000), options.retryAfterHeader);
}

/** What the shared route wrapper needs of this simulator. */
export function serviceOf(world: World): Service<LedgerEntry> {
  return {
    ledger: world.ledger,
    habits: world.habits,
    now: () => world.now(),
    tick: () => world.tick(),
    rowFields: new Set(['results', 'span_tree', 'children']),
    requestIdHeader: 'x-request-id',
    entry: (common) => ({ ...common, environment: null, window: null, dropped: [], matched: null }),
    tooMany: (retryAfter) => tooMany(retryAfter ?? 30, retryAfter !== null),
    serverError: (status) => ({ status, body: { detail: 'Internal server error' } }),
    notFound: () => ({ status: 404, body: { detail: 'Not found.' } }),
  };
}

/** Serves a route with ledger, keys, habits and limits around the handler. */
export function defineRoute(app: FastifyInstance, world: World, spec: RouteSpec, handler: Handler): void {
  const target = { family: spec.family, template: spec.path.replace(/:(\w+)/g, '{$1}') };
  serveRoute(app, serviceOf(world), {
    method: spec.method,
    urls: [spec.path],
    target,
    authenticate: (request, entry) => {
      const key = authenticate(world, spec, request);
      entry.apiKeyName = key.name;
      return key;
    },
    handle: (request, key, entry) => {
      const body = bodyOf(request, BODY_LIMIT_BYTES, (status) => detail(status, 'Unreadable body.'));
      const query = queryOf(request);
      const nowMs = entry.atMs;
      entry.environment = query.get('environment');
      const call: Call = {
        world,
        target,
        params: request.params as Record<string, string>,
        query,
        contentType: header(request, 'content-type') ?? '',
        body,
        address: `http://${header(request, 'host') ?? '127.0.0.1'}${request.url.split('?')[0] ?? ''}`,
        nowMs,
        atMs: nowMs - world.habits.current.stale,
        key,
        entry,
        json: () => {
          if (body.length === 0) return {};
          try {
            return JSON.parse(body.toString('utf8')) as unknown;
          } catch {
            throw detail(400, 'JSON parse error');
          }
        },
      };
      return limited(call, spec) ?? handler(call);
    },
  });
}

/** Body as an object; anything else counts as an empty one. */
export function jsonBody(call: Call): Json {
  return record(call.json()) ?? {};
}

const ALIASES: Readonly<Record<string, Environment>> = { production: 'prod', staging: 'stage' };

/** The environment that a call names by its backend name, or leaves to its key; `null` when it names an unknown one. */
export function addressedEnvironment({ world, query, key }: Call): Environment | null {
  const given = query.get('environment');
  if (given === null || given === '') return key.environment;
  const alias = world.habits.current.environmentAliases === 'aliases' ? ALIASES[given] : undefined;
  return alias ?? ENVIRONMENTS.find((one) => one === given) ?? null;
}

/**
 * The environments that a call is about. A name that the backend doesn't know yields none, which looks like an empty
 * store; an omitted one is the key's own.
 */
export function environmentsOf(call: Call): readonly Environment[] {
  const { environmentsIgnored, environmentOmitted } = call.world.habits.current;
  if (environmentsIgnored) return ENVIRONMENTS;
  if ((call.query.get('environment') ?? '') === '' && environmentOmitted === 'all') return ENVIRONMENTS;
  const addressed = addressedEnvironment(call);
  return addressed === null ? [] : [addressed];
}

/** The same for request logs, where `is_test` and, after it, `all_envs` speak when no environment is named. */
export function logEnvironmentsOf(call: Call): readonly Environment[] {
  const { query, world } = call;
  if ((query.get('environment') ?? '') !== '' || world.habits.current.environmentsIgnored) return environmentsOf(call);
  const isTest = query.get('is_test')?.toLowerCase();
  if (isTest === 'true') return ['test'];
  if (isTest === 'false') return ['prod'];
  return query.get('all_envs')?.toLowerCase() === 'true' ? ENVIRONMENTS : environmentsOf(call);
}

/**
 * The window of a call: the last hour unless the query says otherwise. Noted in the ledger.
 *
 * @throws ApiError 400 when a bound is no time.
 */
export function windowOf({ world, query, nowMs, entry }: Call): TimeWindow {
  const { windowIgnored, windowAtMostDays } = world.habits.current;
  const bound = (name: string): number | null => {
    const given = query.get(name);
    if (given === null || given === '') return null;
    const ms = parseTime(given);
    if (ms === null) throw detail(400, `Invalid ${name}.`);
    return ms;
  };
  const endMs = bound('end_time') ?? nowMs;
  const asked = bound('start_time') ?? endMs - HOUR_MS;
  const startMs = windowAtMostDays === null ? asked : Math.max(asked, nowMs - windowAtMostDays * DAY_MS);
  const window = windowIgnored ? { startMs: -Infinity, endMs: Infinity } : { startMs, endMs };
  entry.window = window;
  return window;
}

/** Compiles the body's filters; notes the trace ids they name and the keys they lose. @throws ApiError 400. */
export function filterOf<T>(
  call: Call,
  dialect: Parameters<typeof compileFilters<T>>[0],
  equals: readonly string[] = [],
): CompiledFilter<T> {
  const { filters, operator } = jsonBody(call);
  const context = { habits: call.world.habits, target: call.target, equals };
  try {
    const filter = compileFilters(dialect, filters, operator, context);
    call.entry.dropped = filter.dropped;
    if (filter.traceIds.length > 0) call.entry.ids = filter.traceIds;
    return filter;
  } catch (failure) {
    if (failure instanceof FilterError) throw error(400, failure.message);
    throw failure;
  }
}

function numberParam(query: URLSearchParams, name: string, fallback: number, most: number): number {
  const value = Number(query.get(name) ?? fallback);
  return Number.isInteger(value) && value >= 1 ? Math.min(value, most) : fallback;
}

/**
 * One page of what matches now, in the envelope of every list. Pages are offsets: when rows vanish, later pages shift.
 */
export function pageOf<T>(call: Call, rows: readonly T[], render: (row: T) => unknown): Answer {
  const { query, world, entry, address } = call;
  const { shiftingPages, count } = world.habits.current;
  const page = numberParam(query, 'page', 1, Number.MAX_SAFE_INTEGER);
  const size = numberParam(query, 'page_size', PAGE_SIZE, MOST_PER_PAGE);
  const offset = Math.max(0, (page - 1) * (size + (shiftingPages?.by ?? 0)));
  const results = rows.slice(offset, offset + size).map(render);
  entry.matched = rows.length;
  const link = (number: number): string => {
    const next = new URLSearchParams(query);
    next.set('page', String(number));
    return `${address}?${next.toString()}`;
  };
  return {
    status: 200,
    body: {
      count: count === 'page' ? results.length : rows.length,
      next: offset + size < rows.length ? link(page + 1) : null,
      previous: page > 1 ? link(page - 1) : null,
      results,
    },
  };
}

/** Sorts by `sort_by` (`-` in front: descending), by `-timestamp` when it names no known field. */
export function sorted<T>(
  call: Call,
  rows: readonly T[],
  fields: Readonly<Record<string, (row: T) => number | string>>,
  tie: (row: T) => number | string,
  fallback = '-timestamp',
): T[] {
  const given = call.query.get('sort_by') ?? fallback;
  const name = given.replace(/^-/, '') in fields ? given : fallback;
  const sign = name.startsWith('-') ? -1 : 1;
  const value = fields[name.replace(/^-/, '')] ?? tie;
  const order = (left: number | string, right: number | string): number => (left < right ? -1 : left > right ? 1 : 0);
  return [...rows].sort((left, right) => sign * (order(value(left), value(right)) || order(tie(left), tie(right))));
}
