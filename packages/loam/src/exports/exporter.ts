import { existsSync, lstatSync, readdirSync, renameSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { IngestArea } from '../content/index.ts'
import { LoamError, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { type LayerStore, STANDARD_OUTPUT, type TreeSource } from '../layers/index.ts'
import { removeTree, syncDirectory } from '../linux/index.ts'
import { makeExt4 } from './ext4.ts'
import { type LayoutImage, writeOciLayout } from './oci-layout.ts'

/** What an image can be made into. */
export const EXPORT_FORMATS = ['erofs', 'tar', 'ext4', 'oci'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

/** What is exported: an image by its layers, or a root filesystem as it stands. */
export type ExportSource =
  | { readonly kind: 'image'; readonly layers: readonly DiffId[]; readonly image: LayoutImage }
  | { readonly kind: 'rootfs'; readonly path: string; readonly image: LayoutImage }

export interface ExportOptions {
  readonly format: ExportFormat
  /** File to make; for `oci` a folder. For `tar` `-` is standard output. */
  readonly output: string
  /** Size of an ext4 file system in bytes. */
  readonly sizeBytes?: number | undefined
  /** Replace what is there. */
  readonly force?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ExporterOptions {
  readonly layers: LayerStore
  readonly ingest: () => IngestArea
  /** Where programs are looked up. */
  readonly path: string
  /** Takes lines about what the output does not hold. */
  readonly onNote: (text: string) => void
}

/**
 * Writes an image or a root filesystem to a file that others can use. It is made under another name beside its own and gets that
 * when it is whole and on the disk. The caller keeps layers and root filesystem from going away.
 * @throws OUTPUT_EXISTS, USAGE, LAYER_UNSUPPORTED, and what layers and system calls throw
 */
export async function exportTo(
  source: ExportSource,
  options: ExportOptions,
  exporter: ExporterOptions,
): Promise<void> {
  if (options.output === '-') {
    await exportToStandardOutput(source, options, exporter)
    return
  }
  const output = resolve(outputPath(options))
  checkOutput(output, options)
  const unfinished = `${output}.loam-${process.pid}`
  removeTree(unfinished)
  try {
    await make(source, { ...options, output: unfinished }, exporter)
    if (options.format === 'oci') removeTree(output)
    renameSync(unfinished, output)
    syncDirectory(dirname(output))
  } catch (error) {
    throw toLoamError(error, `export to ${options.output}`)
  } finally {
    removeTree(unfinished)
  }
}

/** A layout may be named as others name it: `oci:DIRECTORY`. */
function outputPath({ format, output }: ExportOptions): string {
  return format === 'oci' ? output.replace(/^oci:(?=.)/, '') : output
}

async function exportToStandardOutput(
  source: ExportSource,
  options: ExportOptions,
  exporter: ExporterOptions,
): Promise<void> {
  if (options.format !== 'tar') {
    throw new LoamError('USAGE', `export: standard output can take a tar, and no ${options.format}`, {
      hint: 'Name a file.',
    })
  }
  await make(source, { ...options, output: STANDARD_OUTPUT }, exporter)
}

function checkOutput(output: string, { format, force, sizeBytes }: ExportOptions): void {
  if (format !== 'ext4' && sizeBytes !== undefined) {
    throw new LoamError(
      'USAGE',
      `export: --size is for ext4; a disk of ${format} is as large as what is in it`,
    )
  }
  if (format === 'oci' && /\.(?:tar|tgz|tar\.gz|tar\.zst)$/.test(output)) {
    throw new LoamError(
      'USAGE',
      `export to ${output}: an OCI layout is a directory, and this is the name of an archive`,
      {
        hint: 'Name a directory; `tar -C DIRECTORY -cf FILE .` makes an archive of it.',
      },
    )
  }
  if (!existsSync(dirname(output))) {
    throw new LoamError('USAGE', `export to ${output}: there is no folder ${dirname(output)}`)
  }
  const found = lstatSync(output, { throwIfNoEntry: false })
  if (found === undefined) return
  const isReplaceable =
    format === 'oci'
      ? isEmptyFolder(output) || (force === true && existsSync(join(output, 'oci-layout')))
      : force === true && found.isFile()
  if (isReplaceable) return
  throw new LoamError('OUTPUT_EXISTS', `export to ${output}: it is there already`, {
    hint: `Choose another output${force === true ? '; --force replaces only what an export may have made' : ', or replace it with --force'}.`,
  })
}

function isEmptyFolder(path: string): boolean {
  try {
    return readdirSync(path).length === 0
  } catch {
    return false
  }
}

async function make(source: ExportSource, options: ExportOptions, exporter: ExporterOptions): Promise<void> {
  const { format, output, signal } = options
  const { layers, ingest } = exporter
  if (source.kind === 'image') {
    if (format === 'oci') await writeOciLayout(output, source.image, tarsOf(source.layers, layers))
    else await makeOfTree({ layers: source.layers }, format, options, exporter)
    return
  }
  if (format === 'tar') {
    await packRootfs(source.path, output, exporter, signal)
    return
  }
  const tarPath = ingest().newPath('rootfs.tar')
  try {
    await packRootfs(source.path, tarPath, exporter, signal)
    if (format === 'oci') {
      const diffId = (await layers.hashFile(tarPath, signal)) as DiffId
      await writeOciLayout(output, source.image, [{ diffId, tarPath }])
    } else await makeOfTree({ tarPath }, format, options, exporter)
  } finally {
    removeTree(tarPath)
  }
}

async function makeOfTree(
  tree: TreeSource,
  format: 'erofs' | 'tar' | 'ext4',
  { output, sizeBytes, signal }: ExportOptions,
  { layers, ingest, path, onNote }: ExporterOptions,
): Promise<void> {
  if (format !== 'ext4') {
    await layers.exportTo(output, format, tree, signal)
    return
  }
  await makeExt4({
    survey: await layers.survey(tree, signal),
    fill: async (folder) => layers.exportTo(folder, 'folder', tree, signal),
    newFolder: () => ingest().newPath('rootfs'),
    output,
    sizeBytes,
    path,
    onNote,
    signal,
  })
}

async function packRootfs(
  folder: string,
  target: string,
  { layers, onNote }: ExporterOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { leftOut } = await layers.packFolder(folder, target, { as: 'rootfs', signal })
  for (const text of leftOut) onNote(text)
}

function tarsOf(diffIds: readonly DiffId[], layers: LayerStore): { diffId: DiffId; tarPath: string }[] {
  return diffIds.map((diffId) => ({ diffId, tarPath: layers.tarPath(diffId) }))
}
