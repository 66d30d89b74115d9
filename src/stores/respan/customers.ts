import { z } from 'zod';
import type { output } from 'zod';
import { HOUR_MS } from '../../erasure/rhythm.ts';
import type { Tally } from '../api.ts';
import type { HttpAnswer } from '../http.ts';
import { StoreError } from '../port.ts';
import type { LooseRow, PersonValue } from '../port.ts';
import { unique } from '../rows.ts';
import type { RespanApi } from './api.ts';
import { pathSegment } from './filters.ts';
import { customerSchema, customersSchema } from './schemas.ts';
import { Together } from './shared.ts';
import { CUSTOMER_RECORD, PAGE_SIZE } from './traits.ts';

const TEMPLATE = '/api/users/{customer_identifier}/';
const LIST = '/api/users/list/';
/** Customers looked through for one whose record shows that the route works. */
const SAMPLE = 20;
/** How long it is remembered that a list is longer than what it would spare, virtual milliseconds. */
const TOO_LONG_MS = HOUR_MS;

/** Whose records somebody asks for, and customers of others whose records the list must show to be believed. */
interface Wanted {
  readonly tally: Tally;
  readonly identifiers: readonly string[];
  readonly others: readonly string[];
}

/** Thrown when a list takes more calls than asking for each record. */
class TooLong extends Error {}

/**
 * The store's records of customers, one per environment. Each is read and deleted by its identifier in the path, never by
 * a filter.
 */
