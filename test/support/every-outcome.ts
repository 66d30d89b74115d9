import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigInput } from '../../src/config/config.ts';
import { DAY_MS } from '../../src/erasure/rhythm.ts';
import type { RequestStatus } from '../../src/erasure/status.ts';
import type { LangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import { CONNECTION, FRIDAY_EVENING, type World, type WorldOptions } from './world.ts';

/** Its projects disappear after the delete. */
export const MOVED = 'langsmith-moved';
/** It accepts every delete and carries out none. */
export const STUCK = 'langsmith-stuck';
/** It has never heard of the person. */
export const EMPTY = 'langsmith-empty';

const ANN = 'u_42';
const BY = { requestedBy: 'ines', reason: 'ticket 4711' };
const TALK = { thread_id: '0b5e7a9c-1d2f-4a3b-8c4d-5e6f7a8b9c0d' };
/** Some time before the story: what began more than an hour later is new activity. */
const RECEIVED_MS = FRIDAY_EVENING - 3 * DAY_MS;

/** One request that comes to every outcome there is: how the world is made for it. */
export const EVERY_OUTCOME: WorldOptions = {
  more: [MOVED, STUCK, EMPTY],
  config: (config: ConfigInput) => ({
    ...config,
    connections: Object.fromEntries(
      Object.entries(config.connections).map(([name, connection]) => [
        name,
        // One limit that nobody has accepted.
        name === CONNECTION ? { ...connection, accept: ['statistics'] } : connection,
      ]),
    ),
    policy: { ...config.policy, approveAbove: 0, waitForTasks: '14 d' },
  }),
};

async function post(sim: LangSmithSimulator, path: string, body: unknown): Promise<{ readonly id: string }> {
  const response = await fetch(`${sim.url}${path}`, {
    method: 'POST',
    headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`POST ${path}: ${response.status}`);
  const text = await response.text();
  return (text === '' ? {} : JSON.parse(text)) as { id: string };
}

/** What was written into the stores. */
export interface Staged {
  /** Traces that must live to the end, by what they are. */
  readonly kept: Readonly<Record<'shared' | 'linked' | 'newActivity' | 'stranger', string>>;
  readonly own: readonly string[];
  /** Deleted by somebody else before Lethe's turn. */
  readonly overtaken: string;
  readonly known: Readonly<Record<string, string[]>>;
}

/** Fills the stores of a world made by {@link EVERY_OUTCOME}. */
export async function stageEveryOutcome(world: World): Promise<Staged> {
  const { sim } = world;
  const own = world.seed([ANN, 'u_7', 'u_8'], 4).get(ANN) ?? [];
  const startTime = RECEIVED_MS - DAY_MS;
  const labelled = (user: string): Record<string, string> => ({ user_id: user });
  const planted = sim.seed({
    project: 'chat',
    traces: [
      { runs: [{ metadata: { ...labelled(ANN), ...TALK }, startTime }] },
      {
        runs: [
          { metadata: labelled(ANN), startTime },
          { metadata: labelled('u_7'), startTime },
        ],
      },
      { runs: [{ metadata: TALK, startTime }] },
      { runs: [{ metadata: labelled(ANN), startTime: RECEIVED_MS + DAY_MS }] },
      { runs: [{ metadata: labelled('u_9'), startTime }] },
    ],
  });
  const [talk = '', shared = '', linked = '', newActivity = '', stranger = ''] = planted.map(({ traceId }) => traceId);
  const [first = '', second = '', overtaken = ''] = own;

  const { id: dataset } = await post(sim, '/api/v1/datasets', { name: 'golden answers' });
  const example = (metadata: Record<string, string>): Promise<unknown> =>
    post(sim, '/api/v1/examples', { dataset_id: dataset, inputs: { q: 'q' }, metadata, source_run_id: first });
  await example(labelled(ANN));
  // Made from the person's trace and naming somebody else: no call may take these.
  await example(labelled('u_7'));
  const { id: other } = await post(sim, '/api/v1/datasets', { name: 'edge cases' });
  await post(sim, '/api/v1/examples', {
    dataset_id: other,
    inputs: { q: 'q' },
    metadata: labelled('u_8'),
    source_run_id: second,
  });
  sim.addBulkExport({
    session_id: sim.project('chat').id,
    start_time: new Date(RECEIVED_MS - 60 * DAY_MS).toISOString(),
    end_time: null,
  });

  for (const [name, project] of [
    [MOVED, 'agent'],
    [STUCK, 'chat'],
  ] as const) {
    const store = world.more.get(name);
    if (store === undefined) throw new Error(`no store ${name}`);
    const to = FRIDAY_EVENING - 4 * DAY_MS;
    store.seedPeople({ project, people: [ANN, 'u_7', 'u_8'], tracesPerPerson: 2, from: to - 20 * DAY_MS, to });
    store.seedPeople({ project: 'rest', people: ['u_7', 'u_8'], tracesPerPerson: 2, from: to - 20 * DAY_MS, to });
  }
  world.more.get(EMPTY)?.seedPeople({ project: 'chat', people: ['u_7', 'u_8'], tracesPerPerson: 2 });
  return {
    kept: { shared, linked, newActivity, stranger },
    own: [...own, talk],
    overtaken,
    known: { [CONNECTION]: [first, first, TALK.thread_id, stranger, randomUUID()] },
  };
}

/**
 * Erases the person, and does what others do meanwhile: somebody deletes a trace by hand, an operator approves, gives up one
 * store, does one of the manual tasks and leaves the other.
 *
 * @param seen called with every status.
 */
export async function eraseToEveryOutcome(
  world: World,
  staged: Staged,
  seen: (status: RequestStatus) => void,
): Promise<RequestStatus> {
  const { client, sim } = world;
  const erasure = await world.erase({ known: staged.known, receivedAt: new Date(RECEIVED_MS).toISOString() });
  const { requestId } = erasure;
  const until = async (fits: (status: RequestStatus) => boolean): Promise<RequestStatus> => {
    for (;;) {
      const status = await client.status(requestId);
      seen(status);
      if (fits(status)) return status;
      await sleep(30);
    }
  };
  const lane = (status: RequestStatus, name: string) => {
    const of = status.connections[name];
    if (of === undefined) throw new Error(`no lane ${name}`);
    return of;
  };

  const planned = await until((status) =>
    [CONNECTION, MOVED, STUCK].every((name) => lane(status, name).status === 'awaiting-approval'),
  );
  await post(sim, '/api/v1/runs/delete', { session_id: sim.project('chat').id, trace_ids: [staged.overtaken] });
  await until(() => !sim.truth.isLive(staged.overtaken));
  world.more.get(STUCK)?.habits.set({ dropShare: 1 });
  for (const name of [CONNECTION, MOVED, STUCK]) {
    const { plan } = lane(planned, name);
    if (plan == null) throw new Error(`no plan for ${name}`);
    await client.approve(requestId, { ...BY, connection: name, planDigest: plan.digest, atMost: plan.traces });
  }
  await until((status) => lane(status, MOVED).status === 'waiting');
  world.more.get(MOVED)?.deleteProject('agent', { cleanup: 'now' });
  await until((status) => lane(status, STUCK).traces.survived > 0);
  await client.abandon(requestId, { ...BY, connection: STUCK });
  const open = await until((status) => (lane(status, CONNECTION).tasks ?? []).length > 1);
  const done = (lane(open, CONNECTION).tasks ?? []).find(({ kind }) => kind === 'dataset-examples');
  if (done === undefined) throw new Error('no manual task for an example');
  await client.attest(requestId, { ...BY, task: done.id });
  return until(({ endedAt }) => endedAt !== null);
}
