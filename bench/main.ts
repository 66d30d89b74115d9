import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { describeCrowd, eraseCrowd } from './crowd.ts';
import { describePerson, erasePerson } from './person.ts';
import { describeRatio, measureRatio } from './ratio.ts';
import { STORE_NAMES, STORES, type StoreName } from './stores.ts';
import { mib } from './table.ts';

const USAGE = `npm run bench -- [SCENARIO...] [options]

Scenarios, for each store (default: all)
  ordinary   one person, 12 traces of 3 rows, among 30 others
  crowd      200 people of one project at the same time, 10 traces of 3 rows each,
             among twice as many others; at two speeds of the clock
  large      one person, 30,000 traces of 2 rows; continue-as-new; takes minutes
  ratio      200 people at once, 10 traces of 3 rows each, against workflows with as
             many activities and timers and nothing in them, by turns on the same
             server, which has a core of its own where the system can pin processes

Options
  --stores LIST     of ${STORE_NAMES.join(', ')} (all)
  --json FILE       write everything measured to FILE
  --people N        people of the crowd (200)
  --traces-each N   traces of each of them, and of those of the ratio (10)
  --traces N        traces of the large person (30000)
  --turn N          people of one turn of the ratio (200)
  --turns N         turns of either side (3)
  --speeds LIST     virtual seconds in a real one, for the crowd (20,5)
  --speed N         the same, for the large person (7200)
  --suggest N       events after which the server suggests to continue as new, for
                    the large person (120)

The engine works in real time, the stores' limits and waits in virtual time. In
production both are real: as many people arrive in a second as the engine can
start, and queues form at the limits, where those who wait join each other's
calls. The faster the clock, the later they arrive for the store and the fewer
meet: calls counted at any speed above 1 are more than in production, and the
slower the clock the closer. A clock of thousands, as in the other scenarios,
says nothing about calls of many people, nor about calls refused for coming too
fast. LangSmith's week cannot be waited for on a slow clock: for the crowd its
connection is set to a settle time of an hour or so around one weekend batch.

No figure of time is asserted: other work on the machine spoils it. That
everything asked for is gone, and nothing else, is.`;

/** Monday 23 November 2026, 08:00 UTC: the weekend is far away. */
const MONDAY_MORNING = Date.UTC(2026, 10, 23, 8);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    stores: { type: 'string', default: STORE_NAMES.join(',') },
    json: { type: 'string' },
    people: { type: 'string', default: '200' },
    'traces-each': { type: 'string', default: '10' },
    traces: { type: 'string', default: '30000' },
    turn: { type: 'string', default: '200' },
    turns: { type: 'string', default: '3' },
    speeds: { type: 'string', default: '20,5' },
    speed: { type: 'string', default: '7200' },
    suggest: { type: 'string', default: '120' },
    help: { type: 'boolean', default: false },
  },
});

function tell(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

interface Measured {
  readonly report: unknown;
  readonly text: string;
}

const SCENARIOS: Readonly<Record<string, (store: StoreName) => Promise<Measured>>> = {
  ordinary: async (store) => {
    const report = await erasePerson({
      traces: 12,
      runsPerTrace: 3,
      others: 30,
      tracesPerOther: 12,
      setting: { store, start: MONDAY_MORNING, speed: 150_000 },
      tell,
    });
    return { report, text: describePerson(report) };
  },
  crowd: async (store) => {
    const reports = [];
    for (const speed of values.speeds.split(',').map(Number)) {
      const people = Number(values.people);
      tell(`${speed} virtual seconds in a real one`);
      reports.push(
        await eraseCrowd({
          people,
          tracesEach: Number(values['traces-each']),
          runsPerTrace: 3,
          // A project in use holds far more people than ask to be erased: where a store judges by the size of a project,
          // this one counts as large to the end.
          others: Math.max(400, 2 * people),
          setting: { store, start: MONDAY_MORNING, speed },
          tell,
        }),
      );
    }
    return { report: reports, text: reports.map(describeCrowd).join('\n\n') };
  },
  large: async (store) => {
    const report = await erasePerson({
      traces: Number(values.traces),
      runsPerTrace: 2,
      others: 30,
      tracesPerOther: 20,
      // Monday morning: reading takes days on this clock, and should end before the weekend. At this speed the store's
      // limits cost little more than a millisecond a call.
      setting: {
        store,
        start: MONDAY_MORNING,
        speed: Number(values.speed),
        dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': Number(values.suggest) },
      },
      tell,
    });
    return { report, text: describePerson(report) };
  },
  ratio: async (store) => {
    const report = await measureRatio({
      people: Number(values.turn),
      tracesEach: Number(values['traces-each']),
      runsPerTrace: 3,
      others: Math.max(400, 2 * Number(values.turn)),
      turns: Number(values.turns),
      setting: {
        store,
        start: MONDAY_MORNING,
        speed: 1_000_000,
        // For development only, and on in a local server: each upsert reads the definitions anew from the database.
        dynamicConfig: { 'system.forceSearchAttributesCacheRefreshOnRead': false },
      },
      tell,
    });
    return { report, text: describeRatio(report) };
  },
};

const stores = values.stores.split(',').map((name) => name.trim());
const unknown = [...positionals.filter((name) => !(name in SCENARIOS)), ...stores.filter((name) => !(name in STORES))];
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
const reports: Record<string, Record<string, unknown>> = {};
for (const [name, run] of Object.entries(SCENARIOS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  for (const store of STORE_NAMES.filter((one) => stores.includes(one))) {
    tell(`${name}, ${store}`);
    const { report, text } = await run(store);
    reports[name] = { ...reports[name], [store]: report };
    process.stdout.write(`\n${name}, load ${(loadavg()[0] ?? 0).toFixed(1)}\n\n${text}\n`);
    // After each scenario, so that what was measured is not lost with one that fails.
    if (values.json !== undefined) {
      await writeFile(
        values.json,
        `${JSON.stringify({ at: new Date().toISOString(), machine, ...reports }, null, 2)}\n`,
      );
    }
  }
}
