import { virtualNow } from '../erasure/clock.ts';
import type { Trouble, VerifyAnswer, VerifyInput } from '../erasure/steps.ts';
import { conclude, whyTooEarly } from './conclude-read.ts';
import { assertCopiesNotHeld } from './copies.ts';
import { currentBook } from './current-book.ts';
import type { LaneDeps } from './deps.ts';
import { readBack, type Outcome } from './read-back.ts';
import { Inconclusive, Reader } from './reader.ts';
import { sawTraces } from './sighting.ts';
import { runStep, StepTrouble } from './step.ts';

/**
 * Reads back whether the person's traces are gone: by id over the manifest and by person from scratch, through every
 * route, with controls in every call. Decides whether the read counts (P3) and whether the lane may end.
 */
export function verifyAbsence(deps: LaneDeps, input: VerifyInput): Promise<VerifyAnswer | Trouble> {
  return runStep(deps, input, { step: 'verify', round: input.round, batch: null }, async (run) => {
    const book = await currentBook(deps, input);
    const nowMs = virtualNow(deps.clock);
    const projects = await deps.store.projects(run.progress);
    if (projects.length === 0) {
      throw new StepTrouble('no-projects', 'the key sees no project any more; that proves nothing about the traces');
    }
    if (whyTooEarly(input, nowMs, deps.store.traits.rhythm.settleMs) === null) {
      const final = input.cleanReads + 1 >= deps.policy.cleanReads;
      await assertCopiesNotHeld(deps, { subject: input.subject, book, run, final });
    }
    const reader = new Reader(deps, { input, projects, nowMs, progress: run.progress });
    let outcome: Outcome;
    try {
      outcome = await readBack(deps, input, { book, projects, reader, nowMs, run });
    } catch (error) {
      const saw = sawTraces(reader, book, { cutoffMs: book.cutoffMs, onlyBeforeMs: input.onlyBeforeMs });
      if (saw) run.sawTraces();
      if (!(error instanceof Inconclusive)) throw error;
      outcome = { kind: 'inconclusive', why: error.message, book, counts: false, resubmit: false, saw };
    }
    return conclude(deps, input, { outcome, reader, nowMs, run });
  });
}
