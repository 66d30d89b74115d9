import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import assert from 'node:assert/strict';
import { realSpanMs, virtualAt, type Clock } from '../src/erasure/clock.ts';
import {
  abandoned,
  attentionOf,
  begun,
  connectionStatus,
  deleted,
  holdExpired,
  newLane,
  nextCommand,
  ordered,
  planned,
  refusal,
  statusOf,
  troubled,
  verified,
  type Command,
  type LaneState,
} from '../src/erasure/lane.ts';
import {
  EMPTY_COPIES,
  EMPTY_GIVEN,
  EMPTY_TRACES,
  imbalances,
  type GivenLedger,
  type TraceLedger,
} from '../src/erasure/ledger.ts';
import { isVerdict } from '../src/erasure/outcome.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, settledAfter, type Rhythm } from '../src/erasure/rhythm.ts';
import { connectionStatusSchema } from '../src/erasure/status.ts';
import {
  TROUBLES,
  type DeleteAnswer,
  type LaneFigures,
  type ResolveAnswer,
  type Trouble,
  type VerifyAnswer,
} from '../src/erasure/steps.ts';
import { LANE_VERBS, type LaneVerb, type OperatorMessage } from '../src/erasure/verbs.ts';

/** A Wednesday. */
const T0 = Date.parse('2026-11-25T09:00:00Z');
const SETTLED = Date.parse('2026-12-01T00:00:00Z');
const NAME = 'prod';

const holdUntil = (untilMs: number, autoRelease: boolean): OperatorMessage => ({
  requestedBy: 'ines',
  reason: 'ticket 4711',
  until: new Date(untilMs).toISOString(),
  autoRelease,
});

function figures(states: Partial<TraceLedger> = {}, given: Partial<GivenLedger> = {}): LaneFigures {
  const sum = (counts: Readonly<Record<string, number | undefined>>) =>
    Object.values(counts).reduce<number>((all, count) => all + (count ?? 0), 0);
  return {
    given: { ...EMPTY_GIVEN, ...given, total: sum(given) },
    traces: { ...EMPTY_TRACES, ...states, matched: sum(states) },
    copies: EMPTY_COPIES,
    exceptions: [],
  };
}

function plan(more: Partial<ResolveAnswer> = {}): ResolveAnswer {
  return {
    kind: 'planned',
    atMs: T0,
    clock: null,
    policy: { cleanReads: 2, flagAfterRounds: 3 },
    searched: { user_id: ['metadata.user_id'] },
    book: { name: 'prod/book-1', digest: 'd1' },
    batches: [1000, 500],
    stop: null,
    nextCheckAtMs: T0 + DAY_MS,
    cleanReads: 0,
    ...figures({ pending: 1500 }),
    ...more,
  };
}

function receipt(more: Partial<DeleteAnswer> = {}): DeleteAnswer {
  return {
    kind: 'submitted',
    atMs: T0,
    submitted: 1000,
    absent: 0,
    pulled: 0,
    settledAtMs: SETTLED,
    nextCheckAtMs: SETTLED + MINUTE_MS,
    ...more,
  };
}

const NOTHING_SENT = { submitted: 0, absent: 500, settledAtMs: null, nextCheckAtMs: null } as const;

function read(more: Partial<VerifyAnswer> = {}): VerifyAnswer {
  return {
    kind: 'clean',
    atMs: SETTLED,
    counted: true,
    why: null,
    cleanReads: 1,
    lastCountedAtMs: SETTLED,
    book: { name: 'prod/book-9', digest: 'd9' },
    batches: [],
    resubmit: false,
    nextCheckAtMs: SETTLED + DAY_MS,
    verdict: null,
    ...figures({ pending: 1500 }),
    ...more,
  };
}

const SURVIVORS: Partial<VerifyAnswer> = {
  kind: 'survivors',
  counted: false,
  why: '7 traces survived',
  cleanReads: 0,
  lastCountedAtMs: null,
  batches: [7],
  resubmit: true,
  ...figures({ pending: 1493, survived: 7 }),
};

const STILL_THERE: Partial<VerifyAnswer> = {
  ...SURVIVORS,
  why: '7 traces still readable; not settled yet',
  resubmit: false,
  nextCheckAtMs: SETTLED + MINUTE_MS,
  ...figures({ pending: 1500 }),
};

const BLIND: Partial<VerifyAnswer> = {
  kind: 'inconclusive',
  counted: false,
  why: 'it may be blind',
  cleanReads: 0,
  lastCountedAtMs: null,
};

function trouble(more: Partial<Trouble> = {}): Trouble {
  return {
    kind: 'trouble',
    reason: 'unreachable',
    text: 'the store does not answer',
    notBeforeMs: null,
    atMs: T0,
    clock: null,
    ...more,
  };
}

const at = {
  resolving: newLane(NAME, 0),
  deleting: planned(newLane(NAME, 0), plan(), false),
  stopped: planned(newLane(NAME, 0), plan({ stop: '20,000 traces match' }), false),
  waiting: deleted(deleted(planned(newLane(NAME, 0), plan(), false), receipt()), receipt()),
  get verifying() {
    return begun(this.waiting, 'verify');
  },
  get clean() {
    return verified(this.verifying, read(), 0);
  },
  get ended() {
    return verified(
      begun(this.clean, 'verify'),
      read({ verdict: 'verified', ...figures({ verifiedAbsent: 1500 }) }),
      0,
    );
  },
};

