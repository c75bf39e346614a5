import type { SnapshotAdoption, SnapshotImportOptions, Snapshots } from '../app/index.ts'
import { isLoamError } from '../errors/index.ts'
import type {
  CommitOptions,
  DiffOptions,
  FetchContentOptions,
  FetchedContent,
  ImageOptions,
  PulledImage,
} from '../images/index.ts'
import type {
  Labels,
  SnapshotCommitOptions,
  SnapshotImportReport,
  SnapshotInfo,
  SnapshotMount,
  Snapshotter,
  SnapshotUsage,
} from '../snapshotter/index.ts'
import {
  absolute,
  absoluteImage,
  descriptorOf,
  streamTo,
  type RemoteFetchOptions,
  toFetchFields,
  toImageFields,
} from './requests.ts'
import type { Transport } from './transport.ts'

/** The snapshots of a daemon's store: the operations of `Snapshots`, with the same results and errors. */
export class RemoteSnapshots implements Omit<Pick<Snapshots, keyof Snapshots>, 'open'> {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Opens the snapshots. The daemon fetches no layers that labels name: containerd's own socket does that. */
  open(): RemoteSnapshotter {
    return new RemoteSnapshotter(this.#transport)
  }

  /** Returns whether a snapshot with this key or name exists. */
  async has(key: string): Promise<boolean> {
    try {
      await this.#transport.call('snapshots.stat', { key })
      return true
    } catch (error) {
      if (isLoamError(error, 'SNAPSHOT_NOT_FOUND')) return false
      throw error
    }
  }

  /** Writes the changes of a snapshot, as `Snapshots.diff`: `-` is standard output of this process, /dev/fd/N a descriptor of it, everything else a file that the daemon writes. */
  async diff(key: string, output: string, options: DiffOptions = {}): Promise<void> {
    const { mode, signal } = options
    const descriptor = descriptorOf(output)
    if (descriptor === undefined) {
      await this.#transport.call('snapshots.diff', { key, output: absolute(output), mode }, options)
      return
    }
    await this.#transport.downloadTo('snapshots.download', { key }, () => streamTo(descriptor), signal)
  }

  /** Creates an image from a snapshot, as `Snapshots.commit`. */
  async commit(
    key: string,
    name: string,
    options: RemoteFetchOptions<CommitOptions> = {},
  ): Promise<PulledImage> {
    const { base, replace } = options
    const request = {
      ...toImageFields(options),
      key,
      name,
      base: base === undefined ? undefined : absoluteImage(base),
      replace,
    }
    return this.#transport.call('snapshots.commitImage', request, options)
  }

  /** Turns the unpacked snapshots of an image into layers, as `Snapshots.adopt`. */
  async adopt(image: string, options: RemoteFetchOptions<ImageOptions> = {}): Promise<SnapshotAdoption> {
    const request = { ...toImageFields(options), image: absoluteImage(image) }
    return this.#transport.call('snapshots.adopt', request, options)
  }

  /** Brings the missing blobs of an image into the content store of containerd, as `Snapshots.fetchContent`. */
  async fetchContent(
    image: string,
    options: RemoteFetchOptions<FetchContentOptions> = {},
  ): Promise<FetchedContent[]> {
    const { namespace } = options
    return [
      ...(await this.#transport.call(
        'snapshots.fetchContent',
        { ...toFetchFields(options), image, namespace },
        options,
      )),
    ]
  }

  /** Copies the snapshots of another snapshotter, as `Snapshots.import`. */
  async import(directory: string, { signal }: SnapshotImportOptions = {}): Promise<SnapshotImportReport> {
    return this.#transport.call('snapshots.import', { directory: absolute(directory) }, { signal })
  }
}

/** containerd's contract of a snapshotter over a daemon's store. */
export class RemoteSnapshotter
  implements
    Omit<
      Pick<Snapshotter, keyof Snapshotter>,
      'walk' | 'restoreMounts' | 'close' | 'adopt' | 'adoptLayers' | 'apply' | 'findChange'
    >
{
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Returns the information about a snapshot. */
  async stat(key: string): Promise<SnapshotInfo> {
    return this.#transport.call('snapshots.stat', { key })
  }

  /** Changes labels, as `Snapshotter.update`. */
  async update(name: string, labels: Labels, fieldPaths: readonly string[] = []): Promise<SnapshotInfo> {
    return this.#transport.call('snapshots.update', { name, labels: { ...labels }, fieldPaths })
  }

  /** Returns the disk usage of a snapshot without its parents. */
  async usage(key: string): Promise<SnapshotUsage> {
    return this.#transport.call('snapshots.usage', { key })
  }

  /** Returns the mounts of an active snapshot or a view. */
  async mounts(key: string): Promise<SnapshotMount[]> {
    return [...(await this.#transport.call('snapshots.mounts', { key }))]
  }

  /** Creates an active snapshot. */
  async prepare(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    const mounts = await this.#transport.call('snapshots.prepare', { key, parent, labels: { ...labels } })
    return [...mounts]
  }

  /** Creates a read-only snapshot. */
  async view(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    return [...(await this.#transport.call('snapshots.view', { key, parent, labels: { ...labels } }))]
  }

  /** Turns an active snapshot into a committed one. */
  async commit({ name, key, labels = {}, rebase }: SnapshotCommitOptions): Promise<void> {
    await this.#transport.call('snapshots.commit', { name, key, labels: { ...labels }, rebase })
  }

  /** Removes a snapshot without children. */
  async remove(key: string): Promise<void> {
    await this.#transport.call('snapshots.remove', { key })
  }

  /** Yields the information about all snapshots that match one of the filters. */
  async *list(filters: readonly string[] = []): AsyncGenerator<SnapshotInfo, void> {
    yield* await this.#transport.call('snapshots.list', { filters })
  }

  /** Waits until the files of removed snapshots are removed. */
  async cleanup(): Promise<void> {
    await this.#transport.call('snapshots.cleanup', {})
  }
}
