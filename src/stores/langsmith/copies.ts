import type { output } from 'zod';
import { StoreError } from '../port.ts';
import type { CopiesFound, Copy, Progress, ReadReport, Row, TraceKey } from '../port.ts';
import { instantOf } from '../values.ts';
import {
  bulkExportsSchema,
  exampleContentSchema,
  exampleOwnersSchema,
  examplesSchema,
  feedbackSchema,
  personsIn,
  queueItemsSchema,
  queuesSchema,
  rulesSchema,
  sharedSchema,
} from './schemas.ts';
import type { IdentifierKeys } from './schemas.ts';
import type { Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { Projects } from './projects.ts';
import type { Reader } from './reads.ts';
import { chunks, unique } from '../rows.ts';

/** Dataset examples paged through when a run says that it is in a dataset; the route takes 5,000 calls a minute. */
const MOST_EXAMPLES = 50_000;
/** And when no run says so: beyond it the runs' own marks decide. */
const MOST_UNMARKED_EXAMPLES = 2000;
/** Entries of other lists. */
const MOST_ENTRIES = 20_000;
const PAGE = 100;
/** Runs named in one query string. */
const MOST_IN_URL = 50;
/** Items of one annotation queue that are looked through. */
const MOST_QUEUE_ITEMS = 20_000;
const QUEUE_STATUSES = ['needs_my_review', 'needs_others_review', 'archived'] as const;

/** What the copies are looked for with. */
export interface CopySources {
  readonly api: LangSmithApi;
  /** Keys by kind of identifier, as in the config. */
  readonly identifiers: IdentifierKeys;
  readonly projects: Projects;
  readonly reader: Reader;
}

/**
 * Finds copies of traces elsewhere in the workspace, before the traces are deleted: afterwards nothing leads to them.
 *
 * Ids of copies name what is needed to look at them again and to erase them:
 * `dataset-examples` dataset/example/created (epoch ms, or 0) · `public-shares` project/trace (an older release: trace
 * alone) · `annotation-queue-entries` queue/run · `feedback` run/feedback.
 */
export async function findCopies(
  { api, identifiers, projects, reader }: CopySources,
  traces: readonly TraceKey[],
  rows: readonly Row[],
  progress: Progress,
): Promise<CopiesFound> {
  const traceOfRun = new Map(rows.map(({ runId, traceId }) => [runId, traceId]));
  for (const { traceId } of traces) traceOfRun.set(traceId, traceId);
  const projectIds = new Set(traces.map(({ projectId }) => projectId));
  const copies: Copy[] = [];
  const outOfReach: { kind: string; count: number; traceIds: readonly string[] }[] = [];
  const notExamined: { kind: string; why: string; traceIds?: readonly string[] }[] = [];
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

  await part('dataset-examples', async (tally) => {
    const marked = rows.some(({ marks }) => marks.inDataset);
    const found: Copy[] = [];
    for (const example of await examplesOf(api, tally, marked)) {
      const { source_trace_id: trace, source_run_id: run } = example;
      const traceId = traceOfRun.get(trace ?? '') ?? traceOfRun.get(run ?? '');
      if (traceId === undefined) continue;
      const id = `${example.dataset_id}/${example.id}/${instantOf(example.created_at) ?? 0}`;
      found.push({ kind: 'dataset-examples', id, traceId, where: `dataset ${example.dataset_id}` });
    }
    const strange = await withOthers({ api, identifiers }, tally, found, rows);
    copies.push(...found.map((copy) => (strange.has(copy.id) ? { ...copy, others: true as const } : copy)));
  });

  await part('public-shares', async (tally) => {
    const marked = rows.filter(({ marks }) => marks.shared).map((row) => `${row.projectId}/${row.traceId}`);
    const listed: string[] = [];
    try {
      for (const { run, projectId } of await sharedRuns(api, tally)) {
        const traceId = traceOfRun.get(run);
        const here = traces.filter((trace) => trace.traceId === traceId);
        // The list names the project or not; a trace that lies in several may be shared in each.
        const named = here.filter((trace) => projectId === null || trace.projectId === projectId);
        listed.push(...named.map((trace) => `${trace.projectId}/${trace.traceId}`));
      }
    } catch (error) {
      // The runs' own marks are documented to tell all; the workspace's list is a second witness.
      if (unavailable(error) === null) throw error;
    }
    for (const id of unique([...marked, ...listed])) {
      const { traceId } = splitShare({ id });
      copies.push({ kind: 'public-shares', id, traceId });
    }
  });

  await part('annotation-queue-entries', async (tally) => {
    // The mark says that the run was queued at some time; the route per run says whether it is now.
    for (const row of rows.filter(({ marks }) => marks.queued)) {
      for (const queue of await queuesOf(api, tally, row.runId)) {
        const id = `${queue}/${row.runId}`;
        const where = `annotation queue ${queue}`;
        copies.push({ kind: 'annotation-queue-entries', id, traceId: row.traceId, where });
      }
    }
  });

  await part('feedback', async (tally) => {
    const runs = rows.filter(({ marks }) => marks.feedback).map(({ runId }) => runId);
    for (const { run_id: run, id } of await feedbackOn(api, tally, runs)) {
      const traceId = traceOfRun.get(run ?? '');
      if (traceId !== undefined) copies.push({ kind: 'feedback', id: `${run ?? ''}/${id}`, traceId });
    }
  });

  await part('evaluator-traces', async (tally) => {
    const { evaluatorId } = projects;
    if (evaluatorId === null || traces.length === 0) return;
    const window = { fromMs: 0, toMs: api.nowMs() + 7 * 86_400_000 };
    const query = { projectIds: [evaluatorId], window, mostPages: 1, pageSize: 1 };
    const { runs } = await reader.runs(tally, query);
    const why = 'the evaluator project holds traces, and nothing links them to the traces they judged';
    if (runs.length > 0) notExamined.push({ kind: 'evaluator-traces', why });
  });

  await part('bulk-exports', async (tally) => {
    const call = { method: 'GET', path: '/api/v1/bulk-exports', shape: 'rest' } as const;
    const exports = await api.call(tally, call, bulkExportsSchema);
    for (const { session_id: project, start_time, end_time } of exports) {
      const fromMs = instantOf(start_time) ?? Number.NEGATIVE_INFINITY;
      const toMs = instantOf(end_time) ?? Number.POSITIVE_INFINITY;
      const inTime = ({ startMs }: Row): boolean => startMs === null || (startMs >= fromMs && startMs <= toMs);
      const covered = rows.filter((row) => isIn(row, project) && inTime(row));
      const traceIds = unique(covered.map(({ traceId }) => traceId));
      if (traceIds.length > 0) outOfReach.push({ kind: 'bulk-exports', count: 1, traceIds });
    }
  });

  await part('rule-outputs', async (tally) => {
    const call = { method: 'GET', path: '/api/v1/runs/rules', shape: 'rest' } as const;
    const rules = await api.call(tally, call, rulesSchema);
    // One for each project, so that people of other projects, who share the call, are not told of it.
    for (const projectId of projectIds) {
      const count = rules.filter(({ session_id: project }) => (project ?? projectId) === projectId).length;
      const why = `${count} automation rules act on runs of a project of theirs; what they sent elsewhere cannot be read back`;
      const traceIds = traces.filter((trace) => trace.projectId === projectId).map(({ traceId }) => traceId);
      if (count > 0) notExamined.push({ kind: 'rule-outputs', why, traceIds });
    }
  });

  return { copies, outOfReach, notExamined, reports };
}

/** Whether a row lies in what an export or rule acts on; without a project it acts on all. */
function isIn(row: Row, project: string | null | undefined): boolean {
  return (project ?? row.projectId) === row.projectId;
}

/**
 * Looks at copies again, each by its own id. One whose route does not answer any more counts as still there: nothing
 * showed that it is gone.
 */
export async function lookAgain(
  api: LangSmithApi,
  copies: readonly Copy[],
  progress: Progress,
): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }> {
  const left: Copy[] = [];
  const reports: ReadReport[] = [];
  const part = async (
    kind: string,
    look: (tally: Tally, some: readonly Copy[]) => Promise<readonly Copy[]>,
  ): Promise<void> => {
    const some = copies.filter((copy) => copy.kind === kind);
    if (some.length === 0) return;
    const tally = api.tally(progress);
    try {
      left.push(...(await look(tally, some)));
    } catch (error) {
      if (unavailable(error) === null) throw error;
      left.push(...some);
    } finally {
      if (tally.calls > 0) reports.push(tally.report('copies', null));
    }
  };

  await part('dataset-examples', async (tally, some) => {
    const there = new Set<string>();
    for (const copy of some) {
      const [dataset = '', example = '', created = '0'] = copy.id.split('/');
      // A soft delete, the SDK's default, leaves old versions readable: both the newest and the first are looked at.
      const createdMs = Number(created);
      const firstMs = Math.min(createdMs + 1000, api.nowMs());
      for (const asOf of createdMs === 0 ? [null] : [null, new Date(firstMs).toISOString()]) {
        if (await hasContent(api, tally, dataset, example, asOf)) there.add(copy.id);
      }
    }
    return some.filter(({ id }) => there.has(id));
  });
  await part('public-shares', async (tally, some) => {
    const shared = await sharedRuns(api, tally);
    return some.filter((copy) => {
      const { projectId, traceId } = splitShare(copy);
      const here = (other: string | null): boolean => other === null || projectId === null || other === projectId;
      return shared.some((one) => one.run === traceId && here(one.projectId));
    });
  });
  await part('annotation-queue-entries', async (tally, some) => {
    const there = new Set<string>();
    for (const queue of unique(some.map(({ id }) => id.split('/')[0] ?? ''))) {
      for (const run of (await queueItems(api, tally, queue)).keys()) there.add(`${queue}/${run}`);
    }
    return some.filter(({ id }) => there.has(id));
  });
  await part('feedback', async (tally, some) => {
    const runs = unique(some.map(({ id }) => id.split('/')[0] ?? ''));
    const there = new Set((await feedbackOn(api, tally, runs)).map(({ id }) => id));
    return some.filter(({ id }) => there.has(id.split('/')[1] ?? ''));
  });
  const kinds = new Set(['dataset-examples', 'public-shares', 'annotation-queue-entries', 'feedback']);
  left.push(...copies.filter(({ kind }) => !kinds.has(kind)));
  return { left, reports };
}

