import { afterEach, describe, expect, test } from '@jest/globals';
import { leastOfRespan, type Task } from '../bench/least.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../src/erasure/rhythm.ts';
import { startRespanSimulator } from '../src/simulators/respan/index.ts';
import type { RespanSimulator } from '../src/simulators/respan/index.ts';
import { Tally } from '../src/stores/api.ts';
import { KillSwitch } from '../src/stores/guard.ts';
import { StoreError } from '../src/stores/port.ts';
import type { Control, Copy, Progress, Row, TraceKey, TraceStore } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import { RespanApi } from '../src/stores/respan/api.ts';
import { respanConnectionSchema } from '../src/stores/respan/config.ts';
import { Customers } from '../src/stores/respan/customers.ts';
import { Lists } from '../src/stores/respan/lists.ts';
import { RecordErasure } from '../src/stores/respan/records.ts';
import { DeletePace } from '../src/stores/respan/delete-pace.ts';
import { Shared, Together } from '../src/stores/respan/shared.ts';
import { submitDelete } from '../src/stores/respan/submit.ts';
import { deleteOrder } from './support/delete-order.ts';

const T0 = Date.parse('2026-11-25T12:00:00Z');
/** A person's turns at 50 calls a minute pass quickly, and what is remembered for minutes is forgotten as in real use. */
const SPEED = 500;

const PHASES = ['plan', 'delete', 'verify 1', 'verify 2'] as const;
type Phase = (typeof PHASES)[number];

/** What a request was for, told by what was sent. */
function purposeOf(method: string, url: URL, body: string): string {
  const path = url.pathname;
  if (body.includes('lethe-impossible')) return 'canary';
  if (path === '/api/traces/bulk-delete/' || (method === 'DELETE' && path.startsWith('/api/traces/'))) return 'delete';
  if (path.startsWith('/api/users/')) {
    if (path.endsWith('/list/')) return 'records list';
    return method === 'DELETE' ? 'records delete' : 'records one by one';
  }
  if (path.endsWith('/summary/')) return 'find summary';
  const table = path.startsWith('/api/request-logs/') ? 'logs' : 'traces';
  if (/^\/api\/(request-logs|traces)\/list\/$/.test(path)) {
    if (body.includes('"trace_unique_id"')) return `by id ${table}`;
    if (body.includes('"customer_identifier"') || body.includes('"metadata__')) return `find ${table}`;
    return url.searchParams.get('page_size') === '1' ? 'probe' : 'controls';
  }
  return 'copies';
}

interface MovingClock {
  readonly realMs: number;
  virtualMs: number;
  readonly speed: number;
}

class Scene {
  readonly sim: RespanSimulator;
  readonly store: TraceStore;
  readonly calls = new Map<string, number>();
  readonly #keys: readonly string[];
  readonly #clock: MovingClock;
  #phase: Phase = 'plan';

  private constructor(
    sim: RespanSimulator,
    clock: MovingClock,
    environments: readonly string[],
    keys: readonly string[],
    send: typeof fetch,
  ) {
    this.sim = sim;
    this.#keys = keys;
    this.#clock = clock;
    const counting: typeof fetch = (input, init) => {
      const request = new Request(input, init);
      const purpose = purposeOf(request.method, new URL(request.url), typeof init?.body === 'string' ? init.body : '');
      const name = `${this.#phase} / ${purpose}`;
      this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
      return send(input, init);
    };
    const config = connectionSchema.parse({
      store: 'respan',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      environments,
      startDate: '2026-10-26',
      identifiers: { user_id: keys },
    });
    this.store = openStore('test', config, { clock, fetch: counting });
  }

  /** @param send makes each call; it may answer in the store's place. */
  static async start(environments: readonly string[], keys: readonly string[], send = fetch): Promise<Scene> {
    const clock = { realMs: Date.now(), virtualMs: T0, speed: SPEED };
    return new Scene(await startRespanSimulator({ clock: { ...clock } }), clock, environments, keys, send);
  }

  get total(): number {
    return [...this.calls.values()].reduce((sum, count) => sum + count, 0);
  }

  made(phase: Phase, purpose: string): number {
    return this.calls.get(`${phase} / ${purpose}`) ?? 0;
  }

  /** Steps of everybody that begin together. */
  async together<T>(phase: Phase, count: number, step: (at: number, progress: Progress) => Promise<T>): Promise<T[]> {
    this.#phase = phase;
    return Promise.all(
      Array.from({ length: count }, async (_none, at) => {
        const progress: Progress = () => undefined;
        const leave = await this.store.board?.(progress);
        try {
          return await step(at, progress);
        } finally {
          leave?.();
        }
      }),
    );
  }

