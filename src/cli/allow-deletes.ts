import type { Command } from 'commander';
import { loadConfig } from '../config/config.ts';
import { KillSwitch, killSwitchFile } from '../stores/kill-switch.ts';
import { EXIT, UsageError, type ExitCode } from './exit.ts';
import { printJson, type Io } from './io.ts';
import { configPath } from './options.ts';

/** `lethe allow-deletes`: after a kill switch has tripped and somebody knows why. Runs on the worker's machine. */
export function addAllowDeletes(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('allow-deletes')
    .description('let a connection delete again whose kill switch has tripped; lethe doctor says why it did')
    .argument('<CONNECTION>', 'as named in the config')
    .requiredOption('--by <NAME>', 'who says so; kept beside the records')
    .requiredOption('--reason <TEXT>', 'what explains it; kept beside the records')
    .option('--json', 'print one object, see docs/json.md')
    .action(
      (
        connection: string,
        options: { readonly by: string; readonly reason: string; readonly json?: true },
        command: Command,
      ) => {
        const config = loadConfig({ path: configPath(command), env: io.env });
        if (!Object.hasOwn(config.connections, connection)) {
          const names = Object.keys(config.connections).join(', ');
          throw new UsageError(`No connection named ${connection} in the config (${names}). Nothing was changed.`);
        }
        const why = new KillSwitch(killSwitchFile(config.stateDir, connection)).reset(options.by, options.reason);
        if (options.json !== undefined) printJson(io, { connection, wasSwitchedOff: why });
        else if (why === null) io.out(`${connection} was not switched off; nothing was changed.`);
        else io.out(`${connection} deletes again. It had stopped because ${why}. Requests go on by themselves.`);
        exit(EXIT.ok);
      },
    );
}
