import {
  inScope,
  NO_COMMON_HABITS,
  Switches,
  type CommonHabits,
  type HabitScope,
  type HabitTarget,
} from '../common/habits.ts';
import { HOUR_MS } from '../common/time.ts';
import type { View } from './rows.ts';

/** A part of filters that the service stops honouring. */
export interface FilterDrop {
  /** The filter key (`metadata__user_id`) or operator (`in`), exactly as sent. */
  readonly name: string;
  /**
   * So many fitting calls that carry it are still honoured: with 1 a canary passes and the delete after it does not.
   * Default 0.
   */
  readonly after?: number;
  /** Which calls fit. Default `all`. */
  readonly on?: HabitScope;
}

/** What reads come back empty. */
export type Blindness = 'all' | 'filters' | 'logs' | 'traces';

/** Late data after a delete. */
export interface LateComers {
  /** For so many of the traces that are deleted from now on. */
  readonly count: number;
  /** Virtual milliseconds after the delete was accepted. Default one hour. */
  readonly delayMs?: number;
}

/** Bad habits, all off by default, and choices where the documents disagree or say nothing. */
export interface RespanHabits extends CommonHabits {
  /** Filter keys that are dropped like unknown ones. Their counts start over whenever this is set. */
  dropFilterKeys: readonly FilterDrop[];
  /** Operators whose conditions are dropped. */
  dropOperators: readonly FilterDrop[];
  /** What an operator that the compiler doesn't know does. Default `dropped`; no document says. */
  unknownOperator: 'dropped' | 'rejected' | 'equals';
  /** On traces (list and delete) `in` matches only its first value. */
  inFirstOnly: boolean;
  /** Deletes are accepted and counted, and never executed. */
  deletesNeverRun: boolean;
  /** Share (0..1) of the traces of each delete that is silently not deleted, drawn anew for every delete. */
  dropShare: number;
  /** Virtual milliseconds by which deletes take effect later than the usual mutation delay. */
  deletesDelayedMs: number;
  /** Which table the mutation reaches: with `traces` the spans stay readable, with `spans` the trace rows do. */
  mutates: 'both' | View;
  /** Only the root goes, the children stay. */
  leaveChildren: boolean;
  /** Of a deleted trace only the spans whose timestamp lies in the delete's window go. */
  windowCutsSpans: boolean;
  /** A late child span, with the root's identifiers, turns up under the deleted trace id. */
  lateSpans: LateComers | null;
  /** A new trace with the same identifiers and metadata turns up: late data, which started with the deleted one. */
  lateTraces: LateComers | null;
  /** Virtual milliseconds that accepted spans and logs wait in the queue, on top of the option `ingestDelayMs`. */
  queueDelayMs: number;
  /** `environment` narrows nothing, in reads and in deletes. */
  environmentsIgnored: boolean;
  /** Whether `production` and `staging` mean `prod` and `stage`, or match nothing (default). */
  environmentAliases: 'match-nothing' | 'aliases';
  /** What an omitted `environment` means: the key's own (default), or all. */
  environmentOmitted: 'own' | 'all';
  /** `start_time` and `end_time` narrow nothing: everything there is. */
  windowIgnored: boolean;
  /** The window is silently cut to so many days before now (one client of the vendor took 7 for the maximum). */
  windowAtMostDays: number | null;
  /** Reads answer 200 with nothing in it; single reads are 404. */
  blind: Blindness | null;
  /** Reads show the state of so many virtual milliseconds ago. */
  stale: number;
  /** At each further page `by` more rows are skipped (as if they had vanished), or repeated when negative. */
  shiftingPages: { readonly by: number } | null;
  /** `count` of a list: the rows of this page (default; vendor's MCP server), or all matches (documents). */
  count: 'page' | 'total';
  /** Added to `deleted_count` and `matched_count`, although nothing else happened. */
  countsInflatedBy: number;
  /** A bulk delete whose filters hold one of these trace ids is refused as a whole; status 400 by default. */
  rejectBatchWith: { readonly ids: readonly string[]; readonly status?: number } | null;
  /** DELETE of a customer answers 204 and the record stays. */
  customerImmortal: boolean;
  /** DELETE of a customer takes the logs and traces along. Default false; the documents disagree. */
  customerTakesLogs: boolean;
  /** The older DELETE of one log: works, or the route is gone. Default 405. */
  spanDelete: 'alive' | 404 | 405;
  /** Reading a trace that isn't there: 404 (default), or 200 with no spans. No document says. */
  missingTrace: 404 | 'empty';
  /** Public links survive the deletion of their trace. */
  keepShares: boolean;
}

