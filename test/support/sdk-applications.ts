/* eslint-disable @typescript-eslint/no-deprecated -- v1 ends on 31 January 2027; until then applications use its SDK calls */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getCurrentSpan, KeywordsAITelemetry } from '@keywordsai/tracing';
import {
  CachedSpanFetcher,
  initDataset,
  initExperiment,
  initLogger,
  updateSpan,
  type BraintrustState,
  type Dataset,
  type Experiment,
  type Logger,
} from 'braintrust';
import { Client, RunTree } from 'langsmith';
import type { BraintrustSimulator } from '../../src/simulators/braintrust/index.ts';
import type { LangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import type { RespanSimulator } from '../../src/simulators/respan/index.ts';
import { sdkState } from './braintrust-simulator.ts';

const DAY_MS = 86_400_000;
/** Projects that an application's traces are spread over, where a store has projects. */
const PROJECTS = ['chat', 'agent'] as const;

/** Which people an application serves, and how many traces it writes for each. */
export interface Traffic {
  readonly people: readonly string[];
  readonly tracesPerPerson: number;
}

/** One after the other, so that a person's traces are spread over time and projects. */
function* answers({ people, tracesPerPerson }: Traffic): Generator<{ user: string; project: string; share: number }> {
  for (let turn = 0; turn < tracesPerPerson; turn += 1) {
    const project = PROJECTS[turn % PROJECTS.length] ?? PROJECTS[0];
    for (const user of people) yield { user, project, share: turn / tracesPerPerson };
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A trace as the application knows it: a root, a child below it and a grandchild. */
export interface LangSmithTrace {
  readonly user: string;
  readonly project: string;
  readonly root: RunTree;
  readonly runIds: readonly string[];
}

/** An application that writes to LangSmith through the official SDK, and keeps the ids of its runs. */
export class LangSmithApplication {
  readonly client: Client;
  readonly traces: readonly LangSmithTrace[];

  private constructor(client: Client, traces: readonly LangSmithTrace[]) {
    this.client = client;
    this.traces = traces;
  }

  /** Nested runs for everybody; feedback with a comment and a dataset example for the first trace of each person. */
  static async write(sim: LangSmithSimulator, traffic: Traffic): Promise<LangSmithApplication> {
    const client = new Client({ apiUrl: sim.url, apiKey: sim.apiKey });
    const traces: LangSmithTrace[] = [];
    for (const { user, project, share } of answers(traffic)) {
      const startMs = Math.floor(Date.now() - 20 * DAY_MS + share * 15 * DAY_MS);
      const root = new RunTree({
        client,
        name: 'answer',
        run_type: 'chain',
        project_name: project,
        inputs: { question: `what ${user} asked` },
        metadata: { user_id: user },
        start_time: startMs,
      });
      const child = root.createChild({ name: 'agent', run_type: 'chain', start_time: startMs + 10 });
      const grandchild = child.createChild({ name: 'model', run_type: 'llm', start_time: startMs + 20 });
      for (const run of [root, child, grandchild]) await run.postRun();
      for (const run of [grandchild, child, root]) {
        await run.end({ answer: `what ${user} was told` }, undefined, startMs + 500);
        await run.patchRun();
      }
      traces.push({ user, project, root, runIds: [root.id, child.id, grandchild.id] });
    }
    const app = new LangSmithApplication(client, traces);
    await app.flush();
    const dataset = await client.createDataset('regression');
    for (const user of traffic.people) {
      const [first] = app.of(user);
      if (first === undefined) continue;
      const { id: sessionId } = await client.readProject({ projectName: first.project });
      const [rootId = '', childId = ''] = first.runIds;
      for (const runId of [rootId, childId]) {
        await client.createFeedback({ runId, sessionId, key: 'stars', score: 5, comment: `${user} liked it` });
      }
      await client.createExample({
        dataset_id: dataset.id,
        inputs: { question: `what ${user} asked` },
        source_run_id: rootId,
      });
    }
    return app;
  }

  of(user: string): readonly LangSmithTrace[] {
    return this.traces.filter((trace) => trace.user === user);
  }

  /** Runs of a person that the SDK still lists, by either generation of the API, and feedback that it shows on them. */
  async reads(
    user: string,
  ): Promise<{ readonly v1: readonly string[]; readonly v2: readonly string[]; readonly feedback: number }> {
    const runIds = this.of(user).flatMap((trace) => trace.runIds);
    const mine = new Set<string | undefined>(runIds);
    const v1: string[] = [];
    const v2: string[] = [];
    for (const projectName of PROJECTS) {
      for (const { id } of await collect(this.client.listRuns({ projectName }))) if (mine.has(id)) v1.push(id);
      const { id: projectId } = await this.client.readProject({ projectName });
      const query = { project_ids: [projectId], min_start_time: '1970-01-01T00:00:00Z', selects: ['ID' as const] };
      for (const { id = '' } of await collect(this.client.runs.query(query))) if (mine.has(id)) v2.push(id);
    }
    const feedback = await collect(this.client.listFeedback({ runIds }));
    return { v1: v1.sort(), v2: v2.sort(), feedback: feedback.length };
  }

  /** Whether the SDK reads a run by its id. @throws whatever is no "not found". */
  async isReadable(runId: string): Promise<boolean> {
    try {
      return (await this.client.readRun(runId)).id === runId;
    } catch (error) {
      if (error instanceof Error && /\b404\b|not found/i.test(error.message)) return false;
      throw error;
    }
  }

  async flush(): Promise<void> {
    await this.client.flush();
    await this.client.awaitPendingTraceBatches();
  }
}

/** A trace as the application knows it: a root and two spans below it. */
export interface BraintrustTrace {
  readonly user: string;
  readonly project: string;
  /** Its root span id. */
  readonly traceId: string;
  /** Row ids of its spans, the root's first; they name what a late write names. */
  readonly rowIds: readonly string[];
  /** Span ids in the same order; only the root's is an id that the store deletes or reads by. */
  readonly spanIds: readonly string[];
  /** What another process needs to write to the spans. */
  readonly exported: readonly string[];
}

/** An application that writes to Braintrust through the official SDK, and keeps the ids of its spans. */
export class BraintrustApplication {
  readonly state: BraintrustState;
  readonly traces: readonly BraintrustTrace[];
  readonly dataset: Dataset;
  readonly experiment: Experiment;
  /** Ids of dataset rows by person. */
  readonly datasetRows: ReadonlyMap<string, string>;
  /** Ids of experiment rows by person. */
  readonly experimentRows: ReadonlyMap<string, string>;
  readonly #loggers: ReadonlyMap<string, Logger<true>>;

  private constructor(
    parts: Omit<BraintrustApplication, 'of' | 'logger' | 'reads' | 'update' | 'flush'>,
    loggers: ReadonlyMap<string, Logger<true>>,
  ) {
    this.state = parts.state;
    this.traces = parts.traces;
    this.dataset = parts.dataset;
    this.experiment = parts.experiment;
    this.datasetRows = parts.datasetRows;
    this.experimentRows = parts.experimentRows;
    this.#loggers = loggers;
  }

  /**
   * Nested spans for everybody, the user on the root alone; feedback with a comment on the first trace of each person, and
   * a row of a dataset and of an experiment for each.
   */
  static async write(sim: BraintrustSimulator, traffic: Traffic): Promise<BraintrustApplication> {
    const state = await sdkState(sim);
    const loggers = new Map<string, Logger<true>>();
    for (const projectName of PROJECTS) loggers.set(projectName, initLogger({ projectName, state, asyncFlush: true }));
    const traces: BraintrustTrace[] = [];
    for (const { user, project } of answers(traffic)) {
      const logger = loggers.get(project);
      if (logger === undefined) throw new Error('no such project');
      const root = logger.startSpan({
        name: 'answer',
        event: { input: `what ${user} asked`, metadata: { user_id: user } },
      });
      const child = root.startSpan({ name: 'agent' });
      const grandchild = child.startSpan({ name: 'model', type: 'llm', event: { output: `what ${user} was told` } });
      const spans = [root, child, grandchild];
      for (const span of spans.toReversed()) span.end();
      traces.push({
        user,
        project,
        traceId: root.rootSpanId,
        rowIds: spans.map(({ id }) => id),
        spanIds: spans.map(({ spanId }) => spanId),
        exported: await Promise.all(spans.map((span) => span.export())),
      });
    }
    const dataset = initDataset({ project: 'chat', dataset: 'regression', state });
    const experiment = initExperiment('chat', { experiment: 'evaluation', state, setCurrent: false });
    const datasetRows = new Map<string, string>();
    const experimentRows = new Map<string, string>();
    for (const user of traffic.people) {
      const metadata = { user_id: user };
      const input = `what ${user} asked`;
      datasetRows.set(user, dataset.insert({ input, expected: 'an answer', metadata }));
      experimentRows.set(user, experiment.log({ input, output: 'an answer', scores: { right: 1 }, metadata }));
    }
    const parts = { state, traces, dataset, experiment, datasetRows, experimentRows };
    const app = new BraintrustApplication(parts, loggers);
    await app.flush();
    for (const user of traffic.people) {
      const [first] = app.of(user);
      if (first === undefined) continue;
      const [id = ''] = first.rowIds;
      app.logger(first.project).logFeedback({ id, scores: { stars: 1 }, comment: `${user} liked it` });
    }
    await app.flush();
    return app;
  }

  of(user: string): readonly BraintrustTrace[] {
    return this.traces.filter((trace) => trace.user === user);
  }

  logger(project: string): Logger<true> {
    const logger = this.#loggers.get(project);
    if (logger === undefined) throw new Error('no such project');
    return logger;
  }

  /** How many spans, dataset rows and experiment rows of a person the SDK still reads. */
  async reads(
    user: string,
  ): Promise<{ readonly spans: number; readonly dataset: number; readonly experiment: number }> {
    let spans = 0;
    for (const { project, traceId } of this.of(user)) {
      const { id } = await this.logger(project).project;
      // A new one each time: it keeps what it has read.
      const fetcher = new CachedSpanFetcher('project_logs', id, traceId, () => Promise.resolve(this.state));
      spans += (await fetcher.getSpans({ includeScorers: true })).length;
    }
    this.dataset.clearCache();
    this.experiment.clearCache();
    const inDataset = await collect(this.dataset.fetch());
    const inExperiment = await collect(this.experiment.fetch());
    return {
      spans,
      dataset: inDataset.filter(({ id }) => id === this.datasetRows.get(user)).length,
      experiment: inExperiment.filter(({ id }) => id === this.experimentRows.get(user)).length,
    };
  }

  /** Writes to a span from elsewhere, knowing nothing of what became of it. */
  update(exported: string, output: string): void {
    updateSpan({ exported, output, state: this.state });
  }

  async flush(): Promise<void> {
    for (const logger of this.#loggers.values()) await logger.flush();
    await this.dataset.flush();
    await this.experiment.flush();
    await this.state.bgLogger().flush();
  }
}

/**
 * The npm client of Respan starts once in a process and sends to one address for good. Its address here is a relay, which
 * passes on to the simulator of the moment.
 */
let relay: { readonly client: KeywordsAITelemetry; target: RespanSimulator; close(): Promise<void> } | null = null;

/** How long the client gathers spans before it sends them, real milliseconds; its own default is 5 s. */
const GATHERS_MS = 10;

async function clientOf(sim: RespanSimulator): Promise<KeywordsAITelemetry> {
  if (relay !== null) {
    relay.target = sim;
    return relay.client;
  }
  const server = createServer((incoming, outgoing) => {
    const { method, headers, url } = incoming;
    const { port } = relay?.target ?? sim;
    const onward = request({ host: '127.0.0.1', port, path: url, method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => {
      outgoing.destroy();
    });
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  process.env['OTEL_BSP_SCHEDULE_DELAY'] = String(GATHERS_MS);
  const client = new KeywordsAITelemetry({
    apiKey: sim.apiKey,
    baseURL: `http://127.0.0.1:${port}/api/`,
    appName: 'shop',
    logLevel: 'error',
  });
  await client.initialize();
  const close = async (): Promise<void> => {
    await client.shutdown();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  relay = { client, target: sim, close };
  return client;
}

/** Ends the process's one client of Respan. */
export async function closeRespanClient(): Promise<void> {
  await relay?.close();
}

export interface RespanTrace {
  readonly user: string;
  readonly traceId: string;
  /** The client's own ids of its spans; the store makes others. */
  readonly spanIds: readonly string[];
}

/** A trace whose workflow has not come to its end yet. */
export interface OpenRespanTrace extends RespanTrace {
  /** Lets it end: its span is sent now. */
  end(): Promise<void>;
}

/** An application that writes to Respan through the npm client, and keeps the ids of its traces. */
export class RespanApplication {
  readonly traces: readonly RespanTrace[];
  readonly #sim: RespanSimulator;
  readonly #client: KeywordsAITelemetry;

  private constructor(sim: RespanSimulator, client: KeywordsAITelemetry, traces: readonly RespanTrace[]) {
    this.#sim = sim;
    this.#client = client;
    this.traces = traces;
  }

  /** A workflow with a task in it for each answer, the customer on both. */
  static async write(sim: RespanSimulator, traffic: Traffic): Promise<RespanApplication> {
    const client = await clientOf(sim);
    const traces: RespanTrace[] = [];
    const app = new RespanApplication(sim, client, traces);
    for (const { user } of answers(traffic)) {
      const spanIds: string[] = [];
      let traceId = '';
      const task = (): unknown =>
        client.withTask({ name: 'model' }, () => {
          spanIds.push(getCurrentSpan()?.spanContext().spanId ?? '');
          return app.#named(user, () => `what ${user} was told`);
        });
      await client.withWorkflow({ name: 'answer' }, () => {
        const context = getCurrentSpan()?.spanContext();
        traceId = context?.traceId ?? '';
        spanIds.push(context?.spanId ?? '');
        return app.#named(user, task);
      });
      traces.push({ user, traceId, spanIds });
    }
    for (const { traceId, spanIds } of traces) await app.arrived(traceId, spanIds.length);
    return app;
  }

  of(user: string): readonly RespanTrace[] {
    return this.traces.filter((trace) => trace.user === user);
  }

  /**
   * Begins a workflow whose first task has ended and was sent, while it goes on itself.
   *
   * @param namesItself whether the workflow's own span, which comes last, says whose it is.
   */
  async begin(user: string, namesItself: boolean): Promise<OpenRespanTrace> {
    const client = this.#client;
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let traceId = '';
    const task = (): unknown => client.withTask({ name: 'model' }, () => this.#named(user, () => `for ${user}`));
    const body = async (): Promise<string> => {
      traceId = getCurrentSpan()?.spanContext().traceId ?? '';
      await task();
      await gate;
      return `what ${user} was told at last`;
    };
    const run = client.withWorkflow({ name: 'long answer' }, () => (namesItself ? this.#named(user, body) : body()));
    await this.arrived(traceId, 1);
    return {
      user,
      traceId,
      spanIds: [],
      end: async () => {
        const before = this.#written(traceId);
        open();
        await run;
        await this.arrived(traceId, before + 1);
      },
    };
  }

  #named(customer_identifier: string, act: () => unknown): Promise<unknown> {
    return Promise.resolve(this.#client.withKeywordsAISpanAttributes(act, { customer_identifier }));
  }

  /** Spans of a trace that are there now. */
  #written(traceId: string): number {
    return this.#sim.truth.allTraces().find((trace) => trace.traceId === traceId)?.spans.spans ?? 0;
  }

  /** Waits until the client, which sends when it likes, has sent so many spans of a trace. */
  async arrived(traceId: string, spans: number): Promise<void> {
    while (this.#written(traceId) < spans) await sleep(5);
  }
}
