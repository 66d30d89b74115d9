import type { KillSwitch } from '../kill-switch.ts';
import type { Finder, LookupRoute, TraceStore } from '../port.ts';
import type { ApiParts } from '../api.ts';
import { LangSmithApi } from './api.ts';
import { check } from './check.ts';
import type { LangSmithConnection } from './config.ts';
import { rhythmOf } from './config.ts';
import { findControls } from './controls.ts';
import { findCopies, lookAgain } from './copies.ts';
import { eraseCopies } from './erase-copies.ts';
import { locate } from './locate.ts';
import { Projects } from './projects.ts';
import { Reader } from './reads.ts';
import { v1Runs, v2Runs } from './runs.ts';
import { submitDelete } from './submit.ts';
import { ID_PATTERN, traitsOf } from './traits.ts';

export interface LangSmithParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

/**
 * LangSmith as a store. Makes no call by itself. Facts about the vendor's API are cited where they are used; the marks
 * "not documented" there mean: probed at run time, with the documented way as fallback.
 */
export function openLangSmith(config: LangSmithConnection, parts: LangSmithParts): TraceStore {
  const api = new LangSmithApi(config, parts);
  const projects = new Projects(api, config);
  const v2 = new Reader(api, config, v2Runs(api, config));
  const v1 = config.v1 === 'off' ? undefined : new Reader(api, config, v1Runs(api, config));
  const readers = v1 === undefined ? [v2] : [v2, v1];
  const finders: readonly Finder[] = readers.map((reader) => reader.finder());
  const lookups: readonly LookupRoute[] = readers.map((reader) => reader.lookup());
  const filled = new Set<string>();
  const traits = traitsOf(rhythmOf(config.rhythm), config.pageSize);

  return {
    traits,
    normaliseId,
    check: () => check({ api, config, projects, reader: v2, v1 }),
    projects: (progress) => projects.inScope(progress),
    finders,
    threads: config.threads,
    lookups,
    locate: (query) => locate({ api, config, reader: v2, bridge: v1, everyProject: projects.everyId }, query),
    controls: (query) => findControls({ api, config, reader: v2, filled }, query),
    copies: (traces, rows, progress) =>
      findCopies({ api, identifiers: config.identifiers, projects, reader: v2 }, traces, rows, progress),
    lookupCopies: (copies, progress) => lookAgain(api, copies, progress),
    eraseCopies: (copies, lastWord, progress) => eraseCopies(api, copies, lastWord, progress),
    submit: (order) => submitDelete(api, order, parts.killSwitch),
  };
}

/** UUIDs as they are written in places: upper case, in braces, as URN, or without dashes. */
function normaliseId(id: string): string | null {
  const plain = id
    .trim()
    .toLowerCase()
    .replace(/^urn:uuid:/, '')
    .replace(/^\{(.*)\}$/, '$1');
  const dashed = /^[0-9a-f]{32}$/.test(plain)
    ? plain.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    : plain;
  return ID_PATTERN.test(dashed) && !/^[0-]+$/.test(dashed) ? dashed : null;
}
