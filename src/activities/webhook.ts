import { createHmac, timingSafeEqual } from 'node:crypto';

/** How far a delivery's time stamp may be from the receiver's clock (Standard Webhooks 1.0.0 leaves it to the receiver). */
const TOLERANCE_MS = 5 * 60_000;

/** Least and most bytes of a signing secret (Standard Webhooks 1.0.0, "Signature scheme"). */
const LEAST_BYTES = 24;
const MOST_BYTES = 64;

const PREFIX = 'whsec_';

/**
 * Reads a signing secret: base64, with or without the prefix `whsec_`, as the libraries of Standard Webhooks take it.
 *
 * @returns the key, or what is wrong with the secret; never the secret itself.
 */
export function webhookKey(secret: string): Buffer | string {
  const trimmed = secret.trim();
  const text = trimmed.startsWith(PREFIX) ? trimmed.slice(PREFIX.length) : trimmed;
  const key = Buffer.from(text, 'base64');
  // Decoding never fails: only what encodes back to itself was base64.
  const isBase64 = text !== '' && key.toString('base64').replace(/=+$/, '') === text.replace(/=+$/, '');
  if (isBase64 && key.length >= LEAST_BYTES && key.length <= MOST_BYTES) return key;
  return `must be ${LEAST_BYTES} to ${MOST_BYTES} random bytes in base64, for instance from "openssl rand -base64 32"`;
}

/** The headers of a signed delivery (Standard Webhooks 1.0.0). */
interface WebhookHeaders {
  readonly 'webhook-id': string;
  /** Unix seconds of this try. */
  readonly 'webhook-timestamp': string;
  readonly 'webhook-signature': string;
}

/** @param id names the event and holds no dot; the same for every try. */
export function signWebhook(id: string, atMs: number, body: string, key: Buffer): WebhookHeaders {
  const timestamp = String(Math.floor(atMs / 1000));
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature(id, timestamp, body, key)}`,
  };
}

function signature(id: string, timestamp: string, body: string, key: Buffer): string {
  return createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
}

/**
 * Whether a webhook came from the Lethe that holds this secret, unchanged and just now. Deliveries may be repeated:
 * `webhook-id` is the same for each try of one event.
 *
 * @param headers as Node's or any framework's request has them; names in any case.
 * @param body the raw body as it was received: parsing it and writing it again may change it.
 * @param secret `notify.secret` of Lethe's config.
 * @param options.nowMs the receiver's clock, epoch milliseconds. Default: now.
 * @throws RangeError when the secret cannot be one.
 */
export function verifyWebhook(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  body: string | Uint8Array,
  secret: string,
  options: { readonly nowMs?: number } = {},
): boolean {
  const key = webhookKey(secret);
  if (typeof key === 'string') throw new RangeError(`the webhook secret ${key}`);
  const read = (name: string): string | null => {
    const found = Object.entries(headers).find(([header]) => header.toLowerCase() === name)?.[1];
    return typeof found === 'string' ? found : null;
  };
  const id = read('webhook-id');
  const timestamp = read('webhook-timestamp');
  const signatures = read('webhook-signature');
  if (id === null || timestamp === null || signatures === null || !/^\d{1,12}$/.test(timestamp)) return false;
  if (Math.abs((options.nowMs ?? Date.now()) - Number(timestamp) * 1000) > TOLERANCE_MS) return false;
  const text = typeof body === 'string' ? body : Buffer.from(body).toString('utf8');
  const wanted = Buffer.from(signature(id, timestamp, text, key));
  return signatures.split(' ').some((one) => {
    const given = one.startsWith('v1,') ? Buffer.from(one.slice(3)) : null;
    return given?.length === wanted.length && timingSafeEqual(given, wanted);
  });
}
