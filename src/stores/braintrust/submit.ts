import type { Tally } from '../api.ts';
import type { KillSwitch } from '../kill-switch.ts';
import { partlyDone, StoreError } from '../port.ts';
import type { DeleteOrder, Receipt } from '../port.ts';
import { unique } from '../rows.ts';
import type { BraintrustApi } from './api.ts';
import { insertSchema } from './schemas.ts';
import { MOST_IDS_PER_DELETE } from './traits.ts';
import type { Wholes } from './wholes.ts';

const TEMPLATE = '/v1/project_logs/{project}/insert';

export interface SubmitParts {
  readonly api: BraintrustApi;
  readonly wholes: Wholes;
  readonly killSwitch: KillSwitch;
}

/** The only event that this connector ever writes. */
interface Tombstone {
  readonly id: string;
  readonly _object_delete: true;
}

/**
 * Writes tombstones for the rows of whole traces of one project. Each holds the row's id and nothing else: every further
 * field could bring data back. Sent once; whether to send again is for the workflow to decide, where it is seen. A trace
 * with more rows than one call takes goes in several, and the first that fails ends it: what is left is read again. A refusal
 * for the size of a call alone does not end it: nothing of that call was done, and what it named goes in smaller ones.
 *
 * @throws GuardError before any call for anything but whole traces as they were read last.
 * @throws StoreError; after `unreachable` it is not known whether the request arrived.
 */
export async function submitDelete(parts: SubmitParts, order: DeleteOrder): Promise<Receipt> {
  const receipts: Receipt[] = [];
  try {
    return await send(parts, order, receipts);
  } catch (error) {
    throw receipts.length === 0 ? error : partlyDone(error);
  }
}

/** @param receipts of the calls that were acknowledged, as they come. */
async function send(parts: SubmitParts, order: DeleteOrder, receipts: Receipt[]): Promise<Receipt> {
  const { traces, progress } = order;
  parts.wholes.check(order);
  const rowIds = unique(traces.flatMap(({ rowIds: ids = [] }) => ids));
  const tally = parts.api.tally(progress);
  let most = MOST_IDS_PER_DELETE;
  for (let at = 0; at < rowIds.length;) {
    const some = rowIds.slice(at, at + most);
    try {
      receipts.push(await call(parts, order, tally, some));
      at += some.length;
    } catch (error) {
      // Several traces are parted between them by the layer above, which knows whose each is.
      if (!isTooLarge(error) || traces.length > 1 || some.length < 2) throw error;
      most = Math.ceil(some.length / 2);
    }
  }
  const [first, last] = [receipts[0], receipts.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError('an order without traces');
  return { ...last, sentAtMs: first.sentAtMs };
}

async function call(
  { api, killSwitch }: SubmitParts,
  { projectId, lastWord }: DeleteOrder,
  tally: Tally,
  rowIds: readonly string[],
): Promise<Receipt> {
  const events = rowIds.map((id): Tombstone => ({ id, _object_delete: true }));
  const { data, answer } = await api.answer(
    tally,
    {
      method: 'POST',
      path: TEMPLATE.replace('{project}', encodeURIComponent(projectId)),
      template: TEMPLATE,
      body: { events },
      shape: 'insert',
      read: false,
      lastWord,
    },
    insertSchema,
  );
  const { route, status, requestId, sentAtMs, receivedAtMs: acknowledgedAtMs } = answer;
  const sent = new Set(rowIds);
  if (data.row_ids.some((id) => !sent.has(id))) {
    killSwitch.trip('an answer to a delete named rows that were not sent');
    const advice = 'the store says that it deleted rows which were not sent: look before anything else is deleted';
    throw new StoreError({ reason: 'rejected', route, status, requestId, advice });
  }
  if (data.row_ids.length !== rowIds.length || new Set(data.row_ids).size !== rowIds.length) {
    throw api.broken(tally, route, 'the answer does not name every row that was sent; reads decide what was deleted');
  }
  return { sentAtMs, acknowledgedAtMs, route, status, requestId };
}

/** Whether a call was refused unread, for its size: nothing of it was done, and less may pass. */
function isTooLarge(error: unknown): boolean {
  return error instanceof StoreError && error.reason === 'rejected' && error.status === 413;
}
