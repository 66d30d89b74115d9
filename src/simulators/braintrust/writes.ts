import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import { isUuid } from '../common/ids.ts';
import { record, type Json } from '../common/json.ts';
import { defineRoute, idParam, refuse, sees, type Call } from './http.ts';
import type { NamedRows } from './ledger.ts';
import type { ObjectType } from './rows.ts';
import type { Place } from './state.ts';
import type { World } from './world.ts';

/** Objects that the REST routes insert into; playgrounds are written through `/logs3` alone. */
const INSERTABLE = ['project_logs', 'experiment', 'dataset'] as const;
/** Fields the server assigns: an insert that holds one is refused. */
const ASSIGNED = ['_xact_id', '_pagination_key', 'audit_data', 'project_id', 'experiment_id', 'dataset_id', 'org_id'];

/** One object's part of a request. */
interface Batch {
  readonly place: Place;
  readonly events: readonly Json[];
}

/** @throws ApiError 403 when the object is not there or not the key's; the vendor does not tell which. */
export function checkPlace(call: Call, place: Place): void {
  const project = call.world.state.projectOf(place);
  const there = project !== null && sees(call, project.orgId) && call.world.state.exists(place, call.nowMs);
  if (!there) throw refuse(403, `Missing access to the ${place.objectType} object, or it does not exist`);
}

function eventsOf(value: unknown): Json[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw refuse(400, 'events must be a list');
  return value.map((one) => {
    const event = record(one);
    if (event === null) throw refuse(400, 'an event must be an object');
    const id = event['id'] ?? null;
    if (id !== null && (typeof id !== 'string' || id === '')) throw refuse(400, 'id must be a text');
    return event;
  });
}

function checkAssigned(events: readonly Json[]): void {
  for (const event of events) {
    const found = ASSIGNED.find((name) => name in event);
    if (found !== undefined) throw refuse(400, `${found} is assigned by the server and cannot be inserted`);
  }
}

/** A feedback item as the rows it stands for: a merge into the row, and a comment as a row of its own. */
function feedbackEvents(call: Call, value: unknown): Json[] {
  return eventsOf(value).flatMap((item) => {
    const { id } = item;
    if (typeof id !== 'string') throw refuse(400, 'feedback needs the id of its row');
    const audit = { _audit_source: item['source'] ?? 'external', _audit_metadata: item['metadata'] ?? null };
    const fields = ['scores', 'expected', 'tags'].filter((name) => name in item);
    const merge = { id, ...Object.fromEntries(fields.map((name) => [name, item[name]])), _is_merge: true };
    const comment = {
      id: call.world.random.uuid4(),
      created: new Date(call.nowMs).toISOString(),
      origin: { id },
      comment: { text: item['comment'] },
      ...audit,
    };
    return [...(fields.length > 0 ? [merge] : []), ...(typeof item['comment'] === 'string' ? [comment] : [])];
  });
}

/** Notes what the request names for deletion, and refuses what the key or a habit refuses: all or nothing. */
function admit(call: Call, batches: readonly Batch[]): void {
  const { world, entry, key } = call;
  const named: NamedRows[] = batches.flatMap(({ place, events }) => {
    const ids = events.flatMap(({ id, _object_delete: gone }) => (gone === true && typeof id === 'string' ? [id] : []));
    return ids.length === 0 ? [] : [{ ...place, ids }];
  });
  const all = batches.flatMap(({ events }) => events);
  entry.events = all.length;
  if (named.length > 0) {
    entry.deletes = named;
    entry.ids = named.flatMap(({ ids }) => ids);
  }
  const [only, ...others] = batches;
  if (only !== undefined && others.length === 0) entry.projectId = world.state.projectOf(only.place)?.id ?? null;
  for (const { place } of batches) checkPlace(call, place);
  if (!key.writes || (named.length > 0 && !key.deletes)) throw refuse(403, 'Forbidden');
}

function refuseByHabit(call: Call, batches: readonly Batch[]): void {
  const { rejectBatchWith, rejectLargerThan } = call.world.habits.current;
  const all = batches.flatMap(({ events }) => events);
  if (rejectLargerThan !== null && all.length > rejectLargerThan.events) {
    call.entry.cause = 'habit:rejectLargerThan';
    throw refuse(rejectLargerThan.status ?? 413, 'Payload too large');
  }
  if (rejectBatchWith !== null && all.some(({ id }) => rejectBatchWith.ids.includes(String(id)))) {
    call.entry.cause = 'habit:rejectBatchWith';
    throw refuse(rejectBatchWith.status ?? 400, 'Invalid event');
  }
}

