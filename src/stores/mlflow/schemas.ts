import { z } from 'zod';
import { NumberText } from '../http.ts';
import { THREAD_KIND, type PersonValue, type Row } from '../port.ts';
import { sortedByKind } from '../rows.ts';
import type { ValueAt } from '../values.ts';
import { instantOf } from '../values.ts';
import { attributeOf, placeOf } from './filter.ts';
import { CUT_LENGTH } from './traits.ts';

/**
 * What this connector needs of each answer. The server leaves out what is empty, whole lists too: whether an answer may
 * be empty is for the reader to decide. Fields that are added are ignored.
 */

const texts = z.record(z.string(), z.string()).nullish();

const infoSchema = z.object({
  trace_id: z.string().min(1),
  trace_location: z.object({ mlflow_experiment: z.object({ experiment_id: z.string().regex(/^\d+$/) }) }),
  request_time: z.string().nullish(),
  trace_metadata: texts,
  // The server itself sets some.
  tags: z.record(z.string(), z.string()),
});

/** A trace without its spans. */
export type Info = z.output<typeof infoSchema>;

export const searchSchema = z.object({
  traces: z.array(infoSchema).nullish(),
  next_page_token: z.string().nullish(),
});

export const infosSchema = z.object({ trace_infos: z.array(infoSchema).nullish() });

const spanSchema = z.object({
  span_id: z
    .string()
    .regex(/^[A-Za-z0-9+/]{11}=$/)
    .transform((text) => Buffer.from(text, 'base64').toString('hex')),
  // The server itself adds one to every span, the id of its trace.
  attributes: z.array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) })).min(1),
});

/** A span without its content. */
export type Span = z.output<typeof spanSchema>;

const traceSchema = z.object({ trace_info: infoSchema, spans: z.array(spanSchema).nullish() });

export const tracesSchema = z.object({ traces: z.array(traceSchema).nullish() });
export const oneTraceSchema = z.object({ trace: traceSchema });

export const experimentsSchema = z.object({
  experiments: z.array(
    z.object({
      experiment_id: z.string().regex(/^\d+$/),
      name: z.string(),
      lifecycle_stage: z.string(),
      artifact_location: z.string().nullish(),
    }),
  ),
  next_page_token: z.string().nullish(),
});

export const filesSchema = z.object({
  files: z.array(z.object({ path: z.string().min(1), is_dir: z.boolean() })).nullish(),
});

export const currentUserSchema = z.object({ user: z.object({ is_admin: z.boolean() }) });

export const deletedSchema = z.object({ traces_deleted: z.int().nonnegative() });

export const datasetsSchema = z.object({
  datasets: z.array(z.object({ dataset_id: z.string().min(1) })).nullish(),
  next_page_token: z.string().nullish(),
});

/** The records come as JSON in a string. */
export const recordsSchema = z.object({ records: z.string(), next_page_token: z.string().nullish() });

export const recordListSchema = z.array(
  z.object({
    dataset_record_id: z.string().min(1),
    created_time: z.number(),
    last_update_time: z.number(),
    source_id: z.string().nullish(),
    source: z.object({ source_data: z.object({ trace_id: z.string().nullish() }).nullish() }).nullish(),
  }),
);

export const deletedRecordsSchema = z.object({ deleted_count: z.int().nonnegative().nullish() });

/** `traces.json` of a trace whose spans are kept as a file: attribute values are JSON in strings. */
export const traceFileSchema = z.object({
  spans: z.array(z.object({ attributes: z.record(z.string(), z.unknown()).nullish() })),
});

interface Key {
  readonly kind: string;
  readonly key: string;
  /** Under which span attribute it stands too, or null. */
  readonly attribute: string | null;
}

/** Thrown for a value whose type is not known: what it says of a person is unknown too. */
export class UnknownValue extends Error {}

/** The configured keys, and how answers tell them. */
export class Shape {
  readonly #keys: readonly Key[];

