import { describe, expect, jest, test } from '@jest/globals';
import type { WorkflowClientInterceptor } from '@temporalio/client';
import { STATUS_MEMO, type StatusMemo } from '../src/erasure/memo.ts';
import type { EraseInput } from '../src/erasure/request.ts';
import { LetheRemaining, LetheRound, LetheStatus } from '../src/temporal/search-attributes.ts';
import { CONNECTION, type World } from './support/world.ts';
import { worldsOfFile } from './support/worlds.ts';

const BY = { requestedBy: 'ines', reason: 'ticket 4711' };

/** So late that nothing is written because of it. */
const NEVER_MS = 3_600_000;

jest.setTimeout(120_000);

const open = worldsOfFile();

/** What the list shows, and what can be read while no worker is up. */
interface Listed {
  readonly status: unknown;
  readonly round: unknown;
  readonly remaining: unknown;
  readonly memo: StatusMemo['status'];
}

async function listed(world: World, workflowId: string): Promise<Listed> {
  const { typedSearchAttributes: of, memo } = await world.client.temporal.workflow.getHandle(workflowId).describe();
  const kept = memo?.[STATUS_MEMO] as StatusMemo;
  return {
    status: of.get(LetheStatus),
    round: of.get(LetheRound),
    remaining: of.get(LetheRemaining),
    memo: kept.status,
  };
}

