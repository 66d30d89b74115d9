import type { Json } from '../common/json.ts';
import { at, rootOf, type ObjectType, type Row } from './rows.ts';
import type { ObjectRows } from './state.ts';
import type { Deletion, Submission, World } from './world.ts';

/** One identifier of a person: a path below `metadata` (dots for nesting) and a value, which is compared with its JSON type. */
export interface PersonEntry {
  readonly key: string;
  readonly value: unknown;
}

/** A row as a test may want to look at it. */
export interface TruthRow {
  readonly objectType: ObjectType;
  readonly objectId: string;
  readonly rowId: string;
  /** The trace it belongs to; for a row that came back without a root span id, the trace it came from. */
  readonly traceId: string | null;
  /** What it says itself. */
  readonly rootSpanId: string | null;
  readonly live: boolean;
  readonly xact: string;
  /** Content now, or the last before it was deleted. */
  readonly data: Json;
}

/** A person: any of these entries, or a judgement of single rows. */
export type Person = readonly PersonEntry[] | ((row: TruthRow) => boolean);

/** A trace in project logs of which at least one row is live. */
export interface LiveTrace {
  readonly traceId: string;
  readonly projectId: string;
  /** Live rows. */
  readonly rows: number;
  /** Whether its root is live. */
  readonly rootLives: boolean;
}

/** A trace of which requests named some rows for deletion while others are live. */
export interface Orphans {
  readonly traceId: string;
  readonly projectId: string;
  /** Rows that requests named and that are deleted. */
  readonly deleted: readonly string[];
  /** Rows that are live, whether no request named them or they came back. */
  readonly live: readonly string[];
}

/**
 * What is really there, whatever habits make the API say: a row is live while its content is neither deleted nor hidden
 * by a shown tombstone. Retention windows, lagging or blind reads change nothing here; a delayed tombstone and a brief
 * reappearance do. Every look first does what is due.
 */
export class Truth {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  #logs(): ObjectRows[] {
    return [...this.#world.state.objects()].filter((one) => one.objectType === 'project_logs' && this.#there(one));
  }

  #copies(): ObjectRows[] {
    return [...this.#world.state.objects()].filter((one) => one.objectType !== 'project_logs' && this.#there(one));
  }

