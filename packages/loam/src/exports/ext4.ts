import { statSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { diskUsage, findProgram, runProgram } from '../linux/index.ts'

const MEBIBYTE = 1 << 20
const MIN_BYTES = 16 * MEBIBYTE
/** Inodes, journal and block maps take a part of the file system; what is left over is for the machine that boots from it. */
const ROOM_FACTOR = 1.35
const INODE_BYTES = 256
const TIMEOUT_MS = 3_600_000

export interface Ext4Options {
  readonly folder: string
  /** A file that does not exist. */
  readonly output: string
  /** Undefined: what the content needs, and some room. */
  readonly sizeBytes: number | undefined
  readonly path: string
  readonly signal: AbortSignal | undefined
}

/** Makes an ext4 file system of a folder with mke2fs. @throws UNSUPPORTED_SYSTEM without mke2fs, NO_SPACE when it is too small, SYSTEM */
export async function makeExt4({ folder, output, sizeBytes, path, signal }: Ext4Options): Promise<void> {
  const program = findProgram('mke2fs', path)
  if (program === undefined) {
    throw new LoamError('UNSUPPORTED_SYSTEM', 'export as ext4: mke2fs is not on the PATH', {
      hint: 'Install e2fsprogs, or export as erofs.',
    })
  }
  const content = diskUsage(folder)
  const needed = content.bytes * ROOM_FACTOR + content.inodes * INODE_BYTES * 2
  const size = sizeBytes ?? Math.ceil(Math.max(MIN_BYTES, needed) / MEBIBYTE) * MEBIBYTE
  // As many inodes as the content needs, and again as many to write.
  const inodes = Math.max(1024, content.inodes * 2)
  const args = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-N',
    String(inodes),
    '-m',
    '0',
    '-d',
    folder,
    output,
    `${Math.floor(size / 1024)}k`,
  ]
  const { status, stderr } = await runProgram(program, args, { timeoutMs: TIMEOUT_MS, signal })
  if (status === 0) {
    await describeRoot(folder, output, { path, signal })
    return
  }
  const words = stderr.trim().split('\n').slice(0, 3).join('; ')
  if (/Could not allocate|No(?:t enough)? space|too small|too big for/i.test(words)) {
    throw new LoamError(
      'NO_SPACE',
      `export as ext4: what is in it does not fit into ${size} bytes (${words})`,
      {
        hint: 'Give a larger --size, or none.',
      },
    )
  }
  throw new LoamError('SYSTEM', `export as ext4: mke2fs failed: ${words}`)
}

/** mke2fs fills the root directory and leaves it its own attributes. */
async function describeRoot(
  folder: string,
  output: string,
  { path, signal }: Pick<Ext4Options, 'path' | 'signal'>,
): Promise<void> {
  const { mode, uid, gid, mtimeMs } = statSync(folder)
  const fields = { mode: `0${mode.toString(8)}`, uid, gid, mtime: `@${Math.floor(mtimeMs / 1000)}` }
  const input = Object.entries(fields)
    .map(([field, value]) => `set_inode_field <2> ${field} ${value}\n`)
    .join('')
  const program = findProgram('debugfs', path) ?? 'debugfs'
  const { status, stderr } = await runProgram(program, ['-w', '-f', '-', output], { input, signal })
  // It tells its version there, and of errors; its status says nothing of the commands.
  const words = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs '))
  if (status !== 0 || words.length > 0) {
    throw new LoamError('SYSTEM', `export as ext4: debugfs failed: ${words.join('; ')}`)
  }
}
