import { z } from 'zod';
import { compileFilter, FilterError, comparisonsOf, type CompiledFilter } from './filter.ts';
import { ApiError } from '../common/http.ts';
import { detail, goError, unprocessable, type Call } from './http.ts';
import { parseTime } from '../common/time.ts';

/** The values of a repeated query parameter, `null` when it is absent. */
export function asList(query: URLSearchParams, name: string): ReadonlySet<string> | null {
  const values = query.getAll(name);
  return values.length === 0 ? null : new Set(values);
}

/** `offset` and `limit` (1..100, default 100) of v1 lists. @throws ApiError 422 outside. */
export function pageParams(query: URLSearchParams, largest = 100): { offset: number; limit: number } {
  const number = (name: string, fallback: number, min: number, max: number): number => {
    const given = query.get(name);
    if (given === null) return fallback;
    const value = Number(given);
    if (!Number.isInteger(value) || value < min || value > max) {
      throw unprocessable(['query', name], `Input should be an integer from ${min} to ${max}`, 'value_error');
    }
    return value;
  };
  return { offset: number('offset', 0, 0, Number.MAX_SAFE_INTEGER), limit: number('limit', largest, 1, largest) };
}

const uuid = z
  .string()
  .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i, 'invalid UUID')
  .transform((value) => value.toLowerCase());
const uuids = z.array(uuid).nullish();
const time = z
  .union([z.string(), z.number()])
  .refine((value) => parseTime(value) !== null, 'invalid datetime')
  .transform((value) => parseTime(value) ?? 0)
  .nullish();
const text = z.string().nullish();
const flag = z.boolean().nullish();

/** Body of v1 `runs/query`. Unknown fields (`offset`, say) are ignored, as the service ignores them. */
export const V1_QUERY = z.object({
  id: uuids,
  trace: uuid.nullish(),
  parent_run: uuid.nullish(),
  run_type: text,
  session: uuids,
  reference_example: uuids,
  execution_order: z.number().int().nullish(),
  start_time: time,
  end_time: time,
  error: flag,
  filter: text,
  trace_filter: text,
  tree_filter: text,
  search_filter: text,
  is_root: flag,
  cursor: text,
  limit: z.number().int().min(1).max(100).nullish(),
  select: z.array(z.string()).nullish(),
  order: z.enum(['asc', 'desc']).nullish(),
  skip_pagination: flag,
});

/** Fields that v2 can select (SDK 0.12: RunSelectField). */
// prettier-ignore
export const SELECTS = [
  'ID', 'NAME', 'RUN_TYPE', 'STATUS', 'START_TIME', 'END_TIME', 'LATENCY_SECONDS', 'FIRST_TOKEN_TIME', 'ERROR',
  'ERROR_PREVIEW', 'EXTRA', 'METADATA', 'EVENTS', 'INPUTS', 'INPUTS_PREVIEW', 'OUTPUTS', 'OUTPUTS_PREVIEW', 'MANIFEST',
  'PARENT_RUN_IDS', 'PROJECT_ID', 'TRACE_ID', 'THREAD_ID', 'DOTTED_ORDER', 'IS_ROOT', 'REFERENCE_EXAMPLE_ID',
  'REFERENCE_DATASET_ID', 'TOTAL_TOKENS', 'PROMPT_TOKENS', 'COMPLETION_TOKENS', 'TOTAL_COST', 'PROMPT_COST',
  'COMPLETION_COST', 'PROMPT_TOKEN_DETAILS', 'COMPLETION_TOKEN_DETAILS', 'PROMPT_COST_DETAILS',
  'COMPLETION_COST_DETAILS', 'PRICE_MODEL_ID', 'TAGS', 'APP_PATH', 'ATTACHMENTS', 'THREAD_EVALUATION_TIME',
  'IS_IN_DATASET', 'LAST_QUEUED_AT', 'SHARE_URL', 'FEEDBACK_STATS', 'LS_USER_ID',
] as const;
export type Select = (typeof SELECTS)[number];

const selects = z.array(z.enum(SELECTS)).nullish();
const pageSize = z.number().int().min(1).max(1000).nullish();

/** Body of v2 `runs/query`. */
export const V2_QUERY = z.object({
  project_ids: z.array(uuid).nullish(),
  reference_dataset_id: uuid.nullish(),
  ids: uuids,
  trace_id: uuid.nullish(),
  filter: text,
  trace_filter: text,
  tree_filter: text,
  is_root: flag,
  has_error: flag,
  run_type: z.enum(['TOOL', 'CHAIN', 'LLM', 'RETRIEVER', 'EMBEDDING', 'PROMPT', 'PARSER']).nullish(),
  reference_examples: uuids,
  min_start_time: time,
  max_start_time: time,
  selects,
  page_size: pageSize,
  cursor: text,
});

/** Body of v2 `traces/query`. */
export const V2_TRACES = z.object({
  project_id: uuid,
  trace_ids: uuids,
  trace_filter: text,
  tree_filter: text,
  min_start_time: time,
  max_start_time: time,
  selects,
  page_size: pageSize,
  cursor: text,
});

/** Body of v2 `threads/query`. */
export const V2_THREADS = z.object({
  project_id: uuid,
  filter: text,
  min_start_time: time,
  max_start_time: time,
  page_size: pageSize,
  cursor: text,
});

/** Body of `runs/delete`; every field is optional for the schema, the handler wants a pair. */
export const DELETE_BODY = z.object({
  session_id: uuid.nullish(),
  trace_ids: uuids,
  metadata: z.record(z.string(), z.unknown()).nullish(),
  delete_examples: flag,
  start_time: time,
});

/** Body of `runs/delete/traces`. */
export const DELETE_TRACES_BODY = z.object({ session_id: uuid, trace_ids: z.array(uuid) });

/** Checks a body; a failure is a 422 with a list (v1) or a 400 with a text (v2 and platform). */
export function checked<T extends z.ZodType>(call: Call, schema: T): z.output<T> {
  const result = schema.safeParse(call.json());
  if (result.success) return result.data;
  if (call.spec.base !== 'v1') {
    const [first] = result.error.issues;
    throw goError(400, `invalid ${first?.path.map(String).join('.') ?? 'body'}: ${first?.message ?? 'bad value'}`);
  }
  const issues = result.error.issues.map((issue) => ({
    loc: ['body', ...issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))],
    msg: issue.message,
    type: issue.code,
  }));
  throw new ApiError(422, { detail: issues });
}

/**
 * Compiles a filter of a run query; an empty one doesn't narrow. `nothing` tells that the `traceIdFilter` habit makes the
 * answer empty.
 *
 * @throws ApiError 400 on a bad expression.
 */
export function runFilter(call: Call, given: string | null | undefined): { filter?: CompiledFilter; nothing: boolean } {
  const { queryFilterIgnored, traceIdFilter } = call.world.habits.current;
  if (given === null || given === undefined || given === '') return { nothing: false };
  const bad = (message: string): ApiError => (call.spec.base === 'v1' ? detail(400, message) : goError(400, message));
  let filter: CompiledFilter;
  try {
    filter = compileFilter(given);
  } catch (error) {
    if (error instanceof FilterError) throw bad(error.message);
    throw error;
  }
  if (queryFilterIgnored) return { nothing: false };
  const byTrace = comparisonsOf(filter.expression).some((one) => one.op === 'in' && one.field === 'trace_id');
  if (byTrace && traceIdFilter === 'rejected') throw bad('Invalid filter: in does not take trace_id');
  return { filter, nothing: byTrace && traceIdFilter === 'ignored' };
}
