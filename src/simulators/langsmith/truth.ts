import type { Deletion, Submission } from './deletions.ts';
import { metadataText } from './filter.ts';
import { VIEWS, type RunRow, type View } from './rows.ts';
import type { TruthRun } from './seed.ts';
import type { World } from './world.ts';

/** One identifier of a person: a metadata entry, compared as text. */
export interface PersonEntry {
  readonly key: string;
  readonly value: unknown;
}

/** A person: any of these entries, or a judgement of single runs. */
export type Person = readonly PersonEntry[] | ((run: TruthRun) => boolean);

/** A trace of which at least one run is in at least one view. */
export interface LiveTrace {
  readonly traceId: string;
  readonly projectId: string;
  /** Live runs by view. */
  readonly runs: Readonly<Record<View, number>>;
  /** Whether its root is live in some view. */
  readonly rootLives: boolean;
}

/** What is really there, whatever habits make the API say. Every look first runs the batches that are due. */
export class Truth {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  #rowsOf(person: Person): RunRow[] {
    const { state } = this.#world;
    const now = this.#world.tick();
    if (typeof person === 'function') return [...state.rows()].filter((row) => row.live(now) && person(row));
    return person.flatMap(({ key, value }) => {
      const text = metadataText(value);
      return state
        .rowsWithPair(key, text)
        .filter((row) => row.live(now) && row.pairs.some(([k, v]) => k === key && v === text));
    });
  }

  /** Ids of the live traces in which any live run, in any view, is that person's. */
  tracesOf(person: Person): string[] {
    return [...new Set(this.#rowsOf(person).map((row) => row.traceId))];
  }

  /** The same with project and counts; a trace that lies in two projects comes twice. */
  liveTracesOf(person: Person): LiveTrace[] {
    const keys = new Map(this.#rowsOf(person).map((row) => [`${row.projectId} ${row.traceId}`, row]));
    return [...keys.values()].map((row) => this.#live(row.traceId, row.projectId));
  }

  #live(traceId: string, projectId: string): LiveTrace {
    const now = this.#world.now();
    const rows = this.#world.state.rowsOfTrace(traceId).filter((row) => row.projectId === projectId);
    const count = (view: View): number => rows.filter((row) => row.visible(view, now)).length;
    const rootLives = rows.some((row) => row.isRoot && row.live(now));
    return { traceId, projectId, runs: { v1: count('v1'), v2: count('v2') }, rootLives };
  }

  /** Every live trace. */
  allTraces(): LiveTrace[] {
    const now = this.#world.tick();
    const keys = new Map<string, RunRow>();
    for (const row of this.#world.state.rows()) if (row.live(now)) keys.set(`${row.projectId} ${row.traceId}`, row);
    return [...keys.values()].map((row) => this.#live(row.traceId, row.projectId));
  }

  /** A trace is live while any run of it is in any view of any project. */
  isLive(traceId: string, view?: View): boolean {
    const now = this.#world.tick();
    const views = view === undefined ? VIEWS : [view];
    return this.#world.state.rowsOfTrace(traceId).some((row) => views.some((one) => row.visible(one, now)));
  }

  /** Every removal by a batch so far. */
  deleted(): readonly Deletion[] {
    this.#world.tick();
    return this.#world.deletions.deletions;
  }

  /** Removals of traces that no request named by id in their project: metadata mode's collateral, project deletes. */
  unasked(): readonly Deletion[] {
    return this.deleted().filter((deletion) => !deletion.askedFor);
  }

  /** Accepted delete requests, executed or not. */
  submissions(): readonly Submission[] {
    return this.#world.deletions.submissions;
  }

  /** When a trace id was submitted, and to which project. */
  submissionsOf(
    traceId: string,
  ): { atMs: number; projectId: string | null; route: string; executedMs: number | null }[] {
    return this.submissions()
      .filter((submission) => submission.traceIds.includes(traceId))
      .map(({ atMs, projectId, route, executedMs }) => ({ atMs, projectId, route, executedMs }));
  }
}
