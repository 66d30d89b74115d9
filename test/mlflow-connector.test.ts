import { describe, expect, test } from '@jest/globals';
import { mlflowConnectionSchema } from '../src/stores/mlflow/config.ts';
import { proxiedPath } from '../src/stores/mlflow/experiments.ts';
import { attributeLike, like, oneOf, placeOf } from '../src/stores/mlflow/filter.ts';
import { Shape } from '../src/stores/mlflow/schemas.ts';
import { THREAD_KIND } from '../src/stores/port.ts';
import { connectionSchema, openStore } from '../src/stores/registry.ts';

// What the real server does is shown in test/real; here is what needs none.

const USER = 'metadata.mlflow.trace.user';
const BASE = { store: 'mlflow', identifiers: { user_id: [USER] } } as const;
const LOCAL = { ...BASE, baseUrl: 'http://127.0.0.1:5000' } as const;
const KEY = placeOf(USER);
const idle = (): void => undefined;
const WINDOW = { fromMs: 0, toMs: Date.UTC(2026, 11, 1) };

function problems(over: object): string[] {
  const parsed = mlflowConnectionSchema.safeParse({ ...BASE, baseUrl: 'https://mlflow.example.com', ...over });
  return parsed.success ? [] : parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`);
}

describe('the config of an MLflow connection', () => {
  test('needs an address and keys, and takes one sort of credentials', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ baseUrl: 'http://mlflow.example.com' })).toEqual([expect.stringMatching(/must use https/)]);
    expect(problems({ username: 'lethe' })).toEqual([expect.stringMatching(/^password .*together/)]);
    expect(problems({ username: 'lethe', password: 'x', apiKey: 'y' })).toEqual([expect.stringMatching(/^apiKey /)]);
    expect(problems({ experiments: ['one'] })).toEqual([expect.stringMatching(/id of an experiment/)]);
    expect(problems({ accept: ['free-pages'] })).toEqual([expect.stringMatching(/none of the limits of MLflow/)]);
  });

  test('P5: keys that the filter language takes for words of its own are refused', () => {
    for (const key of ['user', 'metadata.', "metadata.x' OR '", 'metadata.status', 'tags.Name']) {
      expect([key, problems({ identifiers: { user_id: [key] } })]).toEqual([
        key,
        [expect.stringMatching(/^identifiers/)],
      ]);
    }
    expect(problems({ identifiers: { user_id: ['attributes.status', 'tags.customer'] } })).toEqual([]);
  });

  test('P3: a settle time below ten minutes is for servers on this machine', () => {
    expect(problems({ settle: '9 min' })).toEqual([expect.stringMatching(/at least 10 min/)]);
    expect(problems({ settle: '2 s', baseUrl: 'http://127.0.0.1:5000' })).toEqual([]);
    expect(mlflowConnectionSchema.parse(LOCAL).settle).toBe(10 * 60_000);
  });

  test('P12: conversations are followed by the server’s own key, by others, or not at all', () => {
    expect(mlflowConnectionSchema.parse(LOCAL).threads).toEqual(['metadata.mlflow.trace.session']);
    expect(openStore('mlflow', connectionSchema.parse({ ...LOCAL, threads: [] }), { clock: null }).threads).toEqual([]);
    expect(problems({ threads: ['session'] })).toEqual([expect.stringMatching(/^threads/)]);
  });
});

describe('the filter language', () => {
  const pattern = (...values: string[]): string => /RLIKE '(.*)'$/s.exec(oneOf(KEY, values).filter)?.[1] ?? '';

  test('P13: identifiers never end a literal, and match as little else as the language allows', () => {
    for (const value of [
      "o'neil",
      `a'b"c`,
      'back\\slash',
      `x' OR metadata.y LIKE '%`,
      'u.1',
      '.*',
      'x)|(y',
      '%',
      '_',
    ]) {
      for (const { filter, finds } of [oneOf(KEY, [value]), like(KEY, value), attributeLike('user.id', value, false)]) {
        const literal = filter.slice(filter.indexOf("'") + 1, -1);
        expect(literal).not.toMatch(/['\\]/);
        expect(finds(value)).toBe(true);
        expect(finds('somebody else')).toBe(false);
      }
    }
    expect(oneOf(KEY, ['u_1']).finds('uX1')).toBe(false);
    expect(oneOf(KEY, ['u_1']).finds('u_10')).toBe(false);
    expect(oneOf(KEY, ['a', 'b']).filter).toBe("metadata.`mlflow.trace.user` RLIKE '^(a|b)$'");
  });

  test('P3: one expression takes no longer the more characters of a value are beyond ASCII', () => {
    // A value that nearly matches is where an expression with neighbouring wildcards tries every way to divide them.
    const name = 'ÄÖÜßäöüéèêàçñ漢字'.repeat(18).slice(0, 300);
    const { finds } = oneOf(KEY, [`${name}z`]);
    expect(finds(`${name}z`)).toBe(true);
    expect(finds(name)).toBe(false);
    const mixed = 'Ńguyễn-'.repeat(40);
    expect(oneOf(KEY, [`${mixed}z`]).finds(mixed)).toBe(false);
    expect(oneOf(KEY, [`${mixed}z`]).finds(`${mixed}z`)).toBe(true);
    // PostgreSQL takes no larger count.
    for (const [, count] of pattern(name, '-'.repeat(999)).matchAll(/(\d+)\}/g))
      expect(Number(count)).toBeLessThan(256);
  });

  test('a value with a line end behind it is somebody else’s, and no sign of an ignored filter', () => {
    // The end of an expression is also before a last line end, in some databases.
    expect(oneOf(KEY, ['u_1']).finds('u_1\n')).toBe(true);
    expect(oneOf(KEY, ['u_1']).finds('u_1\n\n')).toBe(false);
  });

  test('letters that folding makes equal to ASCII ones are found where case is ignored', () => {
    // The Kelvin sign and the long s: an expression that ignores case takes them for k and s.
    const expression = new RegExp(pattern('\u212aelvin', '\u017fam'), 'iu');
    expect(expression.test('\u212aelvin')).toBe(true);
    expect(expression.test('\u017fam')).toBe(true);
  });
});

