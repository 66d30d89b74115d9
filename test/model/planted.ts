import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Plants one bug after the other in a scratch copy of the repository, none of which a type check sees, and shows whether the
// model finds it: after how many stories, which promise spoke, and the story it shrank to. Exits with 1 when one is missed.
//
// node scripts/node.mjs test/model/planted.ts [NUMBER...]
//
// LETHE_MODEL_RUNS: most stories for each (default 150), begun within LETHE_MODEL_LIMIT_MS (default 4 minutes).
// LETHE_MODEL_SEED: the first seed (default 1).

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const COPIED = ['src', 'test', 'scripts', 'package.json', 'jest.config.js', 'tsconfig.json'];
/** Real time for each bug, its shrinking included. */
const LIMIT_MS = 12 * 60_000;
/** Real time in which new stories are begun. */
const EXPLORE_MS = 4 * 60_000;

interface Bug {
  readonly name: string;
  readonly file: string;
  /** Stands there exactly once. */
  readonly from: string;
  readonly to: string;
}

const BUGS: readonly Bug[] = [
  {
    name: 'a verifying read counts when no control was to be found',
    file: 'src/activities/reader.ts',
    from: 'export const LEAST_CONTROLS = 2;',
    to: 'export const LEAST_CONTROLS = 0;',
  },
  {
    name: 'after a second submit the settle time of the first one holds',
    file: 'src/activities/delete-batch.ts',
    from: 'const settledAtMs = takenMs === null ?',
    to: 'const settledAtMs = takenMs === null || input.round > 1 ?',
  },
  {
    name: 'whose a trace is, is not judged again just before its delete',
    file: 'src/activities/delete-batch.ts',
    from: "const isTheirsToo = owner === 'mixed' && !isIncluded(entry);",
    to: 'const isTheirsToo = false;',
  },
  {
    name: 'what an earlier try of a delete call had sent is forgotten',
    file: 'src/activities/delete-batch.ts',
    from: 'return await deps.vault.get(requestId, { name }, deltaSchema);',
    to: 'await deps.vault.get(requestId, { name }, deltaSchema);\n    return null;',
  },
  {
    name: 'a hold waits until the last batch of a round is sent',
    file: 'src/erasure/lane.ts',
    from: 'if (lane.heldSinceMs !== null) return heldCommand(lane, now);',
    to: "if (lane.heldSinceMs !== null && lane.phase !== 'deleting') return heldCommand(lane, now);",
  },
  {
    name: 'a trace whose root is gone counts as gone',
    file: 'src/activities/verify-absence.ts',
    from: '  const present = await reader.present(readable);\n',
    to: '  const present = await reader.present(readable);\n  for (const [key, rows] of present) if (rows.every(({ runId, traceId }) => runId !== traceId)) present.delete(key);\n',
  },
];

const chosen = process.argv.slice(2).map(Number);
const scratch = mkdtempSync(join(tmpdir(), 'lethe-planted-'));
for (const name of COPIED) cpSync(join(ROOT, name), join(scratch, name), { recursive: true });
symlinkSync(join(ROOT, 'node_modules'), join(scratch, 'node_modules'));

/** What the model says of the copy as it stands; null when it finds nothing. */
function model(): string | null {
  const report = join(scratch, 'report.json');
  rmSync(report, { force: true });
  const started = Date.now();
  spawnSync(
    process.execPath,
    [
      '--experimental-vm-modules',
      join(scratch, 'node_modules/jest/bin/jest.js'),
      '--json',
      `--outputFile=${report}`,
      '--runTestsByPath',
      'test/model.test.ts',
    ],
    {
      cwd: scratch,
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
  for (const [index, { name, file, from, to }] of BUGS.entries()) {
    if (chosen.length > 0 && !chosen.includes(index + 1)) continue;
    const path = join(scratch, file);
    const text = readFileSync(path, 'utf8');
    if (text.split(from).length !== 2)
      throw new Error(`${index + 1}. ${name}: its text does not stand once in ${file}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
    const told = model();
    writeFileSync(path, text);
    if (told === null) missed += 1;
    process.stdout.write(`\n${index + 1}. ${name} (${file}): ${told === null ? 'NOT FOUND' : `found\n${told}`}\n`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = missed === 0 ? 0 : 1;
