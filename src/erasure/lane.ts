import { approvalRefusal, type Approval } from './approval.ts';
import { virtualAt, type Clock } from './clock.ts';
import { MANUAL_TASKS } from './attest.ts';
import { formatInstant, formatTraces } from './format.ts';
import { abandonCopies, abandonTraces, EMPTY_COPIES, EMPTY_GIVEN, EMPTY_TRACES } from './ledger.ts';
import type { ExceptionKind, Status, Verdict } from './outcome.ts';
import type { ConnectionPlan, PlanSummary } from './plan.ts';
import { HOUR_MS, probeDelayMs, slotEnd } from './rhythm.ts';
import type { ConnectionStatus } from './status.ts';
import type {
  BlobRef,
  DeleteAnswer,
  LaneFigures,
  LanePolicy,
  ResolveAnswer,
  Trouble,
  TroubleReason,
  VerifyAnswer,
} from './steps.ts';
import { isOpen, withAttestations, type Attestation } from './tasks.ts';
import type { LaneVerb, OperatorMessage } from './verbs.ts';

/**
 * What a lane is doing. `stopped` waits for an operator's word before anything is deleted; `ended` is reached by a
 * verdict, or by a finished dry run.
 */
export type Phase = 'resolving' | 'stopped' | 'deleting' | 'waiting' | 'verifying' | 'ended';

/** Something an operator should know about while the lane goes on trying. */
export interface Flag {
  readonly reason: string;
  readonly text: string;
  readonly sinceMs: number;
}

/**
 * Everything a lane is, as data: it survives continue-as-new as it stands. All instants are virtual epoch
 * milliseconds.
 */
export interface LaneState {
  readonly connection: string;
  readonly phase: Phase;
  /** Activities asked for so far. */
  readonly step: number;
  /** 0 before the first submit. */
  readonly round: number;
  readonly clock: Clock;
  readonly policy: LanePolicy | null;
  readonly searched: Readonly<Record<string, readonly string[]>>;
  readonly book: BlobRef | null;
  /** Traces that a manifest named which the vault has lost; nothing can prove those absent any more. */
  readonly lostManifest: number;
  /** Traces per delete call of the current round. */
  readonly batches: readonly number[];
  readonly nextBatch: number;
  /** From when a read may count for everything submitted so far (P3). */
  readonly settledAtMs: number | null;
  readonly nextCheckAtMs: number | null;
  readonly cleanReads: number;
  readonly lastCountedAtMs: number | null;
  readonly lastRead: string | null;
  readonly figures: LaneFigures;
  readonly trouble:
    | (Flag & {
        readonly kind: TroubleReason;
        readonly probes: number;
        /** Tries that ended with a refusal by the store; absent: none that says so. */
        readonly refusals?: number;
        readonly nextProbeAtMs: number;
      })
    | null;
  readonly flag: Flag | null;
  /** Reads in a row that proved nothing. */
  readonly unproven: number;
  /** Rounds in a row that were caused by traces nobody had seen before. */
  readonly newcomerRounds: number;
  readonly heldSinceMs: number | null;
  /** Of a hold with an end; absent: only an operator ends it. */
  readonly hold?: HoldTerms & { readonly expired: boolean };
  /** An operator asked for an extra look. */
  readonly lookNow: boolean;
  readonly verdict: Verdict | null;
  /** What was planned last, or waits for approval. Absent in what an earlier release carried over. */
  readonly plan?: ConnectionPlan | null;
  /** The latest approval: holds for all traces ever submitted here. Absent as above. */
  readonly approval?: Approval | null;
  /** The earliest verdict there can be if everything goes well from the latest answer on; absent: not known. */
  readonly earliestVerdictAtMs?: number;
  /** An approval included kept traces: the plan approved is to be sealed anew with them. */
  readonly including?: boolean;
  /** Another request joined: the next plan goes on from the manifest there is instead of beginning anew. */
  readonly joined?: boolean;
  /** Whose word was given for which task; absent: nobody's. */
  readonly attested?: readonly Attestation[];
  /** Since when it is open for manual tasks alone; absent: it was not. */
  readonly tasksSinceMs?: number;
}

