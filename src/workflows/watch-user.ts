import {
  condition,
  defineQuery,
  makeContinueAsNewFunc,
  ParentClosePolicy,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  startChild,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import {
  givenUp,
  MOST_LOOK_TRIES,
  newWatch,
  noted,
  WATCH_MEMO,
  watchIdOf,
  type LookActivities,
  type LookAnswer,
  type ReopenAnswer,
  type WatchActivities,
  type WatchInput,
  type WatchState,
  type WatchStatus,
} from '../erasure/aftercare.ts';
import { realSpanMs, virtualAt } from '../erasure/clock.ts';
import { NOTIFY_WORKFLOW, type NotifyInput } from '../erasure/events.ts';
import { formatInstant } from '../erasure/format.ts';
import { connectionTaskQueue } from '../erasure/memo.ts';
import { DAY_MS, probeDelayMs } from '../erasure/rhythm.ts';
import type { BlobRef, Trouble } from '../erasure/steps.ts';
import { LetheBlocked, LetheNextCheckAt, LetheRequestId } from '../temporal/search-attributes.ts';
import { failureAsTrouble, STEP_OPTIONS } from './lane.ts';

/** Where a watch stands. Needs a worker; without one read the memo `letheWatch`. */
const watchStatusQuery = defineQuery<WatchStatus>('status');

/**
 * Looks again for a person's traces some days after the request has ended, and starts a new request for what came back.
 * What is found, and what could not be looked at, becomes an addendum to the record.
 *
 * @param carried what the run before this one had reached; absent in the first run.
 * @returns the status after the last look.
 */
export async function watchUser(input: WatchInput, carried?: WatchState): Promise<WatchStatus> {
  return new WatchUser(input, carried).run();
}

const NOTHING_KNOWN = 'nothing is known of this connection since the look before';

interface Looked {
  readonly connection: string;
  readonly answer: LookAnswer | Trouble;
}

interface Unassigned {
  /** By connection, for the record. */
  readonly why: ReadonlyMap<string, string>;
  /** When asking again may help, virtual epoch milliseconds; 0: at any time. */
  readonly notBeforeMs: number;
}

class WatchUser {
  private readonly input: WatchInput;
  private state: WatchState;
  private published = '';

  constructor(input: WatchInput, carried: WatchState | undefined) {
    this.input = input;
    this.state = carried ?? newWatch();
    setHandler(watchStatusQuery, () => this.status(), { description: 'When it looks next, and what it saw' });
  }

  async run(): Promise<WatchStatus> {
    while (this.state.look < this.input.days.length) {
      if (workflowInfo().continueAsNewSuggested) return this.continueAsNew();
      const { state } = this;
      if (state.open === null) {
        await this.until(this.dueAtMs(), `look ${state.look + 1} of ${this.input.days.length}`);
        this.state = { ...state, open: this.input.connections.filter((name) => name in this.input.books) };
      } else if (state.open.length === 0) {
        this.state = { ...state, look: state.look + 1, open: null, tries: 0, nextTryAtMs: null };
      } else {
        if (state.nextTryAtMs !== null) await this.until(state.nextTryAtMs, `look ${state.look + 1}, once more`);
        await this.tryLook(state.open);
      }
    }
    this.publish();
    return this.status();
  }

  /** One try of the current look, in every connection that still owes an answer. */
  private async tryLook(open: readonly string[]): Promise<void> {
    const attempt = this.state.tries + 1;
    this.publish();
    const looked = await Promise.all(
      open.map(async (connection): Promise<Looked> => ({ connection, answer: await this.look(connection, attempt) })),
    );
    /** Why a connection still owes an answer. */
    const owing = new Map<string, string>();
    let notBeforeMs = 0;
    for (const { connection, answer } of looked) {
      const { kind, atMs } = answer;
      const why = kind === 'trouble' ? answer.text : answer.why;
      this.note(connection, { atMs, answer: kind, why });
      if (kind === 'trouble') notBeforeMs = Math.max(notBeforeMs, answer.notBeforeMs ?? 0);
      if (kind === 'trouble' || kind === 'inconclusive') owing.set(connection, NOTHING_KNOWN);
    }
    const unassigned = await this.reopen(looked, attempt);
    for (const [connection, text] of unassigned.why) owing.set(connection, text);
    notBeforeMs = Math.max(notBeforeMs, unassigned.notBeforeMs);

    if (attempt >= MOST_LOOK_TRIES) await this.giveUp(owing, attempt);
    const left = attempt >= MOST_LOOK_TRIES ? [] : open.filter((connection) => owing.has(connection));
    const pause = probeDelayMs(attempt - 1, Math.random());
    this.state = {
      ...this.state,
      open: left,
      tries: attempt,
      nextTryAtMs: left.length === 0 ? null : Math.max(notBeforeMs, this.now() + pause),
    };
    this.publish();
  }

  private async look(connection: string, attempt: number): Promise<LookAnswer | Trouble> {
    const { input, state } = this;
    const number = state.look + 1;
    const { lookAgain } = proxyActivities<LookActivities>({
      ...STEP_OPTIONS,
      taskQueue: connectionTaskQueue(workflowInfo().taskQueue, connection),
      summary: `${connection} · look ${number} of ${input.days.length} after the end`,
    });
    try {
      return await lookAgain({
        requestId: input.requestId,
        connection,
        step: number,
        subject: input.subject,
        book: input.books[connection] as BlobRef,
        onlyBeforeMs: input.onlyBeforeMs,
        look: number,
        attempt,
        dueAtMs: this.dueAtMs(),
      });
    } catch (error) {
      const trouble = failureAsTrouble(error, input.clock);
      await this.record(connection, attempt, 'trouble', trouble.text);
      return trouble;
    }
  }

  /** @returns connections in which something came back that no request was started for, why not, and until when. */
  private async reopen(looked: readonly Looked[], attempt: number): Promise<Unassigned> {
    const found: Record<string, BlobRef> = {};
    let receivedAtMs = 0;
    let { onlyBeforeMs } = this.input;
    for (const { connection, answer } of looked) {
      if (answer.kind === 'trouble' || answer.found === null) continue;
      found[connection] = answer.found;
      onlyBeforeMs = Math.min(onlyBeforeMs, answer.reachMs);
      receivedAtMs = Math.max(receivedAtMs, answer.atMs);
    }
    const concerned = Object.keys(found);
    if (concerned.length === 0) return { why: new Map(), notBeforeMs: 0 };
    const because = (text: string, notBeforeMs = 0): Unassigned => ({
      why: new Map(concerned.map((name) => [name, `data came back, and no request could be started for it: ${text}`])),
      notBeforeMs,
    });
    const { input } = this;
    const number = this.state.asked + 1;
    let answer: ReopenAnswer;
    try {
      answer = await requestActivities('start a request for what came back').reopen({
        requestId: input.requestId,
        subject: input.subject,
        look: this.state.look + 1,
        attempt,
        number,
        found,
        onlyBeforeMs,
        ...(input.requestedBy === undefined ? {} : { requestedBy: input.requestedBy }),
        receivedAtMs,
      });
    } catch {
      // It may have been started all the same: the next one needs an id of its own, and finds it in its way.
      this.state = { ...this.state, asked: number };
      return because('it failed inside Lethe; the worker log has the error');
    }
    if (answer.kind === 'started') {
      this.state = { ...this.state, asked: number, reopened: [...this.state.reopened, answer.requestId] };
    } else if (answer.kind === 'refused' || !this.state.reopened.includes(answer.requestId)) {
      // What stands in the way needs its store's window, which is days away.
      return because(answer.text, answer.kind === 'conflict' ? this.now() + DAY_MS : 0);
    }
    // Started now, or still at work since an earlier look.
    for (const connection of concerned) this.assign(connection, answer.requestId);
    return { why: new Map(), notBeforeMs: 0 };
  }

  private async giveUp(owing: ReadonlyMap<string, string>, attempt: number): Promise<void> {
    for (const [connection, text] of owing) {
      const why = `given up after ${attempt} tries: ${text}`;
      this.note(connection, { atMs: this.now(), answer: 'failed', why });
      await this.record(connection, attempt + 1, 'failed', why);
      await this.tell(connection);
    }
  }

  /** Nobody waits for a watch: without a word, what came back would stay. */
  private async tell(connection: string): Promise<void> {
    const { flagged, requestId, clock } = this.input;
    if (flagged === undefined) return;
    const at = new Date(this.now()).toISOString();
    const body: NotifyInput['body'] = { event: 'flagged', requestId, ...flagged, connection, reason: 'aftercare', at };
    try {
      await startChild(NOTIFY_WORKFLOW, {
        workflowId: `${NOTIFY_WORKFLOW}-${watchIdOf(requestId)}-${this.state.look + 1}-${connection}`,
        args: [{ body, clock } satisfies NotifyInput],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        typedSearchAttributes: [{ key: LetheRequestId, value: requestId }],
        staticSummary: `tells that a look after the end of ${requestId} was given up`,
      });
    } catch {
      // Told already, or not at all: the record and the status have it either way.
    }
  }

  private async record(connection: string, attempt: number, answer: 'trouble' | 'failed', why: string): Promise<void> {
    const { recordLook } = requestActivities(`record a look that ${answer === 'failed' ? 'failed' : 'met trouble'}`);
    const { requestId } = this.input;
    try {
      await recordLook({
        requestId,
        connection,
        look: this.state.look + 1,
        attempt,
        dueAtMs: this.dueAtMs(),
        answer,
        why,
      });
    } catch {
      // The disk of the records is full or gone: the status still tells it, and the watch goes on.
    }
  }

  private note(connection: string, of: Pick<WatchState['notes'][number], 'atMs' | 'answer' | 'why'>): void {
    this.state = noted(this.state, { connection, look: this.state.look + 1, ...of, request: null });
  }

  private assign(connection: string, request: string): void {
    const { look } = this.state;
    const notes = this.state.notes.map((note) =>
      note.connection === connection && note.look === look + 1 ? { ...note, request } : note,
    );
    this.state = { ...this.state, notes };
  }

  private async until(atMs: number, what: string): Promise<void> {
    this.publish();
    const real = realSpanMs(this.input.clock, atMs - this.now());
    if (real > 0) await condition(() => false, real, { summary: `${what}, ${formatInstant(atMs)}` });
  }

  private dueAtMs(): number {
    return this.input.endedAtMs + (this.input.days[this.state.look] ?? 0) * DAY_MS;
  }

  private now(): number {
    return virtualAt(this.input.clock, Date.now());
  }

  private nextLookAtMs(): number | null {
    if (this.state.look >= this.input.days.length) return null;
    return this.state.nextTryAtMs ?? this.dueAtMs();
  }

  private status(): WatchStatus {
    const next = this.nextLookAtMs();
    return {
      requestId: this.input.requestId,
      nextLookAt: next === null ? null : new Date(next).toISOString(),
      notes: this.state.notes,
    };
  }

  /** Writes memo, search attributes and current details when they changed: every write is an event. */
  private publish(): void {
    const status = this.status();
    const text = JSON.stringify(status);
    if (text === this.published) return;
    this.published = text;
    upsertMemo({ [WATCH_MEMO]: status });
    const next = this.nextLookAtMs();
    const failing = status.notes.filter(({ look, answer }) => {
      return look === this.state.look + 1 && (answer === 'trouble' || answer === 'inconclusive');
    });
    const blocked = new Set([...givenUp(status.notes), ...failing].map(({ connection }) => connection));
    upsertSearchAttributes([
      { key: LetheNextCheckAt, value: next === null ? null : new Date(next) },
      { key: LetheBlocked, value: [...blocked] },
    ]);
    setCurrentDetails(details(status));
  }

  private async continueAsNew(): Promise<never> {
    const { memo, typedSearchAttributes } = workflowInfo();
    const next = makeContinueAsNewFunc<typeof watchUser>({
      ...(memo === undefined ? {} : { memo }),
      typedSearchAttributes,
    });
    return next(this.input, this.state);
  }
}

function requestActivities(summary: string): WatchActivities {
  return proxyActivities<WatchActivities>({
    startToCloseTimeout: '5 minutes',
    retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 5 },
    summary,
  });
}

/** A Markdown list, see `eraseUser`. */
function details({ nextLookAt, notes }: WatchStatus): string {
  const next = nextLookAt === null ? 'no look is left' : `looks next ${formatInstant(Date.parse(nextLookAt))}`;
  const lines = [`**watching**, ${next}`, ''];
  for (const { connection, look, atMs, answer, why, request } of notes) {
    const more = [why === null ? '' : `: ${why}`, request === null ? '' : `; request ${request} erases it`].join('');
    lines.push(`- look ${look}, ${connection}, ${formatInstant(atMs)}: ${answer}${more}`);
  }
  return lines.join('\n');
}
