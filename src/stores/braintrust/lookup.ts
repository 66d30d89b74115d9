import type { Capability } from '../capability.ts';
import type { Control, LookupQuery, LookupRoute, Read, Row, TraceKey, TraceRef } from '../port.ts';
import { chunks, inHalves, isRefusal, keyOf, seenIn, Union, unique } from '../rows.ts';
import type { BraintrustApi } from './api.ts';
import { isIn, or } from './query.ts';
import type { Expression } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { BTQL_ROUTE, MOST_OBJECTS, wireKey } from './rows.ts';
import type { WireRow } from './schemas.ts';
import { rowOf } from './schemas.ts';
import { ID_PATTERN } from './traits.ts';
import type { Wholes } from './wholes.ts';

/** Ids in one list. No maximum is published; this many are some 20 kB. Refused lists are halved. */
export const MOST_LISTED = 500;

export interface LookupParts {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  readonly wholes: Wholes;
  /** To find rows by what they comment on. */
  readonly comments: Capability;
}

/** Refused lists of commented rows that one look-up asks for again in halves: a few odd ids, not hundreds. */
const MOST_REFUSALS = 50;
/** Nobody's row. */
const NO_ROW = '00000000-0000-0000-0000-000000000000';

/** An id to look for, and where. */
interface Item {
  readonly projectId: string;
  readonly as: 'root' | 'row';
  readonly id: string;
}

/**
 * Reads whole traces: the rows under their root span id; the rows known by their own ids, which a late write may have
 * brought back without user and trace; and the comments on any of these, which are rows of their own and name no trace.
 * Only the last question needs a bound in time, as the first two name what the vendor's engine prunes by.
 */
export function lookupOf(parts: LookupParts): LookupRoute {
  return { name: 'btql by id', lookup: (query) => lookup(parts, query) };
}

