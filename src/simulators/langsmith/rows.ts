import { metadataText, wordsOf, type FieldValue, type FilterRow } from './filter.ts';
import { dottedTime } from './time.ts';

/** The two generations of the read API, each with its own store behind it: ClickHouse (v1) and SmithDB (v2). */
export type View = 'v1' | 'v2';
export const VIEWS: readonly View[] = ['v1', 'v2'];

/** What a write may say about a run; what it leaves out stays as it was. */
export interface RunFields {
  readonly id: string;
  readonly projectId: string;
  readonly traceId?: string | undefined;
  readonly parentId?: string | null | undefined;
  readonly name?: string | undefined;
  readonly runType?: string | undefined;
  /** Epoch milliseconds; a fraction carries microseconds. */
  readonly startMs?: number | undefined;
  readonly endMs?: number | null | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
  readonly inputs?: unknown;
  readonly outputs?: unknown;
  readonly events?: unknown;
  readonly serialized?: unknown;
  readonly error?: string | null | undefined;
  readonly dottedOrder?: string | undefined;
  readonly referenceExampleId?: string | null | undefined;
  readonly attachments?: Readonly<Record<string, { mimeType: string; size: number }>> | undefined;
}

/** Feedback as filters and answers see it. */
export interface FeedbackView {
  readonly key: string;
  readonly score: number | null;
  readonly comment: string | null;
  readonly source: string | null;
}

const THREAD_KEYS = ['session_id', 'conversation_id', 'thread_id'] as const;
const NONE: readonly never[] = [];

/** One run (span) as stored, with what each view still shows of it. */
export class RunRow implements FilterRow {
  readonly id: string;
  readonly projectId: string;
  readonly seq: number;
  /** From this virtual instant on both views show the run. */
  readonly bornMs: number;
  /** From this virtual instant on the view shows it no more; Infinity while it lives. */
  readonly goneMs: Record<View, number> = { v1: Infinity, v2: Infinity };
  traceId: string;
  parentId: string | null = null;
  name = '';
  runType = 'chain';
  startMs: number;
  endMs: number | null = null;
  tags: readonly string[] = NONE;
  metadata: Readonly<Record<string, unknown>> = {};
  extra: Readonly<Record<string, unknown>> = {};
  inputs: unknown = null;
  outputs: unknown = null;
  events: unknown = null;
  serialized: unknown = null;
  error: string | null = null;
  referenceExampleId: string | null = null;
  attachments: Readonly<Record<string, { mimeType: string; size: number }>> = {};
  lastQueuedMs: number | null = null;
  pairs: readonly (readonly [string, string])[] = NONE;
  threadId: string | null = null;
  readonly #feedback: (runId: string) => readonly FeedbackView[];
  #dottedOrder: string | null = null;
  #words: ReadonlySet<string> | null = null;

  constructor(
    fields: RunFields,
    seq: number,
    bornMs: number,
    startMs: number,
    feedback: (runId: string) => readonly FeedbackView[],
  ) {
    this.id = fields.id;
    this.projectId = fields.projectId;
    this.seq = seq;
    this.bornMs = bornMs;
    this.startMs = startMs;
    this.traceId = fields.traceId ?? fields.id;
    this.#feedback = feedback;
  }

  /** Takes over what a write says; metadata is merged key by key, everything else replaced. */
  apply(fields: RunFields): void {
    if (fields.traceId !== undefined) this.traceId = fields.traceId;
    if (fields.parentId !== undefined) this.parentId = fields.parentId;
    if (fields.name !== undefined) this.name = fields.name;
    if (fields.runType !== undefined) this.runType = fields.runType;
    if (fields.startMs !== undefined) this.startMs = fields.startMs;
    if (fields.endMs !== undefined) this.endMs = fields.endMs;
    if (fields.tags !== undefined) this.tags = fields.tags;
    if (fields.extra !== undefined) this.extra = fields.extra;
    if (fields.inputs !== undefined) this.inputs = fields.inputs;
    if (fields.outputs !== undefined) this.outputs = fields.outputs;
    if (fields.events !== undefined) this.events = fields.events;
    if (fields.serialized !== undefined) this.serialized = fields.serialized;
    if (fields.error !== undefined) this.error = fields.error;
    if (fields.dottedOrder !== undefined) this.#dottedOrder = fields.dottedOrder;
    if (fields.referenceExampleId !== undefined) this.referenceExampleId = fields.referenceExampleId;
    if (fields.attachments !== undefined) this.attachments = { ...this.attachments, ...fields.attachments };
    if (fields.metadata !== undefined) this.#setMetadata(fields.metadata);
    this.#words = null;
  }

  #setMetadata(metadata: Readonly<Record<string, unknown>>): void {
    const merged = Object.keys(this.metadata).length === 0 ? metadata : { ...this.metadata, ...metadata };
    this.metadata = merged;
    this.pairs = Object.entries(merged).map(([key, value]) => [key, metadataText(value)] as const);
    this.threadId = null;
    for (const key of THREAD_KEYS) {
      const value = merged[key];
      if (value === undefined || value === null) continue;
      this.threadId = metadataText(value);
      break;
    }
  }

  get isRoot(): boolean {
    return this.parentId === null;
  }

  get status(): 'success' | 'error' | 'pending' {
    if (this.error !== null) return 'error';
    return this.endMs === null ? 'pending' : 'success';
  }

  get dottedOrder(): string {
    if (this.#dottedOrder !== null) return this.#dottedOrder;
    const own = `${dottedTime(this.startMs)}${this.id}`;
    return this.isRoot ? own : `${dottedTime(this.startMs)}${this.traceId}.${own}`;
  }

  /** The ancestors' ids from the root down, as the dotted order tells them. */
  get parentIds(): string[] {
    if (this.isRoot) return [];
    return this.dottedOrder
      .split('.')
      .slice(0, -1)
      .map((part) => part.slice(-36));
  }

  visible(view: View, atMs: number): boolean {
    return this.bornMs <= atMs && atMs < this.goneMs[view];
  }

  /** Whether any view shows it. */
  live(atMs: number): boolean {
    return this.visible('v1', atMs) || this.visible('v2', atMs);
  }

  field(name: string): FieldValue {
    switch (name) {
      case 'id':
        return this.id;
      case 'trace_id':
        return this.traceId;
      case 'session_id':
        return this.projectId;
      case 'name':
        return this.name;
      case 'run_type':
        return this.runType.toLowerCase();
      case 'start_time':
        return this.startMs;
      case 'end_time':
        return this.endMs;
      case 'is_root':
        return this.isRoot;
      case 'status':
        return this.status;
      case 'error':
        return this.error;
      case 'thread_id':
        return this.threadId;
      case 'parent_run_id':
        return this.parentId;
      case 'dotted_order':
        return this.dottedOrder;
      case 'reference_example_id':
        return this.referenceExampleId;
      case 'latency':
        return this.endMs === null ? null : (this.endMs - this.startMs) / 1000;
      case 'execution_order':
        return this.isRoot ? 1 : 2;
      default:
        return null;
    }
  }

  feedback(): readonly FeedbackView[] {
    return this.#feedback(this.id);
  }

  words(): ReadonlySet<string> {
    this.#words ??= new Set(
      wordsOf(
        [this.name, this.error ?? '', JSON.stringify([this.inputs, this.outputs]), JSON.stringify(this.metadata)].join(
          ' ',
        ),
      ),
    );
    return this.#words;
  }
}
