import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { record } from '../common/json.ts';
import { TRACES } from './filter.ts';
import {
  addressedEnvironment,
  defineRoute,
  detail,
  environmentsOf,
  error,
  filterOf,
  jsonBody,
  pageOf,
  sorted,
  windowOf,
  type Call,
} from './http.ts';
import { selectTraces } from './query.ts';
import { traceJson, traceTreeJson } from './render.ts';
import { ENVIRONMENTS, TraceRow } from './rows.ts';
import type { World } from './world.ts';

/** Traces that one bulk delete may match (docs: the bulk-delete page). */
const MOST_MATCHES = 1000;

const SORTS: Readonly<Record<string, (trace: TraceRow) => number>> = {
  timestamp: (trace) => trace.startMs,
  start_time: (trace) => trace.startMs,
  end_time: (trace) => trace.endMs,
  duration: (trace) => trace.duration,
  total_cost: (trace) => trace.total('cost'),
  total_tokens: (trace) => trace.total('promptTokens') + trace.total('completionTokens'),
  span_count: (trace) => trace.spans.length,
  llm_call_count: (trace) => trace.llmCalls,
  error_count: (trace) => trace.errors,
};

function list(call: Call): Answer {
  const { world, atMs } = call;
  const filter = filterOf(call, TRACES);
  const question = { environments: environmentsOf(call), atMs, window: windowOf(call) };
  const blind = world.habits.isBlind('traces', filter.given);
  const traces = blind ? [] : selectTraces(world.state, question, filter, 'trace-table');
  return pageOf(
    call,
    sorted(call, traces, SORTS, (trace) => trace.traceId),
    traceJson,
  );
}

/** One trace from the span storage. Without a window it isn't narrowed by time. */
function retrieve(call: Call): Answer {
  const { world, atMs, params, query, entry } = call;
  const { id = '' } = params;
  entry.ids = [id];
  const missing: Answer = { status: 200, body: { trace_unique_id: id, span_count: 0, span_tree: [] } };
  const windowed = query.has('start_time') || query.has('end_time');
  const window = windowed ? windowOf(call) : { startMs: -Infinity, endMs: Infinity };
  for (const environment of world.habits.isBlind('traces', false) ? [] : environmentsOf(call)) {
    const trace = world.state.trace(environment, id, 'spans', atMs);
    if (trace === null || trace.startMs < window.startMs || trace.startMs > window.endMs) continue;
    entry.matched = 1;
    return { status: 200, body: traceTreeJson(trace) };
  }
  if (world.habits.current.missingTrace === 'empty') return missing;
  throw detail(404, 'Not found.');
}

function bulkDelete(call: Call): Answer {
  const { world, entry, nowMs } = call;
  const { filters } = jsonBody(call);
  if (Object.keys(record(filters) ?? {}).length === 0) {
    throw error(400, "Request body must contain a non-empty 'filters' list");
  }
  const environments = environmentsOf(call);
  const window = windowOf(call);
  const filter = filterOf(call, TRACES);
  const { rejectBatchWith, countsInflatedBy } = world.habits.current;
  const environment = addressedEnvironment(call);
  entry.projectId = environment;
  if (rejectBatchWith !== null && filter.traceIds.some((id) => rejectBatchWith.ids.includes(id))) {
    entry.cause = 'habit:rejectBatchWith';
    throw error(rejectBatchWith.status ?? 400, 'Invalid filters');
  }
  const traces = selectTraces(world.state, { environments, window, atMs: nowMs }, filter, 'either-table');
  const count = traces.length + countsInflatedBy;
  if (count > MOST_MATCHES) {
    throw error(400, `Too many traces matched; at most ${MOST_MATCHES} can be deleted at once`, {
      matched_count: count,
    });
  }
  entry.matched = traces.length;
  world.deletions.submit({
    atMs: nowMs,
    route: entry.route,
    by: 'bulk',
    projectId: environment,
    traceIds: filter.traceIds,
    dropped: filter.dropped,
    window,
    traces,
  });
  const message = count === 0 ? 'No traces matched the given filters' : `Successfully deleted ${count} traces`;
  return { status: 200, body: { deleted_count: count, message } };
}

/** The mutation can't tell whether there was such a trace: always 200. Outside its window it touches nothing. */
function deleteOne(call: Call): Answer {
  const { world, params, entry, nowMs } = call;
  const { id = '' } = params;
  const environments = environmentsOf(call);
  const window = windowOf(call);
  const traces = environments.flatMap((environment) => {
    const spans = world.state.spansOf(environment, id).filter((span) => span.live(nowMs));
    const trace = new TraceRow(id, environment, spans);
    return spans.length > 0 && window.startMs <= trace.startMs && trace.startMs <= window.endMs ? [trace] : [];
  });
  const environment = addressedEnvironment(call);
  entry.ids = [id];
  entry.projectId = environment;
  entry.matched = traces.length;
  world.deletions.submit({
    atMs: nowMs,
    route: entry.route,
    by: 'trace',
    projectId: environment,
    traceIds: [id],
    dropped: [],
    window,
    traces,
  });
  return { status: 200, body: { message: 'Trace deleted successfully' } };
}

/** The public page of a shared trace. */
function shared(call: Call): Answer {
  const { world, params, atMs } = call;
  const { org = '', trace: id = '' } = params;
  const environment = ENVIRONMENTS.find((one) => world.copies.isShared(one, id));
  if (org !== world.org || environment === undefined) throw detail(404, 'Not found.');
  const spans = world.state
    .spansOf(environment, id)
    .filter((span) => (world.habits.current.keepShares ? span.bornMs <= atMs : span.visible('spans', atMs)));
  if (spans.length === 0) throw detail(404, 'Not found.');
  return { status: 200, body: traceTreeJson(new TraceRow(id, environment, spans)) };
}

/** Reads and deletes of traces. */
export function traceRoutes(app: FastifyInstance, world: World): void {
  const reads = { family: 'reads', limit: 'organisation' } as const;
  const deletes = { family: 'deletes', limit: 'organisation' } as const;
  defineRoute(app, world, { ...reads, method: 'POST', path: '/api/traces/list/' }, list);
  defineRoute(app, world, { ...deletes, method: 'POST', path: '/api/traces/bulk-delete/' }, bulkDelete);
  defineRoute(app, world, { ...reads, method: 'GET', path: '/api/traces/:id/' }, retrieve);
  defineRoute(app, world, { ...reads, method: 'POST', path: '/api/traces/:id/' }, retrieve);
  defineRoute(app, world, { ...deletes, method: 'DELETE', path: '/api/traces/:id/' }, deleteOne);
  defineRoute(app, world, { ...reads, method: 'GET', path: '/api/:org/traces/:trace/', open: true }, shared);
}
