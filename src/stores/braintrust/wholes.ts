import { GuardError } from '../guard.ts';
import type { DeleteOrder, TraceKey, TraceRef, Row } from '../port.ts';

/** Traces remembered; one that left this memory has to be read again before it can be deleted. */
const MOST_TRACES = 100_000;

/**
 * The rows of each trace as the latest look-up showed them. A tombstone for part of a trace leaves the rest alive, and one
 * for a span id or a root span id deletes nothing while the store answers 200; so both are refused here, a second time
 * behind the guard that stands before every connector (P13).
 */
export class Wholes {
  readonly #rows = new Map<string, ReadonlySet<string>>();

  note(asked: readonly TraceRef[], rows: readonly Row[]): void {
    const byTrace = new Map(asked.map((trace) => [nameOf(trace), new Set<string>()]));
    for (const row of rows) byTrace.get(nameOf(row))?.add(row.runId);
    for (const [name, ids] of byTrace) {
      this.#rows.delete(name);
      if (ids.size > 0) this.#rows.set(name, ids);
    }
    for (const oldest of this.#rows.keys()) {
      if (this.#rows.size <= MOST_TRACES) break;
      this.#rows.delete(oldest);
    }
  }

  /** @throws GuardError unless every trace of the order goes whole and with nothing else. */
  check({ projectId, traces }: Pick<DeleteOrder, 'projectId' | 'traces'>): void {
    for (const { traceId, rowIds = [] } of traces) {
      const read = this.#rows.get(nameOf({ projectId, traceId }));
      const named = new Set(rowIds);
      if (read === undefined || named.size === 0) throw new GuardError('a trace whose rows were not read');
      if (named.size !== read.size || rowIds.some((id) => !read.has(id))) {
        throw new GuardError('other rows of a trace than the latest look-up showed');
      }
    }
  }
}

function nameOf({ projectId, traceId }: TraceKey): string {
  return `${projectId} ${traceId}`;
}
