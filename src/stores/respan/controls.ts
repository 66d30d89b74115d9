import { DAY_MS, HOUR_MS } from '../../erasure/rhythm.ts';
import type { Tally } from '../api.ts';
import { ControlPool } from '../control-pool.ts';
import type { ControlQuery, ControlsFound, Row, Window } from '../port.ts';
import { unique } from '../rows.ts';
import { instantOf } from '../values.ts';
import { CUSTOMER_KEY } from './finders.ts';
import type { FinderParts } from './finders.ts';
import { maxWindowMs, mustReachMs } from './config.ts';
import { environmentsLeftOut } from './environments.ts';
import { LOGS_ROUTE, TRACES_ROUTE } from './lists.ts';
import type { Log } from './schemas.ts';
import { personsOf, rowOfLog } from './schemas.ts';
import type { Shared } from './shared.ts';
import { PAGE_SIZE } from './traits.ts';

/** Calls spent on the logs of one environment. */
const MOST_SAMPLES = 5;
/** Traces whose place in the traces list is checked at once. */
const MOST_CANDIDATES = 100;
/** Logs of one value in a sample, above which somebody else is preferred: every search would read all of them. */
const MANY_LOGS = 100;
/** How long it is believed that wide ranges are not cut, virtual milliseconds. */
const PROBE_MS = HOUR_MS;

/**
 * How long it is remembered that reads reached back to `startDate`, virtual milliseconds, when only logs showed it that are
 * being erased. What logs of others showed they must show again.
 */
const REACH_MS = DAY_MS;

export interface ControlParts extends FinderParts {
  /** By environment, until when its wide range is trusted, virtual epoch milliseconds. */
  readonly probedUntilMs: Map<string, number>;
  /** When reads were last seen to reach back far enough, virtual epoch milliseconds. */
  readonly reached: { atMs: number };
  /** Which environments hold logs. */
  readonly inUse: Shared;
}

/**
 * Offers live logs of other people, per environment, key and class of value, from the oldest on. Only such whose trace the
 * traces list shows too, and with the same customer where the customer is the key: every finder and route must be able to
 * see them.
 */
export async function findControls(
  parts: ControlParts,
  { projects, terms, window, want, exclude, progress }: ControlQuery,
): Promise<ControlsFound> {
  const { api, config } = parts;
  const tally = api.tally(progress);
  const keys = unique(terms.flatMap((term) => term.keys));
  const controls: ControlsFound['controls'][number][] = [];
  const silent: { projectId: string; holdsRuns: boolean }[] = [];
  let oldestMs = Number.POSITIVE_INFINITY;
  let oldestOfOthersMs = Number.POSITIVE_INFINITY;
  for (const { id: environment } of projects) {
    const logs = new Map<string, Log>();
    let pool = new ControlPool(keys, want, exclude);
    for (let samples = 0; samples < MOST_SAMPLES; samples += 1) {
      const part = partAt(samples, window, [...logs.values()], api.nowMs());
      if (part === null) break;
      const found = await parts.lists.logs(tally, { environment, narrow: null, onePageOf: PAGE_SIZE, ...part });
      for (const log of found) logs.set(log.unique_id, log);
      if (samples === 0) {
        oldestMs = Math.min(oldestMs, firstOf(found));
        const isTheirs = (log: Log): boolean => {
          const row = rowOfLog(
            { ...log, trace_unique_id: log.trace_unique_id ?? log.unique_id },
            config.identifiers,
            config.threads,
          );
          return row !== null && exclude(row);
        };
        oldestOfOthersMs = Math.min(oldestOfOthersMs, firstOf(found.filter((log) => !isTheirs(log))));
        await assertWideRange(parts, tally, environment, window, found);
      }
      pool = await poolOf(parts, tally, environment, [...logs.values()], { keys, want, exclude, window });
      if (pool.uncovered(environment).length === 0 || (samples === 0 && found.length < PAGE_SIZE)) break;
    }
    controls.push(...pool.offer());
    const speaks = [...logs.values()].some((log) =>
      personsOf(log, config.identifiers).some(({ key }) => keys.includes(key)),
    );
    if (!speaks) silent.push({ projectId: environment, holdsRuns: logs.size > 0 });
  }
  const notProvenBeforeMs = shortReach(parts, oldestMs, oldestOfOthersMs);
  const aside = await environmentsLeftOut(parts, tally);
  return {
    controls,
    silent,
    ...(notProvenBeforeMs === null ? {} : { notProvenBeforeMs }),
    ...aside,
    reports: [tally.report('controls', window)],
  };
}

/** Which logs to look at next: the oldest, the newest, then further back from the newest, twice as far each time. */
function partAt(
  samples: number,
  window: Window,
  logs: readonly Log[],
  nowMs: number,
): { readonly window: Window; readonly newestFirst: boolean } | null {
  if (samples === 0) return { window, newestFirst: false };
  if (samples === 1) return { window, newestFirst: true };
  const starts = logs.flatMap(({ timestamp, start_time: start }) => instantOf(timestamp) ?? instantOf(start) ?? []);
  const oldestMs = starts.reduce((least, at) => Math.min(least, at), nowMs);
  const toMs = oldestMs + (nowMs - oldestMs) / 2 ** (samples - 1);
  return toMs <= window.fromMs ? null : { window: { fromMs: window.fromMs, toMs }, newestFirst: true };
}

