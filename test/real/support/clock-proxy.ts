import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { virtualNow, type Clock } from '../../../src/erasure/clock.ts';

/** Headers that belong to one connection, and what says how its body was written. */
const OF_THE_CONNECTION = new Set(['host', 'connection', 'content-length', 'content-encoding', 'transfer-encoding']);

/** Stands before a real server and moves the `Date` of its answers to a virtual clock; everything else passes as it is. */
export class ClockProxy {
  private readonly server: Server;

  private constructor(target: string, clock: Clock) {
    this.server = createServer((request, response) => {
      pass(target, clock, request, response).catch(() => response.destroy());
    });
  }

  static async start(target: string, clock: Clock): Promise<ClockProxy> {
    const proxy = new ClockProxy(target, clock);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

async function pass(target: string, clock: Clock, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const body = Buffer.concat(parts);
  const headers = Object.fromEntries(
    Object.entries(request.headers).filter(
      (pair): pair is [string, string] => typeof pair[1] === 'string' && !OF_THE_CONNECTION.has(pair[0]),
    ),
  );
  const answer = await fetch(target + (request.url ?? '/'), {
    method: request.method ?? 'GET',
    redirect: 'manual',
    headers,
    ...(body.length === 0 ? {} : { body }),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  const more = Object.fromEntries([...answer.headers].filter(([name]) => !OF_THE_CONNECTION.has(name)));
  response.writeHead(answer.status, { ...more, date: new Date(virtualNow(clock)).toUTCString() }).end(bytes);
}
