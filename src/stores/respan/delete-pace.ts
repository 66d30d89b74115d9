import { HOUR_MS, MINUTE_MS } from '../../erasure/rhythm.ts';

/** How long traces that were sent may still be shown although they are on their way out, virtual milliseconds. */
const UNDER_WAY_MS = HOUR_MS;
/** How long it is remembered how few traces an environment has, virtual milliseconds: at worst they go one by one. */
const SMALL_MS = 5 * MINUTE_MS;

interface Sending {
  readonly count: number;
  untilMs: number;
}

/**
 * What the deletes of one connection know of each other: how many traces are about to vanish from an environment, and
 * how few traces an environment has.
 */
export class DeletePace {
  readonly #nowMs: () => number;
  readonly #sending = new Map<string, Sending[]>();
  readonly #fewer = new Map<string, { readonly than: number; readonly untilMs: number }>();

  /** @param nowMs virtual epoch milliseconds. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /**
   * Notes that so many traces are going to be deleted, before it is looked how many there are.
   *
   * @returns to be called at the end, with whether any of them may have been sent.
   */
  begin(environment: string, count: number): (sent: boolean) => void {
    const one = { count, untilMs: Number.POSITIVE_INFINITY };
    this.#sending.set(environment, [...this.#current(environment), one]);
    return (sent) => {
      one.untilMs = sent ? this.#nowMs() + UNDER_WAY_MS : Number.NEGATIVE_INFINITY;
    };
  }

  /** Traces that this connection is deleting, or has deleted so lately that lists may still show them. */
  underWay(environment: string): number {
    return this.#current(environment).reduce((sum, { count }) => sum + count, 0);
  }

  /** Whether an environment lately had fewer traces than this. */
  hasFewer(environment: string, than: number): boolean {
    const known = this.#fewer.get(environment);
    return known !== undefined && known.untilMs > this.#nowMs() && known.than <= than;
  }

  noteFewer(environment: string, than: number): void {
    this.#fewer.set(environment, { than, untilMs: this.#nowMs() + SMALL_MS });
  }

  #current(environment: string): readonly Sending[] {
    const nowMs = this.#nowMs();
    return (this.#sending.get(environment) ?? []).filter(({ untilMs }) => untilMs > nowMs);
  }
}
