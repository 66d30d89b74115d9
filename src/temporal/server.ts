import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { Connection, isGrpcServiceError } from '@temporalio/client';
import { SearchAttributeType } from '@temporalio/common';
import type { temporal } from '@temporalio/proto';

import { isAlive, isListening, type TemporalBinary } from './binary.ts';
import { LETHE_SEARCH_ATTRIBUTES } from './search-attributes.ts';

export { resolveTemporal, resolveTemporalBinary, TemporalBinaryError, type TemporalBinary } from './binary.ts';

/** Namespace that Lethe uses unless the configuration says otherwise. */
export const DEFAULT_NAMESPACE = 'lethe';

/**
 * How long closed workflows stay readable in Temporal. Longer than the month in which a request must be answered would
 * be no use: after it the sealed record answers.
 */
const DEFAULT_RETENTION_DAYS = 30;

const DAY_SECONDS = 24 * 60 * 60;

// google.rpc.Code, which @grpc/grpc-js exports; repeated here so that it need not be a dependency of its own.
const GRPC_INVALID_ARGUMENT = 3;
const GRPC_NOT_FOUND = 5;
const GRPC_ALREADY_EXISTS = 6;
const GRPC_PERMISSION_DENIED = 7;
const GRPC_UNIMPLEMENTED = 12;

// grpc.health.v1.HealthCheckResponse.ServingStatus
const SERVING = 1;

// temporal.api.enums.v1.IndexedValueType
const INDEXED_VALUE_TYPE: Readonly<Record<SearchAttributeType, number>> = {
  [SearchAttributeType.TEXT]: 1,
  [SearchAttributeType.KEYWORD]: 2,
  [SearchAttributeType.INT]: 3,
  [SearchAttributeType.DOUBLE]: 4,
  [SearchAttributeType.BOOL]: 5,
  [SearchAttributeType.DATETIME]: 6,
  [SearchAttributeType.KEYWORD_LIST]: 7,
};

export type TemporalLogLevel = 'debug' | 'info' | 'warn' | 'error' | 'never';

export interface LocalServerOptions {
  readonly binary: TemporalBinary;
  /** File that keeps all state over restarts, see {@link databaseFile}; null keeps it in memory. */
  readonly dbFile: string | null;
  /**
   * Address to listen on. The dev server has no login: anything but a loopback address opens it to the network.
   * @default '127.0.0.1'
   */
  readonly ip?: string;
  /** gRPC port. @default a free one */
  readonly port?: number;
  /** Port of the web UI. @default a free one */
  readonly uiPort?: number;
  /** Start without the web UI. @default false */
  readonly headless?: boolean;
  /** Namespace that exists as soon as the server is up. @default 'lethe' */
  readonly namespace?: string;
  /** What the server itself logs; it writes warnings in normal use, so `warn` is noisy. @default 'error' */
  readonly logLevel?: TemporalLogLevel;
  /** URL of a codec server with which the UI shows encrypted payloads. @default none */
  readonly uiCodecEndpoint?: string;
  /** Additional dynamic configuration: key to JSON value. */
  readonly dynamicConfig?: Readonly<Record<string, unknown>>;
  /** How long to wait for SERVING. @default 30_000 */
  readonly startTimeoutMs?: number;
  /** Called with each line that the server writes. @default the last lines are kept for error messages only */
  readonly onLog?: (line: string) => void;
}

/** How a server process ended. Exactly one of the two is set. */
export interface LocalServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A Temporal dev server that this process started. */
export interface LocalServer {
  /** `host:port` for clients and workers. */
  readonly address: string;
  readonly uiUrl: string | null;
  /** Process id of the server itself. */
  readonly pid: number;
  /** Server version, e.g. `1.31.2`. */
  readonly version: string;
  /** Resolves when the process has ended, by `stop()` or by itself. Never rejects. */
  readonly exited: Promise<LocalServerExit>;
  /** Ends this server and nothing else: asks first, kills after 10 s. May be called any number of times. */
  stop(): Promise<void>;
}

/** Thrown when the server process ended, or was not SERVING in time; carries the end of what it wrote. */
export class LocalServerError extends Error {
  override readonly name = 'LocalServerError';
}

