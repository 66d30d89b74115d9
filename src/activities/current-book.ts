import { bookSchema, deltaSchema, mergeDeltas, type Book } from '../erasure/book.ts';
import type { BlobRef } from '../erasure/steps.ts';
import { VaultLostError } from '../vault/vault.ts';
import type { LaneDeps } from './deps.ts';
import { deltasAmong } from './figures.ts';

/** The book with everything the delete calls since it was sealed have done. */
export async function currentBook(
  deps: LaneDeps,
  input: { readonly requestId: string; readonly connection: string; readonly book: BlobRef },
): Promise<Book> {
  const book = await deps.vault.get(input.requestId, input.book, bookSchema);
  const names = await deps.vault.list(input.requestId);
  const since = deltasAmong(names, input.connection, book.mergedRound);
  const deltas = await Promise.all(
    since.map(async ({ name }) => {
      try {
        return [await deps.vault.get(input.requestId, { name }, deltaSchema)];
      } catch (error) {
        // What it told is found out again: its traces count as not sent, and are looked at before they are.
        if (error instanceof VaultLostError) return [];
        throw error;
      }
    }),
  );
  return mergeDeltas(book, deltas.flat(), Math.max(book.mergedRound, ...since.map(({ round }) => round)));
}