/** What the lane does next. */
export type Command =
  | { readonly do: 'resolve' }
  | { readonly do: 'delete' }
  | { readonly do: 'verify' }
  /** `untilMs` null: only an operator's message ends the wait. */
  | { readonly do: 'wait'; readonly untilMs: number | null; readonly summary: string }
  /** A hold has come to its end. */
  | { readonly do: 'expire' }
  | { readonly do: 'end' };

export function newLane(connection: string, knownIds: number): LaneState {
  return {
    connection,
    phase: 'resolving',
    step: 0,
    round: 0,
    clock: null,
    policy: null,
    searched: {},
    book: null,
    lostManifest: 0,
    batches: [],
    nextBatch: 0,
    settledAtMs: null,
    nextCheckAtMs: null,
    cleanReads: 0,
    lastCountedAtMs: null,
    lastRead: null,
    figures: {
      given: { ...EMPTY_GIVEN, total: knownIds, unresolved: knownIds },
      traces: EMPTY_TRACES,
      copies: EMPTY_COPIES,
      exceptions: [],
    },
    trouble: null,
    flag: null,
    unproven: 0,
    newcomerRounds: 0,
    heldSinceMs: null,
    lookNow: false,
    verdict: null,
    plan: null,
    approval: null,
  };
}

/** The next thing to do, from the state and the real time alone. */
export function nextCommand(lane: LaneState, realNowMs: number): Command {
  if (lane.phase === 'ended') return { do: 'end' };
  const now = virtualAt(lane.clock, realNowMs);
  if (lane.heldSinceMs !== null) return heldCommand(lane, now);
  if (lane.trouble !== null && now < lane.trouble.nextProbeAtMs && !lane.lookNow) {
    const until = lane.trouble.nextProbeAtMs;
    return { do: 'wait', untilMs: until, summary: `${lane.trouble.reason}; tries again ${formatInstant(until)}` };
  }
  switch (lane.phase) {
    case 'resolving':
      return { do: 'resolve' };
    case 'stopped':
      return { do: 'wait', untilMs: null, summary: 'waits for an operator before anything is deleted' };
    case 'deleting':
      return { do: 'delete' };
    case 'verifying':
      return { do: 'verify' };
    case 'waiting': {
      const until = lane.nextCheckAtMs ?? now;
      if (lane.lookNow || now >= until) return { do: 'verify' };
      return { do: 'wait', untilMs: until, summary: `until ${formatInstant(until)}` };
    }
  }
}

function heldCommand({ hold }: LaneState, now: number): Command {
  if (hold === undefined || hold.expired) {
    return { do: 'wait', untilMs: null, summary: 'held by an operator' };
  }
  if (now >= hold.untilMs) return { do: 'expire' };
  return { do: 'wait', untilMs: hold.untilMs, summary: `held by an operator until ${formatInstant(hold.untilMs)}` };
}

/** The lane after its hold has come to its end: it goes on if that was asked for, or else asks for an operator (P27). */
export function holdExpired(lane: LaneState): LaneState {
  if (lane.heldSinceMs === null || lane.hold === undefined) return lane;
  if (lane.hold.autoRelease) return released(lane);
  return { ...lane, hold: { ...lane.hold, expired: true } };
}

/** The lane as it hands an activity to a worker. */
export function begun(lane: LaneState, command: 'resolve' | 'delete' | 'verify'): LaneState {
  return { ...lane, step: lane.step + 1, phase: command === 'verify' ? 'verifying' : lane.phase };
}

export function planned(lane: LaneState, answer: ResolveAnswer, dryRun: boolean): LaneState {
  const base: LaneState = {
    ...healed(lane),
    clock: answer.clock,
    policy: answer.policy,
    searched: answer.searched,
    book: answer.book,
    figures: withAttestations(figuresOf(answer), lane.attested),
    batches: answer.batches,
    nextBatch: 0,
    cleanReads: answer.cleanReads,
    lastCountedAtMs: answer.cleanReads > 0 ? answer.atMs : null,
    nextCheckAtMs: answer.nextCheckAtMs,
    plan: answer.plan ?? (lane.including === true ? (lane.plan ?? null) : null),
    ...(lane.including === true ? { including: false } : {}),
    ...expectation(answer),
    ...(lane.joined === true
      ? { joined: answer.stop !== null, settledAtMs: latest(lane.settledAtMs, answer.settledAtMs ?? null) }
      : {}),
  };
  const flag = answer.stop === null ? null : { reason: 'approval', text: answer.stop, sinceMs: answer.atMs };
  if (dryRun) return { ...base, phase: 'ended', nextCheckAtMs: null, flag };
  if (flag !== null) {
    return { ...base, phase: 'stopped', nextCheckAtMs: null, flag };
  }
  if (answer.batches.length > 0) return { ...base, phase: 'deleting', round: lane.round + 1, nextCheckAtMs: null };
  return { ...base, phase: 'waiting' };
}

