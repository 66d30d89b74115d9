import { formatCount, formatNoun, formatTraces } from '../erasure/format.ts';
import { formatInZone } from '../erasure/law.ts';
import { endInWords, unprovenInWords } from '../erasure/outcome.ts';
import type { Addendum } from '../evidence/addenda.ts';
import type { LaneRecord, RecordedErasure, RecordEntry, RecordView } from '../evidence/record.ts';
import { formatDate, labelled, wrap } from './format.ts';

/** The whole account of a request for a person, in the order in which it happened (P35). */
export function formatReport(requestId: string, view: RecordView): string {
  const { request, outcome, lanes, digest, simulated, addenda = [] } = view;
  const lines: string[] = [];
  const ended = outcome?.verdict ?? null;
  const unproven = outcome === null || ended === null ? '' : unprovenInWords(Object.values(outcome.lanes));
  const end = `${ended ?? (outcome === null ? 'open' : 'no verdict')}${unproven === '' ? '' : ` (${unproven})`}`;
  lines.push(wrap(`Request ${requestId}: ${end}`, 2));
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
      labelled('due', formatDue(request.dueAt, request.deadlines?.zone)),
      ...(request.deadlines === undefined ? [] : [labelled('law', lawOf(request.deadlines))]),
      ...(outcome?.extension === undefined
        ? []
        : [
            labelled(
              'postponed',
              `to ${formatDue(outcome.extension.to, request.deadlines?.zone)}; the person was told on ${outcome.extension.notifiedOn}`,
            ),
          ]),
      ...(outcome?.joined ?? []).map((other) =>
        labelled(
          'joined',
          `${other.requestId}, received ${formatDate(other.receivedAt)}, due ${formatDue(other.dueAt, request.deadlines?.zone)}; its verdict is from reads after ${formatDate(other.joinedAt)}`,
        ),
      ),
      ...(outcome === null ? [] : [labelled('ended', formatDate(outcome.endedAt))]),
      labelled('scope', `${kinds}; in ${request.connections.join(', ')}${request.dryRun ? '; plan only' : ''}`),
      ...(request.requestedBy === undefined ? [] : [labelled('asked by', request.requestedBy)]),
      labelled('workflow', request.workflowId),
      labelled('versions', `lethe ${request.versions.lethe}, node ${request.versions.node}`),
    );
  }
  const dueAt = outcome?.extension?.to ?? request?.dueAt ?? null;
  const names = [...new Set([...(request?.connections ?? []), ...Object.keys(lanes)])];
  for (const name of names) lines.push('', ...formatLane(name, lanes[name], dueAt));

  if (outcome !== null) {
    lines.push('', wrap(`Verdict: ${end}`, 2));
    for (const [name, lane] of Object.entries(outcome.lanes)) {
      const { traces } = lane;
      lines.push(
        wrap(
          `${lane.verdict === null ? 'no verdict' : endInWords(lane.verdict, lane)}; ${formatCount(traces.matched)} matched, ${formatCount(traces.verifiedAbsent)} ` +
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
        if (verb.planDigest !== undefined) {
          lines.push(detail('approved', `at most ${formatTraces(verb.atMost ?? 0)} of plan ${verb.planDigest}`));
        }
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
  if (addenda.length > 0) {
    lines.push('', 'Addenda: learnt or said after the end, and outside the sealed record');
    for (const { addendum } of addenda) lines.push(...formatAddendum(addendum));
  }
  return lines.join('\n');
}

function formatAddendum(addendum: Addendum): string[] {
  if (addendum.kind === 'attestation') {
    const { at, requestedBy, reason, connection, task, copies } = addendum;
    const what = `${formatCount(copies.count)} ${copies.kind} of task ${task} (${connection}) erased by hand`;
    return [entryLine(at, `${what}, on the word of ${requestedBy}: ${reason}`)];
  }
  if (addendum.kind === 'reopened') {
    const { at, connections, request, why } = addendum;
    const what = request === null ? `no request could be started: ${why ?? 'unknown'}` : `request ${request} erases it`;
    return [entryLine(at, `data came back in ${connections.join(', ')}; ${what}`)];
  }
  const { at, connection, look, attempt, answer, why, reports, controls } = addendum;
  const which = `look ${look}${attempt > 1 ? `, try ${attempt}` : ''}, ${connection}`;
  const seen = Object.entries(controls).map(([route, of]) => `${route}: ${of.seen} of ${of.asked} seen`);
  return [
    entryLine(at, `${which}: ${answer}${why === null ? '' : `: ${why}`}`),
    ...readDetails(reports),
    ...(seen.length === 0 ? [] : [detail('controls', seen.join(', '))]),
  ];
}

function formatDue(dueAt: string, zone: string | undefined): string {
  return zone === undefined ? formatDate(dueAt) : formatInZone(Date.parse(dueAt), zone);
}

function lawOf({ law, zone, confirmBy }: NonNullable<NonNullable<RecordView['request']>['deadlines']>): string {
  if (confirmBy === null) return law;
  return `${law}; receipt to be confirmed by ${formatInZone(Date.parse(confirmBy), zone)} (public holidays are not known)`;
}

function formatLane(name: string, lane: LaneRecord | undefined, dueAt: string | null): string[] {
  const lines = [name];
  if (lane === undefined || lane.entries.length === 0) return [...lines, '  Nothing was done here.'];
  for (const { entry } of lane.entries) lines.push(...formatEntry(entry, dueAt));
  if (lane.tornLines > 0) {
    const torn = formatNoun(lane.tornLines, 'line was', 'lines were');
    lines.push(`  ${torn} cut short by a kill, and written again.`);
  }
  return lines;
}

/** Marks what can't be done in time. */
function late(at: string, dueAt: string | null): string {
  return dueAt !== null && at > dueAt ? ': AT RISK, after the due date' : '';
}

function formatEntry(entry: RecordEntry, dueAt: string | null): string[] {
  switch (entry.kind) {
    case 'plan': {
      const searched = Object.entries(entry.searched).map(([kind, keys]) =>
        keys.length === 0 ? `${kind}: not searchable here` : `${kind} by ${keys.join(', ')}`,
      );
      const { given } = entry;
      return [
        entryLine(
          entry.at,
          `plan: ${formatTraces(entry.traces.matched)} matched in ${formatNoun(entry.projects.examined.length, 'project')}` +
            (entry.stop === null ? '' : `; stopped: ${entry.stop}`),
        ),
        detail('store', `${entry.store}, connector ${entry.versions.connector}`),
        detail('projects', entry.projects.examined.map((project) => `${project.name} (${project.type})`).join(', ')),
        ...entry.projects.excluded.map((project) => detail('excluded', `${project.name}: ${project.why}`)),
        ...entry.projects.unreachable.map((project) => detail('unreachable', `${project.name}: ${project.why}`)),
        detail('searched', searched.join('; ')),
        ...(entry.plan === undefined ? [] : [detail('plan', entry.plan.digest), detail('due', entry.plan.due.text)]),
        ...(given.total === 0
          ? []
          : [
              detail(
                'given ids',
                `${formatCount(given.total)}: ${formatCount(given.resolved)} resolved, ` +
                  `${formatCount(given.neverMatched)} never matched (not found in the ` +
                  `${formatNoun(entry.projects.examined.length, 'project')} visible to this key), ${formatCount(given.wrongKind)} of a ` +
                  `wrong kind, ${formatNoun(given.duplicate, 'duplicate')}, ${formatCount(given.unresolved)} unresolved`,
              ),
            ]),
        detail('finders', entry.finders.join(', ')),
        detail('look-ups', entry.lookups.join(', ')),
        ...readDetails(entry.reports),
        detail('controls', countsOf(entry.controls)),
        ...(entry.window === null
          ? []
          : [detail('window', `${formatDate(entry.window.from)} to ${formatDate(entry.window.to)}`)]),
        ...(entry.earliestVerdictAt === undefined || entry.stop !== null
          ? []
          : [
              detail(
                'at best',
                `done ${formatDate(entry.earliestVerdictAt)}, as the store's rhythm tells${late(entry.earliestVerdictAt, dueAt)}`,
              ),
            ]),
        ...(entry.notProvenBefore === null
          ? []
          : [detail('not proven', `before ${formatDate(entry.notProvenBefore)}: no control is as old`)]),
        ...(entry.cutoff == null
          ? []
          : [detail('cut-off', `${formatDate(entry.cutoff)}: what began later is new activity`)]),
        ...(entry.threads === undefined || entry.threads.searched === 0
          ? []
          : [
              detail(
                'threads',
                `${formatNoun(entry.threads.searched, 'conversation')} followed, ${formatCount(entry.threads.shared)} with ` +
                  `other people, ${formatCount(entry.threads.missed)} not searchable`,
              ),
            ]),
        ...entry.disagreements.map((text) => detail('disagreed', text)),
        ...entry.limits.map((text) => detail('limit', text)),
        ...(entry.accepted.length === 0 ? [] : [detail('accepted', entry.accepted.join(', '))]),
      ];
    }
    case 'approved-plan': {
      const along = entry.include.length === 0 ? 'nothing along' : `along: ${entry.include.join(', ')}`;
      return [
        entryLine(entry.at, `plan approved (${along}): ${formatCount(entry.traces.pending)} traces to be deleted`),
      ];
    }
    case 'submit': {
      const what =
        entry.count === 0
          ? 'nothing to submit'
          : `${formatTraces(entry.count)} submitted; ${entry.route ?? 'unknown route'} answered ${entry.status ?? 'nothing'}` +
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
        ...(entry.stop === undefined ? [] : [detail('stopped', entry.stop)]),
        ...(entry.plan === undefined ? [] : [detail('plan', entry.plan.digest)]),
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
    const calls = formatNoun(report.calls, 'call');
    const sunset = report.sunset === null ? '' : `; its end is announced: ${report.sunset}`;
    return detail(report.purpose, `${report.route}: ${calls}, ${formatNoun(report.rows, 'row')}${controls}${sunset}`);
  });
}

function erasureDetails(erasures: readonly RecordedErasure[] | undefined): string[] {
  return (erasures ?? []).map(({ kind, count, calls, route, status, requestIds }) => {
    const asked = requestIds.length === 0 ? '' : ` (request ${requestIds.join(', ')})`;
    const times = formatNoun(calls, 'call');
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
