import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ownerOf, subjectVariants, type Owner, type Value } from '../src/erasure/owners.ts';
import type { Identifier } from '../src/erasure/request.ts';

const CASE_MATTERS: ReadonlySet<string> = new Set();
const EMAIL_FOLDS: ReadonlySet<string> = new Set(['email']);

function id(kind: string, value: string): Identifier {
  return { kind, value };
}

function value(kind: string, text: string): Value {
  return { kind, text };
}

function spellings(subject: readonly Identifier[], folded: ReadonlySet<string>): Record<string, string[]> {
  return Object.fromEntries([...subjectVariants(subject, folded)].map(([kind, of]) => [kind, [...of].sort()]));
}

describe('subjectVariants', () => {
  test.each([
    ['a user id: exactly as given', [id('user_id', ' U_42 ')], CASE_MATTERS, { user_id: [' U_42 '] }],
    [
      'a number: as text, no digit lost',
      [id('user_id', '00900719925474099312')],
      CASE_MATTERS,
      { user_id: ['00900719925474099312'] },
    ],
    ['several values of a kind', [id('user_id', 'a'), id('user_id', 'b')], CASE_MATTERS, { user_id: ['a', 'b'] }],
    ['a kind declared so', [id('email', 'Ann@X.org')], EMAIL_FOLDS, { email: ['Ann@X.org', 'ann@x.org'] }],
    [
      'a kind declared so, with spaces around it',
      [id('email', ' Ann@X.org\u00a0')],
      EMAIL_FOLDS,
      { email: [' Ann@X.org\u00a0', 'Ann@X.org', 'ann@x.org'] },
    ],
    ['an e-mail address not declared so', [id('email', 'Ann@X.org')], CASE_MATTERS, { email: ['Ann@X.org'] }],
    ['known ids only: nobody', [], EMAIL_FOLDS, {}],
  ])('P15: %s', (_what, subject, folded, expected) => {
    expect(spellings(subject, folded)).toEqual(expected);
  });
});

describe('ownerOf', () => {
  const variants = subjectVariants([id('user_id', 'u_42'), id('email', 'Ann@X.org')], EMAIL_FOLDS);

  test.each<readonly [string, readonly Value[], Owner]>([
    ['nothing', [], 'nobody'],
    ['the subject', [value('user_id', 'u_42')], 'subject'],
    ['the subject by two kinds', [value('user_id', 'u_42'), value('email', 'ann@x.org')], 'subject'],
    ['the subject on many runs', Array.from({ length: 9 }, () => value('user_id', 'u_42')), 'subject'],
    ['the subject and a session', [value('user_id', 'u_42'), value('session', 's1')], 'subject'],
    ['somebody else', [value('user_id', 'u_43')], 'others'],
    ['somebody else by a kind that the request does not name', [value('account', 'x')], 'others'],
    ['the subject and somebody else', [value('user_id', 'u_42'), value('user_id', 'u_43')], 'mixed'],
    [
      'the subject by one kind, somebody else by another',
      [value('user_id', 'u_42'), value('email', 'bob@x.org')],
      'mixed',
    ],
    [
      'the subject with two accounts',
      [value('user_id', 'u_42'), value('account', 'x'), value('account', 'y')],
      'mixed',
    ],
    ['two others', [value('user_id', 'u_1'), value('user_id', 'u_2')], 'others'],
  ])('P16 P17: %s', (_what, values, owner) => {
    expect(ownerOf(values, variants, null)).toBe(owner);
  });

  test.each([
    ['another case', 'user_id', 'U_42'],
    ['spaces', 'user_id', ' u_42'],
    ['a longer id', 'user_id', 'u_421'],
    ['a part of it', 'user_id', 'u_4'],
    ['a look-alike letter', 'user_id', 'u\uff3f42'],
    ['the right value under another kind', 'email', 'u_42'],
  ])('P15: %s is somebody else', (_what, kind, text) => {
    expect(ownerOf([value(kind, text)], variants, null)).toBe('others');
  });

  test('P15: a value as long as the store keeps may be anybody, so the trace is kept', () => {
    const long = 'x'.repeat(20);
    const cut = subjectVariants([id('user_id', long)], CASE_MATTERS);
    expect(ownerOf([value('user_id', long)], cut, null)).toBe('subject');
    expect(ownerOf([value('user_id', long)], cut, 21)).toBe('subject');
    expect(ownerOf([value('user_id', long)], cut, 20)).toBe('mixed');
    expect(ownerOf([value('user_id', long.slice(0, 10))], cut, 10)).toBe('mixed');
  });

  test('P16: with known ids only, every trace that carries anybody is foreign', () => {
    const nobody = subjectVariants([], CASE_MATTERS);
    expect(ownerOf([value('user_id', 'u_42')], nobody, null)).toBe('others');
    expect(ownerOf([], nobody, null)).toBe('nobody');
  });

  describe('for any values', () => {
    const anyValue = fc.record({
      kind: fc.constantFrom('user_id', 'email', 'account'),
      text: fc.oneof(fc.constantFrom('u_42', 'ann@x.org', 'Ann@X.org', 'u_7', ''), fc.string({ maxLength: 6 })),
    });
    const anyValues = fc.array(anyValue, { maxLength: 6 });
    const mine = ({ kind, text }: Value) => variants.get(kind)?.has(text) ?? false;
    const named = ({ kind }: Value) => variants.has(kind);
    /** An empty text is written when nobody is logged in. */
    const says = ({ text }: Value) => text.trim() !== '';

    test('P15: the subject owns a trace only by an exact spelling, and never beside another value of a named kind', () => {
      fc.assert(
        fc.property(anyValues, (values) => {
          if (ownerOf(values, variants, null) !== 'subject') return;
          expect(values.some(mine)).toBe(true);
          expect(values.filter(named).filter(says).every(mine)).toBe(true);
        }),
      );
    });

    test('P16: nobody owns a trace only when no value on it says anything', () => {
      fc.assert(
        fc.property(anyValues, (values) => (ownerOf(values, variants, null) === 'nobody') === !values.some(says)),
      );
    });

    test('P17: one more person on a trace never makes it erasable', () => {
      fc.assert(
        fc.property(anyValues, fc.nat(6), (values, position) => {
          const stranger = value('user_id', 'stranger');
          const more = [...values.slice(0, position), stranger, ...values.slice(position)];
          expect(['mixed', 'others']).toContain(ownerOf(more, variants, null));
        }),
      );
    });

    test('P17: neither the order nor repeats of values matter', () => {
      fc.assert(
        fc.property(anyValues, fc.option(fc.integer({ min: 1, max: 6 })), (values, cut) => {
          const owner = ownerOf(values, variants, cut);
          expect(ownerOf([...values].reverse(), variants, cut)).toBe(owner);
          expect(ownerOf([...values, ...values], variants, cut)).toBe(owner);
        }),
      );
    });
  });
});
