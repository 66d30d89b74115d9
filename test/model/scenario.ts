import fc from 'fast-check';

/**
 * One story as plain data: everything that is chosen is in here, so that a story can be printed, shrunk and told again.
 * All spans of time are virtual hours.
 */
export interface Scenario {
  /** Which of `CASTS` is erased. */
  readonly cast: number;
  /** Half days after Friday evening, 20:00 UTC. */
  readonly startHalfDays: number;
  readonly pageSize: number;
  readonly stores: readonly StoreScene[];
  readonly consent: number;
  readonly operator: readonly OperatorAct[];
  readonly restarts: readonly Restart[];
}

/** What one store holds, what its caller knows of it, and how it behaves. */
export interface StoreScene {
  readonly store: StoreName;
  /** Projects, or environments, that hold traces. */
  readonly projects: number;
  readonly traces: readonly TracePlan[];
  /** Ids that the caller hands over. */
  readonly known: readonly KnownPlan[];
  /** Of these so many name nothing at all. */
  readonly strays: number;
  /** Traces that are written while the request runs. */
  readonly late: readonly { readonly when: When; readonly trace: TracePlan }[];
  /** Somebody else's run joins a trace of the person's. */
  readonly joins: readonly { readonly when: When; readonly trace: number }[];
  /** What becomes of the first deletes: turned away, or done without an answer. */
  readonly firstDeletes: { readonly how: 'refused' | 'unanswered'; readonly count: number } | null;
  readonly habits: readonly HabitPlan[];
  /** What was submitted stays, and the reads that should show it go bad. */
  readonly trap: Trap | null;
}

export const STORES = ['langsmith', 'braintrust', 'respan'] as const;
export type StoreName = (typeof STORES)[number];

/** Whose a planted trace is. */
export type Kind = 'own' | 'mixed' | 'stranger' | 'unlabelled';

export interface TracePlan {
  readonly kind: Kind;
  readonly project: number;
  readonly runs: number;
  readonly carriedBy: 'all' | 'root' | 'last';
  /** Which spelling of the person, or which of the look-alikes. */
  readonly label: number;
  readonly key: number;
  readonly daysOld: number;
  /** Written to a second project or environment under the same ids, as applications with replicas do. Not in Braintrust. */
  readonly replica: boolean;
}

export interface KnownPlan {
  readonly trace: number;
  readonly as: 'trace' | 'run';
  readonly upperCase: boolean;
  readonly twice: boolean;
}

/**
 * When something happens: so long after the start; at the nth request or nth delete that reaches the store, which no
 * machine's speed moves; or so long after the store has accepted the first delete.
 */
export type When =
  | { readonly on: 'time'; readonly hours: number }
  | { readonly on: 'request'; readonly nth: number }
  | { readonly on: 'delete'; readonly nth: number }
  | { readonly on: 'accepted'; readonly hours: number };

export interface HabitPlan {
  readonly when: When;
  /** Fields of the simulator's habits. */
  readonly set: Readonly<Record<string, unknown>>;
  /** How long; null until all is calm. */
  readonly hours: number | null;
}

export interface Trap {
  readonly stays: Readonly<Record<string, unknown>>;
  readonly bad: Readonly<Record<string, unknown>>;
  /** After the first accepted delete. */
  readonly hours: number;
}

/** What an operator may do, by name; the names of the client's verbs. Add a verb here and it is drawn. */
export const VERBS = ['retry', 'checkNow', 'hold', 'release', 'abandon'] as const;
export type Verb = (typeof VERBS)[number];
/** How often each is drawn. */
const VERB_WEIGHTS: Readonly<Record<Verb, number>> = { retry: 6, checkNow: 8, hold: 6, release: 5, abandon: 1 };

export interface OperatorAct {
  readonly when: When;
  /** Index of the store whose requests `when` counts, and to whose lane the message goes when `alone`. */
  readonly store: number;
  readonly verb: Verb;
  readonly alone: boolean;
  /** A hold is released so much later; other verbs ignore it. Null: when all is calm. */
  readonly hours: number | null;
}

export interface Restart {
  readonly when: When;
  readonly store: number;
  /** `crash`: every connection is cut at that moment and the worker gets no time to finish. */
  readonly how: 'deployment' | 'crash';
  readonly downHours: number;
}

export type Label = string | number;

