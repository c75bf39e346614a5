import { existsSync, readdirSync, type Stats } from 'node:fs'
import { join, resolve } from 'node:path'
import type { IngestArea } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type DiffId, parseDiffId } from '../image/index.ts'
import type { LayerStore, TreeSource } from '../layers/index.ts'
import { type IdMapping, type OutputTarget, removeTree } from '../linux/index.ts'
import { writeContainerdCache } from './containerd-cache.ts'
import { createExt4 } from './ext4.ts'
import {
  type LayoutImage,
  type LayoutLayer,
  type LayoutOptions,
  writeOciArchive,
  writeOciLayout,
} from './oci-layout.ts'
import { writeOutput } from './output.ts'

/** The formats of an export. */
export const EXPORT_FORMATS = [
  'erofs',
  'tar',
  'ext4',
  'oci',
  'containers-storage',
  'containerd-cache',
] as const
/** The formats that are written as one file or directory, and not kept up to date afterwards. */
export type WrittenFormat = Exclude<ExportFormat, 'containers-storage'>
/** The formats of one output; a cache gets files besides those that it has. */
type SingleFormat = Exclude<WrittenFormat, 'containerd-cache'>
/** The format of an export. */
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

/** The content of an export: an image by its layers, or a root filesystem in its current state. */
export type ExportSource =
  | { readonly kind: 'image'; readonly layers: readonly DiffId[]; readonly image: LayoutImage }
  | {
      readonly kind: 'rootfs'
      readonly path: string
      /** The user namespace of its container. Undefined: that of this process. */
      readonly idMapping: IdMapping | undefined
      readonly image: LayoutImage
    }

/** The format and destination of an export. */
export interface ExportOptions {
  /**
   * `erofs`: a read-only disk. `ext4`: a writable disk. `tar`: one archive of all files. `oci`: an OCI layout. `containers-storage`: a directory that
   * podman, buildah and CRI-O read as an additional image store, whose layers are mounts of this store; it keeps the image until `unexport`.
   * `containerd-cache`: a directory that containerd reads as `layer_content_caches`: one EROFS image for each layer, added to those that are there.
   */
  readonly format: ExportFormat
  /**
   * File to create; for `oci`, `containers-storage` and `containerd-cache` a directory. `-` is standard output; a pipe or a device is written to. A stream gets
   * a layout as one tar.
   */
  readonly output: string
  /** Size of an ext4 file system in bytes. */
  readonly sizeBytes?: number | undefined
  /** Replace an existing file; overwrite a disk. */
  readonly force?: boolean | undefined
  /** Permissions of the file; undefined for 0600. */
  readonly mode?: number | undefined
  /** Later times of files are this one, in milliseconds since 1970, as SOURCE_DATE_EPOCH asks for. Undefined: they stay. Layers that are copied stay. */
  readonly latestMs?: number | undefined
  /** Cancels the call, which then fails with CANCELED. Nothing unfinished is left. */
  readonly signal?: AbortSignal | undefined
}

export interface ExporterOptions {
  readonly layers: LayerStore
  readonly ingest: () => IngestArea
  /** Where to look up programs. */
  readonly path: string
  /** Directory that a relative output starts from; '' for that of this process. */
  readonly cwd: string
  /** Called with the bytes of the output that were written, and all of them if that is known. */
  readonly onBytes?: ((doneBytes: number, totalBytes: number | undefined) => void) | undefined
  /** Called with notes about files and attributes that the output lacks. */
  readonly onNote: (text: string) => void
}

/**
 * Writes an image or a root filesystem to a file that others can use. The file is written under a temporary name in the same directory and renamed
 * when it is complete and on the disk. The caller holds leases on layers and root filesystem.
 * @throws OUTPUT_EXISTS, USAGE, LAYER_UNSUPPORTED, and the errors of layers and system calls
 */
export async function exportTo(
  source: ExportSource,
  options: ExportOptions & { readonly format: WrittenFormat },
  exporter: ExporterOptions,
): Promise<void> {
  const { format, force = false, mode, sizeBytes, signal } = options
  const output = outputPath(options)
  if (format !== 'ext4' && sizeBytes !== undefined) {
    throw new LoamError(
      'USAGE',
      `export: --size is for ext4; a ${format} image always has the size of its contents`,
    )
  }
  if (format === 'oci' && /\.(?:tar|tgz|tar\.gz|tar\.zst)$/.test(output)) {
    throw new LoamError(
      'USAGE',
      `export to ${output}: an OCI layout is a directory, but this is the name of an archive`,
      {
        hint: 'Name a directory; `-` writes an archive to standard output, and `loam save --format oci-archive` a file.',
      },
    )
  }
  const path = resolve(exporter.cwd, output)
  if (format === 'containerd-cache') {
    const slash = output.endsWith('/') ? '/' : ''
    await exportToCache(source, { ...options, directory: `${path}${slash}` }, exporter)
    return
  }
  const mayReplace = (found: Stats, place: string) =>
    format === 'oci'
      ? found.isDirectory() && (isEmptyFolder(place) || (force && existsSync(join(place, 'oci-layout'))))
      : force && found.isFile()
  await writeOutput(output, { cwd: exporter.cwd, mayReplace, force, mode, signal }, async (target) => {
    await make(source, { ...options, format, target }, exporter)
  })
}

