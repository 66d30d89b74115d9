import type { KillSwitch } from '../kill-switch.ts';
import { partlyDone, StoreError } from '../port.ts';
import type { DeleteOrder, Receipt } from '../port.ts';
import { chunks, unique } from '../rows.ts';
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
 * with more rows than one call takes goes in several, and the first that fails ends it: what is left is read again.
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
async function send(
  { api, wholes, killSwitch }: SubmitParts,
  order: DeleteOrder,
  receipts: Receipt[],
): Promise<Receipt> {
  const { projectId, traces, lastWord, progress } = order;
  wholes.check(order);
  const rowIds = unique(traces.flatMap(({ rowIds: ids = [] }) => ids));
  const tally = api.tally(progress);
  for (const some of chunks(rowIds, MOST_IDS_PER_DELETE)) {
    const events = some.map((id): Tombstone => ({ id, _object_delete: true }));
    const call = {
      method: 'POST',
      path: TEMPLATE.replace('{project}', encodeURIComponent(projectId)),
      template: TEMPLATE,
      body: { events },
      shape: 'insert',
      read: false,
      lastWord,
    } as const;
    const { data, answer } = await api.answer(tally, call, insertSchema);
    const { route, status, requestId, receivedAtMs: acknowledgedAtMs } = answer;
    const sent = new Set(some);
    if (data.row_ids.some((id) => !sent.has(id))) {
      killSwitch.trip('an answer to a delete named rows that were not sent');
      const advice = 'the store says that it deleted rows which were not sent: look before anything else is deleted';
      throw new StoreError({ reason: 'rejected', route, status, requestId, advice });
    }
    if (data.row_ids.length !== some.length || new Set(data.row_ids).size !== some.length) {
      throw api.broken(tally, route, 'the answer does not name every row that was sent; reads decide what was deleted');
    }
    receipts.push({ sentAtMs: answer.sentAtMs, acknowledgedAtMs, route, status, requestId });
  }
  const [first, last] = [receipts[0], receipts.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError('an order without traces');
  return { ...last, sentAtMs: first.sentAtMs };
}
