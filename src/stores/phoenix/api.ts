import { z } from 'zod';
import type { ZodType, output } from 'zod';
import type { ApiParts, Tally } from '../api.ts';
import { StoreApi } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import { contractBroken } from '../http.ts';
import { StoreError } from '../port.ts';
import type { PhoenixConnection } from './config.ts';
import type { CallShape } from './traits.ts';
import { CALL_SHAPES, limitsOfCalls } from './traits.ts';

const GRAPHQL = '/graphql';
export const GRAPHQL_ROUTE = `POST ${GRAPHQL}`;

/** Most aliases of one query, by the server's own limiter. */
export const MOST_ALIASES = 50;

/** Errors come with status 200. */
const graphqlSchema = z.object({ data: z.unknown(), errors: z.array(z.unknown()).nullish() });

export interface Question {
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** @default true */
  readonly read?: boolean;
  readonly lastWord?: () => Promise<void>;
}

/** Thrown when GraphQL answers with errors of its own: of a delete, nothing was done. */
export class GraphqlRefusal extends StoreError {}

/** The calls of one connection: REST and GraphQL of the same server. */
export class PhoenixApi extends StoreApi<CallShape> {
  constructor(config: PhoenixConnection, parts: ApiParts) {
    super({
      ...parts,
      baseUrl: config.baseUrl,
      headers: config.apiKey === undefined ? {} : { authorization: `Bearer ${config.apiKey}` },
      limits: limitsOfCalls(config.callsPerSecond),
      shapes: CALL_SHAPES,
      dailyCalls: config.dailyCalls,
      advise: adviceFor,
    });
  }

  /** Asks by GraphQL. @throws GraphqlRefusal when the answer holds errors, whatever else it holds. */
  async ask<S extends ZodType>(tally: Tally, question: Question, schema: S): Promise<output<S>> {
    return (await this.asked(tally, question, schema)).data;
  }

  /** As `ask`, with the answer itself. */
  async asked<S extends ZodType>(
    tally: Tally,
    { query, variables, read, lastWord }: Question,
    schema: S,
  ): Promise<{ readonly data: output<S>; readonly answer: HttpAnswer }> {
    const { data, answer } = await this.answer(
      tally,
      {
        method: 'POST',
        path: GRAPHQL,
        body: { query, variables },
        shape: 'any',
        ...(read === undefined ? {} : { read }),
        ...(lastWord === undefined ? {} : { lastWord }),
      },
      graphqlSchema,
    );
    if ((data.errors ?? []).length > 0) {
      const { route, status, requestId } = answer;
      const advice = 'GraphQL answered with errors: is the server of version 20 or newer, and may the key do this?';
      throw new GraphqlRefusal({ reason: 'unreachable', route, status, requestId, advice });
    }
    const parsed = schema.safeParse(data.data);
    if (!parsed.success) {
      throw contractBroken(
        answer,
        'the answer lacks documented fields; the API may have changed, look for a newer release',
      );
    }
    return { data: parsed.data, answer };
  }
}

function adviceFor({ status }: HttpAnswer): string | undefined {
  if (status >= 300 && status < 400)
    return 'redirects are not followed: set baseUrl to the address of the server itself';
  if (status === 401) return 'the key is missing, wrong or expired: check apiKey';
  if (status === 403) return 'the key lacks the right for this: viewers can’t delete; use a system or member key';
  if (status === 404 || status === 410 || status === 501)
    return 'the route is not there: check baseUrl and the version of the server (20 or newer)';
  if (status === 413 || status === 431) return 'the request is larger than this server, or a proxy before it, takes';
  if (status === 429) return 'a proxy before the server asks for patience. Goes on by itself';
  if (status === 507) return 'the storage of the server is full. Goes on by itself once there is room';
  if (status >= 500) return 'the server has trouble; look at its log. Goes on by itself';
  return 'the server refused the request as it stands; look for a newer release';
}
