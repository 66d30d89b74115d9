import type { Random } from '../common/ids.ts';
import { RunRow, type FeedbackView, type RunFields } from './rows.ts';

/** Project types as `GET /api/v2/sessions` names them. */
export type ProjectType = 'PROJECT' | 'AGENT' | 'EXPERIMENT';

/** A project (a "session" in URLs and bodies). */
export interface Project {
  readonly id: string;
  readonly tenantId: string;
  name: string;
  readonly type: ProjectType;
  readonly startMs: number;
  description: string | null;
  extra: Record<string, unknown>;
  endMs: number | null;
  readonly referenceDatasetId: string | null;
  /** Agent id and environment of an AGENT project. */
  readonly agent: { readonly id: string; readonly environment: string } | null;
  /** The workspace's evaluator project: resolved by kind, left out of the lists unless `listed`. */
  readonly evaluator: boolean;
  readonly listed: boolean;
  /** From this virtual instant on the project answers 404; its runs go later, with a batch. */
  goneMs: number;
  /** Whether a batch has already removed the runs of the deleted project. */
  cleaned: boolean;
}

/** What a new project may say about itself. */
export interface ProjectFields {
  readonly id?: string | undefined;
  readonly tenantId: string;
  readonly name: string;
  readonly type?: ProjectType | undefined;
  readonly description?: string | null | undefined;
  readonly extra?: Record<string, unknown> | undefined;
  readonly referenceDatasetId?: string | null | undefined;
  readonly agent?: { readonly id: string; readonly environment: string } | null | undefined;
  readonly evaluator?: boolean | undefined;
  readonly listed?: boolean | undefined;
}

interface ProjectRows {
  rows: RunRow[];
  sorted: boolean;
}

function before(left: RunRow, right: RunRow): number {
  return left.startMs - right.startMs || left.seq - right.seq;
}

/** Every row that was ever written, with indexes; dead rows stay, so that a stale read can still see them. */
export class RunState {
  readonly projects = new Map<string, Project>();
  readonly #random: Random;
  readonly #byProject = new Map<string, ProjectRows>();
  readonly #byId = new Map<string, RunRow[]>();
  readonly #byTrace = new Map<string, RunRow[]>();
  readonly #byPair = new Map<string, RunRow[]>();
  readonly #byThread = new Map<string, RunRow[]>();
  readonly #feedback: (runId: string) => readonly FeedbackView[];
  #seq = 0;

  constructor(random: Random, feedback: (runId: string) => readonly FeedbackView[]) {
    this.#random = random;
    this.#feedback = feedback;
  }

  /** Creates a project. */
  addProject(fields: ProjectFields, nowMs: number): Project {
    const project: Project = {
      id: fields.id ?? this.#random.uuid4(),
      tenantId: fields.tenantId,
      name: fields.name,
      type: fields.type ?? (fields.referenceDatasetId ? 'EXPERIMENT' : 'PROJECT'),
      startMs: nowMs,
      description: fields.description ?? null,
      extra: fields.extra ?? {},
      endMs: null,
      referenceDatasetId: fields.referenceDatasetId ?? null,
      agent: fields.agent ?? null,
      evaluator: fields.evaluator ?? false,
      listed: fields.listed ?? true,
      goneMs: Infinity,
      cleaned: false,
    };
    this.projects.set(project.id, project);
    return project;
  }

  /** The living project of that name, evaluator projects included. */
  projectByName(tenantId: string, name: string, nowMs: number): Project | null {
    for (const project of this.projects.values()) {
      if (project.tenantId === tenantId && project.name === name && nowMs < project.goneMs) return project;
    }
    return null;
  }

  /** The living projects of a workspace, oldest first. */
  liveProjects(tenantId: string, nowMs: number): Project[] {
    return [...this.projects.values()].filter((one) => one.tenantId === tenantId && nowMs < one.goneMs);
  }

  /** The workspace of a project, `null` when there never was such a project. */
  tenantOf(projectId: string): string | null {
    return this.projects.get(projectId)?.tenantId ?? null;
  }

