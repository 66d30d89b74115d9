import type { Json } from '../common/json.ts';
import { rfc3339 } from '../common/time.ts';
import type { CustomerRecord } from './customers.ts';
import type { SpanRow, TraceRow } from './rows.ts';

/** A log as lists and single reads show it; the list names its id `id`, single reads `unique_id`: both are there. */
export function logJson(row: SpanRow): Json {
  return {
    id: row.uniqueId,
    unique_id: row.uniqueId,
    timestamp: rfc3339(row.endMs),
    start_time: rfc3339(row.startMs),
    environment: row.environment,
    trace_unique_id: row.traceId,
    span_unique_id: row.traceId === null ? null : row.spanId,
    span_parent_id: row.parentId,
    span_name: row.name,
    span_workflow_name: row.workflowName,
    log_type: row.logType,
    customer_identifier: row.customerIdentifier,
    customer_name: row.customerName,
    customer_email: row.customerEmail,
    custom_identifier: row.customIdentifier,
    thread_identifier: row.threadIdentifier,
    trace_group_identifier: row.traceGroupIdentifier,
    session_identifier: row.sessionIdentifier,
    metadata: row.metadata,
    model: row.model,
    status: row.error === null ? 'success' : 'failed',
    status_code: row.error === null ? 200 : 500,
    error_message: row.error,
    cost: row.cost,
    latency: row.latency,
    prompt_tokens: row.promptTokens,
    completion_tokens: row.completionTokens,
    total_request_tokens: row.promptTokens + row.completionTokens,
    input: row.input,
    output: row.output,
    is_pinned: row.isPinned,
    positive_feedback: row.positiveFeedback,
    note: row.note,
    blurred: false,
    storage_object_key: null,
  };
}

/** A trace as its list shows it: what a trace says of its user, name and content comes from its root. */
export function traceJson(trace: TraceRow): Json {
  const { root } = trace;
  const prompt = trace.total('promptTokens');
  const completion = trace.total('completionTokens');
  return {
    trace_unique_id: trace.traceId,
    root_span_unique_id: root?.spanId ?? null,
    customer_identifier: root?.customerIdentifier ?? null,
    environment: trace.environment,
    start_time: rfc3339(trace.startMs),
    end_time: rfc3339(trace.endMs),
    duration: trace.duration,
    span_count: trace.spans.length,
    llm_call_count: trace.llmCalls,
    total_cost: trace.total('cost'),
    total_prompt_tokens: prompt,
    total_completion_tokens: completion,
    total_tokens: prompt + completion,
    error_count: trace.errors,
    name: root?.name ?? null,
    input: root?.input ?? null,
    output: root?.output ?? null,
    metadata: root?.metadata ?? {},
    trace_group_identifier: root?.traceGroupIdentifier ?? null,
    session_identifier: root?.sessionIdentifier ?? null,
    model: trace.spans.find((span) => span.model !== null)?.model ?? null,
  };
}

interface Branch extends Json {
  readonly children: Branch[];
}

/** A trace with its spans as a tree. A span whose parent isn't there stands at the top. */
export function traceTreeJson(trace: TraceRow): Json {
  const branches = new Map(trace.spans.map((span) => [span.spanId, { ...logJson(span), children: [] }]));
  const tops: Branch[] = [];
  for (const span of trace.spans) {
    const branch = branches.get(span.spanId);
    const parent = span.parentId === null ? undefined : branches.get(span.parentId);
    if (branch !== undefined) (parent?.children ?? tops).push(branch);
  }
  return { ...traceJson(trace), span_tree: tops };
}

/** A customer as the list shows it. */
export function customerJson(one: CustomerRecord): Json {
  return {
    id: one.id,
    customer_identifier: one.customerIdentifier,
    email: one.email,
    name: one.name,
    environment: one.environment,
    first_seen: rfc3339(one.firstSeenMs),
    last_active_timeframe: rfc3339(one.lastActiveMs),
    number_of_requests: one.requests,
    total_tokens: one.tokens,
    total_cost: one.cost,
  };
}
