import { formatCount, formatInstant, formatNoun, formatTraces } from '../erasure/format.ts';
import { formatInZone } from '../erasure/law.ts';
import { endInWords, isVerdict, unprovenInWords } from '../erasure/outcome.ts';
import type { AftercareStatus, ConnectionStatus, RequestStatus } from '../erasure/status.ts';

/** Terminals are at least this wide, and mails quote no more. */
export const WIDTH = 80;

/** `2026-11-27 18:00 UTC`. */
export function formatDate(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}

/** Breaks a text between words, so that no line is wider than a terminal; later lines are indented. */
export function wrap(text: string, indent: number, first = ''): string {
  const lines: string[] = [];
  let line = first;
  let empty = true;
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    if (!empty && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = ' '.repeat(indent);
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  return [...lines, line].join('\n');
}

/** Wraps each line of a text, keeping its indentation. */
export function wrapLines(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const indent = line.length - line.trimStart().length;
      return wrap(line, indent === 0 ? 0 : indent + 2, ' '.repeat(indent));
    })
    .join('\n');
}

const LABEL_WIDTH = 12;

/** `  label     text`, wrapped. */
export function labelled(label: string, text: string): string {
  return wrap(text, LABEL_WIDTH, `  ${label} `.padEnd(LABEL_WIDTH));
}

/** What a lane is doing, in one sentence. */
export function laneSentence(lane: ConnectionStatus): string {
  const { traces, round, attention } = lane;
  const until = lane.nextCheckAt === null ? '' : formatInstant(Date.parse(lane.nextCheckAt));
  const inRound = round > 0 ? `round ${round}: ` : '';
  const open = traces.pending + traces.survived;
  switch (lane.status) {
    case 'planning':
      return 'looking for the traces of this person';
    case 'erasing':
      return `${inRound}submitting ${formatTraces(open)} for deletion`;
    case 'verifying':
      return `${inRound}reading back whether ${open === 1 ? 'it is' : 'they are'} gone`;
    case 'waiting': {
      const why =
        lane.cleanReads > 0
          ? `not readable any more in ${formatCount(lane.cleanReads)} of ${formatCount(lane.cleanReadsWanted)} clean reads`
          : open > 0
            ? `${formatTraces(open)} accepted for deletion and not proven gone`
            : `${formatCount(lane.cleanReads)} of ${formatCount(lane.cleanReadsWanted)} clean reads`;
      const survived = traces.survived > 0 ? `, ${formatCount(traces.survived)} of them survivors` : '';
      return `${inRound}${why}${survived}; waits until ${until} and reads`;
    }
    case 'held':
      return `${inRound}held by an operator; ${heldUntil(lane)}`;
    case 'awaiting-approval':
    case 'needs-operator':
      return `${inRound}an operator is needed: ${attention?.reason ?? 'see the status'}; ${attention?.next ?? ''}`;
    case 'verified':
      return `${endInWords(lane.status, lane)}, read ${formatNoun(lane.cleanReads, 'time')}`;
    case 'verified-with-exceptions':
      return `${endInWords(lane.status, lane)}; see the exceptions`;
    case 'nothing-found':
    case 'abandoned':
      return endInWords(lane.status, lane);
  }
}

function heldUntil({ heldUntil: until, nextCheckAt }: ConnectionStatus): string {
  if (until === null) return 'goes on after a release';
  const at = formatInstant(Date.parse(until));
  return nextCheckAt === null ? `asks for an operator ${at}, still held` : `goes on by itself ${at}`;
}

