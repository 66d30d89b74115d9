import { z } from 'zod';
import { instantOf, valuesAt } from '../values.ts';
import type { PersonValue, Row } from '../port.ts';
import { ID_PATTERN } from './traits.ts';

/**
 * What this connector needs of each answer. Fields that the vendor adds are ignored; a missing or misshapen one that is
 * listed here makes the answer useless as a proof, so it is required even where an SDK would shrug.
 */

const uuid = z
  .string()
  .transform((text) => text.toLowerCase())
  .refine((text) => ID_PATTERN.test(text));

const record = z.record(z.string(), z.unknown());
/** Presence only: the content (secret links, comments, times) is dropped while parsing. */
const present = z
  .unknown()
  .optional()
  .transform((value) => value !== undefined && value !== null && value !== '' && value !== false);
const someStats = record.nullish().transform((stats) => Object.keys(stats ?? {}).length > 0);

const nextCursor = z.string().min(1).nullable();

/** v2 `POST /api/v2/runs/query`; `next_cursor` is null at the end (vendor's spec), never left out. */
export const v2RunsSchema = z.object({
  items: z.array(
    z.object({
      id: uuid,
      trace_id: uuid,
      project_id: uuid,
      start_time: z.string().nullish(),
      metadata: record.nullish(),
      share_url: present,
      is_in_dataset: present,
      last_queued_at: present,
      feedback_stats: someStats,
    }),
  ),
  next_cursor: nextCursor,
});

const v1Run = z.object({
  id: uuid,
  trace_id: uuid,
  session_id: uuid,
  start_time: z.string().nullish(),
  extra: z.object({ metadata: record.nullish() }).nullish(),
  share_token: present,
  in_dataset: present,
  last_queued_at: present,
  feedback_stats: someStats,
});

/** v1 `POST /api/v1/runs/query`. */
export const v1RunsSchema = z.object({ runs: z.array(v1Run), cursors: z.object({ next: nextCursor }) });

/** The same with `trace` set: the whole trace at once, without paging. */
export const v1TraceSchema = z.object({ runs: z.array(v1Run) });

export const v2SessionsSchema = z.object({
  items: z.array(z.object({ id: uuid, name: z.string(), type: z.string() })),
  next_cursor: nextCursor,
});

export const v1SessionsSchema = z.array(
  z.object({ id: uuid, name: z.string(), reference_dataset_id: z.string().nullish() }),
);

export const resolutionSchema = z.object({ session_id: uuid });

export const infoSchema = z.object({
  version: z.string().max(100),
  instance_flags: record.nullish(),
});

export const workspacesSchema = z.array(z.object({ id: z.string(), display_name: z.string().nullish() }));

/** 202 comes with a message, 200 is declared with an empty schema: both are objects. */
export const deleteSchema = record;

export const examplesSchema = z.array(
  z.object({
    id: uuid,
    dataset_id: uuid,
    created_at: z.string().nullish(),
    source_run_id: uuid.nullish(),
    source_trace_id: uuid.nullish(),
  }),
);

/** A hard-deleted example keeps its row, with nothing in it. */
export const exampleContentSchema = z.array(
  z.object({ id: uuid, inputs: present, outputs: present, metadata: present }),
);

/** Whom an example names; nothing else of its metadata is kept. */
export const exampleOwnersSchema = z.array(z.object({ id: uuid, metadata: record.nullish() }));

/** The tokens are secrets and are not read. */
export const sharedSchema = z.object({
  entities: z.array(z.object({ type: z.string(), run_id: uuid.nullish(), session_id: uuid.nullish() })),
});

export const queuesSchema = z.array(z.object({ id: uuid }));

export const queueItemsSchema = z.object({
  items: z.array(z.object({ id: z.string(), run_id: uuid.nullish() })),
  next_cursor: nextCursor,
});

export const feedbackSchema = z.array(z.object({ id: uuid, run_id: uuid.nullish() }));

export const bulkExportsSchema = z.array(
  z.object({
    session_id: uuid.nullish(),
    start_time: z.string().nullish(),
    end_time: z.string().nullish(),
  }),
);

export const rulesSchema = z.array(z.object({ session_id: uuid.nullish() }));

/** One run in either generation's answer. */
export type WireRun = z.output<typeof v2RunsSchema>['items'][number];

/** v1 in v2's words. */
export function fromV1(run: z.output<typeof v1Run>): WireRun {
  const { session_id: project_id, share_token: share_url, in_dataset: is_in_dataset, extra, ...same } = run;
  return { ...same, project_id, share_url, is_in_dataset, metadata: extra?.metadata };
}

/** Configured keys by kind, as in the config. */
export type IdentifierKeys = Readonly<Record<string, readonly string[]>>;

/** Metadata keys that bind traces to a thread, in the vendor's order. */
export const THREAD_KEYS = ['session_id', 'conversation_id', 'thread_id'] as const;

const PREFIX = 'metadata.';

/** `metadata.user_id` → `user_id`. */
export function bareKey(key: string): string {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
}

/** The values under the configured keys. */
export function personsIn(
  metadata: Readonly<Record<string, unknown>> | null | undefined,
  identifiers: IdentifierKeys,
): readonly PersonValue[] {
  return Object.entries(identifiers).flatMap(([kind, keys]) =>
    keys.flatMap((key) => valuesAt(metadata, bareKey(key)).map((value) => ({ kind, key, ...value }))),
  );
}

/** A run's row, without anything that is not needed: all other metadata is dropped here. */
export function rowOf(run: WireRun, identifiers: IdentifierKeys, threadKeys: readonly string[]): Row {
  const persons = personsIn(run.metadata, identifiers);
  const threads = threadKeys.flatMap((key) => valuesAt(run.metadata, bareKey(key)).map((value) => ({ key, ...value })));
  return {
    projectId: run.project_id,
    traceId: run.trace_id,
    runId: run.id,
    startMs: instantOf(run.start_time),
    persons,
    ...(threads.length === 0 ? {} : { threads }),
    marks: {
      shared: run.share_url,
      queued: run.last_queued_at,
      inDataset: run.is_in_dataset,
      feedback: run.feedback_stats,
    },
  };
}
