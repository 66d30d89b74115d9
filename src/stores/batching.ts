import type { Clock } from '../erasure/clock.ts';
import type { Ask, Carry } from './convoy.ts';
import { Convoys } from './convoy.ts';
import type { KillSwitch } from './kill-switch.ts';
import type {
  Control,
  ControlQuery,
  ControlsFound,
  CopiesFound,
  Copy,
  DeleteOrder,
  FindQuery,
  Located,
  LocateQuery,
  LookupQuery,
  Progress,
  Project,
  Read,
  ReadReport,
  Receipt,
  Row,
  SearchTerm,
  TraceKey,
  TraceRef,
  TraceStore,
  Window,
} from './port.ts';
import { StoreError, TooManyRows } from './port.ts';
import { keyOf, PairIndex, pairsOf } from './rows.ts';

/** A step that asks for more traces than this goes on by itself: the others would wait for it. */
const HEAVY_TRACES = 1000;
/** Rows that a combined search reads before whoever has most of them is sent on by himself. */
const MOST_ROWS = 10_000;
/** Different controls in one combined call. */
const MOST_CONTROLS = 40;
/** Traces looked up in one combined call; longer lists only keep more in memory. */
const MOST_TRACES = 5_000;

/**
 * Lets the steps of many people share their calls (P20): look-ups, deletes and, where the language allows, searches of
 * one project ride in one call, and everybody gets only what is theirs. A row that nobody asked for fails the call for
 * all of them; a delete that the store refuses is halved until what it refuses stands alone; an outcome that is not known
 * is nobody's success.
 *
 * Steps say that they begin through `board`. What is asked without that goes through as it is.
 */
