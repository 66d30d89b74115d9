import type { Identifier } from './request.ts';

/** Shorter values stand in many words by chance: they are looked for as a word of their own. */
const LEAST_INSIDE = 4;

/** Without its spaces and punctuation a shorter value stands in many texts by chance. */
const LEAST_SQUASHED = 6;

/**
 * Whether a text that is shown in clear text, a reason for instance, quotes an identifier of a person (P33): whatever the
 * case, also without its spaces and punctuation, and by the part of an e-mail address before the @.
 *
 * @param text what somebody wrote.
 * @param subject the identifiers of the request.
 */
export function quotesIdentifier(text: string, subject: readonly Identifier[]): boolean {
  const plain = folded(text);
  const bare = squashed(plain);
  return subject.some(({ value }) => {
    const wanted = folded(value).trim();
    const local = /^(.+)@[^@]+$/.exec(wanted)?.[1];
    if (stands(plain, bare, wanted)) return true;
    return local !== undefined && local.length >= LEAST_SQUASHED && stands(plain, bare, local);
  });
}

/** What is told of a text that was refused; the text itself is not repeated. */
export const QUOTES_IDENTIFIER =
  'contains an identifier of the person: it is kept in the record and shown in clear text; write it without';

function stands(plain: string, bare: string, wanted: string): boolean {
  if (wanted === '') return false;
  if (wanted.length >= LEAST_INSIDE ? plain.includes(wanted) : standsAsWord(plain, wanted)) return true;
  const wantedBare = squashed(wanted);
  return wantedBare.length >= LEAST_SQUASHED && bare.includes(wantedBare);
}

function standsAsWord(plain: string, wanted: string): boolean {
  const isPart = (character: string): boolean => /[\p{L}\p{N}]/u.test(character);
  for (let at = plain.indexOf(wanted); at >= 0; at = plain.indexOf(wanted, at + 1)) {
    const before = plain.slice(0, at).at(-1) ?? '';
    const after = plain.charAt(at + wanted.length);
    if (!isPart(before) && !isPart(after)) return true;
  }
  return false;
}

/** Composed or not, of full or half width, large or small: a reader sees the same. */
function folded(text: string): string {
  return text.normalize('NFKC').toLowerCase();
}

function squashed(text: string): string {
  return text.replace(/[^\p{L}\p{N}]/gu, '');
}
