import { describe, expect, test } from '@jest/globals';
import { CopyCalls } from '../src/stores/copy-calls.ts';
import { guarded, GuardError, KillSwitch } from '../src/stores/guard.ts';
import type { HttpAnswer } from '../src/stores/http.ts';
import type { Copy, TraceStore } from '../src/stores/port.ts';
import { StoreError } from '../src/stores/port.ts';
import { ScriptedStore } from './support/scripted-store.ts';

const idle = (): void => undefined;
const fine = (): Promise<void> => Promise.resolve();
const copy = (id: string, more: Partial<Copy> = {}): Copy => ({ kind: 'examples', id, traceId: 't', ...more });

/** A store with copies in memory, each erased by a call of its own, which takes any refusal for a fact about the copy. */
function storeOf(there: Set<string>, killSwitch: KillSwitch, onCall: (id: string) => void = idle) {
  const sent: string[] = [];
  const inner: TraceStore = {
    ...new ScriptedStore([], {
      copyMap: [
        { kind: 'examples', text: '', examined: true, goesWithTrace: false, erasable: true, erasedWhen: 'after' },
        { kind: 'files', text: '', examined: true, goesWithTrace: false },
      ],
    }).store,
    copies: () =>
      Promise.resolve({ copies: [...there].map((id) => copy(id)), outOfReach: [], notExamined: [], reports: [] }),
    lookupCopies: (copies) => Promise.resolve({ left: copies.filter(({ id }) => there.has(id)), reports: [] }),
    eraseCopies: async (copies, lastWord) => {
      const calls = new CopyCalls();
      for (const one of copies) {
        await calls.make(one.kind, [one], async ([only]): Promise<HttpAnswer> => {
          await lastWord();
          sent.push(only?.id ?? '');
          onCall(only?.id ?? '');
          const answer = { route: 'DELETE /x', status: 200, requestId: null, sentAtMs: 1, receivedAtMs: 2 };
          return answer as HttpAnswer;
        });
      }
      return { reports: [], receipts: calls.receipts };
    },
  };
  return { sent, store: guarded(inner, killSwitch) };
}

describe('the guard before calls that erase copies', () => {
  test('P13 P22: lets only copies through that were read, are one person’s alone, and that a call can name', async () => {
    const { sent, store } = storeOf(new Set(['a', 'b']), new KillSwitch());
    const erase = (copies: readonly Copy[]) => store.eraseCopies!(copies, fine, idle);
    await expect(erase([copy('a')])).rejects.toThrow(/were not read/);
    await store.copies([{ projectId: 'p', traceId: 't' }], [], idle);
    for (const [copies, why] of [
      [[], /none given/],
      [[copy('')], /not erase by itself/],
      [[copy('f', { kind: 'files' })], /not erase by itself/],
      [[copy('a', { others: true })], /alone/],
      [[copy('a'), copy('a')], /twice/],
      [[copy('a'), copy('never-read')], /1 of 2 copies were not read/],
    ] as const) {
      await expect(erase(copies)).rejects.toThrow(GuardError);
      await expect(erase(copies)).rejects.toThrow(why);
    }
    expect(sent).toEqual([]);
    await erase([copy('a')]);
    expect(sent).toEqual(['a']);
  });

  test('what a look shows as left counts as read, what it does not show does not', async () => {
    const { sent, store } = storeOf(new Set(['a']), new KillSwitch());
    await store.lookupCopies([copy('a'), copy('gone')], idle);
    await store.eraseCopies!([copy('a')], fine, idle);
    await expect(store.eraseCopies!([copy('gone')], fine, idle)).rejects.toThrow(/not read/);
    expect(sent).toEqual(['a']);
  });

  test('P19 P27: the switch is asked before each call, and what stops one stops the others and is passed on', async () => {
    const killSwitch = new KillSwitch();
    const { sent, store } = storeOf(new Set(['a', 'b', 'c']), killSwitch, (id) => {
      if (id === 'b') killSwitch.trip('more was deleted than was sent');
    });
    const copies = ['a', 'b', 'c'].map((id) => copy(id));
    await store.lookupCopies(copies, idle);
    await expect(store.eraseCopies!(copies, fine, idle)).rejects.toThrow(StoreError);
    expect(sent).toEqual(['a', 'b']);
    await expect(store.eraseCopies!(copies, fine, idle)).rejects.toThrow(StoreError);
    expect(sent).toEqual(['a', 'b']);
  });

  test('P27: a hold stops before the next call', async () => {
    const { sent, store } = storeOf(new Set(['a', 'b']), new KillSwitch());
    const copies = ['a', 'b'].map((id) => copy(id));
    await store.lookupCopies(copies, idle);
    let asked = 0;
    const word = (): Promise<void> => {
      asked += 1;
      return asked > 1 ? Promise.reject(new Error('held')) : Promise.resolve();
    };
    await expect(store.eraseCopies!(copies, word, idle)).rejects.toThrow('held');
    expect(sent).toEqual(['a']);
  });

  test('copies refused together are tried apart, and each refusal is told', async () => {
    const calls = new CopyCalls();
    const taken: string[] = [];
    await calls.make(
      'examples',
      ['a', 'odd', 'c', 'd'].map((id) => copy(id)),
      (some) => {
        if (some.some(({ id }) => id === 'odd')) {
          const refusal = { reason: 'rejected', route: 'POST /x', status: 422, requestId: 'r' } as const;
          return Promise.reject(new StoreError(refusal));
        }
        taken.push(...some.map(({ id }) => id));
        const answer = { route: 'POST /x', status: 200, requestId: 'r', sentAtMs: 1, receivedAtMs: 2 };
        return Promise.resolve(answer as HttpAnswer);
      },
    );
    expect(taken.sort()).toEqual(['a', 'c', 'd']);
    expect(calls.receipts.filter(({ status }) => status === 422).at(-1)?.ids).toEqual(['odd']);
    const down = new StoreError({ reason: 'unreachable', route: 'POST /x', status: null, requestId: null });
    await expect(calls.make('examples', [copy('a')], () => Promise.reject(down))).rejects.toBe(down);
  });
});
