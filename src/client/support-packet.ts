import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ConnectionConfig } from '../config/config.ts';
import { bookSchema, deltaSchema, type Book, type BookEntry, type Delta } from '../erasure/book.ts';
import type { RecordView, SubmitEntry } from '../evidence/record.ts';
import { supportPartOf } from '../stores/registry.ts';
import type { SupportPart } from '../stores/support.ts';
import { isErrno, writeAtomically } from '../vault/files.ts';
import { VaultLostError, type Vault } from '../vault/vault.ts';
import { LETHE_VERSION } from '../version.ts';
import { latestBook } from './tasks.ts';

export interface SupportPacketOptions {
  /** Where the files go. Default: `./lethe-support-REQUEST`. It is created for the owner only. */
  readonly directory?: string;
  /** Every trace of the request. Default: only those that survived, are still readable, or could not be read either way. */
  readonly allTraces?: boolean;
}

/** What `LetheClient.supportPacket` has written. */
export interface SupportPacket {
  readonly requestId: string;
  /** Absolute path. */
  readonly directory: string;
  readonly files: readonly { readonly connection: string; readonly path: string; readonly traces: number }[];
  /** Connections without a file, and why. */
  readonly left: readonly { readonly connection: string; readonly why: string }[];
  readonly warning: string;
}

/** Said wherever a packet is: in each file, and by the command. */
const WARNING =
  'This holds ids of one person’s traces. Give each file to the support of its own store and to nobody else, by a channel ' +
  'that you would use for the data itself, and delete the files afterwards.';

/** Thrown when no packet can be made, since what it would hold was only in the vault. Holds no ids. */
export class NoSupportPacketError extends Error {
  constructor(cause: VaultLostError) {
    super(
      'No support packet can be made: the ids of the traces are only in the vault, and it cannot be opened for this ' +
        `request (${cause.message}). With its keys destroyed they are gone for good; the record still tells counts, times ` +
        'and request ids: lethe report',
      { cause },
    );
    this.name = 'NoSupportPacketError';
  }
}

interface Source {
  readonly requestId: string;
  readonly connection: string;
  readonly config: ConnectionConfig | undefined;
  readonly view: RecordView;
  readonly book: Book;
  /** By round and batch. */
  readonly deltas: ReadonlyMap<string, Delta>;
  readonly chosen: readonly BookEntry[];
}

/**
 * Writes what the support of each store asks for when it is told that deleted traces are still there: ids and times of
 * submission, the answers' own counts, and what that store's folder says that its vendor wants besides.
 *
 * @throws NoSupportPacketError when the vault does not give the ids.
 */
export async function writeSupportPacket(
  requestId: string,
  view: RecordView,
  connections: Readonly<Record<string, ConnectionConfig>>,
  vault: Vault,
  options: SupportPacketOptions,
): Promise<SupportPacket> {
  const directory = resolve(options.directory ?? `lethe-support-${requestId}`);
  const contents: { connection: string; packet: object; traces: number }[] = [];
  const left: { connection: string; why: string }[] = [];
  for (const connection of view.request?.connections ?? Object.keys(view.lanes)) {
    const source = await sourceOf(requestId, connection, { view, vault, config: connections[connection], options });
    if (typeof source === 'string') left.push({ connection, why: source });
    else contents.push({ connection, packet: packetOf(source, options), traces: source.chosen.length });
  }
  const files: { connection: string; path: string; traces: number }[] = [];
  if (contents.length > 0) {
    await mkdir(directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST')) throw error;
    });
  }
  for (const { connection, packet, traces } of contents) {
    const path = join(directory, `${connection}.json`);
    await writeAtomically(path, `${JSON.stringify(packet, null, 2)}\n`);
    files.push({ connection, path, traces });
  }
  return { requestId, directory, files, left, warning: WARNING };
}

