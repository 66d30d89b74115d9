import type { output, ZodType } from 'zod';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { Progress, Project } from '../port.ts';
import type { BraintrustApi } from './api.ts';
import type { BraintrustConnection } from './config.ts';
import type { Source } from './query.ts';
import { objectsSchema, projectsSchema } from './schemas.ts';

const PAGE = 1000;

/** Kinds of objects besides projects whose rows are searched, and the copies that these are. */
const OTHERS = [
  { kind: 'datasets', source: 'dataset' },
  { kind: 'experiments', source: 'experiment' },
] as const satisfies readonly { kind: string; source: Source }[];
export type Other = (typeof OTHERS)[number];

/** What an organization holds: its projects, datasets and experiments. */
export class Objects {
  readonly #api: BraintrustApi;
  readonly #config: BraintrustConnection;
  /** Ids of all projects by the latest enumeration, in scope or not. */
  readonly everyId = new Set<string>();
  /** Projects whose settings switch live reads off. */
  readonly withoutLiveReads = new Set<string>();
  /** Those that the config does not leave out. */
  readonly examined: readonly Other[];

  constructor(api: BraintrustApi, config: BraintrustConnection) {
    this.#api = api;
    this.#config = config;
    this.examined = OTHERS.filter(({ kind }) => config.copies.includes(kind));
  }

  /**
   * Every project of the organization that the key can see, narrowed to those that the config names. An id in the config
   * stays valid when its project is renamed; a name does not.
   *
   * @throws StoreError `gone` when the config names a project that is not visible or a name that several have: a scope
   *   that silently shrinks would let "not found" mean less than it says (P9). Names of projects are the operator's own
   *   words, no personal data.
   */
  async inScope(progress: Progress): Promise<readonly Project[]> {
    const all = await this.#projects(this.#api.tally(progress));
    const wanted = this.#config.projects;
    if (wanted === undefined) return all;
    const named = wanted.map((name) => ({ name, of: all.filter((project) => isNamed(project, name)) }));
    const unclear = named.filter(({ of }) => of.length !== 1).map(({ name }) => JSON.stringify(name));
    if (unclear.length > 0) {
      throw new StoreError({
        reason: 'gone',
        route: 'GET /v1/project',
        status: null,
        requestId: null,
        advice: `the config names projects that fit none or several of those that this key sees: ${unclear.join(', ')}. Renamed, deleted, or no right to read? Correct \`projects\`, or name them by id`,
      });
    }
    const ids = new Set(named.flatMap(({ of }) => of.map(({ id }) => id)));
    return all.filter(({ id }) => ids.has(id));
  }

  async #projects(tally: Tally): Promise<readonly Project[]> {
    const { orgId } = await this.#api.session(tally);
    const listed = await this.#listed(tally, '/v1/project', projectsSchema);
    const live = listed.filter(({ org_id: org, deleted_at: deleted }) => org === orgId && (deleted ?? null) === null);
    this.everyId.clear();
    this.withoutLiveReads.clear();
    for (const { id, settings } of live) {
      this.everyId.add(id);
      if (settings?.disable_realtime_queries === true) this.withoutLiveReads.add(id);
    }
    return live.map(({ id, name }) => ({ id, name, type: 'PROJECT' }));
  }

  /** Ids of all datasets or experiments of the organization that are not deleted. */
  async list(tally: Tally, source: Other['source']): Promise<readonly string[]> {
    const listed = await this.#listed(tally, `/v1/${source}`, objectsSchema);
    return listed.flatMap(({ id, deleted_at: deleted }) => ((deleted ?? null) === null ? [id] : []));
  }

  /** Entries of one of the organization's lists; see `#listed`. */
  entries<S extends ZodType<{ readonly objects: readonly { readonly id: string }[] }>>(
    tally: Tally,
    path: string,
    schema: S,
  ): Promise<readonly output<S>['objects'][number][]> {
    return this.#listed(tally, path, schema);
  }

  /**
   * Newest first, each page after the last id of the one before, until an empty one: servers may have a lower limit than
   * the one asked for, and a short page is no end.
   */
  async #listed<S extends ZodType<{ readonly objects: readonly { readonly id: string }[] }>>(
    tally: Tally,
    path: string,
    schema: S,
  ): Promise<readonly output<S>['objects'][number][]> {
    const { orgName } = await this.#api.session(tally);
    return this.#api.pages<output<S>['objects'][number]>(
      tally,
      `GET ${path}`,
      async (cursor) => {
        const query: [string, string][] = [
          ['org_name', orgName],
          ['limit', String(PAGE)],
        ];
        if (cursor !== null) query.push(['starting_after', cursor]);
        const call = { method: 'GET', path, query, shape: 'control' } as const;
        const { objects } = await this.#api.call(tally, call, schema);
        return { rows: objects, next: objects.at(-1)?.id ?? null };
      },
      ({ id }) => id,
    );
  }
}

function isNamed(project: Project, nameOrId: string): boolean {
  return project.name === nameOrId || project.id === nameOrId.toLowerCase();
}
