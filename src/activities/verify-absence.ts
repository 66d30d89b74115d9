import { stopFor } from '../erasure/approval.ts';
import { virtualNow } from '../erasure/clock.ts';
import { batchesOf, bookSchema, entryKey, type Book, type BookCopy, type BookEntry } from '../erasure/book.ts';
import { formatCount, formatInstant, formatTraces } from '../erasure/format.ts';
import { isNewActivity, sharedIncluded, type Reach } from '../erasure/linked.ts';
import { verdictOf } from '../erasure/outcome.ts';
import type { BlobRef, Trouble, VerifyAnswer, VerifyInput } from '../erasure/steps.ts';
import {
  recordedFigures,
  recordedInstant,
  recordedProjects,
  recordedRead,
  recordedWindow,
} from '../evidence/record.ts';
import { DAY_MS } from '../erasure/rhythm.ts';
import { isOpen } from '../erasure/tasks.ts';
import type { Copy, CopyReceipt, Project, Row, TraceKey } from '../stores/port.ts';
import { assertCopiesNotHeld, concludedCopies, settleCopies, withTasks } from './copies.ts';
import { currentBook } from './current-book.ts';
import type { LaneDeps } from './deps.ts';
import { bookName, expectedVerdict, figuresOf, nextLook } from './figures.ts';
import { digestsOfNamed } from './legal-hold.ts';
import { everSubmitted, makePlan } from './make-plan.ts';
import { groupByTrace, Inconclusive, LEAST_CONTROLS, Reader, searchTerms, threadKey } from './reader.ts';
import { approvedPeople, peopleOn, peopleStop } from './people.ts';
import { recordedErasures } from './recorded-erasures.ts';
import { classify, hasReturned, mayBeLater, newCopies, placesOf, rowIdsOf, type CopyReach } from './resolve-ids.ts';
import { sawTraces, startOf } from './sighting.ts';
import { runStep, StepTrouble, type StepRun } from './step.ts';
import { expandThreads, NOTHING_EXPANDED, threadsOf, type Expansion } from './threads.ts';
import { wholeTraces } from './whole.ts';

/**
 * Reads back whether the person's traces are gone: by id over the manifest and by person from scratch, through every
 * route, with controls in every call. Decides whether the read counts (P3) and whether the lane may end.
 */
export function verifyAbsence(deps: LaneDeps, input: VerifyInput): Promise<VerifyAnswer | Trouble> {
  return runStep(deps, input, { step: 'verify', round: input.round, batch: null }, async (run) => {
    const book = await currentBook(deps, input);
    const nowMs = virtualNow(deps.clock);
    const projects = await deps.store.projects(run.progress);
    if (projects.length === 0) {
      throw new StepTrouble('no-projects', 'the key sees no project any more; that proves nothing about the traces');
    }
    if (whyTooEarly(input, nowMs, deps.store.traits.rhythm.settleMs) === null) {
      const final = input.cleanReads + 1 >= deps.policy.cleanReads;
      await assertCopiesNotHeld(deps, { subject: input.subject, book, run, final });
    }
    const reader = new Reader(deps, { input, projects, nowMs, progress: run.progress });
    let outcome: Outcome;
    try {
      outcome = await readBack(deps, input, { book, projects, reader, nowMs, run });
    } catch (error) {
      const saw = sawTraces(reader, book, { cutoffMs: book.cutoffMs, onlyBeforeMs: input.onlyBeforeMs });
      if (saw) run.sawTraces();
      if (!(error instanceof Inconclusive)) throw error;
      outcome = { kind: 'inconclusive', why: error.message, book, counts: false, resubmit: false, saw };
    }
    return conclude(deps, input, { outcome, reader, nowMs, run });
  });
}

interface Scene {
  readonly book: Book;
  readonly projects: readonly Project[];
  readonly reader: Reader;
  readonly nowMs: number;
  readonly run: StepRun;
}

interface Outcome {
  readonly kind: VerifyAnswer['kind'];
  readonly why: string | null;
  readonly book: Book;
  /** Whether it may count if enough time has passed. */
  readonly counts: boolean;
  readonly resubmit: boolean;
  /** Of a read that proves nothing: whether it has shown traces that must go. */
  readonly saw?: boolean;
  /** Why nothing of it may be submitted before an operator has looked. Absent: nothing stands against it. */
  readonly stop?: string;
  /** The rows that were read, by trace; only with `stop`. */
  readonly present?: ReadonlyMap<string, readonly Row[]>;
}

