import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from '@jest/globals';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(read('package.json')) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};
const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };

describe('dependencies', () => {
  const all = { ...manifest.dependencies, ...manifest.devDependencies };

  test('are pinned to exact versions', () => {
    for (const [name, version] of Object.entries(all)) expect(`${name}@${version}`).toMatch(/@\d+\.\d+\.\d+$/);
  });

  test('the lock holds the builds for every platform: npm ci refuses it otherwise', () => {
    const missing = Object.entries(lock.packages).flatMap(([path, { optionalDependencies }]) =>
      Object.keys(optionalDependencies ?? {}).filter(
        (name) => !(`${path}/node_modules/${name}` in lock.packages) && !(`node_modules/${name}` in lock.packages),
      ),
    );
    // `npm run lock:complete` adds them.
    expect(missing).toEqual([]);
  });

  test('the lock names no registry, so that everybody uses their own', () => {
    expect(Object.values(lock.packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
  });

  test('docs/dependencies.md gives a reason for each, and for no other', () => {
    const documented = Array.from(read('docs/dependencies.md').matchAll(/^\| `([^`]+)`/gm), ([, name]) => name);
    expect(documented.toSorted()).toEqual(Object.keys(all).toSorted());
  });
});
