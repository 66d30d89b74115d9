import type { Clock } from '../../../src/erasure/clock.ts';
import { virtualNow } from '../../../src/erasure/clock.ts';

/**
 * A real server lives in real time. Where a test lets weeks pass by a virtual clock, its `Date` is moved to that clock, so
 * that it agrees with ours as it would on one machine.
 */
export function withVirtualDate(inner: typeof fetch, clock: Clock): typeof fetch {
  return async (input, init) => {
    const answer = await inner(input, init);
    const headers = new Headers(answer.headers);
    for (const name of ['content-length', 'content-encoding']) headers.delete(name);
    headers.set('date', new Date(virtualNow(clock)).toUTCString());
    const body = answer.status === 204 || answer.status === 304 ? null : await answer.arrayBuffer();
    return new Response(body, { status: answer.status, headers });
  };
}