async function readBack(deps: LaneDeps, input: VerifyInput, scene: Scene): Promise<Outcome> {
  const { book, projects, reader, nowMs } = scene;
  const { store } = deps;
  await reader.chooseControls();
  const noControl = reader.controls.length < LEAST_CONTROLS;
  if (noControl && book.controlsAtPlan >= LEAST_CONTROLS) {
    throw new Inconclusive(
      'no live trace of others can be found any more, although the plan saw some: it may be blind',
    );
  }

  // By id first: survivors there make the costlier searches unnecessary, since the read is not clean anyway.
  const visible = new Set(projects.map(({ id }) => id));
  const open = book.entries.filter(({ state }) =>
    ['pending', 'survived', 'goneBeforeSubmit', 'inconclusive'].includes(state),
  );
  const lost = open.filter(({ projectId }) => !visible.has(projectId));
  const readable = open.filter(({ projectId }) => visible.has(projectId));
  const present = await reader.present(readable);
  const strayed = await strayedTraces(deps, reader, readable, present);

  const kept = new Set(
    book.entries
      .filter(({ state }) => ['shared', 'linked', 'newActivity'].includes(state))
      .map((entry) => entryKey(entry)),
  );
  const reach: Reach = { cutoffMs: book.cutoffMs, onlyBeforeMs: input.onlyBeforeMs };
  const found = new Map<string, TraceKey>();
  const foundRows = new Map<string, Row[]>();
  let finders = 0;
  let cutShort = false;
  for (const finder of store.finders) {
    const rows = await reader.find(finder);
    if (rows === null) continue;
    finders += 1;
    groupByTrace(rows, foundRows);
    for (const [key, trace] of reader.confirmed(rows)) found.set(key, trace);
    // The read is not clean any more: what the other finders would show is shown again by the next one.
    // New activity shows in every read and must not keep one from being made whole.
    const isLate = (key: string): boolean => isNewActivity(startOf(foundRows.get(key) ?? []), reach);
    cutShort = [...found.keys()].some((key) => !kept.has(key) && !isLate(key));
    if (cutShort) break;
  }
  if (finders === 0) throw new Inconclusive('no way of searching by person is left');
  reader.assertClock();

  // A search may show what the look-up by id did not: that is a trace still there, whatever the reason.
  const unseen = [...found.values()].filter((trace) => !present.has(entryKey(trace)));
  groupByTrace([...(await wholeTraces(deps, reader, unseen)).values()].flat(), present);
  for (const key of found.keys()) if (!present.has(key)) present.set(key, foundRows.get(key) ?? []);

  const notByPerson = new Map([...strayed].filter(([key]) => !found.has(key)));
  for (const [key, trace] of notByPerson) found.set(key, trace);
  const known = await lookAgainForIds(reader, book, projects, noControl);
  for (const [key, trace] of known.traces) found.set(key, trace);
  const missing = [...known.traces.values()].filter((trace) => !present.has(entryKey(trace)));
  groupByTrace([...(await wholeTraces(deps, reader, missing)).values()].flat(), present);

  const old = new Set(book.entries.map(entryKey));
  const fresh = new Map([...found].filter(([key]) => !old.has(key)));
  const isThere = open.some((entry) => present.has(entryKey(entry)));
  const expansion = await followThreads(deps, reader, book, { fresh, present, isThere });
  groupByTrace([...expansion.whole.values()].flat(), present);

  const settled = input.settledAtMs === null || nowMs >= input.settledAtMs;
  const lostKeys = new Set(lost.map(entryKey));
  const isIncluded = sharedIncluded(book);
  const entries = book.entries.map((entry) =>
    entryAfterRead(reader, entry, {
      rows: present.get(entryKey(entry)),
      settled,
      lost: lostKeys.has(entryKey(entry)),
      keepRows: store.traits.deletesBy === 'row',
      reach,
      sharedIncluded: isIncluded(entry),
    }),
  );
  const strangers = new Map([...expansion.traces].filter(([key]) => !old.has(key)));
  const newcomers = classify(reader, fresh, present, {
    expansion: { ...expansion, traces: strangers },
    ...reach,
    asked: new Map([...known.traces, ...strayed]),
    erased: book.erasedByPolicy ?? [],
    foundByPerson: withoutKnown(withoutKnown(fresh, known.traces), notByPerson),
    // Consent was given for what the plan showed.
    consent: 0,
    keepRows: store.traits.deletesBy === 'row',
  });
  const turned = entries.filter((entry, index) => {
    const before = book.entries[index];
    return entry.state !== before?.state && kept.has(entryKey(entry));
  });
  const next: Book = {
    ...(await withCopiesOf(deps, scene, [...newcomers.book, ...turned], present, {
      ...reach,
      returned: hasReturned([...entries, ...newcomers.book]),
    })),
    entries: [...entries, ...newcomers.book],
    ...threadsAfter(book, expansion),
    known: known.ids
      .map((id) => ({ ...id, foreign: id.foreign || id.keys.some((key) => newcomers.foreign.has(key)) }))
      .map(({ keys: _keys, ...id }) => id),
    silentProjects: reader.silentProjects,
    notProvenBeforeMs: reader.notProvenBeforeMs,
    unprovenKinds: [...reader.unprovenKinds(book.baselineKinds)],
    people: [...new Set([...(book.people ?? []), ...newcomersOf(deps, entries, newcomers.book, present)])],
    approvedPeople: approvedPeople(book, input.book.digest, input),
    // One that was cut short says nothing of the finders that it did not ask.
    finders: cutShort ? book.finders : Math.min(book.finders, finders),
    batches: [],
  };
  const outcome = judge(deps, input, { book: next, present, noControl, lost: lost.length });
  // What was taken for a newcomer is kept, for instance because it carries others too: not every finder was asked (P5).
  if (!cutShort || !outcome.counts) return outcome;
  return { ...outcome, counts: false, why: 'clean, but not counted: it was cut short by traces that are kept' };
}

