import type { HttpAnswer } from './http.ts';
import { StoreError, type Copy, type CopyReceipt } from './port.ts';
import { chunks } from './rows.ts';

/** The calls that erase copies, and the store's answers to them. */
export class CopyCalls {
  readonly receipts: CopyReceipt[] = [];

  /**
   * Makes a call that names some copies of one kind. A refusal is noted and no error: the look afterwards tells what is
   * left, and one kind of copy that a key may not erase must not keep the others, or the traces, waiting. Of several
   * copies that are refused together each is tried by itself.
   *
   * @throws StoreError for trouble that may pass.
   */
  async make(
    kind: string,
    copies: readonly Copy[],
    call: (some: readonly Copy[]) => Promise<HttpAnswer>,
  ): Promise<void> {
    if (copies.length === 0) return;
    const ids = copies.map(({ id }) => id);
    try {
      const { route, status, requestId, sentAtMs, receivedAtMs } = await call(copies);
      this.receipts.push({ kind, ids, route, status, requestId, sentAtMs, acknowledgedAtMs: receivedAtMs });
    } catch (error) {
      if (!isFinal(error)) throw error;
      const { route, status, requestId } = error;
      this.receipts.push({ kind, ids, route, status, requestId, sentAtMs: null, acknowledgedAtMs: null });
      if (error.reason !== 'rejected' || copies.length < 2) return;
      for (const some of chunks(copies, Math.ceil(copies.length / 2))) await this.make(kind, some, call);
    }
  }
}

/** Whether a refusal is a fact about the copy, the key or the server, and not trouble that will pass. */
function isFinal(error: unknown): error is StoreError {
  if (!(error instanceof StoreError)) return false;
  if (error.reason === 'denied') return error.status === 403;
  return error.reason === 'gone' || error.reason === 'rejected';
}
