import { DAY_MS } from '../erasure/rhythm.ts';
import { ownerOf, subjectVariants, type Owner, type SubjectVariants } from '../erasure/owners.ts';
import { entryKey } from '../erasure/book.ts';
import { classOf, type ValueClass } from '../erasure/value-class.ts';
import type { StepInput } from '../erasure/steps.ts';
import {
  StoreError,
  THREAD_KIND,
  type Control,
  type ControlsFound,
  type Copy,
  type Finder,
  type Located,
  type LooseRow,
  type LookupRoute,
  type PersonValue,
  type Progress,
  type Project,
  type ProjectAside,
  type Read,
  type ReadReport,
  type Row,
  type SearchTerm,
  type ThreadValue,
  type TraceKey,
  type TraceRef,
  type Window,
} from '../stores/port.ts';
import type { recordedProjects } from '../evidence/record.ts';
import { subjectDigest } from '../vault/keys.ts';
import type { LaneDeps } from './deps.ts';
import { recentDigest } from './recent-digest.ts';

/** Fewer controls than this prove too little (P7). */
export const LEAST_CONTROLS = 2;

/** Controls wanted for each project and key. */
const CONTROLS_PER_KEY = 2;

/** More controls than this in one call make its filter long for nothing. */
const MOST_CONTROLS = 20;

/** How often vanished controls are replaced before a read is called blind. */
const REPLACEMENTS = 2;

/** Searches look this far past now: a source with a fast clock writes into the future (P10). */
const FUTURE_MS = 7 * DAY_MS;

/** A conversation: its value under one of the store's keys, in one project. */
export interface Thread extends Pick<ThreadValue, 'key' | 'text'> {
  readonly projectId: string;
}

export function threadKey({ projectId, key, text }: Thread): string {
  return JSON.stringify([projectId, key, text]);
}

/** Thrown when reads went through and yet prove nothing; the text is for an operator. */
export class Inconclusive extends Error {
  constructor(text: string) {
    super(text);
    this.name = 'Inconclusive';
  }
}

/** The searchable identifiers of a request in this connection, and those that are not (P8). */
export function searchTerms(
  deps: LaneDeps,
  subject: StepInput['subject'],
): { readonly terms: readonly SearchTerm[]; readonly searched: Readonly<Record<string, readonly string[]>> } {
  const variants = variantsOf(deps, subject);
  const searched: Record<string, readonly string[]> = {};
  const terms: SearchTerm[] = [];
  for (const [kind, spellings] of variants) {
    const keys = deps.searchKeys[kind] ?? [];
    searched[kind] = keys;
    if (keys.length > 0) terms.push({ kind, keys, variants: [...spellings] });
  }
  return { terms, searched };
}

function variantsOf(deps: LaneDeps, subject: StepInput['subject']): SubjectVariants {
  const folded = deps.kinds.filter(({ caseInsensitive }) => caseInsensitive).map(({ kind }) => kind);
  return subjectVariants(subject, new Set(folded));
}

/** Every spelling of the subject as a keyed digest: how the record knows who has an open request. */
export function subjectDigests(deps: LaneDeps, subject: StepInput['subject']): readonly string[] {
  return [...variantsOf(deps, subject)].flatMap(([kind, spellings]) =>
    [...spellings].map((spelling) => subjectDigest(deps.keys, kind, spelling)),
  );
}

/**
 * The reads of one step: every one carries the same controls, and counts only if it saw them. Controls never leave it.
 */
export class Reader {
  readonly reports: ReadReport[] = [];
  /** For the record: routes that have ended, finders that disagreed. */
  readonly notes: string[] = [];
  /** Kinds of rows that look-ups of the traces did not look for. */
  readonly notExamined = new Set<string>();
  /** What the reads have shown, also those that prove nothing. */
  readonly rowsRead: Row[] = [];
  readonly window: Window;
  controls: readonly Control[] = [];
  silentProjects = 0;
  /** See `ControlsFound`. */
  notProvenBeforeMs: number | null = null;
  /** Projects that the latest choice of controls noticed and nothing examines. */
  private aside: Pick<ControlsFound, 'leftOut' | 'unreachable'> = {};
  private threadControls: readonly Control[] = [];
  private readonly loose = new Map<string, LooseRow>();
  private readonly deps: LaneDeps;
  private readonly requestId: string;
  private readonly variants: SubjectVariants;
  private readonly terms: readonly SearchTerm[];
  private readonly projects: readonly Project[];
  private readonly progress: Progress;
  private readonly ended = new Set<string>();
  private readonly controlTally = new Map<string, { asked: number; seen: number }>();

