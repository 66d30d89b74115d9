import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  addBusinessDays,
  addDays,
  addMonths,
  dayAt,
  deadlinesOf,
  endOfDay,
  formatDay,
  formatInZone,
  isDay,
  isZone,
  type CalendarDay,
} from '../src/erasure/law.ts';
import { DAY_MS, HOUR_MS } from '../src/erasure/rhythm.ts';

const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/Los_Angeles',
  'America/Sao_Paulo',
  'Asia/Kolkata',
  'Asia/Beirut',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Pacific/Kiritimati',
  'America/Havana',
] as const;

const zone = fc.constantFrom(...ZONES);
/** 2015 to 2035. */
const instant = fc.integer({ min: Date.UTC(2015, 0, 1), max: Date.UTC(2035, 0, 1) });
const day = instant.map((ms) => dayAt(ms, 'UTC'));

function at(text: string): CalendarDay {
  const [year = 0, month = 0, date = 0] = text.split('-').map(Number);
  return { year, month, day: date };
}

function asUtc({ year, month, day: date }: CalendarDay): number {
  return Date.UTC(year, month - 1, date);
}

describe('P36: calendar periods', () => {
  test.each([
    ['2026-01-31', 1, '2026-02-28'],
    ['2028-01-31', 1, '2028-02-29'],
    ['2026-08-31', 1, '2026-09-30'],
    ['2026-12-15', 1, '2027-01-15'],
    ['2026-11-30', 3, '2027-02-28'],
    ['2026-03-05', 1, '2026-04-05'],
    ['2026-01-31', 3, '2026-04-30'],
  ])('P36: %s and %d months is %s', (from, months, to) => {
    expect(formatDay(addMonths(at(from), months))).toBe(to);
  });

  test('P36: months end in the right month, on the same day or that month’s last one', () => {
    fc.assert(
      fc.property(day, fc.integer({ min: 0, max: 30 }), (from, months) => {
        const to = addMonths(from, months);
        expect(to.year * 12 + to.month - (from.year * 12 + from.month)).toBe(months);
        if (to.day !== from.day) {
          expect(to.day).toBeLessThan(from.day);
          expect(addDays(to, 1).day).toBe(1);
        }
      }),
    );
  });

  test.each([
    // A Friday, a Saturday, a Sunday, a Monday; from there ten days without weekends.
    ['2026-11-27', '2026-12-11'],
    ['2026-11-28', '2026-12-11'],
    ['2026-11-29', '2026-12-11'],
    ['2026-11-30', '2026-12-14'],
  ])('P36: ten business days after %s is %s', (from, to) => {
    expect(formatDay(addBusinessDays(at(from), 10))).toBe(to);
  });

  test('P36: business days end on none of a weekend, and skip nothing else', () => {
    fc.assert(
      fc.property(day, fc.integer({ min: 1, max: 40 }), (from, days) => {
        const to = addBusinessDays(from, days);
        let counted = 0;
        for (let one = addDays(from, 1); asUtc(one) <= asUtc(to); one = addDays(one, 1)) {
          if (![0, 6].includes(new Date(asUtc(one)).getUTCDay())) counted += 1;
        }
        expect(counted).toBe(days);
        expect([0, 6]).not.toContain(new Date(asUtc(to)).getUTCDay());
      }),
    );
  });
});

describe('P36: ends of day in a zone', () => {
  test.each([
    ['2026-12-27', 'UTC', '2026-12-27T23:59:59.999Z'],
    ['2026-12-27', 'Europe/Berlin', '2026-12-27T22:59:59.999Z'],
    // Both nights on which the clocks change.
    ['2026-03-29', 'Europe/Berlin', '2026-03-29T21:59:59.999Z'],
    ['2026-10-25', 'Europe/Berlin', '2026-10-25T22:59:59.999Z'],
    ['2026-03-08', 'America/Los_Angeles', '2026-03-09T06:59:59.999Z'],
    ['2026-12-27', 'Pacific/Kiritimati', '2026-12-27T09:59:59.999Z'],
    // At midnight the clocks went from 24:00 on to 01:00: the next day had no first hour.
    ['2018-11-03', 'America/Sao_Paulo', '2018-11-04T02:59:59.999Z'],
    // At midnight they went back to 23:00: the day had two last hours.
    ['2018-02-17', 'America/Sao_Paulo', '2018-02-18T02:59:59.999Z'],
    // This day never was: the one before ended where it would have begun.
    ['2011-12-30', 'Pacific/Apia', '2011-12-30T09:59:59.999Z'],
  ])('P36: %s in %s ends %s', (text, name, end) => {
    expect(new Date(endOfDay(at(text), name)).toISOString()).toBe(end);
  });

  test('P36: the last millisecond is still of the day, the next one is of the next', () => {
    fc.assert(
      fc.property(day, zone, (one, name) => {
        const end = endOfDay(one, name);
        expect(dayAt(end, name)).toEqual(one);
        expect(dayAt(end + 1, name)).toEqual(addDays(one, 1));
        expect(Math.abs(end - (asUtc(one) + DAY_MS))).toBeLessThanOrEqual(15 * HOUR_MS);
      }),
    );
  });
});

