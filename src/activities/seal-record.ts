import { virtualNow } from '../erasure/clock.ts';
import type { SealAnswer, SealInput } from '../erasure/steps.ts';
import { recordedFigures, recordedInstant, recordedVerb } from '../evidence/record.ts';
import type { RequestDeps } from './deps.ts';

/** Closes the record with the verdict of every lane. Repeating it changes nothing. */
export async function sealRecord(deps: RequestDeps, input: SealInput): Promise<SealAnswer> {
  const atMs = virtualNow(deps.clock);
  const digest = await deps.records.close(input.requestId, {
    workflowId: input.workflowId,
    endedAt: recordedInstant(atMs),
    verdict: input.verdict,
    dryRun: input.dryRun,
    lanes: Object.fromEntries(
      Object.entries(input.lanes).map(([name, lane]) => [
        name,
        { verdict: lane.verdict, round: lane.round, ...recordedFigures(lane) },
      ]),
    ),
    verbs: input.verbs.map(recordedVerb),
    ...(input.extension === undefined
      ? {}
      : {
          extension: {
            to: recordedInstant(input.extension.toMs),
            by: input.extension.by,
            at: recordedInstant(input.extension.atMs),
            notifiedOn: input.extension.notifiedOn,
          },
        }),
    ...(input.joined === undefined
      ? {}
      : {
          joined: input.joined.map(({ requestId, receivedAtMs, dueAtMs, joinedAtMs }) => ({
            requestId,
            receivedAt: recordedInstant(receivedAtMs),
            dueAt: recordedInstant(dueAtMs),
            joinedAt: recordedInstant(joinedAtMs),
          })),
        }),
  });
  return { kind: 'sealed', atMs, digest };
}
