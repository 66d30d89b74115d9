import type { Clock } from '../erasure/clock.ts';
import { virtualNow } from '../erasure/clock.ts';
import { MINUTE_MS } from '../erasure/rhythm.ts';
import type { Ask, Carry, ConvoyOptions } from './convoy.ts';
import { Abandoned, Convoys, newAsk } from './convoy.ts';
import type { KillSwitch } from './guard.ts';
import type {
  Control,
  ControlQuery,
  ControlsFound,
  CopiesErased,
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
import { keyOf, PairIndex, pairsOf, valuesOf, type Searchable } from './rows.ts';

/** How much goes into one call, and how long steps wait for each other. */
export interface BatchingOptions extends ConvoyOptions {
  /**
   * A step that looks up more traces than this goes on by itself: the others would wait for it.
   *
   * @default 1,000
   */
  readonly heavyTraces?: number;
  /**
   * Rows that a combined search reads before whoever has most of them is sent on by himself.
   *
   * @default 10,000
   */
  readonly mostRows?: number;
  /**
   * Different controls in one combined call.
   *
   * @default 40
   */
  readonly mostControls?: number;
  /**
   * Traces looked up in one combined call; longer lists only keep more in memory.
   *
   * @default 5,000
   */
  readonly mostTraces?: number;
  /**
   * Rows whose copies are asked for in one combined call. Well below what a connector looks through in one question: what
   * it leaves unexamined above that weakens the verdict of everybody who shares the call.
   *
   * @default 20,000
   */
  readonly mostCopyRows?: number;
  /**
   * After a shared call failed for a reason that one question of it may be, questions of that sort go apart for so many
   * virtual milliseconds, or one odd request would fail those who share with it again and again (P26). Longer than the
   * first pauses between two probes of a lane, so that these go apart.
   *
   * @default 900,000
   */
  readonly apartMs?: number;
}

const DEFAULTS = {
  heavyTraces: 1000,
  mostRows: 10_000,
  mostControls: 40,
  mostTraces: 5_000,
  mostCopyRows: 20_000,
  apartMs: 15 * MINUTE_MS,
} as const;

/**
 * Lets the steps of many people share their calls (P20): look-ups, deletes and, where the language allows, searches of
 * one project ride in one call, and everybody gets only what is theirs. A row that nobody asked for fails the call for
 * all of them; a call that the store refuses is halved until what it refuses stands alone; an outcome that is not known
 * is nobody's success.
 *
 * Steps say that they begin through `board`. What is asked without that goes through as it is.
 */
export function batched(
  inner: TraceStore,
  clock: Clock,
  killSwitch: KillSwitch,
  options: BatchingOptions = {},
): TraceStore {
  const { heavyTraces, mostRows, mostControls, mostTraces, mostCopyRows, apartMs } = { ...DEFAULTS, ...options };
  const convoys = new Convoys(clock, options);
  const { traits } = inner;
  const eraseCopies = inner.eraseCopies?.bind(inner);
  /** By sort of question, until when they go apart, virtual epoch milliseconds. */
  const apartUntilMs = new Map<string, number>();

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

  /** Makes calls of as many questions as fit, side by side; what goes wrong in one concerns only those in it. */
  async function inParts<Query, Answer>(
    asks: readonly Ask<Query, Answer>[],
    progress: Progress,
    { sort, newLoad, halves, carry }: Ride<Query, Answer>,
  ): Promise<void> {
    const apart = (apartUntilMs.get(sort) ?? Number.NEGATIVE_INFINITY) > virtualNow(clock);
    const parts = apart ? asks.map((one) => [one]) : partsOf(asks, newLoad);
    await Promise.all(parts.map((part) => carryPart(part, freshRefusals(part.length))));

    async function carryPart(part: readonly Ask<Query, Answer>[], refusals: Refusals): Promise<void> {
      const open = part.filter(({ settled }) => !settled);
      const [only] = open;
      if (only === undefined) return;
      try {
        await carry(open, open.length === 1 ? only.member : progress, (some) => carryPart(some, refusals));
        refusals.left = refusals.most;
      } catch (error) {
        if (halves && isRefused(error)) {
          refusals.left -= 1;
          if (open.length > 1 && refusals.left > 0) {
            const half = Math.ceil(open.length / 2);
            await carryPart(open.slice(0, half), refusals);
            await carryPart(open.slice(half), refusals);
            return;
          }
        } else if (open.length > 1 && mayBeOnesFault(error)) apartUntilMs.set(sort, virtualNow(clock) + apartMs);
        failAll(open)(error);
      }
    }
  }

  function findRide(sort: string, find: (query: FindQuery) => Promise<Read>): Ride<FindQuery, Read> {
    return {
      sort,
      newLoad: () => findLoad(traits.mostSpellingsPerFind, mostControls),
      halves: true,
      carry: (asks, progress, again) => findTogether(find, asks, progress, again),
    };
  }

  async function findTogether(
    find: (query: FindQuery) => Promise<Read>,
    asks: readonly Ask<FindQuery, Read>[],
    progress: Progress,
    again: Again<FindQuery, Read>,
  ): Promise<void> {
    const [first] = asks;
    if (first === undefined) return;
    if (asks.length === 1) {
      first.answer(await find(first.query));
      return;
    }
    const queries = asks.map(({ query }) => query);
    const controls = unite(queries.map((query) => query.controls));
    const ownersOfValues = valueOwners(queries);
    let read: Read;
    try {
      read = await find({
        projects: first.query.projects,
        terms: uniteTerms(queries),
        window: widest(queries),
        controls: controls.all,
        mostRows,
        progress,
      });
    } catch (error) {
      if (!(error instanceof TooManyRows)) throw error;
      await findApart(find, asks, share(asks.length, error.rows, ownersOfValues), again);
      return;
    }
    const rows = share(asks.length, read.rows, ownersOfValues);
    const loose = share(asks.length, read.loose ?? [], ownersOfValues);
    if (rows === null || loose === null) throw strange(read.report);
    asks.forEach((one, at) => {
      const projectIds = one.query.projects.map(({ id }) => id);
      answerShare(one, read, { rows: rows[at] ?? [], controls, projectIds, people: asks.length }, (mine) => ({
        ...mine,
        ...(read.loose === undefined ? {} : { loose: loose[at] ?? [] }),
      }));
    });
  }

  /** After a combined search had too many rows: whoever has most of them goes by himself, the others try again. */
  async function findApart(
    find: (query: FindQuery) => Promise<Read>,
    asks: readonly Ask<FindQuery, Read>[],
    shares: readonly (readonly Row[])[] | null,
    again: Again<FindQuery, Read>,
  ): Promise<void> {
    const counts = (shares ?? []).map(({ length }) => length);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const most = counts.indexOf(Math.max(0, ...counts));
    const heavy = asks[most];
    if (heavy !== undefined && (counts[most] ?? 0) > total / 4) {
      convoys.leave(heavy.member);
      await Promise.all([each(find, [heavy]), again(asks.filter((one) => one !== heavy))]);
      return;
    }
    const half = Math.ceil(asks.length / 2);
    await again(asks.slice(0, half));
    await again(asks.slice(half));
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
    const askedBy = ownersOf(
      queries.map(({ traces }) =>
        traces.flatMap((trace) => [
          traceKey(trace),
          ...(trace.rowIds ?? []).map((rowId) => rowKey(trace.projectId, rowId)),
        ]),
      ),
    );
    const traceIds = new Set(queries.flatMap(({ traces }) => traces.map(({ traceId }) => traceId)));
    const read = await lookup({
      traces: uniteTraces(queries.flatMap(({ traces }) => traces)),
      window: widest(queries),
      controls: controls.all,
      runsThere: queries.reduce((sum, { runsThere = 0 }) => sum + runsThere, 0),
      progress,
    });
    const rows = share(asks.length, read.rows, (row) => {
      const owners = [
        ...new Set([...(askedBy.get(traceKey(row)) ?? []), ...(askedBy.get(rowKey(row.projectId, row.runId)) ?? [])]),
      ];
      // An application may write one trace to several projects; here it lies in one that only others asked about.
      return owners.length > 0 || traceIds.has(row.traceId) ? owners : null;
    });
    if (rows === null) throw strange(read.report);
    asks.forEach((one, at) => {
      const projectIds = one.query.traces.map(({ projectId }) => projectId);
      const own = new Set(one.query.traces.map(traceKey));
      const notExamined = (read.notExamined ?? [])
        .map(({ kind, traces }) => ({ kind, traces: traces.filter((trace) => own.has(traceKey(trace))) }))
        .filter(({ traces }) => traces.length > 0);
      answerShare(one, read, { rows: rows[at] ?? [], controls, projectIds, people: asks.length }, (mine) => ({
        ...mine,
        ...(notExamined.length === 0 ? {} : { notExamined }),
      }));
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
    const rows = share(asks.length, located.rows, ({ runId, traceId }) => {
      const owners = [...new Set([...(askedBy.get(runId) ?? []), ...(askedBy.get(traceId) ?? [])])];
      return owners.length > 0 ? owners : null;
    });
    if (rows === null) throw strange(located.report);
    asks.forEach((one, at) => {
      const asked = new Set(one.query.ids);
      const projectIds = one.query.projects.map(({ id }) => id);
      answerShare(one, located, { rows: rows[at] ?? [], controls, projectIds, people: asks.length }, (mine) => ({
        ...mine,
        wrongKind: new Map([...located.wrongKind].filter(([id]) => asked.has(id))),
      }));
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
      progress,
    });
    const answer = { ...found, reports: found.reports.map((report) => withPeople(report, asks.length)) };
    for (const one of asks) one.answer(answer);
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

  interface CopiesToErase {
    readonly copies: readonly Copy[];
    readonly lastWord: () => Promise<void>;
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

  /**
   * Deletes what several orders name by as few calls as the store takes. A refused call is halved until what the store
   * refuses stands alone; who withdraws at the last word is left out, and the others go, unless a part has left already.
   *
   * @throws whatever leaves open what became of some of the traces (P20); the orders of which all is known are answered.
   */
  async function submitTogether(asks: readonly Ask<DeleteOrder, Receipt>[], progress: Progress): Promise<void> {
    const projectId = asks[0]?.query.projectId ?? '';
    const named = new Map(asks.map((one) => [one, new Set(one.query.traces.map(({ traceId }) => traceId))]));
    const outcomes = new Map<string, Outcome>();
    const all = uniteTraces(asks.flatMap(({ query }) => query.traces));
    const refusals = freshRefusals(all.length);
    let open = asks;
    const isTold = ({ query }: Ask<DeleteOrder, Receipt>): boolean =>
      query.traces.every(({ traceId }) => outcomes.has(traceId));

    const send = async (traces: readonly TraceRef[]): Promise<void> => {
      for (;;) {
        const riders = open.filter((one) => !one.settled && traces.some(({ traceId }) => named.get(one)?.has(traceId)));
        const wanted = traces.filter(({ traceId }) => riders.some((one) => named.get(one)?.has(traceId)));
        if (wanted.length === 0) return;
        const withdrawn = new Map<Ask<DeleteOrder, Receipt>, unknown>();
        const part = { left: false };
        const lastWord = async (): Promise<void> => {
          await askLastWords(riders, withdrawn);
          part.left = true;
          for (const one of riders) one.firm = true;
        };
        const release = (): void => {
          for (const one of riders) one.firm = false;
        };
        try {
          const receipt = await inner.submit({ projectId, traces: wanted, lastWord, progress });
          const refused = new Set(receipt.refused ?? []);
          const taken: Taken = { receipt, people: riders.length };
          for (const { traceId } of wanted) {
            outcomes.set(traceId, refused.has(traceId) ? refusedAlone(receipt) : taken);
          }
          refusals.left = refusals.most;
          for (const one of riders) if (isTold(one)) settleOrder(one, outcomes, null);
          release();
          return;
        } catch (error) {
          // What is sent from here on is another call, which they may still stop.
          release();
          if (error instanceof Withdrawn) {
            // As long as nothing was sent, the others ask once more. What a store takes in several calls may be there in
            // part: sent anew, it would be deleted twice, and only a read can tell what is left.
            const over = part.left ? riders : [...withdrawn.keys()];
            for (const one of over) settleOrder(one, outcomes, withdrawn.get(one) ?? brokenOff());
            open = open.filter((one) => !over.includes(one));
            continue;
          }
          if (!(error instanceof StoreError) || error.reason !== 'rejected' || killSwitch.tripped !== null) throw error;
          // Some of it was deleted: sent again, its traces would be refused or gone without ever having been sent.
          if (error.partlyDone) throw error;
          refusals.left -= 1;
          if (wanted.length === 1 || refusals.left <= 0) {
            for (const { traceId } of wanted) outcomes.set(traceId, error);
            return;
          }
          const half = Math.ceil(wanted.length / 2);
          await send(wanted.slice(0, half));
          await send(wanted.slice(half));
          return;
        }
      }
    };

    let why: unknown = new Error('a delete call ended without an outcome');
    try {
      await send(all);
    } catch (error) {
      why = error;
      throw error;
    } finally {
      for (const one of open) settleOrder(one, outcomes, why);
    }
  }

  function submitAlone(order: DeleteOrder): Promise<Receipt> {
    const { ask: one, answer } = newAsk<DeleteOrder, Receipt>(order.progress, order);
    submitTogether([one], order.progress).catch(one.fail);
    return answer;
  }

  const combinedFinds = traits.pageTokens !== 'offset' && traits.mostSpellingsPerFind > 1;

  return {
    ...inner,
    traits,
    normaliseId: (id) => inner.normaliseId(id),
    check: () => inner.check(),
    board: (member, request) => convoys.board(member, request),
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
      const ride = findRide(`find ${finder.name}`, find);
      return {
        ...finder,
        find: (query) =>
          ask(query.progress, `${ride.sort} ${scopeOf(query)}`, query, find, (asks, progress) =>
            combinedFinds ? inParts(asks, progress, ride) : each(find, asks),
          ),
      };
    }),
    lookups: inner.lookups.map((route) => {
      const lookup = (query: LookupQuery): Promise<Read> => route.lookup(query);
      const ride: Ride<LookupQuery, Read> = {
        sort: `lookup ${route.name}`,
        newLoad: () => lookupLoad(mostTraces, mostControls),
        halves: true,
        carry: (asks, progress) => lookupTogether(lookup, asks, progress),
      };
      return {
        ...route,
        lookup: (query) => {
          if (query.traces.length > heavyTraces) convoys.leave(query.progress);
          return ask(query.progress, ride.sort, query, lookup, (asks, progress) => inParts(asks, progress, ride));
        },
      };
    }),
    locate: (query) =>
      ask(
        query.progress,
        `locate ${query.projects.map(({ id }) => id).join(' ')}`,
        query,
        (alone) => inner.locate(alone),
        (asks, progress) =>
          inParts(asks, progress, {
            sort: 'locate',
            newLoad: () =>
              withControls(
                mostControls,
                counting(mostTraces, ({ ids }) => ids.length),
              ),
            halves: true,
            carry: locateTogether,
          }),
      ),
    controls: (query) =>
      ask(query.progress, `controls ${scopeOf(query)}`, query, (alone) => inner.controls(alone), controlsTogether),
    copies: (traces, rows, progress) =>
      ask<CopiesQuery, CopiesFound>(
        progress,
        'copies',
        { traces, rows },
        (alone) => inner.copies(alone.traces, alone.rows, progress),
        (asks, together) =>
          inParts(asks, together, {
            sort: 'copies',
            newLoad: () => copiesLoad(mostCopyRows),
            halves: true,
            carry: copiesTogether,
          }),
      ),
    lookupCopies: (copies, progress) =>
      ask<readonly Copy[], Left>(
        progress,
        'copies again',
        copies,
        (alone) => inner.lookupCopies(alone, progress),
        (asks, together) =>
          inParts(asks, together, {
            sort: 'copies again',
            newLoad: anything,
            halves: true,
            carry: lookupCopiesTogether,
          }),
      ),
    ...(eraseCopies === undefined
      ? {}
      : {
          // Each by himself, since holds are each one's own; in the same moment, so that a store can share its looks.
          eraseCopies: (copies, lastWord, progress) =>
            ask<CopiesToErase, CopiesErased>(
              progress,
              'erase copies',
              { copies, lastWord },
              (alone) => eraseCopies(alone.copies, alone.lastWord, progress),
              (asks) =>
                Promise.all(
                  asks.map((one) => {
                    const lastWord = async (): Promise<void> => {
                      await one.query.lastWord();
                      assertWanted(one);
                      one.firm = true;
                    };
                    return eraseCopies(one.query.copies, lastWord, one.member).then(one.answer, one.fail);
                  }),
                ).then(() => undefined),
            ),
        }),
    submit: (order) =>
      ask(order.progress, `submit ${order.projectId}`, order, submitAlone, (asks, progress) =>
        inParts(asks, progress, {
          sort: 'submit',
          newLoad: () => deleteLoad(traits),
          // By its ids, not by its people: see there.
          halves: false,
          carry: submitTogether,
        }),
      ),
  };
}

/** Thrown before a delete call leaves, when some of those it is made for must not go on. Reaches nobody. */
class Withdrawn extends Error {}

/** A last word is worth so many real milliseconds: a hold that comes later stands in a file that only asking again reads. */
const WORD_MS = 2_000;

/** So often the last words are asked for until all of them are new enough together. */
const MOST_ASKED = 5;

/**
 * Asks all who share a call for their last word. Those who do not give it come to stand in `withdrawn` with the reason.
 *
 * @throws Withdrawn when there are any; StoreError when the words do not come together in time. Then all that were given
 *   are taken back.
 */
async function askLastWords(
  riders: readonly Ask<DeleteOrder, Receipt>[],
  withdrawn: Map<Ask<DeleteOrder, Receipt>, unknown>,
): Promise<void> {
  const givenAtMs = new Map<Ask<DeleteOrder, Receipt>, number>();
  const takeBack = (some: Iterable<Ask<DeleteOrder, Receipt>>): void => {
    for (const one of some) {
      givenAtMs.delete(one);
      one.query.notSent?.();
    }
  };
  let missing = riders;
  for (let asked = 0; asked < MOST_ASKED && missing.length > 0 && withdrawn.size === 0; asked += 1) {
    await Promise.all(
      missing.map(async (one) => {
        try {
          await one.query.lastWord();
          givenAtMs.set(one, performance.now());
        } catch (error) {
          withdrawn.set(one, error);
        }
      }),
    );
    const leastMs = performance.now() - WORD_MS;
    missing = [...givenAtMs].filter(([, atMs]) => atMs < leastMs).map(([one]) => one);
    takeBack(missing);
  }
  // Asked again together: while the last of them was waited for, another may have been told to stop.
  for (const one of givenAtMs.keys()) {
    try {
      assertWanted(one);
    } catch (error) {
      withdrawn.set(one, error);
    }
  }
  if (withdrawn.size === 0 && missing.length === 0) return;
  takeBack([...givenAtMs.keys()]);
  throw withdrawn.size > 0 ? new Withdrawn() : tooSlow();
}

/** @throws what told the step to stop. */
function assertWanted(one: Pick<Ask<unknown, unknown>, 'member' | 'settled'>): void {
  one.member();
  if (one.settled) throw new Withdrawn();
}

function tooSlow(): StoreError {
  const advice = 'it took too long to hear whether all who share the call may still go on';
  return new StoreError({ reason: 'unreachable', route: 'delete', status: null, requestId: null, advice });
}

/** For those who share a call of which a part had left when another of them was stopped. */
function brokenOff(): StoreError {
  const advice = 'a part of the delete may have left before another person of it was stopped; everything is read again';
  return new StoreError({ reason: 'unreachable', route: 'delete', status: null, requestId: null, advice });
}

/** Whether one more question fits into a call. Called once for each, in order; a fresh one for each call. */
interface Load<Query> {
  takes(query: Query): boolean;
}

/** Carries some of the questions of a call again, by a call of their own. */
type Again<Query, Answer> = (some: readonly Ask<Query, Answer>[]) => Promise<void>;

/** How questions of one sort are put together. */
interface Ride<Query, Answer> {
  readonly sort: string;
  readonly newLoad: () => Load<Query>;
  /** Whether a refused call is made again for one half of the questions and then for the other. */
  readonly halves: boolean;
  readonly carry: (
    asks: readonly Ask<Query, Answer>[],
    progress: Progress,
    again: Again<Query, Answer>,
  ) => Promise<void>;
}

/** Refusals that are still followed up by halves of the call; a call that the store takes makes them all good. */
interface Refusals {
  readonly most: number;
  left: number;
}

/** Two refusals for each halving, and some more for further culprits: a store that refuses everything is not asked on. */
function freshRefusals(count: number): Refusals {
  const most = 2 * Math.ceil(Math.log2(count + 1)) + 8;
  return { most, left: most };
}

/** Whether the store refused what was asked, so that less of it may pass. */
function isRefused(error: unknown): boolean {
  if (!(error instanceof StoreError)) return false;
  return error.reason === 'rejected' || error.reason === 'denied' || (error.reason === 'gone' && !error.retired);
}

/** Whether a call may have failed because of one of those who share it; that all of them were stopped is not. */
function mayBeOnesFault(error: unknown): boolean {
  if (error instanceof Abandoned) return false;
  if (!(error instanceof StoreError) || error.partlyDone) return true;
  return error.reason === 'contract-broken' || error.reason === 'unreachable';
}

function partsOf<Query, Answer>(
  asks: readonly Ask<Query, Answer>[],
  newLoad: () => Load<Query>,
): readonly (readonly Ask<Query, Answer>[])[] {
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
  return parts;
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

function anything(): Load<unknown> {
  return { takes: () => true };
}

function withControls<Query extends { readonly controls: readonly Control[] }>(
  most: number,
  load: Load<Query>,
): Load<Query> {
  const controls = new Set<string>();
  return {
    takes: (query) => {
      const all = new Set([...controls, ...query.controls.map(controlKey)]);
      if (controls.size > 0 && all.size > most) return false;
      if (!load.takes(query)) return false;
      for (const key of all) controls.add(key);
      return true;
    },
  };
}

function findLoad(mostSpellings: number, mostControls: number): Load<FindQuery> {
  return withControls(
    mostControls,
    counting(mostSpellings, ({ terms }) => pairsOf(terms).length),
  );
}

/** A trace that is somebody's control is not asked for in the same call: whose answer it is would be unclear. */
function lookupLoad(mostTraces: number, mostControls: number): Load<LookupQuery> {
  const asked = new Set<string>();
  const barred = new Set<string>();
  const rest = withControls<LookupQuery>(
    mostControls,
    counting(mostTraces, ({ traces }) => traces.length),
  );
  return {
    takes: (query) => {
      const traces = query.traces.map(({ traceId }) => traceId);
      const controls = query.controls.map(({ traceId }) => traceId);
      if (traces.some((key) => barred.has(key)) || controls.some((key) => asked.has(key))) return false;
      if (!rest.takes(query)) return false;
      for (const key of traces) asked.add(key);
      for (const key of controls) barred.add(key);
      return true;
    },
  };
}

interface CopiesQuery {
  readonly traces: readonly TraceKey[];
  readonly rows: readonly Row[];
}

/** No project's id. */
const SEVERAL = '';

/** A copy names its trace without the project: whoever asks about one of the same id elsewhere would be told of it too. */
function copiesLoad(mostRows: number): Load<CopiesQuery> {
  const projectOf = new Map<string, string>();
  const rest = counting<CopiesQuery>(mostRows, ({ rows }) => rows.length);
  return {
    takes: (query) => {
      const elsewhere = query.traces.some(
        ({ projectId, traceId }) => (projectOf.get(traceId) ?? projectId) !== projectId,
      );
      if (elsewhere || !rest.takes(query)) return false;
      for (const { projectId, traceId } of query.traces) {
        projectOf.set(traceId, (projectOf.get(traceId) ?? projectId) === projectId ? projectId : SEVERAL);
      }
      return true;
    },
  };
}

function deleteLoad({ deletesBy, mostIdsPerDelete }: TraceStore['traits']): Load<DeleteOrder> {
  return counting(mostIdsPerDelete, ({ traces }) =>
    deletesBy === 'trace'
      ? traces.length
      : traces.reduce((sum, { rowIds = [] }) => sum + Math.max(1, rowIds.length), 0),
  );
}

/** A delete call that the store took, one object for all of its traces. */
interface Taken {
  readonly receipt: Receipt;
  readonly people: number;
}

/** What became of one trace of a delete call. */
type Outcome = Taken | StoreError;

/** The store took the call and refused some of its traces by themselves. */
function refusedAlone({ route, status, requestId }: Receipt): StoreError {
  return new StoreError({ reason: 'rejected', route, status, requestId });
}

/**
 * Of several calls the receipt is that of the latest, for the store's window counts from there (P3), with the moment at
 * which the first of them left and what all of them counted.
 *
 * @param why given to whom not everything is known, or who got nothing through.
 */
function settleOrder(one: Ask<DeleteOrder, Receipt>, outcomes: ReadonlyMap<string, Outcome>, why: unknown): void {
  const calls = new Set<Taken>();
  let error: StoreError | null = null;
  const refused: string[] = [];
  for (const { traceId } of one.query.traces) {
    const outcome = outcomes.get(traceId);
    if (outcome === undefined) {
      one.fail(why);
      return;
    }
    if (outcome instanceof StoreError) {
      error ??= outcome;
      refused.push(traceId);
    } else calls.add(outcome);
  }
  const receipts = [...calls]
    .map(({ receipt }) => receipt)
    .sort((first, second) => first.acknowledgedAtMs - second.acknowledgedAtMs);
  const latest = receipts.at(-1);
  if (latest === undefined) {
    one.fail(error ?? why);
    return;
  }
  const { refused: _others, ...receipt } = latest;
  const counts = receipts.flatMap(({ counted = null }) => (counted === null ? [] : [counted]));
  const people = Math.max(...[...calls].map((call) => call.people));
  one.answer({
    ...receipt,
    sentAtMs: Math.min(...receipts.map(({ sentAtMs }) => sentAtMs)),
    ...(counts.length === 0 ? {} : { counted: counts.reduce((sum, counted) => sum + counted) }),
    ...(refused.length === 0 ? {} : { refused }),
    ...(people === 1 ? {} : { people }),
  });
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

/** Never the same as a trace's: it has one part more. */
function rowKey(projectId: string, rowId: string): string {
  return `${projectId} row ${rowId}`;
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

/** Each trace once, with all of its rows that anybody read: none may stay behind without the others. */
function uniteTraces(named: readonly TraceRef[]): readonly TraceRef[] {
  const traces = new Map<string, TraceRef>();
  for (const trace of named) {
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

/**
 * Whose a row of a combined search is: of those who asked for exactly what it carries, else of those whose question it
 * resembles, for stores that ignore case or round long numbers. Null: of nobody.
 */
function valueOwners(queries: readonly FindQuery[]): (row: Searchable) => readonly number[] | null {
  const exact = ownersOf(
    queries.map(({ terms }) => terms.flatMap(({ kind, variants }) => variants.map((text) => valueKey(kind, text)))),
  );
  const alike = new PairIndex(queries.map(({ terms }) => pairsOf(terms)));
  return (row) => {
    const owners = [...new Set(valuesOf(row).flatMap(({ kind, text }) => exact.get(valueKey(kind, text)) ?? []))];
    if (owners.length > 0) return owners;
    const others = alike.of(row);
    return others.length > 0 ? others : null;
  };
}

function valueKey(kind: string, text: string): string {
  return JSON.stringify([kind, text]);
}

/**
 * Deals rows out to the questions they answer.
 *
 * @param ownersOfRow positions of the questions; null: nobody can have asked for this row.
 * @returns null when there is such a row (P20).
 */
function share<T>(count: number, rows: readonly T[], ownersOfRow: (row: T) => readonly number[] | null): T[][] | null {
  const shares = Array.from({ length: count }, (): T[] => []);
  for (const row of rows) {
    const owners = ownersOfRow(row);
    if (owners === null) return null;
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

/**
 * Gives one question its share. A control proves only the calls that carried it, and which of a read's calls carried
 * which is up to the connector: in a project where one has no control, one relies on those of the others, all of them.
 */
function answerShare<Query extends { readonly controls: readonly Control[] }, Answer extends Read>(
  one: Ask<Query, Answer>,
  read: Answer | Read,
  { rows, controls, projectIds, people }: Share,
  complete: (mine: Read) => Answer,
): void {
  const mine = one.query.controls;
  const proven = new Set(mine.map(({ projectId }) => projectId));
  const relies = projectIds.some((projectId) => !proven.has(projectId));
  const blind = relies && read.controlsSeen.some((seen) => !seen);
  if (blind && mine.length === 0) {
    one.fail(
      new StoreError({
        reason: 'contract-broken',
        route: read.report.route,
        status: 200,
        requestId: read.report.requestIds.at(-1) ?? null,
        advice: 'live traces of others were not seen by a call that should show them: it may be blind',
      }),
    );
    return;
  }
  const seen = mine.map(
    (control) => !blind && (read.controlsSeen[controls.at.get(controlKey(control)) ?? -1] ?? false),
  );
  one.answer(
    complete({
      rows,
      controlsSeen: seen,
      ...(read.inconclusive === undefined ? {} : { inconclusive: read.inconclusive }),
      report: {
        ...withPeople(read.report, people),
        rows: rows.length,
        controlsAsked: mine.length,
        controlsSeen: seen.filter(Boolean).length,
      },
    }),
  );
}

interface Share {
  readonly rows: readonly Row[];
  readonly controls: UnitedControls;
  readonly projectIds: readonly string[];
  readonly people: number;
}

function withPeople(report: ReadReport, people: number): ReadReport {
  return people === 1 ? report : { ...report, people };
}
