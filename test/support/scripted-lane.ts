import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { defaultActivityInfo, MockActivityEnvironment } from '@temporalio/testing';
import { currentBook } from '../../src/activities/current-book.ts';
import type { LaneDeps } from '../../src/activities/deps.ts';
import { createLaneActivities } from '../../src/activities/index.ts';
import type { Book } from '../../src/erasure/book.ts';
import { DAY_MS, HOUR_MS } from '../../src/erasure/rhythm.ts';
import type {
  BlobRef,
  DeleteAnswer,
  DeleteInput,
  ResolveAnswer,
  ResolveInput,
  Trouble,
  VerifyAnswer,
  VerifyInput,
} from '../../src/erasure/steps.ts';
import { DirectoryRecords } from '../../src/evidence/directory-records.ts';
import type { StoreTraits, TraceStore } from '../../src/stores/port.ts';
import { DirectoryVault } from '../../src/vault/directory-vault.ts';
import { deriveKeys, type Keys } from '../../src/vault/keys.ts';
import { digestsOf, SubjectHolds } from '../../src/vault/subject-holds.ts';
import { KEY } from './scripted-store.ts';

const REQUEST = 'r-1';
const LANE = 'prod';

/** Traits under which a scripted store acts at once. */
export const PROMPT: Partial<StoreTraits> = {
  rhythm: { kind: 'continuous', settleMs: 1000, spreadMs: 0 },
};

/** The steps of one lane over any store, without a workflow. */
export interface LaneSteps {
  readonly deps: LaneDeps;
  resolve(more?: Partial<ResolveInput>): Promise<ResolveAnswer | Trouble>;
  /** The plan, or the test fails. */
  plan(more?: Partial<ResolveInput>): Promise<ResolveAnswer>;
  delete(input: Pick<DeleteInput, 'book'> & Partial<DeleteInput>): Promise<DeleteAnswer | Trouble>;
  verify(input: Pick<VerifyInput, 'book'> & Partial<VerifyInput>): Promise<VerifyAnswer | Trouble>;
  /** A book with all that the delete calls since have written down. */
  bookNow(book: BlobRef): Promise<Book>;
  hold(kind: string, value: string): Promise<void>;
  close(): Promise<void>;
}

/** Opens the steps of a lane that erases `user_id=u_42`. */
export async function laneSteps(store: TraceStore, policy: Partial<LaneDeps['policy']> = {}): Promise<LaneSteps> {
  const stateDir = await mkdtemp(join(tmpdir(), 'lethe-steps-'));
  const keys: Keys = deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
  const holds = new SubjectHolds({ stateDir, now: () => Date.now() });
  const kinds = [
    { kind: 'user_id', caseInsensitive: false },
    { kind: 'email', caseInsensitive: false },
  ];
  const deps: LaneDeps = {
    vault: new DirectoryVault({ stateDir, keys }),
    records: new DirectoryRecords({ stateDir }),
    keys,
    holds,
    clock: null,
    version: '0.0.0',
    connection: LANE,
    store,
    policy: {
      cleanReads: 2,
      flagAfterRounds: 3,
      refuseAbove: 100,
      expectedPeople: 1,
      sharedTraces: 'keep',
      linkedTraces: 'keep',
      graceMs: HOUR_MS,
      ...policy,
    },
    kinds,
    searchKeys: { user_id: [KEY], email: ['metadata.email'] },
    accept: [],
  };
  const activities = createLaneActivities(deps);
  const receivedAtMs = Date.now();
  let steps = 0;
  const common = () => ({
    requestId: REQUEST,
    connection: LANE,
    step: (steps += 1),
    subject: [{ kind: 'user_id', value: 'u_42' }],
  });
  const resolve: LaneSteps['resolve'] = (input = {}) => {
    const whole: ResolveInput = {
      ...common(),
      known: [],
      acceptUnlabelled: 0,
      expectAtMost: null,
      receivedAtMs,
      dueAtMs: receivedAtMs + 30 * DAY_MS,
      dryRun: false,
      lostManifest: 0,
      scopeDigest: 'a'.repeat(64),
      connections: [LANE],
      workflowId: 'erase-x',
      ...input,
    };
    return environment().run(activities.resolveIds, whole);
  };
  return {
    deps,
    resolve,
    plan: async (input) => {
      const answer = await resolve(input);
      if (answer.kind === 'trouble') throw new Error(answer.text);
      return answer;
    },
    delete: (input) => environment().run(activities.deleteBatch, { ...common(), round: 1, batch: 0, ...input }),
    verify: (input) => {
      const start = { round: 1, settledAtMs: null, lastCountedAtMs: null, cleanReads: 0 };
      return environment().run(activities.verifyAbsence, { ...common(), ...start, ...input });
    },
    bookNow: (book) => currentBook(deps, { requestId: REQUEST, connection: LANE, book }),
    hold: async (kind, value) => {
      const terms = { by: 'legal', reason: 'case 12', until: null, autoRelease: false };
      await holds.hold(digestsOf(keys, [{ kind, value }], new Set()), terms);
    },
    close: () => rm(stateDir, { recursive: true, force: true }),
  };
}

/** What a running step asks the server: that this very try is under way, it answers. */
function environment(): MockActivityEnvironment {
  const { activityId, attempt } = defaultActivityInfo;
  const raw = { pendingActivities: [{ activityId, attempt, state: 2 }] };
  const client = {
    workflow: { getHandle: () => ({ describe: () => Promise.resolve({ raw }) }) },
    withAbortSignal: <T>(_signal: AbortSignal, work: () => T): T => work(),
  };
  return new MockActivityEnvironment({}, { client: client as unknown as Client });
}
