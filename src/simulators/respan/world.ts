import type { Clock } from '../../erasure/clock.ts';
import { Agenda } from '../common/agenda.ts';
import { Random } from '../common/ids.ts';
import { RollingLimits } from '../common/limits.ts';
import { Timeline } from '../common/time.ts';
import { Copies } from './copies.ts';
import { Customers } from './customers.ts';
import { Deletions } from './deletions.ts';
import { HabitSwitches } from './habits.ts';
import { Ledger } from './ledger.ts';
import { ENVIRONMENTS, type Environment, type SpanFields, type SpanRow } from './rows.ts';
import { SpanState } from './state.ts';

/** A key that the simulator accepts. */
export interface ApiKeyOptions {
  readonly key: string;
  /** How the ledger names it. Default: `key-<n>`. */
  readonly name?: string;
  /** What it writes to, and what an omitted `environment` means for it. Default `prod`. */
  readonly environment?: Environment;
}

/** Rate limits (docs: resources/reference/api-rate-limits), on the virtual clock. */
export interface LimitOptions {
  /** Requests a minute of the whole organisation, request logs and ingest excluded. Default 60. */
  readonly perMinute?: number;
  /** The same for `/api/request-logs/*`; the number isn't published. Default `null`: none. */
  readonly requestLogsPerMinute?: number | null;
  /** Whether a 429 carries `Retry-After` beside `retry_after` in its body; not stated. Default false. */
  readonly retryAfterHeader?: boolean;
}

/** How a simulator is set up. Everything is optional. */
export interface RespanSimulatorOptions {
  /** The virtual clock; `null` (default) is real time. */
  readonly clock?: Clock;
  /** Port on 127.0.0.1; default 0: a free one. */
  readonly port?: number;
  /** Keys accepted; default one of each environment, given back as `apiKeys`. Any other is answered 401. */
  readonly apiKeys?: readonly (string | ApiKeyOptions)[];
  /** The organisation, as public links name it. Default `acme`. */
  readonly org?: string;
  /** Seed of every random choice; default 1. */
  readonly seed?: number;
  /** Default true: the documented 60 a minute. */
  readonly limits?: boolean | LimitOptions;
  /** Virtual milliseconds that an accepted write waits in the queue. Default 0. */
  readonly ingestDelayMs?: number;
  /** Virtual milliseconds between the acceptance of a delete and its effect, by table. Default 10,000 and 20,000. */
  readonly mutationDelayMs?: { readonly traces?: number; readonly spans?: number };
}

export interface ApiKey {
  readonly key: string;
  readonly name: string;
  readonly environment: Environment;
}

/** Everything behind the HTTP surface of one simulator. */
export class World {
  readonly org: string;
  readonly apiKeys: readonly ApiKey[];
  readonly ingestDelayMs: number;
  readonly limitOptions: Required<LimitOptions> | null;
  readonly limits = new RollingLimits();
  readonly random: Random;
  readonly habits: HabitSwitches;
  readonly state: SpanState;
  readonly customers: Customers;
  readonly copies: Copies;
  readonly deletions: Deletions;
  readonly ledger = new Ledger();
  readonly #time: Timeline;
  readonly #agenda = new Agenda();

  constructor(options: RespanSimulatorOptions) {
    const seed = options.seed ?? 1;
    this.#time = new Timeline(options.clock ?? null);
    this.org = options.org ?? 'acme';
    this.ingestDelayMs = options.ingestDelayMs ?? 0;
    const { limits = true } = options;
    this.limitOptions =
      limits === false
        ? null
        : { perMinute: 60, requestLogsPerMinute: null, retryAfterHeader: false, ...(limits === true ? {} : limits) };
    const byDefault = ENVIRONMENTS.map((environment) => ({ key: `rsp-${environment}-simulator-0001`, environment }));
    this.apiKeys = (options.apiKeys ?? byDefault).map((given, index) => {
      const key: ApiKeyOptions = typeof given === 'string' ? { key: given } : given;
      return { key: key.key, name: key.name ?? `key-${index + 1}`, environment: key.environment ?? 'prod' };
    });
    this.random = new Random(seed);
    this.habits = new HabitSwitches(seed);
    this.state = new SpanState(this.random);
    this.customers = new Customers(this.random);
    this.copies = new Copies(this.random);
    const { traces = 10_000, spans = 20_000 } = options.mutationDelayMs ?? {};
    this.deletions = new Deletions(this.state, this.habits, { traces, spans }, seed, (fields, bornMs) => {
      this.insert(fields, bornMs);
    });
  }

  /** The virtual instant, epoch milliseconds. */
  now(): number {
    return this.#time.now();
  }

  /** The virtual instant, with everything inserted that the queue held until then. */
  tick(): number {
    const now = this.now();
    this.#agenda.catchUp(now);
    return now;
  }

  /** Moves this simulator's clock forward. */
  advance(ms: number): void {
    this.#time.advance(ms);
    this.tick();
  }

  /** When a write that is accepted now will be inserted. */
  insertionMs(nowMs: number): number {
    return nowMs + this.ingestDelayMs + this.habits.current.queueDelayMs;
  }

  /** Writes a span or log that the workers insert at `bornMs`; that also makes or updates its customer's record. */
  insert(fields: SpanFields, bornMs: number): SpanRow {
    const row = this.state.write(fields, bornMs);
    if (bornMs <= this.now()) this.customers.seen(row, bornMs);
    else {
      this.#agenda.at(bornMs, (atMs) => {
        this.customers.seen(row, atMs);
      });
    }
    return row;
  }
}
