import type {
  Control,
  Copy,
  DeleteOrder,
  FindQuery,
  Progress,
  Read,
  Row,
  SearchTerm,
  TraceRef,
  TraceStore,
  Window,
} from './port.ts';
import type { KillSwitch } from './kill-switch.ts';
import { StoreError } from './port.ts';

/** Thrown when a caller asks a connection for something that no erasure may do. A defect of ours, never the store's. */
export class GuardError extends Error {
  /** @param why without ids or values: it may be logged (P31). */
  constructor(why: string) {
    super(`refused before any call: ${why}`);
    this.name = 'GuardError';
  }
}

/** Rows remembered as read; an id that left this memory has to be read again before it can be deleted. */
const MOST_REMEMBERED = 200_000;

/**
 * Lets only harmless questions and narrow deletions through to a store (P13): no empty list, no open window, no id that
 * does not look like one, and no deletion of a trace that this connection has not itself read in that very project. Where
 * a store deletes row by row, exactly the rows that the latest look-up showed of each trace: no part of a trace, no span id.
 * Being a control is not being read: controls' own rows never come back from a read.
 *
 * @throws GuardError from every method, before any call to the store.
 */
export function guarded(inner: TraceStore, killSwitch: KillSwitch): TraceStore {
  const { traits } = inner;
  const seen = new Set<string>();
  /** Rows of each trace by the latest look-up through each route; only where traces are deleted row by row. */
  const wholes = new Map<string, Map<string, ReadonlySet<string>>>();
  /** Copies that this connection has read. */
  const seenCopies = new Set<string>();

  function remember<R extends Read>(read: R): R {
    for (const row of read.rows) note(row);
    rememberCopies(read.loose ?? []);
    return read;
  }
  function note({ projectId, traceId }: Pick<Row, 'projectId' | 'traceId'>): void {
    const key = `${projectId} ${traceId}`;
    if (seen.delete(key) || seen.size < MOST_REMEMBERED) {
      seen.add(key);
      return;
    }
    for (const oldest of seen) {
      seen.delete(oldest);
      wholes.delete(oldest);
      break;
    }
    seen.add(key);
  }
  function rememberCopies(copies: readonly Pick<Copy, 'kind' | 'id'>[]): void {
    for (const copy of copies) {
      const key = copyKey(copy);
      seenCopies.delete(key);
      seenCopies.add(key);
      if (seenCopies.size <= MOST_REMEMBERED) continue;
      for (const oldest of seenCopies) {
        seenCopies.delete(oldest);
        break;
      }
    }
  }
  function rememberWhole(route: string, asked: readonly TraceRef[], rows: readonly Row[]): void {
    if (traits.deletesBy === 'trace') return;
    const byTrace = new Map(asked.map(({ projectId, traceId }) => [`${projectId} ${traceId}`, new Set<string>()]));
    for (const { projectId, traceId, runId } of rows) byTrace.get(`${projectId} ${traceId}`)?.add(runId);
    for (const [key, rowIds] of byTrace) {
      if (rowIds.size === 0 && !wholes.has(key)) continue;
      const routes = wholes.get(key) ?? new Map<string, ReadonlySet<string>>();
      wholes.set(key, routes.set(route, rowIds));
    }
  }
  const id = (value: string, what: string): void => {
    if (!traits.idPattern.test(value)) throw new GuardError(`${what} does not look like an id of ${traits.store}`);
  };
  const ids = (values: readonly string[], what: string): void => {
    notEmpty(values, what);
    for (const value of values) id(value, what);
  };
  const controls = (values: readonly Control[]): void => {
    for (const control of values) {
      id(control.traceId, "a control's trace");
      id(control.runId, "a control's run");
      notEmpty([control.projectId], "a control's project");
    }
  };

  return {
    traits,
    normaliseId: (value) => inner.normaliseId(value),
    check: () => inner.check(),
    projects: (progress: Progress) => inner.projects(progress),
    finders: inner.finders.map((finder) => ({
      ...finder,
      find: async (query: FindQuery) => {
        notEmpty(query.projects, 'projects');
        checkTerms(query.terms);
        bounded(query.window);
        controls(query.controls);
        return remember(await finder.find(query));
      },
    })),
    ...(inner.threads === undefined ? {} : { threads: inner.threads }),
    lookups: inner.lookups.map((route) => ({
      name: route.name,
      lookup: async (query) => {
        ids(
          query.traces.map(({ traceId }) => traceId),
          'traces',
        );
        for (const { projectId } of query.traces) notEmpty([projectId], 'a project id');
        bounded(query.window);
        controls(query.controls);
        const read = remember(await route.lookup(query));
        rememberWhole(route.name, query.traces, read.rows);
        return read;
      },
    })),
    locate: async (query) => {
      notEmpty(query.projects, 'projects');
      ids(query.ids, 'ids');
      bounded(query.window);
      controls(query.controls);
      return remember(await inner.locate(query));
    },
    controls: async (query) => {
      notEmpty(query.projects, 'projects');
      notEmpty(query.terms, 'search terms');
      bounded(query.window);
      if (!Number.isInteger(query.want) || query.want < 1) throw new GuardError('no controls wanted');
      return inner.controls(query);
    },
    copies: async (traces, rows, progress) => {
      if (traces.length === 0) {
        if (traits.copiesOfNothing !== true) return { copies: [], outOfReach: [], notExamined: [], reports: [] };
        return inner.copies(traces, rows, progress);
      }
      ids(
        traces.map(({ traceId }) => traceId),
        'traces',
      );
      const found = await inner.copies(traces, rows, progress);
      rememberCopies(found.copies);
      return found;
    },
    lookupCopies: async (copies, progress) => {
      if (copies.length === 0) return { left: [], reports: [] };
      const looked = await inner.lookupCopies(copies, progress);
      rememberCopies(looked.left);
      return looked;
    },
    ...(inner.eraseCopies === undefined
      ? {}
      : {
          eraseCopies: async (copies, lastWord, progress) => {
            notEmpty(copies, 'copies to erase');
            const erasable = traits.copyMap.filter((copy) => copy.erasable === true).map(({ kind }) => kind);
            if (copies.some(({ kind, id: copyId }) => copyId === '' || !erasable.includes(kind))) {
              throw new GuardError('a copy that this store does not erase by itself');
            }
            if (copies.some(({ others }) => others === true))
              throw new GuardError("a copy that isn't the person's alone");
            if (new Set(copies.map(copyKey)).size !== copies.length) throw new GuardError('a copy is named twice');
            const unread = copies.filter((copy) => !seenCopies.has(copyKey(copy))).length;
            if (unread > 0) {
              throw new GuardError(`${unread} of ${copies.length} copies were not read by this connection`);
            }
            const word = new LastWord(async () => {
              await lastWord();
              if (killSwitch.tripped !== null) throw switchedOff(killSwitch.tripped);
            });
            if (killSwitch.tripped !== null) throw switchedOff(killSwitch.tripped);
            return word.heard(() =>
              (inner.eraseCopies as NonNullable<TraceStore['eraseCopies']>)(copies, () => word.ask(), progress),
            );
          },
        }),
    ...(inner.board === undefined
      ? {}
      : {
          board: (progress: Progress, request?: string) =>
            (inner.board as NonNullable<TraceStore['board']>)(progress, request),
        }),
    submit: async (order) => {
      const { projectId, traces } = order;
      const traceIds = traces.map(({ traceId }) => traceId);
      notEmpty([projectId], 'the project');
      ids(traceIds, 'traces to delete');
      if (new Set(traceIds).size !== traceIds.length) throw new GuardError('a trace is named twice in one delete');
      const unread = traceIds.filter((traceId) => !seen.has(`${projectId} ${traceId}`)).length;
      if (unread > 0) {
        throw new GuardError(`${unread} of ${traceIds.length} traces were not read in this project by this connection`);
      }
      const named = traits.deletesBy === 'trace' ? traceIds.length : countRows(order);
      // A trace that has more rows than one call takes goes by itself, and the connector splits it.
      if (named > traits.mostIdsPerDelete && traceIds.length > 1) {
        throw new GuardError(`more than ${traits.mostIdsPerDelete} ids in one delete`);
      }
      const lastWord = async (): Promise<void> => {
        await order.lastWord();
        if (killSwitch.tripped !== null) throw switchedOff(killSwitch.tripped);
      };
      if (killSwitch.tripped !== null) throw switchedOff(killSwitch.tripped);
      return inner.submit({ ...order, lastWord });
    },
  };

  /** Checks that every trace goes whole and with nothing else (P13). @returns the rows named. */
  function countRows({ projectId, traces }: DeleteOrder): number {
    let named = 0;
    for (const { traceId, rowIds = [] } of traces) {
      ids(rowIds, 'rows to delete');
      const asked = new Set(rowIds);
      if (asked.size !== rowIds.length) throw new GuardError('a row is named twice in one delete');
      const read = new Set([...(wholes.get(`${projectId} ${traceId}`)?.values() ?? [])].flatMap((rows) => [...rows]));
      const strange = rowIds.filter((rowId) => !read.has(rowId)).length;
      if (strange > 0) throw new GuardError(`${strange} of ${rowIds.length} rows were not read as rows of their trace`);
      if (asked.size < read.size) {
        throw new GuardError(
          `only ${asked.size} of the ${read.size} rows of a trace: the others would stay, without it`,
        );
      }
      named += rowIds.length;
    }
    return named;
  }
}

