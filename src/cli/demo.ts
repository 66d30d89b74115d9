import { randomBytes, randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Erasure, LetheClient } from '../client/client.ts';
import { parseConfig, type ConfigInput, type LetheConfig } from '../config/config.ts';
import { virtualAt, virtualNow, type ClockSetting } from '../erasure/clock.ts';
import { formatCount, formatInstant, formatTraces } from '../erasure/format.ts';
import { DAY_MS, HOUR_MS, WEEK_MS } from '../erasure/rhythm.ts';
import type { RequestStatus } from '../erasure/status.ts';
import type { RecordEntry } from '../evidence/record.ts';
import type { LangSmithSimulator } from '../simulators/langsmith/index.ts';
import { connect } from './connect.ts';
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

const TRACES_PER_PERSON = 40;
const PROJECTS = ['chat', 'agent'] as const;
const CONNECTION = 'langsmith-demo';

/** Writing the traces takes a virtual day or two. It begins on a Wednesday, so that it ends well before a weekend. */
const VIRTUAL_START = { weekday: 3, hour: 0 } as const;
/** Later than this in a week nothing is begun: the weekend might open between the plan and its first delete. */
const LATEST_START = { weekday: 4, hour: 20 } as const;

export function addDemo(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('demo')
    .description('see a whole erasure in under a minute: everything embedded, nothing real touched')
    .option('--keep', 'leave everything running afterwards, to look around in the Temporal UI, until Ctrl-C')
    .option('--people <N>', `how many people have traces (2 to 50, ${TRACES_PER_PERSON} traces each)`, parseCount, 8)
    .action(async (options: DemoOptions) => {
      exit(await demo(options, io));
    });
}

async function demo(options: DemoOptions, io: Io): Promise<ExitCode> {
  const people = Math.min(50, Math.max(2, options.people));
  const began = Date.now();
  const sdk = await loadSdk();
  if (sdk === null) {
    io.err(
      "The demo writes its traces with LangSmith's own SDK, which Lethe itself does not need and does not install. " +
        'Run `npm install langsmith` beside Lethe, or the demo from a checkout (`npm run demo`).',
    );
    return EXIT.other;
  }
  const stop = stopSignal();
  const stateDir = await mkdtemp(join(tmpdir(), 'lethe-demo-'));
  const endings: (() => Promise<unknown>)[] = [() => rm(stateDir, { recursive: true, force: true })];
  try {
    const work = play({ people, stateDir, sdk, io, began, endings });
    const played = await Promise.race([work, stop.asked]);
    if (played === undefined) {
      work.catch(() => undefined);
      return EXIT.other;
    }
    if (options.keep !== undefined) {
      io.out('\nEverything keeps running for you to look around. Ctrl-C ends it and removes its state.');
      await Promise.race([stop.asked, played.gone]);
    }
    return played.code;
  } finally {
    // In the reverse order of their beginnings.
    for (const end of endings.reverse()) await end();
    stop.dismiss();
  }
}

interface Play {
  readonly people: number;
  readonly stateDir: string;
  readonly sdk: Sdk;
  readonly io: Io;
  /** Real epoch milliseconds at which the command began. */
  readonly began: number;
  /** What must be done at the end; pushed as things begin. */
  readonly endings: (() => Promise<unknown>)[];
}

