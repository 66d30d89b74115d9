import type { Answer } from '../common/http.ts';
import { fingerprint, isUuid } from '../common/ids.ts';
import { record, type Json } from '../common/json.ts';
import { DAY_MS } from '../common/time.ts';
import {
  alternatives,
  compile,
  conjuncts,
  identPath,
  isBounded,
  literalValue,
  pathsIn,
  type Evaluate,
  type Expression,
  type Lookup,
} from './expressions.ts';
import { refuse, sees, type Call } from './http.ts';
import type { QueryShape } from './ledger.ts';
import { at, rootOf, type ObjectType, type Row, type Version } from './rows.ts';
import type { ObjectRows, Place } from './state.ts';

/**
 * Rows that a query without a limit brings. That a default applies is documented, its number is not: 100 is this
 * simulator's choice, small enough that whoever relies on it notices.
 */
const DEFAULT_LIMIT = 100;
const SOURCES: readonly string[] = ['project_logs', 'experiment', 'dataset', 'playground_logs'];
const AGGREGATES = new Set(['max', 'min', 'count', 'sum']);
/** Fields of a filter that say which row, not whose. */
const BY_ROW = new Set(['id', 'root_span_id', 'span_id', 'created', '_xact_id', '_pagination_key', 'is_root']);

interface Selected {
  readonly alias: string;
  readonly value: Evaluate;
}

interface Measure {
  readonly alias: string;
  readonly name: string;
  readonly value: Evaluate | null;
}

interface Sort {
  readonly path: string;
  readonly descending: boolean;
}

interface Query {
  readonly sources: readonly ObjectRows[];
  readonly type: ObjectType;
  readonly shape: Exclude<QueryShape, 'aggregate'>;
  /** `null`: everything (`star`). */
  readonly select: readonly Selected[] | null;
  readonly dimensions: readonly Selected[];
  readonly measures: readonly Measure[];
  readonly filter: Expression | null;
  readonly sort: Sort;
  readonly limit: number;
  readonly cursor: string | null;
}

/** Which state a query reads, and what it says about that. */
interface View {
  readonly shownMs: number;
  readonly unawareMs: number;
  /** A transaction of the past, `null` for now. */
  readonly version: string | null;
  readonly freshness: { last_considered_xact_id: string; last_processed_xact_id: string } | null;
  readonly realtime: Json;
}

/** A row as the query sees it. */
interface Seen {
  readonly row: Row;
  readonly version: Version;
  readonly source: ObjectRows;
}

function bad(what: string): never {
  throw refuse(400, `BTQL: ${what}`);
}

function list(value: unknown, name: string): Json[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) return bad(`${name} must be a list`);
  return value.map((one) => record(one) ?? bad(`${name} holds something that is no node`));
}

function aliasOf(item: Json, expression: Json): string {
  if (typeof item['alias'] === 'string') return item['alias'];
  return identPath(expression)?.join('.') ?? bad('an expression needs an alias');
}

function selected(items: readonly Json[]): Selected[] {
  return items.map((item) => {
    const expression = record(item['expr']) ?? item;
    return { alias: aliasOf(item, expression), value: compile(expression) };
  });
}

function measure(item: Json): Measure {
  const expression = record(item['expr']) ?? item;
  const [name = ''] = identPath(expression['name']) ?? [];
  if (expression['op'] !== 'function' || !AGGREGATES.has(name)) return bad('a measure must be max, min, count or sum');
  const [argument] = list(expression['args'], 'args');
  const star = argument === undefined || argument['op'] === 'star';
  if (star && name !== 'count') return bad(`${name} needs an argument`);
  const alias = typeof item['alias'] === 'string' ? item['alias'] : name;
  return { alias, name, value: star ? null : compile(argument) };
}

function sourcesOf(call: Call, from: Json): { type: ObjectType; sources: ObjectRows[] } {
  const { world, nowMs } = call;
  const [name = ''] = identPath(from['name']) ?? [];
  if (from['op'] !== 'function' || !SOURCES.includes(name)) return bad(`unsupported source ${JSON.stringify(name)}`);
  const type = name as ObjectType;
  const args = list(from['args'], 'args');
  if (args.length === 0) return bad('the source names no object');
  const sources = args.map((argument) => {
    const id = literalValue(argument);
    if (!isUuid(id)) return bad('the source must name objects by their UUID');
    const place: Place = { objectType: type, objectId: id.toLowerCase() };
    const project = world.state.projectOf(place);
    if (project === null || !sees(call, project.orgId) || !world.state.exists(place, nowMs)) {
      throw refuse(403, 'BTQL: no access to an object, or it does not exist');
    }
    return world.state.rowsIn(place);
  });
  return { type, sources };
}

