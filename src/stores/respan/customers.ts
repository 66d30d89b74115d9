import { z } from 'zod';
import type { Tally } from '../api.ts';
import { StoreError } from '../port.ts';
import type { LooseRow, PersonValue } from '../port.ts';
import type { RespanApi } from './api.ts';
import { pathSegment } from './filters.ts';
import { customerSchema, customersSchema } from './schemas.ts';
import { CUSTOMER_RECORD } from './traits.ts';

const TEMPLATE = '/api/users/{customer_identifier}/';
const LIST = '/api/users/list/';
/** Customers looked through for one whose record shows that the route works. */
const SAMPLE = 20;

/**
 * The store's records of customers, one per environment. Each is read and deleted by its identifier in the path, never by
 * a filter.
 */
export class Customers {
  readonly #api: RespanApi;

  constructor(api: RespanApi) {
    this.#api = api;
  }

  /**
   * Records under the spellings of a person. One whose identifier can't stand in a path is said to be there: nothing shows
   * that it is not.
   */
  async of(tally: Tally, environment: string, values: readonly PersonValue[]): Promise<LooseRow[]> {
    const found: LooseRow[] = [];
    for (const value of values) {
      const there = pathSegment(value.text) === null || (await this.isThere(tally, environment, value.text));
      if (there) found.push({ kind: CUSTOMER_RECORD, id: recordId(environment, value.text), persons: [value] });
    }
    return found;
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
    const { results } = await this.#api.call(
      tally,
      {
        method: 'POST',
        path: LIST,
        query: [...at(environment), ['page', '1'], ['page_size', String(SAMPLE)]],
        body: {},
        shape: 'any',
      },
      customersSchema,
    );
    if (results.length === 0) return true;
    for (const { customer_identifier: identifier } of results) {
      const text = String(identifier);
      if (pathSegment(text) !== null && (await this.isThere(tally, environment, text))) return true;
    }
    return false;
  }

  /** Deletes one record, which was just read and carries exactly this identifier. */
  async erase(tally: Tally, environment: string, identifier: string, lastWord: () => Promise<void>): Promise<void> {
    const segment = pathSegment(identifier);
    if (segment === null || !(await this.isThere(tally, environment, identifier))) return;
    try {
      await this.#api.send(tally, {
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

function plain(text: string): string {
  return text.normalize('NFKC').trim().toLowerCase();
}
