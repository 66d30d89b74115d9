import { z } from 'zod';
import { virtualAt, type Clock } from '../erasure/clock.ts';
import { riskOf } from '../erasure/deadline.ts';
import { connectionStatus, newLane } from '../erasure/lane.ts';
import { SCOPE_MEMO, STATUS_MEMO, type StatusMemo } from '../erasure/memo.ts';
import { worstStatus, isVerdict, type Status } from '../erasure/outcome.ts';
import type { EraseInput } from '../erasure/request.ts';
import { requestStatusSchema, type ConnectionStatus, type RequestStatus } from '../erasure/status.ts';
import type { LaneRecord, RecordView } from '../evidence/record.ts';
import { UnreadableStateError } from './errors.ts';
import type { FullScope } from './prepare.ts';

const statusMemoSchema = z.object({
  status: requestStatusSchema,
  clock: z.object({ realMs: z.number(), virtualMs: z.number(), speed: z.number() }).nullable(),
});

const scopeMemoSchema = z.object({
  requestId: z.string(),
  scopeDigest: z.string(),
  connections: z.array(z.string()),
  kinds: z.array(z.string()),
  knownCount: z.number(),
  acceptUnlabelled: z.number(),
  expectAtMost: z.number().nullable(),
  dryRun: z.boolean(),
  // Absent in memos of releases that knew of no bound.
  onlyBeforeMs: z.number().nullable().default(null),
  subjectDigest: z.string(),
  knownDigest: z.string(),
});

/** @throws UnreadableStateError */
export function readStatusMemo(workflowId: string, memo: Record<string, unknown> | undefined): StatusMemo {
  const parsed = statusMemoSchema.safeParse(memo?.[STATUS_MEMO]);
  if (!parsed.success) throw new UnreadableStateError(workflowId, { cause: parsed.error });
  return parsed.data;
}

/** @throws UnreadableStateError */
export function readScopeMemo(workflowId: string, memo: Record<string, unknown> | undefined): FullScope {
  const parsed = scopeMemoSchema.safeParse(memo?.[SCOPE_MEMO]);
  if (!parsed.success) throw new UnreadableStateError(workflowId, { cause: parsed.error });
  return parsed.data;
}

/** What a request looks like before any worker has seen it. */
export function initialStatus(input: EraseInput, workflowId: string, clock: Clock): RequestStatus {
  const now = Date.now();
  const iso = (ms: number) => new Date(ms).toISOString();
  return {
    requestId: input.requestId,
    workflowId,
    status: 'planning',
    overdue: virtualAt(clock, now) > input.dueAtMs,
    receivedAt: iso(input.receivedAtMs),
    dueAt: iso(input.dueAtMs),
    law: input.deadlines?.law ?? null,
    zone: input.deadlines?.zone ?? null,
    confirmBy: input.deadlines?.confirmByMs == null ? null : iso(input.deadlines.confirmByMs),
    extension: null,
    joinedRequests: [],
    atRisk: false,
    atRiskReason: null,
    endedAt: null,
    dryRun: input.dryRun,
    simulated: clock !== null,
    exceptions: [],
    connections: Object.fromEntries(
      input.connections.map((name) => [name, connectionStatus(newLane(name, input.known[name]?.length ?? 0), now)]),
    ),
  };
}

/** How a workflow execution stands, as far as a status needs to know. */
export type Liveness = 'running' | 'ended' | 'lost';

/**
 * A kept status as it is true now: whether it is overdue depends on the clock, and a workflow that was ended from
 * outside will never act again, whatever it wrote last.
 */
export function current({ status, clock }: StatusMemo, liveness: Liveness, realNowMs: number): RequestStatus {
  const nowMs = virtualAt(clock, realNowMs);
  const endedMs = status.endedAt === null ? nowMs : Date.parse(status.endedAt);
  const base = { ...status, overdue: endedMs > Date.parse(status.dueAt), ...riskOf(status) };
  if (liveness !== 'lost') return base;
  return lost(
    base,
    nowMs,
    'its workflow was ended from outside (terminated or failed): nothing acts on it any more; what was submitted goes ' +
      'on at the store; ask again under a new request id',
  );
}

