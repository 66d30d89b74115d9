import { DAY_MS, MINUTE_MS } from '../../erasure/rhythm.ts';
import type { Control, Finder, FindQuery, LooseRow, PersonValue, Read, Row } from '../port.ts';
import { StoreError, TooManyRows } from '../port.ts';
import { PairIndex, pairsOf, resembles, seenIn, Union, unique } from '../rows.ts';
import type { Pair, Searchable } from '../rows.ts';
import type { Tally } from '../api.ts';
import type { RespanApi } from './api.ts';
import type { RespanConnection } from './config.ts';
import type { Customers } from './customers.ts';
import { logId } from './customers.ts';
import type { LogField } from './filters.ts';
import type { Lists } from './lists.ts';
import { LOGS_ROUTE, SUMMARY_ROUTE } from './lists.ts';
import type { Log, Trace } from './schemas.ts';
import {
  fieldOf,
  GROUP_KEY,
  personsOf,
  rowOfLog,
  rowOfTrace,
  startOf,
  storedForms,
  threadsOf,
  unquoted,
} from './schemas.ts';
import type { Shared } from './shared.ts';
import { CUT_LENGTH, LOOSE_LOGS } from './traits.ts';

export interface FinderParts {
  readonly api: RespanApi;
  readonly config: RespanConnection;
  readonly lists: Lists;
  readonly customers: Customers;
  /** Counts by the summary that several finds may use. */
  readonly counts: Shared;
}

/** How long a count of the controls' logs is used, virtual milliseconds. */
const COUNT_MS = MINUTE_MS;

export const CUSTOMER_KEY = 'customer_identifier';

/**
 * By person, over logs of any depth: one call per environment and key, since filters on several keys narrow each other.
 * Brings the logs without a trace and the customer records along.
 */
export function logsFinder(parts: FinderParts): Finder {
  const { api, config, lists, customers } = parts;
  return {
    name: 'logs',
    searches: (key) => key !== GROUP_KEY,
    async find(query: FindQuery): Promise<Read> {
      const tally = api.tally(query.progress);
      const union = new Union();
      const loose = new Map<string, LooseRow>();
      for (const { environment, key, pairs, here } of questions(query)) {
        if (key === CUSTOMER_KEY) {
          // Before anything else: those who search side by side ask in the same moment, and share what tells it.
          const others = unique(here.map(({ value }) => value.text));
          const records = await customers.of(tally, environment, asPersons(query, pairs), others);
          for (const row of records) loose.set(row.id, row);
        }
        const logs = await lists.logs(tally, {
          environment,
          window: query.window,
          narrow: { field: fieldOf(key) as LogField, values: valuesFor(key, pairs, here) },
        });
        const { theirs, rows, withoutTrace } = sorted(logs, config, pairs);
        for (const log of withoutTrace) {
          const persons = personsOf(log, config.identifiers);
          const threads = threadsOf(log, config.threads);
          const startMs = startOf(log);
          loose.set(`${environment} ${log.unique_id}`, {
            kind: LOOSE_LOGS,
            id: logId(environment, log.unique_id),
            persons,
            ...threads,
            ...(startMs === null ? {} : { startMs }),
          });
        }
        union.add({ rows: theirs, seen: seenIn(rows, here) }, here);
        if (query.mostRows !== undefined && union.found.rows.length > query.mostRows) {
          throw new TooManyRows(union.found.rows);
        }
      }
      return { ...report(tally, lists, query, union), loose: [...loose.values()] };
    },
  };
}

/**
 * By person a second time, through other endpoints. Customers through the traces list, which aggregates on its own and
 * knows the root's customer only, and the traces' group. It has no metadata and no threads, and would drop such a filter: by
 * these keys the logs summary counts, and what it counts beyond the controls must be found, or the read is broken.
 */
