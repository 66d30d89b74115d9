import { z } from 'zod';
import type { LookAnswer, LookInput } from '../erasure/aftercare.ts';
import { bookSchema, entryKey, type Book, type BookEntry } from '../erasure/book.ts';
import { virtualNow } from '../erasure/clock.ts';
import { startedAfter } from '../erasure/cutoff.ts';
import { formatTraces } from '../erasure/format.ts';
import { MOST_KNOWN_IDS } from '../erasure/request.ts';
import type { Trouble } from '../erasure/steps.ts';
import type { LookAddendum } from '../evidence/addenda.ts';
import { recordedClock, recordedInstant, recordedRead, recordedWindow } from '../evidence/record.ts';
import type { Row, TraceKey } from '../stores/port.ts';
import type { LaneDeps } from './deps.ts';
import { groupByTrace, Inconclusive, LEAST_CONTROLS, Reader } from './reader.ts';
import { lostSight, lostSightInWords } from './sight.ts';
import { runStep, StepTrouble, type StepRun } from './step.ts';
import { strayedTraces } from './read-back.ts';
import { wholeTraces } from './whole.ts';

/** What a look found, as the vault keeps it for the request that erases it. */
export const foundSchema = z.strictObject({
  /** Ids of traces of the manifest that are readable again. */
  resurrected: z.array(z.string()),
  /** How many of them carry nobody now: that they were this person's is known by their ids. */
  unlabelled: z.int(),
  late: z.int(),
});

/** Entries whose absence the request has shown, or meant to show. The others were kept. */
const ERASED: readonly BookEntry['state'][] = [
  'verifiedAbsent',
  'goneBeforeSubmit',
  'inconclusive',
  'pending',
  'survived',
];

interface Findings {
  readonly resurrected: Set<string>;
  unlabelled: number;
  late: number;
  newActivity: number;
  shared: number;
  beside: number;
}

/**
 * Looks for the person's traces after the request has ended: by id over the manifest through every route, and by person
 * through every finder, with controls in every call as `verifyAbsence` has them. Deletes nothing.
 */
export function lookAgain(deps: LaneDeps, input: LookInput): Promise<LookAnswer | Trouble> {
  const key = `look-${input.connection}-${input.look}-${input.attempt}`;
  const add = (addendum: Partial<LookAddendum> & Pick<LookAddendum, 'answer' | 'why'>, atMs: number): Promise<void> =>
    deps.records.addAddendum(input.requestId, key, {
      kind: 'look',
      at: recordedInstant(atMs),
      connection: input.connection,
      look: input.look,
      attempt: input.attempt,
      due: recordedInstant(input.dueAtMs),
      resurrected: 0,
      late: 0,
      newActivity: 0,
      shared: 0,
      beside: 0,
      reports: [],
      controls: {},
      window: null,
      clock: recordedClock(deps.clock),
      ...addendum,
    });
  return runStep(
    deps,
    input,
    { step: 'look', round: input.look, batch: null },
    async (run) => {
      const book = await deps.vault.get(input.requestId, input.book, bookSchema);
      const nowMs = virtualNow(deps.clock);
      const projects = await deps.store.projects(run.progress);
      if (projects.length === 0) {
        throw new StepTrouble('no-projects', 'the key sees no project any more; that proves nothing about the traces');
      }
      const reader = new Reader(deps, { input, projects, nowMs, progress: run.progress });
      const findings: Findings = {
        resurrected: new Set(),
        unlabelled: 0,
        late: 0,
        newActivity: 0,
        shared: 0,
        beside: 0,
      };
      const visible = new Set(projects.map(({ id }) => id));
      const blind = await look(deps, input, { book, reader, run, findings, visible });
      const { resurrected, unlabelled, late, newActivity, shared, beside } = findings;
      const kind: LookAnswer['kind'] =
        resurrected.size > 0
          ? 'resurrected'
          : late > 0
            ? 'late'
            : blind !== null
              ? 'inconclusive'
              : newActivity + shared + beside > 0
                ? 'new-activity'
                : 'clean';
      const why = wordsOf(findings, blind);
      const found =
        resurrected.size + late === 0
          ? null
          : await deps.vault.put(
              input.requestId,
              `${input.connection}/look-${input.look}-${input.attempt}`,
              foundSchema.parse({ resurrected: [...resurrected].slice(0, MOST_KNOWN_IDS), unlabelled, late }),
            );
      await add(
        {
          answer: kind,
          why,
          resurrected: resurrected.size,
          late,
          newActivity,
          shared,
          beside,
          reports: reader.reports.map(recordedRead),
          controls: reader.tally(),
          window: recordedWindow(reader.window),
        },
        nowMs,
      );
      return { kind, atMs: nowMs, why, found, reachMs: reachOf(input, book) };
    },
    (trouble) => add({ answer: 'trouble', why: `${trouble.reason}: ${trouble.text}` }, trouble.atMs),
  );
}

