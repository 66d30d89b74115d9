import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Addendum } from '../src/evidence/addenda.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';

const AT = '2026-12-08T00:00:00.000Z';

const look = (more: Partial<Extract<Addendum, { kind: 'look' }>> = {}): Addendum => ({
  kind: 'look',
  at: AT,
  connection: 'langsmith-prod',
  look: 1,
  attempt: 1,
  due: AT,
  answer: 'clean',
  resurrected: 0,
  late: 0,
  newActivity: 0,
  shared: 0,
  beside: 0,
  why: null,
  reports: [],
  controls: {},
  window: null,
  clock: null,
  ...more,
});

let stateDir: string;
let records: DirectoryRecords;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'lethe-addenda-'));
  records = new DirectoryRecords({ stateDir });
});
afterEach(async () => {
  await rm(stateDir, { recursive: true, force: true });
});

async function sealed(requestId: string): Promise<string> {
  return records.close(requestId, {
    workflowId: 'erase-1',
    endedAt: AT,
    verdict: 'verified',
    dryRun: false,
    lanes: {},
    verbs: [],
  });
}

describe('addenda', () => {
  test('are added after the seal, in order, and change neither record nor digest', async () => {
    const digest = await sealed('r-1');
    await records.addAddendum('r-1', 'look-a-1-1', look());
    await records.addAddendum('r-1', 'look-a-2-1', look({ look: 2, answer: 'late', late: 1 }));
    const view = await records.read('r-1');
    expect(view?.digest).toBe(digest);
    expect(view?.addenda?.map(({ key }) => key)).toEqual(['look-a-1-1', 'look-a-2-1']);
    expect(await sealed('r-1')).toBe(digest);
  });

  test('the same key again replaces in its place, and a line cut short spoils no other', async () => {
    await sealed('r-1');
    await records.addAddendum('r-1', 'one', look({ answer: 'trouble', why: 'down' }));
    await appendFile(join(stateDir, 'records', 'r-1', 'addenda.jsonl'), '{"format":"lethe-rec');
    await records.addAddendum('r-1', 'two', look({ look: 2 }));
    await records.addAddendum('r-1', 'one', look());
    const { addenda = [] } = (await records.read('r-1')) ?? {};
    expect(addenda).toMatchObject([
      { key: 'one', addendum: { answer: 'clean' } },
      { key: 'two', addendum: { look: 2 } },
    ]);
  });

  test('none can be added to a record that never was, or in another shape', async () => {
    await expect(records.addAddendum('r-9', 'one', look())).rejects.toMatchObject({ problem: 'not-open' });
    await sealed('r-1');
    const wrong = { ...look(), person: 'canary' } as unknown as Addendum;
    const refused = records.addAddendum('r-1', 'one', wrong);
    await expect(refused).rejects.toMatchObject({ problem: 'invalid' });
    await expect(refused).rejects.not.toThrow(/canary/);
    expect((await records.read('r-1'))?.addenda).toBeUndefined();
  });
});
