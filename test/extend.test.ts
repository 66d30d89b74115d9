import { describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { continued, latestSent } from '../src/activities/resolve-ids.ts';
import { bookSchema, traceLedger, givenLedger, copyLedger, type Book, type BookEntry } from '../src/erasure/book.ts';
import {
  contains,
  extendRefusal,
  parseExtendMessage,
  union,
  type ExtendMessage,
  type JoinedRequest,
} from '../src/erasure/extend.ts';
import { joinedBy, newLane } from '../src/erasure/lane.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { EraseInput } from '../src/erasure/request.ts';
import { extendMessage } from '../src/client/extend.ts';
import { prepareRequest } from '../src/client/prepare.ts';
import { parseConfig } from '../src/config/config.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { VAULT_KEY } from './support/world.ts';
import { LaneSteps } from './support/lane-steps.ts';
import { ScriptedStore, rowOf } from './support/scripted-store.ts';

const FIRST: EraseInput = {
  requestId: 'first',
  subject: [{ kind: 'user_id', value: 'u_4242' }],
  known: { one: ['a', 'a'] },
  acceptUnlabelled: 0,
  connections: ['one'],
  receivedAtMs: 1,
  dueAtMs: 2,
  expectAtMost: null,
  dryRun: false,
  scopeDigest: 'd1',
};
const BOTH: EraseInput = {
  ...FIRST,
  subject: [...FIRST.subject, { kind: 'email', value: 'ann@example.org' }],
  known: { one: ['a', 'a', 'b'], two: ['c'] },
  connections: ['one', 'two'],
  scopeDigest: 'd2',
};
const STORE = {
  store: 'langsmith' as const,
  baseUrl: 'http://127.0.0.1:1',
  apiKey: 'never-used',
  identifiers: { user_id: ['metadata.user_id'] },
};
const MESSAGE: ExtendMessage = {
  requestId: 'second',
  receivedAtMs: 3,
  dueAtMs: 4,
  baseDigest: 'd1',
  scope: BOTH,
  scopeMemo: { requestId: 'first' },
};
const JOINED: JoinedRequest = { requestId: 'second', receivedAtMs: 3, dueAtMs: 4, joinedAtMs: 5 };

describe('P24: a request that joins', () => {
  const at = { scope: FIRST, joined: [] };

  test('is taken when it holds all that is erased already, and when it was taken before', () => {
    expect(parseExtendMessage(MESSAGE)).toBe(MESSAGE);
    expect(extendRefusal(MESSAGE, at)).toBeNull();
    expect(extendRefusal({ ...MESSAGE, baseDigest: 'old' }, { scope: BOTH, joined: [JOINED] })).toBeNull();
    // The same scope in other spellings.
    expect(extendRefusal({ ...MESSAGE, scope: { ...FIRST, known: { one: ['A'] } } }, at)).toBeNull();
  });

  test.each<readonly [string, Partial<ExtendMessage>, RegExp]>([
    ['of another scope than the one it was made for', { baseDigest: 'd0' }, /changed meanwhile/],
    ['that leaves an identifier out', { scope: { ...BOTH, subject: BOTH.subject.slice(1) } }, /must hold everything/],
    ['that leaves a known id out', { scope: { ...BOTH, known: { one: ['b'] } } }, /must hold everything/],
    ['that leaves a connection out', { scope: { ...BOTH, connections: ['two'] } }, /must hold everything/],
    ['that is a plan', { scope: { ...BOTH, dryRun: true } }, /takes in no other/],
    ['of the request itself', { requestId: 'first' }, /cannot join itself/],
    ['that is bound in time', { scope: { ...BOTH, onlyBeforeMs: 9 } }, /onlyBefore/],
  ])('is refused: one %s', (_what, change, why) => {
    expect(extendRefusal({ ...MESSAGE, ...change }, at)).toMatch(why);
  });

  test('P21: is refused when it lacks the bound in time of what it joins, or has another, and taken with the same', () => {
    const bound = { scope: { ...FIRST, onlyBeforeMs: 9 }, joined: [] };
    expect(extendRefusal(MESSAGE, bound)).toMatch(/onlyBefore/);
    expect(extendRefusal({ ...MESSAGE, scope: { ...BOTH, onlyBeforeMs: 10 } }, bound)).toMatch(/onlyBefore/);
    expect(extendRefusal({ ...MESSAGE, scope: { ...BOTH, onlyBeforeMs: 9 } }, bound)).toBeNull();
  });

  test.each([
    ['ines', undefined, 'ines'],
    ['ines', 'omar', 'ines'],
    [undefined, 'omar', 'omar'],
  ])('P25: keeps who asked: %s, then %s', (first, second, of) => {
    const config = parseConfig({
      keys: { hmac: randomBytes(32).toString('hex'), vault: VAULT_KEY },
      identifiers: ['user_id'],
      connections: { one: STORE },
    });
    const keys = deriveKeys({ hmac: VAULT_KEY, vault: VAULT_KEY });
    const by = (requestedBy: string | undefined) => (requestedBy === undefined ? {} : { requestedBy });
    const prepared = prepareRequest({ identifiers: [...FIRST.subject], ...by(second) }, config, keys);
    const message = extendMessage(prepared, { ...FIRST, ...by(first) }, config, keys);
    expect(message.scope.requestedBy).toBe(of);
    expect(message.requestedBy).toBe(second);
  });

  test('is refused by a plan, and when very many have joined', () => {
    expect(extendRefusal(MESSAGE, { ...at, scope: { ...FIRST, dryRun: true } })).toMatch(/takes in no other/);
    const joined = Array.from({ length: 100 }, (_, index) => ({ ...JOINED, requestId: `r-${index}` }));
    expect(extendRefusal(MESSAGE, { ...at, joined })).toMatch(/100 requests/);
  });

  test.each<readonly [string, unknown]>([
    ['nothing', undefined],
    ['a list', [MESSAGE]],
    ['an id with a slash', { ...MESSAGE, requestId: 'a/b' }],
    ['no receipt', { ...MESSAGE, receivedAtMs: 'now' }],
    ['no scope', { ...MESSAGE, scope: null }],
    ['an identifier without a value', { ...MESSAGE, scope: { ...BOTH, subject: [{ kind: 'email' }] } }],
    ['known ids that are none', { ...MESSAGE, scope: { ...BOTH, known: { one: [1] } } }],
    ['no memo', { ...MESSAGE, scopeMemo: undefined }],
  ])('P31: nonsense is refused without a value: %s', (_what, input) => {
    const problem = parseExtendMessage(input);
    expect(typeof problem).toBe('string');
    expect(problem).not.toContain('u_4242');
  });

  test('scopes are compared and united by what they name', () => {
    expect(contains(BOTH, FIRST)).toBe(true);
    expect(contains(FIRST, BOTH)).toBe(false);
    expect(union(['a', 'b', 'a'], ['b', 'c'], (one) => one)).toEqual(['a', 'b', 'a', 'c']);
  });
});

describe('P24: a plan that goes on from an earlier one', () => {
  const entry = (traceId: string, more: Partial<BookEntry> = {}): BookEntry => ({
    projectId: 'p',
    traceId,
    state: 'pending',
    via: 'person',
    runs: 1,
    rowIds: [],
    startMs: 0,
    sentMs: null,
    ...more,
  });
  const book = (entries: readonly BookEntry[], more: Partial<Book> = {}): Book =>
    bookSchema.parse({
      format: 1,
      mergedRound: 0,
      limit: 10,
      projects: [{ id: 'p', name: 'p' }],
      lost: 0,
      baselineKinds: [],
      entries,
      known: [],
      copies: [],
      outOfReach: 0,
      notExamined: [],
      controlsAtPlan: 2,
      silentProjects: 0,
      unprovenKinds: [],
      finders: 2,
      noControl: false,
      batches: [],
      ...more,
    });

  test('forgets nothing that was sent, reads again what was proven, and keeps no longer what now is the person’s', () => {
    const before = book(
      [
        entry('sent', { sentMs: 7 }),
        entry('survived', { state: 'survived', sentMs: 7 }),
        entry('proven', { state: 'verifiedAbsent', sentMs: 7 }),
        entry('never there', { state: 'goneBeforeSubmit' }),
        entry('shared', { state: 'shared' }),
        entry('still shared', { state: 'shared' }),
        entry('unclear', { state: 'inconclusive', sentMs: 7 }),
        entry('half deleted', { sentMs: 7 }),
      ],
      {
        mergedRound: 3,
        known: [{ id: 'k', state: 'resolved', kind: null, foreign: false }],
        copies: [{ kind: 'x', id: '1', traceId: 'proven', state: 'erased' }],
      },
    );
    const now = book(
      [
        entry('sent'),
        entry('survived'),
        entry('shared', { via: 'known' }),
        entry('still shared', { state: 'shared' }),
        entry('of the alias'),
        entry('half deleted', { state: 'linked', via: 'thread' }),
      ],
      { known: [{ id: 'k', state: 'neverMatched', kind: null, foreign: false }] },
    );
    const merged = continued(before, now);
    expect(Object.fromEntries(merged.entries.map(({ traceId, state, sentMs }) => [traceId, [state, sentMs]]))).toEqual({
      sent: ['pending', 7],
      survived: ['survived', 7],
      proven: ['pending', 7],
      'never there': ['goneBeforeSubmit', null],
      shared: ['pending', null],
      'still shared': ['shared', null],
      unclear: ['pending', 7],
      'half deleted': ['pending', 7],
      'of the alias': ['pending', null],
    });
    expect(merged).toMatchObject({ mergedRound: 3, known: [{ id: 'k', state: 'resolved' }] });
    expect(merged.copies).toMatchObject([{ id: '1', state: 'inconclusive' }]);
    expect(imbalances({ given: givenLedger(merged), traces: traceLedger(merged), copies: copyLedger(merged) })).toEqual(
      [],
    );
  });

  test('P29: goes on with kept traces that an approval had included and that were sent, and keeps those that were not', () => {
    const included = ['shared' as const, 'linked' as const];
    const before = book([entry('sent', { sentMs: 7 }), entry('bare', { sentMs: 7, via: 'known' }), entry('unsent')], {
      included,
    });
    const now = book([
      entry('sent', { state: 'shared' }),
      entry('bare', { state: 'linked', via: 'known' }),
      entry('unsent', { state: 'shared' }),
    ]);
    const merged = continued(before, now);
    expect(merged.entries.map(({ traceId, state, sentMs }) => [traceId, state, sentMs])).toEqual([
      ['sent', 'pending', 7],
      ['bare', 'pending', 7],
      ['unsent', 'shared', null],
    ]);
    expect(merged.included).toEqual(included);
    expect(imbalances({ given: givenLedger(merged), traces: traceLedger(merged), copies: copyLedger(merged) })).toEqual(
      [],
    );
  });

  test('P1 P11: is made although an approval was about to include kept traces, which are kept once more', async () => {
    const both = [rowOf('both', 'u_42'), rowOf('both', 'u_7', { runId: 'both-child' })];
    const at = new ScriptedStore([rowOf('own', 'u_42'), ...both, rowOf('of the alias', 'u_9'), rowOf('a', 'u_8')]);
    await LaneSteps.over(at.store, async (steps) => {
      const plan = await steps.resolve();
      const approval = { planDigest: plan.book.digest, atMost: 2, by: 'ines', atMs: 1, include: ['shared'] as const };
      const lane = { ...newLane('prod', 0), book: plan.book, approval, including: true };
      expect(joinedBy(lane, 1)).toMatchObject({ phase: 'resolving', joined: true, including: false });
      // As a run of before would ask for it.
      const joined = await steps.resolve({
        subject: [
          { kind: 'user_id', value: 'u_42' },
          { kind: 'user_id', value: 'u_9' },
        ],
        known: ['of the alias', 'never'],
        approvedAtMost: 2,
        approvedPlan: plan.book.digest,
        include: ['shared'],
        book: plan.book,
        previous: { book: plan.book },
      });
      expect(joined.given).toMatchObject({ total: 2, resolved: 1, neverMatched: 1 });
      expect(await steps.states(joined.book)).toEqual({ own: 'pending', both: 'shared', 'of the alias': 'pending' });
    });
  });

  test('P3: of very many traces that were sent the latest is found, from which a window counts', () => {
    const many = Array.from({ length: 200_000 }, (_, sentMs) => ({ sentMs: sentMs % 2 === 0 ? sentMs : null }));
    expect(latestSent(many)).toBe(199_998);
    expect(latestSent([{ sentMs: null }])).toBeNull();
    expect(latestSent([])).toBeNull();
  });
});
