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
import { formatCount } from '../erasure/format.ts';
import type { LanePolicy, ResolveAnswer, ResolveInput, Trouble } from '../erasure/steps.ts';
import {
  optionalInstant,
  RECORD_FORMAT,
  recordedClock,
  recordedFigures,
  recordedInstant,
  recordedProjects,
  recordedRead,
  recordedWindow,
} from '../evidence/record.ts';
import type { Copy, CopyTrait, Project, Row, TraceKey, TraceRef } from '../stores/port.ts';
import { withTasks } from './copies.ts';
import type { LaneDeps } from './deps.ts';
import { bookName, figuresOf, nextLook } from './figures.ts';
import { groupByTrace, Inconclusive, LEAST_CONTROLS, Reader, searchTerms, subjectDigests } from './reader.ts';
import { runStep, StepTrouble, type StepRun } from './step.ts';

/**
 * More values of the primary kind than this behind identifiers of other kinds: they may name several people, and only
 * the caller knows (P18).
 */
const MOST_PEOPLE_PER_IDENTIFIER = 1;

/**
 * Finds the person's traces by every finder in every project, decides whose each is, and seals the manifest, before
 * anything is deleted.
 */
export function resolveIds(deps: LaneDeps, input: ResolveInput): Promise<ResolveAnswer | Trouble> {
  return runStep(deps, input, { step: 'resolve', round: 0, batch: null }, async (run) => {
    await openRecord(deps, input);
    try {
      return await resolve(deps, input, run);
    } catch (error) {
      // A plan needs no proof of absence, but one made from blind reads would be a plan for nobody.
      if (error instanceof Inconclusive) throw new StepTrouble('contract-broken', error.message);
      throw error;
    }
  });
}

async function openRecord(deps: LaneDeps, input: ResolveInput): Promise<void> {
  const kinds = [...new Set(input.subject.map(({ kind }) => kind))];
  await deps.records.open(
    {
      format: RECORD_FORMAT,
      requestId: input.requestId,
      workflowId: input.workflowId,
      scopeDigest: input.scopeDigest,
      receivedAt: recordedInstant(input.receivedAtMs),
      dueAt: recordedInstant(input.dueAtMs),
      dryRun: input.dryRun,
      connections: [...input.connections],
      identifierKinds: kinds,
      startedAt: recordedInstant(virtualNow(deps.clock)),
      clock: recordedClock(deps.clock),
      versions: { lethe: deps.version, node: process.version },
    },
    subjectDigests(deps, input.subject),
  );
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

  const found = await findByEveryFinder(deps, reader);
  const known = await sortKnownIds(deps, reader, input, projects);
  const candidates = new Map([...found.traces, ...known.traces]);
  const whole = await wholeTraces(deps, reader, [...candidates.values()], found.runs);
  const entries = classify(reader, candidates, whole, {
    foundByPerson: found.traces,
    consent: input.acceptUnlabelled,
    keepRows: store.traits.deletesBy === 'row',
  });
  const knownIds = known.ids.map((id) => ({
    ...id.known,
    foreign: id.traces.some((trace) => entries.foreign.has(entryKey(trace))),
  }));
  const ours = entries.book.map(({ projectId, traceId }) => ({ projectId, traceId }));
  const copies = await store.copies(
    ours,
    ours.flatMap((trace) => whole.get(entryKey(trace)) ?? []),
    run.progress,
  );
  reader.reports.push(...copies.reports);

  const enoughControls = reader.controls.length >= LEAST_CONTROLS;
  const most = input.expectAtMost ?? deps.policy.refuseAbove;
  const examined = store.traits.copyMap.filter((copy) => !copy.examined).map((copy) => copy.kind);
  const draft: Book = {
    format: 1,
    mergedRound: 0,
    limit: most,
    lost: Math.max(0, input.lostManifest - entries.book.length),
    projects: projects.map(({ id, name }) => ({ id, name })),
    baselineKinds: [...found.kinds],
    entries: entries.book,
    known: knownIds,
    copies: newCopies(deps, [...copies.copies, ...reader.looseCopies()]),
    outOfReach: copies.outOfReach.reduce((sum, { count }) => sum + count, 0),
    notExamined: [...new Set([...examined, ...copies.notExamined.map(({ kind }) => kind)])],
    controlsAtPlan: reader.controls.length,
    silentProjects: reader.silentProjects,
    notProvenBeforeMs: reader.notProvenBeforeMs,
    unprovenKinds: [...reader.unprovenKinds([...found.kinds])],
    finders: found.finders,
    noControl: false,
    batches: [],
  };
  const batches = batchesOf(draft.entries, ({ state }) => state === 'pending', store.traits.mostIdsPerDelete);
  // Nothing to delete: this read is the first of those that must prove it, if its controls make it one.
  const nothingFound = batches.length === 0;
  const book: Book = { ...draft, batches, noControl: nothingFound && !enoughControls };
  const figures = withTasks(deps, input, book, figuresOf(deps, book, searched));
  const stop = stopReason(deps, book, found.people, most);
  const ref = await deps.vault.put(input.requestId, bookName(input.connection, input.step), bookSchema.parse(book));
  const settle = store.traits.rhythm.settleMs;
  const answer: ResolveAnswer = {
    kind: 'planned',
    atMs: nowMs,
    clock: deps.clock,
    policy: recordedPolicy(deps.policy),
    searched,
    book: ref,
    batches: batches.map((batch) => batch.length),
    stop,
    nextCheckAtMs: nextLook(deps, input.requestId, nowMs + settle),
    cleanReads: nothingFound && clocksAgree(reader) ? 1 : 0,
    ...figures,
  };
  await run.note('plan', {
    kind: 'plan',
    at: recordedInstant(nowMs),
    store: store.traits.store,
    versions: { lethe: deps.version, node: process.version, connector: deps.version },
    clock: recordedClock(deps.clock),
    projects: recordedProjects({ examined: reader.recordableProjects() }),
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
    policy: answer.policy,
    limits: [...store.traits.limits],
    accepted: [...deps.accept],
  });
  return answer;
}