export function deleted(lane: LaneState, answer: DeleteAnswer): LaneState {
  const nextBatch = lane.nextBatch + 1;
  const refused = answer.refused ?? 0;
  const text = `the store refused ${formatTraces(refused)} of a batch and took the others; they stay and are tried again next round; see the record for the request id`;
  const next: LaneState = {
    ...healed(lane),
    nextBatch,
    ...(refused === 0 ? {} : { flag: raised(lane, 'rejected', text, answer.atMs) }),
    settledAtMs: latest(lane.settledAtMs, answer.settledAtMs),
    nextCheckAtMs: latest(lane.nextCheckAtMs, answer.nextCheckAtMs),
    // The latest batch of a round decides.
    ...expectation(answer, lane.earliestVerdictAtMs),
  };
  if (nextBatch < lane.batches.length) return next;
  // Nothing was left to submit in the whole round: the read that proves it needs no waiting window. A later round was
  // caused by a read that saw traces; where reads and the look before each call disagree, pauses grow.
  const pauseMs = lane.round > 1 ? probeDelayMs(lane.round - 2, 0) : 0;
  return { ...next, phase: 'waiting', nextCheckAtMs: next.nextCheckAtMs ?? answer.atMs + pauseMs };
}

export function verified(lane: LaneState, answer: VerifyAnswer, random: number): LaneState {
  const base: LaneState = {
    ...healed(lane),
    book: answer.book,
    figures: withAttestations(figuresOf(answer), lane.attested),
    // A read that proved nothing leaves the round as it was, so that a retry still knows what to submit.
    batches: answer.kind === 'inconclusive' ? lane.batches : answer.batches,
    cleanReads: answer.cleanReads,
    lastCountedAtMs: answer.lastCountedAtMs,
    lastRead: answer.why,
    nextCheckAtMs: answer.nextCheckAtMs,
    phase: 'waiting',
    unproven: 0,
    ...expectation(answer),
  };
  if (answer.verdict !== null) {
    return { ...base, phase: 'ended', verdict: answer.verdict, nextCheckAtMs: null, flag: null };
  }
  if (answer.waitsForTasks !== undefined) {
    const { sinceMs, untilMs } = answer.waitsForTasks;
    const open = (base.figures.tasks ?? []).filter(isOpen).length;
    const text = `the traces are proven gone; ${open} manual ${open === 1 ? 'task is' : 'tasks are'} open: see lethe tasks, erase the copies, then lethe attest; ends without that ${formatInstant(untilMs)}`;
    const flag = { reason: MANUAL_TASKS, text, sinceMs };
    // The last word may have come while it was read.
    return { ...base, tasksSinceMs: sinceMs, ...(open === 0 ? { flag: null, lookNow: true } : { flag }) };
  }
  if (answer.kind === 'inconclusive') {
    const unproven = lane.unproven + 1;
    const nextCheckAtMs = Math.max(answer.nextCheckAtMs, answer.atMs + probeDelayMs(unproven - 1, random));
    const text = `the latest ${unproven} reads proved nothing (${answer.why ?? 'no reason given'}); reads go on`;
    const flag = unproven >= 3 ? raised(lane, 'inconclusive', text, answer.atMs) : lane.flag;
    return { ...base, unproven, nextCheckAtMs, flag };
  }
  if (answer.stop !== undefined) {
    // What would be submitted stands in the plan alone: nothing but its approval makes batches of it.
    const flag = raised(lane, 'approval', answer.stop, answer.atMs);
    return { ...base, phase: 'stopped', batches: [], nextCheckAtMs: null, plan: answer.plan ?? null, flag };
  }
  if (!answer.resubmit) {
    // An extra look that still sees them changes nothing about why an operator was asked for.
    const stays = answer.kind === 'survivors' && lane.flag?.reason !== 'inconclusive';
    return { ...base, flag: stays ? lane.flag : null };
  }
  const round = lane.round + 1;
  const newcomerRounds = answer.kind === 'newcomers' ? lane.newcomerRounds + 1 : 0;
  const most = lane.policy?.flagAfterRounds ?? 3;
  const left = answer.batches.reduce((sum, count) => sum + count, 0);
  let flag: Flag | null = null;
  if (newcomerRounds >= most) {
    flag = raised(
      lane,
      'new-traces',
      'source still writing: traces of this person keep arriving; stop it',
      answer.atMs,
    );
  } else if (round > most) {
    const text = `${formatTraces(left)} still readable after ${lane.round} rounds; submitted again each round; ask the store's support`;
    flag = raised(lane, 'survivors', text, answer.atMs);
  }
  return {
    ...base,
    phase: 'deleting',
    round,
    nextBatch: 0,
    // `settledAtMs` stays: newcomers may show before what was submitted earlier has settled.
    nextCheckAtMs: null,
    newcomerRounds,
    flag,
  };
}

