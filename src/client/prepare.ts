import { randomBytes } from 'node:crypto';
import type { LetheConfig } from '../config/config.ts';
import { dueAfter } from '../config/due.ts';
import type { Problem } from '../config/errors.ts';
import { problemsOf } from '../config/zod-problems.ts';
import { virtualNow } from '../erasure/clock.ts';
import { STATUS_WITHIN_MS, type ScopeMemo } from '../erasure/memo.ts';
import { eraseRequestSchema, type CheckedRequest, type EraseInput, type EraseRequest } from '../erasure/request.ts';
import { deadlinesOf, type Deadlines } from '../erasure/law.ts';
import { DAY_MS } from '../erasure/rhythm.ts';
import { canonicalJson } from '../evidence/canonical.ts';
import { contentDigest, workflowIdFor, type Keys } from '../vault/keys.ts';
import { InvalidRequestError } from './errors.ts';

/** `ScopeMemo` with what a refusal needs to name every difference. */
export interface FullScope extends ScopeMemo {
  readonly acceptUnlabelled: number;
  readonly expectAtMost: number | null;
  readonly dryRun: boolean;
  /** See `EraseInput.onlyBeforeMs`; null: no bound. */
  readonly onlyBeforeMs: number | null;
  /** Keyed digests of the parts of the scope. */
  readonly subjectDigest: string;
  readonly knownDigest: string;
}

/** A request, checked against the config and ready to start. */
export interface PreparedRequest {
  readonly workflowId: string;
  /** Workflow ids that an open request of the same person may have, by any of the identifiers; `workflowId` among them. */
  readonly workflowIds: readonly string[];
  readonly input: EraseInput;
  readonly scope: FullScope;
  /** Whether the caller chose the request id. */
  readonly chosenId: boolean;
  readonly join: EraseRequest['join'];
  /** What the caller said about time; null: nothing, the policy did. */
  readonly stated: { readonly receivedAtMs: number | null; readonly dueAtMs: number | null };
}

/** No kind of identifier has a space in its name. */
const KNOWN_IDS_ONLY = 'known ids';

/** How far ahead of ours a caller's clock may be. */
const MOST_FUTURE_MS = DAY_MS;

/**
 * Checks a request and turns it into the workflow's input. Touches nothing.
 *
 * @throws InvalidRequestError that lists every problem with its field; no values, since they name a person.
 */
