import type { Control, PersonValue, Row } from './port.ts';
import { keyOf, valuesOf } from './rows.ts';
import { classOf } from '../erasure/value-class.ts';

/** Values left out of one search for everybody else. */
const MOST_OTHERS = 10;

/** Candidates by project, key and class of value. */
export class ControlPool {
  readonly #keys: readonly string[];
  readonly #want: number;
  readonly #exclude: (row: Row) => boolean;
  readonly #rows = new Map<string, Row>();
  /** Traces with any run that may not serve: the whole trace may not. */
  readonly #barred = new Set<string>();
  readonly #barredRows: Row[] = [];
  readonly #speaking = new Set<string>();

  constructor(keys: readonly string[], want: number, exclude: (row: Row) => boolean) {
    this.#keys = keys;
    this.#want = want;
    this.#exclude = exclude;
  }

  add(rows: readonly Row[]): void {
    for (const row of rows) {
      this.#rows.set(keyOf(row), row);
      if (this.#exclude(row)) {
        this.#barred.add(row.traceId);
        this.#barredRows.push(row);
      }
      if (valuesOf(row).some(({ key }) => this.#keys.includes(key))) this.#speaking.add(row.projectId);
    }
  }

  /** Whether any run of the project carries any of the keys. */
  speaks(projectId: string): boolean {
    return this.#speaking.has(projectId);
  }

  /** Whether runs that may not serve were read in the project. */
  isBarredIn(projectId: string): boolean {
    return this.#barredRows.some((row) => row.projectId === projectId);
  }

  /** Values on such runs under a key; at most a few, they only make a page roomier. */
  barredValues(projectId: string, key: string): readonly PersonValue[] {
    const values = new Map<string, PersonValue>();
    for (const row of this.#barredRows) {
      if (row.projectId !== projectId) continue;
      for (const value of valuesOf(row)) if (value.key === key) values.set(`${value.text} ${value.numeric}`, value);
    }
    return [...values.values()].slice(0, MOST_OTHERS);
  }

  /** Start of the oldest run read of a project, or null. */
  oldestMs(projectId: string): number | null {
    const starts = [...this.#rows.values()].flatMap((row) => (row.projectId === projectId ? (row.startMs ?? []) : []));
    return starts.length === 0 ? null : starts.reduce((oldest, start) => Math.min(oldest, start));
  }

  /** Keys for which a project has fewer controls than wanted. */
  uncovered(projectId: string): string[] {
    const offered = this.offer().filter((control) => control.projectId === projectId);
    return this.#keys.filter((key) => offered.filter(({ value }) => value.key === key).length < this.#want);
  }

  /**
   * Oldest first, as a control near the window's old end proves the window; at most one run per trace and group. The
   * first of every class come before the second of any, so that whoever takes a few gets all classes.
   */
  offer(): Control[] {
    const groups = new Map<string, Control[]>();
    const oldest = [...this.#rows.values()].sort((a, b) => (a.startMs ?? Infinity) - (b.startMs ?? Infinity));
    // Different people first: two controls of one person are seen by the same single value of a list.
    for (const [others, row] of [true, false].flatMap((first) => oldest.map((one) => [first, one] as const))) {
      if (this.#barred.has(row.traceId)) continue;
      for (const value of valuesOf(row)) {
        if (!this.#keys.includes(value.key) || value.text === '' || value.nested === true) continue;
        const name = JSON.stringify([row.projectId, value.key, classOf(value)]);
        const group = groups.get(name) ?? [];
        groups.set(name, group);
        if (group.length >= this.#want || group.some(({ traceId }) => traceId === row.traceId)) continue;
        if (others && group.some((control) => control.value.text === value.text)) continue;
        const { projectId, traceId, runId, startMs } = row;
        group.push({ projectId, traceId, runId, value, startMs });
      }
    }
    return Array.from({ length: this.#want }, (_, turn) =>
      [...groups.values()].flatMap((group) => group[turn] ?? []),
    ).flat();
  }
}