interface Found {
  readonly traces: ReadonlyMap<string, TraceKey>;
  readonly kinds: ReadonlySet<string>;
  /** Runs found by the finder that found most. */
  readonly runs: number;
  /** Values of the primary kind on the traces found. */
  readonly people: number;
  /** Finders that answered. */
  readonly finders: number;
}

async function findByEveryFinder(deps: LaneDeps, reader: Reader): Promise<Found> {
  const traces = new Map<string, TraceKey>();
  const kinds = new Set<string>();
  const primary = deps.kinds[0]?.kind;
  const people = new Set<string>();
  const counts: number[] = [];
  let runs = 0;
  let finders = 0;
  for (const finder of deps.store.finders) {
    const rows = await reader.find(finder);
    if (rows === null) continue;
    runs = Math.max(runs, rows.length);
    const confirmed = reader.confirmed(rows);
    finders += 1;
    // One that searches by some keys only may well find less.
    if (reader.searchesAll(finder)) counts.push(confirmed.size);
    for (const [key, trace] of confirmed) traces.set(key, trace);
    for (const kind of reader.kindsSeen(rows)) kinds.add(kind);
    for (const { persons } of rows) for (const { kind, text } of persons) if (kind === primary) people.add(text);
  }
  if (finders === 0) throw new Inconclusive('no way of searching by person is left');
  if (counts.some((count) => count !== traces.size)) {
    reader.notes.push(`finders disagree: ${counts.join(' and ')} traces; all ${traces.size} are taken`);
  }
  return { traces, kinds, runs, people: people.size, finders };
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

/**
 * Every run of the traces that any route shows, so that nobody on another run of the same trace is overlooked (P17):
 * two generations of an interface may be weeks apart.
 */
export async function wholeTraces(
  deps: LaneDeps,
  reader: Reader,
  traces: readonly TraceRef[],
  runsThere = 0,
): Promise<ReadonlyMap<string, readonly Row[]>> {
  const whole = new Map<string, Row[]>();
  let routes = 0;
  for (const route of deps.store.lookups) {
    const rows = await reader.lookup(route, traces, runsThere);
    if (rows === null) continue;
    routes += 1;
    groupByTrace(rows, whole);
  }
  if (routes === 0) throw new Inconclusive('no route for reading traces by id is left');
  return whole;
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
  },
): { readonly book: BookEntry[]; readonly foreign: ReadonlySet<string> } {
  const book: BookEntry[] = [];
  const foreign = new Set<string>();
  const unlabelled: BookEntry[] = [];
  for (const [key, trace] of candidates) {
    const rows = whole.get(key) ?? [];
    const starts = rows.map(({ startMs }) => startMs).filter((start) => start !== null);
    const entry: BookEntry = {
      ...trace,
      state: 'pending',
      via: options.foundByPerson.has(key) ? 'person' : 'known',
      runs: new Set(rows.map(({ runId }) => runId)).size,
      rowIds: options.keepRows ? rowIdsOf(rows) : [],
      startMs: starts.length === 0 ? null : Math.min(...starts),
      sentMs: null,
    };
    const owner = reader.owner(rows);
    if (owner === 'mixed') book.push({ ...entry, state: 'shared' });
    else if (entry.via === 'person' || owner === 'subject') book.push(entry);
    else if (owner === 'others') foreign.add(key);
    else unlabelled.push(entry);
  }
  // Consent is for a number of traces, and covers all of them or none: nobody picked which.
  const covered = unlabelled.length <= options.consent;
  for (const entry of unlabelled) book.push(covered ? entry : { ...entry, state: 'linked' });
  return { book, foreign };
}

