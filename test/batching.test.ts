import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { setTimeout as sleep } from 'node:timers/promises';
import { DAY_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import type { LangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { startLangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import type { BatchingOptions } from '../src/stores/batching.ts';
import { batched } from '../src/stores/batching.ts';
import { guarded, KillSwitch } from '../src/stores/guard.ts';
import type {
  Control,
  Copy,
  DeleteOrder,
  FindQuery,
  LookupQuery,
  Progress,
  Project,
  Read,
  Receipt,
  Row,
  TraceRef,
  TraceStore,
} from '../src/stores/port.ts';
import { partlyDone, StoreError, THREAD_KIND } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import { CONNECTION, World } from './support/world.ts';
import {
  controlOf,
  KEY,
  OTHER_PROJECT,
  PROJECT,
  refusal,
  rowOf,
  ScriptedStore,
  step,
  Stop,
  WINDOW,
} from './support/scripted-store.ts';

/** Waits short enough for a test; steps that ask at once are put together whatever these are. */
const QUICK: BatchingOptions = {
  boardingMs: 25,
  mostBoardingMs: 100,
  mostCrowdBoardingMs: 100,
  mostCrowdQuietMs: 50,
  busyMs: 100,
  callingMs: 300,
  lookMs: 5,
};
const PROJECTS: readonly Project[] = [PROJECT, OTHER_PROJECT];

function batch(inner: ScriptedStore, options: BatchingOptions = {}, killSwitch = new KillSwitch()): TraceStore {
  return batched(inner.store, null, killSwitch, { ...QUICK, ...options });
}

function find(store: TraceStore, person: string, progress: Progress, more: Partial<FindQuery> = {}): Promise<Read> {
  const terms = [{ kind: 'user_id', keys: [KEY], variants: [person] }];
  const [finder] = store.finders;
  if (finder === undefined) throw new Error('no finder');
  return finder.find({ projects: PROJECTS, terms, window: WINDOW, controls: [], progress, ...more });
}

function refs(traceIds: readonly string[], projectId = PROJECT.id): TraceRef[] {
  return traceIds.map((traceId) => ({ projectId, traceId }));
}

function lookup(
  store: TraceStore,
  traces: readonly TraceRef[],
  progress: Progress,
  more: Partial<LookupQuery> = {},
): Promise<Read> {
  const [route] = store.lookups;
  if (route === undefined) throw new Error('no route');
  return route.lookup({ traces, window: WINDOW, controls: [], progress, ...more });
}

function order(traceIds: readonly string[], progress: Progress, more: Partial<DeleteOrder> = {}): DeleteOrder {
  const lastWord = (): Promise<void> => Promise.resolve();
  return { projectId: PROJECT.id, traces: refs(traceIds), lastWord, progress, ...more };
}

function ids(read: Read): string[] {
  return [...new Set(read.rows.map(({ traceId }) => traceId))].sort();
}

function crew<T, Name>(
  store: TraceStore,
  names: readonly Name[],
  work: (name: Name, progress: Progress) => Promise<T>,
): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled(names.map((name) => step(store, (progress) => work(name, progress))));
}

function values<T>(results: readonly PromiseSettledResult<T>[]): T[] {
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

function reasons(results: readonly PromiseSettledResult<unknown>[]): unknown[] {
  return results.map((result) => (result.status === 'rejected' ? reasonOf(result.reason) : 'done'));
}

function reasonOf(error: unknown): unknown {
  return error instanceof StoreError ? error.reason : (error as Error).message;
}

/** Traces 0 to n - 1 of as many people. */
function world(count: number): { readonly people: readonly string[]; readonly rows: readonly Row[] } {
  const people = Array.from({ length: count }, (_none, at) => `person-${at}`);
  return { people, rows: people.map((person, at) => rowOf(`trace-${at}`, person)) };
}

const live = controlOf(rowOf('live', 'somebody'));
const LIVE_ROW = rowOf('live', 'somebody');

describe('searches by conversation', () => {
  const inThread = (traceId: string, text: string, person: string | null = null): Row =>
    rowOf(traceId, person, { threads: [{ key: 'metadata.thread_id', text, numeric: false }] });
  const findThread = (store: TraceStore, text: string, progress: Progress): Promise<Read> =>
    find(store, '', progress, { terms: [{ kind: THREAD_KIND, keys: ['metadata.thread_id'], variants: [text] }] });

  test('P12 P20: conversations of several people share a call, and everybody gets the rows of theirs', async () => {
    const rows = [inThread('t1', 'a', 'ann'), inThread('t2', 'a'), inThread('t3', 'b', 'bob'), inThread('t4', 'c')];
    const inner = new ScriptedStore(rows);
    const store = batch(inner);
    const reads = values(await crew(store, ['a', 'b', 'a'], (text, progress) => findThread(store, text, progress)));
    expect(reads.map(ids)).toEqual([['t1', 't2'], ['t3'], ['t1', 't2']]);
    expect(inner.count('find')).toBe(1);
  });

  test('P20: a row of a conversation that nobody asked for fails the call for all', async () => {
    const inner = new ScriptedStore([inThread('t1', 'a'), inThread('t2', 'b')]);
    inner.after = (_called, read) => ({ ...read, rows: [...read.rows, inThread('t9', 'somebody-else')] });
    const store = batch(inner);
    const results = await crew(store, ['a', 'b'], (text, progress) => findThread(store, text, progress));
    expect(reasons(results)).toEqual(['contract-broken', 'contract-broken']);
  });
});

// -------------------------------------------------------------------------------------------------- shared reads

describe('reads that several people share', () => {
  test('P20: everybody gets what they would have got alone, whatever others ask for at the same time', async () => {
    const trace = fc.nat(11).map((at) => `t${at}`);
    const person = fc.constantFrom('ann', 'Ann', 'bob', '17', '17.0', 'zoë');
    const project = fc.constantFrom(PROJECT.id, OTHER_PROJECT.id);
    const row = fc
      .record({ traceId: trace, person: fc.option(person), projectId: project, run: fc.nat(2) })
      .map(({ traceId, person: text, projectId, run }) =>
        rowOf(traceId, text, { projectId, runId: `${projectId}/${traceId}/${run}` }),
      );
    const question = fc.record({
      person,
      traces: fc.uniqueArray(fc.record({ traceId: trace, projectId: project }), {
        minLength: 1,
        maxLength: 5,
        selector: ({ traceId, projectId }) => projectId + traceId,
      }),
      controls: fc.array(fc.nat(30), { maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(row, { maxLength: 25, selector: ({ runId }) => runId }),
        fc.array(question, { minLength: 2, maxLength: 7 }),
        async (rows, questions) => {
          const inner = new ScriptedStore(rows);
          const store = batch(inner);
          const known = rows.filter(({ persons }) => persons.length > 0).map(controlOf);
          const asked = questions.map(({ person: name, traces, controls }) => {
            const mine = controls.flatMap((at) => known[at % Math.max(1, known.length)] ?? []);
            const keys = new Set(traces.map(({ projectId, traceId }) => projectId + traceId));
            return { name, traces, keys, controls: [...new Set(mine)] };
          });
          const ask = async (from: TraceStore, progress: Progress, { name, traces, controls }: (typeof asked)[0]) => ({
            found: await find(from, name, progress, { controls }),
            whole: await lookup(from, traces, progress, { controls }),
          });
          const together = values(await crew(store, asked, (one, progress) => ask(store, progress, one)));
          for (const [at, one] of asked.entries()) {
            const alone = await ask(inner.store, () => undefined, one);
            const mine = together[at];
            const inKeys = ({ projectId, traceId }: Row): boolean => one.keys.has(projectId + traceId);
            expect(mine?.found.rows).toEqual(alone.found.rows);
            expect(mine?.found.controlsSeen).toEqual(alone.found.controlsSeen);
            expect(mine?.found.report.rows).toBe(alone.found.rows.length);
            expect(mine?.whole.rows.filter(inKeys)).toEqual(alone.whole.rows.filter(inKeys));
            expect(mine?.whole.controlsSeen).toEqual(alone.whole.controlsSeen);
          }
          expect(inner.calls.slice(0, -2 * asked.length).filter(({ what }) => what === 'find')).toHaveLength(1);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('one call of each kind serves all, and a person’s figures are their own', async () => {
    const { people, rows } = world(20);
    const inner = new ScriptedStore([...rows, LIVE_ROW]);
    const store = batch(inner);
    const results = values(
      await crew(store, people, async (person, progress) => {
        const projects = await store.projects(progress);
        const exclude = (row: Row): boolean => row.persons.some(({ text }) => text === person);
        const { controls } = await store.controls({
          projects,
          terms: [{ kind: 'user_id', keys: [KEY] }],
          window: WINDOW,
          want: 2,
          exclude,
          progress,
        });
        const found = await find(store, person, progress, { controls });
        const whole = await lookup(store, found.rows, progress, { controls });
        const located = await store.locate({ ids: ids(found), projects, window: WINDOW, controls, progress });
        const copies = await store.copies(found.rows, whole.rows, progress);
        const { left } = await store.lookupCopies(copies.copies, progress);
        const receipt = await store.submit(order(ids(found), progress));
        return { controls, found, whole, located, copies, left, receipt };
      }),
    );
    for (const [at, one] of results.entries()) {
      const mine = [`trace-${at}`];
      // Everybody has an open request but this one: whoever may not serve for one of them serves for nobody.
      expect(one.controls).toEqual([live]);
      for (const read of [one.found, one.whole, one.located]) {
        expect(ids(read)).toEqual(mine);
        expect(read.report).toMatchObject({ rows: 1, people: 20, calls: 1, controlsAsked: 1, controlsSeen: 1 });
      }
      expect(one.copies.copies).toEqual([{ kind: 'feedback', id: `copy-trace-${at}`, traceId: `trace-${at}` }]);
      expect(one.left.length).toBe(`trace-${at}`.endsWith('1') ? 1 : 0);
      expect(one.receipt).toMatchObject({ status: 202, people: 20 });
      expect(one.receipt.refused).toBeUndefined();
    }
    expect(inner.calls.map(({ what }) => what)).toEqual([
      'projects',
      'controls',
      'find',
      'lookup',
      'locate',
      'copies',
      'lookupCopies',
      'submit',
    ]);
    expect([...(inner.deleted[0] ?? [])].sort()).toEqual(people.map((_person, at) => `trace-${at}`).sort());
  });

  test('P20: a row that nobody asked for fails all who share the call, and none of those in another call', async () => {
    const { people, rows } = world(4);
    const inner = new ScriptedStore([...rows, rowOf('strange', 'stranger')]);
    const store = batch(inner);
    inner.after = ({ what }, read) => ({
      ...read,
      rows: what === 'find' ? [...read.rows, rowOf('strange', 'stranger')] : read.rows,
    });
    const results = await Promise.allSettled(
      people.map((person, at) =>
        step(store, async (progress) =>
          at < 2 ? find(store, person, progress) : lookup(store, refs([`trace-${at}`]), progress),
        ),
      ),
    );
    expect(reasons(results)).toEqual(['contract-broken', 'contract-broken', 'done', 'done']);
    inner.after = (_called, read) => ({ ...read, rows: [...read.rows, rowOf('strange', 'stranger')] });
    expect(
      reasons(await crew(store, people, (_person, progress) => lookup(store, refs(['trace-0']), progress))),
    ).toEqual(people.map(() => 'contract-broken'));
  });

  test('P20: a loose row that nobody asked for fails them too', async () => {
    const { people, rows } = world(2);
    const inner = new ScriptedStore(rows);
    const loose = (text: string, id: string) => ({
      kind: 'logs',
      id,
      persons: [{ kind: 'user_id', key: KEY, text, numeric: false }],
    });
    const store = batch(inner);
    inner.after = (_called, read) => ({ ...read, loose: [loose('person-0', 'a'), loose('person-1', 'b')] });
    const read = values(await crew(store, people, (person, progress) => find(store, person, progress)));
    expect(read.map((one) => one.loose?.map(({ id }) => id))).toEqual([['a'], ['b']]);
    inner.after = (_called, answer) => ({ ...answer, loose: [loose('person-9', 'a')] });
    const results = await crew(store, people, (person, progress) => find(store, person, progress));
    expect(reasons(results)).toEqual(['contract-broken', 'contract-broken']);
  });

  test('P26: one whose question breaks every call it rides in holds nobody up: the next time all go apart', async () => {
    const { people, rows } = world(5);
    const inner = new ScriptedStore(rows);
    const store = batch(inner);
    inner.before = (called) => {
      if (called.what !== 'find') return;
      const breaks = called.query.terms.some(({ variants }) => variants.includes('person-3'));
      if (breaks) throw refusal('contract-broken', 200);
    };
    const once = (): Promise<unknown[]> =>
      crew(store, people, (person, progress) => find(store, person, progress)).then(reasons);
    expect(await once()).toEqual(people.map(() => 'contract-broken'));
    expect(await once()).toEqual(['done', 'done', 'done', 'contract-broken', 'done']);
    expect(inner.count('find')).toBe(1 + 5);
  });

  test('after a while of going apart calls are shared again', async () => {
    const { people, rows } = world(3);
    const inner = new ScriptedStore(rows);
    const clock = { realMs: Date.now(), virtualMs: Date.now(), speed: 60_000 };
    // A quarter of an hour of this clock is 15 ms.
    const store = batched(inner.store, clock, new KillSwitch(), QUICK);
    inner.before = () => {
      throw refusal('unreachable', 500);
    };
    const once = (): Promise<unknown[]> =>
      crew(store, people, (_person, progress) => lookup(store, refs(['trace-0']), progress)).then(reasons);
    expect(await once()).toEqual(people.map(() => 'unreachable'));
    inner.before = () => undefined;
    await sleep(20);
    expect(await once()).toEqual(people.map(() => 'done'));
    expect(inner.count('lookup')).toBe(2);
  });

  test('P26: a read that the store refuses because of one of them is made again without that one, by few calls', async () => {
    const { people, rows } = world(32);
    const inner = new ScriptedStore(rows);
    const store = batch(inner);
    inner.before = (called) => {
      if (called.what === 'lookup' && called.query.traces.some(({ traceId }) => traceId === 'trace-13'))
        throw refusal('gone', 404);
    };
    const results = await Promise.allSettled(
      people.map((_person, at) => step(store, (progress) => lookup(store, refs([`trace-${at}`]), progress))),
    );
    expect(reasons(results)).toEqual(people.map((_person, at) => (at === 13 ? 'gone' : 'done')));
    expect(inner.count('lookup')).toBe(1 + 2 * 5);
    inner.calls.splice(0);
    inner.before = () => {
      throw refusal('denied', 403);
    };
    const refused = await crew(store, people, (_person, progress) => lookup(store, refs(['trace-1']), progress));
    expect(reasons(refused)).toEqual(people.map(() => 'denied'));
    expect(inner.count('lookup')).toBeLessThan(people.length);
  });

  test('a throttled call tells all of them when to come back, and is not made again', async () => {
    const { people, rows } = world(6);
    const inner = new ScriptedStore(rows);
    const store = batch(inner);
    inner.before = () => {
      throw refusal('throttled', 429);
    };
    const results = await crew(store, people, (person, progress) => find(store, person, progress));
    expect(reasons(results)).toEqual(people.map(() => 'throttled'));
    expect(inner.count('find')).toBe(1);
  });

  test('P6: a control that only one of them asked for and that is not seen is missed by that one alone', async () => {
    const gone = controlOf(rowOf('vanished', 'nobody any more'));
    const other = controlOf(rowOf('live-b', 'somebody', { projectId: OTHER_PROJECT.id }));
    const inner = new ScriptedStore([
      rowOf('t0', 'p0'),
      rowOf('t1', 'p1'),
      LIVE_ROW,
      { ...rowOf('live-b', 'somebody'), projectId: OTHER_PROJECT.id },
    ]);
    const store = batch(inner);
    const mine = [
      [live, other],
      [live, gone, other],
    ];
    const results = values(
      await crew(store, [0, 1], async (at, progress) => [
        await find(store, `p${at}`, progress, { controls: mine[at] ?? [] }),
        await lookup(store, refs([`t${at}`]), progress, { controls: mine[at] ?? [] }),
      ]),
    );
    expect(results.map((reads) => reads.map(({ controlsSeen }) => controlsSeen))).toEqual([
      [
        [true, true],
        [true, true],
      ],
      [
        [true, false, true],
        [true, false, true],
      ],
    ]);
    expect(inner.count('find')).toBe(1);
  });

  test('P6: who has no control of their own in a project relies on those of the others there', async () => {
    // The connector reads each project by a call of its own; the one of project b is blind.
    const inner = new ScriptedStore([LIVE_ROW, rowOf('mine', 'p0', { projectId: OTHER_PROJECT.id })]);
    const theirs = controlOf(rowOf('live-b', 'else', { projectId: OTHER_PROJECT.id }));
    inner.after = ({ what, query }, read) =>
      what === 'lookup'
        ? {
            ...read,
            rows: read.rows.filter(({ projectId }) => projectId === PROJECT.id),
            controlsSeen: query.controls.map(({ projectId }) => projectId === PROJECT.id),
          }
        : read;
    const store = batch(inner);
    const ask = (controls: readonly Control[]) => (progress: Progress) =>
      lookup(store, refs(['mine'], OTHER_PROJECT.id), progress, { controls });
    const [relying, owning, none] = await Promise.allSettled([
      step(store, ask([live])),
      step(store, ask([live, theirs])),
      step(store, ask([])),
    ]);
    expect(inner.count('lookup')).toBe(1);
    expect(relying).toMatchObject({ value: { rows: [], controlsSeen: [false] } });
    expect(owning).toMatchObject({ value: { controlsSeen: [true, false] } });
    expect(none).toMatchObject({ status: 'rejected', reason: { reason: 'contract-broken' } });
  });

  test('a trace that is somebody’s control is not looked up in the same call', async () => {
    const { rows } = world(2);
    const inner = new ScriptedStore(rows);
    const store = batch(inner);
    const control = controlOf(rows[1] as Row);
    const [first, second] = values(
      await crew(store, [0, 1], (at, progress) =>
        lookup(store, refs([`trace-${at}`]), progress, { controls: at === 0 ? [control] : [] }),
      ),
    );
    expect(first).toMatchObject({ rows: [rows[0]], controlsSeen: [true] });
    expect(second).toMatchObject({ rows: [rows[1]], controlsSeen: [] });
    expect(inner.count('lookup')).toBe(2);
  });

  test('a trace that lies in two projects is no strange row, and is given to those who asked there', async () => {
    const inner = new ScriptedStore([
      rowOf('twin', 'p', { runId: 'r-a' }),
      rowOf('twin', 'p', { runId: 'r-b', projectId: OTHER_PROJECT.id }),
      rowOf('other', 'q', { projectId: OTHER_PROJECT.id }),
    ]);
    const store = batch(inner);
    const [twin, other] = values(
      await Promise.allSettled([
        step(store, (progress) => lookup(store, refs(['twin']), progress)),
        step(store, (progress) => lookup(store, refs(['other'], OTHER_PROJECT.id), progress)),
      ]),
    );
    expect(inner.count('lookup')).toBe(1);
    expect(twin?.rows.map(({ runId }) => runId)).toEqual(['r-a']);
    expect(other?.rows.map(({ runId }) => runId)).toEqual(['other-root']);
  });

  test('a row that was asked for by its own id is its asker’s, whatever trace it stands in now', async () => {
    const inner = new ScriptedStore([rowOf('moved', null, { runId: 'row-1' }), rowOf('t2', 'q')], { deletesBy: 'row' });
    const store = batch(inner);
    const [first, second] = values(
      await Promise.allSettled([
        step(store, (progress) =>
          lookup(store, [{ projectId: PROJECT.id, traceId: 't1', rowIds: ['row-1'] }], progress),
        ),
        step(store, (progress) => lookup(store, refs(['t2']), progress)),
      ]),
    );
    expect(inner.count('lookup')).toBe(1);
    expect(first?.rows.map(({ runId }) => runId)).toEqual(['row-1']);
    expect(second?.rows.map(({ runId }) => runId)).toEqual(['t2-root']);
  });

  test('P20: no searches are put together where page tokens are offsets, nor where one search takes one spelling', async () => {
    for (const traits of [{ pageTokens: 'offset' }, { mostSpellingsPerFind: 1 }] as const) {
      const { people, rows } = world(5);
      const inner = new ScriptedStore(rows, traits);
      const store = batch(inner);
      const reads = values(await crew(store, people, (person, progress) => find(store, person, progress)));
      expect(reads.map(ids)).toEqual(people.map((_person, at) => [`trace-${at}`]));
      expect(inner.count('find')).toBe(5);
      for (const { report } of reads) expect(report.people).toBeUndefined();
    }
  });

  test('spellings, traces and controls above what one call takes are cut by whole questions', async () => {
    const { people, rows } = world(10);
    const inner = new ScriptedStore(rows, { mostSpellingsPerFind: 4 });
    const store = batch(inner, { mostTraces: 3, mostControls: 2 });
    const controls = [live];
    values(await crew(store, people, (person, progress) => find(store, person, progress, { controls })));
    expect(inner.count('find')).toBe(3);
    values(await crew(store, people, (_person, progress) => lookup(store, refs(['trace-1']), progress)));
    expect(inner.count('lookup')).toBe(4);
    inner.calls.splice(0);
    values(
      await crew(store, [0, 1, 2, 3], (at, progress) =>
        lookup(store, refs(['trace-9']), progress, { controls: [controlOf(rows[at] as Row)] }),
      ),
    );
    expect(inner.count('lookup')).toBe(2);
  });

  test('one with very many rows is sent on alone, and the search of the others is made again', async () => {
    const { people, rows } = world(6);
    const whale = Array.from({ length: 60 }, (_none, at) => rowOf(`whale-${at}`, 'person-2'));
    const inner = new ScriptedStore([...rows, ...whale]);
    const store = batch(inner, { mostRows: 50 });
    const slow = Promise.withResolvers<undefined>();
    inner.before = async (called) => {
      const alone = called.what === 'find' && called.query.terms[0]?.variants.length === 1;
      if (alone) await slow.promise;
    };
    let others = 0;
    const all = crew(store, people, async (person, progress) => {
      const found = await find(store, person, progress);
      // Those left in the convoy go on while the large one still reads.
      if (person !== 'person-2') {
        await lookup(store, found.rows, progress);
        others += 1;
        if (others === 5) slow.resolve(undefined);
      }
      return found;
    });
    const reads = values(await all);
    expect(reads.map(({ rows: mine }) => mine.length)).toEqual([1, 1, 61, 1, 1, 1]);
    expect(reads.map(({ report }) => report.people)).toEqual([5, 5, undefined, 5, 5, 5]);
    expect(inner.count('find')).toBe(3);
    expect(inner.count('lookup')).toBe(1);
  });

  test('many who have many rows between them are searched for in halves, and none gets half of theirs', async () => {
    const people = Array.from({ length: 12 }, (_none, at) => `p-${at}`);
    const inner = new ScriptedStore([0, 1, 2, 3].flatMap((at) => people.map((p) => rowOf(`${p}-t${at}`, p))));
    const store = batch(inner, { mostRows: 13 });
    const reads = values(await crew(store, people, (person, progress) => find(store, person, progress)));
    expect(reads.map(({ rows }) => rows.length)).toEqual(people.map(() => 4));
    expect(inner.count('find')).toBeLessThan(people.length);
  });

  test('one who looks up very many traces goes on alone and keeps nobody waiting', async () => {
    const { people, rows } = world(3);
    const inner = new ScriptedStore(rows);
    const store = batch(inner, { heavyTraces: 10, callingMs: 60_000 });
    const many = Array.from({ length: 11 }, (_none, at) => `many-${at}`);
    const hang = Promise.withResolvers<undefined>();
    inner.before = async (called) => {
      if (called.what === 'lookup' && called.query.traces.length > 10) await hang.promise;
    };
    let left = people.length;
    const small = async (person: string, progress: Progress): Promise<void> => {
      await find(store, person, progress);
      await lookup(store, refs(['trace-0']), progress);
      left -= 1;
      if (left === 0) hang.resolve(undefined);
    };
    await Promise.all([
      step(store, (progress) => lookup(store, refs(many), progress)),
      crew(store, people, small).then(values),
    ]);
    expect(inner.count('lookup')).toBe(2);
  });
});

describe('copies that several people ask for', () => {
  /** One copy of each trace, which names it by its id alone; content is looked through for so many rows in one question. */
  function holding(most: number, rows: readonly Row[]) {
    const asked: number[] = [];
    const inner = new ScriptedStore(rows);
    const copies: TraceStore['copies'] = (traces, ofTraces) => {
      asked.push(ofTraces.length);
      return Promise.resolve({
        copies: traces.map(({ projectId, traceId }) => ({ kind: 'datasets', id: `${projectId}/${traceId}`, traceId })),
        outOfReach: [],
        notExamined: ofTraces.length > most ? [{ kind: 'attachments', why: 'too many rows' }] : [],
        reports: [],
      });
    };
    return { asked, store: batched({ ...inner.store, copies }, null, new KillSwitch(), QUICK) };
  }

  test('P1: what one question may look through is not used up by all who ask at the same time', async () => {
    const people = Array.from({ length: 30 }, (_none, at) => `person-${at}`);
    const rowsOf = (person: string): Row[] =>
      Array.from({ length: 700 }, (_none, at) => rowOf(`trace-of-${person}`, person, { runId: `${person}-${at}` }));
    const { store, asked } = holding(20_000, people.flatMap(rowsOf));
    const found = values(
      await crew(store, people, (person, progress) =>
        store.copies(refs([`trace-of-${person}`]), rowsOf(person), progress),
      ),
    );
    expect(found.map(({ notExamined }) => notExamined)).toEqual(people.map(() => []));
    expect(found.map(({ copies }) => copies.map(({ traceId }) => traceId))).toEqual(
      people.map((person) => [`trace-of-${person}`]),
    );
    expect(asked.length).toBeLessThan(people.length / 3);
    const [whale = ''] = people;
    const huge = Array.from({ length: 30 }, () => rowsOf(whale)).flat();
    const alone = await store.copies(refs([`trace-of-${whale}`]), huge, () => undefined);
    expect(alone.notExamined).toEqual([{ kind: 'attachments', why: 'too many rows' }]);
  });

  test('P22: nobody gets the copies of a trace that has the same id in another project', async () => {
    const projects = [PROJECT.id, OTHER_PROJECT.id];
    const { store } = holding(10, []);
    const found = values(
      await crew(store, projects, (projectId, progress) => store.copies(refs(['same'], projectId), [], progress)),
    );
    expect(found.map(({ copies }) => copies.map(({ id }) => id))).toEqual(projects.map((id) => [`${id}/same`]));
    const both = [projects, [OTHER_PROJECT.id]];
    const again = values(
      await crew(store, both, (ids, progress) =>
        store.copies(
          ids.flatMap((id) => refs(['same'], id)),
          [],
          progress,
        ),
      ),
    );
    expect(again.map(({ copies }) => copies.map(({ id }) => id))).toEqual(
      both.map((ids) => ids.map((id) => `${id}/same`)),
    );
  });
});

// ------------------------------------------------------------------------------------------------ shared deletes

describe('deletes that several people share', () => {
  const each = (count: number): string[] => Array.from({ length: count }, (_none, at) => `trace-${at}`);

  function submit(store: TraceStore, traceIds: readonly (readonly string[])[], more: Partial<DeleteOrder> = {}) {
    return crew(store, traceIds, (mine, progress) => store.submit(order(mine, progress, more)));
  }

  test('P20: a refused delete is halved until the bad id stands alone, and the others are acknowledged', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = (called) => {
      const bad = called.what === 'submit' && called.query.traces.some(({ traceId }) => traceId === 'trace-5');
      if (bad) throw refusal('rejected', 422);
    };
    const results = await submit(store, [...each(16).map((id) => [id]), ['trace-5', 'trace-20']]);
    expect(reasons(results)).toEqual([...each(16).map((id) => (id === 'trace-5' ? 'rejected' : 'done')), 'done']);
    expect(results.at(-1)).toMatchObject({ value: { status: 202, refused: ['trace-5'] } });
    expect(inner.deleted.flat().sort()).toEqual([...each(16), 'trace-20'].filter((id) => id !== 'trace-5').sort());
    expect(inner.count('submit')).toBeLessThanOrEqual(2 * 5 + 1);
  });

  test('P26: many bad ids of one person do not take the others’ deletion from them', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = (called) => {
      if (called.what === 'submit' && called.query.traces.some(({ traceId }) => /^bad/.test(traceId)))
        throw refusal('rejected', 422);
    };
    // Between the others' ids, so that no half is free of them.
    const bad = Array.from({ length: 20 }, (_none, at) => `bad-${at}`);
    const mixed = bad.flatMap((id, at) => [[id, `own-${at}`], ...each(5).map((name) => [`${name}-${at}`])]);
    const results = await submit(store, mixed);
    expect(reasons(results)).toEqual(mixed.map(() => 'done'));
    expect(inner.deleted.flat()).toHaveLength(6 * 20);
    expect(inner.deleted.flat().filter((id) => id.startsWith('bad'))).toEqual([]);
  });

  test('P2 P20: what is refused after a part was deleted is not sent again in halves, and is nobody’s refusal', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const taken: string[] = [];
    inner.before = (called) => {
      if (called.what !== 'submit') return;
      taken.push(...called.query.traces.map(({ traceId }) => traceId));
      if (taken.includes('trace-1')) throw partlyDone(refusal('rejected', 422));
    };
    const orders = [['trace-0'], ['trace-1', 'trace-2'], ['trace-3']];
    const results = await submit(store, orders);
    const open: unknown = expect.objectContaining({ reason: 'rejected', partlyDone: true });
    expect(results).toEqual(orders.map(() => ({ status: 'rejected', reason: open })));
    expect(taken).toEqual(['trace-0', 'trace-1', 'trace-2', 'trace-3']);
    // The next time they go apart, so that the others do not wait for the one whose order cannot be ended.
    taken.splice(0);
    expect(reasons(await submit(store, [['trace-0'], ['trace-3']]))).toEqual(['done', 'done']);
    expect(inner.deleted).toEqual([['trace-0'], ['trace-3']]);
  });

  test('a store that refuses everything is not asked twice for every id', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = () => {
      throw refusal('rejected', 400);
    };
    const results = await submit(
      store,
      each(200).map((id) => [id, `${id}-b`]),
    );
    expect(reasons(results)).toEqual(each(200).map(() => 'rejected'));
    expect(inner.count('submit')).toBeLessThan(50);
    expect(inner.deleted).toEqual([]);
  });

  test('P19: once the kill switch has tripped nothing is split, repeated or sent', async () => {
    const inner = new ScriptedStore([]);
    const killSwitch = new KillSwitch();
    const store = batch(inner, {}, killSwitch);
    inner.before = () => {
      killSwitch.trip('more was deleted than sent');
      throw refusal('rejected', 400);
    };
    expect(reasons(await submit(store, [['trace-0', 'trace-1'], ['trace-2']]))).toEqual(['rejected', 'rejected']);
    expect(inner.count('submit')).toBe(1);
  });

  test('P19: a switch that trips between two halves stops the second; those of the first have their receipt', async () => {
    const inner = new ScriptedStore(each(4).map((id) => rowOf(id, 'p')));
    const killSwitch = new KillSwitch();
    const store = guarded(batched(inner.store, null, killSwitch, QUICK), killSwitch);
    inner.before = (called) => {
      if (called.what !== 'submit') return;
      if (called.query.traces.length > 2) throw refusal('rejected', 400);
      killSwitch.trip('more was deleted than sent');
    };
    const results = await crew(store, each(4), async (id, progress) => {
      await lookup(store, refs([id]), progress);
      return store.submit(order([id], progress));
    });
    expect(reasons(results)).toEqual(['done', 'done', 'switched-off', 'switched-off']);
    expect(inner.deleted).toEqual([['trace-0', 'trace-1']]);
  });

  test('P20: after an answer that was lost nobody of the call has a receipt, and it is not sent again', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = ({ what }) => {
      if (what === 'submit') throw refusal('unreachable', null);
    };
    expect(
      reasons(
        await submit(
          store,
          each(5).map((id) => [id]),
        ),
      ),
    ).toEqual(each(5).map(() => 'unreachable'));
    expect(inner.count('submit')).toBe(1);
    // The next time they go apart: the one whose ids make the store fail fails alone.
    inner.before = (called) => {
      const poison = called.what === 'submit' && called.query.traces.some(({ traceId }) => traceId === 'trace-3');
      if (poison) throw refusal('unreachable', 500);
    };
    expect(
      reasons(
        await submit(
          store,
          each(5).map((id) => [id]),
        ),
      ),
    ).toEqual(['done', 'done', 'done', 'unreachable', 'done']);
  });

  test('P20: an answer lost in the second half leaves the receipts of the first, and nobody else’s', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = (called) => {
      if (called.what !== 'submit') return;
      if (called.query.traces.length > 2) throw refusal('rejected', 400);
      if (called.query.traces.some(({ traceId }) => traceId === 'trace-2')) throw refusal('unreachable', null);
    };
    const results = await submit(store, [['trace-0'], ['trace-1', 'trace-3'], ['trace-2']]);
    expect(reasons(results)).toEqual(['done', 'unreachable', 'unreachable']);
  });

  test('P27: who is held at the last word is left out, and the others go', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const results = await crew(store, each(5), (id, progress) =>
      store.submit(
        order([id, 'common'], progress, {
          lastWord: () => (id === 'trace-2' ? Promise.reject(new Error('held')) : Promise.resolve()),
        }),
      ),
    );
    expect(reasons(results)).toEqual(['done', 'done', 'held', 'done', 'done']);
    expect(inner.deleted.flat().sort()).toEqual(['common', 'trace-0', 'trace-1', 'trace-3', 'trace-4']);
    expect(inner.deleted).toHaveLength(1);
    expect(results[0]).toMatchObject({ value: { people: 4 } });
  });

  test('P27: who is told to stop while the last word of another is awaited is left out', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const stop = new Stop();
    const slow = async (): Promise<void> => {
      await sleep(20);
      stop.stopped = true;
    };
    const stopped = step(store, (progress) => store.submit(order(['a'], progress)), stop);
    const other = step(store, (progress) => store.submit(order(['b'], progress, { lastWord: slow })));
    await expect(stopped).rejects.toThrow('told to stop');
    await expect(other).resolves.toMatchObject({ status: 202 });
    expect(inner.deleted).toEqual([['b']]);
  });

  test('P27: all of them held: nothing is sent', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const lastWord = (): Promise<void> => Promise.reject(new Error('held'));
    expect(reasons(await submit(store, [['a'], ['b']], { lastWord }))).toEqual(['held', 'held']);
    expect(inner.count('submit')).toBe(0);
  });

  test('P27: one held between two halves keeps the receipt of what had gone, and nothing goes twice', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    let held = false;
    inner.before = (called) => {
      if (called.what !== 'submit') return;
      if (called.query.traces.length > 2) throw refusal('rejected', 400);
      held = true;
    };
    const results = await crew(store, [['a'], ['b'], ['c'], ['d']], (mine, progress) =>
      store.submit(
        order(mine, progress, {
          lastWord: () => (held && mine[0] !== 'd' ? Promise.reject(new Error('held')) : Promise.resolve()),
        }),
      ),
    );
    expect(reasons(results)).toEqual(['done', 'done', 'held', 'done']);
    expect(inner.deleted).toEqual([['a', 'b'], ['d']]);
  });

  /** A store that takes one trace a call, each after a last word of its own. */
  function oneByOne(inner: ScriptedStore): TraceStore {
    const submitEach = async (whole: DeleteOrder): Promise<Receipt> => {
      const receipts: Receipt[] = [];
      for (const trace of whole.traces) receipts.push(await inner.store.submit({ ...whole, traces: [trace] }));
      const [first] = receipts;
      if (first === undefined) throw new Error('an order without traces');
      return first;
    };
    return batched({ ...inner.store, submit: submitEach }, null, new KillSwitch(), QUICK);
  }

  /** Orders of one trace each; those in `held` are kept back at their last word from then on. */
  function submitHeld(store: TraceStore, traceIds: readonly string[], held: ReadonlySet<string>) {
    return crew(store, traceIds, (traceId, progress) => {
      const lastWord = (): Promise<void> => (held.has(traceId) ? Promise.reject(new Error('held')) : Promise.resolve());
      return store.submit(order([traceId], progress, { lastWord }));
    });
  }

  test('P20 P27: one held after a part of the call had left: nothing goes twice, and the others have no receipt', async () => {
    const inner = new ScriptedStore([]);
    const store = oneByOne(inner);
    const held = new Set<string>();
    inner.before = ({ what }) => {
      if (what === 'submit') held.add('b');
    };
    const results = await submitHeld(store, ['a', 'b', 'c'], held);
    expect(reasons(results)).toEqual(['unreachable', 'held', 'unreachable']);
    expect(inner.deleted).toEqual([['a']]);
  });

  test('P26 P27: one held after a part of the call had left stops only those whose call it was', async () => {
    const inner = new ScriptedStore([]);
    const store = oneByOne(inner);
    const held = new Set<string>();
    let halving = true;
    inner.before = (called) => {
      if (called.what !== 'submit') return;
      if (halving) {
        halving = false;
        throw refusal('rejected', 400);
      }
      held.add('b');
    };
    const results = await submitHeld(store, ['a', 'b', 'c', 'd'], held);
    expect(reasons(results)).toEqual(['unreachable', 'held', 'done', 'done']);
    expect(inner.deleted).toEqual([['a'], ['c'], ['d']]);
  });

  test('P26: a hold in the midst of a call is nobody’s fault: those who come next still go together', async () => {
    const inner = new ScriptedStore([]);
    const held = new Set<string>();
    let stopsHalfway = true;
    const submitTwice = async (whole: DeleteOrder): Promise<Receipt> => {
      if (!stopsHalfway) return inner.store.submit(whole);
      await whole.lastWord();
      held.add('b');
      return inner.store.submit(whole);
    };
    const store = batched({ ...inner.store, submit: submitTwice }, null, new KillSwitch(), QUICK);
    expect(reasons(await submitHeld(store, ['a', 'b', 'c'], held))).toEqual(['unreachable', 'held', 'unreachable']);
    stopsHalfway = false;
    expect(reasons(await submitHeld(store, ['a', 'c', 'd'], held))).toEqual(['done', 'done', 'done']);
    expect(inner.deleted).toEqual([['a', 'c', 'd']]);
  });

  test('P23 P27: a last word that no call followed is taken back, one that a call followed is not', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const words = new Map<string, number>();
    const asked = new Map<string, number>();
    const count = (traceId: string, more: number): void => {
      words.set(traceId, (words.get(traceId) ?? 0) + more);
    };
    const results = await crew(store, ['a', 'b', 'c', 'd'], (traceId, progress) =>
      store.submit(
        order([traceId], progress, {
          lastWord: async () => {
            asked.set(traceId, (asked.get(traceId) ?? 0) + 1);
            await Promise.resolve();
            if (traceId === 'b' || (traceId === 'c' && asked.get('c') === 2)) throw new Error('held');
            count(traceId, 1);
          },
          notSent: () => {
            count(traceId, -1);
          },
        }),
      ),
    );
    expect(reasons(results)).toEqual(['done', 'held', 'held', 'done']);
    expect(inner.deleted).toEqual([['a', 'd']]);
    expect(Object.fromEntries(words)).toEqual({ a: 1, c: 0, d: 1 });
  });

  describe('when the last words of some are long in coming', () => {
    /** Advanced instead of waiting. */
    let aheadMs = 0;
    beforeEach(() => {
      aheadMs = 0;
      const now = performance.now.bind(performance);
      jest.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
    });
    afterEach(() => {
      jest.restoreAllMocks();
    });

    test('P27: those given long before are asked for again, so that a hold of meanwhile still counts', async () => {
      const inner = new ScriptedStore([]);
      const store = batch(inner);
      let words = 0;
      const results = await crew(store, ['a', 'b', 'c'], (traceId, progress) => {
        let asked = 0;
        const lastWord = async (): Promise<void> => {
          asked += 1;
          if (traceId === 'a' && asked > 1) throw new Error('held');
          if (traceId === 'b' && asked === 1) {
            await sleep(1);
            aheadMs += 3_000;
          }
          if (traceId === 'c') words += 1;
        };
        const notSent = (): void => {
          if (traceId === 'c') words -= 1;
        };
        return store.submit(order([traceId], progress, { lastWord, notSent }));
      });
      expect(reasons(results)).toEqual(['held', 'done', 'done']);
      expect(inner.deleted).toEqual([['b', 'c']]);
      expect(words).toBe(1);
    });

    test('P27: where they never come together in time, nothing is sent, and next time each goes by himself', async () => {
      const inner = new ScriptedStore([]);
      const store = batch(inner);
      let words = 0;
      const slowly = () =>
        crew(store, ['a', 'b'], (traceId, progress) => {
          const lastWord = async (): Promise<void> => {
            if (traceId === 'b') await sleep(1);
            aheadMs += 3_000;
            words += 1;
          };
          const notSent = (): void => {
            words -= 1;
          };
          return store.submit(order([traceId], progress, { lastWord, notSent }));
        });
      expect(reasons(await slowly())).toEqual(['unreachable', 'unreachable']);
      expect(inner.deleted).toEqual([]);
      expect(words).toBe(0);
      expect(reasons(await slowly())).toEqual(['done', 'done']);
      expect(inner.deleted).toEqual([['a'], ['b']]);
      expect(words).toBe(2);
    });
  });

  test('P27: who is told to stop before the call leaves is left out of it', async () => {
    const inner = new ScriptedStore([]);
    const { submit: send } = inner.store;
    // As the pacer does while it waits for a turn.
    const store = batched(
      {
        ...inner.store,
        submit: async (one) => {
          await sleep(10);
          one.progress();
          return send(one);
        },
      },
      null,
      new KillSwitch(),
      QUICK,
    );
    const stop = new Stop();
    const stopped = step(store, (progress) => store.submit(order(['a'], progress)), stop);
    const other = step(store, (progress) => store.submit(order(['b'], progress)));
    setTimeout(() => {
      stop.stopped = true;
    }, 12);
    await expect(stopped).rejects.toThrow('told to stop');
    await expect(other).resolves.toMatchObject({ status: 202 });
    expect(inner.deleted).toEqual([['b']]);
  });

  test('who is told to stop while the delete is on its way still hears what became of it', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { busyMs: 5 });
    const stop = new Stop();
    const left = Promise.withResolvers<undefined>();
    const answered = Promise.withResolvers<undefined>();
    inner.before = async (called) => {
      if (called.what === 'submit') {
        stop.stopped = true;
        left.resolve(undefined);
        await answered.promise;
      }
      if (called.what === 'lookup') {
        await left.promise;
        called.query.progress();
        answered.resolve(undefined);
      }
    };
    const both = [
      step(store, (progress) => store.submit(order(['a'], progress)), stop),
      step(store, (progress) => store.submit(order(['b'], progress))),
    ];
    // Two others share a call meanwhile, whose progress asks everybody.
    const others = crew(store, [0, 1], (_at, progress) => lookup(store, refs(['t']), progress));
    expect(reasons(await Promise.allSettled(both))).toEqual(['done', 'done']);
    expect(reasons(await others)).toEqual(['done', 'done']);
  });

  test('P27: who is told to stop while another half of a refused call is on its way leaves at once', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const stop = new Stop();
    const left: unknown[] = [];
    inner.before = async (called) => {
      if (called.what !== 'submit') return;
      if (called.query.traces.length > 1) throw refusal('rejected', 400);
      if (called.query.traces.some(({ traceId }) => traceId === 'b')) return;
      stop.stopped = true;
      called.query.progress();
      await sleep(1);
      expect(left).toEqual(['told to stop']);
    };
    const first = step(store, (progress) => store.submit(order(['a'], progress)));
    const stopped = step(store, (progress) => store.submit(order(['b'], progress)), stop).catch((error: unknown) => {
      left.push(reasonOf(error));
    });
    await expect(first).resolves.toMatchObject({ status: 202 });
    await stopped;
    expect(inner.deleted).toEqual([['a']]);
  });

  test('P2 P3: a receipt of several calls tells of all: from the first that left to the last that was taken', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.before = (called) => {
      if (called.what === 'submit' && called.query.traces.length > 2) throw refusal('rejected', 400);
    };
    let calls = 0;
    inner.receipt = () => {
      calls += 1;
      return { sentAtMs: calls * 1000, acknowledgedAtMs: calls * 1000 + 5, requestId: `r-${calls}`, counted: 2 };
    };
    const results = values(await submit(store, [['b'], ['a', 'c'], ['d']]));
    expect(inner.deleted).toEqual([
      ['b', 'a'],
      ['c', 'd'],
    ]);
    expect(results[0]).toMatchObject({ sentAtMs: 1000, acknowledgedAtMs: 1005, requestId: 'r-1', counted: 2 });
    expect(results[1]).toMatchObject({ sentAtMs: 1000, acknowledgedAtMs: 2005, requestId: 'r-2', counted: 4 });
    expect(results[1]).toMatchObject({ people: 2 });
    expect(results[2]).toMatchObject({ sentAtMs: 2000, acknowledgedAtMs: 2005, requestId: 'r-2', counted: 2 });
  });

  test('two orders that name the same trace are one id of one call, with all rows that either of them read', async () => {
    const inner = new ScriptedStore([], { deletesBy: 'row' });
    const store = batch(inner);
    const traces = (rowIds: readonly string[], own: string): TraceRef[] => [
      { projectId: PROJECT.id, traceId: 'both', rowIds },
      { projectId: PROJECT.id, traceId: own, rowIds: [`${own}-row`] },
    ];
    const results = await crew(store, [0, 1], (at, progress) =>
      store.submit(order([], progress, { traces: at === 0 ? traces(['r1', 'r2'], 'x') : traces(['r2'], 'y') })),
    );
    expect(reasons(results)).toEqual(['done', 'done']);
    const [only] = inner.calls;
    expect(inner.calls).toHaveLength(1);
    expect(only?.what === 'submit' ? only.query.traces : []).toEqual([
      { projectId: PROJECT.id, traceId: 'both', rowIds: ['r1', 'r2'] },
      { projectId: PROJECT.id, traceId: 'x', rowIds: ['x-row'] },
      { projectId: PROJECT.id, traceId: 'y', rowIds: ['y-row'] },
    ]);
  });

  test('orders above the most ids of one call are cut into calls by whole orders, by traces or by rows', async () => {
    const inner = new ScriptedStore([], { mostIdsPerDelete: 5 });
    const store = batch(inner);
    values(await submit(store, [['a', 'b', 'c'], ['d', 'e'], ['f'], ['g', 'h', 'i', 'j', 'k']]));
    expect(inner.deleted).toEqual([['a', 'b', 'c', 'd', 'e'], ['f'], ['g', 'h', 'i', 'j', 'k']]);
    const byRow = new ScriptedStore([], { mostIdsPerDelete: 5, deletesBy: 'row' });
    const rows = batch(byRow);
    const traces = (traceId: string, count: number): TraceRef[] => [
      { projectId: PROJECT.id, traceId, rowIds: Array.from({ length: count }, (_none, at) => `${traceId}${at}`) },
    ];
    values(
      await crew(rows, [3, 2, 1, 9], (count, progress) =>
        rows.submit(order([], progress, { traces: traces(`t${count}`, count) })),
      ),
    );
    expect(byRow.deleted).toEqual([['t3', 't2'], ['t1'], ['t9']]);
  });

  test('orders of different projects never ride in one call', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    values(
      await crew(store, [PROJECT.id, OTHER_PROJECT.id], (projectId, progress) =>
        store.submit(order([], progress, { projectId, traces: refs(['same'], projectId) })),
      ),
    );
    expect(inner.calls.map(({ query }) => (query as DeleteOrder).projectId).sort()).toEqual([
      PROJECT.id,
      OTHER_PROJECT.id,
    ]);
  });

  test('traces that the store refuses by themselves are refused to their owners only; refused entirely is no receipt', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    inner.receipt = () => ({ refused: ['b', 'c'] });
    const results = await submit(store, [['a', 'b'], ['c'], ['d']]);
    expect(reasons(results)).toEqual(['done', 'rejected', 'done']);
    expect((results[0] as PromiseFulfilledResult<Receipt>).value.refused).toEqual(['b']);
    expect((results[2] as PromiseFulfilledResult<Receipt>).value.refused).toBeUndefined();
    await expect(store.submit(order(['c'], () => undefined))).rejects.toBeInstanceOf(StoreError);
  });
});