describe('what a trace says', () => {
  const info = (metadata: Record<string, string>, traceId = `tr-${'1'.repeat(32)}`) => ({
    trace_id: traceId,
    trace_location: { mlflow_experiment: { experiment_id: '1' } },
    request_time: '2026-11-20T00:00:00Z',
    trace_metadata: metadata,
    tags: {},
  });
  const shape = new Shape({ user_id: [USER] }, ['metadata.mlflow.trace.session']);

  test('P12: people and conversations come apart, from the trace and from its spans', () => {
    const one = info({ 'mlflow.trace.user': 'u_1', 'mlflow.trace.session': 'talk' });
    expect(shape.rowOf(one)).toMatchObject({
      persons: [{ kind: 'user_id', text: 'u_1' }],
      threads: [{ key: 'metadata.mlflow.trace.session', text: 'talk', numeric: false }],
    });
    const span = { span_id: '0'.repeat(16), attributes: [{ key: 'session.id', value: { int_value: 7 } }] };
    const [row] = shape.rowsOf(info({}), [span]);
    expect(row).toMatchObject({ persons: [], threads: [{ text: '7', numeric: true }] });
    expect(shape.ofInfo(one).map(({ kind }) => kind)).toEqual(['user_id', THREAD_KIND]);
  });

  test('P13: files are only looked for where the server itself serves them', () => {
    expect(proxiedPath('mlflow-artifacts:/1/traces/x/artifacts')).toBe('1/traces/x/artifacts');
    expect(proxiedPath('mlflow-artifacts://host/1/a')).toBe('1/a');
    for (const other of [null, 's3://bucket/1', 'mlflow-artifacts:/../x', 'mlflow-artifacts:/', '/srv/1']) {
      expect(proxiedPath(other)).toBeNull();
    }
  });
});

const TRACES = ['1', '2'].map((digit) => `tr-${digit.repeat(32)}`);
const [MINE = '', OTHER = ''] = TRACES;