  /**
   * Writes a run: a new row, or what the write says about the living row of that id in that project. A write to a run
   * whose deletion has run makes a new row, as the service's ingest knows no tombstones.
   */
  upsert(fields: RunFields, nowMs: number, bornMs = nowMs): RunRow {
    const known = this.#byId.get(fields.id);
    const living = known?.find(
      (row) => row.projectId === fields.projectId && nowMs < row.goneMs.v1 && nowMs < row.goneMs.v2,
    );
    if (living !== undefined) {
      this.#update(living, fields);
      return living;
    }
    for (const row of known ?? []) {
      if (row.projectId !== fields.projectId) continue;
      row.goneMs.v1 = Math.min(row.goneMs.v1, nowMs);
      row.goneMs.v2 = Math.min(row.goneMs.v2, nowMs);
    }
    this.#seq += 1;
    const row = new RunRow(fields, this.#seq, bornMs, fields.startMs ?? nowMs, this.#feedback);
    row.apply(fields);
    this.#index(row);
    return row;
  }

  #update(row: RunRow, fields: RunFields): void {
    const { startMs, traceId, threadId } = row;
    const pairs = new Set(row.pairs.map(([key, value]) => `${key}\u0000${value}`));
    row.apply(fields);
    const rows = this.#byProject.get(row.projectId);
    if (row.startMs !== startMs && rows !== undefined) rows.sorted = false;
    if (row.traceId !== traceId) push(this.#byTrace, row.traceId, row);
    if (row.threadId !== null && row.threadId !== threadId) push(this.#byThread, row.threadId, row);
    for (const [key, value] of row.pairs) {
      const pair = `${key}\u0000${value}`;
      if (!pairs.has(pair)) push(this.#byPair, pair, row);
    }
  }

  #index(row: RunRow): void {
    let rows = this.#byProject.get(row.projectId);
    if (rows === undefined) {
      rows = { rows: [], sorted: true };
      this.#byProject.set(row.projectId, rows);
    }
    const last = rows.rows.at(-1);
    if (last !== undefined && before(last, row) > 0) rows.sorted = false;
    rows.rows.push(row);
    push(this.#byId, row.id, row);
    push(this.#byTrace, row.traceId, row);
    if (row.threadId !== null) push(this.#byThread, row.threadId, row);
    for (const [key, value] of row.pairs) push(this.#byPair, `${key}\u0000${value}`, row);
  }

  /** Rows of a project, earliest start first; dead ones included. */
  rowsOfProject(projectId: string): readonly RunRow[] {
    const rows = this.#byProject.get(projectId);
    if (rows === undefined) return [];
    if (!rows.sorted) {
      rows.rows.sort(before);
      rows.sorted = true;
    }
    return rows.rows;
  }

  rowsById(id: string): readonly RunRow[] {
    return this.#byId.get(id) ?? [];
  }

  rowsOfTrace(traceId: string): readonly RunRow[] {
    const rows = this.#byTrace.get(traceId) ?? [];
    return rows.filter((row) => row.traceId === traceId);
  }

  /** Rows that carry or once carried the metadata entry: a superset, which callers check. */
  rowsWithPair(key: string, value: string): readonly RunRow[] {
    return this.#byPair.get(`${key}\u0000${value}`) ?? [];
  }

  /** Rows that are or were in the thread: a superset, which callers check. */
  rowsOfThread(threadId: string): readonly RunRow[] {
    return this.#byThread.get(threadId) ?? [];
  }

  /** Every trace id ever seen. */
  traceIds(): Iterable<string> {
    return this.#byTrace.keys();
  }

  /** Every row ever written, project by project. */
  *rows(): Iterable<RunRow> {
    for (const projectId of this.#byProject.keys()) yield* this.rowsOfProject(projectId);
  }
}

function push(index: Map<string, RunRow[]>, key: string, row: RunRow): void {
  const rows = index.get(key);
  if (rows === undefined) index.set(key, [row]);
  else rows.push(row);
}
