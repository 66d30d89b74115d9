import { bookSchema, type Book, type BookCopy, type BookEntry } from '../erasure/book.ts';
import { formatCount, formatInstant } from '../erasure/format.ts';
import { verdictOf } from '../erasure/outcome.ts';
import type { BlobRef, VerifyAnswer, VerifyInput } from '../erasure/steps.ts';
import {
  recordedFigures,
  recordedInstant,
  recordedProjects,
  recordedRead,
  recordedWindow,
} from '../evidence/record.ts';
import { DAY_MS } from '../erasure/rhythm.ts';
import { isOpen } from '../erasure/tasks.ts';
import type { CopyReceipt } from '../stores/port.ts';
import { concludedCopies, settleCopies, withTasks } from './copies.ts';
import type { LaneDeps } from './deps.ts';
import { bookName, expectedVerdict, figuresOf, nextLook } from './figures.ts';
import { digestsOfNamed } from './legal-hold.ts';
import { makePlan } from './make-plan.ts';
import type { Outcome } from './read-back.ts';
import type { Reader } from './reader.ts';
import { searchTerms } from './reader.ts';
import { recordedErasures } from './recorded-erasures.ts';
import type { StepRun } from './step.ts';

/** Whether a read counts (P3), what follows from it, and what the record says of it. */
export async function conclude(
  deps: LaneDeps,
  input: VerifyInput,
  scene: {
    readonly outcome: Outcome;
    readonly reader: Reader;
    readonly nowMs: number;
    readonly run: StepRun;
  },
): Promise<VerifyAnswer> {
  const { outcome, reader, nowMs, run } = scene;
  const { searched } = searchTerms(deps, input.subject);
  const settleMs = deps.store.traits.rhythm.settleMs;
  const tooEarly = outcome.counts ? whyTooEarly(input, nowMs, settleMs) : null;
  const counted = outcome.counts && tooEarly === null;
  const reset = outcome.kind === 'survivors' || outcome.kind === 'newcomers' || outcome.saw === true;
  const cleanReads = counted ? input.cleanReads + 1 : reset ? 0 : input.cleanReads;
  const lastCountedAtMs = counted ? nowMs : reset ? null : input.lastCountedAtMs;
  // The traces are proven gone; with copies or manual tasks open the lane may have gone on reading all the same.
  const settled = input.settledAtMs === null || nowMs >= input.settledAtMs;
  const proven = outcome.counts && settled && cleanReads >= deps.policy.cleanReads;

  let book: Book =
    (counted || proven) && outcome.kind === 'no-control' ? { ...outcome.book, noControl: true } : outcome.book;
  if (reset) book = { ...book, noControl: false };
  const ending = await ended(deps, input, { book, reader, nowMs, run, counted, proven });
  ({ book } = ending);
  const ref: BlobRef =
    outcome.kind === 'inconclusive'
      ? input.book
      : await deps.vault.put(input.requestId, bookName(input.connection, input.step), bookSchema.parse(book));
  const figures = withTasks(deps, input, book, figuresOf(deps, book, searched));
  const verdict = ending.done ? verdictOf(figures.traces, figures.given, figures.exceptions) : null;
  const stopped = stopOf(deps, input, { outcome, reader, nowMs, book, ref, searched });
  const answer: VerifyAnswer = {
    kind: outcome.kind,
    atMs: nowMs,
    counted,
    why: ending.why ?? tooEarly ?? outcome.why,
    cleanReads,
    lastCountedAtMs,
    book: ref,
    batches: book.batches.map((batch) => batch.length),
    resubmit: outcome.resubmit,
    ...stopped,
    nextCheckAtMs: ending.nextCheckAtMs ?? nextCheck(deps, input, { nowMs, lastCountedAtMs, settleMs }),
    verdict,
    ...(ending.waitsForTasks === null ? {} : { waitsForTasks: ending.waitsForTasks }),
    ...(verdict === null
      ? expectedVerdict(deps, {
          nowMs,
          submits: outcome.resubmit,
          settledAtMs: input.settledAtMs,
          cleanReads,
          lastCountedAtMs,
        })
      : {}),
    ...figures,
  };
  await run.note('read', {
    kind: 'read',
    at: recordedInstant(nowMs),
    round: input.round,
    answer: outcome.kind,
    counted,
    why: answer.why,
    cleanReads,
    projects: recordedProjects(reader.allProjects()),
    reports: reader.reports.map(recordedRead),
    ...recordedErasures(deps.keys, ending.receipts),
    controls: reader.tally(),
    window: recordedWindow(reader.window),
    skewMs: reader.skewMs(),
    disagreements: [...reader.notes],
    ...recordedFigures(figures),
    manifestDigest: ref.digest,
    batches: [...answer.batches],
    ...stopped,
    verdict,
  });
  return answer;
}

/** What an operator is to approve, when a read has shown more than may be submitted without that. */
function stopOf(
  deps: LaneDeps,
  input: VerifyInput,
  scene: {
    readonly outcome: Outcome;
    readonly reader: Reader;
    readonly nowMs: number;
    readonly book: Book;
    readonly ref: BlobRef;
    readonly searched: Readonly<Record<string, readonly string[]>>;
  },
): Pick<VerifyAnswer, 'stop' | 'plan'> {
  const { outcome, reader, ...parts } = scene;
  const { stop, present } = outcome;
  if (stop === undefined || present === undefined) return {};
  // A step that an earlier release asked for does not know the due date: the lane stops, and plans when told to.
  const { dueAtMs } = input;
  if (dueAtMs === undefined) return { stop };
  const projects = reader.recordableProjects();
  const plan = makePlan(deps, { ...parts, input: { subject: input.subject, dueAtMs }, rows: present, projects });
  return { stop, plan };
}