export function tracesFinder(parts: FinderParts): Finder {
  const { api, config, lists } = parts;
  return {
    name: 'traces list and logs summary',
    async find(query: FindQuery): Promise<Read> {
      const tally = api.tally(query.progress);
      const union = new Union();
      for (const { environment, key, pairs, here } of questions(query)) {
        const scope = { environment, window: query.window };
        if (key !== CUSTOMER_KEY && key !== GROUP_KEY) {
          union.add(await counted(parts, tally, { ...query, environment, key, pairs, here }), here);
          continue;
        }
        const traces = await lists.traces(tally, {
          ...scope,
          narrow: { field: key, values: valuesFor(key, pairs, here) },
        });
        const rows = traces.map((trace) => rowOfTrace(trace, config.identifiers, config.threads));
        const theirs = rows.filter((row) => pairs.some((pair) => resembles(row, pair)));
        union.add({ rows: theirs, seen: seenAmong(traces, here) }, here);
      }
      return report(tally, lists, query, union);
    },
  };
}

interface Question {
  readonly environment: string;
  readonly key: string;
  /** The person's spellings under this key. */
  readonly pairs: readonly Pair[];
  /** Controls of this environment and key. */
  readonly here: readonly Control[];
}

/** What the vendor's exporters write when the application names no user: everybody's, and nobody's. */
const PLACEHOLDER = 'default_user';

/**
 * @throws StoreError `rejected` for the placeholder of the vendor's exporters (P18), and for an identifier that this store
 *   would have cut, as no search would find it.
 */
function questions({ projects, terms, controls }: FindQuery): Question[] {
  const pairs = pairsOf(terms);
  const refuse = (advice: string): StoreError =>
    new StoreError({ reason: 'rejected', route: `POST ${LOGS_ROUTE}`, status: null, requestId: null, advice });
  if (pairs.some(({ text }) => text.trim().toLowerCase() === PLACEHOLDER)) {
    throw refuse(
      'an identifier is what this store’s exporters write when they know no user: it names everybody without one. Abandon the request',
    );
  }
  if (pairs.some(({ key, text }) => key === CUSTOMER_KEY && text.length > CUT_LENGTH)) {
    throw refuse(
      `an identifier is longer than ${CUT_LENGTH} characters, at which this store cuts it: no search finds it. Give the trace ids instead`,
    );
  }
  if (pairs.some(({ key, text }) => unquoted(text) !== text && storedForms(key, text).length > 1)) {
    throw refuse(
      'an identifier is given in quotation marks, which this store’s client adds to metadata by itself: it cannot be told from the same without them. Give it without quotation marks',
    );
  }
  return projects.flatMap(({ id: environment }) =>
    unique(pairs.map(({ key }) => key)).map((key) => ({
      environment,
      key,
      pairs: pairs.filter((pair) => pair.key === key),
      here: controls.filter(({ projectId, value }) => projectId === environment && value.key === key),
    })),
  );
}

/** The person's values, and last those of the controls. */
function valuesFor(key: string, pairs: readonly Pair[], here: readonly Control[]): readonly string[] {
  const texts = [...pairs.map(({ text }) => text), ...here.map(({ value }) => value.text)];
  return unique(texts.flatMap((text) => storedForms(key, text)));
}

function asPersons({ terms }: FindQuery, pairs: readonly Pair[]): PersonValue[] {
  return pairs.flatMap(({ key, text }) =>
    terms
      .filter(({ keys, variants }) => keys.includes(key) && variants.includes(text))
      .map(({ kind }) => ({ kind, key, text, numeric: false })),
  );
}

function sorted(
  logs: readonly Log[],
  config: RespanConnection,
  pairs: readonly Pair[],
): { readonly rows: readonly Row[]; readonly theirs: readonly Row[]; readonly withoutTrace: readonly Log[] } {
  const rows: Row[] = [];
  const withoutTrace: Log[] = [];
  for (const log of logs) {
    const row = rowOfLog(log, config.identifiers, config.threads);
    if (row !== null) rows.push(row);
    else if (pairs.some((pair) => resembles(carrierOf(log, config), pair))) withoutTrace.push(log);
  }
  return { rows, theirs: rows.filter((row) => pairs.some((pair) => resembles(row, pair))), withoutTrace };
}

