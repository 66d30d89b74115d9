import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  appendLine,
  ensureDirectory,
  entriesOf,
  isErrno,
  isTemporary,
  readIfExists,
  writeExclusively,
} from '../vault/files.ts';
import { addendumLineSchema, type Addendum, type AddendumLine } from './addenda.ts';
import { canonicalDigest, canonicalJson } from './canonical.ts';
import {
  entryLineSchema,
  OPEN_IDENTITY,
  openRecordSchema,
  outcomeSchema,
  RECORD_FORMAT,
  RecordError,
  sealedRecordSchema,
} from './record.ts';
import type {
  EntryLine,
  LaneRecord,
  OpenRecord,
  RecordEntry,
  RecordOutcome,
  RecordStore,
  RecordSummary,
  RecordView,
  SealedRecord,
} from './record.ts';

const REQUEST_FILE = 'request.json';
const SEALED_FILE = 'record.json';
const ADDENDA_FILE = 'addenda.jsonl';
const LANE_PREFIX = 'lane-';
const LANE_SUFFIX = '.jsonl';
/** No request is named so: ids begin with a letter or digit. */
const OPEN_FOLDER = '.open';
/** Stands in no request id. */
const OPEN_SEPARATOR = '~';

const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const subjectDigestsSchema = z.array(z.string().regex(/^[0-9a-f]{64}$/));

export interface DirectoryRecordsOptions {
  /** The state directory of the config; records go to `records/<requestId>/` in it. Created when missing. */
  readonly stateDir: string;
}

/**
 * Records in a directory of one machine; several processes may share it.
 *
 * ```
 * records/<requestId>/request.json         what was asked, written once
 * records/<requestId>/lane-<name>.jsonl    one line an entry, appended and synced
 * records/<requestId>/record.json          the sealed record, canonical JSON, written once
 * records/<requestId>/addenda.jsonl        what was learnt or said after the end, one line an addendum, outside the digest
 * records/.open/<requestId>~<hash>.json    who is open, by keyed digest; gone when the record is closed
 * ```
 *
 * The last are an index: each verifying read asks who is open, and must not read thousands of records for it. A file's
 * name tells its content, so each is read once by a process. It is written before the request and removed after the
 * seal: a kill in between leaves a name too many, never one too few.
 */
