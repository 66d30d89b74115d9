import { z } from 'zod';
import type { Tally } from '../api.ts';
import type { Row } from '../port.ts';
import { keyOf } from '../rows.ts';
import type { PhoenixApi } from './api.ts';
import { GRAPHQL_ROUTE } from './api.ts';
import type { Owners } from './schemas.ts';
import { projectSpansSchema, restSpansSchema, rowOf } from './schemas.ts';
import { ID_PATTERN } from './traits.ts';

export const SPANS_PATH = '/v1/projects/{project}/spans';
const SPANS_ROUTE = `GET ${SPANS_PATH}`;

/** Projects of one GraphQL call: below the limit of aliases, and no answer of all too many pages. */
export const MOST_PROJECTS = 20;

/** Thrown when a bounded read would have gone on. */
export class Overflow extends Error {
  readonly rows: readonly Row[];
  constructor(rows: readonly Row[]) {
    super('more rows than wanted');
    this.rows = rows;
  }
}

/** Reads spans by questions, whole. */
export class Spans {
  readonly #api: PhoenixApi;
  readonly #owners: Owners;
  readonly pageSize: number;

  constructor(api: PhoenixApi, owners: Owners, pageSize: number) {
    this.#api = api;
    this.#owners = owners;
    this.pageSize = pageSize;
  }

  /**
   * By the filters of REST, which all have to fit.
   *
   * @throws Overflow after more than `most` rows.
   */
  async byRest(
    tally: Tally,
    projectId: string,
    filters: readonly (readonly [string, string])[],
    most = Number.POSITIVE_INFINITY,
  ): Promise<readonly Row[]> {
    const read: Row[] = [];
    return this.#api.pages(
      tally,
      SPANS_ROUTE,
      async (cursor) => {
        const query: (readonly [string, string])[] = [...filters, ['limit', String(this.pageSize)]];
        if (cursor !== null) query.push(['cursor', cursor]);
        const call = {
          method: 'GET',
          path: SPANS_PATH.replace('{project}', encodeURIComponent(projectId)),
          template: SPANS_PATH,
          query,
          shape: 'any',
        } as const;
        const page = await this.#api.call(tally, call, restSpansSchema);
        const rows = page.data.map(({ context, start_time: startTime, attributes }) =>
          rowOf(projectId, context.trace_id, { spanId: context.span_id, startTime }, this.#owners.ofFlat(attributes)),
        );
        read.push(...rows);
        if (read.length > most) throw new Overflow(read);
        return { rows, next: page.next_cursor };
      },
      keyOf,
    );
  }

  /**
   * By a condition, in several projects together, each page by page.
   *
   * @throws Overflow after more than `most` rows.
   */
  async byCondition(
    tally: Tally,
    projectIds: readonly string[],
    condition: string,
    most = Number.POSITIVE_INFINITY,
  ): Promise<readonly Row[]> {
    const found = new Map<string, Row>();
    let open = projectIds.map((id) => ({ id, after: null as string | null }));
    while (open.length > 0) {
      const next: typeof open = [];
      const asked = await this.page(tally, open, { condition, first: this.pageSize }, projectSpansSchema);
      for (const [index, { rows, after }] of asked.entries()) {
        for (const row of rows) found.set(keyOf(row), row);
        if (found.size > most) throw new Overflow([...found.values()]);
        const before = open[index];
        if (after === null || before === undefined) continue;
        if (after === before.after) throw this.#api.broken(tally, GRAPHQL_ROUTE, 'the paging token leads in a circle');
        next.push({ id: before.id, after });
      }
      open = next;
    }
    tally.rows += found.size;
    return [...found.values()];
  }

  /** One page of each project; `after` is null where it was the last. */
  async page<Schema extends typeof projectSpansSchema>(
    tally: Tally,
    places: readonly { readonly id: string; readonly after: string | null }[],
    { condition, first, newestFirst = false }: { condition: string; first: number; newestFirst?: boolean },
    schema: Schema,
  ): Promise<
    readonly { readonly rows: readonly Row[]; readonly after: string | null; readonly project: z.output<Schema> }[]
  > {
    const names = places.map((_place, index) => `p${index}`);
    const parameters = names.map((name) => `$${name}: ID!, $${name}after: String`).join(', ');
    const sort = newestFirst ? ', sort: {col: startTime, dir: desc}' : '';
    const counted = 'traceCount' in schema.shape ? 'traceCount ' : '';
    const fields = names.map(
      (name) =>
        `${name}: node(id: $${name}) { ... on Project { id ${counted}spans(first: $first, after: $${name}after, filterCondition: $condition${sort}) { edges { node { spanId startTime attributes trace { traceId } } } pageInfo { hasNextPage endCursor } } } }`,
    );
    const data = await this.#api.ask(
      tally,
      {
        query: `query Spans($first: Int!, $condition: String!, ${parameters}) { ${fields.join(' ')} }`,
        variables: {
          first,
          condition,
          ...Object.fromEntries(
            places.flatMap(({ id, after }, index) => [
              [`p${index}`, id],
              [`p${index}after`, after],
            ]),
          ),
        },
      },
      z.object(Object.fromEntries(names.map((name) => [name, schema]))),
    );
    return places.map(({ id }, index) => {
      const project = data[`p${index}`] as z.output<Schema>;
      if (project.id !== id)
        throw this.#api.broken(tally, GRAPHQL_ROUTE, 'another project came back than was asked for');
      const rows = project.spans.edges.map(({ node }) => this.row(tally, id, node.trace.traceId, node));
      const { hasNextPage, endCursor } = project.spans.pageInfo;
      if (hasNextPage && endCursor === null) {
        throw this.#api.broken(tally, GRAPHQL_ROUTE, 'a page that is not the last came without a cursor to the next');
      }
      return { rows, after: hasNextPage ? endCursor : null, project };
    });
  }

  /** A span as GraphQL shows it. */
  row(
    tally: Tally,
    projectId: string,
    traceId: string,
    one: { readonly spanId: string; readonly startTime?: string | null | undefined; readonly attributes: string },
    marks: { readonly inDataset?: boolean; readonly feedback?: boolean } = {},
  ): Row {
    const values = this.#owners.ofText(one.attributes);
    if (values === null) {
      throw this.#api.broken(tally, GRAPHQL_ROUTE, 'attributes came that are no JSON object; look for a newer release');
    }
    return rowOf(projectId, traceId, one, values, marks);
  }

  /** @throws StoreError for a row of the person's that no delete could name. */
  checkIds(tally: Tally, route: string, rows: readonly Row[]): void {
    if (rows.every(({ traceId, runId }) => ID_PATTERN.test(traceId) && ID_PATTERN.test(runId))) return;
    const advice =
      'a span of this person has an id that is not OpenTelemetry’s: delete its trace in Phoenix by hand, then try again';
    throw this.#api.broken(tally, route, advice);
  }
}