export function prepareRequest(request: EraseRequest, config: LetheConfig, keys: Keys): PreparedRequest {
  const parsed = eraseRequestSchema.safeParse(request);
  if (!parsed.success) throw new InvalidRequestError(problemsOf(parsed.error.issues));
  const checked = parsed.data;
  const nowMs = virtualNow(config.clock);
  const problems = [
    ...scopeProblems(checked, config),
    ...timeProblems(checked, nowMs),
    ...requesterProblems(checked, config),
  ];
  if (problems.length > 0) throw new InvalidRequestError(problems);

  const connections = [...new Set(checked.connections ?? Object.keys(config.connections))].sort();
  const known = Object.fromEntries(Object.entries(checked.known).filter(([, ids]) => ids.length > 0));
  const receivedAtMs = checked.receivedAt === undefined ? null : Date.parse(checked.receivedAt);
  const dueAtMs = checked.dueAt === undefined ? null : Date.parse(checked.dueAt);
  const options = {
    acceptUnlabelled: checked.acceptUnlabelled ?? 0,
    expectAtMost: checked.expectAtMost ?? null,
    dryRun: checked.dryRun,
  };

  const spellings = normalisedSubject(checked, config);
  const ids = Object.entries(known)
    .map(([connection, given]) => [connection, [...new Set(given.map(normalisedId))].sort()] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const digest = (part: string, value: unknown): string => contentDigest(keys, canonicalJson([part, value]));
  // As given: a spelling that only the second request names would never be searched if it joined the first.
  const given = checked.identifiers.map(({ kind, value }) => JSON.stringify([kind, value])).sort();
  const onlyBeforeMs = checked.onlyBefore === undefined ? null : Date.parse(checked.onlyBefore);
  // Without a bound the digest is that of releases which knew of none.
  const bound = onlyBeforeMs === null ? {} : { onlyBeforeMs };
  const scopeDigest = digest('scope', { subject: given, known: ids, connections, ...options, ...bound });

  const requestId = checked.requestId ?? newRequestId(nowMs);
  const deadlines = deadlinesOf(checked.law ?? config.policy.law, receivedAtMs ?? nowMs, config.policy.zone);
  const workflowId = workflowIdOf(spellings, ids, config, keys);
  return {
    workflowId,
    workflowIds: [...new Set([workflowId, ...spellings.map(([kind, value]) => workflowIdFor(keys, kind, value))])],
    input: {
      requestId,
      subject: checked.identifiers,
      known,
      connections,
      receivedAtMs: receivedAtMs ?? nowMs,
      dueAtMs: dueAtMs ?? dueOf(checked, config, deadlines, receivedAtMs ?? nowMs),
      deadlines,
      scopeDigest,
      ...(checked.requestedBy === undefined ? {} : { requestedBy: checked.requestedBy }),
      ...options,
      ...bound,
      ...(config.policy.aftercareDays.length === 0 || options.dryRun
        ? {}
        : { aftercareDays: config.policy.aftercareDays }),
      ...(config.notify === null ? {} : { notify: config.notify.events }),
      statusWithinMs: STATUS_WITHIN_MS,
      ...(config.clock === null ? {} : { clock: config.clock }),
    },
    scope: {
      requestId,
      scopeDigest,
      connections,
      kinds: [...new Set(checked.identifiers.map(({ kind }) => kind))].sort(),
      knownCount: Object.values(known).reduce((sum, given) => sum + given.length, 0),
      subjectDigest: digest('subject', given),
      knownDigest: digest('known', ids),
      ...options,
      onlyBeforeMs,
    },
    chosenId: checked.requestId !== undefined,
    join: checked.join,
    stated: { receivedAtMs, dueAtMs },
  };
}

/** When a request is due whose caller said nothing about it. */
function dueOf(request: CheckedRequest, config: LetheConfig, deadlines: Deadlines, receivedAtMs: number): number {
  const { due } = config.policy;
  // A law that the caller names is meant as it stands; the policy may ask for more haste than its own law does.
  const byLaw = request.law !== undefined || due === null ? deadlines.firstDueAtMs : null;
  return byLaw ?? dueAfter(due ?? { months: 1 }, receivedAtMs);
}

function scopeProblems(request: CheckedRequest, config: LetheConfig): Problem[] {
  const names = Object.keys(config.connections);
  const configured = `configured are ${names.join(', ')}`;
  const problems: Problem[] = [];
  for (const [index, name] of (request.connections ?? []).entries()) {
    if (!names.includes(name)) problems.push({ path: `connections[${index}]`, message: `is unknown; ${configured}` });
  }
  const scope = request.connections ?? names;
  for (const name of Object.keys(request.known)) {
    // The name is the caller's own word for one of our connections, never a person's.
    if (!names.includes(name))
      problems.push({ path: `known.${name}`, message: `is an unknown connection; ${configured}` });
    else if (!scope.includes(name)) problems.push({ path: `known.${name}`, message: 'is not among connections' });
  }
  const kinds = config.kinds.map(({ kind }) => kind);
  for (const [index, { kind }] of request.identifiers.entries()) {
    if (!kinds.includes(kind)) {
      problems.push({
        path: `identifiers[${index}].kind`,
        message: `"${kind}" is not configured; identifiers are ${kinds.join(', ')}`,
      });
    }
  }
  if (problems.length > 0) return problems;

  // P8: with nothing to search by and no ids to look up there is nothing that could ever be found.
  const searchable = request.identifiers.some(({ kind }) =>
    scope.some((name) => (config.connections[name]?.identifiers[kind]?.length ?? 0) > 0),
  );
  const knownIds = Object.values(request.known).some((ids) => ids.length > 0);
  if (!searchable && !knownIds) {
    const given = [...new Set(request.identifiers.map(({ kind }) => kind))].join(', ');
    problems.push({
      path: 'identifiers',
      message:
        `${given} cannot be searched in ${scope.join(', ')}: name its keys under connections.NAME.identifiers, ` +
        'give another kind of identifier, or give known ids',
    });
  }
  return problems;
}

function timeProblems(request: CheckedRequest, nowMs: number): Problem[] {
  const problems: Problem[] = [];
  if (request.receivedAt === undefined) return problems;
  const received = Date.parse(request.receivedAt);
  if (received > nowMs + MOST_FUTURE_MS) problems.push({ path: 'receivedAt', message: 'lies in the future' });
  if (request.dueAt !== undefined && Date.parse(request.dueAt) <= received) {
    problems.push({ path: 'dueAt', message: 'is not after the receipt' });
  }
  return problems;
}

function requesterProblems({ requestedBy }: CheckedRequest, { policy }: LetheConfig): Problem[] {
  if (policy.secondPersonAbove === undefined || requestedBy !== undefined) return [];
  return [
    {
      path: 'requestedBy',
      message: 'must name who asks: policy.secondPersonAbove is set, so large plans need the approval of somebody else',
    },
  ];
}

/** Sorted [kind, spelling] pairs; kinds declared so are folded and trimmed (P15), and only these. */
function normalisedSubject(request: CheckedRequest, config: LetheConfig): readonly (readonly [string, string])[] {
  const folded = new Set(config.kinds.filter((rule) => rule.caseInsensitive).map(({ kind }) => kind));
  const pairs = request.identifiers.map(({ kind, value }): readonly [string, string] => [
    kind,
    folded.has(kind) ? value.trim().toLowerCase() : value,
  ]);
  const unique = new Map(pairs.map((pair) => [JSON.stringify(pair), pair]));
  return [...unique.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pair]) => pair);
}

