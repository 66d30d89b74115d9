import type { Json } from '../common/json.ts';
import { DAY_MS, instant } from '../common/time.ts';
import type { Place } from './state.ts';
import type { World } from './world.ts';

/** One span to be seeded. The first span of a trace without `parent` is its root. */
export interface SeedSpan {
  /** Row id; default a new one. */
  readonly id?: string;
  /** Default: a new one. */
  readonly spanId?: string;
  /** Position of the parent span in the list. Default: the root (position 0). */
  readonly parent?: number;
  readonly name?: string;
  readonly metadata?: Json;
  readonly tags?: readonly string[];
  /** ISO text or epoch milliseconds; default: the virtual now. */
  readonly created?: string | number;
  readonly input?: unknown;
  readonly output?: unknown;
  /** More fields of the row, as an insert would carry them. */
  readonly fields?: Json;
}

export interface SeedTrace {
  /** Root span id; default a new one. */
  readonly traceId?: string;
  readonly spans: readonly SeedSpan[];
}

export interface SeedRequest {
  /** Project by name, made when missing. */
  readonly project: string;
  /** Organisation by name; default the first. */
  readonly organisation?: string;
  /** An experiment, dataset or playground of the project (by name, made when missing) instead of its logs. */
  readonly into?: { readonly type: 'experiment' | 'dataset' | 'playground_logs'; readonly name: string };
  readonly traces: readonly SeedTrace[];
}

export interface SeededTrace {
  readonly traceId: string;
  readonly projectId: string;
  readonly objectId: string;
  /** In the order of the spans. */
  readonly rowIds: readonly string[];
  readonly spanIds: readonly string[];
}

export interface SeedPeopleRequest {
  readonly project: string;
  readonly organisation?: string;
  /** Identifiers (texts or numbers keep their JSON type), or how many to make (`person-00001`, ...). */
  readonly people: readonly (string | number)[] | number;
  readonly tracesPerPerson: number;
  /** Default 3: a root and two children. */
  readonly spansPerTrace?: number;
  /** Path below `metadata` that carries the identifier, dots for nesting. Default `user_id`. */
  readonly key?: string;
  /** Spans that carry it: all (default), only the root, or only the children. */
  readonly carriedBy?: 'all' | 'root' | 'children';
  /** More metadata for every span. */
  readonly metadata?: Json;
  readonly tags?: readonly string[];
  /** Somebody else, whose identifier the last span of every trace carries instead: traces of two people. */
  readonly sharedWith?: string | number;
  /** `created` of every trace; default: spread evenly from `from` (30 days before now) to `to` (now). */
  readonly atMs?: number;
  readonly from?: string | number;
  readonly to?: string | number;
}

export interface SeededPerson {
  readonly value: string | number;
  readonly projectId: string;
  readonly traceIds: readonly string[];
  /** All rows of each trace, in the order of `traceIds`. */
  readonly rowIds: readonly (readonly string[])[];
}

function placeFor(world: World, request: SeedRequest, nowMs: number): { place: Place; projectId: string } {
  const org = request.organisation === undefined ? world.home : world.organisation(request.organisation);
  const projectId = world.projectFor(org.id, request.project, nowMs).id;
  if (request.into === undefined) return { place: { objectType: 'project_logs', objectId: projectId }, projectId };
  const { type, name } = request.into;
  const known = world.state.containerByName(type, projectId, name, nowMs);
  const { id } = known ?? world.state.addContainer(type, projectId, name, {}, nowMs);
  return { place: { objectType: type, objectId: id }, projectId };
}

