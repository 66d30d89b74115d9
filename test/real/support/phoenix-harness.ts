import { virtualNow } from '../../../src/erasure/clock.ts';
import { connectionSchema, openStore } from '../../../src/stores/registry.ts';
import type { Kind, SeedTrace, Seeded, StoreHarness } from '../../conformance/harness.ts';
import { Phoenix } from './phoenix.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './spans.ts';
import { withVirtualDate } from './virtual-date.ts';

const IDENTIFIERS: Record<Kind, string[]> = { user_id: ['user.id'], email: ['metadata.email'] };
const PROJECTS = ['chat', 'agent'] as const;
const ID = '0123456789abcdef0123456789abcdef';
const DAY_MS = 86_400_000;

/** Limits of the store that a controller would have to accept for a plain `verified`. */
export const PHOENIX_ACCEPT = ['database-file', 'backups', 'assistant-and-prompts'];

let shared: Promise<Phoenix> | null = null;
let starts = 0;

export async function closePhoenix(): Promise<void> {
  const server = await shared;
  shared = null;
  await server?.close();
}

/**
 * Phoenix, by the real server: one for all cases, each with two projects of its own. What passes between the connector
 * and the server may be changed on its way, where a case needs a habit that the server does not have.
 */
export const phoenix: StoreHarness = {
  name: 'phoenix',
  projects: PROJECTS,
  unknownIds: [ID, 'fedcba9876543210fedcba9876543210'],
  idForms: [
    [ID, ID],
    [` ${ID.toUpperCase()} `, ID],
    ['01234567-89AB-CDEF-0123-456789ABCDEF', ID],
    ['0x0123456789abcdef', '0123456789abcdef'],
    ['', null],
    ['0'.repeat(32), null],
    // The server's own ids are row numbers.
    ['VHJhY2U6MQ==', null],
    ['x'.repeat(32), null],
  ],
  injections: [
    `x' or attributes['user']['id'] is not None or 'x' == '`,
    `x" or "x" in attributes['user']['id'] or "`,
    'x"&attribute=user.id:other-1',
  ],
  tracesOverPages: 10,
  rowsOverPages: 25,
  isFurtherPage: ({ query, body }) => query.has('cursor') || /"[pt]\d+after":"/.test(body),
  keepsConversations: true,
  deletesAnswer: true,
  storable: () => true,
  isDelete,
  overcount: { because: 'answers to deletes count nothing' },
  erasure: { startMs: Date.UTC(2026, 10, 25, 12), speed: 300 },
  mostMs: 600_000,
  async start(clock) {
    shared ??= Phoenix.start();
    const server = await shared;
    starts += 1;
    const suffix = `-${starts}`;
    const names = PROJECTS.map((name) => `${name}${suffix}`);
    const ids = new Map<string, string>();
    for (const name of names) ids.set(name, await server.createProject(name));
    const habits = { blind: false, filterIgnored: false, dropsDeletes: false };
    return {
      apiKey: 'phx-key-never-told',
      identifiers: IDENTIFIERS,
      accept: PHOENIX_ACCEPT,
      open: ({ clock: own, fetch: passes, log, smallPages = false }) =>
        openStore(
          'phoenix-conformance',
          connectionSchema.parse({
            store: 'phoenix',
            baseUrl: server.url,
            apiKey: 'phx-key-never-told',
            projects: names,
            identifiers: IDENTIFIERS,
            accept: PHOENIX_ACCEPT,
            settle: '5 min',
            ...(smallPages ? { pageSize: 10 } : {}),
          }),
          { clock: own, fetch: passes, ...(log === undefined ? {} : { log }) },
        ),
      fetch: withVirtualDate(passing(habits), clock),
      seed: async (traces) => {
        const written = traces.map((trace) => spansOf(trace, suffix, virtualNow(clock)));
        await server.write(written.flat());
        const stored = new Map(
          server.stored(names).map(({ traceId, spanId, projectId }) => [`${traceId} ${spanId}`, projectId]),
        );
        return written.map((spans): Seeded => {
          const [first] = spans;
          if (first === undefined) throw new Error('a trace without rows');
          return {
            projectId: stored.get(`${first.traceId} ${first.spanId}`) ?? ids.get(first.project ?? '') ?? '',
            traceId: first.traceId,
            rowIds: spans.map(({ spanId }) => spanId),
          };
        });
      },
      live: () =>
        Promise.resolve(
          server.stored(names).map(({ projectId, traceId, spanId }) => ({ projectId, traceId, rowId: spanId })),
        ),
      vanish: async (traces) => {
        for (const { traceId } of traces) {
          const { status } = await server.call('DELETE', `/v1/traces/${traceId}`);
          if (status !== 204) throw new Error(`the server answered ${status}`);
        }
      },
      // A delete is done when it is answered.
      settle: () => Promise.resolve(),
      habits: {
        blind: () => {
          habits.blind = true;
        },
        filterIgnored: () => {
          habits.filterIgnored = true;
        },
        stale: { because: 'one database, whose reads show every write that is done' },
        offsetPages: { because: 'a real server continues where the page before ended' },
        lateViews: { because: 'both languages read the same rows' },
        dropsDeletes: () => {
          habits.dropsDeletes = true;
        },
      },
      heal: () => {
        Object.assign(habits, { blind: false, filterIgnored: false, dropsDeletes: false });
      },
      wrongKinds: () => Promise.resolve([{ id: ids.get(names[0] ?? '') ?? '', kind: 'project' }]),
      close: () => Promise.resolve(),
    };
  },
};

