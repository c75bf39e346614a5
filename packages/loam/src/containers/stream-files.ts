// Files of containers as tars: `loam cp` with a stream.
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import type { IngestArea } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { writeOutput } from '../exports/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { FileStat, removeTree } from '../linux/index.ts'
import { copyFromPipe, copyStream, type ImageAddress } from '../sources/index.ts'
import { type CopyContainer, mountsBelow, nameIn, openInContainer } from './copy-files.ts'
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

/** A tar that has come, as a file that is removed at the end. */
export interface ReceivedTar extends AsyncDisposable {
  readonly packed: string
}

/** Receives a tar whole. @throws system errors, CANCELED */
export async function receiveTar(
  { ingest, cwd, maxTarBytes }: StreamServices,
  tar: ImageAddress,
  { signal }: UnpackFilesOptions,
): Promise<ReceivedTar> {
  const copy = ingest().newPath('files.tar')
  const remove = async () => removeTree(copy)
  const options = { newPath: () => copy, limits: { tarBytes: maxTarBytes }, signal }
  try {
    const packed =
      typeof tar === 'string'
        ? await copyFromPipe(tar === '-' ? tar : resolve(cwd, tar), options)
        : await copyStream(tar, options)
    return { packed, [Symbol.asyncDispose]: remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Opens a directory of a container that a tar is unpacked into. The caller closes it. @throws PATH_NOT_FOUND, USAGE */
export function openUnpackTarget(container: CopyContainer, path: string): number {
  const target = openInContainer(container, path, true)
  if (FileStat.of(target).isDirectory) return target
  closeSync(target)
  const { id } = container
  throw new LoamError('USAGE', `unpack into ${id}:${path}: it is not a directory`, {
    hint: `Name the directory that the files come into: loam cp - ${id}:/tmp < files.tar`,
  })
}

/**
 * Unpacks a tar, compressed or not, into a directory of a container that is there. Nothing of a tar that cannot be read is unpacked. What would go into
 * mounts of the container is left out. @throws PATH_NOT_FOUND, USAGE, TAR_INVALID, TAR_UNSAFE, COMPRESSION_INVALID, LAYER_LIMIT, system errors
 */
export async function unpackTo(
  { layers, ingest }: Pick<StreamServices, 'layers' | 'ingest'>,
  container: CopyContainer,
  [{ packed }, path]: readonly [tar: ReceivedTar, path: string],
  { signal }: UnpackFilesOptions,
): Promise<CopyReport> {
  const { idMapping } = container
  const target = openUnpackTarget(container, path)
  const directory = ingest().newPath('files')
  try {
    const mounts = mountsBelow(container, target)
    return await layers.trees.unpackTar({ packed, directory, target, mounts, idMapping }, signal)
  } finally {
    closeSync(target)
    await removeTree(directory)
  }
}