/** A person to be erased, and people who look like them. */
export const CASTS: readonly {
  readonly value: string;
  readonly labels: readonly Label[];
  readonly alike: readonly Label[];
}[] = [
  {
    value: 'p-7f3a91c4e2',
    labels: ['p-7f3a91c4e2'],
    alike: ['p-7f3a91c4e', 'P-7F3A91C4E2', 'p-7f3a91c4e21', 'p-7f3a91c4e2 ', ' p-7f3a91c4e2', 'p_7f3a91c4e2'],
  },
  { value: 'u_42', labels: ['u_42'], alike: ['u_421', 'U_42', 'u_4', 'u_42 ', ' u_42', 'u-42'] },
  { value: '42', labels: ['42', 42], alike: ['042', '42.0', '421', 420, -42, '4 2'] },
  { value: '9007199254740993', labels: ['9007199254740993'], alike: ['9007199254740992', '9007199254740994'] },
  { value: 'zo\u00eb', labels: ['zo\u00eb'], alike: ['zoe', 'Zo\u00eb', 'zo\u00e9', 'zo\u00eb2'] },
  {
    value: 'zo\u00eb"o\'neil\\7f3a',
    labels: ['zo\u00eb"o\'neil\\7f3a'],
    alike: ['zo\u00eb"o\'neil', "zo\u00ebo'neil\\7f3a", 'zo\u00eb"o\'neil\\\\7f3a', 'Zo\u00eb"o\'neil\\7f3a'],
  },
  { value: 'o"ne\\', labels: ['o"ne\\'], alike: ['o"ne', 'one', 'o"ne\\\\', "o'ne\\"] },
  { value: 'or(eq(id,1))', labels: ['or(eq(id,1))'], alike: ['or(eq(id,2))', 'or', 'id'] },
];

/** People whose traces are in every project under every key, so that reads have their controls. */
export const BYSTANDERS = ['u_7', 'u_8', 'u_9'] as const;

/** So long things happen; afterwards every habit is off, workers are up and nothing is held. */
export const WILD_WEEKS = 3;

const HOURS_A_WEEK = 168;

const row = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(fields, { noNullPrototype: true });

/** Most of it while a request that nothing disturbs would be at work. */
const hours: fc.Arbitrary<number> = fc.oneof(
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 24 }) },
  { weight: 5, arbitrary: fc.integer({ min: 0, max: Math.round(1.6 * HOURS_A_WEEK) }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: WILD_WEEKS * HOURS_A_WEEK - 24 }) },
);

const when: fc.Arbitrary<When> = fc.oneof(
  { weight: 3, arbitrary: row<When & { on: 'time' }>({ on: fc.constant('time'), hours }) },
  {
    weight: 3,
    arbitrary: row<When & { on: 'request' }>({
      on: fc.constant('request'),
      // Between plan and delete there are few.
      nth: fc.oneof(fc.integer({ min: 5, max: 30 }), fc.integer({ min: 1, max: 80 })),
    }),
  },
  {
    weight: 3,
    arbitrary: row<When & { on: 'delete' }>({ on: fc.constant('delete'), nth: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 3, arbitrary: row<When & { on: 'accepted' }>({ on: fc.constant('accepted'), hours }) },
);

/** About when the first delete is near: a plan of few traces takes some ten requests. */
const afterPlan: fc.Arbitrary<When> = row<When & { on: 'request' }>({
  on: fc.constant('request'),
  nth: fc.integer({ min: 7, max: 24 }),
});

const trace = (kinds: fc.Arbitrary<Kind>): fc.Arbitrary<TracePlan> =>
  row<TracePlan>({
    kind: kinds,
    project: fc.nat({ max: 2 }),
    runs: fc.integer({ min: 1, max: 4 }),
    carriedBy: fc.constantFrom('all', 'root', 'last'),
    label: fc.nat({ max: 8 }),
    key: fc.nat({ max: 1 }),
    daysOld: fc.nat({ max: 25 }),
    replica: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  });

const anyKind = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Kind>('own') },
  { weight: 3, arbitrary: fc.constant<Kind>('stranger') },
  { weight: 1, arbitrary: fc.constant<Kind>('mixed') },
  { weight: 1, arbitrary: fc.constant<Kind>('unlabelled') },
);

