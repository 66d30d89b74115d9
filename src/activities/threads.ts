import { entryKey, type BookThread } from '../erasure/book.ts';
import { implausible } from '../erasure/request.ts';
import { StoreError, TooManyRows, type Finder, type Row, type ThreadValue, type TraceKey } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';
import { groupByTrace, threadKey, type Reader, type Thread } from './reader.ts';
import { wholeTraces } from './whole.ts';

/** Conversations in one search: values travel in lists, whose length servers bound. */
const MOST_THREADS = 100;

/** Rows that one search reads at most. One conversation with more is none: a whole application shares its value. */
const MOST_ROWS = 10_000;

/** What stands in the person's conversations. */
export interface Expansion {
  readonly threads: readonly BookThread[];
  /** Traces of these conversations, those that were known before included. */
  readonly traces: ReadonlyMap<string, TraceKey>;
  /** Rows of the traces that were not known before. */
  readonly whole: ReadonlyMap<string, readonly Row[]>;
  /** Traces that carry only other people. */
  readonly others: number;
  /** Conversations that no search could show. */
  readonly missed: number;
}

export const NOTHING_EXPANDED: Expansion = {
  threads: [],
  traces: new Map(),
  whole: new Map(),
  others: 0,
  missed: 0,
};

/** Keys by which conversations are followed here. One that names people leads to their traces anyway. */
function keysOf({ store, searchKeys }: Pick<LaneDeps, 'store' | 'searchKeys'>): ReadonlySet<string> {
  const persons = new Set(Object.values(searchKeys).flat());
  return new Set((store.threads ?? []).filter((key) => !persons.has(key)));
}

/** Whether a value can name one conversation: what stands for none ("null", "default") would lead to strangers. */
function isPlain({ text, nested }: ThreadValue): boolean {
  return nested !== true && implausible(text) === null;
}

/** The conversations of some rows, each once. */
export function threadsOf(deps: Pick<LaneDeps, 'store' | 'searchKeys'>, rows: readonly Row[]): Thread[] {
  const keys = keysOf(deps);
  const found = new Map<string, Thread>();
  for (const { projectId, threads = [] } of rows) {
    for (const value of threads) {
      if (!keys.has(value.key) || !isPlain(value)) continue;
      const thread = { projectId, key: value.key, text: value.text };
      found.set(threadKey(thread), thread);
    }
  }
  return [...found.values()];
}

/**
 * Finds the traces of conversations through every finder, and whose they are (P12).
 *
 * @param known rows of traces read before, by trace. Not read again.
 * @param proof `own`: the person's own traces are still there, so that a search which shows none of a conversation is
 *   blind. `controls`: they are gone; live traces of other conversations stand in.
 */
export async function expandThreads(
  deps: LaneDeps,
  reader: Reader,
  threads: readonly Thread[],
  { known, proof }: { readonly known: ReadonlyMap<string, readonly Row[]>; readonly proof: 'own' | 'controls' },
): Promise<Expansion> {
  if (threads.length === 0) return NOTHING_EXPANDED;
  if (proof === 'controls') await reader.chooseThreadControls(threads);
  const { members, rows, failed } = await searchThreads(deps, reader, threads);
  const traces = new Map([...rows.values()].flatMap((of) => of.slice(0, 1)).map((row) => [entryKey(row), place(row)]));
  const fresh = [...traces].filter(([key]) => !known.has(key));
  const read = await wholeTraces(
    deps,
    reader,
    fresh.map(([, trace]) => trace),
  );
  // One that a search shows and a look-up does not is there, for all that is known.
  const whole = new Map(fresh.map(([key]) => [key, read.get(key) ?? rows.get(key) ?? []]));
  const owners = new Map([...traces.keys()].map((key) => [key, reader.owner(known.get(key) ?? whole.get(key) ?? [])]));
  const isShared = (thread: Thread): boolean =>
    [...(members.get(threadKey(thread)) ?? [])].some((key) => ['others', 'mixed'].includes(owners.get(key) ?? ''));
  const shown = threads.filter((thread) => {
    if (failed.has(threadKey(thread))) return false;
    return proof === 'controls' || (members.get(threadKey(thread))?.size ?? 0) > 0;
  });
  return {
    threads: threads.map((thread) => ({ ...thread, shared: isShared(thread) })),
    traces,
    whole,
    others: [...owners.values()].filter((owner) => owner === 'others').length,
    missed: threads.length - shown.length,
  };
}

interface Searched {
  /** Traces by conversation. */
  readonly members: ReadonlyMap<string, ReadonlySet<string>>;
  /** Rows found, by trace. */
  readonly rows: ReadonlyMap<string, readonly Row[]>;
  /** Conversations whose search the store refused, or that would not end. */
  readonly failed: ReadonlySet<string>;
}

async function searchThreads(deps: LaneDeps, reader: Reader, threads: readonly Thread[]): Promise<Searched> {
  const members = new Map<string, Set<string>>();
  const rows = new Map<string, Row[]>();
  const failed = new Set<string>();
  const take = (found: readonly Row[]): void => {
    groupByTrace(found, rows);
    for (const { projectId, traceId, threads: of = [] } of found) {
      for (const value of of) {
        const key = threadKey({ projectId, ...value });
        members.set(key, (members.get(key) ?? new Set()).add(entryKey({ projectId, traceId })));
      }
    }
  };
  const search = async (finder: Finder, some: readonly Thread[]): Promise<void> => {
    try {
      take((await reader.findThreads(finder, some, MOST_ROWS)) ?? []);
    } catch (error) {
      // Conversations are beside the person's own traces, which must not wait for them.
      const isRefusal = error instanceof StoreError && error.reason === 'rejected';
      if (!isRefusal && !(error instanceof TooManyRows)) throw error;
      if (some.length === 1) {
        for (const thread of some) failed.add(threadKey(thread));
        return;
      }
      const half = Math.ceil(some.length / 2);
      await search(finder, some.slice(0, half));
      await search(finder, some.slice(half));
    }
  };
  for (const finder of deps.store.finders) {
    const { searches = () => true } = finder;
    const asked = threads.filter(({ key }) => searches(key));
    for (let at = 0; at < asked.length; at += MOST_THREADS) await search(finder, asked.slice(at, at + MOST_THREADS));
  }
  return { members, rows, failed };
}

/**
 * Whether an unlabelled trace may be somebody else's: it stands in a conversation that holds other people, or in one that
 * is none of those looked at.
 */
export function isUnclear(rows: readonly Row[], threads: readonly BookThread[]): boolean {
  const known = new Map(threads.map((thread) => [threadKey(thread), thread.shared]));
  return rows.some(({ projectId, threads: of = [] }) =>
    of.some((value) => {
      const shared = known.get(threadKey({ projectId, ...value }));
      return shared ?? (value.nested === true || isPlain(value));
    }),
  );
}

function place({ projectId, traceId }: Row): TraceKey {
  return { projectId, traceId };
}
