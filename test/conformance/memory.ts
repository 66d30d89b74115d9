import { openMemory, memoryConnectionSchema } from '../../examples/memory-store/connector.ts';
import { MEMORY_API_KEY, MemoryServer } from '../../examples/memory-store/simulator.ts';
import { batched } from '../../src/stores/batching.ts';
import { guarded } from '../../src/stores/guard.ts';
import { KillSwitch } from '../../src/stores/kill-switch.ts';
import type { StoreHarness } from './harness.ts';

const PROJECTS = ['chat', 'agent'] as const;
const IDENTIFIERS = { user_id: ['user'], email: ['email'] };

/** The example of docs/adding-a-store.md. Its connector is opened as `openStore` opens those that the registry names. */
export const memory: StoreHarness = {
  name: 'memory',
  projects: PROJECTS,
  unknownIds: ['t_99999998', 't_99999999'],
  idForms: [
    ['t_00000001', 't_00000001'],
    [' T_00000001\n', 't_00000001'],
    ['u_42', null],
    ['', null],
  ],
  injections: ['") or (user = "other-1', '1) or (user = "other-1"'],
  tracesOverPages: 6,
  rowsOverPages: 25,
  isFurtherPage: ({ query, body }) => query.has('after') || body.includes('"after":'),
  deletesAnswer: true,
  storable: () => true,
  isDelete: ({ path }) => path === '/deletions',
  overcount: (answer) => ({ ...(answer as object), accepted: 1000 }),
  erasure: { startMs: Date.UTC(2026, 10, 25, 12), speed: 1000 },
  start(clock) {
    const server = new MemoryServer(clock, PROJECTS);
    return Promise.resolve({
      apiKey: MEMORY_API_KEY,
      identifiers: IDENTIFIERS,
      accept: [],
      fetch: server.fetch,
      open: ({ clock: own, fetch, log, smallPages = false }) => {
        const config = memoryConnectionSchema.parse({
          store: 'memory',
          baseUrl: 'http://127.0.0.1:1',
          apiKey: MEMORY_API_KEY,
          identifiers: IDENTIFIERS,
          ...(smallPages ? { pageSize: 10 } : {}),
        });
        const killSwitch = new KillSwitch();
        const parts = { clock: own, fetch, log: log ?? (() => undefined), killSwitch };
        return guarded(batched(openMemory(config, parts), own, killSwitch), killSwitch);
      },
      seed: (traces) =>
        Promise.resolve(
          traces.map((trace) => {
            const projectId = server.projectId(trace.project);
            const traceId = trace.traceId ?? server.newId('t');
            const root = trace.rootless === true ? server.newId('r') : null;
            const rowIds: string[] = [];
            for (const { persons = {}, thread, startMs, rowId } of trace.rows) {
              const id = rowId ?? server.newId('r');
              const { user_id: user, email } = persons;
              server.write({
                id,
                trace: traceId,
                project: projectId,
                parent: root ?? rowIds[0] ?? null,
                start: startMs ?? server.now() - 30 * 86_400_000,
                fields: {
                  ...(user === undefined ? {} : { user }),
                  ...(email === undefined ? {} : { email }),
                  ...(thread === undefined ? {} : { thread }),
                },
              });
              rowIds.push(id);
            }
            return { projectId, traceId, rowIds };
          }),
        ),
      live: () =>
        Promise.resolve(
          server.live().map(({ project, trace, id }) => ({ projectId: project, traceId: trace, rowId: id })),
        ),
      vanish: (traces) => {
        for (const { projectId, traceId } of traces) server.remove(projectId, [traceId]);
        return Promise.resolve();
      },
      settle: () => {
        server.advance(3_600_000);
        return Promise.resolve();
      },
      habits: {
        blind: () => {
          server.habits.blind = true;
        },
        filterIgnored: () => {
          server.habits.filterIgnored = true;
        },
        stale: (ms) => {
          server.habits.staleMs = ms;
        },
        offsetPages: { because: 'a page begins behind a row, whatever went before it' },
        lateViews: { because: 'there is one view of the rows, behind all routes' },
        dropsDeletes: () => {
          server.habits.dropsDeletes = true;
        },
      },
      heal: () => {
        Object.assign(server.habits, { blind: false, filterIgnored: false, staleMs: 0, dropsDeletes: false });
      },
      wrongKinds: () => Promise.resolve([{ id: server.projectId('chat'), kind: 'project' }]),
      close: () => Promise.resolve(),
    });
  },
};
