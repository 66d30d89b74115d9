import { startLangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import type { Kind, SeedTrace, StoreHarness } from './harness.ts';

const IDENTIFIERS: Record<Kind, string[]> = { user_id: ['metadata.user_id'], email: ['metadata.email'] };
const ACCEPT = ['statistics', 'insights'];
const KEYS: Record<Kind, string> = { user_id: 'user_id', email: 'email' };
const PROJECTS = ['chat', 'agent'] as const;
const ID = 'ABCDEF01-2345-6789-abcd-ef0123456789';

/** LangSmith, by its simulator. */
export const langsmith: StoreHarness = {
  name: 'langsmith',
  projects: PROJECTS,
  unknownIds: ['01234567-89ab-7def-8123-456789abcdef', '01234567-89ab-7def-8123-456789abcde0'],
  idForms: [
    [ID, ID.toLowerCase()],
    [`{${ID}}`, ID.toLowerCase()],
    [`urn:uuid:${ID}`, ID.toLowerCase()],
    [ID.replaceAll('-', ''), ID.toLowerCase()],
    ['u_42', null],
    ['', null],
    ['00000000-0000-0000-0000-000000000000', null],
  ],
  injections: ['") or eq(metadata_key,"user_id', 'x"),eq(metadata_value,"other-1")),and(eq(metadata_key,"user_id'],
  // v1 has pages of 100 rows.
  tracesOverPages: 40,
  rowsOverPages: 110,
  isFurtherPage: ({ path, body }) =>
    /^\/api\/v[12]\/runs\/query$/.test(path) && 'cursor' in (JSON.parse(body) as object),
  deletesAnswer: true,
  storable: () => true,
  isDelete: ({ method, path }) => method === 'POST' && /^\/api\/v1\/runs\/delete(\/traces)?$/.test(path),
  overcount: (answer) => ({ ...(answer as object), deleted_count: 1000 }),
  // Friday evening; a weekend and the day that it takes to settle pass in about two seconds.
  erasure: { startMs: Date.UTC(2026, 10, 27, 20), speed: 150_000 },
  async start(clock) {
    const sim = await startLangSmithSimulator({ clock });
    for (const name of PROJECTS) sim.createProject({ name });
    return {
      apiKey: sim.apiKey,
      identifiers: IDENTIFIERS,
      accept: ACCEPT,
      open: ({ clock: own, fetch, log, smallPages = false }) =>
        openStore(
          'langsmith-conformance',
          connectionSchema.parse({
            store: 'langsmith',
            baseUrl: sim.url,
            apiKey: sim.apiKey,
            identifiers: IDENTIFIERS,
            accept: ACCEPT,
            ...(smallPages ? { pageSize: 10 } : {}),
          }),
          { clock: own, fetch, ...(log === undefined ? {} : { log }) },
        ),
      seed: (traces) => Promise.resolve(traces.map((trace) => seedOne(sim, trace))),
      live: () => {
        const rows: { projectId: string; traceId: string; rowId: string }[] = [];
        sim.truth.tracesOf(({ id, traceId, projectId }) => {
          rows.push({ projectId, traceId, rowId: id });
          return false;
        });
        return Promise.resolve(rows);
      },
      vanish: async (traces) => {
        for (const { projectId, traceId } of traces) {
          const answer = await fetch(`${sim.url}/api/v1/runs/delete`, {
            method: 'POST',
            headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
            body: JSON.stringify({ session_id: projectId, trace_ids: [traceId] }),
          });
          if (answer.status !== 202) throw new Error(`the simulator answered ${answer.status}`);
        }
      },
      settle: () => {
        sim.advanceWeekends(1);
        return Promise.resolve();
      },
      habits: {
        blind: () => sim.habits.set({ blind: { what: 'all' } }),
        filterIgnored: () => sim.habits.set({ queryFilterIgnored: true }),
        stale: (ms) => sim.habits.set({ stale: ms }),
        offsetPages: () => sim.habits.set({ shiftingPages: { by: 0 } }),
        lateViews: (['v1', 'v2'] as const).map((view) => () => sim.habits.set({ viewLag: { view, weeks: 4 } })),
        dropsDeletes: () => sim.habits.set({ dropShare: 1 }),
      },
      heal: () => sim.habits.reset(),
      wrongKinds: () => {
        const thread = '0b5e7a9c-1d2f-4a3b-8c4d-5e6f7a8b9c0d';
        sim.seed({ project: 'chat', traces: [{ runs: [{ metadata: { session_id: thread, user_id: 'other-1' } }] }] });
        return Promise.resolve([
          { id: sim.project('chat').id, kind: 'project' },
          { id: thread, kind: 'thread' },
        ]);
      },
      close: () => sim.close(),
    };
  },
};

function seedOne(sim: Awaited<ReturnType<typeof startLangSmithSimulator>>, trace: SeedTrace) {
  const metadataOf = (persons: SeedTrace['rows'][number]['persons'] = {}) =>
    Object.fromEntries(Object.entries(persons).map(([kind, value]) => [KEYS[kind as Kind], value]));
  const nowMs = sim.now();
  // What a lost root would have been called.
  const lost = crypto.randomUUID();
  const traceId = trace.traceId ?? (trace.rootless === true ? lost : undefined);
  const rootless = trace.rootless === true || (trace.traceId !== undefined && trace.rows[0]?.rowId !== trace.traceId);
  const [seeded] = sim.seed({
    project: trace.project,
    traces: [
      {
        ...(traceId === undefined ? {} : { traceId }),
        runs: trace.rows.map(({ persons, thread, startMs, rowId }, index) => {
          const id = rowId ?? (rootless ? crypto.randomUUID() : undefined);
          return {
            ...(id === undefined ? {} : { id }),
            ...(rootless ? { parent: traceId ?? lost } : {}),
            name: index === 0 ? 'answer' : `step ${index}`,
            metadata: { ...metadataOf(persons), ...(thread === undefined ? {} : { conversation_id: thread }) },
            startTime: startMs ?? nowMs - 30 * 86_400_000 + index,
          };
        }),
      },
    ],
  });
  if (seeded === undefined) throw new Error('nothing was seeded');
  const { projectId, runIds } = seeded;
  return { projectId, traceId: seeded.traceId, rowIds: runIds };
}