/** Thrown when another server process holds the database file. Two of them would destroy each other's state. */
export class DatabaseInUseError extends Error {
  override readonly name = 'DatabaseInUseError';
  readonly pid: number;
  /** Where that server listens. */
  readonly address: string;

  constructor(dbFile: string, pid: number, address: string) {
    super(
      `A Temporal server (process ${pid}, ${address}) already uses ${dbFile}. ` +
        `Use that one (TEMPORAL_ADDRESS=${address}), or end it, or choose another state directory.`,
    );
    this.pid = pid;
    this.address = address;
  }
}

/** Thrown when a namespace lacks something that only its administrator can give it. The message says what and how. */
export class TemporalSetupError extends Error {
  override readonly name = 'TemporalSetupError';
}

/**
 * Database file in a state directory. The server's version is part of its name, because a dev server never migrates the
 * schema of a file it finds: a new version starts with an empty file and leaves the old one in place.
 */
export function databaseFile(stateDirectory: string, binary: TemporalBinary): string {
  return join(stateDirectory, `temporal-${binary.serverVersion}.db`);
}

/**
 * Starts a Temporal dev server and waits until it serves.
 *
 * The server never outlives this process, however that ends, SIGKILL included: a tiny watchdog process holds the other
 * end of a pipe and ends the server when the pipe closes. (On Windows there is no watchdog; there the server ends on a
 * normal exit only.) The server runs in a process group of its own, so Ctrl-C in a terminal reaches this process alone
 * and workers can finish before the server goes.
 *
 * @throws DatabaseInUseError, LocalServerError
 */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const dbFile = options.dbFile === null ? null : resolve(options.dbFile);
  if (dbFile !== null) {
    mkdirSync(dirname(dbFile), { recursive: true });
    await waitUntilUnused(dbFile);
  }
  // Checked beforehand: whoever holds a port would also answer our health check.
  const ip = options.ip ?? '127.0.0.1';
  for (const port of [options.port, options.uiPort]) {
    if (port === undefined) continue;
    await bindBriefly(ip, port).catch((error: unknown) => {
      throw new LocalServerError(`The Temporal server cannot use port ${port} of ${ip}: something else does.`, {
        cause: error,
      });
    });
  }
  // Somebody may take a free port between our look and the server's start.
  const attempts = options.port === undefined ? 3 : 1;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await launch(options, dbFile);
    } catch (error) {
      if (!(error instanceof LocalServerError) || !/address already in use/i.test(error.message)) throw error;
      if (attempt >= attempts) throw error;
    }
  }
}