// ------------------------------------------------------------------------------------------------ copies together

describe('copies that several people erase in the same moment', () => {
  const copy = (id: string): Copy => ({ kind: 'feedback', id, traceId: `trace-${id}` });

  /** Copies whose call `leaves` looks at before it is answered. */
  function erasing(leaves: (id: string, progress: Progress) => void | Promise<void>) {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const erased: string[] = [];
    const eraseCopies: TraceStore['eraseCopies'] = async (copies, lastWord, progress) => {
      for (const { id } of copies) {
        progress();
        await lastWord();
        erased.push(id);
        await leaves(id, progress);
      }
      return { reports: [], receipts: [{ kind: 'feedback', ids: erased, route: 'DELETE /x' } as never] };
    };
    const store = batched({ ...inner.store, eraseCopies }, null, new KillSwitch(), { ...QUICK, busyMs: 5 });
    return { inner, store, erased };
  }

  test('P22: who is told to stop while the call is on its way still hears what became of it', async () => {
    const stop = new Stop();
    const left = Promise.withResolvers<undefined>();
    const asked = Promise.withResolvers<undefined>();
    const { inner, store, erased } = erasing(async (id) => {
      if (id !== 'a') return;
      stop.stopped = true;
      left.resolve(undefined);
      await asked.promise;
    });
    inner.before = async (called) => {
      if (called.what !== 'lookup') return;
      await left.promise;
      called.query.progress();
      asked.resolve(undefined);
    };
    const word = (): Promise<void> => Promise.resolve();
    const both = [
      step(store, (progress) => store.eraseCopies!([copy('a')], word, progress), stop),
      step(store, (progress) => store.eraseCopies!([copy('b')], word, progress)),
    ];
    // Two others share a call meanwhile, whose progress asks everybody.
    const others = crew(store, [0, 1], (_at, progress) => lookup(store, refs(['t']), progress));
    expect(reasons(await Promise.allSettled(both))).toEqual(['done', 'done']);
    expect(reasons(await others)).toEqual(['done', 'done']);
    expect(erased.sort()).toEqual(['a', 'b']);
  });

  test('P27: who is told to stop while his last word is awaited erases nothing', async () => {
    const stop = new Stop();
    const { store, erased } = erasing(() => undefined);
    const word = async (): Promise<void> => {
      await Promise.resolve();
      stop.stopped = true;
    };
    const stopped = step(store, (progress) => store.eraseCopies!([copy('a')], word, progress), stop);
    const other = step(store, (progress) => store.eraseCopies!([copy('b')], () => Promise.resolve(), progress));
    await expect(stopped).rejects.toThrow('told to stop');
    await other;
    expect(erased).toEqual(['b']);
  });
});

