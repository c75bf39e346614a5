import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Backend, StackMounts } from '../backends/index.ts'
import { type BlobStore, lockPath, type StorePaths } from '../content/index.ts'
import { type Failure, isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { type ChainId, chainIds, type Digest, digestOf } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { FileLock } from '../linux/index.ts'
import type { AdditionalImage, ImageRecord, MetadataStore } from '../metadata/index.ts'
import { type AdditionalImageFiles, AdditionalStoreFiles } from './additional-store-files.ts'

export interface AdditionalStoresOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  readonly blobs: BlobStore
  readonly stacks: StackMounts
  /** Says whether stacks can be mounted on this machine. */
  readonly erofs: Backend
}

/** An image that is added to an additional store. */
export interface AdditionalImageRequest {
  /** Absolute; created if it does not exist. */
  readonly directory: string
  /** Undefined: the image is known by its digest. */
  readonly name: string | undefined
  readonly image: ImageRecord
  readonly signal?: AbortSignal | undefined
}

/** The images that were removed from an additional image store. */
export interface UnexportedImages {
  /** The directory of the store. */
  readonly directory: string
  /** The names that the images had there. */
  readonly names: readonly string[]
}

/**
 * Additional image stores: directories that podman, buildah and CRI-O read, whose layers are mounts of this store. A row for each image keeps it and
 * its mounts; it is written before the files, and removed after them. The files follow from the rows, so that writing them again repairs them.
 */
export class AdditionalStores {
  readonly #options: AdditionalStoresOptions

  constructor(options: AdditionalStoresOptions) {
    this.#options = options
  }

