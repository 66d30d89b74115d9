import type { FastifyInstance } from 'fastify';
import { serveControl } from '../common/control.ts';
import type { BraintrustSimulator } from './index.ts';
import type { SeedPeopleRequest, SeedRequest } from './seed.ts';
import type { PersonEntry } from './truth.ts';
import type { World } from './world.ts';

type Started = Omit<BraintrustSimulator, 'url' | 'apiUrl' | 'port' | 'apiPort'>;

interface ProjectAction {
  readonly action: string;
  readonly name: string;
  readonly to?: string;
}

function act(simulator: Started, { action, name, to }: ProjectAction): unknown {
  if (action === 'create') return simulator.createProject({ name });
  if (action === 'recreate') return simulator.recreateProject(name);
  if (action === 'delete') simulator.deleteProject(name);
  else if (action === 'rename') simulator.renameProject(name, to ?? name);
  else throw new TypeError(`unknown action: ${action}`);
  return {};
}

/**
 * What other processes can see and do, beside the habits and the ledger:
 *
 * - `POST /_simulator/truth/traces-of`, `/remains-of`, `/copies-of` with `[{key, value}]`
 * - `GET /_simulator/truth/traces/{id}`: live or not, and its rows
 * - `GET /_simulator/truth/deleted`, `/unasked`, `/orphans`, `/all`, `/submissions`
 * - `POST /_simulator/seed`, `/seed-people`: as the methods of the same name
 * - `POST /_simulator/advance` with `{ms}`
 * - `POST /_simulator/projects` with `{action: create|delete|rename|recreate, name, to?}`
 * - `GET /_simulator/state`: virtual now, key, organisation, counts
 */
export function controlRoutes(app: FastifyInstance, world: World, simulator: Started): void {
  const { truth } = simulator;
  serveControl(app, {
    habits: simulator.habits,
    ledger: world.ledger,
    looks: {
      'truth/traces/:id': ({ id = '' }) => ({ traceId: id, live: truth.isLive(id), rows: truth.rowsOf(id) }),
      'truth/deleted': () => truth.deleted(),
      'truth/unasked': () => truth.unasked(),
      'truth/orphans': () => truth.orphans(),
      'truth/all': () => truth.allTraces(),
      'truth/submissions': () => truth.submissions(),
      state: () => ({
        nowMs: world.tick(),
        apiKey: simulator.apiKey,
        organisation: simulator.organisation,
        requests: world.ledger.entries.length,
        submissions: world.submissions.length,
        deletions: truth.deleted().length,
      }),
    },
    deeds: {
      'truth/traces-of': (body) => truth.liveTracesOf(body as PersonEntry[]),
      'truth/remains-of': (body) => truth.remainsOf(body as PersonEntry[]),
      'truth/copies-of': (body) => truth.copiesOf(body as PersonEntry[]),
      seed: (body) => simulator.seed(body as SeedRequest),
      'seed-people': (body) => simulator.seedPeople(body as SeedPeopleRequest),
      advance: (body) => {
        simulator.advance((body as { ms?: number }).ms ?? 0);
        return { nowMs: world.now() };
      },
      projects: (body) => act(simulator, body as ProjectAction),
    },
  });
}
