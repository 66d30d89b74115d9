import { DAY_MS } from '../erasure/rhythm.ts';

/** What a server did not understand is tried again after this long, virtual milliseconds. */
const REPROBE_MS = DAY_MS;

/** Whether a server understands something that its documentation does not promise. */
export class Capability {
  #brokenUntilMs = Number.NEGATIVE_INFINITY;

  usable(nowMs: number): boolean {
    return nowMs >= this.#brokenUntilMs;
  }
  broke(nowMs: number): void {
    this.#brokenUntilMs = nowMs + REPROBE_MS;
  }
}
