import { ControlPool } from '../control-pool.ts';
import type { Control, ControlQuery, ControlsFound } from '../port.ts';
import { chunks, keyOf, sortedByKind, unique, valuesOf } from '../rows.ts';
import type { Tally } from '../api.ts';
import { attributeOf, has, hasAttribute, placeOf, SEARCHED_SPANS, SPANS_LOCATION } from './filter.ts';
import type { FinderParts } from './finders.ts';
import { isOfTrace } from './lookup.ts';
import type { Info } from './schemas.ts';
import { isCut } from './schemas.ts';
import { MOST_EXPERIMENTS } from './traces.ts';

/** Pages that one search for controls may read, for each key. */
const MOST_PAGES = 10;
/** Traces whose spans are read for a key that only spans have. */
const MOST_WHOLE = 50;
/** How often controls are offered anew because the spans of some name people who may not serve. */
const MOST_TRIES = 4;
/** Controls remembered as such. */
const MOST_REMEMBERED = 1000;

export interface ControlParts extends Omit<FinderParts, 'inSpans' | 'withSpans'> {
  readonly inSpans: Set<string>;
  readonly withSpans: Set<string>;
}

/**
 * Offers live traces of other people, per experiment, key and class of value, the oldest first. What a page of one
 * experiment's traces hides from the others is asked for by experiment.
 */
export async function findControls(
  parts: ControlParts,
  { projects, terms, window, want, exclude, progress }: ControlQuery,
): Promise<ControlsFound> {
  const { api, config, experiments, shape, traces } = parts;
  const tally = api.tally(progress);
  const keys = unique(terms.flatMap((term) => term.keys));
  const pool = new ControlPool(keys, want, exclude);
  const everyId = projects.map(({ id }) => id);
  let answers = 0;
  const infosRead = new Map<string, Info>();

  const ask = async (key: string, experimentIds: readonly string[], mostPages: number): Promise<boolean> => {
    const place = placeOf(key);
    const inSpans = place.place === 'attributes';
    const { infos, complete } = await traces.search(tally, {
      experimentIds,
      filter: inSpans ? hasAttribute(place.name) : has(place),
      pageSize: inSpans ? MOST_WHOLE : config.pageSize,
      mostPages: inSpans ? 1 : mostPages,
    });
    answers += infos.length;
    for (const info of infos) infosRead.set(info.trace_id, info);
    if (inSpans) pool.add((await traces.wholes(tally, infos)).flatMap(({ rows }) => rows));
    else {
      const rows = infos.map((info) => shape.rowOf(info));
      if (!rows.every((row) => valuesOf(row).some((one) => one.key === key))) {
        const advice = 'traces came back without the key asked for: the server ignored the filter';
        throw api.broken(tally, 'POST /api/3.0/mlflow/traces/search', advice);
      }
      // No search finds a value by what is left of it.
      pool.add(
        rows.map((row) =>
          exclude(row)
            ? row
            : { ...row, threads: [], ...sortedByKind(valuesOf(row).filter(({ text }) => !isCut(text))) },
        ),
      );
    }
    return complete;
  };
  for (const key of config.spanSearch ? keys : keys.filter((one) => placeOf(one).place !== 'attributes')) {
    for (const some of chunks(everyId, MOST_EXPERIMENTS)) {
      if (await ask(key, some, 1)) continue;
      const open = some.filter((id) => pool.uncovered(id).includes(key)).slice(0, MOST_PAGES);
      // A page full of people who may not serve is followed by the next one.
      for (const id of open) await ask(key, [id], some.length === 1 ? MOST_PAGES : 2);
    }
  }
  const silent = everyId.filter((id) => !pool.speaks(id));
  const holding = new Set<string>();
  for (const some of chunks(silent, MOST_EXPERIMENTS)) {
    for (const id of await holdersAmong(parts, tally, some)) holding.add(id);
  }
  answers += holding.size;
  if (answers === 0) await experiments.list(tally);
  const controls = await sparing(parts, tally, { pool, infos: infosRead, exclude });
  return {
    controls,
    silent: silent.map((projectId) => ({ projectId, holdsRuns: holding.has(projectId) })),
    reports: [tally.report('controls', window)],
  };
}

/** Which of the experiments hold any trace. One that bounded searches leave open counts as holding some. */
async function holdersAmong(
  { config, traces }: ControlParts,
  tally: Tally,
  experimentIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const open = new Set(experimentIds);
  const holding = new Set<string>();
  for (let pages = 0; open.size > 0 && pages < MOST_PAGES; pages += 1) {
    const options = { experimentIds: [...open], filter: null, pageSize: config.pageSize, mostPages: 1 };
    const { infos, complete } = await traces.search(tally, options);
    for (const {
      trace_location: { mlflow_experiment: experiment },
    } of infos) {
      holding.add(experiment.experiment_id);
      open.delete(experiment.experiment_id);
    }
    if (complete) return holding;
  }
  return new Set([...holding, ...open]);
}

/**
 * Offers controls whose spans name nobody who may not serve: the trace itself tells of one person only. Notes which of
 * them carry their value in a span too.
 */
async function sparing(
  { inSpans, withSpans, traces }: ControlParts,
  tally: Tally,
  facts: {
    readonly pool: ControlPool;
    readonly infos: ReadonlyMap<string, Info>;
    readonly exclude: ControlQuery['exclude'];
  },
): Promise<readonly Control[]> {
  const { pool, infos, exclude } = facts;
  const looked = new Set<string>();
  for (let tries = 0; ; tries += 1) {
    const offered = pool.offer();
    const open = unique(offered.map(({ traceId }) => traceId)).filter((id) => !looked.has(id));
    if (open.length === 0) return offered;
    // Enough is enough: those not looked at do without.
    if (tries === MOST_TRIES) return offered.filter(({ traceId }) => looked.has(traceId));
    for (const id of open) looked.add(id);
    const wholes = await traces.wholes(
      tally,
      open.flatMap((id) => infos.get(id) ?? []),
    );
    for (const { info, rows, told } of wholes) {
      pool.add(rows.filter(exclude));
      const searchable =
        info.tags[SPANS_LOCATION] === SEARCHED_SPANS && rows.some(({ runId }) => runId !== info.trace_id);
      for (const control of offered.filter(({ traceId }) => traceId === info.trace_id)) {
        const { key, text } = control.value;
        const tells = told.some((value) => value.key === key && value.text === text && !value.numeric);
        if (isOfTrace(control) && attributeOf(key) !== null && tells) inSpans.add(keyOf(control));
        if (isOfTrace(control) && searchable) withSpans.add(keyOf(control));
      }
    }
    for (const known of [inSpans, withSpans]) {
      for (const oldest of known) {
        if (known.size <= MOST_REMEMBERED) break;
        known.delete(oldest);
      }
    }
  }
}