  /** Erases everybody with the calls that the steps of a lane make, in their order. */
  async erase(people: readonly string[]): Promise<void> {
    const { store, sim } = this;
    const names = new Set(people);
    const keys = this.#keys;
    const searched = (who: string) => [{ kind: 'user_id', keys, variants: [who] }];
    const exclude = (row: Row): boolean => row.persons.some(({ text }) => names.has(text));
    const window = () => ({ fromMs: 0, toMs: sim.now() + 7 * DAY_MS });
    const choose = async (progress: Progress): Promise<readonly Control[]> => {
      const projects = await store.projects(progress);
      const query = { projects, terms: searched('x'), window: window(), want: 2, exclude, progress };
      const { controls } = await store.controls(query);
      expect(controls.length).toBeGreaterThanOrEqual(2);
      return controls;
    };
    const find = async (who: string, controls: readonly Control[], progress: Progress) => {
      const projects = await store.projects(progress);
      const rows: Row[] = [];
      const loose: Copy[] = [];
      for (const finder of store.finders) {
        const read = await finder.find({ projects, terms: searched(who), window: window(), controls, progress });
        expect(read.controlsSeen).toEqual(controls.map(() => true));
        rows.push(...read.rows);
        loose.push(...(read.loose ?? []).map(({ kind, id }) => ({ kind, id, traceId: '' })));
      }
      return { rows, loose };
    };
    const lookup = async (
      traces: readonly TraceKey[],
      controls: readonly Control[],
      runsThere: number,
      progress: Progress,
    ) => {
      const rows: Row[] = [];
      for (const route of store.lookups) {
        const read = await route.lookup({ traces, window: window(), controls, runsThere, progress });
        expect(read.controlsSeen).toEqual(controls.map(() => true));
        rows.push(...read.rows);
      }
      return rows;
    };

    const plans = await this.together('plan', people.length, async (at, progress) => {
      const controls = await choose(progress);
      const who = people[at] ?? '';
      const { rows, loose } = await find(who, controls, progress);
      const traces = [...new Map(rows.map(({ projectId, traceId }) => [traceId, { projectId, traceId }])).values()];
      const runs = new Set(rows.map(({ runId }) => runId)).size;
      const whole = await lookup(traces, controls, runs, progress);
      await store.copies(traces, whole, progress);
      return { who, traces, runs, copies: loose };
    });
    for (const projectId of new Set(plans.flatMap(({ traces }) => traces.map((trace) => trace.projectId)))) {
      await this.together('delete', plans.length, async (at, progress) => {
        const { traces, runs } = plans[at]!;
        const here = traces.filter((trace) => trace.projectId === projectId);
        if (here.length === 0) return;
        const controls = await choose(progress);
        await lookup(here, controls, (runs * here.length) / traces.length, progress);
        const lastWord = (): Promise<void> => Promise.resolve();
        await store.submit({ projectId, traces: here, lastWord, progress });
      });
    }
    for (const phase of ['verify 1', 'verify 2'] as const) {
      sim.advance(10 * MINUTE_MS);
      this.#clock.virtualMs += 10 * MINUTE_MS;
      await this.together(phase, plans.length, async (at, progress) => {
        const { who, traces, copies } = plans[at]!;
        const controls = await choose(progress);
        expect(await lookup(traces, controls, 0, progress)).toEqual([]);
        expect((await find(who, controls, progress)).rows).toEqual([]);
        if (phase === 'verify 1' || copies.length === 0) return;
        await store.eraseCopies?.(copies, () => Promise.resolve(), progress);
        expect((await store.lookupCopies(copies, progress)).left).toEqual([]);
      });
    }
  }
}

let scene: Scene;

afterEach(() => scene.sim.close());

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_none, n) => `${prefix}-${n}`);
}

/** Others whose traces are older than anybody's. */
const OLD = { from: T0 - 31 * DAY_MS, to: T0 - DAY_MS } as const;
const CUSTOMER = ['customer_identifier'];

/** The fewest calls for these people in one environment under one key, going step by step together. */
function leastOf(task: Task): number {
  return [...leastOfRespan(task).values()].flatMap((one) => [...one.values()]).reduce((sum, count) => sum + count, 0);
}