/**
 * Traces in which rows of the manifest stand now, written there by a producer that knew nothing of the deletion. Their rows
 * are read whole, as those of newcomers are: what they hold may be the person's, and nobody's say-so.
 */
export async function strayedTraces(
  deps: LaneDeps,
  reader: Reader,
  asked: readonly BookEntry[],
  present: Map<string, Row[]>,
): Promise<ReadonlyMap<string, TraceKey>> {
  const ours = new Set(asked.map(entryKey));
  const strayed = new Map<string, TraceKey>();
  for (const [key, rows] of present) {
    const [first] = rows;
    if (ours.has(key) || first === undefined) continue;
    strayed.set(key, { projectId: first.projectId, traceId: first.traceId });
  }
  for (const key of strayed.keys()) present.delete(key);
  // Look-ups by id span the whole server, and nothing may be done outside the projects of the config.
  if (reader.inScope([...strayed.values()]).length < strayed.size) {
    throw new Inconclusive(
      'rows of this person stand in a trace outside the projects examined: have the config examine it, or erase it there',
    );
  }
  const whole = await wholeTraces(deps, reader, [...strayed.values()]);
  groupByTrace([...whole.values()].flat(), present);
  return new Map([...strayed].filter(([key]) => present.has(key)));
}

/** Values of the primary kind on traces that would be submitted and never were. */
function newcomersOf(
  deps: LaneDeps,
  entries: readonly BookEntry[],
  newcomers: readonly BookEntry[],
  present: ReadonlyMap<string, readonly Row[]>,
): ReadonlySet<string> {
  const unsent = [...entries, ...newcomers].filter(({ state, sentMs }) => state === 'pending' && sentMs === null);
  return peopleOn(
    deps,
    unsent.flatMap((entry) => present.get(entryKey(entry)) ?? []),
  );
}

