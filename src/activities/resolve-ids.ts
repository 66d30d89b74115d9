import { mostWithoutApproval, stopFor } from '../erasure/approval.ts';
import { virtualNow } from '../erasure/clock.ts';
import {
  batchesOf,
  bookSchema,
  entryKey,
  type Book,
  type BookCopy,
  type BookEntry,
  type KnownId,
} from '../erasure/book.ts';
import type { Include } from '../erasure/include.ts';
import { askReason, erasedBy, isNewActivity, sharedIncluded, withIncluded, type Reach } from '../erasure/linked.ts';
import { settledAfter } from '../erasure/rhythm.ts';
import type { BlobRef, LanePolicy, ResolveAnswer, ResolveInput, Trouble } from '../erasure/steps.ts';
import {
  optionalInstant,
  RECORD_FORMAT,
  recordedClock,
  recordedFigures,
  recordedInstant,
  recordedProjects,
  recordedRead,
  recordedWindow,
  type OpenRecord,
} from '../evidence/record.ts';
import type { Copy, CopyTrait, Finder, Project, Row, TraceKey } from '../stores/port.ts';
import { withTasks } from './copies.ts';
import { currentBook } from './current-book.ts';
import type { LaneDeps } from './deps.ts';
import { bookName, expectedVerdict, figuresOf, nextLook } from './figures.ts';
import { assertNotHeld, digestsOfNamed } from './legal-hold.ts';
import { everSubmitted, makePlan } from './make-plan.ts';
import { Inconclusive, LEAST_CONTROLS, Reader, searchTerms, subjectDigests } from './reader.ts';
import { approvedPeople, peopleOn, peopleStop } from './people.ts';
import { withSight, type Shown } from './sight.ts';
import { runStep, StepTrouble, type StepRun } from './step.ts';
import { expandThreads, isUnclear, threadsOf, type Expansion } from './threads.ts';
import { wholeTraces } from './whole.ts';

/**
 * Finds the person's traces by every finder in every project, decides whose each is, and seals the manifest, before
 * anything is deleted.
 */
export function resolveIds(deps: LaneDeps, input: ResolveInput): Promise<ResolveAnswer | Trouble> {
  return runStep(deps, input, { step: 'resolve', round: 0, batch: null }, async (run) => {
    await openRecord(deps, input);
    // A plan alone deletes nothing.
    if (!input.dryRun) await assertNotHeld(deps, input.subject);
    try {
      const { book, include: _ofBefore, ...afresh } = input;
      // Another request has joined since the approval: its plan was never made.
      if (input.previous !== undefined) return await resolve(deps, afresh, run);
      return book === undefined ? await resolve(deps, input, run) : await approved(deps, { ...input, book }, run);
    } catch (error) {
      // A plan needs no proof of absence, but one made from blind reads would be a plan for nobody.
      if (error instanceof Inconclusive) throw new StepTrouble('contract-broken', error.message);
      throw error;
    }
  });
}

async function openRecord(deps: LaneDeps, input: ResolveInput): Promise<void> {
  const kinds = input.openedKinds ?? [...new Set(input.subject.map(({ kind }) => kind))];
  await deps.records.open(
    {
      format: RECORD_FORMAT,
      requestId: input.requestId,
      workflowId: input.workflowId,
      scopeDigest: input.scopeDigest,
      receivedAt: recordedInstant(input.receivedAtMs),
      dueAt: recordedInstant(input.dueAtMs),
      dryRun: input.dryRun,
      ...(input.requestedBy === undefined ? {} : { requestedBy: input.requestedBy }),
      ...recordedDeadlines(input),
      connections: [...input.connections],
      identifierKinds: [...kinds],
      startedAt: recordedInstant(virtualNow(deps.clock)),
      clock: recordedClock(deps.clock),
      versions: { lethe: deps.version, node: process.version },
    },
    subjectDigests(deps, input.subject),
  );
}

function recordedDeadlines({ deadlines }: ResolveInput): Pick<OpenRecord, 'deadlines'> {
  if (deadlines === undefined) return {};
  const { law, zone, confirmByMs } = deadlines;
  return { deadlines: { law, zone, confirmBy: optionalInstant(confirmByMs) } };
}

