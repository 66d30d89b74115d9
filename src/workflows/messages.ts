import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { RequestStatus } from '../erasure/status.ts';
import type { OperatorMessage, Receipt, VerbName } from '../erasure/verbs.ts';

/**
 * Each verb is an update, because its sender wants to hear at once whether it applies and what will happen, and a
 * signal of the same name, because a signal also arrives while no worker is up or when many requests are addressed.
 */
export const retryUpdate = defineUpdate<Receipt, [OperatorMessage]>('retry');
export const checkNowUpdate = defineUpdate<Receipt, [OperatorMessage]>('checkNow');
export const holdUpdate = defineUpdate<Receipt, [OperatorMessage]>('hold');
export const releaseUpdate = defineUpdate<Receipt, [OperatorMessage]>('release');
export const abandonUpdate = defineUpdate<Receipt, [OperatorMessage]>('abandon');

export const retrySignal = defineSignal<[OperatorMessage]>('retry');
export const checkNowSignal = defineSignal<[OperatorMessage]>('checkNow');
export const holdSignal = defineSignal<[OperatorMessage]>('hold');
export const releaseSignal = defineSignal<[OperatorMessage]>('release');
export const abandonSignal = defineSignal<[OperatorMessage]>('abandon');

/** The whole status as `lethe status --json` prints it. Needs a worker; without one read the memo `lethe`. */
export const statusQuery = defineQuery<RequestStatus>('status');

export const VERB_UPDATES = {
  retry: retryUpdate,
  checkNow: checkNowUpdate,
  hold: holdUpdate,
  release: releaseUpdate,
  abandon: abandonUpdate,
} as const satisfies Record<VerbName, unknown>;

export const VERB_SIGNALS = {
  retry: retrySignal,
  checkNow: checkNowSignal,
  hold: holdSignal,
  release: releaseSignal,
  abandon: abandonSignal,
} as const satisfies Record<VerbName, unknown>;
