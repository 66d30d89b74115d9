import { DAY_MS } from '../../erasure/rhythm.ts';
import type { Tally } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import type { KillSwitch } from '../kill-switch.ts';
import { partlyDone, StoreError } from '../port.ts';
import type { DeleteOrder, Receipt, Window } from '../port.ts';
import { instantOf } from '../values.ts';
import { numberIn, RefusedMatches } from './api.ts';
import type { RespanApi } from './api.ts';
import type { RespanConnection } from './config.ts';
import { bulkDeleteBody, pathSegment } from './filters.ts';
import type { DeletePace } from './delete-pace.ts';
import type { Lists, Scope } from './lists.ts';
import { scopeParams, TRACES_ROUTE } from './lists.ts';
import type { Trace } from './schemas.ts';
import { bulkDeleteSchema } from './schemas.ts';
import { MOST_AGE_MS, TooLate } from './shared.ts';
import { STORE_MATCH_GUARD } from './traits.ts';

const BULK_ROUTE = '/api/traces/bulk-delete/';
const ONE_TEMPLATE = '/api/traces/{trace_unique_id}/';

/**
 * An environment counts as large from so many traces on, beside those that this connection is deleting. The store
 * refuses a bulk delete that matches more than 1,000; the rest is room for what others take away meanwhile.
 */
const LARGE_ENVIRONMENT = STORE_MATCH_GUARD + 500;

/** So few traces cost hardly more one by one than together, and then nothing hangs on a filter. */
const FEW = 5;

/**
 * Traces that go one by one in one order: so many calls take two minutes at the store's rate, each is allowed by everybody
 * concerned, and an order that has to be begun anew costs no more. A larger one is refused before anything is sent, so that
 * it comes again in halves.
 */
const MOST_SINGLY = 100;

/** So often a delete is listed anew because its turn came too late after the list; then its step makes room for others. */
const MOST_LISTS = 5;

/** Around a trace's own span when it is deleted by a window of its own. */
const SLACK_MS = 1000;

export interface SubmitParts {
  readonly api: RespanApi;
  readonly config: RespanConnection;
  readonly lists: Lists;
  readonly killSwitch: KillSwitch;
  readonly pace: DeletePace;
  /** Real epoch milliseconds. */
  readonly realNowMs: () => number;
}

/** What a list showed just before a delete. */
interface Listed {
  readonly traces: readonly Trace[];
  /** When it had been read to its end, real epoch milliseconds. */
  readonly atMs: number;
}

/**
 * Deletes exactly the traces of the order, in one environment, with explicit bounds of time.
 *
 * This store drops filter keys that it does not know, in its bulk delete too, and what is gone is gone. Before a bulk
 * delete the very same filter, range and environment is listed to the end and must bring nothing but ids of the order
 * (P19). A call may wait minutes for its turn: what was listed longer than two of them ago is listed again, before a single
 * delete too. None of it shows anything about the moment after. So a bulk delete only leaves where a filter dropped right
 * then would do nothing to anybody else:
 *
 * - in an environment of well over 1,000 traces, over all time: without its filter the call would match them all, and more
 *   than 1,000 matches are refused as a whole by the store itself (docs, "bulk delete traces");
 * - in a range of time so narrow that no other trace lies in it.
 *
 * Everywhere else, and for a few traces anywhere, each goes by the call that has its id in the path and no filter to lose.
 * An id that can't stand in a path, or that another environment uses too, is refused where neither way is open.
 *
 * @throws StoreError; after `unreachable` it is not known whether the request arrived. `rejected` with the kill switch
 *   tripped when more matched or was deleted than was sent.
 */
