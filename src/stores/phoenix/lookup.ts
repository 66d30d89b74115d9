import { z } from 'zod';
import type { Tally } from '../api.ts';
import type { Control, Located, LocateQuery, LookupQuery, LookupRoute, Read, Row } from '../port.ts';
import { keyOf, seenIn, Union, unique } from '../rows.ts';
import type { PhoenixApi } from './api.ts';
import { GRAPHQL_ROUTE, MOST_ALIASES } from './api.ts';
import type { GraphTrace } from './schemas.ts';
import { locatedSpanSchema, rowOf, traceSchema } from './schemas.ts';
import type { Spans } from './spans.ts';

/** Controls in each call, when they are too many for every one. */
const CONTROLS_PER_CALL = 4;

export interface LookupParts {
  readonly api: PhoenixApi;
  readonly spans: Spans;
  readonly attached: Attached;
}

/** What hangs on a trace, as its latest look-up showed it. */
export interface Attachments {
  /** The application's id of the session, or null. */
  readonly session: string | null;
  readonly annotated: boolean;
  /** Ids of spans from which dataset examples were made. */
  readonly exampled: readonly string[];
}

const MOST_REMEMBERED = 100_000;

/** Remembers what hangs on traces, so that a step which has just read them need not ask again. */
export class Attached {
  readonly #byTrace = new Map<string, Attachments>();

