import type { Rhythm } from '../erasure/rhythm.ts';

/** The store's container of traces: LangSmith calls it session, MLflow experiment. */
export interface Project {
  readonly id: string;
  readonly name: string;
  /** The store's own word, for instance `PROJECT`, `EXPERIMENT`, `EVALUATOR`. */
  readonly type: string;
}

/** A project that is not examined, for the record. */
export interface ProjectAside extends Project {
  readonly why: string;
}

/** A value found under one of the keys that the connection's config names for a kind of identifier. */
export interface PersonValue {
  readonly kind: string;
  /** As written in the config, for instance `metadata.user_id`. */
  readonly key: string;
  /** The value as text; numbers in their source spelling, so that long ones lose no digit (P15). */
  readonly text: string;
  /** Whether the store holds a number, not a string. */
  readonly numeric: boolean;
  /** Set when it stands inside a list or is an object: no search is known to find it, so it makes no control. */
  readonly nested?: true;
}

/** A value under one of the keys by which runs say what conversation they belong to (`TraceStore.threads`). */
export type ThreadValue = Omit<PersonValue, 'kind'>;

/**
 * The kind under which conversations are searched: a `SearchTerm` of this kind names keys of `TraceStore.threads`. No kind
 * of identifier in a config can be called so.
 */
export const THREAD_KIND = '#thread';

/** Where a run's data is also kept, as far as the run itself tells. */
export interface CopyMarks {
  readonly shared: boolean;
  readonly queued: boolean;
  readonly inDataset: boolean;
  readonly feedback: boolean;
}

/** One run (span, row) as a read showed it: ids, times and owners, never content. */
export interface Row {
  readonly projectId: string;
  readonly traceId: string;
  /** The store's own id of this row: what a store that deletes by rows takes (`StoreTraits.deletesBy`). */
  readonly runId: string;
  /** Epoch milliseconds; null when the store does not say. */
  readonly startMs: number | null;
  readonly persons: readonly PersonValue[];
  /** Conversations that it says it belongs to; absent or empty: none. */
  readonly threads?: readonly ThreadValue[];
  readonly marks: CopyMarks;
  /**
   * What is left of a trace whose rows are gone, such as its files: it names nobody, and is whoever's the trace was. Default:
   * a row like any other.
   */
  readonly leftover?: true;
}

/** One identifier of the person as a search takes it. */
export interface SearchTerm {
  readonly kind: string;
  /** Keys to search, as written in the config. */
  readonly keys: readonly string[];
  /** The exact spellings that count as this identifier (P15). */
  readonly variants: readonly string[];
}

/**
 * A live run of somebody else that a read must see, or the read proves nothing (P6, P7). Never leaves the activity
 * that chose it.
 */
export interface Control {
  readonly projectId: string;
  readonly traceId: string;
  readonly runId: string;
  /** The person value through which by-person searches must see it. */
  readonly value: PersonValue;
  readonly startMs: number | null;
}

/** Explicit bounds of a search by start time, epoch milliseconds (P10). */
export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

/** What the record keeps of one read (P35): no ids, no values. */
export interface ReadReport {
  /** Route template, for instance `POST /api/v2/runs/query`. */
  readonly route: string;
  readonly purpose: 'find' | 'lookup' | 'locate' | 'controls' | 'copies';
  /** Calls made; when the read was shared, those of all its people together. */
  readonly calls: number;
  /** Rows read for this person. */
  readonly rows: number;
  /** People for whom this read was made at once (P20); absent: one. */
  readonly people?: number | undefined;
  readonly window: Window | null;
  readonly controlsAsked: number;
  readonly controlsSeen: number;
  /** The store's own ids of the requests; at most the first ten. */
  readonly requestIds: readonly string[];
  /** Largest distance of the store's `Date` from our clock during the calls, milliseconds; null: it sent none. */
  readonly skewMs: number | null;
  /** Headers that announce the route's end, when sent. */
  readonly sunset: string | null;
  /** Codes of the store's own warnings about its answers; absent: none. */
  readonly warnings?: readonly string[] | undefined;
}

/** Data of a person that belongs to no trace, so that no deletion by trace reaches it. */
export interface LooseRow {
  /** As in the traits' copy map, for instance `logs-without-trace`. */
  readonly kind: string;
  /** The store's own stable id, unique within its kind. */
  readonly id: string;
  readonly persons: readonly PersonValue[];
  /** As of `Row`. */
  readonly threads?: readonly ThreadValue[];
  /** See `Copy.where`. */
  readonly where?: string;
  /** See `Copy.startMs`. */
  readonly startMs?: number;
}

