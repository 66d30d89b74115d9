// One request that comes to every outcome there is, as `test/every-outcome.test.ts` judges it, to be looked at:
//
// npm run outcomes              the status, the JSON and the report
// npm run outcomes -- --keep    and the Temporal UI, until Ctrl-C

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
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
import { startCodecServer } from '../../src/temporal/codec-server.ts';
import { deriveKeys } from '../../src/vault/keys.ts';
import { EVERY_OUTCOME, eraseToEveryOutcome, stageEveryOutcome } from './every-outcome.ts';
import { VAULT_KEY, World } from './world.ts';

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
const source = await resolveTemporal({ allowBuild: true });
if (source.kind === 'address') throw new Error('unset TEMPORAL_ADDRESS: this starts a server of its own');
const keys = { hmac: randomBytes(32).toString('hex'), vault: VAULT_KEY };
const uiPort = await freePort();
// What is encrypted in the history becomes readable in the UI.
const codec = await startCodecServer({ keys: deriveKeys(keys), uiOrigin: `http://127.0.0.1:${uiPort}` });
const server = await startLocalServer({ binary: source.binary, dbFile: null, uiPort, uiCodecEndpoint: codec.url });
process.env['LETHE_TEST_TEMPORAL_ADDRESS'] = server.address;
const connection = await Connection.connect({ address: server.address });
await ensureNamespace(connection);
await ensureSearchAttributes(connection);
await connection.close();

const world = await World.start('every outcome', {
  ...EVERY_OUTCOME,
  config: (base) => ({ ...(EVERY_OUTCOME.config?.(base) ?? base), keys }),
});
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
  await codec.close();
  await server.stop();
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}