describe('deadlinesOf', () => {
  const received = Date.parse('2026-01-31T22:30:00Z');

  test('P36: the GDPR gives a calendar month, and two more on notice, counted from the receipt', () => {
    expect(deadlinesOf('gdpr', received, 'UTC')).toEqual({
      law: 'gdpr',
      zone: 'UTC',
      receivedOn: '2026-01-31',
      confirmByMs: null,
      firstDueAtMs: Date.parse('2026-02-28T23:59:59.999Z'),
      extendedDueAtMs: Date.parse('2026-04-30T23:59:59.999Z'),
    });
    // In Tokyo it is February already.
    expect(deadlinesOf('gdpr', received, 'Asia/Tokyo')).toMatchObject({
      receivedOn: '2026-02-01',
      firstDueAtMs: Date.parse('2026-03-01T14:59:59.999Z'),
    });
  });

  test('P36: the CCPA wants a confirmation within ten business days and an answer within 45 days, 90 on notice', () => {
    expect(deadlinesOf('ccpa', received, 'America/Los_Angeles')).toEqual({
      law: 'ccpa',
      zone: 'America/Los_Angeles',
      receivedOn: '2026-01-31',
      confirmByMs: Date.parse('2026-02-14T07:59:59.999Z'),
      firstDueAtMs: Date.parse('2026-03-18T06:59:59.999Z'),
      extendedDueAtMs: Date.parse('2026-05-02T06:59:59.999Z'),
    });
  });

  test('without a law nothing is due by law, and nothing can be extended', () => {
    expect(deadlinesOf('none', received, 'UTC')).toMatchObject({
      confirmByMs: null,
      firstDueAtMs: null,
      extendedDueAtMs: null,
    });
  });

  test('P36: whenever and wherever, a month is 28 to 32 days, and every deadline lies behind the one before', () => {
    fc.assert(
      fc.property(instant, zone, fc.constantFrom('gdpr' as const, 'ccpa' as const), (ms, name, law) => {
        const { confirmByMs, firstDueAtMs, extendedDueAtMs } = deadlinesOf(law, ms, name);
        const days = ((firstDueAtMs ?? 0) - ms) / DAY_MS;
        expect(days).toBeGreaterThan(law === 'gdpr' ? 27.9 : 44.9);
        expect(days).toBeLessThan(law === 'gdpr' ? 32.1 : 46.1);
        expect(extendedDueAtMs ?? 0).toBeGreaterThan(firstDueAtMs ?? 0);
        if (confirmByMs !== null) {
          expect(confirmByMs).toBeGreaterThan(ms);
          expect(confirmByMs).toBeLessThan(firstDueAtMs ?? 0);
        }
      }),
    );
  });
});

test.each([
  ['UTC', true],
  ['Europe/Berlin', true],
  ['America/Argentina/Buenos_Aires', true],
  ['Etc/GMT+5', true],
  ['+02:00', false],
  ['Berlin', false],
  ['Europe/Nowhere', false],
  ['', false],
])('%j is a zone: %s', (text, expected) => {
  expect(isZone(text)).toBe(expected);
});

test.each([
  ['2026-02-28', true],
  ['2026-02-29', false],
  ['2028-02-29', true],
  ['2026-13-01', false],
  ['26-01-01', false],
  ['2026-01-01T00:00:00Z', false],
])('%j is a day: %s', (text, expected) => {
  expect(isDay(text)).toBe(expected);
});

test('P36: an instant is printed as clocks in the zone show it, with the zone', () => {
  expect(formatInZone(Date.parse('2026-12-27T22:59:59.999Z'), 'Europe/Berlin')).toBe('2026-12-27 23:59 Europe/Berlin');
  expect(formatInZone(Date.parse('2026-12-27T00:05:00Z'), 'UTC')).toBe('2026-12-27 00:05 UTC');
});
