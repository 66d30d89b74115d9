import { lookUpsOf, type CompiledFilter, type LookUp } from './filter.ts';
import type { RunRow, View } from './rows.ts';
import type { RunState } from './state.ts';

/** A question about runs, the same for both views. Absent parts don't narrow. */
export interface RunQuery {
  readonly tenantId: string;
  readonly view: View;
  /** The virtual instant whose state is shown: now, or earlier under the `stale` habit. */
  readonly atMs: number;
  readonly projectIds?: readonly string[] | undefined;
  readonly ids?: readonly string[] | undefined;
  readonly traceIds?: readonly string[] | undefined;
  readonly parentId?: string | undefined;
  readonly referenceExampleIds?: readonly string[] | undefined;
  readonly runType?: string | undefined;
  readonly isRoot?: boolean | undefined;
  readonly hasError?: boolean | undefined;
  /** Inclusive, on the run's start. */
  readonly minStartMs?: number | undefined;
  readonly maxStartMs?: number | undefined;
  /** Whether `maxStartMs` itself is outside, as v2 trace queries have it. Default false. */
  readonly maxExclusive?: boolean | undefined;
  readonly filter?: CompiledFilter | undefined;
  readonly traceFilter?: CompiledFilter | undefined;
  readonly treeFilter?: CompiledFilter | undefined;
  readonly order: 'asc' | 'desc';
}

/** Where a page ended: a place in the order, or (habit `shiftingPages`) a number of rows. */
export type PagePosition = Place | { readonly offset: number };

/** A place in the order of rows. */
interface Place {
  readonly startMs: number;
  readonly seq: number;
}

/** One page of rows, and where the next begins; `null` at the end. */
export interface Page {
  readonly rows: readonly RunRow[];
  readonly next: PagePosition | null;
}

/** From this many rows on an index entry must be much smaller than its project to be worth sorting. */
const LARGE_INDEX = 2000;

function rootOf(state: RunState, row: RunRow, query: RunQuery): RunRow | undefined {
  return state
    .rowsOfTrace(row.traceId)
    .find((one) => one.isRoot && one.projectId === row.projectId && one.visible(query.view, query.atMs));
}

function judge(state: RunState, query: RunQuery): (row: RunRow) => boolean {
  const projects = query.projectIds === undefined ? null : new Set(query.projectIds);
  const ids = query.ids === undefined ? null : new Set(query.ids);
  const traceIds = query.traceIds === undefined ? null : new Set(query.traceIds);
  const examples = query.referenceExampleIds === undefined ? null : new Set(query.referenceExampleIds);
  const min = query.minStartMs ?? -Infinity;
  const max = query.maxStartMs ?? Infinity;
  return (row) => {
    if (!row.visible(query.view, query.atMs)) return false;
    if (row.startMs < min || row.startMs > max || (query.maxExclusive === true && row.startMs === max)) return false;
    if (projects !== null && !projects.has(row.projectId)) return false;
    if (ids !== null && !ids.has(row.id)) return false;
    if (traceIds !== null && !traceIds.has(row.traceId)) return false;
    if (query.parentId !== undefined && row.parentId !== query.parentId) return false;
    if (examples !== null && (row.referenceExampleId === null || !examples.has(row.referenceExampleId))) return false;
    if (query.runType !== undefined && row.runType.toLowerCase() !== query.runType.toLowerCase()) return false;
    if (query.isRoot !== undefined && row.isRoot !== query.isRoot) return false;
    if (query.hasError !== undefined && (row.error !== null) !== query.hasError) return false;
    if (state.tenantOf(row.projectId) !== query.tenantId) return false;
    if (query.filter !== undefined && !query.filter.matches(row)) return false;
    if (query.traceFilter !== undefined) {
      const root = rootOf(state, row, query);
      if (root === undefined || !query.traceFilter.matches(root)) return false;
    }
    const { treeFilter } = query;
    if (treeFilter !== undefined) {
      const hit = state
        .rowsOfTrace(row.traceId)
        .some(
          (one) => one.projectId === row.projectId && one.visible(query.view, query.atMs) && treeFilter.matches(one),
        );
      if (!hit) return false;
    }
    return true;
  };
}

function lookedUp(state: RunState, lookUp: LookUp): readonly RunRow[] {
  switch (lookUp.by) {
    case 'pair':
      return state.rowsWithPair(lookUp.key, lookUp.value);
    case 'trace':
      return state.rowsOfTrace(lookUp.id);
    case 'run':
      return state.rowsById(lookUp.id);
    case 'thread':
      return state.rowsOfThread(lookUp.id);
  }
}

