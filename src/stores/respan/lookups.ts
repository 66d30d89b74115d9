import type { Tally } from '../api.ts';
import type { Control, LookupQuery, LookupRoute, Read, Row, Window } from '../port.ts';
import { chunks, seenIn, Union, unique } from '../rows.ts';
import type { Found } from '../rows.ts';
import type { FinderParts } from './finders.ts';
import { rowOfLog, rowOfTrace } from './schemas.ts';
import { PAGE_SIZE } from './traits.ts';

/** Ids in one list. No maximum is published; a list of UUIDs of this size is 8 kB. */
const MOST_IDS = 200;

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
    const rows = logs.flatMap((log) => rowOfLog(log, config.identifiers) ?? []);
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
    const rows: Row[] = traces.map((trace) => rowOfTrace(trace, config.identifiers));
    return {
      rows: rows.filter(({ traceId }) => asked.has(traceId)),
      seen: new Set(controls.filter(({ traceId }) => there.has(traceId))),
    };
  };
}

/** Two routes over two tables, so that neither half of a trace is taken for its absence (P4). */
export function lookupRoutes(parts: FinderParts): readonly LookupRoute[] {
  return [
    { name: 'spans by trace id', lookup: (query) => lookup(parts, query, spansById(parts)) },
    { name: 'traces by id', lookup: (query) => lookup(parts, query, tracesById(parts)) },
  ];
}

async function lookup(
  { api, lists }: FinderParts,
  { traces, window, controls, runsThere = 0, progress }: LookupQuery,
  byId: ById,
): Promise<Read> {
  const tally = api.tally(progress);
  const union = new Union();
  // Lists that fit a page: pages of offsets have to be read twice.
  const rowsEach = Math.max(1, runsThere / Math.max(1, traces.length));
  const size = Math.max(1, Math.min(MOST_IDS, Math.floor((0.8 * PAGE_SIZE) / rowsEach)));
  // One call is about one environment, so those of the controls take part even where no trace is asked for.
  const environments = unique([...traces, ...controls].map(({ projectId }) => projectId));
  for (const environment of environments) {
    const ids = unique(traces.filter(({ projectId }) => projectId === environment).map(({ traceId }) => traceId));
    const here = controls.filter(({ projectId }) => projectId === environment);
    for (const some of ids.length === 0 ? [[]] : chunks(ids, size)) {
      union.add(await byId(tally, environment, some, window, here), here);
    }
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