export function batched(inner: TraceStore, clock: Clock, killSwitch: KillSwitch): TraceStore {
  const convoys = new Convoys(clock);
  const { traits } = inner;

  /** Asks together with the others of the convoy, or at once when there is none. */
  function ask<Query, Answer>(
    member: Progress,
    channel: string,
    query: Query,
    alone: (query: Query) => Promise<Answer>,
    carry: Carry<Query, Answer>,
  ): Promise<Answer> {
    const convoy = convoys.of(member);
    return convoy === undefined ? alone(query) : convoy.ask(member, channel, query, carry);
  }

  async function findTogether(
    find: (query: FindQuery) => Promise<Read>,
    asks: readonly Ask<FindQuery, Read>[],
    progress: Progress,
  ): Promise<void> {
    const [first] = asks;
    if (first === undefined) return;
    if (asks.length === 1) {
      first.answer(await find(first.query));
      return;
    }
    const queries = asks.map(({ query }) => query);
    const controls = unite(queries.map((query) => query.controls));
    let read: Read;
    try {
      read = await find({
        projects: first.query.projects,
        terms: uniteTerms(queries),
        window: widest(queries),
        controls: controls.all,
        mostRows: MOST_ROWS,
        progress,
      });
    } catch (error) {
      if (!(error instanceof TooManyRows)) throw error;
      await findApart(find, asks, error.rows, progress);
      return;
    }
    const index = new PairIndex(asks.map(({ query }) => pairsOf(query.terms)));
    const rows = share(asks.length, read.rows, (row) => index.of(row.persons));
    const loose = share(asks.length, read.loose ?? [], (row) => index.of(row.persons));
    if (rows === null || loose === null) throw strange(read.report);
    asks.forEach((one, at) => {
      one.answer({
        ...shareOf(read, rows[at] ?? [], controls, one.query.controls, asks.length),
        ...(read.loose === undefined ? {} : { loose: loose[at] ?? [] }),
      });
    });
  }

  /** After a combined search had too many rows: whoever has most of them goes by himself, the others try again. */
  async function findApart(
    find: (query: FindQuery) => Promise<Read>,
    asks: readonly Ask<FindQuery, Read>[],
    rows: readonly Row[],
    progress: Progress,
  ): Promise<void> {
    const index = new PairIndex(asks.map(({ query }) => pairsOf(query.terms)));
    const counts = (share(asks.length, rows, (row) => index.of(row.persons)) ?? []).map(({ length }) => length);
    const most = counts.indexOf(Math.max(0, ...counts));
    const heavy = asks[most];
    if (heavy !== undefined && (counts[most] ?? 0) > rows.length / 4) {
      convoys.leave(heavy.member);
      const others = asks.filter((one) => one !== heavy);
      await Promise.all([each(find, [heavy]), findTogether(find, others, progress).catch(failAll(others))]);
      return;
    }
    const half = Math.ceil(asks.length / 2);
    for (const part of [asks.slice(0, half), asks.slice(half)]) {
      await findTogether(find, part, progress).catch(failAll(part));
    }
  }

  async function lookupTogether(
    lookup: (query: LookupQuery) => Promise<Read>,
    asks: readonly Ask<LookupQuery, Read>[],
    progress: Progress,
  ): Promise<void> {
    const [first] = asks;
    if (first === undefined) return;
    if (asks.length === 1) {
      first.answer(await lookup(first.query));
      return;
    }
    const queries = asks.map(({ query }) => query);
    const controls = unite(queries.map((query) => query.controls));
    const askedBy = ownersOf(queries.map(({ traces }) => traces.map(traceKey)));
    const read = await lookup({
      traces: uniteTraces(queries),
      window: widest(queries),
      controls: controls.all,
      runsThere: queries.reduce((sum, { runsThere = 0 }) => sum + runsThere, 0),
      progress,
    });
    const rows = share(asks.length, read.rows, (row) => askedBy.get(traceKey(row)) ?? []);
    if (rows === null) throw strange(read.report);
    asks.forEach((one, at) => {
      one.answer(shareOf(read, rows[at] ?? [], controls, one.query.controls, asks.length));
    });
  }

  async function locateTogether(asks: readonly Ask<LocateQuery, Located>[], progress: Progress): Promise<void> {
    const [first] = asks;
    if (first === undefined) return;
    if (asks.length === 1) {
      first.answer(await inner.locate(first.query));
      return;
    }
    const queries = asks.map(({ query }) => query);
    const controls = unite(queries.map((query) => query.controls));
    const askedBy = ownersOf(queries.map(({ ids }) => ids));
    const located = await inner.locate({
      ids: [...askedBy.keys()],
      projects: first.query.projects,
      window: widest(queries),
      controls: controls.all,
      progress,
    });
    const ownersOfRow = ({ runId, traceId }: Row): readonly number[] => [
      ...new Set([...(askedBy.get(runId) ?? []), ...(askedBy.get(traceId) ?? [])]),
    ];
    const rows = share(asks.length, located.rows, ownersOfRow);
    if (rows === null) throw strange(located.report);
    asks.forEach((one, at) => {
      const asked = new Set(one.query.ids);
      one.answer({
        ...shareOf(located, rows[at] ?? [], controls, one.query.controls, asks.length),
        wrongKind: new Map([...located.wrongKind].filter(([id]) => asked.has(id))),
      });
    });
  }

  async function controlsTogether(
    asks: readonly Ask<ControlQuery, ControlsFound>[],
    progress: Progress,
  ): Promise<void> {
    const [first] = asks;
    if (first === undefined) return;
    const queries = asks.map(({ query }) => query);
    const found = await inner.controls({
      ...first.query,
      window: widest(queries),
      want: Math.max(...queries.map(({ want }) => want)),
      // Whoever may not serve for one of them serves for nobody.
      exclude: (row) => queries.some(({ exclude }) => exclude(row)),
      progress: asks.length === 1 ? first.member : progress,
    });
    const answer = { ...found, reports: found.reports.map((report) => withPeople(report, asks.length)) };
    for (const one of asks) one.answer(answer);
  }

  interface CopiesQuery {
    readonly traces: readonly TraceKey[];
    readonly rows: readonly Row[];
  }

  async function copiesTogether(asks: readonly Ask<CopiesQuery, CopiesFound>[], progress: Progress): Promise<void> {
    const traces = new Map(asks.flatMap(({ query }) => query.traces.map((trace) => [traceKey(trace), trace])));
    const rows = new Map(asks.flatMap(({ query }) => query.rows.map((row) => [keyOf(row), row])));
    const found = await inner.copies([...traces.values()], [...rows.values()], progress);
    for (const one of asks) {
      const mine = new Set(one.query.traces.map(({ traceId }) => traceId));
      const concerns = ({ traceIds }: { readonly traceIds?: readonly string[] }): boolean =>
        traceIds === undefined || traceIds.some((traceId) => mine.has(traceId));
      one.answer({
        copies: found.copies.filter(({ traceId }) => mine.has(traceId)),
        outOfReach: found.outOfReach.filter(concerns),
        notExamined: found.notExamined.filter(concerns),
        reports: found.reports.map((report) => withPeople(report, asks.length)),
      });
    }
  }

  type Left = Awaited<ReturnType<TraceStore['lookupCopies']>>;

  async function lookupCopiesTogether(asks: readonly Ask<readonly Copy[], Left>[], progress: Progress): Promise<void> {
    const copies = new Map(asks.flatMap(({ query }) => query.map((copy) => [copyKey(copy), copy])));
    const found = await inner.lookupCopies([...copies.values()], progress);
    const left = new Set(found.left.map(copyKey));
    for (const one of asks) {
      one.answer({
        left: one.query.filter((copy) => left.has(copyKey(copy))),
        reports: found.reports.map((report) => withPeople(report, asks.length)),
      });
    }
  }

  async function submitTogether(asks: readonly Ask<DeleteOrder, Receipt>[], progress: Progress): Promise<void> {
    let open = asks;
    for (;;) {
      const withdrawn = new Map<Ask<DeleteOrder, Receipt>, unknown>();
      const lastWord = async (): Promise<void> => {
        await Promise.all(
          open.map((one) =>
            one.query.lastWord().catch((error: unknown) => {
              withdrawn.set(one, error);
            }),
          ),
        );
        if (withdrawn.size > 0) throw new Withdrawn();
      };
      const traces = [
        ...new Map(open.flatMap(({ query }) => query.traces.map((trace) => [trace.traceId, trace]))).values(),
      ];
      const projectId = open[0]?.query.projectId ?? '';
      try {
        const outcomes = await submitHalving({ projectId, traces, lastWord, progress });
        for (const one of open) settleOrder(one, outcomes, open.length);
        return;
      } catch (error) {
        // Nothing was sent: those who may not go on are left out, and the others ask once more.
        if (!(error instanceof Withdrawn)) throw error;
        for (const [one, why] of withdrawn) one.fail(why);
        open = open.filter((one) => !withdrawn.has(one) && !one.settled);
        if (open.length === 0) return;
      }
    }
  }

  type Outcomes = ReadonlyMap<string, Receipt | StoreError>;

  /** @throws StoreError when nobody knows what became of some of the traces (P20), or the delete was not wanted. */
  async function submitHalving(order: DeleteOrder): Promise<Outcomes> {
    const outcomes = new Map<string, Receipt | StoreError>();
    // Two refusals for each halving, and some more ids that are bad; a store that refuses everything is not asked on.
    let refusalsLeft = 2 * Math.ceil(Math.log2(order.traces.length + 1)) + 8;
    const send = async (traces: readonly TraceRef[]): Promise<void> => {
      try {
        const receipt = await inner.submit({ ...order, traces });
        const refused = new Set(receipt.refused ?? []);
        for (const { traceId } of traces) {
          if (!refused.has(traceId)) outcomes.set(traceId, receipt);
        }
      } catch (error) {
        if (!(error instanceof StoreError) || error.reason !== 'rejected' || killSwitch.tripped !== null) throw error;
        refusalsLeft -= 1;
        if (traces.length === 1 || refusalsLeft <= 0) {
          for (const { traceId } of traces) outcomes.set(traceId, error);
          return;
        }
        const half = Math.ceil(traces.length / 2);
        await send(traces.slice(0, half));
        await send(traces.slice(half));
      }
    };
    await send(order.traces);
    return outcomes;
  }

  function settleOrder(one: Ask<DeleteOrder, Receipt>, outcomes: Outcomes, people: number): void {
    let receipt: Receipt | null = null;
    let error: StoreError | null = null;
    const refused: string[] = [];
    for (const { traceId } of one.query.traces) {
      const outcome = outcomes.get(traceId);
      if (outcome instanceof StoreError || outcome === undefined) {
        error ??= outcome ?? null;
        refused.push(traceId);
      } else if (receipt === null || outcome.acknowledgedAtMs > receipt.acknowledgedAtMs) {
        receipt = outcome;
      }
    }
    if (receipt === null) {
      one.fail(error ?? new Error('a delete call ended without an outcome'));
      return;
    }
    const { refused: _others, ...answered } = receipt;
    one.answer({
      ...answered,
      ...(refused.length === 0 ? {} : { refused }),
      ...(people === 1 ? {} : { people }),
    });
  }

  const combinedFinds = traits.pageTokens !== 'offset' && traits.mostSpellingsPerFind > 1;

  return {
    ...inner,
    traits,
    normaliseId: (id) => inner.normaliseId(id),
    check: () => inner.check(),
    board: (member) => convoys.board(member),
    projects: (progress) =>
      ask<null, readonly Project[]>(
        progress,
        'projects',
        null,
        () => inner.projects(progress),
        async (asks, together) => {
          const projects = await inner.projects(together);
          for (const one of asks) one.answer(projects);
        },
      ),
    finders: inner.finders.map((finder) => {
      const find = (query: FindQuery): Promise<Read> => finder.find(query);
      return {
        ...finder,
        find: (query) =>
          ask(query.progress, `find ${finder.name} ${scopeOf(query)}`, query, find, (asks, progress) =>
            combinedFinds
              ? inParts(asks, findLoad(traits.mostSpellingsPerFind), (part) => findTogether(find, part, progress))
              : each(find, asks),
          ),
      };
    }),
    lookups: inner.lookups.map((route) => {
      const lookup = (query: LookupQuery): Promise<Read> => route.lookup(query);
      return {
        name: route.name,
        lookup: (query) => {
          if (query.traces.length > HEAVY_TRACES) convoys.leave(query.progress);
          return ask(query.progress, `lookup ${route.name}`, query, lookup, (asks, progress) =>
            inParts(asks, lookupLoad(), (part) => lookupTogether(lookup, part, progress)),
          );
        },
      };
    }),
    locate: (query) =>
      ask(
        query.progress,
        `locate ${query.projects.map(({ id }) => id).join(' ')}`,
        query,
        (alone) => inner.locate(alone),
        (asks, progress) => inParts(asks, locateLoad(), (part) => locateTogether(part, progress)),
      ),
    controls: (query) =>
      ask(
        query.progress,
        `controls ${scopeOf(query)}`,
        query,
        (alone) => inner.controls(alone),
        (asks, progress) => controlsTogether(asks, progress),
      ),
    copies: (traces, rows, progress) =>
      ask<CopiesQuery, CopiesFound>(
        progress,
        'copies',
        { traces, rows },
        (alone) => inner.copies(alone.traces, alone.rows, progress),
        (asks, together) => copiesTogether(asks, together),
      ),
    lookupCopies: (copies, progress) =>
      ask<readonly Copy[], Left>(
        progress,
        'copies again',
        copies,
        (alone) => inner.lookupCopies(alone, progress),
        (asks, together) => lookupCopiesTogether(asks, together),
      ),
    submit: (order) =>
      ask(
        order.progress,
        `submit ${order.projectId}`,
        order,
        async (alone) => {
          const outcomes = await submitHalving(alone);
          return new Promise<Receipt>((answer, fail) => {
            settleOrder({ member: alone.progress, query: alone, answer, fail, settled: false }, outcomes, 1);
          });
        },
        (asks, progress) => inParts(asks, deleteLoad(traits), (part) => submitTogether(part, progress)),
      ),
  };
}

