import { formatCount } from '../erasure/format.ts';
import type { LaneRecord, RecordedErasure, RecordEntry, RecordView } from '../evidence/record.ts';
import { formatDate, labelled, wrap } from './format.ts';

/** The whole account of a request for a person, in the order in which it happened (P35). */
export function formatReport(requestId: string, view: RecordView): string {
  const { request, outcome, lanes, digest, simulated } = view;
  const lines: string[] = [];
  lines.push(`Request ${requestId}: ${outcome === null ? 'open' : outcome.verdict}`);
  if (simulated) {
    lines.push('', wrap('SIMULATED: made on a simulated clock. It proves nothing about a real store.', 0));
  }
  lines.push('');
  if (request === null) {
    lines.push('  The opening of this record is missing; no lane may ever have started.');
  } else {
    const kinds =
      request.identifierKinds.length === 0
        ? 'given ids alone: the verdict is about these ids, never about a person'
        : `one person, by ${request.identifierKinds.join(', ')}`;
    lines.push(
      labelled('received', formatDate(request.receivedAt)),
      labelled('started', formatDate(request.startedAt)),
      labelled('due', formatDate(request.dueAt)),
      ...(outcome === null ? [] : [labelled('ended', formatDate(outcome.endedAt))]),
      labelled('scope', `${kinds}; in ${request.connections.join(', ')}${request.dryRun ? '; plan only' : ''}`),
      labelled('workflow', request.workflowId),
      labelled('versions', `lethe ${request.versions.lethe}, node ${request.versions.node}`),
    );
  }
  for (const name of request?.connections ?? Object.keys(lanes)) lines.push('', ...formatLane(name, lanes[name]));

  if (outcome !== null) {
    lines.push('', `Verdict: ${outcome.verdict}`);
    for (const [name, lane] of Object.entries(outcome.lanes)) {
      const { traces } = lane;
      lines.push(
        wrap(
          `${lane.verdict ?? 'no verdict'}; ${formatCount(traces.matched)} matched, ${formatCount(traces.verifiedAbsent)} ` +
            `verified absent, ${formatCount(traces.goneBeforeSubmit)} gone before they were submitted`,
          4,
          `  ${name}: `,
        ),
      );
      for (const { kind, text } of lane.exceptions) lines.push(wrap(`exception, ${kind}: ${text}`, 6, '    - '));
      for (const { id, kind, count, where, attestedBy } of lane.tasks ?? []) {
        const place = where === null ? '' : ` in ${where}`;
        const word = attestedBy === undefined ? 'open' : `attested by ${attestedBy}`;
        lines.push(wrap(`task ${id}: ${formatCount(count)} ${kind}${place}; ${word}`, 6, '    - '));
      }
    }
    if (outcome.verbs.length > 0) {
      lines.push('', 'Operators');
      for (const verb of outcome.verbs) {
        const where = verb.connection === null ? '' : ` (${verb.connection})`;
        const effect = verb.applied ? '' : '; refused or without effect';
        const task = verb.task === undefined ? '' : ` task ${verb.task}`;
        lines.push(entryLine(verb.at, `${verb.verb}${task}${where} by ${verb.requestedBy}: ${verb.reason}${effect}`));
      }
    }
    lines.push(
      '',
      wrap(
        'Absent means: not readable through the store’s interface at the times above. It does not mean that no copy ' +
          'exists anywhere.',
        0,
      ),
    );
  }
  if (digest !== null) lines.push('', `SHA-256 of the sealed record: ${digest}`);
  if (view.addenda !== undefined) {
    lines.push('', 'Added after the seal, outside that digest');
    for (const { at, requestedBy, reason, connection, task, copies } of view.addenda) {
      const what = `${formatCount(copies.count)} ${copies.kind} of task ${task} (${connection}) erased by hand`;
      lines.push(entryLine(at, `${what}, on the word of ${requestedBy}: ${reason}`));
    }
  }
  return lines.join('\n');
}

function formatLane(name: string, lane: LaneRecord | undefined): string[] {
  const lines = [name];
  if (lane === undefined || lane.entries.length === 0) return [...lines, '  Nothing was done here.'];
  for (const { entry } of lane.entries) lines.push(...formatEntry(entry));
  if (lane.tornLines > 0) lines.push(`  ${lane.tornLines} lines were cut short by a kill, and written again.`);
  return lines;
}

