import { BraintrustState } from 'braintrust';
import {
  startBraintrustSimulator,
  type BraintrustSimulator,
  type BraintrustSimulatorOptions,
} from '../../src/simulators/braintrust/index.ts';

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
export const UNKNOWN = '00000000-0000-4000-8000-000000000001';

const running: BraintrustSimulator[] = [];

/** Ends every simulator of the test. */
export async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((simulator) => simulator.close()));
}

/** A simulator whose clock starts a week after the real now: what the SDK writes lies in the virtual past. */
export async function start(options: BraintrustSimulatorOptions = {}): Promise<BraintrustSimulator> {
  const clock = { realMs: Date.now(), virtualMs: Date.now() + 7 * DAY, speed: 1 };
  const simulator = await startBraintrustSimulator({ clock, limits: false, ...options });
  running.push(simulator);
  return simulator;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of many shapes
  readonly json: any;
  /** Rows of a query's answer; empty when there are none. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- rows of many shapes
  readonly rows: readonly Record<string, any>[];
}

/** The field of that name in every row. */
export function column(rows: Reply['rows'], name = 'id'): string[] {
  return rows.map((row) => String(row[name]));
}

export async function call(
  sim: Pick<BraintrustSimulator, 'apiKey' | 'apiUrl'>,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const response = await fetch(sim.apiUrl + path, {
    method,
    headers: { authorization: `Bearer ${sim.apiKey}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  const rows = (json as { data?: Reply['rows'] } | null)?.data ?? [];
  return { status: response.status, headers: response.headers, text, json, rows };
}

/** A state of the official SDK of its own, so that tests don't share logins or queues. */
export async function sdkState(sim: BraintrustSimulator): Promise<BraintrustState> {
  const state = new BraintrustState({});
  await state.login({ appUrl: sim.url, apiKey: sim.apiKey, orgName: sim.organisation.name, noExitFlush: true });
  return state;
}

type Node = Record<string, unknown>;

export const ident = (...name: string[]): Node => ({ op: 'ident', name });
export const literal = (value: unknown): Node => ({ op: 'literal', value });
export const compare = (op: string, path: string, value: unknown): Node => ({
  op,
  left: ident(...path.split('/')),
  right: literal(value),
});
export const and = (...children: Node[]): Node => ({ op: 'and', children });
export const field = (name: string): Node => ({ alias: name, expr: ident(...name.split('/')) });
export const sorted = (name: string, dir = 'asc'): Node => ({ sort: [{ expr: ident(name), dir }] });
export const userIs = (value: unknown): Node => compare('eq', 'metadata/user_id', value);

export function from(ids: readonly string[], source = 'project_logs', shape = 'spans'): Node {
  return { from: { op: 'function', name: ident(source), args: ids.map(literal), shape } };
}

/** A live query of the parsed form; `query` overrides, `body` adds to the request. */
export async function btql(
  sim: BraintrustSimulator,
  projects: readonly string[],
  query: Node = {},
  body: Node = {},
): Promise<Reply> {
  return call(sim, 'POST', '/btql', {
    query: { select: [field('id'), field('root_span_id')], limit: 1000, ...from(projects), ...query },
    brainstore_realtime: true,
    ...body,
  });
}

/** Row ids that a query answers, sorted. */
export async function rowIds(
  sim: BraintrustSimulator,
  projects: readonly string[],
  filter: Node | null = null,
  body: Node = {},
): Promise<string[]> {
  const reply = await btql(sim, projects, filter === null ? {} : { filter }, body);
  if (reply.status !== 200) throw new Error(`query answered ${reply.status}`);
  return column(reply.rows).sort();
}

/** Tombstones for row ids in a project's logs. */
export async function remove(
  sim: BraintrustSimulator,
  projectId: string,
  ids: readonly string[],
  type = 'project_logs',
): Promise<Reply> {
  const events = ids.map((id) => ({ id, _object_delete: true }));
  return call(sim, 'POST', `/v1/${type}/${projectId}/insert`, { events });
}

export async function insert(sim: BraintrustSimulator, projectId: string, events: readonly Node[]): Promise<Reply> {
  return call(sim, 'POST', `/v1/project_logs/${projectId}/insert`, { events });
}

/** Two people with two traces of three spans each in `chat`, one trace of the first in `support`. */
export function people(sim: BraintrustSimulator) {
  const [ada, bob] = sim.seedPeople({ project: 'chat', people: ['ada', 'bob'], tracesPerPerson: 2 });
  const [other] = sim.seedPeople({ project: 'support', people: ['ada'], tracesPerPerson: 1 });
  return { ada: ada!, bob: bob!, other: other!, chat: ada!.projectId, support: other!.projectId };
}
