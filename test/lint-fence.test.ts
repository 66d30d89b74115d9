import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from '@jest/globals';
import { ESLint, Linter } from 'eslint';
import tseslint from 'typescript-eslint';

import importFence from '../eslint/import-fence.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const linter = new Linter({ cwd: root });

/** What the fence says about `code` in `file`; empty when it has nothing against it. */
function complaints(file: string, code: string): string[] {
  const config: Linter.Config[] = [
    {
      files: ['**/*.ts'],
      languageOptions: { parser: tseslint.parser },
      plugins: { lethe: { rules: { 'import-fence': importFence } } },
      rules: { 'lethe/import-fence': 'error' },
    },
  ];
  return linter.verify(code, config, { filename: join(root, file) }).map(({ message }) => message);
}

describe('import fence', () => {
  test.each([
    ['src/workflows/erase-user.ts', `import { proxyActivities } from '@temporalio/workflow';`],
    ['src/workflows/erase-user.ts', `import { ApplicationFailure } from '@temporalio/common';`],
    ['src/workflows/erase-user.ts', `import { nextLook } from '../erasure/rhythm.ts';`],
    ['src/workflows/erase-user.ts', `import { LetheStatus } from '../temporal/search-attributes.ts';`],
    ['src/workflows/erase-user.ts', `import { laneUpdate } from './messages.ts';`],
    ['src/workflows/erase-user.ts', `import type { LaneActivities } from '../activities/index.ts';`],
    ['src/workflows/erase-user.ts', `export type { Verdict } from '../evidence/record.ts';`],
    ['src/erasure/request.ts', `import { z } from 'zod';`],
    ['src/erasure/request.ts', `export * from './clock.ts';`],
    ['src/stores/langsmith/store.ts', `import { get } from '../http.ts'; import { createHash } from 'node:crypto';`],
    ['src/stores/registry.ts', `import { open } from './langsmith/store.ts';`],
    ['src/activities/resolve-ids.ts', `import type { TraceStore } from '../stores/port.ts';`],
    ['src/simulators/langsmith/main.ts', `import { virtualNow } from '../../erasure/clock.ts';`],
    ['src/worker.ts', `import { openStore } from './stores/registry.ts'; import pino from 'pino';`],
    ['test/langsmith.test.ts', `import { open } from '../src/stores/langsmith/store.ts';`],
  ])('%s may: %s', (file, code) => {
    expect(complaints(file, code)).toEqual([]);
  });

  test.each([
    ['src/workflows/erase-user.ts', `import { readFile } from 'node:fs/promises';`],
    ['src/workflows/erase-user.ts', `import pino from 'pino';`],
    ['src/workflows/erase-user.ts', `import { Client } from '@temporalio/client';`],
    ['src/workflows/erase-user.ts', `import { resolveIds } from '../activities/index.ts';`],
    ['src/workflows/erase-user.ts', `import { startLocalServer } from '../temporal/server.ts';`],
    // Inline types leave an import of the file behind.
    ['src/workflows/erase-user.ts', `import { type LaneActivities } from '../activities/index.ts';`],
    ['src/workflows/erase-user.ts', `export * from '../activities/index.ts';`],
    ['src/workflows/erase-user.ts', `export { resolveIds } from '../activities/index.ts';`],
    ['src/workflows/erase-user.ts', `const fs = await import('node:fs');`],
    ['src/workflows/erase-user.ts', 'const any = await import(name);'],
    ['src/erasure/lane.ts', `import { sleep } from '@temporalio/workflow';`],
    ['src/erasure/lane.ts', `import { createHash } from 'node:crypto';`],
    ['src/erasure/lane.ts', `import type { TraceStore } from '../stores/port.ts';`],
    ['src/stores/langsmith/store.ts', `import { DirectoryVault } from '../../vault/directory-vault.ts';`],
    ['src/stores/langsmith/store.ts', `import { rows } from '../braintrust/rows.ts';`],
    ['src/stores/langsmith/store.ts', `import { World } from '../../simulators/langsmith/world.ts';`],
    ['src/simulators/langsmith/main.ts', `import { parseJson } from '../../stores/http.ts';`],
    ['src/simulators/langsmith/main.ts', `import { runSchema } from '../../stores/langsmith/schemas.ts';`],
    ['src/activities/resolve-ids.ts', `import { openStore } from '../stores/registry.ts';`],
    ['src/activities/resolve-ids.ts', `import { open } from '../stores/langsmith/store.ts';`],
    ['src/activities/resolve-ids.ts', `import { loadConfig } from '../config/config.ts';`],
    ['src/worker.ts', `import { open } from './stores/langsmith/store.ts';`],
    ['src/worker.ts', `import type { Options } from './stores/langsmith/store.ts';`],
    ['src/cli/demo.ts', `const store = await import('../stores/langsmith/store.ts');`],
  ])('%s may not: %s', (file, code) => {
    expect(complaints(file, code)).toHaveLength(1);
  });

  test('the project lints with it, and with the promise rules', async () => {
    const eslint = new ESLint({ cwd: root });
    for (const file of ['src/workflows/a.ts', 'src/erasure/a.ts', 'src/stores/x/a.ts', 'src/activities/a.ts']) {
      const { rules } = (await eslint.calculateConfigForFile(join(root, file))) as { rules: Record<string, unknown[]> };
      for (const rule of [
        'lethe/import-fence',
        '@typescript-eslint/no-floating-promises',
        '@typescript-eslint/no-misused-promises',
        '@typescript-eslint/await-thenable',
        '@typescript-eslint/switch-exhaustiveness-check',
      ]) {
        expect([file, rule, rules[rule]?.[0]]).toEqual([file, rule, 2]);
      }
    }
  });

  test('no file of src/ imports itself over others', () => {
    const imports = new Map<string, string[]>();
    for (const entry of readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.ts')) continue;
      const file = join(entry.parentPath, entry.name);
      const statements = readFileSync(file, 'utf8').matchAll(/^(?:import|export) (?!type )[^;]*?from '(\.[^']+)'/gm);
      imports.set(
        file,
        Array.from(statements, ([, specifier]) => resolve(dirname(file), specifier!)),
      );
    }
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → ').replaceAll(root, ''));
      if (done.has(file) || path.includes(file)) return;
      for (const next of imports.get(file) ?? []) visit(next, [...path, file]);
      done.add(file);
    };
    for (const file of imports.keys()) visit(file, []);
    expect(cycles).toEqual([]);
  });
});
