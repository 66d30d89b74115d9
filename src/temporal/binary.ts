import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { chmod, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

// Node built-ins only: the set-up scripts run this file to answer "is there a server binary?" in a few milliseconds.

/** The Temporal CLI that Lethe is built and tested with. */
const TEMPORAL_CLI_VERSION = '1.8.2';

/** The server inside that CLI. A database file is only good for the server version that made it. */
export const TEMPORAL_SERVER_VERSION = '1.31.2';

/** The oldest Go toolchain that compiles {@link TEMPORAL_CLI_VERSION}. */
const GO_VERSION = '1.26.4';

/** Where a binary came from, in the order in which the places are tried. */
export type TemporalBinarySource = 'environment' | 'path' | 'cache' | 'download' | 'build';

/** An executable Temporal CLI. */
export interface TemporalBinary {
  readonly path: string;
  readonly source: TemporalBinarySource;
  /** Version of the server inside, e.g. `1.31.2`. */
  readonly serverVersion: string;
}

export interface ResolveTemporalBinaryOptions {
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /**
   * Whether the SDK's downloader may be asked when no binary is at hand.
   * @default true, unless LETHE_TEMPORAL_DOWNLOAD is `never`
   */
  readonly allowDownload?: boolean;
  /**
   * Whether the binary may be compiled with Go (some ten minutes, once) when nothing else worked.
   * @default true
   */
  readonly allowBuild?: boolean;
  /**
   * How long the downloader may go without a sign of progress.
   * @default 15_000
   */
  readonly downloadStallMs?: number;
  /**
   * Called with one line for every slow or surprising step; never for the usual quick case.
   * @default writes to stderr
   */
  readonly log?: (line: string) => void;
}

/** Thrown when no Temporal binary is at hand and none can be made. The message lists every way out. */
export class TemporalBinaryError extends Error {
  override readonly name = 'TemporalBinaryError';
  /** Each place that was tried, and why it did not serve. */
  readonly attempts: readonly string[];

  constructor(attempts: readonly string[]) {
    super(
      [
        'No Temporal server is at hand, and none could be fetched or built.',
        'Tried:',
        ...attempts.map((attempt) => `  - ${attempt}`),
        'Any one of these helps:',
        '  - point Lethe at a running server: TEMPORAL_ADDRESS=host:7233 (or temporal.address in lethe.yaml)',
        '  - install the Temporal CLI, so that `temporal` is on PATH, or name it: TEMPORAL_CLI_PATH=/path/to/temporal',
        `  - install Go ${GO_VERSION} or newer and run again: the CLI is then built from source, once, in about 10 minutes`,
        '  - allow this machine to reach temporal.download or a Go module proxy (GOPROXY)',
      ].join('\n'),
    );
    this.attempts = attempts;
  }
}

/** Thrown when TEMPORAL_ADDRESS names a server that does not answer: starting another one would hide the mistake. */
export class TemporalUnreachableError extends Error {
  override readonly name = 'TemporalUnreachableError';
  readonly address: string;

  constructor(address: string) {
    super(
      `No Temporal server answers at ${address} (from TEMPORAL_ADDRESS). ` +
        'Start it, correct the address, or unset TEMPORAL_ADDRESS to let Lethe start a local server.',
    );
    this.address = address;
  }
}

/** Either a server that runs already or a binary to start one with. */
export type TemporalSource =
  { readonly kind: 'address'; readonly address: string } | { readonly kind: 'binary'; readonly binary: TemporalBinary };

/**
 * Finds a Temporal server: a running one at TEMPORAL_ADDRESS or at the configured address, else a binary.
 *
 * @throws TemporalUnreachableError when TEMPORAL_ADDRESS is set and nothing answers there. A configured address that
 *   does not answer is no error: it is where a local server would be started.
 * @throws TemporalBinaryError when there is no binary either.
 */
export async function resolveTemporal(
  options: ResolveTemporalBinaryOptions & { readonly address?: string | undefined } = {},
): Promise<TemporalSource> {
  const fromEnvironment = nonEmpty((options.env ?? process.env)['TEMPORAL_ADDRESS']);
  const address = fromEnvironment ?? options.address;
  if (address !== undefined) {
    if (await isListening(address)) return { kind: 'address', address };
    if (fromEnvironment !== undefined) throw new TemporalUnreachableError(fromEnvironment);
  }
  return { kind: 'binary', binary: await resolveTemporalBinary(options) };
}

/**
 * Finds or makes a Temporal CLI: the one named by TEMPORAL_CLI_PATH, `temporal` on PATH, the cached one, the SDK's
 * downloader, a build from source. What is downloaded or built goes into `${XDG_CACHE_HOME:-~/.cache}/lethe/` under a
 * name with its version, by a rename, so that an interrupted run leaves no half binary.
 *
 * @throws TemporalBinaryError when none of them works, or when TEMPORAL_CLI_PATH names something that is no Temporal CLI.
 */
export async function resolveTemporalBinary(options: ResolveTemporalBinaryOptions = {}): Promise<TemporalBinary> {
  const env = options.env ?? process.env;
  const log = options.log ?? ((line: string) => void process.stderr.write(`${line}\n`));
  const attempts: string[] = [];

  const named = nonEmpty(env['TEMPORAL_CLI_PATH']);
  if (named !== undefined) {
    const probe = probeBinary(named);
    if (probe.ok) return { path: named, source: 'environment', serverVersion: probe.serverVersion };
    // The operator chose this one; falling back to another version in silence would be worse than stopping.
    throw new TemporalBinaryError([`TEMPORAL_CLI_PATH=${named}: ${probe.reason}`]);
  }

  const onPath = findOnPath('temporal', env);
  if (onPath === undefined) {
    attempts.push('`temporal` on PATH: not found');
  } else {
    const probe = probeBinary(onPath);
    if (probe.ok) return { path: onPath, source: 'path', serverVersion: probe.serverVersion };
    attempts.push(`${onPath} on PATH: ${probe.reason}`);
  }

  const cached = cachedTemporalPath(env);
  if (isExecutable(cached)) return { path: cached, source: 'cache', serverVersion: TEMPORAL_SERVER_VERSION };
  attempts.push(`${cached}: not there yet`);

  mkdirSync(dirname(cached), { recursive: true });
  const release = await takeLock(`${cached}.lock`, log);
  try {
    if (isExecutable(cached)) return { path: cached, source: 'cache', serverVersion: TEMPORAL_SERVER_VERSION };

    await removeLeftovers(cached);
    if (options.allowDownload ?? env['LETHE_TEMPORAL_DOWNLOAD'] !== 'never') {
      const reason = await download(cached, env, options.downloadStallMs ?? 15_000, log);
      if (reason === undefined) return { path: cached, source: 'download', serverVersion: TEMPORAL_SERVER_VERSION };
      attempts.push(`downloading from temporal.download: ${reason}`);
    } else {
      attempts.push('downloading: switched off');
    }

    if (options.allowBuild ?? true) {
      const reason = await build(cached, env, log);
      if (reason === undefined) return { path: cached, source: 'build', serverVersion: TEMPORAL_SERVER_VERSION };
      attempts.push(`building with Go: ${reason}`);
    } else {
      attempts.push('building with Go: not in this command (`npm run temporal:build` does it)');
    }
  } finally {
    release();
  }
  throw new TemporalBinaryError(attempts);
}

/** Path that a downloaded or built binary has in the cache, whether it is there or not. */
export function cachedTemporalPath(env: NodeJS.ProcessEnv = process.env): string {
  const cacheHome = nonEmpty(env['XDG_CACHE_HOME']) ?? join(homedir(), '.cache');
  return join(cacheHome, 'lethe', `temporal-${TEMPORAL_CLI_VERSION}${process.platform === 'win32' ? '.exe' : ''}`);
}

/** Whether something accepts TCP connections at `host:port` within `timeoutMs`. Says nothing about what it is. */
export async function isListening(address: string, timeoutMs = 2_000): Promise<boolean> {
  const match = /^(?:\w+:\/\/)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(address);
  if (match?.[1] === undefined) return false;
  const host = match[1].replace(/^\[|\]$/g, '');
  const port = Number(match[2] ?? 7233);
  return await new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => settle(false));
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}

