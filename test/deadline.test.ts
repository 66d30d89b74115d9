import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { earliestVerdict, postponeRefusal, riskOf, type Postponable } from '../src/erasure/deadline.ts';
import { deadlinesOf } from '../src/erasure/law.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, settledAfter, type Rhythm } from '../src/erasure/rhythm.ts';
import type { ConnectionStatus } from '../src/erasure/status.ts';

const RECEIVED = Date.parse('2026-11-27T18:00:00Z');
const WEEKLY: Rhythm = {
  kind: 'weekly',
  opensMs: 5 * DAY_MS,
  lengthMs: 2 * DAY_MS,
  settleMs: DAY_MS,
  spreadMs: 6 * HOUR_MS,
};
const CONTINUOUS: Rhythm = { kind: 'continuous', settleMs: 2 * MINUTE_MS, spreadMs: 0 };

describe('postponeRefusal', () => {
  const deadlines = deadlinesOf('gdpr', RECEIVED, 'Europe/Berlin');
  const at: Postponable = {
    deadlines,
    extension: null,
    dueAtMs: deadlines.firstDueAtMs ?? 0,
    nowMs: RECEIVED + 10 * DAY_MS,
  };
  const message = { requestedBy: 'ines', reason: 'many systems', notifiedOn: '2026-12-05' };

  test('P36: within the first period, on notice and once, a request may be postponed', () => {
    expect(postponeRefusal(message, at)).toBeNull();
    expect(postponeRefusal({ ...message, notifiedOn: '2026-11-27' }, at)).toBeNull();
    expect(postponeRefusal(message, { ...at, nowMs: deadlines.firstDueAtMs ?? 0 })).toBeNull();
  });

  test.each<readonly [string, Partial<typeof message>, Partial<Postponable>, RegExp]>([
    ['no day', { notifiedOn: 'today' }, {}, /"notifiedOn" must be/],
    ['a day before the receipt', { notifiedOn: '2026-11-26' }, {}, /before the receipt/],
    ['a day that is still to come', { notifiedOn: '2026-12-09' }, {}, /lies in the future/],
    ['the first period over', {}, { nowMs: (deadlines.firstDueAtMs ?? 0) + 1 }, /first period ended/],
    [
      'a postponement made already',
      {},
      { extension: { toMs: 1, by: 'x', atMs: 0, notifiedOn: '2026-12-01' } },
      /postponed already/,
    ],
    ['no law', {}, { deadlines: deadlinesOf('none', RECEIVED, 'UTC') }, /no law/],
    ['a start by an earlier release', {}, { deadlines: undefined }, /no law/],
    ['a due date of one’s own that is later', {}, { dueAtMs: deadlines.extendedDueAtMs ?? 0 }, /due later already/],
  ])('P36: refused with %s', (_what, change, state, why) => {
    expect(postponeRefusal({ ...message, ...change }, { ...at, ...state })).toMatch(why);
  });
});

describe('earliestVerdict', () => {
  const none = { settledAtMs: null, cleanReads: 0, lastCountedAtMs: null, wanted: 2 };

  test('what is submitted on a Monday is done by the next weekend and read twice after it', () => {
    const nowMs = Date.parse('2026-11-23T20:00:00Z');
    expect(earliestVerdict(WEEKLY, { ...none, nowMs, submits: true })).toBe(Date.parse('2026-12-02T00:00:00Z'));
    expect(earliestVerdict(CONTINUOUS, { ...none, nowMs, submits: true })).toBe(nowMs + 4 * MINUTE_MS);
  });

  test('a counted read leaves the others, a settle time after it', () => {
    const nowMs = Date.parse('2026-12-01T00:00:00Z');
    const outlook = { ...none, nowMs, submits: false, settledAtMs: nowMs };
    expect(earliestVerdict(WEEKLY, { ...outlook, cleanReads: 1, lastCountedAtMs: nowMs })).toBe(nowMs + DAY_MS);
    expect(earliestVerdict(WEEKLY, outlook)).toBe(nowMs + DAY_MS);
    expect(earliestVerdict(WEEKLY, { ...outlook, wanted: 1 })).toBe(nowMs);
  });

  test('it never lies before now or before what was submitted has settled, and a submit makes it no earlier', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(WEEKLY, CONTINUOUS),
        fc.integer({ min: RECEIVED, max: RECEIVED + 60 * DAY_MS }),
        fc.integer({ min: 0, max: 10 * DAY_MS }),
        fc.integer({ min: 2, max: 10 }),
        fc.nat(9),
        (rhythm, nowMs, agoMs, wanted, reads) => {
          const cleanReads = Math.min(reads, wanted - 1);
          const settledAtMs = settledAfter(rhythm, nowMs - agoMs);
          const lastCountedAtMs = cleanReads > 0 ? nowMs : null;
          const outlook = { nowMs, settledAtMs, cleanReads, lastCountedAtMs, wanted };
          const waits = earliestVerdict(rhythm, { ...outlook, submits: false });
          expect(waits).toBeGreaterThanOrEqual(
            Math.max(nowMs, settledAtMs) + (wanted - cleanReads - 1) * rhythm.settleMs,
          );
          const submits = earliestVerdict(rhythm, { ...outlook, submits: true });
          expect(submits).toBeGreaterThanOrEqual(settledAfter(rhythm, nowMs) + (wanted - 1) * rhythm.settleMs);
          expect(submits).toBeGreaterThanOrEqual(waits);
        },
      ),
    );
  });
});

describe('riskOf', () => {
  const lane = (earliestVerdictAt: string | null) => ({ earliestVerdictAt }) as ConnectionStatus;
  const status = {
    connections: { slow: lane('2026-12-28T00:00:00.000Z'), fast: lane('2026-12-01T00:00:00.000Z'), new: lane(null) },
    dueAt: '2026-12-27T23:59:59.999Z',
    endedAt: null,
    dryRun: false,
  };

  test('P36: the lanes that cannot end in time are named, and no others', () => {
    const { atRisk, atRiskReason } = riskOf(status);
    expect(atRisk).toBe(true);
    expect(atRiskReason).toMatch(
      /^slow can be done Mon 28 Dec 00:00 UTC at the earliest, .* due Sun 27 Dec 23:59 UTC$/,
    );
  });

  test.each([
    ['on the very due date', { dueAt: '2026-12-28T00:00:00.000Z' }],
    ['once ended', { endedAt: '2026-12-28T00:00:00.000Z' }],
    ['of a plan', { dryRun: true }],
  ])('nothing is at risk %s', (_what, change) => {
    expect(riskOf({ ...status, ...change })).toEqual({ atRisk: false, atRiskReason: null });
  });
});