async function resolve(deps: LaneDeps, input: ResolveInput, run: StepRun): Promise<ResolveAnswer> {
  const { store } = deps;
  const nowMs = virtualNow(deps.clock);
  const projects = await store.projects(run.progress);
  if (projects.length === 0) {
    throw new StepTrouble('no-projects', 'the key sees no project; check its workspace and the configured projects');
  }
  const { searched } = searchTerms(deps, input.subject);
  const reader = new Reader(deps, { input, projects, nowMs, progress: run.progress });
  await reader.chooseControls();

  const found = await findByEveryFinder(deps, reader, input.onlyBeforeMs);
  const known = await sortKnownIds(deps, reader, input, projects);
  const candidates = new Map([...found.traces, ...known.traces]);
  const read = await wholeTraces(deps, reader, [...candidates.values()], found.runs);
  const ownRows = [...read.values()].filter((rows) => ['subject', 'mixed'].includes(reader.owner(rows))).flat();
  const expansion = await expandThreads(deps, reader, threadsOf(deps, ownRows), { known: read, proof: 'own' });
  const whole = new Map([...read, ...expansion.whole]);
  const cutoffMs = (input.latestReceiptMs ?? input.receivedAtMs) + deps.policy.graceMs;
  const erased = erasedBy(deps.policy);
  const entries = classify(reader, candidates, whole, {
    foundByPerson: found.traces,
    consent: input.acceptUnlabelled,
    keepRows: store.traits.deletesBy === 'row',
    expansion,
    cutoffMs,
    onlyBeforeMs: input.onlyBeforeMs,
    asked: known.traces,
    erased,
  });
  const knownIds = known.ids.map((id) => ({
    ...id.known,
    foreign: id.traces.some((trace) => entries.foreign.has(entryKey(trace))),
  }));
  const ours = entries.book.flatMap(({ projectId, traceId, state }) =>
    state === 'newActivity' ? [] : [{ projectId, traceId }],
  );
  const copies = await store.copies(
    ours,
    ours.flatMap((trace) => whole.get(entryKey(trace)) ?? []),
    run.progress,
  );
  reader.reports.push(...copies.reports);

  const enoughControls = reader.controls.length >= LEAST_CONTROLS;
  const most = mostWithoutApproval({ ...deps.policy, expectAtMost: input.expectAtMost });
  const examined = store.traits.copyMap.filter((copy) => !copy.examined).map((copy) => copy.kind);
  const fresh: Book = {
    format: 1,
    mergedRound: 0,
    limit: most,
    lost: Math.max(0, input.lostManifest - entries.book.length),
    projects: projects.map(({ id, name }) => ({ id, name })),
    baselineKinds: [...found.kinds],
    entries: [...withSight(entries.book, found.shown)],
    known: knownIds,
    copies: newCopies(deps, [...copies.copies, ...reader.looseCopies()], {
      cutoffMs,
      onlyBeforeMs: input.onlyBeforeMs,
      returned: hasReturned(entries.book),
    }),
    outOfReach: copies.outOfReach.reduce((sum, { count }) => sum + count, 0),
    notExamined: [...new Set([...examined, ...reader.notExamined, ...copies.notExamined.map(({ kind }) => kind)])],
    controlsAtPlan: reader.controls.length,
    silentProjects: reader.silentProjects,
    notProvenBeforeMs: reader.notProvenBeforeMs,
    unprovenKinds: [...reader.unprovenKinds([...found.kinds])],
    finders: found.finders,
    noControl: false,
    cutoffMs,
    threads: [...expansion.threads],
    othersInThreads: expansion.others,
    threadsMissed: expansion.missed,
    erasedByPolicy: erased,
    included: erased,
    named: digestsOfNamed(deps, [
      ...ours.flatMap((trace) => (whole.get(entryKey(trace)) ?? []).flatMap(({ persons }) => persons)),
      ...reader.looseNamed(),
    ]),
    people: [...found.people],
    batches: batchesOf(entries.book, ({ state }) => state === 'pending', store.traits.mostIdsPerDelete),
  };
  const { previous } = input;
  const mostIds = store.traits.mostIdsPerDelete;
  const planned = previous === undefined ? fresh : await continuedFrom(deps, input, previous.book, fresh);
  const draft = input.include === undefined ? planned : withIncluded(planned, input.include, mostIds);
  // What was sent has its window before it: the next read tells whether it must be sent again.
  const isDue = ({ state, sentMs }: BookEntry): boolean =>
    state === 'survived' || (state === 'pending' && sentMs === null);
  const batches = previous === undefined ? draft.batches : batchesOf(draft.entries, isDue, mostIds);
  // Nothing to delete: this read is the first of those that must prove it, if its controls make it one.
  const nothingFound = batches.length === 0 && previous === undefined;
  const book: Book = { ...draft, batches, noControl: nothingFound && !enoughControls };
  const figures = withTasks(deps, input, book, figuresOf(deps, book, searched));
  const ask = input.include === undefined ? askReason(book, deps.policy) : null;
  const stop = stopReason(deps, input, book) ?? ask;
  const ref = await deps.vault.put(input.requestId, bookName(input.connection, input.step), bookSchema.parse(book));
  const settle = store.traits.rhythm.settleMs;
  const plan = makePlan(deps, {
    input,
    book,
    ref,
    rows: whole,
    projects: reader.recordableProjects(),
    searched,
    nowMs,
    forgotten: input.lostManifest,
    outOfReach: copies.outOfReach,
  });
  const sentMs = latestSent(draft.entries);
  const settledAtMs = sentMs === null ? null : settledAfter(store.traits.rhythm, sentMs);
  const readFromMs = previous === undefined ? nowMs + settle : Math.max(nowMs, settledAtMs ?? nowMs);
  const cleanReads = nothingFound && clocksAgree(reader) ? 1 : 0;
  const answer: ResolveAnswer = {
    kind: 'planned',
    atMs: nowMs,
    clock: deps.clock,
    policy: recordedPolicy(deps.policy),
    searched,
    book: ref,
    batches: batches.map((batch) => batch.length),
    stop,
    plan,
    nextCheckAtMs: nextLook(deps, input.requestId, readFromMs),
    cleanReads,
    ...(previous === undefined ? {} : { settledAtMs }),
    ...expectedVerdict(deps, {
      nowMs,
      submits: batches.length > 0,
      settledAtMs,
      cleanReads,
      lastCountedAtMs: cleanReads > 0 ? nowMs : null,
    }),
    ...figures,
  };
  await run.note('plan', {
    kind: 'plan',
    at: recordedInstant(nowMs),
    store: store.traits.store,
    versions: { lethe: deps.version, node: process.version, connector: deps.version },
    clock: recordedClock(deps.clock),
    projects: recordedProjects(reader.allProjects()),
    searched: Object.fromEntries(Object.entries(searched).map(([kind, keys]) => [kind, [...keys]])),
    finders: store.finders.map(({ name }) => name),
    lookups: store.lookups.map(({ name }) => name),
    reports: reader.reports.map(recordedRead),
    controls: countBy(reader.controls.map(({ value }) => value.key)),
    window: recordedWindow(reader.window),
    notProvenBefore: optionalInstant(oldestProof(reader, entries.book)),
    disagreements: [...reader.notes],
    ...recordedFigures(figures),
    manifestDigest: ref.digest,
    batches: [...answer.batches],
    stop,
    plan,
    earliestVerdictAt: recordedInstant(answer.earliestVerdictAtMs ?? nowMs),
    policy: answer.policy,
    cutoff: recordedInstant(cutoffMs),
    threads: {
      searched: expansion.threads.length,
      shared: expansion.threads.filter(({ shared }) => shared).length,
      ofOthers: expansion.others,
      missed: expansion.missed,
    },
    limits: [...store.traits.limits],
    accepted: [...deps.accept],
  });
  return answer;
}

