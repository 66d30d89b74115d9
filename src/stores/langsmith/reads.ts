import { chunks, isRefusal, pairsOf, resembles, seenIn, unique, Union } from '../rows.ts';
import type { Found } from '../rows.ts';
import type { Control, Finder, FindQuery, LookupQuery, LookupRoute, Read, Row, Window } from '../port.ts';
import { TooManyRows } from '../port.ts';
import type { Tally } from '../api.ts';
import { Capability } from '../capability.ts';
import type { LangSmithApi } from './api.ts';
import type { LangSmithConnection } from './config.ts';
import { anyOf, carries, hasNumberForm, or } from './filter.ts';
import type { RunsQuery, RunsRead, RunsRoute } from './runs.ts';
import { TooManyRuns } from './runs.ts';
import type { WireRun } from './schemas.ts';
import { bareKey, rowOf } from './schemas.ts';

/** Projects named in one call. No maximum is published; a list of UUIDs of this size is 4 kB. */
export const MOST_PROJECTS = 100;
/** Clauses of one expression; its length stays far below what servers take for a body. */
export const MOST_CLAUSES = 200;
/**
 * Ids in one list, and in one after the first size was refused. For v2 neither a maximum of `ids` is published nor
 * whether `in` takes `trace_id`: both are probed, the latter with controls in the same call.
 */
const LIST_SIZES = [1000, 100] as const;
/** Run ids in one v1 call: one page. */
const MOST_V1_RUN_IDS = 100;
/** Share of a page that a list of traces is meant to fill: some have more runs than most. */
const FILL = 0.95;
/** Controls that a list missed and that are looked at singly, to tell a list that fails from controls that are gone. */
const MOST_DOUBTS = 3;

/** Lists of one size. */
class ListCapability extends Capability {
  readonly size: number;
  proven = false;

  constructor(size: number) {
    super();
    this.size = size;
  }
  override broke(nowMs: number): void {
    this.proven = false;
    super.broke(nowMs);
  }
}

/** How many traces go into one list so that all their runs fit a page; learned from the lists before. */
interface Fit {
  traces: number;
}

/** The reads of one generation of the API. */
export class Reader {
  readonly #api: LangSmithApi;
  readonly #config: LangSmithConnection;
  readonly #runs: RunsRoute;
  /** Runs in one page. */
  readonly #page: number;
  readonly #numbers = new Capability();
  readonly #traceLists = LIST_SIZES.map((size) => new ListCapability(size));
  readonly #idLists: readonly ListCapability[];

  constructor(api: LangSmithApi, config: LangSmithConnection, runs: RunsRoute) {
    this.#api = api;
    this.#config = config;
    this.#runs = runs;
    this.#page = runs.generation === 'v1' ? MOST_V1_RUN_IDS : config.pageSize;
    const sizes = runs.generation === 'v1' ? [MOST_V1_RUN_IDS] : LIST_SIZES;
    // Never more ids than fit a page.
    this.#idLists = sizes.map((size) => new ListCapability(Math.min(size, config.pageSize)));
  }

  get route(): string {
    return this.#runs.route;
  }

