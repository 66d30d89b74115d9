import type { ApiParts } from '../api.ts';
import { StoreApi } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import { errorOf } from '../http.ts';
import type { StoreError } from '../port.ts';
import type { LangSmithConnection } from './config.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES, LIMITS_OF_CALLS } from './traits.ts';

/** Announced end of v1 reads on Cloud (docs, "endpoint deprecation"). */
const V1_ENDS_MS = Date.UTC(2027, 0, 31);

/** The calls of one connection. Knows when the first generation of reads ends. */
export class LangSmithApi extends StoreApi<CallShape> {
  #v1EndsMs: number;

  constructor(config: LangSmithConnection, parts: ApiParts) {
    super({
      ...parts,
      baseUrl: config.baseUrl,
      headers: {
        'x-api-key': config.apiKey,
        ...(config.workspaceId === undefined ? {} : { 'x-tenant-id': config.workspaceId }),
      },
      limits: LIMITS_OF_CALLS,
      shapes: CALL_SHAPES,
      dailyCalls: config.dailyCalls,
      advise: adviceFor,
      judge: (answer) => this.#errorOf(answer, config.v1 === 'on'),
    });
    this.#v1EndsMs = V1_ENDS_MS;
  }

  /** When v1's end was announced for, virtual epoch milliseconds: the header's word, else the vendor's page. */
  get v1EndsMs(): number {
    return this.#v1EndsMs;
  }

  #errorOf(answer: HttpAnswer, v1Forever: boolean): StoreError | null {
    const v1 = answer.route.includes(' /api/v1/runs/query');
    if (v1 && answer.sunset !== null && answer.sunset !== 'deprecated') this.#v1EndsMs = Date.parse(answer.sunset);
    return errorOf(answer, adviceFor, v1 && !v1Forever && answer.receivedAtMs >= this.#v1EndsMs);
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
