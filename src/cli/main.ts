#!/usr/bin/env node
import { Command } from 'commander';
import { LETHE_VERSION } from '../version.ts';
import { addAllowDeletes } from './allow-deletes.ts';
import { addApprove } from './approve.ts';
import { addDemo } from './demo.ts';
import { addDoctor } from './doctor.ts';
import { addErase } from './erase.ts';
import { EXIT, explain, type ExitCode } from './exit.ts';
import { wrapLines } from './format.ts';
import { processIo, type Io } from './io.ts';
import { addHoldSubject } from './hold-subject.ts';
import { addServe } from './serve.ts';
import { addStatus } from './status.ts';
import { addTasks } from './tasks.ts';
import { addVerbs } from './verbs.ts';

const EXIT_CODES = `
Exit codes of erase --wait and status:
  0 verified or nothing found    3 still under way          5 abandoned
  2 bad usage or config          4 an operator is needed    6 verified with exceptions
  1 anything else

Start with \`lethe demo\`; docs/operating.md tells the rest.`;

/**
 * Runs one command.
 *
 * @returns its exit code. Errors are told on stderr, without a stack unless LETHE_DEBUG is set.
 */
async function run(args: readonly string[], io: Io): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const exit = (found: ExitCode): void => {
    code = found;
  };
  const program = new Command('lethe')
    .description("Erases one person's data from LLM trace stores and proves that it is gone.")
    .version(LETHE_VERSION)
    .option('--config <FILE>', 'the config file (default: LETHE_CONFIG, else ./lethe.yaml)')
    .addHelpText('after', EXIT_CODES)
    .showHelpAfterError('(lethe --help shows the commands, lethe COMMAND --help their options)')
    .configureHelp({ helpWidth: 80 })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void process.stdout.write(text),
      writeErr: (text) => void process.stderr.write(text),
    });
  addDemo(program, io, exit);
  addServe(program, io, exit);
  addErase(program, io, exit);
  addStatus(program, io, exit);
  addDoctor(program, io, exit);
  addVerbs(program, io, exit);
  addApprove(program, io, exit);
  addTasks(program, io, exit);
  addAllowDeletes(program, io, exit);
  addHoldSubject(program, io, exit);
  for (const command of program.commands) {
    command.exitOverride().copyInheritedSettings(program);
    // `lethe status X --config F` is what people type.
    command.option('--config <FILE>', 'the config file');
  }
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    const explained = explain(error, io.env);
    if (explained.text !== '') io.err(process.stderr.isTTY ? wrapLines(explained.text) : explained.text);
    return explained.code;
  }
}

process.exitCode = await run(process.argv.slice(2), processIo);
// The SDK's native part may hold a process that has nothing left to do; whoever reads our output has it by then.
setTimeout(() => process.exit(), 2_000).unref();
