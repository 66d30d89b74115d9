import type { Kind, SeedTrace, StoreHarness } from '../../conformance/harness.ts';
import { virtualNow } from '../../../src/erasure/clock.ts';
import { DAY_MS } from '../../../src/erasure/rhythm.ts';
import { connectionSchema, openStore } from '../../../src/stores/registry.ts';
import type { MlflowServer } from './mlflow-server.ts';
import { newSpanId, newTraceId, type SpanToWrite } from './spans.ts';
import { withVirtualDate } from './virtual-date.ts';

const KEYS: Record<Kind, string> = { user_id: 'user.id', email: 'enduser.email' };
const IDENTIFIERS: Record<Kind, string[]> = {
  user_id: ['metadata.mlflow.trace.user'],
  email: ['attributes.enduser.email'],
};
const PROJECTS = ['chat', 'agent'] as const;
const API_KEY = 'mlflow-conformance-token';
const DELETE = /\/traces\/delete-traces$/;
const SEARCH = /\/traces\/search$/;

/** What no call of the server shows, and searches of the e-mail address that only one finder can make. */
const ACCEPT = ['run-data', 'database-remains', 'single-path'];

/**
 * MLflow, by a real server: one for all cases, with two experiments for each, to which the connection is limited. What a
 * real server would never do is done to its answers on their way.
 *
 * @param server must answer when `start` is called.
 */