function order(lane: LaneState, verb: LaneVerb, nowMs = T0): LaneState {
  expect(refusal(lane, verb)).toBeNull();
  return ordered(lane, verb, nowMs)[0];
}

describe('an ordinary lane', () => {
  test('P2 P3: plans, deletes batch by batch, waits for the window, and ends only by a verdict of a read', () => {
    let lane = newLane(NAME, 0);
    expect(nextCommand(lane, T0)).toEqual({ do: 'resolve' });
    lane = planned(begun(lane, 'resolve'), plan(), false);
    expect(lane).toMatchObject({ phase: 'deleting', round: 1, step: 1, nextBatch: 0 });
    expect(nextCommand(lane, T0)).toEqual({ do: 'delete' });
    lane = deleted(begun(lane, 'delete'), receipt());
    expect(nextCommand(lane, T0)).toEqual({ do: 'delete' });
    lane = deleted(begun(lane, 'delete'), receipt({ nextCheckAtMs: SETTLED + 2 * MINUTE_MS }));
    expect(statusOf(lane, T0)).toBe('waiting');
    expect(nextCommand(lane, T0)).toEqual({
      do: 'wait',
      untilMs: SETTLED + 2 * MINUTE_MS,
      summary: 'until Tue 1 Dec 00:02 UTC',
    });
    expect(nextCommand(lane, SETTLED + 2 * MINUTE_MS)).toEqual({ do: 'verify' });
    lane = verified(begun(lane, 'verify'), read(), 0);
    expect(lane).toMatchObject({ phase: 'waiting', cleanReads: 1, step: 4, verdict: null });
    lane = verified(begun(lane, 'verify'), read({ cleanReads: 2, verdict: 'verified' }), 0);
    expect(nextCommand(lane, T0)).toEqual({ do: 'end' });
    expect(connectionStatus(lane, T0)).toMatchObject({ status: 'verified', nextCheckAt: null, attention: null });
  });

  test('P3: the last receipt of a round decides when it settles, whatever order they come in', () => {
    const [early, late] = [receipt(), receipt({ settledAtMs: SETTLED + DAY_MS, nextCheckAtMs: SETTLED + 2 * DAY_MS })];
    for (const receipts of [
      [early, late],
      [late, early],
      [late, receipt(NOTHING_SENT)],
    ] as const) {
      const lane = receipts.reduce<LaneState>(deleted, at.deleting);
      expect(lane).toMatchObject({ settledAtMs: SETTLED + DAY_MS, nextCheckAtMs: SETTLED + 2 * DAY_MS });
    }
  });

  test('P3: a plan that found nothing is the first clean read, and the second comes a settle time later', () => {
    const lane = planned(newLane(NAME, 0), plan({ batches: [], cleanReads: 1, ...figures() }), false);
    expect(lane).toMatchObject({ phase: 'waiting', round: 0, cleanReads: 1, lastCountedAtMs: T0 });
    expect(nextCommand(lane, T0 + DAY_MS - 1)).toMatchObject({ do: 'wait', untilMs: T0 + DAY_MS });
    expect(nextCommand(lane, T0 + DAY_MS)).toEqual({ do: 'verify' });
  });

  test('P29: before the plan, and when abandoned before it, every id given is still unresolved', () => {
    const lane = newLane(NAME, 40);
    for (const { given } of [lane.figures, abandoned(lane).figures]) {
      expect(given).toMatchObject({ total: 40, unresolved: 40 });
      expect(imbalances({ ...lane.figures, given })).toEqual([]);
    }
  });

  test('a dry run ends with its plan, and says no verdict', () => {
    const lane = planned(newLane(NAME, 0), plan({ stop: 'too many' }), true);
    expect(lane).toMatchObject({ phase: 'ended', verdict: null, round: 0 });
    expect(nextCommand(lane, T0)).toEqual({ do: 'end' });
  });

  test('P18: a plan that needs a person deletes nothing until one has spoken', () => {
    expect(statusOf(at.stopped, T0)).toBe('awaiting-approval');
    expect(nextCommand(at.stopped, T0 + 365 * DAY_MS)).toMatchObject({ do: 'wait', untilMs: null });
    expect(attentionOf(at.stopped, T0)).toMatchObject({ reason: 'approval', next: '20,000 traces match' });
    expect(refusal(at.stopped, 'checkNow')).toMatch(/before its first delete/);
    const again = order(at.stopped, 'retry');
    expect(nextCommand(again, T0)).toEqual({ do: 'resolve' });
    expect(again).toMatchObject({ round: 0, flag: null });
  });
});

