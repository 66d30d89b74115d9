import type { Tally } from '../api.ts';
import type { Control, Finder, FindQuery, PersonValue, Read, Row } from '../port.ts';
import { THREAD_KIND } from '../port.ts';
import type { ControlledChunk, Pair } from '../rows.ts';
import {
  chunks,
  controlledChunks,
  keyOf,
  pairsOf,
  PairIndex,
  seenIn,
  sortedByKind,
  unique,
  valuesOf,
} from '../rows.ts';
import type { MlflowApi } from './api.ts';
import type { MlflowConnection } from './config.ts';
import type { Experiments } from './experiments.ts';
import type { Question } from './filter.ts';
import { among, attributeLike, attributeOf, hasAttribute, like, OF_EVERY_SPAN, oneOf, placeOf } from './filter.ts';
import { isOfTrace } from './lookup.ts';
import type { Info, Shape } from './schemas.ts';
import { distinct, experimentOf, isCut, row as rowOf } from './schemas.ts';
import type { Traces } from './traces.ts';
import { MOST_EXPERIMENTS, SEARCH_ROUTE } from './traces.ts';
import { CUT_LENGTH } from './traits.ts';
import { CANONICAL_INTEGER } from '../values.ts';

export interface FinderParts {
  readonly api: MlflowApi;
  readonly config: MlflowConnection;
  readonly experiments: Experiments;
  readonly shape: Shape;
  readonly traces: Traces;
  /** Controls whose spans are known to carry their value: a search of the spans must see them. */
  readonly inSpans: ReadonlySet<string>;
  /** Controls whose spans are known to stand where searches see them, whatever they carry. */
  readonly withSpans: ReadonlySet<string>;
}

/** Values in one regular expression. */
const MOST_VALUES = 100;

/**
 * The two searches by person (P5). They use one endpoint, as the server has no other, and differ in what they search and
 * how: the metadata of traces by one regular expression over all values, controls among them; and, value by value, the
 * metadata by LIKE and the text of the spans by LIKE, which also finds the second person of a trace. That one has no OR,
 * so each control is a question of its own, of the same form.
 */
export function findersOf(parts: FinderParts): readonly Finder[] {
  return [
    {
      name: 'metadata by RLIKE',
      searches: (key) => placeOf(key).place !== 'attributes',
      find: (query) => new Find(parts, query).byExpression(),
    },
    {
      name: 'metadata and spans by LIKE',
      // By other keys it would search what the first one does.
      searches: (key) => parts.config.spanSearch && attributeOf(key) !== null,
      find: (query) => new Find(parts, query).byLike(),
    },
  ];
}

/** One search under way. */
class Find {
  readonly #parts: FinderParts;
  readonly #query: FindQuery;
  readonly #tally: Tally;
  readonly #pairs: readonly Pair[];
  readonly #rows = new Map<string, Row>();
  readonly #missed = new Set<Control>();
  #answers = 0;

  constructor(parts: FinderParts, query: FindQuery) {
    this.#parts = parts;
    this.#query = query;
    this.#tally = parts.api.tally(query.progress);
    this.#pairs = pairsOf(query.terms);
  }

