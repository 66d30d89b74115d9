import type { Book } from '../erasure/book.ts';
import { formatCount } from '../erasure/format.ts';
import type { StepInput } from '../erasure/steps.ts';
import type { Row } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';

/**
 * More values of the primary kind than this behind identifiers of other kinds: they may name several people, and only
 * the caller knows (P18).
 */
const MOST_PEOPLE_PER_IDENTIFIER = 1;

/** Values of the primary kind on some rows. */
export function peopleOn(deps: LaneDeps, rows: readonly Row[]): ReadonlySet<string> {
  const primary = deps.kinds[0]?.kind;
  const values = rows.flatMap(({ persons }) => persons);
  // What applications write when nobody is logged in names nobody.
  const named = values.filter(({ kind, text }) => kind === primary && text.trim() !== '');
  return new Set(named.map(({ text }) => text));
}

/** Those whom an operator has approved by approving a plan, which has them all. */
export function approvedPeople(
  book: Pick<Book, 'people' | 'approvedPeople'>,
  digest: string,
  { approvedPlan }: Pick<StepInput, 'approvedPlan'>,
): string[] {
  return [...((digest === approvedPlan ? book.people : book.approvedPeople) ?? [])];
}

/** Why nothing may be submitted before an operator has looked at whose the traces are, or null. */
export function peopleStop(
  deps: LaneDeps,
  { baselineKinds, people = [], approvedPeople: approved = [] }: Book,
): string | null {
  const primary = deps.kinds[0]?.kind;
  if (primary === undefined || baselineKinds.includes(primary) || people.length <= MOST_PEOPLE_PER_IDENTIFIER) {
    return null;
  }
  const known = new Set(approved);
  if (people.every((one) => known.has(one))) return null;
  return `the identifiers given match traces with ${formatCount(people.length)} different values of ${primary}: nothing new was deleted; if all of them are this person's, approve exactly this plan (\`lethe approve\`); else abandon this request and start again, naming each ${primary} that is`;
}
