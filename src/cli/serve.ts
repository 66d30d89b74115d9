import { InvalidArgumentError, type Command } from 'commander';
import { loadConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { EXIT, type ExitCode } from './exit.ts';
import type { Io } from './io.ts';
import { configPath } from './options.ts';

/** `dev`, `worker` and `codec`: what runs until it is told to stop. */
export function addServe(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('dev')
    .description('run a Temporal server and the worker with your config, until Ctrl-C')
    .action(async (_options: unknown, command: Command) => {
      await dev(configPath(command), io);
      exit(EXIT.ok);
    });

  program
    .command('worker')
    .description('run the worker only, against the configured Temporal server, until Ctrl-C')
    .action(async (_options: unknown, command: Command) => {
      const config = loadConfig({ path: configPath(command), env: io.env });
      const { secrets, warning } = await secretsFor(config, false);
      if (warning !== null) io.err(warning);
      // The SDK's native part is not loaded by commands that do without it.
      const { runWorker } = await import('../worker.ts');
      await runWorker(config, {
        secrets,
        onReady: ({ taskQueues }) => {
          io.out(`Ready: serving ${taskQueues.join(', ')} at ${config.temporal.address}. Ctrl-C stops.`);
        },
      });
      exit(EXIT.ok);
    });

  program
    .command('codec')
    .description(
      "make Lethe's payloads readable in a Temporal UI that runs elsewhere, until Ctrl-C; people stay hidden",
    )
    .requiredOption('--ui <URL>', 'origin of the Temporal UI, the only one that may ask')
    .option('--port <N>', 'port; name it in the UI as its codec endpoint', portNumber, 8899)
    .option('--bind <ADDRESS>', 'address to listen on; anything but loopback needs a proxy with a login', '127.0.0.1')
    .action(async (options: { ui: string; port: number; bind: string }, command: Command) => {
      await codec(configPath(command), options, io);
      exit(EXIT.ok);
    });
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('must be a port, 0 to 65535');
  return port;
}

async function codec(
  path: string | undefined,
  options: { ui: string; port: number; bind: string },
  io: Io,
): Promise<void> {
  const config = loadConfig({ path, env: io.env, storeSecrets: false });
  const { secrets, warning } = await secretsFor(config, false);
  if (warning !== null) io.err(warning);
  const stop = stopSignal();
  const { startCodecServer } = await import('../temporal/codec-server.ts');
  const { deriveKeys } = await import('../vault/keys.ts');
  const server = await startCodecServer({
    keys: deriveKeys(secrets),
    uiOrigin: options.ui,
    port: options.port,
    host: options.bind,
  });
  io.out(`Ready: ${server.url} makes Lethe's payloads readable for the Temporal UI at ${options.ui}. Ctrl-C stops.`);
  await stop.asked;
  stop.dismiss();
  await server.close();
}

async function dev(path: string | undefined, io: Io): Promise<void> {
  const config = loadConfig({ path, env: io.env });
  const { secrets, warning } = await secretsFor(config, true);
  if (warning !== null) io.err(`WARNING: ${warning}`);

  const stop = stopSignal();
  const [{ startLocalTemporal }, { createWorkers }, { createLogger }] = await Promise.all([
    import('./local-temporal.ts'),
    import('../worker.ts'),
    import('../log.ts'),
  ]);
  const logger = createLogger(io.env['LETHE_LOG_LEVEL'] === undefined ? 'warn' : undefined, io.env);
  const temporal = await startLocalTemporal({ config, secrets, durable: true, onRestart: io.err });
  try {
    const workers = await createWorkers(config, { secrets, logger, ensureSetup: false });
    const served = workers.run();
    io.out(
      [
        `Temporal  ${temporal.address} ${temporal.ownServer ? `(started here, state in ${config.stateDir})` : '(was running already)'}`,
        `UI        ${temporal.uiUrl}`,
        `Worker    ${workers.taskQueues.join(', ')}`,
        'Ready. Ctrl-C stops everything; open requests go on at the next start.',
      ].join('\n'),
    );
    try {
      await Promise.race([stop.asked, served, temporal.gone]);
    } finally {
      io.err('Stopping ...');
      workers.shutdown();
      await served;
    }
  } finally {
    await temporal.stop();
    stop.dismiss();
  }
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
export function stopSignal(): { readonly asked: Promise<void>; dismiss(): void } {
  let first = true;
  let settle: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => (settle = resolve));
  const listener = (): void => {
    if (!first) process.exit(130);
    first = false;
    settle();
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.on(signal, listener);
  return {
    asked,
    dismiss: () => {
      for (const signal of signals) process.removeListener(signal, listener);
    },
  };
}
