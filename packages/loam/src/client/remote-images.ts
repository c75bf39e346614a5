import type { Digest, ImageRequest } from '../image/index.ts'
import type {
  CopiedImage,
  CopyImageOptions,
  LoadedImage,
  SavedImage,
  SaveImagesOptions,
  CollectionReport,
  CommitOptions,
  CompareOptions,
  ContentsOptions,
  ImageContents,
  ImageDisk,
  ImageHistory,
  ImageInspection,
  ImageLayers,
  ImageOptions,
  Images,
  IndexedImage,
  IndexImageOptions,
  LayersOptions,
  ListedImage,
  MesosImportOptions,
  MesosImportReport,
  NamingOptions,
  PruneImagesOptions,
  PruneReport,
  PulledImage,
  PullImageOptions,
  PushedImage,
  PushEvent,
  PushImageOptions,
  RemoteImage,
  RemoteImageOptions,
  RepositoryTags,
  TreeDiff,
  UntaggedName,
} from '../images/index.ts'
import {
  absolute,
  absoluteImage,
  descriptorOf,
  streamTo,
  sourceOf,
  type RemoteFetchOptions,
  toFetchFields,
  toImageFields,
} from './requests.ts'
import type { ImageAddress } from '../sources/index.ts'
import type { PullEvent } from '../stores/index.ts'
import type { Transport } from './transport.ts'

type Remote<Options extends ImageOptions> = RemoteFetchOptions<Options>

/** Returns a listener that tells blobs that are written and images that are fetched apart. */
function either(
  onPush: ((event: PushEvent) => void) | undefined,
  onPull: ((event: PullEvent) => void) | undefined,
): (event: PushEvent | PullEvent) => void {
  return (event) => {
    if (isPushEvent(event)) onPush?.(event)
    else onPull?.(event)
  }
}

