import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadOrCreateDevKeys, type KeySecrets } from '../vault/keys.ts';
import { ConfigError } from './errors.ts';
import type { LetheConfig } from './config.ts';

export interface FoundSecrets {
  readonly secrets: KeySecrets;
  /** For the person who started this: keys that were made here protect little. Null when they are configured. */
  readonly warning: string | null;
}

/**
 * The secrets to work with: the configured ones, else those that `lethe dev` keeps in the state directory.
 *
 * @param make whether missing ones may be made; for `lethe dev` and `lethe demo` only.
 * @throws ConfigError when there are none.
 */
export async function secretsFor(config: LetheConfig, make: boolean): Promise<FoundSecrets> {
  if (config.secrets !== null) return { secrets: config.secrets, warning: null };
  if (!make && !existsSync(join(config.stateDir, 'keys.json'))) {
    throw new ConfigError(config.file, [
      {
        path: 'keys',
        message:
          'is missing: without keys nothing can be encrypted and no person named. Set keys.hmac and keys.vault to 32 ' +
          'random bytes each ("openssl rand -base64 32"); only `lethe dev` and `lethe demo` make their own',
      },
    ]);
  }
  const { secrets, path } = await loadOrCreateDevKeys(config.stateDir);
  return {
    secrets,
    warning:
      `No keys are configured: using those in ${path}, beside the data they protect. ` +
      'Set keys.hmac and keys.vault before real people are erased with this installation.',
  };
}
