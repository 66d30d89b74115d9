import type { Tally } from '../api.ts';
import type { Progress, Project } from '../port.ts';
import { StoreError } from '../port.ts';
import type { MlflowApi } from './api.ts';
import type { MlflowConnection } from './config.ts';
import { currentUserSchema, experimentsSchema } from './schemas.ts';

const PATH = '/api/2.0/mlflow/experiments/search';
const ROUTE = `POST ${PATH}`;
const PAGE = 1000;
const USER = '/api/2.0/mlflow/users/current';

interface Experiment {
  readonly id: string;
  readonly name: string;
  readonly deleted: boolean;
  readonly artifactLocation: string | null;
}

/** The experiments that the account may see, deleted ones included: their traces can still be read. */
export class Experiments {
  readonly #api: MlflowApi;
  readonly #scope: ReadonlySet<string> | null;
  #latest: ReadonlyMap<string, Experiment> = new Map();

  constructor(api: MlflowApi, { experiments }: Pick<MlflowConnection, 'experiments'>) {
    this.#api = api;
    this.#scope = experiments === undefined ? null : new Set(experiments);
  }

  /**
   * Every visible one of the scope, read anew (P9).
   *
   * @throws StoreError `denied` when one that the config names is not visible: whoever may not read it is told nothing.
   */
  async inScope(progress: Progress): Promise<readonly Project[]> {
    const all = await this.list(this.#api.tally(progress));
    for (const id of this.#scope ?? []) {
      if (all.has(id)) continue;
      const advice =
        'an experiment that the config names is not visible: the account may not read it, or it is gone for good; the server does not tell which. Give the account the right, or leave the experiment out';
      throw new StoreError({ reason: 'denied', route: ROUTE, status: 200, requestId: null, advice });
    }
    return [...all.values()]
      .filter(({ id }) => this.#scope?.has(id) ?? true)
      .map(({ id, name, deleted }) => ({ id, name, type: deleted ? 'DELETED EXPERIMENT' : 'EXPERIMENT' }));
  }

  /** Whether the account may be kept from experiments of the scope without being told. */
  async mayBeHidden(tally: Tally): Promise<boolean> {
    if (this.#scope !== null) return false;
    try {
      const call = { method: 'GET', path: USER, shape: 'any' } as const;
      const { user } = await this.#api.call(tally, call, currentUserSchema);
      return !user.is_admin;
    } catch (error) {
      // A server without authentication of its own has no users.
      if (error instanceof StoreError && error.reason === 'gone') return false;
      throw error;
    }
  }

  /** Ids of those in scope, as last read. */
  async idsInScope(tally: Tally): Promise<readonly string[]> {
    const all = this.#latest.size > 0 ? this.#latest : await this.list(tally);
    return [...all.keys()].filter((id) => this.#scope?.has(id) ?? true);
  }

  /** Ids of every visible one, in scope or not, read anew. */
  async everyId(tally: Tally): Promise<readonly string[]> {
    return [...(await this.list(tally)).keys()];
  }

  /**
   * Read anew.
   *
   * @throws StoreError `contract-broken` when there is none: every server has a default one that cannot be removed.
   */
  async list(tally: Tally): Promise<ReadonlyMap<string, Experiment>> {
    const read = await this.#api.pages(
      tally,
      ROUTE,
      async (cursor) => {
        const body = { max_results: PAGE, view_type: 'ALL', ...(cursor === null ? {} : { page_token: cursor }) };
        const answer = await this.#api.call(
          tally,
          { method: 'POST', path: PATH, body, shape: 'any' },
          experimentsSchema,
        );
        const next = answer.next_page_token ?? '';
        return { rows: answer.experiments, next: next === '' ? null : next };
      },
      (one) => one.experiment_id,
      true,
    );
    if (read.length === 0) {
      throw this.#api.broken(tally, ROUTE, 'the server lists no experiment: the account may not read any of them');
    }
    this.#latest = new Map(
      read.map((one) => [
        one.experiment_id,
        {
          id: one.experiment_id,
          name: one.name,
          deleted: one.lifecycle_stage !== 'active',
          artifactLocation: one.artifact_location ?? null,
        },
      ]),
    );
    return this.#latest;
  }

  /** The folder behind the server's artifact route in which traces of an experiment keep their files, or null. */
  async rootOf(tally: Tally, experimentId: string): Promise<string | null> {
    const known = this.#latest.get(experimentId) ?? (await this.list(tally)).get(experimentId);
    const folder = proxiedPath(known?.artifactLocation ?? null);
    return folder === null ? null : `${folder}/traces`;
  }
}

/** The path of an artifact location that the server itself serves, or null when the files lie elsewhere. */
export function proxiedPath(location: string | null): string | null {
  const [, path = ''] = /^mlflow-artifacts:(?:\/\/[^/]*)?\/(.+)$/.exec(location ?? '') ?? [];
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0 || parts.some((part) => part === '.' || part === '..' || part.includes('\\'))) return null;
  return parts.join('/');
}
