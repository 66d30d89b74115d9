// `node scripts/test.mjs JEST-ARGS`: the tests, with dependencies and a Temporal server binary set up first.

import { fileURLToPath } from 'node:url';

import { run } from './bootstrap.mjs';

// Jest runs ES modules through Node's VM modules, which still hide behind a flag.
await run(
  [
    '--experimental-vm-modules',
    fileURLToPath(new URL('../node_modules/jest/bin/jest.js', import.meta.url)),
    ...process.argv.slice(2),
  ],
  { temporal: true },
);
