import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { PythonEnvironment } from './python-server.ts';

const WRITER = fileURLToPath(new URL('../python/write_spans.py', import.meta.url));

/** A span as OpenTelemetry's exporter takes it. */
export interface SpanToWrite {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  /** Default: none, it is the root. */
  readonly parentId?: string | null;
  readonly name?: string;
  /** Epoch milliseconds. */
  readonly startMs: number;
  readonly endMs?: number;
  readonly attributes?: Readonly<Record<string, string | number | readonly string[]>>;
  /** Where Phoenix is to keep it. Default: its default project. */
  readonly project?: string;
}

export function newTraceId(): string {
  return randomBytes(16).toString('hex');
}

export function newSpanId(): string {
  return randomBytes(8).toString('hex');
}

/** OpenTelemetry's own exporter, in a process that is started once. */
export class SpanWriter {
  readonly #child;
  readonly #lines: AsyncIterator<string>;
  #errors = '';
  #last: Promise<unknown> = Promise.resolve();

  /** @param url of the server, without the path of its traces. */
  constructor(environment: PythonEnvironment, url: string) {
    this.#child = spawn(environment.python, [WRITER, url], { stdio: 'pipe' });
    this.#child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.#errors = (this.#errors + chunk).slice(-5000);
    });
    this.#child.stdin.on('error', () => undefined);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /**
   * Hands spans over in one message. That they were accepted is all that is known then.
   *
   * @param headers of the message, besides those that the exporter sends.
   */
  write(spans: readonly SpanToWrite[], headers: Readonly<Record<string, string>> = {}): Promise<void> {
    // One after the other: answers carry no name.
    const done = this.#last.then(async () => {
      this.#child.stdin.write(`${JSON.stringify({ spans, headers })}\n`);
      const line = await this.#lines.next();
      if (line.done === true) throw new Error(`the exporter ended: ${this.#errors}`);
      if (!(JSON.parse(line.value) as { ok: boolean }).ok) throw new Error('the server did not accept spans');
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await ended;
  }
}
