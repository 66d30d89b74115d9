import type { ConfigInput } from '../config/config.ts';
import type { ClockSetting } from '../erasure/clock.ts';
import { formatCount, formatTraces } from '../erasure/format.ts';
import { DAY_MS } from '../erasure/rhythm.ts';

/** The vendors' own clients, which write the demo's traces. Lethe itself needs none of them. */
export const DEMO_CLIENTS = ['langsmith', 'braintrust', '@keywordsai/tracing'] as const;

/** A simulated store of the demo with the vendor's client that writes to it. */
export interface DemoStore {
  readonly connection: string;
  /** The vendor's name. */
  readonly label: string;
  readonly config: ConfigInput['connections'][string];
  /** Traces that each person has in it. */
  readonly tracesPerPerson: number;
  /** Writes everybody's traces over HTTP, as an application would. @returns what was written, for a person. */
  write(names: readonly string[]): Promise<string>;
  /** Live traces of a person, whatever the API says. */
  live(name: string): number;
  /** Traces that were deleted without a request that named them. */
  unasked(): number;
  close(): Promise<void>;
}

/** LangSmith, with what the story needs beside: its weekend. */
export interface DemoLangSmith extends DemoStore {
  readonly simulator: import('../simulators/langsmith/index.ts').LangSmithSimulator;
}

const PROJECTS = ['chat', 'agent'] as const;

const IN_LANGSMITH = 40;
const ELSEWHERE = 10;

/** @throws Error with code `ERR_MODULE_NOT_FOUND` where the client is not installed. */
export async function langsmithOfDemo(clock: ClockSetting): Promise<DemoLangSmith> {
  const [{ Client, RunTree }, { startLangSmithSimulator }] = await Promise.all([
    import('langsmith'),
    import('../simulators/langsmith/index.ts'),
  ]);
  const simulator = await startLangSmithSimulator({ clock });
  const { truth } = simulator;

  async function write(names: readonly string[]): Promise<string> {
    const client = new Client({ apiUrl: simulator.url, apiKey: simulator.apiKey });
    const total = names.length * IN_LANGSMITH;
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
        root.createChild({
          name: step,
          run_type: index === 0 ? 'retriever' : 'llm',
          start_time: startMs + 100 * index,
        }),
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
    return `${formatTraces(total)} (${formatCount(runs)} runs, ${formatCount(scored.length)} feedback scores, 1 dataset example), by the langsmith SDK`;
  }

  return {
    connection: 'langsmith-demo',
    label: 'LangSmith',
    simulator,
    tracesPerPerson: IN_LANGSMITH,
    config: {
      store: 'langsmith',
      baseUrl: simulator.url,
      apiKey: simulator.apiKey,
      identifiers: { user_id: ['metadata.user_id'] },
      // What no call of this store can show; a controller accepts it knowingly, or it stays an exception.
      accept: ['insights', 'statistics'],
    },
    write,
    live: (name) => truth.tracesOf([{ key: 'user_id', value: name }]).length,
    unasked: () => truth.unasked().length,
    close: () => simulator.close(),
  };
}

/** @throws Error with code `ERR_MODULE_NOT_FOUND` where the client is not installed. */
export async function braintrustOfDemo(clock: ClockSetting): Promise<DemoStore> {
  const [{ BraintrustState, initLogger }, { startBraintrustSimulator }] = await Promise.all([
    import('braintrust'),
    import('../simulators/braintrust/index.ts'),
  ]);
  const simulator = await startBraintrustSimulator({ clock });
  const { truth } = simulator;

  async function write(names: readonly string[]): Promise<string> {
    const state = new BraintrustState({});
    const { url: appUrl, apiKey, organisation } = simulator;
    await state.login({ appUrl, apiKey, orgName: organisation.name, noExitFlush: true });
    const logger = initLogger({ projectName: 'chat', state, asyncFlush: true });
    for (let number = 0; number < names.length * ELSEWHERE; number += 1) {
      const metadata = { user_id: names[number % names.length] ?? '' };
      const root = logger.startSpan({ name: 'answer', event: { input: `question ${number}`, metadata } });
      const child = root.startSpan({ name: 'model', type: 'llm', event: { output: 'an answer' } });
      child.end();
      root.end();
    }
    await logger.flush();
    const total = names.length * ELSEWHERE;
    return `${formatTraces(total)} (${formatCount(2 * total)} spans), by the braintrust SDK`;
  }

  return {
    connection: 'braintrust-demo',
    label: 'Braintrust',
    tracesPerPerson: ELSEWHERE,
    config: {
      store: 'braintrust',
      appUrl: simulator.url,
      apiKey: simulator.apiKey,
      identifiers: { user_id: ['metadata.user_id'] },
      accept: ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'],
    },
    write,
    live: (name) => truth.remainsOf([{ key: 'user_id', value: name }]).length,
    unasked: () => truth.unasked().length + truth.orphans().length,
    close: () => simulator.close(),
  };
}

/** @throws Error with code `ERR_MODULE_NOT_FOUND` where the client is not installed. */
export async function respanOfDemo(clock: ClockSetting): Promise<DemoStore> {
  const [{ KeywordsAITelemetry }, { startRespanSimulator }] = await Promise.all([
    import('@keywordsai/tracing'),
    import('../simulators/respan/index.ts'),
  ]);
  const simulator = await startRespanSimulator({ clock });
  const { truth } = simulator;

  async function write(names: readonly string[]): Promise<string> {
    const client = new KeywordsAITelemetry({
      apiKey: simulator.apiKey,
      baseURL: `${simulator.url}/api/`,
      appName: 'shop',
      logLevel: 'error',
    });
    // On both spans: this client sends each as a root of its own, and the store takes the customer of one of them.
    const answer = (customer_identifier: string): unknown => {
      const named = (act: () => unknown): unknown => client.withKeywordsAISpanAttributes(act, { customer_identifier });
      return client.withWorkflow({ name: 'answer' }, () =>
        named(() => client.withTask({ name: 'model' }, () => named(() => 'an answer'))),
      );
    };
    // It tells the console of every span, whatever its log level.
    await silently(async () => {
      await client.initialize();
      for (let number = 0; number < names.length * ELSEWHERE; number += 1) {
        await answer(names[number % names.length] ?? '');
      }
      await client.shutdown();
    });
    const total = names.length * ELSEWHERE;
    return `${formatTraces(total)} (${formatCount(2 * total)} spans), by Respan's tracing client`;
  }

  return {
    connection: 'respan-demo',
    label: 'Respan',
    tracesPerPerson: ELSEWHERE,
    config: {
      store: 'respan',
      baseUrl: simulator.url,
      apiKey: simulator.apiKey,
      environments: ['prod'],
      // The client stamps its spans with the real time.
      startDate: new Date().toISOString().slice(0, 10),
      identifiers: { user_id: ['customer_identifier'] },
      accept: ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'],
    },
    write,
    live: (name) => truth.tracesOf([{ key: 'customer_identifier', value: name }]).length,
    unasked: () => truth.unasked().length,
    close: () => simulator.close(),
  };
}

/** Runs what talks to the console without letting it. */
async function silently(act: () => unknown): Promise<void> {
  const { log, info, warn, debug } = console;
  const nothing = (): void => undefined;
  Object.assign(console, { log: nothing, info: nothing, warn: nothing, debug: nothing });
  try {
    await act();
  } finally {
    Object.assign(console, { log, info, warn, debug });
  }
}
