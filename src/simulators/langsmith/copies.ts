import { metadataText, wordsOf, type FieldValue, type FilterRow } from './filter.ts';
import type { Random } from '../common/ids.ts';
import type { FeedbackView } from './rows.ts';

/** A score or comment on a run (or on a project, when `runId` is null). */
export interface FeedbackRow extends FeedbackView {
  readonly id: string;
  readonly tenantId: string;
  readonly runId: string | null;
  readonly traceId: string | null;
  readonly projectId: string | null;
  readonly threadId: string | null;
  readonly createdMs: number;
  modifiedMs: number;
  score: number | null;
  value: unknown;
  comment: string | null;
  correction: unknown;
  readonly sourceType: string;
  readonly sourceMetadata: unknown;
  goneMs: number;
}

/** One version of an example; `null` content after a soft delete. */
export interface ExampleVersion {
  readonly asOfMs: number;
  readonly deleted: boolean;
  inputs: unknown;
  outputs: unknown;
  metadata: Record<string, unknown> | null;
}

/** A dataset example with all its versions: a soft delete adds one, a hard delete empties all. */
export interface ExampleRow {
  readonly id: string;
  readonly datasetId: string;
  readonly tenantId: string;
  readonly createdMs: number;
  readonly split: readonly string[];
  readonly sourceRunId: string | null;
  readonly sourceTraceId: string | null;
  readonly sourceProjectId: string | null;
  readonly sourceStartMs: number | null;
  readonly versions: ExampleVersion[];
  hardDeletedMs: number | null;
}

export interface Dataset {
  readonly id: string;
  readonly tenantId: string;
  name: string;
  readonly description: string | null;
  readonly dataType: string;
  readonly metadata: unknown;
  readonly createdMs: number;
  goneMs: number;
}

/** A public link to a trace, a thread or a dataset. */
export interface Share {
  readonly token: string;
  readonly tenantId: string;
  readonly kind: 'run' | 'thread' | 'dataset';
  readonly projectId: string | null;
  /** Trace, thread or dataset id, by kind. */
  readonly target: string;
  readonly createdMs: number;
  goneMs: number;
}

/** An entry of an annotation queue: ids and times, no payload. */
export interface QueueItem {
  readonly id: string;
  readonly queueId: string;
  readonly kind: 'RUN' | 'THREAD';
  readonly runId: string | null;
  readonly threadId: string | null;
  readonly projectId: string | null;
  readonly startMs: number | null;
  readonly addedMs: number;
  status: 'needs_my_review' | 'needs_others_review' | 'archived';
}

export interface Queue {
  readonly id: string;
  readonly tenantId: string;
  readonly name: string;
  readonly description: string | null;
  readonly createdMs: number;
  readonly items: QueueItem[];
}

/** What LangSmith keeps about runs outside the runs themselves. */
export class Copies {
  readonly random: Random;
  readonly feedback = new Map<string, FeedbackRow>();
  readonly datasets = new Map<string, Dataset>();
  readonly examples = new Map<string, ExampleRow>();
  readonly queues = new Map<string, Queue>();
  readonly shares = new Map<string, Share>();
  /** Answers of `GET /bulk-exports`, `GET /runs/rules` and `GET /sessions/{id}/insights`, as given by the test. */
  readonly bulkExports: { tenantId: string; body: Record<string, unknown> }[] = [];
  readonly rules: { tenantId: string; body: Record<string, unknown> }[] = [];
  readonly #feedbackByRun = new Map<string, FeedbackRow[]>();
  readonly #examplesByTrace = new Map<string, ExampleRow[]>();

  constructor(random: Random) {
    this.random = random;
  }

  addFeedback(row: FeedbackRow): void {
    this.feedback.set(row.id, row);
    if (row.runId === null) return;
    const rows = this.#feedbackByRun.get(row.runId);
    if (rows === undefined) this.#feedbackByRun.set(row.runId, [row]);
    else rows.push(row);
  }

  /** Living feedback of a run. */
  feedbackOf(runId: string): readonly FeedbackRow[] {
    return this.#feedbackByRun.get(runId)?.filter((row) => row.goneMs === Infinity) ?? NONE;
  }

  /** Every feedback a run ever had. */
  allFeedbackOf(runId: string): readonly FeedbackRow[] {
    return this.#feedbackByRun.get(runId) ?? NONE;
  }

  addExample(row: ExampleRow): void {
    this.examples.set(row.id, row);
    if (row.sourceTraceId === null) return;
    const rows = this.#examplesByTrace.get(row.sourceTraceId);
    if (rows === undefined) this.#examplesByTrace.set(row.sourceTraceId, [row]);
    else rows.push(row);
  }

  examplesOfTrace(traceId: string): readonly ExampleRow[] {
    return this.#examplesByTrace.get(traceId) ?? NONE;
  }

  /** The living share of a target, if there is one. */
  shareOf(kind: Share['kind'], projectId: string | null, target: string, nowMs: number): Share | null {
    for (const share of this.shares.values()) {
      if (share.kind !== kind || share.target !== target || nowMs >= share.goneMs) continue;
      if (projectId === null || share.projectId === projectId) return share;
    }
    return null;
  }

  /** Shares a target, or returns the share it has. */
  share(fields: Omit<Share, 'token' | 'goneMs'> & { readonly token?: string | undefined }): Share {
    const known = this.shareOf(fields.kind, fields.projectId, fields.target, fields.createdMs);
    if (known !== null) return known;
    const share: Share = { ...fields, token: fields.token ?? this.random.uuid4(), goneMs: Infinity };
    this.shares.set(share.token, share);
    return share;
  }

  /** The queue items that point at a run. */
  itemsOfRun(runId: string): QueueItem[] {
    return [...this.queues.values()].flatMap((queue) => queue.items.filter((item) => item.runId === runId));
  }
}

const NONE: readonly never[] = [];

/** The version of an example that a reader sees: the latest, or the latest not after `asOfMs`. */
export function versionAt(example: ExampleRow, asOfMs: number): ExampleVersion | null {
  let found: ExampleVersion | null = null;
  for (const version of example.versions) if (version.asOfMs <= asOfMs) found = version;
  return found === null || found.deleted ? null : found;
}

/** Adds the "deleted" version: earlier versions stay readable with `as_of`. */
export function softDelete(example: ExampleRow, nowMs: number): void {
  if (versionAt(example, nowMs) === null) return;
  example.versions.push({ asOfMs: nowMs, deleted: true, inputs: null, outputs: null, metadata: null });
}

/** Nulls the content of all versions at once; id, dataset and creation time stay. */
export function hardDelete(example: ExampleRow, nowMs: number): void {
  softDelete(example, nowMs);
  example.hardDeletedMs ??= nowMs;
  for (const version of example.versions) {
    version.inputs = null;
    version.outputs = null;
    version.metadata = null;
  }
}

/** One version of an example as the examples filter sees it. */
export function exampleFilterRow(example: ExampleRow, version: ExampleVersion): FilterRow {
  const fields: Record<string, FieldValue> = {
    id: example.id,
    dataset_id: example.datasetId,
    source_run_id: example.sourceRunId,
    created_at: example.createdMs,
    modified_at: version.asOfMs,
  };
  return {
    field: (name) => fields[name] ?? null,
    pairs: Object.entries(version.metadata ?? {}).map(([key, value]) => [key, metadataText(value)] as const),
    tags: NONE,
    feedback: () => NONE,
    words: () => new Set(wordsOf(JSON.stringify([version.inputs, version.outputs, version.metadata]))),
  };
}