/** The lane after a step that could not be done: it keeps its phase and probes again with back-off. */
export function troubled(lane: LaneState, trouble: Trouble, random: number): LaneState {
  const probes = lane.trouble === null ? 0 : lane.trouble.probes + 1;
  const nextProbeAtMs = Math.max(trouble.notBeforeMs ?? 0, trouble.atMs + pauseMs(trouble, probes, random));
  const { reason, text } = trouble;
  const sinceMs = lane.trouble?.sinceMs ?? trouble.atMs;
  const refusals = (lane.trouble?.refusals ?? 0) + (trouble.refused === true ? 1 : 0);
  const counted = refusals === 0 ? {} : { refusals };
  const next: LaneState = {
    ...lane,
    clock: trouble.clock ?? lane.clock,
    lookNow: false,
    ...(trouble.sawTraces === true ? { cleanReads: 0, lastCountedAtMs: null } : {}),
    ...expectation(trouble, lane.earliestVerdictAtMs),
    trouble: { kind: reason, reason, text, sinceMs, probes, ...counted, nextProbeAtMs },
  };
  // Earlier releases do not say what was a refusal; there every try counts, as it did then.
  return withoutStuckBatch(next, trouble.refused === true ? refusals : probes + 1);
}

/** Refusals with a named time after which it is taken to be wrong. */
const TRUSTED_REFUSALS = 3;

/**
 * Who is told when to come back does so then, in the slot in which the others come back too: their calls can ride
 * together. Whoever is refused all the same, or is told nothing, waits longer each time.
 */
function pauseMs(trouble: Trouble, probes: number, random: number): number {
  const { reason, notBeforeMs, atMs } = trouble;
  if (reason !== 'throttled' || notBeforeMs === null) return probeDelayMs(probes, random);
  if (probes >= TRUSTED_REFUSALS) return probeDelayMs(probes - TRUSTED_REFUSALS, random);
  return slotEnd(Math.max(notBeforeMs, atMs + 1)) - atMs;
}

/** How often a batch that the store will not take is tried before the next one gets its turn. */
const BATCH_TRIES = 3;

/**
 * A batch that is refused again and again must not keep the others waiting: it is left out of this round. Its traces
 * stay unsent, so the read that ends the round finds them and puts them into the next one.
 */
function withoutStuckBatch(lane: LaneState, refusals: number): LaneState {
  const { trouble } = lane;
  // Anything else, a revoked key for instance, concerns every batch: skipping would cost them all a week.
  if (lane.phase !== 'deleting' || trouble?.kind !== 'rejected' || refusals < BATCH_TRIES) return lane;
  const nextBatch = lane.nextBatch + 1;
  const flag = { reason: trouble.kind, text: `a batch was left out: ${trouble.text}`, sinceMs: trouble.sinceMs };
  if (nextBatch < lane.batches.length) return { ...lane, nextBatch, trouble: null, flag };
  // The only batches that were taken have to be read back; with none, there is nothing to do but to try again.
  return lane.nextCheckAtMs === null ? lane : { ...lane, nextBatch, phase: 'waiting', trouble: null, flag };
}

/** Exceptions whose traces and copies an abandoned lane counts as abandoned instead. */
const COUNTED_AS_ABANDONED: readonly ExceptionKind[] = ['survived', 'inconclusive', 'inconclusive-copies'];

