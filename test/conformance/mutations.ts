import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ScratchCopy } from '../support/scratch-copy.ts';
import { MUTATIONS } from './mutation-list.ts';

// Breaks one habit of ours after the other in a scratch copy of the repository, and shows by which cases the conformance
// kit turns red. Exits with 1 when a mutation goes unnoticed, or when the kit is red without any.
//
// node scripts/node.mjs test/conformance/mutations.ts [NUMBER...]

interface JestReport {
  readonly testResults: readonly {
    readonly message: string;
    readonly assertionResults: readonly { readonly title: string; readonly status: string }[];
  }[];
}

const scratch = new ScratchCopy();

/** Titles of the cases that failed. */
function kit(store: string, level: string): readonly string[] {
  const report = join(scratch.path, 'report.json');
  rmSync(report, { force: true });
  spawnSync(
    process.execPath,
    [
      '--experimental-vm-modules',
      join(scratch.path, 'node_modules/jest/bin/jest.js'),
      '--json',
      `--outputFile=${report}`,
      '--testNamePattern',
      `^${store} ${level} `,
      '--runTestsByPath',
      `test/conformance-${store}.test.ts`,
    ],
    { cwd: scratch.path, stdio: 'ignore' },
  );
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as JestReport;
  const cases = testResults.flatMap(({ assertionResults }) => assertionResults);
  // A file that does not even load has no case: the mutation would be one of the syntax.
  if (cases.length === 0)
    throw new Error(`the kit did not run: ${testResults.map(({ message }) => message).join('\n')}`);
  return cases.filter(({ status }) => status === 'failed').map(({ title }) => title);
}

const chosen = process.argv.slice(2).map(Number);
const mutations = MUTATIONS.filter((_mutation, index) => chosen.length === 0 || chosen.includes(index + 1));
let unnoticed = 0;
try {
  for (const which of new Set(mutations.map(({ store, level }) => `${store}|${level}`))) {
    const [store = '', level = ''] = which.split('|');
    const failed = kit(store, level);
    if (failed.length > 0) throw new Error(`${store} ${level} is red without any mutation: ${failed.join('; ')}`);
    process.stdout.write(`none → ${store} ${level} is green\n`);
  }
  for (const mutation of mutations) {
    const { name, file, store, level } = mutation;
    const failed = scratch.mutated(mutation, () => kit(store, level));
    if (failed.length === 0) unnoticed += 1;
    const caught = failed.length === 0 ? 'NOT NOTICED' : `caught by ${failed.length}: ${failed.join(' | ')}`;
    process.stdout.write(`${MUTATIONS.indexOf(mutation) + 1}. ${name} (${file}) → ${store}: ${caught}\n`);
  }
} finally {
  scratch.remove();
}
process.exitCode = unnoticed === 0 ? 0 : 1;
