import type { LocalServer } from '../../src/temporal/server.ts';

declare global {
  var letheTestServer: LocalServer | undefined;
}

export default async function globalTeardown(): Promise<void> {
  await globalThis.letheTestServer?.stop();
}
