import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { record, type Json } from '../common/json.ts';
import { parseTime } from '../common/time.ts';
import { defineRoute, detail, jsonBody, type Call } from './http.ts';
import { decodeExport, spansOf, type ReadSpan } from './otlp.ts';
import { identifierText, textOf } from './rows.ts';
import type { World } from './world.ts';

/** Most logs in one bulk request (docs: the log API). */
const MOST_LOGS = 500;

class LogError extends Error {
  override readonly name = 'LogError';
}

function store({ world, key, nowMs }: Call, spans: readonly ReadSpan[]): void {
  const bornMs = world.insertionMs(nowMs);
  for (const span of spans) world.insert({ ...span, environment: key.environment, keyName: key.name }, bornMs);
}

function time(log: Json, name: string): number | null {
  const value = log[name];
  if (value === undefined || value === null) return null;
  const ms = parseTime(value);
  if (ms === null) throw new LogError(`${name}: not a valid datetime`);
  return ms;
}

/** What a log payload says. @throws LogError when a field is of the wrong kind. */
function readLog(given: unknown, nowMs: number): ReadSpan {
  const log = record(given);
  if (log === null) throw new LogError('Expected an object');
  const text = (name: string): string | null => {
    const value = log[name];
    if (value === undefined || value === null || value === '') return null;
    if (typeof value === 'string' || typeof value === 'number') return String(value);
    throw new LogError(`${name}: not a valid string`);
  };
  const number = (name: string): number => {
    const value = log[name];
    return typeof value === 'number' ? value : 0;
  };
  const customer = record(log['customer_params']) ?? {};
  const nested = (name: string): string | null => (typeof customer[name] === 'string' ? customer[name] : null);
  text('customer_identifier');
  const endMs = time(log, 'timestamp');
  const startMs = time(log, 'start_time') ?? (endMs ?? nowMs) - number('latency') * 1000;
  const metadata = Object.entries(record(log['metadata']) ?? {});
  return {
    traceId: text('trace_unique_id'),
    spanId: text('span_unique_id'),
    parentId: text('span_parent_id'),
    name: text('span_name') ?? '',
    workflowName: text('span_workflow_name') ?? undefined,
    logType: text('log_type') ?? undefined,
    startMs,
    endMs: endMs ?? nowMs,
    customerIdentifier: identifierText(log['customer_identifier'] ?? customer['customer_identifier']),
    customerName: text('customer_name') ?? nested('name'),
    customerEmail: text('customer_email') ?? nested('email'),
    customIdentifier: text('custom_identifier'),
    threadIdentifier: text('thread_identifier'),
    traceGroupIdentifier: text('trace_group_identifier'),
    metadata: Object.fromEntries(metadata.map(([key, value]) => [key, textOf(value)])),
    model: text('model'),
    promptTokens: number('prompt_tokens'),
    completionTokens: number('completion_tokens'),
    cost: number('cost'),
    error: text('error_message'),
    input: log['input'] ?? log['prompt_messages'] ?? null,
    output: log['output'] ?? log['completion_message'] ?? null,
  };
}

function asBadRequest<T>(read: () => T): T {
  try {
    return read();
  } catch (failure) {
    if (failure instanceof LogError) throw detail(400, failure.message);
    throw failure;
  }
}

function otlpProtobuf(call: Call): Answer {
  if (call.contentType.startsWith('application/json')) return otlpJson(call);
  let body: Json;
  try {
    body = decodeExport(call.body);
  } catch {
    throw detail(400, 'Invalid protobuf body.');
  }
  store(call, spansOf(body, call.nowMs));
  // An empty message is what a full success encodes to.
  return { status: 200, body: Buffer.alloc(0), headers: { 'content-type': 'application/x-protobuf' } };
}

function otlpJson(call: Call): Answer {
  store(call, spansOf(jsonBody(call), call.nowMs));
  return { status: 200, body: {} };
}

function payloads(call: Call): Answer {
  const logs = call.json();
  if (!Array.isArray(logs)) throw detail(400, 'Expected a list of logs.');
  const read = asBadRequest(() => logs.map((log) => readLog(log, call.nowMs)));
  store(call, read);
  return { status: 200, body: { message: 'Traces ingested.', ingested: read.length } };
}

function oneLog(call: Call): Answer {
  store(call, [asBadRequest(() => readLog(call.json(), call.nowMs))]);
  return { status: 200, body: { message: 'log successful' } };
}

function bulk(call: Call): Answer {
  const { logs } = jsonBody(call);
  if (!Array.isArray(logs)) throw detail(400, "Expected a list under 'logs'.");
  if (logs.length > MOST_LOGS) throw detail(400, `At most ${MOST_LOGS} logs in one request.`);
  const errors: { index: number; error: string }[] = [];
  const read = logs.flatMap((log: unknown, index) => {
    try {
      return readLog(log, call.nowMs);
    } catch (failure) {
      if (!(failure instanceof LogError)) throw failure;
      errors.push({ index, error: failure.message });
      return [];
    }
  });
  store(call, read);
  return { status: 200, body: { message: `${read.length} logs accepted`, errors } };
}

/** Routes through which clients write. None of them counts against the organisation's limit. */
export function ingestRoutes(app: FastifyInstance, world: World): void {
  const write = { method: 'POST', family: 'writes', limit: 'none' } as const;
  // OpenTelemetry exporters post without a trailing slash.
  for (const slash of ['', '/']) {
    defineRoute(app, world, { ...write, path: `/api/v1/traces${slash}` }, otlpProtobuf);
    defineRoute(app, world, { ...write, path: `/api/v2/traces${slash}` }, otlpJson);
    defineRoute(app, world, { ...write, path: `/api/v1/traces/ingest${slash}` }, payloads);
  }
  defineRoute(app, world, { ...write, path: '/api/request-logs/' }, oneLog);
  defineRoute(app, world, { ...write, path: '/api/request-logs/create/' }, oneLog);
  defineRoute(app, world, { ...write, path: '/api/request-logs/bulk/' }, bulk);
}
