/*
 * The directory that containerd's erofs snapshotter reads as `layer_content_caches` (containerd internal/erofsutils/mount.go: CacheBlobPath):
 *
 *   <directory>/sha256/<first two digits of the diffID>/<digits of the diffID>.erofs
 *
 * Each file is one layer as an EROFS image by itself, which containerd mounts where it is (`ro,loop`) and stacks by overlayfs. So it has its name
 * only when it is complete and on the disk, and it is never replaced. Beside it may be a file `.dmverity`, which Loam does not write.
 */
import { chmodSync, existsSync, linkSync, rmdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import { type DiffId, splitDigest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { HeldDirectory, showHeld, syncDirectory } from '../linux/index.ts'
import { directoryMode, PrivateFolder } from './private-folder.ts'

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
  readonly place: { readonly folders: readonly string[]; readonly name: string }
  /** Name of its new file in the private folder; undefined if none is needed. */
  readonly made: string | undefined
  readonly dependsOnStack: boolean
}

interface WrittenLayer extends CachedLayer {
  readonly made: string
}

/**
 * Writes the layers of an image to a cache of containerd. Existing files stay as they are; a note says if one shows something else than the layer on
 * the layers of this image. Several calls may write to one directory at once. On failure no new file has a name in the cache, except
 * complete ones. No symlink in it is followed. Linear in the data of the layers that are written.
 * @throws USAGE, LAYER_UNSUPPORTED, LAYER_NOT_FOUND, NO_SPACE, CANCELED
 */
export async function writeContainerdCache(options: ContainerdCacheOptions): Promise<void> {
  const { directory, diffIds, layers, mode = 0o600, onBytes, onNote, signal } = options
  requireStackable(diffIds, layers)
  if (!existsSync(dirname(directory))) {
    throw new LoamError('USAGE', `write ${directory}: directory ${dirname(directory)} does not exist`)
  }
  using cache = openCache(directory, mode)
  try {
    using folder = PrivateFolder.make(cache.directory, '')
    try {
      const planned = planLayers(diffIds, { directory, layers })
      const stack = planned.map(({ made, ...layer }) => ({
        ...layer,
        target: made === undefined ? undefined : folder.at(made),
      }))
      await layers.trees.writeLayerImages(stack, { signal, onBytes })
      for (const layer of await mergePlaces(planned, { layers, folder, signal })) {
        throwIfAborted(signal, `write ${pathIn(directory, layer)}`)
        const isPlaced = await placeLayer(layer, { layers, cache, folder, mode, signal })
        if (!isPlaced) onNote(describeOther(layer, directory))
      }
    } catch (error) {
      const shown = showHeld(toLoamError(error, `write ${directory}`), [folder])
      await folder.discard().catch(() => undefined)
      throw shown
    }
    await folder.discard()
    await cache.sync()
  } catch (error) {
    cache.removeNew()
    throw showHeld(toLoamError(error, `write ${directory}`), [cache.directory])
  }
}

function openCache(directory: string, mode: number): NewDirectories {
  try {
    return new NewDirectories(directory, directoryMode(mode))
  } catch (error) {
    throw toLoamError(error, `write ${directory}`)
  }
}

/** A directory that is created if it does not exist, and directories in it. */
class NewDirectories implements Disposable {
  readonly directory: HeldDirectory
  readonly #mode: number
  readonly #held = new DisposableStack()
  readonly #created: { readonly parent: HeldDirectory; readonly name: string }[] = []

  constructor(path: string, mode: number) {
    this.#mode = mode
    const followed = HeldDirectory.openFollowed(path)
    if (followed !== undefined) {
      this.directory = this.#held.use(followed)
      return
    }
    const parent = this.#held.use(HeldDirectory.open(dirname(path)))
    this.directory = this.enter(parent, basename(path))
  }

  /** Opens a directory in another one. */
  enter(parent: HeldDirectory, name: string): HeldDirectory {
    const [directory, isNew] = parent.enterOrMake(name, 0o700)
    this.#held.use(directory)
    if (!isNew) return directory
    this.#created.push({ parent, name })
    chmodSync(directory.path, this.#mode)
    return directory
  }

  /** Waits until the names of new directories are on the disk. */
  async sync(): Promise<void> {
    for (const { path } of new Set(this.#created.map(({ parent }) => parent))) await syncDirectory(path)
  }

  /** Removes new directories that are empty: others may use them by now. */
  removeNew(): void {
    for (const { parent, name } of this.#created.toReversed()) {
      try {
        rmdirSync(parent.at(name))
      } catch {
        // It is in use.
      }
    }
  }

  [Symbol.dispose](): void {
    this.#held.dispose()
  }
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
  { directory, layers }: { directory: string; layers: LayerStore },
): CachedLayer[] {
  return diffIds.map((diffId, index) => {
    const { algorithm, hex } = splitDigest(diffId)
    const place = { folders: [algorithm, hex.slice(0, 2)], name: `${hex}.erofs` }
    const { hasLowerLinks, hasWhiteouts, hasImplicitDirectories } = layers.get(diffId).summary
    const dependsOnStack = hasLowerLinks || hasWhiteouts || hasImplicitDirectories
    // Only the root of another layer depends on its place, and overlayfs shows that of the topmost layer.
    const comesLater = diffIds.lastIndexOf(diffId) > index
    // A file that exists may have been written for other lower layers: only its bytes say that.
    const isNeeded = dependsOnStack || (!comesLater && !existsSync(pathIn(directory, { place })))
    return { diffId, place, dependsOnStack, made: isNeeded ? String(index) : undefined }
  })
}

/**
 * Returns the layers that were written, each once: an image may have a layer several times, and a cache has one file of it. @throws LAYER_UNSUPPORTED if
 * its places need different files
 */
async function mergePlaces(
  planned: readonly CachedLayer[],
  {
    layers,
    folder,
    signal,
  }: Readonly<{ layers: LayerStore; folder: PrivateFolder; signal: AbortSignal | undefined }>,
): Promise<readonly WrittenLayer[]> {
  const written = planned.flatMap(({ made, ...layer }) => (made === undefined ? [] : [{ ...layer, made }]))
  const merged: WrittenLayer[] = []
  for (const [first, ...others] of Map.groupBy(written, ({ diffId }) => diffId).values()) {
    if (first === undefined) continue
    merged.push(first)
    if (others.length === 0) continue
    const digest = await layers.trees.hashFile(folder.at(first.made), signal)
    for (const { made, diffId } of others) {
      if (await layers.trees.hasDigest(folder.at(made), digest, signal)) continue
      throw new LoamError(
        'LAYER_UNSUPPORTED',
        `export as containerd-cache: layer ${diffId} comes several times in this image, and changes other files each time, ` +
          'which one file cannot say',
        { hint: 'Export the image as erofs or ext4.' },
      )
    }
  }
  return merged
}

/** Gives a layer its name in the cache, unless it is there. Returns false if a file with other content is there. */
async function placeLayer(
  { place, made }: WrittenLayer,
  {
    layers,
    cache,
    folder,
    mode,
    signal,
  }: Readonly<{
    layers: LayerStore
    cache: NewDirectories
    folder: PrivateFolder
    mode: number
    signal: AbortSignal | undefined
  }>,
): Promise<boolean> {
  const parent = place.folders.reduce((above, name) => cache.enter(above, name), cache.directory)
  folder.setModes(made, mode)
  try {
    // Unlike a rename, a link never replaces the file of another export.
    linkSync(folder.at(made), parent.at(place.name))
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    using existing = parent.find(place.name)
    if (existing?.stats.isFile() !== true) return false
    return await layers.trees.hasDigest(
      existing.path,
      await layers.trees.hashFile(folder.at(made), signal),
      signal,
    )
  }
  await syncDirectory(parent.path)
  return true
}

/** For messages, and for whether it may be there. */
function pathIn(directory: string, { place }: Pick<CachedLayer, 'place'>): string {
  return join(directory, ...place.folders, place.name)
}

function describeOther(layer: CachedLayer, directory: string): string {
  return (
    `layer ${layer.diffId}: ${pathIn(directory, layer)} differs from this layer on the layers of this image, and was left as it is. ` +
    'Another image has this layer on other layers. Export this image to a separate directory.'
  )
}
