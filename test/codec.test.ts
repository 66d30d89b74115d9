import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Client, WorkflowFailedError } from '@temporalio/client';
import type { Connection } from '@temporalio/client';
import type { Payload } from '@temporalio/common';
import { ApplicationFailure, defaultPayloadConverter } from '@temporalio/common';
import proto from '@temporalio/proto';
import { NativeConnection, Worker } from '@temporalio/worker';
import { CodecError, createDataConverter, EncryptionCodec, isMarkedPersonal } from '../src/temporal/codec.ts';
import { startCodecServer } from '../src/temporal/codec-server.ts';
import type { CodecServer } from '../src/temporal/codec-server.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import type { Keys } from '../src/vault/keys.ts';
import { connectToSharedServer, quietTemporal, sharedServer, uniqueTaskQueue } from './support/temporal.ts';
import type { leaky } from './support/failing-workflow.ts';

const CANARY = 'canary-person@example.org';
const UI = 'http://127.0.0.1:8233';

const { History } = proto.temporal.api.history.v1;
const PayloadProto = proto.temporal.api.common.v1.Payload;

function freshKeys(): Keys {
  return deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
}

const keys = freshKeys();
const codec = new EncryptionCodec(keys);

const input = {
  requestId: 'req-1',
  subject: [
    { kind: 'user_id', value: CANARY },
    { kind: 'email', value: 'canary@b.c' },
  ],
  known: { 'langsmith-prod': ['canary-id-1', 'canary-id-2'] },
};

function plain(value: unknown): Payload {
  return defaultPayloadConverter.toPayload(value);
}

async function encoded(value: unknown, by = codec): Promise<Payload> {
  const [payload] = await by.encode([plain(value)]);
  if (payload === undefined) throw new Error('nothing was encoded');
  return payload;
}

async function decoded(payload: Payload, by = codec): Promise<unknown> {
  const [one] = await by.decode([payload]);
  return one === undefined ? undefined : defaultPayloadConverter.fromPayload(one);
}

/** As a server would store it and give it back. */
function overTheWire(payload: Payload): Payload {
  return PayloadProto.decode(PayloadProto.encode(payload).finish());
}

describe('codec', () => {
  test.each([
    ['an object', { a: 1, b: ['ü', null] }],
    ['a short text', 'until Mon 30 Nov 12:00 UTC'],
    ['a long text', 'x'.repeat(10_000)],
    ['noise', randomBytes(2000).toString('base64')],
    ['bytes', new Uint8Array(randomBytes(500))],
    ['null', null],
    ['nothing', undefined],
    ['the empty text', ''],
  ])('gives back %s', async (_name, value) => {
    const payload = overTheWire(await encoded(value));
    expect(Buffer.from(payload.metadata?.['encoding'] ?? []).toString()).toBe('binary/encrypted');
    expect(await decoded(payload)).toEqual(value);
  });

  test('P31: nothing of the content shows, and equal contents look different', async () => {
    const [first, second] = [await encoded(input), await encoded(input)];
    for (const payload of [first, second]) {
      expect(Buffer.from(PayloadProto.encode(payload).finish()).includes('canary')).toBe(false);
    }
    expect(Buffer.from(first.data ?? []).equals(Buffer.from(second.data ?? []))).toBe(false);
  });

  test('compresses what is worth it and adds little to a summary, which the server limits', async () => {
    const large = Array.from({ length: 1000 }, (_, index) => ({ connection: 'langsmith-prod', index }));
    const bytes = (payload: Payload): number => PayloadProto.encode(payload).finish().length;
    expect(bytes(await encoded(large))).toBeLessThan(bytes(plain(large)) / 3);
    expect(bytes(await encoded('langsmith-prod · round 2 · batch 3/7 · 1,000 traces'))).toBeLessThan(250);
  });

  test('payloads from before the keys pass through, and nothing is encrypted twice', async () => {
    expect(await codec.decode([plain(input)])).toEqual([plain(input)]);
    const once = await encoded(input);
    expect(await codec.encode([once])).toEqual([once]);
    expect(await codec.encode([])).toEqual([]);
  });

  test('another key is named, and damage is noticed, the clear metadata included', async () => {
    const stranger = new EncryptionCodec(freshKeys());
    const payload = await encoded(input);
    await expect(stranger.decode([payload])).rejects.toThrow(CodecError);
    await expect(stranger.decode([payload])).rejects.toThrow(
      new RegExp(`another keys\\.vault \\(key ${keys.keyIds.codec}`),
    );
    for (let at = 0; at < (payload.data?.length ?? 0); at += 7) {
      const data = Buffer.from(payload.data ?? []);
      data[at] = (data[at] ?? 0) ^ 1;
      await expect(codec.decode([{ ...payload, data }])).rejects.toThrow(/damaged/);
    }
    const { 'lethe-class': _class, ...metadata } = payload.metadata ?? {};
    await expect(codec.decode([{ ...payload, metadata }])).rejects.toThrow(/damaged/);
    await expect(codec.decode([{ ...payload, data: new Uint8Array(5) }])).rejects.toThrow(/damaged/);
  });

  test('payloads that carry a person are marked, at any depth, and no others', async () => {
    const marked = async (value: unknown): Promise<boolean> => isMarkedPersonal(overTheWire(await encoded(value)));
    expect(await marked(input)).toBe(true);
    expect(await marked({ requestId: 'r', known: ['x'] })).toBe(true);
    expect(await marked({ carried: [{ input }] })).toBe(true);
    expect(await marked({ requestId: 'r', kinds: ['user_id'] })).toBe(false);
    expect(await marked('a text about "subject" and "known"')).toBe(false);
    expect(await marked({ text: 'a text about "subject"' })).toBe(false);
  });

  test('without keys nothing is encrypted', () => {
    expect(createDataConverter(null)).toEqual({});
  });
});