  #there(one: ObjectRows): boolean {
    return this.#world.state.exists(one, this.#world.now());
  }

  #view(row: Row): TruthRow {
    const now = this.#world.now();
    const shown = row.versionAt(now);
    const version = shown ?? [...row.versions].reverse().find((one) => one.data !== null) ?? null;
    const data = version?.data ?? {};
    return {
      objectType: row.objectType,
      objectId: row.objectId,
      rowId: row.id,
      traceId: row.traceId,
      rootSpanId: rootOf(data),
      live: shown !== null,
      xact: row.latest?.xact ?? '',
      data,
    };
  }

  #rowsOf(objects: readonly ObjectRows[], person: Person, everHad: boolean): Row[] {
    const now = this.#world.tick();
    const has = (row: Row): boolean => {
      if (typeof person === 'function') return row.live(now) && person(this.#view(row));
      const states = everHad ? row.versions.map((one) => one.data) : [row.versionAt(now)?.data ?? null];
      return states.some((data) =>
        person.some(
          ({ key, value }) =>
            data !== null && JSON.stringify(at(data['metadata'], key.split('.'))) === JSON.stringify(value),
        ),
      );
    };
    return objects.flatMap((one) => {
      if (typeof person === 'function') return one.rows.filter(has);
      const found = person.flatMap(({ key, value }) => one.rowsWith(key, JSON.stringify(value)));
      return [...new Set(found)].filter(has);
    });
  }

  /** Ids of the traces in project logs in which any live row says that person. */
  tracesOf(person: Person): string[] {
    return [...new Set(this.#rowsOf(this.#logs(), person, false).map((row) => row.traceId ?? row.id))];
  }

  /** The same with project and counts; a trace that lies in two projects comes twice. */
  liveTracesOf(person: Person): LiveTrace[] {
    return this.#live(this.#rowsOf(this.#logs(), person, false));
  }

  /**
   * Ids of the traces that any row ever said that person and of which any row is live: also those whose rows no longer
   * say whose they are.
   */
  remainsOf(person: readonly PersonEntry[]): string[] {
    const ids = new Set(this.#rowsOf(this.#logs(), person, true).map((row) => row.traceId ?? row.id));
    return [...ids].filter((id) => this.isLive(id));
  }

  /** Live rows of that person in experiments, datasets and playgrounds. */
  copiesOf(person: Person): TruthRow[] {
    return this.#rowsOf(this.#copies(), person, false).map((row) => this.#view(row));
  }

  #live(rows: readonly Row[]): LiveTrace[] {
    const keys = new Map(rows.map((row) => [`${row.objectId} ${row.traceId ?? row.id}`, row]));
    return [...keys.values()].map(({ traceId, id, objectId }) => {
      const living = this.#rowsOfTrace(traceId ?? id, objectId).filter((row) => row.live(this.#world.now()));
      const isRoot = (row: Row): boolean => {
        const { data } = this.#view(row);
        return rootOf(data) !== null && !Array.isArray(data['span_parents']);
      };
      return { traceId: traceId ?? id, projectId: objectId, rows: living.length, rootLives: living.some(isRoot) };
    });
  }

  #rowsOfTrace(traceId: string, objectId?: string): Row[] {
    const objects = this.#logs().filter((one) => objectId === undefined || one.objectId === objectId);
    return objects.flatMap((one) => {
      const rows = one.rowsOfTrace(traceId);
      return rows.length > 0 ? rows : one.livesOf(traceId).filter((row) => row.traceId === null);
    });
  }

  /** Every live trace in project logs; comments on rows are no traces. */
  allTraces(): LiveTrace[] {
    const now = this.#world.tick();
    return this.#live(this.#logs().flatMap((one) => one.rows.filter((row) => row.live(now) && !row.isComment)));
  }

  /** A trace is live while any row of it is, also one that came back without saying which trace it is of. */
  isLive(traceId: string): boolean {
    const now = this.#world.tick();
    return this.#rowsOfTrace(traceId).some((row) => row.live(now));
  }

  /** Whether the row of that id is live, in that object or in any. */
  isRowLive(rowId: string, objectId?: string): boolean {
    const now = this.#world.tick();
    return [...this.#world.state.objects()].some(
      (one) =>
        (objectId === undefined || one.objectId === objectId) &&
        this.#there(one) &&
        one.livesOf(rowId).some((row) => row.live(now)),
    );
  }

  /** Every row a trace ever had in project logs; of an id that came back, its newest life. */
  rowsOf(traceId: string): TruthRow[] {
    this.#world.tick();
    const newest = new Map(this.#rowsOfTrace(traceId).map((row) => [`${row.objectId} ${row.id}`, row]));
    return [...newest.values()].map((row) => this.#view(row));
  }

  /** Live comments on any row a trace ever had: rows of their own, which outlive what they comment on. */
  commentsOf(traceId: string): TruthRow[] {
    const now = this.#world.tick();
    const comments = this.#rowsOfTrace(traceId).flatMap(({ id, objectType, objectId }) =>
      this.#world.state.rowsIn({ objectType, objectId }).commentsOn(id),
    );
    return [...new Set(comments)].filter((row) => row.live(now)).map((row) => this.#view(row));
  }

  /** Every row that became deleted so far. */
  deleted(): readonly Deletion[] {
    const now = this.#world.tick();
    return [...this.#world.deletions.values()].filter((one) => one.atMs <= now);
  }

  /** Rows that became deleted without a request naming that very row: with their project, experiment or dataset. */
  unasked(): readonly Deletion[] {
    return this.deleted().filter((deletion) => !deletion.askedFor);
  }

  /** Traces of which only some rows are deleted by name. */
  orphans(): Orphans[] {
    const now = this.#world.tick();
    const traces = new Map<string, Deletion>();
    for (const one of this.deleted()) {
      if (one.objectType !== 'project_logs' || one.by !== 'tombstone' || one.traceId === null) continue;
      traces.set(`${one.objectId} ${one.traceId}`, one);
    }
    return [...traces.values()].flatMap(({ objectId, traceId }) => {
      const rows = this.#rowsOfTrace(traceId ?? '', objectId);
      const live = new Set(rows.filter((row) => row.live(now)).map((row) => row.id));
      if (live.size === 0) return [];
      const deleted = new Set(rows.map((row) => row.id).filter((id) => !live.has(id)));
      if (deleted.size === 0) return [];
      return [{ traceId: traceId ?? '', projectId: objectId, deleted: [...deleted], live: [...live] }];
    });
  }

  /** Accepted requests that named rows for deletion, one entry an object. */
  submissions(): readonly Submission[] {
    return this.#world.submissions;
  }

  /** The requests that named a row. */
  submissionsOf(rowId: string): readonly Submission[] {
    return this.#world.submissions.filter((one) => one.ids.includes(rowId));
  }
}
