import { describe, expect, jest, test } from '@jest/globals';
import assert from 'node:assert/strict';
import { eraseRequestSchema, planSchema } from '../src/index.ts';
import { approvalRefusal, mostWithoutApproval, samePerson, stopFor } from '../src/erasure/approval.ts';
import { newLane, nextCommand, ordered, planned, refusal, verified, type LaneState } from '../src/erasure/lane.ts';
import { EMPTY_COPIES, EMPTY_GIVEN, EMPTY_TRACES, imbalances } from '../src/erasure/ledger.ts';
import type { ConnectionPlan } from '../src/erasure/plan.ts';
import type { ConnectionStatus, RequestStatus } from '../src/erasure/status.ts';
import type { ResolveAnswer, VerifyAnswer } from '../src/erasure/steps.ts';
import { parseOperatorMessage, type OperatorMessage } from '../src/erasure/verbs.ts';
import type { VerbAnswer } from '../src/client/verbs.ts';
import { LaneSteps } from './support/lane-steps.ts';
import { ScriptedStore, rowOf } from './support/scripted-store.ts';
import { CONNECTION, type World } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const T0 = Date.parse('2026-11-25T09:00:00Z');
const ONE = '1'.repeat(64);
const TWO = '2'.repeat(64);

describe('how much needs no approval', () => {
  test.each([
    ['the policy alone', { expectAtMost: null, refuseAbove: 100 }, 100],
    ['the request in its stead', { expectAtMost: 500, refuseAbove: 100 }, 500],
    ['no request lifts the approval', { expectAtMost: 500, refuseAbove: 100, approveAbove: 20 }, 20],
    ['nor the second person', { expectAtMost: 500, refuseAbove: 100, secondPersonAbove: 30 }, 30],
    ['the least of all', { expectAtMost: 5, refuseAbove: 100, approveAbove: 20, secondPersonAbove: 30 }, 5],
    ['every plan waits', { expectAtMost: null, refuseAbove: 100, approveAbove: 0 }, 0],
  ] as const)('%s', (_what, thresholds, most) => {
    expect(mostWithoutApproval(thresholds)).toBe(most);
  });

  test('a total up to the limit goes on, one more stops; an approval stands in for the limit', () => {
    expect(stopFor(10, 10)).toBeNull();
    expect(stopFor(11, 10)).toMatch(/^11 traces match, more than the 10 expected: nothing new was deleted/);
    expect(stopFor(11, 10, 11)).toBeNull();
    expect(stopFor(5, 10, 4)).toMatch(/^5 traces would be submitted in all, more than the 4 approved/);
  });
});

describe('P18: several people behind one identifier', () => {
  const EMAIL = 'team@example.org';
  const subject = [{ kind: 'email', value: EMAIL }];
  const email = (text: string) => ({ kind: 'email', key: 'metadata.email', text, numeric: false });
  const rowFor = (traceId: string, user: string, of = EMAIL) => {
    const row = rowOf(traceId, user);
    return { ...row, persons: [...row.persons, email(of)] };
  };
  const others = [rowFor('a', 'u_8', 'a@example.org'), rowFor('b', 'u_9', 'b@example.org')];

  test('of whom a later read shows another one wait for an approval, and for no second one', async () => {
    const at = new ScriptedStore([rowFor('one', 'u_1'), ...others]);
    await LaneSteps.over(at.store, async (steps) => {
      const plan = await steps.resolve({ subject });
      expect(plan.stop).toBeNull();
      await steps.remove(plan.book, { subject });
      at.rows = [rowFor('two', 'u_2'), ...others];
      const read = await steps.verify(plan.book, { subject });
      expect(read).toMatchObject({ resubmit: false, stop: expect.stringMatching(/2 different values of user_id/) });
      expect(read.plan).toMatchObject({ traces: 1, submittedBefore: 1 });
      // Asked to read again it asks again, also when something else was approved before.
      const again = await steps.verify(read.book, { subject, approvedAtMost: 9, approvedPlan: plan.book.digest });
      expect(again).toMatchObject({ resubmit: false, stop: expect.stringMatching(/2 different values of user_id/) });

      const approved = { subject, approvedAtMost: 9, approvedPlan: again.plan?.digest ?? '' };
      at.rows = [...at.rows, rowFor('three', 'u_2')];
      const next = await steps.verify(again.book, approved);
      expect(next).toMatchObject({ kind: 'newcomers', resubmit: true });
      at.rows = [...at.rows, rowFor('four', 'u_1')];
      expect(await steps.verify(next.book, approved)).toMatchObject({ resubmit: true });
      at.rows = [...at.rows, rowFor('five', 'u_3')];
      expect(await steps.verify(next.book, approved)).toMatchObject({
        resubmit: false,
        stop: expect.stringMatching(/3 different values of user_id/),
      });
      expect(at.deleted.flat()).toEqual(['one']);
    });
  });

  test('whom a request that joined brings along are asked about however often it is tried', async () => {
    const at = new ScriptedStore([rowFor('mine', 'u_1', 'ann@example.org'), ...others]);
    await LaneSteps.over(at.store, async (steps) => {
      const first = [{ kind: 'email', value: 'ann@example.org' }];
      const plan = await steps.resolve({ subject: first });
      await steps.remove(plan.book, { subject: first });
      at.rows = [rowFor('one', 'u_1'), rowFor('two', 'u_2'), ...others];
      const both = [...first, ...subject];
      const joined = await steps.resolve({ subject: both, previous: { book: plan.book } });
      expect(joined.stop).toMatch(/2 different values of user_id/);
      const read = await steps.verify(joined.book, { subject: both });
      expect(read).toMatchObject({ resubmit: false, stop: expect.stringMatching(/2 different values of user_id/) });
      expect(at.deleted.flat()).toEqual(['mine']);
    });
  });
});