function stopReason(deps: LaneDeps, book: Book, people: number, most: number): string | null {
  const matched = book.entries.filter(({ state }) => state === 'pending').length;
  const advice = 'nothing was deleted; abandon this request, check the identifiers, and start again';
  if (matched > most) {
    return `${formatCount(matched)} traces match, more than the ${formatCount(most)} expected: ${advice} with --expect-at-most`;
  }
  const primary = deps.kinds[0]?.kind;
  if (primary !== undefined && !book.baselineKinds.includes(primary) && people > MOST_PEOPLE_PER_IDENTIFIER) {
    return `the identifiers given match traces with ${formatCount(people)} different values of ${primary}: ${advice}, naming each ${primary} that is this person's`;
  }
  return null;
}

/** The part of the policy that the lane and its record keep. */
function recordedPolicy({ cleanReads, flagAfterRounds, waitForTasksMs }: LaneDeps['policy']): LanePolicy {
  return { cleanReads, flagAfterRounds, ...(waitForTasksMs === undefined ? {} : { waitForTasksMs }) };
}

function clocksAgree(reader: Reader): boolean {
  try {
    reader.assertClock();
    return true;
  } catch {
    return false;
  }
}

/** Copies just found: those that go with their trace, or that we erase, are looked at again at the end. */
export function newCopies(deps: LaneDeps, copies: readonly Copy[]): BookCopy[] {
  const open = (copy: CopyTrait): boolean => copy.goesWithTrace || copy.erasable === true;
  const lookedAgain = new Set(deps.store.traits.copyMap.flatMap((copy) => (open(copy) ? [copy.kind] : [])));
  // One that was found by its origin and by a search counts once; the first of them knows its trace.
  const unique = new Map<string, Copy>();
  for (const copy of copies) if (!unique.has(`${copy.kind}/${copy.id}`)) unique.set(`${copy.kind}/${copy.id}`, copy);
  const goes = new Set(deps.store.traits.copyMap.flatMap((copy) => (copy.goesWithTrace ? [copy.kind] : [])));
  const shared = new Set(copies.filter(({ others }) => others === true).map(({ kind, id }) => `${kind}/${id}`));
  return [...unique.values()].map(({ kind, id, traceId, where }) => {
    const others = shared.has(`${kind}/${id}`);
    return {
      kind,
      id,
      traceId,
      state: lookedAgain.has(kind) && (!others || goes.has(kind)) ? 'inconclusive' : 'manual',
      ...(where === undefined ? {} : { where }),
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
