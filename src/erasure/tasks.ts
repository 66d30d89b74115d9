import { formatCount } from './format.ts';
import type { CopyLedger } from './ledger.ts';
import type { LaneException } from './outcome.ts';

/** Work that no call can do: copies of one kind, in one place, that somebody erases by hand. Holds no personal data. */
export interface ManualTask {
  /** The same for as long as the request lives; see `taskId`. */
  readonly id: string;
  /** Kind of copy, as in the store's copy map. */
  readonly kind: string;
  readonly count: number;
  /** What the copies lie in, by the store's own id; null: not told, or too many places to name each. */
  readonly where: string | null;
  /** For a person. */
  readonly instructions: string;
  /** How many of them somebody has said to be erased; absent: none. */
  readonly attested?: number | undefined;
  /** Whose word that is. */
  readonly attestedBy?: string | undefined;
}

/** Somebody's word that the copies of a task are erased. */
export interface Attestation {
  readonly task: string;
  readonly by: string;
  /** Copies that the task had then; what joins it later is not meant. */
  readonly count: number;
}

export function isOpen({ count, attested = 0 }: ManualTask): boolean {
  return attested < count;
}

/** The places beyond which the copies of one kind make one task, so that a status stays small. */
const MOST_PLACES = 100;

/** Copies that somebody has to erase by hand, as they make tasks: by kind and place. */
export function tasksAmong<C extends { readonly kind: string; readonly where?: string | undefined }>(
  copies: readonly C[],
): readonly { readonly kind: string; readonly where: string | null; readonly copies: readonly C[] }[] {
  const kinds = new Map<string, Map<string | null, C[]>>();
  for (const copy of copies) {
    const places = kinds.get(copy.kind) ?? new Map<string | null, C[]>();
    const where = copy.where ?? null;
    const inside = places.get(where);
    if (inside === undefined) kinds.set(copy.kind, places.set(where, [copy]));
    else inside.push(copy);
  }
  return [...kinds].flatMap(([kind, places]) =>
    places.size > MOST_PLACES
      ? [{ kind, where: null, copies: [...places.values()].flat() }]
      : [...places].map(([where, inside]) => ({ kind, where, copies: inside })),
  );
}

/** The parts of a lane's figures that attestations change. */
interface Figures {
  readonly copies: CopyLedger;
  readonly exceptions: readonly LaneException[];
  readonly tasks?: readonly ManualTask[] | undefined;
}

/**
 * The figures with what somebody's word changes (P29): copies of attested tasks move from `manual` to `attested`, and the
 * exceptions say by whose word. Doing it again changes nothing.
 */
export function withAttestations<F extends Figures>(figures: F, attestations: readonly Attestation[] | undefined): F {
  const { tasks } = figures;
  if (tasks === undefined || attestations === undefined || attestations.length === 0) return figures;
  const latest = new Map(attestations.map((one) => [one.task, one]));
  const next = tasks.map((task): ManualTask => {
    const { attested: _attested, attestedBy: _by, ...plain } = task;
    const word = latest.get(task.id);
    return word === undefined ? plain : { ...plain, attested: Math.min(task.count, word.count), attestedBy: word.by };
  });
  const before = figures.copies.attested ?? 0;
  const attested = next.reduce((sum, task) => sum + (task.attested ?? 0), 0);
  const open = next.reduce((sum, task) => sum + task.count - (task.attested ?? 0), 0);
  const names = [...new Set(next.flatMap(({ attestedBy }) => attestedBy ?? []))];
  const { attested: _before, ...copies } = figures.copies;
  const words: readonly LaneException[] = [
    {
      kind: 'manual-copies',
      count: open,
      text: `${copiesOf(open)} elsewhere in the store must be erased by hand`,
    },
    {
      kind: 'attested-copies',
      count: attested,
      text: `${copiesOf(attested)} erased by hand on the word of ${names.join(', ')}, which no read of Lethe's has shown`,
    },
  ];
  const isOurs = ({ kind }: LaneException): boolean => kind === 'manual-copies' || kind === 'attested-copies';
  const at = figures.exceptions.findIndex(isOurs);
  const others = figures.exceptions.filter((one) => !isOurs(one));
  const place = at < 0 ? others.length : at;
  return {
    ...figures,
    tasks: next,
    copies: {
      ...copies,
      manual: copies.manual + before - attested,
      ...(attested === 0 ? {} : { attested }),
    },
    exceptions: [...others.slice(0, place), ...words.filter(({ count }) => count > 0), ...others.slice(place)],
  };
}

function copiesOf(count: number): string {
  return `${formatCount(count)} ${count === 1 ? 'copy' : 'copies'}`;
}
