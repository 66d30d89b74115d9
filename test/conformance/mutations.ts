import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Breaks one habit of ours after the other in a scratch copy of the repository, and shows by which cases the conformance
// kit turns red. Exits with 1 when a mutation goes unnoticed, or when the kit is red without any.
//
// node scripts/node.mjs test/conformance/mutations.ts [NUMBER...]

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const COPIED = ['src', 'test', 'examples', 'scripts', 'package.json', 'jest.config.js', 'tsconfig.json'];

interface Mutation {
  readonly name: string;
  readonly file: string;
  /** Stands there exactly once. */
  readonly from: string;
  readonly to: string;
  readonly store: 'langsmith' | 'memory';
  readonly level: 'at the port' | 'in whole erasures';
}

const MUTATIONS: readonly Mutation[] = [
  {
    name: 'look-up through v2 only',
    file: 'src/stores/langsmith/store.ts',
    from: 'readers.map((reader) => reader.lookup())',
    to: '[v2].map((reader) => reader.lookup())',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'a finder takes its controls for seen',
    file: 'src/stores/langsmith/reads.ts',
    from: "union.add({ rows: theirs, seen: seenIn(rows, here) }, here);\n      }\n    }\n    return this.#report(tally, 'find'",
    to: "union.add({ rows: theirs, seen: new Set(here) }, here);\n      }\n    }\n    return this.#report(tally, 'find'",
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'a verifying read counts without its controls',
    file: 'src/activities/reader.ts',
    from: 'if (seen === controls.length) {',
    to: 'if (seen <= controls.length) {',
    store: 'memory',
    level: 'in whole erasures',
  },
  {
    name: 'a look-up shows labelled rows only: no whole traces',
    file: 'src/stores/langsmith/reads.ts',
    from: 'const theirs = rows.filter(({ traceId }) => asked.has(traceId));',
    to: 'const theirs = rows.filter(({ traceId, persons }) => asked.has(traceId) && persons.length > 0);',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'whose a trace is, judged by its first row',
    file: 'src/activities/reader.ts',
    from: 'const values = rows.flatMap(({ persons }) => persons);',
    to: 'const values = rows.slice(0, 1).flatMap(({ persons }) => persons);',
    store: 'memory',
    level: 'in whole erasures',
  },
  {
    name: 'the guard does not ask whether a trace was read',
    file: 'src/stores/guard.ts',
    from: 'if (unread > 0) {',
    to: 'if (unread < 0) {',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'an identifier compared by its beginning',
    file: 'src/activities/reader.ts',
    from: 'const match = persons.some(({ kind, text }) => this.variants.get(kind)?.has(text) ?? false);\n      if (match) traces.set',
    to: 'const match = persons.some(({ kind, text }) => [...(this.variants.get(kind) ?? [])].some((one) => text.startsWith(one)));\n      if (match) traces.set',
    store: 'memory',
    level: 'in whole erasures',
  },
  {
    name: 'a literal without escapes',
    file: 'src/stores/langsmith/filter.ts',
    from: 'return JSON.stringify(text)',
    to: 'return `"${text}"`',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: '404 of a route taken for "not there"',
    file: 'src/stores/langsmith/reads.ts',
    from: 'const found = await this.traces(tally, places, window, along, Number.POSITIVE_INFINITY, fit);',
    to: "const found = await this.traces(tally, places, window, along, Number.POSITIVE_INFINITY, fit).catch((error: unknown) => { if ((error as { reason?: string }).reason === 'gone') return { rows: [], seen: new Set(along) }; throw error; });",
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'paging stops at the first page',
    file: 'src/stores/api.ts',
    from: 'if (next === null) return { ids, repeats, pages };',
    to: 'if (next === null || pages === 1) return { ids, repeats, pages };',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'rows that nobody could claim are let through',
    file: 'src/stores/langsmith/reads.ts',
    from: 'else if (!controlRuns.has(row.runId)) strange = true;',
    to: 'else if (!controlRuns.has(row.runId)) strange = false;',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'a delete that was reset counts as acknowledged',
    file: 'src/stores/langsmith/submit.ts',
    from: "const denied = error instanceof StoreError && error.reason === 'denied' && error.status === 403;",
    to: "if (error instanceof StoreError && error.reason === 'unreachable') return { sentAtMs: 0, acknowledgedAtMs: 0, route: ROUTE, status: 202, requestId: null };\n    const denied = error instanceof StoreError && error.reason === 'denied' && error.status === 403;",
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'a delete is repeated by itself after a reset',
    file: 'src/stores/http.ts',
    from: 'const delays = request.read ? retryDelaysMs : [];',
    to: 'const delays = retryDelaysMs;',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'the last word is not asked for',
    file: 'src/stores/http.ts',
    from: 'await request.lastWord?.().catch(',
    to: 'await Promise.resolve().catch(',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'an answer that counts too much switches nothing off',
    file: 'src/stores/langsmith/submit.ts',
    from: 'if (most.length > 0) killSwitch.trip(',
    to: 'if (most.length < 0) killSwitch.trip(',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'Retry-After is not waited for',
    file: 'src/stores/api.ts',
    from: 'if (error.notBeforeMs !== null) this.#pacer.close(call.shape, error.notBeforeMs);',
    to: '',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'controls from excluded people',
    file: 'src/stores/control-pool.ts',
    from: 'if (this.#exclude(row)) {',
    to: 'if (!this.#exclude) {',
    store: 'langsmith',
    level: 'at the port',
  },
  {
    name: 'the manifest is not looked up again',
    file: 'src/activities/verify-absence.ts',
    from: 'const present = await reader.present(readable);',
    to: 'const present = await reader.present(readable.slice(0, 0));',
    store: 'memory',
    level: 'in whole erasures',
  },
  {
    name: 'the distance between the clocks is not minded',
    file: 'src/activities/reader.ts',
    from: 'if (skew !== null && skew > this.deps.store.traits.rhythm.settleMs) {',
    to: 'if (skew !== null && skew < 0) {',
    store: 'memory',
    level: 'in whole erasures',
  },
];

