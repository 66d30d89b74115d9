import { randomBytes, randomInt } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import type { Erasure, LetheClient } from '../client/client.ts';
import { parseConfig, type ConfigInput, type LetheConfig } from '../config/config.ts';
import { virtualAt, virtualNow, type ClockSetting } from '../erasure/clock.ts';
import { formatCount, formatInstant, formatNoun, formatTraces } from '../erasure/format.ts';
import { unprovenInWords } from '../erasure/outcome.ts';
import { DAY_MS, HOUR_MS, WEEK_MS } from '../erasure/rhythm.ts';
import type { RequestStatus } from '../erasure/status.ts';
import type { RecordEntry, RecordView } from '../evidence/record.ts';
import { connect } from './connect.ts';
import {
  braintrustOfDemo,
  DEMO_CLIENTS,
  langsmithOfDemo,
  respanOfDemo,
  type DemoLangSmith,
  type DemoStore,
} from './demo-stores.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { wrap } from './format.ts';
import type { LetheWorkers } from '../worker.ts';
import type { Io } from './io.ts';
import { parseCount } from './options.ts';
import { stopSignal } from './serve.ts';

interface DemoOptions {
  readonly keep?: true;
  readonly people: number;
}

/**
 * A second is ten hours, so that two weeks pass in half a minute. Faster, and the plan made on Thursday evening might
 * come to its first delete only after the weekend's window has opened.
 */
const SPEED = 36_000;

/** Writing the traces takes a virtual day or two. It begins on a Wednesday, so that it ends well before a weekend. */
const VIRTUAL_START = { weekday: 3, hour: 0 } as const;
/** Later than this in a week nothing is begun: the weekend might open between the plan and its first delete. */
const LATEST_START = { weekday: 4, hour: 20 } as const;

export function addDemo(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('demo')
    .description('see a whole erasure in under a minute: everything embedded, nothing real touched')
    .option('--keep', 'leave everything running afterwards, to look around in the Temporal UI, until Ctrl-C')
    .option('--people <N>', 'how many people have traces (2 to 50, 60 traces each)', parseCount, 8)
    .action(async (options: DemoOptions) => {
      exit(await demo(options, io));
    });
}

async function demo(options: DemoOptions, io: Io): Promise<ExitCode> {
  const people = Math.min(50, Math.max(2, options.people));
  const began = Date.now();
  const missing = await missingClients();
  if (missing.length > 0) {
    io.err(
      "The demo writes its traces with the vendors' own clients, which Lethe itself does not need and does not install. " +
        `Run \`npm install ${missing.join(' ')}\` beside Lethe, or the demo from a checkout (\`npm run demo\`).`,
    );
    return EXIT.other;
  }
  const stop = stopSignal();
  const stateDir = await mkdtemp(join(tmpdir(), 'lethe-demo-'));
  const endings: (() => Promise<unknown>)[] = [() => rm(stateDir, { recursive: true, force: true })];
  try {
    const work = play({ people, stateDir, io, began, endings });
    const played = await Promise.race([work, stop.asked]);
    if (played === undefined) {
      work.catch(() => undefined);
      return EXIT.other;
    }
    if (options.keep !== undefined) {
      io.out('\nEverything keeps running for you to look around. Ctrl-C ends it and removes its state.');
      io.out('Other commands find it, from another terminal, with');
      io.out(`  export LETHE_CONFIG=${played.configFile}`);
      io.out(`for instance  lethe erase --id user_id=${played.names[0] ?? ''} --dry-run`);
      await Promise.race([stop.asked, played.gone]);
    }
    return played.code;
  } finally {
    // In the reverse order of their beginnings.
    for (const end of endings.reverse()) await end();
    stop.dismiss();
  }
}

interface Played {
  readonly code: ExitCode;
  readonly gone: Promise<never>;
  /** With which other commands reach what the demo has started. */
  readonly configFile: string;
  /** Those who are still there. */
  readonly names: readonly string[];
}

interface Play {
  readonly people: number;
  readonly stateDir: string;
  readonly io: Io;
  /** Real epoch milliseconds at which the command began. */
  readonly began: number;
  /** What must be done at the end; pushed as things begin. */
  readonly endings: (() => Promise<unknown>)[];
}

