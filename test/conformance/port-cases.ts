import { expect } from '@jest/globals';
import { GuardError } from '../../src/stores/guard.ts';
import { DAY_MS, MINUTE_MS } from '../../src/erasure/rhythm.ts';
import {
  type Control,
  type Read,
  type Row,
  StoreError,
  THREAD_KIND,
  type TraceKey,
  type TraceStore,
} from '../../src/stores/port.ts';
import type { Habit, NotPossible, Seeded, SeedRow } from './harness.ts';
import { IDENTIFIERS } from './identifiers.ts';
import { bare, failure, keyOf, keysOf, OTHERS, type Scene, type SceneOptions } from './scene.ts';
import { FAULTS, type Fault } from './wire.ts';

/** One case at the port. What it returns stands in the table in place of `ok`. */
export interface PortCase {
  readonly name: string;
  readonly options?: SceneOptions;
  /** It is about what a delete does and says: to be run for each way in which a store is asked to delete. Default: no. */
  readonly judgesDeletes?: true;
  readonly run: (scene: Scene) => Promise<NotPossible | string | void>;
}

const all = (controls: readonly Control[]): boolean[] => controls.map(() => true);
const none = (controls: readonly Control[]): boolean[] => controls.map(() => false);

async function turnOn(habit: Habit): Promise<NotPossible | null> {
  if (typeof habit !== 'function') return habit;
  await habit();
  return null;
}

/** Whether a route shows one row for a trace. */
function aggregates(scene: Scene, name: string | undefined): boolean {
  return scene.harness.aggregates?.includes(name ?? '') ?? false;
}

/** Whether a route shows every row of a trace. */
function showsRows(scene: Scene, name: string | undefined): boolean {
  return !aggregates(scene, name) && !(scene.harness.perTrace?.includes(name ?? '') ?? false);
}

/** Errors hold no value, no id and no secret (P31). */
function assertQuiet(scene: Scene, error: StoreError, values: readonly string[]): void {
  const text = `${String(error)} ${error.advice ?? ''} ${JSON.stringify(error)} ${String(error.cause)}`;
  for (const secret of [...values, scene.server.apiKey]) expect(text).not.toContain(secret);
}

/** Every read fails for this reason, and never says "not there". */
async function everyReadFails(
  scene: Scene,
  fault: Fault,
  reasons: readonly StoreError['reason'][],
): Promise<readonly StoreError[]> {
  const [one] = await scene.person('u_fault', 1);
  const controls = await scene.controls();
  const errors: StoreError[] = [];
  for (const [name, read] of scene.reads('u_fault', one === undefined ? [] : [one], controls)) {
    scene.wire.set(fault);
    const error = await failure(read());
    scene.wire.set(null);
    expect([name, reasons.includes(error.reason) ? 'as it must' : error.reason]).toEqual([name, 'as it must']);
    assertQuiet(scene, error, ['u_fault', one?.traceId ?? '', one?.rowIds[1] ?? '']);
    errors.push(error);
  }
  // Some connections know their projects without a call.
  const listed = await scene.wire.during(() => scene.store.projects(() => undefined));
  const others: (() => Promise<unknown>)[] = [() => scene.controls()];
  if (listed.length > 0) others.push(() => scene.store.projects(() => undefined));
  for (const read of others) {
    scene.wire.set(fault);
    const error = await failure(read());
    scene.wire.set(null);
    expect(reasons).toContain(error.reason);
    errors.push(error);
  }
  expect((await scene.find(0, ['u_fault'], controls)).rows.length).toBeGreaterThan(0);
  return errors;
}

/** A person whose traces were read whole, ready to be deleted. */
async function ready(scene: Scene, store: TraceStore = scene.store) {
  const here = (await scene.person('u_gone', scene.leastOrder)).slice(0, scene.leastOrder);
  return { traces: here, order: await scene.order(here, store) };
}

/** A delete that ends without an acknowledgement: reported as such, sent once. */
async function unacknowledged(scene: Scene, fault: Fault, reason: StoreError['reason']): Promise<readonly Seeded[]> {
  const { traces, order } = await ready(scene);
  scene.mayGo(traces);
  scene.wire.set({ ...fault, on: 'deletes' });
  const calls = await scene.wire.during(async () => {
    const error = await failure(scene.store.submit(order));
    expect(error.reason).toBe(reason);
    assertQuiet(scene, error, ['u_gone', traces[0]?.traceId ?? '']);
  });
  scene.wire.set(null);
  expect(calls.filter(({ isDelete }) => isDelete)).toHaveLength(1);
  await scene.server.settle();
  return traces;
}

function namesIn(json: unknown, into = new Set<string>()): Set<string> {
  if (Array.isArray(json)) for (const one of json) namesIn(one, into);
  else if (typeof json === 'object' && json !== null) {
    for (const [name, value] of Object.entries(json)) {
      into.add(name);
      namesIn(value, into);
    }
  }
  return into;
}

/** Traces of one person in one project, in the order of their times, which is that of writing. */
interface Crowd {
  readonly early: Seeded[];
  /** Longer than a page. */
  readonly long: Seeded;
  /** More than a page. */
  readonly many: readonly Seeded[];
  readonly late: Seeded[];
}

/** As many reads as the case about vanishing rows makes at most: each takes one early and one late trace away. */
const MOST_READS = 10;

const everyOf = ({ early, long, many, late }: Crowd): readonly Seeded[] => [...early, long, ...many, ...late];

const rowKey = (row: Pick<Row, 'projectId' | 'traceId' | 'runId'>): string => `${keyOf(row)} ${row.runId}`;

/** Takes the first, or the last, that fits out of a list. */
function taken<T>(list: T[], fits: (one: T) => boolean = () => true, last = false): T {
  const at = last ? list.findLastIndex(fits) : list.findIndex(fits);
  const [one] = at < 0 ? [] : list.splice(at, 1);
  if (one === undefined) throw new Error('none is left');
  return one;
}

