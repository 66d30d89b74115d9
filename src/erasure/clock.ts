/**
 * A simulated clock: at the real instant it shows the virtual one, from then on it runs `speed` times as fast.
 * Simulations only (P34); production has none. It travels as data, so that workflow code, activities and simulators
 * compute the same virtual instants.
 */
export interface ClockSetting {
  /** Real instant at which the two clocks meet, epoch milliseconds. */
  readonly realMs: number;
  /** What the virtual clock shows at that instant, epoch milliseconds. */
  readonly virtualMs: number;
  /** Virtual milliseconds per real millisecond; positive. */
  readonly speed: number;
}

/** `null` is the production clock: virtual time is real time. */
export type Clock = ClockSetting | null;

/** The virtual instant, epoch milliseconds, at a real one. */
export function virtualAt(clock: Clock, realMs: number): number {
  return clock === null ? realMs : Math.round(clock.virtualMs + (realMs - clock.realMs) * clock.speed);
}

/** How many real milliseconds a virtual span lasts; never negative, rounded up so that no wait ends early. */
export function realSpanMs(clock: Clock, virtualSpanMs: number): number {
  const span = Math.max(0, virtualSpanMs);
  return Math.ceil(clock === null ? span : span / clock.speed);
}

/** Reads the virtual time now. Not for workflow code, whose `Date.now()` is Temporal's: use `virtualAt` there. */
export function virtualNow(clock: Clock): number {
  return virtualAt(clock, Date.now());
}
