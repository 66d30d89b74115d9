import { startBraintrustSimulator } from '../../src/simulators/braintrust/index.ts';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import type { Kind, SeedTrace, StoreHarness } from './harness.ts';

const IDENTIFIERS: Record<Kind, string[]> = { user_id: ['metadata.user_id'], email: ['metadata.email'] };
const PROJECTS = ['chat', 'agent'] as const;
const EPOCH = new Date(0).toISOString();
const ID = '01234567-89ab-7def-8123-456789abcdef';
const INSERT = /^\/v1\/project_logs\/[^/]+\/insert$/;

/** Braintrust, by its simulator: rows are deleted one by one, and a trace is only gone when all of them are. */
export const braintrust: StoreHarness = {
  name: 'braintrust',
  projects: PROJECTS,
  unknownIds: [ID, '01234567-89ab-7def-8123-456789abcde0'],
  idForms: [
    [ID, ID],
    ['', null],
    ['x'.repeat(300), null],
  ],
  injections: [`x' OR metadata.user_id IS NOT NULL OR 'x' = '`],
  tracesOverPages: 10,
  rowsOverPages: 25,
  // By key, by the server's cursor, or the latest part of a window that was too much for one page.
  isFurtherPage: ({ path, body }) =>
    path === '/btql' &&
    (/"cursor":|"_pagination_key"\]},"right"/.test(body) || (/"shape":"traces"/.test(body) && !body.includes(EPOCH))),
  deletesAnswer: true,
  // Known incidents refused every key for a minute or two.
  passing401Ms: 120_000,
  storable: () => true,
  isDelete: ({ method, path }) => method === 'POST' && INSERT.test(path),
  overcount: (answer) => ({ ...(answer as object), row_ids: [...(answer as { row_ids: string[] }).row_ids, ID] }),
  erasure: { startMs: Date.UTC(2026, 10, 25, 12), speed: 300 },
  async start(clock) {
    const sim = await startBraintrustSimulator({ clock });
    for (const name of PROJECTS) sim.createProject({ name });
    return {
      apiKey: sim.apiKey,
      identifiers: IDENTIFIERS,
      accept: ACCEPT,
      open: ({ clock: own, fetch, log, smallPages = false }) =>
        openStore(
          'braintrust-conformance',
          connectionSchema.parse({
            store: 'braintrust',
            appUrl: sim.url,
            apiKey: sim.apiKey,
            identifiers: IDENTIFIERS,
            accept: ACCEPT,
            ...(smallPages ? { pageSize: 10 } : {}),
          }),
          { clock: own, fetch, ...(log === undefined ? {} : { log }) },
        ),
      seed: (traces) =>
        Promise.resolve(
          traces.flatMap((trace) => sim.seed({ project: trace.project, traces: [spansOf(trace, sim.now())] })),
        ),
      live: () => {
        const rows: { projectId: string; traceId: string; rowId: string }[] = [];
        sim.truth.tracesOf(({ objectId, traceId, rowId }) => {
          rows.push({ projectId: objectId, traceId: traceId ?? rowId, rowId });
          return false;
        });
        return Promise.resolve(rows);
      },
      vanish: async (traces) => {
        for (const { projectId, traceId } of traces) {
          const events = sim.truth.rowsOf(traceId).map(({ rowId }) => ({ id: rowId, _object_delete: true }));
          const answer = await fetch(`${sim.apiUrl}/v1/project_logs/${projectId}/insert`, {
            method: 'POST',
            headers: { authorization: `Bearer ${sim.apiKey}`, 'content-type': 'application/json' },
            body: JSON.stringify({ events }),
          });
          if (!answer.ok) throw new Error(`the simulator answered ${answer.status}`);
        }
      },
      settle: () => {
        sim.advance(3_600_000);
        return Promise.resolve();
      },
      habits: {
        blind: () => sim.habits.set({ blind: { what: 'all' } }),
        filterIgnored: () => sim.habits.set({ filterIgnored: true }),
        stale: (ms) => sim.habits.set({ stale: ms }),
        offsetPages: () => sim.habits.set({ shiftingPages: { by: 0 } }),
        lateViews: { because: 'live reads and indexed reads are one view, told apart by freshness ids' },
        dropsDeletes: () => sim.habits.set({ dropShare: 1 }),
      },
      heal: () => sim.habits.reset(),
      wrongKinds: () => Promise.resolve([{ id: sim.project('chat').id, kind: 'project' }]),
      close: () => sim.close(),
    };
  },
};

/** Copies that the connector does not look for, or that no call reaches. */
const ACCEPT = ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'];

function spansOf({ traceId, rows, rootless = false }: SeedTrace, nowMs: number) {
  return {
    ...(traceId === undefined ? {} : { traceId }),
    spans: rows.map(({ persons = {}, thread, startMs, rowId }, index) => ({
      ...(rowId === undefined ? {} : { id: rowId }),
      name: index === 0 ? 'answer' : `step ${index}`,
      created: startMs ?? nowMs - 30 * 86_400_000 + index,
      ...(Object.keys(persons).length === 0 && thread === undefined
        ? {}
        : { metadata: { ...persons, ...(thread === undefined ? {} : { thread_id: thread }) } }),
      ...(rootless ? { fields: { span_parents: [crypto.randomUUID()] } } : {}),
    })),
  };
}
