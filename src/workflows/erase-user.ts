import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  makeContinueAsNewFunc,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { virtualAt, type Clock } from '../erasure/clock.ts';
import { formatCount, formatInstant } from '../erasure/format.ts';
import { connectionStatus, newLane, type LaneState } from '../erasure/lane.ts';
import { STATUS_MEMO, type StatusMemo } from '../erasure/memo.ts';
import { isVerdict, VERDICTS, worstStatus, type Verdict } from '../erasure/outcome.ts';
import type { EraseInput } from '../erasure/request.ts';
import { probeDelayMs } from '../erasure/rhythm.ts';
import type { ConnectionStatus, RequestStatus } from '../erasure/status.ts';
import type { RecordedVerb, RequestActivities, SealAnswer, SealInput } from '../erasure/steps.ts';
import {
  parseOperatorMessage,
  VERB_DESCRIPTIONS,
  VERB_NAMES,
  type OperatorMessage,
  type Receipt,
  type VerbName,
} from '../erasure/verbs.ts';
import {
  LetheBlocked,
  LetheConnections,
  LetheDueAt,
  LetheNextCheckAt,
  LetheRemaining,
  LetheRound,
  LetheStatus,
} from '../temporal/search-attributes.ts';
import { failureAsTrouble, LaneRunner, type LaneRoom } from './lane.ts';
import { statusQuery, VERB_SIGNALS, VERB_UPDATES } from './messages.ts';

/** What a run hands to the next one when it continues as new. */
export interface CarriedState {
  readonly lanes: readonly LaneState[];
  readonly verbs: readonly RecordedVerb[];
  /** Ids of messages already taken, so that one sent twice acts once. */
  readonly takenVerbIds: readonly string[];
}

/**
 * Erases one person: a lane a connection, side by side, each until its verdict; then the record is sealed. Its history
 * is the whole story of every attempt; ids and personal data stay in the vault.
 *
 * @param carried what the run before this one had reached; absent in the first run.
 * @returns the status at the end.
 */
export async function eraseUser(input: EraseInput, carried?: CarriedState): Promise<RequestStatus> {
  return new EraseUser(input, carried).run();
}

const MOST_TAKEN_IDS = 500;

class EraseUser {
  private readonly input: EraseInput;
  private readonly lanes: readonly LaneRunner[];
  private readonly room: LaneRoom;
  private readonly verbs: RecordedVerb[];
  private readonly takenVerbIds: string[];
  private published: { memo: string; attributes: Map<string, string> } = { memo: '', attributes: new Map() };
  private endedAtMs: number | null = null;
  private sealing = false;
  /** Why the record could not be sealed so far, or null. */
  private sealTrouble: { readonly text: string; readonly sinceMs: number } | null = null;

  constructor(input: EraseInput, carried: CarriedState | undefined) {
    this.input = input;
    this.verbs = [...(carried?.verbs ?? [])];
    this.takenVerbIds = [...(carried?.takenVerbIds ?? [])];
    this.room = {
      input,
      draining: false,
      changed: () => {
        this.publish();
      },
    };
    const states = carried?.lanes ?? input.connections.map((name) => newLane(name, input.known[name]?.length ?? 0));
    this.lanes = states.map((state) => new LaneRunner(this.room, state));
    this.listen();
  }

  async run(): Promise<RequestStatus> {
    // A cancelled workflow is an operator's abandon, not an accident: it is caught, sealed and shown as such.
    CancellationScope.current().cancelRequested.catch(() => {
      this.record('abandon', { requestedBy: 'temporal', reason: 'workflow cancelled' }, null, true);
      for (const lane of this.lanes) lane.abandon();
    });
    return CancellationScope.nonCancellable(async () => {
      this.publish();
      await Promise.all(this.lanes.map((lane) => lane.run()));
      return this.finish();
    });
  }

  private async finish(): Promise<RequestStatus> {
    if (this.lanes.some(({ state }) => state.phase !== 'ended')) {
      await condition(allHandlersFinished);
      return this.continueAsNew();
    }
    this.sealing = true;
    const answer = await this.seal();
    this.endedAtMs = answer.atMs;
    this.publish();
    await condition(allHandlersFinished);
    return this.status();
  }

  private async continueAsNew(): Promise<never> {
    const { memo, typedSearchAttributes } = workflowInfo();
    const next = makeContinueAsNewFunc<typeof eraseUser>({
      ...(memo === undefined ? {} : { memo }),
      typedSearchAttributes,
    });
    return next(this.input, {
      lanes: this.lanes.map(({ state }) => state),
      verbs: this.verbs,
      takenVerbIds: this.takenVerbIds,
    });
  }

