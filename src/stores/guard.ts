import type { Control, FindQuery, Progress, Read, Row, SearchTerm, TraceStore, Window } from './port.ts';
import { StoreError } from './port.ts';

/** Thrown when a caller asks a connection for something that no erasure may do. A defect of ours, never the store's. */
export class GuardError extends Error {
  /** @param why without ids or values: it may be logged (P31). */
  constructor(why: string) {
    super(`refused before any call: ${why}`);
    this.name = 'GuardError';
  }
}

/** Stops a connection's deletes for good, until the worker is restarted by an operator (P19). */
export class KillSwitch {
  #why: string | null = null;

  /** Why it tripped, or null. */
  get tripped(): string | null {
    return this.#why;
  }

  /** @param why for the operator, without ids or values. The first reason stays. */
  trip(why: string): void {
    this.#why ??= why;
  }
}

/** Rows remembered as read; an id that left this memory has to be read again before it can be deleted. */
const MOST_REMEMBERED = 200_000;

/**
 * Lets only harmless questions and narrow deletions through to a store (P13): no empty list, no open window, no id that
 * does not look like one, and no deletion of a trace that this connection has not itself read in that very project.
 * Being a control is not being read: controls' own rows never come back from a read.
 *
 * @throws GuardError from every method, before any call to the store.
 */
export function guarded(inner: TraceStore, killSwitch: KillSwitch): TraceStore {
  const { traits } = inner;
  const seen = new Set<string>();

  function remember<R extends Read>(read: R): R {
    for (const row of read.rows) note(row);
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
      break;
    }
    seen.add(key);
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
      name: finder.name,
      find: async (query: FindQuery) => {
        notEmpty(query.projects, 'projects');
        checkTerms(query.terms);
        bounded(query.window);
        controls(query.controls);
        return remember(await finder.find(query));
      },
    })),
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
        return remember(await route.lookup(query));
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
      if (traces.length === 0) return { copies: [], outOfReach: [], notExamined: [], reports: [] };
      ids(
        traces.map(({ traceId }) => traceId),
        'traces',
      );
      return inner.copies(traces, rows, progress);
    },
    lookupCopies: async (copies, progress) => {
      if (copies.length === 0) return { left: [], reports: [] };
      return inner.lookupCopies(copies, progress);
    },
    submit: async (projectId, traceIds) => {
      if (killSwitch.tripped !== null) {
        throw new StoreError({
          reason: 'rejected',
          route: 'delete',
          status: null,
          requestId: null,
          advice: `deletes of this connection are switched off: ${killSwitch.tripped}. Restart the worker once it is explained`,
        });
      }
      notEmpty([projectId], 'the project');
      ids(traceIds, 'traces to delete');
      if (traceIds.length > traits.mostIdsPerDelete) {
        throw new GuardError(`more than ${traits.mostIdsPerDelete} traces in one delete`);
      }
      if (new Set(traceIds).size !== traceIds.length) throw new GuardError('a trace is named twice in one delete');
      const unread = traceIds.filter((traceId) => !seen.has(`${projectId} ${traceId}`)).length;
      if (unread > 0) {
        throw new GuardError(`${unread} of ${traceIds.length} traces were not read in this project by this connection`);
      }
      return inner.submit(projectId, traceIds);
    },
  };
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
