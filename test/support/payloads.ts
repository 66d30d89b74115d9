/** A payload as JSON has it: every byte field in base64. */
export interface JsonPayload {
  readonly metadata: Readonly<Record<string, string>>;
  readonly data?: string;
}

/** Every payload in a message of the server that was turned into JSON, wherever it stands. */
export function payloadsIn(message: unknown): readonly JsonPayload[] {
  if (typeof message !== 'object' || message === null) return [];
  if (isPayload(message)) return [message];
  return Object.values(message).flatMap(payloadsIn);
}

function isPayload(value: object): value is JsonPayload {
  const { metadata } = value as { metadata?: unknown };
  return typeof metadata === 'object' && metadata !== null && 'encoding' in metadata;
}

/** What a payload holds, as text. */
export function textOf(payload: JsonPayload): string {
  return Buffer.from(payload.data ?? '', 'base64').toString('utf8');
}
