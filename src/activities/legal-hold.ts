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
 * @param read values on the traces that are about to be deleted.
 * @throws StepTrouble `legal-hold`: nothing may be deleted.
 */
export async function assertNotHeld(
  deps: LaneDeps,
  subject: readonly Identifier[],
  read: readonly Named[] = [],
): Promise<void> {
  if (deps.holds === undefined) return;
  const folded = new Set(deps.kinds.filter(({ caseInsensitive }) => caseInsensitive).map(({ kind }) => kind));
  const named = read.map(({ kind, text }) => ({ kind, value: text }));
  const digests = digestsOf(deps.keys, [...subject, ...named], folded);
  const held = await deps.holds.isHeld(digests);
  if (held !== null) throw new StepTrouble('legal-hold', held);
}
