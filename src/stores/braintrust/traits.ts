import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Rhythm } from '../../erasure/rhythm.ts';
import type { Limit } from '../pacing.ts';
import type { CopyTrait, StoreTraits } from '../port.ts';

/**
 * Printable, without spaces at its ends, at most 256 characters. Row ids are chosen by whoever writes the row: the
 * vendor's pages call them system-assigned, its API and its SDKs take any text.
 */
export const ID_PATTERN = /^(?!\p{Z})[^\p{C}\p{Zl}\p{Zp}]{1,256}(?<!\p{Z})$/u;

/**
 * Row ids in one delete. The vendor publishes no maximum. So many tombstones of the longest ids, of 256 characters of four
 * bytes, are 0.55 MB, far below the 6 MB that its SDK keeps a write to; a server that takes less says so by a 413.
 */
export const MOST_IDS_PER_DELETE = 500;

/** Spellings of all people in one combined search. No length limit of a query is published. */
const MOST_SPELLINGS_PER_FIND = 200;

/** Where else the person's data lives, from the vendor's documentation; see `copies.ts` for how each is examined. */
const COPY_MAP = [
  {
    kind: 'datasets',
    text: 'Dataset rows made from the traces, or that carry a searched key; erased by a tombstone each, older versions stay until the vendor drops them',
    examined: true,
    goesWithTrace: false,
    erasable: true,
    erasedWhen: 'after',
    instructions:
      'Open the dataset, look at the rows that name other people too or that could not be deleted, and delete or edit what is this person’s.',
  },
  {
    kind: 'dataset-snapshots',
    text: 'Snapshots of datasets that hold such rows: restoring one brings the rows back',
    examined: true,
    goesWithTrace: false,
    instructions:
      'A snapshot holds the rows of everybody in the dataset. Delete it and make a new one from the cleaned dataset, or keep it and know that restoring it brings the rows back.',
  },
  {
    kind: 'experiments',
    text: 'Experiment rows made from the traces, or that carry a searched key, with the other rows of their traces; erased by a tombstone each, older versions stay until the vendor drops them',
    examined: true,
    goesWithTrace: false,
    erasable: true,
    erasedWhen: 'after',
    instructions:
      'Open the experiment, look at the rows that name other people too or that could not be deleted, and delete what is this person’s, or the whole experiment.',
  },
  {
    kind: 'attachments',
    text: 'Files that the traces refer to, in the object store: no call of the API deletes them',
    examined: true,
    goesWithTrace: false,
    // The vendor's SDK and data planes put them there by themselves, out of what was logged.
    isLimit: true,
    instructions:
      'Delete the files from the object store by their keys where it is your own bucket; otherwise ask the vendor’s support to delete them.',
  },
  {
    kind: 'row-history',
    text: 'Older versions of deleted rows, which a query at an older transaction may bring back',
    examined: true,
    goesWithTrace: true,
    isLimit: true,
    instructions:
      'No call removes older versions. Set a retention period for the project logs, or ask the vendor’s support when the versions will be dropped, and attest once they are.',
  },
  {
    kind: 'comments',
    text: 'Comments on the rows, which are rows of their own and are deleted with the trace',
    examined: true,
    goesWithTrace: true,
  },
  {
    kind: 'cloud-exports',
    text: 'Files that export automations wrote to a bucket of yours',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'webhooks',
    text: 'What automations sent to webhooks and Slack',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'async-query-results',
    text: 'Stored results of asynchronous queries',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'playgrounds',
    text: 'Playground runs made from the traces; no public route lists playgrounds',
    examined: false,
    goesWithTrace: false,
  },
  {
    kind: 'derived-data',
    text: 'Facets, classifications, vectors and topics derived from the logs',
    examined: false,
    goesWithTrace: false,
  },
  {
    kind: 'proxy-cache',
    text: 'Cached answers of the AI proxy',
    examined: false,
    goesWithTrace: false,
  },
] as const satisfies readonly CopyTrait[];

/** Names of all of them. */
export const COPY_KINDS = COPY_MAP.map(({ kind }) => kind);
export type CopyKind = (typeof COPY_KINDS)[number];

/** What no call of the API can show. */
const LIMITS: readonly string[] = [
  'Absence means: not visible in fresh live reads with this key. A tombstone hides a row; older versions stay in storage until the vendor drops their segments, which nothing documents, or until retention passes.',
  'Older versions are never shown to be gone: nothing tells whether a server heeds the transaction that a query names. What such a query still showed at the end is on record.',
  'Rows older than the plan’s retention limit are invisible to every query, whether or not they were physically removed.',
  'Both searches by person use the same endpoint and index. They differ in shape (matching spans; whole traces with a matching span) and in comparison (equality; lists): a defect of either shows as a disagreement, one of the index itself only through the reads by id.',
  'Identifiers are found under the configured metadata keys, in the spellings searched. Tags and content are not searched.',
  'Rows revived by a late write without user and trace are recognised by their row id alone; rows of traces that were never read are not.',
  'Projects that were deleted are hidden by the vendor, not removed, and are not searched.',
  'Backups and non-current object versions (7 to 14 days in the vendor’s reference deployment) are out of reach.',
];

/**
 * @param left names of the copies that the config leaves out: `datasets`, `experiments`, `attachments`.
 */
export function traitsOf(rhythm: Rhythm, pageSize: number, left: ReadonlySet<string>): StoreTraits {
  return {
    store: 'braintrust',
    idPattern: ID_PATTERN,
    deletesBy: 'row',
    mostIdsPerDelete: MOST_IDS_PER_DELETE,
    pageTokens: 'keyset',
    mostSpellingsPerFind: MOST_SPELLINGS_PER_FIND,
    pageSize,
    rhythm,
    // "A few seconds" according to the vendor; its own test helpers poll for 39 s.
    readLagMs: MINUTE_MS,
    // No cut of stored metadata values is documented; previews are switched off in every query.
    cutLength: null,
    acceptanceProvesNot:
      'A 200 proves only that tombstones were recorded: ids of no row, span ids and root span ids are echoed just the same, and no call tells whether a row existed.',
    limits: LIMITS,
    copyMap: COPY_MAP.map((copy) => ({
      ...copy,
      examined: copy.examined && !left.has(copy.kind) && !(copy.kind === 'dataset-snapshots' && left.has('datasets')),
    })),
  };
}

/** Kinds of calls. */
export const CALL_SHAPES = { btql: ['btql'], insert: ['insert'], control: ['control'] } as const;
export type CallShape = keyof typeof CALL_SHAPES;

/**
 * Queries a minute, dealt out in portions of a few seconds: a step that needs more than one portion then waits for the
 * next one instead of being sent away half done. For inserts no limit is published (the vendor's SDK keeps eight of them
 * under way at once); self-hosted control planes allow 100 calls a minute.
 */
export function limitsOfCalls(btqlPerMinute: number): Record<(typeof CALL_SHAPES)[CallShape][0], Limit> {
  const portion = Math.max(1, Math.floor(btqlPerMinute / 5));
  return {
    btql: { calls: portion, perMs: Math.ceil((portion * MINUTE_MS) / btqlPerMinute) },
    insert: { calls: 10, perMs: 2000 },
    control: { calls: 15, perMs: 10_000 },
  };
}
