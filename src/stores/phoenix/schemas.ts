import { z } from 'zod';
import { NumberText, parseJson } from '../http.ts';
import { THREAD_KIND, type PersonValue, type Row } from '../port.ts';
import { sortedByKind } from '../rows.ts';
import type { ValueAt } from '../values.ts';
import { instantOf, valuesIn } from '../values.ts';

/**
 * What this connector needs of each answer. Fields that the vendor adds are ignored; a missing or misshapen one that is
 * listed here makes the answer useless as a proof.
 */

const text = z.string().min(1);

export const projectsSchema = z.object({
  data: z.array(z.object({ id: text, name: z.string() })),
  next_cursor: z.string().nullable(),
});

export const restSpansSchema = z.object({
  data: z.array(
    z.object({
      context: z.object({ trace_id: text, span_id: text }),
      start_time: z.string().nullish(),
      /** Flat: `metadata.user_id`. */
      attributes: z.record(z.string(), z.unknown()),
    }),
  ),
  next_cursor: z.string().nullable(),
});

const pageInfo = z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() });

/** A span with its attributes as JSON text, nested. */
const span = z.object({ spanId: text, startTime: z.string().nullish(), attributes: z.string() });

/** One project of a search. */
export const projectSpansSchema = z.object({
  id: text,
  spans: z.object({
    edges: z.array(z.object({ node: span.extend({ trace: z.object({ traceId: text }) }) })),
    pageInfo,
  }),
});

export const filledProjectSchema = projectSpansSchema.extend({ traceCount: z.number() });

/** One trace with what hangs on it. */
export const traceSchema = z.object({
  id: text,
  traceId: text,
  project: z.object({ id: text }),
  session: z.object({ sessionId: z.string() }).nullable(),
  traceAnnotations: z.array(z.object({ id: text })),
  spans: z.object({
    edges: z.array(
      z.object({
        node: span.extend({
          containedInDataset: z.boolean(),
          spanAnnotations: z.array(z.object({ id: text })),
        }),
      }),
    ),
    pageInfo,
  }),
});
export type GraphTrace = z.output<typeof traceSchema>;

export const locatedSpanSchema = span.extend({ trace: z.object({ traceId: text, project: z.object({ id: text }) }) });

export const bareTraceSchema = z.object({ id: text, traceId: text, project: z.object({ id: text }) });

export const newestSchema = z.object({
  spans: z.object({ edges: z.array(z.object({ node: z.object({ trace: z.object({ id: text }) }) })) }),
});

export const deletedSchema = z.object({ deleteTraces: z.object({ __typename: z.string() }) });

export const viewerSchema = z.object({
  viewer: z.object({ role: z.object({ name: z.string() }) }).nullable(),
});

/** The configured attributes, and how spans tell them. */
export class Owners {
  readonly #keys: readonly { readonly kind: string; readonly key: string }[];

  /**
   * @param identifiers attributes by kind, as in the config.
   * @param threads attributes of conversations, as in the config: their values come as of kind `THREAD_KIND`.
   */
  constructor(identifiers: Readonly<Record<string, readonly string[]>>, threads: readonly string[] = []) {
    this.#keys = [...Object.entries(identifiers), [THREAD_KIND, threads] as const].flatMap(([kind, keys]) =>
      keys.map((key) => ({ kind, key })),
    );
  }

  /** Of attributes as REST tells them: every path is one name. */
  ofFlat(attributes: Readonly<Record<string, unknown>>): PersonValue[] {
    return this.#values((key) => {
      if (Object.hasOwn(attributes, key)) return [attributes[key]];
      const inside = Object.entries(attributes).filter(([name]) => name.startsWith(`${key}.`));
      // What lies below the attribute makes it an object.
      return inside.length === 0 ? [] : [Object.fromEntries(inside)];
    });
  }

  /**
   * Of attributes as GraphQL tells them: JSON text, nested.
   *
   * @returns null when it is no JSON object.
   */
  ofText(json: string): PersonValue[] | null {
    let attributes: unknown;
    try {
      attributes = parseJson(json);
    } catch {
      return null;
    }
    if (!isObject(attributes)) return null;
    const top = attributes;
    return this.#values((key) => at(top, key.split('.')));
  }

  #values(of: (key: string) => readonly unknown[]): PersonValue[] {
    const persons = new Map<string, PersonValue>();
    for (const { kind, key } of this.#keys) {
      for (const value of of(key).flatMap(valuesIn).map(whole)) {
        persons.set(JSON.stringify([kind, key, value.text, value.numeric, value.nested]), { kind, key, ...value });
      }
    }
    return [...persons.values()];
  }
}

/** The server's filters take `7.0` for `7`, and so does whoever wrote it. */
function whole(value: ValueAt): ValueAt {
  return value.numeric ? { ...value, text: value.text.replace(/^(-?\d+)\.0+$/, '$1') } : value;
}

/** A name may hold dots itself where the server could not nest it. */
function at(value: unknown, path: readonly string[]): readonly unknown[] {
  if (path.length === 0) return [value];
  if (!isObject(value)) return [];
  return path.flatMap((_segment, index) => {
    const name = path.slice(0, index + 1).join('.');
    return Object.hasOwn(value, name) ? at(value[name], path.slice(index + 1)) : [];
  });
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof NumberText);
}

export function rowOf(
  projectId: string,
  traceId: string,
  one: { readonly spanId: string; readonly startTime?: string | null | undefined },
  values: readonly PersonValue[],
  marks: { readonly inDataset?: boolean; readonly feedback?: boolean } = {},
): Row {
  return {
    projectId,
    traceId,
    runId: one.spanId,
    startMs: instantOf(one.startTime),
    ...sortedByKind(values),
    marks: { shared: false, queued: false, inDataset: marks.inDataset ?? false, feedback: marks.feedback ?? false },
  };
}
