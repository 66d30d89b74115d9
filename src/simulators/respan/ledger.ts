import { BaseLedger, type BaseEntry } from '../common/ledger.ts';
import type { TimeWindow } from './query.ts';

/**
 * One request as the simulator saw it. `ids` holds the trace ids (or the id in the path) that it named and that were
 * honoured, `projectId` the environment of a delete as the backend names it.
 */
export interface LedgerEntry extends BaseEntry {
  /** `environment` as sent; `null` when it was omitted. */
  environment: string | null;
  /** The window in force, defaults included; `null` where the route has none. */
  window: TimeWindow | null;
  /** Filter keys that narrowed nothing. */
  dropped: readonly string[];
  /** Rows or traces that matched. */
  matched: number | null;
}

/** Every request in order of arrival. */
export class Ledger extends BaseLedger<LedgerEntry> {
  /** The accepted deletes of traces, with the exact ids of each. */
  deletes(): readonly LedgerEntry[] {
    return this.entries.filter(
      (entry) => entry.family === 'deletes' && entry.route.startsWith('/api/traces/') && entry.matched !== null,
    );
  }
}
