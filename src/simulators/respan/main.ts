import { runSimulator } from '../common/process.ts';
import { startRespanSimulator } from './index.ts';

// The line it prints: url, port, apiKey (of prod), apiKeys by environment, org.
await runSimulator(startRespanSimulator, ({ url, port, apiKey, apiKeys, org }) => ({
  url,
  port,
  apiKey,
  apiKeys,
  org,
}));
