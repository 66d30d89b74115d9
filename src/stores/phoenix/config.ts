import { z } from 'zod';
import {
  acceptSchema,
  apiKeySchema,
  checkOwnServer,
  dailyCallsSchema,
  durationSchema,
  identifiersSchema,
  ownServerFields,
  threadsSchema,
} from '../connection.ts';
import { COPY_KINDS } from './traits.ts';

/** Accepting one of these is about what a store can show, not about data that was seen and left (P1). */
const ACCEPTABLE: readonly string[] = [...COPY_KINDS, 'single-path', 'out-of-reach'];

const keySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(
    /^[A-Za-z_][\w-]*(\.[\w-]+){1,8}$/,
    'must name a span attribute, for instance user.id, session.id or metadata.user_id',
  );

/**
 * A Phoenix server as a connection. Unknown fields are refused, every problem is reported with its path.
 */
export const phoenixConnectionSchema = z
  .strictObject({
    store: z.literal('phoenix'),
    /** Phoenix: without `/v1`. */
    ...ownServerFields,
    /** A system or member key; a viewer's can't delete. Leave it out for a server without authentication. */
    apiKey: apiKeySchema.optional(),
    /** Names or ids. Default: every project, those of experiments and evaluators included. */
    projects: z.array(z.string().min(1).max(500)).min(1, 'names none; leave it out for every project').optional(),
    /** For each kind of identifier the span attributes that carry it; dots lead into nested ones. */
    identifiers: identifiersSchema(keySchema),
    /** Span attributes that carry the conversation; none switches following conversations off. Default: OpenInference's. */
    threads: threadsSchema(keySchema, ['session.id']),
    /** Limits that the controller has accepted, by name of copy kind or limit. */
    accept: acceptSchema('Phoenix', ACCEPTABLE),
    /**
     * How long a span may wait in the server's memory before it can be read: a queue of 10,000 took two minutes on two cores.
     * Default 15 min; least 10 min off loopback.
     */
    settle: durationSchema.prefault('15 min'),
    /** Width over which people are spread, so that they do not all read at once. */
    spread: durationSchema.prefault('10 min'),
    /** The vendor names no limit, but the server writes one thing at a time. */
    callsPerSecond: z.int().min(1).max(1000).default(20),
    dailyCalls: dailyCallsSchema,
    /** Spans per page; they come with all their attributes. */
    pageSize: z.int().min(10).max(1000).default(1000),
  })
  .superRefine(checkOwnServer);

/** A Phoenix connection with its defaults filled. */
export type PhoenixConnection = z.output<typeof phoenixConnectionSchema>;
