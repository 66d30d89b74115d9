import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { QUOTES_IDENTIFIER, quotesIdentifier } from '../src/erasure/quoting.ts';

const of = (...values: readonly string[]) => values.map((value) => ({ kind: 'user_id', value }));

describe('quotesIdentifier', () => {
  test.each([
    ['as it is', 'asked by ann@example.org today', 'ann@example.org'],
    ['in capitals', 'ticket ANN@EXAMPLE.ORG', 'ann@example.org'],
    ['inside a word', 'gdpr-u_4242-urgent', 'u_4242'],
    ['with other punctuation', 'call +49 (30) 123-456', '+4930123456'],
    ['without its punctuation', 'call 4930123456', '+49 30 123 456'],
    ['with spaces between', 'a n n . s m i t h wrote', 'ann.smith'],
    ['by the part before the @', 'Ann.Smith wants it', 'ann.smith@example.org'],
    ['by that part without its dot', 'annsmith wants it', 'ann.smith@example.org'],
    ['in full width', 'asked by ａｎｎ．ｓｍｉｔｈ', 'ann.smith'],
    ['composed otherwise', 'for Zoe\u0308 M\u00fcller', 'zo\u00eb mu\u0308ller'],
    ['a short one as a word of its own', 'user u7: ticket', 'u7'],
    ['a short one at the end', 'erase 42', '42'],
    ['with spaces around the value', 'for u_4242', ' u_4242 '],
  ])('P33: an identifier is found %s', (_how, text, value) => {
    expect(quotesIdentifier(text, of('another-person', value))).toBe(true);
  });

  test.each([
    ['a short value inside a longer word', 'ticket 4711', '47'],
    ['a short value inside letters', 'annual review', 'ann'],
    ['a short local part', 'ann asked', 'ann@example.org'],
    ['the domain alone', 'mail to example.org', 'ann.smith@example.org'],
    ['five characters scattered over words', 'u 42 42', 'u_424'],
    ['nothing of it', 'ticket 4711', 'u_42'],
    ['an empty value', 'ticket 4711', ''],
    ['only punctuation', 'ticket -- 4711', '--------x'],
  ])('%s is no quotation', (_what, text, value) => {
    expect(quotesIdentifier(text, of(value))).toBe(false);
  });

  test('P33: whatever stands around it, an identifier is found, and nothing is in an empty text', () => {
    const value = fc.string({ minLength: 6, maxLength: 30 }).filter((text) => /[a-z0-9]{3}/i.test(text));
    fc.assert(
      fc.property(fc.string(), value, fc.string(), fc.boolean(), (before, identifier, after, upper) => {
        const ascii = upper ? identifier.replace(/[a-z]/g, (letter) => letter.toUpperCase()) : identifier;
        expect(quotesIdentifier(before + ascii + after, of(identifier))).toBe(true);
        expect(quotesIdentifier('', of(identifier))).toBe(false);
      }),
    );
  });

  test('what is told about it says what to do and repeats nothing', () => {
    expect(QUOTES_IDENTIFIER).toMatch(/write it without/);
  });
});
