import type { Clock, ClockSetting } from '../../src/erasure/clock.ts';
import type { TraceKey, TraceStore } from '../../src/stores/port.ts';
import type { Tells, Told } from './wire.ts';

/** The kinds of identifiers that every harness maps to keys of its store; the first is the primary one. */
export const KINDS = ['user_id', 'email'] as const;
export type Kind = (typeof KINDS)[number];

/** One row to be written past the connector. */
export interface SeedRow {
  /** Values by kind of identifier; a number is written as a JSON number. Default: none. */
  readonly persons?: Readonly<Partial<Record<Kind, string | number>>>;
  /** The conversation it says it belongs to. Default: none. */
  readonly thread?: string;
  /** Epoch milliseconds. Default: some time in the last 30 days. */
  readonly startMs?: number;
  /** The store's id of the row. Default: one is made. An id that is there already is merged or replaced, as the store does. */
  readonly rowId?: string;
}

/** One trace to be written past the connector. */
export interface SeedTrace {
  /** Name of one of the harness' projects. */
  readonly project: string;
  /** Default: one is made. */
  readonly traceId?: string;
  /** The first is the root and the others are below it, unless `rootless`. */
  readonly rows: readonly SeedRow[];
  /** Every row has a parent, and the root is missing. Default: false. */
  readonly rootless?: boolean;
}

/** A trace as it was written. */
export interface Seeded extends TraceKey {
  /** In the order of the rows given. */
  readonly rowIds: readonly string[];
}

/** A row that is really there, whatever the API shows. */
export interface LiveRow extends TraceKey {
  readonly rowId: string;
}

/** A case that this store makes impossible, or that its test server cannot stage. Stands in the table in the case's place. */
export interface NotPossible {
  /** Completes "n.a. because". */
  readonly because: string;
}

/** A bad habit of the store's server, turned on; `heal` turns it off. */
export type Habit = (() => void | Promise<void>) | NotPossible;

/** Bad habits that only a store's own server can have. Those of any service over HTTP are made by the kit, see `Wire`. */
export interface Habits {
  /** Every read of rows answers "nothing there", in the proper shape. */
  readonly blind: Habit;
  /** Searches by person answer with rows of everybody. */
  readonly filterIgnored: Habit;
  /** Reads show the state of so many virtual milliseconds ago. */
  readonly stale: ((ms: number) => void | Promise<void>) | NotPossible;
  /**
   * For a store with several views of the same rows, such as two generations of its API: for each view, a deletion that
   * was carried out shows there weeks later only, while the others show it.
   */
  readonly lateViews: readonly Habit[] | NotPossible;
  /**
   * What a call for a further page sends along is a number of rows, counted in what matches at that moment: rows that
   * vanish let those behind them slip through between two pages.
   */
  readonly offsetPages: Habit;
  /** The next deletions are acknowledged and never carried out, until healed. */
  readonly dropsDeletes: Habit;
}

/** Options of one connection. */
export interface OpenOptions {
  readonly clock: Clock;
  /** What every call goes through. */
  readonly fetch: typeof fetch;
  /** Takes every line that the connection logs. */
  readonly log?: (fields: object, message: string) => void;
  /** The smallest pages that the connector can be told to ask for. Default: false, its usual ones. */
  readonly smallPages?: boolean;
}

/** One running store with the projects of its harness, empty at first, and what the kit may do behind the connector's back. */
export interface StoreServer {
  /** Opens a connection to it, guarded, as a worker does. */
  open(options: OpenOptions): TraceStore;
  /** Keys by kind of identifier, as the connection's config names them. */
  readonly identifiers: Readonly<Record<string, string[]>>;
  /** Limits of the store that a controller would have to accept for a plain `verified`. */
  readonly accept: readonly string[];
  /** What calls pass through to reach it. Default: the global fetch. */
  readonly fetch?: typeof fetch;
  /** A secret that the connection sends: it must turn up in no error and no log. */
  readonly apiKey: string;
  seed(traces: readonly SeedTrace[]): Promise<readonly Seeded[]>;
  /** Every row that is really there. */
  live(): Promise<readonly LiveRow[]>;
  /** Takes traces away at once, as if somebody else had deleted them. */
  vanish(traces: readonly TraceKey[]): Promise<void>;
  /** Lets time pass at the store until whatever it has accepted is done. Used only where no worker shares its clock. */
  settle(): Promise<void>;
  readonly habits: Habits;
  heal(): void | Promise<void>;
  /** Ids that are something else than a trace or row, and what `Located.wrongKind` should call them. */
  wrongKinds(): Promise<readonly { readonly id: string; readonly kind: string }[]>;
  close(): Promise<void>;
}