/** When any of these was sent last, epoch milliseconds; null: none was. There may be more than a call takes arguments. */
export function latestSent(entries: readonly Pick<BookEntry, 'sentMs'>[]): number | null {
  return entries.reduce<number | null>(
    (latest, { sentMs }) => (sentMs === null ? latest : Math.max(latest ?? sentMs, sentMs)),
    null,
  );
}

async function continuedFrom(deps: LaneDeps, input: ResolveInput, ref: BlobRef, fresh: Book): Promise<Book> {
  const before = await currentBook(deps, { ...input, book: ref });
  return { ...continued(before, fresh), approvedPeople: approvedPeople(before, ref.digest, input) };
}

/**
 * A manifest that goes on from an earlier one: whatever was known stays known, and everything that counted as done is to
 * be read again (P24). What now is the person's alone, by an identifier that joined, is no longer kept.
 */
export function continued(before: Book, now: Book): Book {
  const seen = new Map(now.entries.map((entry) => [entryKey(entry), entry]));
  const approval: Pick<Book, 'included' | 'sharedApproved'> = {
    included: [...new Set([...(before.included ?? []), ...(now.included ?? [])])],
    ...(before.sharedApproved === undefined ? {} : { sharedApproved: before.sharedApproved }),
  };
  const isIncluded = sharedIncluded({ ...now, ...approval });
  const entries = before.entries.map((old): BookEntry => {
    const found = seen.get(entryKey(old));
    if (found === undefined) {
      return old.state === 'verifiedAbsent' || old.state === 'inconclusive' ? { ...old, state: 'pending' } : old;
    }
    const rowIds = [...new Set([...old.rowIds, ...found.rowIds])];
    // What was sent is read back, whatever the plan would make of it now: what carries nobody any more is half deleted, and no
    // trace of the conversation that may be kept.
    const isOurs = found.state === 'linked' || (found.state === 'shared' && isIncluded(old));
    const due = old.sentMs !== null && isOurs ? 'pending' : found.state;
    const state = due === 'pending' && old.state === 'survived' ? 'survived' : due;
    return { ...found, state, rowIds, sentMs: old.sentMs, via: old.via === 'person' ? 'person' : found.via };
  });
  const had = new Set(before.entries.map(entryKey));
  const ids = new Map(before.known.map((known) => [known.id, known]));
  const copies = new Map(now.copies.map((copy) => [`${copy.kind}/${copy.id}`, copy]));
  for (const copy of before.copies) {
    // One that was erased is looked for once more, as its trace is.
    if (!copies.has(`${copy.kind}/${copy.id}`))
      copies.set(`${copy.kind}/${copy.id}`, copy.state === 'erased' ? { ...copy, state: 'inconclusive' } : copy);
  }
  return {
    ...now,
    mergedRound: before.mergedRound,
    lost: Math.max(before.lost, now.lost),
    baselineKinds: [...new Set([...before.baselineKinds, ...now.baselineKinds])],
    entries: [...entries, ...now.entries.filter((entry) => !had.has(entryKey(entry)))],
    known: now.known.map((known) => {
      const old = ids.get(known.id);
      const isGone = known.state === 'neverMatched' || known.state === 'unresolved';
      return old?.state === 'resolved' && isGone ? old : known;
    }),
    copies: [...copies.values()],
    outOfReach: Math.max(before.outOfReach, now.outOfReach),
    notExamined: [...new Set([...before.notExamined, ...now.notExamined])],
    controlsAtPlan: Math.max(before.controlsAtPlan, now.controlsAtPlan),
    finders: Math.min(before.finders, now.finders),
    ...approval,
    named: [...new Set([...(before.named ?? []), ...(now.named ?? [])])],
    people: [...new Set([...(before.people ?? []), ...(now.people ?? [])])],
  };
}

