import { describe, expect, test } from '@jest/globals';
import type { LaneDeps } from '../src/activities/deps.ts';
import { Reader, type Thread } from '../src/activities/reader.ts';
import { expandThreads, isUnclear, threadsOf } from '../src/activities/threads.ts';
import type { Row, ThreadValue } from '../src/stores/port.ts';
import { KEY, OTHER_PROJECT, PROJECT, refusal, rowOf, ScriptedStore } from './support/scripted-store.ts';

const THREAD = 'metadata.thread_id';

function thread(text: string, more: Partial<ThreadValue> = {}): ThreadValue {
  return { key: THREAD, text, numeric: false, ...more };
}

function inThread(traceId: string, text: string, person: string | null = null, more: Partial<Row> = {}): Row {
  return rowOf(traceId, person, { threads: [thread(text)], ...more });
}

const named = (text: string): Thread => ({ projectId: PROJECT.id, key: THREAD, text });

function scene(rows: readonly Row[]) {
  const inner = new ScriptedStore(rows);
  const deps = {
    store: { ...inner.store, threads: [THREAD, KEY] },
    kinds: [{ kind: 'user_id', caseInsensitive: false }],
    searchKeys: { user_id: [KEY] },
  } as unknown as LaneDeps;
  const input = { requestId: 'r', connection: 'c', step: 1, subject: [{ kind: 'user_id', value: 'u_42' }] };
  const options = { input, projects: [PROJECT, OTHER_PROJECT], nowMs: 0, progress: () => undefined };
  const reader = new Reader(deps, options);
  const expand = (threads: readonly Thread[]) =>
    expandThreads(deps, reader, threads, { known: new Map(), proof: 'own' });
  return { inner, deps, expand };
}

const ids = (traces: ReadonlyMap<string, { readonly traceId: string }>): string[] =>
  [...traces.values()].map(({ traceId }) => traceId).sort();

describe('the conversations of some rows', () => {
  test('P12 P18: each once, by project; none by a value that names no conversation, or by a key of people', () => {
    const { deps } = scene([]);
    const rows = [
      inThread('t1', 'a', 'u_42'),
      inThread('t2', 'a', 'u_42'),
      inThread('t3', 'a', 'u_42', { projectId: OTHER_PROJECT.id }),
      ...['null', 'default', '', '*'].map((text, at) => inThread(`n${at}`, text)),
      rowOf('t4', 'u_42', { threads: [thread('["a","b"]', { nested: true }), { ...thread('u_42'), key: KEY }] }),
    ];
    expect(threadsOf(deps, rows)).toEqual([named('a'), { ...named('a'), projectId: OTHER_PROJECT.id }]);
  });

  test('P12: no conversation is no call', async () => {
    const { inner, expand } = scene([inThread('t1', 'a')]);
    expect(await expand([])).toMatchObject({ threads: [], missed: 0 });
    expect(inner.calls).toEqual([]);
  });
});

describe('what stands in conversations', () => {
  test('P12: a conversation that holds others is told from one that does not, and other projects stay out', async () => {
    const { expand } = scene([
      inThread('own', 'a', 'u_42'),
      inThread('bare', 'a'),
      inThread('mine', 'b', 'u_42'),
      inThread('theirs', 'b', 'u_7'),
      inThread('elsewhere', 'a', null, { projectId: OTHER_PROJECT.id }),
      inThread('stranger', 'c'),
    ]);
    const found = await expand([named('a'), named('b')]);
    expect(ids(found.traces)).toEqual(['bare', 'mine', 'own', 'theirs']);
    expect(found.threads.map(({ text, shared }) => [text, shared])).toEqual([
      ['a', false],
      ['b', true],
    ]);
    expect(found).toMatchObject({ others: 1, missed: 0 });
  });

  test('P12: a search that does not show the person’s own trace is blind, and says nothing of the conversation', async () => {
    const { inner, expand } = scene([inThread('own', 'a', 'u_42'), inThread('mine', 'b', 'u_42')]);
    inner.after = (called, read) =>
      called.what === 'find' ? { ...read, rows: read.rows.filter(({ traceId }) => traceId === 'mine') } : read;
    expect(await expand([named('a'), named('b')])).toMatchObject({ missed: 1 });
  });

  test('P12 P26: a value that a whole application shares is given up by itself, and the others are still followed', async () => {
    const crowd = Array.from({ length: 10_001 }, (_none, at) => inThread(`t${at}`, 'everybody'));
    const { inner, expand } = scene([...crowd, inThread('own', 'a', 'u_42'), inThread('bare', 'a')]);
    const found = await expand([named('everybody'), named('a')]);
    expect(ids(found.traces)).toEqual(['bare', 'own']);
    expect(found.missed).toBe(1);
    expect(inner.count('find')).toBe(3);
  });

  test('P26: a search that the store refuses leaves the conversations unknown; one that gets no answer is tried again', async () => {
    const { inner, expand } = scene([inThread('own', 'a', 'u_42')]);
    inner.before = ({ what }) => {
      if (what === 'find') throw refusal('rejected');
    };
    expect(await expand([named('a')])).toMatchObject({ missed: 1 });
    inner.before = ({ what }) => {
      if (what === 'find') throw refusal('unreachable', null);
    };
    await expect(expand([named('a')])).rejects.toMatchObject({ reason: 'unreachable' });
  });
});

describe('whether an unlabelled trace may be somebody else’s', () => {
  const known = [
    { ...named('a'), shared: false },
    { ...named('b'), shared: true },
  ];
  test.each([
    ['the person’s own conversation', [thread('a')], false],
    ['one that holds others', [thread('b')], true],
    ['the person’s own and one of which nothing is known', [thread('a'), thread('z')], true],
    ['a list of conversations', [thread('a'), thread('["a","z"]', { nested: true })], true],
    ['the person’s own, and a value that names none', [thread('a'), thread('null')], false],
  ] as const)('P12: %s', (_what, threads, expected) => {
    expect(isUnclear([rowOf('t', null, { threads })], known)).toBe(expected);
  });
});
