import type { Tally } from '../api.ts';
import { parseJson } from '../http.ts';
import type { KillSwitch } from '../kill-switch.ts';
import { StoreError } from '../port.ts';
import type { CopiesFound, Copy, Progress, ReadReport, Row, TraceKey } from '../port.ts';
import { unique } from '../rows.ts';
import type { MlflowApi } from './api.ts';
import type { Experiments } from './experiments.ts';
import { datasetsSchema, deletedRecordsSchema, recordListSchema, recordsSchema } from './schemas.ts';
import type { Traces } from './traces.ts';

const SEARCH = '/api/3.0/mlflow/datasets/search';
const RECORDS_TEMPLATE = '/api/3.0/mlflow/datasets/{dataset}/records';
const KIND = 'dataset-records';
const PEOPLE = 'unindexed-people';
const HIDDEN = 'hidden-experiments';
const PAGE = 1000;
/** The same for datasets; a page of them is not documented to be larger. */
const PAGE_OF_DATASETS = 100;
const DATASET_ID = /^d-[0-9a-f]{32}$/;
const RECORD_ID = /^dr-[0-9a-f]{32}$/;

export interface CopyParts {
  readonly api: MlflowApi;
  readonly experiments: Experiments;
  readonly traces: Traces;
  readonly killSwitch: KillSwitch;
  /** Whether records of datasets are looked for. */
  readonly records: boolean;
  /** Whether people are looked for in spans. */
  readonly people: boolean;
  /** Records that the latest reads showed as merged: what a plan knows of them may be older. */
  readonly merged: Set<string>;
}

interface Record {
  /** Of its dataset and itself. */
  readonly id: string;
  readonly traceId: string | null;
  /**
   * It was written to after it was made. A record with the same inputs is merged into the one that is there, which keeps
   * the trace that it was first made from: its outputs and expectations may be those of somebody else's trace.
   */
  readonly merged: boolean;
}

/** Looks for what the traces were made into, and for files that this server does not reach. */
export async function findCopies(
  parts: CopyParts,
  traces: readonly TraceKey[],
  _rows: readonly Row[],
  progress: Progress,
): Promise<CopiesFound> {
  const { api, traces: reads } = parts;
  const tally = api.tally(progress);
  const notExamined: { kind: string; why: string }[] = [];
  if (parts.people && (await reads.areElsewhere(tally))) {
    notExamined.push({
      kind: PEOPLE,
      why: 'the spans of some traces are archived, or kept as files: no search reaches them',
    });
  }
  if (await parts.experiments.mayBeHidden(tally)) {
    notExamined.push({ kind: HIDDEN, why: 'the account is no administrator, and the config names no experiments' });
  }
  if (traces.length === 0) {
    return {
      copies: [],
      outOfReach: [],
      notExamined,
      reports: tally.calls === 0 ? [] : [tally.report('copies', null)],
    };
  }
  const infos = await reads.infos(tally, unique(traces.map(({ traceId }) => traceId)));
  const elsewhere: string[] = [];
  for (const info of infos.values()) if (await reads.hasFilesElsewhere(tally, info)) elsewhere.push(info.trace_id);
  const copies: Copy[] = [];
  if (parts.records) {
    try {
      const asked = new Set(traces.map(({ traceId }) => traceId));
      for (const dataset of await datasets(parts, tally)) {
        for (const { id, traceId, merged } of await recordsOf(parts, tally, dataset)) {
          if (traceId === null || !asked.has(traceId)) continue;
          copies.push({ kind: KIND, id, traceId, ...(merged ? { others: true as const } : {}) });
        }
      }
    } catch (error) {
      const why = unavailable(error);
      if (why === null) throw error;
      notExamined.push({ kind: KIND, why });
    }
  }
  return {
    copies,
    outOfReach:
      elsewhere.length === 0 ? [] : [{ kind: 'artifacts-elsewhere', count: elsewhere.length, traceIds: elsewhere }],
    notExamined,
    reports: [tally.report('copies', null)],
  };
}

/** Those of the copies that are still there. One whose dataset cannot be read counts as still there. */
export async function lookAgain(
  parts: CopyParts,
  copies: readonly Copy[],
  progress: Progress,
): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }> {
  const tally = parts.api.tally(progress);
  const records = copies.filter(({ kind }) => kind === KIND);
  const there = new Set<string>();
  const unread = new Set<string>();
  const listed = records.length === 0 ? new Set<string>() : new Set(await datasets(parts, tally));
  for (const dataset of unique(records.map(({ id }) => datasetOf(id)))) {
    // A dataset that is not listed any more has gone with its records.
    if (!listed.has(dataset)) continue;
    try {
      for (const { id } of await recordsOf(parts, tally, dataset)) there.add(id);
    } catch (error) {
      if (unavailable(error) === null) throw error;
      unread.add(dataset);
    }
  }
  const left = copies.filter(({ kind, id }) => kind !== KIND || there.has(id) || unread.has(datasetOf(id)));
  return { left, reports: tally.calls === 0 ? [] : [tally.report('copies', null)] };
}

