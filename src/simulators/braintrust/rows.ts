import { record, type Json } from '../common/json.ts';
import { parseTime } from '../common/time.ts';

/** What holds rows: the `from` functions of a query. */
export type ObjectType = 'project_logs' | 'experiment' | 'dataset' | 'playground_logs';

/** One version of a row; `data` is null for a tombstone. */
export interface Version {
  readonly xact: string;
  readonly atMs: number;
  /** From when reads show it. */
  readonly shownMs: number;
  readonly action: 'upsert' | 'merge' | 'delete';
  readonly data: Json | null;
}

/** Fields of a write that steer it and are not stored. */
const STEERING = new Set(['_is_merge', '_object_delete', '_merge_paths', '_array_delete', '_parent_id']);

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/**
 * One life of a row: from its first write to its tombstone. A write to a tombstoned id begins a new life, which knows
 * nothing of the old one but the id.
 */
export class Row {
  readonly objectType: ObjectType;
  readonly objectId: string;
  readonly id: string;
  /** Stable for the whole life and in order of insertion. */
  readonly paginationKey: string;
  /**
   * The trace this life belongs to: its root span id or, when it came back without one, that of the life before, since
   * it is a remainder of that trace. `null`: no trace.
   */
  readonly traceId: string | null;
  readonly versions: Version[] = [];
  readonly isComment: boolean;
  /** When a new life of the same id took over. */
  supersededMs = Infinity;
  supersededXact: string | null = null;
  /** Instants between which reads show it although it is deleted. */
  readonly reappearances: (readonly [number, number])[] = [];
  #createdMs: number | null = null;

  constructor(
    place: { readonly objectType: ObjectType; readonly objectId: string },
    id: string,
    paginationKey: string,
    traceId: string | null,
    isComment: boolean,
  ) {
    this.objectType = place.objectType;
    this.objectId = place.objectId;
    this.id = id;
    this.paginationKey = paginationKey;
    this.traceId = traceId;
    this.isComment = isComment;
  }

  get latest(): Version | null {
    return this.versions.at(-1) ?? null;
  }

  /** Whether the recorded state, shown or not, is a tombstone. */
  get tombstoned(): boolean {
    return this.latest?.data === null;
  }

  add(version: Version): void {
    this.versions.push(version);
    if (version.data !== null) this.#createdMs = parseTime(version.data['created']) ?? version.atMs;
  }

  /** When it says it was created, epoch milliseconds. */
  get createdMs(): number {
    return this.#createdMs ?? 0;
  }

  /** The version that a read of the state at an instant shows; inserts and merges younger than `unawareMs` are unknown to it. */
  versionAt(atMs: number, unawareMs = 0): Version | null {
    if (atMs >= this.supersededMs) return null;
    let found: Version | null = null;
    let live: Version | null = null;
    for (const version of this.versions) {
      if (version.shownMs > atMs - (version.data === null ? 0 : unawareMs)) continue;
      found = version;
      if (version.data !== null) live = version;
    }
    if (found?.data !== null) return found;
    return this.reappearances.some(([from, to]) => from <= atMs && atMs < to) ? live : null;
  }

  /** The version that was current at a transaction; `null` when there was none or it was deleted. */
  versionAtXact(xact: string): Version | null {
    if (this.supersededXact !== null && xact >= this.supersededXact) return null;
    let found: Version | null = null;
    for (const version of this.versions) if (version.xact <= xact) found = version;
    return found?.data === null ? null : found;
  }

  live(atMs: number): boolean {
    return this.versionAt(atMs) !== null;
  }
}

/** The root span id a write names. */
export function rootOf(event: Json): string | null {
  return text(event['root_span_id']);
}

function deepMerge(into: unknown, from: unknown, stops: readonly (readonly string[])[]): unknown {
  const left = record(into);
  const right = record(from);
  if (left === null || right === null || stops.some((path) => path.length === 0)) return from;
  const merged: Record<string, unknown> = { ...left };
  for (const [key, value] of Object.entries(right)) {
    const below = stops.filter((path) => path[0] === key).map((path) => path.slice(1));
    merged[key] = key in left ? deepMerge(left[key], value, below) : value;
  }
  return merged;
}

function paths(value: unknown): string[][] {
  return Array.isArray(value) ? value.filter(Array.isArray).map((path) => path.map(String)) : [];
}

function arrayDelete(data: Json, path: readonly string[], gone: ReadonlySet<string>): Json {
  const [key, ...rest] = path;
  if (key === undefined) return data;
  const value = data[key];
  if (rest.length > 0) {
    const below = record(value);
    return below === null ? data : { ...data, [key]: arrayDelete(below, rest, gone) };
  }
  if (!Array.isArray(value)) return data;
  return { ...data, [key]: value.filter((one) => !gone.has(JSON.stringify(one))) };
}

/** What a write stores on top of the row's current content (`null`: there is none). */
export function written(current: Json | null, event: Json, id: string, nowMs: number): Json {
  const merge = event['_is_merge'] === true;
  const fields: Record<string, unknown> = { id };
  for (const [key, value] of Object.entries(event)) if (!STEERING.has(key) && value !== undefined) fields[key] = value;
  // Who gave feedback belongs to the row's audit trail; on a comment, which is a row of its own, it stays.
  if (fields['comment'] === undefined) {
    for (const key of ['_audit_source', '_audit_metadata']) Reflect.deleteProperty(fields, key);
  }
  fields['created'] ??= merge && current !== null ? current['created'] : new Date(nowMs).toISOString();
  let data: Json = fields;
  if (merge && current !== null) {
    // The spec: on a merge into an existing row the span ids of the new one are ignored.
    for (const key of ['span_id', 'root_span_id', 'span_parents']) Reflect.deleteProperty(fields, key);
    data = deepMerge(current, fields, paths(event['_merge_paths'])) as Json;
  } else if (!merge && rootOf(fields) === null && fields['comment'] === undefined) {
    // A plain insert without span ids is a trace of its own.
    const span = text(fields['span_id']) ?? id;
    data = { ...fields, span_id: span, root_span_id: span };
  }
  const removals = event['_array_delete'];
  for (const removal of Array.isArray(removals) ? removals.map(record) : []) {
    const [path = []] = paths([removal?.['path']]);
    const values: unknown[] = Array.isArray(removal?.['delete']) ? removal['delete'] : [];
    data = arrayDelete(data, path, new Set(values.map((one) => JSON.stringify(one))));
  }
  return data;
}

/** The value at a path of a document, `null` where there is none. A key that holds the rest of the path with its dots counts too. */
export function at(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const [index, key] of path.entries()) {
    const here = record(current);
    if (here === null) return null;
    if (!Object.hasOwn(here, key)) {
      const dotted = path.slice(index).join('.');
      return Object.hasOwn(here, dotted) ? here[dotted] : null;
    }
    current = here[key];
  }
  return current ?? null;
}

/** The leaves of `metadata` as (dotted path, JSON text of the value): what the indexes hold. */
export function metadataLeaves(data: Json): [string, string][] {
  const leaves: [string, string][] = [];
  const walk = (value: unknown, path: string): void => {
    const here = record(value);
    if (here === null) {
      leaves.push([path, JSON.stringify(value)]);
      return;
    }
    for (const [key, below] of Object.entries(here)) walk(below, path === '' ? key : `${path}.${key}`);
  };
  const metadata = record(data['metadata']);
  if (metadata !== null) walk(metadata, '');
  return leaves;
}
