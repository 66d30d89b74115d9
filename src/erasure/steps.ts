import type { Clock } from './clock.ts';
import type { Extension } from './deadline.ts';
import type { JoinedRequest } from './extend.ts';
import type { Deadlines } from './law.ts';
import type { CopyLedger, GivenLedger, TraceLedger } from './ledger.ts';
import type { Include } from './include.ts';
import type { LaneException, Verdict } from './outcome.ts';
import type { ConnectionPlan } from './plan.ts';
import type { Identifier } from './request.ts';
import type { Attestation, ManualTask } from './tasks.ts';

/** An encrypted blob in the vault. History holds this reference, never what is inside. */
export interface BlobRef {
  /** Path below the request's folder. */
  readonly name: string;
  /** SHA-256 of the plain content, hex. Reveals nothing of use: the content holds random ids and times. */
  readonly digest: string;
}

/** Why a store, or our own room, kept a step from being done. Values, not errors: they flag the lane and heal. */
export const TROUBLES = [
  'unreachable',
  'throttled',
  'denied',
  'rejected',
  'switched-off',
  'gone',
  'contract-broken',
  'no-projects',
  'vault-lost',
  'worker-lost',
  'legal-hold',
  'internal',
] as const;
export type TroubleReason = (typeof TROUBLES)[number];

export interface Trouble {
  readonly kind: 'trouble';
  readonly reason: TroubleReason;
  /** For an operator: what happened and what to do. Without personal data and without the vendor's words (P31). */
  readonly text: string;
  /** Virtual epoch milliseconds before which another try is pointless, for instance `Retry-After`; null: unknown. */
  readonly notBeforeMs: number | null;
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
  /** The clock the worker runs on, so that a lane can wait even when nothing was ever planned. */
  readonly clock: Clock;
  /** The store refused what the step asked of it. Absent: it did not, or an earlier release answered. */
  readonly refused?: true;
  /** The step was a read that showed traces which must go, before it failed; absent: it showed none. */
  readonly sawTraces?: true;
  /** See `Expected`. */
  readonly earliestVerdictAtMs?: number;
}

/** What every activity of a lane is told. */
export interface StepInput {
  readonly requestId: string;
  readonly connection: string;
  /** Counts the lane's activities; names the step's record entries, so that a repeat replaces and never doubles. */
  readonly step: number;
  readonly subject: readonly Identifier[];
  /** See `EraseInput.onlyBeforeMs`; absent: no bound. */
  readonly onlyBeforeMs?: number;
  /** Digest of the plan that was approved last; absent: none was, or an earlier release asked for the step. */
  readonly approvedPlan?: string;
}

/** Numbers that describe a lane after a step; the same in every answer. */
export interface LaneFigures {
  readonly given: GivenLedger;
  readonly traces: TraceLedger;
  readonly copies: CopyLedger;
  readonly exceptions: readonly LaneException[];
  /** Copies that no call can erase; absent: none. */
  readonly tasks?: readonly ManualTask[] | undefined;
}

/** What a step can say of the lane's end. */
export interface Expected {
  /**
   * The earliest verdict there can be if everything goes well from now on, by the store's rhythm: virtual epoch
   * milliseconds. An estimate. Absent: from a release that made none, or the lane has its verdict.
   */
  readonly earliestVerdictAtMs?: number;
}

/** Rules of the lane that may change between releases or configs; recorded once, by the plan. */
export interface LanePolicy {
  readonly cleanReads: number;
  readonly flagAfterRounds: number;
  /** Above so many traces the approver must not be the requester; absent: never. */
  readonly secondPersonAbove?: number | undefined;
  /** How long a lane whose traces are proven gone stays open for manual tasks, milliseconds; absent: not at all. */
  readonly waitForTasksMs?: number | undefined;
}

export interface ResolveInput extends StepInput {
  readonly known: readonly string[];
  readonly acceptUnlabelled: number;
  readonly expectAtMost: number | null;
  readonly receivedAtMs: number;
  /** Receipt of the latest request that joined: the cut-off counts from it (P21); absent: from `receivedAtMs`. */
  readonly latestReceiptMs?: number;
  readonly dueAtMs: number;
  readonly dryRun: boolean;
  /** Traces of an earlier plan whose manifest was lost; 0 as a rule. */
  readonly lostManifest: number;
  /** Traces that an operator has approved in this lane, all rounds together; absent: none was asked. */
  readonly approvedAtMost?: number;
  /** Who asked for the erasure; absent: the request does not say. */
  readonly requestedBy?: string;
  /** See `EraseInput.scopeDigest`; for the record. */
  readonly scopeDigest: string;
  /** All connections of the request, for the record. */
  readonly connections: readonly string[];
  readonly workflowId: string;
  /** For the record; absent: the request knows no law. */
  readonly deadlines?: Deadlines;
  /** Kinds of identifiers with which the record was opened, when others have joined since; absent: those of `subject`. */
  readonly openedKinds?: readonly string[];
  /** Manifest of an earlier plan of the lane, on which this one goes on; absent: there is none. */
  readonly previous?: { readonly book: BlobRef };
  /** Set by an approval that includes traces which the plan kept; see `withIncluded`. Absent: the policy decides. */
  readonly include?: readonly Include[];
  /** The plan that was approved: it is sealed anew with what is included, and nothing is searched. Absent: plan afresh. */
  readonly book?: BlobRef;
}

