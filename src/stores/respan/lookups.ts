import type { Tally } from '../api.ts';
import type { Control, LookupQuery, LookupRoute, Read, Row, Window } from '../port.ts';
import { chunks, isRefusal, seenIn, Union, unique } from '../rows.ts';
import type { Found } from '../rows.ts';
import type { FinderParts } from './finders.ts';
import { rowOfLog, rowOfTrace } from './schemas.ts';
import { PAGE_SIZE, STORE_MATCH_GUARD } from './traits.ts';

/**
 * Ids in one list. No maximum is published for lists; a bulk delete by such a list takes as many (docs, "bulk delete
 * traces").
 */
const MOST_IDS = STORE_MATCH_GUARD;
/** A longer list that is refused is asked for in halves. */
const SURELY_TAKEN = 200;
/** Part of a page that traces of unequal length fill, so that their rows fit: pages of offsets have to be read twice. */
const FILL = 0.9;
/** Spans that a trace is thought to have where nobody knows, and where there should be none: what is left must fit, too. */
const UNKNOWN_ROWS = 3;

/** Reads the traces of one environment by id, controls last. */
type ById = (
  tally: Tally,
  environment: string,
  traceIds: readonly string[],
  window: Window,
  controls: readonly Control[],
) => Promise<Found>;

/** Every span of the traces, of any depth. */
export function spansById({ config, lists }: FinderParts): ById {
  return async (tally, environment, traceIds, window, controls) => {
    const asked = new Set(traceIds);
    const values = withControls(traceIds, controls);
    const logs = await lists.logs(tally, { environment, window, narrow: { field: 'trace_unique_id', values } });
    const rows = logs.flatMap((log) => rowOfLog(log, config.identifiers, config.threads) ?? []);
    return { rows: rows.filter(({ traceId }) => asked.has(traceId)), seen: seenIn(rows, controls) };
  };
}

/** The traces themselves, as the aggregated table has them: it may outlive the spans, or the spans it. */
export function tracesById({ config, lists }: FinderParts): ById {
  return async (tally, environment, traceIds, window, controls) => {
    const asked = new Set(traceIds);
    const values = withControls(traceIds, controls);
    const traces = await lists.traces(tally, { environment, window, narrow: { field: 'trace_unique_id', values } });
    const there = new Set(traces.map((trace) => trace.trace_unique_id));
    const rows: Row[] = traces.map((trace) => rowOfTrace(trace, config.identifiers, config.threads));
    return {
      rows: rows.filter(({ traceId }) => asked.has(traceId)),
      seen: new Set(controls.filter(({ traceId }) => there.has(traceId))),
    };
  };
}

/** Two routes over two tables, so that neither half of a trace is taken for its absence (P4). */
export function lookupRoutes(parts: FinderParts): readonly LookupRoute[] {
  return [
    {
      name: 'spans by trace id',
      lookup: (query) => {
        const { runsThere = 0, traces } = query;
        const rowsEach = runsThere === 0 ? UNKNOWN_ROWS : Math.max(1, runsThere / Math.max(1, traces.length));
        const size = Math.floor((FILL * PAGE_SIZE) / rowsEach) - query.controls.length;
        return lookup(parts, query, spansById(parts), size);
      },
    },
    {
      name: 'traces by id',
      lookup: (query) => lookup(parts, query, tracesById(parts), PAGE_SIZE - query.controls.length),
    },
  ];
}

/** @param fitting ids whose rows fit a page. */
async function lookup(
  { api, lists }: FinderParts,
  { traces, window, controls, progress }: LookupQuery,
  byId: ById,
  fitting: number,
): Promise<Read> {
  const tally = api.tally(progress);
  const union = new Union();
  const size = Math.max(1, Math.min(MOST_IDS, fitting));
  // One call is about one environment, so those of the controls take part even where no trace is asked for.
  const environments = unique([...traces, ...controls].map(({ projectId }) => projectId));
  for (const environment of environments) {
    const ids = unique(traces.filter(({ projectId }) => projectId === environment).map(({ traceId }) => traceId));
    const here = controls.filter(({ projectId }) => projectId === environment);
    const read = async (some: readonly string[]): Promise<void> => {
      try {
        union.add(await byId(tally, environment, some, window, here), here);
      } catch (error) {
        if (some.length <= SURELY_TAKEN || !isRefusal(error)) throw error;
        for (const half of chunks(some, Math.ceil(some.length / 2))) await read(half);
      }
    };
    for (const some of ids.length === 0 ? [[]] : chunks(ids, size)) await read(some);
  }
  const { rows, seen } = union.found;
  const tiles = lists.tiles(window);
  return {
    rows,
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report(
      'lookup',
      { fromMs: tiles[0]?.fromMs ?? window.fromMs, toMs: window.toMs },
      controls.length,
      seen.size,
    ),
  };
}

function withControls(ids: readonly string[], controls: readonly Control[]): readonly string[] {
  const ends = new Set(controls.map(({ traceId }) => traceId));
  return [...ids.filter((id) => !ends.has(id)), ...ends];
}
