import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';

/**
 * The one canonical spelling of a JSON value (RFC 8785): sorted keys, no spaces, one form of every number. Fields that
 * are `undefined` are left out.
 *
 * @throws TypeError when JSON can't hold the value: NaN, infinities, half a surrogate pair, cycles, bare `undefined`.
 */
export function canonicalJson(value: unknown): string {
  let text: string | undefined;
  try {
    text = canonicalize(value);
  } catch (error) {
    throw new TypeError('the value has no canonical JSON', { cause: error });
  }
  if (text === undefined) throw new TypeError('the value has no canonical JSON');
  return text;
}

/** @returns SHA-256 of a text's UTF-8 bytes, 64 hexadecimal digits. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

/** @returns SHA-256 of the value's canonical JSON, 64 hexadecimal digits; see `canonicalJson` for errors. */
export function canonicalDigest(value: unknown): string {
  return sha256Hex(canonicalJson(value));
}
