import type { Control, Located, LocateQuery, Row } from '../port.ts';
import { StoreError } from '../port.ts';
import { inHalves, chunks, keyOf, seenIn, Union, unique } from '../rows.ts';
import type { BraintrustApi } from './api.ts';
import { controlledChunks } from './finders.ts';
import { MOST_LISTED } from './lookup.ts';
import type { Objects } from './objects.ts';
import { isIn, or } from './query.ts';
import type { Expression } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { BTQL_ROUTE } from './rows.ts';
import { rowOf, traceOf } from './schemas.ts';

export interface Places {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  readonly objects: Objects;
}

/** What projects, datasets and experiments have for ids. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * Tells ids of unknown kind apart by looking, in every visible project, in scope or not: as row ids and root span ids,
 * then as span ids, which name no row and would be echoed by a delete that deletes nothing, then as something else the
 * organization has. Every query carries the controls, so that "not there" can be proven (P11).
 */
export async function locate({ api, rows, objects }: Places, query: LocateQuery): Promise<Located> {
  const { window, controls, progress } = query;
  const state = rows.state(progress);
  const wrongKind = new Map<string, string>();
  const found = new Map<string, Row>();
  const known = new Set<string>();
  const union = new Union();
  const projectIds = unique([...query.projects.map(({ id }) => id), ...objects.everyId]);
  const open = (): string[] => query.ids.filter((id) => !known.has(id) && !wrongKind.has(id));

  for (const { ids, here } of controlledChunks(projectIds, controls)) {
    for (const some of chunks(query.ids, MOST_LISTED)) {
      await inHalves(some, async (part) => {
        const asked = new Set(part);
        const wire = await rows.all(state, { source: 'project_logs', ids, filter: byEither(part, here), window: null });
        const read = wire.map((row) => rowOf(row, traceOf(row)));
        union.add({ rows: [], seen: seenIn(read, here) }, here);
        const theirs = read.filter(({ traceId, runId }) => asked.has(traceId) || asked.has(runId));
        assertAsked(api, state, read, theirs, here);
        for (const row of theirs) {
          found.set(keyOf(row), row);
          known.add(row.runId).add(row.traceId);
        }
      });
    }
  }

  for (const id of open()) if (objects.everyId.has(id.toLowerCase())) wrongKind.set(id, 'project');
  for (const { ids, here } of open().length === 0 ? [] : controlledChunks(projectIds, controls)) {
    for (const some of chunks(open(), MOST_LISTED)) {
      await inHalves(some, async (part) => {
        const asked = new Set(part);
        const filter = or([
          isIn(['span_id'], part),
          ...(here.length === 0 ? [] : [isIn(['id'], unique(here.map(({ runId }) => runId)))]),
        ]);
        const wire = await rows.all(state, { source: 'project_logs', ids, filter, window });
        const read = wire.map((row) => rowOf(row, traceOf(row)));
        union.add({ rows: [], seen: seenIn(read, here) }, here);
        const theirs = wire.filter(({ span }) => span !== null && asked.has(span));
        assertAsked(
          api,
          state,
          read,
          theirs.map((row) => rowOf(row, traceOf(row))),
          here,
        );
        for (const { span } of theirs) if (span !== null) wrongKind.set(span, 'span');
      });
    }
  }
  await otherObjects({ api, rows, objects }, state, open(), wrongKind);

  const { seen } = union.found;
  return {
    rows: [...found.values()],
    wrongKind,
    controlsSeen: controls.map((control) => seen.has(control)),
    ...state.doubt,
    report: state.report('locate', window, controls.length, seen.size),
  };
}

/** Root span ids and row ids. Every other control rides in either list. */
function byEither(ids: readonly string[], controls: readonly Control[]): Expression {
  const roots = controls.filter((_, index) => index % 2 === 0).map(({ traceId }) => traceId);
  const runs = controls.filter((_, index) => index % 2 === 1).map(({ runId }) => runId);
  return or([isIn(['root_span_id'], unique([...ids, ...roots])), isIn(['id'], unique([...ids, ...runs]))]);
}

function assertAsked(
  api: BraintrustApi,
  state: ReadState,
  read: readonly Row[],
  theirs: readonly Row[],
  controls: readonly Control[],
): void {
  const wanted = new Set(theirs.map(keyOf));
  const isControl = ({ projectId, traceId, runId }: Row): boolean =>
    controls.some((one) => one.projectId === projectId && (one.traceId === traceId || one.runId === runId));
  if (read.some((row) => !wanted.has(keyOf(row)) && !isControl(row))) {
    throw api.broken(state.tally, BTQL_ROUTE, 'rows came back that were not asked for: the store ignored the filter');
  }
}

/** Only for naming them: what these lists do not tell stays "not found". */
async function otherObjects(
  { objects }: Places,
  state: ReadState,
  ids: readonly string[],
  wrongKind: Map<string, string>,
): Promise<void> {
  const candidates = ids.filter((id) => UUID.test(id));
  for (const source of candidates.length === 0 ? [] : (['dataset', 'experiment'] as const)) {
    try {
      const listed = new Set(await objects.list(state.tally, source));
      for (const id of candidates) if (listed.has(id.toLowerCase())) wrongKind.set(id, source);
    } catch (error) {
      if (!(error instanceof StoreError) || !['denied', 'gone', 'rejected'].includes(error.reason)) throw error;
    }
  }
}