/** When a habit strikes, as the simulators take it. */
const occasion = fc.oneof(
  row<{ every: number }>({ every: fc.integer({ min: 2, max: 6 }) }),
  fc.constant({ share: 0.3 }),
  row<{ count: number }>({ count: fc.integer({ min: 1, max: 8 }) }),
  fc.constant({}),
);
const scope = fc.constantFrom('reads', 'deletes', 'all');
const onOccasion = <T extends object>(name: string, more: fc.Arbitrary<T>): fc.Arbitrary<Record<string, unknown>> =>
  fc.tuple(occasion, scope, more).map(([often, on, rest]) => ({ [name]: { ...often, on, ...rest } }));
const one = <T>(name: string, value: fc.Arbitrary<T>): fc.Arbitrary<Record<string, unknown>> =>
  value.map((set) => ({ [name]: set }));
const nothing = fc.constant({});

/** What any service over HTTP may do. */
const COMMON = [
  onOccasion('throttle', row<{ retryAfter: number | null }>({ retryAfter: fc.constantFrom(null, 1, 30) })),
  onOccasion(
    'serverErrors',
    row<{ status: number; after: boolean }>({ status: fc.constantFrom(500, 502, 503), after: fc.boolean() }),
  ),
  onOccasion('resetBefore', nothing),
  onOccasion('resetAfter', nothing),
  onOccasion('htmlErrors', row<{ status: number }>({ status: fc.constantFrom(200, 502) })),
  onOccasion('truncateBody', row<{ how: string }>({ how: fc.constantFrom('cut', 'drop') })),
  one('keyRevoked', fc.constantFrom(401, 403)),
  one('extraFields', fc.constant(true)),
  one(
    'dateSkewMs',
    fc.integer({ min: -144, max: 144 }).map((skew) => skew * 3_600_000),
  ),
  one('slow', row<{ ms: number }>({ ms: fc.integer({ min: 20, max: 200 }) })),
  one('slow', row<{ ms: number; on: string }>({ ms: fc.integer({ min: 50, max: 300 }), on: fc.constant('deletes') })),
];

const view = fc.constantFrom('v1', 'v2');
const table = fc.constantFrom('spans', 'traces');
const staleMs = fc.integer({ min: 1, max: 48 }).map((of) => of * 3_600_000);
const few = row<{ count: number }>({ count: fc.integer({ min: 1, max: 3 }) });
const shifted = row<{ by: number }>({ by: fc.integer({ min: -2, max: 2 }) });
const lost = fc.constantFrom(0.3, 0.6, 1);

/** A store's own bad habits. `OWN_TRACES` stands for the ids of the person's traces there. */
const HABITS: Readonly<Record<StoreName, readonly fc.Arbitrary<Record<string, unknown>>[]>> = {
  langsmith: [
    ...COMMON,
    one('skipWeekends', fc.integer({ min: 1, max: 2 })),
    one('dropShare', lost),
    one('leaveChildren', fc.constant(true)),
    one('viewLag', row<{ view: string; weeks: number }>({ view, weeks: fc.integer({ min: 1, max: 2 }) })),
    one('blind', row<{ what: string }>({ what: fc.constantFrom('all', 'filter') })),
    one('blind', row<{ what: string; view: string }>({ what: fc.constantFrom('all', 'filter'), view })),
    one('blind', fc.constant({ what: 'all', projects: true })),
    one('stale', staleMs),
    one('lateTraces', few),
    one('lateRuns', few),
    one(
      'missingFields',
      fc.constantFrom('metadata', 'extra', 'next_cursor', 'cursors', 'trace_id', 'start_time').map((name) => [name]),
    ),
    one(
      'rejectBatchWith',
      row<{ ids: string; status: number }>({
        ids: fc.constant('OWN_TRACES'),
        status: fc.constantFrom(400, 422),
      }),
    ),
    one('shiftingPages', shifted),
    one('v1Gone', fc.constantFrom(404, 410)),
    one('queryFilterIgnored', fc.constant(true)),
    one('traceIdFilter', fc.constantFrom('rejected', 'ignored')),
  ],
  braintrust: [
    ...COMMON,
    one('dropShare', lost),
    one('tombstoneDelayMs', staleMs),
    one('freshnessLagMs', staleMs),
    one('freshnessAbsent', fc.constant(true)),
    one('realtimeExhausted', fc.constant(true)),
    one('stale', staleMs),
    one('lateTraces', few),
    one('lateSpans', few),
    one('blind', row<{ what: string }>({ what: fc.constantFrom('all', 'filter', 'person', 'ids') })),
    one('blind', fc.constant({ what: 'all', projects: true })),
    one('filterIgnored', fc.constant(true)),
    one('shiftingPages', shifted),
    one(
      'missingFields',
      fc.constantFrom('data', 'cursor', 'metadata', 'root_span_id').map((name) => [name]),
    ),
    one('rowIds', fc.constantFrom('fewer', 'other', 'reversed')),
    one('unboundedTimesOut', fc.constant(true)),
    one('repeatedRows', fc.constant(true)),
    one('rejectLargerThan', fc.constant({ events: 1 })),
  ],
  respan: [
    ...COMMON,
    one('deletesNeverRun', fc.constant(true)),
    one('dropShare', lost),
    one('deletesDelayedMs', staleMs),
    one('mutates', table),
    one('leaveChildren', fc.constant(true)),
    one('windowCutsSpans', fc.constant(true)),
    one('lateSpans', few),
    one('lateTraces', few),
    one('blind', fc.constantFrom('all', 'filters', 'logs', 'traces')),
    one('stale', staleMs),
    one('shiftingPages', shifted),
    one('countsInflatedBy', fc.constant(1)),
    one(
      'missingFields',
      fc.constantFrom('results', 'count', 'next', 'trace_unique_id').map((name) => [name]),
    ),
    one('missingTrace', fc.constant('empty')),
    one('inFirstOnly', fc.constant(true)),
  ],
};