async function launch(options: LocalServerOptions, dbFile: string | null): Promise<LocalServer> {
  const ip = options.ip ?? '127.0.0.1';
  const port = options.port ?? (await bindBriefly(ip, 0));
  const headless = options.headless ?? false;
  const uiPort = headless ? null : (options.uiPort ?? (await bindBriefly(ip, 0)));
  const address = `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
  const dynamicConfig: Record<string, unknown> = {
    // Without this the server asks a host on the internet for newer versions.
    'frontend.enableServerVersionCheck': false,
    'frontend.WorkflowPauseEnabled': true,
    // The dev server reads the definitions of search attributes from its database before each use, and its own
    // documentation says that production should not: a third of all its reads while many people are erased.
    'system.forceSearchAttributesCacheRefreshOnRead': false,
    ...options.dynamicConfig,
  };
  const args = [
    'server',
    'start-dev',
    `--ip=${ip}`,
    `--port=${port}`,
    ...(uiPort === null ? ['--headless'] : [`--ui-port=${uiPort}`, ...newsFlag(options.binary)]),
    ...(options.uiCodecEndpoint === undefined ? [] : [`--ui-codec-endpoint=${options.uiCodecEndpoint}`]),
    ...(dbFile === null ? [] : [`--db-filename=${dbFile}`]),
    `--namespace=${options.namespace ?? DEFAULT_NAMESPACE}`,
    `--log-level=${options.logLevel ?? 'error'}`,
    ...Object.entries(dynamicConfig).map(([key, value]) => `--dynamic-config-value=${key}=${JSON.stringify(value)}`),
  ];

  const child = spawn(options.binary.path, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: process.platform !== 'win32',
  });
  // For error messages. A wrong flag is named in the first line, followed by pages of help; a crash in the last ones.
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      output.push(line);
      if (output.length > 20) output.splice(5, 1);
      options.onLog?.(line);
    });
  }
  const exited = new Promise<LocalServerExit>((settle) => {
    child.once('error', (error) => {
      output.push(error.message);
      settle({ code: -1, signal: null });
    });
    child.once('exit', (code, signal) => settle({ code, signal }));
  });
  const pid = child.pid;
  if (pid === undefined) {
    await exited;
    throw new LocalServerError(`The Temporal server did not start: ${output.join('\n')}`);
  }
  if (dbFile !== null) writeFileSync(holderFile(dbFile), JSON.stringify({ pid, address, parent: process.pid }));
  const watchdog = watchOver(child, pid);
  void exited.then(() => {
    watchdog.dismiss();
    if (dbFile !== null) rmSync(holderFile(dbFile), { force: true });
  });

  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      // In memory there is nothing to save, and an orderly shutdown takes a second.
      child.kill(dbFile === null ? 'SIGKILL' : 'SIGTERM');
      const ended = await Promise.race([exited, sleep(10_000, undefined, { ref: false })]);
      if (ended === undefined) {
        child.kill('SIGKILL');
        await exited;
      }
    })();
    return stopping;
  };

  const failure = await waitUntilServing(address, exited, options.startTimeoutMs ?? 30_000);
  if (failure !== undefined) {
    await stop();
    throw new LocalServerError([`The Temporal server at ${address} ${failure}.`, ...output].join('\n  '));
  }
  return {
    address,
    uiUrl: uiPort === null ? null : `http://${ip.includes(':') ? `[${ip}]` : ip}:${uiPort}`,
    pid,
    version: options.binary.serverVersion,
    exited,
    stop,
  };
}

/**
 * Makes sure that the namespace exists and keeps closed workflows at least `retentionDays`. A longer retention is left
 * alone. Returns when the namespace can be used.
 *
 * @throws TemporalSetupError when that needs rights which this connection lacks (as on Temporal Cloud).
 */
export async function ensureNamespace(
  connection: Connection,
  options: { readonly namespace?: string; readonly retentionDays?: number } = {},
): Promise<{ readonly created: boolean; readonly retentionDays: number }> {
  const namespace = options.namespace ?? DEFAULT_NAMESPACE;
  const wantedDays = options.retentionDays ?? DEFAULT_RETENTION_DAYS;
  // Typed as a Long; the encoder takes a number as well.
  const retention = { seconds: wantedDays * DAY_SECONDS } as unknown as Duration;
  const service = connection.workflowService;

  let created = false;
  let currentDays = await retentionDaysOf(connection, namespace);
  if (currentDays === undefined) {
    try {
      await service.registerNamespace({ namespace, workflowExecutionRetentionPeriod: retention });
      created = true;
    } catch (error) {
      if (isDenied(error)) {
        throw new TemporalSetupError(
          `Temporal has no namespace "${namespace}", and this connection may not create one. ` +
            `Have it created with a retention of ${wantedDays} days, or configure temporal.namespace.`,
          { cause: error },
        );
      }
      if (grpcCode(error) !== GRPC_ALREADY_EXISTS) throw error;
    }
    currentDays = await poll(10_000, () => retentionDaysOf(connection, namespace));
    if (currentDays === undefined) throw new TemporalSetupError(`Namespace "${namespace}" did not appear within 10 s.`);
  }
  if (currentDays < wantedDays) {
    try {
      await service.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl: retention } });
      currentDays = wantedDays;
    } catch (error) {
      // Where others administer the namespace its retention is theirs to choose; the caller can tell from the result.
      if (!isDenied(error)) throw error;
    }
  }
  // Describe reads the database, everything else a cache that is refreshed every few seconds.
  const usable = await poll(30_000, async () => {
    try {
      await service.countWorkflowExecutions({ namespace, query: '' });
      return true;
    } catch (error) {
      if (grpcCode(error) === GRPC_NOT_FOUND) return undefined;
      throw error;
    }
  });
  if (usable === undefined) throw new TemporalSetupError(`Namespace "${namespace}" is not usable after 30 s.`);
  return { created, retentionDays: currentDays };
}