/** An open request on which nothing acts any more. */
function lost(status: RequestStatus, nowMs: number, next: string): RequestStatus {
  const connections: Record<string, ConnectionStatus> = {};
  for (const [name, lane] of Object.entries(status.connections)) {
    connections[name] = isVerdict(lane.status)
      ? lane
      : {
          ...lane,
          status: 'needs-operator',
          nextCheckAt: null,
          attention: { reason: 'workflow-lost', since: new Date(nowMs).toISOString(), next },
        };
  }
  return { ...status, status: 'needs-operator', connections };
}

/**
 * The status of a request of which only the record is left: ended, and past Temporal's retention; or open, and without
 * a workflow, which never happens by itself.
 */
export function statusFromRecord(
  requestId: string,
  { request, lanes, outcome, simulated }: RecordView,
  clock: Clock,
  realNowMs: number,
): RequestStatus | null {
  // Without its opening nothing is known that a status could say.
  if (request === null) return null;
  const nowMs = virtualAt(clock, realNowMs);
  const connections: Record<string, ConnectionStatus> = {};
  const names = [...new Set([...request.connections, ...Object.keys(outcome?.lanes ?? lanes)])];
  for (const name of names) {
    connections[name] = laneFromRecord(name, lanes[name], outcome);
  }
  const endedAt = outcome?.endedAt ?? null;
  const { extension = null, joined = [] } = outcome ?? {};
  const dueAt = [extension?.to ?? request.dueAt, ...joined.map((other) => other.dueAt)].sort()[0] ?? request.dueAt;
  const base: RequestStatus = {
    requestId,
    workflowId: request.workflowId,
    status: worstStatus(Object.values(connections).map(({ status }) => status)),
    overdue: (endedAt === null ? nowMs : Date.parse(endedAt)) > Date.parse(dueAt),
    receivedAt: request.receivedAt,
    dueAt,
    law: request.deadlines?.law ?? null,
    zone: request.deadlines?.zone ?? null,
    confirmBy: request.deadlines?.confirmBy ?? null,
    extension,
    joinedRequests: joined.map(({ requestId: other, receivedAt, dueAt: due }) => ({
      requestId: other,
      receivedAt,
      dueAt: due,
    })),
    atRisk: false,
    atRiskReason: null,
    endedAt,
    dryRun: request.dryRun,
    simulated,
    exceptions: Object.entries(outcome?.lanes ?? {}).flatMap(([connection, { exceptions }]) =>
      exceptions.map((exception) => ({ connection, ...exception })),
    ),
    connections,
  };
  if (outcome !== null) return base;
  return lost(
    base,
    nowMs,
    'its record was opened and never closed, and Temporal has no workflow of it: nothing acts on it; ask again under a ' +
      'new request id',
  );
}

function laneFromRecord(name: string, lane: LaneRecord | undefined, sealed: RecordView['outcome']): ConnectionStatus {
  const outcome = sealed?.lanes[name] ?? null;
  const approval = sealed?.verbs.findLast(
    ({ verb, connection, applied }) => verb === 'approve' && connection === name && applied,
  );
  const initial = connectionStatus(newLane(name, 0), 0);
  const entries = (lane?.entries ?? []).map(({ entry }) => entry);
  const plan = entries.find((entry) => entry.kind === 'plan');
  const read = entries.findLast((entry) => entry.kind === 'read');
  const approved = entries.findLast((entry) => entry.kind === 'approved-plan');
  const figures = outcome ?? read ?? approved ?? plan ?? initial;
  const rounds = entries.map((entry) => ('round' in entry ? entry.round : 0));
  const status: Status = outcome?.verdict ?? initial.status;
  return {
    ...initial,
    status,
    round: outcome?.round ?? Math.max(0, ...rounds),
    searched: plan?.searched ?? {},
    given: figures.given,
    traces: { ...figures.traces, newActivity: figures.traces.newActivity ?? 0 },
    copies: figures.copies,
    ...(figures.tasks === undefined ? {} : { tasks: figures.tasks }),
    cleanReads: read?.cleanReads ?? 0,
    cleanReadsWanted: plan?.policy.cleanReads ?? initial.cleanReadsWanted,
    lastRead: read?.why ?? null,
    plan: entries.flatMap((entry) => ('plan' in entry ? (entry.plan ?? []) : [])).at(-1) ?? null,
    approval:
      approval === undefined ? null : { atMost: approval.atMost ?? 0, by: approval.requestedBy, at: approval.at },
  };
}
