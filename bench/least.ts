import type { Phase, Purpose } from './calls.ts';

/** What there is to erase, and what the reads must carry along. */
export interface Task {
  readonly traces: number;
  readonly runsPerTrace: number;
  /** Live traces of others that each read must see. */
  readonly controls: number;
  readonly runsPerControl: number;
}

/** The vendor's maxima: runs in a page of either generation, traces in a delete. */
const V2_PAGE = 1000;
const V1_PAGE = 100;
const DELETE = 1000;
/** Ids in one list. The vendor names no maximum; taken is what a delete may name. */
const LIST = 1000;

/**
 * The least number of calls with which the promises can be kept for one person in one project, when nothing survives,
 * nothing was copied, and every call goes through at once. Per phase:
 *
 * Plan
 * - projects: one page of them (P9), and the evaluators' project, which no list shows: 2.
 * - controls: to choose live traces of others, one search (P6, P7): 1.
 * - find: both generations, each to its last page (P5, P28); the controls' own runs ride along (P6).
 * - by id: every run of every trace found, since somebody else may be on another run of it (P17). Both generations,
 *   since that run may be in one of them only. Every list has the controls' whole traces at its end (P6) and must fit
 *   one page: an answer in pages can shift while it is read (P28).
 * - copies: examples, shares, exports and rules have one list each; queues and feedback are asked for marked runs only.
 *   4, and nothing later, since nothing was copied (P22).
 *
 * Delete, for each call of at most 1,000 traces
 * - controls: 1 search, as the controls of the plan may not leave it (P7).
 * - by id: whose the traces are now (P14), as in the plan.
 * - delete: 1.
 *
 * Verify, twice (P3)
 * - projects, controls: as in the plan, chosen afresh (P7, P9).
 * - by id: both generations (P4). Nothing is left, so each list costs one call, and only its own length matters.
 * - find: both generations (P5), one call each: only controls come back.
 *
 * Seal: none.
 */
export function leastCalls(task: Task): ReadonlyMap<Phase, ReadonlyMap<Purpose, number>> {
  const { traces, runsPerTrace, controls, runsPerControl } = task;
  const found = traces * runsPerTrace + controls;
  const lists = (count: number, page: number): number => {
    const fitting = Math.floor((page - controls * runsPerControl) / runsPerTrace);
    return Math.ceil(count / Math.min(LIST, fitting));
  };
  const deletes = Array.from({ length: Math.ceil(traces / DELETE) }, (_none, index) =>
    Math.min(DELETE, traces - index * DELETE),
  );
  const verify: ReadonlyMap<Purpose, number> = new Map([
    ['projects', 2],
    ['controls', 1],
    ['by id v2', Math.ceil(traces / LIST)],
    ['by id v1', Math.ceil(traces / LIST)],
    ['find v2', 1],
    ['find v1', 1],
  ]);
  return new Map<Phase, ReadonlyMap<Purpose, number>>([
    [
      'plan',
      new Map([
        ['projects', 2],
        ['controls', 1],
        ['find v2', Math.ceil(found / V2_PAGE)],
        ['find v1', Math.ceil(found / V1_PAGE)],
        ['by id v2', lists(traces, V2_PAGE)],
        ['by id v1', lists(traces, V1_PAGE)],
        ['copies', 4],
      ]),
    ],
    [
      'delete',
      new Map([
        ['controls', deletes.length],
        ['by id v2', deletes.reduce((sum, count) => sum + lists(count, V2_PAGE), 0)],
        ['by id v1', deletes.reduce((sum, count) => sum + lists(count, V1_PAGE), 0)],
        ['delete', deletes.length],
      ]),
    ],
    ['verify 1', verify],
    ['verify 2', verify],
  ]);
}
