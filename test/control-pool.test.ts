import { expect, test } from '@jest/globals';
import { ControlPool } from '../src/stores/control-pool.ts';
import type { Row } from '../src/stores/port.ts';

const KEY = 'user.id';
const MARKS = { shared: false, queued: false, inDataset: false, feedback: false };

function rowOf(text: string, startMs: number): Row {
  const [traceId, runId] = [`trace of ${text}`, `run of ${text}`];
  const persons = [{ kind: 'user_id', key: KEY, text, numeric: false }];
  return { projectId: 'p', traceId, runId, startMs, persons, marks: MARKS };
}

test('P6: every class of value that a search may treat apart is offered, however few people have one', () => {
  const pool = new ControlPool([KEY], 2, () => false);
  pool.add(['ann', 'bob', 'cid', 'dan'].map((text, index) => rowOf(text, index)));
  const odd = ["o'neil", 'quo"te', 'back\\slash', 'ünï', `Ü'Brien`, '77'];
  pool.add(odd.map((text, index) => rowOf(text, 100 + index)));
  const offered = pool.offer().map(({ value }) => value.text);
  expect(offered.sort()).toEqual(['77', 'ann', 'bob', "o'neil", 'quo"te', `Ü'Brien`, 'ünï'].sort());
});
