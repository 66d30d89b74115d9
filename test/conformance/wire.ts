import type { Clock } from '../../src/erasure/clock.ts';
import { virtualNow } from '../../src/erasure/clock.ts';

/** One call as it left the connector. */
export interface WireCall {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly isDelete: boolean;
  /** Whether it asks for what comes after a page that an earlier call has brought. */
  readonly isFurtherPage: boolean;
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
}

/** What goes wrong between a connector and its store. */
export interface Fault {
  /** Default: all. */
  readonly on?: 'reads' | 'deletes' | 'all';
  /** Strikes at most so often. Default: as long as it is set. */
  readonly count?: number;
  /** Instead of asking the store: nothing has happened there. */
  readonly instead?: () => Response;
  /** After the store has answered: whatever was asked has happened. */
  readonly after?: (answer: Response) => Promise<Response>;
}

const HTML = '<!DOCTYPE html><html><body><h1>Please wait</h1></body></html>';

function reset(): never {
  throw Object.assign(new TypeError('fetch failed'), {
    cause: Object.assign(new Error('reset'), { code: 'ECONNRESET' }),
  });
}

async function changed(answer: Response, change: (text: string) => string, headers: Record<string, string> = {}) {
  const text = change(await answer.text());
  const all = new Headers(answer.headers);
  // The body is another one now, and already decoded.
  for (const name of ['content-length', 'content-encoding']) all.delete(name);
  for (const [name, value] of Object.entries(headers)) all.set(name, value);
  return new Response(text, { status: answer.status, headers: all });
}

/** Drops a field wherever it stands in the JSON of an answer. */
function without(json: unknown, field: string): unknown {
  if (Array.isArray(json)) return json.map((one) => without(one, field));
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).flatMap(([name, value]) => (name === field ? [] : [[name, without(value, field)]])),
  );
}

/** Faults that any service over HTTP may have, made where the calls pass: no store needs to know them. */
export const FAULTS = {
  /** A status without a body that says anything. */
  status: (status: number, headers: Record<string, string> = {}): Fault => ({
    instead: () => new Response('{}', { status, headers: { 'content-type': 'application/json', ...headers } }),
  }),
  /** A 5xx although what was asked has happened. */
  statusAfter: (status: number): Fault => ({ after: async () => new Response('{}', { status }) }),
  resetBefore: (): Fault => ({ instead: reset }),
  resetAfter: (): Fault => ({ after: async () => reset() }),
  html: (status = 200): Fault => ({
    instead: () => new Response(HTML, { status, headers: { 'content-type': 'text/html' } }),
  }),
  cut: (): Fault => ({ after: (answer) => changed(answer, (text) => text.slice(0, Math.floor(text.length / 2))) }),
  empty: (): Fault => ({ after: (answer) => changed(answer, () => '') }),
  without: (field: string): Fault => ({
    after: (answer) => changed(answer, (text) => JSON.stringify(without(JSON.parse(text), field))),
  }),
  json: (change: (json: unknown) => unknown): Fault => ({
    after: (answer) => changed(answer, (text) => JSON.stringify(change(text === '' ? null : JSON.parse(text)))),
  }),
  /** The store's clock, `ms` away from ours. */
  skew: (ms: number, clock: Clock): Fault => ({
    after: (answer) => changed(answer, (text) => text, { date: new Date(virtualNow(clock) + ms).toUTCString() }),
  }),
} as const;

/** By what a harness tells one sort of call from another. */
export interface Told {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
}

/** How to tell them. */
export interface Tells {
  isDelete(call: Told): boolean;
  /** Default: none is told as one. */
  isFurtherPage?(call: Told): boolean;
}

/** The way from a connector to its store: counts every call, and lets faults happen on it. */
export class Wire {
  readonly calls: WireCall[] = [];
  /** Bodies of the answers that arrived, for whoever wants to know what fields a store sends. */
  readonly answers: string[] = [];
  keepAnswers = false;
  /** Deletes that were answered with a success. */
  acknowledged = 0;
  /** Of the answers that came from the store itself. */
  readonly statuses: number[] = [];
  /** Awaited before each call passes. */
  beforeCall: ((call: WireCall) => Promise<void>) | null = null;
  readonly #inner: typeof fetch;
  readonly #clock: Clock;
  readonly #tells: Tells;
  #fault: Fault | null = null;
  #struck = 0;

  constructor(inner: typeof fetch, clock: Clock, tells: Tells) {
    this.#inner = inner;
    this.#clock = clock;
    this.#tells = tells;
  }

  /** Sets what goes wrong from now on; null: nothing. */
  set(fault: Fault | null): void {
    this.#fault = fault;
    this.#struck = 0;
  }

  /** Calls made while something ran. */
  async during(run: () => Promise<unknown>): Promise<readonly WireCall[]> {
    const before = this.calls.length;
    await run();
    return this.calls.slice(before);
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(typeof input === 'string' ? input : input instanceof URL ? input.href : input.url);
    const method = init?.method ?? 'GET';
    const path = url.pathname;
    const body = typeof init?.body === 'string' ? init.body : '';
    const told: Told = { method, path, query: url.searchParams, body };
    const call = {
      method,
      path,
      isDelete: this.#tells.isDelete(told),
      isFurtherPage: this.#tells.isFurtherPage?.(told) ?? false,
      atMs: virtualNow(this.#clock),
    };
    this.calls.push(call);
    await this.beforeCall?.(call);
    const fault = this.#strikes(call);
    if (fault?.instead !== undefined) return fault.instead();
    const answer = await this.#inner(input, init);
    this.statuses.push(answer.status);
    const struck = fault?.after === undefined ? answer : await fault.after(answer);
    if (call.isDelete && struck.ok) this.acknowledged += 1;
    if (!this.keepAnswers) return struck;
    this.answers.push(await struck.clone().text());
    return struck;
  };

  #strikes(call: WireCall): Fault | null {
    const fault = this.#fault;
    if (fault === null || this.#struck >= (fault.count ?? Number.POSITIVE_INFINITY)) return null;
    if (fault.on === 'reads' && call.isDelete) return null;
    if (fault.on === 'deletes' && !call.isDelete) return null;
    this.#struck += 1;
    return fault;
  }
}
