import { createCipheriv, createDecipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { BlobRef } from '../erasure/steps.ts';
import { deflate, inflate } from './deflate.ts';
import { ensureDirectory, isErrno, isTemporary, readIfExists, writeAtomically, writeExclusively } from './files.ts';
import type { Keys } from './keys.ts';
import { VaultLostError } from './vault.ts';
import type { Vault } from './vault.ts';

const KEY_FILE = 'key.json';
const BLOB_SUFFIX = '.blob';
/** First bytes of every blob: what it is, and the version of its layout (then nonce, tag, ciphertext). */
const BLOB_MAGIC = Buffer.from('LTHV1\n', 'latin1');
const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
/** 96 random bits: safe for some four billion blobs under one key, and every request has its own. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const base64 = z.base64();
const keyFileSchema = z.strictObject({
  format: z.literal('lethe-vault-key/1'),
  /** Fingerprint of the configured key that wraps this one. */
  kid: z.string(),
  nonce: base64,
  wrapped: base64,
  tag: base64,
});
type KeyFile = z.infer<typeof keyFileSchema>;

export interface DirectoryVaultOptions {
  /** The state directory of the config; blobs go to `vault/<requestId>/` in it. Created when missing. */
  readonly stateDir: string;
  readonly keys: Keys;
}

/**
 * A vault in a directory of one machine; several processes may share it. JSON, deflated, then AES-256-GCM under the
 * request's key; the request and the blob's name are authenticated with it, so that no blob can take another's place.
 */
export class DirectoryVault implements Vault {
  readonly #root: string;
  readonly #keys: Keys;

  constructor(options: DirectoryVaultOptions) {
    this.#root = join(options.stateDir, 'vault');
    this.#keys = options.keys;
  }

  async put(requestId: string, name: string, value: unknown): Promise<BlobRef> {
    const path = this.#blobPath(requestId, name);
    const json = JSON.stringify(value) as string | undefined;
    if (json === undefined) throw new TypeError('only what JSON can hold goes into the vault');
    const plain = Buffer.from(json, 'utf8');
    const key = (await this.#readKey(requestId)) ?? (await this.#createKey(requestId));
    const sealed = seal(key, blobContext(requestId, name), await deflate(plain));
    await ensureDirectory(dirname(path));
    await writeAtomically(path, Buffer.concat([BLOB_MAGIC, sealed.nonce, sealed.tag, sealed.data]));
    return { name, digest: sha256(plain) };
  }

  async get<T>(requestId: string, ref: BlobRef | Pick<BlobRef, 'name'>, schema: z.ZodType<T>): Promise<T> {
    const bytes = await readIfExists(this.#blobPath(requestId, ref.name));
    if (bytes === null) throw new VaultLostError('missing');
    const key = await this.#readKey(requestId);
    if (key === null) throw new VaultLostError('key-missing');
    const plain = await openBlob(key, blobContext(requestId, ref.name), bytes);
    if ('digest' in ref && sha256(plain) !== ref.digest) throw new VaultLostError('other-content');
    // The schema's own complaints may quote ids, since maps are keyed by them: they stay here.
    const parsed = schema.safeParse(JSON.parse(plain.toString('utf8')));
    if (!parsed.success) throw new VaultLostError('other-shape');
    return parsed.data;
  }

  async list(requestId: string): Promise<readonly string[]> {
    let entries: readonly string[] = [];
    try {
      entries = readdirSync(this.#requestPath(requestId), { recursive: true, encoding: 'utf8' });
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
    return entries
      .filter((entry) => entry.endsWith(BLOB_SUFFIX) && !isTemporary(entry))
      .map((entry) => entry.slice(0, -BLOB_SUFFIX.length).replaceAll('\\', '/'))
      .sort();
  }

  #requestPath(requestId: string): string {
    if (!SEGMENT.test(requestId)) throw new RangeError('not the id of a request');
    return join(this.#root, requestId);
  }

  #blobPath(requestId: string, name: string): string {
    const segments = name.split('/');
    // A segment that ends like a file of ours could be file and folder at once.
    if (!segments.every((segment) => SEGMENT.test(segment) && !segment.endsWith(BLOB_SUFFIX))) {
      throw new RangeError('not the name of a blob');
    }
    return join(this.#requestPath(requestId), ...segments) + BLOB_SUFFIX;
  }

  /** Reads the key anew each time: one that was destroyed must not live on in a process's memory. */
  async #readKey(requestId: string): Promise<KeyObject | null> {
    const bytes = await readIfExists(join(this.#requestPath(requestId), KEY_FILE));
    if (bytes === null) return null;
    const file = parseKeyFile(bytes);
    if (file.kid !== this.#keys.keyIds.vaultWrap) throw new VaultLostError('other-key');
    const sealed = {
      nonce: Buffer.from(file.nonce, 'base64'),
      tag: Buffer.from(file.tag, 'base64'),
      data: Buffer.from(file.wrapped, 'base64'),
    };
    return createSecretKey(unseal(this.#keys.vaultWrap, keyContext(requestId), sealed));
  }

  async #createKey(requestId: string): Promise<KeyObject> {
    const directory = this.#requestPath(requestId);
    await ensureDirectory(directory);
    const sealed = seal(this.#keys.vaultWrap, keyContext(requestId), randomBytes(KEY_BYTES));
    const file: KeyFile = {
      format: 'lethe-vault-key/1',
      kid: this.#keys.keyIds.vaultWrap,
      nonce: sealed.nonce.toString('base64'),
      wrapped: sealed.data.toString('base64'),
      tag: sealed.tag.toString('base64'),
    };
    // Of several processes one writes; all then use what is on the disk.
    await writeExclusively(join(directory, KEY_FILE), `${JSON.stringify(file)}\n`);
    const key = await this.#readKey(requestId);
    if (key === null) throw new VaultLostError('key-missing');
    return key;
  }
}

interface Sealed {
  readonly nonce: Buffer;
  readonly tag: Buffer;
  readonly data: Buffer;
}

function keyContext(requestId: string): Buffer {
  return Buffer.from(JSON.stringify(['lethe-vault-key/1', requestId]), 'utf8');
}

function blobContext(requestId: string, name: string): Buffer {
  return Buffer.from(JSON.stringify(['lethe-vault-blob/1', requestId, name]), 'utf8');
}

function seal(key: KeyObject, context: Buffer, plain: Buffer): Sealed {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(context);
  const data = Buffer.concat([cipher.update(plain), cipher.final()]);
  return { nonce, tag: cipher.getAuthTag(), data };
}

function unseal(key: KeyObject, context: Buffer, sealed: Sealed): Buffer {
  try {
    const decipher = createDecipheriv(CIPHER, key, sealed.nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(context).setAuthTag(sealed.tag);
    return Buffer.concat([decipher.update(sealed.data), decipher.final()]);
  } catch (error) {
    throw new VaultLostError('damaged', { cause: error });
  }
}

async function openBlob(key: KeyObject, context: Buffer, bytes: Buffer): Promise<Buffer> {
  const start = BLOB_MAGIC.length;
  if (!bytes.subarray(0, start).equals(BLOB_MAGIC)) throw new VaultLostError('damaged');
  const nonce = bytes.subarray(start, start + NONCE_BYTES);
  const tag = bytes.subarray(start + NONCE_BYTES, start + NONCE_BYTES + TAG_BYTES);
  const data = bytes.subarray(start + NONCE_BYTES + TAG_BYTES);
  return inflate(unseal(key, context, { nonce, tag, data }));
}

function parseKeyFile(bytes: Buffer): KeyFile {
  try {
    return keyFileSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new VaultLostError('damaged', { cause: error });
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
