import { BaseLedger, type BaseEntry } from '../common/ledger.ts';
import type { ObjectType } from './rows.ts';

/** What a query asks for: rows, traces, one row a trace, or numbers over rows. */
export type QueryShape = 'spans' | 'traces' | 'summary' | 'aggregate';

/** Row ids that one request named for deletion in one object. */
export interface NamedRows {
  readonly objectType: ObjectType;
  readonly objectId: string;
  readonly ids: readonly string[];
}

/**
 * One request as the simulator saw it. The insert routes of the REST API are of the family `deletes`, whatever they
 * carry; `/logs3`, through which the SDK writes, is of the family `writes`. `ids` are the row ids named for deletion.
 */
export interface LedgerEntry extends BaseEntry {
  /** Shape of a query; `null` for everything else. */
  shape: QueryShape | null;
  /** The limit a query sent; `null` when it sent none. */
  limit: number | null;
  /** Objects a query read. */
  objectIds: readonly string[] | null;
  /** Events an insert carried. */
  events: number | null;
  /** The rows an insert named for deletion, by object; `null` when it named none. */
  deletes: readonly NamedRows[] | null;
  /** Whether a query asked for live reads. */
  realtime: boolean | null;
  /** The transaction a versioned read named. */
  version: string | null;
}

/** Every request in order of arrival. */
export class Ledger extends BaseLedger<LedgerEntry> {
  /** The answered inserts that named rows for deletion and were accepted. */
  deletes(): readonly LedgerEntry[] {
    return this.entries.filter((entry) => entry.deletes !== null && entry.status < 300);
  }
}
