/** Rate limits over a rolling window on the virtual clock. */
export class RollingLimits {
  readonly #taken = new Map<string, number[]>();

  /**
   * Counts one request against `id`. Refused requests don't count.
   *
   * @returns null when it is allowed, else the milliseconds until the next one would be.
   */
  take(id: string, limit: number, windowMs: number, nowMs: number): number | null {
    const taken = (this.#taken.get(id) ?? []).filter((atMs) => atMs > nowMs - windowMs);
    this.#taken.set(id, taken);
    if (taken.length >= limit) return Math.max(1, (taken[0] ?? nowMs) + windowMs - nowMs);
    taken.push(nowMs);
    return null;
  }
}
