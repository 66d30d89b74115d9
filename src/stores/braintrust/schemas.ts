import { z } from 'zod';
import type { PersonValue, Row, ThreadValue } from '../port.ts';
import { instantOf, valuesIn } from '../values.ts';
import type { Field, Path, Source } from './query.ts';

/**
 * What this connector needs of each answer. Fields that the vendor adds are ignored; a missing or misshapen one that is
 * listed here makes the answer useless as a proof.
 */

const uuid = z
  .string()
  .transform((text) => text.toLowerCase())
  .refine((text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text));

export const loginSchema = z.object({
  org_info: z.array(z.object({ id: uuid, name: z.string().min(1), api_url: z.string().nullish() })),
});

export const projectsSchema = z.object({
  objects: z.array(
    z.object({
      id: uuid,
      org_id: uuid,
      name: z.string(),
      deleted_at: z.string().nullish(),
      settings: z.object({ disable_realtime_queries: z.boolean().nullish() }).nullish(),
    }),
  ),
});

/** Datasets and experiments. */
export const objectsSchema = z.object({
  objects: z.array(z.object({ id: uuid, project_id: uuid, deleted_at: z.string().nullish() })),
});

export const snapshotsSchema = z.object({ objects: z.array(z.object({ id: uuid, dataset_id: uuid })) });

export const automationsSchema = z.object({
  objects: z.array(
    z.object({
      id: uuid,
      project_id: uuid,
      config: z.object({
        event_type: z.string(),
        action: z.object({ type: z.string() }).nullish(),
      }),
    }),
  ),
});

export const insertSchema = z.object({ row_ids: z.array(z.string()) });

const xact = z.string().min(1).nullish();

/** `POST /btql`, `fmt: json`. What freshness means when it is missing is for the reader to decide. */
export const btqlSchema = z.object({
  data: z.array(z.record(z.string(), z.unknown())),
  cursor: z.string().nullish(),
  freshness_state: z.object({ last_considered_xact_id: xact, last_processed_xact_id: xact }).nullish(),
  realtime_state: z.object({ type: z.string().nullish() }).nullish(),
  warnings: z.array(z.object({ code: z.unknown(), stage: z.unknown() })).nullish(),
});

const wireSchema = z.object({
  id: z.string().min(1),
  object_id: uuid,
  root_span_id: z.string().min(1).nullish(),
  span_id: z.string().nullish(),
  created: z.string().nullish(),
  origin_id: z.unknown(),
  _pagination_key: z.string().nullish(),
  _xact_id: z.string().nullish(),
});

/** A row as a query showed it. */
export interface WireRow {
  /** The project, dataset or experiment it stands in. */
  readonly objectId: string;
  readonly id: string;
  /** Null after a write that created the row without one: a merge into a deleted row, or a comment. */
  readonly root: string | null;
  readonly span: string | null;
  readonly created: string | null;
  /** The row that this one was made from or comments on. */
  readonly origin: string | null;
  readonly key: string | null;
  readonly xact: string | null;
  readonly persons: readonly PersonValue[];
  readonly threads: readonly ThreadValue[];
  /** Of the fields asked for besides, by alias. */
  readonly more: Readonly<Record<string, unknown>>;
}

interface Key {
  readonly kind: string;
  readonly key: string;
  readonly fields: readonly Field[];
}

const OBJECT_FIELD = { project_logs: 'project_id', dataset: 'dataset_id', experiment: 'experiment_id' } as const;

/** The configured keys, and how rows tell them: turns answers into rows without anything that is not needed. */
export class RowShape {
  readonly #keys: readonly Key[];
  readonly #threads: readonly Omit<Key, 'kind'>[];

  /**
   * @param identifiers keys by kind, as in the config.
   * @param threads keys of conversations, as in the config.
   */
  constructor(identifiers: Readonly<Record<string, readonly string[]>>, threads: readonly string[]) {
    let at = 0;
    this.#threads = threads.map((key, index) => ({
      key,
      fields: pathsOf(key).map((path, form) => ({ alias: `thread_${index}_${form}`, path })),
    }));
    this.#keys = Object.entries(identifiers).flatMap(([kind, keys]) =>
      keys.map((key) => ({
        kind,
        key,
        fields: pathsOf(key).map((path) => ({ alias: `person_${at++}`, path })),
      })),
    );
  }

  /** Ids, times and owners; never content. */
  fields(source: Source): readonly Field[] {
    const plain = ['id', 'root_span_id', 'span_id', 'created', '_pagination_key', '_xact_id'];
    return [
      ...plain.map((name) => ({ alias: name, path: [name] })),
      { alias: 'object_id', path: [OBJECT_FIELD[source]] },
      { alias: 'origin_id', path: ['origin', 'id'] },
      ...[...this.#keys, ...this.#threads].flatMap(({ fields }) => fields),
    ];
  }

  /** @returns null when the answer is not shaped like rows of that kind. */
  read(data: readonly Readonly<Record<string, unknown>>[]): WireRow[] | null {
    const rows: WireRow[] = [];
    for (const one of data) {
      const parsed = wireSchema.safeParse(one);
      if (!parsed.success) return null;
      const { data: row } = parsed;
      rows.push({
        objectId: row.object_id,
        id: row.id,
        root: row.root_span_id ?? null,
        span: row.span_id ?? null,
        created: row.created ?? null,
        origin: typeof row.origin_id === 'string' ? row.origin_id : null,
        key: row._pagination_key ?? null,
        xact: row._xact_id ?? null,
        persons: this.#personsOf(one),
        threads: this.#threadsOf(one),
        more: one,
      });
    }
    return rows;
  }

  #threadsOf(row: Readonly<Record<string, unknown>>): ThreadValue[] {
    return this.#threads.flatMap(({ key, fields }) =>
      fields.flatMap(({ alias }) => valuesIn(row[alias]).map((value) => ({ key, ...value }))),
    );
  }

  #personsOf(row: Readonly<Record<string, unknown>>): PersonValue[] {
    const persons = new Map<string, PersonValue>();
    for (const { kind, key, fields } of this.#keys) {
      for (const value of fields.flatMap(({ alias }) => valuesIn(row[alias]))) {
        persons.set(JSON.stringify([kind, key, value.text, value.numeric, value.nested]), { kind, key, ...value });
      }
    }
    return [...persons.values()];
  }
}

/**
 * The paths under which a key may stand: `metadata.user.id` is the field `id` of an object `user`, or a field named
 * `user.id`, as OpenTelemetry's attributes are.
 */
export function pathsOf(key: string): readonly Path[] {
  const [root = '', ...rest] = key.split('.');
  return rest.length < 2
    ? [[root, ...rest]]
    : [
        [root, ...rest],
        [root, rest.join('.')],
      ];
}

/** The trace a row says that it is in; a row that says none is one by itself. */
export function traceOf({ root, id }: WireRow): string {
  return root ?? id;
}

export function rowOf(row: WireRow, traceId: string): Row {
  return {
    projectId: row.objectId,
    traceId,
    runId: row.id,
    startMs: instantOf(row.created),
    persons: row.persons,
    ...(row.threads.length === 0 ? {} : { threads: row.threads }),
    marks: { shared: false, queued: false, inDataset: false, feedback: false },
  };
}
