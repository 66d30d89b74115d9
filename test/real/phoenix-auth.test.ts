import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connectionSchema, openStore } from '../../src/stores/registry.ts';
import { Phoenix } from './support/phoenix.ts';
import { newSpanId, newTraceId } from './support/spans.ts';

const START_MS = 900_000;
const TEST_MS = 120_000;
/** Fixed, so that failures read the same: they protect nothing but this test's server. */
const ADMIN = 'AdminSecretOfATestServer0123456789';
const SECRET = 'SigningSecretOfATestServer01234567';

let server: Phoenix;

beforeAll(async () => {
  server = await Phoenix.start({
    PHOENIX_ENABLE_AUTH: 'true',
    PHOENIX_SECRET: SECRET,
    PHOENIX_ADMIN_SECRET: ADMIN,
    PHOENIX_DEFAULT_ADMIN_INITIAL_PASSWORD: 'Initial-Password-1',
  });
}, START_MS);
afterAll(async () => {
  await server.close();
}, 60_000);

const idle = (): void => undefined;

async function asAdmin(path: string, body: unknown): Promise<{ readonly status: number; readonly json: unknown }> {
  const answer = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: answer.status, json: await answer.json() };
}

function open(apiKey?: string) {
  const config = connectionSchema.parse({
    store: 'phoenix',
    baseUrl: server.url,
    identifiers: { user_id: ['user.id'] },
    ...(apiKey === undefined ? {} : { apiKey }),
  });
  return openStore('phoenix-auth', config, { clock: null });
}

test(
  'P3: without a key, or with a wrong one, nothing is ever "not there"',
  async () => {
    for (const store of [open(), open('wrong')]) {
      await expect(store.projects(idle)).rejects.toMatchObject({ reason: 'denied', status: 401 });
      const projects = [{ id: Buffer.from('Project:1').toString('base64'), name: 'default', type: 'PROJECT' }];
      const terms = [{ kind: 'user_id', keys: ['user.id'], variants: ['u_42'] }];
      const window = { fromMs: 0, toMs: Date.now() };
      for (const finder of store.finders) {
        await expect(finder.find({ projects, terms, window, controls: [], progress: idle })).rejects.toMatchObject({
          reason: 'denied',
        });
      }
    }
  },
  TEST_MS,
);

test(
  'P13: a system key deletes exactly what it read',
  async () => {
    const made = await asAdmin('/v1/system/api_keys', { data: { name: 'lethe' } });
    expect(made.status).toBe(201);
    const { key } = (made.json as { data: { key: string } }).data;
    const ids = [newTraceId(), newTraceId()];
    const written = await asAdmin('/v1/projects/default/spans', {
      data: ids.map((traceId, index) => ({
        name: 'answer',
        context: { trace_id: traceId, span_id: newSpanId() },
        span_kind: 'CHAIN',
        start_time: '2026-11-20T00:00:00Z',
        end_time: '2026-11-20T00:00:01Z',
        status_code: 'OK',
        attributes: { 'user.id': index === 0 ? 'u_42' : 'other-1' },
      })),
    });
    expect(written.status).toBe(202);
    while (server.stored().length < ids.length) await new Promise((resolve) => setTimeout(resolve, 20));
    const store = open(key);
    const projects = await store.projects(idle);
    const { id: projectId = '' } = projects.find(({ name }) => name === 'default') ?? {};
    const items = await store.check();
    expect(items.filter(({ level }) => level === 'problem')).toEqual([]);
    const traces = [{ projectId, traceId: ids[0] ?? '' }];
    const window = { fromMs: 0, toMs: Date.now() };
    const { rows } = (await store.lookups[0]?.lookup({ traces, window, controls: [], progress: idle })) ?? { rows: [] };
    expect(rows).toHaveLength(1);
    await store.submit({ projectId, traces, lastWord: () => Promise.resolve(), progress: idle });
    expect(server.stored().map(({ traceId }) => traceId)).toEqual([ids[1]]);
  },
  TEST_MS,
);

test(
  'a viewer’s key reads, deletes nothing, and doctor says so beforehand',
  async () => {
    const email = 'viewer@localhost.example';
    const password = 'Viewer-Password-1';
    const user = await asAdmin('/v1/users', {
      user: { email, username: 'viewer', role: 'VIEWER', auth_method: 'LOCAL', password },
    });
    expect(user.status).toBe(201);
    const login = await fetch(`${server.url}/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password }),
    });
    expect(login.status).toBe(204);
    const cookie = login.headers
      .getSetCookie()
      .map((one) => one.split(';')[0])
      .join('; ');
    const keyed = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { cookie, 'content-type': 'application/json' },
      body: JSON.stringify({
        query: 'mutation { createUserApiKey(input: {name: "lethe"}) { jwt } }',
      }),
    });
    const { data } = (await keyed.json()) as { data: { createUserApiKey: { jwt: string } } };
    const store = open(data.createUserApiKey.jwt);
    const items = await store.check();
    expect(items.find(({ name }) => name === 'right to delete')).toMatchObject({ level: 'problem' });
    const projects = await store.projects(idle);
    const before = server.stored();
    const terms = [{ kind: 'user_id', keys: ['user.id'], variants: ['other-1'] }];
    const window = { fromMs: 0, toMs: Date.now() };
    const found = await store.finders[0]?.find({ projects, terms, window, controls: [], progress: idle });
    const [row] = found?.rows ?? [];
    expect(row).toBeDefined();
    const { projectId = '', traceId = '' } = row ?? {};
    await expect(
      store.submit({
        projectId,
        traces: [{ projectId, traceId }],
        lastWord: () => Promise.resolve(),
        progress: idle,
      }),
    ).rejects.toMatchObject({ reason: 'denied', status: 403 });
    expect(server.stored()).toEqual(before);
  },
  TEST_MS,
);