/** The lane after an abandon: whatever was not proven counts as abandoned. */
export function abandoned(lane: LaneState): LaneState {
  const { traces, copies } = lane.figures;
  return {
    ...lane,
    phase: 'ended',
    verdict: 'abandoned',
    figures: {
      ...lane.figures,
      traces: abandonTraces(traces),
      copies: abandonCopies(copies),
      exceptions: lane.figures.exceptions.filter(({ kind }) => !COUNTED_AS_ABANDONED.includes(kind)),
    },
    nextCheckAtMs: null,
    heldSinceMs: null,
    trouble: null,
    flag: null,
    lookNow: false,
  };
}

/**
 * @param message what was sent, for verbs that say more than their name.
 * @param requester who asked for the erasure; absent: the request does not say.
 * @returns why a verb does not apply to a lane, or null when it does.
 */
export function refusal(lane: LaneState, verb: LaneVerb, message?: OperatorMessage, requester?: string): string | null {
  if (lane.phase === 'ended') return `${lane.connection} has ended`;
  const held = lane.heldSinceMs !== null;
  if (verb === 'hold') return held && lane.hold?.expired !== true ? `${lane.connection} is held already` : null;
  if (verb === 'release') return held ? null : `${lane.connection} is not held`;
  if (held && verb !== 'abandon') return `${lane.connection} is held; release it first`;
  if (verb === 'checkNow' && lane.phase === 'stopped') {
    return `${lane.connection} waits before its ${lane.round === 0 ? 'first' : 'next'} delete`;
  }
  if (verb !== 'approve') return null;
  const { requestedBy, planDigest, atMost, include } = message ?? {};
  if (requestedBy === undefined || planDigest === undefined || atMost === undefined) {
    return `${lane.connection} is not told which plan is approved`;
  }
  const scene = {
    connection: lane.connection,
    stopped: lane.phase === 'stopped',
    plan: lane.plan ?? null,
    secondPersonAbove: lane.policy?.secondPersonAbove,
    requester,
  };
  const fields = { requestedBy, planDigest, atMost, ...(include === undefined ? {} : { include }) };
  return approvalRefusal(scene, fields);
}

/** When a hold ends, and whether the lane goes on by itself then. */
interface HoldTerms {
  /** Virtual epoch milliseconds. */
  readonly untilMs: number;
  readonly autoRelease: boolean;
}

function holdTerms({ until, autoRelease }: Partial<OperatorMessage>): HoldTerms | null {
  return until === undefined ? null : { untilMs: Date.parse(until), autoRelease: autoRelease ?? false };
}

/** The lane after a verb that applies to it, and what will happen now. */
export function ordered(
  lane: LaneState,
  verb: LaneVerb,
  realNowMs: number,
  message?: OperatorMessage,
): readonly [LaneState, string] {
  const now = virtualAt(lane.clock, realNowMs);
  const say = (state: LaneState, text: string): readonly [LaneState, string] => [state, `${lane.connection}: ${text}`];
  const submitted = lane.round > 0 ? '; what was submitted already cannot be recalled' : '';
  const terms = holdTerms(message ?? {});
  switch (verb) {
    case 'hold':
      return say(
        {
          ...released(lane),
          heldSinceMs: lane.heldSinceMs ?? now,
          ...(terms === null ? {} : { hold: { ...terms, expired: false } }),
        },
        `stops before its next API call${holdEnd(terms)}${submitted}`,
      );
    case 'release':
      return say(released(lane), 'goes on');
    case 'abandon':
      return say(abandoned(lane), `ends without proof${submitted}`);
    case 'checkNow':
      if (lane.phase === 'waiting') return say({ ...lane, lookNow: true }, 'reads now; counts only if it may');
      if (lane.trouble !== null) return say({ ...lane, lookNow: true }, 'tries again now');
      return say(lane, 'is at work already; ask again once it waits');
    case 'retry':
      if (lane.trouble?.kind === 'vault-lost' && lane.book !== null) {
        const { matched } = lane.figures.traces;
        return say(
          {
            ...lane,
            phase: 'resolving',
            trouble: null,
            book: null,
            lostManifest: Math.max(lane.lostManifest, matched),
          },
          'plans again from what can still be found; what only the lost manifest knew stays unproven',
        );
      }
      if (lane.phase === 'stopped' && lane.round > 0) {
        // A new plan from scratch would forget what was submitted and is not proven gone yet.
        return say({ ...lane, phase: 'verifying', flag: null }, 'reads again, and asks again if it must');
      }
      if (lane.phase === 'stopped') return say({ ...lane, phase: 'resolving', flag: null }, 'plans again');
      if (lane.phase === 'waiting' && lane.batches.length > 0) {
        const again: LaneState = {
          ...lane,
          phase: 'deleting',
          round: lane.round + 1,
          nextBatch: 0,
          trouble: null,
          lookNow: false,
          cleanReads: 0,
          lastCountedAtMs: null,
        };
        return say(again, `submits again what is still readable, now (round ${again.round})`);
      }
      if (lane.phase === 'waiting') return say({ ...lane, lookNow: true }, 'has nothing left to submit; reads now');
      if (lane.trouble !== null) return say({ ...lane, lookNow: true }, 'tries again now');
      return say(lane, 'is at work already');
    case 'approve': {
      const approval: Approval = {
        planDigest: message?.planDigest ?? '',
        atMost: message?.atMost ?? 0,
        by: message?.requestedBy ?? '',
        atMs: now,
        ...(message?.include === undefined ? {} : { include: message.include }),
      };
      const along = (approval.include ?? []).reduce((sum, one) => sum + (lane.plan?.[one] ?? 0), 0);
      return say(
        approved(lane, approval),
        `submits ${formatTraces((lane.plan?.traces ?? 0) + along)}, exactly the plan approved${along === 0 ? '' : ` with ${formatTraces(along)} it kept`}`,
      );
    }
  }
}

