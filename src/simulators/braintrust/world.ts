import type { Clock } from '../../erasure/clock.ts';
import { Agenda } from '../common/agenda.ts';
import { hashShare, Random } from '../common/ids.ts';
import type { Json } from '../common/json.ts';
import { RollingLimits } from '../common/limits.ts';
import { Timeline } from '../common/time.ts';
import { HabitSwitches } from './habits.ts';
import { Ledger } from './ledger.ts';
import { rootOf, type Row } from './rows.ts';
import { AccountState, type Organisation, type Place } from './state.ts';

/** A key that the simulator accepts. */
export interface ApiKeyOptions {
  readonly key: string;
  /** How the ledger names it. Default: `key-<n>`. */
  readonly name?: string;
  /** Names of the organisations it sees, in the order of the login answer. Default: all. */
  readonly organisations?: readonly string[];
  /** Whether it may read rows; else 403. Default true. */
  readonly reads?: boolean;
  /** Whether it may write rows; else 403. Default true. */
  readonly writes?: boolean;
  /** Whether it may write tombstones; else 403. Which grant the vendor asks for is not documented. Default true. */
  readonly deletes?: boolean;
}

/** Rate limits, counted over a rolling window on the virtual clock. */
export interface LimitOptions {
  /** BTQL requests a minute and organisation; default 20, the vendor's number for its smaller plans. */
  readonly btqlPerMinute?: number;
  /** Control-plane requests a minute and key, as self-hosted installations have it (100 there). Default: none. */
  readonly controlPerMinute?: number;
  /** Whether the 429 says `Retry-After`. Default true. */
  readonly retryAfter?: boolean;
}

/** How a simulator is set up. Everything is optional. */
export interface BraintrustSimulatorOptions {
  /** The virtual clock; `null` (default) is real time. */
  readonly clock?: Clock;
  /** Port on 127.0.0.1; default 0: a free one. */
  readonly port?: number;
  /** `separate`: the data plane (`api_url`) listens on a second free port, as in self-hosted installations. Default `same`. */
  readonly dataPlane?: 'same' | 'separate';
  /** Keys accepted; default one, given back as `apiKey`. Any other key is answered 401. */
  readonly apiKeys?: readonly (string | ApiKeyOptions)[];
  /** Names of the organisations; default one, `Acme`. */
  readonly organisations?: readonly string[];
  /** Seed of every random choice; default 1. */
  readonly seed?: number;
  /** Rate limits; default on with the defaults of `LimitOptions`. */
  readonly limits?: boolean | LimitOptions;
  /** Largest number of rows (or traces) of one page. Default 1000; more is answered 400. */
  readonly mostRowsPerPage?: number;
  /** Virtual milliseconds until a write is indexed, and so visible to reads that are not live. Default 5000. */
  readonly indexLagMs?: number;
}

export interface ApiKey {
  readonly key: string;
  readonly name: string;
  readonly organisations: readonly Organisation[];
  readonly reads: boolean;
  readonly writes: boolean;
  readonly deletes: boolean;
}

/** A request that named rows of one object for deletion and was accepted. */
export interface Submission {
  readonly seq: number;
  readonly atMs: number;
  readonly route: string;
  readonly objectType: Place['objectType'];
  readonly objectId: string;
  readonly ids: readonly string[];
  /** How many of the ids named a living row. */
  readonly live: number;
  /** Ids that the `dropShare` habit lost. */
  readonly lost: readonly string[];
}

/** A row that became deleted. */
export interface Deletion {
  readonly objectType: Place['objectType'];
  readonly objectId: string;
  readonly rowId: string;
  readonly traceId: string | null;
  /** From when reads no longer show it. */
  readonly atMs: number;
  readonly by: 'tombstone' | 'project' | 'object';
  /** Whether any request named this very row in this very object, or the test itself removed it. */
  readonly askedFor: boolean;
}

