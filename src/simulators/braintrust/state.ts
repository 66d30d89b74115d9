import type { Random } from '../common/ids.ts';
import type { Json } from '../common/json.ts';
import { metadataLeaves, rootOf, Row, written, type ObjectType, type Version } from './rows.ts';

/** An organisation: what `x-bt-org-name` picks. */
export interface Organisation {
  readonly id: string;
  readonly name: string;
}

export interface Project {
  readonly id: string;
  readonly orgId: string;
  name: string;
  readonly createdMs: number;
  settings: Json;
  /** From this virtual instant on it answers 404. */
  deletedMs: number;
}

/** An experiment, a dataset or a playground. */
export interface Container {
  readonly type: Exclude<ObjectType, 'project_logs'>;
  readonly id: string;
  readonly projectId: string;
  readonly name: string;
  readonly createdMs: number;
  readonly fields: Json;
  deletedMs: number;
}

export interface Snapshot {
  readonly id: string;
  readonly datasetId: string;
  readonly name: string;
  readonly description: string | null;
  readonly xact: string;
  readonly createdMs: number;
}

export interface Automation {
  readonly id: string;
  readonly projectId: string;
  readonly name: string;
  readonly config: Json;
  readonly createdMs: number;
}

export interface Attachment {
  readonly key: string;
  readonly filename: string;
  readonly contentType: string;
  bytes: Buffer | null;
  status: Json;
}

/** Where rows lie. */
export interface Place {
  readonly objectType: ObjectType;
  readonly objectId: string;
}

/** The rows of one object with their indexes; dead rows stay, since versions can be read back. */
export class ObjectRows implements Place {
  readonly objectType: ObjectType;
  readonly objectId: string;
  /** In order of their pagination keys. */
  readonly rows: Row[] = [];
  /** Instants and transactions of all writes, oldest first. */
  readonly writes: { readonly atMs: number; readonly xact: string }[] = [];
  readonly #byId = new Map<string, Row[]>();
  readonly #byRoot = new Map<string, Row[]>();
  readonly #byTrace = new Map<string, Row[]>();
  readonly #byMetadata = new Map<string, Row[]>();
  readonly #comments = new Map<string, Row[]>();

  constructor(place: Place) {
    this.objectType = place.objectType;
    this.objectId = place.objectId;
  }

  livesOf(id: string): readonly Row[] {
    return this.#byId.get(id) ?? [];
  }

  /** Rows that say or said that root span id: a superset, which callers check. */
  rowsOfRoot(rootSpanId: string): readonly Row[] {
    return this.#byRoot.get(rootSpanId) ?? [];
  }

  /** Rows of a trace, also those that came back without saying so. */
  rowsOfTrace(traceId: string): readonly Row[] {
    return this.#byTrace.get(traceId) ?? [];
  }

  /** Rows that carry or once carried that metadata value (JSON text): a superset, which callers check. */
  rowsWith(path: string, json: string): readonly Row[] {
    return this.#byMetadata.get(`${path}\u0000${json}`) ?? [];
  }

  /** Comments on a row. */
  commentsOn(id: string): readonly Row[] {
    return this.#comments.get(id) ?? [];
  }

