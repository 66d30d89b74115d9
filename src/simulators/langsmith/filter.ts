/**
 * The filter language of run queries: `eq(name, "x")`, `and(eq(metadata_key, "k"), eq(metadata_value, "v"))`.
 *
 * A filter judges one run at a time. Conditions on metadata that stand side by side in one `and(...)` must be met by one
 * entry of the metadata, and feedback conditions by one feedback (docs: trace-query-syntax).
 */

/** What a filter sees of one run. */
export interface FilterRow {
  /** Field values by filter name; dates as epoch milliseconds. */
  field(name: string): FieldValue;
  /** Metadata entries, values as text. */
  readonly pairs: readonly (readonly [string, string])[];
  readonly tags: readonly string[];
  /** Key, score and comment of the run's feedback. */
  feedback(): readonly { key: string; score: number | null; comment: string | null; source: string | null }[];
  /** Lower-cased words of name, inputs, outputs, error and metadata. */
  words(): ReadonlySet<string>;
}

export type FieldValue = string | number | boolean | null | undefined;
export type Literal = string | number | boolean | null;

export interface Comparison {
  readonly op: 'eq' | 'neq' | 'gt' | 'gte' | 'lt' | 'lte' | 'has' | 'in' | 'exists' | 'search';
  readonly field: string;
  readonly values: readonly Literal[];
}
export interface Combination {
  readonly op: 'and' | 'or' | 'not';
  readonly args: readonly Expression[];
}
export type Expression = Comparison | Combination;

/** Thrown when a filter cannot be parsed or uses what its kind of object doesn't know; the service answers 400. */
export class FilterError extends Error {
  override readonly name = 'FilterError';
}

/** A filter that is parsed, checked and ready to judge rows. */
export interface CompiledFilter {
  readonly expression: Expression;
  matches(row: FilterRow): boolean;
}

/**
 * The text under which a metadata value is stored, searched and compared. The service keeps metadata in a key-value
 * table of strings, so the number 42 and the string "42" are the same value; objects are compared by their JSON.
 */
export function metadataText(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined ? 'null' : JSON.stringify(value);
}

const WORD = /[\p{L}\p{N}_]+/gu;

