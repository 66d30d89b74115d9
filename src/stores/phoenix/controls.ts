import { ControlPool } from '../control-pool.ts';
import type { ControlQuery, ControlsFound } from '../port.ts';
import { chunks, unique, valuesOf } from '../rows.ts';
import type { PhoenixApi } from './api.ts';
import { GRAPHQL_ROUTE } from './api.ts';
import { having } from './condition.ts';
import { filledProjectSchema } from './schemas.ts';
import type { Spans } from './spans.ts';
import { MOST_PROJECTS } from './spans.ts';
import { ID_PATTERN } from './traits.ts';

export interface ControlSources {
  readonly api: PhoenixApi;
  readonly spans: Spans;
}

/** Spans read of each project for controls: they come with all their attributes. */
const SAMPLE = 100;

/**
 * Offers live spans of other people, per project, attribute and class of value, the first that were written first. One
 * broad question first; what it leaves uncovered is asked for more narrowly. Where a project and attribute have no span
 * at all, nothing is offered, and a project without any such span is named as silent.
 */
export async function findControls(
  { api, spans }: ControlSources,
  { projects, terms, window, want, exclude, progress }: ControlQuery,
): Promise<ControlsFound> {
  const tally = api.tally(progress);
  const keys = unique(terms.flatMap((term) => term.keys));
  const pool = new ControlPool(keys, want, exclude);
  const filled = new Set<string>();
  const first = Math.min(SAMPLE, spans.pageSize);
  /** @returns projects of which a page was not all. */
  const ask = async (ids: readonly string[], condition: string, newestFirst = false): Promise<readonly string[]> => {
    const more: string[] = [];
    const places = ids.map((id) => ({ id, after: null }));
    const answers = await spans.page(tally, places, { condition, first, newestFirst }, filledProjectSchema);
    for (const [index, { rows, after, project }] of answers.entries()) {
      if (rows.some((row) => !valuesOf(row).some(({ key }) => keys.includes(key)))) {
        const advice = 'spans came back without the attributes asked for: the store ignored the condition';
        throw api.broken(tally, GRAPHQL_ROUTE, advice);
      }
      tally.rows += rows.length;
      pool.add(rows.filter(({ traceId, runId }) => ID_PATTERN.test(traceId) && ID_PATTERN.test(runId)));
      if (project.traceCount > 0) filled.add(project.id);
      if (after !== null) more.push(ids[index] ?? project.id);
    }
    return more;
  };
  for (const some of chunks(
    projects.map(({ id }) => id),
    MOST_PROJECTS,
  )) {
    const more = await ask(some, having(keys));
    let open = more.filter((id) => pool.uncovered(id).length > 0);
    if (open.length === 0) continue;
    const missing = unique(open.flatMap((id) => pool.uncovered(id)));
    const left = await ask(open, having(missing), true);
    // A page full of people who may not serve: everybody else.
    open = left.filter((id) => pool.uncovered(id).length > 0 && pool.isBarredIn(id));
    for (const id of open) {
      const others = pool.uncovered(id);
      const barred = others.flatMap((key) => pool.barredValues(id, key).map(({ text }) => ({ key, text })));
      if (barred.length > 0) await ask([id], having(others, barred));
    }
  }
  return {
    controls: pool.offer(),
    silent: projects
      .filter(({ id }) => !pool.speaks(id))
      .map(({ id: projectId }) => ({ projectId, holdsRuns: filled.has(projectId) })),
    reports: [tally.report('controls', window)],
  };
}