/** Outcome of one read through one route. It is complete: every page was read, or the read threw. */
export interface Read {
  /** The controls' own rows are not among them. */
  readonly rows: readonly Row[];
  /** What a search showed beside the traces. Absent: this route shows nothing of the kind. */
  readonly loose?: readonly LooseRow[];
  /** For each control asked for, in order, whether this read saw it. */
  readonly controlsSeen: readonly boolean[];
  /**
   * Why this read proves nothing although it went through, without ids: the store itself says that it has not read all
   * that was written. Absent: nothing of the kind.
   */
  readonly inconclusive?: string;
  /**
   * Rows of the traces that a look-up did not look for, by kind of the copy map, and the traces whose rows they would be.
   * Absent: it looked for all.
   */
  readonly notExamined?: readonly { readonly kind: string; readonly traces: readonly TraceKey[] }[];
  readonly report: ReadReport;
}

/** Called between API calls, so that long reads stay alive and stop when asked to. Throws to stop. */
export type Progress = () => void;

export interface FindQuery {
  readonly projects: readonly Project[];
  /** Of one person, or of several at once where the traits allow it: `variants` then holds the spellings of all. */
  readonly terms: readonly SearchTerm[];
  readonly window: Window;
  readonly controls: readonly Control[];
  /**
   * Rows after which a search gives up with `TooManyRows`, so that one person with very many rows does not keep those
   * waiting who share the call. Default: no bound.
   */
  readonly mostRows?: number;
  readonly progress: Progress;
}

/** One way of searching by person. At least two of a store differ in endpoint or language (P5). */
export interface Finder {
  /** Stable name for the record, for instance `v2 runs`. */
  readonly name: string;
  /** Whether it can search by a key of the config. Default: by every key. It is only asked for those (P5, P8). */
  readonly searches?: (key: string) => boolean;
  find(query: FindQuery): Promise<Read>;
}

export interface TraceKey {
  readonly projectId: string;
  readonly traceId: string;
}

/** A trace together with the store's ids of its rows, as far as they were ever read. */
export interface TraceRef extends TraceKey {
  /** Absent or empty for stores that delete by trace, and before the rows were read. */
  readonly rowIds?: readonly string[];
}

export interface LookupQuery {
  /**
   * Where rows can lose their trace (`StoreTraits.deletesBy` is `row`), the row ids are looked for as well; a row that
   * is found by its id alone is given back under the trace that it stands in now, if it stands in one, or else under the
   * trace that it was asked for with.
   */
  readonly traces: readonly TraceRef[];
  readonly window: Window;
  readonly controls: readonly Control[];
  /** Runs that the traces have together, where they are thought to be there. Only spares calls. */
  readonly runsThere?: number;
  readonly progress: Progress;
}

/** One way of reading whole traces by id: every run of any depth (P4). */
export interface LookupRoute {
  readonly name: string;
  lookup(query: LookupQuery): Promise<Read>;
}

export interface LocateQuery {
  /** Ids of traces or runs, in the store's normal form. */
  readonly ids: readonly string[];
  readonly projects: readonly Project[];
  readonly window: Window;
  readonly controls: readonly Control[];
  readonly progress: Progress;
}

/** Where ids of unknown kind live. */
export interface Located extends Read {
  /** Ids that are no trace or run but something else the store knows, and what: `thread`, `project`. */
  readonly wrongKind: ReadonlyMap<string, string>;
}

export interface ControlQuery {
  readonly projects: readonly Project[];
  readonly terms: readonly Pick<SearchTerm, 'kind' | 'keys'>[];
  readonly window: Window;
  /** Wanted per project and key; at least this many are offered where they exist. */
  readonly want: number;
  /** Rows that may not serve: the person's own, and those of people with an open request. */
  readonly exclude: (row: Row) => boolean;
  readonly progress: Progress;
}