function probeBinary(path: string): { ok: true; serverVersion: string } | { ok: false; reason: string } {
  if (!existsSync(path)) return { ok: false, reason: 'no such file' };
  if (!isExecutable(path)) return { ok: false, reason: 'not executable' };
  // 20 s: on a cold disk the first read of the 140 MB alone takes seconds.
  const run = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 });
  if (run.error !== undefined) return { ok: false, reason: `does not run (${run.error.message})` };
  const version = /Server (\d+\.\d+\.\d+\S*?)[,)]/.exec(run.stdout);
  if (version?.[1] === undefined) return { ok: false, reason: '`--version` does not answer like a Temporal CLI' };
  return { ok: true, serverVersion: version[1] };
}

/**
 * Lets the SDK's own downloader fetch the pinned version, in a process of its own: the native library gives no way to
 * stop a download, and using it here would fix this process's SDK logging options before the worker can set them.
 */
async function download(
  target: string,
  env: NodeJS.ProcessEnv,
  stallMs: number,
  log: (line: string) => void,
): Promise<string | undefined> {
  const started = Date.now();
  log(`Fetching the Temporal CLI ${TEMPORAL_CLI_VERSION} (about 50 MB, once; usually under a minute) ...`);
  const directory = await mkdtemp(`${target}.download-`);
  try {
    // The extension of this file tells whether we run from source (.ts) or from the published package (.js).
    const script = join(dirname(fileURLToPath(import.meta.url)), `download${extname(import.meta.url)}`);
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', script, directory, TEMPORAL_CLI_VERSION],
      { stdio: ['ignore', 'ignore', 'pipe'], env, detached: process.platform !== 'win32' },
    );
    const stopOnExit = () => killGroup(child);
    process.once('exit', stopOnExit);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr = (stderr + chunk).slice(-4_000)));
    const ended = exitOf(child);

    let size = 0;
    let lastProgress = Date.now();
    for (;;) {
      const code = await Promise.race([ended, sleep(250, 'running' as const)]);
      if (code !== 'running') break;
      const now = await largestFile(directory);
      if (now.size > size) {
        size = now.size;
        lastProgress = Date.now();
      } else if (Date.now() - lastProgress > stallMs) {
        killGroup(child);
        break;
      }
    }
    const code = await ended;
    process.removeListener('exit', stopOnExit);
    const file = await largestFile(directory);
    if (code !== 0 || file.path === undefined || file.path.endsWith('.downloading')) {
      const reason = (stderr.trim().split('\n').at(-1) ?? '').slice(0, 300);
      const answer = code === 0 || reason === '' ? `no answer for ${stallMs / 1000} s` : reason;
      log(`  not fetched: ${answer}`);
      return answer;
    }
    await chmod(file.path, 0o755);
    await rename(file.path, target);
    log(`Temporal CLI ${TEMPORAL_CLI_VERSION} fetched in ${seconds(started)} s.`);
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What an interrupted download or build left beside `target`. Call it with the lock held. */
async function removeLeftovers(target: string): Promise<void> {
  const directory = dirname(target);
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (path.startsWith(`${target}.download-`) || path.startsWith(`${target}.build-`)) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

async function largestFile(directory: string): Promise<{ path: string | undefined; size: number }> {
  let best: { path: string | undefined; size: number } = { path: undefined, size: -1 };
  for (const name of await readdir(directory).catch(() => [])) {
    const path = join(directory, name);
    const size = await stat(path).then(
      (found) => found.size,
      () => -1,
    );
    if (size > best.size) best = { path, size };
  }
  return best;
}

/** Compiles the pinned CLI from tools/temporal-cli, whose go.sum fixes every source file. Needs no C compiler. */
async function build(target: string, env: NodeJS.ProcessEnv, log: (line: string) => void): Promise<string | undefined> {
  let go = findOnPath('go', env);
  if (go === undefined) return '`go` is not on PATH';
  const moduleDirectory = fileURLToPath(new URL('../../tools/temporal-cli/', import.meta.url));
  if (!existsSync(join(moduleDirectory, 'go.mod'))) return `${moduleDirectory} is missing`;

  const goEnv: NodeJS.ProcessEnv = { ...env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' };
  const outside = { encoding: 'utf8', cwd: dirname(target), env: goEnv } as const;
  const version = spawnSync(go, ['env', 'GOVERSION'], outside);
  let installed = version.status === 0 ? /^go(\d+\.\d+(?:\.\d+)?)/.exec(version.stdout)?.[1] : undefined;
  if (installed === undefined) return `${go} does not run`;
  if (isAtLeast(installed, GO_VERSION)) {
    // fine as it is
  } else if (isAtLeast(installed, '1.21')) {
    // From 1.21 on Go fetches the toolchain that a go.mod asks for by itself, unless told to stay local.
    goEnv['GOTOOLCHAIN'] = 'auto';
  } else {
    // Older ones (Debian 12 has 1.19) can download that same toolchain as the module it is, checksum verified.
    log(`Fetching Go ${GO_VERSION}, since Go ${installed} cannot compile the Temporal CLI (70 MB, once) ...`);
    const toolchain = downloadToolchain(go, outside);
    if (typeof toolchain === 'string') return toolchain;
    go = toolchain.go;
    installed = GO_VERSION;
    goEnv['GOROOT'] = toolchain.root;
    goEnv['GOTOOLCHAIN'] = 'local';
  }

  const started = Date.now();
  log(
    `Building the Temporal CLI ${TEMPORAL_CLI_VERSION} from source with Go ${installed} ` +
      '(once; usually 5 to 12 minutes on two cores, up to 2 GB of memory) ...',
  );
  const temporary = `${target}.build-${randomUUID().slice(0, 8)}`;
  try {
    log('  step 1 of 2: fetching the sources (1 to 2 minutes)');
    const fetched = await runGo(go, ['mod', 'download'], moduleDirectory, goEnv, undefined);
    if (fetched !== undefined) return `fetching the sources failed: ${fetched}`;
    const list = spawnSync(go, ['list', '-deps', 'github.com/temporalio/cli/cmd/temporal'], {
      encoding: 'utf8',
      cwd: moduleDirectory,
      env: goEnv,
      maxBuffer: 16 << 20,
    });
    if (list.status !== 0) return `listing the sources failed: ${list.stderr.slice(-1_000)}`;
    const packages = list.stdout.trim().split('\n').length;

    log(`  step 2 of 2: compiling ${packages} packages`);
    let compiled = 0;
    let lastLine = Date.now();
    const failed = await runGo(
      go,
      [
        'build',
        '-v',
        '-trimpath',
        '-buildvcs=false',
        '-ldflags',
        `-s -w -X github.com/temporalio/cli/internal/temporalcli.Version=${TEMPORAL_CLI_VERSION}`,
        '-o',
        temporary,
        'github.com/temporalio/cli/cmd/temporal',
      ],
      moduleDirectory,
      goEnv,
      () => {
        compiled += 1;
        if (Date.now() - lastLine < 20_000) return;
        lastLine = Date.now();
        log(`  compiled ${compiled} of ${packages} packages, ${seconds(started)} s`);
      },
    );
    if (failed !== undefined) return failed;
    await rename(temporary, target);
    log(`Temporal CLI ${TEMPORAL_CLI_VERSION} built in ${seconds(started)} s.`);
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    await rm(temporary, { force: true });
  }
}

function downloadToolchain(
  go: string,
  options: { readonly encoding: 'utf8'; readonly cwd: string; readonly env: NodeJS.ProcessEnv },
): { go: string; root: string } | string {
  const platform = spawnSync(go, ['env', 'GOOS', 'GOARCH'], options).stdout.trim().split('\n').join('-');
  const module = `golang.org/toolchain@v0.0.1-go${GO_VERSION}.${platform}`;
  const run = spawnSync(go, ['mod', 'download', '-json', module], { ...options, env: { ...options.env, GOFLAGS: '' } });
  const root = /"Dir": "([^"]+)"/.exec(run.stdout)?.[1];
  if (run.status !== 0 || root === undefined) return `Go ${GO_VERSION} could not be fetched: ${run.stderr.slice(-500)}`;
  // Files in the module cache are not executable.
  for (const directory of [join(root, 'bin'), join(root, 'pkg', 'tool')]) {
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) chmodSync(join(entry.parentPath, entry.name), 0o755);
    }
  }
  return { go: join(root, 'bin', 'go'), root };
}

