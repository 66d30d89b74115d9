import { Busboy } from '@fastify/busboy';
import type { FastifyInstance } from 'fastify';
import { ApiError, type Answer } from '../common/http.ts';
import { defineRoute, detail, unprocessable, type Call } from './http.ts';
import { isUuid } from '../common/ids.ts';
import type { RunFields, RunRow } from './rows.ts';
import { parseTime } from '../common/time.ts';
import { feedbackFrom } from './routes-feedback.ts';

type Json = Readonly<Record<string, unknown>>;

/** One part of a multipart body. */
export interface Part {
  readonly name: string;
  readonly mimeType: string;
  readonly data: Buffer;
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Splits a multipart body; every part is kept as bytes, for the SDK sends JSON and attachments alike without file names. */
export async function partsOf(call: Call): Promise<Part[]> {
  const parts: Part[] = [];
  const parser = new Busboy({
    headers: { 'content-type': call.contentType },
    isPartAFile: () => true,
    limits: { fieldNameSize: 4096 },
  });
  const finished = new Promise<void>((resolve, reject) => {
    parser.on('finish', resolve);
    parser.on('error', reject);
  });
  parser.on('file', (name, stream, _filename, _encoding, mimeType) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => parts.push({ name, mimeType, data: Buffer.concat(chunks) }));
  });
  parser.end(call.body);
  await finished;
  return parts;
}

