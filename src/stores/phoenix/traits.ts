import type { Rhythm } from '../../erasure/rhythm.ts';
import type { Limit } from '../pacing.ts';
import type { CopyTrait, StoreTraits } from '../port.ts';

/**
 * OpenTelemetry's ids in lower case, traces with 32 digits and spans with 16. The server's own ids (`Trace:17` in base64)
 * are none: they are row numbers, and on SQLite a number is given out again once its row is gone.
 */
export const ID_PATTERN = /^(?:[0-9a-f]{32}|[0-9a-f]{16})$/;

/** Traces in one delete call; the server took some thousands. All or none of a call are deleted. */
const MOST_IDS_PER_DELETE = 500;

/** Spellings of all people in one combined search: alternatives of one condition. */
const MOST_SPELLINGS_PER_FIND = 50;

/** Where else the person's data lives, as observed on a running server (20.26) and read in its source. */
const COPY_MAP = [
  {
    kind: 'dataset-examples',
    text: 'Dataset examples made from the spans: they keep input, output and metadata, in every version of the dataset',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'experiment-runs',
    text: 'Outputs of experiment runs: they stay when the trace of the run is deleted',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'sessions',
    text: 'Session rows with their id and annotations: an empty one is swept by the server within some hours, and one with traces of others stays',
    examined: true,
    goesWithTrace: true,
  },
  {
    kind: 'annotations',
    text: 'Annotations and notes on the traces and spans, which are deleted with them',
    examined: true,
    goesWithTrace: true,
  },
  {
    kind: 'database-file',
    text: 'Text of deleted rows in free pages and the write-ahead log of the database, until it is vacuumed',
    examined: false,
    goesWithTrace: false,
    isLimit: true,
  },
  {
    kind: 'backups',
    text: 'Backups and replicas of the database',
    examined: false,
    goesWithTrace: false,
    isLimit: true,
  },
  {
    kind: 'assistant-and-prompts',
    text: 'Chats with the built-in assistant, prompts, and datasets that were uploaded by hand',
    examined: false,
    goesWithTrace: false,
  },
] as const satisfies readonly CopyTrait[];

/** Names of all of them. */
export const COPY_KINDS = COPY_MAP.map(({ kind }) => kind);

/** What no call of the API can show. */
const LIMITS: readonly string[] = [
  'Absence means: in no row that the API shows. On SQLite the text of deleted rows stays in free pages and in the write-ahead log; stop the server and run VACUUM. On Postgres it stays until the table is vacuumed.',
  'Spans wait in the server’s memory before they are written, and no call tells how many: one that was queued, or that a client sends late, brings a deleted trace back. Reads after the settle time look for it by trace id in every project; what comes later than the last read is not seen. A server that reads from a replica shows the past: the settle time must be longer than its lag too.',
  'A trace that comes back in another project without an identifier is shown as kept, not deleted: nothing in it says whose it is.',
  'The attribute filter of REST does not find values with characters outside ASCII: for them both searches use GraphQL, which compares once for equality and once for containment.',
  'Identifiers are found under the configured attributes, in the spellings searched. Values inside lists, input, output, events and metadata keys with a dot inside are not searched.',
  'Spans whose ids are not OpenTelemetry’s (32 and 16 hex digits) are not deleted; a person’s search that meets one stops and says so.',
];

export function traitsOf(rhythm: Rhythm, pageSize: number): StoreTraits {
  return {
    store: 'phoenix',
    idPattern: ID_PATTERN,
    deletesBy: 'trace',
    mostIdsPerDelete: MOST_IDS_PER_DELETE,
    // Both languages page by row number.
    pageTokens: 'keyset',
    mostSpellingsPerFind: MOST_SPELLINGS_PER_FIND,
    pageSize,
    rhythm,
    // 0.1 s idle; 10,000 queued spans took two minutes.
    readLagMs: 2 * 60_000,
    // A value of 300 characters came back whole; none is cut in the server's source.
    cutLength: null,
    acceptanceProvesNot:
      'A success proves that the rows there at that moment are gone. Spans of the same traces that were still queued in the server, or that a client sends later, bring the traces back.',
    limits: LIMITS,
    copyMap: COPY_MAP,
  };
}

/** Kinds of calls. */
export const CALL_SHAPES = { any: ['any'] } as const;
export type CallShape = keyof typeof CALL_SHAPES;

/** Dealt out in portions of a second: no limit is published, but the server does its writes one by one. */
export function limitsOfCalls(callsPerSecond: number): Record<'any', Limit> {
  return { any: { calls: callsPerSecond, perMs: 1000 } };
}
