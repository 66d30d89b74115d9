import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection, WorkflowNotFoundError } from '@temporalio/client';
import { LetheClient, type Erasure } from '../src/client/client.ts';
import {
  InvalidRequestError,
  NotJoinedError,
  RequestConflictError,
  SelectionError,
  UnknownRequestError,
  UnreadableStateError,
} from '../src/client/errors.ts';
import { parseConfig, type ConfigInput, type LetheConfig } from '../src/config/config.ts';
import type { EraseRequest } from '../src/erasure/request.ts';
import { requestStatusSchema } from '../src/erasure/status.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';
import type { OpenRecord } from '../src/evidence/record.ts';
import { TemporalUnavailableError } from '../src/temporal/unavailable.ts';
import { deriveKeys, type Keys } from '../src/vault/keys.ts';
import { sharedServer, uniqueTaskQueue } from './support/temporal.ts';

// No worker runs in this file: everything here is between the client and the server.

const BY = { requestedBy: 'ann', reason: 'a test' };
const A = '0190a3de-0000-7000-8000-000000000001';
const B = '0190a3de-0000-7000-8000-000000000002';

let connection: Connection;
beforeAll(async () => {
  connection = await Connection.connect({ address: sharedServer().address });
});
afterAll(() => connection.close());

const started: { client: LetheClient; workflowId: string }[] = [];
/** Open requests without a worker would stay on the server that all test files share. */
afterEach(async () => {
  for (const { client, workflowId } of started.splice(0)) {
    await client.temporal.workflow
      .getHandle(workflowId)
      .terminate()
      .catch((error: unknown) => {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
      });
  }
});

function secrets(): { hmac: string; vault: string } {
  return { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') };
}

function configOf(changes: Partial<ConfigInput> = {}): LetheConfig {
  const store = { store: 'langsmith', baseUrl: 'http://127.0.0.1:9', apiKey: 'k' } as const;
  const { address, namespace } = sharedServer();
  return parseConfig(
    {
      temporal: { address, namespace, taskQueue: uniqueTaskQueue('client') },
      state: mkdtempSync(join(tmpdir(), 'lethe-client-')),
      keys: secrets(),
      identifiers: ['user_id', { kind: 'email', caseInsensitive: true }, 'phone'],
      connections: {
        one: { ...store, identifiers: { user_id: ['metadata.user_id'], email: ['metadata.email'] } },
        two: { ...store, identifiers: { user_id: ['metadata.uid'] } },
      },
      ...changes,
    },
    { env: {} },
  );
}

function clientOf(config = configOf(), keys?: Keys): LetheClient {
  return new LetheClient({ config, connection, keys: keys ?? deriveKeys(config.secrets!) });
}

async function erase(client: LetheClient, request: EraseRequest): Promise<Erasure> {
  const erasure = await client.erase(request);
  started.push({ client, workflowId: erasure.workflowId });
  return erasure;
}

let people = 0;
/** Somebody whom no other test knows. */
function person(): { kind: string; value: string } {
  people += 1;
  return { kind: 'user_id', value: `person-${process.pid}-${Date.now()}-${people}` };
}

let ids = 0;
function freshId(): string {
  ids += 1;
  return `req-${process.pid}-${Date.now()}-${ids}`;
}

async function conflictOf(work: Promise<unknown>): Promise<RequestConflictError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(RequestConflictError);
  return error as RequestConflictError;
}

