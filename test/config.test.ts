import { describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, type LetheConfig } from '../src/config/config.ts';
import { dueAfter, parseDuePeriod } from '../src/config/due.ts';
import { ConfigError } from '../src/config/errors.ts';
import { isLoopback } from '../src/config/loopback.ts';

const EXAMPLE = new URL('../lethe.example.yaml', import.meta.url);

const SECRETS = {
  LETHE_HMAC_KEY: '4f1c8a7be2d09356f7a1c4d8b3e6290f51d7ac38e9064b2f8d13c5a7e0b49f26',
  LETHE_VAULT_KEY: 'b8e02d6f91a4c7538de1f0a29b6c3d47e58f0a1b2c9d4e6f7a8b0c1d2e3f4a5b',
  LANGSMITH_API_KEY: 'lsv2_pt_0123456789',
};

function load(yaml: string, env: NodeJS.ProcessEnv = SECRETS, storeSecrets = true): LetheConfig {
  const path = join(mkdtempSync(join(tmpdir(), 'lethe-config-')), 'lethe.yaml');
  writeFileSync(path, yaml);
  // HOME decides where Temporal's own profiles are looked for.
  return loadConfig({ path, env: { HOME: '/nonexistent', ...env }, storeSecrets });
}

function problems(yaml: string, env: NodeJS.ProcessEnv = SECRETS): readonly string[] {
  try {
    load(yaml, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ path, message }) => `${path}: ${message}`);
    throw error;
  }
  return [];
}

const CONNECTION = `
connections:
  prod: { store: langsmith, apiKey: \${LANGSMITH_API_KEY}, identifiers: { user_id: [metadata.user_id] } }
`;
const LOCAL = `
connections:
  sim: { store: langsmith, baseUrl: 'http://127.0.0.1:9000', apiKey: k, identifiers: { user_id: [metadata.user_id] } }
`;