/** A project so large that it is deleted from in another way. */
export interface Large {
  /** So many traces of others are enough, also while a case deletes some. */
  readonly others: number;
  /** So many traces in an order are enough. */
  readonly order: number;
  /** Whether a delete goes that way. One that does not fails the case: it would judge the usual way once more. */
  isItsDelete(call: Pick<Told, 'method' | 'path'>): boolean;
  readonly deletesAnswer: StoreHarness['deletesAnswer'];
  readonly overcount: StoreHarness['overcount'];
}

/** What a store provides so that `conformance` can judge its connector. */
export interface StoreHarness extends Tells {
  /** As in `StoreTraits.store`. */
  readonly name: string;
  /** Names of two projects that the connection sees. */
  readonly projects: readonly [string, string];
  /** Ids that look right and name nothing. */
  readonly unknownIds: readonly [string, string];
  /** Ids in forms that people write, with their normal form; null: no id. */
  readonly idForms: readonly (readonly [string, string | null])[];
  /**
   * Identifiers that, put into a query of this store without care, would end a literal and widen the search: one for
   * each query language in use. Adds to those that the kit brings.
   */
  readonly injections: readonly string[];
  /** So many traces of three rows in each project are more than one page of any read that asks for the smallest. */
  readonly tracesOverPages: number;
  /** So many rows make one trace longer than a page of any read that asks for the smallest. */
  readonly rowsOverPages: number;
  /**
   * Whether a call asks for what comes after a page that an earlier call of the same read has brought, or for a part of a
   * question that was too much for one page.
   */
  isFurtherPage(call: Told): boolean;
  /** Finders and look-ups that only ever ask for what fits one page, by name, and why. Default: none. */
  readonly onePage?: Readonly<Record<string, NotPossible>>;
  /**
   * Names of finders and look-ups that show one row for a trace instead of all its rows, and, as finders, only traces
   * whose root carries the value: the others have to make up for it. Default: none.
   */
  readonly aggregates?: readonly string[];
  /** Names of finders that show one row for a trace, whichever of its rows carries the value. Default: none. */
  readonly perTrace?: readonly string[];
  /**
   * A conversation is something of the store's own, which stays as long as any of its traces does and counts as a copy.
   * Default: it is no more than a value on its rows.
   */
  readonly keepsConversations?: true;
  /** Whether a delete is answered with a body that tells something, so that a web page instead of it can be told. */
  readonly deletesAnswer: true | NotPossible;
  /** So long, virtual milliseconds, a 401 may be a passing one of the store's own, and counts as no answer. Default: 0. */
  readonly passing401Ms?: number;
  /** Whether a store keeps such a value as it stands. */
  storable(value: string | number): true | NotPossible;
  /** Whether a call deletes something. */
  isDelete(call: Told): boolean;
  /**
   * What a store says that deletes more than it was asked to: the answer to a delete, changed so that it counts more.
   * Or why its answers count nothing.
   */
  readonly overcount: ((answer: unknown) => unknown) | NotPossible;
  /**
   * For a store that is asked to delete in another way where a project is large: how to make one, and what is otherwise
   * then. The cases that judge deletes run there as well. Default: there is one way.
   */
  readonly large?: Large;
  /** Virtual start and speed of whole erasures, so that a settle time passes in about half a second. */
  readonly erasure: { readonly startMs: number; readonly speed: number };
  /** Longest that one case may take, milliseconds. Default: two minutes; a real server writes more slowly than ours. */
  readonly mostMs?: number;
  start(clock: ClockSetting): Promise<StoreServer>;
}
