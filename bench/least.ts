/** A step of an erasure: `plan`, `delete`, `verify 1`, `verify 2`; `all` for calls that cannot be told apart by step. */
export type Phase = string;

/** What calls were made for, in the order in which they are shown. */
export const PURPOSES = [
  'projects',
  'controls',
  'find',
  'find v2',
  'find v1',
  'find logs',
  'find traces',
  'by id',
  'by id v2',
  'by id v1',
  'by id logs',
  'by id traces',
  'copies',
  'delete',
  'rest',
] as const;
export type Purpose = (typeof PURPOSES)[number];

export type Least = ReadonlyMap<Phase, ReadonlyMap<Purpose, number>>;

/** Calls of one sort that a plain script makes for one person, as the store's ledger would name them. */
export interface ScriptCalls {
  readonly purpose: 'find' | 'delete' | 'read back';
  readonly count: number;
  readonly route: string;
  /** How a query weighs on the store's limits, where that depends on it. */
  readonly shape?: string;
}

/** What there is to erase, and what the reads must carry along. */
export interface Task {
  /** Erased together, all in one go. */
  readonly people: number;
  readonly tracesEach: number;
  readonly runsPerTrace: number;
  /** Live traces of others that each read must see. */
  readonly controls: number;
  /** Traces of others in the same project. */
  readonly otherTraces: number;
}

interface Counts {
  readonly traces: number;
  readonly runs: number;
  readonly controls: number;
  readonly controlRuns: number;
}

function countsOf({ people, tracesEach, runsPerTrace, controls }: Task): Counts {
  const traces = people * tracesEach;
  return { traces, runs: traces * runsPerTrace, controls, controlRuns: controls * runsPerTrace };
}

/**
 * Calls of reads by person for all of them together: as few combined searches as the number of spellings allows, each to
 * its last page, the controls' own rows in each.
 */
function combinedFinds(rows: number, searches: number, controls: number, page: number): number {
  return searches * Math.ceil((rows / searches + controls) / page);
}

/**
 * What somebody would write who wants one person gone and asks no further: all pages of one search, deletes in full batches,
 * the same search once more, which finds nothing and fits one page. The project and the names of fields are known, every
 * call goes through at once. Nothing of it keeps a promise: no second finder (P5), no control (P6), nobody looks whose the
 * traces are before they go (P14), for other people in them (P17) or for copies (P22), and an empty answer is believed
 * whatever its reason (P3).
 */
function plainScript(
  search: Pick<ScriptCalls, 'route' | 'shape'>,
  found: Batches,
  remove: string,
  deleted: Batches,
): readonly ScriptCalls[] {
  return [
    { purpose: 'find', count: Math.max(1, Math.ceil(found.count / found.size)), ...search },
    { purpose: 'delete', count: Math.ceil(deleted.count / deleted.size), route: remove },
    { purpose: 'read back', count: 1, ...search },
  ];
}

/** So many things, so many of which go into one call. */
interface Batches {
  readonly count: number;
  readonly size: number;
}

/** Runs by the newer generation, over all time; traces are deleted. Sizes as in `leastOfLangSmith`. */
export function scriptOfLangSmith({ tracesEach, runsPerTrace }: Task): readonly ScriptCalls[] {
  return plainScript(
    { route: '/api/v2/runs/query', shape: 'wide' },
    { count: tracesEach * runsPerTrace, size: 1000 },
    '/api/v1/runs/delete',
    { count: tracesEach, size: 1000 },
  );
}

/** Whole traces, as many to a page as there are rows to one of the other shape; rows are deleted. Sizes as in `leastOfBraintrust`. */
export function scriptOfBraintrust({ tracesEach, runsPerTrace }: Task): readonly ScriptCalls[] {
  return plainScript({ route: '/btql' }, { count: tracesEach, size: 1000 }, '/v1/project_logs/:id/insert', {
    count: tracesEach * runsPerTrace,
    size: 500,
  });
}

/** The traces list; traces are deleted by one filter, whatever it may match. Sizes as in `leastOfRespan`. */
export function scriptOfRespan({ tracesEach }: Task): readonly ScriptCalls[] {
  return plainScript({ route: '/api/traces/list/' }, { count: tracesEach, size: 1000 }, '/api/traces/bulk-delete/', {
    count: tracesEach,
    size: 1000,
  });
}

