import type { Identifier } from '../erasure/request.ts';
import { digestsOf } from '../vault/subject-holds.ts';
import type { LaneDeps } from './deps.ts';
import { StepTrouble } from './trouble.ts';

/** A value that names somebody, as a read showed it. */
interface Named {
  readonly kind: string;
  readonly text: string;
}

/**
 * Asks, at the last moment, whether anybody is held whom a delete would concern (P27): the request's person, by every
 * spelling of every identifier, and whoever is named on what was read.
 *
 * @param read digests of the values on what is about to be deleted, see `digestsOfNamed`.
 * @throws StepTrouble `legal-hold`: nothing may be deleted.
 */
export async function assertNotHeld(
  deps: LaneDeps,
  subject: readonly Identifier[],
  read: readonly string[] = [],
): Promise<void> {
  if (deps.holds === undefined) return;
  const held = await deps.holds.isHeld([...digestsOf(deps.keys, subject, foldedKinds(deps)), ...read]);
  if (held !== null) throw new StepTrouble('legal-hold', held);
}

/** Keyed digests of every spelling of some values: what a later step can ask about without knowing the values. */
export function digestsOfNamed(deps: LaneDeps, read: readonly Named[]): string[] {
  const named = new Map(read.map(({ kind, text }) => [JSON.stringify([kind, text]), { kind, value: text }]));
  return [...new Set(digestsOf(deps.keys, [...named.values()], foldedKinds(deps)))];
}

function foldedKinds({ kinds }: LaneDeps): ReadonlySet<string> {
  return new Set(kinds.filter(({ caseInsensitive }) => caseInsensitive).map(({ kind }) => kind));
}
