import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  ChildWorkflowCancellationType,
  condition,
  makeContinueAsNewFunc,
  ParentClosePolicy,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  startChild,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { SearchAttributeUpdatePair } from '@temporalio/common';
import { WATCH_WORKFLOW, watchIdOf, type WatchInput } from '../erasure/aftercare.ts';
import { realSpanMs, virtualAt, type Clock } from '../erasure/clock.ts';
import { postponeRefusal, riskOf, type Extension } from '../erasure/deadline.ts';
import { eventsOf, isRaisedAgain, NOTIFY_WORKFLOW, type NotifyInput, type StatusEvent } from '../erasure/events.ts';
import {
  extendRefusal,
  parseExtendMessage,
  type ExtendMessage,
  type ExtendReceipt,
  type JoinedRequest,
} from '../erasure/extend.ts';
import { formatCount, formatInstant } from '../erasure/format.ts';
import { connectionStatus, newLane, type LaneState } from '../erasure/lane.ts';
import { SCOPE_MEMO, STATUS_MEMO, type StatusMemo } from '../erasure/memo.ts';
import { endInWords, isVerdict, unprovenInWords, VERDICTS, worstStatus, type Verdict } from '../erasure/outcome.ts';
import { QUOTES_IDENTIFIER, quotesIdentifier } from '../erasure/quoting.ts';
import type { EraseInput } from '../erasure/request.ts';
import { probeDelayMs } from '../erasure/rhythm.ts';
import type { ConnectionStatus, RequestStatus } from '../erasure/status.ts';
import type { BlobRef, RecordedVerb, RequestActivities, SealAnswer, SealInput } from '../erasure/steps.ts';
import {
  parseOperatorMessage,
  POSTPONE_DESCRIPTION,
  VERB_DESCRIPTIONS,
  VERB_NAMES,
  type OperatorMessage,
  type OperatorVerb,
  type Receipt,
  type VerbName,
} from '../erasure/verbs.ts';
import {
  LetheAtRisk,
  LetheBlocked,
  LetheConnections,
  LetheDueAt,
  LetheNextCheckAt,
  LetheRemaining,
  LetheRequestId,
  LetheRound,
  LetheStatus,
} from '../temporal/search-attributes.ts';
import { failureAsTrouble, LaneRunner, type LaneRoom } from './lane.ts';
import {
  EXTEND_SIGNAL,
  EXTEND_UPDATE,
  POSTPONE_SIGNAL,
  POSTPONE_UPDATE,
  scopeQuery,
  statusQuery,
  VERB_SIGNALS,
  VERB_UPDATES,
} from './messages.ts';

/** What a run hands to the next one when it continues as new. */
export interface CarriedState {
  readonly lanes: readonly LaneState[];
  readonly verbs: readonly RecordedVerb[];
  /** Ids of messages already taken, so that one sent twice acts once. */
  readonly takenVerbIds: readonly string[];
  /** Events that were told already, by key. Absent in runs of releases that told none. */
  readonly toldEvents?: readonly string[];
  /** Since when each flag stood as it was told last, by the event's key. Absent as above. */
  readonly toldFlags?: Readonly<Record<string, string>>;
  /** The deadline's extension; absent: there was none. */
  readonly extension?: Extension;
  /** What is erased once other requests have joined; absent: what the input says. */
  readonly scope?: EraseInput;
  readonly joined?: readonly JoinedRequest[];
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
  private readonly isContinued: boolean;
  /** The input with everything that joined. */
  private scope: EraseInput;
  private joined: readonly JoinedRequest[];
  private extension: Extension | null;
  private readonly lanes: LaneRunner[];
  /** Lanes that were set going and are not waited for yet. */
  private going: Promise<void>[] = [];
  private readonly room: LaneRoom;
  private readonly verbs: RecordedVerb[];
  private readonly takenVerbIds: string[];
  /** Runs while a change waits to be written; see `publishSoon`. */
  private publishing: CancellationScope | null = null;
  private published = { memo: '', rounds: '', blocked: '', attributes: new Map<string, string>() };
  private readonly toldEvents: string[];
  private readonly toldFlags: Record<string, string>;
  /** The status whose events were told last. */
  private toldStatus: RequestStatus | null = null;
  /** Starts of child workflows that are under way. */
  private readonly starting = new Set<Promise<void>>();
  private endedAtMs: number | null = null;
  private sealing = false;
  /** Why the record could not be sealed so far, or null. */
  private sealTrouble: { readonly text: string; readonly sinceMs: number } | null = null;

