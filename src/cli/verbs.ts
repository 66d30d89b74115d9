import { Option, type Command } from 'commander';
import type { VerbAnswer } from '../client/verbs.ts';
import { STATUSES, type Status } from '../erasure/outcome.ts';
import type { OperatorVerb } from '../erasure/verbs.ts';
import { EXIT, UsageError, type ExitCode } from './exit.ts';
import { wrap } from './format.ts';
import { printJson, type Io } from './io.ts';
import { parseCount, parseDate, parseDay } from './options.ts';
import { withClient } from './status.ts';

interface VerbOptions {
  readonly all?: true;
  readonly status?: Status;
  readonly connection?: string;
  readonly expect?: number;
  readonly by: string;
  readonly reason: string;
  readonly until?: string;
  readonly autoRelease?: true;
  readonly notified?: string;
  readonly json?: true;
}

const COMMANDS: readonly (readonly [string, OperatorVerb, string])[] = [
  ['retry', 'retry', 'submit everything not yet proven absent again, now'],
  ['check-now', 'checkNow', 'read once more, now; the read counts only if it may'],
  ['hold', 'hold', 'stop before the next API call and stay stopped'],
  ['release', 'release', 'go on after a hold'],
  ['abandon', 'abandon', 'end without proof; what was submitted cannot be recalled'],
  ['postpone', 'postpone', 'extend the deadline once, as the law allows, after the person was told'],
];

export function addVerbs(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  for (const [name, verb, description] of COMMANDS) {
    const command = program
      .command(name)
      .description(description)
      .argument('[REQUEST...]', 'ids of requests')
      .option('--all', 'every open request that --status or --connection matches; needs --expect')
      .addOption(new Option('--status <STATUS>', 'with --all: only those with this status').choices(STATUSES))
      .option('--connection <NAME>', connectionHelp(verb))
      .option('--expect <N>', 'with --all: how many requests that must be, or nothing is sent', parseCount)
      .requiredOption('--by <NAME>', 'who asks; kept in the record')
      .requiredOption('--reason <TEXT>', 'why; kept in the record')
      .option('--json', 'print one object, see docs/json.md')
      .action(async (ids: readonly string[], options: VerbOptions, command: Command) => {
        const target = targetOf(ids, options);
        const { by: requestedBy, reason, connection, until, autoRelease, notified } = options;
        if (autoRelease !== undefined && until === undefined) {
          throw new UsageError('--auto-release goes with --until: when to go on. Nothing was sent.');
        }
        await withClient(command, io, async (client) => {
          const answers = await client.send(verb, target, {
            requestedBy,
            reason,
            // The deadline is the whole request's; there the connection is a filter only.
            ...(connection === undefined || verb === 'postpone' ? {} : { connection }),
            ...(until === undefined ? {} : { until }),
            ...(autoRelease === undefined ? {} : { autoRelease }),
            ...(notified === undefined ? {} : { notifiedOn: notified }),
          });
          if (options.json !== undefined) printJson(io, { verb, answers });
          else if (answers.length === 0) io.out('No open request matches; nothing was sent.');
          else for (const answer of answers) io.out(formatAnswer(answer));
          exit(answers.every(({ delivered }) => delivered !== 'none') ? EXIT.ok : EXIT.other);
        });
      });
    if (verb === 'hold') {
      command
        .option('--until <DATE>', 'when the hold ends; it then asks for an operator, still held', parseDate)
        .option('--auto-release', 'with --until: go on by itself then');
    }
    if (verb === 'postpone') {
      command.requiredOption('--notified <DAY>', 'the day on which the person was told, YYYY-MM-DD', parseDay);
    }
  }
}

function connectionHelp(verb: OperatorVerb): string {
  return verb === 'postpone'
    ? 'with --all: only those with this connection in scope'
    : 'only this connection of a request; with --all also a filter';
}

function targetOf(ids: readonly string[], options: VerbOptions): Parameters<LetheSend>[1] {
  const { all, status, connection, expect } = options;
  if (all === undefined) {
    if (ids.length === 0)
      throw new UsageError('Name at least one request, or use --all with a filter. Nothing was sent.');
    if (status !== undefined || expect !== undefined) {
      throw new UsageError('--status and --expect go with --all. Nothing was sent.');
    }
    return ids;
  }
  if (ids.length > 0) throw new UsageError('Name requests or use --all, not both. Nothing was sent.');
  if (status === undefined && connection === undefined) {
    throw new UsageError('--all needs --status or --connection: nothing is ever sent to everybody. Nothing was sent.');
  }
  if (expect === undefined) {
    throw new UsageError('--all needs --expect N, the number of requests that match now. Nothing was sent.');
  }
  return {
    expect,
    ...(status === undefined ? {} : { status }),
    ...(connection === undefined ? {} : { connection }),
  };
}

type LetheSend = import('../client/client.ts').LetheClient['send'];

/** What became of a verb for one request, for a person. */
export function formatAnswer({ requestId, delivered, text }: VerbAnswer): string {
  return wrap(text, 4, `${requestId} (${delivered === 'none' ? 'not sent' : delivered}): `);
}
