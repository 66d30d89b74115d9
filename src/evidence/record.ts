import { z } from 'zod';
import type { Clock } from '../erasure/clock.ts';
import { INCLUDES } from '../erasure/include.ts';
import { LAWS } from '../erasure/law.ts';
import { imbalances } from '../erasure/ledger.ts';
import { EXCEPTION_KINDS, VERDICTS } from '../erasure/outcome.ts';
import { connectionPlanSchema } from '../erasure/plan.ts';
import { manualTaskSchema } from '../erasure/status.ts';
import type { LaneFigures, RecordedVerb } from '../erasure/steps.ts';
import { TROUBLES } from '../erasure/steps.ts';
import type { Project, ReadReport } from '../stores/port.ts';
import type { Addendum, AddendumLine } from './addenda.ts';

/**
 * The plain account of a request: what was asked, done, read and concluded (P35). It outlives Temporal's retention and
 * holds no personal data: people and ids appear as counts and keyed digests. Everything written carries this format;
 * a change that an older reader would misread needs a new number.
 */
export const RECORD_FORMAT = 'lethe-record/1';

export const count = z.int().min(0);
/** ISO 8601 in UTC, on the virtual clock when there is one. */
export const instant = z.iso.datetime();
const hexDigest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits');
/** For a person. Without a limit: a long list of projects must not keep a step from being recorded. */
export const text = z.string();

export const clockSchema = z.strictObject({ real: instant, virtual: instant, speed: z.number().positive() }).nullable();

const versionsSchema = z.strictObject({ lethe: z.string(), node: z.string() });

/** What is known of a request when its first activity starts. */
export const openRecordSchema = z.strictObject({
  format: z.literal(RECORD_FORMAT),
  requestId: z.string(),
  workflowId: z.string(),
  /** Keyed digest of everything that makes two requests the same (P24). */
  scopeDigest: hexDigest,
  receivedAt: instant,
  dueAt: instant,
  dryRun: z.boolean(),
  /** Who asked, as far as the request says. */
  requestedBy: text.optional(),
  /** Sorted. */
  connections: z.array(z.string()),
  /** What the law asks; absent: from a release that knew no laws. Public holidays are not known. */
  deadlines: z.strictObject({ law: z.enum(LAWS), zone: z.string(), confirmBy: instant.nullable() }).optional(),
  /** Kinds of the identifiers given; none when only known ids were: then the verdict says "these ids" (P16). */
  identifierKinds: z.array(z.string()),
  startedAt: instant,
  /** The simulated clock, or null in production (P34). */
  clock: clockSchema,
  versions: versionsSchema,
});
export type OpenRecord = z.infer<typeof openRecordSchema>;

/** What makes two openings the same. The rest is what the first worker found: it may differ after a restart. */
export const OPEN_IDENTITY = [
  'format',
  'requestId',
  'workflowId',
  'scopeDigest',
  'receivedAt',
  'dueAt',
  'dryRun',
  'connections',
  'identifierKinds',
] as const satisfies readonly (keyof OpenRecord)[];

const projectSchema = z.strictObject({ id: z.string(), name: z.string(), type: z.string() });
const projectWithReasonSchema = projectSchema.extend({ why: text });

const projectsSchema = z.strictObject({
  examined: z.array(projectSchema),
  excluded: z.array(projectWithReasonSchema),
  /** Configured or seen before, and not readable now. */
  unreachable: z.array(projectWithReasonSchema),
});
/** The projects of one enumeration (P9). */
export type RecordedProjects = z.infer<typeof projectsSchema>;

export const windowSchema = z.strictObject({ from: instant, to: instant }).nullable();

export const readReportSchema = z.strictObject({
  route: z.string(),
  purpose: z.enum(['find', 'lookup', 'locate', 'controls', 'copies']),
  calls: count,
  rows: count,
  /** People for whom the read was made at once; absent: one. */
  people: count.optional(),
  window: windowSchema,
  controlsAsked: count,
  controlsSeen: count,
  requestIds: z.array(z.string()),
  skewMs: z.number().nullable(),
  sunset: z.string().nullable(),
  /** Codes of the store's own warnings; absent: none. */
  warnings: z.array(z.string()).optional(),
});
/** `ReadReport` as the record keeps it: the same, with its window as instants. */
export type RecordedRead = z.infer<typeof readReportSchema>;

const exceptionSchema = z.strictObject({ kind: z.enum(EXCEPTION_KINDS), count, text });

