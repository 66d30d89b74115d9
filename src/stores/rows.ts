import type { Control, PersonValue, Row, SearchTerm, ThreadValue } from './port.ts';
import { StoreError, THREAD_KIND } from './port.ts';

/** What a read brought, and which of the controls that it carried it saw in every call that carried them. */
export interface Found {
  readonly rows: readonly Row[];
  readonly seen: ReadonlySet<Control>;
}

/** Unites the parts of one read: a control counts as seen when every part that asked for it saw it. */
export class Union {
  readonly #rows = new Map<string, Row>();
  readonly #asked = new Set<Control>();
  readonly #missed = new Set<Control>();

  add(found: Found, asked: readonly Control[]): void {
    for (const row of found.rows) this.#rows.set(keyOf(row), row);
    for (const control of asked) {
      this.#asked.add(control);
      if (!found.seen.has(control)) this.#missed.add(control);
    }
  }
  get found(): Found {
    return {
      rows: [...this.#rows.values()],
      seen: new Set([...this.#asked].filter((control) => !this.#missed.has(control))),
    };
  }
}

/** Which controls a page shows: their own run, in its place, still carrying the value they were chosen for. */
export function seenIn(rows: readonly Row[], controls: readonly Control[]): ReadonlySet<Control> {
  if (controls.length === 0) return new Set();
  const byRun = new Map(rows.map((row) => [keyOf(row), row]));
  return new Set(
    controls.filter((control) => {
      const row = byRun.get(keyOf(control));
      return row?.traceId === control.traceId && valuesOf(row).some((value) => sameValue(value, control.value));
    }),
  );
}

/** What a row may be searched by: its people, and the conversations that it belongs to. */
export interface Searchable {
  readonly persons: readonly PersonValue[];
  readonly threads?: readonly ThreadValue[];
}

/** All values that a search may find a row by. */
export function valuesOf({ persons, threads = [] }: Searchable): readonly PersonValue[] {
  return threads.length === 0 ? persons : [...persons, ...threads.map((value) => ({ kind: THREAD_KIND, ...value }))];
}

/** The opposite of `valuesOf`: values of kind `THREAD_KIND` name conversations, the others people. */
export function sortedByKind(values: readonly PersonValue[]): Searchable {
  const threads = values.flatMap(({ kind, ...value }) => (kind === THREAD_KIND ? [value] : []));
  const persons = values.filter(({ kind }) => kind !== THREAD_KIND);
  return threads.length === 0 ? { persons } : { persons, threads };
}

function sameValue(a: PersonValue, b: PersonValue): boolean {
  return a.key === b.key && a.text === b.text && a.numeric === b.numeric;
}

export interface Pair {
  readonly key: string;
  readonly text: string;
}

/** Every key with every spelling, once. */
export function pairsOf(terms: readonly SearchTerm[]): Pair[] {
  const pairs = terms.flatMap(({ keys, variants }) => keys.flatMap((key) => variants.map((text) => ({ key, text }))));
  return [...new Map(pairs.map((pair) => [JSON.stringify([pair.key, pair.text]), pair])).values()];
}

/**
 * Whether a row has anything to do with what was asked. Looser than the caller's exact comparison (P15) on purpose: a
 * store that ignores case or rounds long integers did apply the filter, and what it found too much is somebody else's.
 */
export function resembles(row: Searchable, pair: Pair): boolean {
  const wanted = new Set(looks(pair));
  return valuesOf(row).some((value) => looks(value).some((look) => wanted.has(look)));
}

/** Finds those of many questions that a row resembles, without comparing it to each. */
export class PairIndex {
  readonly #owners = new Map<string, Set<number>>();

  /** @param pairs what each question asks for. */
  constructor(pairs: readonly (readonly Pair[])[]) {
    pairs.forEach((of, at) => {
      for (const look of of.flatMap(looks)) {
        const owners = this.#owners.get(look) ?? new Set<number>();
        this.#owners.set(look, owners.add(at));
      }
    });
  }

  /** @returns positions of the questions. */
  of(row: Searchable): readonly number[] {
    return [
      ...new Set(valuesOf(row).flatMap((value) => looks(value).flatMap((look) => [...(this.#owners.get(look) ?? [])]))),
    ];
  }
}

/** Two values resemble each other when they share one of these. */
function looks({ key, text }: Pair): string[] {
  const number = text.trim() === '' ? Number.NaN : Number(text);
  const folded = JSON.stringify([key, 'text', fold(text)]);
  return Number.isNaN(number) ? [folded] : [folded, JSON.stringify([key, 'number', number])];
}

function fold(text: string): string {
  return text.normalize('NFKC').trim().toLowerCase();
}

/** A refusal that may be about the form of the question: worth another form. */
export function isRefusal(error: unknown): boolean {
  return error instanceof StoreError && error.reason === 'rejected' && [400, 413, 422].includes(error.status ?? 0);
}

/** With the trace: nothing promises that a run's id lies in one trace only. */
export function keyOf({ projectId, traceId, runId }: Pick<Row, 'projectId' | 'traceId' | 'runId'>): string {
  return `${projectId} ${traceId} ${runId}`;
}

/** Without repeats, in order. */
export function unique(items: readonly string[]): string[] {
  return [...new Set(items)];
}

/** Consecutive parts of at most `size`. */
export function* chunks<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

/**
 * Asks for all at once; what is too much for one question is asked in halves.
 *
 * @param isTooMuch whether an error says so. Default: a refusal that may be about the question's form.
 */
export async function inHalves<T>(
  items: readonly T[],
  ask: (some: readonly T[]) => Promise<void>,
  isTooMuch: (error: unknown) => boolean = isRefusal,
): Promise<void> {
  try {
    await ask(items);
  } catch (error) {
    if (!isTooMuch(error) || items.length < 2) throw error;
    for (const some of chunks(items, Math.ceil(items.length / 2))) await inHalves(some, ask, isTooMuch);
  }
}

/** Projects of one call, and the controls that lie in them. */
export interface ControlledChunk {
  readonly projectIds: readonly string[];
  readonly here: readonly Control[];
}

/**
 * Projects few enough for one call, each part with controls. One without any gets the project of a control along: an empty
 * answer must not come from a call that shows nothing.
 *
 * @param size most projects of a part, without that guest.
 */
export function* controlledChunks(
  projectIds: readonly string[],
  controls: readonly Control[],
  size: number,
): Generator<ControlledChunk> {
  const [guest] = controls;
  for (const some of chunks(projectIds, size)) {
    const inside = controls.filter(({ projectId }) => some.includes(projectId));
    if (inside.length > 0 || guest === undefined) yield { projectIds: some, here: inside };
    else {
      const here = controls.filter(({ projectId }) => projectId === guest.projectId);
      yield { projectIds: [...some, guest.projectId], here };
    }
  }
}
