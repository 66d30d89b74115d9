import type { Control, Located, LocateQuery, Row } from '../port.ts';
import { chunks, keyOf, seenIn } from '../rows.ts';
import type { Found } from '../rows.ts';
import type { FinderParts } from './finders.ts';
import type { LogField } from './filters.ts';
import { spansById, tracesById } from './lookups.ts';
import { rowOfLog, valuesOfField } from './schemas.ts';
import { PAGE_SIZE } from './traits.ts';

/** Ids in one list. */
const MOST_IDS = 200;

/** What else callers take for ids of traces, with the field that holds it. */
const WRONG_KINDS: readonly (readonly [LogField, string])[] = [
  ['customer_identifier', 'customer'],
  ['thread_identifier', 'thread'],
];

/**
 * Finds where ids of unknown kind live: as traces, through both routes, then as the store's ids of single spans, then as
 * customers or threads. Every call about ids of traces and spans carries the controls of its environment (P11).
 */
export async function locate(
  parts: FinderParts,
  { ids, projects, window, controls, progress }: LocateQuery,
): Promise<Located> {
  const { api, config, lists } = parts;
  const tally = api.tally(progress);
  const rows = new Map<string, Row>();
  const known = new Set<string>();
  const asked = new Set<Control>();
  const missed = new Set<Control>();
  const wrongKind = new Map<string, string>();
  const take = (found: Found, here: readonly Control[]): void => {
    for (const row of found.rows) {
      rows.set(keyOf(row), row);
      known.add(row.traceId).add(row.runId);
    }
    for (const control of here) {
      asked.add(control);
      if (!found.seen.has(control)) missed.add(control);
    }
  };
  const projectIds = new Set(projects.map(({ id }) => id));
  for (const id of ids) if (projectIds.has(id)) wrongKind.set(id, 'project');
  const open = (): string[] => ids.filter((id) => !known.has(id) && !wrongKind.has(id));
  const steps = [spansById(parts), tracesById(parts)];

  for (const { id: environment } of projects) {
    const here = controls.filter(({ projectId }) => projectId === environment);
    // The same id may stand in several environments: each is asked for all.
    for (const some of chunks(ids, MOST_IDS)) {
      for (const byId of steps) take(await byId(tally, environment, some, window, here), here);
      const ends = new Set(here.map(({ runId }) => runId));
      const values = [...some.filter((id) => !ends.has(id)), ...ends];
      const logs = await lists.logs(tally, { environment, window, narrow: { field: 'unique_id', values } });
      const found = logs.flatMap((log) => {
        const row = rowOfLog(log, config.identifiers, config.threads);
        // A log without a trace is data, but nothing that a delete by trace could name.
        if (row === null && some.includes(log.unique_id)) wrongKind.set(log.unique_id, 'log without a trace');
        return row ?? [];
      });
      const asIds = new Set(some);
      take({ rows: found.filter(({ runId }) => asIds.has(runId)), seen: seenIn(found, here) }, here);
    }
  }
  for (const { id: environment } of projects) {
    for (const [field, kind] of WRONG_KINDS) {
      for (const some of chunks(open(), MOST_IDS)) {
        const narrow = { field, values: some };
        // One page tells enough: what it leaves out stays unknown, which is true.
        const logs = await lists.logs(tally, { environment, window, narrow, onePageOf: PAGE_SIZE });
        const values = new Set(logs.map((log) => valuesOfField(log, field)));
        for (const id of some) if (values.has(id)) wrongKind.set(id, kind);
      }
    }
  }
  const seen = controls.map((control) => asked.has(control) && !missed.has(control));
  return {
    rows: [...rows.values()],
    wrongKind,
    controlsSeen: seen,
    report: tally.report('locate', window, controls.length, seen.filter(Boolean).length),
  };
}