/** Runs go; answers undefined, or the end of what it said. `onLine` sees each line of stderr, where `-v` reports. */
async function runGo(
  go: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
  onLine: (() => void) | undefined,
): Promise<string | undefined> {
  const child = spawn(go, args, { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
  const stopOnExit = () => void child.kill();
  process.once('exit', stopOnExit);
  const tail: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    onLine?.();
    tail.push(line);
    if (tail.length > 8) tail.shift();
  });
  const code = await exitOf(child);
  process.removeListener('exit', stopOnExit);
  return code === 0 ? undefined : tail.join('\n    ').slice(-1_000) || `go ${args[0] ?? ''} failed`;
}

/**
 * Holds back a second process that would download or build the same file. The lock is a file with the holder's pid, so
 * a holder that was killed does not block anybody.
 */
async function takeLock(path: string, log: (line: string) => void): Promise<() => void> {
  let told = false;
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      const release = () => rmSync(path, { force: true });
      process.once('exit', release);
      return () => {
        process.removeListener('exit', release);
        release();
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (!isAlive(readPid(path)) && ageMs(path) > 1_000) {
      rmSync(path, { force: true });
      continue;
    }
    if (!told) log('Waiting for another process that is getting the Temporal CLI ...');
    told = true;
    await sleep(500);
  }
}

function readPid(path: string): number {
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

/** Whether a process with this id exists. */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    // The downloader may have started a server of its own, in its group.
    if (process.platform === 'win32') child.kill('SIGKILL');
    else process.kill(-child.pid, 'SIGKILL');
  } catch {
    // already gone
  }
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  return await new Promise((resolve) => {
    child.once('error', () => resolve(-1));
    child.once('close', (code) => resolve(code));
  });
}

function findOnPath(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const file = process.platform === 'win32' ? `${name}.exe` : name;
  return (env['PATH'] ?? '')
    .split(delimiter)
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, file))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function isAtLeast(version: string, wanted: string): boolean {
  const have = version.split('.').map(Number);
  const need = wanted.split('.').map(Number);
  for (let i = 0; i < need.length; i += 1) {
    const difference = (have[i] ?? 0) - (need[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === undefined || value.trim() === '' ? undefined : value;
}

function seconds(sinceMs: number): number {
  return Math.round((Date.now() - sinceMs) / 1000);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
