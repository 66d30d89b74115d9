import type { Clock } from '../../erasure/clock.ts';
import { Timeline } from '../common/time.ts';
import { Copies } from './copies.ts';
import { DeletionQueue } from './deletions.ts';
import { HabitSwitches } from './habits.ts';
import { Random } from '../common/ids.ts';
import { Ledger, RateLimits } from './ledger.ts';
import { RunState, type Project } from './state.ts';

/** A key that the simulator accepts. */
export interface ApiKeyOptions {
  readonly key: string;
  /** How the ledger names it. Default: `key-<n>`. */
  readonly name?: string;
  /** The workspace it belongs to. Default: the first. Ignored for organisation-scoped keys. */
  readonly workspaceId?: string;
  /** Needs `X-Tenant-Id` on every request, else 403 `org_scoped_key_requires_workspace`. Default false. */
  readonly orgScoped?: boolean;
  /**
   * `full` (default) may delete; `traces-only` gets 403 on `runs/delete` and may use `runs/delete/traces`; `none` gets 403
   * on both, as an Editor does.
   */
  readonly deletes?: 'full' | 'traces-only' | 'none';
  /** Whether it may unshare (`runs:share`). Default true. */
  readonly shares?: boolean;
}

export interface Workspace {
  readonly id: string;
  readonly name: string;
}

/** How a simulator is set up. Everything is optional. */
export interface LangSmithSimulatorOptions {
  /** The virtual clock; `null` (default) is real time. */
  readonly clock?: Clock;
  /** Port on 127.0.0.1; default 0: a free one. */
  readonly port?: number;
  /** Keys accepted; default one, given back as `apiKey`. Any other key is answered 403, a missing one 401. */
  readonly apiKeys?: readonly (string | ApiKeyOptions)[];
  /** Version told by `/info`; default 0.18.2, above what makes the SDK warn. */
  readonly version?: string;
  /** Seed of every random choice; default 1. */
  readonly seed?: number;
  /** Workspaces; default one, given back as `workspaceId`. */
  readonly workspaces?: readonly Workspace[];
  /** Rate limits of the vendor's table, on the virtual clock; default true. `retryAfter` adds the header to those 429s. */
  readonly limits?: boolean | { readonly retryAfter: boolean };
  /** Flags of `/info` on top of the defaults (both stores on, gzip on, zstd off). */
  readonly instanceFlags?: Readonly<Record<string, unknown>>;
  /** Whether `/runs/multipart` exists; without it (404) the SDK falls back to batches for good. Default true. */
  readonly multipart?: boolean;
  /** Virtual milliseconds between the acceptance of a write and its visibility. Default 0. */
  readonly ingestDelayMs?: number;
  /** Name of the workspace's evaluator project, which only `sessions/resolutions` tells. Default: none. */
  readonly evaluatorProject?: string;
  /** Whether `/info` demands a key; default false. */
  readonly infoNeedsKey?: boolean;
}

export interface ApiKey {
  readonly key: string;
  readonly name: string;
  readonly workspaceId: string;
  readonly orgScoped: boolean;
  readonly deletes: 'full' | 'traces-only' | 'none';
  readonly shares: boolean;
}

/** Everything behind the HTTP surface of one simulator. */
export class World {
  readonly version: string;
  readonly instanceFlags: Readonly<Record<string, unknown>>;
  readonly multipart: boolean;
  readonly ingestDelayMs: number;
  readonly infoNeedsKey: boolean;
  readonly limitsOn: boolean;
  readonly limitsRetryAfter: boolean;
  readonly workspaces: readonly Workspace[];
  readonly apiKeys: readonly ApiKey[];
  readonly random: Random;
  readonly habits: HabitSwitches;
  readonly copies: Copies;
  readonly state: RunState;
  readonly deletions: DeletionQueue;
  readonly ledger = new Ledger();
  readonly limits = new RateLimits();
  readonly #time: Timeline;

  constructor(options: LangSmithSimulatorOptions) {
    const seed = options.seed ?? 1;
    this.#time = new Timeline(options.clock ?? null);
    this.version = options.version ?? '0.18.2';
    this.multipart = options.multipart ?? true;
    this.ingestDelayMs = options.ingestDelayMs ?? 0;
    this.infoNeedsKey = options.infoNeedsKey ?? false;
    this.limitsOn = options.limits !== false;
    this.limitsRetryAfter = typeof options.limits === 'object' && options.limits.retryAfter;
    this.instanceFlags = {
      ch_query_enabled: true,
      sdb_query_enabled: true,
      dataset_examples_multipart_enabled: true,
      gzip_body_enabled: true,
      zstd_compression_enabled: false,
      ...options.instanceFlags,
    };
    this.random = new Random(seed);
    this.workspaces = options.workspaces ?? [{ id: this.random.uuid4(), name: 'Workspace 1' }];
    const home = this.workspaces[0]?.id ?? this.random.uuid4();
    this.apiKeys = (options.apiKeys ?? ['lsv2_pt_simulator_0001']).map((given, index) => {
      const key = typeof given === 'string' ? { key: given } : given;
      return {
        key: key.key,
        name: key.name ?? `key-${index + 1}`,
        workspaceId: key.workspaceId ?? home,
        orgScoped: key.orgScoped ?? false,
        deletes: key.deletes ?? 'full',
        shares: key.shares ?? true,
      };
    });
    this.habits = new HabitSwitches(seed);
    this.copies = new Copies(this.random);
    this.state = new RunState(this.random, (runId) => this.copies.feedbackOf(runId));
    this.deletions = new DeletionQueue(this.state, this.copies, this.habits, this.random, seed, this.now());
    if (options.evaluatorProject !== undefined) {
      const fields = { tenantId: home, name: options.evaluatorProject, evaluator: true, listed: false };
      this.state.addProject(fields, this.now());
    }
  }

  /** The virtual instant, epoch milliseconds. */
  now(): number {
    return this.#time.now();
  }

  /** The virtual instant, with every batch run that was due by then. */
  tick(): number {
    const now = this.now();
    this.deletions.catchUp(now);
    return now;
  }

  /** Moves this simulator's clock forward. */
  advance(ms: number): void {
    this.#time.advance(ms);
    this.tick();
  }

  /** The project a write goes to, made on first use. */
  projectFor(tenantId: string, name: string, nowMs: number): Project {
    return this.state.projectByName(tenantId, name, nowMs) ?? this.state.addProject({ tenantId, name }, nowMs);
  }

  /** The project an agent address names (`lrn:agents/{id}/environments/{environment}`), made on first use. */
  agentProject(tenantId: string, address: string, nowMs: number): Project | null {
    const [, id, environment] = /^lrn:agents\/([^/]+)\/environments\/([^/]+)$/.exec(address) ?? [];
    if (id === undefined || environment === undefined) return null;
    const agent = { id, environment: environment.toUpperCase() };
    const name = `${agent.id}/${agent.environment}`;
    const known = this.state.projectByName(tenantId, name, nowMs);
    return known ?? this.state.addProject({ tenantId, name, type: 'AGENT', agent }, nowMs);
  }
}
