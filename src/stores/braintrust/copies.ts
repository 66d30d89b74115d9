import type { CopiesFound, Copy, Progress, ReadReport, Row, TraceKey } from '../port.ts';
import { StoreError } from '../port.ts';
import { inHalves, chunks, unique } from '../rows.ts';
import { attachmentsIn } from './attachments.ts';
import type { BraintrustApi } from './api.ts';
import { MOST_LISTED } from './lookup.ts';
import type { Objects, Other } from './objects.ts';
import { isIn } from './query.ts';
import type { Field } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { BTQL_ROUTE, MOST_OBJECTS, wireKey } from './rows.ts';
import { automationsSchema, snapshotsSchema, traceOf } from './schemas.ts';
import type { WireRow } from './schemas.ts';
import type { CopyKind } from './traits.ts';

/** Rows whose content is looked through for attachments in one query: its answer stays within tens of MB as a rule. */
const ROWS_WITH_CONTENT = 200;
/** And altogether: some 50 minutes at the published limit. Content is dropped where it arrives, so it is time that is bounded. */
const MOST_ROWS_WITH_CONTENT = 200_000;
/** Where a span keeps what may refer to an attachment. */
const CONTENT: readonly Field[] = ['input', 'output', 'expected', 'metadata', 'error'].map((name) => ({
  alias: `content_${name}`,
  path: [name],
}));
/** Required of every origin by the vendor's spec: row ids are their writers' choice and stand for one object's row only. */
const ORIGIN_OBJECT: Field = { alias: 'origin_object', path: ['origin', 'object_id'] };

export interface CopySources {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  readonly objects: Objects;
  /** Whether attachments are looked for. */
  readonly attachments: boolean;
}

/**
 * Finds copies of traces elsewhere in the organization, before the traces are deleted: afterwards nothing leads to them.
 * So a kind of which a read has not caught up with what was written is told as not examined, besides what it did show.
 *
 * Ids of copies name what is needed to look at them again: `datasets`, `experiments` object/row · `dataset-snapshots`
 * dataset/snapshot · `attachments` the key in the object store · `row-history` project/transaction/row.
 */
export async function findCopies(
  sources: CopySources,
  traces: readonly TraceKey[],
  rows: readonly Row[],
  progress: Progress,
): Promise<CopiesFound> {
  const { objects } = sources;
  const copies: Copy[] = [];
  const outOfReach: { kind: CopyKind; count: number; traceIds: readonly string[] }[] = [];
  const notExamined: { kind: CopyKind; why: string; traceIds?: readonly string[] }[] = [];
  const reports: ReadReport[] = [];

  const part = async (kinds: readonly CopyKind[], examine: (state: ReadState) => Promise<void>): Promise<void> => {
    const state = sources.rows.state(progress);
    const leaveOpen = (why: string): void => {
      for (const kind of kinds) notExamined.push({ kind, why });
    };
    try {
      await examine(state);
      if (state.inconclusive !== null) leaveOpen(state.inconclusive);
    } catch (error) {
      const why = unavailable(error);
      if (why === null) throw error;
      leaveOpen(why);
    } finally {
      if (state.tally.calls > 0) reports.push(state.report('copies', null));
    }
  };

  if (sources.attachments && rows.length > MOST_ROWS_WITH_CONTENT) {
    notExamined.push({ kind: 'attachments', why: `more than ${MOST_ROWS_WITH_CONTENT} rows to look through` });
  }
  const withContent = sources.attachments && rows.length <= MOST_ROWS_WITH_CONTENT;
  await part(withContent ? ['attachments', 'row-history'] : ['row-history'], async (state) => {
    const looked = await contentOf(sources, state, withContent ? rows : firstOfEach(rows), withContent);
    copies.push(...looked.attachments, ...looked.history);
    const unversioned = looked.unversioned.length;
    const why = `${unversioned} traces came without a transaction to look back at`;
    if (unversioned > 0) notExamined.push({ kind: 'row-history', why, traceIds: looked.unversioned });
  });

  for (const other of objects.examined) {
    // Only rows of datasets that were found lead to snapshots.
    const kinds: readonly CopyKind[] = other.kind === 'datasets' ? ['datasets', 'dataset-snapshots'] : [other.kind];
    await part(kinds, async (state) => {
      for (const { row, traceIds, others } of await madeFrom(sources, state, other, rows)) {
        const copy = { kind: other.kind, id: `${row.objectId}/${row.id}`, where: `${other.source} ${row.objectId}` };
        // People may share this question: each of them must hear of it.
        for (const traceId of traceIds) copies.push({ ...copy, traceId, ...(others ? { others: true } : {}) });
      }
    });
  }

  const datasets = copies.filter(({ kind }) => kind === 'datasets');
  if (datasets.length > 0) {
    await part(['dataset-snapshots'], async ({ tally }) => {
      const listed = await objects.entries(tally, '/v1/dataset_snapshot', snapshotsSchema);
      for (const { id, dataset_id: dataset } of listed) {
        const inside = datasets.filter((copy) => copy.id.startsWith(`${dataset}/`)).map(({ traceId }) => traceId);
        for (const traceId of unique(inside)) {
          const where = `dataset ${dataset}`;
          copies.push({ kind: 'dataset-snapshots', id: `${dataset}/${id}`, traceId, where });
        }
      }
    });
  }

  await part(['cloud-exports'], async ({ tally }) => {
    const listed = await objects.entries(tally, '/v1/project_automation', automationsSchema);
    const concerned = listed.map(({ project_id: project, config }) => ({
      config,
      traceIds: traces.filter(({ projectId }) => projectId === project).map(({ traceId }) => traceId),
    }));
    const kinds: readonly [CopyKind, (config: (typeof concerned)[number]['config']) => boolean][] = [
      ['cloud-exports', ({ event_type: event }) => event === 'btql_export'],
      ['async-query-results', ({ event_type: event }) => event === 'async_query'],
      [
        'webhooks',
        ({ event_type: event, action }) => event === 'logs' && ['webhook', 'slack'].includes(action?.type ?? ''),
      ],
    ];
    for (const [kind, isOne] of kinds) {
      const some = concerned.filter(({ config, traceIds }) => traceIds.length > 0 && isOne(config));
      const traceIds = unique(some.flatMap((one) => one.traceIds));
      if (some.length === 0) continue;
      if (kind !== 'webhooks') outOfReach.push({ kind, count: some.length, traceIds });
      else {
        const why = `${some.length} automations act on logs of these projects; what they sent cannot be read back`;
        notExamined.push({ kind, why, traceIds });
      }
    }
  });
  return { copies, outOfReach, notExamined, reports };
}

