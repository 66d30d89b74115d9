import { CopyCalls } from '../copy-calls.ts';
import type { CopiesErased, Copy, Progress } from '../port.ts';
import { chunks } from '../rows.ts';
import type { LangSmithApi } from './api.ts';
import { queueItems, splitShare, unavailable } from './copies.ts';

/** Examples, or queue items, named in one call. No maximum is published; this many ids are some 4 kB. */
const MOST_PER_CALL = 100;

const EXAMPLES = '/api/v1/platform/datasets/examples/delete';
const SHARE = '/api/v2/runs/{trace}/share';
const ITEMS = '/api/v1/platform/annotation-queues/{queue}/items/delete';
const FEEDBACK = '/api/v1/feedback/{feedback}';

/**
 * Erases copies by calls that name them by their own ids and nothing else.
 *
 * Examples are deleted hard: the plain delete, which is the SDK's default, leaves earlier versions readable. The platform
 * route takes that word in its body (vendor's spec); a support article puts it elsewhere, so `lookAgain` reads an earlier
 * version, too. Unsharing answers 204 whether there was a share or not (vendor's spec).
 *
 * @throws StoreError for trouble that may pass; what the store refuses is left and told by the receipts.
 */
export async function eraseCopies(
  api: LangSmithApi,
  copies: readonly Copy[],
  lastWord: () => Promise<void>,
  progress: Progress,
): Promise<CopiesErased> {
  const tally = api.tally(progress);
  const calls = new CopyCalls();
  const of = (kind: string): readonly Copy[] => copies.filter((copy) => copy.kind === kind);
  const common = { shape: 'rest', read: false, lastWord } as const;

  for (const copy of of('public-shares')) {
    const { projectId, traceId } = splitShare(copy);
    // A share of which only an older release knows, without its project: no call can name it.
    if (projectId === null) continue;
    await calls.make('public-shares', [copy], () => {
      const path = SHARE.replace('{trace}', traceId);
      return api.send(tally, { ...common, method: 'DELETE', path, template: SHARE, body: { session_id: projectId } });
    });
  }

  const inQueues = Map.groupBy(of('annotation-queue-entries'), ({ id }) => id.split('/')[0] ?? '');
  for (const [queue, entries] of inQueues) {
    let items: ReadonlyMap<string, readonly string[]>;
    try {
      items = await queueItems(api, tally, queue);
    } catch (error) {
      if (unavailable(error) === null) throw error;
      continue;
    }
    const itemsOf = ({ id }: Copy): readonly string[] => items.get(id.split('/')[1] ?? '') ?? [];
    for (const some of chunks(
      entries.filter((entry) => itemsOf(entry).length > 0),
      MOST_PER_CALL,
    )) {
      await calls.make('annotation-queue-entries', some, (part) =>
        api.send(tally, {
          ...common,
          method: 'POST',
          path: ITEMS.replace('{queue}', queue),
          template: ITEMS,
          body: { item_ids: part.flatMap(itemsOf) },
        }),
      );
    }
  }

  for (const some of chunks(of('dataset-examples'), MOST_PER_CALL)) {
    await calls.make('dataset-examples', some, (part) =>
      api.send(tally, {
        ...common,
        method: 'POST',
        path: EXAMPLES,
        body: { example_ids: part.map(({ id }) => id.split('/')[1] ?? ''), hard_delete: true },
      }),
    );
  }

  for (const copy of of('feedback')) {
    await calls.make('feedback', [copy], () => {
      const path = FEEDBACK.replace('{feedback}', copy.id.split('/')[1] ?? '');
      return api.send(tally, { ...common, method: 'DELETE', path, template: FEEDBACK });
    });
  }
  return { reports: tally.calls === 0 ? [] : [tally.report('copies', null)], receipts: calls.receipts };
}