/** The words of a text as full-text search knows them: letters and digits, lower case; punctuation separates. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(WORD) ?? [];
}

const COMPARATORS = new Set(['eq', 'neq', 'gt', 'gte', 'lt', 'lte', 'has', 'in', 'search', 'exists']);
const COMBINERS = new Set(['and', 'or', 'not']);
const TEXT_FIELDS = new Set(['id', 'trace_id', 'name', 'run_type', 'status', 'error', 'thread_id', 'parent_run_id']);
const MORE_TEXT_FIELDS = new Set(['dotted_order', 'session_id', 'reference_example_id', 'dataset_id', 'source_run_id']);
const TIME_FIELDS = new Set(['start_time', 'end_time', 'created_at', 'modified_at']);
const NUMBER_FIELDS = new Set(['latency', 'total_tokens', 'execution_order']);
const PAIR_FIELDS = new Set(['metadata_key', 'metadata_value']);
const FEEDBACK_FIELDS = new Set(['feedback_key', 'feedback_score', 'feedback_comment', 'feedback_source']);
const RUN_ONLY = new Set(['tags', 'metadata', 'is_root']);

type Kind = 'runs' | 'examples';

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Expression {
    const expression = this.#expression();
    this.#space();
    if (this.#at < this.#text.length) throw this.#error('unexpected text after the expression');
    return expression;
  }

  #error(what: string): FilterError {
    return new FilterError(`Invalid filter: ${what} at position ${this.#at}`);
  }

  #space(): void {
    while (/\s/.test(this.#text.charAt(this.#at))) this.#at += 1;
  }

  #take(expected: string): void {
    this.#space();
    if (this.#text.charAt(this.#at) !== expected) throw this.#error(`expected ${JSON.stringify(expected)}`);
    this.#at += 1;
  }

  #peek(): string {
    this.#space();
    return this.#text.charAt(this.#at);
  }

  #name(): string {
    this.#space();
    const found = /^[a-z_][a-z0-9_]*/i.exec(this.#text.slice(this.#at, this.#at + 64))?.[0];
    if (found === undefined) throw this.#error('expected a name');
    this.#at += found.length;
    return found;
  }

  #expression(): Expression {
    const op = this.#name();
    this.#take('(');
    if (COMBINERS.has(op)) {
      const args = [this.#expression()];
      while (this.#peek() === ',') {
        this.#at += 1;
        args.push(this.#expression());
      }
      this.#take(')');
      if (op === 'not' && args.length !== 1) throw this.#error('not takes one expression');
      return { op: op as Combination['op'], args };
    }
    if (!COMPARATORS.has(op)) throw this.#error(`unknown operator ${op}`);
    if (op === 'search') {
      const text = this.#literal();
      this.#take(')');
      return { op, field: 'search', values: [text] };
    }
    const field = this.#name();
    this.#take(',');
    const values = op === 'in' ? this.#list() : [this.#literal(op === 'exists')];
    this.#take(')');
    return { op: op as Comparison['op'], field, values };
  }

  #list(): Literal[] {
    this.#take('[');
    const values: Literal[] = [];
    if (this.#peek() !== ']') {
      values.push(this.#literal());
      while (this.#peek() === ',') {
        this.#at += 1;
        values.push(this.#literal());
      }
    }
    this.#take(']');
    return values;
  }

  #literal(bareAllowed = false): Literal {
    const start = this.#peek();
    if (start === '"' || start === "'") return this.#string(start);
    const rest = this.#text.slice(this.#at, this.#at + 64);
    const number = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/.exec(rest)?.[0];
    if (number !== undefined) {
      this.#at += number.length;
      return Number(number);
    }
    const word = /^[A-Za-z_][A-Za-z0-9_]*/.exec(rest)?.[0];
    if (word === undefined) throw this.#error('expected a literal');
    this.#at += word.length;
    const lower = word.toLowerCase();
    if (lower === 'true') return true;
    if (lower === 'false') return false;
    if (lower === 'null' || lower === 'none') return null;
    if (bareAllowed) return word;
    throw this.#error(`expected a literal, found ${word}`);
  }

  #string(quote: string): string {
    let end = this.#at + 1;
    while (end < this.#text.length && this.#text.charAt(end) !== quote) {
      end += this.#text.charAt(end) === '\\' ? 2 : 1;
    }
    if (end >= this.#text.length) throw this.#error('unterminated string');
    const raw = this.#text.slice(this.#at, end + 1);
    // Single quotes are used all over the vendor's examples; inside, the rules are those of JSON.
    const json =
      quote === '"' ? raw : `"${raw.slice(1, -1).replace(/\\'|"/g, (found) => (found === '"' ? '\\"' : "'"))}"`;
    try {
      const value: unknown = JSON.parse(json);
      this.#at = end + 1;
      return String(value);
    } catch {
      throw this.#error('invalid string');
    }
  }
}

function knownField(field: string): boolean {
  return (
    TEXT_FIELDS.has(field) ||
    MORE_TEXT_FIELDS.has(field) ||
    TIME_FIELDS.has(field) ||
    NUMBER_FIELDS.has(field) ||
    PAIR_FIELDS.has(field) ||
    FEEDBACK_FIELDS.has(field) ||
    RUN_ONLY.has(field)
  );
}

