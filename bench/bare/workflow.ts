import { proxyActivities, sleep } from '@temporalio/workflow';

export interface BareInput {
  /** Task queue of all activities but the last one, as a lane has its own. */
  readonly laneQueue: string;
  /** Activities on the lane's queue, then one more on the workflow's. */
  readonly activities: number;
  /** Lengths of the timers between the activities, milliseconds; the first comes after the second activity. */
  readonly timersMs: readonly number[];
}

interface BareActivities {
  nothing(): Promise<string>;
}

/** A task that the server hands to a poll which has just ended is lost: as for a lane's steps, it comes again after 15 s. */
const OPTIONS = {
  startToCloseTimeout: '15 seconds',
  retry: { initialInterval: '1 second', maximumAttempts: 5 },
} as const;

/** As many activities and timers as an erasure, and nothing else: what the engine alone costs. */
export async function bare(input: BareInput): Promise<void> {
  const lane = proxyActivities<BareActivities>({ ...OPTIONS, taskQueue: input.laneQueue });
  const own = proxyActivities<BareActivities>(OPTIONS);
  const timers = [...input.timersMs];
  for (let done = 0; done < input.activities - 1; done += 1) {
    const timer = done < 2 ? undefined : timers.shift();
    if (timer !== undefined) await sleep(timer);
    await lane.nothing();
  }
  for (const timer of timers) await sleep(timer);
  await own.nothing();
}
