import { z } from 'zod';
import { INCLUDES } from './include.ts';
import type { CopyLedger, GivenLedger, TraceLedger } from './ledger.ts';

/**
 * A lane's manifest with what became of each trace: sealed in the vault before the first delete and again after every
 * read that was conclusive. History holds a reference to it.
 */
const entrySchema = z.strictObject({
  projectId: z.string(),
  traceId: z.string(),
  state: z.enum([
    'pending',
    'verifiedAbsent',
    'goneBeforeSubmit',
    'survived',
    'shared',
    'linked',
    'inconclusive',
    'newActivity',
  ]),
  /** How we came to know of it: by a search by person, from the caller, or through a conversation of the person's. */
  via: z.enum(['person', 'known', 'thread']),
  /** Of an unlabelled trace: whether one of its conversations is not, or may not be, the person's alone (P12). */
  sharedThread: z.boolean().optional(),
  /** Runs when it was first read. */
  runs: z.int(),
  /** The store's ids of its rows, all that were ever read; only where the store deletes by rows. */
  rowIds: z.array(z.string()).default([]),
  startMs: z.number().nullable(),
  /** When it was last sent to the store for deletion, acknowledged or not; virtual epoch milliseconds. */
  sentMs: z.number().nullable(),
  /** Rows that the latest read showed of it; absent: none, or not read yet. */
  readable: z.int().optional(),
  /** Of a trace of several people: the finders that have shown it; absent: not known, as in books of earlier releases. */
  shownBy: z.array(z.string()).optional(),
});

/** A conversation that traces of the person carry; conversations belong to a project. */
const threadSchema = z.strictObject({
  projectId: z.string(),
  /** As written in the config. */
  key: z.string(),
  text: z.string(),
  /** Whether traces of other people stand in it. */
  shared: z.boolean(),
});

const knownSchema = z.strictObject({
  id: z.string(),
  state: z.enum(['resolved', 'neverMatched', 'unresolved', 'wrongKind', 'duplicate']),
  /** What the store says it is, for a wrong kind: `thread`, `project`, `no id`. */
  kind: z.string().nullable(),
  /** The trace carries only other people: never submitted (P16). */
  foreign: z.boolean(),
});

const copySchema = z.strictObject({
  kind: z.string(),
  id: z.string(),
  traceId: z.string(),
  state: z.enum(['erased', 'manual', 'outOfReach', 'inconclusive']),
  /** What it lies in, see `Copy.where`. */
  where: z.string().optional(),
  /** See `Copy.startMs`. */
  startMs: z.number().optional(),
  /** It carries other people too: never erased by a call. */
  others: z.literal(true).optional(),
  /** Calls made so far to erase it, from the first counted clean read on. */
  tries: z.int().optional(),
});

export const bookSchema = z.strictObject({
  format: z.literal(1),
  /** Round whose deltas are merged already. */
  mergedRound: z.int(),
  /** Most traces that may match before an operator must look. */
  limit: z.int(),
  /** Projects examined by the plan. */
  projects: z.array(z.strictObject({ id: z.string(), name: z.string() })),
  /** Traces that an earlier, lost manifest named and this one does not: unproven for good. */
  lost: z.int(),
  /** Kinds of identifiers by which the plan saw the person's own traces: a baseline for later reads (P6). */
  baselineKinds: z.array(z.string()),
  entries: z.array(entrySchema),
  known: z.array(knownSchema),
  copies: z.array(copySchema),
  outOfReach: z.int(),
  notExamined: z.array(z.string()),
  /** Controls that the plan's reads saw: a later read that finds none was blind, or nobody is left (P7). */
  controlsAtPlan: z.int(),
  /** Projects that hold runs of which none carries a key searched: nothing is proven there (P6). */
  silentProjects: z.int(),
  /** Kinds of identifiers for which the latest read had neither a control nor a baseline (P6). */
  unprovenKinds: z.array(z.string()),
  /** Reads are shown to see nothing older than this, epoch milliseconds; null: nothing speaks against it (P10). */
  notProvenBeforeMs: z.number().nullable().default(null),
  /** The fewest ways of searching by person that answered in a read that counts (P5). */
  finders: z.int(),
  /** Whether a counted read had to do without controls (P7). */
  noControl: z.boolean(),
  /** What started later is new activity, epoch milliseconds (P21); absent: nothing is. */
  cutoffMs: z.number().optional(),
  /** Conversations of the person's traces (P12); absent: none. */
  threads: z.array(threadSchema).optional(),
  /** Traces of these that carry only other people: counted, never touched. */
  othersInThreads: z.int().optional(),
  /** Conversations that no search could show, so that what stands in them is not known. */
  threadsMissed: z.int().optional(),
  /** What the policy erases along, in this plan and of later newcomers. */
  erasedByPolicy: z.array(z.enum(INCLUDES)).optional(),
  /** What is erased along by policy or approval: such traces are not pulled for what they are known to be (P14). */
  included: z.array(z.enum(INCLUDES)).optional(),
  /** The traces of several people that an approval included; absent: of whichever, as earlier releases had it. */
  sharedApproved: z.array(z.strictObject({ projectId: z.string(), traceId: z.string() })).optional(),
  /** Keyed digests of all values that were read on the person's traces: who is held is asked by them too (P27). */
  named: z.array(z.string()).optional(),
  /** Values of the primary kind on the person's traces, all that were ever read (P18); absent: not known. */
  people: z.array(z.string()).optional(),
  /** Those of them that an operator has approved; absent: none. */
  approvedPeople: z.array(z.string()).optional(),
  /** Delete calls of the coming round: indexes into `entries`, one project each. */
  batches: z.array(z.array(z.int())),
});

