import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { plain } from './filter.ts';
import type { Dataset, DatasetLog, Testset } from './copies.ts';
import { defineRoute, detail, filterOf, jsonBody, pageOf, type Call } from './http.ts';
import type { World } from './world.ts';

// Another dialect than that of logs: `eq` and scalar values (vendor's MCP server), unknown keys dropped all the same.
const DATASET_KEYS = plain<DatasetLog>([
  'unique_id',
  'id',
  'trace_unique_id',
  'customer_identifier',
  'thread_identifier',
  'status_code',
  'timestamp',
]);
const EQUALS = ['eq'];

function byId<T extends { readonly id: string }>(all: readonly T[], id: string | undefined): T {
  const found = all.find((one) => one.id === id);
  if (found === undefined) throw detail(404, 'Not found.');
  return found;
}

function seen<T>({ world }: Call, filtered: boolean, rows: readonly T[]): readonly T[] {
  return world.habits.isBlind(null, filtered) ? [] : rows;
}

function datasetOf({ world, params }: Call): Dataset {
  return byId(world.copies.datasets, params['id']);
}

function datasetLogs(call: Call): Answer {
  const dataset = datasetOf(call);
  const filter = filterOf(call, DATASET_KEYS, EQUALS);
  const logs = dataset.logs.filter((log) => filter.matches(log));
  return pageOf(call, seen(call, filter.given, logs), (log) => log);
}

function deleteDatasetLog(call: Call): Answer {
  const dataset = datasetOf(call);
  const log = byId(dataset.logs, call.params['log']);
  dataset.logs = dataset.logs.filter((one) => one !== log);
  return { status: 204 };
}

/** By filter; a filter of which nothing is left empties the dataset. */
function deleteDatasetLogs(call: Call): Answer {
  const dataset = datasetOf(call);
  const filter = filterOf(call, DATASET_KEYS, EQUALS);
  if (!filter.given && jsonBody(call)['is_deleting_all_logs'] !== true) throw detail(400, 'Filters are required.');
  const left = dataset.logs.filter((log) => !filter.matches(log));
  const deleted = dataset.logs.length - left.length;
  dataset.logs = left;
  call.entry.matched = deleted;
  return { status: 200, body: { message: `${deleted} logs deleted` } };
}

function testsetOf({ world, params }: Call): Testset {
  return byId(world.copies.testsets, params['id']);
}

function testsetRows(call: Call): Answer {
  const rows = testsetOf(call).rows.map((row, index) => ({ row_index: index, row_data: row }));
  return pageOf(call, seen(call, false, rows), (row) => row);
}

/** Rows go by their place, and those behind them move up. */
function deleteTestsetRows(call: Call, indexes: unknown): Answer {
  const testset = testsetOf(call);
  if (!Array.isArray(indexes)) throw detail(400, "Expected a list under 'row_indexes'.");
  const doomed = new Set<unknown>(indexes);
  testset.rows = testset.rows.filter((_row, index) => !doomed.has(index));
  return { status: 204 };
}

function deleteFrom(all: { readonly id: string }[], id: string | undefined): Answer {
  all.splice(all.indexOf(byId(all, id)), 1);
  return { status: 204 };
}

/** Datasets, testsets and experiments: copies that trace deletes leave. */
export function copyRoutes(app: FastifyInstance, world: World): void {
  const reads = { family: 'reads', limit: 'organisation' } as const;
  const deletes = { ...reads, method: 'DELETE', family: 'deletes' } as const;
  const { datasets, testsets, experiments } = world.copies;
  for (const method of ['GET', 'POST'] as const) {
    const read = { ...reads, method };
    defineRoute(app, world, { ...read, path: '/api/datasets/list/' }, (call) =>
      pageOf(call, seen(call, false, datasets), ({ id, name, logs }) => ({ id, name, log_count: logs.length })),
    );
    defineRoute(app, world, { ...read, path: '/api/datasets/:id/logs/list/' }, datasetLogs);
    defineRoute(app, world, { ...read, path: '/api/testsets/list/' }, (call) =>
      pageOf(call, seen(call, false, testsets), ({ id, name, rows }) => ({ id, name, row_count: rows.length })),
    );
    for (const base of ['/api/experiments', '/api/v2/experiments']) {
      defineRoute(app, world, { ...read, path: `${base}/list/` }, (call) =>
        pageOf(call, seen(call, false, experiments), ({ id, name, dataset_id }) => ({ id, name, dataset_id })),
      );
      defineRoute(app, world, { ...read, path: `${base}/:id/logs/list/` }, (call) =>
        pageOf(call, seen(call, false, byId(experiments, call.params['id']).logs), (log) => log),
      );
    }
  }
  const datasetLog = '/api/datasets/:id/logs/:log/';
  defineRoute(app, world, { ...reads, method: 'GET', path: datasetLog }, (call) => ({
    status: 200,
    body: byId(datasetOf(call).logs, call.params['log']),
  }));
  defineRoute(app, world, { ...deletes, path: datasetLog }, deleteDatasetLog);
  defineRoute(app, world, { ...deletes, path: '/api/datasets/:id/logs/delete' }, deleteDatasetLogs);
  defineRoute(app, world, { ...deletes, path: '/api/datasets/:id/logs/delete/' }, deleteDatasetLogs);
  defineRoute(app, world, { ...deletes, path: '/api/datasets/:id/' }, (call) =>
    deleteFrom(datasets, call.params['id']),
  );
  defineRoute(app, world, { ...reads, method: 'GET', path: '/api/testsets/:id/rows/' }, testsetRows);
  defineRoute(app, world, { ...deletes, path: '/api/testsets/:id/rows/' }, (call) =>
    deleteTestsetRows(call, jsonBody(call)['row_indexes']),
  );
  defineRoute(app, world, { ...deletes, path: '/api/testsets/:id/rows/:row/' }, (call) =>
    deleteTestsetRows(call, [Number(call.params['row'])]),
  );
  defineRoute(app, world, { ...deletes, path: '/api/testsets/:id/' }, (call) =>
    deleteFrom(testsets, call.params['id']),
  );
  for (const base of ['/api/experiments', '/api/v2/experiments']) {
    defineRoute(app, world, { ...deletes, path: `${base}/:id/` }, (call) => deleteFrom(experiments, call.params['id']));
  }
}