function carrierOf(log: Log, { identifiers, threads }: RespanConnection): Searchable {
  return { persons: personsOf(log, identifiers), ...threadsOf(log, threads) };
}

/** Controls whose trace a list shows, with their value; the traces list knows no spans. */
function seenAmong(traces: readonly Trace[], controls: readonly Control[]): ReadonlySet<Control> {
  const byId = new Map(traces.map((trace) => [trace.trace_unique_id, trace]));
  return new Set(
    controls.filter(({ traceId, projectId, value }) => {
      const trace = byId.get(traceId);
      return trace?.environment === projectId && String(trace.customer_identifier) === value.text;
    }),
  );
}

/** A count of the controls' logs, and when it was made. */
interface Counted {
  readonly count: number;
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
}

/**
 * What the summary counts for the person and the controls together must be what it counts for the controls alone, just
 * before and just after, or the difference must be found by listing. The count of the controls serves everybody for a
 * minute.
 */
async function counted(
  { api, config, lists, counts }: FinderParts,
  tally: Tally,
  { environment, window, key, pairs, here }: Question & Pick<FindQuery, 'window'>,
): Promise<{ readonly rows: readonly Row[]; readonly seen: ReadonlySet<Control> }> {
  const field = fieldOf(key) as LogField;
  const scope = { environment, window };
  const others = valuesFor(key, [], here);
  /** Of the controls and of these spellings. */
  const countWith = async (some: readonly Pair[]): Promise<number> => {
    const values = valuesFor(key, some, here);
    return values.length === 0 ? 0 : await lists.total(tally, { ...scope, narrow: { field, values } });
  };
  const countOthers = async (): Promise<Counted> => ({ count: await countWith([]), atMs: api.nowMs() });
  // Searches end days from now, each counted from its own moment: to the millisecond no two would share a count.
  const span = [window.fromMs, Math.floor(window.toMs / DAY_MS)];
  const lately = (): Promise<Counted> =>
    counts.get(JSON.stringify([environment, field, span, [...others].sort()]), COUNT_MS, countOthers);
  const before = await lately();
  const together = await countWith(pairs);
  // Nothing says which of them were counted; that any was shows that the filter takes this key and several values.
  const seen = new Set(before.count > 0 && together >= before.count ? here : []);
  if (together === before.count) {
    // In the time that many take their turns, controls may have lost as many logs as the person has.
    const after = api.nowMs() - before.atMs <= COUNT_MS ? before : await lately();
    if (after.count === together) return { rows: [], seen };
  }
  const logs = await lists.logs(tally, {
    ...scope,
    narrow: { field, values: valuesFor(key, pairs, []) },
  });
  const { theirs, withoutTrace } = sorted(logs, config, pairs);
  // Each spelling by itself, and all of them by the same counter: what is found of one says nothing of another, which may be
  // another person's or conversation's.
  const index = new PairIndex(pairs.map((pair) => [pair]));
  const found = new Set(
    [...theirs, ...withoutTrace.map((log) => carrierOf(log, config))].flatMap((carrier) => index.of(carrier)),
  );
  const shown = pairs.filter((_pair, at) => found.has(at));
  if (shown.length === pairs.length) return { rows: theirs, seen };
  const explained = await countWith(shown);
  // Counted once more: logs of those who are shown may have gone since.
  if (explained >= together || explained >= (await countWith(pairs))) return { rows: theirs, seen };
  throw api.broken(tally, `POST ${SUMMARY_ROUTE}`, 'the summary counts logs that the list does not show');
}

function report(tally: Tally, lists: Lists, { controls, window }: FindQuery, union: Union): Read {
  const { rows, seen } = union.found;
  const tiles = lists.tiles(window);
  const read = { fromMs: tiles[0]?.fromMs ?? window.fromMs, toMs: window.toMs };
  return {
    rows,
    controlsSeen: controls.map((control) => seen.has(control)),
    report: tally.report('find', read, controls.length, seen.size),
  };
}
