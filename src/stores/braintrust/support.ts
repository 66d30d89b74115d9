import type { SupportFacts, SupportPart, SupportTrace } from '../support.ts';
import type { BraintrustConnection } from './config.ts';

/** Braintrust's support wants row ids, and a query that it can run, with what it showed before and after. */
export function supportPart(
  { appUrl, organization }: BraintrustConnection,
  { projects, plannedAt, latestReadAt }: SupportFacts,
): SupportPart {
  return {
    packet: {
      appUrl,
      organization: organization ?? null,
      projects,
      hint: 'Each delete call answered with row_ids that named exactly the rows sent, or it would have been told as broken.',
    },
    trace: (trace) => ({
      row_ids: trace.rowIds,
      before: { query: btql(trace), rows: trace.rowsAtPlan, at: plannedAt },
      after: { query: btql(trace), rows: trace.rowsAtLatestRead, at: latestReadAt },
    }),
  };
}

/** A query that support can paste: every row under one root. */
function btql({ projectId, traceId }: SupportTrace): string {
  const text = (value: string): string => `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  return `select: id, root_span_id, created, _xact_id | from: project_logs(${text(projectId)}) spans | filter: root_span_id = ${text(traceId)} | limit: 1000`;
}