/**
 * Makes sure that Lethe's search attributes exist in the namespace, and returns when workflows may use them.
 *
 * @returns the names that had to be added; none the second time
 * @throws TemporalSetupError when one exists with another type, or when adding needs rights that this connection lacks.
 */
export async function ensureSearchAttributes(
  connection: Connection,
  namespace: string = DEFAULT_NAMESPACE,
): Promise<{ readonly added: readonly string[] }> {
  let existing: Readonly<Record<string, number>>;
  try {
    existing = (await connection.operatorService.listSearchAttributes({ namespace })).customAttributes;
  } catch (error) {
    if (!isDenied(error)) throw error;
    // Temporal Cloud manages them elsewhere, and does not list them here; a query still shows whether they are there.
    if (await areUsable(connection, namespace)) return { added: [] };
    throw missingAttributes(namespace, LETHE_SEARCH_ATTRIBUTES, error);
  }
  const wrong = LETHE_SEARCH_ATTRIBUTES.filter(
    ({ name, type }) => existing[name] !== undefined && existing[name] !== INDEXED_VALUE_TYPE[type],
  );
  if (wrong.length > 0) {
    throw new TemporalSetupError(
      `In namespace "${namespace}" these search attributes have another type than Lethe's: ` +
        `${wrong.map(({ name, type }) => `${name} (needs ${type})`).join(', ')}. Use a namespace of its own for Lethe.`,
    );
  }
  const missing = LETHE_SEARCH_ATTRIBUTES.filter(({ name }) => existing[name] === undefined);
  if (missing.length > 0) {
    try {
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing.map(({ name, type }) => [name, INDEXED_VALUE_TYPE[type]])),
      });
    } catch (error) {
      if (isDenied(error)) throw missingAttributes(namespace, missing, error);
      // Another process may have added them since we looked: the wait below decides.
      if (grpcCode(error) !== GRPC_ALREADY_EXISTS) throw error;
    }
  }

  const usable = await poll(30_000, async () => ((await areUsable(connection, namespace)) ? true : undefined));
  if (usable === undefined) {
    throw new TemporalSetupError(`The search attributes of namespace "${namespace}" are not usable after 30 s.`);
  }
  return { added: missing.map(({ name }) => name) };
}

type Duration = NonNullable<
  temporal.api.workflowservice.v1.IRegisterNamespaceRequest['workflowExecutionRetentionPeriod']
>;

async function retentionDaysOf(connection: Connection, namespace: string): Promise<number | undefined> {
  try {
    const { config } = await connection.workflowService.describeNamespace({ namespace });
    return Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) / DAY_SECONDS;
  } catch (error) {
    if (grpcCode(error) === GRPC_NOT_FOUND) return undefined;
    throw error;
  }
}

/** New attributes reach the server's parts one after the other; a query that names them all is refused until then. */
async function areUsable(connection: Connection, namespace: string): Promise<boolean> {
  const query = LETHE_SEARCH_ATTRIBUTES.map(({ name }) => `${name} is null`).join(' and ');
  try {
    await connection.workflowService.countWorkflowExecutions({ namespace, query });
    return true;
  } catch (error) {
    if (grpcCode(error) === GRPC_INVALID_ARGUMENT) return false;
    throw error;
  }
}

function missingAttributes(
  namespace: string,
  missing: typeof LETHE_SEARCH_ATTRIBUTES,
  cause: unknown,
): TemporalSetupError {
  return new TemporalSetupError(
    `This connection may not manage the search attributes of namespace "${namespace}". ` +
      `Have these created: ${missing.map(({ name, type }) => `${name} (${type})`).join(', ')}.`,
    { cause },
  );
}

function grpcCode(error: unknown): number | undefined {
  return isGrpcServiceError(error) ? error.code : undefined;
}

function isDenied(error: unknown): boolean {
  const code = grpcCode(error);
  return code === GRPC_PERMISSION_DENIED || code === GRPC_UNIMPLEMENTED;
}

/** Asks every 100 ms until there is an answer; undefined when `timeoutMs` passed without one. */
async function poll<T>(timeoutMs: number, ask: () => Promise<T | undefined>): Promise<T | undefined> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined || Date.now() > deadline) return answer;
    await sleep(100);
  }
}

