/** The backend's choices (vendor's MCP server); the samples in the documents say `production` and `staging`. */
export const ENVIRONMENTS = ['prod', 'stage', 'test'] as const;
export type Environment = (typeof ENVIRONMENTS)[number];

/** The two tables a span shows in: raw span storage, and the aggregated trace table that is rolled up from spans. */
export type View = 'spans' | 'traces';
export const VIEWS: readonly View[] = ['spans', 'traces'];

/** The store cuts customer identifiers at this many characters (docs: features/customer-identifier). */
const IDENTIFIER_LENGTH = 254;

/** What a write may say about a span or log. */
export interface SpanFields {
  readonly environment: Environment;
  /** Absent or null: a log without a trace. */
  readonly traceId?: string | null | undefined;
  /** The client's id of the span; with a trace, a second write under the same id replaces the first. */
  readonly spanId?: string | null | undefined;
  readonly parentId?: string | null | undefined;
  readonly name?: string | undefined;
  readonly workflowName?: string | undefined;
  readonly logType?: string | undefined;
  /** Epoch milliseconds. */
  readonly startMs: number;
  readonly endMs?: number | undefined;
  readonly customerIdentifier?: string | null | undefined;
  readonly customerName?: string | null | undefined;
  readonly customerEmail?: string | null | undefined;
  readonly customIdentifier?: string | null | undefined;
  readonly threadIdentifier?: string | null | undefined;
  readonly traceGroupIdentifier?: string | null | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly model?: string | null | undefined;
  readonly promptTokens?: number | undefined;
  readonly completionTokens?: number | undefined;
  readonly cost?: number | undefined;
  readonly error?: string | null | undefined;
  readonly input?: unknown;
  readonly output?: unknown;
  /** Name of the key that wrote it. */
  readonly keyName?: string | undefined;
}

const NO_METADATA: Readonly<Record<string, string>> = {};

/** A value as text: how metadata is kept and filters compare. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined ? '' : JSON.stringify(value);
}

/** A customer identifier as the store keeps it: a text, cut. Null when there is none. */
export function identifierText(value: unknown): string | null {
  if (typeof value !== 'string' && typeof value !== 'number') return null;
  const text = String(value).slice(0, IDENTIFIER_LENGTH);
  return text === '' ? null : text;
}

/** One span, or one log without a trace, as stored, with what each table still shows of it. */
export class SpanRow {
  readonly uniqueId: string;
  readonly environment: Environment;
  readonly seq: number;
  /** When the workers insert it: from this virtual instant on both tables show it. */
  readonly bornMs: number;
  /** From this virtual instant on the table shows it no more; Infinity while it lives. */
  readonly goneMs: Record<View, number> = { spans: Infinity, traces: Infinity };
  readonly traceId: string | null;
  readonly spanId: string;
  readonly parentId: string | null;
  readonly name: string;
  readonly workflowName: string | null;
  readonly logType: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly customerIdentifier: string | null;
  readonly customerName: string | null;
  readonly customerEmail: string | null;
  readonly customIdentifier: string | null;
  readonly threadIdentifier: string | null;
  readonly traceGroupIdentifier: string | null;
  readonly model: string | null;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cost: number;
  readonly error: string | null;
  readonly input: unknown;
  readonly output: unknown;
  readonly keyName: string | null;
  metadata: Readonly<Record<string, string>>;
  isPinned = false;
  positiveFeedback: boolean | null = null;
  note: string | null = null;

  constructor(fields: SpanFields, uniqueId: string, seq: number, bornMs: number) {
    this.uniqueId = uniqueId;
    this.environment = fields.environment;
    this.seq = seq;
    this.bornMs = bornMs;
    this.traceId = fields.traceId ?? null;
    this.spanId = fields.spanId ?? uniqueId.slice(0, 16);
    this.parentId = fields.parentId ?? null;
    this.name = fields.name ?? '';
    this.workflowName = fields.workflowName ?? null;
    this.logType = fields.logType ?? 'text';
    this.startMs = fields.startMs;
    this.endMs = fields.endMs ?? fields.startMs;
    this.customerIdentifier = fields.customerIdentifier ?? null;
    this.customerName = fields.customerName ?? null;
    this.customerEmail = fields.customerEmail ?? null;
    this.customIdentifier = fields.customIdentifier ?? null;
    this.threadIdentifier = fields.threadIdentifier ?? null;
    this.traceGroupIdentifier = fields.traceGroupIdentifier ?? null;
    this.metadata = fields.metadata ?? NO_METADATA;
    this.model = fields.model ?? null;
    this.promptTokens = fields.promptTokens ?? 0;
    this.completionTokens = fields.completionTokens ?? 0;
    this.cost = fields.cost ?? 0;
    this.error = fields.error ?? null;
    this.input = fields.input ?? null;
    this.output = fields.output ?? null;
    this.keyName = fields.keyName ?? null;
  }

  get isRoot(): boolean {
    return this.parentId === null;
  }

  /** Thread and trace-group ids both fold into it. */
  get sessionIdentifier(): string | null {
    return this.threadIdentifier ?? this.traceGroupIdentifier;
  }

  /** Seconds. */
  get latency(): number {
    return (this.endMs - this.startMs) / 1000;
  }

  visible(view: View, atMs: number): boolean {
    return this.bornMs <= atMs && atMs < this.goneMs[view] && (view === 'spans' || this.traceId !== null);
  }

  /** Whether either table shows it. */
  live(atMs: number): boolean {
    return this.visible('spans', atMs) || this.visible('traces', atMs);
  }
}

/** One row of the trace table: what the spans of a trace in one environment add up to. */
export class TraceRow {
  readonly traceId: string;
  readonly environment: Environment;
  /** Spans that the trace table counts, earliest first. */
  readonly spans: readonly SpanRow[];
  /** The earliest span without a parent; null when it is gone or never came. */
  readonly root: SpanRow | null;

  constructor(traceId: string, environment: Environment, spans: readonly SpanRow[]) {
    this.traceId = traceId;
    this.environment = environment;
    this.spans = [...spans].sort((left, right) => left.startMs - right.startMs || left.seq - right.seq);
    this.root = this.spans.find((span) => span.isRoot) ?? null;
  }

  get startMs(): number {
    return this.spans[0]?.startMs ?? 0;
  }

  get endMs(): number {
    return this.spans.reduce((latest, span) => Math.max(latest, span.endMs), 0);
  }

  /** Seconds. */
  get duration(): number {
    return (this.endMs - this.startMs) / 1000;
  }

  get llmCalls(): number {
    return this.spans.filter((span) => span.model !== null).length;
  }

  get errors(): number {
    return this.spans.filter((span) => span.error !== null).length;
  }

  /** The sum of a number over the spans. */
  total(of: 'promptTokens' | 'completionTokens' | 'cost'): number {
    return this.spans.reduce((sum, span) => sum + span[of], 0);
  }
}
