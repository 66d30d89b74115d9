import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import type { KindRule } from '../activities/deps.ts';
import { webhookKey } from '../activities/webhook.ts';
import type { Clock } from '../erasure/clock.ts';
import { EVENT_KINDS, type EventKind } from '../erasure/events.ts';
import { KEPT_POLICIES, type KeptPolicy } from '../erasure/include.ts';
import { isZone, LAWS, type Law } from '../erasure/law.ts';
import { durationSchema } from '../stores/connection.ts';
import { connectionSchema } from '../stores/registry.ts';
import { deriveKeys, KeyError, type KeySecrets } from '../vault/keys.ts';
import { parseDuePeriod, type DuePeriod } from './due.ts';
import { ConfigError, type Problem } from './errors.ts';
import { isLoopback } from './loopback.ts';
import { ABSENT_SECRET, markReferences, resolveReferences, unmarkReferences } from './references.ts';
import { compileTemporal, temporalSchema, type TemporalConfig } from './temporal.ts';
import { problemsOf } from './zod-problems.ts';

const kind = z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, 'must be lower-case letters, digits and underscores');

const connectionName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'a connection name must be lower-case letters, digits, dots, dashes or underscores',
  );

const keptSchema = z.enum(KEPT_POLICIES, 'must be keep, ask or erase').default('keep');

const policySchema = z.strictObject({
  /** Counted clean reads, a settle time apart, before a lane may say `verified`. Default and least: 2. */
  cleanReads: z.int().min(2).max(10).default(2),
  /** Rounds after which a lane asks for an operator while it keeps trying. Default: 3. */
  flagAfterRounds: z.int().min(1).default(3),
  /** Whose periods count for requests that name no law themselves. Default: gdpr. */
  law: z.enum(LAWS).default('gdpr'),
  /** Zone in which the law's days end, an IANA name. Default: UTC. */
  zone: z.string().refine(isZone, 'must be the name of a time zone, like "Europe/Berlin"').default('UTC'),
  /**
   * Until when a request must be done, counted from its receipt to the same time of day: calendar months, or days.
   * Default: the end of the law's first period; without a law 1 month.
   */
  due: z
    .string()
    .refine((text) => parseDuePeriod(text) !== null, 'must be like "1 month" or "30 days"')
    .optional(),
  /** Nothing is deleted without an operator's word when a lane finds more traces than this. Default: 10000. */
  refuseAbove: z.int().min(1).default(10_000),
  /**
   * A lane that finds more traces than this waits until somebody has approved exactly its plan. Unlike `refuseAbove`, no
   * request can lift it. Default: `refuseAbove` alone decides.
   */
  approveAbove: z.int().min(0).optional(),
  /**
   * Above so many traces in a lane the plan must be approved by somebody else than the requester; requests must then
   * say who asks (`requestedBy`). Default: nobody else is needed.
   */
  secondPersonAbove: z.int().min(0).optional(),
  /**
   * What happens to traces that carry several people: `keep` reports them, `ask` waits for an operator before anything is
   * deleted, `erase` erases them for all who are in them. Default: keep.
   */
  sharedTraces: keptSchema,
  /**
   * What happens to traces of the person's conversations that carry nobody's identifier; as above. `erase` leaves those
   * alone whose conversation holds other people. Default: keep.
   */
  linkedTraces: keptSchema,
  /** What starts later than so long after the receipt is new activity: reported, and not erased. Default: 1 h. */
  grace: durationSchema.prefault('1 h'),
  /**
   * How long a lane whose traces are proven gone stays open, as `needs-operator`, while copies are left for people to erase
   * by hand, for instance `14 d`. Default: it does not wait, and the exceptions name them.
   */
  waitForTasks: durationSchema.optional(),
  /** People expected to wait for the same window at once; spreads their wake-ups. Default: 200. */
  expectedPeople: z.int().min(1).default(200),
  /** When to look again after the end, each counted from it: days or weeks. Default: never. */
  aftercare: z
    .array(z.string().refine((text) => aftercareDaysOf(text) !== null, 'must be like "7 days" or "2 weeks"'))
    .max(20)
    .default([]),
});

