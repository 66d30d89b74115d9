import type { Book, BookCopy } from '../erasure/book.ts';
import type { Identifier } from '../erasure/request.ts';
import type { LaneFigures } from '../erasure/steps.ts';
import { tasksAmong, withAttestations, type Attestation, type ManualTask } from '../erasure/tasks.ts';
import type { Copy, CopyReceipt, CopyTrait, ReadReport } from '../stores/port.ts';
import { taskId } from '../vault/keys.ts';
import type { LaneDeps } from './deps.ts';
import { assertNotHeld } from './legal-hold.ts';
import type { StepRun } from './step.ts';

/** Calls that may answer success and do nothing before a copy is left to a person. */
const MOST_TRIES = 3;

const NO_INSTRUCTIONS = 'Erase them by hand in the store, or ask its support; then attest.';

/** What erasing copies came to. */
export interface CopyWork {
  readonly book: Book;
  /** Copies of those looked at that are still there. */
  readonly left: ReadonlySet<string>;
  /** Of these, those that a call was accepted for and that are worth another one. */
  readonly pending: number;
  readonly reports: readonly ReadReport[];
  readonly receipts: readonly CopyReceipt[];
}

/**
 * Looks at copies with a read that is clean, erases those of the person's own that are still there and that a call can name
 * alone (P22), and looks again. What goes with its trace is looked at first, so that nothing is called for what is gone.
 *
 * @param subject the request's person.
 * @param seen copies that this very step has read.
 * @param named digests of the values on them, see `digestsOfNamed`.
 * @param final whether the lane may end with this read: then all are looked at, and those that lead to the traces go too.
 */
export async function settleCopies(
  deps: LaneDeps,
  {
    subject,
    book,
    run,
    seen,
    named = [],
    final,
  }: {
    readonly subject: readonly Identifier[];
    readonly book: Book;
    readonly run: StepRun;
    readonly seen: readonly Copy[];
    readonly named?: readonly string[];
    readonly final: boolean;
  },
): Promise<CopyWork> {
  const { store } = deps;
  const { considered, mayErase } = openCopies(deps, book, final);
  const seenKeys = new Set(seen.map(copyKey));
  const reports: ReadReport[] = [];
  const look = async (copies: readonly BookCopy[]): Promise<ReadonlySet<string>> => {
    if (copies.length === 0) return new Set();
    const looked = await store.lookupCopies(copies.map(copyOf), run.progress);
    reports.push(...looked.reports);
    return new Set(looked.left.map(copyKey));
  };
  const known = considered.filter((copy) => mayErase(copy) && seenKeys.has(copyKey(copy)));
  const knownKeys = new Set(known.map(copyKey));
  const left = new Set(await look(considered.filter((copy) => !knownKeys.has(copyKey(copy)))));
  for (const key of knownKeys) left.add(key);

  const doomed = considered.filter((copy) => left.has(copyKey(copy)) && mayErase(copy));
  let receipts: readonly CopyReceipt[] = [];
  let accepted: ReadonlySet<string> = new Set();
  if (doomed.length > 0 && store.eraseCopies !== undefined) {
    const lastWord = async (): Promise<void> => {
      await assertNotHeld(deps, subject, [...(book.named ?? []), ...named]);
      await run.lastWord();
    };
    const erased = await store.eraseCopies(doomed.map(copyOf), lastWord, run.progress);
    reports.push(...erased.reports);
    receipts = erased.receipts ?? [];
    accepted =
      erased.receipts === undefined
        ? new Set(doomed.map(copyKey))
        : new Set(receipts.filter(isAccepted).flatMap(({ kind, ids }) => ids.map((id) => copyKey({ kind, id }))));
    const again = await look(doomed);
    for (const copy of doomed) if (!again.has(copyKey(copy))) left.delete(copyKey(copy));
  }
  const tried = new Map(doomed.map((copy) => [copyKey(copy), (copy.tries ?? 0) + 1]));
  const copies = book.copies.map((copy): BookCopy => {
    const tries = tried.get(copyKey(copy));
    return tries === undefined ? copy : { ...copy, tries };
  });
  const pending = doomed.filter(
    (copy) => left.has(copyKey(copy)) && accepted.has(copyKey(copy)) && (tried.get(copyKey(copy)) ?? 0) < MOST_TRIES,
  );
  return { book: { ...book, copies }, left, pending: pending.length, reports, receipts };
}

/**
 * Asks for holds before a read that would end with erasing copies, so that it is not made in vain again and again while
 * the person is held. Where nothing is left to erase, a hold keeps nothing from being proven.
 *
 * @throws StepTrouble `legal-hold`
 */
export async function assertCopiesNotHeld(
  deps: LaneDeps,
  {
    subject,
    book,
    run,
    final,
  }: {
    readonly subject: readonly Identifier[];
    readonly book: Book;
    readonly run: StepRun;
    readonly final: boolean;
  },
): Promise<void> {
  const { considered, mayErase } = openCopies(deps, book, final);
  const doomed = considered.filter(mayErase);
  if (doomed.length === 0) return;
  try {
    await assertNotHeld(deps, subject, book.named);
  } catch (held) {
    const { left } = await deps.store.lookupCopies(doomed.map(copyOf), run.progress);
    if (left.length > 0) throw held;
  }
}

