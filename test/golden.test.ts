import { beforeAll, describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON, JSONToPayload, payloadToJSON } from '@temporalio/common/lib/proto-utils.js';
import { bundleWorkflowCode, DefaultLogger, ReplayError, Worker, type WorkflowBundle } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { STATUS_MEMO, type StatusMemo } from '../src/erasure/memo.ts';
import { createLogger } from '../src/log.ts';
import { createDataConverter, EncryptionCodec, FAILURE_CONVERTER_PATH } from '../src/temporal/codec.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { installRuntime } from '../src/worker.ts';
import { sharedBundle } from './support/bundle.ts';
import { payloadsIn, textOf, type JsonPayload } from './support/payloads.ts';
import { CONNECTION, VAULT_KEY } from './support/world.ts';

// The workflow id and digests are made with the other key, and stand in the histories as they are.
const KEYS = deriveKeys({ hmac: VAULT_KEY, vault: VAULT_KEY });
const FOLDER = fileURLToPath(new URL('./golden', import.meta.url));

interface Event {
  readonly eventType: string;
  readonly [attributes: string]: unknown;
}
interface Golden {
  /** `0.1/verified`, say. */
  readonly name: string;
  readonly text: string;
  readonly events: readonly Event[];
}

/** All of them: those of earlier releases too, since a workflow that began then may still be running. */
const GOLDEN: readonly Golden[] = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.json'))
  .sort()
  .map((file) => {
    const text = readFileSync(join(FOLDER, file), 'utf8');
    const { events } = JSON.parse(text) as { events: readonly Event[] };
    return { name: file.replaceAll('\\', '/').replace(/\.json$/, ''), text, events };
  });
const NAMES = GOLDEN.map(({ name }) => name);

/** How a scenario stands at the end of its history, and a kind of event that makes it the one that it is. */
const SCENARIOS: Readonly<Record<string, { readonly status: string; readonly round: number; readonly has?: string }>> =
  {
    abandoned: { status: 'abandoned', round: 1, has: 'WORKFLOW_EXECUTION_SIGNALED' },
    'awaiting-approval': { status: 'awaiting-approval', round: 0 },
    cancelled: { status: 'abandoned', round: 1, has: 'WORKFLOW_EXECUTION_CANCEL_REQUESTED' },
    'check-now-while-waiting': { status: 'verified', round: 1, has: 'WORKFLOW_EXECUTION_UPDATE_COMPLETED' },
    'continued-as-new.run-1': { status: 'erasing', round: 1, has: 'WORKFLOW_EXECUTION_CONTINUED_AS_NEW' },
    'continued-as-new.run-2': { status: 'verified', round: 1, has: 'WORKFLOW_EXECUTION_COMPLETED' },
    'denied-while-waiting': { status: 'needs-operator', round: 1 },
    'dry-run': { status: 'planning', round: 0, has: 'WORKFLOW_EXECUTION_COMPLETED' },
    'flagged-while-waiting': { status: 'needs-operator', round: 4 },
    held: { status: 'held', round: 1, has: 'TIMER_CANCELED' },
    'held-and-released': { status: 'verified', round: 1, has: 'ACTIVITY_TASK_CANCELED' },
    'nothing-found': { status: 'nothing-found', round: 0 },
    'retry-while-waiting': { status: 'verified', round: 2, has: 'WORKFLOW_EXECUTION_UPDATE_COMPLETED' },
    'two-connections': { status: 'verified', round: 2 },
    unreachable: { status: 'verified', round: 1 },
    verified: { status: 'verified', round: 1, has: 'WORKFLOW_EXECUTION_COMPLETED' },
    'waiting-for-weekend': { status: 'waiting', round: 1 },
    'weekend-skipped': { status: 'verified', round: 2 },
  };

const ENDS = ['WORKFLOW_EXECUTION_COMPLETED', 'WORKFLOW_EXECUTION_CONTINUED_AS_NEW'];

