import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { signWebhook, verifyWebhook, webhookKey } from '../src/activities/webhook.ts';
import { parseConfig, type ConfigInput } from '../src/config/config.ts';
import { ConfigError } from '../src/config/errors.ts';
import {
  EVENT_KINDS,
  eventsOf,
  isRaisedAgain,
  NOTIFY_WORKFLOW,
  type EventKind,
  type StatusEvent,
  type WebhookBody,
} from '../src/erasure/events.ts';
import { connectionStatus, newLane } from '../src/erasure/lane.ts';
import { HOUR_MS } from '../src/erasure/rhythm.ts';
import type { ConnectionStatus, RequestStatus } from '../src/erasure/status.ts';
import { CONNECTION, World, type WorldOptions } from './support/world.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const CANARY = 'canary-7f3a@example.org';

interface Delivery {
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly body: WebhookBody;
  readonly path: string;
}

/** Receives webhooks and answers what the test says. */
class Receiver {
  readonly deliveries: Delivery[] = [];
  readonly url: string;
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  }

  static async start(
    answer: (delivery: Delivery, nth: number) => { status: number; location?: string },
  ): Promise<Receiver> {
    const held: { receiver?: Receiver } = {};
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const { headers, url: path = '' } = request;
        const delivery = { headers, text, body: JSON.parse(text) as WebhookBody, path };
        held.receiver?.deliveries.push(delivery);
        const { status, location } = answer(delivery, held.receiver?.deliveries.length ?? 0);
        response.writeHead(status, location === undefined ? {} : { location }).end('vendor words');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    held.receiver = new Receiver(server);
    return held.receiver;
  }

  of(event: EventKind): readonly Delivery[] {
    return this.deliveries.filter(({ body }) => body.event === event);
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

jest.setTimeout(120_000);

let world: World | null = null;
let receiver: Receiver | null = null;
afterEach(async () => {
  await world?.close();
  await receiver?.close();
  world = null;
  receiver = null;
});

async function notifying(
  title: string,
  answer: (delivery: Delivery, nth: number) => { status: number; location?: string },
  options: Pick<WorldOptions, 'speed' | 'start'> & {
    readonly events?: EventKind[];
    readonly policy?: ConfigInput['policy'];
  } = {},
): Promise<readonly [World, Receiver]> {
  const to = await Receiver.start(answer);
  receiver = to;
  const { events, policy } = options;
  world = await World.start(title, {
    ...(options.speed === undefined ? {} : { speed: options.speed }),
    ...(options.start === undefined ? {} : { start: options.start }),
    config: (base) => ({
      ...base,
      ...(policy === undefined ? {} : { policy }),
      notify: { url: to.url, secret: SECRET, ...(events === undefined ? {} : { events }) },
    }),
  });
  return [world, to];
}

/** Polls until it holds. Bounded by the test's own time limit. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(20);
}

/** Status of the workflow that delivers one webhook, or null before it has begun. */
async function notifyStatus(at: World, workflowId: string): Promise<string | null> {
  try {
    return (await at.client.temporal.workflow.getHandle(workflowId).describe()).status.name;
  } catch {
    return null;
  }
}

function status(more: Partial<RequestStatus> = {}, lane: Partial<ConnectionStatus> = {}): RequestStatus {
  return {
    requestId: 'r-1',
    workflowId: 'erase-1',
    status: 'waiting',
    overdue: false,
    receivedAt: '2026-11-27T20:00:00.000Z',
    dueAt: '2026-12-27T20:00:00.000Z',
    law: null,
    zone: null,
    confirmBy: null,
    extension: null,
    joinedRequests: [],
    atRisk: false,
    atRiskReason: null,
    endedAt: null,
    dryRun: false,
    simulated: false,
    exceptions: [],
    connections: { [CONNECTION]: { ...connectionStatus(newLane(CONNECTION, 0), 0), ...lane } },
    ...more,
  };
}

const denied = { reason: 'denied', since: '2026-11-27T20:00:00.000Z', next: 'mend the key' };

describe('events', () => {
  test('what is so at the first look has just happened, and what stays so has not', () => {
    const flagged = status({ overdue: true }, { attention: denied });
    expect(eventsOf(null, flagged).map(({ kind, key }) => [kind, key])).toEqual([
      ['flagged', `flagged/${CONNECTION}/denied`],
      ['overdue', 'overdue'],
    ]);
    expect(eventsOf(flagged, flagged)).toEqual([]);
    expect(eventsOf(null, status())).toEqual([]);
  });

  test('another reason of the same lane is another event, and a flag that goes is none', () => {
    const other = { ...denied, reason: 'survivors' };
    expect(eventsOf(status({}, { attention: denied }), status({}, { attention: other }))).toEqual([
      {
        kind: 'flagged',
        connection: CONNECTION,
        reason: 'survivors',
        key: `flagged/${CONNECTION}/survivors`,
        since: other.since,
      },
    ]);
    expect(eventsOf(status({}, { attention: denied }), status())).toEqual([]);
  });

  test('P26: a flag that was raised again is news: at once where only a person can go on, else after a day', () => {
    const flagAt = (reason: string, at: number) => {
      const attention = { reason, since: new Date(at).toISOString(), next: '' };
      const [event] = eventsOf(null, status({}, { attention }));
      if (event === undefined) throw new Error('no event');
      return event;
    };
    const T0 = Date.UTC(2026, 10, 27, 20);
    const told = (event: StatusEvent) => ({ [event.key]: event.since ?? '' });
    for (const reason of ['approval', 'hold-expired']) {
      const first = flagAt(reason, T0);
      expect(isRaisedAgain(first, told(first))).toBe(false);
      expect(isRaisedAgain(flagAt(reason, T0 + HOUR_MS), told(first))).toBe(true);
    }
    const first = flagAt('denied', T0);
    expect(isRaisedAgain(flagAt('denied', T0 + 23 * HOUR_MS), told(first))).toBe(false);
    expect(isRaisedAgain(flagAt('denied', T0 + 24 * HOUR_MS), told(first))).toBe(true);
    // Told by an earlier release, which did not keep since when it stood.
    expect(isRaisedAgain(first, {})).toBe(false);
  });

  test('the end and being at risk are told when they come', () => {
    const ended = status({ status: 'verified', endedAt: '2026-12-08T00:00:00.000Z' });
    expect(eventsOf(status(), ended).map(({ kind }) => kind)).toEqual(['ended']);
    const risky = { ...status(), atRisk: true } as RequestStatus;
    expect(eventsOf(status(), risky).map(({ kind }) => kind)).toEqual(['at-risk']);
    expect(eventsOf(risky, risky)).toEqual([]);
  });
});

describe('signatures', () => {
  const body = '{"event":"ended"}';
  const key = webhookKey(SECRET) as Buffer;

  test('the example of the Standard Webhooks libraries has the signature that they state', () => {
    // The test vector of the reference libraries: message id, time stamp, payload, secret and signature.
    const headers = signWebhook('msg_p5jXN8AQM9LWM0D4loKWxJek', 1_614_265_330_000, '{"test": 2432232314}', key);
    expect(headers['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });

  test('what was signed is verified, under any spelling of the headers and beside other signatures', () => {
    const now = Date.UTC(2026, 11, 1);
    const headers = signWebhook('msg_1', now, body, key);
    expect(verifyWebhook({ ...headers }, body, SECRET, { nowMs: now })).toBe(true);
    expect(verifyWebhook({ ...headers }, Buffer.from(body), SECRET.slice('whsec_'.length), { nowMs: now })).toBe(true);
    const capitals = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
    expect(verifyWebhook(capitals, body, SECRET, { nowMs: now })).toBe(true);
    const several = { ...headers, 'webhook-signature': `v1a,AAAA v1,AAAA ${headers['webhook-signature']}` };
    expect(verifyWebhook(several, body, SECRET, { nowMs: now })).toBe(true);
  });

  test('anything changed, missing, old or signed by somebody else is refused', () => {
    const now = Date.UTC(2026, 11, 1);
    const headers = signWebhook('msg_1', now, body, key);
    const refused = (changes: Record<string, string | undefined>, text = body, secret = SECRET, nowMs = now): void => {
      expect(verifyWebhook({ ...headers, ...changes }, text, secret, { nowMs })).toBe(false);
    };
    refused({}, `${body} `);
    refused({ 'webhook-id': 'msg_2' });
    refused({ 'webhook-timestamp': String(now / 1000 + 1) });
    refused({ 'webhook-timestamp': 'yesterday' });
    refused({ 'webhook-signature': undefined });
    refused({ 'webhook-signature': headers['webhook-signature'].replace('v1,', 'v2,') });
    refused({}, body, Buffer.alloc(32, 7).toString('base64'));
    refused({}, body, SECRET, now + 6 * 60_000);
    refused({}, body, SECRET, now - 6 * 60_000);
    expect(() => verifyWebhook({ ...headers }, body, 'short')).toThrow(RangeError);
  });
});

describe('the section notify of the config', () => {
  const base: ConfigInput = {
    keys: { hmac: '0123456789abcdef'.repeat(4), vault: 'fedcba9876543210'.repeat(4) },
    identifiers: ['user_id'],
    connections: {
      prod: { store: 'langsmith', baseUrl: undefined, apiKey: 'k', identifiers: { user_id: ['metadata.user_id'] } },
    },
  };
  const parse = (more: Partial<ConfigInput>, storeSecrets = true): ReturnType<typeof parseConfig> =>
    parseConfig({ ...base, ...more }, { env: { HOME: '/nonexistent' }, storeSecrets });

  test('fills in every event, and orders the days of aftercare', () => {
    const config = parse({
      notify: { url: 'https://example.org/hook', secret: SECRET },
      policy: { aftercare: ['30 days', '1 day', '1 week', '7 days'] },
    });
    expect(config.notify?.events).toEqual(EVENT_KINDS);
    expect(config.policy.aftercareDays).toEqual([1, 7, 30]);
    expect(parse({}).notify).toBeNull();
  });

  test.each([
    ['http://example.org/hook', SECRET, 'notify.url'],
    ['https://user:secret@example.org/hook', SECRET, 'notify.url'],
    ['ftp://127.0.0.1/hook', SECRET, 'notify.url'],
    ['https://example.org/hook', 'too short', 'notify.secret'],
  ])('refuses %s with the secret %s', (url, secret, path) => {
    try {
      parse({ notify: { url, secret } });
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as ConfigError).problems.map((problem) => problem.path)).toEqual([path]);
      expect((error as ConfigError).message).not.toContain(secret);
      return;
    }
    throw new Error('it was accepted');
  });

  test('refuses an aftercare in months, whose days nobody can tell', () => {
    expect(() => parse({ policy: { aftercare: ['1 month'] } })).toThrow(/policy\.aftercare\[0\]/);
  });

  test('a process that is no worker needs no secret', () => {
    const notify = { url: 'https://example.org/hook', secret: '${LETHE_WEBHOOK_SECRET}' };
    expect(parse({ notify }, false).notify?.events).toEqual(EVENT_KINDS);
    expect(() => parse({ notify })).toThrow(/LETHE_WEBHOOK_SECRET/);
  });
});

describe('webhooks', () => {
  test('P31: a receiver that fails three times gets one event, signed, under one id and without personal data', async () => {
    const [at, to] = await notifying('webhook', (_delivery, nth) => ({ status: nth <= 3 ? 503 : 204 }));
    at.seed([CANARY, 'u_7', 'u_8'], 2);
    const end = await at.eraseToEnd({ identifiers: [{ kind: 'user_id', value: CANARY }], requestId: 'ticket.4711' });
    expect(end.status).toBe('verified');
    const workflowId = 'notify-ticket.4711-ended-1';
    expect(await at.client.temporal.workflow.getHandle(workflowId).result()).toEqual({ status: 204 });
    expect(to.deliveries).toHaveLength(4);
    expect(new Set(to.deliveries.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(to.deliveries.map(({ text }) => text)).size).toBe(1);
    for (const { headers, text, body } of to.deliveries) {
      expect(verifyWebhook(headers, text, SECRET)).toBe(true);
      const [, given] = String(headers['webhook-signature']).split(',');
      const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${text}`;
      const key = Buffer.from(SECRET.slice('whsec_'.length), 'base64');
      expect(given).toBe(createHmac('sha256', key).update(signed).digest('base64'));
      expect(headers['webhook-id']).not.toContain('.');
      expect(body).toEqual({
        event: 'ended',
        requestId: 'ticket.4711',
        workflowId: end.workflowId,
        status: 'verified',
        at: expect.any(String),
        due: end.dueAt,
      });
      expect(`${JSON.stringify(headers)}${text}`).not.toContain('canary');
    }
    // Neither the secret nor the receiver's words are in any history.
    const codec = at.client.temporal.options.loadedDataConverter.payloadCodecs[0]!;
    for (const id of [workflowId, end.workflowId]) {
      const history = await at.client.temporal.workflow.getHandle(id).fetchHistory();
      const raw = JSON.stringify(history);
      expect(raw).not.toContain('canary');
      const payloads = (history.events ?? []).flatMap(
        (event) => event.workflowExecutionStartedEventAttributes?.input?.payloads ?? [],
      );
      const plain = (await codec.decode([...payloads])).map(({ data }) => Buffer.from(data ?? []).toString('utf8'));
      expect(plain.join('\n')).toContain('ticket.4711');
      expect(`${raw}${plain.join('\n')}`).not.toMatch(/MfKQ9r8|vendor words/);
    }
    expect(at.sim.truth.unasked()).toEqual([]);
    for (const other of ['u_7', 'u_8']) expect(at.liveTraces(other)).toHaveLength(2);
  });

  test('a flag is told once for its reason, the passing of the due date when it passes, and unwanted events never', async () => {
    const [at, to] = await notifying('flag', () => ({ status: 200 }), {
      events: ['flagged', 'overdue'],
      speed: 20_000,
      // A Friday so long ago that by the real clock everything is overdue from the beginning.
      start: Date.UTC(2024, 10, 29, 20),
    });
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    at.sim.habits.set({ keyRevoked: 401 });
    // Well after all of this has happened on a busy machine, and before the weekend's window has settled.
    const due = at.now() + 66 * HOUR_MS;
    const erasure = await at.erase({ dueAt: new Date(due).toISOString() });
    await until(() => to.of('flagged').length > 0);
    expect(to.of('flagged')[0]?.body).toMatchObject({
      status: 'needs-operator',
      connection: CONNECTION,
      reason: 'denied',
    });
    at.sim.habits.reset();
    await erasure.retry({ requestedBy: 'ines', reason: 'ticket 4711' });
    await at.until(erasure.requestId, ({ status: now }) => now === 'waiting');
    // It sleeps until the weekend is over: the due date passes meanwhile, and nothing else happens.
    await until(() => to.of('overdue').length > 0);
    const told = to.of('overdue')[0]!.body;
    expect(Date.parse(told.at)).toBeGreaterThan(due);
    expect(told.status).toBe('waiting');
    await erasure.abandon({ requestedBy: 'ines', reason: 'ticket 4711' });
    expect((await erasure.result()).status).toBe('abandoned');
    expect(to.deliveries.map(({ body }) => body.event)).toEqual(['flagged', 'overdue']);
  });

  test('P17 P26: a second stop for approval is told like the first', async () => {
    const to = await Receiver.start(() => ({ status: 200 }));
    receiver = to;
    world = await World.start('second stop', {
      config: (base) => ({
        ...base,
        policy: { ...base.policy, approveAbove: 1 },
        notify: { url: to.url, secret: SECRET, events: ['flagged'] },
      }),
    });
    const at = world;
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId } = await at.erase();
    const waiting = await at.until(requestId, ({ status: now }) => now === 'awaiting-approval');
    await until(() => to.of('flagged').length === 1);
    const plan = waiting.connections[CONNECTION]?.plan;
    const by = { requestedBy: 'ines', reason: 'ticket 4711', connection: CONNECTION };
    await at.client.approve(requestId, { ...by, planDigest: plan?.digest ?? '', atMost: 2 });
    await at.until(requestId, ({ status: now }) => now === 'waiting');
    at.seed(['u_42'], 3);
    await at.until(requestId, ({ status: now }) => now === 'awaiting-approval');
    await until(() => to.of('flagged').length === 2);
    expect(to.of('flagged').map(({ body }) => body.reason)).toEqual(['approval', 'approval']);
    expect(new Set(to.of('flagged').map(({ headers }) => headers['webhook-id'])).size).toBe(2);
    await at.client.send('abandon', requestId, { requestedBy: 'ines', reason: 'ticket 4711' });
    await at.client.result(requestId);
    expect(to.of('flagged')).toHaveLength(2);
    expect(at.sim.truth.unasked()).toEqual([]);
  });

  test('P26: a look after the end that is given up is told, once', async () => {
    const policy = { aftercare: ['20 days'] };
    const [at, to] = await notifying('given up', () => ({ status: 200 }), {
      speed: 400_000,
      events: ['flagged'],
      policy,
    });
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const { requestId, workflowId } = await at.eraseToEnd();
    at.sim.habits.set({ keyRevoked: 403 });
    await until(() => to.deliveries.length > 0);
    await until(async () => (await at.client.status(requestId)).aftercare?.state === 'ended');
    expect(to.deliveries.map(({ body }) => body)).toMatchObject([
      { event: 'flagged', requestId, workflowId, status: 'verified', connection: CONNECTION, reason: 'aftercare' },
    ]);
  });

  test('a redirect is not followed, and one that stays is given up visibly; the erasure ended long before', async () => {
    const [at, to] = await notifying('redirect', (delivery) =>
      delivery.path === '/hook' ? { status: 307, location: '/elsewhere' } : { status: 200 },
    );
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const end = await at.eraseToEnd();
    expect(end.status).toBe('verified');
    const workflowId = `notify-${end.requestId}-ended-1`;
    await until(async () => (await notifyStatus(at, workflowId)) === 'FAILED');
    expect(to.deliveries.length).toBeGreaterThan(1);
    expect(new Set(to.deliveries.map(({ path }) => path))).toEqual(new Set(['/hook']));
    expect((await at.client.status(end.requestId)).status).toBe('verified');
    const report = await at.client.doctor();
    expect(report.checks.find(({ name }) => name === 'webhooks')).toMatchObject({ area: 'requests', level: 'warning' });
    expect((await at.client.list()).map(({ requestId }) => requestId)).toEqual([end.requestId]);
  });

  test('a receiver that is not there never holds up the end', async () => {
    const [at, to] = await notifying('nobody there', () => ({ status: 200 }), { events: ['ended'] });
    await to.close();
    receiver = null;
    at.seed(['u_42', 'u_7', 'u_8'], 2);
    const end = await at.eraseToEnd();
    expect(end.status).toBe('verified');
    expect(await notifyStatus(at, `notify-${end.requestId}-ended-1`)).not.toBeNull();
  });

  test('without the section nothing is told', async () => {
    world = await World.start('silent');
    world.seed(['u_42', 'u_7', 'u_8'], 1);
    const { requestId } = await world.eraseToEnd();
    expect(await notifyStatus(world, `notify-${requestId}-ended-1`)).toBeNull();
    const query = `WorkflowType = "${NOTIFY_WORKFLOW}" AND TaskQueue = "${world.client.taskQueue}"`;
    expect((await world.client.temporal.workflow.count(query)).count).toBe(0);
  });
});
