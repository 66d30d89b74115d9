import { formatCount, formatTraces } from '../erasure/format.ts';
import type { ConnectionPlan } from '../erasure/plan.ts';
import type { Plan } from '../erasure/status.ts';
import { formatDate, labelled, wrap } from './format.ts';

/** A finished dry run for a person: what would be erased in each connection. */
export function formatPlan(plan: Plan): string {
  const lines = [
    `Plan ${plan.requestId}: nothing was deleted`,
    '',
    labelled('received', formatDate(plan.receivedAt)),
    labelled('due', formatDate(plan.dueAt)),
  ];
  if (plan.simulated) lines.push(labelled('clock', 'SIMULATED: it says nothing about a real store'));
  for (const [name, lane] of Object.entries(plan.connections)) {
    lines.push('', name);
    if (lane.plan === null) lines.push(labelled('plan', 'none: the request ended before it was made'));
    else lines.push(...formatConnection(lane.plan));
    if (lane.attention !== null) lines.push(labelled('attention', `${lane.attention.reason}: ${lane.attention.next}`));
  }
  if (plan.exceptions.length > 0) {
    lines.push('', 'Exceptions as of now:');
    for (const { connection, kind, text } of plan.exceptions) {
      lines.push(wrap(`${connection}, ${kind}: ${text}`, 4, '  - '));
    }
  }
  return lines.join('\n');
}

function pages(count: number): string {
  return `${formatCount(count)} ${count === 1 ? 'page' : 'pages'}`;
}

function formatConnection(plan: ConnectionPlan): string[] {
  const { details, shared, linked, due, verdict, window } = plan;
  const calls = `${formatCount(plan.batches)} delete ${plan.batches === 1 ? 'call' : 'calls'}`;
  const kept = [
    ...(shared > 0 ? [`${formatCount(shared)} shared with others, kept`] : []),
    ...(linked > 0 ? [`${formatCount(linked)} without a person, kept`] : []),
  ];
  const searched = Object.entries(details.searched).map(([kind, keys]) =>
    keys.length === 0 ? `${kind}: not searchable here` : `${kind} by ${keys.join(', ')}`,
  );
  const lines = [
    labelled('traces', [`${formatCount(plan.traces)} to delete in ${calls}`, ...kept].join('; ')),
    ...table(
      ['project', 'traces', 'first', 'last'],
      details.projects.map(({ name, traces, firstStart, lastStart }) => [
        name,
        formatCount(traces),
        day(firstStart),
        day(lastStart),
      ]),
    ),
  ];
  if (searched.length > 0) lines.push(labelled('searched', searched.join('; ')));
  for (const { identifier, kind, key, form, spelling, traces } of details.variants) {
    const other = spelling === 'as given' ? '' : ', in another spelling';
    lines.push(
      labelled('matched', `identifier ${identifier}, ${kind} via ${key}, as ${form}${other}: ${formatTraces(traces)}`),
    );
  }
  for (const { matchedBy, carries, traces, differentValues } of details.conflicts) {
    const values = `${formatCount(differentValues)} other ${differentValues === 1 ? 'value' : 'values'}`;
    lines.push(labelled('conflict', `${formatTraces(traces)} matched by ${matchedBy} carry ${values} of ${carries}`));
  }
  for (const { kind, fate, count } of details.copies)
    lines.push(labelled('copies', `${kind}: ${count}, ${FATES[fate]}`));
  if (details.notExamined.length > 0) lines.push(labelled('unexamined', details.notExamined.join(', ')));
  const { expected } = details;
  lines.push(
    labelled(
      'calls',
      `about ${formatCount(expected.deleteCalls)} to delete (${pages(expected.deletePages)} read), ` +
        `${formatCount(expected.verifyCalls)} to verify (${pages(expected.verifyPages)})`,
    ),
  );
  if (window !== null) {
    lines.push(
      labelled('window', `${formatDate(window.opensAt)} to ${formatDate(window.closesAt)}, an estimate of the store's`),
    );
  }
  lines.push(
    labelled(
      'verdict',
      `between ${formatDate(verdict.earliest)} and ${formatDate(verdict.latest)}, if nothing survives`,
    ),
    labelled('due', due.text),
    labelled('digest', plan.digest),
  );
  return lines;
}

const FATES = {
  again: 'looked at again at the end',
  manual: 'to be erased by hand',
  'out-of-reach': 'outside the API',
} as const;

function day(iso: string | null): string {
  return iso === null ? 'unknown' : iso.slice(0, 10);
}

/** Widest column of a name, so that a line fits a terminal. */
const MOST_NAME = 36;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const all = [head, ...rows].map((row) =>
    row.map((cell) => (cell.length > MOST_NAME ? `${cell.slice(0, MOST_NAME - 1)}…` : cell)),
  );
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    `    ${row.map((cell, column) => (column === 1 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join('  ')}`.trimEnd(),
  );
}
