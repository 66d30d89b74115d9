import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cp, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive } from '../../../src/temporal/binary.ts';

/** Interpreters tried in this order. `LETHE_PYTHON` names another. */
const INTERPRETERS = ['python3', 'python'] as const;
/** Written last: an environment without it was never finished. */
const MARK = 'lethe-ready.json';
/** Longest wait for a server's first answer, milliseconds: a first start makes its database. */
const MOST_START_MS = 240_000;
/** How long a server may take to end by itself before it is killed, milliseconds. */
const MOST_STOP_MS = 20_000;
/** Ports are chosen before the server binds them: somebody else may be quicker. */
const MOST_TRIES = 3;

export interface EnvironmentOptions {
  /** Short name of the server, for instance `phoenix`. */
  readonly name: string;
  /** Packages with pinned versions, for instance `arize-phoenix==20.26.1`. The first gives the folder its version. */
  readonly packages: readonly string[];
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /** Takes one line for every slow step. @default writes to stderr */
  readonly log?: (line: string) => void;
}

/** A virtual environment with everything that was asked for. */
export interface PythonEnvironment {
  readonly directory: string;
  readonly python: string;
}

/**
 * Makes a virtual environment below `$LETHE_CACHE`, else `${XDG_CACHE_HOME:-~/.cache}/lethe`, once: later calls find it.
 * Safe when two processes ask at once. Environments can't be moved, so it grows in its place, and a mark is written last.
 *
 * @throws Error that says what to install when there is no Python, or no `venv`, or a package could not be fetched.
 */
export async function ensureEnvironment(options: EnvironmentOptions): Promise<PythonEnvironment> {
  const env = options.env ?? process.env;
  const log = options.log ?? ((line: string): void => void process.stderr.write(`${line}\n`));
  const directory = join(cacheDirectory(env), `${options.name}-${versionsOf(options.packages)}`);
  const wanted = [...options.packages].sort();
  const environment = { directory, python: join(directory, 'bin', 'python') };
  if (isReady(directory, wanted)) return environment;

  mkdirSync(directory, { recursive: true });
  const release = await takeLock(`${directory}.lock`, options.name, log);
  try {
    if (isReady(directory, wanted)) return environment;
    const started = Date.now();
    log(`Setting up ${options.name} (${wanted.join(', ')}), once; usually 1 to 5 minutes ...`);
    const python = await interpreter(env);
    rmSync(directory, { recursive: true, force: true });
    const made = await run(python, ['-m', 'venv', directory], env);
    if (made.code !== 0) {
      throw new Error(
        `${python} -m venv failed: install the venv module (on Debian: python3-venv).\n${tailOf(made.output)}`,
      );
    }
    const installed = await run(
      environment.python,
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...wanted],
      env,
    );
    if (installed.code !== 0) throw new Error(`pip could not install ${options.name}:\n${tailOf(installed.output)}`);
    writeFileSync(join(directory, MARK), JSON.stringify({ packages: wanted }));
    log(`${options.name} is set up after ${Math.round((Date.now() - started) / 1000)} s.`);
    return environment;
  } finally {
    release();
  }
}

/**
 * A folder for servers to begin with, made once and kept with the environment: what takes long to make, a migrated database
 * or many traces, is copied by all later runs. Safe when two processes ask at once.
 *
 * @param name says what is in it; another content needs another name.
 * @param make fills an empty folder, and leaves no process behind.
 */
export async function prepared(
  { directory }: PythonEnvironment,
  name: string,
  make: (directory: string) => Promise<void>,
  log: (line: string) => void = (line): void => void process.stderr.write(`${line}\n`),
): Promise<string> {
  const path = join(directory, 'prepared', name);
  if (existsSync(path)) return path;
  mkdirSync(join(directory, 'prepared'), { recursive: true });
  const release = await takeLock(`${path}.lock`, name, log);
  const growing = `${path}.growing`;
  try {
    if (existsSync(path)) return path;
    const started = Date.now();
    log(`Making the data that tests begin with (${name}), once; up to 5 minutes ...`);
    rmSync(growing, { recursive: true, force: true });
    mkdirSync(growing);
    await make(growing);
    await rename(growing, path);
    log(`${name} is there after ${Math.round((Date.now() - started) / 1000)} s.`);
    return path;
  } finally {
    rmSync(growing, { recursive: true, force: true });
    release();
  }
}

export interface ServerOptions {
  readonly name: string;
  /** How many free ports on loopback it needs. */
  readonly ports: number;
  /**
   * What to run, given its ports and a folder of its own, which is removed on close. The server must bind loopback only.
   */
  readonly command: (place: { readonly ports: readonly number[]; readonly directory: string }) => {
    readonly file: string;
    readonly args: readonly string[];
    readonly env?: NodeJS.ProcessEnv;
  };
  /** URL that answers 2xx once the server is ready. */
  readonly readyUrl: (ports: readonly number[]) => string;
  /** A folder that was used before; it is kept on close. @default a new one, removed on close. */
  readonly directory?: string;
  /** A folder whose content its own begins with, see `prepared`. @default none, it begins empty. */
  readonly from?: string;
}

/** A server running on loopback, in a process that is ours. */
export interface PythonServer {
  readonly pid: number;
  readonly ports: readonly number[];
  readonly directory: string;
  /** What it wrote so far, the last 200,000 characters. */
  log(): string;
  /** Ends the process and waits for it; keeps the folder. */
  stop(): Promise<void>;
  /** Ends the process and removes its folder if it was made for it. */
  close(): Promise<void>;
}

/**
 * Starts a server on free loopback ports and waits until it answers.
 *
 * @throws Error with the end of its log when it ends before it is ready, or is not ready in four minutes.
 */
