import type { Clock } from '../erasure/clock.ts';
import type { KeptPolicy } from '../erasure/include.ts';
import type { LanePolicy } from '../erasure/steps.ts';
import type { RecordStore } from '../evidence/record.ts';
import type { SubjectHolds } from '../vault/subject-holds.ts';
import type { TraceStore } from '../stores/port.ts';
import type { Keys } from '../vault/keys.ts';
import type { Vault } from '../vault/vault.ts';
import type { WebhookTarget } from './post-webhook.ts';
import type { StartRequest } from './reopen.ts';

/** How values of one kind of identifier are compared (P15). */
export interface KindRule {
  readonly kind: string;
  /** Whether spellings that differ in case name the same person. Default in the config: false. */
  readonly caseInsensitive: boolean;
}

/** What both kinds of activities work with. */
export interface RequestDeps {
  readonly vault: Vault;
  readonly records: RecordStore;
  readonly keys: Keys;
  readonly clock: Clock;
  /** Version of this package, for the record. */
  readonly version: string;
  /** Starts requests for data that came back. Absent: this process cannot. */
  readonly startRequest?: StartRequest;
  /** Where webhooks go. Absent: nowhere. */
  readonly webhook?: WebhookTarget;
}

/** What the activities of one connection work with. */
export interface LaneDeps extends RequestDeps {
  readonly connection: string;
  readonly store: TraceStore;
  readonly policy: LanePolicy & {
    readonly refuseAbove: number;
    /** Above so many traces a lane waits for approval; absent: `refuseAbove` alone decides. */
    readonly approveAbove?: number | undefined;
    /** People expected to wait for the same window; sets the number of jitter slots. */
    readonly expectedPeople: number;
    /** What happens to traces of several people. */
    readonly sharedTraces: KeptPolicy;
    /** What happens to traces of the person's conversations that carry nobody. */
    readonly linkedTraces: KeptPolicy;
    /** What starts later after the receipt is new activity (P21), milliseconds. */
    readonly graceMs: number;
  };
  /** Configured kinds, primary first. */
  readonly kinds: readonly KindRule[];
  /** Kinds of identifiers and the keys under which this connection keeps them. */
  readonly searchKeys: Readonly<Record<string, readonly string[]>>;
  /** Limits the controller accepted beforehand (P1). */
  readonly accept: readonly string[];
  /** Who is held whatever is asked (P27). Absent: nobody, which only tests may say. */
  readonly holds?: SubjectHolds;
}