/** @returns why the look proves no absence, or null. What it saw is in the findings either way. */
async function look(
  deps: LaneDeps,
  input: LookInput,
  scene: {
    readonly book: Book;
    readonly reader: Reader;
    readonly run: StepRun;
    readonly findings: Findings;
    readonly visible: ReadonlySet<string>;
  },
): Promise<string | null> {
  const { book, reader, findings, visible } = scene;
  const erased = book.entries.filter(({ state }) => ERASED.includes(state));
  const asked = erased.filter(({ projectId }) => visible.has(projectId));
  const present = new Map<string, Row[]>();
  const byPerson = new Map<string, TraceKey>();
  let strayed: ReadonlyMap<string, TraceKey> = new Map();
  let blind: string | null = null;
  try {
    await reader.chooseControls();
    groupByTrace([...(await reader.present(asked)).values()].flat(), present);
    strayed = await strayedTraces(deps, reader, asked, present);
    const foundRows = new Map<string, Row[]>();
    const shown = new Map<string, ReadonlySet<string>>();
    let finders = 0;
    for (const finder of deps.store.finders) {
      const rows = await reader.find(finder);
      if (rows === null) continue;
      finders += 1;
      groupByTrace(rows, foundRows);
      const confirmed = reader.confirmed(rows);
      for (const [key, trace] of confirmed) byPerson.set(key, trace);
      shown.set(finder.name, new Set(confirmed.keys()));
    }
    if (finders === 0) throw new Inconclusive('no way of searching by person is left');
    reader.assertClock();
    const unseen = [...byPerson].filter(([key]) => !present.has(key)).map(([, trace]) => trace);
    groupByTrace([...(await wholeTraces(deps, reader, unseen)).values()].flat(), present);
    for (const key of byPerson.keys()) if (!present.has(key)) present.set(key, foundRows.get(key) ?? []);
    if (reader.controls.length < LEAST_CONTROLS) {
      blind = "no live trace of anybody else was there to show that the reads work; absence isn't proven";
    } else if (asked.length < erased.length) {
      blind = `${formatTraces(erased.length - asked.length)} cannot be read: their project is not visible any more`;
    } else {
      const unread = [...reader.notExamined].filter((kind) => !book.notExamined.includes(kind));
      const blinded = lostSight(book.entries, shown);
      if (unread.length > 0) blind = `not examined: ${unread.join(', ')}`;
      else if (blinded.size > 0) blind = lostSightInWords(blinded);
    }
  } catch (error) {
    if (!(error instanceof Inconclusive)) throw error;
    // What was seen until then was seen.
    blind = error.message;
  }
  classify(input, { book, reader, findings, present, byPerson, strayed });
  findings.beside = reader.looseCopies().filter(({ kind, id }) => {
    const known = book.copies.find((copy) => copy.kind === kind && copy.id === id);
    return known === undefined || known.state === 'erased';
  }).length;
  return blind;
}

function classify(
  input: LookInput,
  seen: {
    readonly book: Book;
    readonly reader: Reader;
    readonly findings: Findings;
    readonly present: ReadonlyMap<string, readonly Row[]>;
    readonly byPerson: ReadonlyMap<string, TraceKey>;
    readonly strayed: ReadonlyMap<string, TraceKey>;
  },
): void {
  const { book, reader, findings, present, byPerson, strayed } = seen;
  const manifest = new Map(book.entries.map((entry) => [entryKey(entry), entry]));
  for (const [key, rows] of present) {
    const entry = manifest.get(key);
    const wasErased = entry !== undefined && ERASED.includes(entry.state);
    if (!wasErased && !byPerson.has(key) && !strayed.has(key)) continue;
    const owner = reader.owner(rows);
    // Others' traces are nobody's business here, also under an id that was once the person's.
    if (owner === 'others') continue;
    // Kept at the end, and as it was then.
    if (entry !== undefined && !wasErased && owner !== 'subject') continue;
    // Rows of the manifest that stand in another trace now, and nothing there says whose it is: nobody's say-so.
    const isUnclear = owner === 'nobody' && !wasErased;
    if (owner === 'mixed' || isUnclear) {
      findings.shared += 1;
      continue;
    }
    const starts = rows.map(({ startMs }) => startMs).filter((start) => start !== null);
    const startMs = starts.length === 0 ? (entry?.startMs ?? null) : Math.min(...starts);
    if (startedAfter({ startMs, given: wasErased }, reachOf(input, book))) findings.newActivity += 1;
    else if (wasErased || strayed.has(key)) {
      findings.resurrected.add(rows[0]?.traceId ?? entry?.traceId ?? '');
      if (owner === 'nobody') findings.unlabelled += 1;
    } else findings.late += 1;
  }
}

/** New activity of the ended request stays what it was (P21): nothing asks for it now. */
function reachOf({ onlyBeforeMs }: LookInput, { cutoffMs }: Book): number {
  return Math.min(onlyBeforeMs, cutoffMs ?? onlyBeforeMs);
}

function wordsOf(findings: Findings, blind: string | null): string | null {
  const { resurrected, late, newActivity, shared, beside } = findings;
  const parts = [
    resurrected.size > 0 ? `${formatTraces(resurrected.size)} erased before can be read again` : '',
    late > 0 ? `${formatTraces(late)} of before the end that nobody had seen` : '',
    newActivity > 0 ? `${formatTraces(newActivity)} of after the end, reported and kept` : '',
    shared > 0 ? `${formatTraces(shared)} that carry other people too, or nobody any more, kept` : '',
    beside > 0 ? `${beside} pieces of data beside the traces, whose age nothing tells, kept` : '',
    blind ?? '',
  ].filter((part) => part !== '');
  return parts.length === 0 ? null : parts.join('; ');
}