interface Call {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A server as far as a test needs one. Undefined: as a server without anything would. */
function scripted(answer: (call: Call) => unknown, over: object = {}) {
  const calls: Call[] = [];
  const experiment = {
    experiment_id: '1',
    name: 'chat',
    lifecycle_stage: 'active',
    artifact_location: 'mlflow-artifacts:/1',
  };
  const respond: typeof fetch = (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : {};
    const call = {
      method: init?.method ?? 'GET',
      path: decodeURIComponent(url.pathname),
      query: url.searchParams,
      body,
    };
    calls.push(call);
    const usual = call.path.endsWith('/experiments/search') ? { experiments: [experiment] } : {};
    const said = answer(call) ?? (call.path.includes('/users/') ? new Response('', { status: 404 }) : usual);
    return Promise.resolve(said instanceof Response ? said : Response.json(said));
  };
  const store = openStore('mlflow-scripted', connectionSchema.parse({ ...LOCAL, ...over }), {
    clock: null,
    fetch: respond,
  });
  return { store, calls };
}

function infoOf(traceId: string, tags: Readonly<Record<string, string>>) {
  return {
    trace_id: traceId,
    trace_location: { mlflow_experiment: { experiment_id: '1' } },
    trace_metadata: { 'mlflow.trace.user': traceId === MINE ? 'u_1' : 'other' },
    tags,
  };
}

const refs = (...ids: readonly string[]) => ids.map((traceId) => ({ projectId: '1', traceId }));
const ask = (traceIds: readonly string[]) => ({
  traces: refs(...traceIds),
  window: WINDOW,
  controls: [],
  progress: idle,
});
const KEPT = { 'mlflow.trace.spansLocation': 'TRACKING_STORE' };
const SPAN = {
  span_id: 'AAAAAAAAAAE=',
  attributes: [{ key: 'mlflow.traceRequestId', value: { string_value: '"x"' } }],
};

describe('reads', () => {
  test('P14 P17: an archived trace whose spans cannot be read is no trace of one person', async () => {
    // The server answers with no spans when it could not fetch them.
    const archived = infoOf(MINE, { 'mlflow.trace.spansLocation': 'ARCHIVE_REPO' });
    const { store } = scripted(({ path }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [archived] };
      return path.endsWith('/batchGet') ? { traces: [{ trace_info: archived }] } : undefined;
    });
    await expect(store.lookups[0]?.lookup(ask([MINE]))).rejects.toMatchObject({ reason: 'contract-broken' });
  });

  test('P28: experiments and datasets are read until two passes agree, as tokens are offsets', async () => {
    let reads = 0;
    const { store } = scripted(({ path, body }) => {
      if (!path.endsWith('/experiments/search')) return undefined;
      reads += 1;
      const all = ['0', '1', '2'].map((id) => ({ experiment_id: id, name: id, lifecycle_stage: 'active' }));
      // Somebody deletes the first for good between two pages of the first pass: the last moves up, and is skipped.
      const shown = reads <= 1 ? all.slice(0, 2) : all.slice(1);
      const at = Number(body['page_token'] ?? 0);
      const next = at + 2 < all.length ? { next_page_token: String(at + 2) } : {};
      return { experiments: at === 0 ? shown.slice(0, 2) : shown.slice(2), ...next };
    });
    expect((await store.projects(idle)).map(({ id }) => id).sort()).toEqual(['0', '1', '2']);
  });

  test('P5: a key that only one way of searching reaches has one finder', () => {
    const searching = (over: object, key: string) => {
      const config = connectionSchema.parse({ ...LOCAL, ...over });
      const { finders } = openStore('mlflow', config, { clock: null });
      return finders.filter(({ searches = () => true }) => searches(key)).length;
    };
    expect(searching({}, USER)).toBe(2);
    expect(searching({}, 'attributes.enduser.id')).toBe(1);
    // Nothing but the metadata knows of these: to search one column twice is one way.
    expect(searching({}, 'metadata.customer')).toBe(1);
    expect(searching({}, 'tags.customer')).toBe(1);
    expect(searching({ spanSearch: false }, USER)).toBe(1);
  });

  test('P1 P9: experiments that the account may not see are told, unless it is an administrator or they are named', async () => {
    const asked = async (isAdmin: boolean, over: object): Promise<readonly string[]> => {
      const user = { id: 1, username: 'lethe', is_admin: isAdmin };
      const { store } = scripted(({ path }) => (path.endsWith('/users/current') ? { user } : undefined), over);
      return (await store.copies([], [], idle)).notExamined.map(({ kind }) => kind);
    };
    expect(await asked(false, {})).toEqual(['hidden-experiments']);
    expect(await asked(true, {})).toEqual([]);
    expect(await asked(false, { experiments: ['1'] })).toEqual([]);
    // A server without authentication has no users.
    const { store } = scripted(() => undefined);
    expect((await store.copies([], [], idle)).notExamined).toEqual([]);
  });

  test('P6: a search of spans sees controls too where no span names a user, as of traces by the Python client', async () => {
    const info = infoOf(OTHER, KEPT);
    const answer = (blind: boolean) =>
      scripted(({ path, body }) => {
        const filter = String(body['filter']);
        if (path.endsWith('/batchGet')) return { traces: [{ trace_info: info, spans: [SPAN] }] };
        if (!path.endsWith('/traces/search')) return undefined;
        if (!filter.startsWith('span.'))
          return filter.includes(OTHER) || filter.includes('NOT NULL') ? { traces: [info] } : {};
        return !blind && filter.includes('mlflow.traceRequestId') ? { traces: [info] } : {};
      });
    for (const blind of [false, true]) {
      const { store } = answer(blind);
      const projects = await store.projects(idle);
      const terms = [{ kind: 'user_id', keys: [USER], variants: ['u_1'] }];
      const { controls } = await store.controls({
        ...{ projects, terms, window: WINDOW, want: 1, progress: idle },
        exclude: () => false,
      });
      expect(controls).toHaveLength(1);
      const read = await store.finders[1]?.find({ projects, terms, window: WINDOW, controls, progress: idle });
      expect(read?.controlsSeen).toEqual([!blind]);
    }
  });

  test('P1: traces whose spans no search reaches are told, whether or not anything was found', async () => {
    const asked: unknown[] = [];
    const { store } = scripted(({ path, body }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [infoOf(MINE, KEPT)] };
      if (!path.endsWith('/traces/search') || !String(body['filter']).includes('spansLocation')) return undefined;
      asked.push(body['filter']);
      return { traces: [infoOf(OTHER, { 'mlflow.trace.spansLocation': 'ARCHIVE_REPO' })] };
    });
    for (const traces of [[], refs(MINE)]) {
      const found = await store.copies(traces, [], idle);
      expect(found.notExamined.map(({ kind }) => kind)).toEqual(['unindexed-people']);
    }
    expect(asked.length).toBeGreaterThan(0);
    const { store: plain } = scripted(() => undefined);
    expect((await plain.copies([], [], idle)).notExamined).toEqual([]);
  });

