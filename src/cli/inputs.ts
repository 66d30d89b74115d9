import { readFileSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import { z } from 'zod';
import type { Problem } from '../config/errors.ts';
import { InvalidRequestError } from '../client/errors.ts';
import type { Identifier } from '../erasure/request.ts';
import type { Io } from './io.ts';

const jsonLineSchema = z.strictObject({ kind: z.string(), value: z.string() });

export interface IdentifierInputs {
  /** `kind=value`, from the command line. */
  readonly id?: readonly string[];
  /** A file of such lines, or `-` for standard input. */
  readonly idFile?: string;
}

/**
 * Identifiers from the command line and from a file. Values on a command line end in the shell's history and in the
 * process list; a file, or standard input, keeps them out of both (P32).
 *
 * @throws InvalidRequestError that names the option and line, never the value.
 */
export async function readIdentifiers(inputs: IdentifierInputs, io: Io): Promise<Identifier[]> {
  const problems: Problem[] = [];
  const identifiers: Identifier[] = [];
  for (const [index, pair] of (inputs.id ?? []).entries()) {
    const identifier = parsePair(pair);
    if (identifier === null) problems.push({ path: `--id (${index + 1})`, message: 'must be KIND=VALUE' });
    else identifiers.push(identifier);
  }
  if (inputs.idFile !== undefined) {
    const lines = await readLines(inputs.idFile, '--id-file', problems, io);
    for (const { line, number } of lines) {
      const identifier = line.startsWith('{') ? parseJsonLine(line) : parsePair(line);
      if (identifier !== null) identifiers.push(identifier);
      else {
        problems.push({
          path: `--id-file, line ${number}`,
          message: 'must be KIND=VALUE, or {"kind": "...", "value": "..."}',
        });
      }
    }
  }
  if (problems.length > 0) throw new InvalidRequestError(problems);
  return identifiers;
}

/**
 * Known ids by connection, from `CONNECTION=FILE` options: one id a line; blank lines and lines that begin with # are
 * left out.
 *
 * @throws InvalidRequestError
 */
export async function readKnown(options: readonly string[], io: Io): Promise<Record<string, string[]>> {
  const problems: Problem[] = [];
  const known: Record<string, string[]> = {};
  for (const option of options) {
    const cut = option.indexOf('=');
    if (cut < 1 || cut === option.length - 1) {
      problems.push({ path: '--known', message: 'must be CONNECTION=FILE' });
      continue;
    }
    const connection = option.slice(0, cut);
    const lines = await readLines(option.slice(cut + 1), `--known ${connection}`, problems, io);
    known[connection] = [...(known[connection] ?? []), ...lines.map(({ line }) => line)];
  }
  if (problems.length > 0) throw new InvalidRequestError(problems);
  return known;
}

async function readLines(
  file: string,
  path: string,
  problems: Problem[],
  io: Io,
): Promise<{ readonly line: string; readonly number: number }[]> {
  let content: string;
  try {
    if (file === '-') {
      if (io.stdin.isTTY) io.err('One a line; end with Ctrl-D:');
      content = await readAll(io.stdin);
    } else {
      content = readFileSync(file, 'utf8');
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    problems.push({ path, message: code === 'ENOENT' ? 'there is no such file' : `the file cannot be read (${code})` });
    return [];
  }
  const lines = content
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== '' && !line.startsWith('#'));
  if (lines.length === 0) problems.push({ path, message: 'the file holds no line that counts' });
  return lines;
}

function parsePair(pair: string): Identifier | null {
  const cut = pair.indexOf('=');
  return cut < 1 ? null : { kind: pair.slice(0, cut), value: pair.slice(cut + 1) };
}

function parseJsonLine(line: string): Identifier | null {
  try {
    const parsed = jsonLineSchema.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
