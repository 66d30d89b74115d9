import { formatInstant } from './format.ts';
import { isDay, type Deadlines } from './law.ts';
import { settledAfter, type Rhythm } from './rhythm.ts';
import type { RequestStatus } from './status.ts';
import type { OperatorMessage } from './verbs.ts';

/** A deadline that was extended once, on notice. */
export interface Extension {
  /** Virtual epoch milliseconds. */
  readonly toMs: number;
  readonly by: string;
  readonly atMs: number;
  /** The day on which the person was told, `YYYY-MM-DD`. */
  readonly notifiedOn: string;
}

/** What a request that is to be postponed tells of itself. All instants are virtual epoch milliseconds. */
export interface Postponable {
  readonly deadlines: Deadlines | undefined;
  readonly extension: Extension | null;
  readonly dueAtMs: number;
  readonly nowMs: number;
}

/** The latest zone is so far ahead of UTC: there it may be tomorrow already. */
const LATEST_ZONE_MS = 14 * 3_600_000;

/** @returns why a request can't be postponed, or null when it can. */
export function postponeRefusal(message: OperatorMessage, at: Postponable): string | null {
  const { deadlines, extension, dueAtMs, nowMs } = at;
  const { notifiedOn } = message;
  if (notifiedOn === undefined || !isDay(notifiedOn))
    return '"notifiedOn" must be the day on which the person was told';
  if (extension !== null)
    return `it was postponed already, until ${formatInstant(extension.toMs)}; no law does so twice`;
  if (deadlines?.extendedDueAtMs == null || deadlines.firstDueAtMs === null) {
    return 'no law that its deadline is known to follow lets it be postponed';
  }
  if (nowMs > deadlines.firstDueAtMs) {
    return `the first period ended ${formatInstant(deadlines.firstDueAtMs)}; within it the person had to be told`;
  }
  if (notifiedOn < deadlines.receivedOn) return '"notifiedOn" lies before the receipt';
  if (notifiedOn > new Date(nowMs + LATEST_ZONE_MS).toISOString().slice(0, 10)) {
    return '"notifiedOn" lies in the future: tell the person first';
  }
  if (deadlines.extendedDueAtMs <= dueAtMs) return `it is due later already, ${formatInstant(dueAtMs)}`;
  return null;
}

/** Where a lane stands, for `earliestVerdict`. All instants are virtual epoch milliseconds. */
export interface Outlook {
  readonly nowMs: number;
  /** Whether traces are still to be submitted. */
  readonly submits: boolean;
  /** From when a read may count for what was submitted so far; null: nothing was. */
  readonly settledAtMs: number | null;
  readonly cleanReads: number;
  readonly lastCountedAtMs: number | null;
  readonly wanted: number;
}

/**
 * When a lane's verdict can come at the earliest: every delete is accepted now and done in the store's next window, every
 * read is clean and counts. An estimate by the vendor's rhythm, virtual epoch milliseconds.
 */
export function earliestVerdict(rhythm: Rhythm, outlook: Outlook): number {
  const { nowMs, submits, settledAtMs, lastCountedAtMs, wanted } = outlook;
  const settled = Math.max(nowMs, settledAtMs ?? nowMs, submits ? settledAfter(rhythm, nowMs) : nowMs);
  // What was counted before another submit counts no more.
  const counted = submits ? 0 : outlook.cleanReads;
  const missing = Math.max(1, wanted - counted);
  const first = submits || lastCountedAtMs === null ? settled : Math.max(settled, lastCountedAtMs + rhythm.settleMs);
  return first + (missing - 1) * rhythm.settleMs;
}

/** What a status says of being at risk: the lanes that can't end in time, and why. */
export function riskOf(
  status: Pick<RequestStatus, 'connections' | 'dueAt' | 'endedAt' | 'dryRun'>,
): Pick<RequestStatus, 'atRisk' | 'atRiskReason'> {
  if (status.endedAt !== null || status.dryRun) return { atRisk: false, atRiskReason: null };
  const due = Date.parse(status.dueAt);
  const late = Object.entries(status.connections).flatMap(([name, { earliestVerdictAt }]) => {
    const at = earliestVerdictAt === null ? null : Date.parse(earliestVerdictAt);
    return at === null || at <= due ? [] : [`${name} can be done ${formatInstant(at)} at the earliest`];
  });
  if (late.length === 0) return { atRisk: false, atRiskReason: null };
  return { atRisk: true, atRiskReason: `${late.join('; ')}, as its store's rhythm tells; due ${formatInstant(due)}` };
}