describe('whether an approval applies', () => {
  const scene = {
    connection: 'prod',
    stopped: true,
    plan: { digest: ONE, traces: 40, submittedBefore: 2, batches: 1, shared: 3, linked: 2 },
  };
  const word = { requestedBy: 'ines', planDigest: ONE, atMost: 42 };

  test('P17: kept traces that are included count, and only before anything was submitted', () => {
    const before = { ...scene, plan: { ...scene.plan, submittedBefore: 0 } };
    expect(approvalRefusal(before, { ...word, include: ['shared'] })).toMatch(
      /43 ever submitted, 3 kept ones included/,
    );
    expect(approvalRefusal(before, { ...word, atMost: 45, include: ['shared', 'linked'] })).toBeNull();
    expect(approvalRefusal(scene, { ...word, atMost: 45, include: ['shared'] })).toMatch(/has begun to delete/);
  });

  test('exactly this plan and enough of a number', () => {
    expect(approvalRefusal(scene, word)).toBeNull();
    expect(approvalRefusal(scene, { ...word, atMost: 1000 })).toBeNull();
  });

  test.each([
    ['a lane that does not wait', { ...scene, stopped: false }, word, /does not wait for approval/],
    ['no plan', { ...scene, plan: null }, word, /retry plans again/],
    [
      'another plan: the present one is told',
      scene,
      { ...word, planDigest: TWO },
      new RegExp(`another plan by now; the present plan is ${ONE}: 40 traces in 1 delete call, 42 ever submitted`),
    ],
    [
      'too small a number',
      scene,
      { ...word, atMost: 41 },
      /"atMost" 41 is less than the plan needs in prod; .*42 ever submitted/,
    ],
    [
      'the requester himself',
      { ...scene, secondPersonAbove: 41, requester: 'Ines ' },
      word,
      /somebody else than the requester/,
    ],
    ['a requester unknown', { ...scene, secondPersonAbove: 41 }, word, /does not say who/],
  ])('P18: refused: %s', (_what, at, approval, why) => {
    expect(approvalRefusal(at, approval)).toMatch(why);
  });

  test('a second person is needed above the number only, and another one will do', () => {
    expect(approvalRefusal({ ...scene, secondPersonAbove: 42, requester: 'ines' }, word)).toBeNull();
    expect(approvalRefusal({ ...scene, secondPersonAbove: 41, requester: 'omar' }, word)).toBeNull();
    expect(samePerson(' Ines  Weber', 'ines weber')).toBe(true);
    expect(samePerson('ines', 'inés')).toBe(false);
  });
});