/** Operations on the images of a daemon's store: those of `Images`, with the same results and errors. */
export class RemoteImages implements Pick<Images, keyof Images> {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Pulls an image, as `Images.pull`. */
  async pull(image: string | ImageRequest, options: Remote<PullImageOptions> = {}): Promise<PulledImage> {
    return this.#transport.call(
      'images.pull',
      {
        ...toImageFields(options),
        lazy: options.lazy,
        lazyIndex: options.lazyIndex,
        image: absoluteImage(image),
      },
      options,
    )
  }

  /** Imports an image, as `Images.put`. A stream, standard input and other descriptors of this process are sent to the daemon. */
  async put(
    address: ImageAddress,
    name: string,
    options: Remote<ImageOptions & NamingOptions> = {},
  ): Promise<PulledImage> {
    const { replace } = options
    const fields = toImageFields(options)
    const source = sourceOf(address)
    if (typeof source === 'string')
      return this.#transport.call('images.put', { ...fields, address: source, name, replace }, options)
    const { platform, imageType } = fields
    return this.#transport.upload('images.upload', { name, replace, platform, imageType }, source, options)
  }

  /** Imports the images of a Mesos agent's stores, as `Images.importMesos`. */
  async importMesos(options: MesosImportOptions): Promise<MesosImportReport> {
    const { workDir, replace } = options
    return this.#transport.call('images.importMesos', { workDir: absolute(workDir), replace }, options)
  }

  /** Lists the images in the store. */
  async list(): Promise<ListedImage[]> {
    return [...(await this.#transport.call('images.list', {}))]
  }

  /** Gives an image one more name, as `Images.tag`. */
  async tag(
    image: string,
    name: string,
    options: Remote<ImageOptions & NamingOptions> = {},
  ): Promise<PulledImage> {
    const { replace } = options
    const request = { ...toImageFields(options), image: absoluteImage(image), name, replace }
    return this.#transport.call('images.tag', request, options)
  }

  /** Removes a name of an image, as `Images.untag`. */
  async untag(name: string, { imageType, signal }: Remote<ImageOptions> = {}): Promise<UntaggedName> {
    return this.#transport.call('images.untag', { name: absoluteImage(name), imageType }, { signal })
  }

  /** Removes a name of an image, as `Images.remove`. */
  async remove(text: string, options: Remote<ImageOptions> = {}): Promise<Digest | undefined> {
    const request = { ...toImageFields(options), image: absoluteImage(text) }
    const { removed } = await this.#transport.call('images.remove', request, { signal: options.signal })
    return removed
  }

  /** Removes images, layers and documents that are not in use, as `Images.prune`. */
  async prune(options: PruneImagesOptions = {}): Promise<PruneReport> {
    const { dryRun, all, local, excluded, type } = options
    return this.#transport.call('images.prune', {
      dryRun,
      all,
      local,
      excluded: excluded?.map((image) => absoluteImage(image)),
      type,
    })
  }

  /** Evicts images, as `Images.collect`. */
  async collect({ dryRun }: { readonly dryRun?: boolean } = {}): Promise<CollectionReport> {
    return this.#transport.call('images.collect', { dryRun })
  }

  /** Creates an image from a container, as `Images.commit`. */
  async commit(id: string, name: string, options: Remote<CommitOptions> = {}): Promise<PulledImage> {
    const { base, replace, changes, message, author, createdAtMs } = options
    return this.#transport.call(
      'images.commit',
      {
        ...toImageFields(options),
        id,
        name,
        base: base === undefined ? undefined : absoluteImage(base),
        replace,
        changes,
        message,
        author,
        createdAtMs,
      },
      options,
    )
  }

  /** @internal Creates an image from a snapshot. */
  async commitSnapshot(key: string, name: string, options: Remote<CommitOptions> = {}): Promise<PulledImage> {
    const { base, replace, changes, message, author, createdAtMs } = options
    const request = {
      ...toImageFields(options),
      key,
      name,
      base: base === undefined ? undefined : absoluteImage(base),
      replace,
      changes,
      message,
      author,
      createdAtMs,
    }
    return this.#transport.call('snapshots.commitImage', request, options)
  }

  /** Uploads an image, as `Images.push`. */
  async push(image: string, options: Remote<PushImageOptions> = {}): Promise<PushedImage> {
    const { to, allPlatforms, replaceIndex, index, signal, onEvent, onPush } = options
    const own = { to, allPlatforms, replaceIndex, index }
    const request = { ...toImageFields(options), image: absoluteImage(image), ...own }
    return this.#transport.call('images.push', request, {
      signal,
      onEvent: (event) => {
        if (isPushEvent(event)) onPush?.(event)
        else onEvent?.(event)
      },
    })
  }

  /** Makes the lazy indexes of an image, as `Images.index`. */
  async index(image: string, options: Remote<IndexImageOptions> = {}): Promise<IndexedImage> {
    const { push, output } = options
    const request = {
      ...toImageFields(options),
      image: absoluteImage(image),
      push,
      output: output === undefined ? undefined : absolute(output),
    }
    return this.#transport.call('images.index', request, options)
  }

  /** Finds an image by name or digest. */
  async inspect(text: string, options: Remote<ImageOptions> = {}): Promise<ImageInspection> {
    const request = { ...toImageFields(options), image: absoluteImage(text) }
    return this.#transport.call('images.inspect', request, { signal: options.signal })
  }

  /** Copies an image, as `Images.copy`. The daemon has no standard output for it. */
  async copy(from: string, to: string, options: Remote<CopyImageOptions> = {}): Promise<CopiedImage> {
    const { referrers, force, mode, signal, onCopy, onEvent } = options
    const places = { from: absoluteImage(from), to: absoluteImage(to) }
    const request = { ...toImageFields(options), ...places, referrers, force, mode }
    return this.#transport.call('images.copy', request, { signal, onEvent: either(onCopy, onEvent) })
  }

  /** Writes images to one file, as `Images.save`: `-` is standard output of this process, /dev/fd/N a descriptor of it, without events; everything else a file that the daemon writes. */
  async save(
    images: readonly string[],
    output: string,
    options: Remote<SaveImagesOptions> = {},
  ): Promise<SavedImage[]> {
    const { format, force, mode, signal, onSave, onEvent } = options
    const named = { ...toImageFields(options), images: images.map((image) => absoluteImage(image)), format }
    const descriptor = descriptorOf(output)
    if (descriptor !== undefined) {
      return [
        ...(await this.#transport.downloadTo('images.download', named, () => streamTo(descriptor), signal)),
      ]
    }
    const request = { ...named, output: absolute(output), force, mode }
    const saved = await this.#transport.call('images.save', request, {
      signal,
      onEvent: either(onSave, onEvent),
    })
    return [...saved]
  }

  /** Imports all images of a file, as `Images.load`. A stream, standard input and other descriptors of this process are sent to the daemon. */
  async load(
    address: ImageAddress,
    options: Remote<ImageOptions & NamingOptions> = {},
  ): Promise<LoadedImage[]> {
    const source = sourceOf(address)
    if (typeof source !== 'string') {
      const { platform, imageType } = toImageFields(options)
      const { replace } = options
      return [
        ...(await this.#transport.upload(
          'images.uploadAll',
          { platform, imageType, replace },
          source,
          options,
        )),
      ]
    }
    const request = { ...toImageFields(options), address: source, replace: options.replace }
    return [...(await this.#transport.call('images.load', request, options))]
  }

  /** Lists the tags of a repository, as `Images.tags`. */
  async tags(repository: string, options: Remote<ImageOptions> = {}): Promise<RepositoryTags> {
    const request = { ...toFetchFields(options), repository }
    return this.#transport.call('images.tags', request, { signal: options.signal })
  }

  /** Looks at an image in its registry, as `Images.inspectRemote`. */
  async inspectRemote(image: string, options: Remote<RemoteImageOptions> = {}): Promise<RemoteImage> {
    const { referrers, signal } = options
    const request = { ...toImageFields(options), image: absoluteImage(image), referrers }
    return this.#transport.call('images.inspectRemote', request, { signal })
  }

  /** Lists a directory of an image, as `Images.contents`. */
  async contents(text: string, options: Remote<ContentsOptions> = {}): Promise<ImageContents> {
    const { path, layer, signal } = options
    const request = { ...toImageFields(options), image: absoluteImage(text), path, layer }
    return this.#transport.call('images.contents', request, { signal })
  }

  /** Describes an image or the image of a container as one disk, as `Images.disks`. */
  async disks(name: string, options: Remote<ImageOptions> = {}): Promise<ImageDisk> {
    const request = { ...toImageFields(options), image: absoluteImage(name) }
    return this.#transport.call('images.disks', request, options)
  }

  /** Returns how an image was made, as `Images.history`. */
  async history(text: string, options: Remote<ImageOptions> = {}): Promise<ImageHistory> {
    const request = { ...toImageFields(options), image: absoluteImage(text) }
    return this.#transport.call('images.history', request, { signal: options.signal })
  }

  /** Reports the layers of an image, as `Images.layers`. */
  async layers(text: string, options: Remote<LayersOptions> = {}): Promise<ImageLayers> {
    const { largest, signal } = options
    const request = { ...toImageFields(options), image: absoluteImage(text), largest }
    return this.#transport.call('images.layers', request, { signal })
  }

  /** Compares two images or containers, as `Images.diff`. */
  async diff(from: string, to?: string, options: Remote<CompareOptions> = {}): Promise<TreeDiff> {
    const { times, signal } = options
    const request = {
      ...toImageFields(options),
      from: absoluteImage(from),
      to: to === undefined ? undefined : absoluteImage(to),
      times,
    }
    return this.#transport.call('images.diff', request, { signal })
  }
}

/** Returns whether an event is one of a push, and not of what is fetched for it. */
function isPushEvent(event: PullEvent | PushEvent): event is PushEvent {
  return ['blob', 'blobs', 'sending', 'digest'].includes(event.kind)
}
