import type { Command } from 'commander';
import type { RequestTask } from '../client/tasks.ts';
import { formatCount } from '../erasure/format.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { wrap } from './format.ts';
import { printJson, type Io } from './io.ts';
import { withClient } from './status.ts';

interface AttestOptions {
  readonly task: string;
  readonly by: string;
  readonly reason: string;
  readonly connection?: string;
  readonly json?: true;
}

/** `tasks` and `attest`: copies that no call can erase, and the word of those who erased them by hand. */
export function addTasks(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('tasks')
    .description('list the copies that somebody has to erase by hand, and how')
    .argument('<REQUEST>', 'the id that `lethe erase` printed')
    .option('--reveal', "show the store's own ids of the copies, from the vault: data of the person")
    .option('--json', 'print one object, see docs/json.md')
    .action(async (requestId: string, options: { readonly reveal?: true; readonly json?: true }, command: Command) => {
      await withClient(command, io, async (client) => {
        const tasks = await client.tasks(requestId, { reveal: options.reveal === true });
        if (options.json !== undefined) printJson(io, { requestId, tasks });
        else if (tasks.length === 0) io.out('No manual tasks.');
        else for (const task of tasks) io.out(formatTask(task));
        exit(EXIT.ok);
      });
    });

  program
    .command('attest')
    .description('say that the copies of a manual task are erased; kept in the record as your word')
    .argument('<REQUEST>', 'the id that `lethe erase` printed')
    .requiredOption('--task <ID>', 'the id that `lethe tasks` prints')
    .requiredOption('--by <NAME>', 'whose word it is; kept in the record')
    .requiredOption('--reason <TEXT>', 'what was done; kept in the record')
    .option('--connection <NAME>', 'the connection of the task')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (requestId: string, options: AttestOptions, command: Command) => {
      const { task, by: requestedBy, reason, connection } = options;
      await withClient(command, io, async (client) => {
        const answer = await client.attest(requestId, {
          requestedBy,
          reason,
          task,
          ...(connection === undefined ? {} : { connection }),
        });
        if (options.json !== undefined) printJson(io, { verb: 'attest', answers: [answer] });
        else {
          const how = answer.delivered === 'none' ? 'not taken' : answer.delivered;
          io.out(wrap(answer.text, 4, `${requestId} (${how}): `));
        }
        exit(answer.delivered === 'none' ? EXIT.other : EXIT.ok);
      });
    });
}

function formatTask(task: RequestTask): string {
  const { id, connection, kind, count, where, state, attested = 0, attestedBy, instructions, ids } = task;
  const what = `${formatCount(count)} ${count === 1 ? 'copy' : 'copies'}${where === null ? '' : ` in ${where}`}`;
  const word = attestedBy === undefined ? '' : `, ${formatCount(attested)} attested by ${attestedBy}`;
  const lines = [
    wrap(`${connection}, ${kind}: ${what}; ${state}${word}`, 4, `${id}  `),
    ...(state === 'open' ? [wrap(instructions, 4, '    ')] : []),
    // Never wrapped: an id must stay whole.
    ...(ids ?? []).map((one) => `    ${one}`),
  ];
  return lines.join('\n');
}