  /**
   * Adds an image to a directory; a name that another image had there moves to it. The caller holds leases on the image's layers. If it fails, the
   * image is in the directory or not, and stays in this store until it is removed from there.
   * @throws BACKEND_UNSUPPORTED, OUTPUT_EXISTS, STORE_UNSAFE, USAGE
   */
  async add({ directory, name, image, signal }: AdditionalImageRequest): Promise<void> {
    const { additionalImages } = this.#options.metadata
    this.#requireMountable(image)
    const path = realPath(directory)
    using _lock = await this.#lock(path, signal)
    using files = AdditionalStoreFiles.open(path)
    const others = this.#imagesIn(path)
    if (others.length === 0 && !files.isEmpty) throw foreignImages(path)
    const own = { directory: path, name: name ?? image.digest, imageDigest: image.digest }
    const ownStacks = this.#stacksOf(image.digest)
    // An image that loses its name may be removed from this store at any time.
    const otherStacks = others.flatMap(({ imageDigest }) => this.#stacksOf(imageDigest))
    await additionalImages.put(own, ownStacks)
    try {
      await this.#write(path, files, signal)
    } catch (error) {
      // Nothing that fails here must hide why it failed; `recover` finds what it leaves.
      await this.#undo(own, others, files).catch(() => undefined)
      this.#release(ownStacks)
      throw error
    }
    this.#release(otherStacks)
  }

  async #undo(
    own: AdditionalImage,
    others: readonly AdditionalImage[],
    files: AdditionalStoreFiles,
  ): Promise<void> {
    const { additionalImages } = this.#options.metadata
    const previous = others.find(({ name }) => name === own.name)
    if (previous === undefined) await additionalImages.remove([own])
    else await additionalImages.put(previous, this.#stacksOf(previous.imageDigest))
    if (others.length === 0) files.remove()
    else files.write(this.#filesOf(others))
  }

  /**
   * Removes an image from a directory by one of its names there or by its digest; the last one leaves an empty store, which podman needs while its
   * configuration names it. Without a name: all images, and the files of the store. Containers that other programs have created from an image cannot
   * start again. @throws IMAGE_NOT_FOUND; STORE_UNSAFE, OUTPUT_EXISTS and system errors: then the image is still recorded
   */
  async remove(directory: string, name?: string, signal?: AbortSignal): Promise<UnexportedImages> {
    const path = existsSync(directory) ? realpathSync(directory) : directory
    using _lock = await this.#lock(path, signal)
    const all = this.#imagesIn(path)
    const removed = all.filter(
      (each) => name === undefined || each.name === name || each.imageDigest === name,
    )
    if (removed.length === 0) {
      throw new LoamError(
        'IMAGE_NOT_FOUND',
        `unexport ${name ?? 'images'} from ${path}: there is none in it`,
        {
          hint: 'Only directories that `loam export --format containers-storage` has written are known.',
        },
      )
    }
    // Once nothing holds them, the images may be removed from this store at any time.
    const stackIds = removed.flatMap(({ imageDigest }) => this.#stacksOf(imageDigest))
    // A directory that is gone, or on a disk that is, has nothing to remove.
    if (existsSync(path)) {
      using files = AdditionalStoreFiles.open(path)
      if (name === undefined) files.remove()
      else files.write(this.#filesOf(all.filter((each) => !removed.includes(each))))
    }
    await this.#options.metadata.additionalImages.remove(removed)
    this.#release(stackIds)
    return { directory: path, names: removed.map((each) => each.name) }
  }

  /** Mounts the layers of all directories and writes their files again, after a reboot or a crash. Each directory succeeds or fails separately. */
  async restore(
    signal?: AbortSignal,
  ): Promise<{ readonly restored: readonly string[]; readonly failed: readonly Failure[] }> {
    const restored: string[] = []
    const failed: Failure[] = []
    for (const directory of new Set(
      this.#options.metadata.additionalImages.list().map((each) => each.directory),
    )) {
      try {
        if (!existsSync(directory)) {
          throw new LoamError(
            'OUTPUT_EXISTS',
            `it is gone; \`loam unexport ${directory}\` releases its images`,
          )
        }
        using _lock = await this.#lock(directory, signal)
        using files = AdditionalStoreFiles.open(directory, false)
        restored.push(...(await this.#write(directory, files, signal)))
      } catch (error) {
        failed.push({ what: directory, reason: toLoamError(error, `restore ${directory}`, signal).message })
      }
    }
    return { restored, failed }
  }

  /** Mounts what a directory needs, and writes its files. Returns the mounts that were not there. */
  async #write(
    directory: string,
    files: AdditionalStoreFiles,
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const { stacks, layers } = this.#options
    const images = this.#imagesIn(directory)
    const restored: string[] = []
    for (const digest of new Set(images.map(({ imageDigest }) => imageDigest))) {
      const diffIds = this.#imageOf(digest).layers.map(({ diffId }) => diffId)
      using _leases = await layers.leaseStored(diffIds, signal)
      for (const [index, chainId] of chainIds(diffIds).entries())
        restored.push(
          ...(await stacks.restore({ chainId, diffIds: diffIds.slice(0, index + 1), mappings: [] }, signal)),
        )
    }
    files.write(this.#filesOf(images))
    return restored
  }

  /** Images with the same config are one image there, which has the names of all. */
  #filesOf(images: readonly AdditionalImage[]): AdditionalImageFiles[] {
    const groups = Map.groupBy(images, ({ imageDigest }) => this.#imageOf(imageDigest).configDigest)
    return [...groups.values()].flatMap((group) => {
      const [{ imageDigest } = { imageDigest: undefined }] = group
      const names = group.filter((each) => each.name !== each.imageDigest).map(({ name }) => name)
      return imageDigest === undefined ? [] : [this.#describe(imageDigest, names)]
    })
  }

  #describe(digest: Digest, names: readonly string[]): AdditionalImageFiles {
    const { blobs, layers, stacks } = this.#options
    const image = this.#imageOf(digest)
    const manifest = blobs.get(digest, 'manifest')
    const stackIds = this.#stacksOf(digest)
    return {
      names,
      digest,
      manifest,
      configDigest: image.configDigest,
      config: blobs.get(image.configDigest, 'config'),
      createdAtMs: image.pulledAtMs,
      layers: image.layers.map(({ diffId, blobDigest, blobBytes }, index) => ({
        diffId,
        tarBytes: layers.get(diffId).tarBytes,
        blobDigest,
        blobBytes,
        mountPath: stacks.pathOf(stackIds[index] as ChainId),
      })),
    }
  }

  #requireMountable({ digest, layers, chainId }: ImageRecord): void {
    const { erofs } = this.#options
    const stack = { chainId, layers: layers.map(({ diffId }) => this.#options.layers.get(diffId)) }
    const probe = erofs.probe()
    const verdict = probe.isSupported ? erofs.accepts(stack) : probe
    if (verdict.isSupported) return
    throw new LoamError('BACKEND_UNSUPPORTED', `export ${digest} as containers-storage: ${verdict.reason}`, {
      hint: 'Its layers are mounts of the erofs backend; `loam doctor` says whether it works. `--format oci` writes a copy.',
    })
  }

  #imageOf(digest: Digest): ImageRecord {
    const image = this.#options.metadata.images.find(digest)
    if (image !== undefined) return image
    throw new LoamError('IMAGE_NOT_FOUND', `export ${digest}: the image is not in the store`)
  }

  #imagesIn(directory: string): AdditionalImage[] {
    return this.#options.metadata.additionalImages.list().filter((each) => each.directory === directory)
  }

  /** Unmounts stacks that were mounted for images, unless it has other users. */
  #release(stackIds: readonly ChainId[]): void {
    for (const chainId of new Set(stackIds)) this.#options.stacks.release(chainId)
  }

  /** Returns the stacks of each layer of an image with all layers below it, base first. */
  #stacksOf(digest: Digest): ChainId[] {
    return chainIds(this.#imageOf(digest).layers.map(({ diffId }) => diffId))
  }

  async #lock(directory: string, signal: AbortSignal | undefined): Promise<FileLock> {
    const name = digestOf(Buffer.from(directory))
    return FileLock.acquire(lockPath(this.#options.paths, 'additional', name), { signal })
  }
}

/** Returns the path of a directory, which may not exist yet, without symlinks. @throws USAGE for a name that is not one path of an overlay's options */
function realPath(directory: string): string {
  const path = withoutLinks(directory)
  if (!/[:,\\]/.test(path)) return path
  throw new LoamError(
    'USAGE',
    `export to ${path}: a colon, a comma or a backslash cannot be in the name of an image store`,
  )
}

function withoutLinks(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    return join(withoutLinks(dirname(path)), basename(path))
  }
}

function foreignImages(directory: string): LoamError {
  return new LoamError('OUTPUT_EXISTS', `export to ${directory}: it has images of another store of Loam`, {
    hint: 'Name a directory that does not exist.',
  })
}
