import { setTimeout as sleep } from 'node:timers/promises';
import { virtualNow, type Clock } from '../erasure/clock.ts';
import { formatInstant } from '../erasure/format.ts';
import type { RequestStatus } from '../erasure/status.ts';
import { exitCodeOf, EXIT } from './exit.ts';
import { laneSentence, wrap } from './format.ts';

export interface WatchOptions {
  readonly clock: Clock;
  /** Reads the status; needs no worker. */
  readonly read: () => Promise<RequestStatus>;
  /** Called with one or more finished lines whenever something has changed. */
  readonly print: (text: string) => void;
  /** Return as soon as an operator is needed, and not only at the end. */
  readonly stopForOperator: boolean;
}

/** How often the status is read: weeks are watched, or a simulation in which a week takes seconds. */
const EVERY_MS = 1_000;
const EVERY_SIMULATED_MS = 200;

/**
 * Shows what happens to a request as it happens, one line a change.
 *
 * @returns the status at which it stopped: ended, or in need of an operator.
 */
export async function watch(options: WatchOptions): Promise<RequestStatus> {
  const shown = new Map<string, string>();
  for (;;) {
    const status = await options.read();
    for (const [name, lane] of Object.entries(status.connections)) {
      const sentence = laneSentence(lane);
      if (shown.get(name) === sentence) continue;
      shown.set(name, sentence);
      const time = formatInstant(virtualNow(options.clock));
      options.print(wrap(sentence, 4, `${time}  ${name}: `));
    }
    if (status.endedAt !== null) return status;
    if (isOrphaned(status)) return status;
    if (options.stopForOperator && exitCodeOf(status) === EXIT.operator) return status;
    await sleep(options.clock === null ? EVERY_MS : EVERY_SIMULATED_MS);
  }
}

/** Nothing will ever happen to a request without a workflow. */
function isOrphaned(status: RequestStatus): boolean {
  return Object.values(status.connections).some(({ attention }) => attention?.reason === 'workflow-lost');
}