function sortOf(value: unknown): Sort {
  const items = list(value, 'sort');
  const [first] = items;
  if (first === undefined) return { path: '_pagination_key', descending: true };
  const path = identPath(first['expr'])?.join('.') ?? '';
  if (items.length > 1 || !['_pagination_key', 'created', '_xact_id'].includes(path)) {
    return bad('this simulator sorts by _pagination_key, created or _xact_id alone');
  }
  const direction = first['dir'] ?? 'asc';
  if (direction !== 'asc' && direction !== 'desc') return bad('sort direction must be asc or desc');
  return { path, descending: direction === 'desc' };
}

function parsed(call: Call, body: Json): Query {
  const query = record(body['query']);
  if (query === null) return bad('this simulator takes parsed queries only, not SQL or BTQL text');
  const { world, entry } = call;
  const from = record(query['from']) ?? bad('from is missing');
  const { type, sources } = sourcesOf(call, from);
  entry.objectIds = sources.map((one) => one.objectId);
  if (type === 'project_logs' && sources.length === 1) entry.projectId = sources[0]?.objectId ?? null;
  const given = query['limit'] ?? null;
  if (given !== null && (typeof given !== 'number' || !Number.isInteger(given) || given < 0)) return bad('bad limit');
  if (given !== null && given > world.mostRowsPerPage) return bad(`limit must not exceed ${world.mostRowsPerPage}`);
  const shape = from['shape'] ?? 'spans';
  if (shape !== 'spans' && shape !== 'traces' && shape !== 'summary') return bad('unknown shape');
  const measures = list(query['measures'], 'measures').map(measure);
  const dimensions = selected(list(query['dimensions'], 'dimensions'));
  entry.limit = given;
  entry.shape = measures.length + dimensions.length > 0 ? 'aggregate' : shape;
  const select = list(query['select'], 'select');
  if (select.length === 0 && entry.shape !== 'aggregate') return bad('select is missing');
  const cursor = query['cursor'] ?? null;
  if (cursor !== null && typeof cursor !== 'string') return bad('bad cursor');
  return {
    sources,
    type,
    shape,
    select: select.some((item) => item['op'] === 'star') ? null : selected(select),
    dimensions,
    measures,
    filter: record(query['filter']),
    sort: sortOf(query['sort']),
    limit: given ?? world.habits.current.defaultLimit ?? DEFAULT_LIMIT,
    cursor,
  };
}

function viewOf(call: Call, body: Json, query: Query): View {
  const { world, entry, nowMs } = call;
  const habits = world.habits.current;
  const asked = body['brainstore_realtime'] === true;
  const version = body['version'] ?? null;
  if (version !== null && typeof version !== 'string') return bad('version must be a transaction id');
  entry.realtime = asked;
  entry.version = version;
  const projects = query.sources.map((source) => world.state.projectOf(source)?.id ?? '');
  const live = asked && !projects.some((id) => world.realtimeDisabled(id));
  const knownMs = nowMs - habits.stale;
  const indexedMs = knownMs - world.indexLagMs;
  const shownMs = Math.min(
    live && !habits.realtimeExhausted ? knownMs : indexedMs,
    habits.freshnessLagMs > 0 ? nowMs - habits.freshnessLagMs : Infinity,
  );
  const newest = (atMs: number): string =>
    query.sources.map((source) => source.xactAt(atMs)).reduce((left, right) => (left > right ? left : right), '0');
  const considered = newest(knownMs - habits.unawareMs);
  const processed =
    live && habits.realtimeExhausted ? considered : newest(Math.min(shownMs, knownMs - habits.unawareMs));
  return {
    shownMs,
    unawareMs: habits.unawareMs,
    version,
    freshness: habits.freshnessAbsent
      ? null
      : { last_considered_xact_id: considered, last_processed_xact_id: processed },
    realtime: {
      type: !live ? 'off' : habits.realtimeExhausted ? 'exhausted_timeout' : 'on',
      minimum_xact_id: live ? newest(indexedMs) : null,
      actual_xact_id: live ? processed : null,
      read_bytes: 0,
      timeout_ms: live && habits.realtimeExhausted ? 1000 : 0,
    },
  };
}

