import { formatInstant } from './format.ts';
import { JITTER_SLOT_MS, settledAfter, WEEK_MS, type Rhythm } from './rhythm.ts';

/**
 * Whether a due date can be met: `met`, even when every read comes as late as it may; `tight`, only when all come as
 * early as they may; `missed`, not at all.
 */
export const OUTLOOKS = ['met', 'tight', 'missed'] as const;
export type Outlook = (typeof OUTLOOKS)[number];

/**
 * When a lane may say its verdict if everything is submitted at an instant, the store acts in its next window and nobody
 * has to submit again. An estimate: no vendor promises when it deletes (P36). All instants are epoch milliseconds.
 */
export interface Forecast {
  /** The window in which the store is expected to act; null where it acts at any time, or nothing is submitted. */
  readonly window: { readonly opensMs: number; readonly closesMs: number } | null;
  readonly earliestMs: number;
  readonly latestMs: number;
  readonly outlook: Outlook;
  /** What is submitted at this instant or later misses the due date; null: there is no such instant left, or no need. */
  readonly submitBeforeMs: number | null;
}

/**
 * @param plan.nowMs when the traces are submitted, or, with nothing to submit, when the first clean read was made.
 * @param plan.cleanReads counted reads wanted, a settle time apart (P3).
 * @param plan.submits whether there is anything to submit.
 */
export function forecast(
  rhythm: Rhythm,
  plan: {
    readonly nowMs: number;
    readonly dueMs: number;
    readonly cleanReads: number;
    readonly submits: boolean;
  },
): Forecast {
  const { nowMs, dueMs, cleanReads, submits } = plan;
  // Reads that are due about the same time are made together, and people are spread over some time: see `nextLook`.
  const lateMs = Math.max(JITTER_SLOT_MS, Math.ceil(rhythm.settleMs / 10)) + rhythm.spreadMs;
  const readsMs = (cleanReads - 1) * rhythm.settleMs;
  // Without a submit the plan's own read is the first.
  const lateReadsMs = readsMs + (submits ? cleanReads : cleanReads - 1) * lateMs;
  const settledMs = submits ? settledAfter(rhythm, nowMs) : nowMs;
  const earliestMs = settledMs + readsMs;
  const latestMs = settledMs + lateReadsMs;
  const outlook: Outlook = latestMs <= dueMs ? 'met' : earliestMs <= dueMs ? 'tight' : 'missed';
  return {
    window: submits ? windowBefore(rhythm, settledMs) : null,
    earliestMs,
    latestMs,
    outlook,
    submitBeforeMs:
      !submits || outlook === 'missed'
        ? null
        : lastSubmitMs(rhythm, dueMs - (outlook === 'met' ? lateReadsMs : readsMs)),
  };
}

function windowBefore(rhythm: Rhythm, settledMs: number): Forecast['window'] {
  if (rhythm.kind === 'continuous') return null;
  const closesMs = settledMs - rhythm.settleMs;
  return { opensMs: closesMs - rhythm.lengthMs, closesMs };
}

/** What is submitted before this instant has settled at another one; what is submitted then or later may not have. */
function lastSubmitMs(rhythm: Rhythm, settledByMs: number): number {
  if (rhythm.kind === 'continuous') return settledByMs - rhythm.settleMs;
  // The first opening whose window settles too late, less a week: its own submissions still make it.
  const next = settledAfter(rhythm, settledByMs - rhythm.lengthMs - rhythm.settleMs);
  return next - rhythm.settleMs - rhythm.lengthMs - WEEK_MS;
}

/** The same for a person, in one sentence. */
export function outlookText(of: Forecast, rhythm: Rhythm, dueMs: number): string {
  const due = formatInstant(dueMs);
  const earliest = formatInstant(of.earliestMs);
  const latest = formatInstant(of.latestMs);
  const guess =
    rhythm.kind === 'weekly'
      ? "an estimate: the store's window is not promised"
      : 'an estimate: the time the store takes is not promised';
  if (of.outlook === 'missed') return `cannot be met: the earliest verdict is ${earliest} (${guess}), due ${due}`;
  const between = `verdict between ${earliest} and ${latest}, due ${due}`;
  const word = of.outlook === 'met' ? 'can be met' : 'can only just be met';
  if (of.submitBeforeMs === null) return `${word}: ${between} (${guess}); there is nothing to submit`;
  return `${word}: ${between}; submit before ${formatInstant(of.submitBeforeMs)} or miss it (${guess})`;
}
