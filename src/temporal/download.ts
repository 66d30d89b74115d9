import { TestWorkflowEnvironment } from '@temporalio/testing';

// Run as a process of its own by binary.ts: `node download.ts DIRECTORY VERSION` leaves the CLI in DIRECTORY.
// The SDK has no call that only downloads, so this starts a server with what it fetched, and stops it at once; that
// also shows that the file runs on this machine.

const [directory, version] = process.argv.slice(2);
if (directory === undefined || version === undefined) throw new Error('usage: download DIRECTORY VERSION');

try {
  const environment = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'cached-download', downloadDir: directory, version: `v${version}`, ttl: '1 hour' },
      log: { format: 'pretty', level: 'error' },
    },
  });
  await environment.teardown();
} catch (error) {
  const messages: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { message } = at;
    // The native layer repeats the innermost message in every wrapper.
    if (!messages.some((outer) => outer.includes(message))) messages.push(message);
  }
  process.stderr.write(`${messages.join(': ').replaceAll('\n', ' ')}\n`);
  process.exitCode = 1;
}
