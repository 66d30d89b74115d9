import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseConfig } from '../src/config/config.ts';
import type { Clock } from '../src/erasure/clock.ts';
import { virtualNow } from '../src/erasure/clock.ts';
import { DAY_MS, HOUR_MS } from '../src/erasure/rhythm.ts';
import { startLangSmithSimulator } from '../src/simulators/langsmith/index.ts';
import { startRespanSimulator } from '../src/simulators/respan/index.ts';
import type { Limit } from '../src/stores/pacing.ts';
import { Pacer } from '../src/stores/pacing.ts';
import { StoreError } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import { spentCallsFile } from '../src/stores/spent-calls.ts';
import { CONNECTION, World } from './support/world.ts';

interface Call {
  readonly seniority: number;
  readonly startMs: number;
  readonly endMs: number;
}

function clockOf(speed: number): Clock {
  return { realMs: Date.now(), virtualMs: Date.parse('2026-11-25T12:00:00Z'), speed };
}

/** A pacer of one shape with the calls that it let through. */
class Track {
  readonly calls: Call[] = [];
  readonly clock: Clock;
  readonly pacer: Pacer<'call'>;

  constructor(limits: Readonly<Record<string, Limit>>, clock: Clock) {
    this.clock = clock;
    this.pacer = new Pacer(limits, { call: Object.keys(limits) }, clock);
  }

  async call(seniority: number, ms = 0): Promise<void> {
    const done = await this.pacer.take({ shape: 'call', route: 'GET /x', seniority });
    const startMs = virtualNow(this.clock);
    if (ms > 0) await sleep(ms);
    this.calls.push({ seniority, startMs, endMs: virtualNow(this.clock) });
    done();
  }

  async step(seniority: number, calls: number): Promise<number> {
    for (let made = 0; made < calls; made += 1) await this.call(seniority);
    return virtualNow(this.clock);
  }

  countOf(seniority: number): number {
    return this.calls.filter((call) => call.seniority === seniority).length;
  }
}

/** Most calls in any span, wherever between its start and its end the store counts a call. */
function mostWithin(calls: readonly Call[], perMs: number): number {
  const sorted = [...calls].sort((a, b) => a.startMs - b.startMs);
  return Math.max(
    0,
    ...sorted.map(({ startMs }, at) => 1 + sorted.slice(0, at).filter(({ endMs }) => endMs > startMs - perMs).length),
  );
}

async function refusalOf(promise: Promise<unknown>): Promise<StoreError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreError)) throw new Error('was not refused');
  return error;
}