describe('calls of people who are erased together', () => {
  test('P20: 200 people cost hardly more than the least, and nobody else loses anything', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const { sim } = scene;
    sim.seedPeople({ people: names('other', 300), tracesPerPerson: 10, ...OLD });
    const people = names('u', 200);
    sim.seedPeople({ people, tracesPerPerson: 10 });
    await scene.erase(people);

    const least = leastOf({ people: 200, tracesEach: 10, runsPerTrace: 3, controls: 2, otherTraces: 3000 });
    expect(least).toBeGreaterThan(1600);
    expect(scene.total).toBeGreaterThanOrEqual(least - 5);
    expect(scene.total).toBeLessThanOrEqual(1.25 * least);
    for (const phase of PHASES) expect(scene.made(phase, 'canary')).toBeLessThanOrEqual(12);
    expect(scene.made('delete', 'delete')).toBe(2);
    for (const phase of ['plan', 'verify 1'] as const) {
      expect(scene.made(phase, 'records one by one')).toBe(0);
      expect(scene.made(phase, 'find logs')).toBe(200);
      expect(scene.made(phase, 'find traces')).toBe(200);
    }
    expect(sim.truth.allTraces()).toHaveLength(3000);
    expect(sim.truth.unasked()).toEqual([]);
    const records = sim.truth.customerRecords().map(({ customerIdentifier }) => customerIdentifier);
    expect(records.sort()).toEqual(names('other', 300).sort());
  }, 120_000);

  test('P5: by a metadata key the count of the controls is shared, and everybody is counted with them', async () => {
    scene = await Scene.start(['prod'], ['metadata.user_id']);
    const { sim } = scene;
    const key = 'metadata.user_id';
    sim.seedPeople({ people: names('other', 10), tracesPerPerson: 2, key, ...OLD });
    const people = names('u', 30);
    sim.seedPeople({ people, tracesPerPerson: 2, key });
    await scene.erase(people);
    for (const phase of ['verify 1', 'verify 2'] as const) {
      expect(scene.made(phase, 'find summary')).toBeGreaterThan(30);
      expect(scene.made(phase, 'find summary')).toBeLessThanOrEqual(36);
    }
    expect(sim.truth.allTraces()).toHaveLength(20);
  });
});

describe('searches for several at once by a metadata key', () => {
  const key = 'metadata.user_id';

  /** What the second finder says of these people in one search, while the list of logs hides one of them. */
  async function found(variants: readonly string[], hidden: string | null): Promise<string[]> {
    const hiding: typeof fetch = async (input, init) => {
      const answer = await fetch(input, init);
      if (!new URL(new Request(input, init).url).pathname.endsWith('/request-logs/list/')) return answer;
      const { results, ...rest } = (await answer.json()) as { results: readonly { metadata?: { user_id?: string } }[] };
      const shown = results.filter(({ metadata }) => metadata === undefined || metadata.user_id !== hidden);
      return Response.json({ ...rest, results: shown }, { headers: { date: answer.headers.get('date') ?? '' } });
    };
    scene = await Scene.start(['prod'], [key], hiding);
    const { sim, store } = scene;
    sim.seedPeople({ people: ['other-1', 'other-2'], tracesPerPerson: 2, key, ...OLD });
    sim.seedPeople({ people: ['ann', 'bob'], tracesPerPerson: 2, key });
    const progress: Progress = () => undefined;
    const projects = await store.projects(progress);
    const window = { fromMs: 0, toMs: sim.now() + 7 * DAY_MS };
    const terms = [{ kind: 'user_id', keys: [key], variants }];
    const exclude = (row: Row): boolean => row.persons.some(({ text }) => !text.startsWith('other'));
    const { controls } = await store.controls({ projects, terms, window, want: 2, exclude, progress });
    const { rows } = await store.finders[1]!.find({ projects, terms, window, controls, progress });
    return [...new Set(rows.flatMap(({ persons }) => persons.map(({ text }) => text)))].sort();
  }

  test('P5, P20: what the list shows of one does not stand for what the summary counts of another', async () => {
    await expect(found(['ann', 'bob'], 'bob')).rejects.toMatchObject({ reason: 'contract-broken' });
    expect(scene.sim.truth.allTraces()).toHaveLength(8);
  });

  test('P5, P10: a count of the controls serves no search of another span of time', async () => {
    scene = await Scene.start(['prod'], [key]);
    const { sim, store } = scene;
    sim.seedPeople({ people: ['other-1', 'other-2'], tracesPerPerson: 2, key, ...OLD });
    sim.seedPeople({ people: ['ann'], tracesPerPerson: 4, key, atMs: T0 });
    const progress: Progress = () => undefined;
    const projects = await store.projects(progress);
    const always = { fromMs: 0, toMs: sim.now() + 7 * DAY_MS };
    const terms = (...variants: string[]) => [{ kind: 'user_id', keys: [key], variants }];
    const exclude = (row: Row): boolean => row.persons.some(({ text }) => !text.startsWith('other'));
    const asked = { projects, terms: terms('nobody'), window: always, want: 2, exclude, progress };
    const { controls } = await store.controls(asked);
    const found = async (who: string, window: typeof always): Promise<number> => {
      const { rows } = await store.finders[1]!.find({ projects, terms: terms(who), window, controls, progress });
      return new Set(rows.map(({ traceId }) => traceId)).size;
    };
    // Of the controls alone as many logs are counted as of ann in her last hour, in which they have none.
    expect(await found('nobody', always)).toBe(0);
    expect(await found('ann', { ...always, fromMs: T0 - HOUR_MS })).toBe(4);
    expect(await found('ann', { ...always, toMs: T0 - HOUR_MS })).toBe(0);
    expect(await found('ann', always)).toBe(4);
  });

  test('P5: of whom nothing is counted nothing need be shown', async () => {
    expect(await found(['ann', 'bob', 'nobody'], null)).toEqual(['ann', 'bob']);
  });
});

