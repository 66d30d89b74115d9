import type { KillSwitch } from '../kill-switch.ts';
import { StoreError } from '../port.ts';
import type { DeleteOrder, Receipt } from '../port.ts';
import type { LangSmithApi } from './api.ts';
import { WORKSPACE_ADVICE } from './api.ts';
import { deleteSchema } from './schemas.ts';

const ROUTE = '/api/v1/runs/delete';
/** The same for keys whose role carries attribute-based policies, as far as the vendor's spec lets one guess. */
const SECOND_ROUTE = '/api/v1/runs/delete/traces';

/**
 * Queues the deletion of traces of one project. Sends `session_id` (the vendor's word for the project) and `trace_ids`,
 * nothing else: every further field of this route is undocumented or widens what is deleted. Sent once; whether to send
 * again is for the workflow to decide, where it is seen.
 *
 * @throws StoreError; after `unreachable` it is not known whether the request arrived.
 */
export async function submitDelete(api: LangSmithApi, order: DeleteOrder, killSwitch: KillSwitch): Promise<Receipt> {
  try {
    return await send(api, ROUTE, order, killSwitch);
  } catch (error) {
    const denied = error instanceof StoreError && error.reason === 'denied' && error.status === 403;
    if (!denied || error.advice === WORKSPACE_ADVICE) throw error;
    return send(api, SECOND_ROUTE, order, killSwitch).catch((second: unknown) => {
      // Older servers lack the second route: the first refusal is what the operator must hear.
      throw second instanceof StoreError && second.reason === 'gone' ? error : second;
    });
  }
}

async function send(
  api: LangSmithApi,
  path: string,
  { projectId, traces, lastWord, progress }: DeleteOrder,
  killSwitch: KillSwitch,
): Promise<Receipt> {
  const traceIds = traces.map(({ traceId }) => traceId);
  const body = { session_id: projectId, trace_ids: traceIds };
  const tally = api.tally(progress);
  const { data, answer } = await api.answer(
    tally,
    { method: 'POST', path, body, shape: 'rest', read: false, lastWord },
    deleteSchema,
  );
  const most = Object.values(data).filter((value) => typeof value === 'number' && value > traceIds.length);
  if (most.length > 0) killSwitch.trip('an answer to a delete counted more traces than were sent');
  return {
    sentAtMs: answer.sentAtMs,
    acknowledgedAtMs: answer.receivedAtMs,
    route: answer.route,
    status: answer.status,
    requestId: answer.requestId,
  };
}