async function poolOf(
  { api, config, lists }: ControlParts,
  tally: Tally,
  environment: string,
  logs: readonly Log[],
  { keys, want, exclude, window }: Pick<ControlQuery, 'want' | 'exclude' | 'window'> & { readonly keys: string[] },
): Promise<ControlPool> {
  const rows = logs.flatMap((log) => rowOfLog(log, config.identifiers, config.threads) ?? []);
  // Wide, so that what the traces list does not show can be replaced.
  const wide = new ControlPool(keys, 10 * want, exclude);
  wide.add(rows.filter((row) => !isBusy(row, rows)));
  if (wide.uncovered(environment).length > 0) wide.add(rows);
  const candidates = unique(wide.offer().map(({ traceId }) => traceId)).slice(0, MOST_CANDIDATES);
  const pool = new ControlPool(keys, want, exclude);
  if (candidates.length === 0) return pool;
  const traces = await lists.traces(tally, {
    environment,
    window,
    narrow: { field: 'trace_unique_id', values: candidates },
  });
  if (traces.length === 0) {
    const advice = 'the traces list shows none of the traces whose spans the logs list shows: one of them is blind';
    throw api.broken(tally, `POST ${TRACES_ROUTE}`, advice);
  }
  const customers = new Map(traces.map((trace) => [trace.trace_unique_id, trace.customer_identifier]));
  pool.add(rows.filter(exclude));
  pool.add(
    rows.flatMap((row) => {
      if (!customers.has(row.traceId)) return [];
      const customer = customers.get(row.traceId);
      return [
        { ...row, persons: row.persons.filter(({ key, text }) => key !== CUSTOMER_KEY || String(customer) === text) },
      ];
    }),
  );
  return pool;
}

function isBusy(row: Row, rows: readonly Row[]): boolean {
  const counts = countsOf(rows);
  return row.persons.some(({ key, text }) => (counts.get(JSON.stringify([key, text])) ?? 0) > MANY_LOGS);
}

const counted = new WeakMap<readonly Row[], ReadonlyMap<string, number>>();

function countsOf(rows: readonly Row[]): ReadonlyMap<string, number> {
  const known = counted.get(rows);
  if (known !== undefined) return known;
  const counts = new Map<string, number>();
  for (const { persons } of rows) {
    for (const { key, text } of persons) {
      const value = JSON.stringify([key, text]);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
  counted.set(rows, counts);
  return counts;
}

/**
 * One client of the vendor took 7 days for the widest range. A server that silently cuts wide ranges would show a day long
 * before the oldest log that the wide range shows; then everything in between was never searched.
 *
 * Where ranges are tiled from `startDate` on, the one before that day must be empty, for the same reason.
 *
 * @throws StoreError `contract-broken`
 */
async function assertWideRange(
  { api, config, lists, probedUntilMs }: ControlParts,
  tally: Tally,
  environment: string,
  window: Window,
  oldest: readonly Log[],
): Promise<void> {
  if ((probedUntilMs.get(environment) ?? Number.NEGATIVE_INFINITY) > api.nowMs()) return;
  const widthMs = maxWindowMs(config);
  if (widthMs !== null) {
    const startMs = Date.parse(config.startDate);
    const older = { fromMs: Math.max(0, startMs - widthMs), toMs: startMs };
    const unsearched = await lists.logs(tally, { environment, window: older, narrow: null, onePageOf: 1 });
    if (firstOf(unsearched) < startMs) {
      const advice =
        'there are logs from before startDate, which are not searched: set startDate to the day of the oldest';
      throw api.broken(tally, `POST ${LOGS_ROUTE}`, advice);
    }
    probedUntilMs.set(environment, api.nowMs() + PROBE_MS);
    return;
  }
  const firstMs = firstOf(oldest);
  // Spans longer than a day do not make a false alarm.
  const before = { fromMs: window.fromMs, toMs: firstMs - DAY_MS };
  if (!Number.isFinite(firstMs) || before.toMs <= before.fromMs) return;
  const hidden = await lists.logs(tally, { environment, window: before, narrow: null, onePageOf: 1 });
  // Where bounds are ignored altogether, nothing is hidden by them.
  if (firstOf(hidden) <= before.toMs) {
    const advice = 'the store cuts wide time ranges without a word: set maxWindow to the days that it allows';
    throw api.broken(tally, `POST ${LOGS_ROUTE}`, advice);
  }
  probedUntilMs.set(environment, api.nowMs() + PROBE_MS);
}

/** Start of the first of some logs, epoch milliseconds; Infinity when there is none. */
function firstOf(logs: readonly Log[]): number {
  const starts = logs.flatMap(({ timestamp, start_time: start }) => instantOf(start) ?? instantOf(timestamp) ?? []);
  return starts.reduce((least, at) => Math.min(least, at), Number.POSITIVE_INFINITY);
}

/**
 * A server that cuts ranges at some days before now hides what is older from every read alike, and controls as young as
 * that prove nothing about it. Only the operator knows since when there is data.
 *
 * @returns from when on reads are shown to see anything, epoch milliseconds; null when that is about `startDate`, or when
 *   there are no logs at all.
 */
function shortReach({ api, config, reached }: ControlParts, oldestMs: number, oldestOfOthersMs: number): number | null {
  const nowMs = api.nowMs();
  const mustMs = mustReachMs(config, nowMs);
  if (oldestOfOthersMs <= mustMs) reached.atMs = Number.NEGATIVE_INFINITY;
  else if (oldestMs <= mustMs) reached.atMs = nowMs;
  if (oldestMs <= mustMs || oldestMs === Number.POSITIVE_INFINITY || nowMs - reached.atMs <= REACH_MS) return null;
  return oldestMs;
}