function versionSeen(row: Row, view: View): Version | null {
  return view.version === null ? row.versionAt(view.shownMs, view.unawareMs) : row.versionAtXact(view.version);
}

/** Server-assigned fields and stored content of a row. */
function lookup(call: Call, { row, version, source }: Seen): Lookup {
  const data = version.data ?? {};
  return (path) => {
    switch (path[0]) {
      case 'id':
        return row.id;
      case '_xact_id':
        return version.xact;
      case '_pagination_key':
        return row.paginationKey;
      case 'is_root':
        return isRoot(data);
      case 'org_id':
        return call.world.state.projectOf(row)?.orgId ?? null;
      case 'project_id':
        return call.world.state.projectOf(row)?.id ?? null;
      case 'comments':
        return commentsOn(call, source, row);
      case 'audit_data':
        return row.versions.map(audit);
      default:
        return at(data, path);
    }
  };
}

function isRoot(data: Json): boolean | null {
  if (rootOf(data) === null) return null;
  const parents = data['span_parents'];
  return !Array.isArray(parents) || parents.length === 0;
}

function audit(version: Version): Json {
  return { _xact_id: version.xact, audit_data: { action: version.action } };
}

function commentsOn(call: Call, source: ObjectRows, row: Row): Json[] | null {
  const comments = source.commentsOn(row.id).flatMap((one): Json[] => {
    const data = one.versionAt(call.nowMs)?.data ?? null;
    return data === null ? [] : [data];
  });
  return comments.length === 0 ? null : comments;
}

const IDS: Record<ObjectType, string> = {
  project_logs: 'project_id',
  experiment: 'experiment_id',
  dataset: 'dataset_id',
  playground_logs: 'prompt_session_id',
};

/** A row with all its fields. */
export function whole(call: Call, seen: Seen): Json {
  const field = lookup(call, seen);
  const { row, version } = seen;
  const named = (name: string): unknown => field([name]) ?? null;
  return {
    input: null,
    output: null,
    metadata: null,
    tags: null,
    span_id: null,
    root_span_id: null,
    span_parents: null,
    origin: null,
    ...version.data,
    ...Object.fromEntries(
      ['id', '_xact_id', '_pagination_key', 'is_root', 'org_id', 'project_id', 'comments'].map((name) => [
        name,
        named(name),
      ]),
    ),
    [IDS[row.objectType]]: row.objectId,
    ...(row.objectType === 'project_logs' ? { log_id: 'g' } : {}),
    ...(row.objectType === 'playground_logs' ? { log_id: 'x' } : {}),
  };
}

/** First position in the rows whose pagination key is not below `key`. */
function positionOf(rows: readonly Row[], key: string): number {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle]?.paginationKey ?? '') < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows among which all matches are, oldest pagination key first. */
function candidates(source: ObjectRows, filter: Expression | null): readonly Row[] {
  let best: Row[] | null = null;
  let [from, to] = [0, source.rows.length];
  for (const { op, path, values } of conjuncts(filter)) {
    const name = path.join('.');
    if (name === '_pagination_key' && typeof values[0] === 'string') {
      if (op === 'gt' || op === 'ge') from = Math.max(from, positionOf(source.rows, values[0]));
      if (op === 'lt' || op === 'le') to = Math.min(to, positionOf(source.rows, values[0]) + 1);
    }
    if (op !== 'eq' && op !== 'in') continue;
    const found = indexed(source, path, values);
    if (found !== null && (best === null || found.length < best.length)) best = found;
  }
  best ??= amongAlternatives(source, filter);
  if (best === null) return from === 0 && to === source.rows.length ? source.rows : source.rows.slice(from, to);
  return [...new Set(best)].sort(byKey);
}

/** The rows that one branch or another of an `or` allows, where the indexes tell them for every branch. */
function amongAlternatives(source: ObjectRows, filter: Expression | null): Row[] | null {
  for (const branches of alternatives(filter)) {
    const found = branches.map((branch) => {
      const known = conjuncts(branch).flatMap(({ op, path, values }) =>
        op === 'eq' || op === 'in' ? [indexed(source, path, values)] : [],
      );
      return known.find((rows) => rows !== null) ?? amongAlternatives(source, branch);
    });
    if (found.every((rows) => rows !== null)) return found.flat();
  }
  return null;
}

