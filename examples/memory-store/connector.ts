import { z } from 'zod';
import { MINUTE_MS } from '../../src/erasure/rhythm.ts';
import { StoreApi, type ApiParts, type Page, type Tally } from '../../src/stores/api.ts';
import {
  acceptSchema,
  apiKeySchema,
  baseUrlSchema,
  identifiersSchema,
  threadsSchema,
} from '../../src/stores/connection.ts';
import { ControlPool } from '../../src/stores/control-pool.ts';
import type { KillSwitch } from '../../src/stores/kill-switch.ts';
import type { HttpAnswer } from '../../src/stores/http.ts';
import {
  StoreError,
  type Control,
  type ControlQuery,
  type ControlsFound,
  type DeleteOrder,
  type Finder,
  type FindQuery,
  type Located,
  type LocateQuery,
  type LookupQuery,
  type Project,
  type Read,
  type Receipt,
  type Row,
  type StoreTraits,
  type TraceStore,
  type Window,
} from '../../src/stores/port.ts';
import { chunks, keyOf, pairsOf, resembles, seenIn, Union } from '../../src/stores/rows.ts';
import { valuesAt } from '../../src/stores/values.ts';

const fieldSchema = z.string().regex(/^[a-z_]{1,64}$/, 'must be a field: lower-case letters and _');

/** A memory store as a connection. */
export const memoryConnectionSchema = z.strictObject({
  store: z.literal('memory'),
  baseUrl: baseUrlSchema(),
  apiKey: apiKeySchema,
  /** For each kind of identifier the fields under which rows carry it. */
  identifiers: identifiersSchema(fieldSchema),
  /** Fields under which rows carry their conversation; none switches following conversations off. */
  threads: threadsSchema(fieldSchema, ['thread']),
  /** Limits that the controller has accepted; this store has none. */
  accept: acceptSchema('the memory store', []),
  /** Rows per page. */
  pageSize: z.int().min(1).max(100).default(100),
});

export type MemoryConnection = z.output<typeof memoryConnectionSchema>;

export interface MemoryParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

const ID_PATTERN = /^[prt]_\d{8}$/;
/** What one call takes. */
const MOST_TRACES = 50;
const MOST_ROW_IDS = 100;
const MOST_CLAUSES = 60;

const rowsSchema = z.object({
  rows: z.array(
    z.object({
      id: z.string().regex(ID_PATTERN),
      trace: z.string().regex(ID_PATTERN),
      project: z.string().min(1),
      start: z.number(),
      fields: z.record(z.string(), z.unknown()),
    }),
  ),
});
const pageSchema = rowsSchema.extend({ next: z.string().min(1).nullable() });
const projectsSchema = z.object({
  projects: z.array(z.object({ id: z.string().min(1), name: z.string() })),
  next: z.string().min(1).nullable(),
});
const deletionSchema = z.object({ accepted: z.int().min(0) });

type Shape = 'read' | 'delete';
type WireRow = z.output<typeof rowsSchema>['rows'][number];

/** One alternative of a search: rows with this value, or with any, in this field; perhaps one row only. */
interface Clause {
  readonly field: string;
  readonly value?: string | number;
  readonly id?: string;
}

function traitsOf(config: MemoryConnection): StoreTraits {
  return {
    store: 'memory',
    idPattern: ID_PATTERN,
    deletesBy: 'trace',
    mostIdsPerDelete: MOST_TRACES,
    pageTokens: 'keyset',
    mostSpellingsPerFind: MOST_CLAUSES / 4,
    pageSize: config.pageSize,
    rhythm: { kind: 'continuous', settleMs: 10 * MINUTE_MS, spreadMs: MINUTE_MS },
    readLagMs: 0,
    cutLength: null,
    acceptanceProvesNot: 'A 202 proves only that the request arrived; deletions are carried out a minute later.',
    limits: ['Rows that carry none of the configured fields are not found by person.'],
    copyMap: [],
  };
}

