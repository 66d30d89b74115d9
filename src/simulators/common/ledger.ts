import type { RouteFamily } from './habits.ts';

/** What happened to the connection. */
export type Outcome = 'answered' | 'reset-before' | 'reset-after' | 'cut';

/** One request as a simulator saw it; each simulator adds what its requests say. */
export interface BaseEntry {
  /** Virtual instant of arrival, epoch milliseconds. */
  readonly atMs: number;
  readonly method: string;
  /** Canonical template of the path, parameters as `{id}`. */
  readonly route: string;
  readonly family: RouteFamily;
  /** HTTP status; 0 when the connection was reset. */
  status: number;
  outcome: Outcome;
  /** Why the status is what it is, when a limit or a habit decided: `limit:<rule>`, `habit:<name>`. */
  cause: string | null;
  /** The ids a delete named, or a by-id query asked for; `null` when the request names none. */
  ids: readonly string[] | null;
  /** The project (container of traces) a delete named. */
  projectId: string | null;
  apiKeyName: string | null;
  requestId: string;
}

/** Which entries to count or list: those that agree in every field given. */
export type EntryFilter<E extends BaseEntry> = { readonly [K in keyof E]?: E[K] | undefined };

/** Every request in order of arrival. */
export class BaseLedger<E extends BaseEntry> {
  #entries: E[] = [];
  #requests = 0;

  get entries(): readonly E[] {
    return this.#entries;
  }

  add(entry: E): void {
    this.#entries.push(entry);
  }

  list(filter: EntryFilter<E> = {}): readonly E[] {
    const wanted = Object.entries(filter).filter(([, value]) => value !== undefined);
    return this.#entries.filter((entry) => wanted.every(([name, value]) => entry[name as keyof E] === value));
  }

  count(filter: EntryFilter<E> = {}): number {
    return this.list(filter).length;
  }

  nextRequestId(): string {
    this.#requests += 1;
    return `req-${String(this.#requests).padStart(8, '0')}`;
  }

  /** Forgets the entries; request ids go on. */
  reset(): void {
    this.#entries = [];
  }
}
