import type { FastifyInstance } from 'fastify';
import type { Queue, QueueItem } from './copies.ts';
import type { Answer } from '../common/http.ts';
import { copyDelete, defineRoute, detail, goError, unprocessable, type Call } from './http.ts';
import { isUuid } from '../common/ids.ts';
import { v1Run } from './render.ts';
import { record, type Json } from '../common/json.ts';
import { asList, pageParams } from './schemas.ts';
import { parseTime, rfc3339 } from '../common/time.ts';
import type { World } from './world.ts';

function queueJson(queue: Queue): Json {
  return {
    id: queue.id,
    tenant_id: queue.tenantId,
    name: queue.name,
    description: queue.description,
    queue_type: 'single',
    created_at: rfc3339(queue.createdMs),
    updated_at: rfc3339(queue.createdMs),
    num_reviewers_per_item: 1,
    enable_reservations: true,
    reservation_minutes: 1,
  };
}

function itemJson(item: QueueItem): Json {
  return {
    id: item.id,
    queue_id: item.queueId,
    item_type: item.kind,
    run_id: item.runId ?? undefined,
    thread_id: item.threadId ?? undefined,
    project_id: item.projectId,
    start_time: item.startMs === null ? null : rfc3339(item.startMs),
    added_at: rfc3339(item.addedMs),
    effective_added_at: rfc3339(item.addedMs),
    last_reviewed_time: null,
    completed_by: [],
    reserved_by: [],
  };
}

function queues(call: Call): Queue[] {
  return [...call.world.copies.queues.values()].filter((queue) => queue.tenantId === call.tenantId);
}

function one(call: Call): Queue {
  const queue = call.world.copies.queues.get(call.params['id'] ?? '');
  if (queue?.tenantId === call.tenantId) return queue;
  throw call.spec.base === 'v1' ? detail(404, 'Annotation queue not found') : goError(404, 'queue not found');
}

function create(call: Call): Answer {
  const body = record(call.json()) ?? {};
  if (typeof body['name'] !== 'string') throw unprocessable(['body', 'name'], 'Field required', 'missing');
  const queue: Queue = {
    id: isUuid(body['id']) ? body['id'] : call.world.random.uuid4(),
    tenantId: call.tenantId,
    name: body['name'],
    description: typeof body['description'] === 'string' ? body['description'] : null,
    createdMs: call.nowMs,
    items: [],
  };
  call.world.copies.queues.set(queue.id, queue);
  return { status: 200, body: queueJson(queue) };
}

interface NewItem {
  readonly runId: string | null;
  readonly threadId: string | null;
  readonly projectId: string | null;
  readonly startMs: number | null;
}

function add(call: Call, queue: Queue, items: readonly NewItem[]): QueueItem[] {
  const { world, nowMs } = call;
  return items.map((item) => {
    const row = world.state.rowsById(item.runId ?? '').find((one) => one.live(nowMs));
    if (row !== undefined) row.lastQueuedMs = nowMs;
    const stored: QueueItem = {
      id: world.random.uuid4(),
      queueId: queue.id,
      kind: item.runId === null ? 'THREAD' : 'RUN',
      runId: item.runId,
      threadId: item.threadId,
      projectId: item.projectId ?? row?.projectId ?? null,
      startMs: item.startMs ?? row?.startMs ?? null,
      addedMs: nowMs,
      status: 'needs_my_review',
    };
    queue.items.push(stored);
    return stored;
  });
}

function newItem(given: Json): NewItem {
  const text = (name: string): string | null => (typeof given[name] === 'string' ? given[name] : null);
  return {
    runId: text('run_id'),
    threadId: text('thread_id'),
    projectId: text('session_id') ?? text('project_id'),
    startMs: parseTime(given['start_time']),
  };
}

/** Takes the old form, a list of run ids, and the new one, a list of run keys. */
function addRuns(call: Call): Answer {
  const queue = one(call);
  const body = call.json();
  if (!Array.isArray(body)) throw unprocessable(['body'], 'Input should be a list', 'list_type');
  const items = body.map((entry: unknown) =>
    newItem(typeof entry === 'string' ? { run_id: entry } : (record(entry) ?? {})),
  );
  const stored = add(call, queue, items);
  return {
    status: 200,
    body: stored.map((item) => ({
      id: item.id,
      queue_id: queue.id,
      run_id: item.runId,
      added_at: rfc3339(item.addedMs),
    })),
  };
}

function addItems(call: Call): Answer {
  const queue = one(call);
  const items = record(call.json())?.['items'];
  if (!Array.isArray(items)) throw goError(400, 'items is required');
  return {
    status: 200,
    body: {
      items: add(
        call,
        queue,
        items.map((item) => newItem(record(item) ?? {})),
      ).map(itemJson),
    },
  };
}

