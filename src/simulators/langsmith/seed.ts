import type { RunRow } from './rows.ts';
import { instant } from '../common/time.ts';
import type { World } from './world.ts';

/** One run to be seeded. The first run of a trace without `parent` is its root. */
export interface SeedRun {
  readonly id?: string;
  /** Id of the parent run, or its position in the list. Default: the root (position 0). */
  readonly parent?: string | number;
  readonly name?: string;
  readonly runType?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly tags?: readonly string[];
  /** ISO text or epoch milliseconds; default: the virtual now. */
  readonly startTime?: string | number;
  readonly endTime?: string | number;
  readonly inputs?: unknown;
  readonly outputs?: unknown;
  readonly error?: string;
}

export interface SeedTrace {
  /** Default: a version 7 UUID of the root's start. */
  readonly traceId?: string;
  readonly runs: readonly SeedRun[];
}

export interface SeedRequest {
  /** Project by name, made when missing. */
  readonly project: string;
  readonly workspaceId?: string;
  readonly traces: readonly SeedTrace[];
}

export interface SeededTrace {
  readonly traceId: string;
  readonly projectId: string;
  readonly runIds: readonly string[];
}

export interface SeedPeopleRequest {
  readonly project: string;
  readonly workspaceId?: string;
  /** Identifiers, or how many to make (`person-00001`, ...). */
  readonly people: readonly string[] | number;
  readonly tracesPerPerson: number;
  /** Default 3: a root and two children. */
  readonly runsPerTrace?: number;
  /** Metadata key that carries the identifier. Default `user_id`. */
  readonly key?: string;
  /** Runs that carry it: all (default, as the SDK does it), only the root, or only the children. */
  readonly carriedBy?: 'all' | 'root' | 'children';
  /** More metadata for every run. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** The traces' starts are spread evenly from here ... Default: 30 days before now. */
  readonly from?: string | number;
  /** ... to here. Default: now. */
  readonly to?: string | number;
}

export interface SeededPerson {
  readonly value: string;
  readonly projectId: string;
  readonly traceIds: readonly string[];
}

/** Writes traces past HTTP, as if they had been ingested just now. */
export function seed(world: World, request: SeedRequest): SeededTrace[] {
  const nowMs = world.tick();
  const tenantId = request.workspaceId ?? world.workspaces[0]?.id ?? '';
  const projectId = world.projectFor(tenantId, request.project, nowMs).id;
  return request.traces.map((trace) => {
    const starts = trace.runs.map((run) => instant(run.startTime, nowMs));
    const ids: string[] = trace.runs.map((run, index) => run.id ?? world.random.uuid7(starts[index] ?? nowMs));
    if (trace.traceId !== undefined && trace.runs[0]?.id === undefined) ids[0] = trace.traceId;
    const traceId = trace.traceId ?? ids[0] ?? world.random.uuid7(nowMs);
    trace.runs.forEach((run, index) => {
      const startMs = starts[index] ?? nowMs;
      const parent = typeof run.parent === 'number' ? ids[run.parent] : run.parent;
      world.state.upsert(
        {
          id: ids[index] ?? traceId,
          projectId,
          traceId,
          parentId: parent ?? (index === 0 ? null : (ids[0] ?? null)),
          name: run.name ?? 'run',
          runType: run.runType ?? 'chain',
          startMs,
          endMs: instant(run.endTime, startMs + 1000),
          tags: run.tags,
          metadata: run.metadata,
          inputs: run.inputs,
          outputs: run.outputs,
          error: run.error,
        },
        nowMs,
      );
    });
    return { traceId, projectId, runIds: ids };
  });
}

/** Writes many people's traces, interleaved in time: trace 1 of each person, then trace 2 of each, and so on. */
export function seedPeople(world: World, request: SeedPeopleRequest): SeededPerson[] {
  const nowMs = world.tick();
  const tenantId = request.workspaceId ?? world.workspaces[0]?.id ?? '';
  const projectId = world.projectFor(tenantId, request.project, nowMs).id;
  const names =
    typeof request.people === 'number'
      ? Array.from({ length: request.people }, (_none, index) => `person-${String(index + 1).padStart(5, '0')}`)
      : request.people;
  const from = instant(request.from, nowMs - 30 * 86_400_000);
  const to = instant(request.to, nowMs);
  const step = (to - from) / Math.max(1, names.length * request.tracesPerPerson);
  const { key = 'user_id', runsPerTrace = 3, carriedBy = 'all', metadata = {} } = request;
  const people = names.map((value) => ({ value, projectId, traceIds: [] as string[] }));
  let number = 0;
  for (let turn = 0; turn < request.tracesPerPerson; turn += 1) {
    for (const person of people) {
      const startMs = Math.floor(from + number * step);
      number += 1;
      const traceId = world.random.uuid7(startMs);
      person.traceIds.push(traceId);
      const labelled = { ...metadata, [key]: person.value };
      for (let index = 0; index < runsPerTrace; index += 1) {
        const carries = carriedBy === 'all' || (carriedBy === 'root') === (index === 0);
        const fields = { projectId, traceId, metadata: carries ? labelled : metadata, startMs: startMs + index };
        const own = index === 0 ? traceId : world.random.uuid7(startMs + index);
        world.state.upsert(
          {
            ...fields,
            id: own,
            parentId: index === 0 ? null : traceId,
            name: index === 0 ? 'answer' : `step ${index}`,
            runType: index === 0 ? 'chain' : 'llm',
            endMs: startMs + 1000,
          },
          nowMs,
        );
      }
    }
  }
  return people;
}

/** The runs of a trace as a test may want to look at them. */
export type TruthRun = Pick<
  RunRow,
  'id' | 'traceId' | 'projectId' | 'name' | 'tags' | 'metadata' | 'startMs' | 'parentId'
>;
