import { Agenda } from '../../src/simulators/common/agenda.ts';
import { RollingLimits } from '../../src/simulators/common/limits.ts';
import { Timeline } from '../../src/simulators/common/time.ts';
import type { Clock } from '../../src/erasure/clock.ts';

/** One row of a trace. */
export interface MemoryRow {
  readonly id: string;
  readonly trace: string;
  readonly project: string;
  /** Id of the row above; null for the root. */
  readonly parent: string | null;
  /** Epoch milliseconds. */
  readonly start: number;
  readonly fields: Readonly<Record<string, string | number>>;
}

/** Bad habits, all off by default. */
export interface MemoryHabits {
  /** Searches and look-ups answer "nothing there". */
  blind: boolean;
  /** Searches answer with everybody's rows. */
  filterIgnored: boolean;
  /** Reads show the state of so many virtual milliseconds ago. */
  staleMs: number;
  /** Deletions are acknowledged and never carried out. */
  dropsDeletes: boolean;
}

interface Stored {
  row: MemoryRow;
  readonly writtenMs: number;
  removedMs: number;
}

interface Clause {
  readonly field: string;
  /** Absent: any value. */
  readonly value?: string | number;
  /** Restricts the clause to one row. */
  readonly id?: string;
}

interface Query {
  readonly projects: readonly string[];
  readonly from: number;
  readonly to: number;
  readonly limit: number;
  /** Id of the last row of the page before. */
  readonly after?: string;
}

/** So long a deletion takes after it was accepted, virtual milliseconds. */
const DELETE_TAKES_MS = 60_000;
/** Per 10 s. */
const MOST_CALLS = 50;
const MOST_ROWS = 100;
const MOST_TRACES = 50;
export const MEMORY_API_KEY = 'memory-key-0001';

class Refusal extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`refused with ${status}`);
    this.status = status;
  }
}

/**
 * A trace store in memory that is called like one over HTTP: `fetch` takes requests and gives responses. Rows are kept in
 * the order of their ids, pages are keysets in that order, deletions are accepted at once and carried out a minute later.
 *
 * - `GET /projects?after=&limit=`
 * - `POST /search` `{projects, any: [{field, value?, id?}], from, to, limit, after?}`
 * - `GET /find?projects=&where=&from=&to=&limit=&after=`, `where` like `(user = "u_1") or (user = 7 and id = "r_2")`
 * - `POST /traces` `{traces: [{project, trace}], limit, after?}` and `POST /rows` `{ids}`
 * - `POST /deletions` `{project, traces}`: 202
 */
export class MemoryServer {
  readonly habits: MemoryHabits = { blind: false, filterIgnored: false, staleMs: 0, dropsDeletes: false };
  readonly #projects = new Map<string, string>();
  readonly #rows = new Map<string, Stored>();
  readonly #agenda = new Agenda();
  readonly #time: Timeline;
  readonly #limits = new RollingLimits();
  #requests = 0;
  #made = 0;

