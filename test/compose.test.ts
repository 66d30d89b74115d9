import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { z } from 'zod';

import { loadConfig } from '../src/config/config.ts';
import { TEMPORAL_SERVER_VERSION } from '../src/temporal/binary.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

interface Service {
  readonly image?: string;
  readonly restart?: string;
  readonly healthcheck?: unknown;
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly configs?: ReadonlyArray<{ readonly source: string }>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly entrypoint?: readonly string[];
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs: Readonly<Record<string, { readonly file?: string; readonly content?: string }>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

interface SpecifiedObject {
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly allOf?: ReadonlyArray<{ readonly $ref: string }>;
}

const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const packageJson = JSON.parse(read('package.json')) as { version: string; devDependencies: Record<string, string> };

/** A one-shot is what others wait for until it has ended; everything else serves. */
const oneShots = new Set(
  services.flatMap(([, { depends_on: needs }]) =>
    Object.entries(needs ?? {}).flatMap(([name, { condition }]) =>
      condition === 'service_completed_successfully' ? [name] : [],
    ),
  ),
);

describe('docker-compose.yml', () => {
  // The Compose Specification's own schema. `unevaluatedProperties` is beyond zod's reader; what it forbids, fields of
  // a service that the specification doesn't know, is checked beside it.
  const specification = JSON.parse(read('test/fixtures/compose-spec.schema.json'), (key, value: unknown) =>
    key === 'unevaluatedProperties' ? undefined : value,
  ) as { $defs: Record<string, SpecifiedObject> };
  const schema = z.fromJSONSchema(specification as Parameters<typeof z.fromJSONSchema>[0]);
  const fieldsOf = ({ properties, allOf }: SpecifiedObject): string[] => [
    ...Object.keys(properties ?? {}),
    ...(allOf ?? []).flatMap(({ $ref }) => fieldsOf(specification.$defs[$ref.replace('#/$defs/', '')]!)),
  ];
  const serviceFields = new Set(fieldsOf(specification.$defs['service']!));

  test('fits the Compose Specification', () => {
    expect(schema.safeParse(compose).error?.issues).toBeUndefined();
    for (const [, service] of services) {
      expect(Object.keys(service).filter((field) => !serviceFields.has(field))).toEqual([]);
    }
  });

  test.each([
    ['an unknown section', { ...compose, service: {} }],
    ['an image that is no text', { ...compose, services: { a: { image: 1 } } }],
    ['an unknown condition', { ...compose, services: { a: { depends_on: { b: { condition: 'ready' } } } } }],
    ['a misspelt health check', { ...compose, services: { a: { healthcheck: { command: ['true'] } } } }],
  ])('the check refuses %s', (_, wrong) => {
    expect(schema.safeParse(wrong).success).toBe(false);
    expect(serviceFields.has('helthcheck')).toBe(false);
  });

  test.each(services)('%s: image pinned to a version', (_, { image }) => {
    expect(image).toMatch(/^[a-z][a-z0-9/.-]*:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$/);
  });

  test.each(services)('%s: a health check, or a one-shot that others wait for', (name, { healthcheck, restart }) => {
    if (oneShots.has(name)) {
      expect(healthcheck).toBeUndefined();
      expect(restart).toMatch(/^on-failure:\d+$/);
    } else {
      expect(healthcheck).toBeDefined();
      expect(restart).toBe('unless-stopped');
    }
  });

  test.each(services)('%s: waits only for what exists and can be waited for', (_, { depends_on: needs }) => {
    for (const [name, { condition }] of Object.entries(needs ?? {})) {
      expect(compose.services[name]).toBeDefined();
      expect(condition).toBe(oneShots.has(name) ? 'service_completed_successfully' : 'service_healthy');
    }
  });

  test.each(services)('%s: secrets come from the environment, and their absence is an error', (_, service) => {
    for (const [name, value] of Object.entries(service.environment ?? {})) {
      if (!/PASSWORD|PWD|KEY|SECRET|TOKEN/.test(name)) continue;
      expect(`${name}=${value}`).toMatch(/=\$\{[A-Z_]+:\?[^}]+\}$/);
    }
  });

  test.each(services)('%s: ports are open on this machine only', (_, { ports }) => {
    for (const port of ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test('what is mounted is declared, and what must last is on a named volume', () => {
    for (const [, { volumes, configs }] of services) {
      for (const volume of volumes ?? []) expect(Object.keys(compose.volumes)).toContain(volume.split(':')[0]);
      for (const { source } of configs ?? []) expect(Object.keys(compose.configs)).toContain(source);
    }
    expect(compose.services['postgresql']!.volumes).toEqual(['postgresql:/var/lib/postgresql/data']);
    expect(compose.services['worker']!.volumes).toEqual(['lethe:/var/lib/lethe']);
  });

  test('versions agree with the rest of the repository', () => {
    expect(compose.services['temporal']!.image).toBe(`temporalio/server:${TEMPORAL_SERVER_VERSION}`);
    expect(compose.services['temporal-schema']!.image).toBe(`temporalio/admin-tools:${TEMPORAL_SERVER_VERSION}`);
    expect(compose.services['worker']!.image).toBe(`lethe:${packageJson.version}`);
  });

  test('the mounted configuration is valid with exactly the variables that the worker gets', () => {
    const env = Object.fromEntries(
      Object.entries(compose.services['worker']!.environment!).map(([name]) => [
        name,
        name.startsWith('LETHE_') ? Buffer.alloc(32, name).toString('base64') : 'key',
      ]),
    );
    const path = join(root, compose.configs['lethe']!.file!);
    const config = loadConfig({ path, env });
    expect(config.temporal.address).toBe('temporal:7233');
    // The one-shot has no store's key, and does not need one.
    const names = Object.keys(compose.services['temporal-namespace']!.environment!);
    const less = Object.fromEntries(Object.entries(env).filter(([name]) => names.includes(name)));
    expect(loadConfig({ path, env: less, storeSecrets: false }).temporal.namespace).toBe('lethe');
    expect(() => loadConfig({ path, env: less })).toThrow('LANGSMITH_API_KEY');
  });
});

describe('Dockerfile', () => {
  const lines = read('Dockerfile').replaceAll('\\\n', ' ').split('\n');

  test('builds on the Node that the repository pins', () => {
    const images = lines.filter((line) => line.startsWith('FROM ')).map((line) => line.split(' ')[1]);
    expect(new Set(images)).toEqual(new Set([`node:${packageJson.devDependencies['node']}-bookworm-slim`]));
  });

  test('copies only what exists and the context holds, and no state or keys', () => {
    const context = read('.dockerignore').split('\n');
    expect(context).toContain('*');
    const sources = lines
      .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
      .flatMap((line) => line.split(/\s+/).slice(1, -1));
    for (const source of sources) {
      expect(existsSync(join(root, source))).toBe(true);
      expect(context).toContain(`!${source}`);
    }
    expect(context.filter((line) => /lethe\.|\.lethe|\.env|node_modules/.test(line) && line.startsWith('!'))).toEqual(
      [],
    );
  });

  test('every script that the images start is built', () => {
    const started = `${read('Dockerfile')}\n${read('docker-compose.yml')}`.matchAll(/dist\/([\w/-]+)\.js/g);
    for (const [, path] of started) expect(`${path} ${existsSync(join(root, `src/${path}.ts`))}`).toBe(`${path} true`);
  });
});
