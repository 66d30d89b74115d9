import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { connectionSchema, supportPartOf } from '../src/stores/registry.ts';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));

const stores = connectionSchema.options.flatMap(({ shape }) => [...shape.store.values]);

test('the registry names stores', () => {
  expect(stores.length).toBeGreaterThanOrEqual(5);
});

// What the kit has not judged keeps no promise, whatever the connector's own tests say.
test.each(stores)('%s is judged by the conformance kit', (store) => {
  // A store whose real server runs on the test machine has its file beside the tests against real servers.
  const file = ['', 'real/']
    .map((folder) => fileURLToPath(new URL(`${folder}conformance-${store}.test.ts`, import.meta.url)))
    .find((path) => existsSync(path));
  expect(file).toBeDefined();
  expect(readFileSync(file ?? '', 'utf8')).toMatch(/^conformance\(/m);
});

test('outside the stores, their simulators and the demo no code knows a store by name', () => {
  const named = new RegExp(`['"\`](${stores.join('|')})['"\`]`);
  const elsewhere = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !/^(stores|simulators)[/\\]|^cli[/\\]demo/.test(path),
  );
  expect(elsewhere.length).toBeGreaterThan(50);
  expect(elsewhere.filter((path) => named.test(readFileSync(`${SRC}${path}`, 'utf8')))).toEqual([]);
});

test('the support of each vendor is told what it wants, and that of another store what every packet tells', () => {
  const facts = {
    projects: [{ id: 'p', name: 'chat' }],
    projectIds: ['p'],
    plannedAt: '2026-11-25T12:00:00Z',
    latestReadAt: null,
    deletes: [['a', 'b'], ['c']],
  };
  const key = { apiKey: 'k', identifiers: { user_id: ['metadata.user_id'] } };
  const partOf = (config: object) => supportPartOf(connectionSchema.parse({ ...key, ...config }), facts);

  const workspaceId = '7a1f2d8e-5c3b-4e6a-9d0f-1b2c3d4e5f60';
  const langsmith = partOf({ store: 'langsmith', baseUrl: 'https://api.smith.langchain.com', workspaceId });
  expect(langsmith.packet).toMatchObject({ workspaceId, projects: facts.projects });

  const braintrust = partOf({ store: 'braintrust', organization: 'Acme' });
  expect(braintrust.packet).toMatchObject({ organization: 'Acme', projects: facts.projects });
  const trace = { projectId: "p'", traceId: 't', rowIds: ['r'], rowsAtPlan: 2, rowsAtLatestRead: 1 };
  expect(braintrust.trace?.(trace)).toMatchObject({
    row_ids: ['r'],
    before: { rows: 2, at: facts.plannedAt },
    after: { query: expect.stringContaining("project_logs('p\\'')"), rows: 1, at: null },
  });

  expect(partOf({ store: 'respan', environments: ['p'], startDate: '2024-03-01' }).packet).toMatchObject({
    environments: ['p'],
    filters: [
      { trace_unique_id: { operator: 'in', value: ['a', 'b'] } },
      { trace_unique_id: { operator: 'in', value: ['c'] } },
    ],
  });

  const phoenix = partOf({ store: 'phoenix', baseUrl: 'http://127.0.0.1:6006', identifiers: { user_id: ['user.id'] } });
  expect(phoenix).toEqual({ packet: { projects: facts.projects } });
});
