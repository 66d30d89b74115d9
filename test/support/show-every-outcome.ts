// One request that comes to every outcome there is, as `test/every-outcome.test.ts` judges it, to be looked at:
//
// npm run outcomes              the status, the JSON and the report
// npm run outcomes -- --keep    and the Temporal UI, until Ctrl-C

import { parseArgs } from 'node:util';
import { Connection } from '@temporalio/client';
import { formatStatus } from '../../src/cli/format.ts';
import { formatReport } from '../../src/cli/report.ts';
import { imbalances } from '../../src/erasure/ledger.ts';
import {
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporal,
  startLocalServer,
} from '../../src/temporal/server.ts';
import { EVERY_OUTCOME, eraseToEveryOutcome, stageEveryOutcome } from './every-outcome.ts';
import { World } from './world.ts';

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
const source = await resolveTemporal({ allowBuild: true });
if (source.kind === 'address') throw new Error('unset TEMPORAL_ADDRESS: this starts a server of its own');
const server = await startLocalServer({ binary: source.binary, dbFile: null, headless: false });
process.env['LETHE_TEST_TEMPORAL_ADDRESS'] = server.address;
const connection = await Connection.connect({ address: server.address });
await ensureNamespace(connection);
await ensureSearchAttributes(connection);
await connection.close();

const world = await World.start('every outcome', EVERY_OUTCOME);
try {
  const staged = await stageEveryOutcome(world);
  let statuses = 0;
  let unbalanced = 0;
  const end = await eraseToEveryOutcome(world, staged, ({ connections }) => {
    statuses += 1;
    for (const lane of Object.values(connections)) unbalanced += imbalances(lane).length;
  });
  const record = await world.record(end.requestId);
  process.stdout.write(
    `${[
      formatStatus(end, null),
      JSON.stringify(end, null, 2),
      formatReport(end.requestId, record),
      `${statuses} statuses were read on the way; ledgers that did not add up: ${unbalanced}`,
    ].join('\n\n')}\n`,
  );
  if (values.keep) {
    process.stdout.write(`\n${server.uiUrl ?? ''}/namespaces/lethe/workflows/${end.workflowId}\n`);
    await new Promise((resolve) => process.once('SIGINT', resolve).once('SIGTERM', resolve));
  }
} finally {
  await world.close();
  await server.stop();
}
