import type { Tally } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import type { KillSwitch } from '../kill-switch.ts';
import { StoreError } from '../port.ts';
import { PairIndex } from '../rows.ts';
import { valuesIn } from '../values.ts';
import type { RespanConnection } from './config.ts';
import type { Customers } from './customers.ts';
import { plain } from './customers.ts';
import type { Lists } from './lists.ts';
import { isOwn, MOST_AGE_MS, TooLate } from './shared.ts';

/** Records looked at together: about as many as can be deleted within a minute after the look. */
const MOST_TOGETHER = 50;

const KEY = 'customer_identifier';

/** One record to be erased. */
interface Doomed {
  readonly tally: Tally;
  readonly environment: string;
  readonly identifier: string;
  readonly lastWord: () => Promise<void>;
  readonly resolve: (answer: HttpAnswer | null) => void;
  readonly reject: (error: unknown) => void;
}

export interface RecordErasureParts {
  readonly config: RespanConnection;
  readonly lists: Lists;
  readonly customers: Customers;
  readonly killSwitch: KillSwitch;
  /** Real epoch milliseconds. */
  readonly nowMs: () => number;
}

/**
 * Erases customer records, each by a call with its identifier in the path. An older page of the vendor says that a
 * customer's data goes with the record, so just before it is looked whether traces carry the customer: those were kept
 * because others are in them, and the record stays. People whose records are due together are looked at together; such a
 * look can only make a record stay that might go, never the reverse.
 */
export class RecordErasure {
  readonly #parts: RecordErasureParts;
  readonly #waiting = new Map<string, Doomed[]>();

  constructor(parts: RecordErasureParts) {
    this.#parts = parts;
  }

  /**
   * @returns the store's answer; null: the record stays, or was not there any more.
   * @throws StoreError, or whatever `lastWord` throws.
   */
  erase(
    tally: Tally,
    environment: string,
    identifier: string,
    lastWord: () => Promise<void>,
  ): Promise<HttpAnswer | null> {
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer | null>();
    const one: Doomed = {
      tally,
      environment,
      identifier,
      lastWord,
      reject,
      resolve,
    };
    const waiting = this.#waiting.get(environment);
    if (waiting !== undefined) waiting.push(one);
    else {
      this.#waiting.set(environment, [one]);
      setImmediate(() => void this.#work(environment));
    }
    return promise;
  }

  async #work(environment: string): Promise<void> {
    const most = Math.min(MOST_TOGETHER, this.#parts.config.callsPerMinute);
    let waiting = this.#waiting.get(environment) ?? [];
    while (waiting.length > 0) {
      const left = await this.#eraseTogether(environment, waiting.splice(0, most));
      // Others may have come meanwhile.
      waiting.unshift(...left);
      waiting = this.#waiting.get(environment) ?? [];
    }
    this.#waiting.delete(environment);
  }

  /** @returns those whose turn came too late after the look. */
  async #eraseTogether(environment: string, some: readonly Doomed[]): Promise<readonly Doomed[]> {
    let open = some;
    for (let [first] = open; first !== undefined; [first] = open) {
      const lookedAtMs = this.#parts.nowMs();
      let mayGo: ReadonlySet<Doomed>;
      try {
        mayGo = await this.#look(first.tally, environment, open);
      } catch (error) {
        if (error instanceof StoreError && error.reason === 'rejected' && open.length > 1) {
          // What the store refuses of some may be one odd identifier.
          const late: Doomed[] = [];
          for (const one of open) late.push(...(await this.#eraseTogether(environment, [one])));
          return late;
        }
        const failed = isOwn(error) ? [first] : open;
        for (const { reject } of failed) reject(error);
        open = open.slice(failed.length);
        continue;
      }
      const knownAtMs = this.#parts.nowMs();
      for (const [at, one] of open.entries()) {
        // For the first only its wait counts: a look that takes long itself would be made again and again.
        const isTooLate = (): boolean => this.#parts.nowMs() - (at === 0 ? knownAtMs : lookedAtMs) > MOST_AGE_MS;
        if (isTooLate()) return open.slice(at);
        try {
          if (this.#parts.killSwitch.tripped !== null) throw switchedOff();
          const { tally, identifier } = one;
          // The turn, and the word itself, may have been waited for.
          const lastWord = async (): Promise<void> => {
            await one.lastWord();
            if (isTooLate()) throw new TooLate();
          };
          const erase = () => this.#parts.customers.erase(tally, environment, identifier, lastWord);
          one.resolve(mayGo.has(one) ? await erase() : null);
        } catch (error) {
          if (error instanceof TooLate) return open.slice(at);
          one.reject(error);
        }
      }
      return [];
    }
    return [];
  }

  /** Which of the records are there, under exactly this identifier, while no trace carries the customer. */
  async #look(tally: Tally, environment: string, some: readonly Doomed[]): Promise<ReadonlySet<Doomed>> {
    const { lists, customers } = this.#parts;
    const identifiers = some.map(({ identifier }) => identifier);
    const query = { environment, window: lists.allTime(), narrow: { field: KEY, values: identifiers } } as const;
    const logs = await lists.logs(tally, query);
    const traces = await lists.traces(tally, query);
    const index = new PairIndex(identifiers.map((text) => [{ key: KEY, text }]));
    const carriers = [...logs.filter((log) => log.trace_unique_id !== null), ...traces];
    const kept = new Set(
      carriers.flatMap(({ customer_identifier: of }) =>
        index.of({ persons: valuesIn(of).map(({ text, numeric }) => ({ kind: KEY, key: KEY, text, numeric })) }),
      ),
    );
    const candidates = some.filter((_one, at) => !kept.has(at));
    const listed = candidates.length > 1 ? await customers.all(tally, environment, candidates.length) : null;
    const alike = new Map<string, number>();
    for (const name of listed ?? []) alike.set(plain(name), (alike.get(plain(name)) ?? 0) + 1);
    const mayGo = new Set<Doomed>();
    for (const one of candidates) {
      const { identifier } = one;
      // The list tells it where nobody else goes by a name that a path might stand for.
      const told = listed?.has(identifier) === true && alike.get(plain(identifier)) === 1;
      if (told || (await customers.isThere(tally, environment, identifier))) mayGo.add(one);
    }
    return mayGo;
  }
}

function switchedOff(): StoreError {
  return new StoreError({
    reason: 'switched-off',
    route: 'delete',
    status: null,
    requestId: null,
    advice: 'deletes of this connection have been switched off meanwhile; the customer record was not deleted',
  });
}
