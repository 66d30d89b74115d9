import { imbalances } from '../../src/erasure/ledger.ts';
import { STATUSES } from '../../src/erasure/outcome.ts';
import type { ConnectionStatus, RequestStatus } from '../../src/erasure/status.ts';
import type { RecordEntry, RecordView } from '../../src/evidence/record.ts';
import { formsOf } from '../support/canary.ts';
import type { Label } from './scenario.ts';
import { DAY_MS, type Arrival, type Planted, type Side } from './stores.ts';

/** A promise that a story saw broken. */
export class BrokenPromise extends Error {
  readonly promise: string;

  constructor(promise: string, text: string) {
    super(`${promise}: ${text}`);
    this.name = 'BrokenPromise';
    this.promise = promise;
  }
}

/** What a story knows of one lane, beside what Lethe says. Places in time are counts of requests that had arrived. */
export interface LaneFacts {
  readonly side: Side;
  readonly planted: Planted[];
  /** Traces that somebody else's run joined, and when. */
  readonly joins: { readonly traceId: string; readonly at: number }[];
  /** While these lasted, reads may have shown what was not so. */
  readonly lies: { readonly from: number; to: number | null }[];
  /** Ids handed over, as the store writes them. */
  readonly given: ReadonlySet<string>;
  readonly consent: number;
  /** Answers of the status: each is true at some moment after it was asked for. */
  readonly looks: { readonly asked: number; readonly status: ConnectionStatus['status'] }[];
  /** When the story first saw each of the person's traces gone, and whether it came back. */
  readonly gone: Map<string, { readonly at: number; back: boolean }>;
  /** From the operator's receipt to the moment in which the release was sent. */
  readonly holds: { readonly from: number; to: number | null }[];
  readonly retries: number[];
  readonly restarts: number[];
  /** While these lasted, answers to bulk deletes counted too much. */
  readonly inflated: { readonly from: number; to: number }[];
  /** When an operator explained what had tripped the kill switch, whether anything had or not. */
  explainedAt: number | null;
  /** Every spelling that is the person. */
  readonly labels: readonly Label[];
  /** An operator was told that this lane ends without proof. */
  abandoned: boolean;
  /** The most traces that a status has spoken of. */
  matched: number;
}

type Judge<In> = (input: In) => string | null;

interface Moment {
  readonly facts: LaneFacts;
  readonly lane: ConnectionStatus;
  readonly status: RequestStatus;
}

interface End extends Moment {
  readonly record: RecordView;
}

/** Statuses in which no delete is under way: whatever is deleted afterwards was read again first. */
const BEFORE_DELETES: ReadonlySet<string> = new Set(['planning', 'waiting', 'verifying', 'awaiting-approval']);

/** From when on a delete must go by what was so at a moment: the first that can't have begun before it. */
function mustKnow({ looks, side }: LaneFacts, at: number, tries: boolean): number {
  const look = looks.find(({ asked, status }) => asked >= at && BEFORE_DELETES.has(status))?.asked ?? Infinity;
  if (!tries) return look;
  // A try that failed is over: the next one begins with a look of its own.
  const failed = side
    .arrivals()
    .findIndex((arrival, index) => index >= at && arrival.family === 'deletes' && hasFailed(arrival));
  return Math.min(look, failed < 0 ? Infinity : failed + 1);
}

function hasFailed({ status, outcome }: Arrival): boolean {
  return outcome !== 'answered' || status === 0 || status === 429 || status >= 500;
}

function wasHonest({ lies }: LaneFacts, from: number, to: number): boolean {
  return !lies.some((lie) => lie.from < to && (lie.to ?? Infinity) > from);
}

const DELETES_TRACES = /^\/api\/v1\/runs\/delete|^\/v1\/project_logs\/.*insert|^\/api\/traces\//;

/** Deletes that a store understood, with their traces. */
function deletesOf({
  side,
}: LaneFacts): readonly { readonly at: number; readonly arrival: Arrival; readonly traceIds: readonly string[] }[] {
  return side.arrivals().flatMap((arrival, at) => {
    const { family, ids, route } = arrival;
    // Copies are deleted by calls of their own.
    if (family !== 'deletes' || ids === null || ids.length === 0 || !DELETES_TRACES.test(route)) return [];
    return [{ at, arrival, traceIds: [...new Set(ids.map((id) => side.traceOf(id)))] }];
  });
}

