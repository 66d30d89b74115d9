import type { FastifyInstance } from 'fastify';
import type { FeedbackRow } from './copies.ts';
import type { Answer } from '../common/http.ts';
import { copyDelete, defineRoute, detail, unprocessable, type Call } from './http.ts';
import { isUuid } from '../common/ids.ts';
import { record, type Json } from '../common/json.ts';
import { asList, pageParams } from './schemas.ts';
import { rfc3339 } from '../common/time.ts';

function score(value: unknown): number | null {
  if (typeof value === 'boolean') return Number(value);
  return typeof value === 'number' ? value : null;
}

/** Stores a feedback as the SDK sends it, on its own or as a part of a multipart body. */
export function feedbackFrom(call: Call, body: Json): FeedbackRow {
  const { world, nowMs, tenantId } = call;
  const runId = typeof body['run_id'] === 'string' ? body['run_id'] : null;
  if (runId !== null && !isUuid(runId))
    throw unprocessable(['body', 'run_id'], 'Input should be a valid UUID', 'uuid_parsing');
  if (typeof body['key'] !== 'string') throw unprocessable(['body', 'key'], 'Field required', 'missing');
  const run = runId === null ? undefined : world.state.rowsById(runId).find((row) => row.live(nowMs));
  const source = record(body['feedback_source']) ?? {};
  const given = (name: string): string | null => (typeof body[name] === 'string' ? body[name] : null);
  const row: FeedbackRow = {
    id: isUuid(body['id']) ? body['id'] : world.random.uuid7(nowMs),
    tenantId,
    runId,
    traceId: given('trace_id') ?? run?.traceId ?? null,
    projectId: given('session_id') ?? run?.projectId ?? null,
    threadId: given('feedback_thread_id'),
    key: body['key'],
    createdMs: nowMs,
    modifiedMs: nowMs,
    score: score(body['score']),
    value: body['value'] ?? null,
    comment: given('comment'),
    correction: body['correction'] ?? null,
    source: typeof source['type'] === 'string' ? source['type'] : 'api',
    sourceType: typeof source['type'] === 'string' ? source['type'] : 'api',
    sourceMetadata: source['metadata'] ?? {},
    goneMs: Infinity,
  };
  world.copies.addFeedback(row);
  return row;
}

function answer(row: FeedbackRow): Json {
  return {
    id: row.id,
    run_id: row.runId,
    trace_id: row.traceId,
    session_id: row.projectId,
    key: row.key,
    score: row.score,
    value: row.value,
    comment: row.comment,
    correction: row.correction,
    feedback_source: { type: row.sourceType, metadata: row.sourceMetadata },
    feedback_thread_id: row.threadId,
    created_at: rfc3339(row.createdMs),
    modified_at: rfc3339(row.modifiedMs),
  };
}

function list(call: Call): Answer {
  const { world, query, tenantId, atMs } = call;
  const { offset, limit } = pageParams(query);
  const runs = query.getAll('run');
  for (const id of runs)
    if (!isUuid(id)) throw unprocessable(['query', 'run'], 'Input should be a valid UUID', 'uuid_parsing');
  call.entry.ids = runs.length > 0 ? runs : null;
  if (world.habits.isBlind('v1', false)) return { status: 200, body: [] };
  const sessions = asList(query, 'session');
  const keys = asList(query, 'key');
  const sources = asList(query, 'source');
  const threads = asList(query, 'feedback_thread_id');
  const pool =
    runs.length > 0
      ? [...new Set(runs)].flatMap((id) => world.copies.allFeedbackOf(id))
      : world.copies.feedback.values();
  const rows = [...pool].filter(
    (row) =>
      row.tenantId === tenantId &&
      row.createdMs <= atMs &&
      atMs < row.goneMs &&
      (sessions === null || (row.projectId !== null && sessions.has(row.projectId))) &&
      (keys === null || keys.has(row.key)) &&
      (sources === null || sources.has(row.sourceType)) &&
      (threads === null || (row.threadId !== null && threads.has(row.threadId))),
  );
  rows.sort((left, right) => right.createdMs - left.createdMs || (left.id < right.id ? -1 : 1));
  return { status: 200, body: rows.slice(offset, offset + limit).map(answer) };
}

function one(call: Call): FeedbackRow {
  const id = call.params['id'] ?? '';
  if (!isUuid(id)) throw unprocessable(['path', 'feedback_id'], 'Input should be a valid UUID', 'uuid_parsing');
  const row = call.world.copies.feedback.get(id);
  if (row?.tenantId !== call.tenantId || call.atMs >= row.goneMs) throw detail(404, 'Feedback not found');
  return row;
}

function change(call: Call): Answer {
  const row = one(call);
  const body = record(call.json()) ?? {};
  if ('score' in body) row.score = score(body['score']);
  if ('value' in body) row.value = body['value'];
  if ('comment' in body) row.comment = typeof body['comment'] === 'string' ? body['comment'] : null;
  if ('correction' in body) row.correction = body['correction'];
  row.modifiedMs = call.nowMs;
  return { status: 200, body: answer(row) };
}

function remove(call: Call): Answer {
  const row = one(call);
  call.entry.ids = [row.id];
  if (copyDelete(call) !== 'ignored') row.goneMs = call.nowMs;
  return { status: 200, body: { message: 'Feedback deleted' } };
}

/** Feedback: v1 only, and not among the deprecated routes. */
export function feedbackRoutes(app: FastifyInstance, world: Call['world']): void {
  const v1 = { base: 'v1' } as const;
  defineRoute(app, world, { ...v1, method: 'GET', path: '/feedback', family: 'reads', view: 'v1' }, list);
  defineRoute(app, world, { ...v1, method: 'POST', path: '/feedback', family: 'writes' }, (call) => {
    const body = record(call.json());
    if (body === null) throw unprocessable(['body'], 'Input should be an object', 'type_error');
    return { status: 200, body: answer(feedbackFrom(call, body)) };
  });
  defineRoute(app, world, { ...v1, method: 'GET', path: '/feedback/:id', family: 'reads', view: 'v1' }, (call) => {
    return { status: 200, body: answer(one(call)) };
  });
  defineRoute(app, world, { ...v1, method: 'PATCH', path: '/feedback/:id', family: 'writes' }, change);
  defineRoute(app, world, { ...v1, method: 'DELETE', path: '/feedback/:id', family: 'deletes' }, remove);
}
