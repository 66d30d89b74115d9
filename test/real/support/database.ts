import { DatabaseSync } from 'node:sqlite';

/** Rows straight from a server's database file, past the server. */
export function rowsIn<Row>(file: string, sql: string, values: readonly (string | number)[] = []): Row[] {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    database.exec('pragma busy_timeout = 10000');
    const statement = database.prepare(sql);
    // Nanoseconds are more than a number holds.
    statement.setReadBigInts(true);
    return statement.all(...values).map((row) => withNumbers(row) as Row);
  } finally {
    database.close();
  }
}

/** What an operator does to a database file, with its own tools. */
export function maintain(file: string, sql: string): void {
  const database = new DatabaseSync(file);
  try {
    database.exec(`pragma busy_timeout = 30000; ${sql}`);
  } finally {
    database.close();
  }
}

function withNumbers(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (typeof value !== 'bigint') return [name, value];
      return [name, Number.isSafeInteger(Number(value)) ? Number(value) : String(value)];
    }),
  );
}