/** Thrown before a delete call leaves, when some of those it is made for must not go on. Reaches nobody. */
class Withdrawn extends Error {}

/** Whether one more question fits into a call. Called once for each, in order; a fresh one for each call. */
interface Load<Query> {
  takes(query: Query): boolean;
}

/** Makes calls of as many questions as fit, side by side; what goes wrong in one concerns only those in it. */
async function inParts<Query, Answer>(
  asks: readonly Ask<Query, Answer>[],
  newLoad: () => Load<Query>,
  carry: (part: readonly Ask<Query, Answer>[]) => Promise<void>,
): Promise<void> {
  const parts: Ask<Query, Answer>[][] = [];
  let load = newLoad();
  for (const one of asks) {
    const part = parts.at(-1);
    if (part !== undefined && load.takes(one.query)) {
      part.push(one);
      continue;
    }
    load = newLoad();
    load.takes(one.query);
    parts.push([one]);
  }
  await Promise.all(parts.map((part) => carry(part).catch(failAll(part))));
}

function each<Query, Answer>(
  alone: (query: Query) => Promise<Answer>,
  asks: readonly Ask<Query, Answer>[],
): Promise<void> {
  return Promise.all(
    asks.map(async (one) => {
      try {
        one.answer(await alone(one.query));
      } catch (error) {
        one.fail(error);
      }
    }),
  ).then(() => undefined);
}