/** The book with the copies of newcomers, which must be found before these are submitted (P22). */
async function withCopiesOf(
  deps: LaneDeps,
  { book, reader, run }: Scene,
  newcomers: readonly BookEntry[],
  present: ReadonlyMap<string, readonly Row[]>,
  reach: CopyReach,
): Promise<Book> {
  const known = new Set(book.copies.map(({ kind, id }) => `${kind}/${id}`));
  const isNew = ({ kind, id }: Copy): boolean => !known.has(`${kind}/${id}`);
  const loose = newCopies(deps, reader.looseCopies().filter(isNew), reach);
  const copies = [...sparedCopies(deps, book, reader, reach), ...loose];
  // What the plan could look for, a later read may have left out: it proves nothing of that (P1).
  const unread = [...new Set([...book.notExamined, ...reader.notExamined])];
  if (newcomers.length === 0) return { ...book, copies, notExamined: unread };
  const traces = newcomers.flatMap(({ projectId, traceId, state }) =>
    state === 'newActivity' ? [] : [{ projectId, traceId }],
  );
  const rows = traces.flatMap((trace) => present.get(entryKey(trace)) ?? []);
  const found = await deps.store.copies(traces, rows, run.progress);
  reader.reports.push(...found.reports);
  const fresh = found.copies.filter(isNew);
  const outOfReach = found.outOfReach.reduce((sum, { count }) => sum + count, 0);
  return {
    ...book,
    copies: [...copies, ...newCopies(deps, fresh, reach)],
    // Most likely the same ones again: they are counted per connection, not per trace.
    outOfReach: Math.max(book.outOfReach, outOfReach),
    notExamined: [...new Set([...unread, ...found.notExamined.map(({ kind }) => kind)])],
  };
}

/**
 * The copies known so far. Data beside the traces that has no date may be of the person who has come back since it was
 * found: what is still there is left to people (P21).
 */
function sparedCopies(deps: LaneDeps, book: Book, reader: Reader, reach: CopyReach): readonly BookCopy[] {
  if (!reach.returned) return book.copies;
  const goes = new Set(deps.store.traits.copyMap.filter((copy) => copy.goesWithTrace).map(({ kind }) => kind));
  const seen = new Set(reader.looseCopies().map(({ kind, id }) => `${kind}/${id}`));
  return book.copies.map((copy): BookCopy => {
    const { kind, id, traceId, state, tries = 0 } = copy;
    if (state !== 'inconclusive' || traceId !== '' || goes.has(kind) || !mayBeLater(copy, reach)) return copy;
    // One that a call has erased already, and that is not there again, has gone as it was meant to.
    return tries > 0 && !seen.has(`${kind}/${id}`) ? copy : { ...copy, state: 'manual' };
  });
}

/** What a read makes of one trace of the manifest. */
function entryAfterRead(
  reader: Reader,
  entry: BookEntry,
  read: {
    readonly rows: readonly Row[] | undefined;
    readonly settled: boolean;
    readonly lost: boolean;
    readonly keepRows: boolean;
    readonly reach: Reach;
    readonly sharedIncluded: boolean;
  },
): BookEntry {
  if (entry.state === 'newActivity') return notNewAfterAll(reader, entry, read);
  if (entry.state === 'linked' || entry.state === 'shared') return oursAfterAll(reader, entry, read);
  if (!['pending', 'survived', 'goneBeforeSubmit', 'inconclusive'].includes(entry.state)) return entry;
  const { readable: _before, ...plain } = entry;
  if (read.lost) return { ...plain, state: 'inconclusive' };
  if (read.rows === undefined) {
    return entry.state === 'goneBeforeSubmit' ? entry : { ...plain, state: 'pending' };
  }
  const owner = reader.owner(read.rows);
  // What now carries only others, or others too, is theirs and no survivor (P14).
  if (owner === 'others' || (owner === 'mixed' && !read.sharedIncluded)) return { ...entry, state: 'shared' };
  const rowIds = read.keepRows ? [...new Set([...entry.rowIds, ...rowIdsOf(read.rows)])] : entry.rowIds;
  const state = entry.sentMs !== null && read.settled ? 'survived' : 'pending';
  return { ...entry, rowIds, readable: read.rows.length, state };
}

/** A trace that was kept and now carries the person alone. */
function oursAfterAll(
  reader: Reader,
  entry: BookEntry,
  { rows = [], reach, keepRows }: Parameters<typeof notNewAfterAll>[2],
): BookEntry {
  const startMs = entry.startMs ?? startOf(rows);
  if (reader.owner(rows) !== 'subject' || isNewActivity(startMs, reach)) return entry;
  // Where others were seen, every row must be there again: one that is not shown may still be theirs.
  const runs = new Set(rows.map(({ runId }) => runId)).size;
  if (entry.state === 'shared' && runs < entry.runs) return entry;
  const rowIds = keepRows ? rowIdsOf(rows) : entry.rowIds;
  return { ...entry, state: 'pending', via: 'person', startMs, rowIds, readable: rows.length };
}

