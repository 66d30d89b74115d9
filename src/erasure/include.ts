/** What becomes of traces that are not the person's alone, or carry nobody: see `policy` in the config. */
export const KEPT_POLICIES = ['keep', 'ask', 'erase'] as const;
export type KeptPolicy = (typeof KEPT_POLICIES)[number];

/** Traces that a plan keeps and that a policy or an approval may have erased along. */
export const INCLUDES = ['shared', 'linked'] as const;
export type Include = (typeof INCLUDES)[number];
