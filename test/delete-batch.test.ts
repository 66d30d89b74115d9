import { describe, expect, test } from '@jest/globals';
import { lastTakenMs } from '../src/activities/delete-batch.ts';

describe('from when the window of a delete call counts', () => {
  test('P3: from the last answer, however many calls of the store it took', () => {
    expect(lastTakenMs({ acknowledgedAtMs: 120_000 }, null, 0)).toBe(120_000);
    expect(lastTakenMs({ acknowledgedAtMs: 120_000 }, { sentMs: 10, acknowledgedMs: 20 }, 100)).toBe(120_000);
  });

  test('P3: of an earlier try that was answered, from that answer', () => {
    expect(lastTakenMs(null, { sentMs: 10, acknowledgedMs: 90_000 }, 500_000)).toBe(90_000);
  });

  test('P3: of an earlier try that nobody answered, from the look that found its traces gone', () => {
    expect(lastTakenMs(null, { sentMs: 10, acknowledgedMs: null }, 500_000)).toBe(500_000);
  });

  test('nothing was ever sent: there is no window', () => {
    expect(lastTakenMs(null, null, 500_000)).toBeNull();
    expect(lastTakenMs(null, { sentMs: null, acknowledgedMs: null }, 500_000)).toBeNull();
  });
});
