/*
 * Creates an ext4 file system. The kernel fills it through a mount without a path, because only the kernel keeps the whole tree: nanoseconds, times
 * after 2038,
 * hard links between symlinks. Without root or loop devices mke2fs copies a folder into it, in whole seconds.
 */
import { fsync, ftruncateSync, mkdirSync, rmdirSync, statSync } from 'node:fs'
import { promisify } from 'node:util'
import { isErrno, isLoamError, LoamError } from '../errors/index.ts'
import type { TreeSurvey } from '../transform/index.ts'
import {
  AT_FDCWD,
  encodeTimes,
  findProgram,
  libc,
  removeTree,
  programFailed,
  runProgram,
  toolEnvironment,
  UnattachedMount,
  UnnamedFile,
} from '../linux/index.ts'

const fsyncAsync = promisify(fsync)

const MEBIBYTE = 1 << 20
/** A journal takes 4 MiB of the smallest. */
const BASE_BYTES = 16 * MEBIBYTE
/** Journal and block maps take a part of the file system; the rest is for the machine that boots from it. */
const ROOM_FACTOR = 1.35
const INODE_BYTES = 256
/** mke2fs takes smaller blocks for small images, and a symlink or a set of xattrs has to fit into one. */
const BLOCK_BYTES = 4096
/** Larger sets are stored in inodes of their own (ea_inode, Linux 4.13), which boot loaders may not support. */
const MAX_BLOCK_XATTR_BYTES = 3500
const MAX_TRIES = 3
const TIMEOUT_MS = 3_600_000
/** Why this process may not mount, or this machine has no loop devices or no ext4. */
const NO_MOUNT_ERRORS = ['EPERM', 'EACCES', 'ENOENT', 'ENODEV', 'ENXIO', 'ENOSYS', 'ENOTTY'] as const

export interface Ext4Options {
  readonly survey: TreeSurvey
  /** Writes the tree into an existing empty folder. */
  readonly fill: (folder: string) => Promise<void>
  /** Waits until everything written below a folder is on the disk. */
  readonly sync: (folder: string) => Promise<void>
  /** Returns a path for a folder of unfinished work. */
  readonly newFolder: () => string
  /** A file that does not exist. */
  readonly output: string
  /** Undefined: the size that the content needs, and some free space. */
  readonly sizeBytes: number | undefined
  readonly path: string
  readonly onNote: (text: string) => void
  readonly signal: AbortSignal | undefined
}

/** Creates an ext4 file system from a tree. @throws UNSUPPORTED_SYSTEM without mke2fs, NO_SPACE when it is too small, PROGRAM_FAILED */
export async function createExt4(options: Ext4Options): Promise<void> {
  const { survey, output, sizeBytes } = options
  const estimate = survey.bytes * ROOM_FACTOR + survey.inodes * INODE_BYTES * 2 + BASE_BYTES
  using disk = UnnamedFile.create(output)
  for (let tries = 1; ; tries += 1) {
    const size = sizeBytes ?? Math.ceil((estimate * tries) / MEBIBYTE) * MEBIBYTE
    try {
      await createOfSize(size, disk, options)
      await fsyncAsync(disk.fd)
      disk.giveName()
      return
    } catch (error) {
      if (!isLoamError(error, 'NO_SPACE')) throw error
      if (sizeBytes === undefined && tries < MAX_TRIES) continue
      throw new LoamError('NO_SPACE', `export as ext4: the contents do not fit into ${size} bytes`, {
        cause: error,
        hint: `Give --size ${Math.ceil(estimate / MEBIBYTE)}M or more, or leave it out.`,
      })
    }
  }
}

async function createOfSize(size: number, disk: UnnamedFile, options: Ext4Options): Promise<void> {
  await runMke2fs(size, disk, [], options)
  using mount = tryMount(disk.path)
  if (mount === undefined) {
    await copyFolder(size, disk, options)
    return
  }
  const lostAndFound = `${mount.path}/lost+found`
  // The tree may have one.
  rmdirSync(lostAndFound)
  await options.fill(mount.path)
  restoreLostAndFound(mount.path, lostAndFound)
  await options.sync(mount.path)
}

