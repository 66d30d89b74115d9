import { readFileSync } from 'node:fs';

/** Version of this package, as the record names it. */
export const LETHE_VERSION: string = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
