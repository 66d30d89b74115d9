import { z } from 'zod';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Rhythm } from '../../erasure/rhythm.ts';
import {
  acceptSchema,
  apiKeySchema,
  baseUrlSchema,
  dailyCallsSchema,
  durationSchema,
  identifiersSchema,
  isLoopback,
  threadsSchema,
} from '../connection.ts';
import { THREAD_KEYS } from './schemas.ts';
import { COPY_MAP } from './traits.ts';

/** P3: at least so long after the window has closed, and between two counted reads. Real use may only raise it. */
const WEEKEND_SETTLE_FLOOR_MS = 24 * HOUR_MS;
/** A self-hosted store that deletes at once still serves reads from replicas. */
const CONTINUOUS_SETTLE_FLOOR_MS = 10 * MINUTE_MS;

/** Self-hosted addresses are often written with the v1 prefix; v2 routes hang on the server root. */
const rootSchema = baseUrlSchema('https://api.smith.langchain.com').transform((url) =>
  url.replace(/\/api(\/v1)?$/, ''),
);

const rhythmSchema = z.union([
  z.literal('weekend'),
  z.strictObject({
    kind: z.literal('weekend'),
    settle: durationSchema.optional(),
    spread: durationSchema.optional(),
  }),
  z.strictObject({ kind: z.literal('continuous'), settle: durationSchema, spread: durationSchema.optional() }),
]);

/** Accepting one of these is about what a store can show, not about data that was seen and left (P1). */
const ACCEPTABLE_LIMITS = ['single-path', 'out-of-reach'] as const;
const ACCEPTABLE: readonly string[] = [...COPY_MAP.map(({ kind }) => kind), ...ACCEPTABLE_LIMITS];

const keySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(/^metadata\.[^\s].*$/, 'must name a metadata key, for instance metadata.user_id');

/**
 * A LangSmith workspace as a connection. Unknown fields are refused, every problem is reported with its path.
 */
export const langsmithConnectionSchema = z
  .strictObject({
    store: z.literal('langsmith'),
    /** Server root; one per region. `/api` and `/api/v1` at its end are dropped. */
    baseUrl: rootSchema,
    /** Needs to read runs, projects, datasets, feedback and annotation queues, and `runs:delete` (Workspace Admin). */
    apiKey: apiKeySchema,
    /** Sent as X-Tenant-Id; needed with keys of a whole organization. Default: the key's own workspace. */
    workspaceId: z.uuid().optional(),
    /** Names or ids. Default: every project the key can see. */
    projects: z.array(z.string().min(1).max(500)).min(1, 'names none; leave it out for every project').optional(),
    /** For each kind of identifier the metadata keys under which traces carry it. */
    identifiers: identifiersSchema(keySchema),
    /**
     * Metadata keys under which runs carry their conversation; none switches following conversations off. Default: those
     * by which the vendor groups runs into threads (docs, "threads").
     */
    threads: threadsSchema(
      keySchema,
      THREAD_KEYS.map((key) => `metadata.${key}`),
    ),
    /** Limits that the controller has accepted, by name of copy kind or limit. */
    accept: acceptSchema('LangSmith', ACCEPTABLE),
    /**
     * The first generation of the read API, removed on Cloud on 31 January 2027. `auto`: read through it as long as it
     * answers, and go on without it once its announced end has passed. `on`: its absence is always an error. `off`:
     * never used; reads then have a single path.
     */
    v1: z.enum(['auto', 'on', 'off']).default('auto'),
    /** When deletions are carried out. `weekend` is the vendor's word for Cloud; self-hosted servers may be faster. */
    rhythm: rhythmSchema.default('weekend'),
    dailyCalls: dailyCallsSchema,
    /** Runs per page of v2 reads. */
    pageSize: z.int().min(1).max(1000).default(1000),
    /** Lets `doctor` test the right to delete with one delete of a random id that no trace has. */
    probeDelete: z.boolean().default(false),
  })
  .superRefine((connection, context) => {
    const { rhythm } = connection;
    const settle = rhythm === 'weekend' ? undefined : rhythm.settle;
    if (rhythm === 'weekend' || settle === undefined || !URL.canParse(connection.baseUrl)) return;
    const floorMs = rhythm.kind === 'weekend' ? WEEKEND_SETTLE_FLOOR_MS : CONTINUOUS_SETTLE_FLOOR_MS;
    if (settle >= floorMs || isLoopback(new URL(connection.baseUrl))) return;
    const message = `must be at least ${floorMs / MINUTE_MS} min against a real store`;
    context.addIssue({ code: 'custom', path: ['rhythm', 'settle'], message });
  });

/** A LangSmith connection as written in the config. */
export type LangSmithConnectionInput = z.input<typeof langsmithConnectionSchema>;
/** A LangSmith connection with its defaults filled. */
export type LangSmithConnection = z.output<typeof langsmithConnectionSchema>;

/**
 * Saturday 00:00 to Monday 00:00 UTC. That deletions run "over the weekend" is all the vendor says (forum and docs,
 * 2025 and 2026); day borders and zone are unpublished, so a whole day of settling covers every zone.
 */
export function rhythmOf(rhythm: LangSmithConnection['rhythm']): Rhythm {
  const weekly = {
    kind: 'weekly',
    opensMs: 5 * DAY_MS,
    lengthMs: 2 * DAY_MS,
    settleMs: WEEKEND_SETTLE_FLOOR_MS,
    spreadMs: 3 * HOUR_MS,
  } as const;
  if (rhythm === 'weekend') return weekly;
  const { settle, spread } = rhythm;
  if (rhythm.kind === 'continuous') {
    return { kind: 'continuous', settleMs: rhythm.settle, spreadMs: spread ?? 10 * MINUTE_MS };
  }
  return { ...weekly, settleMs: settle ?? weekly.settleMs, spreadMs: spread ?? weekly.spreadMs };
}
