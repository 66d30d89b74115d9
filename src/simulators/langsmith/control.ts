import type { FastifyInstance } from 'fastify';
import { serveControl } from '../common/control.ts';
import type { LangSmithSimulator } from './index.ts';
import type { SeedPeopleRequest, SeedRequest } from './seed.ts';
import type { PersonEntry } from './truth.ts';
import type { World } from './world.ts';

interface ProjectAction {
  readonly action: string;
  readonly name: string;
  readonly to?: string;
  readonly cleanup?: 'now' | 'weekend';
}

function act(simulator: Omit<LangSmithSimulator, 'url' | 'port'>, wanted: ProjectAction): unknown {
  const options = wanted.cleanup === undefined ? {} : { cleanup: wanted.cleanup };
  if (wanted.action === 'create') return simulator.createProject({ name: wanted.name });
  if (wanted.action === 'recreate') return simulator.recreateProject(wanted.name, options);
  if (wanted.action === 'delete') simulator.deleteProject(wanted.name, options);
  else if (wanted.action === 'rename') simulator.renameProject(wanted.name, wanted.to ?? wanted.name);
  else throw new TypeError(`unknown action: ${wanted.action}`);
  return {};
}

/**
 * What other processes can see and do, beside the habits and the ledger:
 *
 * - `POST /_simulator/truth/traces-of` with `[{key, value}]`: live traces of a person
 * - `GET /_simulator/truth/traces/{id}`: live or not, and its submissions
 * - `GET /_simulator/truth/deleted`, `/unasked`, `/all`, `/submissions`
 * - `POST /_simulator/seed`, `/seed-people`: as the methods of the same name
 * - `POST /_simulator/advance` with `{ms}` or `{weekends}`
 * - `POST /_simulator/projects` with `{action: create|delete|rename|recreate, name, to?, cleanup?}`
 * - `GET /_simulator/state`: virtual now, next batch, key, workspace, counts
 */
export function controlRoutes(
  app: FastifyInstance,
  world: World,
  simulator: Omit<LangSmithSimulator, 'url' | 'port'>,
): void {
  const { truth } = simulator;
  serveControl(app, {
    habits: simulator.habits,
    ledger: world.ledger,
    looks: {
      'truth/traces/:id': ({ id = '' }) => {
        const views = { v1: truth.isLive(id, 'v1'), v2: truth.isLive(id, 'v2') };
        return { traceId: id, live: truth.isLive(id), views, submissions: truth.submissionsOf(id) };
      },
      'truth/deleted': () => truth.deleted(),
      'truth/unasked': () => truth.unasked(),
      'truth/all': () => truth.allTraces(),
      'truth/submissions': () => truth.submissions(),
      state: () => ({
        nowMs: world.tick(),
        nextBatchMs: simulator.nextBatch(),
        apiKey: simulator.apiKey,
        workspaceId: simulator.workspaceId,
        requests: world.ledger.entries.length,
        submissions: world.deletions.submissions.length,
        waiting: world.deletions.submissions.filter((one) => one.executedMs === null).length,
        deletions: world.deletions.deletions.length,
      }),
    },
    deeds: {
      'truth/traces-of': (body) => truth.liveTracesOf(body as PersonEntry[]),
      seed: (body) => simulator.seed(body as SeedRequest),
      'seed-people': (body) => simulator.seedPeople(body as SeedPeopleRequest),
      advance: (body) => {
        const { ms = 0, weekends = 0 } = body as { ms?: number; weekends?: number };
        simulator.advance(ms);
        simulator.advanceWeekends(weekends);
        return { nowMs: world.now() };
      },
      projects: (body) => act(simulator, body as ProjectAction),
    },
  });
}
