// The import fence: which room of src/ may import which. docs/architecture.md shows the same picture.
//
// A room is a folder directly under src/. A file outside the table may import anything except a store's own folder.

import { dirname, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const SRC = resolve(dirname(fileURLToPath(import.meta.url)), '..', 'src');

/**
 * `files`: prefixes, under src/, of the files that may be imported; the own room is not implied.
 * `packages`: names that may be imported, null for any package and node built-in.
 * `typesFromAnywhere`: whether imports that vanish at compile time are free.
 */
const ROOMS = {
  workflows: {
    files: ['workflows/', 'erasure/', 'temporal/search-attributes.ts'],
    packages: ['@temporalio/workflow', '@temporalio/common'],
    typesFromAnywhere: true,
    why: 'workflow code is replayed in a sandbox: it sees the domain, the workflow API and types, nothing that acts',
  },
  erasure: {
    files: ['erasure/'],
    packages: ['zod'],
    why: 'the domain is pure: it sees nothing but itself',
  },
  stores: {
    files: ['stores/', 'erasure/', 'version.ts'],
    packages: null,
    why: 'a store sees the domain and the port',
  },
  activities: {
    files: ['activities/', 'erasure/', 'evidence/', 'vault/', 'stores/port.ts'],
    packages: null,
    why: 'activities know stores through the port only, never by name',
  },
  vault: {
    files: ['vault/', 'erasure/'],
    packages: null,
    why: 'the vault keeps bytes and knows nobody who fills it',
  },
  evidence: {
    files: ['evidence/', 'erasure/', 'vault/', 'stores/port.ts'],
    packages: null,
    why: 'evidence describes what was done and does nothing',
  },
  simulators: {
    files: ['simulators/', 'erasure/'],
    packages: null,
    why: "a simulator is written from the vendor's documents; sharing code with the connector would hide its mistakes",
  },
};

/** The one file that names the stores. */
const REGISTRY = 'stores/registry.ts';

/**
 * What is wrong with an import, or null.
 *
 * @param {string} from importing file, relative to src/, with slashes
 * @param {string} specifier
 * @param {string | null} target imported file, relative to src/; null when it is a package
 * @param {boolean} typeOnly
 */
function verdict(from, specifier, target, typeOnly) {
  const room = ROOMS[from.split('/')[0] ?? ''];
  const isFree = room !== undefined && room.typesFromAnywhere === true && typeOnly;
  if (target !== null) {
    const store = /^stores\/([^/]+)\//.exec(target);
    if (store !== null && from !== REGISTRY && !from.startsWith(store[0]) && !isFree) {
      return `only ${REGISTRY} and the store itself import from src/${store[0]}`;
    }
    if (room === undefined || isFree || room.files.some((prefix) => target.startsWith(prefix))) return null;
    return `src/${target.replace(/\.ts$/, '')} is outside the fence of src/${from.split('/')[0]}/: ${room.why}`;
  }
  if (room === undefined || isFree || room.packages === null || room.packages.includes(specifier)) return null;
  return `"${specifier}" is outside the fence of src/${from.split('/')[0]}/: ${room.why}`;
}

/** @type {import('eslint').Rule.RuleModule} */
const rule = {
  meta: {
    type: 'problem',
    docs: { description: 'keep imports inside the fence around each room of src/' },
    schema: [],
    messages: { outside: '{{reason}}.' },
  },
  create(context) {
    const from = relative(SRC, resolve(context.filename)).split(sep).join('/');
    if (from.startsWith('..')) return {};

    function check(node, source, typeOnly) {
      if (source === null || source === undefined) return;
      if (typeof source.value !== 'string') {
        // A computed path can't be checked, and nothing here needs one.
        if (ROOMS[from.split('/')[0] ?? ''] !== undefined) {
          context.report({ node, messageId: 'outside', data: { reason: 'a computed import cannot be checked' } });
        }
        return;
      }
      const specifier = source.value;
      const target = /^\.{1,2}\//.test(specifier)
        ? relative(SRC, resolve(dirname(context.filename), specifier))
            .split(sep)
            .join('/')
        : null;
      const reason = verdict(from, specifier, target, typeOnly);
      if (reason !== null) context.report({ node: source, messageId: 'outside', data: { reason } });
    }

    return {
      // Under verbatimModuleSyntax only a whole `import type` statement vanishes: `import { type X }` still loads the file.
      ImportDeclaration: (node) => check(node, node.source, node.importKind === 'type'),
      ExportNamedDeclaration: (node) => check(node, node.source, node.exportKind === 'type'),
      ExportAllDeclaration: (node) => check(node, node.source, node.exportKind === 'type'),
      ImportExpression: (node) => check(node, node.source, false),
    };
  },
};

export default rule;