  constructor(
    deps: LaneDeps,
    options: {
      readonly input: StepInput;
      readonly projects: readonly Project[];
      readonly nowMs: number;
      readonly progress: Progress;
    },
  ) {
    this.deps = deps;
    this.requestId = options.input.requestId;
    this.variants = variantsOf(deps, options.input.subject);
    this.terms = searchTerms(deps, options.input.subject).terms;
    this.projects = options.projects;
    this.progress = options.progress;
    this.window = { fromMs: 0, toMs: options.nowMs + FUTURE_MS };
  }

  /** Chooses live traces of people without an open request, afresh. */
  async chooseControls(): Promise<void> {
    const isBarred = await this.barredNow();
    const found = await this.deps.store.controls({
      projects: this.projects,
      terms: this.controlTerms(),
      window: this.window,
      want: CONTROLS_PER_KEY,
      exclude: (row) => row.persons.some(isBarred),
      progress: this.progress,
    });
    this.reports.push(...found.reports);
    this.controls = spread(found.controls, MOST_CONTROLS);
    this.notProvenBeforeMs = found.notProvenBeforeMs ?? null;
    this.aside = found;
    this.silentProjects = found.silent.filter(({ holdsRuns }) => holdsRuns).length;
  }

  /**
   * Chooses live traces of other conversations, for searches that the person's own traces cannot prove any more. There may
   * be none: then what proves them is that the plan found the person's traces by the same search, and that the route
   * works (P6).
   */
  async chooseThreadControls(threads: readonly Thread[]): Promise<void> {
    const isBarred = await this.barredNow();
    const ours = new Set(threads.map(threadKey));
    const found = await this.deps.store.controls({
      projects: this.projectsOf(threads),
      terms: [{ kind: THREAD_KIND, keys: [...new Set(threads.map(({ key }) => key))] }],
      window: this.window,
      want: CONTROLS_PER_KEY,
      exclude: ({ projectId, persons, threads: of = [] }) =>
        persons.some(isBarred) || of.some((value) => ours.has(threadKey({ projectId, ...value }))),
      progress: this.progress,
    });
    this.reports.push(...found.reports);
    this.threadControls = spread(found.controls, MOST_CONTROLS);
  }

  /** Whose rows may not serve as controls now. */
  private async barredNow(): Promise<(value: PersonValue) => boolean> {
    const open = await this.deps.records.openSubjectDigests(this.requestId);
    // A page holds the same few people again and again, and many people who share it each ask about all of them.
    const known = new Map<string, Map<string, boolean>>();
    return ({ kind, text }) => {
      const ofKind = known.get(kind) ?? new Map<string, boolean>();
      known.set(kind, ofKind);
      const before = ofKind.get(text);
      if (before !== undefined) return before;
      const barred =
        (this.variants.get(kind)?.has(text) ?? false) || open.has(recentDigest(this.deps.keys, kind, text));
      ofKind.set(text, barred);
      return barred;
    };
  }

  /** Kinds searched for which an empty answer proves nothing: no like control, and the plan saw none (P6). */
  unprovenKinds(baselineKinds: readonly string[]): readonly string[] {
    const seen = new Map<string, Set<ValueClass>>();
    for (const { value } of this.controls)
      seen.set(value.kind, (seen.get(value.kind) ?? new Set()).add(classOf(value)));
    return this.terms
      .filter(({ kind, variants }) => {
        const classes = seen.get(kind) ?? new Set<ValueClass>();
        const proven = variants.every((text) =>
          PROVEN_BY[classOf({ text, numeric: false })].some((by) => classes.has(by)),
        );
        return !baselineKinds.includes(kind) && !proven;
      })
      .map(({ kind }) => kind);
  }

  /** Controls asked for and seen, by route, for the record. */
  tally(): Record<string, { asked: number; seen: number }> {
    return Object.fromEntries(this.controlTally);
  }

