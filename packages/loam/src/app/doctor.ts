import { existsSync, mkdtempSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type ErrorCode, isErrno, isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import {
  examineFileSystem,
  type FileSystemInfo,
  PROBE_PREFIX,
  probeFileSystem,
  removeTree,
} from '../linux/index.ts'
import { readConfiguration } from '../config/index.ts'
import { findUnsafeState, foreignNames } from '../content/index.ts'
import { type LoamOptions, openLoam } from './loam.ts'
import type { Examination, HostReport } from './results.ts'

/** File systems that lose their content, or whose server decides when data is on a disk. */
const NOTES: Readonly<Record<string, string>> = {
  tmpfs: 'it is in memory: its contents are lost at a reboot',
  ramfs: 'it is in memory: its contents are lost at a reboot',
  overlay:
    'it is an overlay itself, as in a container: overlayfs cannot use it as an upper layer; mount a disk or a volume here',
  nfs: 'it is a network file system: the server decides whether locks and syncs are reliable',
  nfs4: 'it is a network file system: the server decides whether locks and syncs are reliable',
  cifs: 'it is a network file system: the server decides whether locks and syncs are reliable',
  '9p': 'it is a network file system: the server decides whether locks and syncs are reliable',
  vfat: 'it does not store owners and modes',
  exfat: 'it does not store owners and modes',
}

/** Failures that are facts about the location of the store, and no reason to report nothing about the machine. */
const OF_LOCATION: readonly ErrorCode[] = ['PERMISSION_DENIED', 'READ_ONLY', 'STORE_UNSAFE']

/**
 * Reports what this machine and the location of the store support. A store that does not exist yet is not created: backends are tried in a directory
 * beside its location, or in that for temporary files where this process may not write there; it is removed afterwards. @throws CONFIG_INVALID, and
 * the errors of opening an existing store
 */
export async function examine(options: LoamOptions): Promise<Examination> {
  const { root, state } = readConfiguration(options).values
  const folder = existingFolder(root)
  const fileSystem = examineFileSystem(folder)
  const exists = existsSync(join(root, 'format'))
  const beside = createProbeFolder(folder)
  const probes = beside instanceof LoamError ? createProbeFolder(tmpdir()) : beside
  if (probes instanceof LoamError) throw probes
  try {
    const problems = beside instanceof LoamError ? [beside.message] : probeFileSystem(beside)
    if (!exists && existsSync(root)) problems.push(...occupied(folder, state))
    // An existing store is opened with its state directory.
    const unsafe = exists ? undefined : findUnsafeState(state)
    if (unsafe !== undefined) problems.push(unsafe)
    const opened = exists ? await tryStore(options) : undefined
    if (opened instanceof LoamError) problems.push(opened.message)
    const settings = { ...options.settings, root: join(probes, 'store'), state: join(probes, 'state') }
    const notes = [
      ...notesOf(fileSystem),
      ...(probes === beside ? [] : [`the backends were tried in ${tmpdir()} instead`]),
    ]
    const report =
      opened === undefined || opened instanceof LoamError
        ? { ...(await probeStore({ ...options, settings })), root }
        : opened
    return { ...report, store: { folder, exists, problems, notes, fileSystem } }
  } finally {
    await removeTree(probes)
  }
}

/** Returns what the store reports, or why this process may not open it. */
async function tryStore(options: LoamOptions): Promise<HostReport | LoamError> {
  try {
    return await probeStore(options)
  } catch (error) {
    if (isLoamError(error, ...OF_LOCATION)) return error
    throw error
  }
}

function occupied(root: string, state: string): string[] {
  try {
    const isOccupied = foreignNames(root, state).length > 0
    return isOccupied ? ['the directory is not empty and is not a Loam store'] : []
  } catch (error) {
    return [toLoamError(error, `read ${root}`).message]
  }
}

async function probeStore(options: LoamOptions): Promise<HostReport> {
  await using loam = await openLoam(options)
  return await loam.store.doctor()
}

/** Returns the folder itself, or the nearest existing folder above it. */
function existingFolder(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'EACCES') || dirname(path) === path)
      throw toLoamError(error, `look at ${path}`)
    return existingFolder(dirname(path))
  }
}

function createProbeFolder(folder: string): string | LoamError {
  try {
    return mkdtempSync(join(folder, PROBE_PREFIX))
  } catch (error) {
    return toLoamError(error, `write to ${folder}`)
  }
}

function notesOf({ type, options }: FileSystemInfo): string[] {
  const isFuse = type.startsWith('fuse')
  return [
    ...(isFuse ? ['it is a FUSE file system: its server decides whether locks and syncs are reliable'] : []),
    ...(NOTES[type] === undefined ? [] : [NOTES[type]]),
    ...(options.includes('noexec')
      ? ['it is mounted noexec: programs in copy and bind root filesystems cannot be executed']
      : []),
    ...(options.includes('nodev')
      ? ['it is mounted nodev: devices of copy and bind root filesystems do not work']
      : []),
    ...(options.includes('nosuid')
      ? ['it is mounted nosuid: setuid programs in copy and bind root filesystems run without privileges']
      : []),
  ]
}