/** Sizes of the parts when so many things are cut into as few parts as possible of at most `most`. */
function parts(count: number, most: number): number[] {
  return Array.from({ length: Math.ceil(count / most) }, (_none, index) => Math.min(most, count - index * most));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/**
 * The least number of calls with which the promises can be kept for these people in one project, when all of them go
 * step by step together, nothing survives, nothing was copied, and every call goes through at once.
 *
 * LangSmith. Sizes: a page has 1,000 runs in v2 and 100 in v1, a delete 1,000 traces (vendor's maxima); a search names
 * 100 spellings and a list 1,000 ids (no maximum is published; the connector's).
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
 * - controls: 1 search for the step, as the controls of the plan may not leave it (P7). One person goes batch by batch,
 *   each a step of its own; many people are in one step.
 * - by id: whose the traces are now (P14), as in the plan.
 * - delete: 1.
 *
 * Verify, twice (P3)
 * - projects, controls: as in the plan, chosen afresh (P7, P9).
 * - by id: both generations (P4). Nothing is left, so each list costs one call, and only its own length matters.
 * - find: both generations (P5), one call a search: only controls come back.
 *
 * Seal: none.
 */
export function leastOfLangSmith(task: Task): Least {
  const page = { v2: 1000, v1: 100 };
  const most = { delete: 1000, list: 1000, spellings: 100 };
  const { traces, runs, controls, controlRuns } = countsOf(task);
  const searches = Math.ceil(task.people / most.spellings);
  const lists = (count: number, size: number): number => {
    const fitting = Math.floor((size - controlRuns) / task.runsPerTrace);
    return Math.ceil(count / Math.min(most.list, fitting));
  };
  const deletes = parts(traces, most.delete);
  const verify: ReadonlyMap<Purpose, number> = new Map([
    ['controls', 1],
    ['find v2', searches],
    ['find v1', searches],
    ['by id v2', Math.ceil(traces / most.list)],
    ['by id v1', Math.ceil(traces / most.list)],
  ]);
  return new Map<Phase, ReadonlyMap<Purpose, number>>([
    ['all', new Map([['projects', 3 * 2]])],
    [
      'plan',
      new Map([
        ['controls', 1],
        ['find v2', combinedFinds(runs, searches, controls, page.v2)],
        ['find v1', combinedFinds(runs, searches, controls, page.v1)],
        ['by id v2', lists(traces, page.v2)],
        ['by id v1', lists(traces, page.v1)],
        ['copies', 4],
      ]),
    ],
    [
      'delete',
      new Map([
        ['controls', Math.ceil(task.tracesEach / most.delete)],
        ['by id v2', sum(deletes.map((count) => lists(count, page.v2)))],
        ['by id v1', sum(deletes.map((count) => lists(count, page.v1)))],
        ['delete', deletes.length],
      ]),
    ],
    ['verify 1', verify],
    ['verify 2', verify],
  ]);
}

/**
 * As for LangSmith; Braintrust deletes row by row. Sizes: a page has 1,000 rows, or traces where whole traces are asked
 * for (vendor's maximum); a search names 200 spellings, a list 500 ids, a delete 500 rows, a read with content 200 rows
 * (no maxima are published; the connector's).
 *
 * - projects: login once; each list ends with an empty page, since servers may serve shorter pages than asked for (P9,
 *   P28): 2.
 * - controls: 1 search a step (P6, P7).
 * - find: matching spans, and whole traces with a matching span (P5). What datasets and experiments hold of the person
 *   (P22) is asked along with the first: an empty list of each, 2.
 * - by id: every trace by its root (P17), and once they are known every row by its own id, because a late write may bring
 *   a row back without its trace (P4, P14): lists of 500, each to its last page. And the comments on each row, which are
 *   rows of their own and name no trace.
 * - copies: contents of the rows for attachments, which nothing else lists; what was made from a row into datasets and
 *   experiments has no call while there are none; automations have one list (P22).
 * - delete: 500 rows a call.
 * - rest: at the end, whether an older version of one row of each trace can still be read.
 */
export function leastOfBraintrust(task: Task): Least {
  const page = 1000;
  const most = { spellings: 200, list: 500, delete: 500, content: 200 };
  const { traces, runs, controls } = countsOf(task);
  const searches = Math.ceil(task.people / most.spellings);
  const comments = Math.ceil(runs / most.list);
  // Whether lists or pages are the tighter measure depends on how many rows a trace has.
  const wholeTraces = Math.max(Math.ceil(traces / most.list), Math.ceil((runs + controls) / page));
  const everyRow = Math.max(Math.ceil((traces + runs) / most.list), Math.ceil((runs + controls) / page));
  const rowsOfOne = task.tracesEach * task.runsPerTrace;
  const verify: ReadonlyMap<Purpose, number> = new Map([
    ['controls', 1],
    ['find', 2 * searches + 2],
    ['by id', Math.ceil((traces + runs) / most.list) + comments],
  ]);
  return new Map<Phase, ReadonlyMap<Purpose, number>>([
    [
      'all',
      new Map([
        ['projects', 1 + 3 * 2],
        ['rest', Math.ceil(traces / most.list)],
      ]),
    ],
    [
      'plan',
      new Map([
        ['controls', 1],
        ['find', combinedFinds(runs, searches, controls, page) + combinedFinds(traces, searches, controls, page) + 2],
        ['by id', wholeTraces + comments],
        ['copies', Math.ceil(runs / most.content) + 1],
      ]),
    ],
    [
      'delete',
      new Map([
        ['controls', Math.ceil(rowsOfOne / most.delete)],
        ['by id', everyRow + comments],
        ['delete', Math.ceil(runs / most.delete)],
      ]),
    ],
    ['verify 1', verify],
    ['verify 2', verify],
  ]);
}

/**
 * As for LangSmith; Respan's page numbers are offsets, so no searches of several people are combined (P20), and a list of
 * more than one page takes two passes that agree (P28). Sizes: a page has 1,000 rows, a bulk delete matches at most 1,000
 * traces (vendor's maxima); no list names more traces than fit a page with the controls'.
 *
 * - projects: none, the API lists no environments.
 * - controls, each step: a page of logs, and what the traces list says of those chosen (P6, P7); in the plan once whether
 *   wide ranges are cut (P10).
 * - canaries: this store drops filters that it does not know, so that for each kind of question an impossible value must
 *   first find nothing: 1 for each list and field in a step. Counted with the question.
 * - find: each person by two endpoints (P5); one list tells the customer records of all (P22).
 * - by id: logs and traces (P4, P17); where nothing is left, only ids count.
 * - copies: datasets, testsets, experiments, one list each.
 * - delete: as long as well over 1,000 traces of others or of the person are left in the environment, 1,000 in a bulk
 *   delete: without its filter it would match them all, and the store refuses that. Else one by one.
 * - rest: before each delete call, two that show that the environment is that large, and the same list as will be deleted
 *   (P19); at the end for each person's customer record the delete and a read after it (P22), three looks for all of them
 *   before, and 2 that show that such reads can be believed.
 */
export function leastOfRespan(task: Task): Least {
  const page = 1000;
  const large = 1500;
  const { people, tracesEach, runsPerTrace, otherTraces } = task;
  const { traces, controls, controlRuns } = countsOf(task);
  const passes = (rows: number): number => (rows > page ? 2 * Math.ceil(rows / page) : 1);
  const logLists = (count: number): number => Math.ceil(count / Math.floor((page - controlRuns) / runsPerTrace));
  const traceLists = (count: number): number => Math.ceil(count / (page - controls));
  let left = traces;
  let bulk = 0;
  for (; left > 0 && otherTraces + left - Math.min(left, page) >= large; bulk += 1) left -= Math.min(left, page);
  const steps = Math.ceil(tracesEach / page);
  // Batches of one person come one after the other, those of many people in one go.
  const deleteLists = steps > 1 ? parts(traces, page) : [traces];
  const verify: ReadonlyMap<Purpose, number> = new Map([
    ['controls', 2],
    ['find logs', people + 2],
    ['find traces', people + 1],
    ['by id logs', traceLists(traces) + 1],
    ['by id traces', traceLists(traces) + 1],
  ]);
  return new Map<Phase, ReadonlyMap<Purpose, number>>([
    ['all', new Map([['rest', bulk * 3 + Math.ceil(left / page) * 2 + people * 2 + 3 + 2]])],
    [
      'plan',
      new Map([
        ['controls', 3],
        ['find logs', people * passes(tracesEach * runsPerTrace + controlRuns) + 2],
        ['find traces', people * passes(tracesEach + controls) + 1],
        ['by id logs', logLists(traces) + 1],
        ['by id traces', traceLists(traces) + 1],
        ['copies', 3],
      ]),
    ],
    [
      'delete',
      new Map([
        ['controls', steps * 2],
        ['by id logs', sum(deleteLists.map(logLists)) + 1],
        ['by id traces', sum(deleteLists.map(traceLists)) + 1],
        ['delete', bulk + left],
      ]),
    ],
    ['verify 1', verify],
    ['verify 2', verify],
  ]);
}
