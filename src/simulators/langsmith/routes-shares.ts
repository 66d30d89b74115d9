import type { FastifyInstance } from 'fastify';
import type { Share } from './copies.ts';
import type { Answer } from '../common/http.ts';
import { copyDelete, defineRoute, detail, goError, unprocessable, type Call } from './http.ts';
import { isUuid } from '../common/ids.ts';
import { v1Run } from './render.ts';
import type { RunRow } from './rows.ts';
import { record, type Json } from '../common/json.ts';
import { pageParams } from './schemas.ts';
import { rfc3339 } from '../common/time.ts';
import type { World } from './world.ts';

function liveRun(call: Call): RunRow {
  const id = call.params['id'] ?? '';
  const row = call.world.state
    .rowsById(id)
    .find((one) => call.world.state.tenantOf(one.projectId) === call.tenantId && one.live(call.nowMs));
  if (row === undefined) throw call.spec.base === 'v1' ? detail(404, 'Run not found') : goError(404, 'run not found');
  return row;
}

function mayShare(call: Call): void {
  if (!call.key.shares) throw call.spec.base === 'v1' ? detail(403, 'Forbidden') : goError(403, 'Forbidden');
}

/** Child runs share their trace's root. */
function shareRun(call: Call, row: RunRow, token: unknown): Share {
  return call.world.copies.share({
    tenantId: call.tenantId,
    kind: 'run',
    projectId: row.projectId,
    target: row.traceId,
    createdMs: call.nowMs,
    token: isUuid(token) ? token : undefined,
  });
}

function bodyOf(call: Call): Json {
  return call.body.length === 0 ? {} : (record(call.json()) ?? {});
}

function v1Share(call: Call): Answer {
  mayShare(call);
  const row = liveRun(call);
  const share = shareRun(call, row, bodyOf(call)['share_token']);
  return { status: 200, body: { run_id: row.id, share_token: share.token } };
}

function v1ReadShare(call: Call): Answer {
  const row = liveRun(call);
  const share = call.world.copies.shareOf('run', row.projectId, row.traceId, call.nowMs);
  return { status: 200, body: share === null ? null : { run_id: row.id, share_token: share.token } };
}

function unshare(call: Call, kind: 'run' | 'thread', target: string, projectId: string | null): void {
  mayShare(call);
  call.entry.ids = [target];
  if (copyDelete(call) === 'ignored') return;
  const share = call.world.copies.shareOf(kind, projectId, target, call.nowMs);
  if (share?.tenantId === call.tenantId) share.goneMs = call.nowMs;
}

function v1Unshare(call: Call): Answer {
  const id = call.params['id'] ?? '';
  const row = call.world.state.rowsById(id)[0];
  unshare(call, 'run', row?.traceId ?? id, null);
  return { status: 200, body: { message: 'Run unshared' } };
}

function v2Share(call: Call): Answer {
  mayShare(call);
  const body = bodyOf(call);
  const row = liveRun(call);
  if (body['session_id'] !== row.projectId || body['trace_id'] !== row.traceId) throw goError(404, 'run not found');
  return { status: 200, body: { share_token: shareRun(call, row, undefined).token } };
}

/** Always 204, whether a share existed or not. */
function v2Unshare(call: Call): Answer {
  const sessionId = bodyOf(call)['session_id'];
  if (!isUuid(sessionId)) throw goError(400, 'session_id is required');
  call.entry.projectId = sessionId;
  unshare(call, 'run', call.params['id'] ?? '', sessionId);
  return { status: 204 };
}

function threadProject(call: Call): string {
  const id = call.query.get('project_id') ?? bodyOf(call)['project_id'];
  if (!isUuid(id)) throw goError(400, 'project_id is required');
  return id;
}

function shareThread(call: Call): Answer {
  mayShare(call);
  const projectId = threadProject(call);
  const target = call.params['id'] ?? '';
  const fields = { tenantId: call.tenantId, kind: 'thread', projectId, target, createdMs: call.nowMs } as const;
  return { status: 200, body: { share_token: call.world.copies.share(fields).token } };
}