export async function submitDelete(parts: SubmitParts, order: DeleteOrder): Promise<Receipt> {
  const { api, lists, pace } = parts;
  const tally = api.tally(order.progress);
  const ids = order.traces.map(({ traceId }) => traceId);
  const scope: Scope = { environment: order.projectId, window: lists.allTime() };
  const end = pace.begin(order.projectId, ids.length);
  const sender = new Sender(parts, tally, order);
  try {
    // Whether the environment is large may have changed as well while the turn was waited for.
    await inTime(async () => {
      if (ids.length <= FEW || !(await isLarge(parts, tally, scope))) {
        assertFew(ids);
        await sender.oneByOne(ids, scope, await sender.listed(ids, scope));
        return;
      }
      const listed = await sender.listed(ids, scope);
      // Of some the traces list may show nothing while their spans are still there: the bulk delete matches what it shows.
      const there = new Set(listed.traces.map((trace) => trace.trace_unique_id));
      const hidden = ids.filter((id) => !there.has(id));
      assertFew(hidden);
      if (there.size > 0) await sender.bulk(ids, scope, listed);
      await sender.oneByOne(hidden, scope, listed);
    });
    return sender.receipt();
  } catch (error) {
    throw sender.acknowledged ? partlyDone(error) : error;
  } finally {
    end(sender.sent);
  }
}

/**
 * Whether a bulk delete without its filter would match more than the store deletes, even when everything has vanished that
 * this connection is deleting, this order included: another one that leaves meanwhile counts on it.
 */
async function isLarge({ config, lists, pace }: SubmitParts, tally: Tally, scope: Scope): Promise<boolean> {
  const { environment } = scope;
  const least = LARGE_ENVIRONMENT + pace.underWay(environment);
  if (config.maxWindow !== undefined || pace.hasFewer(environment, least)) return false;
  if (await lists.hasTraces(tally, scope, least)) return true;
  pace.noteFewer(environment, least);
  return false;
}

/**
 * Lists and deletes, anew as often as the list is too old when the turn of the delete has come.
 *
 * @throws StoreError `throttled` when the turns keep coming too late: the lane comes back later.
 */
async function inTime(listAndDelete: () => Promise<void>): Promise<void> {
  for (let lists = 0; lists < MOST_LISTS; lists += 1) {
    try {
      await listAndDelete();
      return;
    } catch (error) {
      if (!(error instanceof TooLate)) throw error;
    }
  }
  throw new StoreError({
    reason: 'throttled',
    route: 'delete',
    status: null,
    requestId: null,
    advice: 'the turn of a delete kept coming so late that what was read before it was too old; goes on by itself',
  });
}

/** @throws StoreError `rejected` */
function assertFew(ids: readonly string[]): void {
  if (ids.length <= MOST_SINGLY) return;
  throw new StoreError({
    reason: 'rejected',
    route: `DELETE ${ONE_TEMPLATE}`,
    status: null,
    requestId: null,
    advice: `more than ${MOST_SINGLY} traces would have to be deleted one by one; nothing was sent, smaller parts are`,
  });
}

class Sender {
  readonly #parts: SubmitParts;
  readonly #tally: Tally;
  readonly #order: DeleteOrder;
  readonly #answers: HttpAnswer[] = [];
  readonly #refused: string[] = [];
  /** Ids that an acknowledged call named, whatever the lists show of them. */
  readonly #named = new Set<string>();
  #counted = 0;
  #refusal: StoreError | null = null;
  #allowed = false;
  /** When the traces were, as far as seen. */
  readonly #ranges = new Map<string, Window>();

  constructor(parts: SubmitParts, tally: Tally, order: DeleteOrder) {
    this.#parts = parts;
    this.#tally = tally;
    this.#order = order;
  }

  /** Whether any delete may have left. */
  get sent(): boolean {
    return this.#allowed;
  }

  /** Whether the store has taken any delete. */
  get acknowledged(): boolean {
    return this.#answers.length > 0;
  }