function indexed(source: ObjectRows, path: readonly string[], values: readonly unknown[]): Row[] | null {
  const [first, ...rest] = path;
  if (first === 'id' && rest.length === 0) return values.flatMap((value) => source.livesOf(String(value)));
  if (first === 'root_span_id' && rest.length === 0) return values.flatMap((value) => source.rowsOfRoot(String(value)));
  // Lists and objects are compared whole; the index holds leaves.
  if (first !== 'metadata' || values.some((value) => record(value) !== null)) return null;
  return values.flatMap((value) => source.rowsWith(rest.join('.'), JSON.stringify(value)));
}

function byKey(left: Row, right: Row): number {
  return left.paginationKey < right.paginationKey ? -1 : left.paginationKey > right.paginationKey ? 1 : 0;
}

/** What a query sees and filters by, with the habits that change both. */
class Engine {
  readonly #call: Call;
  readonly #query: Query;
  readonly #view: View;
  readonly #scope: string | null;
  readonly #filter: Expression | null;
  readonly #matches: Evaluate;

  constructor(call: Call, query: Query, view: View, scope: string | null) {
    this.#call = call;
    this.#query = query;
    this.#view = view;
    this.#scope = scope;
    this.#filter = call.world.habits.current.filterIgnored ? null : query.filter;
    // Checked even when a habit ignores it.
    const matches = query.filter === null ? () => true : compile(query.filter);
    this.#matches = this.#filter === null ? () => true : matches;
  }

  see(source: ObjectRows, row: Row): Seen | null {
    const { retentionDays, commentRowsHidden } = this.#call.world.habits.current;
    if (retentionDays !== null && row.createdMs < this.#call.nowMs - retentionDays * DAY_MS) return null;
    if (commentRowsHidden && row.isComment) return null;
    const version = versionSeen(row, this.#view);
    return version === null ? null : { row, version, source };
  }

  #blind(): boolean {
    const paths = pathsIn(this.#query.filter).map((path) => path[0] ?? '');
    return this.#call.world.habits.isBlind({
      present: this.#query.filter !== null,
      byPerson: paths.some((path) => !BY_ROW.has(path)),
      byIds: paths.some((path) => path === 'id' || path === 'root_span_id'),
    });
  }

