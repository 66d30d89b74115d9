import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as the proxy saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** An answer that the proxy gives in the store's place. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * Stands before a store and passes everything on, unless it is told to answer itself: with what it was asked, say, as
 * stores do that quote a request in their errors.
 */
export class EchoingProxy {
  /** Answers in the store's place; null passes the request on. */
  answer: ((request: SeenRequest) => Answer | null) | null = null;
  /** Which requests are counted. */
  counts: (request: SeenRequest) => boolean = () => true;
  count = 0;
  /** Bodies of all requests, for a test that wants to know what was there to be leaked. */
  readonly bodies: string[] = [];
  private readonly server: Server;
  private readonly target: string;

  private constructor(target: string) {
    this.target = target;
    this.server = createServer((request, response) => {
      void this.serve(request).then(
        ({ status, headers, body }) => {
          response.writeHead(status, headers).end(body);
        },
        // The store broke the connection.
        () => {
          response.destroy();
        },
      );
    });
  }

  static async start(target: string): Promise<EchoingProxy> {
    const proxy = new EchoingProxy(target);
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

  private async serve(incoming: IncomingMessage): Promise<Answer> {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const request: SeenRequest = {
      method: incoming.method ?? 'GET',
      url: incoming.url ?? '/',
      headers: Object.fromEntries(
        Object.entries(incoming.headers).filter((pair): pair is [string, string] => typeof pair[1] === 'string'),
      ),
      body: Buffer.concat(chunks).toString('utf8'),
    };
    this.bodies.push(request.body);
    if (this.counts(request)) this.count += 1;
    const answer = this.answer?.(request) ?? null;
    if (answer !== null) return answer;
    const { host: _host, connection: _connection, 'content-length': _length, ...headers } = request.headers;
    const response = await fetch(this.target + request.url, {
      method: request.method,
      redirect: 'manual',
      headers,
      ...(request.body === '' ? {} : { body: request.body }),
    });
    const body = await response.text();
    const { 'content-encoding': _encoding, 'content-length': _size, ...more } = Object.fromEntries(response.headers);
    return { status: response.status, headers: more, body };
  }
}
