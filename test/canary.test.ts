import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Connection } from '@temporalio/client';
import { ApplicationFailure, DefaultFailureConverter, defaultPayloadConverter } from '@temporalio/common';
import { historyToJSON, JSONToPayload } from '@temporalio/common/lib/proto-utils.js';
import { MockActivityEnvironment } from '@temporalio/testing';
import { pino } from 'pino';
import { z } from 'zod';
import { createLaneActivities } from '../src/activities/index.ts';
import { LetheClient, type Erasure } from '../src/client/client.ts';
import { parseConfig, type ConfigInput } from '../src/config/config.ts';
import type { RequestStatus } from '../src/erasure/status.ts';
import { DirectoryRecords } from '../src/evidence/directory-records.ts';
import { describeError, temporalLogger } from '../src/log.ts';
import {
  startLangSmithSimulator,
  type LangSmithHabits,
  type LangSmithSimulator,
} from '../src/simulators/langsmith/index.ts';
import { langsmithConnectionSchema } from '../src/stores/langsmith/config.ts';
import type { TraceStore } from '../src/stores/port.ts';
import { openStore } from '../src/stores/registry.ts';
import { EncryptionCodec } from '../src/temporal/codec.ts';
import { startCodecServer, type CodecServer } from '../src/temporal/codec-server.ts';
import {
  databaseFile,
  ensureNamespace,
  ensureSearchAttributes,
  resolveTemporalBinary,
  startLocalServer,
  type LocalServer,
} from '../src/temporal/server.ts';
import { DirectoryVault } from '../src/vault/directory-vault.ts';
import { deriveKeys } from '../src/vault/keys.ts';
import { CANARY, CANARY_EMAIL, CANARY_ID, CANARY_TEXT, CANARY_USER, formsOf, traces } from './support/canary.ts';
import { lethe } from './support/cli.ts';
import { EchoingProxy, type Answer, type SeenRequest } from './support/echoing-proxy.ts';
import { payloadsIn, textOf, type JsonPayload } from './support/payloads.ts';
import { WorkerProcess, writeConfig } from './support/processes.ts';
import { FRIDAY_EVENING } from './support/world.ts';

const SPEED = 200_000;
const UI = 'http://127.0.0.1:8233';

/** A store that is struck in one phase of the erasure, and what stands before it. */
interface Place {
  readonly connection: string;
  readonly scope: 'reads' | 'deletes';
  readonly sim: LangSmithSimulator;
  readonly proxy: EchoingProxy;
}

/** One way in which a store fails. */
interface Strike {
  readonly name: string;
  readonly apply: (place: Place) => void;
  /** It passes by itself as a rule: its step is tried again a second later, before anything is said. */
  readonly passing?: true;
  readonly scope?: 'reads' | 'deletes';
}

const isDelete = ({ method, url }: SeenRequest): boolean => method === 'POST' && url.includes('/runs/delete');

function habit(name: string, changes: (scope: 'reads' | 'deletes', place: Place) => Partial<LangSmithHabits>): Strike {
  return {
    name,
    apply: (place) => {
      place.sim.habits.set(changes(place.scope, place));
    },
  };
}

/** What stores say that quote the request, in body and headers. */
function echo(name: string, make: (request: SeenRequest) => Answer): Strike {
  return {
    name: `echo: ${name}`,
    apply: ({ proxy, scope }) => {
      proxy.answer = (request) => (isDelete(request) === (scope === 'deletes') ? make(request) : null);
    },
  };
}

/** No header may hold more than ASCII. */
const IN_HEADER = CANARY_EMAIL.normalize('NFD').replace(/[^\x20-\x7e]/g, '');

