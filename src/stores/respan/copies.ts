import { z } from 'zod';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { CopiesErased, CopiesFound, Copy, CopyReceipt, Progress, ReadReport, Row, TraceKey } from '../port.ts';
import { chunks, unique } from '../rows.ts';
import { partsOf } from './customers.ts';
import type { FinderParts } from './finders.ts';
import { pathSegment } from './filters.ts';
import type { RecordErasure } from './records.ts';
import { storedForms } from './schemas.ts';
import { CUSTOMER_RECORD, LOOSE_LOGS } from './traits.ts';

const PAGE = 100;
/** Calls that one kind of copy may take: the budget of a minute is the budget of everybody. */
const MOST_CALLS = 40;
const MOST_IDS = 200;
const LOG_TEMPLATE = '/api/request-logs/{unique_id}/';

const nameless = z.looseObject({ id: z.union([z.string().min(1), z.number()]) });
const pageSchema = z.object({ results: z.array(z.looseObject({})), next: z.string().nullable() });

export interface CopyParts extends FinderParts {
  readonly records: RecordErasure;
}

/** Thrown when a kind of copy takes more calls than one person may. */
class TooMany extends Error {}

/**
 * Finds copies of traces elsewhere in the organisation, before the traces are deleted. Lists are read without filters and
 * matched here: datasets have yet another filter language, and a dropped key would go unnoticed.
 *
 * Ids of copies: `dataset-logs` dataset/log, `testset-rows` testset/row; of those that searches bring along see
 * `Customers` and the finders.
 */
export async function findCopies(
  parts: FinderParts,
  traces: readonly TraceKey[],
  rows: readonly Row[],
  progress: Progress,
): Promise<CopiesFound> {
  const { api, customers } = parts;
  const copies: Copy[] = [];
  const notExamined: { kind: string; why: string }[] = [];
  const reports: ReadReport[] = [];
  const part = async (kind: string, examine: (tally: Tally) => Promise<void>): Promise<void> => {
    const tally = api.tally(progress);
    try {
      await examine(tally);
    } catch (error) {
      const why = unavailable(error);
      if (why === null) throw error;
      notExamined.push({ kind, why });
    } finally {
      if (tally.calls > 0) reports.push(tally.report('copies', null));
    }
  };
  const tracesOf = new Map<string, Set<string>>();
  const lead = (text: string, traceId: string): void => {
    tracesOf.set(text, (tracesOf.get(text) ?? new Set()).add(traceId));
  };
  for (const { traceId } of traces) lead(traceId, traceId);
  // Whose values these are was decided before: the rows are those of the people's own traces.
  for (const { runId, traceId, persons } of rows) {
    for (const text of [runId, ...persons.flatMap(({ key, text }) => storedForms(key, text))]) lead(text, traceId);
  }

  await part('dataset-logs', async (tally) => {
    for (const dataset of await everyId(parts, tally, 'POST', '/api/datasets/list/')) {
      const template = '/api/datasets/{dataset}/logs/list/';
      for (const log of await everyRow(parts, tally, 'POST', template.replace('{dataset}', dataset), template)) {
        const id = `${dataset}/${idOf(log)}`;
        for (const traceId of matchesOf(log, tracesOf))
          copies.push({ kind: 'dataset-logs', id, traceId, where: `dataset ${dataset}` });
      }
    }
  });
  await part('testset-rows', async (tally) => {
    for (const testset of await everyId(parts, tally, 'POST', '/api/testsets/list/')) {
      const template = '/api/testsets/{testset}/rows/';
      for (const row of await everyRow(parts, tally, 'GET', template.replace('{testset}', testset), template)) {
        const id = `${testset}/${idOf(row)}`;
        for (const traceId of matchesOf(row, tracesOf))
          copies.push({ kind: 'testset-rows', id, traceId, where: `testset ${testset}` });
      }
    }
  });
  await part('experiments', async (tally) => {
    const found = await everyId(parts, tally, 'POST', '/api/v2/experiments/list/');
    if (found.length > 0) throw new TooMany(`${found.length} experiments; nothing links their contents to a trace`);
  });
  await part(CUSTOMER_RECORD, async (tally) => {
    for (const environment of parts.config.environments) {
      if (!customers.reliedOnMissing(environment)) continue;
      if (!(await customers.areReadable(tally, environment)))
        throw new TooMany('no record can be read by its identifier');
    }
  });
  return { copies, outOfReach: [], notExamined, reports };
}

