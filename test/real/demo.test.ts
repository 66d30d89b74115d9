import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { resolveTemporalBinary } from '../../src/temporal/binary.ts';
import { lethe } from '../support/cli.ts';

// Among the tests against real servers for the sake of its time alone: most of a minute, whatever the machine.
test('the demo ends well, says that verdict and truth agree, and leaves nothing behind', async () => {
  const { path } = await resolveTemporalBinary({ allowBuild: false });
  const directory = await mkdtemp(join(tmpdir(), 'lethe-demo-test-'));
  try {
    const { code, stdout, stderr } = await lethe(['demo'], {
      cwd: directory,
      env: { TEMPORAL_CLI_PATH: path, TMPDIR: directory },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/Lethe says: verified/);
    expect(stdout).toMatch(/this person +0 of [1-9]\d* left +0 of [1-9]\d* left +0 of [1-9]\d* left\n/);
    expect(stdout).toMatch(/7 others +([1-9]\d*) of \1 left +([1-9]\d*) of \2 left +([1-9]\d*) of \3 left\n/);
    expect(stdout).toContain('\nVerdict and truth agree.\n');
    expect((await readdir(directory)).filter((name) => name.startsWith('lethe-demo-'))).toEqual([]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}, 240_000);
