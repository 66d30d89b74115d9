import { randomUUID } from 'node:crypto';
import { DAY_MS, MINUTE_MS } from '../../erasure/rhythm.ts';
import type { ZodType } from 'zod';
import type { Page, Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { Window } from '../port.ts';
import { resembles } from '../rows.ts';
import { valuesIn } from '../values.ts';
import type { RespanApi } from './api.ts';
import type { RespanConnection } from './config.ts';
import { maxWindowMs } from './config.ts';
import type { LogField, Narrowing, TraceField } from './filters.ts';
import { filtersOf } from './filters.ts';
import type { Log, Trace } from './schemas.ts';
import { logsSchema, saysWhose, summarySchema, tracesSchema, valuesOfField } from './schemas.ts';
import { Shared } from './shared.ts';
import { PAGE_SIZE } from './traits.ts';

export const LOGS_ROUTE = '/api/request-logs/list/';
export const TRACES_ROUTE = '/api/traces/list/';
export const SUMMARY_ROUTE = '/api/request-logs/summary/';

/** How long a filter that refused an impossible value is trusted, virtual milliseconds; every row is checked anyway. */
const CANARY_MS = 5 * MINUTE_MS;
/** Searches look this far past now, like those of the steps (P10). */
const FUTURE_MS = 7 * DAY_MS;

/** What is needed of a log; message text stays where it is (`include_fields`, vendor's MCP server). */
const LOG_FIELDS = [
  'unique_id',
  'id',
  'trace_unique_id',
  'environment',
  'timestamp',
  'start_time',
  'customer_identifier',
  'thread_identifier',
  'custom_identifier',
  'metadata',
].join(',');

/** Where and when: said in every call, because every default of this store hides data. */
export interface Scope {
  readonly environment: string;
  readonly window: Window;
}

export interface ListQuery<Field extends string> extends Scope {
  readonly narrow: Narrowing<Field> | null;
  /** For single pages; whole lists are read oldest first, so that new rows shift nothing. @default false */
  readonly newestFirst?: boolean;
  /** Stop after about so many rows. Default: every page. */
  readonly onePageOf?: number;
  /**
   * Makes the error for rows that were not asked for.
   *
   * @default `contract-broken`
   */
  readonly strange?: (tally: Tally) => StoreError;
}

/** Every call names its environment and both bounds. The one maker of these parameters, for reads and deletes alike. */
export function scopeParams({ environment, window }: Scope): [string, string][] {
  return [
    ['start_time', new Date(window.fromMs).toISOString()],
    ['end_time', new Date(window.toMs).toISOString()],
    ['environment', environment],
  ];
}

/**
 * The lists of one connection. A question is only believed when an impossible value found nothing with the same field,
 * operator, list and environment a moment ago, and every row that comes back carries what was asked for: unknown filter
 * keys are dropped by this store without a word (vendor's MCP server).
 */
export class Lists {
  readonly #api: RespanApi;
  readonly #config: RespanConnection;
  /** Canaries by shape: one serves all who search at the same time. */
  readonly #canaries: Shared;

  constructor(api: RespanApi, config: RespanConnection) {
    this.#api = api;
    this.#config = config;
    this.#canaries = new Shared(api.clock);
  }

  /** All time, as far as anything can be in this store. */
  allTime(): Window {
    const fromMs = this.#config.maxWindow === undefined ? 0 : Date.parse(this.#config.startDate);
    return { fromMs, toMs: this.#api.nowMs() + FUTURE_MS };
  }

  /** The ranges in which a window is read: itself, or as many as the config's `maxWindow` asks for, without a gap. */
  tiles(window: Window): readonly Window[] {
    const widthMs = maxWindowMs(this.#config);
    if (widthMs === null) return [window];
    const tiles: Window[] = [];
    const startMs = Date.parse(this.#config.startDate);
    const fromMs = window.toMs <= startMs ? window.fromMs : Math.max(window.fromMs, startMs);
    for (let at = fromMs; at < window.toMs; at += widthMs) {
      tiles.push({ fromMs: at, toMs: Math.min(at + widthMs, window.toMs) });
    }
    return tiles;
  }

  /** Logs and spans. */
  logs(tally: Tally, query: ListQuery<LogField>): Promise<readonly Log[]> {
    return this.#read(tally, query, {
      route: LOGS_ROUTE,
      schema: logsSchema,
      idOf: ({ environment, unique_id: id, trace_unique_id: trace }) => `${environment} ${trace ?? ''} ${id}`,
      carries: (log, field, values) => carries(valuesOfField(log, field), field, values),
      isWhole: (log) => saysWhose(log, this.#config.identifiers),
      params: [
        ['include_fields', LOG_FIELDS],
        ['fetch_filters', 'false'],
      ],
    });
  }

  /** Traces as the aggregated table shows them. */
  traces(tally: Tally, query: ListQuery<TraceField>): Promise<readonly Trace[]> {
    return this.#read(tally, query, {
      route: TRACES_ROUTE,
      schema: tracesSchema,
      idOf: ({ environment, trace_unique_id: id }) => `${environment} ${id}`,
      carries: (trace, field, values) =>
        carries(field === 'trace_unique_id' ? [trace.trace_unique_id] : trace[field], field, values),
      isWhole: (trace) => Object.hasOwn(trace, 'customer_identifier'),
      params: [],
    });
  }

  /** How many logs match, as the summary counts them: a true total, by another endpoint than the lists. */
  async total(tally: Tally, query: Scope & { readonly narrow: Narrowing<LogField> }): Promise<number> {
    const count = async (window: Window, narrow: Narrowing<LogField>): Promise<number> => {
      const { number_of_requests: total } = await this.#api.call(
        tally,
        {
          method: 'POST',
          path: SUMMARY_ROUTE,
          query: scopeParams({ environment: query.environment, window }),
          body: { filters: filtersOf(narrow) },
          shape: 'any',
        },
        summarySchema,
      );
      return total;
    };
    const tiles = this.tiles(query.window);
    const ask = (window: Window, impossible: Narrowing<LogField | TraceField>): Promise<number> =>
      count(window, impossible as Narrowing<LogField>);
    return this.#withCanary(tally, SUMMARY_ROUTE, query, { tiles, ask }, async (brought) => {
      let total = 0;
      for (const window of tiles) {
        const here = await count(window, query.narrow);
        brought(window, here);
        total += here;
      }
      return total;
    });
  }

  /**
   * Whether the unnarrowed traces list has so many rows. Shown by two of its last ones: a server that brings its last page
   * for every page past the end, or its first for every page, shows the same row at both places.
   */
  async hasTraces(tally: Tally, scope: Scope, least: number): Promise<boolean> {
    const last = await this.#traceAt(tally, scope, least);
    return last !== null && ![null, last].includes(await this.#traceAt(tally, scope, least - 1));
  }

  /** Id of the trace at a position of the unnarrowed traces list, counted from 1; null when there is none. */
  async #traceAt(tally: Tally, scope: Scope, position: number): Promise<string | null> {
    const params: [string, string][] = [
      ...scopeParams(scope),
      ['page', String(position)],
      ['page_size', '1'],
      ['sort_by', 'timestamp'],
    ];
    try {
      const page = await this.#api.call(
        tally,
        { method: 'POST', path: TRACES_ROUTE, query: params, body: { filters: {} }, shape: 'any' },
        tracesSchema,
      );
      const [only, second] = page.results;
      return second === undefined && only?.environment === scope.environment ? only.trace_unique_id : null;
    } catch (error) {
      // How a page past the end is answered is not documented; both ways mean that there is no such row.
      if (error instanceof StoreError && (error.reason === 'gone' || error.reason === 'rejected')) return null;
      throw error;
    }
  }

  async #read<Field extends LogField | TraceField, Row extends { readonly environment: string }>(
    tally: Tally,
    query: ListQuery<Field>,
    list: {
      readonly route: string;
      readonly schema: ZodType<{ readonly results: Row[]; readonly next: string | null }>;
      readonly idOf: (row: Row) => string;
      readonly carries: (row: Row, field: Field, values: ReadonlySet<string>) => boolean;
      /** Whether it has the fields that say whose it is. */
      readonly isWhole: (row: Row) => boolean;
      readonly params: readonly (readonly [string, string])[];
    },
  ): Promise<readonly Row[]> {
    const { environment, narrow } = query;
    const values = new Set(narrow?.values ?? []);
    const page = async (
      window: Window,
      filter: Narrowing<Field> | null,
      number: number,
      size: number,
    ): Promise<Page<Row>> => {
      const { results, next } = await this.#api.call(
        tally,
        {
          method: 'POST',
          path: list.route,
          query: [
            ...scopeParams({ environment, window }),
            ['page', String(number)],
            ['page_size', String(size)],
            ['sort_by', query.newestFirst === true ? '-timestamp' : 'timestamp'],
            ...list.params,
          ],
          body: { filters: filtersOf(filter) },
          shape: 'any',
        },
        list.schema,
      );
      // A short page is not taken for the last one: nothing promises that pages are full.
      return { rows: results, next: next === null || results.length === 0 ? null : String(number + 1) };
    };
    const checked = (rows: readonly Row[]): void => {
      if (!rows.every((row) => list.isWhole(row))) {
        const advice = 'rows lack a field that says whose they are; the API may have changed, look for a newer release';
        throw this.#api.broken(tally, `POST ${list.route}`, advice);
      }
      const foreign = rows.some((row) => row.environment !== environment);
      if (!foreign && (narrow === null || rows.every((row) => list.carries(row, narrow.field, values)))) return;
      if (query.strange !== undefined) throw query.strange(tally);
      const what = foreign
        ? 'rows of another environment came back: the store goes by another name for it, or ignores it'
        : 'rows came back that carry none of the values asked for: the store dropped the filter';
      throw this.#api.broken(tally, `POST ${list.route}`, what);
    };
    const tiles = this.tiles(query.window);
    const read = async (brought: Brought): Promise<readonly Row[]> => {
      const all = new Map<string, Row>();
      if (query.onePageOf !== undefined) {
        for (const window of query.newestFirst === true ? [...tiles].reverse() : tiles) {
          const { rows } = await page(window, narrow, 1, query.onePageOf);
          checked(rows);
          brought(window, rows.length);
          tally.rows += rows.length;
          for (const row of rows) all.set(list.idOf(row), row);
          if (all.size >= query.onePageOf) break;
        }
        return [...all.values()];
      }
      for (const window of tiles) {
        const rows = await this.#api.pages(
          tally,
          `POST ${list.route}`,
          async (cursor) => {
            const found = await page(window, narrow, Number(cursor ?? '1'), PAGE_SIZE);
            checked(found.rows);
            return found;
          },
          list.idOf,
          true,
        );
        brought(window, rows.length);
        for (const row of rows) all.set(list.idOf(row), row);
      }
      return [...all.values()];
    };
    if (narrow === null) return read(() => undefined);
    const ask = async (window: Window, impossible: Narrowing<LogField | TraceField>): Promise<number> => {
      const { rows } = await page(window, impossible as Narrowing<Field>, 1, 1);
      return rows.length;
    };
    return this.#withCanary(tally, list.route, { environment, narrow }, { tiles, ask }, read);
  }

  /**
   * Reads, and asks for a value that nobody has, unless that was done with the same field, list and environment a moment
   * ago. That it finds nothing proves something only where there is something: a range in the future is empty with or
   * without a filter. So it is asked of all time where one call takes that, before anything else; else, afterwards, of the
   * range that brought most. Where nothing came none is needed: a dropped filter only brings more.
   *
   * @throws StoreError `contract-broken` when the value is found.
   */
  async #withCanary<T>(
    tally: Tally,
    route: string,
    { environment, narrow }: { readonly environment: string; readonly narrow: Narrowing<LogField | TraceField> },
    {
      tiles,
      ask,
    }: {
      readonly tiles: readonly Window[];
      readonly ask: (window: Window, impossible: Narrowing<LogField | TraceField>) => Promise<number>;
    },
    read: (brought: Brought) => Promise<T>,
  ): Promise<T> {
    const shape = JSON.stringify([route, narrow.field, environment]);
    const canary = (window: Window): Promise<void> =>
      this.#canaries.get(shape, CANARY_MS, async () => {
        const found = await ask(window, { field: narrow.field, values: [`lethe-impossible-${randomUUID()}`] });
        if (found === 0) return;
        const advice =
          'a value that nobody has was found: the store drops this filter, and no answer to it can be used';
        throw this.#api.broken(tally, `POST ${route}`, advice);
      });
    const whole = this.#allTimeOf(tiles);
    if (whole !== null) {
      await canary(whole);
      return read(() => undefined);
    }
    const counts = new Map<Window, number>();
    const answer = await read((window, count) => {
      if (count > 0) counts.set(window, count);
    });
    const [fullest] = [...counts].reduce<[Window | null, number]>(
      (most, one) => (one[1] > most[1] ? one : most),
      [null, 0],
    );
    if (fullest !== null) await canary(fullest);
    return answer;
  }

  /** The only one of these ranges, when it holds whatever there is by now. */
  #allTimeOf([first, ...more]: readonly Window[]): Window | null {
    if (first === undefined || more.length > 0) return null;
    const holdsAll = first.fromMs <= Date.parse(this.#config.startDate) && first.toMs >= this.#api.nowMs();
    return holdsAll ? first : null;
  }
}

/** Told how many rows a range brought. */
type Brought = (window: Window, count: number) => void;

/** Ids must be equal; values of people may differ as a store that ignores case would make them (P15 is the caller's). */
function carries(value: unknown, field: LogField | TraceField, wanted: ReadonlySet<string>): boolean {
  const persons = valuesIn(value).map(({ text, numeric }) => ({ kind: field, key: field, text, numeric }));
  if (persons.some(({ text }) => wanted.has(text))) return true;
  if (field === 'trace_unique_id' || field === 'unique_id') return false;
  return [...wanted].some((text) => resembles({ persons }, { key: field, text }));
}
