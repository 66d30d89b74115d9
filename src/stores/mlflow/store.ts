import type { ApiParts } from '../api.ts';
import { ownServerRhythm } from '../connection.ts';
import type { KillSwitch } from '../kill-switch.ts';
import type { TraceStore } from '../port.ts';
import { MlflowApi } from './api.ts';
import { check } from './check.ts';
import type { MlflowConnection } from './config.ts';
import { OPTIONAL_COPIES } from './config.ts';
import { findControls } from './controls.ts';
import { eraseCopies, findCopies, lookAgain } from './copies.ts';
import { Experiments } from './experiments.ts';
import { findersOf } from './finders.ts';
import { locate } from './locate.ts';
import { lookupOf } from './lookup.ts';
import { Shape } from './schemas.ts';
import { submitDelete } from './submit.ts';
import { Traces } from './traces.ts';
import { traitsOf } from './traits.ts';

export interface MlflowParts extends ApiParts {
  readonly killSwitch: KillSwitch;
}

/**
 * An MLflow tracking server as a store. Makes no call by itself. A project is an experiment; what belongs to a trace is its
 * spans and its files, which the server does not delete with it.
 */
export function openMlflow(config: MlflowConnection, parts: MlflowParts): TraceStore {
  const { killSwitch, ...apiParts } = parts;
  const api = new MlflowApi(config, apiParts);
  const experiments = new Experiments(api, config);
  const shape = new Shape(config.identifiers, config.threads);
  const traces = new Traces(api, experiments, shape);
  const inSpans = new Set<string>();
  const withSpans = new Set<string>();
  const left = new Set<string>(OPTIONAL_COPIES.filter((kind) => !config.copies.includes(kind)));
  if (!config.spanSearch) left.add('unindexed-people');
  const records = config.copies.includes('dataset-records');
  const copyParts = {
    api,
    experiments,
    traces,
    killSwitch,
    records,
    people: config.spanSearch,
    merged: new Set<string>(),
  };

  return {
    traits: traitsOf(ownServerRhythm(config), config.pageSize, left),
    normaliseId,
    check: () => check({ api, experiments, shape, traces }),
    projects: (progress) => experiments.inScope(progress),
    finders: findersOf({ api, config, experiments, shape, traces, inSpans, withSpans }),
    threads: config.threads,
    lookups: [lookupOf({ api, experiments, shape, traces })],
    locate: (query) => locate({ api, experiments, shape, traces }, query),
    controls: (query) => findControls({ api, config, experiments, shape, traces, inSpans, withSpans }, query),
    copies: (keys, rows, progress) => findCopies(copyParts, keys, rows, progress),
    lookupCopies: (copies, progress) => lookAgain(copyParts, copies, progress),
    eraseCopies: (copies, lastWord, progress) => eraseCopies(copyParts, copies, lastWord, progress),
    submit: (order) => submitDelete({ api, traces, killSwitch }, order),
  };
}

/** Ids of traces with and without `tr-`, in any case, and ids of spans. */
function normaliseId(id: string): string | null {
  const plain = id.trim().toLowerCase();
  if (/^[0-9a-f]{32}$/.test(plain)) return `tr-${plain}`;
  return /^(tr-[0-9a-f]{32}|[0-9a-f]{16})$/.test(plain) ? plain : null;
}
