// `node scripts/test-real.mjs JEST-ARGS`: the tests against real servers. These are installed from PyPI first, once, below
// `$LETHE_CACHE` or ~/.cache/lethe: two Python environments of some 850 MB, 2 to 5 minutes each. The tests then take some
// 6 minutes on two cores, and 5 more the first time, for the traces that two of them begin with.

import { fileURLToPath } from 'node:url';

import { run } from './bootstrap.mjs';

await run(
  [
    '--experimental-vm-modules',
    fileURLToPath(new URL('../node_modules/jest/bin/jest.js', import.meta.url)),
    '--globalSetup=<rootDir>/test/real/support/global-setup.ts',
    '--testTimeout=900000',
    '--testMatch=<rootDir>/test/real/*.test.ts',
    ...process.argv.slice(2),
  ],
  { temporal: true },
);
