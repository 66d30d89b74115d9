import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  batchesOf,
  bookSchema,
  copyLedger,
  entryKey,
  givenLedger,
  mergeDeltas,
  traceLedger,
  type Book,
  type BookEntry,
  type Delta,
} from '../src/erasure/book.ts';
import { imbalances } from '../src/erasure/ledger.ts';

const T0 = Date.parse('2026-11-25T09:00:00Z');

function entry(traceId: string, more: Partial<BookEntry> = {}): BookEntry {
  return {
    projectId: 'p1',
    traceId,
    state: 'pending',
    via: 'person',
    runs: 1,
    rowIds: [],
    startMs: null,
    sentMs: null,
    ...more,
  };
}

function book(entries: readonly BookEntry[], more: Partial<Book> = {}): Book {
  return {
    format: 1,
    mergedRound: 0,
    lost: 0,
    limit: 10_000,
    projects: [],
    baselineKinds: [],
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
    batches: [],
    ...more,
  };
}

function delta(more: Partial<Delta>): Delta {
  return {
    round: 1,
    batch: 0,
    projectId: 'p1',
    sentMs: null,
    acknowledgedMs: null,
    sent: [],
    absent: [],
    pulled: [],
    newRows: [],
    ...more,
  };
}

function states(of: Book): Record<string, string> {
  return Object.fromEntries(
    of.entries.map(({ traceId, state, sentMs }) => [traceId, sentMs === null ? state : `${state}, sent`]),
  );
}

const anyState = fc.constantFrom<BookEntry['state']>(
  'pending',
  'verifiedAbsent',
  'goneBeforeSubmit',
  'survived',
  'shared',
  'linked',
  'inconclusive',
);

const anyEntries = fc.uniqueArray(
  fc.record({
    projectId: fc.constantFrom('p1', 'p2', 'p3'),
    traceId: fc.integer({ min: 0, max: 30 }).map((n) => `t${n}`),
    state: anyState,
    via: fc.constantFrom<BookEntry['via']>('person', 'known'),
    runs: fc.nat(9),
    rowIds: fc.constant<string[]>([]),
    startMs: fc.constant(null),
    sentMs: fc.constantFrom(null, T0),
  }),
  { selector: entryKey, maxLength: 40 },
);

const anyIds = fc.uniqueArray(
  fc.integer({ min: 0, max: 30 }).map((n) => `t${n}`),
  { maxLength: 8 },
);

/** As `deleteBatch` writes them: each names a round and batch of its own, and what was sent has a time. */
const anyDeltas = fc.uniqueArray(
  fc
    .record({
      round: fc.integer({ min: 1, max: 4 }),
      batch: fc.nat(3),
      projectId: fc.constantFrom('p1', 'p2', 'p3'),
      sentMs: fc.constantFrom(T0 + 1, T0 + 2),
      acknowledgedMs: fc.constant(null),
      sent: anyIds,
      absent: anyIds,
      pulled: anyIds.chain((ids) =>
        fc.constantFrom<'shared' | 'linked'>('shared', 'linked').map((to) => ids.map((traceId) => ({ traceId, to }))),
      ),
    })
    .map((made): Delta => ({ ...made, newRows: [], ...(made.sent.length === 0 ? { sentMs: null } : {}) })),
  { selector: ({ round, batch }) => `${round}/${batch}`, maxLength: 8 },
);

