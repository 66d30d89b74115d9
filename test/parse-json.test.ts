import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { NumberText, parseJson } from '../src/stores/http.ts';

/** What is asked about each value, as the parser itself does only where a number may lose its spelling. */
function careful(text: string): unknown {
  const revive = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === 'number' && context?.source !== undefined && context.source !== String(value)
      ? new NumberText(context.source)
      : value;
  return JSON.parse(text, revive);
}

const digits = (most: number): fc.Arbitrary<string> => fc.stringMatching(new RegExp(`^[0-9]{1,${most}}$`));

/** Any number that JSON allows, in any of its spellings. */
const number = fc
  .record({
    sign: fc.constantFrom('', '-'),
    whole: fc.oneof(fc.constant('0'), fc.stringMatching(/^[1-9][0-9]{0,22}$/)),
    fraction: fc.oneof(
      fc.constant(''),
      digits(20).map((text) => `.${text}`),
    ),
    exponent: fc.oneof(
      fc.constant(''),
      fc.tuple(fc.constantFrom('e', 'E'), fc.constantFrom('', '+', '-'), digits(3)).map((parts) => parts.join('')),
    ),
  })
  .map(({ sign, whole, fraction, exponent }) => `${sign}${whole}${fraction}${exponent}`);

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  number,
  fc.constantFrom(', 1.0', ':-0', '[1e3]', '"1.0', '":1.0', '08:00:00.120Z'),
);
const space = fc.constantFrom('', ' ', '\n', '\t', '\r\n');

const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    number,
    text.map((value) => JSON.stringify(value)),
    fc.constantFrom('true', 'false', 'null'),
    fc
      .tuple(space, fc.array(tie('json'), { maxLength: 4 }), space)
      .map(([a, all, b]) => `[${a}${all.join(`${b},${a}`)}${b}]`),
    fc
      .tuple(space, fc.array(fc.tuple(text, tie('json')), { maxLength: 4 }), space)
      .map(
        ([a, all, b]) =>
          `{${a}${all.map(([key, value]) => `${JSON.stringify(key)}${a}:${b}${value}`).join(`${a},${b}`)}${b}}`,
      ),
  ),
}));

describe('JSON of a store', () => {
  test('P15: no number loses a digit, however it is spelt and wherever it stands', () => {
    fc.assert(
      fc.property(json, space, (value, around) => {
        const whole = `${around}${value}${around}`;
        expect(parseJson(whole)).toEqual(careful(whole));
      }),
      { numRuns: 5_000 },
    );
  });

  test.each(['-0', '1.0', '[0.10]', '{"a":1e3}', '9007199254740993', '[-12345678901234567890]', '{"a": -0 }'])(
    'P15: keeps the spelling of %s',
    (source) => {
      expect(JSON.stringify(parseJson(source))).toContain('"source"');
    },
  );
});
