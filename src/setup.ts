import { loadConfig } from './config/config.ts';
import { ensureTemporalSetup } from './worker.ts';

// Run once, as a process: makes namespace and search attributes, so that workers and commands find them. Workers do the
// same at their start; a step of its own keeps that right away from them where administration is separate.

try {
  const config = loadConfig({ storeSecrets: false });
  await ensureTemporalSetup(config);
  process.stderr.write(`Namespace ${config.temporal.namespace} at ${config.temporal.address} is ready.\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