function aftercareDaysOf(text: string): number | null {
  const period = parseDuePeriod(text);
  return period !== null && 'days' in period ? period.days : null;
}

const notifySchema = z.strictObject({
  /** Where webhooks are sent. https, or plain http to this machine. */
  url: z.string().refine(isWebhookUrl, 'must be an https URL without user name, or one on this machine'),
  /** Signs them, see Standard Webhooks: 24 to 64 random bytes in base64. */
  secret: z.string(),
  /** Default: all. */
  events: z
    .array(z.enum(EVENT_KINDS))
    .min(1, 'names no event; leave it out for all')
    .default([...EVENT_KINDS]),
});

function isWebhookUrl(text: string): boolean {
  if (text === ABSENT_SECRET) return true;
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(text));
}

const clockSchema = z.strictObject({
  /** Real instant at which the two clocks meet, ISO 8601 with a zone. */
  real: z.iso.datetime({ offset: true, error: 'must be an ISO 8601 instant with a zone' }),
  /** What the virtual clock shows at that instant. */
  virtual: z.iso.datetime({ offset: true, error: 'must be an ISO 8601 instant with a zone' }),
  /** Virtual seconds per real second. */
  speed: z.number().positive().max(1_000_000),
});

const identifiersSchema = z
  .array(z.union([kind, z.strictObject({ kind, caseInsensitive: z.boolean().default(false) })]))
  .min(1, 'must name at least one kind of identifier, the primary one first');

const sections = {
  temporal: temporalSchema.prefault({}),
  /** Directory of vault, records and the embedded server, relative to the config file. Default: `./.lethe`. */
  state: z.string().min(1).default('./.lethe'),
  /** Two secrets of 32 random bytes each. May be left out for `lethe dev` and `lethe demo` only. */
  keys: z.strictObject({ hmac: z.string(), vault: z.string() }).optional(),
  /** Simulations only: every connection and the Temporal server must be on this machine. */
  clock: clockSchema.optional(),
  policy: policySchema.prefault({}),
  /** Signed webhooks about requests. Default: none. */
  notify: notifySchema.optional(),
  /** Kinds of identifiers, primary first: the primary one of a request decides who is the same person. */
  identifiers: identifiersSchema,
  connections: z
    .record(connectionName, connectionSchema)
    .refine((all) => Object.keys(all).length > 0, 'must name at least one connection'),
};

/** The whole of `lethe.yaml`. */
export const configSchema = z.strictObject(sections);

/** A configuration as people write it. */
export type ConfigInput = z.input<typeof configSchema>;

/** One connection as configured: its store decides what else it holds. */
export type ConnectionConfig = z.output<typeof connectionSchema>;

/** A configuration with everything filled in and checked. */
export interface LetheConfig {
  /** File it was read from, or null. */
  readonly file: string | null;
  readonly temporal: TemporalConfig;
  /** Absolute path. */
  readonly stateDir: string;
  /** Null: none configured; see `secretsFor`. */
  readonly secrets: KeySecrets | null;
  readonly clock: Clock;
  readonly policy: {
    readonly cleanReads: number;
    readonly flagAfterRounds: number;
    readonly law: Law;
    /** IANA name. */
    readonly zone: string;
    /** Null: the law's first period. */
    readonly due: DuePeriod | null;
    readonly refuseAbove: number;
    readonly approveAbove?: number | undefined;
    readonly secondPersonAbove?: number | undefined;
    readonly sharedTraces: KeptPolicy;
    readonly linkedTraces: KeptPolicy;
    /** Milliseconds. */
    readonly grace: number;
    /** Milliseconds; absent: lanes do not wait. */
    readonly waitForTasks?: number | undefined;
    readonly expectedPeople: number;
    /** Days after the end on which a watch looks again; ascending, unique. */
    readonly aftercareDays: readonly number[];
  };
  /** Null: no webhooks. The secret may be missing in processes that are no workers. */
  readonly notify: { readonly url: string; readonly secret: string; readonly events: readonly EventKind[] } | null;
  /** Primary first. */
  readonly kinds: readonly KindRule[];
  readonly connections: Readonly<Record<string, ConnectionConfig>>;
}