describe('starting', () => {
  test('names nobody: neither in the workflow id nor in anything readable without the key', async () => {
    const client = clientOf();
    const who = person();
    const { workflowId, requestId, joined } = await erase(client, { identifiers: [who], known: { one: [A] } });
    expect(joined).toBe(false);
    expect(workflowId).toMatch(/^erase-[0-9a-f]{32}$/);
    const raw = await connection.workflowService.describeWorkflowExecution({
      namespace: sharedServer().namespace,
      execution: { workflowId },
    });
    const history = await connection.workflowService.getWorkflowExecutionHistory({
      namespace: sharedServer().namespace,
      execution: { workflowId },
    });
    for (const text of [JSON.stringify(raw), Buffer.from(JSON.stringify(history)).toString()]) {
      expect(text).not.toContain(who.value);
      expect(text).not.toContain(Buffer.from(who.value).toString('base64').slice(0, 12));
      expect(text).not.toContain(A);
    }
    expect(JSON.stringify(raw.workflowExecutionInfo?.searchAttributes?.indexedFields)).toBeTruthy();
    expect((await client.status(requestId)).workflowId).toBe(workflowId);
  });

  test('tells its status at once, without a worker, in the documented shape', async () => {
    const client = clientOf();
    const { requestId, ...erasure } = await erase(client, {
      identifiers: [person()],
      known: { two: [A, B] },
      receivedAt: '2026-01-31T08:00:00Z',
    });
    const status = await erasure.status();
    expect(requestStatusSchema.parse(status)).toEqual(status);
    expect(status).toMatchObject({
      requestId,
      status: 'planning',
      receivedAt: '2026-01-31T08:00:00.000Z',
      dueAt: '2026-02-28T23:59:59.999Z',
      law: 'gdpr',
      zone: 'UTC',
      confirmBy: null,
      extension: null,
      atRisk: false,
      overdue: true,
      endedAt: null,
      simulated: false,
    });
    expect(status.connections['two']?.given).toMatchObject({ total: 2, unresolved: 2 });
    expect(await client.status(requestId)).toEqual(status);
    expect(await client.list()).toEqual([status]);
    expect(await client.list({ status: 'planning', connection: 'one' })).toHaveLength(1);
    expect(await client.list({ status: 'waiting' })).toEqual([]);
    expect(await client.list({ connection: 'three' })).toEqual([]);
  });

  test('a Temporal server that does not answer is named, and nothing is started', async () => {
    const config = configOf({ temporal: { address: '127.0.0.1:9' } });
    await expect(LetheClient.connect({ config, connectTimeoutMs: 500 })).rejects.toThrow(TemporalUnavailableError);
  });
});

describe('P25, P8: a request that cannot be used is refused before anything starts', () => {
  const cases: [string, EraseRequest, string[]][] = [
    ['nobody', {}, ['identifiers']],
    ['an empty value', { identifiers: [{ kind: 'user_id', value: '' }] }, ['identifiers[0].value']],
    ['a placeholder', { identifiers: [{ kind: 'user_id', value: 'null' }] }, ['identifiers[0].value']],
    ['an unknown kind', { identifiers: [{ kind: 'ssn', value: 'x-1234' }] }, ['identifiers[0].kind']],
    ['a kind that no connection can search', { identifiers: [{ kind: 'phone', value: '+1234' }] }, ['identifiers']],
    [
      'a kind that the chosen connection cannot search',
      { identifiers: [{ kind: 'email', value: 'a@b.cd' }], connections: ['two'] },
      ['identifiers'],
    ],
    [
      'unknown connections',
      { identifiers: [{ kind: 'user_id', value: 'u_42' }], connections: ['three'], known: { four: [A] } },
      ['connections[0]', 'known.four'],
    ],
    [
      'known ids outside the scope',
      { identifiers: [{ kind: 'user_id', value: 'u_42' }], connections: ['one'], known: { two: [A] } },
      ['known.two'],
    ],
    [
      'times that make no sense',
      {
        identifiers: [{ kind: 'user_id', value: 'u_42' }],
        receivedAt: '2999-01-01T00:00:00Z',
        dueAt: '2998-01-01T00:00:00Z',
      },
      ['receivedAt', 'dueAt'],
    ],
    [
      'an id that names the person',
      { identifiers: [{ kind: 'user_id', value: 'ann-smith' }], requestId: 'erase-ann-smith' },
      ['requestId'],
    ],
    ['an unknown field', { identifiers: [{ kind: 'user_id', value: 'u_42' }], foo: 1 } as never, ['foo']],
  ];
  test.each(cases)('%s', async (_name, request, paths) => {
    const client = clientOf();
    const error: unknown = await client.erase(request).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidRequestError);
    expect((error as InvalidRequestError).problems.map(({ path }) => path)).toEqual(paths);
    // P31: the value itself is not repeated.
    expect(String(error)).not.toMatch(/u_42|a@b\.cd|x-1234|ann-smith/);
    expect(await client.list()).toEqual([]);
  });

  test('known ids alone are enough, also for a kind that cannot be searched', async () => {
    const client = clientOf();
    expect((await erase(client, { known: { one: [A] } })).joined).toBe(false);
    const phone = { kind: 'phone', value: `+49 ${Date.now()}` };
    expect((await erase(client, { identifiers: [phone], known: { one: [A] } })).joined).toBe(false);
  });
});

