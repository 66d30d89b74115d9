import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { record, type Json } from '../common/json.ts';
import { defineRoute, idParam, refuse, sees, type Call, type Handler } from './http.ts';
import type { Automation, Container, Organisation, Project, Snapshot } from './state.ts';
import type { World } from './world.ts';

/** Objects that a list without a limit brings; the vendor documents no default. */
const DEFAULT_LIMIT = 100;
const MOST_OBJECTS = 1000;

function iso(ms: number): string | null {
  return ms === Infinity ? null : new Date(ms).toISOString();
}

function projectBody(world: World, project: Project): Json {
  return {
    id: project.id,
    org_id: project.orgId,
    name: project.name,
    description: null,
    created: iso(project.createdMs),
    deleted_at: iso(project.deletedMs),
    user_id: null,
    settings: { ...project.settings, disable_realtime_queries: world.realtimeDisabled(project.id) },
  };
}

function containerBody(one: Container): Json {
  return {
    description: null,
    metadata: null,
    tags: null,
    user_id: null,
    ...one.fields,
    id: one.id,
    project_id: one.projectId,
    name: one.name,
    created: iso(one.createdMs),
    deleted_at: iso(one.deletedMs),
    ...(one.type === 'experiment' ? { public: false } : { url_slug: one.name }),
  };
}

function snapshotBody(one: Snapshot): Json {
  return {
    id: one.id,
    dataset_id: one.datasetId,
    name: one.name,
    description: one.description,
    xact_id: one.xact,
    created: iso(one.createdMs),
  };
}

function automationBody(one: Automation): Json {
  return {
    id: one.id,
    project_id: one.projectId,
    user_id: null,
    created: iso(one.createdMs),
    name: one.name,
    description: null,
    config: one.config,
  };
}

/** One page, newest first, of what passes; the cursor is the id of the last (or first) object of the page before. */
function page<T extends { readonly id: string }>(call: Call, all: readonly T[], shown: (one: T) => boolean): T[] {
  const { query } = call;
  const limit = Number(query.get('limit') ?? DEFAULT_LIMIT);
  if (!Number.isInteger(limit) || limit < 0 || limit > MOST_OBJECTS) throw refuse(400, 'bad limit');
  const ids = query.getAll('ids');
  const [after, before] = [query.get('starting_after'), query.get('ending_before')];
  if (after !== null && before !== null) throw refuse(400, 'only one of starting_after and ending_before');
  const newest = [...all].reverse();
  const position = (id: string): number => {
    const found = newest.findIndex((one) => one.id === id);
    if (found < 0) throw refuse(400, 'unknown cursor');
    return found;
  };
  const fits = (one: T): boolean => shown(one) && (ids.length === 0 || ids.includes(one.id));
  if (before !== null) return limit === 0 ? [] : newest.slice(0, position(before)).filter(fits).slice(-limit);
  return newest
    .slice(after === null ? 0 : position(after) + 1)
    .filter(fits)
    .slice(0, limit);
}

function is(call: Call, name: string, value: string): boolean {
  const wanted = call.query.get(name);
  return wanted === null || wanted === value;
}

function orgIs(call: Call, orgId: string): boolean {
  const wanted = call.query.get('org_name');
  return (
    sees(call, orgId) && (wanted === null || call.world.organisations.some((o) => o.id === orgId && o.name === wanted))
  );
}

/** The project in reach of the key. @throws ApiError 403 when it is not there or not the key's. */
function projectIn(call: Call, id: string): Project {
  const project = call.world.state.project(id, call.nowMs);
  if (project === null || !sees(call, project.orgId))
    throw refuse(403, 'Missing access to the project, or it does not exist');
  return project;
}

function containerIn(call: Call, type: Container['type'], id: string): Container {
  const one = call.world.state.container(type, id, call.nowMs);
  if (one === null) throw refuse(403, `Missing access to the ${type}, or it does not exist`);
  projectIn(call, one.projectId);
  return one;
}

