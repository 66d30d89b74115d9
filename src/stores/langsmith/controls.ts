import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { ControlQuery, ControlsFound, Window } from '../port.ts';
import type { Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import { carriesOther, hasKey, or } from './filter.ts';
import type { Reader } from './reads.ts';
import { MOST_PROJECTS } from './reads.ts';
import { ControlPool } from '../control-pool.ts';
import { chunks, isRefusal, unique } from '../rows.ts';
import type { WireRun } from './schemas.ts';
import { bareKey, rowOf } from './schemas.ts';

/** What controls are looked for with. */
export interface ControlSources {
  readonly api: LangSmithApi;
  readonly config: LangSmithConnection;
  readonly reader: Reader;
  /** Projects seen to hold runs, for the life of the connection. */
  readonly filled: Set<string>;
}

/** Calls that one search for controls may make. */
const MOST_CALLS = 30;
/** Of these, those spent on one project. */
const MOST_SLICES = 5;
/**
 * Offers live runs of other people, per project, key and class of value, the oldest that were read first. One broad call
 * first; what it leaves uncovered, because busy projects fill its page, is asked for more narrowly. Where a project and
 * key have no run at all, nothing is offered, and a project without any such run is named as silent.
 */
export async function findControls(
  sources: ControlSources,
  { projects, terms, window, want, exclude, progress }: ControlQuery,
): Promise<ControlsFound> {
  const { api, config, reader } = sources;
  const tally = api.tally(progress);
  const keys = unique(terms.flatMap((term) => term.keys));
  const pool = new ControlPool(keys, want, exclude);
  let calls = 0;
  const ask = async (
    projectIds: readonly string[],
    some: readonly string[],
    toMs = window.toMs,
    filter = or(some.map((key) => hasKey(bareKey(key)))),
  ): Promise<boolean> => {
    calls += 1;
    const query = { projectIds, window: { fromMs: window.fromMs, toMs }, filter, mostPages: 1 };
    const { runs, complete } = await reader.runs(tally, query);
    const carries = ({ metadata }: WireRun): boolean => some.some((key) => Object.hasOwn(metadata ?? {}, bareKey(key)));
    if (runs.length > 0 && !runs.some(carries)) {
      throw api.broken(tally, reader.route, 'runs came back without the keys asked for: the store ignored the filter');
    }
    pool.add(runs.map((run) => rowOf(run, config.identifiers, config.threads)));
    return complete;
  };
  const nowMs = Math.min(window.toMs, api.nowMs());
  const everyId = projects.map(({ id }) => id);
  for (const projectIds of chunks(everyId, MOST_PROJECTS)) {
    let open: readonly string[] = projectIds;
    let missing = keys;
    let complete = false;
    // What is covered stays out of the next call, so that quiet projects and rare keys get a page of their own.
    for (let before = Number.POSITIVE_INFINITY; calls < MOST_CALLS;) {
      complete = await ask(open, missing);
      open = open.filter((id) => pool.uncovered(id).length > 0);
      missing = unique(open.flatMap((id) => pool.uncovered(id)));
      const size = open.length * missing.length;
      if (complete || size === 0 || size >= Math.min(before, projectIds.length * keys.length)) break;
      before = size;
    }
    if (complete) continue;
    for (const projectId of open) {
      // A project full of the person's own runs: first everybody else's, then, page by page, twice as far back.
      const others = pool
        .uncovered(projectId)
        .map((key) => carriesOther(bareKey(key), pool.barredValues(projectId, key)));
      if (pool.isBarredIn(projectId) && others.length > 0 && calls < MOST_CALLS) {
        await ask([projectId], pool.uncovered(projectId), window.toMs, or(others)).catch((error: unknown) => {
          if (!isRefusal(error)) throw error;
        });
      }
      for (let slice = 0; slice < MOST_SLICES && calls < MOST_CALLS; slice += 1) {
        const some = pool.uncovered(projectId);
        const oldestMs = pool.oldestMs(projectId);
        const toMs = oldestMs === null ? window.toMs : nowMs - 2 * Math.max(nowMs - oldestMs, MINUTE_MS);
        if (some.length === 0 || toMs <= window.fromMs || (await ask([projectId], some, toMs))) break;
      }
    }
  }
  const silent = everyId.filter((id) => !pool.speaks(id));
  const holding = await projectsWithRuns(sources, tally, silent, window);
  return {
    controls: pool.offer(),
    silent: silent.map((projectId) => ({ projectId, holdsRuns: holding.has(projectId) })),
    reports: [tally.report('controls', window)],
  };
}

/**
 * Which of the projects hold any run. Those seen to hold some are remembered: that one was emptied since would only make
 * a verdict more careful. What the bounded calls leave open counts as holding runs, for the same reason.
 */
async function projectsWithRuns(
  { reader, filled }: ControlSources,
  tally: Tally,
  projectIds: readonly string[],
  window: Window,
): Promise<ReadonlySet<string>> {
  const open = new Set(projectIds.filter((id) => !filled.has(id)));
  let calls = 0;
  for (const some of chunks([...open], MOST_PROJECTS)) {
    const { runs, complete } = await reader.runs(tally, { projectIds: some, window, mostPages: 1 });
    for (const { project_id: id } of runs) filled.add(id);
    for (const id of some) if (complete || filled.has(id)) open.delete(id);
  }
  for (const id of open) {
    if (calls >= MOST_CALLS) break;
    calls += 1;
    const { runs } = await reader.runs(tally, { projectIds: [id], window, mostPages: 1, pageSize: 1 });
    if (runs.length > 0) filled.add(id);
    open.delete(id);
  }
  return new Set(projectIds.filter((id) => filled.has(id) || open.has(id)));
}
