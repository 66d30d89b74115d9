import { runSimulator } from '../common/process.ts';
import { startLangSmithSimulator } from './index.ts';

// The line it prints: url, port, apiKey, workspaceId.
await runSimulator(startLangSmithSimulator, ({ url, port, apiKey, workspaceId }) => ({
  url,
  port,
  apiKey,
  workspaceId,
}));
