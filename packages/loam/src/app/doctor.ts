import { existsSync, mkdtempSync, readdirSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  examineFileSystem,
  type FileSystemInfo,
  PROBE_PREFIX,
  probeFileSystem,
  removeTree,
} from '../linux/index.ts'
import { readConfiguration } from '../config/index.ts'
import { type LoamOptions, openLoam } from './loam.ts'
import type { Examination, HostReport } from './results.ts'

/** File systems that lose their content, or leave it to somebody else whether it is on a disk. */
const NOTES: Readonly<Record<string, string>> = {
  tmpfs: 'it is in memory: nothing of it is there after a reboot',
  ramfs: 'it is in memory: nothing of it is there after a reboot',
  overlay:
    'it is itself an overlay, as in a container: overlayfs cannot write on it; mount a disk or a volume here',
  nfs: 'it is on another machine, whose server decides what locks and flushes are worth',
  nfs4: 'it is on another machine, whose server decides what locks and flushes are worth',
  cifs: 'it is on another machine, whose server decides what locks and flushes are worth',
  '9p': 'it is on another machine, whose server decides what locks and flushes are worth',
  vfat: 'it has no owners and modes',
  exfat: 'it has no owners and modes',
}

/**
 * Tells what this machine and the location of the store can do. A store that is not there yet is not made: all is tried in a folder beside its
 * location, which is gone afterwards. @throws CONFIG_INVALID, and what opening a store throws that is there
 */
export async function examine(options: LoamOptions): Promise<Examination> {
  const { root } = readConfiguration(options).values
  const folder = existingFolder(root)
  const info = examineFileSystem(folder)
  const exists = existsSync(join(root, 'format'))
  const probes = createProbeFolder(folder)
  const problems: string[] = []
  try {
    if (probes instanceof LoamError) problems.push(probes.message)
    else problems.push(...probeFileSystem(probes))
    if (!exists && isOccupied(root)) problems.push('it is not empty and holds no store of Loam')
    const location = { folder, exists, problems, notes: notesOf(info), fileSystem: info }
    if (exists || probes instanceof LoamError) return { ...(await probeStore(options)), store: location }
    const flags = { ...options.flags, root: join(probes, 'store'), state: join(probes, 'state') }
    return { ...(await probeStore({ ...options, flags })), root, store: location }
  } finally {
    if (typeof probes === 'string') await removeTree(probes)
  }
}

async function probeStore(options: LoamOptions): Promise<HostReport> {
  await using loam = await openLoam(options)
  return await loam.store.doctor()
}

/** Whether somebody else's files are in the folder. */
function isOccupied(root: string): boolean {
  return (
    existsSync(root) &&
    readdirSync(root).some((name) => name !== 'lost+found' && !name.startsWith(PROBE_PREFIX))
  )
}

/** The folder itself, or the nearest above it that is there. */
function existingFolder(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || dirname(path) === path) throw toLoamError(error, `look at ${path}`)
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
    ...(isFuse ? ['its server is a program, which decides what locks and flushes are worth'] : []),
    ...(NOTES[type] === undefined ? [] : [NOTES[type]]),
    ...(options.includes('noexec')
      ? ['it is mounted noexec: programs of copy and bind root filesystems do not start']
      : []),
    ...(options.includes('nodev')
      ? ['it is mounted nodev: devices of copy and bind root filesystems do not work']
      : []),
    ...(options.includes('nosuid')
      ? ['it is mounted nosuid: setuid programs of copy and bind root filesystems have no rights']
      : []),
  ]
}