async function exportToCache(
  source: ExportSource,
  { output, force, mode, directory, signal }: ExportOptions & { readonly directory: string },
  { layers, onBytes, onNote }: ExporterOptions,
): Promise<void> {
  if (source.kind === 'rootfs') {
    throw new LoamError('USAGE', `export to ${output} as containerd-cache: it is a container`, {
      hint: 'Commit it to an image first: `loam snapshot commit`.',
    })
  }
  if (force === true || output === '-') {
    throw new LoamError('USAGE', 'export as containerd-cache: the output is a directory, without --force')
  }
  await writeContainerdCache({ directory, diffIds: source.layers, layers, mode, onBytes, onNote, signal })
}

/** A layout may also be named `oci:DIRECTORY`, as in other tools. */
function outputPath({ format, output }: ExportOptions): string {
  return format === 'oci' ? output.replace(/^oci:(?=.)/, '') : output
}

function isEmptyFolder(path: string): boolean {
  try {
    return readdirSync(path).length === 0
  } catch {
    return false
  }
}

interface MakeOptions extends ExportOptions {
  readonly format: SingleFormat
  readonly target: OutputTarget
}

async function make(source: ExportSource, options: MakeOptions, exporter: ExporterOptions): Promise<void> {
  const { format, target, signal } = options
  if (format === 'oci') {
    await exportLayout(source, options, exporter)
  } else if (source.kind === 'image') {
    await createOfTree({ layers: source.layers }, format, options, exporter)
  } else if (format === 'tar') {
    await packRootfs(source, target, options, exporter)
  } else {
    const files = {
      dataPath: exporter.ingest().newPath('rootfs.data'),
      metaPath: exporter.ingest().newPath('rootfs.erofs'),
    }
    try {
      const { leftOut } = await exporter.layers.trees.gatherFolder(source.path, files, {
        as: 'rootfs',
        idMapping: source.idMapping,
        signal,
        onBytes: exporter.onBytes,
      })
      for (const text of leftOut) exporter.onNote(text)
      await createOfTree(files, format, options, exporter)
    } finally {
      await removeTree(files.dataPath)
      await removeTree(files.metaPath)
    }
  }
}

async function createOfTree(
  tree: TreeSource,
  format: 'erofs' | 'tar' | 'ext4',
  { target, sizeBytes, latestMs, signal }: MakeOptions,
  { layers, ingest, path, onNote, onBytes }: ExporterOptions,
): Promise<void> {
  const latestSeconds = toSeconds(latestMs)
  if (format !== 'ext4') {
    await layers.trees.exportTo(target, format, tree, { signal, onBytes, latestSeconds })
    return
  }
  // mke2fs needs a file; if the output is not one, the file is copied to it.
  const output = typeof target === 'string' ? target : ingest().newPath('disk')
  try {
    await createExt4({
      survey: await layers.trees.survey(tree, signal),
      fill: async (folder) => {
        await layers.trees.exportTo(folder, 'folder', tree, { signal, onBytes, latestSeconds })
      },
      sync: async (folder) => layers.trees.sync(folder),
      newFolder: () => ingest().newPath('rootfs'),
      output,
      sizeBytes,
      path,
      onNote,
      signal,
    })
    if (typeof target === 'number') await layers.trees.copyFile(output, target, { signal, onBytes })
  } finally {
    if (typeof target === 'number') await removeTree(output)
  }
}

async function exportLayout(
  source: ExportSource,
  options: MakeOptions,
  exporter: ExporterOptions,
): Promise<void> {
  const { target, signal } = options
  const { layers, ingest } = exporter
  const write = async (parts: readonly LayoutLayer[]) =>
    writeLayout(target, { image: source.image, layers: parts, signal }, exporter)
  if (source.kind === 'image') {
    await write(tarsOf(source.layers, layers))
    return
  }
  // An invalid config fails before the work begins.
  source.image.readConfig()
  const tarPath = ingest().newPath('rootfs.tar')
  try {
    await packRootfs(source, tarPath, options, exporter)
    const diffId = parseDiffId(await layers.trees.hashFile(tarPath, signal))
    await write([{ diffId, tarPath }])
  } finally {
    await removeTree(tarPath)
  }
}

/** A directory, or for a stream the tar of one. */
async function writeLayout(
  target: OutputTarget,
  {
    image,
    layers,
    signal,
  }: Readonly<{ image: LayoutImage; layers: readonly LayoutLayer[]; signal: AbortSignal | undefined }>,
  { layers: store, onBytes }: ExporterOptions,
): Promise<void> {
  if (typeof target === 'number') {
    await writeOciArchive(target, image, layers, { signal, onBytes })
    return
  }
  const copy: LayoutOptions['copy'] = async (path, file, { digest, onBytes: report }) =>
    store.trees.copyFile(path, file, { digest, signal, onBytes: report })
  await writeOciLayout(target, image, layers, { copy, onBytes })
  await store.trees.sync(target)
}

async function packRootfs(
  { path, idMapping }: Extract<ExportSource, { kind: 'rootfs' }>,
  target: OutputTarget,
  { latestMs, signal }: MakeOptions,
  { layers, onNote, onBytes }: ExporterOptions,
): Promise<void> {
  const { leftOut } = await layers.trees.packFolder(path, target, {
    as: 'rootfs',
    idMapping,
    latestSeconds: toSeconds(latestMs),
    signal,
    onBytes,
  })
  for (const text of leftOut) onNote(text)
}

function toSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.floor(ms / 1000)
}

function tarsOf(diffIds: readonly DiffId[], layers: LayerStore): { diffId: DiffId; tarPath: string }[] {
  return diffIds.map((diffId) => ({ diffId, tarPath: layers.tarPath(diffId) }))
}
