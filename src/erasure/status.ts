import { z } from 'zod';
import { EXCEPTION_KINDS, STATUSES } from './outcome.ts';

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
});

/** What `--json` prints of one request. All instants are ISO 8601 in UTC, on the virtual clock when there is one. */
export const requestStatusSchema = z.strictObject({
  requestId: z.string(),
  workflowId: z.string(),
  status: z.enum(STATUSES),
  /** Open after its due date, or ended after it. */
  overdue: z.boolean(),
  receivedAt: instant,
  dueAt: instant,
  endedAt: instant.nullable(),
  dryRun: z.boolean(),
  /** True when the clock was simulated: such a request proves nothing about a real store (P34). */
  simulated: z.boolean(),
  exceptions: z.array(
    z.strictObject({ connection: z.string(), kind: z.enum(EXCEPTION_KINDS), count, text: z.string() }),
  ),
  connections: z.record(z.string(), connectionStatusSchema),
});

export type ConnectionStatus = z.infer<typeof connectionStatusSchema>;
export type RequestStatus = z.infer<typeof requestStatusSchema>;