function tryMount(image: string): UnattachedMount | undefined {
  try {
    return UnattachedMount.open('ext4', image, ['noinit_itable'])
  } catch (error) {
    if (isErrno(error, ...NO_MOUNT_ERRORS)) return undefined
    throw error
  }
}

/** e2fsck wants the folder; the root keeps its time. */
function restoreLostAndFound(root: string, path: string): void {
  const { mtimeNs } = statSync(root, { bigint: true })
  try {
    mkdirSync(path, 0o700)
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return
    throw error
  }
  const nanoseconds = ((mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  const seconds = (mtimeNs - nanoseconds) / 1_000_000_000n
  libc().utimensat(AT_FDCWD, root, encodeTimes(Number(seconds), Number(nanoseconds)), 0)
}

async function copyFolder(size: number, disk: UnnamedFile, options: Ext4Options): Promise<void> {
  const { survey, onNote } = options
  if (survey.hasWideTimes) {
    throw new LoamError(
      'UNSUPPORTED_SYSTEM',
      'export as ext4: a file has a time before 1901 or after 2038, which mke2fs cannot store',
      { hint: 'Run as root on a machine with loop devices, or export as erofs.' },
    )
  }
  onNote(
    'ext4 without root and loop devices: times are rounded to seconds, and hard links to symlinks are lost',
  )
  const folder = options.newFolder()
  try {
    mkdirSync(folder, { mode: 0o700 })
    await options.fill(folder)
    await runMke2fs(size, disk, ['-d', folder], options)
    await describeRoot(folder, disk, options)
  } finally {
    await removeTree(folder)
  }
}

/** The disk of a program that gets it as its descriptor 3: nothing leads there by a name. */
const DISK = '/proc/self/fd/3'

async function runMke2fs(
  size: number,
  disk: UnnamedFile,
  args: readonly string[],
  { survey, path, signal }: Ext4Options,
): Promise<void> {
  const program = findProgram('mke2fs', path)
  if (program === undefined) {
    throw new LoamError('UNSUPPORTED_SYSTEM', 'export as ext4: mke2fs is not on the PATH', {
      hint: 'Install e2fsprogs, or export as erofs.',
    })
  }
  // As many inodes as the content needs, and again as many to write.
  const inodes = Math.max(1024, survey.inodes * 2)
  const features = survey.maxXattrBytes > MAX_BLOCK_XATTR_BYTES ? ['-O', 'ea_inode'] : []
  const common = `-q -F -t ext4 -b ${BLOCK_BYTES} -I ${INODE_BYTES} -m 0 -N ${inodes}`.split(' ')
  const all = [...common, ...features, ...args, DISK, `${Math.floor(size / 1024)}k`]
  // Nothing is left of an earlier try.
  ftruncateSync(disk.fd, 0)
  const result = await runProgram(program, all, {
    env: toolEnvironment(path),
    files: [disk.fd],
    timeoutMs: TIMEOUT_MS,
    signal,
  })
  if (result.status === 0) return
  const words = result.stderr.trim().split('\n').slice(0, 3).join('; ')
  const isSpace = /Could not allocate|No(?:t enough)? space|too small|too big for|too many inodes/i.test(
    words,
  )
  if (isSpace) throw new LoamError('NO_SPACE', `export as ext4: mke2fs failed: ${words}`)
  throw programFailed('export as ext4', program, result)
}

/** mke2fs fills the root directory and leaves it its own attributes. */
async function describeRoot(folder: string, disk: UnnamedFile, { path, signal }: Ext4Options): Promise<void> {
  const { mode, uid, gid, mtimeMs } = statSync(folder)
  const fields = { mode: `0${mode.toString(8)}`, uid, gid, mtime: `@${Math.floor(mtimeMs / 1000)}` }
  const input = Object.entries(fields)
    .map(([field, value]) => `set_inode_field <2> ${field} ${value}\n`)
    .join('')
  const program = findProgram('debugfs', path) ?? 'debugfs'
  const { status, stderr } = await runProgram(program, ['-w', '-f', '-', DISK], {
    env: toolEnvironment(path),
    files: [disk.fd],
    input,
    signal,
  })
  // It prints its version and errors there; its exit status does not cover the commands.
  const words = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs '))
  if (status !== 0 || words.length > 0) {
    throw programFailed('export as ext4', program, { status, stderr: words.join('\n') })
  }
}