/** What the answer says was written: the ids of the input, unless a habit says something else about a delete. */
function told(call: Call, events: readonly Json[], ids: readonly string[]): readonly string[] {
  const { rowIds } = call.world.habits.current;
  if (!events.some((event) => event['_object_delete'] === true)) return ids;
  if (rowIds === 'fewer') return ids.slice(0, -1);
  if (rowIds === 'other') return ids.map(() => call.world.random.uuid4());
  return rowIds === 'reversed' ? [...ids].reverse() : ids;
}

function write(call: Call, { place, events }: Batch, xact: string): readonly string[] {
  return call.world.writeAll(place, events, { route: call.route, nowMs: call.nowMs, xact });
}

function insert(call: Call, objectType: ObjectType): Answer {
  const place = { objectType, objectId: idParam(call) };
  const events = eventsOf(call.json()['events'] ?? 'missing');
  const batch = { place, events };
  admit(call, [batch]);
  checkAssigned(events);
  refuseByHabit(call, [batch]);
  const ids = write(call, batch, call.world.state.nextXact(call.nowMs));
  return { status: 200, body: { row_ids: told(call, events, ids) } };
}

function feedback(call: Call, objectType: ObjectType): Answer {
  const batch = {
    place: { objectType, objectId: idParam(call) },
    events: feedbackEvents(call, call.json()['feedback']),
  };
  admit(call, [batch]);
  write(call, batch, call.world.state.nextXact(call.nowMs));
  return { status: 200, body: { status: 'success' } };
}

/** `POST /v1/insert`: object type → object id → events and feedback; one transaction over all objects. */
function insertAcross(call: Call): Answer {
  const body = call.json();
  const batches = INSERTABLE.flatMap((objectType) =>
    Object.entries(record(body[objectType]) ?? {}).map(([id, value]) => {
      if (!isUuid(id)) throw refuse(400, 'invalid id: expected a UUID');
      const part = record(value) ?? {};
      const events = eventsOf(part['events']);
      return { place: { objectType, objectId: id.toLowerCase() }, given: id, events, part };
    }),
  );
  admit(call, batches);
  checkAssigned(batches.flatMap(({ events }) => events));
  refuseByHabit(call, batches);
  const extra = batches.map(({ part }) => feedbackEvents(call, part['feedback']));
  const xact = call.world.state.nextXact(call.nowMs);
  const answer: Record<string, Record<string, { row_ids: readonly string[] }>> = {};
  batches.forEach((batch, index) => {
    const ids = write(call, batch, xact);
    write(call, { place: batch.place, events: extra[index] ?? [] }, xact);
    const byId = (answer[batch.place.objectType] ??= {});
    byId[batch.given] = { row_ids: told(call, batch.events, ids) };
  });
  return { status: 200, body: answer };
}

/** The object a row of `/logs3` belongs to. */
function placeOf(row: Json): Place {
  const named = (name: string): string | null => (typeof row[name] === 'string' ? row[name] : null);
  const experiment = named('experiment_id');
  if (experiment !== null) return { objectType: 'experiment', objectId: experiment };
  const dataset = named('dataset_id');
  if (dataset !== null) return { objectType: 'dataset', objectId: dataset };
  const session = named('prompt_session_id');
  if (session !== null && row['log_id'] === 'x') return { objectType: 'playground_logs', objectId: session };
  const project = named('project_id');
  if (project !== null && row['log_id'] === 'g') return { objectType: 'project_logs', objectId: project };
  throw refuse(400, 'a row names no object');
}

/** `POST /logs3`: what the SDKs write through. */
function logs3(call: Call): Answer {
  const rows = eventsOf(call.json()['rows'] ?? 'missing');
  const batches = new Map<string, { place: Place; events: Json[] }>();
  for (const row of rows) {
    const place = placeOf(row);
    const key = `${place.objectType} ${place.objectId}`;
    const batch = batches.get(key) ?? { place, events: [] };
    batches.set(key, batch);
    batch.events.push(row);
  }
  const all = [...batches.values()];
  admit(call, all);
  const xact = call.world.state.nextXact(call.nowMs);
  return { status: 200, body: { ids: all.flatMap((batch) => write(call, batch, xact)) } };
}

/** Routes that write rows. */
export function writeRoutes(app: FastifyInstance, world: World): void {
  for (const type of INSERTABLE) {
    const post = { method: 'POST', path: `/v1/${type}/:id` } as const;
    defineRoute(app, world, { ...post, path: `${post.path}/insert`, family: 'deletes' }, (call) => insert(call, type));
    defineRoute(app, world, { ...post, path: `${post.path}/feedback`, family: 'writes' }, (call) =>
      feedback(call, type),
    );
  }
  defineRoute(app, world, { method: 'POST', path: '/v1/insert', family: 'deletes' }, insertAcross);
  defineRoute(app, world, { method: 'POST', path: '/logs3', family: 'writes' }, logs3);
}
