import type { ApiParts } from '../api.ts';
import { ownServerRhythm } from '../connection.ts';
import type { KillSwitch } from '../kill-switch.ts';
import type { TraceStore } from '../port.ts';
import { PhoenixApi } from './api.ts';
import { check } from './check.ts';
import type { PhoenixConnection } from './config.ts';
import { findControls } from './controls.ts';
import { findCopies, lookAgain } from './copies.ts';
import { findersOf } from './finders.ts';
import { Attached, locate, lookupOf } from './lookup.ts';
import { EXPERIMENT, Projects } from './projects.ts';
import { Owners } from './schemas.ts';
import { Spans } from './spans.ts';
import { submitDelete } from './submit.ts';
import { ID_PATTERN, traitsOf } from './traits.ts';

export interface PhoenixParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

/** Arize Phoenix as a store, self-hosted. Makes no call by itself. */
export function openPhoenix(config: PhoenixConnection, parts: PhoenixParts): TraceStore {
  const { killSwitch: _killSwitch, ...apiParts } = parts;
  const api = new PhoenixApi(config, apiParts);
  const projects = new Projects(api, config);
  const spans = new Spans(api, new Owners(config.identifiers, config.threads), config.pageSize);
  const sources = { api, spans, attached: new Attached() };
  const experiments = new Set<string>();

  return {
    traits: traitsOf(ownServerRhythm(config), config.pageSize),
    normaliseId,
    check: () => check({ api, projects, spans }),
    projects: async (progress) => {
      const found = await projects.inScope(progress);
      experiments.clear();
      for (const { id, type } of found) if (type === EXPERIMENT) experiments.add(id);
      return found;
    },
    finders: findersOf({ api, spans }),
    threads: config.threads,
    lookups: [lookupOf(sources)],
    locate: (query) => locate(sources, query),
    controls: (query) => findControls({ api, spans }, query),
    copies: (traces, _rows, progress) => findCopies(sources, experiments, traces, progress),
    lookupCopies: (copies, progress) => lookAgain(sources, copies, progress),
    submit: (order) => submitDelete(sources, order),
  };
}

/** Ids as they are written in places: upper case, with a prefix, or as a UUID. The server knows lower case only. */
function normaliseId(id: string): string | null {
  const plain = id.trim().toLowerCase().replace(/^0x/, '');
  const bare = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(plain) ? plain.replaceAll('-', '') : plain;
  return ID_PATTERN.test(bare) && !/^0+$/.test(bare) ? bare : null;
}