export async function startServer(options: ServerOptions): Promise<PythonServer> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), `lethe-${options.name}-`)));
  try {
    if (options.from !== undefined) await cp(options.from, directory, { recursive: true });
    for (let tries = 1; ; tries += 1) {
      const server = await startOnce(options, directory);
      if (typeof server !== 'string') return server;
      if (tries === MOST_TRIES || !/address already in use|EADDRINUSE|Errno 98|Errno 48/i.test(server)) {
        throw new Error(`${options.name} did not start:\n${tailOf(server)}`);
      }
    }
  } catch (error) {
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** @returns the server, or its log when it ended before it was ready. */
async function startOnce(options: ServerOptions, directory: string): Promise<PythonServer | string> {
  const ports = await freePorts(options.ports);
  const { file, args, env } = options.command({ ports, directory });
  const child = spawn(file, args, {
    env: { ...process.env, PYTHONUNBUFFERED: '1', ...env },
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A server may have workers of its own: they end with its group.
    detached: true,
  });
  let text = '';
  const take = (chunk: string): void => {
    text = (text + chunk).slice(-200_000);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  child.once('error', (error) => take(String(error)));
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  });
  const hasEnded = (): boolean => child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  const killOnExit = (): void => signal(child, 'SIGKILL');
  process.once('exit', killOnExit);
  const stop = async (): Promise<void> => {
    if (!hasEnded()) {
      signal(child, 'SIGTERM');
      await Promise.race([ended, sleep(MOST_STOP_MS, undefined, { ref: false })]);
      if (!hasEnded()) signal(child, 'SIGKILL');
      await ended;
    }
    process.removeListener('exit', killOnExit);
  };

  const untilMs = Date.now() + MOST_START_MS;
  for (;;) {
    if (hasEnded()) {
      await ended;
      process.removeListener('exit', killOnExit);
      return text;
    }
    if (await answers(options.readyUrl(ports))) break;
    if (Date.now() > untilMs) {
      await stop();
      throw new Error(`${options.name} was not ready after ${MOST_START_MS / 1000} s:\n${tailOf(text)}`);
    }
    await sleep(200);
  }
  return {
    pid: child.pid ?? 0,
    ports,
    directory,
    log: () => text,
    stop,
    close: async () => {
      await stop();
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    },
  };
}

/**
 * Runs a script of ours in an environment: JSON goes in by standard input, JSON comes back by standard output.
 *
 * @throws Error with what it wrote to standard error when it fails.
 */
export async function runScript<Answer>(
  environment: PythonEnvironment,
  script: string,
  input: unknown,
  env: NodeJS.ProcessEnv = {},
): Promise<Answer> {
  const child = spawn(environment.python, [script], { env: { ...process.env, ...env }, stdio: 'pipe' });
  let out = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors = (errors + chunk).slice(-20_000)));
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify(input));
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(-1));
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`${script} ended with ${code}:\n${tailOf(errors)}`);
  return JSON.parse(out === '' ? 'null' : out) as Answer;
}

/** Ports nobody listens on, all different: held open together until the last is known. */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  try {
    for (let at = 0; at < count; at += 1) {
      const server = createServer();
      held.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
    }
    return held.map((server) => (server.address() as AddressInfo).port);
  } finally {
    await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

function cacheDirectory(env: NodeJS.ProcessEnv): string {
  const own = env['LETHE_CACHE'];
  if (own !== undefined && own !== '') return own;
  const cacheHome = env['XDG_CACHE_HOME'];
  return join(cacheHome === undefined || cacheHome === '' ? join(homedir(), '.cache') : cacheHome, 'lethe');
}

function versionsOf(packages: readonly string[]): string {
  const versions = packages.map((one) => /==([\w.+-]+)$/.exec(one)?.[1]);
  if (versions.length === 0 || versions.includes(undefined)) throw new RangeError('packages need pinned versions');
  return versions.join('-');
}

function isReady(directory: string, wanted: readonly string[]): boolean {
  const mark = join(directory, MARK);
  if (!existsSync(mark)) return false;
  const { packages } = JSON.parse(readFileSync(mark, 'utf8')) as { packages: string[] };
  return JSON.stringify(packages) === JSON.stringify(wanted);
}

async function interpreter(env: NodeJS.ProcessEnv): Promise<string> {
  const named = env['LETHE_PYTHON'];
  for (const candidate of named === undefined || named === '' ? INTERPRETERS : [named]) {
    const { code } = await run(candidate, ['-c', 'import sys; sys.exit(sys.version_info < (3, 10))'], env);
    if (code === 0) return candidate;
  }
  throw new Error(
    'Python 3.10 or newer is needed for tests against real servers: install python3, or name it in LETHE_PYTHON',
  );
}

async function run(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const take = (chunk: string): void => {
    output = (output + chunk).slice(-50_000);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      take(String(error));
      resolve(-1);
    });
    child.once('close', resolve);
  });
  return { code, output };
}

/** A file with the holder's pid, so that a holder that was killed blocks nobody. */
async function takeLock(path: string, name: string, log: (line: string) => void): Promise<() => void> {
  let told = false;
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      const release = (): void => rmSync(path, { force: true });
      process.once('exit', release);
      return () => {
        process.removeListener('exit', release);
        release();
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (!isAlive(holderOf(path)) && ageMs(path) > 1000) {
      rmSync(path, { force: true });
      continue;
    }
    if (!told) log(`Waiting for another process that is setting up ${name} ...`);
    told = true;
    await sleep(500);
  }
}

function holderOf(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8')) || 0;
  } catch {
    return 0;
  }
}

function ageMs(path: string): number {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch {
    return 0;
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000) });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false;
  }
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // Gone already.
  }
}

function tailOf(text: string): string {
  return text.split('\n').slice(-40).join('\n');
}
