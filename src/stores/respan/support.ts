import type { SupportFacts, SupportPart } from '../support.ts';
import type { RespanConnection } from './config.ts';

/** Respan's support wants environments and filters, since its deletes are filters. */
export function supportPart({ baseUrl }: RespanConnection, { projectIds, deletes }: SupportFacts): SupportPart {
  return {
    packet: {
      baseUrl,
      environments: projectIds,
      hint: 'Filters were sent as told here, over the whole range of time; a trace by itself went by its id in the path. Counts are those of the store’s own answers; of a call that several requests shared, of all of them.',
      filters: deletes.map((value) => ({ trace_unique_id: { operator: 'in', value } })),
    },
  };
}