/** The lane after its plan was approved: it carries out exactly that plan. */
function approved(lane: LaneState, approval: Approval): LaneState {
  const batches = lane.plan?.details.batches ?? [];
  const next: LaneState = { ...lane, approval, batches, nextBatch: 0, flag: null, trouble: null, lookNow: false };
  // The manifest is sealed anew first, with what is included.
  if ((approval.include ?? []).length > 0) return { ...next, phase: 'resolving', including: true };
  if (batches.length === 0) return { ...next, phase: 'waiting' };
  return { ...next, phase: 'deleting', round: lane.round + 1, nextCheckAtMs: null };
}

function released({ hold: _ended, ...lane }: LaneState): LaneState {
  return { ...lane, heldSinceMs: null };
}

function holdEnd(terms: HoldTerms | null): string {
  if (terms === null) return '';
  const at = formatInstant(terms.untilMs);
  return terms.autoRelease ? ` and goes on by itself ${at}` : ` and asks for an operator ${at}, still held`;
}

/** How long the store may be out of reach before an operator is asked for. */
const PATIENCE_MS = HOUR_MS;

/** Troubles that pass by themselves as a rule. */
const PASSING: readonly TroubleReason[] = ['unreachable', 'throttled', 'worker-lost'];

/** What an operator should know now, or null. */
export function attentionOf(lane: LaneState, realNowMs: number): (Flag & { readonly next: string }) | null {
  if (lane.verdict !== null) return null;
  const { trouble, hold } = lane;
  if (lane.heldSinceMs !== null && hold?.expired === true) {
    const text = 'the hold has come to its end; still held: release it, hold it for longer, or abandon it';
    return { reason: 'hold-expired', text, sinceMs: hold.untilMs, next: text };
  }
  if (trouble !== null) {
    const now = virtualAt(lane.clock, realNowMs);
    if (!PASSING.includes(trouble.kind) || now - trouble.sinceMs >= PATIENCE_MS) {
      return { ...trouble, next: `${trouble.text}; tries again by itself ${formatInstant(trouble.nextProbeAtMs)}` };
    }
  }
  return lane.flag === null ? null : { ...lane.flag, next: lane.flag.text };
}

export function statusOf(lane: LaneState, realNowMs: number): Status {
  if (lane.verdict !== null) return lane.verdict;
  if (lane.phase === 'ended') return 'planning';
  if (lane.heldSinceMs !== null) return lane.hold?.expired === true ? 'needs-operator' : 'held';
  if (lane.phase === 'stopped') return 'awaiting-approval';
  if (attentionOf(lane, realNowMs) !== null) return 'needs-operator';
  switch (lane.phase) {
    case 'resolving':
      return 'planning';
    case 'deleting':
      return 'erasing';
    case 'waiting':
      return 'waiting';
    case 'verifying':
      return 'verifying';
  }
}