describe('batchesOf', () => {
  test('P13: one project a call, at most so many traces, in the order of the manifest', () => {
    const entries = [
      entry('a'),
      entry('b', { projectId: 'p2' }),
      entry('c'),
      entry('d'),
      entry('e', { projectId: 'p2' }),
    ];
    expect(batchesOf(entries, () => true, 2)).toEqual([[0, 2], [3], [1, 4]]);
    expect(batchesOf(entries, ({ traceId }) => traceId === 'd', 2)).toEqual([[3]]);
    expect(batchesOf(entries, () => false, 2)).toEqual([]);
    expect(batchesOf([], () => true, 2)).toEqual([]);
  });

  test('P13: where rows are deleted one by one, a call counts rows, and a trace stays in one call', () => {
    const rows = (count: number): { rowIds: string[] } => ({
      rowIds: Array.from({ length: count }, (_, at) => `r${at}`),
    });
    const entries = [
      entry('a', rows(3)),
      entry('b', rows(2)),
      entry('c', rows(1)),
      entry('d', rows(9)),
      entry('e', rows(1)),
    ];
    expect(batchesOf(entries, () => true, 5)).toEqual([[0, 1], [2], [3], [4]]);
  });

  test('P13: every chosen trace is in exactly one call, and no call is empty, mixed or too long', () => {
    fc.assert(
      fc.property(anyEntries, fc.integer({ min: 1, max: 7 }), anyState, (entries, most, state) => {
        const batches = batchesOf(entries, (one) => one.state === state, most);
        const chosen = entries.flatMap((one, index) => (one.state === state ? [index] : []));
        expect(batches.flat().sort((a, b) => a - b)).toEqual(chosen);
        for (const batch of batches) {
          expect(batch.length).toBeGreaterThan(0);
          expect(batch.length).toBeLessThanOrEqual(most);
          expect(new Set(batch.map((index) => entries[index]?.projectId)).size).toBe(1);
        }
      }),
    );
  });

  test('no more calls than needed', () => {
    fc.assert(
      fc.property(anyEntries, fc.integer({ min: 1, max: 7 }), (entries, most) => {
        const perProject = ['p1', 'p2', 'p3'].map((project) =>
          entries.filter(({ projectId }) => projectId === project),
        );
        const least = perProject.reduce((sum, { length }) => sum + Math.ceil(length / most), 0);
        expect(batchesOf(entries, () => true, most)).toHaveLength(least);
      }),
    );
  });
});

describe('mergeDeltas', () => {
  test('P23: what was sent is known as sent, acknowledged or not', () => {
    const merged = mergeDeltas(book([entry('a'), entry('b')]), [delta({ sent: ['a'], sentMs: T0 })], 1);
    expect(states(merged)).toEqual({ a: 'pending, sent', b: 'pending' });
    expect(merged.mergedRound).toBe(1);
  });

  test('what was absent before its first submit went by itself; what was sent earlier is still to be proven', () => {
    const before = book([entry('a'), entry('b', { sentMs: T0 }), entry('c', { state: 'survived', sentMs: T0 })]);
    expect(states(mergeDeltas(before, [delta({ absent: ['a', 'b', 'c'] })], 1))).toEqual({
      a: 'goneBeforeSubmit',
      b: 'pending, sent',
      c: 'survived, sent',
    });
  });

  test('P23: a call repeated after a kill: sent by the first try and absent in the second is no "gone by itself"', () => {
    const merged = mergeDeltas(book([entry('a')]), [delta({ sent: ['a'], absent: ['a'], sentMs: T0 })], 1);
    expect(states(merged)).toEqual({ a: 'pending, sent' });
  });

  test('P14: what changed owner just before its call is pulled', () => {
    const pulled = [
      { traceId: 'a', to: 'shared' as const },
      { traceId: 'b', to: 'linked' as const },
    ];
    expect(states(mergeDeltas(book([entry('a'), entry('b')]), [delta({ pulled })], 1))).toEqual({
      a: 'shared',
      b: 'linked',
    });
  });

  test('P4 P23: what was sent and has lost its labels since is half deleted, and never filed as linked', () => {
    const pulled = [{ traceId: 'a', to: 'linked' as const }];
    const inOne = [delta({ sent: ['a'], sentMs: T0, pulled })];
    const inTwo = [delta({ sent: ['a'], sentMs: T0 }), delta({ round: 2, pulled })];
    for (const deltas of [inOne, inTwo]) {
      expect(states(mergeDeltas(book([entry('a')]), deltas, 2))).toEqual({ a: 'pending, sent' });
    }
    const before = book([entry('a', { state: 'survived', sentMs: T0 })]);
    expect(states(mergeDeltas(before, [delta({ pulled })], 1))).toEqual({ a: 'survived, sent' });
  });

  test.each<readonly [string, Delta, Delta, string]>([
    [
      'gone in one round, back and sent in the next',
      delta({ absent: ['a'] }),
      delta({ round: 2, sent: ['a'], sentMs: T0 }),
      'pending, sent',
    ],
    [
      'pulled in one round, sent in the next: it is read back, not filed as kept',
      delta({ pulled: [{ traceId: 'a', to: 'shared' }] }),
      delta({ round: 2, sent: ['a'], sentMs: T0 }),
      'pending, sent',
    ],
    [
      'sent in one round, pulled in the next',
      delta({ sent: ['a'], sentMs: T0 }),
      delta({ round: 2, pulled: [{ traceId: 'a', to: 'shared' }] }),
      'shared, sent',
    ],
    [
      'sent twice: the later time counts',
      delta({ sent: ['a'], sentMs: T0 - 1 }),
      delta({ round: 2, sent: ['a'], sentMs: T0 }),
      'pending, sent',
    ],
  ])('%s', (_what, first, second, state) => {
    for (const deltas of [
      [first, second],
      [second, first],
    ]) {
      const merged = mergeDeltas(book([entry('a')]), deltas, 2);
      expect(states(merged)).toEqual({ a: state });
      if (second.sentMs !== null) expect(merged.entries[0]?.sentMs).toBe(second.sentMs);
    }
  });

  test('a trace id means the trace of its project only, and an unknown one changes nothing', () => {
    const before = book([entry('a'), entry('a', { projectId: 'p2' })]);
    const merged = mergeDeltas(before, [delta({ projectId: 'p2', sent: ['a', 'zz'], sentMs: T0 })], 1);
    expect(merged.entries).toEqual([before.entries[0], { ...before.entries[1], sentMs: T0 }]);
  });

  test('P23 P29: no trace is lost, added or moved, the sums hold, and merging again changes nothing', () => {
    fc.assert(
      fc.property(anyEntries, anyDeltas, (entries, deltas) => {
        const before = book(entries);
        const kept = structuredClone(before);
        const merged = mergeDeltas(before, deltas, 4);
        expect(before).toEqual(kept);
        expect(merged.entries.map(entryKey)).toEqual(entries.map(entryKey));
        expect(
          imbalances({ given: givenLedger(merged), traces: traceLedger(merged), copies: copyLedger(merged) }),
        ).toEqual([]);
        expect(mergeDeltas(merged, deltas, 4)).toEqual(merged);
        expect(mergeDeltas(before, [...deltas].reverse(), 4)).toEqual(merged);
        expect(bookSchema.parse(JSON.parse(JSON.stringify(merged)))).toEqual(merged);
      }),
    );
  });

  test('P2: no delete call proves anything, and whatever was sent and not pulled is read back', () => {
    fc.assert(
      fc.property(anyEntries, anyDeltas, (entries, deltas) => {
        const absent = (of: readonly BookEntry[]) => of.filter(({ state }) => state === 'verifiedAbsent').map(entryKey);
        const merged = mergeDeltas(book(entries), deltas, 4).entries;
        expect(absent(entries)).toEqual(expect.arrayContaining(absent(merged)));
        const ever = new Set(
          deltas.flatMap(({ projectId, pulled }) => pulled.map(({ traceId }) => entryKey({ projectId, traceId }))),
        );
        const sent = new Set(
          deltas.flatMap(({ projectId, sent: ids }) => ids.map((traceId) => entryKey({ projectId, traceId }))),
        );
        for (const one of merged) {
          if (!sent.has(entryKey(one)) || ever.has(entryKey(one))) continue;
          expect(one.sentMs).not.toBeNull();
          expect(one.state).not.toBe('goneBeforeSubmit');
        }
      }),
    );
  });
});

