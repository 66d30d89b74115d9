import type { FastifyInstance } from 'fastify';
import { ApiError, type Answer } from '../common/http.ts';
import { record } from '../common/json.ts';
import { rfc3339 } from '../common/time.ts';
import { LOGS, LOGS_SUMMARY, plain } from './filter.ts';
import {
  defineRoute,
  detail,
  filterOf,
  jsonBody,
  logEnvironmentsOf,
  pageOf,
  sorted,
  windowOf,
  type Call,
} from './http.ts';
import { selectLogs } from './query.ts';
import { logJson } from './render.ts';
import { textOf, type SpanRow } from './rows.ts';
import type { World } from './world.ts';

const SORTS: Readonly<Record<string, (row: SpanRow) => number>> = {
  id: (row) => row.seq,
  timestamp: (row) => row.endMs,
  start_time: (row) => row.startMs,
  cost: (row) => row.cost,
  latency: (row) => row.latency,
  prompt_tokens: (row) => row.promptTokens,
  completion_tokens: (row) => row.completionTokens,
  total_request_tokens: (row) => row.promptTokens + row.completionTokens,
};

function questionOf(call: Call) {
  return { environments: logEnvironmentsOf(call), atMs: call.atMs, window: windowOf(call) };
}

function list(call: Call): Answer {
  const { world, query } = call;
  const filter = filterOf(call, LOGS);
  const question = questionOf(call);
  const rows = world.habits.isBlind('logs', filter.given) ? [] : selectLogs(world.state, question, filter);
  const fields = query.get('include_fields');
  const wanted = fields === null || fields === '' ? null : new Set(fields.split(','));
  return pageOf(
    call,
    sorted(call, rows, SORTS, (row) => row.seq),
    (row) => {
      const json = logJson(row);
      return wanted === null ? json : Object.fromEntries(Object.entries(json).filter(([name]) => wanted.has(name)));
    },
  );
}

/** Totals. With filters they come from the raw logs, without from a pre-aggregate that no deletion reaches. */
function summary(call: Call): Answer {
  const { world } = call;
  const filter = filterOf(call, LOGS_SUMMARY);
  const question = questionOf(call);
  const aggregate = (row: SpanRow): boolean =>
    row.bornMs <= question.atMs && question.window.startMs <= row.endMs && row.endMs <= question.window.endMs;
  const rows = world.habits.isBlind('logs', filter.given)
    ? []
    : filter.given
      ? selectLogs(world.state, question, filter)
      : question.environments.flatMap((one) => world.state.rowsOf(one)).filter(aggregate);
  call.entry.matched = rows.length;
  const sum = (value: (row: SpanRow) => number): number => rows.reduce((total, row) => total + value(row), 0);
  return {
    status: 200,
    body: {
      number_of_requests: rows.length,
      total_cost: sum((row) => row.cost),
      total_tokens: sum((row) => row.promptTokens + row.completionTokens),
      scores: {},
    },
  };
}

/** The log of the path, in whatever environment: as reads show it, or as it is. @throws ApiError 404. */
function logOf({ world, params, atMs, nowMs, entry }: Call, reading: boolean): SpanRow {
  const { id = '' } = params;
  entry.ids = [id];
  const row = world.state.byUniqueId(id);
  const blind = reading && world.habits.isBlind('logs', false);
  if (row?.visible('spans', reading ? atMs : nowMs) !== true || blind) throw detail(404, 'Not found.');
  entry.matched = 1;
  return row;
}

function change(call: Call): Answer {
  const row = logOf(call, false);
  const { is_pinned: isPinned, positive_feedback: feedback, note, metadata } = jsonBody(call);
  if (typeof isPinned === 'boolean') row.isPinned = isPinned;
  if (typeof feedback === 'boolean' || feedback === null) row.positiveFeedback = feedback;
  if (typeof note === 'string' || note === null) row.note = note;
  const more = Object.entries(record(metadata) ?? {}).map(([key, value]) => [key, textOf(value)]);
  call.world.state.mergeMetadata(row, Object.fromEntries(more) as Record<string, string>);
  return { status: 200, body: logJson(row) };
}

/** The older reference's delete of one log; the current reference has none. */
function deleteOne(call: Call): Answer {
  const { world, entry, nowMs } = call;
  const { spanDelete } = world.habits.current;
  if (spanDelete === 404) throw detail(404, 'Not found.');
  if (spanDelete === 405) throw new ApiError(405, { detail: 'Method "DELETE" not allowed.' });
  const row = logOf(call, false);
  entry.projectId = row.environment;
  world.deletions.submit({
    atMs: nowMs,
    route: entry.route,
    by: 'span',
    projectId: row.environment,
    traceIds: [],
    dropped: [],
    window: null,
    traces: [],
    rows: [row],
  });
  return { status: 204 };
}

