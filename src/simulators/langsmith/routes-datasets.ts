import type { FastifyInstance } from 'fastify';
import {
  exampleFilterRow,
  hardDelete,
  softDelete,
  versionAt,
  type Dataset,
  type ExampleRow,
  type ExampleVersion,
} from './copies.ts';
import { compileFilter, FilterError, metadataText, wordsOf, type CompiledFilter } from './filter.ts';
import type { Answer } from '../common/http.ts';
import { copyDelete, defineRoute, detail, goError, unprocessable, type Call } from './http.ts';
import { isUuid } from '../common/ids.ts';
import { partsOf } from './ingest.ts';
import { record, type Json } from '../common/json.ts';
import { asList, pageParams } from './schemas.ts';
import { parseTime, rfc3339 } from '../common/time.ts';
import type { World } from './world.ts';

function datasetJson(world: World, dataset: Dataset): Json {
  const now = world.now();
  const rows = [...world.copies.examples.values()].filter((one) => one.datasetId === dataset.id);
  return {
    id: dataset.id,
    tenant_id: dataset.tenantId,
    name: dataset.name,
    description: dataset.description,
    data_type: dataset.dataType,
    metadata: dataset.metadata,
    created_at: rfc3339(dataset.createdMs),
    modified_at: rfc3339(dataset.createdMs),
    example_count: rows.filter((one) => versionAt(one, now) !== null).length,
    session_count: 0,
    last_session_start_time: null,
  };
}

function datasets(call: Call): Dataset[] {
  return [...call.world.copies.datasets.values()].filter(
    (one) => one.tenantId === call.tenantId && call.nowMs < one.goneMs,
  );
}

function dataset(call: Call): Dataset {
  const id = call.params['id'] ?? '';
  const found = datasets(call).find((one) => one.id === id);
  if (found !== undefined) return found;
  throw call.spec.base === 'v1' ? detail(404, 'Dataset not found') : goError(404, 'dataset not found');
}

function createDataset(call: Call): Answer {
  const body = record(call.json()) ?? {};
  const { name } = body;
  if (typeof name !== 'string') throw unprocessable(['body', 'name'], 'Field required', 'missing');
  if (datasets(call).some((one) => one.name === name)) throw detail(409, 'Dataset with this name already exists');
  const row: Dataset = {
    id: isUuid(body['id']) ? body['id'] : call.world.random.uuid4(),
    tenantId: call.tenantId,
    name,
    description: typeof body['description'] === 'string' ? body['description'] : null,
    dataType: typeof body['data_type'] === 'string' ? body['data_type'] : 'kv',
    metadata: record(body['extra'])?.['metadata'] ?? null,
    createdMs: call.nowMs,
    goneMs: Infinity,
  };
  call.world.copies.datasets.set(row.id, row);
  return { status: 200, body: datasetJson(call.world, row) };
}

/** Default fields of an example; attachments are not simulated. */
function exampleJson(example: ExampleRow, version: ExampleVersion): Record<string, unknown> {
  return {
    id: example.id,
    dataset_id: example.datasetId,
    name: `#${example.id.slice(0, 4)}`,
    inputs: version.inputs,
    outputs: version.outputs,
    metadata: version.metadata,
    created_at: rfc3339(example.createdMs),
    modified_at: rfc3339(version.asOfMs),
    source_run_id: example.sourceRunId,
    source_trace_id: example.sourceTraceId,
    source_session_id: example.sourceProjectId,
    source_run_start_time: example.sourceStartMs === null ? null : rfc3339(example.sourceStartMs),
  };
}
const SELECTABLE = new Set([
  'id',
  'dataset_id',
  'name',
  'inputs',
  'outputs',
  'metadata',
  'created_at',
  'modified_at',
  'source_run_id',
  'source_trace_id',
  'source_session_id',
  'source_run_start_time',
  'attachment_urls',
]);

