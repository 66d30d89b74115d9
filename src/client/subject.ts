import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { Identifier } from '../erasure/request.ts';
import { EncryptionCodec } from '../temporal/codec.ts';
import type { Keys } from '../vault/keys.ts';

/**
 * The identifiers with which a request was started, from the first event of its history, so that texts can be checked
 * before they are sent (P33). Needs no worker.
 *
 * @returns none when they can't be read: then the workflow alone checks.
 */
export async function subjectOf(
  temporal: Client,
  keys: Keys,
  execution: { readonly workflowId: string; readonly runId: string },
): Promise<readonly Identifier[]> {
  const { history } = await temporal.workflowService.getWorkflowExecutionHistory({
    namespace: temporal.options.namespace,
    execution,
    maximumPageSize: 1,
  });
  const payloads = history?.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  const [first] = await new EncryptionCodec(keys).decode(payloads.slice(0, 1));
  if (first === undefined) return [];
  const input = defaultPayloadConverter.fromPayload<{ readonly subject?: readonly Identifier[] }>(first);
  return input.subject ?? [];
}
