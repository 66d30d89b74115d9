/** Part of every value that stands for the person, so that a part of one is found as well. */
export const CANARY = 'canary-7f3a91';

/** The person's identifiers: of the plain sort, and with what has to be escaped somewhere. */
export const CANARY_USER = `${CANARY}"Zoë" O'Neil\\<42>`;
export const CANARY_EMAIL = `${CANARY}.zoë+tag@example.org`;
/** An id that the caller has of the person, and that can't be one of the store's. */
export const CANARY_ID = `${CANARY}/thread 1`;
/** What the person said. */
export const CANARY_TEXT = `${CANARY} told a secret: "it's me", zoë`;

/** Beside the whole values what is left of them when something cuts at a quote or an `@`. */
const VALUES = [CANARY, CANARY_USER, CANARY_EMAIL, CANARY_ID, CANARY_TEXT, `Zoë" O'Neil`, 'zoë+tag@example'];

/** Anything shorter is found by chance in megabytes of encrypted bytes: three letters in any case, every 2 MB. */
const SHORTEST = 8;

/** Every way in which a text may stand somewhere, by name. */
export function formsOf(value: string): ReadonlyMap<string, string> {
  const bytes = Buffer.from(value, 'utf8');
  const json = JSON.stringify(value).slice(1, -1);
  const ascii = json.replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const forms = new Map<string, string>([
    ['as it is', value],
    ['decomposed', value.normalize('NFD')],
    ['as JSON', json],
    ['as JSON in ASCII', ascii],
    ['as JSON in JSON', JSON.stringify(json).slice(1, -1)],
    ['in a URL', encodeURIComponent(value)],
    ['as a URL', encodeURI(value)],
    ['in a URL twice', encodeURIComponent(encodeURIComponent(value))],
    ['in a form', new URLSearchParams([['', value]]).toString().slice(1)],
    ['as HTML', value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')],
    ['as hex', bytes.toString('hex')],
    ['as latin1', bytes.toString('latin1')],
  ]);
  for (const encoding of ['base64', 'base64url'] as const) {
    // Inside a longer text it may begin at any of three places; what its neighbours have a part in is cut off.
    for (const offset of [0, 1, 2]) {
      const whole = Buffer.concat([Buffer.alloc(offset), bytes])
        .toString(encoding)
        .replace(/=+$/, '');
      const first = offset === 0 ? 0 : offset + 1;
      const last = Math.floor(((offset + bytes.length) * 8) / 6);
      const form = whole.slice(first, last);
      if (form.length >= 12) forms.set(`as ${encoding}, ${offset} in`, form);
    }
  }
  return forms;
}

interface Needle {
  readonly name: string;
  readonly text: string;
  readonly anyCase: boolean;
}
const NEEDLES: readonly Needle[] = VALUES.flatMap((value) =>
  [...formsOf(value)].map(([name, text]) => {
    if (text.length < SHORTEST) throw new Error(`${name} of a canary is too short to be told from chance`);
    const anyCase = !name.includes('base64');
    return { name: `${JSON.stringify(value)} ${name}`, text: anyCase ? text.toLowerCase() : text, anyCase };
  }),
);

/** @returns what of the person is in a text or in bytes, and in which form; empty when nothing is. */
export function traces(of: string | Uint8Array): readonly string[] {
  const text = typeof of === 'string' ? of : Buffer.from(of).toString('latin1');
  const lower = text.toLowerCase();
  const found = NEEDLES.filter((needle) => (needle.anyCase ? lower : text).includes(needle.text));
  return [...new Set(found.map(({ name }) => name))];
}