/**
 * Reads a list by offset. A page that brings nothing new is the end: some routes of this vendor ignore the offset.
 *
 * @throws TooMany when the list is longer than `most`.
 */
async function byOffset<T>(
  api: LangSmithApi,
  tally: Tally,
  most: number,
  route: string,
  read: (offset: number) => Promise<readonly T[]>,
  idOf: (row: T) => string,
): Promise<T[]> {
  let known = new Set<string>();
  return api.pages(
    tally,
    route,
    async (cursor) => {
      const offset = Number(cursor ?? '0');
      if (cursor === null) known = new Set();
      const before = known.size;
      const rows = await read(offset);
      for (const row of rows) known.add(idOf(row));
      if (known.size > most) throw new TooMany(`more than ${most} of them`);
      return { rows, next: rows.length < PAGE || known.size === before ? null : String(offset + rows.length) };
    },
    idOf,
  );
}

/** Thrown when a list is longer than what is read for one person. */
class TooMany extends Error {}

/** Why a kind could not be examined, when that is a property of the connection and not trouble that will pass. */
export function unavailable(error: unknown): string | null {
  if (error instanceof TooMany) return error.message;
  if (!(error instanceof StoreError)) return null;
  if (error.reason === 'denied' && error.status === 403) return 'the key may not read them';
  if (error.reason === 'gone') return 'this server does not offer the route';
  if (error.reason === 'rejected') return 'this server refused the question';
  return null;
}