  /**
   * The last thing before a delete leaves, which must not be long after the list that it relies on.
   *
   * @throws TooLate when it is.
   */
  #lastWord({ atMs }: Listed): () => Promise<void> {
    const isOld = (): boolean => this.#parts.realNowMs() - atMs > MOST_AGE_MS;
    return async () => {
      // The turn may have been waited for, and so may the word itself.
      if (isOld()) throw new TooLate();
      await this.#order.lastWord();
      if (isOld()) {
        this.#order.notSent?.();
        throw new TooLate();
      }
      this.#allowed = true;
    };
  }

  /**
   * The traces that a filter on these ids shows now.
   *
   * @throws StoreError `rejected`, with the kill switch tripped, when it shows any other.
   */
  async listed(ids: readonly string[], scope: Scope): Promise<Listed> {
    const traces = await this.#parts.lists.traces(this.#tally, {
      ...scope,
      narrow: { field: 'trace_unique_id', values: ids },
      strange: () =>
        this.#stop(
          `POST ${TRACES_ROUTE}`,
          'the list that is read before a delete showed traces that were not asked for',
          'nothing was deleted',
        ),
    });
    for (const { trace_unique_id: id, start_time: start, end_time: end } of traces) {
      this.#note(id, instantOf(start), instantOf(end));
    }
    return { traces, atMs: this.#parts.realNowMs() };
  }

  #note(id: string, ...instants: readonly (number | null)[]): void {
    const known = instants.filter((at) => at !== null);
    const range = this.#ranges.get(id);
    if (range !== undefined) known.push(range.fromMs, range.toMs);
    if (known.length > 0) this.#ranges.set(id, { fromMs: Math.min(...known), toMs: Math.max(...known) });
  }

  /**
   * Just after `listed` with the same ids and scope.
   *
   * @throws TooLate, and nothing has left, when it is not just after.
   */
  async bulk(ids: readonly string[], scope: Scope, listed: Listed): Promise<void> {
    const { api } = this.#parts;
    const call = {
      method: 'POST',
      path: BULK_ROUTE,
      query: scopeParams(scope),
      body: bulkDeleteBody(ids),
      shape: 'any',
      read: false,
      lastWord: this.#lastWord(listed),
    } as const;
    try {
      const { data, answer } = await api.answer(this.#tally, call, bulkDeleteSchema);
      this.#answers.push(answer);
      for (const id of ids) this.#named.add(id);
      this.#count(answer, Math.max(data.deleted_count, numberIn(answer.json, 'matched_count') ?? 0), ids.length);
    } catch (error) {
      if (error instanceof RefusedMatches && error.matched > ids.length) {
        throw this.#stop(
          error.route,
          'a bulk delete would have matched more traces than were named in it',
          'the store refused it; nothing was deleted',
        );
      }
      throw error;
    }
  }

  /**
   * Each by the call with its id in the path. Ids that other environments use too are left out: it names none.
   *
   * @param listed a list of at least these ids, in this scope.
   */
  async oneByOne(ids: readonly string[], scope: Scope, listed: Listed): Promise<void> {
    if (ids.length === 0) return;
    let elsewhere = await this.#inOtherEnvironments(ids);
    if (this.#parts.config.maxWindow !== undefined) await this.#spansOf(ids);
    let latest = listed;
    for (const [at, id] of ids.entries()) {
      let tries = 0;
      await inTime(async () => {
        tries += 1;
        if (tries > 1) {
          elsewhere = await this.#inOtherEnvironments(ids.slice(at));
          // Last of all, as its age is what counts.
          latest = await this.listed(ids.slice(at), scope);
        }
        const segment = elsewhere.has(id) ? null : pathSegment(id);
        try {
          await (segment === null ? this.#inItsOwnRange(id) : this.#one(segment, this.#rangeFor(id), latest));
        } catch (error) {
          if (!(error instanceof StoreError) || error.reason !== 'rejected') throw error;
          // Said to be refused, it would count as never sent.
          if (this.#parts.killSwitch.tripped !== null || this.#named.has(id)) throw error;
          this.#refused.push(id);
          this.#refusal ??= error;
        }
      });
    }
  }

  /** A store that takes no wide ranges takes the trace's own, a day wider on both sides; all others all time. */
  #rangeFor(id: string): Window {
    const { config, lists } = this.#parts;
    const range = this.#ranges.get(id);
    if (config.maxWindow === undefined || range === undefined) return lists.allTime();
    return { fromMs: range.fromMs - DAY_MS, toMs: range.toMs + DAY_MS };
  }

  async #spansOf(ids: readonly string[]): Promise<void> {
    const { lists } = this.#parts;
    const logs = await lists.logs(this.#tally, {
      environment: this.#order.projectId,
      window: lists.allTime(),
      narrow: { field: 'trace_unique_id', values: ids },
    });
    for (const { trace_unique_id: id, start_time: start, timestamp } of logs) {
      if (id !== null) this.#note(id, instantOf(start), instantOf(timestamp));
    }
  }

  async #one(segment: string, window: Window, listed: Listed): Promise<void> {
    const { api } = this.#parts;
    const answer = await api.send(this.#tally, {
      method: 'DELETE',
      path: `/api/traces/${segment}/`,
      template: ONE_TEMPLATE,
      query: scopeParams({ environment: this.#order.projectId, window }),
      shape: 'any',
      read: false,
      lastWord: this.#lastWord(listed),
    });
    this.#answers.push(answer);
    this.#count(
      answer,
      Math.max(...['deleted_count', 'matched_count'].map((name) => numberIn(answer.json, name) ?? 0)),
      1,
    );
  }

  /** A bulk delete of one trace in a range of time that holds no other. */
  async #inItsOwnRange(id: string): Promise<void> {
    const { lists } = this.#parts;
    const environment = this.#order.projectId;
    const range = this.#ranges.get(id);
    if (range !== undefined && range.toMs - range.fromMs < DAY_MS) {
      const scope = { environment, window: { fromMs: range.fromMs - SLACK_MS, toMs: range.toMs + SLACK_MS } };
      // In both tables: spans may be there before their trace is.
      const traces = await lists.traces(this.#tally, { ...scope, narrow: null });
      const spans = await lists.logs(this.#tally, { ...scope, narrow: null });
      const alone =
        traces.every((one) => one.trace_unique_id === id) &&
        spans.every((one) => one.trace_unique_id === id || one.trace_unique_id === null);
      const listed = alone ? await this.listed([id], scope) : null;
      if (listed?.traces.length === 1) {
        await this.bulk([id], scope, listed);
        return;
      }
    }
    throw new StoreError({
      reason: 'rejected',
      route: `POST ${BULK_ROUTE}`,
      status: null,
      requestId: null,
      advice:
        'a trace has an id that no path can name safely, or that another environment uses too, and other traces lie in the same seconds: it was not deleted, as a dropped filter would take them along. Delete it by hand',
    });
  }

  async #inOtherEnvironments(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const { config, lists } = this.#parts;
    const found = new Set<string>();
    for (const environment of config.environments) {
      if (environment === this.#order.projectId) continue;
      const traces = await lists.traces(this.#tally, {
        environment,
        window: lists.allTime(),
        narrow: { field: 'trace_unique_id', values: ids },
      });
      for (const trace of traces) found.add(trace.trace_unique_id);
    }
    return found;
  }

  #count(answer: HttpAnswer, counted: number, sent: number): void {
    this.#counted += counted;
    if (counted <= sent) return;
    throw this.#stop(
      answer.route,
      'an answer to a delete counted more traces than were named in it',
      'traces of others may be gone: look at the store at once',
    );
  }

  #stop(route: string, why: string, what: string): StoreError {
    this.#parts.killSwitch.trip(why);
    return new StoreError({
      reason: 'rejected',
      route,
      status: null,
      requestId: this.#tally.requestIds.at(-1) ?? null,
      advice: `${why}; ${what}. Deletes of this connection are switched off until somebody allows them again`,
    });
  }

  receipt(): Receipt {
    const first = this.#answers[0];
    const last = this.#answers.at(-1);
    if (first === undefined || last === undefined) {
      throw (
        this.#refusal ??
        new StoreError({
          reason: 'rejected',
          route: `POST ${BULK_ROUTE}`,
          status: null,
          requestId: null,
          advice: 'nothing was there to be deleted any more; look again',
        })
      );
    }
    return {
      sentAtMs: first.sentAtMs,
      acknowledgedAtMs: last.receivedAtMs,
      route: last.route,
      status: last.status,
      requestId: last.requestId,
      counted: this.#counted,
      ...(this.#refused.length === 0 ? {} : { refused: this.#refused }),
    };
  }
}