  test('P1: what is left of a trace is told from a trace that names nobody', async () => {
    const { store } = scripted(({ method, query }) =>
      method === 'GET' && query.get('path') === '1/traces'
        ? { files: [{ path: `1/traces/${MINE}`, is_dir: true }] }
        : undefined,
    );
    const read = await store.lookups[0]?.lookup(ask([MINE, OTHER]));
    expect(read?.rows).toEqual([expect.objectContaining({ traceId: MINE, persons: [], leftover: true })]);
  });

  test('P22: files under an address that the server serves and nobody expected count as out of reach', async () => {
    const odd = infoOf(MINE, { ...KEPT, 'mlflow.artifactLocation': 'mlflow-artifacts:/elsewhere/of/it' });
    const { store } = scripted(({ path }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [odd] };
      return path.endsWith('/batchGet') ? { traces: [{ trace_info: odd, spans: [SPAN] }] } : undefined;
    });
    await store.lookups[0]?.lookup(ask([MINE]));
    const found = await store.copies(refs(MINE), [], idle);
    expect(found.outOfReach).toEqual([{ kind: 'artifacts-elsewhere', count: 1, traceIds: [MINE] }]);
  });
});

describe('deletes', () => {
  test('P13: sends the ids of one experiment, and nothing that the server could take for a time', async () => {
    const info = infoOf(MINE, KEPT);
    const { store, calls } = scripted(({ path }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [info] };
      if (path.endsWith('/batchGet')) return { traces: [{ trace_info: info, spans: [SPAN] }] };
      return path.endsWith('/delete-traces') ? { traces_deleted: 1 } : undefined;
    });
    await store.projects(idle);
    await store.lookups[0]?.lookup(ask([MINE]));
    await store.submit({ projectId: '1', traces: refs(MINE), lastWord: () => Promise.resolve(), progress: idle });
    const deletes = calls.filter(({ method, path }) => method === 'DELETE' || path.endsWith('/delete-traces'));
    expect(deletes.map(({ method, path, body }) => [method, path, body])).toEqual([
      ['POST', '/api/3.0/mlflow/traces/delete-traces', { experiment_id: '1', request_ids: [MINE] }],
      // An empty list of files is no proof that there is none.
      ['DELETE', `/api/2.0/mlflow-artifacts/artifacts/1/traces/${MINE}`, {}],
    ]);
  });

  test('P2 P3: a folder that is refused after its trace was deleted is not taken for a refused delete', async () => {
    const second = `tr-${'3'.repeat(32)}`;
    const live = new Set([MINE, second, OTHER]);
    const { store, calls } = scripted(({ method, path, body }) => {
      const named = [body.trace_ids, body.request_ids].flat().filter((id) => typeof id === 'string' && live.has(id));
      const infos = named.map((id) => infoOf(String(id), KEPT));
      if (path.endsWith('/batchGetInfos')) return { trace_infos: infos };
      if (path.endsWith('/batchGet')) {
        return { traces: [MINE, second].map((id) => ({ trace_info: infoOf(id, KEPT), spans: [SPAN] })) };
      }
      if (path.endsWith('/delete-traces')) {
        for (const id of named) live.delete(String(id));
        return { traces_deleted: named.length };
      }
      return method === 'DELETE' && path.endsWith(MINE) ? new Response('{}', { status: 400 }) : undefined;
    });
    await store.projects(idle);
    await store.lookups[0]?.lookup(ask([MINE, second]));
    const order = { projectId: '1', traces: refs(MINE, second), lastWord: () => Promise.resolve(), progress: idle };
    const ended = await store.submit(order).catch((error: unknown) => error);
    expect(ended).toMatchObject({ reason: 'rejected', status: 400, partlyDone: true });
    expect(calls.filter(({ path }) => path.endsWith('/delete-traces'))).toHaveLength(1);
    expect([...live]).toEqual([OTHER]);
  });

  test('P19: a server that deletes more than it was sent switches deletes off', async () => {
    const info = infoOf(MINE, KEPT);
    const { store } = scripted(({ path }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [info] };
      if (path.endsWith('/batchGet')) return { traces: [{ trace_info: info, spans: [SPAN] }] };
      return path.endsWith('/delete-traces') ? { traces_deleted: 2 } : undefined;
    });
    await store.projects(idle);
    await store.lookups[0]?.lookup(ask([MINE]));
    const order = { projectId: '1', traces: refs(MINE), lastWord: () => Promise.resolve(), progress: idle };
    await expect(store.submit(order)).rejects.toMatchObject({ reason: 'rejected' });
    await expect(store.submit(order)).rejects.toMatchObject({ route: 'delete' });
  });
});

