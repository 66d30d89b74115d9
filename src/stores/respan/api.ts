import type { ApiParts } from '../api.ts';
import { StoreApi } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import { errorOf } from '../http.ts';
import { StoreError } from '../port.ts';
import type { RespanConnection } from './config.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES, limitsOf } from './traits.ts';

/** The store refused a bulk delete and told how many traces it would have matched. */
export class RefusedMatches extends StoreError {
  readonly matched: number;

  constructor(error: StoreError, matched: number) {
    const { reason, route, status, requestId, advice } = error;
    super({ reason, route, status, requestId, ...(advice === null ? {} : { advice }) });
    this.matched = matched;
  }
}

/** The calls of one connection. */
export class RespanApi extends StoreApi<CallShape> {
  constructor(config: RespanConnection, parts: ApiParts) {
    super({
      ...parts,
      baseUrl: config.baseUrl,
      headers: { authorization: `Bearer ${config.apiKey}` },
      limits: limitsOf(config.callsPerMinute),
      shapes: CALL_SHAPES,
      dailyCalls: config.dailyCalls,
      advise: adviceFor,
      judge,
    });
  }
}

function judge(answer: HttpAnswer): StoreError | null {
  const error = errorOf(answer, adviceFor);
  if (error === null) return null;
  const retryAfter = numberIn(answer.json, 'retry_after');
  // The body's word is documented; whether a header comes too is not.
  if (error.reason === 'throttled' && retryAfter !== null && !answer.headers.has('retry-after')) {
    const { route, status, requestId, advice } = error;
    const notBeforeMs = answer.receivedAtMs + Math.min(Math.max(retryAfter, 1), 6 * 3600) * 1000;
    return new StoreError({
      reason: 'throttled',
      route,
      status,
      requestId,
      notBeforeMs,
      ...(advice === null ? {} : { advice }),
    });
  }
  const matched = numberIn(answer.json, 'matched_count');
  return error.reason === 'rejected' && matched !== null ? new RefusedMatches(error, matched) : error;
}

/** A number under a name in an answer, as a number or as text; null when there is none. */
export function numberIn(json: unknown, name: string): number | null {
  if (typeof json !== 'object' || json === null || !Object.hasOwn(json, name)) return null;
  const value = (json as Readonly<Record<string, unknown>>)[name];
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : null;
}

function adviceFor({ status }: HttpAnswer): string | undefined {
  if (status >= 300 && status < 400) return 'redirects are not followed: set baseUrl to the address of the API itself';
  if (status === 401) return 'the API key is invalid or expired, or of another host: check apiKey and baseUrl';
  if (status === 403) return 'the key may not do this: check it in the settings of the organisation';
  if (status === 404 || status === 405 || status === 410)
    return 'the route is not there: check baseUrl; look for a newer release';
  if (status === 429) return 'the store asks for patience; goes on by itself';
  if (status >= 500) return 'the store has trouble; check its status page. Goes on by itself';
  return 'the store refused the request as it stands; look for a newer release';
}