/** The plan that an operator approved, sealed anew with the traces that the approval includes. Nothing is searched. */
async function approved(
  deps: LaneDeps,
  input: ResolveInput & Required<Pick<ResolveInput, 'book'>>,
  run: StepRun,
): Promise<ResolveAnswer> {
  const nowMs = virtualNow(deps.clock);
  const before = await deps.vault.get(input.requestId, input.book, bookSchema);
  const { mostIdsPerDelete, rhythm } = deps.store.traits;
  const book: Book = {
    ...withIncluded(before, input.include ?? [], mostIdsPerDelete),
    approvedPeople: approvedPeople(before, input.book.digest, input),
  };
  const pending = book.entries.filter(({ state }) => state === 'pending').length;
  const stop = stopFor(pending, book.limit, input.approvedAtMost);
  const { searched } = searchTerms(deps, input.subject);
  const ref = await deps.vault.put(input.requestId, bookName(input.connection, input.step), bookSchema.parse(book));
  const figures = figuresOf(deps, book, searched);
  const batches = book.batches.map((batch) => batch.length);
  await run.note('approved-plan', {
    kind: 'approved-plan',
    at: recordedInstant(nowMs),
    include: [...(input.include ?? [])],
    ...recordedFigures(figures),
    manifestDigest: ref.digest,
    batches: [...batches],
  });
  return {
    kind: 'planned',
    atMs: nowMs,
    clock: deps.clock,
    policy: recordedPolicy(deps.policy),
    searched,
    book: ref,
    batches,
    stop,
    nextCheckAtMs: nextLook(deps, input.requestId, nowMs + rhythm.settleMs),
    // What the plan read may be long ago.
    cleanReads: 0,
    ...figures,
  };
}

