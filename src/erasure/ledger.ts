/** Ids the caller handed over for one connection. Every id is in exactly one state (P29). */
export interface GivenLedger {
  /** Ids handed over, duplicates included. */
  readonly total: number;
  /** Found in the store and classified by whose they are. */
  readonly resolved: number;
  /** Looked up in every visible project, with controls in the same calls, and not there. */
  readonly neverMatched: number;
  /** Not yet looked up, or the look-up proved nothing. */
  readonly unresolved: number;
  /** Not the id of a trace or run: a thread, a project, no id at all. */
  readonly wrongKind: number;
  /** Repeats of an id counted elsewhere in this ledger. */
  readonly duplicate: number;
}

/** Traces of the person in one connection, unique by project and trace id. Every trace is in exactly one state (P29). */
export interface TraceLedger {
  readonly matched: number;
  /** To be submitted, or submitted and not yet proven absent. */
  readonly pending: number;
  /** Absent in as many counted reads as the policy asks for. */
  readonly verifiedAbsent: number;
  /** Found at plan, gone by itself before we ever submitted it, and absent ever since. */
  readonly goneBeforeSubmit: number;
  /** Submitted and still readable after the store's window had settled. */
  readonly survived: number;
  /** Carries other people too, or by now only others: kept (P14, P17). */
  readonly shared: number;
  /** Given by the caller or of the person's conversations, carries nobody, and no consent covers it (P12, P16): kept. */
  readonly linked: number;
  /** No read could prove anything about it, for instance because its project disappeared (P9). */
  readonly inconclusive: number;
  /** Begun after the request's cut-off: reported, and never erased by itself (P21). Absent in older figures: 0. */
  readonly newActivity?: number | undefined;
  /** Not proven absent when an operator abandoned the request. */
  readonly abandoned: number;
}

/** Copies of the person's traces elsewhere in the store. Every copy is in exactly one state (P29). */
export interface CopyLedger {
  readonly found: number;
  readonly erased: number;
  /** Somebody has to erase it by hand. */
  readonly manual: number;
  /** Erased by hand on a named person's word; no read has shown it. Absent: none. */
  readonly attested?: number | undefined;
  /** Outside the store's API, for instance exported files. */
  readonly outOfReach: number;
  /** Not looked at again yet, or the look proved nothing. */
  readonly inconclusive: number;
  readonly abandoned: number;
  /** Kinds of copies this connector does not examine. */
  readonly notExamined: readonly string[];
}

export const EMPTY_GIVEN: GivenLedger = {
  total: 0,
  resolved: 0,
  neverMatched: 0,
  unresolved: 0,
  wrongKind: 0,
  duplicate: 0,
};

export const EMPTY_TRACES: TraceLedger = {
  matched: 0,
  pending: 0,
  verifiedAbsent: 0,
  goneBeforeSubmit: 0,
  survived: 0,
  shared: 0,
  linked: 0,
  inconclusive: 0,
  newActivity: 0,
  abandoned: 0,
};

export const EMPTY_COPIES: CopyLedger = {
  found: 0,
  erased: 0,
  manual: 0,
  outOfReach: 0,
  inconclusive: 0,
  abandoned: 0,
  notExamined: [],
};

/**
 * Checks that each ledger's states add up to its total (P29).
 *
 * @returns one line per ledger that does not balance; empty when all do.
 */
export function imbalances(ledgers: {
  readonly given: GivenLedger;
  readonly traces: TraceLedger;
  readonly copies: CopyLedger;
}): readonly string[] {
  const { given: g, traces: t, copies: c } = ledgers;
  const rows: readonly (readonly [string, number, number])[] = [
    ['given', g.total, g.resolved + g.neverMatched + g.unresolved + g.wrongKind + g.duplicate],
    [
      'traces',
      t.matched,
      t.pending +
        t.verifiedAbsent +
        t.goneBeforeSubmit +
        t.survived +
        t.shared +
        t.linked +
        t.inconclusive +
        (t.newActivity ?? 0) +
        t.abandoned,
    ],
    ['copies', c.found, c.erased + c.manual + (c.attested ?? 0) + c.outOfReach + c.inconclusive + c.abandoned],
  ];
  return rows.filter(([, total, sum]) => total !== sum).map(([name, total, sum]) => `${name}: ${total} is not ${sum}`);
}

/** What an abandoned lane's ledgers say: whatever was not proven becomes `abandoned`. */
export function abandonTraces(t: TraceLedger): TraceLedger {
  return {
    ...t,
    pending: 0,
    survived: 0,
    inconclusive: 0,
    abandoned: t.abandoned + t.pending + t.survived + t.inconclusive,
  };
}

/** See `abandonTraces`. */
export function abandonCopies(c: CopyLedger): CopyLedger {
  return { ...c, inconclusive: 0, abandoned: c.abandoned + c.inconclusive };
}
