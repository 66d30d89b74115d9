import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  Connection,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type WorkflowExecutionInfo,
} from '@temporalio/client';
import { loadConfig, type LetheConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { connectionOptionsOf } from '../config/temporal.ts';
import { virtualNow } from '../erasure/clock.ts';
import { SCOPE_CHANGED, type ExtendMessage } from '../erasure/extend.ts';
import { formatCount, formatInstant } from '../erasure/format.ts';
import { SCOPE_MEMO, STATUS_MEMO, type StatusMemo } from '../erasure/memo.ts';
import { isVerdict, type Status } from '../erasure/outcome.ts';
import { QUOTES_IDENTIFIER, quotesIdentifier } from '../erasure/quoting.ts';
import type { EraseInput, EraseRequest } from '../erasure/request.ts';
import { planSchema, type ConnectionStatus, type Plan, type RequestStatus } from '../erasure/status.ts';
import { parseOperatorMessage, type OperatorMessage, type OperatorVerb, type Receipt } from '../erasure/verbs.ts';
import { DirectoryRecords } from '../evidence/directory-records.ts';
import type { RecordStore, RecordView } from '../evidence/record.ts';
import { createDataConverter } from '../temporal/codec.ts';
import {
  LetheBlocked,
  LetheConnections,
  LetheDueAt,
  LetheRemaining,
  LetheRequestId,
  LetheRound,
  LetheStatus,
} from '../temporal/search-attributes.ts';
import { TemporalUnavailableError } from '../temporal/unavailable.ts';
import { DirectoryVault } from '../vault/directory-vault.ts';
import { deriveKeys, type Keys } from '../vault/keys.ts';
import type { Vault } from '../vault/vault.ts';
import {
  EXTEND_SIGNAL,
  EXTEND_UPDATE,
  POSTPONE_SIGNAL,
  POSTPONE_UPDATE,
  scopeQuery,
  VERB_SIGNALS,
  VERB_UPDATES,
} from '../workflows/messages.ts';
import { readAftercare } from './aftercare.ts';
import type { DoctorReport } from './doctor.ts';
import {
  InvalidRequestError,
  NotJoinedError,
  RequestConflictError,
  SelectionError,
  UnknownRequestError,
  UnreadableStateError,
} from './errors.ts';
import { extendMessage, isOwnRequest, JoinedIds, sameScopeMessage } from './extend.ts';
import { differences, prepareRequest, type PreparedRequest } from './prepare.ts';
import { current, initialStatus, readScopeMemo, readStatusMemo, statusFromRecord, type Liveness } from './status.ts';
import { subjectOf } from './subject.ts';
import { writeSupportPacket, type SupportPacket, type SupportPacketOptions } from './support-packet.ts';
import { attestAfterTheEnd, requestTasks, revealed, type RequestTask } from './tasks.ts';
import type { ApproveMessage, RequestFilter, VerbAnswer, VerbMessage } from './verbs.ts';

export const WORKFLOW_TYPE = 'eraseUser';

/** A poller that was not seen for so long is gone: a poll lasts a minute at most. */
const POLLER_FRESH_MS = 75_000;

/** How long an update may wait for a worker's answer before the signal goes out instead. */
const UPDATE_DEADLINE_MS = 8_000;

/** How long a request that was just started may be missing from the server's list. */
const VISIBILITY_LAG_MS = 2_000;

// google.rpc.Code
const GRPC_CANCELLED = 1;
const GRPC_DEADLINE_EXCEEDED = 4;
const GRPC_NOT_FOUND = 5;
const GRPC_UNAVAILABLE = 14;

export interface ConnectOptions {
  /** A config that was loaded already. Default: it is read from `configPath`. */
  readonly config?: LetheConfig;
  /** Default: LETHE_CONFIG, else `./lethe.yaml`. Variables that only connections refer to may be missing. */
  readonly configPath?: string;
  /** How long to wait for the Temporal server, milliseconds. Default: 5 s. */
  readonly connectTimeoutMs?: number;
}

/** What `new LetheClient` takes: everything made already. */
export interface LetheClientOptions {
  readonly config: LetheConfig;
  readonly keys: Keys;
  /** A connection to the Temporal server; `close()` closes it. */
  readonly connection: Connection;
  /** Default: the records in the config's state directory. */
  readonly records?: RecordStore;
  /** Default: `config.temporal.taskQueue`. */
  readonly taskQueue?: string;
}

/** A request that was started or joined. */
export interface Erasure {
  readonly requestId: string;
  readonly workflowId: string;
  /** True when it existed already: the same person and scope, or the same request id. */
  readonly joined: boolean;
  status(): Promise<RequestStatus>;
  /**
   * Waits for the end, weeks if need be, and tells how it was.
   *
   * @throws NotJoinedError when it was to join an open request which ended without taking it in.
   */
  result(): Promise<RequestStatus>;
  retry(message: VerbMessage): Promise<VerbAnswer>;
  checkNow(message: VerbMessage): Promise<VerbAnswer>;
  hold(message: VerbMessage): Promise<VerbAnswer>;
  release(message: VerbMessage): Promise<VerbAnswer>;
  abandon(message: VerbMessage): Promise<VerbAnswer>;
  approve(message: ApproveMessage): Promise<VerbAnswer>;
  postpone(message: VerbMessage): Promise<VerbAnswer>;
  /** See `LetheClient.attest`. */
  attest(message: VerbMessage & { readonly task: string }): Promise<VerbAnswer>;
}

/** Which requests `list` shows; all of them must fit. */
export interface ListFilter {
  readonly status?: Status;
  /** A connection in scope. */
  readonly connection?: string;
  /** True: only those that can't end in time even if everything goes well. */
  readonly atRisk?: boolean;
  /** True: only open ones past their due date. */
  readonly overdue?: boolean;
  /** True: only those of which a lane is held, by an operator or by law. */
  readonly held?: boolean;
}

/** One execution of a request's workflow, with what it keeps in its memo. */
interface Found {
  readonly workflowId: string;
  readonly runId: string;
  readonly liveness: Liveness;
  readonly kept: StatusMemo;
  readonly memo: Record<string, unknown> | undefined;
}

/**
 * Starts erasures, tells how they stand and passes on what operators decide. Talks to Temporal and to the records only,
 * never to a store; safe to use from many processes at once.
 */
export class LetheClient {
  readonly config: LetheConfig;
  readonly keys: Keys;
  readonly records: RecordStore;
  readonly taskQueue: string;
  /** Temporal's own client, for what this one does not offer. */
  readonly temporal: Client;
  readonly #joinedIds: JoinedIds;

  constructor(options: LetheClientOptions) {
    this.config = options.config;
    this.keys = options.keys;
    this.records = options.records ?? new DirectoryRecords({ stateDir: options.config.stateDir });
    this.#joinedIds = new JoinedIds(options.config.stateDir);
    this.taskQueue = options.taskQueue ?? options.config.temporal.taskQueue;
    this.temporal = new Client({
      connection: options.connection,
      namespace: options.config.temporal.namespace,
      dataConverter: createDataConverter(options.keys),
    });
  }

  /**
   * Reads the config and connects.
   *
   * @throws ConfigError, or TemporalUnavailableError when the server does not answer.
   */
  static async connect(options: ConnectOptions = {}): Promise<LetheClient> {
    const config = options.config ?? loadConfig({ path: options.configPath, storeSecrets: false });
    const keys = deriveKeys((await secretsFor(config, false)).secrets);
    const { address } = config.temporal;
    try {
      const connection = await Connection.connect({
        ...connectionOptionsOf(config.temporal),
        connectTimeout: options.connectTimeoutMs ?? 5_000,
      });
      return new LetheClient({ config, keys, connection });
    } catch (error) {
      throw new TemporalUnavailableError(address, { cause: error });
    }
  }

  /** Closes the connection to Temporal. */
  async close(): Promise<void> {
    await this.temporal.connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Asks for one person to be erased. Returns as soon as the request is durable; the work goes on without this process.
   *
   * Asking again for the same person with the same scope joins the open request; with `join: 'extend'` a wider scope
   * widens it. Who joins under a request id of their own, or with a later receipt, gets a verdict only from reads after
   * that. A request id that was used before returns that request, open or ended, whoever asks first.
   *
   * @throws InvalidRequestError, RequestConflictError, TemporalUnavailableError: nothing was started then.
   */
  async erase(request: EraseRequest): Promise<Erasure> {
    const prepared = prepareRequest(request, this.config, this.keys);
    return this.#guard(async () => {
      if (prepared.chosenId) {
        const seen = await this.#joinById(prepared);
        if (seen !== null) return seen;
      }
      if (prepared.join === 'extend') {
        const joined = await this.#extendOpen(prepared);
        if (joined !== null) return joined;
      }
      // A due date may have passed since a request that is only repeated here; a new one can't begin with it.
      const { dueAtMs } = prepared.stated;
      if (dueAtMs !== null && dueAtMs <= prepared.input.receivedAtMs) {
        const joined = await this.#joinOpen(prepared);
        if (joined !== null) return joined;
        throw new InvalidRequestError([{ path: 'dueAt', message: 'is not after the receipt' }]);
      }
      // The open request may end between the refused start and our look at it: then start again.
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.#start(prepared);
        } catch (error) {
          if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
          const joined = await this.#joinOpen(prepared);
          if (joined !== null) return joined;
          if (attempt === 5) throw error;
          // One that is sealing its record takes nobody in any more, and is gone in a moment.
          await sleep(attempt * 100);
        }
      }
    });
  }

  /**
   * Finds out what a request would erase and deletes nothing. Waits for the plan, which takes as long as searching the
   * stores takes.
   *
   * @returns the status of the dry run, with everything found as `pending` and each connection's whole plan. A
   *   connection whose plan was never made, because the request was ended before, has none.
   */
  async plan(request: EraseRequest): Promise<Plan> {
    const erasure = await this.erase({ ...request, dryRun: true });
    return this.planOf(await erasure.result());
  }

  /** A status with each connection's whole plan; what the status leaves out comes from the record. */
  async planOf(status: RequestStatus): Promise<Plan> {
    const lanes = Object.entries(status.connections);
    const partial = lanes.some(([, { plan }]) => plan !== null && plan.details === undefined);
    const recorded = partial ? await this.#recorded(status.requestId) : null;
    return planSchema.parse({
      ...status,
      connections: Object.fromEntries(
        lanes.map(([name, lane]) => {
          const same = recorded?.connections[name]?.plan;
          const plan = lane.plan?.details === undefined && same?.digest === lane.plan?.digest ? same : lane.plan;
          return [name, { ...lane, plan: plan?.details === undefined ? null : plan }];
        }),
      ),
    });
  }

  /**
   * How a request stands. Needs no worker: the workflow keeps its status where the server can show it, and after the
   * server's retention the record tells.
   *
   * @throws UnknownRequestError
   */
  async status(requestId: string): Promise<RequestStatus> {
    return this.#guard(async () => {
      const joined = await this.#joinedTo(requestId);
      if (joined !== null) return joined;
      const found = await this.#find(requestId, VISIBILITY_LAG_MS);
      if (found !== null) return this.#withAftercare(current(found.kept, found.liveness, Date.now()));
      const recorded = await this.#recorded(requestId);
      if (recorded === null) throw new UnknownRequestError(requestId);
      return this.#withAftercare(recorded);
    });
  }

  /**
   * All requests, open ones first, then the latest received first. Those that have left Temporal come from the records.
   *
   * @param filter all that is given must fit.
   * @param onUnreadable called for each workflow that was written with other keys; they are left out. Default: nothing.
   */
  async list(
    filter: ListFilter = {},
    onUnreadable: (workflowId: string) => void = () => undefined,
  ): Promise<readonly RequestStatus[]> {
    return this.#guard(async () => {
      const statuses = new Map<string, RequestStatus>();
      const running = new Set<string>();
      for await (const found of this.#search([`ExecutionStatus != "ContinuedAsNew"`], onUnreadable)) {
        const status = current(found.kept, found.liveness, Date.now());
        // Of several with one id, which only a race can make, the one that works on.
        if (statuses.has(status.requestId) && (found.liveness !== 'running' || running.has(status.requestId))) continue;
        statuses.set(status.requestId, status);
        if (found.liveness === 'running') running.add(status.requestId);
      }
      for (const { requestId } of await this.records.list()) {
        if (statuses.has(requestId)) continue;
        const recorded = await this.#recorded(requestId);
        if (recorded !== null) statuses.set(requestId, recorded);
      }
      return [...statuses.values()]
        .filter(({ status }) => filter.status === undefined || status === filter.status)
        .filter(({ connections }) => filter.connection === undefined || filter.connection in connections)
        .filter(({ atRisk }) => filter.atRisk !== true || atRisk)
        .filter(({ overdue, endedAt }) => filter.overdue !== true || (overdue && endedAt === null))
        .filter(({ connections }) => filter.held !== true || Object.values(connections).some(isHeld))
        .sort(
          (a, b) => Number(a.endedAt !== null) - Number(b.endedAt !== null) || b.receivedAt.localeCompare(a.receivedAt),
        );
    });
  }

  /**
   * Waits until a request has ended.
   *
   * @returns its last status; of a workflow that was ended from outside one that needs an operator.
   * @throws UnknownRequestError
   */
  async result(requestId: string): Promise<RequestStatus> {
    return this.#guard(async () => {
      const found = await this.#find((await this.#joinedTo(requestId))?.requestId ?? requestId, VISIBILITY_LAG_MS);
      if (found === null) return this.status(requestId);
      return this.#result(found.workflowId, found.runId);
    });
  }

  /**
   * The record: what was asked, done, read and concluded.
   *
   * @throws UnknownRequestError when there is none (yet): the first worker that sees a request opens it.
   */
  async report(requestId: string): Promise<RecordView> {
    const view = isRequestId(requestId) ? await this.records.read(requestId) : null;
    if (view !== null) return view;
    const joined = await this.#joinedTo(requestId);
    if (joined === null) throw new UnknownRequestError(requestId);
    return this.report(joined.requestId);
  }

  /** Submits everything not yet proven absent again, now. */
  retry(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('retry', target, message);
  }

  /** Reads once more, now. The read counts only if it may. */
  checkNow(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('checkNow', target, message);
  }

  /** Stops before the next API call and stays stopped. */
  hold(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('hold', target, message);
  }

  /** Goes on after a hold. */
  release(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('release', target, message);
  }

  /** Ends without proof. What was submitted cannot be recalled. */
  abandon(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('abandon', target, message);
  }

  /** Extends the deadline once, as the law allows; `message.notifiedOn` is the day on which the person was told. */
  postpone(target: string | readonly string[] | RequestFilter, message: VerbMessage): Promise<readonly VerbAnswer[]> {
    return this.send('postpone', target, message);
  }

  /**
   * Lets one connection of one request carry out exactly the plan that waits there. Refused when the plan has changed,
   * and when it would submit more traces than `atMost`, with the present digest and counts.
   */
  async approve(requestId: string, message: ApproveMessage): Promise<VerbAnswer> {
    const [answer] = await this.send('approve', requestId, message);
    if (answer === undefined) throw new UnknownRequestError(requestId);
    return answer;
  }

  /**
   * Copies that no call can erase alone, for people to erase by hand.
   *
   * @param options.reveal adds the store's own ids of the copies, from the vault. Default: no.
   * @throws UnknownRequestError; with `reveal` VaultLostError when the vault does not give them.
   */
  async tasks(requestId: string, options: { readonly reveal?: boolean } = {}): Promise<readonly RequestTask[]> {
    const status = await this.status(requestId);
    // Not the id given: that of a request that joined has neither record nor vault.
    const tasks = requestTasks(status, await this.records.read(status.requestId));
    if (options.reveal !== true) return tasks;
    return revealed(tasks, status.requestId, { vault: this.#vault(), keys: this.keys });
  }

  /**
   * Takes somebody's word that the copies of a manual task are erased. Such a request ends `verified-with-exceptions`,
   * never plainly verified. After its end the word goes beside the record, and changes nothing in it.
   *
   * @throws InvalidRequestError when the message is not complete, UnknownRequestError.
   */
  async attest(requestId: string, message: VerbMessage & { readonly task: string }): Promise<VerbAnswer> {
    const parsed = parseOperatorMessage(message, 'attest');
    if (typeof parsed === 'string') throw new InvalidRequestError([{ path: '', message: parsed }], 'The message');
    const { endedAt, requestId: recorded } = await this.status(requestId);
    if (endedAt !== null) {
      const { added, text } = await attestAfterTheEnd(this.records, recorded, parsed, virtualNow(this.config.clock));
      return { requestId, verb: 'attest', delivered: added ? 'record' : 'none', receipt: null, text };
    }
    const [answer] = await this.send('attest', requestId, message);
    if (answer === undefined) throw new UnknownRequestError(requestId);
    return answer;
  }

  /**
   * Writes what the stores' support asks for about traces that are still there, a file of mode 0600 for each connection.
   * The files hold ids of the person's traces.
   *
   * @throws UnknownRequestError, NoSupportPacketError when the vault does not give the ids.
   */
  async supportPacket(requestId: string, options: SupportPacketOptions = {}): Promise<SupportPacket> {
    const view = await this.report(requestId);
    return writeSupportPacket(
      view.request?.requestId ?? requestId,
      view,
      this.config.connections,
      this.#vault(),
      options,
    );
  }

  #vault(): Vault {
    return new DirectoryVault({ stateDir: this.config.stateDir, keys: this.keys });
  }

  /**
   * Sends a verb to requests by id, or to all open ones that a filter matches.
   *
   * @returns one answer for each request, in order; a request that refuses does not stop the others.
   * @throws InvalidRequestError when the message or the filter is not complete, SelectionError when the filter matches
   *   another number than expected: nothing was sent then.
   */
  async send(
    verb: OperatorVerb,
    target: string | readonly string[] | RequestFilter,
    message: VerbMessage,
  ): Promise<readonly VerbAnswer[]> {
    const parsed = parseOperatorMessage(message, verb);
    if (typeof parsed === 'string') throw new InvalidRequestError([{ path: '', message: parsed }], 'The message');
    if (verb === 'approve' && typeof target !== 'string') {
      throw new InvalidRequestError(
        [{ path: 'target', message: 'must be one request: each plan is approved by itself, with its own digest' }],
        'The selection',
      );
    }
    return this.#guard(async () => {
      const ids = await this.#targets(target);
      const alive = await this.hasWorkflowPoller();
      const answers: VerbAnswer[] = [];
      for (const requestId of ids) answers.push(await this.#sendOne(verb, requestId, parsed, alive));
      return answers;
    });
  }

  /**
   * Looks at everything that erasures depend on: Temporal, workers, stores, open requests. Calls the stores, so the
   * config must hold their credentials.
   */
  async doctor(): Promise<DoctorReport> {
    const { runDoctor } = await import('./doctor.ts');
    return runDoctor(this.config, { taskQueue: this.taskQueue });
  }

  /** Whether a worker has asked for workflow tasks lately. */
  async hasWorkflowPoller(): Promise<boolean> {
    const { pollers } = await this.temporal.workflowService.describeTaskQueue({
      namespace: this.config.temporal.namespace,
      taskQueue: { name: this.taskQueue },
      taskQueueType: 1, // TASK_QUEUE_TYPE_WORKFLOW
    });
    return pollers.some(({ lastAccessTime }) => isFresh(lastAccessTime));
  }

  /** Link to a request in the Temporal UI, or null when the UI's address is unknown. */
  uiLink(workflowId: string): string | null {
    const { uiAddress, namespace } = this.config.temporal;
    if (uiAddress === null) return null;
    return `${uiAddress}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`;
  }

  async #start(prepared: PreparedRequest): Promise<Erasure> {
    const { input, workflowId, scope } = prepared;
    const { clock } = this.config;
    const kept: StatusMemo = { status: initialStatus(input, workflowId, clock), clock };
    const handle = await this.temporal.workflow.start(WORKFLOW_TYPE, {
      taskQueue: this.taskQueue,
      workflowId,
      args: [input],
      workflowIdConflictPolicy: 'FAIL',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      memo: { [STATUS_MEMO]: kept, [SCOPE_MEMO]: scope },
      typedSearchAttributes: [
        { key: LetheStatus, value: 'planning' },
        { key: LetheConnections, value: [...input.connections] },
        { key: LetheBlocked, value: [] },
        { key: LetheRound, value: 0 },
        { key: LetheRemaining, value: 0 },
        { key: LetheDueAt, value: new Date(input.dueAtMs) },
        { key: LetheRequestId, value: input.requestId },
      ],
      staticSummary: staticSummary(prepared),
      staticDetails: staticDetails(prepared),
    });
    if (prepared.chosenId) await this.#refuseTwin(prepared, handle.firstExecutionRunId);
    return this.#erasure(input.requestId, workflowId, handle.firstExecutionRunId, false);
  }

  /**
   * Two starters may give one request id to two people at the same moment; the ids of their workflows differ, so the
   * server lets both pass. The later one goes, before it was planned as a rule.
   */
  async #refuseTwin({ workflowId, input }: PreparedRequest, runId: string): Promise<void> {
    type Start = { workflowId: string; runId: string; startMs: number };
    const earlier = (one: Start, than: Start) =>
      one.startMs < than.startMs || (one.startMs === than.startMs && one.workflowId < than.workflowId);
    const query = this.#query([`LetheRequestId = "${input.requestId}"`]);
    const deadline = Date.now() + VISIBILITY_LAG_MS;
    let first: Start | undefined;
    let looksAfter = 1;
    for (;;) {
      const all: Start[] = [];
      for await (const one of this.#ids(query)) all.push(one);
      const own = all.find((one) => one.runId === runId);
      first = own && all.find((one) => one.workflowId !== workflowId && earlier(one, own));
      if (first !== undefined || Date.now() > deadline) break;
      // A list that does not show our own start yet may not show the other one either; and when it does, the other one,
      // although earlier, may still be on its way into it.
      if (own !== undefined && looksAfter === 0) break;
      if (own !== undefined) looksAfter -= 1;
      await sleep(own === undefined ? 20 : 150);
    }
    if (first === undefined) return;
    await this.temporal.workflow
      .getHandle(workflowId, runId)
      .terminate('its request id was taken at the same moment by another request');
    throw new RequestConflictError('request-id', input.requestId, [
      'person: another start, at the same moment, gave the id to somebody else; this one was stopped again',
    ]);
  }

  /** Joins the request that carries the same id, open or ended. Null: the id is new. */
  async #joinById(prepared: PreparedRequest): Promise<Erasure | null> {
    const { requestId } = prepared.input;
    const found = await this.#find(requestId, 0);
    if (found !== null) {
      this.#refuseOther('request-id', prepared, found);
      return this.#erasure(requestId, found.workflowId, found.runId, true);
    }
    const joined = await this.#joinedTo(requestId);
    if (joined !== null) {
      if ((await this.#joinedIds.get(requestId))?.scopeDigest !== prepared.scope.scopeDigest) {
        throw new RequestConflictError('request-id', requestId, [
          `scope: the one that joined ${joined.requestId} had another`,
        ]);
      }
      return { ...this.#erasure(joined.requestId, joined.workflowId, null, true), requestId };
    }
    const view = await this.records.read(requestId);
    if (view === null) return null;
    const { request } = view;
    if (request?.scopeDigest !== prepared.scope.scopeDigest) {
      throw new RequestConflictError('request-id', requestId, [
        request === null
          ? 'record: there is one of this id that tells nothing of its scope'
          : `scope: the record of ${request.receivedAt.slice(0, 10)} tells of another one`,
      ]);
    }
    return this.#erasure(requestId, request.workflowId, null, true);
  }

  /** Joins the person's open request when it is the same. Null: it is not open any more. */
  async #joinOpen(prepared: PreparedRequest): Promise<Erasure | null> {
    const found = await this.#describe(prepared.workflowId);
    if (found?.liveness !== 'running') return null;
    this.#refuseOther('scope', prepared, found);
    const { status } = found.kept;
    const existing = { requestId: status.requestId, receivedAtMs: Date.parse(status.receivedAt) };
    const erasure = this.#erasure(status.requestId, found.workflowId, found.runId, true);
    if (!isOwnRequest(prepared, existing)) return erasure;
    const message = sameScopeMessage(prepared, this.keys);
    const taken = await this.#sendExtend(prepared, found, message);
    if (taken === 'ended') return null;
    return taken === 'sent' ? unconfirmed(erasure, message.requestId) : erasure;
  }

  /** Widens the person's open request, under whichever identifier it runs. Null: there is none. */
  async #extendOpen(prepared: PreparedRequest): Promise<Erasure | null> {
    for (let attempt = 1; ; attempt += 1) {
      const open: Found[] = [];
      for (const workflowId of prepared.workflowIds) {
        const found = await this.#describe(workflowId);
        if (found?.liveness === 'running') open.push(found);
      }
      const [found, other] = open;
      if (found === undefined) return null;
      const { status } = found.kept;
      if (other !== undefined) {
        throw new RequestConflictError('scope', status.requestId, [
          `person: the identifiers name two open requests, this and ${other.kept.status.requestId}; join them one by one`,
        ]);
      }
      const existing = readScopeMemo(found.workflowId, found.memo);
      if (existing.scopeDigest === prepared.scope.scopeDigest) return this.#joinOpen(prepared);
      const { dryRun, onlyBeforeMs } = prepared.scope;
      const isOther = existing.dryRun !== dryRun || existing.onlyBeforeMs !== onlyBeforeMs;
      if (isOther || dryRun) this.#refuseOther('scope', prepared, found);
      const message = extendMessage(prepared, await this.#scopeOf(found), this.config, this.keys);
      const taken = await this.#sendExtend(prepared, found, message);
      if (taken === 'ended') return null;
      if (taken === 'changed' && attempt < 5) continue;
      if (taken === 'changed') {
        throw new RequestConflictError('scope', status.requestId, ['scope: it changes all the time; ask again']);
      }
      const erasure = this.#erasure(status.requestId, found.workflowId, found.runId, true);
      const own = { ...erasure, requestId: message.requestId };
      return taken === 'sent' ? unconfirmed(own, message.requestId) : own;
    }
  }

  /** What an open request erases. Only a worker can tell. */
  async #scopeOf({ workflowId, kept }: Found): Promise<EraseInput> {
    if (await this.hasWorkflowPoller()) {
      try {
        return await this.temporal.withDeadline(Date.now() + UPDATE_DEADLINE_MS, () =>
          this.temporal.workflow.getHandle(workflowId).query(scopeQuery),
        );
      } catch (error) {
        if (!isGrpcFailure(error) || grpcCodeOf(error) === GRPC_UNAVAILABLE) throw error;
      }
    }
    throw new RequestConflictError('scope', kept.status.requestId, [
      'worker: none answered, and only a worker can widen an open request; start one and ask again',
    ]);
  }

  /** @returns `sent` when no worker could tell whether it was taken. */
  async #sendExtend(
    prepared: PreparedRequest,
    found: Found,
    message: ExtendMessage,
  ): Promise<'taken' | 'sent' | 'ended' | 'changed'> {
    const { requestId } = message;
    const handle = this.temporal.workflow.getHandle(found.workflowId);
    const to = { requestId: found.kept.status.requestId, workflowId: found.workflowId };
    // Before it is sent, so that the id is never unknown once it was taken; whether it was, the status tells.
    await this.#joinedIds.put(requestId, { ...to, scopeDigest: prepared.scope.scopeDigest });
    try {
      if (await this.hasWorkflowPoller()) {
        try {
          await this.temporal.withDeadline(Date.now() + UPDATE_DEADLINE_MS, () =>
            handle.executeUpdate(EXTEND_UPDATE, { args: [message] }),
          );
          return 'taken';
        } catch (error) {
          if (error instanceof WorkflowUpdateFailedError) {
            const why = error.cause instanceof Error ? error.cause.message : error.message;
            if (why === 'the request has ended') return 'ended';
            if (why === SCOPE_CHANGED) return 'changed';
            throw new RequestConflictError('scope', to.requestId, [`join: ${why}`]);
          }
          if (!isGrpcFailure(error)) throw error;
          if (!isTimeout(error) && grpcCodeOf(error) === GRPC_UNAVAILABLE) throw error;
        }
      }
      await handle.signal(EXTEND_SIGNAL, message);
      return 'sent';
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return 'ended';
      throw error;
    }
  }

  /** The status of the request that another one joined under this id; null: it joined none. */
  async #joinedTo(requestId: string): Promise<RequestStatus | null> {
    const to = isRequestId(requestId) ? await this.#joinedIds.get(requestId) : null;
    if (to === null || to.requestId === requestId) return null;
    const found = await this.#find(to.requestId, 0);
    const status =
      found === null ? await this.#recorded(to.requestId) : current(found.kept, found.liveness, Date.now());
    return status?.joinedRequests.some((one) => one.requestId === requestId) === true ? status : null;
  }

  #refuseOther(reason: 'scope' | 'request-id', prepared: PreparedRequest, found: Found): void {
    const { status } = found.kept;
    const lines = differences(prepared, {
      ...readScopeMemo(found.workflowId, found.memo),
      receivedAtMs: Date.parse(status.receivedAt),
      dueAtMs: Date.parse(status.dueAt),
    });
    if (lines.length > 0) throw new RequestConflictError(reason, status.requestId, lines);
  }

  #erasure(requestId: string, workflowId: string, runId: string | null, joined: boolean): Erasure {
    const one = (verb: OperatorVerb) => async (message: VerbMessage) => {
      const [answer] = await this.send(verb, requestId, message);
      if (answer === undefined) throw new UnknownRequestError(requestId);
      return answer;
    };
    return {
      requestId,
      workflowId,
      joined,
      status: () =>
        this.#guard(async () => {
          // By id and not by search: the server's list may lag behind a start.
          const found = runId === null ? null : await this.#latestOf(requestId, workflowId, runId);
          if (found === null) return this.status(requestId);
          return this.#withAftercare(current(found.kept, found.liveness, Date.now()));
        }),
      result: () => this.#guard(() => (runId === null ? this.status(requestId) : this.#result(workflowId, runId))),
      retry: one('retry'),
      checkNow: one('checkNow'),
      hold: one('hold'),
      release: one('release'),
      abandon: one('abandon'),
      approve: one('approve'),
      postpone: one('postpone'),
      attest: (message) => this.attest(requestId, message),
    };
  }

  /** The newest run of a request, which began with `runId`. */
  async #latestOf(requestId: string, workflowId: string, runId: string): Promise<Found | null> {
    const newest = await this.#describe(workflowId);
    // The person may have asked again since; then the newest run is another request's.
    if (newest?.kept.status.requestId === requestId) return newest;
    return this.#describe(workflowId, runId);
  }

  async #result(workflowId: string, runId: string): Promise<RequestStatus> {
    try {
      return (await this.temporal.workflow.getHandle(workflowId, runId).result()) as RequestStatus;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError || error instanceof WorkflowFailedError) {
        const found = await this.#describe(workflowId, runId);
        if (found !== null) return current(found.kept, found.liveness, Date.now());
      }
      throw error;
    }
  }

  /** The execution that a request id names, the open one if there is one. */
  async #find(requestId: string, patienceMs: number): Promise<Found | null> {
    if (!isRequestId(requestId)) return null;
    const deadline = Date.now() + patienceMs;
    for (let delayMs = 50; ; delayMs *= 2) {
      const all: Found[] = [];
      const unreadable: string[] = [];
      const query = [`LetheRequestId = "${requestId}"`];
      for await (const found of this.#search(query, (workflowId) => unreadable.push(workflowId))) all.push(found);
      const best = all.find(({ liveness }) => liveness === 'running') ?? all[0];
      // The list may lag behind; the execution itself does not.
      if (best !== undefined) return (await this.#describe(best.workflowId, best.runId)) ?? best;
      if (unreadable[0] !== undefined) throw new UnreadableStateError(unreadable[0]);
      if (Date.now() + delayMs > deadline) return null;
      if (isRequestId(requestId) && (await this.records.read(requestId)) !== null) return null;
      await sleep(delayMs);
    }
  }

  /** Executions of this installation, newest first; what can't be read is reported and left out. */
  async *#search(conditions: readonly string[], onUnreadable: (workflowId: string) => void): AsyncGenerator<Found> {
    const query = this.#query(conditions);
    const all: (Found & { readonly startMs: number })[] = [];
    try {
      for await (const info of this.temporal.workflow.list({ query })) {
        all.push({ ...this.#foundOf(info), startMs: info.startTime.getTime() });
      }
    } catch (error) {
      if (isGrpcFailure(error)) throw error;
      // One that was written with other keys spoils the whole page: read them one by one.
      all.length = 0;
      for await (const { workflowId, runId, startMs } of this.#ids(query)) {
        try {
          const found = await this.#describe(workflowId, runId);
          if (found !== null) all.push({ ...found, startMs });
        } catch (one) {
          if (!(one instanceof UnreadableStateError)) throw one;
          onUnreadable(workflowId);
        }
      }
    }
    yield* all.sort((a, b) => b.startMs - a.startMs);
  }

  /** Several installations may share a namespace: their task queues tell them apart. */
  #query(conditions: readonly string[]): string {
    return [`WorkflowType = "${WORKFLOW_TYPE}"`, `TaskQueue = "${this.taskQueue}"`, ...conditions].join(' AND ');
  }

  /** The same as `workflow.list`, without looking at what the executions hold. */
  async *#ids(query: string): AsyncGenerator<{ workflowId: string; runId: string; startMs: number }> {
    const { namespace } = this.config.temporal;
    let nextPageToken: Uint8Array = new Uint8Array();
    do {
      const page = await this.temporal.workflowService.listWorkflowExecutions({ namespace, query, nextPageToken });
      for (const { execution, startTime } of page.executions) {
        const startMs = Number(startTime?.seconds ?? 0) * 1000 + (startTime?.nanos ?? 0) / 1e6;
        yield { workflowId: execution?.workflowId ?? '', runId: execution?.runId ?? '', startMs };
      }
      ({ nextPageToken } = page);
    } while (nextPageToken.length > 0);
  }

  async #describe(workflowId: string, runId?: string): Promise<Found | null> {
    try {
      return this.#foundOf(await this.temporal.workflow.getHandle(workflowId, runId).describe());
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return null;
      if (isGrpcFailure(error) || error instanceof UnreadableStateError) throw error;
      throw new UnreadableStateError(workflowId, { cause: error });
    }
  }

  #foundOf(info: Pick<WorkflowExecutionInfo, 'workflowId' | 'runId' | 'status' | 'memo'>): Found {
    const { workflowId, runId, status, memo } = info;
    const running = status.name === 'RUNNING' || status.name === 'CONTINUED_AS_NEW' || status.name === 'PAUSED';
    return {
      workflowId,
      runId,
      liveness: running ? 'running' : status.name === 'COMPLETED' ? 'ended' : 'lost',
      kept: readStatusMemo(workflowId, memo),
      memo,
    };
  }

  /** The status with what is looked at again after the end, if anything is. */
  async #withAftercare(status: RequestStatus): Promise<RequestStatus> {
    if (status.endedAt === null || status.dryRun || status.status === 'abandoned') return status;
    const aftercare = await readAftercare(this.temporal, this.records, status.requestId);
    return aftercare === null ? status : { ...status, aftercare };
  }

  async #recorded(requestId: string): Promise<RequestStatus | null> {
    if (!isRequestId(requestId)) return null;
    const view = await this.records.read(requestId);
    return view === null ? null : statusFromRecord(requestId, view, this.config.clock, Date.now());
  }

  async #targets(target: string | readonly string[] | RequestFilter): Promise<readonly string[]> {
    if (typeof target === 'string') return [target];
    if (isList(target)) return [...new Set(target)];
    const { status, connection, expect } = target;
    if (status === undefined && connection === undefined) {
      throw new InvalidRequestError(
        [{ path: 'filter', message: 'must name a status or a connection: nothing is ever sent to everybody' }],
        'The selection',
      );
    }
    if (!Number.isInteger(expect) || expect < 0) {
      throw new InvalidRequestError(
        [{ path: 'expect', message: 'must say how many requests the filter matches' }],
        'The selection',
      );
    }
    const open = await this.list({
      ...(status === undefined ? {} : { status }),
      ...(connection === undefined ? {} : { connection }),
    });
    const ids = open.filter(({ endedAt }) => endedAt === null).map(({ requestId }) => requestId);
    if (ids.length !== expect) throw new SelectionError(expect, ids.length);
    return ids;
  }

  async #sendOne(verb: OperatorVerb, requestId: string, message: OperatorMessage, alive: boolean): Promise<VerbAnswer> {
    const answer = (delivered: VerbAnswer['delivered'], text: string, receipt: Receipt | null = null): VerbAnswer => ({
      requestId,
      verb,
      delivered,
      receipt: receipt === null ? null : { ...receipt, connections: [...receipt.connections] },
      text,
    });
    const joined = await this.#joinedTo(requestId);
    const found = await this.#find(joined?.requestId ?? requestId, VISIBILITY_LAG_MS);
    if (found === null) {
      const recorded = await this.#recorded(requestId);
      if (recorded === null) throw new UnknownRequestError(requestId);
      return answer('none', `refused: the request has ended (${recorded.status})`);
    }
    const status = current(found.kept, found.liveness, Date.now());
    if (found.liveness !== 'running') {
      return answer(
        'none',
        `refused: ${found.liveness === 'ended' ? `the request has ended (${status.status})` : 'its workflow was ended from outside'}`,
      );
    }
    const lane = message.connection === undefined ? undefined : status.connections[message.connection];
    if (message.connection !== undefined && lane === undefined) {
      return answer(
        'none',
        `refused: it has no connection "${message.connection}", only ${Object.keys(status.connections).join(', ')}`,
      );
    }
    const subject = await subjectOf(this.temporal, this.keys, found);
    if (quotesIdentifier(message.reason, subject) || quotesIdentifier(message.requestedBy, subject)) {
      return answer('none', `refused: the message ${QUOTES_IDENTIFIER}`);
    }
    if (lane !== undefined && isVerdict(lane.status)) {
      return answer('none', `refused: ${message.connection ?? ''} has ended (${lane.status})`);
    }

    const full: OperatorMessage = { ...message, verbId: randomUUID() };
    const handle = this.temporal.workflow.getHandle(found.workflowId);
    if (alive) {
      try {
        const receipt = await this.temporal.withDeadline(Date.now() + UPDATE_DEADLINE_MS, () =>
          handle.executeUpdate(verb === 'postpone' ? POSTPONE_UPDATE : VERB_UPDATES[verb], {
            args: [full],
            updateId: full.verbId ?? randomUUID(),
          }),
        );
        return answer('update', receipt.text, receipt);
      } catch (error) {
        if (error instanceof WorkflowUpdateFailedError) {
          const why = error.cause instanceof Error ? error.cause.message : error.message;
          return answer('none', `refused: ${why}`);
        }
        if (error instanceof WorkflowNotFoundError) return answer('none', 'refused: the request has ended');
        // Nobody answered in time, or the workflow is paused and takes no updates: the signal gets there in any case.
        if (isGrpcFailure(error) && !isTimeout(error) && grpcCodeOf(error) === GRPC_UNAVAILABLE) throw error;
      }
    }
    try {
      await handle.signal(verb === 'postpone' ? POSTPONE_SIGNAL : VERB_SIGNALS[verb], full);
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return answer('none', 'refused: the request has ended');
      throw error;
    }
    const why = alive ? 'no worker answered in time' : 'no worker is up';
    return answer(
      'signal',
      `sent as a signal, since ${why}: it waits on the server and is taken when a worker is there; whether it applied ` +
        'then shows in the status and in the record',
    );
  }

  /** Names the server when it does not answer. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const code = grpcCodeOf(error);
      if (code === GRPC_UNAVAILABLE || code === GRPC_DEADLINE_EXCEEDED) {
        throw new TemporalUnavailableError(this.config.temporal.address, { cause: error });
      }
      throw error;
    }
  }
}

function isList(target: readonly string[] | RequestFilter): target is readonly string[] {
  return Array.isArray(target);
}

function isHeld({ status, attention }: ConnectionStatus): boolean {
  return status === 'held' || attention?.reason === 'hold-expired' || attention?.reason === 'legal-hold';
}

/** Anything else can't be the id of a request, and must not get into a query. */
function isRequestId(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text);
}

