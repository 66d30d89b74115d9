import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROBE = fileURLToPath(new URL('./probe.ts', import.meta.url));

/** What a process cost so far; null where the system does not tell. */
export interface Cost {
  readonly residentBytes: number | null;
  /** Largest resident size since its start, or since `forgetPeak`. */
  readonly peakBytes: number | null;
  /** User and system time. */
  readonly cpuSeconds: number | null;
}

/** What the probe inside a process saw; see `probe.ts`. */
export interface Probe {
  /** The longest that anything else had to wait for its turn, milliseconds. */
  readonly mostBlockedMs: number;
  readonly peakHeapBytes: number;
}

/** A Node process of its own, so that what it costs is its own. */
export class MeasuredProcess {
  readonly pid: number;
  /** The line that told that it is ready. */
  readonly greeting: string;
  private readonly child: ChildProcess;
  private probe: Probe | null = null;

  private constructor(child: ChildProcess, pid: number, greeting: string) {
    this.child = child;
    this.pid = pid;
    this.greeting = greeting;
    child.on('message', (message) => {
      this.probe = message as Probe;
    });
  }

  /**
   * @param script path of a TypeScript file.
   * @param isReady looked for in every line that the process writes, to stdout or stderr.
   */
  static async start(
    script: string,
    options: {
      readonly args?: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
      readonly isReady: (line: string) => boolean;
    },
  ): Promise<MeasuredProcess> {
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--import', PROBE, script, ...(options.args ?? [])],
      { env: { ...process.env, NODE_OPTIONS: '', ...options.env }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
    );
    const lines: string[] = [];
    const greeting = await new Promise<string>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        if (stream === null) continue;
        createInterface({ input: stream }).on('line', (line) => {
          if (options.isReady(line)) resolve(line);
          else if (lines.push(line) > 20) lines.shift();
        });
      }
      child.once('error', reject);
      child.once('exit', (code) => {
        reject(new Error(`${script} ended with ${code}: ${lines.join('\n')}`));
      });
    });
    if (child.pid === undefined) throw new Error(`${script} did not start`);
    return new MeasuredProcess(child, child.pid, greeting);
  }

  /** From now on the peaks count: starting up says nothing about the work. */
  begin(): void {
    this.child.send('begin');
    forgetPeak(this.pid);
  }

  cost(): Cost {
    return costOf(this.pid);
  }

  /** Asks it to end and waits for it. */
  async stop(): Promise<Probe | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.probe;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await exited;
    clearTimeout(killer);
    return this.probe;
  }
}

/** Kernel ticks in a second, as /proc counts them on every Linux that Node runs on. */
const TICKS = 100;

/** Of any process; on systems without /proc all null. */
export function costOf(pid: number): Cost {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const bytes = (field: string): number =>
      1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
    // The second field is the command in parentheses and may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      residentBytes: bytes('VmRSS'),
      peakBytes: bytes('VmHWM'),
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS,
    };
  } catch {
    return { residentBytes: null, peakBytes: null, cpuSeconds: null };
  }
}

/**
 * Lets a process, all its threads and what they start from now on run on these cores only.
 *
 * @param cores as `taskset` takes them: `0`, or `0-3`.
 * @returns whether the system could.
 */
export function pinTo(pid: number, cores: string): boolean {
  return spawnSync('taskset', ['-acp', cores, String(pid)], { stdio: 'ignore' }).status === 0;
}

/** Makes the peak of a process begin again at what it holds now, where the system can. */
export function forgetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // The peak then counts from the start of the process.
  }
}
