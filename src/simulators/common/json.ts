/** A JSON object as it came in. */
export type Json = Readonly<Record<string, unknown>>;

/** The value as an object, `null` if it is none. */
export function record(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}
