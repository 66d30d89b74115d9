import { join } from 'node:path';
import { z } from 'zod';
import type { LetheConfig } from '../config/config.ts';
import { union, type ExtendMessage } from '../erasure/extend.ts';
import type { EraseInput } from '../erasure/request.ts';
import { canonicalJson } from '../evidence/canonical.ts';
import { ensureDirectory, readIfExists, writeAtomically } from '../vault/files.ts';
import { contentDigest, type Keys } from '../vault/keys.ts';
import { prepareRequest, type PreparedRequest } from './prepare.ts';

/**
 * What makes a request join an open one: the scope of both, named by its digest. Both must be bound in time alike
 * (`EraseInput.onlyBeforeMs`).
 *
 * @param existing what is being erased.
 * @throws InvalidRequestError when both together are too much for one request.
 */
export function extendMessage(
  prepared: PreparedRequest,
  existing: EraseInput,
  config: LetheConfig,
  keys: Keys,
): ExtendMessage {
  const { input } = prepared;
  const known = Object.fromEntries(
    [...new Set([...Object.keys(existing.known), ...Object.keys(input.known)])].map((name) => [
      name,
      [...union(existing.known[name] ?? [], input.known[name] ?? [], (id) => id)],
    ]),
  );
  // The first one's ids as they are, repeats and all: its ledger counts them.
  for (const [name, ids] of Object.entries(existing.known)) {
    const had = new Set(ids);
    known[name] = [...ids, ...(known[name] ?? []).filter((id) => !had.has(id))];
  }
  const expectAtMost = input.expectAtMost ?? existing.expectAtMost;
  const requestedBy = existing.requestedBy ?? input.requestedBy;
  const both = prepareRequest(
    {
      identifiers: [...union(existing.subject, input.subject, ({ kind, value }) => JSON.stringify([kind, value]))],
      known,
      connections: [...union(existing.connections, input.connections, (name) => name)],
      acceptUnlabelled: Math.max(existing.acceptUnlabelled, input.acceptUnlabelled),
      ...(expectAtMost === null ? {} : { expectAtMost }),
      ...(requestedBy === undefined ? {} : { requestedBy }),
      ...(existing.onlyBeforeMs === undefined ? {} : { onlyBefore: new Date(existing.onlyBeforeMs).toISOString() }),
    },
    config,
    keys,
  );
  const { requestId, receivedAtMs, dueAtMs } = existing;
  const { deadlines: _ofBoth, ...scope } = both.input;
  return {
    requestId: joiningId(prepared, keys),
    receivedAtMs: input.receivedAtMs,
    dueAtMs: input.dueAtMs,
    ...(input.requestedBy === undefined ? {} : { requestedBy: input.requestedBy }),
    baseDigest: existing.scopeDigest,
    scope: {
      ...scope,
      requestId,
      receivedAtMs,
      dueAtMs,
      ...(existing.deadlines === undefined ? {} : { deadlines: existing.deadlines }),
    },
    scopeMemo: { ...both.scope, requestId },
  };
}

/** The same for a request whose scope is that of the open one already. */
export function sameScopeMessage(prepared: PreparedRequest, keys: Keys): ExtendMessage {
  const { input, scope } = prepared;
  return {
    requestId: joiningId(prepared, keys),
    receivedAtMs: input.receivedAtMs,
    dueAtMs: input.dueAtMs,
    ...(input.requestedBy === undefined ? {} : { requestedBy: input.requestedBy }),
    baseDigest: input.scopeDigest,
    scope: input,
    scopeMemo: { ...scope },
  };
}

/**
 * The id under which a request joins: the caller's, or one that is the same whenever the same is asked again, so that asking
 * twice joins once.
 */
function joiningId({ chosenId, input, stated }: PreparedRequest, keys: Keys): string {
  if (chosenId) return input.requestId;
  const { receivedAtMs } = stated;
  if (receivedAtMs === null) return input.requestId;
  const digest = contentDigest(keys, canonicalJson(['joins', input.scopeDigest, receivedAtMs]));
  return `r-${new Date(receivedAtMs).toISOString().slice(0, 10).replaceAll('-', '')}-${digest.slice(0, 10)}`;
}

/**
 * Whether a request of the same scope is one of its own: its verdict needs reads after its receipt. Who says neither an id
 * nor a receipt asks for what is there already.
 */
export function isOwnRequest(
  { chosenId, input, stated }: PreparedRequest,
  existing: { readonly requestId: string; readonly receivedAtMs: number },
): boolean {
  if (chosenId) return input.requestId !== existing.requestId;
  return stated.receivedAtMs !== null && stated.receivedAtMs > existing.receivedAtMs;
}

const joinedSchema = z.strictObject({
  /** The request that it joined. */
  requestId: z.string(),
  workflowId: z.string(),
  /** Of the request that joined, so that its id is not used for something else. */
  scopeDigest: z.string(),
});
type JoinedTo = z.infer<typeof joinedSchema>;

/** Where ids of requests that joined another one are looked up: in the state directory, one file each. Only a hint. */
export class JoinedIds {
  readonly #folder: string;

  constructor(stateDir: string) {
    this.#folder = join(stateDir, 'joined');
  }

  /** @param requestId checked by the caller: it becomes a file's name. */
  async put(requestId: string, to: JoinedTo): Promise<void> {
    await ensureDirectory(this.#folder);
    await writeAtomically(this.#path(requestId), `${JSON.stringify(to)}\n`);
  }

  /** @returns null when nothing is known of it. */
  async get(requestId: string): Promise<JoinedTo | null> {
    const bytes = await readIfExists(this.#path(requestId));
    if (bytes === null) return null;
    try {
      return joinedSchema.parse(JSON.parse(bytes.toString('utf8')));
    } catch {
      return null;
    }
  }

  #path(requestId: string): string {
    return join(this.#folder, `${requestId}.json`);
  }
}
