// Run by bootstrap.mjs: exit code 0 when a Temporal server is reachable or a binary to start one is there, made if need
// be; else 1 and the ways out on stderr.

import { resolveTemporal } from '../src/temporal/binary.ts';

try {
  await resolveTemporal();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
