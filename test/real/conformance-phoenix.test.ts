import { afterAll, beforeAll } from '@jest/globals';
import { conformance } from '../conformance/suite.ts';
import { closePhoenix, phoenix } from './support/phoenix-harness.ts';

const START_MS = 600_000;

beforeAll(async () => {
  // Installs and starts the server, so that no case pays for it.
  const server = await phoenix.start({ realMs: Date.now(), virtualMs: Date.now(), speed: 1 });
  await server.close();
}, START_MS);
afterAll(closePhoenix, 60_000);

conformance(phoenix);
