import { ApplicationFailure, CancelledFailure, Context, log } from '@temporalio/activity';
import { ApplicationFailureCategory } from '@temporalio/common';
import { virtualNow } from '../erasure/clock.ts';
import { framesOf } from '../erasure/frames.ts';
import type { StepInput, Trouble, TroubleReason } from '../erasure/steps.ts';
import { optionalInstant, recordedInstant, type RecordEntry } from '../evidence/record.ts';
import { StoreError, type Progress } from '../stores/port.ts';
import { VaultLostError } from '../vault/vault.ts';
import type { LaneDeps } from './deps.ts';
import { expectedVerdict } from './figures.ts';
import { assertNotHeld } from './legal-hold.ts';
import { StepTrouble } from './trouble.ts';

export { StepTrouble } from './trouble.ts';

/**
 * Well below the heartbeat timeout, so that a step with slow calls is not taken for dead; and longer than most steps,
 * since the server writes down each.
 */
const HEARTBEAT_MS = 6_000;

/** Tries of a step after a store could not be reached; afterwards the lane probes, visibly, with longer pauses. */
const TRANSPORT_TRIES = 3;

/** What a running step works with besides its own input. */
export interface StepRun {
  readonly progress: Progress;
  /**
   * Asks the server, just before what can't be undone, whether this very try of the step is still wanted: a hold or an
   * abandon reaches a running step with its next heartbeat only, which is seconds later (P27).
   */
  readonly lastWord: () => Promise<void>;
  /** Says that this step is a read which has shown traces that must go: if it fails, the lane is told. */
  readonly sawTraces: () => void;
  /** Writes one entry of this step to the record. */
  note(what: string, entry: RecordEntry): Promise<void>;
}

interface StepKind {
  readonly step: 'resolve' | 'delete' | 'verify' | 'look';
  readonly round: number;
  readonly batch: number | null;
}

/**
 * The failure boundary of a lane: whatever a store does becomes a value, a blip of the transport is thrown to be tried
 * again at once, and what is left is thrown without its message, which might name a person (P31).
 *
 * @param told records the trouble of a look after the end, whose lane is sealed. Other steps record their own.
 */
export async function runStep<Answer>(
  deps: LaneDeps,
  input: StepInput,
  kind: StepKind,
  perform: (run: StepRun) => Promise<Answer>,
  told?: (trouble: Trouble) => Promise<void>,
): Promise<Answer | Trouble> {
  const context = Context.current();
  const { info, cancellationSignal, heartbeat } = context;
  const beat = setInterval(() => {
    heartbeat();
  }, HEARTBEAT_MS);
  const saw = { traces: false };
  const run: StepRun = {
    sawTraces: () => {
      saw.traces = true;
    },
    progress: () => {
      if (cancellationSignal.aborted) throw new CancelledFailure('stopped between two API calls, as asked');
    },
    lastWord: async () => {
      await assertNotHeld(deps, input.subject);
      await lastWord(context);
    },
    note: (what, entry) =>
      deps.records.append(input.requestId, input.connection, `${input.step}-${info.attempt}-${what}`, entry),
  };
  let leave: (() => void) | undefined;
  try {
    run.progress();
    leave = await deps.store.board?.(run.progress, input.requestId);
    return await perform(run);
  } catch (error) {
    if (error instanceof CancelledFailure) throw error;
    // Another try of the same step would know nothing of what this one saw.
    if (error instanceof StoreError && error.transient && info.attempt < TRANSPORT_TRIES && !saw.traces) {
      throw failure({
        message: error.message,
        type: 'StoreUnreachable',
        category: ApplicationFailureCategory.BENIGN,
      });
    }
    const found = asTrouble(deps, error);
    if (found === null) {
      const name = error instanceof Error ? error.name : typeof error;
      log.error('step failed inside Lethe', {
        connection: input.connection,
        step: kind.step,
        error: name,
        at: where(error),
      });
      throw failure({ message: `${kind.step} failed inside Lethe (${name})`, type: 'Internal' });
    }
    const submits = kind.step !== 'verify';
    const nowMs = found.atMs;
    const outlook = { nowMs, submits, settledAtMs: null, cleanReads: 0, lastCountedAtMs: null };
    const trouble: Trouble = {
      ...found,
      ...(saw.traces ? { sawTraces: true } : {}),
      ...expectedVerdict(deps, outlook),
    };
    if (kind.step === 'look') {
      await told?.(trouble);
      return trouble;
    }
    await run.note('trouble', {
      kind: 'trouble',
      at: recordedInstant(trouble.atMs),
      ...kind,
      step: kind.step,
      reason: trouble.reason,
      text: trouble.text,
      route: error instanceof StoreError ? error.route : null,
      status: error instanceof StoreError ? error.status : null,
      requestId: error instanceof StoreError ? error.requestId : null,
      notBefore: optionalInstant(trouble.notBeforeMs),
    });
    return trouble;
  } finally {
    leave?.();
    clearInterval(beat);
  }
}