  addRow(row: Row): void {
    this.rows.push(row);
    push(this.#byId, row.id, row);
    if (row.traceId !== null) push(this.#byTrace, row.traceId, row);
  }

  indexVersion(row: Row, data: Json, before: Json | null): void {
    const root = rootOf(data);
    if (root !== null && (before === null || rootOf(before) !== root)) push(this.#byRoot, root, row);
    const known = new Set(before === null ? [] : metadataLeaves(before).map(([path, json]) => `${path}\u0000${json}`));
    for (const [path, json] of metadataLeaves(data)) {
      const key = `${path}\u0000${json}`;
      if (!known.has(key)) push(this.#byMetadata, key, row);
    }
    if (row.isComment && before === null) {
      const origin = (data['origin'] ?? null) as Json | null;
      if (typeof origin?.['id'] === 'string') push(this.#comments, origin['id'], row);
    }
  }

  /** The newest transaction not after an instant, `0` when there is none. */
  xactAt(atMs: number): string {
    for (let index = this.writes.length - 1; index >= 0; index -= 1) {
      const write = this.writes[index];
      if (write !== undefined && write.atMs <= atMs) return write.xact;
    }
    return '0';
  }
}

function push(index: Map<string, Row[]>, key: string, row: Row): void {
  const rows = index.get(key);
  if (rows === undefined) index.set(key, [row]);
  else rows.push(row);
}

/** How a write shows in reads. */
export interface Showing {
  readonly shownMs: number;
  /** Instants between which a deleted row shows again. */
  readonly reappears?: readonly [number, number];
}

/** What a write did. */
export interface Effect {
  readonly row: Row | null;
  /** Content before; `null` when there was none or it was deleted. */
  readonly before: Json | null;
}

/** Everything an account holds. */
export class AccountState {
  readonly projects = new Map<string, Project>();
  readonly containers = new Map<string, Container>();
  readonly snapshots = new Map<string, Snapshot>();
  readonly automations = new Map<string, Automation>();
  readonly attachments = new Map<string, Attachment>();
  readonly #random: Random;
  readonly #objects = new Map<string, ObjectRows>();
  #lastXact = 0n;
  #keys = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  addProject(orgId: string, name: string, nowMs: number): Project {
    const id = this.#random.uuid4();
    const project: Project = { id, orgId, name, createdMs: nowMs, settings: {}, deletedMs: Infinity };
    this.projects.set(id, project);
    return project;
  }

  projectByName(orgId: string, name: string, nowMs: number): Project | null {
    for (const project of this.projects.values()) {
      if (project.orgId === orgId && project.name === name && nowMs < project.deletedMs) return project;
    }
    return null;
  }

  /** The living project of that id. */
  project(id: string, nowMs: number): Project | null {
    const project = this.projects.get(id);
    return project !== undefined && nowMs < project.deletedMs ? project : null;
  }

  addContainer(type: Container['type'], projectId: string, name: string, fields: Json, nowMs: number): Container {
    const id = this.#random.uuid4();
    const container: Container = { type, id, projectId, name, createdMs: nowMs, fields, deletedMs: Infinity };
    this.containers.set(id, container);
    return container;
  }

  containerByName(type: Container['type'], projectId: string, name: string, nowMs: number): Container | null {
    for (const one of this.containers.values()) {
      if (one.type === type && one.projectId === projectId && one.name === name && nowMs < one.deletedMs) return one;
    }
    return null;
  }

  /** The living experiment, dataset or playground of that id, in a living project. */
  container(type: ObjectType, id: string, nowMs: number): Container | null {
    const one = this.containers.get(id);
    if (one?.type !== type || nowMs >= one.deletedMs) return null;
    return this.project(one.projectId, nowMs) === null ? null : one;
  }

  /** The project in which an object lies. */
  projectOf(place: Place): Project | null {
    const id = place.objectType === 'project_logs' ? place.objectId : this.containers.get(place.objectId)?.projectId;
    return id === undefined ? null : (this.projects.get(id) ?? null);
  }

  /** Whether the object and its project are there. */
  exists(place: Place, nowMs: number): boolean {
    if (place.objectType === 'project_logs') return this.project(place.objectId, nowMs) !== null;
    return this.container(place.objectType, place.objectId, nowMs) !== null;
  }

  rowsIn(place: Place): ObjectRows {
    const key = `${place.objectType} ${place.objectId}`;
    let rows = this.#objects.get(key);
    if (rows === undefined) {
      rows = new ObjectRows(place);
      this.#objects.set(key, rows);
    }
    return rows;
  }

  /** All objects that ever held rows. */
  objects(): Iterable<ObjectRows> {
    return this.#objects.values();
  }

  /**
   * The next transaction id. As the vendor's are: text of 19 digits (beyond what a double holds), with the second in the
   * high bits, so that comparing the texts compares the times.
   */
  nextXact(nowMs: number): string {
    const base = (0x0de1n << 48n) | (BigInt(Math.floor(nowMs / 1000)) << 16n);
    this.#lastXact = base > this.#lastXact ? base : this.#lastXact + 1n;
    return String(this.#lastXact);
  }

  /** Writes one event: insert, replace, merge or tombstone. */
  write(place: Place, id: string, event: Json, xact: string, nowMs: number, showing: Showing): Effect {
    const rows = this.rowsIn(place);
    if (rows.writes.at(-1)?.xact !== xact) rows.writes.push({ atMs: Math.min(nowMs, showing.shownMs), xact });
    const last = rows.livesOf(id).at(-1) ?? null;
    const known = last === null || last.tombstoned ? null : last;
    const before = known?.latest?.data ?? null;
    if (event['_object_delete'] === true) {
      // A tombstone on an unknown id is a tombstone for nothing; on a deleted row it is another version.
      if (last === null) return { row: null, before };
      last.add({ xact, atMs: nowMs, shownMs: showing.shownMs, action: 'delete', data: null });
      if (before !== null && showing.reappears !== undefined) last.reappearances.push(showing.reappears);
      return { row: last, before };
    }
    const data = written(before, event, id, nowMs);
    const merge = event['_is_merge'] === true;
    const version: Version = { xact, atMs: nowMs, shownMs: showing.shownMs, action: merge ? 'merge' : 'upsert', data };
    if (known !== null) {
      const root = rootOf(data);
      if (root === known.traceId || root === null) {
        known.add(version);
        rows.indexVersion(known, data, before);
        return { row: known, before };
      }
    }
    // A new row, one that comes back, or one that a replacement moved to another trace.
    if (last !== null) {
      last.supersededMs = Math.min(last.supersededMs, showing.shownMs);
      last.supersededXact ??= xact;
    }
    this.#keys += 1;
    const key = `p${String(this.#keys).padStart(20, '0')}`;
    const row = new Row(place, id, key, rootOf(data) ?? last?.traceId ?? null, data['comment'] !== undefined);
    row.add(version);
    rows.addRow(row);
    rows.indexVersion(row, data, null);
    return { row, before };
  }
}
