import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { eraseRequestSchema, implausible, MOST_KNOWN_IDS, type EraseRequest } from '../src/erasure/request.ts';

const ANN = { kind: 'user_id', value: 'u_4242' };

/** Problems as `path: message`; empty when the request is accepted. */
function problems(request: unknown): readonly string[] {
  const parsed = eraseRequestSchema.safeParse(request);
  return parsed.success ? [] : parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('implausible', () => {
  test.each([
    ...['', ' ', '\t\n', '\u00a0'],
    ...['null', 'NULL', ' null ', 'undefined', 'None', 'nil', 'NaN', 'n/a', 'N/A', 'unknown', 'anonymous', 'guest'],
    ...['user', 'default', 'test', 'true', 'false', '0', '-1', '[object Object]'],
    ...['00000000-0000-0000-0000-000000000000'],
    // Values as templates and serialisers leave them behind when there is nobody.
    ...['"null"', "'undefined'", '<null>', '(none)', '[null]', '{null}', '""', "''", '{}', '[]', '()', '<>'],
    ...['-', '--', '_', '.', '?', '#', '@', '…', '\u200b', '\ufeff'],
    ...['*', '**', '%', '.*', '*.*', '%%', '_%', '*-*'],
  ])('P18: %j stands for nobody, or for everybody', (value) => {
    expect(implausible(value)).toMatch(/\S/);
  });

  test.each([
    ...['u_42', '42', '-42', '1', 'U', '007', 'ann@x.org', '+49 30 123', 'O’Brien', 'ぞう', '😀7', 'a*b', '100%sure'],
    ...[
      'nullable',
      'test-7',
      'guest_81',
      'userina',
      '6f1c2d3e-0000-4000-8000-000000000000',
      '{"id":42}',
      'x'.repeat(500),
    ],
  ])('P18: %j may be somebody', (value) => {
    expect(implausible(value)).toBeNull();
  });

  test.each([
    ['longer than 500 characters', 'x'.repeat(501)],
    ['a line break inside', 'u_42\nu_43'],
    ['an escape sequence', 'u_42\u001b[2K'],
    ['a NUL', 'u_42\u0000'],
    ['half a character', 'u_42\ud83d'],
    ['the other half', '\ude00u_42'],
  ])('P25: refused: %s', (_what, value) => {
    expect(implausible(value)).toMatch(/\S/);
  });

  test('P31: whatever is wrong with a value, it is not repeated', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 6, maxLength: 12, unit: 'grapheme' }), (value) => {
        const why = implausible(`${value}\u0007`);
        expect(why).not.toBeNull();
        expect(why).not.toContain(value);
      }),
    );
  });

  test('P18: spaces and case hide no placeholder', () => {
    const padding = fc.constantFrom('', ' ', '\t', '  ');
    const placeholder = fc.constantFrom('null', 'undefined', 'anonymous', 'unknown', 'n/a');
    fc.assert(
      fc.property(padding, placeholder, padding, fc.boolean(), (before, name, after, upper) => {
        expect(implausible(before + (upper ? name.toUpperCase() : name) + after)).not.toBeNull();
      }),
    );
  });
});

