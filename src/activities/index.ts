import type { LookActivities, WatchActivities } from '../erasure/aftercare.ts';
import type { NotifyActivities } from '../erasure/events.ts';
import type { LaneActivities, RequestActivities } from '../erasure/steps.ts';
import { deleteBatch } from './delete-batch.ts';
import type { LaneDeps, RequestDeps } from './deps.ts';
import { lookAgain } from './look-again.ts';
import { postWebhook } from './post-webhook.ts';
import { recordLook, reopen } from './reopen.ts';
import { resolveIds } from './resolve-ids.ts';
import { sealRecord } from './seal-record.ts';
import { verifyAbsence } from './verify-absence.ts';

export type { LaneDeps, RequestDeps } from './deps.ts';

/** The activities of one connection. They know the store's port, never its name. */
export function createLaneActivities(deps: LaneDeps): LaneActivities & LookActivities {
  return {
    resolveIds: (input) => resolveIds(deps, input),
    deleteBatch: (input) => deleteBatch(deps, input),
    verifyAbsence: (input) => verifyAbsence(deps, input),
    lookAgain: (input) => lookAgain(deps, input),
  };
}

/** The activities of a request as a whole. */
export function createRequestActivities(deps: RequestDeps): RequestActivities & WatchActivities & NotifyActivities {
  return {
    sealRecord: (input) => sealRecord(deps, input),
    reopen: (input) => reopen(deps, input),
    recordLook: (input) => recordLook(deps, input),
    postWebhook: (input) => postWebhook(deps, input),
  };
}
