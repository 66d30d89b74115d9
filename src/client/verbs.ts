import { z } from 'zod';
import type { STATUSES } from '../erasure/outcome.ts';
import { OPERATOR_VERBS, type OperatorMessage } from '../erasure/verbs.ts';

/** Who asks for something to be done to a request, and why; both are kept in the record. */
export type VerbMessage = Omit<OperatorMessage, 'verbId'>;

/** What `approve` needs: exactly one plan of one connection, and how many traces may ever be submitted there. */
export type ApproveMessage = VerbMessage & Required<Pick<VerbMessage, 'connection' | 'planDigest' | 'atMost'>>;

/**
 * Many requests at once. Only open ones are meant. At least one of `status` and `connection` must be given, and
 * `expect` must be how many match at that moment: a filter that grew overnight sends nothing.
 */
export interface RequestFilter {
  readonly status?: (typeof STATUSES)[number];
  readonly connection?: string;
  readonly expect: number;
}

const receiptSchema = z.object({
  verb: z.enum(OPERATOR_VERBS),
  connections: z.array(z.string()),
  text: z.string(),
});

/** What became of one verb for one request. */
export const verbAnswerSchema = z.strictObject({
  requestId: z.string(),
  verb: z.enum(OPERATOR_VERBS),
  /**
   * `update`: a worker took it and answered. `signal`: it waits on the server and is taken, or recorded and ignored,
   * when a worker is up. `record`: it was added beside the record of a request that has ended. `none`: it was refused, or
   * nothing could be sent.
   */
  delivered: z.enum(['update', 'signal', 'record', 'none']),
  /** The worker's own words, after an update. */
  receipt: receiptSchema.nullable(),
  /** What happens now, or why nothing does. */
  text: z.string(),
});
export type VerbAnswer = z.infer<typeof verbAnswerSchema>;