function uuidText(value: unknown): string | undefined {
  return isUuid(value) ? value.toLowerCase() : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function time(value: unknown, name: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  const ms = parseTime(value);
  if (ms === null) throw unprocessable(['body', name], 'Input should be a valid datetime', 'datetime_parsing');
  return ms;
}

function metadataOf(extra: unknown): Json | undefined {
  return isRecord(extra) && isRecord(extra['metadata']) ? extra['metadata'] : undefined;
}

/** Parent and trace as the dotted order tells them: `<time><trace id>.<time><parent id>.<time><own id>`. */
function lineage(dottedOrder: string | undefined): { traceId: string | undefined; parentId: string | undefined } {
  const ids = dottedOrder?.split('.').map((part) => part.slice(-36)) ?? [];
  const [traceId] = ids;
  const parentId = ids.at(-2);
  return { traceId: uuidText(traceId), parentId: uuidText(parentId) };
}

function projectIdFor(call: Call, run: Json, known: RunRow | undefined): string {
  const { world, tenantId, nowMs } = call;
  const address = text(run['address']);
  if (address !== undefined) {
    const agent = world.agentProject(tenantId, address, nowMs);
    if (agent === null) throw unprocessable(['body', 'address'], 'Invalid address', 'value_error');
    return agent.id;
  }
  const sessionId = text(run['session_id']);
  if (sessionId !== undefined) {
    const project = world.state.projects.get(sessionId);
    if (project?.tenantId !== tenantId || nowMs >= project.goneMs) throw detail(404, 'Session not found');
    return sessionId;
  }
  const name = text(run['session_name']);
  if (name === undefined && known !== undefined) return known.projectId;
  return world.projectFor(tenantId, name ?? 'default', nowMs).id;
}

/** Stores what one `post` or `patch` says about a run. */
function writeRun(call: Call, run: Json, attachments?: RunFields['attachments']): void {
  const { world, nowMs, tenantId } = call;
  const id = uuidText(run['id']);
  if (id === undefined) throw unprocessable(['body', 'id'], 'Input should be a valid UUID', 'uuid_parsing');
  const known = world.state
    .rowsById(id)
    .find((row) => world.state.tenantOf(row.projectId) === tenantId && row.live(nowMs));
  const dottedOrder = text(run['dotted_order']);
  const line = lineage(dottedOrder);
  const extra = isRecord(run['extra']) ? run['extra'] : undefined;
  const { metadata: _metadata, ...restOfExtra } = extra ?? {};
  const parentId = uuidText(run['parent_run_id']) ?? line.parentId;
  const tags = run['tags'];
  const endMs = time(run['end_time'], 'end_time');
  world.state.upsert(
    {
      id,
      projectId: projectIdFor(call, run, known),
      traceId:
        uuidText(run['trace_id']) ?? line.traceId ?? (known === undefined && parentId === undefined ? id : undefined),
      parentId,
      name: text(run['name']),
      runType: text(run['run_type']),
      startMs: time(run['start_time'], 'start_time'),
      endMs,
      tags: Array.isArray(tags) ? tags.map(String) : undefined,
      metadata: metadataOf(extra),
      extra: extra === undefined ? undefined : restOfExtra,
      inputs: run['inputs'] ?? undefined,
      outputs: run['outputs'] ?? undefined,
      events: run['events'] ?? undefined,
      serialized: run['serialized'] ?? undefined,
      error: text(run['error']),
      dottedOrder,
      referenceExampleId: uuidText(run['reference_example_id']),
      attachments,
    },
    nowMs,
    nowMs + world.ingestDelayMs,
  );
}

async function multipart(call: Call): Promise<Answer> {
  if (!call.world.multipart) throw detail(404, 'Not Found');
  const runs = new Map<string, Record<string, unknown>>();
  const attachments = new Map<string, Record<string, { mimeType: string; size: number }>>();
  const feedback: Json[] = [];
  for (const part of await partsOf(call)) {
    const [kind = '', id = '', ...rest] = part.name.split('.');
    if (!isUuid(id)) throw unprocessable(['body', part.name], 'Invalid part name', 'value_error');
    if (kind === 'attachment') {
      const file = { mimeType: part.mimeType, size: part.data.length };
      attachments.set(id, { ...attachments.get(id), [rest.join('.')]: file });
      continue;
    }
    let value: unknown;
    try {
      value = JSON.parse(part.data.toString('utf8'));
    } catch {
      throw unprocessable(['body', part.name], 'JSON decode error', 'json_invalid');
    }
    if (kind === 'feedback') {
      if (isRecord(value)) feedback.push({ ...value, id });
      continue;
    }
    if (kind !== 'post' && kind !== 'patch') {
      throw unprocessable(['body', part.name], 'Invalid part name', 'value_error');
    }
    const run = runs.get(`${kind}.${id}`) ?? { id };
    runs.set(`${kind}.${id}`, run);
    if (rest.length === 0 && isRecord(value)) Object.assign(run, value);
    else if (rest[0] !== undefined) run[rest[0]] = value;
  }
  const ordered = [...runs].sort(
    ([left], [right]) => Number(right.startsWith('post')) - Number(left.startsWith('post')),
  );
  for (const [, run] of ordered) writeRun(call, run, attachments.get(String(run['id'])));
  for (const one of feedback) feedbackFrom(call, one);
  return { status: 202, body: { message: 'Runs batch ingested' } };
}

function batch(call: Call): Answer {
  const body = call.json();
  if (!isRecord(body)) throw unprocessable(['body'], 'Input should be an object', 'type_error');
  for (const name of ['post', 'patch']) {
    const runs = body[name];
    if (Array.isArray(runs)) for (const run of runs) if (isRecord(run)) writeRun(call, run);
  }
  return { status: 202, body: { message: 'Runs batch ingested' } };
}

function single(call: Call): Answer {
  const body = call.json();
  if (!isRecord(body)) throw unprocessable(['body'], 'Input should be an object', 'type_error');
  const id = call.params['id'];
  if (id !== undefined) writeRun(call, { ...body, id });
  else writeRun(call, { ...body, id: body['id'] ?? call.world.random.uuid7(call.nowMs) });
  return { status: 202, body: { message: id === undefined ? 'Run created' : 'Run updated' } };
}

/** Routes through which the SDK writes runs. */
export function ingestRoutes(app: FastifyInstance, world: Call['world']): void {
  const write = { base: 'v1', family: 'writes' } as const;
  defineRoute(app, world, { ...write, method: 'POST', path: '/runs/multipart', limit: 'multipart' }, multipart);
  defineRoute(app, world, { ...write, method: 'POST', path: '/runs/batch', limit: 'ingest' }, batch);
  defineRoute(app, world, { ...write, method: 'POST', path: '/runs', limit: 'ingest' }, single);
  defineRoute(app, world, { ...write, method: 'PATCH', path: '/runs/:id', limit: 'ingest' }, single);
  // There is no deletion of single runs; users who try meet this answer.
  defineRoute(app, world, { base: 'v1', family: 'deletes', method: 'DELETE', path: '/runs/:id' }, () => {
    throw new ApiError(405, { detail: 'Method Not Allowed' });
  });
}
