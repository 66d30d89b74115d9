import type { ConfigInput } from '../../src/config/config.ts';
import type { ClockSetting } from '../../src/erasure/clock.ts';
import { startBraintrustSimulator } from '../../src/simulators/braintrust/index.ts';
import { startLangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import { startRespanSimulator } from '../../src/simulators/respan/index.ts';
import { BYSTANDERS, type CASTS, type Kind, type Label, type StoreName, type TracePlan } from './scenario.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_MS = 7 * DAY_MS;

/**
 * Settle time of the two quick stores, far above their floors: at the speed of these stories minutes are shorter than a
 * call, and no read could come too early.
 */
const QUICK_SETTLE_MS = 4 * DAY_MS;

/** A trace that the story planted. */
export interface Planted {
  readonly traceId: string;
  /** Ids of its runs, spans or rows as a caller may have kept them. */
  readonly runIds: readonly string[];
  readonly kind: Kind;
  readonly bornMs: number;
  /** When its runs say that it began; absent: before the story. */
  readonly begunMs?: number;
  /** It lies in a second project too. */
  readonly replica?: boolean;
}

/** A request as it arrived at a store: the part that the judgement needs. */
export interface Arrival {
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
  readonly family: 'reads' | 'deletes' | 'writes';
  /** Template of its path. */
  readonly route: string;
  readonly status: number;
  readonly outcome: string;
  readonly cause: string | null;
  /** What a delete named; null when it was turned away before it was read. */
  readonly ids: readonly string[] | null;
}

/** One simulated store, in the words that all have in common. */
export interface Side {
  readonly store: StoreName;
  /** Its name in the config. */
  readonly connection: string;
  readonly config: NonNullable<ConfigInput['connections']>[string];
  /** People who keep every read in countenance. */
  plantBystanders(projects: number): readonly Planted[];
  plant(plan: TracePlan, cast: (typeof CASTS)[number], projects: number): Planted;
  /** Writes somebody else's run into a trace. */
  join(trace: Planted): void;
  isLive(traceId: string): boolean;
  /** Live traces in which any run says the person. */
  tracesOf(labels: readonly Label[]): readonly string[];
  /** Traces that were deleted although no request named them. */
  unasked(): number;
  /** Traces by what a delete named: the store's row ids, where it deletes by rows. */
  traceOf(id: string): string;
  arrivals(): readonly Arrival[];
  /** Called when a request arrives, before anything is done about it. */
  onArrival(notice: (family: Arrival['family']) => void): void;
  readonly habits: { set(habits: Readonly<Record<string, unknown>>): void; reset(): void };
  current(): Readonly<Record<string, unknown>>;
  /** From when a read may count for what was accepted at an instant (P3), from the vendor's documents. */
  settledAfter(atMs: number): number;
  /** Between two reads that count (P3), milliseconds. */
  readonly settleMs: number;
  close(): Promise<void>;
}

/** Bad habits after which reads still say what is there. */
const HONEST: ReadonlySet<string> = new Set([
  'throttle',
  'serverErrors',
  'resetBefore',
  'resetAfter',
  'slow',
  'keyRevoked',
  'extraFields',
  'dateSkewMs',
  'skipWeekends',
  'dropShare',
  'lateTraces',
  'lateRuns',
  'lateSpans',
  'rejectBatchWith',
  'rejectLargerThan',
  'deletesNeverRun',
  'deletesDelayedMs',
  'countsInflatedBy',
  'rowIds',
]);

/** Whether a habit may make reads say what is not so, or nothing at all. */
export function mayLie(habits: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(habits).some((name) => !HONEST.has(name));
}

let made = 0;
/** Ids of runs that join a trace: any, as long as no two are the same. */
function newUuid(): string {
  made += 1;
  return `00000000-0000-4000-8000-${made.toString(16).padStart(12, '0')}`;
}

const KEYS = ['user_id', 'uid'] as const;
const PROJECTS = ['chat', 'agent', 'batch'] as const;
const ENVIRONMENTS = ['prod', 'test'] as const;

function pick<T>(items: readonly T[], index: number): T {
  const item = items[index % items.length];
  if (item === undefined) throw new RangeError('nothing to pick from');
  return item;
}

/** Who stands on each run of a trace: null for nobody. */
function labelsOf(plan: TracePlan, cast: (typeof CASTS)[number]): readonly (Label | null)[] {
  const own = pick(cast.labels, plan.label);
  const other = pick([...cast.alike, ...BYSTANDERS], plan.label);
  const count = Math.max(plan.runs, plan.kind === 'mixed' ? 2 : 1);
  return Array.from({ length: count }, (_none, index) => {
    if (plan.kind === 'unlabelled') return null;
    if (plan.kind === 'mixed') return index === 0 ? own : index === count - 1 ? other : null;
    const carries = plan.carriedBy === 'all' || (plan.carriedBy === 'root' ? index === 0 : index === count - 1);
    return carries ? (plan.kind === 'own' ? own : other) : null;
  });
}

/** Saturday 00:00 to Monday 00:00 UTC is when LangSmith deletes; what comes within waits for the next one. */
function afterWeekend(atMs: number): number {
  const midnight = Math.floor(atMs / DAY_MS) * DAY_MS;
  const daysToSaturday = (6 - new Date(midnight).getUTCDay() + 7) % 7;
  const sunday = new Date(midnight).getUTCDay() === 0;
  const saturday = midnight + (sunday ? 6 : daysToSaturday === 0 ? 7 : daysToSaturday) * DAY_MS;
  return saturday + 2 * DAY_MS + DAY_MS;
}

export async function startSide(store: StoreName, clock: ClockSetting, pageSize: number): Promise<Side> {
  switch (store) {
    case 'langsmith':
      return startLangSmith(clock, pageSize);
    case 'braintrust':
      return startBraintrust(clock);
    case 'respan':
      return startRespan(clock);
  }
}

/** Tells of every request that arrives, whatever becomes of it. */
function tellArrivals(ledger: { add(entry: Pick<Arrival, 'family'>): void }) {
  const notices: ((family: Arrival['family']) => void)[] = [];
  const add = ledger.add.bind(ledger);
  ledger.add = (entry): void => {
    add(entry);
    for (const notice of notices) notice(entry.family);
  };
  return (notice: (family: Arrival['family']) => void): void => {
    notices.push(notice);
  };
}

async function startLangSmith(clock: ClockSetting, pageSize: number): Promise<Side> {
  const sim = await startLangSmithSimulator({ clock });
  const onArrival = tellArrivals(sim.ledger);
  const projectOf = new Map<string, string>();
  return {
    store: 'langsmith',
    connection: 'langsmith-prod',
    config: {
      store: 'langsmith',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      pageSize,
      identifiers: { user_id: ['metadata.user_id', 'metadata.uid'] },
      accept: ['statistics', 'insights'],
    },
    plantBystanders(projects) {
      const bornMs = sim.now();
      return PROJECTS.slice(0, projects).flatMap((project) =>
        KEYS.flatMap((key) =>
          sim
            .seedPeople({ project, key, people: BYSTANDERS, tracesPerPerson: 2 })
            .flatMap(({ traceIds }) =>
              traceIds.map((traceId): Planted => ({ traceId, runIds: [], kind: 'stranger', bornMs })),
            ),
        ),
      );
    },
    plant(plan, cast, projects) {
      const project = pick(PROJECTS.slice(0, projects), plan.project);
      const startTime = sim.now() - plan.daysOld * DAY_MS;
      const runs = labelsOf(plan, cast).map((label, index) => ({
        metadata: label === null ? {} : { [pick(KEYS, plan.key)]: label },
        startTime,
        // Nested: each run hangs on the one before it.
        ...(index === 0 ? {} : { parent: index - 1 }),
      }));
      const [seeded] = sim.seed({ project, traces: [{ runs }] });
      const { traceId = '', runIds = [] } = seeded ?? {};
      projectOf.set(traceId, project);
      const replica = plan.replica && projects > 1 && plan.kind !== 'mixed';
      if (replica) {
        const second = pick(PROJECTS.slice(0, projects), plan.project + 1);
        const same = runs.map((run, index) => ({ ...run, id: runIds[index] ?? newUuid() }));
        sim.seed({ project: second, traces: [{ traceId, runs: same }] });
      }
      return { traceId, runIds, kind: plan.kind, bornMs: sim.now(), begunMs: startTime, replica };
    },
    join(trace) {
      const run = { id: newUuid(), parent: trace.traceId, metadata: { user_id: BYSTANDERS[0] } };
      const project = projectOf.get(trace.traceId) ?? PROJECTS[0];
      sim.seed({ project, traces: [{ traceId: trace.traceId, runs: [run] }] });
    },
    isLive: (traceId) => sim.truth.isLive(traceId),
    tracesOf: (labels) => sim.truth.tracesOf(labels.flatMap((value) => KEYS.map((key) => ({ key, value })))),
    unasked: () => sim.truth.unasked().length,
    traceOf: (id) => id,
    arrivals: () => sim.ledger.entries,
    onArrival,
    habits: sim.habits,
    current: () => ({ ...sim.habits.current }),
    settledAfter: afterWeekend,
    settleMs: DAY_MS,
    close: () => sim.close(),
  };
}

async function startBraintrust(clock: ClockSetting): Promise<Side> {
  const sim = await startBraintrustSimulator({ clock });
  const onArrival = tellArrivals(sim.ledger);
  const projectOf = new Map<string, string>();
  const spanOf = new Map<string, string>();
  const traceOf = new Map<string, string>();
  return {
    store: 'braintrust',
    connection: 'braintrust-prod',
    config: {
      store: 'braintrust',
      appUrl: sim.url,
      apiKey: sim.apiKey,
      settle: `${QUICK_SETTLE_MS / DAY_MS} d`,
      identifiers: { user_id: ['metadata.user_id', 'metadata.uid'] },
      accept: ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'],
    },
    plantBystanders(projects) {
      const bornMs = sim.now();
      return PROJECTS.slice(0, projects).flatMap((project) =>
        KEYS.flatMap((key) =>
          sim.seedPeople({ project, key, people: BYSTANDERS, tracesPerPerson: 2 }).flatMap(({ traceIds, rowIds }) =>
            traceIds.map((traceId, index): Planted => {
              for (const id of rowIds[index] ?? []) traceOf.set(id, traceId);
              return { traceId, runIds: rowIds[index] ?? [], kind: 'stranger', bornMs };
            }),
          ),
        ),
      );
    },
    plant(plan, cast, projects) {
      const project = pick(PROJECTS.slice(0, projects), plan.project);
      const created = sim.now() - plan.daysOld * DAY_MS;
      const spans = labelsOf(plan, cast).map((label, index) => ({
        metadata: label === null ? {} : { [pick(KEYS, plan.key)]: label },
        created,
        ...(index === 0 ? {} : { parent: index - 1 }),
      }));
      const [seeded] = sim.seed({ project, traces: [{ spans }] });
      const { traceId = '', rowIds = [], spanIds = [] } = seeded ?? {};
      projectOf.set(traceId, project);
      spanOf.set(traceId, spanIds[0] ?? traceId);
      for (const id of rowIds) traceOf.set(id, traceId);
      return { traceId, runIds: rowIds, kind: plan.kind, bornMs: sim.now(), begunMs: created };
    },
    join({ traceId }) {
      const id = newUuid();
      traceOf.set(id, traceId);
      const fields = { span_parents: [spanOf.get(traceId) ?? traceId] };
      const span = { id, spanId: newUuid(), metadata: { user_id: BYSTANDERS[0] }, fields };
      sim.seed({ project: projectOf.get(traceId) ?? PROJECTS[0], traces: [{ traceId, spans: [span] }] });
    },
    isLive: (traceId) => sim.truth.isLive(traceId),
    tracesOf: (labels) => sim.truth.tracesOf(labels.flatMap((value) => KEYS.map((key) => ({ key, value })))),
    unasked: () => sim.truth.unasked().length,
    traceOf: (id) => traceOf.get(id) ?? id,
    arrivals: () => sim.ledger.entries,
    onArrival,
    habits: sim.habits,
    current: () => ({ ...sim.habits.current }),
    settledAfter: (atMs) => atMs + QUICK_SETTLE_MS,
    settleMs: QUICK_SETTLE_MS,
    close: () => sim.close(),
  };
}

async function startRespan(clock: ClockSetting): Promise<Side> {
  const sim = await startRespanSimulator({ clock });
  const onArrival = tellArrivals(sim.ledger);
  const placeOf = new Map<string, { readonly environment: 'prod' | 'test'; readonly root: string }>();
  return {
    store: 'respan',
    connection: 'respan-prod',
    config: {
      store: 'respan',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      environments: ['prod', 'test'],
      settle: `${QUICK_SETTLE_MS / DAY_MS} d`,
      startDate: new Date(clock.virtualMs - 26 * DAY_MS).toISOString().slice(0, 10),
      identifiers: { user_id: ['customer_identifier'] },
      accept: ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'],
    },
    plantBystanders(projects) {
      const bornMs = sim.now();
      return ENVIRONMENTS.slice(0, projects).flatMap((environment) =>
        sim
          .seedPeople({ environment, people: BYSTANDERS, tracesPerPerson: 4 })
          .flatMap(({ traceIds }) =>
            traceIds.map((traceId): Planted => ({ traceId, runIds: [], kind: 'stranger', bornMs })),
          ),
      );
    },
    plant(plan, cast, projects) {
      const environment = pick(ENVIRONMENTS.slice(0, projects), plan.project);
      const startTime = sim.now() - plan.daysOld * DAY_MS;
      const spans = labelsOf(plan, cast).map((label, index) => ({
        ...(label === null ? {} : { customerIdentifier: String(label) }),
        startTime,
        ...(index === 0 ? {} : { parent: index - 1 }),
      }));
      const [seeded] = sim.seed({ environment, traces: [{ spans }] });
      const { traceId = '', uniqueIds = [], spanIds = [] } = seeded ?? {};
      placeOf.set(traceId, { environment, root: spanIds[0] ?? '' });
      const replica = plan.replica && projects > 1 && plan.kind !== 'mixed';
      if (replica) {
        const second = pick(ENVIRONMENTS.slice(0, projects), plan.project + 1);
        sim.seed({ environment: second, traces: [{ traceId, spans }] });
      }
      return { traceId, runIds: uniqueIds, kind: plan.kind, bornMs: sim.now(), begunMs: startTime, replica };
    },
    join({ traceId }) {
      const { environment, root } = placeOf.get(traceId) ?? { environment: 'prod', root: '' };
      const span = {
        spanId: newUuid().replaceAll('-', '').slice(-16),
        parent: root,
        customerIdentifier: BYSTANDERS[0],
      };
      sim.seed({ environment, traces: [{ traceId, spans: [span] }] });
    },
    isLive: (traceId) => sim.truth.isLive(traceId),
    tracesOf: (labels) =>
      sim.truth.tracesOf(labels.map((value) => ({ key: 'customer_identifier', value: String(value) }))),
    unasked: () => sim.truth.unasked().length,
    traceOf: (id) => id,
    arrivals: () => sim.ledger.entries,
    onArrival,
    habits: sim.habits,
    current: () => ({ ...sim.habits.current }),
    settledAfter: (atMs) => atMs + QUICK_SETTLE_MS,
    settleMs: QUICK_SETTLE_MS,
    close: () => sim.close(),
  };
}

export { DAY_MS, HOUR_MS, WEEK_MS };