  private async seal(): Promise<Extract<SealAnswer, { kind: 'sealed' }>> {
    const { sealRecord } = proxyActivities<RequestActivities>({
      startToCloseTimeout: '5 minutes',
      retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 5 },
      summary: 'seal the record',
    });
    // Told once: a try may have written it and lost its answer, and messages that are refused meanwhile change nothing.
    const outcome: SealInput = {
      requestId: this.input.requestId,
      workflowId: workflowInfo().workflowId,
      verdict: this.verdict(),
      dryRun: this.input.dryRun,
      lanes: Object.fromEntries(
        this.lanes.map(({ state }) => [
          state.connection,
          { ...state.figures, verdict: state.verdict, round: state.round },
        ]),
      ),
      verbs: [...this.verbs],
    };
    for (let probes = 0; ; probes += 1) {
      let answer: SealAnswer;
      try {
        answer = await sealRecord(outcome);
      } catch (error) {
        answer = failureAsTrouble(error, this.clock());
      }
      if (answer.kind === 'sealed') {
        this.sealTrouble = null;
        return answer;
      }
      this.sealTrouble = {
        text: `the verdict stands, but the record could not be sealed: ${answer.text}`,
        sinceMs: this.sealTrouble?.sinceMs ?? answer.atMs,
      };
      this.publish();
      await condition(() => false, probeDelayMs(probes, Math.random()), {
        summary: 'the record could not be sealed; tries again',
      });
    }
  }

  private verdict(): Verdict | null {
    if (this.input.dryRun && this.lanes.every(({ state }) => state.verdict === null)) return null;
    const worst = worstStatus(this.lanes.map(({ state }) => state.verdict ?? 'planning'));
    return isVerdict(worst) ? worst : VERDICTS[0];
  }

  private clock(): Clock {
    return this.lanes.find(({ state }) => state.clock !== null)?.state.clock ?? null;
  }

  private listen(): void {
    setHandler(statusQuery, () => this.status(), { description: 'Where the request is, and why' });
    for (const verb of VERB_NAMES) {
      const description = VERB_DESCRIPTIONS[verb];
      setHandler(VERB_UPDATES[verb], (message) => this.take(verb, message), {
        description,
        validator: (message) => {
          this.validate(verb, message);
        },
      });
      setHandler(
        VERB_SIGNALS[verb],
        (message) => {
          this.takeSignal(verb, message);
        },
        { description },
      );
    }
  }

  /** Synchronous on purpose: an async validator would let everything pass. */
  private validate(verb: VerbName, input: unknown): void {
    const refused = this.refusal(verb, input);
    if (refused !== null) throw ApplicationFailure.nonRetryable(refused, 'Refused');
  }

  private refusal(verb: VerbName, input: unknown): string | null {
    const message = parseOperatorMessage(input);
    if (typeof message === 'string') return message;
    if (this.taken(message)) return null;
    if (this.sealing) return 'the request has ended';
    const { connection } = message;
    if (connection !== undefined && !this.lanes.some(({ state }) => state.connection === connection)) {
      return `"connection" names none of: ${this.input.connections.join(', ')}`;
    }
    const { task } = message;
    if (task === undefined ? verb === 'attest' : verb !== 'attest')
      return '"task" goes with attest, and attest needs it';
    const refusals = this.addressed(message).map((lane) => refusalOf(lane, verb, message));
    // Of several connections a task is one's.
    if (verb === 'attest' && refusals.every((text) => text?.endsWith('has no such task') === true)) {
      return 'it has no such task; lethe tasks lists them';
    }
    return refusals.includes(null) ? null : refusals.filter((text) => text !== null).join('; ');
  }

  private take(verb: VerbName, input: unknown): Receipt {
    const message = parseOperatorMessage(input) as OperatorMessage;
    if (this.taken(message)) return { verb, connections: [], text: 'taken already' };
    const lanes = this.addressed(message).filter((lane) => refusalOf(lane, verb, message) === null);
    const texts = lanes.map((lane) =>
      verb === 'attest' ? lane.attest(message.task ?? '', message.requestedBy) : lane.order(verb),
    );
    this.record(verb, message, message.connection ?? null, true);
    this.publish();
    return { verb, connections: lanes.map(({ state }) => state.connection), text: texts.join('; ') };
  }

  /** A signal can't be answered: one that does not apply is recorded and otherwise ignored. */
  private takeSignal(verb: VerbName, input: unknown): void {
    const message = parseOperatorMessage(input);
    if (typeof message === 'string') {
      this.record(verb, { requestedBy: 'unknown', reason: `ignored: ${message}` }, null, false);
      return;
    }
    if (this.taken(message)) return;
    const refused = this.refusal(verb, message);
    if (refused === null) this.take(verb, message);
    else
      this.record(
        verb,
        { ...message, reason: `${message.reason} (ignored: ${refused})` },
        message.connection ?? null,
        false,
      );
  }

  private addressed(message: OperatorMessage): readonly LaneRunner[] {
    const { connection } = message;
    return connection === undefined ? this.lanes : this.lanes.filter(({ state }) => state.connection === connection);
  }

  private taken(message: OperatorMessage): boolean {
    return message.verbId !== undefined && this.takenVerbIds.includes(message.verbId);
  }

  private record(verb: string, message: OperatorMessage, connection: string | null, applied: boolean): void {
    const { requestedBy, reason, task, verbId } = message;
    const atMs = virtualAt(this.clock(), Date.now());
    const named = task === undefined ? {} : { task };
    this.verbs.push({ verb, requestedBy, reason, connection, atMs, applied, ...named });
    if (verbId !== undefined) {
      this.takenVerbIds.push(verbId);
      if (this.takenVerbIds.length > MOST_TAKEN_IDS) this.takenVerbIds.shift();
    }
  }

  private status(): RequestStatus {
    const now = Date.now();
    const connections: Record<string, ConnectionStatus> = {};
    for (const { state } of this.lanes) connections[state.connection] = connectionStatus(state, now);
    const { sealTrouble } = this;
    if (sealTrouble !== null) {
      const attention = {
        reason: 'unsealed',
        since: new Date(sealTrouble.sinceMs).toISOString(),
        next: sealTrouble.text,
      };
      for (const [name, lane] of Object.entries(connections)) connections[name] = { ...lane, attention };
    }
    const endedMs = this.endedAtMs;
    return {
      requestId: this.input.requestId,
      workflowId: workflowInfo().workflowId,
      // Without its record the request has not ended: somebody must make room for it.
      status:
        sealTrouble === null ? worstStatus(Object.values(connections).map(({ status }) => status)) : 'needs-operator',
      overdue: (endedMs ?? virtualAt(this.clock(), now)) > this.input.dueAtMs,
      receivedAt: new Date(this.input.receivedAtMs).toISOString(),
      dueAt: new Date(this.input.dueAtMs).toISOString(),
      endedAt: endedMs === null ? null : new Date(endedMs).toISOString(),
      dryRun: this.input.dryRun,
      simulated: this.clock() !== null,
      exceptions: this.lanes.flatMap(({ state }) =>
        state.figures.exceptions.map((exception) => ({ connection: state.connection, ...exception })),
      ),
      connections,
    };
  }

  /** Writes memo, search attributes and current details, each only when it changed: every write is an event. */
  private publish(): void {
    const status = this.status();
    const memo: StatusMemo = { status, clock: this.clock() };
    const text = JSON.stringify(memo);
    if (text !== this.published.memo) {
      upsertMemo({ [STATUS_MEMO]: memo });
      this.published.memo = text;
    }
    this.publishAttributes(status);
    setCurrentDetails(details(status, this.sealTrouble?.text ?? null));
  }

  private publishAttributes(status: RequestStatus): void {
    const lanes = Object.entries(status.connections);
    const next = lanes
      .map(([, lane]) => lane.nextCheckAt)
      .filter((at) => at !== null)
      .sort()[0];
    const remaining = lanes.reduce((sum, [, { traces }]) => sum + traces.pending + traces.survived, 0);
    const blocked = lanes.filter(([, lane]) => lane.attention !== null || lane.status === 'held').map(([name]) => name);
    const round = Math.max(0, ...lanes.map(([, lane]) => lane.round));
    const pairs = [
      { key: LetheStatus, value: status.status },
      { key: LetheConnections, value: [...this.input.connections] },
      { key: LetheBlocked, value: blocked },
      { key: LetheRound, value: round },
      { key: LetheRemaining, value: remaining },
      { key: LetheNextCheckAt, value: next === undefined ? null : new Date(next) },
      { key: LetheDueAt, value: new Date(this.input.dueAtMs) },
    ];
    const changed = pairs.filter(({ key, value }) => this.published.attributes.get(key.name) !== JSON.stringify(value));
    if (changed.length === 0) return;
    for (const { key, value } of changed) this.published.attributes.set(key.name, JSON.stringify(value));
    upsertSearchAttributes(changed);
  }
}

