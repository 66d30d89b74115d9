import { gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { CommonHabits, HabitTarget, Switches } from './habits.ts';
import type { BaseEntry, BaseLedger } from './ledger.ts';

export interface Answer {
  readonly status: number;
  /** Sent as JSON unless it is a text or bytes; `headers` then name its type. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that is an error. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) {
    super(`status ${status}`);
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** What the route wrapper needs of a simulator. */
export interface Service<E extends BaseEntry> {
  readonly ledger: Pick<BaseLedger<E>, 'add' | 'nextRequestId'>;
  readonly habits: Pick<Switches<CommonHabits>, 'current' | 'strikes'>;
  /** The virtual instant, epoch milliseconds. */
  now(): number;
  /** The same, after doing everything that was due by then. */
  tick(): number;
  /** The fields of its answers in which rows sit; the habits on fields leave user data below others alone. */
  readonly rowFields: ReadonlySet<string>;
  /** Header that tells the request id. */
  readonly requestIdHeader: string;
  /** The simulator's own entry around the common fields. */
  entry(common: BaseEntry): E;
  /** Answer of the `throttle` habit and of limits; `retryAfter` in seconds, `null` without the header. */
  tooMany(retryAfter: number | null): Answer;
  /** Answer of the `serverErrors` habit. */
  serverError(status: number): Answer;
  /** Answer to an unknown path. */
  notFound(): Answer;
}

/** One route with the steps of an exchange, in order; each may throw `ApiError`. */
export interface ServedRoute<E extends BaseEntry, K> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** The paths on which it answers, parameters as `:id`. */
  readonly urls: readonly string[];
  readonly target: HabitTarget;
  /** Checks the key and notes it in the entry. */
  authenticate(request: FastifyRequest, entry: E): K;
  /** Habits of this simulator alone that answer in the handler's stead; `null` to go on. */
  before?(entry: E, key: K): Answer | null;
  handle(request: FastifyRequest, key: K, entry: E): Answer | Promise<Answer>;
  /** Headers on every answer of the route. */
  readonly headers?: Readonly<Record<string, string>>;
}

const HTML = '<!DOCTYPE html><html><head><title>Service</title></head><body><h1>Please wait</h1></body></html>';

/** A server that hands bodies on as bytes and notes requests to unknown paths. */
export function newApp<E extends BaseEntry>(service: Service<E>): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: 128 * 1024 * 1024,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 2000 },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => {
    done(null, body);
  });
  app.setNotFoundHandler((request, reply) => {
    const [path = ''] = request.url.split('?');
    const answer = service.notFound();
    if (!path.startsWith('/_simulator')) {
      const family = request.method === 'GET' ? 'reads' : 'writes';
      newEntry(service, request.method, { family, template: `unknown ${path}` }).status = answer.status;
    }
    return reply
      .code(answer.status)
      .headers({ ...answer.headers })
      .send(answer.body);
  });
  return app;
}

