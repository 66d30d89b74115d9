import type { z } from 'zod';
import type { Problem } from './errors.ts';

/** `connections.langsmith-prod.projects[0]`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, '');
}

/** zod's issues as problems: one line each, unknown fields under their own path, union branches joined. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], prefix: readonly PropertyKey[] = []): Problem[] {
  return issues.flatMap((issue): Problem[] => {
    const path = [...prefix, ...issue.path];
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: formatPath([...path, key]), message: 'is not known here' }));
    }
    if (issue.code === 'invalid_union' && issue.errors.length > 0) {
      const branches = issue.errors.flatMap((branch) => problemsOf(branch, path));
      const deeper = branches.filter((problem) => problem.path !== formatPath(path));
      // A branch that got further is the one that was meant.
      if (deeper.length > 0) return deeper;
      return [{ path: formatPath(path), message: [...new Set(branches.map((b) => b.message))].join(', or ') }];
    }
    if (issue.code === 'invalid_type' && issue.input === undefined && /received undefined/.test(issue.message)) {
      return [{ path: formatPath(path), message: 'is missing' }];
    }
    return [{ path: formatPath(path), message: lowerFirst(issue.message) }];
  });
}

function lowerFirst(text: string): string {
  return text.replace(/^Invalid input: /, '').replace(/^[A-Z](?=[a-z ])/, (letter) => letter.toLowerCase());
}