  note(traceId: string, attachments: Attachments): void {
    this.#byTrace.delete(traceId);
    this.#byTrace.set(traceId, attachments);
    for (const oldest of this.#byTrace.keys()) {
      if (this.#byTrace.size <= MOST_REMEMBERED) break;
      this.#byTrace.delete(oldest);
    }
  }

  of(traceId: string): Attachments | undefined {
    return this.#byTrace.get(traceId);
  }
}

/**
 * Reads whole traces by their ids, whatever project they are in now: a trace that a late span brought back may be in
 * another one, and then is given back there.
 */
export function lookupOf(parts: LookupParts): LookupRoute {
  return { name: 'trace by id', lookup: (query) => lookup(parts, query) };
}

async function lookup(parts: LookupParts, { traces, window, controls, progress }: LookupQuery): Promise<Read> {
  const tally = parts.api.tally(progress);
  const { rows, seen } = await byTraceIds(
    parts,
    tally,
    traces.map(({ traceId }) => traceId),
    controls,
  );
  return {
    rows,
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report('lookup', window, controls.length, seen.size),
  };
}

/** Ids that are looked up in one call, and the controls that ride with them. */
interface Ride {
  readonly ids: readonly string[];
  readonly here: readonly Control[];
}

/**
 * As few calls as hold everything; every control rides in one at least, and every call carries some.
 *
 * @param idOf what a control is asked for by.
 */
function* rides(
  ids: readonly string[],
  controls: readonly Control[],
  idOf: (control: Control) => string,
  most: number,
): Generator<Ride> {
  const own = new Set(controls.map(idOf)).size;
  if (ids.length + own <= most) {
    yield { ids, here: controls };
    return;
  }
  const each = Math.min(controls.length, CONTROLS_PER_CALL, Math.max(1, most - 1));
  const size = most - each;
  const calls = Math.max(Math.ceil(ids.length / size), Math.ceil(controls.length / Math.max(1, each)));
  for (let call = 0; call < calls; call += 1) {
    const here = Array.from({ length: each }, (_none, index) => controls[(call * each + index) % controls.length]);
    yield { ids: ids.slice(call * size, (call + 1) * size), here: here.filter((control) => control !== undefined) };
  }
}

async function byTraceIds(
  parts: LookupParts,
  tally: Tally,
  traceIds: readonly string[],
  controls: readonly Control[],
): Promise<{ readonly rows: readonly Row[]; readonly seen: ReadonlySet<Control> }> {
  const { api, spans, attached } = parts;
  const union = new Union();
  const found = new Map<string, Row>();
  const most = Math.min(MOST_ALIASES, spans.pageSize);
  for (const { ids, here } of rides(unique(traceIds), controls, ({ traceId }) => traceId, most)) {
    const asked = new Set(ids);
    const shown: Row[] = [];
    let open = unique([...ids, ...here.map(({ traceId }) => traceId)]).map((id) => ({
      id,
      after: null as string | null,
    }));
    const hanging = new Map<string, { session: string | null; annotated: boolean; exampled: string[] }>();
    while (open.length > 0) {
      const next: typeof open = [];
      const answers = await askTraces(parts, tally, open);
      for (const [index, trace] of answers.entries()) {
        const place = open[index];
        if (trace === null || place === undefined) continue;
        const rows = trace.spans.edges.map(({ node }) =>
          spans.row(tally, trace.project.id, trace.traceId, node, {
            inDataset: node.containedInDataset,
            feedback: node.spanAnnotations.length > 0,
          }),
        );
        if (asked.has(trace.traceId)) spans.checkIds(tally, GRAPHQL_ROUTE, rows);
        shown.push(...rows);
        // A row without spans still carries its session and annotations, and the next span that comes joins it.
        if (rows.length === 0 && place.after === null && asked.has(trace.traceId)) {
          const bare = rowOf(trace.project.id, trace.traceId, { spanId: trace.traceId }, []);
          found.set(keyOf(bare), { ...bare, leftover: true });
        }
        const hangs = hanging.get(trace.traceId) ?? { session: null, annotated: false, exampled: [] };
        hangs.session = trace.session?.sessionId ?? null;
        hangs.annotated ||= trace.traceAnnotations.length > 0 || rows.some(({ marks }) => marks.feedback);
        hangs.exampled.push(...rows.flatMap(({ marks, runId }) => (marks.inDataset ? [runId] : [])));
        hanging.set(trace.traceId, hangs);
        const { hasNextPage, endCursor } = trace.spans.pageInfo;
        if (!hasNextPage) continue;
        if (endCursor === null || endCursor === place.after) {
          throw api.broken(tally, GRAPHQL_ROUTE, 'the paging token of a trace leads nowhere');
        }
        next.push({ id: place.id, after: endCursor });
      }
      open = next;
    }
    for (const [traceId, hangs] of hanging) attached.note(traceId, hangs);
    for (const row of shown) if (asked.has(row.traceId)) found.set(keyOf(row), row);
    union.add({ rows: [], seen: seenIn(shown, here) }, here);
  }
  tally.rows += found.size;
  return { rows: [...found.values()], seen: union.found.seen };
}

/** @throws StoreError `contract-broken` when another trace comes back than the one asked for. */
async function askTraces(
  { api, spans }: LookupParts,
  tally: Tally,
  places: readonly { readonly id: string; readonly after: string | null }[],
): Promise<readonly (GraphTrace | null)[]> {
  const names = places.map((_place, index) => `t${index}`);
  const fields = names.map(
    (name) =>
      `${name}: getTraceByOtelId(traceId: $${name}) { id traceId project { id } session { sessionId } traceAnnotations { id } spans(first: $first, after: $${name}after) { edges { node { spanId startTime attributes containedInDataset spanAnnotations { id } } } pageInfo { hasNextPage endCursor } } }`,
  );
  const data = await api.ask(
    tally,
    {
      query: `query Traces($first: Int!, ${names.map((name) => `$${name}: String!, $${name}after: String`).join(', ')}) { ${fields.join(' ')} }`,
      variables: {
        first: spans.pageSize,
        ...Object.fromEntries(
          places.flatMap(({ id, after }, index) => [
            [`t${index}`, id],
            [`t${index}after`, after],
          ]),
        ),
      },
    },
    z.object(Object.fromEntries(names.map((name) => [name, traceSchema.nullable()]))),
  );
  return places.map(({ id }, index) => {
    const trace = data[`t${index}`] as GraphTrace | null;
    if (trace !== null && trace.traceId !== id) {
      throw api.broken(tally, GRAPHQL_ROUTE, 'another trace came back than was asked for');
    }
    return trace;
  });
}

/** Looks ids of traces and spans up in every project of the server. */
export async function locate(parts: LookupParts, { ids, window, controls, progress }: LocateQuery): Promise<Located> {
  const { api, spans } = parts;
  const tally = api.tally(progress);
  const traceIds = ids.filter((id) => id.length === 32);
  const spanIds = unique(ids.filter((id) => id.length !== 32));
  const byTrace = await byTraceIds(parts, tally, traceIds, controls);
  const union = new Union();
  union.add(byTrace, controls);
  const spanRides = spanIds.length === 0 ? [] : rides(spanIds, controls, ({ runId }) => runId, MOST_ALIASES);
  for (const { ids: some, here } of spanRides) {
    const asked = unique([...some, ...here.map(({ runId }) => runId)]);
    const names = asked.map((_id, index) => `s${index}`);
    const data = await api.ask(
      tally,
      {
        query: `query Located(${names.map((name) => `$${name}: String!`).join(', ')}) { ${names.map((name) => `${name}: getSpanByOtelId(spanId: $${name}) { spanId startTime attributes trace { traceId project { id } } }`).join(' ')} }`,
        variables: Object.fromEntries(asked.map((id, index) => [`s${index}`, id])),
      },
      z.object(Object.fromEntries(names.map((name) => [name, locatedSpanSchema.nullable()]))),
    );
    const rows = asked.flatMap((id, index) => {
      const one = data[`s${index}`] as z.output<typeof locatedSpanSchema> | null;
      if (one === null) return [];
      if (one.spanId !== id) throw api.broken(tally, GRAPHQL_ROUTE, 'another span came back than was asked for');
      return [spans.row(tally, one.trace.project.id, one.trace.traceId, one)];
    });
    const wanted = new Set(some);
    const mine = rows.filter(({ runId }) => wanted.has(runId));
    spans.checkIds(tally, GRAPHQL_ROUTE, mine);
    tally.rows += mine.length;
    union.add({ rows: mine, seen: seenIn(rows, here) }, here);
  }
  const { rows, seen } = union.found;
  return {
    rows,
    wrongKind: new Map(),
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report('locate', window, controls.length, seen.size),
  };
}

/** Reads traces again whose attachments are not remembered. */
export async function attachmentsOf(
  parts: LookupParts,
  tally: Tally,
  traceIds: readonly string[],
): Promise<ReadonlyMap<string, Attachments>> {
  const unknown = traceIds.filter((id) => parts.attached.of(id) === undefined);
  if (unknown.length > 0) await byTraceIds(parts, tally, unknown, []);
  return new Map(
    traceIds.flatMap((id) => {
      const of = parts.attached.of(id);
      return of === undefined ? [] : [[id, of] as const];
    }),
  );
}