async function lookup(parts: LookupParts, { traces, window, controls, progress }: LookupQuery): Promise<Read> {
  const { api, rows, wholes, comments } = parts;
  const state = rows.state(progress);
  const asked = new Asked(traces);
  const union = new Union();
  const found = new Map<string, Row>();
  const take = (wire: readonly WireRow[], carried: readonly Control[]): void => {
    const mine = sorted(parts, state, asked, wire, carried);
    for (const row of mine) found.set(keyOf(row), row);
    union.add(
      {
        rows: [],
        seen: seenIn(
          wire.map((row) => rowOf(row, row.root ?? row.id)),
          carried,
        ),
      },
      carried,
    );
  };

  for (const items of partsOf(asked.items)) {
    await inHalves(items, async (some) => {
      const ids = unique([...some, ...controls].map(({ projectId }) => projectId));
      const filter = byIds(some, controls);
      take(await rows.all(state, { source: 'project_logs', ids, filter, window: null }), controls);
    });
  }
  const commentsOn = (items: readonly Item[], rowIds = unique(items.map(({ id }) => id))): Promise<WireRow[]> => {
    const ids = unique([...items, ...controls].map(({ projectId }) => projectId));
    const filter = or([
      isIn(['origin', 'id'], rowIds),
      ...(controls.length === 0 ? [] : [isIn(['id'], unique(controls.map(({ runId }) => runId)))]),
    ]);
    return rows.all(state, { source: 'project_logs', ids, filter, window });
  };
  const refusesAnyIds = async (items: readonly Item[]): Promise<boolean> => {
    try {
      await commentsOn(items, [NO_ROW]);
      return false;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return true;
    }
  };
  let refusals = 0;
  /** @returns those of which no comments could be looked for. */
  const readComments = async (items: readonly Item[]): Promise<readonly Item[]> => {
    if (!comments.usable(api.nowMs())) return items;
    try {
      take(await commentsOn(items), controls);
      return [];
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    refusals += 1;
    // One odd id must not end the search for everybody's comments.
    if (refusals === 1 && (await refusesAnyIds(items))) comments.broke(api.nowMs());
    if (items.length === 1 || refusals > MOST_REFUSALS) return items;
    const unread: Item[] = [];
    for (const some of chunks(items, Math.ceil(items.length / 2))) unread.push(...(await readComments(some)));
    return unread;
  };
  // A comment on a row may stand for itself only after the row was seen, and comments may be commented on.
  const open = (): Item[] => asked.withoutComments([...found.values()]);
  const unread: Item[] = [];
  for (let items = open(); items.length > 0; items = open()) {
    for (const some of partsOf(items)) unread.push(...(await readComments(some)));
    asked.commentsRead(items);
  }

  const result = [...found.values()];
  if (state.inconclusive === null) wholes.note(traces, result);
  return {
    rows: result,
    controlsSeen: controls.map((control) => union.found.seen.has(control)),
    ...state.doubt,
    ...(unread.length === 0 ? {} : { notExamined: [{ kind: 'comments', traces: asked.tracesAt(unread) }] }),
    report: state.report('lookup', null, controls.length, union.found.seen.size),
  };
}

/** What a look-up asks for, and whose a row is that it brings. */
class Asked {
  readonly items: readonly Item[];
  readonly #traces: ReadonlySet<string>;
  /** Traces by project and row id. */
  readonly #byRow = new Map<string, Set<string>>();
  /** Every id asked for; one call asks for those of all its projects. */
  readonly #ids = new Set<string>();
  readonly #commented = new Set<string>();

  constructor(traces: readonly TraceRef[]) {
    this.#traces = new Set(traces.map(({ projectId, traceId }) => `${projectId} ${traceId}`));
    const items = new Map<string, Item>();
    for (const { projectId, traceId, rowIds = [] } of traces) {
      items.set(`root ${projectId} ${traceId}`, { projectId, as: 'root', id: traceId });
      // A row without a trace goes by its own id.
      for (const id of rowIds.length > 0 ? rowIds : [traceId]) {
        items.set(`row ${projectId} ${id}`, { projectId, as: 'row', id });
        this.belongs(projectId, id, traceId);
      }
    }
    this.items = [...items.values()];
    for (const { id } of this.items) this.#ids.add(id);
  }

  belongs(projectId: string, rowId: string, traceId: string): void {
    const key = `${projectId} ${rowId}`;
    this.#byRow.set(key, (this.#byRow.get(key) ?? new Set()).add(traceId));
  }

  /**
   * The traces that a row counts to. One that was asked for by its own id and stands in another trace now is that one's,
   * and is given back under it: whoever knew the row has to look whose it is there.
   */
  tracesOf(row: WireRow): readonly string[] {
    const { objectId: projectId, id, root } = row;
    if (root !== null && this.#traces.has(`${projectId} ${root}`)) return [root];
    if (root !== null && root !== id) return this.#byRow.has(`${projectId} ${id}`) ? [root] : [];
    const own = this.#byRow.get(`${projectId} ${id}`) ?? [];
    const commented = row.origin === null ? [] : (this.#byRow.get(`${projectId} ${row.origin}`) ?? []);
    return [...new Set([...own, ...commented])];
  }

  /**
   * Whether a row answers a question, although it may belong elsewhere: to another trace, or to another of the projects
   * of the call, since an application may write one trace to several.
   */
  named({ objectId, id, root, origin }: WireRow): boolean {
    const ids = [id, root, origin].filter((one) => one !== null);
    return ids.some((one) => this.#ids.has(one)) || ids.some((one) => this.#byRow.has(`${objectId} ${one}`));
  }

  /** Rows, asked for or found, whose comments were not asked for yet. */
  withoutComments(found: readonly Row[]): Item[] {
    const known = [...this.items.filter(({ as }) => as === 'row'), ...found.map(itemOf)];
    const open = known.filter(({ projectId, id }) => !this.#commented.has(`${projectId} ${id}`));
    return [...new Map(open.map((item) => [`${item.projectId} ${item.id}`, item])).values()];
  }

  /** The traces whose rows these are, as far as they were asked for. */
  tracesAt(items: readonly Item[]): TraceKey[] {
    const traces = items.flatMap(({ projectId, id }) =>
      [...(this.#byRow.get(`${projectId} ${id}`) ?? [])].map((traceId) => ({ projectId, traceId })),
    );
    return [...new Map(traces.map((trace) => [`${trace.projectId} ${trace.traceId}`, trace])).values()];
  }

  commentsRead(items: readonly Item[]): void {
    for (const { projectId, id } of items) this.#commented.add(`${projectId} ${id}`);
  }
}

function itemOf({ projectId, runId }: Row): Item {
  return { projectId, as: 'row', id: runId };
}

/**
 * Gives each row to the trace that it was asked for with.
 *
 * @throws StoreError `contract-broken` for a row that nobody asked for: the store ignored the filter.
 */
function sorted(
  { api }: LookupParts,
  state: ReadState,
  asked: Asked,
  wire: readonly WireRow[],
  controls: readonly Control[],
): Row[] {
  const theirs = new Set(
    controls.flatMap(({ projectId, traceId, runId }) => [`${projectId} ${traceId}`, `${projectId} ${runId}`]),
  );
  const rows: Row[] = [];
  for (const row of wire) {
    const traces = asked.tracesOf(row);
    const isControl = theirs.has(wireKey(row)) || (row.root !== null && theirs.has(`${row.objectId} ${row.root}`));
    if (traces.length === 0 && !isControl && !asked.named(row)) {
      const advice = 'rows came back that were not asked for: the store ignored the filter';
      throw api.broken(state.tally, BTQL_ROUTE, advice);
    }
    if (traces.length > 0 && !ID_PATTERN.test(row.id)) {
      const advice = 'a row of the trace has an id with unprintable characters: delete it by hand, then try again';
      throw api.broken(state.tally, BTQL_ROUTE, advice);
    }
    for (const traceId of traces) {
      asked.belongs(row.objectId, row.id, traceId);
      rows.push(rowOf(row, traceId));
    }
  }
  return rows;
}

/**
 * Both lists in one query. Controls ride last, every other one in the list of roots and the others in that of rows, so
 * that a list which finds nothing any more shows as a missing control (P6).
 */
function byIds(items: readonly Item[], controls: readonly Control[]): Expression {
  const roots = items.filter(({ as }) => as === 'root').map(({ id }) => id);
  const rows = items.filter(({ as }) => as === 'row').map(({ id }) => id);
  for (const [index, { traceId, runId }] of controls.entries()) {
    if (rows.length === 0 || (roots.length > 0 && index % 2 === 0)) roots.push(traceId);
    else rows.push(runId);
  }
  const lists: readonly [string, readonly string[]][] = [
    ['root_span_id', unique(roots)],
    ['id', unique(rows)],
  ];
  return or(lists.filter(([, ids]) => ids.length > 0).map(([name, ids]) => isIn([name], ids)));
}

/** Items few enough for one query, by number and by projects. */
function* partsOf(items: readonly Item[]): Generator<readonly Item[]> {
  const byProject = [...items].sort((a, b) => (a.projectId < b.projectId ? -1 : a.projectId > b.projectId ? 1 : 0));
  let part: Item[] = [];
  let projects = new Set<string>();
  for (const item of byProject) {
    projects.add(item.projectId);
    // Half of the objects of a query are left to the controls.
    if (part.length === MOST_LISTED || projects.size > MOST_OBJECTS / 2) {
      yield part;
      part = [];
      projects = new Set([item.projectId]);
    }
    part.push(item);
  }
  if (part.length > 0) yield part;
}