describe('who asks', () => {
  const ann = [{ kind: 'user_id', value: 'u_4242' }];
  const problems = (requestedBy: unknown): readonly string[] =>
    eraseRequestSchema.safeParse({ identifiers: ann, requestedBy }).error?.issues.map(({ message }) => message) ?? [];

  test('P33: is a name that holds no identifier of the person', () => {
    expect(problems(' Ines Weber ')).toEqual([]);
    expect(problems('support for U_4242').join()).toMatch(/contains an identifier of the person/);
    expect(problems('support for U_4242').join()).not.toMatch(/4242/);
  });

  test.each(['', '  ', 'a\nb', 'x'.repeat(201), 7])('P25: is refused: %j', (name) => {
    expect(problems(name)).toHaveLength(1);
  });
});

describe('the message', () => {
  const good = { ...BY, connection: 'prod', planDigest: ONE, atMost: 3 };

  test('is read whole for approve, and its own fields belong to no other verb', () => {
    expect(parseOperatorMessage(good, 'approve')).toEqual(good);
    expect(parseOperatorMessage(good, 'retry')).toBe('unknown field "planDigest"');
    expect(parseOperatorMessage(good)).toBe('unknown field "planDigest"');
  });

  test.each([
    ['no digest', { ...good, planDigest: undefined }, /"planDigest" must be the 64/],
    ['a part of a digest', { ...good, planDigest: '1234' }, /"planDigest" must be the 64/],
    ['no number', { ...good, atMost: undefined }, /"atMost" must be a whole number/],
    ['a number as text', { ...good, atMost: '3' }, /"atMost" must be a whole number/],
    ['half a trace', { ...good, atMost: 2.5 }, /"atMost" must be a whole number/],
    ['no lane', { ...BY, planDigest: ONE, atMost: 3 }, /"connection" must name the lane/],
  ])('is refused: %s', (_what, input, why) => {
    expect(parseOperatorMessage(input, 'approve')).toMatch(why);
  });
});

function planOf(digest: string, batches: readonly number[], submittedBefore = 0): ConnectionPlan {
  const instant = new Date(T0).toISOString();
  return {
    digest,
    manifest: 'prod/book-1',
    at: instant,
    traces: batches.reduce((sum, count) => sum + count, 0),
    submittedBefore,
    batches: batches.length,
    shared: 0,
    linked: 0,
    window: null,
    verdict: { earliest: instant, latest: instant },
    due: { at: instant, outlook: 'met', submitBefore: null, text: 'can be met' },
    details: {
      projects: [],
      searched: {},
      variants: [],
      conflicts: [],
      copies: [],
      notExamined: [],
      batches: [...batches],
      expected: { deleteCalls: 0, deletePages: 0, verifyCalls: 0, verifyPages: 0 },
    },
  };
}

const figures = {
  given: EMPTY_GIVEN,
  traces: { ...EMPTY_TRACES, matched: 5, pending: 5 },
  copies: EMPTY_COPIES,
  exceptions: [],
};

function stopped(more: Partial<ResolveAnswer> = {}): LaneState {
  const answer: ResolveAnswer = {
    kind: 'planned',
    atMs: T0,
    clock: null,
    policy: { cleanReads: 2, flagAfterRounds: 3 },
    searched: {},
    book: { name: 'prod/book-1', digest: ONE },
    batches: [3, 2],
    stop: 'too many',
    plan: planOf(ONE, [3, 2]),
    nextCheckAtMs: T0,
    cleanReads: 0,
    ...figures,
    ...more,
  };
  return planned(newLane('prod', 0), answer, false);
}

function approve(lane: LaneState, planDigest: string, atMost: number): LaneState {
  const message: OperatorMessage = { ...BY, connection: 'prod', planDigest, atMost };
  assert.equal(refusal(lane, 'approve', message), null);
  return ordered(lane, 'approve', T0, message)[0];
}

