import type { Control, Located, LocateQuery, Row, Window } from '../port.ts';
import { StoreError } from '../port.ts';
import type { Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import { anyOf, carries, or } from './filter.ts';
import type { Reader } from './reads.ts';
import { chunks, keyOf, seenIn, Union } from '../rows.ts';
import { controlledChunks, MOST_CLAUSES, MOST_PROJECTS } from './reads.ts';
import { valuesAt } from '../values.ts';
import { bareKey, rowOf, THREAD_KEYS } from './schemas.ts';

/** Unknown ids read one by one where lists of traces do not work; with more of them all stay unresolved. */
const MOST_SINGLE_LOOKUPS = 500;

/** What `locate` asks, and of whom. */
export interface Places {
  readonly api: LangSmithApi;
  readonly config: LangSmithConnection;
  /** The generation that answers for the projects of the query. */
  readonly reader: Reader;
  /** v1, whose look-up by run id ignores projects; undefined when switched off. */
  readonly bridge: Reader | undefined;
  /** Ids of all projects visible lately, also outside the configured scope. */
  readonly everyProject: ReadonlySet<string>;
}

/**
 * Finds where ids of unknown kind live: as runs, then as runs of any project of the workspace, then as traces whose root
 * is lost, then as keys of threads. Every call carries the controls, so that "not there" can be proven (P11).
 */
export async function locate(places: Places, query: LocateQuery): Promise<Located> {
  const { api, reader, bridge } = places;
  const { projects, window, controls, progress } = query;
  const tally = api.tally(progress);
  const projectIds = projects.map(({ id }) => id);
  const wrongKind = new Map<string, string>();
  const rows = new Map<string, Row>();
  const known = new Set<string>();
  const missed = new Set<Control>();
  const take = (found: { readonly rows: readonly Row[]; readonly seen: ReadonlySet<Control> }): void => {
    for (const row of found.rows) {
      rows.set(keyOf(row), row);
      known.add(row.runId).add(row.traceId);
    }
    for (const control of controls) if (!found.seen.has(control)) missed.add(control);
  };
  const open = (): string[] => query.ids.filter((id) => !known.has(id) && !wrongKind.has(id));

  const union = new Union();
  for (const { projectIds: some, here } of controlledChunks(projectIds, controls)) {
    union.add(await reader.byRunIds(tally, query.ids, some, window, here), here);
  }
  take(union.found);
  const projectsKnown = new Set([...places.everyProject, ...projectIds]);
  for (const id of open()) if (projectsKnown.has(id)) wrongKind.set(id, 'project');
  if (open().length > 0 && bridge !== undefined) {
    try {
      take(await bridge.byRunIds(tally, open(), projectIds, window, controls));
    } catch (error) {
      // The bridge only adds what lies outside the projects asked; for those v2 has answered.
      if (!(error instanceof StoreError) || error.reason !== 'gone') throw error;
    }
  }
  if (open().length > 0) {
    const union = new Union();
    for (const some of chunks(projectIds, MOST_PROJECTS)) {
      const near = controls.filter(({ projectId }) => some.includes(projectId));
      const here = near.length > 0 ? near : controls.slice(0, 2);
      const found = await reader.traces(
        tally,
        new Map(open().map((id) => [id, some])),
        window,
        here,
        MOST_SINGLE_LOOKUPS,
      );
      union.add(found ?? { rows: [], seen: new Set() }, here);
    }
    take(union.found);
  }
  if (open().length > 0) {
    const union = new Union();
    for (const { projectIds: some, here } of controlledChunks(projectIds, controls)) {
      const found = await threadsAmong(places, tally, open(), some, window, here);
      for (const id of found.threads) wrongKind.set(id, 'thread');
      union.add({ rows: [], seen: found.seen }, here);
    }
    take(union.found);
  }
  const seen = controls.map((control) => !missed.has(control));
  const report = tally.report('locate', window, controls.length, seen.filter(Boolean).length);
  return { rows: [...rows.values()], wrongKind, controlsSeen: seen, report };
}

/** Which of the ids bind traces to a thread. */
async function threadsAmong(
  { reader, config }: Places,
  tally: Tally,
  ids: readonly string[],
  projectIds: readonly string[],
  window: Window,
  controls: readonly Control[],
): Promise<{ readonly threads: ReadonlySet<string>; readonly seen: ReadonlySet<Control> }> {
  const threads = new Set<string>();
  const union = new Union();
  for (const some of chunks(ids, MOST_CLAUSES)) {
    const filter = or([
      ...some.map((id) => `and(${anyOf('metadata_key', THREAD_KEYS)},eq(metadata_value,${JSON.stringify(id)}))`),
      ...controls.flatMap(({ value, runId }) => carries(bareKey(value.key), value, false, runId)),
    ]);
    const { runs } = await reader.runs(tally, { projectIds, window, filter });
    const rows = runs.map((run) => rowOf(run, config.identifiers, config.threads));
    union.add({ rows: [], seen: seenIn(rows, controls) }, controls);
    const values = new Set(
      runs.flatMap((run) =>
        THREAD_KEYS.flatMap((key) => valuesAt(run.metadata, key).map(({ text }) => text.toLowerCase())),
      ),
    );
    for (const id of some) if (values.has(id)) threads.add(id);
  }
  return { threads, seen: union.found.seen };
}
