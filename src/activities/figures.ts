import { copyLedger, givenLedger, traceLedger, type Book } from '../erasure/book.ts';
import { earliestVerdict, type Outlook } from '../erasure/deadline.ts';
import { exceptionsFromLedgers, type LaneException } from '../erasure/outcome.ts';
import { formatCount, formatInstant, formatTraces } from '../erasure/format.ts';
import { jitterMs, nextTogether } from '../erasure/rhythm.ts';
import type { Expected, LaneFigures } from '../erasure/steps.ts';
import type { LaneDeps } from './deps.ts';

/** The figures that a book stands for, with every exception they lead to (P1). */
export function figuresOf(
  deps: LaneDeps,
  book: Book,
  searched: Readonly<Record<string, readonly string[]>>,
): LaneFigures {
  const given = givenLedger(book);
  const traces = traceLedger(book);
  const copies = copyLedger(book);
  const accepted = deps.store.traits.copyMap.flatMap(({ kind, isLimit }) =>
    isLimit === true && deps.accept.includes(kind) ? [kind] : [],
  );
  const unaccepted = copyLedger({ ...book, copies: book.copies.filter(({ kind }) => !accepted.includes(kind)) });
  const unsearchable = Object.entries(searched).filter(([, keys]) => keys.length === 0);
  // Stores compare letter by letter: of a kind whose case does not matter, only the spellings tried were searched.
  const folded = deps.kinds.filter(({ kind, caseInsensitive }) => caseInsensitive && (searched[kind] ?? []).length > 0);
  const foreign = book.known.filter((known) => known.foreign).length;
  const singlePath = Object.values(searched).some(
    (keys) => keys.length > 0 && (book.finders < 2 || keys.some((key) => findersBy(deps, key) < 2)),
  );
  const threads = book.threads?.filter(({ shared }) => shared).length ?? 0;
  const others = book.othersInThreads ?? 0;
  const missed = book.threadsMissed ?? 0;
  const more: readonly LaneException[] = [
    {
      kind: 'shared-threads',
      count: threads,
      text: `${formatCount(threads)} ${threads === 1 ? 'conversation' : 'conversations'} of this person ${threads === 1 ? 'holds' : 'hold'} other people too; ${formatTraces(others)} there ${others === 1 ? 'carries' : 'carry'} only these, and ${others === 1 ? 'was' : 'were'} not touched`,
    },
    {
      kind: 'not-examined',
      count: missed,
      text: `${formatCount(missed)} ${missed === 1 ? 'conversation' : 'conversations'} of this person could not be searched; what stands there without an identifier is not known`,
    },
    {
      kind: 'unsearchable',
      count: unsearchable.length,
      text: `not searchable in this connection: ${unsearchable.map(([kind]) => kind).join(', ')}`,
    },
    {
      kind: 'unsearchable',
      count: folded.length,
      text: `searched as given and in lower case only, although case does not matter: ${folded.map(({ kind }) => kind).join(', ')}`,
    },
    {
      kind: 'wrong-kind',
      count: given.wrongKind,
      text: `${formatCount(given.wrongKind)} given ${given.wrongKind === 1 ? 'id names' : 'ids name'} no trace or run (${[...new Set(book.known.flatMap(({ kind }) => kind ?? []))].join(', ')}); not acted on`,
    },
    {
      kind: 'foreign',
      count: foreign,
      text: `${formatCount(foreign)} given ${foreign === 1 ? 'id belongs' : 'ids belong'} to other people; never submitted`,
    },
    {
      kind: 'no-control',
      count: book.noControl ? 1 : 0,
      text: "no live trace of anybody else was there to show that the reads work; absence isn't proven",
    },
    {
      kind: 'no-control',
      count: book.silentProjects,
      text: `${formatCount(book.silentProjects)} ${book.silentProjects === 1 ? 'project holds' : 'projects hold'} traces of which none carries a searched key; nothing is proven there`,
    },
    {
      kind: 'no-control',
      count: book.noControl ? 0 : book.unprovenKinds.length,
      text: `no live trace of anybody else has a like value under the keys searched for ${book.unprovenKinds.join(', ')}; an empty search proves nothing`,
    },
    {
      kind: 'not-proven-before',
      count: book.notProvenBeforeMs === null ? 0 : 1,
      text: `nothing older than ${formatInstant(book.notProvenBeforeMs ?? 0)} was seen, although the config says that there is: older data is neither found nor shown to be gone`,
    },
    {
      kind: 'single-path',
      count: singlePath ? 1 : 0,
      text: 'only one way of searching by person, or by one of the keys, was there',
    },
  ];
  return {
    given,
    traces,
    copies,
    exceptions: [
      ...exceptionsFromLedgers(given, traces, unaccepted, deps.accept),
      ...more.filter(({ kind, count }) => count > 0 && !deps.accept.includes(kind)),
    ],
  };
}

/** Ways of searching by a key that this store has. */
function findersBy(deps: LaneDeps, key: string): number {
  return deps.store.finders.filter(({ searches }) => searches?.(key) ?? true).length;
}

/** When a request reads next, if it may from an instant on: with those due about then, in its own slot of the spread. */
export function nextLook(deps: LaneDeps, requestId: string, fromMs: number): number {
  return nextTogether(fromMs, deps.store.traits.rhythm.settleMs) + jitterOf(deps, requestId);
}

/** What a step's answer says of the lane's end. */
export function expectedVerdict(deps: LaneDeps, outlook: Omit<Outlook, 'wanted'>): Required<Expected> {
  const wanted = deps.policy.cleanReads;
  return { earliestVerdictAtMs: earliestVerdict(deps.store.traits.rhythm, { ...outlook, wanted }) };
}

/** This request's own delay within its store's spread. */
function jitterOf(deps: LaneDeps, requestId: string): number {
  let seed = 2_166_136_261;
  for (const character of requestId) seed = Math.imul(seed ^ (character.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  return jitterMs(deps.store.traits.rhythm, seed, deps.policy.expectedPeople);
}

/** Name of a lane's blobs in the vault. */
export function bookName(connection: string, step: number): string {
  return `${connection}/book-${step}`;
}

/** Name of the blob in which a delete call keeps what it did. */
export function deltaName(connection: string, round: number, batch: number): string {
  return `${connection}/round-${round}-batch-${batch}`;
}

/** Rounds and batches of the deltas among a request's blobs. */
export function deltasAmong(
  names: readonly string[],
  connection: string,
  afterRound: number,
): readonly { readonly name: string; readonly round: number }[] {
  const prefix = `${connection}/round-`;
  return names.flatMap((name) => {
    const match = name.startsWith(prefix) ? /^(\d+)-batch-\d+$/.exec(name.slice(prefix.length)) : null;
    const round = Number(match?.[1]);
    return match === null || round <= afterRound ? [] : [{ name, round }];
  });
}
