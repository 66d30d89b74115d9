import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  fsync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const synced = promisify(fsync);

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const TEMPORARY = '.tmp';
/**
 * What is no larger is read and written at once, as are the entries of directories: a hop to the thread pool and back, of
 * which a file takes five, costs several times the work itself. What waits for the disk, syncing, is never waited for so.
 */
const SMALL_BYTES = 64 * 1024;

/** Whether a directory entry is what a killed writer left behind. Such files are never read. */
export function isTemporary(name: string): boolean {
  return name.endsWith(TEMPORARY);
}

/** @returns the file's bytes, or null when there is none. */
export async function readIfExists(path: string): Promise<Buffer | null> {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return null;
    throw error;
  }
  try {
    if (fstatSync(file).size <= SMALL_BYTES) return readFileSync(file);
  } finally {
    closeSync(file);
  }
  return readLarge(path);
}

async function readLarge(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    // Gone between the two looks.
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

/** @returns the names in a directory; none when there is no such directory. */
export function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Creates a directory and its parents, for the owner only, unless they exist. The creation survives a power cut. */
export async function ensureDirectory(path: string): Promise<void> {
  const first = mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}

/**
 * Replaces a file as a whole: after a crash there is the old content or the new one, never a part. The directory must
 * exist.
 */
export async function writeAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = await writeTemporary(path, data);
  try {
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Writes a file as a whole unless it exists. Of several processes exactly one writes.
 *
 * @returns whether this call wrote it.
 */
export async function writeExclusively(path: string, data: string | Uint8Array): Promise<boolean> {
  const temporary = await writeTemporary(path, data);
  try {
    // A link, because it fails when the target exists, which a rename does not.
    linkSync(temporary, path);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

/**
 * Appends one line and returns when it is on the disk. A line that an earlier writer left torn is closed first, so
 * that it spoils no other. The directory must exist.
 *
 * @param line without line ends.
 */
export async function appendLine(path: string, line: string): Promise<void> {
  const file = openSync(path, 'a+', FILE_MODE);
  try {
    const { size } = fstatSync(file);
    const last = Buffer.alloc(1);
    if (size > 0) readSync(file, last, 0, 1, size - 1);
    const torn = size > 0 && last[0] !== 0x0a;
    // One write call: with O_APPEND it lands in one piece behind whatever others appended meanwhile.
    writeFileSync(file, `${torn ? '\n' : ''}${line}\n`);
    await synced(file);
    if (size === 0) await syncDirectory(dirname(path));
  } finally {
    closeSync(file);
  }
}

/** Whether an operation failed with this code, for instance `ENOENT`. By shape: errors may come from another realm. */
export function isErrno(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}

async function writeTemporary(path: string, data: string | Uint8Array): Promise<string> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}${TEMPORARY}`);
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  if (bytes.byteLength > SMALL_BYTES) {
    await writeLarge(temporary, bytes);
    return temporary;
  }
  const file = openSync(temporary, 'wx', FILE_MODE);
  try {
    writeFileSync(file, bytes);
    await synced(file);
  } finally {
    closeSync(file);
  }
  return temporary;
}

async function writeLarge(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows can't open directories; there the rename itself is journalled.
  if (process.platform === 'win32') return;
  const directory = openSync(path, 'r');
  try {
    await synced(directory);
  } finally {
    closeSync(directory);
  }
}
