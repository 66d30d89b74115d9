import { CommanderError } from 'commander';
import { ConfigError } from '../config/errors.ts';
import { InvalidRequestError } from '../client/errors.ts';
import type { RequestStatus } from '../erasure/status.ts';

/** Exit codes of every command, see docs/operating.md. */
export const EXIT = {
  ok: 0,
  other: 1,
  usage: 2,
  underWay: 3,
  operator: 4,
  abandoned: 5,
  exceptions: 6,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Thrown for a command line that can't be used. Nothing was started. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What a request's status means to a script. */
export function exitCodeOf(status: RequestStatus): ExitCode {
  switch (status.status) {
    case 'verified':
    case 'nothing-found':
      return EXIT.ok;
    case 'verified-with-exceptions':
      return EXIT.exceptions;
    case 'abandoned':
      return EXIT.abandoned;
    case 'needs-operator':
    case 'awaiting-approval':
    case 'held':
      return EXIT.operator;
    case 'planning':
    case 'erasing':
    case 'waiting':
    case 'verifying':
      // A dry run ends with its plan.
      return status.dryRun && status.endedAt !== null ? EXIT.ok : EXIT.underWay;
  }
}

/** What an error means to a script, and what a person is told. */
export function explain(error: unknown, env: NodeJS.ProcessEnv): { readonly code: ExitCode; readonly text: string } {
  if (error instanceof CommanderError) {
    // Commander has written its own words already.
    const asked = ['commander.helpDisplayed', 'commander.help', 'commander.version'].includes(error.code);
    return { code: asked && error.exitCode === 0 ? EXIT.ok : EXIT.usage, text: '' };
  }
  const code =
    error instanceof ConfigError || error instanceof InvalidRequestError || error instanceof UsageError
      ? EXIT.usage
      : EXIT.other;
  if (!(error instanceof Error)) return { code, text: String(error) };
  const debug = env['LETHE_DEBUG'] !== undefined && env['LETHE_DEBUG'] !== '';
  return { code, text: debug ? (error.stack ?? error.message) : error.message };
}