async function sourceOf(
  requestId: string,
  connection: string,
  {
    view,
    vault,
    config,
    options,
  }: {
    readonly view: RecordView;
    readonly vault: Vault;
    readonly config: ConnectionConfig | undefined;
    readonly options: SupportPacketOptions;
  },
): Promise<Source | string> {
  try {
    const name = await latestBook(vault, requestId, connection);
    if (name === null) {
      const planned = view.lanes[connection]?.entries.some(({ entry }) => entry.kind === 'plan') === true;
      if (planned) throw new VaultLostError('missing');
      return 'nothing was planned there';
    }
    const book = await vault.get(requestId, { name }, bookSchema);
    const deltas = new Map<string, Delta>();
    for (const blob of await vault.list(requestId)) {
      if (!blob.startsWith(`${connection}/round-`)) continue;
      const delta = await vault.get(requestId, { name: blob }, deltaSchema);
      deltas.set(`${delta.round}/${delta.batch}`, delta);
    }
    const chosen = book.entries.filter(
      ({ state, readable = 0 }) =>
        options.allTraces === true || state === 'survived' || state === 'inconclusive' || readable > 0,
    );
    if (chosen.length === 0) return 'none of its traces survived or is inconclusive; with all traces it has a file';
    return { requestId, connection, config, view, book, deltas, chosen };
  } catch (error) {
    if (error instanceof VaultLostError) throw new NoSupportPacketError(error);
    throw error;
  }
}

function packetOf(source: Source, options: SupportPacketOptions): object {
  const { requestId, connection, config, view, book, chosen } = source;
  const lane = view.lanes[connection]?.entries.map(({ entry }) => entry) ?? [];
  const plan = lane.find((entry) => entry.kind === 'plan');
  const latestRead = lane.findLast((entry) => entry.kind === 'read');
  const store = config?.store ?? plan?.store ?? 'unknown';
  const projectIds = [...new Set(chosen.map(({ projectId }) => projectId))];
  const projects = book.projects.filter(({ id }) => projectIds.includes(id));
  const plannedAt = plan?.at ?? null;
  const latestReadAt = latestRead?.at ?? null;
  const deleteCalls = callsOf(source);
  const deletes = deleteCalls.map(({ traceIds }) => traceIds);
  // Of a connection that is no longer in the config nobody knows the address.
  const part: SupportPart =
    config === undefined
      ? { packet: { projects } }
      : supportPartOf(config, { projects, projectIds, plannedAt, latestReadAt, deletes });
  return {
    format: 'lethe-support-packet/1',
    warning: WARNING,
    requestId,
    connection,
    store,
    simulated: view.simulated,
    client: { lethe: LETHE_VERSION, node: process.version },
    selection: options.allTraces === true ? 'every trace of the request' : 'traces that survived or are inconclusive',
    plannedAt,
    latestReadAt,
    deleteCalls,
    ...part.packet,
    traces: chosen.map((entry) => {
      const trace = traceOf(source, entry);
      return { ...trace, ...part.trace?.({ ...trace, rowIds: entry.rowIds }) };
    }),
  };
}

interface DeleteCall {
  readonly sentAt: string | null;
  readonly acknowledgedAt: string | null;
  readonly route: string | null;
  readonly status: number | null;
  readonly requestId: string | null;
  readonly projectId: string | null;
  /** What the answer counted as matched or deleted; null: it did not say. */
  readonly counted: number | null;
  /** Those of the chosen traces that it named. */
  readonly traceIds: readonly string[];
}

/** The delete calls that named any of the chosen traces, in order. */
function callsOf({ connection, view, deltas, chosen }: Source): readonly DeleteCall[] {
  const submits = (view.lanes[connection]?.entries ?? []).flatMap(({ entry }): SubmitEntry[] =>
    entry.kind === 'submit' && entry.count > 0 ? [entry] : [],
  );
  return submits.flatMap((entry) => {
    const delta = deltas.get(`${entry.round}/${entry.batch}`);
    const sent = new Set(delta?.sent);
    const traceIds = chosen.flatMap(({ projectId, traceId }) =>
      projectId === delta?.projectId && sent.has(traceId) ? [traceId] : [],
    );
    if (traceIds.length === 0) return [];
    const { sentAt, acknowledgedAt, route, status, requestId } = entry;
    const answer = { sentAt, acknowledgedAt, route, status, requestId };
    return [{ ...answer, projectId: delta?.projectId ?? null, counted: entry.counted ?? null, traceIds }];
  });
}

function traceOf(source: Source, { projectId, traceId, state, readable, runs }: BookEntry) {
  const submitted = callsOf({ ...source, chosen: source.chosen.filter((one) => one.traceId === traceId) }).filter(
    (call) => call.projectId === projectId,
  );
  return {
    traceId,
    projectId,
    state,
    rowsAtPlan: runs,
    rowsAtLatestRead: readable ?? 0,
    submitted: submitted.map(({ sentAt, requestId }) => ({ sentAt, requestId })),
  };
}
