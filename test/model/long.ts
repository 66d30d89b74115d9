// The model with another seed each time: `npm run test:hunt`. LETHE_MODEL_RUNS says how many stories (default 500).

import { modelTest } from './suite.ts';

modelTest('whatever happens, nothing untrue is said and nobody else is touched', {
  runs: 500,
  // Room for the seeds of the stories that are told side by side.
  seed: (Date.now() % 100_000_000) * 10,
  limitMs: 12 * 3_600_000,
});