/** The example of docs/adding-a-store.md: everything a connector needs, and nothing else. Makes no call by itself. */
export function openMemory(config: MemoryConnection, parts: MemoryParts): TraceStore {
  const connector = new MemoryConnector(config, parts);
  return {
    traits: connector.traits,
    normaliseId: (id) => (ID_PATTERN.test(id.trim().toLowerCase()) ? id.trim().toLowerCase() : null),
    check: async () => {
      const projects = await connector.projects(() => undefined);
      return [{ name: 'projects', level: projects.length > 0 ? 'ok' : 'problem', text: `${projects.length} visible` }];
    },
    projects: (progress) => connector.projects(progress),
    finders: [connector.finder('search', connector.search), connector.finder('find', connector.findByText)],
    threads: config.threads,
    lookups: [{ name: 'traces', lookup: (query) => connector.lookup(query) }],
    locate: (query) => connector.locate(query),
    controls: (query) => connector.controls(query),
    copies: async () => ({ copies: [], outOfReach: [], notExamined: [], reports: [] }),
    lookupCopies: async () => ({ left: [], reports: [] }),
    submit: (order) => connector.submit(order),
  };
}

/** Asks for one page of what the clauses match. */
type Search = (tally: Tally, question: Question, after: string | null) => Promise<Page<WireRow>>;

interface Question {
  readonly projectIds: readonly string[];
  readonly any: readonly Clause[];
  readonly window: Window;
}

class MemoryConnector {
  readonly traits: StoreTraits;
  readonly #config: MemoryConnection;
  readonly #api: StoreApi<Shape>;
  readonly #killSwitch: KillSwitch;