/** Copies that a clean read looks at, and which of them it may erase. */
function openCopies(
  deps: LaneDeps,
  book: Book,
  final: boolean,
): { readonly considered: readonly BookCopy[]; readonly mayErase: (copy: BookCopy) => boolean } {
  const whenOf = erasureTimes(deps);
  const considered = book.copies.filter(
    ({ state, kind }) => state === 'inconclusive' && (final || ['before', 'after'].includes(whenOf.get(kind) ?? '')),
  );
  const mayErase = (copy: BookCopy): boolean =>
    whenOf.has(copy.kind) && copy.others !== true && isOurs(book, copy) && (copy.tries ?? 0) < MOST_TRIES;
  return { considered, mayErase };
}

/** The copies at the lane's end: looked at by the read that ends it, each is gone or somebody's work. */
export function concludedCopies(book: Book, left: ReadonlySet<string>): readonly BookCopy[] {
  return book.copies.map((copy) =>
    copy.state === 'inconclusive' ? { ...copy, state: left.has(copyKey(copy)) ? 'manual' : 'erased' } : copy,
  );
}

/** Erases what must go before its traces are submitted; what is left of it is looked at again by the reads that follow. */
export async function eraseBefore(
  deps: LaneDeps,
  book: Book,
  traceIds: readonly string[],
  run: StepRun,
): Promise<Pick<CopyWork, 'reports' | 'receipts'>> {
  const { store } = deps;
  const whenOf = erasureTimes(deps);
  const submitted = new Set(traceIds);
  const copies = book.copies.filter(
    (copy) =>
      copy.state === 'inconclusive' &&
      copy.others !== true &&
      whenOf.get(copy.kind) === 'before' &&
      submitted.has(copy.traceId) &&
      isOurs(book, copy),
  );
  if (copies.length === 0 || store.eraseCopies === undefined) return { reports: [], receipts: [] };
  const looked = await store.lookupCopies(copies.map(copyOf), run.progress);
  if (looked.left.length === 0) return { reports: looked.reports, receipts: [] };
  const erased = await store.eraseCopies(looked.left, run.lastWord, run.progress);
  return { reports: [...looked.reports, ...erased.reports], receipts: erased.receipts ?? [] };
}

/** The figures with what is left for people to do, and with the word of those who did it. */
export function withTasks<F extends LaneFigures>(
  deps: LaneDeps,
  { requestId, attested }: { readonly requestId: string; readonly attested?: readonly Attestation[] },
  book: Book,
  figures: F,
): F {
  const tasks = tasksOf(deps, requestId, book);
  return tasks.length === 0 ? figures : withAttestations({ ...figures, tasks }, attested);
}

function tasksOf(deps: LaneDeps, requestId: string, book: Book): readonly ManualTask[] {
  const traits = new Map<string, CopyTrait>(deps.store.traits.copyMap.map((trait) => [trait.kind, trait]));
  // What the controller accepted as a property of the store is nobody's work (P1).
  const isWork = ({ kind, state }: BookCopy): boolean =>
    state === 'manual' && !(traits.get(kind)?.isLimit === true && deps.accept.includes(kind));
  return tasksAmong(book.copies.filter(isWork)).map(({ kind, where, copies }) => ({
    id: taskId(deps.keys, { requestId, connection: deps.connection, kind, where }),
    kind,
    count: copies.length,
    where,
    instructions: traits.get(kind)?.instructions ?? NO_INSTRUCTIONS,
  }));
}

/** When each kind that a call erases is erased. */
function erasureTimes(deps: LaneDeps): ReadonlyMap<string, 'before' | 'after' | 'last'> {
  return new Map(
    deps.store.traits.copyMap.flatMap(({ kind, erasable, erasedWhen }) =>
      erasable === true ? [[kind, erasedWhen ?? 'last'] as const] : [],
    ),
  );
}

/** Copies of traces that are kept are kept with them, whoever asks: they may be others' too. */
function isOurs(book: Book, { traceId }: BookCopy): boolean {
  // Found by the person's own value, beside the traces.
  if (traceId === '') return true;
  const entries = book.entries.filter((entry) => entry.traceId === traceId);
  const ours = ['pending', 'survived', 'goneBeforeSubmit', 'verifiedAbsent'];
  return entries.length > 0 && entries.every(({ state }) => ours.includes(state));
}

function isAccepted({ status }: CopyReceipt): boolean {
  return status !== null && status < 300;
}

function copyOf({ kind, id, traceId, others }: BookCopy): Copy {
  return { kind, id, traceId, ...(others === true ? { others } : {}) };
}

function copyKey({ kind, id }: Pick<Copy, 'kind' | 'id'>): string {
  return `${kind}/${id}`;
}