function addExample(call: Call, target: Dataset, id: string, body: Json, parts: Json): ExampleRow {
  const { world, nowMs, tenantId } = call;
  const sourceRunId = isUuid(body['source_run_id']) ? body['source_run_id'] : null;
  const run = world.state
    .rowsById(sourceRunId ?? '')
    .find((row) => row.live(nowMs) && world.state.tenantOf(row.projectId) === tenantId);
  const copy = body['use_source_run_io'] === true && run !== undefined;
  const { split } = body;
  const splits = Array.isArray(split) ? split.map(String) : [typeof split === 'string' ? split : 'base'];
  const example: ExampleRow = {
    id,
    datasetId: target.id,
    tenantId,
    createdMs: parseTime(body['created_at']) ?? nowMs,
    split: splits,
    sourceRunId,
    sourceTraceId: run?.traceId ?? null,
    sourceProjectId: run?.projectId ?? null,
    sourceStartMs: run?.startMs ?? null,
    versions: [
      {
        asOfMs: nowMs,
        deleted: false,
        inputs: copy ? run.inputs : (parts['inputs'] ?? body['inputs'] ?? {}),
        outputs: copy ? run.outputs : (parts['outputs'] ?? body['outputs'] ?? null),
        metadata: { ...record(body['metadata']), dataset_split: splits },
      },
    ],
    hardDeletedMs: null,
  };
  world.copies.addExample(example);
  return example;
}

/** Reads the multipart form of examples: `<id>` and `<id>.<field>` parts. */
async function examplesFrom(call: Call): Promise<Map<string, { body: Json; parts: Record<string, unknown> }>> {
  const found = new Map<string, { body: Json; parts: Record<string, unknown> }>();
  for (const part of await partsOf(call)) {
    const [id = '', field, ...rest] = part.name.split('.');
    if (!isUuid(id)) throw goError(422, `invalid part name ${part.name}`);
    const entry = found.get(id) ?? { body: {}, parts: {} };
    found.set(id, entry);
    if (rest.length > 0) continue;
    const value: unknown = JSON.parse(part.data.toString('utf8'));
    if (field === undefined) found.set(id, { ...entry, body: record(value) ?? {} });
    else entry.parts[field] = value;
  }
  return found;
}

async function uploadExamples(call: Call): Promise<Answer> {
  const target = dataset(call);
  const found = await examplesFrom(call);
  for (const [id, { body, parts }] of found) addExample(call, target, id, body, parts);
  const ids = [...found.keys()];
  return { status: 201, body: { count: ids.length, example_ids: ids, as_of: rfc3339(call.nowMs) } };
}

async function updateExamples(call: Call): Promise<Answer> {
  dataset(call);
  const found = await examplesFrom(call);
  for (const [id, { body, parts }] of found) change(call, id, body, parts);
  const ids = [...found.keys()];
  return { status: 200, body: { count: ids.length, example_ids: ids, as_of: rfc3339(call.nowMs) } };
}

function change(call: Call, id: string, body: Json, parts: Json): void {
  const example = call.world.copies.examples.get(id);
  const last = example === undefined ? null : versionAt(example, call.nowMs);
  if (example?.tenantId !== call.tenantId || last === null) throw goError(404, 'example not found');
  example.versions.push({
    asOfMs: call.nowMs,
    deleted: false,
    inputs: parts['inputs'] ?? body['inputs'] ?? last.inputs,
    outputs: parts['outputs'] ?? body['outputs'] ?? last.outputs,
    metadata: record(body['metadata']) === null ? last.metadata : { ...record(body['metadata']) },
  });
}

function postExamples(call: Call): Answer {
  const given = call.json();
  const bodies = (Array.isArray(given) ? given : [given]).map((one) => record(one) ?? {});
  const rows = bodies.map((body) => {
    const target = datasets(call).find((one) => one.id === body['dataset_id']);
    if (target === undefined) throw detail(404, 'Dataset not found');
    return addExample(call, target, isUuid(body['id']) ? body['id'] : call.world.random.uuid4(), body, {});
  });
  const json = rows.map((row) => exampleJson(row, row.versions[0] ?? EMPTY));
  return { status: 200, body: Array.isArray(given) ? json : json[0] };
}

const EMPTY: ExampleVersion = { asOfMs: 0, deleted: false, inputs: null, outputs: null, metadata: null };

