import type { Logger as TemporalLogger, LogLevel, LogMetadata } from '@temporalio/common';
import { pino, type Logger } from 'pino';
import { framesOf } from './erasure/frames.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevelName = (typeof LOG_LEVELS)[number];

/**
 * What may appear in a log line beside its text. Everything else is left out: the SDK hands over whole inputs and
 * errors in some lines, and those may name a person (P31).
 */
const SAFE_FIELDS: ReadonlySet<string> = new Set([
  'sdkComponent',
  'namespace',
  'taskQueue',
  'workflowId',
  'runId',
  'workflowType',
  'activityType',
  'activityId',
  'attempt',
  'durationMs',
  'connection',
  'requestId',
  'state',
  'count',
  // Of a step that failed inside Lethe: which, the class of its error, and where.
  'step',
  'error',
  'at',
]);

/** Errors whose messages are made of our own words and safe facts. The message of any other is withheld. */
const SAFE_ERRORS: ReadonlySet<string> = new Set([
  'StoreError',
  'VaultLostError',
  'RecordError',
  'KeyError',
  'ConfigError',
  'ApplicationFailure',
  'CancelledFailure',
  'ActivityCancelledError',
  'GracefulShutdownPeriodExpiredError',
  'UnexpectedError',
  'TransportError',
  'DeterminismViolationError',
]);

/**
 * Logs as JSON lines on stderr, so that stdout stays a command's own.
 *
 * @param level default: LETHE_LOG_LEVEL, else `info`.
 */
export function createLogger(level?: LogLevelName, env: NodeJS.ProcessEnv = process.env): Logger {
  const wanted = level ?? LOG_LEVELS.find((known) => known === env['LETHE_LOG_LEVEL']) ?? 'info';
  return pino({ level: wanted, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination(2));
}

/** A warning of the SDK about every worker that serves one connection's activities and nothing else, as ours do. */
const AS_MEANT = 'No workflows registered';

/** The Temporal SDK's logger, writing into ours. */
export function temporalLogger(logger: Logger): TemporalLogger {
  const write = (level: 'trace' | 'debug' | 'info' | 'warn' | 'error') => (message: string, meta?: LogMetadata) => {
    logger[message.startsWith(AS_MEANT) ? 'debug' : level](safeFields(meta), message);
  };
  const levels = {
    TRACE: write('trace'),
    DEBUG: write('debug'),
    INFO: write('info'),
    WARN: write('warn'),
    ERROR: write('error'),
  } as const;
  return {
    log: (level: LogLevel, message: string, meta?: LogMetadata) => {
      levels[level](message, meta);
    },
    trace: levels.TRACE,
    debug: levels.DEBUG,
    info: levels.INFO,
    warn: levels.WARN,
    error: levels.ERROR,
  };
}

function safeFields(meta: LogMetadata | undefined): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(meta ?? {})) {
    if (SAFE_FIELDS.has(key) && (typeof value === 'string' || typeof value === 'number')) fields[key] = value;
    if (value instanceof Error) fields['error'] = describeError(value);
  }
  return fields;
}

/** An error without what others may have written into it: its class, its own safe words, and where it happened. */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { name: typeof error };
  const safe = SAFE_ERRORS.has(error.name);
  const type = (error as { type?: unknown }).type;
  return {
    name: error.name,
    ...(typeof type === 'string' ? { type } : {}),
    message: safe ? error.message : 'withheld: it may name a person',
    at: framesOf(error),
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }),
  };
}
