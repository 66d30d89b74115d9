import { defineSearchAttributeKey, type SearchAttributeType } from '@temporalio/common';

/**
 * What the workflow list can be filtered and sorted by. This is the only place that names them: the worker makes sure
 * they exist, workflows write them, the CLI and the links in the documents query them.
 *
 * The values are readable by everybody who sees the list, so none may hold anything about the person.
 *
 * The dev server and SQL stores allow 10 keywords but only 3 of each other type for one namespace, so count before
 * adding one.
 */

/** Status of the worst lane, e.g. `waiting`; the values are those of `status` in the `--json` output. */
export const LetheStatus = defineSearchAttributeKey('LetheStatus', 'KEYWORD');

/** Every connection in the request's scope. */
export const LetheConnections = defineSearchAttributeKey('LetheConnections', 'KEYWORD_LIST');

/** The connections whose lane is in trouble: an operator may be needed, or the store does not answer. */
export const LetheBlocked = defineSearchAttributeKey('LetheBlocked', 'KEYWORD_LIST');

/** The highest round of all lanes; 0 before the first delete. */
export const LetheRound = defineSearchAttributeKey('LetheRound', 'INT');

/** Traces matched and not yet verified absent, over all lanes. */
export const LetheRemaining = defineSearchAttributeKey('LetheRemaining', 'INT');

/** The earliest instant at which a lane looks or acts again. */
export const LetheNextCheckAt = defineSearchAttributeKey('LetheNextCheckAt', 'DATETIME');

/** End of the period in which the request must be answered; `LetheDueAt < now` finds the overdue ones. */
export const LetheDueAt = defineSearchAttributeKey('LetheDueAt', 'DATETIME');

/** The request id, so that a request is found although the workflow id is a digest of the person. */
export const LetheRequestId = defineSearchAttributeKey('LetheRequestId', 'KEYWORD');

/** Whether a lane can't end before the due date even if everything goes well; not set before a lane has an estimate. */
export const LetheAtRisk = defineSearchAttributeKey('LetheAtRisk', 'BOOL');

/** All of them, in the order in which they are shown. */
export const LETHE_SEARCH_ATTRIBUTES: ReadonlyArray<{ readonly name: string; readonly type: SearchAttributeType }> = [
  LetheStatus,
  LetheConnections,
  LetheBlocked,
  LetheRound,
  LetheRemaining,
  LetheNextCheckAt,
  LetheDueAt,
  LetheRequestId,
  LetheAtRisk,
];
