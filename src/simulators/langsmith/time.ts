const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
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

const ZONED = /(?:z|[+-]\d{2}:?\d{2})$/i;

/**
 * Epoch milliseconds (with a fraction for microseconds) of what clients send as a time: ISO text with or without a zone
 * (none means UTC), or epoch milliseconds. `null` when it is neither.
 */
export function parseTime(value: unknown): number | null {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (typeof value !== 'string' || value.length < 8) return null;
  const text = ZONED.test(value) || !value.includes('T') ? value : `${value}Z`;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return null;
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  const micros = fraction.length > 3 ? Number(fraction.slice(3, 6).padEnd(3, '0')) : 0;
  return ms + micros / 1000;
}

function isoMicros(ms: number): string {
  const micros = Math.round(ms * 1000);
  const whole = Math.floor(micros / 1000);
  return `${new Date(whole).toISOString().slice(0, -1)}${String(micros - whole * 1000).padStart(3, '0')}`;
}

/** RFC 3339 with microseconds and `Z`, as v2 answers. */
export function rfc3339(ms: number): string {
  return `${isoMicros(ms)}Z`;
}

/** Microseconds and no zone, as v1 answers for runs: the official SDK appends the `Z` itself. */
export function zoneless(ms: number): string {
  return isoMicros(ms);
}

/** The time part of a dotted order: `20261102T101500123456Z`. */
export function dottedTime(ms: number): string {
  return `${isoMicros(ms).replace(/[-:.]/g, '')}Z`;
}
