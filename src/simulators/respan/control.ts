import type { FastifyInstance } from 'fastify';
import { serveControl } from '../common/control.ts';
import type { RespanSimulator } from './index.ts';
import type { Environment } from './rows.ts';
import type { SeedLogRequest, SeedPeopleRequest, SeedRequest } from './seed.ts';
import type { PersonEntry } from './truth.ts';
import type { World } from './world.ts';

/**
 * What other processes can see and do, beside the habits and the ledger:
 *
 * - `POST /_simulator/truth/traces-of`, `/truth/loose-logs-of` with `[{key, value}]`: what lives of a person
 * - `GET /_simulator/truth/traces/{id}`: live or not, and its submissions
 * - `GET /_simulator/truth/deleted`, `/unasked`, `/all`, `/submissions`, `/customers`
 * - `POST /_simulator/seed`, `/seed-people`, `/seed-log`: as the methods of the same name
 * - `POST /_simulator/share` with `{traceId, environment?}`
 * - `POST /_simulator/advance` with `{ms}`
 * - `GET /_simulator/state`: virtual now, keys, organisation, counts
 */
export function controlRoutes(
  app: FastifyInstance,
  world: World,
  simulator: Omit<RespanSimulator, 'url' | 'port'>,
): void {
  const { truth } = simulator;
  serveControl(app, {
    habits: simulator.habits,
    ledger: world.ledger,
    looks: {
      'truth/traces/:id': ({ id = '' }) => {
        const views = { spans: truth.isLive(id, 'spans'), traces: truth.isLive(id, 'traces') };
        return { traceId: id, live: truth.isLive(id), views, submissions: truth.submissionsOf(id) };
      },
      'truth/deleted': () => truth.deleted(),
      'truth/unasked': () => truth.unasked(),
      'truth/all': () => truth.allTraces(),
      'truth/submissions': () => truth.submissions(),
      'truth/customers': () => truth.customerRecords(),
      state: () => ({
        nowMs: world.tick(),
        apiKey: simulator.apiKey,
        apiKeys: simulator.apiKeys,
        org: simulator.org,
        requests: world.ledger.entries.length,
        submissions: world.deletions.submissions.length,
        deletions: world.deletions.deletions.length,
      }),
    },
    deeds: {
      'truth/traces-of': (body) => truth.liveTracesOf(body as PersonEntry[]),
      'truth/loose-logs-of': (body) => truth.looseLogsOf(body as PersonEntry[]),
      seed: (body) => simulator.seed(body as SeedRequest),
      'seed-people': (body) => simulator.seedPeople(body as SeedPeopleRequest),
      'seed-log': (body) => simulator.seedLog(body as SeedLogRequest),
      share: (body) => {
        const { traceId, environment = 'prod' } = body as { traceId: string; environment?: Environment };
        simulator.shareTrace(traceId, environment);
      },
      advance: (body) => {
        simulator.advance((body as { ms?: number }).ms ?? 0);
        return { nowMs: world.now() };
      },
    },
  });
}
