import { Option, type Command } from 'commander';
import { INCLUDES, type Include } from '../erasure/include.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { printJson, type Io } from './io.ts';
import { parseCount } from './options.ts';
import { withClient } from './status.ts';
import { formatAnswer } from './verbs.ts';

interface ApproveOptions {
  readonly connection: string;
  readonly plan: string;
  readonly atMost: number;
  readonly include?: Include[];
  readonly by: string;
  readonly reason: string;
  readonly json?: true;
}

/** `approve` takes one request and one plan: there is no way to approve many at once. */
export function addApprove(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('approve')
    .description('let one connection of a request delete exactly the plan that waits there')
    .argument('<REQUEST>', 'the id of the request')
    .requiredOption('--connection <NAME>', 'whose plan it is')
    .requiredOption('--plan <DIGEST>', 'the digest of the plan, as `lethe status` shows it')
    .requiredOption('--at-most <N>', 'how many traces may ever be submitted there; asks again above it', parseCount)
    .addOption(
      new Option('--include <WHAT...>', 'erase along what the plan keeps, where the policy asks').choices(INCLUDES),
    )
    .requiredOption('--by <NAME>', 'who approves; kept in the record')
    .requiredOption('--reason <TEXT>', 'why; kept in the record')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (requestId: string, options: ApproveOptions, command: Command) => {
      const { connection, plan: planDigest, atMost, include, by: requestedBy, reason } = options;
      const message = { requestedBy, reason, connection, planDigest, atMost };
      await withClient(command, io, async (client) => {
        const answer = await client.approve(requestId, include === undefined ? message : { ...message, include });
        if (options.json !== undefined) printJson(io, { verb: 'approve', answers: [answer] });
        else io.out(formatAnswer(answer));
        exit(answer.delivered === 'none' ? EXIT.other : EXIT.ok);
      });
    });
}
