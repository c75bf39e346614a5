import { chmodSync, existsSync, mkdirSync, readdirSync, realpathSync, renameSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  FileLock,
  createDirectories,
  hasIds,
  isNamespaceRoot,
  PROBE_PREFIX,
  readStored,
  requireProc,
  syncDirectorySync,
  writeNewFileDurably,
} from '../linux/index.ts'
import { openStateRoot } from './state-root.ts'
import { type StorePaths, storePaths } from './store-paths.ts'

const FORMAT_VERSION = 1
const CREATE_TIMEOUT_MS = 10_000
const FORMAT_FEATURES: readonly string[] = []
/** What may be in the root before it is a store: a state directory, a creation that was killed, and the leftovers of a probe. */
const OWN_NAMES: readonly string[] = [
  'format',
  'blobs',
  'layers',
  'images',
  'containers',
  'ingest',
  'partial',
  'trash',
  'reserve',
  'locks',
  // The state directory of a user who has no other is used before the store.
  'state',
  'lost+found',
]

/**
 * Opens the folder of a store and creates it if it does not exist: mode 0700 (layers hold setuid programs of images), a
 * format file, and the folders in it; `state` is the state directory, which may be in it. Safe for many processes at once.
 * @throws STORE_FORMAT for a newer or foreign folder, STORE_UNSAFE for one of another user or a state directory that others may change, and system
 * errors
 */
export function openStoreRoot(root: string, state?: string): StorePaths {
  requireProc(`open store ${root}`)
  try {
    createDirectories(root)
    const paths = storePaths(realpathSync(root))
    checkOwner(paths.root)
    if (!existsSync(paths.format)) createFormat(paths, state)
    checkFormat(paths)
    // The process that created it may have been killed: the format file has to be on the disk before anything that relies on it.
    if (!existsSync(paths.database)) syncDirectorySync(paths.root)
    // It holds setuid programs of images, and other users must not read it.
    if ((statSync(paths.root).mode & 0o077) !== 0) chmodSync(paths.root, 0o700)
    if (state !== undefined) openStateRoot(state)
    return paths
  } catch (error) {
    throw toLoamError(error, `open store ${root}`)
  }
}

function checkOwner(root: string): void {
  const stats = statSync(root)
  if (stats.uid !== process.geteuid?.()) {
    throw new LoamError('STORE_UNSAFE', `open store ${root}: it is owned by ${ownerText(stats.uid)}`, {
      hint: 'The store holds programs of images, so only its owner may write to it. Run as its owner, or choose another --root.',
    })
  }
}

/** A user namespace does not show the IDs of other users. */
function ownerText(uid: number): string {
  return isNamespaceRoot() && !hasIds({ uid, gid: 0 }) ? 'another user' : `user ${uid}`
}

/** Returns the names in a directory that are not Loam's; `state` is the state directory, which may be in it. */
export function foreignNames(root: string, state?: string): string[] {
  const [own] = state !== undefined && existsSync(state) ? relative(root, realpathSync(state)).split('/') : []
  return readdirSync(root).filter(
    (name) => name !== own && !OWN_NAMES.includes(name) && !name.startsWith(PROBE_PREFIX),
  )
}

function createFormat(paths: StorePaths, state: string | undefined): void {
  // Another process may be creating it, or was killed here: a folder of this user may be without a format file.
  const foreign = foreignNames(paths.root, state)
  if (foreign.length > 0) {
    throw new LoamError('STORE_FORMAT', `open store ${paths.root}: it is not empty and has no format file`, {
      hint: 'This is not a Loam store. Choose an empty or a new directory as --root.',
    })
  }
  chmodSync(paths.root, 0o700)
  mkdirSync(paths.locks, { recursive: true, mode: 0o700 })
  using _lock = waitForLock(join(paths.locks, 'create'))
  if (existsSync(paths.format)) return
  for (const path of [
    join(paths.blobs, 'sha256'),
    join(paths.blobs, 'sha512'),
    ...[paths.layers, paths.images, paths.containers, paths.ingest, paths.trash],
  ]) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  }
  const unfinished = join(paths.locks, 'format.new')
  writeFormat(unfinished)
  renameSync(unfinished, paths.format)
  syncDirectorySync(paths.root)
}

/** Creating a store takes milliseconds, so a process that holds the lock for longer hangs. */
function waitForLock(path: string): FileLock {
  for (const end = performance.now() + CREATE_TIMEOUT_MS; performance.now() < end; ) {
    const lock = FileLock.tryAcquire(path)
    if (lock !== undefined) return lock
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
  }
  throw new LoamError('STORE_BUSY', `lock ${path}: another process has held it for ${CREATE_TIMEOUT_MS} ms`)
}

function writeFormat(path: string): void {
  const text = `${JSON.stringify({ version: FORMAT_VERSION, features: FORMAT_FEATURES })}\n`
  try {
    writeNewFileDurably(path, Buffer.from(text))
  } catch (error) {
    // Left by a process that was killed here; the lock shows that no other process uses it.
    if (!existsSync(path)) throw error
    renameSync(path, `${path}.old`)
    writeNewFileDurably(path, Buffer.from(text))
  }
}

function checkFormat(paths: StorePaths): void {
  const text = readStored(paths.format, 'STORE_FORMAT').toString('utf8')
  const unreadable = (why: string) =>
    new LoamError('STORE_FORMAT', `open store ${paths.root}: ${why}`, {
      hint: 'Use the version of Loam that created this store, or another --root.',
    })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw unreadable(`its format file is damaged (${String(error)})`)
  }
  const { version, features } = value as { version?: unknown; features?: unknown }
  if (version !== FORMAT_VERSION)
    throw unreadable(
      `its format has version ${String(version)}, this version of Loam supports ${FORMAT_VERSION}`,
    )
  const unknown = Array.isArray(features)
    ? features.filter((feature) => !FORMAT_FEATURES.includes(String(feature)))
    : ['?']
  if (unknown.length > 0) throw unreadable(`it uses unknown features: ${unknown.join(', ')}`)
}
