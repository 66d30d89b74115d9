import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from '@jest/globals';
import { ScratchCopy } from './support/scratch-copy.ts';

const page = readFileSync(fileURLToPath(new URL('../docs/adding-a-store.md', import.meta.url)), 'utf8');
const walk = page.slice(page.indexOf('## Once, literally, with the example'));

/** The code of a step of the walk, without its indentation. */
function codeOf(step: number): string {
  const [, after = ''] = walk.split(`\n${step}. `);
  const [, code] = /```(?:sh|ts)\n([^]*?) *```/.exec(after) ?? [];
  if (code === undefined) throw new Error(`step ${step} has no code`);
  return code.replaceAll(/^ {3}/gm, '');
}

function importsOf(code: string): string {
  return code.slice(0, code.lastIndexOf("';") + 2);
}

const scratch = new ScratchCopy();
afterAll(() => {
  scratch.remove();
});

function edit(file: string, change: (text: string) => string): void {
  const path = join(scratch.path, file);
  const before = readFileSync(path, 'utf8');
  const after = change(before);
  if (after === before) throw new Error(`${file} is as it was`);
  writeFileSync(path, after);
}

/** Fails with what the program printed. */
function run(program: string, ...args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: scratch.path, encoding: 'utf8' });
  expect({ status, said: status === 0 ? '' : `${stdout}\n${stderr}` }).toEqual({ status: 0, said: '' });
}

test('the steps of the page, taken literally, make the example a store that compiles and that the kit passes', () => {
  run('sh', '-e', '-c', codeOf(1));

  const lists = codeOf(2);
  const lines = [...lists.matchAll(/^ *\/\/ … the others\n(.*)$/gm)].map(([, line = '']) => line);
  expect(lines).toHaveLength(2);
  edit('src/stores/registry.ts', (text) =>
    [/(z\.discriminatedUnion\('store', \[)/, /(const OPENERS = \{)/].reduce(
      (so, list, at) => so.replace(list, `$1\n${lines[at] ?? ''}`),
      `${importsOf(lists)}\n${text}`,
    ),
  );

  const harness = codeOf(3);
  const imports = importsOf(harness);
  edit('test/conformance/memory.ts', (text) => {
    const [, config = ''] = /memoryConnectionSchema\.parse\(\{([^]*?)\n {8}\}\);/.exec(text) ?? [];
    const open = harness.slice(imports.length).replace('/* as before */', () => config);
    return text
      .replace(/^import (?!type ).*\n/gm, '')
      .replace(/^/, () => `${imports}\n`)
      .replace(/ {6}open: [^]*?(?= {6}seed: )/, () => open);
  });

  const files = ['src/stores/registry.ts', 'test/conformance/memory.ts'];
  writeFileSync(join(scratch.path, 'walk.json'), JSON.stringify({ extends: './tsconfig.json', include: [], files }));
  run(process.execPath, 'node_modules/typescript/bin/tsc', '-p', 'walk.json');

  // Nothing may still come from where the example was. Whole erasures need a Temporal server and most of a minute.
  rmSync(join(scratch.path, 'examples'), { recursive: true });
  const kit = ['--globalSetup=', '--globalTeardown=', '--testNamePattern', '^memory at the port ', '--runTestsByPath'];
  const jest = ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js'];
  run(process.execPath, ...jest, ...kit, 'test/conformance-memory.test.ts');
}, 120_000);