  constructor(config: MemoryConnection, parts: MemoryParts) {
    this.#config = config;
    this.#killSwitch = parts.killSwitch;
    this.traits = traitsOf(config);
    this.#api = new StoreApi<Shape>({
      ...parts,
      baseUrl: config.baseUrl,
      headers: { authorization: `Bearer ${config.apiKey}` },
      limits: { all: { calls: 50, perMs: 10_000 } },
      shapes: { read: ['all'], delete: ['all'] },
      advise,
    });
  }

  projects(progress: () => void): Promise<readonly Project[]> {
    const tally = this.#api.tally(progress);
    return this.#api
      .pages(
        tally,
        'GET /projects',
        async (after) => {
          const query = [['limit', '100'] as const, ...(after === null ? [] : [['after', after] as const])];
          const call = { method: 'GET', path: '/projects', query, shape: 'read' } as const;
          const { projects, next } = await this.#api.call(tally, call, projectsSchema);
          return { rows: projects, next };
        },
        ({ id }) => id,
      )
      .then((all) => all.map(({ id, name }) => ({ id, name, type: 'PROJECT' })));
  }

  /** The structured search: values travel as JSON and need no quoting. */
  readonly search: Search = async (tally, { projectIds, any, window }, after) => {
    const body = {
      projects: projectIds,
      any,
      from: window.fromMs,
      to: window.toMs,
      limit: this.#config.pageSize,
      ...(after === null ? {} : { after }),
    };
    return this.#api.call(tally, { method: 'POST', path: '/search', body, shape: 'read' }, pageSchema);
  };

  /** The text search: another endpoint, another language. A literal of it is a JSON text, so quotes and backslashes stay inside. */
  readonly findByText: Search = async (tally, { projectIds, any, window }, after) => {
    const where = any.map(({ field, value, id }) => {
      const only = id === undefined ? '' : ` and id = ${JSON.stringify(id)}`;
      return `(${field} = ${JSON.stringify(value)}${only})`;
    });
    const query: (readonly [string, string])[] = [
      ...projectIds.map((id) => ['project', id] as const),
      ['where', where.join(' or ')],
      ['from', String(window.fromMs)],
      ['to', String(window.toMs)],
      ['limit', String(this.#config.pageSize)],
      ...(after === null ? [] : [['after', after] as const]),
    ];
    return this.#api.call(tally, { method: 'GET', path: '/find', query, shape: 'read' }, pageSchema);
  };

  finder(name: string, search: Search): Finder {
    return { name, find: (query) => this.#find(search, query) };
  }

  async #find(search: Search, { projects, terms, window, controls, progress }: FindQuery): Promise<Read> {
    const tally = this.#api.tally(progress);
    const union = new Union();
    const projectIds = projects.map(({ id }) => id);
    // A text that looks like an integer may have been written as a number: both are asked for (P15).
    for (const pairs of chunks(pairsOf(terms), Math.floor((MOST_CLAUSES - controls.length) / 2))) {
      const any = [
        ...pairs.flatMap(({ key, text }) => [
          { field: key, value: text },
          ...(isSafeInteger(text) ? [{ field: key, value: Number(text) }] : []),
        ]),
        // In the same call, and by the same sort of clause: what shows them would have shown the person (P6).
        ...controls.map(({ value, runId }) => ({
          field: value.key,
          value: value.numeric ? Number(value.text) : value.text,
          id: runId,
        })),
      ];
      const route = search === this.search ? 'POST /search' : 'GET /find';
      const rows = await this.#rows(tally, route, (after) => search(tally, { projectIds, any, window }, after));
      const controlRows = new Set(controls.map(keyOf));
      const theirs = rows.filter((row) => pairs.some((pair) => resembles(row, pair)));
      const strange = rows.some((row) => !theirs.includes(row) && !controlRows.has(keyOf(row)));
      if (strange || rows.some(({ projectId }) => !projectIds.includes(projectId))) {
        throw this.#api.broken(tally, route, 'rows came back that were not asked for: the store ignored the filter');
      }
      union.add({ rows: theirs, seen: seenIn(rows, controls) }, controls);
    }
    return this.#read(tally, 'find', window, controls, union);
  }

  async lookup({ traces, window, controls, progress }: LookupQuery): Promise<Read> {
    const tally = this.#api.tally(progress);
    const union = new Union();
    for (const some of chunks(traces, MOST_TRACES - controls.length)) {
      const keys = [...some, ...controls].map(({ projectId, traceId }) => ({ project: projectId, trace: traceId }));
      const rows = await this.#rows(tally, 'POST /traces', async (after) => {
        const body = { traces: keys, limit: this.#config.pageSize, ...(after === null ? {} : { after }) };
        return this.#api.call(tally, { method: 'POST', path: '/traces', body, shape: 'read' }, pageSchema);
      });
      const asked = new Set(some.map(({ projectId, traceId }) => `${projectId} ${traceId}`));
      const known = new Set(keys.map(({ project, trace }) => `${project} ${trace}`));
      const place = ({ projectId, traceId }: Row): string => `${projectId} ${traceId}`;
      if (rows.some((row) => !known.has(place(row)))) {
        throw this.#api.broken(tally, 'POST /traces', 'rows of traces came back that were not asked for');
      }
      union.add({ rows: rows.filter((row) => asked.has(place(row))), seen: seenIn(rows, controls) }, controls);
    }
    return this.#read(tally, 'lookup', window, controls, union);
  }

  async locate({ ids, projects, window, controls, progress }: LocateQuery): Promise<Located> {
    const tally = this.#api.tally(progress);
    const union = new Union();
    for (const some of chunks(ids, MOST_ROW_IDS - controls.length)) {
      const body = { ids: [...some, ...controls.map(({ runId }) => runId)] };
      const call = { method: 'POST', path: '/rows', body, shape: 'read' } as const;
      const rows = (await this.#api.call(tally, call, rowsSchema)).rows.map((row) => this.#rowOf(row));
      const theirs = rows.filter(({ runId, traceId }) => some.includes(runId) || some.includes(traceId));
      union.add({ rows: theirs, seen: seenIn(rows, controls) }, controls);
    }
    const known = new Set(projects.map(({ id }) => id));
    const wrongKind = new Map(ids.filter((id) => known.has(id)).map((id) => [id, 'project']));
    return { ...this.#read(tally, 'locate', window, controls, union), wrongKind };
  }

  async controls({ projects, terms, window, want, exclude, progress }: ControlQuery): Promise<ControlsFound> {
    const tally = this.#api.tally(progress);
    const keys = [...new Set(terms.flatMap((term) => term.keys))];
    const pool = new ControlPool(keys, want, exclude);
    const silent: { projectId: string; holdsRuns: boolean }[] = [];
    for (const { id } of projects) {
      const any = keys.map((field) => ({ field }));
      const question = { projectIds: [id], any, window };
      pool.add(await this.#rows(tally, 'POST /search', (after) => this.search(tally, question, after)));
      // Without a search for "any row at all" it must be taken for one that holds some.
      if (!pool.speaks(id)) silent.push({ projectId: id, holdsRuns: true });
    }
    return { controls: pool.offer(), silent, reports: [tally.report('controls', window)] };
  }

  async submit({ projectId, traces, lastWord, progress }: DeleteOrder): Promise<Receipt> {
    const tally = this.#api.tally(progress);
    const body = { project: projectId, traces: traces.map(({ traceId }) => traceId) };
    const call = { method: 'POST', path: '/deletions', body, shape: 'delete', read: false, lastWord } as const;
    const { data, answer } = await this.#api.answer(tally, call, deletionSchema);
    if (data.accepted > traces.length) {
      this.#killSwitch.trip('an answer to a delete counted more traces than were sent');
      throw rejected(answer);
    }
    return {
      sentAtMs: answer.sentAtMs,
      acknowledgedAtMs: answer.receivedAtMs,
      route: answer.route,
      status: answer.status,
      requestId: answer.requestId,
    };
  }

  async #rows(tally: Tally, route: string, page: (after: string | null) => Promise<Page<WireRow>>): Promise<Row[]> {
    const rows = await this.#api.pages(tally, route, page, ({ id }) => id);
    return rows.map((row) => this.#rowOf(row));
  }

  #rowOf({ id, trace, project, start, fields }: WireRow): Row {
    const persons = Object.entries(this.#config.identifiers).flatMap(([kind, keys]) =>
      keys.flatMap((key) => valuesAt(fields, key).map((value) => ({ kind, key, ...value }))),
    );
    const threads = this.#config.threads.flatMap((key) => valuesAt(fields, key).map((value) => ({ key, ...value })));
    const marks = { shared: false, queued: false, inDataset: false, feedback: false };
    return { projectId: project, traceId: trace, runId: id, startMs: start, persons, threads, marks };
  }

  #read(
    tally: Tally,
    purpose: 'find' | 'lookup' | 'locate',
    window: Window,
    controls: readonly Control[],
    union: Union,
  ): Read {
    const { rows, seen } = union.found;
    return {
      rows,
      controlsSeen: controls.map((control) => seen.has(control)),
      report: tally.report(purpose, window, controls.length, seen.size),
    };
  }
}

/** A number that JavaScript prints as it was written. */
function isSafeInteger(text: string): boolean {
  return Number.isSafeInteger(Number(text)) && String(Number(text)) === text;
}

function rejected(answer: HttpAnswer): StoreError {
  const { route, status, requestId } = answer;
  const advice = 'the store says that it deletes more than it was asked to; deletes are switched off';
  return new StoreError({ reason: 'rejected', route, status, requestId, advice });
}

/** In our words: what a store writes may name a person (P31). */
function advise({ status }: HttpAnswer): string | undefined {
  if (status === 401 || status === 403) return 'the store refuses the key: check apiKey';
  if (status === 404) return 'the route is not there: check baseUrl';
  return undefined;
}