function asOf(call: Call): number {
  const given = call.query.get('as_of');
  if (given === null || given === 'latest') return call.atMs;
  const ms = parseTime(given);
  if (ms === null) throw unprocessable(['query', 'as_of'], 'Input should be a valid datetime', 'datetime_parsing');
  return ms;
}

function exampleFilter(call: Call): CompiledFilter | null {
  const given = call.query.get('filter');
  if (given === null) return null;
  try {
    return compileFilter(given, 'examples');
  } catch (error) {
    if (error instanceof FilterError) throw detail(400, error.message);
    throw error;
  }
}

/** The `metadata` parameter: any single pair is enough (docs), values as text. */
function metadataPairs(call: Call): [string, string][] | null {
  const given = call.query.get('metadata');
  if (given === null) return null;
  try {
    return Object.entries(record(JSON.parse(given)) ?? {}).map(([key, value]) => [key, metadataText(value)]);
  } catch {
    throw unprocessable(['query', 'metadata'], 'Input should be valid JSON', 'json_invalid');
  }
}

function listExamples(call: Call): Answer {
  const { query, world } = call;
  const { offset, limit } = pageParams(query);
  const [sets, ids, splits, select] = ['dataset', 'id', 'splits', 'select'].map((name) => asList(query, name));
  for (const name of select ?? []) {
    if (!SELECTABLE.has(name)) throw unprocessable(['query', 'select'], `unknown field ${name}`, 'enum');
  }
  const filter = exampleFilter(call);
  const metadata = metadataPairs(call);
  const words = query.getAll('full_text_contains').flatMap(wordsOf);
  const at = asOf(call);
  if (world.habits.isBlind('v1', filter !== null || metadata !== null)) return { status: 200, body: [] };
  const found: { example: ExampleRow; version: ExampleVersion }[] = [];
  for (const example of world.copies.examples.values()) {
    if (example.tenantId !== call.tenantId || (sets ?? null)?.has(example.datasetId) === false) continue;
    if (ids?.has(example.id) === false || (splits && !example.split.some((one) => splits.has(one)))) continue;
    const version = versionAt(example, at);
    if (version === null) continue;
    const row = exampleFilterRow(example, version);
    if (filter !== null && !filter.matches(row)) continue;
    if (metadata !== null && !row.pairs.some(([k, v]) => metadata.some(([key, text]) => key === k && text === v)))
      continue;
    if (words.length > 0 && !words.every((word) => row.words().has(word))) continue;
    found.push({ example, version });
  }
  found.sort(
    (left, right) => right.example.createdMs - left.example.createdMs || (left.example.id < right.example.id ? -1 : 1),
  );
  const body = found.slice(offset, offset + limit).map(({ example, version }) => {
    const json = exampleJson(example, version);
    if (!select) return json;
    return Object.fromEntries(Object.entries(json).filter(([name]) => name === 'id' || select.has(name)));
  });
  return { status: 200, body };
}

function readExample(call: Call): Answer {
  const id = call.params['id'] ?? '';
  if (!isUuid(id)) throw unprocessable(['path', 'example_id'], 'Input should be a valid UUID', 'uuid_parsing');
  call.entry.ids = [id];
  const example = call.world.copies.examples.get(id);
  const version = example === undefined ? null : versionAt(example, asOf(call));
  if (example?.tenantId !== call.tenantId || version === null) throw detail(404, 'Example not found');
  return { status: 200, body: exampleJson(example, version) };
}

function softDeleteMany(call: Call, ids: readonly string[], how = copyDelete(call)): Answer {
  call.entry.ids = ids;
  for (const id of how === 'ignored' ? [] : ids) {
    const example = call.world.copies.examples.get(id);
    if (example?.tenantId === call.tenantId) softDelete(example, call.nowMs);
  }
  return { status: 200, body: { message: 'Examples deleted' } };
}

