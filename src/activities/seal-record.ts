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
  });
  return { kind: 'sealed', atMs, digest };
}