  /** Whether a finder can search by every key that the request's identifiers have here. */
  searchesAll({ searches }: Finder): boolean {
    return searches === undefined || this.terms.every(({ keys }) => keys.every(searches));
  }

  /** Notes for the record when finders differ in the traces that they have shown (P5). */
  compare(shown: ReadonlyMap<Finder, ReadonlySet<string>>): void {
    const all = new Set([...shown.values()].flatMap((keys) => [...keys]));
    // One that searches by some keys only may well find less.
    const counts = [...shown].filter(([finder]) => this.searchesAll(finder)).map(([, keys]) => keys.size);
    if (counts.every((count) => count === all.size)) return;
    this.notes.push(`finders disagree: ${counts.join(' and ')} traces, ${all.size} together; all of them are taken`);
  }

  /**
   * Searches by person through one finder, by those keys that it can search.
   *
   * @returns null when the finder has ended for good, or can search by none.
   */
  find(finder: Finder): Promise<readonly Row[] | null> {
    if (this.terms.length === 0) return Promise.resolve([]);
    const { projects, window, progress } = this;
    const { searches = () => true } = finder;
    const terms = this.terms
      .map((term) => ({ ...term, keys: term.keys.filter(searches) }))
      .filter(({ keys }) => keys.length > 0);
    if (terms.length === 0) return Promise.resolve(null);
    return this.controlled(finder.name, (controls) => finder.find({ projects, terms, window, controls, progress }));
  }

  /**
   * Searches for conversations through one finder, by those keys that it can search.
   *
   * @param mostRows see `FindQuery`.
   * @returns only rows of exactly these conversations; null when the finder has ended for good, or can search by none.
   * @throws TooManyRows, StoreError
   */
  async findThreads(finder: Finder, threads: readonly Thread[], mostRows: number): Promise<readonly Row[] | null> {
    const { window, progress } = this;
    const { searches = () => true } = finder;
    const terms = [...new Set(threads.map(({ key }) => key))].filter(searches).map((key) => ({
      kind: THREAD_KIND,
      keys: [key],
      variants: [...new Set(threads.filter((thread) => thread.key === key).map(({ text }) => text))],
    }));
    if (terms.length === 0) return null;
    const projects = this.projectsOf(threads);
    const keys = new Set(terms.flatMap((term) => term.keys));
    const rows = await this.controlled(
      finder.name,
      (controls) => finder.find({ projects, terms, window, controls, mostRows, progress }),
      {
        current: () => this.threadControls.filter(({ value }) => keys.has(value.key)),
        choose: () => this.chooseThreadControls(threads),
        least: 0,
      },
    );
    const wanted = new Set(threads.map(threadKey));
    const isOurs = ({ projectId, threads: of = [] }: Row): boolean =>
      of.some((value) => wanted.has(threadKey({ projectId, ...value })));
    return rows === null ? null : rows.filter(isOurs);
  }

  /** Those conversations or traces whose project is still visible. */
  inScope<Of extends Pick<TraceKey, 'projectId'>>(all: readonly Of[]): readonly Of[] {
    const visible = new Set(this.projects.map(({ id }) => id));
    return all.filter(({ projectId }) => visible.has(projectId));
  }

  private projectsOf(threads: readonly Thread[]): readonly Project[] {
    const ids = new Set(threads.map(({ projectId }) => projectId));
    return this.projects.filter(({ id }) => ids.has(id));
  }

  /**
   * Reads whole traces through one route.
   *
   * @param runsThere see `LookupQuery`.
   * @returns null when the route has ended for good.
   */
  lookup(route: LookupRoute, traces: readonly TraceRef[], runsThere = 0): Promise<readonly Row[] | null> {
    if (traces.length === 0) return Promise.resolve([]);
    const { window, progress } = this;
    return this.controlled(route.name, (controls) => route.lookup({ traces, window, controls, runsThere, progress }));
  }

  /** Looks ids of unknown kind up in every visible project. */
  async locate(ids: readonly string[]): Promise<Pick<Located, 'rows' | 'wrongKind'>> {
    if (ids.length === 0) return { rows: [], wrongKind: new Map() };
    const { projects, window, progress } = this;
    let wrongKind: Located['wrongKind'] = new Map();
    const rows = await this.controlled('locate', async (controls) => {
      const located = await this.deps.store.locate({ ids, projects, window, controls, progress });
      wrongKind = located.wrongKind;
      return located;
    });
    if (rows === null) throw new Inconclusive('no way of looking ids up is left');
    return { rows, wrongKind };
  }