describe('customer records of people who are erased together', () => {
  /** What the logs finder says of each, all asked in one convoy. */
  async function recordsOf(people: readonly string[]): Promise<string[]> {
    const { store, sim } = scene;
    const found = await scene.together('plan', people.length, async (at, progress) => {
      const projects = await store.projects(progress);
      const window = { fromMs: 0, toMs: sim.now() + 7 * DAY_MS };
      const terms = [{ kind: 'user_id', keys: CUSTOMER, variants: [people[at] ?? ''] }];
      const exclude = (row: Row): boolean => row.persons.some(({ text }) => !text.startsWith('other'));
      const { controls } = await store.controls({ projects, terms, window, want: 2, exclude, progress });
      const { loose = [] } = await store.finders[0]!.find({ projects, terms, window, controls, progress });
      return loose.map(({ persons }) => persons[0]?.text ?? '');
    });
    return found.flat().sort();
  }

  async function start(): Promise<RespanSimulator> {
    scene = await Scene.start(['prod'], CUSTOMER);
    scene.sim.seedPeople({ people: ['other-1', 'other-2'], tracesPerPerson: 2, ...OLD });
    return scene.sim;
  }

  const copyOf = (who: string): Copy => ({ kind: 'customer-record', id: JSON.stringify(['prod', who]), traceId: '' });

  test('P22: one list tells all of them, by exact spelling', async () => {
    const sim = await start();
    sim.seedPeople({ people: ['Ann', 'bob'], tracesPerPerson: 1 });
    expect(await recordsOf(['ann', 'bob', 'nobody'])).toEqual(['bob']);
    expect([scene.made('plan', 'records list'), scene.made('plan', 'records one by one')]).toEqual([1, 0]);
  });

  test('P6: a list that leaves out customers of whom there are logs is not believed', async () => {
    const sim = await start();
    sim.seedPeople({ people: ['ann', 'bob'], tracesPerPerson: 1 });
    for (const other of ['other-1', 'other-2']) {
      const answer = await fetch(`${sim.url}/api/users/${other}/?environment=prod`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${sim.apiKey}` },
      });
      expect(answer.status).toBe(204);
    }
    expect(await recordsOf(['ann', 'bob', 'nobody'])).toEqual(['ann', 'bob']);
    expect(scene.made('plan', 'records one by one')).toBe(3);
  });

  test('a list of many pages is left alone when asking for each takes fewer calls', async () => {
    const sim = await start();
    sim.seedPeople({ people: names('crowd', 1100), tracesPerPerson: 1, spansPerTrace: 1 });
    for (const round of [1, 2]) {
      expect(await recordsOf(['crowd-7', 'nobody'])).toEqual(['crowd-7']);
      expect([scene.made('plan', 'records list'), scene.made('plan', 'records one by one')]).toEqual([1, 2 * round]);
    }
    // Two passes of two pages are fewer than five (P28).
    const asked = ['crowd-1', 'crowd-2', 'crowd-3', 'nobody', 'no-one'];
    expect(await recordsOf(asked)).toEqual(['crowd-1', 'crowd-2', 'crowd-3']);
    expect([scene.made('plan', 'records list'), scene.made('plan', 'records one by one')]).toEqual([5, 4]);
  });

  test('P17, P27: of records that are due together those stay whose customer is on a trace or whose person is on hold', async () => {
    const sim = await start();
    sim.habits.set({ customerTakesLogs: true });
    sim.seed({ traces: [{ spans: [{ customerIdentifier: 'bob' }, { customerIdentifier: 'other-1' }] }] });
    for (const who of ['ann', 'ANN', 'cid', 'dan']) sim.seedLog({ customerIdentifier: who });
    const traces = sim.truth.allTraces().length;
    // Nothing is deleted that was not read before.
    await recordsOf(['ann', 'bob', 'cid', 'dan']);
    const held = ['cid'];
    const ends = await scene.together('verify 2', 4, async (at, progress) => {
      const who = ['ann', 'bob', 'cid', 'dan'][at] ?? '';
      const lastWord = (): Promise<void> =>
        held.includes(who) ? Promise.reject(new Error('on hold')) : Promise.resolve();
      return scene.store.eraseCopies!([copyOf(who)], lastWord, progress).then(
        () => 'done',
        (error: unknown) => (error as Error).message,
      );
    });
    sim.advance(10 * MINUTE_MS);
    expect(ends).toEqual(['done', 'done', 'on hold', 'done']);
    const left = sim.truth.customerRecords().map(({ customerIdentifier }) => customerIdentifier);
    expect(left.sort()).toEqual(['ANN', 'bob', 'cid', 'other-1', 'other-2']);
    expect(sim.truth.allTraces()).toHaveLength(traces);
    expect([scene.made('verify 2', 'find logs'), scene.made('verify 2', 'find traces')]).toEqual([1, 1]);
  });

  test('P26: one who is told to stop while the records of several are looked at stops nobody else', async () => {
    const sim = await start();
    for (const who of ['bob', 'ann', 'ANN']) sim.seedLog({ customerIdentifier: who });
    await recordsOf(['bob', 'ann']);
    await scene.together('verify 2', 0, () => Promise.resolve());
    const ends = await Promise.all(
      ['bob', 'ann'].map(async (who) => {
        // The list tells of bob; somebody goes by nearly the same name as ann, so that she is asked for by herself.
        const progress: Progress = () => {
          if (who === 'ann' && scene.made('verify 2', 'records list') > 0) throw new Error('told to stop');
        };
        const leave = await scene.store.board?.(progress);
        try {
          return await scene.store.eraseCopies!([copyOf(who)], () => Promise.resolve(), progress).then(
            () => 'done',
            (error: unknown) => (error as Error).message,
          );
        } finally {
          leave?.();
        }
      }),
    );
    sim.advance(10 * MINUTE_MS);
    expect(ends).toEqual(['done', 'told to stop']);
    const left = sim.truth.customerRecords().map(({ customerIdentifier }) => customerIdentifier);
    expect(left.sort()).toEqual(['ANN', 'ann', 'other-1', 'other-2']);
  });
});

describe('what happens between the look at a record and its deletion', () => {
  /**
   * Ann and bob, whose records are due together, over a clock that a test moves.
   *
   * @param called ahead of each call, which it may answer in the store's place.
   */
  async function start(called: (path: string, body: string, time: { nowMs: number }) => Response | null = () => null) {
    scene = await Scene.start(['prod'], CUSTOMER);
    const { sim } = scene;
    sim.habits.set({ customerTakesLogs: true });
    sim.seedPeople({ people: ['other-1'], tracesPerPerson: 2, ...OLD });
    for (const who of ['ann', 'bob']) sim.seedLog({ customerIdentifier: who });
    const config = respanConnectionSchema.parse({
      store: 'respan',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      environments: ['prod'],
      startDate: '2026-10-26',
      identifiers: { user_id: CUSTOMER },
    });
    const time = { nowMs: 0 };
    const api = new RespanApi(config, {
      clock: { realMs: Date.now(), virtualMs: T0, speed: SPEED },
      log: () => undefined,
      fetch: (input, init) => {
        const body = typeof init?.body === 'string' ? init.body : '';
        const answer = called(new URL(new Request(input, init).url).pathname, body, time);
        return answer === null ? fetch(input, init) : Promise.resolve(answer);
      },
    });
    const killSwitch = new KillSwitch();
    const nowMs = (): number => time.nowMs;
    const [lists, customers] = [new Lists(api, config), new Customers(api)];
    const erasure = new RecordErasure({ config, lists, customers, killSwitch, nowMs });
    const erase = async (lastWord: (who: string) => void) => {
      const tally = api.tally(() => undefined);
      const ends = await Promise.allSettled(
        ['ann', 'bob'].map((who) => {
          const word = async (): Promise<void> => {
            await Promise.resolve();
            lastWord(who);
          };
          return erasure.erase(tally, 'prod', who, word);
        }),
      );
      sim.advance(10 * MINUTE_MS);
      return ends.map((end): unknown => (end.status === 'fulfilled' ? (end.value?.status ?? null) : end.reason));
    };
    const records = () => sim.truth.customerRecords().map(({ customerIdentifier }) => customerIdentifier);
    return { sim, time, killSwitch, erase, records };
  }

  test.each(['ann', 'bob'])(
    'P14, P17: when the turn of %s comes long after the look, a new one sees what was written meanwhile',
    async (late) => {
      const { sim, time, erase, records } = await start();
      let waits = true;
      const ends = await erase((who) => {
        if (who !== late || !waits) return;
        waits = false;
        time.nowMs += 3 * MINUTE_MS;
        sim.seedPeople({ people: [late], tracesPerPerson: 1 });
      });
      expect(ends).toEqual(['ann', 'bob'].map((who) => (who === late ? null : 204)));
      expect(records().sort()).toEqual([late, 'other-1']);
      expect(sim.truth.allTraces()).toHaveLength(3);
    },
  );

  test('P26: looks that take long themselves keep no record for ever', async () => {
    const { sim, erase, records } = await start((path, _body, time) => {
      if (path === '/api/traces/list/') time.nowMs += 3 * MINUTE_MS;
      return null;
    });
    expect(await erase(() => undefined)).toEqual([204, 204]);
    expect(records()).toEqual(['other-1']);
    expect(sim.truth.allTraces()).toHaveLength(2);
  });

  test('P26: nor do those that the store only takes one by one', async () => {
    const refused = new Response('{}', { status: 400 });
    const { time, erase, records } = await start((_path, body) => (/ann.*bob/.test(body) ? refused.clone() : null));
    let waits = true;
    const ends = await erase(() => {
      if (waits) time.nowMs += 3 * MINUTE_MS;
      waits = false;
    });
    expect(ends).toEqual([204, 204]);
    expect(records()).toEqual(['other-1']);
  });

  test('P19: deletes that were switched off meanwhile are told as such, not as a refusal of the store', async () => {
    const { killSwitch, erase, records } = await start();
    const ends = await erase(() => {
      killSwitch.trip('more matched than was sent');
    });
    expect(ends).toEqual([204, expect.objectContaining({ reason: 'switched-off' })]);
    expect(records().sort()).toEqual(['bob', 'other-1']);
  });
});

describe('what happens between the list before a delete and the delete', () => {
  /**
   * Ann, whose traces are deleted over a clock that a test moves, at a last word that may be waited for.
   */
  async function start(traces: number, others: number) {
    scene = await Scene.start(['prod', 'test'], CUSTOMER);
    const { sim } = scene;
    sim.seedPeople({ people: names('other', 10), tracesPerPerson: others, spansPerTrace: 1, ...OLD });
    const [ann] = sim.seedPeople({ people: ['ann'], tracesPerPerson: traces, spansPerTrace: 1 });
    const config = respanConnectionSchema.parse({
      store: 'respan',
      baseUrl: sim.url,
      apiKey: sim.apiKey,
      environments: ['prod', 'test'],
      startDate: '2026-10-26',
      identifiers: { user_id: CUSTOMER },
    });
    const time = { nowMs: 0 };
    const clock = { realMs: Date.now(), virtualMs: T0, speed: SPEED };
    /** The age of the latest list of ids of prod when each delete left. */
    const ages: number[] = [];
    const listed = { atMs: Number.NaN };
    const api = new RespanApi(config, {
      clock,
      log: () => undefined,
      fetch: (input, init) => {
        const { method, url } = new Request(input, init);
        const body = typeof init?.body === 'string' ? init.body : '';
        const purpose = purposeOf(method, new URL(url), body);
        if (purpose === 'by id traces' && url.includes('environment=prod')) listed.atMs = time.nowMs;
        if (purpose === 'delete') ages.push(time.nowMs - listed.atMs);
        return fetch(input, init);
      },
    });
    const [killSwitch, pace] = [new KillSwitch(), new DeletePace(() => api.nowMs())];
    const parts = { api, config, lists: new Lists(api, config), killSwitch, pace, realNowMs: () => time.nowMs };
    /** Words that were given and not taken back. */
    const words = { left: 0 };
    const submit = (word: () => void) =>
      submitDelete(parts, {
        ...deleteOrder('prod', ann?.traceIds ?? []),
        lastWord: async () => {
          await Promise.resolve();
          word();
          words.left += 1;
        },
        notSent: () => {
          words.left -= 1;
        },
      });
    const left = (): number => {
      sim.advance(10 * MINUTE_MS);
      return sim.truth.allTraces().length;
    };
    return { sim, time, killSwitch, ages, words, submit, left };
  }

  test('P19: a bulk delete whose turn comes long after its list is listed again', async () => {
    const { time, ages, words, submit, left } = await start(20, 160);
    let waits = true;
    await submit(() => {
      if (waits) time.nowMs += 3 * MINUTE_MS;
      waits = false;
    });
    expect([ages, words.left, left()]).toEqual([[0], 1, 1600]);
  });

  test('P19: what the second list shows of others stops it', async () => {
    const { sim, time, killSwitch, ages, submit, left } = await start(20, 160);
    const end = submit(() => {
      time.nowMs += 3 * MINUTE_MS;
      sim.habits.set({ dropFilterKeys: [{ name: 'trace_unique_id', on: ['/api/traces/list/'] }] });
    });
    await expect(end).rejects.toMatchObject({ reason: 'rejected' });
    expect(killSwitch.tripped).not.toBeNull();
    expect([ages, left()]).toEqual([[], 1620]);
  });

  test('P19: single deletes that take their time are listed again in between', async () => {
    const { time, ages, words, submit, left } = await start(12, 5);
    await submit(() => {
      time.nowMs += MINUTE_MS;
    });
    expect(ages).toHaveLength(12);
    expect(Math.max(...ages)).toBeLessThanOrEqual(2 * MINUTE_MS);
    expect([words.left, left()]).toEqual([12, 50]);
  });

  test.each([
    [20, 160],
    [3, 5],
  ])(
    'P19, P26: turns that keep coming too late send nothing, and the lane comes back (%i traces)',
    async (mine, others) => {
      const { time, ages, words, submit, left } = await start(mine, others);
      const end = submit(() => {
        time.nowMs += 3 * MINUTE_MS;
      });
      await expect(end).rejects.toMatchObject({ reason: 'throttled', partlyDone: false });
      expect([ages, words.left, left()]).toEqual([[], 0, 10 * others + mine]);
    },
  );
});

describe('large orders', () => {
  const idsOf = async (who: string): Promise<string[]> => {
    const { store, sim } = scene;
    const progress: Progress = () => undefined;
    const query = {
      projects: await store.projects(progress),
      window: { fromMs: 0, toMs: sim.now() + DAY_MS },
      progress,
    };
    const terms = [{ kind: 'user_id', keys: CUSTOMER, variants: [who] }];
    const { rows } = await store.finders[1]!.find({ ...query, terms, controls: [] });
    return rows.map(({ traceId }) => traceId);
  };
  const bulks = (): number => scene.sim.ledger.entries.filter(({ route }) => route.includes('bulk-delete')).length;

  test('P13, P19: in a small environment they go one by one, in parts that are each listed first', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const { sim } = scene;
    sim.seedPeople({ people: names('other', 10), tracesPerPerson: 5, ...OLD });
    sim.seedPeople({ people: ['whale'], tracesPerPerson: 230, spansPerTrace: 1 });
    const ids = await idsOf('whale');
    const from = sim.ledger.entries.length;
    const receipt = await scene.store.submit(deleteOrder('prod', ids));
    sim.advance(10 * MINUTE_MS);
    expect(receipt.refused).toBeUndefined();
    expect([bulks(), sim.truth.allTraces().length]).toEqual([0, 50]);
    expect(sim.truth.unasked()).toEqual([]);
    let sinceList = 0;
    for (const { method, route, ids: named } of sim.ledger.entries.slice(from)) {
      sinceList = route.endsWith('/list/') && named !== null ? 0 : sinceList + (method === 'DELETE' ? 1 : 0);
      expect(sinceList).toBeLessThanOrEqual(100);
    }
  });

  test('P19: what this connection is deleting already does not make an environment large', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const { sim } = scene;
    sim.seedPeople({ people: names('other', 140), tracesPerPerson: 10, spansPerTrace: 1, ...OLD });
    sim.seedPeople({ people: ['first'], tracesPerPerson: 1000, spansPerTrace: 1 });
    sim.seedPeople({ people: ['second'], tracesPerPerson: 150, spansPerTrace: 1 });
    // Vanishing late, what was sent is still listed.
    sim.habits.set({ deletesDelayedMs: 5 * MINUTE_MS });
    const [first, second] = [await idsOf('first'), await idsOf('second')];
    await scene.store.submit(deleteOrder('prod', first));
    expect(bulks()).toBe(1);
    await scene.store.submit(deleteOrder('prod', second));
    expect(bulks()).toBe(1);
    sim.advance(20 * MINUTE_MS);
    expect(sim.truth.allTraces()).toHaveLength(1400);
  });

  test.each([
    ['look', 400],
    ['look', 401],
    ['look', 404],
    ['look', 429],
    ['delete', 400],
  ])(
    'P2, P3: a %s that is answered %i after a part of the order was acknowledged is not taken for "nothing was sent"',
    async (refused, status) => {
      let sent = false;
      let hidden = '';
      const refusing: typeof fetch = async (input, init) => {
        const { method, url } = new Request(input, init);
        const { pathname, searchParams } = new URL(url);
        const looks = pathname.endsWith('/traces/list/') && searchParams.get('environment') === 'test';
        if (sent && (refused === 'look' ? looks : method === 'DELETE')) {
          return new Response('{}', { status, headers: { 'retry-after': '0' } });
        }
        const answer = await fetch(input, init);
        sent ||= pathname.includes('bulk-delete');
        if (hidden === '' || !pathname.endsWith('/traces/list/')) return answer;
        const { results, ...rest } = (await answer.json()) as { results: readonly { trace_unique_id: string }[] };
        const shown = results.filter(({ trace_unique_id: id }) => id !== hidden);
        return Response.json({ ...rest, results: shown }, { headers: { date: answer.headers.get('date') ?? '' } });
      };
      scene = await Scene.start(['prod', 'test'], CUSTOMER, refusing);
      const { sim, store } = scene;
      sim.seedPeople({ people: names('other', 160), tracesPerPerson: 10, spansPerTrace: 1, ...OLD });
      sim.seedPeople({ people: ['ann'], tracesPerPerson: 8, spansPerTrace: 1 });
      const ids = await idsOf('ann');
      // One of which the list shows nothing goes by itself, after a look into the other environment.
      hidden = ids[0] ?? '';
      const error = await store.submit(deleteOrder('prod', ids)).then(
        () => null,
        (reason: unknown) => reason as StoreError,
      );
      expect([ids.length, bulks()]).toEqual([8, 1]);
      expect(error).toMatchObject({ status, partlyDone: true });
      expect(error?.advice).toContain('a part of the delete was acknowledged');
      sim.advance(10 * MINUTE_MS);
      expect(sim.truth.allTraces()).toHaveLength(1600);
      expect(sim.truth.unasked()).toEqual([]);
    },
  );

  test('P4: a list of ids that is too long for the store is read in halves', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const { sim, store } = scene;
    sim.seedPeople({ people: ['many'], tracesPerPerson: 300, spansPerTrace: 1 });
    const ids = await idsOf('many');
    const query = {
      traces: ids.map((traceId) => ({ projectId: 'prod', traceId })),
      window: { fromMs: 0, toMs: sim.now() + DAY_MS },
      controls: [],
      progress: () => undefined,
    };
    await store.lookups[1]!.lookup(query);
    sim.habits.set({ serverErrors: { status: 413, count: 1 } });
    const { rows, report } = await store.lookups[1]!.lookup(query);
    expect(rows).toHaveLength(300);
    expect(report.calls).toBe(3);
  });
});

describe('answers that several share', () => {
  const tally = new Tally(1, () => undefined);
  const stopped = new Error('stopped');
  const trouble = new StoreError({ reason: 'unreachable', route: 'x', status: null, requestId: null });

  /** Settles as text. */
  const end = (promise: Promise<string>): Promise<string> =>
    promise.catch((error: unknown) => (error as Error).message);

  test('one who is told to stop takes nobody with him; trouble of the store is everybody’s', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    for (const [error, wanted] of [
      [stopped, ['stopped', 'answer', 'answer']],
      [trouble, [trouble.message, trouble.message, trouble.message]],
    ] as const) {
      let made = 0;
      const make = async (): Promise<string> => {
        made += 1;
        const nth = made;
        await Promise.resolve();
        if (nth === 1) throw error;
        return 'answer';
      };
      const shared = new Shared(null);
      const together = new Together<{ readonly tally: Tally }, string>(make);
      expect(await Promise.all([1, 2, 3].map(() => end(shared.get('key', 1000, make))))).toEqual(wanted);
      made = 0;
      expect(await Promise.all([1, 2, 3].map(() => end(together.ask('key', { tally }))))).toEqual(wanted);
    }
  });

  test('an answer is used for its time, a failure never', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const clock = { realMs: Date.now(), virtualMs: 0, speed: 1e-9 };
    let made = 0;
    const shared = new Shared(clock);
    const get = (): Promise<number> =>
      shared.get('key', 1000, () => {
        made += 1;
        return made === 1 ? Promise.reject(trouble) : Promise.resolve(made);
      });
    await expect(get()).rejects.toBe(trouble);
    expect(await get()).toBe(2);
    clock.virtualMs = 999;
    expect(await get()).toBe(2);
    clock.virtualMs = 1000;
    expect(await get()).toBe(3);
  });

  test('on a clock of thousands an answer is used long enough to be of use, and not for ever', async () => {
    scene = await Scene.start(['prod'], CUSTOMER);
    const clock = { realMs: Date.now(), virtualMs: 0, speed: 100_000 };
    let made = 0;
    const shared = new Shared(clock);
    const get = (): Promise<number> => shared.get('key', 1000, () => Promise.resolve((made += 1)));
    await get();
    clock.virtualMs += 1_001;
    expect(await get()).toBe(1);
    clock.virtualMs += 10_000_000;
    expect(await get()).toBe(2);
  });
});
