import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DataConverter, Payload, PayloadCodec } from '@temporalio/common';
import proto from '@temporalio/proto';
import { deflate, inflate } from '../vault/deflate.ts';
import type { Keys } from '../vault/keys.ts';

const PayloadProto = proto.temporal.api.common.v1.Payload;

const ENCODING = 'encoding';
const ENCRYPTED = 'binary/encrypted';
/** Kept short: the server counts the bytes of every summary. */
const KEY_ID = 'encryption-key-id';
/** What a payload is about, readable without its key; only set when it holds a person's identifiers or ids. */
const CLASS = 'lethe-class';
const SUBJECT_CLASS = 'subject';

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Below this compression costs more than it saves. */
const COMPRESS_ABOVE_BYTES = 256;
/** First byte of what is encrypted. */
const STORED = 0;
const DEFLATED = 1;

/** Fields that hold identifiers of the person, or ids from the caller's own database, wherever they stand. */
export const PERSONAL_FIELDS: ReadonlySet<string> = new Set(['subject', 'known']);

/** Thrown when a payload can't be decrypted: encrypted under another key, or damaged. Says what to do. */
export class CodecError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CodecError';
  }
}

/**
 * Encrypts every payload on its way to Temporal. Payloads that carry a person's identifiers are marked in the clear,
 * those without encryption pass through when read, so that histories from before the keys stay readable.
 */
export class EncryptionCodec implements PayloadCodec {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  /** Leaves alone what is encrypted already. */
  encode(payloads: Payload[]): Promise<Payload[]> {
    return Promise.all(payloads.map((payload) => this.#encrypt(payload)));
  }

  /** @throws CodecError when a payload was encrypted under another key, or was changed since. */
  decode(payloads: Payload[]): Promise<Payload[]> {
    return Promise.all(payloads.map((payload) => this.#decrypt(payload)));
  }

  async #encrypt(payload: Payload): Promise<Payload> {
    if (isEncrypted(payload)) return payload;
    const keyId = this.#keys.keyIds.codec;
    const payloadClass = carriesPerson(payload) ? SUBJECT_CLASS : null;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#keys.codec, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(context(keyId, payloadClass));
    const plain = await pack(PayloadProto.encode(payload).finish());
    const data = Buffer.concat([cipher.update(plain), cipher.final()]);
    return {
      metadata: {
        [ENCODING]: utf8(ENCRYPTED),
        [KEY_ID]: utf8(keyId),
        ...(payloadClass === null ? {} : { [CLASS]: utf8(payloadClass) }),
      },
      data: Buffer.concat([nonce, cipher.getAuthTag(), data]),
    };
  }

  async #decrypt(payload: Payload): Promise<Payload> {
    if (!isEncrypted(payload)) return payload;
    const keyId = metadataText(payload, KEY_ID) ?? '';
    if (keyId !== this.#keys.keyIds.codec) {
      throw new CodecError(
        `a Temporal payload was encrypted under another keys.vault (key ${keyId || 'unknown'}, ` +
          `configured is ${this.#keys.keyIds.codec}): configure the one with which the request was started`,
      );
    }
    const bytes = Buffer.from(payload.data ?? []);
    const plain = this.#open(bytes, context(keyId, metadataText(payload, CLASS)));
    return PayloadProto.decode(await unpack(plain));
  }

  #open(bytes: Buffer, aad: Buffer): Buffer {
    try {
      const nonce = bytes.subarray(0, NONCE_BYTES);
      const decipher = createDecipheriv(CIPHER, this.#keys.codec, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(aad).setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
      return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    } catch (error) {
      throw new CodecError('a Temporal payload was damaged or changed and cannot be decrypted', { cause: error });
    }
  }
}

/**
 * The file for `failureConverterPath`. A bundle of workflow code that is made beforehand needs it as well.
 * It is this module's neighbour with the same ending: `.ts` in a checkout, `.js` in an installed package.
 */
export const FAILURE_CONVERTER_PATH = fileURLToPath(
  new URL(`./failure-converter${extname(import.meta.url)}`, import.meta.url),
);

/**
 * The one data converter of clients, workers, replays and bundles. All of them need the same: a payload written with
 * it can't be read without.
 *
 * @param keys null: nothing is encrypted, and failures keep their text.
 */
export function createDataConverter(keys: Keys | null): DataConverter {
  if (keys === null) return {};
  return { payloadCodecs: [new EncryptionCodec(keys)], failureConverterPath: FAILURE_CONVERTER_PATH };
}

/** @returns the value of a payload that holds JSON, or undefined for any other. */
export function jsonOf(payload: Payload): unknown {
  if (metadataText(payload, ENCODING) !== 'json/plain') return undefined;
  try {
    return JSON.parse(Buffer.from(payload.data ?? []).toString('utf8'));
  } catch {
    return undefined;
  }
}

/** Whether a payload is encrypted. A namespace is Lethe's own, so it was by this codec. */
export function isEncrypted(payload: Payload): boolean {
  return metadataText(payload, ENCODING) === ENCRYPTED;
}

/** Whether a payload was marked, when it was encrypted, as one that holds a person's identifiers or ids. */
export function isMarkedPersonal(payload: Payload): boolean {
  return metadataText(payload, CLASS) === SUBJECT_CLASS;
}

function carriesPerson(payload: Payload): boolean {
  // Most payloads don't even contain the words; those that do are parsed, since a text may mention them.
  const bytes = Buffer.from(payload.data ?? []);
  if (![...PERSONAL_FIELDS].some((field) => bytes.includes(`"${field}"`))) return false;
  return hasPersonalField(jsonOf(payload));
}

function hasPersonalField(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([field, inner]) => PERSONAL_FIELDS.has(field) || hasPersonalField(inner));
}

/** What is authenticated beside the ciphertext: the clear metadata. */
function context(keyId: string, payloadClass: string | null): Buffer {
  return utf8(JSON.stringify(['lethe-payload/1', keyId, payloadClass]));
}

async function pack(bytes: Uint8Array): Promise<Buffer> {
  if (bytes.length > COMPRESS_ABOVE_BYTES) {
    const small = await deflate(bytes);
    if (small.length < bytes.length) return Buffer.concat([Buffer.from([DEFLATED]), small]);
  }
  return Buffer.concat([Buffer.from([STORED]), bytes]);
}

async function unpack(bytes: Buffer): Promise<Buffer> {
  const body = bytes.subarray(1);
  return bytes[0] === DEFLATED ? inflate(body) : body;
}

function metadataText(payload: Payload, name: string): string | null {
  const value = payload.metadata?.[name];
  return value === undefined ? null : Buffer.from(value).toString('utf8');
}

function utf8(text: string): Buffer {
  return Buffer.from(text, 'utf8');
}
