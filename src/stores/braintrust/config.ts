import { z } from 'zod';
import { MINUTE_MS } from '../../erasure/rhythm.ts';
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
import { COPY_KINDS } from './traits.ts';

/** P3: between a delete and a read that counts, and between two of them. Real use may only raise it. */
const SETTLE_FLOOR_MS = 2 * MINUTE_MS;

/** Accepting one of these is about what a store can show, not about data that was seen and left (P1). */
const ACCEPTABLE: readonly string[] = [...COPY_KINDS, 'single-path', 'out-of-reach'];

/** Copies that cost calls of their own to look for, and that can be left out. */
export const OPTIONAL_COPIES = ['datasets', 'experiments', 'attachments'] as const;

const keySchema = z
  .string()
  .max(200, 'is longer than 200 characters')
  .regex(
    /^metadata(\.[^\s.]([^.]*[^\s.])?){1,8}$/,
    'must name a metadata key, for instance metadata.user_id or metadata.user.id; tags and content are not searched',
  );

/**
 * A Braintrust organization as a connection. Unknown fields are refused, every problem is reported with its path.
 */
export const braintrustConnectionSchema = z
  .strictObject({
    store: z.literal('braintrust'),
    /** Needs to read projects, logs, datasets and experiments, and to write and delete project logs. */
    apiKey: apiKeySchema,
    /** Control plane: where keys log in. Default: the vendor's. A self-hosted data plane may stand in for it. */
    appUrl: baseUrlSchema('https://www.braintrust.dev'),
    /** Data plane. Default: what login tells for the organization, which is right for hosted ones of every region. */
    apiUrl: baseUrlSchema().optional(),
    /** Name of the organization. Needed when the key sees several: the vendor's own SDK would take the first. */
    organization: z.string().min(1).max(500).optional(),
    /** Names or ids. Default: every project the key can see. A name must fit exactly one. */
    projects: z.array(z.string().min(1).max(500)).min(1, 'names none; leave it out for every project').optional(),
    /**
     * For each kind of identifier the metadata keys under which spans carry it. Dots lead into nested objects;
     * a flat key that holds dots itself, as OpenTelemetry writes them, is searched along with it.
     */
    identifiers: identifiersSchema(keySchema),
    /**
     * Metadata keys under which spans carry their conversation; none switches following conversations off. The vendor
     * documents no such key. Default: the names that applications use most.
     */
    threads: threadsSchema(keySchema, ['metadata.session_id', 'metadata.thread_id', 'metadata.conversation_id']),
    /**
     * Limits that the controller has accepted, by name of copy kind or limit. Of `row-history` and `attachments` what is
     * found is accepted too, `attachments` with files in buckets of your own; of any other kind, that it is not examined.
     */
    accept: acceptSchema('Braintrust', ACCEPTABLE),
    /** How long a tombstone may take to show everywhere. Default and least for real stores: 2 min. */
    settle: durationSchema.prefault('2 min'),
    /** Width over which people are spread, so that they do not all read at once. */
    spread: durationSchema.prefault('10 min'),
    /**
     * Queries that Lethe may make a minute. The published limit of Starter and Pro is about 20 for the whole
     * organization, people at the screen included. Enterprise contracts and self-hosted servers may allow more.
     */
    btqlPerMinute: z.int().min(4).max(6000).default(15),
    dailyCalls: dailyCallsSchema,
    /** Rows per page. Self-hosted servers may be set to serve fewer than 1000. */
    pageSize: z.int().min(10).max(1000).default(1000),
    /** Copies to look for. One that is left out counts as not examined. */
    copies: z.array(z.enum(OPTIONAL_COPIES)).default([...OPTIONAL_COPIES]),
  })
  .superRefine(({ settle, appUrl, apiUrl }, context) => {
    const addresses = [appUrl, apiUrl].filter((url) => url !== undefined && URL.canParse(url));
    const simulated = addresses.length > 0 && addresses.every((url) => isLoopback(new URL(url ?? '')));
    if (settle >= SETTLE_FLOOR_MS || simulated) return;
    const message = `must be at least ${SETTLE_FLOOR_MS / MINUTE_MS} min against a real store`;
    context.addIssue({ code: 'custom', path: ['settle'], message });
  });

/** A Braintrust connection as written in the config. */
export type BraintrustConnectionInput = z.input<typeof braintrustConnectionSchema>;
/** A Braintrust connection with its defaults filled. */
export type BraintrustConnection = z.output<typeof braintrustConnectionSchema>;

/** "A few seconds" is all the vendor says of when a tombstone shows (docs, "deleting logs via API"). */
export function rhythmOf({ settle, spread }: BraintrustConnection): Rhythm {
  return { kind: 'continuous', settleMs: settle, spreadMs: spread };
}