describe('P24: asking twice', () => {
  test('the same person and scope joins, in whatever order it is given', async () => {
    const client = clientOf();
    const who = person();
    const mail = { kind: 'email', value: `Ann.${who.value}@example.com` };
    const first = await erase(client, { identifiers: [who, mail], known: { one: [A, B], two: [] } });
    const second = await erase(client, {
      identifiers: [mail, who],
      known: { one: [B, A.toUpperCase(), B] },
      connections: ['two', 'one', 'two'],
      requestId: freshId(),
    });
    expect(second).toMatchObject({ requestId: first.requestId, workflowId: first.workflowId, joined: true });
    expect(await client.list()).toHaveLength(1);
  });

  test('P15: another spelling of a case-insensitive kind is the same person and another scope, for it is searched too', async () => {
    const client = clientOf();
    const who = person();
    const mail = { kind: 'email', value: `Ann.${who.value}@example.com` };
    await erase(client, { identifiers: [who, mail] });
    const folded = { ...mail, value: mail.value.toLowerCase() };
    await expect(erase(client, { identifiers: [who, folded], requestId: freshId() })).rejects.toThrow(/identifiers/);
    expect(await client.list()).toHaveLength(1);
  });

  test('spellings of a kind that is not declared case-insensitive are different people', async () => {
    const client = clientOf();
    const who = person();
    const first = await erase(client, { identifiers: [who] });
    const second = await erase(client, { identifiers: [{ ...who, value: who.value.toUpperCase() }] });
    expect(second.workflowId).not.toBe(first.workflowId);
  });

  test('another scope is refused and names every difference, and no value', async () => {
    const client = clientOf();
    const who = person();
    const { requestId } = await erase(client, {
      identifiers: [who],
      known: { one: [A] },
      receivedAt: '2026-10-02T00:00:00Z',
    });
    const mail = { kind: 'email', value: 'ann@example.com' };
    const cases: [EraseRequest, RegExp[]][] = [
      [
        { identifiers: [who], known: { one: [A] }, connections: ['one'] },
        [/^connections: it has one, two, this one one$/],
      ],
      [
        { identifiers: [who, mail], known: { one: [A] } },
        [/^kinds of identifiers: it has user_id, this one email, user_id$/],
      ],
      [{ identifiers: [who] }, [/^known ids: it has 1, this one 0$/]],
      [{ identifiers: [who], known: { one: [B] } }, [/^known ids: as many, but others$/]],
      [
        { identifiers: [who, { ...who, value: `${who.value}z` }], known: { one: [A] } },
        [/^identifiers: the same kinds/],
      ],
      [
        { identifiers: [who], known: { one: [A] }, acceptUnlabelled: 1, expectAtMost: 5, dryRun: true },
        [
          /^acceptUnlabelled: it has 0, this one 1$/,
          /^expectAtMost: it has none, this one 5$/,
          /^dryRun: it has false/,
        ],
      ],
      [{ identifiers: [who], known: { one: [A] }, dueAt: '2026-10-20T00:00:00Z' }, [/^dueAt: it is due 2026-11-02/]],
      [{ identifiers: [who], known: { one: [A] }, receivedAt: '2026-10-01T00:00:00Z' }, [/^receivedAt: .*earlier/]],
    ];
    for (const [request, expected] of cases) {
      const conflict = await conflictOf(client.erase(request));
      expect(conflict).toMatchObject({ reason: 'scope', requestId });
      expect(conflict.differences).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
      expect(conflict.message).not.toContain(who.value);
    }
    expect(await client.list()).toHaveLength(1);
  });

  test('a later receipt of the same request joins: the earlier one counts', async () => {
    const client = clientOf();
    const who = person();
    const first = await erase(client, { identifiers: [who], receivedAt: '2026-10-02T00:00:00Z' });
    const second = await erase(client, { identifiers: [who], receivedAt: '2026-10-03T00:00:00Z' });
    expect(second).toMatchObject({ joined: true, requestId: first.requestId });
    expect((await second.status()).receivedAt).toBe('2026-10-02T00:00:00.000Z');
  });

  test('a request id seen before returns that request; with other content it is an error', async () => {
    const client = clientOf();
    const who = person();
    const requestId = freshId();
    const first = await erase(client, { identifiers: [who], requestId });
    expect(await erase(client, { identifiers: [who], requestId })).toMatchObject({ joined: true, requestId });
    const other = await conflictOf(client.erase({ identifiers: [person()], requestId }));
    expect(other).toMatchObject({ reason: 'request-id', requestId });
    expect(other.differences).toEqual([expect.stringMatching(/same kinds with other values/)]);
    expect(await client.list()).toHaveLength(1);

    // Also when it has ended: nothing is started anew under the same id.
    await client.temporal.workflow.getHandle(first.workflowId).terminate();
    const again = await erase(client, { identifiers: [who], requestId });
    expect(again).toMatchObject({ joined: true, requestId, workflowId: first.workflowId });
    await expect(client.erase({ identifiers: [person()], requestId })).rejects.toThrow(RequestConflictError);
    expect(await client.list({ status: 'planning' })).toEqual([]);
  });

  test('P24: a join that no worker confirmed is not told as done when the request ended without it', async () => {
    const client = clientOf();
    const who = person();
    const first = await erase(client, { identifiers: [who] });
    const requestId = freshId();
    const second = await erase(client, { identifiers: [who], requestId });
    expect(second).toMatchObject({ joined: true, workflowId: first.workflowId });
    await client.temporal.workflow.getHandle(first.workflowId).terminate();
    expect(await first.result()).toMatchObject({ requestId: first.requestId, joinedRequests: [] });
    const error: unknown = await second.result().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NotJoinedError);
    expect(error).toMatchObject({ requestId, askedOf: first.requestId });
    expect(String(error)).not.toContain(who.value);
    // Asked again, it is a request of its own.
    expect(await erase(client, { identifiers: [who], requestId })).toMatchObject({ requestId, joined: false });
  });

  test('a due date that has passed joins the request it belongs to, and begins none', async () => {
    const client = clientOf();
    const who = person();
    const dueAt = '2026-10-20T00:00:00Z';
    await expect(client.erase({ identifiers: [who], dueAt })).rejects.toThrow(/dueAt: is not after the receipt/);
    expect(await client.list()).toEqual([]);
    const first = await erase(client, { identifiers: [who], receivedAt: '2026-10-02T00:00:00Z', dueAt });
    expect(await client.erase({ identifiers: [who], dueAt })).toMatchObject({
      joined: true,
      requestId: first.requestId,
    });
  });

  test('an ended request does not stand in the way of a new one', async () => {
    const client = clientOf();
    const who = person();
    const first = await erase(client, { identifiers: [who] });
    await client.temporal.workflow.getHandle(first.workflowId).terminate();
    const second = await erase(client, { identifiers: [who] });
    expect(second).toMatchObject({ joined: false, workflowId: first.workflowId });
    expect(second.requestId).not.toBe(first.requestId);
    // Each handle speaks of its own request.
    expect((await first.status()).requestId).toBe(first.requestId);
    expect((await second.status()).requestId).toBe(second.requestId);
    expect((await client.status(first.requestId)).requestId).toBe(first.requestId);
  });

  test('a request id that only the record knows returns its outcome', async () => {
    const client = clientOf();
    const who = person();
    const requestId = freshId();
    // What the record must hold is what a start would have sent.
    const probe = await erase(client, { identifiers: [who] });
    const described = await client.temporal.workflow.getHandle(probe.workflowId).describe();
    const { scopeDigest } = described.memo!['letheScope'] as { scopeDigest: string };
    await client.temporal.workflow.getHandle(probe.workflowId).terminate();
    await closedRecord(client.config, requestId, probe.workflowId, scopeDigest);

    const again = await erase(client, { identifiers: [who], requestId });
    expect(again).toMatchObject({ joined: true, requestId });
    const status = await again.status();
    expect(requestStatusSchema.parse(status)).toMatchObject({
      requestId,
      status: 'nothing-found',
      endedAt: '2026-03-01T00:00:00.000Z',
      overdue: false,
    });
    expect(await again.result()).toEqual(status);
    expect(await client.status(requestId)).toEqual(status);
    expect((await client.list()).map((one) => one.requestId)).toContain(requestId);
    expect((await client.report(requestId)).outcome?.verdict).toBe('nothing-found');
    const [answer] = await client.retry(requestId, BY);
    expect(answer).toMatchObject({ delivered: 'none', text: expect.stringMatching(/has ended \(nothing-found\)/) });
    await expect(client.erase({ identifiers: [person()], requestId })).rejects.toThrow(/request id .* was used before/);
  });

  test('twenty starters at once start one request', async () => {
    const client = clientOf();
    const who = person();
    const erasures = await Promise.all(Array.from({ length: 20 }, () => erase(client, { identifiers: [who] })));
    expect(new Set(erasures.map(({ requestId }) => requestId)).size).toBe(1);
    expect(erasures.filter(({ joined }) => !joined)).toHaveLength(1);
    expect(await client.list()).toHaveLength(1);
  });

  test('two scopes started at once: one runs, the other is refused', async () => {
    const client = clientOf();
    const who = person();
    const results = await Promise.allSettled([
      erase(client, { identifiers: [who], connections: ['one'] }),
      erase(client, { identifiers: [who], connections: ['two'] }),
    ]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const refused = results.find((result) => result.status === 'rejected');
    expect(refused?.reason).toBeInstanceOf(RequestConflictError);
  });

  test('one request id given to two people at once: at most one of them keeps it', async () => {
    const client = clientOf();
    const requestId = freshId();
    const results = await Promise.allSettled([
      erase(client, { identifiers: [person()], requestId }),
      erase(client, { identifiers: [person()], requestId }),
    ]);
    const open = (await client.list()).filter(
      ({ connections }) => !Object.values(connections).some(({ attention }) => attention !== null),
    );
    expect(open).toHaveLength(1);
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1);
  });
});

