import { Client } from 'langsmith';
import {
  startLangSmithSimulator,
  type LangSmithSimulator,
  type LangSmithSimulatorOptions,
} from '../../src/simulators/langsmith/index.ts';

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
export const WEEK = 7 * DAY;
export const EPOCH = '1970-01-01T00:00:00Z';
export const UNKNOWN = '00000000-0000-4000-8000-000000000001';

/** A Wednesday, 10:00 UTC, more than a week after the real now: what the SDK writes lies in the virtual past. */
export function wednesday(): number {
  const day = new Date(Date.now() + WEEK);
  day.setUTCHours(10, 0, 0, 0);
  return day.getTime() + ((3 - day.getUTCDay() + 7) % 7) * DAY;
}

const running: LangSmithSimulator[] = [];

/** Ends every simulator of the test. */
export async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((simulator) => simulator.close()));
}

export async function start(options: LangSmithSimulatorOptions = {}): Promise<LangSmithSimulator> {
  const clock = { realMs: Date.now(), virtualMs: wednesday(), speed: 1 };
  const simulator = await startLangSmithSimulator({ clock, limits: false, ...options });
  running.push(simulator);
  return simulator;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of many shapes
  readonly json: any;
}

export async function call(sim: LangSmithSimulator, method: string, path: string, body?: unknown): Promise<Reply> {
  const response = await fetch(sim.url + path, {
    method,
    headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  return { status: response.status, headers: response.headers, text, json };
}

export function sdk(sim: LangSmithSimulator, options: ConstructorParameters<typeof Client>[0] = {}): Client {
  return new Client({ apiUrl: sim.url, apiKey: sim.apiKey, ...options });
}

export async function flush(client: Client): Promise<void> {
  await client.flush();
  await client.awaitPendingTraceBatches();
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Two people with two traces each in `chat`, one trace of the first in `support`. */
export function people(sim: LangSmithSimulator) {
  const from = sim.now() - 30 * DAY;
  const [ada, bob] = sim.seedPeople({ project: 'chat', people: ['ada', 'bob'], tracesPerPerson: 2, from });
  const [other] = sim.seedPeople({ project: 'support', people: ['ada'], tracesPerPerson: 1, from });
  return { ada: ada!, bob: bob!, other: other!, chat: ada!.projectId };
}

export const ADA = 'and(eq(metadata_key, "user_id"), eq(metadata_value, "ada"))';

export async function v2(sim: LangSmithSimulator, body: object): Promise<Reply> {
  return call(sim, 'POST', '/api/v2/runs/query', { min_start_time: EPOCH, page_size: 1000, ...body });
}

/** Distinct trace ids that a v2 query answers. */
export async function v2Traces(sim: LangSmithSimulator, body: object): Promise<string[]> {
  const reply = await v2(sim, { selects: ['TRACE_ID'], ...body });
  return [...new Set((reply.json.items as { trace_id: string }[]).map((item) => item.trace_id))].sort();
}

export async function v1Traces(sim: LangSmithSimulator, body: object): Promise<string[]> {
  const reply = await call(sim, 'POST', '/api/v1/runs/query', body);
  return [...new Set((reply.json.runs as { trace_id: string }[]).map((run) => run.trace_id))].sort();
}

export async function remove(
  sim: LangSmithSimulator,
  session_id: string,
  trace_ids: readonly string[],
): Promise<Reply> {
  return call(sim, 'POST', '/api/v1/runs/delete', { session_id, trace_ids });
}
