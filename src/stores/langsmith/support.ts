import type { SupportFacts, SupportPart } from '../support.ts';
import type { LangSmithConnection } from './config.ts';

/** LangSmith's support asks for the ids of organization and workspace first. */
export function supportPart({ baseUrl, workspaceId }: LangSmithConnection, { projects }: SupportFacts): SupportPart {
  return {
    packet: {
      baseUrl,
      organizationId: null,
      workspaceId: workspaceId ?? null,
      hint: 'Where an id of organization or workspace is null, Lethe was never told it: the settings page of the workspace shows both.',
      projects,
    },
  };
}