function failAll<Query, Answer>(asks: readonly Ask<Query, Answer>[]): (error: unknown) => void {
  return (error) => {
    for (const one of asks) one.fail(error);
  };
}

/** Counts what goes into a call; the first question always fits. */
function counting<Query>(most: number, count: (query: Query) => number): Load<Query> {
  let total = 0;
  return {
    takes: (query) => {
      const more = count(query);
      if (total > 0 && total + more > most) return false;
      total += more;
      return true;
    },
  };
}

function withControls<Query extends { readonly controls: readonly Control[] }>(load: Load<Query>): Load<Query> {
  const controls = new Set<string>();
  return {
    takes: (query) => {
      const all = new Set([...controls, ...query.controls.map(controlKey)]);
      if (controls.size > 0 && all.size > MOST_CONTROLS) return false;
      if (!load.takes(query)) return false;
      for (const key of all) controls.add(key);
      return true;
    },
  };
}

function findLoad(mostSpellings: number): () => Load<FindQuery> {
  return () => withControls(counting(mostSpellings, ({ terms }) => pairsOf(terms).length));
}

/** A trace that is somebody's control is not asked for in the same call: whose answer it is would be unclear. */
function lookupLoad(): () => Load<LookupQuery> {
  return () => {
    const asked = new Set<string>();
    const barred = new Set<string>();
    const rest = withControls<LookupQuery>(counting(MOST_TRACES, ({ traces }) => traces.length));
    return {
      takes: (query) => {
        const traces = query.traces.map(traceKey);
        const controls = query.controls.map(traceKey);
        if (traces.some((key) => barred.has(key)) || controls.some((key) => asked.has(key))) return false;
        if (!rest.takes(query)) return false;
        for (const key of traces) asked.add(key);
        for (const key of controls) barred.add(key);
        return true;
      },
    };
  };
}

