import { closeSync, existsSync, lstatSync, readSync, statSync } from 'node:fs'
import { join, posix } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { checkDocumentSize, type DocumentKind, type DocumentLimits, limitOf } from '../image/index.ts'
import { kindOf, openInput, readInput } from '../linux/index.ts'
import { streamFile } from './blob-file.ts'
import type { OpenBlobOptions } from './image-source.ts'
import { scanTarFile } from './tar-scan.ts'

const MAX_MEMBERS = 100_000
const MAX_LINKS = 10

/** Named files of an image in a folder or an archive. Names never lead outside of it. */
export interface ArchiveFiles {
  /** Returns the size in bytes, undefined when there is no such file. */
  readonly sizeOf: (name: string) => number | undefined
  /** Reads a small file whole; undefined if it does not exist. @throws DOCUMENT_TOO_LARGE */
  readonly read: (name: string, kind: DocumentKind) => Buffer | undefined
  /** Returns the path of a folder on this machine; undefined in an archive, and where there is no folder. */
  readonly findFolder: (name: string) => string | undefined
  /** Streams a file, from an offset on. @throws SOURCE_INVALID if it does not exist */
  readonly stream: (name: string, options?: OpenBlobOptions) => AsyncIterable<Buffer>
}

/** Opens the files of a folder. */
export function folderFiles(folder: string, limits: DocumentLimits): ArchiveFiles {
  const path = (name: string) => join(folder, posix.join('/', name))
  const sizeOf = (name: string) => {
    try {
      const stats = statSync(path(name))
      // A directory may have the name of a file of another kind of image. Anything else was put in the place of that file.
      if (stats.isDirectory()) return undefined
      if (stats.isFile()) return stats.size
      throw new LoamError(
        'SOURCE_INVALID',
        `read ${path(name)}: it is ${kindOf(stats)}, expected a regular file`,
      )
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw toLoamError(error, `read ${path(name)}`)
    }
  }
  return {
    sizeOf,
    read: (name, kind) => {
      const size = sizeOf(name)
      if (size === undefined) return undefined
      const limit = limitOf(kind, limits)
      checkDocumentSize(`read ${path(name)}`, size, limit)
      return readInput(path(name), limit.maxBytes)
    },
    findFolder: (name) => {
      const isFolder = lstatSync(path(name), { throwIfNoEntry: false })?.isDirectory() ?? false
      return isFolder ? path(name) : undefined
    },
    stream: (name, { offset, signal } = {}) => streamNamed(path(name), { start: offset }, signal),
  }
}

/** A file of an archive. */
interface ArchiveMember {
  readonly offset: number
  readonly sizeBytes: number
}

/** Opens the members of a tar, which is read in place. Links lead to other members and nowhere else. @throws SOURCE_INVALID */
export async function archiveFiles(archive: string, limits: DocumentLimits): Promise<ArchiveFiles> {
  const members = await readIndex(archive)
  const find = (name: string) => findFile(cleanName(name), members)
  return {
    sizeOf: (name) => find(name)?.sizeBytes,
    read: (name, kind) => {
      const member = find(name)
      if (member === undefined) return undefined
      checkDocumentSize(`read ${name} in ${archive}`, member.sizeBytes, limitOf(kind, limits))
      return readRange(archive, member)
    },
    findFolder: () => undefined,
    stream: (name, { offset = 0, signal } = {}) => {
      const member = find(name)
      if (member === undefined) {
        throw new LoamError('SOURCE_INVALID', `read ${archive}: it has no ${name}`)
      }
      if (offset >= member.sizeBytes) return emptyStream()
      const range = { start: member.offset + offset, end: member.offset + member.sizeBytes - 1 }
      return streamNamed(archive, range, signal)
    },
  }
}

/** The files of an archive by name, and for links the names that they lead to. */
type Members = Map<string, ArchiveMember | string>

/** Reads the names in an archive. The last entry of a name counts, as when the archive is unpacked. */
async function readIndex(archive: string): Promise<Members> {
  const members: Members = new Map()
  try {
    await scanTarFile(archive, (entry) => {
      const name = cleanName(entry.name.toString('utf8'))
      const target = entry.linkName.toString('utf8')
      if (entry.type === 'file' && entry.sparse === undefined) {
        members.set(name, { offset: entry.dataOffset, sizeBytes: entry.sizeBytes })
      } else if (entry.type === 'symlink') {
        members.set(name, cleanName(posix.join('/', posix.dirname(name), target)))
      } else if (entry.type === 'hardlink') {
        // It keeps what the other name is now.
        members.set(name, members.get(cleanName(target)) ?? cleanName(target))
      } else {
        members.delete(name)
      }
      if (members.size > MAX_MEMBERS) {
        throw new LoamError('SOURCE_INVALID', `read ${archive}: more than ${MAX_MEMBERS} members`)
      }
    })
  } catch (error) {
    const cause = toLoamError(error, `read ${archive}`)
    throw new LoamError('SOURCE_INVALID', `read ${archive}: ${cause.message}`, {
      cause,
      hint: cause.code === 'TAR_INVALID' ? 'The file is not a tar archive, or is damaged.' : cause.hint,
    })
  }
  return members
}

/** `..` stops at the top, as in a chroot. */
function cleanName(name: string): string {
  return posix.join('/', name).replace(/^\/+/, '').replace(/\/$/, '')
}

function findFile(name: string, members: Members): ArchiveMember | undefined {
  let found = members.get(name)
  for (let followed = 0; followed < MAX_LINKS && typeof found === 'string'; followed += 1)
    found = members.get(found)
  return typeof found === 'string' ? undefined : found
}

function readRange(path: string, member: ArchiveMember): Buffer {
  // Documents are small.
  const whole = Buffer.alloc(member.sizeBytes)
  let done = 0
  const fd = openInput(path)
  try {
    while (done < whole.length) {
      const read = readSync(fd, whole, done, whole.length - done, member.offset + done)
      if (read === 0) throw new LoamError('SOURCE_INVALID', `read ${path}: it is cut off`)
      done += read
    }
    return whole
  } finally {
    closeSync(fd)
  }
}

async function* streamNamed(
  path: string,
  range: { readonly start?: number | undefined; readonly end?: number },
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  if (!existsSync(path)) {
    throw new LoamError('SOURCE_INVALID', `read ${path}: the image refers to it, but it does not exist`)
  }
  yield* streamFile(path, signal, range)
}
async function* emptyStream(): AsyncGenerator<Buffer> {}
