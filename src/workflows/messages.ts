import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { ExtendMessage, ExtendReceipt } from '../erasure/extend.ts';
import type { EraseInput } from '../erasure/request.ts';
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
  approve: defineUpdate<Receipt, [OperatorMessage]>('approve'),
  attest: defineUpdate<Receipt, [OperatorMessage]>('attest'),
} as const;

/** `postpone` concerns the request as a whole; an update and a signal as the others are. */
export const POSTPONE_UPDATE = defineUpdate<Receipt, [OperatorMessage]>('postpone');
export const POSTPONE_SIGNAL = defineSignal<[OperatorMessage]>('postpone');

/** Another request of the same person joins this one; see `ExtendMessage`. */
export const EXTEND_UPDATE = defineUpdate<ExtendReceipt, [ExtendMessage]>('extend');
/** As `EXTEND_UPDATE`, for times without a worker. */
export const EXTEND_SIGNAL = defineSignal<[ExtendMessage]>('extend');

/** What is erased, with everything that joined. Names the person: only for clients, which encode and decode. */
export const scopeQuery = defineQuery<EraseInput>('scope');

/** See `VERB_UPDATES`. */
export const VERB_SIGNALS = {
  retry: defineSignal<[OperatorMessage]>('retry'),
  checkNow: defineSignal<[OperatorMessage]>('checkNow'),
  hold: defineSignal<[OperatorMessage]>('hold'),
  release: defineSignal<[OperatorMessage]>('release'),
  abandon: defineSignal<[OperatorMessage]>('abandon'),
  approve: defineSignal<[OperatorMessage]>('approve'),
  attest: defineSignal<[OperatorMessage]>('attest'),
} as const;

/** The whole status as `lethe status --json` prints it. Needs a worker; without one read the memo `lethe`. */
export const statusQuery = defineQuery<RequestStatus>('status');