/** All habits off. */
const NO_HABITS: RespanHabits = {
  ...NO_COMMON_HABITS,
  dropFilterKeys: [],
  dropOperators: [],
  unknownOperator: 'dropped',
  inFirstOnly: false,
  deletesNeverRun: false,
  dropShare: 0,
  deletesDelayedMs: 0,
  mutates: 'both',
  leaveChildren: false,
  windowCutsSpans: false,
  lateSpans: null,
  lateTraces: null,
  queueDelayMs: 0,
  environmentsIgnored: false,
  environmentAliases: 'match-nothing',
  environmentOmitted: 'own',
  windowIgnored: false,
  windowAtMostDays: null,
  blind: null,
  stale: 0,
  shiftingPages: null,
  count: 'page',
  countsInflatedBy: 0,
  rejectBatchWith: null,
  customerImmortal: false,
  customerTakesLogs: false,
  spanDelete: 405,
  missingTrace: 404,
  keepShares: false,
};

/** The switches of a running simulator. */
export class HabitSwitches extends Switches<RespanHabits> {
  readonly #honoured = new Map<FilterDrop, number>();
  #lateSpans = 0;
  #lateTraces = 0;

  constructor(seed: number) {
    super(NO_HABITS, seed);
  }

  override set(changes: Partial<RespanHabits>): void {
    super.set(changes);
    if ('lateSpans' in changes) this.#lateSpans = changes.lateSpans?.count ?? 0;
    if ('lateTraces' in changes) this.#lateTraces = changes.lateTraces?.count ?? 0;
    for (const drop of [...(changes.dropFilterKeys ?? []), ...(changes.dropOperators ?? [])]) {
      this.#honoured.delete(drop);
    }
  }

  override reset(): void {
    super.reset();
    this.#honoured.clear();
    this.#lateSpans = 0;
    this.#lateTraces = 0;
  }

  #drops(drops: readonly FilterDrop[], name: string, target: HabitTarget): boolean {
    const drop = drops.find((one) => one.name === name && inScope(one.on, target));
    if (drop === undefined) return false;
    const honoured = this.#honoured.get(drop) ?? 0;
    if (honoured >= (drop.after ?? 0)) return true;
    this.#honoured.set(drop, honoured + 1);
    return false;
  }

  /** Whether a filter key is dropped from this call. Counts the calls in which it is still honoured. */
  dropsKey(name: string, target: HabitTarget): boolean {
    return this.#drops(this.current.dropFilterKeys, name, target);
  }

  /** Whether conditions with this operator are dropped from this call. Counts alike. */
  dropsOperator(name: string, target: HabitTarget): boolean {
    return this.#drops(this.current.dropOperators, name, target);
  }

  /** Takes one late span; its delay in milliseconds, or `null` when none is left. */
  takeLateSpan(): number | null {
    if (this.#lateSpans <= 0) return null;
    this.#lateSpans -= 1;
    return this.current.lateSpans?.delayMs ?? HOUR_MS;
  }

  /** Takes one late trace; its delay in milliseconds, or `null` when none is left. */
  takeLateTrace(): number | null {
    if (this.#lateTraces <= 0) return null;
    this.#lateTraces -= 1;
    return this.current.lateTraces?.delayMs ?? HOUR_MS;
  }

  /** Whether a read of that kind comes back empty. */
  isBlind(kind: 'logs' | 'traces' | null, filtered: boolean): boolean {
    const { blind } = this.current;
    return blind === 'all' || (blind === 'filters' && filtered) || (blind !== null && blind === kind);
  }
}
