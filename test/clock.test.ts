import { describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { realSpanMs, virtualAt, virtualNow, type Clock } from '../src/erasure/clock.ts';
import { DAY_MS, HOUR_MS, WEEK_MS } from '../src/erasure/rhythm.ts';

const REAL = Date.parse('2026-11-26T12:00:00Z');
const VIRTUAL = Date.parse('2031-03-03T00:00:00Z');

/** Within a month of where the clocks meet. */
const anyInstant = fc.integer({ min: REAL - 30 * DAY_MS, max: REAL + 30 * DAY_MS });
const anyClock: fc.Arbitrary<Clock> = fc.option(
  fc.record({
    realMs: fc.constant(REAL),
    virtualMs: fc.integer({ min: 0, max: Date.parse('2100-01-01T00:00:00Z') }),
    speed: fc.integer({ min: 1, max: 1_000_000 }),
  }),
);

describe('virtualAt', () => {
  test('P34: without a clock virtual time is real time', () => {
    fc.assert(fc.property(anyInstant, (ms) => virtualAt(null, ms) === ms));
  });

  test.each([
    ['where the clocks meet', 0, 0],
    ['after it', HOUR_MS, 1000 * HOUR_MS],
    ['before it', -1, -1000],
  ])('shows the virtual instant %s', (_where, real, virtual) => {
    const clock = { realMs: REAL, virtualMs: VIRTUAL, speed: 1000 };
    expect(virtualAt(clock, REAL + real)).toBe(VIRTUAL + virtual);
  });

  test('never runs backwards and yields whole milliseconds', () => {
    fc.assert(
      fc.property(anyClock, anyInstant, fc.nat(DAY_MS), (clock, real, later) => {
        expect(Number.isInteger(virtualAt(clock, real))).toBe(true);
        expect(virtualAt(clock, real + later)).toBeGreaterThanOrEqual(virtualAt(clock, real));
      }),
    );
  });

  test('is the same after a trip through JSON, as in a workflow that continues as new', () => {
    fc.assert(
      fc.property(anyClock, anyInstant, (clock, real) => {
        expect(virtualAt(JSON.parse(JSON.stringify(clock)) as Clock, real)).toBe(virtualAt(clock, real));
      }),
    );
  });
});

describe('realSpanMs', () => {
  test.each([
    ['a week at real speed', null, WEEK_MS, WEEK_MS],
    ['a week a thousand times as fast', 1000, WEEK_MS, WEEK_MS / 1000],
    ['less than a millisecond is rounded up', 1000, 1, 1],
    ['a clock that runs slowly', 0.5, 1000, 2000],
    ['what is past needs no wait', 1000, -5, 0],
  ])('%s', (_what, speed, span, real) => {
    const clock = speed === null ? null : { realMs: REAL, virtualMs: VIRTUAL, speed };
    expect(realSpanMs(clock, span)).toBe(real);
  });

  test('P3: whoever waits that long is never early', () => {
    fc.assert(
      fc.property(anyClock, anyInstant, fc.nat(52 * WEEK_MS), (clock, real, span) => {
        const until = virtualAt(clock, real) + span;
        expect(virtualAt(clock, real + realSpanMs(clock, span))).toBeGreaterThanOrEqual(until);
      }),
    );
  });

  test('no wait is longer than needed by more than a real millisecond', () => {
    fc.assert(
      fc.property(anyClock, anyInstant, fc.integer({ min: 1, max: 52 * WEEK_MS }), (clock, real, span) => {
        const until = virtualAt(clock, real) + span;
        expect(virtualAt(clock, real + realSpanMs(clock, span) - 1)).toBeLessThanOrEqual(until);
      }),
    );
  });
});

test('virtualNow reads the real clock', () => {
  const now = jest.spyOn(Date, 'now').mockReturnValue(REAL + 7);
  try {
    expect(virtualNow(null)).toBe(REAL + 7);
    expect(virtualNow({ realMs: REAL, virtualMs: VIRTUAL, speed: 10 })).toBe(VIRTUAL + 70);
  } finally {
    now.mockRestore();
  }
});
