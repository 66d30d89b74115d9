import type { Random } from '../common/ids.ts';
import { ENVIRONMENTS, SpanRow, TraceRow, type Environment, type SpanFields, type View } from './rows.ts';

/** What a candidate list can be looked up by; every list is a superset that callers check. */
export type Index = 'trace' | 'customer' | 'thread' | 'unique' | 'metadata';

interface Shelf {
  rows: SpanRow[];
  sorted: boolean;
}

function before(left: SpanRow, right: SpanRow): number {
  return left.endMs - right.endMs || left.seq - right.seq;
}

/** The key of a metadata entry in its index. */
export function metadataKey(key: string, value: string): string {
  return `${key}\u0000${value}`;
}

/** Every span that was ever written, with indexes; dead ones stay, so that a stale read can still see them. */
export class SpanState {
  readonly #random: Random;
  readonly #shelves: Record<Environment, Shelf> = {
    prod: { rows: [], sorted: true },
    stage: { rows: [], sorted: true },
    test: { rows: [], sorted: true },
  };
  readonly #indexes: Record<Index, Map<string, SpanRow[]>> = {
    trace: new Map(),
    customer: new Map(),
    thread: new Map(),
    unique: new Map(),
    metadata: new Map(),
  };
  readonly #traces: Record<Environment, Map<string, SpanRow[]>> = {
    prod: new Map(),
    stage: new Map(),
    test: new Map(),
  };
  #seq = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** An id of 32 hexadecimal digits, as the service makes for logs and OpenTelemetry for traces. */
  newId(): string {
    return this.#random.uuid4().replaceAll('-', '');
  }

  /**
   * Writes a span. A second write of a living span of the same trace replaces it; after a deletion it makes a new one,
   * as the service's ingest knows no tombstones.
   */
  write(fields: SpanFields, bornMs: number): SpanRow {
    const { traceId, spanId, environment } = fields;
    if (traceId != null && spanId != null) {
      for (const known of this.spansOf(environment, traceId)) {
        if (known.spanId !== spanId || known.goneMs.spans <= bornMs || known.goneMs.traces <= bornMs) continue;
        known.goneMs.spans = bornMs;
        known.goneMs.traces = bornMs;
      }
    }
    this.#seq += 1;
    const row = new SpanRow(fields, this.newId(), this.#seq, bornMs);
    this.#place(row);
    return row;
  }

  #place(row: SpanRow): void {
    const shelf = this.#shelves[row.environment];
    const last = shelf.rows.at(-1);
    if (last !== undefined && before(last, row) > 0) shelf.sorted = false;
    shelf.rows.push(row);
    this.#index('unique', row.uniqueId, row);
    if (row.traceId !== null) {
      this.#index('trace', row.traceId, row);
      push(this.#traces[row.environment], row.traceId, row);
    }
    if (row.customerIdentifier !== null) this.#index('customer', row.customerIdentifier, row);
    if (row.threadIdentifier !== null) this.#index('thread', row.threadIdentifier, row);
    for (const [key, value] of Object.entries(row.metadata)) this.#index('metadata', metadataKey(key, value), row);
  }

  #index(name: Index, key: string, row: SpanRow): void {
    push(this.#indexes[name], key, row);
  }

  /** Merges metadata into a span's. */
  mergeMetadata(row: SpanRow, more: Readonly<Record<string, string>>): void {
    row.metadata = { ...row.metadata, ...more };
    for (const [key, value] of Object.entries(more)) this.#index('metadata', metadataKey(key, value), row);
  }

  /** Rows found by an index: those that carry or once carried the value. */
  lookUp(index: Index, key: string): readonly SpanRow[] {
    return this.#indexes[index].get(key) ?? [];
  }

  byUniqueId(uniqueId: string): SpanRow | null {
    return this.lookUp('unique', uniqueId)[0] ?? null;
  }

  /** Rows of one environment, earliest timestamp first; dead ones included. */
  rowsOf(environment: Environment): readonly SpanRow[] {
    const shelf = this.#shelves[environment];
    if (!shelf.sorted) {
      shelf.rows.sort(before);
      shelf.sorted = true;
    }
    return shelf.rows;
  }

  /** Every row of every environment. */
  *rows(): Iterable<SpanRow> {
    for (const environment of ENVIRONMENTS) yield* this.rowsOf(environment);
  }

  /** Spans of a trace in one environment; dead ones included. */
  spansOf(environment: Environment, traceId: string): readonly SpanRow[] {
    return this.#traces[environment].get(traceId) ?? [];
  }

  /** Every trace id ever seen in an environment. */
  traceIds(environment: Environment): Iterable<string> {
    return this.#traces[environment].keys();
  }

  /** A trace as a table shows it at an instant, `null` when it shows no span of it. */
  trace(environment: Environment, traceId: string, view: View, atMs: number): TraceRow | null {
    const spans = this.spansOf(environment, traceId).filter((span) => span.visible(view, atMs));
    return spans.length === 0 ? null : new TraceRow(traceId, environment, spans);
  }
}

function push(index: Map<string, SpanRow[]>, key: string, row: SpanRow): void {
  const rows = index.get(key);
  if (rows === undefined) index.set(key, [row]);
  else rows.push(row);
}