function quoting(status: number): Strike {
  return echo(String(status), ({ url, body, headers }) => ({
    status,
    headers: {
      'content-type': 'application/json',
      'x-request-id': `req for ${IN_HEADER}`,
      'retry-after': IN_HEADER,
      'www-authenticate': `Bearer error="no right to ${IN_HEADER}"`,
      location: `/login?user=${encodeURIComponent(CANARY_USER)}`,
      sunset: IN_HEADER,
      date: IN_HEADER,
    },
    body: JSON.stringify({
      detail: [{ loc: ['body', CANARY_USER], msg: `bad request for ${CANARY_EMAIL}: ${body}`, input: body }],
      error: `cannot serve ${url} to ${headers['x-api-key'] ?? ''} for ${CANARY_USER}`,
      [CANARY_ID]: CANARY_TEXT,
    }),
  }));
}

const json = { 'content-type': 'application/json' };
/** Those that pass are apart, so that the tries of one step do not add up to long pauses. */
const STRIKES: readonly Strike[] = [
  { ...habit('401', () => ({ keyRevoked: 401 })), scope: 'reads' },
  { ...habit('503', (on) => ({ serverErrors: { status: 503, on } })), passing: true },
  { ...habit('403', () => ({ keyRevoked: 403 })), scope: 'reads' },
  { ...habit('v1 404', () => ({ v1Gone: 404 })), scope: 'reads' },
  { ...habit('v1 410', () => ({ v1Gone: 410 })), scope: 'reads' },
  habit('429', (on) => ({ throttle: { retryAfter: null, on } })),
  { ...habit('500 after the effect', (on) => ({ serverErrors: { status: 500, after: true, on } })), passing: true },
  habit('429 with Retry-After', (on) => ({ throttle: { retryAfter: 30, on } })),
  { ...habit('reset before', (on) => ({ resetBefore: { on } })), passing: true },
  habit('HTML 200', (on) => ({ htmlErrors: { status: 200, on } })),
  habit('HTML 502', (on) => ({ htmlErrors: { status: 502, on } })),
  { ...habit('reset after', (on) => ({ resetAfter: { on } })), passing: true },
  habit('cut body', (on) => ({ truncateBody: { how: 'cut', on } })),
  { ...habit('missing fields', () => ({ missingFields: ['trace_id', 'metadata'] })), scope: 'reads' },
  { ...habit('filter ignored', () => ({ queryFilterIgnored: true })), scope: 'reads' },
  { ...habit('blind', () => ({ blind: { what: 'all' } })), scope: 'reads' },
  {
    ...habit('batch refused', (_on, { sim }) => ({
      rejectBatchWith: { ids: sim.truth.allTraces().map(({ traceId }) => traceId) },
    })),
    scope: 'deletes',
  },
  ...[302, 400, 403, 404, 422, 429].map(quoting),
  { ...quoting(500), passing: true },
  echo('200 of another shape', ({ body }) => ({
    status: 200,
    headers: json,
    body: JSON.stringify([CANARY_USER, CANARY_TEXT, body]),
  })),
  echo('200 and no JSON', ({ body }) => ({ status: 200, headers: json, body: `${CANARY_USER} is unknown: ${body}` })),
  {
    ...echo('200 with the person for every value', () => {
      const run = { id: CANARY_USER, trace_id: CANARY_USER, project_id: CANARY_ID, session_id: CANARY_ID };
      const page = { items: [run], runs: [run], next_cursor: CANARY_USER, cursors: { next: CANARY_USER } };
      return {
        status: 200,
        headers: json,
        body: JSON.stringify({ ...page, session_id: CANARY_ID, name: CANARY_TEXT }),
      };
    }),
    scope: 'reads',
  },
];

/** Everything that somebody other than the stores gets to see. */
const shown: { readonly where: string; readonly what: string | Uint8Array }[] = [];
function show(where: string, what: string | Uint8Array): void {
  shown.push({ where, what });
}