function isAccepted({ status, outcome }: Arrival): boolean {
  // A connection that was cut afterwards has had its effect.
  return (status >= 200 && status < 300) || outcome === 'reset-after';
}

function isAcknowledged({ status, outcome }: Arrival): boolean {
  return status >= 200 && status < 300 && outcome === 'answered';
}

function named(facts: LaneFacts, { traceId, runIds }: Planted): boolean {
  return [traceId, ...runIds].some((id) => facts.given.has(id));
}

/** What holds at every moment, by the promise that says so. */
const ALWAYS: readonly (readonly [string, Judge<Moment>])[] = [
  [
    'P29',
    ({ lane }) => {
      const sums = imbalances(lane);
      return sums.length === 0 ? null : `the ledgers do not balance: ${sums.join('; ')}`;
    },
  ],
  [
    'P30',
    ({ facts, lane, status }) => {
      if (lane.traces.matched < facts.matched) return `${facts.matched} traces matched, and now ${lane.traces.matched}`;
      facts.matched = lane.traces.matched;
      if (Object.values(status.connections).some(({ attention }) => attention?.reason === 'unsealed')) return null;
      const worst = STATUSES.find((one) => Object.values(status.connections).some((other) => other.status === one));
      return worst === status.status ? null : `the request is ${status.status}, and its worst lane ${worst ?? 'none'}`;
    },
  ],
  [
    'P26',
    ({ lane, status }) => {
      if (status.endedAt !== null) return null;
      const idle = ['waiting', 'needs-operator', 'awaiting-approval'].includes(lane.status);
      if (idle && lane.nextCheckAt === null && lane.attention === null) return `${lane.status}, and nothing is planned`;
      if (lane.attention !== null && (lane.attention.reason === '' || lane.attention.next === ''))
        return 'it asks for an operator and does not say why, or what comes next';
      return null;
    },
  ],
  [
    'P13',
    ({ facts: { side } }) => {
      const unasked = side.unasked();
      return unasked === 0 ? null : `${unasked} traces went that no delete named`;
    },
  ],
  [
    'P17',
    ({ facts }) => {
      const kinds = new Map(facts.planted.map((trace) => [trace.traceId, trace]));
      for (const { arrival, traceIds } of deletesOf(facts)) {
        for (const traceId of traceIds) {
          const trace = kinds.get(traceId);
          if (trace === undefined || trace.bornMs > arrival.atMs) continue;
          if (trace.kind === 'stranger' || trace.kind === 'mixed') return `a trace was submitted that is ${trace.kind}`;
        }
      }
      return null;
    },
  ],
  [
    'P21',
    ({ facts, status }) => {
      const kinds = new Map(facts.planted.map((trace) => [trace.traceId, trace]));
      for (const { traceIds } of deletesOf(facts)) {
        for (const traceId of traceIds) {
          const trace = kinds.get(traceId);
          if (trace !== undefined && isLate(trace, status) && !named(facts, trace)) return 'new activity was submitted';
        }
      }
      return null;
    },
  ],
  [
    'P16',
    ({ facts }) => {
      const unlabelled = facts.planted.filter(({ kind }) => kind === 'unlabelled');
      const submitted = new Set(deletesOf(facts).flatMap(({ traceIds }) => traceIds));
      const taken = unlabelled.filter(({ traceId }) => submitted.has(traceId));
      if (taken.some((trace) => !named(facts, trace))) return 'a trace of nobody was submitted that nobody asked for';
      if (taken.length > facts.consent) return `${taken.length} traces of nobody, with consent for ${facts.consent}`;
      return null;
    },
  ],
  [
    'P14',
    ({ facts }) => {
      for (const { traceId, at } of facts.joins) {
        const known = mustKnow(facts, at, true);
        const late = deletesOf(facts).find((one) => one.at >= known && one.traceIds.includes(traceId));
        if (late !== undefined && wasHonest(facts, at, late.at))
          return `a trace was submitted in request ${late.at}, which somebody else had joined before request ${at}`;
      }
      return null;
    },
  ],
  [
    'P19',
    ({ facts }) => {
      for (const { from, to } of facts.inflated) {
        const told = deletesOf(facts).find(
          ({ at, arrival }) => at >= from && at < to && arrival.route.includes('bulk') && isAcknowledged(arrival),
        );
        // Somebody explains it once all is calm.
        const after = told === undefined ? 0 : deletesBetween(facts, told.at + 1, facts.explainedAt ?? Infinity);
        if (after > 0) return `${after} deletes after the store had said that it deleted more than it was sent`;
      }
      return null;
    },
  ],
  [
    'P27',
    ({ facts }) => {
      for (const { from, to } of facts.holds) {
        const after = deletesBetween(facts, from, to ?? Infinity);
        // One may have had its last word before the hold was there, and be on its way.
        if (after > 1) return `${after} deletes arrived while an operator held the lane`;
      }
      return null;
    },
  ],
  [
    'P23',
    ({ facts }) => {
      for (const [traceId, { at, back }] of facts.gone) {
        if (back) continue;
        const known = mustKnow(facts, at, false);
        const again = deletesOf(facts).find((one) => one.at >= known && one.traceIds.includes(traceId));
        if (again !== undefined && wasHonest(facts, at, again.at)) return 'a trace was submitted that was gone';
      }
      return repeatedTooEarly(facts);
    },
  ],
];

