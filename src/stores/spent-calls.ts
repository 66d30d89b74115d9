import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';

const blockSchema = z.strictObject({ calls: z.int().min(1), endedMs: z.number().nullable() });
const fileSchema = z.strictObject({ blocks: z.array(blockSchema) });

/**
 * Into so many blocks a span's calls are divided. More make more writes; fewer cost more when a worker ends, since what
 * is left of a block counts as spent.
 */
const BLOCKS = 50;

/** Where the calls of a connection's day are kept: beside its kill switch, so that a restart does not forget them. */
export function spentCallsFile(stateDir: string, connection: string): string {
  return join(stateDir, 'quotas', `${connection}.json`);
}

/** Calls that were written down together, before the first of them left. */
interface Block {
  readonly calls: number;
  taken: number;
  underWay: number;
  /** When the latest of its calls ended, virtual epoch milliseconds; null: none has. */
  endedMs: number | null;
}

/**
 * Keeps in a file how many calls were made in a span that is longer than a worker may live. Calls are written down in
 * blocks and ahead, a write for every fiftieth part of the limit: whenever the process ends, the file tells of no fewer
 * calls than were made, and of one block more at most, besides those with calls under way. Only one process may use a
 * file.
 */
export class SpentCalls {
  readonly #file: string;
  readonly #limit: { readonly calls: number; readonly perMs: number };
  #blocks: Block[] = [];

  /**
   * Reads the file. A block of which no end is known counts as ended now. So does a whole span's worth of calls when the
   * file can't be read: better a day late than over the quota.
   */
  constructor(file: string, limit: { readonly calls: number; readonly perMs: number }, nowMs: number) {
    this.#file = file;
    this.#limit = limit;
    const blocks = this.#read() ?? [{ calls: limit.calls, endedMs: null }];
    this.#blocks = blocks.map(({ calls, endedMs }) => {
      // An end that is still to come was told by another clock.
      return { calls, taken: calls, underWay: 0, endedMs: Math.min(endedMs ?? nowMs, nowMs) };
    });
    // Else the next restart would count the same block from then on.
    if (blocks.some(({ endedMs }) => endedMs === null)) this.#write(nowMs);
  }

  /** For each call that the file told of, when it ended at the latest, oldest first. */
  ended(): number[] {
    return this.#blocks
      .flatMap(({ calls, endedMs }) => Array.from({ length: calls }, () => endedMs ?? 0))
      .sort((a, b) => a - b);
  }

  /**
   * Counts a call that is about to leave. It is on the disk when this returns, unless the disk takes nothing.
   *
   * @returns what must be called when it has ended.
   */
  begin(nowMs: number): (endedMs: number) => void {
    let block = this.#blocks.at(-1);
    if (block === undefined || block.taken === block.calls) {
      block = { calls: Math.ceil(this.#limit.calls / BLOCKS), taken: 0, underWay: 0, endedMs: null };
      this.#blocks.push(block);
      this.#write(nowMs);
    }
    const own = block;
    own.taken += 1;
    own.underWay += 1;
    return (endedMs) => {
      own.underWay -= 1;
      own.endedMs = endedMs;
    };
  }

  /** @returns null when there is a file that can't be read. */
  #read(): z.output<typeof fileSchema>['blocks'] | null {
    try {
      return fileSchema.parse(JSON.parse(readFileSync(this.#file, 'utf8'))).blocks;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ENOENT' || code === 'ENOTDIR' ? [] : null;
    }
  }

  #write(nowMs: number): void {
    const isOpen = ({ calls, taken, underWay }: Block): boolean => taken < calls || underWay > 0;
    this.#blocks = this.#blocks.filter((block) => isOpen(block) || (block.endedMs ?? 0) > nowMs - this.#limit.perMs);
    const blocks = this.#blocks.map((block) => ({ calls: block.calls, endedMs: isOpen(block) ? null : block.endedMs }));
    try {
      mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
      const temporary = `${this.#file}.tmp`;
      const handle = openSync(temporary, 'w', 0o600);
      try {
        writeSync(handle, `${JSON.stringify({ blocks })}\n`);
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      renameSync(temporary, this.#file);
    } catch {
      // A full disk stops no erasure: calls are counted in memory, and the next block is written again.
    }
  }
}
