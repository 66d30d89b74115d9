import { promisify } from 'node:util';
import { deflateRaw, deflateRawSync, inflateRaw, inflateRawSync } from 'node:zlib';

const deflateAway = promisify(deflateRaw);
const inflateAway = promisify(inflateRaw);

/** Up to so many bytes the hop to the thread pool and back costs more than the work. */
const SMALL_BYTES = 64 * 1024;
/** Of what is deflated: our JSON rarely shrinks to an eighth, so that no more than the above comes out as a rule. */
const SMALL_DEFLATED_BYTES = 8 * 1024;

/** Raw deflate; large inputs in the thread pool, so that nothing else waits for them. */
export async function deflate(bytes: Uint8Array): Promise<Buffer> {
  return bytes.byteLength <= SMALL_BYTES ? deflateRawSync(bytes) : deflateAway(bytes);
}

/** The way back. @throws Error when the bytes are damaged. */
export async function inflate(bytes: Uint8Array): Promise<Buffer> {
  return bytes.byteLength <= SMALL_DEFLATED_BYTES ? inflateRawSync(bytes) : inflateAway(bytes);
}
