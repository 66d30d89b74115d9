import type { CheckItem } from '../port.ts';
import { StoreError } from '../port.ts';
import { instantOf } from '../values.ts';
import { mustReachMs } from './config.ts';
import { environmentsInUse } from './environments.ts';
import type { FinderParts } from './finders.ts';
import { personsOf } from './schemas.ts';

/** Recent logs looked at for how many of them carry any of the configured keys. */
const SAMPLE = 100;
/** The store's clock may be off by so much before `doctor` mentions it. */
const SKEW_MS = 60_000;

/** What `lethe doctor` says about a connection. Store errors become lines; nothing is written. */
export async function check(parts: FinderParts): Promise<readonly CheckItem[]> {
  const { api, config, lists } = parts;
  const items: CheckItem[] = [];
  const tally = api.tally(() => undefined);
  const window = lists.allTime();
  let oldestMs = Number.POSITIVE_INFINITY;
  const part = async (name: string, examine: () => Promise<Omit<CheckItem, 'name'>>): Promise<void> => {
    try {
      items.push({ name, ...(await examine()) });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const advice = error.advice === null ? '' : `. ${error.advice}`;
      items.push({ name, level: 'problem', text: `${error.message}${advice}` });
    }
  };
  for (const environment of config.environments) {
    await part(`environment ${environment}`, async () => {
      const [oldest] = await lists.logs(tally, { environment, window, narrow: null, onePageOf: 1 });
      if (oldest === undefined) return { level: 'warning', text: 'holds no log that this key can see' };
      const atMs = instantOf(oldest.timestamp) ?? instantOf(oldest.start_time);
      const since = atMs === null ? 'an unknown day' : new Date(atMs).toISOString().slice(0, 10);
      oldestMs = Math.min(oldestMs, atMs ?? Number.POSITIVE_INFINITY);
      return { level: 'ok', text: `holds logs since ${since}` };
    });
    await part(`identifiers in ${environment}`, async () => {
      const logs = await lists.logs(tally, { environment, window, narrow: null, onePageOf: SAMPLE, newestFirst: true });
      const bare = logs.filter((log) => personsOf(log, config.identifiers).length === 0).length;
      const loose = logs.filter((log) => log.trace_unique_id === null).length;
      const text = `${bare} of the ${logs.length} latest logs carry none of the configured keys and cannot be found by person; ${loose} belong to no trace`;
      return { level: bare + loose === 0 ? 'ok' : 'warning', text };
    });
  }
  if (oldestMs !== Number.POSITIVE_INFINITY) {
    const reaches = oldestMs <= mustReachMs(config, api.nowMs());
    items.push({
      name: 'reach of reads',
      level: reaches ? 'ok' : 'problem',
      text: reaches
        ? 'logs as old as startDate and retention say are visible'
        : `no log as old as startDate and retention say is visible. If none older than ${new Date(oldestMs).toISOString().slice(0, 10)} exists, make that startDate; else the store cuts time ranges`,
    });
  }
  await part('other environments', async () => {
    const others = (await environmentsInUse(parts, tally)).filter((name) => !config.environments.includes(name));
    if (others.length === 0)
      return { level: 'ok', text: 'the latest logs of all environments lie in the configured ones' };
    return { level: 'problem', text: `logs lie in ${others.join(', ')} too, which the config leaves out` };
  });
  await part('filters', async () => {
    const environment = config.environments[0] ?? '';
    await lists.traces(tally, { environment, window, narrow: { field: 'trace_unique_id', values: ['none'] } });
    await lists.logs(tally, { environment, window, narrow: { field: 'trace_unique_id', values: ['none'] } });
    return { level: 'ok', text: 'filters by trace id are honoured by both lists' };
  });
  items.push({
    name: 'right to delete',
    level: 'warning',
    text: 'cannot be read without a write: the vendor documents no scopes of keys',
  });
  await part('clock', () => {
    const { skewMs } = tally;
    if (skewMs === null) return Promise.resolve({ level: 'warning', text: 'the store sends no Date; skew is unknown' });
    const level = skewMs > SKEW_MS ? 'warning' : 'ok';
    return Promise.resolve({ level, text: `at most ${Math.round(skewMs / 1000)} s apart` });
  });
  return items;
}
