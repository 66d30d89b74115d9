import type { ConfigInput } from '../../src/config/config.ts';
import type { ClockSetting } from '../../src/erasure/clock.ts';
import { DAY_MS } from '../../src/erasure/rhythm.ts';
import { startBraintrustSimulator, type BraintrustSimulator } from '../../src/simulators/braintrust/index.ts';
import { startLangSmithSimulator, type LangSmithSimulator } from '../../src/simulators/langsmith/index.ts';
import { startRespanSimulator, type RespanSimulator } from '../../src/simulators/respan/index.ts';

/** A simulator of each store, on one clock. */
export interface ThreeStores {
  readonly langsmith: LangSmithSimulator;
  readonly braintrust: BraintrustSimulator;
  readonly respan: RespanSimulator;
  /** What the config says of each, under the names `langsmith-prod`, `braintrust-prod` and `respan-prod`. */
  readonly connections: ConfigInput['connections'];
  close(): Promise<void>;
}

/** What no call of these stores shows, accepted so that `verified` can be reached. */
const ACCEPTED = {
  langsmith: ['statistics', 'insights'],
  braintrust: ['row-history', 'playgrounds', 'derived-data', 'proxy-cache'],
  respan: ['public-shares', 'response-cache', 'object-storage', 'scores', 'automation-outputs'],
} as const;

/** Starts them with the vendors' limits on. */
export async function startThreeStores(clock: ClockSetting): Promise<ThreeStores> {
  const [langsmith, braintrust, respan] = await Promise.all([
    startLangSmithSimulator({ clock }),
    startBraintrustSimulator({ clock }),
    startRespanSimulator({ clock }),
  ]);
  return {
    langsmith,
    braintrust,
    respan,
    connections: {
      'langsmith-prod': {
        store: 'langsmith',
        baseUrl: langsmith.url,
        apiKey: langsmith.apiKey,
        identifiers: { user_id: ['metadata.user_id'] },
        accept: [...ACCEPTED.langsmith],
      },
      'braintrust-prod': {
        store: 'braintrust',
        appUrl: braintrust.url,
        apiKey: braintrust.apiKey,
        identifiers: { user_id: ['metadata.user_id'] },
        accept: [...ACCEPTED.braintrust],
      },
      'respan-prod': {
        store: 'respan',
        baseUrl: respan.url,
        apiKey: respan.apiKey,
        environments: ['prod', 'test'],
        startDate: new Date(clock.virtualMs - 26 * DAY_MS).toISOString().slice(0, 10),
        identifiers: { user_id: ['customer_identifier'] },
        accept: [...ACCEPTED.respan],
      },
    },
    close: async () => {
      await Promise.all([langsmith.close(), braintrust.close(), respan.close()]);
    },
  };
}
