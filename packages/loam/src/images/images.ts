import type { Attributes } from '../activity/index.ts'
import { cancelable, LoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { type ImageAddress, type ImageRequest, renamedSource } from '../sources/index.ts'
import { addressLabel, imageLabel, observeFetch, type PruneResult } from '../stores/index.ts'
import { startReading } from '../streams/index.ts'
import { checkAllowed } from './check-allowed.ts'
import { commitImage, type CommitSubject } from './commit-image.ts'
import { type CopiedImage, copyImage, type CopyImageOptions } from './copy-image.ts'
import { type ContentsOptions, type ImageContents, readImageContents } from './contents.ts'
import { collectGarbage, pruneImages, type PruneImagesOptions } from './garbage-collection.ts'
import { type ImageHistory, readHistory } from './history.ts'
import { describePulled, findTarget, inspectImage, listImages, removeImage } from './image-list.ts'
import { describeDisk, type ImageDisk } from './image-disk.ts'
import { indexByName, type IndexImageOptions, indexPushed } from './index-by-name.ts'
import type { IndexedImage } from './index-image.ts'
import { type ImageLayers, type LayersOptions, readLayers } from './layer-details.ts'
import { type LoadedImage, loadImages } from './load-images.ts'
import { importMesos, type MesosImportOptions, type MesosImportReport } from './mesos-import.ts'
import {
  notePushed,
  pushImage,
  type PushedImage,
  type PushEvent,
  type PushImageOptions,
} from './push-image.ts'
import {
  inspectRemoteImage,
  listRepositoryTags,
  type RemoteImage,
  type RemoteImageOptions,
  type RepositoryTags,
} from './remote-image.ts'
import {
  type CommitOptions,
  type ImageOptions,
  lazyModeOf,
  type NamingOptions,
  type PullImageOptions,
} from './requests.ts'
import type {
  CollectionReport,
  ImageInspection,
  ListedImage,
  PruneReport,
  PulledImage,
  UntaggedName,
} from './results.ts'
import { type SavedImage, saveImages, type SaveImagesOptions } from './save-images.ts'
import type { ImageServices } from './services.ts'
import { formatAnyName, typeOf } from './source-opener.ts'
import { tagImage, untagImage } from './tag-image.ts'
import { type CompareOptions, diffTrees, type TreeDiff } from './tree-diff.ts'

/** Operations on the images of one store. All methods may be called concurrently, also by several processes on the same store. */
export class Images {
  readonly #services: ImageServices

  /** @internal */
  constructor(services: ImageServices) {
    this.#services = services
  }

  /** Pulls an image into the store, whether or not the store already has it. @throws the errors of references, sources, registries and layers */
  async pull(image: string | ImageRequest, options: PullImageOptions = {}): Promise<PulledImage> {
    const { activity } = this.#services
    const observed = { activity, operation: 'images.pull', attributes: { image: imageLabel(image) } } as const
    return observeFetch(observed, options, async (own) => this.#pull(image, own))
  }

  async #pull(image: string | ImageRequest, options: PullImageOptions): Promise<PulledImage> {
    const { sources, stores, configuration } = this.#services
    const { name, cached, credentials = options.credentials } = sources.find(image, options)
    // A digest always refers to the same content, so that no registry needs to be asked.
    const isPinned =
      (name.transport === 'docker' && name.reference.digest !== undefined) ||
      (name.transport === 'appc' && name.appc.id !== undefined)
    const lazy = lazyModeOf({ ...options, credentials }, configuration.values.lazy_pull)
    return sources.with(name, { ...options, credentials }, async (source) => {
      using stored = await stores[typeOf(name)].get(source, {
        ...options,
        ...lazy,
        cached: cached ?? isPinned,
        sync: true,
      })
      return describePulled(source, stored)
    })
  }

  /**
   * Imports the image of a file, a folder, an address or a pipe (`-` is standard input), or of a stream of bytes, into the store under a name. Detects
   * the format; if there are several images, imports the one with that name. @throws as `pull`, NAME_TAKEN, DIGEST_MISMATCH for a name with another digest
   */
  async put(
    address: ImageAddress,
    name: string,
    options: ImageOptions & NamingOptions = {},
  ): Promise<PulledImage> {
    const { activity } = this.#services
    const attributes = { address: addressLabel(address), name: imageLabel(name) }
    using stream = startReading(address)
    return await observeFetch({ activity, operation: 'images.put', attributes }, options, async (own) =>
      this.#put(stream ?? address, name, own),
    )
  }

  async #put(
    address: ImageAddress,
    name: string,
    options: ImageOptions & NamingOptions,
  ): Promise<PulledImage> {
    const { paths, sources, stores } = this.#services
    return sources.withAny(address, name, options, async (source, type) => {
      const imageType = options.imageType ?? (type === 'appc' ? 'appc' : 'docker')
      const known = sources.parse(name, { ...options, imageType }).name
      const isCopy = source.name.includes(paths.ingest)
      const renamed = renamedSource(source, known, { mayReplace: options.replace, isCopy })
      using stored = await stores[type].get(renamed, { ...options, cached: false, sync: true })
      return describePulled(renamed, stored)
    })
  }

  /** Imports the images of a Mesos agent's stores. Images that cannot be imported are reported and do not stop the others. */
  async importMesos(options: MesosImportOptions): Promise<MesosImportReport> {
    const { activity } = this.#services
    const observed = {
      activity,
      operation: 'images.importMesos',
      attributes: { workDir: options.workDir },
    } as const
    return observeFetch(observed, options, async (own) =>
      cancelable(own.signal, 'import', async () => importMesos(this.#services, own)),
    )
  }

  /** Lists the images in the store. */
  async list(): Promise<ListedImage[]> {
    return listImages(this.#services)
  }

  /**
   * Removes a name of an image, and the image with its last name; `prune` then removes its layers. Returns the digest if the image was removed.
   * @throws IMAGE_NOT_FOUND, IMAGE_IN_USE
   */
  async remove(text: string, options: ImageOptions = {}): Promise<Digest | undefined> {
    const { activity, reserve } = this.#services
    return activity.observe('images.remove', { image: imageLabel(text) }, async (span) => {
      const removed = await reserve.freeLater(async () => removeImage(this.#services, text, options))
      span.set({ removed })
      return removed
    })
  }

  /**
   * Gives an image of the store, by name or digest, one more name of a registry or of Appc. Nothing is fetched but signatures that a policy requires.
   * @throws IMAGE_NOT_FOUND, NAME_TAKEN, DIGEST_MISMATCH for a name with another digest, POLICY_REFUSED, USAGE
   */
  async tag(image: string, name: string, options: ImageOptions & NamingOptions = {}): Promise<PulledImage> {
    const { activity } = this.#services
    const attributes = { image: imageLabel(image), name: imageLabel(name) }
    return observeFetch({ activity, operation: 'images.tag', attributes }, options, async (own) =>
      tagImage(this.#services, image, name, own),
    )
  }

  /** Removes a name. The image stays, also without any name, until `remove` or `prune` removes it. @throws IMAGE_NOT_FOUND */
  async untag(name: string, options: ImageOptions = {}): Promise<UntaggedName> {
    const { activity, reserve } = this.#services
    return activity.observe('images.untag', { name: imageLabel(name) }, async () =>
      reserve.freeLater(async () => untagImage(this.#services, name, options)),
    )
  }

  /** Removes images without a name that no container uses, and layers and documents that no image needs; with `all` and `local` also other images. */
  async prune(options: PruneImagesOptions = {}): Promise<PruneReport> {
    const { activity, reserve } = this.#services
    return activity.observe('images.prune', { dryRun: options.dryRun ?? false }, async (span) => {
      const report = await reserve.freeLater(async () => pruneImages(this.#services, options))
      span.set(countsOf(report))
      return report
    })
  }

  /** Evicts the least recently used images while there is less free space than `image_gc_config` requires. */
  async collect(options: { readonly dryRun?: boolean } = {}): Promise<CollectionReport> {
    const { activity, reserve } = this.#services
    return activity.observe('images.collect', { dryRun: options.dryRun ?? false }, async (span) => {
      const report = await reserve.freeLater(async () => collectGarbage(this.#services, options))
      span.set({ ...countsOf(report), freedBytes: report.freedBytes })
      return report
    })
  }

  /**
   * Creates an image from a container with all its layers, under a name in the store. The image may contain changes that the container makes
   * meanwhile. Nothing is left on failure. @throws CONTAINER_NOT_FOUND, ROOTFS_UNMOUNTED, USAGE for a container whose backend does not keep changes
   * separately,
   * LAYER_UNSUPPORTED,
   * NAME_TAKEN, IMAGE_NOT_FOUND and the errors of `pull` for the base
   */
  async commit(id: string, name: string, options: CommitOptions = {}): Promise<PulledImage> {
    return this.#commit({ kind: 'container', key: id }, name, options)
  }

  /** @internal The same for a snapshot, by its key or name. @throws SNAPSHOT_NOT_FOUND, and as `commit` */
  async commitSnapshot(key: string, name: string, options: CommitOptions = {}): Promise<PulledImage> {
    return this.#commit({ kind: 'snapshot', key }, name, options)
  }

  async #commit(subject: CommitSubject, name: string, options: CommitOptions): Promise<PulledImage> {
    const { activity } = this.#services
    const operation = subject.kind === 'container' ? 'images.commit' : 'snapshots.commitImage'
    const attributes = { key: subject.key, name: imageLabel(name) }
    return observeFetch({ activity, operation, attributes }, options, async (own) =>
      this.#commitSubject(subject, name, own),
    )
  }

  async #commitSubject(subject: CommitSubject, name: string, options: CommitOptions): Promise<PulledImage> {
    const base = options.base === undefined ? undefined : await this.#configOf(options.base, options)
    using stored = await cancelable(options.signal, `commit ${subject.key}`, async () =>
      commitImage(this.#services, subject, name, { ...options, config: base, changed: options }),
    )
    return {
      name: this.#services.sources.nameInStore(name),
      digest: stored.targetDigest,
      image: stored.record,
    }
  }

  async #configOf(image: string, options: ImageOptions): Promise<Buffer> {
    const { sources, stores, blobs } = this.#services
    const { name } = sources.find(image, { ...options, mayBeGone: true })
    const { configDigest } = await sources.with(name, options, async (source) =>
      stores[typeOf(name)].describe(source, { ...options, cached: true }),
    )
    return blobs.get(configDigest, 'config')
  }

  /** Uploads an image of the store to a registry, under its own name or another. @throws IMAGE_NOT_FOUND, REGISTRY_*, POLICY_REFUSED, DIGEST_MISMATCH for a name with another digest */
  async push(image: string, options: PushImageOptions = {}): Promise<PushedImage> {
    const attributes = { image: imageLabel(image), to: imageLabel(options.to ?? image) }
    return this.#services.activity.observe('images.push', attributes, async (span) => {
      const onPush = (event: PushEvent) => {
        span.progress(event)
        options.onPush?.(event)
      }
      const pushed = await this.#push(image, { ...options, onPush })
      span.set({ digest: pushed.digest })
      return pushed
    })
  }

  async #push(image: string, options: PushImageOptions): Promise<PushedImage> {
    const { sources } = this.#services
    const subject = findTarget(this.#services, image, { ...options, attempted: 'push' })
    await checkAllowed(this.#services, image, { digest: subject.record.digest, options })
    const { name } = sources.find(options.to ?? image, options)
    if (name.transport !== 'docker') {
      throw new LoamError('USAGE', `push ${image}: ${options.to ?? image} is not a registry reference`)
    }
    return sources.withClient(name.reference.registry, options, async (client) => {
      const to = { reference: name.reference, client }
      const pushed = await pushImage(this.#services, subject, to, options)
      await notePushed(this.#services, subject, pushed, formatAnyName(name))
      if (options.index !== true) return pushed
      const { record } = subject
      return { ...pushed, lazyIndexes: await indexPushed(this.#services, { record, pushed }, to, options) }
    })
  }

  /**
   * Makes the lazy indexes of an image's layers, with which others can pull it lazily: in the store if it has the layers, in the directories that are named,
   * and in its registry. The image need not be in the store. @throws as `pull`, USAGE if the indexes would be kept nowhere
   */
  async index(image: string, options: IndexImageOptions = {}): Promise<IndexedImage> {
    const { activity } = this.#services
    const attributes = { image: imageLabel(image), push: options.push ?? false }
    return observeFetch({ activity, operation: 'images.index', attributes }, options, async (own) =>
      indexByName(this.#services, image, own),
    )
  }

  /** Finds an image by name or digest. @throws IMAGE_NOT_FOUND */
  async inspect(text: string, options: ImageOptions = {}): Promise<ImageInspection> {
    return inspectImage(this.#services, text, options)
  }

  /**
   * Copies an image between registries, layouts and archives, without the store: with all its platforms and unchanged to the byte, unless one platform is
   * requested or the destination can hold only one. No signature policy is asked. @throws the errors of `pull` and `push`, OUTPUT_EXISTS, USAGE
   */
  async copy(from: string, to: string, options: CopyImageOptions = {}): Promise<CopiedImage> {
    const attributes = { from: imageLabel(from), to: imageLabel(to) }
    return this.#services.activity.observe('images.copy', attributes, async (span) => {
      const onCopy = (event: PushEvent) => {
        span.progress(event)
        options.onCopy?.(event)
      }
      const copied = await copyImage(this.#services, from, to, { ...options, onCopy })
      span.set({ digest: copied.digest })
      return copied
    })
  }

  /**
   * Writes images of the store to one file, or to standard output (`-`). Images that the store does not have are pulled first. Layers keep their blobs where
   * they were retained (`blob_retention`), and are plain tars otherwise; IDs stay. @throws the errors of `pull`, OUTPUT_EXISTS, OUTPUT_CLOSED, USAGE
   */
  async save(
    images: readonly string[],
    output: string,
    options: SaveImagesOptions = {},
  ): Promise<SavedImage[]> {
    const attributes = { images: images.map(imageLabel).join(' '), output }
    return this.#services.activity.observe('images.save', attributes, async () =>
      saveImages(this.#services, images, output, options),
    )
  }

  /**
   * Imports all images of a file, a folder, an address or a pipe (`-` is standard input), or of a stream of bytes, under the names that they have in it.
   * @throws as `put`
   */
  async load(address: ImageAddress, options: ImageOptions & NamingOptions = {}): Promise<LoadedImage[]> {
    const { activity } = this.#services
    const attributes = { address: addressLabel(address) }
    using stream = startReading(address)
    return await observeFetch({ activity, operation: 'images.load', attributes }, options, async (own) =>
      loadImages(this.#services, stream ?? address, own),
    )
  }

  /** Lists the tags of a repository, as `localhost:5000/team/app`. @throws REGISTRY_*, IMAGE_NOT_FOUND for a repository that does not exist, USAGE */
  async tags(repository: string, options: ImageOptions = {}): Promise<RepositoryTags> {
    return listRepositoryTags(this.#services, repository, options)
  }

  /**
   * Looks at an image in its registry or its file without pulling it: its digest, platforms, manifest, config, and what is kept beside it. No signature
   * policy is asked. @throws the errors of references, sources and registries, IMAGE_NOT_FOUND for a requested platform that it does not have
   */
  async inspectRemote(image: string, options: RemoteImageOptions = {}): Promise<RemoteImage> {
    return inspectRemoteImage(this.#services, image, options)
  }

  /**
   * Lists a directory of an image of the store, or of one of its layers, with the size of everything below each name and what later layers hide.
   * Nothing is unpacked and nothing is fetched. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND, PATH_NOT_FOUND, USAGE
   */
  async contents(text: string, options: ContentsOptions = {}): Promise<ImageContents> {
    return readImageContents(this.#services, text, options)
  }

  /**
   * Describes an image, pulled if needed, or the image of a container as one disk without a copy: the files of the store that are its parts, and the mount of
   * them, for machine monitors and runtimes that mount images themselves. All data is here when it returns, also that of layers that were pulled lazily.
   * The files stay while the store has the image; a container keeps them also from `disk_budget`. `formatVmdk` and `formatDeviceMapperTable` write
   * it for others. @throws the errors of `pull`, USAGE for an image without layers, LAYER_UNSUPPORTED for more than 2 TiB
   */
  async disks(name: string, options: ImageOptions = {}): Promise<ImageDisk> {
    const { activity } = this.#services
    const observed = { activity, operation: 'images.disks', attributes: { image: imageLabel(name) } } as const
    return observeFetch(observed, options, async (own) => describeDisk(this.#services, name, own))
  }

  /** Returns how an image of the store was made, step by step, with the layer of each. @throws IMAGE_NOT_FOUND, DOCUMENT_DAMAGED */
  async history(text: string, options: ImageOptions = {}): Promise<ImageHistory> {
    return readHistory(this.#services, text, options)
  }

  /**
   * Reports the layers of an image of the store: what each adds, replaces, removes and hides of those below it, what later layers hide of it, and its
   * largest files. Nothing is unpacked and nothing is fetched. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND
   */
  async layers(text: string, options: LayersOptions = {}): Promise<ImageLayers> {
    return readLayers(this.#services, text, options)
  }

  /**
   * Compares what two images or containers contain, by names, attributes and content; a container without a second name is compared with its image.
   * Changes that a container makes meanwhile may be missed. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND, ROOTFS_UNMOUNTED, USAGE, LAYER_UNSUPPORTED
   */
  async diff(from: string, to?: string, options: CompareOptions = {}): Promise<TreeDiff> {
    const { activity } = this.#services
    const attributes = { from: imageLabel(from), to: to === undefined ? undefined : imageLabel(to) }
    return activity.observe('images.diff', attributes, async (span) => {
      const diff = await diffTrees(this.#services, [from, to], options)
      span.set({ added: diff.added, removed: diff.removed, changed: diff.changed })
      return diff
    })
  }
}

function countsOf({ images, layers }: PruneResult): Attributes {
  const layerBytes = layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0)
  return { images: images.length, layers: layers.length, layerBytes }
}
