import { z } from 'zod';
import { MINUTE_MS } from '../../erasure/rhythm.ts';
import {
  acceptSchema,
  apiKeySchema,
  checkOwnServer,
  dailyCallsSchema,
  durationSchema,
  identifiersSchema,
  OWN_SERVER_SETTLE_MS,
  ownServerFields,
  threadsSchema,
} from '../connection.ts';
import { COPY_KINDS } from './traits.ts';

/** Accepting one of these is about what a server can show, not about data that was seen and left (P1). */
const ACCEPTABLE: readonly string[] = [...COPY_KINDS, 'single-path', 'out-of-reach'];

/** Copies that cost calls of their own to look for, and that can be left out. */
export const OPTIONAL_COPIES = ['dataset-records'] as const;

/** The filter language takes these words for fields of its own, wherever they stand (`utils/search_utils.py`, 3.17). */
const RESERVED_KEYS = new Set([
  ...['name', 'prompt', 'run_id', 'request_id', 'client_request_id', 'status', 'text'],
  ...['timestamp', 'timestamp_ms', 'execution_time', 'execution_time_ms', 'end_time', 'end_time_ms'],
]);

const keySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(
    /^(metadata|tags|attributes)\.[A-Za-z0-9_]([A-Za-z0-9_.:/ -]*[A-Za-z0-9_])?$/,
    'must be a trace metadata key, a trace tag or a span attribute, for instance metadata.mlflow.trace.user, tags.customer or attributes.enduser.id',
  )
  .refine(
    (key) => key.startsWith('attributes.') || !RESERVED_KEYS.has(nameOf(key).toLowerCase()),
    'is a word of the filter language itself, so that it cannot be searched by',
  );

/** An MLflow tracking server as a connection. Unknown fields are refused, every problem is reported with its path. */
export const mlflowConnectionSchema = z
  .strictObject({
    store: z.literal('mlflow'),
    ...ownServerFields,
    /** Sent as a bearer token, for servers behind a proxy that asks for one. Default: none. */
    apiKey: apiKeySchema.optional(),
    /** Of a server with basic authentication. It must be an administrator: whoever may not read an experiment sees none. */
    username: z
      .string()
      .regex(/^[^:\p{Cc}]{1,200}$/u, 'is empty, too long or holds a colon')
      .optional(),
    password: z.string().min(1, 'is empty').max(500).optional(),
    /**
     * Ids of the experiments in scope. Default: every one, deleted ones included. One that is named and not visible is an
     * error: the server hides without a word what an account may not read.
     */
    experiments: z
      .array(z.string().regex(/^\d{1,30}$/, 'must be the id of an experiment, a decimal number in quotes'))
      .min(1, 'names none; leave it out for every experiment')
      .refine((ids) => new Set(ids).size === ids.length, 'names an experiment twice')
      .optional(),
    /** For each kind of identifier the trace metadata, trace tags and span attributes that carry it. */
    identifiers: identifiersSchema(keySchema),
    /** Keys that carry the conversation; none switches following conversations off. Default: the server's own. */
    threads: threadsSchema(keySchema, ['metadata.mlflow.trace.session']),
    /** Limits that the controller has accepted, by name of copy kind or limit. */
    accept: acceptSchema('MLflow', ACCEPTABLE),
    /** From a delete, and between two counted reads. At least 10 min, shorter only against a server on this machine. */
    settle: durationSchema.default(OWN_SERVER_SETTLE_MS),
    /** Width over which people are spread, so that they do not all read at once. */
    spread: durationSchema.default(10 * MINUTE_MS),
    /** Calls that Lethe may make a minute; the open-source server has no limit of its own. */
    callsPerMinute: z.int().min(10).max(60_000).default(1200),
    dailyCalls: dailyCallsSchema,
    /**
     * Searches the text of the spans too, which alone finds the second person of a trace. On SQLite it needs statistics
     * (`ANALYZE`) from some thousand traces on. Without it, people of whom no trace metadata or tag tells count as not
     * examined, and keys that only spans have are not searched.
     */
    spanSearch: z.boolean().default(true),
    /** Traces per page of a search. The server takes at most 500. */
    pageSize: z.int().min(10).max(500).default(500),
    /** Copies to look for. One that is left out counts as not examined. */
    copies: z.array(z.enum(OPTIONAL_COPIES)).default([...OPTIONAL_COPIES]),
  })
  .superRefine((connection, context) => {
    checkOwnServer(connection, context);
    const { apiKey, username, password } = connection;
    if ((username === undefined) !== (password === undefined)) {
      context.addIssue({ code: 'custom', path: ['password'], message: 'username and password come together' });
    }
    if (username !== undefined && apiKey !== undefined) {
      context.addIssue({ code: 'custom', path: ['apiKey'], message: 'give either apiKey, or username and password' });
    }
  });

/** An MLflow connection with its defaults filled. */
export type MlflowConnection = z.output<typeof mlflowConnectionSchema>;

/** A key of the config without the word that says where it stands. */
function nameOf(key: string): string {
  return key.slice(key.indexOf('.') + 1);
}
