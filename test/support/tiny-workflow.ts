import { sleep, upsertSearchAttributes } from '@temporalio/workflow';

import { LetheRound, LetheStatus } from '../../src/temporal/search-attributes.ts';

/** Sets search attributes, waits, and sets them again: what a request does, without a store. */
export async function tinyWorkflow(waitMs: number): Promise<string> {
  upsertSearchAttributes([
    { key: LetheStatus, value: 'waiting' },
    { key: LetheRound, value: 1 },
  ]);
  await sleep(waitMs);
  upsertSearchAttributes([{ key: LetheStatus, value: 'verified' }]);
  return 'slept';
}
