import { setTimeout as sleep } from 'node:timers/promises';
import type { Erasure } from '../../src/client/client.ts';
import type { RequestStatus } from '../../src/erasure/status.ts';

/** What a test does with a request while it runs. */
export interface Watch {
  /** For error texts. */
  readonly name: string;
  /** Real milliseconds between two looks at the status, each of which costs the server a query. Default: 20. */
  readonly everyMs?: number;
  /** Called with every status seen: asserts what must hold at any moment. */
  readonly assertTrue: (status: RequestStatus) => void | Promise<void>;
  /** Whether what was to be deleted was acknowledged. */
  readonly submitted: (status: RequestStatus) => boolean | Promise<boolean>;
  /** Done once, as soon as it was. */
  readonly afterSubmit?: () => void | Promise<void>;
  /** What must be seen before `heal`; absent: nothing, and nothing is healed. */
  readonly until?: (status: RequestStatus) => boolean;
  readonly heal?: () => void | Promise<void>;
}

/** Lets a store do its worst until Lethe has said what it must, heals it, and waits for the end. */
export async function watchToEnd(erasure: Erasure, watch: Watch): Promise<RequestStatus> {
  let submitted = false;
  let healed = watch.until === undefined;
  for (;;) {
    const status = await erasure.status();
    await watch.assertTrue(status);
    if (!submitted && (await watch.submitted(status))) {
      submitted = true;
      await watch.afterSubmit?.();
    }
    if (!healed && watch.until?.(status) === true) {
      await watch.heal?.();
      healed = true;
    }
    if (status.endedAt !== null) {
      if (!healed) throw new Error(`${watch.name}: ended ${status.status} before it said what it must`);
      return status;
    }
    await sleep(watch.everyMs ?? 20);
  }
}
