import type { ZodType, output } from 'zod';
import type { Clock } from '../erasure/clock.ts';
import { virtualNow } from '../erasure/clock.ts';
import type { Advise, HttpAnswer, HttpClient, HttpRequest } from './http.ts';
import { contractBroken, createHttp, errorOf } from './http.ts';
import { DAY_MS } from '../erasure/rhythm.ts';
import type { Limit } from './pacing.ts';
import { isAboard } from './convoy.ts';
import { Pacer } from './pacing.ts';
import { StoreError } from './port.ts';
import type { Progress, ReadReport, Window } from './port.ts';

/** Request ids kept of one read. */
const MOST_REQUEST_IDS = 10;
/** Pages in a row that bring nothing new, after which a cursor is taken for a loop. */
const MOST_EMPTY_PAGES = 20;
/** How often one call may be told to come later before its step gives up and the lane sleeps. */
const MOST_REFUSALS = 5;
/** Whole passes over shifting pages before the read is given up. */
const MOST_PASSES = 4;

/** Collects what the record keeps of one read while its calls are made. */
export class Tally {
  /** Order of the steps of this connection; older ones get their turns first. */
  readonly seniority: number;
  readonly progress: Progress;
  readonly routes = new Set<string>();
  calls = 0;
  rows = 0;
  skewMs: number | null = null;
  sunset: string | null = null;
  readonly requestIds: string[] = [];

  constructor(seniority: number, progress: Progress) {
    this.seniority = seniority;
    this.progress = progress;
  }

  note(answer: HttpAnswer): void {
    this.routes.add(answer.route);
    this.calls += answer.attempts;
    if (answer.skewMs !== null) this.skewMs = Math.max(this.skewMs ?? 0, answer.skewMs);
    this.sunset = answer.sunset ?? this.sunset;
    if (answer.requestId !== null && this.requestIds.length < MOST_REQUEST_IDS) this.requestIds.push(answer.requestId);
  }

  report(purpose: ReadReport['purpose'], window: Window | null, asked = 0, seen = 0): ReadReport {
    return {
      route: [...this.routes].join(', '),
      purpose,
      calls: this.calls,
      rows: this.rows,
      window,
      controlsAsked: asked,
      controlsSeen: seen,
      requestIds: this.requestIds,
      skewMs: this.skewMs,
      sunset: this.sunset,
    };
  }
}

export interface Call<Shape extends string> extends Pick<
  HttpRequest,
  'method' | 'path' | 'query' | 'body' | 'lastWord'
> {
  /** Path with its ids replaced by names; default: the path itself. */
  readonly template?: string;
  readonly shape: Shape;
  /** @default true */
  readonly read?: boolean;
}

export interface Page<T> {
  readonly rows: readonly T[];
  /** Null at the end. */
  readonly next: string | null;
}

/** Takes one line per API call: route template, status, duration; never ids, values or bodies. */
type CallLog = (fields: Readonly<Record<string, string | number | null>>, message: string) => void;

/** Parts a connection is made of. */
export interface ApiParts {
  readonly clock: Clock;
  readonly fetch?: typeof fetch;
  readonly log: CallLog;
  /** File in which the calls of the day are kept where there is a quota, see `spentCallsFile`. @default in memory only. */
  readonly spentCallsFile?: string;
}

export interface ApiOptions<Shape extends string> extends ApiParts {
  /** Server root without trailing slash. */
  readonly baseUrl: string;
  /** Sent with every call; secrets among them reach no error and no log. */
  readonly headers: Readonly<Record<string, string>>;
  /** Limits by name, and for each shape of call the names of those that it counts against. */
  readonly limits: Readonly<Record<string, Limit>>;
  readonly shapes: Readonly<Record<Shape, readonly string[]>>;
  /**
   * Most calls of any kind in any 24 hours, for keys with a quota. Long reads leave a fifth of it to short ones; whoever
   * comes when it is used up is told when to come back. Default: none.
   */
  readonly dailyCalls?: number | undefined;
  /** What to do about an answer; must not repeat the store's words (P31). */
  readonly advise: Advise;
  /**
   * The store's own way from an answer to an error, where its statuses mean something else than usual.
   *
   * @default errorOf
   */
  readonly judge?: (answer: HttpAnswer) => StoreError | null;
}