export class DirectoryRecords implements RecordStore {
  readonly #root: string;
  readonly #openFolder: string;
  #openDigests: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(options: DirectoryRecordsOptions) {
    this.#root = join(options.stateDir, 'records');
    this.#openFolder = join(this.#root, OPEN_FOLDER);
  }

  async open(request: OpenRecord, subjectDigests: readonly string[]): Promise<void> {
    const wanted = check(openRecordSchema, request, 'invalid', 'the opening of the record');
    const digests = check(subjectDigestsSchema, [...new Set(subjectDigests)].sort(), 'invalid', 'the subject digests');
    const folder = this.#folder(wanted.requestId);
    const sealed = await this.#readSealed(wanted.requestId);
    if (sealed !== null) {
      if (sealed.request !== null) assertSameRequest(sealed.request, wanted);
      throw new RecordError('closed', 'this request has ended; a new one needs another id');
    }
    const before = await this.#readRequest(wanted.requestId);
    if (before !== null) assertSameRequest(before, wanted);
    await ensureDirectory(this.#openFolder);
    const name = `${wanted.requestId}${OPEN_SEPARATOR}${canonicalDigest(digests).slice(0, 16)}.json`;
    await writeExclusively(join(this.#openFolder, name), JSON.stringify(digests));
    if (before !== null) return;
    await ensureDirectory(folder);
    // Lanes open side by side: the first one's word stands, and all must mean the same request.
    if (await writeExclusively(join(folder, REQUEST_FILE), canonicalJson(wanted))) return;
    const first = await this.#readRequest(wanted.requestId);
    if (first !== null) assertSameRequest(first, wanted);
  }

  async append(requestId: string, connection: string, entryKey: string, entry: RecordEntry): Promise<void> {
    const line = { format: RECORD_FORMAT, key: entryKey, entry };
    const checked = check(entryLineSchema, line, 'invalid', 'an entry of the record');
    try {
      await appendLine(this.#lanePath(requestId, connection), JSON.stringify(checked));
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw new RecordError('not-open', 'the record was never opened');
      throw error;
    }
  }

  async addAddendum(requestId: string, entryKey: string, addendum: Addendum): Promise<void> {
    const line = { format: RECORD_FORMAT, key: entryKey, addendum };
    const checked = check(addendumLineSchema, line, 'invalid', 'an addendum to the record');
    try {
      await appendLine(join(this.#folder(requestId), ADDENDA_FILE), JSON.stringify(checked));
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw new RecordError('not-open', 'the record was never opened');
      throw error;
    }
  }

  async read(requestId: string): Promise<RecordView | null> {
    const sealed = await this.#readSealed(requestId);
    if (sealed !== null) {
      const { request, lanes, outcome, stamp } = sealed;
      const addenda = await this.#readAddenda(requestId);
      const view = { request, lanes, outcome, digest: digestOf(sealed), simulated: stamp !== null };
      return addenda.length === 0 ? view : { ...view, addenda };
    }
    const request = await this.#readRequest(requestId);
    const lanes = await this.#readLanes(requestId);
    if (request === null && Object.keys(lanes).length === 0) return null;
    return { request, lanes, outcome: null, digest: null, simulated: isSimulated(request, lanes) };
  }

  async close(requestId: string, outcome: RecordOutcome): Promise<string> {
    const ended = check(outcomeSchema, outcome, 'invalid', 'the outcome');
    const folder = this.#folder(requestId);
    if ((await this.#readSealed(requestId)) === null) {
      const request = await this.#readRequest(requestId);
      const lanes = await this.#readLanes(requestId);
      const sealed: SealedRecord = {
        format: RECORD_FORMAT,
        stamp: isSimulated(request, lanes) ? 'SIMULATED' : null,
        request,
        lanes,
        outcome: ended,
        signature: null,
      };
      await ensureDirectory(folder);
      await writeExclusively(join(folder, SEALED_FILE), canonicalJson(sealed));
    }
    const sealed = await this.#readSealed(requestId);
    if (sealed === null) throw new RecordError('damaged', 'the sealed record vanished while it was written');
    if (!sameOutcome(sealed.outcome, ended)) {
      throw new RecordError('conflict', 'this request was closed before, with another outcome');
    }
    await this.#removeFromOpen(requestId);
    return digestOf(sealed);
  }

  async list(): Promise<readonly RecordSummary[]> {
    const names = entriesOf(this.#root)
      .filter((name) => SEGMENT.test(name))
      .sort();
    return Promise.all(names.map((name) => this.#summary(name)));
  }

  async openRequests(): Promise<readonly RecordSummary[]> {
    const ids = new Set(this.#openNames().map(requestIdOf));
    const summaries = await Promise.all([...ids].sort().map((id) => this.#summary(id)));
    return summaries.filter(({ outcome }) => outcome === null);
  }

  async openSubjectDigests(exceptRequestId: string): Promise<ReadonlySet<string>> {
    const known = new Map<string, readonly string[]>();
    for (const name of this.#openNames()) {
      const digests = this.#openDigests.get(name) ?? (await this.#readDigests(name));
      if (digests !== null) known.set(name, digests);
    }
    this.#openDigests = known;
    return new Set(
      [...known].filter(([name]) => requestIdOf(name) !== exceptRequestId).flatMap(([, digests]) => digests),
    );
  }

  #folder(requestId: string): string {
    if (!SEGMENT.test(requestId)) throw new RangeError('not the id of a request');
    return join(this.#root, requestId);
  }

  #lanePath(requestId: string, connection: string): string {
    if (!SEGMENT.test(connection)) throw new RangeError('not the name of a connection');
    return join(this.#folder(requestId), `${LANE_PREFIX}${connection}${LANE_SUFFIX}`);
  }

  async #readRequest(requestId: string): Promise<OpenRecord | null> {
    const bytes = await readIfExists(join(this.#folder(requestId), REQUEST_FILE));
    return bytes === null ? null : check(openRecordSchema, parseJson(bytes), 'damaged', 'the opening of the record');
  }

  async #readSealed(requestId: string): Promise<SealedRecord | null> {
    const bytes = await readIfExists(join(this.#folder(requestId), SEALED_FILE));
    return bytes === null ? null : check(sealedRecordSchema, parseJson(bytes), 'damaged', 'the sealed record');
  }

  async #readLanes(requestId: string): Promise<Record<string, LaneRecord>> {
    const files = entriesOf(this.#folder(requestId)).filter(
      (name) => name.startsWith(LANE_PREFIX) && name.endsWith(LANE_SUFFIX),
    );
    const lanes: Record<string, LaneRecord> = {};
    for (const file of files.sort()) {
      const bytes = await readIfExists(join(this.#folder(requestId), file));
      if (bytes !== null) lanes[file.slice(LANE_PREFIX.length, -LANE_SUFFIX.length)] = parseLane(bytes);
    }
    return lanes;
  }

  async #readAddenda(requestId: string): Promise<readonly AddendumLine[]> {
    const bytes = await readIfExists(join(this.#folder(requestId), ADDENDA_FILE));
    const lines = new Map<string, AddendumLine>();
    for (const text of bytes?.toString('utf8').split('\n') ?? []) {
      const value = text === '' ? undefined : parseJson(text);
      // A line that a kill cut short was written again when the step was repeated.
      if (value === undefined) continue;
      const { key, addendum } = check(addendumLineSchema, value, 'damaged', 'an addendum to the record');
      lines.set(key, { key, addendum });
    }
    return [...lines.values()];
  }

  async #summary(requestId: string): Promise<RecordSummary> {
    const sealed = await this.#readSealed(requestId);
    if (sealed === null) return { requestId, request: await this.#readRequest(requestId), outcome: null };
    const { workflowId, verdict, endedAt, dryRun } = sealed.outcome;
    return { requestId, request: sealed.request, outcome: { workflowId, verdict, endedAt, dryRun } };
  }

  #openNames(): readonly string[] {
    return entriesOf(this.#openFolder).filter((name) => name.includes(OPEN_SEPARATOR) && !isTemporary(name));
  }

  async #readDigests(name: string): Promise<readonly string[] | null> {
    const bytes = await readIfExists(join(this.#openFolder, name));
    return bytes === null
      ? null
      : check(subjectDigestsSchema, parseJson(bytes), 'damaged', 'the list of open requests');
  }

  async #removeFromOpen(requestId: string): Promise<void> {
    const names = this.#openNames().filter((name) => requestIdOf(name) === requestId);
    await Promise.all(names.map((name) => rm(join(this.#openFolder, name), { force: true })));
  }
}

function requestIdOf(openName: string): string {
  return openName.slice(0, openName.indexOf(OPEN_SEPARATOR));
}

function parseLane(bytes: Buffer): LaneRecord {
  const entries = new Map<string, EntryLine['entry']>();
  let tornLines = 0;
  for (const text of bytes.toString('utf8').split('\n')) {
    if (text === '') continue;
    const value = parseJson(text);
    if (value === undefined) {
      tornLines += 1;
      continue;
    }
    const { key, entry } = check(entryLineSchema, value, 'damaged', 'an entry of the record');
    entries.set(key, entry);
  }
  return { entries: [...entries].map(([key, entry]) => ({ key, entry })), tornLines };
}

function isSimulated(request: OpenRecord | null, lanes: Readonly<Record<string, LaneRecord>>): boolean {
  const entries = Object.values(lanes).flatMap((lane) => lane.entries);
  const planned = entries.some(({ entry }) => entry.kind === 'plan' && entry.clock !== null);
  return planned || (request !== null && request.clock !== null);
}

function digestOf(sealed: SealedRecord): string {
  return canonicalDigest({ ...sealed, signature: null });
}

function assertSameRequest(first: OpenRecord, wanted: OpenRecord): void {
  const differs = OPEN_IDENTITY.filter((field) => canonicalJson(first[field]) !== canonicalJson(wanted[field]));
  if (differs.length === 0) return;
  throw new RecordError('conflict', `this request id was used before, with other content: ${differs.join(', ')}`);
}

/** A repeated seal may come minutes after the first: when it says it ended does not make it another outcome. */
function sameOutcome(first: RecordOutcome, second: RecordOutcome): boolean {
  return canonicalJson({ ...first, endedAt: null }) === canonicalJson({ ...second, endedAt: null });
}

function check<T>(schema: z.ZodType<T>, value: unknown, problem: 'invalid' | 'damaged', what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const paths = parsed.error.issues.map(({ path, message }) => `${path.map(String).join('.') || 'it'}: ${message}`);
  const why = problem === 'damaged' ? 'was changed, or written by another release' : 'does not keep to its format';
  throw new RecordError(problem, `${what} ${why} (${paths.slice(0, 5).join('; ')})`);
}

/** @returns the value, or undefined for what is no JSON: a line cut short. */
function parseJson(text: Buffer | string): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return undefined;
  }
}
