import { randomUUID } from 'node:crypto';
import { DAY_MS } from '../../erasure/rhythm.ts';
import { StoreError } from '../port.ts';
import type { CheckItem } from '../port.ts';
import type { Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import type { Projects } from './projects.ts';
import type { Reader } from './reads.ts';
import { MOST_PROJECTS } from './reads.ts';
import { valuesAt } from '../values.ts';
import { bareKey, deleteSchema, infoSchema, workspacesSchema } from './schemas.ts';

export interface CheckParts {
  readonly api: LangSmithApi;
  readonly config: LangSmithConnection;
  readonly projects: Projects;
  readonly reader: Reader;
  /** v1, or undefined when switched off. */
  readonly v1: Reader | undefined;
}

/** Recent runs looked at for how many of them carry any of the configured keys. */
const SAMPLE = 100;
/** The store's clock may be off by so much before `doctor` mentions it. */
const SKEW_MS = 60_000;

/** What `lethe doctor` says about a connection. Store errors become lines; nothing is written unless configured. */
export async function check({ api, config, projects, reader, v1 }: CheckParts): Promise<readonly CheckItem[]> {
  const items: CheckItem[] = [];
  const tally = api.tally(() => undefined);
  const part = async (name: string, examine: () => Promise<Omit<CheckItem, 'name'> | null>): Promise<boolean> => {
    try {
      const item = await examine();
      if (item !== null) items.push({ name, ...item });
      return item?.level !== 'problem';
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const advice = error.advice === null ? '' : `. ${error.advice}`;
      items.push({ name, level: 'problem', text: `${error.message}${advice}` });
      return false;
    }
  };

  await part('server', async () => {
    const { version, instance_flags: flags } = await api.call(
      tally,
      { method: 'GET', path: '/info', shape: 'rest' },
      infoSchema,
    );
    return {
      level: 'ok',
      text: `LangSmith ${/^[\w.+-]*$/.test(version) ? version : '(odd version)'}, ${backend(flags)}`,
    };
  });
  await part('workspaces', async () => {
    const call = { method: 'GET', path: '/api/v1/workspaces', shape: 'rest' } as const;
    const workspaces = await api.call(tally, call, workspacesSchema);
    if (workspaces.length <= 1) return { level: 'ok', text: `${workspaces.length} workspace visible` };
    const text = `${workspaces.length} workspaces visible: each one that holds traces needs a connection of its own`;
    return { level: 'warning', text };
  });
  const readable = await part('projects', async () => {
    const found = await projects.inScope(tally.progress);
    if (found.length === 0) return { level: 'problem', text: 'no project is visible to this key' };
    return { level: 'ok', text: `${found.length} projects: ${countTypes(found.map(({ type }) => type))}` };
  });
  if (readable) await part('identifiers', () => unlabelled(api, config, projects, reader, tally));
  await part('v1 reads', async () => {
    if (v1 === undefined) {
      return { level: 'warning', text: 'switched off: reads have a single path, which is reported as an exception' };
    }
    const toMs = api.nowMs();
    const projectIds = [...projects.everyId].slice(0, 1);
    if (projectIds.length === 0) return null;
    await v1.runs(tally, { projectIds, window: { fromMs: toMs - DAY_MS, toMs }, mostPages: 1, pageSize: 1 });
    const daysLeft = Math.floor((api.v1EndsMs - toMs) / DAY_MS);
    if (daysLeft > 60) return { level: 'ok', text: `answer; announced to end in ${daysLeft} days` };
    const text = daysLeft > 0 ? `answer; announced to end in ${daysLeft} days` : 'answer past their announced end';
    return { level: 'warning', text };
  });
  await part('right to delete', async () => {
    if (!config.probeDelete) {
      return {
        level: 'warning',
        text: 'cannot be read without a write: make sure the key has runs:delete (Workspace Admin), or set probeDelete to test it with a random id that no trace has',
      };
    }
    const project = [...projects.everyId][0];
    if (project === undefined) return null;
    const body = { session_id: project, trace_ids: [randomUUID()] };
    const call = { method: 'POST', path: '/api/v1/runs/delete', body, shape: 'rest', read: false } as const;
    await api.call(tally, call, deleteSchema);
    return { level: 'ok', text: 'a delete of a random id was accepted' };
  });
  await part('clock', () => {
    const skewMs = tally.skewMs;
    if (skewMs === null) return Promise.resolve({ level: 'warning', text: 'the store sends no Date; skew is unknown' });
    const level = skewMs > SKEW_MS ? 'warning' : 'ok';
    return Promise.resolve({ level, text: `at most ${Math.round(skewMs / 1000)} s apart` });
  });
  return items;
}

async function unlabelled(
  api: LangSmithApi,
  config: LangSmithConnection,
  projects: Projects,
  reader: Reader,
  tally: Tally,
): Promise<Omit<CheckItem, 'name'>> {
  const toMs = api.nowMs();
  const { runs } = await reader.runs(tally, {
    projectIds: [...projects.everyId].slice(0, MOST_PROJECTS),
    window: { fromMs: toMs - 7 * DAY_MS, toMs },
    rootsOnly: true,
    mostPages: 1,
    pageSize: SAMPLE,
  });
  const keys = Object.values(config.identifiers).flat().map(bareKey);
  const bare = runs.filter(({ metadata }) => !keys.some((key) => valuesAt(metadata, key).length > 0)).length;
  if (runs.length === 0)
    return { level: 'warning', text: 'no trace in the last 7 days to judge the configured keys by' };
  const text = `${bare} of the ${runs.length} latest traces carry none of the configured keys and cannot be found by person`;
  return { level: bare === 0 ? 'ok' : 'warning', text };
}

/** Absent flags mean ClickHouse only, according to the vendor's self-hosting code. */
function backend(flags: Readonly<Record<string, unknown>> | null | undefined): string {
  const clickHouse = flags?.['ch_query_enabled'] !== false;
  const smithDb = flags?.['sdb_query_enabled'] === true;
  if (clickHouse && smithDb) return 'reads from ClickHouse and SmithDB';
  return smithDb ? 'reads from SmithDB' : 'reads from ClickHouse';
}

function countTypes(types: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const type of types) counts.set(type, (counts.get(type) ?? 0) + 1);
  return [...counts].map(([type, count]) => `${count} ${/^\w{1,40}$/.test(type) ? type : 'other'}`).join(', ');
}
