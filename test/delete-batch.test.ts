import { afterEach, describe, expect, test } from '@jest/globals';
import { lastTakenMs } from '../src/activities/delete-batch.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { BlobRef } from '../src/erasure/steps.ts';
import type { Row, TraceStore } from '../src/stores/port.ts';
import { laneSteps, PROMPT, type LaneSteps } from './support/lane-steps.ts';
import { refusal, rowOf, ScriptedStore } from './support/scripted-store.ts';

let open: LaneSteps[] = [];
afterEach(async () => {
  for (const steps of open) await steps.close();
  open = [];
});

async function stepsOver(store: TraceStore): Promise<LaneSteps> {
  const steps = await laneSteps(store);
  open.push(steps);
  return steps;
}

/** Two people who are nobody's concern: controls, and what must survive. */
const OTHERS: readonly Row[] = ['u_7', 'u_8'].map((person) => rowOf(`theirs-${person}`, person));

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

describe('a trace that is deleted by half', () => {
  const HALF: readonly Row[] = [rowOf('t1', null, { runId: 't1-child' })];
  const WHOLE: readonly Row[] = [rowOf('t1', 'u_42'), ...HALF];

  const states = async (steps: LaneSteps, book: BlobRef) =>
    (await steps.bookNow(book)).entries.map(({ traceId, state }) => [traceId, state]);

  test('P4 P23 P29: whose delete call broke off in the middle is sent again, not kept for want of a label', async () => {
    const inner = new ScriptedStore([...WHOLE, ...OTHERS], PROMPT);
    let breaks = true;
    const steps = await stepsOver({
      ...inner.store,
      submit: async (order) => {
        if (!breaks) return inner.store.submit(order);
        await order.lastWord();
        inner.rows = [...HALF, ...OTHERS];
        await order.lastWord();
        throw refusal('throttled', 429);
      },
    });
    const { book } = await steps.plan();
    expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble', reason: 'throttled' });
    breaks = false;
    expect(await steps.delete({ book })).toMatchObject({ kind: 'submitted', submitted: 1, pulled: 0 });
    expect(inner.deleted).toEqual([['t1']]);
    expect(await states(steps, book)).toEqual([['t1', 'pending']]);
    // The read afterwards looks at it by id, whoever is named on what is left.
    const answer = await steps.verify({ book });
    expect(answer).toMatchObject({ kind: 'survivors', traces: { matched: 1, survived: 1, linked: 0 } });
    if (answer.kind !== 'trouble') expect(imbalances(answer)).toEqual([]);
  });

  test('P4 P23: and so is what an earlier round sent, although no read has been sealed since', async () => {
    const inner = new ScriptedStore([...WHOLE, ...OTHERS], PROMPT);
    const steps = await stepsOver(inner.store);
    const { book } = await steps.plan();
    expect(await steps.delete({ book })).toMatchObject({ submitted: 1 });
    inner.rows = [...HALF, ...OTHERS];
    expect(await steps.delete({ book, round: 2 })).toMatchObject({ submitted: 1, pulled: 0 });
    expect(inner.deleted).toEqual([['t1'], ['t1']]);
    expect(await states(steps, book)).toEqual([['t1', 'pending']]);
  });

  test('P14: what lost its label before anything was sent has changed owner, and is not sent', async () => {
    const inner = new ScriptedStore([...WHOLE, rowOf('t2', 'u_42'), ...OTHERS], PROMPT);
    const steps = await stepsOver(inner.store);
    const { book } = await steps.plan();
    inner.rows = [...HALF, rowOf('t2', 'u_42'), ...OTHERS];
    expect(await steps.delete({ book })).toMatchObject({ submitted: 1, pulled: 1 });
    expect(inner.deleted).toEqual([['t2']]);
    expect(await states(steps, book)).toEqual([
      ['t1', 'linked'],
      ['t2', 'pending'],
    ]);
  });
});

describe('who is held', () => {
  /** A trace that names the person twice, and a copy of it that a call erases at the time that its trait says. */
  async function copied(erasedWhen: 'before' | 'after') {
    const named = rowOf('t1', 'u_42');
    const email = { kind: 'email', key: 'metadata.email', text: 'ann@x.org', numeric: false };
    const inner = new ScriptedStore([{ ...named, persons: [...named.persons, email] }, ...OTHERS], {
      ...PROMPT,
      copyMap: [{ kind: 'feedback', text: '', examined: true, goesWithTrace: false, erasable: true, erasedWhen }],
    });
    const erased: string[] = [];
    const steps = await stepsOver({
      ...inner.store,
      eraseCopies: async (copies, lastWord) => {
        await lastWord();
        erased.push(...copies.map(({ id }) => id));
        return { reports: [] };
      },
    });
    const { book } = await steps.plan();
    return { inner, steps, book, erased };
  }

  test('P27: whoever is named on the traces holds their copies too, which go before them', async () => {
    const { inner, steps, book, erased } = await copied('before');
    await steps.hold('email', 'ann@x.org');
    expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble', reason: 'legal-hold' });
    expect(erased).toEqual([]);
    expect(inner.deleted).toEqual([]);
  });

  test('P27: and those which go after them, when the traces themselves are gone', async () => {
    const { inner, steps, book, erased } = await copied('after');
    expect(await steps.delete({ book })).toMatchObject({ kind: 'submitted', submitted: 1 });
    inner.rows = OTHERS;
    await steps.hold('email', 'ann@x.org');
    expect(await steps.verify({ book })).toMatchObject({ kind: 'trouble', reason: 'legal-hold' });
    expect(erased).toEqual([]);
  });

  test('P22: nobody held, copies go', async () => {
    const { inner, steps, book, erased } = await copied('after');
    expect(await steps.delete({ book })).toMatchObject({ kind: 'submitted' });
    inner.rows = OTHERS;
    await steps.hold('email', 'somebody@x.org');
    expect(await steps.verify({ book })).toMatchObject({ kind: 'clean', counted: true });
    expect(erased).toEqual(['copy-t1']);
  });
});