describe('limits', () => {
  test('no fixed or sliding span of any limit ever holds more calls than it allows, under whatever load', async () => {
    const limit = fc.record({ calls: fc.integer({ min: 1, max: 5 }), perMs: fc.integer({ min: 500, max: 4000 }) });
    const load = fc.record({ seniority: fc.nat(4), wait: fc.nat(15), ms: fc.nat(8) });
    await fc.assert(
      fc.asyncProperty(limit, limit, fc.array(load, { minLength: 1, maxLength: 25 }), async (a, b, loads) => {
        const track = new Track({ a, b }, clockOf(400));
        await Promise.all(
          loads.map(async ({ seniority, wait, ms }) => {
            await sleep(wait);
            await track.call(seniority, ms);
          }),
        );
        expect(track.calls).toHaveLength(loads.length);
        for (const { calls, perMs } of [a, b]) {
          expect(mostWithin(track.calls, perMs)).toBeLessThanOrEqual(calls);
          for (const at of ['startMs', 'endMs'] as const) {
            const windows = new Map<number, number>();
            for (const call of track.calls) {
              const window = Math.floor(call[at] / perMs);
              windows.set(window, (windows.get(window) ?? 0) + 1);
            }
            expect(Math.max(...windows.values())).toBeLessThanOrEqual(calls);
          }
        }
      }),
      { numRuns: 25 },
    );
  });

  test('after a refusal within the limit fewer leave for a while, and as many as before when it has been calm', async () => {
    const limit = { calls: 4, perMs: 10_000 };
    const track = new Track({ limit }, clockOf(500));
    await track.step(1, 8);
    expect(mostWithin(track.calls, limit.perMs)).toBe(4);
    track.pacer.close('call', virtualNow(track.clock) + 60_000);
    const closedUntilMs = virtualNow(track.clock) + 55_000;
    track.calls.splice(0);
    await track.step(2, 12);
    expect(Math.min(...track.calls.map(({ startMs }) => startMs))).toBeGreaterThanOrEqual(closedUntilMs);
    expect(mostWithin(track.calls, 2 * limit.perMs)).toBeLessThanOrEqual(4);
    // Four fifths of the span after each twenty spans without another refusal.
    await sleep((5 * 20 * limit.perMs) / 500);
    track.calls.splice(0);
    await track.step(3, 12);
    expect(mostWithin(track.calls, limit.perMs)).toBeLessThanOrEqual(4);
    // More than the slowed-down pace allows.
    expect(mostWithin(track.calls, 2 * limit.perMs)).toBeGreaterThan(4);
  });

  test('refusals of calls under way together are one lesson', async () => {
    const limit = { calls: 4, perMs: 10_000 };
    const track = new Track({ limit }, clockOf(100));
    const nowMs = virtualNow(track.clock);
    for (let at = 0; at < 10; at += 1) track.pacer.close('call', nowMs);
    const beforeMs = virtualNow(track.clock);
    await track.step(1, 8);
    expect(virtualNow(track.clock) - beforeMs).toBeLessThan(4 * limit.perMs);
  });

  test('a quota of a day is never exceeded; long reads leave its reserve, and do not keep short ones from it', async () => {
    const day = { calls: 100, perMs: DAY_MS, reserve: 0.2 };
    const minute = { calls: 10, perMs: 1000 };
    const track = new Track({ day, minute }, clockOf(50));
    // The first calls of a long step count as short ones: nobody knows yet that it is long.
    const refused = await refusalOf(track.step(1, 200));
    expect(track.countOf(1)).toBe(80);
    expect((refused.notBeforeMs ?? 0) - virtualNow(track.clock)).toBeGreaterThan(23 * HOUR_MS);
    // Sent away until tomorrow again and again, it books nothing that others would have to wait for.
    for (let at = 0; at < 5; at += 1) await refusalOf(track.step(1, 1));
    await Promise.all(Array.from({ length: 6 }, (_none, at) => track.step(10 + at, 3)));
    await track.step(20, 2);
    expect(track.calls).toHaveLength(100);
    expect((await refusalOf(track.step(21, 1))).reason).toBe('throttled');
    expect(mostWithin(track.calls, DAY_MS)).toBe(100);
  });

  test('one refusal does not halve a quota of a day for weeks', async () => {
    const track = new Track({ day: { calls: 4, perMs: DAY_MS } }, clockOf(DAY_MS / 100));
    await track.step(1, 4);
    track.pacer.close('call', virtualNow(track.clock));
    const beforeMs = virtualNow(track.clock);
    await track.step(2, 8);
    expect(virtualNow(track.clock) - beforeMs).toBeLessThan(3.5 * DAY_MS);
    expect(mostWithin(track.calls, DAY_MS)).toBe(4);
  });

  test('a long step that waits until its reserve is left does not stand before short ones, who may use it', async () => {
    // Ten virtual seconds are one real one: long enough to see who waits, too short to be sent away.
    const track = new Track({ limit: { calls: 50, perMs: 10_000, reserve: 0.5 } }, clockOf(10));
    await track.step(1, 41);
    const beganMs = virtualNow(track.clock);
    const long = track.call(1);
    await Promise.all([2, 3, 4].map((seniority) => track.call(seniority)));
    expect(virtualNow(track.clock) - beganMs).toBeLessThan(5000);
    expect(track.countOf(1)).toBe(41);
    await long;
    expect(track.countOf(1)).toBe(42);
  });
});