interface Found {
  readonly traces: ReadonlyMap<string, TraceKey>;
  readonly kinds: ReadonlySet<string>;
  /** Runs found by the finder that found most. */
  readonly runs: number;
  /** Values of the primary kind on the traces found. */
  readonly people: ReadonlySet<string>;
  /** Finders that answered. */
  readonly finders: number;
  readonly shown: Shown;
}

async function findByEveryFinder(deps: LaneDeps, reader: Reader, onlyBeforeMs: number | undefined): Promise<Found> {
  const traces = new Map<string, TraceKey>();
  const kinds = new Set<string>();
  const people = new Set<string>();
  const shown = new Map<Finder, ReadonlySet<string>>();
  let runs = 0;
  let finders = 0;
  for (const finder of deps.store.finders) {
    const rows = await reader.find(finder);
    if (rows === null) continue;
    runs = Math.max(runs, rows.length);
    const confirmed = reader.confirmed(rows);
    finders += 1;
    shown.set(finder, new Set(confirmed.keys()));
    for (const [key, trace] of confirmed) traces.set(key, trace);
    for (const kind of reader.kindsSeen(rows)) kinds.add(kind);
    const isLater = ({ startMs }: Row): boolean =>
      onlyBeforeMs !== undefined && startMs !== null && startMs > onlyBeforeMs;
    for (const one of peopleOn(
      deps,
      rows.filter((row) => !isLater(row)),
    ))
      people.add(one);
  }
  if (finders === 0) throw new Inconclusive('no way of searching by person is left');
  reader.compare(shown);
  return { traces, kinds, runs, people, finders, shown: new Map([...shown].map(([{ name }, keys]) => [name, keys])) };
}

interface SortedId {
  readonly known: Omit<KnownId, 'foreign'>;
  /** More than one when an application wrote the same trace to several projects. */
  readonly traces: readonly TraceKey[];
}

/**
 * Where ids of traces and runs lie, in every project in scope. An id that only lies elsewhere is in `outside`: nothing
 * may be done there, and saying that it matches nothing would be untrue.
 */
export function placesOf(
  rows: readonly Row[],
  projects: readonly Project[],
): { readonly places: ReadonlyMap<string, readonly TraceKey[]>; readonly outside: ReadonlySet<string> } {
  const scope = new Set(projects.map(({ id }) => id));
  const byId = new Map<string, Map<string, TraceKey>>();
  const outside = new Set<string>();
  for (const { projectId, traceId, runId } of rows) {
    for (const id of [runId, traceId]) {
      if (!scope.has(projectId)) {
        outside.add(id);
        continue;
      }
      const of = byId.get(id) ?? new Map<string, TraceKey>();
      byId.set(id, of.set(entryKey({ projectId, traceId }), { projectId, traceId }));
    }
  }
  const places = new Map([...byId].map(([id, of]) => [id, [...of.values()]]));
  return { places, outside };
}

