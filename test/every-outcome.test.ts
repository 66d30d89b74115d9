import { afterEach, expect, jest, test } from '@jest/globals';
import { formatReport } from '../src/cli/report.ts';
import { formatStatus } from '../src/cli/format.ts';
import { requestStatusSchema } from '../src/index.ts';
import { imbalances } from '../src/erasure/ledger.ts';
import { EMPTY, EVERY_OUTCOME, eraseToEveryOutcome, MOVED, stageEveryOutcome, STUCK } from './support/every-outcome.ts';
import { CONNECTION, World } from './support/world.ts';

/** Two months pass, and a busy machine makes them some more. */
jest.setTimeout(120_000);

let world: World | null = null;
afterEach(async () => {
  await world?.close();
  world = null;
});

test('P1 P26 P29 P30 P35: one request with every outcome at once: its ledgers add up at every moment, and all that is said of it agrees', async () => {
  world = await World.start('every outcome', EVERY_OUTCOME);
  const staged = await stageEveryOutcome(world);
  /** States that were seen with a number above 0, as `ledger.state`. */
  const seen = new Set<string>();
  let statuses = 0;
  const end = await eraseToEveryOutcome(world, staged, (status) => {
    statuses += 1;
    for (const [name, { given, traces, copies }] of Object.entries(status.connections)) {
      expect([name, imbalances({ given, traces, copies })]).toEqual([name, []]);
      for (const [ledger, sums] of Object.entries({ given, traces, copies })) {
        for (const [state, count] of Object.entries(sums)) if (Number(count) > 0) seen.add(`${ledger}.${state}`);
      }
    }
  });
  expect(statuses).toBeGreaterThan(20);
  expect([...seen].sort()).toEqual(
    [
      ...['total', 'resolved', 'neverMatched', 'unresolved', 'wrongKind', 'duplicate'].map((state) => `given.${state}`),
      ...['matched', 'pending', 'verifiedAbsent', 'goneBeforeSubmit', 'survived', 'shared', 'linked'].map(
        (state) => `traces.${state}`,
      ),
      ...['inconclusive', 'newActivity', 'abandoned'].map((state) => `traces.${state}`),
      ...['found', 'erased', 'manual', 'attested', 'outOfReach', 'inconclusive'].map((state) => `copies.${state}`),
    ].sort(),
  );

  expect(Object.fromEntries(Object.entries(end.connections).map(([name, { status }]) => [name, status]))).toEqual({
    [CONNECTION]: 'verified-with-exceptions',
    [MOVED]: 'verified-with-exceptions',
    [STUCK]: 'abandoned',
    [EMPTY]: 'nothing-found',
  });
  // The worst of its lanes (P30).
  expect(end.status).toBe('abandoned');
  const main = end.connections[CONNECTION];
  expect(main?.given).toEqual({ total: 5, resolved: 2, neverMatched: 1, unresolved: 0, wrongKind: 1, duplicate: 1 });
  expect(main?.traces).toMatchObject({
    matched: 8,
    verifiedAbsent: 4,
    goneBeforeSubmit: 1,
    shared: 1,
    linked: 1,
    newActivity: 1,
    pending: 0,
  });
  expect(main?.copies).toMatchObject({ erased: 1, manual: 1, attested: 1, outOfReach: 1, inconclusive: 0 });
  expect(end.connections[MOVED]?.traces).toMatchObject({ matched: 2, inconclusive: 2 });
  expect(end.connections[STUCK]?.traces).toMatchObject({ matched: 2, abandoned: 2 });
  const kinds = end.exceptions.map(({ connection, kind }) => `${connection} ${kind}`).sort();
  expect(kinds).toEqual(
    [
      ...['attested-copies', 'foreign', 'linked', 'manual-copies', 'new-activity', 'not-examined', 'out-of-reach'],
      ...['shared', 'wrong-kind'],
    ]
      .map((kind) => `${CONNECTION} ${kind}`)
      .concat(`${MOVED} inconclusive`)
      .sort(),
  );

  // In words, as JSON and in the sealed record: the same.
  const text = formatStatus(end, null);
  for (const { kind, connection } of end.exceptions) expect(text).toContain(`${connection}, ${kind}:`);
  expect(requestStatusSchema.parse(JSON.parse(JSON.stringify(end)))).toEqual(JSON.parse(JSON.stringify(end)));
  const record = await world.record(end.requestId);
  expect(record.digest).not.toBeNull();
  expect(record.outcome?.verdict).toBe('abandoned');
  for (const [name, { status, given, traces, copies }] of Object.entries(end.connections)) {
    const sealed = record.outcome?.lanes[name];
    expect(sealed).toMatchObject({ verdict: status, given, traces });
    expect(sealed?.copies).toMatchObject({ found: copies.found, erased: copies.erased, manual: copies.manual });
  }
  const report = formatReport(end.requestId, record);
  for (const name of Object.keys(end.connections)) expect(report).toContain(name);
  // Nothing that is said of a lane sounds better than what was read there, wherever it is said.
  const metadata = await world.client.temporal.workflow
    .getHandle(end.workflowId)
    .query<{ readonly currentDetails: string }>('__temporal_workflow_metadata');
  const unproven = '2 traces could not be read either way, no trace is shown to be gone';
  for (const said of [text, report, metadata.currentDetails]) {
    const flat = said.replaceAll(/\s+/g, ' ').replaceAll('**', '');
    expect(flat).toContain(`${MOVED}: ${unproven}`);
    expect(flat).toContain(`${CONNECTION}: verified with exceptions: 5 traces gone, 3 traces kept`);
    expect(flat).not.toMatch(/\b0 traces gone|\b1 (duplicates|traces|projects|ids|rows|conversations|lines)\b/);
  }
  expect((record.outcome?.verbs ?? []).map(({ verb }) => verb)).toEqual([
    'approve',
    'approve',
    'approve',
    'abandon',
    'attest',
  ]);

  // What was done, in the store's own words: theirs are untouched, and what was said to be gone is gone.
  const { truth } = world.sim;
  for (const traceId of Object.values(staged.kept)) {
    expect(truth.isLive(traceId)).toBe(true);
    expect(truth.submissionsOf(traceId)).toEqual([]);
  }
  for (const traceId of staged.own) expect(truth.isLive(traceId)).toBe(false);
  for (const sim of [world.sim, ...world.more.values()]) {
    expect(sim.truth.unasked()).toEqual([]);
    for (const other of ['u_7', 'u_8']) {
      expect(sim.truth.tracesOf([{ key: 'user_id', value: other }]).length).toBeGreaterThan(1);
    }
  }
});