describe('turns', () => {
  test('the older short step goes first, and a caller that is stopped leaves the queue', async () => {
    const track = new Track({ one: { calls: 1, perMs: 60 } }, null);
    await track.call(0);
    const stopped = track.pacer.take({
      shape: 'call',
      route: 'GET /x',
      seniority: 1,
      progress: () => {
        throw new Error('stop');
      },
    });
    const rest = [track.call(9), track.call(3)];
    await expect(stopped).rejects.toThrow('stop');
    await Promise.all(rest);
    expect(track.calls.map(({ seniority }) => seniority)).toEqual([0, 3, 9]);
  });

  test('a turn more than 20 real seconds away is not waited for: the caller is told when it comes', async () => {
    const track = new Track({ one: { calls: 1, perMs: 30_000 } }, null);
    await track.call(1);
    const error = await refusalOf(track.call(2));
    expect(error.reason).toBe('throttled');
    expect((error.notBeforeMs ?? 0) - Date.now()).toBeGreaterThan(25_000);
  });

  test('a step that has begun waits longer than 20 s: sent away, it would make all its calls again', async () => {
    const stop = new Error('waits');
    const track = new Track({ one: { calls: 1, perMs: 30_000 } }, null);
    await track.call(1);
    const begun = (seniority: number, aboard: boolean): Promise<unknown> => {
      let looks = 0;
      return track.pacer.take({
        shape: 'call',
        route: 'GET /x',
        seniority,
        begun: aboard,
        progress: () => {
          looks += 1;
          if (looks > 2) throw stop;
        },
      });
    };
    await expect(begun(1, false)).rejects.toBe(stop);
    await expect(begun(2, true)).rejects.toBe(stop);
    expect((await refusalOf(begun(3, false))).reason).toBe('throttled');
  });

  test('those sent away are told different instants, and they come through when they come back', async () => {
    const track = new Track({ few: { calls: 3, perMs: 60_000 } }, null);
    const told = await Promise.all(
      Array.from({ length: 20 }, (_none, at) =>
        track.call(at).then(
          () => null,
          (error: unknown) => (error as StoreError).notBeforeMs,
        ),
      ),
    );
    const later = told.filter((at) => at !== null).sort((a, b) => a - b);
    expect(later).toHaveLength(17);
    for (const [at, ms] of later.entries()) {
      if (at > 0) expect(ms - (later[at - 1] ?? 0)).toBeGreaterThanOrEqual(60_000);
    }
  });

  test('a hundred small steps beside one of 2,000 calls end about as soon as by themselves twice over; the large one goes on', async () => {
    const limit = { calls: 20, perMs: 1000 };
    const small = (track: Track): Promise<number[]> =>
      Promise.all(Array.from({ length: 100 }, (_none, at) => track.step(100 + at, 3)));
    const alone = new Track({ limit }, clockOf(10));
    const beganAloneMs = virtualNow(alone.clock);
    const aloneMs = Math.max(...(await small(alone))) - beganAloneMs;

    const track = new Track({ limit }, clockOf(10));
    const smallOnesEnd = new AbortController();
    const whale = (async () => {
      for (let made = 0; made < 2000 && !smallOnesEnd.signal.aborted; made += 1) await track.call(1);
    })();
    while (track.countOf(1) < 60) await sleep(1);
    const before = track.countOf(1);
    const beganMs = virtualNow(track.clock);
    const besideMs = Math.max(...(await small(track))) - beganMs;
    smallOnesEnd.abort();
    await whale;
    expect(besideMs).toBeLessThan(3 * aloneMs);
    expect(track.countOf(1) - before).toBeGreaterThan(100);
    expect(mostWithin(track.calls, limit.perMs)).toBeLessThanOrEqual(20);
  });

  test('long steps share their turns evenly: new ones that keep coming do not stop an old one', async () => {
    const track = new Track({ limit: { calls: 10, perMs: 100 } }, clockOf(100));
    await track.step(1, 300);
    const before = track.countOf(1);
    let ended = false;
    const old = (async () => {
      while (!ended) await track.call(1);
    })();
    await Promise.all([2, 3, 4].map((seniority) => track.step(seniority, 120)));
    ended = true;
    await old;
    // A quarter of what was given out while all four were long.
    expect(track.countOf(1) - before).toBeGreaterThan(60);
  });
});

