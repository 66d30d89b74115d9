import type { FastifyInstance, FastifyRequest } from 'fastify';
import { habitsFromJson, habitsToJson } from './habits.ts';
import { queryOf } from './http.ts';

/** What a simulator lets other processes see and do. */
export interface ControlPlane {
  readonly habits: { readonly current: object; set(changes: object): void; reset(): void };
  readonly ledger: { list(filter: object): readonly unknown[]; reset(): void };
  /** `GET /_simulator/<path>`, parameters as `:id`. */
  readonly looks: Readonly<Record<string, (params: Readonly<Record<string, string>>) => unknown>>;
  /** `POST /_simulator/<path>` with a JSON body. */
  readonly deeds: Readonly<Record<string, (body: unknown) => unknown>>;
}

function bodyText(request: FastifyRequest): string {
  return Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '{}';
}

function ledgerFilter(request: FastifyRequest): object {
  const filter: Record<string, string | number> = Object.fromEntries(queryOf(request));
  return 'status' in filter ? { ...filter, status: Number(filter['status']) } : filter;
}

/**
 * The control plane, for tests in other processes: no key, no habit, no ledger entry. All bodies are JSON; numbers that
 * may be infinite travel as the text "Infinity". Beside what the simulator adds:
 *
 * - `GET|PUT|DELETE /_simulator/habits`: read, change some, turn all off
 * - `GET /_simulator/ledger?route=&method=&status=&family=...` lists, `DELETE` empties
 */
export function serveControl(app: FastifyInstance, plane: ControlPlane): void {
  const base = '/_simulator';
  app.setErrorHandler((error, _request, reply) => {
    const message = error instanceof Error ? error.message : String(error);
    return reply.code(500).send({ simulator_error: message });
  });
  app.get(`${base}/habits`, () => habitsToJson(plane.habits.current));
  app.put(`${base}/habits`, (request) => {
    plane.habits.set(habitsFromJson(bodyText(request)));
    return habitsToJson(plane.habits.current);
  });
  app.delete(`${base}/habits`, () => {
    plane.habits.reset();
    return habitsToJson(plane.habits.current);
  });
  app.get(`${base}/ledger`, (request) => plane.ledger.list(ledgerFilter(request)));
  app.delete(`${base}/ledger`, () => {
    plane.ledger.reset();
    return [];
  });
  for (const [path, look] of Object.entries(plane.looks)) {
    app.get(`${base}/${path}`, (request) => look(request.params as Record<string, string>));
  }
  for (const [path, deed] of Object.entries(plane.deeds)) {
    app.post(`${base}/${path}`, (request) => deed(JSON.parse(bodyText(request))) ?? {});
  }
}
