import { inHalves, chunks, PairIndex, pairsOf, seenIn, Union, unique } from '../rows.ts';
import type { Found, Pair } from '../rows.ts';
import type { Control, Finder, FindQuery, LooseRow, Read, Row } from '../port.ts';
import { TooManyRows } from '../port.ts';
import { instantOf } from '../values.ts';
import type { BraintrustApi } from './api.ts';
import { experimentTraces } from './copies.ts';
import type { Objects } from './objects.ts';
import { and, carriesEqual, carriesListed, eq, isIn, or } from './query.ts';
import type { Expression, Shape } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { BTQL_ROUTE, MOST_OBJECTS, Overflow } from './rows.ts';
import type { WireRow } from './schemas.ts';
import { pathsOf, rowOf, traceOf } from './schemas.ts';

export interface FinderParts {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  readonly objects: Objects;
}

/** How a finder puts a question. */
interface Manner {
  readonly name: string;
  readonly shape: Shape;
  /** Rows that carry any of the pairs. */
  filter(pairs: readonly Pair[]): readonly Expression[];
  /** One row of somebody else, as the same kind of question finds it. */
  control(control: Control): Expression;
  /** Whether datasets and experiments are searched along. */
  readonly loose: boolean;
}

/**
 * The two searches by person (P5). Both are queries of the one search endpoint: the vendor's other one, `fetch`, knows no
 * filter, and the text languages would put identifiers into query strings. They differ in what they ask for, matching
 * spans or whole traces with a matching span, which the engine answers by different plans; in comparison, `eq` or lists;
 * and in paging, by key or by cuts of time. So a fault of a shape, a comparison or a page shows as a disagreement.
 */
const SPANS: Manner = {
  name: 'btql spans',
  shape: 'spans',
  filter: (pairs) =>
    pairs.flatMap(({ key, text }) => pathsOf(key).flatMap((path) => carriesEqual(path, { text, numeric: false }))),
  control: ({ value, runId }) =>
    and([or(pathsOf(value.key).flatMap((path) => carriesEqual(path, value))), eq(['id'], runId)]),
  loose: true,
};
const TRACES: Manner = {
  name: 'btql traces',
  shape: 'traces',
  filter: (pairs) =>
    unique(pairs.map(({ key }) => key)).flatMap((key) => {
      const values = pairs.filter((pair) => pair.key === key).map(({ text }) => ({ text, numeric: false }));
      return pathsOf(key).flatMap((path) => carriesListed(path, values));
    }),
  control: ({ value, runId }) =>
    and([or(pathsOf(value.key).flatMap((path) => carriesListed(path, [value]))), isIn(['id'], [runId])]),
  loose: false,
};

export function findersOf(parts: FinderParts): readonly Finder[] {
  return [SPANS, TRACES].map((manner) => ({ name: manner.name, find: (query) => find(parts, manner, query) }));
}

async function find({ api, rows, objects }: FinderParts, manner: Manner, query: FindQuery): Promise<Read> {
  const { projects, terms, window, controls, mostRows, progress } = query;
  const state = rows.state(progress);
  const union = new Union();
  const pairs = pairsOf(terms);
  let found = 0;
  for (const { ids, here } of controlledChunks(
    projects.map(({ id }) => id),
    controls,
  )) {
    await inHalves(pairs, async (some) => {
      const filter = or([...manner.filter(some), ...here.map((control) => manner.control(control))]);
      const most = mostRows === undefined ? undefined : mostRows + here.length - found;
      const question = { source: 'project_logs', ids, shape: manner.shape, filter, window } as const;
      const wire = await rows.all(state, question, most).catch((error: unknown) => {
        if (error instanceof Overflow) throw new TooManyRows(matching(error.rows, some));
        throw error;
      });
      const part = checked(api, state, manner, wire, some, here);
      union.add(part, here);
      found += part.rows.length;
    });
  }
  const loose = manner.loose ? await looseRows({ api, rows, objects }, state, query, pairs) : null;
  return {
    rows: union.found.rows,
    controlsSeen: controls.map((control) => union.found.seen.has(control)),
    ...(loose === null ? {} : { loose }),
    ...state.doubt,
    report: state.report('find', window, controls.length, union.found.seen.size),
  };
}

