import type { LetheClient } from '../client/client.ts';
import type { LetheConfig } from '../config/config.ts';

/** Connects to Temporal. Its client takes half a second to load: only commands that get this far pay for it. */
export async function connect(config: LetheConfig): Promise<LetheClient> {
  const { LetheClient: Client } = await import('../client/client.ts');
  return Client.connect({ config });
}