describe('what the server holds', () => {
  test('a terminated workflow needs an operator, whatever it wrote last (P26)', async () => {
    const client = clientOf();
    const { requestId, workflowId, ...erasure } = await erase(client, { identifiers: [person()] });
    await client.temporal.workflow.getHandle(workflowId).terminate();
    const status = await client.status(requestId);
    expect(status.status).toBe('needs-operator');
    expect(status.connections['one']?.attention?.reason).toBe('workflow-lost');
    expect(await erasure.status()).toMatchObject({ status: 'needs-operator' });
    expect(await erasure.result()).toMatchObject({ status: 'needs-operator' });
    expect(await client.list({ status: 'needs-operator' })).toHaveLength(1);
    const [answer] = await client.hold(requestId, BY);
    expect(answer).toMatchObject({ delivered: 'none', text: expect.stringMatching(/ended from outside/) });
  });

  test('what other keys wrote is named, and hides nothing else', async () => {
    const config = configOf();
    const client = clientOf(config);
    const stranger = clientOf(config, deriveKeys(secrets()));
    const theirs = await erase(stranger, { identifiers: [person()] });
    const { requestId } = await erase(client, { identifiers: [person()] });
    let unreadable: string[] = [];
    const look = async (): Promise<readonly string[]> => {
      unreadable = [];
      return (await client.list({}, (workflowId) => unreadable.push(workflowId))).map((status) => status.requestId);
    };
    // The server's list shows what was started a moment later; bounded by the test's own time.
    while ((await look()).length + unreadable.length < 2) await sleep(20);
    expect(await look()).toEqual([requestId]);
    expect(unreadable).toEqual([theirs.workflowId]);
    await expect(client.status(theirs.requestId)).rejects.toThrow(UnreadableStateError);
    expect((await client.status(requestId)).status).toBe('planning');
  });

  test('an unknown id is an error that says where was looked', async () => {
    const client = clientOf();
    for (const id of ['nope', 'x" OR "1"="1', '../../etc/passwd', '']) {
      await expect(client.status(id)).rejects.toThrow(UnknownRequestError);
      await expect(client.report(id)).rejects.toThrow(UnknownRequestError);
      await expect(client.retry(id, BY)).rejects.toThrow(UnknownRequestError);
    }
  });
});

