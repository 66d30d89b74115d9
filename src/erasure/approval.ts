import { formatCount, formatTraces } from './format.ts';
import { INCLUDES, type Include } from './include.ts';

/** An operator's word that exactly one plan may be carried out. */
export interface Approval {
  /** Digest of the plan that was approved. */
  readonly planDigest: string;
  /** Traces that may ever be submitted in the lane, all rounds together. */
  readonly atMost: number;
  readonly by: string;
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
  /** Traces that the plan keeps and that are to be erased along; absent: none. */
  readonly include?: readonly Include[];
}

/** What `approve` says besides who asks and why. */
export interface ApprovalFields {
  /** The digest that the status shows. */
  readonly planDigest: string;
  readonly atMost: number;
  /** See `Approval.include`. */
  readonly include?: readonly Include[];
}

/** Names of the message's own fields. */
export const APPROVAL_FIELDS = ['planDigest', 'atMost', 'include'] as const;

/** @returns the fields, or a line that says which one is wrong; never repeats a value. */
export function parseApprovalFields(fields: Readonly<Record<string, unknown>>): ApprovalFields | string {
  const { planDigest, atMost, include } = fields;
  if (typeof planDigest !== 'string' || !/^[0-9a-f]{64}$/.test(planDigest)) {
    return '"planDigest" must be the 64 hexadecimal digits that the status shows';
  }
  if (typeof atMost !== 'number' || !Number.isSafeInteger(atMost) || atMost < 0) {
    return '"atMost" must be a whole number: how many traces may ever be submitted';
  }
  // Two lanes may hold the same plan: which one is meant is never guessed.
  if (fields['connection'] === undefined) return '"connection" must name the lane: each plan is approved by itself';
  if (include === undefined) return { planDigest, atMost };
  const known: readonly unknown[] = INCLUDES;
  if (!Array.isArray(include) || !include.every((one) => known.includes(one))) {
    return `"include" must be a list of ${INCLUDES.join(' and ')}: traces that the plan keeps`;
  }
  return { planDigest, atMost, include: INCLUDES.filter((one) => include.includes(one)) };
}

/** How many traces need no approval, by what rule. */
export interface Thresholds {
  /** The request's own number; null: none. Stands for `refuseAbove`, and for nothing else. */
  readonly expectAtMost: number | null;
  readonly refuseAbove: number;
  readonly approveAbove?: number | undefined;
  readonly secondPersonAbove?: number | undefined;
}

/** Most traces of a lane that may be submitted without an operator's word. */
export function mostWithoutApproval({
  expectAtMost,
  refuseAbove,
  approveAbove = Number.POSITIVE_INFINITY,
  secondPersonAbove = Number.POSITIVE_INFINITY,
}: Thresholds): number {
  return Math.min(expectAtMost ?? refuseAbove, approveAbove, secondPersonAbove);
}

const WAY_OUT = 'look at the plan, then approve exactly this one (`lethe approve`) or abandon the request';

/**
 * Why a number of traces must not be submitted before an operator has looked, or null.
 *
 * @param total every trace of the lane that was ever submitted or would be now.
 * @param approvedAtMost what an operator has approved in this lane; absent: nothing.
 */
export function stopFor(total: number, limit: number, approvedAtMost?: number): string | null {
  if (approvedAtMost !== undefined) {
    if (total <= approvedAtMost) return null;
    return `${formatTraces(total)} would be submitted in all, more than the ${formatCount(approvedAtMost)} approved: nothing new was deleted; ${WAY_OUT}`;
  }
  if (total <= limit) return null;
  return `${formatTraces(total)} match, more than the ${formatCount(limit)} expected: nothing new was deleted; ${WAY_OUT}`;
}

/** What an approval is held against. */
export interface ApprovalScene {
  readonly connection: string;
  /** Whether the lane waits for approval. */
  readonly stopped: boolean;
  readonly plan: {
    readonly digest: string;
    readonly traces: number;
    readonly submittedBefore: number;
    readonly batches: number;
    /** Kept traces that an approval may include. */
    readonly shared: number;
    readonly linked: number;
  } | null;
  /** Above so many traces the approver must not be the requester; null or absent: never. */
  readonly secondPersonAbove?: number | null | undefined;
  /** Who asked for the erasure; absent: the request does not say. */
  readonly requester?: string | undefined;
}

/** @returns why an approval does not apply, or null when it does. */
export function approvalRefusal(
  scene: ApprovalScene,
  approval: ApprovalFields & { readonly requestedBy: string },
): string | null {
  const { connection, plan, stopped, secondPersonAbove, requester } = scene;
  if (!stopped) return `${connection} does not wait for approval`;
  if (plan === null) {
    return `${connection} was planned by an earlier release, without a plan to approve; retry plans again`;
  }
  const { include = [] } = approval;
  if (include.length > 0 && plan.submittedBefore > 0) {
    return `${connection} has begun to delete: kept traces can only be included before; ask for them by a request of their own`;
  }
  const along = include.reduce((sum, one) => sum + plan[one], 0);
  const total = plan.traces + plan.submittedBefore + along;
  const present = `the present plan is ${plan.digest}: ${formatTraces(plan.traces)} in ${formatCount(plan.batches)} delete ${plan.batches === 1 ? 'call' : 'calls'}, ${formatCount(total)} ever submitted${along === 0 ? '' : `, ${formatCount(along)} kept ones included`}`;
  if (approval.planDigest !== plan.digest) return `${connection} has another plan by now; ${present}`;
  if (approval.atMost < total) {
    return `"atMost" ${formatCount(approval.atMost)} is less than the plan needs in ${connection}; ${present}`;
  }
  if (secondPersonAbove == null || total <= secondPersonAbove) return null;
  const rule = `more than ${formatCount(secondPersonAbove)} traces in ${connection} need the approval of somebody else than the requester`;
  if (requester === undefined) {
    return `${rule}, and the request does not say who that is; abandon it and ask again with "requestedBy"`;
  }
  return samePerson(requester, approval.requestedBy) ? rule : null;
}

/** Whether two names are of the same member of staff, whatever their case, spaces and composition. */
export function samePerson(one: string, other: string): boolean {
  const plain = (name: string): string => name.normalize('NFKC').trim().replace(/\s+/g, ' ').toLowerCase();
  return plain(one) === plain(other);
}
