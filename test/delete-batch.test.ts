import { afterEach, describe, expect, test } from '@jest/globals';
import type { ApplicationFailure } from '@temporalio/activity';
import type { LaneDeps } from '../src/activities/deps.ts';
import { lastTakenMs } from '../src/activities/delete-batch.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { BlobRef } from '../src/erasure/steps.ts';
import { batched } from '../src/stores/batching.ts';
import { guarded, KillSwitch } from '../src/stores/guard.ts';
import { partlyDone } from '../src/stores/port.ts';
import type { DeleteOrder, Receipt, Row, StoreError, TraceStore } from '../src/stores/port.ts';
import { deleteOrder } from './support/delete-order.ts';
import { laneSteps, PROMPT, type LaneSteps } from './support/scripted-lane.ts';
import { OTHER_PROJECT, PROJECT, refusal, rowOf, ScriptedStore } from './support/scripted-store.ts';

let open: LaneSteps[] = [];
afterEach(async () => {
  for (const steps of open) await steps.close();
  open = [];
});

async function stepsOver(store: TraceStore, policy: Partial<LaneDeps['policy']> = {}): Promise<LaneSteps> {
  const steps = await laneSteps(store, policy);
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

  test('P4 P29: what is left of a trace that somebody else has deleted is deleted, not kept for want of a label', async () => {
    const inner = new ScriptedStore([...WHOLE, ...OTHERS], PROMPT);
    const steps = await stepsOver(inner.store);
    const { book } = await steps.plan();
    inner.rows = [rowOf('t1', null, { leftover: true }), ...OTHERS];
    expect(await steps.delete({ book })).toMatchObject({ kind: 'submitted', submitted: 1, pulled: 0 });
    expect(inner.deleted).toEqual([['t1']]);
    expect(await states(steps, book)).toEqual([['t1', 'pending']]);
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

describe('what counts as sent', () => {
  /** Plans one trace over a store whose deletes end as told, and tries to delete it. */
  async function tried(submit: (order: DeleteOrder, inner: ScriptedStore) => Promise<Receipt>) {
    const email = { kind: 'email', key: 'metadata.email', text: 'ann@x.org', numeric: false };
    const named = rowOf('t1', 'u_42');
    const inner = new ScriptedStore([{ ...named, persons: [...named.persons, email] }, ...OTHERS], PROMPT);
    const killSwitch = new KillSwitch();
    const steps = await stepsOver(guarded({ ...inner.store, submit: (order) => submit(order, inner) }, killSwitch));
    const { book } = await steps.plan();
    const sentMs = async () => (await steps.bookNow(book)).entries.map((entry) => entry.sentMs);
    return { inner, killSwitch, steps, book, sentMs };
  }

  const leaves = async (order: DeleteOrder, error: Error): Promise<Receipt> => {
    await order.lastWord();
    throw error;
  };
  const goes = (order: DeleteOrder, inner: ScriptedStore): Promise<Receipt> => inner.store.submit(order);

  test('P19: nothing that a tripped kill switch kept back, so that it goes as soon as deletes are allowed', async () => {
    const { inner, killSwitch, steps, book, sentMs } = await tried(goes);
    killSwitch.trip('more matched than was sent');
    expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble', reason: 'switched-off' });
    expect(await sentMs()).toEqual([null]);
    killSwitch.reset('ann', 'explained');
    // Whatever window is still open for others of this lane: what never left has none before it.
    const settledAtMs = Date.now() + 7 * 86_400_000;
    expect(await steps.verify({ book, settledAtMs })).toMatchObject({ kind: 'newcomers', resubmit: true });
    expect(inner.deleted).toEqual([]);
  });

  test('P23 P27: nothing that was stopped before the call left, by pacing or by a hold', async () => {
    const paced = await tried(() => Promise.reject(refusal('throttled', null)));
    expect(await paced.steps.delete({ book: paced.book })).toMatchObject({ reason: 'throttled' });
    expect(await paced.sentMs()).toEqual([null]);
    const held = await tried(goes);
    await held.steps.hold('email', 'ann@x.org');
    expect(await held.steps.delete({ book: held.book })).toMatchObject({ reason: 'legal-hold' });
    expect(await held.sentMs()).toEqual([null]);
    expect(held.inner.deleted).toEqual([]);
  });

  test('P23: nothing of a single call that the store refused', async () => {
    for (const [reason, status] of [
      ['rejected', 422],
      ['denied', 403],
      ['throttled', 429],
    ] as const) {
      const { steps, book, sentMs } = await tried((order) => leaves(order, refusal(reason, status)));
      expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble', reason });
      expect(await sentMs()).toEqual([null]);
    }
  });

  test('P2 P23: whatever may have arrived, however the call ended', async () => {
    const unknown: readonly ((order: DeleteOrder) => Promise<Receipt>)[] = [
      (order) => leaves(order, refusal('contract-broken', 200)),
      (order) => leaves(order, refusal('rejected', 200)),
      (order) => leaves(order, refusal('rejected', null)),
      // A call that asks for no word of its own, after one that was acknowledged.
      (order) => leaves(order, partlyDone(refusal('denied', 403)) as StoreError),
      (order) => leaves(order, partlyDone(refusal('switched-off', null)) as StoreError),
      // The second of two calls; what became of the first is for the reads to say.
      async (order) => {
        await order.lastWord();
        return leaves(order, refusal('rejected', 422));
      },
    ];
    for (const submit of unknown) {
      const { steps, book, sentMs } = await tried(submit);
      expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble' });
      expect(await sentMs()).toEqual([expect.any(Number)]);
    }
  });

  /** The same, in one call with somebody who is held when ours had given the last word, by then for so many calls. */
  async function triedTogether(
    submit: (order: DeleteOrder, inner: ScriptedStore) => Promise<Receipt>,
    { calls = 1, meanwhile }: { calls?: number; meanwhile?: (steps: LaneSteps) => Promise<void> } = {},
  ) {
    const inner = new ScriptedStore([rowOf('t1', 'u_42'), ...OTHERS], PROMPT);
    const killSwitch = new KillSwitch();
    const shared = batched({ ...inner.store, submit: (order) => submit(order, inner) }, null, killSwitch, {
      boardingMs: 5,
      busyMs: 1,
      lookMs: 5,
    });
    const boards = Promise.withResolvers<undefined>();
    const submits = Promise.withResolvers<undefined>();
    const given = Promise.withResolvers<undefined>();
    let words = 0;
    let theirWords = 0;
    let isPlanned = false;
    const store: TraceStore = {
      ...shared,
      board: (progress, request) => {
        if (isPlanned) boards.resolve(undefined);
        return shared.board?.(progress, request) ?? Promise.reject(new Error('nothing is shared'));
      },
      submit: (order) => {
        submits.resolve(undefined);
        const lastWord = async (): Promise<void> => {
          await order.lastWord();
          words += 1;
          if (words === calls) given.resolve(undefined);
        };
        return shared.submit({ ...order, lastWord });
      },
    };
    const steps = await stepsOver(guarded(store, killSwitch));
    const { book } = await steps.plan();
    isPlanned = true;
    const other = async (): Promise<unknown> => {
      const progress = (): void => undefined;
      const lastWord = async (): Promise<void> => {
        theirWords += 1;
        if (theirWords < calls) return;
        await given.promise;
        await meanwhile?.(steps);
        throw new Error('held');
      };
      await boards.promise;
      const leave = await shared.board?.(progress);
      try {
        await submits.promise;
        const theirs = deleteOrder(PROJECT.id, ['theirs-u_7']);
        return await shared
          .submit({ ...theirs, lastWord, progress })
          .catch((error: unknown) => (error as Error).message);
      } finally {
        leave?.();
      }
    };
    const [answer, theirs] = await Promise.all([
      steps.delete({ book }).catch((error: unknown) => ({
        kind: 'failure',
        type: (error as ApplicationFailure).type,
      })),
      other(),
    ]);
    expect(theirs).toBe('held');
    const sentMs = (await steps.bookNow(book)).entries.map((entry) => entry.sentMs);
    return { inner, steps, book, answer, sentMs };
  }

  test('P23 P27: nothing of a call that the hold of another kept back, when one is held oneself meanwhile', async () => {
    const { inner, answer, sentMs } = await triedTogether(goes, {
      meanwhile: (steps) => steps.hold('user_id', 'u_42'),
    });
    expect(answer).toMatchObject({ kind: 'trouble', reason: 'legal-hold' });
    expect(sentMs).toEqual([null]);
    expect(inner.deleted).toEqual([]);
  });

  test('P23: nothing of a single call that the store refused, after the hold of another had kept it back', async () => {
    const { inner, answer, sentMs } = await triedTogether((order) => leaves(order, refusal('rejected', 422)));
    expect(answer).toMatchObject({ kind: 'trouble', reason: 'rejected' });
    expect(sentMs).toEqual([null]);
    expect(inner.deleted).toEqual([]);
  });

  test('P2 P23: what went without the one who was held, whose own traces stay', async () => {
    const lost = await triedTogether((order) => leaves(order, refusal('unreachable', null)));
    expect(lost.answer).toMatchObject({ kind: 'failure', type: 'StoreUnreachable' });
    expect(lost.sentMs).toEqual([expect.any(Number)]);
    const { inner, answer, sentMs } = await triedTogether(goes);
    expect(answer).toMatchObject({ kind: 'submitted', submitted: 1 });
    expect(sentMs).toEqual([expect.any(Number)]);
    expect(inner.deleted).toEqual([['t1']]);
  });

  test('P2 P20: what may have gone before another was held in the midst of a call, and only what is left goes again', async () => {
    let isWhole = true;
    const halfway = async (order: DeleteOrder, inner: ScriptedStore): Promise<Receipt> => {
      if (!isWhole) return inner.store.submit(order);
      isWhole = false;
      await order.lastWord();
      inner.rows = inner.rows.filter(({ traceId }) => traceId !== 't1');
      return inner.store.submit(order);
    };
    const { inner, steps, book, answer, sentMs } = await triedTogether(halfway, { calls: 2 });
    expect(answer).toMatchObject({ kind: 'failure', type: 'StoreUnreachable' });
    expect(sentMs).toEqual([expect.any(Number)]);
    expect(inner.deleted).toEqual([]);
    expect(await steps.delete({ book })).toMatchObject({ kind: 'submitted', submitted: 0, absent: 1 });
    expect(inner.deleted).toEqual([]);
  });

  test('P2 P23: what a first call took, when rows that came made two of one and the switch trips before the second', async () => {
    const rows = ['t1', 't2'].map((traceId) => rowOf(traceId, 'u_42'));
    const inner = new ScriptedStore([...rows, ...OTHERS], { ...PROMPT, deletesBy: 'row', mostIdsPerDelete: 2 });
    const killSwitch = new KillSwitch();
    inner.before = ({ what }) => {
      if (what === 'submit') killSwitch.trip('more matched than was sent');
    };
    const steps = await stepsOver(guarded(inner.store, killSwitch));
    const { book, batches } = await steps.plan();
    expect(batches).toHaveLength(1);
    inner.rows = [...inner.rows, ...rows.map((row) => ({ ...row, runId: `${row.traceId}-more` }))];
    expect(await steps.delete({ book })).toMatchObject({ kind: 'trouble', reason: 'switched-off' });
    expect(inner.deleted).toEqual([['t1']]);
    expect((await steps.bookNow(book)).entries[0]?.sentMs).toEqual(expect.any(Number));
  });

  test('P23: what an earlier try has sent stays sent when the next one is stopped', async () => {
    const { killSwitch, steps, book, sentMs } = await tried((order) => leaves(order, refusal('contract-broken', 200)));
    await steps.delete({ book });
    const [first] = await sentMs();
    killSwitch.trip('more matched than was sent');
    expect(await steps.delete({ book })).toMatchObject({ reason: 'switched-off' });
    expect(await sentMs()).toEqual([first]);
    expect(first).not.toBeNull();
  });
});

describe('traces of several people after an approval', () => {
  const others = (traceId: string): Row => rowOf(traceId, 'u_7', { runId: `${traceId}-guest` });
  const AT_PLAN: readonly Row[] = [rowOf('own', 'u_42'), rowOf('both', 'u_42'), others('both'), ...OTHERS];

  async function approved(policy: Partial<LaneDeps['policy']> = {}) {
    const inner = new ScriptedStore(AT_PLAN, PROMPT);
    const steps = await stepsOver(inner.store, policy);
    const { book: planned } = await steps.plan();
    const { book, batches } = await steps.plan({ include: ['shared'], book: planned });
    expect(batches).toEqual([2]);
    return { inner, steps, book };
  }

  test('P14: the approved ones are sent, and one that came to hold others since is not', async () => {
    const { inner, steps, book } = await approved();
    inner.rows = [...AT_PLAN, others('own')];
    expect(await steps.delete({ book })).toMatchObject({ submitted: 1, pulled: 1 });
    expect(inner.deleted).toEqual([['both']]);
    inner.rows = inner.rows.filter(({ traceId }) => traceId !== 'both');
    const read = await steps.verify({ book });
    expect(read).toMatchObject({ kind: 'clean', traces: { matched: 2, shared: 1, pending: 1 } });
    if (read.kind !== 'trouble') expect(imbalances(read)).toEqual([]);
  });

  test('P14: one that others joined after it was sent is theirs too, and is not sent again', async () => {
    const { inner, steps, book } = await approved();
    expect(await steps.delete({ book })).toMatchObject({ submitted: 2, pulled: 0 });
    inner.rows = [...AT_PLAN, others('own')];
    const read = await steps.verify({ book });
    expect(read).toMatchObject({ kind: 'survivors', batches: [1], traces: { survived: 1, shared: 1 } });
  });

  test('P17: a policy that erases traces of several people means these too', async () => {
    const { inner, steps, book } = await approved({ sharedTraces: 'erase' });
    inner.rows = [...AT_PLAN, others('own')];
    expect(await steps.delete({ book })).toMatchObject({ submitted: 2, pulled: 0 });
  });
});

describe('P9: a project that is not there any more', () => {
  /** Two traces in two projects, of which the second goes after the plan: whatever names it is refused. */
  async function gone() {
    const inner = new ScriptedStore(
      [rowOf('t1', 'u_42'), rowOf('t2', 'u_42', { projectId: OTHER_PROJECT.id }), ...OTHERS],
      PROMPT,
    );
    let isGone = false;
    const refuse = (projectIds: readonly string[]): void => {
      if (isGone && projectIds.includes(OTHER_PROJECT.id)) throw refusal('denied', 403);
    };
    inner.before = (called) => {
      if (called.what === 'lookup') refuse(called.query.traces.map(({ projectId }) => projectId));
      if (called.what === 'find') refuse(called.query.projects.map(({ id }) => id));
    };
    const steps = await stepsOver({
      ...inner.store,
      projects: async (progress) =>
        (await inner.store.projects(progress)).filter(({ id }) => !isGone || id === PROJECT.id),
      controls: async (query) => {
        refuse(query.projects.map(({ id }) => id));
        return inner.store.controls(query);
      },
    });
    const { book } = await steps.plan();
    isGone = true;
    return { inner, steps, book };
  }

  test('keeps no batch of another project from being sent', async () => {
    const { inner, steps, book } = await gone();
    expect(await steps.delete({ book, batch: 0 })).toMatchObject({ kind: 'submitted', submitted: 1 });
    expect(inner.deleted).toEqual([['t1']]);
  });

  test('is sent nothing, and the read calls what was in it inconclusive', async () => {
    const { inner, steps, book } = await gone();
    const answer = await steps.delete({ book, batch: 1 });
    expect(answer).toMatchObject({ kind: 'submitted', submitted: 0, absent: 0, pulled: 0, settledAtMs: null });
    expect(inner.deleted).toEqual([]);
    inner.rows = OTHERS;
    const read = await steps.verify({ book });
    expect(read).toMatchObject({ traces: { matched: 2, pending: 1, inconclusive: 1 } });
    if (read.kind !== 'trouble') expect(imbalances(read)).toEqual([]);
  });

  test('is not looked for when the key itself is refused', async () => {
    const { steps, inner, book } = await gone();
    inner.before = () => {
      throw refusal('denied', 401);
    };
    expect(await steps.delete({ book, batch: 0 })).toMatchObject({ kind: 'trouble', reason: 'denied' });
    expect(inner.deleted).toEqual([]);
  });
});

describe('who is held', () => {
  /** A trace that names the person twice, and a copy of it that a call erases at the time that its trait says. */
  async function copied(erasedWhen: 'before' | 'after', traceId = 't1') {
    const named = rowOf(traceId, 'u_42');
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

  test('P27: a hold costs no whole read each time that it is met again', async () => {
    const { inner, steps, book, erased } = await copied('after');
    await steps.delete({ book });
    inner.rows = OTHERS;
    await steps.hold('user_id', 'u_42');
    const before = (['find', 'lookup', 'controls'] as const).map((what) => inner.count(what));
    expect(await steps.verify({ book })).toMatchObject({ kind: 'trouble', reason: 'legal-hold' });
    expect((['find', 'lookup', 'controls'] as const).map((what) => inner.count(what))).toEqual(before);
    expect(erased).toEqual([]);
  });

  test('P27: where no copy is left to erase, a hold keeps nothing from being proven', async () => {
    const { inner, steps, book, erased } = await copied('after', 't2');
    await steps.delete({ book });
    inner.rows = OTHERS;
    await steps.hold('user_id', 'u_42');
    expect(await steps.verify({ book })).toMatchObject({ kind: 'clean', counted: true });
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
