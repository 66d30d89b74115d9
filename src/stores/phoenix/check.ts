import type { CheckItem, Project } from '../port.ts';
import { StoreError } from '../port.ts';
import type { PhoenixApi } from './api.ts';
import type { Projects } from './projects.ts';
import { viewerSchema } from './schemas.ts';
import type { Spans } from './spans.ts';
import { MOST_PROJECTS } from './spans.ts';
import { projectSpansSchema } from './schemas.ts';

export interface CheckParts {
  readonly api: PhoenixApi;
  readonly projects: Projects;
  readonly spans: Spans;
}

/** Recent root spans of each project looked at for how many of them carry any of the configured attributes. */
const SAMPLE = 20;
/** The store's clock may be off by so much before `doctor` mentions it. */
const SKEW_MS = 60_000;

/** What `lethe doctor` says about a connection. Store errors become lines; nothing is written. */
export async function check({ api, projects, spans }: CheckParts): Promise<readonly CheckItem[]> {
  const items: CheckItem[] = [];
  const progress = (): void => undefined;
  const tally = api.tally(progress);
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

  let seen: readonly Project[] = [];
  const listed = await part('projects', async () => {
    seen = await projects.inScope(progress);
    return seen.length === 0
      ? { level: 'problem', text: 'no project is there' }
      : { level: 'ok', text: `${seen.length} projects` };
  });
  if (!listed) return items;
  await part('identifiers', async () => {
    const places = seen.slice(0, MOST_PROJECTS).map(({ id }) => ({ id, after: null }));
    const options = { condition: 'parent_id is None', first: SAMPLE, newestFirst: true };
    const roots = (await spans.page(tally, places, options, projectSpansSchema)).flatMap(({ rows }) => rows);
    if (roots.length === 0) return { level: 'warning', text: 'no trace to judge the configured attributes by' };
    const bare = roots.filter(({ persons }) => persons.length === 0).length;
    const text = `${bare} of the ${roots.length} latest root spans carry none of the configured attributes; a trace is found by person when any of its spans carries one`;
    return { level: bare === 0 ? 'ok' : 'warning', text };
  });
  await part('right to delete', async () => {
    const { viewer } = await api.ask(
      tally,
      { query: 'query Viewer { viewer { role { name } } }', variables: {} },
      viewerSchema,
    );
    if (viewer?.role.name === 'VIEWER') {
      return { level: 'problem', text: 'this is the key of a viewer, who can’t delete: use a system or member key' };
    }
    return { level: 'ok', text: viewer === null ? 'no user is named: a system key, or no authentication' : 'given' };
  });
  await part('database', () =>
    Promise.resolve({
      level: 'warning',
      text: 'the text of deleted rows stays in the database file until it is vacuumed, and in backups; no call of the API shows either',
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
