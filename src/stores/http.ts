import type { Clock } from '../erasure/clock.ts';
import { realSpanMs, virtualNow } from '../erasure/clock.ts';
import { StoreError } from './port.ts';
import type { Progress } from './port.ts';

/** A JSON number that would not survive as a JavaScript number, in its source spelling: `12345678901234567890`, `1.0`. */
export class NumberText {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

/**
 * A number that JavaScript may spell otherwise: with a fraction, an exponent, 16 digits or more, or minus zero. A colon
 * counts after a key only: nearly every row has times in strings, whose seconds are no numbers.
 */
const ODD_NUMBER = /(?:^|[[,\s]|"\s*:)(-0(?=[\],}\s]|$)|-?\d{16,}[\d.eE+-]*|-?\d+[.eE][\d.eE+-]*)/g;

/** Whether a number in the text may lose its spelling. In doubt yes: the text of a string may look like a number. */
function mayLoseSpelling(text: string): boolean {
  for (const [, source = ''] of text.matchAll(ODD_NUMBER)) if (String(Number(source)) !== source) return true;
  return false;
}

/**
 * Parses JSON without losing a digit: a number whose spelling is not what JavaScript would print becomes a
 * `NumberText` (P15: identifiers are compared by their text).
 *
 * @throws SyntaxError when the text is not JSON; its message may quote the text, so it must not leave the caller (P31).
 */
export function parseJson(text: string): unknown {
  // The third argument is ECMAScript's "JSON.parse source text access": in Node since 21, not yet in TypeScript's lib.
  const revive = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === 'number' && context?.source !== undefined && context.source !== String(value)
      ? new NumberText(context.source)
      : value;
  // Asking about each value takes five times as long, and a worker spends much of its time here.
  return mayLoseSpelling(text) ? JSON.parse(text, revive) : JSON.parse(text);
}

/** Gives a call its turn, or throws; the function it resolves to is called when the call has ended. */
export type Turn = () => Promise<() => void>;

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Below the base URL. May hold ids: it appears in no error and no log. */
  readonly path: string;
  /** Method and path without ids, for errors, logs and the record. */
  readonly route: string;
  readonly query?: readonly (readonly [string, string])[];
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Only reads are repeated after a transport blip; a write is sent once. */
  readonly read: boolean;
  /** Asked before each attempt. */
  readonly turn?: Turn;
  /** Awaited after the turn, before the first byte; when it throws, nothing is sent and its error is passed on. */
  readonly lastWord?: (() => Promise<void>) | undefined;
  /** Called while the answer is awaited; when it throws, the call is cut and its error passed on. */
  readonly progress?: Progress;
}

/** Whatever the store answered, whole. */
export interface HttpAnswer {
  readonly route: string;
  readonly status: number;
  readonly headers: Headers;
  readonly requestId: string | null;
  /** The body as `parseJson` reads it, or undefined when it is no JSON. */
  readonly json: unknown;
  /** Virtual epoch milliseconds just before the call left. */
  readonly sentAtMs: number;
  readonly receivedAtMs: number;
  /** How far the store's `Date` lies outside the span of the call, milliseconds; null when it sent none. */
  readonly skewMs: number | null;
  /** ISO instant of the `Sunset` header, or `deprecated` when only `Deprecation` was sent. */
  readonly sunset: string | null;
  /** Attempts made, this one included. */
  readonly attempts: number;
}

export interface HttpOptions {
  /** Server root without trailing slash. */
  readonly baseUrl: string;
  /** Sent with every request; secrets among them reach no error and no log. */
  readonly headers: Readonly<Record<string, string>>;
  readonly clock: Clock;
  /** @default the global fetch. */
  readonly fetch?: typeof fetch;
  /** Real milliseconds for one attempt, body included. @default 90,000, as in the vendors' own clients. */
  readonly timeoutMs?: number;
  /** Largest body read. Guards the worker's memory; an ordinary page has a few MB. @default 128 MiB. */
  readonly maxBodyBytes?: number;
  /** Virtual milliseconds before each repeat of a read; as many repeats as entries. @default 250 and 1,000. */
  readonly retryDelaysMs?: readonly number[];
}

export interface HttpClient {
  /**
   * Sends one request and reads the whole answer. Any status is an answer, redirects included (never followed: they
   * would carry the key elsewhere). Reads are repeated on no answer, 408 and 5xx; what the last attempt gave is returned.
   *
   * @throws StoreError `unreachable` without any answer, `contract-broken` when the body is too large or no text.
   */
  send(request: HttpRequest): Promise<HttpAnswer>;
}

/** How often a caller is asked whether to go on while an answer is awaited, real milliseconds. */
const PULSE_MS = 1000;

const REQUEST_ID_HEADERS = [
  'x-request-id',
  'request-id',
  'x-amzn-requestid',
  'x-correlation-id',
  'x-bt-internal-trace-id',
  'cf-ray',
] as const;

/** Makes the JSON client of one connection. */
export function createHttp(options: HttpOptions): HttpClient {
  const fetchOnce = options.fetch ?? fetch;
  const timeoutMs = options.timeoutMs ?? 90_000;
  const maxBodyBytes = options.maxBodyBytes ?? 128 * 1024 * 1024;
  const retryDelaysMs = options.retryDelaysMs ?? [250, 1000];

  async function attempt(request: HttpRequest, attempts: number): Promise<HttpAnswer> {
    const done = await request.turn?.();
    let sentAtMs: number;
    const controller = new AbortController();
    const stops: unknown[] = [];
    const timer = setTimeout(() => {
      controller.abort();
    }, timeoutMs);
    const pulse = setInterval(() => {
      try {
        request.progress?.();
      } catch (error) {
        stops.push(error);
        controller.abort();
      }
    }, PULSE_MS);
    try {
      await request.lastWord?.().catch((error: unknown) => {
        stops.push(error);
        throw error;
      });
      sentAtMs = virtualNow(options.clock);
      const response = await fetchOnce(urlOf(options.baseUrl, request), {
        method: request.method,
        redirect: 'manual',
        signal: controller.signal,
        headers: {
          accept: 'application/json',
          ...options.headers,
          ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      });
      const text = await readText(response, maxBodyBytes, request.route);
      const receivedAtMs = virtualNow(options.clock);
      return {
        route: request.route,
        status: response.status,
        headers: response.headers,
        requestId: requestIdOf(response.headers),
        json: jsonOrUndefined(text),
        sentAtMs,
        receivedAtMs,
        skewMs: skewOf(response.headers.get('date'), sentAtMs, receivedAtMs),
        sunset: sunsetOf(response.headers),
        attempts,
      };
    } catch (error) {
      if (stops.length > 0) throw stops[0];
      if (error instanceof StoreError) throw error;
      const what = controller.signal.aborted ? `no answer within ${timeoutMs / 1000} s` : `no answer${codeOf(error)}`;
      // The cause is left out on purpose: its text may hold the URL, and with it ids.
      throw new StoreError({
        reason: 'unreachable',
        route: request.route,
        status: null,
        requestId: null,
        advice: `${what}; check the address, the network and the store's status page`,
      });
    } finally {
      clearTimeout(timer);
      clearInterval(pulse);
      done?.();
    }
  }

  return {
    async send(request) {
      const delays = request.read ? retryDelaysMs : [];
      for (let attempts = 1; ; attempts += 1) {
        const delay = delays[attempts - 1];
        try {
          const answer = await attempt(request, attempts);
          if (delay === undefined || !isBlip(answer.status)) return answer;
        } catch (error) {
          if (delay === undefined || !(error instanceof StoreError) || error.reason !== 'unreachable') throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, realSpanMs(options.clock, delay)));
        request.progress?.();
      }
    },
  };
}

/** 501 says that the route is not offered, which no repeat changes. */
function isBlip(status: number): boolean {
  return status === 408 || (status >= 500 && status !== 501);
}

/** For a person: what to do about an answer, or undefined. Must not repeat the store's words (P31). */
export type Advise = (answer: HttpAnswer) => string | undefined;

/** When the store does not say how long to wait after a 429, milliseconds. */
const DEFAULT_RETRY_AFTER_MS = 60_000;
/** A longer Retry-After than this is asked again earlier: it is cheaper than to believe a mistake for days. */
const MOST_RETRY_AFTER_MS = 6 * 3_600_000;

/**
 * The one way from an answer to an error, by status alone; bodies are the vendor's words and change.
 *
 * @returns null for a 2xx.
 */
export function errorOf(answer: HttpAnswer, advise: Advise, retired = false): StoreError | null {
  const { status, route, requestId } = answer;
  if (status >= 200 && status < 300) return null;
  const advice = advise(answer);
  const details = { route, status, requestId, ...(advice === undefined ? {} : { advice }) };
  if (status === 429) {
    return new StoreError({ ...details, reason: 'throttled', notBeforeMs: answer.receivedAtMs + retryAfterMs(answer) });
  }
  if (status === 401 || status === 403) return new StoreError({ ...details, reason: 'denied' });
  if (status === 404 || status === 410 || status === 501)
    return new StoreError({ ...details, reason: 'gone', retired });
  if (isBlip(status)) return new StoreError({ ...details, reason: 'unreachable' });
  return new StoreError({ ...details, reason: 'rejected' });
}

/** An answer that came with success but does not keep to its documented shape. */
export function contractBroken(answer: HttpAnswer, advice: string): StoreError {
  const { route, status, requestId } = answer;
  return new StoreError({ reason: 'contract-broken', route, status, requestId, advice });
}

function retryAfterMs(answer: HttpAnswer): number {
  const millis = Number(answer.headers.get('retry-after-ms') ?? Number.NaN);
  const text = answer.headers.get('retry-after')?.trim() ?? '';
  const wanted = Number.isFinite(millis)
    ? millis
    : /^\d+(\.\d+)?$/.test(text)
      ? Number(text) * 1000
      : Date.parse(text) - answer.receivedAtMs;
  if (!Number.isFinite(wanted) || wanted < 0) return DEFAULT_RETRY_AFTER_MS;
  return Math.min(wanted, MOST_RETRY_AFTER_MS);
}

function urlOf(baseUrl: string, request: HttpRequest): string {
  const query = new URLSearchParams((request.query ?? []).map(([name, value]): [string, string] => [name, value]));
  const text = query.toString();
  return `${baseUrl}${request.path}${text === '' ? '' : `?${text}`}`;
}

async function readText(response: Response, maxBytes: number, route: string): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder('utf-8');
  const parts: string[] = [];
  let bytes = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      throw new StoreError({
        reason: 'contract-broken',
        route,
        status: response.status,
        requestId: requestIdOf(response.headers),
        advice: `the answer is larger than ${Math.round(maxBytes / 1024 / 1024)} MiB; lower pageSize`,
      });
    }
    parts.push(decoder.decode(chunk, { stream: true }));
  }
  return parts.join('') + decoder.decode();
}

