import { hashShare } from '../common/ids.ts';
import type { HabitSwitches } from './habits.ts';
import type { TimeWindow } from './query.ts';
import { VIEWS, type Environment, type SpanFields, type SpanRow, type TraceRow, type View } from './rows.ts';
import type { SpanState } from './state.ts';

/** How a delete chose what it deletes. */
export type DeletionWay = 'bulk' | 'trace' | 'span' | 'customer';

/** A delete request that was accepted. */
export interface Submission {
  readonly seq: number;
  /** Virtual instant of acceptance, epoch milliseconds. */
  readonly atMs: number;
  readonly route: string;
  readonly by: DeletionWay;
  /** The environment it addressed, as the backend names it; `null` when it named an unknown one. */
  readonly projectId: Environment | null;
  /** Trace ids that it named and that were honoured. */
  readonly traceIds: readonly string[];
  /** Traces that matched when it was accepted. */
  readonly matched: number;
  /** Filter keys that were dropped. */
  readonly dropped: readonly string[];
  readonly window: TimeWindow | null;
  /** When its mutations are done; Infinity when they never are. */
  readonly dueMs: number;
}

/** What an accepted delete does to one trace, or to one log without a trace. */
export interface Deletion {
  /** `null` for a log without a trace. */
  readonly traceId: string | null;
  /** The environment. */
  readonly projectId: Environment;
  /** Virtual instant of acceptance. */
  readonly atMs: number;
  /** When each table stops showing the spans; Infinity where it keeps them. */
  readonly goneMs: Readonly<Record<View, number>>;
  readonly by: DeletionWay;
  /** Whether a delete so far named this trace in this environment, or this very log. */
  readonly askedFor: boolean;
  /** Unique ids of the spans or logs that go. */
  readonly uniqueIds: readonly string[];
}

/** What a delete is about. */
export interface DeleteOrder extends Omit<Submission, 'seq' | 'dueMs' | 'matched'> {
  readonly traces: readonly TraceRow[];
  /** Single rows to delete instead of whole traces. */
  readonly rows?: readonly SpanRow[];
}

/** Accepted deletes and what they do. ClickHouse runs them as mutations over the rows that are there at that moment. */
export class Deletions {
  readonly submissions: Submission[] = [];
  readonly deletions: Deletion[] = [];
  readonly #state: SpanState;
  readonly #habits: HabitSwitches;
  readonly #delayMs: Readonly<Record<View, number>>;
  readonly #seed: number;
  readonly #write: (fields: SpanFields, bornMs: number) => void;
  readonly #asked: Record<Environment, Set<string>> = { prod: new Set(), stage: new Set(), test: new Set() };

  constructor(
    state: SpanState,
    habits: HabitSwitches,
    delayMs: Readonly<Record<View, number>>,
    seed: number,
    write: (fields: SpanFields, bornMs: number) => void,
  ) {
    this.#state = state;
    this.#habits = habits;
    this.#delayMs = delayMs;
    this.#seed = seed;
    this.#write = write;
  }

  /** Accepts a delete: from now on it can't be stopped. */
  submit(order: DeleteOrder): void {
    const { traces, rows, ...fields } = order;
    const { deletesNeverRun, deletesDelayedMs, dropShare } = this.#habits.current;
    const seq = this.submissions.length + 1;
    const delayMs = Math.max(...VIEWS.map((view) => this.#delayMs[view])) + deletesDelayedMs;
    const dueMs = deletesNeverRun ? Infinity : order.atMs + delayMs;
    this.submissions.push({ ...fields, seq, dueMs, matched: traces.length });
    if (order.projectId !== null) for (const traceId of order.traceIds) this.#asked[order.projectId].add(traceId);
    if (deletesNeverRun) return;
    for (const row of rows ?? []) this.#remove(row.traceId, row.environment, [row], order);
    for (const { traceId, environment } of traces) {
      if (dropShare > 0 && hashShare(String(this.#seed), String(seq), environment, traceId) < dropShare) continue;
      this.#removeTrace(traceId, environment, order);
    }
  }

  #removeTrace(traceId: string, environment: Environment, order: DeleteOrder): void {
    const { leaveChildren, windowCutsSpans } = this.#habits.current;
    const spans = this.#state.spansOf(environment, traceId).filter((span) => span.live(order.atMs));
    const { window } = order;
    const doomed = spans.filter(
      (span) =>
        (!leaveChildren || span.isRoot) &&
        (!windowCutsSpans || window === null || (window.startMs <= span.endMs && span.endMs <= window.endMs)),
    );
    const model = spans.find((span) => span.isRoot) ?? spans[0];
    if (this.#remove(traceId, environment, doomed, order) && model !== undefined) this.#comeBack(model, order.atMs);
  }

  #remove(traceId: string | null, environment: Environment, doomed: readonly SpanRow[], order: DeleteOrder): boolean {
    const { mutates, deletesDelayedMs } = this.#habits.current;
    const goneMs = { spans: Infinity, traces: Infinity };
    const removed = new Set<SpanRow>();
    for (const view of VIEWS) {
      if (mutates !== 'both' && mutates !== view) continue;
      goneMs[view] = order.atMs + this.#delayMs[view] + deletesDelayedMs;
      for (const row of doomed) {
        if (row.goneMs[view] <= goneMs[view]) continue;
        row.goneMs[view] = goneMs[view];
        removed.add(row);
      }
    }
    if (removed.size === 0) return false;
    const named = traceId !== null && this.#asked[environment].has(traceId);
    this.deletions.push({
      traceId,
      projectId: environment,
      atMs: order.atMs,
      goneMs,
      by: order.by,
      askedFor: named || order.by === 'span',
      uniqueIds: [...removed].map((row) => row.uniqueId),
    });
    return true;
  }

  #comeBack(model: SpanRow, atMs: number): void {
    const { environment, traceId, customerIdentifier, metadata, threadIdentifier } = model;
    const common = { environment, customerIdentifier, metadata, threadIdentifier };
    const newcomer = this.#habits.takeLateTrace();
    if (newcomer !== null) {
      const fields = { ...common, traceId: this.#state.newId(), name: model.name, logType: model.logType };
      // Late data: it happened when its model did, and arrives now.
      this.#write({ ...fields, startMs: model.startMs, endMs: model.startMs + 1000 }, atMs + newcomer);
    }
    const straggler = this.#habits.takeLateSpan();
    if (straggler !== null) {
      const fields = { ...common, traceId, parentId: model.spanId, name: 'late span', logType: 'task' };
      this.#write({ ...fields, startMs: model.startMs, endMs: model.startMs + 1 }, atMs + straggler);
    }
  }
}
