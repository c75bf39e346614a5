import { resolve } from 'node:path'
import { snapshotKey } from '../metadata/index.ts'
import { cancelable } from '../errors/index.ts'
import {
  type CommitOptions,
  createRemoteLayers,
  type DiffOptions,
  fetchContent,
  type FetchContentOptions,
  type FetchedContent,
  type ImageOptions,
  type Images,
  type ImageServices,
  type PulledImage,
  type RemoteLayersOptions,
  typeOf,
  writeDiff,
} from '../images/index.ts'
import { chainIds, type Digest } from '../image/index.ts'
import { requireOwnRights } from '../linux/index.ts'
import { observeFetch } from '../stores/index.ts'
import {
  importSnapshots,
  type RemoteLayers,
  requireAdopted,
  type SnapshotImportReport,
  type Snapshotter,
} from '../snapshotter/index.ts'

/** Options of opening the snapshots of a store. */
export interface OpenSnapshotterOptions extends RemoteLayersOptions {
  /** Let Loam fetch the layers that a client names by labels; such layers are never unpacked. Undefined: false. */
  readonly isRemote?: boolean | undefined
}

/** Options of importing snapshots of another snapshotter. */
export interface SnapshotImportOptions {
  /** Cancels the import. Snapshots that were copied until then stay. */
  readonly signal?: AbortSignal | undefined
}

/** The result of an adoption. */
export interface SnapshotAdoption {
  /** Digest of the image. */
  readonly digest: Digest
  /** Number of layers of the image. */
  readonly layers: number
  /** Names of the snapshots that are layers now. */
  readonly snapshots: readonly string[]
}

/** The services that snapshots use. */
export interface SnapshotServices
  extends Pick<
    ImageServices,
    | 'activity'
    | 'paths'
    | 'cwd'
    | 'metadata'
    | 'layers'
    | 'stores'
    | 'sources'
    | 'sessions'
    | 'prefetch'
    | 'reserve'
    | 'hasPolicy'
    | 'ingest'
    | 'provisioner'
    | 'configuration'
    | 'blobs'
    | 'retained'
  > {
  readonly makeSnapshotter: (remote?: RemoteLayers) => Snapshotter
}

/** The snapshots of one store, of containerd or another client. All methods may be called concurrently. */
export class Snapshots {
  readonly #services: SnapshotServices
  readonly #images: Pick<Images, 'commitSnapshot'>

  /** @internal */
  constructor(services: SnapshotServices, images: Pick<Images, 'commitSnapshot'>) {
    this.#services = services
    this.#images = images
  }