  /** The matching rows in the order asked for. */
  *matching(): Generator<Seen> {
    if (this.#blind()) return;
    const { sort, sources } = this.#query;
    const pools = sources.map((source) => ({ source, rows: candidates(source, this.#filter) }));
    if (sort.path === '_pagination_key' && pools.length === 1) {
      const [pool] = pools;
      if (pool === undefined) return;
      const { rows, source } = pool;
      for (let step = 0; step < rows.length; step += 1) {
        const row = rows[sort.descending ? rows.length - 1 - step : step];
        const seen = row === undefined ? null : this.#match(source, row);
        if (seen !== null) yield seen;
      }
      return;
    }
    const all = pools.flatMap(({ source, rows }) => rows.flatMap((row) => this.#match(source, row) ?? []));
    const sign = sort.descending ? -1 : 1;
    const value = ({ row, version }: Seen): string | number =>
      sort.path === 'created' ? row.createdMs : sort.path === '_xact_id' ? version.xact : row.paginationKey;
    yield* all
      .map((seen) => ({ seen, value: value(seen) }))
      .sort((a, b) => sign * (a.value < b.value ? -1 : a.value > b.value ? 1 : byKey(a.seen.row, b.seen.row)))
      .map(({ seen }) => seen);
  }

  #match(source: ObjectRows, row: Row): Seen | null {
    const seen = this.see(source, row);
    if (seen === null) return null;
    if (this.#scope !== null && rootOf(seen.version.data ?? {}) !== this.#scope) return null;
    return this.#matches(lookup(this.#call, seen)) === true ? seen : null;
  }

  /** All visible rows of the trace a row says it is in; itself alone when it says none. */
  trace({ row, version, source }: Seen): Seen[] {
    const root = rootOf(version.data ?? {});
    if (root === null) return [{ row, version, source }];
    return source
      .rowsOfRoot(root)
      .flatMap((one) => this.see(source, one) ?? [])
      .filter((one) => rootOf(one.version.data ?? {}) === root);
  }
}

interface Page {
  readonly rows: Seen[];
  readonly cursor: string | null;
}

/** Cursors stand for the last key read; under the habit of shifting pages, for an offset. */
function paged(call: Call, query: Query, found: Iterable<Seen>, keyOf: (seen: Seen) => string): Page {
  const shift = call.world.habits.current.shiftingPages;
  const print = fingerprint([query.sources.map((one) => one.objectId), query.shape, query.filter, query.sort]);
  const byKeys = query.sort.path === '_pagination_key';
  if (query.cursor !== null && !byKeys) return bad('a cursor works with the order of _pagination_key only');
  const [givenPrint, mark = ''] =
    query.cursor === null ? [print] : Buffer.from(query.cursor, 'base64url').toString().split('.');
  if (givenPrint !== print || (query.cursor !== null && mark === '')) return bad('the cursor is not of this query');
  const rows: Seen[] = [];
  const offset = shift !== null && query.cursor !== null ? Math.max(0, Number(mark) + shift.by) : 0;
  let skipped = 0;
  for (const seen of found) {
    if (rows.length >= query.limit) break;
    if (shift !== null && skipped < offset) {
      skipped += 1;
      continue;
    }
    const key = keyOf(seen);
    if (shift === null && query.cursor !== null && (query.sort.descending ? key >= mark : key <= mark)) continue;
    rows.push(seen);
  }
  const last = rows.at(-1);
  const full = byKeys && last !== undefined && rows.length === query.limit;
  const next = shift === null ? (last === undefined ? '' : keyOf(last)) : String(offset + rows.length);
  return { rows, cursor: full ? Buffer.from(`${print}.${next}`).toString('base64url') : null };
}

/** One row for each trace with a matching row: its first by key, so that pages neither split nor repeat traces. */
function traces(engine: Engine, query: Query): { heads: Seen[]; all: Map<string, Seen[]> } {
  const all = new Map<string, Seen[]>();
  const heads: Seen[] = [];
  const done = new Set<string>();
  for (const seen of engine.matching()) {
    const root = rootOf(seen.version.data ?? {});
    const key = `${seen.source.objectId} ${root ?? seen.row.paginationKey}`;
    if (done.has(key)) continue;
    done.add(key);
    const rows = engine.trace(seen).sort((left, right) => byKey(left.row, right.row));
    const head = rows[0] ?? seen;
    heads.push(head);
    all.set(head.row.paginationKey, rows);
  }
  if (query.sort.path === '_pagination_key') {
    heads.sort((left, right) => (query.sort.descending ? -1 : 1) * byKey(left.row, right.row));
  }
  return { heads, all };
}

function aggregated(call: Call, query: Query, engine: Engine): Json[] {
  const groups = new Map<string, { keys: Json; values: unknown[][]; rows: number }>();
  for (const seen of engine.matching()) {
    const field = lookup(call, seen);
    const keys = Object.fromEntries(query.dimensions.map(({ alias, value }) => [alias, value(field) ?? null]));
    const name = JSON.stringify(keys);
    const group = groups.get(name) ?? { keys, values: query.measures.map(() => []), rows: 0 };
    groups.set(name, group);
    group.rows += 1;
    query.measures.forEach((one, index) => group.values[index]?.push(one.value?.(field) ?? null));
  }
  if (groups.size === 0 && query.dimensions.length === 0) {
    groups.set('', { keys: {}, values: query.measures.map(() => []), rows: 0 });
  }
  return [...groups.values()].slice(0, query.limit).map(({ keys, values, rows }) => ({
    ...keys,
    ...Object.fromEntries(
      query.measures.map((one, index) => [
        one.alias,
        one.value === null ? rows : reduced(one.name, values[index] ?? []),
      ]),
    ),
  }));
}

function reduced(name: string, values: readonly unknown[]): unknown {
  const given = values.filter(
    (value): value is string | number => typeof value === 'string' || typeof value === 'number',
  );
  if (name === 'count') return values.filter((value) => value !== null).length;
  if (given.length === 0) return null;
  if (name === 'sum') return given.reduce<number>((sum, value) => sum + Number(value), 0);
  return given.reduce((left, right) => (left > right === (name === 'max') ? left : right));
}

/** History entries instead of rows: one for each version of a matching id, also of deleted ones. */
function history(call: Call, query: Query): Json[] {
  const matches = query.filter === null ? () => true : compile(query.filter);
  const entries = query.sources.flatMap((source) =>
    candidates(source, query.filter).flatMap((row) =>
      row.versions.flatMap((version) => {
        const seen = { row, version, source };
        if (matches(lookup(call, seen)) !== true) return [];
        const { data } = version;
        return [
          {
            id: row.id,
            _xact_id: version.xact,
            _pagination_key: row.paginationKey,
            created: new Date(version.atMs).toISOString(),
            root_span_id: data === null ? null : rootOf(data),
            audit_data: {
              action: version.action === 'delete' ? 'upsert' : version.action,
              _object_delete: data === null,
            },
          },
        ];
      }),
    ),
  );
  entries.sort((left, right) => (left._xact_id < right._xact_id ? -1 : left._xact_id > right._xact_id ? 1 : 0));
  return (query.sort.descending ? entries.reverse() : entries).slice(0, query.limit);
}

function project(call: Call, query: Query, rows: readonly Seen[]): Json[] {
  const shown = call.world.habits.current.repeatedRows ? rows.flatMap((row) => [row, row]) : rows;
  return shown.map((seen) => {
    if (query.select === null) return whole(call, seen);
    const field = lookup(call, seen);
    return Object.fromEntries(query.select.map(({ alias, value }) => [alias, value(field) ?? null]));
  });
}

function answered(call: Call, query: Query, view: View, body: Json): { data: Json[]; cursor: string | null } {
  if (body['audit_log'] === true) return { data: history(call, query), cursor: null };
  const scope = body['scope_to_root_span_id'];
  const engine = new Engine(call, query, view, typeof scope === 'string' ? scope : null);
  if (call.entry.shape === 'aggregate') return { data: aggregated(call, query, engine), cursor: null };
  const key = (seen: Seen): string => seen.row.paginationKey;
  if (query.shape === 'spans') {
    const page = paged(call, query, engine.matching(), key);
    return { data: project(call, query, page.rows), cursor: page.cursor };
  }
  const { heads, all } = traces(engine, query);
  const page = paged(call, query, heads, key);
  const rows = query.shape === 'summary' ? page.rows : page.rows.flatMap((head) => all.get(key(head)) ?? []);
  return { data: project(call, query, rows), cursor: page.cursor };
}

/** The code and stage of the vendor's finding are not documented; its existence and effect are. */
const UNBOUNDED = {
  code: 'missing_range_filter',
  message: 'query of project_logs without a bound on created, _xact_id, _pagination_key, root_span_id or id',
  stage: 'lint',
};

/** `POST /btql` with a parsed query. */
export function btql(call: Call): Answer {
  const { world } = call;
  if (!call.key.reads) throw refuse(403, 'Forbidden');
  const body = call.json();
  const format = body['fmt'] ?? 'json';
  if (format !== 'json' && format !== 'jsonl') throw refuse(400, 'BTQL: this simulator answers json and jsonl');
  const query = parsed(call, body);
  const scoped = typeof body['scope_to_root_span_id'] === 'string';
  const unbounded = query.type === 'project_logs' && !scoped && !isBounded(query.filter);
  const strict = body['lint_mode'] === 'strict' || body['strict_lint_mode'] === true;
  if (unbounded && strict) throw refuse(400, `BTQL: ${UNBOUNDED.message}`);
  if (unbounded && world.habits.current.unboundedTimesOut) {
    call.entry.cause = 'habit:unboundedTimesOut';
    throw refuse(504, 'query timed out');
  }
  const view = viewOf(call, body, query);
  const { data, cursor } = answered(call, query, view, body);
  const names = [...new Set(data.slice(0, 1).flatMap((row) => Object.keys(row)))];
  const headers = {
    ...(cursor === null ? {} : { 'x-bt-cursor': cursor }),
    ...(view.freshness === null ? {} : { 'x-bt-freshness-state': JSON.stringify(view.freshness) }),
  };
  if (format === 'jsonl') {
    const lines = data.map((row) => `${JSON.stringify(row)}\n`).join('');
    return { status: 200, body: lines, headers: { ...headers, 'content-type': 'application/jsonl' } };
  }
  return {
    status: 200,
    headers,
    body: {
      data,
      cursor,
      schema: {
        type: 'array',
        items: { type: 'object', properties: Object.fromEntries(names.map((name) => [name, {}])) },
      },
      ...(view.freshness === null ? {} : { freshness_state: view.freshness }),
      realtime_state: view.realtime,
      warnings: unbounded ? [UNBOUNDED] : [],
    },
  };
}
