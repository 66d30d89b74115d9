import type { CustomerRecord } from './customers.ts';
import type { Deletion, Submission } from './deletions.ts';
import { identifierText, textOf, VIEWS, type Environment, type SpanRow, type View } from './rows.ts';
import { metadataKey } from './state.ts';
import type { World } from './world.ts';

/** One identifier of a person: `customer_identifier`, `thread_identifier` or `metadata.<key>`, compared as text. */
export interface PersonEntry {
  readonly key: string;
  readonly value: unknown;
}

/** A span or log as a test may want to look at it. */
export type TruthSpan = Pick<
  SpanRow,
  | 'uniqueId'
  | 'environment'
  | 'traceId'
  | 'spanId'
  | 'parentId'
  | 'name'
  | 'startMs'
  | 'endMs'
  | 'customerIdentifier'
  | 'threadIdentifier'
  | 'metadata'
  | 'isPinned'
  | 'note'
>;

/** A person: any of these entries, or a judgement of single spans. */
export type Person = readonly PersonEntry[] | ((span: TruthSpan) => boolean);

/** A trace of which at least one span is in at least one table. */
export interface LiveTrace {
  readonly traceId: string;
  /** The environment. */
  readonly projectId: Environment;
  /** Live spans by table. */
  readonly spans: Readonly<Record<View, number>>;
  /** Whether its root is live in some table. */
  readonly rootLives: boolean;
}

/** A live log that belongs to no trace. */
export interface LooseLog {
  readonly uniqueId: string;
  /** The environment. */
  readonly projectId: Environment;
  readonly customerIdentifier: string | null;
}

/** A deletion request as the truth shows it. */
export type SubmissionState = Submission & {
  /** When it was done; `null` while it isn't, and for good when it never is. */
  readonly executedMs: number | null;
};

/** Spellings under which a metadata value may be stored: clients write it plain or as JSON text. */
function metadataTexts(value: unknown): string[] {
  return [...new Set([textOf(value), JSON.stringify(textOf(value))])];
}

function holds(value: unknown, texts: readonly string[]): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).some((one) => holds(one, texts));
  return texts.some((text) => String(value).includes(text));
}

/** What is really there, whatever habits make the API say. Every look first inserts what the queue held. */
export class Truth {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  #rowsOf(person: Person): SpanRow[] {
    const { state } = this.#world;
    const now = this.#world.tick();
    if (typeof person === 'function') return [...state.rows()].filter((row) => row.live(now) && person(row));
    const rows = person.flatMap(({ key, value }) => {
      if (key.startsWith('metadata.')) {
        const name = key.slice('metadata.'.length);
        return metadataTexts(value).flatMap((text) =>
          state.lookUp('metadata', metadataKey(name, text)).filter((row) => row.metadata[name] === text),
        );
      }
      if (key === 'customer_identifier') return state.lookUp('customer', identifierText(value) ?? '');
      if (key === 'thread_identifier') return state.lookUp('thread', String(value));
      throw new TypeError(`not a key of a person: ${key}`);
    });
    return [...new Set(rows)].filter((row) => row.live(now));
  }

  /** Ids of the live traces in which any live span, in either table, is that person's. */
  tracesOf(person: Person): string[] {
    return [...new Set(this.#rowsOf(person).flatMap((row) => row.traceId ?? []))];
  }

  /** The same with environment and counts; a trace that lies in two environments comes twice. */
  liveTracesOf(person: Person): LiveTrace[] {
    const keys = new Map<string, LiveTrace>();
    for (const { traceId, environment } of this.#rowsOf(person)) {
      if (traceId === null) continue;
      const key = `${environment} ${traceId}`;
      if (!keys.has(key)) keys.set(key, this.#live(traceId, environment));
    }
    return [...keys.values()];
  }

  #live(traceId: string, environment: Environment): LiveTrace {
    const now = this.#world.now();
    const rows = this.#world.state.spansOf(environment, traceId);
    const count = (view: View): number => rows.filter((row) => row.visible(view, now)).length;
    const rootLives = rows.some((row) => row.isRoot && row.live(now));
    return { traceId, projectId: environment, spans: { spans: count('spans'), traces: count('traces') }, rootLives };
  }

  /** Every live trace. */
  allTraces(): LiveTrace[] {
    const now = this.#world.tick();
    const keys = new Map<string, SpanRow>();
    for (const row of this.#world.state.rows()) {
      if (row.traceId !== null && row.live(now)) keys.set(`${row.environment} ${row.traceId}`, row);
    }
    return [...keys.values()].map((row) => this.#live(row.traceId ?? '', row.environment));
  }

  /** A trace is live while any span of it is in any table of any environment. */
  isLive(traceId: string, view?: View): boolean {
    const now = this.#world.tick();
    const views = view === undefined ? VIEWS : [view];
    return this.#world.state.lookUp('trace', traceId).some((row) => views.some((one) => row.visible(one, now)));
  }

  /** The person's live logs that belong to no trace; of everybody when no person is given. */
  looseLogsOf(person: Person = () => true): LooseLog[] {
    return this.#rowsOf(person)
      .filter((row) => row.traceId === null)
      .map(({ uniqueId, environment, customerIdentifier }) => ({
        uniqueId,
        projectId: environment,
        customerIdentifier,
      }));
  }

  /** Every customer record that is there. */
  customerRecords(): readonly Readonly<CustomerRecord>[] {
    return this.#world.customers.all(this.#world.tick());
  }

  /** Everything that deletes have removed from at least one table so far. */
  deleted(): readonly Deletion[] {
    const now = this.#world.tick();
    return this.#world.deletions.deletions.filter((one) => VIEWS.some((view) => one.goneMs[view] <= now));
  }

  /**
   * What deletes removed, or irrevocably will, although none so far named its trace id in that environment (or that very
   * log): the work of dropped filters, or of customers that take their logs along.
   */
  unasked(): readonly Deletion[] {
    return this.#world.deletions.deletions.filter((one) => !one.askedFor);
  }

  /** Accepted delete requests, executed or not. */
  submissions(): readonly SubmissionState[] {
    const now = this.#world.tick();
    return this.#world.deletions.submissions.map((one) => ({
      ...one,
      executedMs: one.dueMs <= now ? one.dueMs : null,
    }));
  }

  /** The accepted requests that named a trace. */
  submissionsOf(traceId: string): readonly SubmissionState[] {
    return this.submissions().filter((one) => one.traceIds.includes(traceId));
  }

  /** Rows of datasets, testsets and experiments in whose values any of these texts stands. */
  copiesHolding(
    texts: readonly string[],
  ): { readonly kind: 'dataset' | 'testset' | 'experiment'; readonly id: string }[] {
    const { datasets, testsets, experiments } = this.#world.copies;
    return [
      ...datasets.flatMap((one) =>
        one.logs.filter((log) => holds(log, texts)).map(({ id }) => ({ kind: 'dataset' as const, id })),
      ),
      ...testsets.flatMap((one) =>
        one.rows.flatMap((row, index) =>
          holds(row, texts) ? { kind: 'testset' as const, id: `${one.id}/${index}` } : [],
        ),
      ),
      ...experiments.flatMap((one) =>
        one.logs.filter((log) => holds(log, texts)).map(({ id }) => ({ kind: 'experiment' as const, id })),
      ),
    ];
  }
}