/** The whole status for a person. */
export function formatStatus(status: RequestStatus, uiLink: string | null): string {
  const marks = [
    isVerdict(status.status) ? unprovenInWords(Object.values(status.connections)) : '',
    status.dryRun ? 'plan only' : '',
    status.overdue ? 'OVERDUE' : status.atRisk ? 'AT RISK' : '',
    status.simulated ? 'SIMULATED CLOCK' : '',
  ].filter((mark) => mark !== '');
  const planned = status.dryRun && status.endedAt !== null;
  const lines = [
    `${status.requestId}: ${planned ? 'planned' : status.status}${marks.length > 0 ? ` (${marks.join(', ')})` : ''}`,
    labelled('received', `${formatDate(status.receivedAt)}, due ${formatDue(status)}`),
    ...formatDeadline(status),
    ...(status.endedAt === null ? [] : [labelled('ended', formatDate(status.endedAt))]),
    labelled('workflow', status.workflowId),
    // Never wrapped: a link must stay whole.
    ...(uiLink === null ? [] : [`  ui        ${uiLink}`]),
  ];
  for (const [name, lane] of Object.entries(status.connections)) {
    lines.push('', wrap(planned ? 'planned; nothing was deleted' : laneSentence(lane), 2, `${name}: `));
    lines.push(...formatLane(lane));
  }
  if (status.exceptions.length > 0) {
    lines.push('', 'Exceptions:');
    for (const { connection, kind, text } of status.exceptions) {
      lines.push(wrap(`${connection}, ${kind}: ${text}`, 4, '  - '));
    }
  }
  if (status.aftercare !== undefined) lines.push('', ...formatAftercare(status.aftercare));
  return lines.join('\n');
}

const AFTERCARE_TEXT = {
  watching: 'goes on',
  ended: 'has ended',
  stopped: 'was ended from outside: no look comes any more',
} as const;

function formatAftercare({ state, nextLookAt, looks }: AftercareStatus): string[] {
  const next = nextLookAt === null ? '' : `, looks next ${formatDate(nextLookAt)}`;
  const lines = [wrap(`${AFTERCARE_TEXT[state]}${next}`, 2, 'Aftercare: ')];
  for (const { connection, look, at, answer, why, request } of looks) {
    const more = `${why === null ? '' : `: ${why}`}${request === null ? '' : `; request ${request} erases it`}`;
    lines.push(wrap(`look ${look}, ${connection}: ${answer}${more}`, 4, `  ${formatDate(at)}  `));
  }
  return lines;
}

/** When it is due, as clocks in the zone of the policy show it. */
function formatDue({ dueAt, zone }: Pick<RequestStatus, 'dueAt' | 'zone'>): string {
  return zone === null ? formatDate(dueAt) : formatInZone(Date.parse(dueAt), zone);
}

function formatDeadline(status: RequestStatus): string[] {
  const { law, zone, confirmBy, extension, joinedRequests, atRiskReason } = status;
  const confirm =
    confirmBy === null || zone === null
      ? ''
      : `; confirm the receipt by ${formatInZone(Date.parse(confirmBy), zone)} (public holidays are not known)`;
  return [
    ...(law === null ? [] : [labelled('law', `${law}${confirm}`)]),
    ...(extension === null
      ? []
      : [
          labelled(
            'postponed',
            `by ${extension.by} to ${formatDue({ dueAt: extension.to, zone })}; the person was told on ${extension.notifiedOn}`,
          ),
        ]),
    ...joinedRequests.map((other) =>
      labelled(
        'joined',
        `${other.requestId}, received ${formatDate(other.receivedAt)}, due ${formatDue({ dueAt: other.dueAt, zone })}`,
      ),
    ),
    ...(atRiskReason === null ? [] : [labelled('at risk', `${atRiskReason} (an estimate)`)]),
  ];
}

