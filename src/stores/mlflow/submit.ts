import type { KillSwitch } from '../kill-switch.ts';
import { GuardError } from '../guard.ts';
import { partlyDone, StoreError } from '../port.ts';
import type { DeleteOrder, Receipt } from '../port.ts';
import type { Tally } from '../api.ts';
import type { MlflowApi } from './api.ts';
import { deletedSchema } from './schemas.ts';
import type { Traces } from './traces.ts';
import { ARTIFACTS, encoded } from './traces.ts';
import { TRACE_ID_PATTERN } from './traits.ts';

const DELETE = '/api/3.0/mlflow/traces/delete-traces';
const FOLDER_TEMPLATE = `${ARTIFACTS}/{trace}`;

export interface SubmitParts {
  readonly api: MlflowApi;
  readonly traces: Traces;
  readonly killSwitch: KillSwitch;
}

/**
 * The only body that is ever sent. The server ignores fields that it does not know and then deletes by the others: with a
 * time in it, everybody's traces before that time.
 */
interface DeleteBody {
  readonly experiment_id: string;
  readonly request_ids: readonly string[];
}

/**
 * Deletes traces of one experiment, then the files that each of them left on the artifact store, one folder at a time.
 * What a stop in between leaves over is seen by the next look-up, as a trace of which only files are left.
 *
 * @throws GuardError before any call for an id that is none of a trace: an empty one in an address of a folder would stand
 *   for the files of every trace.
 * @throws StoreError; after `unreachable` it is not known whether the request arrived. `rejected` with the kill switch
 *   tripped when more was deleted than was sent.
 */
export async function submitDelete({ api, traces, killSwitch }: SubmitParts, order: DeleteOrder): Promise<Receipt> {
  const { projectId, lastWord, progress } = order;
  const ids = order.traces.map(({ traceId }) => traceId);
  if (ids.length === 0 || !ids.every((id) => TRACE_ID_PATTERN.test(id)) || !/^\d+$/.test(projectId)) {
    throw new GuardError('an order that names no traces of one experiment');
  }
  const tally = api.tally(progress);
  const folders = await foldersOf(traces, tally, order);
  const body: DeleteBody = { experiment_id: projectId, request_ids: ids };
  const call = { method: 'POST', path: DELETE, body, shape: 'any', read: false, lastWord } as const;
  const { data, answer } = await api.answer(tally, call, deletedSchema);
  const { route, status, requestId, sentAtMs } = answer;
  if (data.traces_deleted > ids.length) {
    killSwitch.trip('the server says that it deleted more traces than were sent');
    const advice = 'the server says that it deleted more traces than were sent: look before anything else is deleted';
    throw new StoreError({ reason: 'rejected', route, status, requestId, advice });
  }
  let acknowledgedAtMs = answer.receivedAtMs;
  try {
    for (const folder of folders) {
      const sent = await api.send(tally, {
        method: 'DELETE',
        path: `${ARTIFACTS}/${encoded(folder)}`,
        template: FOLDER_TEMPLATE,
        shape: 'any',
        read: false,
        lastWord,
      });
      acknowledgedAtMs = sent.receivedAtMs;
    }
  } catch (error) {
    throw partlyDone(error);
  }
  return { sentAtMs, acknowledgedAtMs, route, status, requestId };
}

/**
 * Folders of files that are there, each of one trace of the order alone. A list without any is no proof that there is none,
 * unless the route shows other files: then every folder is deleted, which the server takes for done where there is none.
 */
async function foldersOf(
  traces: Traces,
  tally: Tally,
  { projectId, traces: refs }: DeleteOrder,
): Promise<readonly string[]> {
  const names = new Map<string, ReadonlySet<string>>();
  const folders: string[] = [];
  let showsFiles: boolean | null = null;
  for (const { traceId } of refs) {
    const folder = await traces.folderOf(tally, { projectId, traceId });
    if (folder === null) continue;
    const at = folder.lastIndexOf('/');
    const root = folder.slice(0, at);
    if (!root.endsWith('/traces') || folder.slice(at + 1) !== traceId) {
      throw new GuardError('a folder of files that is not the one of a single trace');
    }
    const there = names.get(root) ?? (await traces.folders(tally, root));
    names.set(root, there);
    showsFiles = there.size > 0 || (showsFiles ?? (await traces.showsFiles(tally)));
    if (there.has(traceId) || !showsFiles) folders.push(folder);
  }
  return folders;
}
