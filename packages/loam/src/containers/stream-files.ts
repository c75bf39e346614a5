// Files of containers as tars: `loam cp` with a stream.
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import type { IngestArea } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { writeOutput } from '../exports/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { FileStat, removeTree } from '../linux/index.ts'
import { copyFromPipe, copyStream, type ImageAddress } from '../sources/index.ts'
import { type CopyContainer, nameIn, openInContainer } from './copy-files.ts'
import type { PackFilesOptions, UnpackFilesOptions } from './requests.ts'
import type { CopyReport } from './results.ts'

/** The services that files as streams need. */
export interface StreamServices {
  readonly layers: Pick<LayerStore, 'trees'>
  readonly ingest: () => IngestArea
  readonly cwd: string
  readonly maxTarBytes: number
}

/** Writes a file or a directory of a container as a tar. @throws PATH_NOT_FOUND, USAGE, OUTPUT_EXISTS, OUTPUT_CLOSED, system errors */
export async function packFrom(
  { layers, cwd }: StreamServices,
  container: CopyContainer,
  [path, output]: readonly [path: string, output: string],
  { followsLink = false, force = false, signal }: PackFilesOptions,
): Promise<CopyReport> {
  const source = openInContainer(container, path, followsLink)
  try {
    const name = nameIn({ path, isDirectory: FileStat.of(source).isDirectory })
    const { idMapping } = container
    let report: CopyReport = { leftOut: [] }
    const mayReplace = (found: { readonly isFile: () => boolean }) => force && found.isFile()
    await writeOutput(output, { cwd, mayReplace, force, signal }, async (target) => {
      report = await layers.trees.packFiles({ source, name, idMapping, target }, signal)
    })
    return report
  } finally {
    closeSync(source)
  }
}

/**
 * Unpacks a tar, compressed or not, into a directory of a container that is there. Nothing of a tar that cannot be read is unpacked. @throws
 * PATH_NOT_FOUND, USAGE, TAR_INVALID, TAR_UNSAFE, COMPRESSION_INVALID, LAYER_LIMIT, system errors
 */
export async function unpackTo(
  { layers, ingest, cwd, maxTarBytes }: StreamServices,
  container: CopyContainer,
  [tar, path]: readonly [tar: ImageAddress, path: string],
  { signal }: UnpackFilesOptions,
): Promise<CopyReport> {
  const { id, idMapping } = container
  const target = openInContainer(container, path, true)
  const copy = ingest().newPath('files.tar')
  const directory = ingest().newPath('files')
  try {
    if (!FileStat.of(target).isDirectory) {
      throw new LoamError('USAGE', `unpack into ${id}:${path}: it is not a directory`, {
        hint: `Name the directory that the files come into: loam cp - ${id}:/tmp < files.tar`,
      })
    }
    const options = { newPath: () => copy, limits: { tarBytes: maxTarBytes }, signal }
    const packed =
      typeof tar === 'string'
        ? await copyFromPipe(tar === '-' ? tar : resolve(cwd, tar), options)
        : await copyStream(tar, options)
    return await layers.trees.unpackTar({ packed, directory, target, idMapping }, signal)
  } finally {
    closeSync(target)
    await removeTree(copy)
    await removeTree(directory)
  }
}
