import { DAY_MS, HOUR_MS, isoMicros } from '../common/time.ts';

export const WEEK_MS = 7 * DAY_MS;

/** Hour (UTC) at which the deletion batch runs on Saturdays and Sundays; the vendor publishes neither hour nor zone. */
const BATCH_HOUR = 6;
/** The first Saturday after the epoch (3 January 1970) at the batch hour. */
const FIRST_SATURDAY_MS = 2 * DAY_MS + BATCH_HOUR * HOUR_MS;

/** The first batch instant (Saturday or Sunday, 06:00 UTC) later than `afterMs`, epoch milliseconds. */
export function nextBatchAfter(afterMs: number): number {
  const week = Math.floor((afterMs - FIRST_SATURDAY_MS) / WEEK_MS);
  const saturday = FIRST_SATURDAY_MS + week * WEEK_MS;
  for (const candidate of [saturday, saturday + DAY_MS]) {
    if (candidate > afterMs) return candidate;
  }
  return saturday + WEEK_MS;
}

/** Which weekend a batch instant belongs to: the number of its Saturday. */
export function weekendOf(batchMs: number): number {
  return Math.floor((batchMs - FIRST_SATURDAY_MS) / WEEK_MS);
}

/** Microseconds and no zone, as v1 answers for runs: the official SDK appends the `Z` itself. */
export function zoneless(ms: number): string {
  return isoMicros(ms);
}

/** The time part of a dotted order: `20261102T101500123456Z`. */
export function dottedTime(ms: number): string {
  return `${isoMicros(ms).replace(/[-:.]/g, '')}Z`;
}