/** Rows that begin a second after each other, from some days ago on: their order by time is the same for every store. */
function seriesOf(scene: Scene, daysAgo: number): (persons: SeedRow['persons'], count: number) => SeedRow[] {
  let atMs = scene.nowMs - daysAgo * DAY_MS;
  return (persons = {}, count) => Array.from({ length: count }, () => ({ persons, startMs: (atMs += 1000) }));
}

/** Writes more of one person into each project than fits a page of any read. */
async function crowd(scene: Scene): Promise<readonly Crowd[]> {
  const { projects, tracesOverPages, rowsOverPages } = scene.harness;
  const rows = seriesOf(scene, 20);
  const crowds: Crowd[] = [];
  for (const project of projects) {
    const write = (count: number, length: number) =>
      scene.seed(Array.from({ length: count }, () => ({ project, rows: rows({ user_id: 'u_many' }, length) })));
    const early = await write(MOST_READS, 3);
    const [long] = await write(1, rowsOverPages);
    const many = await write(tracesOverPages, 3);
    const late = await write(MOST_READS, 3);
    if (long === undefined) throw new Error('nothing was seeded');
    crowds.push({ early: [...early], long, many, late: [...late] });
  }
  return crowds;
}

/** Writes traces of somebody else, to be controls that may go. */
async function company(scene: Scene, daysAgo: number): Promise<Control[]> {
  const rows = seriesOf(scene, daysAgo);
  const traces = scene.harness.projects.flatMap((project) =>
    Array.from({ length: MOST_READS }, () => ({ project, rows: rows({ user_id: OTHERS[2] }, 1) })),
  );
  const theirs = new Set((await scene.seed(traces)).map(keyOf));
  // With usual pages: one look for controls may be a single page.
  return [...(await scene.controls((row) => !theirs.has(keyOf(row)), MOST_READS, scene.open()))];
}

/** Finders and look-ups by name. */
function pagedReads(scene: Scene) {
  type Ask = (traces: readonly Seeded[], controls: readonly Control[]) => Promise<Read>;
  const { finders, lookups } = scene.store;
  return [
    ...finders.map(({ name }, index): { name: string; finds: boolean; read: Ask } => ({
      name,
      finds: true,
      read: (_traces, controls) => scene.find(index, ['u_many'], controls),
    })),
    ...lookups.map(({ name }, index): { name: string; finds: boolean; read: Ask } => ({
      name,
      finds: false,
      read: (traces, controls) => scene.lookup(index, traces, controls),
    })),
  ];
}

/** A case about pages says nothing of a read that asked for one only: it must ask for more, unless it never does. */
async function assertPaged(scene: Scene, name: string, read: () => Promise<Read>): Promise<Read> {
  const before = scene.wire.calls.length;
  const answer = await read();
  const further = scene.wire.calls.slice(before).some(({ isFurtherPage }) => isFurtherPage);
  expect([name, further]).toEqual([name, scene.harness.onePage?.[name] === undefined]);
  return answer;
}

function withoutPages({ harness }: Scene): string | undefined {
  const reasons = Object.entries(harness.onePage ?? {}).map(([name, { because }]) => `${name}: ${because}`);
  return reasons.length === 0 ? undefined : `ok, without ${reasons.join('; ')}`;
}