/**
 * Erases records of datasets, each by a call that names it alone.
 *
 * @throws StoreError `rejected` with the kill switch tripped when more was deleted than was sent.
 */
export async function eraseCopies(
  { api, killSwitch, merged }: CopyParts,
  copies: readonly Copy[],
  lastWord: () => Promise<void>,
  progress: Progress,
): Promise<{ readonly reports: readonly ReadReport[] }> {
  const tally = api.tally(progress);
  for (const { id } of copies.filter(({ kind }) => kind === KIND)) {
    const [dataset, record] = [datasetOf(id), id.slice(id.indexOf('/') + 1)];
    if (!DATASET_ID.test(dataset) || !RECORD_ID.test(record) || merged.has(id)) continue;
    const { data, answer } = await api.answer(
      tally,
      {
        method: 'DELETE',
        path: RECORDS_TEMPLATE.replace('{dataset}', encodeURIComponent(dataset)),
        template: RECORDS_TEMPLATE,
        body: { dataset_record_ids: [record] },
        shape: 'any',
        read: false,
        lastWord,
      },
      deletedRecordsSchema,
    );
    if ((data.deleted_count ?? 0) > 1) {
      const { route, status, requestId } = answer;
      killSwitch.trip('the server says that it deleted more records than were sent');
      const advice =
        'the server says that it deleted more records than were sent: look before anything else is deleted';
      throw new StoreError({ reason: 'rejected', route, status, requestId, advice });
    }
  }
  return { reports: tally.calls === 0 ? [] : [tally.report('copies', null)] };
}

/**
 * Ids of all datasets. A record may have come from a trace of any experiment, and a dataset need not belong to one: its
 * link to it can be removed.
 */
async function datasets({ api }: CopyParts, tally: Tally): Promise<readonly string[]> {
  const found = await api.pages(
    tally,
    `POST ${SEARCH}`,
    async (cursor) => {
      const body = { max_results: PAGE_OF_DATASETS, ...(cursor === null ? {} : { page_token: cursor }) };
      const call = { method: 'POST', path: SEARCH, body, shape: 'any' } as const;
      const { datasets: rows, next_page_token: next } = await api.call(tally, call, datasetsSchema);
      return { rows: rows ?? [], next: next === undefined || next === null || next === '' ? null : next };
    },
    ({ dataset_id: id }) => id,
    true,
  );
  return found.map(({ dataset_id: id }) => id);
}

/** Every record of a dataset: its id, and the trace that it was made from. What it holds is dropped where it arrives. */
async function recordsOf({ api, merged }: CopyParts, tally: Tally, dataset: string): Promise<readonly Record[]> {
  const route = `GET ${RECORDS_TEMPLATE}`;
  const records = await api.pages(
    tally,
    route,
    async (cursor) => {
      const query = [
        ['max_results', String(PAGE)],
        ...(cursor === null ? [] : [['page_token', cursor] as const]),
      ] as const;
      const path = RECORDS_TEMPLATE.replace('{dataset}', encodeURIComponent(dataset));
      const call = { method: 'GET', path, template: RECORDS_TEMPLATE, query, shape: 'any' } as const;
      const { records, next_page_token: next } = await api.call(tally, call, recordsSchema);
      const list = recordListSchema.safeParse(jsonOf(records));
      if (!list.success)
        throw api.broken(tally, route, 'the records of a dataset are not the list that they should be');
      const rows = list.data.map((one): Record => ({
        id: `${dataset}/${one.dataset_record_id}`,
        merged: one.created_time !== one.last_update_time,
        traceId: one.source?.source_data?.trace_id ?? one.source_id ?? null,
      }));
      return { rows, next: next === undefined || next === null || next === '' ? null : next };
    },
    ({ id }) => id,
    true,
  );
  for (const { id, merged: isMerged } of records) {
    if (isMerged) merged.add(id);
  }
  return records;
}

function jsonOf(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}

function datasetOf(id: string): string {
  return id.slice(0, id.indexOf('/'));
}

/** Why a kind could not be examined, when that is a property of the connection and not trouble that will pass. */
function unavailable(error: unknown): string | null {
  if (!(error instanceof StoreError)) return null;
  if (error.reason === 'denied' && error.status === 403) return 'the account may not read them';
  if (error.reason === 'gone') return 'this server does not offer the route';
  if (error.reason === 'rejected') return 'this server refused the question';
  return null;
}