  constructor(input: EraseInput, carried: CarriedState | undefined) {
    this.input = input;
    this.isContinued = carried !== undefined;
    this.scope = carried?.scope ?? input;
    this.joined = carried?.joined ?? [];
    this.extension = carried?.extension ?? null;
    this.verbs = [...(carried?.verbs ?? [])];
    this.takenVerbIds = [...(carried?.takenVerbIds ?? [])];
    this.toldEvents = [...(carried?.toldEvents ?? [])];
    this.toldFlags = { ...carried?.toldFlags };
    const scope = (): EraseInput => this.scope;
    const requesters = (): LaneRoom['requesters'] => [
      this.scope.requestedBy,
      ...this.joined.flatMap(({ requestedBy }) => requestedBy ?? []),
    ];
    const latestReceipt = (): number =>
      Math.max(input.receivedAtMs, ...this.joined.map(({ receivedAtMs }) => receivedAtMs));
    this.room = {
      get input() {
        return scope();
      },
      opened: input,
      get requesters() {
        return requesters();
      },
      get latestReceiptMs() {
        return latestReceipt();
      },
      draining: false,
      changed: () => {
        this.publish();
      },
      begins: () => {
        this.publishSoon();
      },
      holdEnded: (connection, goesOn) => {
        const reason = goesOn ? 'the hold came to its end' : 'the hold came to its end; still held';
        this.record(goesOn ? 'release' : 'hold-expired', { requestedBy: 'lethe', reason }, connection, true);
        if (this.input.statusWithinMs !== undefined) this.publish();
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
      // Whoever started it has written memo and attributes as they are now.
      if (!this.isContinued && this.input.statusWithinMs !== undefined) this.notePublished(this.status());
      this.publish();
      if (this.input.notify?.includes('overdue') === true) void this.wakeWhenDue();
      for (const lane of this.lanes) this.go(lane);
      // A request that joins may bring lanes along, and set those going again that have ended.
      while (this.going.length > 0) await Promise.all(this.going.splice(0));
      return this.finish();
    });
  }

  private go(lane: LaneRunner): void {
    // Also when a message sets it going, whose handler a cancelled workflow cancels.
    if (lane.running) return;
    const run = async (): Promise<void> => {
      await lane.run();
      // The others may go on for weeks; the end of the last one is told with its record.
      const isLast = this.lanes.every(({ state }) => state.phase === 'ended');
      const hasEnded = lane.state.phase === 'ended';
      if (this.input.statusWithinMs !== undefined && hasEnded && !isLast) this.publish();
    };
    this.going.push(CancellationScope.nonCancellable(run));
  }

