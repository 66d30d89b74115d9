import { afterEach, describe, expect, test } from '@jest/globals';
import { lastTakenMs } from '../src/activities/delete-batch.ts';
import type { Row, TraceStore } from '../src/stores/port.ts';
import { laneSteps, PROMPT, type LaneSteps } from './support/lane-steps.ts';
import { rowOf, ScriptedStore } from './support/scripted-store.ts';

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