  /** By person: one OR-ed expression over all keys and spellings, as finds are the scarcest calls. */
  finder(): Finder {
    return { name: `${this.#runs.generation} runs`, find: (query) => this.#find(query) };
  }

  /** By trace id, any depth. */
  lookup(): LookupRoute {
    return { name: `${this.#runs.generation} traces`, lookup: (query) => this.#lookup(query) };
  }

  /** Runs as the store tells them; see `RunsRoute.read`. */
  runs(tally: Tally, query: RunsQuery): Promise<RunsRead> {
    return this.#runs.read(tally, query);
  }

  /** All rows that answer a question. */
  async rows(tally: Tally, query: RunsQuery): Promise<Row[]> {
    return this.#rowsOf(await this.#runs.read(tally, query));
  }

  #rowsOf({ runs }: RunsRead): Row[] {
    return runs.map((run) => rowOf(run, this.#config.identifiers, this.#config.threads));
  }

  async #find({ projects, terms, window, controls, mostRows, progress }: FindQuery): Promise<Read> {
    const tally = this.#api.tally(progress);
    const union = new Union();
    const ids = projects.map(({ id }) => id);
    for (const { projectIds, here } of controlledChunks(ids, controls)) {
      // Each pair may take two clauses: as text and as a number.
      for (const pairs of chunks(pairsOf(terms), MOST_CLAUSES / 2)) {
        const forms = [...pairs.map(({ text }) => ({ text, numeric: false })), ...here.map(({ value }) => value)];
        const rows = await this.#withNumbers(forms.some(hasNumberForm), (numbers) => {
          const filter = or([
            ...pairs.flatMap(({ key, text }) => carries(bareKey(key), { text, numeric: false }, numbers)),
            ...here.flatMap(({ value, runId }) => carries(bareKey(value.key), value, numbers, runId)),
          ]);
          return this.#bounded(tally, { projectIds, window, filter }, mostRows);
        });
        const controlRuns = new Set(here.map(({ runId }) => runId));
        const theirs: Row[] = [];
        let strange = false;
        for (const row of rows) {
          if (pairs.some((pair) => resembles(row, pair))) theirs.push(row);
          else if (!controlRuns.has(row.runId)) strange = true;
        }
        if (strange) {
          throw this.#api.broken(
            tally,
            this.route,
            'runs came back that carry none of the values asked for: the store ignored the filter',
          );
        }
        union.add({ rows: theirs, seen: seenIn(rows, here) }, here);
      }
    }
    return this.#report(tally, 'find', window, controls, union.found);
  }

  async #bounded(tally: Tally, query: RunsQuery, mostRuns: number | undefined): Promise<Row[]> {
    if (mostRuns === undefined) return this.rows(tally, query);
    try {
      return await this.rows(tally, { ...query, mostRuns });
    } catch (error) {
      if (!(error instanceof TooManyRuns)) throw error;
      throw new TooManyRows(this.#rowsOf({ runs: error.runs, complete: false }));
    }
  }

  /** Asks with number forms as long as the server takes them. Whether it finds numbers then is up to the controls. */
  async #withNumbers<T>(wanted: boolean, ask: (numbers: boolean) => Promise<T>): Promise<T> {
    const nowMs = this.#api.nowMs();
    if (!wanted || !this.#numbers.usable(nowMs)) return ask(false);
    try {
      return await ask(true);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const answer = await ask(false);
      this.#numbers.broke(nowMs);
      return answer;
    }
  }

  async #lookup({ traces, window, controls, runsThere, progress }: LookupQuery): Promise<Read> {
    const tally = this.#api.tally(progress);
    const sorted = [...traces].sort((a, b) => (a.projectId < b.projectId ? -1 : a.projectId > b.projectId ? 1 : 0));
    const union = new Union();
    const asked = new Set<Control>();
    const fit: Fit = { traces: this.#fitting((runsThere ?? 0) / Math.max(1, traces.length), controls.length) };
    for (let at = 0; at < sorted.length;) {
      const part = partAt(sorted, at, fit.traces);
      at += part.length;
      const projects = new Set(part.map(({ projectId }) => projectId));
      const last = at >= sorted.length;
      const here = controls.filter((control) => projects.has(control.projectId) || (last && !asked.has(control)));
      // A part without a control of its own projects still has to show that the route works at all.
      const along = here.length > 0 ? here : controls.slice(0, 2);
      for (const control of along) asked.add(control);
      const places = new Map<string, string[]>();
      for (const { traceId, projectId } of part) places.set(traceId, [...(places.get(traceId) ?? []), projectId]);
      const found = await this.traces(tally, places, window, along, Number.POSITIVE_INFINITY, fit);
      if (found !== null) union.add(found, along);
    }
    return this.#report(tally, 'lookup', window, controls, union.found);
  }

  /**
   * Reads whole traces. Lists first, as long as the controls at their end are seen in the very same call; one by one,
   * by the documented field, when not.
   *
   * @param places the projects of each trace.
   * @param mostSingly more single reads than this are not made.
   * @param fit how many traces go into one list; kept up to date for the next ones.
   * @returns null when only single reads would work and there are too many.
   */
  async traces(
    tally: Tally,
    places: ReadonlyMap<string, readonly string[]>,
    window: Window,
    controls: readonly Control[],
    mostSingly: number,
    fit: Fit = { traces: LIST_SIZES[0] },
  ): Promise<Found | null> {
    for (const capability of this.#traceLists) {
      if (!capability.usable(this.#api.nowMs())) continue;
      const found = await this.#traceList(tally, places, window, controls, capability, fit);
      if (found !== null) return found;
      // Without controls a shorter list would say as little.
      if (controls.length === 0) break;
    }
    if (places.size > mostSingly) return null;
    // Every control is read once, some before and some after; a single one both times.
    const half = Math.ceil(controls.length / 2);
    const [first, last] = controls.length > 1 ? [controls.slice(0, half), controls.slice(half)] : [controls, controls];
    const before = await this.#visible(tally, window, first);
    const rows: Row[] = [];
    for (const [traceId, projectIds] of places) {
      rows.push(...(await this.rows(tally, { projectIds, window, traceId, sure: true })));
    }
    const after = await this.#visible(tally, window, last);
    const seen = controls.filter((control) =>
      controls.length > 1 ? before.has(control) || after.has(control) : before.has(control) && after.has(control),
    );
    return { rows, seen: new Set(seen) };
  }

  /**
   * Reads lists of traces, each list short enough for a single page: one answer can't shift while it is read, and whose
   * a trace is must not be judged by half of its runs (P17, P28).
   *
   * @returns null when the server does not understand lists of traces of this size.
   */
  async #traceList(
    tally: Tally,
    places: ReadonlyMap<string, readonly string[]>,
    window: Window,
    controls: readonly Control[],
    capability: ListCapability,
    fit: Fit,
  ): Promise<Found | null> {
    const union = new Union();
    const ends = new Set(controls.map(({ traceId }) => traceId));
    const open = [...places];
    while (open.length > 0) {
      const some = open.slice(0, Math.min(fit.traces, capability.size));
      const asked = new Set(some.map(([traceId]) => traceId));
      const list = [...[...asked].filter((traceId) => !ends.has(traceId)), ...ends];
      const projectIds = unique([...some.flatMap(([, ids]) => ids), ...controls.map(({ projectId }) => projectId)]);
      const query: RunsQuery = { projectIds, window, filter: anyOf('trace_id', list) };
      // Other traces: not an error yet, for the expression is undocumented and the documented way is still there.
      const isStrange = ({ trace_id: traceId }: WireRun): boolean => !asked.has(traceId) && !ends.has(traceId);
      let read: RunsRead;
      let strange: boolean;
      try {
        read = await this.#runs.read(tally, { ...query, mostPages: 1 });
        strange = read.runs.some(isStrange);
        const fitted = new Set(read.runs.map((run) => run.trace_id).filter((traceId) => asked.has(traceId))).size;
        if (!strange && !read.complete && some.length > 1 && fitted > 0) {
          fit.traces = Math.max(1, Math.min(Math.floor(fitted * FILL), Math.floor(some.length / 2)));
          continue;
        }
        if (!strange && !read.complete) read = await this.#runs.read(tally, { ...query, sure: true });
        strange ||= read.runs.some(isStrange);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        capability.broke(this.#api.nowMs());
        return null;
      }
      const rows = this.#rowsOf(read);
      const seen = seenIn(rows, controls);
      const theirs = rows.filter(({ traceId }) => asked.has(traceId));
      const missed = controls.filter((control) => !seen.has(control)).slice(0, MOST_DOUBTS);
      // A control that the documented read shows and the list does not.
      if (strange || (await this.#visible(tally, window, missed)).size > 0) {
        capability.broke(this.#api.nowMs());
        return null;
      }
      // Without any control an empty answer says nothing, unless lists were seen to work before.
      if (controls.length === 0 && theirs.length === 0 && !capability.proven) return null;
      if (seen.size > 0 || theirs.length > 0) capability.proven = true;
      union.add({ rows: theirs, seen }, controls);
      open.splice(0, some.length);
      fit.traces = this.#fitting(theirs.length / some.length, rows.length - theirs.length);
    }
    return union.found;
  }

  /** Traces of so many runs each that fill a page together with what else is in it. */
  #fitting(runsPerTrace: number, besides: number): number {
    if (runsPerTrace === 0) return LIST_SIZES[0];
    const room = Math.max(0, this.#page - besides) * FILL;
    return Math.max(1, Math.min(LIST_SIZES[0], Math.floor(room / runsPerTrace)));
  }

  /** Those of the controls that the documented read by trace shows. */
  async #visible(tally: Tally, window: Window, controls: readonly Control[]): Promise<ReadonlySet<Control>> {
    const seen = new Set<Control>();
    for (const control of controls) {
      const { projectId, traceId } = control;
      if (seenIn(await this.rows(tally, { projectIds: [projectId], window, traceId }), [control]).size > 0)
        seen.add(control);
    }
    return seen;
  }

  /** Runs by their own ids in the projects given; v1 ignores the projects. Controls ride at the end of each list. */
  async byRunIds(
    tally: Tally,
    ids: readonly string[],
    projectIds: readonly string[],
    window: Window,
    controls: readonly Control[],
  ): Promise<Found> {
    const here =
      this.#runs.generation === 'v1' ? controls : controls.filter(({ projectId }) => projectIds.includes(projectId));
    const ends = new Set(here.map(({ runId }) => runId));
    const nowMs = this.#api.nowMs();
    const usable = this.#idLists.filter((capability) => capability.usable(nowMs));
    const sizes = usable.length > 0 ? usable : this.#idLists.slice(-1);
    for (const [index, capability] of sizes.entries()) {
      try {
        const union = new Union();
        for (const some of chunks(ids, Math.max(1, capability.size - ends.size))) {
          const asked = new Set(some);
          const runIds = [...some.filter((id) => !ends.has(id)), ...ends];
          const rows = await this.rows(tally, { projectIds, window, runIds });
          union.add({ rows: rows.filter(({ runId }) => asked.has(runId)), seen: seenIn(rows, here) }, here);
        }
        return union.found;
      } catch (error) {
        if (!isRefusal(error) || index === sizes.length - 1) throw error;
        capability.broke(nowMs);
      }
    }
    return { rows: [], seen: new Set() };
  }

  #report(tally: Tally, purpose: 'find' | 'lookup', window: Window, controls: readonly Control[], found: Found): Read {
    return {
      rows: found.rows,
      controlsSeen: controls.map((control) => found.seen.has(control)),
      report: tally.report(purpose, window, controls.length, found.seen.size),
    };
  }
}

/**
 * Lists of projects short enough for one call, each with the controls that lie in it. One without any gets the project
 * of a control along: an empty answer must not come from a call that shows nothing.
 */
export function* controlledChunks(
  projectIds: readonly string[],
  controls: readonly Control[],
): Generator<{ readonly projectIds: readonly string[]; readonly here: readonly Control[] }> {
  const size = projectIds.length > MOST_PROJECTS ? MOST_PROJECTS - 1 : MOST_PROJECTS;
  for (const some of chunks(projectIds, size)) {
    const inside = controls.filter(({ projectId }) => some.includes(projectId));
    const [guest] = controls;
    if (inside.length > 0 || guest === undefined) {
      yield { projectIds: some, here: inside };
    } else {
      const here = controls.filter(({ projectId }) => projectId === guest.projectId);
      yield { projectIds: [...some, guest.projectId], here };
    }
  }
}

/** The next part: at most so many, of at most `MOST_PROJECTS` projects; sorted input keeps projects together. */
function partAt<T extends { readonly projectId: string }>(
  items: readonly T[],
  from: number,
  most: number,
): readonly T[] {
  const projects = new Set<string>();
  let to = from;
  for (; to < Math.min(items.length, from + most); to += 1) {
    projects.add(items[to]?.projectId ?? '');
    if (projects.size > MOST_PROJECTS) break;
  }
  return items.slice(from, to);
}
