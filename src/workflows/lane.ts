import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  condition,
  proxyActivities,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import { realSpanMs, virtualAt, type Clock } from '../erasure/clock.ts';
import { attest, attestRefusal } from '../erasure/attest.ts';
import { formatCount, formatTraces } from '../erasure/format.ts';
import {
  abandoned,
  begun,
  deleted,
  holdExpired,
  joinedBy,
  nextCommand,
  ordered,
  planned,
  refusal,
  troubled,
  verified,
  type LaneState,
} from '../erasure/lane.ts';
import { connectionTaskQueue } from '../erasure/memo.ts';
import type { EraseInput } from '../erasure/request.ts';
import type { LaneActivities, Trouble } from '../erasure/steps.ts';
import type { LaneVerb, OperatorMessage } from '../erasure/verbs.ts';

/**
 * Options of every activity of a lane. Retries here are for a worker that dies and for transport blips; they leave no
 * events, so nothing a store says is retried by them: that comes back as a value and is tried again by the lane.
 */
export const STEP_OPTIONS = {
  /** A person with a million traces reads for hours at the stores' rates. */
  startToCloseTimeout: '12 hours',
  /** A killed worker's step starts again after this. */
  heartbeatTimeout: '15 seconds',
  /** No worker of this connection took the step: the lane says so instead of waiting in silence. */
  scheduleToStartTimeout: '1 hour',
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '10 seconds', maximumAttempts: 5 },
  /** What a stopped step has done until then must be known before the lane goes on or its record is sealed. */
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
} as const;

/** What the lanes of one request share. */
export interface LaneRoom {
  /** What is to be erased, with everything that joined. */
  readonly input: EraseInput;
  /** What the request was started with: the record was opened so. */
  readonly opened: EraseInput;
  /** Who asked for the erasure, and who for those that joined: none of them approves large plans (P25). */
  readonly requesters: readonly (string | undefined)[];
  /** Of the request and of those that joined, epoch milliseconds. */
  readonly latestReceiptMs: number;
  /** Set when the run has grown long: every lane returns at its next safe point, and the run continues as new. */
  draining: boolean;
  /** Called after each change of a lane's state that others should see. */
  readonly changed: () => void;
  /** Called instead when a step begins, which may be over soon. */
  readonly begins: () => void;
  /** Called when a hold has come to its end; for the record. */
  readonly holdEnded: (connection: string, goesOn: boolean) => void;
}

/** Drives one lane: asks the state what to do next, does it, and puts the answer back into the state. */
export class LaneRunner {
  state: LaneState;
  private readonly room: LaneRoom;
  private scope: CancellationScope | null = null;
  /** Counts operator messages, so that a wait notices them. */
  private orders = 0;
  /** Counts requests that joined: what a step began before the latest of them found is not theirs. */
  private joins = 0;

  constructor(room: LaneRoom, state: LaneState) {
    this.room = room;
    this.state = state;
  }

  /** Whether `run` is under way. */
  running = false;

  /** Runs until the lane has ended, or until the run is to continue as new. To be called once at a time. */
  async run(): Promise<void> {
    this.running = true;
    try {
      await this.runOn();
    } finally {
      this.running = false;
    }
  }

  private async runOn(): Promise<void> {
    for (;;) {
      if (workflowInfo().continueAsNewSuggested) this.room.draining = true;
      const command = nextCommand(this.state, Date.now());
      if (command.do === 'end' || this.room.draining) return;
      if (command.do === 'expire') this.expire();
      else if (command.do === 'wait') await this.wait(command.untilMs, command.summary);
      else await this.step(command.do);
    }
  }

  /** @returns why the verb does not apply here, or null. */
  refusal(verb: LaneVerb, message: OperatorMessage): string | null {
    const refusals = this.room.requesters.map((requester) => refusal(this.state, verb, message, requester));
    return refusals.find((why) => why !== null) ?? null;
  }

  /** Takes a verb that applies; the lane acts on it at once, waking up if it sleeps. */
  order(verb: LaneVerb, message: OperatorMessage): string {
    const [state, text] = ordered(this.state, verb, Date.now(), message);
    this.state = state;
    this.orders += 1;
    // A running activity stops before its next API call; see `Progress` in the store port.
    if (verb === 'hold' || verb === 'abandon') this.scope?.cancel();
    return text;
  }

  /** @returns why a word for a task cannot be taken here, or null. */
  attestRefusal(task: string): string | null {
    return attestRefusal(this.state, task);
  }

  /** Takes somebody's word that the copies of an open task are erased. */
  attest(task: string, by: string): string {
    const [state, text] = attest(this.state, task, by);
    this.state = state;
    this.orders += 1;
    return text;
  }

  /** Another request joined: everything is planned and read anew. */
  join(moreKnownIds: number): void {
    this.state = joinedBy(this.state, moreKnownIds);
    this.orders += 1;
    this.joins += 1;
    this.scope?.cancel();
  }

  private expire(): void {
    this.state = holdExpired(this.state);
    this.room.holdEnded(this.state.connection, this.state.heldSinceMs === null);
  }

  private async wait(untilMs: number | null, summary: string): Promise<void> {
    const seen = this.orders;
    const woken = (): boolean => this.orders !== seen || this.room.draining;
    this.room.changed();
    if (untilMs === null) {
      await condition(woken);
      return;
    }
    const real = realSpanMs(this.state.clock, untilMs - virtualAt(this.state.clock, Date.now()));
    await condition(woken, Math.max(1, real), { summary: `${this.state.connection} · ${summary}` });
  }

