import { randomBytes } from 'node:crypto';
import protobuf from 'protobufjs';

/** The part of OpenTelemetry's trace protocol that is needed to write spans, from its published definition. */
const { root } = protobuf.parse(
  `syntax = "proto3";
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; ArrayValue array_value = 5; } }
  message ArrayValue { repeated AnyValue values = 1; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message Span { bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; }
  message ScopeSpans { repeated Span spans = 2; }
  message ResourceSpans { repeated ScopeSpans scope_spans = 2; }
  message Request { repeated ResourceSpans resource_spans = 1; }`,
  { keepCase: true },
);
const Request = root.lookupType('Request');

export type AttributeValue = string | number | readonly string[];

/** One span to be written. */
export interface OtlpSpan {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  /** Default: none, it is the root. */
  readonly parentId?: string;
  /** Epoch milliseconds. */
  readonly startMs: number;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** The body of a `POST /v1/traces` with these spans, `application/x-protobuf`. */
export function otlpBody(spans: readonly OtlpSpan[]): Uint8Array {
  const nanos = (ms: number): string => `${Math.round(ms)}000000`;
  return Request.encode(
    Request.fromObject({
      resource_spans: [
        {
          scope_spans: [
            {
              spans: spans.map(({ traceId, spanId, parentId, startMs, attributes }) => ({
                trace_id: Buffer.from(traceId, 'hex'),
                span_id: Buffer.from(spanId, 'hex'),
                ...(parentId === undefined ? {} : { parent_span_id: Buffer.from(parentId, 'hex') }),
                name: 'work',
                start_time_unix_nano: nanos(startMs),
                end_time_unix_nano: nanos(startMs + 5),
                attributes: Object.entries(attributes).map(([key, value]) => ({ key, value: anyValue(value) })),
              })),
            },
          ],
        },
      ],
    }),
  ).finish();
}

function anyValue(value: AttributeValue): object {
  if (typeof value === 'string') return { string_value: value };
  if (typeof value === 'number') return Number.isInteger(value) ? { int_value: value } : { double_value: value };
  return { array_value: { values: value.map(anyValue) } };
}

export function newTraceId(): string {
  return randomBytes(16).toString('hex');
}

export function newSpanId(): string {
  return randomBytes(8).toString('hex');
}