/** Why a clean read does not count yet, or null (P3). An extra look is welcome at any time and never counts early. */
export function whyTooEarly(input: VerifyInput, nowMs: number, settleMs: number): string | null {
  if (input.settledAtMs !== null && nowMs < input.settledAtMs) {
    return `clean, but not counted: the store's window settles ${formatInstant(input.settledAtMs)}`;
  }
  if (input.lastCountedAtMs !== null && nowMs - input.lastCountedAtMs < settleMs) {
    return `clean, but not counted: the next read may count from ${formatInstant(input.lastCountedAtMs + settleMs)}`;
  }
  return null;
}

function nextCheck(
  deps: LaneDeps,
  input: VerifyInput,
  {
    nowMs,
    lastCountedAtMs,
    settleMs,
  }: { readonly nowMs: number; readonly lastCountedAtMs: number | null; readonly settleMs: number },
): number {
  if (input.settledAtMs !== null && nowMs < input.settledAtMs)
    return nextLook(deps, input.requestId, input.settledAtMs);
  return lastCountedAtMs === null ? nowMs : nextLook(deps, input.requestId, lastCountedAtMs + settleMs);
}

interface Ending {
  readonly book: Book;
  readonly done: boolean;
  /** Why the lane goes on although its traces are proven gone; null: it ends, or they are not. */
  readonly why: string | null;
  readonly nextCheckAtMs: number | null;
  readonly waitsForTasks: NonNullable<VerifyAnswer['waitsForTasks']> | null;
  readonly receipts: readonly CopyReceipt[];
}

/** What a clean read leads to: copies are erased and looked at, and where nothing is open any more the lane ends. */
async function ended(
  deps: LaneDeps,
  input: VerifyInput,
  scene: {
    readonly book: Book;
    readonly reader: Reader;
    readonly nowMs: number;
    readonly run: StepRun;
    readonly counted: boolean;
    readonly proven: boolean;
  },
): Promise<Ending> {
  const { book, reader, nowMs, run, counted, proven } = scene;
  const goesOn = { done: false, why: null, nextCheckAtMs: null, waitsForTasks: null, receipts: [] };
  if (!counted && !proven) return { ...goesOn, book };
  const final = proven && waitForTasks(deps, input, book, nowMs) === null;
  const seen = reader.looseCopies();
  const named = digestsOfNamed(deps, reader.looseNamed());
  const work = await settleCopies(deps, { subject: input.subject, book, run, seen, named, final });
  reader.reports.push(...work.reports);
  const { receipts } = work;
  if (!proven) return { ...goesOn, book: work.book, receipts };
  if (final && work.pending > 0) {
    const why = `${formatCount(work.pending)} ${work.pending === 1 ? 'copy is' : 'copies are'} still readable after a call to erase it was accepted; the next read tries again`;
    const pauseMs = Math.min(deps.store.traits.rhythm.settleMs, DAY_MS);
    return {
      ...goesOn,
      book: work.book,
      receipts,
      why,
      nextCheckAtMs: nextLook(deps, input.requestId, nowMs + pauseMs),
    };
  }
  const closed = final ? { ...work.book, copies: [...concludedCopies(work.book, work.left)] } : work.book;
  const waitsForTasks = waitForTasks(deps, input, closed, nowMs);
  if (waitsForTasks !== null) {
    // What a call has erased is looked at again by the read that ends the lane.
    const open = { ...closed, copies: closed.copies.map((copy, at) => reopened(copy, work.book.copies[at])) };
    const why = 'clean; manual tasks are open';
    return { ...goesOn, book: open, receipts, why, nextCheckAtMs: waitsForTasks.untilMs, waitsForTasks };
  }
  return { ...goesOn, book: { ...closed, entries: concludedEntries(deps, closed) }, done: true, receipts };
}

function reopened(copy: BookCopy, before: BookCopy | undefined): BookCopy {
  return copy.state === 'erased' && before?.state === 'inconclusive' ? before : copy;
}

/** Whether the lane waits for people (`policy.waitForTasks`), since when and until when; null: it does not. */
function waitForTasks(
  deps: LaneDeps,
  input: VerifyInput,
  book: Book,
  nowMs: number,
): NonNullable<VerifyAnswer['waitsForTasks']> | null {
  const { waitForTasksMs } = deps.policy;
  if (waitForTasksMs === undefined || waitForTasksMs === 0) return null;
  const { tasks = [] } = withTasks(deps, input, book, figuresOf(deps, book, {}));
  const sinceMs = input.tasksSinceMs ?? nowMs;
  const untilMs = sinceMs + waitForTasksMs;
  return tasks.some(isOpen) && nowMs < untilMs ? { sinceMs, untilMs } : null;
}

/** The traces at the lane's end: what was absent often enough is proven. */
function concludedEntries(deps: LaneDeps, book: Book): BookEntry[] {
  // Reads that show nothing so old would show nothing of these traces either (P10).
  const provenFromMs = deps.accept.includes('not-proven-before') ? null : book.notProvenBeforeMs;
  const isProven = ({ startMs }: BookEntry): boolean =>
    !book.noControl && (provenFromMs === null || (startMs !== null && startMs >= provenFromMs));
  return book.entries.map((entry): BookEntry => {
    if (entry.state === 'pending') return { ...entry, state: isProven(entry) ? 'verifiedAbsent' : 'inconclusive' };
    return entry.state === 'goneBeforeSubmit' && !isProven(entry) ? { ...entry, state: 'inconclusive' } : entry;
  });
}
