import {
  startRespanSimulator,
  type RespanSimulator,
  type RespanSimulatorOptions,
} from '../../src/simulators/respan/index.ts';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Bounds that hold everything a test writes. */
export const EVER = { start_time: '1970-01-01T00:00:00Z', end_time: '2100-01-01T00:00:00Z' } as const;

const running: RespanSimulator[] = [];

/** Ends every simulator of the test. */
export async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((simulator) => simulator.close()));
}

/** A simulator without limits, eight days ahead of the real clock: what a real client writes lies in its past. */
export async function start(options: RespanSimulatorOptions = {}): Promise<RespanSimulator> {
  const clock = { realMs: Date.now(), virtualMs: Date.now() + 8 * DAY, speed: 1 };
  const simulator = await startRespanSimulator({ clock, limits: false, ...options });
  running.push(simulator);
  return simulator;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of many shapes
  readonly json: any;
}

type Query = Readonly<Record<string, string | number | boolean>>;

export interface CallOptions {
  /** Default: that of `prod`; `null` sends none. */
  readonly key?: string | null;
  readonly query?: Query;
  readonly body?: unknown;
  /** Body as it is, instead of JSON. */
  readonly raw?: { readonly type: string; readonly bytes: string | Uint8Array<ArrayBuffer> };
}

/** One request. The path starts with `/api/`. */
export async function call(
  sim: RespanSimulator,
  method: string,
  path: string,
  { key = sim.apiKey, query = {}, body, raw }: CallOptions = {},
): Promise<Reply> {
  const parameters = new URLSearchParams(
    Object.fromEntries(Object.entries(query).map(([name, value]) => [name, String(value)])),
  );
  const content = raw?.bytes ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(`${sim.url}${path}?${parameters.toString()}`, {
    method,
    headers: {
      'content-type': raw?.type ?? 'application/json',
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
    },
    ...(content === undefined ? {} : { body: content }),
  });
  const text = await response.text();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  return { status: response.status, headers: response.headers, text, json };
}

/** `{ <field>: { operator, value } }`. */
export function where(field: string, operator: string, value: readonly unknown[]): Record<string, unknown> {
  return { [field]: { operator, value } };
}

/** A list of traces or logs, of all time unless `query` says otherwise. */
export async function list(
  sim: RespanSimulator,
  what: 'traces' | 'request-logs' | 'users',
  filters: object = {},
  query: Query = EVER,
): Promise<Reply> {
  return call(sim, 'POST', `/api/${what}/list/`, { query: { page_size: 1000, ...query }, body: { filters } });
}

/** A row of a list of traces, logs or customers, as far as tests look at it. */
export interface Row {
  readonly trace_unique_id: string | null;
  readonly customer_identifier: string | null;
  readonly span_name: string;
  readonly span_parent_id: string | null;
  readonly first_seen: string;
  readonly last_active_timeframe: string;
}

/** The rows of a list. */
export async function rowsOf(
  sim: RespanSimulator,
  what: 'traces' | 'request-logs' | 'users',
  filters: object = {},
  query: Query = EVER,
): Promise<readonly Row[]> {
  return (await list(sim, what, filters, query)).json.results as readonly Row[];
}

/** `number_of_requests` of the summary. */
export async function total(sim: RespanSimulator, filters: object = {}): Promise<unknown> {
  const reply = await call(sim, 'POST', '/api/request-logs/summary/', { query: EVER, body: { filters } });
  return reply.json.number_of_requests as unknown;
}

/** Ids of the traces that the traces list shows, sorted. */
export async function traceIds(sim: RespanSimulator, filters: object = {}, query: Query = EVER): Promise<string[]> {
  return (await rowsOf(sim, 'traces', filters, query)).map((row) => String(row.trace_unique_id)).sort();
}

/** Distinct trace ids of the logs that the logs list shows, sorted; `loose` for logs without one. */
export async function logTraceIds(sim: RespanSimulator, filters: object = {}, query: Query = EVER): Promise<string[]> {
  const rows = await rowsOf(sim, 'request-logs', filters, query);
  return [...new Set(rows.map((row) => row.trace_unique_id ?? 'loose'))].sort();
}

/** A bulk delete. */
export async function bulkDelete(sim: RespanSimulator, filters: object, query: Query = EVER): Promise<Reply> {
  return call(sim, 'POST', '/api/traces/bulk-delete/', { query, body: { filters } });
}

/** A bulk delete of these traces. */
export async function remove(sim: RespanSimulator, ids: readonly string[], query: Query = EVER): Promise<Reply> {
  return bulkDelete(sim, where('trace_unique_id', 'in', ids), query);
}

/** Two people with two traces each in `prod`, spread over the last thirty days, and one trace of the first in `test`. */
export function people(sim: RespanSimulator) {
  const [ada, bob] = sim.seedPeople({ people: ['ada', 'bob'], tracesPerPerson: 2 });
  const [elsewhere] = sim.seedPeople({ environment: 'test', people: ['ada'], tracesPerPerson: 1 });
  const sorted = (ids: readonly string[]): string[] => [...ids].sort();
  return { ada: sorted(ada!.traceIds), bob: sorted(bob!.traceIds), elsewhere: sorted(elsewhere!.traceIds) };
}