function text(body: Json, name: string): string | null {
  const value = body[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

function needed(body: Json, name: string): string {
  const value = text(body, name);
  if (value === null) throw refuse(400, `${name} is required`);
  return value;
}

/** Takes a project away: it and everything in it answer as if they were not there; the service calls it a soft delete. */
export function removeProject(world: World, project: Project, askedFor: boolean): void {
  for (const one of world.state.objects()) {
    if (world.state.projectOf(one)?.id === project.id) world.objectRemoved(one, 'project', askedFor);
  }
  project.deletedMs = world.now();
}

function listProjects(call: Call): Answer {
  const { world, nowMs } = call;
  const blind = world.habits.current.blind?.projects === true;
  const found = page(
    call,
    [...world.state.projects.values()],
    (one) => !blind && nowMs < one.deletedMs && orgIs(call, one.orgId) && is(call, 'project_name', one.name),
  );
  return { status: 200, body: { objects: found.map((one) => projectBody(world, one)) } };
}

function orgNamed(call: Call, name: string | null): Organisation {
  if (name === null) return call.organisation;
  const found = call.key.organisations.find((one) => one.name === name || one.id === name);
  if (found === undefined) throw refuse(403, 'Missing access to the organization, or it does not exist');
  return found;
}

/** Creates a project, or gives back the one of that name: no look-up. */
function createProject(call: Call): Answer {
  const body = call.json();
  const { id } = orgNamed(call, text(body, 'org_name'));
  return { status: 200, body: projectBody(call.world, call.world.projectFor(id, needed(body, 'name'), call.nowMs)) };
}

function projectRoutes(app: FastifyInstance, world: World): void {
  const path = '/v1/project';
  const control = { path, limit: 'control' } as const;
  defineRoute(app, world, { ...control, method: 'GET', family: 'reads' }, listProjects);
  defineRoute(app, world, { ...control, method: 'POST', family: 'writes' }, createProject);
  const single = { path: `${path}/:id`, limit: 'control' } as const;
  const one: Handler = (call) => ({ status: 200, body: projectBody(world, projectIn(call, idParam(call))) });
  defineRoute(app, world, { ...single, method: 'GET', family: 'reads' }, one);
  defineRoute(app, world, { ...single, method: 'PATCH', family: 'writes' }, (call) => {
    const project = projectIn(call, idParam(call));
    const body = call.json();
    project.name = text(body, 'name') ?? project.name;
    project.settings = { ...project.settings, ...record(body['settings']) };
    return { status: 200, body: projectBody(world, project) };
  });
  defineRoute(app, world, { ...single, method: 'DELETE', family: 'deletes' }, (call) => {
    const project = projectIn(call, idParam(call));
    call.entry.projectId = project.id;
    removeProject(world, project, false);
    return { status: 200, body: projectBody(world, project) };
  });
}

function containerRoutes(app: FastifyInstance, world: World, type: 'experiment' | 'dataset'): void {
  const path = `/v1/${type}`;
  const control = { path, limit: 'control' } as const;
  defineRoute(app, world, { ...control, method: 'GET', family: 'reads' }, (call) => {
    const found = page(call, [...world.state.containers.values()], (one) => {
      if (one.type !== type || world.state.container(type, one.id, call.nowMs) === null) return false;
      const project = world.state.projects.get(one.projectId);
      if (project === undefined || !orgIs(call, project.orgId) || !is(call, 'project_name', project.name)) return false;
      return is(call, 'project_id', one.projectId) && is(call, `${type}_name`, one.name);
    });
    return { status: 200, body: { objects: found.map(containerBody) } };
  });
  defineRoute(app, world, { ...control, method: 'POST', family: 'writes' }, (call) => {
    const body = call.json();
    const project = projectIn(call, needed(body, 'project_id'));
    return { status: 200, body: containerBody(containerFor(call, type, project, text(body, 'name'), body)) };
  });
  const single = { path: `${path}/:id`, limit: 'control' } as const;
  defineRoute(app, world, { ...single, method: 'GET', family: 'reads' }, (call) => ({
    status: 200,
    body: containerBody(containerIn(call, type, idParam(call))),
  }));
  defineRoute(app, world, { ...single, method: 'DELETE', family: 'deletes' }, (call) => {
    const one = containerIn(call, type, idParam(call));
    call.entry.projectId = one.projectId;
    world.objectRemoved({ objectType: type, objectId: one.id }, 'object', false);
    one.deletedMs = call.nowMs;
    return { status: 200, body: containerBody(one) };
  });
}

function containerFor(
  call: Call,
  type: 'experiment' | 'dataset',
  project: Project,
  name: string | null,
  body: Json,
): Container {
  const { state, random } = call.world;
  const wanted = name ?? `${type}-${random.uuid4().slice(0, 8)}`;
  const { description = null, metadata = null, tags = null } = body;
  const known = state.containerByName(type, project.id, wanted, call.nowMs);
  if (known !== null && (type === 'dataset' || body['update'] === true)) return known;
  const free = known === null ? wanted : `${wanted}-${random.uuid4().slice(0, 8)}`;
  return state.addContainer(type, project.id, free, { description, metadata, tags }, call.nowMs);
}

function createSnapshot(call: Call, name: string, body: Json): Snapshot {
  const { state, random } = call.world;
  const dataset = containerIn(call, 'dataset', needed(body, 'dataset_id'));
  const snapshot: Snapshot = {
    id: random.uuid4(),
    datasetId: dataset.id,
    name,
    description: text(body, 'description'),
    xact: needed(body, 'xact_id'),
    createdMs: call.nowMs,
  };
  state.snapshots.set(snapshot.id, snapshot);
  return snapshot;
}

function removeSnapshot(call: Call, id: string): Answer {
  const one = call.world.state.snapshots.get(id);
  if (one === undefined) throw refuse(403, 'Missing access to the snapshot, or it does not exist');
  containerIn(call, 'dataset', one.datasetId);
  call.world.state.snapshots.delete(id);
  return { status: 200, body: snapshotBody(one) };
}

/** Brings the rows of a dataset back to what they were at a transaction. */
function restore(call: Call, doIt: boolean): { restored: number; deleted: number; xact: string | null } {
  const { world, nowMs } = call;
  const objectId = containerIn(call, 'dataset', idParam(call)).id;
  const place = { objectType: 'dataset', objectId } as const;
  const version = needed(call.json(), 'version');
  const events = [...new Set(world.state.rowsIn(place).rows.map((row) => row.id))].flatMap((id): Json[] => {
    const lives = world.state.rowsIn(place).livesOf(id);
    const then = lives.map((row) => row.versionAtXact(version)).find((one) => one !== null)?.data ?? null;
    const now = lives.find((row) => row.live(nowMs))?.versionAt(nowMs)?.data ?? null;
    if (then === null) return now === null ? [] : [{ id, _object_delete: true }];
    return JSON.stringify(then) === JSON.stringify(now) ? [] : [then];
  });
  const deleted = events.filter((event) => event['_object_delete'] === true).length;
  const xact = doIt && events.length > 0 ? world.state.nextXact(nowMs) : null;
  if (xact !== null) world.writeAll(place, events, { route: call.route, nowMs, xact });
  return { restored: events.length - deleted, deleted, xact };
}

function snapshotRoutes(app: FastifyInstance, world: World): void {
  const path = '/v1/dataset_snapshot';
  const control = { path, limit: 'control' } as const;
  // The spec knows no filter by dataset; what is not in the spec is ignored.
  defineRoute(app, world, { ...control, method: 'GET', family: 'reads' }, (call) => {
    const found = page(call, [...world.state.snapshots.values()], (one) => {
      const project = world.state.projectOf({ objectType: 'dataset', objectId: one.datasetId });
      return project !== null && orgIs(call, project.orgId) && is(call, 'dataset_snapshot_name', one.name);
    });
    return { status: 200, body: { objects: found.map(snapshotBody) } };
  });
  defineRoute(app, world, { ...control, method: 'POST', family: 'writes' }, (call) => {
    const body = call.json();
    return { status: 200, body: snapshotBody(createSnapshot(call, needed(body, 'name'), body)) };
  });
  defineRoute(app, world, { ...control, path: `${path}/:id`, method: 'DELETE', family: 'deletes' }, (call) =>
    removeSnapshot(call, idParam(call)),
  );
  const dataset = { method: 'POST', family: 'writes', limit: 'control' } as const;
  defineRoute(app, world, { ...dataset, path: '/v1/dataset/:id/restore' }, (call) => {
    const { restored, deleted, xact } = restore(call, true);
    return { status: 200, body: { xact_id: xact, rows_restored: restored, rows_deleted: deleted } };
  });
  defineRoute(app, world, { ...dataset, path: '/v1/dataset/:id/restore/preview' }, (call) => {
    const { restored, deleted } = restore(call, false);
    return { status: 200, body: { rows_to_restore: restored, rows_to_delete: deleted } };
  });
}

function automationRoutes(app: FastifyInstance, world: World): void {
  const control = { path: '/v1/project_automation', limit: 'control' } as const;
  // No filter by project exists.
  defineRoute(app, world, { ...control, method: 'GET', family: 'reads' }, (call) => {
    const found = page(call, [...world.state.automations.values()], (one) => {
      const project = world.state.project(one.projectId, call.nowMs);
      return project !== null && orgIs(call, project.orgId) && is(call, 'project_automation_name', one.name);
    });
    return { status: 200, body: { objects: found.map(automationBody) } };
  });
  defineRoute(app, world, { ...control, method: 'POST', family: 'writes' }, (call) => {
    const body = call.json();
    const project = projectIn(call, needed(body, 'project_id'));
    const config = record(body['config']);
    if (config === null) throw refuse(400, 'config is required');
    const one = {
      id: world.random.uuid4(),
      projectId: project.id,
      name: needed(body, 'name'),
      config,
      createdMs: call.nowMs,
    };
    world.state.automations.set(one.id, one);
    return { status: 200, body: automationBody(one) };
  });
}

/** What the vendor's control plane serves under `/v1`. */
export function objectRoutes(app: FastifyInstance, world: World): void {
  projectRoutes(app, world);
  containerRoutes(app, world, 'experiment');
  containerRoutes(app, world, 'dataset');
  snapshotRoutes(app, world);
  automationRoutes(app, world);
}

function registered(call: Call): { body: Json; project: Project } {
  const body = call.json();
  const id = text(body, 'project_id');
  if (id !== null) return { body, project: projectIn(call, id) };
  const org = orgNamed(call, text(body, 'org_name') ?? text(body, 'org_id'));
  return { body, project: call.world.projectFor(org.id, needed(body, 'project_name'), call.nowMs) };
}

function register(call: Call, type: 'experiment' | 'dataset'): Answer {
  const { body, project } = registered(call);
  const one = containerFor(call, type, project, text(body, `${type}_name`), body);
  return { status: 200, body: { project: projectBody(call.world, project), [type]: containerBody(one) } };
}

/** What the SDK asks of the application address: `/api/...`. */
export function appRoutes(app: FastifyInstance, world: World): void {
  const post = (path: string, handler: Handler): void => {
    defineRoute(app, world, { method: 'POST', path, family: 'writes', limit: 'control' }, handler);
  };
  defineRoute(app, world, { method: 'POST', path: '/api/apikey/login', family: 'reads', limit: 'control' }, (call) => ({
    status: 200,
    body: {
      org_info: call.key.organisations.map(({ id, name }) => ({
        id,
        name,
        api_url: world.apiUrl,
        proxy_url: world.apiUrl,
        git_metadata: null,
        is_universal_api: false,
      })),
    },
  }));
  post('/api/project/register', (call) => ({
    status: 200,
    body: { project: projectBody(world, registered(call).project) },
  }));
  defineRoute(app, world, { method: 'GET', path: '/api/project', family: 'reads', limit: 'control' }, (call) => ({
    status: 200,
    body: projectBody(world, projectIn(call, call.query.get('id') ?? '')),
  }));
  post('/api/dataset/register', (call) => register(call, 'dataset'));
  post('/api/experiment/register', (call) => register(call, 'experiment'));
  post('/api/experiment/get', (call) => {
    const body = call.json();
    const { id: orgId } = orgNamed(call, text(body, 'org_name'));
    const id =
      text(body, 'project_id') ?? world.state.projectByName(orgId, needed(body, 'project_name'), call.nowMs)?.id;
    const one =
      id === undefined
        ? null
        : world.state.containerByName('experiment', id, needed(body, 'experiment_name'), call.nowMs);
    return { status: 200, body: one === null ? [] : [containerBody(one)] };
  });
  post('/api/base_experiment/get_id', () => {
    throw refuse(400, 'no base experiment');
  });
  post('/api/self/get_object_info', (call) => {
    const body = call.json();
    const type = needed(body, 'object_type');
    const ids: unknown[] = Array.isArray(body['object_ids']) ? body['object_ids'] : [];
    const found = [...world.state.containers.values()].filter(
      (one) =>
        one.type === type && ids.includes(one.id) && world.state.container(one.type, one.id, call.nowMs) !== null,
    );
    return {
      status: 200,
      body: found.map((one) => ({
        object_id: one.id,
        object_name: one.name,
        parent_cols: { project: { id: one.projectId, name: world.state.projects.get(one.projectId)?.name } },
      })),
    };
  });
  post('/api/dataset_snapshot/register', (call) => {
    const body = call.json();
    return {
      status: 200,
      body: { dataset_snapshot: snapshotBody(createSnapshot(call, needed(body, 'dataset_snapshot_name'), body)) },
    };
  });
  post('/api/dataset_snapshot/get', (call) => {
    const body = call.json();
    const dataset = containerIn(call, 'dataset', needed(body, 'dataset_id'));
    const [name, xact] = [text(body, 'name'), text(body, 'xact_id')];
    const found = [...world.state.snapshots.values()].filter(
      (one) =>
        one.datasetId === dataset.id && (name === null || one.name === name) && (xact === null || one.xact === xact),
    );
    return { status: 200, body: found.map(snapshotBody) };
  });
  post('/api/dataset_snapshot/delete_id', (call) => removeSnapshot(call, needed(call.json(), 'id')));
}
