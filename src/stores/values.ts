import { NumberText } from './http.ts';
import type { PersonValue } from './port.ts';

/** The only decimal spelling of an integer, without a sign for zero or zeros in front: it may have been written as a number. */
export const CANONICAL_INTEGER = /^(0|-?[1-9]\d*)$/;

export type ValueAt = Pick<PersonValue, 'text' | 'numeric' | 'nested'>;

/**
 * The values under a metadata key, also inside a list: a list of people makes a trace of several people. An object is
 * somebody too, whoever it is.
 */
export function valuesAt(
  metadata: Readonly<Record<string, unknown>> | null | undefined,
  key: string,
): readonly ValueAt[] {
  const own = metadata !== null && metadata !== undefined && Object.hasOwn(metadata, key) ? metadata[key] : undefined;
  return valuesIn(own);
}

/** The same of a value by itself. */
export function valuesIn(value: unknown): readonly ValueAt[] {
  if (typeof value === 'string') return [{ text: value, numeric: false }];
  if (typeof value === 'number') return [{ text: String(value), numeric: true }];
  if (value instanceof NumberText) return [{ text: value.source, numeric: true }];
  if (Array.isArray(value)) return value.flatMap(valuesIn).map((one) => ({ ...one, nested: true }));
  if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) return [];
  return [{ text: JSON.stringify(value), numeric: false, nested: true }];
}

/** Epoch milliseconds of an ISO time; without a zone it is taken as UTC. Null when it is none. */
export function instantOf(text: string | null | undefined): number | null {
  if (text === null || text === undefined) return null;
  const at = Date.parse(/(?:[zZ]|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(at) ? null : at;
}
