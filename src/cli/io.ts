/** Where a command reads and writes. Everything a person is told while waiting goes to stderr under `--json`. */
export interface Io {
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: NodeJS.ReadStream;
  /** Writes a line to stdout. */
  readonly out: (text: string) => void;
  /** Writes a line to stderr. */
  readonly err: (text: string) => void;
}

export const processIo: Io = {
  env: process.env,
  stdin: process.stdin,
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
};

/** One object on stdout, and nothing else. */
export function printJson(io: Io, value: unknown): void {
  io.out(JSON.stringify(value, null, 2));
}
