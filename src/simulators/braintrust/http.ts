import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { HabitTarget, RouteFamily } from '../common/habits.ts';
import { ApiError, bodyOf, header, queryOf, serveRoute, type Answer, type Service } from '../common/http.ts';
import { isUuid } from '../common/ids.ts';
import { record, type Json } from '../common/json.ts';
import type { LedgerEntry } from './ledger.ts';
import type { Organisation } from './state.ts';
import type { ApiKey, World } from './world.ts';

/** Bytes one request may carry: what the SDK caps its writes at. */
const BODY_LIMIT_BYTES = 6 * 1024 * 1024;
const MINUTE_MS = 60_000;

/** One route. */
export interface RouteSpec {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Parameters as `:id`. */
  readonly path: string;
  readonly family: RouteFamily;
  /** Which limit it falls under. */
  readonly limit?: 'btql' | 'control';
  /** Needs no key: signed addresses of the object store. */
  readonly open?: boolean;
}

/** What a handler gets. */
export interface Call {
  readonly world: World;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: Buffer;
  /** Virtual instant of the request. */
  readonly nowMs: number;
  readonly key: ApiKey;
  readonly organisation: Organisation;
  readonly route: string;
  readonly entry: LedgerEntry;
  /** The parsed JSON body. @throws ApiError 400 when it is no object. */
  json(): Json;
}

export type Handler = (call: Call) => Answer | Promise<Answer>;

const TEXT = { 'content-type': 'text/plain; charset=utf-8' };

/** An error as the vendor answers it: plain text. */
export function refuse(status: number, text: string, headers: Readonly<Record<string, string>> = {}): ApiError {
  return new ApiError(status, text, { ...TEXT, ...headers });
}

/** The id in the path. @throws ApiError 400 when it is no UUID: names are rejected. */
export function idParam(call: Call): string {
  const id = call.params['id'] ?? '';
  if (!isUuid(id)) throw refuse(400, 'invalid id: expected a UUID');
  return id.toLowerCase();
}

function tooMany(retryAfter: number | null): Answer {
  const headers = retryAfter === null ? TEXT : { ...TEXT, 'retry-after': String(retryAfter) };
  return { status: 429, body: 'Too many requests', headers };
}

/** Where rows sit in answers. */
const ROW_FIELDS = new Set(['data', 'objects', 'events', 'org_info', 'freshness_state', 'realtime_state']);

/** What the shared route wrapper needs of this simulator. */
export function serviceOf(world: World): Service<LedgerEntry> {
  return {
    ledger: world.ledger,
    habits: world.habits,
    now: () => world.now(),
    tick: () => world.tick(),
    rowFields: ROW_FIELDS,
    requestIdHeader: 'x-bt-internal-trace-id',
    entry: (common) => ({
      ...common,
      shape: null,
      limit: null,
      objectIds: null,
      events: null,
      deletes: null,
      realtime: null,
      version: null,
    }),
    tooMany,
    serverError: (status) => ({ status, body: 'Internal server error', headers: TEXT }),
    notFound: () => ({ status: 404, body: 'Not found', headers: TEXT }),
  };
}

function authenticate(world: World, spec: RouteSpec, target: HabitTarget, request: FastifyRequest): ApiKey {
  const anonymous = { key: '', name: 'anonymous', organisations: [], reads: false, writes: false, deletes: false };
  if (spec.open === true) return anonymous;
  const given = /^Bearer (.+)$/i.exec(header(request, 'authorization') ?? '')?.[1];
  const { keyRevoked } = world.habits.current;
  if (given === undefined || keyRevoked === 401 || world.habits.refuses(target)) throw refuse(401, 'Unauthorized');
  if (keyRevoked !== false) throw refuse(403, 'Forbidden');
  const key = world.apiKeys.find((one) => one.key === given);
  if (key === undefined) throw refuse(401, 'Unauthorized');
  return key;
}

/** The organisation a request is about: the header's, else the key's first. @throws ApiError 403 for a foreign one. */
function organisationOf(world: World, key: ApiKey, request: FastifyRequest): Organisation {
  const name = header(request, 'x-bt-org-name');
  const organisation = name === null ? key.organisations[0] : key.organisations.find((one) => one.name === name);
  if (organisation === undefined && name !== null) throw refuse(403, 'Forbidden');
  return organisation ?? world.home;
}

function limited(call: Call, spec: RouteSpec): Answer | null {
  const { world, entry, nowMs } = call;
  const most = spec.limit === 'btql' ? (world.limits?.btqlPerMinute ?? 20) : world.limits?.controlPerMinute;
  if (world.limits === null || spec.limit === undefined || most === undefined) return null;
  const who = spec.limit === 'btql' ? call.organisation.id : call.key.key;
  const waitMs = world.rolling.take(`${spec.limit} ${who}`, most, MINUTE_MS, nowMs);
  if (waitMs === null) return null;
  entry.cause = `limit:${spec.limit}`;
  return tooMany(world.limits.retryAfter === false ? null : Math.ceil(waitMs / 1000));
}

function parse(body: Buffer): Json {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw refuse(400, 'Invalid JSON body');
  }
  const found = record(value);
  if (found === null) throw refuse(400, 'Body must be an object');
  return found;
}

/** Serves a route with ledger, keys, habits and limits around the handler. */
export function defineRoute(app: FastifyInstance, world: World, spec: RouteSpec, handler: Handler): void {
  const target = { family: spec.family, template: spec.path.replace(/:(\w+)/g, '{$1}') };
  serveRoute(app, serviceOf(world), {
    method: spec.method,
    urls: [spec.path],
    target,
    authenticate: (request, entry) => {
      const key = authenticate(world, spec, target, request);
      entry.apiKeyName = key.name;
      return key;
    },
    handle: (request, key, entry) => {
      const tooLarge = (status: 400 | 413): ApiError =>
        refuse(status, status === 413 ? 'Payload too large' : 'Bad body');
      const body = bodyOf(request, BODY_LIMIT_BYTES, tooLarge);
      const call: Call = {
        world,
        params: request.params as Record<string, string>,
        query: queryOf(request),
        body,
        nowMs: entry.atMs,
        key,
        organisation: organisationOf(world, key, request),
        route: target.template,
        entry,
        json: () => parse(body),
      };
      return limited(call, spec) ?? handler(call);
    },
  });
}

/** Whether the key sees the organisation. */
export function sees(call: Call, orgId: string): boolean {
  return call.key.organisations.some((one) => one.id === orgId);
}