function refusalOf(lane: LaneRunner, verb: VerbName, { task }: OperatorMessage): string | null {
  return verb === 'attest' ? lane.attestRefusal(task ?? '') : lane.refusal(verb);
}

/** A Markdown list: the UI draws tables without gaps between the cells. */
function details(status: RequestStatus, sealTrouble: string | null): string {
  const lines = [
    `**${status.status}**, due ${formatInstant(Date.parse(status.dueAt))}${status.overdue ? ', overdue' : ''}`,
    // Without an empty line a Markdown list does not begin.
    '',
  ];
  for (const [name, lane] of Object.entries(status.connections)) {
    const { traces } = lane;
    const next = lane.nextCheckAt === null ? '' : `, next ${formatInstant(Date.parse(lane.nextCheckAt))}`;
    lines.push(
      `- **${name}**: ${lane.status}, round ${lane.round}, ${formatCount(traces.matched)} matched, ` +
        `${formatCount(traces.pending)} pending, ${formatCount(traces.survived)} survived, ` +
        `${formatCount(traces.verifiedAbsent)} verified absent, ${lane.cleanReads} of ${lane.cleanReadsWanted} clean reads${next}`,
    );
    if (lane.attention !== null) lines.push(`  - attention: ${lane.attention.reason}. ${lane.attention.next}`);
    if (lane.lastRead !== null) lines.push(`  - latest read: ${lane.lastRead}`);
  }
  if (sealTrouble !== null) lines.push(`- ${sealTrouble}; tries again by itself`);
  for (const { connection, text } of status.exceptions) lines.push(`- exception, ${connection}: ${text}`);
  return lines.join('\n');
}
