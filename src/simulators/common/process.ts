import { parseArgs } from 'node:util';
import type { Clock } from '../../erasure/clock.ts';

/** The options that the command line sets by name. */
interface ProcessOptions {
  readonly port?: number;
  readonly clock?: Clock;
}

/**
 * Runs a simulator as this process and prints one line of JSON when it is ready: what `announce` says of it.
 *
 * `--port <n>` default a free one; `--clock <json>` a clock setting `{realMs, virtualMs, speed}`, default real time;
 * `--options <json>` any further options of the simulator. Ends on SIGTERM and SIGINT.
 */
export async function runSimulator<S extends { close(): Promise<void> }>(
  start: (options: ProcessOptions) => Promise<S>,
  announce: (simulator: S) => object,
): Promise<void> {
  const { values } = parseArgs({
    options: { port: { type: 'string' }, clock: { type: 'string' }, options: { type: 'string' } },
  });
  const simulator = await start({
    ...(values.options === undefined ? {} : (JSON.parse(values.options) as object)),
    ...(values.port === undefined ? {} : { port: Number(values.port) }),
    ...(values.clock === undefined ? {} : { clock: JSON.parse(values.clock) as Clock }),
  });
  process.stdout.write(`${JSON.stringify(announce(simulator))}\n`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void simulator.close());
  }
}