describe('a quota of a day', () => {
  const limit = { calls: 100, perMs: DAY_MS };
  let state: string;
  let file: string;
  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), 'lethe-quota-'));
    file = spentCallsFile(state, 'respan-prod');
  });
  afterEach(() => {
    rmSync(state, { recursive: true });
  });

  /** What a process sees that begins now. */
  const begin = (clock: Clock): Track => new Track({ day: { ...limit, keptIn: file } }, clock);

  test('is waited out by day at a store whose config names it, over a restart too', async () => {
    // A day is four seconds.
    const clock = clockOf(DAY_MS / 4000);
    const sim = await startRespanSimulator({ clock });
    try {
      const { connections } = parseConfig(
        {
          temporal: { address: '127.0.0.1:1', namespace: 'lethe' },
          identifiers: ['user_id'],
          connections: {
            'respan-prod': {
              store: 'respan',
              baseUrl: sim.url,
              apiKey: sim.apiKey,
              environments: ['prod'],
              startDate: '2026-10-26',
              identifiers: { user_id: ['customer_identifier'] },
              callsPerMinute: 60,
              dailyCalls: 100,
            },
          },
        },
        { env: {} },
      );
      const config = connections['respan-prod'];
      if (config === undefined) throw new Error('has no connection');
      const open = () => openStore('respan-prod', config, { clock, spentCallsFile: file });
      const read = async (store: ReturnType<typeof open>, calls: number): Promise<void> => {
        const until = sim.ledger.entries.length + calls;
        while (sim.ledger.entries.length < until) {
          const progress = (): void => undefined;
          const projects = await store.projects(progress);
          const window = { fromMs: 0, toMs: virtualNow(clock) + DAY_MS };
          const terms = [{ kind: 'user_id', keys: ['customer_identifier'], variants: ['u_42'] }];
          await store.finders[0]?.find({ projects, terms, window, controls: [], progress });
        }
      };
      const beganMs = virtualNow(clock);
      await read(open(), 90);
      // The worker ended; the store's day has not.
      await read(open(), 40);
      expect(virtualNow(clock) - beganMs).toBeGreaterThan(DAY_MS);
      expect(
        mostWithin(
          sim.ledger.entries.map(({ atMs }) => ({ seniority: 0, startMs: atMs, endMs: atMs })),
          DAY_MS,
        ),
      ).toBeLessThanOrEqual(100);
      expect(sim.ledger.list({ status: 429 })).toEqual([]);
    } finally {
      await sim.close();
    }
  });

  test('a process that ends in the midst of its calls leaves no fewer than it made, and a few more at most', async () => {
    const clock = clockOf(1);
    const killed = begin(clock);
    await killed.step(1, 41);
    // Under way when the process is killed.
    for (let at = 0; at < 3; at += 1) await killed.pacer.take({ shape: 'call', route: 'GET /x', seniority: 1 });
    const next = begin(clock);
    await refusalOf(next.step(2, 100));
    expect(next.calls.length).toBeLessThanOrEqual(56);
    expect(next.calls.length).toBeGreaterThanOrEqual(54);
  });

  test('is written down ahead and in blocks, and what a day has passed over is forgotten', async () => {
    const clock = clockOf(DAY_MS / 500);
    const track = begin(clock);
    await track.call(1);
    const first = readFileSync(file, 'utf8');
    await track.call(1);
    expect(readFileSync(file, 'utf8')).toBe(first);
    await track.call(1);
    expect(readFileSync(file, 'utf8')).not.toBe(first);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await sleep(600);
    await track.step(1, 2);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
      blocks: [
        { calls: 2, endedMs: expect.any(Number) },
        { calls: 2, endedMs: null },
      ],
    });
  });

  test.each(['{"blocks":', '[]', '{"blocks":[{"calls":-1,"endedMs":0}]}'])(
    'a file that holds %j counts as a day that is spent from now on, once',
    async (text) => {
      const clock = clockOf(DAY_MS / 500);
      await begin(clock).call(1);
      writeFileSync(file, text);
      const beganMs = virtualNow(clock);
      begin(clock);
      const later = begin(clock);
      await later.call(1);
      const waitedMs = virtualNow(clock) - beganMs;
      expect(waitedMs).toBeGreaterThanOrEqual(DAY_MS);
      expect(waitedMs).toBeLessThan(2 * DAY_MS);
    },
  );

  test('ends that another clock has told lie in the future count as now', async () => {
    const clock = clockOf(DAY_MS / 500);
    await begin(clock).call(1);
    writeFileSync(file, JSON.stringify({ blocks: [{ calls: 100, endedMs: virtualNow(clock) + 1000 * DAY_MS }] }));
    const beganMs = virtualNow(clock);
    await begin(clock).call(1);
    expect(virtualNow(clock) - beganMs).toBeLessThan(2 * DAY_MS);
  });

  test('a disk that takes nothing stops no call', async () => {
    writeFileSync(join(state, 'quotas'), '');
    const track = begin(clockOf(1));
    // No file could be looked for there either: that is no reason to think that a day is spent.
    await track.step(1, 10);
    expect(track.calls).toHaveLength(10);
  });

  test('a worker keeps it beside its records, for the connection that has one', async () => {
    const world = await World.start('keeps-quota', {
      config: (config) => ({
        ...config,
        connections: Object.fromEntries(
          Object.entries(config.connections).map(([name, connection]) => [name, { ...connection, dailyCalls: 10_000 }]),
        ),
      }),
    });
    try {
      world.seed(['u_42'], 1);
      const { requestId } = await world.erase();
      await world.until(requestId, ({ status }) => status !== 'planning');
      const kept = spentCallsFile(world.stateDir, CONNECTION);
      expect(existsSync(kept)).toBe(true);
      expect(readFileSync(kept, 'utf8')).not.toContain('u_');
    } finally {
      await world.close();
    }
  });
});

