import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Probe } from './process.ts';

/**
 * Loaded into a measured process before its own code. Once its parent says that the work begins, it tells how long the
 * event loop was blocked at most: beyond the heartbeat timeout a step would be taken for dead.
 */
const RESOLUTION_MS = 10;
const TELL_MS = 500;

const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let peakHeapBytes = 0;

function tell(): void {
  peakHeapBytes = Math.max(peakHeapBytes, process.memoryUsage().heapUsed);
  const probe: Probe = { mostBlockedMs: Math.max(0, delay.max / 1e6 - RESOLUTION_MS), peakHeapBytes };
  // The parent may be gone; then nobody wants to know.
  process.send?.(probe, undefined, undefined, () => undefined);
}

process.on('message', () => {
  delay.reset();
  delay.enable();
});
// Whoever measured was killed: nobody else would end this process.
process.on('disconnect', () => process.exit(1));
setInterval(tell, TELL_MS).unref();
// The channel to the parent must not keep a finished process alive.
process.channel?.unref();