/** New activity whose beginning was written late: it began before the cut-off, and is the request's. */
function notNewAfterAll(
  reader: Reader,
  entry: BookEntry,
  {
    rows = [],
    reach,
    keepRows,
  }: { readonly rows: readonly Row[] | undefined } & Pick<Parameters<typeof entryAfterRead>[2], 'reach' | 'keepRows'>,
): BookEntry {
  const startMs = startOf(rows);
  if (startMs === null || isNewActivity(startMs, reach)) return entry;
  const owner = reader.owner(rows);
  if (owner === 'subject') {
    return {
      ...entry,
      state: 'pending',
      startMs,
      rowIds: keepRows ? rowIdsOf(rows) : entry.rowIds,
    };
  }
  return { ...entry, state: owner === 'nobody' ? 'linked' : 'shared' };
}

/**
 * Follows the conversations again: those of newcomers, whose traces prove the search; and once nothing of the person is
 * readable any more, those of the plan, since what is written late may not name anybody.
 */
async function followThreads(
  deps: LaneDeps,
  reader: Reader,
  book: Book,
  now: {
    readonly fresh: ReadonlyMap<string, TraceKey>;
    readonly present: ReadonlyMap<string, readonly Row[]>;
    /** Whether any trace that must go is readable: the read is not clean anyway. */
    readonly isThere: boolean;
  },
): Promise<Expansion> {
  const { fresh, present, isThere } = now;
  const rowsOf = (key: string): readonly Row[] => present.get(key) ?? [];
  const newRows = [...fresh.keys()].map(rowsOf).filter((rows) => ['subject', 'mixed'].includes(reader.owner(rows)));
  const known = new Set((book.threads ?? []).map(threadKey));
  const own = threadsOf(deps, newRows.flat()).filter((thread) => !known.has(threadKey(thread)));
  if (own.length > 0) return expandThreads(deps, reader, own, { known: present, proof: 'own' });
  if (isThere || fresh.size > 0) return NOTHING_EXPANDED;
  const threads = (book.threads ?? []).map(({ projectId, key, text }) => ({ projectId, key, text }));
  return expandThreads(deps, reader, reader.inScope(threads), { known: present, proof: 'controls' });
}

/** What the book says of conversations after these were looked at. */
function threadsAfter(
  book: Book,
  { threads, others, missed }: Expansion,
): Pick<Book, 'threads' | 'othersInThreads' | 'threadsMissed'> {
  if (threads.length === 0) return {};
  const looked = new Set(threads.map(threadKey));
  const before = book.threads ?? [];
  const isAgain = before.some((thread) => looked.has(threadKey(thread)));
  return {
    // Of those that hold other people only the person's part has gone, so a conversation stays shared.
    threads: [
      ...before.filter((thread) => !looked.has(threadKey(thread))),
      ...threads.map((thread) => ({
        ...thread,
        shared: thread.shared || before.some((old) => old.shared && threadKey(old) === threadKey(thread)),
      })),
    ],
    othersInThreads: Math.max(book.othersInThreads ?? 0, isAgain ? others : (book.othersInThreads ?? 0) + others),
    threadsMissed: Math.max(book.threadsMissed ?? 0, isAgain ? missed : (book.threadsMissed ?? 0) + missed),
  };
}

