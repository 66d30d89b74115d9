export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
export const WEEK_MS = 7 * DAY_MS;

/** When a store acts on an accepted deletion, as data. All instants are UTC epoch milliseconds. */
export type Rhythm =
  /**
   * Once a week in a window. A deletion accepted inside a window is expected in the next one: nothing says that a
   * batch which is already running still picks it up.
   */
  | {
      readonly kind: 'weekly';
      /** Offset of the window's opening from Monday 00:00 UTC, milliseconds. */
      readonly opensMs: number;
      readonly lengthMs: number;
      /** After the window has closed and between two counted reads, milliseconds (P3). */
      readonly settleMs: number;
      /** Width over which people are spread so that they do not all read at once, milliseconds. */
      readonly spreadMs: number;
    }
  /** At any time, done some time after acceptance. */
  | { readonly kind: 'continuous'; readonly settleMs: number; readonly spreadMs: number };

/** Monday 5 January 1970, 00:00 UTC: the first Monday of the epoch. */
const FIRST_MONDAY_MS = 4 * DAY_MS;

/** When a deletion accepted at an instant should be done and readable as done: from then on a read may count (P3). */
export function settledAfter(rhythm: Rhythm, submittedAtMs: number): number {
  if (rhythm.kind === 'continuous') return submittedAtMs + rhythm.settleMs;
  const sinceMonday = (((submittedAtMs - FIRST_MONDAY_MS) % WEEK_MS) + WEEK_MS) % WEEK_MS;
  const monday = submittedAtMs - sinceMonday;
  const opens = sinceMonday < rhythm.opensMs ? monday + rhythm.opensMs : monday + WEEK_MS + rhythm.opensMs;
  return opens + rhythm.lengthMs + rhythm.settleMs;
}

/** Width of one slot of jitter: people in the same slot wake together, so that their calls can share batches. */
export const JITTER_SLOT_MS = 10_000;

/** The end of the slot in which an instant lies: who is due in the same slot is woken together, never early. */
export function slotEnd(atMs: number): number {
  return Math.ceil(atMs / JITTER_SLOT_MS) * JITTER_SLOT_MS;
}

/** Of the time between two counted reads, this share is rounded up to: nobody waits much longer, and all wake together. */
const TOGETHER_SHARE = 10;
/** Where that is less, this long, unless the settle time itself is shorter. */
const TOGETHER_MS = MINUTE_MS;

/**
 * When people whose deletes or reads were some time apart read again: together, so that their calls can ride together.
 * At most a tenth of the settle time, or a minute, later than an instant, never earlier.
 *
 * @param settleMs the store's settle time, milliseconds.
 */
export function nextTogether(atMs: number, settleMs: number): number {
  const most = Math.max(settleMs / TOGETHER_SHARE, Math.min(settleMs, TOGETHER_MS));
  const grid = Math.max(1, Math.floor(most / JITTER_SLOT_MS)) * JITTER_SLOT_MS;
  return Math.ceil(atMs / grid) * grid;
}

/** People a small server can wake in a second; see the measured start rate in docs/operating.md. */
const WAKES_PER_SECOND = 4;

/**
 * A stable delay for one request, so that thousands of people do not wake in the same second.
 *
 * @param seed any stable number of the request, for instance bytes of its workflow id's HMAC.
 * @param expectedPeople how many people are expected to wait for the same window.
 * @returns a whole number of slots, in milliseconds, at most the rhythm's spread.
 */
export function jitterMs(rhythm: Rhythm, seed: number, expectedPeople: number): number {
  const most = Math.max(1, Math.floor(rhythm.spreadMs / JITTER_SLOT_MS));
  const wanted = Math.ceil(expectedPeople / (WAKES_PER_SECOND * (JITTER_SLOT_MS / 1000)));
  return (Math.abs(Math.trunc(seed)) % Math.min(most, Math.max(1, wanted))) * JITTER_SLOT_MS;
}

/** How long to wait before the nth probe of a store in trouble: 1 minute, doubling, at most 6 hours (plus jitter). */
export function probeDelayMs(probes: number, random: number): number {
  const base = Math.min(6 * HOUR_MS, MINUTE_MS * 2 ** Math.min(probes, 20));
  return Math.round(base * (1 + 0.2 * random));
}