/** Items whose run is gone are listed all the same: they hold ids and times, nothing else. */
function listItems(call: Call): Answer {
  const queue = one(call);
  const status = call.query.get('status') ?? '';
  if (!['needs_my_review', 'needs_others_review', 'archived'].includes(status)) throw goError(400, 'invalid status');
  const size = Number(call.query.get('page_size') ?? 100);
  const offset = Number(call.query.get('cursor') ?? 0) || 0;
  const types = asList(call.query, 'item_type');
  const items = queue.items.filter((item) => item.status === status && (types === null || types.has(item.kind)));
  const next = offset + size < items.length ? String(offset + size) : null;
  return { status: 200, body: { items: items.slice(offset, offset + size).map(itemJson), next_cursor: next } };
}

function removeItems(call: Call, queue: Queue, ids: readonly string[]): void {
  call.entry.ids = ids;
  for (const id of copyDelete(call) === 'ignored' ? [] : ids) {
    const index = queue.items.findIndex((item) => item.id === id);
    if (index >= 0) queue.items.splice(index, 1);
  }
}

function deleteItems(call: Call): Answer {
  const queue = one(call);
  const ids = record(call.json())?.['item_ids'];
  if (!Array.isArray(ids) || ids.length === 0) throw goError(400, 'item_ids is required');
  removeItems(call, queue, ids.map(String));
  return { status: 200, body: { status: 'deleted' } };
}

/** The old list shows runs that are still there. */
function listRuns(call: Call): Answer {
  const { offset, limit } = pageParams(call.query);
  const { world, atMs } = call;
  const found = one(call).items.flatMap((item) => {
    const row = world.state.rowsById(item.runId ?? '').find((run) => run.visible('v1', atMs));
    if (row === undefined) return [];
    return [{ ...v1Run(world, row, null), queue_run_id: item.id, added_at: rfc3339(item.addedMs) }];
  });
  return { status: 200, body: found.slice(offset, offset + limit) };
}

/** Annotation queues. Items stay when their trace is deleted. */
export function annotationRoutes(app: FastifyInstance, world: World): void {
  const reads = { base: 'v1', method: 'GET', family: 'reads' } as const;
  const writes = { base: 'v1', method: 'POST', family: 'writes' } as const;
  defineRoute(app, world, { ...reads, path: '/annotation-queues' }, (call) => {
    const { offset, limit } = pageParams(call.query);
    const name = call.query.get('name');
    const ids = asList(call.query, 'ids');
    const found = queues(call).filter(
      (queue) => (name === null || queue.name === name) && (ids?.has(queue.id) ?? true),
    );
    return { status: 200, body: found.slice(offset, offset + limit).map(queueJson) };
  });
  defineRoute(app, world, { ...writes, path: '/annotation-queues' }, create);
  defineRoute(app, world, { ...reads, path: '/annotation-queues/:id' }, (call) => ({
    status: 200,
    body: { ...queueJson(one(call)), rubric_items: [], rubric_instructions: null },
  }));
  defineRoute(app, world, { ...reads, path: '/annotation-queues/:id/size' }, (call) => ({
    status: 200,
    body: { size: one(call).items.length },
  }));
  defineRoute(
    app,
    world,
    { base: 'v1', method: 'DELETE', family: 'deletes', path: '/annotation-queues/:id' },
    (call) => {
      world.copies.queues.delete(one(call).id);
      return { status: 200, body: { message: 'Annotation queue deleted' } };
    },
  );
  // Here `id` is a run's: the queues it is in.
  defineRoute(app, world, { ...reads, path: '/annotation-queues/:id/queues' }, (call) => {
    const runId = call.params['id'] ?? '';
    if (!isUuid(runId)) throw unprocessable(['path', 'run_id'], 'Input should be a valid UUID', 'uuid_parsing');
    call.entry.ids = [runId];
    const found = queues(call).filter((queue) => queue.items.some((item) => item.runId === runId));
    return { status: 200, body: found.map(queueJson) };
  });
  defineRoute(app, world, { ...writes, path: '/annotation-queues/:id/runs', deprecated: true }, addRuns);
  defineRoute(app, world, { ...writes, path: '/annotation-queues/:id/runs/by-key' }, addRuns);
  defineRoute(app, world, { ...reads, path: '/annotation-queues/:id/runs', deprecated: true }, listRuns);
  const old = { base: 'v1', family: 'deletes', deprecated: true } as const;
  defineRoute(app, world, { ...old, method: 'DELETE', path: '/annotation-queues/:id/runs/:item' }, (call) => {
    removeItems(call, one(call), [call.params['item'] ?? '']);
    return { status: 200, body: { message: 'Run removed' } };
  });
  const platform = { base: 'platform', path: '/annotation-queues/:id/items' } as const;
  defineRoute(app, world, { ...platform, method: 'GET', family: 'reads' }, listItems);
  defineRoute(app, world, { ...platform, method: 'POST', family: 'writes' }, addItems);
  const items = { base: 'platform', method: 'POST', family: 'deletes' } as const;
  defineRoute(app, world, { ...items, path: '/annotation-queues/:id/items/delete' }, deleteItems);
}
