import type { FastifyInstance } from 'fastify';
import { defineRoute, refuse, type Call } from './http.ts';
import type { Attachment } from './state.ts';
import type { World } from './world.ts';

function stored(call: Call, key: string | null): Attachment {
  const found = key === null ? undefined : call.world.state.attachments.get(key);
  if (found === undefined) throw refuse(404, 'Attachment not found');
  return found;
}

function address(world: World, key: string): string {
  return `${world.apiUrl}/object-store/${encodeURIComponent(key)}`;
}

/**
 * Attachments: the bytes go to an object store by signed addresses. No route deletes them, so that they stay whatever
 * becomes of the row that refers to them. The simulated signatures do not lapse.
 */
export function attachmentRoutes(app: FastifyInstance, world: World): void {
  const { attachments } = world.state;
  defineRoute(app, world, { method: 'POST', path: '/attachment', family: 'writes' }, (call) => {
    const { key, filename, content_type: contentType } = call.json();
    if (typeof key !== 'string' || typeof filename !== 'string' || typeof contentType !== 'string') {
      throw refuse(400, 'key, filename and content_type are required');
    }
    attachments.set(key, { key, filename, contentType, bytes: null, status: { upload_status: 'uploading' } });
    return { status: 200, body: { signedUrl: address(world, key), headers: { 'content-type': contentType } } };
  });
  defineRoute(app, world, { method: 'POST', path: '/attachment/status', family: 'writes' }, (call) => {
    const { key, status } = call.json();
    stored(call, typeof key === 'string' ? key : null).status = { upload_status: 'done', ...(status as object) };
    return { status: 200, body: {} };
  });
  defineRoute(app, world, { method: 'GET', path: '/attachment', family: 'reads' }, (call) => {
    const { key, status } = stored(call, call.query.get('key'));
    return { status: 200, body: { downloadUrl: address(world, key), status } };
  });
  const store = { path: '/object-store/:id', open: true } as const;
  defineRoute(app, world, { ...store, method: 'PUT', family: 'writes' }, (call) => {
    stored(call, call.params['id'] ?? null).bytes = call.body;
    return { status: 200, body: '' };
  });
  defineRoute(app, world, { ...store, method: 'GET', family: 'reads' }, (call) => {
    const { bytes, contentType } = stored(call, call.params['id'] ?? null);
    if (bytes === null) throw refuse(404, 'Attachment not found');
    return { status: 200, body: bytes, headers: { 'content-type': contentType } };
  });
}
