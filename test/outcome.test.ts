import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  abandonCopies,
  abandonTraces,
  EMPTY_COPIES,
  EMPTY_GIVEN,
  EMPTY_TRACES,
  imbalances,
  type CopyLedger,
  type GivenLedger,
  type TraceLedger,
} from '../src/erasure/ledger.ts';
import {
  endInWords,
  EXCEPTION_KINDS,
  exceptionsFromLedgers,
  isVerdict,
  STATUSES,
  VERDICTS,
  verdictOf,
  worstStatus,
  type Status,
} from '../src/erasure/outcome.ts';

const few = fc.nat(5);

const anyGiven: fc.Arbitrary<GivenLedger> = fc
  .record({ resolved: few, neverMatched: few, unresolved: few, wrongKind: few, duplicate: few })
  .map((states) => ({ ...states, total: sum(states) }));

/** A lane's traces at its end: none is pending any more. */
const settledTraces: fc.Arbitrary<TraceLedger> = fc
  .record({
    verifiedAbsent: few,
    goneBeforeSubmit: few,
    survived: few,
    shared: few,
    linked: few,
    inconclusive: few,
    newActivity: few,
    abandoned: fc.constant(0),
    pending: fc.constant(0),
  })
  .map((states) => ({ ...states, matched: sum(states) }));

const anyTraces: fc.Arbitrary<TraceLedger> = fc
  .tuple(settledTraces, few)
  .map(([traces, pending]) => ({ ...traces, pending, matched: traces.matched + pending }));

const anyCopies: fc.Arbitrary<CopyLedger> = fc
  .record({ erased: few, manual: few, outOfReach: few, inconclusive: few, abandoned: few })
  .chain((states) =>
    fc.subarray(['row-history', 'audit-log']).map((notExamined) => ({ ...states, found: sum(states), notExamined })),
  );

function sum(states: Readonly<Record<string, number | undefined>>): number {
  return Object.values(states).reduce<number>((total, count) => total + (count ?? 0), 0);
}

function traces(states: Partial<TraceLedger>): TraceLedger {
  return { ...EMPTY_TRACES, ...states, matched: sum(states) };
}

function given(states: Partial<GivenLedger>): GivenLedger {
  return { ...EMPTY_GIVEN, ...states, total: sum(states) };
}

function copies(
  states: Partial<Record<Exclude<keyof CopyLedger, 'notExamined'>, number>>,
  notExamined: readonly string[] = [],
): CopyLedger {
  return { ...EMPTY_COPIES, ...states, found: sum(states), notExamined };
}

