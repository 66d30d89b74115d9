import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const COPIED = ['src', 'test', 'examples', 'scripts', 'package.json', 'jest.config.js', 'tsconfig.json'];

/** A change of our code that tests should notice. */
export interface Mutation {
  readonly name: string;
  /** From the root of the repository. */
  readonly file: string;
  /** Stands there exactly once. */
  readonly from: string;
  readonly to: string;
}

/**
 * The text of the file with the mutation in it.
 *
 * @throws when what is to be changed does not stand there exactly once: the code has moved on, the mutation has not.
 */
export function mutatedText({ name, file, from, to }: Mutation, root = ROOT): string {
  const text = readFileSync(join(root, file), 'utf8');
  if (text.split(from).length !== 2) throw new Error(`${name}: its text does not stand once in ${file}`);
  return text.replace(from, () => to);
}

/** A copy of the repository in which code may be broken and tests be run. */
export class ScratchCopy {
  readonly path = mkdtempSync(join(tmpdir(), 'lethe-scratch-'));

  constructor() {
    for (const name of COPIED) cpSync(join(ROOT, name), join(this.path, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(this.path, 'node_modules'));
  }

  /** Runs something while the mutation is in place. */
  mutated<T>(mutation: Mutation, run: () => T): T {
    const path = join(this.path, mutation.file);
    const before = readFileSync(path, 'utf8');
    writeFileSync(path, mutatedText(mutation, this.path));
    try {
      return run();
    } finally {
      writeFileSync(path, before);
    }
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
