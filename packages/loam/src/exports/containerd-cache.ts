/*
 * The directory that containerd's erofs snapshotter reads as `layer_content_caches` (containerd internal/erofsutils/mount.go: CacheBlobPath):
 *
 *   <directory>/sha256/<first two digits of the diffID>/<digits of the diffID>.erofs
 *
 * Each file is one layer as an EROFS image by itself, which containerd mounts where it is (`ro,loop`) and stacks by overlayfs. So it has its name
 * only when it is complete and on the disk, and it is never replaced. Beside it may be a file `.dmverity`, which Loam does not write.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, linkSync, mkdirSync, rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import { type DiffId, splitDigest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { removeTree, syncDirectory } from '../linux/index.ts'

export interface ContainerdCacheOptions {
  /** Absolute path. Created if it does not exist; its parent must exist. Images share it. */
  readonly directory: string
  /** Of the image, base first. The caller holds leases on them. */
  readonly diffIds: readonly DiffId[]
  readonly layers: LayerStore
  /** Permissions of new files; undefined for 0600. */
  readonly mode: number | undefined
  /** Called with the bytes of the files that were written. */
  readonly onBytes?: ((doneBytes: number, totalBytes: number | undefined) => void) | undefined
  readonly onNote: (text: string) => void
  readonly signal: AbortSignal | undefined
}

interface CachedLayer {
  readonly diffId: DiffId
  readonly path: string
  readonly target: string | undefined
  readonly dependsOnStack: boolean
}

/**
 * Writes the layers of an image to a cache of containerd. Existing files stay as they are; a note says if one shows something else than the layer on
 * the layers of this image. Several calls may write to one directory at once. On failure no new file has a name in the cache, except
 * complete ones. Linear in the data of the layers that are written. @throws USAGE, LAYER_UNSUPPORTED, LAYER_NOT_FOUND, NO_SPACE, CANCELED
 */
export async function writeContainerdCache(options: ContainerdCacheOptions): Promise<void> {
  const { directory, diffIds, layers, mode = 0o600, onBytes, onNote, signal } = options
  requireStackable(diffIds, layers)
  if (!existsSync(dirname(directory))) {
    throw new LoamError('USAGE', `write ${directory}: directory ${dirname(directory)} does not exist`)
  }
  const created: string[] = []
  const folder = join(directory, `.loam-${process.pid}-${randomBytes(4).toString('hex')}`)
  try {
    makeDirectory(directory, mode, created)
    mkdirSync(folder, { mode: 0o700 })
    const planned = planLayers(diffIds, { directory, folder, layers })
    await layers.trees.writeLayerImages(planned, { signal, onBytes })
    for (const layer of planned) {
      throwIfAborted(signal, `write ${layer.path}`)
      if (!(await placeLayer(layer, { layers, mode, created, signal }))) onNote(describeOther(layer))
    }
    for (const path of new Set(created.map((made) => dirname(made)))) await syncDirectory(path)
  } catch (error) {
    await removeTree(folder).catch(() => undefined)
    removeEmpty(created)
    throw toLoamError(error, `write ${directory}`)
  }
  await removeTree(folder)
}

/** overlayfs cannot show such a layer, whoever writes it. */
function requireStackable(diffIds: readonly DiffId[], layers: LayerStore): void {
  const found = diffIds.find((diffId) => layers.get(diffId).summary.hasZeroDevices)
  if (found === undefined) return
  throw new LoamError(
    'LAYER_UNSUPPORTED',
    `export as containerd-cache: layer ${found} holds a character device 0:0, which overlayfs treats as a whiteout`,
    { hint: 'Export the image as erofs or ext4.' },
  )
}

function planLayers(
  diffIds: readonly DiffId[],
  { directory, folder, layers }: { directory: string; folder: string; layers: LayerStore },
): CachedLayer[] {
  return diffIds.map((diffId, index) => {
    const { algorithm, hex } = splitDigest(diffId)
    const path = join(directory, algorithm, hex.slice(0, 2), `${hex}.erofs`)
    const { hasLowerLinks, hasWhiteouts, hasImplicitDirectories } = layers.get(diffId).summary
    const dependsOnStack = hasLowerLinks || hasWhiteouts || hasImplicitDirectories
    const comesBefore = diffIds.indexOf(diffId) < index
    // A file that exists may have been written for other lower layers: only its bytes say that.
    const isNeeded = dependsOnStack || (!comesBefore && !existsSync(path))
    return { diffId, path, dependsOnStack, target: isNeeded ? join(folder, String(index)) : undefined }
  })
}

/** Gives a layer its name in the cache, unless it is there. Returns false if a file with other content is there. */
async function placeLayer(
  { path, target }: CachedLayer,
  {
    layers,
    mode,
    created,
    signal,
  }: { layers: LayerStore; mode: number; created: string[]; signal: AbortSignal | undefined },
): Promise<boolean> {
  if (target === undefined) return true
  makeDirectory(dirname(dirname(path)), mode, created)
  makeDirectory(dirname(path), mode, created)
  chmodSync(target, mode)
  try {
    // Unlike a rename, a link never replaces the file of another export.
    linkSync(target, path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    return layers.trees.hasDigest(path, await layers.trees.hashFile(target, signal), signal)
  }
  await syncDirectory(dirname(path))
  return true
}

/** Whoever may read files may also search their directory. */
function makeDirectory(path: string, mode: number, created: string[]): void {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return
    throw error
  }
  created.push(path)
  chmodSync(path, 0o700 | mode | ((mode & 0o444) >> 2))
}

/** Removes directories of this call that are empty: others may use them by now. */
function removeEmpty(created: readonly string[]): void {
  for (const path of created.toReversed()) {
    try {
      rmdirSync(path)
    } catch {
      // It is in use.
    }
  }
}

function describeOther({ diffId, path }: CachedLayer): string {
  return (
    `layer ${diffId}: ${path} differs from this layer on the layers of this image, and was left as it is. ` +
    'Another image has this layer on other layers. Export this image to a separate directory.'
  )
}
