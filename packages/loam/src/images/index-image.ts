import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { LazyIndexDirectory } from '../content/index.ts'
import { isLoamError } from '../errors/index.ts'
import type { DiffId, Digest, LazyArtifact } from '../image/index.ts'
import { streamStored, unlinkIfThere } from '../linux/index.ts'
import type { LayerIndex, LayerProgress, WantedLayer } from '../layers/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { ImageSource, LazyArtifacts } from '../sources/index.ts'
import { toWanted } from '../stores/index.ts'
import { ArtifactPush, type Indexed } from './push-artifact.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** The lazy index of one layer of an image. */
export interface IndexedLayer {
  /** The layer. */
  readonly diffId: DiffId
  /** Digest of its blob. */
  readonly blobDigest: Digest
  /** Digest of the index. */
  readonly indexDigest: Digest
  /** Size of the index in bytes. */
  readonly indexBytes: number
}

/** The lazy indexes of an image. */
export interface IndexedImage {
  /** Digest of the manifest of the image. */
  readonly digest: Digest
  /** The layers that have an index, base first. Those compressed by xz or bzip2 have none. */
  readonly layers: readonly IndexedLayer[]
  /** Digest of the artifact in the registry; undefined if it was not pushed. */
  readonly artifact: Digest | undefined
}

/** An image to make indexes of. */
export interface IndexSubject {
  /** Its manifest. */
  readonly manifest: LazyArtifact['subject']
  readonly layers: readonly ImageLayerRecord[]
  /** Where blobs come from that the store does not keep. */
  readonly source: ImageSource
}

/** Where the indexes go, besides the directories of layers of the store. */
export interface IndexTargets {
  readonly directories: readonly string[]
  readonly push: LazyArtifacts | undefined
}

export type IndexServices = Pick<ImageServices, 'layers' | 'retained' | 'metadata' | 'configuration'>

/**
 * Makes the lazy indexes of an image that are not here yet, and puts them where they are wanted. Layers are read from the store where it keeps
 * their blobs, and from their source otherwise; several at once, as many as there are threads. @throws the errors of the source, the layers and
 * the registry
 */
export async function indexImage(
  services: IndexServices,
  subject: IndexSubject,
  targets: IndexTargets,
  options: ImageOptions,
): Promise<IndexedImage> {
  using made = new MadeIndexes(services, subject, options)
  const indexes = await made.all()
  for (const { layer, index } of indexes) {
    await services.layers.indexes.keep(layer.diffId, index, options.signal)
    for (const directory of targets.directories) {
      const files = new LazyIndexDirectory(directory)
      if (!(await files.has(layer.blobDigest, index)))
        await files.write(layer.blobDigest, await readFile(index.path))
    }
  }
  const { digest } = subject.manifest
  const artifact =
    targets.push === undefined || indexes.length === 0
      ? undefined
      : await new ArtifactPush(services, targets.push, options.signal).run(subject.manifest, indexes)
  return { digest, layers: indexes.map(describe), artifact }
}

function describe({ layer, index }: Indexed): IndexedLayer {
  const { diffId, blobDigest } = layer
  return { diffId, blobDigest, indexDigest: index.digest, indexBytes: index.sizeBytes }
}

/** Makes the indexes of one image; files that were made for it are removed with it. */
class MadeIndexes implements Disposable {
  readonly #services: IndexServices
  readonly #subject: IndexSubject
  readonly #options: ImageOptions
  readonly #files: string[] = []

  constructor(services: IndexServices, subject: IndexSubject, options: ImageOptions) {
    this.#services = services
    this.#subject = subject
    this.#options = options
  }

  /** Returns the indexes of all layers that have one, base first. */
  async all(): Promise<Indexed[]> {
    const failed = new AbortController()
    const given = this.#options.signal
    const signal = given === undefined ? failed.signal : AbortSignal.any([given, failed.signal])
    // An image may have the same layer twice.
    const layers = [...new Map(this.#subject.layers.map((layer) => [layer.blobDigest, layer])).values()]
    const results = await Promise.allSettled(
      layers.map(async (layer, position) => {
        try {
          const index = await this.#one(layer, position, signal)
          return index === undefined ? [] : [{ layer, index }]
        } catch (error) {
          failed.abort(error)
          throw error
        }
      }),
    )
    if (failed.signal.aborted) throw failed.signal.reason
    return results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []))
  }

  async #one(
    layer: ImageLayerRecord,
    position: number,
    signal: AbortSignal,
  ): Promise<LayerIndex | undefined> {
    const { indexes } = this.#services.layers
    const tell = (progress: LayerProgress) => {
      this.#tell(layer, position, progress)
    }
    const known = await indexes.find(layer.diffId, layer.blobDigest, signal)
    if (known !== undefined) {
      tell({ state: 'exists' })
      return known
    }
    const index = await this.#make(toWanted(layer, this.#subject.source), signal, (receivedBytes) => {
      tell({ state: 'fetching', receivedBytes, totalBytes: layer.blobBytes })
    })
    if (index !== undefined) this.#files.push(index.path)
    tell({ state: 'done', leftOutXattrs: undefined })
    return index
  }

  #tell({ blobDigest: digest }: ImageLayerRecord, index: number, progress: LayerProgress): void {
    this.#options.onEvent?.({ kind: 'layer', digest, index, count: this.#subject.layers.length, progress })
  }

  /** Makes an index from what the store keeps of a blob, if that is sound, or else from its source. */
  async #make(
    wanted: WantedLayer,
    signal: AbortSignal,
    onReceived: (receivedBytes: number) => void,
  ): Promise<LayerIndex | undefined> {
    const { layers, retained } = this.#services
    const { blob, diffId } = wanted
    const tar = layers.find(diffId) === undefined ? undefined : layers.tarPath(diffId)
    using held = retained.hold(blob.digest, blob.sizeBytes)
    const path = blob.digest === diffId && tar !== undefined && existsSync(tar) ? tar : held?.path
    if (path !== undefined) {
      try {
        return await layers.indexes.make(
          { ...wanted, open: () => streamStored(path) },
          { signal, onReceived },
        )
      } catch (error) {
        if (!isLoamError(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'COMPRESSION_INVALID')) throw error
      }
    }
    return await layers.indexes.make(wanted, { signal, onReceived })
  }

  [Symbol.dispose](): void {
    for (const path of this.#files) unlinkIfThere(path)
  }
}
