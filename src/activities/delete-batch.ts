import { virtualNow } from '../erasure/clock.ts';
import {
  batchesOf,
  bookSchema,
  deltaSchema,
  entryKey,
  type Book,
  type BookEntry,
  type Delta,
} from '../erasure/book.ts';
import { sharedIncluded } from '../erasure/linked.ts';
import { settledAfter } from '../erasure/rhythm.ts';
import type { DeleteAnswer, DeleteInput, Trouble } from '../erasure/steps.ts';
import { optionalInstant, recordedInstant, recordedRead } from '../evidence/record.ts';
import { StoreError, type PersonValue, type Project, type Receipt } from '../stores/port.ts';
import { digestIds } from '../vault/keys.ts';
import { VaultLostError } from '../vault/vault.ts';
import { eraseBefore } from './copies.ts';
import { currentBook } from './current-book.ts';
import type { LaneDeps } from './deps.ts';
import { deltaName, expectedVerdict, nextLook } from './figures.ts';
import { assertNotHeld, digestsOfNamed } from './legal-hold.ts';
import { recordedErasures } from './recorded-erasures.ts';
import { Inconclusive, Reader } from './reader.ts';
import { rowIdsOf } from './resolve-ids.ts';
import { runStep, StepTrouble, type StepRun } from './step.ts';
import { wholeTraces } from './whole.ts';

/**
 * Makes one delete call: reads again whose the batch's traces are, pulls what changed, writes down what it is about to
 * send, and sends it (P13, P14, P23).
 */
export function deleteBatch(deps: LaneDeps, input: DeleteInput): Promise<DeleteAnswer | Trouble> {
  return runStep(deps, input, { step: 'delete', round: input.round, batch: input.batch }, async (run) => {
    try {
      return await submit(deps, input, run);
    } catch (error) {
      if (error instanceof Inconclusive) throw new StepTrouble('contract-broken', `nothing was sent: ${error.message}`);
      throw error;
    }
  });
}

async function submit(deps: LaneDeps, input: DeleteInput, run: StepRun): Promise<DeleteAnswer> {
  const nowMs = virtualNow(deps.clock);
  // Before anything is read; the last word asks again.
  await assertNotHeld(deps, input.subject);
  const book = await deps.vault.get(input.requestId, input.book, bookSchema);
  const entries = (book.batches[input.batch] ?? []).flatMap((index) => book.entries[index] ?? []);
  const projectId = entries[0]?.projectId;
  if (projectId === undefined) throw new StepTrouble('internal', 'the plan has no such batch; nothing was sent');
  const name = deltaName(input.connection, input.round, input.batch);
  const earlier = await earlierTry(deps, input.requestId, name);

  const sorted = await ownersNow(deps, input, run, { book, entries, nowMs });
  // What the store has acknowledged in this very call is not sent again because we could not write that down.
  const acknowledged = new Set(earlier?.acknowledgedMs == null ? [] : earlier.sent);
  const traces = sorted.ours.filter(({ traceId }) => !acknowledged.has(traceId));
  const sent = traces.map(({ traceId }) => traceId);
  const named = digestsOfNamed(deps, sorted.named);
  const lastWord = async (): Promise<void> => {
    // Who is named on the traces may be held under an identifier that the request does not know.
    await assertNotHeld(deps, input.subject, named);
    await run.lastWord();
  };
  const before = deltaSchema.parse({
    round: input.round,
    batch: input.batch,
    projectId,
    sentMs: earlier?.sentMs ?? null,
    acknowledgedMs: earlier?.acknowledgedMs ?? null,
    sent: earlier?.sent ?? [],
    absent: sorted.absent.map(({ traceId }) => traceId),
    pulled: sorted.pulled.map(({ entry, to }) => ({ traceId: entry.traceId, to })),
    newRows: sorted.newRows,
    named: [...new Set([...(earlier?.named ?? []), ...named])],
  });
  const delta: Delta = { ...before, sent: [...new Set([...before.sent, ...sent])] };
  let receipt: Receipt | null = null;
  const copies = await eraseBefore(deps, book, sent, { ...run, lastWord });
  if (sent.length > 0) {
    // Written before the call: if we are killed between the call and its answer, the ids still count as sent.
    await deps.vault.put(input.requestId, name, deltaSchema.parse({ ...delta, sentMs: virtualNow(deps.clock) }));
    const { progress } = run;
    // Last words that a call may have followed.
    let words = 0;
    let taken = 0;
    const order = {
      projectId,
      lastWord: async (): Promise<void> => {
        await lastWord();
        words += 1;
      },
      notSent: (): void => {
        words -= 1;
      },
      progress,
    };
    try {
      receipt = await inCalls(traces, deps.store.traits.mostIdsPerDelete, async (some) => {
        const answered = await deps.store.submit({ ...order, traces: some });
        taken += 1;
        return answered;
      });
    } catch (error) {
      // What never left, or was refused, is due at once when the obstacle has gone, and has no window before it.
      if (taken === 0 && (words === 0 || (words === 1 && isRefusal(error))))
        await deps.vault.put(input.requestId, name, before);
      throw error;
    }
  }
  const sentMs = receipt?.sentAtMs ?? delta.sentMs;
  const takenMs = lastTakenMs(receipt, earlier, nowMs);
  const settledAtMs = takenMs === null ? null : settledAfter(deps.store.traits.rhythm, takenMs);
  const refused = new Set(receipt?.refused ?? []);
  const told = [...acknowledged, ...(receipt === null ? [] : sent.filter((traceId) => !refused.has(traceId)))];
  await deps.vault.put(
    input.requestId,
    name,
    deltaSchema.parse({
      ...delta,
      sentMs,
      acknowledgedMs: receipt?.acknowledgedAtMs ?? delta.acknowledgedMs,
      // What an earlier try sent without an answer may have arrived; what was refused alone did not.
      sent: delta.sent.filter((traceId) => !refused.has(traceId)),
    }),
  );
  await run.note('submit', {
    kind: 'submit',
    at: recordedInstant(receipt?.acknowledgedAtMs ?? nowMs),
    round: input.round,
    batch: input.batch,
    project: positionOf(book, projectId),
    count: told.length,
    digest: told.length === 0 ? null : digestIds(deps.keys, told),
    route: receipt?.route ?? null,
    status: receipt?.status ?? null,
    requestId: receipt?.requestId ?? null,
    sentAt: optionalInstant(receipt?.sentAtMs ?? (told.length === 0 ? null : delta.sentMs)),
    acknowledgedAt: optionalInstant(receipt?.acknowledgedAtMs ?? (told.length === 0 ? null : delta.acknowledgedMs)),
    settledAt: optionalInstant(settledAtMs),
    absent: sorted.absent.length,
    pulled: sorted.pulled.length,
    ...(refused.size === 0 ? {} : { refused: refused.size }),
    ...(receipt?.counted === undefined ? {} : { counted: receipt.counted }),
    reports: [...sorted.reader.reports, ...copies.reports].map(recordedRead),
    ...recordedErasures(deps.keys, copies.receipts),
  });
  return {
    kind: 'submitted',
    atMs: nowMs,
    submitted: told.length,
    absent: sorted.absent.length,
    pulled: sorted.pulled.length,
    ...(refused.size === 0 ? {} : { refused: refused.size }),
    settledAtMs,
    nextCheckAtMs: settledAtMs === null ? null : nextLook(deps, input.requestId, settledAtMs),
    ...expectedVerdict(deps, { nowMs, submits: false, settledAtMs, cleanReads: 0, lastCountedAtMs: null }),
  };
}

