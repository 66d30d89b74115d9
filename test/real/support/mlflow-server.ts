import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { otlpBody, type OtlpSpan } from './otlp.ts';
import { ensureEnvironment, startServer, type PythonEnvironment, type PythonServer } from './python-server.ts';

/** The server that the connector is judged by. The exporter is what applications send spans with. */
const PACKAGES = ['mlflow==3.17.2', 'opentelemetry-exporter-otlp-proto-http==1.45.2'];

/** A real MLflow tracking server on loopback, with an SQLite database and a folder of artifacts of its own. */
export class MlflowServer {
  readonly environment: PythonEnvironment;
  readonly url: string;
  private readonly server: PythonServer;

  private constructor(environment: PythonEnvironment, server: PythonServer) {
    this.environment = environment;
    this.server = server;
    this.url = `http://127.0.0.1:${server.ports[0] ?? 0}`;
  }

  static async start(): Promise<MlflowServer> {
    const environment = await ensureEnvironment({ name: 'mlflow', packages: PACKAGES });
    const server = await startServer({
      name: 'mlflow',
      ports: 1,
      command: ({ ports, directory }) => ({
        file: environment.python,
        args: [
          ...['-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', String(ports[0]), '--workers', '1'],
          ...['--backend-store-uri', `sqlite:///${join(directory, 'mlflow.db')}`],
          ...['--artifacts-destination', join(directory, 'artifacts')],
        ],
        env: { MLFLOW_DISABLE_TELEMETRY: 'true', DO_NOT_TRACK: 'true', MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false' },
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
    const database = new DatabaseSync(this.databaseFile, { readOnly: true });
    try {
      database.exec('pragma busy_timeout = 10000');
      const statement = database.prepare(sql);
      // Nanoseconds are more than a number holds.
      statement.setReadBigInts(true);
      return statement.all(...values).map(withNumbers);
    } finally {
      database.close();
    }
  }

  /**
   * Gathers the statistics that SQLite plans by, as an operator does. Without them a search in the spans takes an index that
   * makes it read every span of the experiment once for each trace.
   */
  analyze(): void {
    const database = new DatabaseSync(this.databaseFile);
    try {
      database.exec('pragma busy_timeout = 30000; analyze');
    } finally {
      database.close();
    }
  }

  /** The database file itself, for what stands in its free pages. */
  rawDatabase(): Buffer {
    return readFileSync(this.databaseFile);
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

  /** Writes spans as an OpenTelemetry exporter does: they are there when this returns. */
  async send(experimentId: string, spans: readonly OtlpSpan[]): Promise<void> {
    const answer = await fetch(`${this.url}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf', 'x-mlflow-experiment-id': experimentId },
      body: otlpBody(spans),
    });
    if (!answer.ok) throw new Error(`MLflow answered ${answer.status} to spans: ${await answer.text()}`);
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

  close(): Promise<void> {
    return this.server.close();
  }
}

function withNumbers(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (typeof value !== 'bigint') return [name, value];
      return [name, Number.isSafeInteger(Number(value)) ? Number(value) : String(value)];
    }),
  );
}