const query = (offset: number): [string, string][] => [
  ['offset', String(offset)],
  ['limit', String(PAGE)],
];

/**
 * No parameter searches by source, so all are paged through and matched by the caller; content is not selected.
 *
 * @param marked whether any run says that it is in a dataset. If none does, a long list is left to that word.
 */
async function examplesOf(
  api: LangSmithApi,
  tally: Tally,
  marked: boolean,
): Promise<readonly output<typeof examplesSchema>[number][]> {
  const path = '/api/v1/examples';
  const select = ['id', 'dataset_id', 'created_at', 'source_run_id', 'source_trace_id'].map(
    (name): [string, string] => ['select', name],
  );
  const soFar: output<typeof examplesSchema> = [];
  const read = async (offset: number): Promise<output<typeof examplesSchema>> => {
    const call = { method: 'GET', path, query: [...query(offset), ...select], shape: 'rest' } as const;
    const rows = await api.call(tally, call, examplesSchema);
    soFar.push(...rows);
    return rows;
  };
  const most = marked ? MOST_EXAMPLES : MOST_UNMARKED_EXAMPLES;
  try {
    return await byOffset(api, tally, most, `GET ${path}`, read, ({ id }) => id);
  } catch (error) {
    if (error instanceof TooMany && !marked) return soFar;
    throw error;
  }
}

