import type { Random } from '../common/ids.ts';
import type { Environment, SpanRow } from './rows.ts';

/** A customer as one environment keeps it, made by its first log. Its counts are its own: deleting logs leaves them. */
export interface CustomerRecord {
  readonly id: string;
  readonly environment: Environment;
  readonly customerIdentifier: string;
  name: string | null;
  email: string | null;
  /** Timestamp of its earliest log, epoch milliseconds. */
  firstSeenMs: number;
  lastActiveMs: number;
  requests: number;
  tokens: number;
  cost: number;
  /** When it was made: at insertion of its first log. */
  readonly bornMs: number;
  /** From this virtual instant on it is gone; Infinity while it lives. */
  goneMs: number;
}

/** Every customer record that ever was. */
export class Customers {
  readonly #random: Random;
  readonly #byKey = new Map<string, CustomerRecord[]>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Notes a log at its insertion: makes the record, or makes it anew after its deletion. */
  seen(row: SpanRow, atMs: number): void {
    const { environment, customerIdentifier } = row;
    if (customerIdentifier === null) return;
    let record = this.find(environment, customerIdentifier, atMs);
    if (record === null) {
      record = {
        id: this.#random.uuid4(),
        environment,
        customerIdentifier,
        name: null,
        email: null,
        firstSeenMs: row.endMs,
        lastActiveMs: row.endMs,
        requests: 0,
        tokens: 0,
        cost: 0,
        bornMs: atMs,
        goneMs: Infinity,
      };
      const key = `${environment}\u0000${customerIdentifier}`;
      const records = this.#byKey.get(key);
      if (records === undefined) this.#byKey.set(key, [record]);
      else records.push(record);
    }
    record.name = row.customerName ?? record.name;
    record.email = row.customerEmail ?? record.email;
    record.firstSeenMs = Math.min(record.firstSeenMs, row.startMs);
    record.lastActiveMs = Math.max(record.lastActiveMs, row.endMs);
    record.requests += 1;
    record.tokens += row.promptTokens + row.completionTokens;
    record.cost += row.cost;
  }

  /** The record that is there at an instant. */
  find(environment: Environment, customerIdentifier: string, atMs: number): CustomerRecord | null {
    const records = this.#byKey.get(`${environment}\u0000${customerIdentifier}`) ?? [];
    return records.find((one) => one.bornMs <= atMs && atMs < one.goneMs) ?? null;
  }

  /** Every record that is there at an instant, in order of making. */
  all(atMs: number): CustomerRecord[] {
    return [...this.#byKey.values()].flat().filter((one) => one.bornMs <= atMs && atMs < one.goneMs);
  }
}
