// `node scripts/run.mjs ARGS`: the lethe command from a clone, set up first. Nothing but the CLI's output on stdout.

import { fileURLToPath } from 'node:url';

import { run } from './bootstrap.mjs';

// The whole path, so that it can be called from any directory and relative file arguments keep their meaning.
await run([fileURLToPath(new URL('../src/cli/main.ts', import.meta.url)), ...process.argv.slice(2)]);
