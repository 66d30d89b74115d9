import { z } from 'zod';
import type { CopiesFound, Copy, Progress, Project, ReadReport, TraceKey } from '../port.ts';
import { chunks, unique } from '../rows.ts';
import { MOST_ALIASES } from './api.ts';
import type { LookupParts } from './lookup.ts';
import { attachmentsOf } from './lookup.ts';

/**
 * Finds copies before the traces are deleted: afterwards the server has forgotten which span a dataset example was made
 * from. Ids of copies: `dataset-examples` the span's, `sessions` the application's own, the others the trace's.
 *
 * @param experiments ids of projects that belong to experiments.
 */
export async function findCopies(
  parts: LookupParts,
  experiments: ReadonlySet<Project['id']>,
  traces: readonly TraceKey[],
  progress: Progress,
): Promise<CopiesFound> {
  const tally = parts.api.tally(progress);
  const attached = await attachmentsOf(parts, tally, unique(traces.map(({ traceId }) => traceId)));
  const copies: Copy[] = [];
  for (const { projectId, traceId } of traces) {
    if (experiments.has(projectId)) copies.push({ kind: 'experiment-runs', id: traceId, traceId });
    const hangs = attached.get(traceId);
    if (hangs === undefined) continue;
    for (const id of hangs.exampled) copies.push({ kind: 'dataset-examples', id, traceId });
    if (hangs.annotated) copies.push({ kind: 'annotations', id: traceId, traceId });
    // Of every trace that stands in it: it may be one of several people.
    if (hangs.session !== null && hangs.session !== '') copies.push({ kind: 'sessions', id: hangs.session, traceId });
  }
  return { copies, outOfReach: [], notExamined: [], reports: tally.calls === 0 ? [] : [tally.report('copies', null)] };
}

/**
 * Looks again at what should have gone with the traces. A session that is there shows its id and annotations, whoever's the
 * traces are that keep it. Annotations hang on their trace by a foreign key: they are there while it is.
 */
export async function lookAgain(
  parts: LookupParts,
  copies: readonly Copy[],
  progress: Progress,
): Promise<{ readonly left: readonly Copy[]; readonly reports: readonly ReadReport[] }> {
  const { api } = parts;
  const tally = api.tally(progress);
  const left: Copy[] = [];
  const ask = async (of: readonly Copy[], field: (name: string) => string, schema: z.ZodType): Promise<void> => {
    for (const some of chunks(of, MOST_ALIASES)) {
      const names = some.map((_copy, index) => `c${index}`);
      const data = await api.ask(
        tally,
        {
          query: `query Copies(${names.map((name) => `$${name}: String!`).join(', ')}) { ${names.map((name) => `${name}: ${field(name)}`).join(' ')} }`,
          variables: Object.fromEntries(some.map(({ id }, index) => [`c${index}`, id])),
        },
        z.object(Object.fromEntries(names.map((name) => [name, schema.nullable()]))),
      );
      some.forEach((copy, index) => {
        if (data[`c${index}`] !== null) left.push(copy);
      });
    }
  };
  const ofKind = (kind: string): readonly Copy[] => copies.filter((copy) => copy.kind === kind);
  await ask(
    ofKind('sessions'),
    (name) => `getProjectSessionById(sessionId: $${name}) { sessionId }`,
    z.object({ sessionId: z.string() }),
  );
  await ask(
    ofKind('annotations'),
    (name) => `getTraceByOtelId(traceId: $${name}) { traceId }`,
    z.object({ traceId: z.string() }),
  );
  left.push(...copies.filter(({ kind }) => kind !== 'sessions' && kind !== 'annotations'));
  return { left, reports: tally.calls === 0 ? [] : [tally.report('copies', null)] };
}
