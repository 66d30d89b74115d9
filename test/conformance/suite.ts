import { afterAll, describe, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERASURE_CASES, perform } from './erasure-cases.ts';
import type { NotPossible, StoreHarness } from './harness.ts';
import { PORT_CASES, type PortCase } from './port-cases.ts';
import { Scene } from './scene.ts';

/** Directory into which each store's outcomes are written as `<store>.json`, for `table.ts`. */
const TABLE_DIRECTORY = 'LETHE_CONFORMANCE_TABLE';

/** Generous: most of the time a world waits, and machines of all sizes run this. */
const MOST_MS = 120_000;

/** Case → `ok`, `ok, …` with what was left out, `n.a. because …`, or `FAILED`. */
export type Outcomes = Readonly<Record<string, string>>;

/** The same case in projects that are deleted from in another way. */
function asInLarge({ name, options, run }: PortCase): PortCase {
  return { name: `${name} (large project)`, options: { ...options, large: true }, run };
}

/**
 * The cases that any store must pass, at the port and as whole erasures. A case that a store makes impossible asserts
 * nothing and says why in the table printed at the end: the harness has to give the reason.
 */
export function conformance(harness: StoreHarness): void {
  const outcomes: Record<string, string> = {};
  const noted = async (name: string, run: () => Promise<NotPossible | string | void>): Promise<void> => {
    outcomes[name] = 'FAILED';
    const answer = await run();
    if (typeof answer === 'string') outcomes[name] = answer;
    else outcomes[name] = answer === undefined ? 'ok' : `n.a. because ${answer.because}`;
  };

  describe(`${harness.name} at the port`, () => {
    const inLarge = PORT_CASES.filter(({ judgesDeletes }) => harness.large !== undefined && judgesDeletes === true);
    for (const { name, options, run } of [...PORT_CASES, ...inLarge.map(asInLarge)]) {
      test(
        name,
        () =>
          noted(name, async () => {
            const scene = await Scene.start(harness, options);
            try {
              const answer = await run(scene);
              await scene.assertBystanders();
              scene.assertWay();
              return answer;
            } finally {
              await scene.close();
            }
          }),
        harness.mostMs ?? MOST_MS,
      );
    }
  });

  // Side by side: most of their time they wait for the store.
  describe(`${harness.name} in whole erasures`, () => {
    for (const one of ERASURE_CASES) {
      test.concurrent(one.name, () => noted(one.name, () => perform(harness, one)), harness.mostMs ?? MOST_MS);
    }
  });

  afterAll(() => {
    const width = Math.max(...Object.keys(outcomes).map((name) => name.length));
    const lines = Object.entries(outcomes).map(([name, outcome]) => `  ${name.padEnd(width)}  ${outcome}`);
    process.stdout.write(`\n${harness.name}\n${lines.join('\n')}\n`);
    const directory = process.env[TABLE_DIRECTORY];
    if (directory === undefined) return;
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `${harness.name}.json`), JSON.stringify(outcomes satisfies Outcomes));
  });
}