export type Book = z.infer<typeof bookSchema>;
export type BookEntry = Book['entries'][number];
export type BookThread = z.infer<typeof threadSchema>;
export type KnownId = Book['known'][number];
export type BookCopy = Book['copies'][number];

/** What one delete call did; written before the call as an intent, and again after it. */
export const deltaSchema = z.strictObject({
  round: z.int(),
  batch: z.int(),
  projectId: z.string(),
  sentMs: z.number().nullable(),
  acknowledgedMs: z.number().nullable(),
  sent: z.array(z.string()),
  absent: z.array(z.string()),
  pulled: z.array(z.strictObject({ traceId: z.string(), to: z.enum(['shared', 'linked']) })),
  /** Rows read just before the call that the manifest did not name, by trace. */
  newRows: z.array(z.strictObject({ traceId: z.string(), rowIds: z.array(z.string()) })).default([]),
  /** Keyed digests of the values on the traces sent; absent in deltas of earlier releases. */
  named: z.array(z.string()).optional(),
});
export type Delta = z.infer<typeof deltaSchema>;

export function entryKey(entry: { readonly projectId: string; readonly traceId: string }): string {
  return `${entry.projectId}/${entry.traceId}`;
}

/**
 * Groups entries into delete calls: one project each, at most `most` ids. A trace whose rows alone are more makes a call of
 * its own, which the connector splits.
 */
export function batchesOf(
  entries: readonly BookEntry[],
  chosen: (entry: BookEntry) => boolean,
  most: number,
): number[][] {
  const byProject = new Map<string, number[]>();
  for (const [index, entry] of entries.entries()) {
    if (!chosen(entry)) continue;
    const of = byProject.get(entry.projectId) ?? [];
    of.push(index);
    byProject.set(entry.projectId, of);
  }
  return [...byProject.values()].flatMap((indexes) => {
    const calls: number[][] = [];
    let room = 0;
    for (const index of indexes) {
      const ids = Math.max(1, entries[index]?.rowIds.length ?? 0);
      const call = calls.at(-1);
      if (call === undefined || ids > room) {
        calls.push([index]);
        room = most;
      } else {
        call.push(index);
      }
      room -= ids;
    }
    return calls;
  });
}

export function traceLedger(book: Book): TraceLedger {
  const count = (state: BookEntry['state']): number => book.entries.filter((entry) => entry.state === state).length;
  return {
    matched: book.entries.length + book.lost,
    pending: count('pending'),
    verifiedAbsent: count('verifiedAbsent'),
    goneBeforeSubmit: count('goneBeforeSubmit'),
    survived: count('survived'),
    shared: count('shared'),
    linked: count('linked'),
    inconclusive: count('inconclusive') + book.lost,
    newActivity: count('newActivity'),
    abandoned: 0,
  };
}

export function givenLedger(book: Book): GivenLedger {
  const count = (state: KnownId['state']): number => book.known.filter((known) => known.state === state).length;
  return {
    total: book.known.length,
    resolved: count('resolved'),
    neverMatched: count('neverMatched'),
    unresolved: count('unresolved'),
    wrongKind: count('wrongKind'),
    duplicate: count('duplicate'),
  };
}

export function copyLedger(book: Book): CopyLedger {
  const count = (state: BookCopy['state']): number => book.copies.filter((copy) => copy.state === state).length;
  return {
    found: book.copies.length + book.outOfReach,
    erased: count('erased'),
    manual: count('manual'),
    outOfReach: count('outOfReach') + book.outOfReach,
    inconclusive: count('inconclusive'),
    abandoned: 0,
    notExamined: book.notExamined,
  };
}

/** Takes over what the delete calls of the rounds since the last read did. */
export function mergeDeltas(book: Book, deltas: readonly Delta[], round: number): Book {
  const entries = new Map(book.entries.map((entry) => [entryKey(entry), { ...entry }]));
  const ordered = [...deltas].sort((a, b) => a.round - b.round || a.batch - b.batch);
  for (const delta of ordered) {
    const at = (traceId: string): BookEntry | undefined =>
      entries.get(entryKey({ projectId: delta.projectId, traceId }));
    for (const traceId of delta.sent) {
      const entry = at(traceId);
      if (entry === undefined) continue;
      entry.sentMs = delta.sentMs;
      // Whatever an earlier call made of it: what was sent must be read back.
      if (['goneBeforeSubmit', 'shared', 'linked'].includes(entry.state)) entry.state = 'pending';
    }
    for (const traceId of delta.absent) {
      const entry = at(traceId);
      if (entry !== undefined && entry.sentMs === null && entry.state === 'pending') entry.state = 'goneBeforeSubmit';
    }
    for (const { traceId, to } of delta.pulled) {
      const entry = at(traceId);
      // What was sent and carries nobody now is half deleted: it must be read back, and be sent again.
      if (entry !== undefined && (to === 'shared' || entry.sentMs === null)) entry.state = to;
    }
    for (const { traceId, rowIds } of delta.newRows) {
      const entry = at(traceId);
      if (entry !== undefined) entry.rowIds = [...new Set([...entry.rowIds, ...rowIds])];
    }
  }
  const named = [...new Set([...(book.named ?? []), ...ordered.flatMap((delta) => delta.named ?? [])])];
  return { ...book, entries: [...entries.values()], mergedRound: round, ...(named.length === 0 ? {} : { named }) };
}
