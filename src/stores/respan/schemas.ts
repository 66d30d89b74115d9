import { z } from 'zod';
import type { PersonValue, Row, ThreadValue } from '../port.ts';
import { instantOf, valuesAt, valuesIn } from '../values.ts';

/**
 * What this connector needs of each answer. Fields that the vendor adds are ignored. Where a log lies must be said, and
 * whose it is too, if only by null (`saysWhose`): a missing field would make a stranger's trace look unowned.
 */

/** A list's page. `count` is not read: it may be the length of the page (vendor's MCP server). */
function pageOf<T extends z.ZodType>(row: T) {
  return z.object({ results: z.array(row), next: z.string().nullable() });
}

const metadata = z.record(z.string(), z.unknown()).nullable();

const idText = z
  .string()
  .nullable()
  .transform((text) => (text === '' ? null : text));

const logSchema = z
  .object({
    unique_id: z.string().min(1).optional(),
    /** The list may call the log's id so (vendor's MCP server). */
    id: z.unknown(),
    trace_unique_id: idText,
    environment: z.string(),
    timestamp: z.string().nullish(),
    start_time: z.string().nullish(),
    customer_identifier: z.unknown(),
    thread_identifier: z.unknown(),
    custom_identifier: z.unknown(),
    metadata: metadata.optional(),
  })
  .transform(({ unique_id, id, ...log }, context) => {
    const uniqueId = unique_id ?? (typeof id === 'string' && id !== '' ? id : undefined);
    if (uniqueId === undefined) {
      context.addIssue({ code: 'custom', message: 'has no id' });
      return z.NEVER;
    }
    return { ...log, unique_id: uniqueId };
  });

export const logsSchema = pageOf(logSchema);
export type Log = z.output<typeof logSchema>;

const traceSchema = z.object({
  trace_unique_id: z.string().min(1),
  root_span_unique_id: z.string().nullish(),
  environment: z.string(),
  start_time: z.string().nullish(),
  end_time: z.string().nullish(),
  customer_identifier: z.unknown(),
  trace_group_identifier: z.unknown(),
  metadata: metadata.optional(),
});

export const tracesSchema = pageOf(traceSchema);
export type Trace = z.output<typeof traceSchema>;

/** The part of the summary that tells a true total. */
export const summarySchema = z.object({ number_of_requests: z.number() });

/** 200 of a bulk delete. Without the count nobody knows whether more than was named has gone. */
export const bulkDeleteSchema = z.object({ deleted_count: z.number() });

export const customerSchema = z.object({ customer_identifier: z.union([z.string(), z.number()]) });
export const customersSchema = z.object({ results: z.array(customerSchema), next: z.string().nullable() });

/** Configured keys by kind, as in the config. */
export type IdentifierKeys = Readonly<Record<string, readonly string[]>>;

const PREFIX = 'metadata.';

/** The filter key of a configured key: `metadata.user_id` → `metadata__user_id`. */
export function fieldOf(key: string): string {
  return key.startsWith(PREFIX) ? `metadata__${key.slice(PREFIX.length)}` : key;
}

type Carrier = Pick<Log, 'customer_identifier' | 'metadata'> &
  Partial<Pick<Log, 'thread_identifier' | 'custom_identifier'> & Pick<Trace, 'trace_group_identifier'>>;

/**
 * A metadata value as the application gave it. One of the two ways in which the vendor's tracing client takes metadata
 * writes a text as JSON, so that it is stored with quotation marks around it (npm `@keywordsai/tracing` 1.0.44).
 */
export function unquoted(text: string): string {
  if (!/^".*"$/s.test(text)) return text;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'string' ? parsed : text;
  } catch {
    return text;
  }
}

/** The texts under which a value of a key may be stored; see `unquoted`. JSON text of other clients may be plain ASCII. */
export function storedForms(key: string, text: string): readonly string[] {
  if (!key.startsWith(PREFIX)) return [text];
  const quoted = JSON.stringify(text);
  const ascii = quoted.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return [text, quoted, ...(ascii === quoted ? [] : [ascii])];
}

function valuesUnder(carrier: Carrier, key: string) {
  if (key.startsWith(PREFIX)) {
    const values = valuesAt(carrier.metadata, key.slice(PREFIX.length));
    return values.map((value) => ({ ...value, text: value.numeric ? value.text : unquoted(value.text) }));
  }
  return valuesIn(carrier[key as 'customer_identifier' | 'thread_identifier' | 'custom_identifier' | typeof GROUP_KEY]);
}

export function personsOf(carrier: Carrier, identifiers: IdentifierKeys): PersonValue[] {
  return Object.entries(identifiers).flatMap(([kind, keys]) =>
    keys.flatMap((key) => valuesUnder(carrier, key).map((value) => ({ kind, key, ...value }))),
  );
}

/** The grouping of traces, which the traces list alone knows and searches by. */
export const GROUP_KEY = 'trace_group_identifier';

/** The conversations that a log or trace says it belongs to. */
export function threadsOf(carrier: Carrier, keys: readonly string[]): { readonly threads?: readonly ThreadValue[] } {
  const threads = keys.flatMap((key) => valuesUnder(carrier, key).map((value) => ({ key, ...value })));
  return threads.length === 0 ? {} : { threads };
}

const NO_MARKS = { shared: false, queued: false, inDataset: false, feedback: false } as const;

/** Whether a log has every field that holds one of the configured keys. */
export function saysWhose(log: Log, identifiers: IdentifierKeys): boolean {
  const keys = Object.values(identifiers).flat();
  return keys.every((key) => Object.hasOwn(log, key.startsWith(PREFIX) ? 'metadata' : key));
}

/** What a log carries under a filter's field. */
export function valuesOfField(log: Log, field: string): unknown {
  const prefix = 'metadata__';
  if (!field.startsWith(prefix)) return (log as Readonly<Record<string, unknown>>)[field];
  const key = field.slice(prefix.length);
  const { metadata: of } = log;
  return of !== null && of !== undefined && Object.hasOwn(of, key) ? of[key] : undefined;
}

/** When a log began, epoch milliseconds; null: it does not say. */
export function startOf(log: Log): number | null {
  return instantOf(log.start_time) ?? instantOf(log.timestamp);
}

/** A log's row, or null when it belongs to no trace. All content is dropped here. */
export function rowOfLog(log: Log, identifiers: IdentifierKeys, threads: readonly string[]): Row | null {
  if (log.trace_unique_id === null) return null;
  return {
    projectId: log.environment,
    traceId: log.trace_unique_id,
    runId: log.unique_id,
    startMs: startOf(log),
    persons: personsOf(log, identifiers),
    ...threadsOf(log, threads),
    marks: NO_MARKS,
  };
}

/** The row that stands for a trace as the traces list shows it: that of its root, whose spans may be gone. */
export function rowOfTrace(trace: Trace, identifiers: IdentifierKeys, threads: readonly string[]): Row {
  const { customer_identifier, trace_group_identifier, metadata: ofRoot = null } = trace;
  return {
    projectId: trace.environment,
    traceId: trace.trace_unique_id,
    runId: trace.root_span_unique_id ?? trace.trace_unique_id,
    startMs: instantOf(trace.start_time),
    persons: personsOf({ customer_identifier, metadata: ofRoot }, identifiers),
    ...threadsOf({ customer_identifier, trace_group_identifier, metadata: ofRoot }, threads),
    marks: NO_MARKS,
  };
}
