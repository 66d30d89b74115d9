import { ControlPool } from '../control-pool.ts';
import type { ControlQuery, ControlsFound } from '../port.ts';
import { chunks, unique, valuesOf } from '../rows.ts';
import type { BraintrustApi } from './api.ts';
import { and, formsOf, ge, isNotNull, ne, or } from './query.ts';
import type { Expression } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { BTQL_ROUTE, MOST_OBJECTS } from './rows.ts';
import { pathsOf, rowOf, traceOf } from './schemas.ts';

/** What controls are looked for with. */
export interface ControlSources {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  /** Projects seen to hold rows, for the life of the connection. */
  readonly filled: Set<string>;
}

/** Queries that one search for controls may make: they are the scarcest calls of this store. */
const MOST_CALLS = 10;

/**
 * Offers live rows of other people, per project, key and class of value, the oldest that were read first. One broad query
 * first; what it leaves uncovered, because busy projects fill its page, is asked for more narrowly. Where a project and
 * key have no row at all, nothing is offered, and a project without any such row is named as silent.
 */
export async function findControls(
  { api, rows, filled }: ControlSources,
  { projects, terms, window, want, exclude, progress }: ControlQuery,
): Promise<ControlsFound> {
  const state = rows.state(progress);
  const keys = unique(terms.flatMap((term) => term.keys));
  const pool = new ControlPool(keys, want, exclude);
  let calls = 0;
  const ask = async (
    ids: readonly string[],
    some: readonly string[],
    options: { readonly newestFirst?: boolean; readonly besides?: readonly Expression[] } = {},
  ): Promise<boolean> => {
    calls += 1;
    const carrying = or(some.flatMap((key) => pathsOf(key).map(isNotNull)));
    const filter = and([carrying, ...(options.besides ?? [])]);
    const page = await rows.page(state, { source: 'project_logs', ids, filter, window }, options);
    if (page.rows.length > 0 && !page.rows.some((row) => valuesOf(row).some(({ key }) => some.includes(key)))) {
      const advice = 'rows came back without the keys asked for: the store ignored the filter';
      throw api.broken(state.tally, BTQL_ROUTE, advice);
    }
    // A row without a trace is no pattern of a whole one.
    pool.add(page.rows.filter(({ root }) => root !== null).map((row) => rowOf(row, traceOf(row))));
    return page.complete;
  };
  const everyId = projects.map(({ id }) => id);
  for (const projectIds of chunks(everyId, MOST_OBJECTS)) {
    let open: readonly string[] = projectIds;
    let missing = keys;
    let complete = false;
    // What is covered stays out of the next query, so that quiet projects and rare keys get a page of their own.
    for (let before = Number.POSITIVE_INFINITY; calls < MOST_CALLS;) {
      complete = await ask(open, missing);
      open = open.filter((id) => pool.uncovered(id).length > 0);
      missing = unique(open.flatMap((id) => pool.uncovered(id)));
      const size = open.length * missing.length;
      if (complete || size === 0 || size >= Math.min(before, projectIds.length * keys.length)) break;
      before = size;
    }
    if (complete) continue;
    for (const id of open) {
      if (calls >= MOST_CALLS) break;
      // A page full of people who may not serve: the other end of time, then everybody else.
      if (await ask([id], pool.uncovered(id), { newestFirst: true })) continue;
      const others = pool.uncovered(id);
      if (others.length === 0 || !pool.isBarredIn(id) || calls >= MOST_CALLS) continue;
      const besides = others.flatMap((key) =>
        pathsOf(key).flatMap((path) =>
          pool.barredValues(id, key).flatMap((value) => formsOf(value).map((form) => ne(path, form))),
        ),
      );
      if (besides.length > 0) await ask([id], others, { besides });
    }
  }
  const silent = everyId.filter((id) => !pool.speaks(id));
  const holding = await projectsWithRows({ rows, filled }, state, silent);
  return {
    controls: pool.offer(),
    silent: silent.map((projectId) => ({ projectId, holdsRuns: holding.has(projectId) })),
    reports: [state.report('controls', window)],
  };
}

/**
 * Which of the projects hold any row. Those seen to hold some are remembered: that one was emptied since would only make
 * a verdict more careful. What the bounded queries leave open counts as holding rows, for the same reason, and so does what
 * an answer does not show that has not caught up with what was written.
 */
async function projectsWithRows(
  { rows, filled }: Pick<ControlSources, 'rows' | 'filled'>,
  state: ReadState,
  projectIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const open = new Set(projectIds.filter((id) => !filled.has(id)));
  // Any row at all; a bound on the paging key keeps it from being a question about all history.
  const filter = ge(['_pagination_key'], '');
  let calls = 0;
  for (let before = Number.POSITIVE_INFINITY; open.size > 0 && open.size < before && calls < MOST_CALLS;) {
    before = open.size;
    const ids = [...open].slice(0, MOST_OBJECTS);
    const page = await rows.page(state, { source: 'project_logs', ids, filter, window: null }, { caughtUp: true });
    calls += 1;
    for (const { objectId } of page.rows) filled.add(objectId);
    const showsAll = page.complete && state.inconclusive === null;
    for (const id of ids) if (showsAll || filled.has(id)) open.delete(id);
  }
  return new Set(projectIds.filter((id) => filled.has(id) || open.has(id)));
}