function check(expression: Expression, kind: Kind): void {
  if ('args' in expression) {
    if (expression.op === 'not' && kind === 'runs') throw new FilterError('Invalid filter: unknown operator not');
    for (const arg of expression.args) check(arg, kind);
    return;
  }
  const { op, field, values } = expression;
  if (op === 'search') return;
  if (op === 'exists') {
    if (kind === 'runs') throw new FilterError('Invalid filter: unknown operator exists');
    if (field !== 'metadata') throw new FilterError(`Invalid filter: exists does not take ${field}`);
    return;
  }
  if (!knownField(field)) throw new FilterError(`Invalid filter: unknown field ${field}`);
  if (op === 'has') {
    if (field !== 'tags' && field !== 'metadata') throw new FilterError(`Invalid filter: has does not take ${field}`);
    if (field === 'metadata') blobPairs(values[0]);
    return;
  }
  if (field === 'tags' || field === 'metadata') throw new FilterError(`Invalid filter: ${op} does not take ${field}`);
  if (TIME_FIELDS.has(field)) {
    for (const value of values) {
      if (value !== null && (typeof value !== 'string' || Number.isNaN(Date.parse(value)))) {
        throw new FilterError(`Invalid filter: ${field} needs a time`);
      }
    }
  }
}

function blobPairs(value: Literal | undefined): [string, string][] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(String(value));
  } catch {
    parsed = null;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new FilterError('Invalid filter: has(metadata, ...) needs a JSON object');
  }
  return Object.entries(parsed).map(([key, entry]) => [key, metadataText(entry)]);
}

function compare(op: Comparison['op'], actual: FieldValue, values: readonly Literal[], time: boolean): boolean {
  const [first = null] = values;
  const found = actual ?? null;
  const same = (wanted: Literal): boolean => {
    if (wanted === null || found === null) return wanted === found;
    if (time) return found === Date.parse(String(wanted));
    if (typeof found === 'number') return found === Number(wanted);
    return String(found) === String(wanted);
  };
  if (op === 'eq') return same(first);
  if (op === 'neq') return !same(first);
  if (op === 'in') return values.some(same);
  if (found === null || first === null) return false;
  const left = typeof found === 'string' ? found : Number(found);
  const right = time ? Date.parse(String(first)) : typeof left === 'string' ? String(first) : Number(first);
  if (op === 'gt') return left > right;
  if (op === 'gte') return left >= right;
  if (op === 'lt') return left < right;
  return left <= right;
}

type Test = (row: FilterRow) => boolean;

function comparisonTest(comparison: Comparison): Test {
  const { op, field, values } = comparison;
  if (op === 'search') {
    const wanted = wordsOf(String(values[0] ?? ''));
    return (row) => wanted.length > 0 && wanted.every((word) => row.words().has(word));
  }
  if (op === 'exists') {
    const key = String(values[0]);
    return (row) => row.pairs.some(([found]) => found === key);
  }
  if (op === 'has') {
    if (field === 'tags') return (row) => row.tags.includes(String(values[0]));
    const wanted = blobPairs(values[0]);
    return (row) => wanted.every(([key, text]) => row.pairs.some(([k, v]) => k === key && v === text));
  }
  if (PAIR_FIELDS.has(field)) return pairTest([comparison]);
  if (FEEDBACK_FIELDS.has(field)) return feedbackTest([comparison]);
  const time = TIME_FIELDS.has(field);
  if (op === 'in' && values.length > 8) {
    const wanted = new Set(values.map(String));
    return (row) => wanted.has(String(row.field(field) ?? null));
  }
  return (row) => compare(op, row.field(field), values, time);
}

function pairTest(conditions: readonly Comparison[]): Test {
  const texts = conditions.map((condition) => ({
    index: condition.field === 'metadata_key' ? 0 : 1,
    op: condition.op,
    values: condition.values.map(metadataText),
  }));
  return (row) =>
    row.pairs.some((pair) => texts.every(({ index, op, values }) => compare(op, pair[index], values, false)));
}

function feedbackTest(conditions: readonly Comparison[]): Test {
  return (row) =>
    row.feedback().some((feedback) =>
      conditions.every(({ field, op, values }) => {
        const part = field.slice('feedback_'.length) as keyof typeof feedback;
        return compare(op, feedback[part], values, false);
      }),
    );
}

function isOn(fields: ReadonlySet<string>): (expression: Expression) => expression is Comparison {
  return (expression): expression is Comparison => 'field' in expression && fields.has(expression.field);
}

