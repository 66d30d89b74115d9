import { parseArgs } from 'node:util';
import type { ClockSetting } from '../../erasure/clock.ts';
import { startLangSmithSimulator } from './index.ts';

/**
 * Runs a simulator in a process of its own and prints one line of JSON when it is ready: url, port, apiKey, workspaceId.
 *
 * `--port <n>` default a free one; `--clock <json>` a clock setting `{realMs, virtualMs, speed}`, default real time;
 * `--options <json>` any further options of `startLangSmithSimulator`. Ends on SIGTERM and SIGINT.
 */
const { values } = parseArgs({
  options: { port: { type: 'string' }, clock: { type: 'string' }, options: { type: 'string' } },
});
const simulator = await startLangSmithSimulator({
  ...(values.options === undefined ? {} : (JSON.parse(values.options) as object)),
  ...(values.port === undefined ? {} : { port: Number(values.port) }),
  ...(values.clock === undefined ? {} : { clock: JSON.parse(values.clock) as ClockSetting }),
});
const { url, port, apiKey, workspaceId } = simulator;
process.stdout.write(`${JSON.stringify({ url, port, apiKey, workspaceId })}\n`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => void simulator.close());
}