describe('rounds', () => {
  test('P3: survivors are submitted again at once, and what was counted is forgotten', () => {
    const lane = verified(begun(at.clean, 'verify'), read(SURVIVORS), 0);
    expect(lane).toMatchObject({ phase: 'deleting', round: 2, nextBatch: 0, batches: [7], cleanReads: 0 });
    expect(lane.lastCountedAtMs).toBeNull();
    expect(nextCommand(lane, SETTLED)).toEqual({ do: 'delete' });
  });

  test('P3: newcomers seen before the window do not make Lethe forget what has not settled yet', () => {
    const looked = begun(order(at.waiting, 'checkNow'), 'verify');
    const newcomers = read({ ...SURVIVORS, kind: 'newcomers', why: '1 trace not seen before', atMs: T0 + HOUR_MS });
    const round2 = verified(looked, newcomers, 0);
    expect(round2).toMatchObject({ phase: 'deleting', round: 2, settledAtMs: SETTLED });
    // The newcomer is gone or somebody else's by the time of its delete call: nothing is sent in this round.
    expect(deleted(round2, receipt({ ...NOTHING_SENT, atMs: T0 + HOUR_MS })).settledAtMs).toBe(SETTLED);
  });

  test('a whole round with nothing left to send is read back without waiting for a window', () => {
    const lane = [receipt(NOTHING_SENT), receipt(NOTHING_SENT)].reduce<LaneState>(deleted, at.deleting);
    expect(lane).toMatchObject({ phase: 'waiting', settledAtMs: null, nextCheckAtMs: T0 });
    expect(nextCommand(lane, T0)).toEqual({ do: 'verify' });
  });

  test('P26: a trace that searches show and look-ups do not is asked for with growing pauses, not without end', () => {
    const gaps: number[] = [];
    let lane = at.waiting;
    let nowMs = SETTLED;
    for (let round = 0; round < 12; round += 1) {
      lane = verified(begun(lane, 'verify'), read({ ...SURVIVORS, atMs: nowMs }), 0);
      lane = deleted(begun(lane, 'delete'), receipt({ ...NOTHING_SENT, atMs: nowMs }));
      const command = nextCommand(lane, nowMs);
      const untilMs = command.do === 'wait' ? (command.untilMs ?? Infinity) : nowMs;
      gaps.push((untilMs - nowMs) / MINUTE_MS);
      nowMs = untilMs;
    }
    expect(gaps).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    expect(attentionOf(lane, nowMs)).toMatchObject({ reason: 'survivors' });
  });

  test('from the configured round on an operator is told, and the lane goes on', () => {
    const flags: (string | undefined)[] = [];
    let lane = at.waiting;
    for (let round = 1; round <= 5; round += 1) {
      lane = verified(begun(lane, 'verify'), read({ ...SURVIVORS, atMs: SETTLED + round * DAY_MS }), 0);
      flags.push(lane.flag?.reason);
      expect(nextCommand(lane, SETTLED)).toEqual({ do: 'delete' });
      lane = deleted(lane, receipt());
    }
    expect(flags).toEqual([undefined, undefined, 'survivors', 'survivors', 'survivors']);
    expect(lane.flag).toMatchObject({ sinceMs: SETTLED + 3 * DAY_MS });
    expect(lane.flag?.text).toMatch(/^7 traces still readable after 5 rounds/);
    expect(statusOf(lane, T0)).toBe('needs-operator');
  });

  test('P26: an extra look that still sees them does not take the operator’s flag away; a clean read does', () => {
    let lane = at.waiting;
    for (let round = 1; round <= 3; round += 1) {
      lane = deleted(verified(begun(lane, 'verify'), read(SURVIVORS), 0), receipt());
    }
    const { flag } = lane;
    expect(flag).toMatchObject({ reason: 'survivors' });
    const looked = verified(begun(order(lane, 'checkNow'), 'verify'), read(STILL_THERE), 0);
    expect(looked.flag).toEqual(flag);
    expect(verified(begun(looked, 'verify'), read({ counted: false, cleanReads: 0 }), 0).flag).toBeNull();
  });

  test('newcomers in round after round: a source still writes', () => {
    let lane = at.waiting;
    for (let round = 1; round <= 3; round += 1) {
      expect(lane.flag).toBeNull();
      lane = deleted(verified(begun(lane, 'verify'), read({ ...SURVIVORS, kind: 'newcomers' }), 0), receipt());
    }
    expect(lane.flag).toMatchObject({ reason: 'new-traces' });
    lane = verified(begun(lane, 'verify'), read(SURVIVORS), 0);
    expect(lane).toMatchObject({ newcomerRounds: 0, flag: { reason: 'survivors' } });
  });
});

