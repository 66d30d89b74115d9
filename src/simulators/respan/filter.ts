import type { HabitTarget } from '../common/habits.ts';
import { record } from '../common/json.ts';
import { parseTime } from '../common/time.ts';
import type { HabitSwitches } from './habits.ts';
import { textOf, type SpanRow, type TraceRow } from './rows.ts';
import { metadataKey, type Index } from './state.ts';

/** Thrown when the `unknownOperator` switch says `rejected`; anything else that isn't understood is dropped. */
export class FilterError extends Error {
  override readonly name = 'FilterError';
}

/** A narrowing that an index can answer: any of these keys. */
export interface LookUp {
  readonly index: Index;
  readonly keys: readonly string[];
}

/** What became of a `filters` object. */
export interface CompiledFilter<T> {
  matches(subject: T): boolean;
  /** Whether the request had any key at all, honoured or not. */
  readonly given: boolean;
  /** Keys that narrow nothing: unknown ones, and those dropped by a habit or for their operator. */
  readonly dropped: readonly string[];
  /** All must hold; empty when no index helps. */
  readonly lookUps: readonly LookUp[];
  /** Values of honoured `trace_unique_id` equalities: the traces that the request names. */
  readonly traceIds: readonly string[];
}

/** A kind of list with the keys that its query stages own. */
interface Dialect<T> {
  owns(key: string): boolean;
  /** Values of which one must satisfy the condition: one for a column, one per span for a span-level key. */
  values(subject: T, key: string): readonly unknown[];
  readonly indexes: Readonly<Record<string, Index>>;
}

interface Condition {
  readonly operator: string;
  readonly values: readonly unknown[];
  /** The values as texts, for long lists. */
  readonly texts: ReadonlySet<string>;
  readonly either: boolean;
}

// What the ClickHouse compiler accepts (vendor's MCP server), and `IN` and `=` as the bulk-delete page shows them.
// prettier-ignore
const OPERATORS = new Set([
  '', '=', 'not', 'in', 'IN', 'lt', 'lte', 'gt', 'gte', 'contains', 'icontains', 'startswith', 'endswith', 'isnull',
]);

// Vendor's MCP server, lib/production/traces.ts: the whole contract of the traces list. `metadata__*` and `total_tokens`
// are on the bulk-delete page and not here.
// prettier-ignore
const TRACE_KEYS = new Set([
  'trace_unique_id', 'start_time', 'end_time', 'timestamp', 'name', 'customer_identifier', 'environment',
  'organization_key_id', 'trace_group_identifier', 'span_count', 'llm_call_count', 'error_count', 'total_cost',
  'total_prompt_tokens', 'total_completion_tokens', 'total_request_tokens', 'duration',
]);

/** Keys of a single span: a trace matches when any of its spans does. */
// prettier-ignore
const SPAN_KEYS = new Set([
  'span_unique_id', 'span_parent_id', 'span_name', 'span_workflow_name', 'model', 'deployment_name', 'provider_id',
  'status', 'status_code', 'error_class', 'error_fingerprint', 'log_type', 'log_method', 'prompt_id', 'prompt_name',
  'prompt_version_number', 'used_custom_credential', 'cost', 'latency', 'time_to_first_token', 'tokens_per_second',
  'routing_time', 'prompt_tokens', 'completion_tokens', 'prompt_cache_hit_tokens', 'prompt_cache_creation_tokens',
  'input', 'output', 'session_identifier',
]);

// Vendor's MCP server, lib/observe/log-filters.ts.
// prettier-ignore
const LOG_KEYS = new Set([
  'unique_id', 'unique_organization_id', 'organization_key_id', 'environment', 'customer_identifier',
  'custom_identifier', 'thread_identifier', 'model', 'deployment_name', 'provider_id', 'status_code', 'status',
  'timestamp', 'start_time', 'log_type', 'log_method', 'trace_unique_id', 'span_name', 'span_workflow_name',
  'span_parent_id', 'prompt_id', 'prompt_name', 'prompt_version_number', 'used_custom_credential', 'error_class',
  'error_fingerprint', 'metadata', 'full_text', 'cost', 'latency', 'time_to_first_token', 'tokens_per_second',
  'routing_time', 'prompt_tokens', 'completion_tokens', 'total_request_tokens', 'prompt_cache_hit_tokens',
  'prompt_cache_creation_tokens', 'is_root_span', 'behaviors', 'fault_domain',
]);

/** Joined after the aggregation of the summary, and so dropped there. */
const JOINED_KEYS = new Set(['scores', 'positive_feedback', 'note']);