export class Customers {
  readonly #api: RespanApi;
  readonly #listed = new Together<Wanted, ReadonlySet<string> | null>((tally, environment, wanted) =>
    this.#list(tally, environment, wanted),
  );
  /** By environment, for how many records wanted its list was longer than what it would have spared. */
  readonly #tooLong = new Map<string, { readonly untilMs: number; readonly most: number }>();

  /** Environments in which a record was taken to be missing because the call by its identifier said so. */
  readonly #missed = new Set<string>();

  constructor(api: RespanApi) {
    this.#api = api;
  }

  /** Whether a search relied on the answer that there is no record of some identifier, and not on the whole list. */
  reliedOnMissing(environment: string): boolean {
    return this.#missed.has(environment);
  }

  /**
   * Records under the spellings of a person: by one list for all who ask in the same moment, or each by its identifier.
   * One whose identifier can't stand in a path is said to be there: nothing shows that it is not.
   *
   * @param others customers of others with live logs in this environment.
   */
  async of(
    tally: Tally,
    environment: string,
    values: readonly PersonValue[],
    others: readonly string[],
  ): Promise<LooseRow[]> {
    const identifiers = values.map(({ text }) => text).filter((text) => pathSegment(text) !== null);
    const listed =
      identifiers.length === 0 ? null : await this.#listed.ask(environment, { tally, identifiers, others });
    const found: LooseRow[] = [];
    for (const value of values) {
      const { text } = value;
      const there =
        pathSegment(text) === null ||
        (listed === null ? await this.isThere(tally, environment, text) : listed.has(text));
      if (!there && listed === null) this.#missed.add(environment);
      if (there) found.push({ kind: CUSTOMER_RECORD, id: recordId(environment, text), persons: [value] });
    }
    return found;
  }

  /**
   * Every customer with a record, where that takes fewer calls than to ask for each of those wanted; else null. Null as
   * well when the list leaves out a customer of whom there are logs: it may have bounds of its own, and proves nothing.
   */
  async #list(tally: Tally, environment: string, wanted: readonly Wanted[]): Promise<ReadonlySet<string> | null> {
    const count = unique(wanted.flatMap(({ identifiers }) => identifiers)).length;
    const others = unique(wanted.flatMap((one) => one.others));
    if (others.length === 0) return null;
    const all = await this.all(tally, environment, count);
    return all !== null && others.every((other) => all.has(other)) ? all : null;
  }

  /**
   * Every customer with a record, or null when that takes more than a page and as many calls as `most` or more.
   *
   * @throws StoreError
   */
  async all(tally: Tally, environment: string, most: number): Promise<ReadonlySet<string> | null> {
    const tooLong = this.#tooLong.get(environment);
    if (tooLong !== undefined && tooLong.untilMs > this.#api.nowMs() && most <= tooLong.most) return null;
    let calls = 0;
    try {
      const customers = await this.#api.pages(
        tally,
        `POST ${LIST}`,
        async (cursor) => {
          calls += 1;
          if (calls > 1 && calls >= most) throw new TooLong();
          const page = Number(cursor ?? '1');
          const { results, next } = await this.#page(tally, environment, page, PAGE_SIZE);
          // A second page means two passes (P28).
          if (next !== null && 2 * (page + 1) >= most) throw new TooLong();
          return { rows: results, next: next === null || results.length === 0 ? null : String(page + 1) };
        },
        ({ customer_identifier: identifier }) => String(identifier),
        true,
      );
      return new Set(customers.map(({ customer_identifier: identifier }) => String(identifier)));
    } catch (error) {
      if (!(error instanceof TooLong)) throw error;
      this.#tooLong.set(environment, { untilMs: this.#api.nowMs() + TOO_LONG_MS, most });
      return null;
    }
  }

  #page(tally: Tally, environment: string, page: number, size: number): Promise<output<typeof customersSchema>> {
    return this.#api.call(
      tally,
      {
        method: 'POST',
        path: LIST,
        query: [...at(environment), ['page', String(page)], ['page_size', String(size)]],
        body: {},
        shape: 'any',
      },
      customersSchema,
    );
  }

  /** @throws StoreError `contract-broken` when the record of another customer comes back. */
  async isThere(tally: Tally, environment: string, identifier: string): Promise<boolean> {
    const segment = pathSegment(identifier);
    if (segment === null) return true;
    try {
      const customer = await this.#api.call(
        tally,
        { method: 'GET', path: `/api/users/${segment}/`, template: TEMPLATE, query: at(environment), shape: 'any' },
        customerSchema,
      );
      const found = String(customer.customer_identifier);
      if (found === identifier) return true;
      // Under another spelling it may be somebody else's (P15).
      if (plain(found) === plain(identifier)) return false;
    } catch (error) {
      if (error instanceof StoreError && error.reason === 'gone' && error.status === 404) return false;
      throw error;
    }
    throw this.#api.broken(tally, `GET ${TEMPLATE}`, 'the record of another customer came back');
  }

  /**
   * Whether a 404 for a record can be believed: a record that the list shows is found by its identifier, too. With an empty
   * list there is none to show it with, and none that could be left.
   */
  async areReadable(tally: Tally, environment: string): Promise<boolean> {
    const { results } = await this.#page(tally, environment, 1, SAMPLE);
    if (results.length === 0) return true;
    for (const { customer_identifier: identifier } of results) {
      const text = String(identifier);
      if (pathSegment(text) !== null && (await this.isThere(tally, environment, text))) return true;
    }
    return false;
  }

  /**
   * Deletes one record, which was just read and carries exactly this identifier.
   *
   * @returns the answer; null when there was nothing to delete, or no call can name it.
   */
  async erase(
    tally: Tally,
    environment: string,
    identifier: string,
    lastWord: () => Promise<void>,
  ): Promise<HttpAnswer | null> {
    const segment = pathSegment(identifier);
    if (segment === null) return null;
    try {
      return await this.#api.send(tally, {
        method: 'DELETE',
        path: `/api/users/${segment}/`,
        template: TEMPLATE,
        query: at(environment),
        shape: 'any',
        read: false,
        lastWord,
      });
    } catch (error) {
      // Somebody else was faster.
      if (!(error instanceof StoreError) || error.reason !== 'gone') throw error;
      return null;
    }
  }
}

function at(environment: string): [string, string][] {
  return [['environment', environment]];
}

function recordId(environment: string, identifier: string): string {
  return JSON.stringify([environment, identifier]);
}

const pairSchema = z.tuple([z.string(), z.string()]);

/** What `recordId` and `logId` were made of. @throws when the text was made by neither. */
export function partsOf(copyId: string): readonly [string, string] {
  return pairSchema.parse(JSON.parse(copyId));
}

/** The id of a log without a trace, as a copy. */
export function logId(environment: string, uniqueId: string): string {
  return JSON.stringify([environment, uniqueId]);
}

/** Two identifiers that a store may take for the same. */
export function plain(text: string): string {
  return text.normalize('NFKC').trim().toLowerCase();
}