const figuresShape = {
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
    newActivity: count.optional(),
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
  exceptions: z.array(exceptionSchema),
  /** What was left for people to do; absent: nothing. */
  tasks: z.array(manualTaskSchema).optional(),
};

/** Calls of one route that erased copies of one kind (P22). Acceptance, not proof (P2). */
const erasureSchema = z.strictObject({
  kind: z.string(),
  /** Copies named. */
  count,
  calls: count,
  /** Keyed digest of their ids, see `digestIds`. */
  digest: hexDigest,
  route: z.string(),
  /** Null: the store did not answer. */
  status: z.int().nullable(),
  /** The store's own ids of the calls; at most the first ten. */
  requestIds: z.array(z.string()),
  sentAt: instant.nullable(),
  acknowledgedAt: instant.nullable(),
});
export type RecordedErasure = z.infer<typeof erasureSchema>;

/** Sums that don't add up are never recorded (P29). */
function refuseImbalance(figures: LaneFigures, context: z.RefinementCtx): void {
  for (const message of imbalances(figures)) context.addIssue({ code: 'custom', message });
}

/** What the first step of a lane found and decided; nothing was submitted before it was on the disk. */
const planEntrySchema = z
  .strictObject({
    kind: z.literal('plan'),
    at: instant,
    store: z.string(),
    versions: versionsSchema.extend({ connector: z.string() }),
    clock: clockSchema,
    projects: projectsSchema,
    /** Kinds of identifiers and the keys they were searched by; an empty list is "not searchable here" (P8). */
    searched: z.record(z.string(), z.array(z.string())),
    finders: z.array(z.string()),
    lookups: z.array(z.string()),
    reports: z.array(readReportSchema),
    /** Controls seen, by key searched; without their ids (P7). */
    controls: z.record(z.string(), count),
    /** Bounds of the searches by start time (P10). */
    window: windowSchema,
    /** Before this instant no control shows that the searches see anything; null: no such bound. */
    notProvenBefore: instant.nullable(),
    /** Where finders or routes disagreed (P5). */
    disagreements: z.array(text),
    ...figuresShape,
    /** SHA-256 of the manifest in the vault. */
    manifestDigest: hexDigest,
    /** Traces per delete call of round 1. */
    batches: z.array(count),
    /** Why nothing may be deleted before a person has looked; null: nothing stands against it. */
    stop: text.nullable(),
    /** The plan as an operator approves it; absent in records of releases that made none. */
    plan: connectionPlanSchema.optional(),
    policy: z.strictObject({
      cleanReads: count,
      flagAfterRounds: count,
      secondPersonAbove: count.optional(),
      waitForTasksMs: count.optional(),
    }),
    /** The earliest verdict there can be, by the store's rhythm: an estimate. Absent: from an earlier release. */
    earliestVerdictAt: instant.optional(),
    /** What started later is new activity (P21). */
    cutoff: instant.nullable().optional(),
    /** Conversations of the person's traces that were searched: their number, and what stands in them (P12). */
    threads: z.strictObject({ searched: count, shared: count, ofOthers: count, missed: count }).optional(),
    /** What this store's interface can't show, from the connector. */
    limits: z.array(text),
    /** Limits the controller accepted beforehand (P1). */
    accepted: z.array(z.string()),
  })
  .superRefine(refuseImbalance);

/** A plan that an operator approved: with what it includes of the traces that the plan had kept. */
const approvedPlanEntrySchema = z
  .strictObject({
    kind: z.literal('approved-plan'),
    at: instant,
    /** Kinds of kept traces that are erased along. */
    include: z.array(z.enum(INCLUDES)),
    ...figuresShape,
    /** SHA-256 of the manifest in the vault. */
    manifestDigest: hexDigest,
    /** Traces per delete call of round 1. */
    batches: z.array(count),
  })
  .superRefine(refuseImbalance);

/** One delete call, or one that turned out not to be needed. Acceptance, not proof (P2). */
const submitEntrySchema = z.strictObject({
  kind: z.literal('submit'),
  at: instant,
  round: count,
  batch: count,
  /** Position of the project in the plan's list of those examined; null when it joined later. */
  project: count.nullable(),
  /** Ids submitted. With 0 no call was made. */
  count,
  /** Keyed digest of these ids, see `digestIds`. */
  digest: hexDigest.nullable(),
  route: z.string().nullable(),
  status: z.int().nullable(),
  /** The store's own id of the call. */
  requestId: z.string().nullable(),
  sentAt: instant.nullable(),
  acknowledgedAt: instant.nullable(),
  /** From when a read may count for these ids. */
  settledAt: instant.nullable(),
  /** Ids no longer readable just before the call. */
  absent: count,
  /** Ids pulled because owner or project had changed (P14). */
  pulled: count,
  /** Ids that the store refused by themselves while it took the others of the call. */
  refused: count.optional(),
  /** What the store's answers counted as matched or deleted; of a shared call, of all people together. */
  counted: count.optional(),
  /** The reads just before the call. */
  reports: z.array(readReportSchema),
  /** Copies erased before it; absent: none. */
  erasures: z.array(erasureSchema).optional(),
});

