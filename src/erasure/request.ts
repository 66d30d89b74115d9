import { z } from 'zod';
import type { Clock } from './clock.ts';
import type { EventKind } from './events.ts';
import { LAWS, type Deadlines } from './law.ts';
import { QUOTES_IDENTIFIER, quotesIdentifier } from './quoting.ts';

/** One (kind, value) that names the data subject, for instance `user_id: u_42`. */
export interface Identifier {
  readonly kind: string;
  readonly value: string;
}

/** Values that stand for nobody. Erasing "the user null" would erase every anonymous trace (P18). */
const PLACEHOLDERS: ReadonlySet<string> = new Set([
  'null',
  'undefined',
  'none',
  'nil',
  'nan',
  'n/a',
  'na',
  'unknown',
  'anonymous',
  'anon',
  'guest',
  'user',
  'default',
  // What the tracing clients of Respan write when no user is named.
  'default_user',
  'test',
  'true',
  'false',
  '0',
  '-1',
  '-',
  '*',
  '%',
  '.*',
  '[object object]',
  '00000000-0000-0000-0000-000000000000',
]);

/**
 * @returns why a value cannot name one person, or null when it can. The value itself is not repeated: the message may
 *   be logged (P31).
 */
export function implausible(value: string): string | null {
  const plain = value.trim().toLowerCase();
  if (plain === '') return 'is empty';
  // As templates and serialisers write it: "null", <none>, (unknown).
  const bare = plain.replace(/^["'<([{]+/, '').replace(/["'>)\]}]+$/, '');
  if (PLACEHOLDERS.has(plain) || PLACEHOLDERS.has(bare)) {
    return 'is a placeholder that stands for nobody, and would match strangers';
  }
  if (/[*%]/.test(plain) && plain.replace(/[*%._-]/g, '') === '') return 'is a wildcard';
  if (!/[\p{L}\p{N}]/u.test(plain)) return 'has no letter or digit, and names nobody';
  if (value.length > 500) return 'is longer than 500 characters';
  if (HALF_CHARACTER.test(value)) return 'contains half a character, which no text can carry';
  // eslint-disable-next-line no-control-regex -- control characters never name a person and hide in terminals
  if (/[\u0000-\u001f\u007f]/.test(value)) return 'contains control characters';
  return null;
}

/** A surrogate without its other half: it has no UTF-8 form, so that different values would become the same. */
const HALF_CHARACTER = /\p{Surrogate}/u;

const kindSchema = z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, 'must be lower-case letters, digits and underscores');

const identifierSchema = z.strictObject({ kind: kindSchema, value: z.string() }).superRefine((identifier, context) => {
  const why = implausible(identifier.value);
  if (why !== null) context.addIssue({ code: 'custom', path: ['value'], message: `${identifier.kind} ${why}` });
});

const requestIdSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores');

const instantSchema = z.iso.datetime({ offset: true, error: 'must be an ISO 8601 instant with a zone' });

/** Most ids of the caller's own that one request carries: they travel in the workflow's input, which is limited. */
export const MOST_KNOWN_IDS = 20_000;

const knownIdSchema = z
  .string()
  .min(1, 'is empty')
  .max(200, 'is longer than 200 characters')
  // eslint-disable-next-line no-control-regex -- see above
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'contains control characters')
  .refine((id) => !HALF_CHARACTER.test(id), 'contains half a character');

const staffSchema = z
  .string()
  .trim()
  .min(1, 'is empty')
  .max(200, 'is longer than 200 characters')
  // eslint-disable-next-line no-control-regex -- see above
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'contains control characters');

