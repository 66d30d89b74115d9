import { z } from 'zod';
import type { Clock } from '../erasure/clock.ts';
import { batched } from './batching.ts';
import { braintrustConnectionSchema } from './braintrust/config.ts';
import { openBraintrust } from './braintrust/store.ts';
import { supportPart as supportOfBraintrust } from './braintrust/support.ts';
import { guarded } from './guard.ts';
import { KillSwitch } from './kill-switch.ts';
import { langsmithConnectionSchema } from './langsmith/config.ts';
import { openLangSmith } from './langsmith/store.ts';
import { supportPart as supportOfLangSmith } from './langsmith/support.ts';
import { mlflowConnectionSchema } from './mlflow/config.ts';
import { openMlflow } from './mlflow/store.ts';
import { phoenixConnectionSchema } from './phoenix/config.ts';
import { openPhoenix } from './phoenix/store.ts';
import type { TraceStore } from './port.ts';
import { respanConnectionSchema } from './respan/config.ts';
import { openRespan } from './respan/store.ts';
import { supportPart as supportOfRespan } from './respan/support.ts';
import type { SupportFacts, SupportPart } from './support.ts';

/** What one entry of `connections` in the config may be: one line per store here and below. */
export const connectionSchema = z.discriminatedUnion('store', [
  langsmithConnectionSchema,
  braintrustConnectionSchema,
  respanConnectionSchema,
  mlflowConnectionSchema,
  phoenixConnectionSchema,
]);

const OPENERS = {
  langsmith: openLangSmith,
  braintrust: openBraintrust,
  respan: openRespan,
  mlflow: openMlflow,
  phoenix: openPhoenix,
} as const;

/** What the vendor's support wants to be told. One that is not here wants no more than every support packet tells. */
const SUPPORT = {
  langsmith: supportOfLangSmith,
  braintrust: supportOfBraintrust,
  respan: supportOfRespan,
} as const;

/** A connection after validation, defaults filled. */
export type Connection = z.output<typeof connectionSchema>;

type StoreParts = Parameters<(typeof OPENERS)['langsmith']>[1];

/** Takes one line per API call: route template, status, duration; never ids, values or bodies. */
export type StoreLog = (fields: Readonly<Record<string, string | number | null>>, message: string) => void;

export interface OpenStoreOptions {
  readonly clock: Clock;
  /** @default nothing is logged. */
  readonly log?: StoreLog;
  /** File in which the connection's kill switch is kept, see `killSwitchFile`. @default in memory only. */
  readonly killSwitchFile?: string;
  /** File in which the calls of the day are kept where there is a quota, see `spentCallsFile`. @default in memory only. */
  readonly spentCallsFile?: string;
  /** @default the global fetch. */
  readonly fetch?: typeof fetch;
}

/**
 * Opens a connection: guarded, and paced and batched for all callers of the returned object together. Open each connection
 * once per process, or its rate limits are counted apart. Makes no call.
 *
 * @param name the connection's name in the config; appears in log lines only.
 */
export function openStore(name: string, config: Connection, options: OpenStoreOptions): TraceStore {
  const { log } = options;
  const killSwitch = new KillSwitch(options.killSwitchFile);
  const parts = {
    clock: options.clock,
    killSwitch,
    log: (fields: Parameters<StoreLog>[0], message: string): void => log?.({ connection: name, ...fields }, message),
    ...(options.fetch === undefined ? {} : { fetch: options.fetch }),
    ...(options.spentCallsFile === undefined ? {} : { spentCallsFile: options.spentCallsFile }),
  };
  return guarded(batched(open(config, parts), options.clock, killSwitch), killSwitch);
}

/** The opener of a store takes its own connections only; that `store` decides is more than the type checker follows. */
function open(config: Connection, parts: StoreParts): TraceStore {
  const opener = OPENERS[config.store] as (config: Connection, parts: StoreParts) => TraceStore;
  return opener(config, parts);
}

/** What the support of the connection's store wants told of traces that are still there. Makes no call. */
export function supportPartOf(config: Connection, facts: SupportFacts): SupportPart {
  const parts: Partial<Record<Connection['store'], unknown>> = SUPPORT;
  const part = parts[config.store] as ((config: Connection, facts: SupportFacts) => SupportPart) | undefined;
  return part?.(config, facts) ?? { packet: { projects: facts.projects } };
}
