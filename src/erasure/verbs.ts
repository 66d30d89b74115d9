import { APPROVAL_FIELDS, parseApprovalFields } from './approval.ts';
import type { Include } from './include.ts';
import { isDay } from './law.ts';

/** Verbs that tell a lane as a whole what to do. */
export const LANE_VERBS = ['retry', 'checkNow', 'hold', 'release', 'abandon', 'approve'] as const;
export type LaneVerb = (typeof LANE_VERBS)[number];
/** What lanes understand. */
export const VERB_NAMES = [...LANE_VERBS, 'attest'] as const;
export type VerbName = (typeof VERB_NAMES)[number];

/** What an operator can say of a request: the verbs of its lanes, and what concerns it as a whole. */
export const OPERATOR_VERBS = [...VERB_NAMES, 'postpone'] as const;
export type OperatorVerb = (typeof OPERATOR_VERBS)[number];

/** Shown in the Temporal UI's list of updates and signals. */
export const VERB_DESCRIPTIONS: Readonly<Record<VerbName, string>> = {
  retry: 'Submit everything not yet proven absent again, now. { "requestedBy", "reason", "connection"? }',
  checkNow:
    'Read once more, now; the read never counts earlier than it may. { "requestedBy", "reason", "connection"? }',
  hold: 'Stop before the next API call and stay stopped. { "requestedBy", "reason", "connection"?, "until"?, "autoRelease"? }',
  release: 'Go on after a hold. { "requestedBy", "reason", "connection"? }',
  abandon: 'End without proof; what was submitted cannot be recalled. { "requestedBy", "reason", "connection"? }',
  approve:
    'Delete exactly the plan that waits. { "requestedBy", "reason", "connection", "planDigest", "atMost", "include"? }',
  attest: 'Say that the copies of a manual task are erased. { "requestedBy", "reason", "task", "connection"? }',
};

/** See `VERB_DESCRIPTIONS`. */
export const POSTPONE_DESCRIPTION =
  'Extend the deadline once, as the law allows, after the person was told. { "requestedBy", "reason", "notifiedOn" }';

/** The one argument of every verb. */
export interface OperatorMessage {
  /** Who asks: a staff name or id, kept in the record. */
  readonly requestedBy: string;
  readonly reason: string;
  /** Only this connection's lane. Default: every lane that has not ended. */
  readonly connection?: string;
  /** With `attest`, and only there: the id of the manual task. */
  readonly task?: string;
  /** Repeats of the same id are taken once, whether they come as update or signal. Default: none. */
  readonly verbId?: string;
  /** Of `approve` only, and needed there: the digest of the plan, as the status shows it. */
  readonly planDigest?: string;
  /** Of `approve` only, and needed there: most traces that may ever be submitted in the lane. */
  readonly atMost?: number;
  /** Of `approve` only: traces that the plan keeps and that are to be erased along. Default: none. */
  readonly include?: readonly Include[];
  /** Of a hold: when it ends, ISO 8601 with a zone. Default: never by itself. */
  readonly until?: string;
  /** Of a hold with an end: go on by itself then. Default: stay held and ask for an operator. */
  readonly autoRelease?: boolean;
  /** Of a postponement: the day on which the person was told, `YYYY-MM-DD`. */
  readonly notifiedOn?: string;
}

/** What an operator is told after a verb was taken. */
export interface Receipt {
  readonly verb: OperatorVerb;
  readonly connections: readonly string[];
  /** What will happen now, for a person. */
  readonly text: string;
}

const MOST_TEXT = 500;
const MOST_NAME = 200;

/**
 * Reads an operator's message, however it was sent.
 *
 * @param verb what it is for: some verbs have fields of their own. Default: none has.
 * @returns the message, or a line that says which field is wrong; never repeats a value.
 */
export function parseOperatorMessage(input: unknown, verb?: OperatorVerb): OperatorMessage | string {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    return 'the argument must be one object: { "requestedBy": "...", "reason": "..." }';
  }
  const fields = input as Record<string, unknown>;
  const unknown = Object.keys(fields).filter(
    (field) => !['requestedBy', 'reason', 'connection', 'verbId', ...ownFieldsOf(verb)].includes(field),
  );
  const [stray] = unknown;
  // A field's name is repeated only where it can be nothing but a misspelt name.
  if (stray !== undefined) return /^\w{1,40}$/.test(stray) ? `unknown field "${stray}"` : 'has an unknown field';
  for (const field of ['requestedBy', 'reason'] as const) {
    const value = fields[field];
    if (typeof value !== 'string' || value.trim() === '') return `"${field}" must be a text that is not empty`;
    if (value.length > MOST_TEXT) return `"${field}" is longer than ${MOST_TEXT} characters`;
  }
  for (const field of ['connection', 'task', 'verbId'] as const) {
    const value = fields[field];
    if (value === undefined) continue;
    if (typeof value !== 'string' || value === '') return `"${field}" must be a text that is not empty`;
    if (value.length > MOST_NAME) return `"${field}" is longer than ${MOST_NAME} characters`;
  }
  const approval = verb === 'approve' ? parseApprovalFields(fields) : {};
  if (typeof approval === 'string') return approval;
  const { until, autoRelease, notifiedOn } = fields;
  if (until !== undefined && (typeof until !== 'string' || !isInstant(until))) {
    return '"until" must be an ISO 8601 instant with a zone';
  }
  if (autoRelease !== undefined && typeof autoRelease !== 'boolean') return '"autoRelease" must be true or false';
  if (autoRelease === true && until === undefined) return '"autoRelease" needs "until": when to go on';
  if (verb === 'postpone') {
    if (fields['connection'] !== undefined) return 'the deadline is that of the whole request: leave out "connection"';
    if (typeof notifiedOn !== 'string' || !isDay(notifiedOn)) {
      return '"notifiedOn" must be the day on which the person was told, like "2026-12-31"';
    }
  }
  const { requestedBy, reason, connection, task, verbId } = fields as Record<string, string>;
  return {
    requestedBy: (requestedBy ?? '').trim(),
    reason: (reason ?? '').trim(),
    ...(connection === undefined ? {} : { connection }),
    ...(task === undefined ? {} : { task }),
    ...(verbId === undefined ? {} : { verbId }),
    ...approval,
    ...(until === undefined ? {} : { until }),
    ...(autoRelease === undefined ? {} : { autoRelease }),
    ...(typeof notifiedOn === 'string' ? { notifiedOn } : {}),
  };
}

function ownFieldsOf(verb: OperatorVerb | undefined): readonly string[] {
  if (verb === 'approve') return APPROVAL_FIELDS;
  if (verb === 'attest') return ['task'];
  if (verb === 'hold') return ['until', 'autoRelease'];
  return verb === 'postpone' ? ['notifiedOn'] : [];
}

function isInstant(text: string): boolean {
  const zoned = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/.test(text);
  return zoned && isDay(text.slice(0, 10)) && !Number.isNaN(Date.parse(text));
}
