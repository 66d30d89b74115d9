import { createHmac, createSecretKey, hkdfSync, randomBytes, scryptSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ensureDirectory, readIfExists, writeExclusively } from './files.ts';

/** The two secrets of a configuration, as written there. */
export interface KeySecrets {
  /** Names people and requests without revealing them. Changing it splits a person's requests in two: keep it. */
  readonly hmac: string;
  /** Protects the vault and Temporal's payloads. Losing it loses both. */
  readonly vault: string;
}

/**
 * Keys made from the configured secrets, one for each use, so that none serves two purposes. `KeyObject`s and not
 * bytes: printed or serialised by accident they show nothing.
 */
export interface Keys {
  /** Wraps the data keys of the vault. */
  readonly vaultWrap: KeyObject;
  /** Encrypts Temporal payloads. */
  readonly codec: KeyObject;
  /** Digests of identifiers, ids and request contents in the record. */
  readonly digest: KeyObject;
  readonly workflowId: KeyObject;
  /** Short fingerprints that tell keys apart and from which no key can be computed. */
  readonly keyIds: { readonly vaultWrap: string; readonly codec: string; readonly digest: string };
}

/** Thrown when a configured secret is missing, too short or obviously not random. Names the field, never the value. */
export class KeyError extends Error {
  /** Path in the configuration: `keys.hmac` or `keys.vault`. */
  readonly field: string;

  constructor(field: string, problem: string) {
    super(`${field} ${problem}`);
    this.name = 'KeyError';
    this.field = field;
  }
}

const SECRET_BYTES = 32;
const PASSPHRASE_CHARACTERS = 32;
const ADVICE = `use ${SECRET_BYTES} random bytes, for instance from "openssl rand -base64 ${SECRET_BYTES}"`;

/**
 * Fixed, because every process of an installation must come to the same keys from the configuration alone. It keeps
 * tables made for other programs useless.
 */
const SALT = 'lethe/keys/1';

function secretBytes(field: string, text: string): Buffer {
  const secret = text.trim();
  if (secret === '') throw new KeyError(field, `is empty: ${ADVICE}`);
  if (new Set(secret).size < 8) throw new KeyError(field, `repeats a few characters: ${ADVICE}`);
  if (/^[0-9a-f]+$/i.test(secret) && secret.length % 2 === 0) {
    const bytes = Buffer.from(secret, 'hex');
    if (bytes.length >= SECRET_BYTES) return bytes;
    throw new KeyError(field, `is ${bytes.length} bytes of hexadecimal, fewer than ${SECRET_BYTES}: ${ADVICE}`);
  }
  if (/^[A-Za-z0-9+/_-]+={0,2}$/.test(secret)) {
    const bytes = Buffer.from(secret, 'base64');
    const plain = secret.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/');
    // Only what encodes back to itself was base64; anything else is a passphrase that happens to look like it.
    if (bytes.length >= SECRET_BYTES && bytes.toString('base64').replace(/=+$/, '') === plain) return bytes;
  }
  if (secret.length < PASSPHRASE_CHARACTERS) {
    throw new KeyError(field, `is shorter than ${SECRET_BYTES} bytes in base64 or hexadecimal: ${ADVICE}`);
  }
  // People choose passphrases: make guessing slow. Some 50 ms, once per process.
  return scryptSync(secret, SALT, SECRET_BYTES, { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 });
}

function derive(secret: Buffer, use: string, length = 32): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, SALT, use, length));
}

/**
 * Makes every key that Lethe uses from the two configured secrets. The same secrets give the same keys everywhere.
 *
 * @param secrets each at least 32 bytes in base64, base64url or hexadecimal, or a passphrase of at least 32 characters.
 *   Spaces and line ends around them are ignored, since secrets often come from files.
 * @throws KeyError naming `keys.hmac` or `keys.vault`.
 */