async function play({
  people,
  stateDir,
  sdk,
  io,
  began,
  endings,
}: Play): Promise<{ code: ExitCode; gone: Promise<never> }> {
  const { out } = io;
  out('Starting a Temporal server, a worker and a simulated LangSmith on this machine ...');
  const [{ startLangSmithSimulator }, { startLocalTemporal }, { bundleWorkflows, createWorkers }, { createLogger }] =
    await Promise.all([
      import('../simulators/langsmith/index.ts'),
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
      config: demoConfig(basics, 'http://127.0.0.1:9', 'none', null),
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
  const simulator = await startLangSmithSimulator({ clock });
  endings.push(() => simulator.close());
  const config = demoConfig(basics, simulator.url, simulator.apiKey, clock);
  const names = Array.from({ length: people }, (_none, index) => `u_${randomInt(1000, 9999)}${index}`);
  const [victim = ''] = names;

  const [, written] = await Promise.all([
    createWorkers(config, { secrets, logger, workflowBundle, ensureSetup: false, shutdownGraceMs: 2_000 }).then(
      (workers) => {
        endings.push(serve(workers));
      },
    ),
    writeTraces(sdk, simulator, names),
  ]);
  const client = await connect(config);
  endings.push(() => client.close());
  out(
    [
      `  Temporal UI   ${temporal.uiUrl}`,
      wrap(
        `the official SDK wrote ${formatTraces(names.length * TRACES_PER_PERSON)} of ${names.length} people (${formatCount(written.runs)} runs, ` +
          `${formatCount(written.feedback)} feedback scores, 1 dataset example)`,
        16,
        '  LangSmith     ',
      ),
      wrap(`a second is ten hours; everything below runs on this clock`, 16, '  Clock         '),
    ].join('\n'),
  );

  // The weekend must not begin before the first delete was accepted.
  await sleepUntilVirtual(clock, nextStart(virtualNow(clock)));
  // Only now: a weekend that passed during the set-up would not be one on which a delete was left undone.
  simulator.habits.set({ skipWeekends: 1 });
  out('');
  const tell = (atMs: number, text: string) => {
    out(wrap(text, 22, formatInstant(atMs).padEnd(22)));
  };
  const erasure = await client.erase({ identifiers: [{ kind: 'user_id', value: victim }] });
  tell(virtualNow(clock), 'One of them asks to be forgotten. One workflow starts; watch it in the UI:');
  const link = client.uiLink(erasure.workflowId);
  if (link !== null) out(`  ${link}`);

  const status = await Promise.race([narrate({ client, erasure, simulator, tell }), temporal.gone]);
  const code = conclude({ status, simulator, names, out, link, seconds: (Date.now() - began) / 1000 });
  return { code, gone: temporal.gone };
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

function demoConfig(
  basics: Omit<ConfigInput, 'connections' | 'clock'>,
  baseUrl: string,
  apiKey: string,
  clock: ClockSetting | null,
): LetheConfig {
  const iso = (ms: number) => new Date(ms).toISOString();
  return parseConfig(
    {
      ...basics,
      ...(clock === null
        ? {}
        : { clock: { real: iso(clock.realMs), virtual: iso(clock.virtualMs), speed: clock.speed } }),
      connections: {
        [CONNECTION]: {
          store: 'langsmith',
          baseUrl,
          apiKey,
          identifiers: { user_id: ['metadata.user_id'] },
          // What no call of this store can show; a controller accepts it knowingly, or it stays an exception.
          accept: ['insights', 'statistics'],
        },
      },
    },
    // Nothing of the caller's Temporal settings: the demo has a server of its own.
    { env: {} },
  );
}

type Sdk = typeof import('langsmith');

/** The official SDK, or null where it is not installed. */
async function loadSdk(): Promise<Sdk | null> {
  try {
    return await import('langsmith');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  }
}

/** Writes everybody's traces over HTTP, as an application would. */
async function writeTraces(
  { Client, RunTree }: Sdk,
  simulator: LangSmithSimulator,
  names: readonly string[],
): Promise<{ readonly runs: number; readonly feedback: number }> {
  const client = new Client({ apiUrl: simulator.url, apiKey: simulator.apiKey });
  const total = names.length * TRACES_PER_PERSON;
  const from = simulator.now() - 30 * DAY_MS;
  let runs = 0;
  const scored: { readonly runId: string; readonly project: string }[] = [];
  let sample: string | null = null;
  for (let number = 0; number < total; number += 1) {
    const name = names[number % names.length] ?? '';
    const startMs = Math.floor(from + (number / total) * 29 * DAY_MS);
    const project = PROJECTS[Math.floor(number / names.length) % PROJECTS.length] ?? PROJECTS[0];
    const root = new RunTree({
      client,
      name: 'answer',
      run_type: 'chain',
      project_name: project,
      inputs: { question: `question ${number}` },
      metadata: { user_id: name },
      start_time: startMs,
    });
    const children = ['retrieve', 'model'].map((step, index) =>
      root.createChild({ name: step, run_type: index === 0 ? 'retriever' : 'llm', start_time: startMs + 100 * index }),
    );
    await root.postRun();
    for (const child of children) {
      await child.end({ done: true }, undefined, startMs + 300);
      await child.postRun();
    }
    await root.end({ answer: 'an answer' }, undefined, startMs + 400);
    await root.patchRun();
    runs += 1 + children.length;
    if (number % 10 === 0) scored.push({ runId: root.id, project });
    if (name === names[0]) sample ??= root.id;
  }
  await client.flush();
  await client.awaitPendingTraceBatches();
  const projectIds = new Map<string, string>();
  for (const project of PROJECTS) projectIds.set(project, (await client.readProject({ projectName: project })).id);
  for (const { runId, project } of scored) {
    await client.createFeedback({ runId, sessionId: projectIds.get(project) ?? '', key: 'helpful', score: 1 });
  }
  const dataset = await client.createDataset('regression');
  if (sample !== null) {
    await client.createExample({
      dataset_id: dataset.id,
      inputs: { question: 'question 0' },
      reference_outputs: { answer: 'an answer' },
      source_run_id: sample,
    });
  }
  return { runs, feedback: scored.length };
}

interface Narration {
  readonly client: LetheClient;
  readonly erasure: Erasure;
  readonly simulator: LangSmithSimulator;
  readonly tell: (atMs: number, text: string) => void;
}

/** Tells what happens as it happens, from the record that Lethe keeps and from what the simulator really does. */
async function narrate({ client, erasure, simulator, tell }: Narration): Promise<RequestStatus> {
  let told = 0;
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

    const entries = (await client.records.read(erasure.requestId))?.lanes[CONNECTION]?.entries ?? [];
    for (const { entry } of entries.slice(told)) tell(Date.parse(entry.at), sentence(entry));
    told = entries.length;
    if (status.endedAt !== null) return status;
    const orphaned = Object.values(status.connections).some(({ attention }) => attention?.reason === 'workflow-lost');
    if (orphaned) return status;
    await sleep(100);
  }
}

function sentence(entry: RecordEntry): string {
  switch (entry.kind) {
    case 'plan': {
      const copies =
        entry.copies.found === 0 ? '' : `, and ${formatCount(entry.copies.found)} copies of them elsewhere`;
      return (
        `Plan: ${formatTraces(entry.traces.matched)} of this person in ${entry.projects.examined.length} projects${copies}, ` +
        `found by ${entry.finders.length} finders that agree.`
      );
    }
    case 'submit':
      if (entry.count === 0) return `Round ${entry.round}: nothing left to submit.`;
      return (
        `Round ${entry.round}: ${formatTraces(entry.count)} submitted. LangSmith answers ${entry.status ?? 'nothing'}, ` +
        `which proves nothing. Lethe sleeps until ${entry.settledAt === null ? 'later' : formatInstant(Date.parse(entry.settledAt))}.`
      );
    case 'read': {
      const { traces } = entry;
      if (entry.answer === 'survivors') {
        return `Read back: ${formatTraces(traces.survived + traces.pending)} still there, although accepted. Once more.`;
      }
      if (entry.answer === 'clean') {
        const counted = entry.counted
          ? `clean read ${entry.cleanReads}`
          : `does not count: ${entry.why ?? 'too early'}`;
        return `Read back, by id and by person, with controls: all gone (${counted}).`;
      }
      return `Read back: ${entry.answer}${entry.why === null ? '' : `, ${entry.why}`}.`;
    }
    case 'trouble':
      return `${entry.step}: ${entry.text}`;
  }
}

interface Conclusion {
  readonly status: RequestStatus;
  readonly simulator: LangSmithSimulator;
  readonly names: readonly string[];
  readonly out: (text: string) => void;
  readonly link: string | null;
  readonly seconds: number;
}

/** Holds what Lethe says against what the simulator knows. */
function conclude({ status, simulator, names, out, link, seconds }: Conclusion): ExitCode {
  const [victim = '', ...others] = names;
  const { truth } = simulator;
  const left = truth.tracesOf([{ key: 'user_id', value: victim }]).length;
  const kept = others.map((value) => truth.tracesOf([{ key: 'user_id', value }]).length);
  const strangers = kept.reduce((sum, count) => sum + count, 0);
  const untouched = strangers === others.length * TRACES_PER_PERSON && truth.unasked().length === 0;
  const proven = status.status === 'verified' || status.status === 'verified-with-exceptions';

  const lines = ['', `Lethe says: ${status.status}`];
  for (const { text } of status.exceptions) lines.push(wrap(text, 4, '  - '));
  const label = (text: string) => `  ${text.padEnd(18)}`;
  lines.push(
    '',
    'What the simulated LangSmith knows:',
    `${label('this person')}${formatCount(left)} of ${TRACES_PER_PERSON} traces left`,
    `${label(`${others.length} other people`)}${formatCount(strangers)} of ${formatCount(others.length * TRACES_PER_PERSON)} traces left`,
    `${label('nobody asked for')}${truth.unasked().length} traces deleted`,
  );
  const agrees = proven && left === 0 && untouched;
  lines.push('', agrees ? 'Verdict and truth agree.' : 'VERDICT AND TRUTH DISAGREE. This is a bug.');
  const weeks = (Date.parse(status.endedAt ?? status.dueAt) - Date.parse(status.receivedAt)) / DAY_MS;
  lines.push(`${Math.round(weeks)} virtual days in ${Math.round(seconds)} s, set-up included.`);
  if (link !== null) lines.push(`The whole story, step by step: ${link}`);
  out(lines.join('\n'));
  return agrees ? EXIT.ok : EXIT.other;
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