// ------------------------------------------------------------------------------------------------ going together

describe('steps that go together', () => {
  test('a step alone waits for nobody, and what is asked without boarding goes at once', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { boardingMs: 1, busyMs: 60_000, callingMs: 60_000 });
    expect(ids(await step(store, (progress) => find(store, 'p', progress)))).toEqual(['t']);
    expect(ids(await find(store, 'p', () => undefined))).toEqual(['t']);
  });

  test('one who is told to stop while boarding, waiting or reading leaves at once; the others go on', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { boardingMs: 40, busyMs: 60, lookMs: 5 });
    const boarding = new Stop();
    const waiting = new Stop();
    const reading = new Stop();
    let went = 0;
    inner.before = async (called) => {
      if (called.what !== 'lookup') return;
      reading.stopped = true;
      called.query.progress();
      await sleep(20);
      went += 1;
    };
    const ask = (progress: Progress): Promise<Read> => lookup(store, refs(['t']), progress);
    const busy = step(store, async (progress) => {
      await sleep(30);
      return ask(progress);
    });
    const results = Promise.allSettled([
      step(store, ask, boarding),
      step(store, ask, waiting),
      step(store, ask, reading),
      step(store, ask),
      busy,
    ]);
    boarding.stopped = true;
    setTimeout(() => {
      waiting.stopped = true;
    }, 50);
    expect(reasons(await results)).toEqual(['told to stop', 'told to stop', 'told to stop', 'done', 'done']);
    expect(went).toBe(1);
  });

  test('P26: a call given up because all were told to stop sends those who come next nowhere by themselves', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner);
    const stops = [new Stop(), new Stop()];
    inner.before = ({ what, query }) => {
      if (what !== 'lookup') return;
      for (const stop of stops) stop.stopped = true;
      query.progress();
    };
    const stopped = stops.map((stop) => step(store, (progress) => lookup(store, refs(['t']), progress), stop));
    expect(reasons(await Promise.allSettled(stopped))).toEqual(['told to stop', 'told to stop']);
    inner.before = () => undefined;
    values(await crew(store, [0, 1, 2], (_at, progress) => lookup(store, refs(['t']), progress)));
    expect(inner.count('lookup')).toBe(2);
  });

  test('a call that nobody wants any more is given up', async () => {
    const inner = new ScriptedStore([]);
    const store = batch(inner);
    const stops = [new Stop(), new Stop()];
    let askedFor = 0;
    inner.before = (called) => {
      if (called.what !== 'lookup') return;
      for (const stop of stops) stop.stopped = true;
      for (;;) {
        called.query.progress();
        askedFor += 1;
      }
    };
    const results = await Promise.allSettled(
      stops.map((stop) => step(store, (progress) => lookup(store, refs(['t']), progress), stop)),
    );
    expect(reasons(results)).toEqual(['told to stop', 'told to stop']);
    expect(askedFor).toBe(0);
  });

  test('P26: one at work on its own, or in a call that hangs, is waited for no longer than agreed', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { busyMs: 30, callingMs: 80 });
    const end = Promise.withResolvers<undefined>();
    inner.before = async ({ what }) => {
      if (what === 'projects') await end.promise;
    };
    const stuck = [
      step(store, () => end.promise),
      step(store, async (progress) => {
        await store.projects(progress);
      }),
    ];
    const others = values(
      await crew(store, [0, 1, 2], async (_at, progress) => {
        await lookup(store, refs(['t']), progress);
        const begun = performance.now();
        await lookup(store, refs(['t']), progress);
        return performance.now() - begun;
      }),
    );
    for (const ms of others) expect(ms).toBeGreaterThanOrEqual(75);
    expect(inner.count('lookup')).toBe(2);
    end.resolve(undefined);
    await Promise.all(stuck);
  });

  test('those who come while a convoy is under way make up the next; one that hangs is not waited for for ever', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { mostBoardingMs: 80, boardingMs: 1 });
    const end = Promise.withResolvers<undefined>();
    const first = step(store, () => end.promise);
    await sleep(20);
    const ask = (): Promise<Read>[] =>
      [0, 1].map(() => step(store, (progress) => lookup(store, refs(['t']), progress)));
    await Promise.all(ask());
    expect(inner.count('lookup')).toBe(1);
    end.resolve(undefined);
    await first;
    await Promise.all(ask());
    expect(inner.count('lookup')).toBe(2);
  });

  test('in a crowd that the engine hands over one by one, a convoy waits until no more come', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    // So long that only a machine that stands still for seconds lets a convoy leave too early.
    const store = batch(inner, { crowd: 4, mostCrowdQuietMs: 2_000, mostBoardingMs: 8_000 });
    const steps: Promise<Read>[] = [];
    for (let at = 0; at < 20; at += 1) {
      steps.push(step(store, (progress) => lookup(store, refs(['t']), progress)));
      await sleep(15);
    }
    await Promise.all(steps);
    // Those who came before there was a crowd, and the rest.
    expect(inner.count('lookup')).toBeLessThanOrEqual(5);
  });

  test('a crowd that keeps coming is waited for longer than a few are', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { crowd: 4, mostBoardingMs: 60, mostCrowdQuietMs: 400, mostCrowdBoardingMs: 8_000 });
    const steps: Promise<Read>[] = [];
    for (let at = 0; at < 24; at += 1) {
      steps.push(step(store, (progress) => lookup(store, refs(['t']), progress)));
      await sleep(25);
    }
    await Promise.all(steps);
    // Half a second, ten times as long as a few would wait. Those who came before there was a crowd, and the rest.
    expect(inner.count('lookup')).toBeLessThanOrEqual(5);
  });

  test('a few who come one upon the other are waited for, since they may be the first of many', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { boardingMs: 150, mostBoardingMs: 8_000, crowd: 100 });
    const steps: Promise<Read>[] = [];
    for (let at = 0; at < 12; at += 1) {
      steps.push(step(store, (progress) => lookup(store, refs(['t']), progress)));
      await sleep(40);
    }
    await Promise.all(steps);
    // Half a second, three times as long as the first one waits for company. Two: where the machine stood still.
    expect(inner.count('lookup')).toBeLessThanOrEqual(2);
  });

  test('many steps of one request are no crowd: each goes at once', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    // A step that waited for more to come would never end.
    const store = batch(inner, { crowd: 2, mostCrowdQuietMs: 600_000, mostBoardingMs: 600_000 });
    for (let at = 0; at < 6; at += 1) {
      const progress = (): void => undefined;
      const leave = await store.board?.(progress, 'request');
      await lookup(store, refs(['t']), progress);
      leave?.();
    }
    expect(inner.count('lookup')).toBe(6);
  });

  test('a convoy that is full leaves the others to the next', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { mostMembers: 3 });
    values(await crew(store, [0, 1, 2, 3, 4, 5, 6], (_at, progress) => lookup(store, refs(['t']), progress)));
    expect(inner.count('lookup')).toBe(3);
  });

  test('a step may ask several things at once', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, { busyMs: 60_000, callingMs: 60_000 });
    const results = await crew(store, [0, 1], (_at, progress) =>
      Promise.all([find(store, 'p', progress), lookup(store, refs(['t']), progress), store.projects(progress)]),
    );
    expect(reasons(results)).toEqual(['done', 'done']);
    // The first question of the second step completes the company: the rest of its own follow in calls of their own.
    expect(inner.calls.length).toBeLessThanOrEqual(5);
  });

  test('no step waits for ever and none is lost, whatever fails or stops whenever', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p'), LIVE_ROW]);
    const fate = fc.record({
      steps: fc.array(fc.constantFrom('find', 'lookup', 'projects', 'submit', 'rest', 'throw'), { maxLength: 4 }),
      stopAfter: fc.option(fc.nat(3)),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fate, { minLength: 1, maxLength: 8 }),
        fc.array(fc.option(fc.constantFrom('rejected', 'unreachable', 'contract-broken', 'gone', 'bug'))),
        async (fates, troubles) => {
          const limits = { mostBoardingMs: 8, mostCrowdBoardingMs: 8 };
          const store = batch(inner, { boardingMs: 1, busyMs: 4, callingMs: 8, ...limits, lookMs: 1 });
          let calls = 0;
          inner.before = async () => {
            const trouble = troubles[calls % Math.max(1, troubles.length)] ?? null;
            calls += 1;
            await Promise.resolve();
            if (trouble === 'bug') throw new TypeError('a defect');
            if (trouble !== null) throw refusal(trouble);
          };
          const results = await Promise.allSettled(
            fates.map(({ steps, stopAfter }) => {
              const stop = new Stop();
              return step(
                store,
                async (progress) => {
                  for (const [at, what] of steps.entries()) {
                    if (at === stopAfter) stop.stopped = true;
                    if (what === 'find') await find(store, 'p', progress).catch(() => undefined);
                    if (what === 'lookup') await lookup(store, refs(['t']), progress).catch(() => undefined);
                    if (what === 'projects') await store.projects(progress).catch(() => undefined);
                    if (what === 'submit') await store.submit(order(['t'], progress)).catch(() => undefined);
                    if (what === 'rest') await sleep(1);
                    if (what === 'throw') throw new Error('the step fails');
                  }
                },
                stop,
              );
            }),
          );
          for (const result of results) {
            if (result.status === 'rejected') expect((result.reason as Error).message).toMatch(/^(the step|told)/);
          }
        },
      ),
      { numRuns: 150 },
    );
  }, 60_000);

  test('no timer is left behind', async () => {
    const inner = new ScriptedStore([rowOf('t', 'p')]);
    const store = batch(inner, {
      mostBoardingMs: 60_000,
      callingMs: 60_000,
      busyMs: 60_000,
      lookMs: 20_000,
      mostCrowdQuietMs: 100,
    });
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    for (let turn = 0; turn < 3; turn += 1) {
      values(await crew(store, [0, 1, 2], (_at, progress) => lookup(store, refs(['t']), progress)));
    }
    await sleep(1);
    expect(timers()).toBeLessThanOrEqual(before);
  });
});

