import { z } from 'zod';
import type { CheckItem, Project } from '../port.ts';
import { StoreError } from '../port.ts';
import type { MlflowApi } from './api.ts';
import type { Experiments } from './experiments.ts';
import { proxiedPath } from './experiments.ts';
import type { Shape } from './schemas.ts';
import type { Traces } from './traces.ts';
import { MOST_EXPERIMENTS } from './traces.ts';

export interface CheckParts {
  readonly api: MlflowApi;
  readonly experiments: Experiments;
  readonly shape: Shape;
  readonly traces: Traces;
}

/** The server's clock may be off by so much before `doctor` mentions it. */
const SKEW_MS = 60_000;

const serverInfoSchema = z.object({ store_type: z.string(), trace_archival_enabled: z.boolean().nullish() });

/** What `lethe doctor` says about a connection. Store errors become lines; nothing is written. */
export async function check({ api, experiments, shape, traces }: CheckParts): Promise<readonly CheckItem[]> {
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

  await part('server', async () => {
    const path = '/api/3.0/mlflow/server-info';
    const info = await api.call(tally, { method: 'GET', path, shape: 'any' }, serverInfoSchema);
    if (info.store_type !== 'SqlStore') {
      return { level: 'problem', text: 'this server keeps no traces in a database: only those can be searched' };
    }
    if (info.trace_archival_enabled !== true) return { level: 'ok', text: 'traces in a database, none archived' };
    const text =
      'old spans move to an archive: the server removes them first and keeps the trace when that fails, so that it is deleted again';
    return { level: 'warning', text };
  });
  let projects: readonly Project[] = [];
  const listed = await part('experiments', async () => {
    projects = await experiments.inScope(progress);
    const deleted = projects.filter(({ type }) => type !== 'EXPERIMENT').length;
    const text = `${projects.length} visible, ${deleted} of them deleted, which keep their traces`;
    return (await experiments.mayBeHidden(tally))
      ? { level: 'warning', text: `${text}; the account is no administrator: others may be hidden from it` }
      : { level: 'ok', text };
  });
  if (listed) {
    await part('files', async () => {
      const all = await experiments.list(tally);
      const elsewhere = [...all.values()].filter(
        ({ artifactLocation }) => proxiedPath(artifactLocation) === null,
      ).length;
      if (elsewhere === 0) return { level: 'ok', text: 'files of traces are behind the server' };
      const text = `files of traces of ${elsewhere} experiments lie outside the server: Lethe names them and cannot delete them`;
      return { level: 'warning', text };
    });
    await part('identifiers', async () => {
      const experimentIds = projects.slice(0, MOST_EXPERIMENTS).map(({ id }) => id);
      const { infos } = await traces.search(tally, { experimentIds, filter: null, pageSize: 100, mostPages: 1 });
      if (infos.length === 0) return { level: 'warning', text: 'no trace to judge the configured keys by' };
      const bare = infos.filter((info) => shape.rowOf(info).persons.length === 0).length;
      const text = `${bare} of ${infos.length} traces carry none of the configured metadata keys and tags; span attributes are not counted`;
      return { level: bare === 0 ? 'ok' : 'warning', text };
    });
  }
  await part('right to delete', () =>
    Promise.resolve({
      level: 'warning',
      text: 'cannot be read without a write: with basic authentication the account needs EDIT on every experiment; an administrator has it',
    }),
  );
  await part('clock', () => {
    const { skewMs } = tally;
    if (skewMs === null)
      return Promise.resolve({ level: 'warning', text: 'the server sends no Date; skew is unknown' });
    const level = skewMs > SKEW_MS ? 'warning' : 'ok';
    return Promise.resolve({ level, text: `at most ${Math.round(skewMs / 1000)} s apart` });
  });
  return items;
}
