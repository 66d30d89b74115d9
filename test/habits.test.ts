import { afterAll, describe, expect, test } from '@jest/globals';
import type { ConfigInput } from '../src/config/config.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import type { ConnectionStatus, RequestStatus } from '../src/erasure/status.ts';
import { watchToEnd } from './support/watch.ts';
import { CONNECTION, World, type WorldOptions } from './support/world.ts';

/** One bad habit of the store, and what Lethe must say while it lasts and in the end. */
interface Habit {
  readonly name: string;
  readonly options?: WorldOptions;
  /** How many traces the person has; 4 unless told. */
  readonly traces?: number;
  /** Turned on before the request starts. */
  readonly before?: (world: World) => void;
  /** Turned on when the first delete call was acknowledged. */
  readonly afterSubmit?: (world: World) => void;
  /** What must be seen before the habit is turned off; absent: it stays on to the end, or ends by itself. */
  readonly until?: (lane: ConnectionStatus, status: RequestStatus) => boolean;
  /** Undoes what turning the habits off does not. */
  readonly heal?: (world: World) => void;
  /** What the status says at the end. */
  readonly end: RequestStatus['status'];
  /** More about the end. */
  readonly check?: (world: World, status: RequestStatus) => void;
}

const flagged = (reason: string) => (lane: ConnectionStatus) =>
  lane.status === 'needs-operator' && lane.attention?.reason === reason;
const inconclusive = (lane: ConnectionStatus) => lane.attention?.reason === 'inconclusive';
const lane = (status: RequestStatus): ConnectionStatus => {
  const of = status.connections[CONNECTION];
  if (of === undefined) throw new Error('no such lane');
  return of;
};

const onlyProjects = (config: ConfigInput, projects: string[]): ConfigInput => ({
  ...config,
  connections: Object.fromEntries(
    Object.entries(config.connections).map(([name, connection]) => [name, { ...connection, projects }]),
  ),
});

