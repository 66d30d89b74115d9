import type { Control } from '../port.ts';
import type { Pair } from '../rows.ts';

/**
 * Conditions of the server's filter language, which is an expression of Python's: identifiers travel in string literals
 * only, escaped by Python's rules.
 */

/** What ends a literal, and control characters and line ends, which break one. */
const SPECIAL = /[\\']|[\p{Cc}\u2028\u2029]/gu;

function literal(text: string): string {
  const escaped = text.replace(SPECIAL, (char) =>
    char === '\\' || char === "'" ? `\\${char}` : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `'${escaped}'`;
}

/** `attributes['user']['id']`: with the whole path as one name the server finds nothing, and says nothing. */
function attribute(key: string): string {
  return `attributes${key
    .split('.')
    .map((name) => `[${literal(name)}]`)
    .join('')}`;
}

/** How a value is compared. Equality does not tell numbers from text, which is what is wanted. */
export type Comparison = 'equality' | 'containment';

function carries({ key, text }: Pair, by: Comparison): string {
  return by === 'equality' ? `${attribute(key)} == ${literal(text)}` : `${literal(text)} in ${attribute(key)}`;
}

/** Spans that carry any of the pairs, and those of the controls. */
export function anyOf(pairs: readonly Pair[], controls: readonly Control[], by: Comparison): string {
  return [
    ...pairs.map((pair) => `(${carries(pair, by)})`),
    ...controls.map(({ value, runId }) => `(${carries(value, by)} and span_id == ${literal(runId)})`),
  ].join(' or ');
}

/** Spans that have any of the attributes, besides those with these values. */
export function having(keys: readonly string[], besides: readonly Pair[] = []): string {
  const present = keys.map((key) => `(${attribute(key)} is not None)`).join(' or ');
  const others = besides.map((pair) => ` and not (${carries(pair, 'equality')})`).join('');
  return `(${present})${others}`;
}
