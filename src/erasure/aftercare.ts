import type { Clock } from './clock.ts';
import type { WebhookBody } from './events.ts';
import type { Identifier } from './request.ts';
import type { BlobRef, StepInput, Trouble } from './steps.ts';

/** What one look after the end showed; `trouble` and `failed` are looks that could not be made. */
export const LOOK_ANSWERS = [
  'clean',
  'resurrected',
  'late',
  'new-activity',
  'inconclusive',
  'trouble',
  'failed',
] as const;
export type LookAnswerKind = (typeof LOOK_ANSWERS)[number];

/** How a watch stands: `stopped` means ended from outside, before its last look. */
export const AFTERCARE_STATES = ['watching', 'ended', 'stopped'] as const;

/** Type of the workflow that looks again after the end. */
export const WATCH_WORKFLOW = 'watchUser';

/** Memo in which a watch keeps its status, so that it can be read while no worker is up. No personal data. */
export const WATCH_MEMO = 'letheWatch';

/** The workflow id of a request's watch. */
export function watchIdOf(requestId: string): string {
  return `watch-${requestId}`;
}

/** Input of the `watchUser` workflow. Travels through the payload codec. */
export interface WatchInput {
  readonly requestId: string;
  readonly subject: readonly Identifier[];
  /** Connections of the ended request. */
  readonly connections: readonly string[];
  /** The book of each ended lane, in the vault. */
  readonly books: Readonly<Record<string, BlobRef>>;
  /** When the request ended, virtual epoch milliseconds: the days count from here. */
  readonly endedAtMs: number;
  /** What started later is new activity, virtual epoch milliseconds: as a rule the end. */
  readonly onlyBeforeMs: number;
  /** Days after the end, ascending. */
  readonly days: readonly number[];
  readonly clock: Clock;
  /** Who asked for the erasure, and asks for what comes back; absent: the request does not say. */
  readonly requestedBy?: string;
  /** What a webhook says of the ended request when a look is given up; absent: none is sent. */
  readonly flagged?: Pick<WebhookBody, 'workflowId' | 'status' | 'due'>;
}

/** The latest try of one look at one connection, as the status shows it. */
export interface LookNote {
  readonly connection: string;
  /** Number of the look, from 1. */
  readonly look: number;
  /** Virtual epoch milliseconds. */
  readonly atMs: number;
  readonly answer: LookAnswerKind;
  /** What it showed or why it proved nothing; null: nothing to say. */
  readonly why: string | null;
  /** The new request that erases what it found, or null. */
  readonly request: string | null;
}

/** Everything a watch is, as data: it survives continue-as-new as it stands. */
export interface WatchState {
  /** Index into the days. */
  readonly look: number;
  /** Connections whose look is still to be made; null: the look has not begun. */
  readonly open: readonly string[] | null;
  /** Tries of the current look so far. */
  readonly tries: number;
  readonly nextTryAtMs: number | null;
  /** Requests that were started because of what was found. */
  readonly reopened: readonly string[];
  /** How often a new request was asked for; numbers the next one. */
  readonly asked: number;
  readonly notes: readonly LookNote[];
}

/** What `WATCH_MEMO` holds and the query `status` of a watch answers. */
export interface WatchStatus {
  readonly requestId: string;
  /** When it looks next, ISO 8601 in UTC on the virtual clock; null after the last look. */
  readonly nextLookAt: string | null;
  readonly notes: readonly LookNote[];
}

export interface LookInput extends StepInput {
  readonly book: BlobRef;
  readonly onlyBeforeMs: number;
  /** Number of the look, from 1, and of its try, from 1: both name the addendum, so that a repeat replaces it. */
  readonly look: number;
  readonly attempt: number;
  /** When the look was due, virtual epoch milliseconds. */
  readonly dueAtMs: number;
}

