import { batchesOf, entryKey, type Book, type BookEntry } from './book.ts';
import { startedAfter } from './cutoff.ts';
import { formatCount } from './format.ts';
import type { Include, KeptPolicy } from './include.ts';

/** The two policies of the config that decide about kept traces. */
export interface KeptPolicies {
  readonly sharedTraces: KeptPolicy;
  readonly linkedTraces: KeptPolicy;
}

/** What these policies erase along, without asking anybody. */
export function erasedBy({ sharedTraces, linkedTraces }: KeptPolicies): Include[] {
  return [
    ...(sharedTraces === 'erase' ? (['shared'] as const) : []),
    ...(linkedTraces === 'erase' ? (['linked'] as const) : []),
  ];
}

/**
 * A plan after an operator's approval: kept traces that it includes are to be deleted, and the delete calls of the coming
 * round hold them. Unlabelled traces of a conversation that holds other people need both words, since they may be theirs.
 * New activity is never included. Says nothing about traces that later reads find.
 *
 * @param book a sealed plan of which nothing was submitted yet.
 * @param mostIds most ids in one delete call, see `StoreTraits.mostIdsPerDelete`.
 */
export function withIncluded(book: Book, include: readonly Include[], mostIds: number): Book {
  const entries = book.entries.map((entry): BookEntry =>
    isIncluded(entry, include) ? { ...entry, state: 'pending' } : entry,
  );
  const batches = batchesOf(entries, ({ state }) => state === 'pending', mostIds);
  const pending = entries.filter(({ state }) => state === 'pending').length;
  return {
    ...book,
    entries,
    batches,
    // Whoever approved has seen how many there are.
    limit: Math.max(book.limit, pending),
    included: [...new Set([...(book.included ?? []), ...include])],
    ...approvedAmong(book, include),
    // A first clean read proves a plan without traces only.
    noControl: pending === 0 && book.noControl,
  };
}

function approvedAmong(book: Book, include: readonly Include[]): Pick<Book, 'sharedApproved'> {
  // Which ones an approval that an earlier release took included is not known: it goes on meaning all of them.
  if (book.sharedApproved === undefined && sharedIncluded(book)({ projectId: '', traceId: '' })) return {};
  const shared = book.entries.filter((entry) => entry.state === 'shared' && isIncluded(entry, include));
  const keys = shared.map(({ projectId, traceId }) => ({ projectId, traceId }));
  return { sharedApproved: [...(book.sharedApproved ?? []), ...keys] };
}

function isIncluded({ state, sharedThread = false }: BookEntry, include: readonly Include[]): boolean {
  if (state === 'shared') return include.includes('shared');
  return state === 'linked' && include.includes('linked') && (!sharedThread || include.includes('shared'));
}

/**
 * Which traces are erased although they hold other people too: all where the policy says so; of an approval those that it
 * was given for. One that others came to later is theirs too, and nobody has said that it may go (P14).
 */
export function sharedIncluded(book: Book): (entry: Pick<BookEntry, 'projectId' | 'traceId'>) => boolean {
  const { included = [], erasedByPolicy = [], sharedApproved } = book;
  if (!included.includes('shared')) return () => false;
  if (erasedByPolicy.includes('shared') || sharedApproved === undefined) return () => true;
  const approved = new Set(sharedApproved.map(entryKey));
  return (entry) => approved.has(entryKey(entry));
}

/** Why a plan must wait for an operator although nothing else stands against it, or null. */
export function askReason(book: Book, { sharedTraces, linkedTraces }: KeptPolicies): string | null {
  const shared = sharedTraces === 'ask' ? book.entries.filter(({ state }) => state === 'shared').length : 0;
  const unlabelled = linkedTraces === 'ask' ? book.entries.filter(({ state }) => state === 'linked') : [];
  if (shared + unlabelled.length === 0) return null;
  const unclear = unlabelled.filter(({ sharedThread }) => sharedThread === true).length;
  const parts = [
    ...(shared === 0 ? [] : [`${traces(shared, 'carries', 'carry')} other people too`]),
    ...(unlabelled.length === 0
      ? []
      : [
          `${traces(unlabelled.length, 'carries', 'carry')} nobody's identifier${unclear === 0 ? '' : ` (${formatCount(unclear)} of a conversation that may not be this person's alone)`}`,
        ]),
  ];
  return `${parts.join(', and ')}: the policy asks whether to erase them along; nothing was deleted. Approve the plan with or without them, or abandon it`;
}

function traces(count: number, one: string, many: string): string {
  return count === 1 ? `1 trace ${one}` : `${formatCount(count)} traces ${many}`;
}

/** Up to when a request reaches. */
export interface Reach {
  /** Receipt and grace, epoch milliseconds (P21); undefined: none is known. */
  readonly cutoffMs: number | undefined;
  /** See `EraseInput.onlyBeforeMs`; undefined: no bound. */
  readonly onlyBeforeMs?: number | undefined;
}

/**
 * Whether a trace began after the cut-off (P21), or may have begun after the bound of a request that has one. A trace
 * without any start time counts as begun before the one and after the other.
 */
export function isNewActivity(startMs: number | null, { cutoffMs, onlyBeforeMs }: Reach): boolean {
  if (onlyBeforeMs !== undefined && startedAfter({ startMs, given: false }, onlyBeforeMs)) return true;
  return cutoffMs !== undefined && startMs !== null && startMs > cutoffMs;
}
