import { z } from 'zod';
import { OUTLOOKS } from './forecast.ts';

const count = z.int().min(0);
const instant = z.iso.datetime();

/** How much an erasure or a part of it costs. Estimated from the store's page and batch sizes; others share calls too. */
const expectedSchema = z.strictObject({
  /** Delete calls, with the reads just before each. */
  deleteCalls: count,
  deletePages: count,
  /** All counted reads together, when nothing is left to be read. */
  verifyCalls: count,
  verifyPages: count,
});

/** What a plan holds besides its sums. Names nobody: counts, keys of the config, projects, instants. */
const planDetailsSchema = z.strictObject({
  /** Where the traces to be submitted lie. A project named after the person goes by its id alone (P31). */
  projects: z.array(
    z.strictObject({
      id: z.string(),
      name: z.string(),
      traces: count,
      /** Of the traces whose start is known; null: of none. */
      firstStart: instant.nullable(),
      lastStart: instant.nullable(),
    }),
  ),
  /** Kinds of identifiers and the keys they were searched by; an empty list is "not searchable here" (P8). */
  searched: z.record(z.string(), z.array(z.string())),
  /** Traces by the identifier that they carry and how it is written there; a trace may count more than once. */
  variants: z.array(
    z.strictObject({
      /** Position among the identifiers as given, from 1; never the value. */
      identifier: z.int().min(1),
      kind: z.string(),
      key: z.string(),
      form: z.enum(['text', 'number']),
      spelling: z.enum(['as given', 'another spelling']),
      traces: count,
    }),
  ),
  /**
   * Traces that identifiers of one kind match and that carry, under another kind, a value which is not the person's; or,
   * for a primary kind that was not given, several different values.
   */
  conflicts: z.array(
    z.strictObject({ matchedBy: z.string(), carries: z.string(), traces: count, differentValues: count }),
  ),
  /** `again`: looked at again at the end, since it goes with its trace or is erased; the others need somebody. */
  copies: z.array(z.strictObject({ kind: z.string(), fate: z.enum(['again', 'manual', 'out-of-reach']), count })),
  notExamined: z.array(z.string()),
  /** Traces of each delete call. */
  batches: z.array(count),
  expected: expectedSchema,
});

const planSums = {
  /** SHA-256 of the manifest: names this plan and no other; what `approve` must repeat. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** Name of the manifest in the vault, which alone holds the ids. */
  manifest: z.string(),
  at: instant,
  /** Traces that this plan submits. */
  traces: count,
  /** Traces that may have been submitted earlier and are not among them; they count towards an approval too. */
  submittedBefore: count,
  /** Delete calls. */
  batches: count,
  /** Kept: they carry other people too. */
  shared: count,
  /** Kept: given by the caller, they carry nobody, and no consent covers them. */
  linked: count,
  /** When the store is expected to act: an estimate, no vendor promises it. Null: at any time, or nothing is submitted. */
  window: z.strictObject({ opensAt: instant, closesAt: instant, estimate: z.literal(true) }).nullable(),
  /** If all is submitted at once, the store acts in that window and nothing survives. An estimate as well. */
  verdict: z.strictObject({ earliest: instant, latest: instant }),
  due: z.strictObject({
    at: instant,
    /** `tight`: only when every read comes as early as it may. */
    outlook: z.enum(OUTLOOKS),
    /** What is submitted later misses the due date; null: too late already, or nothing to submit. */
    submitBefore: instant.nullable(),
    /** The same for a person. */
    text: z.string(),
  }),
};

/** One connection's plan as a status shows it. The details are left out where room is short. */
export const planSummarySchema = z.strictObject({ ...planSums, details: planDetailsSchema.optional() });
export type PlanSummary = z.infer<typeof planSummarySchema>;

/** One connection's plan: everything that would be erased there, as counts, without personal data. */
export const connectionPlanSchema = z.strictObject({ ...planSums, details: planDetailsSchema });
export type ConnectionPlan = z.infer<typeof connectionPlanSchema>;

/** What one identifier matched. */
export interface SeenValue {
  readonly kind: string;
  readonly key: string;
  readonly text: string;
  readonly numeric: boolean;
}