interface Looked {
  readonly attachments: readonly Copy[];
  readonly history: readonly Copy[];
  /** Traces of which no row told its transaction. */
  readonly unversioned: readonly string[];
}

/**
 * Reads the rows once more, with what may refer to attachments: nothing else of the API lists these. Content is searched
 * for references where it arrives and dropped; only keys of the object store are kept. The newest transaction among the
 * rows of a project is one at which all of them were there, before any delete.
 */
async function contentOf(
  { rows: reader }: CopySources,
  state: ReadState,
  rows: readonly Row[],
  withContent: boolean,
): Promise<Looked> {
  const tracesOfRow = tracesByRow(rows);
  const attachments = new Map<string, Copy>();
  const byProject = new Map<string, { xact: string | null; readonly rows: Map<string, string> }>();
  for (const projectId of unique(rows.map((row) => row.projectId))) {
    const ids = unique(rows.filter((row) => row.projectId === projectId).map(({ runId }) => runId));
    const project = { xact: null as string | null, rows: new Map<string, string>() };
    byProject.set(projectId, project);
    const take = (wire: readonly WireRow[]): void => {
      for (const row of wire) {
        const keys = withContent ? CONTENT.flatMap(({ alias }) => [...attachmentsIn(row.more[alias])]) : [];
        for (const traceId of tracesOfRow.get(`${projectId} ${row.id}`) ?? []) {
          if (row.xact !== null) {
            project.rows.set(traceId, row.id);
            if (project.xact === null || isNewer(row.xact, project.xact)) project.xact = row.xact;
          }
          for (const key of keys) attachments.set(`${key} ${traceId}`, { kind: 'attachments', id: key, traceId });
        }
      }
    };
    for (const some of chunks(ids, withContent ? ROWS_WITH_CONTENT : MOST_LISTED)) {
      await smaller(some, async (part) => {
        const more = withContent ? CONTENT : [];
        const question = {
          source: 'project_logs',
          ids: [projectId],
          filter: isIn(['id'], part),
          window: null,
        } as const;
        take(await reader.all(state, { ...question, more }));
      });
    }
  }
  const history: Copy[] = [];
  const versioned = new Set<string>();
  for (const [projectId, { xact, rows: ofTraces }] of byProject) {
    for (const [traceId, rowId] of ofTraces) {
      versioned.add(traceId);
      const where = `project ${projectId}`;
      history.push({ kind: 'row-history', id: `${projectId}/${xact ?? ''}/${rowId}`, traceId, where });
    }
  }
  const unversioned = unique(rows.map(({ traceId }) => traceId)).filter((traceId) => !versioned.has(traceId));
  return { attachments: [...attachments.values()], history, unversioned };
}

/** Transaction ids are decimal numbers, longer than a JavaScript number holds. */
function isNewer(a: string, b: string): boolean {
  return a.length === b.length ? a > b : a.length > b.length;
}

