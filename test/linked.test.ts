import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { bookSchema, traceLedger, type Book, type BookEntry } from '../src/erasure/book.ts';
import { INCLUDES, KEPT_POLICIES } from '../src/erasure/include.ts';
import { EMPTY_COPIES, EMPTY_GIVEN, imbalances } from '../src/erasure/ledger.ts';
import { askReason, erasedBy, isNewActivity, withIncluded } from '../src/erasure/linked.ts';
import { exceptionsFromLedgers, verdictOf } from '../src/erasure/outcome.ts';

function entry(traceId: string, state: BookEntry['state'], more: Partial<BookEntry> = {}): BookEntry {
  const rest = { via: 'person', runs: 1, rowIds: [], startMs: null, sentMs: null } as const;
  return { projectId: 'p1', traceId, state, ...rest, rowIds: [...rest.rowIds], ...more };
}

function book(entries: readonly BookEntry[], more: Partial<Book> = {}): Book {
  return {
    format: 1,
    mergedRound: 0,
    lost: 0,
    limit: 2,
    projects: [{ id: 'p1', name: 'chat' }],
    baselineKinds: ['user_id'],
    entries: [...entries],
    known: [],
    copies: [],
    outOfReach: 0,
    notExamined: [],
    controlsAtPlan: 2,
    silentProjects: 0,
    notProvenBeforeMs: null,
    unprovenKinds: [],
    finders: 2,
    noControl: false,
    batches: [[0]],
    ...more,
  };
}

const PLAN = book([
  entry('own', 'pending'),
  entry('both', 'shared'),
  entry('bare', 'linked', { via: 'thread' }),
  entry('unclear', 'linked', { via: 'thread', sharedThread: true }),
  entry('later', 'newActivity'),
  entry('gone', 'goneBeforeSubmit'),
]);

const states = ({ entries }: Book): Record<string, string> =>
  Object.fromEntries(entries.map(({ traceId, state }) => [traceId, state]));

const kept = {
  own: 'pending',
  both: 'shared',
  bare: 'linked',
  unclear: 'linked',
  later: 'newActivity',
  gone: 'goneBeforeSubmit',
};

describe('a plan after its approval', () => {
  test.each([
    [[], kept, [[0]]],
    [['shared'], { ...kept, both: 'pending' }, [[0, 1]]],
    [['linked'], { ...kept, bare: 'pending' }, [[0, 2]]],
    [['shared', 'linked'], { ...kept, both: 'pending', bare: 'pending', unclear: 'pending' }, [[0, 1, 2, 3]]],
  ] as const)('P12 P17: including %j', (include, expected, batches) => {
    const next = withIncluded(PLAN, include, 100);
    expect(states(next)).toEqual(expected);
    expect(next.batches).toEqual(batches);
    expect(next.included).toEqual([...include]);
    // What the operator saw does not stop the lane by its number later.
    expect(next.limit).toBe(Math.max(2, batches[0].length));
    expect(bookSchema.parse(next)).toEqual(next);
    expect(imbalances({ given: EMPTY_GIVEN, traces: traceLedger(next), copies: EMPTY_COPIES })).toEqual([]);
  });

  test('P13: the calls hold every pending trace once, and never more ids than a call takes', () => {
    const entries = Array.from({ length: 7 }, (_, index) => entry(`t${index}`, 'linked'));
    const { batches } = withIncluded(book(entries), ['linked'], 3);
    expect(batches.map((batch) => batch.length)).toEqual([3, 3, 1]);
    expect(batches.flat()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('P12 P21: nothing is included that no word covers, and new activity never', () => {
    const anyEntry = fc.record({
      state: fc.constantFrom<BookEntry['state']>('pending', 'shared', 'linked', 'newActivity', 'inconclusive'),
      sharedThread: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(anyEntry, { maxLength: 20 }), fc.subarray([...INCLUDES]), (some, include) => {
        const before = book(some.map(({ state, sharedThread }, index) => entry(`t${index}`, state, { sharedThread })));
        const after = withIncluded(before, include, 5);
        for (const [index, { state, sharedThread }] of some.entries()) {
          const now = after.entries[index]?.state;
          const may =
            (state === 'shared' && include.includes('shared')) ||
            (state === 'linked' && include.includes('linked') && (!sharedThread || include.includes('shared')));
          expect(now).toBe(may ? 'pending' : state);
        }
        expect(traceLedger(after).matched).toBe(traceLedger(before).matched);
        expect(after.batches.flat().length).toBe(traceLedger(after).pending);
      }),
    );
  });
});

describe('policies about kept traces', () => {
  test('P17: keeping is not asking, and asking is not erasing', () => {
    for (const sharedTraces of KEPT_POLICIES) {
      for (const linkedTraces of KEPT_POLICIES) {
        const policies = { sharedTraces, linkedTraces };
        const reason = askReason(PLAN, policies);
        expect(reason !== null).toBe(sharedTraces === 'ask' || linkedTraces === 'ask');
        expect(reason?.includes('1 trace carries other people too') ?? false).toBe(sharedTraces === 'ask');
        expect(reason?.includes("2 traces carry nobody's identifier (1 of a conversation") ?? false).toBe(
          linkedTraces === 'ask',
        );
        expect(erasedBy(policies)).toEqual([
          ...(sharedTraces === 'erase' ? ['shared'] : []),
          ...(linkedTraces === 'erase' ? ['linked'] : []),
        ]);
      }
    }
  });

  test('nobody is asked about a plan that keeps nothing', () => {
    const plain = book([entry('own', 'pending'), entry('later', 'newActivity')]);
    expect(askReason(plain, { sharedTraces: 'ask', linkedTraces: 'ask' })).toBeNull();
  });
});

describe('the cut-off', () => {
  test.each([
    [null, 1000, false],
    [999, 1000, false],
    [1000, 1000, false],
    [1001, 1000, true],
    [Number.MAX_SAFE_INTEGER, undefined, false],
  ])('P21: a trace that began at %p with a cut-off at %p', (startMs, cutoffMs, expected) => {
    expect(isNewActivity(startMs, { cutoffMs })).toBe(expected);
  });

  test('P21 P29: new activity has a state of its own, and is an exception', () => {
    const traces = traceLedger(book([entry('a', 'verifiedAbsent'), entry('b', 'newActivity')]));
    expect(traces).toMatchObject({ matched: 2, verifiedAbsent: 1, newActivity: 1 });
    const exceptions = exceptionsFromLedgers(EMPTY_GIVEN, traces, EMPTY_COPIES, []);
    expect(exceptions).toEqual([{ kind: 'new-activity', count: 1, text: expect.stringContaining('cut-off') }]);
    expect(verdictOf(traces, EMPTY_GIVEN, exceptions)).toBe('verified-with-exceptions');
  });

  test('P29: figures from before there was a cut-off balance', () => {
    const { newActivity: _none, ...traces } = traceLedger(book([entry('a', 'pending')]));
    expect(imbalances({ given: EMPTY_GIVEN, traces, copies: EMPTY_COPIES })).toEqual([]);
  });
});