function copyKey({ kind, id }: Pick<Copy, 'kind' | 'id'>): string {
  return `${kind} ${id}`;
}

/**
 * The last word of several calls: what stopped one stops the others, and is passed on although a connector takes a refusal
 * of one call for a fact about that copy.
 */
class LastWord {
  readonly #given: () => Promise<void>;
  #stopped: { readonly error: unknown } | null = null;

  constructor(given: () => Promise<void>) {
    this.#given = given;
  }

  async ask(): Promise<void> {
    if (this.#stopped !== null) throw this.#stopped.error;
    try {
      await this.#given();
    } catch (error) {
      this.#stopped = { error };
      throw error;
    }
  }

  async heard<T>(work: () => Promise<T>): Promise<T> {
    const done = await work();
    if (this.#stopped !== null) throw this.#stopped.error;
    return done;
  }
}

function switchedOff(why: string): StoreError {
  return new StoreError({
    reason: 'switched-off',
    route: 'delete',
    status: null,
    requestId: null,
    advice: `deletes of this connection are switched off: ${why}. Once that is explained, run lethe allow-deletes`,
  });
}

function notEmpty(values: readonly unknown[], what: string): void {
  if (values.length === 0 || values.includes('')) throw new GuardError(`${what}: none given`);
}

function checkTerms(terms: readonly SearchTerm[]): void {
  notEmpty(terms, 'search terms');
  for (const term of terms) {
    notEmpty(term.keys, 'keys to search');
    notEmpty(term.variants, 'spellings to search');
  }
}

function bounded({ fromMs, toMs }: Window): void {
  if (!Number.isFinite(fromMs) || !Number.isFinite(toMs) || fromMs >= toMs) throw new GuardError('no proper window');
}

export { KillSwitch } from './kill-switch.ts';
