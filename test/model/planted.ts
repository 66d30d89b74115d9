import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ScratchCopy } from '../support/scratch-copy.ts';
import { BUGS } from './planted-list.ts';

// Plants one bug after the other in a scratch copy of the repository, none of which a type check sees, and shows whether the
// model finds it: after how many stories, which promise spoke, and the story it shrank to. Exits with 1 when one is missed.
//
// node scripts/node.mjs test/model/planted.ts [NUMBER...]
//
// LETHE_MODEL_RUNS: most stories for each (default 150), begun within LETHE_MODEL_LIMIT_MS (default 4 minutes).
// LETHE_MODEL_SEED: the first seed (default 1).

/** Real time for each bug, its shrinking included. */
const LIMIT_MS = 12 * 60_000;
/** Real time in which new stories are begun. */
const EXPLORE_MS = 4 * 60_000;

const chosen = process.argv.slice(2).map(Number);
const scratch = new ScratchCopy();

/** What the model says of the copy as it stands; null when it finds nothing. */
function model(): string | null {
  const report = join(scratch.path, 'report.json');
  rmSync(report, { force: true });
  const started = Date.now();
  spawnSync(
    process.execPath,
    [
      '--experimental-vm-modules',
      join(scratch.path, 'node_modules/jest/bin/jest.js'),
      '--json',
      `--outputFile=${report}`,
      '--runTestsByPath',
      'test/model.test.ts',
    ],
    {
      cwd: scratch.path,
      // What is found shows before it is shrunk.
      stdio: ['ignore', 'inherit', 'ignore'],
      timeout: LIMIT_MS,
      env: {
        ...process.env,
        LETHE_MODEL_RUNS: process.env['LETHE_MODEL_RUNS'] ?? '150',
        LETHE_MODEL_LIMIT_MS: process.env['LETHE_MODEL_LIMIT_MS'] ?? String(EXPLORE_MS),
        LETHE_MODEL_SEED: process.env['LETHE_MODEL_SEED'] ?? '1',
      },
    },
  );
  const seconds = Math.round((Date.now() - started) / 1000);
  let text: string;
  try {
    text = readFileSync(report, 'utf8');
  } catch {
    process.stdout.write(`the model did not end within ${seconds} s\n`);
    return null;
  }
  const { testResults } = JSON.parse(text) as {
    readonly testResults: readonly {
      readonly message: string;
      readonly assertionResults: readonly { readonly status: string; readonly failureMessages: readonly string[] }[];
    }[];
  };
  const results = testResults.flatMap(({ assertionResults }) => assertionResults);
  // A file that does not even load has no test: the bug would be one of the syntax.
  if (results.length === 0)
    throw new Error(`the model did not run: ${testResults.map(({ message }) => message).join('\n')}`);
  const failed = results.find(({ status }) => status === 'failed');
  return failed === undefined ? null : `${failed.failureMessages.join('\n')}\n(${seconds} s)`;
}

let missed = 0;
try {
  for (const [index, bug] of BUGS.entries()) {
    if (chosen.length > 0 && !chosen.includes(index + 1)) continue;
    const told = scratch.mutated(bug, model);
    if (told === null) missed += 1;
    const found = told === null ? 'NOT FOUND' : `found\n${told}`;
    process.stdout.write(`\n${index + 1}. ${bug.name} (${bug.file}): ${found}\n`);
  }
} finally {
  scratch.remove();
}
process.exitCode = missed === 0 ? 0 : 1;