async function hasContent(
  api: LangSmithApi,
  tally: Tally,
  dataset: string,
  example: string,
  asOf: string | null,
): Promise<boolean> {
  const params: [string, string][] = [
    ['dataset', dataset],
    ['id', example],
    ...['id', 'inputs', 'outputs', 'metadata'].map((name): [string, string] => ['select', name]),
  ];
  if (asOf !== null) params.push(['as_of', asOf]);
  const call = { method: 'GET', path: '/api/v1/examples', query: params, shape: 'rest' } as const;
  const rows = await api.call(tally, call, exampleContentSchema);
  return rows.some(({ id, inputs, outputs, metadata }) => id === example && (inputs || outputs || metadata));
}

async function sharedRuns(
  api: LangSmithApi,
  tally: Tally,
): Promise<readonly { readonly run: string; readonly projectId: string | null }[]> {
  const path = '/api/v1/workspaces/current/shared';
  const call = (offset: number) =>
    api.call(tally, { method: 'GET', path, query: query(offset), shape: 'rest' }, sharedSchema);
  const entries = await byOffset(
    api,
    tally,
    MOST_ENTRIES,
    `GET ${path}`,
    async (offset) => (await call(offset)).entities,
    ({ type, run_id: run, session_id: projectId }) => `${type} ${run ?? ''} ${projectId ?? ''}`,
  );
  return entries.flatMap(({ run_id: run, session_id: projectId }) =>
    run === null || run === undefined ? [] : [{ run, projectId: projectId ?? null }],
  );
}

/** The parts of a share's id. */
export function splitShare({ id }: Pick<Copy, 'id'>): { readonly projectId: string | null; readonly traceId: string } {
  const [first = '', second] = id.split('/');
  return second === undefined ? { projectId: null, traceId: first } : { projectId: first, traceId: second };
}

/**
 * Ids of those examples whose metadata names somebody whom their trace does not: they carry other people, or were turned
 * into something else since.
 */
