import type { Command } from 'commander';
import type { DoctorReport } from '../client/doctor.ts';
import { loadConfig } from '../config/config.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { wrap } from './format.ts';
import { printJson, type Io } from './io.ts';
import { configPath } from './options.ts';

export function addDoctor(program: Command, io: Io, exit: (code: ExitCode) => void): void {
  program
    .command('doctor')
    .description('check everything that erasures depend on, and say what each store cannot do')
    .option('--json', 'print one object, see docs/json.md')
    .action(async (options: { readonly json?: true }, command: Command) => {
      const config = loadConfig({ path: configPath(command), env: io.env });
      const { runDoctor } = await import('../client/doctor.ts');
      const report = await runDoctor(config);
      if (options.json !== undefined) printJson(io, report);
      else io.out(formatDoctor(report));
      exit(report.ok ? EXIT.ok : EXIT.operator);
    });
}

const MARKS = { ok: 'ok       ', warning: 'WARNING  ', problem: 'PROBLEM  ' } as const;

function formatDoctor({ checks, limits, ok }: DoctorReport): string {
  const lines: string[] = [];
  for (const area of new Set(checks.map((check) => check.area))) {
    lines.push(area);
    for (const { name, level, text } of checks.filter((check) => check.area === area)) {
      lines.push(wrap(`${name}: ${text}`, 13, `  ${MARKS[level]}`));
    }
    const name = area.replace(/^connection /, '');
    for (const limit of area === name ? [] : (limits[name] ?? [])) lines.push(wrap(limit, 13, '  limit    '));
    lines.push('');
  }
  const problems = checks.filter(({ level }) => level === 'problem').length;
  lines.push(ok ? 'No problem found.' : `${problems} ${problems === 1 ? 'problem' : 'problems'} found.`);
  return lines.join('\n');
}