function judge(
  deps: LaneDeps,
  input: VerifyInput,
  facts: {
    readonly book: Book;
    readonly present: ReadonlyMap<string, readonly Row[]>;
    readonly noControl: boolean;
    readonly lost: number;
  },
): Outcome {
  const { present, noControl, lost } = facts;
  const open = facts.book.entries.filter((entry) => entry.state === 'survived' || entry.state === 'pending');
  const readable = new Set(open.filter((entry) => present.has(entryKey(entry))).map(entryKey));
  const survivors = open.filter(({ state }) => state === 'survived').length;
  const unsent = open.filter((entry) => entry.sentMs === null && readable.has(entryKey(entry))).length;
  // What was sent and still has its window before it is not sent again for the sake of newcomers.
  const due = (entry: BookEntry): boolean =>
    survivors + unsent === 0 || entry.state === 'survived' || entry.sentMs === null;
  const batches = batchesOf(
    facts.book.entries,
    (entry) => (entry.state === 'survived' || entry.state === 'pending') && readable.has(entryKey(entry)) && due(entry),
    deps.store.traits.mostIdsPerDelete,
  );
  const book: Book = { ...facts.book, batches };
  if (survivors > 0 || unsent > 0) {
    const parts = [
      ...(survivors > 0 ? [`${formatTraces(survivors)} survived`] : []),
      ...(unsent > 0 ? [`${formatTraces(unsent)} not seen before`] : []),
    ];
    const kind = survivors > 0 ? 'survivors' : 'newcomers';
    // Only what was never sent can make more of it than there was.
    const most = stopFor(everSubmitted(book), book.limit, input.approvedAtMost);
    const stop = unsent === 0 ? null : (most ?? peopleStop(deps, book));
    if (stop !== null) {
      return { kind, why: parts.join(', '), book, counts: false, resubmit: false, stop, present };
    }
    return { kind, why: parts.join(', '), book, counts: false, resubmit: true };
  }
  if (readable.size > 0) {
    const until = input.settledAtMs === null ? '' : `, which it does ${formatInstant(input.settledAtMs)}`;
    const why = `${formatTraces(readable.size)} still readable; the store's window has not settled yet${until}`;
    return { kind: 'survivors', why, book, counts: false, resubmit: false };
  }
  const why = lost === 0 ? null : `${formatTraces(lost)} cannot be read: their project is not visible any more`;
  return { kind: noControl ? 'no-control' : 'clean', why, book, counts: true, resubmit: false };
}

interface LookedAgain {
  readonly ids: readonly (Book['known'][number] & { readonly keys: readonly string[] })[];
  readonly traces: ReadonlyMap<string, TraceKey>;
}

/**
 * `never matched` is said only after a second look (P11). Traces that no search by person shows are looked for in every
 * project again: their absence from one says nothing about the others.
 */
async function lookAgainForIds(
  reader: Reader,
  book: Book,
  projects: readonly Project[],
  noControl: boolean,
): Promise<LookedAgain> {
  const unmatched = book.known.filter(({ state }) => state === 'neverMatched' || state === 'unresolved');
  const given = book.entries.filter(
    ({ via, state }) => via === 'known' && ['pending', 'survived', 'goneBeforeSubmit', 'inconclusive'].includes(state),
  );
  const asked = new Set([...unmatched.map(({ id }) => id), ...given.map(({ traceId }) => traceId)]);
  const { rows, wrongKind } = await reader.locate([...asked]);
  const { places, outside } = placesOf(rows, projects);
  const traces = new Map<string, TraceKey>();
  for (const { traceId } of given) {
    for (const trace of places.get(traceId) ?? []) traces.set(entryKey(trace), trace);
  }
  const ids = book.known.map((known) => {
    if (known.state !== 'neverMatched' && known.state !== 'unresolved') {
      return { ...known, keys: [] };
    }
    const here = places.get(known.id);
    if (here !== undefined) {
      for (const trace of here) traces.set(entryKey(trace), trace);
      return { ...known, state: 'resolved' as const, keys: here.map(entryKey) };
    }
    const kind = wrongKind.get(known.id);
    if (kind !== undefined) return { ...known, state: 'wrongKind' as const, kind, keys: [] };
    const unclear = noControl || outside.has(known.id);
    return { ...known, state: unclear ? ('unresolved' as const) : ('neverMatched' as const), keys: [] };
  });
  return { ids, traces };
}

async function conclude(
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
    projects: recordedProjects({ examined: reader.recordableProjects() }),
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
function whyTooEarly(input: VerifyInput, nowMs: number, settleMs: number): string | null {
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

function withoutKnown(
  traces: ReadonlyMap<string, TraceKey>,
  known: ReadonlyMap<string, TraceKey>,
): ReadonlyMap<string, TraceKey> {
  return new Map([...traces].filter(([key]) => !known.has(key)));
}
