import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { defineRoute, detail, goError, unprocessable, type Call } from './http.ts';
import { BODY_LIMIT_BYTES } from './http.ts';
import { fingerprint, isUuid } from '../common/ids.ts';
import { v1Project, v2Project } from './render.ts';
import { record, type Json } from '../common/json.ts';
import { asList, pageParams } from './schemas.ts';
import type { Project } from './state.ts';
import { parseTime } from '../common/time.ts';
import type { World } from './world.ts';

function info(call: Call): Answer {
  const { world } = call;
  return {
    status: 200,
    body: {
      version: world.version,
      instance_flags: world.instanceFlags,
      batch_ingest_config: {
        use_multipart_endpoint: true,
        scale_up_qsize_trigger: 1000,
        scale_up_nthreads_limit: 16,
        scale_down_nempty_trigger: 4,
        size_limit: 100,
        size_limit_bytes: BODY_LIMIT_BYTES,
      },
    },
  };
}

function contains(whole: unknown, part: Json): boolean {
  const found = record(whole) ?? {};
  return Object.entries(part).every(([key, value]) => JSON.stringify(found[key]) === JSON.stringify(value));
}

function metadataParam(query: URLSearchParams): Json | null {
  const given = query.get('metadata');
  if (given === null) return null;
  try {
    return record(JSON.parse(given)) ?? {};
  } catch {
    throw unprocessable(['query', 'metadata'], 'Input should be valid JSON', 'json_invalid');
  }
}

function listed(call: Call, keep: (project: Project) => boolean): Project[] {
  const { world, query, tenantId, nowMs } = call;
  if (world.habits.current.blind?.projects === true) return [];
  const name = query.get('name');
  const contained = query.get('name_contains');
  const metadata = metadataParam(query);
  return world.state
    .liveProjects(tenantId, nowMs)
    .filter(
      (project) =>
        project.listed &&
        (name === null || project.name === name) &&
        (contained === null || project.name.includes(contained)) &&
        (metadata === null || contains(project.extra['metadata'], metadata)) &&
        keep(project),
    )
    .sort((left, right) => right.startMs - left.startMs || (left.id < right.id ? -1 : 1));
}

function v1List(call: Call): Answer {
  const { query } = call;
  const { offset, limit } = pageParams(query);
  const ids = asList(query, 'id');
  const datasets = asList(query, 'reference_dataset');
  const free = query.get('reference_free');
  const projects = listed(
    call,
    (project) =>
      (ids === null || ids.has(project.id)) &&
      (datasets === null || (project.referenceDatasetId !== null && datasets.has(project.referenceDatasetId))) &&
      (free === null || (project.referenceDatasetId === null) === (free === 'true')),
  );
  return { status: 200, body: projects.slice(offset, offset + limit).map(v1Project) };
}

function v2List(call: Call): Answer {
  const { query } = call;
  const size = Number(query.get('page_size') ?? 100);
  if (!Number.isInteger(size) || size < 1 || size > 100) throw goError(400, 'invalid page_size');
  const types = asList(query, 'type');
  for (const type of types ?? []) {
    if (!['PROJECT', 'AGENT', 'EXPERIMENT'].includes(type)) throw goError(400, `invalid type: ${type}`);
  }
  const datasets = asList(query, 'reference_dataset_id');
  const print = fingerprint([...query].filter(([name]) => name !== 'cursor' && name !== 'page_size').sort());
  const cursor = query.get('cursor');
  const [givenPrint, givenOffset] = (cursor ?? `${print}.0`).split('.');
  const offset = Number(givenOffset);
  if (givenPrint !== print || !Number.isInteger(offset)) throw goError(400, 'invalid cursor');
  const projects = listed(
    call,
    (project) =>
      (types === null || types.has(project.type)) &&
      (datasets === null || (project.referenceDatasetId !== null && datasets.has(project.referenceDatasetId))),
  );
  const next = offset + size < projects.length ? `${print}.${offset + size}` : null;
  return { status: 200, body: { items: projects.slice(offset, offset + size).map(v2Project), next_cursor: next } };
}

function one(call: Call): Project {
  const id = call.params['id'] ?? '';
  if (!isUuid(id)) throw unprocessable(['path', 'session_id'], 'Input should be a valid UUID', 'uuid_parsing');
  const project = call.world.state.projects.get(id.toLowerCase());
  if (project?.tenantId !== call.tenantId || call.nowMs >= project.goneMs) throw detail(404, 'Session not found');
  return project;
}

