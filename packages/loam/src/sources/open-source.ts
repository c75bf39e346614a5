import { closeSync, createReadStream, openSync, readSync, statSync } from 'node:fs'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { decompress, SequentialWriter } from '../layers/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { dockerArchiveSource } from './docker-archive.ts'
import type { ImageName } from './image-name.ts'
import type { ImageSource } from './image-source.ts'
import { archiveMembers, folderMembers, type Members } from './members.ts'
import { isOciLayout, ociLayoutSource } from './oci-layout.ts'
import { registrySource } from './registry-source.ts'

export interface OpenSourceOptions {
  readonly client: RegistryClient
  /** Returns a path for a temporary file; for archives that are packed as a whole. */
  readonly newPath: () => string
}

/** Opens the source that a name names. @throws SOURCE_NOT_FOUND, SOURCE_INVALID, IMAGE_NOT_FOUND */
export async function openSource(name: ImageName, options: OpenSourceOptions): Promise<ImageSource> {
  if (name.transport === 'docker') return registrySource(name.reference, options.client)
  const members = await openMembers(name.path, options)
  const isArchive =
    name.transport === 'docker-archive' &&
    !(isOciLayout(members) && members.sizeOf('manifest.json') === undefined)
  return isArchive
    ? dockerArchiveSource(name.path, name.selector, members)
    : ociLayoutSource(name.path, name.selector, members)
}

async function openMembers(path: string, options: OpenSourceOptions): Promise<Members> {
  try {
    if (statSync(path).isDirectory()) return folderMembers(path)
    return archiveMembers(isPacked(path) ? await unpack(path, options) : path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new LoamError('SOURCE_NOT_FOUND', `open ${path}: there is nothing there`, {
        cause: error,
      })
    }
    throw toLoamError(error, `open ${path}`)
  }
}

function isPacked(path: string): boolean {
  const head = Buffer.alloc(4)
  const fd = openSync(path, 'r')
  try {
    readSync(fd, head)
  } finally {
    closeSync(fd)
  }
  return (head[0] === 0x1f && head[1] === 0x8b) || head.readUInt32LE(0) === 0xfd2fb528
}

/** A packed archive cannot be read in place. The copy goes with the ingest folder. */
async function unpack(path: string, { newPath }: OpenSourceOptions): Promise<string> {
  const plain = newPath()
  await using writer = new SequentialWriter(plain)
  for await (const chunk of decompress(createReadStream(path, { highWaterMark: 256 << 10 }))) {
    await writer.write(chunk)
  }
  await writer.sync()
  return plain
}