/** Looks at copies again, each by its own id. What can't be looked at counts as still there. */
export async function lookAgain(
  parts: FinderParts,
  copies: readonly Copy[],
  progress: Progress,
): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }> {
  const { api, customers, lists } = parts;
  const tally = api.tally(progress);
  const left = copies.filter(({ kind }) => kind !== CUSTOMER_RECORD && kind !== LOOSE_LOGS);
  const byEnvironment = (kind: string): Map<string, Copy[]> =>
    Map.groupBy(
      copies.filter((one) => one.kind === kind),
      ({ id }) => partsOf(id)[0],
    );
  for (const [environment, some] of byEnvironment(CUSTOMER_RECORD)) {
    const gone: Copy[] = [];
    for (const copy of some) {
      if (await customers.isThere(tally, environment, partsOf(copy.id)[1])) left.push(copy);
      else gone.push(copy);
    }
    if (gone.length > 0 && !(await customers.areReadable(tally, environment))) left.push(...gone);
  }
  for (const [environment, some] of byEnvironment(LOOSE_LOGS)) {
    for (const part of chunks(some, MOST_IDS)) {
      const narrow = { field: 'unique_id', values: part.map(({ id }) => partsOf(id)[1]) } as const;
      const logs = await lists.logs(tally, { environment, window: lists.allTime(), narrow });
      const there = new Set(logs.map((log) => log.unique_id));
      left.push(...part.filter(({ id }) => there.has(partsOf(id)[1])));
    }
  }
  return { left, reports: tally.calls === 0 ? [] : [tally.report('copies', null)] };
}

/**
 * Erases logs that belong to no trace, and last the customer records, each by a call with its id in the path. A log that
 * has come to a trace since is left to the deletes by trace; a record whose customer still stands on a trace stays.
 */