/** What a caller asks for. Everything is checked here, before anything was touched (P25). */
export const eraseRequestSchema = z
  .strictObject({
    /** The caller's own id; repeating it returns the same request. Default: one is made. Must not identify a person. */
    requestId: requestIdSchema.optional(),
    /** The data subject. At least one, or known ids. */
    identifiers: z.array(identifierSchema).max(50).default([]),
    /** Trace or run ids from the caller's own database, by connection. */
    known: z.record(z.string(), z.array(knownIdSchema)).default({}),
    /** Consent to erase up to so many of the known ids whose traces carry nobody's identifier. Default: none. */
    acceptUnlabelled: z.int().min(0).optional(),
    /** Connections to erase from. Default: all configured ones. */
    connections: z.array(z.string()).min(1, 'names no connection').optional(),
    /** When the person asked. Default: now. The due date counts from it. */
    receivedAt: instantSchema.optional(),
    /** The law whose periods count. Default: the policy's. */
    law: z.enum(LAWS).optional(),
    /** When it must be done. Default: from the policy. */
    dueAt: instantSchema.optional(),
    /** Refuse to delete when more traces than this match in a connection. Default: the policy's `refuseAbove`. */
    expectAtMost: z.int().min(0).optional(),
    /** `extend`: when the person has an open request of another scope, widen that. Default: such a request is refused. */
    join: z.literal('extend').optional(),
    /** Plan only: nothing is deleted. */
    dryRun: z.boolean().default(false),
    /**
     * Who asks: a staff name or id, kept in the record. Needed when the policy names `secondPersonAbove`: nobody approves
     * alone what he has asked for himself. Default: the request does not say.
     */
    requestedBy: staffSchema.optional(),
    /**
     * Traces whose first run started after this instant are reported and never erased: for data that came back after an
     * earlier request, when the person may be a customer again. Default: no bound.
     */
    onlyBefore: instantSchema.optional(),
  })
  .superRefine((request, context) => {
    const known = Object.values(request.known).reduce((sum, ids) => sum + ids.length, 0);
    if (request.identifiers.length === 0 && known === 0) {
      context.addIssue({
        code: 'custom',
        path: ['identifiers'],
        message: 'names nobody: give at least one identifier or known id',
      });
    }
    if (known > MOST_KNOWN_IDS) {
      context.addIssue({
        code: 'custom',
        path: ['known'],
        message: `has ${known} ids, more than ${MOST_KNOWN_IDS}: split it into several requests`,
      });
    }
    const seen = new Set<string>();
    for (const [index, { kind, value }] of request.identifiers.entries()) {
      const key = JSON.stringify([kind, value]);
      if (seen.has(key)) {
        context.addIssue({ code: 'custom', path: ['identifiers', index], message: `repeats a ${kind}` });
      }
      seen.add(key);
    }
    if (request.requestedBy !== undefined && quotesIdentifier(request.requestedBy, request.identifiers)) {
      context.addIssue({ code: 'custom', path: ['requestedBy'], message: QUOTES_IDENTIFIER });
    }
    if (request.requestId !== undefined && quotesIdentifier(request.requestId, request.identifiers)) {
      context.addIssue({ code: 'custom', path: ['requestId'], message: QUOTES_IDENTIFIER });
    }
  });

/** A request as callers write it. */
export type EraseRequest = z.input<typeof eraseRequestSchema>;
/** A request with its defaults filled in. */
export type CheckedRequest = z.output<typeof eraseRequestSchema>;

/** Input of the `eraseUser` workflow. Travels through the payload codec. */
export interface EraseInput {
  readonly requestId: string;
  /** Empty when only known ids were given: the verdict then says "these ids", never "this person" (P16). */
  readonly subject: readonly Identifier[];
  readonly known: Readonly<Record<string, readonly string[]>>;
  readonly acceptUnlabelled: number;
  /** Sorted, unique. */
  readonly connections: readonly string[];
  /** Epoch milliseconds, as stated by the caller. */
  readonly receivedAtMs: number;
  /** Epoch milliseconds. */
  readonly dueAtMs: number;
  /** What the law asks; absent: the request was started by a release that knew no laws. */
  readonly deadlines?: Deadlines;
  /** Null: the policy's `refuseAbove`. */
  readonly expectAtMost: number | null;
  readonly dryRun: boolean;
  /** Who asks; absent: the request does not say. */
  readonly requestedBy?: string;
  /** Keyed digest of everything that makes two requests the same: subject, known ids, connections, options. */
  readonly scopeDigest: string;
  /** What started later is reported and never submitted, epoch milliseconds; absent: no bound. */
  readonly onlyBeforeMs?: number;
  /** Days after the end on which a watch looks again, ascending; absent: none. */
  readonly aftercareDays?: readonly number[];
  /** What webhooks are sent for; absent: nothing. */
  readonly notify?: readonly EventKind[];
  /**
   * How long memo and search attributes may be behind while steps follow each other, real milliseconds. Whoever starts
   * the workflow with it has written both as they are at the start. Absent: an earlier release started it, and every
   * change is written at once.
   */
  readonly statusWithinMs?: number;
  /**
   * The simulated clock of whoever started it, until a worker's answer tells that of the worker. Absent: none, or an earlier
   * release started it.
   */
  readonly clock?: NonNullable<Clock>;
}
