import { subjectDigest, type Keys } from '../vault/keys.ts';

/** Many people who share a page each ask about everybody on it. */
const MOST = 10_000;
/** Identifiers don't stay in a process's memory for longer than the work that read them takes, real milliseconds. */
const KEPT_MS = 60_000;

const recent = new WeakMap<Keys, Map<string, string>>();

/** `subjectDigest`, remembered for a minute. */
export function recentDigest(keys: Keys, kind: string, value: string): string {
  let known = recent.get(keys);
  if (known === undefined || known.size >= MOST) {
    known = new Map();
    recent.set(keys, known);
    setTimeout(() => recent.delete(keys), KEPT_MS).unref();
  }
  const name = JSON.stringify([kind, value]);
  const before = known.get(name);
  if (before !== undefined) return before;
  const digest = subjectDigest(keys, kind, value);
  known.set(name, digest);
  return digest;
}