async function untilListed(world: World, workflowId: string, fits: (now: Listed) => boolean): Promise<Listed> {
  for (;;) {
    const now = await listed(world, workflowId);
    if (fits(now)) return now;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** One workflow task of a history that has written something, with what else it commanded. */
interface Write {
  readonly status: string | null;
  readonly waits: boolean;
  readonly ends: boolean;
}

async function writesOf(world: World, workflowId: string, statusWithinMs: number): Promise<readonly Write[]> {
  const { events } = await world.client.temporal.workflow.getHandle(workflowId).fetchHistory();
  const tasks = new Map<string, NonNullable<typeof events>>();
  for (const event of events ?? []) {
    const task =
      event.workflowPropertiesModifiedEventAttributes?.workflowTaskCompletedEventId ??
      event.upsertWorkflowSearchAttributesEventAttributes?.workflowTaskCompletedEventId ??
      event.timerStartedEventAttributes?.workflowTaskCompletedEventId ??
      event.workflowExecutionCompletedEventAttributes?.workflowTaskCompletedEventId;
    if (task != null) tasks.set(String(task), [...(tasks.get(String(task)) ?? []), event]);
  }
  const writes = [...tasks.values()].filter((of) =>
    of.some(
      (one) => one.workflowPropertiesModifiedEventAttributes ?? one.upsertWorkflowSearchAttributesEventAttributes,
    ),
  );
  return writes.map((of) => {
    const fields = of.flatMap((one) => {
      const { indexedFields } = one.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes ?? {};
      return indexedFields?.[LetheStatus.name]?.data ?? [];
    });
    const [status] = fields.map((data) => JSON.parse(Buffer.from(data).toString()) as string);
    const isOwn = (seconds: number): boolean => seconds === statusWithinMs / 1000;
    return {
      status: status ?? null,
      waits: of.some(
        ({ timerStartedEventAttributes: timer }) =>
          timer != null && !isOwn(Number(timer.startToFireTimeout?.seconds ?? 0)),
      ),
      ends: of.some(({ workflowExecutionCompletedEventAttributes: end }) => end != null),
    };
  });
}

/** Lets requests that are started from now on write their status that soon, or (null) as an earlier release had it. */
function startWith(world: World, statusWithinMs: number | null): void {
  const interceptor: WorkflowClientInterceptor = {
    startWithDetails: (input, next) => {
      const [given] = input.options.args as readonly unknown[] as readonly [EraseInput];
      const { statusWithinMs: _own, ...rest } = given;
      const args = [statusWithinMs === null ? rest : { ...rest, statusWithinMs }];
      return next({ ...input, options: { ...input.options, args } });
    },
  };
  (world.client.temporal.workflow.options.interceptors as WorkflowClientInterceptor[]).push(interceptor);
}

describe('memo and search attributes', () => {
  test.concurrent(
    'are written before something is submitted, for waits and for the end, not for steps that are over soon',
    async () => {
      const world = await open('few writes', { worker: false });
      world.seed(['u_42', 'u_7'], 3);
      const erasure = await world.erase();
      // Before any worker has seen it, the list shows what it will show until something has happened.
      const first = await listed(world, erasure.workflowId);
      expect(first).toMatchObject({ status: 'planning', round: 0, remaining: 0, memo: { simulated: true } });
      await world.startWorker();
      const end = await erasure.result();
      expect(end.status).toBe('verified');
      expect(world.liveTraces('u_42')).toEqual([]);
      expect(world.liveTraces('u_7')).toHaveLength(3);

      const writes = await writesOf(world, erasure.workflowId, 30_000);
      expect(writes.length).toBeGreaterThan(1);
      expect(writes.slice(0, 2)).toMatchObject([{ status: 'erasing' }, { status: 'waiting' }]);
      for (const { waits, ends } of writes.slice(1)) expect(waits || ends).toBe(true);
      // Nothing says verified before its record is sealed.
      expect(writes.filter(({ status }) => status === 'verified')).toMatchObject([{ ends: true }]);
      const last = await listed(world, erasure.workflowId);
      expect(last).toMatchObject({ status: 'verified', round: 1, remaining: 0, memo: { endedAt: end.endedAt } });
    },
  );

  test.concurrent(
    'say that something is submitted before it is, so that nobody reads otherwise without a worker',
    async () => {
      const world = await open('before the first delete');
      world.seed(['u_42', 'u_7'], 3);
      startWith(world, NEVER_MS);
      world.sim.habits.set({ slow: { ms: 2_000, on: 'deletes' } });
      const { workflowId } = await world.erase();
      const during = await untilListed(world, workflowId, ({ status }) => status !== 'planning');
      // The call is still on its way.
      expect(world.sim.truth.submissions()).toHaveLength(0);
      expect(during).toMatchObject({ status: 'erasing', round: 1, remaining: 3 });
      expect(during.memo.connections[CONNECTION]).toMatchObject({
        status: 'erasing',
        traces: { matched: 3, pending: 3 },
      });
      expect(world.liveTraces('u_42')).toHaveLength(3);
    },
  );

  test.concurrent('say what goes on when a step lasts', async () => {
    const world = await open('a long step');
    world.seed(['u_42', 'u_7'], 3);
    startWith(world, 200);
    const erasure = await world.erase();
    await untilListed(world, erasure.workflowId, ({ status }) => status === 'waiting');
    world.sim.habits.set({ slow: { ms: 2_000, on: ['/api/v1/runs/query', '/api/v2/runs/query'] } });
    const during = await untilListed(world, erasure.workflowId, ({ status }) => status !== 'waiting');
    expect(during).toMatchObject({ status: 'verifying', round: 1, remaining: 3 });
    world.sim.habits.reset();
    expect((await erasure.result()).status).toBe('verified');
    expect(world.liveTraces('u_42')).toEqual([]);
    expect(world.liveTraces('u_7')).toHaveLength(3);
  });

  test.concurrent('tell the end of a lane at once, however long another one waits', async () => {
    const world = await open('an end among others', { more: ['langsmith-eu'] });
    world.seed(['u_42', 'u_7'], 3);
    startWith(world, NEVER_MS);
    const erasure = await world.erase();
    await world.client.hold(erasure.requestId, { ...BY, connection: 'langsmith-eu' });
    const now = await untilListed(
      world,
      erasure.workflowId,
      ({ memo }) => memo.connections[CONNECTION]?.status === 'verified',
    );
    expect(now).toMatchObject({ status: 'held', remaining: 0, memo: { endedAt: null } });
    expect(world.liveTraces('u_42')).toEqual([]);
    expect(world.liveTraces('u_7')).toHaveLength(3);
  });

  test.concurrent('are written with every step for a request that an earlier release has started', async () => {
    const world = await open('an earlier release');
    world.seed(['u_42', 'u_7'], 3);
    startWith(world, null);
    const erasure = await world.erase();
    expect((await erasure.result()).status).toBe('verified');
    const writes = await writesOf(world, erasure.workflowId, 30_000);
    const told = writes.flatMap(({ status }) => status ?? []);
    expect(told.slice(0, 3)).toEqual(['planning', 'erasing', 'waiting']);
    expect(world.liveTraces('u_7')).toHaveLength(3);
  });
});
