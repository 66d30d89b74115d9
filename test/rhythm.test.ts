import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  DAY_MS,
  HOUR_MS,
  JITTER_SLOT_MS,
  jitterMs,
  MINUTE_MS,
  nextTogether,
  probeDelayMs,
  settledAfter,
  WEEK_MS,
  type Rhythm,
} from '../src/erasure/rhythm.ts';

/** Saturday 00:00 to Monday 00:00 UTC, and a day to settle: done on Tuesday 00:00. */
const WEEKENDS: Rhythm & { kind: 'weekly' } = {
  kind: 'weekly',
  opensMs: 5 * DAY_MS,
  lengthMs: 2 * DAY_MS,
  settleMs: DAY_MS,
  spreadMs: 3 * HOUR_MS,
};

const MINUTES: Rhythm = { kind: 'continuous', settleMs: 10 * MINUTE_MS, spreadMs: 0 };

function at(iso: string): number {
  return Date.parse(iso);
}

/** From 1960 to 2100: before the epoch too, since a simulated clock may show anything. */
const anyInstant = fc.integer({ min: at('1960-01-01T00:00:00Z'), max: at('2100-01-01T00:00:00Z') });

const anyWeekly = fc.record({
  kind: fc.constant('weekly' as const),
  opensMs: fc.integer({ min: 0, max: WEEK_MS - 1 }),
  lengthMs: fc.integer({ min: 0, max: 3 * DAY_MS }),
  settleMs: fc.integer({ min: 0, max: 2 * DAY_MS }),
  spreadMs: fc.integer({ min: 0, max: 6 * HOUR_MS }),
});

describe('settledAfter', () => {
  // 28 November 2026 is a Saturday.
  test.each([
    ['in mid-week', '2026-11-25T09:30:00.000Z', '2026-12-01T00:00:00.000Z'],
    ['a millisecond before the window opens', '2026-11-27T23:59:59.999Z', '2026-12-01T00:00:00.000Z'],
    ['at the opening', '2026-11-28T00:00:00.000Z', '2026-12-08T00:00:00.000Z'],
    ['inside the window', '2026-11-29T12:00:00.000Z', '2026-12-08T00:00:00.000Z'],
    ['as the window closes', '2026-11-30T00:00:00.000Z', '2026-12-08T00:00:00.000Z'],
    ['while it settles', '2026-11-30T12:00:00.000Z', '2026-12-08T00:00:00.000Z'],
    ['over the end of the year', '2026-12-31T23:00:00.000Z', '2027-01-05T00:00:00.000Z'],
    ['over a leap day', '2028-02-28T12:00:00.000Z', '2028-03-07T00:00:00.000Z'],
    ['before the epoch', '1969-12-31T12:00:00.000Z', '1970-01-06T00:00:00.000Z'],
  ])('P3: a weekend store asked %s', (_when, submitted, settled) => {
    expect(new Date(settledAfter(WEEKENDS, at(submitted))).toISOString()).toBe(settled);
  });

  test('P3: a window that reaches into the next week is not entered half-way', () => {
    const late: Rhythm = { ...WEEKENDS, opensMs: 6 * DAY_MS + 20 * HOUR_MS, lengthMs: 8 * HOUR_MS, settleMs: 0 };
    // Sunday 20:00 to Monday 04:00. Monday 02:00 is inside: the whole next window is waited for.
    expect(new Date(settledAfter(late, at('2026-11-30T02:00:00Z'))).toISOString()).toBe('2026-12-07T04:00:00.000Z');
  });

  test('P3: a whole window and the settle time always lie between submit and settled', () => {
    fc.assert(
      fc.property(anyWeekly, anyInstant, (rhythm, submitted) => {
        const opens = settledAfter(rhythm, submitted) - rhythm.settleMs - rhythm.lengthMs;
        expect(opens).toBeGreaterThan(submitted);
        expect(opens - submitted).toBeLessThanOrEqual(WEEK_MS);
        // 5 January 1970 was a Monday.
        expect((((opens - 4 * DAY_MS) % WEEK_MS) + WEEK_MS) % WEEK_MS).toBe(rhythm.opensMs);
      }),
    );
  });

  test('P3: whoever submits later never settles earlier, and every week is like the next', () => {
    fc.assert(
      fc.property(fc.oneof(anyWeekly, fc.constant(MINUTES)), anyInstant, anyInstant, (rhythm, one, other) => {
        const [earlier, later] = [Math.min(one, other), Math.max(one, other)];
        expect(settledAfter(rhythm, earlier)).toBeLessThanOrEqual(settledAfter(rhythm, later));
        expect(settledAfter(rhythm, one + WEEK_MS)).toBe(settledAfter(rhythm, one) + WEEK_MS);
      }),
    );
  });

  test('P3: a store without a window settles a fixed time after each submit', () => {
    fc.assert(fc.property(anyInstant, (ms) => settledAfter(MINUTES, ms) === ms + 10 * MINUTE_MS));
  });
});

