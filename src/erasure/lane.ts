import { virtualAt, type Clock } from './clock.ts';
import { MANUAL_TASKS } from './attest.ts';
import { formatInstant, formatTraces } from './format.ts';
import { abandonCopies, abandonTraces, EMPTY_COPIES, EMPTY_GIVEN, EMPTY_TRACES } from './ledger.ts';
import type { ExceptionKind, Status, Verdict } from './outcome.ts';
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
import type { LaneVerb } from './verbs.ts';

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
    (Flag & { readonly kind: TroubleReason; readonly probes: number; readonly nextProbeAtMs: number }) | null;
  readonly flag: Flag | null;
  /** Reads in a row that proved nothing. */
  readonly unproven: number;
  /** Rounds in a row that were caused by traces nobody had seen before. */
  readonly newcomerRounds: number;
  readonly heldSinceMs: number | null;
  /** An operator asked for an extra look. */
  readonly lookNow: boolean;
  readonly verdict: Verdict | null;
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
  };
}

/** The next thing to do, from the state and the real time alone. */
export function nextCommand(lane: LaneState, realNowMs: number): Command {
  if (lane.phase === 'ended') return { do: 'end' };
  if (lane.heldSinceMs !== null) return { do: 'wait', untilMs: null, summary: 'held by an operator' };
  const now = virtualAt(lane.clock, realNowMs);
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
    flag = raised(lane, 'new-traces', 'a source still writes traces of this person; stop it', answer.atMs);
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
  const sinceMs = lane.trouble?.sinceMs ?? trouble.atMs;
  return withoutStuckBatch({
    ...lane,
    clock: trouble.clock ?? lane.clock,
    lookNow: false,
    trouble: { kind: trouble.reason, reason: trouble.reason, text: trouble.text, sinceMs, probes, nextProbeAtMs },
  });
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
function withoutStuckBatch(lane: LaneState): LaneState {
  const { trouble } = lane;
  // Anything else, a revoked key for instance, concerns every batch: skipping would cost them all a week.
  if (lane.phase !== 'deleting' || trouble?.kind !== 'rejected' || trouble.probes + 1 < BATCH_TRIES) return lane;
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

/** @returns why a verb does not apply to a lane, or null when it does. */
export function refusal(lane: LaneState, verb: LaneVerb): string | null {
  if (lane.phase === 'ended') return `${lane.connection} has ended`;
  const held = lane.heldSinceMs !== null;
  if (verb === 'hold') return held ? `${lane.connection} is held already` : null;
  if (verb === 'release') return held ? null : `${lane.connection} is not held`;
  if (held && verb !== 'abandon') return `${lane.connection} is held; release it first`;
  if (verb === 'checkNow' && lane.phase === 'stopped') return `${lane.connection} waits before its first delete`;
  return null;
}

/** The lane after a verb that applies to it, and what will happen now. */
export function ordered(lane: LaneState, verb: LaneVerb, realNowMs: number): readonly [LaneState, string] {
  const now = virtualAt(lane.clock, realNowMs);
  const say = (state: LaneState, text: string): readonly [LaneState, string] => [state, `${lane.connection}: ${text}`];
  const submitted = lane.round > 0 ? '; what was submitted already cannot be recalled' : '';
  switch (verb) {
    case 'hold':
      return say({ ...lane, heldSinceMs: now }, `stops before its next API call${submitted}`);
    case 'release':
      return say({ ...lane, heldSinceMs: null }, 'goes on');
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
  }
}

/** How long the store may be out of reach before an operator is asked for. */
const PATIENCE_MS = HOUR_MS;

/** Troubles that pass by themselves as a rule. */
const PASSING: readonly TroubleReason[] = ['unreachable', 'throttled', 'worker-lost'];

/** What an operator should know now, or null. */
export function attentionOf(lane: LaneState, realNowMs: number): (Flag & { readonly next: string }) | null {
  if (lane.verdict !== null) return null;
  const { trouble } = lane;
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
  if (lane.heldSinceMs !== null) return 'held';
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

/** The lane as `--json` shows it. */
export function connectionStatus(lane: LaneState, realNowMs: number): ConnectionStatus {
  const attention = attentionOf(lane, realNowMs);
  const next = lane.heldSinceMs !== null ? null : (lane.trouble?.nextProbeAtMs ?? lane.nextCheckAtMs);
  const { given, traces, copies, tasks } = lane.figures;
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
    traces,
    copies: { ...copies, notExamined: [...copies.notExamined] },
    ...(tasks === undefined || tasks.length === 0 ? {} : { tasks: tasks.map((task) => ({ ...task })) }),
    cleanReads: lane.cleanReads,
    cleanReadsWanted: lane.policy?.cleanReads ?? 2,
    lastRead: lane.lastRead,
  };
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