function formatLane(lane: ConnectionStatus): string[] {
  const { given, traces, copies, searched } = lane;
  const lines: string[] = [];
  if (Object.keys(searched).length > 0) {
    const parts = Object.entries(searched).map(([kind, keys]) =>
      keys.length === 0 ? `${kind}: not searchable here` : `${kind} by ${keys.join(', ')}`,
    );
    lines.push(labelled('searched', parts.join('; ')));
  }
  if (given.total > 0) {
    lines.push(
      labelled(
        'given',
        sum(formatNoun(given.total, 'id'), [
          [given.resolved, 'resolved'],
          [given.neverMatched, 'never matched'],
          [given.wrongKind, 'of a wrong kind'],
          [given.duplicate, given.duplicate === 1 ? 'duplicate' : 'duplicates'],
          [given.unresolved, 'not looked up yet'],
        ]),
      ),
    );
  }
  lines.push(
    labelled(
      'traces',
      sum(`${formatCount(traces.matched)} matched`, [
        [traces.verifiedAbsent, 'verified absent'],
        [traces.goneBeforeSubmit, 'gone before they were submitted'],
        [traces.pending, 'pending'],
        [traces.survived, 'survived'],
        [traces.shared, 'shared, kept'],
        [traces.linked, 'without a person, kept'],
        [traces.inconclusive, 'inconclusive'],
        [traces.newActivity, 'begun after the cut-off, kept'],
        [traces.abandoned, 'abandoned'],
      ]),
    ),
  );
  if (copies.found > 0 || copies.notExamined.length > 0) {
    const found = sum(`${formatCount(copies.found)} found`, [
      [copies.erased, 'erased'],
      [copies.manual, 'to be erased by hand'],
      [copies.attested ?? 0, 'erased by hand on somebody’s word'],
      [copies.outOfReach, 'out of reach'],
      [copies.inconclusive, 'inconclusive'],
      [copies.abandoned, 'abandoned'],
    ]);
    const unseen = copies.notExamined.length === 0 ? '' : `; not examined: ${copies.notExamined.join(', ')}`;
    lines.push(labelled('copies', found + unseen));
  }
  const latest = lane.lastRead === null ? '' : `; the latest read: ${lane.lastRead}`;
  lines.push(labelled('reads', `${lane.cleanReads} of ${lane.cleanReadsWanted} clean${latest}`));
  if (lane.plan !== null) lines.push(...planLines(lane));
  if (lane.attention !== null) {
    lines.push(labelled('attention', `${lane.attention.reason}, since ${formatDate(lane.attention.since)}`));
    lines.push(labelled('next', lane.attention.next));
  }
  return lines;
}

function planLines({ plan, approval, status }: ConnectionStatus): string[] {
  if (plan === null) return [];
  const { traces, submittedBefore, batches, due, digest } = plan;
  const before = submittedBefore === 0 ? '' : `, besides ${formatTraces(submittedBefore)} submitted before`;
  const calls = formatNoun(batches, 'delete call');
  const lines = [labelled('plan', `${formatTraces(traces)} in ${calls}${before}; the due date ${due.text}`)];
  // Needed for an approval only; otherwise it is in the record.
  if (status === 'awaiting-approval') lines.push(labelled('digest', digest));
  if (approval !== null) {
    const { atMost, by, at } = approval;
    lines.push(labelled('approved', `at most ${formatTraces(atMost)} in all, by ${by}, ${formatDate(at)}`));
  }
  return lines;
}

function sum(total: string, parts: readonly (readonly [number, string])[]): string {
  const named = parts.filter(([count]) => count > 0).map(([count, name]) => `${formatCount(count)} ${name}`);
  return `${total}${named.length === 0 ? '' : `: ${named.join(', ')}`}`;
}

/** One line of `lethe list`. */
export function formatRow(status: RequestStatus): string {
  const lanes = Object.values(status.connections);
  const round = Math.max(0, ...lanes.map((lane) => lane.round));
  const open = lanes.reduce((total, { traces }) => total + traces.pending + traces.survived, 0);
  const next = lanes
    .map(({ nextCheckAt }) => nextCheckAt)
    .filter((at) => at !== null)
    .sort()[0];
  const when = next === undefined ? '' : `next ${formatInstant(Date.parse(next))}`;
  const overdue = status.overdue ? 'OVERDUE ' : status.atRisk ? 'AT RISK ' : '';
  if (status.dryRun && status.endedAt !== null) return `${status.requestId}  planned  ${formatTraces(open)} found`;
  return `${status.requestId}  ${overdue}${status.status}  due ${status.dueAt.slice(0, 10)}  round ${round}  ${formatCount(open)} open  ${when}`.trimEnd();
}
