import type { ZodType, output } from 'zod';
import type { Clock } from '../../erasure/clock.ts';
import { virtualNow } from '../../erasure/clock.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from '../http.ts';
import { contractBroken, createHttp, errorOf } from '../http.ts';
import { Pacer } from '../pacing.ts';
import { StoreError } from '../port.ts';
import type { Progress, ReadReport, Window } from '../port.ts';
import type { LangSmithConnection } from './config.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES, LIMITS_OF_CALLS } from './traits.ts';

/** Announced end of v1 reads on Cloud (docs, "endpoint deprecation"). */
const V1_ENDS_MS = Date.UTC(2027, 0, 31);
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

export interface Call extends Pick<HttpRequest, 'method' | 'path' | 'query' | 'body'> {
  /** Path with its ids replaced by names; default: the path itself. */
  readonly template?: string;
  readonly shape: CallShape;
  /** @default true */
  readonly read?: boolean;
}

export interface Page<T> {
  readonly rows: readonly T[];
  /** Null at the end. */
  readonly next: string | null;
}

/** Parts a connection is made of. */
export interface ApiParts {
  readonly clock: Clock;
  readonly fetch?: typeof fetch;
  readonly log: (fields: Readonly<Record<string, string | number | null>>, message: string) => void;
}

/** The calls of one connection: paced, classified, parsed. Shared by all its readers. */
export class LangSmithApi {
  readonly clock: Clock;
  readonly #http: HttpClient;
  readonly #pacer: Pacer<CallShape>;
  readonly #log: ApiParts['log'];
  readonly #v1Forever: boolean;
  #v1EndsMs = V1_ENDS_MS;
  /** By the `progress` that a step comes with: over all its reads it keeps its place, so that it ends. */
  readonly #seniority = new WeakMap<Progress, number>();
  #steps = 0;

  constructor(config: LangSmithConnection, parts: ApiParts) {
    this.clock = parts.clock;
    this.#log = parts.log;
    this.#v1Forever = config.v1 === 'on';
    this.#pacer = new Pacer(LIMITS_OF_CALLS, CALL_SHAPES, parts.clock);
    this.#http = createHttp({
      baseUrl: config.baseUrl,
      headers: {
        'x-api-key': config.apiKey,
        ...(config.workspaceId === undefined ? {} : { 'x-tenant-id': config.workspaceId }),
      },
      clock: parts.clock,
      ...(parts.fetch === undefined ? {} : { fetch: parts.fetch }),
    });
  }

  tally(progress: Progress): Tally {
    const known = this.#seniority.get(progress);
    if (known !== undefined) return new Tally(known, progress);
    this.#steps += 1;
    this.#seniority.set(progress, this.#steps);
    return new Tally(this.#steps, progress);
  }

  /** When v1's end was announced for, virtual epoch milliseconds: the header's word, else the vendor's page. */
  get v1EndsMs(): number {
    return this.#v1EndsMs;
  }

  /**
   * Makes one call and parses its answer.
   *
   * @throws StoreError for every answer that is not a 2xx of the expected shape.
   */
  async call<S extends ZodType>(tally: Tally, call: Call, schema: S): Promise<output<S>> {
    return (await this.answer(tally, call, schema)).data;
  }

  /** As `call`, with the answer itself. A read that is told to come later does so, if that is soon enough. */
  async answer<S extends ZodType>(
    tally: Tally,
    call: Call,
    schema: S,
  ): Promise<{ readonly data: output<S>; readonly answer: HttpAnswer }> {
    const read = call.read ?? true;
    let refusal: StoreError | null = null;
    for (let refusals = 0; ; refusals += 1) {
      try {
        return await this.#once(tally, call, read, schema);
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

  async #once<S extends ZodType>(
    tally: Tally,
    call: Call,
    read: boolean,
    schema: S,
  ): Promise<{ readonly data: output<S>; readonly answer: HttpAnswer }> {
    const route = `${call.method} ${call.template ?? call.path}`;
    tally.progress();
    const answer = await this.#http.send({
      ...call,
      route,
      read,
      progress: tally.progress,
      turn: () => this.#pacer.take({ shape: call.shape, route, seniority: tally.seniority, progress: tally.progress }),
    });
    tally.note(answer);
    this.#log(
      { route, status: answer.status, requestId: answer.requestId, ms: answer.receivedAtMs - answer.sentAtMs },
      'store call',
    );
    const v1 = route.includes(' /api/v1/runs/query');
    if (v1 && answer.sunset !== null && answer.sunset !== 'deprecated') this.#v1EndsMs = Date.parse(answer.sunset);
    const retired = v1 && !this.#v1Forever && answer.receivedAtMs >= this.#v1EndsMs;
    const error = errorOf(answer, adviceFor, retired);
    if (error !== null) {
      if (error.notBeforeMs !== null) this.#pacer.close(call.shape, error.notBeforeMs);
      throw error;
    }
    const parsed = schema.safeParse(answer.json);
    if (parsed.success) return { data: parsed.data, answer };
    throw contractBroken(
      answer,
      answer.json === undefined
        ? 'the answer is no JSON; is baseUrl the address of the API, and does a proxy stand in between?'
        : 'the answer lacks documented fields; the API may have changed, look for a newer release',
    );
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

/** The one 403 that is not about rights. */
export const WORKSPACE_ADVICE = 'the key belongs to a whole organization: set workspaceId';

/** The vendor's code for a key of a whole organization without a workspace; the one body that is ever looked into. */
const NEEDS_WORKSPACE = 'org_scoped_key_requires_workspace';

function needsWorkspace(answer: HttpAnswer): boolean {
  const { json } = answer;
  return typeof json === 'object' && json !== null && 'error' in json && json.error === NEEDS_WORKSPACE;
}

function adviceFor(answer: HttpAnswer): string | undefined {
  const { status } = answer;
  if (status >= 300 && status < 400) return 'redirects are not followed: set baseUrl to the address of the API itself';
  if (status === 401) return 'the API key is wrong, expired or of another region: check apiKey and baseUrl';
  if (status === 403 && needsWorkspace(answer)) return WORKSPACE_ADVICE;
  if (status === 403)
    return 'the key lacks the right for this: check its role; deleting needs runs:delete (Workspace Admin)';
  if (status === 404 || status === 410)
    return 'the route is not there: check baseUrl and the server version; v1 reads end on 31 January 2027';
  if (status === 501) return 'this deployment does not offer the route';
  if (status === 429) return 'the store asks for patience; goes on by itself';
  if (status >= 500) return 'the store has trouble; check its status page. Goes on by itself';
  return 'the store refused the request as it stands; look for a newer release';
}