async function withOthers(
  { api, identifiers }: Pick<CopySources, 'api' | 'identifiers'>,
  tally: Tally,
  examples: readonly Copy[],
  rows: readonly Row[],
): Promise<ReadonlySet<string>> {
  const known = new Map<string, Set<string>>();
  for (const { traceId, persons } of rows) {
    const of = known.get(traceId) ?? new Set<string>();
    for (const { kind, text } of persons) of.add(JSON.stringify([kind, text]));
    known.set(traceId, of);
  }
  const strange = new Set<string>();
  for (const some of chunks(examples, MOST_IN_URL)) {
    const byExample = new Map(some.map((copy) => [copy.id.split('/')[1] ?? '', copy]));
    const params: [string, string][] = [
      ...[...byExample.keys()].map((id): [string, string] => ['id', id]),
      ...['id', 'metadata'].map((name): [string, string] => ['select', name]),
      ['limit', String(PAGE)],
    ];
    const call = { method: 'GET', path: '/api/v1/examples', query: params, shape: 'rest' } as const;
    const told = await api.call(tally, call, exampleOwnersSchema);
    const seen = new Set(told.map(({ id }) => id));
    for (const [id, copy] of byExample) if (!seen.has(id)) strange.add(copy.id);
    for (const { id, metadata } of told) {
      const copy = byExample.get(id);
      if (copy === undefined) continue;
      const of = known.get(copy.traceId);
      const isStrange = personsIn(metadata, identifiers).some(
        ({ kind, text }) => text.trim() !== '' && of?.has(JSON.stringify([kind, text])) !== true,
      );
      if (isStrange) strange.add(copy.id);
    }
  }
  return strange;
}

async function queuesOf(api: LangSmithApi, tally: Tally, run: string): Promise<string[]> {
  const call = {
    method: 'GET',
    path: `/api/v1/annotation-queues/${run}/queues`,
    template: '/api/v1/annotation-queues/{run}/queues',
    shape: 'rest',
  } as const;
  return (await api.call(tally, call, queuesSchema)).map(({ id }) => id);
}

/** The items of a queue that are about a run, by run: ids of the items. */
export async function queueItems(
  api: LangSmithApi,
  tally: Tally,
  queue: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const runs = new Map<string, string[]>();
  let calls = 0;
  const template = '/api/v1/platform/annotation-queues/{queue}/items';
  for (const status of QUEUE_STATUSES) {
    const items = await api.pages(
      tally,
      `GET ${template}`,
      async (cursor) => {
        const params: [string, string][] = [
          ['status', status],
          ['page_size', String(PAGE)],
        ];
        if (cursor !== null) params.push(['cursor', cursor]);
        const path = template.replace('{queue}', queue);
        const page = await api.call(
          tally,
          { method: 'GET', path, template, query: params, shape: 'rest' },
          queueItemsSchema,
        );
        calls += 1;
        if (calls * PAGE > MOST_QUEUE_ITEMS) throw new TooMany(`more than ${MOST_QUEUE_ITEMS} of them`);
        return { rows: page.items, next: page.next_cursor };
      },
      ({ id }) => id,
    );
    for (const { id, run_id: run } of items) {
      if (run !== null && run !== undefined) runs.set(run, [...(runs.get(run) ?? []), id]);
    }
  }
  return runs;
}

async function feedbackOn(
  api: LangSmithApi,
  tally: Tally,
  runs: readonly string[],
): Promise<readonly output<typeof feedbackSchema>[number][]> {
  const path = '/api/v1/feedback';
  const all: output<typeof feedbackSchema>[number][] = [];
  for (const some of chunks(runs, MOST_IN_URL)) {
    const asked = new Set(some);
    const rows = await byOffset(
      api,
      tally,
      MOST_ENTRIES,
      `GET ${path}`,
      (offset) =>
        api.call(
          tally,
          {
            method: 'GET',
            path,
            query: [...query(offset), ...some.map((run): [string, string] => ['run', run])],
            shape: 'rest',
          },
          feedbackSchema,
        ),
      ({ id }) => id,
    );
    if (rows.some(({ run_id: run }) => !asked.has(run ?? ''))) {
      throw api.broken(tally, `GET ${path}`, 'feedback of other runs came back: the store ignored the filter');
    }
    all.push(...rows);
  }
  return all;
}