function deletesBetween(facts: LaneFacts, from: number, to: number): number {
  return deletesOf(facts).filter(({ at }) => at >= from && at < to).length;
}

/** What a store has acknowledged is not sent again before its window has passed, unless somebody asks for it. */
function repeatedTooEarly(facts: LaneFacts): string | null {
  if (facts.side.store !== 'langsmith') return null;
  const last = new Map<string, { readonly at: number; readonly arrival: Arrival }>();
  for (const { at, arrival, traceIds } of deletesOf(facts)) {
    for (const traceId of traceIds) {
      const before = last.get(traceId);
      const asked = [...facts.retries, ...facts.restarts].some(
        (one) => before !== undefined && one >= before.at && one <= at,
      );
      const early = before !== undefined && facts.side.settledAfter(before.arrival.atMs - DAY_MS) > arrival.atMs;
      if (early && !asked && !replicated(facts, traceId))
        return 'a trace was submitted again before the window of its first submission had passed';
      if (isAcknowledged(arrival)) last.set(traceId, { at, arrival });
      else last.delete(traceId);
    }
  }
  return null;
}

/** A trace that lies in two projects is submitted once in each. */
function replicated({ planted }: LaneFacts, traceId: string): boolean {
  return planted.find((trace) => trace.traceId === traceId)?.replica === true;
}

/** Whether a trace began after the request's cut-off, an hour after its receipt. */
function isLate(trace: Planted | undefined, { receivedAt }: RequestStatus): boolean {
  return (trace?.begunMs ?? 0) > Date.parse(receivedAt) + DAY_MS / 24;
}

const VERDICTS = new Set(['verified', 'nothing-found', 'verified-with-exceptions', 'abandoned']);

/** What holds at the end of a lane. */
const FINALLY: readonly (readonly [string, Judge<End>])[] = [
  [
    'P1',
    ({ facts, lane, status }) => {
      if (!VERDICTS.has(lane.status)) return `the request has ended, and a lane is ${lane.status}`;
      if (lane.status === 'abandoned') return null;
      if (facts.abandoned) return `an operator abandoned the lane, and it says ${lane.status}`;
      const kinds = exceptionsOf(status, facts);
      const counts: readonly (readonly [string, number])[] = [
        ['survived', lane.traces.survived],
        ['shared', lane.traces.shared],
        ['linked', lane.traces.linked],
        ['inconclusive', lane.traces.inconclusive],
        ['unresolved', lane.given.unresolved],
        ['wrong-kind', lane.given.wrongKind],
      ];
      for (const [kind, count] of counts) {
        if (count > 0 && !kinds.has(kind)) return `${count} ${kind}, and no exception says so`;
      }
      if (lane.traces.pending > 0) return `ended with ${lane.traces.pending} traces pending`;
      if (lane.status === 'verified-with-exceptions')
        return kinds.size > 0 ? null : 'with exceptions, of which none is told';
      return kinds.size === 0 ? null : `${lane.status}, with exceptions: ${[...kinds].join(', ')}`;
    },
  ],
  ['P2', livesOn],
  ['P3', readTooEarly],
  [
    'P16',
    ({ facts, lane }) => {
      if (lane.status !== 'verified' && lane.status !== 'nothing-found') return null;
      const foreign = facts.planted.filter(
        (trace) => (trace.kind === 'stranger' || trace.kind === 'mixed') && named(facts, trace),
      );
      return foreign.length === 0 ? null : `${lane.status}, although ids were given that are not the person's alone`;
    },
  ],
  [
    'P13',
    ({ facts }) => {
      const others = facts.planted.filter(({ kind }) => kind === 'stranger' || kind === 'mixed');
      const dead = others.filter(({ traceId }) => !facts.side.isLive(traceId));
      return dead.length === 0 ? null : `${dead.length} traces of others are gone`;
    },
  ],
  ['P35', recordLacks],
];