  /**
   * Opens the snapshots of this store, for containerd. With `isRemote`, Loam fetches layers that a client names by labels and never unpacks them, if
   * this machine can mount them. Closed with the store.
   */
  open({ isRemote = false, ...options }: OpenSnapshotterOptions = {}): Snapshotter {
    const { makeSnapshotter, provisioner } = this.#services
    if (!isRemote) return makeSnapshotter()
    provisioner.tryBackends()
    const canShow = () => provisioner.probe().some(({ name, probe }) => name === 'erofs' && probe.isSupported)
    return makeSnapshotter(createRemoteLayers(this.#services, { ...options, canShow }))
  }

  /** Returns whether a snapshot with this key or name exists. */
  async has(key: string): Promise<boolean> {
    return this.#services.metadata.snapshots.find(snapshotKey(key)) !== undefined
  }

  /**
   * Writes the changes of a snapshot to its parent as a layer: a tar with whiteouts, to a new file, or to standard output for `-`.
   * A failure leaves no file. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS, LAYER_UNSUPPORTED
   */
  async diff(key: string, output: string, options: DiffOptions = {}): Promise<void> {
    const { activity } = this.#services
    await observeFetch({ activity, operation: 'snapshots.diff', attributes: { key } }, options, async (own) =>
      cancelable(own.signal, `diff ${key}`, async () => writeDiff(this.#services, key, output, own)),
    )
  }

  /**
   * Creates an image from a snapshot with all its layers, under a name in the store. Nothing is left on failure.
   * @throws SNAPSHOT_NOT_FOUND, LAYER_UNSUPPORTED, NAME_TAKEN, and the errors of `pull` for the base
   */
  async commit(key: string, name: string, options: CommitOptions = {}): Promise<PulledImage> {
    return this.#images.commitSnapshot(key, name, options)
  }

  /**
   * Turns the snapshots that clients have unpacked the layers of an image to into layers of the store. The image is pulled if it is not in the store.
   * Containers keep running on what they have mounted; the directories are removed when nothing uses them.
   * @throws SNAPSHOT_NOT_FOUND if no snapshot of it is unpacked, BACKEND_UNSUPPORTED if this machine or the image needs unpacked layers, and the errors
   * of `pull`
   */
  async adopt(image: string, options: ImageOptions = {}): Promise<SnapshotAdoption> {
    const { activity } = this.#services
    return observeFetch(
      { activity, operation: 'snapshots.adopt', attributes: { image } },
      options,
      async (own) => this.#adopt(image, own),
    )
  }

  async #adopt(image: string, options: ImageOptions): Promise<SnapshotAdoption> {
    const { layers, provisioner, sources, stores } = this.#services
    const { name } = sources.find(image, { ...options, mayBeGone: true })
    const { name: erofs } = provisioner.chooseBackend('erofs')
    return sources.with(name, options, async (source) => {
      using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote })
      const diffIds = stored.layers.map(({ diffId }) => diffId)
      const stack = { chainId: stored.chainId, layers: stored.layers }
      provisioner.requireAccepted(erofs, stack)
      // What clients depend on is on the disk.
      await layers.sync(diffIds)
      const snapshotter = this.open()
      const snapshots = await snapshotter.adoptLayers(
        chainIds(diffIds).flatMap((chainId, index) => {
          const layer = stored.layers[index]
          if (layer === undefined) return []
          const usage = { sizeBytes: layer.tarBytes, inodes: layer.summary.entries }
          return [{ diffId: layer.diffId, chainId, usage }]
        }),
      )
      requireAdopted(snapshots, image)
      await snapshotter.cleanup()
      return { digest: stored.record.digest, layers: diffIds.length, snapshots }
    })
  }

  /**
   * Brings the missing blobs of an image of containerd into its content store (`containerd_socket`), so that it can export and push the image: those that the
   * store has or that were retained, and otherwise from the image's source. All are verified. What was written stays on failure.
   * @throws IMAGE_NOT_FOUND if containerd does not have the image, LAYER_NOT_FOUND, DAEMON_UNAVAILABLE, NO_SPACE, and the errors of registries
   */
  async fetchContent(image: string, options: FetchContentOptions = {}): Promise<FetchedContent[]> {
    const { activity, configuration } = this.#services
    return observeFetch(
      { activity, operation: 'snapshots.fetchContent', attributes: { image } },
      options,
      async (own) =>
        cancelable(own.signal, `fetch the content of ${image}`, async () => {
          const { ContainerdContent } = await import('../nodes/index.ts')
          using containerd = new ContainerdContent(configuration.values.containerd_socket)
          return await fetchContent(this.#services, containerd, image, own)
        }),
    )
  }

  /**
   * Copies the snapshots of containerd's overlay snapshotter of early 2017 into this store, parents first. Snapshots that cannot be imported are
   * reported and do not stop the others. @throws SOURCE_NOT_FOUND, CANCELED
   */
  async import(directory: string, { signal }: SnapshotImportOptions = {}): Promise<SnapshotImportReport> {
    return this.#services.activity.observe('snapshots.import', { directory }, async () =>
      cancelable(signal, `import ${directory}`, async () => {
        const path = resolve(this.#services.cwd, directory)
        requireOwnRights(path)
        return importSnapshots(this.open(), this.#services, path, signal)
      }),
    )
  }
}