function isDelete({ method, path, body }: { method: string; path: string; body: string }): boolean {
  return method === 'DELETE' || (path === '/graphql' && body.includes('deleteTraces('));
}

function spansOf(
  { project, traceId = newTraceId(), rows, rootless = false }: SeedTrace,
  suffix: string,
  nowMs: number,
) {
  const ids = rows.map(({ rowId }) => rowId ?? newSpanId());
  return rows.map(({ persons: { user_id: user, email } = {}, thread, startMs }, index): SpanToWrite => {
    const start = startMs ?? nowMs - 30 * DAY_MS + index;
    const parentId = rootless ? 'feedfeedfeedfeed' : index === 0 ? null : (ids[0] ?? null);
    return {
      project: `${project}${suffix}`,
      traceId,
      spanId: ids[index] ?? '',
      parentId,
      name: index === 0 ? 'answer' : `step ${index}`,
      startMs: start,
      endMs: start + 100,
      attributes: {
        ...(user === undefined ? {} : { 'user.id': user }),
        ...(email === undefined ? {} : { metadata: JSON.stringify({ email }) }),
        ...(thread === undefined ? {} : { 'session.id': thread }),
      },
    };
  });
}

interface Passing {
  readonly blind: boolean;
  readonly filterIgnored: boolean;
  readonly dropsDeletes: boolean;
}

/** The way to the server, with the habits that a case asks for. */
function passing(habits: Passing): typeof fetch {
  return async (input, init) => {
    const url = new URL(typeof input === 'string' ? input : input instanceof URL ? input.href : input.url);
    const body = typeof init?.body === 'string' ? init.body : '';
    const call = { method: init?.method ?? 'GET', path: url.pathname, body };
    if (habits.dropsDeletes && isDelete(call)) {
      return call.method === 'DELETE'
        ? new Response(null, { status: 204 })
        : Response.json({ data: { deleteTraces: { __typename: 'Query' } } });
    }
    let sent = body;
    if (habits.filterIgnored) {
      for (const name of ['attribute', 'span_id']) url.searchParams.delete(name);
      if (body !== '') {
        const question = JSON.parse(body) as { variables?: Record<string, unknown> };
        if (question.variables?.['condition'] !== undefined) question.variables['condition'] = 'span_id is not None';
        sent = JSON.stringify(question);
      }
    }
    const answer = await fetch(url, { ...init, ...(sent === '' ? {} : { body: sent }) });
    if (!habits.blind || !answer.ok || answer.status === 204) return answer;
    return Response.json(blinded(await answer.json()), { status: answer.status });
  };
}

/** An answer in its proper shape, with no span in it. */
function blinded(json: unknown): unknown {
  const { data } = json as { data: unknown };
  if (Array.isArray(data)) {
    return data.every((one) => (one as { context?: unknown }).context !== undefined)
      ? { data: [], next_cursor: null }
      : json;
  }
  if (typeof data !== 'object' || data === null) return json;
  const emptied = Object.entries(data as Record<string, unknown>).map(([name, value]): [string, unknown] => {
    if (/^[ts]\d+$/.test(name)) return [name, null];
    if (typeof value !== 'object' || value === null || !('spans' in value)) return [name, value];
    return [name, { ...value, spans: { edges: [], pageInfo: { hasNextPage: false, endCursor: null } } }];
  });
  return { ...(json as object), data: Object.fromEntries(emptied) as unknown };
}
