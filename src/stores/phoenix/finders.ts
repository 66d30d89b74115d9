import type { Control, Finder, FindQuery, Read, Row } from '../port.ts';
import { TooManyRows } from '../port.ts';
import type { Tally } from '../api.ts';
import { controlledChunks, inHalves, PairIndex, pairsOf, seenIn, Union, unique, valuesOf } from '../rows.ts';
import type { Pair } from '../rows.ts';
import type { PhoenixApi } from './api.ts';
import { GRAPHQL_ROUTE } from './api.ts';
import { anyOf } from './condition.ts';
import type { Comparison } from './condition.ts';
import type { Spans } from './spans.ts';
import { MOST_PROJECTS, Overflow, SPANS_PATH } from './spans.ts';
import { classOf } from '../../erasure/value-class.ts';
import { CANONICAL_INTEGER } from '../values.ts';

export interface FinderParts {
  readonly api: PhoenixApi;
  readonly spans: Spans;
}

/** Values that the attribute filter of REST finds. It compares JSON escapes with text, so that others are never found. */
const PLAIN = /^[\x20-\x7e]*$/;

/**
 * The two searches by person (P5), in the two languages of the server. The filter of REST takes one value at a time and
 * tells numbers from text; what it is known not to find is asked by GraphQL's containment, never by itself. The condition
 * of GraphQL compares for equality and takes all values at once.
 */
export function findersOf(parts: FinderParts): readonly Finder[] {
  return [
    { name: 'attribute filter', find: (query) => byAttribute(parts, query) },
    { name: 'span condition', find: (query) => byCondition(parts, query) },
  ];
}

async function byCondition(parts: FinderParts, query: FindQuery): Promise<Read> {
  const tally = parts.api.tally(query.progress);
  const union = new Union();
  await conditions(parts, tally, query, pairsOf(query.terms), query.controls, 'equality', union);
  return readOf(tally, query, union);
}

async function byAttribute(parts: FinderParts, query: FindQuery): Promise<Read> {
  const { api, spans } = parts;
  const tally = api.tally(query.progress);
  const union = new Union();
  const pairs = pairsOf(query.terms);
  const plain = pairs.filter(({ text }) => PLAIN.test(text));
  let found = 0;
  for (const { id } of query.projects) {
    for (const pair of plain) {
      for (const value of formsOf(pair.text)) {
        const most = query.mostRows === undefined ? undefined : query.mostRows - found;
        const rows = await spans.byRest(tally, id, [['attribute', `${pair.key}:${value}`]], most).catch(tooMany);
        checked(parts, tally, rows, [pair], []);
        union.add({ rows, seen: new Set() }, []);
        found += rows.length;
      }
    }
  }
  const [byFilter, byContainment] = parted(query.controls);
  await patterns(parts, tally, byFilter, union);
  const others = pairs.filter(({ text }) => !PLAIN.test(text));
  if (others.length > 0 || byContainment.length > 0) {
    await conditions(parts, tally, query, others, byContainment, 'containment', union);
  }
  return readOf(tally, query, union);
}

/** One value as JSON: as text and, where it is an integer's spelling, as a number. */
function formsOf(text: string, numeric?: boolean): readonly string[] {
  if (numeric === true) return [text];
  return numeric === undefined && CANONICAL_INTEGER.test(text) ? [JSON.stringify(text), text] : [JSON.stringify(text)];
}

function parted(controls: readonly Control[]): readonly [readonly Control[], readonly Control[]] {
  const plain = (control: Control): boolean => PLAIN.test(control.value.text);
  return [controls.filter(plain), controls.filter((control) => !plain(control))];
}

/** Controls that stand for the same shape of call (P6): same project, attribute and class of value. */
function sortOf({ projectId, value }: Control): string {
  return JSON.stringify([projectId, value.key, classOf(value)]);
}

/**
 * Looks for the controls of the attribute filter. Its filters all have to fit, so that a control can't ride with the
 * question: of each sort one is looked for by its own value, the next if that is gone, and stands for the others, which
 * are looked for by their ids, those of a project in one call. Where none of a sort is found by value, none of it counts.
 */