const HABITS: readonly Habit[] = [
  {
    name: 'none',
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBe(1);
    },
  },
  {
    name: 'nothing done for one weekend',
    // Two, in case the first is over before the plan is made.
    before: ({ sim }) => {
      sim.habits.set({ skipWeekends: 2 });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(1);
    },
  },
  {
    name: 'nothing done for five weekends: flagged after three rounds, still trying',
    before: ({ sim }) => {
      sim.habits.set({ skipWeekends: 5 });
    },
    until: flagged('survivors'),
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(3);
    },
  },
  {
    name: 'half of the ids dropped',
    // So many that chance cannot spare them all: each draw is made anew for every run of this test.
    traces: 40,
    before: ({ sim }) => {
      sim.habits.set({ dropShare: 0.5 });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(1);
    },
  },
  {
    name: 'root gone and children left',
    before: ({ sim }) => {
      sim.habits.set({ leaveChildren: true });
    },
    until: ({ round }) => round >= 2,
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(1);
    },
  },
  ...(['v1', 'v2'] as const).map((view): Habit => ({
    name: `${view} shows deletions two weeks late`,
    before: ({ sim }) => {
      sim.habits.set({ viewLag: { view, weeks: 2 } });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(1);
    },
  })),
  {
    name: '429 with Retry-After',
    before: ({ sim }) => {
      sim.habits.set({ throttle: { every: 4, retryAfter: 30 } });
    },
    end: 'verified',
  },
  {
    name: '429 without Retry-After',
    before: ({ sim }) => {
      sim.habits.set({ throttle: { every: 5, retryAfter: null } });
    },
    end: 'verified',
  },
  {
    name: 'burst of 5xx',
    before: ({ sim }) => {
      sim.habits.set({ serverErrors: { every: 2, count: 6, status: 503 } });
    },
    end: 'verified',
  },
  {
    name: '5xx for weeks',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ serverErrors: { status: 500 } });
    },
    until: flagged('unreachable'),
    end: 'verified',
  },
  {
    name: '5xx after the effect of a delete',
    before: ({ sim }) => {
      sim.habits.set({ serverErrors: { after: true, count: 1, on: 'deletes' } });
    },
    end: 'verified',
  },
  {
    name: 'connection reset before a delete',
    before: ({ sim }) => {
      sim.habits.set({ resetBefore: { count: 1, on: 'deletes' } });
    },
    end: 'verified',
  },
  {
    name: 'connection reset after a delete',
    before: ({ sim }) => {
      sim.habits.set({ resetAfter: { count: 1, on: 'deletes' } });
    },
    end: 'verified',
  },
  {
    name: 'connection resets on reads',
    before: ({ sim }) => {
      sim.habits.set({ resetBefore: { every: 5, on: 'reads' } });
    },
    end: 'verified',
  },
  {
    name: 'slow answers',
    before: ({ sim }) => {
      sim.habits.set({ slow: { ms: 150 } });
    },
    end: 'verified',
  },
  {
    name: 'blind to everything when read back',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ blind: { what: 'all' }, skipWeekends: 2 });
    },
    until: inconclusive,
    end: 'verified',
  },
  {
    name: 'blind to filters when read back',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ blind: { what: 'filter' }, skipWeekends: 2 });
    },
    until: inconclusive,
    end: 'verified',
  },
  ...(['v1', 'v2'] as const).map((view): Habit => ({
    name: `blind in ${view} only when read back`,
    afterSubmit: ({ sim }) => {
      sim.habits.set({ blind: { what: 'all', view }, skipWeekends: 2 });
    },
    // Said by the read, or by the look at the owners before the next submit: whichever asks that view first.
    until: (at) => inconclusive(at) || flagged('contract-broken')(at),
    end: 'verified',
  })),
  {
    name: 'blind to everything from the start',
    before: ({ sim }) => {
      sim.habits.set({ blind: { what: 'all' } });
    },
    end: 'verified-with-exceptions',
    check: (_world, status) => {
      expect(status.exceptions.map(({ kind }) => kind)).toContain('no-control');
    },
  },
  {
    name: 'reads show the state of three days ago',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ stale: 3 * 86_400_000 });
    },
    end: 'verified',
  },
  {
    name: 'late traces of the person',
    before: ({ sim }) => {
      sim.habits.set({ lateTraces: { count: 2 } });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).traces.matched).toBe(6);
    },
  },
  {
    name: 'late runs in deleted traces',
    before: ({ sim }) => {
      sim.habits.set({ lateRuns: { count: 2 } });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).round).toBeGreaterThan(1);
    },
  },
  {
    name: 'key revoked (401)',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ keyRevoked: 401, skipWeekends: 1 });
    },
    until: flagged('denied'),
    end: 'verified',
  },
  {
    name: 'key revoked (403) before the plan',
    before: ({ sim }) => {
      sim.habits.set({ keyRevoked: 403 });
    },
    until: flagged('denied'),
    end: 'verified',
  },
  {
    name: 'the only project not visible any more',
    afterSubmit: ({ sim }) => {
      sim.renameProject('chat', 'hidden');
    },
    options: { config: (config) => onlyProjects(config, ['chat']) },
    until: flagged('gone'),
    heal: ({ sim }) => {
      sim.renameProject('hidden', 'chat');
    },
    end: 'verified',
  },
  {
    name: 'project deleted',
    before: (world) => {
      world.seed(['u_7', 'u_8'], 2, 'agent');
    },
    afterSubmit: ({ sim }) => {
      sim.deleteProject('chat');
    },
    end: 'verified-with-exceptions',
    check: (_world, status) => {
      expect(lane(status).traces).toMatchObject({ inconclusive: 4, verifiedAbsent: 0 });
    },
  },
  {
    name: 'project renamed',
    afterSubmit: ({ sim }) => {
      sim.renameProject('chat', 'chat-2');
    },
    end: 'verified',
  },
  {
    name: 'project re-created under a new id',
    before: (world) => {
      world.seed(['u_7', 'u_8'], 2, 'agent');
    },
    afterSubmit: ({ sim }) => {
      sim.recreateProject('chat');
    },
    end: 'verified-with-exceptions',
    check: (_world, status) => {
      expect(lane(status).traces).toMatchObject({ inconclusive: 4, verifiedAbsent: 0 });
    },
  },
  {
    name: 'HTML error pages',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ htmlErrors: { status: 502 }, skipWeekends: 1 });
    },
    until: flagged('unreachable'),
    end: 'verified',
  },
  {
    name: 'HTML pages with status 200',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ htmlErrors: { status: 200 }, skipWeekends: 1 });
    },
    until: flagged('contract-broken'),
    end: 'verified',
  },
  {
    name: 'extra fields',
    before: ({ sim }) => {
      sim.habits.set({ extraFields: true });
    },
    end: 'verified',
  },
  {
    name: 'missing fields',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ missingFields: ['trace_id'], skipWeekends: 1 });
    },
    until: (at) => flagged('contract-broken')(at) || inconclusive(at),
    end: 'verified',
  },
  {
    name: 'a whole batch refused because of one id',
    before: ({ sim }) => {
      const [first] = sim.truth.tracesOf([{ key: 'user_id', value: 'u_42' }]);
      sim.habits.set({ rejectBatchWith: { ids: first === undefined ? [] : [first] } });
    },
    until: flagged('rejected'),
    end: 'verified',
  },
  {
    name: 'rows shift between pages',
    before: (world) => {
      world.seed(['u_42'], 700);
      world.sim.habits.set({ shiftingPages: { by: 3 } });
    },
    end: 'verified',
    check: (_world, status) => {
      expect(lane(status).traces.matched).toBe(704);
    },
  },
  {
    name: 'v1 gone before its announced end',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ v1Gone: 404, skipWeekends: 1 });
    },
    until: flagged('gone'),
    end: 'verified',
  },
  {
    name: 'v1 gone after its announced end',
    options: { start: Date.UTC(2027, 1, 5, 20) },
    before: ({ sim }) => {
      sim.habits.set({ v1Gone: 410 });
    },
    end: 'verified-with-exceptions',
    check: (_world, status) => {
      expect(status.exceptions.map(({ kind }) => kind)).toEqual(['single-path']);
    },
  },
  {
    name: 'bodies cut midway',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ truncateBody: { how: 'cut', on: 'reads' }, skipWeekends: 1 });
    },
    until: flagged('contract-broken'),
    end: 'verified',
  },
  {
    name: 'filters silently ignored',
    before: ({ sim }) => {
      sim.habits.set({ queryFilterIgnored: true });
    },
    until: flagged('contract-broken'),
    end: 'verified',
  },
  {
    name: 'filter by trace ids refused',
    before: ({ sim }) => {
      sim.habits.set({ traceIdFilter: 'rejected' });
    },
    end: 'verified',
  },
  {
    name: 'filter by trace ids matches nothing',
    before: ({ sim }) => {
      sim.habits.set({ traceIdFilter: 'ignored' });
    },
    end: 'verified',
  },
  {
    name: 'store clock three days off',
    afterSubmit: ({ sim }) => {
      sim.habits.set({ dateSkewMs: 3 * 86_400_000 });
    },
    until: inconclusive,
    end: 'verified',
  },
];

