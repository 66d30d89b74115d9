import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseOperatorMessage, VERB_DESCRIPTIONS, VERB_NAMES } from '../src/erasure/verbs.ts';

const GOOD = { requestedBy: 'dpo', reason: 'ticket 7' };

describe('parseOperatorMessage', () => {
  test('reads a message and trims it', () => {
    expect(parseOperatorMessage({ requestedBy: ' dpo ', reason: '\tticket 7\n' })).toEqual(GOOD);
    const whole = { ...GOOD, connection: 'langsmith-prod', verbId: 'v-1' };
    expect(parseOperatorMessage(whole)).toEqual(whole);
    expect(parseOperatorMessage({ ...GOOD, connection: undefined })).toEqual(GOOD);
  });

  test.each<readonly [string, unknown, RegExp]>([
    ['nothing', undefined, /must be one object/],
    ['null', null, /must be one object/],
    ['a text', 'please', /must be one object/],
    ['a list', [GOOD], /must be one object/],
    ['nobody who asks', { reason: 'x' }, /"requestedBy"/],
    ['no reason', { requestedBy: 'dpo' }, /"reason"/],
    ['an empty reason', { ...GOOD, reason: ' ' }, /"reason" must be a text that is not empty/],
    ['a reason that is no text', { ...GOOD, reason: 7 }, /"reason" must be a text/],
    ['a novel', { ...GOOD, reason: 'x'.repeat(501) }, /"reason" is longer than 500 characters/],
    ['an empty connection', { ...GOOD, connection: '' }, /"connection" must be a text that is not empty/],
    ['a connection that is no text', { ...GOOD, connection: null }, /"connection" must be a text/],
    ['an endless connection', { ...GOOD, connection: 'x'.repeat(201) }, /"connection" is longer than 200 characters/],
    ['an endless id', { ...GOOD, verbId: 'x'.repeat(201) }, /"verbId" is longer than 200 characters/],
    ['a misspelt field', { ...GOOD, conection: 'prod' }, /unknown field "conection"/],
  ])('refuses %s', (_what, input, problem) => {
    expect(parseOperatorMessage(input)).toMatch(problem);
  });

  test('P31: repeats neither a value nor a field that might be one', () => {
    const canary = 'ann@x.org';
    for (const input of [
      { ...GOOD, [canary]: true },
      { ...GOOD, [`${canary}\u001b[2K`]: true },
      { ...GOOD, requestedBy: [canary] },
      { ...GOOD, reason: canary.repeat(90) },
      { ...GOOD, connection: { canary } },
      { ...GOOD, verbId: canary.repeat(40) },
    ]) {
      const problem = parseOperatorMessage(input);
      expect(typeof problem).toBe('string');
      expect(problem).not.toContain(canary);
    }
  });

  test('never throws, and what it reads is complete', () => {
    const anyInput = fc.oneof(
      fc.anything(),
      fc.record(
        {
          requestedBy: fc.oneof(fc.string(), fc.anything()),
          reason: fc.oneof(fc.string(), fc.anything()),
          connection: fc.oneof(fc.string(), fc.anything()),
          verbId: fc.oneof(fc.string(), fc.anything()),
        },
        { requiredKeys: [] },
      ),
    );
    fc.assert(
      fc.property(anyInput, (input) => {
        const read = parseOperatorMessage(input);
        if (typeof read === 'string') {
          expect(read).not.toBe('');
          return;
        }
        expect(read.requestedBy.trim()).toBe(read.requestedBy);
        expect(read.requestedBy === '' || read.reason === '').toBe(false);
        expect(parseOperatorMessage(JSON.parse(JSON.stringify(read)))).toEqual(read);
      }),
      { numRuns: 500 },
    );
  });
});

test('every verb describes itself and its argument', () => {
  for (const verb of VERB_NAMES)
    expect(VERB_DESCRIPTIONS[verb]).toMatch(
      verb === 'approve'
        ? /\. \{ "requestedBy", "reason", "connection", "planDigest", "atMost", "include"\? \}$/
        : /\. \{ "requestedBy", "reason", ("task", )?"connection"\?(, "until"\?, "autoRelease"\?)? \}$/,
    );
  expect(Object.keys(VERB_DESCRIPTIONS)).toEqual([...VERB_NAMES]);
});
