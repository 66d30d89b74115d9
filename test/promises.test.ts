import { describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** A name of a test begins with the numbers of the promises it shows: `P3: …`, `P1 P2: …`, `P25, P8: …`. */
const NAME = /['"`]((?:P\d+(?:, | )?)+):/g;

/** Test files by the promises that names in them begin with. */
function shown(): ReadonlyMap<number, ReadonlySet<string>> {
  const files = [
    ...readdirSync(HERE).filter((file) => file.endsWith('.test.ts') && file !== 'promises.test.ts'),
    // The cases that every store must pass stand for one.
    ...readdirSync(`${HERE}conformance`).map((file) => `conformance/${file}`),
    ...readdirSync(`${HERE}real`).flatMap((file) => (file.endsWith('.test.ts') ? [`real/${file}`] : [])),
  ];
  const by = new Map<number, Set<string>>();
  for (const file of files) {
    for (const [, numbers = ''] of readFileSync(`${HERE}${file}`, 'utf8').matchAll(NAME)) {
      for (const [, number] of numbers.matchAll(/P(\d+)/g)) {
        const of = by.get(Number(number)) ?? new Set();
        by.set(Number(number), of.add(file.startsWith('conformance/') ? 'conformance' : file.replace('.test.ts', '')));
      }
    }
  }
  return by;
}

interface Row {
  readonly number: number;
  readonly issue: string;
  readonly tests: readonly string[];
}

function table(): readonly Row[] {
  const page = readFileSync(`${HERE}../docs/promises.md`, 'utf8');
  return [...page.matchAll(/^\| P(\d+) +\|.*\| (\w+) +\| (.*?) *\|$/gm)].map(([, number, issue = '', tests = '']) => ({
    number: Number(number),
    issue,
    tests: [...tests.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
  }));
}

describe('the table of promises', () => {
  test('lists every promise once', () => {
    expect(table().map(({ number }) => number)).toEqual(Array.from({ length: 36 }, (_none, index) => index + 1));
  });

  test('names exactly the test files that show each promise', () => {
    const by = shown();
    const listed = Object.fromEntries(table().map(({ number, tests }) => [number, [...tests].sort()]));
    const found = Object.fromEntries(table().map(({ number }) => [number, [...(by.get(number) ?? [])].sort()]));
    expect(listed).toEqual(found);
  });

  test('has a test for every promise of the first issue', () => {
    expect(table().filter(({ issue, tests }) => issue === 'core' && tests.length === 0)).toEqual([]);
  });
});