function exceptionsOf({ exceptions }: RequestStatus, { side }: LaneFacts): ReadonlySet<string> {
  return new Set(exceptions.filter(({ connection }) => connection === side.connection).map(({ kind }) => kind));
}

/** P2: nothing that is said to be gone is there. */
function livesOn({ facts, lane, record, status }: End): string | null {
  if (lane.status === 'abandoned') {
    return null;
  }
  // Of a store that shows nothing of anybody from the plan on, no read can tell whether it is empty: that is what is said.
  if (exceptionsOf(status, facts).has('no-control')) return null;
  const entries = entriesOf(record, facts);
  const counted = entries.flatMap((entry) =>
    (entry.kind === 'read' && entry.counted) || entry.kind === 'plan' ? [Date.parse(entry.at)] : [],
  );
  // A store that serves the state of two days ago shows what was written since to nobody.
  const readMs = Math.max(0, ...counted) - (facts.lies.length > 0 ? 2 * DAY_MS : 0);
  const joined = new Set(facts.joins.map(({ traceId }) => traceId));
  const plain = lane.status !== 'verified-with-exceptions';
  const byId = new Map(facts.planted.map((trace) => [trace.traceId, trace]));
  const own = new Set(facts.planted.filter(({ kind }) => kind === 'own').map(({ traceId }) => traceId));
  // Traces that a late writer of the store's own made carry the person too, and nobody planted them.
  for (const traceId of facts.side.tracesOf(facts.labels)) if (!byId.has(traceId)) own.add(traceId);
  const mine = [...own].filter((traceId) => {
    const bornMs = byId.get(traceId)?.bornMs ?? 0;
    return bornMs < readMs && facts.side.isLive(traceId);
  });
  const { survived, inconclusive, shared, linked, newActivity } = lane.traces;
  const admitted = survived + inconclusive + shared + linked;
  const late = mine.filter((traceId) => isLate(byId.get(traceId), status));
  if (mine.length - late.length > admitted)
    return `${lane.status} admits ${admitted}, while ${mine.length - late.length} of the person's traces live`;
  if (mine.length > admitted + newActivity)
    return `${lane.status} admits ${admitted + newActivity}, while ${mine.length} of the person's traces live`;
  if (plain) {
    const left = [
      ...mine,
      ...facts.planted.filter((trace) => trace.kind === 'mixed').map(({ traceId }) => traceId),
    ].filter(
      (traceId) => facts.side.isLive(traceId) && (byId.get(traceId)?.bornMs ?? 0) < readMs && !joined.has(traceId),
    );
    if (left.length > 0) return `${lane.status}, while ${left.length} traces with the person in them live`;
    const given = facts.planted.filter(
      (trace) =>
        named(facts, trace) && trace.bornMs < readMs && facts.side.isLive(trace.traceId) && !joined.has(trace.traceId),
    );
    if (given.length > 0) return `${lane.status}, while ${given.length} of the traces given live`;
  }
  return null;
}

function entriesOf(record: RecordView, { side: { connection } }: LaneFacts): readonly RecordEntry[] {
  return (record.lanes[connection]?.entries ?? []).map(({ entry }) => entry);
}

