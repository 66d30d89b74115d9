import type { Problem } from './errors.ts';
import { formatPath } from './zod-problems.ts';

/*
 * `${NAME}` may stand where YAML gives braces a meaning of their own (`{ hmac: ${LETHE_HMAC_KEY} }`), and what the
 * variable holds must never be read as YAML. So references are replaced before parsing by characters that YAML takes as
 * plain text, of the same length so that columns stay true, and by their values after it.
 */
const OPEN = '\uE000';
const CLOSE = '\uE001';
const REFERENCE = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;
const MARKED = new RegExp(`${OPEN}${OPEN}([A-Za-z_][A-Za-z0-9_]*)${CLOSE}`, 'g');

/** Hides `${NAME}` from the YAML parser. */
export function markReferences(yaml: string): string {
  return yaml.replace(REFERENCE, `${OPEN}${OPEN}$1${CLOSE}`);
}

/** Makes marked text readable again, for error messages. */
export function unmarkReferences(text: string): string {
  return text.replace(MARKED, '${$1}');
}

/** Stands for a secret that may be missing, see `resolveReferences`. */
export const ABSENT_SECRET = 'absent';

export interface ResolvedReferences {
  readonly value: unknown;
  /** References to variables that are not set; their places hold `ABSENT_SECRET`. */
  readonly missing: readonly (Problem & { readonly keys: readonly PropertyKey[] })[];
}

/** Replaces every marked or plain reference inside the texts of a parsed document. */
export function resolveReferences(document: unknown, env: NodeJS.ProcessEnv): ResolvedReferences {
  const missing: (Problem & { readonly keys: readonly PropertyKey[] })[] = [];
  const visit = (value: unknown, keys: readonly PropertyKey[]): unknown => {
    if (typeof value === 'string') {
      return unmarkReferences(value).replace(REFERENCE, (_, name: string) => {
        const found = env[name];
        if (found !== undefined && found !== '') return found;
        missing.push({
          keys,
          path: formatPath(keys),
          message: `needs the environment variable ${name}, which is ${found === '' ? 'empty' : 'not set'}`,
        });
        return ABSENT_SECRET;
      });
    }
    if (Array.isArray(value)) return value.map((item, index) => visit(item, [...keys, index]));
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [unmarkReferences(key), visit(item, [...keys, key])]),
      );
    }
    return value;
  };
  return { value: visit(document, []), missing };
}
