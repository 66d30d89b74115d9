import { z } from 'zod';
import { DAY_MS, HOUR_MS, MINUTE_MS, type Rhythm } from '../erasure/rhythm.ts';

const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, min: MINUTE_MS, h: HOUR_MS, d: DAY_MS };

/** `90 s`, `15 min`, `36 h`, `2 d` as milliseconds. */
export const durationSchema = z.string().transform((text, context) => {
  const [, amount = '', unit = ''] = /^(\d{1,6}(?:\.\d+)?)\s*(s|min|h|d)$/.exec(text.trim()) ?? [];
  const unitMs = UNITS_MS[unit];
  if (unitMs !== undefined) return Number(amount) * unitMs;
  context.addIssue({ code: 'custom', message: 'must be a number with s, min, h or d, for instance "36 h"' });
  return z.NEVER;
});

/** Whether a URL's host is this machine. */
export function isLoopback(url: URL): boolean {
  return url.hostname === 'localhost' || url.hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(url.hostname);
}

const HTTPS_ONLY = 'must use https (http only on a loopback address)';

/** Whether what is sent to a URL can be read on its way. */
function isReadableOnItsWay(url: URL): boolean {
  return url.protocol === 'http:' && !isLoopback(url);
}

/**
 * The address of a store's API, without trailing slash. https, or http on a loopback address only.
 *
 * @param fallback used when the config names none; undefined makes it required.
 */
export function baseUrlSchema(fallback?: string) {
  return urlSchema(fallback).refine((url) => !isReadableOnItsWay(new URL(url)), HTTPS_ONLY);
}

/**
 * What a connection to a server of one's own has for its address. Checked by {@link checkOwnServer}.
 */
export const ownServerFields = {
  /** Address of the server, without trailing slash. https, or http on a loopback address, or anywhere with `plainHttp`. */
  baseUrl: urlSchema(),
  /**
   * Allows http to another machine or container: keys and identifiers can be read on the way, so only for networks in which
   * nobody else listens, such as the one of docker-compose.yml. Default: false.
   */
  plainHttp: z.boolean().default(false),
};

/** P3: least time between a delete on a server of one's own and a read that counts. Real use may only raise it. */
export const OWN_SERVER_SETTLE_MS = 10 * MINUTE_MS;

/** @see ownServerFields */
export function checkOwnServer(
  { baseUrl, plainHttp, settle }: { readonly baseUrl: string; readonly plainHttp: boolean; readonly settle: number },
  context: z.RefinementCtx,
): void {
  if (settle < OWN_SERVER_SETTLE_MS && URL.canParse(baseUrl) && !isLoopback(new URL(baseUrl))) {
    const message = `must be at least ${OWN_SERVER_SETTLE_MS / MINUTE_MS} min, unless the server is on this machine`;
    context.addIssue({ code: 'custom', path: ['settle'], message });
  }
  if (plainHttp || !URL.canParse(baseUrl) || !isReadableOnItsWay(new URL(baseUrl))) return;
  const message = `${HTTPS_ONLY}, or with "plainHttp: true" in a network where nobody else listens`;
  context.addIssue({ code: 'custom', path: ['baseUrl'], message });
}

/** Of a server that has deleted when it answers: what comes later was still on its way. */
export function ownServerRhythm({ settle, spread }: { readonly settle: number; readonly spread: number }): Rhythm {
  return { kind: 'continuous', settleMs: settle, spreadMs: spread };
}

function urlSchema(fallback?: string) {
  const text = fallback === undefined ? z.string() : z.string().default(fallback);
  return text.transform((given, context) => {
    const fail = (message: string): never => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    if (!URL.canParse(given)) return fail('must be a URL');
    const url = new URL(given);
    if (url.username !== '' || url.password !== '') return fail('must not hold credentials; use apiKey');
    if (url.search !== '' || url.hash !== '') return fail('must not have a query or fragment');
    if (url.protocol !== 'https:' && url.protocol !== 'http:') return fail(HTTPS_ONLY);
    return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  });
}

export const apiKeySchema = z.string().regex(/^[\x21-\x7e]{1,500}$/, 'is empty or holds characters that no key has');

/** Most calls in any 24 hours, for keys with a quota: it is planned with, not run into. Default: no quota. */
export const dailyCallsSchema = z.int().min(100, 'is too small to read anything back').optional();

/** For each kind of identifier the keys under which traces carry it. */
export function identifiersSchema<Key extends z.ZodType<string, string>>(key: Key) {
  return z
    .record(z.string().regex(/^[a-z][a-z0-9_]{0,63}$/), z.array(key).min(1, 'names no key'))
    .refine((kinds) => Object.keys(kinds).length > 0, 'names no kind of identifier');
}

/** Keys under which traces carry their conversation; an empty list switches following conversations off. */
export function threadsSchema(key: z.ZodType<string, string>, fallback: readonly string[]) {
  return z
    .array(key)
    .max(20, 'names more than 20 keys')
    .refine((keys) => new Set(keys).size === keys.length, 'names a key twice')
    .prefault([...fallback]);
}

/** Limits that the controller has accepted beforehand (P1), by name. */
export function acceptSchema(store: string, acceptable: readonly string[]) {
  return z
    .array(z.string())
    .default([])
    .superRefine((names, context) => {
      names.forEach((name, index) => {
        if (acceptable.includes(name)) return;
        const message = `is none of the limits of ${store}: ${acceptable.join(', ')}`;
        context.addIssue({ code: 'custom', path: [index], message });
      });
    });
}
