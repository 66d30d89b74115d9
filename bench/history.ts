import type { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { optionalTsToMs } from '@temporalio/common/lib/time.js';
import protobuf, { type temporal } from '@temporalio/proto';

type HistoryEvent = temporal.api.history.v1.IHistoryEvent;

/** What one run of a workflow left in its history. */
export interface RunFigures {
  readonly runId: string;
  readonly events: number;
  /** The whole history as protobuf, as the server sends and stores it. */
  readonly protobufBytes: number;
  /** The same as the CLI's JSON. */
  readonly jsonBytes: number;
  readonly workflowTasks: number;
  readonly failedWorkflowTasks: number;
  readonly activities: number;
  readonly timers: number;
  readonly attributeUpserts: number;
  readonly memoUpserts: number;
  readonly continuedAsNew: boolean;
  /** Protobuf bytes by the kind of event. */
  readonly bytesByEvent: Readonly<Record<string, number>>;
}

/** What an activity was for. */
export interface ActivityFigures {
  readonly type: string;
  /** Real epoch milliseconds. */
  readonly startedMs: number;
  readonly closedMs: number;
  /** 1 when it went through at once. */
  readonly attempts: number;
}

export interface WorkflowFigures {
  /** First run first. */
  readonly runs: readonly RunFigures[];
  /** In the order in which they ended. */
  readonly activities: readonly ActivityFigures[];
  /** What the timers that fired were set to, real milliseconds; nobody waited for one that was cancelled. */
  readonly timersMs: readonly number[];
}

/** Reads the histories of all runs of a workflow, from the first to the one that did not continue as new. */
export async function historyOf(client: Client, workflowId: string): Promise<WorkflowFigures> {
  const { raw } = await client.workflow.getHandle(workflowId).describe();
  let runId = raw.workflowExecutionInfo?.firstRunId ?? raw.workflowExecutionInfo?.execution?.runId;
  const runs: RunFigures[] = [];
  const activities: ActivityFigures[] = [];
  const timersMs: number[] = [];
  while (runId != null && runId !== '') {
    const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
    const events = history.events ?? [];
    const has = (key: keyof HistoryEvent): number => events.filter((event) => event[key] != null).length;
    const next = events.at(-1)?.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
    runs.push({
      runId,
      events: events.length,
      protobufBytes: protobuf.temporal.api.history.v1.History.encode(history).finish().length,
      jsonBytes: Buffer.byteLength(historyToJSON(history)),
      workflowTasks: has('workflowTaskCompletedEventAttributes'),
      failedWorkflowTasks: has('workflowTaskFailedEventAttributes') + has('workflowTaskTimedOutEventAttributes'),
      activities: has('activityTaskScheduledEventAttributes'),
      timers: has('timerStartedEventAttributes'),
      attributeUpserts: has('upsertWorkflowSearchAttributesEventAttributes'),
      memoUpserts: has('workflowPropertiesModifiedEventAttributes'),
      continuedAsNew: next != null,
      bytesByEvent: bytesByEvent(events),
    });
    activities.push(...activitiesAmong(events));
    const fired = new Set(events.flatMap(({ timerFiredEventAttributes: timer }) => String(timer?.startedEventId)));
    for (const { eventId, timerStartedEventAttributes: timer } of events) {
      if (timer != null && fired.has(String(eventId))) timersMs.push(optionalTsToMs(timer.startToFireTimeout) ?? 0);
    }
    runId = next ?? null;
  }
  return { runs, activities: activities.sort((a, b) => a.closedMs - b.closedMs), timersMs };
}

function bytesByEvent(events: readonly HistoryEvent[]): Record<string, number> {
  const bytes: Record<string, number> = {};
  for (const event of events) {
    const kind =
      Object.keys(event)
        .find((key) => key.endsWith('EventAttributes'))
        ?.slice(0, -15) ?? 'unknown';
    bytes[kind] = (bytes[kind] ?? 0) + protobuf.temporal.api.history.v1.HistoryEvent.encode(event).finish().length;
  }
  return bytes;
}

function activitiesAmong(events: readonly HistoryEvent[]): ActivityFigures[] {
  const byId = new Map(events.map((event) => [String(event.eventId), event]));
  return events.flatMap((event) => {
    const closed =
      event.activityTaskCompletedEventAttributes ??
      event.activityTaskFailedEventAttributes ??
      event.activityTaskTimedOutEventAttributes ??
      event.activityTaskCanceledEventAttributes;
    if (closed == null) return [];
    const scheduled = byId.get(String(closed.scheduledEventId));
    const started = byId.get(String(closed.startedEventId));
    return [
      {
        type: scheduled?.activityTaskScheduledEventAttributes?.activityType?.name ?? 'unknown',
        startedMs: optionalTsToMs(started?.eventTime) ?? 0,
        closedMs: optionalTsToMs(event.eventTime) ?? 0,
        attempts: started?.activityTaskStartedEventAttributes?.attempt ?? 1,
      },
    ];
  });
}
