import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import type { Json } from '../common/json.ts';
import { btql, whole } from './btql.ts';
import { defineRoute, idParam, refuse, type Call } from './http.ts';
import { rootOf, type ObjectType, type Row, type Version } from './rows.ts';
import type { World } from './world.ts';
import { checkPlace } from './writes.ts';

/** Most events of one fetch of an experiment, which ignores cursors. */
const EXPERIMENT_CAP = 1000;
/** Traces a fetch without a limit brings; the vendor's number is undocumented. */
const DEFAULT_LIMIT = 100;

interface Entry {
  readonly row: Row;
  readonly version: Version;
  /** Place in the history: transaction and trace, newest first. */
  readonly mark: string;
}

/** Every version that is shown by now, newest first; deleted rows are left out whole. */
function history(call: Call, type: ObjectType, objectId: string, upTo: string | null): Entry[] {
  const atMs = call.nowMs - call.world.habits.current.stale;
  return call.world.state
    .rowsIn({ objectType: type, objectId })
    .rows.filter((row) => (upTo === null ? row.versionAt(atMs) : row.versionAtXact(upTo)) !== null)
    .flatMap((row) =>
      row.versions
        .filter(({ data, shownMs, xact }) => data !== null && shownMs <= atMs && (upTo === null || xact <= upTo))
        .map((version) => ({
          row,
          version,
          mark: `${version.xact} ${rootOf(version.data ?? {}) ?? row.paginationKey}`,
        })),
    )
    .sort((left, right) => (left.mark < right.mark ? 1 : left.mark > right.mark ? -1 : 0));
}

function parameter(call: Call, body: Json, name: string): string | null {
  const value = body[name] ?? call.query.get(name);
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
}

/**
 * `GET|POST /v1/{type}/{id}/fetch`: pages over the whole version history, newest first, so that later pages repeat rows
 * in older versions; the limit counts traces; no filter.
 */
function fetchEvents(call: Call, type: ObjectType): Answer {
  const objectId = idParam(call);
  const place = { objectType: type, objectId };
  checkPlace(call, place);
  if (!call.key.reads) throw refuse(403, 'Forbidden');
  call.entry.objectIds = [objectId];
  const body = call.body.length === 0 ? {} : call.json();
  const limit = Number(parameter(call, body, 'limit') ?? DEFAULT_LIMIT);
  if (!Number.isInteger(limit) || limit < 0) throw refuse(400, 'bad limit');
  const cursor = type === 'experiment' ? null : parameter(call, body, 'cursor');
  const after = cursor === null ? null : Buffer.from(cursor, 'base64url').toString();
  const taken = new Map<string, Entry>();
  const traces = new Set<string>();
  let last: string | null = null;
  for (const entry of history(call, type, objectId, parameter(call, body, 'version'))) {
    if (after !== null && entry.mark >= after) continue;
    const trace = entry.mark.slice(entry.mark.indexOf(' ') + 1);
    if (entry.mark !== last && !traces.has(trace) && traces.size >= limit) break;
    if (type === 'experiment' && taken.size >= EXPERIMENT_CAP) break;
    traces.add(trace);
    last = entry.mark;
    // Within a page a row shows once, in its newest version there.
    if (!taken.has(entry.row.id)) taken.set(entry.row.id, entry);
  }
  const source = call.world.state.rowsIn(place);
  const events = [...taken.values()].map(({ row, version }) => whole(call, { row, version, source }));
  const next = last === null || type === 'experiment' ? {} : { cursor: Buffer.from(last).toString('base64url') };
  return { status: 200, body: { events, ...next } };
}

/** Routes that read rows. */
export function readRoutes(app: FastifyInstance, world: World): void {
  defineRoute(app, world, { method: 'POST', path: '/btql', family: 'reads', limit: 'btql' }, btql);
  for (const type of ['project_logs', 'experiment', 'dataset'] as const) {
    for (const method of ['GET', 'POST'] as const) {
      const spec = { method, path: `/v1/${type}/:id/fetch`, family: 'reads' } as const;
      defineRoute(app, world, spec, (call) => fetchEvents(call, type));
    }
  }
  defineRoute(app, world, { method: 'GET', path: '/version', family: 'reads' }, () => ({ status: 200, body: {} }));
  defineRoute(app, world, { method: 'GET', path: '/xact-id', family: 'reads' }, (call) => ({
    status: 200,
    body: world.state.nextXact(call.nowMs),
    headers: { 'content-type': 'text/plain; charset=utf-8' },
  }));
}