export interface ControlsFound {
  readonly controls: readonly Control[];
  /**
   * Projects in which no run carries any of the keys searched, and whether they hold runs at all: in those that do, an
   * empty search proves nothing, since no control for it can exist (P6).
   */
  readonly silent: readonly { readonly projectId: string; readonly holdsRuns: boolean }[];
  /**
   * Reads are shown to see anything only from this instant on (epoch milliseconds), although there should be older data
   * (P10). Absent: nothing speaks against their seeing all.
   */
  readonly notProvenBeforeMs?: number;
  /**
   * Projects that hold traces and that the config leaves out, as far as the store lets them be noticed (P9); they are not
   * examined. Absent: the store's own list of projects tells all.
   */
  readonly leftOut?: readonly ProjectAside[];
  /** What could not be asked about projects at all. Absent: nothing. */
  readonly unreachable?: readonly ProjectAside[];
  readonly reports: readonly ReadReport[];
}

/** One copy of the person's data outside the traces themselves. */
export interface Copy {
  /** As in the traits' copy map, for instance `dataset-examples`. */
  readonly kind: string;
  /** The copy's own stable id. */
  readonly id: string;
  readonly traceId: string;
  /** What it lies in, by the store's own id, for instance `dataset 4f1c`; holds no personal data. Absent: not told. */
  readonly where?: string;
  /** Of data beside the traces: when it began or was written, epoch milliseconds. Absent: nothing tells. */
  readonly startMs?: number;
  /** It carries other people too, or cannot be shown to be the person's alone: it is never erased by a call (P22). */
  readonly others?: true;
}

/** The store's answer to a call that erased copies. It proves that the request arrived, nothing else (P2). */
export interface CopyReceipt {
  /** As in the traits' copy map. */
  readonly kind: string;
  /** Ids of the copies that the call named, as in `Copy.id`. */
  readonly ids: readonly string[];
  readonly route: string;
  /** Null: no answer. A refusal is told by its status. */
  readonly status: number | null;
  readonly requestId: string | null;
  /** Virtual epoch milliseconds just before the call left; null when the store's refusal did not tell. */
  readonly sentAtMs: number | null;
  readonly acknowledgedAtMs: number | null;
}

/** What `TraceStore.eraseCopies` did. */
export interface CopiesErased {
  readonly reports: readonly ReadReport[];
  /** One for each call, in order. Absent: the connector keeps no account of single calls. */
  readonly receipts?: readonly CopyReceipt[];
}

export interface CopiesFound {
  readonly copies: readonly Copy[];
  /** Copies that exist and that no API call reaches, by kind. `traceIds`: whom they concern; absent: all asked for. */
  readonly outOfReach: readonly {
    readonly kind: string;
    readonly count: number;
    readonly traceIds?: readonly string[];
  }[];
  /** Kinds that were not examined this time although the traits say they can be, and why. */
  readonly notExamined: readonly {
    readonly kind: string;
    readonly why: string;
    readonly traceIds?: readonly string[];
  }[];
  readonly reports: readonly ReadReport[];
}

/** What one delete call is to delete: explicit ids that were read, of one project (P13). */
export interface DeleteOrder {
  readonly projectId: string;
  /** At most `mostIdsPerDelete` ids. With `deletesBy: 'row'` each names every row of its trace that was read. */
  readonly traces: readonly TraceRef[];
  /**
   * Awaited when everything else is done and the call is about to leave: after the wait for a turn, before the first
   * byte. When it throws, nothing is sent and its error is passed on (P27).
   */
  readonly lastWord: () => Promise<void>;
  /**
   * Takes the latest last word back: no call followed it, because another who shares the call did not give his, or because
   * it had become too old and is asked for again. A word that nobody takes back may have been followed by a call, so that
   * forgetting to say so never makes anything that was sent look unsent.
   */
  readonly notSent?: () => void;
  readonly progress: Progress;
}

/** The store's acknowledgement. It proves that the request arrived, nothing else (P2). */
export interface Receipt {
  /** Virtual epoch milliseconds just before the call left. */
  readonly sentAtMs: number;
  readonly acknowledgedAtMs: number;
  readonly route: string;
  readonly status: number;
  readonly requestId: string | null;
  /** Traces that the store refused by themselves, while it took the others of the call; absent: none. */
  readonly refused?: readonly string[];
  /** What the answers counted as matched or deleted, of all people together; absent: they did not say. */
  readonly counted?: number;
  /** People whose traces went with the same call; absent: one. */
  readonly people?: number | undefined;
}

