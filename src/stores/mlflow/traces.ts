import type { Tally } from '../api.ts';
import { parseJson } from '../http.ts';
import type { PersonValue, Row } from '../port.ts';
import { StoreError, TooManyRows } from '../port.ts';
import { chunks, inHalves, unique } from '../rows.ts';
import { valuesIn } from '../values.ts';
import type { MlflowApi } from './api.ts';
import type { Experiments } from './experiments.ts';
import { proxiedPath } from './experiments.ts';
import { among, HAS_SPANS, SEARCHED_SPANS, SPANS_ELSEWHERE, SPANS_LOCATION } from './filter.ts';
import type { Info, Shape, Span } from './schemas.ts';
import {
  distinct,
  experimentOf,
  filesSchema,
  infosSchema,
  oneTraceSchema,
  row,
  searchSchema,
  traceFileSchema,
  tracesSchema,
  UnknownValue,
} from './schemas.ts';
import { TRACE_ID_PATTERN } from './traits.ts';

const SEARCH = '/api/3.0/mlflow/traces/search';
export const SEARCH_ROUTE = `POST ${SEARCH}`;
const INFOS = '/api/3.0/mlflow/traces/batchGetInfos';
const INFOS_ROUTE = `POST ${INFOS}`;
const TRACES = '/api/3.0/mlflow/traces/batchGet';
const TRACES_ROUTE = `GET ${TRACES}`;
const TRACE = '/api/3.0/mlflow/traces/get';
export const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

/** Experiments named in one search. No maximum is published. */
export const MOST_EXPERIMENTS = 200;
/** Ids in one look at infos; tens of thousands were seen to pass. */
const MOST_INFOS = 500;
/** Ids in one look at whole traces: they stand in the address, of which proxies take some 8 kB. */
const MOST_TRACES = 100;
/** Places of spans that the server itself can read. */
const READABLE: readonly string[] = [SEARCHED_SPANS, 'ARCHIVE_REPO'];
const ARTIFACT_LOCATION = 'mlflow.artifactLocation';
/** Places of traces remembered. */
const MOST_PLACES = 100_000;

export interface SearchOptions {
  readonly experimentIds: readonly string[];
  /** Null: every trace. */
  readonly filter: string | null;
  readonly pageSize: number;
  /** Pages after which the rest is left alone. Default: all are read, until two passes agree. */
  readonly mostPages?: number;
  /** Traces after which the search gives up with `TooManyRows`. Default: no bound. */
  readonly most?: number;
}

/** A trace with the rows that it shows. */
export interface Whole {
  readonly info: Info;
  readonly rows: readonly Row[];
  /** What the spans themselves say of people, beside what the trace says. */
  readonly told: readonly PersonValue[];
}

/** The reads of traces and of the files that belong to them. */
export class Traces {
  readonly #api: MlflowApi;
  readonly #experiments: Experiments;
  readonly #shape: Shape;
  /** Folder of each trace's files on the artifact route, as its tag named it: the tag goes with the trace. */
  readonly #folders = new Map<string, string>();

  constructor(api: MlflowApi, experiments: Experiments, shape: Shape) {
    this.#api = api;
    this.#experiments = experiments;
    this.#shape = shape;
  }