/** One verifying read. */
const readEntrySchema = z
  .strictObject({
    kind: z.literal('read'),
    at: instant,
    round: count,
    answer: z.enum(['clean', 'survivors', 'newcomers', 'inconclusive', 'no-control']),
    counted: z.boolean(),
    /** Why it did not count, or what it showed; null when there is nothing to say. */
    why: text.nullable(),
    /** Counted clean reads in a row, this one included. */
    cleanReads: count,
    /** The projects, when they differ from the latest entry that lists them; null: the same. */
    projects: projectsSchema.nullable(),
    reports: z.array(readReportSchema),
    /** Copies erased after it; absent: none. */
    erasures: z.array(erasureSchema).optional(),
    /** Controls asked for and seen, by key searched or route; without their ids (P7). */
    controls: z.record(z.string(), z.strictObject({ asked: count, seen: count })),
    window: windowSchema,
    /** Largest distance between the store's clock and ours, milliseconds; null: it sent none (P34). */
    skewMs: z.number().nullable(),
    disagreements: z.array(text),
    ...figuresShape,
    manifestDigest: hexDigest.nullable(),
    /** Traces per delete call of the next round. */
    batches: z.array(count),
    /** Why nothing of it may be submitted before a person has looked, and what would be; absent: nothing is against it. */
    stop: text.optional(),
    plan: connectionPlanSchema.optional(),
    verdict: z.enum(VERDICTS).nullable(),
  })
  .superRefine(refuseImbalance);

/** A step that could not be done, or of which it is unknown whether it was. */
const troubleEntrySchema = z.strictObject({
  kind: z.literal('trouble'),
  at: instant,
  step: z.enum(['resolve', 'delete', 'verify']),
  round: count,
  batch: count.nullable(),
  reason: z.enum(TROUBLES),
  text,
  /** Route template without ids. */
  route: z.string().nullable(),
  status: z.int().nullable(),
  requestId: z.string().nullable(),
  notBefore: instant.nullable(),
});

const entrySchema = z.discriminatedUnion('kind', [
  planEntrySchema,
  approvedPlanEntrySchema,
  submitEntrySchema,
  readEntrySchema,
  troubleEntrySchema,
]);
export type RecordEntry = z.infer<typeof entrySchema>;
export type PlanEntry = z.infer<typeof planEntrySchema>;
export type SubmitEntry = z.infer<typeof submitEntrySchema>;
export type ReadEntry = z.infer<typeof readEntrySchema>;
export type TroubleEntry = z.infer<typeof troubleEntrySchema>;

export const entryKeySchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/);

/** One line of a lane's file. */
export const entryLineSchema = z.strictObject({
  format: z.literal(RECORD_FORMAT),
  key: entryKeySchema,
  entry: entrySchema,
});
export type EntryLine = z.infer<typeof entryLineSchema>;

/** An operator's message, in the order in which the workflow took it. */
const verbEntrySchema = z.strictObject({
  verb: z.string(),
  requestedBy: text,
  reason: text,
  connection: z.string().nullable(),
  at: instant,
  /** False when it was refused or did not apply. */
  applied: z.boolean(),
  /** Of an approval: the plan it was for, and the most traces it allows. */
  planDigest: hexDigest.optional(),
  include: z.array(z.enum(INCLUDES)).optional(),
  atMost: count.optional(),
  /** The manual task that an attestation names. */
  task: z.string().optional(),
});
export type VerbEntry = z.infer<typeof verbEntrySchema>;

