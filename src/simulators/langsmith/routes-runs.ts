import type { FastifyInstance } from 'fastify';
import type { Answer, ApiError } from '../common/http.ts';
import { defineRoute, detail, goError, unprocessable, type Call } from './http.ts';
import { comparisonsOf, compileFilter, FilterError } from './filter.ts';
import { fingerprint, isUuid } from '../common/ids.ts';
import type { QueryShape } from './ledger.ts';
import { allOf, pageOf, type PagePosition, type RunQuery } from './query.ts';
import { v1Run, v2Run } from './render.ts';
import type { RunRow, View } from './rows.ts';
import { record, type Json } from '../common/json.ts';
import {
  checked,
  DELETE_BODY,
  DELETE_TRACES_BODY,
  runFilter,
  SELECTS,
  V1_QUERY,
  V2_QUERY,
  V2_THREADS,
  V2_TRACES,
  type Select,
} from './schemas.ts';
import { DAY_MS, parseTime, rfc3339 } from '../common/time.ts';
import { WEEK_MS } from './time.ts';
import type { World } from './world.ts';

const QUEUED: Answer = { status: 202, body: { message: 'Run deletes queued' } };
/** More trace ids than this in one delete are refused; what the service does above it is unknown. */
const MAX_TRACE_IDS = 1000;

/** Turns a page position into the opaque text that the client sends back, tied to the query it belongs to. */
function encodeCursor(position: PagePosition | null, print: string): string | null {
  if (position === null) return null;
  return Buffer.from(JSON.stringify({ p: print, ...position })).toString('base64url');
}

