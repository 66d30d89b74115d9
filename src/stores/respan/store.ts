import type { ApiParts } from '../api.ts';
import type { KillSwitch } from '../kill-switch.ts';
import type { TraceStore } from '../port.ts';
import { RespanApi } from './api.ts';
import { check } from './check.ts';
import type { RespanConnection } from './config.ts';
import { rhythmOf } from './config.ts';
import { findControls } from './controls.ts';
import { eraseCopies, findCopies, lookAgain } from './copies.ts';
import { Customers } from './customers.ts';
import { environments } from './environments.ts';
import { logsFinder, tracesFinder } from './finders.ts';
import { Lists } from './lists.ts';
import { locate } from './locate.ts';
import { lookupRoutes } from './lookups.ts';
import { RecordErasure } from './records.ts';
import { Shared } from './shared.ts';
import { DeletePace } from './delete-pace.ts';
import { submitDelete } from './submit.ts';
import { ID_PATTERN, traitsOf } from './traits.ts';

export interface RespanParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

/**
 * Respan (formerly Keywords AI) as a store; its environments are the projects. Makes no call by itself. Facts about the
 * vendor's API are cited where they are used.
 */
export function openRespan(config: RespanConnection, parts: RespanParts): TraceStore {
  const api = new RespanApi(config, parts);
  const lists = new Lists(api, config);
  const customers = new Customers(api);
  const { killSwitch } = parts;
  const nowMs = (): number => api.nowMs();
  const reading = { api, config, lists, customers, counts: new Shared(parts.clock) };
  const records = new RecordErasure({ config, lists, customers, killSwitch, nowMs: Date.now });
  const pace = new DeletePace(nowMs);
  const memory = {
    probedUntilMs: new Map<string, number>(),
    reached: { atMs: Number.NEGATIVE_INFINITY },
    inUse: new Shared(parts.clock),
  };

  return {
    traits: traitsOf(rhythmOf(config), config.legacySpanDelete),
    normaliseId: (id) => (ID_PATTERN.test(id.trim()) ? id.trim() : null),
    check: () => check(reading),
    projects: (progress) => environments(api, config, lists, progress),
    finders: [logsFinder(reading), tracesFinder(reading)],
    threads: config.threads,
    lookups: lookupRoutes(reading),
    locate: (query) => locate(reading, query),
    controls: (query) => findControls({ ...reading, ...memory }, query),
    copies: (traces, rows, progress) => findCopies(reading, traces, rows, progress),
    lookupCopies: (copies, progress) => lookAgain(reading, copies, progress),
    eraseCopies: (copies, lastWord, progress) => eraseCopies({ ...reading, records }, copies, lastWord, progress),
    submit: (order) => submitDelete({ api, config, lists, killSwitch, pace, realNowMs: Date.now }, order),
  };
}
