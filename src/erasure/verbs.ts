/** Verbs that tell a lane as a whole what to do. */
export const LANE_VERBS = ['retry', 'checkNow', 'hold', 'release', 'abandon'] as const;
export type LaneVerb = (typeof LANE_VERBS)[number];
export const VERB_NAMES = [...LANE_VERBS, 'attest'] as const;
export type VerbName = (typeof VERB_NAMES)[number];

/** Shown in the Temporal UI's list of updates and signals. */
export const VERB_DESCRIPTIONS: Readonly<Record<VerbName, string>> = {
  retry: 'Submit everything not yet proven absent again, now. { "requestedBy", "reason", "connection"? }',
  checkNow:
    'Read once more, now; the read never counts earlier than it may. { "requestedBy", "reason", "connection"? }',
  hold: 'Stop before the next API call and stay stopped. { "requestedBy", "reason", "connection"? }',
  release: 'Go on after a hold. { "requestedBy", "reason", "connection"? }',
  abandon: 'End without proof; what was submitted cannot be recalled. { "requestedBy", "reason", "connection"? }',
  attest: 'Say that the copies of a manual task are erased. { "requestedBy", "reason", "task", "connection"? }',
};

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
}

/** What an operator is told after a verb was taken. */
export interface Receipt {
  readonly verb: VerbName;
  readonly connections: readonly string[];
  /** What will happen now, for a person. */
  readonly text: string;
}

const MOST_TEXT = 500;
const MOST_NAME = 200;

/**
 * Reads an operator's message, however it was sent.
 *
 * @returns the message, or a line that says which field is wrong; never repeats a value.
 */
export function parseOperatorMessage(input: unknown): OperatorMessage | string {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    return 'the argument must be one object: { "requestedBy": "...", "reason": "..." }';
  }
  const fields = input as Record<string, unknown>;
  const unknown = Object.keys(fields).filter(
    (field) => !['requestedBy', 'reason', 'connection', 'task', 'verbId'].includes(field),
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
  const { requestedBy, reason, connection, task, verbId } = fields as Record<string, string>;
  return {
    requestedBy: (requestedBy ?? '').trim(),
    reason: (reason ?? '').trim(),
    ...(connection === undefined ? {} : { connection }),
    ...(task === undefined ? {} : { task }),
    ...(verbId === undefined ? {} : { verbId }),
  };
}
