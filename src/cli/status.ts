import { Option, type Command } from 'commander';
import type { LetheClient } from '../client/client.ts';
import { UnknownRequestError } from '../client/errors.ts';
import { loadConfig } from '../config/config.ts';
import { STATUSES, type Status } from '../erasure/outcome.ts';
import { DirectoryRecords } from '../evidence/directory-records.ts';
import { connect } from './connect.ts';
import { EXIT, exitCodeOf, UsageError, type ExitCode } from './exit.ts';
import { formatRow, formatStatus } from './format.ts';
import { printJson, type Io } from './io.ts';
import { configPath } from './options.ts';
import { formatReport } from './report.ts';
import { printSupportPacket, type ReportOptions } from './support-packet.ts';
import { watch } from './watch.ts';

interface StatusOptions {
  readonly watch?: true;
  readonly json?: true;
}

interface ListOptions {
  readonly status?: Status;
  readonly connection?: string;
  readonly atRisk?: true;
  readonly overdue?: true;
  readonly held?: true;
  readonly json?: true;
}

/** `status`, `list` and `report`: everything that only reads. They need no worker and no store's credentials. */
export function addStatus(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('status')
    .description('tell how a request stands; the exit code tells it to scripts')
    .argument('<REQUEST>', 'the id that `lethe erase` printed')
    .option('--watch', 'show what happens until the request has ended')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (requestId: string, options: StatusOptions, command: Command) => {
      await withClient(command, io, async (client) => {
        const tell = options.json === undefined ? io.out : io.err;
        const status =
          options.watch === undefined
            ? await client.status(requestId)
            : await watch({
                clock: client.config.clock,
                read: () => client.status(requestId),
                print: tell,
                stopForOperator: false,
              });
        if (options.json !== undefined) printJson(io, status);
        else
          io.out(`${options.watch === undefined ? '' : '\n'}${formatStatus(status, client.uiLink(status.workflowId))}`);
        exit(exitCodeOf(status));
      });
    });

  program
    .command('list')
    .description('list requests, open ones first')
    .addOption(new Option('--status <STATUS>', 'only those with this status').choices(STATUSES))
    .option('--connection <NAME>', 'only those with this connection in scope')
    .option('--at-risk', 'only those that cannot end in time, as their stores work')
    .option('--overdue', 'only open ones past their due date')
    .option('--held', 'only those that are held, by an operator or by law')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (options: ListOptions, command: Command) => {
      await withClient(command, io, async (client) => {
        const { status, connection, atRisk, overdue, held } = options;
        const filter = {
          ...(status === undefined ? {} : { status }),
          ...(connection === undefined ? {} : { connection }),
          ...(atRisk === undefined ? {} : { atRisk }),
          ...(overdue === undefined ? {} : { overdue }),
          ...(held === undefined ? {} : { held }),
        };
        const requests = await client.list(filter, (workflowId) => {
          io.err(`${workflowId} cannot be read with these keys, and is left out.`);
        });
        if (options.json !== undefined) printJson(io, { requests });
        else if (requests.length === 0) io.out('No requests.');
        else for (const request of requests) io.out(formatRow(request));
        exit(EXIT.ok);
      });
    });

  program
    .command('report')
    .description('tell the whole account of a request: what was asked, done, read and concluded')
    .argument('<REQUEST>', 'the id that `lethe erase` printed')
    .option('--json', 'print the record as one object, see docs/json.md')
    .option('--support-packet', "write what the stores' support asks for, with ids of traces; needs the vault's keys")
    .option('--out <DIR>', 'with --support-packet: where the files go (default: ./lethe-support-REQUEST)')
    .option('--all-traces', 'with --support-packet: every trace, not only survivors and inconclusive ones')
    .action(async (requestId: string, options: ReportOptions, command: Command) => {
      if (options.supportPacket !== undefined) {
        exit(await printSupportPacket(requestId, options, { io, configPath: configPath(command) }));
        return;
      }
      if (options.out !== undefined || options.allTraces !== undefined) {
        throw new UsageError('--out and --all-traces go with --support-packet. Nothing was written.');
      }
      // The records alone tell it: Temporal may be down, or have forgotten the request long ago.
      const { stateDir } = loadConfig({ path: configPath(command), env: io.env, storeSecrets: false });
      const view = await new DirectoryRecords({ stateDir }).read(requestId).catch((error: unknown) => {
        if (error instanceof RangeError) return null;
        throw error;
      });
      if (view === null) throw new UnknownRequestError(requestId);
      if (options.json !== undefined) printJson(io, { requestId, ...view });
      else io.out(formatReport(requestId, view));
      exit(EXIT.ok);
    });
}

/** Connects, works, and closes the connection in any case. */
export async function withClient(
  command: Command,
  io: Io,
  work: (client: LetheClient) => Promise<void>,
): Promise<void> {
  const config = loadConfig({ path: configPath(command), env: io.env, storeSecrets: false });
  const client = await connect(config);
  try {
    await work(client);
  } finally {
    await client.close();
  }
}
