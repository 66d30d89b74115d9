import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { ConfigInput } from '../../src/config/config.ts';
import type { LogLevelName } from '../../src/log.ts';

const WORKER = fileURLToPath(new URL('../../src/worker.ts', import.meta.url));

/** Writes a config as YAML, for processes of their own. @returns its path. */
export async function writeConfig(directory: string, config: ConfigInput): Promise<string> {
  const path = join(directory, 'lethe.yaml');
  await writeFile(path, stringify(config));
  return path;
}

/** A worker in a process of its own, so that it can be killed as a machine would. */
export class WorkerProcess {
  private child: ChildProcess | null = null;
  private readonly configPath: string;
  private readonly logLevel: LogLevelName;
  private readonly lines: string[] = [];

  constructor(configPath: string, logLevel: LogLevelName = 'info') {
    this.configPath = configPath;
    this.logLevel = logLevel;
  }

  /** What the workers wrote to stderr so far. */
  get log(): string {
    return this.lines.join('');
  }

  /** Resolves when the worker polls. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', WORKER], {
      env: { ...process.env, LETHE_CONFIG: this.configPath, LETHE_LOG_LEVEL: this.logLevel, NODE_OPTIONS: '' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.child = child;
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        this.lines.push(text);
        if (text.includes('serving ')) resolve();
      });
      child.once('exit', (code) => {
        reject(new Error(`the worker ended with ${code}: ${this.log}`));
      });
    });
  }

  /** SIGKILL: nothing gets a chance to finish. */
  async kill(): Promise<void> {
    const { child } = this;
    this.child = null;
    if (child === null || child.exitCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}