export function mlflowHarness(server: () => MlflowServer): StoreHarness {
  let scenes = 0;
  return {
    name: 'mlflow',
    projects: PROJECTS,
    unknownIds: ['tr-0123456789abcdef0123456789abcdef', 'tr-0123456789abcdef0123456789abcdee'],
    idForms: [
      ['tr-0123456789abcdef0123456789abcdef', 'tr-0123456789abcdef0123456789abcdef'],
      ['0123456789ABCDEF0123456789abcdef', 'tr-0123456789abcdef0123456789abcdef'],
      [' tr-0123456789abcdef0123456789abcdef\n', 'tr-0123456789abcdef0123456789abcdef'],
      ['0123456789abcdef', '0123456789abcdef'],
      ['tr-', null],
      ['17', null],
      ['', null],
    ],
    injections: [
      `x' OR metadata.\`mlflow.trace.user\` LIKE '%`,
      `x' AND span.content LIKE '%`,
      `x|other-1`,
      `.*`,
      `x)$|^(other-1`,
      '[^A]{7}',
    ],
    // A list of traces has one row for each.
    tracesOverPages: 12,
    rowsOverPages: 25,
    isFurtherPage: ({ body }) => body.includes('"page_token":'),
    onePage: { 'traces and files by id': { because: 'traces are fetched whole, by lists of ids that no page cuts' } },
    perTrace: ['metadata by RLIKE', 'metadata and spans by LIKE'],
    deletesAnswer: true,
    storable: (value) =>
      typeof value === 'string' || { because: 'the server makes text of the user it indexes, of numbers too' },
    isDelete: ({ method, path }) => method === 'POST' && DELETE.test(path),
    overcount: (answer) => ({ ...(answer as object), traces_deleted: 1000 }),
    erasure: { startMs: Date.UTC(2026, 10, 25, 12), speed: 300 },
    async start(clock) {
      const mlflow = server();
      scenes += 1;
      const ids = new Map<string, string>();
      for (const name of PROJECTS) {
        ids.set(name, await mlflow.createExperiment(`${name}-${scenes}-${newSpanId()}`));
      }
      const experiments = [...ids.values()];
      const habits = { blind: false, filterIgnored: false, dropsDeletes: false };
      const staged: typeof fetch = async (input, init) => {
        const { pathname } = new URL(String(input instanceof Request ? input.url : input));
        const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : {};
        if (habits.blind && /\/traces\//.test(pathname) && !DELETE.test(pathname)) return Response.json({});
        if (habits.dropsDeletes && DELETE.test(pathname)) {
          return Response.json({ traces_deleted: (body['request_ids'] as readonly string[]).length });
        }
        if (habits.filterIgnored && SEARCH.test(pathname)) {
          const { filter: _filter, ...rest } = body;
          return fetch(input, { ...init, body: JSON.stringify(rest) });
        }
        return fetch(input, init);
      };
      return {
        apiKey: API_KEY,
        identifiers: IDENTIFIERS,
        accept: ACCEPT,
        fetch: withVirtualDate(staged, clock),
        open: ({ clock: own, fetch: through, log, smallPages = false }) =>
          openStore(
            'mlflow-conformance',
            connectionSchema.parse({
              store: 'mlflow',
              baseUrl: mlflow.url,
              apiKey: API_KEY,
              experiments,
              identifiers: IDENTIFIERS,
              accept: ACCEPT,
              callsPerMinute: 6000,
              ...(smallPages ? { pageSize: 10 } : {}),
            }),
            { clock: own, fetch: through, ...(log === undefined ? {} : { log }) },
          ),
        seed: async (traces) => {
          const written = traces.map((trace) => ({
            projectId: ids.get(trace.project) ?? '',
            spans: spansOf(trace, virtualNow(clock)),
          }));
          for (const projectId of new Set(written.map((one) => one.projectId))) {
            const spans = written.filter((one) => one.projectId === projectId).flatMap((one) => one.spans);
            await mlflow.send(projectId, spans);
          }
          return written.map(({ projectId, spans }) => ({
            projectId,
            traceId: `tr-${spans[0]?.traceId ?? ''}`,
            rowIds: spans.map(({ spanId }) => spanId),
          }));
        },
        live: () =>
          Promise.resolve(
            mlflow
              .rows(
                `select experiment_id, trace_id, span_id from spans where experiment_id in (${experiments.join(', ')})`,
              )
              .map((row) => ({
                projectId: String(row['experiment_id']),
                traceId: String(row['trace_id']),
                rowId: String(row['span_id']),
              })),
          ),
        vanish: async (traces) => {
          for (const id of new Set(traces.map(({ projectId }) => projectId))) {
            const some = traces.filter(({ projectId }) => projectId === id);
            await mlflow.remove(
              id,
              some.map(({ traceId }) => traceId),
            );
          }
        },
        settle: () => Promise.resolve(),
        habits: {
          blind: () => {
            habits.blind = true;
          },
          filterIgnored: () => {
            habits.filterIgnored = true;
          },
          stale: { because: 'a real server shows its database as it is' },
          offsetPages: { because: 'its page tokens are offsets as it is' },
          lateViews: { because: 'there is one view of the traces, behind all routes' },
          dropsDeletes: () => {
            habits.dropsDeletes = true;
          },
        },
        heal: () => {
          Object.assign(habits, { blind: false, filterIgnored: false, dropsDeletes: false });
        },
        wrongKinds: () => Promise.resolve([{ id: experiments[0] ?? '', kind: 'experiment' }]),
        close: () => Promise.resolve(),
      };
    },
  };
}

function spansOf({ traceId, rows, rootless = false }: SeedTrace, nowMs: number): readonly SpanToWrite[] {
  const id = traceId?.replace(/^tr-/, '') ?? newTraceId();
  const spans: SpanToWrite[] = [];
  for (const { persons = {}, thread, startMs, rowId } of rows) {
    const parentId = rootless ? '00000000000000aa' : spans[0]?.spanId;
    const named = Object.entries(persons).map(([kind, value]) => [KEYS[kind as Kind], value] as const);
    const attributes = Object.fromEntries(thread === undefined ? named : [...named, ['session.id', thread] as const]);
    spans.push({
      traceId: id,
      spanId: rowId ?? newSpanId(),
      ...(parentId === undefined ? {} : { parentId }),
      startMs: startMs ?? nowMs - 20 * DAY_MS,
      attributes,
    });
  }
  return spans;
}