/** What a request's events are to be done as. */
export interface WriteContext {
  readonly route: string;
  readonly nowMs: number;
  readonly xact: string;
}

/** Everything behind the HTTP surface of one simulator. */
export class World {
  readonly organisations: readonly Organisation[];
  readonly apiKeys: readonly ApiKey[];
  readonly random: Random;
  readonly habits: HabitSwitches;
  readonly state: AccountState;
  readonly ledger = new Ledger();
  readonly rolling = new RollingLimits();
  readonly limits: LimitOptions | null;
  readonly mostRowsPerPage: number;
  readonly indexLagMs: number;
  readonly submissions: Submission[] = [];
  /** By row life; of several tombstones the one that showed first counts. */
  readonly deletions = new Map<Row, Deletion>();
  /** Address of the data plane; known once it listens. */
  apiUrl = '';
  readonly #agenda = new Agenda();
  readonly #time: Timeline;
  readonly #seed: number;
  readonly #touched = new Set<string>();

  constructor(options: BraintrustSimulatorOptions) {
    this.#seed = options.seed ?? 1;
    this.#time = new Timeline(options.clock ?? null);
    this.limits = options.limits === false ? null : typeof options.limits === 'object' ? options.limits : {};
    this.mostRowsPerPage = options.mostRowsPerPage ?? 1000;
    this.indexLagMs = options.indexLagMs ?? 5000;
    this.random = new Random(this.#seed);
    this.organisations = (options.organisations ?? ['Acme']).map((name) => ({ id: this.random.uuid4(), name }));
    this.apiKeys = (options.apiKeys ?? ['sk-simulator-0001']).map((given, index) => {
      const key: ApiKeyOptions = typeof given === 'string' ? { key: given } : given;
      const names = key.organisations;
      return {
        key: key.key,
        name: key.name ?? `key-${index + 1}`,
        organisations: (names ?? this.organisations.map((one) => one.name)).map((name) => this.organisation(name)),
        reads: key.reads ?? true,
        writes: key.writes ?? true,
        deletes: key.deletes ?? true,
      };
    });
    this.habits = new HabitSwitches(this.#seed, () => this.now());
    this.state = new AccountState(this.random);
  }

  /** @throws RangeError when there is none of that name. */
  organisation(name: string): Organisation {
    const found = this.organisations.find((one) => one.name === name);
    if (found === undefined) throw new RangeError(`no organisation named ${name}`);
    return found;
  }

  /** The first organisation. */
  get home(): Organisation {
    const [first] = this.organisations;
    if (first === undefined) throw new RangeError('a simulator needs an organisation');
    return first;
  }

  /** The virtual instant, epoch milliseconds. */
  now(): number {
    return this.#time.now();
  }

  /** The virtual instant, with everything that was due by then. */
  tick(): number {
    const now = this.now();
    this.#agenda.catchUp(now);
    return now;
  }

  /** Moves this simulator's clock forward. */
  advance(ms: number): void {
    this.#time.advance(ms);
    this.tick();
  }

  /** The project of that name, made on first use. */
  projectFor(orgId: string, name: string, nowMs: number) {
    return this.state.projectByName(orgId, name, nowMs) ?? this.state.addProject(orgId, name, nowMs);
  }

  /** Does the events of one request in one object, in order; the row ids, one an event. */
  writeAll(place: Place, events: readonly Json[], context: WriteContext): string[] {
    const ids = events.map((event) => (typeof event['id'] === 'string' ? event['id'] : this.random.uuid4()));
    const named = events.flatMap((event, index) => (event['_object_delete'] === true ? [ids[index] ?? ''] : []));
    const { dropShare } = this.habits.current;
    const lost = named.filter((id) => hashShare(`${this.#seed}`, context.xact, id) < dropShare);
    const living = this.state.rowsIn(place);
    const live = named.filter((id) => living.livesOf(id).at(-1)?.tombstoned === false).length;
    if (named.length > 0) {
      const { route, nowMs: atMs } = context;
      this.submissions.push({ seq: this.submissions.length + 1, atMs, route, ...place, ids: named, live, lost });
    }
    events.forEach((event, index) => {
      const id = ids[index] ?? '';
      if (event['_object_delete'] === true) {
        if (!lost.includes(id)) this.#tombstone(place, id, event, context);
      } else this.state.write(place, id, event, context.xact, context.nowMs, { shownMs: context.nowMs });
    });
    return ids;
  }

  #tombstone(place: Place, id: string, event: Json, { xact, nowMs }: WriteContext): void {
    const { tombstoneDelayMs, reappear } = this.habits.current;
    const shownMs = nowMs + tombstoneDelayMs;
    const back = reappear === null ? null : shownMs + (reappear.afterMs ?? 1000);
    const { row, before } = this.state.write(place, id, event, xact, nowMs, {
      shownMs,
      ...(back === null || reappear === null ? {} : { reappears: [back, back + reappear.forMs] as const }),
    });
    if (row === null) return;
    if (shownMs < (this.deletions.get(row)?.atMs ?? Infinity) || !this.deletions.has(row)) {
      const { traceId } = row;
      this.deletions.set(row, { ...place, rowId: id, traceId, atMs: shownMs, by: 'tombstone', askedFor: true });
    }
    if (before !== null) this.#arrangeLate(place, row, before, nowMs);
  }

  /** What producers who know nothing of the deletion will still write. */
  #arrangeLate(place: Place, row: Row, before: Json, nowMs: number): void {
    const { habits } = this;
    const later = (name: 'lateMerges' | 'lateTraces' | 'lateSpans', event: () => Json): void => {
      const delay = habits.takeLate(name);
      if (delay === null) return;
      this.#agenda.at(nowMs + delay, (atMs) => {
        const context = { route: 'a late producer', nowMs: atMs, xact: this.state.nextXact(atMs) };
        this.writeAll(place, [event()], context);
      });
    };
    const form = habits.current.lateMerges?.form ?? 'bare';
    later('lateMerges', () => ({
      id: row.id,
      _is_merge: true,
      output: 'late',
      ...(form === 'metadata' ? { metadata: before['metadata'] } : {}),
      ...(form === 'trace' ? { root_span_id: rootOf(before), span_id: before['span_id'] } : {}),
    }));
    const trace = `${place.objectType} ${place.objectId} ${row.traceId ?? row.id}`;
    if (this.#touched.has(trace)) return;
    this.#touched.add(trace);
    const { metadata = null, tags = null } = before;
    later('lateTraces', () => {
      const root = this.random.uuid4();
      const { created } = before;
      return { id: this.random.uuid4(), span_id: root, root_span_id: root, created, metadata, tags, output: 'late' };
    });
    const bare = habits.current.lateSpans?.bare ?? false;
    later('lateSpans', () => ({
      id: this.random.uuid4(),
      span_id: this.random.uuid4(),
      root_span_id: rootOf(before) ?? row.traceId,
      span_parents: [before['span_id'] ?? row.traceId],
      output: 'late',
      ...(bare ? {} : { metadata }),
    }));
  }

  /** Notes that all living rows of an object are gone with it. */
  objectRemoved(place: Place, by: 'project' | 'object', askedFor: boolean): void {
    const atMs = this.now();
    const { rows } = this.state.rowsIn(place);
    for (const row of rows) {
      if (!row.live(atMs)) continue;
      this.deletions.set(row, { ...place, rowId: row.id, traceId: row.traceId, atMs, by, askedFor });
    }
  }

  /** Whether reads of a project are not live, by its settings or by the habit. */
  realtimeDisabled(projectId: string): boolean {
    const { realtimeDisabled: disabled } = this.habits.current;
    const project = this.state.projects.get(projectId);
    if (project?.settings['disable_realtime_queries'] === true || disabled === true) return true;
    return disabled !== false && (disabled.includes(projectId) || disabled.includes(project?.name ?? ''));
  }
}
