// Sets a clone up: dependencies, the pinned Node and, with `--temporal`, a Temporal server binary.
//
//   node scripts/bootstrap.mjs [--temporal]
//
// Runs before anything is installed, on whatever Node the machine has: built-ins only, nothing newer than Node 18.
// Talks on stderr, and only when there is something to do.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.lethe-stamp');
const pinnedNode = join(modules, 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');

/** Arguments for every TypeScript entry point; Node 24 strips the types itself and warns about it once. */
const NODE_ARGS = ['--disable-warning=ExperimentalWarning'];

/** The oldest Node that runs our TypeScript without flags, for machines on which the pinned one does not work. */
const OLDEST_FALLBACK = [22, 18];

class SetupError extends Error {}

function say(line) {
  process.stderr.write(`lethe set-up: ${line}\n`);
}

/**
 * Makes sure that everything a command needs is there. Quick when it is: two small files are read, and one process is
 * started.
 *
 * @param {{ temporal?: boolean }} [needs]
 * @returns {Promise<string>} path of the Node to run Lethe with
 */
async function bootstrap(needs = {}) {
  await installDependencies();
  const node = chooseNode();
  if (needs.temporal === true) {
    const { status } = spawnSync(node, [...NODE_ARGS, join(root, 'scripts', 'temporal.ts')], {
      cwd: root,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    // temporal.ts has said what is wrong and what helps.
    if (status !== 0) throw new SetupError('');
  }
  return node;
}

async function installDependencies() {
  const stamp = currentStamp();
  if (isInstalled(stamp)) return;
  const release = await takeLock();
  try {
    if (isInstalled(stamp)) return;
    say('installing dependencies with npm ci (usually 20 to 60 seconds, once) ...');
    const started = Date.now();
    // Errors only: on an older Node every package that asks for a newer one would be a warning, and Lethe does not run
    // on that Node. allowScripts in package.json says which install scripts npm 11 may run.
    const status = npm(['ci', '--no-audit', '--no-fund', '--loglevel=error']);
    if (status !== 0) {
      throw new SetupError(
        'npm ci failed, see above. It needs a package registry: check the network, the proxy and `npm config get registry`.',
      );
    }
    writeFileSync(stampFile, stamp);
    say(`dependencies installed in ${Math.round((Date.now() - started) / 1000)} s.`);
  } finally {
    release();
  }
}

/** Changes when the lock does, and when the folder is mounted into another kind of machine. */
function currentStamp() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  return `${process.platform}-${process.arch} ${createHash('sha256').update(lock).digest('hex')}`;
}

function isInstalled(stamp) {
  try {
    if (readFileSync(stampFile, 'utf8') === stamp) return true;
    if (!readFileSync(stampFile, 'utf8').startsWith(`${process.platform}-${process.arch} `)) return false;
  } catch {
    // no stamp: perhaps installed by hand
  }
  if (!fitsLock()) return false;
  writeFileSync(stampFile, stamp);
  return true;
}

/** Compares npm's own record of what it installed with the lock, so that nobody waits after an `npm install`. */
function fitsLock() {
  try {
    const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
    const installed = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8')).packages;
    return Object.entries(wanted).every(([path, entry]) => {
      if (path === '') return true;
      const found = installed[path];
      if (found === undefined) return entry.optional === true && !runsHere(entry);
      return found.version === entry.version && found.integrity === entry.integrity;
    });
  } catch {
    return false;
  }
}

/** Optional packages for another platform are rightly absent; one for this platform is missing. */
function runsHere(entry) {
  if (entry.os !== undefined && !entry.os.includes(process.platform)) return false;
  if (entry.cpu !== undefined && !entry.cpu.includes(process.arch)) return false;
  if (entry.libc !== undefined && process.platform === 'linux') return entry.libc.includes(libc());
  return entry.os !== undefined || entry.cpu !== undefined;
}

function libc() {
  return process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}

/** The pinned Node; repaired when its install script was not allowed to run; else a new enough Node of the machine. */
function chooseNode() {
  if (versionOf(pinnedNode) !== undefined) return pinnedNode;
  say('the pinned Node is not usable yet; fetching it with npm rebuild (about 10 seconds) ...');
  npm(['rebuild', 'node', '--ignore-scripts=false', '--loglevel=error']);
  if (versionOf(pinnedNode) !== undefined) return pinnedNode;
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [needMajor, needMinor] = OLDEST_FALLBACK;
  if (major > needMajor || (major === needMajor && minor >= needMinor)) {
    say(`the pinned Node does not run on this machine; going on with Node ${process.versions.node}.`);
    return process.execPath;
  }
  throw new SetupError(
    `The pinned Node (npm package "node") does not run on this machine, and this one (${process.versions.node}) is too ` +
      `old. Install Node ${OLDEST_FALLBACK.join('.')} or newer and run the command again.`,
  );
}

function versionOf(node) {
  if (!existsSync(node)) return undefined;
  const { status, stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

function npm(args) {
  // Under `npm run` this is the very npm that the user called; npm's output is no result of ours, so it goes to stderr.
  const script = process.env.npm_execpath;
  const direct = script !== undefined && /npm-cli\.[cm]?js$/.test(script);
  const run = spawnSync(direct ? process.execPath : 'npm', direct ? [script, ...args] : args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: !direct && process.platform === 'win32',
  });
  if (run.error?.code === 'ENOENT') throw new SetupError('npm is not on PATH; it comes with Node.');
  return run.status;
}

/** `npm test` and `npm run demo` started together must not install into the same folder. */
async function takeLock() {
  const lock = join(root, '.lethe', 'bootstrap.lock');
  mkdirSync(dirname(lock), { recursive: true });
  for (let told = false; ;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return () => rmSync(lock, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!holderLives(lock)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!told) say('waiting for another set-up of this clone ...');
    told = true;
    await new Promise((wake) => setTimeout(wake, 500));
  }
}

function holderLives(lock) {
  try {
    const pid = Number(readFileSync(lock, 'utf8'));
    // An empty file is a lock that is just being written.
    if (pid > 0) process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/**
 * Sets up, then becomes `node ARGS`: same streams, signals passed on, same exit code. Never returns.
 *
 * @param {readonly string[]} args
 * @param {{ temporal?: boolean }} [needs]
 */
export async function run(args, needs = {}) {
  const node = await bootstrap(needs).catch(fail);
  const child = spawn(node, [...NODE_ARGS, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT']) {
    process.on(signal, () => {
      // Ctrl-C in a terminal reaches the child directly; passing it on as well would look like a second, impatient one.
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.once('error', fail);
  child.once('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // Where the signal cannot be repeated (Windows), what a shell would report.
    setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 200);
  });
}

function fail(error) {
  if (!(error instanceof SetupError)) throw error;
  if (error.message !== '') say(error.message);
  process.exit(1);
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const unknown = process.argv.slice(2).filter((argument) => argument !== '--temporal');
  if (unknown.length > 0) {
    say(`unknown argument ${unknown.join(' ')}; usage: node scripts/bootstrap.mjs [--temporal]`);
    process.exit(2);
  }
  await bootstrap({ temporal: process.argv.includes('--temporal') }).catch(fail);
}
