import { seenIn, valuesOf } from '../../src/stores/rows.ts';
import type {
  Control,
  DeleteOrder,
  FindQuery,
  LocateQuery,
  LookupQuery,
  Progress,
  Read,
  ReadReport,
  Receipt,
  Row,
  StoreTraits,
  TraceStore,
} from '../../src/stores/port.ts';
import { StoreError, TooManyRows } from '../../src/stores/port.ts';

export const WINDOW = { fromMs: 0, toMs: 10_000 };
export const PROJECT = { id: 'project-a', name: 'a', type: 'PROJECT' };
export const OTHER_PROJECT = { id: 'project-b', name: 'b', type: 'PROJECT' };
export const KEY = 'metadata.user_id';

export function rowOf(traceId: string, person: string | null, more: Partial<Row> = {}): Row {
  return {
    projectId: PROJECT.id,
    traceId,
    runId: `${traceId}-root`,
    startMs: 1,
    persons: person === null ? [] : [{ kind: 'user_id', key: KEY, text: person, numeric: false }],
    marks: { shared: false, queued: false, inDataset: false, feedback: false },
    ...more,
  };
}

export function controlOf(row: Row): Control {
  const [value] = row.persons;
  if (value === undefined) throw new Error('a control needs a value');
  const { projectId, traceId, runId, startMs } = row;
  return { projectId, traceId, runId, value, startMs };
}

export function refusal(reason: StoreError['reason'], status: number | null = 400): StoreError {
  return new StoreError({ reason, route: 'POST /x', status, requestId: null });
}

type Called =
  | { readonly what: 'find'; readonly query: FindQuery }
  | { readonly what: 'lookup'; readonly query: LookupQuery }
  | { readonly what: 'locate'; readonly query: LocateQuery }
  | { readonly what: 'submit'; readonly query: DeleteOrder }
  | { readonly what: 'projects' | 'controls' | 'copies' | 'lookupCopies'; readonly query: null };

export type CallName = Called['what'];

/**
 * An honest store over rows in memory that a test can make misbehave: `before` runs ahead of each call and may throw or
 * wait, `after` changes what a read answers. Reads like the real connectors do: by trace id in all projects asked about.
 */
export class ScriptedStore {
  readonly calls: Called[] = [];
  /** Ids whose deletion was taken, by call. */
  readonly deleted: (readonly string[])[] = [];
  before: (called: Called) => void | Promise<void> = () => undefined;
  after: (called: Called, read: Read) => Read = (_called, read) => read;
  /** What a delete that was taken answers besides the usual. */
  receipt: (order: DeleteOrder) => Partial<Receipt> = () => ({});
  readonly store: TraceStore;
  rows: readonly Row[];

