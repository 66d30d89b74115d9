import { z } from 'zod';
import { LOOK_ANSWERS } from '../erasure/aftercare.ts';
import {
  clockSchema,
  count,
  entryKeySchema,
  instant,
  readReportSchema,
  RECORD_FORMAT,
  text,
  windowSchema,
} from './record.ts';

/** One look after the end, at one connection. */
const lookAddendumSchema = z.strictObject({
  kind: z.literal('look'),
  at: instant,
  connection: z.string(),
  /** Number of the look and of its try, both from 1. */
  look: count,
  attempt: count,
  due: instant,
  answer: z.enum(LOOK_ANSWERS),
  /** Traces of the manifest that are readable again. */
  resurrected: count,
  /** The person's traces of before the end that no read had shown until then. */
  late: count,
  /** The person's traces of after the end, or of an unknown time: reported, never erased by Lethe itself. */
  newActivity: count,
  /** Traces that carry other people too, or in which nothing says whose they are: kept. */
  shared: count,
  /** The person's data beside the traces, which has no date: reported only. */
  beside: count,
  /** What it showed, or why it proved nothing; null: nothing to say. */
  why: text.nullable(),
  reports: z.array(readReportSchema),
  /** Controls asked for and seen, by route (P7). */
  controls: z.record(z.string(), z.strictObject({ asked: count, seen: count })),
  window: windowSchema,
  clock: clockSchema,
});

/** A new request was asked for because data came back. */
const reopenedAddendumSchema = z.strictObject({
  kind: z.literal('reopened'),
  at: instant,
  look: count,
  attempt: count,
  connections: z.array(z.string()),
  /** The request that erases it, or null when none could be started. */
  request: z.string().nullable(),
  why: text.nullable(),
});

/** Somebody's word, after the end, that the copies of a manual task are erased. */
const attestationAddendumSchema = z.strictObject({
  kind: z.literal('attestation'),
  at: instant,
  requestedBy: text,
  reason: text,
  connection: z.string(),
  /** The manual task, and what it is about. */
  task: z.string(),
  copies: z.strictObject({ kind: z.string(), count }),
});

const addendumSchema = z.discriminatedUnion('kind', [
  lookAddendumSchema,
  reopenedAddendumSchema,
  attestationAddendumSchema,
]);
/** Something learnt or said after the end of a request. Holds no personal data. */
export type Addendum = z.infer<typeof addendumSchema>;
export type LookAddendum = z.infer<typeof lookAddendumSchema>;

/** One line of the file of addenda. */
export const addendumLineSchema = z.strictObject({
  format: z.literal(RECORD_FORMAT),
  key: entryKeySchema,
  addendum: addendumSchema,
});

/** An addendum with the key that names it. */
export interface AddendumLine {
  readonly key: string;
  readonly addendum: Addendum;
}
