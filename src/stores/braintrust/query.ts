import { CANONICAL_INTEGER } from '../values.ts';

/**
 * Queries as the parsed object that the vendor's own SDKs send. Values are JSON literals of their own, so that no
 * identifier can end its literal and widen the search; the vendor's two text languages are never used.
 */

/** A node of an expression. */
export type Expression =
  | { readonly op: 'ident'; readonly name: readonly string[] }
  | { readonly op: 'literal'; readonly value: unknown }
  | { readonly op: 'eq' | 'ne' | 'ge' | 'lt' | 'in'; readonly left: Expression; readonly right: Expression }
  | { readonly op: 'and' | 'or'; readonly children: readonly Expression[] }
  | { readonly op: 'isnotnull'; readonly expr: Expression };

/** Path of a field, for instance `['metadata', 'user_id']`. */
export type Path = readonly string[];

export interface Field {
  readonly alias: string;
  readonly path: Path;
}

/** ECMAScript's "JSON.parse source text access": in Node since 21, not yet in TypeScript's lib. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

function ident(path: Path): Expression {
  return { op: 'ident', name: path };
}

function literal(value: unknown): Expression {
  return { op: 'literal', value };
}

export function eq(path: Path, value: unknown): Expression {
  return { op: 'eq', left: ident(path), right: literal(value) };
}

export function ne(path: Path, value: unknown): Expression {
  return { op: 'ne', left: ident(path), right: literal(value) };
}

export function ge(path: Path, value: unknown): Expression {
  return { op: 'ge', left: ident(path), right: literal(value) };
}

export function lt(path: Path, value: unknown): Expression {
  return { op: 'lt', left: ident(path), right: literal(value) };
}

export function isIn(path: Path, values: readonly unknown[]): Expression {
  return { op: 'in', left: ident(path), right: literal(values) };
}

export function isNotNull(path: Path): Expression {
  return { op: 'isnotnull', expr: ident(path) };
}

export function and(children: readonly Expression[]): Expression {
  const [only] = children;
  return children.length === 1 && only !== undefined ? only : { op: 'and', children };
}

export function or(children: readonly Expression[]): Expression {
  const [only] = children;
  return children.length === 1 && only !== undefined ? only : { op: 'or', children };
}

export interface ValueForm {
  readonly text: string;
  /** Whether the store is known to hold a number; otherwise only what looks like one is searched as one too. */
  readonly numeric: boolean;
}

/** A value as text, and as the number that it may have been written as (P15), with every digit. */
export function formsOf({ text, numeric }: ValueForm): readonly unknown[] {
  return numeric || CANONICAL_INTEGER.test(text) ? [text, rawJSON(text)] : [text];
}

/** Rows that carry a value under a path, by equality. */
export function carriesEqual(path: Path, value: ValueForm): readonly Expression[] {
  return formsOf(value).map((form) => eq(path, form));
}

/** The same for many values, by lists; numbers in a list of their own, since a list has one type. */
export function carriesListed(path: Path, values: readonly ValueForm[]): readonly Expression[] {
  const forms = values.flatMap(formsOf);
  const texts = [...new Set(forms.filter((form) => typeof form === 'string'))];
  const numbers = forms.filter((form) => typeof form !== 'string');
  return [texts, numbers].filter((list) => list.length > 0).map((list) => isIn(path, list));
}

/** What holds rows. */
export type Source = 'project_logs' | 'dataset' | 'experiment';
export type Shape = 'spans' | 'traces';

export function from(source: Source, ids: readonly string[], shape: Shape): object {
  return { op: 'function', name: ident([source]), args: ids.map(literal), shape };
}

export function select(fields: readonly Field[]): readonly object[] {
  return fields.map(({ alias, path }) => ({ alias, expr: ident(path) }));
}

export function ascending(path: Path): readonly object[] {
  return [{ expr: ident(path), dir: 'asc' }];
}

export function descending(path: Path): readonly object[] {
  return [{ expr: ident(path), dir: 'desc' }];
}