export async function eraseCopies(
  parts: CopyParts,
  copies: readonly Copy[],
  lastWord: () => Promise<void>,
  progress: Progress,
): Promise<CopiesErased> {
  const { api, config, lists, records } = parts;
  const tally = api.tally(progress);
  const receipts: CopyReceipt[] = [];
  const logs = copies.filter(({ kind }) => kind === LOOSE_LOGS).map(({ id }) => partsOf(id));
  for (const environment of config.legacySpanDelete ? unique(logs.map(([name]) => name)) : []) {
    const ids = logs.flatMap(([name, id]) => (name === environment ? [id] : []));
    for (const some of chunks(ids, MOST_IDS)) {
      const now = await lists.logs(tally, {
        environment,
        window: lists.allTime(),
        narrow: { field: 'unique_id', values: some },
      });
      for (const { unique_id: id } of now.filter((log) => log.trace_unique_id === null)) {
        const segment = pathSegment(id);
        if (segment === null) continue;
        const copyIds = copies.filter((copy) => copy.kind === LOOSE_LOGS && partsOf(copy.id)[1] === id);
        const ids = copyIds.map((copy) => copy.id);
        try {
          const answer = await api.send(tally, {
            method: 'DELETE',
            path: `/api/request-logs/${segment}/`,
            template: LOG_TEMPLATE,
            shape: 'any',
            read: false,
            lastWord,
          });
          const { route, status, requestId, sentAtMs, receivedAtMs } = answer;
          const receipt = { kind: LOOSE_LOGS, ids, route, status, requestId, sentAtMs };
          receipts.push({ ...receipt, acknowledgedAtMs: receivedAtMs });
        } catch (error) {
          // The older route may be gone, or the log: the look afterwards tells what is left.
          if (unavailable(error) === null || !(error instanceof StoreError)) throw error;
          const { route, status, requestId } = error;
          receipts.push({ kind: LOOSE_LOGS, ids, route, status, requestId, sentAtMs: null, acknowledgedAtMs: null });
        }
      }
    }
  }
  // All at once, so that records of several people that are due now are looked at together.
  const ends = await Promise.allSettled(
    copies
      .filter(({ kind }) => kind === CUSTOMER_RECORD)
      .map(async ({ id }) => {
        const [environment, identifier] = partsOf(id);
        const answer = await records.erase(tally, environment, identifier, lastWord);
        if (answer === null) return;
        const { route, status, requestId, sentAtMs, receivedAtMs: acknowledgedAtMs } = answer;
        receipts.push({ kind: CUSTOMER_RECORD, ids: [id], route, status, requestId, sentAtMs, acknowledgedAtMs });
      }),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return { reports: tally.calls === 0 ? [] : [tally.report('copies', null)], receipts };
}

async function everyId(
  parts: FinderParts,
  tally: Tally,
  method: 'GET' | 'POST',
  path: string,
): Promise<readonly string[]> {
  const rows = await everyRow(parts, tally, method, path, path);
  return rows.map((row) => {
    const parsed = nameless.safeParse(row);
    const segment = parsed.success ? pathSegment(String(parsed.data.id)) : null;
    if (segment === null) throw parts.api.broken(tally, `${method} ${path}`, 'an entry of a list has no usable id');
    return segment;
  });
}

type Entry = z.output<typeof pageSchema>['results'][number];

function everyRow(
  { api }: FinderParts,
  tally: Tally,
  method: 'GET' | 'POST',
  path: string,
  template: string,
): Promise<readonly Entry[]> {
  return api.pages(
    tally,
    `${method} ${template}`,
    async (cursor) => {
      if (tally.calls >= MOST_CALLS) throw new TooMany(`more than ${MOST_CALLS} calls would be needed`);
      const page = Number(cursor ?? '1');
      const { results, next } = await api.call(
        tally,
        {
          method,
          path,
          template,
          query: [
            ['page', String(page)],
            ['page_size', String(PAGE)],
          ],
          ...(method === 'POST' ? { body: {} } : {}),
          shape: 'any',
        },
        pageSchema,
      );
      return { rows: results, next: next === null || results.length === 0 ? null : String(page + 1) };
    },
    (row) => JSON.stringify(row),
  );
}

/** The store's id of an entry. */
function idOf(row: Entry): string {
  for (const name of ['unique_id', 'id', 'row_index', 'index']) {
    const value = row[name];
    if ((typeof value === 'string' && value !== '') || typeof value === 'number') return String(value);
  }
  return '';
}

/**
 * The traces whose id, span's id or person stands anywhere in an entry, as a whole text. All of them: several people may
 * have asked at once, and each must hear of it.
 */
function matchesOf(
  value: unknown,
  tracesOf: ReadonlyMap<string, ReadonlySet<string>>,
  found = new Set<string>(),
): ReadonlySet<string> {
  if (typeof value === 'string' || typeof value === 'number') {
    for (const traceId of tracesOf.get(String(value)) ?? []) found.add(traceId);
  } else if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) matchesOf(inner, tracesOf, found);
  }
  return found;
}

/** Why a kind could not be examined, when that is a property of the connection and not trouble that will pass. */
function unavailable(error: unknown): string | null {
  if (error instanceof TooMany) return error.message;
  if (!(error instanceof StoreError)) return null;
  if (error.reason === 'denied' && error.status === 403) return 'the key may not read them';
  if (error.reason === 'gone') return 'this server does not offer the route';
  if (error.reason === 'rejected') return 'this server refused the question';
  return null;
}
