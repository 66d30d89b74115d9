import { resolve } from 'node:path';
import type { LetheConfig } from '../config/config.ts';
import { isLoopback } from '../config/loopback.ts';
import { startCodecServer } from '../temporal/codec-server.ts';
import {
  databaseFile,
  resolveTemporal,
  startLocalServer,
  type LocalServer,
  type LocalServerOptions,
} from '../temporal/server.ts';
import { TemporalUnavailableError } from '../temporal/unavailable.ts';
import { deriveKeys, type KeySecrets } from '../vault/keys.ts';
import { ensureTemporalSetup } from '../worker.ts';

export interface LocalTemporalOptions {
  /** Its section `temporal` and its state directory are used. */
  readonly config: LetheConfig;
  readonly secrets: KeySecrets;
  /** Keep the server's state in the config's state directory, or only in memory. */
  readonly durable: boolean;
  /** Where TEMPORAL_ADDRESS and TEMPORAL_CLI_PATH are looked for. Default: that of the process. */
  readonly env?: NodeJS.ProcessEnv;
  /** Called with one line when the server ended by itself and is started again. */
  readonly onRestart?: (text: string) => void;
}

/** A Temporal server on this machine, ready for workers, and a codec server with which its UI shows what is encrypted. */
export interface LocalTemporal {
  readonly address: string;
  /** The list of requests in the UI. */
  readonly uiUrl: string;
  /** False when a server was running already; it is left running at the end. */
  readonly ownServer: boolean;
  /** Rejects when the server has gone for good. Never resolves. */
  readonly gone: Promise<never>;
  stop(): Promise<void>;
}

/** A server that ends so often is not started again. */
const MOST_RESTARTS = 5;

/**
 * Uses the server that answers at the configured address, or starts one there. If that one dies it is started again: its
 * state is on the disk.
 *
 * @throws TemporalUnavailableError when the address is not on this machine and nobody answers; whatever starting a
 *   server throws. Nothing is left running then.
 */
export async function startLocalTemporal(options: LocalTemporalOptions): Promise<LocalTemporal> {
  const { config, secrets } = options;
  const { address, namespace } = config.temporal;
  const source = await resolveTemporal({ address, env: options.env ?? process.env });
  if (source.kind === 'binary' && !isLoopback(address)) throw new TemporalUnavailableError(address);
  const uiUrl = config.temporal.uiAddress ?? 'http://127.0.0.1:8233';
  const codec = await startCodecServer({ keys: deriveKeys(secrets), uiOrigin: uiUrl });

  let server: LocalServer | null = null;
  let restarts = 0;
  let stopping = false;
  let fail: (error: unknown) => void = () => undefined;
  const gone = new Promise<never>((_settle, reject) => (fail = reject));
  // Whoever cares listens later.
  gone.catch(() => undefined);

  const start = async (serverOptions: LocalServerOptions): Promise<void> => {
    server = await startLocalServer(serverOptions);
    void server.exited.then(async ({ code, signal }) => {
      if (stopping) return;
      const how = signal ?? `exit code ${code}`;
      restarts += 1;
      if (restarts > MOST_RESTARTS || !options.durable) {
        fail(new Error(`The Temporal server ended (${how}). Requests are kept in ${config.stateDir}; start again.`));
        return;
      }
      options.onRestart?.(`The Temporal server ended (${how}); starting it again with everything it knew.`);
      await start(serverOptions).catch(fail);
    });
  };
  const stop = async (): Promise<void> => {
    stopping = true;
    await codec.close();
    await server?.stop();
  };

  try {
    if (source.kind === 'binary') {
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
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    address,
    uiUrl: `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows`,
    ownServer: source.kind === 'binary',
    gone,
    stop,
  };
}
