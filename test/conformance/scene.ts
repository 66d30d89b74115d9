import { expect } from '@jest/globals';
import { virtualNow, type ClockSetting } from '../../src/erasure/clock.ts';
import { DAY_MS, HOUR_MS } from '../../src/erasure/rhythm.ts';
import {
  StoreError,
  type Control,
  type DeleteOrder,
  type LocateQuery,
  type Located,
  type Project,
  type Read,
  type Receipt,
  type Row,
  type TraceKey,
  type TraceRef,
  type TraceStore,
} from '../../src/stores/port.ts';
import type { Large, OpenOptions, Seeded, SeedTrace, StoreHarness, StoreServer } from './harness.ts';
import { Wire } from './wire.ts';

/** A Wednesday, noon. */
const START_MS = Date.UTC(2026, 10, 25, 12);
/** Limits are counted in tens of virtual seconds or minutes: they pass in milliseconds. */
const SPEED = 5000;

/** People whose traces are there all the time and make the controls. */
export const OTHERS = ['other-1', 'other-2', 'other-3'] as const;

const idle = (): void => undefined;

/** `project trace`, for comparing. */
export function keyOf({ projectId, traceId }: TraceKey): string {
  return `${projectId} ${traceId}`;
}

export function keysOf(traces: readonly TraceKey[]): string[] {
  return [...new Set(traces.map(keyOf))].sort();
}

/** The error that a call must end with. @throws what else it ended with, or that it did not. */
export async function failure(promise: Promise<unknown>): Promise<StoreError> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreError)) throw error;
  return error;
}

export interface SceneOptions {
  /** Ask for the smallest pages. Default: false. */
  readonly smallPages?: boolean;
  /** Fill the projects until they are large, where the harness knows what that is. Default: false. */
  readonly large?: boolean;
}

/** One connection to a fresh store, with other people's traces in it, for the cases at the port. */
export class Scene {
  /** As it is where the projects are as large as these. */
  readonly harness: StoreHarness;
  readonly #large: Large | undefined;
  readonly server: StoreServer;
  readonly clock: ClockSetting;
  readonly wire: Wire;
  readonly store: TraceStore;
  readonly window = { fromMs: 0, toMs: START_MS + 400 * DAY_MS };
  readonly logged: string[] = [];
  projects: readonly Project[] = [];
  /** Other people's traces by name. */
  readonly others = new Map<string, Seeded[]>();
  readonly #seeded: Seeded[] = [];
  readonly #mayGo = new Set<string>();
  /** Calls until then may not be about parts of orders. */
  #wholeUntil = Number.POSITIVE_INFINITY;