export interface ResolveAnswer extends LaneFigures, Expected {
  readonly kind: 'planned';
  readonly atMs: number;
  readonly clock: Clock;
  readonly policy: LanePolicy;
  /** Kinds of identifiers and the keys they were searched by; an empty list is "not searchable here" (P8). */
  readonly searched: Readonly<Record<string, readonly string[]>>;
  readonly book: BlobRef;
  /** Traces per delete call of round 1. */
  readonly batches: readonly number[];
  /** Set when nothing may be deleted before a person has looked: why, and what to do. */
  readonly stop: string | null;
  /** Absent in answers of releases that made none. */
  readonly plan?: ConnectionPlan;
  /** When to read again if nothing is submitted, virtual epoch milliseconds. */
  readonly nextCheckAtMs: number;
  /** Whether this read counts as the first clean one, which only a plan without traces can. */
  readonly cleanReads: number;
  /** Of a plan that goes on from an earlier one: from when a read may count for what was sent so far; null: nothing was. */
  readonly settledAtMs?: number | null;
}

export interface DeleteInput extends StepInput {
  readonly round: number;
  /** Index into the round's batches, from 0. */
  readonly batch: number;
  readonly book: BlobRef;
}

export interface DeleteAnswer extends Expected {
  readonly kind: 'submitted';
  readonly atMs: number;
  /** Ids the store acknowledged. */
  readonly submitted: number;
  /** Ids no longer readable when we looked just before the call. */
  readonly absent: number;
  /** Ids pulled because owner or project had changed (P14). */
  readonly pulled: number;
  /** Ids that the store refused by themselves while it took the others; absent: none. */
  readonly refused?: number;
  /** From when a read may count for these ids, virtual epoch milliseconds; null when nothing was submitted. */
  readonly settledAtMs: number | null;
  /** When the lane should read, jitter included; null when nothing was submitted. */
  readonly nextCheckAtMs: number | null;
}

export interface VerifyInput extends StepInput {
  readonly round: number;
  readonly book: BlobRef;
  /** From when a read may count; null when nothing was ever submitted. */
  readonly settledAtMs: number | null;
  readonly lastCountedAtMs: number | null;
  readonly cleanReads: number;
  /** Reads in a row that proved nothing, before this one; absent: an earlier release asked for it. */
  readonly unproven?: number;
  /** For the dates of a plan; absent in steps that an earlier release asked for. */
  readonly dueAtMs?: number;
  /** See `ResolveInput`. */
  readonly approvedAtMost?: number;
  /** Whose word was given for which task; absent: nobody's. */
  readonly attested?: readonly Attestation[];
  /** Since when the lane is open for manual tasks alone; absent: it is not. */
  readonly tasksSinceMs?: number;
}

export interface VerifyAnswer extends LaneFigures, Expected {
  readonly kind: 'clean' | 'survivors' | 'newcomers' | 'inconclusive' | 'no-control';
  readonly atMs: number;
  /** Whether the read counts towards the verdict, and if not, why not (P3). */
  readonly counted: boolean;
  readonly why: string | null;
  readonly cleanReads: number;
  readonly lastCountedAtMs: number | null;
  readonly book: BlobRef;
  /** Delete calls, in traces each, that would submit all that is still readable; empty when nothing is. */
  readonly batches: readonly number[];
  /** Whether the store's window has passed over them, so that the next round begins now. */
  readonly resubmit: boolean;
  /** Set when nothing of it may be submitted before a person has looked: why, and what to do. Absent: nothing is. */
  readonly stop?: string;
  /** What would be submitted; only with `stop`. */
  readonly plan?: ConnectionPlan;
  /** When to read again, virtual epoch milliseconds; ignored when the lane has ended. */
  readonly nextCheckAtMs: number;
  /** Set when the lane may end. */
  readonly verdict: Verdict | null;
  /** Set when it might end, and stays open for manual tasks: since when, and until when at most. */
  readonly waitsForTasks?: { readonly sinceMs: number; readonly untilMs: number };
}

export interface SealInput {
  readonly requestId: string;
  readonly workflowId: string;
  /** Null for a dry run, which ends without one. */
  readonly verdict: Verdict | null;
  readonly dryRun: boolean;
  readonly lanes: Readonly<Record<string, LaneFigures & { readonly verdict: Verdict | null; readonly round: number }>>;
  /** Operator messages in the order in which they were taken. */
  readonly verbs: readonly RecordedVerb[];
  /** Absent: the deadline was not extended. */
  readonly extension?: Extension;
  /** Absent: no other request joined. */
  readonly joined?: readonly JoinedRequest[];
}

export type SealAnswer =
  | {
      readonly kind: 'sealed';
      readonly atMs: number;
      /** SHA-256 of the canonical record, hex. */ readonly digest: string;
    }
  | Trouble;

/** An operator's message as the record keeps it. */
export interface RecordedVerb {
  readonly verb: string;
  readonly requestedBy: string;
  readonly reason: string;
  readonly connection: string | null;
  readonly atMs: number;
  /** False when it was refused or did not apply. */
  readonly applied: boolean;
  /** Of an approval: the plan it was for, and the most traces it allows. */
  readonly planDigest?: string;
  readonly include?: readonly Include[];
  readonly atMost?: number;
  /** The manual task that an attestation names. */
  readonly task?: string;
}

/** The activities of one connection's task queue. Each is named in the history by these keys. */
export interface LaneActivities {
  resolveIds(input: ResolveInput): Promise<ResolveAnswer | Trouble>;
  deleteBatch(input: DeleteInput): Promise<DeleteAnswer | Trouble>;
  verifyAbsence(input: VerifyInput): Promise<VerifyAnswer | Trouble>;
}

/** The activities of the request's own task queue. */
export interface RequestActivities {
  sealRecord(input: SealInput): Promise<SealAnswer>;
}
