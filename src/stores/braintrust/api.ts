import type { ZodType, output } from 'zod';
import type { Clock } from '../../erasure/clock.ts';
import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { ApiParts, Call, Page, Tally } from '../api.ts';
import { StoreApi } from '../api.ts';
import { baseUrlSchema, isLoopback } from '../connection.ts';
import type { HttpAnswer } from '../http.ts';
import { errorOf } from '../http.ts';
import { StoreError } from '../port.ts';
import type { Progress } from '../port.ts';
import type { BraintrustConnection } from './config.ts';
import { loginSchema } from './schemas.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES, limitsOfCalls } from './traits.ts';

const LOGIN = '/api/apikey/login';
const LOGIN_ROUTE = `POST ${LOGIN}`;

/** The vendor's gateway answers traffic spikes with 401 for one to two minutes (support articles). */
const FALSE_401_MS = 2 * MINUTE_MS;

/** Where a key belongs, as login tells. Pinned at the first login. */
export interface Session {
  readonly orgId: string;
  readonly orgName: string;
  readonly apiUrl: string;
}

/** The calls of one connection: the control plane for login, the data plane for everything else. */
export class BraintrustApi {
  readonly clock: Clock;
  readonly #config: BraintrustConnection;
  readonly #parts: ApiParts;
  readonly #app: StoreApi<CallShape>;
  #session: Session | null = null;
  #data: StoreApi<CallShape> | null = null;
  /** When the first of a row of 401s came, virtual epoch milliseconds. */
  #unauthorizedSinceMs: number | null = null;

  constructor(config: BraintrustConnection, parts: ApiParts) {
    this.clock = parts.clock;
    this.#config = config;
    this.#parts = parts;
    this.#app = new StoreApi({ ...this.#options(config.appUrl), advise: adviceFor });
  }

  tally(progress: Progress): Tally {
    return this.#app.tally(progress);
  }

  nowMs(): number {
    return this.#app.nowMs();
  }

  broken(tally: Tally, route: string, advice: string): StoreError {
    return this.#app.broken(tally, route, advice);
  }

  pages<T>(
    tally: Tally,
    route: string,
    page: (cursor: string | null) => Promise<Page<T>>,
    idOf: (row: T) => string,
    sure = false,
  ): Promise<T[]> {
    return this.#app.pages(tally, route, page, idOf, sure);
  }

  async call<S extends ZodType>(tally: Tally, call: Call<CallShape>, schema: S): Promise<output<S>> {
    return (await this.answer(tally, call, schema)).data;
  }

  async answer<S extends ZodType>(
    tally: Tally,
    call: Call<CallShape>,
    schema: S,
  ): Promise<{ readonly data: output<S>; readonly answer: HttpAnswer }> {
    await this.session(tally);
    return (this.#data ?? this.#app).answer(tally, call, schema);
  }

  /**
   * Logs in, once.
   *
   * @throws StoreError `rejected` when the key sees several organizations and the config names none: taking the first, as
   *   the vendor's SDK does, would look for a person in the wrong place. `denied` when it does not see the one named.
   */
  async session(tally: Tally): Promise<Session> {
    if (this.#session !== null) return this.#session;
    const call = { method: 'POST', path: LOGIN, shape: 'control' } as const;
    const { org_info: organizations } = await this.#app.call(tally, call, loginSchema);
    const { organization } = this.#config;
    const [only, second] = organizations.filter(({ name }) => organization === undefined || name === organization);
    if (only === undefined) {
      throw refusal('denied', 'the key does not see the organization: check `organization`, apiKey and appUrl');
    }
    if (second !== undefined) {
      throw refusal('rejected', 'the key sees several organizations: name the one that is meant in `organization`');
    }
    const apiUrl = this.#config.apiUrl ?? this.#dataPlane(tally, only.api_url);
    // Somebody else may have logged in meanwhile: the first answer counts.
    this.#session ??= { orgId: only.id, orgName: only.name, apiUrl };
    this.#data ??= new StoreApi({
      dailyCalls: this.#config.dailyCalls,
      ...this.#options(this.#session.apiUrl, this.#session.orgName),
      advise: adviceFor,
      judge: (answer) => this.#judge(answer),
    });
    return this.#session;
  }

  /** The address is the store's word: it must be one that the config could have named. */
  #dataPlane(tally: Tally, told: string | null | undefined): string {
    const parsed = baseUrlSchema().safeParse(told ?? '');
    if (!parsed.success) throw this.broken(tally, LOGIN_ROUTE, 'login names no usable data plane: set apiUrl');
    const { data: url } = parsed;
    // A simulation must not reach a real store with its clock (P34).
    if (isLoopback(new URL(this.#config.appUrl)) && !isLoopback(new URL(url))) {
      throw this.broken(tally, LOGIN_ROUTE, 'a control plane on this machine names a data plane elsewhere: set apiUrl');
    }
    return url;
  }

  #options(baseUrl: string, orgName?: string) {
    // Header values are ASCII; an organization with another name is told apart by its projects' ids.
    const named = orgName !== undefined && /^[\x20-\x7e]+$/.test(orgName) ? { 'x-bt-org-name': orgName } : {};
    return {
      ...this.#parts,
      baseUrl,
      headers: { authorization: `Bearer ${this.#config.apiKey}`, ...named },
      limits: limitsOfCalls(this.#config.btqlPerMinute),
      shapes: CALL_SHAPES,
    };
  }

  /** A key that could log in is not called wrong because of one 401. */
  #judge(answer: HttpAnswer): StoreError | null {
    const error = errorOf(answer, adviceFor);
    if (answer.status !== 401) {
      if (error === null) this.#unauthorizedSinceMs = null;
      return error;
    }
    this.#unauthorizedSinceMs ??= answer.receivedAtMs;
    if (answer.receivedAtMs - this.#unauthorizedSinceMs >= FALSE_401_MS) return error;
    const { route, status, requestId } = answer;
    const advice = 'a 401 of a key that could log in: the vendor’s gateway gives them under load. Goes on by itself';
    return new StoreError({ reason: 'unreachable', route, status, requestId, advice });
  }
}

function refusal(reason: 'denied' | 'rejected', advice: string): StoreError {
  return new StoreError({ reason, route: LOGIN_ROUTE, status: 200, requestId: null, advice });
}

function adviceFor({ status, route }: HttpAnswer): string | undefined {
  if (status >= 300 && status < 400)
    return 'redirects are not followed: set appUrl and apiUrl to the addresses themselves';
  if (status === 401) return 'the API key is wrong or was revoked: check apiKey, appUrl and apiUrl';
  if (status === 403 && /\/v1\/(dataset|experiment|project_automation)/.test(route))
    return 'the key may not read these: give it the right, or leave datasets and experiments out of `copies`';
  if (status === 403) return 'the key lacks the right for this: it needs to read, write and delete project logs';
  if (status === 404 || status === 410 || status === 501)
    return 'the route is not there: check apiUrl and the version of the data plane';
  if (status === 413) return 'the request is larger than this server takes';
  if (status === 429) return 'the store asks for patience; lower btqlPerMinute if this is frequent. Goes on by itself';
  if (status === 504) return 'the query took longer than the store allows. Goes on by itself';
  if (status >= 500) return 'the store has trouble; check its status page. Goes on by itself';
  if (status === 400 && route.endsWith('/btql'))
    return 'the store refused the query: it needs a data plane of version 1.1.22 or newer';
  return 'the store refused the request as it stands; look for a newer release';
}