describe('a lane', () => {
  const grown: VerifyAnswer = {
    kind: 'newcomers',
    atMs: T0,
    counted: false,
    why: '1 trace not seen before',
    cleanReads: 0,
    lastCountedAtMs: null,
    book: { name: 'prod/book-4', digest: TWO },
    batches: [1],
    resubmit: false,
    stop: '6 traces would be submitted',
    plan: planOf(TWO, [1], 5),
    nextCheckAtMs: T0,
    verdict: null,
    ...figures,
  };

  test('P18: carries out the plan that was approved, and nothing before', () => {
    const waiting = stopped();
    expect(nextCommand(waiting, T0)).toMatchObject({ do: 'wait', untilMs: null });
    const next = approve(waiting, ONE, 5);
    expect(next).toMatchObject({ phase: 'deleting', round: 1, batches: [3, 2], nextBatch: 0, flag: null });
    expect(next.approval).toEqual({ planDigest: ONE, atMost: 5, by: 'ines', atMs: T0 });
    expect(nextCommand(next, T0)).toEqual({ do: 'delete' });
    // Continue-as-new carries it as it stands.
    expect(JSON.parse(JSON.stringify(next))).toEqual(next);
  });

  test('P18: a plan that was made without one to approve is planned again first', () => {
    const { plan: _plan, ...old } = stopped();
    const message = { ...BY, connection: 'prod', planDigest: ONE, atMost: 5 };
    expect(refusal(old, 'approve', message)).toMatch(/retry plans again/);
    expect(ordered(old, 'retry', T0)[0]).toMatchObject({ phase: 'resolving' });
  });

  test('P18: asked for more than was approved it stops again, and no verb but approve submits that', () => {
    const deleting = approve(stopped(), ONE, 5);
    const again = verified({ ...deleting, phase: 'verifying' }, grown, 0);
    expect(again).toMatchObject({ phase: 'stopped', batches: [], round: 1, flag: { reason: 'approval' } });
    const old = { ...BY, connection: 'prod', planDigest: ONE, atMost: 9 };
    expect(refusal(again, 'approve', old)).toMatch(/another plan by now/);
    expect(refusal(again, 'approve', { ...old, planDigest: TWO, atMost: 5 })).toMatch(/less than the plan needs/);
    // A retry reads again: a plan from scratch would forget what was submitted and is not proven gone.
    const [reading] = ordered(again, 'retry', T0);
    expect(nextCommand(reading, T0)).toEqual({ do: 'verify' });
    const blind: VerifyAnswer = { ...grown, kind: 'inconclusive', why: 'blind', batches: [] };
    const { stop: _stop, plan: _plan, ...without } = blind;
    const unsure = verified(reading, without, 0);
    expect(unsure.phase).toBe('waiting');
    expect(ordered(unsure, 'retry', T0)[0].phase).not.toBe('deleting');
    const next = approve(again, TWO, 6);
    expect(next).toMatchObject({ phase: 'deleting', round: 2, batches: [1], approval: { atMost: 6 } });
  });

  test('an approved plan without anything to submit is read back', () => {
    const next = approve(stopped({ batches: [], plan: planOf(ONE, []) }), ONE, 0);
    expect(next).toMatchObject({ phase: 'waiting', round: 0 });
    expect(nextCommand(next, T0)).toEqual({ do: 'verify' });
  });

  test('P27: held, it takes no approval', () => {
    const held = ordered(stopped(), 'hold', T0)[0];
    const message = { ...BY, connection: 'prod', planDigest: ONE, atMost: 5 };
    expect(refusal(held, 'approve', message)).toMatch(/held; release it first/);
  });
});

/** Weekends pass in seconds, and a busy machine makes them some more. */
jest.setTimeout(120_000);

const open = worldsOfFile();

/** @param speed of the clock. Default: a week in 4 s; 1 where dates are looked at. */
function start(title: string, policy: Record<string, number> = {}, speed = 150_000): Promise<World> {
  return open(title, { speed, config: (base) => ({ ...base, policy: { ...base.policy, ...policy } }) });
}

function lane(status: RequestStatus): ConnectionStatus & { readonly plan: NonNullable<ConnectionStatus['plan']> } {
  const found = status.connections[CONNECTION];
  if (found?.plan == null) throw new Error('the lane has no plan');
  expect(imbalances(found)).toEqual([]);
  return { ...found, plan: found.plan };
}

function waits(at: World, requestId: string, other?: string): Promise<RequestStatus> {
  return at.until(
    requestId,
    ({ connections, status }) =>
      status === 'awaiting-approval' &&
      connections[CONNECTION]?.plan != null &&
      connections[CONNECTION].plan.digest !== other,
  );
}

function say(at: World, requestId: string, planDigest: string, atMost: number, by = BY): Promise<VerbAnswer> {
  return at.client.approve(requestId, { ...by, connection: CONNECTION, planDigest, atMost });
}

/** What must survive, whatever is approved. */
function assertOthersLive(at: World): void {
  for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(3);
  expect(at.sim.truth.unasked()).toEqual([]);
}

