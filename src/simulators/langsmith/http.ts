import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { HabitTarget, RouteFamily } from '../common/habits.ts';
import { ApiError, bodyOf, header, queryOf, serveRoute, type Answer, type Service } from '../common/http.ts';
import type { LedgerEntry, LimitClass, QueryShape } from './ledger.ts';
import type { View } from './rows.ts';
import type { ApiKey, World } from './world.ts';

/** Uncompressed bytes one request may carry; the service tells the same number in `/info`. */
export const BODY_LIMIT_BYTES = 20 * 1024 * 1024;
const SUNSET = 'Sun, 31 Jan 2027 00:00:00 GMT';

/** One route, on all the paths under which the service answers it. */
export interface RouteSpec {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path without prefix, parameters as `:id`. */
  readonly path: string;
  /** v1 answers on `/x` and `/api/v1/x`, v2 on `/v2/x` and `/api/v2/x`, platform on `/v1/platform/x` and `/api/v1/platform/x`. */
  readonly base: 'v1' | 'v2' | 'platform';
  readonly family: RouteFamily;
  /** Which store answers; `null` when neither view is asked. */
  readonly view?: View;
  readonly limit?: LimitClass;
  /** Ends on 31 January 2027: carries Deprecation and Sunset, and is what `v1Gone` removes. */
  readonly deprecated?: boolean;
  readonly open?: boolean;
  /** How the query weighs, for the limits. */
  readonly shape?: (call: Call) => QueryShape | null;
}

/** What a handler gets. */
export interface Call {
  readonly world: World;
  readonly spec: RouteSpec;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly contentType: string;
  readonly body: Buffer;
  /** Virtual instant of the request. */
  readonly nowMs: number;
  /** The instant whose state reads show: `nowMs`, or earlier under `stale`. */
  readonly atMs: number;
  readonly key: ApiKey;
  readonly tenantId: string;
  readonly entry: LedgerEntry;
  /** The parsed JSON body. @throws ApiError 422 or 400 when it is none. */
  json(): unknown;
}

export type Handler = (call: Call) => Answer | Promise<Answer>;

/** Python side: `{"detail": "..."}`. */
export function detail(status: number, text: string): ApiError {
  return new ApiError(status, { detail: text });
}

/** Python side, 422: `{"detail": [{loc, msg, type}]}`. */
export function unprocessable(loc: readonly (string | number)[], msg: string, type: string): ApiError {
  return new ApiError(422, { detail: [{ loc, msg, type }] });
}

/** Go side: `{"error": "..."}`. */
export function goError(status: number, text: string): ApiError {
  return new ApiError(status, { error: text });
}

function pathsOf(spec: RouteSpec): string[] {
  if (spec.base === 'v2') return [`/api/v2${spec.path}`, `/v2${spec.path}`];
  if (spec.base === 'platform') return [`/api/v1/platform${spec.path}`, `/v1/platform${spec.path}`];
  return [`/api/v1${spec.path}`, spec.path];
}

/** The canonical template of a route: `/api/v1/runs/{id}`; `/info` keeps its short form. */
function templateOf(spec: RouteSpec): string {
  const path = spec.path.replace(/:(\w+)/g, '{$1}');
  if (path === '/info') return path;
  return spec.base === 'platform' ? `/api/v1/platform${path}` : `/api/${spec.base}${path}`;
}

function unreadable(status: 400 | 413): ApiError {
  return detail(status, status === 413 ? 'Payload too large' : 'Invalid compressed body');
}

function parseJson(spec: RouteSpec, body: Buffer): unknown {
  if (body.length === 0) {
    throw spec.base === 'v1' ? unprocessable(['body'], 'Field required', 'missing') : goError(400, 'body required');
  }
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw spec.base === 'v1'
      ? unprocessable(['body', 0], 'JSON decode error', 'json_invalid')
      : goError(400, 'invalid JSON body');
  }
}