async function patterns(
  { api, spans }: FinderParts,
  tally: Tally,
  controls: readonly Control[],
  union: Union,
): Promise<void> {
  const ask = async (
    projectId: string,
    asked: readonly Control[],
    more: readonly (readonly [string, string])[],
  ): Promise<ReadonlySet<Control>> => {
    const ids = asked.map(({ runId }) => ['span_id', runId] as const);
    const rows = await spans.byRest(tally, projectId, [...more, ...ids]);
    const runs = new Set(asked.map(({ runId }) => runId));
    if (rows.some(({ runId }) => !runs.has(runId))) {
      const advice = 'spans came back that were not asked for: the store ignored a filter';
      throw api.broken(tally, `GET ${SPANS_PATH}`, advice);
    }
    return seenIn(rows, asked);
  };
  const bySort = new Map<string, Control[]>();
  for (const control of controls) bySort.set(sortOf(control), [...(bySort.get(sortOf(control)) ?? []), control]);
  const byProject = new Map<string, Control[]>();
  for (const sort of bySort.values()) {
    let shown = false;
    for (const control of sort) {
      if (shown) {
        byProject.set(control.projectId, [...(byProject.get(control.projectId) ?? []), control]);
        continue;
      }
      const { key, text, numeric } = control.value;
      const filter = ['attribute', `${key}:${formsOf(text, numeric)[0] ?? ''}`] as const;
      const seen = await ask(control.projectId, [control], [filter]);
      shown = seen.has(control);
      union.add({ rows: [], seen }, [control]);
    }
  }
  for (const [projectId, asked] of byProject) {
    union.add({ rows: [], seen: await ask(projectId, asked, []) }, asked);
  }
}

/** Asks by conditions of GraphQL, in as few calls as hold all projects. */
async function conditions(
  parts: FinderParts,
  tally: Tally,
  { projects, mostRows }: FindQuery,
  pairs: readonly Pair[],
  controls: readonly Control[],
  by: Comparison,
  union: Union,
): Promise<void> {
  const ids = pairs.length > 0 ? projects.map(({ id }) => id) : [];
  let found = union.found.rows.length;
  // Those of the controls too: each is asked for where it lies.
  const everywhere = unique([...ids, ...controls.map(({ projectId }) => projectId)]);
  for (const { projectIds, here } of controlledChunks(everywhere, controls, MOST_PROJECTS - 1)) {
    await inHalves(pairs, async (some) => {
      const most = mostRows === undefined ? undefined : mostRows + here.length - found;
      const condition = anyOf(some, here, by);
      if (condition === '') return;
      const rows = await parts.spans.byCondition(tally, projectIds, condition, most).catch(tooMany);
      const theirs = checked(parts, tally, rows, some, here, by);
      union.add({ rows: theirs, seen: seenIn(rows, here) }, here);
      found += theirs.length;
    });
  }
}

/**
 * The rows that were asked for by value.
 *
 * @throws StoreError `contract-broken` for a row that nobody asked for: the store ignored the question.
 */
function checked(
  { api, spans }: FinderParts,
  tally: Tally,
  rows: readonly Row[],
  pairs: readonly Pair[],
  here: readonly Control[],
  by: Comparison = 'equality',
): readonly Row[] {
  const index = new PairIndex([pairs]);
  const runs = new Set(here.map(({ projectId, runId }) => `${projectId} ${runId}`));
  const theirs: Row[] = [];
  for (const row of rows) {
    const resembling = index.of(row).length > 0;
    if (resembling) {
      theirs.push(row);
      continue;
    }
    const holding =
      by === 'containment' &&
      pairs.some(({ key, text }) => valuesOf(row).some((value) => value.key === key && value.text.includes(text)));
    if (!holding && !runs.has(`${row.projectId} ${row.runId}`)) {
      const advice = 'spans came back that carry none of the values asked for: the store ignored the filter';
      throw api.broken(tally, here.length === 0 ? `GET ${SPANS_PATH}` : GRAPHQL_ROUTE, advice);
    }
  }
  spans.checkIds(tally, GRAPHQL_ROUTE, theirs);
  return theirs;
}

function tooMany(error: unknown): never {
  if (error instanceof Overflow) throw new TooManyRows(error.rows);
  throw error;
}

function readOf(tally: Tally, { window, controls }: FindQuery, union: Union): Read {
  const { rows, seen } = union.found;
  return {
    rows,
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report('find', window, controls.length, controls.filter((control) => seen.has(control)).length),
  };
}