/**
 * Whether a call that was about to leave, the only one, is known to have done nothing: it was kept back after all, or the
 * store itself refused it. Anything that a store answers with success, or no answer, leaves open what became of the call.
 */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof StoreError) || error.partlyDone) return false;
  if (error.reason === 'switched-off') return true;
  const refused = ['rejected', 'denied', 'gone', 'throttled'].includes(error.reason);
  return refused && error.status !== null && error.status >= 300;
}

/**
 * When the store had taken the last of what a delete call sent, at the latest: its window counts from then (P3). One call of
 * ours may be a hundred of the store's, minutes apart, so that the moment in which it began says too little.
 *
 * @param earlier what an earlier try had written down; one without an answer was over when this one began.
 * @returns virtual epoch milliseconds; null when nothing was ever sent.
 */
export function lastTakenMs(
  receipt: Pick<Receipt, 'acknowledgedAtMs'> | null,
  earlier: Pick<Delta, 'sentMs' | 'acknowledgedMs'> | null,
  nowMs: number,
): number | null {
  if (receipt !== null) return receipt.acknowledgedAtMs;
  if (earlier === null || earlier.sentMs === null) return null;
  return earlier.acknowledgedMs ?? nowMs;
}

/**
 * Makes one call, or several when rows came to the batch since it was put together. The first that fails ends it: what was
 * sent was written down before, and the next try reads what is left.
 */
async function inCalls(
  traces: readonly BookEntry[],
  most: number,
  submit: (some: readonly BookEntry[]) => Promise<Receipt>,
): Promise<Receipt | null> {
  let first: Receipt | null = null;
  let last: Receipt | null = null;
  const refused: string[] = [];
  let counted: number | undefined;
  for (const call of batchesOf(traces, () => true, most)) {
    last = await submit(call.flatMap((index) => traces[index] ?? []));
    first ??= last;
    refused.push(...(last.refused ?? []));
    if (last.counted !== undefined) counted = (counted ?? 0) + last.counted;
  }
  if (first === null || last === null) return null;
  const { refused: _ofLast, ...receipt } = last;
  const sums = counted === undefined ? {} : { counted };
  return { ...receipt, ...sums, sentAtMs: first.sentAtMs, ...(refused.length === 0 ? {} : { refused }) };
}

/** What an earlier try of the same call had sent, if it got that far before it was killed or lost its answer. */
async function earlierTry(deps: LaneDeps, requestId: string, name: string): Promise<Delta | null> {
  try {
    return await deps.vault.get(requestId, { name }, deltaSchema);
  } catch (error) {
    if (error instanceof VaultLostError && error.loss === 'missing') return null;
    throw error;
  }
}