async function play({ people, stateDir, io, began, endings }: Play): Promise<Played> {
  const { out } = io;
  out('Starting a Temporal server, a worker and three simulated stores on this machine ...');
  const [{ startLocalTemporal }, { bundleWorkflows, createWorkers }, { createLogger }] = await Promise.all([
    import('./local-temporal.ts'),
    import('../worker.ts'),
    import('../log.ts'),
  ]);
  const logger = createLogger(io.env['LETHE_LOG_LEVEL'] === undefined ? 'error' : undefined, io.env);
  const secrets = { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') };
  const [port, uiPort] = await freePorts();
  const basics = {
    temporal: { address: `127.0.0.1:${port}`, namespace: 'lethe', uiAddress: `http://127.0.0.1:${uiPort}` },
    state: stateDir,
    keys: secrets,
    // One person at a time needs no spreading.
    policy: { expectedPeople: 1 },
    identifiers: ['user_id'],
  };

  // What takes long comes before the clock begins to run.
  const [temporal, workflowBundle] = await Promise.all([
    startLocalTemporal({
      config: demoConfig(demoInput(basics, { none: NO_STORE }, null)),
      secrets,
      durable: false,
    }).then((started) => {
      endings.push(() => started.stop());
      return started;
    }),
    bundleWorkflows(logger),
  ]);
  const clock: ClockSetting = {
    realMs: Date.now(),
    virtualMs: weekdayAfter(Date.now() + DAY_MS, VIRTUAL_START),
    speed: SPEED,
  };
  const langsmith = await langsmithOfDemo(clock);
  const stores: readonly DemoStore[] = [langsmith, await braintrustOfDemo(clock), await respanOfDemo(clock)];
  endings.push(() => Promise.all(stores.map((store) => store.close())));
  const connections = Object.fromEntries(stores.map((store) => [store.connection, store.config]));
  const input = demoInput(basics, connections, clock);
  const config = demoConfig(input);
  const configFile = join(stateDir, 'lethe.yaml');
  // Only whoever runs the demo: its keys are in it.
  await writeFile(configFile, stringify(input), { mode: 0o600 });
  const names = Array.from({ length: people }, (_none, index) => `u_${randomInt(1000, 9999)}${index}`);
  const [victim = ''] = names;

  const [, ...written] = await Promise.all([
    createWorkers(config, { secrets, logger, workflowBundle, ensureSetup: false, shutdownGraceMs: 2_000 }).then(
      (workers) => {
        endings.push(serve(workers));
      },
    ),
    ...stores.map((store) => store.write(names)),
  ]);
  const client = await connect(config);
  endings.push(() => client.close());
  const head = (text: string): string => `  ${text.padEnd(14)}`;
  out(
    [
      `${head('Temporal UI')}${temporal.uiUrl}`,
      ...stores.map(({ label }, index) => wrap(`${names.length} people, ${written[index] ?? ''}`, 16, head(label))),
      wrap(`a second is ten hours; everything below runs on this clock`, 16, head('Clock')),
    ].join('\n'),
  );

  // The weekend must not begin before the first delete was accepted.
  await sleepUntilVirtual(clock, nextStart(virtualNow(clock)));
  // Only now: a weekend that passed during the set-up would not be one on which a delete was left undone.
  langsmith.simulator.habits.set({ skipWeekends: 1 });
  out('');
  const tell = (atMs: number, text: string) => {
    out(wrap(text, 22, formatInstant(atMs).padEnd(22)));
  };
  const erasure = await client.erase({ identifiers: [{ kind: 'user_id', value: victim }] });
  tell(virtualNow(clock), 'One of them asks to be forgotten. One workflow starts; watch it in the UI:');
  const link = client.uiLink(erasure.workflowId);
  if (link !== null) out(`  ${link}`);

  const status = await Promise.race([narrate({ client, erasure, langsmith, stores, tell }), temporal.gone]);
  const code = conclude({
    status,
    record: await client.records.read(erasure.requestId),
    stores,
    names,
    out,
    link,
    seconds: (Date.now() - began) / 1000,
  });
  return { code, gone: temporal.gone, configFile, names: names.slice(1) };
}

/** Runs the workers. @returns what ends them. */
function serve(workers: LetheWorkers): () => Promise<void> {
  const run = workers.run();
  run.catch(() => undefined);
  return async () => {
    workers.shutdown();
    await run;
  };
}

/** Stands in while Temporal starts, when no store is there yet. */
const NO_STORE: ConfigInput['connections'][string] = {
  store: 'langsmith',
  baseUrl: 'http://127.0.0.1:9',
  apiKey: 'none',
  identifiers: { user_id: ['metadata.user_id'] },
};

function demoInput(
  basics: Omit<ConfigInput, 'connections' | 'clock'>,
  connections: ConfigInput['connections'],
  clock: ClockSetting | null,
): ConfigInput {
  const iso = (ms: number) => new Date(ms).toISOString();
  return {
    ...basics,
    ...(clock === null
      ? {}
      : { clock: { real: iso(clock.realMs), virtual: iso(clock.virtualMs), speed: clock.speed } }),
    connections,
  };
}

/** Takes nothing of the caller's Temporal settings: the demo has a server of its own. */
function demoConfig(input: ConfigInput): LetheConfig {
  return parseConfig(input, { env: {} });
}

/** Those of the vendors' clients that are not installed. */
async function missingClients(): Promise<readonly string[]> {
  const missing = await Promise.all(
    DEMO_CLIENTS.map((name) =>
      import(name).then(
        () => [],
        (error: unknown) => {
          if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return [name];
          throw error;
        },
      ),
    ),
  );
  return missing.flat();
}

interface Narration {
  readonly client: LetheClient;
  readonly erasure: Erasure;
  readonly langsmith: DemoLangSmith;
  readonly stores: readonly DemoStore[];
  readonly tell: (atMs: number, text: string) => void;
}

/** Tells what happens as it happens, from the record that Lethe keeps and from what LangSmith really does. */
async function narrate({ client, erasure, langsmith, stores, tell }: Narration): Promise<RequestStatus> {
  const { simulator } = langsmith;
  const told = new Map<string, number>();
  let deletions = 0;
  // The last batch of the first weekend, Sunday.
  const idleUntilMs = simulator.nextBatch() + DAY_MS;
  let idle = true;
  for (;;) {
    const status = await erasure.status();
    const done = simulator.truth.deleted();
    const fresh = done.slice(deletions);
    deletions = done.length;
    const first = fresh[0];
    if (deletions === 0 && idle && simulator.now() > idleUntilMs) {
      tell(idleUntilMs, "The weekend passes, and LangSmith's job deletes nothing.");
      idle = false;
    }
    if (first !== undefined) tell(first.atMs, `LangSmith's weekend job deletes ${formatTraces(fresh.length)}.`);

    const lanes = (await client.records.read(erasure.requestId))?.lanes ?? {};
    const news = stores.flatMap(({ connection, label }) => {
      const entries = lanes[connection]?.entries ?? [];
      const seen = told.get(connection) ?? 0;
      told.set(connection, entries.length);
      return entries.slice(seen).map(({ entry }) => ({ label, entry, atMs: Date.parse(entry.at) }));
    });
    for (const { label, entry, atMs } of news.sort((a, b) => a.atMs - b.atMs)) tell(atMs, sentence(label, entry));
    if (status.endedAt !== null) return status;
    const orphaned = Object.values(status.connections).some(({ attention }) => attention?.reason === 'workflow-lost');
    if (orphaned) return status;
    await sleep(100);
  }
}

function sentence(label: string, entry: RecordEntry): string {
  switch (entry.kind) {
    case 'plan': {
      const { found } = entry.copies;
      const copies = found === 0 ? '' : `, and ${formatCount(found)} ${found === 1 ? 'copy' : 'copies'} elsewhere`;
      const agree = entry.disagreements.length === 0 ? 'that agree' : 'that differ: all are taken';
      return `${label}: ${formatTraces(entry.traces.matched)} of this person${copies}, found by ${entry.finders.length} finders ${agree}.`;
    }
    case 'approved-plan':
      return `${label}: the plan was approved, ${formatTraces(entry.traces.pending)} to be deleted.`;
    case 'submit':
      if (entry.count === 0) return `${label}, round ${entry.round}: nothing left to submit.`;
      return (
        `${label}, round ${entry.round}: ${formatTraces(entry.count)} submitted; it answers ${entry.status ?? 'nothing'}, ` +
        `which proves nothing. Reads count from ${entry.settledAt === null ? 'later' : formatInstant(Date.parse(entry.settledAt))}.`
      );
    case 'read': {
      const { traces } = entry;
      if (entry.answer === 'survivors') {
        return `${label}, read back: ${formatTraces(traces.survived + traces.pending)} still there, although accepted. Once more.`;
      }
      if (entry.answer === 'clean') {
        const counted = entry.counted
          ? `clean read ${entry.cleanReads}`
          : `does not count: ${entry.why ?? 'too early'}`;
        return `${label}, read back by id and by person, with controls: all gone (${counted}).`;
      }
      return `${label}, read back: ${entry.answer}${entry.why === null ? '' : `, ${entry.why}`}.`;
    }
    case 'trouble':
      return `${label}, ${entry.step}: ${entry.text}`;
  }
}

interface Conclusion {
  readonly status: RequestStatus;
  readonly record: RecordView | null;
  readonly stores: readonly DemoStore[];
  readonly names: readonly string[];
  readonly out: (text: string) => void;
  readonly link: string | null;
  readonly seconds: number;
}

/** Holds what Lethe says against what the simulators know, store beside store. */
function conclude({ status, record, stores, names, out, link, seconds }: Conclusion): ExitCode {
  const [victim = '', ...others] = names;
  const count = (all: readonly string[], store: DemoStore): number =>
    all.reduce((sum, name) => sum + store.live(name), 0);
  const spared = stores.every(
    (store) => count(others, store) === others.length * store.tracesPerPerson && store.unasked() === 0,
  );
  const gone = stores.every((store) => store.live(victim) === 0);
  const proven = status.status === 'verified' || status.status === 'verified-with-exceptions';

  const row = (title: string, cell: (store: DemoStore) => string): string =>
    `  ${title.padEnd(18)}${stores.map((store) => cell(store).padEnd(24)).join('')}`.trimEnd();
  const lines = [
    '',
    `Lethe says: ${status.status}`,
    '',
    row('', ({ label }) => label),
    row('Lethe says', ({ connection }) => outcomeOf(status, connection)),
    row('it took', ({ connection }) => durationOf(status, record, connection)),
    '',
    'What the simulated stores know:',
    row('this person', (store) => `${store.live(victim)} of ${store.tracesPerPerson} left`),
    row(
      `${others.length} others`,
      (store) => `${count(others, store)} of ${others.length * store.tracesPerPerson} left`,
    ),
    row('nobody asked for', (store) => `${store.unasked()} deleted`),
  ];
  lines.push('', 'Out of reach, accepted beforehand in the config (no call shows or erases it):');
  for (const { connection, label } of stores) {
    const plan = record?.lanes[connection]?.entries.find(({ entry }) => entry.kind === 'plan')?.entry;
    const accepted = plan?.kind === 'plan' ? plan.accepted.join(', ') : '';
    lines.push(wrap(accepted, 14, `  ${label.padEnd(12)}`));
  }
  if (status.exceptions.length > 0) {
    lines.push('', 'Left for a person to do, or not proven:');
    for (const { connection, text } of status.exceptions) {
      const label = stores.find((store) => store.connection === connection)?.label ?? connection;
      lines.push(wrap(text, 14, `  ${label.padEnd(12)}`));
    }
  }
  const agrees = proven && gone && spared;
  lines.push('', agrees ? 'Verdict and truth agree.' : 'VERDICT AND TRUTH DISAGREE. This is a bug.');
  const days = (Date.parse(status.endedAt ?? status.dueAt) - Date.parse(status.receivedAt)) / DAY_MS;
  lines.push(`${Math.round(days)} virtual days in ${Math.round(seconds)} s, set-up included.`);
  if (link !== null) lines.push(`The whole story, step by step: ${link}`);
  out(lines.join('\n'));
  return agrees ? EXIT.ok : EXIT.other;
}

/** A lane's outcome in the width of a column. */
function outcomeOf(status: RequestStatus, connection: string): string {
  const lane = status.connections[connection];
  const exceptions = status.exceptions.filter((one) => one.connection === connection).length;
  if (lane?.status !== 'verified-with-exceptions') return lane?.status ?? 'unknown';
  return `${unprovenInWords([lane]) === '' ? 'verified' : 'not proven'}, ${formatNoun(exceptions, 'exception')}`;
}

/** From the request to a lane's last read, and its rounds. */
function durationOf(status: RequestStatus, record: RecordView | null, connection: string): string {
  const times = (record?.lanes[connection]?.entries ?? []).map(({ entry }) => Date.parse(entry.at));
  const hours = (Math.max(...times) - Date.parse(status.receivedAt)) / HOUR_MS;
  const rounds = status.connections[connection]?.round ?? 0;
  const long = hours < 48 ? `${Math.max(1, Math.round(hours))} h` : `${Math.round(hours / 24)} days`;
  return `${long}, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}`;
}

/** The first such weekday and hour from an instant on, UTC. */
function weekdayAfter(fromMs: number, { weekday, hour }: { readonly weekday: number; readonly hour: number }): number {
  const midnight = Math.floor(fromMs / DAY_MS) * DAY_MS;
  const days = (weekday - new Date(midnight).getUTCDay() + 7) % 7;
  const at = midnight + days * DAY_MS + hour * HOUR_MS;
  return at < fromMs ? at + WEEK_MS : at;
}

/** Now, if there is time enough before the weekend; else the next Monday. */
function nextStart(nowMs: number): number {
  const latest = weekdayAfter(nowMs, LATEST_START);
  const monday = latest - (LATEST_START.weekday - 1) * DAY_MS - LATEST_START.hour * HOUR_MS;
  return Math.max(nowMs, monday);
}

async function sleepUntilVirtual(clock: ClockSetting, untilMs: number): Promise<void> {
  for (let now = Date.now(); virtualAt(clock, now) < untilMs; now = Date.now()) {
    await sleep(Math.max(5, (untilMs - virtualAt(clock, now)) / clock.speed));
  }
}

/** Two ports that nobody uses at this moment. */
async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()] as const;
  const listen = (server: (typeof servers)[number]) =>
    new Promise<number>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () => {
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
  const [first, second] = await Promise.all([listen(servers[0]), listen(servers[1])]);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [first, second];
}
