import { StoreError } from '../port.ts';
import type { Progress, Project } from '../port.ts';
import type { Tally } from '../api.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import { resolutionSchema, v1SessionsSchema, v2SessionsSchema } from './schemas.ts';

const PAGE = 100;

/** The projects of a workspace, and those that the config names. */
export class Projects {
  readonly #api: LangSmithApi;
  readonly #config: LangSmithConnection;
  /** Ids seen by the latest enumerations of this connection, in scope or not. */
  readonly everyId = new Set<string>();
  /** The workspace's project of evaluator traces; null: none, or not told. */
  evaluatorId: string | null = null;

  constructor(api: LangSmithApi, config: LangSmithConnection) {
    this.#api = api;
    this.#config = config;
  }

  /**
   * Every project the key can see, of every type, narrowed to those that the config names. An id in the config stays
   * valid when its project is renamed; a name does not.
   *
   * @throws StoreError `gone` when the config names a project that is not visible: a scope that silently shrinks would
   *   let "not found" mean less than it says (P9). Names of projects are the operator's own words, no personal data.
   */
  async inScope(progress: Progress): Promise<readonly Project[]> {
    const all = await this.all(this.#api.tally(progress));
    const wanted = this.#config.projects;
    if (wanted === undefined) return all;
    const missing = wanted.filter((name) => !all.some((project) => isNamed(project, name)));
    if (missing.length > 0) {
      const names = missing.map((name) => JSON.stringify(name)).join(', ');
      throw new StoreError({
        reason: 'gone',
        route: 'GET /api/v2/sessions',
        status: null,
        requestId: null,
        advice: `the config names projects that this key cannot see: ${names}. Renamed, deleted, or no right to read? Correct \`projects\`, or name them by id`,
      });
    }
    return all.filter((project) => wanted.some((name) => isNamed(project, name)));
  }

  /** All visible projects, the evaluators' own one included. */
  async all(tally: Tally): Promise<readonly Project[]> {
    const listed = await this.#listed(tally);
    this.evaluatorId = await this.#evaluator(tally);
    const found = listed.map((project) =>
      project.id === this.evaluatorId ? { ...project, type: 'EVALUATOR' } : project,
    );
    if (this.evaluatorId !== null && !found.some(({ id }) => id === this.evaluatorId)) {
      found.push({ id: this.evaluatorId, name: 'evaluators', type: 'EVALUATOR' });
    }
    this.everyId.clear();
    for (const { id } of found) this.everyId.add(id);
    return found;
  }

  /** v2; where the server is too old for it, v1. Without a `type` both list every type. */
  async #listed(tally: Tally): Promise<readonly Project[]> {
    const path = '/api/v2/sessions';
    try {
      return await this.#api.pages(
        tally,
        `GET ${path}`,
        async (cursor) => {
          const query: [string, string][] = [['page_size', String(PAGE)]];
          if (cursor !== null) query.push(['cursor', cursor]);
          const page = await this.#api.call(tally, { method: 'GET', path, query, shape: 'rest' }, v2SessionsSchema);
          return { rows: page.items, next: page.next_cursor };
        },
        ({ id }) => id,
      );
    } catch (error) {
      if (!(error instanceof StoreError) || error.reason !== 'gone') throw error;
      return this.#listedByV1(tally);
    }
  }

  async #listedByV1(tally: Tally): Promise<readonly Project[]> {
    const path = '/api/v1/sessions';
    const sessions = await this.#api.pages(
      tally,
      `GET ${path}`,
      async (cursor) => {
        const offset = Number(cursor ?? '0');
        const query = [
          ['offset', String(offset)],
          ['limit', String(PAGE)],
        ] as const;
        const rows = await this.#api.call(tally, { method: 'GET', path, query, shape: 'rest' }, v1SessionsSchema);
        return { rows, next: rows.length < PAGE ? null : String(offset + rows.length) };
      },
      ({ id }) => id,
    );
    return sessions.map(({ id, name, reference_dataset_id: dataset }) => ({
      id,
      name,
      type: dataset === null || dataset === undefined ? 'PROJECT' : 'EXPERIMENT',
    }));
  }

  /** 404: there is none, or the key may not read it; 501: this kind of deployment does not tell. */
  async #evaluator(tally: Tally): Promise<string | null> {
    const call = {
      method: 'GET',
      path: '/api/v1/sessions/resolutions',
      query: [['kind', 'EVALUATOR']],
      shape: 'rest',
    } as const;
    try {
      return (await this.#api.call(tally, call, resolutionSchema)).session_id;
    } catch (error) {
      if (error instanceof StoreError && (error.reason === 'gone' || error.reason === 'rejected')) return null;
      throw error;
    }
  }
}

function isNamed(project: Project, nameOrId: string): boolean {
  return project.name === nameOrId || project.id === nameOrId.toLowerCase();
}
