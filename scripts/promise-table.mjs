// Brings the last column of docs/promises.md up to date: which test files show each promise. `npm run promises`.
//
// A name of a test begins with the numbers of the promises it shows: `P3: ...`, `P25, P8: ...`. The cases of
// test/conformance, which every store must pass, stand for one file.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const page = new URL('../docs/promises.md', import.meta.url);
const tests = new URL('../test/', import.meta.url);
const NAME = /['"`]((?:P\d+(?:, | )?)+):/g;

const by = new Map();
const files = [
  ...readdirSync(tests).filter((file) => file.endsWith('.test.ts') && file !== 'promises.test.ts'),
  ...readdirSync(new URL('conformance/', tests)).map((file) => `conformance/${file}`),
  ...readdirSync(new URL('real/', tests)).flatMap((file) => (file.endsWith('.test.ts') ? [`real/${file}`] : [])),
];
for (const file of files) {
  const name = file.startsWith('conformance/') ? 'conformance' : file.replace('.test.ts', '');
  for (const [, numbers] of readFileSync(new URL(file, tests), 'utf8').matchAll(NAME)) {
    for (const [, number] of numbers.matchAll(/P(\d+)/g)) by.set(number, (by.get(number) ?? new Set()).add(name));
  }
}
const text = readFileSync(page, 'utf8').replace(/^(\| P(\d+) +\|.*\|) [^|]*\|$/gm, (_row, before, number) => {
  const names = [...(by.get(number) ?? [])].sort().map((name) => `\`${name}\``);
  return `${before} ${names.join(', ')} |`;
});
writeFileSync(page, text);
