import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Outcomes } from './suite.ts';

// Runs the conformance kit for every store that has a `test/conformance-<store>.test.ts`, or for those named, and prints
// cases × stores. Exits with 1 when a case of any store failed.
//
// node scripts/node.mjs test/conformance/table.ts [STORE...]

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const wanted = process.argv.slice(2);
const files = readdirSync(join(ROOT, 'test'))
  .filter((file) => /^conformance-.*\.test\.ts$/.test(file))
  .filter((file) => wanted.length === 0 || wanted.some((store) => file === `conformance-${store}.test.ts`));
if (files.length === 0) throw new Error(`no store of that name: ${wanted.join(', ')}`);

const directory = mkdtempSync(join(tmpdir(), 'lethe-conformance-'));
const jest = join(ROOT, 'node_modules/jest/bin/jest.js');
const paths = files.map((file) => join('test', file));
const { status } = spawnSync(
  process.execPath,
  ['--experimental-vm-modules', jest, '--silent=false', '--reporters=default', '--runTestsByPath', ...paths],
  { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, LETHE_CONFORMANCE_TABLE: directory } },
);

const stores = readdirSync(directory).map((file) => ({
  name: file.replace(/\.json$/, ''),
  outcomes: JSON.parse(readFileSync(join(directory, file), 'utf8')) as Outcomes,
}));
rmSync(directory, { recursive: true });

const cases = [...new Set(stores.flatMap(({ outcomes }) => Object.keys(outcomes)))];
const notes: string[] = [];
const rows = [
  ['case', ...stores.map(({ name }) => name)],
  ...cases.map((name) => [
    name,
    ...stores.map(({ outcomes }) => {
      const outcome = outcomes[name] ?? 'not run';
      const [, short = outcome, note] = /^(ok|n\.a\.)(?:,| because) (.*)$/.exec(outcome) ?? [];
      if (note === undefined) return short;
      const known = notes.indexOf(note);
      return `${short} [${known >= 0 ? known + 1 : notes.push(note)}]`;
    }),
  ]),
];
const widths = rows[0]?.map((_cell, column) => Math.max(...rows.map((row) => (row[column] ?? '').length))) ?? [];
for (const row of rows) {
  process.stdout.write(
    `${row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()}\n`,
  );
}
process.stdout.write(`\n${notes.map((note, index) => `[${index + 1}] ${note}`).join('\n')}\n`);
process.exitCode = status === 0 ? 0 : 1;