// ------------------------------------------------------------------------------------------ against the simulator

describe('against the simulator', () => {
  const running: LangSmithSimulator[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((sim) => sim.close()));
  });

  async function start(): Promise<{ readonly sim: LangSmithSimulator; readonly store: TraceStore }> {
    // Ten virtual seconds, the span of most limits, pass in two real milliseconds.
    const clock = { realMs: Date.now(), virtualMs: Date.parse('2026-11-25T12:00:00Z'), speed: 5000 };
    const sim = await startLangSmithSimulator({ clock });
    running.push(sim);
    const config = connectionSchema.parse({
      store: 'langsmith',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      identifiers: { user_id: ['metadata.user_id'] },
    });
    return { sim, store: openStore('test', config, { clock }) };
  }

  /** Everything that steps ask a store, as one step. */
  async function everything(sim: LangSmithSimulator, store: TraceStore, person: string, progress: Progress) {
    const window = { fromMs: 0, toMs: sim.now() + DAY_MS };
    const projects = await store.projects(progress);
    const terms = [{ kind: 'user_id', keys: ['metadata.user_id'], variants: [person] }];
    const exclude = (row: Row): boolean => row.persons.some(({ text }) => text === person);
    const { controls } = await store.controls({ projects, terms, window, want: 2, exclude, progress });
    const reads: Read[] = [];
    for (const finder of store.finders) reads.push(await finder.find({ projects, terms, window, controls, progress }));
    const traces = [...new Map(reads.flatMap(({ rows }) => rows).map((row) => [row.traceId, row])).values()];
    for (const route of store.lookups) reads.push(await route.lookup({ traces, window, controls, progress }));
    const located = await store.locate({
      ids: traces.map(({ traceId }) => traceId),
      projects,
      window,
      controls,
      progress,
    });
    const copies = await store.copies(traces, reads.at(-1)?.rows ?? [], progress);
    const { left } = await store.lookupCopies(copies.copies, progress);
    const projectId = traces[0]?.projectId ?? '';
    const receipt = await store.submit({ ...order([], progress), projectId, traces });
    return { reads, located, copies, left, receipt, controls };
  }

  const names = Array.from({ length: 25 }, (_none, at) => `leaver-${at}`);

  test('P20: many people share every call; each sees their own, and only they are deleted', async () => {
    const { sim, store } = await start();
    const seeded = sim.seedPeople({ project: 'chat', people: names, tracesPerPerson: 3 });
    sim.seedPeople({ project: 'chat', people: ['stays-1', 'stays-2', 'stays-3'], tracesPerPerson: 2 });
    await step(store, (progress) => everything(sim, store, 'stays-3', progress).then(() => undefined));
    const one = sim.ledger.entries.length;
    const results = values(await crew(store, names, (name, progress) => everything(sim, store, name, progress)));
    // What one person takes, and some pages more: v1 gives 100 runs a page, and these are 225.
    expect(sim.ledger.entries.length - one).toBeLessThan(2 * one);
    for (const [at, { reads, located, receipt, controls, left }] of results.entries()) {
      const mine = [...(seeded[at]?.traceIds ?? [])].sort();
      expect(controls.length).toBeGreaterThanOrEqual(2);
      for (const read of [...reads, located]) {
        expect(ids(read)).toEqual(mine);
        expect(read.controlsSeen).toEqual(controls.map(() => true));
        expect(read.report).toMatchObject({ rows: read.rows.length, people: names.length });
      }
      for (const read of reads) expect(read.rows).toHaveLength(9);
      expect(receipt).toMatchObject({ status: 202, people: names.length });
      expect(left).toEqual([]);
    }
    const [theirs, ...more] = sim.ledger.deletes().slice(1);
    expect(more).toEqual([]);
    expect([...(theirs?.ids ?? [])].sort()).toEqual(seeded.flatMap(({ traceIds }) => traceIds).sort());
    sim.advanceWeekends(1);
    for (const name of names) expect(sim.truth.tracesOf([{ key: 'user_id', value: name }])).toEqual([]);
    for (const name of ['stays-1', 'stays-2']) {
      expect(sim.truth.tracesOf([{ key: 'user_id', value: name }])).toHaveLength(2);
    }
    expect(sim.ledger.list({ status: 429 })).toEqual([]);
  });

  test('P20: a lost answer is nobody’s success, though the deletion was taken', async () => {
    const { sim, store } = await start();
    sim.seedPeople({ project: 'chat', people: [...names.slice(0, 4), 'stays-1', 'stays-2'], tracesPerPerson: 1 });
    sim.habits.set({ resetAfter: { on: 'deletes' } });
    const results = await crew(store, names.slice(0, 4), (name, progress) => everything(sim, store, name, progress));
    expect(reasons(results)).toEqual(names.slice(0, 4).map(() => 'unreachable'));
    expect(sim.truth.submissions()).toHaveLength(1);
  });

  test('P3: a blind store shows nobody absent: each misses their controls', async () => {
    const { sim, store } = await start();
    sim.seedPeople({ project: 'chat', people: [...names.slice(0, 4), 'stays-1', 'stays-2'], tracesPerPerson: 1 });
    const window = { fromMs: 0, toMs: sim.now() + DAY_MS };
    const seen = values(
      await crew(store, names.slice(0, 4), async (name, progress) => {
        const projects = await store.projects(progress);
        const terms = [{ kind: 'user_id', keys: ['metadata.user_id'], variants: [name] }];
        const exclude = (row: Row): boolean => row.persons.some(({ text }) => text === name);
        const { controls } = await store.controls({ projects, terms, window, want: 2, exclude, progress });
        sim.habits.set({ blind: { what: 'all' } });
        const read = await store.finders[0]?.find({ projects, terms, window, controls, progress });
        return read?.controlsSeen.some(Boolean);
      }),
    );
    expect(seen).toEqual([false, false, false, false]);
  });

  test('P20: an ignored filter fails the call for all', async () => {
    const { sim, store } = await start();
    sim.seedPeople({ project: 'chat', people: [...names.slice(0, 4), 'stays-1'], tracesPerPerson: 1 });
    sim.habits.set({ queryFilterIgnored: true });
    const window = { fromMs: 0, toMs: sim.now() + MINUTE_MS };
    const results = await crew(store, names.slice(0, 4), async (name, progress) => {
      const projects = await store.projects(progress);
      const terms = [{ kind: 'user_id', keys: ['metadata.user_id'], variants: [name] }];
      return store.finders[0]?.find({ projects, terms, window, controls: [], progress });
    });
    expect(reasons(results)).toEqual(names.slice(0, 4).map(() => 'contract-broken'));
  });
});

