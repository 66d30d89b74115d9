import { createHash } from 'node:crypto';
import { ApplicationFailure, Context } from '@temporalio/activity';
import { ApplicationFailureCategory } from '@temporalio/common';
import type { NotifyInput } from '../erasure/events.ts';
import { realSpanMs } from '../erasure/clock.ts';
import { DAY_MS } from '../erasure/rhythm.ts';
import type { RequestDeps } from './deps.ts';
import { signWebhook, webhookKey } from './webhook.ts';

/** Where webhooks go, from the worker's config: the secret never gets into a history. */
export interface WebhookTarget {
  readonly url: string;
  readonly secret: string;
}

const TIME_LIMIT_MS = 10_000;

/** Refusals that may pass by themselves: time-out, too early, too many requests. */
const PASSING_REFUSALS: readonly number[] = [408, 425, 429];

/** For how long an answer is tried again that says that the delivery itself is not wanted. */
const REFUSAL_PATIENCE_MS = DAY_MS;

/**
 * Sends one signed webhook. Any 2xx is a delivery; a redirect is a refusal, since it could lead anywhere.
 *
 * @throws ApplicationFailure when it was not delivered; not to be repeated when the receiver has refused for a day.
 */
export async function postWebhook(deps: RequestDeps, input: NotifyInput): Promise<{ readonly status: number }> {
  const { info } = Context.current();
  const key = deps.webhook === undefined ? null : webhookKey(deps.webhook.secret);
  if (deps.webhook === undefined || key === null || typeof key === 'string') {
    throw failed("this worker's config has no usable section notify; the event is not delivered", true);
  }
  const body = JSON.stringify(input.body);
  const id = webhookIdOf(info.workflowExecution?.workflowId ?? '');
  let status: number;
  try {
    const response = await fetch(deps.webhook.url, {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': `lethe/${deps.version}`,
        ...signWebhook(id, Date.now(), body, key),
      },
      body,
      signal: AbortSignal.timeout(TIME_LIMIT_MS),
    });
    status = response.status;
    // Nothing in it is wanted, and unread it would hold the connection.
    await response.body?.cancel();
  } catch {
    throw failed("the webhook's receiver did not answer", false);
  }
  if (status >= 200 && status < 300) return { status };
  const isRefusal = status >= 300 && status < 500 && !PASSING_REFUSALS.includes(status);
  const patienceMs = realSpanMs(deps.clock, REFUSAL_PATIENCE_MS);
  const isOver = isRefusal && Date.now() - info.scheduledTimestampMs >= patienceMs;
  throw failed(`the webhook's receiver answered with ${status}`, isOver);
}

/** The same for every try of one event. Hashed, since a request id may hold dots and the signed text is joined by them. */
function webhookIdOf(workflowId: string): string {
  return `msg_${createHash('sha256').update(workflowId).digest('hex').slice(0, 32)}`;
}

function failed(message: string, forGood: boolean): ApplicationFailure {
  const made = ApplicationFailure.create({
    message,
    type: 'WebhookUndelivered',
    nonRetryable: forGood,
    // Expected, and tried again: no line in the log for each try.
    ...(forGood ? {} : { category: ApplicationFailureCategory.BENIGN }),
  });
  made.stack = '';
  return made;
}
