import { MockActivityEnvironment } from '@temporalio/testing';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLaneActivities, type LaneDeps } from '../../src/activities/index.ts';
import type { LookAnswer, LookInput } from '../../src/erasure/aftercare.ts';
import { bookSchema, type Book, type BookEntry } from '../../src/erasure/book.ts';
import { imbalances } from '../../src/erasure/ledger.ts';
import { DAY_MS, HOUR_MS } from '../../src/erasure/rhythm.ts';
import type {
  BlobRef,
  DeleteAnswer,
  DeleteInput,
  LaneFigures,
  ResolveAnswer,
  ResolveInput,
  Trouble,
  VerifyAnswer,
  VerifyInput,
} from '../../src/erasure/steps.ts';
import { DirectoryRecords } from '../../src/evidence/directory-records.ts';
import type { RecordView } from '../../src/evidence/record.ts';
import type { TraceStore } from '../../src/stores/port.ts';
import { DirectoryVault } from '../../src/vault/directory-vault.ts';
import { deriveKeys } from '../../src/vault/keys.ts';

/** When the request of `LaneSteps` was received. */
export const RECEIVED = Date.UTC(2026, 10, 25, 9);

const REQUEST = 'r-1';

/** temporal.api.enums.v1.PendingActivityState: the last word asks the server whether the step is still wanted. */
const STARTED = 2;
const info = { activityId: '1', attempt: 3, workflowExecution: { workflowId: 'w', runId: 'r' } };
const describe = () => Promise.resolve({ raw: { pendingActivities: [{ ...info, state: STARTED }] } });
const client = {
  workflow: { getHandle: () => ({ describe }) },
  withAbortSignal: (_signal: AbortSignal, work: () => unknown) => work(),
};

/** Thrown for a step that could not be done. */
export class Troubled extends Error {
  readonly trouble: Trouble;

  constructor(trouble: Trouble) {
    super(`${trouble.reason}: ${trouble.text}`);
    this.trouble = trouble;
  }
}

/** The activities of a lane without a workflow: what a single step makes of a store and of a manifest. */
export class LaneSteps {
  readonly vault: DirectoryVault;
  readonly records: DirectoryRecords;
  readonly keys = deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
  private readonly activities: ReturnType<typeof createLaneActivities>;
  private steps = 0;

  private constructor(stateDir: string, store: TraceStore, change: (deps: LaneDeps) => LaneDeps) {
    this.vault = new DirectoryVault({ stateDir, keys: this.keys });
    this.records = new DirectoryRecords({ stateDir });
    this.activities = createLaneActivities(
      change({
        vault: this.vault,
        records: this.records,
        keys: this.keys,
        clock: { realMs: Date.now(), virtualMs: RECEIVED, speed: 1 },
        version: '0.0.0',
        connection: 'prod',
        store: {
          ...store,
          traits: { ...store.traits, rhythm: { kind: 'continuous', settleMs: HOUR_MS, spreadMs: 0 } },
        },
        policy: {
          cleanReads: 2,
          flagAfterRounds: 3,
          refuseAbove: 100,
          expectedPeople: 1,
          sharedTraces: 'keep',
          linkedTraces: 'keep',
          graceMs: HOUR_MS,
        },
        kinds: [
          { kind: 'user_id', caseInsensitive: false },
          { kind: 'email', caseInsensitive: false },
        ],
        searchKeys: { user_id: ['metadata.user_id'], email: ['metadata.email'] },
        accept: [],
      }),
    );
  }

  /** Runs a test with the steps of a lane over a store; what they wrote is removed afterwards. */
  static async over(
    store: TraceStore,
    body: (steps: LaneSteps) => Promise<void>,
    change: (deps: LaneDeps) => LaneDeps = (deps) => deps,
  ): Promise<void> {
    const stateDir = await mkdtemp(join(tmpdir(), 'lethe-steps-'));
    try {
      await body(new LaneSteps(stateDir, store, change));
    } finally {
      await rm(stateDir, { recursive: true, force: true });
    }
  }

  async resolve(more: Partial<ResolveInput> = {}): Promise<ResolveAnswer> {
    const { resolveIds } = this.activities;
    return this.run<ResolveInput, ResolveAnswer>(resolveIds, {
      ...this.common(),
      known: [],
      acceptUnlabelled: 0,
      expectAtMost: null,
      receivedAtMs: RECEIVED,
      dueAtMs: RECEIVED + 30 * DAY_MS,
      dryRun: false,
      lostManifest: 0,
      scopeDigest: 'a'.repeat(64),
      connections: ['prod'],
      workflowId: 'erase-x',
      ...more,
    });
  }

  remove(book: BlobRef, more: Partial<DeleteInput> = {}): Promise<DeleteAnswer> {
    const { deleteBatch } = this.activities;
    return this.run<DeleteInput, DeleteAnswer>(deleteBatch, { ...this.common(), round: 1, batch: 0, book, ...more });
  }

  /** Reads back at a time when a read may count, unless told otherwise. */
  verify(book: BlobRef, more: Partial<VerifyInput> = {}): Promise<VerifyAnswer> {
    const { verifyAbsence } = this.activities;
    return this.run<VerifyInput, VerifyAnswer>(verifyAbsence, {
      ...this.common(),
      round: 1,
      book,
      settledAtMs: null,
      lastCountedAtMs: null,
      cleanReads: 0,
      dueAtMs: RECEIVED + 30 * DAY_MS,
      ...more,
    });
  }

  /** Looks once more after the end. */
  look(book: BlobRef): Promise<LookAnswer> {
    const { lookAgain } = this.activities;
    return this.run<LookInput, LookAnswer>(lookAgain, {
      ...this.common(),
      book,
      onlyBeforeMs: RECEIVED,
      look: 1,
      attempt: 1,
      dueAtMs: RECEIVED,
    });
  }

  book(ref: BlobRef): Promise<Book> {
    return this.vault.get(REQUEST, ref, bookSchema);
  }

  async recorded(): Promise<RecordView> {
    const view = await this.records.read(REQUEST);
    if (view === null) throw new Error('no record');
    return view;
  }

  async states(ref: BlobRef): Promise<Readonly<Record<string, BookEntry['state']>>> {
    const { entries } = await this.book(ref);
    return Object.fromEntries(entries.map(({ traceId, state }) => [traceId, state]));
  }

  private common() {
    this.steps += 1;
    const subject = [{ kind: 'user_id', value: 'u_42' }];
    return { requestId: REQUEST, connection: 'prod', step: this.steps, subject };
  }

  private async run<Input, Answer extends LaneFigures | DeleteAnswer | LookAnswer>(
    activity: (input: Input) => Promise<Answer | Trouble>,
    input: Input,
  ): Promise<Answer> {
    const environment = new MockActivityEnvironment(info, { client: client as never });
    const answer = await environment.run<[Input], Answer | Trouble, typeof activity>(activity, input);
    if ('reason' in answer) throw new Troubled(answer);
    if ('traces' in answer) {
      const off = imbalances(answer);
      if (off.length > 0) throw new Error(off.join('; '));
    }
    return answer;
  }
}