describe('reads that prove nothing', () => {
  test('P3: they neither count nor submit, and are repeated with growing pauses', () => {
    let lane = at.clean;
    const waits: number[] = [];
    for (let count = 1; count <= 4; count += 1) {
      lane = verified(
        begun(lane, 'verify'),
        read({ ...BLIND, cleanReads: 1, lastCountedAtMs: SETTLED, nextCheckAtMs: SETTLED }),
        0,
      );
      expect(lane).toMatchObject({ phase: 'waiting', cleanReads: 1, unproven: count });
      waits.push(((lane.nextCheckAtMs ?? 0) - SETTLED) / MINUTE_MS);
    }
    expect(waits).toEqual([1, 2, 4, 8]);
    expect(attentionOf(lane, T0)).toMatchObject({ reason: 'inconclusive' });
    const healed = verified(begun(lane, 'verify'), read({ cleanReads: 2, lastCountedAtMs: SETTLED + DAY_MS }), 0);
    expect(healed).toMatchObject({ unproven: 0, flag: null });
  });

  test('P23: after a blind read an operator’s retry still knows what the round was about', () => {
    const lane = verified(at.verifying, read({ ...BLIND, batches: [] }), 0);
    expect(order(lane, 'retry')).toMatchObject({ phase: 'deleting', batches: [1000, 500], nextBatch: 0, round: 2 });
  });

  test('P23: after a clean one there is nothing to submit, whatever a blind one says later', () => {
    const lane = verified(begun(at.clean, 'verify'), read({ ...BLIND, cleanReads: 1 }), 0);
    for (const state of [at.clean, lane]) {
      const [again, text] = ordered(state, 'retry', SETTLED);
      expect(nextCommand(again, SETTLED)).toEqual({ do: 'verify' });
      expect(text).toMatch(/nothing left to submit/);
    }
  });
});