describe('verdictOf and exceptionsFromLedgers', () => {
  test.each([
    ['a trace survived', traces({ survived: 2 }), EMPTY_GIVEN, EMPTY_COPIES, 'survived', 2],
    ['a trace is shared', traces({ shared: 1 }), EMPTY_GIVEN, EMPTY_COPIES, 'shared', 1],
    ['a trace is only linked', traces({ linked: 3 }), EMPTY_GIVEN, EMPTY_COPIES, 'linked', 3],
    ['a trace is new activity', traces({ newActivity: 2 }), EMPTY_GIVEN, EMPTY_COPIES, 'new-activity', 2],
    ['a trace could not be read', traces({ inconclusive: 1 }), EMPTY_GIVEN, EMPTY_COPIES, 'inconclusive', 1],
    ['an id could not be looked up', EMPTY_TRACES, given({ unresolved: 4 }), EMPTY_COPIES, 'unresolved', 4],
    ['a copy is manual work', EMPTY_TRACES, EMPTY_GIVEN, copies({ manual: 1 }), 'manual-copies', 1],
    ['a copy is out of reach', EMPTY_TRACES, EMPTY_GIVEN, copies({ outOfReach: 1 }), 'out-of-reach', 1],
    ['a copy could not be read', EMPTY_TRACES, EMPTY_GIVEN, copies({ inconclusive: 1 }), 'inconclusive-copies', 1],
    ['a kind of copy was not examined', EMPTY_TRACES, EMPTY_GIVEN, copies({}, ['row-history']), 'not-examined', 1],
  ] as const)('P1: %s: an exception of that name', (_what, t, g, c, kind, count) => {
    const exceptions = exceptionsFromLedgers(g, t, c, []);
    expect(exceptions).toEqual([{ kind, count, text: expect.stringMatching(/\S/) }]);
    expect(verdictOf(t, g, exceptions)).toBe('verified-with-exceptions');
  });

  test('P1: verified and nothing-found need every one of these sums to be zero', () => {
    fc.assert(
      fc.property(settledTraces, anyGiven, anyCopies, (t, g, c) => {
        const exceptions = exceptionsFromLedgers(g, t, c, []);
        const left =
          t.survived +
          t.shared +
          t.linked +
          t.inconclusive +
          (t.newActivity ?? 0) +
          g.unresolved +
          c.manual +
          c.outOfReach +
          c.inconclusive;
        const clean = left + c.notExamined.length === 0;
        expect(['verified', 'nothing-found'].includes(verdictOf(t, g, exceptions))).toBe(clean);
        expect(exceptions.every(({ count }) => count > 0)).toBe(true);
        expect(new Set(exceptions.map(({ kind }) => kind)).size).toBe(exceptions.length);
      }),
    );
  });

  test.each([
    ['traces proven absent', traces({ verifiedAbsent: 3 }), EMPTY_GIVEN, 'verified'],
    ['traces that went by themselves', traces({ goneBeforeSubmit: 1 }), EMPTY_GIVEN, 'verified'],
    ['no trace at all', EMPTY_TRACES, EMPTY_GIVEN, 'nothing-found'],
    ['ids that matched nothing', EMPTY_TRACES, given({ neverMatched: 2, wrongKind: 1, duplicate: 1 }), 'nothing-found'],
  ] as const)('P1: with %s and nothing else', (_what, t, g, verdict) => {
    expect(verdictOf(t, g, exceptionsFromLedgers(g, t, EMPTY_COPIES, []))).toBe(verdict);
  });

  test('P1: no verdict at all is given while a trace is neither proven nor excepted', () => {
    expect(() => verdictOf(traces({ verifiedAbsent: 2, pending: 1 }), EMPTY_GIVEN, [])).toThrow(/1 .*pending/);
  });

  test('P1: a limit accepted beforehand is no exception, the others stay', () => {
    const c = copies({ outOfReach: 2 }, ['row-history', 'audit-log']);
    const kinds = (accepted: readonly string[]) =>
      exceptionsFromLedgers(EMPTY_GIVEN, EMPTY_TRACES, c, accepted).map(({ kind, count }) => [kind, count]);
    expect(kinds(['row-history'])).toEqual([
      ['out-of-reach', 2],
      ['not-examined', 1],
    ]);
    expect(kinds(['row-history', 'audit-log', 'out-of-reach'])).toEqual([]);
    expect(kinds(['audit-log', 'unheard-of'])).toEqual([
      ['out-of-reach', 2],
      ['not-examined', 1],
    ]);
  });

  test('every kind of exception that the sums lead to is one that a status may carry', () => {
    fc.assert(
      fc.property(anyTraces, anyGiven, anyCopies, (t, g, c) =>
        exceptionsFromLedgers(g, t, c, []).every(({ kind }) => EXCEPTION_KINDS.includes(kind)),
      ),
    );
  });
});

describe('imbalances', () => {
  test('P29: ledgers whose states add up balance, whatever the numbers', () => {
    fc.assert(
      fc.property(anyGiven, anyTraces, anyCopies, (g, t, c) => {
        expect(imbalances({ given: g, traces: t, copies: c })).toEqual([]);
      }),
    );
  });

  test('P29: one id, trace or copy too many or too few in any state is named', () => {
    const off = fc.constantFrom(-1, 1);
    const inAny = <T extends object>(ledger: T, exclude: string) =>
      fc.constantFrom(...(Object.keys(ledger) as (keyof T & string)[]).filter((key) => key !== exclude));
    fc.assert(
      fc.property(
        anyGiven,
        anyTraces,
        anyCopies,
        inAny(EMPTY_GIVEN, ''),
        inAny(EMPTY_TRACES, ''),
        inAny(EMPTY_COPIES, 'notExamined'),
        off,
        (g, t, c, inGiven, inTraces, inCopies, by) => {
          const names = (ledgers: Parameters<typeof imbalances>[0]) =>
            imbalances(ledgers).map((line) => line.split(':')[0]);
          const all = { given: g, traces: t, copies: c };
          expect(names({ ...all, given: { ...g, [inGiven]: g[inGiven] + by } })).toEqual(['given']);
          expect(names({ ...all, traces: { ...t, [inTraces]: (t[inTraces] ?? 0) + by } })).toEqual(['traces']);
          expect(names({ ...all, copies: { ...c, [inCopies]: Number(c[inCopies]) + by } })).toEqual(['copies']);
        },
      ),
    );
  });

  test('P29: kinds not examined are apart and upset no sum', () => {
    expect(imbalances({ given: EMPTY_GIVEN, traces: EMPTY_TRACES, copies: copies({}, ['a', 'b']) })).toEqual([]);
  });
});