/** How the request ended. */
export const outcomeSchema = z.strictObject({
  workflowId: z.string(),
  endedAt: instant,
  /** Null for a dry run, which ends without one. */
  verdict: z.enum(VERDICTS).nullable(),
  dryRun: z.boolean(),
  lanes: z.record(
    z.string(),
    z
      .strictObject({ verdict: z.enum(VERDICTS).nullable(), round: count, ...figuresShape })
      .superRefine(refuseImbalance),
  ),
  verbs: z.array(verbEntrySchema),
  /** The postponement of the due date; absent: there was none. */
  extension: z.strictObject({ to: instant, by: text, at: instant, notifiedOn: z.iso.date() }).optional(),
  /** Requests of the same person that joined; absent: none. Their verdict is this one's, from reads after they joined. */
  joined: z
    .array(z.strictObject({ requestId: z.string(), receivedAt: instant, dueAt: instant, joinedAt: instant }))
    .optional(),
});
export type RecordOutcome = z.infer<typeof outcomeSchema>;

const laneRecordSchema = z.strictObject({
  /** In the order in which they were first written. */
  entries: z.array(z.strictObject({ key: entryKeySchema, entry: entrySchema })),
  /** Lines that a kill or a full disk cut short; whatever they said was written again when the step was repeated. */
  tornLines: count,
});
export type LaneRecord = z.infer<typeof laneRecordSchema>;

/**
 * The sealed record. The file holds its canonical JSON and nothing else, so that `sha256sum record.json` prints its
 * digest. `signature` is the place of the Ed25519 signature, which comes later; it is made over, and the digest always
 * means, the canonical form in which `signature` is null.
 */
export const sealedRecordSchema = z.strictObject({
  format: z.literal(RECORD_FORMAT),
  /** `SIMULATED` when any part ran on a simulated clock: then it proves nothing about a real store (P34). */
  stamp: z.literal('SIMULATED').nullable(),
  /** Null when no lane ever started. */
  request: openRecordSchema.nullable(),
  lanes: z.record(z.string(), laneRecordSchema),
  outcome: outcomeSchema,
  signature: z.null(),
});
export type SealedRecord = z.infer<typeof sealedRecordSchema>;

/** A record as it is read, open or closed. */
export interface RecordView {
  /** Null when the first worker was killed in the moment of opening, or no lane ever started. */
  readonly request: OpenRecord | null;
  readonly lanes: Readonly<Record<string, LaneRecord>>;
  /** Null while the request is open. */
  readonly outcome: RecordOutcome | null;
  /** Digest of the sealed record, null while the request is open. */
  readonly digest: string | null;
  readonly simulated: boolean;
  /** What was learnt after the end, in order; it is outside the sealed record and its digest. Absent: nothing was. */
  readonly addenda?: readonly AddendumLine[];
}

/** One line of a list of records. */
export interface RecordSummary {
  readonly requestId: string;
  /** Null as in `RecordView`. */
  readonly request: OpenRecord | null;
  /** Null while the request is open. */
  readonly outcome: Pick<RecordOutcome, 'workflowId' | 'verdict' | 'endedAt' | 'dryRun'> | null;
}

/**
 * Keeps records. Every write is on the disk when its promise resolves, and repeating it changes nothing: activities are
 * repeated after a kill at any moment (P23).
 */
export interface RecordStore {
  /**
   * Opens a record before anything else is done for the request. Repeating it is harmless; the first `startedAt`,
   * `clock` and `versions` stay.
   *
   * @param subjectDigests `subjectDigest` of every spelling that names the person in the connection that asks. What
   *   several connections give is united.
   * @throws RecordError `conflict` when the id was opened with other content, `closed` when the request has ended.
   */
  open(request: OpenRecord, subjectDigests: readonly string[]): Promise<void>;

  /**
   * Adds an entry to a lane.
   *
   * @param entryKey names the step and what of it is told, for instance `3-submit`; the same key again replaces the
   *   entry, in its place. Letters, digits, dots, dashes, underscores.
   * @throws RecordError `invalid` when the entry does not keep to its schema or its sums don't balance (P29);
   *   `not-open` when the record was never opened.
   */
  append(requestId: string, connection: string, entryKey: string, entry: RecordEntry): Promise<void>;

  /** @returns the record, or null when none was ever opened. Closed ones as they were sealed. */
  read(requestId: string): Promise<RecordView | null>;

  /**
   * Seals the record. What is appended afterwards stays in the lane's file, outside the sealed record. Closing again
   * with the same outcome (whenever it says it ended) changes nothing.
   *
   * @returns SHA-256 of the canonical record, 64 hexadecimal digits.
   * @throws RecordError `conflict` when it was closed with another outcome.
   */
  close(requestId: string, outcome: RecordOutcome): Promise<string>;

