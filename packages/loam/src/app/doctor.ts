import { existsSync, mkdtempSync, realpathSync } from 'node:fs'
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
import { foreignNames } from '../content/index.ts'
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

/**
 * Reports what this machine and the location of the store support. A store that does not exist yet is not created: backends are tried in a directory
 * beside its location, which is removed afterwards. @throws CONFIG_INVALID, and the errors of opening an existing store
 */
export async function examine(options: LoamOptions): Promise<Examination> {
  const { root, state } = readConfiguration(options).values
  const folder = existingFolder(root)
  const info = examineFileSystem(folder)
  const exists = existsSync(join(root, 'format'))
  const probes = createProbeFolder(folder)
  const problems: string[] = []
  try {
    if (probes instanceof LoamError) problems.push(probes.message)
    else problems.push(...probeFileSystem(probes))
    if (!exists && existsSync(root) && foreignNames(folder, state).length > 0)
      problems.push('the directory is not empty and is not a Loam store')
    const location = { folder, exists, problems, notes: notesOf(info), fileSystem: info }
    if (exists || probes instanceof LoamError) return { ...(await probeStore(options)), store: location }
    const settings = { ...options.settings, root: join(probes, 'store'), state: join(probes, 'state') }
    return { ...(await probeStore({ ...options, settings })), root, store: location }
  } finally {
    if (typeof probes === 'string') await removeTree(probes)
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