/** A request header's value, `null` when it is missing or empty. */
export function header(request: FastifyRequest, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The query string of a request. */
export function queryOf(request: FastifyRequest): URLSearchParams {
  const mark = request.url.indexOf('?');
  return new URLSearchParams(mark < 0 ? '' : request.url.slice(mark + 1));
}

/**
 * The body without its content encoding (gzip, zstd, deflate).
 *
 * @throws what `refuse` makes of 413 (more than `mostBytes`) or 400 (not what its encoding says).
 */
export function bodyOf(request: FastifyRequest, mostBytes: number, refuse: (status: 400 | 413) => ApiError): Buffer {
  const raw = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const encoding = (request.headers['content-encoding'] ?? '').toLowerCase();
  const options = { maxOutputLength: mostBytes };
  try {
    if (encoding === 'gzip') return gunzipSync(raw, options);
    if (encoding === 'zstd') return zstdDecompressSync(raw, options);
    if (encoding === 'deflate') return inflateSync(raw, options);
  } catch (error) {
    throw refuse(error instanceof RangeError ? 413 : 400);
  }
  if (raw.length > mostBytes) throw refuse(413);
  return raw;
}

function mapRows(
  body: unknown,
  rows: ReadonlySet<string>,
  change: (entries: [string, unknown][]) => [string, unknown][],
  depth = 0,
): unknown {
  if (depth > 3 || typeof body !== 'object' || body === null) return body;
  if (Array.isArray(body)) return body.map((one) => mapRows(one, rows, change, depth + 1));
  return Object.fromEntries(
    change(Object.entries(body)).map(([name, value]) => [
      name,
      rows.has(name) ? mapRows(value, rows, change, depth + 1) : value,
    ]),
  );
}

/** What habits make of a request before the handler sees it; `null` to go on. */
function habitBefore<E extends BaseEntry>(service: Service<E>, target: HabitTarget, entry: E): Answer | 'reset' | null {
  const { habits } = service;
  if (habits.strikes('resetBefore', target) !== null) return 'reset';
  const html = habits.strikes('htmlErrors', target);
  if (html !== null) {
    entry.cause = 'habit:htmlErrors';
    return { status: html.status ?? 502, body: HTML, headers: { 'content-type': 'text/html; charset=utf-8' } };
  }
  const throttle = habits.strikes('throttle', target);
  if (throttle !== null) {
    entry.cause = 'habit:throttle';
    return service.tooMany(throttle.retryAfter);
  }
  return habits.current.serverErrors?.after === true ? null : failed(service, target, entry);
}

function failed<E extends BaseEntry>(service: Service<E>, target: HabitTarget, entry: E): Answer | null {
  const habit = service.habits.strikes('serverErrors', target);
  if (habit === null) return null;
  entry.cause = 'habit:serverErrors';
  return service.serverError(habit.status ?? 500);
}

async function answerOf<E extends BaseEntry, K>(
  service: Service<E>,
  route: ServedRoute<E, K>,
  request: FastifyRequest,
  entry: E,
): Promise<Answer | 'reset'> {
  try {
    const key = route.authenticate(request, entry);
    const struck = habitBefore(service, route.target, entry);
    if (struck !== null) return struck;
    return route.before?.(entry, key) ?? (await route.handle(request, key, entry));
  } catch (error) {
    if (error instanceof ApiError) return { status: error.status, body: error.body, headers: error.headers };
    throw error;
  }
}

function send<E extends BaseEntry, K>(
  service: Service<E>,
  route: ServedRoute<E, K>,
  entry: E,
  answer: Answer,
  reply: FastifyReply,
): FastifyReply {
  const { extraFields, missingFields, dateSkewMs } = service.habits.current;
  const bytes = Buffer.isBuffer(answer.body) ? answer.body : null;
  let { body } = answer;
  if (bytes === null) {
    const { rowFields } = service;
    if (extraFields) {
      body = mapRows(body, rowFields, (all) => [...all, ['x_new_field', { since: '2027.1', flag: true }]]);
    }
    if (missingFields.length > 0) {
      const missing = new Set(missingFields);
      body = mapRows(body, rowFields, (all) => all.filter(([name]) => !missing.has(name)));
    }
  }
  const text = bytes ?? (body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body));
  const headers: Record<string, string> = {
    date: new Date(service.now() + dateSkewMs).toUTCString(),
    [service.requestIdHeader]: entry.requestId,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...route.headers,
    ...answer.headers,
  };
  entry.status = answer.status;
  const cut = text.length > 1 ? service.habits.strikes('truncateBody', route.target) : null;
  if (cut === null) return reply.code(answer.status).headers(headers).send(text);
  entry.outcome = 'cut';
  const all = Buffer.from(text);
  const half = all.subarray(0, Math.floor(all.length / 2));
  if ((cut.how ?? 'cut') === 'cut') return reply.code(answer.status).headers(headers).send(half);
  reply.hijack();
  reply.raw.writeHead(answer.status, { ...headers, 'content-length': String(all.length) });
  reply.raw.write(half, () => reply.raw.destroy());
  return reply;
}

function reset(entry: BaseEntry, outcome: 'reset-before' | 'reset-after', reply: FastifyReply): FastifyReply {
  entry.outcome = outcome;
  entry.status = 0;
  reply.hijack();
  reply.raw.destroy();
  return reply;
}

function newEntry<E extends BaseEntry>(service: Service<E>, method: string, target: HabitTarget): E {
  const entry = service.entry({
    atMs: service.tick(),
    method,
    route: target.template,
    family: target.family,
    status: 0,
    outcome: 'answered',
    cause: null,
    ids: null,
    projectId: null,
    apiKeyName: null,
    requestId: service.ledger.nextRequestId(),
  });
  service.ledger.add(entry);
  return entry;
}

/**
 * Serves a route on all its paths: ledger, key, occasional habits and what they leave of the answer, the `date` header
 * of the virtual clock and the request id around the handler.
 */
export function serveRoute<E extends BaseEntry, K>(
  app: FastifyInstance,
  service: Service<E>,
  route: ServedRoute<E, K>,
): void {
  const { target } = route;
  const serve = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const slow = service.habits.strikes('slow', target);
    if (slow !== null) await new Promise((resolve) => setTimeout(resolve, slow.ms));
    const entry = newEntry(service, route.method, target);
    const answer = await answerOf(service, route, request, entry);
    if (answer === 'reset') return reset(entry, 'reset-before', reply);
    if (answer.status < 400 && service.habits.strikes('resetAfter', target) !== null) {
      return reset(entry, 'reset-after', reply);
    }
    if (service.habits.current.serverErrors?.after === true && answer.status < 400) {
      return send(service, route, entry, failed(service, target, entry) ?? answer, reply);
    }
    return send(service, route, entry, answer, reply);
  };
  for (const url of route.urls) app.route({ method: route.method, url, handler: serve });
}
