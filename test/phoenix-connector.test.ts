import { describe, expect, test } from '@jest/globals';
import { anyOf, having } from '../src/stores/phoenix/condition.ts';
import { phoenixConnectionSchema } from '../src/stores/phoenix/config.ts';
import { Owners } from '../src/stores/phoenix/schemas.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';
import type { DeleteOrder } from '../src/stores/port.ts';

// What the real server does is shown in test/real; here is what needs none.

const BASE = { store: 'phoenix', identifiers: { user_id: ['user.id'] } } as const;
const idle = (): void => undefined;

function problems(over: object): string[] {
  const parsed = phoenixConnectionSchema.safeParse({ ...BASE, baseUrl: 'https://phoenix.example.com', ...over });
  return parsed.success ? [] : parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`);
}

describe('the config of a Phoenix connection', () => {
  test('needs an address and attributes, and no key', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ baseUrl: 'http://phoenix.example.com' })).toEqual([expect.stringMatching(/must use https/)]);
    expect(problems({ identifiers: { user_id: ['user'] } })).toEqual([
      expect.stringMatching(/must name a span attribute/),
    ]);
    expect(problems({ identifiers: { user_id: ["user.id'] == 'x"] } })).toHaveLength(1);
    expect(problems({ accept: ['free-pages'] })).toEqual([expect.stringMatching(/none of the limits of Phoenix/)]);
  });

  test('P3: a settle time below ten minutes is for servers on this machine', () => {
    expect(problems({ settle: '9 min' })).toEqual([expect.stringMatching(/at least 10 min/)]);
    expect(problems({ settle: '2 s', baseUrl: 'http://127.0.0.1:6006' })).toEqual([]);
    expect(phoenixConnectionSchema.parse({ ...BASE, baseUrl: 'http://127.0.0.1:6006' }).settle).toBe(15 * 60_000);
  });
});

describe('conditions', () => {
  test('P15: identifiers stay inside their literals', () => {
    const of = (text: string): string => anyOf([{ key: 'user.id', text }], [], 'equality');
    expect(of('u_1')).toBe("(attributes['user']['id'] == 'u_1')");
    expect(of("o'neil")).toBe("(attributes['user']['id'] == 'o\\'neil')");
    expect(of('back\\')).toBe("(attributes['user']['id'] == 'back\\\\')");
    expect(of('two\nlines\u2028\u0000')).toBe("(attributes['user']['id'] == 'two\\u000alines\\u2028\\u0000')");
    expect(of(`x' or '1' == '1`)).toBe("(attributes['user']['id'] == 'x\\' or \\'1\\' == \\'1')");
    expect(of('Jürgen 🦊')).toBe("(attributes['user']['id'] == 'Jürgen 🦊')");
  });

  test('P6: a control is asked for by its value and its span together', () => {
    const value = { kind: 'user_id', key: 'metadata.user_id', text: 'o', numeric: false };
    const control = { projectId: 'p', traceId: 't', runId: '0123456789abcdef', value, startMs: null };
    expect(anyOf([], [control], 'containment')).toBe(
      "('o' in attributes['metadata']['user_id'] and span_id == '0123456789abcdef')",
    );
    expect(having(['user.id'], [{ key: 'user.id', text: 'x' }])).toBe(
      "((attributes['user']['id'] is not None)) and not (attributes['user']['id'] == 'x')",
    );
  });
});

describe('owners', () => {
  const owners = new Owners({ user_id: ['user.id', 'metadata.user_id'], email: ['metadata.mail.work'] });

  test('P15: numbers keep every digit, in both languages', () => {
    // Written as a float, as some exporters do; the integer filter finds it too.
    expect(owners.ofText('{"user":{"id":12345.0}}')).toMatchObject([{ text: '12345', numeric: true }]);
    expect(owners.ofText('{"user":{"id":12345.50}}')).toMatchObject([{ text: '12345.50', numeric: true }]);
    const nested = owners.ofText('{"user":{"id":12345678901234567890},"metadata":{"user_id":"7"}}');
    expect(nested?.map(({ text, numeric }) => [text, numeric])).toEqual([
      ['12345678901234567890', true],
      ['7', false],
    ]);
    expect(owners.ofFlat({ 'user.id': 7 })).toEqual([{ kind: 'user_id', key: 'user.id', text: '7', numeric: true }]);
  });

  test('P17: objects and lists under an attribute are somebody, and names with dots are looked into', () => {
    expect(owners.ofText('{"user":{"id":["a","b"]}}')?.map(({ text, nested }) => [text, nested])).toEqual([
      ['a', true],
      ['b', true],
    ]);
    expect(owners.ofFlat({ 'user.id.first': 'a' })).toMatchObject([{ key: 'user.id', nested: true }]);
    expect(owners.ofText('{"metadata":{"mail.work":"a@b"}}')).toMatchObject([
      { key: 'metadata.mail.work', text: 'a@b' },
    ]);
    expect(owners.ofText('[]')).toBeNull();
    expect(owners.ofText('{"user":')).toBeNull();
  });
});

describe('reads by id', () => {
  test('P11: as many ids and controls as the server takes go into one question, and never more', async () => {
    const asked: number[] = [];
    const answer: typeof fetch = (_input, init) => {
      const { query, variables } = JSON.parse(bodyOf(init)) as { query: string; variables: Record<string, string> };
      const aliases = query.match(/\w+: get\w+ByOtelId/g) ?? [];
      asked.push(aliases.length);
      const spans = Object.entries(variables).filter(([name]) => /^s\d+$/.test(name));
      const data = Object.fromEntries([
        ...aliases.map((alias) => [alias.replace(/:.*/, ''), null] as const),
        ...spans.map(([name, id]) => [name, spanOf(id)] as const),
      ]);
      return Promise.resolve(Response.json({ data }));
    };
    const spanOf = (spanId: string) => ({
      spanId,
      attributes: '{"user":{"id":"other"}}',
      trace: { traceId: spanId.slice(0, 8).repeat(4), project: { id: PROJECT } },
    });
    // Two runs of each trace may serve: one for each attribute.
    const controls = Array.from({ length: 10 }, (_none, index) => ({
      projectId: PROJECT,
      traceId: `a000000${index >> 1}`.repeat(4),
      runId: `a000000${index >> 1}${String(index).padStart(8, '0')}`,
      value: { kind: 'user_id', key: 'user.id', text: 'other', numeric: false },
      startMs: null,
    }));
    const ids = Array.from({ length: 45 }, (_none, index) => `b${String(index).padStart(15, '0')}`);
    const config = connectionSchema.parse({ ...BASE, baseUrl: 'http://127.0.0.1:6006' });
    const store = openStore('phoenix-scripted', config, { clock: null, fetch: answer });
    const projects = [{ id: PROJECT, name: 'chat', type: 'PROJECT' }];
    const located = await store.locate({ ids, projects, window: { fromMs: 0, toMs: 1 }, controls, progress: idle });
    expect(located.rows).toHaveLength(ids.length);
    expect(Math.max(...asked)).toBeLessThanOrEqual(50);
  });

  test('P4: a trace whose row is there without any span is there, and names nobody', async () => {
    const answer: typeof fetch = () => {
      const pageInfo = { hasNextPage: false, endCursor: null };
      const trace = {
        ...{ id: nodeOf(1), traceId: IDS[0], project: { id: PROJECT }, session: null },
        ...{ traceAnnotations: [], spans: { edges: [], pageInfo } },
      };
      return Promise.resolve(Response.json({ data: { t0: trace } }));
    };
    const { rows } = await lookedUp(answer, IDS.slice(0, 1));
    expect(rows).toEqual([
      expect.objectContaining({ projectId: PROJECT, traceId: IDS[0], persons: [], leftover: true }),
    ]);
  });
});

async function lookedUp(answer: typeof fetch, ids: readonly string[]) {
  const config = connectionSchema.parse({ ...BASE, baseUrl: 'http://127.0.0.1:6006' });
  const store = openStore('phoenix-scripted', config, { clock: null, fetch: answer });
  const traces = ids.map((traceId) => ({ projectId: PROJECT, traceId }));
  const window = { fromMs: 0, toMs: 1 };
  const read = await store.lookups[0]?.lookup({ traces, window, controls: [], progress: idle });
  if (read === undefined) throw new Error('no way to look traces up');
  return read;
}

const IDS = ['1', '2', '3', '4'].map((digit) => digit.repeat(32));
const nodeOf = (row: number): string => Buffer.from(`Trace:${row}`).toString('base64');
const PROJECT = Buffer.from('Project:2').toString('base64');

/** A server as far as deletes need one: the traces with their rows, and what was asked. */
function scripted(rows: ReadonlyMap<string, number>, newest: number, over: { readonly refuse?: boolean } = {}) {
  const live = new Map(rows);
  const deleted: string[][] = [];
  const answer: typeof fetch = (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (init?.method === 'DELETE') {
      const id = url.pathname.split('/').at(-1) ?? '';
      if (!live.delete(id)) return Promise.resolve(new Response('not found', { status: 404 }));
      deleted.push([id]);
      return Promise.resolve(new Response(null, { status: 204 }));
    }
    const { query, variables } = JSON.parse(bodyOf(init)) as {
      query: string;
      variables: Record<string, string | string[]>;
    };
    const ids = (variables['traces'] ?? []) as string[];
    if (query.startsWith('mutation')) {
      if (over.refuse === true) return Promise.resolve(Response.json({ data: null, errors: [{ message: 'Invalid' }] }));
      const gone = ids.flatMap((node) => [...live].filter(([, row]) => nodeOf(row) === node).map(([id]) => id));
      for (const id of gone) live.delete(id);
      deleted.push(gone);
      return Promise.resolve(Response.json({ data: { deleteTraces: { __typename: 'Query' } } }));
    }
    const span = {
      spanId: 'a'.repeat(16),
      startTime: null,
      attributes: '{}',
      containedInDataset: false,
      spanAnnotations: [],
    };
    const pageInfo = { hasNextPage: false, endCursor: null };
    const data: Record<string, unknown> = {
      newest: { spans: { edges: [{ node: { trace: { id: nodeOf(newest) } } }] } },
    };
    for (const [name, id] of Object.entries(variables)) {
      if (!/^(t\d+|trace)$/.test(name) || typeof id !== 'string') continue;
      const row = live.get(id);
      data[name] =
        row === undefined
          ? null
          : {
              id: nodeOf(row),
              traceId: id,
              project: { id: PROJECT },
              session: null,
              traceAnnotations: [],
              spans: { edges: [{ node: span }], pageInfo },
            };
    }
    return Promise.resolve(Response.json({ data }));
  };
  return { answer, deleted, live };
}

async function orderOf(answer: typeof fetch, ids: readonly string[]) {
  const config = connectionSchema.parse({ ...BASE, baseUrl: 'http://127.0.0.1:6006' });
  const store = openStore('phoenix-scripted', config, { clock: null, fetch: answer });
  const traces = ids.map((traceId) => ({ projectId: PROJECT, traceId }));
  await store.lookups[0]?.lookup({ traces, window: { fromMs: 0, toMs: 1 }, controls: [], progress: idle });
  const order: DeleteOrder = { projectId: PROJECT, traces, lastWord: () => Promise.resolve(), progress: idle };
  return { store, order };
}

describe('deletes', () => {
  const rows = new Map(IDS.map((id, index) => [id, 10 + index]));

  test('P13: the youngest trace goes by its own id and last, as its row number may be given out again', async () => {
    const { answer, deleted } = scripted(rows, 13);
    const { store, order } = await orderOf(answer, IDS);
    await store.submit(order);
    expect(deleted).toEqual([IDS.slice(0, 3), [IDS[3]]]);
  });

  test('P13: while a younger trace of somebody else stands, all go in one call', async () => {
    const { answer, deleted } = scripted(rows, 99);
    const { store, order } = await orderOf(answer, IDS);
    await store.submit(order);
    expect(deleted).toEqual([IDS]);
  });

  test('P20: a refusal of all leads to deletes one by one, and what is gone already counts as done', async () => {
    const { answer, deleted, live } = scripted(rows, 99, { refuse: true });
    const { store, order } = await orderOf(answer, IDS);
    live.delete(IDS[1] ?? '');
    await store.submit(order);
    expect(deleted).toEqual([[IDS[0]], [IDS[2]], [IDS[3]]]);
    expect([...live.keys()]).toEqual([]);
  });

  test('P3: a 404 for a trace that is still there is a route that is not there', async () => {
    const { answer, deleted } = scripted(rows, 99);
    const blocked: typeof fetch = (input, init) =>
      init?.method === 'DELETE' ? Promise.resolve(new Response('no route', { status: 404 })) : answer(input, init);
    const { store, order } = await orderOf(blocked, IDS.slice(0, 1));
    await expect(store.submit(order)).rejects.toMatchObject({ reason: 'gone', status: 404 });
    expect(deleted).toEqual([]);
  });

  test('P2 P20: a trace that is refused after others were deleted does not make those refused, or sent again', async () => {
    const { answer, deleted, live } = scripted(new Map([...rows, ['9'.repeat(32), 9]]), 13);
    const refusing: typeof fetch = (input, init) =>
      init?.method === 'DELETE' ? Promise.resolve(new Response('{}', { status: 422 })) : answer(input, init);
    const { store, order } = await orderOf(refusing, IDS);
    const ended = await store.submit(order).catch((error: unknown) => error);
    expect(ended).toMatchObject({ reason: 'rejected', status: 422, partlyDone: true });
    expect(deleted).toEqual([IDS.slice(0, 3)]);
    expect([...live.keys()]).toEqual([IDS[3], '9'.repeat(32)]);
  });

  test('P14: a trace that has moved to another project since it was read is not sent', async () => {
    const { answer, deleted } = scripted(rows, 99);
    let reads = 0;
    const moved: typeof fetch = async (input, init) => {
      const response = await answer(input, init);
      const body = bodyOf(init);
      if (!body.includes('query Places')) return response;
      reads += 1;
      const json = (await response.json()) as { data: { t1: { project: { id: string } } } };
      json.data.t1.project.id = 'elsewhere';
      return Response.json(json);
    };
    const { store, order } = await orderOf(moved, IDS);
    const receipt = await store.submit(order);
    expect(reads).toBe(1);
    expect(receipt.refused).toEqual([IDS[1]]);
    expect(deleted).toEqual([[IDS[0], IDS[2], IDS[3]]]);
  });
});

function bodyOf(init: RequestInit | undefined): string {
  return typeof init?.body === 'string' ? init.body : '';
}