  constructor(clock: Clock, projects: readonly string[]) {
    this.#time = new Timeline(clock);
    projects.forEach((name, index) => this.#projects.set(`p_${String(index + 1).padStart(8, '0')}`, name));
  }

  /** The virtual instant, with everything done that was due by then. */
  now(): number {
    const nowMs = this.#time.now();
    this.#agenda.catchUp(nowMs);
    return nowMs;
  }

  advance(ms: number): void {
    this.#time.advance(ms);
  }

  projectId(name: string): string {
    for (const [id, of] of this.#projects) if (of === name) return id;
    throw new RangeError(`no project named ${name}`);
  }

  newId(prefix: string): string {
    this.#made += 1;
    return `${prefix}_${String(this.#made).padStart(8, '0')}`;
  }

  /** Writes a row past the API; one of the same id is replaced. */
  write(row: MemoryRow): void {
    this.#rows.set(row.id, { row, writtenMs: this.now(), removedMs: Number.POSITIVE_INFINITY });
  }

  /** Every row that is really there. */
  live(): readonly MemoryRow[] {
    this.now();
    return [...this.#rows.values()].flatMap(({ row, removedMs }) => (removedMs === Infinity ? [row] : []));
  }

  /** Removes traces at once. */
  remove(project: string, traces: readonly string[], atMs = this.now()): void {
    for (const stored of this.#rows.values()) {
      if (stored.row.project === project && traces.includes(stored.row.trace) && stored.removedMs === Infinity) {
        stored.removedMs = atMs;
      }
    }
  }

  /** Answers one request. Never rejects. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(typeof input === 'string' ? input : input instanceof URL ? input.href : input.url);
    this.#requests += 1;
    const headers = {
      'content-type': 'application/json',
      date: new Date(this.now()).toUTCString(),
      'x-request-id': `m-${this.#requests}`,
    };
    try {
      const body: unknown = typeof init?.body === 'string' ? JSON.parse(init.body) : {};
      const key = new Headers(init?.headers).get('authorization');
      if (key !== `Bearer ${MEMORY_API_KEY}`) throw new Refusal(401);
      if (this.#limits.take('key', MOST_CALLS, 10_000, this.now()) !== null) throw new Refusal(429);
      const route = `${init?.method ?? 'GET'} ${url.pathname}`;
      const answer = this.#answer(route, url.searchParams, body);
      return new Response(JSON.stringify(answer), { status: route === 'POST /deletions' ? 202 : 200, headers });
    } catch (error) {
      const status = error instanceof Refusal ? error.status : 400;
      return new Response(JSON.stringify({ error: 'refused' }), { status, headers });
    }
  };

  #answer(route: string, query: URLSearchParams, body: unknown): unknown {
    switch (route) {
      case 'GET /projects': {
        const all = [...this.#projects].map(([id, name]) => ({ id, name }));
        const { page, next } = paged(all, Number(query.get('limit')), query.get('after') ?? undefined);
        return { projects: page, next };
      }
      case 'POST /search':
        return this.#search(body as Query, (body as { any: readonly Clause[] }).any);
      case 'GET /find': {
        const after = query.get('after');
        const where = parseWhere(query.get('where') ?? '');
        const bounds = {
          from: Number(query.get('from')),
          to: Number(query.get('to')),
          limit: Number(query.get('limit')),
        };
        return this.#search(
          { projects: query.getAll('project'), ...bounds, ...(after === null ? {} : { after }) },
          where,
        );
      }
      case 'POST /traces': {
        const { traces, limit, after } = body as {
          traces: readonly { project: string; trace: string }[];
          limit: number;
          after?: string;
        };
        if (traces.length > MOST_TRACES) throw new Refusal(422);
        const wanted = new Set(traces.map(({ project, trace }) => `${project} ${trace}`));
        const rows = this.#readable().filter((row) => wanted.has(`${row.project} ${row.trace}`));
        return rowPage(rows, limit, after);
      }
      case 'POST /rows': {
        const { ids } = body as { ids: readonly string[] };
        if (ids.length > MOST_ROWS) throw new Refusal(422);
        return { rows: this.#readable().filter(({ id, trace }) => ids.includes(id) || ids.includes(trace)) };
      }
      case 'POST /deletions': {
        const { project, traces } = body as { project: string; traces: readonly string[] };
        if (!this.#projects.has(project) || traces.length === 0 || traces.length > MOST_TRACES) throw new Refusal(422);
        if (!this.habits.dropsDeletes) {
          this.#agenda.at(this.now() + DELETE_TAKES_MS, (atMs) => this.remove(project, traces, atMs));
        }
        return { accepted: traces.length };
      }
      default:
        throw new Refusal(404);
    }
  }

  #search({ projects, from, to, limit, after }: Query, any: readonly Clause[]): unknown {
    if (projects.length === 0 || any.length === 0 || !(from < to)) throw new Refusal(422);
    const inside = this.#readable().filter(
      (row) => projects.includes(row.project) && row.start >= from && row.start < to,
    );
    const rows = this.habits.filterIgnored ? inside : inside.filter((row) => any.some((clause) => fits(row, clause)));
    return rowPage(rows, limit, after);
  }

  #readable(): readonly MemoryRow[] {
    if (this.habits.blind) return [];
    const asOfMs = this.now() - this.habits.staleMs;
    return [...this.#rows.values()].flatMap(({ row, writtenMs, removedMs }) =>
      writtenMs <= asOfMs && removedMs > asOfMs ? [row] : [],
    );
  }
}

/** Exact, type included. */
function fits(row: MemoryRow, { field, value, id }: Clause): boolean {
  if (id !== undefined && row.id !== id) return false;
  return value === undefined ? Object.hasOwn(row.fields, field) : row.fields[field] === value;
}

function rowPage(rows: readonly MemoryRow[], limit: number, after: string | undefined): unknown {
  const { page, next } = paged(rows, limit, after);
  return { rows: page, next };
}

function paged<T extends { readonly id: string }>(items: readonly T[], limit: number, after: string | undefined) {
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST_ROWS) throw new Refusal(422);
  const left = items.filter(({ id }) => after === undefined || id > after).sort((a, b) => (a.id < b.id ? -1 : 1));
  const page = left.slice(0, limit);
  return { page, next: left.length > limit ? (page.at(-1)?.id ?? null) : null };
}

const TOKEN = /\s*([()=]|and\b|or\b|[a-z_]+|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?)/y;

/** Clauses in brackets, joined by `or`. @throws Refusal for anything else. */
function parseWhere(text: string): readonly Clause[] {
  const tokens: string[] = [];
  const token = new RegExp(TOKEN);
  while (token.lastIndex < text.trimEnd().length) {
    const found = token.exec(text)?.[1];
    if (found === undefined) throw new Refusal(400);
    tokens.push(found);
  }
  const take = (wanted: RegExp): string => {
    const next = tokens.shift() ?? '';
    if (!wanted.test(next)) throw new Refusal(400);
    return next;
  };
  const clauses: Clause[] = [];
  do {
    take(/^\($/);
    const field = take(/^[a-z_]+$/);
    take(/^=$/);
    const clause = { field, value: JSON.parse(take(/^["\d-]/)) as string | number };
    if (tokens[0] === 'and') {
      take(/^and$/);
      take(/^id$/);
      take(/^=$/);
      clauses.push({ ...clause, id: JSON.parse(take(/^"/)) as string });
    } else {
      clauses.push(clause);
    }
    take(/^\)$/);
  } while (tokens.length > 0 && take(/^or$/) !== '');
  return clauses;
}