describe('P31: an error that holds the person tells nothing of it', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lethe-canary-'));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** What JavaScript, libraries and careless code throw. */
  const ERRORS: readonly (readonly [string, () => unknown])[] = [
    ['an error', () => new Error(`no such user ${CANARY_USER}`)],
    ['an error whose message looks like a stack', () => new TypeError(`x\n    at ${CANARY} (${CANARY_EMAIL}.ts:1:1)`)],
    ['an error with a cause', () => new Error('failed', { cause: new Error(CANARY_EMAIL) })],
    ['an error with more in it', () => Object.assign(new Error('failed'), { code: CANARY, details: [CANARY_USER] })],
    ['several errors', () => new AggregateError([new Error(CANARY_USER)], CANARY_EMAIL)],
    ['a syntax error', () => thrownBy(() => JSON.parse(`{"${CANARY}`))],
    [
      'a schema error',
      () => thrownBy(() => z.strictObject({ id: z.literal('a') }).parse({ [CANARY_USER]: CANARY_TEXT })),
    ],
    ['a text', () => CANARY_TEXT],
    ['an object', () => ({ message: CANARY_USER, stack: `Error\n    at ${CANARY} (a.ts:1:1)` })],
  ];
  function thrownBy(work: () => unknown): unknown {
    try {
      return work();
    } catch (error) {
      return error;
    }
  }

  test.each(ERRORS)('%s', async (_name, make) => {
    const keys = deriveKeys({ hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') });
    const config = langsmithConnectionSchema.parse({
      store: 'langsmith',
      baseUrl: 'http://127.0.0.1:9',
      apiKey: 'k',
      identifiers: { user_id: ['metadata.user_id'] },
    });
    const store: TraceStore = {
      ...openStore('prod', config, { clock: null }),
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- other people's code throws anything
      projects: () => Promise.reject(make()),
    };
    const { resolveIds } = createLaneActivities({
      vault: new DirectoryVault({ stateDir: directory, keys }),
      records: new DirectoryRecords({ stateDir: directory }),
      keys,
      clock: null,
      version: 'test',
      connection: 'prod',
      store,
      policy: {
        cleanReads: 2,
        flagAfterRounds: 3,
        refuseAbove: 100,
        expectedPeople: 1,
        sharedTraces: 'keep',
        linkedTraces: 'keep',
        graceMs: 3_600_000,
      },
      kinds: [{ kind: 'user_id', caseInsensitive: false }],
      searchKeys: { user_id: ['metadata.user_id'] },
      accept: [],
    });
    const lines: string[] = [];
    const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const environment = new MockActivityEnvironment({}, { logger: temporalLogger(logger) });
    const requestId = `r-${randomBytes(4).toString('hex')}`;
    const failure: unknown = await environment
      .run(resolveIds, {
        requestId,
        connection: 'prod',
        step: 1,
        subject: [{ kind: 'user_id', value: CANARY_USER }],
        known: [CANARY_ID],
        acceptUnlabelled: 0,
        expectAtMost: null,
        receivedAtMs: 0,
        dueAtMs: 1,
        dryRun: false,
        lostManifest: 0,
        scopeDigest: 'x',
        connections: ['prod'],
        workflowId: 'erase-x',
      })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ApplicationFailure);
    // As the server gets it, before it is encrypted, and as it may be logged.
    const sent = new DefaultFailureConverter().errorToFailure(failure, defaultPayloadConverter);
    logger.error(describeError(make()), 'as the logger tells it');
    const said = [JSON.stringify(sent), inspect(failure, { depth: 10, showHidden: true }), ...lines];
    expect(traces(said.join('\n'))).toEqual([]);
    // Enough is told to find the defect.
    expect(lines.join('')).toMatch(/"step":"resolve"/);
    expect(sent.message).toMatch(/^resolve failed inside Lethe \(\w+\)$/);
  });
});