function golden(name: string): Golden {
  const found = GOLDEN.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no golden history ${name}`);
  return found;
}

function of(event: Event, type: string): boolean {
  return event.eventType === `EVENT_TYPE_${type}`;
}

/** Where a workflow task began whose outcome the history tells. */
function lastTask({ events }: Golden): string {
  const task = events.findLast((event) => of(event, 'WORKFLOW_TASK_COMPLETED'))?.[
    'workflowTaskCompletedEventAttributes'
  ];
  return (task as { startedEventId: string }).startedEventId;
}

async function decoded(payload: JsonPayload): Promise<JsonPayload> {
  const [plain] = await new EncryptionCodec(KEYS).decode([JSONToPayload(payload)]);
  return payloadToJSON(plain ?? {}) as JsonPayload;
}

/** The status as the workflow published it last. */
async function lastStatus({ events }: Golden): Promise<StatusMemo['status']> {
  const memo = events.findLast((event) => of(event, 'WORKFLOW_PROPERTIES_MODIFIED'));
  const attributes = memo?.['workflowPropertiesModifiedEventAttributes'] as {
    upsertedMemo: { fields: Record<string, JsonPayload> };
  };
  const payload = attributes.upsertedMemo.fields[STATUS_MEMO];
  if (payload === undefined) throw new Error('the workflow never told its status');
  return (JSON.parse(textOf(await decoded(payload))) as StatusMemo).status;
}

async function changedWorkflow(name: string): Promise<WorkflowBundle> {
  const path = fileURLToPath(new URL(`./fixtures/changed-workflow/${name}.ts`, import.meta.url));
  return bundleWorkflowCode({
    workflowsPath: path,
    workflowInterceptorModules: [path],
    failureConverterPath: FAILURE_CONVERTER_PATH,
    logger: new DefaultLogger('ERROR'),
  });
}

function replay(workflowBundle: WorkflowBundle, { events }: Golden, workflowId: string): Promise<void> {
  const options = { workflowBundle, dataConverter: createDataConverter(KEYS) };
  return Worker.runReplayHistory(options, { events }, workflowId);
}

describe('golden histories', () => {
  let bundle: WorkflowBundle;
  let extraTimer: WorkflowBundle;
  let otherLastTask: WorkflowBundle;
  beforeAll(async () => {
    // A replay that fails is told twice otherwise: as an error, and in the log.
    installRuntime(createLogger('silent'));
    bundle = await sharedBundle();
    extraTimer = await changedWorkflow('extra-timer');
    otherLastTask = await changedWorkflow('last-task');
  }, 60_000);

  test('there is one of every scenario, and they stay small', () => {
    const scenarios = Object.keys(SCENARIOS).map((name) => `0.1/${name}`);
    expect(NAMES.filter((name) => name.startsWith('0.1/')).toSorted()).toEqual(scenarios.toSorted());
    expect(GOLDEN.reduce((sum, { text }) => sum + text.length, 0)).toBeLessThan(1_500_000);
  });

  test.each(Object.entries(SCENARIOS))('%s is what its name says', async (name, { status, round, has }) => {
    const one = golden(`0.1/${name}`);
    const told = await lastStatus(one);
    const rounds = Object.values(told.connections).map((lane) => lane.round);
    expect([told.status, Math.max(...rounds)]).toEqual([status, round]);
    if (has !== undefined) expect(one.events.map(({ eventType }) => eventType)).toContain(`EVENT_TYPE_${has}`);
    if (name === 'two-connections') expect(rounds.sort()).toEqual([1, 2]);
    if (name === 'unreachable') expect(one.text).toContain('"type":"StoreUnreachable"');
    if (name === 'flagged-while-waiting') expect(told.connections[CONNECTION]?.nextCheckAt).not.toBeNull();
  });

  test.each(NAMES)('P23: this release goes on with %s', async (name) => {
    await replay(bundle, golden(name), 'erase-golden');
  });

  // What a replay does not compare is a task that has begun and not ended. These end with a task whose outcome is
  // there, and the replays of changed workflows below show that it is looked at.
  test.each(GOLDEN.filter(({ events }) => !ENDS.some((end) => of(events.at(-1)!, end))).map(({ name }) => name))(
    'P23: %s is open, and nothing in it is left to be compared',
    (name) => {
      const { events } = golden(name);
      const count = (type: string): number => events.filter((event) => of(event, type)).length;
      expect(count('WORKFLOW_TASK_SCHEDULED')).toBe(count('WORKFLOW_TASK_COMPLETED'));
      expect(count('ACTIVITY_TASK_SCHEDULED')).toBe(count('ACTIVITY_TASK_COMPLETED') + count('ACTIVITY_TASK_CANCELED'));
      expect(count('WORKFLOW_TASK_FAILED') + count('WORKFLOW_TASK_TIMED_OUT')).toBe(0);
    },
  );

  test.each(NAMES)('P23: a workflow with one more timer is told from %s', async (name) => {
    await expect(replay(extraTimer, golden(name), 'erase-golden')).rejects.toThrow(DeterminismViolationError);
  });

  test('P23: the workflow of the next test is the same but for its last task', async () => {
    await replay(otherLastTask, golden('0.1/verified'), 'more-from-1000');
  });

  test.each(NAMES)('P23: a change or an error in nothing but the last task of %s is noticed', async (name) => {
    const one = golden(name);
    const from = lastTask(one);
    await expect(replay(otherLastTask, one, `more-from-${from}`)).rejects.toThrow(DeterminismViolationError);
    await expect(replay(otherLastTask, one, `error-from-${from}`)).rejects.toThrow(ReplayError);
  });

  test.each(NAMES)('P31: %s names no machine, no path and no person', async (name) => {
    const one = golden(name);
    const encrypted = payloadsIn(one.events);
    expect(encrypted.length).toBeGreaterThan(10);
    const plain = (await Promise.all(encrypted.map(decoded))).map(textOf).join('\n');
    expect(plain).toContain('"value":"u_42"');
    expect(one.text).not.toContain('u_42');
    expect(one.text).not.toContain('canary');
    expect(plain.match(/canary|@|\.[cm]?[jt]s\b|file:|\/(?:home|root|tmp|Users|var)\//i)).toBeNull();
    const identities = Array.from(one.text.matchAll(/"identity":"([^"]*)"/g), ([, identity]) => identity);
    expect([...new Set(identities)]).toEqual(['lethe']);
    // The history as the server's own tools write it, for anybody who wants to look.
    expect(historyFromJSON({ events: one.events }).events).toHaveLength(one.events.length);
  });
});
