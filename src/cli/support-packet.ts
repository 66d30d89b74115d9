import { UnknownRequestError } from '../client/errors.ts';
import { writeSupportPacket } from '../client/support-packet.ts';
import { loadConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { DirectoryRecords } from '../evidence/directory-records.ts';
import { DirectoryVault } from '../vault/directory-vault.ts';
import { deriveKeys } from '../vault/keys.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { wrap } from './format.ts';
import { printJson, type Io } from './io.ts';

export interface ReportOptions {
  readonly json?: true;
  readonly supportPacket?: true;
  readonly out?: string;
  readonly allTraces?: true;
}

/** `report --support-packet`: from record and vault alone, so that Temporal may be down. */
export async function printSupportPacket(
  requestId: string,
  { json, out, allTraces }: ReportOptions,
  { io, configPath }: { readonly io: Io; readonly configPath: string | undefined },
): Promise<ExitCode> {
  const config = loadConfig({ path: configPath, env: io.env, storeSecrets: false });
  const { stateDir } = config;
  const view = await new DirectoryRecords({ stateDir }).read(requestId).catch((error: unknown) => {
    if (error instanceof RangeError) return null;
    throw error;
  });
  if (view === null) throw new UnknownRequestError(requestId);
  const vault = new DirectoryVault({ stateDir, keys: deriveKeys((await secretsFor(config, false)).secrets) });
  const packet = await writeSupportPacket(requestId, view, config.connections, vault, {
    ...(out === undefined ? {} : { directory: out }),
    allTraces: allTraces === true,
  });
  if (json !== undefined) printJson(io, packet);
  else {
    for (const { connection, path, traces } of packet.files) io.out(`${connection}: ${traces} traces, ${path}`);
    for (const { connection, why } of packet.left) io.out(wrap(`no file: ${why}`, 4, `${connection}: `));
  }
  if (packet.files.length > 0) io.err(wrap(packet.warning, 0));
  return EXIT.ok;
}
