import { z } from 'zod';
import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { ControlsFound, Progress, Project, ProjectAside } from '../port.ts';
import { unique } from '../rows.ts';
import type { RespanApi } from './api.ts';
import type { RespanConnection } from './config.ts';
import { maxWindowMs } from './config.ts';
import type { Lists } from './lists.ts';
import { LOGS_ROUTE } from './lists.ts';
import type { Shared } from './shared.ts';

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

/** How long it is used which environments hold logs, virtual milliseconds: one call for all who read meanwhile. */
const IN_USE_MS = 5 * MINUTE_MS;

/** Real milliseconds at least: it is a page of a thousand rows, and a fast clock would have it read all the time. */
const LEAST_IN_USE_MS = 10_000;

/**
 * Environments that hold logs and that the config leaves out, as far as the latest logs show: for the record, which says
 * what was not examined (P9). A server that refuses this one question hides nothing of what is searched.
 */
export async function environmentsLeftOut(
  { api, config, lists, inUse }: { api: RespanApi; config: RespanConnection; lists: Lists; inUse: Shared },
  tally: Tally,
): Promise<Pick<ControlsFound, 'leftOut' | 'unreachable'>> {
  const aside = (name: string, why: string): ProjectAside => ({ id: name, name, type: 'ENVIRONMENT', why });
  try {
    const look = (): Promise<readonly string[]> => environmentsInUse({ api, config, lists }, tally);
    const used = await inUse.get('environments', IN_USE_MS, look, LEAST_IN_USE_MS);
    const others = used.filter((name) => !config.environments.includes(name));
    return { leftOut: others.map((name) => aside(name, 'holds logs, and the config leaves it out: not searched')) };
  } catch (error) {
    // A wrong key is the trouble of every call, and told as such by the others.
    const refused =
      error instanceof StoreError && (['gone', 'rejected'].includes(error.reason) || error.status === 403);
    if (!refused) throw error;
    return { unreachable: [aside('(others)', 'the store did not say which other environments hold logs')] };
  }
}

const anyLogsSchema = z.object({ results: z.array(z.object({ environment: z.string() })) });

/** Environments among the latest logs of the whole organisation; of the latest days, where a call takes no more. */
export async function environmentsInUse(
  { api, config, lists }: { api: RespanApi; config: RespanConnection; lists: Lists },
  tally: Tally,
): Promise<readonly string[]> {
  const widthMs = maxWindowMs(config);
  const nowMs = api.nowMs();
  const window = widthMs === null ? lists.allTime() : { fromMs: nowMs - widthMs, toMs: nowMs };
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
        ['sort_by', '-timestamp'],
        ['include_fields', 'unique_id,environment'],
      ],
      body: { filters: {} },
      shape: 'any',
    },
    anyLogsSchema,
  );
  const printable = (name: string): string => (/^[a-z0-9_-]{1,64}$/i.test(name) ? name : '(unprintable)');
  return unique(results.map(({ environment }) => printable(environment)));
}
