import { z } from 'zod';
import { DAY_MS, MINUTE_MS } from '../../erasure/rhythm.ts';
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
import { GROUP_KEY } from './schemas.ts';
import { copyMapOf } from './traits.ts';

/** P3: at least so long after a delete, and between two counted reads. Real use may only raise it. */
const SETTLE_FLOOR_MS = 10 * MINUTE_MS;

/** Addresses are written with and without `/api` (enterprise hosts in the vendor's own pages); routes carry it. */
const rootSchema = baseUrlSchema('https://api.respan.ai').transform((url) => url.replace(/\/api$/, ''));

const keySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(
    /^(customer_identifier|thread_identifier|custom_identifier|metadata\.[^\s].*)$/,
    'must be customer_identifier, thread_identifier, custom_identifier or a metadata key, for instance metadata.user_id',
  );

const threadKeySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(
    /^(thread_identifier|custom_identifier|trace_group_identifier|metadata\.[^\s].*)$/,
    'must be thread_identifier, trace_group_identifier, custom_identifier or a metadata key, for instance metadata.session_id',
  );

const environmentSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'must be an environment as the store writes it: prod, stage or test')
  .refine(
    (name) => name !== 'production' && name !== 'staging',
    'is the word of the docs; the store itself knows prod and stage, and finds nothing under any other name',
  );

const ACCEPTABLE_LIMITS = ['single-path', 'out-of-reach', 'not-proven-before'] as const;
const ACCEPTABLE: readonly string[] = [...copyMapOf(false).map(({ kind }) => kind), ...ACCEPTABLE_LIMITS];

/** A Respan organisation as a connection. Unknown fields are refused, every problem is reported with its path. */
export const respanConnectionSchema = z
  .strictObject({
    store: z.literal('respan'),
    /** Server root; legacy and enterprise hosts differ. `/api` at its end is dropped. */
    baseUrl: rootSchema,
    /** A key of the organisation; no narrower scopes are documented. */
    apiKey: apiKeySchema,
    /**
     * Every environment that holds data, in the store's words (`prod`, `stage`, `test`). Each is a project to Lethe and
     * is named in every call: left out, the store would take the key's own, or all of them, depending on the route.
     */
    environments: z
      .array(environmentSchema)
      .min(1, 'names no environment')
      .refine((names) => new Set(names).size === names.length, 'names an environment twice'),
    /**
     * The day of the earliest data, for instance 2024-03-01; `doctor` tells the oldest log that is visible. Reads must show
     * a log of about that day in one of the environments: a server that silently cuts time ranges would make everything
     * older look erased, so that nothing is planned or proven then.
     */
    startDate: z.iso.date({ error: 'must be a date, for instance 2024-03-01' }),
    /** How long the store keeps logs on your plan, for instance 30 d: older ones need not be visible. Default: for ever. */
    retention: durationSchema.optional(),
    /** For each kind of identifier the fields or metadata keys under which logs carry it. */
    identifiers: identifiersSchema(keySchema),
    /**
     * Fields or metadata keys under which logs carry their conversation; none switches following conversations off.
     * Default: the vendor's own two; `trace_group_identifier` is searched by one route only, the traces list.
     */
    threads: threadsSchema(threadKeySchema, ['thread_identifier', GROUP_KEY]),
    /** Limits that the controller has accepted, by name of copy kind or limit. */
    accept: acceptSchema('Respan', ACCEPTABLE),
    /** From a delete, and between two counted reads. At least 10 min against a real store. */
    settle: durationSchema.default(SETTLE_FLOOR_MS),
    /** Width over which people are spread so that they do not all read at once. */
    spread: durationSchema.default(10 * MINUTE_MS),
    /** Of the 60 that the vendor allows the whole organisation; leave room for other users of the API. */
    callsPerMinute: z.int().min(1).max(600).default(50),
    dailyCalls: dailyCallsSchema,
    /**
     * Widest time range of one call, days, for servers that refuse wider ones. Searches then run from `startDate` in
     * ranges of this width. Default: one range from 1970 to a week ahead.
     */
    maxWindow: z.int().min(1).max(3660).optional(),
    /**
     * Erases logs that have no trace by the older DELETE of one log, which the current reference leaves out.
     */
    legacySpanDelete: z.boolean().default(false),
  })
  .superRefine((connection, context) => {
    if (connection.settle >= SETTLE_FLOOR_MS || !URL.canParse(connection.baseUrl)) return;
    if (isLoopback(new URL(connection.baseUrl))) return;
    const message = `must be at least ${SETTLE_FLOOR_MS / MINUTE_MS} min against a real store`;
    context.addIssue({ code: 'custom', path: ['settle'], message });
  });

/** A Respan connection as written in the config. */
export type RespanConnectionInput = z.input<typeof respanConnectionSchema>;
/** A Respan connection with its defaults filled. */
export type RespanConnection = z.output<typeof respanConnectionSchema>;

export function rhythmOf({ settle, spread }: RespanConnection): Rhythm {
  return { kind: 'continuous', settleMs: settle, spreadMs: spread };
}

/** Data need only be visible from about here on: the first instant by which some log must be seen, epoch milliseconds. */
export function mustReachMs({ startDate, retention }: RespanConnection, nowMs: number): number {
  const fromMs = Date.parse(startDate) + 2 * DAY_MS;
  // Near the end of retention there may be days without a log.
  return retention === undefined ? fromMs : Math.max(fromMs, nowMs - 0.75 * retention);
}

/** The widest range of one call, milliseconds, or null. */
export function maxWindowMs({ maxWindow }: RespanConnection): number | null {
  return maxWindow === undefined ? null : maxWindow * DAY_MS;
}
