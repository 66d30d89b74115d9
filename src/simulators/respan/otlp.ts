import protobuf from 'protobufjs';
import { record, type Json } from '../common/json.ts';
import { identifierText, textOf, type SpanFields } from './rows.ts';

/** A span of either encoding, read but not yet placed in an environment. */
export type ReadSpan = Omit<SpanFields, 'environment'>;

// The part of opentelemetry-proto v1 that spans need.
const PROTO = `syntax = "proto3";
message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { repeated ScopeSpans scope_spans = 2; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5;
  fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue {
  oneof value {
    string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4;
    ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7;
  }
}
message ArrayValue { repeated AnyValue values = 1; }
message KeyValueList { repeated KeyValue values = 1; }`;

const EXPORT_REQUEST = protobuf.parse(PROTO).root.lookupType('ExportTraceServiceRequest');

/** Attributes carry the brand's new name or its old one, which the npm client 1.0.44 still writes. */
const BRANDS = ['respan', 'keywordsai'];

/** Bytes of an OTLP export request in the shape of its JSON encoding. @throws Error when they are none. */
export function decodeExport(body: Buffer): Json {
  const message = EXPORT_REQUEST.decode(body);
  return EXPORT_REQUEST.toObject(message, { longs: String });
}

function list(value: unknown): readonly Json[] {
  const all: readonly unknown[] = Array.isArray(value) ? value : [];
  return all.map(record).filter((one) => one !== null);
}

function hexId(value: unknown): string | null {
  if (value instanceof Uint8Array) return value.length === 0 ? null : Buffer.from(value).toString('hex');
  return typeof value === 'string' && value !== '' ? value.toLowerCase() : null;
}

function milliseconds(nanoseconds: unknown): number | null {
  const text = typeof nanoseconds === 'number' ? String(nanoseconds) : nanoseconds;
  if (typeof text !== 'string' || !/^[1-9]\d*$/.test(text)) return null;
  return Number(BigInt(text) / 1000n) / 1000;
}

function plainValue(value: Json | null): unknown {
  if (value === null) return null;
  if ('intValue' in value) return Number(value['intValue']);
  if ('arrayValue' in value) return list(record(value['arrayValue'])?.['values']).map(plainValue);
  if ('kvlistValue' in value) return Object.fromEntries(attributesOf(record(value['kvlistValue'])?.['values']));
  return value['stringValue'] ?? value['boolValue'] ?? value['doubleValue'] ?? null;
}

function attributesOf(value: unknown): Map<string, unknown> {
  return new Map(list(value).map((one) => [String(one['key']), plainValue(record(one['value']))] as const));
}

function jsonObject(value: unknown): Json {
  if (typeof value !== 'string') return {};
  try {
    return record(JSON.parse(value)) ?? {};
  } catch {
    return {};
  }
}

function readSpan(span: Json, nowMs: number): ReadSpan {
  const attributes = attributesOf(span['attributes']);
  const branded = (...names: string[]): unknown =>
    names
      .flatMap((name) => BRANDS.map((brand) => attributes.get(`${brand}.${name}`)))
      .find((value) => value !== undefined && value !== null);
  const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
  const first = (...names: string[]): unknown =>
    names.map((name) => attributes.get(name)).find((value) => value !== undefined);
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(jsonObject(branded('metadata')))) metadata[key] = textOf(value);
  for (const [key, value] of attributes) {
    const name = BRANDS.map((brand) => `${brand}.metadata.`).find((prefix) => key.startsWith(prefix));
    if (name !== undefined) metadata[key.slice(name.length)] = textOf(value);
  }
  const startMs = milliseconds(span['startTimeUnixNano']) ?? nowMs;
  const status = record(span['status']);
  const failed = status?.['code'] === 2 || status?.['code'] === 'STATUS_CODE_ERROR';
  return {
    traceId: hexId(span['traceId']),
    spanId: hexId(span['spanId']),
    parentId: hexId(span['parentSpanId']),
    name: text(attributes.get('traceloop.entity.name')) ?? text(span['name']) ?? '',
    workflowName: text(attributes.get('traceloop.workflow.name')) ?? undefined,
    logType: text(branded('entity.log_type')) ?? text(attributes.get('traceloop.span.kind')) ?? undefined,
    startMs,
    endMs: milliseconds(span['endTimeUnixNano']) ?? startMs,
    customerIdentifier: identifierText(branded('customer_params.customer_identifier', 'customer_identifier')),
    customerName: text(branded('customer_params.name')),
    customerEmail: text(branded('customer_params.email')),
    customIdentifier: text(branded('span_params.custom_identifier')),
    threadIdentifier: text(branded('threads.thread_identifier')),
    traceGroupIdentifier: text(branded('trace.trace_group_identifier')),
    metadata,
    model: text(first('gen_ai.request.model', 'gen_ai.response.model')),
    promptTokens: Number(first('gen_ai.usage.input_tokens', 'gen_ai.usage.prompt_tokens') ?? 0),
    completionTokens: Number(first('gen_ai.usage.output_tokens', 'gen_ai.usage.completion_tokens') ?? 0),
    error: failed ? (text(status['message']) ?? 'error') : null,
    input: first('traceloop.entity.input', 'gen_ai.prompt') ?? null,
    output: first('traceloop.entity.output', 'gen_ai.completion') ?? null,
  };
}

/** The spans of an export request in JSON shape. Spans without a trace id are invalid in OTLP and left out. */
export function spansOf(body: Json, nowMs: number): ReadSpan[] {
  return list(body['resourceSpans'])
    .flatMap((resource) => list(resource['scopeSpans']))
    .flatMap((scope) => list(scope['spans']))
    .map((span) => readSpan(span, nowMs))
    .filter((span) => span.traceId != null && span.spanId != null);
}