function locateLoad(): () => Load<LocateQuery> {
  return () => withControls(counting(MOST_TRACES, ({ ids }) => ids.length));
}

function deleteLoad({ deletesBy, mostIdsPerDelete }: TraceStore['traits']): () => Load<DeleteOrder> {
  const count = ({ traces }: DeleteOrder): number =>
    deletesBy === 'trace'
      ? traces.length
      : traces.reduce((sum, { rowIds = [] }) => sum + Math.max(1, rowIds.length), 0);
  return () => counting(mostIdsPerDelete, count);
}

interface UnitedControls {
  readonly all: readonly Control[];
  /** Position in `all` by key. */
  readonly at: ReadonlyMap<string, number>;
}

function unite(of: readonly (readonly Control[])[]): UnitedControls {
  const all = [...new Map(of.flat().map((control) => [controlKey(control), control])).values()];
  return { all, at: new Map(all.map((control, at) => [controlKey(control), at])) };
}

function controlKey({ projectId, traceId, runId, value }: Control): string {
  return JSON.stringify([projectId, traceId, runId, value.key, value.text, value.numeric]);
}

function traceKey({ projectId, traceId }: TraceKey): string {
  return `${projectId} ${traceId}`;
}

function copyKey({ kind, id }: Copy): string {
  return `${kind} ${id}`;
}

