import { z } from 'zod';
import { AFTERCARE_STATES, LOOK_ANSWERS } from './aftercare.ts';
import { LAWS } from './law.ts';
import { EXCEPTION_KINDS, STATUSES } from './outcome.ts';
import { connectionPlanSchema, planSummarySchema } from './plan.ts';

const count = z.int().min(0);
const instant = z.iso.datetime();

/** Why a lane wants an operator, since when, and what happens or can be done next. */
const attentionSchema = z.strictObject({ reason: z.string(), since: instant, next: z.string() });

/** Copies that no call can erase, for a person. See `ManualTask`. */
export const manualTaskSchema = z.strictObject({
  id: z.string(),
  kind: z.string(),
  count,
  where: z.string().nullable(),
  instructions: z.string(),
  attested: count.optional(),
  attestedBy: z.string().optional(),
});

/** What `--json` prints of one connection. */
export const connectionStatusSchema = z.strictObject({
  status: z.enum(STATUSES),
  /** 0 before the first submit. */
  round: count,
  /** When Lethe acts next by itself; null while it is at work, when only an operator can move it, and at the end. */
  nextCheckAt: instant.nullable(),
  attention: attentionSchema.nullable(),
  /** Kinds of identifiers and the keys they are searched by; an empty list means "not searchable here" (P8). */
  searched: z.record(z.string(), z.array(z.string())),
  given: z.strictObject({
    total: count,
    resolved: count,
    neverMatched: count,
    unresolved: count,
    wrongKind: count,
    duplicate: count,
  }),
  traces: z.strictObject({
    matched: count,
    pending: count,
    verifiedAbsent: count,
    goneBeforeSubmit: count,
    survived: count,
    shared: count,
    linked: count,
    inconclusive: count,
    newActivity: count.default(0),
    abandoned: count,
  }),
  copies: z.strictObject({
    found: count,
    erased: count,
    manual: count,
    /** On a named person's word, which no read has shown; absent: none. */
    attested: count.optional(),
    outOfReach: count,
    inconclusive: count,
    abandoned: count,
    notExamined: z.array(z.string()),
  }),
  /** What is left for people to do, and what they have said that they did; absent: nothing. */
  tasks: z.array(manualTaskSchema).optional(),
  /** Counted clean reads so far, and how many the policy asks for. */
  cleanReads: count,
  cleanReadsWanted: count,
  /** Why the latest read did not count, or null. */
  lastRead: z.string().nullable(),
  /**
   * What was planned, or waits for approval; null before the first plan. With details where the workflow or the record
   * tells it, without where the server's list does.
   */
  plan: planSummarySchema.nullable().default(null),
  /** What an operator has approved here, and who; null: nothing. */
  approval: z.strictObject({ atMost: count, by: z.string(), at: instant }).nullable().default(null),
  /** End of a hold that has one; null: not held, or until an operator says so. */
  heldUntil: instant.nullable().default(null),
  /** The earliest verdict there can be if everything goes well, by the store's rhythm: an estimate; null: not known. */
  earliestVerdictAt: instant.nullable().default(null),
});

/** What is looked at again after the end. */
export const aftercareStatusSchema = z.strictObject({
  /** `stopped`: its workflow was ended from outside, and no look comes any more. */
  state: z.enum(AFTERCARE_STATES),
  /** Null after the last look. */
  nextLookAt: instant.nullable(),
  /** The latest word about each look at each connection, in order. */
  looks: z.array(
    z.strictObject({
      connection: z.string(),
      /** From 1. */
      look: count,
      at: instant,
      answer: z.enum(LOOK_ANSWERS),
      why: z.string().nullable(),
      /** The new request that erases what came back, or null. */
      request: z.string().nullable(),
    }),
  ),
});
export type AftercareStatus = z.infer<typeof aftercareStatusSchema>;

/** What `--json` prints of one request. All instants are ISO 8601 in UTC, on the virtual clock when there is one. */
export const requestStatusSchema = z.strictObject({
  requestId: z.string(),
  workflowId: z.string(),
  status: z.enum(STATUSES),
  /** Open after its due date, or ended after it. */
  overdue: z.boolean(),
  receivedAt: instant,
  dueAt: instant,
  /** Whose periods count; null: started by a release that knew no laws. */
  law: z.enum(LAWS).nullable().default(null),
  /** IANA name of the zone in which the law's days end; null as `law`. */
  zone: z.string().nullable().default(null),
  /** Until when the receipt must be confirmed to the person; null: the law does not ask for it. Public holidays are not known. */
  confirmBy: instant.nullable().default(null),
  /** The postponement, on which the person was told; null: there was none. */
  extension: z
    .strictObject({ to: instant, by: z.string(), at: instant, notifiedOn: z.iso.date() })
    .nullable()
    .default(null),
  /** Other requests of the same person that joined this one, each with its own receipt. */
  joinedRequests: z.array(z.strictObject({ requestId: z.string(), receivedAt: instant, dueAt: instant })).default([]),
  /** Whether a lane can't end in time even if everything goes well from now on, as far as its store's rhythm tells. */
  atRisk: z.boolean().default(false),
  /** Why, without personal data; null: it is not. */
  atRiskReason: z.string().nullable().default(null),
  endedAt: instant.nullable(),
  dryRun: z.boolean(),
  /** True when the clock was simulated: such a request proves nothing about a real store (P34). */
  simulated: z.boolean(),
  exceptions: z.array(
    z.strictObject({ connection: z.string(), kind: z.enum(EXCEPTION_KINDS), count, text: z.string() }),
  ),
  connections: z.record(z.string(), connectionStatusSchema),
  /** Only in the status of a single request that has ended and is, or was, watched. */
  aftercare: aftercareStatusSchema.optional(),
});

/** What `client.plan` returns: the status of a finished dry run, with each connection's whole plan. */
export const planSchema = requestStatusSchema.extend({
  /** `plan` is null where the request ended before it was made. */
  connections: z.record(z.string(), connectionStatusSchema.extend({ plan: connectionPlanSchema.nullable() })),
});

export type Plan = z.infer<typeof planSchema>;
export type ConnectionStatus = z.infer<typeof connectionStatusSchema>;
export type RequestStatus = z.infer<typeof requestStatusSchema>;