/** One identifier of the request with all spellings that count as it (P15). */
export interface GivenIdentifier {
  readonly kind: string;
  readonly value: string;
  readonly spellings: ReadonlySet<string>;
}

/**
 * Counts traces by the identifier they carry, the key it stands under and how it is written, without its value.
 *
 * @param traces the values on each trace.
 */
export function countVariants(
  given: readonly GivenIdentifier[],
  traces: Iterable<readonly SeenValue[]>,
): ConnectionPlan['details']['variants'] {
  const counts = new Map<string, ConnectionPlan['details']['variants'][number]>();
  for (const values of traces) {
    const seen = new Set<string>();
    for (const { kind, key, text, numeric } of values) {
      for (const [index, identifier] of given.entries()) {
        if (identifier.kind !== kind || !identifier.spellings.has(text)) continue;
        const row = {
          identifier: index + 1,
          kind,
          key,
          form: numeric ? ('number' as const) : ('text' as const),
          spelling: text === identifier.value ? ('as given' as const) : ('another spelling' as const),
        };
        const name = JSON.stringify(row);
        if (seen.has(name)) continue;
        seen.add(name);
        counts.set(name, { ...row, traces: (counts.get(name)?.traces ?? 0) + 1 });
      }
    }
  }
  return [...counts.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

/**
 * Traces on which identifiers contradict each other (P17, P18).
 *
 * @param primary the primary kind. If the request does not name it, several values of it are a conflict, one is none.
 */
export function findConflicts(
  given: readonly GivenIdentifier[],
  primary: string | null,
  traces: Iterable<readonly SeenValue[]>,
): ConnectionPlan['details']['conflicts'] {
  const kinds = [...new Set(given.map(({ kind }) => kind))];
  const ours = (value: SeenValue): boolean =>
    given.some(({ kind, spellings }) => kind === value.kind && spellings.has(value.text));
  const found = new Map<string, { matchedBy: string; carries: string; traces: number; values: Set<string> }>();
  for (const values of traces) {
    const matched = kinds.filter((kind) => values.some((value) => value.kind === kind && ours(value)));
    for (const carries of new Set([...kinds, ...(primary === null ? [] : [primary])])) {
      const strange = values.filter((value) => value.kind === carries && value.text.trim() !== '' && !ours(value));
      if (strange.length === 0) continue;
      for (const matchedBy of matched) {
        const name = JSON.stringify([matchedBy, carries]);
        const row = found.get(name) ?? { matchedBy, carries, traces: 0, values: new Set<string>() };
        row.traces += 1;
        for (const { text } of strange) row.values.add(text);
        found.set(name, row);
      }
    }
  }
  return [...found.values()]
    .filter(({ carries, values }) => kinds.includes(carries) || values.size > 1)
    .map(({ values, ...row }) => ({ ...row, differentValues: values.size }))
    .sort((a, b) => (a.matchedBy + a.carries < b.matchedBy + b.carries ? -1 : 1));
}

/**
 * What an erasure costs in calls and pages, going by the store's page and batch sizes.
 *
 * @param of.runsPerBatch runs of the traces of each delete call.
 * @param of.mostIdsPerCall most ids of one delete call, taken for look-ups by id too.
 */
export function expectedCalls(of: {
  readonly runsPerBatch: readonly number[];
  readonly traces: number;
  readonly finders: number;
  readonly lookups: number;
  readonly pageSize: number;
  readonly mostIdsPerCall: number;
  readonly cleanReads: number;
}): ConnectionPlan['details']['expected'] {
  const { runsPerBatch, traces, finders, lookups, pageSize, mostIdsPerCall, cleanReads } = of;
  const pages = (rows: number): number => Math.max(1, Math.ceil(rows / pageSize));
  const deletePages = runsPerBatch.reduce((sum, runs) => sum + lookups * pages(runs), 0);
  const batches = runsPerBatch.length;
  // An empty answer is one page. Projects are listed and controls chosen afresh by each read.
  const readPages = finders + lookups * Math.ceil(traces / mostIdsPerCall);
  return {
    deleteCalls: deletePages + 2 * batches,
    deletePages,
    verifyCalls: cleanReads * (readPages + 2),
    verifyPages: cleanReads * readPages,
  };
}