/** The calls of one connection: paced, classified, parsed. Shared by all its readers. */
export class StoreApi<Shape extends string> {
  readonly clock: Clock;
  readonly #http: HttpClient;
  readonly #pacer: Pacer<Shape>;
  readonly #log: CallLog;
  readonly #judge: (answer: HttpAnswer) => StoreError | null;
  /** By the `progress` that a step comes with: over all its reads it keeps its place, so that it ends. */
  readonly #seniority = new WeakMap<Progress, number>();
  #steps = 0;

  constructor(options: ApiOptions<Shape>) {
    this.clock = options.clock;
    this.#log = options.log;
    this.#judge = options.judge ?? ((answer) => errorOf(answer, options.advise));
    const { limits, shapes } = withQuota(options);
    this.#pacer = new Pacer(limits, shapes, options.clock);
    this.#http = createHttp({
      baseUrl: options.baseUrl,
      headers: options.headers,
      clock: options.clock,
      ...(options.fetch === undefined ? {} : { fetch: options.fetch }),
    });
  }

  tally(progress: Progress): Tally {
    const known = this.#seniority.get(progress);
    if (known !== undefined) return new Tally(known, progress);
    this.#steps += 1;
    this.#seniority.set(progress, this.#steps);
    return new Tally(this.#steps, progress);
  }

  /**
   * Makes one call and parses its answer.
   *
   * @throws StoreError for every answer that is not a 2xx of the expected shape.
   */
  async call<S extends ZodType>(tally: Tally, call: Call<Shape>, schema: S): Promise<output<S>> {
    return (await this.answer(tally, call, schema)).data;
  }

  /** As `call`, with the answer itself. A read that is told to come later does so, if that is soon enough. */
  async answer<S extends ZodType>(
    tally: Tally,
    call: Call<Shape>,
    schema: S,
  ): Promise<{ readonly data: output<S>; readonly answer: HttpAnswer }> {
    const answer = await this.send(tally, call);
    const parsed = schema.safeParse(answer.json);
    if (parsed.success) return { data: parsed.data, answer };
    throw contractBroken(
      answer,
      answer.json === undefined
        ? 'the answer is no JSON; is baseUrl the address of the API, and does a proxy stand in between?'
        : 'the answer lacks documented fields; the API may have changed, look for a newer release',
    );
  }

  /**
   * Makes one call, whatever a success holds: for routes whose success has no body.
   *
   * @throws StoreError for every answer that is not a 2xx.
   */
  async send(tally: Tally, call: Call<Shape>): Promise<HttpAnswer> {
    const read = call.read ?? true;
    let refusal: StoreError | null = null;
    for (let refusals = 0; ; refusals += 1) {
      try {
        return await this.#once(tally, call, read);
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== 'throttled' || !read) throw error;
        // The pacer waits for the store's instant before it lets the call leave again. Where that is too far it throws,
        // and the store's own answer tells more.
        if (error.status !== 429) throw refusal ?? error;
        refusal = error;
        if (refusals === MOST_REFUSALS) throw error;
      }
    }
  }

  async #once(tally: Tally, call: Call<Shape>, read: boolean): Promise<HttpAnswer> {
    const route = `${call.method} ${call.template ?? call.path}`;
    tally.progress();
    const answer = await this.#http.send({
      ...call,
      route,
      read,
      // What was begun to be deleted can't be taken back by cutting the call: only its outcome would be lost.
      ...(read ? { progress: tally.progress } : {}),
      turn: () => {
        const { seniority, progress } = tally;
        return this.#pacer.take({ shape: call.shape, route, seniority, progress, begun: isAboard(progress) });
      },
    });
    tally.note(answer);
    this.#log(
      { route, status: answer.status, requestId: answer.requestId, ms: answer.receivedAtMs - answer.sentAtMs },
      'store call',
    );
    const error = this.#judge(answer);
    if (error === null) return answer;
    if (error.notBeforeMs !== null) this.#pacer.close(call.shape, error.notBeforeMs);
    throw error;
  }

  /** For an answer whose rows show that the question was not understood. */
  broken(tally: Tally, route: string, advice: string): StoreError {
    const requestId = tally.requestIds.at(-1) ?? null;
    return new StoreError({ reason: 'contract-broken', route, status: 200, requestId, advice });
  }

  nowMs(): number {
    return virtualNow(this.clock);
  }

  /**
   * Reads every page (P28). Tokens are opaque: nothing documents that they stay stable while rows come and go. A pass
   * in which a row came twice shows that pages shifted, so another pass is made, until one is free of repeats or two
   * in a row agree; rows of all passes are united.
   *
   * @param sure more than one page always takes two passes that agree: for reads on which a deletion depends. Other
   *   reads may lose a row that slips between two pages; the second finder and every later read look for it again.
   * @throws StoreError `contract-broken` when a token comes again, pages bring nothing new, or no two passes agree.
   */
  async pages<T>(
    tally: Tally,
    route: string,
    page: (cursor: string | null) => Promise<Page<T>>,
    idOf: (row: T) => string,
    sure = false,
  ): Promise<T[]> {
    const all = new Map<string, T>();
    let before: ReadonlySet<string> | null = null;
    for (let pass = 0; pass < MOST_PASSES; pass += 1) {
      const { ids, repeats, pages } = await this.#onePass(tally, route, page, idOf, all);
      const last: ReadonlySet<string> | null = before;
      const agree = last !== null && last.size === ids.size && [...ids].every((id) => last.has(id));
      if (agree || pages === 1 || (!repeats && !sure)) {
        tally.rows += all.size;
        return [...all.values()];
      }
      before = ids;
    }
    throw this.broken(tally, route, 'pages kept shifting while they were read; reads again later');
  }

  async #onePass<T>(
    tally: Tally,
    route: string,
    page: (cursor: string | null) => Promise<Page<T>>,
    idOf: (row: T) => string,
    all: Map<string, T>,
  ): Promise<{ readonly ids: ReadonlySet<string>; readonly repeats: boolean; readonly pages: number }> {
    const ids = new Set<string>();
    const cursors = new Set<string>();
    let repeats = false;
    let barren = 0;
    let pages = 0;
    for (let cursor: string | null = null; ;) {
      const { rows, next }: Page<T> = await page(cursor);
      pages += 1;
      const known = ids.size;
      for (const row of rows) {
        const id = idOf(row);
        if (ids.has(id)) repeats = true;
        ids.add(id);
        all.set(id, row);
      }
      if (next === null) return { ids, repeats, pages };
      barren = ids.size === known ? barren + 1 : 0;
      if (cursors.has(next) || barren > MOST_EMPTY_PAGES) {
        throw this.broken(tally, route, 'the paging token leads in a circle');
      }
      cursors.add(next);
      cursor = next;
    }
  }
}

/** The limits with the day's quota among them, against which every call counts. */
function withQuota<Shape extends string>({
  limits,
  shapes,
  dailyCalls,
  spentCallsFile,
}: ApiOptions<Shape>): Pick<ApiOptions<Shape>, 'limits' | 'shapes'> {
  if (dailyCalls === undefined) return { limits, shapes };
  const counted = Object.entries<readonly string[]>(shapes).map(([shape, names]) => [shape, [...names, QUOTA]]);
  return {
    limits: { ...limits, [QUOTA]: { calls: dailyCalls, perMs: DAY_MS, reserve: 0.2, keptIn: spentCallsFile } },
    shapes: Object.fromEntries(counted) as Record<Shape, readonly string[]>,
  };
}

/** Name of the limit that stands for a day's quota. */
const QUOTA = 'day';
