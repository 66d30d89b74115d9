import { Option, type Command } from 'commander';
import type { Erasure, LetheClient } from '../client/client.ts';
import { prepareRequest } from '../client/prepare.ts';
import { loadConfig } from '../config/config.ts';
import { secretsFor } from '../config/secrets.ts';
import { LAWS, type Law } from '../erasure/law.ts';
import type { EraseRequest } from '../erasure/request.ts';
import type { RequestStatus } from '../erasure/status.ts';
import { deriveKeys } from '../vault/keys.ts';
import { EXIT, exitCodeOf, type ExitCode } from './exit.ts';
import { formatStatus } from './format.ts';
import { formatPlan } from './plan.ts';
import { readIdentifiers, readKnown } from './inputs.ts';
import { printJson, type Io } from './io.ts';
import { collect, configPath, parseCount, parseDate, parseEndOfDay } from './options.ts';
import { watch } from './watch.ts';
import { connect } from './connect.ts';

interface EraseOptions {
  readonly id?: readonly string[];
  readonly idFile?: string;
  readonly known?: readonly string[];
  readonly acceptUnlabelled?: number;
  readonly connection?: readonly string[];
  readonly received?: string;
  readonly due?: string;
  readonly law?: Law;
  readonly extend?: true;
  readonly requestId?: string;
  readonly expectAtMost?: number;
  readonly by?: string;
  readonly dryRun?: true;
  readonly wait?: true;
  readonly json?: true;
}

export function addErase(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('erase')
    .description('erase one person; exits as soon as the request is durable, unless --wait is given')
    .option('--id <KIND=VALUE>', 'an identifier of the person; repeatable. Better: --id-file', collect)
    .option('--id-file <FILE>', 'identifiers, one KIND=VALUE a line; - reads standard input')
    .option('--known <CONNECTION=FILE>', 'trace or run ids from your own database, one a line; repeatable', collect)
    .option('--accept-unlabelled <N>', 'also erase up to N known ids whose traces carry nobody', parseCount)
    .option('--connection <NAME>', 'erase from this connection only; repeatable', collect)
    .option('--received <ISO>', 'when the person asked; the due date counts from it', parseDate)
    .option('--due <DATE>', 'when it must be done; a day means its end, UTC', parseEndOfDay)
    .addOption(new Option('--law <LAW>', 'the law whose periods count (default: policy.law)').choices(LAWS))
    .option('--extend', 'when the person has an open request of another scope, widen that one')
    .option('--request-id <ID>', 'your own id; giving it again returns the same request')
    .option('--expect-at-most <N>', 'delete nothing when a connection has more traces than this', parseCount)
    .option('--by <NAME>', 'who asks; kept in the record, needed when the policy wants a second person')
    .option('--dry-run', 'only plan: find everything, delete nothing')
    .option('--wait', 'show what happens; return at the end, or when an operator is needed')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (options: EraseOptions, command: Command) => {
      exit(await erase(options, configPath(command), io));
    });
}

async function erase(options: EraseOptions, path: string | undefined, io: Io): Promise<ExitCode> {
  const config = loadConfig({ path, env: io.env });
  const request = await requestOf(options, io);
  // Everything that can be wrong with the request is said before anything else can be.
  prepareRequest(request, config, deriveKeys((await secretsFor(config, false)).secrets));

  const tell = options.json === undefined ? io.out : io.err;
  const client = await connect(config);
  try {
    const erasure = await client.erase(request);
    tell(announcement(erasure, client.uiLink(erasure.workflowId), options));
    if (options.dryRun === undefined && options.wait === undefined) {
      if (options.json !== undefined) printJson(io, await erasure.status());
      return EXIT.ok;
    }
    const status = await follow(client, erasure, options, tell);
    if (options.dryRun !== undefined && status.endedAt !== null) {
      const plan = await client.planOf(await erasure.result());
      if (options.json !== undefined) printJson(io, plan);
      else io.out(`\n${formatPlan(plan)}`);
    } else if (options.json !== undefined) printJson(io, status);
    else io.out(`\n${formatStatus(status, client.uiLink(status.workflowId))}`);
    return exitCodeOf(status);
  } finally {
    await client.close();
  }
}

async function follow(
  client: LetheClient,
  erasure: Erasure,
  options: EraseOptions,
  tell: (text: string) => void,
): Promise<RequestStatus> {
  if (!(await client.hasWorkflowPoller())) {
    tell('No worker is up: the request waits until one is (`lethe worker`).');
  }
  const { clock } = client.config;
  return watch({
    clock,
    read: () => erasure.status(),
    print: options.wait === undefined ? () => undefined : tell,
    stopForOperator: true,
  });
}

async function requestOf(options: EraseOptions, io: Io): Promise<EraseRequest> {
  const identifiers = await readIdentifiers(
    {
      ...(options.id === undefined ? {} : { id: options.id }),
      ...(options.idFile === undefined ? {} : { idFile: options.idFile }),
    },
    io,
  );
  const known = await readKnown(options.known ?? [], io);
  return {
    identifiers,
    known,
    ...(options.acceptUnlabelled === undefined ? {} : { acceptUnlabelled: options.acceptUnlabelled }),
    ...(options.connection === undefined ? {} : { connections: [...options.connection] }),
    ...(options.received === undefined ? {} : { receivedAt: options.received }),
    ...(options.due === undefined ? {} : { dueAt: options.due }),
    ...(options.law === undefined ? {} : { law: options.law }),
    ...(options.extend === undefined ? {} : { join: 'extend' as const }),
    ...(options.requestId === undefined ? {} : { requestId: options.requestId }),
    ...(options.expectAtMost === undefined ? {} : { expectAtMost: options.expectAtMost }),
    ...(options.by === undefined ? {} : { requestedBy: options.by }),
    dryRun: options.dryRun ?? false,
  };
}

function announcement(erasure: Erasure, link: string | null, { dryRun }: EraseOptions): string {
  const what = erasure.joined
    ? `Joined ${erasure.requestId}, which exists already.`
    : `Started ${erasure.requestId}${dryRun === undefined ? '' : ' as a plan; nothing is deleted'}.`;
  const more = [`  status: lethe status ${erasure.requestId}`, ...(link === null ? [] : [`  ui:     ${link}`])];
  return [what, ...more].join('\n');
}