/** Tells the caller's ids apart by looking: traces, runs, something else, nothing (P11, P16). */
async function sortKnownIds(
  deps: LaneDeps,
  reader: Reader,
  input: ResolveInput,
  projects: readonly Project[],
): Promise<{ readonly ids: readonly SortedId[]; readonly traces: ReadonlyMap<string, TraceKey> }> {
  const normal = input.known.map((id) => deps.store.normaliseId(id));
  const asked = [...new Set(normal.filter((id) => id !== null))];
  const { rows, wrongKind } = await reader.locate(asked);
  const { places, outside } = placesOf(rows, projects);
  const projectIds = new Set(projects.map(({ id }) => id));
  const provesAbsence = reader.controls.length >= LEAST_CONTROLS;
  const traces = new Map<string, TraceKey>();
  const seenIds = new Set<string>();
  const ids = input.known.map((given, index): SortedId => {
    const id = normal[index] ?? null;
    if (id === null) return { known: { id: given, state: 'wrongKind', kind: 'no id' }, traces: [] };
    if (seenIds.has(id)) return { known: { id, state: 'duplicate', kind: null }, traces: [] };
    seenIds.add(id);
    const here = places.get(id);
    if (here !== undefined) {
      for (const trace of here) traces.set(entryKey(trace), trace);
      return { known: { id, state: 'resolved', kind: null }, traces: here };
    }
    if (outside.has(id)) return { known: { id, state: 'unresolved', kind: null }, traces: [] };
    const kind = wrongKind.get(id) ?? (projectIds.has(id) ? 'project' : null);
    if (kind !== null) return { known: { id, state: 'wrongKind', kind }, traces: [] };
    return { known: { id, state: provesAbsence ? 'neverMatched' : 'unresolved', kind: null }, traces: [] };
  });
  return { ids, traces };
}

/** The store's ids of rows, each once. */
export function rowIdsOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.map(({ runId }) => runId))];
}

/** Decides for each trace whether it may be deleted. */
export function classify(
  reader: Reader,
  candidates: ReadonlyMap<string, TraceKey>,
  whole: ReadonlyMap<string, readonly Row[]>,
  options: {
    readonly foundByPerson: ReadonlyMap<string, TraceKey>;
    readonly consent: number;
    /** Whether the store deletes by rows, so that their ids must be kept. */
    readonly keepRows: boolean;
    /** What stands in the person's conversations (P12). */
    readonly expansion: Expansion;
    /** What started later is new activity (P21); undefined: nothing is. */
    readonly cutoffMs: number | undefined;
    /** See `EraseInput.onlyBeforeMs`: what may have started later is new activity too. */
    readonly onlyBeforeMs?: number | undefined;
    /** Traces that are no new activity, whenever they began: the caller named them, or rows of the manifest stand there. */
    readonly asked: ReadonlyMap<string, TraceKey>;
    /** What the policy erases along. */
    readonly erased: readonly Include[];
  },
): { readonly book: BookEntry[]; readonly foreign: ReadonlySet<string> } {
  const { expansion, cutoffMs, onlyBeforeMs, erased, asked } = options;
  const book: BookEntry[] = [];
  const foreign = new Set<string>();
  const unlabelled: BookEntry[] = [];
  for (const [key, trace] of new Map([...expansion.traces, ...candidates])) {
    const rows = whole.get(key) ?? [];
    const inThread = expansion.traces.has(key);
    const starts = rows.map(({ startMs }) => startMs).filter((start) => start !== null);
    const entry: BookEntry = {
      ...trace,
      state: 'pending',
      via: options.foundByPerson.has(key) ? 'person' : candidates.has(key) ? 'known' : 'thread',
      runs: new Set(rows.map(({ runId }) => runId)).size,
      rowIds: options.keepRows ? rowIdsOf(rows) : [],
      startMs: starts.length === 0 ? null : Math.min(...starts),
      sentMs: null,
    };
    const owner = reader.owner(rows);
    const late = !asked.has(key) && isNewActivity(entry.startMs, { cutoffMs, onlyBeforeMs });
    const person: BookEntry = owner === 'subject' && entry.via === 'thread' ? { ...entry, via: 'person' } : entry;
    if (owner === 'others' && entry.via !== 'person') foreign.add(key);
    else if (late) book.push({ ...person, state: 'newActivity' });
    else if (owner === 'mixed') book.push(erased.includes('shared') ? entry : { ...entry, state: 'shared' });
    else if (entry.via === 'person' || owner === 'subject') book.push(person);
    else if (!inThread) unlabelled.push(entry);
    else {
      const sharedThread = isUnclear(rows, expansion.threads);
      const kept: BookEntry = { ...entry, state: 'linked', ...(sharedThread ? { sharedThread } : {}) };
      if (erased.includes('linked') && !sharedThread) book.push(entry);
      else if (entry.via === 'thread') book.push(kept);
      else unlabelled.push(kept);
    }
  }
  // Consent is for a number of traces, and covers all of them or none: nobody picked which.
  const covered = unlabelled.length <= options.consent;
  for (const entry of unlabelled) book.push({ ...entry, state: covered ? 'pending' : 'linked' });
  return { book, foreign };
}