function matching(wire: readonly WireRow[], pairs: readonly Pair[]): Row[] {
  const index = new PairIndex([pairs]);
  return wire.filter((row) => index.of(row).length > 0).map((row) => rowOf(row, traceOf(row)));
}

/** Checks that every row, or every trace, is one that was asked for. */
function checked(
  api: BraintrustApi,
  state: ReadState,
  manner: Manner,
  wire: readonly WireRow[],
  pairs: readonly Pair[],
  here: readonly Control[],
): Found {
  const runs = new Set(here.map(({ projectId, runId }) => `${projectId} ${runId}`));
  const wanted = new Set<string>();
  const theirs: Row[] = [];
  const index = new PairIndex([pairs]);
  const unit = (row: WireRow): string =>
    JSON.stringify(manner.shape === 'spans' ? [row.objectId, row.id] : [row.objectId, 'trace', traceOf(row)]);
  for (const row of wire) {
    const resembling = index.of(row).length > 0;
    if (resembling) theirs.push(rowOf(row, traceOf(row)));
    if (resembling || runs.has(`${row.objectId} ${row.id}`)) wanted.add(unit(row));
  }
  if (wire.some((row) => !wanted.has(unit(row)))) {
    const advice = 'rows came back that carry none of the values asked for: the store ignored the filter';
    throw api.broken(state.tally, BTQL_ROUTE, advice);
  }
  const all = wire.map((row) => rowOf(row, traceOf(row)));
  return { rows: theirs, seen: seenIn(all, here) };
}

/**
 * Rows of datasets and experiments that carry the person's identifier, which no trace leads to. No control stands for
 * them: they are reported as copies, and their absence is not claimed.
 */
async function looseRows(
  { api, rows, objects }: FinderParts,
  state: ReadState,
  { window }: FindQuery,
  pairs: readonly Pair[],
): Promise<readonly LooseRow[]> {
  const loose: LooseRow[] = [];
  for (const { kind, source } of objects.examined) {
    const ids = await objects.list(state.tally, source);
    for (const some of chunks(ids, MOST_OBJECTS)) {
      await inHalves(pairs, async (part) => {
        const filter = or(SPANS.filter(part));
        const wire = await rows.all(state, { source, ids: some, filter, window });
        const index = new PairIndex([part]);
        for (const row of wire) {
          if (index.of(row).length === 0) {
            const advice = 'rows came back that carry none of the values asked for: the store ignored the filter';
            throw api.broken(state.tally, BTQL_ROUTE, advice);
          }
        }
        const groups =
          source === 'experiment'
            ? [...(await experimentTraces(rows, state, wire)).values()]
            : wire.map((row) => [row]);
        for (const group of groups) {
          // A trace of an experiment is everybody's who is named in it.
          const persons = group.flatMap((row) => row.persons);
          const threads = group.flatMap((row) => row.threads);
          const starts = group.map(({ created }) => instantOf(created)).filter((start) => start !== null);
          const began = starts.length === 0 ? {} : { startMs: Math.min(...starts) };
          for (const row of group) {
            const id = `${row.objectId}/${row.id}`;
            loose.push({ kind, id, persons, threads, where: `${source} ${row.objectId}`, ...began });
          }
        }
      });
    }
  }
  return loose;
}

/**
 * Projects few enough for one query, each part with the controls that lie in it. One without any gets the project of a
 * control along: an empty answer must not come from a query that shows nothing.
 */
export function* controlledChunks(
  projectIds: readonly string[],
  controls: readonly Control[],
): Generator<{ readonly ids: readonly string[]; readonly here: readonly Control[] }> {
  const size = projectIds.length > MOST_OBJECTS ? MOST_OBJECTS - 1 : MOST_OBJECTS;
  for (const some of chunks(projectIds, size)) {
    const inside = controls.filter(({ projectId }) => some.includes(projectId));
    const [guest] = controls;
    if (inside.length > 0 || guest === undefined) yield { ids: some, here: inside };
    else {
      const here = controls.filter(({ projectId }) => projectId === guest.projectId);
      yield { ids: [...some, guest.projectId], here };
    }
  }
}
