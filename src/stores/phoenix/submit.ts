import { z } from 'zod';
import type { Tally } from '../api.ts';
import { contractBroken } from '../http.ts';
import { partlyDone, StoreError } from '../port.ts';
import type { DeleteOrder, Receipt } from '../port.ts';
import { chunks } from '../rows.ts';
import type { PhoenixApi } from './api.ts';
import { GRAPHQL_ROUTE, GraphqlRefusal, MOST_ALIASES } from './api.ts';
import type { LookupParts } from './lookup.ts';
import { bareTraceSchema, deletedSchema, newestSchema } from './schemas.ts';

const TRACE_PATH = '/v1/traces/{trace}';

/** Up to so many go one by one, unless a session hangs on them: putting them together takes as many calls. */
const MOST_BY_ONE = 2;
/** Spans looked at for a younger trace of somebody else. */
const NEWEST = 10;

/** A trace as it is now. */
interface Place {
  readonly traceId: string;
  /** The server's own id, good for this moment only. */
  readonly nodeId: string;
  readonly row: number;
  readonly projectId: string;
}

/**
 * Deletes whole traces of one project by their explicit ids: by OpenTelemetry's id one at a time, or many in one call by
 * the server's own ids, which are looked up just before. Those are row numbers, and SQLite gives the number of the
 * youngest row out again when that row is gone: a trace goes in such a call only while a younger one stands, so that
 * between look-up and delete no number can pass to somebody else's trace.
 *
 * Sessions, projects and spans of time are never deleted: those calls take other people's traces along.
 *
 * @throws StoreError; after `unreachable` it is not known whether the request arrived.
 */
