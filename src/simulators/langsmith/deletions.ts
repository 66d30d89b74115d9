import type { Copies } from './copies.ts';
import { softDelete } from './copies.ts';
import { metadataText } from './filter.ts';
import type { HabitSwitches } from './habits.ts';
import { hashShare, type Random } from '../common/ids.ts';
import { VIEWS, type RunRow, type View } from './rows.ts';
import type { RunState } from './state.ts';
import { WEEK_MS, nextBatchAfter, weekendOf } from './time.ts';

/** A delete request that was accepted with 202. */
export interface Submission {
  readonly seq: number;
  /** Virtual instant of acceptance, epoch milliseconds. */
  readonly atMs: number;
  readonly route: string;
  readonly tenantId: string;
  /** The project named; `null` in metadata mode. */
  readonly projectId: string | null;
  readonly traceIds: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>> | null;
  readonly deleteExamples: boolean;
  /** Lower bound on the start of the traces that metadata mode selects; the field is undocumented. */
  readonly startMs: number | null;
  /** When a batch took it; `null` while it waits. */
  executedMs: number | null;
}

/** A trace of which a batch removed runs. */
export interface Deletion {
  readonly traceId: string;
  readonly projectId: string;
  /** Virtual instant of the batch. */
  readonly atMs: number;
  readonly by: 'ids' | 'metadata' | 'project';
  /** Whether any submission, or the test itself, named this very trace (or its project) in this project. */
  readonly askedFor: boolean;
  readonly runs: number;
}

/** What was asked, and what the weekend batches made of it. */
export class DeletionQueue {
  readonly submissions: Submission[] = [];
  readonly deletions: Deletion[] = [];
  readonly #state: RunState;
  readonly #copies: Copies;
  readonly #habits: HabitSwitches;
  readonly #random: Random;
  readonly #seed: number;
  readonly #asked = new Map<string, Set<string>>();
  readonly #operatorProjects = new Set<string>();
  #doneMs: number;
  #skippedWeekend: number | null = null;

  constructor(state: RunState, copies: Copies, habits: HabitSwitches, random: Random, seed: number, startMs: number) {
    this.#state = state;
    this.#copies = copies;
    this.#habits = habits;
    this.#random = random;
    this.#seed = seed;
    this.#doneMs = startMs;
  }

  /** Accepts a request; nothing happens to any run before a batch. */
  submit(fields: Omit<Submission, 'seq' | 'executedMs'>): void {
    this.submissions.push({ ...fields, seq: this.submissions.length + 1, executedMs: null });
    if (fields.projectId === null) return;
    const asked = this.#asked.get(fields.projectId) ?? new Set();
    for (const traceId of fields.traceIds) asked.add(traceId);
    this.#asked.set(fields.projectId, asked);
  }

  /** Remembers that the test itself had the project deleted: its traces count as asked for. */
  deletedByOperator(projectId: string): void {
    this.#operatorProjects.add(projectId);
  }

