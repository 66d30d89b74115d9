import type { output } from 'zod';
import { realSpanMs } from '../../erasure/clock.ts';
import { DAY_MS, HOUR_MS } from '../../erasure/rhythm.ts';
import type { Page, Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { Progress, ReadReport, Window } from '../port.ts';
import type { BraintrustApi } from './api.ts';
import type { Expression, Field, Shape, Source } from './query.ts';
import { and, ascending, descending, from, ge, lt, select } from './query.ts';
import type { RowShape, WireRow } from './schemas.ts';
import { btqlSchema } from './schemas.ts';

export const BTQL_ROUTE = 'POST /btql';

/** Objects named in one query. No maximum is published; a list of UUIDs of this size is 4 kB. */
export const MOST_OBJECTS = 100;
/** Waits between readings that have not caught up with what was written; virtual milliseconds, as the vendor's SDKs do. */
const CATCH_UP_MS = [1000, 2000, 4000, 8000] as const;
/** Longest sleep between two looks whether the step is still wanted, real milliseconds. */
const LOOK_MS = 200;
/** Statuses of a query that ran out of time, or of memory, and may do with less. */
const TOO_MUCH: readonly (number | null)[] = [408, 500, 504];
/** How often a window is cut for that reason, one half within the other: afterwards it is an outage. */
const MOST_CUTS = 5;
/** First cut of a window without a near start; every further one reaches twice as far back. */
const FIRST_CUT_MS = 30 * DAY_MS;
const SMALLEST_WINDOW_MS = HOUR_MS;
/** A page with fewer rows is none that a server cut by a limit of its own. */
const SMALL_PAGE = 20;
const CREATED = ['created'] as const;
const KEY = ['_pagination_key'] as const;

/** One question about rows of any of the objects. */
export interface RowsQuery {
  readonly source: Source;
  /** Objects of that kind, at most `MOST_OBJECTS`. */
  readonly ids: readonly string[];
  /** @default spans: the matching rows. `traces`: all rows of the traces with a matching one. */
  readonly shape?: Shape;
  readonly filter: Expression;
  /** By time of creation. Null: none, for questions by id, which must also show rows without a time. */
  readonly window: Window | null;
  /** Fields wanted besides ids, times and owners. */
  readonly more?: readonly Field[];
  /** State at an older transaction; default: now. */
  readonly version?: string;
}

/** What a read has learned besides its rows. */
export class ReadState {
  readonly tally: Tally;
  /** Why the read does not prove anything, or null. */
  inconclusive: string | null = null;
  /** Codes of warnings that are not about how the query is written. */
  readonly warnings: Set<string>;

  constructor(tally: Tally, warnings = new Set<string>()) {
    this.tally = tally;
    this.warnings = warnings;
  }

  /** For a part of the read that is to be believed, or not, by itself; it is reported with the whole. */
  part(): ReadState {
    return new ReadState(this.tally, this.warnings);
  }

  report(purpose: ReadReport['purpose'], window: Window | null, asked = 0, seen = 0): ReadReport {
    const report = this.tally.report(purpose, window, asked, seen);
    return this.warnings.size === 0 ? report : { ...report, warnings: [...this.warnings] };
  }

  /** What `Read` says of it. */
  get doubt(): { readonly inconclusive?: string } {
    return this.inconclusive === null ? {} : { inconclusive: this.inconclusive };
  }
}

/** Thrown when a bounded read would have gone on. */
export class Overflow extends Error {
  readonly rows: readonly WireRow[];
  constructor(rows: readonly WireRow[]) {
    super('more rows than wanted');
    this.rows = rows;
  }
}

interface Answered {
  readonly rows: readonly WireRow[];
  /** Where the server says that there is more. */
  readonly cursor: string | null;
}

interface PageForm {
  readonly limit: number;
  readonly sort?: readonly object[];
  readonly cursor?: string;
}

/** Reads rows, whole and fresh, or says that they are not. */
export class Rows {
  readonly #api: BraintrustApi;
  readonly #shape: RowShape;
  readonly #pageSize: number;
  /** Rows of the largest page this server has served: a shorter one is the last. */
  #largestPage = 0;

  constructor(api: BraintrustApi, shape: RowShape, pageSize: number) {
    this.#api = api;
    this.#shape = shape;
    this.#pageSize = pageSize;
  }

  state(progress: Progress): ReadState {
    return new ReadState(this.#api.tally(progress));
  }

  /**
   * Reads every row that answers the question. Whether all that was written was considered is kept in the state.
   *
   * @param most rows after which the read is given up.
   * @throws Overflow, StoreError `contract-broken` when rows of objects come back that were not asked for.
   */
  async all(state: ReadState, query: RowsQuery, most = Number.POSITIVE_INFINITY): Promise<WireRow[]> {
    const found = new Map<string, WireRow>();
    const take = (rows: readonly WireRow[]): void => {
      for (const row of rows) found.set(wireKey(row), row);
      if (found.size > most) throw new Overflow([...found.values()]);
    };
    await this.#inWindow(state, query, query.window, take);
    state.tally.rows += found.size;
    return [...found.values()];
  }

  /**
   * The first page by `_pagination_key`, and whether it is all. How fresh it is is only looked at where what it does not
   * show matters (`caughtUp`): then the state keeps it, as for `all`.
   */
  async page(
    state: ReadState,
    query: RowsQuery,
    options: { readonly limit?: number; readonly newestFirst?: boolean; readonly caughtUp?: boolean } = {},
  ): Promise<{ readonly rows: readonly WireRow[]; readonly complete: boolean }> {
    const limit = Math.min(options.limit ?? this.#pageSize, this.#pageSize);
    const sort = options.newestFirst === true ? descending(KEY) : ascending(KEY);
    const form = { limit, sort };
    const answer: Answered =
      options.caughtUp === true
        ? await this.#fresh(state, query, query.window, form)
        : await this.#once(state, query, query.window, form);
    state.tally.rows += answer.rows.length;
    return { rows: answer.rows, complete: this.#isLast(answer, answer.rows.length, limit) };
  }

  /** Where a query is too much for the server, its time is cut in two, as often as it takes. */
  async #inWindow(
    state: ReadState,
    query: RowsQuery,
    window: Window | null,
    take: (rows: readonly WireRow[]) => void,
    cuts = 0,
  ): Promise<void> {
    try {
      if (query.shape === 'traces') await this.#byTraces(state, query, window, take);
      else await this.#byKey(state, query, window, take);
    } catch (error) {
      const heavy = error instanceof StoreError && error.reason === 'unreachable' && TOO_MUCH.includes(error.status);
      const cutMs = window === null ? null : this.#cutOf(window);
      if (!heavy || window === null || cutMs === null || cuts === MOST_CUTS) throw error;
      await this.#inWindow(state, query, { fromMs: cutMs, toMs: window.toMs }, take, cuts + 1);
      await this.#inWindow(state, query, { fromMs: window.fromMs, toMs: cutMs }, take, cuts + 1);
    }
  }

  /** Logs lie mostly near now: a window of all time is not halved, but cut where the latest weeks begin. */
  #cutOf({ fromMs, toMs }: Window): number | null {
    if (toMs - fromMs <= SMALLEST_WINDOW_MS) return null;
    const endMs = Math.min(toMs, this.#api.nowMs());
    const cutMs = endMs - Math.max(FIRST_CUT_MS, this.#api.nowMs() - endMs);
    const middleMs = Math.floor(fromMs + (toMs - fromMs) / 2);
    return cutMs > middleMs ? cutMs : middleMs;
  }

  /**
   * By keyset on `_pagination_key`, ascending: rows that vanish meanwhile move nothing (P28). Each page begins with the
   * last key of the one before, since nothing promises that keys of different objects differ.
   */
  async #byKey(
    state: ReadState,
    query: RowsQuery,
    window: Window | null,
    take: (rows: readonly WireRow[]) => void,
  ): Promise<void> {
    const seen = new Set<string>();
    let after: string | null = null;
    for (;;) {
      const filter: Expression = after === null ? query.filter : and([query.filter, ge(KEY, after)]);
      const sort = ascending(KEY);
      const answer: Answered = await this.#fresh(state, { ...query, filter }, window, { limit: this.#pageSize, sort });
      const fresh = answer.rows.filter((row) => !seen.has(wireKey(row)));
      for (const row of fresh) seen.add(wireKey(row));
      take(fresh);
      if (answer.rows.length === 0 || this.#isLast(answer, answer.rows.length, this.#pageSize)) return;
      if (fresh.length === 0) {
        if (answer.rows.length < this.#pageSize) return;
        throw this.#api.broken(state.tally, BTQL_ROUTE, 'pages bring nothing new: the store ignored the paging key');
      }
      after = answer.rows.at(-1)?.key ?? null;
      if (after === null) {
        throw this.#api.broken(state.tally, BTQL_ROUTE, 'rows came without the key that pages are read by');
      }
    }
  }

  /**
   * Whole traces. Their limit counts traces, and in which order pages of them come is not documented: a window whose
   * traces fill a page is cut in two instead, until none does or it is too short to be cut.
   */
  async #byTraces(
    state: ReadState,
    query: RowsQuery,
    window: Window | null,
    take: (rows: readonly WireRow[]) => void,
  ): Promise<void> {
    const answer = await this.#fresh(state, query, window, { limit: this.#pageSize });
    const traces = new Set(answer.rows.map((row) => JSON.stringify([row.objectId, row.root ?? row.id]))).size;
    take(answer.rows);
    if (this.#isLast(answer, traces, this.#pageSize)) return;
    if (answer.cursor !== null && traces < this.#pageSize) {
      // Some servers hand out a cursor with the last page too: then nothing is behind it.
      const { cursor } = answer;
      const next = await this.#fresh(state, query, window, { limit: this.#pageSize, cursor });
      if (next.rows.length === 0) return;
    }
    const cutMs = window === null ? null : this.#cutOf(window);
    if (window === null || cutMs === null) {
      await this.#byCursor(state, query, window, take);
      return;
    }
    await this.#inWindow(state, query, { fromMs: cutMs, toMs: window.toMs }, take);
    await this.#inWindow(state, query, { fromMs: window.fromMs, toMs: cutMs }, take);
  }

  /** By the server's cursors, which the vendor documents for queries without an order, until two passes agree (P28). */
  async #byCursor(
    state: ReadState,
    query: RowsQuery,
    window: Window | null,
    take: (rows: readonly WireRow[]) => void,
  ): Promise<void> {
    const read = async (cursor: string | null): Promise<Page<WireRow>> => {
      const next = cursor === null ? {} : { cursor };
      const answer = await this.#fresh(state, query, window, { limit: this.#pageSize, ...next });
      take(answer.rows);
      return { rows: answer.rows, next: answer.cursor };
    };
    const before = state.tally.rows;
    const rows = await this.#api.pages(state.tally, BTQL_ROUTE, read, wireKey, true);
    state.tally.rows = before;
    const traces = new Set(rows.map((row) => JSON.stringify([row.objectId, row.root ?? row.id]))).size;
    if (traces === this.#pageSize) {
      throw this.#api.broken(state.tally, BTQL_ROUTE, 'a full page of traces came without a cursor to the next');
    }
  }

  /** Servers may be set to serve fewer rows than asked for: a short page is the last only if longer ones were seen. */
  #isLast(answer: Answered, length: number, limit: number): boolean {
    const short = length < SMALL_PAGE || length < this.#largestPage;
    this.#largestPage = Math.max(this.#largestPage, length);
    return answer.cursor === null && length < limit && short;
  }

  /** Asks until the answer has caught up with what was written, a few times; then says that it has not. */
  async #fresh(state: ReadState, query: RowsQuery, window: Window | null, page: PageForm): Promise<Answered> {
    for (let tries = 0; ; tries += 1) {
      const answer = await this.#once(state, query, window, page);
      if (answer.stale === null) return answer;
      const waitMs = CATCH_UP_MS[tries];
      if (waitMs === undefined || state.inconclusive !== null) {
        state.inconclusive ??= answer.stale;
        return answer;
      }
      await this.#pause(waitMs, state.tally.progress);
    }
  }

  async #pause(virtualMs: number, progress: Progress): Promise<void> {
    const untilMs = Date.now() + realSpanMs(this.#api.clock, virtualMs);
    for (let leftMs = untilMs - Date.now(); leftMs > 0; leftMs = untilMs - Date.now()) {
      progress();
      await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, LOOK_MS)));
    }
  }

  async #once(
    state: ReadState,
    query: RowsQuery,
    window: Window | null,
    page: PageForm,
  ): Promise<Answered & { readonly stale: string | null }> {
    const { source, ids, filter, version, more = [] } = query;
    const bounds =
      window === null
        ? []
        : [ge(CREATED, new Date(window.fromMs).toISOString()), lt(CREATED, new Date(window.toMs).toISOString())];
    const body = {
      query: {
        select: select([...this.#shape.fields(source), ...more]),
        from: from(source, ids, query.shape ?? 'spans'),
        filter: and([filter, ...bounds]),
        ...(page.sort === undefined ? {} : { sort: page.sort }),
        ...(page.cursor === undefined ? {} : { cursor: page.cursor }),
        limit: page.limit,
        // Long texts are cut otherwise, and a cut value is somebody else's.
        preview_length: -1,
      },
      fmt: 'json',
      brainstore_realtime: true,
      ...(version === undefined ? {} : { version }),
    };
    const call = { method: 'POST', path: '/btql', body, shape: 'btql' } as const;
    const answer = await this.#api.call(state.tally, call, btqlSchema);
    const rows = this.#shape.read(answer.data);
    if (rows === null) {
      throw this.#api.broken(state.tally, BTQL_ROUTE, 'rows lack documented fields; look for a newer release');
    }
    const asked = new Set(ids);
    if (rows.some(({ objectId }) => !asked.has(objectId))) {
      throw this.#api.broken(state.tally, BTQL_ROUTE, 'rows of other projects came back than were asked for');
    }
    for (const code of codesOf(answer)) state.warnings.add(code);
    const cursor = (answer.cursor ?? '') === '' ? null : (answer.cursor ?? null);
    return { rows, cursor, stale: version === undefined ? staleness(answer) : null };
  }
}

type BtqlAnswer = output<typeof btqlSchema>;

/**
 * Why an answer does not show all that was written, or null. The vendor's word: it has caught up when both transaction
 * ids are there and equal, and the engine did not give up on the latest writes.
 */
function staleness({ freshness_state: freshness, realtime_state: realtime }: BtqlAnswer): string | null {
  const considered = freshness?.last_considered_xact_id ?? null;
  const processed = freshness?.last_processed_xact_id ?? null;
  const type = realtime?.type ?? 'on';
  if (type !== 'on') {
    return type === 'off'
      ? 'live reads are switched off for a project (disable_realtime_queries): a read shows only what was indexed'
      : 'the store gave up on reading the latest writes';
  }
  if (considered === null || processed === null) return 'the store does not say whether it has read the latest writes';
  return considered === processed ? null : 'the store has not read the latest writes yet';
}

/** Findings about how a query is written come at stage `lint` and change no answer. Codes only: messages may quote. */
function codesOf({ warnings }: BtqlAnswer): string[] {
  return (warnings ?? []).flatMap(({ code, stage }) => {
    if (stage === 'lint') return [];
    return [typeof code === 'string' && /^[\w.-]{1,60}$/.test(code) ? code : 'unnamed'];
  });
}

/** A row within one kind of source. */
export function wireKey({ objectId, id }: Pick<WireRow, 'objectId' | 'id'>): string {
  return `${objectId} ${id}`;
}
