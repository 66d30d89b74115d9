import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { connectionSchema } from '../src/stores/registry.ts';

const stores = connectionSchema.options.flatMap(({ shape }) => [...shape.store.values]);

test('the registry names stores', () => {
  expect(stores.length).toBeGreaterThanOrEqual(5);
});

// What the kit has not judged keeps no promise, whatever the connector's own tests say.
test.each(stores)('%s is judged by the conformance kit', (store) => {
  // A store whose real server runs on the test machine has its file beside the tests against real servers.
  const file = ['', 'real/']
    .map((folder) => fileURLToPath(new URL(`${folder}conformance-${store}.test.ts`, import.meta.url)))
    .find((path) => existsSync(path));
  expect(file).toBeDefined();
  expect(readFileSync(file ?? '', 'utf8')).toMatch(/^conformance\(/m);
});
