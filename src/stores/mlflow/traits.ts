import { MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Rhythm } from '../../erasure/rhythm.ts';
import type { CopyTrait, StoreTraits } from '../port.ts';

/** Ids of traces: `tr-` and the OpenTelemetry id, or, of traces written before MLflow 3, the bare digits. */
export const TRACE_ID_PATTERN = /^(tr-)?[0-9a-f]{32}$/;
/** Ids of traces, or of spans as OpenTelemetry writes them. */
const ID_PATTERN = /^((tr-)?[0-9a-f]{32}|[0-9a-f]{16})$/;

/** Databricks takes no more in one call (its API reference); the open-source server takes thousands. */
const MOST_IDS_PER_DELETE = 100;

/**
 * The Python client cuts what it writes to trace metadata at so many characters. What OTLP spans bring is stored whole, and
 * cut in every answer all the same (`entities/trace_info_v2.py`); only the spans show it whole.
 */
export const CUT_LENGTH = 250;

const COPY_MAP = [
  {
    kind: 'dataset-records',
    text: 'Records of evaluation datasets that were made from the traces: they keep inputs, expectations and session id',
    examined: true,
    goesWithTrace: false,
    erasable: true,
  },
  {
    kind: 'artifacts-elsewhere',
    text: 'Files of the traces that are not kept behind the tracking server: traces.json and attachments in a bucket or folder of yours',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'unindexed-people',
    text: 'Traces in which the person is named in a span and not indexed by the server: the second person of a trace',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'hidden-experiments',
    text: 'Experiments that the account may not read, which the server leaves out without a word: an administrator sees all',
    examined: true,
    goesWithTrace: false,
  },
  {
    kind: 'run-data',
    text: 'What runs hold: parameters, metrics, logged tables and models, and the links from runs to traces, which keep the trace ids',
    examined: false,
    goesWithTrace: false,
  },
  {
    kind: 'database-remains',
    text: 'Free pages of the database file until it is vacuumed, its backups and replicas',
    examined: false,
    goesWithTrace: false,
    isLimit: true,
  },
] as const satisfies readonly CopyTrait[];

/** Names of all of them. */
export const COPY_KINDS = COPY_MAP.map(({ kind }) => kind);

const LIMITS: readonly string[] = [
  'Absence means: not readable by this account. The server leaves out, without a word, experiments that the account may not read: only of an administrator, or of experiments that `experiments` in the config names, is that known. Of several workspaces only the default one is seen.',
  'The server indexes one person per trace, the first that its spans name. Further ones are found by searching the spans under the attributes user.id and session.id, and under configured span attributes.',
  'A list of people under one key is seen when its trace is read, but no search finds it.',
  'Identifiers are found under the configured keys, in the spellings searched. Inputs, outputs and previews are not searched.',
  'A dataset record that was written to after it was made may hold what came from other traces: it is told, and left to a person. One into which what the person said was merged belongs to the trace that it was first made from, and is not found.',
  'Files of traces that were deleted in earlier times, by hand or by other tools, are found by trace id alone; no search by person reaches them.',
  'A file written again to the artifact store after the last look is not seen. Spans that arrive late bring back a trace under its id; they are looked for by every read.',
  'SQLite keeps deleted text in free pages unless it was built with secure_delete: run VACUUM, and let backups expire.',
];

/** @param left names of the copies, and of the search of spans, that the config leaves out. */
export function traitsOf(rhythm: Rhythm, pageSize: number, left: ReadonlySet<string>): StoreTraits {
  return {
    store: 'mlflow',
    idPattern: ID_PATTERN,
    deletesBy: 'trace',
    mostIdsPerDelete: MOST_IDS_PER_DELETE,
    pageTokens: 'offset',
    mostSpellingsPerFind: 1,
    pageSize,
    rhythm,
    // Writes and deletes are done before they are answered; clients upload in the background.
    readLagMs: MINUTE_MS,
    cutLength: CUT_LENGTH,
    cutBy: 'writer',
    acceptanceProvesNot:
      'A 200 proves only that the request was carried out as understood: unknown ids, ids of another experiment and an unknown experiment are not counted and are no error, and the files of the traces stay on the artifact store.',
    limits: LIMITS,
    copiesOfNothing: true,
    copyMap: COPY_MAP.map((copy) => ({ ...copy, examined: copy.examined && !left.has(copy.kind) })),
  };
}

/** Kinds of calls. */
export const CALL_SHAPES = { any: ['any'] } as const;
export type CallShape = keyof typeof CALL_SHAPES;
