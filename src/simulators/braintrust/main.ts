import { runSimulator } from '../common/process.ts';
import { startBraintrustSimulator } from './index.ts';

// The line it prints: url (the application's address), apiUrl (the data plane's), port, apiKey, organisation.
await runSimulator(startBraintrustSimulator, ({ url, apiUrl, port, apiKey, organisation }) => ({
  url,
  apiUrl,
  port,
  apiKey,
  organisation,
}));