describe('loadConfig', () => {
  test('reads the commented example', () => {
    const config = load(readFileSync(EXAMPLE, 'utf8'));
    expect(config.secrets).toEqual({ hmac: SECRETS.LETHE_HMAC_KEY, vault: SECRETS.LETHE_VAULT_KEY });
    expect(config.kinds).toEqual([
      { kind: 'user_id', caseInsensitive: false },
      { kind: 'email', caseInsensitive: true },
    ]);
    expect(config.connections['langsmith-prod']).toMatchObject({
      store: 'langsmith',
      apiKey: SECRETS.LANGSMITH_API_KEY,
      identifiers: { user_id: ['metadata.user_id', 'metadata.customer'], email: ['metadata.email'] },
    });
    expect(config.policy).toEqual({
      cleanReads: 2,
      flagAfterRounds: 3,
      law: 'gdpr',
      zone: 'Europe/Berlin',
      due: null,
      refuseAbove: 10_000,
      sharedTraces: 'keep',
      linkedTraces: 'keep',
      grace: 3_600_000,
      expectedPeople: 200,
      aftercareDays: [],
    });
    expect(config.clock).toBeNull();
  });

  test('P12: conversations are followed by the store’s own keys unless the config says otherwise', () => {
    const threadsOf = (threads: string) =>
      load(`identifiers: [user_id]\n${CONNECTION}`.replace('store: langsmith,', `store: langsmith, ${threads}`))
        .connections;
    const of = (threads: string) => {
      const [connection] = Object.values(threadsOf(threads));
      return connection?.store === 'langsmith' ? connection.threads : undefined;
    };
    expect(of('')).toEqual(['metadata.session_id', 'metadata.conversation_id', 'metadata.thread_id']);
    expect(of('threads: [],')).toEqual([]);
    expect(of('threads: [metadata.chat],')).toEqual(['metadata.chat']);
    expect(() => of('threads: [chat],')).toThrow(/threads/);
    expect(() => of('threads: [metadata.chat, metadata.chat],')).toThrow(/twice/);
  });

  test('fills defaults once', () => {
    const config = load(`identifiers: [user_id]\n${CONNECTION}`);
    expect(config.temporal).toMatchObject({
      address: '127.0.0.1:7233',
      namespace: 'lethe',
      tls: false,
      apiKey: null,
      taskQueue: 'lethe',
      uiAddress: 'http://127.0.0.1:8233',
    });
    expect(config.stateDir.endsWith('/.lethe')).toBe(true);
    expect(config.secrets).toBeNull();
    expect(config.policy.expectedPeople).toBe(200);
  });

  test('P25: reports all problems at once, each with its path', () => {
    const found = problems(`
keys: { hmac: \${LETHE_HMAC_KEY}, vault: short }
policy: { cleanReads: 1, due: soon, sharedTraces: perhaps, linkedTraces: true, grace: soon }
identifiers: [user_id]
stat: ./x
temporal: { adress: x }
connections:
  prod: { store: langsmith, baseUrl: 'http://example.com', apiKey: \${LANGSMITH_API_KEY}, identifiers: { email: [metadata.email] }, accept: [everything] }
  two: { store: nowhere }
`);
    const paths = found.map((line) => line.split(': ')[0]);
    expect(paths).toEqual(
      expect.arrayContaining([
        'keys.vault',
        'policy.cleanReads',
        'policy.due',
        'policy.sharedTraces',
        'policy.linkedTraces',
        'policy.grace',
        'stat',
        'temporal.adress',
        'connections.prod.baseUrl',
        'connections.two.store',
      ]),
    );
  });

  test('P25: a missing secret is named with its variable and its path, together with every other problem', () => {
    const found = problems(`keys: { hmac: \${LETHE_HMAC_KEY}, vault: \${NOPE} }\nidentifiers: []\n${CONNECTION}`, {
      LETHE_HMAC_KEY: '',
    });
    expect(found).toEqual([
      'keys.hmac: needs the environment variable LETHE_HMAC_KEY, which is empty',
      'keys.vault: needs the environment variable NOPE, which is not set',
      'connections.prod.apiKey: needs the environment variable LANGSMITH_API_KEY, which is not set',
      'identifiers: must name at least one kind of identifier, the primary one first',
    ]);
  });

  test('a process that talks to no store needs no credentials of stores', () => {
    const env = { LETHE_HMAC_KEY: SECRETS.LETHE_HMAC_KEY, LETHE_VAULT_KEY: SECRETS.LETHE_VAULT_KEY };
    expect(() => load(readFileSync(EXAMPLE, 'utf8'), env, false)).not.toThrow();
    expect(() => load(readFileSync(EXAMPLE, 'utf8'), env)).toThrow(/LANGSMITH_API_KEY/);
    expect(() => load(readFileSync(EXAMPLE, 'utf8'), {}, false)).toThrow(/LETHE_HMAC_KEY/);
  });

  test('what a variable holds is never read as YAML', () => {
    const config = load(`identifiers: [user_id]\n${CONNECTION}`, { LANGSMITH_API_KEY: 'a:b,{c}#d' });
    expect(config.connections['prod']?.apiKey).toBe('a:b,{c}#d');
  });

  test.each([
    ['policy: { due: 1 month', /line 1, column 23/],
    ['a: 1\na: 2', /line 2, column 1: Map keys must be unique/],
    ['just a text', /must hold settings by name/],
    ['policy:\n\t- x', /line 2/],
  ])('P25: malformed YAML is refused with its line: %j', (yaml, expected) => {
    expect(() => load(yaml)).toThrow(expected);
  });

  test('P25: a file that is not there is named', () => {
    expect(() => loadConfig({ path: '/nonexistent/lethe.yaml', env: {} })).toThrow(
      /nonexistent\/lethe\.yaml has a problem.*\n.*there is no such file/,
    );
    expect(() => loadConfig({ env: { LETHE_CONFIG: '/nonexistent/other.yaml' } })).toThrow(/other\.yaml/);
  });

  test('weak or equal keys are refused without being repeated', () => {
    const found = problems(
      `keys: { hmac: hunter2hunter2, vault: hunter2hunter2 }\nidentifiers: [user_id]\n${CONNECTION}`,
    );
    expect(found.map((line) => line.split(':')[0])).toEqual(['keys.hmac', 'keys.vault']);
    expect(found.join()).not.toContain('hunter2');
    const same = problems(
      `keys: { hmac: \${LETHE_HMAC_KEY}, vault: \${LETHE_HMAC_KEY} }\nidentifiers: [user_id]\n${CONNECTION}`,
    );
    expect(same).toEqual(['keys.vault: is the same secret as keys.hmac: make two']);
  });

  test('each kind that a connection searches must be among identifiers', () => {
    expect(problems(`identifiers: [email]\n${CONNECTION}`)).toEqual([
      'connections.prod.identifiers.user_id: is not among identifiers (email)',
    ]);
    expect(problems(`identifiers: [user_id, { kind: user_id }]\n${CONNECTION}`)).toEqual([
      'identifiers[1]: repeats user_id',
    ]);
  });
});

