import { ID_PATTERN, STORE_MATCH_GUARD } from './traits.ts';

/** Fields by which the logs list and summary may be narrowed (vendor's MCP server, `lib/observe/log-filters.ts`). */
export type LogField =
  | 'customer_identifier'
  | 'thread_identifier'
  | 'custom_identifier'
  | 'trace_unique_id'
  | 'unique_id'
  | `metadata__${string}`;

/** The same of the traces list (`lib/production/traces.ts`); a metadata key would be dropped there without a word. */
export type TraceField = 'trace_unique_id' | 'customer_identifier' | 'trace_group_identifier';

/**
 * The only question this connector asks: one field, any of these values. `in` is a documented operator of every list;
 * several fields are never combined, as each more is one more that could be dropped.
 */
export interface Narrowing<Field extends string> {
  readonly field: Field;
  readonly values: readonly string[];
}

/** The `filters` of a list. Without a narrowing: none, everything in the range. */
export function filtersOf(narrow: Narrowing<LogField | TraceField> | null): object {
  if (narrow === null) return {};
  if (narrow.values.length === 0) throw new RangeError('a filter without values');
  return { [narrow.field]: { operator: 'in', value: narrow.values } };
}

/** All that a bulk delete may ever say. */
export interface BulkDeleteBody {
  readonly filters: {
    readonly trace_unique_id: { readonly operator: 'in'; readonly value: readonly string[] };
  };
}

/**
 * The one maker of a bulk delete's body: ids of traces and nothing else (P13).
 *
 * @throws RangeError when there is none, too many, or one that is no id.
 */
export function bulkDeleteBody(traceIds: readonly string[]): BulkDeleteBody {
  if (traceIds.length === 0) throw new RangeError('a delete that names no trace');
  if (traceIds.length > STORE_MATCH_GUARD) throw new RangeError('a delete that names too many traces');
  if (!traceIds.every((id) => ID_PATTERN.test(id))) throw new RangeError('a delete that names what is no id');
  return { filters: { trace_unique_id: { operator: 'in', value: [...traceIds] } } };
}

/** Names that stand in the place of an id in routes of this API. */
const ROUTE_WORDS: ReadonlySet<string> = new Set([
  'list',
  'create',
  'bulk',
  'bulk-delete',
  'bulk-update',
  'summary',
  'delete',
  'export',
  'search',
]);

/**
 * An id as one segment of a path, or null when it could be read as something else on the way: as two segments, as the
 * folder above, decoded twice, or as the name of another route. Such ids never go into a path.
 */
export function pathSegment(id: string): string | null {
  if (id === '' || /^\.+$/.test(id) || /[/\\%?#;]/.test(id) || id !== id.trim() || !ID_PATTERN.test(id)) return null;
  return ROUTE_WORDS.has(id.toLowerCase()) ? null : encodeURIComponent(id);
}
