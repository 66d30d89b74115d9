import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';

const fileSchema = z.object({ why: z.string(), at: z.string() });

/** Where the switch of a connection is kept: beside the records, so that a restart of the worker does not reset it. */
export function killSwitchFile(stateDir: string, connection: string): string {
  return join(stateDir, 'switches', `${connection}.json`);
}

/**
 * Stops a connection's deletes (P19), over restarts too, until somebody has found out why and says so: `lethe
 * allow-deletes`. Kept in a file, because a supervisor that restarts a worker explains nothing.
 */
export class KillSwitch {
  readonly #file: string | null;
  #why: string | null = null;

  /** @param file from `killSwitchFile`; null keeps it in memory only. */
  constructor(file: string | null = null) {
    this.#file = file;
  }

  /** Why it tripped, or null. A file that can't be read counts as tripped. */
  get tripped(): string | null {
    if (this.#file === null) return this.#why;
    if (!existsSync(this.#file)) {
      // Somebody has allowed deletes again; what could not be written down stays.
      return this.#why;
    }
    try {
      return fileSchema.parse(JSON.parse(readFileSync(this.#file, 'utf8'))).why;
    } catch {
      return 'for a reason that cannot be read';
    }
  }

  /** @param why for the operator, without ids or values. The first reason stays. */
  trip(why: string): void {
    if (this.tripped !== null) return;
    if (this.#file === null) {
      this.#why = why;
      return;
    }
    try {
      mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
      const handle = openSync(this.#file, 'wx', 0o600);
      try {
        writeSync(handle, `${JSON.stringify({ why, at: new Date().toISOString() })}\n`);
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
    } catch {
      // A full disk must not leave deletes on.
      if (!existsSync(this.#file)) this.#why = why;
    }
  }

  /**
   * Allows deletes again; why they were stopped, and who explained it, stays beside the records.
   *
   * @returns why it had tripped, or null when it had not.
   */
  reset(by: string, reason: string): string | null {
    const why = this.tripped;
    this.#why = null;
    if (this.#file === null || !existsSync(this.#file)) return why;
    const at = new Date().toISOString();
    const explained = this.#file.replace(/\.json$/, `.explained-${at.replaceAll(':', '')}.json`);
    const handle = openSync(explained, 'wx', 0o600);
    try {
      writeSync(handle, `${JSON.stringify({ why, explainedAt: at, by, reason })}\n`);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    rmSync(this.#file);
    return why;
  }
}