export interface LoadConfigOptions {
  /** File to read. Default: LETHE_CONFIG, else `./lethe.yaml`. */
  readonly path?: string | undefined;
  /** Environment for references and Temporal's variables. Default: that of the process. */
  readonly env?: NodeJS.ProcessEnv;
  /**
   * False for processes that never talk to a store, such as backend code that starts requests: variables that only
   * connections refer to may then be missing. Default: true.
   */
  readonly storeSecrets?: boolean;
}

/**
 * Reads and checks the configuration file.
 *
 * @throws ConfigError that lists every problem with its path.
 */
export function loadConfig(options: LoadConfigOptions = {}): LetheConfig {
  const env = options.env ?? process.env;
  const file = options.path ?? nonEmpty(env['LETHE_CONFIG']) ?? './lethe.yaml';
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const message =
      code === 'ENOENT'
        ? 'there is no such file; name one with --config or LETHE_CONFIG, or start from lethe.example.yaml'
        : `cannot be read (${code})`;
    throw new ConfigError(file, [{ path: '', message }]);
  }
  return compile(parseYaml(text, file), file, dirname(resolve(file)), env, options.storeSecrets ?? true);
}

/**
 * Checks a configuration given as a value, as `loadConfig` does with a file.
 *
 * @param options.directory what relative file names start from. Default: the working directory.
 * @throws ConfigError
 */
export function parseConfig(
  input: ConfigInput,
  options: { readonly env?: NodeJS.ProcessEnv; readonly directory?: string; readonly storeSecrets?: boolean } = {},
): LetheConfig {
  const { env = process.env, directory = process.cwd(), storeSecrets = true } = options;
  return compile(input, null, directory, env, storeSecrets);
}

function parseYaml(text: string, file: string): unknown {
  const lines = new LineCounter();
  const document = parseDocument(markReferences(text), { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    throw new ConfigError(
      file,
      document.errors.map((error) => {
        const { line, col } = lines.linePos(error.pos[0]);
        return { path: `line ${line}, column ${col}`, message: unmarkReferences(error.message) };
      }),
    );
  }
  try {
    return document.toJS();
  } catch (error) {
    // Aliases to nothing, or to too much.
    throw new ConfigError(file, [{ path: '', message: error instanceof Error ? error.message : String(error) }]);
  }
}

function compile(
  document: unknown,
  file: string | null,
  directory: string,
  env: NodeJS.ProcessEnv,
  storeSecrets: boolean,
): LetheConfig {
  const { value: raw, missing } = resolveReferences(document ?? {}, env);
  const wanting = missing.filter(({ keys }) => storeSecrets || (keys[0] !== 'connections' && keys[0] !== 'notify'));
  const unset = new Set(missing.map(({ path }) => path));
  const problems: Problem[] = wanting.map(({ path, message }) => ({ path, message }));
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new ConfigError(file, [{ path: '', message: 'must hold settings by name, see lethe.example.yaml' }]);
  }
  const fields = raw as Record<string, unknown>;
  // What stands in for a missing secret need not look like one.
  const add = (more: readonly Problem[]) => problems.push(...more.filter(({ path }) => !unset.has(path)));

  for (const key of Object.keys(fields)) {
    if (!(key in sections)) add([{ path: key, message: 'is not known here' }]);
  }
  // Section by section, so that one problem hides no other.
  const section = <K extends keyof typeof sections>(key: K): z.output<(typeof sections)[K]> | null => {
    const parsed = sections[key].safeParse(fields[key] ?? undefined);
    if (parsed.success) return parsed.data as z.output<(typeof sections)[K]>;
    add(problemsOf(parsed.error.issues, [key]));
    return null;
  };
  const temporalSection = section('temporal');
  const state = section('state');
  const keys = section('keys');
  const clock = section('clock');
  const policy = section('policy');
  const notify = section('notify');
  const identifiers = section('identifiers');
  const connections = section('connections');

  const temporal = temporalSection === null ? null : compileTemporal(temporalSection, directory, env);
  if (temporal !== null) add(temporal.problems);
  if (keys !== null && keys !== undefined) add(keyProblems(keys, unset));

  if (notify !== null && notify !== undefined) {
    const key = webhookKey(notify.secret);
    if (typeof key === 'string') add([{ path: 'notify.secret', message: key }]);
  }

  const kinds = (identifiers ?? []).map((entry) =>
    typeof entry === 'string' ? { kind: entry, caseInsensitive: false } : entry,
  );
  for (const [index, rule] of kinds.entries()) {
    if (kinds.findIndex((other) => other.kind === rule.kind) < index) {
      add([{ path: `identifiers[${index}]`, message: `repeats ${rule.kind}` }]);
    }
  }
  if (connections !== null) {
    if (identifiers !== null) add(unknownKinds(connections, kinds));
    if (clock !== null && clock !== undefined) {
      add(clockProblems(connections, temporal?.value?.address ?? null));
    }
  }

  const complete = [state, keys, clock, policy, notify, identifiers, connections].every((part) => part !== null);
  if (problems.length === 0 && !complete) problems.push(...missing);
  if (
    problems.length > 0 ||
    temporal?.value == null ||
    state === null ||
    keys === null ||
    clock === null ||
    policy === null ||
    notify === null ||
    identifiers === null ||
    connections === null
  ) {
    throw new ConfigError(file, problems);
  }
  return {
    file,
    temporal: temporal.value,
    stateDir: resolve(directory, state),
    secrets: keys ?? null,
    clock:
      clock === undefined
        ? null
        : { realMs: Date.parse(clock.real), virtualMs: Date.parse(clock.virtual), speed: clock.speed },
    policy: compilePolicy(policy),
    notify: notify ?? null,
    kinds,
    connections,
  };
}

