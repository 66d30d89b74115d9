import { entryKey, type BookEntry } from '../erasure/book.ts';

/** What each finder has shown of the person in one read: keys of traces, by name of the finder. */
export type Shown = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Reads in a row that prove nothing, about a day with the pauses between them, until a finder that has lost sight of a trace
 * is no longer waited for: views of a store may lag for hours, and one may lose a trace for good, when only parts of it are
 * kept. An operator was asked long before.
 */
export const READS_BEFORE_LASTING = 12;

/**
 * Finders that do not show a kept trace any more although they have shown it before and another still does: what else they
 * do not show proves nothing (P5). That a finder never showed a trace says nothing: some know the person of a root only.
 */
export function lostSight(entries: readonly BookEntry[], shown: Shown): ReadonlySet<string> {
  const lost = new Set<string>();
  for (const entry of entries) {
    if (entry.state !== 'shared') continue;
    const key = entryKey(entry);
    if (![...shown.values()].some((keys) => keys.has(key))) continue;
    for (const name of entry.shownBy ?? []) if (shown.get(name)?.has(key) === false) lost.add(name);
  }
  return lost;
}

/**
 * The entries with the finders that have shown each kept trace so far.
 *
 * @param given names of finders that are given up: they need show nothing from now on.
 */
export function withSight(
  entries: readonly BookEntry[],
  shown: Shown,
  given: ReadonlySet<string> = new Set(),
): readonly BookEntry[] {
  return entries.map((entry) => {
    if (entry.state !== 'shared') return entry;
    const key = entryKey(entry);
    const now = [...shown].filter(([, keys]) => keys.has(key)).map(([name]) => name);
    const shownBy = [...new Set([...(entry.shownBy ?? []), ...now])].filter((name) => !given.has(name)).sort();
    return { ...entry, shownBy };
  });
}

/** For an operator and the record. */
export function lostSightInWords(names: ReadonlySet<string>): string {
  const which = [...names].map((name) => `"${name}"`).join(' and ');
  return `the search ${which} does not show a kept trace any more that it showed before and another search still shows`;
}