function platformDelete(call: Call): Answer {
  const body = record(call.json()) ?? {};
  const ids = body['example_ids'];
  if (!Array.isArray(ids) || ids.length === 0) throw goError(400, 'example_ids is required');
  const wanted = ids.map(String);
  call.entry.ids = wanted;
  const how = copyDelete(call);
  if (body['hard_delete'] !== true) return softDeleteMany(call, wanted, how);
  if (how === 'soft') softDeleteMany(call, wanted, how);
  for (const id of how === 'done' ? wanted : []) {
    const example = call.world.copies.examples.get(id);
    if (example?.tenantId === call.tenantId) hardDelete(example, call.nowMs);
  }
  return { status: 200, body: { count: wanted.length, example_ids: wanted } };
}

function shareDataset(call: Call, make: boolean): Answer {
  const { id } = dataset(call);
  const { copies } = call.world;
  const fields = {
    tenantId: call.tenantId,
    kind: 'dataset',
    projectId: null,
    target: id,
    createdMs: call.nowMs,
  } as const;
  const share = make ? copies.share(fields) : copies.shareOf('dataset', null, id, call.nowMs);
  if (share === null) throw detail(404, 'Share not found');
  return { status: 200, body: { dataset_id: id, share_token: share.token } };
}

/** Datasets and their examples, with soft and hard deletion. */
export function datasetRoutes(app: FastifyInstance, world: World): void {
  const reads = { base: 'v1', method: 'GET', family: 'reads' } as const;
  const writes = { base: 'v1', method: 'POST', family: 'writes' } as const;
  const deletes = { base: 'v1', method: 'DELETE', family: 'deletes' } as const;
  defineRoute(app, world, { ...writes, path: '/datasets' }, createDataset);
  defineRoute(app, world, { ...reads, path: '/datasets' }, (call) => {
    const { offset, limit } = pageParams(call.query);
    const [name, contained, ids] = [call.query.get('name'), call.query.get('name_contains'), asList(call.query, 'id')];
    const found = datasets(call).filter(
      (one) =>
        (name === null || one.name === name) &&
        (contained === null || one.name.includes(contained)) &&
        (ids === null || ids.has(one.id)),
    );
    return { status: 200, body: found.slice(offset, offset + limit).map((one) => datasetJson(world, one)) };
  });
  defineRoute(app, world, { ...reads, path: '/datasets/:id' }, (call) => {
    return { status: 200, body: datasetJson(world, dataset(call)) };
  });
  defineRoute(app, world, { ...deletes, path: '/datasets/:id' }, (call) => {
    dataset(call).goneMs = call.nowMs;
    return { status: 200, body: { message: 'Dataset deleted' } };
  });
  const share = { base: 'v1', path: '/datasets/:id/share' } as const;
  defineRoute(app, world, { ...share, method: 'PUT', family: 'writes' }, (call) => shareDataset(call, true));
  defineRoute(app, world, { ...share, method: 'GET', family: 'reads' }, (call) => shareDataset(call, false));
  defineRoute(app, world, { ...share, method: 'DELETE', family: 'deletes' }, (call) => {
    const found = world.copies.shareOf('dataset', null, dataset(call).id, call.nowMs);
    if (found !== null) found.goneMs = call.nowMs;
    return { status: 200, body: { message: 'Dataset unshared' } };
  });
  const platform = { base: 'platform', path: '/datasets/:id/examples', family: 'writes' } as const;
  defineRoute(app, world, { ...platform, method: 'POST' }, uploadExamples);
  defineRoute(app, world, { ...platform, method: 'PATCH' }, updateExamples);
  const erase = { base: 'platform', method: 'POST', family: 'deletes' } as const;
  defineRoute(app, world, { ...erase, path: '/datasets/examples/delete' }, platformDelete);
  defineRoute(app, world, { ...reads, path: '/examples', limit: 'examples' }, listExamples);
  defineRoute(app, world, { ...reads, path: '/examples/:id', limit: 'examples' }, readExample);
  defineRoute(app, world, { ...writes, path: '/examples' }, postExamples);
  defineRoute(app, world, { ...writes, path: '/examples/bulk' }, postExamples);
  defineRoute(app, world, { ...deletes, path: '/examples' }, (call) => {
    return softDeleteMany(call, call.query.getAll('example_ids'));
  });
  defineRoute(app, world, { ...deletes, path: '/examples/:id' }, (call) =>
    softDeleteMany(call, [call.params['id'] ?? '']),
  );
}