describe('P31: the person is named to the stores alone', () => {
  const places: Place[] = [];
  const logOfServer: string[] = [];
  let directory: string;
  let server: LocalServer;
  let worker: WorkerProcess;
  let client: LetheClient;
  let codecServer: CodecServer;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lethe-canary-'));
    const binary = await resolveTemporalBinary({ allowBuild: false });
    server = await startLocalServer({
      binary,
      dbFile: databaseFile(directory, binary),
      headless: true,
      logLevel: 'info',
      // Short timers are up to a second late otherwise.
      dynamicConfig: { 'history.timerProcessorMaxTimeShift': '20ms' },
      onLog: (line) => logOfServer.push(line),
    });
    const connection = await Connection.connect({ address: server.address });
    await ensureNamespace(connection);
    await ensureSearchAttributes(connection);
    await connection.close();
    const clock = { realMs: Date.now(), virtualMs: FRIDAY_EVENING, speed: SPEED };
    for (const [connectionName, scope] of [
      ['in-plan', 'reads'],
      ['in-delete', 'deletes'],
      ['in-read', 'reads'],
    ] as const) {
      const sim = await startLangSmithSimulator({ clock });
      const proxy = await EchoingProxy.start(sim.url);
      proxy.counts = (request) => isDelete(request) === (scope === 'deletes');
      places.push({ connection: connectionName, scope, sim, proxy });
      await seed(sim);
    }
    const input: ConfigInput = {
      temporal: { address: server.address, namespace: 'lethe' },
      state: join(directory, 'state'),
      keys: { hmac: randomBytes(32).toString('hex'), vault: randomBytes(32).toString('hex') },
      clock: {
        real: new Date(clock.realMs).toISOString(),
        virtual: new Date(clock.virtualMs).toISOString(),
        speed: SPEED,
      },
      identifiers: ['user_id', 'email'],
      connections: Object.fromEntries(
        places.map(({ connection: name, sim, proxy }) => [
          name,
          {
            store: 'langsmith',
            baseUrl: proxy.url,
            apiKey: sim.apiKey,
            identifiers: { user_id: ['metadata.user_id'], email: ['metadata.email'] },
            accept: ['statistics', 'insights'],
          },
        ]),
      ),
    };
    worker = new WorkerProcess(await writeConfig(directory, input), 'debug');
    await worker.start();
    client = await LetheClient.connect({ config: parseConfig(input) });
    codecServer = await startCodecServer({ keys: client.keys, uiOrigin: UI });
  }, 60_000);

  afterAll(async () => {
    await worker.kill();
    await client.close();
    await codecServer.close();
    await server.stop();
    for (const { sim, proxy } of places) {
      await proxy.close();
      await sim.close();
    }
    await rm(directory, { recursive: true, force: true });
  }, 60_000);

  /** The person in everything that a trace can carry, and others with identifiers of the same sort. */
  async function seed(sim: LangSmithSimulator): Promise<void> {
    const person = { user_id: CANARY_USER, email: CANARY_EMAIL, note: CANARY_TEXT };
    const trace = {
      runs: [
        {
          name: CANARY_TEXT,
          metadata: person,
          tags: [CANARY_USER],
          inputs: { question: CANARY_TEXT },
          outputs: { answer: CANARY_EMAIL },
          error: CANARY_TEXT,
        },
        { name: 'step', metadata: person, inputs: { prompt: CANARY_TEXT } },
      ],
    };
    const [first] = sim.seed({ project: 'chat', traces: [trace, trace] });
    sim.seed({ project: `notes of ${CANARY_EMAIL}`, traces: [trace] });
    for (const other of ['u_7 "x" ü', 'u_8 "y" ö', 'u_9']) {
      sim.seedPeople({
        project: 'chat',
        people: [other],
        tracesPerPerson: 2,
        metadata: { email: `${other}@example.org` },
      });
    }
    const post = async (path: string, body: object): Promise<string> => {
      const response = await fetch(sim.url + path, {
        method: 'POST',
        headers: { 'x-api-key': sim.apiKey, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      return ((await response.json()) as { id: string }).id;
    };
    const run_id = first?.traceId;
    await post('/api/v1/feedback', { run_id, key: 'thumbs', comment: CANARY_TEXT });
    const dataset_id = await post('/api/v1/datasets', { name: `good answers to ${CANARY_EMAIL}` });
    await post('/api/v1/examples', { dataset_id, source_run_id: run_id, inputs: { question: CANARY_TEXT } });
  }

  async function cli(args: readonly string[], input?: string): Promise<string> {
    const { stdout, stderr } = await lethe(args, { cwd: directory, ...(input === undefined ? {} : { input }) });
    show(`lethe ${args.join(' ')}`, `${stdout}\n${stderr}`);
    return stdout;
  }

  /** Steps that the lane has finished, well or not. */
  async function steps(requestId: string, connection: string): Promise<number> {
    const path = join(directory, 'state', 'records', requestId, `lane-${connection}.jsonl`);
    return (await readFile(path, 'utf8').catch(() => '')).split('\n').length;
  }

  /** Lets one store fail in every way, each until a step has ended on it. */
  async function strikeAll(place: Place, erasure: Erasure): Promise<void> {
    const { sim, proxy, connection, scope } = place;
    // Nothing may go before everything has failed, although some calls take effect and fail then.
    sim.habits.set({ skipWeekends: Infinity });
    if (connection === 'in-read') while (sim.truth.submissions().length === 0) await sleep(20);
    for (const strike of STRIKES) {
      if (strike.scope !== undefined && strike.scope !== scope) continue;
      proxy.count = 0;
      strike.apply(place);
      while (proxy.count === 0) await sleep(5);
      if (strike.passing === true) {
        // A read is repeated at once, twice.
        while (proxy.count < (scope === 'reads' ? 3 : 1)) await sleep(5);
        await sleep(50);
      } else {
        const before = await steps(erasure.requestId, connection);
        while ((await steps(erasure.requestId, connection)) === before) await sleep(20);
      }
      await describeNow(erasure.workflowId, `${connection} after ${strike.name}`);
      sim.habits.reset();
      sim.habits.set({ skipWeekends: Infinity });
      proxy.answer = null;
    }
    sim.habits.reset();
  }

  /** What the server tells of the workflow: memo, search attributes, running activities with their latest failure. */
  async function describeNow(workflowId: string, when: string): Promise<void> {
    const described = await client.temporal.workflowService.describeWorkflowExecution({
      namespace: 'lethe',
      execution: { workflowId },
    });
    await showMessage(`the workflow's description, ${when}`, JSON.stringify(described));
  }

  /** A message of the server as it is, and as the UI shows it. */
  async function showMessage(where: string, message: string): Promise<void> {
    show(where, message);
    const payloads = payloadsIn(JSON.parse(message));
    for (const payload of payloads) show(`${where}, a payload`, textOf(payload));
    const response = await fetch(`${codecServer.url}/decode`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-namespace': 'lethe', origin: UI },
      body: JSON.stringify({ payloads }),
    });
    const decoded = (await response.json()) as { payloads: JsonPayload[] };
    expect(decoded.payloads).toHaveLength(payloads.length);
    for (const payload of decoded.payloads) show(`${where}, in the UI`, textOf(payload));
  }

  async function showFiles(): Promise<void> {
    for (const file of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (!file.isFile() || file.name.startsWith('known-ids')) continue;
      const path = join(file.parentPath, file.name);
      show(`the name of ${path}`, path);
      show(path, await readFile(path));
    }
  }

  test('what looks for the person finds every form of every value', () => {
    for (const value of [CANARY, CANARY_USER, CANARY_EMAIL, CANARY_ID, CANARY_TEXT]) {
      for (const [name, form] of formsOf(value)) {
        const [where, bytes] = name === 'as latin1' ? ['bytes', Buffer.from(form, 'latin1')] : ['text', form];
        expect([name, where, traces(bytes).length > 0]).toEqual([name, where, true]);
      }
      for (const pad of ['', 'x', 'xy']) {
        const inside = Buffer.from(`${pad}${value}zzz`);
        for (const encoding of ['base64', 'base64url', 'hex'] as const) {
          expect(traces(`"${inside.toString(encoding)}"`)).not.toEqual([]);
        }
      }
    }
    expect(traces('nobody at all')).toEqual([]);
    expect(traces(randomBytes(100_000).toString('base64'))).toEqual([]);
  });

  test('with every error forced in every phase, no log, history, description, file or output holds the person', async () => {
    await writeFile(join(directory, 'known-ids.txt'), `${CANARY_ID}\n`);
    const identifiers = `user_id=${CANARY_USER}\n${JSON.stringify({ kind: 'email', value: CANARY_EMAIL })}\n`;
    const started = JSON.parse(
      await cli(['erase', '--id-file', '-', '--known', 'in-plan=known-ids.txt', '--json'], identifiers),
    ) as RequestStatus;
    const { requestId } = started;
    const erasure = await client.erase({
      requestId,
      identifiers: [
        { kind: 'user_id', value: CANARY_USER },
        { kind: 'email', value: CANARY_EMAIL },
      ],
      known: { 'in-plan': [CANARY_ID] },
    });
    expect(erasure.joined).toBe(true);

    const watching = cli(['status', requestId, '--watch']);
    await Promise.all(places.map((place) => strikeAll(place, erasure)));
    const end = await erasure.result();
    await watching;
    await Promise.all([cli(['list']), cli(['report', requestId]), cli(['doctor'])]);
    show('what --json prints', JSON.stringify([end, await client.list(), await client.report(requestId)]));

    expect(end.endedAt).not.toBeNull();
    for (const { sim } of places) {
      expect(sim.truth.tracesOf([{ key: 'user_id', value: CANARY_USER }])).toEqual([]);
      expect(sim.truth.unasked()).toEqual([]);
      expect(sim.truth.allTraces()).toHaveLength(6);
    }

    const { workflowService } = client.temporal;
    await describeNow(erasure.workflowId, 'at the end');
    const listed = await workflowService.listWorkflowExecutions({ namespace: 'lethe' });
    await showMessage('the list of workflows', JSON.stringify(listed));
    for (const queryType of ['__temporal_workflow_metadata', '__stack_trace', 'status']) {
      const answer = await workflowService.queryWorkflow({
        namespace: 'lethe',
        execution: { workflowId: erasure.workflowId },
        query: { queryType },
      });
      await showMessage(`the query ${queryType}`, JSON.stringify(answer));
    }
    const history = historyToJSON(await client.temporal.workflow.getHandle(erasure.workflowId).fetchHistory());
    await showMessage('the history', history);
    show('the log of the worker', worker.log);
    show('the log of the server', logOfServer.join('\n'));
    await showFiles();

    const leaks = shown.flatMap(({ where, what }) =>
      traces(what)
        .slice(0, 1)
        .map((form) => `${where}: ${form}`),
    );
    expect(leaks).toEqual([]);
    // Nor do the stores' keys, which some of them quote.
    const keys = new Set(places.map(({ sim }) => sim.apiKey));
    const outside = shown.filter(({ where }) => !where.endsWith('lethe.yaml'));
    const told = outside.filter(({ what }) => [...keys].some((key) => Buffer.from(what).includes(key)));
    expect(told.map(({ where }) => where)).toEqual([]);

    // The search was not in vain: the person went to the stores and through Temporal, and every error was met.
    for (const { proxy } of places) expect(traces(proxy.bodies.join('\n'))).not.toEqual([]);
    const codec = new EncryptionCodec(client.keys);
    const plain = await codec.decode(payloadsIn(JSON.parse(history)).map(JSONToPayload));
    expect(plain.some(({ data }) => traces(data ?? new Uint8Array()).length > 0)).toBe(true);
    const { lanes } = await client.report(requestId);
    for (const { connection } of places) {
      const reasons = lanes[connection]?.entries.flatMap(({ entry }) =>
        entry.kind === 'trouble' ? [entry.reason] : [],
      );
      expect([...new Set(reasons)]).toEqual(
        expect.arrayContaining(['unreachable', 'denied', 'throttled', 'gone', 'contract-broken', 'rejected']),
      );
    }
    expect(worker.log).toContain('store call');
    expect(history).toContain('"StoreUnreachable"');
    process.stdout.write(`${shown.length} texts and files looked through; ended ${end.status}\n`);
  }, 120_000);
});
