import type { Payload } from '@temporalio/common';
import Fastify from 'fastify';
import { z } from 'zod';
import type { Keys } from '../vault/keys.ts';
import { EncryptionCodec, isEncrypted, isMarkedPersonal, jsonOf, PERSONAL_FIELDS } from './codec.ts';

/** How masks begin. A payload that contains one came from this server and must not be sent back as if it were real. */
const MASK = '<hidden: ';

const HOST = '127.0.0.1';
/** A page of the UI sends a whole history at once. */
const MOST_BODY_BYTES = 32 * 1024 * 1024;

export interface CodecServerOptions {
  readonly keys: Keys;
  /** Where the Temporal UI is served, for instance `http://127.0.0.1:8233`. Browsers elsewhere are refused. */
  readonly uiOrigin: string;
  /** @default 0: any free port, see `url` */
  readonly port?: number;
  /** Address to listen on. Whoever reaches it reads all but the person. @default 127.0.0.1 */
  readonly host?: string;
}

export interface CodecServer {
  /** For the UI's setting and for `temporal --codec-endpoint`. */
  readonly url: string;
  close(): Promise<void>;
}

const payloadSchema = z.object({
  metadata: z.record(z.string(), z.base64()).nullish(),
  data: z.base64().nullish(),
});
const bodySchema = z.object({ payloads: z.array(payloadSchema).nullish() });
type JsonPayload = z.infer<typeof payloadSchema>;

/**
 * Serves Temporal's codec protocol, on the loopback address unless told otherwise, so that the Temporal UI and command line show summaries,
 * memos and inputs in clear text, and can send encrypted updates. The person stays hidden: fields named `subject` and
 * `known`, at any depth, show kinds and counts only. What can't be decrypted is returned as it came.
 *
 * @throws when the port is taken.
 */
export async function startCodecServer(options: CodecServerOptions): Promise<CodecServer> {
  const codec = new EncryptionCodec(options.keys);
  const origins = originsOf(options.uiOrigin);
  // No log: bodies are what must not be written anywhere.
  const server = Fastify({ logger: false, bodyLimit: MOST_BODY_BYTES, forceCloseConnections: true });

  server.addHook('onRequest', async (request, reply) => {
    const { origin } = request.headers;
    // Without one it is no browser, but a command line on this machine.
    if (origin === undefined) return;
    if (!origins.has(origin)) return reply.code(403).send({ error: 'only the Temporal UI may ask' });
    reply.headers({
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'POST, OPTIONS',
      'access-control-allow-headers': 'content-type, x-namespace, authorization',
      'access-control-allow-credentials': 'true',
      vary: 'origin',
    });
    if (request.method === 'OPTIONS') return reply.code(204).send();
    return;
  });

  const convert = (path: string, work: (payload: Payload) => Promise<Payload>): void => {
    // The command line puts the namespace into the path when its endpoint is written so.
    for (const route of [path, `/:namespace${path}`]) {
      server.options(route, (_request, reply) => reply.code(204).send());
      server.post(route, async (request, reply) => {
        const body = bodySchema.safeParse(request.body);
        if (!body.success) return reply.code(400).send({ error: 'not a list of payloads' });
        try {
          const payloads = await Promise.all(
            (body.data.payloads ?? []).map(async (json) => toJson(await work(fromJson(json)))),
          );
          return await reply.send({ payloads });
        } catch (error) {
          if (error instanceof MaskedPayloadError) return reply.code(400).send({ error: error.message });
          throw error;
        }
      });
    }
  };
  convert('/decode', (payload) => decodeMasked(codec, payload));
  convert('/encode', async (payload) => {
    if (Buffer.from(payload.data ?? []).includes(MASK)) throw new MaskedPayloadError();
    const [encoded] = await codec.encode([payload]);
    return encoded ?? payload;
  });

  const url = await server.listen({ host: options.host ?? HOST, port: options.port ?? 0 });
  return { url, close: () => server.close() };
}

/** Thrown when something shown with hidden fields is sent as if it were complete. */
class MaskedPayloadError extends Error {
  constructor() {
    super('parts of this input are hidden in the UI: start erasures with "lethe erase" instead');
    this.name = 'MaskedPayloadError';
  }
}

async function decodeMasked(codec: EncryptionCodec, payload: Payload): Promise<Payload> {
  if (!isEncrypted(payload)) return payload;
  let decoded: Payload | undefined;
  try {
    [decoded] = await codec.decode([payload]);
  } catch {
    // Another key, or damaged: the UI shows the cipher text, which is all that can be shown.
    return payload;
  }
  if (decoded === undefined) return payload;
  const value = jsonOf(decoded);
  if (value === undefined) return isMarkedPersonal(payload) ? payload : decoded;
  const masked = mask(value);
  return masked === value ? decoded : { ...decoded, data: Buffer.from(JSON.stringify(masked), 'utf8') };
}

/** @returns the value itself when nothing in it needs hiding, else a copy with masks. */
function mask(value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = value.map(mask);
    return items.every((item, index) => item === value[index]) ? value : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  const before = Object.entries(value);
  const after = before.map(([field, inner]): [string, unknown] => [
    field,
    PERSONAL_FIELDS.has(field) ? maskPersonal(inner) : mask(inner),
  ]);
  return after.every(([, inner], index) => inner === before[index]?.[1]) ? value : Object.fromEntries(after);
}

/** Kinds of identifiers and numbers of ids are no secret; values are. */
function maskPersonal(value: unknown): unknown {
  if (Array.isArray(value)) {
    const kinds = value.map((item: unknown) =>
      typeof item === 'object' && item !== null && 'kind' in item && typeof item.kind === 'string' ? item.kind : null,
    );
    if (kinds.length > 0 && kinds.every((kind) => kind !== null)) return `${MASK}${kinds.join(', ')}>`;
    return `${MASK}${value.length} ids>`;
  }
  if (typeof value === 'object' && value !== null) {
    // Ids by connection.
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, maskPersonal(inner)]));
  }
  return typeof value === 'number' || typeof value === 'boolean' || value === null ? value : `${MASK}a value>`;
}

/** The UI may be opened under either name of the loopback address. */
function originsOf(uiOrigin: string): ReadonlySet<string> {
  const url = new URL(uiOrigin);
  const names = ['127.0.0.1', 'localhost'];
  if (!names.includes(url.hostname)) return new Set([url.origin]);
  return new Set(
    names.map((name) => new URL(`${url.protocol}//${name}${url.port === '' ? '' : `:${url.port}`}`).origin),
  );
}

function fromJson(json: JsonPayload): Payload {
  return {
    metadata: Object.fromEntries(
      Object.entries(json.metadata ?? {}).map(([name, value]) => [name, Buffer.from(value, 'base64')]),
    ),
    ...(typeof json.data === 'string' ? { data: Buffer.from(json.data, 'base64') } : {}),
  };
}

function toJson(payload: Payload): JsonPayload {
  return {
    metadata: Object.fromEntries(
      Object.entries(payload.metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
    ),
    ...(payload.data === undefined || payload.data === null
      ? {}
      : { data: Buffer.from(payload.data).toString('base64') }),
  };
}