function writeTrace(world: World, place: Place, projectId: string, trace: SeedTrace, nowMs: number): SeededTrace {
  const { random, state } = world;
  const rowIds = trace.spans.map((span) => span.id ?? random.uuid4());
  const spanIds = trace.spans.map(
    (span, index) => span.spanId ?? (index === 0 ? trace.traceId : undefined) ?? random.uuid4(),
  );
  const traceId = trace.traceId ?? spanIds[0] ?? random.uuid4();
  const xact = state.nextXact(nowMs);
  trace.spans.forEach((span, index) => {
    const startMs = instant(span.created, nowMs);
    const parent = spanIds[span.parent ?? 0];
    const event: Json = {
      span_id: spanIds[index],
      root_span_id: traceId,
      ...(index === 0 && span.parent === undefined ? {} : { span_parents: [parent] }),
      created: new Date(startMs).toISOString(),
      span_attributes: { name: span.name ?? 'span', type: index === 0 ? 'task' : 'llm' },
      metrics: { start: startMs / 1000, end: startMs / 1000 + 1 },
      ...(span.input === undefined ? {} : { input: span.input }),
      ...(span.output === undefined ? {} : { output: span.output }),
      ...(span.metadata === undefined ? {} : { metadata: span.metadata }),
      ...(span.tags === undefined ? {} : { tags: span.tags }),
      ...span.fields,
    };
    // Seeds count as indexed, so that reads which are not live see them too.
    state.write(place, rowIds[index] ?? traceId, event, xact, nowMs, { shownMs: nowMs - world.indexLagMs });
  });
  return { traceId, projectId, objectId: place.objectId, rowIds, spanIds };
}

/** Writes traces past HTTP, as if they had been written just now and were indexed already. */
export function seed(world: World, request: SeedRequest): SeededTrace[] {
  const nowMs = world.tick();
  const { place, projectId } = placeFor(world, request, nowMs);
  return request.traces.map((trace) => writeTrace(world, place, projectId, trace, nowMs));
}

function nested(path: string, value: unknown, base: Json): Json {
  const [key = '', ...rest] = path.split('.');
  if (rest.length === 0) return { ...base, [key]: value };
  return { ...base, [key]: nested(rest.join('.'), value, (base[key] ?? {}) as Json) };
}

/** Writes many people's traces, interleaved in time: trace 1 of each person, then trace 2 of each, and so on. */
export function seedPeople(world: World, request: SeedPeopleRequest): SeededPerson[] {
  const nowMs = world.tick();
  const { place, projectId } = placeFor(world, { ...request, traces: [] }, nowMs);
  const { key = 'user_id', spansPerTrace = 3, carriedBy = 'all', metadata = {}, tags, sharedWith } = request;
  const values =
    typeof request.people === 'number'
      ? Array.from({ length: request.people }, (_none, index) => `person-${String(index + 1).padStart(5, '0')}`)
      : request.people;
  const from = request.atMs ?? instant(request.from, nowMs - 30 * DAY_MS);
  const to = request.atMs ?? instant(request.to, nowMs);
  const step = (to - from) / Math.max(1, values.length * request.tracesPerPerson);
  const people = values.map((value) => {
    const labelled = nested(key, value, metadata);
    return { value, projectId, labelled, traceIds: [] as string[], rowIds: [] as (readonly string[])[] };
  });
  const shared = sharedWith === undefined ? null : nested(key, sharedWith, metadata);
  let number = 0;
  for (let turn = 0; turn < request.tracesPerPerson; turn += 1) {
    for (const person of people) {
      const startMs = Math.floor(from + number * step);
      number += 1;
      const spans = Array.from({ length: spansPerTrace }, (_none, index): SeedSpan => {
        const carries = carriedBy === 'all' || (carriedBy === 'root') === (index === 0);
        const last = shared !== null && index === spansPerTrace - 1;
        return {
          name: index === 0 ? 'answer' : `step ${index}`,
          metadata: last ? shared : carries ? person.labelled : metadata,
          created: startMs + index,
          ...(tags === undefined ? {} : { tags }),
        };
      });
      const { traceId, rowIds } = writeTrace(world, place, projectId, { spans }, nowMs);
      person.traceIds.push(traceId);
      person.rowIds.push(rowIds);
    }
  }
  return people.map(({ value, traceIds, rowIds }) => ({ value, projectId, traceIds, rowIds }));
}
