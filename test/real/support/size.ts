/**
 * Traces in the large stores, 200 of each person. LETHE_TEST_REAL_TRACES says another number: writing 20,000 takes minutes the
 * first time.
 */
export const SIZE = Number(process.env['LETHE_TEST_REAL_TRACES'] ?? '20000');
if (!Number.isInteger(SIZE / 1000) || SIZE < 4000) {
  throw new RangeError('LETHE_TEST_REAL_TRACES must be a whole number of thousands, 4000 at least');
}