/** After which what was submitted stays. */
const STAYS: Readonly<Record<StoreName, readonly Record<string, unknown>[]>> = {
  langsmith: [{ skipWeekends: 2 }, { dropShare: 1 }, { dropShare: 0.5 }, { leaveChildren: true }],
  braintrust: [{ dropShare: 1 }, { dropShare: 0.5 }],
  respan: [{ deletesNeverRun: true }, { dropShare: 0.5 }, { leaveChildren: true }, { mutates: 'traces' }],
};

/** What reads then are like. */
const BAD: Readonly<Record<StoreName, readonly Record<string, unknown>[]>> = {
  langsmith: [
    {},
    { blind: { what: 'filter' } },
    { blind: { what: 'all' } },
    { blind: { what: 'all', view: 'v1' } },
    { blind: { what: 'all', view: 'v2' } },
    { blind: { what: 'filter', view: 'v2' } },
    { blind: { what: 'filter' }, traceIdFilter: 'ignored' },
    { missingFields: ['metadata'] },
    { missingFields: ['items'] },
    { missingFields: ['runs'] },
    { traceIdFilter: 'rejected' },
    { traceIdFilter: 'ignored' },
    { v1Gone: 404 },
    { v1Gone: 410 },
    { htmlErrors: { status: 200, on: 'reads', share: 0.5 } },
    { truncateBody: { how: 'cut', on: 'reads', share: 0.5 } },
    { queryFilterIgnored: true },
    { viewLag: { view: 'v1', weeks: 2 } },
  ],
  braintrust: [
    {},
    { blind: { what: 'all' } },
    { blind: { what: 'filter' } },
    { blind: { what: 'person' } },
    { blind: { what: 'ids' } },
    { filterIgnored: true },
    { freshnessAbsent: true },
    { truncateBody: { how: 'cut', on: 'reads', share: 0.5 } },
    { htmlErrors: { status: 200, on: 'reads', share: 0.5 } },
  ],
  respan: [
    {},
    { blind: 'all' },
    { blind: 'filters' },
    { blind: 'logs' },
    { blind: 'traces' },
    { truncateBody: { how: 'cut', on: 'reads', share: 0.5 } },
    { htmlErrors: { status: 200, on: 'reads', share: 0.5 } },
  ],
};

const habitOf = (store: StoreName): fc.Arbitrary<HabitPlan> =>
  row<HabitPlan>({
    when: fc.oneof(
      { weight: 1, arbitrary: fc.constant<When>({ on: 'time', hours: 0 }) },
      { weight: 3, arbitrary: when },
    ),
    set: fc.oneof(...HABITS[store]),
    hours: fc.oneof(
      { weight: 2, arbitrary: fc.constant(null) },
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 2 * HOURS_A_WEEK }) },
    ),
  });