interface Sorted {
  /** With the rows that they have now. */
  readonly ours: readonly BookEntry[];
  readonly absent: readonly BookEntry[];
  readonly pulled: readonly { readonly entry: BookEntry; readonly to: 'shared' | 'linked' }[];
  /** Rows that the manifest does not know, by trace; only where the store deletes by rows. */
  readonly newRows: Delta['newRows'];
  readonly reader: Reader;
  /** Values on the rows of `ours`. */
  readonly named: readonly PersonValue[];
}

interface Batch {
  readonly book: Book;
  readonly entries: readonly BookEntry[];
  readonly nowMs: number;
}

/**
 * Reads the batch's traces once more, just before the call, and keeps only what is still the person's (P14). A refusal may
 * be about a project of the plan that is not there any more: then the others are read without it. Of a batch in such a
 * project nothing is said or sent; the read that ends the round calls it inconclusive (P9).
 */
async function ownersNow(deps: LaneDeps, input: DeleteInput, run: StepRun, batch: Batch): Promise<Sorted> {
  const planned: readonly Project[] = batch.book.projects.map((project) => ({ ...project, type: '' }));
  try {
    return await ownersAmong(deps, input, run, { ...batch, projects: planned });
  } catch (error) {
    if (!isAboutAProject(error)) throw error;
    const projects = await deps.store.projects(run.progress);
    const visible = new Set(projects.map(({ id }) => id));
    if (planned.every(({ id }) => visible.has(id))) throw error;
    if (batch.entries.every(({ projectId }) => visible.has(projectId)))
      return await ownersAmong(deps, input, run, { ...batch, projects });
    const reader = new Reader(deps, { input, projects, nowMs: batch.nowMs, progress: run.progress });
    return { ours: [], absent: [], pulled: [], newRows: [], reader, named: [] };
  }
}

/** Whether a read may have failed for a project that is not there any more. */
function isAboutAProject(error: unknown): boolean {
  if (error instanceof Inconclusive) return true;
  return error instanceof StoreError && ['denied', 'gone', 'rejected'].includes(error.reason);
}

async function ownersAmong(
  deps: LaneDeps,
  input: DeleteInput,
  run: StepRun,
  { book, entries, nowMs, projects }: Batch & { readonly projects: readonly Project[] },
): Promise<Sorted> {
  const reader = new Reader(deps, { input, projects, nowMs, progress: run.progress });
  if (book.controlsAtPlan > 0) await reader.chooseControls();
  // Every route, not only the first that shows a trace: a stranger's run may be visible in one generation only.
  const runs = entries.reduce((sum, entry) => sum + entry.runs, 0);
  const present = await wholeTraces(deps, reader, entries, runs);
  const owners = new Map([...present].map(([key, rows]) => [key, reader.owner(rows)]));
  // A trace that was never sent and lost its label changed owner; one that was sent may have lost its labelled root, or
  // all but what its delete left over. What was sent since the book was sealed is looked up only where that decides.
  // What is left of a trace that somebody else has deleted has no labels either, and is nobody else's.
  const isLeftover = (entry: BookEntry): boolean =>
    present.get(entryKey(entry))?.every(({ leftover }) => leftover === true) === true;
  const isUnlabelled = (entry: BookEntry): boolean =>
    owners.get(entryKey(entry)) === 'nobody' && entry.via === 'person' && !isLeftover(entry);
  const newest = entries.some(isUnlabelled) ? await currentBook(deps, input) : book;
  const everSent = new Set(newest.entries.filter(({ sentMs }) => sentMs !== null).map(entryKey));
  const isIncluded = sharedIncluded(book);
  const ours: BookEntry[] = [];
  const absent: BookEntry[] = [];
  const pulled: { entry: BookEntry; to: 'shared' | 'linked' }[] = [];
  const newRows: Delta['newRows'] = [];
  const named: PersonValue[] = [];
  for (const entry of entries) {
    const rows = present.get(entryKey(entry));
    if (rows === undefined) {
      absent.push(entry);
      continue;
    }
    const owner = owners.get(entryKey(entry));
    const isTheirsToo = owner === 'mixed' && !isIncluded(entry);
    if (isTheirsToo || owner === 'others') pulled.push({ entry, to: 'shared' });
    else if (isUnlabelled(entry) && !everSent.has(entryKey(entry))) pulled.push({ entry, to: 'linked' });
    else {
      for (const { persons } of rows) named.push(...persons);
      if (deps.store.traits.deletesBy === 'trace') {
        ours.push(entry);
        continue;
      }
      const rowIds = rowIdsOf(rows);
      const known = new Set(entry.rowIds);
      const more = rowIds.filter((id) => !known.has(id));
      if (more.length > 0) newRows.push({ traceId: entry.traceId, rowIds: more });
      ours.push({ ...entry, rowIds });
    }
  }
  return { ours, absent, pulled, newRows, reader, named };
}

function positionOf(book: Book, projectId: string): number | null {
  const position = book.projects.findIndex(({ id }) => id === projectId);
  return position < 0 ? null : position;
}
