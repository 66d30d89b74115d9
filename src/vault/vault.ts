import type { z } from 'zod';
import type { BlobRef } from '../erasure/steps.ts';

/**
 * Where everything is kept that names a person or their traces. History and record hold references, counts and
 * digests only. Blobs of one request are encrypted under a key of their own: once that key is destroyed, nothing of the
 * request can be read again. That is where shredding will come in; nothing else needs to be erased then.
 */
export interface Vault {
  /**
   * Writes a blob as a whole, or not at all; a blob of the same name is replaced.
   *
   * @param name path below the request's folder: segments of letters, digits, dots, dashes and underscores that begin
   *   with a letter or digit, joined by `/`. Must not identify a person: it is a file name.
   * @param value anything JSON can hold.
   * @throws VaultLostError when the request's key can't be opened with the configured one.
   */
  put(requestId: string, name: string, value: unknown): Promise<BlobRef>;

  /**
   * @param ref a reference, whose digest is checked: it must be exactly this content. Or a name alone, for whatever is
   *   there now.
   * @throws VaultLostError when it is missing, damaged, not what was referred to or not of the schema's shape.
   */
  get<T>(requestId: string, ref: BlobRef | Pick<BlobRef, 'name'>, schema: z.ZodType<T>): Promise<T>;

  /** @returns the names of the request's blobs, sorted; empty when there are none. */
  list(requestId: string): Promise<readonly string[]>;
}

const VAULT_LOSSES = {
  missing: 'a blob is missing from the vault',
  'key-missing': "the request's key is missing from the vault",
  'other-key': "the request's key was made under another keys.vault",
  damaged: 'a blob or key in the vault was damaged or changed',
  'other-content': 'a blob in the vault is not the one that was referred to',
  'other-shape': 'a blob in the vault has a shape that this release cannot read',
} as const;
export type VaultLoss = keyof typeof VAULT_LOSSES;

const VAULT_ADVICE: Readonly<Record<VaultLoss, string>> = {
  missing: 'restore the vault folder from a backup',
  'key-missing': 'restore the vault folder from a backup',
  'other-key': 'configure the keys.vault with which the request was started',
  damaged: 'restore the vault folder from a backup',
  'other-content': 'restore the newest backup of the vault folder',
  'other-shape': 'run the release that wrote it, or a newer one',
};

/**
 * Thrown when something that was put into the vault can't be had back. The request goes on: searches by person still
 * work, but what only the manifest knew can't be proven and is reported as unresolved. Holds no ids (P31).
 */
export class VaultLostError extends Error {
  readonly loss: VaultLoss;

  constructor(loss: VaultLoss, options?: ErrorOptions) {
    super(
      `${VAULT_LOSSES[loss]}: until it is back, only searches by person can prove anything; ${VAULT_ADVICE[loss]}`,
      options,
    );
    this.name = 'VaultLostError';
    this.loss = loss;
  }
}
