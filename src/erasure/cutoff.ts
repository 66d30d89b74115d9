/** What is known of when a trace began. */
interface Started {
  /** Start of its first run, epoch milliseconds; null: no run of it says. */
  readonly startMs: number | null;
  /** Whether the caller named its very id. */
  readonly given: boolean;
}

/**
 * Whether a trace belongs to a time that a request does not reach: a former customer who comes back with the same e-mail
 * address is not erased. A trace without any start time counts as later, since nothing shows that it was there before;
 * only one whose very id was given does not.
 *
 * @param instantMs up to when the request reaches, epoch milliseconds.
 */
export function startedAfter({ startMs, given }: Started, instantMs: number): boolean {
  return startMs === null ? !given : startMs > instantMs;
}