  /** Runs every batch that was due up to now. Called before each request and each look at the truth. */
  catchUp(nowMs: number): void {
    for (let batch = nextBatchAfter(this.#doneMs); batch <= nowMs; batch = nextBatchAfter(batch)) {
      this.#doneMs = batch;
      const weekend = weekendOf(batch);
      if (this.#skippedWeekend !== weekend && this.#habits.takeSkip()) this.#skippedWeekend = weekend;
      if (this.#skippedWeekend !== weekend) this.#run(batch);
    }
    this.#doneMs = Math.max(this.#doneMs, nowMs);
  }

  #run(batchMs: number): void {
    for (const submission of this.submissions) {
      if (submission.executedMs !== null || submission.atMs > batchMs) continue;
      submission.executedMs = batchMs;
      if (submission.metadata === null) this.#byIds(submission, batchMs);
      else this.#byMetadata(submission, batchMs);
    }
    for (const project of this.#state.projects.values()) {
      if (project.cleaned || project.goneMs > batchMs) continue;
      this.removeProject(project.id, batchMs);
    }
  }

  /** Removes the runs of a deleted project. */
  removeProject(projectId: string, atMs: number): void {
    const project = this.#state.projects.get(projectId);
    if (project === undefined) return;
    project.cleaned = true;
    const traceIds = new Set(this.#state.rowsOfProject(projectId).map((row) => row.traceId));
    for (const traceId of traceIds) this.#remove(traceId, projectId, atMs, 'project', false);
  }

  #byIds(submission: Submission, batchMs: number): void {
    const { dropShare } = this.#habits.current;
    for (const traceId of new Set(submission.traceIds)) {
      if (dropShare > 0 && hashShare(String(this.#seed), String(submission.seq), traceId) < dropShare) continue;
      this.#remove(traceId, submission.projectId ?? '', batchMs, 'ids', submission.deleteExamples);
    }
  }

  #byMetadata(submission: Submission, batchMs: number): void {
    const traces = new Map<string, [string, string]>();
    for (const [key, value] of Object.entries(submission.metadata ?? {})) {
      for (const row of this.#state.rowsWithPair(key, metadataText(value))) {
        if (this.#state.tenantOf(row.projectId) !== submission.tenantId || !row.live(batchMs)) continue;
        if (submission.startMs !== null && row.startMs < submission.startMs) continue;
        if (row.pairs.some(([k, v]) => k === key && v === metadataText(value))) {
          traces.set(`${row.projectId} ${row.traceId}`, [row.traceId, row.projectId]);
        }
      }
    }
    for (const [traceId, projectId] of traces.values()) {
      this.#remove(traceId, projectId, batchMs, 'metadata', submission.deleteExamples);
    }
  }

  #remove(traceId: string, projectId: string, atMs: number, by: Deletion['by'], deleteExamples: boolean): void {
    const rows = this.#state.rowsOfTrace(traceId).filter((row) => row.projectId === projectId && row.live(atMs));
    const { leaveChildren, viewLag, keepFeedback, keepShares } = this.#habits.current;
    const doomed = leaveChildren && by !== 'project' ? rows.filter((row) => row.isRoot) : rows;
    const removed = doomed.filter((row) => row.goneMs.v1 === Infinity || row.goneMs.v2 === Infinity);
    if (removed.length === 0) return;
    for (const row of removed) {
      for (const view of VIEWS) row.goneMs[view] = Math.min(row.goneMs[view], goneAt(view, atMs, viewLag));
      if (keepFeedback) continue;
      for (const feedback of this.#copies.allFeedbackOf(row.id)) feedback.goneMs = Math.min(feedback.goneMs, atMs);
    }
    if (!keepShares) {
      const share = this.#copies.shareOf('run', projectId, traceId, atMs);
      if (share !== null) share.goneMs = atMs;
    }
    if (deleteExamples) for (const example of this.#copies.examplesOfTrace(traceId)) softDelete(example, atMs);
    const askedFor = (this.#asked.get(projectId)?.has(traceId) ?? false) || this.#operatorProjects.has(projectId);
    this.deletions.push({ traceId, projectId, atMs, by, askedFor, runs: removed.length });
    this.#comeBack(removed, traceId, projectId, atMs);
  }

  #comeBack(removed: readonly RunRow[], traceId: string, projectId: string, atMs: number): void {
    const model = removed.find((row) => row.isRoot) ?? removed[0];
    if (model === undefined) return;
    const common = { projectId, tags: model.tags, metadata: model.metadata, extra: model.extra };
    const newcomer = this.#habits.takeLateTrace();
    if (newcomer !== null) {
      const id = this.#random.uuid7(model.startMs);
      const fields = { ...common, id, traceId: id, name: model.name, runType: model.runType };
      // Late data: it happened when its model did, and arrives now.
      this.#state.upsert({ ...fields, startMs: model.startMs, endMs: model.startMs + 1000 }, atMs, atMs + newcomer);
    }
    const straggler = this.#habits.takeLateRun();
    if (straggler !== null) {
      const id = this.#random.uuid7(model.startMs);
      const fields = { ...common, id, traceId, parentId: traceId, name: 'late run', runType: 'tool' };
      this.#state.upsert({ ...fields, startMs: model.startMs, endMs: model.startMs + 1 }, atMs, atMs + straggler);
    }
  }
}

function goneAt(view: View, atMs: number, lag: { readonly view: View; readonly weeks: number } | null): number {
  return lag?.view === view ? atMs + lag.weeks * WEEK_MS : atMs;
}