describe('abandon', () => {
  test('P29: what was proven stays proven, the rest is abandoned, and the sums hold', () => {
    fc.assert(
      fc.property(anyTraces, anyCopies, (t, c) => {
        const after = { given: EMPTY_GIVEN, traces: abandonTraces(t), copies: abandonCopies(c) };
        expect(imbalances(after)).toEqual([]);
        expect(after.traces).toMatchObject({
          matched: t.matched,
          verifiedAbsent: t.verifiedAbsent,
          goneBeforeSubmit: t.goneBeforeSubmit,
          shared: t.shared,
          linked: t.linked,
          pending: 0,
          survived: 0,
          inconclusive: 0,
        });
        expect(after.copies).toMatchObject({ found: c.found, erased: c.erased, manual: c.manual, inconclusive: 0 });
        expect(abandonTraces(after.traces)).toEqual(after.traces);
        expect(abandonCopies(after.copies)).toEqual(after.copies);
      }),
    );
  });
});

describe('worstStatus', () => {
  test('P30: the written order', () => {
    expect(STATUSES).toEqual([
      'needs-operator',
      'awaiting-approval',
      'held',
      'planning',
      'erasing',
      'verifying',
      'waiting',
      'abandoned',
      'verified-with-exceptions',
      'verified',
      'nothing-found',
    ]);
  });

  test('P30: the request shows the worst of its lanes, in whatever order they come', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...STATUSES), { minLength: 1, maxLength: 6 }), (lanes) => {
        const worst = worstStatus(lanes);
        expect(lanes).toContain(worst);
        expect(lanes.every((status) => STATUSES.indexOf(worst) <= STATUSES.indexOf(status))).toBe(true);
        expect(worstStatus([...lanes].reverse())).toBe(worst);
      }),
    );
  });

  test('P30: one open lane keeps the request open, and one exception keeps it from being verified', () => {
    const open = STATUSES.filter((status) => !isVerdict(status));
    for (const status of open) for (const verdict of VERDICTS) expect(worstStatus([verdict, status])).toBe(status);
    const pairs: readonly (readonly [Status, Status, Status])[] = [
      ['nothing-found', 'verified', 'verified'],
      ['verified', 'verified-with-exceptions', 'verified-with-exceptions'],
      ['verified-with-exceptions', 'abandoned', 'abandoned'],
    ];
    for (const [one, other, worst] of pairs) expect(worstStatus([one, other])).toBe(worst);
  });

  test('P1: an end in words sounds no better than its sums: what is unproven stands first, and nothing gone is never verified', () => {
    fc.assert(
      fc.property(settledTraces, anyGiven, (of, ids) => {
        const words = endInWords('verified-with-exceptions', { traces: of, given: ids });
        const gone = of.verifiedAbsent + of.goneBeforeSubmit;
        const unproven = of.inconclusive + of.survived + ids.unresolved;
        expect(words.startsWith('verified with exceptions')).toBe(gone > 0 && unproven === 0);
        expect(words).not.toMatch(/\b0 |\b1 (traces|given ids)\b/);
        if (gone > 0) expect(words).toContain(`${gone} ${gone === 1 ? 'trace' : 'traces'} gone`);
        if (of.inconclusive > 0) expect(words).toMatch(/^\d+ traces? could not be read either way/);
      }),
    );
  });

  test.each([
    [{ inconclusive: 2 }, {}, '2 traces could not be read either way, no trace is shown to be gone'],
    [
      { inconclusive: 1, survived: 1, verifiedAbsent: 1_200 },
      { unresolved: 1 },
      '1 trace could not be read either way, 1 trace still readable, 1 given id could not be looked up, 1,200 traces gone',
    ],
    [{ goneBeforeSubmit: 1, shared: 1 }, {}, 'verified with exceptions: 1 trace gone, 1 trace kept'],
    [{ linked: 2 }, {}, 'no trace is shown to be gone, 2 traces kept'],
    [{}, {}, 'no trace found'],
  ])('an end with exceptions, %o and %o, in words', (of, ids, words) => {
    expect(endInWords('verified-with-exceptions', { traces: traces(of), given: given(ids) })).toBe(words);
  });

  test('an exception of one is told in the singular', () => {
    const states = { survived: 1, shared: 1, linked: 1, inconclusive: 1, newActivity: 1 };
    const copies = { ...EMPTY_COPIES, found: 3, manual: 1, outOfReach: 1, inconclusive: 1 };
    const texts = exceptionsFromLedgers(given({ unresolved: 1 }), traces(states), copies, []).map(({ text }) => text);
    expect(texts).toHaveLength(9);
    for (const text of texts) expect(text).not.toMatch(/\bcarry\b|\bwere\b|^1 (traces|ids|copies)/);
  });

  test('P30: a request without lanes has not ended', () => {
    expect(worstStatus([])).toBe('planning');
  });
});