/** One line of `lethe doctor`. */
export interface CheckItem {
  readonly name: string;
  readonly level: 'ok' | 'warning' | 'problem';
  readonly text: string;
}

export interface CopyTrait {
  readonly kind: string;
  /** What it is, for a person. */
  readonly text: string;
  /** Whether this connector looks for it. */
  readonly examined: boolean;
  /** Whether it goes with its trace, according to the vendor: then it is looked at again at the end. */
  readonly goesWithTrace: boolean;
  /**
   * Whether it is a property of the store, such as readable older versions, or files of traces that no call deletes, and not
   * data that somebody put elsewhere: a controller who accepts the kind then accepts what is found of it (P1). Default: no.
   */
  readonly isLimit?: boolean;
  /**
   * Whether `eraseCopies` erases it, by a call that names that copy alone (P22). Default: no.
   */
  readonly erasable?: boolean;
  /**
   * When it is erased. `before`: just before its trace is submitted, since it shows the trace to others until then.
   * `after`: as soon as a counted read showed that its traces are gone. `last`: with the read that ends the lane, since it
   * leads to the traces. Default: `last`.
   */
  readonly erasedWhen?: 'before' | 'after' | 'last';
  /** For a kind that no call erases alone: what an operator does about it. Default: a general sentence. */
  readonly instructions?: string;
}

/** Facts about a store, as data. */
export interface StoreTraits {
  readonly store: string;
  /** What an id of a trace or row looks like after `normaliseId`. */
  readonly idPattern: RegExp;
  /**
   * What a delete call names. `trace`: the trace's id, and the store removes its rows. `row`: every row by itself, so
   * that a trace is only deleted whole when all of them are named.
   */
  readonly deletesBy: 'trace' | 'row';
  /** Most ids, of the sort that `deletesBy` says, in one delete call. */
  readonly mostIdsPerDelete: number;
  /**
   * What a page token stands for. With `offset` a page shifts when rows before it vanish: no searches of several people
   * are combined there (P20).
   */
  readonly pageTokens: 'cursor' | 'keyset' | 'offset';
  /** Most spellings, of all people together, in one combined search; 1: searches are never combined. */
  readonly mostSpellingsPerFind: number;
  /** Most rows one page brings, for plans and the bench. */
  readonly pageSize: number;
  readonly rhythm: Rhythm;
  /** How long a written run may stay invisible, milliseconds. */
  readonly readLagMs: number;
  /** Length at which the store cuts metadata values, or null: a match of that length is ambiguous (P15). */
  readonly cutLength: number | null;
  /**
   * Who cuts. `store`: everything, so that nothing of that length or more is certain. `writer`: some clients do, before they
   * send, so that only a value of exactly that length is. Default: `store`.
   */
  readonly cutBy?: 'store' | 'writer';
  /** What a success answer to a delete does not prove, for the record and `doctor`. */
  readonly acceptanceProvesNot: string;
  /** What no call of this API can show, for the record. */
  readonly limits: readonly string[];
  /**
   * `copies` is asked although nothing was found: what it could not examine may be why. Default: it is not, and no call is
   * made.
   */
  readonly copiesOfNothing?: true;
  readonly copyMap: readonly CopyTrait[];
}

/** A connection to a store. Every method throws `StoreError` and nothing else when the store is the reason. */
export interface TraceStore {
  readonly traits: StoreTraits;
  /** @returns the id in the store's normal form, or null when it cannot be an id of a trace or run. */
  normaliseId(id: string): string | null;
  /** Credentials, rights, clock skew, projects, share of traces without any configured key. */
  check(): Promise<readonly CheckItem[]>;
  /** All visible projects of every type; enumerated anew at each call (P9). */
  projects(progress: Progress): Promise<readonly Project[]>;
  readonly finders: readonly Finder[];
  /**
   * Keys under which runs carry their conversation, as in the config. Finders and `controls` take them in a term of kind
   * `THREAD_KIND`, like those of people, and every row tells its values. A conversation belongs to a project. Absent or
   * empty: conversations are not followed.
   */
  readonly threads?: readonly string[];
  readonly lookups: readonly LookupRoute[];
  locate(query: LocateQuery): Promise<Located>;
  controls(query: ControlQuery): Promise<ControlsFound>;
  copies(traces: readonly TraceKey[], rows: readonly Row[], progress: Progress): Promise<CopiesFound>;
  /** Looks again at copies found earlier. @returns those that are still there. */
  lookupCopies(
    copies: readonly Copy[],
    progress: Progress,
  ): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }>;
  /**
   * Erases copies whose trait says `erasable`, each by a call that names it alone. Absent: this store has none such.
   * What is left is seen by `lookupCopies`; a call that answers proves nothing.
   */
  eraseCopies?(copies: readonly Copy[], lastWord: () => Promise<void>, progress: Progress): Promise<CopiesErased>;
  /** Deletes by explicit ids of one project only. */
  submit(order: DeleteOrder): Promise<Receipt>;
  /**
   * A step says that it begins, by the `progress` that its calls will carry, and at the end calls the function it was
   * given. Steps that begin together have their calls put together. Absent: nothing is shared.
   *
   * @param request whose step it is: many steps of one request are no crowd. Left out: nobody else's.
   */
  board?(progress: Progress, request?: string): Promise<() => void>;
}

