import type { Clock } from './clock.ts';
import type { RequestStatus } from './status.ts';

/** Memo in which the workflow keeps its status, so that it can be read while no worker is up. No personal data. */
export const STATUS_MEMO = 'lethe';

/**
 * How long memo and search attributes may be behind while steps follow each other, real milliseconds. A write costs the
 * server more than a step, and most steps take seconds; the current details in the UI are always up to date.
 */
export const STATUS_WITHIN_MS = 30_000;

export interface StatusMemo {
  readonly status: RequestStatus;
  /** To compute `overdue` at the time of reading. */
  readonly clock: Clock;
}

/** Memo set once at the start: what a second start compares itself with (P24). */
export const SCOPE_MEMO = 'letheScope';

export interface ScopeMemo {
  readonly requestId: string;
  /** Keyed digest of subject, known ids and options; see `EraseInput.scopeDigest`. */
  readonly scopeDigest: string;
  readonly connections: readonly string[];
  /** Kinds of the identifiers given, so that a refusal can name the difference. */
  readonly kinds: readonly string[];
  readonly knownCount: number;
}

/** Prefix of every task queue of Lethe unless the config says otherwise. */
export const DEFAULT_TASK_QUEUE = 'lethe';

/** The task queue of one connection's activities: all its calls go through one process (pacing, batching). */
export function connectionTaskQueue(taskQueue: string, connection: string): string {
  return `${taskQueue}-store-${connection}`;
}