describe('jitterMs', () => {
  const anySeed = fc.integer({ min: -(2 ** 53) + 1, max: 2 ** 53 - 1 });

  test('is a whole number of slots, never more than the spread, and stable', () => {
    fc.assert(
      fc.property(anyWeekly, anySeed, fc.nat(1_000_000), (rhythm, seed, people) => {
        const delay = jitterMs(rhythm, seed, people);
        expect(delay % JITTER_SLOT_MS).toBe(0);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(rhythm.spreadMs);
        expect(jitterMs(rhythm, seed, people)).toBe(delay);
      }),
    );
  });

  test.each([
    ['nobody else expected: no delay', 0, 1],
    ['as many people as one slot can wake', 40, 1],
    ['one more', 41, 2],
    ['a thousand', 1000, 25],
    ['more than the spread has room for', 1_000_000, (3 * HOUR_MS) / JITTER_SLOT_MS],
  ])('%s', (_what, people, slots) => {
    const delays = new Set(Array.from({ length: 5000 }, (_, seed) => jitterMs(WEEKENDS, seed, people)));
    expect(delays.size).toBe(slots);
    expect(Math.max(...delays)).toBe((slots - 1) * JITTER_SLOT_MS);
  });
});

describe('probeDelayMs', () => {
  test.each([
    [0, MINUTE_MS],
    [1, 2 * MINUTE_MS],
    [8, 256 * MINUTE_MS],
    [9, 6 * HOUR_MS],
    [1_000_000, 6 * HOUR_MS],
  ])('P26: probe %d waits %d ms', (probes, wait) => {
    expect(probeDelayMs(probes, 0)).toBe(wait);
  });

  test('P26: never waits less than a minute, nor more than six hours and a fifth', () => {
    fc.assert(
      fc.property(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (probes, random) => {
        const wait = probeDelayMs(probes, random);
        expect(wait).toBeGreaterThanOrEqual(MINUTE_MS);
        expect(wait).toBeLessThanOrEqual(7.2 * HOUR_MS);
        expect(probeDelayMs(probes + 1, random)).toBeGreaterThanOrEqual(wait);
        expect(Number.isInteger(wait)).toBe(true);
      }),
    );
  });
});

describe('nextTogether', () => {
  test('never early, at most a tenth of the settle time or a minute late', () => {
    const settle = fc.integer({ min: 0, max: 3 * DAY_MS });
    fc.assert(
      fc.property(anyInstant, settle, (atMs, settleMs) => {
        const next = nextTogether(atMs, settleMs);
        expect(next).toBeGreaterThanOrEqual(atMs);
        expect(next - atMs).toBeLessThan(Math.max(settleMs / 10, MINUTE_MS) + 1);
      }),
    );
  });

  test('those whose reads were a minute apart meet again at the same instant, unless a boundary lies between', () => {
    const first = at('2026-12-01T00:00:20Z');
    expect(nextTogether(first, DAY_MS)).toBe(nextTogether(first + MINUTE_MS, DAY_MS));
    expect(nextTogether(first, 10 * MINUTE_MS)).toBe(nextTogether(first + 30_000, 10 * MINUTE_MS));
    // A settled weekend is such a boundary itself: nothing is added to it.
    expect(nextTogether(at('2026-12-01T00:00:00Z'), DAY_MS)).toBe(at('2026-12-01T00:00:00Z'));
  });
});