function authenticate(world: World, spec: RouteSpec, request: FastifyRequest): { key: ApiKey; tenantId: string } {
  const anonymous: ApiKey = {
    key: '',
    name: 'anonymous',
    workspaceId: world.workspaces[0]?.id ?? '',
    orgScoped: false,
    deletes: 'none',
    shares: false,
  };
  if (spec.open === true && !(spec.path === '/info' && world.infoNeedsKey)) {
    return { key: anonymous, tenantId: anonymous.workspaceId };
  }
  const given = header(request, 'x-api-key');
  if (given === null) throw detail(401, 'Missing authentication headers');
  const { keyRevoked } = world.habits.current;
  const key = world.apiKeys.find((one) => one.key === given);
  if (keyRevoked === 401) throw detail(401, 'Invalid token');
  if (key === undefined || keyRevoked !== false) throw goError(403, 'Forbidden');
  const tenant = header(request, 'x-tenant-id');
  if (key.orgScoped && tenant === null) throw goError(403, 'org_scoped_key_requires_workspace');
  const tenantId = tenant ?? key.workspaceId;
  const known = world.workspaces.some((one) => one.id === tenantId);
  if (!known || (!key.orgScoped && tenantId !== key.workspaceId)) throw goError(403, 'Forbidden');
  return { key, tenantId };
}

/** Where rows sit in an answer; user data below is left alone. */
const ROW_FIELDS = new Set(['runs', 'items', 'root_run', 'cursors']);

function habitTarget(spec: RouteSpec): HabitTarget {
  return { family: spec.family, template: templateOf(spec) };
}

function tooMany(retryAfter: number | null): Answer {
  const headers: Record<string, string> = retryAfter === null ? {} : { 'retry-after': String(retryAfter) };
  return { status: 429, body: { error: 'Too many requests' }, headers };
}

function limited(call: Call): Answer | null {
  const { world, spec, entry } = call;
  if (!world.limitsOn) return null;
  const rule = world.limits.take(spec.limit ?? 'default', entry.shape, call.key.key, call.tenantId, call.nowMs);
  if (rule === null) return null;
  entry.cause = `limit:${rule}`;
  return tooMany(world.limitsRetryAfter ? 10 : null);
}

/** What this delete of a copy is to do, whatever it answers; counts it. To be asked once a call. */
export function copyDelete({ world, spec }: Call): 'done' | 'ignored' | 'soft' {
  return world.habits.strikes('copyDeletes', habitTarget(spec))?.how ?? 'done';
}

/** What the shared route wrapper needs of this simulator. */
export function serviceOf(world: World): Service<LedgerEntry> {
  return {
    ledger: world.ledger,
    habits: world.habits,
    now: () => world.now(),
    tick: () => world.tick(),
    rowFields: ROW_FIELDS,
    requestIdHeader: 'x-request-id',
    entry: (common) => ({ ...common, view: null, shape: null, tenantId: null }),
    tooMany,
    serverError: (status) => ({ status, body: { detail: 'Internal server error' } }),
    notFound: () => ({ status: 404, body: { detail: 'Not Found' } }),
  };
}

/** Serves a route on all its paths, with ledger, keys, habits and limits around the handler. */
export function defineRoute(app: FastifyInstance, world: World, spec: RouteSpec, handler: Handler): void {
  const service = serviceOf(world);
  serveRoute(
    app,
    { ...service, entry: (common) => ({ ...service.entry(common), view: spec.view ?? null }) },
    {
      method: spec.method,
      urls: pathsOf(spec),
      target: habitTarget(spec),
      headers: spec.deprecated === true ? { deprecation: 'true', sunset: SUNSET } : {},
      authenticate: (request, entry) => {
        const { key, tenantId } = authenticate(world, spec, request);
        entry.apiKeyName = key.name;
        entry.tenantId = tenantId;
        return { key, tenantId };
      },
      before: (entry) => {
        const { v1Gone } = world.habits.current;
        if (v1Gone === false || spec.deprecated !== true) return null;
        entry.cause = 'habit:v1Gone';
        return { status: v1Gone, body: { detail: v1Gone === 404 ? 'Not Found' : 'Gone' } };
      },
      handle: (request, { key, tenantId }, entry) => {
        const body = bodyOf(request, BODY_LIMIT_BYTES, unreadable);
        const nowMs = entry.atMs;
        const call: Call = {
          world,
          spec,
          params: request.params as Record<string, string>,
          query: queryOf(request),
          contentType: header(request, 'content-type') ?? '',
          body,
          nowMs,
          atMs: nowMs - world.habits.current.stale,
          key,
          tenantId,
          entry,
          json: () => parseJson(spec, body),
        };
        entry.shape = spec.shape?.(call) ?? null;
        return limited(call) ?? handler(call);
      },
    },
  );
}
