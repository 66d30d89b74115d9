import type { EraseInput, Identifier } from './request.ts';

/**
 * The one argument of `extend`: another request of the same person, and the scope that both have together. The client puts
 * it together, since only it can name a scope by its keyed digest.
 */
export interface ExtendMessage {
  /** Id of the request that joins. */
  readonly requestId: string;
  /** Epoch milliseconds. */
  readonly receivedAtMs: number;
  /** Epoch milliseconds. */
  readonly dueAtMs: number;
  /** Who asks for it; absent: it does not say. */
  readonly requestedBy?: string;
  /** Digest of the scope that was added to: refused when the scope has changed since. */
  readonly baseDigest: string;
  /** Both scopes together; its request id and times are those of the open request. */
  readonly scope: EraseInput;
  /** What the next request is compared with; see `SCOPE_MEMO`. */
  readonly scopeMemo: Readonly<Record<string, unknown>>;
}

/** What the sender of an `extend` is told. */
export interface ExtendReceipt {
  readonly requestId: string;
  /** Of the request that it joined. */
  readonly joined: string;
  readonly text: string;
}

/** A request that joined another one, with its own receipt. */
export interface JoinedRequest {
  readonly requestId: string;
  /** Epoch milliseconds. */
  readonly receivedAtMs: number;
  /** Epoch milliseconds. */
  readonly dueAtMs: number;
  /** Virtual epoch milliseconds. */
  readonly joinedAtMs: number;
  /** Who asked for it; absent: it does not say. */
  readonly requestedBy?: string;
}

/** Most requests that one may take in: each is kept in the state that runs hand on. */
const MOST_JOINED = 100;

/** @returns the message, or a line that says what is wrong with it; never repeats a value. */
export function parseExtendMessage(input: unknown): ExtendMessage | string {
  const fields = record(input);
  if (fields === null) return 'the argument must be one object; ask through the client, which makes it';
  const { requestId, receivedAtMs, dueAtMs, baseDigest } = fields;
  const scope = record(fields['scope']);
  if (typeof requestId !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(requestId)) {
    return '"requestId" must be the id of a request';
  }
  const { requestedBy = '' } = fields;
  if (typeof requestedBy !== 'string') return '"requestedBy" must be a text';
  if (!isMs(receivedAtMs) || !isMs(dueAtMs)) return '"receivedAtMs" and "dueAtMs" must be epoch milliseconds';
  if (typeof baseDigest !== 'string' || scope === null || record(fields['scopeMemo']) === null) {
    return '"baseDigest", "scope" and "scopeMemo" must be there';
  }
  const { subject, known, connections, scopeDigest } = scope;
  const isIdentifier = (one: unknown): boolean => {
    const pair = record(one);
    return typeof pair?.['kind'] === 'string' && typeof pair['value'] === 'string';
  };
  const isTexts = (list: unknown): boolean => Array.isArray(list) && list.every((one) => typeof one === 'string');
  const ids = record(known);
  if (
    !Array.isArray(subject) ||
    !subject.every(isIdentifier) ||
    !isTexts(connections) ||
    ids === null ||
    !Object.values(ids).every(isTexts) ||
    typeof scopeDigest !== 'string'
  ) {
    return '"scope" is not complete';
  }
  return input as ExtendMessage;
}

/** @returns why a request can't join, or null. `at`: the open request as it stands. */
export function extendRefusal(
  message: ExtendMessage,
  at: { readonly scope: EraseInput; readonly joined: readonly JoinedRequest[] },
): string | null {
  const { scope, joined } = at;
  // Taken already: its sender lost the answer.
  if (joined.some(({ requestId }) => requestId === message.requestId)) return null;
  if (message.requestId === scope.requestId) return 'a request cannot join itself';
  if (joined.length >= MOST_JOINED) return `${MOST_JOINED} requests have joined already; ask again after its end`;
  if (scope.dryRun || message.scope.dryRun) return 'a plan takes in no other request; ask again after its end';
  if (message.baseDigest !== scope.scopeDigest) return SCOPE_CHANGED;
  // One bound for all: without it, what the open request leaves alone would be erased; with another, what it erases kept.
  if (message.scope.onlyBeforeMs !== scope.onlyBeforeMs) {
    return '"onlyBefore" must be that of the open request; ask again after its end';
  }
  if (message.scope.scopeDigest !== scope.scopeDigest && !contains(message.scope, scope))
    return '"scope" must hold everything that is erased already';
  return null;
}

/** Of a refusal after which the same may be asked once more. */
export const SCOPE_CHANGED = 'its scope has changed meanwhile; ask again';

/** Whether everything of one scope is in another one. */
export function contains(whole: EraseInput, part: EraseInput): boolean {
  const name = ({ kind, value }: Identifier): string => JSON.stringify([kind, value]);
  const subject = new Set(whole.subject.map(name));
  const known = (connection: string): ReadonlySet<string> => new Set(whole.known[connection] ?? []);
  return (
    part.subject.every((identifier) => subject.has(name(identifier))) &&
    part.connections.every((connection) => whole.connections.includes(connection)) &&
    Object.entries(part.known).every(([connection, ids]) => {
      const of = known(connection);
      return ids.every((id) => of.has(id));
    })
  );
}

/** Both lists, each element once, the first list's first. */
export function union<T>(first: readonly T[], second: readonly T[], name: (one: T) => string): readonly T[] {
  const had = new Set(first.map(name));
  return [...first, ...second.filter((one) => !had.has(name(one)))];
}

function record(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}

function isMs(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