  /**
   * Which of the traces are readable through any route (P4): each further route is asked only for those that the
   * earlier ones did not show.
   */
  async present(traces: readonly TraceRef[]): Promise<Map<string, Row[]>> {
    const present = new Map<string, Row[]>();
    let routes = 0;
    for (const route of this.deps.store.lookups) {
      const asked = traces.filter((trace) => !present.has(entryKey(trace)));
      const rows = await this.lookup(route, asked);
      if (rows === null) continue;
      routes += 1;
      if (present.size > 0 && rows.length > 0) this.notes.push(`${route.name} shows traces that others do not`);
      groupByTrace(rows, present);
    }
    if (routes === 0) throw new Inconclusive('no route for reading traces by id is left');
    return present;
  }

  owner(rows: readonly Row[]): Owner {
    const values = rows.flatMap(({ persons }) => persons);
    const { cutLength, cutBy } = this.deps.store.traits;
    return ownerOf(values, this.variants, cutLength, cutBy);
  }

  /** Traces among the rows of a search that carry the subject's exact value (P15). */
  confirmed(rows: readonly Row[]): ReadonlyMap<string, TraceKey> {
    const traces = new Map<string, TraceKey>();
    for (const { projectId, traceId, persons } of rows) {
      const match = persons.some(({ kind, text }) => this.variants.get(kind)?.has(text) ?? false);
      if (match) traces.set(entryKey({ projectId, traceId }), { projectId, traceId });
    }
    return traces;
  }

  /** Data of the subject's, by exact value (P15), that the searches so far showed beside the traces. */
  looseCopies(): readonly Copy[] {
    return [...this.loose.values()].map(({ kind, id, persons, where, startMs }) => ({
      kind,
      id,
      traceId: '',
      ...(startMs === undefined ? {} : { startMs }),
      ...(where === undefined ? {} : { where }),
      // Others stand in it as well: no call may erase it (P22).
      ...(ownerOf(persons, this.variants, this.deps.store.traits.cutLength) === 'subject'
        ? {}
        : { others: true as const }),
    }));
  }

  /** Values on what the searches so far showed of the subject's alone beside the traces. */
  looseNamed(): readonly PersonValue[] {
    const { cutLength } = this.deps.store.traits;
    return [...this.loose.values()]
      .filter(({ persons }) => ownerOf(persons, this.variants, cutLength) === 'subject')
      .flatMap(({ persons }) => persons);
  }

  private noteLoose(row: LooseRow): void {
    const match = row.persons.some(({ kind, text }) => this.variants.get(kind)?.has(text) ?? false);
    if (match) this.loose.set(`${row.kind}/${row.id}`, row);
  }

  /** Kinds of the request's identifiers by which the rows of a search show the subject. */
  kindsSeen(rows: readonly Row[]): ReadonlySet<string> {
    const seen = new Set<string>();
    for (const { persons } of rows) {
      for (const { kind, text } of persons) if (this.variants.get(kind)?.has(text) === true) seen.add(kind);
    }
    return seen;
  }

  /** The projects as the record may tell them: one that is named after the person goes by its id alone (P31). */
  recordableProjects(): readonly Project[] {
    return this.projects.map((project) => this.withheld(project));
  }

  /** The same, with those that are not examined (P9). */
  allProjects(): Parameters<typeof recordedProjects>[0] {
    const { leftOut = [], unreachable = [] } = this.aside;
    const aside = (project: ProjectAside): ProjectAside => {
      const told = this.withheld(project);
      // Where the store has no other id than the name, that would tell it.
      return project.id === project.name ? { ...told, id: told.name } : told;
    };
    return {
      examined: this.recordableProjects(),
      excluded: leftOut.map(aside),
      unreachable: unreachable.map(aside),
    };
  }