export function deriveKeys(secrets: KeySecrets): Keys {
  const hmac = secretBytes('keys.hmac', secrets.hmac);
  const vault = secretBytes('keys.vault', secrets.vault);
  const key = (secret: Buffer, use: string): KeyObject => createSecretKey(derive(secret, use));
  const keyId = (secret: Buffer, use: string): string => derive(secret, `${use}/key id`, 6).toString('hex');
  return {
    vaultWrap: key(vault, 'vault wrap'),
    codec: key(vault, 'payload codec'),
    digest: key(hmac, 'digest'),
    workflowId: key(hmac, 'workflow id'),
    keyIds: {
      vaultWrap: keyId(vault, 'vault wrap'),
      codec: keyId(vault, 'payload codec'),
      digest: keyId(hmac, 'digest'),
    },
  };
}

/** Every use of the digest key has a label of its own, so that equal texts of different uses can't be matched. */
function keyedHex(key: KeyObject, label: string, parts: readonly string[]): string {
  return createHmac('sha256', key)
    .update(JSON.stringify([label, ...parts]))
    .digest('hex');
}

/**
 * Names a person in the record without naming them.
 *
 * @param value the exact spelling. A person with several spellings has a digest for each.
 * @returns 64 hexadecimal digits.
 */
export function subjectDigest(keys: Keys, kind: string, value: string): string {
  return keyedHex(keys.digest, 'subject', [kind, value]);
}

/**
 * The workflow id of a person's erasure: the same for the same person, so that only one can be open.
 *
 * @param kind the primary kind of identifier; for requests of known ids alone any fixed word that is no kind.
 * @returns `erase-` and 32 hexadecimal digits.
 */
export function workflowIdFor(keys: Keys, kind: string, value: string): string {
  return `erase-${keyedHex(keys.workflowId, 'workflow', [kind, value]).slice(0, 32)}`;
}

/**
 * Names a set of ids in the record. Keyed, because ids of some stores are guessable, or are themselves personal data.
 * Order and repeats don't matter.
 *
 * @returns 64 hexadecimal digits.
 */
export function digestIds(keys: Keys, ids: Iterable<string>): string {
  return keyedHex(keys.digest, 'ids', [...new Set(ids)].sort());
}

/**
 * Names a manual task: the same for the same copies of a request, whoever asks and however often.
 *
 * @returns 12 hexadecimal digits.
 */
export function taskId(
  keys: Keys,
  task: {
    readonly requestId: string;
    readonly connection: string;
    readonly kind: string;
    readonly where: string | null;
  },
): string {
  return keyedHex(keys.digest, 'task', [task.requestId, task.connection, task.kind, task.where ?? '']).slice(0, 12);
}

/**
 * Names the content of a request, so that two can be compared after both are gone (P24).
 *
 * @param canonical the content in one canonical spelling, see `canonicalJson`.
 * @returns 64 hexadecimal digits.
 */
export function contentDigest(keys: Keys, canonical: string): string {
  return keyedHex(keys.digest, 'content', [canonical]);
}

const devKeysSchema = z.strictObject({ hmac: z.string(), vault: z.string() });

export interface DevKeys {
  readonly secrets: KeySecrets;
  /** True when this call made them: whoever asked should be warned to configure real ones. */
  readonly created: boolean;
  readonly path: string;
}

/**
 * Secrets for trying Lethe out, made once and kept in `<stateDir>/keys.json`, readable by the owner only. They lie
 * beside what they protect, so they guard against copies of Temporal's database and nothing more.
 *
 * @param stateDir created when missing.
 * @throws KeyError when the file exists and is not ours.
 */
export async function loadOrCreateDevKeys(stateDir: string): Promise<DevKeys> {
  const path = join(stateDir, 'keys.json');
  await ensureDirectory(stateDir);
  const fresh = {
    hmac: randomBytes(SECRET_BYTES).toString('base64'),
    vault: randomBytes(SECRET_BYTES).toString('base64'),
  };
  // Whoever comes second reads what the first wrote: two processes may start at once.
  const created =
    (await readIfExists(path)) === null && (await writeExclusively(path, `${JSON.stringify(fresh, null, 2)}\n`));
  const text = (await readIfExists(path))?.toString('utf8');
  const parsed = devKeysSchema.safeParse(parseJson(text ?? ''));
  if (!parsed.success) {
    throw new KeyError('keys', `cannot be read from ${path}: configure keys.hmac and keys.vault, or restore the file`);
  }
  await chmod(path, 0o600);
  return { secrets: parsed.data, created, path };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