  /**
   * @param identifiers keys by kind, as in the config.
   * @param threads keys of conversations, as in the config: their values come as of kind `THREAD_KIND`.
   */
  constructor(identifiers: Readonly<Record<string, readonly string[]>>, threads: readonly string[] = []) {
    this.#keys = [...Object.entries(identifiers), [THREAD_KIND, threads] as const].flatMap(([kind, keys]) =>
      keys.map((key) => ({ kind, key, attribute: attributeOf(key) })),
    );
  }

  kindsOf(key: string): readonly string[] {
    return this.#keys.filter((one) => one.key === key).map(({ kind }) => kind);
  }

  /** From the metadata and tags of a trace, which are text. */
  ofInfo({ trace_metadata: metadata, tags }: Info): PersonValue[] {
    return this.#keys.flatMap(({ kind, key }) => {
      const { place, name } = placeOf(key);
      const values = place === 'attributes' ? null : place === 'tags' ? tags : metadata;
      const text = values !== null && values !== undefined && Object.hasOwn(values, name) ? values[name] : undefined;
      return text === undefined ? [] : [{ kind, key, text, numeric: false }];
    });
  }

  /** @throws UnknownValue */
  ofSpan({ attributes }: Span): PersonValue[] {
    return this.#keys.flatMap(({ kind, key, attribute }) =>
      attributes
        .filter((one) => one.key === attribute)
        .flatMap(({ value }) => valuesOf(value))
        .map((value) => ({ kind, key, ...value })),
    );
  }

  /** From a span as `traces.json` has it. */
  ofFile(attributes: Readonly<Record<string, unknown>>, parse: (text: string) => readonly ValueAt[]): PersonValue[] {
    return this.#keys.flatMap(({ kind, key, attribute }) => {
      const value = attribute !== null && Object.hasOwn(attributes, attribute) ? attributes[attribute] : undefined;
      return typeof value === 'string' ? parse(value).map((one) => ({ kind, key, ...one })) : [];
    });
  }

  /** The row of a whole trace, going by what its info says. */
  rowOf(info: Info): Row {
    return row(info, info.trace_id, this.ofInfo(info));
  }

  /**
   * One row for each span. What the trace itself says counts to the first; without spans it is a row of its own. A value
   * that was cut counts as the one that it was copied from, where a span tells that in full.
   */
  rowsOf(info: Info, spans: readonly Span[]): readonly Row[] {
    const [first, ...others] = spans;
    if (first === undefined) return [this.rowOf(info)];
    const told = spans.flatMap((span) => this.ofSpan(span));
    const isTold = ({ key, text }: PersonValue): boolean =>
      isCut(text) && told.some((one) => one.key === key && one.text.length > text.length && one.text.startsWith(text));
    const own = this.ofInfo(info).filter((value) => !isTold(value));
    return [
      row(info, first.span_id, distinct([...own, ...this.ofSpan(first)])),
      ...others.map((span) => row(info, span.span_id, this.ofSpan(span))),
    ];
  }
}

export function experimentOf({ trace_location: { mlflow_experiment: experiment } }: Info): string {
  return experiment.experiment_id;
}

export function row(info: Info, runId: string, values: readonly PersonValue[]): Row {
  return {
    projectId: experimentOf(info),
    traceId: info.trace_id,
    runId,
    startMs: instantOf(info.request_time),
    ...sortedByKind(values),
    marks: { shared: false, queued: false, inDataset: false, feedback: false },
  };
}

/** Whether a value is as long as those that were cut (`entities/trace_info_v2.py`): it may be the beginning of a longer one. */
export function isCut(text: string): boolean {
  return text.length >= CUT_LENGTH && Array.from(text).length === CUT_LENGTH;
}

export function distinct(values: readonly PersonValue[]): PersonValue[] {
  return [
    ...new Map(
      values.map((value) => [JSON.stringify([value.key, value.kind, value.text, value.numeric]), value]),
    ).values(),
  ];
}

/** A value of OpenTelemetry, as protobuf's JSON has it: one field, named after its type. */
function valuesOf(value: Readonly<Record<string, unknown>>): readonly ValueAt[] {
  const [entry, ...others] = Object.entries(value);
  if (entry === undefined || others.length > 0) throw new UnknownValue();
  const [type, content] = entry;
  const number = content instanceof NumberText ? content.source : String(content);
  switch (type) {
    case 'string_value':
      return [{ text: String(content), numeric: false }];
    case 'int_value':
    case 'double_value':
      return [{ text: number, numeric: true }];
    case 'bool_value':
      return [{ text: String(content), numeric: false }];
    case 'array_value': {
      const { values } = content as { readonly values?: readonly Readonly<Record<string, unknown>>[] };
      return (values ?? []).flatMap(valuesOf).map((one) => ({ ...one, nested: true }));
    }
    case 'kvlist_value':
      return [{ text: JSON.stringify(content), numeric: false, nested: true }];
    default:
      throw new UnknownValue();
  }
}