  private withheld<P extends Project>(project: P): P {
    const plain = (text: string): string => text.normalize('NFC').toLowerCase();
    const spellings = [...this.variants.values()].flatMap((of) => [...of].map(plain));
    return spellings.some((spelling) => plain(project.name).includes(spelling))
      ? { ...project, name: '(withheld: it names the person)' }
      : project;
  }

  /** Largest distance between the store's clock and ours, milliseconds; null when it sent no date. */
  skewMs(): number | null {
    const skews = this.reports.map(({ skewMs }) => skewMs).filter((skew) => skew !== null);
    return skews.length === 0 ? null : Math.max(...skews);
  }

  /** Throws when the store's clock is too far from ours for its rhythm to mean anything (P34). */
  assertClock(): void {
    const skew = this.skewMs();
    if (skew !== null && skew > this.deps.store.traits.rhythm.settleMs) {
      throw new Inconclusive(`the store's clock is ${Math.round(skew / 60_000)} minutes away from ours`);
    }
  }

  private controlTerms(): readonly Pick<SearchTerm, 'kind' | 'keys'>[] {
    if (this.terms.length > 0) return this.terms;
    return Object.entries(this.deps.searchKeys).map(([kind, keys]) => ({ kind, keys }));
  }

  private async controlled(
    name: string,
    read: (controls: readonly Control[]) => Promise<Read>,
    from = {
      current: (): readonly Control[] => this.controls,
      choose: (): Promise<void> => this.chooseControls(),
      least: LEAST_CONTROLS,
    },
  ): Promise<readonly Row[] | null> {
    if (this.ended.has(name)) return null;
    for (let replaced = 0; ; replaced += 1) {
      const controls = from.current();
      let result: Read;
      try {
        result = await read(controls);
      } catch (error) {
        if (!(error instanceof StoreError) || !error.retired) throw error;
        this.ended.add(name);
        this.notes.push(`${name} has ended, as the store had announced: not available`);
        return null;
      }
      this.reports.push(result.report);
      for (const { kind } of result.notExamined ?? []) this.notExamined.add(kind);
      for (const row of result.rows) this.rowsRead.push(row);
      if (result.inconclusive !== undefined) throw new Inconclusive(`${name}: ${result.inconclusive}`);
      const seen = result.controlsSeen.filter(Boolean).length;
      const tally = this.controlTally.get(name) ?? { asked: 0, seen: 0 };
      this.controlTally.set(name, { asked: tally.asked + controls.length, seen: tally.seen + seen });
      if (seen === controls.length) {
        for (const row of result.loose ?? []) this.noteLoose(row);
        return result.rows;
      }
      if (replaced === REPLACEMENTS) {
        throw new Inconclusive(`${name} saw ${seen} of ${controls.length} live traces of others: it may be blind`);
      }
      await from.choose();
      if (from.current().length < from.least) {
        throw new Inconclusive(`${name} did not see live traces of others, and none can be found now: it may be blind`);
      }
    }
  }
}

/** Classes of controls by which a search for a value is shown to work. */
const PROVEN_BY: Readonly<Record<ValueClass, readonly ValueClass[]>> = {
  number: ['number', 'digits'],
  // Which of the two an application writes is the same for everybody.
  digits: ['number', 'digits'],
  quoted: ['quoted'],
  unicode: ['unicode'],
  plain: ['plain', 'digits', 'quoted', 'unicode'],
};

/** Adds rows to the traces they belong to. */
export function groupByTrace(rows: readonly Row[], into = new Map<string, Row[]>()): Map<string, Row[]> {
  for (const row of rows) {
    const key = entryKey(row);
    const of = into.get(key);
    if (of === undefined) into.set(key, [row]);
    else of.push(row);
  }
  return into;
}

/** At most so many controls, from as many projects and keys as there are. */
function spread(controls: readonly Control[], most: number): readonly Control[] {
  const groups = new Map<string, Control[]>();
  for (const control of controls) {
    const group = `${control.projectId} ${control.value.key}`;
    groups.set(group, [...(groups.get(group) ?? []), control]);
  }
  const chosen: Control[] = [];
  for (let turn = 0; chosen.length < most; turn += 1) {
    const turnOf = [...groups.values()].map((group) => group[turn]).filter((control) => control !== undefined);
    if (turnOf.length === 0) break;
    chosen.push(...turnOf.slice(0, most - chosen.length));
  }
  return chosen;
}