function firstOfEach(rows: readonly Row[]): readonly Row[] {
  return [...new Map(rows.map((row) => [`${row.projectId} ${row.traceId}`, row])).values()];
}

/** By project and row id: rows without a trace of their own are asked for with every trace that they may belong to. */
function tracesByRow(rows: readonly Row[]): ReadonlyMap<string, ReadonlySet<string>> {
  const traces = new Map<string, Set<string>>();
  for (const { projectId, runId, traceId } of rows) {
    const key = `${projectId} ${runId}`;
    traces.set(key, (traces.get(key) ?? new Set()).add(traceId));
  }
  return traces;
}

interface Made {
  readonly row: WireRow;
  /** Of all of which it was made. */
  readonly traceIds: readonly string[];
  /** It carries somebody whom the trace does not, or belongs to what was made from something else as well. */
  readonly others: boolean;
}

/**
 * Rows of datasets or experiments that name one of the rows as what they were made from. Of an experiment the other rows of
 * the same trace come along: those of a task or a scorer hold the same text and name nothing.
 */
async function madeFrom(
  { api, rows: reader, objects }: CopySources,
  state: ReadState,
  { source }: Other,
  rows: readonly Row[],
): Promise<readonly Made[]> {
  const tracesOfRow = tracesByRow(rows);
  const projectIds = unique(rows.map(({ projectId }) => projectId));
  const sourcesOf = ({ origin, more }: WireRow): readonly string[] => {
    const object = more[ORIGIN_OBJECT.alias];
    const objects = typeof object === 'string' ? [object.toLowerCase()] : projectIds;
    return unique(objects.flatMap((objectId) => [...(tracesOfRow.get(`${objectId} ${origin ?? ''}`) ?? [])]));
  };
  const personsOf = new Map<string, Set<string>>();
  for (const { traceId, persons } of rows) {
    const of = personsOf.get(traceId) ?? new Set<string>();
    for (const { kind, text } of persons) of.add(JSON.stringify([kind, text]));
    personsOf.set(traceId, of);
  }
  const isStrange = (row: WireRow, traceIds: readonly string[]): boolean =>
    row.persons.some(
      ({ kind, text }) =>
        text.trim() !== '' && !traceIds.some((traceId) => personsOf.get(traceId)?.has(JSON.stringify([kind, text]))),
    );
  const found: Made[] = [];
  for (const ids of chunks(await objects.list(state.tally, source), MOST_OBJECTS)) {
    for (const some of chunks(unique(rows.map(({ runId }) => runId)), MOST_LISTED)) {
      await inHalves(some, async (part) => {
        const filter = isIn(['origin', 'id'], part);
        const asked = new Set(part);
        for (const row of await reader.all(state, { source, ids, filter, window: null, more: [ORIGIN_OBJECT] })) {
          if (!asked.has(row.origin ?? '')) {
            const advice = 'rows came back that were not made from those asked for: the store ignored the filter';
            throw api.broken(state.tally, BTQL_ROUTE, advice);
          }
          const traceIds = sourcesOf(row);
          if (traceIds.length === 0) continue;
          found.push({ row, traceIds, others: traceIds.length > 1 || isStrange(row, traceIds) });
        }
      });
    }
  }
  if (source === 'dataset') return found;
  const groups = await experimentTraces(
    reader,
    state,
    found.map(({ row }) => row),
  );
  const made = new Map(found.map((one) => [wireKey(one.row), one]));
  return [...groups.values()].flatMap((group) => {
    const traceIds = unique(group.flatMap((row) => made.get(wireKey(row))?.traceIds ?? []));
    const strangers = group.some(
      (row) => isStrange(row, traceIds) || (row.origin !== null && sourcesOf(row).length === 0),
    );
    return group.map((row) => ({ row, traceIds, others: strangers || traceIds.length > 1 }));
  });
}

/** The traces of experiments in which rows stand, whole, by object and root. A row that names no trace is one by itself. */
export async function experimentTraces(
  reader: Rows,
  state: ReadState,
  rows: readonly WireRow[],
): Promise<ReadonlyMap<string, readonly WireRow[]>> {
  const groups = new Map<string, Map<string, WireRow>>();
  const add = (row: WireRow): void => {
    const key = `${row.objectId} ${traceOf(row)}`;
    groups.set(key, (groups.get(key) ?? new Map<string, WireRow>()).set(row.id, row));
  };
  for (const row of rows) add(row);
  for (const [objectId, inside] of Map.groupBy(rows, (row) => row.objectId)) {
    const roots = unique(inside.flatMap(({ root }) => root ?? []));
    for (const some of chunks(roots, MOST_LISTED)) {
      const question = {
        source: 'experiment',
        ids: [objectId],
        filter: isIn(['root_span_id'], some),
        window: null,
        more: [ORIGIN_OBJECT],
      } as const;
      for (const row of await reader.all(state, question)) add(row);
    }
  }
  return new Map([...groups].map(([key, group]) => [key, [...group.values()]]));
}