function jsonOrUndefined(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}

/** Only characters that ids are made of: a header is the store's text and ends up in messages. */
function requestIdOf(headers: Headers): string | null {
  for (const name of REQUEST_ID_HEADERS) {
    const value = headers.get(name);
    if (value !== null && /^[A-Za-z0-9._:=-]{1,128}$/.test(value)) return value;
  }
  return null;
}

/** `Date` has whole seconds, so any instant of its second is taken as meant. */
function skewOf(date: string | null, sentAtMs: number, receivedAtMs: number): number | null {
  const at = Date.parse(date ?? '');
  if (Number.isNaN(at)) return null;
  return Math.max(0, sentAtMs - (at + 999), at - receivedAtMs);
}

function sunsetOf(headers: Headers): string | null {
  const at = Date.parse(headers.get('sunset') ?? '');
  if (!Number.isNaN(at)) return new Date(at).toISOString();
  const deprecation = headers.get('deprecation');
  return deprecation === null || deprecation === 'false' ? null : 'deprecated';
}

/** The system's error code, for instance ` (ECONNREFUSED)`; never its message, which may hold the address. */
function codeOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth += 1) {
    const code = (at as { code?: unknown }).code;
    if (typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,39}$/.test(code)) return ` (${code})`;
  }
  return '';
}
