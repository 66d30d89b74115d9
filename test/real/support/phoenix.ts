import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { rowsIn } from './database.ts';
import {
  ensureEnvironment,
  prepared,
  startServer,
  type PythonEnvironment,
  type PythonServer,
} from './python-server.ts';
import { SpanWriter, type SpanToWrite } from './spans.ts';

/** What the connector was written against. */
const PHOENIX_PACKAGES = ['arize-phoenix==20.26.1'] as const;

const LAUNCHER = fileURLToPath(new URL('../python/phoenix_loopback.py', import.meta.url));
/** The launcher looks for it. */
const HOLD = 'hold-queue';
/** Longest wait for spans that were accepted, milliseconds: the server writes them from a queue. */
const MOST_QUEUED_MS = 600_000;

/** A span as it stands in the server's database. */
export interface StoredSpan {
  /** The project's id as the API gives it. */
  readonly projectId: string;
  readonly project: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Attributes as JSON text. */
  readonly attributes: string;
}

/** A real Phoenix on loopback, with a look behind its API. */
export class Phoenix {
  readonly url: string;
  readonly environment: PythonEnvironment;
  readonly #server: PythonServer;
  #writer: SpanWriter | null = null;

  private constructor(server: PythonServer, environment: PythonEnvironment) {
    this.#server = server;
    this.environment = environment;
    this.url = `http://127.0.0.1:${server.ports[0]}`;
  }

  /**
   * @param env further settings of the server, for instance `PHOENIX_ENABLE_AUTH`.
   * @param fill what the server is to hold from the start, written once and copied by all later runs.
   */
  static async start(
    env: NodeJS.ProcessEnv = {},
    fill?: { readonly name: string; readonly write: (server: Phoenix) => Promise<void> },
  ): Promise<Phoenix> {
    const environment = await Phoenix.environment();
    const empty = await prepared(environment, 'empty', async (directory) => {
      await (await Phoenix.#on(environment, { directory }, {})).stop();
    });
    if (fill === undefined) return Phoenix.#on(environment, { from: empty }, env);
    const filled = await prepared(environment, fill.name, async (directory) => {
      const server = await Phoenix.#on(environment, { directory, from: empty }, {});
      await fill.write(server);
      await server.stop();
    });
    return Phoenix.#on(environment, { from: filled }, env);
  }

  /** Installs the server, once. */
  static environment(): Promise<PythonEnvironment> {
    return ensureEnvironment({ name: 'phoenix', packages: PHOENIX_PACKAGES });
  }

  static async #on(
    environment: PythonEnvironment,
    place: { readonly directory?: string; readonly from?: string },
    env: NodeJS.ProcessEnv,
  ): Promise<Phoenix> {
    const server = await startServer({
      name: 'phoenix',
      ports: 2,
      ...place,
      readyUrl: ([port]) => `http://127.0.0.1:${port}/readyz`,
      command: ({ ports: [port, grpcPort], directory }) => ({
        file: environment.python,
        args: [LAUNCHER],
        env: {
          PHOENIX_WORKING_DIR: directory,
          PHOENIX_HOST: '127.0.0.1',
          PHOENIX_PORT: String(port),
          PHOENIX_GRPC_PORT: String(grpcPort),
          PHOENIX_TELEMETRY_ENABLED: 'false',
          ...env,
        },
      }),
    });
    return new Phoenix(server, environment);
  }

  get directory(): string {
    return this.#server.directory;
  }

  log(): string {
    return this.#server.log();
  }

  /** Asks the server itself. @returns what came back as JSON, or as text where it is none. */
  async call(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ readonly status: number; readonly json: unknown }> {
    const answer = await fetch(`${this.url}${path}`, {
      method,
      ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    try {
      return { status: answer.status, json: JSON.parse(text) as unknown };
    } catch {
      return { status: answer.status, json: text };
    }
  }

  async createProject(name: string): Promise<string> {
    const { status, json } = await this.call('POST', '/v1/projects', { name });
    if (status >= 300) throw new Error(`the server answered ${status} to a new project`);
    return (json as { data: { id: string } }).data.id;
  }

  /** Hands spans to the server by OpenTelemetry's own exporter: that they were accepted is all that is known then. */
  async send(spans: readonly SpanToWrite[]): Promise<void> {
    this.#writer ??= new SpanWriter(this.environment, this.url);
    await this.#writer.write(spans);
  }

  /** Writes spans and waits until they are in the database. */
  async write(spans: readonly SpanToWrite[]): Promise<void> {
    await this.send(spans);
    await this.written(spans);
  }

  /** Waits until accepted spans are in the database. */
  async written(spans: readonly SpanToWrite[]): Promise<void> {
    const ids = JSON.stringify(spans.map(({ spanId }) => spanId));
    const untilMs = Date.now() + MOST_QUEUED_MS;
    for (;;) {
      const [row] = this.query<{ count: number }>(
        'select count(*) as count from spans where span_id in (select value from json_each(?))',
        ids,
      );
      if (row?.count === spans.length) return;
      if (Date.now() > untilMs) throw new Error(`${row?.count} of ${spans.length} spans were written in ten minutes`);
      await sleep(20);
    }
  }

  /** Keeps accepted spans in the server's queue, as under load, until `release`. */
  async hold(): Promise<void> {
    await writeFile(join(this.directory, HOLD), '');
  }

  async release(): Promise<void> {
    await rm(join(this.directory, HOLD), { force: true });
  }

  /** Reads the database file itself, past the server. */
  query<Row>(sql: string, ...parameters: readonly (string | number)[]): Row[] {
    return rowsIn(join(this.directory, 'phoenix.db'), sql, parameters);
  }

  /** Every span of the projects named, or of all. */
  stored(projects?: readonly string[]): StoredSpan[] {
    const rows = this.query<{ project: number; name: string; trace: string; span: string; attributes: string }>(
      `select p.id as project, p.name as name, t.trace_id as trace, s.span_id as span, json(s.attributes) as attributes
       from spans s join traces t on t.id = s.trace_rowid join projects p on p.id = t.project_rowid`,
    );
    return rows
      .filter(({ name }) => projects === undefined || projects.includes(name))
      .map(({ project, name, trace, span, attributes }) => ({
        projectId: projectIdOf(project),
        project: name,
        traceId: trace,
        spanId: span,
        attributes,
      }));
  }

  /** How often a text stands in the files of the database, whether or not any row holds it. */
  async inFiles(text: string): Promise<number> {
    let count = 0;
    for (const name of ['phoenix.db', 'phoenix.db-wal']) {
      const bytes = await readFile(join(this.directory, name)).catch(() => Buffer.alloc(0));
      for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) count += 1;
    }
    return count;
  }

  /** Ends the server and keeps its files, for a look at them. */
  async stop(): Promise<void> {
    await this.#writer?.close();
    this.#writer = null;
    await this.#server.stop();
  }

  async close(): Promise<void> {
    await this.#writer?.close();
    await this.#server.close();
  }
}

function projectIdOf(row: number): string {
  return Buffer.from(`Project:${row}`).toString('base64');
}
