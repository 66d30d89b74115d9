import { createHash } from 'node:crypto';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether a value is a UUID of any version, in the dashed form that the service accepts. */
export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

/** A repeatable source of numbers in [0, 1): the same seed gives the same simulation. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** The next number in [0, 1) (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  #hex(digits: number): string {
    let text = '';
    while (text.length < digits) {
      text += Math.floor(this.next() * 0x1_0000_0000)
        .toString(16)
        .padStart(8, '0');
    }
    return text.slice(0, digits);
  }

  /** A version 7 UUID whose first 48 bits are `ms` (epoch milliseconds), as the JS SDK 0.12 makes them. */
  uuid7(ms: number): string {
    const time = Math.max(0, Math.floor(ms)).toString(16).padStart(12, '0');
    const rest = this.#hex(18);
    return `${time.slice(0, 8)}-${time.slice(8)}-7${rest.slice(0, 3)}-8${rest.slice(3, 6)}-${rest.slice(6)}`;
  }

  /** A version 4 UUID. */
  uuid4(): string {
    const rest = this.#hex(30);
    return `${rest.slice(0, 8)}-${rest.slice(8, 12)}-4${rest.slice(12, 15)}-a${rest.slice(15, 18)}-${rest.slice(18)}`;
  }
}

/** A number in [0, 1) that depends on nothing but the texts given. */
export function hashShare(...texts: readonly string[]): number {
  const digest = createHash('sha256').update(texts.join('\u0000')).digest();
  return digest.readUInt32BE(0) / 4_294_967_296;
}

/** A short fingerprint that ties a page cursor to the query it came from. */
export function fingerprint(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url').slice(0, 12);
}