/** @param context of the step: where a call is made for several people, the current one is anybody's among them. */
async function lastWord({ info, client, cancellationSignal }: Context): Promise<void> {
  const { workflowId = '', runId = '' } = info.workflowExecution ?? {};
  const { raw } = await client.workflow.getHandle(workflowId, runId).describe();
  const ours = raw.pendingActivities?.find(({ activityId }) => activityId === info.activityId);
  // Gone when the workflow has ended, and of another attempt when we were given up for dead.
  if (cancellationSignal.aborted || ours?.state !== PENDING_STARTED || ours.attempt !== info.attempt) {
    throw new CancelledFailure('stopped before a delete call, as asked');
  }
}

/** temporal.api.enums.v1.PendingActivityState */
const PENDING_STARTED = 2;

/** Without a stack, which would only tell the history where Lethe is installed. */
function failure(options: Parameters<typeof ApplicationFailure.create>[0]): ApplicationFailure {
  const made = ApplicationFailure.create(options);
  made.stack = '';
  return made;
}

const ADVICE: Readonly<Record<TroubleReason, string>> = {
  unreachable: 'the store does not answer; nothing was proven',
  throttled: 'the store asks to be called less often',
  denied: 'the store refuses the key: check that it is valid and has the rights that `lethe doctor` lists',
  'switched-off': 'deletes of this connection are switched off; nothing was sent',
  rejected: 'the store refuses the call; see the record for its request id',
  gone: 'a route or project of the store is not there; that is no proof that the data is gone',
  'contract-broken': 'the store answered in a shape it does not document; nothing was read from it',
  'no-projects': 'the key sees no project; check its workspace and the configured projects',
  'vault-lost': 'the vault cannot be read',
  'worker-lost': 'no worker finished the step',
  'legal-hold': 'the person is held by law; nothing is deleted until the hold is released',
  internal: 'the step failed inside Lethe',
};

function asTrouble(deps: LaneDeps, error: unknown): Trouble | null {
  const base = { kind: 'trouble', atMs: virtualNow(deps.clock), clock: deps.clock } as const;
  if (error instanceof StoreError) {
    const { reason, notBeforeMs } = error;
    const text = `${error.message}. ${error.advice ?? ADVICE[reason]}`;
    return { ...base, reason, text, notBeforeMs, ...(reason === 'rejected' ? { refused: true } : {}) };
  }
  if (error instanceof VaultLostError) {
    return { ...base, reason: 'vault-lost', text: error.message, notBeforeMs: null };
  }
  if (error instanceof StepTrouble) return { ...base, reason: error.reason, text: error.message, notBeforeMs: null };
  return null;
}

/** Where an error was made: enough to find a defect, and never a value. */
function where(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const frame = framesOf(error).find((line) => /:\d+:\d+\)?$/.test(line));
  return frame?.replace(/\(?(?:file:\/\/)?\/.*\/(src|dist)\//, '($1/');
}
