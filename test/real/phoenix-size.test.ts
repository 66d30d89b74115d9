import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { imbalances } from '../../src/erasure/ledger.ts';
import { Phoenix } from './support/phoenix.ts';
import { PHOENIX_ACCEPT } from './support/phoenix-harness.ts';
import { PHOENIX_CONNECTION, phoenixWorld, traceOf } from './support/phoenix-world.ts';
import { SIZE } from './support/size.ts';

const HERS = 200;
/** Each has as many. */
const PEOPLE = SIZE / HERS;
const TRACES = PEOPLE * HERS;
const PERSON = 'u_7';
const PROJECT = 'large';
/** What the server takes in one message without trouble. */
const SPANS_PER_EXPORT = 1000;
const START_MS = 900_000;
/** The server writes some 100 traces a second. */
const TEST_MS = 1_800_000;

let server: Phoenix;

beforeAll(async () => {
  server = await Phoenix.start({}, { name: `${TRACES}-traces-of-${PEOPLE}-people`, write: fill });
}, START_MS);
afterAll(async () => {
  await server.close();
}, 60_000);

async function fill(server: Phoenix): Promise<void> {
  const spans = Array.from({ length: TRACES }, (_none, index) =>
    traceOf({ project: PROJECT, user: `u_${index % PEOPLE}`, spans: 1, startMs: Date.UTC(2026, 10, 1) + index * 1000 }),
  ).flat();
  for (let at = 0; at < spans.length; at += SPANS_PER_EXPORT) {
    // No further than the server has written: its queue is bounded, and what does not fit is refused or lost.
    await server.write(spans.slice(at, at + SPANS_PER_EXPORT));
  }
}

/**
 * The least that could show a plan, the deletes and two clean reads: one list of projects and one search in each language
 * for the plan and each read, 50 traces for each look-up (the server's own limit), 500 for each delete, and one search for
 * controls in each step.
 */
const LOOKUP = Math.ceil(HERS / 50);
const LEAST = {
  plan: 1 + 1 + 2 + LOOKUP,
  deletes: 1 + LOOKUP + LOOKUP + Math.ceil(HERS / 500),
  reads: 2 * (1 + 1 + 2 + LOOKUP),
};

test(
  'P20: 200 traces of a person among thousands are erased with about the calls that are needed',
  async () => {
    const calls: string[] = [];
    const world = await phoenixWorld('phoenix-size', server, {
      accept: PHOENIX_ACCEPT,
      onCall: ({ method, path, body }) => {
        const operation = /^\{"query":"(?:query|mutation) (\w+)/.exec(body)?.[1];
        calls.push(
          `${method} ${path.replace(/projects\/[^/]+/, 'projects/{project}').replace(/traces\/.+/, 'traces/{trace}')}${operation === undefined ? '' : ` ${operation}`}`,
        );
      },
    });
    try {
      const started = Date.now();
      const end = await world.eraseToEnd({ identifiers: [{ kind: 'user_id', value: PERSON }] });
      const tookMs = Date.now() - started;
      expect(end.status).toBe('verified');
      const lane = end.connections[PHOENIX_CONNECTION];
      if (lane === undefined) throw new Error('no such lane');
      expect(imbalances(lane)).toEqual([]);
      expect(lane.traces).toMatchObject({ matched: HERS, verifiedAbsent: HERS });
      const left = server.query<{ user: string; count: number }>(
        "select json_extract(attributes, '$.user.id') as user, count(*) as count from spans group by 1",
      );
      expect(left.find(({ user }) => user === PERSON)).toBeUndefined();
      expect(left).toHaveLength(PEOPLE - 1);
      expect(left.every(({ count }) => count === HERS)).toBe(true);
      const least = LEAST.plan + LEAST.deletes + LEAST.reads;
      const byRoute = new Map<string, number>();
      for (const call of calls) byRoute.set(call, (byRoute.get(call) ?? 0) + 1);
      process.stdout.write(
        `\nPhoenix, ${TRACES} traces, ${HERS} of the person: ${calls.length} calls (least ${least}), ${Math.round(tookMs / 1000)} s with settle times\n${[...byRoute].map(([call, count]) => `  ${count} ${call}`).join('\n')}\n`,
      );
      // Controls of the attribute filter cost calls of their own: they can't ride with its question.
      expect(calls.length).toBeLessThanOrEqual(2 * least);
    } finally {
      await world.close();
    }
  },
  TEST_MS,
);