describe('trouble', () => {
  test.each(TROUBLES)('P26: %s keeps the phase, has a next try with a time, and heals by itself', (reason) => {
    for (const [phase, command] of [
      ['resolving', 'resolve'],
      ['deleting', 'delete'],
      ['waiting', 'verify'],
    ] as const) {
      const lane = troubled(begun(at[phase], command), trouble({ reason }), 0);
      expect(nextCommand(lane, T0)).toMatchObject({ do: 'wait', untilMs: T0 + MINUTE_MS });
      expect(nextCommand(lane, T0 + MINUTE_MS)).toEqual({ do: command });
      expect(connectionStatus(lane, T0).nextCheckAt).toBe(new Date(T0 + MINUTE_MS).toISOString());
    }
    expect(deleted(troubled(at.deleting, trouble({ reason }), 0), receipt()).trouble).toBeNull();
  });

  test('P26: what passes by itself asks for an operator after an hour, everything else at once', () => {
    const passing = troubled(at.deleting, trouble(), 0);
    expect(attentionOf(passing, T0 + HOUR_MS - 1)).toBeNull();
    expect(attentionOf(passing, T0 + HOUR_MS)).toMatchObject({ reason: 'unreachable', sinceMs: T0 });
    expect(statusOf(passing, T0)).toBe('erasing');
    expect(statusOf(troubled(at.deleting, trouble({ reason: 'denied' }), 0), T0)).toBe('needs-operator');
  });

  test('P26: pauses grow to six hours and are never shorter than the store asks for', () => {
    let lane = at.deleting;
    const waits: number[] = [];
    for (let probe = 0; probe < 12; probe += 1) {
      const atMs = T0 + probe * DAY_MS;
      lane = troubled(lane, trouble({ atMs }), 0);
      waits.push(((lane.trouble?.nextProbeAtMs ?? 0) - atMs) / MINUTE_MS);
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    const throttled = trouble({ reason: 'throttled', notBeforeMs: T0 + 5 * HOUR_MS });
    expect(troubled(at.deleting, throttled, 0).trouble?.nextProbeAtMs).toBe(T0 + 5 * HOUR_MS);
    expect(lane.trouble).toMatchObject({ sinceMs: T0, probes: 11 });
  });

  describe('P26: a batch', () => {
    const after = (troubles: readonly Partial<Trouble>[]): LaneState =>
      troubles.reduce<LaneState>((lane, more) => troubled(lane, trouble(more), 0), at.deleting);
    const refused = { reason: 'rejected', refused: true } as const;
    const silent = { reason: 'unreachable' } as const;

    test('that the store refuses three times is left out, and only refusals count', () => {
      expect(after([silent, silent, refused])).toMatchObject({ nextBatch: 0, trouble: { kind: 'rejected' } });
      expect(after([refused, silent, refused])).toMatchObject({ nextBatch: 0 });
      const without = after([refused, silent, refused, refused]);
      expect(without).toMatchObject({ phase: 'deleting', nextBatch: 1, trouble: null, flag: { reason: 'rejected' } });
      expect(nextCommand(without, T0)).toEqual({ do: 'delete' });
    });

    test('is left out as it was while an earlier release, which counted every try, answers', () => {
      expect(after([silent, silent, { reason: 'rejected' }])).toMatchObject({ nextBatch: 1, trouble: null });
    });

    test('P19: is never left out for a kill switch, which concerns them all, and somebody is asked for at once', () => {
      const lane = after(Array.from({ length: 9 }, () => ({ reason: 'switched-off' as const })));
      expect(lane).toMatchObject({ phase: 'deleting', nextBatch: 0, round: 1 });
      expect(attentionOf(lane, T0)).toMatchObject({ reason: 'switched-off' });
      expect(statusOf(lane, T0)).toBe('needs-operator');
      expect(nextCommand(order(lane, 'retry'), T0)).toEqual({ do: 'delete' });
    });
  });

  test('a lane that never had a plan learns its clock from its trouble', () => {
    const clock = { realMs: T0, virtualMs: T0 + 365 * DAY_MS, speed: 1000 };
    const lane = troubled(newLane(NAME, 0), trouble({ clock, atMs: T0 + 365 * DAY_MS }), 0);
    expect(nextCommand(lane, T0 + 60)).toEqual({ do: 'resolve' });
    expect(troubled(lane, trouble(), 0).clock).toEqual(clock);
  });

  test('checkNow and retry cut a pause short once', () => {
    for (const verb of ['checkNow', 'retry'] as const) {
      const lane = order(troubled(at.deleting, trouble(), 0), verb);
      expect(nextCommand(lane, T0)).toEqual({ do: 'delete' });
      expect(nextCommand(troubled(begun(lane, 'delete'), trouble(), 0), T0)).toMatchObject({ do: 'wait' });
    }
  });
});

describe('verbs', () => {
  const open = ['resolving', 'deleting', 'stopped', 'waiting', 'verifying', 'clean'] as const;

  test.each(open)('P27: hold stops a lane that is %s, and wins over retry and checkNow', (name) => {
    const held = order(at[name], 'hold');
    expect(nextCommand(held, T0 + 365 * DAY_MS)).toMatchObject({ do: 'wait', untilMs: null });
    expect(statusOf(held, T0)).toBe('held');
    for (const verb of ['retry', 'checkNow'] as const) expect(refusal(held, verb)).toMatch(/held; release it first/);
    expect(refusal(held, 'hold')).toMatch(/held already/);
    expect(connectionStatus(held, T0).nextCheckAt).toBeNull();
    expect(order(held, 'release')).toEqual(at[name]);
  });

  test.each(open)(
    'P27: a hold with an end stops a lane that is %s until then, and longer unless told otherwise',
    (name) => {
      const untilMs = SETTLED + DAY_MS;
      for (const autoRelease of [false, true]) {
        const [held] = ordered(at[name], 'hold', T0, holdUntil(untilMs, autoRelease));
        expect(nextCommand(held, untilMs - 1)).toMatchObject({ do: 'wait', untilMs });
        expect(statusOf(held, T0)).toBe('held');
        expect(refusal(held, 'hold')).toMatch(/held already/);
        expect(nextCommand(held, untilMs)).toEqual({ do: 'expire' });
        const after = holdExpired(held);
        if (autoRelease) {
          expect(after).toEqual(at[name]);
          continue;
        }
        expect(nextCommand(after, untilMs + DAY_MS)).toMatchObject({ do: 'wait', untilMs: null });
        expect(statusOf(after, untilMs)).toBe('needs-operator');
        expect(attentionOf(after, untilMs)).toMatchObject({ reason: 'hold-expired', sinceMs: untilMs });
        expect(refusal(after, 'retry')).toMatch(/held; release it first/);
        const [again] = ordered(after, 'hold', untilMs, holdUntil(untilMs + DAY_MS, autoRelease));
        expect(statusOf(again, untilMs)).toBe('held');
        expect(order(after, 'release')).toEqual(at[name]);
      }
    },
  );

  test.each(open)('abandon ends a lane that is %s, and says what cannot be recalled', (name) => {
    for (const lane of [at[name], order(at[name], 'hold'), troubled(at[name], trouble(), 0)]) {
      const [after, text] = ordered(lane, 'abandon', T0);
      expect(after).toMatchObject({
        phase: 'ended',
        verdict: 'abandoned',
        heldSinceMs: null,
        trouble: null,
        flag: null,
      });
      expect(imbalances(after.figures)).toEqual([]);
      expect(after.figures.traces.pending).toBe(0);
      expect(text.includes('cannot be recalled')).toBe(lane.round > 0);
    }
  });

  test.each(LANE_VERBS)('%s on an ended lane is refused', (verb) => {
    expect(refusal(at.ended, verb)).toMatch(/prod has ended/);
    expect(refusal(abandoned(at.waiting), verb)).toMatch(/prod has ended/);
  });

  test('release without a hold is refused', () => {
    for (const name of open) expect(refusal(at[name], 'release')).toMatch(/not held/);
  });

  test('P3: checkNow reads once, now, and is not what makes a read count', () => {
    const lane = order(at.waiting, 'checkNow');
    expect(nextCommand(lane, T0)).toEqual({ do: 'verify' });
    expect(lane.settledAtMs).toBe(SETTLED);
    const after = verified(begun(lane, 'verify'), read(STILL_THERE), 0);
    expect(nextCommand(after, T0)).toMatchObject({ do: 'wait', untilMs: SETTLED + MINUTE_MS });
  });

  test('P3: retry cuts a week-long sleep short, starts a round, and forgets no submit', () => {
    const waiting = { ...at.waiting, cleanReads: 1, lastCountedAtMs: T0 };
    const [lane, text] = ordered(waiting, 'retry', T0);
    expect(lane).toMatchObject({ phase: 'deleting', round: 2, nextBatch: 0, cleanReads: 0, lastCountedAtMs: null });
    expect(lane.settledAtMs).toBe(SETTLED);
    expect(text).toBe('prod: submits again what is still readable, now (round 2)');
  });

  test('a verb that changes nothing promises nothing', () => {
    for (const name of ['resolving', 'deleting', 'verifying'] as const) {
      for (const verb of ['retry', 'checkNow'] as const) {
        const [lane, text] = ordered(at[name], verb, T0);
        expect(lane).toEqual(at[name]);
        expect(text).toMatch(/^prod: is at work already/);
        expect(text).not.toMatch(/as soon as/);
      }
    }
  });
});

/*
 * The model: a lane driven as the workflow drives it, against a store that answers at random, an operator who speaks at
 * random, and a worker that dies at random. What is true is kept apart from what the lane believes.
 */

const RHYTHMS: readonly Rhythm[] = [
  { kind: 'weekly', opensMs: 5 * DAY_MS, lengthMs: 2 * DAY_MS, settleMs: DAY_MS, spreadMs: 0 },
  { kind: 'continuous', settleMs: 10 * MINUTE_MS, spreadMs: 0 },
];

/** One turn of the world: what the store says if asked, and what the operator does meanwhile. */
interface Turn {
  readonly answer: 'good' | 'bad' | 'newcomers' | 'blind' | 'no-control' | 'trouble' | 'nothing';
  readonly verb: LaneVerb | null;
  /** Whether the answer of a step that an operator stopped is lost. */
  readonly lost: boolean;
  readonly tookMs: number;
  readonly reason: Trouble['reason'];
  readonly random: number;
}

const anyTurn: fc.Arbitrary<Turn> = fc.record({
  answer: fc.oneof(
    { weight: 3, arbitrary: fc.constant('good' as const) },
    { weight: 4, arbitrary: fc.constantFrom('bad', 'newcomers', 'blind', 'no-control', 'trouble') },
    { weight: 2, arbitrary: fc.constant('nothing' as const) },
  ),
  verb: fc.oneof(
    { weight: 6, arbitrary: fc.constant(null) },
    { weight: 2, arbitrary: fc.constant('checkNow' as const) },
    { weight: 2, arbitrary: fc.constantFrom('retry', 'hold', 'release') },
  ),
  lost: fc.boolean(),
  tookMs: fc.oneof(fc.constant(0), fc.nat(2 * HOUR_MS)),
  reason: fc.constantFrom(...TROUBLES),
  random: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
});

const anySetting = fc.record({
  rhythm: fc.constantFrom(...RHYTHMS),
  clock: fc.constantFrom<Clock>(null, { realMs: T0, virtualMs: T0 + 100 * DAY_MS, speed: 1000 }),
  cleanReads: fc.integer({ min: 1, max: 3 }),
  traces: fc.integer({ min: 0, max: 5 }),
  stop: fc.boolean(),
});
type Setting = typeof anySetting extends fc.Arbitrary<infer T> ? T : never;

/** What becomes of the lane when an answer reaches it. */
type Arrive = (lane: LaneState) => LaneState;

class World {
  lane: LaneState;
  /** Real time. */
  nowMs = T0;
  private readonly setting: Setting;
  /** True facts: from when a read may count for all that was ever sent, and the reads that truly counted since. */
  private settledMs = 0;
  private counted: number[] = [];
  /** When the store last got each delete call, by round and batch. */
  private readonly sentMs = new Map<string, number>();
  private stops: number;
  /** Instant of the latest read since anybody did anything else. */
  private lastReadAtMs: number | null = null;
  /** Whether the latest read that decided anything saw nothing. */
  private absent = false;

  constructor(setting: Setting) {
    this.setting = setting;
    this.stops = setting.stop ? 1 : 0;
    this.lane = newLane(NAME, 0);
  }

  get virtualMs(): number {
    return virtualAt(this.setting.clock, this.nowMs);
  }

  /** Does what the lane asks for next. */
  turn(turn: Turn): void {
    this.throughJson();
    const command = nextCommand(this.lane, this.nowMs);
    this.invariants(command);
    if (command.do === 'wait') this.wait(command.untilMs, turn);
    else if (command.do === 'expire') this.lane = holdExpired(this.lane);
    else if (command.do !== 'end') this.step(command.do, turn);
  }

  speak(verb: LaneVerb): void {
    const before = this.lane;
    const unchanged = JSON.stringify(before);
    if (refusal(this.lane, verb) !== null) {
      assert.equal(JSON.stringify(before), unchanged);
      return;
    }
    // P27: hold wins over retry; nothing moves an ended lane.
    assert.notEqual(before.phase, 'ended');
    if (before.heldSinceMs !== null) assert(verb === 'release' || verb === 'abandon');
    const [after, text] = ordered(this.lane, verb, this.nowMs);
    assert.equal(JSON.stringify(before), unchanged);
    assert(text.startsWith(`${NAME}: `));
    this.lane = after;
    this.lastReadAtMs = null;
  }

  private wait(untilMs: number | null, turn: Turn): void {
    if (turn.verb !== null || untilMs === null) {
      const wholeMs = realSpanMs(this.setting.clock, (untilMs ?? this.virtualMs + DAY_MS) - this.virtualMs);
      this.nowMs += Math.floor(wholeMs * turn.random);
      // An operator is not silent for ever: a lane that waits for one hears something that helps.
      this.speak(turn.verb ?? (this.lane.heldSinceMs !== null ? 'release' : 'retry'));
      return;
    }
    this.nowMs += Math.max(1, realSpanMs(this.lane.clock, untilMs - this.virtualMs));
    assert(this.virtualMs >= untilMs);
  }

  private step(command: 'resolve' | 'delete' | 'verify', turn: Turn): void {
    const asked = begun(this.lane, command);
    assert.equal(asked.step, this.lane.step + 1);
    this.lane = asked;
    this.nowMs += turn.tookMs;
    const arrive = turn.answer === 'trouble' ? this.trouble(command, turn) : this.answer(command, asked, turn);
    if (turn.verb !== null) {
      const stopped = turn.verb === 'hold' && refusal(this.lane, 'hold') === null;
      this.speak(turn.verb);
      if (stopped && turn.lost) return;
    }
    this.lane = arrive(this.lane);
  }

  private answer(command: 'resolve' | 'delete' | 'verify', asked: LaneState, turn: Turn): Arrive {
    if (command === 'resolve') return this.resolve(turn);
    return command === 'delete' ? this.delete(asked, turn) : this.verify(asked, turn);
  }

  private trouble(command: Command['do'], turn: Turn): Arrive {
    // The call may have arrived although its answer was lost.
    if (command === 'delete' && turn.lost) this.sent();
    this.lastReadAtMs = null;
    const answer = trouble({ reason: turn.reason, atMs: this.virtualMs, clock: this.setting.clock });
    return (lane) => troubled(lane, answer, turn.random);
  }

  private resolve(turn: Turn): Arrive {
    const { clock, cleanReads, traces, rhythm } = this.setting;
    const atMs = this.virtualMs;
    const stop = this.stops > 0 ? 'too many' : null;
    this.stops -= 1;
    const answer = plan({
      atMs,
      clock,
      policy: { cleanReads, flagAfterRounds: 3 },
      batches: Array.from({ length: traces }, () => 1),
      stop,
      cleanReads: traces === 0 ? 1 : 0,
      nextCheckAtMs: atMs + rhythm.settleMs,
      ...figures({ pending: traces }, turn.lost ? { resolved: 2, duplicate: 1 } : {}),
    });
    return (lane) => {
      this.counted = traces === 0 ? [atMs] : [];
      // A plan made anew after a lost vault, which sees them: what an earlier read said is over.
      if (traces > 0) this.absent = false;
      return planned(lane, answer, false);
    };
  }

  /** A delete call reaches the store. */
  private sent(): void {
    this.settledMs = Math.max(this.settledMs, settledAfter(this.setting.rhythm, this.virtualMs));
    this.counted = [];
    this.sentMs.set(`${this.lane.round}/${this.lane.nextBatch}`, this.virtualMs);
  }

  private delete(asked: LaneState, turn: Turn): Arrive {
    // P23: nothing is submitted again after a read has shown it absent.
    assert(!this.absent);
    assert(asked.nextBatch < asked.batches.length);
    // When nothing at all was sent in the first round, it is read back at once.
    if (asked.round === 1) this.lastReadAtMs = null;
    if (turn.answer !== 'nothing') this.sent();
    const sentMs = this.sentMs.get(`${asked.round}/${asked.nextBatch}`) ?? null;
    const settledAtMs = sentMs === null ? null : settledAfter(this.setting.rhythm, sentMs);
    const answer = receipt({ atMs: this.virtualMs, settledAtMs, nextCheckAtMs: settledAtMs });
    return (lane) => deleted(lane, answer);
  }

  /** Answers as `verifyAbsence` does, from what the lane hands it, and keeps true account of what counts. */
  private verify(asked: LaneState, turn: Turn): Arrive {
    const atMs = this.virtualMs;
    const { settleMs } = this.setting.rhythm;
    // P26: no two reads at the same instant unless somebody asked for it.
    assert.notEqual(this.lastReadAtMs, atMs);
    this.lastReadAtMs = atMs;
    const { settledAtMs, lastCountedAtMs } = asked;
    const settled = settledAtMs === null || atMs >= settledAtMs;
    const rested = lastCountedAtMs === null || atMs - lastCountedAtMs >= settleMs;
    const next = settled ? (lastCountedAtMs === null ? atMs : lastCountedAtMs + settleMs) : settledAtMs;
    const base: Partial<VerifyAnswer> = {
      atMs,
      counted: false,
      cleanReads: asked.cleanReads,
      lastCountedAtMs,
      nextCheckAtMs: next,
      ...figures({ pending: this.setting.traces }),
    };
    const dirty: Partial<VerifyAnswer> = { ...base, cleanReads: 0, lastCountedAtMs: null };
    if (turn.answer === 'blind') return this.arrive(read({ ...base, kind: 'inconclusive', why: 'blind' }), turn);
    if (turn.answer === 'newcomers') {
      return this.arrive(
        read({ ...dirty, kind: 'newcomers', batches: turn.lost ? [1] : [1, 1], resubmit: true }),
        turn,
      );
    }
    if (turn.answer === 'bad' && this.sentMs.size > 0) {
      return this.arrive(read({ ...dirty, kind: 'survivors', batches: [1], resubmit: settled }), turn);
    }
    const kind = turn.answer === 'no-control' ? 'no-control' : 'clean';
    if (!settled || !rested) return this.arrive(read({ ...base, kind }), turn);
    // P3: what the lane lets count, does count.
    assert(atMs >= this.settledMs, 'not settled');
    assert(
      this.counted.every((ms) => atMs - ms >= settleMs),
      'too soon after the one before',
    );
    return this.arrive(read({ ...base, kind, ...this.countedRead(asked, atMs, kind === 'no-control') }), turn);
  }

  private countedRead(asked: LaneState, atMs: number, noControl: boolean): Partial<VerifyAnswer> {
    const { traces, rhythm } = this.setting;
    const cleanReads = asked.cleanReads + 1;
    const done = cleanReads >= this.setting.cleanReads;
    return {
      counted: true,
      cleanReads,
      lastCountedAtMs: atMs,
      nextCheckAtMs: atMs + rhythm.settleMs,
      ...figures(done ? { verifiedAbsent: traces } : { pending: traces }),
      verdict: done ? (noControl ? 'verified-with-exceptions' : 'verified') : null,
      exceptions: noControl ? [{ kind: 'no-control', count: 1, text: 'no control' }] : [],
    };
  }

  private arrive(answer: VerifyAnswer, turn: Turn): Arrive {
    return (lane) => {
      if (answer.counted) this.counted.push(answer.atMs);
      else if (answer.cleanReads === 0) this.counted = [];
      if (answer.kind !== 'inconclusive') this.absent = answer.batches.length === 0;
      // P3: as many reads as the policy asks for, since the last submit and since the last read that saw anything.
      if (answer.verdict !== null) assert(this.counted.length >= this.setting.cleanReads, 'too few counted reads');
      return verified(lane, answer, turn.random);
    };
  }

  /** Continue-as-new: the state is JSON and nothing else, and acts the same after the trip. */
  private throughJson(): void {
    const carried = JSON.parse(JSON.stringify(this.lane)) as LaneState;
    assert.deepEqual(carried, this.lane);
    this.lane = carried;
  }

  private invariants(command: Command): void {
    const { lane, nowMs } = this;
    const status = connectionStatusSchema.parse(connectionStatus(lane, nowMs));
    // P29
    assert.deepEqual(imbalances(lane.figures), []);
    assert.equal(command.do === 'end', lane.phase === 'ended');
    assert.equal(isVerdict(status.status), lane.phase === 'ended');
    if (lane.phase === 'ended') return;
    // P27
    if (lane.heldSinceMs !== null) assert(command.do === 'wait' && command.untilMs === null);
    // P26: every open lane has a next step with a time, or somebody has been asked for.
    if (command.do !== 'wait') return;
    if (command.untilMs === null) {
      assert(status.status === 'held' || (status.status === 'awaiting-approval' && status.attention !== null));
    } else {
      assert(command.untilMs > virtualAt(lane.clock, nowMs));
      assert.equal(status.nextCheckAt, new Date(command.untilMs).toISOString());
    }
  }
}

describe('model: a lane among random answers, verbs and deaths', () => {
  const runs = { numRuns: 200 };

  test('P3 P23 P26 P27 P29: verified only after the reads asked for; never stuck; no submit forgotten', () => {
    const ends = new Set<string>();
    fc.assert(
      fc.property(anySetting, fc.array(anyTurn, { minLength: 10, maxLength: 50 }), (setting, turns) => {
        const world = new World(setting);
        for (const turn of turns) world.turn(turn);
        ends.add(world.lane.verdict ?? 'open');
      }),
      runs,
    );
    // The model would be worth little if it never got there.
    expect([...ends].sort()).toEqual(['open', 'verified', 'verified-with-exceptions']);
  });

  test('P26: once the store is well again, every lane ends by itself', () => {
    const well: Turn = { answer: 'good', verb: null, lost: false, tookMs: 1000, reason: 'internal', random: 0 };
    fc.assert(
      fc.property(anySetting, fc.array(anyTurn, { maxLength: 20 }), (setting, turns) => {
        const world = new World(setting);
        for (const turn of turns) world.turn(turn);
        for (let count = 0; count < 60 && world.lane.phase !== 'ended'; count += 1) world.turn(well);
        assert.equal(world.lane.phase, 'ended');
      }),
      runs,
    );
  });

  test('abandon ends any open lane at once, and an ended one takes no verb', () => {
    fc.assert(
      fc.property(anySetting, fc.array(anyTurn, { maxLength: 20 }), (setting, turns) => {
        const world = new World(setting);
        for (const turn of turns) world.turn(turn);
        const { verdict } = world.lane;
        world.speak('abandon');
        assert.equal(world.lane.verdict, verdict ?? 'abandoned');
        assert.deepEqual(nextCommand(world.lane, world.nowMs), { do: 'end' });
        assert.deepEqual(imbalances(world.lane.figures), []);
        for (const verb of LANE_VERBS) assert.equal(refusal(world.lane, verb), 'prod has ended');
      }),
      runs,
    );
  });
});