const sceneOf = (store: StoreName): fc.Arbitrary<StoreScene> =>
  row<StoreScene>({
    store: fc.constant(store),
    projects: fc.constantFrom(...(store === 'respan' ? [1, 2] : [1, 2, 3, 3])),
    traces: fc.array(trace(anyKind), { maxLength: 14 }),
    known: fc.oneof(
      { weight: 1, arbitrary: fc.constant([]) },
      {
        weight: 1,
        arbitrary: fc.array(
          row<KnownPlan>({
            trace: fc.nat({ max: 20 }),
            as: fc.constantFrom('trace', 'run'),
            upperCase: fc.oneof(
              { weight: 4, arbitrary: fc.constant(false) },
              { weight: 1, arbitrary: fc.constant(true) },
            ),
            twice: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
          }),
          { maxLength: 6 },
        ),
      },
    ),
    strays: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) },
    ),
    late: fc.array(row<StoreScene['late'][number]>({ when, trace: trace(anyKind) }), { maxLength: 2 }),
    joins: fc.oneof(
      { weight: 1, arbitrary: fc.constant([]) },
      {
        weight: 1,
        arbitrary: fc.array(
          row<StoreScene['joins'][number]>({
            when: fc.oneof({ weight: 1, arbitrary: when }, { weight: 2, arbitrary: afterPlan }),
            trace: fc.nat({ max: 13 }),
          }),
          { minLength: 1, maxLength: 4 },
        ),
      },
    ),
    firstDeletes: fc.option(
      row<NonNullable<StoreScene['firstDeletes']>>({
        how: fc.constantFrom('refused', 'unanswered'),
        // Nine: as good as all of them.
        count: fc.constantFrom(1, 2, 3, 9),
      }),
      { nil: null, freq: 2 },
    ),
    habits: fc.oneof(
      { weight: 1, arbitrary: fc.constant([]) },
      { weight: 2, arbitrary: fc.array(habitOf(store), { maxLength: 4 }) },
    ),
    trap: fc.option(
      row<Trap>({ stays: fc.constantFrom(...STAYS[store]), bad: fc.constantFrom(...BAD[store]), hours }),
      { nil: null, freq: 2 },
    ),
  });

const anyVerb: fc.Arbitrary<Verb> = fc.oneof(
  ...VERBS.map((verb) => ({ weight: VERB_WEIGHTS[verb], arbitrary: fc.constant(verb) })),
);
const actOf = (at: fc.Arbitrary<When>, verb: fc.Arbitrary<Verb>): fc.Arbitrary<OperatorAct> =>
  row<OperatorAct>({
    when: at,
    store: fc.nat({ max: 2 }),
    verb,
    alone: fc.boolean(),
    hours: fc.oneof(
      { weight: 1, arbitrary: fc.constant(null) },
      { weight: 3, arbitrary: fc.integer({ min: 1, max: HOURS_A_WEEK }) },
    ),
  });
const operatorAct: fc.Arbitrary<OperatorAct> = fc.oneof(
  { weight: 4, arbitrary: actOf(when, anyVerb) },
  // Between two deletes of one round there is no other moment that hits it.
  {
    weight: 1,
    arbitrary: actOf(
      row<When & { on: 'delete' }>({ on: fc.constant('delete'), nth: fc.integer({ min: 1, max: 2 }) }),
      fc.constant<Verb>('hold'),
    ),
  },
);

const restart: fc.Arbitrary<Restart> = row<Restart>({
  when,
  store: fc.nat({ max: 2 }),
  how: fc.constantFrom('crash', 'deployment'),
  downHours: fc.nat({ max: 48 }),
});

const chosenStores: fc.Arbitrary<readonly StoreName[]> = fc.oneof(
  ...STORES.map((store) => ({ weight: 3, arbitrary: fc.constant<readonly StoreName[]>([store]) })),
  { weight: 2, arbitrary: fc.subarray([...STORES], { minLength: 2 }) },
);

/** All scenes are drawn and some are left out, so that leaving one out changes nothing about the others. */
const storesOf: fc.Arbitrary<readonly StoreScene[]> = fc
  .tuple(chosenStores, fc.tuple(...STORES.map(sceneOf)))
  .map(([chosen, scenes]) => scenes.filter(({ store }) => chosen.includes(store)));

/** Every story there is. */
export const scenarios: fc.Arbitrary<Scenario> = row<Scenario>({
  cast: fc.nat({ max: CASTS.length - 1 }),
  startHalfDays: fc.nat({ max: 13 }),
  pageSize: fc.constantFrom(1000, 40, 7),
  stores: storesOf,
  consent: fc.nat({ max: 8 }),
  operator: fc.array(operatorAct, { maxLength: 4 }),
  restarts: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 2, arbitrary: fc.array(restart, { maxLength: 2 }) },
  ),
});
