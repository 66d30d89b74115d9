import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { maintain, rowsIn } from './database.ts';
import {
  ensureEnvironment,
  prepared,
  startServer,
  type PythonEnvironment,
  type PythonServer,
} from './python-server.ts';
import { SpanWriter, type SpanToWrite } from './spans.ts';

/** The server that the connector is judged by. The exporter is what applications send spans with. */
const PACKAGES = ['mlflow==3.17.2', 'opentelemetry-exporter-otlp-proto-http==1.45.2'];

/** A real MLflow tracking server on loopback, with an SQLite database and a folder of artifacts of its own. */
export class MlflowServer {
  readonly environment: PythonEnvironment;
  readonly url: string;
  private readonly server: PythonServer;
  private writer: SpanWriter | null = null;

  private constructor(environment: PythonEnvironment, server: PythonServer) {
    this.environment = environment;
    this.server = server;
    this.url = `http://127.0.0.1:${server.ports[0] ?? 0}`;
  }

  /**
   * @param fill what the server is to hold from the start, written once and copied by all later runs.
   * @param env further settings of the server.
   */
  static async start(
    fill?: { readonly name: string; readonly write: (server: MlflowServer) => Promise<void> },
    env: NodeJS.ProcessEnv = {},
  ): Promise<MlflowServer> {
    const environment = await MlflowServer.install();
    const empty = await prepared(environment, 'empty', async (directory) => {
      await (await MlflowServer.on(environment, { directory })).close();
    });
    if (fill === undefined) return MlflowServer.on(environment, { from: empty }, env);
    const filled = await prepared(environment, fill.name, async (directory) => {
      const server = await MlflowServer.on(environment, { directory, from: empty });
      await fill.write(server);
      await server.close();
    });
    return MlflowServer.on(environment, { from: filled }, env);
  }

  /** Installs the server, once. */
  static install(): Promise<PythonEnvironment> {
    return ensureEnvironment({ name: 'mlflow', packages: PACKAGES });
  }

  private static async on(
    environment: PythonEnvironment,
    place: { readonly directory?: string; readonly from?: string },
    env: NodeJS.ProcessEnv = {},
  ): Promise<MlflowServer> {
    const server = await startServer({
      name: 'mlflow',
      ports: 1,
      ...place,
      command: ({ ports, directory }) => ({
        file: environment.python,
        args: [
          ...['-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', String(ports[0]), '--workers', '1'],
          ...['--backend-store-uri', `sqlite:///${join(directory, 'mlflow.db')}`],
          ...['--artifacts-destination', join(directory, 'artifacts')],
        ],
        env: {
          MLFLOW_DISABLE_TELEMETRY: 'true',
          DO_NOT_TRACK: 'true',
          MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false',
          ...env,
        },
      }),
      readyUrl: (ports) => `http://127.0.0.1:${ports[0] ?? 0}/health`,
    });
    return new MlflowServer(environment, server);
  }

  get databaseFile(): string {
    return join(this.server.directory, 'mlflow.db');
  }

  /** Rows straight from the database file, past the server. */
  rows(sql: string, ...values: readonly (string | number)[]): readonly Record<string, unknown>[] {
    return rowsIn(this.databaseFile, sql, values);
  }

  /**
   * Gathers the statistics that SQLite plans by, as an operator does. Without them a search in the spans takes an index that
   * makes it read every span of the experiment once for each trace.
   */
  analyze(): void {
    maintain(this.databaseFile, 'analyze');
  }

  /** What an operator does to the database file with its own tools, for instance `vacuum`. */
  maintain(sql: string): void {
    maintain(this.databaseFile, sql);
  }

  /** How often a text stands in the database file itself, whether or not any row holds it. */
  inFile(text: string): number {
    return readFileSync(this.databaseFile, 'latin1').split(text).length - 1;
  }

  /** Paths of all files in the artifact folder, relative to it. */
  artifacts(): readonly string[] {
    const root = join(this.server.directory, 'artifacts');
    if (!existsSync(root)) return [];
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  }

  async createExperiment(name: string): Promise<string> {
    const { experiment_id: id } = await this.call<{ experiment_id: string }>(
      'POST',
      '/api/2.0/mlflow/experiments/create',
      { name },
    );
    return id;
  }

  /** Writes spans by OpenTelemetry's own exporter: they are there when this returns. */
  async send(experimentId: string, spans: readonly SpanToWrite[]): Promise<void> {
    this.writer ??= new SpanWriter(this.environment, this.url);
    await this.writer.write(spans, { 'x-mlflow-experiment-id': experimentId });
  }

  /** A call past the connector. */
  async call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await fetch(`${this.url}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`MLflow answered ${answer.status} to ${method} ${path}: ${text}`);
    return (text === '' ? null : JSON.parse(text)) as Answer;
  }

  /** Takes traces away as somebody else would. */
  async remove(experimentId: string, traceIds: readonly string[]): Promise<void> {
    await this.call('POST', '/api/3.0/mlflow/traces/delete-traces', {
      experiment_id: experimentId,
      request_ids: traceIds,
    });
  }

  log(): string {
    return this.server.log();
  }

  async close(): Promise<void> {
    await this.writer?.close();
    await this.server.close();
  }
}