  /**
   * Adds what was learnt after the end. The sealed record and its digest stay as they are.
   *
   * @param entryKey as in `append`; the same key again replaces the addendum, in its place.
   * @throws RecordError `invalid` when it does not keep to its schema; `not-open` when there is no such record.
   */
  addAddendum(requestId: string, entryKey: string, addendum: Addendum): Promise<void>;

  /** @returns all records, by request id. Reads every closed record: meant for people, not for activities. */
  list(): Promise<readonly RecordSummary[]>;

  /** @returns requests opened and never closed, by request id: a reconciler compares them with the workflows. */
  openRequests(): Promise<readonly RecordSummary[]>;

  /**
   * @returns subject digests of everybody with an open request, but for one request's own person: nobody of them may
   *   serve as a control, since their traces may vanish at any moment (P7).
   */
  openSubjectDigests(exceptRequestId: string): Promise<ReadonlySet<string>>;
}

/**
 * `conflict`: the same id with other content. `closed`, `not-open`: too late, or too early. `invalid`: what should be
 * written does not keep to the format. `damaged`: what was read does not.
 */
export type RecordProblem = 'conflict' | 'closed' | 'not-open' | 'invalid' | 'damaged';

/** Thrown when a record can't be written or read as asked. Names fields, never values (P31). */
export class RecordError extends Error {
  readonly problem: RecordProblem;

  constructor(problem: RecordProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RecordError';
    this.problem = problem;
  }
}

/** The record's spelling of an instant. */
export function recordedInstant(ms: number): string {
  return new Date(ms).toISOString();
}

/** See `recordedInstant`. */
export function optionalInstant(ms: number | null): string | null {
  return ms === null ? null : recordedInstant(ms);
}

/** The record's spelling of a clock. */
export function recordedClock(clock: Clock): OpenRecord['clock'] {
  if (clock === null) return null;
  return { real: recordedInstant(clock.realMs), virtual: recordedInstant(clock.virtualMs), speed: clock.speed };
}

/** The record's spelling of a window of virtual epoch milliseconds. */
export function recordedWindow(
  window: { readonly fromMs: number; readonly toMs: number } | null,
): RecordedRead['window'] {
  return window === null ? null : { from: recordedInstant(window.fromMs), to: recordedInstant(window.toMs) };
}

/** The record's spelling of a read. */
export function recordedRead(report: ReadReport): RecordedRead {
  const { warnings, ...rest } = report;
  return {
    ...rest,
    window: recordedWindow(report.window),
    requestIds: [...report.requestIds],
    ...(warnings === undefined ? {} : { warnings: [...warnings] }),
  };
}

/** The record's spelling of projects. */
export function recordedProjects(projects: {
  readonly examined: readonly Project[];
  readonly excluded?: readonly (Project & { readonly why: string })[];
  readonly unreachable?: readonly (Project & { readonly why: string })[];
}): RecordedProjects {
  // A type is one word of the store's; anything else would be a text of its own.
  const plain = ({ id, name, type }: Project): Project => ({
    id,
    name,
    type: /^\w{0,40}$/.test(type) ? type : 'other',
  });
  const reasoned = (project: Project & { readonly why: string }): Project & { readonly why: string } => ({
    ...plain(project),
    why: project.why,
  });
  return {
    examined: projects.examined.map(plain),
    excluded: (projects.excluded ?? []).map(reasoned),
    unreachable: (projects.unreachable ?? []).map(reasoned),
  };
}

/** The record's spelling of a step's figures. */
export function recordedFigures(figures: LaneFigures): {
  given: RecordOutcome['lanes'][string]['given'];
  traces: RecordOutcome['lanes'][string]['traces'];
  copies: RecordOutcome['lanes'][string]['copies'];
  exceptions: RecordOutcome['lanes'][string]['exceptions'];
  tasks?: RecordOutcome['lanes'][string]['tasks'];
} {
  return {
    given: { ...figures.given },
    traces: { ...figures.traces },
    copies: { ...figures.copies, notExamined: [...figures.copies.notExamined] },
    exceptions: figures.exceptions.map(({ kind, count: concerned, text: words }) => ({
      kind,
      count: concerned,
      text: words,
    })),
    ...(figures.tasks === undefined ? {} : { tasks: figures.tasks.map((task) => ({ ...task })) }),
  };
}

/** The record's spelling of an operator's message. */
export function recordedVerb({ atMs, include, ...verb }: RecordedVerb): VerbEntry {
  return { ...verb, ...(include === undefined ? {} : { include: [...include] }), at: recordedInstant(atMs) };
}
