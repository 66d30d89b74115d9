import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { subjectVariants } from '../erasure/owners.ts';
import type { Identifier } from '../erasure/request.ts';
import { ensureDirectory, entriesOf, isErrno, isTemporary, writeAtomically } from './files.ts';
import { subjectDigest, type Keys } from './keys.ts';

const holdSchema = z.strictObject({
  format: z.literal('lethe-hold/1'),
  holdId: z.string().regex(/^h-[0-9a-f]{12}$/),
  /** Who asked, and why; no identifier is in them. */
  by: z.string(),
  reason: z.string(),
  /** ISO 8601 in UTC. */
  at: z.iso.datetime(),
  /** When it ends, ISO 8601 in UTC; null: when somebody says so. */
  until: z.iso.datetime().nullable(),
  /** Whether it ends by itself then. */
  autoRelease: z.boolean(),
});

/** One hold on a person, whatever was asked before or is asked later. */
export type SubjectHold = z.infer<typeof holdSchema>;

export interface SubjectHoldsOptions {
  /** The state directory of the config. */
  readonly stateDir: string;
  /** Virtual epoch milliseconds now. */
  readonly now: () => number;
}

/** A file's name: the keyed digest of one spelling of one identifier, and the hold that it belongs to. */
const FILE = /^([0-9a-f]{64})\.(h-[0-9a-f]{12})\.json$/;

/**
 * Holds on people, kept in the state directory, so that they need no request and outlive every process (P27). A file for
 * each spelling of each identifier, named by its keyed digest: no identifier is written down. A file that can't be read
 * holds as one that can; a folder that can't be read holds everybody.
 */
export class SubjectHolds {
  readonly #folder: string;
  readonly #now: () => number;

  constructor(options: SubjectHoldsOptions) {
    this.#folder = join(options.stateDir, 'holds');
    this.#now = options.now;
  }

  /**
   * @param digests of every spelling that names somebody, see `subjectDigest`.
   * @returns why nothing of theirs may be deleted, without naming anybody; null: nobody is held.
   */
  async isHeld(digests: readonly string[]): Promise<string | null> {
    let names: readonly string[];
    try {
      names = this.#files();
    } catch {
      return 'the holds cannot be read, so everybody counts as held: make the folder "holds" in the state directory readable';
    }
    const wanted = new Set(digests);
    for (const name of names) {
      const [, digest = '', holdId = ''] = FILE.exec(name) ?? [];
      if (digest !== '' && !wanted.has(digest)) continue;
      if (digest === '') {
        return 'a file among the holds has a name that tells nothing, so everybody counts as held: see the folder "holds" in the state directory';
      }
      const hold = await this.#read(name);
      if (hold === null) return `the person is held (${holdId}), for a reason that cannot be read; nothing is deleted`;
      // Gone between the list and the look: it was released.
      if (hold === 'released') continue;
      const { until } = hold;
      const ended = until !== null && Date.parse(until) <= this.#now();
      if (ended && hold.autoRelease) continue;
      const end = ended
        ? `hold-expired: its end, ${until}, has passed, and nobody has released it`
        : `until ${until ?? 'somebody releases it'}`;
      return `the person is held (${holdId}), ${end}; nothing is deleted; lethe release-subject lifts it`;
    }
    return null;
  }

  /**
   * Holds a person. When it returns, every step that asks from then on is told.
   *
   * @param digests see `digestsOf`; at least one.
   */
  async hold(
    digests: readonly string[],
    terms: Pick<SubjectHold, 'by' | 'reason' | 'until' | 'autoRelease'>,
  ): Promise<SubjectHold> {
    if (digests.length === 0) throw new RangeError('a hold names nobody');
    const holdId = `h-${randomBytes(6).toString('hex')}`;
    const at = new Date(this.#now()).toISOString();
    const { by, reason, until, autoRelease } = terms;
    const hold = holdSchema.parse({ format: 'lethe-hold/1', holdId, by, reason, at, until, autoRelease });
    await ensureDirectory(this.#folder);
    for (const digest of new Set(digests)) {
      await writeAtomically(join(this.#folder, `${digest}.${holdId}.json`), `${JSON.stringify(hold)}\n`);
    }
    return hold;
  }

  /** The holds that name any of these spellings; one that can't be read by its id alone. */
  async find(digests: readonly string[]): Promise<ReadonlyMap<string, SubjectHold | null>> {
    const wanted = new Set(digests);
    const found = new Map<string, SubjectHold | null>();
    for (const name of this.#files()) {
      const [, digest = '', holdId = ''] = FILE.exec(name) ?? [];
      if (!wanted.has(digest)) continue;
      const hold = await this.#read(name);
      if (hold !== 'released') found.set(holdId, found.get(holdId) ?? hold);
    }
    return found;
  }

  /**
   * Lifts a hold, for all spellings that it named. Who lifted it, and why, stays beside the holds.
   *
   * @returns whether there was one.
   */
  async release(holdId: string, by: string, reason: string): Promise<boolean> {
    const names = this.#files().filter((name) => FILE.exec(name)?.[2] === holdId);
    if (names.length === 0) return false;
    const held = await this.#read(names[0] ?? '');
    const explained = {
      held: held === 'released' ? null : held,
      releasedAt: new Date(this.#now()).toISOString(),
      by,
      reason,
    };
    const released = join(this.#folder, 'released');
    await mkdir(released, { recursive: true, mode: 0o700 });
    // Written down before anything is lifted: a kill in between leaves a hold, and an explanation too many.
    await writeAtomically(join(released, `${holdId}.json`), `${JSON.stringify(explained)}\n`);
    for (const name of names) await rm(join(this.#folder, name), { force: true });
    return true;
  }

  #files(): readonly string[] {
    return entriesOf(this.#folder).filter((name) => name.endsWith('.json') && !isTemporary(name));
  }

  async #read(name: string): Promise<SubjectHold | 'released' | null> {
    try {
      return holdSchema.parse(JSON.parse(await readFile(join(this.#folder, name), 'utf8')));
    } catch (error) {
      return isErrno(error, 'ENOENT') ? 'released' : null;
    }
  }
}

/**
 * Every spelling of every identifier as a keyed digest, as `isHeld` and `hold` take them.
 *
 * @param caseInsensitive kinds declared so in the config.
 */
export function digestsOf(keys: Keys, subject: readonly Identifier[], caseInsensitive: ReadonlySet<string>): string[] {
  return [...subjectVariants(subject, caseInsensitive)].flatMap(([kind, spellings]) =>
    [...spellings].map((spelling) => subjectDigest(keys, kind, spelling)),
  );
}
