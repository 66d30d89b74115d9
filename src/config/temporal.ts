import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { loadClientConfigProfile, toClientOptions, type ClientConfigProfile } from '@temporalio/envconfig';
import { z } from 'zod';
import { DEFAULT_TASK_QUEUE } from '../erasure/memo.ts';
import type { Problem } from './errors.ts';
import { isLoopback } from './loopback.ts';

const name = z.string().min(1);

/** Section `temporal` of the config file. */
export const temporalSchema = z.strictObject({
  /** `host:port`. Default: TEMPORAL_ADDRESS, the profile, or 127.0.0.1:7233. */
  address: name.optional(),
  /** Default: `lethe`. */
  namespace: name.optional(),
  /** `true` for a server certificate that the system trusts. Default: on when an API key is given. */
  tls: z
    .union([
      z.boolean(),
      z.strictObject({
        /** Name in the server's certificate, when it is not the host of the address. */
        serverName: name.optional(),
        /** PEM files, relative to the config file. */
        ca: name.optional(),
        cert: name.optional(),
        key: name.optional(),
      }),
    ])
    .optional(),
  /** For instance Temporal Cloud's; written as `${TEMPORAL_CLOUD_KEY}`. */
  apiKey: name.optional(),
  /** A profile of Temporal's own `temporal.toml`. Default: TEMPORAL_PROFILE. */
  profile: name.optional(),
  /** Prefix of Lethe's task queues, for several installations in one namespace. Default: `lethe`. */
  taskQueue: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'must be letters, digits, dots, dashes or underscores')
    .optional(),
  /** Where people open the Temporal UI, for links. Default: a server on this machine has it 1000 ports up, at 8233. */
  uiAddress: z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }).optional(),
});

/** How to reach Temporal, with everything filled in. */
export interface TemporalConfig {
  /** `host:port`. */
  readonly address: string;
  readonly namespace: string;
  readonly tls: TlsConfig | boolean;
  readonly apiKey: string | null;
  /** gRPC headers, from a profile. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly taskQueue: string;
  /** URL without a trailing slash, or null when unknown. */
  readonly uiAddress: string | null;
}

export interface TlsConfig {
  serverNameOverride?: string;
  serverRootCACertificate?: Buffer;
  clientCertPair?: { crt: Buffer; key: Buffer };
}

const DEFAULT_ADDRESS = '127.0.0.1:7233';

/**
 * Joins the config file, Temporal's environment variables and its profiles. A variable wins over the file, as in
 * Temporal's own tools. A profile is only read when it is named, or when nothing else gives an address: the certificates
 * and keys of one server are never sent to another.
 *
 * @param section the parsed section `temporal`.
 * @param directory what file names are relative to.
 */
export function compileTemporal(
  section: z.output<typeof temporalSchema>,
  directory: string,
  env: NodeJS.ProcessEnv,
): { readonly value: TemporalConfig | null; readonly problems: readonly Problem[] } {
  const problems: Problem[] = [];
  const overrideEnvVars = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
  );
  const read = (what: string, load: () => ClientConfigProfile): ClientConfigProfile => {
    try {
      return load();
    } catch (error) {
      problems.push({ path: what, message: error instanceof Error ? error.message : String(error) });
      return {};
    }
  };

  const profileName = section.profile ?? overrideEnvVars['TEMPORAL_PROFILE'];
  const wantsProfile =
    profileName !== undefined || (section.address === undefined && overrideEnvVars['TEMPORAL_ADDRESS'] === undefined);
  const profile = wantsProfile
    ? read('temporal.profile', () =>
        loadClientConfigProfile({
          disableEnv: true,
          overrideEnvVars,
          ...(profileName === undefined ? {} : { profile: profileName }),
        }),
      )
    : {};
  const fromEnv = read('temporal', () => loadClientConfigProfile({ disableFile: true, overrideEnvVars }));

  const pem = (field: string, file: string | undefined): Buffer | undefined => {
    if (file === undefined) return undefined;
    try {
      return readFileSync(resolve(directory, file));
    } catch (error) {
      problems.push({
        path: `temporal.tls.${field}`,
        message: `cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`,
      });
      return undefined;
    }
  };
  let ownTls: TlsConfig | boolean | undefined;
  if (typeof section.tls === 'object') {
    const { serverName, ca, cert, key } = section.tls;
    if ((cert === undefined) !== (key === undefined)) {
      problems.push({ path: 'temporal.tls', message: 'needs both cert and key, or neither' });
    }
    const root = pem('ca', ca);
    const crt = pem('cert', cert);
    const secret = pem('key', key);
    ownTls = {
      ...(serverName === undefined ? {} : { serverNameOverride: serverName }),
      ...(root === undefined ? {} : { serverRootCACertificate: root }),
      ...(crt === undefined || secret === undefined ? {} : { clientCertPair: { crt, key: secret } }),
    };
  } else {
    ownTls = section.tls;
  }

  // toClientOptions reads the certificate files that profile and environment name.
  const options = (found: ClientConfigProfile, path: string) => {
    try {
      return toClientOptions(found).connectionOptions;
    } catch {
      problems.push({ path, message: 'names a certificate or key file that cannot be read' });
      return {};
    }
  };
  const envOptions = options(fromEnv, 'the TEMPORAL_TLS_* environment variables');
  const profileOptions = options(profile, 'temporal.profile');
  if (problems.length > 0) return { value: null, problems };

  const address = fromEnv.address ?? section.address ?? profile.address ?? DEFAULT_ADDRESS;
  const apiKey = fromEnv.apiKey ?? section.apiKey ?? profile.apiKey ?? null;
  const tls =
    (fromEnv.tls === undefined ? undefined : envOptions.tls) ?? ownTls ?? profileOptions.tls ?? apiKey !== null;
  return {
    problems,
    value: {
      address: address.includes(':') ? address : `${address}:7233`,
      namespace: fromEnv.namespace ?? section.namespace ?? profile.namespace ?? 'lethe',
      tls: tls as TlsConfig | boolean,
      apiKey,
      metadata: { ...(profile.grpcMeta ?? {}), ...(fromEnv.grpcMeta ?? {}) },
      taskQueue: section.taskQueue ?? DEFAULT_TASK_QUEUE,
      uiAddress: section.uiAddress?.replace(/\/+$/, '') ?? localUi(address),
    },
  };
}

/** Temporal's dev server puts its UI a thousand ports above; of a server elsewhere nothing is known. */
function localUi(address: string): string | null {
  const port = Number(/:(\d+)$/.exec(address)?.[1] ?? 7233);
  return isLoopback(address) && port < 64_000 ? `http://127.0.0.1:${port + 1000}` : null;
}

/** What `Connection` and `NativeConnection` take. */
export function connectionOptionsOf(temporal: TemporalConfig): {
  address: string;
  tls: TlsConfig | boolean;
  apiKey?: string;
  metadata?: Record<string, string>;
} {
  return {
    address: temporal.address,
    tls: temporal.tls,
    ...(temporal.apiKey === null ? {} : { apiKey: temporal.apiKey }),
    ...(Object.keys(temporal.metadata).length === 0 ? {} : { metadata: { ...temporal.metadata } }),
  };
}