export async function submitDelete(
  { api, attached }: Pick<LookupParts, 'api' | 'attached'>,
  order: DeleteOrder,
): Promise<Receipt> {
  const tally = api.tally(order.progress);
  const traceIds = order.traces.map(({ traceId }) => traceId);
  const receipts: Receipt[] = [];
  const byOne: string[] = [];
  const refused: string[] = [];
  // A delete by OpenTelemetry's id leaves the session of its last trace, until the server's own sweep hours later.
  const hasSession = traceIds.some((traceId) => (attached.of(traceId)?.session ?? null) !== null);
  if (traceIds.length <= MOST_BY_ONE && !hasSession) byOne.push(...traceIds);
  else {
    const { places, youngest } = await placesOf(api, tally, order.projectId, traceIds);
    const here = places.filter(({ projectId }) => projectId === order.projectId);
    // It was read here and is elsewhere now: whoever reads it next decides.
    refused.push(...places.filter((place) => !here.includes(place)).map(({ traceId }) => traceId));
    const [last] = [...here].sort((a, b) => b.row - a.row);
    const together = here.filter((place) => place.row < youngest || place !== last);
    const alone = here.filter((place) => !together.includes(place));
    if (together.length > 0) {
      const receipt = await deleteTogether(api, tally, together, order.lastWord);
      if (receipt === null) byOne.push(...together.map(({ traceId }) => traceId));
      else receipts.push(receipt);
    }
    byOne.push(...alone.map(({ traceId }) => traceId));
    if (receipts.length === 0 && byOne.length === 0) {
      const goneMs = api.nowMs();
      // Somebody else was quicker: nothing of them is there.
      receipts.push({
        sentAtMs: goneMs,
        acknowledgedAtMs: goneMs,
        route: GRAPHQL_ROUTE,
        status: 200,
        requestId: null,
      });
    }
  }
  try {
    for (const traceId of byOne) receipts.push(await deleteOne(api, tally, traceId, order.lastWord));
  } catch (error) {
    throw receipts.length === 0 ? error : partlyDone(error);
  }
  const [first, last] = [receipts[0], receipts.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError('an order without traces');
  return { ...last, sentAtMs: first.sentAtMs, ...(refused.length === 0 ? {} : { refused }) };
}

/** Where the traces are now, those that are gone left out, and the highest row that any trace was seen to have. */
async function placesOf(
  api: PhoenixApi,
  tally: Tally,
  projectId: string,
  traceIds: readonly string[],
): Promise<{ readonly places: readonly Place[]; readonly youngest: number }> {
  const places: Place[] = [];
  let youngest = -1;
  for (const some of chunks(traceIds, MOST_ALIASES - 1)) {
    const names = some.map((_id, index) => `t${index}`);
    const data = await api.ask(
      tally,
      {
        query: `query Places($project: ID!, ${names.map((name) => `$${name}: String!`).join(', ')}) { newest: node(id: $project) { ... on Project { spans(first: ${NEWEST}, sort: {col: startTime, dir: desc}) { edges { node { trace { id } } } } } } ${names.map((name) => `${name}: getTraceByOtelId(traceId: $${name}) { id traceId project { id } }`).join(' ')} }`,
        variables: { project: projectId, ...Object.fromEntries(some.map((id, index) => [`t${index}`, id])) },
      },
      z.object({
        newest: newestSchema,
        ...Object.fromEntries(names.map((name) => [name, bareTraceSchema.nullable()])),
      }),
    );
    const { newest, ...traces } = data;
    for (const { node } of newest.spans.edges) youngest = Math.max(youngest, rowOf(api, tally, node.trace.id));
    some.forEach((traceId, index) => {
      const trace = (traces as Record<string, z.output<typeof bareTraceSchema> | null>)[`t${index}`] ?? null;
      if (trace === null) return;
      if (trace.traceId !== traceId)
        throw api.broken(tally, GRAPHQL_ROUTE, 'another trace came back than was asked for');
      places.push({ traceId, nodeId: trace.id, row: rowOf(api, tally, trace.id), projectId: trace.project.id });
    });
  }
  const ours = new Set(places.map(({ row }) => row));
  return { places, youngest: ours.has(youngest) ? -1 : youngest };
}

/** `Trace:17` in base64. */
function rowOf(api: PhoenixApi, tally: Tally, nodeId: string): number {
  const [, row] = /^Trace:(\d{1,15})$/.exec(Buffer.from(nodeId, 'base64').toString('latin1')) ?? [];
  if (row === undefined) {
    throw api.broken(tally, GRAPHQL_ROUTE, 'the id of a trace is not of the known form; look for a newer release');
  }
  return Number(row);
}

/** @returns null when the server refused all of them, as it does when one is gone or has moved; then none was deleted. */
async function deleteTogether(
  api: PhoenixApi,
  tally: Tally,
  places: readonly Place[],
  lastWord: () => Promise<void>,
): Promise<Receipt | null> {
  try {
    const { answer } = await api.asked(
      tally,
      {
        query: 'mutation DeleteTraces($traces: [ID!]!) { deleteTraces(traceIds: $traces) { __typename } }',
        variables: { traces: places.map(({ nodeId }) => nodeId) },
        read: false,
        lastWord,
      },
      deletedSchema,
    );
    const { route, status, requestId, sentAtMs, receivedAtMs: acknowledgedAtMs } = answer;
    return { sentAtMs, acknowledgedAtMs, route, status, requestId };
  } catch (error) {
    if (error instanceof GraphqlRefusal) return null;
    throw error;
  }
}

async function deleteOne(
  api: PhoenixApi,
  tally: Tally,
  traceId: string,
  lastWord: () => Promise<void>,
): Promise<Receipt> {
  try {
    const answer = await api.send(tally, {
      method: 'DELETE',
      path: TRACE_PATH.replace('{trace}', traceId),
      template: TRACE_PATH,
      shape: 'any',
      read: false,
      lastWord,
    });
    if (answer.status !== 204) {
      throw contractBroken(
        answer,
        'a delete was answered otherwise than the server does; reads decide what was deleted',
      );
    }
    const { route, status, requestId, sentAtMs, receivedAtMs: acknowledgedAtMs } = answer;
    return { sentAtMs, acknowledgedAtMs, route, status, requestId };
  } catch (error) {
    if (!(error instanceof StoreError) || error.status !== 404) throw error;
    // The server says so of a trace that is gone; a proxy would of any.
    const sentAtMs = api.nowMs();
    const { trace } = await api.ask(
      tally,
      {
        query: 'query Gone($trace: String!) { trace: getTraceByOtelId(traceId: $trace) { traceId } }',
        variables: { trace: traceId },
      },
      z.object({ trace: z.object({ traceId: z.string() }).nullable() }),
    );
    if (trace !== null) throw error;
    const { route, requestId } = error;
    return { sentAtMs, acknowledgedAtMs: api.nowMs(), route, status: 404, requestId };
  }
}
