import { gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { HabitTarget, RouteFamily } from './habits.ts';
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

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Handler = (call: Call) => Answer | Promise<Answer>;

/** An answer that is an error; the body has the shape of the side (Python or Go) that answers. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    super(`status ${status}`);
    this.status = status;
    this.body = body;
  }
}

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

function decompress(request: FastifyRequest): Buffer {
  const raw = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const encoding = (request.headers['content-encoding'] ?? '').toLowerCase();
  const options = { maxOutputLength: BODY_LIMIT_BYTES };
  try {
    if (encoding === 'gzip') return gunzipSync(raw, options);
    if (encoding === 'zstd') return zstdDecompressSync(raw, options);
    if (encoding === 'deflate') return inflateSync(raw, options);
  } catch (error) {
    const tooLarge = error instanceof RangeError;
    throw detail(tooLarge ? 413 : 400, tooLarge ? 'Payload too large' : 'Invalid compressed body');
  }
  if (raw.length > BODY_LIMIT_BYTES) throw detail(413, 'Payload too large');
  return raw;
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

function header(request: FastifyRequest, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
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

const HTML = '<!DOCTYPE html><html><head><title>Service</title></head><body><h1>Please wait</h1></body></html>';

function withoutFields(body: unknown, names: ReadonlySet<string>, depth: number): unknown {
  if (depth > 3 || typeof body !== 'object' || body === null) return body;
  if (Array.isArray(body)) return body.map((one) => withoutFields(one, names, depth + 1));
  return Object.fromEntries(
    Object.entries(body)
      .filter(([name]) => !names.has(name))
      .map(([name, value]) => [name, ROW_FIELDS.has(name) ? withoutFields(value, names, depth + 1) : value]),
  );
}

function withMoreFields(body: unknown, depth: number): unknown {
  if (depth > 3 || typeof body !== 'object' || body === null) return body;
  if (Array.isArray(body)) return body.map((one) => withMoreFields(one, depth + 1));
  const more = Object.fromEntries(
    Object.entries(body).map(([name, value]) => [
      name,
      ROW_FIELDS.has(name) ? withMoreFields(value, depth + 1) : value,
    ]),
  );
  return { ...more, x_new_field: { since: '2027.1', flag: true } };
}

/** Where rows sit in an answer; user data below is left alone. */
const ROW_FIELDS = new Set(['runs', 'items', 'root_run', 'cursors']);

function habitTarget(spec: RouteSpec): HabitTarget {
  return { family: spec.family, template: templateOf(spec) };
}

/** What habits make of a request before the handler sees it; `null` to go on. */
function habitBefore(world: World, spec: RouteSpec, entry: LedgerEntry): Answer | 'reset' | null {
  const target = habitTarget(spec);
  if (world.habits.strikes('resetBefore', target) !== null) return 'reset';
  const html = world.habits.strikes('htmlErrors', target);
  if (html !== null) {
    entry.cause = 'habit:htmlErrors';
    return { status: html.status ?? 502, body: HTML, headers: { 'content-type': 'text/html; charset=utf-8' } };
  }
  const throttle = world.habits.strikes('throttle', target);
  if (throttle !== null) {
    entry.cause = 'habit:throttle';
    return tooMany(throttle.retryAfter);
  }
  const { v1Gone, serverErrors } = world.habits.current;
  if (serverErrors?.after !== true) {
    const failed = world.habits.strikes('serverErrors', target);
    if (failed !== null) {
      entry.cause = 'habit:serverErrors';
      return { status: failed.status ?? 500, body: { detail: 'Internal server error' } };
    }
  }
  if (v1Gone !== false && spec.deprecated === true) {
    entry.cause = 'habit:v1Gone';
    return { status: v1Gone, body: { detail: v1Gone === 404 ? 'Not Found' : 'Gone' } };
  }
  return null;
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

async function answerOf(
  world: World,
  spec: RouteSpec,
  handler: Handler,
  request: FastifyRequest,
  entry: LedgerEntry,
): Promise<Answer | 'reset'> {
  const nowMs = entry.atMs;
  try {
    const { key, tenantId } = authenticate(world, spec, request);
    entry.apiKeyName = key.name;
    entry.tenantId = tenantId;
    const struck = habitBefore(world, spec, entry);
    if (struck !== null) return struck;
    const body = decompress(request);
    const mark = request.url.indexOf('?');
    const call: Call = {
      world,
      spec,
      params: request.params as Record<string, string>,
      query: new URLSearchParams(mark < 0 ? '' : request.url.slice(mark + 1)),
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
    return limited(call) ?? (await handler(call));
  } catch (error) {
    if (error instanceof ApiError) return { status: error.status, body: error.body };
    throw error;
  }
}

function send(world: World, spec: RouteSpec, entry: LedgerEntry, answer: Answer, reply: FastifyReply): FastifyReply {
  const { extraFields, missingFields, dateSkewMs } = world.habits.current;
  let { body } = answer;
  if (extraFields) body = withMoreFields(body, 0);
  if (missingFields.length > 0) body = withoutFields(body, new Set(missingFields), 0);
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const headers: Record<string, string> = {
    date: new Date(world.now() + dateSkewMs).toUTCString(),
    'x-request-id': entry.requestId,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(spec.deprecated === true ? { deprecation: 'true', sunset: SUNSET } : {}),
    ...answer.headers,
  };
  entry.status = answer.status;
  const cut = text.length > 1 ? world.habits.strikes('truncateBody', habitTarget(spec)) : null;
  if (cut === null) return reply.code(answer.status).headers(headers).send(text);
  entry.outcome = 'cut';
  const half = Buffer.from(text).subarray(0, Math.floor(Buffer.byteLength(text) / 2));
  if ((cut.how ?? 'cut') === 'cut') return reply.code(answer.status).headers(headers).send(half);
  reply.hijack();
  reply.raw.writeHead(answer.status, { ...headers, 'content-length': String(Buffer.byteLength(text)) });
  reply.raw.write(half, () => reply.raw.destroy());
  return reply;
}

function reset(entry: LedgerEntry, outcome: 'reset-before' | 'reset-after', reply: FastifyReply): FastifyReply {
  entry.outcome = outcome;
  entry.status = 0;
  reply.hijack();
  reply.raw.destroy();
  return reply;
}

function newEntry(
  world: World,
  spec: Omit<RouteSpec, 'base' | 'path' | 'method'>,
  method: string,
  route: string,
): LedgerEntry {
  const entry: LedgerEntry = {
    atMs: world.tick(),
    method,
    route,
    view: spec.view ?? null,
    family: spec.family,
    status: 0,
    outcome: 'answered',
    cause: null,
    shape: null,
    ids: null,
    projectId: null,
    apiKeyName: null,
    tenantId: null,
    requestId: world.nextRequestId(),
  };
  world.ledger.add(entry);
  return entry;
}

/** Notes a request to a path that the simulator doesn't know. */
export function recordUnknown(world: World, method: string, path: string): void {
  newEntry(world, { family: method === 'GET' ? 'reads' : 'writes' }, method, `unknown ${path}`).status = 404;
}

/** Serves a route on all its paths, with ledger, keys, habits and limits around the handler. */
export function defineRoute(app: FastifyInstance, world: World, spec: RouteSpec, handler: Handler): void {
  const target = habitTarget(spec);
  const serve = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const slow = world.habits.strikes('slow', target);
    if (slow !== null) await new Promise((resolve) => setTimeout(resolve, slow.ms));
    const entry = newEntry(world, spec, spec.method, target.template);
    const answer = await answerOf(world, spec, handler, request, entry);
    if (answer === 'reset') return reset(entry, 'reset-before', reply);
    if (answer.status < 400 && world.habits.strikes('resetAfter', target) !== null) {
      return reset(entry, 'reset-after', reply);
    }
    if (world.habits.current.serverErrors?.after === true && answer.status < 400) {
      const failed = world.habits.strikes('serverErrors', target);
      if (failed !== null) {
        entry.cause = 'habit:serverErrors';
        return send(
          world,
          spec,
          entry,
          { status: failed.status ?? 500, body: { detail: 'Internal server error' } },
          reply,
        );
      }
    }
    return send(world, spec, entry, answer, reply);
  };
  for (const url of pathsOf(spec)) app.route({ method: spec.method, url, handler: serve });
}
