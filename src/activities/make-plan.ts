import { entryKey, type Book, type BookEntry } from '../erasure/book.ts';
import { forecast, outlookText } from '../erasure/forecast.ts';
import { subjectVariants } from '../erasure/owners.ts';
import {
  connectionPlanSchema,
  countVariants,
  expectedCalls,
  findConflicts,
  type ConnectionPlan,
  type GivenIdentifier,
} from '../erasure/plan.ts';
import type { BlobRef, StepInput } from '../erasure/steps.ts';
import { optionalInstant, recordedInstant } from '../evidence/record.ts';
import type { Project, Row } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';

export interface PlanParts {
  readonly input: Pick<StepInput, 'subject'> & { readonly dueAtMs: number };
  readonly book: Book;
  /** The sealed book: what an approval names. */
  readonly ref: BlobRef;
  /** Rows as the plan read them, by trace. */
  readonly rows: ReadonlyMap<string, readonly Row[]>;
  /** As the record may tell them. */
  readonly projects: readonly Project[];
  readonly searched: Readonly<Record<string, readonly string[]>>;
  readonly nowMs: number;
  /** Traces submitted earlier that the book no longer knows. Default: none. */
  readonly forgotten?: number;
  /** Copies that no call reaches, by kind. Default: the book's sum, without kinds. */
  readonly outOfReach?: readonly { readonly kind: string; readonly count: number }[];
}

/** The plan that a sealed book stands for, as counts and dates, for people and for the record. */
export function makePlan(deps: LaneDeps, parts: PlanParts): ConnectionPlan {
  const { book, ref, input, nowMs } = parts;
  const { traits, finders, lookups } = deps.store;
  const batches = book.batches.map((batch) => batch.flatMap((index) => book.entries[index] ?? []));
  const submitted = batches.flat();
  const { cleanReads } = deps.policy;
  const dates = forecast(traits.rhythm, { nowMs, dueMs: input.dueAtMs, cleanReads, submits: submitted.length > 0 });
  const given = givenIdentifiers(deps, input.subject);
  const values = book.entries.map((entry) => (parts.rows.get(entryKey(entry)) ?? []).flatMap(({ persons }) => persons));
  const count = (state: BookEntry['state']): number => book.entries.filter((entry) => entry.state === state).length;
  return connectionPlanSchema.parse({
    digest: ref.digest,
    manifest: ref.name,
    at: recordedInstant(nowMs),
    traces: submitted.length,
    submittedBefore: everSubmitted(book) - submitted.length + (parts.forgotten ?? 0),
    batches: batches.length,
    shared: count('shared'),
    linked: count('linked'),
    window:
      dates.window === null
        ? null
        : {
            opensAt: recordedInstant(dates.window.opensMs),
            closesAt: recordedInstant(dates.window.closesMs),
            estimate: true,
          },
    verdict: { earliest: recordedInstant(dates.earliestMs), latest: recordedInstant(dates.latestMs) },
    due: {
      at: recordedInstant(input.dueAtMs),
      outlook: dates.outlook,
      submitBefore: optionalInstant(dates.submitBeforeMs),
      text: outlookText(dates, traits.rhythm, input.dueAtMs),
    },
    details: {
      projects: byProject(submitted, parts.projects),
      searched: Object.fromEntries(Object.entries(parts.searched).map(([kind, keys]) => [kind, [...keys]])),
      variants: countVariants(given, values),
      conflicts: findConflicts(given, deps.kinds[0]?.kind ?? null, values),
      copies: copiesOf(book, parts.outOfReach),
      notExamined: [...book.notExamined],
      batches: batches.map((batch) => batch.length),
      expected: expectedCalls({
        runsPerBatch: batches.map((batch) => batch.reduce((sum, { runs }) => sum + runs, 0)),
        traces: submitted.length,
        finders: finders.length,
        lookups: lookups.length,
        pageSize: traits.pageSize,
        mostIdsPerCall: traits.mostIdsPerDelete,
        cleanReads,
      }),
    },
  } satisfies ConnectionPlan);
}

/** Traces of a book that were ever sent to the store, or would be by its batches. */
export function everSubmitted(book: Book): number {
  const planned = new Set(book.batches.flat());
  return book.entries.filter(({ sentMs }, index) => sentMs !== null || planned.has(index)).length;
}

function givenIdentifiers(deps: LaneDeps, subject: StepInput['subject']): readonly GivenIdentifier[] {
  const folded = new Set(deps.kinds.filter(({ caseInsensitive }) => caseInsensitive).map(({ kind }) => kind));
  return subject.map((identifier) => ({
    ...identifier,
    spellings: subjectVariants([identifier], folded).get(identifier.kind) ?? new Set<string>(),
  }));
}

function byProject(entries: readonly BookEntry[], projects: readonly Project[]): ConnectionPlan['details']['projects'] {
  const of = new Map<string, BookEntry[]>();
  for (const entry of entries) {
    const held = of.get(entry.projectId);
    if (held === undefined) of.set(entry.projectId, [entry]);
    else held.push(entry);
  }
  return [...of].map(([id, held]) => {
    const starts = startsOf(held);
    return {
      id,
      name: projects.find((project) => project.id === id)?.name ?? '(unknown)',
      traces: held.length,
      firstStart: optionalInstant(starts.first),
      lastStart: optionalInstant(starts.last),
    };
  });
}

function startsOf(entries: readonly BookEntry[]): { readonly first: number | null; readonly last: number | null } {
  let first: number | null = null;
  let last: number | null = null;
  for (const { startMs } of entries) {
    if (startMs === null) continue;
    first = first === null ? startMs : Math.min(first, startMs);
    last = last === null ? startMs : Math.max(last, startMs);
  }
  return { first, last };
}

function copiesOf(book: Book, outOfReach: PlanParts['outOfReach']): ConnectionPlan['details']['copies'] {
  const counts = new Map<string, ConnectionPlan['details']['copies'][number]>();
  const add = (row: ConnectionPlan['details']['copies'][number]): void => {
    const name = `${row.fate} ${row.kind}`;
    counts.set(name, { ...row, count: row.count + (counts.get(name)?.count ?? 0) });
  };
  for (const { kind, state } of book.copies) add({ kind, fate: state === 'manual' ? 'manual' : 'again', count: 1 });
  if (outOfReach !== undefined) for (const { kind, count } of outOfReach) add({ kind, fate: 'out-of-reach', count });
  else if (book.outOfReach > 0) add({ kind: 'copies', fate: 'out-of-reach', count: book.outOfReach });
  return [...counts.values()];
}
