import type { Window } from '../port.ts';
import type { Page, Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import type { WireRun } from './schemas.ts';
import { bareKey, fromV1, THREAD_KEYS, v1RunsSchema, v1TraceSchema, v2RunsSchema } from './schemas.ts';
import { NARROW_WINDOW_MS } from './traits.ts';
import type { CallShape } from './traits.ts';

/** One question about runs, in neither generation's words. Exactly one of `filter`, `runIds`, `traceId`. */
export interface RunsQuery {
  readonly projectIds: readonly string[];
  readonly window: Window;
  readonly filter?: string;
  readonly runIds?: readonly string[];
  readonly traceId?: string;
  /** Stop after so many pages and say so. Default: read all. */
  readonly mostPages?: number;
  readonly pageSize?: number;
  /** Throws `TooManyRuns` once more are read. Default: no bound. */
  readonly mostRuns?: number;
  /** See `StoreApi.pages`. */
  readonly sure?: boolean;
  readonly rootsOnly?: boolean;
}

/** Thrown by a bounded read that would have brought more. */
export class TooManyRuns extends Error {
  readonly runs: readonly WireRun[];

  constructor(runs: readonly WireRun[]) {
    super(`more than ${runs.length} runs`);
    this.name = 'TooManyRuns';
    this.runs = runs;
  }
}

export interface RunsRead {
  readonly runs: readonly WireRun[];
  /** False when `mostPages` cut it short. */
  readonly complete: boolean;
}

/** One generation of the run query. */
export interface RunsRoute {
  /** `v2` or `v1`. */
  readonly generation: 'v2' | 'v1';
  readonly route: string;
  /**
   * Reads every run that answers the question, of any depth.
   *
   * @throws StoreError `contract-broken` also when runs of other projects, traces or ids come back: the store then did
   *   not apply what was asked, and an empty answer would prove nothing.
   */
  read(tally: Tally, query: RunsQuery): Promise<RunsRead>;
}

/** All that is needed; nothing that holds content (FEEDBACK_STATS has comments: only their presence is kept). */
const V2_SELECTS = [
  'ID',
  'TRACE_ID',
  'PROJECT_ID',
  'START_TIME',
  'METADATA',
  'SHARE_URL',
  'IS_IN_DATASET',
  'LAST_QUEUED_AT',
  'FEEDBACK_STATS',
];
const V1_SELECT = [
  'id',
  'trace_id',
  'session_id',
  'start_time',
  'extra',
  'share_token',
  'in_dataset',
  'last_queued_at',
  'feedback_stats',
];
const V1_PAGE = 100;

const V2_ROUTE = '/api/v2/runs/query';
const V1_ROUTE = '/api/v1/runs/query';

/**
 * v2. Always with both bounds: without `min_start_time` the vendor's default is one day ago, and everything older looks
 * deleted.
 */
export function v2Runs(api: LangSmithApi, config: LangSmithConnection): RunsRoute {
  const slim = slimmer(config);
  return {
    generation: 'v2',
    route: `POST ${V2_ROUTE}`,
    async read(tally, query) {
      const body = {
        project_ids: query.projectIds,
        ...(query.filter === undefined ? {} : { filter: query.filter }),
        ...(query.runIds === undefined ? {} : { ids: query.runIds }),
        ...(query.traceId === undefined ? {} : { trace_id: query.traceId }),
        ...(query.rootsOnly === true ? { is_root: true } : {}),
        min_start_time: new Date(query.window.fromMs).toISOString(),
        max_start_time: new Date(query.window.toMs).toISOString(),
        selects: V2_SELECTS,
        page_size: query.pageSize ?? config.pageSize,
      };
      return readAll(api, tally, this.route, query, async (cursor) => {
        const call = {
          method: 'POST',
          path: V2_ROUTE,
          body: withCursor(body, cursor),
          shape: shapeOf(query.window),
        } as const;
        const page = await api.call(tally, call, v2RunsSchema);
        return { rows: page.items.map(slim), next: page.next_cursor };
      });
    },
  };
}

/**
 * v1. `session` must be a list. Without `start_time` it searches all history, which is wider than any bound; `end_time`
 * is never sent, because whether it means the start or the end of a run is not documented, and a run without an end
 * must not be lost; a run that a broken clock put far into the future is shown by this generation alone. With `id` all other filters are ignored, the project too; with `trace` the whole trace comes at once.
 */
export function v1Runs(api: LangSmithApi, config: LangSmithConnection): RunsRoute {
  const slim = slimmer(config);
  return {
    generation: 'v1',
    route: `POST ${V1_ROUTE}`,
    async read(tally, query) {
      const unbounded = query.window.fromMs <= 0 || query.runIds !== undefined;
      const body = {
        ...(query.runIds === undefined ? { session: query.projectIds } : { id: query.runIds }),
        ...(query.filter === undefined ? {} : { filter: query.filter }),
        ...(query.traceId === undefined ? {} : { trace: query.traceId }),
        ...(query.rootsOnly === true ? { is_root: true } : {}),
        ...(unbounded ? {} : { start_time: new Date(query.window.fromMs).toISOString() }),
        select: V1_SELECT,
        limit: Math.min(query.pageSize ?? V1_PAGE, V1_PAGE),
      };
      const shape = unbounded ? 'wideQuery' : shapeOf({ fromMs: query.window.fromMs, toMs: api.nowMs() });
      const call = { method: 'POST', path: V1_ROUTE, shape } as const;
      return readAll(api, tally, this.route, query, async (cursor) => {
        if (query.traceId !== undefined) {
          const trace = await api.call(tally, { ...call, body }, v1TraceSchema);
          return { rows: trace.runs.map(fromV1).map(slim), next: null };
        }
        const page = await api.call(tally, { ...call, body: withCursor(body, cursor) }, v1RunsSchema);
        return { rows: page.runs.map(fromV1).map(slim), next: page.cursors.next };
      });
    },
  };
}

async function readAll(
  api: LangSmithApi,
  tally: Tally,
  route: string,
  query: RunsQuery,
  page: (cursor: string | null) => Promise<Page<WireRun>>,
): Promise<RunsRead> {
  const projects = new Set(query.projectIds);
  const ids = query.runIds === undefined ? null : new Set(query.runIds);
  const read: WireRun[] = [];
  const { mostRuns } = query;
  const checked = async (cursor: string | null): Promise<Page<WireRun>> => {
    const { rows, next } = await page(cursor);
    const strange = rows.some(
      (run) =>
        (ids === null ? !projects.has(run.project_id) : !ids.has(run.id)) ||
        (query.traceId !== undefined && run.trace_id !== query.traceId),
    );
    if (strange) throw api.broken(tally, route, 'runs came back that were not asked for: the store ignored a filter');
    if (mostRuns !== undefined) {
      read.push(...rows);
      if (read.length > mostRuns) throw new TooManyRuns(read);
    }
    return { rows, next };
  };
  const idOf = (run: WireRun): string => `${run.project_id} ${run.trace_id} ${run.id}`;
  if (query.mostPages === undefined) {
    return { runs: await api.pages(tally, route, checked, idOf, query.sure), complete: true };
  }
  const runs: WireRun[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < query.mostPages; pages += 1) {
    const { rows, next }: Page<WireRun> = await checked(cursor);
    runs.push(...rows);
    if (next === null) {
      tally.rows += runs.length;
      return { runs, complete: true };
    }
    cursor = next;
  }
  tally.rows += runs.length;
  return { runs, complete: false };
}

function withCursor(body: object, cursor: string | null): object {
  return cursor === null ? body : { ...body, cursor };
}

function shapeOf({ fromMs, toMs }: Window): CallShape {
  return toMs - fromMs <= NARROW_WINDOW_MS ? 'narrowQuery' : 'wideQuery';
}

/** Drops all metadata that nobody will ask about: a long read holds every run until its end. */
function slimmer(config: LangSmithConnection): (run: WireRun) => WireRun {
  const keys = [...[...Object.values(config.identifiers).flat(), ...config.threads].map(bareKey), ...THREAD_KEYS];
  return (run) => {
    const { metadata } = run;
    if (metadata === null || metadata === undefined) return run;
    const kept = keys
      .filter((key) => Object.hasOwn(metadata, key))
      .map((key): [string, unknown] => [key, metadata[key]]);
    return { ...run, metadata: Object.fromEntries(kept) };
  };
}
