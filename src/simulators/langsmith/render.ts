import { hashShare } from '../common/ids.ts';
import type { Json } from '../common/json.ts';
import { rfc3339 } from '../common/time.ts';
import type { Copies } from './copies.ts';
import type { RunRow } from './rows.ts';
import type { Select } from './schemas.ts';
import type { Project } from './state.ts';
import { zoneless } from './time.ts';
import type { World } from './world.ts';

const PREVIEW_CHARS = 200;

function preview(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value).slice(0, PREVIEW_CHARS);
}

function feedbackStats(copies: Copies, row: RunRow): Json {
  const stats: Record<string, { n: number; avg: number | null; comments: string[] }> = {};
  for (const feedback of copies.feedbackOf(row.id)) {
    const stat = (stats[feedback.key] ??= { n: 0, avg: null, comments: [] });
    stat.n += 1;
    if (feedback.score !== null) stat.avg = ((stat.avg ?? 0) * (stat.n - 1) + feedback.score) / stat.n;
    if (feedback.comment !== null) stat.comments.push(feedback.comment);
  }
  return stats;
}

function shareOf(world: World, row: RunRow): string | null {
  return world.copies.shareOf('run', row.projectId, row.traceId, world.now())?.token ?? null;
}

function inDataset(world: World, row: RunRow): boolean {
  return world.copies.examplesOfTrace(row.traceId).some((example) => example.sourceRunId === row.id);
}

function appPath(world: World, row: RunRow): string {
  const tenant = world.state.tenantOf(row.projectId) ?? '';
  return `/o/${tenant}/projects/p/${row.projectId}/r/${row.id}?trace_id=${row.traceId}`;
}

const V1_FIELDS: Record<string, (row: RunRow, world: World) => unknown> = {
  id: (row) => row.id,
  name: (row) => row.name,
  run_type: (row) => row.runType.toLowerCase(),
  start_time: (row) => zoneless(row.startMs),
  end_time: (row) => (row.endMs === null ? null : zoneless(row.endMs)),
  status: (row) => row.status,
  error: (row) => row.error,
  extra: (row) => ({ ...row.extra, metadata: row.metadata }),
  inputs: (row) => row.inputs ?? {},
  outputs: (row) => row.outputs,
  events: (row) => row.events ?? [],
  serialized: (row) => row.serialized,
  tags: (row) => row.tags,
  session_id: (row) => row.projectId,
  trace_id: (row) => row.traceId,
  thread_id: (row) => row.threadId,
  parent_run_id: (row) => row.parentId,
  parent_run_ids: (row) => row.parentIds,
  dotted_order: (row) => row.dottedOrder,
  reference_example_id: (row) => row.referenceExampleId,
  feedback_stats: (row, world) => feedbackStats(world.copies, row),
  inputs_preview: (row) => preview(row.inputs),
  outputs_preview: (row) => preview(row.outputs),
  app_path: (row, world) => appPath(world, row),
  in_dataset: (row, world) => inDataset(world, row),
  last_queued_at: (row) => (row.lastQueuedMs === null ? null : zoneless(row.lastQueuedMs)),
  share_token: (row, world) => shareOf(world, row),
  child_run_ids: (row, world) =>
    world.state
      .rowsOfTrace(row.traceId)
      .filter((one) => one.id !== row.id && one.projectId === row.projectId && one.parentIds.includes(row.id))
      .map((one) => one.id),
  execution_order: (row) => (row.isRoot ? 1 : 2),
  total_tokens: () => 0,
  prompt_tokens: () => 0,
  completion_tokens: () => 0,
  total_cost: () => null,
  prompt_cost: () => null,
  completion_cost: () => null,
  first_token_time: () => null,
  manifest_id: () => null,
  trace_tier: () => 'longlived',
  ttl_seconds: () => 400 * 86_400,
  trace_first_received_at: (row) => zoneless(row.bornMs),
};
/** Costly or secret fields that come only when selected. */
const V1_ON_REQUEST = new Set(['child_run_ids', 'share_token', 'trace_tier', 'ttl_seconds', 'trace_first_received_at']);

