import type { CompiledFilter, LookUp } from './filter.ts';
import { TraceRow, type Environment, type SpanRow } from './rows.ts';
import type { SpanState } from './state.ts';

/** A window of time, both ends included; epoch milliseconds. */
export interface TimeWindow {
  readonly startMs: number;
  readonly endMs: number;
}

interface Question {
  readonly environments: readonly Environment[];
  /** The virtual instant whose state is shown. */
  readonly atMs: number;
  readonly window: TimeWindow;
}

function within(window: TimeWindow, ms: number): boolean {
  return window.startMs <= ms && ms <= window.endMs;
}

/** Rows from the index that promises the fewest, `null` when no index helps. */
function candidates(state: SpanState, lookUps: readonly LookUp[]): readonly SpanRow[] | null {
  const lists = lookUps.map(({ index, keys }) => [...new Set(keys)].map((key) => state.lookUp(index, key)));
  const sizes = lists.map((parts) => parts.reduce((sum, part) => sum + part.length, 0));
  const smallest = lists[sizes.indexOf(Math.min(...sizes))];
  return smallest === undefined ? null : [...new Set(smallest.flat())];
}

/** The logs that match, by their timestamp. */
export function selectLogs(state: SpanState, question: Question, filter: CompiledFilter<SpanRow>): SpanRow[] {
  const { environments, atMs, window } = question;
  const wanted = new Set(environments);
  const rows = candidates(state, filter.lookUps) ?? environments.flatMap((one) => state.rowsOf(one));
  return rows.filter(
    (row) =>
      wanted.has(row.environment) && row.visible('spans', atMs) && within(window, row.endMs) && filter.matches(row),
  );
}

/**
 * The traces that match, by their start. Lists ask the trace table; a delete also reaches what only the span storage
 * still shows, so that it can be repeated.
 */
export function selectTraces(
  state: SpanState,
  question: Question,
  filter: CompiledFilter<TraceRow>,
  from: 'trace-table' | 'either-table',
): TraceRow[] {
  const { environments, atMs, window } = question;
  const rows = candidates(state, filter.lookUps);
  const found: TraceRow[] = [];
  for (const environment of environments) {
    const ids =
      rows === null
        ? state.traceIds(environment)
        : new Set(rows.filter((row) => row.environment === environment).flatMap((row) => row.traceId ?? []));
    for (const traceId of ids) {
      const spans = state
        .spansOf(environment, traceId)
        .filter((span) => (from === 'trace-table' ? span.visible('traces', atMs) : span.live(atMs)));
      if (spans.length === 0) continue;
      const trace = new TraceRow(traceId, environment, spans);
      if (within(window, trace.startMs) && filter.matches(trace)) found.push(trace);
    }
  }
  return found;
}
