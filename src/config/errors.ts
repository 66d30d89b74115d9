/** One thing wrong in a config, a request or a command line. */
export interface Problem {
  /** Where, for instance `connections.langsmith-prod.baseUrl`; empty: the whole. */
  readonly path: string;
  /** What is wrong and what would be right. Never repeats a value that may be personal or secret. */
  readonly message: string;
}

/** Thrown when the configuration cannot be used; lists every problem found. Nothing was started or sent. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** File that was read, or null for a config given as a value. */
  readonly file: string | null;
  readonly problems: readonly Problem[];

  constructor(file: string | null, problems: readonly Problem[], options?: ErrorOptions) {
    const what = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    super(
      [
        `${file ?? 'The configuration'} has ${what}. Nothing was started, and nothing was sent to any store.`,
        ...problems.map(formatProblem),
      ].join('\n'),
      options,
    );
    this.file = file;
    this.problems = problems;
  }
}

/** `  path: message`, for lists of problems. */
export function formatProblem({ path, message }: Problem): string {
  return path === '' ? `  ${message}` : `  ${path}: ${message}`;
}