/** P3: no read counted before what was accepted had its time, nor too soon after the one before it. */
function readTooEarly({ facts, record, lane }: End): string | null {
  const { side } = facts;
  const arrivals = side.arrivals();
  const accepted = deletesOf(facts).filter(({ arrival }) => isAccepted(arrival));
  const entries = entriesOf(record, facts);
  let before: number | null = null;
  let inRow = 0;
  for (const entry of entries) {
    const clean = entry.kind === 'read' && (entry.answer === 'clean' || entry.answer === 'no-control');
    if (entry.kind === 'submit' || (entry.kind === 'read' && !clean && entry.answer !== 'inconclusive')) {
      before = null;
      inRow = 0;
    }
    if (entry.kind === 'plan') inRow = entry.batches.length === 0 ? 1 : 0;
    if (entry.kind !== 'read' || !entry.counted) continue;
    const atMs = Date.parse(entry.at);
    if (before !== null && atMs - before < side.settleMs) return 'two reads counted that were too close';
    for (const { at, arrival } of accepted) {
      if (arrival.atMs > atMs) continue;
      // It left after the request before it had arrived, and that is the latest that can be told from outside.
      const leftMs = arrivals[at - 1]?.atMs ?? arrival.atMs;
      if (side.settledAfter(leftMs) > atMs) {
        const after = Math.round((atMs - arrival.atMs) / 3_600_000);
        return `a read counted ${after} hours after the store had accepted a delete, before its window had settled`;
      }
    }
    before = atMs;
    inRow += 1;
  }
  if (lane.status === 'abandoned') return null;
  return inRow >= 2 ? null : `${lane.status} after ${inRow} reads that count`;
}

/** P35: what an auditor must find in the record. */
function recordLacks({ facts, lane, record, status }: End): string | null {
  const { connection } = facts.side;
  const outcome = record.outcome?.lanes[connection];
  if (outcome === undefined) return 'the record has no outcome of a lane';
  if (outcome.verdict !== lane.status)
    return `the record says ${outcome.verdict ?? 'nothing'}, the status ${lane.status}`;
  if (record.outcome?.verdict !== status.status) return 'the record and the status end differently';
  const entries = entriesOf(record, facts);
  if (lane.status === 'abandoned') return null;
  if (record.request === null) return 'the record does not tell what was asked for';
  if (!entries.some(({ kind }) => kind === 'plan')) return 'the record has no plan';
  // What a try had sent before it was struck is gone when the next one looks, and told as that.
  const told = entries.reduce((sum, entry) => sum + (entry.kind === 'submit' ? entry.count + entry.absent : 0), 0);
  const submitted = new Set(
    deletesOf(facts)
      .filter(({ arrival }) => isAcknowledged(arrival))
      .flatMap(({ traceIds }) => traceIds),
  );
  if (told < submitted.size) return `${submitted.size} traces were submitted, and the record tells of ${told}`;
  return null;
}

/** Judges one status. @throws BrokenPromise. */
export function judgeStatus(status: RequestStatus, lanes: readonly LaneFacts[]): void {
  for (const facts of lanes) {
    const lane = status.connections[facts.side.connection];
    if (lane === undefined) throw new BrokenPromise('P26', 'a lane is not in the status');
    for (const [promise, judge] of ALWAYS) {
      const broken = judge({ facts, lane, status });
      if (broken !== null) throw new BrokenPromise(promise, `${facts.side.connection}: ${broken}`);
    }
  }
}

/** Judges the end. @throws BrokenPromise. */
export function judgeEnd(status: RequestStatus, lanes: readonly LaneFacts[], record: RecordView): void {
  judgeStatus(status, lanes);
  for (const facts of lanes) {
    const lane = status.connections[facts.side.connection];
    if (lane === undefined) throw new BrokenPromise('P26', 'a lane is not in the status');
    for (const [promise, judge] of FINALLY) {
      const broken = judge({ facts, lane, status, record });
      if (broken !== null) throw new BrokenPromise(promise, `${facts.side.connection}: ${broken}`);
    }
  }
}

/** Anything shorter is found by chance. */
const SHORTEST = 8;

/** P31: neither the person nor an id of a trace stands in what others may read. @throws BrokenPromise. */
export function judgeQuiet(value: string, ids: readonly string[], texts: Readonly<Record<string, string>>): void {
  const forms = value.length < SHORTEST ? [] : [...formsOf(value)].filter(([, text]) => text.length >= SHORTEST);
  for (const [where, text] of Object.entries(texts)) {
    const form = forms.find(([, one]) => text.includes(one));
    if (form !== undefined) throw new BrokenPromise('P31', `the person stands in the ${where}, ${form[0]}`);
    if (ids.some((id) => text.includes(id))) throw new BrokenPromise('P31', `the id of a trace stands in the ${where}`);
  }
}