function compilePolicy({ aftercare, ...policy }: z.output<typeof policySchema>): LetheConfig['policy'] {
  const days = aftercare.map(aftercareDaysOf).filter((count) => count !== null);
  return {
    ...policy,
    due: policy.due === undefined ? null : parseDuePeriod(policy.due),
    aftercareDays: [...new Set(days)].sort((a, b) => a - b),
  };
}

function keyProblems(keys: KeySecrets, unset: ReadonlySet<string>): Problem[] {
  // Stands in for the other secret, so that both are checked whatever one of them is.
  const good = '0123456789abcdef'.repeat(4);
  const check = (field: keyof KeySecrets): Problem[] => {
    if (unset.has(`keys.${field}`)) return [];
    try {
      deriveKeys({ hmac: good, vault: good, [field]: keys[field] });
      return [];
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      return [{ path: error.field, message: error.message.slice(error.field.length + 1) }];
    }
  };
  const problems = [...check('hmac'), ...check('vault')];
  if (problems.length === 0 && unset.size === 0 && keys.hmac.trim() === keys.vault.trim()) {
    problems.push({ path: 'keys.vault', message: 'is the same secret as keys.hmac: make two' });
  }
  return problems;
}

function unknownKinds(connections: Readonly<Record<string, ConnectionConfig>>, kinds: readonly KindRule[]): Problem[] {
  const known = kinds.map((rule) => rule.kind);
  return Object.entries(connections).flatMap(([name, { identifiers }]) =>
    Object.keys(identifiers)
      .filter((found) => !known.includes(found))
      .map((found) => ({
        path: `connections.${name}.identifiers.${found}`,
        message: `is not among identifiers (${known.join(', ')})`,
      })),
  );
}

/** P34: what a simulated clock says about a real store would be nonsense, and would look like evidence. */
function clockProblems(connections: Readonly<Record<string, ConnectionConfig>>, address: string | null): Problem[] {
  const why = 'is not on this machine, and a simulated clock is for simulations only: remove "clock"';
  const problems: Problem[] = [];
  for (const [name, connection] of Object.entries(connections)) {
    const addresses: Readonly<Record<string, unknown>> = connection;
    for (const field of ['baseUrl', 'appUrl', 'apiUrl']) {
      const url = addresses[field];
      if (typeof url === 'string' && url !== ABSENT_SECRET && !isLoopback(url)) {
        problems.push({ path: `connections.${name}.${field}`, message: why });
      }
    }
  }
  if (address !== null && !isLoopback(address)) problems.push({ path: 'temporal.address', message: why });
  return problems;
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text.trim() === '' ? undefined : text;
}