export const PORT_CASES: readonly PortCase[] = [
  {
    name: 'P5 P6: each finder alone finds all of a person, of any depth, in every project, and nobody else',
    run: async (scene) => {
      const rooted = await scene.person('u_42');
      const deep = await scene.seed(
        scene.harness.projects.map((project) => ({ project, rows: [{}, {}, { persons: { user_id: 'u_42' } }] })),
      );
      const controls = await scene.controls();
      expect(controls.length).toBeGreaterThanOrEqual(2);
      for (const index of scene.store.finders.keys()) {
        const read = await scene.find(index, ['u_42'], controls);
        const partly = aggregates(scene, scene.store.finders[index]?.name);
        expect(scene.exact(read, 'u_42')).toEqual(keysOf(partly ? rooted : [...rooted, ...deep]));
        expect(read.rows.every(({ persons }) => persons.some(({ text }) => text === 'u_42'))).toBe(true);
        expect(read.controlsSeen).toEqual(all(controls));
        expect(read.report).toMatchObject({ purpose: 'find', controlsSeen: controls.length, window: scene.window });
      }
    },
  },
  {
    name: 'P5: at least two finders that differ, and they agree',
    run: async (scene) => {
      const { finders } = scene.store;
      expect(new Set(finders.map(({ name }) => name)).size).toBe(finders.length);
      expect(finders.length).toBeGreaterThanOrEqual(2);
      await scene.person('u_42');
      const controls = await scene.controls();
      const routes = new Set<string>();
      const found = new Set<string>();
      for (const index of finders.keys()) {
        const read = await scene.find(index, ['u_42'], controls);
        routes.add(read.report.route);
        found.add(JSON.stringify(scene.exact(read, 'u_42')));
      }
      expect(found.size).toBe(1);
      return routes.size > 1 ? undefined : 'ok, same endpoint';
    },
  },
  {
    name: 'P3: rows that nobody could claim break the contract',
    run: async (scene) => {
      await scene.person('u_42', 1);
      const controls = await scene.controls();
      const cannot = await turnOn(scene.server.habits.filterIgnored);
      if (cannot !== null) return cannot;
      for (const index of scene.store.finders.keys()) {
        expect((await failure(scene.find(index, ['u_42'], controls))).reason).toBe('contract-broken');
        expect((await failure(scene.find(index, ['u_42'], []))).reason).toBe('contract-broken');
      }
      return undefined;
    },
  },
  {
    name: 'P10: rows of any age are found, also those of a source with a fast clock',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const traces = await scene.seed(
        [Date.UTC(2019, 5, 1), Date.UTC(2023, 1, 1), scene.nowMs - 3_600_000, scene.nowMs + 86_400_000].map(
          (startMs) => ({ project, rows: [{ persons: { user_id: 'u_42' }, startMs }] }),
        ),
      );
      const controls = await scene.controls();
      for (const index of scene.store.finders.keys()) {
        expect(scene.exact(await scene.find(index, ['u_42'], controls), 'u_42')).toEqual(keysOf(traces));
      }
      for (const index of scene.store.lookups.keys()) {
        expect(keysOf((await scene.lookup(index, traces, controls)).rows)).toEqual(keysOf(traces));
      }
    },
  },
  {
    name: 'P28: more rows than one page are read to the end, each once',
    options: { smallPages: true },
    run: async (scene) => {
      const traces = (await crowd(scene)).flatMap(everyOf);
      const controls = await scene.controls();
      for (const { name, read } of pagedReads(scene)) {
        const { rows, controlsSeen } = await assertPaged(scene, name, () => read(traces, controls));
        expect([name, keysOf(rows)]).toEqual([name, keysOf(traces)]);
        if (showsRows(scene, name)) {
          expect(rows.map(({ runId }) => runId).sort()).toEqual(traces.flatMap(({ rowIds }) => rowIds).sort());
        }
        expect([name, controlsSeen]).toEqual([name, all(controls)]);
      }
      return withoutPages(scene);
    },
  },
  {
    name: 'P28: rows that vanish between two pages hide no row that stays',
    options: { smallPages: true },
    run: async (scene) => {
      const staying = await scene.controls();
      // On both sides of the person's: whichever way a list is sorted, some of those that go stand before its end.
      const before = await company(scene, 22);
      const crowds = await crowd(scene);
      const after = await company(scene, 18);
      const found = new Set<string>();
      const readAll = async (offsets: boolean): Promise<void> => {
        for (const { name, finds, read } of pagedReads(scene)) {
          const riding = [...staying];
          const going: TraceKey[] = [];
          // A look-up needs no more than a few: one of them is longer than a page by itself.
          const few = finds ? [] : crowds.flatMap(({ early, long, late }) => [...early, long, ...late]);
          for (const { long, early, late } of crowds) {
            const controls = [before, after].map((some) =>
              taken(some, ({ projectId }) => projectId === long.projectId),
            );
            riding.push(...controls);
            going.push(
              taken(early),
              ...controls,
              taken(late, () => true, true),
            );
          }
          const vanished = scene.vanishBeforeFurtherPage(going);
          const { rows } = await assertPaged(scene, name, () => read(few, riding));
          await vanished();
          const shown = new Set([...rows.map(rowKey), ...keysOf(rows)]);
          expect([name, new Set(rows.map(rowKey)).size]).toEqual([name, rows.length]);
          for (const key of keysOf(rows)) found.add(key);
          // Where a token is the store's own secret, one search may lose a row: the other and each later one look for it too.
          if (finds && offsets && scene.store.traits.pageTokens === 'cursor') continue;
          const stay = crowds.flatMap((one) => (finds ? everyOf(one) : [...one.early, one.long, ...one.late]));
          const wanted = stay.flatMap(({ rowIds, ...trace }) =>
            showsRows(scene, name) ? rowIds.map((runId) => rowKey({ ...trace, runId })) : [keyOf(trace)],
          );
          expect([name, wanted.filter((key) => !shown.has(key))]).toEqual([name, []]);
        }
      };
      await readAll(false);
      const offsets = (await turnOn(scene.server.habits.offsetPages)) === null;
      if (offsets) await readAll(true);
      expect(keysOf(crowds.flatMap(everyOf)).filter((key) => !found.has(key))).toEqual([]);
      const without = withoutPages(scene);
      return offsets ? (without ?? 'ok, with keysets and with offsets') : without;
    },
  },
  {
    name: 'P13 P15: no spelling of an identifier widens a search, breaks it or finds a look-alike',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const refused: string[] = [];
      const values = [...IDENTIFIERS, ...scene.harness.injections].filter((value) => {
        const storable = scene.harness.storable(value);
        if (storable !== true) refused.push(storable.because);
        return storable === true;
      });
      const seeded = await scene.seed(values.map((value) => ({ project, rows: [{ persons: { user_id: value } }] })));
      const traceOf = new Map(values.map((value, index) => [value, seeded[index]]));
      const controls = await scene.controls();
      for (const value of values) {
        const text = String(value);
        // As text, and as the number that is written just so.
        const number = String(Number(text)) === text ? traceOf.get(Number(text)) : undefined;
        const wanted = [traceOf.get(text), number].filter((trace) => trace !== undefined);
        for (const index of scene.store.finders.keys()) {
          const read = await scene.find(index, [text], controls);
          expect([text, scene.exact(read, text)]).toEqual([text, keysOf(wanted)]);
          expect([text, read.controlsSeen]).toEqual([text, all(controls)]);
        }
      }
      const most = scene.store.traits.mostSpellingsPerFind;
      if (most > 1) {
        const texts = values.map(String);
        for (let at = 0; at < texts.length; at += most) {
          const some = texts.slice(at, at + most);
          const read = await scene.find(0, some, controls);
          const wanted = values.flatMap((value, index) => (some.includes(String(value)) ? (seeded[index] ?? []) : []));
          expect(scene.exact(read, ...some)).toEqual(keysOf(wanted));
        }
      }
      return refused.length === 0 ? undefined : `ok, without ${refused.length}: ${[...new Set(refused)].join('; ')}`;
    },
  },
  {
    name: 'P15: numbers are found in number and text form, every digit counts, and they come back as text',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const numbers = scene.harness.storable(12_345);
      if (numbers !== true) return numbers;
      const values = [12_345, '12345', 12_346, 100_000, '1e5', '012345', '12345.0'];
      const seeded = await scene.seed(values.map((value) => ({ project, rows: [{ persons: { user_id: value } }] })));
      const controls = await scene.controls();
      for (const index of scene.store.finders.keys()) {
        const read = await scene.find(index, ['12345'], controls);
        expect(scene.exact(read, '12345')).toEqual(keysOf(seeded.slice(0, 2)));
        const exact = read.rows.flatMap(({ persons }) => persons.filter(({ text }) => text === '12345'));
        expect(exact.map(({ numeric }) => numeric).sort()).toEqual([false, true]);
        expect(scene.exact(await scene.find(index, ['100000'], controls), '100000')).toEqual(
          keysOf(seeded.slice(3, 4)),
        );
        expect(scene.exact(await scene.find(index, ['1e5'], controls), '1e5')).toEqual(keysOf(seeded.slice(4, 5)));
      }
      return undefined;
    },
  },
  {
    name: 'P4: each look-up shows whole traces, rows of any depth, also where the root is gone',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const whole = await scene.person('u_42', 1);
      const orphans = await scene.seed([
        { project, rootless: true, rows: [{ persons: { user_id: 'u_42' } }, {}] },
        { project, rootless: true, rows: [{}, {}] },
      ]);
      const controls = await scene.controls();
      const traces = [...whole, ...orphans];
      expect(scene.store.lookups.some(({ name }) => !aggregates(scene, name))).toBe(true);
      for (const [index, { name }] of scene.store.lookups.entries()) {
        const { rows, controlsSeen, report } = await scene.lookup(index, traces, controls);
        expect([name, keysOf(rows)]).toEqual([name, keysOf(traces)]);
        if (!aggregates(scene, name)) {
          expect(rows.map(({ runId }) => runId).sort()).toEqual(traces.flatMap(({ rowIds }) => rowIds).sort());
          for (const row of rows) {
            expect(traces.find((trace) => keyOf(trace) === keyOf(row))?.rowIds).toContain(row.runId);
          }
        }
        expect(controlsSeen).toEqual(all(controls));
        expect(report.purpose).toBe('lookup');
      }
    },
  },
  {
    name: 'P17: a trace of two people is shown with both, whomever it was found by',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const [shared] = await scene.seed([
        { project, rows: [{ persons: { user_id: 'u_42' } }, {}, { persons: { user_id: 'other-1' } }] },
      ]);
      if (shared === undefined) throw new Error('nothing was seeded');
      const controls = await scene.controls((row) => row.traceId === shared.traceId);
      for (const index of scene.store.lookups.keys()) {
        if (aggregates(scene, scene.store.lookups[index]?.name)) continue;
        const { rows } = await scene.lookup(index, [shared], controls);
        const people = rows.flatMap(({ persons }) => persons.map(({ text }) => text));
        expect([...new Set(people)].sort()).toEqual(['other-1', 'u_42']);
        expect(rows).toHaveLength(3);
      }
    },
  },
  {
    name: 'P12: a search by conversation finds its rows, labelled or not, with its controls, whatever its value',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const talks = ['talk-1', `it's "a" \\ talk`, ...scene.harness.injections];
      await scene.seed(['talk-8', 'talk-9'].map((thread) => ({ project, rows: [{ thread }, {}] })));
      for (const talk of talks) {
        const seeded = await scene.seed([
          { project, rows: [{ thread: talk }, {}] },
          { project, rows: [{ thread: talk, persons: { user_id: 'u_42' } }] },
        ]);
        const { rows } = await scene.lookup(0, seeded, []);
        const [key] = rows.flatMap(({ threads = [] }) => threads.map((value) => value.key));
        expect(scene.store.threads).toContain(key);
        const terms = [{ kind: THREAD_KIND, keys: [key ?? ''], variants: [talk] }];
        const { projects, window } = scene;
        const progress = (): void => undefined;
        const exclude = ({ threads = [] }: Row): boolean => threads.some(({ text }) => text === talk);
        const { controls } = await scene.store.controls({ projects, terms, window, want: 2, exclude, progress });
        expect(controls.length).toBeGreaterThan(0);
        for (const finder of scene.store.finders) {
          const read = await finder.find({ projects, terms, window, controls, progress });
          expect(read.controlsSeen).toEqual(controls.map(() => true));
          expect(keysOf(read.rows)).toEqual(keysOf(seeded));
          for (const row of read.rows) expect(row.threads?.map(({ text }) => text)).toContain(talk);
        }
      }
    },
  },
  {
    name: 'P11: what is not there is absent in a call that sees the controls, and nothing is shown in another project',
    run: async (scene) => {
      const [one] = await scene.person('u_42', 1);
      const elsewhere = scene.projects.find(({ id }) => id !== one?.projectId)?.id ?? '';
      const controls = await scene.controls();
      const asked = [
        ...scene.harness.unknownIds.map((traceId) => ({ projectId: one?.projectId ?? '', traceId })),
        { projectId: elsewhere, traceId: one?.traceId ?? '' },
      ];
      for (const index of scene.store.lookups.keys()) {
        const { rows, controlsSeen } = await scene.lookup(index, asked, controls);
        expect(keysOf(rows).filter((key) => asked.some((trace) => keyOf(trace) === key))).toEqual([]);
        expect(controlsSeen).toEqual(all(controls));
      }
    },
  },
  {
    name: 'P11 P16: ids of traces, rows, strangers, other things and nothing are told apart',
    run: async (scene) => {
      const [one] = await scene.person('u_42', 1);
      const [other] = scene.others.get('other-1') ?? [];
      if (one === undefined || other === undefined) throw new Error('nothing was seeded');
      const wrong = await scene.server.wrongKinds();
      const controls = await scene.controls();
      const child = one.rowIds[1] ?? '';
      const ids = [one.traceId, child, other.traceId, ...scene.harness.unknownIds];
      const normal = wrong.flatMap(({ id }) => scene.store.normaliseId(id) ?? []);
      const { rows, wrongKind, controlsSeen } = await scene.locate([...ids, ...normal], controls);
      const about = (id: string) => rows.filter(({ runId, traceId }) => runId === id || traceId === id);
      expect(keysOf(about(one.traceId))).toEqual([keyOf(one)]);
      expect(keysOf(about(child))).toEqual([keyOf(one)]);
      expect(about(other.traceId).flatMap(({ persons }) => persons.map(({ text }) => text))).toContain('other-1');
      for (const id of scene.harness.unknownIds) {
        expect(about(id)).toEqual([]);
        expect(wrongKind.has(id)).toBe(false);
      }
      for (const { id, kind } of wrong) {
        const looked = scene.store.normaliseId(id);
        if (looked !== null) expect([kind, wrongKind.get(looked)]).toEqual([kind, kind]);
      }
      expect(controlsSeen).toEqual(all(controls));
      for (const [form, meant] of scene.harness.idForms) expect(scene.store.normaliseId(form)).toBe(meant);
    },
  },
  {
    name: 'P13: a delete removes exactly its traces, whole, and everything else stays',
    judgesDeletes: true,
    run: async (scene) => {
      // One in one project stays.
      const traces = await scene.person('u_42', scene.leastOrder + 2);
      const [project] = scene.harness.projects;
      const shared = await scene.seed([
        { project, rows: [{ persons: { user_id: 'u_42' } }, { persons: { user_id: 'other-2' } }] },
      ]);
      const [kept, ...going] = traces;
      const receipts = await scene.erase(going);
      for (const receipt of receipts) {
        expect(receipt.sentAtMs).toBeLessThanOrEqual(receipt.acknowledgedAtMs);
        expect(receipt.status).toBeGreaterThanOrEqual(200);
        expect(receipt.refused ?? []).toEqual([]);
      }
      const live = await scene.live();
      for (const trace of going) expect(live.has(keyOf(trace))).toBe(false);
      for (const trace of [kept, ...shared]) {
        expect([...(live.get(keyOf(trace ?? { projectId: '', traceId: '' })) ?? [])].sort()).toEqual(
          [...(trace?.rowIds ?? [])].sort(),
        );
      }
      const controls = await scene.controls((row) => shared.some(({ traceId }) => traceId === row.traceId));
      for (const index of scene.store.lookups.keys()) {
        const { rows, controlsSeen } = await scene.lookup(index, going, controls);
        expect(rows).toEqual([]);
        expect(controlsSeen).toEqual(all(controls));
      }
      for (const index of scene.store.finders.keys()) {
        const read = await scene.find(index, ['u_42'], controls);
        expect(scene.exact(read, 'u_42')).toEqual(keysOf([kept, ...shared].filter((trace) => trace !== undefined)));
      }
    },
  },
  {
    name: 'P4: a trace that any view of the store still shows is shown by some look-up',
    run: async (scene) => {
      const { lateViews } = scene.server.habits;
      if ('because' in lateViews) return lateViews;
      for (const late of lateViews) {
        const traces = await scene.person('u_42', 1);
        const cannot = await turnOn(late);
        if (cannot !== null) return cannot;
        await scene.erase(traces);
        const controls = await scene.controls();
        const shown = new Set<string>();
        for (const index of scene.store.lookups.keys()) {
          const { rows, controlsSeen } = await scene.lookup(index, traces, controls);
          for (const row of rows) shown.add(keyOf(row));
          expect(controlsSeen).toEqual(all(controls));
        }
        expect([...shown].sort()).toEqual(keysOf(traces));
        await scene.server.heal();
      }
      return undefined;
    },
  },
  {
    name: 'P13: empty, unread, foreign, partial and malformed orders are refused before any call',
    judgesDeletes: true,
    run: async (scene) => {
      const { traces, order } = await ready(scene);
      const fresh = scene.open();
      const [control] = await scene.controls();
      const [first] = traces;
      if (control === undefined || first === undefined) throw new Error('nothing was seeded');
      const elsewhere = scene.projects.find(({ id }) => id !== order.projectId)?.id ?? '';
      const [asRead] = order.traces;
      if (asRead === undefined) throw new Error('nothing was read');
      // Seeing it as a control is not reading it.
      await scene.lookup(0, [first], [control]);
      const of = (over: object) => ({ ...order, ...over });
      const byRow = scene.store.traits.deletesBy === 'row';
      const asked: [string, () => Promise<unknown>][] = [
        ['nothing', () => scene.store.submit(of({ traces: [] }))],
        ['no project', () => scene.store.submit(of({ projectId: '' }))],
        ['unread by this connection', () => fresh.submit(order)],
        ['read in another project', () => scene.store.submit(of({ projectId: elsewhere }))],
        ['a control', () => scene.store.submit(of({ projectId: control.projectId, traces: [bare(control)] }))],
        ['a wildcard', () => scene.store.submit(of({ traces: [{ ...asRead, traceId: '*' }] }))],
        ['an empty id', () => scene.store.submit(of({ traces: [{ ...asRead, traceId: '' }] }))],
        ['twice the same', () => scene.store.submit(of({ traces: [asRead, asRead] }))],
        [
          'unread beside read',
          () => scene.store.submit(of({ traces: [asRead, { ...asRead, traceId: scene.harness.unknownIds[0] }] })),
        ],
        ['no term', () => scene.store.finders[0]?.find({ ...query(scene), terms: [] }) ?? Promise.resolve()],
        ['no spelling', () => scene.find(0, [], [])],
        [
          'no project to search',
          () =>
            scene.store.finders[0]?.find({ ...query(scene), terms: scene.terms('x'), projects: [] }) ??
            Promise.resolve(),
        ],
        [
          'an open window',
          () =>
            scene.store.finders[0]?.find({
              ...query(scene),
              terms: scene.terms('x'),
              window: { fromMs: 0, toMs: Number.POSITIVE_INFINITY },
            }) ?? Promise.resolve(),
        ],
        ['no traces to look up', () => scene.lookup(0, [], [])],
        ...(byRow
          ? ([
              [
                'a part of a trace',
                () => scene.store.submit(of({ traces: [{ ...asRead, rowIds: (asRead.rowIds ?? []).slice(1) }] })),
              ],
              [
                'only the root',
                () => scene.store.submit(of({ traces: [{ ...asRead, rowIds: (asRead.rowIds ?? []).slice(0, 1) }] })),
              ],
              ['no row', () => scene.store.submit(of({ traces: [{ ...asRead, rowIds: [] }] }))],
              [
                "somebody else's row",
                () =>
                  scene.store.submit(
                    of({ traces: [{ ...asRead, rowIds: [...(asRead.rowIds ?? []), control.runId] }] }),
                  ),
              ],
            ] as [string, () => Promise<unknown>][])
          : []),
      ];
      for (const [what, ask] of asked) {
        const calls = await scene.wire.during(async () => {
          const refusal = await ask().then(
            () => 'was not refused',
            (error: unknown) => error,
          );
          expect([what, refusal instanceof GuardError]).toEqual([what, true]);
        });
        expect([what, calls]).toEqual([what, []]);
      }
      scene.mayGo(traces);
      await scene.store.submit(order);
      return byRow ? undefined : 'ok, deletes by trace: an order names no rows';
    },
  },
  {
    name: 'P27: the last word comes just before the call, and can still stop it',
    judgesDeletes: true,
    run: async (scene) => {
      const { traces, order } = await ready(scene);
      const deletes = () => scene.wire.calls.filter(({ isDelete }) => isDelete).length;
      const before = deletes();
      const stop = new Error('held');
      const lastWord = () => Promise.reject(stop);
      await expect(scene.store.submit({ ...order, lastWord })).rejects.toBe(stop);
      expect(deletes()).toBe(before);
      const asked: number[] = [];
      scene.mayGo(traces);
      await scene.store.submit({
        ...order,
        lastWord: async () => {
          asked.push(deletes());
        },
      });
      expect(asked[0]).toBe(before);
      expect(deletes()).toBe(before + 1);
    },
  },
  {
    name: 'P2 P20: a reset before a delete is reported, sent once, and nothing is gone',
    judgesDeletes: true,
    run: async (scene) => {
      const traces = await unacknowledged(scene, FAULTS.resetBefore(), 'unreachable');
      const live = await scene.live();
      for (const trace of traces) expect(live.has(keyOf(trace))).toBe(true);
    },
  },
  {
    name: 'P2 P20: a reset after a delete is no acknowledgement, although the traces go',
    judgesDeletes: true,
    run: async (scene) => {
      const traces = await unacknowledged(scene, FAULTS.resetAfter(), 'unreachable');
      const live = await scene.live();
      for (const trace of traces) expect(live.has(keyOf(trace))).toBe(false);
    },
  },
  {
    name: 'P2 P20: a 5xx after a delete is no acknowledgement either',
    judgesDeletes: true,
    run: async (scene) => {
      await unacknowledged(scene, FAULTS.statusAfter(503), 'unreachable');
    },
  },
  {
    name: 'P2 P3: a refusal after a delete of the same order was taken does not say that nothing was deleted',
    judgesDeletes: true,
    run: async (scene) => {
      const all = await scene.person('u_gone', scene.leastOrder + 2);
      const traces = all.filter(({ projectId }) => projectId === all[0]?.projectId);
      const order = await scene.order(traces);
      scene.mayGo(traces);
      const { wire } = scene;
      const before = wire.acknowledged;
      wire.beforeCall = async () => {
        if (wire.acknowledged > before) wire.set(FAULTS.status(403));
      };
      const error = await scene.store.submit(order).then(
        () => null,
        (reason: unknown) => reason,
      );
      wire.beforeCall = null;
      wire.set(null);
      expect(wire.acknowledged).toBeGreaterThan(before);
      if (error === null) return 'ok, an order is one call';
      expect(error).toMatchObject({ reason: 'denied', partlyDone: true });
      return undefined;
    },
  },
  {
    name: 'P2: a delete answered by a web page, throttled, denied or by no route is not acknowledged',
    judgesDeletes: true,
    run: async (scene) => {
      const { deletesAnswer } = scene.harness;
      if (deletesAnswer === true) await unacknowledged(scene, FAULTS.html(), 'contract-broken');
      await unacknowledged(scene, FAULTS.status(429, { 'retry-after': '7' }), 'throttled');
      const { traces, order } = await ready(scene);
      for (const [status, reason] of [
        [403, 'denied'],
        [404, 'gone'],
        [400, 'rejected'],
      ] as const) {
        scene.wire.set({ ...FAULTS.status(status), on: 'deletes' });
        if (reason === 'rejected') scene.maySplit();
        expect((await failure(scene.store.submit(order))).reason).toBe(reason);
        scene.wire.set(null);
      }
      const live = await scene.live();
      for (const trace of traces) expect(live.has(keyOf(trace))).toBe(true);
      return deletesAnswer === true ? undefined : `ok, without web pages: ${deletesAnswer.because}`;
    },
  },
  {
    name: 'P19: an answer that counts more than was sent switches deletes off',
    judgesDeletes: true,
    run: async (scene) => {
      const { overcount } = scene.harness;
      const { traces, order } = await ready(scene);
      if (typeof overcount !== 'function') return overcount;
      scene.mayGo(traces);
      scene.wire.set({ ...FAULTS.json(overcount), on: 'deletes' });
      await scene.store.submit(order).catch((error: unknown) => {
        expect(error).toMatchObject({ reason: 'rejected' });
      });
      scene.wire.set(null);
      const calls = await scene.wire.during(async () => {
        const error = await failure(scene.store.submit(order));
        expect(error.advice).toMatch(/switched off/);
      });
      expect(calls.filter(({ isDelete }) => isDelete)).toEqual([]);
      return undefined;
    },
  },
  {
    name: 'P6 P7: controls are offered per project, key and class of value, and never from excluded people',
    run: async (scene) => {
      const [project] = scene.harness.projects;
      const odd = ['77', 'quo"te', 'ünï', 88].filter((value) => scene.harness.storable(value) === true);
      await scene.seed(odd.map((value) => ({ project, rows: [{ persons: { user_id: value } }] })));
      const [mixed] = await scene.seed([
        { project, rows: [{ persons: { user_id: 'other-9' } }, { persons: { user_id: 'barred' } }] },
      ]);
      const terms = Object.entries(scene.server.identifiers).map(([kind, keys]) => ({ kind, keys }));
      const found = await scene.store.controls({
        projects: scene.projects,
        terms,
        window: scene.window,
        // More than there are people: whoever is barred would be among them.
        want: 10,
        exclude: ({ persons }) => persons.some(({ text }) => text === 'barred' || text === 'other-1'),
        progress: () => undefined,
      });
      const groups = new Set(found.controls.map(({ projectId, value }) => `${projectId} ${value.kind}`));
      const searchable = Object.keys(scene.server.identifiers).length;
      expect(groups.size).toBe(scene.projects.length * searchable);
      const classes = found.controls.map(({ value }) => value.text);
      for (const value of odd) expect(classes).toContain(String(value));
      expect(classes.filter((text) => text === 'barred' || text.startsWith('other-1'))).toEqual([]);
      expect(found.controls.map(({ traceId }) => traceId)).not.toContain(mixed?.traceId);
      expect(found.silent).toEqual([]);
    },
  },
  {
    name: 'P6: a blind read sees no control, and says nothing is clean',
    run: async (scene) => {
      const [one] = await scene.person('u_42', 1);
      const controls = await scene.controls();
      const cannot = await turnOn(scene.server.habits.blind);
      if (cannot !== null) return cannot;
      for (const [name, read] of scene.reads('u_42', one === undefined ? [] : [one], controls)) {
        const answer = await read().catch((error: unknown) => {
          if (error instanceof StoreError && error.reason === 'contract-broken') return null;
          throw error;
        });
        if (answer === null) continue;
        expect([name, answer.rows, answer.controlsSeen]).toEqual([name, [], none(controls)]);
      }
      expect(await scene.controls()).toEqual([]);
      return undefined;
    },
  },
  {
    name: 'P7: a control that has vanished is told from those still there',
    run: async (scene) => {
      const traces = await scene.person('u_42', 1);
      const controls = await scene.controls();
      const [gone] = controls;
      if (gone === undefined) throw new Error('no control');
      await scene.vanish([gone]);
      const left = controls.map(({ traceId }) => traceId !== gone.traceId);
      for (const [name, read] of scene.reads('u_42', traces, controls)) {
        expect([name, (await read()).controlsSeen]).toEqual([name, left]);
      }
      const again = await scene.controls();
      expect(again.map(({ traceId }) => traceId)).not.toContain(gone.traceId);
    },
  },
  {
    name: 'a 429 with Retry-After is waited for, without hammering',
    run: async (scene) => {
      const before = scene.wire.calls.length;
      const errors = await everyReadFails(scene, FAULTS.status(429, { 'retry-after': '30' }), ['throttled']);
      for (const error of errors) expect(error.notBeforeMs).toBeGreaterThan(0);
      expect(scene.wire.calls.length - before).toBeLessThan(errors.length * 8 + 30);
      const [one] = await scene.person('u_429', 1);
      scene.wire.set(FAULTS.status(429, { 'retry-after': '30' }));
      const calls = await scene.wire.during(() => failure(scene.lookup(0, one === undefined ? [] : [one], [])));
      for (const [at, call] of calls.entries()) {
        const next = calls[at + 1];
        if (next?.path === call.path) expect(next.atMs - call.atMs).toBeGreaterThanOrEqual(30_000);
      }
    },
  },
  {
    name: 'a 429 without Retry-After is given time, without hammering',
    run: async (scene) => {
      const [one] = await scene.person('u_429', 1);
      const traces = one === undefined ? [] : [one];
      scene.wire.set(FAULTS.status(429));
      const calls = await scene.wire.during(async () => {
        expect((await failure(scene.lookup(0, traces, []))).reason).toBe('throttled');
      });
      expect(calls.length).toBeLessThan(8);
      for (const [at, call] of calls.entries()) {
        const next = calls[at + 1];
        if (next?.path === call.path) expect(next.atMs - call.atMs).toBeGreaterThanOrEqual(10_000);
      }
      scene.wire.set({ ...FAULTS.status(429), count: 1 });
      expect((await scene.lookup(0, traces, [])).rows).toHaveLength(3);
    },
  },
  {
    name: 'the budget of calls is kept: many reads at once cause no 429',
    run: async (scene) => {
      await scene.person('u_42', 1);
      const controls = await scene.controls();
      const reads = Array.from({ length: 30 }, (_none, index) =>
        scene.find(index % scene.store.finders.length, ['u_42'], controls),
      );
      for (const read of await Promise.all(reads)) expect(read.controlsSeen).toEqual(all(controls));
      expect(scene.wire.statuses.filter((status) => status === 429)).toEqual([]);
    },
  },
  ...([401, 403] as const).map((status): PortCase => ({
    name: `P3: ${status} is a refusal of the key, in every read`,
    run: async (scene) => {
      const before = scene.wire.calls.length;
      const passingMs = status === 401 ? (scene.harness.passing401Ms ?? 0) : 0;
      const reasons: StoreError['reason'][] = passingMs > 0 ? ['denied', 'unreachable'] : ['denied'];
      const errors = await everyReadFails(scene, FAULTS.status(status), reasons);
      expect(scene.wire.calls.length - before).toBeLessThan(errors.length * 20);
      if (passingMs === 0) return undefined;
      const [one] = await scene.person('u_401', 1);
      scene.wire.set(FAULTS.status(status));
      let last: StoreError['reason'] | null = null;
      for (const endMs = scene.nowMs + 3 * passingMs; scene.nowMs < endMs;) {
        last = (await failure(scene.lookup(0, one === undefined ? [] : [one], []))).reason;
      }
      expect(last).toBe('denied');
      return `ok, after ${passingMs / 1000} s`;
    },
  })),
  ...([404, 410, 501] as const).map((status): PortCase => ({
    name: `P3: ${status} of a route is never "not found"`,
    run: async (scene) => {
      await everyReadFails(scene, FAULTS.status(status), ['gone']);
    },
  })),
  {
    name: 'P3: 5xx and resets make a read fail, a blip of them does not',
    run: async (scene) => {
      for (const fault of [FAULTS.status(503), FAULTS.status(500), FAULTS.resetBefore(), FAULTS.resetAfter()]) {
        await everyReadFails(scene, fault, ['unreachable']);
      }
      const [one] = await scene.person('u_42', 1);
      const controls = await scene.controls();
      for (const [, read] of scene.reads('u_42', one === undefined ? [] : [one], controls)) {
        for (const fault of [FAULTS.status(503), FAULTS.resetAfter()]) {
          scene.wire.set({ ...fault, count: 1 });
          const { rows, controlsSeen } = await read();
          expect(rows.length).toBeGreaterThan(0);
          expect(controlsSeen).toEqual(all(controls));
        }
        scene.wire.set(null);
      }
    },
  },
  {
    name: 'P3: web pages with status 200, cut and empty bodies break the contract',
    run: async (scene) => {
      for (const fault of [
        FAULTS.html(),
        FAULTS.cut(),
        FAULTS.empty(),
        FAULTS.json(() => ({})),
        FAULTS.json(() => []),
      ]) {
        await everyReadFails(scene, fault, ['contract-broken']);
      }
    },
  },
  {
    name: 'P3: whatever field an answer lacks, no row is missed in silence',
    run: async (scene) => {
      const traces = await scene.person('u_42', 1);
      const controls = await scene.controls();
      let fields = 0;
      for (const [name, read] of scene.reads('u_42', traces, controls)) {
        scene.wire.answers.length = 0;
        scene.wire.keepAnswers = true;
        const whole = await read();
        scene.wire.keepAnswers = false;
        const names = new Set(scene.wire.answers.flatMap((text) => [...namesIn(JSON.parse(text))]));
        expect(names.size).toBeGreaterThan(0);
        for (const field of names) {
          fields += 1;
          scene.wire.set(FAULTS.without(field));
          const answer = await read().catch((error: unknown) => {
            if (error instanceof StoreError) return null;
            throw error;
          });
          scene.wire.set(null);
          if (answer === null || answer.controlsSeen.includes(false)) continue;
          expect([name, field, keysOf(answer.rows)]).toEqual([name, field, keysOf(whole.rows)]);
          expect([name, field, answer.rows.map(({ persons }) => persons)]).toEqual([
            name,
            field,
            whole.rows.map(({ persons }) => persons),
          ]);
        }
      }
      return `ok, ${fields} fields`;
    },
  },
  {
    name: 'fields that a store adds are no reason to stop',
    run: async (scene) => {
      const traces = await scene.person('u_42', 1);
      const controls = await scene.controls();
      const add = (json: unknown): unknown => {
        if (Array.isArray(json)) return json.map(add);
        return typeof json === 'object' && json !== null ? { ...json, x_added: { since: '2027.1' } } : json;
      };
      scene.wire.set(FAULTS.json(add));
      for (const [, read] of scene.reads('u_42', traces, controls)) {
        const { rows, controlsSeen } = await read();
        expect(keysOf(rows)).toEqual(keysOf(traces));
        expect(controlsSeen).toEqual(all(controls));
      }
    },
  },
  {
    name: 'P34: the distance between the clocks is measured on every read',
    run: async (scene) => {
      const traces = await scene.person('u_42', 1);
      const controls = await scene.controls();
      for (const ms of [3 * 86_400_000, -2 * 3_600_000]) {
        scene.wire.set(FAULTS.skew(ms, scene.clock));
        for (const [name, read] of scene.reads('u_42', traces, controls)) {
          const { skewMs } = (await read()).report;
          expect([name, Math.abs((skewMs ?? 0) - Math.abs(ms)) < 30 * MINUTE_MS]).toEqual([name, true]);
        }
      }
    },
  },
  {
    name: 'a step that is told to stop stops its reads',
    run: async (scene) => {
      await scene.person('u_42', 1);
      const before = scene.wire.calls.length;
      const stop = new Error('stop');
      const finder = scene.store.finders[0];
      await expect(
        finder?.find({
          ...query(scene),
          terms: scene.terms('u_42'),
          progress: () => {
            throw stop;
          },
        }),
      ).rejects.toBe(stop);
      expect(scene.wire.calls.length).toBe(before);
    },
  },
  {
    name: 'P31: no log line holds an identifier, an id or a secret',
    run: async (scene) => {
      const traces = await scene.person('canary-7f3e"x', 1);
      const controls = await scene.controls();
      for (const fault of [null, FAULTS.status(500), FAULTS.status(422), FAULTS.html(), FAULTS.cut()]) {
        scene.wire.set(fault);
        for (const [, read] of scene.reads('canary-7f3e"x', traces, controls)) {
          await read().catch((error: unknown) => {
            if (!(error instanceof StoreError)) throw error;
            assertQuiet(scene, error, ['canary-7f3e', traces[0]?.traceId ?? '']);
          });
        }
      }
      expect(scene.logged.length).toBeGreaterThan(0);
      const text = scene.logged.join('\n');
      for (const secret of ['canary-7f3e', traces[0]?.traceId ?? '', ...OTHERS, scene.server.apiKey]) {
        expect(text).not.toContain(secret);
      }
    },
  },
];

function query(scene: Scene) {
  return { projects: scene.projects, window: scene.window, controls: [], progress: () => undefined };
}