function spanValue(row: SpanRow, key: string): unknown {
  switch (key) {
    case 'unique_id':
      return row.uniqueId;
    case 'span_unique_id':
      return row.spanId;
    case 'span_parent_id':
      return row.parentId;
    case 'trace_unique_id':
      return row.traceId;
    case 'organization_key_id':
      return row.keyName;
    case 'environment':
      return row.environment;
    case 'customer_identifier':
      return row.customerIdentifier;
    case 'custom_identifier':
      return row.customIdentifier;
    case 'thread_identifier':
      return row.threadIdentifier;
    case 'session_identifier':
      return row.sessionIdentifier;
    case 'model':
      return row.model;
    case 'status':
      return row.error === null ? 'success' : 'failed';
    case 'status_code':
      return row.error === null ? 200 : 500;
    case 'timestamp':
      return row.endMs;
    case 'start_time':
      return row.startMs;
    case 'log_type':
      return row.logType;
    case 'span_name':
      return row.name;
    case 'span_workflow_name':
      return row.workflowName;
    case 'cost':
      return row.cost;
    case 'latency':
      return row.latency;
    case 'prompt_tokens':
      return row.promptTokens;
    case 'completion_tokens':
      return row.completionTokens;
    case 'total_request_tokens':
      return row.promptTokens + row.completionTokens;
    case 'is_root_span':
      return row.isRoot;
    case 'metadata':
      return JSON.stringify(row.metadata);
    case 'input':
      return textOf(row.input);
    case 'output':
      return textOf(row.output);
    case 'full_text':
      return `${textOf(row.input)} ${textOf(row.output)}`;
    case 'positive_feedback':
      return row.positiveFeedback;
    case 'note':
      return row.note;
    default:
      return null;
  }
}

function logValue(row: SpanRow, key: string): unknown {
  if (key.startsWith('metadata__')) return row.metadata[key.slice('metadata__'.length)] ?? null;
  if (key.endsWith('_vector')) return spanValue(row, key.slice(0, -'_vector'.length));
  return spanValue(row, key);
}

function traceValue(trace: TraceRow, key: string): unknown {
  switch (key) {
    case 'trace_unique_id':
      return trace.traceId;
    case 'start_time':
    case 'timestamp':
      return trace.startMs;
    case 'end_time':
      return trace.endMs;
    case 'name':
      return trace.root?.name ?? null;
    case 'customer_identifier':
      return trace.root?.customerIdentifier ?? null;
    case 'environment':
      return trace.environment;
    case 'organization_key_id':
      return trace.root?.keyName ?? null;
    case 'trace_group_identifier':
      return trace.root?.traceGroupIdentifier ?? null;
    case 'span_count':
      return trace.spans.length;
    case 'llm_call_count':
      return trace.llmCalls;
    case 'error_count':
      return trace.errors;
    case 'total_cost':
      return trace.total('cost');
    case 'total_prompt_tokens':
      return trace.total('promptTokens');
    case 'total_completion_tokens':
      return trace.total('completionTokens');
    case 'total_request_tokens':
      return trace.total('promptTokens') + trace.total('completionTokens');
    case 'duration':
      return trace.duration;
    default:
      return null;
  }
}

function ownsLogKey(key: string): boolean {
  return LOG_KEYS.has(key) || key.startsWith('metadata__') || key.endsWith('_vector');
}

const LOG_INDEXES = {
  unique_id: 'unique',
  trace_unique_id: 'trace',
  customer_identifier: 'customer',
  thread_identifier: 'thread',
} as const;

/** The logs list. */
export const LOGS: Dialect<SpanRow> = {
  owns: (key) => ownsLogKey(key) || JOINED_KEYS.has(key) || key.startsWith('scores__'),
  values: (row, key) => [logValue(row, key)],
  indexes: LOG_INDEXES,
};

/** The summary of logs, which aggregates before scores and annotations are joined. */
export const LOGS_SUMMARY: Dialect<SpanRow> = { ...LOGS, owns: ownsLogKey };

/** The traces list and the bulk delete. */
export const TRACES: Dialect<TraceRow> = {
  owns: (key) => TRACE_KEYS.has(key) || SPAN_KEYS.has(key),
  values: (trace, key) =>
    TRACE_KEYS.has(key) ? [traceValue(trace, key)] : trace.spans.map((span) => spanValue(span, key)),
  indexes: { trace_unique_id: 'trace', customer_identifier: 'customer' },
};

/** Rows that are plain objects: customers, conversations, copies in datasets. Its keys are those it owns. */
export function plain<T extends object>(keys: readonly string[]): Dialect<T> {
  const owned = new Set(keys);
  return {
    owns: (key) => owned.has(key),
    values: (row, key) => [(row as Record<string, unknown>)[key] ?? null],
    indexes: {},
  };
}

function conditionOf(operator: string, values: readonly unknown[], either: boolean): Condition {
  return { operator, values, texts: new Set(values.map(textOf)), either };
}

function conditionsOf(given: unknown): Condition[] {
  const list = Array.isArray(given) ? given : [given];
  return list.map((one) => {
    const condition = record(one);
    if (condition === null) return conditionOf('', [one], false);
    const { operator = '', value, connector } = condition;
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    return conditionOf(textOf(operator), values, connector === 'OR');
  });
}

