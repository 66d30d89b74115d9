/** How rows refer to files: the SDK puts such an object where the file stood (vendor's SDK sources). */
const REFERENCES: Readonly<Record<string, string>> = { braintrust_attachment: 'key', external_attachment: 'url' };

/** Keys and addresses of the files that a piece of content refers to, at any depth. Nothing else of it is kept. */
export function attachmentsIn(content: unknown): readonly string[] {
  const found = new Set<string>();
  const open: unknown[] = [content];
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== 'object' || value === null) continue;
    const { type } = value as { readonly type?: unknown };
    const where = typeof type === 'string' && Object.hasOwn(REFERENCES, type) ? REFERENCES[type] : undefined;
    const reference = where === undefined ? undefined : (value as Readonly<Record<string, unknown>>)[where];
    if (typeof reference === 'string' && reference !== '') found.add(reference);
    else open.push(...(Object.values(value) as unknown[]));
  }
  return [...found];
}