/** A run as v1 answers it; times have no zone. Without `select`, everything but what is costly. */
export function v1Run(world: World, row: RunRow, select: readonly string[] | null): Json {
  const names = select ?? Object.keys(V1_FIELDS).filter((name) => !V1_ON_REQUEST.has(name));
  const run: Record<string, unknown> = { id: row.id };
  for (const name of names) {
    const field = V1_FIELDS[name];
    if (field !== undefined) run[name] = field(row, world);
  }
  return run;
}

const V2_FIELDS: Partial<Record<Select, (row: RunRow, world: World) => unknown>> = {
  ID: (row) => row.id,
  NAME: (row) => row.name,
  RUN_TYPE: (row) => row.runType.toUpperCase(),
  STATUS: (row) => row.status.toUpperCase(),
  START_TIME: (row) => rfc3339(row.startMs),
  END_TIME: (row) => (row.endMs === null ? null : rfc3339(row.endMs)),
  LATENCY_SECONDS: (row) => (row.endMs === null ? undefined : (row.endMs - row.startMs) / 1000),
  ERROR: (row) => row.error ?? undefined,
  ERROR_PREVIEW: (row) => row.error?.slice(0, PREVIEW_CHARS),
  EXTRA: (row) => ({ ...row.extra, metadata: row.metadata }),
  METADATA: (row) => row.metadata,
  EVENTS: (row) => row.events ?? [],
  INPUTS: (row) => row.inputs ?? {},
  INPUTS_PREVIEW: (row) => preview(row.inputs) ?? undefined,
  OUTPUTS: (row) => row.outputs ?? undefined,
  OUTPUTS_PREVIEW: (row) => preview(row.outputs) ?? undefined,
  PARENT_RUN_IDS: (row) => row.parentIds,
  PROJECT_ID: (row) => row.projectId,
  TRACE_ID: (row) => row.traceId,
  THREAD_ID: (row) => row.threadId ?? undefined,
  DOTTED_ORDER: (row) => row.dottedOrder,
  IS_ROOT: (row) => row.isRoot,
  REFERENCE_EXAMPLE_ID: (row) => row.referenceExampleId ?? undefined,
  REFERENCE_DATASET_ID: (row, world) => world.copies.examples.get(row.referenceExampleId ?? '')?.datasetId,
  TOTAL_TOKENS: () => 0,
  TAGS: (row) => row.tags,
  APP_PATH: (row, world) => appPath(world, row),
  // Stands for the pre-signed address of the real service; it leads nowhere.
  ATTACHMENTS: (row) =>
    Object.fromEntries(
      Object.keys(row.attachments).map((name) => [name, `https://attachments.invalid/${hashShare(row.id, name)}`]),
    ),
  IS_IN_DATASET: (row, world) => inDataset(world, row),
  LAST_QUEUED_AT: (row) => (row.lastQueuedMs === null ? undefined : rfc3339(row.lastQueuedMs)),
  SHARE_URL: (row, world) => {
    const token = shareOf(world, row);
    return token === null ? undefined : `https://smith.invalid/public/${token}/r`;
  },
  FEEDBACK_STATS: (row, world) => feedbackStats(world.copies, row),
};

/** A run as v2 answers it: only what was selected, by default the id. */
export function v2Run(world: World, row: RunRow, selects: readonly Select[] | null | undefined): Json {
  const run: Record<string, unknown> = {};
  for (const name of selects === null || selects === undefined || selects.length === 0 ? (['ID'] as const) : selects) {
    run[name.toLowerCase()] = V2_FIELDS[name]?.(row, world);
  }
  return run;
}

/** A project as v1 answers it. */
export function v1Project(project: Project): Json {
  return {
    id: project.id,
    tenant_id: project.tenantId,
    name: project.name,
    description: project.description,
    extra: project.extra,
    start_time: zoneless(project.startMs),
    end_time: project.endMs === null ? null : zoneless(project.endMs),
    reference_dataset_id: project.referenceDatasetId,
    default_dataset_id: null,
    last_run_start_time_live: null,
    trace_tier: 'longlived',
  };
}

/** A project as v2 answers it. */
export function v2Project(project: Project): Json {
  return {
    ...v1Project(project),
    type: project.type,
    start_time: rfc3339(project.startMs),
    end_time: project.endMs === null ? null : rfc3339(project.endMs),
    trace_tier: 'LONG_LIVED',
  };
}
