import { CopyCalls } from '../copy-calls.ts';
import type { KillSwitch } from '../kill-switch.ts';
import { StoreError } from '../port.ts';
import type { CopiesErased, Copy, Progress } from '../port.ts';
import { chunks } from '../rows.ts';
import type { BraintrustApi } from './api.ts';
import { MOST_LISTED } from './lookup.ts';
import { isIn } from './query.ts';
import type { ReadState, Rows } from './rows.ts';
import { insertSchema } from './schemas.ts';
import { MOST_IDS_PER_DELETE } from './traits.ts';

export interface EraseCopiesParts {
  readonly api: BraintrustApi;
  readonly rows: Rows;
  readonly killSwitch: KillSwitch;
}

const SOURCES = [
  { kind: 'datasets', source: 'dataset' },
  { kind: 'experiments', source: 'experiment' },
] as const;

/**
 * Writes tombstones for rows of datasets and experiments, by their own ids and with nothing else in them: the insert routes
 * of both take the same field as that of project logs (vendor's spec). Snapshots are left alone, since one holds the rows
 * of everybody; files have no call that deletes them.
 *
 * A trace of an experiment goes whole or not at all: where it has rows by now that nobody named, it stays; and so do all of
 * an experiment while its reads do not show what was written last, which may be such a row.
 *
 * @throws StoreError for trouble that may pass, and when the store says that it deleted rows which were not sent.
 */
export async function eraseCopies(
  { api, rows, killSwitch }: EraseCopiesParts,
  copies: readonly Copy[],
  lastWord: () => Promise<void>,
  progress: Progress,
): Promise<CopiesErased> {
  const state = rows.state(progress);
  const calls = new CopyCalls();
  for (const { kind, source } of SOURCES) {
    const byObject = Map.groupBy(
      copies.filter((copy) => copy.kind === kind),
      ({ id }) => id.slice(0, id.indexOf('/')),
    );
    for (const [objectId, inside] of byObject) {
      const doomed = source === 'experiment' ? await whole(rows, state.part(), objectId, inside) : inside;
      const template = `/v1/${source}/{${source}}/insert`;
      for (const some of chunks(doomed, MOST_IDS_PER_DELETE)) {
        await calls.make(kind, some, async (part) => {
          const ids = part.map((copy) => rowIdOf(copy));
          const { data, answer } = await api.answer(
            state.tally,
            {
              method: 'POST',
              path: `/v1/${source}/${encodeURIComponent(objectId)}/insert`,
              template,
              body: { events: ids.map((id) => ({ id, _object_delete: true })) },
              shape: 'insert',
              read: false,
              lastWord,
            },
            insertSchema,
          );
          const sent = new Set(ids);
          if (data.row_ids.some((id) => !sent.has(id))) {
            killSwitch.trip('an answer to a delete of copies named rows that were not sent');
            const { route, status, requestId } = answer;
            const advice =
              'the store says that it deleted rows which were not sent: look before anything else is deleted';
            throw new StoreError({ reason: 'contract-broken', route, status, requestId, advice });
          }
          return answer;
        });
      }
    }
  }
  return { reports: state.tally.calls === 0 ? [] : [state.report('copies', null)], receipts: calls.receipts };
}

/** Row ids may hold slashes: only the first one parts a copy's id. */
function rowIdOf({ id }: Copy): string {
  return id.slice(id.indexOf('/') + 1);
}

/**
 * Those of the rows whose traces, as they stand in the experiment now, hold no row that is not among them; none where the
 * reads have not caught up.
 */
async function whole(
  rows: Rows,
  state: ReadState,
  objectId: string,
  copies: readonly Copy[],
): Promise<readonly Copy[]> {
  const named = new Map(copies.map((copy) => [rowIdOf(copy), copy]));
  const roots = new Map<string, string>();
  const question = { source: 'experiment', ids: [objectId], window: null } as const;
  for (const some of chunks([...named.keys()], MOST_LISTED)) {
    for (const row of await rows.all(state, { ...question, filter: isIn(['id'], some) })) {
      if (row.root !== null) roots.set(row.id, row.root);
    }
  }
  const grown = new Set<string>();
  for (const some of chunks([...new Set(roots.values())], MOST_LISTED)) {
    for (const row of await rows.all(state, { ...question, filter: isIn(['root_span_id'], some) })) {
      if (row.root !== null && !named.has(row.id)) grown.add(row.root);
    }
  }
  if (state.inconclusive !== null) return [];
  return [...named].flatMap(([id, copy]) => (grown.has(roots.get(id) ?? '') ? [] : [copy]));
}
