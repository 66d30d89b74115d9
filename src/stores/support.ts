/** What is known of the traces that a store's support is to be asked about. Ids only, and no values. */
export interface SupportFacts {
  readonly projects: readonly { readonly id: string; readonly name: string }[];
  /** Where the traces are; one that is gone is not among `projects`. */
  readonly projectIds: readonly string[];
  /** When the rows were first read, and when they were last looked for; ISO. */
  readonly plannedAt: string | null;
  readonly latestReadAt: string | null;
  /** For each delete call, in order, those of the traces that it named. */
  readonly deletes: readonly (readonly string[])[];
}

export interface SupportTrace {
  readonly projectId: string;
  readonly traceId: string;
  readonly rowIds: readonly string[];
  readonly rowsAtPlan: number;
  readonly rowsAtLatestRead: number;
}

/** What one vendor's support wants told, beside what every support packet tells. */
export interface SupportPart {
  readonly packet: object;
  /** Of each trace. Default: no more than of any store's. */
  readonly trace?: (trace: SupportTrace) => object;
}
