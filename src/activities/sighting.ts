import { entryKey, type Book } from '../erasure/book.ts';
import { isNewActivity, sharedIncluded, type Reach } from '../erasure/linked.ts';
import type { Row } from '../stores/port.ts';
import { groupByTrace, type Reader } from './reader.ts';

/** Start of the first of these rows that says when it was, epoch milliseconds; null: none says. */
export function startOf(rows: readonly Row[]): number | null {
  return rows.reduce<number | null>(
    (first, { startMs }) => (startMs === null || (first !== null && first <= startMs) ? first : startMs),
    null,
  );
}

/**
 * Whether a read, however it ended, has shown a trace that must go: one of the manifest, or one that nobody had seen. It
 * then undoes what earlier reads have proven (P3).
 */
export function sawTraces(reader: Reader, book: Book, reach: Reach): boolean {
  const entries = new Map(book.entries.map((entry) => [entryKey(entry), entry]));
  const isIncluded = sharedIncluded(book);
  for (const [key, rows] of groupByTrace(reader.rowsRead)) {
    const entry = entries.get(key);
    const owner = reader.owner(rows);
    if (entry === undefined) {
      if (owner === 'subject' && !isNewActivity(startOf(rows), reach)) return true;
    } else if (['pending', 'survived', 'goneBeforeSubmit', 'inconclusive'].includes(entry.state)) {
      const isOurs = owner !== 'others' && (owner !== 'mixed' || isIncluded(entry));
      if (isOurs) return true;
    }
  }
  return false;
}
