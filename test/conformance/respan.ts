import { startRespanSimulator } from '../../src/simulators/respan/index.ts';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import type { Kind, StoreHarness } from './harness.ts';

const IDENTIFIERS: Record<Kind, string[]> = { user_id: ['customer_identifier'], email: ['metadata.email'] };
const ACCEPT = ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'];
const PROJECTS = ['prod', 'test'] as const;
const BULK = '/api/traces/bulk-delete/';
const ID = '0123456789abcdef0123456789abcdef';

/** Respan, by its simulator: what stands for a project is an environment. */
export const respan: StoreHarness = {
  name: 'respan',
  projects: PROJECTS,
  unknownIds: ['fedcba9876543210fedcba9876543210', 'fedcba9876543210fedcba9876543211'],
  // Applications choose trace ids freely.
  idForms: [
    [ID, ID],
    ['', null],
    ['x'.repeat(300), null],
  ],
  injections: ['"]},"environment":{"operator":"","value":["prod'],
  // Pages have 1,000 rows, and cannot be had smaller.
  tracesOverPages: 1010,
  rowsOverPages: 1010,
  isFurtherPage: ({ path, query }) => /\/list\/$/.test(path) && Number(query.get('page')) > 1,
  onePage: {
    'traces by id': { because: 'the traces list has one row for an id, and no more ids are asked for than fit' },
  },
  aggregates: ['traces list and logs summary', 'traces by id'],
  deletesAnswer: { because: 'the call that deletes one trace answers without a body' },
  storable(value) {
    if (typeof value === 'number') return { because: 'a customer identifier is a text' };
    return value.length <= 254 ? true : { because: 'the store cuts customer identifiers at 254 characters' };
  },
  isDelete: ({ method, path }) =>
    (method === 'POST' && path === BULK) || (method === 'DELETE' && /^\/api\/traces\/[^/]+\/$/.test(path)),
  overcount: { because: 'so few traces go one by one, and that call answers without a count; see large projects' },
  // By one call with a filter, which only leaves where the store would refuse it without the filter.
  large: {
    others: 1700,
    order: 6,
    isItsDelete: ({ method, path }) => method === 'POST' && path === BULK,
    deletesAnswer: true,
    overcount: (answer) => ({ ...(answer as object), deleted_count: 1000 }),
  },
  erasure: { startMs: Date.UTC(2026, 10, 25, 12), speed: 1000 },
  async start(clock) {
    const sim = await startRespanSimulator({ clock });
    // Rows are written as of 30 days ago: the connector wants to see some about as old as the config says.
    const startDate = new Date(clock.virtualMs - 30 * 86_400_000).toISOString().slice(0, 10);
    return {
      apiKey: sim.apiKey,
      identifiers: IDENTIFIERS,
      accept: ACCEPT,
      open: ({ clock: own, fetch, log }) =>
        openStore(
          'respan-conformance',
          connectionSchema.parse({
            store: 'respan',
            baseUrl: sim.url,
            apiKey: sim.apiKey,
            environments: [...PROJECTS],
            startDate,
            identifiers: IDENTIFIERS,
            accept: ACCEPT,
          }),
          { clock: own, fetch, ...(log === undefined ? {} : { log }) },
        ),
      seed: (traces) =>
        Promise.resolve(
          traces.flatMap(({ project, traceId, rows, rootless = false }) =>
            sim
              .seed({
                environment: project === 'test' ? 'test' : 'prod',
                traces: [
                  {
                    ...(traceId === undefined ? {} : { traceId }),
                    spans: rows.map(({ persons: { user_id: user, email } = {}, thread, startMs }, index) => ({
                      name: index === 0 ? 'answer' : `step ${index}`,
                      startTime: startMs ?? sim.now() - 30 * 86_400_000 + index,
                      ...(user === undefined ? {} : { customerIdentifier: String(user) }),
                      ...(email === undefined ? {} : { metadata: { email } }),
                      ...(thread === undefined ? {} : { threadIdentifier: thread }),
                      ...(rootless ? { parent: 'feedfeedfeedfeed' } : {}),
                    })),
                  },
                ],
              })
              .map((seeded) => ({
                projectId: seeded.projectId,
                traceId: seeded.traceId,
                rowIds: seeded.uniqueIds,
              })),
          ),
        ),
      live: () => {
        const rows: { projectId: string; traceId: string; rowId: string }[] = [];
        sim.truth.tracesOf(({ environment, traceId, uniqueId }) => {
          if (traceId !== null) rows.push({ projectId: environment, traceId, rowId: uniqueId });
          return false;
        });
        return Promise.resolve(rows);
      },
      vanish: async (traces) => {
        for (const { projectId, traceId } of traces) {
          // Left out, the bounds of time would be the last hour.
          const query = new URLSearchParams({ environment: projectId, start_time: '2019-01-01T00:00:00Z' });
          query.set('end_time', new Date(sim.now() + 86_400_000).toISOString());
          const answer = await fetch(`${sim.url}/api/traces/${traceId}/?${query.toString()}`, {
            method: 'DELETE',
            headers: { authorization: `Bearer ${sim.apiKey}` },
          });
          if (!answer.ok) throw new Error(`the simulator answered ${answer.status}`);
        }
      },
      settle: () => {
        sim.advance(3_600_000);
        return Promise.resolve();
      },
      habits: {
        blind: () => sim.habits.set({ blind: 'all' }),
        filterIgnored: () => sim.habits.set({ dropFilterKeys: [{ name: 'customer_identifier' }] }),
        stale: (ms) => sim.habits.set({ stale: ms }),
        offsetPages: { because: 'its pages are numbers as it is' },
        lateViews: (['spans', 'traces'] as const).map((view) => () => sim.habits.set({ mutates: view })),
        dropsDeletes: () => sim.habits.set({ deletesNeverRun: true }),
      },
      heal: () => sim.habits.reset(),
      wrongKinds: () => Promise.resolve([{ id: 'other-1', kind: 'customer' }]),
      close: () => sim.close(),
    };
  },
};