function readThreadShare(call: Call): Answer {
  const share = call.world.copies.shareOf('thread', threadProject(call), call.params['id'] ?? '', call.nowMs);
  if (share === null) throw goError(404, 'share not found');
  return { status: 200, body: { share_token: share.token } };
}

function unshareThread(call: Call): Answer {
  unshare(call, 'thread', call.params['id'] ?? '', threadProject(call));
  return { status: 204 };
}

function shared(call: Call): Answer {
  const { offset, limit } = pageParams(call.query);
  const entities = [...call.world.copies.shares.values()]
    .filter((share) => share.tenantId === call.tenantId && call.nowMs < share.goneMs)
    .map((share) => ({
      type: share.kind,
      share_token: share.token,
      created_at: rfc3339(share.createdMs),
      session_id: share.projectId,
      ...(share.kind === 'run' ? { run_id: share.target, trace_id: share.target } : {}),
      ...(share.kind === 'thread' ? { thread_id: share.target } : {}),
      ...(share.kind === 'dataset' ? { dataset_id: share.target } : {}),
    }));
  return { status: 200, body: { entities: entities.slice(offset, offset + limit) } };
}

function unshareMany(call: Call): Answer {
  mayShare(call);
  const tokens = bodyOf(call)['share_tokens'];
  if (!Array.isArray(tokens)) throw unprocessable(['body', 'share_tokens'], 'Field required', 'missing');
  call.entry.ids = tokens.map(String);
  for (const token of copyDelete(call) === 'ignored' ? [] : tokens) {
    const share = call.world.copies.shares.get(String(token));
    if (share?.tenantId === call.tenantId) share.goneMs = Math.min(share.goneMs, call.nowMs);
  }
  return { status: 200, body: { message: 'Entities unshared' } };
}

/** What a stranger with the link sees: the trace's runs while link and trace live. */
function publicRuns(call: Call): Answer {
  const { world, nowMs } = call;
  const share = world.copies.shares.get(call.params['token'] ?? '');
  if (share?.kind !== 'run' || nowMs >= share.goneMs) throw detail(404, 'Not Found');
  const rows = world.state
    .rowsOfTrace(share.target)
    .filter((row) => row.projectId === share.projectId && row.visible('v1', nowMs));
  return { status: 200, body: rows.map((row) => v1Run(world, row, null)) };
}

/** Public links of traces and threads; those of datasets are made by the dataset routes. */
export function shareRoutes(app: FastifyInstance, world: World): void {
  const v1 = { base: 'v1', deprecated: true, path: '/runs/:id/share' } as const;
  defineRoute(app, world, { ...v1, method: 'PUT', family: 'writes' }, v1Share);
  defineRoute(app, world, { ...v1, method: 'GET', family: 'reads' }, v1ReadShare);
  defineRoute(app, world, { ...v1, method: 'DELETE', family: 'deletes' }, v1Unshare);
  const v2 = { base: 'v2', path: '/runs/:id/share' } as const;
  defineRoute(app, world, { ...v2, method: 'POST', family: 'writes' }, v2Share);
  defineRoute(app, world, { ...v2, method: 'DELETE', family: 'deletes' }, v2Unshare);
  const threads = { base: 'v2', path: '/threads/:id/share' } as const;
  defineRoute(app, world, { ...threads, method: 'POST', family: 'writes' }, shareThread);
  defineRoute(app, world, { ...threads, method: 'GET', family: 'reads' }, readThreadShare);
  defineRoute(app, world, { ...threads, method: 'DELETE', family: 'deletes' }, unshareThread);
  const all = { base: 'v1', path: '/workspaces/current/shared' } as const;
  defineRoute(app, world, { ...all, method: 'GET', family: 'reads' }, shared);
  defineRoute(app, world, { ...all, method: 'DELETE', family: 'deletes' }, unshareMany);
  const open = { base: 'v1', method: 'GET', family: 'reads', open: true, deprecated: true } as const;
  defineRoute(app, world, { ...open, path: '/public/:token/runs' }, publicRuns);
}
