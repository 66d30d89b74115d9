import { stopFor } from '../erasure/approval.ts';
import { batchesOf, entryKey, type Book, type BookCopy, type BookEntry } from '../erasure/book.ts';
import { formatInstant, formatTraces } from '../erasure/format.ts';
import { isNewActivity, sharedIncluded, type Reach } from '../erasure/linked.ts';
import type { VerifyAnswer, VerifyInput } from '../erasure/steps.ts';
import type { Copy, Finder, Project, Row, TraceKey } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';
import { entryAfterRead } from './entry-after-read.ts';
import { everSubmitted } from './make-plan.ts';
import type { Reader } from './reader.ts';
import { groupByTrace, Inconclusive, LEAST_CONTROLS, threadKey } from './reader.ts';
import { approvedPeople, peopleOn, peopleStop } from './people.ts';
import { classify, hasReturned, mayBeLater, newCopies, placesOf, type CopyReach } from './resolve-ids.ts';
import { lostSight, lostSightInWords, READS_BEFORE_LASTING, withSight, type Shown } from './sight.ts';
import { startOf } from './sighting.ts';
import type { StepRun } from './step.ts';
import { expandThreads, NOTHING_EXPANDED, threadsOf, type Expansion } from './threads.ts';
import { wholeTraces } from './whole.ts';

/** What one read goes by. */
export interface Scene {
  readonly book: Book;
  readonly projects: readonly Project[];
  readonly reader: Reader;
  readonly nowMs: number;
  readonly run: StepRun;
}

/** What a read has shown, before it is decided whether it counts. */
export interface Outcome {
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

/** Reads by id and by person from scratch, and judges what is still there. */
export async function readBack(deps: LaneDeps, input: VerifyInput, scene: Scene): Promise<Outcome> {
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
  const shown = new Map<Finder, ReadonlySet<string>>();
  let finders = 0;
  let cutShort = false;
  for (const finder of store.finders) {
    const rows = await reader.find(finder);
    if (rows === null) continue;
    finders += 1;
    groupByTrace(rows, foundRows);
    const confirmed = reader.confirmed(rows);
    for (const [key, trace] of confirmed) found.set(key, trace);
    shown.set(finder, new Set(confirmed.keys()));
    // The read is not clean any more: what the other finders would show is shown again by the next one.
    // New activity shows in every read and must not keep one from being made whole.
    const isLate = (key: string): boolean => isNewActivity(startOf(foundRows.get(key) ?? []), reach);
    cutShort = [...found.keys()].some((key) => !kept.has(key) && !isLate(key));
    if (cutShort) break;
  }
  if (finders === 0) throw new Inconclusive('no way of searching by person is left');
  const sight: Shown = new Map(cutShort ? [] : [...shown].map(([{ name }, keys]) => [name, keys]));
  if (!cutShort) reader.compare(shown);
  const blinded = lostSight(book.entries, sight);
  if (blinded.size > 0) reader.notes.push(lostSightInWords(blinded));
  const isLasting = (input.unproven ?? 0) >= READS_BEFORE_LASTING;
  const given = isLasting ? blinded : new Set<string>();
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
    entries: [...withSight([...entries, ...newcomers.book], sight, given)],
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
    finders: cutShort ? book.finders : Math.min(book.finders, finders - given.size),
    batches: [],
  };
  const outcome = judge(deps, input, { book: next, present, noControl, lost: lost.length });
  if (outcome.counts && blinded.size > given.size) throw new Inconclusive(lostSightInWords(blinded));
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

function withoutKnown(
  traces: ReadonlyMap<string, TraceKey>,
  known: ReadonlyMap<string, TraceKey>,
): ReadonlyMap<string, TraceKey> {
  return new Map([...traces].filter(([key]) => !known.has(key)));
}
