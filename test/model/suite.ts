import { test } from '@jest/globals';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { StoryError, tell } from './run.ts';
import { scenarios, type Scenario } from './scenario.ts';

/** How the model is run. */
export interface ModelBudget {
  /** Stories, all lanes together. LETHE_MODEL_RUNS overrides. */
  readonly runs: number;
  /** LETHE_MODEL_SEED overrides. */
  readonly seed: number;
  /**
   * Real milliseconds in which new stories are begun, so that a slow machine tells fewer and fails none; what is left out is
   * said. LETHE_MODEL_LIMIT_MS overrides. Default: no limit.
   */
  readonly exploreMs?: number;
  /** Real milliseconds for the whole test. */
  readonly limitMs: number;
}

/** Stories told side by side: most of their time is waiting for the virtual clock. Each lane has a seed of its own. */
const SIDE_BY_SIDE = 6;

/** A failure is shrunk for so long, real time; what is the smallest by then is told. */
const SHRINK_MS = Number(process.env['LETHE_MODEL_SHRINK_MS'] ?? '90000');

interface Failure {
  readonly seed: number;
  readonly path: string;
  readonly runs: number;
  readonly scenario: Scenario;
  readonly promise: string;
  readonly text: string;
  readonly shrinks: number;
}

/** The one test of the model, under a name that begins with the promises it judges. */
export function modelTest(name: string, budget: ModelBudget): void {
  const path = process.env['LETHE_MODEL_PATH'];
  const seed = Number(process.env['LETHE_MODEL_SEED'] ?? String(budget.seed));
  const runs = Number(process.env['LETHE_MODEL_RUNS'] ?? String(budget.runs));
  test(
    name,
    async () => {
      const lanes = path === undefined ? Math.min(SIDE_BY_SIDE, runs) : 1;
      const ends = new Map<string, number>();
      const exploreMs = Number(process.env['LETHE_MODEL_LIMIT_MS'] ?? String(budget.exploreMs ?? Infinity));
      const until = Date.now() + exploreMs;
      let failed = false;
      const tellLane = async (lane: number): Promise<Failure | null> => {
        const share = Math.ceil((runs - lane) / lanes);
        const failure = await explore({
          seed: seed + lane,
          runs: share,
          path,
          stopped: () => failed || Date.now() > until,
          ended: (status) => ends.set(status, (ends.get(status) ?? 0) + 1),
        });
        failed ||= failure !== null;
        return failure;
      };
      const failures = await Promise.all(Array.from({ length: lanes }, (_none, lane) => tellLane(lane)));
      const told = [...ends].map(([status, count]) => `${count} ${status}`).join(', ');
      const count = [...ends.values()].reduce((sum, one) => sum + one, 0);
      process.stdout.write(`model: ${count} of ${runs} stories, seeds ${seed} to ${seed + lanes - 1}: ${told}\n`);
      const first = failures.find((failure) => failure !== null);
      if (first != null) throw new Error(tale(first));
    },
    budget.limitMs,
  );
}

async function explore(options: {
  readonly seed: number;
  readonly runs: number;
  readonly path: string | undefined;
  readonly stopped: () => boolean;
  readonly ended: (status: string) => void;
}): Promise<Failure | null> {
  const { seed, runs, path } = options;
  /** Verdicts by story: shrinking comes back to the same one when what it changed plays no part. */
  const known = new Map<string, StoryError | null>();
  let failedAt: number | null = null;
  let tries = 0;
  let triesToFail = 0;
  const property = fc.asyncProperty(scenarios, async (scenario) => {
    const key = JSON.stringify(scenario);
    const before = known.get(key);
    if (before != null) throw before;
    if (before === null) return;
    // Time is up or another lane has found something, or this one has shrunk long enough.
    if (failedAt === null ? options.stopped() : Date.now() - failedAt > SHRINK_MS) return;
    tries += 1;
    try {
      const { status } = await tell(scenario);
      known.set(key, null);
      options.ended(status);
    } catch (error) {
      if (!(error instanceof StoryError)) throw error;
      known.set(key, error);
      if (failedAt === null) {
        failedAt = Date.now();
        triesToFail = tries;
        process.stdout.write(`model: seed ${seed}, story ${tries}: ${error.message.split('\n')[0] ?? ''}; shrinking\n`);
      }
      throw error;
    }
  });
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    ...(path === undefined ? {} : { path, endOnFailure: true }),
  });
  if (!details.failed) return null;
  const [scenario] = details.counterexample ?? [];
  const error = details.errorInstance;
  if (scenario === undefined) throw new Error('a failure without a story', { cause: error });
  return {
    seed,
    path: details.counterexamplePath ?? '',
    runs: triesToFail,
    scenario,
    promise: error instanceof StoryError ? error.promise : 'broken test',
    text: error instanceof Error ? error.message : String(error),
    shrinks: details.numShrinks,
  };
}

function tale({ seed, path, runs, scenario, promise, text, shrinks }: Failure): string {
  return [
    `${promise} does not hold. ${text.split('\n')[0] ?? ''}`,
    `Found by story ${runs} of seed ${seed}, shrunk ${shrinks} times. Tell it again:`,
    `  LETHE_MODEL_SEED=${seed} LETHE_MODEL_PATH=${path}`,
    inspect(scenario, { depth: 8, breakLength: 120 }),
    ...text.split('\n').slice(1),
  ].join('\n');
}
