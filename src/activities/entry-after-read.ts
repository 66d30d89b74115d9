import type { BookEntry } from '../erasure/book.ts';
import { isNewActivity, type Reach } from '../erasure/linked.ts';
import type { Row } from '../stores/port.ts';
import type { Reader } from './reader.ts';
import { rowIdsOf } from './resolve-ids.ts';
import { startOf } from './sighting.ts';

/** What a read makes of one trace of the manifest. */
export function entryAfterRead(
  reader: Reader,
  entry: BookEntry,
  read: {
    readonly rows: readonly Row[] | undefined;
    readonly settled: boolean;
    readonly lost: boolean;
    readonly keepRows: boolean;
    readonly reach: Reach;
    readonly sharedIncluded: boolean;
  },
): BookEntry {
  if (entry.state === 'newActivity') return notNewAfterAll(reader, entry, read);
  if (entry.state === 'linked' || entry.state === 'shared') return oursAfterAll(reader, entry, read);
  if (!['pending', 'survived', 'goneBeforeSubmit', 'inconclusive'].includes(entry.state)) return entry;
  const { readable: _before, ...plain } = entry;
  if (read.lost) return { ...plain, state: 'inconclusive' };
  if (read.rows === undefined) {
    return entry.state === 'goneBeforeSubmit' ? entry : { ...plain, state: 'pending' };
  }
  const owner = reader.owner(read.rows);
  // What now carries only others, or others too, is theirs and no survivor (P14).
  if (owner === 'others' || (owner === 'mixed' && !read.sharedIncluded)) return { ...entry, state: 'shared' };
  const rowIds = read.keepRows ? [...new Set([...entry.rowIds, ...rowIdsOf(read.rows)])] : entry.rowIds;
  const state = entry.sentMs !== null && read.settled ? 'survived' : 'pending';
  return { ...entry, rowIds, readable: read.rows.length, state };
}

/** A trace that was kept and now carries the person alone. */
function oursAfterAll(
  reader: Reader,
  entry: BookEntry,
  { rows = [], reach, keepRows }: Parameters<typeof notNewAfterAll>[2],
): BookEntry {
  const startMs = entry.startMs ?? startOf(rows);
  if (reader.owner(rows) !== 'subject' || isNewActivity(startMs, reach)) return entry;
  // Where others were seen, every row must be there again: one that is not shown may still be theirs.
  const runs = new Set(rows.map(({ runId }) => runId)).size;
  if (entry.state === 'shared' && runs < entry.runs) return entry;
  const rowIds = keepRows ? rowIdsOf(rows) : entry.rowIds;
  return { ...entry, state: 'pending', via: 'person', startMs, rowIds, readable: rows.length };
}

/** New activity whose beginning was written late: it began before the cut-off, and is the request's. */
function notNewAfterAll(
  reader: Reader,
  entry: BookEntry,
  {
    rows = [],
    reach,
    keepRows,
  }: { readonly rows: readonly Row[] | undefined } & Pick<Parameters<typeof entryAfterRead>[2], 'reach' | 'keepRows'>,
): BookEntry {
  const startMs = startOf(rows);
  if (startMs === null || isNewActivity(startMs, reach)) return entry;
  const owner = reader.owner(rows);
  if (owner === 'subject') {
    return {
      ...entry,
      state: 'pending',
      startMs,
      rowIds: keepRows ? rowIdsOf(rows) : entry.rowIds,
    };
  }
  return { ...entry, state: owner === 'nobody' ? 'linked' : 'shared' };
}