  private async step(command: 'resolve' | 'delete' | 'verify'): Promise<void> {
    this.state = begun(this.state, command);
    this.room.begins();
    const scope = new CancellationScope();
    try {
      this.scope = scope;
      await scope.run(() => this.perform(command));
    } catch (error) {
      // Stopped by an operator: however the step took it, it is no trouble, and is done again when the lane goes on.
      if (scope.consideredCancelled) return;
      this.state = troubled(this.state, failureAsTrouble(error, this.state.clock), Math.random());
    } finally {
      this.scope = null;
    }
  }

  private async perform(command: 'resolve' | 'delete' | 'verify'): Promise<void> {
    const { state } = this;
    const { input, opened } = this.room;
    const approved =
      state.approval == null ? {} : { approvedAtMost: state.approval.atMost, approvedPlan: state.approval.planDigest };
    const { joins } = this;
    const common = {
      requestId: input.requestId,
      connection: state.connection,
      step: state.step,
      subject: input.subject,
      ...(input.onlyBeforeMs === undefined ? {} : { onlyBeforeMs: input.onlyBeforeMs }),
    };
    if (command === 'resolve') {
      const { resolveIds } = activities(state.connection, 'find and plan');
      const answer = await resolveIds({
        ...common,
        known: input.known[state.connection] ?? [],
        acceptUnlabelled: input.acceptUnlabelled,
        expectAtMost: input.expectAtMost,
        receivedAtMs: input.receivedAtMs,
        ...(this.room.latestReceiptMs === input.receivedAtMs ? {} : { latestReceiptMs: this.room.latestReceiptMs }),
        dueAtMs: opened.dueAtMs,
        dryRun: input.dryRun,
        lostManifest: state.lostManifest,
        ...approved,
        ...(opened.requestedBy === undefined ? {} : { requestedBy: opened.requestedBy }),
        scopeDigest: opened.scopeDigest,
        connections: opened.connections,
        workflowId: workflowInfo().workflowId,
        ...(opened.deadlines === undefined ? {} : { deadlines: opened.deadlines }),
        ...(input === opened ? {} : { openedKinds: kindsOf(opened) }),
        ...(state.including === true && state.joined !== true && state.book !== null
          ? { include: state.approval?.include ?? [], book: state.book }
          : {}),
        ...(state.joined === true && state.book !== null ? { previous: { book: state.book } } : {}),
      });
      this.take(answer, joins, (at) => planned(at, answer as Exclude<typeof answer, Trouble>, input.dryRun));
      return;
    }
    if (state.book === null) throw new TypeError('a lane deletes and verifies only what a plan has sealed');
    if (command === 'delete') {
      const { round, nextBatch, batches } = state;
      const size = formatTraces(batches[nextBatch] ?? 0);
      const which = `batch ${formatCount(nextBatch + 1)}/${formatCount(batches.length)}`;
      const { deleteBatch } = activities(state.connection, `round ${round} · ${which} · ${size}`);
      const answer = await deleteBatch({ ...common, round, batch: nextBatch, book: state.book });
      this.take(answer, joins, (at) => deleted(at, answer as Exclude<typeof answer, Trouble>));
      return;
    }
    const { verifyAbsence } = activities(
      state.connection,
      `round ${state.round} · read back ${formatTraces(state.figures.traces.matched)}`,
    );
    const answer = await verifyAbsence({
      ...common,
      round: state.round,
      book: state.book,
      settledAtMs: state.settledAtMs,
      lastCountedAtMs: state.lastCountedAtMs,
      cleanReads: state.cleanReads,
      unproven: state.unproven,
      dueAtMs: input.dueAtMs,
      ...approved,
      ...(state.attested === undefined ? {} : { attested: state.attested }),
      ...(state.tasksSinceMs === undefined ? {} : { tasksSinceMs: state.tasksSinceMs }),
    });
    this.take(answer, joins, (at) => verified(at, answer as Exclude<typeof answer, Trouble>, Math.random()));
  }

  /** Puts an answer into the state, unless an operator ended the lane, or another request joined it, meanwhile. */
  private take(answer: { readonly kind: string }, joins: number, apply: (state: LaneState) => LaneState): void {
    if (this.state.phase === 'ended' || this.joins !== joins) return;
    if (answer.kind === 'trouble') this.state = troubled(this.state, answer as Trouble, Math.random());
    else this.state = apply(this.state);
  }

  /** Ends the lane without proof, for a cancelled workflow. */
  abandon(): void {
    if (this.state.phase === 'ended') return;
    this.state = abandoned(this.state);
    this.orders += 1;
    this.scope?.cancel();
  }
}

function kindsOf({ subject }: EraseInput): readonly string[] {
  return [...new Set(subject.map(({ kind }) => kind))];
}

function activities(connection: string, summary: string): LaneActivities {
  return proxyActivities<LaneActivities>({
    ...STEP_OPTIONS,
    taskQueue: connectionTaskQueue(workflowInfo().taskQueue, connection),
    summary: `${connection} · ${summary}`,
  });
}

/** What Temporal delivers when no worker could finish a step. Nothing of it reaches the lane but its class. */
export function failureAsTrouble(error: unknown, clock: Clock): Trouble {
  const timedOut = error instanceof ActivityFailure && error.cause instanceof TimeoutFailure;
  return {
    kind: 'trouble',
    reason: timedOut ? 'worker-lost' : 'internal',
    text: timedOut
      ? 'no worker finished the step; check that a worker of this connection is running'
      : 'the step failed inside Lethe; the worker log has the error, and nothing counts as erased because of it',
    notBeforeMs: null,
    atMs: virtualAt(clock, Date.now()),
    clock,
  };
}