describe('verbs without a worker', () => {
  test('go as signals and say so', async () => {
    const client = clientOf();
    const erasure = await erase(client, { identifiers: [person()] });
    for (const verb of ['retry', 'checkNow', 'hold', 'release', 'abandon'] as const) {
      expect(await erasure[verb](BY)).toMatchObject({
        verb,
        requestId: erasure.requestId,
        delivered: 'signal',
        receipt: null,
        text: expect.stringMatching(/no worker is up/),
      });
    }
    const { events } = await client.temporal.workflow.getHandle(erasure.workflowId).fetchHistory();
    const signals = (events ?? []).flatMap((event) => event.workflowExecutionSignaledEventAttributes?.signalName ?? []);
    expect(signals).toEqual(['retry', 'checkNow', 'hold', 'release', 'abandon']);
  });

  test('fall back to a signal when nobody answers in time, under the same id', async () => {
    const client = clientOf();
    const { requestId, workflowId } = await erase(client, { identifiers: [person()] });
    const alive = jest.spyOn(client, 'hasWorkflowPoller').mockResolvedValue(true);
    const [answer] = await client.retry(requestId, BY);
    alive.mockRestore();
    expect(answer).toMatchObject({ delivered: 'signal', text: expect.stringMatching(/no worker answered in time/) });
    const { events } = await client.temporal.workflow.getHandle(workflowId).fetchHistory();
    expect((events ?? []).filter((event) => event.workflowExecutionSignaledEventAttributes)).toHaveLength(1);
  }, 30_000);

  test.each([
    ['nobody asks', { requestedBy: ' ', reason: 'x' }],
    ['no reason', { requestedBy: 'ann', reason: '' }],
    ['an unknown field', { ...BY, force: true }],
  ])('nonsense is refused: %s', async (_name, message) => {
    const client = clientOf();
    const { requestId } = await erase(client, { identifiers: [person()] });
    await expect(client.retry(requestId, message)).rejects.toThrow(InvalidRequestError);
  });

  test('a connection that the request does not have is refused', async () => {
    const client = clientOf();
    const { requestId } = await erase(client, { identifiers: [person()], connections: ['one'] });
    const [answer] = await client.hold(requestId, { ...BY, connection: 'two' });
    expect(answer).toMatchObject({ delivered: 'none', text: expect.stringMatching(/no connection "two", only one/) });
  });

  test('P36: a filter needs what it expects, and sends nothing when the number differs', async () => {
    const client = clientOf();
    const both = await erase(client, { identifiers: [person()] });
    const two = await erase(client, { identifiers: [person()], connections: ['two'] });
    const ended = await erase(client, { identifiers: [person()] });
    await client.temporal.workflow.getHandle(ended.workflowId).terminate();
    // The server's list follows a moment later.
    const running = `WorkflowId = "${ended.workflowId}" AND ExecutionStatus = "Running"`;
    while ((await client.temporal.workflow.count(running)).count > 0) await sleep(20);

    await expect(client.hold({ expect: 2 }, BY)).rejects.toThrow(/must name a status or a connection/);
    await expect(client.hold({ connection: 'two' } as never, BY)).rejects.toThrow(/must say how many/);
    await expect(client.hold({ status: 'planning', expect: 3 }, BY)).rejects.toThrow(SelectionError);
    await expect(client.hold({ status: 'planning', connection: 'one', expect: 2 }, BY)).rejects.toThrow(
      /matches 1 open request, not the 2 expected/,
    );
    const signals = async ({ workflowId }: Erasure) =>
      ((await client.temporal.workflow.getHandle(workflowId).fetchHistory()).events ?? []).filter(
        (event) => event.workflowExecutionSignaledEventAttributes,
      ).length;
    expect(await signals(both)).toBe(0);
    expect(await signals(two)).toBe(0);

    const answers = await client.hold({ status: 'planning', expect: 2 }, BY);
    expect(answers.map(({ requestId }) => requestId).sort()).toEqual([both.requestId, two.requestId].sort());
    expect(answers.every(({ delivered }) => delivered === 'signal')).toBe(true);
    expect(await signals(both)).toBe(1);
    expect(await signals(two)).toBe(1);
    expect(await signals(ended)).toBe(0);
    expect(await client.hold({ status: 'waiting', expect: 0 }, BY)).toEqual([]);
  });
});

