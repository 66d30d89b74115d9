import { InvalidArgumentError, type Command } from 'commander';
import { isDay } from '../erasure/law.ts';

/** Gathers a repeatable option. */
export function collect(value: string, earlier: readonly string[] | undefined): readonly string[] {
  return [...(earlier ?? []), value];
}

/** A day that exists. */
export function parseDay(value: string): string {
  if (!isDay(value)) throw new InvalidArgumentError('It must be a day, like 2026-12-31.');
  return value;
}

/** A whole number from 0. */
export function parseCount(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(value);
}

/** An instant with a zone, or a day, which means its beginning in UTC. */
export function parseDate(value: string): string {
  return instantOf(value, 'T00:00:00.000Z');
}

/** As `parseDate`, but a day means its end. */
export function parseEndOfDay(value: string): string {
  return instantOf(value, 'T23:59:59.999Z');
}

function instantOf(value: string, time: string): string {
  const day = /^\d{4}-\d{2}-\d{2}$/.test(value);
  const zoned = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/.test(value);
  const date = new Date(day ? value + time : value);
  if ((!day && !zoned) || Number.isNaN(date.getTime()) || (day && !date.toISOString().startsWith(value))) {
    throw new InvalidArgumentError('It must be a day (2026-12-31) or an instant with a zone (2026-12-31T09:00:00Z).');
  }
  return date.toISOString();
}

/** `--config`, wherever on the command line it stands. */
export function configPath(command: Command): string | undefined {
  return command.optsWithGlobals<{ config?: string }>().config;
}
