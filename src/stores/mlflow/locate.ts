import type { Control, Located, LocateQuery, Row } from '../port.ts';
import { chunks, keyOf, unique } from '../rows.ts';
import type { Tally } from '../api.ts';
import { hasSpan } from './filter.ts';
import type { LookupParts } from './lookup.ts';
import { withControls } from './lookup.ts';
import { MOST_EXPERIMENTS } from './traces.ts';

const SPAN_ID = /^[0-9a-f]{16}$/;
/** Traces with a span of one id; ids are random, so that more than a few mean that the question was not understood. */
const MOST_WITH_SPAN = 100;

/**
 * Tells ids of unknown kind apart by looking in every experiment, in scope or not: ids of traces by the call that knows no
 * experiment, under both forms that they have had; ids of spans by a search, with a control's span searched for likewise.
 */
export async function locate(parts: LookupParts, query: LocateQuery): Promise<Located> {
  const { api, traces: reads } = parts;
  const { ids, window, controls, progress } = query;
  const tally = api.tally(progress);
  const spanIds = ids.filter((id) => SPAN_ID.test(id));
  const traceIds = ids.filter((id) => !SPAN_ID.test(id));
  const forms = unique(traceIds.flatMap((id) => [id, id.startsWith('tr-') ? id.slice('tr-'.length) : `tr-${id}`]));
  // Also for spans alone: the controls tell whether reads work.
  const { infos, seen } = await withControls(parts, tally, forms.length > 0 ? forms : spanIds, controls);
  const found = new Map<string, Row>();
  const add = (row: Row): void => void found.set(keyOf(row), row);

  const asked = new Set(forms);
  const theirs = [...infos.values()].filter(({ trace_id: id }) => asked.has(id));
  for (const { info, rows } of await reads.wholes(tally, theirs)) {
    for (const row of rows) add(row);
    // The other form of its id is an id of this trace too.
    if (!traceIds.includes(info.trace_id))
      for (const row of rows.slice(0, 1)) add({ ...row, runId: `tr-${info.trace_id}` });
  }
  const spansSeen = spanIds.length === 0 || (await findSpans(parts, tally, spanIds, controls, add));
  return {
    rows: [...found.values()],
    wrongKind: new Map(),
    controlsSeen: controls.map((control) => spansSeen && seen.has(control)),
    report: tally.report('locate', window, controls.length, spansSeen ? seen.size : 0),
  };
}

/** @returns whether the search showed the span of a control, or there was none to be shown. */
async function findSpans(
  { api, experiments, traces: reads }: LookupParts,
  tally: Tally,
  spanIds: readonly string[],
  controls: readonly Control[],
  add: (row: Row) => void,
): Promise<boolean> {
  const everywhere = await experiments.everyId(tally);
  const search = async (spanId: string, places: readonly string[]): Promise<readonly Row[]> => {
    const rows: Row[] = [];
    for (const experimentIds of chunks(places, MOST_EXPERIMENTS)) {
      const options = { experimentIds, filter: hasSpan(spanId), pageSize: MOST_WITH_SPAN, mostPages: 1 };
      const { infos } = await reads.search(tally, options);
      for (const whole of await reads.wholes(tally, infos)) {
        if (!whole.rows.some(({ runId }) => runId === spanId)) {
          const advice = 'a trace without the span that was asked for came back: the server ignored the filter';
          throw api.broken(tally, 'POST /api/3.0/mlflow/traces/search', advice);
        }
        rows.push(...whole.rows);
      }
    }
    return rows;
  };
  for (const spanId of spanIds) for (const row of await search(spanId, everywhere)) add(row);
  for (const { traceId, projectId } of controls) {
    const infos = [...(await reads.infos(tally, [traceId])).values()];
    const [row] = (await reads.wholes(tally, infos)).flatMap((whole) => whole.rows);
    if (row === undefined || !SPAN_ID.test(row.runId)) continue;
    return (await search(row.runId, [projectId])).length > 0;
  }
  return true;
}
