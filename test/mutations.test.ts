import { expect, test } from '@jest/globals';
import { MUTATIONS } from './conformance/mutation-list.ts';
import { BUGS } from './model/planted-list.ts';
import { mutatedText } from './support/scratch-copy.ts';

// Running them takes minutes and has its own commands; one that the code has left behind should be noticed at once.
test.each([...MUTATIONS, ...BUGS])('the code that "$name" breaks stands where it is said to', (mutation) => {
  expect(mutatedText(mutation)).toContain(mutation.to);
});