  /**
   * Traces that answer a question, oldest first. Page tokens are offsets: two passes must agree.
   *
   * @returns `complete`: nothing was left unread.
   * @throws TooManyRows
   */
  async search(
    tally: Tally,
    { experimentIds, filter, pageSize, mostPages, most = Number.POSITIVE_INFINITY }: SearchOptions,
  ): Promise<{ readonly infos: readonly Info[]; readonly complete: boolean }> {
    let pass: Info[] = [];
    const page = async (cursor: string | null) => {
      if (cursor === null) pass = [];
      const body = {
        locations: experimentIds.map((id) => ({ type: 'MLFLOW_EXPERIMENT', mlflow_experiment: { experiment_id: id } })),
        ...(filter === null ? {} : { filter }),
        max_results: pageSize,
        order_by: ['timestamp_ms ASC'],
        ...(cursor === null ? {} : { page_token: cursor }),
      };
      const call = { method: 'POST', path: SEARCH, body, shape: 'any' } as const;
      const { traces, next_page_token: next } = await this.#api.call(tally, call, searchSchema);
      const infos = traces ?? [];
      this.#assertExperiments(tally, SEARCH_ROUTE, infos, experimentIds);
      pass.push(...infos);
      if (pass.length > most) throw new TooManyRows(pass.map((info) => this.#shape.rowOf(info)));
      return { rows: infos, next: next === undefined || next === null || next === '' ? null : next };
    };
    if (mostPages === undefined) {
      const infos = await this.#api.pages(tally, SEARCH_ROUTE, page, ({ trace_id: id }) => id, true);
      this.#note(infos);
      return { infos, complete: true };
    }
    const infos: Info[] = [];
    for (let cursor: string | null = null, pages = 0; pages < mostPages; pages += 1) {
      const read: Awaited<ReturnType<typeof page>> = await page(cursor);
      infos.push(...read.rows);
      if (read.next === null) {
        tally.rows += infos.length;
        return { infos, complete: true };
      }
      cursor = read.next;
    }
    tally.rows += infos.length;
    return { infos, complete: false };
  }

  /** Whether there are traces in scope whose spans no search reaches: archived ones, and old ones that keep them as files. */
  async areElsewhere(tally: Tally): Promise<boolean> {
    for (const experimentIds of chunks(await this.#experiments.idsInScope(tally), MOST_EXPERIMENTS)) {
      for (const filter of SPANS_ELSEWHERE) {
        const { infos } = await this.search(tally, { experimentIds, filter, pageSize: 1, mostPages: 1 });
        if (infos.length > 0) return true;
      }
    }
    return false;
  }

  /**
   * Which of the ids the server has, in any experiment.
   *
   * @param along further ids that ride at the end of every call.
   * @param each called with what each call brought.
   */
  async infos(
    tally: Tally,
    ids: readonly string[],
    along: readonly string[] = [],
    each: (infos: ReadonlyMap<string, Info>) => void = () => undefined,
  ): Promise<ReadonlyMap<string, Info>> {
    const found = new Map<string, Info>();
    const ends = new Set(along);
    for (const some of chunks(unique(ids), MOST_INFOS)) {
      const asked = [...some.filter((id) => !ends.has(id)), ...ends];
      const body = { trace_ids: asked };
      const call = { method: 'POST', path: INFOS, body, shape: 'any' } as const;
      const { trace_infos: infos } = await this.#api.call(tally, call, infosSchema);
      const part = new Map((infos ?? []).map((info) => [info.trace_id, info]));
      const wanted = new Set(asked);
      if ([...part.keys()].some((id) => !wanted.has(id))) throw this.#strange(tally, INFOS_ROUTE);
      tally.rows += part.size;
      each(part);
      for (const [id, info] of part) found.set(id, info);
    }
    this.#note([...found.values()]);
    return found;
  }

  /**
   * Reads traces with all their spans. A batch leaves out traces whose spans have not all arrived yet; these are read one
   * by one, with what is there. Spans that are kept as a file are read from it.
   *
   * @param infos traces that the server has just shown.
   */
  async wholes(tally: Tally, infos: readonly Info[]): Promise<readonly Whole[]> {
    const wholes: Whole[] = [];
    const gone: Info[] = [];
    const inServer = infos.filter(({ tags }) => READABLE.includes(tags[SPANS_LOCATION] ?? ''));
    for (const info of infos.filter((one) => !inServer.includes(one))) {
      wholes.push({ info, rows: await this.#rowsOfFile(tally, info), told: [] });
    }
    for (const some of chunks(inServer, MOST_TRACES)) {
      const ask = async (part: readonly Info[]): Promise<void> => {
        const asked = new Map(part.map((info) => [info.trace_id, info]));
        const query = part.map(({ trace_id: id }) => ['trace_ids', id] as const);
        const call = { method: 'GET', path: TRACES, query, shape: 'any' } as const;
        const { traces } = await this.#api.call(tally, call, tracesSchema);
        for (const { trace_info: info, spans } of traces ?? []) {
          if (!asked.delete(info.trace_id)) throw this.#strange(tally, TRACES_ROUTE);
          // Of an archived one too: the server leaves out, without a word, spans that it could not fetch.
          if ((spans ?? []).length === 0) {
            const advice =
              'a trace came without the spans that it was said to have: where spans are archived, look whether the server reaches the archive';
            throw this.#api.broken(tally, TRACES_ROUTE, advice);
          }
          wholes.push(this.#wholeOf(tally, info, spans ?? []));
        }
        for (const info of asked.values()) {
          const whole = await this.#partial(tally, info);
          if (whole === null) gone.push(info);
          else wholes.push(whole);
        }
      };
      await inHalves(some, ask, isTooMuch);
    }
    // What vanished between two calls must be absent by the call that tells absence.
    if (gone.length > 0) {
      const still = await this.infos(
        tally,
        gone.map(({ trace_id: id }) => id),
      );
      if (still.size > 0) {
        throw this.#api.broken(tally, `GET ${TRACE}`, 'the server shows a trace in one call and denies it in another');
      }
    }
    return wholes;
  }

  /** A trace that is still arriving, or null when it is not there any more. */
  async #partial(tally: Tally, { trace_id: id }: Info): Promise<Whole | null> {
    const query = [
      ['trace_id', id],
      ['allow_partial', 'true'],
    ] as const;
    try {
      const call = { method: 'GET', path: TRACE, query, shape: 'any' } as const;
      const { trace } = await this.#api.call(tally, call, oneTraceSchema);
      if (trace.trace_info.trace_id !== id) throw this.#strange(tally, `GET ${TRACE}`);
      return this.#wholeOf(tally, trace.trace_info, trace.spans ?? []);
    } catch (error) {
      if (error instanceof StoreError && error.reason === 'gone' && error.status === 404) return null;
      throw error;
    }
  }

  #wholeOf(tally: Tally, info: Info, spans: readonly Span[]): Whole {
    try {
      tally.rows += spans.length;
      return { info, rows: this.#shape.rowsOf(info, spans), told: spans.flatMap((span) => this.#shape.ofSpan(span)) };
    } catch (error) {
      if (!(error instanceof UnknownValue)) throw error;
      const advice = 'a span names a person in a form that is not known; look for a newer release';
      throw this.#api.broken(tally, TRACES_ROUTE, advice);
    }
  }

  /** Of a trace whose spans are kept as a file: one row, with everybody that the file names. */
  async #rowsOfFile(tally: Tally, info: Info): Promise<readonly Row[]> {
    const folder = this.#folders.get(keyOf(info));
    const known = this.#shape.ofInfo(info);
    if (folder === undefined) {
      await this.#assertNoSpans(tally, info);
      return [row(info, info.trace_id, known)];
    }
    try {
      const path = `${ARTIFACTS}/${encoded(folder)}/artifacts/traces.json`;
      const template = `${ARTIFACTS}/{trace}/artifacts/traces.json`;
      const call = { method: 'GET', path, template, shape: 'any' } as const;
      const { spans } = await this.#api.call(tally, call, traceFileSchema);
      tally.rows += spans.length;
      const persons = spans.flatMap(({ attributes }) =>
        this.#shape.ofFile(attributes ?? {}, (text) => valuesIn(jsonOf(text))),
      );
      return [row(info, info.trace_id, distinct([...known, ...persons]))];
    } catch (error) {
      if (!(error instanceof StoreError) || error.reason !== 'gone' || error.status !== 404) throw error;
      await this.#assertNoSpans(tally, info);
      return [row(info, info.trace_id, known)];
    }
  }

  /** A trace that is said to keep its spans as a file, and has no file, must have no spans in the server either. */
  async #assertNoSpans(tally: Tally, info: Info): Promise<void> {
    const { infos } = await this.search(tally, {
      experimentIds: [info.trace_location.mlflow_experiment.experiment_id],
      filter: among(HAS_SPANS, [info.trace_id]),
      pageSize: 10,
      mostPages: 1,
    });
    if (infos.length === 0) return;
    throw this.#api.broken(tally, INFOS_ROUTE, 'a trace does not tell where its spans are, and yet has some');
  }

  /** Folders of files below the root of an experiment: names of traces that have any. */
  async folders(tally: Tally, root: string): Promise<ReadonlySet<string>> {
    return new Set((await this.#listed(tally, [['path', root]])).map((path) => path.slice(path.lastIndexOf('/') + 1)));
  }

  /** Whether the route shows any file at all: else an empty list says nothing. */
  async showsFiles(tally: Tally): Promise<boolean> {
    return (await this.#listed(tally, [])).length > 0;
  }

  async #listed(tally: Tally, query: readonly (readonly [string, string])[]): Promise<readonly string[]> {
    const call = { method: 'GET', path: ARTIFACTS, query, shape: 'any' } as const;
    const { files } = await this.#api.call(tally, call, filesSchema);
    return (files ?? []).map(({ path }) => path);
  }

  /** The folder, on the artifact route, in which a trace keeps its files; null when they lie elsewhere. */
  async folderOf(
    tally: Tally,
    trace: { readonly projectId: string; readonly traceId: string },
  ): Promise<string | null> {
    if (!TRACE_ID_PATTERN.test(trace.traceId)) return null;
    const tagged = this.#folders.get(`${trace.projectId} ${trace.traceId}`);
    if (tagged !== undefined) return tagged;
    const root = await this.#experiments.rootOf(tally, trace.projectId);
    return root === null ? null : `${root}/${trace.traceId}`;
  }

  /** Whether the files of a trace lie where this server does not reach, or under a path that cannot be its alone. */
  async hasFilesElsewhere(tally: Tally, info: Info): Promise<boolean> {
    if (info.tags[ARTIFACT_LOCATION] !== undefined) return folderIn(info) === null;
    return (await this.#experiments.rootOf(tally, experimentOf(info))) === null;
  }

  #note(infos: readonly Info[]): void {
    for (const info of infos) {
      const folder = folderIn(info);
      if (folder === null) continue;
      this.#folders.delete(keyOf(info));
      this.#folders.set(keyOf(info), folder);
    }
    for (const oldest of this.#folders.keys()) {
      if (this.#folders.size <= MOST_PLACES) break;
      this.#folders.delete(oldest);
    }
  }

  #assertExperiments(tally: Tally, route: string, infos: readonly Info[], asked: readonly string[]): void {
    const ids = new Set(asked);
    if (infos.every((info) => ids.has(info.trace_location.mlflow_experiment.experiment_id))) return;
    throw this.#api.broken(tally, route, 'traces of other experiments came back: the server ignored the question');
  }

  #strange(tally: Tally, route: string): StoreError {
    return this.#api.broken(tally, route, 'a trace came back that was not asked for: the server ignored the question');
  }
}

function keyOf(info: Info): string {
  return `${experimentOf(info)} ${info.trace_id}`;
}

/** The folder that a trace names for its files, on the artifact route, when it is one of that trace alone. */
function folderIn({ trace_id: id, tags }: Info): string | null {
  const path = proxiedPath(tags[ARTIFACT_LOCATION] ?? null);
  if (path === null || !TRACE_ID_PATTERN.test(id) || !path.endsWith(`/traces/${id}/artifacts`)) return null;
  return path.slice(0, -'/artifacts'.length);
}

/** A path of the artifact route, each part encoded. */
export function encoded(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

function jsonOf(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}

/** Whole traces may be large: too much for one answer, or for one address. */
function isTooMuch(error: unknown): boolean {
  if (!(error instanceof StoreError)) return false;
  if (error.reason === 'contract-broken') return error.advice?.includes('MiB') ?? false;
  return error.reason === 'rejected' && [413, 414].includes(error.status ?? 0);
}
