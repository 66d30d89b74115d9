import type { ApiParts } from '../api.ts';
import { Capability } from '../capability.ts';
import type { KillSwitch } from '../kill-switch.ts';
import type { TraceStore } from '../port.ts';
import { BraintrustApi } from './api.ts';
import { check } from './check.ts';
import type { BraintrustConnection } from './config.ts';
import { OPTIONAL_COPIES, rhythmOf } from './config.ts';
import { findControls } from './controls.ts';
import { findCopies, lookAgain } from './copies.ts';
import { eraseCopies } from './erase-copies.ts';
import { findersOf } from './finders.ts';
import { locate } from './locate.ts';
import { lookupOf } from './lookup.ts';
import { Objects } from './objects.ts';
import { Rows } from './rows.ts';
import { RowShape } from './schemas.ts';
import { submitDelete } from './submit.ts';
import { ID_PATTERN, traitsOf } from './traits.ts';
import { Wholes } from './wholes.ts';

export interface BraintrustParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

/**
 * Braintrust as a store. Makes no call by itself. A trace is every row under one `root_span_id`; what is deleted are rows,
 * by writing a tombstone for each.
 */
export function openBraintrust(config: BraintrustConnection, parts: BraintrustParts): TraceStore {
  const { killSwitch, ...apiParts } = parts;
  const api = new BraintrustApi(config, apiParts);
  const objects = new Objects(api, config);
  const rows = new Rows(api, new RowShape(config.identifiers, config.threads), config.pageSize);
  const wholes = new Wholes();
  const comments = new Capability();
  const filled = new Set<string>();
  const left = new Set<string>(OPTIONAL_COPIES.filter((kind) => !config.copies.includes(kind)));
  const copySources = { api, rows, objects, attachments: config.copies.includes('attachments') };

  return {
    traits: traitsOf(rhythmOf(config), config.pageSize, left),
    normaliseId,
    check: () => check({ api, objects, rows }),
    projects: (progress) => objects.inScope(progress),
    finders: findersOf({ api, rows, objects }),
    threads: config.threads,
    lookups: [lookupOf({ api, rows, wholes, comments })],
    locate: (query) => locate({ api, rows, objects }, query),
    controls: (query) => findControls({ api, rows, filled }, query),
    copies: (traces, found, progress) => findCopies(copySources, traces, found, progress),
    lookupCopies: (copies, progress) => lookAgain(copySources, copies, progress),
    eraseCopies: (copies, lastWord, progress) => eraseCopies({ api, rows, killSwitch }, copies, lastWord, progress),
    submit: (order) => submitDelete({ api, wholes, killSwitch }, order),
  };
}

/** Row ids are whatever their writer chose, so only spaces around them are dropped. */
function normaliseId(id: string): string | null {
  const plain = id.trim();
  return ID_PATTERN.test(plain) ? plain : null;
}