/** Only what is surely the same id in another spelling becomes one: a UUID in capitals. */
function normalisedId(id: string): string {
  const trimmed = id.trim();
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(trimmed) ? trimmed.toLowerCase() : trimmed;
}

function workflowIdOf(
  subject: readonly (readonly [string, string])[],
  ids: readonly (readonly [string, readonly string[]])[],
  config: LetheConfig,
  keys: Keys,
): string {
  for (const { kind } of config.kinds) {
    // Of several values of the primary kind the first in order, whatever order they were given in.
    const primary = subject.find(([given]) => given === kind);
    if (primary !== undefined) return workflowIdFor(keys, kind, primary[1]);
  }
  return workflowIdFor(keys, KNOWN_IDS_ONLY, canonicalJson(ids));
}

function newRequestId(nowMs: number): string {
  return `r-${new Date(nowMs).toISOString().slice(0, 10).replaceAll('-', '')}-${randomBytes(5).toString('hex')}`;
}

/**
 * What keeps a new request from joining one that exists.
 *
 * @param existing its scope, and its times as shown by its status.
 * @returns one line for each difference; empty when they are the same.
 */
export function differences(
  request: PreparedRequest,
  existing: FullScope & { readonly receivedAtMs: number; readonly dueAtMs: number },
): readonly string[] {
  const { scope, stated } = request;
  const lines: string[] = [];
  const compare = (name: string, theirs: string, ours: string) => {
    if (theirs !== ours) lines.push(`${name}: it has ${theirs}, this one ${ours}`);
  };
  const list = (names: readonly string[]) => (names.length === 0 ? 'none' : names.join(', '));
  compare('connections', list(existing.connections), list(scope.connections));
  compare('kinds of identifiers', list(existing.kinds), list(scope.kinds));
  if (existing.subjectDigest !== scope.subjectDigest && list(existing.kinds) === list(scope.kinds)) {
    lines.push('identifiers: the same kinds with other values');
  }
  compare('known ids', String(existing.knownCount), String(scope.knownCount));
  if (existing.knownDigest !== scope.knownDigest && existing.knownCount === scope.knownCount) {
    lines.push('known ids: as many, but others');
  }
  compare('acceptUnlabelled', String(existing.acceptUnlabelled), String(scope.acceptUnlabelled));
  compare('expectAtMost', String(existing.expectAtMost ?? 'none'), String(scope.expectAtMost ?? 'none'));
  compare('dryRun', String(existing.dryRun), String(scope.dryRun));
  const boundOf = (ms: number | null) => (ms === null ? 'none' : new Date(ms).toISOString());
  compare('onlyBefore', boundOf(existing.onlyBeforeMs), boundOf(scope.onlyBeforeMs));
  // Repeats among the known ids are no other scope: nothing else would be erased.
  if (existing.scopeDigest === scope.scopeDigest) lines.length = 0;
  else if (lines.length === 0) lines.push('its scope differs');

  const instant = (ms: number) => new Date(ms).toISOString();
  if (stated.receivedAtMs !== null && stated.receivedAtMs < existing.receivedAtMs) {
    lines.push(
      `receivedAt: it was received ${instant(existing.receivedAtMs)}, this one earlier, ${instant(stated.receivedAtMs)}`,
    );
  }
  if (stated.dueAtMs !== null && stated.dueAtMs !== existing.dueAtMs) {
    lines.push(`dueAt: it is due ${instant(existing.dueAtMs)}, this one ${instant(stated.dueAtMs)}`);
  }
  return lines;
}
