import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Rhythm } from '../../erasure/rhythm.ts';
import type { Limit } from '../pacing.ts';
import type { CopyTrait, StoreTraits } from '../port.ts';

/** Applications choose trace ids freely; printable, without spaces around, as long as the store's longest identifier. */
export const ID_PATTERN = /^(?!\s)(?!.*\s$)[^\p{C}]{1,254}$/u;

/** Customer identifiers are cut at this length (docs, "customer identifier"). */
export const CUT_LENGTH = 254;

/** More matches than this make a bulk delete be refused as a whole (docs, "bulk delete traces"). */
export const STORE_MATCH_GUARD = 1000;

/** Where a bulk delete is not safe the traces go one by one, in smaller parts, see `submit.ts`. */
const MOST_IDS_PER_DELETE = STORE_MATCH_GUARD;

/** Rows of one page, the documented maximum of every list. */
export const PAGE_SIZE = 1000;

/** Kinds in which a customer's own data stands outside the traces. */
export const CUSTOMER_RECORD = 'customer-record';
export const LOOSE_LOGS = 'logs-without-trace';

/** Where else the person's data lives, from the vendor's documentation; see `copies.ts` for how each is examined. */
export function copyMapOf(legacySpanDelete: boolean): readonly CopyTrait[] {
  return [
    {
      kind: LOOSE_LOGS,
      text: legacySpanDelete
        ? 'Logs written without a trace; erased one by one by an older route that the current reference leaves out'
        : 'Logs written without a trace; the current reference has no call that deletes them, an older route is off (legacySpanDelete)',
      examined: true,
      goesWithTrace: false,
      erasable: legacySpanDelete,
    },
    {
      kind: CUSTOMER_RECORD,
      text: 'The customer record of each environment: name, e-mail, budgets; erased last, by its identifier. The next log with that identifier makes a new one',
      examined: true,
      goesWithTrace: false,
      erasable: true,
    },
    {
      kind: 'dataset-logs',
      text: 'Copies of logs in datasets, the saved logs included',
      examined: true,
      goesWithTrace: false,
    },
    { kind: 'testset-rows', text: 'Rows of testsets made from logs', examined: true, goesWithTrace: false },
    {
      kind: 'experiments',
      text: 'Inputs and outputs inside experiments; nothing links them back to a trace',
      examined: true,
      goesWithTrace: false,
    },
    {
      kind: 'public-shares',
      text: 'Public links to traces; whether one dies with its trace is not documented',
      examined: false,
      goesWithTrace: true,
    },
    { kind: 'response-cache', text: 'Answers kept by the gateway cache', examined: false, goesWithTrace: false },
    {
      kind: 'object-storage',
      text: 'Large contents that the store keeps as objects beside its tables',
      examined: false,
      goesWithTrace: true,
    },
    {
      kind: 'scores',
      text: 'Scores, annotations, notes and feedback on logs',
      examined: false,
      goesWithTrace: true,
    },
    {
      kind: 'automation-outputs',
      text: 'What automations, exports and webhooks sent elsewhere',
      examined: false,
      goesWithTrace: false,
    },
  ];
}

/** What no call of the API can show. */
const LIMITS: readonly string[] = [
  'The API lists no environments. Those that the config leaves out are not searched; the record names those of them (excluded) to which some of the latest 1,000 logs of the organisation belong, as far as the server shows these. Any other is not noticed.',
  'Absence means: not readable through the API with this key, in the environments of the config. Physical removal, which happens at later merges, backups and object storage cannot be shown.',
  'Identifiers are found in the spellings searched. Customer identifiers are cut at 254 characters by the store: longer ones are refused, one of exactly that length is ambiguous.',
  'The traces list knows the customer of the root span alone, and no metadata. Metadata, thread and custom identifiers are searched through the logs list, and a second time only by the total that the logs summary counts.',
  'Logs that carry none of the configured keys are not found by person; exporters that know no user write a placeholder instead.',
  'Ids that clients gave to spans cannot be searched; traces are known by trace id, spans by the id that the store gave them.',
  'Pinned spans are kept from expiry for ever; whether a delete takes them is not documented. They are left as they are, and what stays is seen as a survivor.',
  'Unknown filter keys are dropped without a word by this store, also in its bulk delete. A bulk delete is sent only where a dropped filter would hit nobody else: in an environment of so many traces that the store refuses what would match (more than 1,000), or in a window that holds no other trace. Everywhere else each trace is deleted by the call that has its id in the path and takes no filter; that this call keeps to its id, and that the guard of 1,000 is applied before anything is deleted, rests on the vendor’s word.',
  'That time ranges are not cut silently is shown only by logs about as old as startDate (or retention) being visible in one of the environments.',
];

export function traitsOf(rhythm: Rhythm, legacySpanDelete: boolean): StoreTraits {
  return {
    store: 'respan',
    idPattern: ID_PATTERN,
    deletesBy: 'trace',
    mostIdsPerDelete: MOST_IDS_PER_DELETE,
    pageTokens: 'offset',
    // Page numbers are offsets into what matches now: no searches of several people are combined (P20).
    mostSpellingsPerFind: 1,
    pageSize: PAGE_SIZE,
    rhythm,
    // Spans pass a queue and batch inserts; no time is published.
    readLagMs: 2 * MINUTE_MS,
    cutLength: CUT_LENGTH,
    acceptanceProvesNot:
      'A 200 tells how many traces matched when the deletion was queued, not that any is gone: deletions run later, the call for a single trace always answers 200, and a span still in the ingest queue may bring its trace back.',
    limits: LIMITS,
    copyMap: copyMapOf(legacySpanDelete),
  };
}

/**
 * 60 calls a minute for an organisation are documented, logs excepted, whose limit is unpublished: one budget for all,
 * evenly over the minute, so that no call waits long for its turn.
 */
export function limitsOf(callsPerMinute: number): { readonly all: Limit } {
  const slices = Math.min(5, callsPerMinute);
  return { all: { calls: Math.floor(callsPerMinute / slices), perMs: MINUTE_MS / slices } };
}

export const CALL_SHAPES = { any: ['all'] } as const satisfies Record<string, readonly 'all'[]>;
export type CallShape = keyof typeof CALL_SHAPES;