/** Whether a poller was there a moment ago. */
export function isFresh(lastAccessTime: unknown): boolean {
  const { seconds } = (lastAccessTime ?? {}) as { seconds?: unknown };
  return Date.now() - Number(seconds ?? 0) * 1000 < POLLER_FRESH_MS;
}

function grpcCodeOf(error: unknown): number | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (isGrpcServiceError(at)) return at.code;
  }
  return undefined;
}

function isGrpcFailure(error: unknown): boolean {
  return grpcCodeOf(error) !== undefined;
}

function isTimeout(error: unknown): boolean {
  const code = grpcCodeOf(error);
  return (
    error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
    code === GRPC_DEADLINE_EXCEEDED ||
    code === GRPC_CANCELLED ||
    code === GRPC_NOT_FOUND
  );
}

/** One line for the UI. Names nobody. */
function staticSummary({ input, scope }: PreparedRequest): string {
  const what = scope.kinds.length === 0 ? `${formatCount(scope.knownCount)} given ids` : 'one person';
  return `${input.dryRun ? 'plan for' : 'erase'} ${what} · ${input.connections.join(', ')} · ${input.requestId}`;
}

/** A Markdown list for the UI. Names nobody. */
function staticDetails({ input, scope }: PreparedRequest): string {
  const lines = [
    `- request: ${input.requestId}`,
    `- received: ${formatInstant(input.receivedAtMs)}`,
    `- due: ${formatInstant(input.dueAtMs)}`,
    `- connections: ${input.connections.join(', ')}`,
    `- kinds of identifiers: ${scope.kinds.length === 0 ? 'none' : scope.kinds.join(', ')}`,
    `- known ids: ${formatCount(scope.knownCount)}`,
  ];
  if (input.dryRun) lines.push('- plan only: nothing is deleted');
  if (input.acceptUnlabelled > 0) lines.push(`- accepts up to ${input.acceptUnlabelled} traces that carry nobody`);
  if (input.expectAtMost !== null) lines.push(`- expects at most ${formatCount(input.expectAtMost)} traces`);
  return lines.join('\n');
}

/** A request that was sent to an open one as a signal, which is taken when a worker comes by, or never. */
function unconfirmed(erasure: Erasure, requestId: string): Erasure {
  const result = async (): Promise<RequestStatus> => {
    const end = await erasure.result();
    if (end.joinedRequests.some((one) => one.requestId === requestId)) return end;
    throw new NotJoinedError(requestId, end.requestId);
  };
  return { ...erasure, result };
}