/** Thrown by a search that was bounded (`FindQuery.mostRows`) and would have read more. */
export class TooManyRows extends Error {
  /** What was read until then: shows whose rows they are. */
  readonly rows: readonly Row[];

  constructor(rows: readonly Row[]) {
    super(`more than ${rows.length} rows`);
    this.name = 'TooManyRows';
    this.rows = rows;
  }
}

export const STORE_ERROR_REASONS = [
  'unreachable',
  'throttled',
  'denied',
  'rejected',
  'switched-off',
  'gone',
  'contract-broken',
] as const;
export type StoreErrorReason = (typeof STORE_ERROR_REASONS)[number];

export interface StoreErrorDetails {
  readonly reason: StoreErrorReason;
  /** Route template without ids. */
  readonly route: string;
  readonly status: number | null;
  readonly requestId: string | null;
  /** Virtual epoch milliseconds before which the store does not want to be asked again. */
  readonly notBeforeMs?: number | null;
  /** True when the route has ended for good, as the store had announced: reads go on without it. */
  readonly retired?: boolean;
  /**
   * True when the store had acknowledged a delete of the same order before: what became of the rest is open, and not even
   * a refusal says that nothing was deleted. Set by `partlyDone`.
   */
  readonly partlyDone?: boolean;
  /** For the operator: what to do. Without the vendor's words. */
  readonly advice?: string;
}

/**
 * Thrown when a store did not do what was asked: no answer or a 5xx (`unreachable`), 429 (`throttled`), 401 or 403
 * (`denied`), another 4xx (`rejected`), a delete that a tripped kill switch kept from leaving (`switched-off`), a route or project that is not there (`gone`), or an answer that does not keep
 * to its documented shape (`contract-broken`). Carries no vendor text and no id of a person's data (P31).
 */
export class StoreError extends Error {
  readonly reason: StoreErrorReason;
  readonly route: string;
  readonly status: number | null;
  readonly requestId: string | null;
  readonly notBeforeMs: number | null;
  readonly retired: boolean;
  readonly partlyDone: boolean;
  readonly advice: string | null;

  constructor(details: StoreErrorDetails, options?: ErrorOptions) {
    const status = details.status === null ? '' : ` with ${details.status}`;
    const id = details.requestId === null ? '' : ` (request ${details.requestId})`;
    super(`${details.reason}: ${details.route} answered${status}${id}`, options);
    this.name = 'StoreError';
    this.reason = details.reason;
    this.route = details.route;
    this.status = details.status;
    this.requestId = details.requestId;
    this.notBeforeMs = details.notBeforeMs ?? null;
    this.retired = details.retired ?? false;
    this.partlyDone = details.partlyDone ?? false;
    this.advice = details.advice ?? null;
  }

  /** Whether the same call may succeed in a moment. Decided by class only. */
  get transient(): boolean {
    return this.reason === 'unreachable';
  }
}

/**
 * The error for an order of several calls whose first delete was acknowledged, whatever failed after it: alone it would say
 * that nothing was done. The reason stays, as what stands in the way of the rest. What is no store's error is passed on.
 */
export function partlyDone(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  const { reason, route, status, requestId, notBeforeMs, retired } = error;
  const also = 'a part of the delete was acknowledged before this, and everything is read again';
  const advice = error.advice === null ? also : `${error.advice}; ${also}`;
  return new StoreError({ reason, route, status, requestId, notBeforeMs, retired, advice, partlyDone: true });
}
