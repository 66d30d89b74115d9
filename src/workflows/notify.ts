import { proxyActivities } from '@temporalio/workflow';
import { realSpanMs } from '../erasure/clock.ts';
import type { NotifyActivities, NotifyInput } from '../erasure/events.ts';
import { DAY_MS, HOUR_MS } from '../erasure/rhythm.ts';

const FIRST_PAUSE_MS = 30_000;

/** Even on a fast clock a receiver has time to answer. */
const LEAST_MS = 30_000;

/**
 * Delivers one webhook: tried for seven days with pauses of up to six hours, which leaves no events. One that was not
 * delivered makes this workflow fail, so that it is seen; the erasure never waits for it.
 */
export async function notify(input: NotifyInput): Promise<{ readonly status: number }> {
  const { postWebhook } = proxyActivities<NotifyActivities>({
    // Above the 10 seconds that a receiver has.
    startToCloseTimeout: '20 seconds',
    scheduleToCloseTimeout: Math.max(LEAST_MS, realSpanMs(input.clock, 7 * DAY_MS)),
    retry: {
      initialInterval: Math.max(1, realSpanMs(input.clock, FIRST_PAUSE_MS)),
      backoffCoefficient: 2,
      maximumInterval: Math.max(1, realSpanMs(input.clock, 6 * HOUR_MS)),
    },
    summary: `${input.body.event} · ${input.body.requestId}`,
  });
  return postWebhook(input);
}