describe('ledgers of a book', () => {
  test('P29 P30: count what the book holds', () => {
    const known = (state: Book['known'][number]['state'], foreign = false) => ({
      id: state,
      state,
      kind: null,
      foreign,
    });
    const copy = (state: Book['copies'][number]['state']) => ({ kind: 'examples', id: state, traceId: 'a', state });
    const whole = book(
      [entry('a'), entry('b', { state: 'survived', sentMs: T0 }), entry('c', { state: 'verifiedAbsent', sentMs: T0 })],
      {
        known: [
          known('resolved', true),
          known('resolved'),
          known('neverMatched'),
          known('wrongKind'),
          known('duplicate'),
        ],
        copies: [copy('erased'), copy('manual'), copy('outOfReach'), copy('inconclusive')],
        outOfReach: 3,
        notExamined: ['row-history'],
      },
    );
    expect(traceLedger(whole)).toMatchObject({ matched: 3, pending: 1, survived: 1, verifiedAbsent: 1, abandoned: 0 });
    expect(givenLedger(whole)).toMatchObject({ total: 5, resolved: 2, neverMatched: 1, wrongKind: 1, duplicate: 1 });
    expect(copyLedger(whole)).toMatchObject({ found: 7, outOfReach: 4, manual: 1, notExamined: ['row-history'] });
    const late = book([...whole.entries, entry('late')]);
    expect(traceLedger(late).matched).toBe(4);
  });
});

test('a book of a later release, or with a field too many, is not guessed at', () => {
  expect(bookSchema.safeParse({ ...book([]), format: 2 }).success).toBe(false);
  expect(bookSchema.safeParse({ ...book([]), extra: 1 }).success).toBe(false);
  expect(bookSchema.safeParse(book([{ ...entry('a'), state: 'deleted' as 'pending' }])).success).toBe(false);
});