/**
 * The lane as `--json` shows it.
 *
 * @param details whether the plan is told whole. Default: no.
 */
export function connectionStatus(lane: LaneState, realNowMs: number, details = false): ConnectionStatus {
  const attention = attentionOf(lane, realNowMs);
  const held = lane.heldSinceMs !== null;
  const hold = held ? (lane.hold ?? null) : null;
  const goesOnMs = hold?.autoRelease === true ? hold.untilMs : null;
  const next = held ? goesOnMs : (lane.trouble?.nextProbeAtMs ?? lane.nextCheckAtMs);
  const { given, traces, copies, tasks } = lane.figures;
  const plan = lane.plan ?? null;
  const approval = lane.approval ?? null;
  return {
    status: statusOf(lane, realNowMs),
    round: lane.round,
    nextCheckAt: next === null ? null : new Date(next).toISOString(),
    attention:
      attention === null
        ? null
        : { reason: attention.reason, since: new Date(attention.sinceMs).toISOString(), next: attention.next },
    searched: Object.fromEntries(Object.entries(lane.searched).map(([kind, keys]) => [kind, [...keys]])),
    given,
    traces: { ...traces, newActivity: traces.newActivity ?? 0 },
    copies: { ...copies, notExamined: [...copies.notExamined] },
    ...(tasks === undefined || tasks.length === 0 ? {} : { tasks: tasks.map((task) => ({ ...task })) }),
    cleanReads: lane.cleanReads,
    cleanReadsWanted: lane.policy?.cleanReads ?? 2,
    lastRead: lane.lastRead,
    plan: plan === null || details ? plan : withoutDetails(plan),
    approval:
      approval === null
        ? null
        : { atMost: approval.atMost, by: approval.by, at: new Date(approval.atMs).toISOString() },
    heldUntil: hold === null ? null : new Date(hold.untilMs).toISOString(),
    earliestVerdictAt:
      lane.earliestVerdictAtMs === undefined || lane.phase === 'ended'
        ? null
        : new Date(lane.earliestVerdictAtMs).toISOString(),
  };
}

function withoutDetails({ details: _details, ...sums }: ConnectionPlan): PlanSummary {
  return sums;
}

/**
 * The lane after another request of the same person joined, from whose receipt on everything must be read again: it plans
 * anew, and reads made before count for nothing. A lane that had ended goes on.
 */
export function joinedBy(lane: LaneState, moreKnownIds: number): LaneState {
  const { given } = lane.figures;
  return {
    ...lane,
    phase: 'resolving',
    // Without a manifest there is nothing to go on from: the first plan is still to come.
    joined: lane.book !== null,
    // What the approval would have included is a plan's of before; the new one keeps it, and can be approved itself.
    ...(lane.including === undefined ? {} : { including: false }),
    figures: {
      ...lane.figures,
      given: { ...given, total: given.total + moreKnownIds, unresolved: given.unresolved + moreKnownIds },
    },
    batches: [],
    nextBatch: 0,
    nextCheckAtMs: null,
    cleanReads: 0,
    lastCountedAtMs: null,
    trouble: null,
    flag: null,
    lookNow: false,
    verdict: null,
  };
}

function expectation(
  answer: { readonly earliestVerdictAtMs?: number },
  atLeastMs?: number,
): Pick<LaneState, 'earliestVerdictAtMs'> {
  const ms = answer.earliestVerdictAtMs;
  return ms === undefined ? {} : { earliestVerdictAtMs: Math.max(ms, atLeastMs ?? ms) };
}

function raised(lane: LaneState, reason: string, text: string, atMs: number): Flag {
  return { reason, text, sinceMs: lane.flag?.reason === reason ? lane.flag.sinceMs : atMs };
}

function healed(lane: LaneState): LaneState {
  return { ...lane, trouble: null, lookNow: false };
}

function figuresOf({ given, traces, copies, exceptions, tasks }: LaneFigures): LaneFigures {
  return { given, traces, copies, exceptions, ...(tasks === undefined ? {} : { tasks }) };
}

function latest(a: number | null, b: number | null): number | null {
  if (a === null) return b;
  return b === null ? a : Math.max(a, b);
}
