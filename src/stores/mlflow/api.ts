import type { ApiParts } from '../api.ts';
import { StoreApi } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import type { MlflowConnection } from './config.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES } from './traits.ts';

const PORTION_MS = 3000;

/** The calls of one connection. */
export class MlflowApi extends StoreApi<CallShape> {
  constructor(config: MlflowConnection, parts: ApiParts) {
    const calls = Math.max(1, Math.floor((config.callsPerMinute * PORTION_MS) / 60_000));
    super({
      ...parts,
      baseUrl: config.baseUrl,
      headers: authorization(config),
      limits: { any: { calls, perMs: Math.ceil((calls * 60_000) / config.callsPerMinute) } },
      shapes: CALL_SHAPES,
      dailyCalls: config.dailyCalls,
      advise: adviceFor,
    });
  }
}

function authorization({ apiKey, username, password }: MlflowConnection): Readonly<Record<string, string>> {
  if (apiKey !== undefined) return { authorization: `Bearer ${apiKey}` };
  if (username === undefined || password === undefined) return {};
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}` };
}

function adviceFor({ status, route }: HttpAnswer): string | undefined {
  if (status >= 300 && status < 400)
    return 'redirects are not followed: set baseUrl to the address of the server itself';
  if (status === 401) return 'the server asks for other credentials: check username and password, or apiKey';
  if (status === 403)
    return 'the account lacks the right for this, or the server refuses the host name it was called by (--allowed-hosts); Lethe needs an administrator';
  if (status === 404 || status === 410 || status === 501)
    return 'the route is not there: check baseUrl; Lethe is tested with MLflow 3.17, and needs its tracking and artifact routes';
  if (status === 413 || status === 414) return 'the request is larger than this server or a proxy before it takes';
  if (status === 429)
    return 'the server asks for patience; lower callsPerMinute if this is frequent. Goes on by itself';
  if (status >= 500) return 'the server has trouble; look at its log. Goes on by itself';
  if (status === 400 && route.endsWith('/traces/search'))
    return 'the server refused the search: Lethe is tested with MLflow 3.17, and needs a database with regular expressions (SQLite, PostgreSQL or MySQL; not SQL Server)';
  return 'the server refused the request as it stands; look for a newer release';
}