function create(call: Call): Answer {
  const { world, tenantId, nowMs } = call;
  const body = record(call.json()) ?? {};
  const name = body['name'];
  if (typeof name !== 'string' || name === '') throw unprocessable(['body', 'name'], 'Field required', 'missing');
  const known = world.state.projectByName(tenantId, name, nowMs);
  if (known !== null) {
    if (call.query.get('upsert') === 'true') return { status: 200, body: v1Project(known) };
    throw detail(409, 'Session with this name already exists');
  }
  const dataset = body['reference_dataset_id'];
  const project = world.state.addProject(
    {
      tenantId,
      name,
      id: isUuid(body['id']) ? body['id'] : undefined,
      description: typeof body['description'] === 'string' ? body['description'] : null,
      extra: { ...record(body['extra']) },
      referenceDatasetId: isUuid(dataset) ? dataset : null,
    },
    nowMs,
  );
  return { status: 200, body: v1Project(project) };
}

function change(call: Call): Answer {
  const project = one(call);
  const body = record(call.json()) ?? {};
  if (typeof body['name'] === 'string') project.name = body['name'];
  if (typeof body['description'] === 'string') project.description = body['description'];
  const extra = record(body['extra']);
  if (extra !== null) project.extra = { ...project.extra, ...extra };
  const endMs = parseTime(body['end_time']);
  if (endMs !== null) project.endMs = endMs;
  return { status: 200, body: v1Project(project) };
}

/** The project answers 404 at once; its runs stay until a batch has removed them. */
function remove(call: Call): Answer {
  const project = one(call);
  call.entry.projectId = project.id;
  project.goneMs = call.nowMs;
  return {
    status: 202,
    headers: { location: `/api/v1/sessions/${project.id}` },
    body: { message: 'Deletion accepted' },
  };
}

function resolve(call: Call): Answer {
  const { world, tenantId, nowMs, query } = call;
  const kind = (query.get('kind') ?? '').toUpperCase();
  if (!['AGENT', 'EXPERIMENT', 'EVALUATOR'].includes(kind)) throw goError(400, 'invalid kind');
  const id = query.get('id');
  const environment = (query.get('environment') ?? '').toUpperCase();
  const found = world.state.liveProjects(tenantId, nowMs).find((project) => {
    if (kind === 'EVALUATOR') return project.evaluator;
    if (kind === 'EXPERIMENT') return project.type === 'EXPERIMENT' && project.id === id;
    return project.agent !== null && project.agent.id === id && project.agent.environment === environment;
  });
  if (found === undefined) throw goError(404, 'address not found');
  return { status: 200, body: { session_id: found.id } };
}

/** Service information, workspaces and projects. */
export function projectRoutes(app: FastifyInstance, world: World): void {
  const reads = { base: 'v1', family: 'reads', method: 'GET' } as const;
  defineRoute(app, world, { ...reads, path: '/info', open: true }, info);
  defineRoute(app, world, { ...reads, path: '/workspaces' }, (call) => {
    const visible = world.workspaces.filter((one) => call.key.orgScoped || one.id === call.key.workspaceId);
    const body = visible.map((one) => ({ id: one.id, display_name: one.name, tenant_handle: null, is_deleted: false }));
    return { status: 200, body };
  });
  defineRoute(app, world, { ...reads, path: '/sessions' }, v1List);
  defineRoute(app, world, { ...reads, base: 'v2', path: '/sessions' }, v2List);
  defineRoute(app, world, { ...reads, path: '/sessions/resolutions' }, resolve);
  defineRoute(app, world, { ...reads, path: '/sessions/:id' }, (call) => ({ status: 200, body: v1Project(one(call)) }));
  defineRoute(app, world, { ...reads, path: '/sessions/:id/insights' }, (call) => {
    one(call);
    return { status: 200, body: { clustering_jobs: [] } };
  });
  defineRoute(app, world, { base: 'v1', family: 'writes', method: 'POST', path: '/sessions' }, create);
  defineRoute(app, world, { base: 'v1', family: 'writes', method: 'PATCH', path: '/sessions/:id' }, change);
  const deletes = { base: 'v1', family: 'deletes', method: 'DELETE', limit: 'delete-session' } as const;
  defineRoute(app, world, { ...deletes, path: '/sessions/:id' }, remove);
  defineRoute(app, world, { ...reads, path: '/bulk-exports' }, (call) => {
    const body = world.copies.bulkExports.filter((one) => one.tenantId === call.tenantId).map((one) => one.body);
    return { status: 200, body };
  });
  defineRoute(app, world, { ...reads, path: '/runs/rules' }, (call) => {
    const body = world.copies.rules.filter((one) => one.tenantId === call.tenantId).map((one) => one.body);
    return { status: 200, body };
  });
}
