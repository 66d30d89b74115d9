import type { Clock } from './clock.ts';
import type { Status } from './outcome.ts';
import { DAY_MS } from './rhythm.ts';
import type { RequestStatus } from './status.ts';

/** What a webhook can be sent for. */
export const EVENT_KINDS = ['ended', 'flagged', 'overdue', 'at-risk'] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** Type of the workflow that delivers one webhook. */
export const NOTIFY_WORKFLOW = 'notify';

/** Something that happened to a request, found by comparing two statuses. */
export interface StatusEvent {
  readonly kind: EventKind;
  /** The lane that it concerns; null: the request as a whole. */
  readonly connection: string | null;
  /** Why an operator is asked for; null for other kinds. */
  readonly reason: string | null;
  /** Names the event within its request: each is told once, a flag once whenever it is raised. */
  readonly key: string;
  /** Of a flag: since when it stands, ISO 8601 in UTC. */
  readonly since?: string;
}

/** The body of a webhook. Holds nothing about the person. */
export interface WebhookBody {
  readonly event: EventKind;
  readonly requestId: string;
  readonly workflowId: string;
  readonly status: Status;
  readonly connection?: string;
  readonly reason?: string;
  /** When it happened, and when the request is due: ISO 8601 in UTC, on the virtual clock when there is one. */
  readonly at: string;
  readonly due: string;
}

/** Input of the `notify` workflow. */
export interface NotifyInput {
  readonly body: WebhookBody;
  readonly clock: Clock;
}

/** The activity that delivers a webhook, on the request queue. */
export interface NotifyActivities {
  /** @throws when it was not delivered; Temporal tries again. */
  postWebhook(input: NotifyInput): Promise<{ readonly status: number }>;
}

/**
 * What happened between two statuses of a request.
 *
 * @param previous the status that was looked at last, or null: everything that is so now has just happened.
 */
export function eventsOf(previous: RequestStatus | null, status: RequestStatus): readonly StatusEvent[] {
  const events: StatusEvent[] = [];
  const whole = (kind: EventKind): StatusEvent => ({ kind, connection: null, reason: null, key: kind });
  for (const [connection, { attention }] of Object.entries(status.connections)) {
    const before = previous?.connections[connection]?.attention ?? null;
    if (attention === null || before?.reason === attention.reason) continue;
    const { reason, since } = attention;
    events.push({ kind: 'flagged', connection, reason, key: `flagged/${connection}/${reason}`, since });
  }
  if (isAtRisk(status) && (previous === null || !isAtRisk(previous))) events.push(whole('at-risk'));
  if (status.overdue && previous?.overdue !== true) events.push(whole('overdue'));
  if (status.endedAt !== null && (previous === null || previous.endedAt === null)) events.push(whole('ended'));
  return events;
}

/** Flags that nothing but a person's decision takes away. */
const WAITS_FOR_PEOPLE: readonly string[] = ['approval', 'hold-expired'];

/**
 * Whether a flag that was told before has gone and come back, so that it is told again. Of what heals by itself only after
 * a day: a store that fails now and then must not send a webhook for every time.
 *
 * @param told since when each flag stood as it was told last, by the event's key; one of which that is not known is not
 *   told again.
 */
export function isRaisedAgain({ key, reason, since }: StatusEvent, told: Readonly<Record<string, string>>): boolean {
  const before = told[key];
  if (since === undefined || before === undefined || since === before) return false;
  return WAITS_FOR_PEOPLE.includes(reason ?? '') || Date.parse(since) - Date.parse(before) >= DAY_MS;
}

/** Whether the status says that the due date may be missed; a status that says nothing of it does not. */
function isAtRisk(status: RequestStatus): boolean {
  return (status as { readonly atRisk?: unknown }).atRisk === true;
}
