import { reopenedId, type RecordLookInput, type ReopenAnswer, type ReopenInput } from '../erasure/aftercare.ts';
import { virtualNow } from '../erasure/clock.ts';
import type { EraseRequest } from '../erasure/request.ts';
import { recordedClock, recordedInstant } from '../evidence/record.ts';
import type { RequestDeps } from './deps.ts';
import { foundSchema } from './look-again.ts';

/** How a new request is started from inside a worker: as every caller does it, through the client. */
export type StartRequest = (request: EraseRequest) => Promise<ReopenAnswer>;

/** Starts a new request for what a look found. Repeating it joins the one that was started. */
export async function reopen(deps: RequestDeps, input: ReopenInput): Promise<ReopenAnswer> {
  const connections = Object.keys(input.found).sort();
  const known: Record<string, string[]> = {};
  let unlabelled = 0;
  for (const [connection, ref] of Object.entries(input.found)) {
    const found = await deps.vault.get(input.requestId, ref, foundSchema);
    if (found.resurrected.length > 0) known[connection] = found.resurrected;
    unlabelled = Math.max(unlabelled, found.unlabelled);
  }
  const answer: ReopenAnswer =
    deps.startRequest === undefined
      ? { kind: 'refused', text: 'this worker cannot start requests' }
      : await deps.startRequest({
          requestId: reopenedId(input.requestId, input.number),
          identifiers: input.subject.map(({ kind, value }) => ({ kind, value })),
          known,
          connections,
          receivedAt: recordedInstant(input.receivedAtMs),
          onlyBefore: recordedInstant(input.onlyBeforeMs),
          ...(input.requestedBy === undefined ? {} : { requestedBy: input.requestedBy }),
          // These very traces were this person's when they were erased the first time.
          ...(unlabelled === 0 ? {} : { acceptUnlabelled: unlabelled }),
        });
  await deps.records.addAddendum(input.requestId, `reopened-${input.look}-${input.attempt}`, {
    kind: 'reopened',
    at: recordedInstant(virtualNow(deps.clock)),
    look: input.look,
    attempt: input.attempt,
    connections,
    request: answer.kind === 'started' ? answer.requestId : null,
    why: answer.kind === 'started' ? null : answer.text,
  });
  return answer;
}

/** Records a look that could not be made. Repeating it changes nothing but its time. */
export async function recordLook(deps: RequestDeps, input: RecordLookInput): Promise<void> {
  const { connection, look, attempt, answer, why } = input;
  await deps.records.addAddendum(input.requestId, `look-${connection}-${look}-${attempt}`, {
    kind: 'look',
    at: recordedInstant(virtualNow(deps.clock)),
    connection,
    look,
    attempt,
    due: recordedInstant(input.dueAtMs),
    answer,
    resurrected: 0,
    late: 0,
    newActivity: 0,
    shared: 0,
    beside: 0,
    why,
    reports: [],
    controls: {},
    window: null,
    clock: recordedClock(deps.clock),
  });
}
