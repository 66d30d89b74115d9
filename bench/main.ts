import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { describePerson, erasePerson } from './person.ts';
import { describeRatio, measureRatio } from './ratio.ts';
import { mib } from './table.ts';

const USAGE = `npm run bench -- [SCENARIO...] [options]

Scenarios (default: all)
  ordinary   one person, 12 traces of 3 runs, among 30 others
  large      one person, 30,000 traces of 2 runs; continue-as-new; needs some minutes
  ratio      many people at once, against workflows with as many activities and timers and nothing in them

Options
  --json FILE     write everything measured to FILE
  --traces N      traces of the large person (30000)
  --people N      people of one turn of the ratio (30)
  --speed N       virtual seconds in a real one, for the large person (7200)
  --suggest N     events after which the server suggests to continue as new, for the large person (120)

No figure of time is asserted. That everything asked for is gone, and nothing else, is.`;

/** Monday 23 November 2026, 08:00 UTC: the weekend is far away. */
const MONDAY_MORNING = Date.UTC(2026, 10, 23, 8);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    traces: { type: 'string', default: '30000' },
    people: { type: 'string', default: '30' },
    speed: { type: 'string', default: '7200' },
    suggest: { type: 'string', default: '120' },
    help: { type: 'boolean', default: false },
  },
});

function tell(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

const SCENARIOS: Readonly<Record<string, () => Promise<{ readonly report: unknown; readonly text: string }>>> = {
  ordinary: async () => {
    const report = await erasePerson({
      traces: 12,
      runsPerTrace: 3,
      others: 30,
      tracesPerOther: 12,
      setting: { start: MONDAY_MORNING, speed: 150_000 },
      tell,
    });
    return { report, text: describePerson(report) };
  },
  large: async () => {
    const report = await erasePerson({
      traces: Number(values.traces),
      runsPerTrace: 2,
      others: 30,
      tracesPerOther: 20,
      // Monday morning: reading takes days on this clock, and should end before the weekend. At this speed the store's
      // limits cost less than a millisecond a call.
      setting: {
        start: MONDAY_MORNING,
        speed: Number(values.speed),
        dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': Number(values.suggest) },
      },
      tell,
    });
    return { report, text: describePerson(report) };
  },
  ratio: async () => {
    const report = await measureRatio({
      people: Number(values.people),
      turns: 3,
      setting: { start: MONDAY_MORNING, speed: 1_000_000 },
      tell,
    });
    return { report, text: describeRatio(report) };
  },
};

const unknown = positionals.filter((name) => !(name in SCENARIOS));
if (values.help || unknown.length > 0) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(unknown.length > 0 ? 2 : 0);
}
const machine = {
  cpu: cpus()[0]?.model ?? 'unknown',
  threads: availableParallelism(),
  memoryBytes: totalmem(),
  /** Of the last minute: what else is running spoils every figure of time. */
  load: loadavg()[0] ?? 0,
  node: process.version,
};
process.stdout.write(
  `${machine.cpu}, ${machine.threads} threads, ${mib(machine.memoryBytes) ?? ''}, Node ${machine.node}, load ${machine.load.toFixed(1)} at the start\n`,
);
const reports: Record<string, unknown> = {};
for (const [name, run] of Object.entries(SCENARIOS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  tell(name);
  const { report, text } = await run();
  reports[name] = report;
  process.stdout.write(`\n${name}\n\n${text}\n`);
}
if (values.json !== undefined) {
  await writeFile(values.json, `${JSON.stringify({ at: new Date().toISOString(), machine, ...reports }, null, 2)}\n`);
}
