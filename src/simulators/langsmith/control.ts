import type { FastifyInstance, FastifyRequest } from 'fastify';
import { habitsFromJson, habitsToJson } from './habits.ts';
import type { LedgerFilter } from './ledger.ts';
import type { SeedPeopleRequest, SeedRequest } from './seed.ts';
import type { PersonEntry, Truth } from './truth.ts';
import type { World } from './world.ts';
import type { LangSmithSimulator } from './index.ts';

function bodyText(request: FastifyRequest): string {
  return Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '{}';
}

function body(request: FastifyRequest): unknown {
  return JSON.parse(bodyText(request));
}

interface ProjectAction {
  readonly action: string;
  readonly name: string;
  readonly to?: string;
  readonly cleanup?: 'now' | 'weekend';
}

function ledgerFilter(request: FastifyRequest): LedgerFilter {
  const query = request.query as Record<string, string>;
  const { status, ...rest } = query;
  return { ...rest, ...(status === undefined ? {} : { status: Number(status) }) };
}

/**
 * The control plane, for tests in other processes: no key, no habit, no ledger entry. All bodies are JSON; numbers that
 * may be infinite travel as the text "Infinity".
 *
 * - `GET|PUT|DELETE /_simulator/habits`: read, change some, turn all off
 * - `GET /_simulator/ledger?route=&method=&status=&family=&view=` lists, `DELETE` empties
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
  const truth: Truth = simulator.truth;
  const base = '/_simulator';
  app.setErrorHandler((error, _request, reply) => {
    const message = error instanceof Error ? error.message : String(error);
    return reply.code(500).send({ simulator_error: message });
  });
  app.get(`${base}/habits`, () => habitsToJson(simulator.habits.current));
  app.put(`${base}/habits`, (request) => {
    simulator.habits.set(habitsFromJson(bodyText(request)));
    return habitsToJson(simulator.habits.current);
  });
  app.delete(`${base}/habits`, () => {
    simulator.habits.reset();
    return habitsToJson(simulator.habits.current);
  });
  app.get(`${base}/ledger`, (request) => world.ledger.list(ledgerFilter(request)));
  app.delete(`${base}/ledger`, () => {
    world.ledger.reset();
    return [];
  });
  app.post(`${base}/truth/traces-of`, (request) => truth.liveTracesOf(body(request) as PersonEntry[]));
  app.get(`${base}/truth/traces/:id`, (request) => {
    const { id } = request.params as { id: string };
    const views = { v1: truth.isLive(id, 'v1'), v2: truth.isLive(id, 'v2') };
    return { traceId: id, live: truth.isLive(id), views, submissions: truth.submissionsOf(id) };
  });
  app.get(`${base}/truth/deleted`, () => truth.deleted());
  app.get(`${base}/truth/unasked`, () => truth.unasked());
  app.get(`${base}/truth/all`, () => truth.allTraces());
  app.get(`${base}/truth/submissions`, () => truth.submissions());
  app.post(`${base}/seed`, (request) => simulator.seed(body(request) as SeedRequest));
  app.post(`${base}/seed-people`, (request) => simulator.seedPeople(body(request) as SeedPeopleRequest));
  app.post(`${base}/advance`, (request) => {
    const { ms = 0, weekends = 0 } = body(request) as { ms?: number; weekends?: number };
    simulator.advance(ms);
    simulator.advanceWeekends(weekends);
    return { nowMs: world.now() };
  });
  app.post(`${base}/projects`, (request) => {
    const wanted = body(request) as ProjectAction;
    const options = wanted.cleanup === undefined ? {} : { cleanup: wanted.cleanup };
    if (wanted.action === 'create') return simulator.createProject({ name: wanted.name });
    if (wanted.action === 'recreate') return simulator.recreateProject(wanted.name, options);
    if (wanted.action === 'delete') simulator.deleteProject(wanted.name, options);
    else if (wanted.action === 'rename') simulator.renameProject(wanted.name, wanted.to ?? wanted.name);
    else throw new TypeError(`unknown action: ${wanted.action}`);
    return {};
  });
  app.get(`${base}/state`, () => ({
    nowMs: world.tick(),
    nextBatchMs: simulator.nextBatch(),
    apiKey: simulator.apiKey,
    workspaceId: simulator.workspaceId,
    requests: world.ledger.entries.length,
    submissions: world.deletions.submissions.length,
    waiting: world.deletions.submissions.filter((one) => one.executedMs === null).length,
    deletions: world.deletions.deletions.length,
  }));
}