/** Rows from the narrowest index that holds every match, or `null` when the projects must be scanned. */
function candidates(state: RunState, query: RunQuery): RunRow[] | null {
  const gather = (lists: Iterable<readonly RunRow[]>): RunRow[] => [...new Set([...lists].flat())];
  if (query.ids !== undefined) return gather(query.ids.map((id) => state.rowsById(id)));
  if (query.traceIds !== undefined) return gather(query.traceIds.map((id) => state.rowsOfTrace(id)));
  const alternatives = query.filter === undefined ? [] : lookUpsOf(query.filter.expression);
  const lists = alternatives.map((lookUps) => lookUps.map((lookUp) => lookedUp(state, lookUp)));
  const sizes = lists.map((rows) => rows.reduce((sum, one) => sum + one.length, 0));
  const size = Math.min(...sizes);
  const smallest = lists[sizes.indexOf(size)];
  if (smallest !== undefined) {
    const all = (query.projectIds ?? []).reduce((sum, id) => sum + state.rowsOfProject(id).length, 0);
    if (size <= LARGE_INDEX || query.projectIds === undefined || size * 10 < all) return gather(smallest);
  }
  return query.projectIds === undefined ? [...state.rows()] : null;
}

function order(query: RunQuery): (left: Place, right: Place) => number {
  const sign = query.order === 'asc' ? 1 : -1;
  return (left, right) => sign * (left.startMs - right.startMs || left.seq - right.seq);
}

/** Candidates in order, from the page's position on. */
function* inOrder(state: RunState, query: RunQuery, from: PagePosition | null): Iterable<RunRow> {
  const compare = order(query);
  const after = from !== null && 'startMs' in from ? from : null;
  const list = candidates(state, query);
  if (list !== null) {
    list.sort(compare);
    for (const row of list) if (after === null || compare(row, after) > 0) yield row;
    return;
  }
  const scans = [...new Set(query.projectIds)].map((id) => scan(state.rowsOfProject(id), query, after));
  if (scans.length === 1 && scans[0] !== undefined) yield* scans[0];
  else yield* merged(scans, compare);
}

/** Rows of one project in order; starts at the window or the cursor and stops where the window ends. */
function* scan(rows: readonly RunRow[], query: RunQuery, after: Place | null): Generator<RunRow> {
  const compare = order(query);
  if (query.order === 'asc') {
    const lowest = Math.max(query.minStartMs ?? -Infinity, after?.startMs ?? -Infinity);
    for (let index = firstFrom(rows, lowest); index < rows.length; index += 1) {
      const row = rows[index];
      if (row === undefined || row.startMs > (query.maxStartMs ?? Infinity)) return;
      if (after === null || compare(row, after) > 0) yield row;
    }
    return;
  }
  const highest = Math.min(query.maxStartMs ?? Infinity, after?.startMs ?? Infinity);
  let index = highest === Infinity ? rows.length - 1 : firstFrom(rows, highest, true) - 1;
  for (; index >= 0; index -= 1) {
    const row = rows[index];
    if (row === undefined || row.startMs < (query.minStartMs ?? -Infinity)) return;
    if (after === null || compare(row, after) > 0) yield row;
  }
}

/** Several ordered lists as one. */
function* merged(
  lists: readonly Generator<RunRow>[],
  compare: (left: Place, right: Place) => number,
): Generator<RunRow> {
  const heads = lists.map((list) => ({ list, head: list.next() }));
  for (;;) {
    let first: (typeof heads)[number] | null = null;
    for (const one of heads) {
      if (one.head.done === true) continue;
      if (first === null || first.head.done === true || compare(one.head.value, first.head.value) < 0) first = one;
    }
    if (first === null || first.head.done === true) return;
    yield first.head.value;
    first.head = first.list.next();
  }
}

/** Index of the first row that starts at `ms` or later (`past`: later than `ms`). */
function firstFrom(rows: readonly RunRow[], ms: number, past = false): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const start = rows[middle]?.startMs ?? Infinity;
    if (past ? start <= ms : start < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * One page of the answer.
 *
 * @param from where the previous page ended; `null` for the first.
 * @param limit rows per page.
 * @param asOffset makes the next position a number of rows instead of a place in the order (habit `shiftingPages`).
 */
export function pageOf(
  state: RunState,
  query: RunQuery,
  from: PagePosition | null,
  limit: number,
  asOffset = false,
): Page {
  const matches = judge(state, query);
  const rows: RunRow[] = [];
  const offset = from !== null && 'offset' in from ? Math.max(0, from.offset) : 0;
  let skipped = 0;
  for (const row of inOrder(state, query, from)) {
    if (!matches(row)) continue;
    if (skipped < offset) {
      skipped += 1;
      continue;
    }
    const last = rows.at(-1);
    if (rows.length === limit && last !== undefined) {
      return { rows, next: asOffset ? { offset: offset + limit } : { startMs: last.startMs, seq: last.seq } };
    }
    rows.push(row);
  }
  return { rows, next: null };
}

/** Every matching row, in order. */
export function allOf(state: RunState, query: RunQuery): readonly RunRow[] {
  return pageOf(state, query, null, Infinity).rows;
}