/** Questions with the same projects and keys may be put together. */
function scopeOf(query: {
  readonly projects: readonly Project[];
  readonly terms: readonly Pick<SearchTerm, 'kind' | 'keys'>[];
}): string {
  return JSON.stringify([query.projects.map(({ id }) => id), query.terms.map(({ kind, keys }) => [kind, keys])]);
}

function uniteTerms(queries: readonly FindQuery[]): readonly SearchTerm[] {
  const byKind = new Map<string, { kind: string; keys: readonly string[]; variants: Set<string> }>();
  for (const { kind, keys, variants } of queries.flatMap(({ terms }) => terms)) {
    const name = JSON.stringify([kind, keys]);
    const term = byKind.get(name) ?? { kind, keys, variants: new Set<string>() };
    byKind.set(name, term);
    for (const variant of variants) term.variants.add(variant);
  }
  return [...byKind.values()].map((term) => ({ ...term, variants: [...term.variants] }));
}

function uniteTraces(queries: readonly LookupQuery[]): readonly TraceRef[] {
  const traces = new Map<string, TraceRef>();
  for (const trace of queries.flatMap((query) => query.traces)) {
    const known = traces.get(traceKey(trace))?.rowIds ?? [];
    const rowIds = [...new Set([...known, ...(trace.rowIds ?? [])])];
    traces.set(traceKey(trace), { projectId: trace.projectId, traceId: trace.traceId, rowIds });
  }
  return [...traces.values()];
}

function widest(queries: readonly { readonly window: Window }[]): Window {
  return {
    fromMs: Math.min(...queries.map(({ window }) => window.fromMs)),
    toMs: Math.max(...queries.map(({ window }) => window.toMs)),
  };
}

/** Who asked for what: positions of the questions by what they name. */
function ownersOf(named: readonly (readonly string[])[]): ReadonlyMap<string, readonly number[]> {
  const owners = new Map<string, number[]>();
  named.forEach((names, at) => {
    for (const name of new Set(names)) {
      const of = owners.get(name);
      if (of === undefined) owners.set(name, [at]);
      else of.push(at);
    }
  });
  return owners;
}

/** Deals rows out to the questions they answer. @returns null when one answers none (P20). */
function share<T>(count: number, rows: readonly T[], ownersOfRow: (row: T) => readonly number[]): T[][] | null {
  const shares = Array.from({ length: count }, (): T[] => []);
  for (const row of rows) {
    const owners = ownersOfRow(row);
    if (owners.length === 0) return null;
    for (const at of owners) shares[at]?.push(row);
  }
  return shares;
}

function strange({ route, requestIds }: ReadReport): StoreError {
  return new StoreError({
    reason: 'contract-broken',
    route,
    status: 200,
    requestId: requestIds.at(-1) ?? null,
    advice: 'a row came back that none of those asked for who share the call: the store did not apply the filter',
  });
}

function shareOf(
  read: Read,
  rows: readonly Row[],
  controls: UnitedControls,
  mine: readonly Control[],
  people: number,
): Read {
  const seen = mine.map((control) => read.controlsSeen[controls.at.get(controlKey(control)) ?? -1] ?? false);
  return {
    rows,
    controlsSeen: seen,
    report: {
      ...withPeople(read.report, people),
      rows: rows.length,
      controlsAsked: mine.length,
      controlsSeen: seen.filter(Boolean).length,
    },
  };
}

function withPeople(report: ReadReport, people: number): ReadReport {
  return people === 1 ? report : { ...report, people };
}