/**
 * Looks at copies again, each by its own id. One whose route does not answer any more, and one that no route shows, counts
 * as still there: nothing showed that it is gone.
 *
 * Older versions stay whatever is shown of them; that goes on record. Nothing promises that a server heeds `version`, and
 * no control can tell: one that ignores it answers with what is there now, and one that heeds it hides what is older than
 * the plan's retention limit, row by row, so that a version which shows says nothing of another.
 */
export async function lookAgain(
  { rows, objects }: Pick<CopySources, 'rows' | 'objects'>,
  copies: readonly Copy[],
  progress: Progress,
): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }> {
  const left: Copy[] = [];
  const reports: ReadReport[] = [];
  const part = async (
    kind: CopyKind,
    look: (state: ReadState, some: readonly Copy[]) => Promise<ReadonlySet<string>>,
  ): Promise<void> => {
    const some = copies.filter((copy) => copy.kind === kind);
    if (some.length === 0) return;
    const state = rows.state(progress);
    try {
      const there = await look(state, some);
      // A read that has not caught up shows nothing of what was tombstoned, or written, a moment ago.
      const unproven = state.inconclusive !== null || kind === 'row-history';
      left.push(...(unproven ? some : some.filter(({ id }) => there.has(id))));
    } catch (error) {
      if (unavailable(error) === null) throw error;
      left.push(...some);
    } finally {
      if (state.tally.calls > 0) reports.push(state.report('copies', null));
    }
  };

  for (const { kind, source } of [
    { kind: 'datasets', source: 'dataset' },
    { kind: 'experiments', source: 'experiment' },
  ] as const) {
    await part(kind, async (state, some) => {
      const there = new Set<string>();
      const listed = new Set(await objects.list(state.tally, source));
      for (const [ids, rowIds] of grouped(some.map(({ id }) => splitAt(id, 1)))) {
        if (!listed.has(ids)) continue;
        for (const part of chunks(rowIds, MOST_LISTED)) {
          const found = await rows.all(state, { source, ids: [ids], filter: isIn(['id'], part), window: null });
          for (const row of found) there.add(`${row.objectId}/${row.id}`);
        }
      }
      return there;
    });
  }
  await part('dataset-snapshots', async ({ tally }) => {
    const listed = await objects.entries(tally, '/v1/dataset_snapshot', snapshotsSchema);
    return new Set(listed.map(({ id, dataset_id: dataset }) => `${dataset}/${id}`));
  });
  await part('row-history', async (state, some) => {
    const there = new Set<string>();
    for (const [place, rowIds] of grouped(some.map(({ id }) => splitAt(id, 2)))) {
      const [projectId = '', version = ''] = place.split('/');
      for (const part of chunks(rowIds, MOST_LISTED)) {
        const question = {
          source: 'project_logs',
          ids: [projectId],
          filter: isIn(['id'], part),
          window: null,
        } as const;
        for (const row of await rows.all(state, { ...question, version })) there.add(`${place}/${row.id}`);
      }
    }
    return there;
  });
  const looked: readonly CopyKind[] = ['datasets', 'experiments', 'dataset-snapshots', 'row-history'];
  left.push(...copies.filter(({ kind }) => !looked.some((one) => one === kind)));
  return { left, reports };
}

/** Row ids may hold slashes: only the first ones part a copy's id. */
function splitAt(id: string, slashes: number): readonly [string, string] {
  const parts = id.split('/');
  return [parts.slice(0, slashes).join('/'), parts.slice(slashes).join('/')];
}

function grouped(pairs: readonly (readonly [string, string])[]): ReadonlyMap<string, readonly string[]> {
  const groups = Map.groupBy(pairs, ([group]) => group);
  return new Map([...groups].map(([group, inside]) => [group, inside.map(([, one]) => one)]));
}

/** An answer that is too large comes smaller when fewer rows are asked for. */
async function smaller(ids: readonly string[], ask: (some: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await ask(ids);
  } catch (error) {
    const large = error instanceof StoreError && ['contract-broken', 'unreachable'].includes(error.reason);
    if (!large || error.status === null || ids.length < 2) throw error;
    for (const some of chunks(ids, Math.ceil(ids.length / 2))) await smaller(some, ask);
  }
}

/** Why a kind could not be examined, when that is a property of the connection and not trouble that will pass. */
function unavailable(error: unknown): string | null {
  if (!(error instanceof StoreError)) return null;
  if (error.reason === 'denied' && error.status === 403) return 'the key may not read them';
  if (error.reason === 'gone') return 'this server does not offer the route';
  if (error.reason === 'rejected') return 'this server refused the question';
  return null;
}