describe('P34: a simulated clock', () => {
  const CLOCK =
    'identifiers: [user_id]\nclock: { real: 2026-11-26T12:00:00Z, virtual: 2026-11-27T18:00:00Z, speed: 1000 }';

  test('is taken when everything is on this machine', () => {
    const config = load(`${CLOCK}\n${LOCAL}`);
    expect(config.clock).toEqual({
      realMs: Date.UTC(2026, 10, 26, 12),
      virtualMs: Date.UTC(2026, 10, 27, 18),
      speed: 1000,
    });
  });

  test('is refused for a store elsewhere, default addresses included', () => {
    expect(problems(`${CLOCK}\n${CONNECTION}`)).toEqual([
      expect.stringMatching(/^connections\.prod\.baseUrl: is not on this machine/),
    ]);
  });

  test('is refused for a Temporal server elsewhere, from file or environment', () => {
    expect(problems(`${CLOCK}\ntemporal: { address: 'temporal.example.com:7233' }\n${LOCAL}`)).toEqual([
      expect.stringMatching(/^temporal\.address: is not on this machine/),
    ]);
    expect(problems(`${CLOCK}\n${LOCAL}`, { TEMPORAL_ADDRESS: '10.0.0.5:7233' })).toHaveLength(1);
  });
});

describe('the Temporal connection', () => {
  const YAML = `temporal: { address: 'file:7233', namespace: from-file }\nidentifiers: [user_id]\n${LOCAL}`;

  test("Temporal's own variables win over the file", () => {
    const { temporal } = load(YAML, { TEMPORAL_ADDRESS: 'env:7233', TEMPORAL_API_KEY: 'secret' });
    expect(temporal).toMatchObject({ address: 'env:7233', namespace: 'from-file', apiKey: 'secret', tls: true });
  });

  test('a profile is read when it is named, and never lends its key to an address of the file', () => {
    const directory = mkdtempSync(join(tmpdir(), 'lethe-profile-'));
    const toml = join(directory, 'temporal.toml');
    writeFileSync(
      toml,
      '[profile.default]\naddress = "default:7233"\napi_key = "k1"\n[profile.prod]\naddress = "prod:7233"\nnamespace = "ns"\napi_key = "k2"\n',
    );
    const env = { TEMPORAL_CONFIG_FILE: toml };
    expect(load(YAML, env).temporal).toMatchObject({ address: 'file:7233', apiKey: null, tls: false });
    const named = load(`temporal: { profile: prod }\nidentifiers: [user_id]\n${LOCAL}`, env).temporal;
    expect(named).toMatchObject({ address: 'prod:7233', namespace: 'ns', apiKey: 'k2', tls: true });
    expect(load(`identifiers: [user_id]\n${LOCAL}`, env).temporal).toMatchObject({ address: 'default:7233' });
    expect(problems(`temporal: { profile: gone }\nidentifiers: [user_id]\n${LOCAL}`, env)).toEqual([
      expect.stringMatching(/^temporal\.profile: .*gone/),
    ]);
  });

  test('unreadable certificates are named', () => {
    expect(problems(`temporal: { tls: { ca: gone.pem, cert: gone.crt } }\nidentifiers: [user_id]\n${LOCAL}`)).toEqual([
      'temporal.tls: needs both cert and key, or neither',
      'temporal.tls.ca: cannot be read (ENOENT)',
      'temporal.tls.cert: cannot be read (ENOENT)',
    ]);
  });
});

describe('due periods', () => {
  test.each([
    ['1 month', { months: 1 }],
    ['3 months', { months: 3 }],
    ['30 days', { days: 30 }],
    ['2 weeks', { days: 14 }],
  ])('%s', (text, expected) => {
    expect(parseDuePeriod(text)).toEqual(expected);
  });

  test.each(['', '0 days', 'one month', '1 year', '-1 days', '1.5 months'])('%j is none', (text) => {
    expect(parseDuePeriod(text)).toBeNull();
  });

  test.each([
    ['2026-01-31T10:30:00Z', 1, '2026-02-28T10:30:00Z'],
    ['2027-11-30T00:00:00Z', 3, '2028-02-29T00:00:00Z'],
    ['2026-12-15T23:59:59Z', 1, '2027-01-15T23:59:59Z'],
  ])('%s + %d calendar months', (from, months, to) => {
    expect(dueAfter({ months }, Date.parse(from))).toBe(Date.parse(to));
  });
});

test.each([
  ['127.0.0.1:7233', true],
  ['http://localhost:80/x', true],
  ['http://[::1]:9000', true],
  ['127.1.2.3', true],
  ['localhost.example.com:7233', false],
  ['http://127.0.0.1.example.com', false],
  ['0.0.0.0:7233', false],
  ['', false],
])('isLoopback(%j) is %s', (address, expected) => {
  expect(isLoopback(address)).toBe(expected);
});
