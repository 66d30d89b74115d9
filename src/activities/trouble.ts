import type { TroubleReason } from '../erasure/steps.ts';

/** A trouble found by a step itself. */
export class StepTrouble extends Error {
  readonly reason: TroubleReason;

  constructor(reason: TroubleReason, text: string) {
    super(text);
    this.name = 'StepTrouble';
    this.reason = reason;
  }
}
