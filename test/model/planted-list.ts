import type { Mutation } from '../support/scratch-copy.ts';

/** Bugs that the model should find, none of which a type check sees. */
export const BUGS: readonly Mutation[] = [
  {
    name: 'a verifying read counts when no control was to be found',
    file: 'src/activities/reader.ts',
    from: 'export const LEAST_CONTROLS = 2;',
    to: 'export const LEAST_CONTROLS = 0;',
  },
  {
    name: 'after a second submit the settle time of the first one holds',
    file: 'src/activities/delete-batch.ts',
    from: 'const settledAtMs = takenMs === null ?',
    to: 'const settledAtMs = takenMs === null || input.round > 1 ?',
  },
  {
    name: 'whose a trace is, is not judged again just before its delete',
    file: 'src/activities/delete-batch.ts',
    from: "const isTheirsToo = owner === 'mixed' && !isIncluded(entry);",
    to: 'const isTheirsToo = false;',
  },
  {
    name: 'what an earlier try of a delete call had sent is forgotten',
    file: 'src/activities/delete-batch.ts',
    from: 'return await deps.vault.get(requestId, { name }, deltaSchema);',
    to: 'await deps.vault.get(requestId, { name }, deltaSchema);\n    return null;',
  },
  {
    name: 'a hold waits until the last batch of a round is sent',
    file: 'src/erasure/lane.ts',
    from: 'if (lane.heldSinceMs !== null) return heldCommand(lane, now);',
    to: "if (lane.heldSinceMs !== null && lane.phase !== 'deleting') return heldCommand(lane, now);",
  },
  {
    name: 'a trace whose root is gone counts as gone',
    file: 'src/activities/read-back.ts',
    from: '  const present = await reader.present(readable);\n',
    to: '  const present = await reader.present(readable);\n  for (const [key, rows] of present) if (rows.every(({ runId, traceId }) => runId !== traceId)) present.delete(key);\n',
  },
];