describe('dataset records', () => {
  const dataset = `d-${'a'.repeat(32)}`;
  const record = (digit: string, over: object) => ({
    dataset_record_id: `dr-${digit.repeat(32)}`,
    created_time: 1000,
    last_update_time: 1000,
    source: { source_data: { trace_id: MINE } },
    ...over,
  });

  test('P22: one that was written to again may hold others, and is nobody’s to erase', async () => {
    const { store } = scripted(({ path }) => {
      if (path.endsWith('/batchGetInfos')) return { trace_infos: [infoOf(MINE, KEPT)] };
      if (path.endsWith('/datasets/search')) return { datasets: [{ dataset_id: dataset }] };
      if (!path.endsWith('/records')) return undefined;
      return { records: JSON.stringify([record('1', {}), record('2', { last_update_time: 2000 })]) };
    });
    const { copies } = await store.copies(refs(MINE), [], idle);
    expect(copies.map(({ id, others }) => [id.slice(-1), others])).toEqual([
      ['1', undefined],
      ['2', true],
    ]);
  });

  test('P9: datasets that belong to no experiment are looked through too', async () => {
    const { store, calls } = scripted(({ path }) =>
      path.endsWith('/batchGetInfos') ? { trace_infos: [infoOf(MINE, KEPT)] } : undefined,
    );
    await store.copies(refs(MINE), [], idle);
    const searches = calls.filter(({ path }) => path.endsWith('/datasets/search'));
    expect(searches.map(({ body }) => body['experiment_ids'])).toEqual([undefined]);
  });
});