function stopReason(deps: LaneDeps, { approvedAtMost, lostManifest }: ResolveInput, book: Book): string | null {
  // What a lost manifest named may have been submitted, and an approval covers all that ever is.
  const before = approvedAtMost === undefined ? 0 : lostManifest;
  return stopFor(everSubmitted(book) + before, book.limit, approvedAtMost) ?? peopleStop(deps, book);
}

/** The part of the policy that the lane and its record keep. */
function recordedPolicy(policy: LaneDeps['policy']): LanePolicy {
  const { cleanReads, flagAfterRounds, secondPersonAbove, waitForTasksMs } = policy;
  return {
    cleanReads,
    flagAfterRounds,
    ...(secondPersonAbove === undefined ? {} : { secondPersonAbove }),
    ...(waitForTasksMs === undefined ? {} : { waitForTasksMs }),
  };
}

function clocksAgree(reader: Reader): boolean {
  try {
    reader.assertClock();
    return true;
  } catch {
    return false;
  }
}

/** Whether the person has come back after the cut-off. */
export function hasReturned(entries: readonly BookEntry[]): boolean {
  return entries.some(({ state }) => state === 'newActivity');
}

/** What decides whether a copy that a call of ours would erase may be of a time that the request does not reach. */
export interface CopyReach extends Reach {
  /** See `hasReturned`. */
  readonly returned: boolean;
}

/** Whether a copy is, or may be, of a time that the request does not reach: it is left to people (P21). */
export function mayBeLater({ traceId, startMs }: Pick<BookCopy, 'traceId' | 'startMs'>, reach: CopyReach): boolean {
  // Copies of traces have no date. Of those of traces that are erased, only a request that is bound in time is unsure.
  if (traceId !== '') return reach.onlyBeforeMs !== undefined;
  if (startMs !== undefined) return isNewActivity(startMs, reach);
  return reach.onlyBeforeMs !== undefined || reach.returned;
}

/** Copies just found: those that go with their trace, or that we erase, are looked at again at the end. */
export function newCopies(deps: LaneDeps, copies: readonly Copy[], reach: CopyReach): BookCopy[] {
  const kindsOf = (chosen: (copy: CopyTrait) => boolean): ReadonlySet<string> =>
    new Set(deps.store.traits.copyMap.flatMap((copy) => (chosen(copy) ? [copy.kind] : [])));
  const goes = kindsOf(({ goesWithTrace }) => goesWithTrace);
  const erasable = kindsOf((copy) => copy.erasable === true);
  // One that was found by its origin and by a search counts once; the first of them knows its trace.
  const unique = new Map<string, Copy>();
  for (const copy of copies) if (!unique.has(`${copy.kind}/${copy.id}`)) unique.set(`${copy.kind}/${copy.id}`, copy);
  const shared = new Set(copies.filter(({ others }) => others === true).map(({ kind, id }) => `${kind}/${id}`));
  return [...unique.values()].map((copy) => {
    const { kind, id, traceId, where, startMs } = copy;
    const others = shared.has(`${kind}/${id}`);
    const isOpen = goes.has(kind) || (erasable.has(kind) && !others && !mayBeLater(copy, reach));
    return {
      kind,
      id,
      traceId,
      state: isOpen ? 'inconclusive' : 'manual',
      ...(where === undefined ? {} : { where }),
      ...(startMs === undefined ? {} : { startMs }),
      ...(others ? { others } : {}),
    };
  });
}

/** The oldest instant at which a read is shown to see something: the person's own trace or a control (P10). */
function oldestProof(reader: Reader, entries: readonly BookEntry[]): number | null {
  const starts = [...entries.map(({ startMs }) => startMs), ...reader.controls.map(({ startMs }) => startMs)];
  const known = starts.filter((start) => start !== null);
  return known.length === 0 ? null : known.reduce((oldest, start) => Math.min(oldest, start));
}

function countBy(keys: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of keys) counts[key] = (counts[key] ?? 0) + 1;
  return counts;
}