// ------------------------------------------------------------------------------------------------- whole requests

describe('whole requests side by side', () => {
  const leavers = Array.from({ length: 30 }, (_none, at) => `leaver-${at}`);
  const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
  const bystanders = ['stays-1', 'stays-2', 'stays-3'];

  test('P1 P20: thirty people of one project are verified with far fewer calls than one by one', async () => {
    const world = await World.start('thirty side by side', { speed: 50_000 });
    try {
      world.seed([...leavers, ...bystanders, 'solo'], 3);
      expect((await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: 'solo' }] })).status).toBe('verified');
      const one = world.sim.ledger.entries.length;
      const ends = await Promise.all(
        leavers.map((value) => world.eraseToEnd({ identifiers: [{ kind: 'user_id', value }] })),
      );
      const calls = world.sim.ledger.entries.length - one;
      for (const end of ends) {
        expect(end).toMatchObject({
          status: 'verified',
          connections: { [CONNECTION]: { traces: { verifiedAbsent: 3 } } },
        });
      }
      for (const value of leavers) expect(world.liveTraces(value)).toEqual([]);
      for (const value of bystanders) expect(world.liveTraces(value)).toHaveLength(3);
      // Half: two seconds of boarding are less than a millisecond of this clock, which cuts them into many companies.
      expect(calls).toBeLessThan((leavers.length * one) / 2);
      // Whoever comes first may travel alone all the way; most don't.
      let sharing = 0;
      for (const { requestId } of ends) {
        const shared = JSON.stringify(await world.record(requestId)).match(/"people":(\d+)/g) ?? [];
        if (shared.some((people) => people !== '"people":1')) sharing += 1;
      }
      expect(sharing).toBeGreaterThan(ends.length / 2);
      expect(world.sim.ledger.list({ status: 429 })).toEqual([]);
    } finally {
      await world.close();
    }
  }, 120_000);

  test('P27: before a call for several the last word is asked about the request of each', async () => {
    const world = await World.start('last word in company');
    try {
      const some = leavers.slice(0, 4);
      const seeded = world.seed([...some, ...bystanders], 2);
      // Between the start of the step and its call there is time for a hold, and not enough for a heartbeat to tell of it.
      world.sim.habits.set({ slow: { ms: 300, on: ['/api/v1/runs/query', '/api/v2/runs/query'] } });
      const erasures = await Promise.all(
        some.map((value) => world.erase({ identifiers: [{ kind: 'user_id', value }] })),
      );
      const [held = '', ...others] = erasures.map(({ requestId }) => requestId);
      for (const requestId of [held, ...others]) await world.until(requestId, ({ status }) => status === 'erasing');
      await world.client.hold(held, BY);
      for (const requestId of others) expect((await world.client.result(requestId)).status).toBe('verified');
      const theirs = seeded.get(some[0] ?? '') ?? [];
      expect(theirs).toHaveLength(2);
      for (const traceId of theirs) expect(world.sim.truth.submissionsOf(traceId)).toEqual([]);
      await world.client.release(held, BY);
      expect((await world.client.result(held)).status).toBe('verified');
      for (const value of some) expect(world.liveTraces(value)).toEqual([]);
      for (const value of bystanders) expect(world.liveTraces(value)).toHaveLength(2);
    } finally {
      await world.close();
    }
  }, 120_000);

  test('P27: a hold on one while the shared deletion is on its way concerns only that one', async () => {
    const world = await World.start('hold in company');
    try {
      const some = leavers.slice(0, 8);
      world.seed([...some, ...bystanders], 2);
      world.sim.habits.set({ slow: { on: 'deletes', ms: 300 } });
      const erasures = await Promise.all(
        some.map((value) => world.erase({ identifiers: [{ kind: 'user_id', value }] })),
      );
      const [held, ...others] = erasures.map(({ requestId }) => requestId);
      while (world.sim.ledger.count({ family: 'deletes' }) === 0) await sleep(5);
      await world.client.hold(held ?? '', BY);
      for (const requestId of others) expect((await world.client.result(requestId)).status).toBe('verified');
      expect((await world.client.status(held ?? '')).status).not.toBe('verified');
      await world.client.release(held ?? '', BY);
      expect((await world.client.result(held ?? '')).status).toBe('verified');
      for (const value of some) expect(world.liveTraces(value)).toEqual([]);
      for (const value of bystanders) expect(world.liveTraces(value)).toHaveLength(2);
    } finally {
      await world.close();
    }
  }, 120_000);
});
