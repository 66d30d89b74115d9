import type { Command } from 'commander';
import { loadConfig, type LetheConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { virtualNow } from '../erasure/clock.ts';
import { QUOTES_IDENTIFIER, quotesIdentifier } from '../erasure/quoting.ts';
import { implausible, type Identifier } from '../erasure/request.ts';
import { deriveKeys } from '../vault/keys.ts';
import { digestsOf, SubjectHolds } from '../vault/subject-holds.ts';
import { EXIT, UsageError, type ExitCode } from './exit.ts';
import { readIdentifiers } from './inputs.ts';
import { printJson, type Io } from './io.ts';
import { collect, configPath, parseDate } from './options.ts';

interface HoldOptions {
  readonly id?: readonly string[];
  readonly idFile?: string;
  readonly by: string;
  readonly reason: string;
  readonly until?: string;
  readonly autoRelease?: true;
  readonly hold?: string;
  readonly json?: true;
}

/** `lethe hold-subject` and `release-subject`: holds that need no request. They run on the worker's machine. */
export function addHoldSubject(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  const common = (name: string, description: string): Command =>
    program
      .command(name)
      .description(description)
      .option('--id <KIND=VALUE>', 'an identifier of the person; repeatable. Better: --id-file', collect)
      .option('--id-file <FILE>', 'identifiers, one KIND=VALUE a line; - reads standard input')
      .requiredOption('--by <NAME>', 'who asks; kept beside the holds')
      .requiredOption('--reason <TEXT>', 'why; kept beside the holds')
      .option('--json', 'print one object, see docs/json.md');
  common('hold-subject', 'let nothing of a person be deleted, whoever asks, before or after a request')
    .option('--until <DATE>', 'when the hold ends; the person then stays held until somebody releases them', parseDate)
    .option('--auto-release', 'with --until: release by itself then')
    .action(async (options: HoldOptions, command: Command) => {
      if (options.autoRelease !== undefined && options.until === undefined) {
        throw new UsageError('--auto-release goes with --until: when to release. Nothing was held.');
      }
      const { holds, digests, config } = await open(options, command, io, 'Nothing was held.');
      const until = options.until ?? null;
      if (until !== null && Date.parse(until) <= virtualNow(config.clock)) {
        throw new UsageError('--until has passed already. Nothing was held.');
      }
      const { by, reason } = options;
      const hold = await holds.hold(digests, { by, reason, until, autoRelease: options.autoRelease ?? false });
      if (options.json !== undefined) printJson(io, { ...hold });
      else {
        const end = until === null ? 'until released' : `until ${until}`;
        io.out(
          `Held as ${hold.holdId}, ${end}: no delete leaves for this person any more. What was submitted already cannot be ` +
            'recalled. A request of theirs shows it with its next step.',
        );
      }
      exit(EXIT.ok);
    });
  common('release-subject', 'lift a hold on a person')
    .option('--hold <ID>', 'this hold only; needed when several hold the person')
    .action(async (options: HoldOptions, command: Command) => {
      const { holds, digests } = await open(options, command, io, 'Nothing was released.');
      const found = await holds.find(digests);
      const ids = [...found.keys()];
      const { hold: wanted, by, reason } = options;
      if (wanted !== undefined && !ids.includes(wanted)) {
        throw new UsageError(`No hold ${wanted.slice(0, 40)} names this person. Nothing was released.`);
      }
      if (wanted === undefined && ids.length > 1) {
        const list = [...found].map(([id, hold]) => `${id} (by ${hold?.by ?? 'somebody'})`).join(', ');
        throw new UsageError(`Several hold this person: ${list}. Name one with --hold. Nothing was released.`);
      }
      const holdId = wanted ?? ids[0];
      const released = holdId !== undefined && (await holds.release(holdId, by, reason));
      if (options.json !== undefined) printJson(io, { released: released ? holdId : null });
      else if (!released) io.out('Nobody holds this person; nothing was changed.');
      else io.out(`Released ${holdId}. Requests go on with their next try; lethe retry REQUEST makes them try now.`);
      exit(EXIT.ok);
    });
}

async function open(
  options: HoldOptions,
  command: Command,
  io: Io,
  otherwise: string,
): Promise<{ readonly holds: SubjectHolds; readonly digests: readonly string[]; readonly config: LetheConfig }> {
  const config = loadConfig({ path: configPath(command), env: io.env, storeSecrets: false });
  const subject = await readIdentifiers(
    {
      ...(options.id === undefined ? {} : { id: options.id }),
      ...(options.idFile === undefined ? {} : { idFile: options.idFile }),
    },
    io,
  );
  check(subject, options, config, otherwise);
  const keys = deriveKeys((await secretsFor(config, false)).secrets);
  const folded = new Set(config.kinds.filter((rule) => rule.caseInsensitive).map(({ kind }) => kind));
  const holds = new SubjectHolds({ stateDir: config.stateDir, now: () => virtualNow(config.clock) });
  return { holds, digests: digestsOf(keys, subject, folded), config };
}

function check(subject: readonly Identifier[], options: HoldOptions, config: LetheConfig, otherwise: string): void {
  if (subject.length === 0) throw new UsageError(`Name the person: --id-file, or --id. ${otherwise}`);
  const kinds = config.kinds.map(({ kind }) => kind);
  for (const { kind, value } of subject) {
    // A misspelt kind would hold nobody, and say that it did.
    if (!kinds.includes(kind)) {
      throw new UsageError(`An identifier has a kind that is not configured (${kinds.join(', ')}). ${otherwise}`);
    }
    const why = implausible(value);
    if (why !== null) throw new UsageError(`An identifier of kind ${kind} ${why}. ${otherwise}`);
  }
  for (const [name, text] of [
    ['--by', options.by],
    ['--reason', options.reason],
  ] as const) {
    if (text.trim() === '') throw new UsageError(`${name} is empty. ${otherwise}`);
    if (quotesIdentifier(text, subject)) throw new UsageError(`${name} ${QUOTES_IDENTIFIER}. ${otherwise}`);
  }
}