  #places(): Iterable<ControlledChunk> {
    const { projects, controls } = this.#query;
    const ids = projects.map(({ id }) => id);
    return controlledChunks(ids, controls, MOST_EXPERIMENTS - 1);
  }

  async byExpression(): Promise<Read> {
    const { controls } = this.#query;
    const isSearched = ({ value }: Control): boolean => placeOf(value.key).place !== 'attributes';
    for (const { projectIds: ids, here } of this.#places()) {
      for (const key of unique([...this.#pairs.map((pair) => pair.key)])) {
        if (placeOf(key).place === 'attributes') continue;
        const mine = here.filter((control) => control.value.key === key);
        const spellings = unique(this.#pairs.filter((pair) => pair.key === key).flatMap(({ text }) => withCut(text)));
        for (const some of chunks(spellings, MOST_VALUES)) {
          const question = oneOf(placeOf(key), [...some, ...unique(mine.map(({ value }) => value.text))]);
          const infos = await this.#ask(ids, question.filter);
          this.#assertFound(infos, key, question);
          const rows = infos.map((info) => this.#parts.shape.rowOf(info));
          this.#miss(mine.filter(isOfTrace), seenIn(rows, mine.filter(isOfTrace)));
          this.#take(infos);
        }
      }
    }
    // A control of another sort of key still shows that the search works.
    const others = controls.filter(
      (control) =>
        !isSearched(control) || !isOfTrace(control) || !this.#pairs.some(({ key }) => key === control.value.key),
    );
    if (others.length > 0) {
      const ids = unique(others.map(({ projectId }) => projectId));
      const infos = await this.#ask(ids, among(null, unique(others.map(({ traceId }) => traceId))));
      this.#miss(others, shownOf(infos, others));
    }
    return this.#read();
  }

  async byLike(): Promise<Read> {
    const { controls } = this.#query;
    for (const { projectIds: ids } of this.#places()) {
      for (const { key, text } of this.#pairs) {
        const place = placeOf(key);
        for (const spelling of place.place === 'attributes' ? [] : withCut(text)) {
          const question = like(place, spelling);
          const infos = await this.#ask(ids, question.filter);
          this.#assertFound(infos, key, question);
          this.#take(infos);
        }
        const attribute = attributeOf(key);
        for (const question of attribute === null ? [] : questionsOf(attribute, text)) {
          await this.#takeBySpans(await this.#ask(ids, question.filter), key, question);
        }
      }
    }
    for (const some of groups(controls)) await this.#askForControls(some);
    await this.#askForSpans();
    return this.#read();
  }

  /** Controls that carry the same value under the same key. */
  async #askForControls(controls: readonly Control[]): Promise<void> {
    const [first] = controls;
    if (first === undefined) return;
    const { key, text, numeric } = first.value;
    const ids = unique(controls.map(({ projectId }) => projectId));
    const traceIds = unique(controls.map(({ traceId }) => traceId));
    const ask = async ({ filter }: Question, some: readonly Control[]): Promise<void> => {
      const infos = await this.#ask(ids, among(filter, traceIds));
      this.#miss(some, shownOf(infos, some));
    };
    const place = placeOf(key);
    if (place.place !== 'attributes' && isOfTrace(first)) {
      const infos = await this.#ask(ids, among(like(place, text).filter, traceIds));
      const rows = infos.map((info) => this.#parts.shape.rowOf(info));
      this.#miss(controls, seenIn(rows, controls));
    }
    const attribute = attributeOf(key);
    const inSpans = controls.filter((control) => !isOfTrace(control) || this.#parts.inSpans.has(keyOf(control)));
    if (attribute !== null && inSpans.length > 0) await ask(attributeLike(attribute, text, numeric), inSpans);
  }

  /** Controls that only their trace names, as the Python client writes them: the search of spans sees them by what all have. */
  async #askForSpans(): Promise<void> {
    const { inSpans, withSpans } = this.#parts;
    if (!this.#pairs.some(({ key }) => attributeOf(key) !== null)) return;
    const bare = this.#query.controls.filter(
      (control) => isOfTrace(control) && !inSpans.has(keyOf(control)) && withSpans.has(keyOf(control)),
    );
    if (bare.length === 0) return;
    const ids = unique(bare.map(({ projectId }) => projectId));
    const traceIds = unique(bare.map(({ traceId }) => traceId));
    this.#miss(bare, shownOf(await this.#ask(ids, among(hasAttribute(OF_EVERY_SPAN), traceIds)), bare));
  }

  async #ask(experimentIds: readonly string[], filter: string): Promise<readonly Info[]> {
    const { config, traces } = this.#parts;
    const { mostRows: most } = this.#query;
    const options = { experimentIds, filter, pageSize: config.pageSize };
    const { infos } = await traces.search(this.#tally, { ...options, ...(most === undefined ? {} : { most }) });
    this.#answers += infos.length;
    return infos;
  }

  /** Rows of those that resemble what was asked for; what wildcards let in besides is somebody else's. */
  #take(infos: readonly Info[]): void {
    for (const info of infos) {
      const values = this.#parts.shape.ofInfo(info);
      this.#addAsked(info, [...values, ...this.#cutOf(values)]);
    }
  }

  /** Of a search in the spans only the spans tell whether it found the value, unless the trace says so itself. */
  async #takeBySpans(infos: readonly Info[], key: string, question: Question): Promise<void> {
    const { shape, traces } = this.#parts;
    const index = new PairIndex([this.#pairs]);
    const told = infos.filter((info) => index.of({ persons: shape.ofInfo(info) }).length > 0);
    this.#take(told);
    const whole = await traces.wholes(
      this.#tally,
      infos.filter((info) => !told.includes(info)),
    );
    for (const { info, rows } of whole) {
      const values = distinct(rows.flatMap(valuesOf));
      // A value inside a list or an object passes the search in another form.
      const carries = values.some((one) => one.key === key && (one.nested === true || question.finds(one.text)));
      if (!carries) throw this.#ignored();
      this.#addAsked(info, values);
    }
  }

  /**
   * The trace's row with those of the values that resemble what was asked for; none when no value does. Whose a trace of a
   * conversation is, is told along.
   */
  #addAsked(info: Info, values: readonly PersonValue[]): void {
    const index = new PairIndex([this.#pairs]);
    const asked = values.filter((one) => index.of({ persons: [one] }).length > 0);
    if (asked.length === 0) return;
    const isOfThreads = asked.some(({ kind }) => kind === THREAD_KIND);
    this.#add(rowOf(info, info.trace_id, isOfThreads ? [...asked, ...values.filter(isPerson)] : asked));
  }

  #add(row: Row): void {
    const before = this.#rows.get(keyOf(row));
    this.#rows.set(
      keyOf(row),
      before === undefined ? row : { ...row, ...sortedByKind(distinct([...valuesOf(before), ...valuesOf(row)])) },
    );
  }

  /**
   * Every answer cuts the values of a trace, and the Python client does before it sends. A value that ends there may be
   * the beginning of what was asked for: it is shown as found, so that the trace is looked at whole. There the spans tell
   * the value in full, or its length keeps it from being anybody's for certain (P15).
   */
  #cutOf(persons: readonly PersonValue[]): readonly PersonValue[] {
    return this.#pairs.flatMap(({ key, text }) => {
      const cut = cutOf(text);
      const match = cut === null ? undefined : persons.find((one) => one.key === key && one.text === cut);
      return match === undefined ? [] : [{ ...match, text }];
    });
  }

  #assertFound(infos: readonly Info[], key: string, { finds }: Question): void {
    const { shape } = this.#parts;
    // What is shown may be the beginning of what was compared.
    const carries = (info: Info): boolean =>
      shape.ofInfo(info).some((one) => one.key === key && (isCut(one.text) || finds(one.text)));
    if (!infos.every(carries)) throw this.#ignored();
  }

  #ignored(): Error {
    const advice = 'traces came back that carry none of the values asked for: the server ignored the filter';
    return this.#parts.api.broken(this.#tally, SEARCH_ROUTE, advice);
  }

  #miss(asked: readonly Control[], seen: ReadonlySet<Control>): void {
    for (const control of asked) if (!seen.has(control)) this.#missed.add(control);
  }

  async #read(): Promise<Read> {
    const { controls, window } = this.#query;
    if (this.#answers === 0) await this.#parts.experiments.list(this.#tally);
    const own = new Set(controls.map(keyOf));
    const seen = controls.filter((control) => !this.#missed.has(control));
    return {
      rows: [...this.#rows.values()].filter((row) => !own.has(keyOf(row)) || this.#isAsked(row)),
      controlsSeen: controls.map((control) => !this.#missed.has(control)),
      report: this.#tally.report('find', window, controls.length, seen.length),
    };
  }

  #isAsked(row: Row): boolean {
    return this.#pairs.some(({ key, text }) => valuesOf(row).some((one) => one.key === key && one.text === text));
  }
}

function isPerson({ kind }: PersonValue): boolean {
  return kind !== THREAD_KIND;
}

function shownOf(infos: readonly Info[], controls: readonly Control[]): ReadonlySet<Control> {
  const shown = new Set(infos.map((info) => `${experimentOf(info)} ${info.trace_id}`));
  return new Set(controls.filter(({ projectId, traceId }) => shown.has(`${projectId} ${traceId}`)));
}

/** As a text, and as the number that it may have been written as (P15). */
function questionsOf(attribute: string, text: string): readonly Question[] {
  const forms = CANONICAL_INTEGER.test(text) ? [false, true] : [false];
  return forms.map((numeric) => attributeLike(attribute, text, numeric));
}

/** Controls by key, value and sort. */
function groups(controls: readonly Control[]): readonly (readonly Control[])[] {
  const groups = new Map<string, Control[]>();
  for (const control of controls) {
    const { key, text, numeric } = control.value;
    const name = JSON.stringify([key, text, numeric, isOfTrace(control)]);
    groups.set(name, [...(groups.get(name) ?? []), control]);
  }
  return [...groups.values()];
}

/** What is left of a value after the Python client has cut it, or null when it is short enough. */
function cutOf(text: string): string | null {
  const letters = Array.from(text);
  return letters.length > CUT_LENGTH ? letters.slice(0, CUT_LENGTH).join('') : null;
}

function withCut(text: string): readonly string[] {
  const cut = cutOf(text);
  return cut === null ? [text] : [text, cut];
}