interface Thread {
  readonly thread_identifier: string;
  readonly environment: string;
  readonly customer_identifier: string | null;
  readonly lastMs: number;
  readonly timestamp: string;
  readonly log_count: number;
  readonly number_of_requests: number;
  readonly cost: number;
  readonly total_cost: number;
  readonly tokens: number;
  readonly total_tokens: number;
}

function threadOf(identifier: string, rows: readonly SpanRow[]): Thread {
  const sum = (value: (row: SpanRow) => number): number => rows.reduce((total, row) => total + value(row), 0);
  const lastMs = Math.max(...rows.map((row) => row.endMs));
  const cost = sum((row) => row.cost);
  const tokens = sum((row) => row.promptTokens + row.completionTokens);
  return {
    thread_identifier: identifier,
    environment: rows[0]?.environment ?? '',
    customer_identifier: rows.find((row) => row.customerIdentifier !== null)?.customerIdentifier ?? null,
    lastMs,
    timestamp: rfc3339(lastMs),
    log_count: rows.length,
    number_of_requests: rows.length,
    cost,
    total_cost: cost,
    tokens,
    total_tokens: tokens,
  };
}

function threadJson({ lastMs: _lastMs, ...thread }: Thread): unknown {
  return thread;
}

const THREADS = plain<Thread>(['thread_identifier', 'environment', 'customer_identifier', 'number_of_requests']);

/** Conversations: what logs of one thread add up to. There is nothing to delete beside the logs. */
function threads(call: Call): Answer {
  const { world } = call;
  const filter = filterOf(call, THREADS);
  const everything = { matches: () => true, given: false, dropped: [], lookUps: [], traceIds: [] };
  const rows = world.habits.isBlind('logs', filter.given) ? [] : selectLogs(world.state, questionOf(call), everything);
  const groups = new Map<string, SpanRow[]>();
  for (const row of rows) {
    if (row.threadIdentifier === null) continue;
    groups.set(row.threadIdentifier, [...(groups.get(row.threadIdentifier) ?? []), row]);
  }
  const found = [...groups].map(([name, members]) => threadOf(name, members)).filter((one) => filter.matches(one));
  const sorts = {
    timestamp: (one: Thread) => one.lastMs,
    total_cost: (one: Thread) => one.cost,
    number_of_requests: (one: Thread) => one.log_count,
  };
  return pageOf(
    call,
    sorted(call, found, sorts, (one) => one.thread_identifier),
    threadJson,
  );
}

function thread(call: Call): Answer {
  const { world, params, atMs, entry } = call;
  const { id = '' } = params;
  entry.ids = [id];
  const rows = world.state
    .lookUp('thread', id)
    .filter((row) => row.visible('spans', atMs) && logEnvironmentsOf(call).includes(row.environment));
  if (rows.length === 0 || world.habits.isBlind('logs', false)) throw detail(404, 'Not found.');
  return { status: 200, body: threadJson(threadOf(id, rows)) };
}

/** Reads of logs and conversations, and what may be done to a single log. */
export function logRoutes(app: FastifyInstance, world: World): void {
  const reads = { family: 'reads', limit: 'request-logs' } as const;
  defineRoute(app, world, { ...reads, method: 'POST', path: '/api/request-logs/list/' }, list);
  defineRoute(app, world, { ...reads, method: 'POST', path: '/api/request-logs/summary/' }, summary);
  defineRoute(app, world, { ...reads, method: 'GET', path: '/api/request-logs/:id/' }, (call) => ({
    status: 200,
    body: logJson(logOf(call, true)),
  }));
  defineRoute(app, world, { ...reads, method: 'PATCH', family: 'writes', path: '/api/request-logs/:id/' }, change);
  defineRoute(app, world, { ...reads, method: 'DELETE', family: 'deletes', path: '/api/request-logs/:id/' }, deleteOne);
  const others = { family: 'reads', limit: 'organisation' } as const;
  defineRoute(app, world, { ...others, method: 'POST', path: '/api/log_threads/' }, threads);
  defineRoute(app, world, { ...others, method: 'GET', path: '/api/log_thread/:id/' }, thread);
}
