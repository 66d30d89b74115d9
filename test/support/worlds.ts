import { afterAll } from '@jest/globals';
import { World, type WorldOptions } from './world.ts';

/**
 * Worlds for tests that run side by side (`test.concurrent`), because most of their time they wait for a clock: all of a file
 * are closed at its end.
 */
export function worldsOfFile(): (title: string, options?: WorldOptions) => Promise<World> {
  const worlds: World[] = [];
  afterAll(async () => {
    await Promise.all(worlds.map((world) => world.close()));
  }, 60_000);
  return async (title, options) => {
    const world = await World.start(title, options);
    worlds.push(world);
    return world;
  };
}