describe('eraseRequestSchema', () => {
  test('fills in what is left out', () => {
    expect(eraseRequestSchema.parse({ identifiers: [ANN] })).toEqual({ identifiers: [ANN], known: {}, dryRun: false });
  });

  test.each<readonly [string, EraseRequest]>([
    ['known ids alone', { known: { prod: ['a1'] } }],
    ['several people of one kind', { identifiers: [ANN, { kind: 'user_id', value: 'u_7' }] }],
    ['one value under two kinds', { identifiers: [ANN, { kind: 'account', value: ANN.value }] }],
    ['two spellings, which may be two people', { identifiers: [ANN, { kind: 'user_id', value: 'U_4242' }] }],
    [
      'instants in any zone',
      { identifiers: [ANN], receivedAt: '2026-11-26T12:00:00+05:30', dueAt: '2026-12-26T00:00:00Z' },
    ],
    ['the most known ids', { known: { prod: Array.from({ length: MOST_KNOWN_IDS }, (_, index) => `id-${index}`) } }],
    ['no trace expected', { identifiers: [ANN], expectAtMost: 0 }],
  ])('P25: takes %s', (_what, request) => {
    expect(problems(request)).toEqual([]);
  });

  test.each<readonly [string, unknown, string]>([
    ['nobody', {}, 'identifiers: names nobody'],
    ['nobody, with empty lists', { identifiers: [], known: { prod: [] } }, 'identifiers: names nobody'],
    [
      'a placeholder',
      { identifiers: [ANN, { kind: 'user_id', value: 'null' }] },
      'identifiers.1.value: user_id is a placeholder',
    ],
    ['a wildcard', { identifiers: [{ kind: 'user_id', value: '*' }] }, 'identifiers.0.value: user_id '],
    ['an empty value', { identifiers: [{ kind: 'user_id', value: '' }] }, 'identifiers.0.value: user_id is empty'],
    ['a value that is no text', { identifiers: [{ kind: 'user_id', value: 42 }] }, 'identifiers.0.value: '],
    ['a kind with capitals', { identifiers: [{ kind: 'userId', value: 'u_1' }] }, 'identifiers.0.kind: must be'],
    ['an unknown field', { identifiers: [ANN], dryrun: true }, ': Unrecognized key: "dryrun"'],
    ['an unknown field of an identifier', { identifiers: [{ ...ANN, key: 'k' }] }, 'identifiers.0: Unrecognized key'],
    ['an identifier given twice', { identifiers: [ANN, { ...ANN }] }, 'identifiers.1: repeats a user_id'],
    [
      'too many identifiers',
      { identifiers: Array.from({ length: 51 }, (_, n) => ({ kind: 'user_id', value: `u_${n}` })) },
      'identifiers: ',
    ],
    ['no connection', { identifiers: [ANN], connections: [] }, 'connections: names no connection'],
    ['an empty known id', { known: { prod: ['a1', ''] } }, 'known.prod.1: is empty'],
    ['a known id with a line break', { known: { prod: ['a1\r'] } }, 'known.prod.0: contains control characters'],
    ['a known id with half a character', { known: { prod: ['a1\ud83d'] } }, 'known.prod.0: contains half a character'],
    ['a known id that is a text', { known: { prod: ['x'.repeat(201)] } }, 'known.prod.0: is longer than 200'],
    [
      'too many known ids over all connections',
      { known: { a: Array.from({ length: MOST_KNOWN_IDS }, () => 'x'), b: ['y'] } },
      `known: has ${MOST_KNOWN_IDS + 1} ids`,
    ],
    [
      'a day without a time',
      { identifiers: [ANN], receivedAt: '2026-11-26' },
      'receivedAt: must be an ISO 8601 instant',
    ],
    [
      'a time without a zone',
      { identifiers: [ANN], dueAt: '2026-11-26T12:00:00' },
      'dueAt: must be an ISO 8601 instant',
    ],
    [
      'a day that does not exist',
      { identifiers: [ANN], receivedAt: '2026-02-30T12:00:00Z' },
      'receivedAt: must be an ISO 8601 instant',
    ],
    ['a negative expectation', { identifiers: [ANN], expectAtMost: -1 }, 'expectAtMost: '],
    ['half a consent', { known: { prod: ['a'] }, acceptUnlabelled: 0.5 }, 'acceptUnlabelled: '],
    ['a request id with a slash', { identifiers: [ANN], requestId: 'a/b' }, 'requestId: must be'],
    [
      'a request id that names the person',
      { identifiers: [ANN], requestId: 'gdpr-U_4242' },
      'requestId: contains an identifier',
    ],
  ])('P25: refuses %s, naming the field', (_what, request, problem) => {
    expect(problems(request)).toEqual([expect.stringContaining(problem)]);
  });

  test('P25: every problem is told at once', () => {
    expect(problems({ identifiers: [{ kind: 'X', value: 'null' }], expectAtMost: -1, requestId: '' })).toHaveLength(4);
  });

  test('P31: no value of a person is repeated in a problem', () => {
    const canary = 'canary-7f3a';
    const bad = [
      { identifiers: [{ kind: 'user_id', value: `${canary}\u0000` }] },
      { identifiers: [{ kind: 'user_id', value: canary.repeat(60) }] },
      { identifiers: [{ kind: 'user_id', value: canary }], requestId: `r-${canary}` },
      {
        identifiers: [
          { kind: 'user_id', value: canary },
          { kind: 'user_id', value: canary },
        ],
      },
      { known: { prod: [`${canary}\n`] } },
    ];
    for (const request of bad) {
      expect(problems(request)).not.toEqual([]);
      expect(problems(request).join()).not.toContain(canary);
    }
  });
});
