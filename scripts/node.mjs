// `node scripts/node.mjs FILE ARGS`: any TypeScript entry point with the pinned Node, set up first.

import { run } from './bootstrap.mjs';

await run(process.argv.slice(2));