function decodeCursor(call: Call, cursor: string | null | undefined, print: string): PagePosition | null {
  if (cursor === null || cursor === undefined || cursor === '') return null;
  let parsed: Json | null;
  try {
    parsed = record(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch {
    parsed = null;
  }
  const bad = (text: string): ApiError => (call.spec.base === 'v1' ? detail(400, text) : goError(400, text));
  if (parsed === null) throw bad('Invalid cursor');
  if (parsed['p'] !== print) throw bad('Cursor does not belong to this query');
  const { offset, startMs, seq } = parsed;
  if (typeof offset === 'number') {
    return { offset: offset + (call.world.habits.current.shiftingPages?.by ?? 0) };
  }
  if (typeof startMs !== 'number' || typeof seq !== 'number') throw bad('Invalid cursor');
  return { startMs, seq };
}

/** What of a body decides which rows match: everything but where the page is and what it shows. */
function printOf(body: Json): string {
  const { cursor: _cursor, limit: _limit, page_size: _size, select: _select, selects: _selects, ...rest } = body;
  return fingerprint(Object.entries(rest).sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** A page for a query; empty when a habit says so. */
function page(
  call: Call,
  query: RunQuery,
  body: Json,
  limit: number,
  empty: boolean,
): { rows: readonly RunRow[]; next: string | null } {
  const print = printOf(body);
  const from = decodeCursor(call, typeof body['cursor'] === 'string' ? body['cursor'] : null, print);
  if (empty) return { rows: [], next: null };
  const found = pageOf(call.world.state, query, from, limit, call.world.habits.current.shiftingPages !== null);
  return { rows: found.rows, next: encodeCursor(found.next, print) };
}

function isText(filter: unknown): boolean {
  if (typeof filter !== 'string') return false;
  try {
    return comparisonsOf(compileFilter(filter).expression).some((one) => one.op === 'search');
  } catch {
    return false;
  }
}

function shapeFrom(min: number | null, max: number | null, text: boolean, nowMs: number): QueryShape {
  const narrow = min !== null && (max ?? nowMs) - min <= WEEK_MS;
  if (text) return narrow ? 'text-narrow' : 'text-wide';
  return narrow ? 'narrow' : 'wide';
}

function v1Shape(call: Call): QueryShape | null {
  const body = record(safeJson(call)) ?? {};
  const select = Array.isArray(body['select']) ? body['select'] : [];
  const text = isText(body['filter']) || typeof body['search_filter'] === 'string' || select.includes('child_run_ids');
  return shapeFrom(parseTime(body['start_time']), parseTime(body['end_time']), text, call.nowMs);
}

function v2Shape(call: Call): QueryShape | null {
  const body = record(safeJson(call)) ?? {};
  const min = parseTime(body['min_start_time']) ?? call.nowMs - DAY_MS;
  return shapeFrom(min, parseTime(body['max_start_time']), isText(body['filter']), call.nowMs);
}

function safeJson(call: Call): unknown {
  try {
    return call.json();
  } catch {
    return null;
  }
}

function list<T>(values: readonly T[] | null | undefined): readonly T[] | undefined {
  return values === null || values === undefined || values.length === 0 ? undefined : values;
}

function v1Query(call: Call): Answer {
  const body = checked(call, V1_QUERY);
  const { world } = call;
  const ids = list(body.id);
  const session = list(body.session);
  const examples = list(body.reference_example);
  if (ids === undefined && session === undefined && examples === undefined && !body.parent_run && !body.trace) {
    throw detail(
      400,
      "At least one of 'session', 'id', 'parent_run', 'trace' or 'reference_example' must be specified",
    );
  }
  call.entry.ids = ids ?? (body.trace ? [body.trace] : null);
  const { filter, nothing } = runFilter(call, body.filter);
  const search = runFilter(call, body.search_filter);
  const traceFilter = runFilter(call, body.trace_filter);
  const treeFilter = runFilter(call, body.tree_filter);
  const given = [body.filter, body.search_filter, body.trace_filter, body.tree_filter].some(Boolean);
  const empty = nothing || search.nothing || world.habits.isBlind('v1', given);
  const common = { tenantId: call.tenantId, view: 'v1' as View, atMs: call.atMs, order: body.order ?? 'desc' };
  // With ids given the service looks at nothing else, not even the project (docs: export-traces).
  const query: RunQuery =
    ids !== undefined
      ? { ...common, ids }
      : {
          ...common,
          projectIds: session,
          traceIds: body.trace ? [body.trace] : undefined,
          parentId: body.parent_run ?? undefined,
          referenceExampleIds: examples,
          runType: body.run_type ?? undefined,
          isRoot: body.is_root ?? (body.execution_order === 1 ? true : undefined),
          hasError: body.error ?? undefined,
          minStartMs: body.start_time ?? undefined,
          maxStartMs: body.end_time ?? undefined,
          filter: filter ?? search.filter,
          traceFilter: traceFilter.filter,
          treeFilter: treeFilter.filter,
        };
  const whole = body.trace !== null && body.trace !== undefined && ids === undefined;
  const raw = record(call.json()) ?? {};
  const limit = body.limit ?? 100;
  const found = whole
    ? { rows: empty ? [] : allOf(world.state, query), next: null }
    : page(call, query, body.skip_pagination === true ? { ...raw, cursor: null } : raw, limit, empty);
  return {
    status: 200,
    body: {
      runs: found.rows.map((row) => v1Run(world, row, list(body.select) ?? null)),
      cursors: { next: body.skip_pagination === true ? null : found.next, prev: null },
      parsed_query: null,
      search_cursors: null,
    },
  };
}

function v2Query(call: Call): Answer {
  const body = checked(call, V2_QUERY);
  const { world, tenantId, nowMs } = call;
  const projects = list(body.project_ids);
  const dataset = body.reference_dataset_id ?? undefined;
  if ((projects === undefined) === (dataset === undefined)) {
    throw goError(400, 'exactly one of project_ids and reference_dataset_id must be set');
  }
  call.entry.ids = list(body.ids) ?? (body.trace_id ? [body.trace_id] : null);
  const experiments = [...world.state.projects.values()].filter(
    (one) => one.tenantId === tenantId && dataset !== undefined && one.referenceDatasetId === dataset,
  );
  const { filter, nothing } = runFilter(call, body.filter);
  const traceFilter = runFilter(call, body.trace_filter);
  const treeFilter = runFilter(call, body.tree_filter);
  const given = [body.filter, body.trace_filter, body.tree_filter].some(Boolean);
  const empty = nothing || traceFilter.nothing || treeFilter.nothing || world.habits.isBlind('v2', given);
  const earliest = Math.min(nowMs, ...experiments.map((one) => one.startMs));
  const query: RunQuery = {
    tenantId,
    view: 'v2',
    atMs: call.atMs,
    order: 'desc',
    projectIds: projects ?? experiments.map((one) => one.id),
    ids: list(body.ids),
    traceIds: body.trace_id ? [body.trace_id] : undefined,
    referenceExampleIds: list(body.reference_examples),
    runType: body.run_type ?? undefined,
    isRoot: body.is_root ?? undefined,
    hasError: body.has_error ?? undefined,
    minStartMs: body.min_start_time ?? (dataset === undefined ? nowMs - DAY_MS : earliest),
    maxStartMs: body.max_start_time ?? nowMs,
    filter,
    traceFilter: traceFilter.filter,
    treeFilter: treeFilter.filter,
  };
  const found = page(call, query, record(call.json()) ?? {}, body.page_size ?? 100, empty);
  return {
    status: 200,
    body: { items: found.rows.map((row) => v2Run(world, row, body.selects)), next_cursor: found.next },
  };
}

function v2Traces(call: Call): Answer {
  const body = checked(call, V2_TRACES);
  const { world, nowMs } = call;
  call.entry.ids = list(body.trace_ids) ?? null;
  call.entry.projectId = body.project_id;
  const traceFilter = runFilter(call, body.trace_filter);
  const treeFilter = runFilter(call, body.tree_filter);
  const given = [body.trace_filter, body.tree_filter].some(Boolean);
  const empty = traceFilter.nothing || treeFilter.nothing || world.habits.isBlind('v2', given);
  const query: RunQuery = {
    tenantId: call.tenantId,
    view: 'v2',
    atMs: call.atMs,
    order: 'desc',
    projectIds: [body.project_id],
    traceIds: list(body.trace_ids),
    isRoot: true,
    minStartMs: body.min_start_time ?? nowMs - DAY_MS,
    maxStartMs: body.max_start_time ?? nowMs,
    maxExclusive: true,
    filter: traceFilter.filter,
    treeFilter: treeFilter.filter,
  };
  const found = page(call, query, record(call.json()) ?? {}, body.page_size ?? 100, empty);
  const items = found.rows.map((row) => ({ root_run: v2Run(world, row, body.selects), query_metadata: null }));
  return { status: 200, body: { items, next_cursor: found.next } };
}

function uuidParam(call: Call, name: string): string {
  const value = call.params[name] ?? '';
  if (isUuid(value)) return value.toLowerCase();
  if (call.spec.base === 'v1') throw unprocessable(['path', name], 'Input should be a valid UUID', 'uuid_parsing');
  throw goError(400, `invalid ${name}`);
}

function projectParam(call: Call): string {
  const id = call.query.get('project_id');
  if (!isUuid(id)) throw goError(400, 'project_id is required');
  call.entry.projectId = id;
  return id.toLowerCase();
}

function selectsParam(call: Call): Select[] {
  const given = call.query.getAll('selects');
  const known: readonly string[] = SELECTS;
  for (const one of given) if (!known.includes(one)) throw goError(400, `invalid selects: ${one}`);
  return given as Select[];
}

function timeParam(call: Call, name: string): number | undefined {
  const given = call.query.get(name);
  if (given === null) return undefined;
  const ms = parseTime(given);
  if (ms === null) throw goError(400, `invalid ${name}`);
  return ms;
}

function v2TraceRuns(call: Call): Answer {
  const { world } = call;
  const traceId = uuidParam(call, 'id');
  const min = timeParam(call, 'min_start_time');
  const max = timeParam(call, 'max_start_time');
  if ((min === undefined) !== (max === undefined)) {
    throw goError(400, 'min_start_time and max_start_time must be given together');
  }
  call.entry.ids = [traceId];
  const { filter, nothing } = runFilter(call, call.query.get('filter'));
  const query: RunQuery = {
    tenantId: call.tenantId,
    view: 'v2',
    atMs: call.atMs,
    order: 'asc',
    projectIds: [projectParam(call)],
    traceIds: [traceId],
    minStartMs: min,
    maxStartMs: max,
    filter,
  };
  const selects = selectsParam(call);
  const empty = nothing || world.habits.isBlind('v2', call.query.has('filter'));
  const rows = empty ? [] : allOf(world.state, query);
  return { status: 200, body: { items: rows.map((row) => v2Run(world, row, selects)) } };
}

function runById(call: Call, view: View): RunRow | undefined {
  const id = uuidParam(call, 'id');
  call.entry.ids = [id];
  if (call.world.habits.isBlind(view, false)) return undefined;
  return call.world.state
    .rowsById(id)
    .find((row) => call.world.state.tenantOf(row.projectId) === call.tenantId && row.visible(view, call.atMs));
}

function v1Retrieve(call: Call): Answer {
  const row = runById(call, 'v1');
  if (row === undefined) throw detail(404, 'Run not found');
  return { status: 200, body: v1Run(call.world, row, null) };
}

function v2Retrieve(call: Call): Answer {
  const projectId = projectParam(call);
  const selects = selectsParam(call);
  const row = runById(call, 'v2');
  if (row?.projectId !== projectId) throw goError(404, 'run not found');
  return { status: 200, body: v2Run(call.world, row, selects) };
}

function threadRows(call: Call, projectId: string, min?: number, max?: number): RunRow[] {
  const { world, tenantId, atMs } = call;
  if (world.habits.isBlind('v2', false)) return [];
  const query: RunQuery = { tenantId, view: 'v2', atMs, order: 'asc', projectIds: [projectId], isRoot: true };
  return allOf(world.state, { ...query, minStartMs: min, maxStartMs: max }).filter((row) => row.threadId !== null);
}

function v2Threads(call: Call): Answer {
  const body = checked(call, V2_THREADS);
  const { filter, nothing } = runFilter(call, body.filter);
  const min = body.min_start_time ?? call.nowMs - DAY_MS;
  const rows = nothing ? [] : threadRows(call, body.project_id, min, body.max_start_time ?? call.nowMs);
  const threads = new Map<string, RunRow[]>();
  for (const row of rows) {
    if (filter !== undefined && !filter.matches(row)) continue;
    threads.set(row.threadId ?? '', [...(threads.get(row.threadId ?? '') ?? []), row]);
  }
  const items = [...threads].map(([threadId, turns]) => ({
    thread_id: threadId,
    count: turns.length,
    first_trace_id: turns[0]?.traceId,
    last_trace_id: turns.at(-1)?.traceId,
    trace_id: turns.at(-1)?.traceId,
    min_start_time: rfc3339(turns[0]?.startMs ?? 0),
    max_start_time: rfc3339(turns.at(-1)?.startMs ?? 0),
    query_metadata: null,
  }));
  return { status: 200, body: offsetPage(items, body.cursor ?? null, body.page_size ?? 100) };
}

function v2ThreadTraces(call: Call): Answer {
  const threadId = call.params['id'] ?? '';
  const rows = threadRows(call, projectParam(call)).filter((row) => row.threadId === threadId);
  const items = rows.map((row, index) => ({
    trace_id: row.traceId,
    thread_id: threadId,
    start_time: rfc3339(row.startMs),
    name: row.name,
    turn_number: index + 1,
  }));
  return { status: 200, body: offsetPage(items, call.query.get('cursor'), Number(call.query.get('page_size') ?? 100)) };
}

function offsetPage(items: readonly unknown[], cursor: string | null, size: number): Json {
  const offset = Number(cursor ?? 0) || 0;
  const next = offset + size;
  return { items: items.slice(offset, next), next_cursor: next < items.length ? String(next) : null };
}

function validate(call: Call): Answer {
  const body = record(call.json()) ?? {};
  for (const name of ['filter', 'trace_filter', 'tree_filter']) {
    const given = body[name];
    if (typeof given !== 'string') continue;
    try {
      compileFilter(given);
    } catch (error) {
      if (error instanceof FilterError) throw detail(400, error.message);
      throw error;
    }
  }
  return { status: 200, body: { valid: true } };
}

function stats(call: Call): Answer {
  const session = record(call.json())?.['session'];
  if (!Array.isArray(session)) throw unprocessable(['body', 'session'], 'Field required', 'missing');
  const { world, tenantId, atMs } = call;
  const projectIds = session.map(String);
  const rows = allOf(world.state, { tenantId, view: 'v1', atMs, order: 'desc', projectIds });
  return { status: 200, body: { run_count: rows.length } };
}

function refuseBatch(call: Call, traceIds: readonly string[]): void {
  const { rejectBatchWith } = call.world.habits.current;
  if (rejectBatchWith === null || !traceIds.some((id) => rejectBatchWith.ids.includes(id))) return;
  call.entry.cause = 'habit:rejectBatchWith';
  throw detail(rejectBatchWith.status ?? 422, 'Batch refused');
}

function submit(call: Call, projectId: string, traceIds: readonly string[], deleteExamples: boolean): Answer {
  call.entry.ids = traceIds;
  call.entry.projectId = projectId;
  if (traceIds.length > MAX_TRACE_IDS) {
    throw unprocessable(['body', 'trace_ids'], `List should have at most ${MAX_TRACE_IDS} items`, 'too_long');
  }
  refuseBatch(call, traceIds);
  const { tenantId, nowMs, entry, world } = call;
  const foreign = world.state.tenantOf(projectId) !== tenantId;
  const fields = { atMs: nowMs, route: entry.route, tenantId, metadata: null, deleteExamples, startMs: null };
  // A project of another workspace is answered like any wrong id: 202, and nothing comes of it.
  world.deletions.submit({ ...fields, projectId: foreign ? world.random.uuid4() : projectId, traceIds });
  return QUEUED;
}

function deleteRuns(call: Call): Answer {
  if (call.key.deletes !== 'full') throw detail(403, 'Forbidden');
  const body = checked(call, DELETE_BODY);
  const traceIds = list(body.trace_ids);
  const metadata = body.metadata ?? null;
  if (traceIds !== undefined) {
    call.entry.ids = traceIds;
    if (!body.session_id) throw detail(400, 'session_id is required with trace_ids');
    return submit(call, body.session_id, traceIds, body.delete_examples === true);
  }
  if (metadata === null || Object.keys(metadata).length === 0) {
    throw detail(400, 'Either session_id and trace_ids, or metadata must be given');
  }
  if (call.world.habits.current.metadataDeletes === 'forbidden') throw detail(403, 'bulk run deletes are not enabled');
  call.world.deletions.submit({
    atMs: call.nowMs,
    route: call.entry.route,
    tenantId: call.tenantId,
    projectId: null,
    traceIds: [],
    metadata,
    deleteExamples: body.delete_examples === true,
    startMs: body.start_time ?? null,
  });
  return QUEUED;
}

function deleteTraces(call: Call): Answer {
  if (call.key.deletes === 'none') throw detail(403, 'Forbidden');
  const body = checked(call, DELETE_TRACES_BODY);
  if (body.trace_ids.length === 0) throw unprocessable(['body', 'trace_ids'], 'List should not be empty', 'too_short');
  return submit(call, body.session_id, body.trace_ids, false);
}

/** Queries, single runs, traces, threads, and the two delete routes. */
export function runRoutes(app: FastifyInstance, world: World): void {
  const v1 = { base: 'v1', family: 'reads', view: 'v1', deprecated: true } as const;
  const v2 = { base: 'v2', family: 'reads', view: 'v2' } as const;
  const post = { method: 'POST' } as const;
  const get = { method: 'GET' } as const;
  defineRoute(app, world, { ...v1, ...post, path: '/runs/query', limit: 'query', shape: v1Shape }, v1Query);
  defineRoute(app, world, { ...post, base: 'v1', family: 'reads', path: '/runs/query/validate' }, validate);
  defineRoute(app, world, { ...v1, ...get, path: '/runs/:id', limit: 'run-by-id' }, v1Retrieve);
  defineRoute(app, world, { ...post, base: 'v1', family: 'reads', path: '/runs/stats', limit: 'stats' }, stats);
  defineRoute(app, world, { ...v2, ...post, path: '/runs/query', limit: 'query', shape: v2Shape }, v2Query);
  defineRoute(app, world, { ...v2, ...post, path: '/traces/query', limit: 'query', shape: v2Shape }, v2Traces);
  defineRoute(app, world, { ...v2, ...get, path: '/traces/:id/runs' }, v2TraceRuns);
  defineRoute(app, world, { ...v2, ...get, path: '/runs/:id', limit: 'run-by-id' }, v2Retrieve);
  defineRoute(app, world, { ...v2, ...post, path: '/threads/query', limit: 'query', shape: v2Shape }, v2Threads);
  defineRoute(app, world, { ...v2, ...get, path: '/threads/:id/traces' }, v2ThreadTraces);
  const deletes = { ...post, base: 'v1', family: 'deletes' } as const;
  defineRoute(app, world, { ...deletes, path: '/runs/delete' }, deleteRuns);
  defineRoute(app, world, { ...deletes, path: '/runs/delete/traces' }, deleteTraces);
}
