import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Rhythm } from '../../erasure/rhythm.ts';
import type { CopyTrait, StoreTraits } from '../port.ts';
import type { Limit } from '../pacing.ts';

/** Ids are UUIDs of any version: newer SDKs make v7, older ones v4. */
export const ID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The vendor's documented maximum; behaviour above it is unknown. */
const MOST_IDS_PER_DELETE = 1000;

/** Where else the person's data lives, from the vendor's documentation; see `copies.ts` for how each is examined. */
export const COPY_MAP: readonly CopyTrait[] = [
  {
    kind: 'dataset-examples',
    text: 'Dataset examples made from the traces; datasets never expire. Deleted hard, so that no earlier version stays readable',
    examined: true,
    goesWithTrace: false,
    erasable: true,
    erasedWhen: 'after',
    instructions:
      'Open the dataset, look at the examples that name other people too or that could not be deleted, and delete by the API with hard_delete what is this person’s; the delete of the user interface keeps earlier versions.',
  },
  {
    kind: 'public-shares',
    text: 'Public links to the traces, withdrawn before the traces are submitted',
    examined: true,
    goesWithTrace: true,
    erasable: true,
    erasedWhen: 'before',
    instructions:
      'Withdraw the public links in the settings of the workspace, under shared items; the API key may lack runs:share.',
  },
  {
    kind: 'annotation-queue-entries',
    text: 'Entries of annotation queues, removed before the traces are submitted',
    examined: true,
    goesWithTrace: true,
    erasable: true,
    erasedWhen: 'before',
    instructions: 'Open the annotation queue and remove the entries whose runs are gone.',
  },
  {
    kind: 'feedback',
    text: 'Feedback on the runs, comments included; what is left after its trace is erased one by one',
    examined: true,
    goesWithTrace: true,
    erasable: true,
    erasedWhen: 'after',
    instructions: 'Delete the feedback by its id through the API.',
  },
  {
    kind: 'evaluator-traces',
    text: "Traces of online evaluators, whose judges read the person's text; nothing links them back",
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'bulk-exports',
    text: 'Files exported to a bucket of yours',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'rule-outputs',
    text: 'What automation rules and webhooks sent elsewhere',
    examined: true,
    goesWithTrace: false,
  },
  { kind: 'insights', text: 'Summaries and clusters made by Insights jobs', examined: false, goesWithTrace: false },
  {
    kind: 'statistics',
    text: 'Aggregated metrics and billing metadata, some kept indefinitely',
    examined: false,
    goesWithTrace: false,
  },
];

/** What no call of the API can show. */
const LIMITS: readonly string[] = [
  'Absence means: not readable through the API with this key. Physical removal, backups and object storage cannot be shown.',
  'Identifiers are found in the spellings searched: as given, composed and decomposed, and in lower case for kinds declared case-insensitive. No filter finds others.',
  'Runs whose metadata carries none of the configured keys are not found by person.',
  'Traces that an application also wrote to another workspace need a connection of their own.',
  'Dataset examples that name no source run are not matched to a person.',
  'A run that an application changes after its trace was deleted, naming the run alone, may come back as a trace of its own without a user: only what carries a searched key, or an id you gave, is looked for then.',
  'Feedback left on a whole thread, audit-log entries (up to 400 days), prompts and agent-server checkpoints are not examined.',
  'When the weekend job runs is unpublished: the schedule is an estimate that only reading back settles.',
];

export function traitsOf(rhythm: Rhythm, pageSize: number): StoreTraits {
  return {
    store: 'langsmith',
    idPattern: ID_PATTERN,
    deletesBy: 'trace',
    mostIdsPerDelete: MOST_IDS_PER_DELETE,
    // Opaque cursors of both generations: nothing documents that they are offsets.
    pageTokens: 'cursor',
    // Each spelling may take two clauses, as text and as a number; longer expressions are cut into calls by the connector.
    mostSpellingsPerFind: 100,
    pageSize,
    rhythm,
    // The vendor's own tests poll up to two minutes for a run that was just written.
    readLagMs: 2 * MINUTE_MS,
    // No cut of metadata values is documented.
    cutLength: null,
    acceptanceProvesNot:
      'A 202 proves only that the request arrived: unknown ids, ids of another project and ids of child runs get the same answer, and no call tells whether or when anything was deleted.',
    limits: LIMITS,
    copyMap: COPY_MAP,
  };
}

/** A search window up to this width has a higher limit. */
export const NARROW_WINDOW_MS = 7 * 24 * 60 * MINUTE_MS;

/**
 * Published limits of Cloud (docs, "cloud rate limits"), the lower one where pages disagree. That v2 routes share them
 * is not stated; it is assumed.
 */
export const LIMITS_OF_CALLS = {
  /** POST runs/query per key at the gateway. */
  gateway: { calls: 15, perMs: 10_000 },
  /** The same per workspace, window up to 7 days. */
  narrow: { calls: 10, perMs: 10_000 },
  /** The same, wider window or none. */
  wide: { calls: 3, perMs: 10_000 },
  /** Everything without a row of its own: 2,000 per minute, evenly. */
  rest: { calls: 333, perMs: 10_000 },
} as const satisfies Record<string, Limit>;

/** Kinds of calls, and the limits that each counts against. */
export const CALL_SHAPES = {
  wideQuery: ['gateway', 'wide'],
  narrowQuery: ['gateway', 'narrow'],
  rest: ['rest'],
} as const satisfies Record<string, readonly (keyof typeof LIMITS_OF_CALLS)[]>;
export type CallShape = keyof typeof CALL_SHAPES;