/** Waits for the health check; answers what went wrong, or undefined. */
async function waitUntilServing(
  address: string,
  exited: Promise<LocalServerExit>,
  timeoutMs: number,
): Promise<string | undefined> {
  let end: LocalServerExit | undefined;
  void exited.then((found) => (end = found));
  const deadline = Date.now() + timeoutMs;
  const ended = () => end !== undefined && `ended at once (${end.signal ?? `exit code ${end.code}`})`;
  const late = `was not serving after ${timeoutMs / 1000} s`;
  // A gRPC channel that fails its first attempt backs off for a second: open it only when somebody listens.
  while (!(await isListening(address))) {
    const reason = ended();
    if (reason !== false) return reason;
    if (Date.now() > deadline) return late;
    await sleep(25);
  }
  const connection = Connection.lazy({ address });
  try {
    while (Date.now() < deadline) {
      const reason = ended();
      if (reason !== false) return reason;
      try {
        const { status } = await connection.withDeadline(Date.now() + 2_000, () =>
          connection.healthService.check({ service: 'temporal.api.workflowservice.v1.WorkflowService' }),
        );
        if (status === SERVING && ended() === false) return undefined;
      } catch {
        // it listens before it serves
      }
      await sleep(25);
    }
    return late;
  } finally {
    await connection.close();
  }
}

/** Answers the port; 0 stands for a free one of the system's choice. */
async function bindBriefly(ip: string, port: number): Promise<number> {
  return await new Promise((settle, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, ip, () => {
      const address = server.address();
      server.close(() => settle(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** Older CLIs on PATH refuse the flag; they also have no news feed. */
function newsFlag(binary: TemporalBinary): string[] {
  const [major = 0, minor = 0] = binary.serverVersion.split('.').map(Number);
  return major > 1 || minor >= 31 ? ['--ui-disable-news-fetch'] : [];
}

/** Ends the server when this process is gone. */
function watchOver(child: ChildProcess, pid: number): { dismiss(): void } {
  const stopOnExit = () => void child.kill('SIGTERM');
  process.once('exit', stopOnExit);
  if (process.platform === 'win32') return { dismiss: () => process.removeListener('exit', stopOnExit) };

  // `read` returns when the pipe closes, which the kernel does for us even after SIGKILL. A line means: dismissed.
  const watchdog = spawn(
    '/bin/sh',
    ['-c', 'read -r line || kill -TERM "$1" 2>/dev/null', 'lethe-watchdog', String(pid)],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    },
  );
  watchdog.once('error', () => undefined);
  watchdog.stdin.once('error', () => undefined);
  // Only the server itself keeps this process running, not its watchdog.
  watchdog.unref();
  (watchdog.stdin as unknown as { unref?: () => void }).unref?.();
  return {
    dismiss: () => {
      process.removeListener('exit', stopOnExit);
      watchdog.stdin.end('dismissed\n');
    },
  };
}

function holderFile(dbFile: string): string {
  return `${dbFile}.server.json`;
}

async function waitUntilUnused(dbFile: string): Promise<void> {
  const holder = readHolder(dbFile);
  if (holder === undefined) return;
  // A server whose parent was just killed is about to end; one that stays is somebody's.
  const free = await poll(isAlive(holder.parent) ? 0 : 12_000, () =>
    Promise.resolve(isServerOf(holder.pid, dbFile) ? undefined : true),
  );
  if (free === undefined) throw new DatabaseInUseError(dbFile, holder.pid, holder.address);
}

function readHolder(dbFile: string): { pid: number; address: string; parent: number } | undefined {
  try {
    const { pid, address, parent } = JSON.parse(readFileSync(holderFile(dbFile), 'utf8')) as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof address !== 'string' || typeof parent !== 'number') return undefined;
    return { pid, address, parent };
  } catch {
    return undefined;
  }
}

/** Process ids are reused, so the command line must name the file too. */
function isServerOf(pid: number, dbFile: string): boolean {
  if (!isAlive(pid)) return false;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dbFile);
  } catch {
    const { stdout } = spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
    // No way to tell (no /proc, no ps): assume the worst, the message says how to go on.
    return typeof stdout === 'string' ? stdout.includes(dbFile) : true;
  }
}
