import { BaseLedger, type BaseEntry } from '../common/ledger.ts';

/** How a query weighs on the service: by window and by what it searches. */
export type QueryShape = 'narrow' | 'wide' | 'text-narrow' | 'text-wide';

/** One request as the simulator saw it. The route is canonical whatever prefix was used: `/api/v1/runs/query`, `/info`. */
export interface LedgerEntry extends BaseEntry {
  readonly view: 'v1' | 'v2' | null;
  shape: QueryShape | null;
  tenantId: string | null;
}

/** Every request in order of arrival. */
export class Ledger extends BaseLedger<LedgerEntry> {
  /** The accepted deletes of traces by id, with the exact ids of each. */
  deletes(): readonly LedgerEntry[] {
    return this.entries.filter((entry) => entry.route.startsWith('/api/v1/runs/delete') && entry.ids !== null);
  }
}

interface Rule {
  readonly name: string;
  readonly limit: number;
  readonly windowMs: number;
  /** Counted per key or per workspace. */
  readonly per: 'key' | 'tenant';
}

const QUERY_GATEWAY: Rule = { name: 'runs-query', limit: 15, windowMs: 10_000, per: 'key' };
const QUERY_SHAPES: Record<QueryShape, Rule> = {
  narrow: { name: 'runs-query-narrow', limit: 10, windowMs: 10_000, per: 'tenant' },
  wide: { name: 'runs-query-wide', limit: 3, windowMs: 10_000, per: 'tenant' },
  'text-narrow': { name: 'runs-query-text-narrow', limit: 3, windowMs: 10_000, per: 'tenant' },
  'text-wide': { name: 'runs-query-text-wide', limit: 1, windowMs: 10_000, per: 'tenant' },
};
const EVERYTHING: Rule = { name: 'any', limit: 1000, windowMs: 10_000, per: 'key' };

const RULES: Record<string, readonly Rule[]> = {
  'run-by-id': [{ name: 'run-by-id', limit: 30, windowMs: 60_000, per: 'key' }],
  stats: [{ name: 'runs-stats', limit: 1, windowMs: 10_000, per: 'key' }],
  'delete-session': [{ name: 'delete-session', limit: 10, windowMs: 60_000, per: 'key' }],
  examples: [{ name: 'examples', limit: 5000, windowMs: 60_000, per: 'key' }],
  ingest: [{ name: 'ingest', limit: 2000, windowMs: 10_000, per: 'key' }],
  multipart: [{ name: 'multipart', limit: 6000, windowMs: 10_000, per: 'key' }],
  default: [EVERYTHING],
};

/** Which row of the limits table a route falls under. */
export type LimitClass =
  'query' | 'run-by-id' | 'stats' | 'delete-session' | 'examples' | 'ingest' | 'multipart' | 'default';

/**
 * Fixed windows on the virtual clock, by the vendor's table (docs: cloud-rate-limits; where its pages disagree, the lower
 * number). v2 queries are counted with those of v1, which is not stated anywhere and the safe reading.
 */
export class RateLimits {
  readonly #windows = new Map<string, { start: number; used: number }>();

  /** Counts one request; the name of the rule it breaks, or `null`. */
  take(kind: LimitClass, shape: QueryShape | null, key: string, tenant: string, nowMs: number): string | null {
    const rules = kind === 'query' ? [QUERY_GATEWAY, QUERY_SHAPES[shape ?? 'wide']] : (RULES[kind] ?? [EVERYTHING]);
    for (const rule of rules) {
      const id = `${rule.name} ${rule.per === 'key' ? key : tenant}`;
      const start = Math.floor(nowMs / rule.windowMs);
      const known = this.#windows.get(id);
      const window = known?.start === start ? known : { start, used: 0 };
      this.#windows.set(id, window);
      window.used += 1;
      if (window.used > rule.limit) return rule.name;
    }
    return null;
  }

  reset(): void {
    this.#windows.clear();
  }
}
