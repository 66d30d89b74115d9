import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { Progress, Project } from '../port.ts';
import type { PhoenixApi } from './api.ts';
import type { PhoenixConnection } from './config.ts';
import { projectsSchema } from './schemas.ts';

const PATH = '/v1/projects';
const PAGE = 1000;

/** Names that the server gives to the projects of its experiments (its source, `experiments/utils`). */
const EXPERIMENT_NAME = /^Experiment-[0-9a-f]{24}$/;

/** The projects that the key sees. */
export class Projects {
  readonly #api: PhoenixApi;
  readonly #wanted: readonly string[] | undefined;

  constructor(api: PhoenixApi, { projects }: PhoenixConnection) {
    this.#api = api;
    this.#wanted = projects;
  }

  /**
   * Every project, narrowed to those that the config names.
   *
   * @throws StoreError `gone` when the config names a project that is not visible: a scope that silently shrinks would let
   *   "not found" mean less than it says (P9). Names of projects are the operator's own words, no personal data.
   */
  async inScope(progress: Progress): Promise<readonly Project[]> {
    const all = await this.#listed(this.#api.tally(progress));
    const wanted = this.#wanted;
    if (wanted === undefined) return all;
    const missing = wanted.filter((name) => !all.some((project) => isNamed(project, name)));
    if (missing.length > 0) {
      const names = missing.map((name) => JSON.stringify(name)).join(', ');
      throw new StoreError({
        reason: 'gone',
        route: `GET ${PATH}`,
        status: null,
        requestId: null,
        advice: `the config names projects that are not there: ${names}. A project is there from its first span on. Correct \`projects\`, or name them by id`,
      });
    }
    return all.filter((project) => wanted.some((name) => isNamed(project, name)));
  }

  /** Both flags are off by default: traces of experiments and evaluators would be left out. */
  async #listed(tally: Tally): Promise<readonly Project[]> {
    const listed = await this.#api.pages(
      tally,
      `GET ${PATH}`,
      async (cursor) => {
        const query: [string, string][] = [
          ['limit', String(PAGE)],
          ['include_experiment_projects', 'true'],
          ['include_dataset_evaluator_projects', 'true'],
        ];
        if (cursor !== null) query.push(['cursor', cursor]);
        const call = { method: 'GET', path: PATH, query, shape: 'any' } as const;
        const page = await this.#api.call(tally, call, projectsSchema);
        return { rows: page.data, next: page.next_cursor };
      },
      ({ id }) => id,
    );
    return listed.map(({ id, name }) => ({ id, name, type: typeOf(name) }));
  }
}

export const EXPERIMENT = 'EXPERIMENT';

function typeOf(name: string): string {
  return EXPERIMENT_NAME.test(name) ? EXPERIMENT : 'PROJECT';
}

function isNamed(project: Project, nameOrId: string): boolean {
  return project.name === nameOrId || project.id === nameOrId;
}