function test(expression: Expression): Test {
  if (!('args' in expression)) return comparisonTest(expression);
  if (expression.op === 'not') {
    const inner = expression.args.map(test);
    return (row) => !inner.every((one) => one(row));
  }
  if (expression.op === 'or') {
    const inner = expression.args.map(test);
    return (row) => inner.some((one) => one(row));
  }
  const onPairs = isOn(PAIR_FIELDS);
  const onFeedback = isOn(FEEDBACK_FIELDS);
  const pairs = expression.args.filter(onPairs);
  const feedback = expression.args.filter(onFeedback);
  const rest = expression.args.filter((arg) => !onPairs(arg) && !onFeedback(arg)).map(test);
  if (pairs.length > 0) rest.push(pairTest(pairs));
  if (feedback.length > 0) rest.push(feedbackTest(feedback));
  return (row) => rest.every((one) => one(row));
}

/**
 * Parses and checks a filter.
 *
 * @param kind `runs` (default) knows eq, neq, gt, gte, lt, lte, has, in, search, and, or; `examples` also exists and not.
 * @throws FilterError on bad syntax, unknown operators and unknown fields.
 */
export function compileFilter(text: string, kind: Kind = 'runs'): CompiledFilter {
  const expression = new Parser(text).parse();
  check(expression, kind);
  return { expression, matches: test(expression) };
}

/** Every comparison of an expression, whatever it is nested in. */
export function comparisonsOf(expression: Expression): Comparison[] {
  return 'args' in expression ? expression.args.flatMap(comparisonsOf) : [expression];
}

/** One question to an index. */
export type LookUp =
  | { readonly by: 'pair'; readonly key: string; readonly value: string }
  | { readonly by: 'trace' | 'run' | 'thread'; readonly id: string };

/** More look-ups than this are no help. */
const MAX_LOOK_UPS = 5000;
const LOOK_UP_FIELDS = { id: 'run', trace_id: 'trace', thread_id: 'thread' } as const;

function pinned(comparison: Comparison | undefined): readonly string[] | null {
  if (comparison === undefined || (comparison.op !== 'eq' && comparison.op !== 'in')) return null;
  return comparison.values.map(metadataText);
}

function pinnedBy(comparison: Comparison): LookUp[] | null {
  if (comparison.op === 'has' && comparison.field === 'metadata') {
    const [first] = blobPairs(comparison.values[0]);
    return first === undefined ? null : [{ by: 'pair', key: first[0], value: first[1] }];
  }
  const by = Object.entries(LOOK_UP_FIELDS).find(([field]) => field === comparison.field)?.[1];
  return by === undefined ? null : (pinned(comparison)?.map((id) => ({ by, id })) ?? null);
}

/**
 * How indexes can stand in for a scan: alternatives, each a list of look-ups whose rows together hold every match and
 * perhaps more. None when the filter pins nothing down.
 */
export function lookUpsOf(expression: Expression): (readonly LookUp[])[] {
  if (!('args' in expression)) {
    const found = pinnedBy(expression);
    return found === null ? [] : [found];
  }
  if (expression.op === 'not') return [];
  if (expression.op === 'or') {
    const parts = expression.args.map((arg) => lookUpsOf(arg)[0]);
    return parts.some((part) => part === undefined) ? [] : [parts.flatMap((part) => part ?? [])];
  }
  const alternatives = expression.args.flatMap(lookUpsOf);
  const onField = (field: string): Comparison | undefined =>
    expression.args.find((arg): arg is Comparison => 'field' in arg && arg.field === field && pinned(arg) !== null);
  const keys = pinned(onField('metadata_key'));
  const values = pinned(onField('metadata_value'));
  if (keys !== null && values !== null && keys.length * values.length <= MAX_LOOK_UPS) {
    alternatives.push(keys.flatMap((key) => values.map((value) => ({ by: 'pair', key, value }) as const)));
  }
  return alternatives;
}