describe('codec server', () => {
  let server: CodecServer;

  beforeAll(async () => {
    server = await startCodecServer({ keys, uiOrigin: UI });
  });
  afterAll(() => server.close());

  interface Answer {
    readonly status: number;
    readonly headers: Headers;
    readonly payloads: readonly Payload[];
  }

  /** Speaks the protocol as the UI does: proto3 JSON, every byte field in base64. */
  async function ask(
    path: string,
    payloads: readonly Payload[],
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
    const response = await fetch(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-namespace': 'lethe', origin: UI, ...headers },
      body: JSON.stringify({
        payloads: payloads.map((payload) => ({
          metadata: Object.fromEntries(
            Object.entries(payload.metadata ?? {}).map(([name, value]) => [name, base64(value)]),
          ),
          data: base64(payload.data ?? new Uint8Array()),
        })),
      }),
    });
    const body = (await response.json()) as { payloads?: { metadata: Record<string, string>; data?: string }[] };
    return {
      status: response.status,
      headers: response.headers,
      payloads: (body.payloads ?? []).map(({ metadata, data }) =>
        PayloadProto.fromObject({ metadata, ...(data === undefined ? {} : { data }) }),
      ),
    };
  }

  async function shown(value: unknown): Promise<unknown> {
    const { payloads } = await ask('/decode', [await encoded(value)]);
    return payloads[0] === undefined ? undefined : defaultPayloadConverter.fromPayload(payloads[0]);
  }

  test('shows summaries, memos and updates as they are', async () => {
    const memo = { status: 'waiting', connections: { 'langsmith-prod': { round: 2, given: { total: 3 } } } };
    for (const value of ['batch 3/7', memo, { requestedBy: 'ops', reason: 'asked' }, null, 7]) {
      expect(await shown(value)).toEqual(value);
    }
    const { payloads } = await ask('/lethe/decode', [await encoded('one'), await encoded('two')]);
    expect(payloads.map((payload) => defaultPayloadConverter.fromPayload(payload))).toEqual(['one', 'two']);
  });

  test('P31: the person stays hidden, at any depth: kinds and counts only', async () => {
    const hidden = {
      requestId: 'req-1',
      subject: '<hidden: user_id, email>',
      known: { 'langsmith-prod': '<hidden: 2 ids>' },
    };
    expect(await shown(input)).toEqual(hidden);
    expect(await shown({ carried: [input], round: 2 })).toEqual({ carried: [hidden], round: 2 });
    expect(await shown({ subject: [], known: ['canary-id-1'] })).toEqual({
      subject: '<hidden: 0 ids>',
      known: '<hidden: 1 ids>',
    });
    expect(await shown({ subject: CANARY, known: 40 })).toEqual({ subject: '<hidden: a value>', known: 40 });
  });

  test('plain payloads pass through, and what cannot be decrypted comes back as it was', async () => {
    const foreign = await encoded('x', new EncryptionCodec(freshKeys()));
    const damaged = { ...(await encoded('x')), data: Buffer.from('short') };
    const { payloads } = await ask('/decode', [plain('clear'), foreign, damaged, await encoded('ours')]);
    expect(payloads[0]).toEqual(overTheWire(plain('clear')));
    expect(payloads[1]).toEqual(overTheWire(foreign));
    expect(payloads[2]).toEqual(overTheWire(damaged));
    expect(payloads[3] && defaultPayloadConverter.fromPayload(payloads[3])).toBe('ours');
  });

  test('an update from the dialog of the UI is encrypted', async () => {
    const message = { requestedBy: 'ops', reason: 'asked by the person' };
    const { payloads } = await ask('/encode', [plain(message)]);
    const [payload] = payloads;
    if (payload === undefined) throw new Error('nothing came back');
    expect(Buffer.from(payload.data ?? []).includes('asked')).toBe(false);
    expect(await decoded(payload)).toEqual(message);
  });

  test('what was shown hidden is not taken back as if it were real', async () => {
    const { status, payloads } = await ask('/encode', [plain(await shown(input))]);
    expect([status, payloads]).toEqual([400, []]);
  });

  test('only pages of the UI may ask', async () => {
    const payload = await encoded('x');
    for (const origin of [UI, 'http://localhost:8233']) {
      const { status, headers } = await ask('/decode', [payload], { origin });
      expect([status, headers.get('access-control-allow-origin')]).toEqual([200, origin]);
    }
    for (const origin of ['http://127.0.0.1:9999', 'https://example.org', 'null']) {
      const { status, headers, payloads } = await ask('/decode', [payload], { origin });
      expect([status, headers.get('access-control-allow-origin'), payloads]).toEqual([403, null, []]);
    }
    const preflight = await fetch(`${server.url}/decode`, {
      method: 'OPTIONS',
      headers: { origin: UI, 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-namespace' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('x-namespace');
  });

  test('P31: nonsense is refused, and not repeated', async () => {
    for (const body of [`{"payloads":"${CANARY}"}`, `{"payloads":[{"data":"${CANARY}"}]}`, CANARY, '[]', 'null']) {
      const response = await fetch(`${server.url}/decode`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', origin: UI },
        body,
      });
      expect(response.status).toBe(400);
      expect(await response.text()).not.toContain('canary');
    }
  });
});

describe('on a Temporal server', () => {
  let connection: Connection;
  let native: NativeConnection;

  beforeAll(async () => {
    quietTemporal();
    connection = await connectToSharedServer();
    native = await NativeConnection.connect({ address: sharedServer().address });
  });
  afterAll(async () => {
    await native.close();
    await connection.close();
  });

  test('P31: inputs, summaries, updates and failures, their messages and stacks, show in no history', async () => {
    const { namespace } = sharedServer();
    const taskQueue = uniqueTaskQueue('codec');
    const dataConverter = createDataConverter(keys);
    const client = new Client({ connection, namespace, dataConverter });
    const worker = await Worker.create({
      connection: native,
      namespace,
      taskQueue,
      dataConverter,
      workflowsPath: fileURLToPath(new URL('support/failing-workflow.ts', import.meta.url)),
      activities: {
        fail: (text: string) => Promise.reject(ApplicationFailure.nonRetryable(`no such user ${text}`, 'NoSuchUser')),
      },
    });
    await worker.runUntil(async () => {
      const handle = await client.workflow.start<typeof leaky>('leaky', {
        taskQueue,
        workflowId: taskQueue,
        args: [input],
        memo: { note: CANARY },
        staticSummary: CANARY,
        staticDetails: CANARY,
      });
      const answer = await handle.executeUpdate<string, [{ readonly reason: string }]>('goOn', {
        args: [{ reason: CANARY }],
      });
      expect(answer).toBe(`${CANARY} ${CANARY}`);
      // Whoever has the keys sees everything.
      const failure = await handle.result().catch((error: unknown) => error);
      if (!(failure instanceof WorkflowFailedError)) throw failure;
      expect(failure.cause?.message).toBe(`failed for ${CANARY}`);
      expect((await handle.describe()).memo).toEqual({ note: CANARY });

      const history = await handle.fetchHistory();
      const bytes = Buffer.from(History.encode(history).finish());
      expect(history.events?.length).toBeGreaterThan(15);
      expect(bytes.includes('Encoded failure')).toBe(true);
      expect(bytes.includes('canary')).toBe(false);
    });
  });
});
