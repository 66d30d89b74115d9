import type { Row, TraceRef } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';
import { groupByTrace, Inconclusive, type Reader } from './reader.ts';

/**
 * Every run of the traces that any route shows, so that nobody on another run of the same trace is overlooked (P17):
 * two generations of an interface may be weeks apart.
 */
export async function wholeTraces(
  deps: LaneDeps,
  reader: Reader,
  traces: readonly TraceRef[],
  runsThere = 0,
): Promise<ReadonlyMap<string, readonly Row[]>> {
  const whole = new Map<string, Row[]>();
  let routes = 0;
  for (const route of deps.store.lookups) {
    const rows = await reader.lookup(route, traces, runsThere);
    if (rows === null) continue;
    routes += 1;
    groupByTrace(rows, whole);
  }
  if (routes === 0) throw new Inconclusive('no route for reading traces by id is left');
  return whole;
}
