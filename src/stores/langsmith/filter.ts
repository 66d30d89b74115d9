import { CANONICAL_INTEGER } from '../values.ts';

/**
 * Expressions of the vendor's filter language (docs, "trace query syntax"): `eq`, `in`, `and`, `or` only, because those
 * are the documented comparators and combiners for runs. Values are always JSON literals, as the official SDK writes
 * them, so that no identifier can end its literal and widen the search.
 */

function literal(text: string): string {
  return JSON.stringify(text);
}

export function or(clauses: readonly string[]): string {
  return clauses.length === 1 ? (clauses[0] ?? '') : `or(${clauses.join(',')})`;
}

export function hasKey(key: string): string {
  return `eq(metadata_key,${literal(key)})`;
}

export function anyOf(field: 'trace_id' | 'metadata_key', values: readonly string[]): string {
  return `in(${field},[${values.map(literal).join(',')}])`;
}

export interface ValueForm {
  readonly text: string;
  /** Whether the store is known to hold a number; otherwise only what looks like one is searched as one too. */
  readonly numeric: boolean;
}

/**
 * Runs that carry a value under a metadata key. A number may have been written as one or as text, and documents do not
 * say which the index keeps: both are asked for.
 *
 * @param numbers false leaves the number forms out, for servers that refuse them.
 * @param run restricts the clause to one run.
 */
export function carries(key: string, value: ValueForm, numbers: boolean, run?: string): string[] {
  const forms = [literal(value.text)];
  if (numbers && (value.numeric || CANONICAL_INTEGER.test(value.text))) forms.push(value.text);
  const tail = run === undefined ? '' : `,eq(id,${literal(run)})`;
  return forms.map((form) => `and(${hasKey(key)},eq(metadata_value,${form})${tail})`);
}

/** Runs that carry a key with none of the values. How `neq` treats pairs is not documented: only a way to make room. */
export function carriesOther(key: string, values: readonly ValueForm[]): string {
  if (values.length === 0) return hasKey(key);
  const others = values.map(({ text, numeric }) => `neq(metadata_value,${numeric ? text : literal(text)})`);
  return `and(${[hasKey(key), ...others].join(',')})`;
}

/** Whether `carries` would add a number form. */
export function hasNumberForm(value: ValueForm): boolean {
  return value.numeric || CANONICAL_INTEGER.test(value.text);
}