describe('approval, with a store', () => {
  test.concurrent(
    'P18: nothing is submitted before the approval, then exactly the plan is, and the record says who',
    async () => {
      const at = await start('approve', { approveAbove: 2 });
      at.seed(['u_42', 'u_7', 'u_8'], 3);
      // The request's own number lifts `refuseAbove`, never an approval.
      const { requestId } = await at.erase({ expectAtMost: 100 });
      const { plan } = lane(await waits(at, requestId));
      expect(plan).toMatchObject({ traces: 3, submittedBefore: 0, batches: 1 });
      expect(at.sim.ledger.deletes()).toEqual([]);
      expect(at.sim.truth.submissions()).toEqual([]);

      const tooFew = await say(at, requestId, plan.digest, 2);
      expect(tooFew).toMatchObject({ delivered: 'none' });
      const wrong = await say(at, requestId, TWO, 3);
      expect(wrong.delivered).toBe('none');
      expect(wrong.text).toContain(`the present plan is ${plan.digest}: 3 traces in 1 delete call`);
      expect(at.sim.ledger.deletes()).toEqual([]);

      const answer = await say(at, requestId, plan.digest, 3);
      expect(answer).toMatchObject({ delivered: 'update', receipt: { verb: 'approve', connections: [CONNECTION] } });
      const end = await at.client.result(requestId);
      expect(end).toMatchObject({ status: 'verified' });
      expect(lane(end).approval).toMatchObject({ atMost: 3, by: 'ines' });
      expect(at.liveTraces('u_42')).toEqual([]);
      assertOthersLive(at);
      const record = await at.record(requestId);
      expect(record.outcome?.verbs).toMatchObject([
        { verb: 'approve', ...BY, applied: true, planDigest: plan.digest, atMost: 3 },
      ]);
      const [first] = (record.lanes[CONNECTION]?.entries ?? []).map(({ entry }) => entry);
      expect(first).toMatchObject({ kind: 'plan', manifestDigest: plan.digest, plan: { digest: plan.digest } });
    },
  );

  test.concurrent(
    'P18: a plan that grew before its approval has another digest, and the old one is refused',
    async () => {
      const at = await start('grown');
      at.seed(['u_42', 'u_7', 'u_8'], 3);
      const { requestId } = await at.erase({ expectAtMost: 2 });
      const { plan: old } = lane(await waits(at, requestId));
      at.seed(['u_42'], 2, 'agent');
      await at.client.retry(requestId, BY);
      const { plan } = lane(await waits(at, requestId, old.digest));
      expect(plan.traces).toBe(5);
      const refused = await say(at, requestId, old.digest, 100);
      expect(refused).toMatchObject({ delivered: 'none' });
      expect(refused.text).toContain(plan.digest);
      expect(at.sim.truth.submissions()).toEqual([]);
      expect(await say(at, requestId, plan.digest, 5)).toMatchObject({ delivered: 'update' });
      expect((await at.client.result(requestId)).status).toBe('verified');
      expect(at.liveTraces('u_42')).toEqual([]);
      assertOthersLive(at);
    },
  );

  test.concurrent('P18 P30: newcomers beyond the number approved stay until they are approved as well', async () => {
    const at = await start('newcomers');
    at.seed(['u_42', 'u_7', 'u_8'], 3);
    const { requestId } = await at.erase({ expectAtMost: 2 });
    const { plan: first } = lane(await waits(at, requestId));
    // Written after the plan: exactly the plan is deleted, so these are newcomers.
    const late = at.seed(['u_42'], 2, 'agent').get('u_42') ?? [];
    await say(at, requestId, first.digest, 4);
    const again = lane(await waits(at, requestId, first.digest));
    expect(again.attention?.next).toMatch(/^5 traces would be submitted in all, more than the 4 approved/);
    expect(again.plan.traces + again.plan.submittedBefore).toBe(5);
    expect(again.traces.matched).toBe(5);
    for (const id of late) expect(at.sim.truth.submissionsOf(id)).toEqual([]);
    // Reading again changes nothing about that.
    await at.client.retry(requestId, BY);
    const third = lane(
      await at.until(requestId, ({ status, connections }) => {
        const now = connections[CONNECTION]?.plan;
        return status === 'awaiting-approval' && now != null && now.at !== again.plan.at;
      }),
    );
    for (const id of late) expect(at.sim.truth.submissionsOf(id)).toEqual([]);
    expect(await say(at, requestId, third.plan.digest, 4)).toMatchObject({ delivered: 'none' });
    expect(await say(at, requestId, third.plan.digest, 5)).toMatchObject({ delivered: 'update' });
    const end = await at.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(lane(end).traces).toMatchObject({ matched: 5, verifiedAbsent: 5 });
    expect(lane(end).approval).toMatchObject({ atMost: 5 });
    expect(at.liveTraces('u_42')).toEqual([]);
    assertOthersLive(at);
    const { outcome, lanes } = await at.record(requestId);
    const approvals = (outcome?.verbs ?? []).filter(({ verb, applied }) => verb === 'approve' && applied);
    expect(approvals.map(({ planDigest, atMost }) => [planDigest, atMost])).toEqual([
      [first.digest, 4],
      [third.plan.digest, 5],
    ]);
    const stops = (lanes[CONNECTION]?.entries ?? []).flatMap(({ entry }) =>
      entry.kind === 'read' ? (entry.plan ?? []) : [],
    );
    expect(stops.map(({ digest }) => digest)).toContain(third.plan.digest);
  });

  test.concurrent('P18: newcomers within the number approved need no second word, survivors neither', async () => {
    const at = await start('within');
    at.sim.habits.set({ skipWeekends: 1 });
    at.seed(['u_42', 'u_7', 'u_8'], 3);
    const { requestId } = await at.erase({ expectAtMost: 2 });
    const { plan } = lane(await waits(at, requestId));
    at.seed(['u_42'], 2, 'agent');
    await say(at, requestId, plan.digest, 5);
    const end = await at.client.result(requestId);
    expect(end.status).toBe('verified');
    expect(lane(end).round).toBeGreaterThan(1);
    expect(lane(end).traces).toMatchObject({ matched: 5, verifiedAbsent: 5 });
    assertOthersLive(at);
  });

  test.concurrent('P18 P25: above the second threshold nobody approves what he asked for himself', async () => {
    const at = await start('second person', { secondPersonAbove: 2 });
    at.seed(['u_42', 'u_7', 'u_8'], 3);
    await expect(at.erase()).rejects.toThrow(/requestedBy: must name who asks/);
    expect(await at.client.list()).toEqual([]);
    const { requestId } = await at.erase({ requestedBy: 'Ines' });
    const { plan } = lane(await waits(at, requestId));
    const refused = await say(at, requestId, plan.digest, 3);
    expect(refused).toMatchObject({ delivered: 'none' });
    expect(refused.text).toMatch(/somebody else than the requester/);
    expect(at.sim.truth.submissions()).toEqual([]);
    await say(at, requestId, plan.digest, 3, { ...BY, requestedBy: 'omar' });
    expect((await at.client.result(requestId)).status).toBe('verified');
    const record = await at.record(requestId);
    expect(record.request?.requestedBy).toBe('Ines');
    expect(record.outcome?.verbs.map(({ verb, requestedBy, applied }) => [verb, requestedBy, applied])).toEqual([
      ['approve', 'omar', true],
    ]);
    assertOthersLive(at);
  });

  test.concurrent(
    'P18 P26: approved while no worker is up, it waits as a signal; one for another plan is recorded and ignored',
    async () => {
      const at = await start('signal');
      at.seed(['u_42', 'u_7', 'u_8'], 3);
      const { requestId } = await at.erase({ expectAtMost: 2 });
      const { plan } = lane(await waits(at, requestId));
      await at.stopWorker();
      expect(await say(at, requestId, TWO, 9)).toMatchObject({ delivered: 'signal' });
      expect(await say(at, requestId, plan.digest, 3)).toMatchObject({ delivered: 'signal' });
      expect(at.sim.truth.submissions()).toEqual([]);
      await at.startWorker();
      expect((await at.client.result(requestId)).status).toBe('verified');
      expect((await at.record(requestId)).outcome?.verbs).toMatchObject([
        { verb: 'approve', planDigest: TWO, applied: false, reason: expect.stringContaining('another plan by now') },
        { verb: 'approve', planDigest: plan.digest, applied: true },
      ]);
      assertOthersLive(at);
    },
  );

  test.concurrent('P36: many at once cannot be approved', async () => {
    const at = await start('bulk', { approveAbove: 0 });
    const message = { ...BY, connection: CONNECTION, planDigest: ONE, atMost: 9 };
    const filter = { status: 'awaiting-approval', expect: 1 } as const;
    for (const target of [filter, ['a', 'b'], ['a']]) {
      await expect(at.client.send('approve', target, message)).rejects.toThrow(/each plan is approved by itself/);
    }
    await expect(at.client.send('approve', 'a', BY)).rejects.toThrow(/"planDigest"/);
  });
});

