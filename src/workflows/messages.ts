import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { RequestStatus } from '../erasure/status.ts';
import type { OperatorMessage, Receipt } from '../erasure/verbs.ts';

/**
 * Each verb is an update, because its sender wants to hear at once whether it applies and what will happen, and a
 * signal of the same name, because a signal also arrives while no worker is up or when many requests are addressed.
 */
export const VERB_UPDATES = {
  retry: defineUpdate<Receipt, [OperatorMessage]>('retry'),
  checkNow: defineUpdate<Receipt, [OperatorMessage]>('checkNow'),
  hold: defineUpdate<Receipt, [OperatorMessage]>('hold'),
  release: defineUpdate<Receipt, [OperatorMessage]>('release'),
  abandon: defineUpdate<Receipt, [OperatorMessage]>('abandon'),
  attest: defineUpdate<Receipt, [OperatorMessage]>('attest'),
} as const;

/** See `VERB_UPDATES`. */
export const VERB_SIGNALS = {
  retry: defineSignal<[OperatorMessage]>('retry'),
  checkNow: defineSignal<[OperatorMessage]>('checkNow'),
  hold: defineSignal<[OperatorMessage]>('hold'),
  release: defineSignal<[OperatorMessage]>('release'),
  abandon: defineSignal<[OperatorMessage]>('abandon'),
  attest: defineSignal<[OperatorMessage]>('attest'),
} as const;

/** The whole status as `lethe status --json` prints it. Needs a worker; without one read the memo `lethe`. */
export const statusQuery = defineQuery<RequestStatus>('status');