  private constructor(harness: StoreHarness, server: StoreServer, clock: ClockSetting, options: SceneOptions) {
    this.#large = options.large === true ? harness.large : undefined;
    this.harness = { ...harness, ...this.#large };
    this.server = server;
    this.clock = clock;
    this.wire = new Wire(server.fetch ?? fetch, clock, harness);
    this.store = this.open(options);
  }

  static async start(harness: StoreHarness, options: SceneOptions = {}): Promise<Scene> {
    const clock = { realMs: Date.now(), virtualMs: START_MS, speed: SPEED };
    const scene = new Scene(harness, await harness.start(clock), clock, options);
    await scene.#fill();
    for (const name of OTHERS) {
      const persons = { user_id: name, email: `${name}@example.org` };
      const rows = [{ persons }, { persons }, { persons }];
      scene.others.set(name, [...(await scene.seed(harness.projects.map((project) => ({ project, rows }))))]);
    }
    scene.projects = await scene.store.projects(idle);
    return scene;
  }

  /** Traces that an order needs for the way of deleting that is to be judged. */
  get leastOrder(): number {
    return this.#large?.order ?? 1;
  }

  /** Strangers of whom there is one trace each, older than all others: those are seen first where samples are taken. */
  async #fill(): Promise<void> {
    const firstMs = this.nowMs - 30 * DAY_MS - 2 * HOUR_MS;
    const strangers = Array.from({ length: this.#large?.others ?? 0 }, (_none, index) => ({
      rows: [{ persons: { user_id: `stranger-${index}` }, startMs: firstMs + 1000 * index }],
    }));
    if (strangers.length === 0) return;
    await this.seed(this.harness.projects.flatMap((project) => strangers.map((one) => ({ ...one, project }))));
  }

  /** A further connection over the same wire, with a memory of its own. */
  open({ smallPages = false }: SceneOptions = {}): TraceStore {
    const options: OpenOptions = {
      clock: this.clock,
      fetch: this.wire.fetch,
      smallPages,
      log: (fields, message) => this.logged.push(JSON.stringify([fields, message])),
    };
    return this.server.open(options);
  }

  get nowMs(): number {
    return virtualNow(this.clock);
  }

  async seed(traces: readonly SeedTrace[]): Promise<readonly Seeded[]> {
    const seeded = await this.server.seed(traces);
    this.#seeded.push(...seeded);
    return seeded;
  }

  /** `count` traces of three rows in each of the two projects, all rows carrying the value. */
  person(value: string | number, count = 2): Promise<readonly Seeded[]> {
    const persons = { user_id: value };
    const rows = [{ persons }, { persons }, { persons }];
    return this.seed(
      this.harness.projects.flatMap((project) => Array.from({ length: count }, () => ({ project, rows }))),
    );
  }

  terms(...variants: string[]) {
    return [{ kind: 'user_id', keys: this.server.identifiers['user_id'] ?? [], variants }];
  }

  /** Live rows of other people that reads must see. */
  async controls(
    exclude: (row: Row) => boolean = () => false,
    want = 2,
    from = this.store,
  ): Promise<readonly Control[]> {
    const { controls } = await from.controls({
      projects: this.projects,
      terms: this.terms('x'),
      window: this.window,
      want,
      exclude: (row) => exclude(row) || !row.persons.some(({ text }) => OTHERS.some((name) => name === text)),
      progress: idle,
    });
    return controls;
  }

  find(index: number, variants: readonly string[], controls: readonly Control[], from = this.store): Promise<Read> {
    const finder = from.finders[index];
    if (finder === undefined) throw new Error('no such finder');
    const { projects, window } = this;
    return finder.find({ projects, terms: this.terms(...variants), window, controls, progress: idle });
  }

  lookup(index: number, traces: readonly TraceRef[], controls: readonly Control[], from = this.store): Promise<Read> {
    const route = from.lookups[index];
    if (route === undefined) throw new Error('no such route');
    return route.lookup({ traces: traces.map(bare), window: this.window, controls, progress: idle });
  }

  locate(ids: readonly string[], controls: readonly Control[], over: Partial<LocateQuery> = {}): Promise<Located> {
    const { projects, window } = this;
    return this.store.locate({ ids, projects, window, controls, progress: idle, ...over });
  }

  /** Every read that a step makes, by name. */
  reads(value: string, traces: readonly Seeded[], controls: readonly Control[], from = this.store) {
    const reads: [string, () => Promise<Read>][] = [
      ...from.finders.map((finder, index): [string, () => Promise<Read>] => [
        `finder ${finder.name}`,
        () => this.find(index, [value], controls, from),
      ]),
      ...from.lookups.map((route, index): [string, () => Promise<Read>] => [
        `look-up ${route.name}`,
        () => this.lookup(index, traces, controls, from),
      ]),
      ['locate', () => from.locate({ ids: traces.map(({ traceId }) => traceId), ...this.#base(controls) })],
    ];
    return reads;
  }

  #base(controls: readonly Control[]) {
    return { projects: this.projects, window: this.window, controls, progress: idle };
  }

  /** Traces of a read that carry exactly one of the spellings. */
  exact({ rows }: Pick<Read, 'rows'>, ...variants: readonly string[]): string[] {
    return keysOf(
      rows.filter(({ persons }) => persons.some(({ kind, text }) => kind === 'user_id' && variants.includes(text))),
    );
  }

  /** A delete call as a step makes it: traces read whole just before, with the rows that they have now. */
  async order(traces: readonly TraceKey[], from = this.store): Promise<DeleteOrder> {
    const [first] = traces;
    if (first === undefined) throw new Error('no traces');
    const rowIds = new Map<string, Set<string>>();
    for (const index of from.lookups.keys()) {
      const { rows } = await this.lookup(index, traces, [], from);
      for (const row of rows) rowIds.set(keyOf(row), (rowIds.get(keyOf(row)) ?? new Set()).add(row.runId));
    }
    return {
      projectId: first.projectId,
      traces: traces.map(({ projectId, traceId }) => ({
        projectId,
        traceId,
        ...(from.traits.deletesBy === 'row' ? { rowIds: [...(rowIds.get(`${projectId} ${traceId}`) ?? [])] } : {}),
      })),
      lastWord: () => Promise.resolve(),
      progress: idle,
    };
  }

  /** Deletes and lets the store do it. */
  async erase(traces: readonly TraceKey[], from = this.store): Promise<Receipt[]> {
    const receipts: Receipt[] = [];
    for (const { id } of this.projects) {
      const some = traces.filter(({ projectId }) => projectId === id);
      if (some.length === 0) continue;
      const order = await this.order(some, from);
      this.mayGo(some);
      receipts.push(await from.submit(order));
    }
    await this.server.settle();
    return receipts;
  }

  /** Somebody else deletes these. */
  async vanish(traces: readonly TraceKey[]): Promise<void> {
    this.mayGo(traces);
    await this.server.vanish(traces);
    await this.server.settle();
  }

  /**
   * Somebody else deletes these just when the next read asks for what comes after its first page.
   *
   * @returns to be called after that read: one that asked for no further page finds them gone from then on.
   */
  vanishBeforeFurtherPage(traces: readonly TraceKey[]): () => Promise<void> {
    let done = false;
    const vanish = async (): Promise<void> => {
      if (done) return;
      done = true;
      await this.vanish(traces);
    };
    this.wire.beforeCall = async ({ isFurtherPage }) => {
      if (isFurtherPage) await vanish();
    };
    return async () => {
      this.wire.beforeCall = null;
      await vanish();
    };
  }

  /** These need not be live at the end. */
  mayGo(traces: readonly TraceKey[]): void {
    for (const trace of traces) this.#mayGo.add(keyOf(trace));
  }

  /** Live rows by trace, whatever the API shows. */
  async live(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const live = new Map<string, Set<string>>();
    for (const row of await this.server.live())
      live.set(keyOf(row), (live.get(keyOf(row)) ?? new Set()).add(row.rowId));
    return live;
  }

  /** Nobody else was touched: every row that nobody asked to go is there. */
  async assertBystanders(): Promise<void> {
    const live = await this.live();
    const missing = this.#seeded.filter(
      (trace) => !this.#mayGo.has(keyOf(trace)) && trace.rowIds.some((id) => live.get(keyOf(trace))?.has(id) !== true),
    );
    expect(missing).toEqual([]);
  }

  /** From now on a refused order may come again in parts, which are small. */
  maySplit(): void {
    this.#wholeUntil = Math.min(this.#wholeUntil, this.wire.calls.length);
  }

  /** In large projects: deletes were sent, and every one of them in the way that is only taken there. */
  assertWay(): void {
    const large = this.#large;
    if (large === undefined) return;
    const deletes = this.wire.calls.slice(0, this.#wholeUntil).filter(({ isDelete }) => isDelete);
    expect(deletes.length).toBeGreaterThan(0);
    expect(deletes.filter((call) => !large.isItsDelete(call))).toEqual([]);
  }

  async close(): Promise<void> {
    await this.server.close();
  }
}

/** A trace without what the kit knows of it. */
export function bare({ projectId, traceId, rowIds }: TraceRef): TraceRef {
  return { projectId, traceId, ...(rowIds === undefined ? {} : { rowIds }) };
}
