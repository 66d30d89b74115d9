import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { forecast, outlookText } from '../src/erasure/forecast.ts';
import { subjectVariants } from '../src/erasure/owners.ts';
import { countVariants, expectedCalls, findConflicts, type GivenIdentifier } from '../src/erasure/plan.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, type Rhythm } from '../src/erasure/rhythm.ts';

const WEEKEND: Rhythm = {
  kind: 'weekly',
  opensMs: 5 * DAY_MS,
  lengthMs: 2 * DAY_MS,
  settleMs: DAY_MS,
  spreadMs: 3 * HOUR_MS,
};
const SOON: Rhythm = { kind: 'continuous', settleMs: 10 * MINUTE_MS, spreadMs: 2 * MINUTE_MS };
const FRIDAY = Date.parse('2026-11-27T20:00:00Z');

function at(text: string): number {
  return Date.parse(text);
}

function told(rhythm: Rhythm, nowMs: number, due: string, submits = true) {
  const dueMs = at(due);
  const of = forecast(rhythm, { nowMs, dueMs, cleanReads: 2, submits });
  return { ...of, text: outlookText(of, rhythm, dueMs) };
}

describe('whether the due date can be met', () => {
  test('P36: a month away: the last weekend that still makes it is named, as an estimate', () => {
    const of = told(WEEKEND, FRIDAY, '2026-12-27T18:00:00Z');
    expect(of).toMatchObject({
      outlook: 'met',
      window: { opensMs: at('2026-11-28T00:00:00Z'), closesMs: at('2026-11-30T00:00:00Z') },
      // Closed on Monday, settled on Tuesday, and the second read a day later.
      earliestMs: at('2026-12-02T00:00:00Z'),
      submitBeforeMs: at('2026-12-19T00:00:00Z'),
    });
    expect(of.latestMs).toBeGreaterThan(of.earliestMs);
    expect(of.text).toMatch(/^can be met: .* submit before Sat 19 Dec 00:00 UTC or miss it \(an estimate/);
  });

  test('P36: due before the next weekend has settled: it cannot be met, and both dates are said', () => {
    const of = told(WEEKEND, FRIDAY, '2026-12-01T23:59:59Z');
    expect(of).toMatchObject({ outlook: 'missed', submitBeforeMs: null });
    expect(of.text).toBe(
      "cannot be met: the earliest verdict is Wed 2 Dec 00:00 UTC (an estimate: the store's window is not promised), " +
        'due Tue 1 Dec 23:59 UTC',
    );
  });

  test('P36: due soon after the next weekend: this Friday or never', () => {
    const of = told(WEEKEND, FRIDAY, '2026-12-03T12:00:00Z');
    expect(of).toMatchObject({ outlook: 'met', submitBeforeMs: at('2026-11-28T00:00:00Z') });
    // Four hours later the window has opened, and nothing says that it still picks anything up.
    expect(told(WEEKEND, FRIDAY + 4 * HOUR_MS, '2026-12-03T12:00:00Z').outlook).toBe('missed');
  });

  test('P36: only if every read comes as early as it may', () => {
    const of = told(WEEKEND, FRIDAY, '2026-12-02T01:00:00Z');
    expect(of).toMatchObject({ outlook: 'tight', submitBeforeMs: at('2026-11-28T00:00:00Z') });
    expect(of.text).toMatch(/^can only just be met/);
  });

  test('a due date that has passed cannot be met', () => {
    expect(told(SOON, FRIDAY, '2026-11-27T19:00:00Z').outlook).toBe('missed');
    expect(told(SOON, FRIDAY, '2026-11-27T19:00:00Z', false).outlook).toBe('missed');
  });

  test('a store that acts at any time has no window, and its settle time counts', () => {
    const of = told(SOON, FRIDAY, '2026-11-28T20:00:00Z');
    expect(of).toMatchObject({ outlook: 'met', window: null, earliestMs: FRIDAY + 20 * MINUTE_MS });
    expect(of.text).toMatch(/submit before Sat 28 Nov 19:\d\d UTC or miss it/);
  });

  test('with nothing to submit no window is waited for', () => {
    const of = told(WEEKEND, FRIDAY, '2026-11-29T20:00:00Z', false);
    expect(of).toMatchObject({ outlook: 'met', window: null, submitBeforeMs: null, earliestMs: FRIDAY + DAY_MS });
    expect(of.text).toMatch(/there is nothing to submit$/);
  });

  const anyRhythm = fc.oneof(
    fc.constantFrom<Rhythm>(WEEKEND, SOON),
    fc.record({
      kind: fc.constant('weekly' as const),
      opensMs: fc.integer({ min: 0, max: 6 * DAY_MS }),
      lengthMs: fc.integer({ min: HOUR_MS, max: 3 * DAY_MS }),
      settleMs: fc.integer({ min: HOUR_MS, max: 2 * DAY_MS }),
      spreadMs: fc.integer({ min: 0, max: 6 * HOUR_MS }),
    }),
  );

  test('P36: what is submitted a moment before the limit meets the due date, and a moment after it does not', () => {
    let limits = 0;
    const cases = fc.record({
      rhythm: anyRhythm,
      nowMs: fc.integer({ min: FRIDAY, max: FRIDAY + 14 * DAY_MS }),
      dueInMs: fc.integer({ min: -DAY_MS, max: 60 * DAY_MS }),
      cleanReads: fc.integer({ min: 2, max: 4 }),
    });
    fc.assert(
      fc.property(cases, ({ rhythm, nowMs, dueInMs, cleanReads }) => {
        const plan = { dueMs: nowMs + dueInMs, cleanReads, submits: true };
        const of = forecast(rhythm, { ...plan, nowMs });
        expect(of.submitBeforeMs === null).toBe(of.outlook === 'missed');
        if (of.submitBeforeMs === null) return;
        limits += 1;
        expect(of.submitBeforeMs).toBeGreaterThanOrEqual(nowMs);
        const good = of.outlook === 'met' ? ['met'] : ['tight', 'met'];
        if (of.submitBeforeMs > nowMs) {
          expect(good).toContain(forecast(rhythm, { ...plan, nowMs: of.submitBeforeMs - 1 }).outlook);
        }
        expect(good).not.toContain(forecast(rhythm, { ...plan, nowMs: of.submitBeforeMs + 1 }).outlook);
      }),
      { numRuns: 500 },
    );
    expect(limits).toBeGreaterThan(100);
  });
});

function given(...pairs: readonly (readonly [string, string])[]): readonly GivenIdentifier[] {
  return pairs.map(([kind, value]) => ({
    kind,
    value,
    spellings: subjectVariants([{ kind, value }], new Set(['email'])).get(kind)!,
  }));
}

const id = (text: string, numeric = false) => ({ kind: 'user_id', key: 'metadata.user_id', text, numeric });
const mail = (text: string) => ({ kind: 'email', key: 'metadata.email', text, numeric: false });

describe('what a plan counts', () => {
  test('P15 P31: traces by identifier and by how it is written, and never by its value', () => {
    const counted = countVariants(given(['user_id', '4711'], ['email', 'Ann@x.org'], ['user_id', '4712']), [
      [id('4711'), id('4711'), mail('Ann@x.org')],
      [id('4711', true)],
      [id('4711'), id('4711', true)],
      [id('4712'), mail('ann@x.org')],
      [id('9999'), mail('bob@x.org')],
    ]);
    expect(counted.map(({ identifier, form, spelling, traces }) => [identifier, form, spelling, traces])).toEqual([
      [1, 'number', 'as given', 2],
      [1, 'text', 'as given', 2],
      [2, 'text', 'another spelling', 1],
      [2, 'text', 'as given', 1],
      [3, 'text', 'as given', 1],
    ]);
    expect(JSON.stringify(counted)).not.toMatch(/471|x\.org/i);
  });

  test('P18: traces that one identifier matches and that carry somebody else under another kind', () => {
    const traces = [
      [id('u_1'), mail('a@x.org')],
      [id('u_2'), mail('a@x.org')],
      [id('u_3'), mail('a@x.org')],
      [id('u_1'), mail('b@x.org')],
      [mail('a@x.org')],
    ];
    const conflicts = findConflicts(given(['user_id', 'u_1'], ['email', 'a@x.org']), 'user_id', traces);
    expect(conflicts).toEqual([
      { matchedBy: 'email', carries: 'user_id', traces: 2, differentValues: 2 },
      { matchedBy: 'user_id', carries: 'email', traces: 1, differentValues: 1 },
    ]);
  });

  test('P18: of a primary kind that was not given one value is no conflict, several are', () => {
    const team = given(['email', 'team@x.org']);
    const one = [[id('u_1'), mail('team@x.org')], [mail('team@x.org'), id('u_1')], [mail('team@x.org')]];
    expect(findConflicts(team, 'user_id', one)).toEqual([]);
    expect(findConflicts(team, 'user_id', [...one, [id('u_2'), mail('team@x.org')]])).toEqual([
      { matchedBy: 'email', carries: 'user_id', traces: 3, differentValues: 2 },
    ]);
    // An empty value names nobody.
    expect(findConflicts(team, 'user_id', [...one, [id(' '), mail('team@x.org')]])).toEqual([]);
  });

  test('calls and pages follow from page and batch sizes', () => {
    const store = { finders: 2, lookups: 2, pageSize: 100, mostIdsPerCall: 1000, cleanReads: 2 };
    // 250 runs are three pages by each route; then the controls, and the call itself.
    expect(expectedCalls({ ...store, runsPerBatch: [250, 1], traces: 1001 })).toEqual({
      deletePages: 8,
      deleteCalls: 12,
      verifyPages: 12,
      verifyCalls: 16,
    });
    expect(expectedCalls({ ...store, runsPerBatch: [], traces: 0 })).toEqual({
      deletePages: 0,
      deleteCalls: 0,
      verifyPages: 4,
      verifyCalls: 8,
    });
  });
});