/** Compares as numbers (instants included) when the stored value is one, else as texts. */
function compare(stored: unknown, wanted: unknown): number {
  if (typeof stored === 'number') {
    const text = textOf(wanted);
    const number = typeof wanted === 'number' ? wanted : text.trim() === '' ? NaN : Number(text);
    const other = Number.isNaN(number) ? (parseTime(wanted) ?? NaN) : number;
    return stored - other;
  }
  const left = textOf(stored);
  const right = textOf(wanted);
  return left === right ? 0 : left < right ? -1 : 1;
}

function holds(stored: unknown, { operator, values, texts }: Condition): boolean {
  const [first] = values;
  if (operator === 'isnull') return (stored === null) === (first === true || first === 'true' || first === 1);
  if (operator === 'not') return stored === null || values.every((value) => compare(stored, value) !== 0);
  if (stored === null || first === undefined) return false;
  const some = (test: (text: string, part: string) => boolean): boolean =>
    values.some((value) => test(textOf(stored), textOf(value)));
  switch (operator) {
    case 'in':
    case 'IN':
      return typeof stored === 'string' ? texts.has(stored) : values.some((value) => compare(stored, value) === 0);
    case 'lt':
      return compare(stored, first) < 0;
    case 'lte':
      return compare(stored, first) <= 0;
    case 'gt':
      return compare(stored, first) > 0;
    case 'gte':
      return compare(stored, first) >= 0;
    case 'contains':
      return some((text, part) => text.includes(part));
    case 'icontains':
      return some((text, part) => text.toLowerCase().includes(part.toLowerCase()));
    case 'startswith':
      return some((text, part) => text.startsWith(part));
    case 'endswith':
      return some((text, part) => text.endsWith(part));
    default:
      return compare(stored, first) === 0;
  }
}

/** What compiling needs to know about the request. */
export interface FilterContext {
  readonly habits: HabitSwitches;
  readonly target: HabitTarget;
  /** More spellings that this list takes for equals: datasets say `eq`. */
  readonly equals?: readonly string[];
}

function kept(context: FilterContext, condition: Condition): Condition | null {
  const { habits, target } = context;
  if (habits.dropsOperator(condition.operator, target)) return null;
  const { unknownOperator, inFirstOnly } = habits.current;
  if (context.equals?.includes(condition.operator) === true) return { ...condition, operator: '' };
  if (!OPERATORS.has(condition.operator)) {
    if (unknownOperator === 'rejected') throw new FilterError(`Unsupported operator: ${condition.operator}`);
    return unknownOperator === 'equals' ? { ...condition, operator: '' } : null;
  }
  const isIn = condition.operator.toLowerCase() === 'in';
  if (inFirstOnly && isIn && target.template.startsWith('/api/traces/')) {
    return conditionOf(condition.operator, condition.values.slice(0, 1), condition.either);
  }
  return condition;
}

function equalTexts(condition: Condition): string[] | null {
  if (condition.either) return null;
  if (condition.operator.toLowerCase() === 'in') return condition.values.map(textOf);
  return condition.operator === '' || condition.operator === '=' ? condition.values.slice(0, 1).map(textOf) : null;
}

/**
 * Compiles `filters` the way the service does: a key that no stage owns is dropped without a word, so the result is
 * wider. With nothing left, everything matches.
 *
 * @param given the `filters` object of the body; anything that is no object counts as none.
 * @param join the body's top-level `operator`; `OR` joins keys by or, everything else by and.
 * @throws FilterError on an unknown operator when the switch says so.
 */
export function compileFilters<T>(
  dialect: Dialect<T>,
  given: unknown,
  join: unknown,
  context: FilterContext,
): CompiledFilter<T> {
  const entries = Object.entries(record(given) ?? {});
  const dropped: string[] = [];
  const lookUps: LookUp[] = [];
  const traceIds: string[] = [];
  const tests: ((subject: T) => boolean)[] = [];
  for (const [key, value] of entries) {
    const owned = dialect.owns(key) && !context.habits.dropsKey(key, context.target);
    const conditions = owned ? conditionsOf(value).flatMap((condition) => kept(context, condition) ?? []) : [];
    if (conditions.length === 0) {
      dropped.push(key);
      continue;
    }
    const either = conditions.some((condition) => condition.either);
    tests.push((subject) => {
      const stored = dialect.values(subject, key);
      const hold = (condition: Condition): boolean => stored.some((one) => holds(one, condition));
      return either ? conditions.some(hold) : conditions.every(hold);
    });
    const equals = conditions.length === 1 && conditions[0] !== undefined ? equalTexts(conditions[0]) : null;
    if (equals === null) continue;
    if (key === 'trace_unique_id') traceIds.push(...equals);
    const index = dialect.indexes[key];
    if (index !== undefined) lookUps.push({ index, keys: equals });
    else if (key.startsWith('metadata__')) {
      const name = key.slice('metadata__'.length);
      lookUps.push({ index: 'metadata', keys: equals.map((text) => metadataKey(name, text)) });
    }
  }
  const or = join === 'OR' && tests.length > 0;
  return {
    matches: (subject) => (or ? tests.some((test) => test(subject)) : tests.every((test) => test(subject))),
    given: entries.length > 0,
    dropped,
    lookUps: or ? [] : lookUps,
    traceIds,
  };
}