describe('a plan, with a store', () => {
  test.concurrent(
    'P8 P31 P36: tells everything that would be erased, deletes nothing and leaves a record',
    async () => {
      const at = await start('plan', {}, 1);
      const identifiers = [
        { kind: 'user_id', value: '4711' },
        { kind: 'email', value: 'ann@example.org' },
      ];
      at.seed(['u_7', 'u_8'], 3);
      const run = (metadata: Record<string, unknown>) => ({ runs: [{ metadata }] });
      at.sim.seed({
        project: 'chat',
        traces: [run({ user_id: '4711' }), run({ user_id: 4711 }), run({ user_id: '4711', email: 'ann@example.org' })],
      });
      at.sim.seed({
        project: 'agent',
        traces: [run({ email: 'ann@example.org' }), run({ user_id: 'u_9', email: 'ann@example.org' })],
      });
      const plan = await at.client.plan({ identifiers });
      expect(planSchema.parse(plan)).toEqual(plan);
      expect(plan).toMatchObject({ dryRun: true, endedAt: expect.any(String) });
      const of = plan.connections[CONNECTION]?.plan;
      expect(of).toMatchObject({
        traces: 4,
        batches: 2,
        shared: 1,
        linked: 0,
        window: { opensAt: '2026-11-28T00:00:00.000Z', closesAt: '2026-11-30T00:00:00.000Z', estimate: true },
        verdict: { earliest: '2026-12-02T00:00:00.000Z' },
        due: { outlook: 'met' },
        details: {
          searched: { user_id: ['metadata.user_id'], email: ['metadata.email'] },
          conflicts: [{ matchedBy: 'email', carries: 'user_id', traces: 1, differentValues: 1 }],
        },
      });
      expect(of?.details.projects.map(({ name, traces }) => [name, traces]).sort()).toEqual([
        ['agent', 1],
        ['chat', 3],
      ]);
      for (const { firstStart, lastStart } of of?.details.projects ?? []) {
        expect(Date.parse(firstStart ?? '')).toBeLessThanOrEqual(Date.parse(lastStart ?? ''));
      }
      expect(of?.details.variants.map(({ identifier, key, form, traces }) => [identifier, key, form, traces])).toEqual([
        [1, 'metadata.user_id', 'number', 1],
        [1, 'metadata.user_id', 'text', 2],
        [2, 'metadata.email', 'text', 3],
      ]);
      expect(of?.details.expected.deleteCalls).toBeGreaterThanOrEqual(2);
      expect(JSON.stringify(plan)).not.toMatch(/4711|example\.org/);
      // Nothing was asked of the store but to read.
      expect(at.sim.ledger.deletes()).toEqual([]);
      expect(at.sim.truth.submissions()).toEqual([]);
      expect(at.sim.truth.tracesOf([{ key: 'email', value: 'ann@example.org' }])).toHaveLength(3);
      assertOthersLive(at);
      const record = await at.record(plan.requestId);
      expect(record.outcome).toMatchObject({ verdict: null, dryRun: true });
      expect(record.lanes[CONNECTION]?.entries[0]?.entry).toMatchObject({ kind: 'plan', plan: of });
      // The server's list has no room for the details; the record has.
      const listed = await at.client.status(plan.requestId);
      expect(listed.connections[CONNECTION]?.plan).toMatchObject({ digest: of?.digest, traces: 4 });
      expect(listed.connections[CONNECTION]?.plan?.details).toBeUndefined();
      expect(await at.client.planOf(listed)).toEqual(plan);
    },
  );

  test.concurrent('P36: a due date before the weekend has settled is said to be out of reach', async () => {
    const at = await start('due', {}, 1);
    at.seed(['u_42', 'u_7', 'u_8'], 3);
    const plan = await at.client.plan({
      identifiers: [{ kind: 'user_id', value: 'u_42' }],
      dueAt: '2026-12-01T12:00:00Z',
    });
    expect(plan.connections[CONNECTION]?.plan?.due).toMatchObject({ outlook: 'missed', submitBefore: null });
    expect(plan.connections[CONNECTION]?.plan?.due.text).toMatch(/^cannot be met: the earliest verdict is Wed 2 Dec/);
    expect(at.sim.ledger.deletes()).toEqual([]);
  });
});