describe('at a store with the vendor’s limits', () => {
  test('many callers at once cause no 429 of our own making', async () => {
    const clock = clockOf(5000);
    const sim = await startLangSmithSimulator({ clock, limits: { retryAfter: false } });
    try {
      const people = Array.from({ length: 200 }, (_none, at) => `leaver-${at}`);
      const seeded = sim.seedPeople({ project: 'p', people, tracesPerPerson: 1 });
      const config = connectionSchema.parse({
        store: 'langsmith',
        baseUrl: sim.url,
        apiKey: sim.apiKey,
        identifiers: { user_id: ['metadata.user_id'] },
      });
      const store = openStore('test', config, { clock });
      const window = { fromMs: 0, toMs: virtualNow(clock) + DAY_MS };
      const found = await Promise.all(
        people.map(async (person, at) => {
          const progress = (): void => undefined;
          // Half of them go together, the others each by themselves.
          const leave = at % 2 === 0 ? await store.board?.(progress) : undefined;
          try {
            const projects = await store.projects(progress);
            const terms = [{ kind: 'user_id', keys: ['metadata.user_id'], variants: [person] }];
            const read = await store.finders[at % 4 < 2 ? 0 : 1]?.find({
              projects,
              terms,
              window,
              controls: [],
              progress,
            });
            return [...new Set(read?.rows.map(({ traceId }) => traceId))];
          } finally {
            leave?.();
          }
        }),
      );
      expect(found).toEqual(seeded.map(({ traceIds }) => traceIds));
      expect(sim.ledger.list({ status: 429 })).toEqual([]);
    } finally {
      await sim.close();
    }
  });
});
