import { virtualNow, type Clock } from '../../erasure/clock.ts';

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

const ZONED = /(?:z|[+-]\d{2}:?\d{2})$/i;

/** The same rows are compared and shown again and again: a large project is scanned ten times faster with this. */
const MOST_REMEMBERED = 100_000;

function remembered<Key, Value>(work: (key: Key) => Value): (key: Key) => Value {
  const known = new Map<Key, Value>();
  return (key) => {
    const found = known.get(key);
    if (found !== undefined) return found;
    if (known.size >= MOST_REMEMBERED) known.clear();
    const value = work(key);
    known.set(key, value);
    return value;
  };
}

const parseText = remembered((value: string): number | null => {
  const text = ZONED.test(value) || !value.includes('T') ? value : `${value}Z`;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return null;
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  const micros = fraction.length > 3 ? Number(fraction.slice(3, 6).padEnd(3, '0')) : 0;
  return ms + micros / 1000;
});

/**
 * Epoch milliseconds (with a fraction for microseconds) of what clients send as a time: ISO text with or without a zone
 * (none means UTC), or epoch milliseconds. `null` when it is neither.
 */
export function parseTime(value: unknown): number | null {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  return typeof value !== 'string' || value.length < 8 ? null : parseText(value);
}

/** The instant a caller means, or `fallback` when it says none. @throws TypeError when it is no time. */
export function instant(value: string | number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  const ms = parseTime(value);
  if (ms === null) throw new TypeError(`not a time: ${value}`);
  return ms;
}

/** ISO 8601 in UTC with microseconds and no zone. */
export const isoMicros = remembered((ms: number): string => {
  const micros = Math.round(ms * 1000);
  const whole = Math.floor(micros / 1000);
  return `${new Date(whole).toISOString().slice(0, -1)}${String(micros - whole * 1000).padStart(3, '0')}`;
});

/** RFC 3339 with microseconds and `Z`. */
export function rfc3339(ms: number): string {
  return `${isoMicros(ms)}Z`;
}

/** A simulator's own time: the virtual clock of its setting, moved on by what tests add. */
export class Timeline {
  readonly clock: Clock;
  #offsetMs = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** The virtual instant, epoch milliseconds. */
  now(): number {
    return virtualNow(this.clock) + this.#offsetMs;
  }

  /** Moves this simulator's clock forward. @throws RangeError when `ms` is negative or no number. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError('time only moves forward');
    this.#offsetMs += ms;
  }
}
