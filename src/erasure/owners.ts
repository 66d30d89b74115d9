import type { Identifier } from './request.ts';

/** A person value as a read showed it; the store port's `PersonValue` has this shape. */
export interface Value {
  readonly kind: string;
  readonly text: string;
}

/** The spellings of each kind that name the subject; nothing else does (P15). */
export type SubjectVariants = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * The exact spellings that count as the subject.
 *
 * @param caseInsensitive kinds declared so in the config: their spelling without spaces around it, and that in lower
 *   case, count too. No other folding is done: two user ids that differ in case are two people.
 */
export function subjectVariants(subject: readonly Identifier[], caseInsensitive: ReadonlySet<string>): SubjectVariants {
  const variants = new Map<string, Set<string>>();
  for (const { kind, value } of subject) {
    const folded = caseInsensitive.has(kind);
    const of = variants.get(kind) ?? (folded ? new FoldedSet() : new Set<string>());
    const spellings = folded ? [value, value.trim(), value.trim().toLowerCase()] : [value];
    // The same letters, composed or not: no reader can tell them apart, and a store's comparison does.
    for (const spelling of spellings) of.add(spelling).add(spelling.normalize('NFC')).add(spelling.normalize('NFD'));
    variants.set(kind, of);
  }
  return variants;
}

/** Spellings to search by; whatever differs from one of them in case or outer spaces only is the same person too. */
class FoldedSet extends Set<string> {
  override has(text: string): boolean {
    return super.has(text) || super.has(text.trim().toLowerCase());
  }
}

/** Whose a trace is, going by every value on every one of its runs. */
export type Owner =
  /** The subject's alone. */
  | 'subject'
  /** Carries no identifier at all. */
  | 'nobody'
  /** Carries identifiers, none of them the subject's. */
  | 'others'
  /** The subject's and somebody else's, or too unclear to tell apart. */
  | 'mixed';

/**
 * Decides whose a trace is (P15 to P17).
 *
 * A value of a kind that the request names is the subject's or somebody else's. Of a kind that the request does not
 * name one value tells nothing, since most people have both a user id and an e-mail address; two different ones are two
 * people.
 *
 * @param cutLength length at which the store cuts values, or null: a value of that length may be anybody's.
 * @param cutBy whether a longer value is as uncertain, or whole because only some writers cut.
 */
export function ownerOf(
  values: readonly Value[],
  variants: SubjectVariants,
  cutLength: number | null,
  cutBy: 'store' | 'writer' = 'store',
): Owner {
  let subject = false;
  let others = false;
  let unclear = false;
  const unnamed = new Map<string, string>();
  for (const { kind, text } of values) {
    // What applications write when nobody is logged in: it names no second person. Words such as "guest" may be one.
    if (text.trim() === '') continue;
    const of = variants.get(kind);
    if (of === undefined) {
      const seen = unnamed.get(kind);
      if (seen !== undefined && seen !== text) others = true;
      unnamed.set(kind, text);
    } else if (mayBeCut(text, cutLength, cutBy)) unclear = true;
    else if (of.has(text)) subject = true;
    else others = true;
  }
  if (unclear) return 'mixed';
  if (subject) return others ? 'mixed' : 'subject';
  return others || unnamed.size > 0 ? 'others' : 'nobody';
}

/** Writers that cut count characters as people do, not in halves of those beyond the first 65,536. */
function mayBeCut(text: string, cutLength: number | null, cutBy: 'store' | 'writer'): boolean {
  if (cutLength === null) return false;
  return cutBy === 'store'
    ? text.length >= cutLength
    : text.length === cutLength || Array.from(text).length === cutLength;
}