function formatEntry(entry: RecordEntry): string[] {
  switch (entry.kind) {
    case 'plan': {
      const searched = Object.entries(entry.searched).map(([kind, keys]) =>
        keys.length === 0 ? `${kind}: not searchable here` : `${kind} by ${keys.join(', ')}`,
      );
      const { given } = entry;
      return [
        entryLine(
          entry.at,
          `plan: ${formatCount(entry.traces.matched)} traces matched in ${entry.projects.examined.length} projects` +
            (entry.stop === null ? '' : `; stopped: ${entry.stop}`),
        ),
        detail('store', `${entry.store}, connector ${entry.versions.connector}`),
        detail('projects', entry.projects.examined.map((project) => `${project.name} (${project.type})`).join(', ')),
        ...entry.projects.excluded.map((project) => detail('excluded', `${project.name}: ${project.why}`)),
        ...entry.projects.unreachable.map((project) => detail('unreachable', `${project.name}: ${project.why}`)),
        detail('searched', searched.join('; ')),
        ...(given.total === 0
          ? []
          : [
              detail(
                'given ids',
                `${formatCount(given.total)}: ${formatCount(given.resolved)} resolved, ` +
                  `${formatCount(given.neverMatched)} never matched (not found in the ` +
                  `${entry.projects.examined.length} projects visible to this key), ${formatCount(given.wrongKind)} of a ` +
                  `wrong kind, ${formatCount(given.duplicate)} duplicates, ${formatCount(given.unresolved)} unresolved`,
              ),
            ]),
        detail('finders', entry.finders.join(', ')),
        detail('look-ups', entry.lookups.join(', ')),
        ...readDetails(entry.reports),
        detail('controls', countsOf(entry.controls)),
        ...(entry.window === null
          ? []
          : [detail('window', `${formatDate(entry.window.from)} to ${formatDate(entry.window.to)}`)]),
        ...(entry.notProvenBefore === null
          ? []
          : [detail('not proven', `before ${formatDate(entry.notProvenBefore)}: no control is as old`)]),
        ...entry.disagreements.map((text) => detail('disagreed', text)),
        ...entry.limits.map((text) => detail('limit', text)),
        ...(entry.accepted.length === 0 ? [] : [detail('accepted', entry.accepted.join(', '))]),
      ];
    }
    case 'submit': {
      const what =
        entry.count === 0
          ? 'nothing to submit'
          : `${formatCount(entry.count)} traces submitted; ${entry.route ?? 'unknown route'} answered ${entry.status ?? 'nothing'}` +
            (entry.requestId === null ? '' : ` (request ${entry.requestId})`);
      const extra = [
        entry.absent > 0 ? `${formatCount(entry.absent)} gone by themselves` : '',
        entry.pulled > 0 ? `${formatCount(entry.pulled)} pulled: another owner or project` : '',
        entry.settledAt === null ? '' : `a read may count from ${formatDate(entry.settledAt)}`,
      ].filter((part) => part !== '');
      return [
        entryLine(entry.at, `round ${entry.round}, batch ${entry.batch + 1}: ${[what, ...extra].join('; ')}`),
        ...(entry.digest === null ? [] : [detail('digest', entry.digest)]),
        ...readDetails(entry.reports),
        ...erasureDetails(entry.erasures),
      ];
    }
    case 'read': {
      const counted = entry.counted ? `counted, ${entry.cleanReads} clean in a row` : 'not counted';
      const why = entry.why === null ? '' : `: ${entry.why}`;
      return [
        entryLine(entry.at, `read, round ${entry.round}: ${entry.answer}; ${counted}${why}`),
        ...readDetails(entry.reports),
        ...erasureDetails(entry.erasures),
        detail(
          'controls',
          Object.entries(entry.controls)
            .map(([key, { asked, seen }]) => `${key}: ${seen} of ${asked} seen`)
            .join(', '),
        ),
        ...(entry.skewMs === null ? [] : [detail('clocks', `${entry.skewMs} ms apart`)]),
        ...entry.disagreements.map((text) => detail('disagreed', text)),
        ...(entry.verdict === null ? [] : [detail('verdict', entry.verdict)]),
      ];
    }
    case 'trouble':
      return [entryLine(entry.at, `${entry.step}, round ${entry.round}: ${entry.reason}: ${entry.text}`)];
  }
}

function readDetails(reports: readonly (RecordEntry & { kind: 'read' })['reports'][number][]): string[] {
  return reports.map((report) => {
    const controls =
      report.controlsAsked === 0 ? '' : `, ${report.controlsSeen} of ${report.controlsAsked} controls seen`;
    const calls = `${report.calls} ${report.calls === 1 ? 'call' : 'calls'}`;
    const sunset = report.sunset === null ? '' : `; its end is announced: ${report.sunset}`;
    return detail(report.purpose, `${report.route}: ${calls}, ${formatCount(report.rows)} rows${controls}${sunset}`);
  });
}

function erasureDetails(erasures: readonly RecordedErasure[] | undefined): string[] {
  return (erasures ?? []).map(({ kind, count, calls, route, status, requestIds }) => {
    const asked = requestIds.length === 0 ? '' : ` (request ${requestIds.join(', ')})`;
    const times = `${formatCount(calls)} ${calls === 1 ? 'call' : 'calls'}`;
    return detail(
      'erased',
      `${formatCount(count)} ${kind}: ${route}: ${times}, answered ${status ?? 'nothing'}${asked}`,
    );
  });
}

function entryLine(at: string, text: string): string {
  return wrap(text, 4, `  ${formatDate(at)}  `);
}

function detail(label: string, text: string): string {
  return wrap(text === '' ? 'none' : text, 18, `      ${label} `.padEnd(18));
}

function countsOf(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([key, count]) => `${key}: ${count}`)
    .join(', ');
}
