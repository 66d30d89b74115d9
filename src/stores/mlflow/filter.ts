/**
 * The filter language of trace searches. It has no OR and no way to escape: a quote inside a value ends it, doubled or
 * not, and the search silently finds nothing. So identifiers are never written as they are: what is no letter or digit
 * becomes a wildcard, and what a wildcard lets in too much is sorted out by exact comparison.
 */

/** Tag that tells where the spans of a trace are kept, and its value for those that searches see. */
export const SPANS_LOCATION = 'mlflow.trace.spansLocation';
export const SEARCHED_SPANS = 'TRACKING_STORE';

/** Where a key of the config stands. */
export type Place = 'metadata' | 'tags' | 'attributes';

export interface KeyPlace {
  readonly place: Place;
  readonly name: string;
}

/** @param key as in the config, for instance `metadata.mlflow.trace.user`. */
export function placeOf(key: string): KeyPlace {
  const dot = key.indexOf('.');
  return { place: key.slice(0, dot) as Place, name: key.slice(dot + 1) };
}

/** The server copies these span attributes to trace metadata, of the first span that has them (`x-mlflow` OTLP ingest). */
const COPIED_FROM: Readonly<Record<string, string>> = {
  'mlflow.trace.user': 'user.id',
  'mlflow.trace.session': 'session.id',
};

/** The span attribute that tells of a key, or null. */
export function attributeOf(key: string): string | null {
  const { place, name } = placeOf(key);
  if (place === 'attributes') return name;
  return place === 'metadata' ? (COPIED_FROM[name] ?? null) : null;
}

const COLUMN = { metadata: 'metadata', tags: 'tag', attributes: 'span.attributes' } as const;

function column({ place, name }: KeyPlace): string {
  return `${COLUMN[place]}.\`${name}\``;
}

/** A question, and what an answer to it may be. */
export interface Question {
  readonly filter: string;
  /** Whether a value as it stands in the store is one that the question may find. */
  readonly finds: (text: string) => boolean;
}

const LETTER = /^[A-Za-z0-9]$/;
// eslint-disable-next-line no-control-regex -- what is not ASCII
const BEYOND_ASCII = /[^\u0000-\u007f]/;

/**
 * Traces with any of the values under a metadata key or tag, by regular expression: one question for many values. What is
 * no letter or digit of ASCII is one wildcard for all that stand together, which matches no letter or digit: expressions
 * that can divide a value in many ways take for ever on those that nearly match.
 */
export function oneOf(key: KeyPlace, values: readonly string[]): Question {
  const pattern = `^(${values.map(expressionOf).join('|')})$`;
  const expression = new RegExp(pattern, 'u');
  const matches = (text: string): boolean =>
    expression.test(text) || (BEYOND_ASCII.test(text) && expression.test(Buffer.from(text, 'utf8').toString('latin1')));
  // The end of an expression is also before a last line end, in Python and Perl.
  const finds = (text: string): boolean => matches(text) || (text.endsWith('\n') && matches(text.slice(0, -1)));
  return { filter: `${column(key)} RLIKE '${pattern}'`, finds };
}

/** Largest count in an expression that PostgreSQL takes. */
const MOST_TIMES = 255;
/** Databases that match bytes see so many at most for one character beyond ASCII. */
const MOST_BYTES = 4;
/** Taken for `s` and `k` where case is ignored, and so never matched by a wildcard without letters. */
const FOLDED = /[\u017f\u212a]/;

function expressionOf(value: string): string {
  const parts = value.match(/[A-Za-z0-9]+|[\u017f\u212a]|[^A-Za-z0-9\u017f\u212a]+/gu) ?? [];
  return parts
    .map((part) => (LETTER.test(part.charAt(0)) ? part : FOLDED.test(part) ? '[^A]{1,4}' : wildcards(Array.from(part))))
    .join('');
}

/** For characters that stand together: at least so many, and as many as their bytes at most. */
function wildcards(characters: readonly string[]): string {
  const one = '[^0-9A-Za-z]';
  const least = characters.length;
  const most = characters.reduce((sum, character) => sum + (BEYOND_ASCII.test(character) ? MOST_BYTES : 1), 0);
  if (most > MOST_TIMES) return `${one}+`;
  if (most === least) return least === 1 ? one : `${one}{${least}}`;
  return `${one}{${least},${most}}`;
}

/** Traces with a value under a metadata key or tag, by LIKE: `_` for punctuation, one character each. */
export function like(key: KeyPlace, value: string): Question {
  const pattern = Array.from(value)
    .map((one) => (isPlain(one) ? one : '_'))
    .join('');
  return { filter: `${column(key)} LIKE '${pattern}'`, finds: matcher(pattern) };
}

/**
 * Traces with a span that carries a value under an attribute. The server searches the span as it is stored: JSON, in which
 * each value is JSON once more, so that a text stands in escaped quotes and a number stands plain. `%` stands for what
 * JSON escapes, `_` for other punctuation.
 */
export function attributeLike(name: string, value: string, numeric: boolean): Question {
  const pattern = Array.from(value)
    .map((one) => (isPlain(one) ? one : isEscaped(one) ? '%' : '_'))
    .join('');
  const around = numeric ? `: "${pattern}"` : `: "_"${pattern}_""`;
  // A wildcard may reach beyond the end of the value: what stands before it is certain.
  const [start = '', ...more] = pattern.split('%');
  const finds = more.length === 0 ? matcher(pattern) : matcher(`${start}%`);
  return { filter: `${column({ place: 'attributes', name })} LIKE '${around}'`, finds };
}

/** Letters and digits of any script, and whatever else is not ASCII. */
function isPlain(one: string): boolean {
  return LETTER.test(one) || BEYOND_ASCII.test(one);
}

/** What JSON writes in more than one character, and what ends a literal of the filter language. */
function isEscaped(one: string): boolean {
  return one === '"' || one === "'" || one === '\\' || one < ' ' || one === '\u007f';
}

/** Traces with a span that has an attribute at all. */
export function hasAttribute(name: string): string {
  return `${column({ place: 'attributes', name })} LIKE '%'`;
}

/** Traces that have a metadata key or tag at all. */
export function has(key: KeyPlace): string {
  return `${column(key)} IS NOT NULL`;
}

/** Narrows a question to some traces. */
export function among(filter: string | null, traceIds: readonly string[]): string {
  const list = `trace.request_id IN (${traceIds.map((id) => `'${id}'`).join(', ')})`;
  return filter === null ? list : `${filter} AND ${list}`;
}

/** Traces whose spans the server does not keep where it searches, and those that don't say where theirs are. */
export const SPANS_ELSEWHERE: readonly string[] = [
  `tag.\`${SPANS_LOCATION}\` != '${SEARCHED_SPANS}'`,
  `tag.\`${SPANS_LOCATION}\` IS NULL`,
];

/** Attribute that the server itself gives to every span. */
export const OF_EVERY_SPAN = 'mlflow.traceRequestId';

/** Traces whose spans the server keeps itself. */
export const HAS_SPANS = "span.content LIKE '%'";

/** Traces with a span of that id, which is stored in base 64. */
export function hasSpan(spanId: string): string {
  return `span.content LIKE '%"span_id": "${Buffer.from(spanId, 'hex').toString('base64')}"%'`;
}

/** Case is ignored: some databases do, and what they find too much did pass the filter. */
function matcher(pattern: string): (text: string) => boolean {
  const source = Array.from(pattern)
    .map((one) => (one === '%' ? '[^]*' : one === '_' ? '[^]' : one))
    .join('');
  const expression = new RegExp(`^${source}$`, 'iu');
  return (text) => expression.test(text);
}
