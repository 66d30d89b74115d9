import { Connection } from '@temporalio/client';

import {
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporal,
  startLocalServer,
  TemporalBinaryError,
} from '../../src/temporal/server.ts';

/**
 * Starts one Temporal server, in memory, for the whole jest run. Never builds one: that takes minutes and belongs to
 * `npm test`, which does it before jest starts.
 */
export default async function globalSetup(): Promise<void> {
  const started = Date.now();
  let address: string;
  let what: string;
  try {
    const source = await resolveTemporal({ allowBuild: false });
    if (source.kind === 'address') {
      address = source.address;
      what = `the server at ${address} (TEMPORAL_ADDRESS)`;
    } else {
      const server = await startLocalServer({ binary: source.binary, dbFile: null, headless: true });
      globalThis.letheTestServer = server;
      address = server.address;
      what = `one in-memory server ${server.version} at ${address}`;
    }
  } catch (error) {
    if (!(error instanceof TemporalBinaryError)) throw error;
    // Tests that need no server still run; those that do fail with this text.
    process.env['LETHE_TEST_TEMPORAL_ERROR'] = error.message;
    process.stderr.write('Temporal for tests: none, the tests that need it will fail and say why.\n');
    return;
  }
  const connection = await Connection.connect({ address });
  try {
    await ensureNamespace(connection);
    await ensureSearchAttributes(connection);
  } finally {
    await connection.close();
  }
  process.env['LETHE_TEST_TEMPORAL_ADDRESS'] = address;
  process.stderr.write(`Temporal for tests: ${what}, ready in ${((Date.now() - started) / 1000).toFixed(1)} s.\n`);
}