interface JestReport {
  readonly testResults: readonly {
    readonly message: string;
    readonly assertionResults: readonly { readonly title: string; readonly status: string }[];
  }[];
}

const scratch = mkdtempSync(join(tmpdir(), 'lethe-mutations-'));
for (const name of COPIED) cpSync(join(ROOT, name), join(scratch, name), { recursive: true });
symlinkSync(join(ROOT, 'node_modules'), join(scratch, 'node_modules'));

/** Titles of the cases that failed. */
function kit(store: string, level: string): readonly string[] {
  const report = join(scratch, 'report.json');
  rmSync(report, { force: true });
  spawnSync(
    process.execPath,
    [
      '--experimental-vm-modules',
      join(scratch, 'node_modules/jest/bin/jest.js'),
      '--json',
      `--outputFile=${report}`,
      '--testNamePattern',
      `^${store} ${level} `,
      '--runTestsByPath',
      `test/conformance-${store}.test.ts`,
    ],
    { cwd: scratch, stdio: 'ignore' },
  );
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as JestReport;
  const cases = testResults.flatMap(({ assertionResults }) => assertionResults);
  // A file that does not even load has no case: the mutation would be one of the syntax.
  if (cases.length === 0)
    throw new Error(`the kit did not run: ${testResults.map(({ message }) => message).join('\n')}`);
  return cases.filter(({ status }) => status === 'failed').map(({ title }) => title);
}

const chosen = process.argv.slice(2).map(Number);
const mutations = MUTATIONS.filter((_mutation, index) => chosen.length === 0 || chosen.includes(index + 1));
let unnoticed = 0;
try {
  for (const which of new Set(mutations.map(({ store, level }) => `${store}|${level}`))) {
    const [store = '', level = ''] = which.split('|');
    const failed = kit(store, level);
    if (failed.length > 0) throw new Error(`${store} ${level} is red without any mutation: ${failed.join('; ')}`);
    process.stdout.write(`none → ${store} ${level} is green\n`);
  }
  for (const { name, file, from, to, store, level } of mutations) {
    const path = join(scratch, file);
    const text = readFileSync(path, 'utf8');
    const number = MUTATIONS.findIndex((mutation) => mutation.name === name) + 1;
    if (text.split(from).length !== 2) throw new Error(`${number}. ${name}: its text does not stand once in ${file}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
    const failed = kit(store, level);
    writeFileSync(path, text);
    if (failed.length === 0) unnoticed += 1;
    const caught = failed.length === 0 ? 'NOT NOTICED' : `caught by ${failed.length}: ${failed.join(' | ')}`;
    process.stdout.write(`${number}. ${name} (${file}) → ${store}: ${caught}\n`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = unnoticed === 0 ? 0 : 1;