export interface LookAnswer {
  readonly kind: Exclude<LookAnswerKind, 'trouble' | 'failed'>;
  readonly atMs: number;
  readonly why: string | null;
  /** The ids to be erased again, in the vault; null when there are none. */
  readonly found: BlobRef | null;
  /** What started later counted as new activity, virtual epoch milliseconds: nothing of it may be erased either. */
  readonly reachMs: number;
}

/** Activities of a watch on a connection's own queue. */
export interface LookActivities {
  lookAgain(input: LookInput): Promise<LookAnswer | Trouble>;
}

export interface ReopenInput {
  readonly requestId: string;
  readonly subject: readonly Identifier[];
  readonly look: number;
  readonly attempt: number;
  /** Numbers the new request. */
  readonly number: number;
  /** What was found, by connection. */
  readonly found: Readonly<Record<string, BlobRef>>;
  readonly onlyBeforeMs: number;
  /** See `WatchInput`. */
  readonly requestedBy?: string;
  /** When it was found, virtual epoch milliseconds: the receipt of the new request. */
  readonly receivedAtMs: number;
}

export type ReopenAnswer =
  /** `joined`: a try before this one had started it. */
  | { readonly kind: 'started'; readonly requestId: string; readonly joined: boolean }
  /** Another request of this person is open and stands in the way. */
  | { readonly kind: 'conflict'; readonly requestId: string; readonly text: string }
  /** It could not be asked for, for instance because its connection is not configured any more. */
  | { readonly kind: 'refused'; readonly text: string };

export interface RecordLookInput {
  readonly requestId: string;
  readonly connection: string;
  readonly look: number;
  readonly attempt: number;
  readonly dueAtMs: number;
  readonly answer: 'trouble' | 'failed';
  readonly why: string;
}

/** Activities of a watch on the request queue. */
export interface WatchActivities {
  /** Starts a new request for what was found, and says so in the record. Repeating it starts nothing twice. */
  reopen(input: ReopenInput): Promise<ReopenAnswer>;
  /** Records a look that no activity of the connection could record itself, or that is given up. */
  recordLook(input: RecordLookInput): Promise<void>;
}

/** About three days of tries: 1 minute, doubling, at most 6 hours. */
export const MOST_LOOK_TRIES = 20;

export function newWatch(): WatchState {
  return { look: 0, open: null, tries: 0, nextTryAtMs: null, reopened: [], asked: 0, notes: [] };
}

/** The state with the latest word about one look at one connection. */
export function noted(state: WatchState, note: LookNote): WatchState {
  const others = state.notes.filter(({ connection, look }) => connection !== note.connection || look !== note.look);
  return { ...state, notes: [...others, note] };
}

/** Looks that were given up, of connections of which no later look has said anything. */
export function givenUp(notes: readonly LookNote[]): readonly LookNote[] {
  const latest = new Map<string, LookNote>();
  for (const note of notes) {
    if (note.answer === 'trouble' || note.answer === 'inconclusive') continue;
    if (note.look >= (latest.get(note.connection)?.look ?? 0)) latest.set(note.connection, note);
  }
  return [...latest.values()].filter(({ answer }) => answer === 'failed');
}

const LONGEST_REQUEST_ID = 64;

/**
 * The id of the request that erases what came back. Where it would grow too long, what is cut off is told by a mark.
 *
 * @param number 1 for the first one that a request's watch starts.
 */
export function reopenedId(requestId: string, number: number): string {
  const suffix = `-again-${number}`;
  if (requestId.length + suffix.length <= LONGEST_REQUEST_ID) return `${requestId}${suffix}`;
  const mark = `-${fingerprint(requestId)}`;
  return `${requestId.slice(0, LONGEST_REQUEST_ID - mark.length - suffix.length)}${mark}${suffix}`;
}

/** FNV-1a, 32 bits: tells ids with a common beginning apart, and protects nothing. */
function fingerprint(text: string): string {
  let hash = 2_166_136_261;
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  return hash.toString(16).padStart(8, '0');
}
