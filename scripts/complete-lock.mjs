// Completes package-lock.json after `npm install` on one platform: `npm run lock:complete [DIRECTORY]`.
//
// npm leaves the builds for other platforms out of the lock when the registry in use doesn't offer them, and `npm ci`
// then refuses the whole lock, on every platform. What is missing is known all the same: the parent names each build
// with its exact version, and the name says the platform. Such an entry has no checksum; npm takes the one that the
// registry states. Entries that npm wrote are never touched.

import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

const file = resolve(process.argv[2] ?? '.', 'package-lock.json');
const lock = JSON.parse(readFileSync(file, 'utf8'));
const packages = lock.packages;
const added = [];

for (const [parent, entry] of Object.entries(packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const places = [`${parent}/node_modules/${name}`, `node_modules/${name}`];
    if (places.some((place) => place in packages)) continue;
    const platform = platformOf(name);
    if (platform === undefined || !/^\d+\.\d+\.\d+\S*$/.test(range)) {
      throw new Error(`${parent} wants ${name}@${range}, which is not in the lock and not a build for one platform`);
    }
    packages[`node_modules/${name}`] = {
      version: range,
      cpu: [platform.cpu],
      ...(entry.dev === true ? { dev: true } : {}),
      ...(platform.libc === undefined ? {} : { libc: [platform.libc] }),
      optional: true,
      os: [platform.os],
    };
    added.push(`${name}@${range}`);
  }
}

// The order that npm writes.
const keys = Object.keys(packages).sort((a, b) => a.localeCompare(b, 'en'));
lock.packages = Object.fromEntries(keys.map((key) => [key, packages[key]]));
if (added.length > 0) writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
process.stdout.write(
  `${added.length} entries added to package-lock.json${added.map((line) => `\n  ${line}`).join('')}\n`,
);

/** `linux-arm64-musl` at the end of a name → its parts; undefined when the name says no platform. */
function platformOf(name) {
  const match =
    /(darwin|linux|win32|android|freebsd|openharmony)-(x64|arm64|arm|ia32|ppc64|s390x|riscv64|loong64)(?:-(gnu|musl|msvc|eabi)(?:eabi(?:hf)?)?)?$/.exec(
      name,
    );
  if (match === null) return undefined;
  const [, os, cpu, abi] = match;
  return { os, cpu, libc: os !== 'linux' ? undefined : abi === 'gnu' ? 'glibc' : abi === 'musl' ? 'musl' : undefined };
}
