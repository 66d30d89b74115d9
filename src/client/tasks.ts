import { z } from 'zod';
import { bookSchema } from '../erasure/book.ts';
import { manualTaskSchema, type RequestStatus } from '../erasure/status.ts';
import { isOpen, tasksAmong, type ManualTask } from '../erasure/tasks.ts';
import { RecordError, recordedInstant, type RecordStore, type RecordView } from '../evidence/record.ts';
import { taskId, type Keys } from '../vault/keys.ts';
import type { Vault } from '../vault/vault.ts';
import type { VerbMessage } from './verbs.ts';

/** A manual task as `lethe tasks --json` prints it. */
export const requestTaskSchema = manualTaskSchema.extend({
  connection: z.string(),
  state: z.enum(['open', 'attested']),
  /** The store's own ids of the copies, in the connector's spelling; only with `reveal`. */
  ids: z.array(z.string()).optional(),
});
export type RequestTask = z.infer<typeof requestTaskSchema>;

/** What was said of a task after the record was sealed counts for whoever reads it; the verdict stays as it was. */
function withAddendum(task: ManualTask, connection: string, view: RecordView | null): ManualTask {
  const word = (view?.addenda ?? [])
    .map(({ addendum }) => addendum)
    .findLast((one) => one.kind === 'attestation' && one.connection === connection && one.task === task.id);
  return word?.kind !== 'attestation' ? task : { ...task, attested: task.count, attestedBy: word.requestedBy };
}

/** The tasks of every connection of a request, open ones first. */
export function requestTasks(status: RequestStatus, view: RecordView | null): readonly RequestTask[] {
  return Object.entries(status.connections)
    .flatMap(([connection, { tasks = [] }]) =>
      tasks.map((one): RequestTask => {
        const task = withAddendum(one, connection, view);
        return { ...task, connection, state: isOpen(task) ? 'open' : 'attested' };
      }),
    )
    .sort((a, b) => b.state.localeCompare(a.state) || a.connection.localeCompare(b.connection));
}

/**
 * The tasks with the store's own ids of their copies, from the vault: whoever sees them sees data of the person.
 *
 * @throws VaultLostError when a manifest, or the key it is under, is gone.
 */
export async function revealed(
  tasks: readonly RequestTask[],
  requestId: string,
  { vault, keys }: { readonly vault: Vault; readonly keys: Keys },
): Promise<readonly RequestTask[]> {
  const ids = new Map<string, readonly string[]>();
  for (const connection of new Set(tasks.map((task) => task.connection))) {
    const name = await latestBook(vault, requestId, connection);
    if (name === null) continue;
    const book = await vault.get(requestId, { name }, bookSchema);
    for (const { kind, where, copies } of tasksAmong(book.copies.filter(({ state }) => state === 'manual'))) {
      ids.set(
        taskId(keys, { requestId, connection, kind, where }),
        copies.map(({ id }) => id),
      );
    }
  }
  return tasks.map((task) => {
    const found = ids.get(task.id);
    return found === undefined ? task : { ...task, ids: [...found] };
  });
}

/** The newest manifest of a connection, or null when there is none. */
export async function latestBook(vault: Vault, requestId: string, connection: string): Promise<string | null> {
  const prefix = `${connection}/book-`;
  const steps = (await vault.list(requestId)).flatMap((name) => {
    const step = name.startsWith(prefix) ? /^\d+$/.exec(name.slice(prefix.length)) : null;
    return step === null ? [] : [Number(step[0])];
  });
  return steps.length === 0 ? null : `${prefix}${steps.reduce((a, b) => Math.max(a, b))}`;
}

/**
 * Adds somebody's word for a task beside the sealed record, which keeps its digest and its verdict.
 *
 * @returns what was done, or why nothing was: then `added` is false.
 */
export async function attestAfterTheEnd(
  records: RecordStore,
  requestId: string,
  message: VerbMessage,
  nowMs: number,
): Promise<{ readonly added: boolean; readonly text: string }> {
  const refused = (why: string) => ({ added: false, text: `refused: ${why}` });
  const view = await records.read(requestId);
  if (view?.outcome == null) return refused('the request has ended without a record that could tell of it');
  if (view.outcome.dryRun) return refused('it was a plan only: nothing was erased, and no copy is left to attest');
  const wanted = Object.entries(view.outcome.lanes).filter(
    ([connection]) => message.connection === undefined || connection === message.connection,
  );
  for (const [connection, { tasks = [] }] of wanted) {
    const found = tasks.find(({ id }) => id === message.task);
    if (found === undefined) continue;
    if (!isOpen(withAddendum(found, connection, view))) return refused('the task was attested already');
    try {
      await records.addAddendum(requestId, `attestation-${connection}-${found.id}`, {
        kind: 'attestation',
        at: recordedInstant(nowMs),
        requestedBy: message.requestedBy,
        reason: message.reason,
        connection,
        task: found.id,
        copies: { kind: found.kind, count: found.count },
      });
    } catch (error) {
      if (error instanceof RecordError && error.problem === 'not-open') return refused(error.message);
      throw error;
    }
    const text =
      'the request has ended, so its workflow takes no word any more: added beside its record as your word; the sealed ' +
      'record, its digest and its verdict stay as they are';
    return { added: true, text };
  }
  return refused('it has no such task; lethe tasks lists them');
}