  private async finish(): Promise<RequestStatus> {
    if (this.lanes.some(({ state }) => state.phase !== 'ended')) {
      await condition(allHandlersFinished);
      await this.allStarted();
      return this.continueAsNew();
    }
    this.sealing = true;
    // Nobody is to read a verdict that has no record yet.
    this.publishing?.cancel();
    this.publishing = null;
    const answer = await this.seal();
    this.endedAtMs = answer.atMs;
    this.publish();
    this.startWatch(answer.atMs);
    await condition(allHandlersFinished);
    await this.allStarted();
    return this.status(true);
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
      ...(this.input.notify === undefined ? {} : { toldEvents: this.toldEvents, toldFlags: this.toldFlags }),
      ...(this.extension === null ? {} : { extension: this.extension }),
      ...(this.joined.length === 0 ? {} : { joined: this.joined, scope: this.scope }),
    });
  }

  private async seal(): Promise<Extract<SealAnswer, { kind: 'sealed' }>> {
    const { sealRecord } = proxyActivities<RequestActivities>({
      // A task that is lost between server and worker is given out again only after it.
      startToCloseTimeout: '1 minute',
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
      ...(this.extension === null ? {} : { extension: this.extension }),
      ...(this.joined.length === 0 ? {} : { joined: this.joined }),
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

  /** Looks again some days after an end that says something about the person's traces. */
  private startWatch(endedAtMs: number): void {
    const { requestId, dryRun, aftercareDays: days } = this.input;
    // With everybody who joined.
    const { subject, connections } = this.scope;
    if (days === undefined || days.length === 0 || dryRun || this.verdict() === 'abandoned') return;
    const books: Record<string, BlobRef> = {};
    for (const { state } of this.lanes) if (state.book !== null) books[state.connection] = state.book;
    const watch: WatchInput = {
      requestId,
      subject,
      connections,
      books,
      endedAtMs,
      // A request that was bound itself must not hand on what it was to leave alone.
      onlyBeforeMs: Math.min(endedAtMs, this.input.onlyBeforeMs ?? endedAtMs),
      days,
      clock: this.clock(),
      ...(this.scope.requestedBy === undefined ? {} : { requestedBy: this.scope.requestedBy }),
      ...(this.input.notify?.includes('flagged') === true ? { flagged: this.ended() } : {}),
    };
    this.start(WATCH_WORKFLOW, watchIdOf(requestId), watch, `looks again after the end of ${requestId}`);
  }

  private ended(): NonNullable<WatchInput['flagged']> {
    const { workflowId, status, dueAt } = this.status();
    return { workflowId, status, due: dueAt };
  }

  /** Starts a webhook for each thing that has happened since the last look, once each; for a flag whenever it is raised. */
  private tell(status: RequestStatus): void {
    const { notify, requestId } = this.input;
    if (notify === undefined) return;
    const events = eventsOf(this.toldStatus, status);
    this.toldStatus = status;
    for (const event of events) {
      if (!notify.includes(event.kind)) continue;
      // Earlier releases told each flag once, and their histories must go on as they were.
      const isOld = this.toldEvents.includes(event.key);
      if (isOld && !(isRaisedAgain(event, this.toldFlags) && patched('tell-flags-again'))) continue;
      this.toldEvents.push(event.key);
      if (event.since !== undefined) this.toldFlags[event.key] = event.since;
      const id = `${NOTIFY_WORKFLOW}-${requestId}-${event.kind}-${this.toldEvents.length}`;
      this.start(NOTIFY_WORKFLOW, id, this.webhookOf(event, status), `tells that ${requestId} is ${event.kind}`);
    }
  }

  private webhookOf({ kind, connection, reason }: StatusEvent, status: RequestStatus): NotifyInput {
    const body: NotifyInput['body'] = {
      event: kind,
      requestId: status.requestId,
      workflowId: status.workflowId,
      status: status.status,
      ...(connection === null ? {} : { connection }),
      ...(reason === null ? {} : { reason }),
      at: new Date(virtualAt(this.clock(), Date.now())).toISOString(),
      due: status.dueAt,
    };
    return { body, clock: this.clock() };
  }

  /** Starts what outlives this workflow. That it could not be started is no reason for an erasure to fail. */
  private start(type: string, workflowId: string, input: WatchInput | NotifyInput, staticSummary: string): void {
    const started = CancellationScope.nonCancellable(() =>
      startChild(type, {
        workflowId,
        args: [input],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        cancellationType: ChildWorkflowCancellationType.ABANDON,
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        typedSearchAttributes: [{ key: LetheRequestId, value: this.input.requestId }],
        staticSummary,
      }),
    ).then(
      () => undefined,
      () => undefined,
    );
    this.starting.add(started);
    void started.then(() => this.starting.delete(started));
  }

  /** A child whose start the server has not confirmed would be lost with its parent. */
  private async allStarted(): Promise<void> {
    while (this.starting.size > 0) await Promise.all(this.starting);
  }

  /** Nothing else may happen about the due date: without this timer nobody would hear that it has passed. */
  private async wakeWhenDue(): Promise<void> {
    // Which clock runs is known once a worker has answered.
    const known = (): boolean =>
      this.lanes.some(({ state }) => state.policy !== null || state.trouble !== null || state.phase === 'ended');
    await condition(known);
    // It may be extended, or become an earlier one with a request that joins.
    for (let dueAtMs = this.dueAtMs(); ; dueAtMs = this.dueAtMs()) {
      const now = virtualAt(this.clock(), Date.now());
      if (now > dueAtMs) break;
      const real = realSpanMs(this.clock(), dueAtMs + 1 - now);
      const stops = (): boolean => this.sealing || this.room.draining || this.dueAtMs() !== dueAtMs;
      const stopped = await condition(stops, real, { summary: 'until the due date' });
      if (stopped && this.dueAtMs() === dueAtMs) return;
    }
    this.publish();
  }

  private verdict(): Verdict | null {
    if (this.input.dryRun && this.lanes.every(({ state }) => state.verdict === null)) return null;
    const worst = worstStatus(this.lanes.map(({ state }) => state.verdict ?? 'planning'));
    return isVerdict(worst) ? worst : VERDICTS[0];
  }

  private clock(): Clock {
    return this.lanes.find(({ state }) => state.clock !== null)?.state.clock ?? this.input.clock ?? null;
  }

  private listen(): void {
    setHandler(statusQuery, () => this.status(true), { description: 'Where the request is, and why' });
    setHandler(scopeQuery, () => this.scope, { description: 'What is erased; encoded' });
    setHandler(EXTEND_UPDATE, (message) => this.extend(message), {
      description: 'Take in another request of the same person; for clients',
      validator: (message) => {
        refuse(this.extendRefusal(message));
      },
    });
    setHandler(EXTEND_SIGNAL, (message) => {
      this.takeExtendSignal(message);
    });
    setHandler(POSTPONE_UPDATE, (message) => this.postpone(message), {
      description: POSTPONE_DESCRIPTION,
      validator: (message) => {
        refuse(this.refusal('postpone', message));
      },
    });
    setHandler(
      POSTPONE_SIGNAL,
      (message) => {
        this.takeSignal('postpone', message);
      },
      { description: POSTPONE_DESCRIPTION },
    );
    for (const verb of VERB_NAMES) {
      const description = VERB_DESCRIPTIONS[verb];
      setHandler(VERB_UPDATES[verb], (message) => this.take(verb, message), {
        description,
        validator: (message) => {
          refuse(this.refusal(verb, message));
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

  private refusal(verb: OperatorVerb, input: unknown): string | null {
    const message = parseOperatorMessage(input, verb);
    if (typeof message === 'string') return message;
    if (this.quotes(message)) return `the message ${QUOTES_IDENTIFIER}`;
    return this.inapplicable(verb, message);
  }

  /** @returns why a message that may be kept can't be followed, or null. */
  private inapplicable(verb: OperatorVerb, message: OperatorMessage): string | null {
    if (this.taken(message)) return null;
    if (this.sealing) return 'the request has ended';
    if (verb === 'postpone') return postponeRefusal(message, this.postponable());
    const { connection, until } = message;
    if (until !== undefined && Date.parse(until) <= this.now()) return '"until" has passed';
    if (connection !== undefined && !this.lanes.some(({ state }) => state.connection === connection)) {
      return `"connection" names none of: ${this.scope.connections.join(', ')}`;
    }
    const { task } = message;
    if (verb === 'attest' && task === undefined) return '"task" must name a manual task; lethe tasks lists them';
    const refusals = this.addressed(message).map((lane) => refusalOf(lane, verb, message));
    // Of several connections a task is one's.
    if (verb === 'attest' && refusals.every((text) => text?.endsWith('has no such task') === true)) {
      return 'it has no such task; lethe tasks lists them';
    }
    return refusals.includes(null) ? null : refusals.filter((text) => text !== null).join('; ');
  }

  private take(verb: VerbName, input: unknown): Receipt {
    const message = parseOperatorMessage(input, verb) as OperatorMessage;
    if (this.taken(message)) return { verb, connections: [], text: 'taken already' };
    const lanes = this.addressed(message).filter((lane) => refusalOf(lane, verb, message) === null);
    const texts = lanes.map((lane) =>
      verb === 'attest' ? lane.attest(message.task ?? '', message.requestedBy) : lane.order(verb, message),
    );
    this.record(verb, message, message.connection ?? null, true);
    this.publish();
    return { verb, connections: lanes.map(({ state }) => state.connection), text: texts.join('; ') };
  }

  /** A signal can't be answered: one that does not apply is recorded and otherwise ignored. */
  private takeSignal(verb: OperatorVerb, input: unknown): void {
    const message = parseOperatorMessage(input, verb);
    if (typeof message === 'string') {
      this.record(verb, { requestedBy: 'unknown', reason: `ignored: ${message}` }, null, false);
      return;
    }
    if (this.taken(message)) return;
    // Earlier releases followed such signals, and their histories must go on as they were.
    if (this.quotes(message) && patched('refuse-quoted-identifiers')) {
      const ignored = { requestedBy: 'unknown', reason: `ignored: the message ${QUOTES_IDENTIFIER}` };
      this.record(verb, ignored, message.connection ?? null, false);
      return;
    }
    const refused = this.inapplicable(verb, message);
    if (refused === null && verb === 'postpone') this.postpone(message);
    else if (refused === null && verb !== 'postpone') this.take(verb, message);
    else
      this.record(
        verb,
        { ...message, reason: `${message.reason} (ignored: ${refused})` },
        message.connection ?? null,
        false,
      );
  }

  /** P33. The connection's name is one of ours, or refused. */
  private quotes({ requestedBy, reason }: OperatorMessage): boolean {
    return quotesIdentifier(requestedBy, this.scope.subject) || quotesIdentifier(reason, this.scope.subject);
  }

  private now(): number {
    return virtualAt(this.clock(), Date.now());
  }

  private postponable(): Parameters<typeof postponeRefusal>[1] {
    const { deadlines } = this.input;
    return { deadlines, extension: this.extension, dueAtMs: this.ownDueAtMs(), nowMs: this.now() };
  }

  private postpone(input: unknown): Receipt {
    const message = parseOperatorMessage(input, 'postpone') as OperatorMessage;
    const verb = 'postpone';
    if (this.taken(message)) return { verb, connections: [], text: 'taken already' };
    const toMs = this.input.deadlines?.extendedDueAtMs ?? this.input.dueAtMs;
    const { requestedBy: by, reason, notifiedOn = '' } = message;
    this.extension = { toMs, by, atMs: this.now(), notifiedOn };
    const until = formatInstant(toMs);
    this.record(
      verb,
      { ...message, reason: `${reason} (due ${until}; the person was told on ${notifiedOn})` },
      null,
      true,
    );
    this.publish();
    const earlier =
      this.dueAtMs() < toMs ? `; a request that joined is due ${formatInstant(this.dueAtMs())} all the same` : '';
    return { verb, connections: [], text: `due ${until} now, once and for all${earlier}` };
  }

  /** Without what joined. */
  private ownDueAtMs(): number {
    return this.extension?.toMs ?? this.input.dueAtMs;
  }

  /** The earliest of all due dates. */
  private dueAtMs(): number {
    return Math.min(this.ownDueAtMs(), ...this.joined.map(({ dueAtMs }) => dueAtMs));
  }

  private extendRefusal(input: unknown): string | null {
    const message = parseExtendMessage(input);
    if (typeof message === 'string') return message;
    if (this.sealing) return 'the request has ended';
    if (quotesIdentifier(message.requestId, message.scope.subject)) return `"requestId" ${QUOTES_IDENTIFIER}`;
    return extendRefusal(message, { scope: this.scope, joined: this.joined });
  }

  private takeExtendSignal(input: unknown): void {
    const refused = this.extendRefusal(input);
    if (refused === null) this.extend(input as ExtendMessage);
    else this.record('extend', { requestedBy: 'unknown', reason: `ignored: ${refused}` }, null, false);
  }

  private extend({ requestId, receivedAtMs, dueAtMs, requestedBy, scope, scopeMemo }: ExtendMessage): ExtendReceipt {
    const answer = (text: string): ExtendReceipt => ({ requestId, joined: this.input.requestId, text });
    if (this.joined.some((other) => other.requestId === requestId)) return answer('has joined already');
    const before = this.scope;
    const { receivedAtMs: ownReceipt, dueAtMs: ownDue, requestId: ownId } = this.input;
    // The same scope may be spelt otherwise; what was planned stands as it is.
    if (scope.scopeDigest !== before.scopeDigest) {
      this.scope = { ...scope, requestId: ownId, receivedAtMs: ownReceipt, dueAtMs: ownDue };
      upsertMemo({ [SCOPE_MEMO]: scopeMemo });
    }
    const by = requestedBy === undefined ? {} : { requestedBy };
    this.joined = [...this.joined, { requestId, receivedAtMs, dueAtMs, joinedAtMs: this.now(), ...by }];
    for (const lane of this.lanes) {
      const { connection } = lane.state;
      const more = (this.scope.known[connection]?.length ?? 0) - (before.known[connection]?.length ?? 0);
      lane.join(Math.max(0, more));
      this.go(lane);
    }
    const old = new Set(this.lanes.map(({ state }) => state.connection));
    for (const name of this.scope.connections.filter((connection) => !old.has(connection))) {
      const lane = new LaneRunner(this.room, newLane(name, this.scope.known[name]?.length ?? 0));
      this.lanes.push(lane);
      this.go(lane);
    }
    const kinds = [...new Set(this.scope.subject.map(({ kind }) => kind))].join(', ');
    const text = `request ${requestId}, received ${formatInstant(receivedAtMs)}, joined; erased by ${kinds || 'given ids'} in ${this.scope.connections.join(', ')}`;
    this.record('extend', { requestedBy: 'client', reason: text }, null, true);
    this.publish();
    return answer('plans and reads everything anew; what was submitted already cannot be recalled');
  }

  private addressed(message: OperatorMessage): readonly LaneRunner[] {
    const { connection } = message;
    return connection === undefined ? this.lanes : this.lanes.filter(({ state }) => state.connection === connection);
  }

  private taken(message: OperatorMessage): boolean {
    return message.verbId !== undefined && this.takenVerbIds.includes(message.verbId);
  }

  private record(verb: string, message: OperatorMessage, connection: string | null, applied: boolean): void {
    const { requestedBy, reason, verbId, planDigest, atMost, include, task } = message;
    this.verbs.push({
      verb,
      requestedBy,
      reason,
      connection,
      atMs: virtualAt(this.clock(), Date.now()),
      applied,
      ...(planDigest === undefined ? {} : { planDigest }),
      ...(include === undefined ? {} : { include }),
      ...(atMost === undefined ? {} : { atMost }),
      ...(task === undefined ? {} : { task }),
    });
    if (verbId !== undefined) {
      this.takenVerbIds.push(verbId);
      if (this.takenVerbIds.length > MOST_TAKEN_IDS) this.takenVerbIds.shift();
    }
  }

  /** @param details whether plans are told whole: the memo has no room for that, and every change of it is an event. */
  private status(details = false): RequestStatus {
    const now = Date.now();
    const connections: Record<string, ConnectionStatus> = {};
    for (const { state } of this.lanes) connections[state.connection] = connectionStatus(state, now, details);
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
    const dueAtMs = this.dueAtMs();
    const { deadlines } = this.input;
    const { extension } = this;
    const iso = (ms: number): string => new Date(ms).toISOString();
    const endedAt = endedMs === null ? null : iso(endedMs);
    return {
      requestId: this.input.requestId,
      workflowId: workflowInfo().workflowId,
      // Without its record the request has not ended: somebody must make room for it.
      status:
        sealTrouble === null ? worstStatus(Object.values(connections).map(({ status }) => status)) : 'needs-operator',
      overdue: (endedMs ?? virtualAt(this.clock(), now)) > dueAtMs,
      receivedAt: new Date(this.input.receivedAtMs).toISOString(),
      dueAt: iso(dueAtMs),
      law: deadlines?.law ?? null,
      zone: deadlines?.zone ?? null,
      confirmBy: deadlines?.confirmByMs == null ? null : iso(deadlines.confirmByMs),
      extension:
        extension === null
          ? null
          : { to: iso(extension.toMs), by: extension.by, at: iso(extension.atMs), notifiedOn: extension.notifiedOn },
      joinedRequests: this.joined.map((other) => ({
        requestId: other.requestId,
        receivedAt: iso(other.receivedAtMs),
        dueAt: iso(other.dueAtMs),
      })),
      ...riskOf({ connections, dueAt: iso(dueAtMs), endedAt, dryRun: this.input.dryRun }),
      endedAt,
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
    this.publishing?.cancel();
    this.publishing = null;
    const memo = this.memo(status);
    if (memo.text !== this.published.memo) upsertMemo({ [STATUS_MEMO]: memo.value });
    const changed = this.attributes(status).filter(
      ({ key, value }) => this.published.attributes.get(key.name) !== JSON.stringify(value),
    );
    if (changed.length > 0) upsertSearchAttributes(changed);
    this.notePublished(status);
    this.describe(status);
  }

  /**
   * As `publish`, but memo and attributes only once they have been behind for `statusWithinMs`: each write costs the
   * server more than the step that begins, and most steps are over sooner. That something is about to be submitted is
   * written at once: nobody is to read that nothing was while no worker is up. So is that nothing stands in the way of a
   * lane any more.
   */
  private publishSoon(): void {
    const { statusWithinMs } = this.input;
    const status = this.status();
    const isNews = this.rounds() !== this.published.rounds || blockedOf(status).join() !== this.published.blocked;
    if (statusWithinMs === undefined || isNews) {
      this.publish();
      return;
    }
    this.describe(status);
    if (this.publishing !== null || this.memo(status).text === this.published.memo) return;
    const scope = new CancellationScope();
    this.publishing = scope;
    scope
      .run(() => sleep(statusWithinMs, { summary: 'until memo and search attributes are brought up to date' }))
      .then(
        () => {
          // Nobody is to read a verdict that has no record yet.
          const isLast = this.lanes.every(({ state }) => state.phase === 'ended');
          if (this.publishing === scope && !isLast) this.publish();
        },
        () => undefined,
      );
  }

  /** Notes what memo and attributes say now. */
  private notePublished(status: RequestStatus): void {
    this.published.memo = this.memo(status).text;
    this.published.rounds = this.rounds();
    this.published.blocked = blockedOf(status).join();
    for (const { key, value } of this.attributes(status)) {
      this.published.attributes.set(key.name, JSON.stringify(value));
    }
  }

  private rounds(): string {
    return this.lanes.map(({ state }) => state.round).join(' ');
  }

  private memo(status: RequestStatus): { readonly value: StatusMemo; readonly text: string } {
    const value: StatusMemo = { status, clock: this.clock() };
    return { value, text: JSON.stringify(value) };
  }

  private describe(status: RequestStatus): void {
    setCurrentDetails(details(status, this.sealTrouble?.text ?? null));
    this.tell(status);
  }

  private attributes(status: RequestStatus): SearchAttributeUpdatePair[] {
    const lanes = Object.entries(status.connections);
    const next = lanes
      .map(([, lane]) => lane.nextCheckAt)
      .filter((at) => at !== null)
      .sort()[0];
    const remaining = lanes.reduce((sum, [, { traces }]) => sum + traces.pending + traces.survived, 0);
    const round = Math.max(0, ...lanes.map(([, lane]) => lane.round));
    return [
      { key: LetheStatus, value: status.status },
      { key: LetheConnections, value: [...this.scope.connections] },
      { key: LetheBlocked, value: blockedOf(status) },
      { key: LetheRound, value: round },
      { key: LetheRemaining, value: remaining },
      { key: LetheNextCheckAt, value: next === undefined ? null : new Date(next) },
      { key: LetheDueAt, value: new Date(this.dueAtMs()) },
      // Runs of earlier releases have no estimate, and their histories no such attribute.
      ...(this.lanes.some(({ state }) => state.earliestVerdictAtMs !== undefined)
        ? [{ key: LetheAtRisk, value: status.atRisk }]
        : []),
    ];
  }
}

/** Connections that need somebody, or are held. */
function blockedOf({ connections }: RequestStatus): string[] {
  return Object.entries(connections)
    .filter(([, lane]) => lane.attention !== null || lane.status === 'held')
    .map(([name]) => name);
}

function refusalOf(lane: LaneRunner, verb: VerbName, message: OperatorMessage): string | null {
  return verb === 'attest' ? lane.attestRefusal(message.task ?? '') : lane.refusal(verb, message);
}

/** For validators, which are synchronous on purpose: an async one would let everything pass. */
function refuse(why: string | null): void {
  if (why !== null) throw ApplicationFailure.nonRetryable(why, 'Refused');
}

/** A Markdown list: the UI draws tables without gaps between the cells. */
function details(status: RequestStatus, sealTrouble: string | null): string {
  const unproven = isVerdict(status.status) ? unprovenInWords(Object.values(status.connections)) : '';
  const lines = [
    `**${status.status}**${unproven === '' ? '' : ` (${unproven})`}, due ${formatInstant(Date.parse(status.dueAt))}${status.overdue ? ', overdue' : status.atRisk ? ', at risk' : ''}`,
    // Without an empty line a Markdown list does not begin.
    '',
  ];
  for (const [name, lane] of Object.entries(status.connections)) {
    const { traces } = lane;
    const next = lane.nextCheckAt === null ? '' : `, next ${formatInstant(Date.parse(lane.nextCheckAt))}`;
    // One line a lane: the UI runs a list within a list together.
    const lastRead = lane.lastRead === null ? '' : `; the latest read: ${lane.lastRead}`;
    const attention = lane.attention === null ? '' : `; attention: ${lane.attention.reason}. ${lane.attention.next}`;
    lines.push(
      `- **${name}**: ${isVerdict(lane.status) ? endInWords(lane.status, lane) : lane.status}, round ${lane.round}, ${formatCount(traces.matched)} matched, ` +
        `${formatCount(traces.pending)} pending, ${formatCount(traces.survived)} survived, ` +
        `${formatCount(traces.verifiedAbsent)} verified absent, ${lane.cleanReads} of ${lane.cleanReadsWanted} clean reads${next}${lastRead}${attention}`,
    );
  }
  if (sealTrouble !== null) lines.push(`- ${sealTrouble}; tries again by itself`);
  for (const { connection, text } of status.exceptions) lines.push(`- exception, ${connection}: ${text}`);
  return lines.join('\n');
}