  constructor(rows: readonly Row[], traits: Partial<StoreTraits> = {}) {
    this.rows = rows;
    const called = async (one: Called): Promise<void> => {
      this.calls.push(one);
      await this.before(one);
    };
    this.store = {
      traits: {
        store: 'scripted',
        idPattern: /./,
        deletesBy: 'trace',
        mostIdsPerDelete: 1000,
        pageTokens: 'cursor',
        mostSpellingsPerFind: 100,
        pageSize: 100,
        rhythm: { kind: 'constant', settleMs: 1000 } as never,
        readLagMs: 0,
        cutLength: null,
        acceptanceProvesNot: '',
        limits: [],
        copyMap: [],
        ...traits,
      },
      normaliseId: (id) => id,
      check: () => Promise.resolve([]),
      projects: async () => {
        await called({ what: 'projects', query: null });
        return [PROJECT, OTHER_PROJECT];
      },
      finders: [{ name: 'people', find: (query) => this.#find(query, called) }],
      lookups: [{ name: 'traces', lookup: (query) => this.#lookup(query, called) }],
      locate: async (query) => {
        await called({ what: 'locate', query });
        const ids = new Set(query.ids);
        const rows = this.rows.filter(({ runId, traceId }) => ids.has(runId) || ids.has(traceId));
        return { ...this.#read('locate', rows, query.controls), wrongKind: new Map() };
      },
      controls: async ({ exclude }) => {
        await called({ what: 'controls', query: null });
        const rows = this.rows.filter((row) => row.persons.length > 0 && !exclude(row));
        return { controls: rows.slice(0, 2).map(controlOf), silent: [], reports: [] };
      },
      copies: async (traces) => {
        await called({ what: 'copies', query: null });
        const copies = traces.map(({ traceId }) => ({ kind: 'feedback', id: `copy-${traceId}`, traceId }));
        return { copies, outOfReach: [], notExamined: [], reports: [report('copies', copies.length)] };
      },
      lookupCopies: async (copies) => {
        await called({ what: 'lookupCopies', query: null });
        return { left: copies.filter(({ id }) => id.endsWith('1')), reports: [] };
      },
      submit: (order) => this.#submit(order, called),
    };
  }

  count(what: CallName): number {
    return this.calls.filter((one) => one.what === what).length;
  }

  async #find(query: FindQuery, called: (one: Called) => Promise<void>): Promise<Read> {
    const one = { what: 'find', query } as const;
    await called(one);
    const projects = new Set(query.projects.map(({ id }) => id));
    const wanted = new Set(
      query.terms.flatMap(({ keys, variants }) => keys.flatMap((key) => variants.map((v) => key + v))),
    );
    const rows = this.rows.filter(
      (row) => projects.has(row.projectId) && valuesOf(row).some(({ key, text }) => wanted.has(key + text)),
    );
    const { mostRows = Number.POSITIVE_INFINITY } = query;
    if (rows.length > mostRows) throw new TooManyRows(rows.slice(0, mostRows + 1));
    return this.after(one, this.#read('find', rows, query.controls));
  }

  async #lookup(query: LookupQuery, called: (one: Called) => Promise<void>): Promise<Read> {
    const one = { what: 'lookup', query } as const;
    await called(one);
    const projects = new Set(query.traces.map(({ projectId }) => projectId));
    const traceIds = new Set(query.traces.map(({ traceId }) => traceId));
    const rowIds = new Set(query.traces.flatMap(({ rowIds: ids }) => ids ?? []));
    const rows = this.rows.filter(
      (row) => projects.has(row.projectId) && (traceIds.has(row.traceId) || rowIds.has(row.runId)),
    );
    return this.after(one, this.#read('lookup', rows, query.controls));
  }

  async #submit(order: DeleteOrder, called: (one: Called) => Promise<void>): Promise<Receipt> {
    const sentAtMs = Date.now();
    await order.lastWord();
    await called({ what: 'submit', query: order });
    this.deleted.push(order.traces.map(({ traceId }) => traceId));
    const acknowledgedAtMs = Date.now();
    return { sentAtMs, acknowledgedAtMs, route: 'POST /delete', status: 202, requestId: 'r', ...this.receipt(order) };
  }

  #read(purpose: ReadReport['purpose'], rows: readonly Row[], controls: readonly Control[]): Read {
    const seen = seenIn(this.rows, controls);
    return { rows, controlsSeen: controls.map((control) => seen.has(control)), report: report(purpose, rows.length) };
  }
}

function report(purpose: ReadReport['purpose'], rows: number): ReadReport {
  return {
    route: 'POST /read',
    purpose,
    calls: 1,
    rows,
    window: null,
    controlsAsked: 0,
    controlsSeen: 0,
    requestIds: [],
    skewMs: null,
    sunset: null,
  };
}

/** One step: boards, works, leaves whatever happens. */
export async function step<T>(store: TraceStore, work: (progress: Progress) => Promise<T>, stop?: Stop): Promise<T> {
  const progress = stop?.progress ?? ((): void => undefined);
  const leave = await store.board?.(progress);
  try {
    return await work(progress);
  } finally {
    leave?.();
  }
}

/** Tells a step to stop. */
export class Stop {
  stopped = false;
  readonly progress = (): void => {
    if (this.stopped) throw new Error('told to stop');
  };
}
