import { DAY_MS } from '../../erasure/rhythm.ts';
import type { CheckItem, Project } from '../port.ts';
import { StoreError } from '../port.ts';
import type { BraintrustApi } from './api.ts';
import type { Objects } from './objects.ts';
import { eq } from './query.ts';
import type { Rows } from './rows.ts';
import { MOST_OBJECTS } from './rows.ts';

export interface CheckParts {
  readonly api: BraintrustApi;
  readonly objects: Objects;
  readonly rows: Rows;
}

/** Recent root spans looked at for how many of them carry any of the configured keys. */
const SAMPLE = 100;
/** The store's clock may be off by so much before `doctor` mentions it. */
const SKEW_MS = 60_000;

/** What `lethe doctor` says about a connection. Store errors become lines; nothing is written. */
export async function check({ api, objects, rows }: CheckParts): Promise<readonly CheckItem[]> {
  const items: CheckItem[] = [];
  const progress = (): void => undefined;
  const state = rows.state(progress);
  const { tally } = state;
  const part = async (name: string, examine: () => Promise<Omit<CheckItem, 'name'>>): Promise<boolean> => {
    try {
      const item = await examine();
      items.push({ name, ...item });
      return item.level !== 'problem';
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const advice = error.advice === null ? '' : `. ${error.advice}`;
      items.push({ name, level: 'problem', text: `${error.message}${advice}` });
      return false;
    }
  };

  const loggedIn = await part('login', async () => {
    const { apiUrl } = await api.session(tally);
    return { level: 'ok', text: `one organization; its data plane is ${new URL(apiUrl).host}` };
  });
  if (!loggedIn) return items;
  let projects: readonly Project[] = [];
  const listed = await part('projects', async () => {
    projects = await objects.inScope(progress);
    if (projects.length === 0) return { level: 'problem', text: 'no project is visible to this key' };
    const off = projects.filter(({ id }) => objects.withoutLiveReads.has(id)).length;
    if (off === 0) return { level: 'ok', text: `${projects.length} projects` };
    const text = `${off} of ${projects.length} projects have live reads switched off (disable_realtime_queries): nothing can be proven there`;
    return { level: 'problem', text };
  });
  if (listed) {
    await part('identifiers', async () => {
      const toMs = api.nowMs();
      const page = await rows.page(
        state,
        {
          source: 'project_logs',
          ids: projects.slice(0, MOST_OBJECTS).map(({ id }) => id),
          filter: eq(['is_root'], true),
          window: { fromMs: toMs - 7 * DAY_MS, toMs },
        },
        { limit: SAMPLE, newestFirst: true },
      );
      const bare = page.rows.filter(({ persons }) => persons.length === 0).length;
      if (page.rows.length === 0) {
        return { level: 'warning', text: 'no trace in the last 7 days to judge the configured keys by' };
      }
      const text = `${bare} of the ${page.rows.length} latest root spans carry none of the configured keys; a trace is found by person when any of its spans carries one`;
      return { level: bare === 0 ? 'ok' : 'warning', text };
    });
    for (const { kind, source } of objects.examined) {
      await part(kind, async () => {
        const ids = await objects.list(tally, source);
        const calls = Math.ceil(ids.length / MOST_OBJECTS);
        const text = `${ids.length}; searching them takes ${calls} queries for each search`;
        return calls <= 3
          ? { level: 'ok', text }
          : { level: 'warning', text: `${text}. Leave them out of \`copies\` if that is too many` };
      });
    }
  }
  await part('right to delete', () =>
    Promise.resolve({
      level: 'warning',
      text: 'cannot be read without a write, and the vendor does not say which right a tombstone needs: make sure that the key may write and delete project logs',
    }),
  );
  await part('clock', () => {
    const { skewMs } = tally;
    if (skewMs === null) return Promise.resolve({ level: 'warning', text: 'the store sends no Date; skew is unknown' });
    const level = skewMs > SKEW_MS ? 'warning' : 'ok';
    return Promise.resolve({ level, text: `at most ${Math.round(skewMs / 1000)} s apart` });
  });
  return items;
}