async function closedRecord(
  config: LetheConfig,
  requestId: string,
  workflowId: string,
  scopeDigest: string,
): Promise<void> {
  const records = new DirectoryRecords({ stateDir: config.stateDir });
  const request: OpenRecord = {
    format: 'lethe-record/1',
    requestId,
    workflowId,
    scopeDigest,
    receivedAt: '2026-02-10T00:00:00.000Z',
    dueAt: '2026-03-10T00:00:00.000Z',
    dryRun: false,
    connections: ['one'],
    identifierKinds: ['user_id'],
    startedAt: '2026-02-10T00:00:01.000Z',
    clock: null,
    versions: { lethe: '0.0.0', node: '24' },
  };
  await records.open(request, []);
  const zero = { total: 0, resolved: 0, neverMatched: 0, unresolved: 0, wrongKind: 0, duplicate: 0 };
  await records.close(requestId, {
    workflowId,
    endedAt: '2026-03-01T00:00:00.000Z',
    verdict: 'nothing-found',
    dryRun: false,
    lanes: {
      one: {
        verdict: 'nothing-found',
        round: 0,
        given: zero,
        traces: {
          matched: 0,
          pending: 0,
          verifiedAbsent: 0,
          goneBeforeSubmit: 0,
          survived: 0,
          shared: 0,
          linked: 0,
          inconclusive: 0,
          abandoned: 0,
        },
        copies: { found: 0, erased: 0, manual: 0, outOfReach: 0, inconclusive: 0, abandoned: 0, notExamined: [] },
        exceptions: [],
      },
    },
    verbs: [],
  });
}
