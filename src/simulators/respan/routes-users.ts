import type { FastifyInstance } from 'fastify';
import type { Answer } from '../common/http.ts';
import type { Json } from '../common/json.ts';
import type { CustomerRecord } from './customers.ts';
import { plain } from './filter.ts';
import { defineRoute, detail, environmentsOf, filterOf, jsonBody, pageOf, sorted, type Call } from './http.ts';
import { customerJson } from './render.ts';
import { TraceRow } from './rows.ts';
import type { World } from './world.ts';

const SORTS: Readonly<Record<string, (one: CustomerRecord) => number | string>> = {
  customer_identifier: (one) => one.customerIdentifier,
  email: (one) => one.email ?? '',
  first_seen: (one) => one.firstSeenMs,
  last_active_timeframe: (one) => one.lastActiveMs,
  number_of_requests: (one) => one.requests,
  total_cost: (one) => one.cost,
  total_tokens: (one) => one.tokens,
};

const KEYS = plain<Json>(['customer_identifier', 'email', 'name', 'environment', 'number_of_requests', 'total_cost']);

function list(call: Call): Answer {
  const { world, atMs } = call;
  const filter = filterOf(call, KEYS);
  const environments = new Set(environmentsOf(call));
  const all = world.habits.isBlind(null, filter.given) ? [] : world.customers.all(atMs);
  const found = all.filter((one) => environments.has(one.environment) && filter.matches(customerJson(one)));
  return pageOf(
    call,
    sorted(call, found, SORTS, (one) => one.id, '-first_seen'),
    customerJson,
  );
}

/** The customer of the path: as reads show it, or as it is. @throws ApiError 404. */
function customerOf(call: Call, reading: boolean): CustomerRecord {
  const { world, params, atMs, nowMs, entry } = call;
  const { id = '' } = params;
  entry.ids = [id];
  const seenMs = reading ? atMs : nowMs;
  const found = environmentsOf(call).flatMap((environment) => world.customers.find(environment, id, seenMs) ?? []);
  const [customer] = reading && world.habits.isBlind(null, false) ? [] : found;
  if (customer === undefined) throw detail(404, 'Not found.');
  entry.matched = 1;
  return customer;
}

function customerDetail(call: Call, customer: CustomerRecord): Answer {
  const { number_of_requests: _requests, ...fields } = customerJson(customer);
  const budget = { period_budget: null, budget_duration: null, total_period_usage: 0, total_budget: null };
  return { status: 200, body: { ...fields, ...budget, organization_name: call.world.org } };
}

function change(call: Call): Answer {
  const customer = customerOf(call, false);
  const { name, email } = jsonBody(call);
  if (typeof name === 'string' || name === null) customer.name = name;
  if (typeof email === 'string' || email === null) customer.email = email;
  return customerDetail(call, customer);
}

function remove(call: Call): Answer {
  const { world, entry, nowMs } = call;
  const customer = customerOf(call, false);
  const { environment, customerIdentifier } = customer;
  entry.projectId = environment;
  const { customerImmortal, customerTakesLogs } = world.habits.current;
  if (!customerImmortal) customer.goneMs = nowMs;
  if (customerTakesLogs) {
    const rows = world.state
      .lookUp('customer', customerIdentifier)
      .filter((row) => row.environment === environment && row.live(nowMs));
    const ids = [...new Set(rows.flatMap((row) => row.traceId ?? []))];
    world.deletions.submit({
      atMs: nowMs,
      route: entry.route,
      by: 'customer',
      projectId: environment,
      traceIds: [],
      dropped: [],
      window: null,
      traces: ids.map((id) => new TraceRow(id, environment, world.state.spansOf(environment, id))),
      rows: rows.filter((row) => row.traceId === null),
    });
  }
  return { status: 204 };
}

/** Customer records, one an environment. */
export function userRoutes(app: FastifyInstance, world: World): void {
  const reads = { family: 'reads', limit: 'organisation' } as const;
  const one = '/api/users/:id/';
  defineRoute(app, world, { ...reads, method: 'POST', path: '/api/users/list/' }, list);
  defineRoute(app, world, { ...reads, method: 'GET', path: '/api/users/list/' }, list);
  defineRoute(app, world, { ...reads, method: 'GET', path: one }, (call) =>
    customerDetail(call, customerOf(call, true)),
  );
  defineRoute(app, world, { ...reads, method: 'PATCH', family: 'writes', path: one }, change);
  defineRoute(app, world, { ...reads, method: 'DELETE', family: 'deletes', path: one }, remove);
}
