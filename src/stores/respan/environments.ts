import { z } from 'zod';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { Progress, Project, Window } from '../port.ts';
import { unique } from '../rows.ts';
import type { RespanApi } from './api.ts';
import type { RespanConnection } from './config.ts';
import type { Lists } from './lists.ts';
import { LOGS_ROUTE } from './lists.ts';

/** The backend's own choices (vendor's MCP server, `lib/production/params.ts`): these exist even when they are empty. */
const KNOWN: readonly string[] = ['prod', 'stage', 'test'];
const SAMPLE = 1000;

/**
 * The configured environments; the API lists none. Of a name that is not the vendor's at least one log must be visible: a
 * wrong one finds nothing, which would look like success.
 *
 * @throws StoreError `gone` when a name shows nothing. Names of environments are the operator's own words.
 */
export async function environments(
  api: RespanApi,
  config: RespanConnection,
  lists: Lists,
  progress: Progress,
): Promise<readonly Project[]> {
  const tally = api.tally(progress);
  for (const environment of config.environments) {
    if (KNOWN.includes(environment)) continue;
    const found = await lists.logs(tally, { environment, window: lists.allTime(), narrow: null, onePageOf: 1 });
    if (found.length > 0) continue;
    throw new StoreError({
      reason: 'gone',
      route: `POST ${LOGS_ROUTE}`,
      status: null,
      requestId: null,
      advice: `the environment ${JSON.stringify(environment)} shows no log at all: the store knows ${KNOWN.join(', ')}. Correct \`environments\``,
    });
  }
  return config.environments.map((name) => ({ id: name, name, type: 'ENVIRONMENT' }));
}

const anyLogsSchema = z.object({ results: z.array(z.object({ environment: z.string() })) });

/** Environments among the latest logs of the whole organisation. */
export async function environmentsInUse(api: RespanApi, tally: Tally, window: Window): Promise<readonly string[]> {
  const { results } = await api.call(
    tally,
    {
      method: 'POST',
      path: LOGS_ROUTE,
      query: [
        ['start_time', new Date(window.fromMs).toISOString()],
        ['end_time', new Date(window.toMs).toISOString()],
        ['all_envs', 'true'],
        ['page', '1'],
        ['page_size', String(SAMPLE)],
        ['include_fields', 'unique_id,environment'],
      ],
      body: { filters: {} },
      shape: 'any',
    },
    anyLogsSchema,
  );
  return unique(results.map(({ environment }) => environment)).filter((name) => /^[a-z0-9_-]{1,64}$/i.test(name));
}