const table: string[] = [];
afterAll(() => {
  process.stdout.write(
    `\nhabit of the store | said meanwhile | rounds | end | live traces left\n${table.join('\n')}\n`,
  );
});

describe('whatever the store does, the verdict is true and nobody else is touched', () => {
  test.concurrent.each(HABITS.map((habit) => [habit.name, habit] as const))(
    'P1 P2 P3: %s',
    async (name, habit) => {
      const world = await World.start(name, habit.options ?? {});
      try {
        const others = ['u_7', 'u_8', 'u_9'];
        const seeded = world.seed(['u_42', ...others], habit.traces ?? 4);
        habit.before?.(world);
        const erasure = await world.erase();
        const said = new Set<string>();
        const { afterSubmit, until } = habit;
        const status = await watchToEnd(erasure, {
          name,
          assertTrue: (at) => assertTrue(world, at, said),
          submitted: () => world.sim.truth.submissions().length > 0,
          ...(afterSubmit === undefined ? {} : { afterSubmit: () => afterSubmit(world) }),
          ...(until === undefined ? {} : { until: (at) => until(lane(at), at) }),
          heal: () => {
            world.sim.habits.reset();
            habit.heal?.(world);
          },
        });
        table.push(
          `${name} | ${[...said].join(', ')} | ${lane(status).round} | ${status.status} | ${world.liveTraces('u_42').length}`,
        );
        expect(status.status).toBe(habit.end);
        if (status.status === 'verified') expect(world.liveTraces('u_42')).toEqual([]);
        habit.check?.(world, status);
        expect(world.sim.truth.unasked()).toEqual([]);
        const live = new Set(others.flatMap((other) => world.liveTraces(other)));
        const submitted = new Set(world.sim.truth.submissions().flatMap(({ traceIds }) => traceIds));
        for (const other of others) {
          for (const traceId of seeded.get(other) ?? []) {
            expect(submitted.has(traceId)).toBe(false);
            if (!name.startsWith('project')) expect(live.has(traceId)).toBe(true);
          }
        }
      } finally {
        await world.close();
      }
    },
    120_000,
  );
});

/** What must hold at every moment: sums balance, and nothing is called verified that is there. */
function assertTrue(world: World, status: RequestStatus, said: Set<string>): void {
  const at = lane(status);
  said.add(at.attention === null ? at.status : `${at.status} (${at.attention.reason})`);
  expect(imbalances(at)).toEqual([]);
  if (at.status === 'verified' || at.status === 'nothing-found' || at.traces.verifiedAbsent > 0) {
    expect(world.liveTraces('u_42')).toEqual([]);
  }
}
