import { resolve } from 'node:path';
import type { LetheConfig } from '../config/config.ts';
import { isLoopback } from '../config/loopback.ts';
import { startCodecServer, type CodecServer } from '../temporal/codec-server.ts';
import {
  databaseFile,
  resolveTemporal,
  startLocalServer,
  type LocalServer,
  type LocalServerOptions,
} from '../temporal/server.ts';
import { TemporalUnavailableError } from '../temporal/unavailable.ts';
import { deriveKeys, type KeySecrets } from '../vault/keys.ts';
import { createWorkers, ensureTemporalSetup, type CreateWorkersOptions, type LetheWorkers } from '../worker.ts';

export interface LocalStackOptions {
  readonly config: LetheConfig;
  readonly secrets: KeySecrets;
  /** Keep the server's state in the config's state directory, or only in memory. */
  readonly durable: boolean;
  /** Passed on to the workers. */
  readonly workers?: Omit<CreateWorkersOptions, 'secrets' | 'ensureSetup'>;
  /** Called when the server ended by itself and was started again, or could not be. */
  readonly onServerEnd?: (text: string) => void;
}

/** A Temporal server on this machine, a codec server for its UI, and the workers. */
export interface LocalStack {
  readonly address: string;
  readonly uiUrl: string;
  /** False when a server was running already; it is left running at the end. */
  readonly ownServer: boolean;
  readonly workers: LetheWorkers;
  /** Resolves when the workers have stopped; rejects when they failed, or the server went for good. */
  readonly done: Promise<void>;
  /** Stops workers, codec server and server, in this order, and waits. */
  stop(): Promise<void>;
}

/** A server that ends so often in a row is not started again. */
const MOST_RESTARTS = 5;

/**
 * Starts everything that one machine needs. A server that answers at the configured address is used; else one is
 * started there. If that one dies it is started again: its state is on the disk.
 */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  const { config, secrets } = options;
  const { address, namespace } = config.temporal;
  const source = await resolveTemporal({ address });
  const uiUrl = config.temporal.uiAddress ?? 'http://127.0.0.1:8233';
  const codec = await startCodecServer({ keys: deriveKeys(secrets), uiOrigin: uiUrl });

  let server: LocalServer | null = null;
  let stopping = false;
  let fail: (error: unknown) => void = () => undefined;
  const serverGone = new Promise<never>((_settle, reject) => (fail = reject));
  serverGone.catch(() => undefined);

  const start = async (serverOptions: LocalServerOptions): Promise<void> => {
    server = await startLocalServer(serverOptions);
    void server.exited.then(async ({ code, signal }) => {
      if (stopping) return;
      restarts += 1;
      const how = signal ?? `exit code ${code}`;
      if (restarts > MOST_RESTARTS || !options.durable) {
        fail(new Error(`The Temporal server ended (${how}). Requests are kept in ${config.stateDir}; start again.`));
        return;
      }
      options.onServerEnd?.(`The Temporal server ended (${how}); starting it again with everything it knew.`);
      await start(serverOptions).catch(fail);
    });
  };
  let restarts = 0;

  try {
    if (source.kind === 'binary') {
      if (!isLoopback(address)) throw new TemporalUnavailableError(address);
      await start({
        binary: source.binary,
        dbFile: options.durable ? databaseFile(resolve(config.stateDir), source.binary) : null,
        port: Number(/:(\d+)$/.exec(address)?.[1] ?? 7233),
        uiPort: Number(new URL(uiUrl).port || 80),
        namespace,
        uiCodecEndpoint: codec.url,
      });
    }
    await ensureTemporalSetup(config);
    const workers = await createWorkers(config, { ...options.workers, secrets, ensureSetup: false });
    const run = workers.run();
    run.catch(() => undefined);
    return {
      address,
      uiUrl: `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows`,
      ownServer: source.kind === 'binary',
      workers,
      done: Promise.race([run, serverGone]),
      stop: async () => {
        stopping = true;
        workers.shutdown();
        await run.catch(() => undefined);
        await close(codec, server);
      },
    };
  } catch (error) {
    stopping = true;
    await close(codec, server);
    throw error;
  }
}

async function close(codec: CodecServer, server: LocalServer | null): Promise<void> {
  await codec.close();
  await server?.stop();
}
