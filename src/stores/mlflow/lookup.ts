import type { Control, LookupQuery, LookupRoute, Read, Row, TraceRef } from '../port.ts';
import { keyOf, seenIn, Union, unique } from '../rows.ts';
import type { Tally } from '../api.ts';
import type { MlflowApi } from './api.ts';
import type { Experiments } from './experiments.ts';
import type { Info, Shape } from './schemas.ts';
import type { Traces } from './traces.ts';

export interface LookupParts {
  readonly api: MlflowApi;
  readonly experiments: Experiments;
  readonly shape: Shape;
  readonly traces: Traces;
}

/**
 * Reads whole traces by id, in whatever experiment they are now: a span that comes late may bring a deleted trace back in
 * another one. First which are there, then the spans of those, then the files: a trace whose files can still be read is
 * still there, as a row that names nobody.
 */
export function lookupOf(parts: LookupParts): LookupRoute {
  return { name: 'traces and files by id', lookup: (query) => lookup(parts, query) };
}

async function lookup(parts: LookupParts, { traces, window, controls, progress }: LookupQuery): Promise<Read> {
  const { api, traces: reads } = parts;
  const tally = api.tally(progress);
  const ids = unique(traces.map(({ traceId }) => traceId));
  const { infos, seen } = await withControls(parts, tally, ids, controls);
  const asked = new Set(ids);
  const there = [...infos.values()].filter(({ trace_id: id }) => asked.has(id));
  const rows = (await reads.wholes(tally, there)).flatMap((whole) => whole.rows);
  rows.push(...(await filesLeft(parts, tally, traces, rows)));
  return {
    rows,
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report('lookup', window, controls.length, seen.size),
  };
}

/**
 * Which of the ids are there, with the controls in the same calls. When nothing at all comes back, a second question that
 * cannot be answered with nothing tells a server without these traces from one that answers everything with nothing.
 */
export async function withControls(
  { experiments, shape, traces: reads }: Pick<LookupParts, 'experiments' | 'shape' | 'traces'>,
  tally: Tally,
  ids: readonly string[],
  controls: readonly Control[],
): Promise<{ readonly infos: ReadonlyMap<string, Info>; readonly seen: ReadonlySet<Control> }> {
  const union = new Union();
  const ends = unique(controls.map(({ traceId }) => traceId));
  const infos = await reads.infos(tally, ids, ends, (part) => {
    const rows = [...part.values()].map((info) => shape.rowOf(info));
    union.add({ rows: [], seen: seenIn(rows, controls.filter(isOfTrace)) }, controls.filter(isOfTrace));
  });
  if (infos.size === 0) await experiments.list(tally);
  // Controls found by what a span says are seen when that span is.
  const bySpan = controls.filter((control) => !isOfTrace(control));
  if (bySpan.length > 0) {
    const theirs = unique(bySpan.map(({ traceId }) => traceId)).flatMap((id) => infos.get(id) ?? []);
    const rows = (await reads.wholes(tally, theirs)).flatMap((whole) => whole.rows);
    union.add({ rows: [], seen: seenIn(rows, bySpan) }, bySpan);
  }
  return { infos, seen: union.found.seen };
}

/** Whether a control was found by what its trace says, not one of its spans. */
export function isOfTrace({ traceId, runId }: Control): boolean {
  return traceId === runId;
}

/** Rows for traces of which nothing is left but files. */
async function filesLeft(
  { traces: reads }: LookupParts,
  tally: Tally,
  asked: readonly TraceRef[],
  rows: readonly Row[],
): Promise<readonly Row[]> {
  const shown = new Set(rows.map(({ projectId, traceId }) => `${projectId} ${traceId}`));
  const byRoot = new Map<string, Map<string, TraceRef>>();
  for (const trace of asked) {
    if (shown.has(`${trace.projectId} ${trace.traceId}`)) continue;
    const folder = await reads.folderOf(tally, trace);
    if (folder === null) continue;
    const at = folder.lastIndexOf('/');
    const root = folder.slice(0, at);
    byRoot.set(root, (byRoot.get(root) ?? new Map<string, TraceRef>()).set(folder.slice(at + 1), trace));
  }
  const left = new Map<string, Row>();
  for (const [root, traces] of byRoot) {
    const names = await reads.folders(tally, root);
    for (const [name, { projectId, traceId }] of traces) {
      if (!names.has(name)) continue;
      const marks = { shared: false, queued: false, inDataset: false, feedback: false };
      const one = { projectId, traceId, runId: traceId, startMs: null, persons: [], marks, leftover: true as const };
      left.set(keyOf(one), one);
    }
  }
  return [...left.values()];
}
