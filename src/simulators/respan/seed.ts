import { DAY_MS, instant } from '../common/time.ts';
import { identifierText, textOf, type Environment, type SpanFields } from './rows.ts';
import type { World } from './world.ts';

/** What a seeded span or log may say. */
export interface SeedSpan {
  readonly name?: string;
  readonly logType?: string;
  readonly customerIdentifier?: string;
  readonly customerName?: string;
  readonly customerEmail?: string;
  readonly customIdentifier?: string;
  readonly threadIdentifier?: string;
  readonly traceGroupIdentifier?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly model?: string;
  /** ISO text or epoch milliseconds; default: the virtual now. */
  readonly startTime?: string | number;
  /** Default: one second after the start, the virtual now at the latest. Lists of logs go by it. */
  readonly endTime?: string | number;
  readonly input?: unknown;
  readonly output?: unknown;
  readonly error?: string;
  /** Id of the parent span, or its position in the list. Default: the root (position 0). */
  readonly parent?: string | number;
  /** Sixteen hexadecimal digits by default. */
  readonly spanId?: string;
}

export interface SeedTrace {
  /** Thirty-two hexadecimal digits by default. */
  readonly traceId?: string;
  /** The first span without `parent` is the root. */
  readonly spans: readonly SeedSpan[];
}

export interface SeedRequest {
  /** Default `prod`. */
  readonly environment?: Environment;
  readonly traces: readonly SeedTrace[];
}

export interface SeededTrace {
  readonly traceId: string;
  /** The environment. */
  readonly projectId: Environment;
  readonly spanIds: readonly string[];
  /** Ids of the same spans as request logs. */
  readonly uniqueIds: readonly string[];
}

export interface SeedLogRequest extends Omit<SeedSpan, 'parent' | 'spanId'> {
  /** Default `prod`. */
  readonly environment?: Environment;
}

export interface SeededLog {
  readonly uniqueId: string;
  /** The environment. */
  readonly projectId: Environment;
}

export interface SeedPeopleRequest {
  /** Default `prod`. */
  readonly environment?: Environment;
  /** Identifiers, or how many to make (`person-00001`, ...). */
  readonly people: readonly string[] | number;
  readonly tracesPerPerson: number;
  /** Default 3: a root and two children. */
  readonly spansPerTrace?: number;
  /** What carries the identifier: `customer_identifier` (default) or `metadata.<key>`. */
  readonly key?: string;
  /** Spans that carry it: all (default), only the root, or only the children, which hides it from the traces list. */
  readonly carriedBy?: 'all' | 'root' | 'children';
  /** More metadata for every span. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** All traces start at this instant; instead of `from` and `to`. */
  readonly atMs?: number;
  /** The traces' starts are spread evenly from here ... Default: 30 days before now. */
  readonly from?: string | number;
  /** ... to here. Default: now. */
  readonly to?: string | number;
}

export interface SeededPerson {
  readonly value: string;
  /** The environment. */
  readonly projectId: Environment;
  readonly traceIds: readonly string[];
}

function texts(metadata: Readonly<Record<string, unknown>> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata ?? {}).map(([key, value]) => [key, textOf(value)]));
}

function fieldsOf(span: SeedSpan, environment: Environment, nowMs: number): SpanFields {
  const startMs = instant(span.startTime, nowMs);
  return {
    environment,
    name: span.name ?? 'span',
    logType: span.logType,
    customerIdentifier: identifierText(span.customerIdentifier),
    customerName: span.customerName,
    customerEmail: span.customerEmail,
    customIdentifier: span.customIdentifier,
    threadIdentifier: span.threadIdentifier,
    traceGroupIdentifier: span.traceGroupIdentifier,
    metadata: texts(span.metadata),
    model: span.model,
    startMs,
    endMs: instant(span.endTime, Math.max(startMs, Math.min(startMs + 1000, nowMs))),
    input: span.input,
    output: span.output,
    error: span.error,
  };
}

/** Writes traces past HTTP, as if they had been inserted just now. */
export function seed(world: World, request: SeedRequest): SeededTrace[] {
  const nowMs = world.tick();
  const { environment = 'prod' } = request;
  return request.traces.map((trace) => {
    const traceId = trace.traceId ?? world.state.newId();
    const spanIds = trace.spans.map((span) => span.spanId ?? world.state.newId().slice(0, 16));
    const uniqueIds = trace.spans.map((span, index) => {
      const given = typeof span.parent === 'number' ? spanIds[span.parent] : span.parent;
      const parentId = given ?? (index === 0 ? null : (spanIds[0] ?? null));
      const fields = { ...fieldsOf(span, environment, nowMs), traceId, spanId: spanIds[index], parentId };
      return world.insert(fields, nowMs).uniqueId;
    });
    return { traceId, projectId: environment, spanIds, uniqueIds };
  });
}

/** Writes a log that belongs to no trace. */
export function seedLog(world: World, request: SeedLogRequest): SeededLog {
  const nowMs = world.tick();
  const { environment = 'prod', ...span } = request;
  const row = world.insert(fieldsOf({ name: 'log', ...span }, environment, nowMs), nowMs);
  return { uniqueId: row.uniqueId, projectId: environment };
}

/** Writes many people's traces, interleaved in time: trace 1 of each person, then trace 2 of each, and so on. */
export function seedPeople(world: World, request: SeedPeopleRequest): SeededPerson[] {
  const nowMs = world.tick();
  const { environment = 'prod', key = 'customer_identifier', spansPerTrace = 3, carriedBy = 'all' } = request;
  const names =
    typeof request.people === 'number'
      ? Array.from({ length: request.people }, (_none, index) => `person-${String(index + 1).padStart(5, '0')}`)
      : request.people;
  const from = instant(request.atMs ?? request.from, nowMs - 30 * DAY_MS);
  const to = instant(request.atMs ?? request.to, nowMs);
  const step = (to - from) / Math.max(1, names.length * request.tracesPerPerson);
  const plain = texts(request.metadata);
  if (key !== 'customer_identifier' && !key.startsWith('metadata.'))
    throw new TypeError(`not a key of a person: ${key}`);
  const name = key === 'customer_identifier' ? null : key.slice('metadata.'.length);
  const people = names.map((value) => ({
    value,
    projectId: environment,
    traceIds: [] as string[],
    labels: name === null ? { customerIdentifier: identifierText(value) } : { metadata: { ...plain, [name]: value } },
  }));
  let number = 0;
  for (let turn = 0; turn < request.tracesPerPerson; turn += 1) {
    for (const person of people) {
      const startMs = Math.floor(from + number * step);
      number += 1;
      const traceId = world.state.newId();
      const rootId = traceId.slice(0, 16);
      person.traceIds.push(traceId);
      for (let index = 0; index < spansPerTrace; index += 1) {
        const carries = carriedBy === 'all' || (carriedBy === 'root') === (index === 0);
        world.insert(
          {
            environment,
            traceId,
            spanId: index === 0 ? rootId : undefined,
            parentId: index === 0 ? null : rootId,
            name: index === 0 ? 'answer' : `step ${index}`,
            logType: index === 0 ? 'workflow' : 'generation',
            startMs: startMs + index,
            endMs: Math.max(startMs + index, Math.min(startMs + 1000, nowMs)),
            metadata: plain,
            ...(carries ? person.labels : {}),
          },
          nowMs,
        );
      }
    }
  }
  return people.map(({ value, projectId, traceIds }) => ({ value, projectId, traceIds }));
}
